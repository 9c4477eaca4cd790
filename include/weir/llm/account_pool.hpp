// SPDX-License-Identifier: MIT
//
// account_pool: several accounts as one. A vendor limits an account and a model, not a key: keys of one account share its limiter,
// and only another account, another region or a proxy adds capacity. N members with a quota each: N times the quota.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "detail/cooldown.hpp"
#include "quota.hpp"
#include "quota_limiter.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

/// What a quota belongs to. A proxy is an endpoint of its own.
struct account_id {
    std::string endpoint{};
    std::string account{};
    std::string region{};
    std::string model{};

    friend bool operator==(account_id const&, account_id const&) = default;
};

struct account_pool_options {
    std::chrono::nanoseconds first_absence =
        std::chrono::minutes{1};  ///< of a member that was refused and did not say until when
    std::chrono::nanoseconds longest_absence =
        std::chrono::hours{1};  ///< it doubles up to this, until the member answers again
};

/// Whatever else a call through a member has to pass, asked along with the member's limits: when it may pass at the earliest, and the passing, which
/// a race may deny. Only of who is not set aside; with an admits(member), only of whom that admits: others are as if they were not there. This one lets all pass.
struct nothing_beside {
    template <class TimePoint>
    static constexpr TimePoint ready(std::size_t /*member*/, TimePoint t) noexcept {
        return t;
    }
    template <class TimePoint>
    static constexpr bool take(std::size_t /*member*/, TimePoint /*t*/) noexcept {
        return true;
    }
    /// What denied last, in words.
    static constexpr std::string_view denied_by() noexcept { return {}; }
};

/// Members are added before the pool is shared; after that every verb may be called by any thread. Attempts are lock-free where the
/// limiters are.
///
///     weir::llm::account_pool pool;
///     pool.add({"https://dashscope-intl.aliyuncs.com", "alice", "intl", "qwen3-max"}, "sk-1", {.rpm = 600, .rps = 10, .tpm = 1'000'000});
///     pool.add({…, "bob", …}, "sk-2", …);
///     if (auto c = pool.try_acquire({input, max_tokens})) { auto r = send(pool.id(*c), pool.key(*c)); … pool.settle(c, r.usage); }
///     else wait_until(c.retry_at());
///
/// **Which member.** Of those that are not set aside the cheapest that grants; among equals they take turns, so that load is spread. If none
/// grants, retry_at is the earliest of theirs: the one that can serve soonest. A member is set aside by `report`, for good news ends it.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class account_pool {
    using limiter = quota_limiter<Clock, Atomics>;

public:
    using time_point = typename limiter::time_point;
    using duration = typename limiter::duration;
    using clock_parameter = Clock;
    using limiter_type = limiter;
    using atomics = Atomics;
    static constexpr std::size_t none = (std::numeric_limits<std::size_t>::max)();

    /// Which member was chosen, and its limiter's decision, to be settled or refunded.
    class choice {
    public:
        bool granted() const noexcept { return member_ != none; }
        explicit operator bool() const noexcept { return granted(); }
        /// The number of the member; `none` where no one granted.
        std::size_t operator*() const noexcept { return member_; }
        /// The earliest moment at which some member could serve it, if nobody takes; of one that is set aside, when it is back. The time of
        /// the attempt when granted; time_point::max() where none ever can.
        time_point retry_at() const noexcept { return retry_at_; }
        /// The member's limiter's own decision; there is one when granted.
        typename limiter::decision const& decision() const noexcept { return *decision_; }
        /// What keeps the member waiting that retry_at speaks of; empty when granted. Static text.
        std::string_view denied_by() const noexcept { return denied_by_; }

    private:
        friend account_pool;
        void later(time_point t, std::string_view by) noexcept {
            if (t > retry_at_ || (t == retry_at_ && !denied_by_.empty())) return;
            retry_at_ = t;
            denied_by_ = by;
        }
        std::size_t member_ = none;
        std::uint32_t key_ = 0;
        time_point retry_at_ = (time_point::max)();
        std::string_view denied_by_{};
        std::optional<typename limiter::decision> decision_{};
    };

    explicit account_pool(account_pool_options o = {}) : options_{o} {}
    account_pool(account_pool const&) = delete;
    account_pool& operator=(account_pool const&) = delete;

    /// Adds a key. One of an account that is there already joins it, and its quota is not counted twice: the number of the member comes back,
    /// and `q`, `o` and `price` are passed over. `price` is any measure of cost, the same for all. Errors of quota_limiter's constructor.
    std::size_t add(account_id id, std::string key, quota q, quota_options o = {}, std::uint64_t price = 0,
                    Clock c = Clock{})
        requires(!std::is_reference_v<Clock>)
    {
        return add_with(std::move(id), std::move(key), q, o, price, std::move(c));
    }
    std::size_t add(account_id id, std::string key, quota q, quota_options o, std::uint64_t price, Clock c)
        requires std::is_reference_v<Clock>
    {
        return add_with(std::move(id), std::move(key), q, o, price, c);
    }

    /// A call of one request and so many tokens, through any member but those in `except` (a bit each of the first 64), that passes what is beside
    /// its limits. All or nothing: where a race takes from under it what it saw, what it took is given back whole, and the next member is asked.
    template <class Beside = nothing_beside>
    choice try_acquire(tokens n, time_point t, std::uint64_t except = 0, Beside&& beside = {}) {
        choice c;
        for (auto& [price, g] : groups_) {
            std::size_t const count = g.members.size();
            // Relaxed: whose turn it is, no more.
            std::size_t const turn = count == 1 ? 0 : g.turn.fetch_add(1, std::memory_order_relaxed);
            for (std::size_t k = 0; k < count; ++k) {
                std::size_t const i = g.members[(turn + k) % count];
                member& m = members_[i];
                if (i < 64 && (except >> i & 1U) != 0) continue;
                if constexpr (requires { beside.admits(i); }) {
                    if (!beside.admits(i)) {
                        c.later((time_point::max)(), beside.denied_by());
                        continue;
                    }
                }
                time_point const back = m.out.back_at();
                if (back > t) {
                    c.later(back, "set aside");
                    continue;
                }
                time_point const ready = beside.ready(i, t);
                if (ready > t) {
                    c.later(ready, beside.denied_by());
                    continue;
                }
                auto d = m.limits.try_acquire(n, t);
                if (!d.granted()) {
                    c.later(d.retry_at(), to_string(d.denied_by()));
                    continue;
                }
                if (!beside.take(i, t)) {
                    m.limits.refund(d);
                    c.later(t, beside.denied_by());
                    continue;
                }
                if (k != 0) g.turn.fetch_add(k, std::memory_order_relaxed);  // who was passed over has had its turn
                c.member_ = i;
                c.key_ = m.key.load(std::memory_order_relaxed);
                c.retry_at_ = t;
                c.denied_by_ = {};
                c.decision_.emplace(std::move(d));
                return c;
            }
            if (count > 1) g.turn.fetch_sub(1, std::memory_order_relaxed);  // where nobody served nobody has had a turn
        }
        return c;
    }

    bool settle(choice& c, tokens used, time_point now) noexcept {
        return c.decision_ && members_[c.member_].limits.settle(*c.decision_, used, now);
    }
    bool refund(choice& c) noexcept { return c.decision_ && members_[c.member_].limits.refund(*c.decision_); }

    /// What became of a call through a member. An answer ends its absences. A verdict that asks for another account sets the member aside: until its
    /// reset where that is known (`now` is the verdict's clock at `t`), else for a time that doubles. A key that is not valid gives way to the
    /// account's next one first, once for all calls that it failed. Others change nothing.
    void report(choice const& c, verdict const& v, time_point t, std::chrono::sys_seconds now = {}) noexcept {
        if (c) report(c.member_, c.key_, v, t, now);
    }
    /// The same of a call with the key that is in use.
    void report(std::size_t i, verdict const& v, time_point t, std::chrono::sys_seconds now = {}) noexcept {
        if (i < members_.size()) report(i, members_[i].key.load(std::memory_order_relaxed), v, t, now);
    }

    /// Sets a member aside until `until` at least, as when a server asks everybody to wait.
    void set_aside(std::size_t i, time_point until) noexcept { members_[i].out.until(until); }
    /// Until when a member is set aside; a time not after now where it is not.
    time_point back_at(std::size_t i) const noexcept { return members_[i].out.back_at(); }
    /// Ends an absence, as when a person has paid the bill.
    void restore(std::size_t i) noexcept { members_[i].out.end(); }

    std::size_t size() const noexcept { return members_.size(); }
    account_id const& id(std::size_t i) const noexcept { return members_[i].id; }
    /// The key that a call was granted with.
    std::string_view key(choice const& c) const noexcept { return members_[c.member_].keys[c.key_]; }
    /// How many keys a member has.
    std::size_t keys(std::size_t i) const noexcept { return members_[i].keys.size(); }
    /// The key of a member that is in use.
    std::string_view key(std::size_t i) const noexcept {
        return members_[i].keys[members_[i].key.load(std::memory_order_relaxed)];
    }
    std::uint64_t price(std::size_t i) const noexcept { return members_[i].price; }
    /// The lowest of those that are not below `from`. O(log prices).
    std::optional<std::uint64_t> lowest_price(std::uint64_t from = 0) const noexcept {
        auto const g = groups_.lower_bound(from);
        if (g == groups_.end()) return std::nullopt;
        return g->first;
    }
    limiter& limits(std::size_t i) noexcept { return members_[i].limits; }
    /// The member of a key; `none` where there is none.
    std::size_t member_of(std::string_view key) const noexcept {
        for (std::size_t i = 0; i < members_.size(); ++i) {
            if (std::find(members_[i].keys.begin(), members_[i].keys.end(), key) != members_[i].keys.end()) return i;
        }
        return none;
    }

    /// min(RPM, RPS×60) of all members that are not set aside at t, summed; absent where one of them is not limited.
    std::optional<std::uint64_t> effective_rpm(time_point t) const noexcept {
        return sum(t, [](quota const& q) { return q.effective_rpm(); });
    }
    std::optional<std::uint64_t> effective_tpm(time_point t) const noexcept {
        return sum(t, [](quota const& q) { return q.effective_tpm(); });
    }

private:
    struct member {
        template <class C>
        member(account_id who, quota q, quota_options const& o, std::uint64_t cost, C&& c)
            : id{std::move(who)}, price{cost}, limits{q, o, std::forward<C>(c)} {}

        account_id id;
        std::vector<std::string> keys{};
        std::uint64_t price;
        limiter limits;
        cooldown<time_point, Atomics> out{};
        typename Atomics::template atomic<std::uint32_t> key{0};
    };

    /// Members of one price.
    struct group {
        std::vector<std::size_t> members{};
        typename Atomics::template atomic<std::size_t> turn{0};
    };

    void report(std::size_t i, std::uint32_t key, verdict const& v, time_point t,
                std::chrono::sys_seconds now) noexcept {
        member& m = members_[i];
        if (v.action == action::proceed) {
            m.out.answered();
            return;
        }
        if (v.action != action::next_account && v.cause != cause::free_quota) return;
        if (v.cause == cause::authentication) {
            // Relaxed: a number. Who finds another key in use has been forestalled: the next is not blamed for this one.
            std::uint32_t const next = key + 1 < m.keys.size() ? key + 1 : 0;
            std::uint32_t seen = key;
            if (!m.key.compare_exchange_strong(seen, next, std::memory_order_relaxed, std::memory_order_relaxed) ||
                next != 0)
                return;
        }
        m.out.begin(v, t, now, options_.first_absence, options_.longest_absence);
    }

    template <class C>
    std::size_t add_with(account_id id, std::string key, quota q, quota_options const& o, std::uint64_t price, C&& c) {
        std::size_t i = 0;
        while (i < members_.size() && members_[i].id != id) ++i;
        if (i == members_.size()) {
            members_.emplace_back(std::move(id), q, o, price, std::forward<C>(c));
            groups_[price].members.push_back(i);
        }
        auto& keys = members_[i].keys;
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(std::move(key));
        return i;
    }

    template <class F>
    std::optional<std::uint64_t> sum(time_point t, F of) const noexcept {
        std::uint64_t total = 0;
        for (auto const& m : members_) {
            if (m.out.back_at() > t) continue;
            auto const one = of(m.limits.limits());
            if (!one) return std::nullopt;
            total = total + *one < total ? (std::numeric_limits<std::uint64_t>::max)() : total + *one;
        }
        return total;
    }

    account_pool_options options_;
    std::deque<member> members_{};             // they are not moved when one is added
    std::map<std::uint64_t, group> groups_{};  // by price
};

}  // namespace weir::inline v0::llm
