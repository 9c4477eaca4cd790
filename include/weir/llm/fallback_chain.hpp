// SPDX-License-Identifier: MIT
//
// fallback_chain: models in the order of preference, each with its own accounts and quotas. A call goes down the chain
// when waiting at the top would take longer than the caller accepts, or when a model is on cooldown; it comes back up
// as soon as the top can serve.
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
#include "limit_kind.hpp"
#include "quota.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

struct fallback_options {
    /// Overloads in a row that put a model on cooldown.
    std::uint32_t max_overloads = 3;
    /// Of a model whose verdict gives no time.
    std::chrono::nanoseconds min_cooldown = std::chrono::seconds{10};
    /// The delay doubles up to this, and resets when the model answers.
    std::chrono::nanoseconds max_cooldown = std::chrono::minutes{10};
};

/// What a call accepts.
template <class Duration>
struct fallback_terms {
    /// How long it waits for a better link rather than take a lesser one.
    Duration patience{0};
    /// The highest price of an account, as given to account_pool::add.
    std::uint64_t max_price = (std::numeric_limits<std::uint64_t>::max)();
    /// "Better" is cheaper: accounts in the order of their price, whatever their link, not in the order of the chain.
    bool cheapest_first = false;
};

/// Links refer to pools, which must outlive the chain. Links are added before the chain is shared; there is no bound on
/// their number.
///
///     weir::llm::fallback_chain chain;
///     chain.add("qwen3-max", max_pool);
///     chain.add("qwen-plus", plus_pool);
///     auto c = chain.try_acquire({.input = input, .output = max_tokens}, now, 2s);
///     if (c) { auto r = send(chain.model(*c), …); chain.settle(c, r.usage, now); }
///     else sleep until c.retry_at();
///
/// **Which link.** The first that grants now. A link that could serve within `patience` keeps the call waiting: nothing
/// is granted, and retry_at is that link's. A model on cooldown keeps no call waiting. Where no link can serve,
/// retry_at is the earliest of all.
/// **Price.** Accounts that cost more than max_price are ignored; where none is left, retry_at is time_point::max(). In
/// a link, its pool takes the cheapest account that grants. Among links, price counts with cheapest_first.
template <class Pool = account_pool<>>
class fallback_chain {
public:
    using time_point = typename Pool::time_point;
    using duration = typename Pool::duration;
    using pool_type = Pool;
    using terms = fallback_terms<duration>;
    [[gnu::__visibility__("hidden")]] static constexpr std::size_t none = (std::numeric_limits<std::size_t>::max)();

    class choice;

    explicit fallback_chain(fallback_options o = {}) : options_{o} {}
    fallback_chain(fallback_chain const&) = delete;
    fallback_chain& operator=(fallback_chain const&) = delete;
    ~fallback_chain();

    /// Adds the next link down and returns its number.
    std::size_t add(std::string model, Pool& pool);

    [[nodiscard("the choice says which model and account to use, or when to try again")]] choice try_acquire(
        tokens n, time_point t, duration patience) {
        return try_acquire(n, t, terms{.patience = patience});
    }
    [[nodiscard("the choice says which model and account to use, or when to try again")]] choice try_acquire(
        tokens n, time_point t, terms const& accepts);
    /// The same where models count differently, need(link) tokens, and with a condition in addition to the limits: as
    /// account_pool's, with the link's number before the member's.
    template <class Need, class Condition>
        requires std::is_invocable_r_v<tokens, Need&, std::size_t>
    [[nodiscard("the choice says which model and account to use, or when to try again")]] choice try_acquire(
        Need&& need, time_point t, terms const& accepts, Condition&& condition);

    bool settle(choice& c, tokens used, time_point now) noexcept {
        return c && links_[*c].pool->settle(c.choice_, used, now);
    }
    auto refund(choice& c) noexcept {
        using refunded = decltype(links_[*c].pool->refund(c.choice_));
        return c ? links_[*c].pool->refund(c.choice_) : refunded{};
    }

    /// What became of a call. An answer resets the model's cooldown delay. A verdict that asks for another model, or
    /// max_overloads in a row, puts the model on cooldown: until the time in the verdict, else for a delay that
    /// doubles. An endpoint that is not reached counts as overload. A chain of one link has no other model to turn to,
    /// so overload puts nothing on cooldown: each call's own backoff keeps away. The pool judges the rest.
    void report(choice const& c, verdict const& v, time_point t, std::chrono::sys_seconds now = {}) noexcept;

    /// The end of a link's cooldown; a time not after now when it has none.
    time_point cooldown_until(std::size_t i) const noexcept { return links_[i].cooldown.until(); }
    std::size_t size() const noexcept { return links_.size(); }
    std::string_view model(std::size_t i) const noexcept { return links_[i].model; }
    Pool& pool(std::size_t i) noexcept { return *links_[i].pool; }

private:
    struct no_link_condition {
        static constexpr time_point ready(std::size_t, std::size_t, time_point t) noexcept { return t; }
        static constexpr bool take(std::size_t, std::size_t, time_point) noexcept { return true; }
        static constexpr limit_kind denied_by() noexcept { return limit_kind::none; }
    };
    struct price_range {
        std::uint64_t min_price;
        std::uint64_t max_price;
    };
    template <class Condition>
    struct link_condition;

    template <class Need, class Condition>
    bool ask(choice& c, std::size_t i, Need& need, time_point t, duration patience, price_range among,
             Condition& condition);
    std::optional<std::uint64_t> lowest_price(std::uint64_t from) const noexcept;

    struct link {
        link(std::string m, Pool& p) : model{std::move(m)}, pool{&p} {}
        link(link const&) = delete;
        link& operator=(link const&) = delete;
        ~link() = default;

        std::string model;
        Pool* pool;
        llm::cooldown<time_point, typename Pool::atomics> cooldown{};
        typename Pool::atomics::template atomic<std::uint32_t> overloads{0};
    };

    fallback_options options_;
    std::deque<link> links_{};
};

/// Which link was chosen, and what its pool chose.
template <class Pool>
class fallback_chain<Pool>::choice {
public:
    bool granted() const noexcept { return link_ != none; }
    explicit operator bool() const noexcept { return granted(); }
    /// The number of the link; `none` when denied.
    std::size_t operator*() const noexcept { return link_; }
    typename Pool::choice& member() noexcept { return choice_; }
    typename Pool::choice const& member() const noexcept { return choice_; }
    /// No link can ever serve it.
    bool never() const noexcept { return !granted() && retry_at_ == (time_point::max)(); }
    time_point retry_at() const noexcept { return retry_at_; }
    /// The link that is worth waiting for; `none` when granted, or when none ever can.
    std::size_t waits_for() const noexcept { return waits_for_; }
    /// What denied it at that link; none when granted.
    limit_kind denied_by() const noexcept { return denied_by_; }

private:
    friend fallback_chain;
    std::size_t link_ = none;
    std::size_t waits_for_ = none;
    time_point retry_at_ = (time_point::max)();
    limit_kind denied_by_ = limit_kind::none;
    typename Pool::choice choice_{};
};

// What a pool's condition asks of one link.
template <class Pool>
template <class Condition>
struct fallback_chain<Pool>::link_condition {
    Condition& condition;
    Pool const& pool;
    std::size_t link;
    price_range among;
    limit_kind by = limit_kind::none;

    bool admits(std::size_t member) noexcept {
        std::uint64_t const price = pool.price(member);
        by = limit_kind::price;
        return price >= among.min_price && price <= among.max_price;
    }
    time_point ready(std::size_t member, time_point t) {
        time_point const at = condition.ready(link, member, t);
        by = condition.denied_by();
        return at;
    }
    bool take(std::size_t member, time_point t) {
        bool const taken = condition.take(link, member, t);
        by = condition.denied_by();
        return taken;
    }
    limit_kind denied_by() const noexcept { return by; }
};

// Members are defined out of the class, so that `extern template` keeps them out of a program's other files.

template <class Pool>
fallback_chain<Pool>::~fallback_chain() = default;

template <class Pool>
std::size_t fallback_chain<Pool>::add(std::string model, Pool& pool) {
    links_.emplace_back(std::move(model), pool);
    return links_.size() - 1;
}

template <class Pool>
auto fallback_chain<Pool>::try_acquire(tokens n, time_point t, terms const& accepts) -> choice {
    return try_acquire([n](std::size_t) { return n; }, t, accepts, no_link_condition{});
}

template <class Pool>
template <class Need, class Condition>
    requires std::is_invocable_r_v<tokens, Need&, std::size_t>
auto fallback_chain<Pool>::try_acquire(Need&& need, time_point t, terms const& accepts, Condition&& condition)
    -> choice {
    choice c;
    if (!accepts.cheapest_first) {
        for (std::size_t i = 0; i < links_.size(); ++i) {
            if (ask(c, i, need, t, accepts.patience, {0, accepts.max_price}, condition)) return c;
        }
        return c;
    }
    for (auto price = lowest_price(0); price && *price <= accepts.max_price;
         price = *price == accepts.max_price ? std::nullopt : lowest_price(*price + 1)) {
        for (std::size_t i = 0; i < links_.size(); ++i) {
            if (links_[i].pool->lowest_price(*price) == price &&
                ask(c, i, need, t, accepts.patience, {*price, *price}, condition))
                return c;
        }
    }
    if (c.denied_by_ == limit_kind::none) c.denied_by_ = limit_kind::price;
    return c;
}

// One link's accounts at these prices. True when it granted, or is worth waiting for.
template <class Pool>
template <class Need, class Condition>
bool fallback_chain<Pool>::ask(choice& c, std::size_t i, Need& need, time_point t, duration patience, price_range among,
                               Condition& condition) {
    link& l = links_[i];
    time_point at = l.cooldown.until();
    limit_kind by = limit_kind::model_cooldown;
    bool const cooling = at > t;
    // When the cooldown ends, an account over budget still cannot serve this call.
    if (auto const lowest = l.pool->lowest_price(among.min_price); cooling && lowest && *lowest > among.max_price) {
        at = (time_point::max)();
        by = limit_kind::price;
    }
    if (!cooling) {
        auto chosen = l.pool->try_acquire(
            need(i), t, {}, link_condition<std::remove_reference_t<Condition>>{condition, *l.pool, i, among});
        if (chosen.granted()) {
            c.link_ = i;
            c.waits_for_ = none;
            c.retry_at_ = t;
            c.denied_by_ = limit_kind::none;
            c.choice_ = std::move(chosen);
            return true;
        }
        at = chosen.retry_at();
        by = chosen.denied_by();
    }
    bool const soon = !cooling && at != (time_point::max)() &&
                      weir::detail::saturating_sub(weir::detail::ticks(at), weir::detail::ticks(t)) <=
                          static_cast<std::int64_t>(patience.count());
    if (at < c.retry_at_ || soon || c.denied_by_ == limit_kind::none) {
        c.retry_at_ = at;
        c.waits_for_ = at == (time_point::max)() ? none : i;
        c.denied_by_ = by;
    }
    return soon;
}

template <class Pool>
void fallback_chain<Pool>::report(choice const& c, verdict const& v, time_point t,
                                  std::chrono::sys_seconds now) noexcept {
    if (!c) return;
    link& l = links_[*c];
    bool const down = links_.size() > 1 && (v.cause == cause::overload || v.cause == cause::transport);
    if (v.action == action::next_model || down) {
        // Relaxed: a count. Each overload above the maximum begins a cooldown again.
        if (v.action != action::next_model &&
            l.overloads.fetch_add(1, std::memory_order_relaxed) + 1 < options_.max_overloads)
            return;
        if (v.cause == cause::free_quota && l.pool->size() > 1) {
            l.pool->report(c.choice_, v, t, now);  // the other accounts may have their free quota
            return;
        }
        if (v.cause == cause::token_rate) return;  // this request is too large for it; others are not
        l.cooldown.begin(v, t, now, options_.min_cooldown, options_.max_cooldown);
        return;
    }
    if (v.action == action::proceed) {
        if (l.overloads.load(std::memory_order_relaxed) != 0) l.overloads.exchange(0, std::memory_order_relaxed);
        l.cooldown.answered();
    }
    l.pool->report(c.choice_, v, t, now);
}

template <class Pool>
std::optional<std::uint64_t> fallback_chain<Pool>::lowest_price(std::uint64_t from) const noexcept {
    std::optional<std::uint64_t> lowest;
    for (auto const& l : links_) {
        auto const p = l.pool->lowest_price(from);
        if (p && (!lowest || *p < *lowest)) lowest = p;
    }
    return lowest;
}

}  // namespace weir::inline v0::llm
