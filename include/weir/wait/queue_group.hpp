// SPDX-License-Identifier: MIT
//
// queue_group: queues that each have limiters of their own and share one more. A crawler has a limit for each host,
// and one for all hosts together.
//
// Promise: the shared limiter is divided fairly among the queues that can use it, whatever each of them asks for; a
// queue that its own limiter blocks does not hold up the others; one waiter is woken at a time. The bounds are at
// the class. Source: start-time fair queueing, as in fair_queue.hpp, over queues that come and go.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "../atomics.hpp"
#include "../detail/group_waiters.hpp"
#include "../error.hpp"
#include "fair_class.hpp"
#include "wait_queue.hpp"

namespace weir::inline v0 {

/// What grouped_queues have in common: whose turn it is. It must outlive them.
///
///     weir::token_bucket everyone{weir::rate{100, 1s}, 10};
///     weir::queue_group group{everyone};
///
///     struct host {                                            // made when the first page of a host is found
///         weir::token_bucket<> own{weir::rate{1, 1s}, 2};
///         weir::all_of<weir::token_bucket<>&, weir::token_bucket<>&> both;  // {own, everyone}
///         weir::grouped_queue<decltype(both)> queue;           // {group, both}
///     };
///     if (auto a = hosts[name].queue.try_acquire_for(1, 30s)) fetch();
///
/// Two users of one limiter that ask for different amounts: `grouped_queue alice{group, everyone}, bob{group,
/// everyone}`.
///
/// Let a, b be queues, w their weights, m the largest cost that was granted to one.
/// - FIFO inside a queue.
/// - Shares: over any time in which a and b always have a call that waits, and the limiters of neither but the
///   shared one deny it, |granted(a)/w(a) − granted(b)/w(b)| ≤ m(a)/w(a) + m(b)/w(b); and one call
///   more where one of them was denied by its own limiter before. The time in which its own limiter denies earns no
///   credit.
/// - A new queue waits for at most one call of each queue that waits. An old one is next, if its own last call is
///   paid for.
/// - Work conserving: a call waits only while its own limiters deny it, the shared limiter denies a call that is
///   ahead of it, or a waiter that was woken has not run yet.
/// - No starvation: a call that needs much is not passed by the small calls of a queue beyond that queue's share,
///   nor by a stream of new queues.
/// - Wake-ups: at most one waiter is woken for each grant, for each denial by a waiter's own limiter, for each
///   waiter that leaves with the turn, and for each refund, settlement or change. Where all calls ask for one permit
///   and no caller passes the queues, there are no such denials but the first of each queue.
/// O(log queues) under one mutex, in which no limiter and no clock is called. Making a queue may allocate; waiting
/// does not. All queues must use the same clock. Limiters that are neither the queue's own nor the group's count as
/// its own.
template <class Atomics = std_atomics>
class queue_group {
public:
    /// For queues that share no limiter but the order of their attempts.
    queue_group() noexcept : waiters_{nullptr} {}
    /// For queues whose limiters all include `shared`, as a part of an all_of or alone. It is compared by its
    /// address.
    template <class Limiter>
        requires(!std::same_as<Limiter, queue_group>)
    explicit queue_group(Limiter& shared) noexcept : waiters_{&shared} {}
    queue_group(queue_group const&) = delete;
    queue_group& operator=(queue_group const&) = delete;
    ~queue_group() = default;

    /// Something has made permits of the shared limiter available: the waiter that has the turn tries again.
    void notify() { waiters_.wake_turn(); }
    /// Closes all queues, and those that are made later.
    void close() { waiters_.close(); }
    /// See wait_queue. Of all its queues.
    void after_fork_in_child() noexcept { waiters_.after_fork_in_child(); }
    /// How many calls wait, in all queues. A moment's view.
    std::size_t waiting() const noexcept { return waiters_.length(); }

private:
    template <class, class>
    friend class grouped_queue;
    detail::group_waiters<Atomics> waiters_;
};

/// A queue of the group, in front of `limiter`, which it refers to and which must outlive it. A wait_queue otherwise.
template <class Limiter, class Atomics = std_atomics>
class grouped_queue : public wait_queue<Limiter, Atomics, detail::group_member<Atomics>> {
    using base = wait_queue<Limiter, Atomics, detail::group_member<Atomics>>;

public:
    /// Throws std::invalid_argument for what fair_class::validate names.
    grouped_queue(queue_group<Atomics>& group, Limiter& limiter, fair_class c = {})
        : base{limiter, c.queue, group.waiters_, checked(c).weight} {}

    /// From the next grant on; what is owed stays.
    error change_weight(std::uint32_t weight) {
        if (auto const e = fair_class::validate({.weight = weight})) return e;
        this->queue().change_weight(weight);
        return {};
    }

private:
    static fair_class const& checked(fair_class const& c) {
        detail::ensure(fair_class::validate(c));
        return c;
    }
};

template <class Limiter, class Atomics>
grouped_queue(queue_group<Atomics>&, Limiter&) -> grouped_queue<Limiter, Atomics>;
template <class Limiter, class Atomics>
grouped_queue(queue_group<Atomics>&, Limiter&, fair_class) -> grouped_queue<Limiter, Atomics>;

}  // namespace weir::inline v0
