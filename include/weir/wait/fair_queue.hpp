// SPDX-License-Identifier: MIT
//
// fair_queue: classes of callers that share a limiter. A person waits for an agent, a batch runs overnight, and one
// quota serves both.
//
// Promise: each class gets its share of what is granted while calls wait, and is served at once when it comes back
// after it was idle; the bounds are at the class.
// Source: start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996), with
// the cost of a call that needs two resources counted as that of the one it needs most of (A. Ghodsi and others,
// "Dominant Resource Fairness", NSDI 2011, and "Multi-Resource Fair Queueing for Packet Processing", SIGCOMM 2012).
//
// Why that discipline: it need not know a cost before the call is served (a cost may be a callable), the costs
// differ by orders of magnitude, and a class must be served at once when it comes back. Deficit round robin makes a
// class that comes back wait for a round, and a round is as long as the largest cost. Weighted fair queueing orders
// by the end of service, so a large call waits for every smaller one, and idle periods need a simulated fluid
// server. Stride scheduling is the same order as here without a rule for classes that were idle.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "../atomics.hpp"
#include "../detail/fair_waiters.hpp"
#include "../error.hpp"
#include "fair_class.hpp"
#include "wait_queue.hpp"

namespace weir::inline v0 {

/// Several queues in front of one limiter. It refers to the limiter, which must outlive it.
///
///     enum role { agent, batch };
///     weir::fair_queue queues{quota, {weir::fair_class{.weight = 9}, weir::fair_class{.weight = 1}}};
///     auto a = queues[agent].acquire(cost);     // each is a wait_queue: deadlines, stop tokens, coroutines
///     if (a) { auto used = call(); queues[agent].settle(*a, used); }   // charged by what the call used
///
/// Let a, b be classes, w their weights, m the largest cost that was granted to one. While calls wait:
/// - FIFO inside a class.
/// - Shares: over any time in which both always have a call that waits, |granted(a)/w(a) − granted(b)/w(b)| ≤
///   m(a)/w(a) + m(b)/w(b) (and 2/720,720 more where a weight does not divide that number). So a's reserved share is
///   w(a) / sum of all weights, whatever the others ask for.
/// - At once: a class that comes back after it was idle is next, before all that wait, if its own last call is paid
///   for; but for one call of each class that came back at the same virtual time and is listed before it. It takes
///   the place of a first waiter that is not served yet. Capacity that other classes used meanwhile is not called
///   back.
/// - No starvation: between two grants of a, the first of n, the others get at most sum of m(b) + n·w(b)/w(a) over
///   them.
/// - Idle capacity: an attempt that meets no waiting call is the limiter's own, whatever the class used before, and
///   takes no lock; and no call waits because of its class alone: the next waiter asks as soon as the limiter can
///   grant. A waiter that is overtaken between its turn and its attempt may still be granted: each bound is then off
///   by one call of each thread that did so.
///
/// The cost among classes: permits; for a quota of requests and tokens, the dominant of the two: tokens, but at least
/// TPM / RPM for each call. By tokens alone, many small calls would take all requests and pay next to nothing.
/// settle and refund through the class's queue correct it. A cost of another type counts its total(), or as 1. An
/// attempt that met no waiting call is not counted, and is not corrected where the limiter's decision can tell:
/// `counted_in(n)` is told the period that it was counted in, `counted_in()` returns that, or 0. For other decisions
/// it is not known, and what such an attempt gives back is credit too.
///
/// try_acquire is granted if the limiter grants and no call is ahead. max_waiting is each class's own; with 0 a
/// class is served only while no call waits. O(log classes) under the one mutex; nothing is allocated. Everything
/// else, close(), the destructor and fork() included, is as for wait_queue.
template <class Limiter, std::size_t Classes, class Atomics = std_atomics>
class fair_queue {
public:
    using limiter_type = Limiter;
    /// The queue of a class.
    using queue_type = wait_queue<Limiter, Atomics, detail::class_queue<Classes, Atomics>>;

    /// Throws std::invalid_argument for what `validate` names.
    fair_queue(Limiter& limiter, fair_class const (&classes)[Classes])
        : fair_queue{limiter, classes, std::make_index_sequence<Classes>{}} {}
    fair_queue(fair_queue const&) = delete;
    fair_queue& operator=(fair_queue const&) = delete;
    /// Closes it, and waits until every waiter has left.
    ~fair_queue() { close(); }

    static constexpr error validate(fair_class const (&classes)[Classes]) noexcept {
        for (fair_class const& c : classes) {
            if (auto const e = fair_class::validate(c)) return e;
        }
        return {};
    }

    static constexpr std::size_t classes() noexcept { return Classes; }

    /// The queue of a class: a number or an enumerator. Throws std::invalid_argument where there is none.
    template <class Class>
        requires(std::integral<Class> || std::is_enum_v<Class>)
    queue_type& operator[](Class c) {
        return queues_[checked(static_cast<std::size_t>(c))];
    }

    /// From the next grant on; what is owed stays.
    template <class Class>
        requires(std::integral<Class> || std::is_enum_v<Class>)
    error change_weight(Class c, std::uint32_t weight) {
        if (auto const e = fair_class::validate({.weight = weight})) return e;
        waiters_.change_weight(checked(static_cast<std::size_t>(c)), weight);
        return {};
    }

    /// Something has made permits available: the next waiter tries again.
    void notify() { waiters_.wake_first(); }

    /// Closes the queues of all classes.
    void close() {
        for (auto& q : queues_) q.close();
    }
    /// See wait_queue.
    void after_fork_in_child() noexcept { waiters_.after_fork_in_child(); }

    /// How many calls wait, in all classes. A moment's view.
    std::size_t waiting() const noexcept { return waiters_.length(); }

private:
    template <std::size_t... Index>
    fair_queue(Limiter& limiter, fair_class const (&classes)[Classes], std::index_sequence<Index...>)
        : waiters_{(detail::ensure(validate(classes)), std::array<std::uint32_t, Classes>{classes[Index].weight...})},
          queues_{{queue_type{limiter, classes[Index].queue, waiters_, Index}...}} {}

    static std::size_t checked(std::size_t c) {
        detail::ensure(c < Classes ? error{} : error{"there is no such class"});
        return c;
    }

    detail::fair_waiters<Classes, Atomics> waiters_;
    std::array<queue_type, Classes> queues_;
};

template <class Limiter, std::size_t Classes>
fair_queue(Limiter&, fair_class const (&)[Classes]) -> fair_queue<Limiter, Classes>;

}  // namespace weir::inline v0
