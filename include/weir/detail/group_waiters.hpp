// SPDX-License-Identifier: MIT
//
// The waiters of a queue_group: a list for each member, all under one mutex, and one turn among the members.
//
// A member with waiters is ready, blocked, or has the turn.
//   ready    its first waiter sleeps until it gets the turn; ordered by start tags (see fair_schedule.hpp).
//   blocked  its own limiter has denied its first waiter; ordered by the time until which it did.
//   turn     its first waiter is awake, or has been woken, or sleeps with an alarm: it attempts.
// What an attempt with the turn leads to:
// - Granted: the waiter leaves; its member's tag moves on; the turn goes to the next.
// - Denied by the shared limiter: the waiter keeps the turn and sleeps until the time that the limiter named. No
//   other waiter attempts, since what is next in the fair order must not be passed by smaller requests. A member that
//   comes with a smaller tag takes the turn over.
// - Denied by its own limiter: the member is blocked until that time, and the turn goes to the next ready member.
//   Where there is none, it goes to the blocked member whose time comes first (`turn_is_idle_`): its first waiter
//   sleeps until then. A member that becomes ready takes such a turn over.
//
// Lemma: while any call waits, one member has the turn, and its first waiter is awake, or notified, or has an alarm.
//   Joining: without a turn, the newcomer takes it, and is awake. Leaving and serving: pass() gives the turn on and
//   wakes. Denials: as above; the waiter that keeps the turn sleeps with its alarm. A notification that comes while
//   a waiter is awake ends its next sleep at once, and a refund marks the member (`touched`), so that an attempt
//   that was made before the refund does not block it after.
// Wake-ups: a grant wakes one waiter, and so do a denial by a member's own limiter and the leaving of a waiter that
// has the turn. After a grant, the member is blocked until its own limiter can grant one permit, so that a wake-up
// for its next waiter is not for nothing.
#pragma once

#include <algorithm>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <tuple>
#include <utility>
#include <vector>

#include "../clock/clock.hpp"
#include "fair_schedule.hpp"
#include "fair_share.hpp"
#include "index_heap.hpp"
#include "mutex_of.hpp"
#include "waiter_list.hpp"

namespace weir::inline v0::detail {

/// Start tags that wrap: the order of two that are less than 2^63 apart.
constexpr bool tag_before(std::uint64_t a, std::uint64_t b) noexcept { return static_cast<std::int64_t>(a - b) < 0; }

template <class Atomics>
class group_member_state {
public:
    enum class phase : std::uint8_t { idle, ready, blocked, turn };

    waiter_list<Atomics> list{};
    population<Atomics> waiters{};
    phase is = phase::idle;
    bool fresh = true;     // nothing was asked of it yet
    bool touched = false;  // permits came back since its last attempt began
    std::uint32_t weight = 1;
    std::uint32_t rest = 0;   // of the last division by the weight
    std::uint64_t tag = 0;    // where its next call starts
    std::uint64_t epoch = 0;  // in which the tag was last moved
    std::uint64_t order = 0;  // of equal tags: when it became ready
    std::int64_t blocked_until = 0;
    std::size_t heap_index = 0;
    std::size_t list_index = 0;
};

template <class Atomics>
class group_waiters : fair_unit {
public:
    using node = waiter_node<Atomics>;
    using member = group_member_state<Atomics>;
    using phase = typename member::phase;

    explicit group_waiters(void const* shared) noexcept : shared_{shared} {}
    group_waiters(group_waiters const&) = delete;
    group_waiters& operator=(group_waiters const&) = delete;
    ~group_waiters() = default;

    /// The address of the limiter that all members use; null where there is none.
    void const* shared() const noexcept { return shared_; }

    void enroll(member& m) {
        std::lock_guard const lock{mutex_};
        if (members_.size() == members_.capacity()) members_.reserve(2 * members_.size() + 8);
        ready_.reserve(members_.capacity());
        blocked_.reserve(members_.capacity());
        m.list_index = members_.size();
        members_.push_back(&m);
        if (closed_) m.waiters.close();
    }
    void expel(member& m) noexcept {
        std::lock_guard const lock{mutex_};
        members_.back()->list_index = m.list_index;
        members_[m.list_index] = members_.back();
        members_.pop_back();
    }

    // Relaxed: as population::idle.
    std::size_t length() const noexcept { return length_.load(std::memory_order_relaxed); }

    bool join(member& m, node& p, std::size_t most) {
        std::lock_guard const lock{mutex_};
        if (m.waiters.count() >= most || m.waiters.closed()) return false;
        arrivals_.number(p);
        m.list.insert(p);
        m.waiters.enter();
        if (length_.fetch_add(1, std::memory_order_relaxed) == 0 && tag_before(now_, latest_)) advance_to(latest_);
        if (m.list.first != &p) return true;
        // It is the member's first, and awake. What was known of the one it displaces is not known of it.
        if (m.is == phase::idle || m.is == phase::blocked) {
            if (m.is == phase::blocked) blocked_.erase(m);
            make_ready(m);
        } else if (m.is == phase::turn) {
            turn_is_idle_ = false;
        }
        if (m.is == phase::ready && (turn_ == nullptr || turn_is_idle_ || tag_before(m.tag, turn_->tag))) {
            ready_.erase(m);
            take_turn(m);
        }
        return true;
    }

    void leave(member& m, node& p) {
        std::lock_guard const lock{mutex_};
        take_out(m, p);
    }

    /// Leaves with a grant of n. `own_until`: when its own limiter can grant again.
    void serve(member& m, node& p, std::uint64_t n, std::int64_t now, std::int64_t own_until) {
        std::lock_guard const lock{mutex_};
        saw(now);
        settle_tag(m);
        if (tag_before(now_, m.tag)) advance_to(m.tag);
        charge(m, n);
        if (m.is == phase::ready) ready_.update(m);
        take_out(m, p, m.touched ? never : own_until);
    }

    /// Whether `p` may attempt.
    bool may_attempt(member& m, node const& p) {
        std::lock_guard const lock{mutex_};
        if (turn_ != &m || m.list.first != &p) return false;
        m.touched = false;
        turn_is_idle_ = false;
        return true;
    }

    enum class verdict : std::uint8_t { sleep, alarm, again };

    /// p's attempt was denied until `until`, by the shared limiter or by the member's own.
    verdict denied(member& m, node const& p, bool by_shared, std::int64_t until, std::int64_t now) {
        std::lock_guard const lock{mutex_};
        saw(now);
        if (m.list.first != &p) return verdict::sleep;  // displaced: the waiter that did so is awake
        if (turn_ != &m) return verdict::sleep;         // the turn was passed on, and comes back
        if (m.touched) return verdict::again;
        if (by_shared) return verdict::alarm;
        block(m, until);
        turn_ = nullptr;
        pass(&p);
        return turn_ == &m ? verdict::alarm : verdict::sleep;
    }

    std::uint64_t arrival() const noexcept { return arrivals_.last(); }
    /// Whether a waiter is ahead of one that joins now.
    bool is_behind(member const& m, node const& p) const {
        std::lock_guard const lock{mutex_};
        if (m.list.first != nullptr && (p.arrival == 0 || m.list.first->arrival <= p.arrival)) return true;
        if (turn_ == nullptr) return false;
        return !turn_is_idle_ && turn_ != &m && !tag_before(start_tag(m), turn_->tag);
    }

    /// Permits of m's own limiter, or of the shared one, came back.
    void wake(member& m) {
        std::lock_guard const lock{mutex_};
        touch(m);
    }
    /// The same, and its account is corrected.
    void correct(member& m, std::uint64_t counted, std::uint64_t actual) {
        std::lock_guard const lock{mutex_};
        settle_tag(m);
        if (actual > counted) {
            charge(m, actual - counted);
        } else if (tag_before(now_, m.tag)) {
            std::uint64_t const back = (std::min)(counted - actual, max_cost) * unit / m.weight;
            m.tag -= (std::min)(back, m.tag - now_);
        }
        if (m.is == phase::ready) ready_.update(m);
        touch(m);
    }
    /// Permits of the shared limiter came back.
    void wake_turn() {
        std::lock_guard const lock{mutex_};
        wake_first_of(turn_);
    }
    void change_weight(member& m, std::uint32_t w) {
        std::lock_guard const lock{mutex_};
        m.weight = w;
        m.rest = 0;
    }

    void close(member& m) {
        std::lock_guard const lock{mutex_};
        close_locked(m);
    }
    void close() {
        std::lock_guard const lock{mutex_};
        closed_ = true;
        for (member* m : members_) close_locked(*m);
    }
    void drain(member& m) { detail::drain(m.waiters, mutex_); }
    void after_fork_in_child() noexcept {
        renew(mutex_);
        for (member* m : members_) {
            m->list = {};
            m->waiters.reset();
            m->is = phase::idle;
        }
        ready_.clear();
        blocked_.clear();
        turn_ = nullptr;
        turn_is_idle_ = false;
        closed_ = false;
        length_.exchange(0, std::memory_order_relaxed);
    }

private:
    static constexpr std::int64_t never = (std::numeric_limits<std::int64_t>::min)();

    struct by_tag {
        bool operator()(member const& a, member const& b) const noexcept {
            return a.tag != b.tag ? tag_before(a.tag, b.tag) : a.order < b.order;
        }
    };
    struct by_time {
        bool operator()(member const& a, member const& b) const noexcept { return a.blocked_until < b.blocked_until; }
    };

    // All that follow are called with the mutex held.

    void saw(std::int64_t now) noexcept { clock_ = now; }

    // An epoch is 2^60 of virtual time. A tag is at most 2^61 ahead when it is moved, so one that was moved more
    // than four epochs ago is behind; others can be compared.
    void advance_to(std::uint64_t tag) noexcept {
        epoch_ += ((tag >> 60U) - (now_ >> 60U)) & 15U;
        now_ = tag;
    }
    void settle_tag(member& m) noexcept {
        m.tag = start_tag(m);
        m.epoch = epoch_;
        m.fresh = false;
        if (tag_before(latest_, m.tag)) latest_ = m.tag;
    }
    // A new queue starts behind a call of each that waits, so that a stream of new queues starves no old one.
    std::uint64_t start_tag(member const& m) const noexcept {
        if (m.fresh) return now_ + unit / m.weight;
        return epoch_ - m.epoch > 4 || tag_before(m.tag, now_) ? now_ : m.tag;
    }
    void charge(member& m, std::uint64_t n) noexcept {
        std::uint64_t const work = std::clamp(n, std::uint64_t{1}, max_cost) * unit + m.rest;
        // A tag stays within 2^61 of the virtual time, so that the order of any two is known.
        constexpr std::uint64_t farthest = std::uint64_t{1} << 61U;
        m.tag += (std::min)(work / m.weight, farthest - (std::min)(farthest, m.tag - now_));
        m.rest = static_cast<std::uint32_t>(work % m.weight);
        if (tag_before(latest_, m.tag)) latest_ = m.tag;
    }

    void make_ready(member& m) {
        settle_tag(m);
        m.order = ++orders_;
        m.is = phase::ready;
        ready_.push(m);
    }
    void block(member& m, std::int64_t until) {
        m.blocked_until = until;
        m.is = phase::blocked;
        blocked_.push(m);
    }
    /// `m` is in no heap. Whichever had the turn finds out when it wakes.
    void take_turn(member& m) {
        if (turn_ != nullptr && turn_is_idle_) {
            block(*turn_, turn_->blocked_until);
        } else if (turn_ != nullptr) {
            turn_->is = phase::ready;  // with the tag and the order that it had
            ready_.push(*turn_);
        }
        turn_ = &m;
        turn_is_idle_ = false;
        m.is = phase::turn;
    }

    /// No queue has the turn: gives it to the next, and wakes its first waiter, unless that is `awake`.
    void pass(node const* awake = nullptr) {
        while (member* const m = blocked_.top()) {
            if (m->blocked_until > clock_) break;
            blocked_.erase(*m);
            make_ready(*m);
        }
        if (member* const m = ready_.top()) {
            ready_.erase(*m);
            take_turn(*m);
            if (m->list.first != awake) wake_first_of(m);
        } else if (member* const b = blocked_.top()) {
            blocked_.erase(*b);
            take_turn(*b);
            turn_is_idle_ = true;
            if (b->list.first != awake) wake_first_of(b);
        }
    }
    void wake_first_of(member* m) {
        if (m != nullptr && m->list.first != nullptr) m->list.first->wake(*m->list.first);
    }
    void touch(member& m) {
        m.touched = true;
        if (m.is == phase::blocked) {
            blocked_.erase(m);
            make_ready(m);
            if (turn_is_idle_) {
                ready_.erase(m);
                take_turn(m);
            }
        }
        wake_first_of(turn_);
    }

    void take_out(member& m, node& p, std::int64_t own_until = never) {
        bool const was_first = m.list.first == &p;
        m.list.erase(p);
        length_.fetch_sub(1, std::memory_order_relaxed);
        m.waiters.leave();
        if (was_first) first_left(m, own_until);
    }
    // What its first waiter waited for is not what the next waits for.
    void first_left(member& m, std::int64_t own_until) {
        if (m.is == phase::ready) {
            ready_.erase(m);
        } else if (m.is == phase::blocked) {
            blocked_.erase(m);
        }
        bool const had_turn = m.is == phase::turn;
        m.is = phase::idle;
        if (had_turn) {
            turn_ = nullptr;
            turn_is_idle_ = false;
        }
        if (m.list.first != nullptr) {
            if (own_until > clock_) {
                block(m, own_until);
            } else {
                make_ready(m);
            }
        }
        if (turn_is_idle_ && m.is == phase::ready) {
            ready_.erase(m);
            take_turn(m);
            wake_first_of(&m);
        } else if (turn_ == nullptr) {
            pass();
        }
    }
    void close_locked(member& m) {
        if (!m.waiters.close()) return;
        node* const first = m.list.first;
        std::size_t const released = m.list.release();
        length_.fetch_sub(released, std::memory_order_relaxed);
        m.waiters.leave(released);
        if (m.list.first != first) first_left(m, never);
    }

    mutable typename mutex_of<Atomics>::type mutex_{};
    void const* shared_;
    std::vector<member*> members_{};
    index_heap<member, by_tag> ready_{};
    index_heap<member, by_time> blocked_{};
    member* turn_ = nullptr;
    bool turn_is_idle_ = false;
    bool closed_ = false;
    std::uint64_t now_ = 0;     // virtual time
    std::uint64_t latest_ = 0;  // no tag is above it
    std::uint64_t epoch_ = 0;
    std::uint64_t orders_ = 0;
    std::int64_t clock_ = never;  // the time of the last attempt
    arrivals<Atomics> arrivals_{};
    typename Atomics::template atomic<std::size_t> length_{0};
};

/// What the wait_queue of one member sees of the group.
template <class Atomics>
class group_member {
    using group = group_waiters<Atomics>;

public:
    using node = waiter_node<Atomics>;
    static constexpr bool by_shares = true;
    static constexpr bool by_turns = true;

    group_member(group& g, std::uint32_t weight) : group_{g} {
        state_.weight = weight;
        group_.enroll(state_);
    }
    group_member(group_member const&) = delete;
    group_member& operator=(group_member const&) = delete;
    ~group_member() { group_.expel(state_); }

    bool idle() const noexcept { return group_.length() == 0 && state_.waiters.idle(); }
    bool closed() const noexcept { return state_.waiters.closed(); }
    std::size_t length() const noexcept { return state_.waiters.count(); }
    bool join(node& p, std::size_t most) { return group_.join(state_, p, most); }
    void leave(node& p) { group_.leave(state_, p); }
    bool is_first(node const& p) { return group_.may_attempt(state_, p); }
    std::uint64_t arrival() const noexcept { return group_.arrival(); }
    bool is_behind(node const& p) const { return group_.is_behind(state_, p); }
    void wake_first() { group_.wake(state_); }
    void close() { group_.close(state_); }
    void drain() { group_.drain(state_); }
    void after_fork_in_child() noexcept { group_.after_fork_in_child(); }
    void change_weight(std::uint32_t w) { group_.change_weight(state_, w); }

    template <class Limiter, class Cost>
    void served(node& p, Limiter& l, Cost const& cost, typename Limiter::decision& d) {
        typename Limiter::time_point const now = l.clock().now();
        group_.serve(state_, p, share_granted(l, cost, d), ticks(now), own_until(l, now));
    }
    /// Whether it is the shared limiter that denied.
    template <class Limiter>
    bool denied_by_shared(Limiter& l, typename Limiter::decision const& d) const {
        if (d.granted() || group_.shared() == nullptr) return false;
        if constexpr (requires { d.denied_by(), l.leaves(); }) {
            std::size_t const part = d.denied_by();
            std::size_t i = 0;
            bool shared = false;
            for_each_part(l, [&](auto& leaf) { shared |= i++ == part && is_shared(leaf); });
            return shared;
        } else {
            return is_shared(l);
        }
    }
    /// Whether the waiter has an alarm at `retry_at`.
    template <class TimePoint>
    bool denied(node const& p, bool by_shared, TimePoint& retry_at, TimePoint now) {
        auto const v = group_.denied(state_, p, by_shared, ticks(retry_at), ticks(now));
        if (v == group::verdict::again) retry_at = now;
        return v != group::verdict::sleep;
    }

    template <class Limiter, class Result, class Decision, class... Rest>
    void gave_back(Limiter& l, Result const& r, Decision const& d, Rest const&...) {
        correct(refunded(l, r, d));
    }
    template <class Limiter, class Result, class Decision, class... Rest>
    void settled(Limiter& l, Result const& r, Decision const& d, Rest const&... rest) {
        correct(settlement(l, r, d, rest...));
    }

private:
    template <class L>
    bool is_shared(L& l) const noexcept {
        return static_cast<void const*>(&l) == group_.shared();
    }
    template <class Limiter, class F>
    static void for_each_part(Limiter& l, F f) {
        if constexpr (requires { l.leaves(); }) {
            std::apply([&](auto*... leaf) { (f(*leaf), ...); }, l.leaves());
        } else {
            f(l);
        }
    }
    // When the limiters that are not shared can grant one permit.
    template <class Limiter, class TimePoint>
    std::int64_t own_until(Limiter& l, TimePoint now) const {
        std::int64_t until = (std::numeric_limits<std::int64_t>::min)();
        for_each_part(l, [&](auto& part) {
            if constexpr (requires { (part.check)(1, now).retry_at(); }) {
                if (is_shared(part)) return;
                auto const d = (part.check)(1, now);
                if (!d.granted() && !d.never()) until = (std::max)(until, ticks(d.retry_at()));
            }
        });
        return until;
    }
    void correct(share_correction c) {
        if (c.known) {
            group_.correct(state_, c.counted, c.actual);
        } else {
            group_.wake(state_);
        }
    }

    group& group_;
    group_member_state<Atomics> state_{};
};

}  // namespace weir::inline v0::detail
