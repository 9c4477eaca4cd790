// SPDX-License-Identifier: MIT
//
// account_pool: several accounts as one. A vendor limits an account and a model, not a key: the keys of one account
// share its limiter, and only another account, another region or a proxy adds capacity. N members with a quota each
// give N times the quota.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "detail/cooldown.hpp"
#include "limit_kind.hpp"
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
    /// Of a member that was refused without a time in the verdict.
    std::chrono::nanoseconds min_cooldown = std::chrono::minutes{1};
    /// The delay doubles up to this, and resets when the member answers.
    std::chrono::nanoseconds max_cooldown = std::chrono::hours{1};
};

/// A condition in addition to the members' limits: the default, which admits all. A condition has
/// - ready(member, t): the earliest time at which a call may pass through the member; t when it may at once,
/// - take(member, t): takes what it needs, or returns false, as when another thread was faster,
/// - denied_by(): what denied last,
/// - optionally admits(member): false for a member that is treated as absent.
/// It is asked about members that are not on cooldown.
struct no_condition {
    template <class TimePoint>
    static constexpr TimePoint ready(std::size_t /*member*/, TimePoint t) noexcept {
        return t;
    }
    template <class TimePoint>
    static constexpr bool take(std::size_t /*member*/, TimePoint /*t*/) noexcept {
        return true;
    }
    static constexpr limit_kind denied_by() noexcept { return limit_kind::none; }
};

/// Members are added before the pool is shared; after that every verb may be called by any thread. Attempts are
/// lock-free where the limiters are. There is no bound on the number of members.
///
///     weir::llm::account_pool pool;
///     pool.add({"https://dashscope-intl.aliyuncs.com", "alice", "intl", "qwen3-max"}, "sk-1",
///              {.rpm = 600, .rps = 10, .tpm = 1'000'000});
///     pool.add({…, "bob", …}, "sk-2", …);
///     auto c = pool.try_acquire({.input = input, .output = max_tokens}, now);
///     if (c) { auto r = send(pool.id(*c), pool.key(c)); … pool.settle(c, r.usage, now); }
///     else sleep until c.retry_at();
///
/// **Which member.** The cheapest that is not on cooldown and grants. Members of one price take turns, so that load is
/// spread. If none grants, retry_at is the earliest of theirs.
/// **Cooldown.** `report` puts a member on cooldown; a successful call resets the delay.
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
    using amount = tokens;
    [[gnu::__visibility__("hidden")]] static constexpr std::size_t none = (std::numeric_limits<std::size_t>::max)();

    class choice;

    explicit account_pool(account_pool_options o = {}) : options_{o} {}
    account_pool(account_pool const&) = delete;
    account_pool& operator=(account_pool const&) = delete;
    ~account_pool();

    /// Adds a key and returns its member's number. A key of a known account joins that account's member: `q`, `o` and
    /// `price` are then ignored. `price` is any measure of cost, the same for all members. Errors of quota_limiter's
    /// constructor.
    template <class C = Clock>
        requires(!std::is_reference_v<C>)
    std::size_t add(account_id id, std::string key, quota q, quota_options o = {}, std::uint64_t price = 0) {
        C c{};
        return add_with(std::move(id), std::move(key), q, o, price, c);
    }
    std::size_t add(account_id id, std::string key, quota q, quota_options o, std::uint64_t price, Clock c) {
        return add_with(std::move(id), std::move(key), q, o, price, c);
    }

    /// One request through any member but those in `except`, if `condition` admits it too (see no_condition). All or
    /// nothing: where another thread is faster, everything is given back, and the next member is asked.
    template <class Condition = no_condition>
    [[nodiscard("the choice says which account to use, or when to try again")]] choice try_acquire(
        tokens n, time_point t, std::span<std::size_t const> except = {}, Condition&& condition = {});

    /// Corrects a grant to what was really used; false if it was settled or refunded before.
    bool settle(choice& c, tokens used, time_point now) noexcept {
        return c.decision_ && members_[c.member_].limits.settle(*c.decision_, used, now);
    }
    /// Refunds a call that was not sent. Returns what quota_limiter::refund returns.
    auto refund(choice& c) noexcept {
        using refunded = decltype(std::declval<limiter&>().refund(*c.decision_));
        return c.decision_ ? members_[c.member_].limits.refund(*c.decision_) : refunded{};
    }

    /// What became of a call through a member. An answer resets the member's cooldown delay. A verdict that asks for
    /// another account puts the member on cooldown: until the time in the verdict (`now` is the wall clock at `t`),
    /// else for a delay that doubles. An invalid key is first replaced by the account's next key, once for all calls
    /// that it failed. Other verdicts change nothing.
    void report(choice const& c, verdict const& v, time_point t, std::chrono::sys_seconds now = {}) noexcept {
        if (c) report(c.member_, c.key_, v, t, now);
    }
    /// The same for a call with the key that is in use.
    void report(std::size_t i, verdict const& v, time_point t, std::chrono::sys_seconds now = {}) noexcept {
        if (i < members_.size()) report(i, members_[i].key.load(std::memory_order_relaxed), v, t, now);
    }

    /// Puts a member on cooldown until `until` at least.
    void begin_cooldown(std::size_t i, time_point until) noexcept { members_[i].cooldown.extend(until); }
    /// The end of a member's cooldown; a time not after now when it has none.
    time_point cooldown_until(std::size_t i) const noexcept { return members_[i].cooldown.until(); }
    /// Ends a cooldown.
    void end_cooldown(std::size_t i) noexcept { members_[i].cooldown.end(); }

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
    /// The lowest price that is at least `from`. O(log prices).
    std::optional<std::uint64_t> lowest_price(std::uint64_t from = 0) const noexcept {
        auto const g = groups_.lower_bound(from);
        if (g == groups_.end()) return std::nullopt;
        return g->first;
    }
    limiter& limits(std::size_t i) noexcept { return members_[i].limits; }
    /// The member of a key, or `none`.
    std::size_t member_of(std::string_view key) const noexcept {
        for (std::size_t i = 0; i < members_.size(); ++i) {
            if (std::find(members_[i].keys.begin(), members_[i].keys.end(), key) != members_[i].keys.end()) return i;
        }
        return none;
    }

    /// The sum of min(RPM, RPS×60) over the members that are not on cooldown at t; absent if one of them has no limit.
    std::optional<std::uint64_t> effective_rpm(time_point t) const noexcept { return sum(t, &quota::effective_rpm); }
    std::optional<std::uint64_t> effective_tpm(time_point t) const noexcept { return sum(t, &quota::effective_tpm); }

private:
    struct member {
        template <class C>
        member(account_id name, quota q, quota_options const& o, std::uint64_t cost, C&& c)
            : id{std::move(name)}, price{cost}, limits{q, o, std::forward<C>(c)} {}

        account_id id;
        std::vector<std::string> keys{};
        std::uint64_t price;
        limiter limits;
        llm::cooldown<time_point, Atomics> cooldown{};
        typename Atomics::template atomic<std::uint32_t> key{0};
    };

    /// Members of one price.
    struct group {
        std::vector<std::size_t> members{};
        typename Atomics::template atomic<std::size_t> turn{0};
    };

    void report(std::size_t i, std::uint32_t key, verdict const& v, time_point t,
                std::chrono::sys_seconds now) noexcept;
    std::size_t add_with(account_id id, std::string key, quota q, quota_options const& o, std::uint64_t price,
                         std::remove_reference_t<Clock>& c);
    std::optional<std::uint64_t> sum(time_point t,
                                     std::optional<std::uint64_t> (quota::*of)() const noexcept) const noexcept;

    account_pool_options options_;
    std::deque<member> members_{};             // members do not move when one is added
    std::map<std::uint64_t, group> groups_{};  // by price
};

/// Which member was chosen, and its limiter's decision, to be settled or refunded.
template <class Clock, class Atomics>
    requires clock<Clock>
class account_pool<Clock, Atomics>::choice {
public:
    bool granted() const noexcept { return member_ != none; }
    explicit operator bool() const noexcept { return granted(); }
    /// The number of the member; `none` when denied.
    std::size_t operator*() const noexcept { return member_; }
    /// No member can ever serve it.
    bool never() const noexcept { return !granted() && retry_at_ == (time_point::max)(); }
    /// When denied: the earliest time at which a member could serve it if no other call takes its permits; for a member
    /// on cooldown, the end of that. When granted: the time of the attempt. time_point::max() when never.
    time_point retry_at() const noexcept { return retry_at_; }
    /// The decision of the member's limiter, when granted.
    typename limiter::decision const& decision() const noexcept { return *decision_; }
    /// What denied it at the member that retry_at speaks of; none when granted.
    limit_kind denied_by() const noexcept { return denied_by_; }

private:
    friend account_pool;
    void denied(time_point t, limit_kind by) noexcept {
        if (t > retry_at_ || (t == retry_at_ && denied_by_ != limit_kind::none)) return;
        retry_at_ = t;
        denied_by_ = by;
    }
    std::size_t member_ = none;
    std::uint32_t key_ = 0;
    limit_kind denied_by_ = limit_kind::none;
    time_point retry_at_ = (time_point::max)();
    std::optional<typename limiter::decision> decision_{};
};

// Members are defined out of the class, so that `extern template` keeps them out of a program's other files.

template <class Clock, class Atomics>
    requires clock<Clock>
account_pool<Clock, Atomics>::~account_pool() = default;

template <class Clock, class Atomics>
    requires clock<Clock>
template <class Condition>
auto account_pool<Clock, Atomics>::try_acquire(tokens n, time_point t, std::span<std::size_t const> except,
                                               Condition&& condition) -> choice {
    choice c;
    for (auto& [price, g] : groups_) {
        std::size_t const count = g.members.size();
        // Relaxed: only which is first.
        std::size_t const turn = count == 1 ? 0 : g.turn.fetch_add(1, std::memory_order_relaxed);
        for (std::size_t k = 0; k < count; ++k) {
            std::size_t const i = g.members[(turn + k) % count];
            member& m = members_[i];
            if (std::find(except.begin(), except.end(), i) != except.end()) continue;
            if constexpr (requires { condition.admits(i); }) {
                if (!condition.admits(i)) {
                    c.denied((time_point::max)(), condition.denied_by());
                    continue;
                }
            }
            time_point const until = m.cooldown.until();
            if (until > t) {
                c.denied(until, limit_kind::cooldown);
                continue;
            }
            time_point const ready = condition.ready(i, t);
            if (ready > t) {
                c.denied(ready, condition.denied_by());
                continue;
            }
            auto d = m.limits.try_acquire(n, t);
            if (!d.granted()) {
                c.denied(d.retry_at(), kind_of(d.denied_by()));
                continue;
            }
            if (!condition.take(i, t)) {
                m.limits.refund(d);
                c.denied(t, condition.denied_by());
                continue;
            }
            if (k != 0) g.turn.fetch_add(k, std::memory_order_relaxed);  // the members passed over have had their turn
            c.member_ = i;
            c.key_ = m.key.load(std::memory_order_relaxed);
            c.retry_at_ = t;
            c.denied_by_ = limit_kind::none;
            c.decision_.emplace(std::move(d));
            return c;
        }
        if (count > 1) g.turn.fetch_sub(1, std::memory_order_relaxed);  // where none served, none has had a turn
    }
    return c;
}

template <class Clock, class Atomics>
    requires clock<Clock>
void account_pool<Clock, Atomics>::report(std::size_t i, std::uint32_t key, verdict const& v, time_point t,
                                          std::chrono::sys_seconds now) noexcept {
    member& m = members_[i];
    if (v.action == action::proceed) {
        m.cooldown.answered();
        return;
    }
    if (v.action != action::next_account && v.cause != cause::free_quota) return;
    if (v.cause == cause::authentication) {
        // Relaxed: a number. If another key is in use already, it is not to blame for this failure.
        std::uint32_t const next = key + 1 < m.keys.size() ? key + 1 : 0;
        std::uint32_t seen = key;
        if (!m.key.compare_exchange_strong(seen, next, std::memory_order_relaxed, std::memory_order_relaxed) ||
            next != 0)
            return;
    }
    m.cooldown.begin(v, t, now, options_.min_cooldown, options_.max_cooldown);
}

template <class Clock, class Atomics>
    requires clock<Clock>
std::size_t account_pool<Clock, Atomics>::add_with(account_id id, std::string key, quota q, quota_options const& o,
                                                   std::uint64_t price, std::remove_reference_t<Clock>& c) {
    std::size_t i = 0;
    while (i < members_.size() && members_[i].id != id) ++i;
    if (i == members_.size()) {
        members_.emplace_back(std::move(id), q, o, price, static_cast<Clock&&>(c));
        groups_[price].members.push_back(i);
    }
    auto& keys = members_[i].keys;
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(std::move(key));
    return i;
}

template <class Clock, class Atomics>
    requires clock<Clock>
std::optional<std::uint64_t> account_pool<Clock, Atomics>::sum(time_point t, std::optional<std::uint64_t> (quota::*of)()
                                                                                 const noexcept) const noexcept {
    std::uint64_t total = 0;
    for (auto const& m : members_) {
        if (m.cooldown.until() > t) continue;
        auto const one = (m.limits.limits().*of)();
        if (!one) return std::nullopt;
        total = total + *one < total ? (std::numeric_limits<std::uint64_t>::max)() : total + *one;
    }
    return total;
}

}  // namespace weir::inline v0::llm
