// SPDX-License-Identifier: MIT
//
// fallback_chain: models in the order of preference, each with its own accounts and quotas. A call goes down the chain when waiting at the top
// would take longer than the caller bears, or when a model is out; it comes back up as soon as the top can serve.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "../clock/clock.hpp"
#include "account_pool.hpp"
#include "detail/cooldown.hpp"
#include "quota.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

struct fallback_options {
    /// Answers of overload in a row after which a model is out.
    std::uint32_t patience_with_overload = 3;
    std::chrono::nanoseconds first_absence =
        std::chrono::seconds{10};  ///< of a model that is out and did not say until when
    std::chrono::nanoseconds longest_absence = std::chrono::minutes{10};
};

/// What a call is ready to bear.
template <class Duration>
struct fallback_terms {
    Duration patience{0};  ///< to wait for a better link rather than take a lesser one
    std::uint64_t price_at_most =
        (std::numeric_limits<std::uint64_t>::max)();  ///< of an account, as given to account_pool::add
    bool cheapest_first =
        false;  ///< accounts in the order of their price, whatever their link, not in the order of the chain: "better" is then cheaper
};

/// Links refer to pools, which must outlive the chain, and are added before it is shared.
///
///     weir::llm::fallback_chain chain;
///     chain.add("qwen3-max", max_pool);
///     chain.add("qwen-plus", plus_pool);
///     if (auto c = chain.try_acquire({input, bound}, now, 2s)) { auto r = send(chain.model(*c), …); chain.settle(c, r.usage, now); }
///     else if (c.retry_at() …) wait and ask again
///
/// **Which link.** The first that grants now. A link that could serve within `patience` keeps the call waiting rather than let it fall: then nothing is granted
/// and retry_at is that link's; one whose model is out keeps nobody. Where no link can, retry_at is the earliest of all.
/// **Price.** Accounts that cost more than the call's terms allow are passed over; where none is left, retry_at is time_point::max(). Inside a link its pool takes the cheapest
/// that grants; among links price counts where the terms say so.
template <class Pool = account_pool<>>
class fallback_chain {
public:
    using time_point = typename Pool::time_point;
    using duration = typename Pool::duration;
    using pool_type = Pool;
    using terms = fallback_terms<duration>;
    static constexpr std::size_t none = (std::numeric_limits<std::size_t>::max)();

    class choice {
    public:
        bool granted() const noexcept { return link_ != none; }
        explicit operator bool() const noexcept { return granted(); }
        /// The number of the link; `none` where no one granted.
        std::size_t operator*() const noexcept { return link_; }
        /// What the link's pool chose.
        typename Pool::choice& member() noexcept { return choice_; }
        typename Pool::choice const& member() const noexcept { return choice_; }
        time_point retry_at() const noexcept { return retry_at_; }
        /// The link that is worth waiting for; `none` when granted, or where none ever can.
        std::size_t waits_for() const noexcept { return waits_for_; }
        /// What keeps that link waiting; empty when granted. Static text.
        std::string_view denied_by() const noexcept { return denied_by_; }

    private:
        friend fallback_chain;
        std::size_t link_ = none;
        std::size_t waits_for_ = none;
        time_point retry_at_ = (time_point::max)();
        std::string_view denied_by_{};
        typename Pool::choice choice_{};
    };

    explicit fallback_chain(fallback_options o = {}) : options_{o} {}
    fallback_chain(fallback_chain const&) = delete;
    fallback_chain& operator=(fallback_chain const&) = delete;

    /// The next link down. Returns its number.
    std::size_t add(std::string model, Pool& pool) {
        links_.emplace_back(std::move(model), pool);
        return links_.size() - 1;
    }

    choice try_acquire(tokens n, time_point t, duration patience) {
        return try_acquire(n, t, terms{.patience = patience});
    }
    choice try_acquire(tokens n, time_point t, terms const& bears) {
        return try_acquire([n](std::size_t) { return n; }, t, bears, nothing_beside_links{});
    }
    /// The same where models count differently, need(link) tokens, and with more to pass than limits: beside as account_pool's, with the link's number before
    /// the member's.
    template <class Need, class Beside>
        requires std::is_invocable_r_v<tokens, Need&, std::size_t>
    choice try_acquire(Need&& need, time_point t, terms const& bears, Beside&& beside) {
        choice c;
        if (!bears.cheapest_first) {
            for (std::size_t i = 0; i < links_.size(); ++i) {
                if (ask(c, i, need, t, bears.patience, {0, bears.price_at_most}, beside)) return c;
            }
            return c;
        }
        for (auto price = lowest_price(0); price && *price <= bears.price_at_most;
             price = *price == bears.price_at_most ? std::nullopt : lowest_price(*price + 1)) {
            for (std::size_t i = 0; i < links_.size(); ++i) {
                if (links_[i].pool->lowest_price(*price) == price &&
                    ask(c, i, need, t, bears.patience, {*price, *price}, beside))
                    return c;
            }
        }
        if (c.denied_by_.empty()) c.denied_by_ = over_budget;
        return c;
    }

    bool settle(choice& c, tokens used, time_point now) noexcept {
        return c && links_[*c].pool->settle(c.choice_, used, now);
    }
    bool refund(choice& c) noexcept { return c && links_[*c].pool->refund(c.choice_); }

    /// What became of a call. An answer ends the model's absences; a verdict that asks for another model, or overload too often in a row, takes the model
    /// out: until the time that is said, else for one that doubles. An endpoint that is not reached counts as overload. Where there is one link only, overload
    /// takes nothing out: there is nothing to turn to, and each call's own backoff keeps away. The rest is the pool's to judge.
    void report(choice const& c, verdict const& v, time_point t, std::chrono::sys_seconds now = {}) noexcept {
        if (!c) return;
        link& l = links_[*c];
        bool const down = links_.size() > 1 && (v.cause == cause::overload || v.cause == cause::transport);
        if (v.action == action::next_model || down) {
            // Relaxed: a count. Each that is too many takes the model out anew.
            if (v.action != action::next_model &&
                l.overloads.fetch_add(1, std::memory_order_relaxed) + 1 < options_.patience_with_overload)
                return;
            if (v.cause == cause::free_quota && l.pool->size() > 1) {
                l.pool->report(c.choice_, v, t, now);  // the other accounts may have theirs
                return;
            }
            if (v.cause == cause::token_rate) return;  // this request is too large for it, others are not
            l.out.begin(v, t, now, options_.first_absence, options_.longest_absence);
            return;
        }
        if (v.action == action::proceed) {
            if (l.overloads.load(std::memory_order_relaxed) != 0) l.overloads.exchange(0, std::memory_order_relaxed);
            l.out.answered();
        }
        l.pool->report(c.choice_, v, t, now);
    }

    /// Until when a link is out; a time not after now where it is not.
    time_point back_at(std::size_t i) const noexcept { return links_[i].out.back_at(); }
    std::size_t size() const noexcept { return links_.size(); }
    std::string_view model(std::size_t i) const noexcept { return links_[i].model; }
    Pool& pool(std::size_t i) noexcept { return *links_[i].pool; }

private:
    struct nothing_beside_links {
        static constexpr time_point ready(std::size_t, std::size_t, time_point t) noexcept { return t; }
        static constexpr bool take(std::size_t, std::size_t, time_point) noexcept { return true; }
        static constexpr std::string_view denied_by() noexcept { return {}; }
    };
    static constexpr std::string_view over_budget = "price";
    struct prices {
        std::uint64_t least;
        std::uint64_t most;
    };
    template <class Beside>
    struct of_link {
        std::remove_reference_t<Beside>& beside;
        Pool const& pool;
        std::size_t link;
        prices among;
        std::string_view by{};
        bool admits(std::size_t member) noexcept {
            std::uint64_t const price = pool.price(member);
            by = over_budget;
            return price >= among.least && price <= among.most;
        }
        time_point ready(std::size_t member, time_point t) {
            time_point const when = beside.ready(link, member, t);
            by = beside.denied_by();
            return when;
        }
        bool take(std::size_t member, time_point t) {
            bool const taken = beside.take(link, member, t);
            by = beside.denied_by();
            return taken;
        }
        std::string_view denied_by() const noexcept { return by; }
    };

    // One link's accounts at these prices: true where that settles it, granted or worth waiting for.
    template <class Need, class Beside>
    bool ask(choice& c, std::size_t i, Need& need, time_point t, duration patience, prices among, Beside& beside) {
        link& l = links_[i];
        time_point when = back_at(i);
        std::string_view by = "model set aside";
        bool const out = when > t;
        // One that is out and too dear is too dear: it serves this call no more when it is back.
        if (auto const least = l.pool->lowest_price(among.least); out && least && *least > among.most) {
            when = (time_point::max)();
            by = over_budget;
        }
        if (!out) {
            auto chosen = l.pool->try_acquire(need(i), t, 0, of_link<Beside>{beside, *l.pool, i, among});
            if (chosen.granted()) {
                c.link_ = i;
                c.waits_for_ = none;
                c.retry_at_ = t;
                c.denied_by_ = {};
                c.choice_ = std::move(chosen);
                return true;
            }
            when = chosen.retry_at();
            by = chosen.denied_by();
        }
        bool const soon = !out && when != (time_point::max)() &&
                          weir::detail::saturating_sub(weir::detail::ticks(when), weir::detail::ticks(t)) <=
                              static_cast<std::int64_t>(patience.count());
        if (when < c.retry_at_ || soon || c.denied_by_.empty()) {
            c.retry_at_ = when;
            c.waits_for_ = when == (time_point::max)() ? none : i;
            c.denied_by_ = by;
        }
        return soon;
    }
    std::optional<std::uint64_t> lowest_price(std::uint64_t from) const noexcept {
        std::optional<std::uint64_t> least;
        for (auto const& l : links_) {
            auto const p = l.pool->lowest_price(from);
            if (p && (!least || *p < *least)) least = p;
        }
        return least;
    }

    struct link {
        link(std::string m, Pool& p) : model{std::move(m)}, pool{&p} {}

        std::string model;
        Pool* pool;
        cooldown<time_point, typename Pool::atomics> out{};
        typename Pool::atomics::template atomic<std::uint32_t> overloads{0};
    };

    fallback_options options_;
    std::deque<link> links_{};
};

}  // namespace weir::inline v0::llm
