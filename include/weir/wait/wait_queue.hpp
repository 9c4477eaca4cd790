// SPDX-License-Identifier: MIT
//
// wait_queue: waiting for a limiter, in order of arrival.
//
// Promise: first come, first served. The first waiter sleeps until its attempt can succeed, the others sleep until
// it is their turn: no polling, no overtaking, and no stampede, since one waiter is woken at a time. Threads and
// coroutines wait in one queue. close() ends every wait.
// Several queues in front of one limiter: fair_queue.hpp (fixed classes), queue_group.hpp (queues that come and go).
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../detail/async_waiter.hpp"
#include "../detail/mutex_of.hpp"
#include "../detail/waiter.hpp"
#include "../detail/waiter_list.hpp"
#include "../limiter.hpp"
#include "async_timer.hpp"
#include "stop_token.hpp"
#include "wait_status.hpp"

namespace weir::inline v0 {

/// A queue in front of a limiter. It refers to the limiter, which must outlive it. First come, first served, large
/// attempts included: while any call waits, a newcomer queues, even where the limiter would grant it, so that a
/// stream of small attempts does not starve a large one.
///
///     weir::wait_queue queue{bucket};
///     auto ten = queue.acquire(10);                                  // sleeps until there are ten
///     if (auto a = queue.try_acquire_for(1, 100ms)) use(*a);         // *a is the limiter's decision
///     else log(to_string(a.status()));
///
/// A retry after a call that was served and failed keeps its place by a queue_ticket: it is ahead of every waiter
/// that arrived after the ticket's holder first did.
///
/// The cost is whatever the limiter's try_acquire takes: a number of permits, or a type of its own. It may also be a
/// callable that takes the limiter and returns its decision. All sleeping is done by the limiter's clock (see
/// parker.hpp). A waiter makes its attempt itself when it runs, so the time of the grant is its own.
///
/// The queue must be told of permits that come back otherwise than by time, or the first waiter sleeps on: give them
/// back through the queue's refund, settle and change, or call notify(). A caller that asks the limiter directly
/// overtakes the queue, harmlessly otherwise: the first waiter is denied and sleeps again.
///
/// **Shutdown.** close() ends every wait with wait_status::closed, now and later. Then join the threads, and destroy
/// the queue. The destructor closes, and waits until every waiter has left; a suspended coroutine is not waited for,
/// since it does not touch the queue again. A call that begins after the destructor has begun is undefined, as for
/// any object.
///
/// **fork().** The child has one thread; waiters of other threads exist in its copy of the queue, but will never
/// leave. Call after_fork_in_child() there before anything else: it makes the queue empty and open.
///
/// A mutex guards the order, on purpose: a waiter sleeps anyway. It is held for O(1) steps, in which no limiter and
/// no clock is called; nothing is allocated. An attempt that meets an empty queue takes no lock: it costs a relaxed
/// load and the limiter's own attempt, whose decision is then copied into the admission (68 ns against 36 on an AMD
/// EPYC). A thread that is suspended while it holds the mutex delays joining, leaving and giving back through the
/// queue. It does not delay direct users of the limiter.
///
/// Atomics: see atomics.hpp; a policy that names a mutex replaces std::mutex. Queue: the order of the waiters.
template <class Limiter, class Atomics = std_atomics, class Queue = detail::fifo_waiters<Atomics>>
class wait_queue {
public:
    using limiter_type = Limiter;
    using atomics = Atomics;
    using queue_type = Queue;
    using decision = typename Limiter::decision;
    using time_point = typename Limiter::time_point;
    using duration = typename Limiter::duration;
    class admission;
    /// What the asynchronous verbs return.
    template <class Cost, class Timer, class Token>
    using async_wait = detail::async_waiter<wait_queue, Cost, Timer, Token>;

    constexpr explicit wait_queue(Limiter& limiter, wait_queue_options options = {}) noexcept
        : limiter_{limiter}, options_{options} {}
    /// With a queue that is made from arguments.
    template <class... Args>
        requires(sizeof...(Args) > 0 && std::constructible_from<Queue, Args...>)
    constexpr wait_queue(Limiter& limiter, wait_queue_options options, Args&&... queue)
        : limiter_{limiter}, options_{options}, queue_(std::forward<Args>(queue)...) {}
    wait_queue(wait_queue const&) = delete;
    wait_queue& operator=(wait_queue const&) = delete;
    /// Closes it, and waits until every waiter has left.
    ~wait_queue() {
        queue_.close();
        queue_.drain();
    }

    /// Waits as long as it takes. Not granted only when stopped or closed, the queue is full, or never.
    template <class Cost = permits, stoppable_token Token = never_stop>
    admission acquire(Cost cost = Cost{1}, Token token = {}) {
        return wait(std::move(cost), (time_point::max)(), std::move(token));
    }
    /// The same for a retry, by its ticket; likewise below.
    template <class Cost, stoppable_token Token = never_stop>
    admission acquire(Cost cost, queue_ticket& ticket, Token token = {}) {
        return wait(std::move(cost), (time_point::max)(), std::move(token), &ticket);
    }

    /// Does not wait: granted only if no call waits ahead of it and the limiter grants. timed_out when it does not.
    template <class Cost = permits>
    admission try_acquire(Cost cost = Cost{1}) {
        return wait(std::move(cost), (time_point::min)(), never_stop{});
    }

    /// Waits for `d` at most: any duration, 0.5s and hours::max() included. Does not wait when `d` is not positive.
    template <class Cost, class Rep, class Period, stoppable_token Token = never_stop>
    admission try_acquire_for(Cost cost, std::chrono::duration<Rep, Period> d, Token token = {}) {
        return wait(std::move(cost), from_now(d), std::move(token));
    }

    /// Waits until `deadline` at most. The first waiter tries once more when it wakes at the deadline, so a grant may
    /// come later than the deadline by as much as the thread woke late.
    template <class Cost, stoppable_token Token = never_stop>
    admission try_acquire_until(Cost cost, time_point deadline, Token token = {}) {
        return wait(std::move(cost), deadline, std::move(token));
    }
    template <class Cost, stoppable_token Token = never_stop>
    admission try_acquire_until(Cost cost, time_point deadline, queue_ticket& ticket, Token token = {}) {
        return wait(std::move(cost), deadline, std::move(token), &ticket);
    }

    /// The same for coroutines: `co_await queue.async_acquire(cost, timer)` gives an admission. The wait is in the
    /// same order as those of threads. It resumes from the timer's executor, or goes on at once where it need not
    /// wait. The timer and the ticket are referred to. A coroutine destroyed while it waits leaves no trace; it must
    /// be destroyed where the timer fires.
    template <class Cost, class Timer, stoppable_token Token = never_stop>
        requires async_timer<Timer, time_point>
    async_wait<Cost, Timer, Token> async_acquire(Cost cost, Timer& timer, Token token = {}) {
        return {*this, std::move(cost), timer, (time_point::max)(), std::move(token)};
    }
    template <class Cost, class Rep, class Period, class Timer, stoppable_token Token = never_stop>
        requires async_timer<Timer, time_point>
    async_wait<Cost, Timer, Token> async_try_acquire_for(Cost cost, std::chrono::duration<Rep, Period> d, Timer& timer,
                                                         Token token = {}) {
        return {*this, std::move(cost), timer, from_now(d), std::move(token)};
    }
    template <class Cost, class Timer, stoppable_token Token = never_stop>
        requires async_timer<Timer, time_point>
    async_wait<Cost, Timer, Token> async_try_acquire_until(Cost cost, time_point deadline, Timer& timer,
                                                           Token token = {}) {
        return {*this, std::move(cost), timer, deadline, std::move(token)};
    }
    template <class Cost, class Timer, stoppable_token Token = never_stop>
        requires async_timer<Timer, time_point>
    async_wait<Cost, Timer, Token> async_try_acquire_until(Cost cost, time_point deadline, Timer& timer,
                                                           queue_ticket& ticket, Token token = {}) {
        return {*this, std::move(cost), timer, deadline, std::move(token), &ticket};
    }

    /// The limiter's own verbs; afterwards the first waiter tries again. After a change of limits that leaves no
    /// room for a waiter further back, that one learns it when its turn comes.
    template <class... Args>
        requires requires(Limiter& l, Args&&... args) { l.refund(detail::as_argument(std::forward<Args>(args))...); }
    auto refund(Args&&... args) {
        auto r = limiter_.refund(detail::as_argument(std::forward<Args>(args))...);
        if constexpr (Queue::by_shares) {
            queue_.gave_back(limiter_, r, args...);
        } else {
            queue_.wake_first();
        }
        return r;
    }
    template <class... Args>
        requires requires(Limiter& l, Args&&... args) { l.settle(detail::as_argument(std::forward<Args>(args))...); }
    [[nodiscard("false says that the decision was settled or refunded before")]] auto settle(Args&&... args) {
        auto r = limiter_.settle(detail::as_argument(std::forward<Args>(args))...);
        if constexpr (Queue::by_shares) {
            queue_.settled(limiter_, r, args...);
        } else {
            queue_.wake_first();
        }
        return r;
    }
    template <class... Args>
        requires requires(Limiter& l, Args&&... args) { l.change(detail::as_argument(std::forward<Args>(args))...); }
    auto change(Args&&... args) {
        auto r = limiter_.change(detail::as_argument(std::forward<Args>(args))...);
        queue_.wake_first();
        return r;
    }

    /// Something else has made permits available: the first waiter tries again. O(1), from any thread.
    void notify() { queue_.wake_first(); }

    /// Ends every wait with wait_status::closed, now and later. From any thread; a second call changes nothing.
    void close() { queue_.close(); }
    bool closed() const noexcept { return queue_.closed(); }

    /// In the child of a fork(), before any other use: makes the queue empty and open. No thread of the child may be
    /// in a call of the queue. A coroutine that was suspended in it at the fork must be neither resumed nor
    /// destroyed there.
    void after_fork_in_child() noexcept { queue_.after_fork_in_child(); }

    /// How many calls wait. A moment's view.
    std::size_t waiting() const noexcept { return queue_.length(); }
    Limiter& limiter() const noexcept { return limiter_; }
    wait_queue_options const& options() const noexcept { return options_; }

protected:
    Queue& queue() noexcept { return queue_; }

private:
    template <class, class, class>
    friend class detail::waiter;
    template <class, class, class>
    friend class detail::thread_waiter;

    template <class Rep, class Period>
    time_point from_now(std::chrono::duration<Rep, Period> d) const {
        return detail::deadline_after(limiter_.clock(), d);
    }

    template <class Cost, class Token>
    admission wait(Cost cost, time_point deadline, Token token, queue_ticket* ticket = nullptr) {
        // The common case by itself, so that it costs no more than it must.
        std::optional<decision> denied;
        if (!token.stop_requested() && queue_.idle()) {
            detail::first_attempt<Queue> const now{queue_, ticket};
            decision d = detail::ask(limiter_, cost);
            if (d) {
                now.keep();
                return admission{wait_status::granted, std::move(d)};
            }
            denied.emplace(std::move(d));
        }
        detail::thread_waiter<wait_queue, Cost, Token> self{*this, std::move(cost), deadline, std::move(token), ticket};
        if (!(denied ? self.settled_by(std::move(*denied)) : self.settled_at_once())) self.sleep();
        return std::move(self).result();
    }

    Limiter& limiter_;
    wait_queue_options options_;
    Queue queue_{};
};

/// How a wait ended, and the limiter's decision: the grant, or, with wait_status::never, the denial.
template <class Limiter, class Atomics, class Queue>
class [[nodiscard("an admission says whether the permits were taken")]] wait_queue<Limiter, Atomics, Queue>::admission {
public:
    explicit operator bool() const noexcept { return status_ == wait_status::granted; }
    bool granted() const noexcept { return status_ == wait_status::granted; }
    wait_status status() const noexcept { return status_; }

    /// There is none unless granted or never.
    bool has_decision() const noexcept { return decision_.has_value(); }
    decision& operator*() noexcept { return *decision_; }
    decision const& operator*() const noexcept { return *decision_; }
    decision* operator->() noexcept { return &*decision_; }
    decision const* operator->() const noexcept { return &*decision_; }

private:
    friend wait_queue;
    template <class, class, class>
    friend class detail::waiter;
    explicit admission(wait_status s) noexcept : status_{s} {}
    admission(wait_status s, decision&& d) noexcept : status_{s}, decision_{std::in_place, std::move(d)} {}

    wait_status status_;
    std::optional<decision> decision_{};
};

template <class Limiter>
wait_queue(Limiter&) -> wait_queue<Limiter>;
template <class Limiter>
wait_queue(Limiter&, wait_queue_options) -> wait_queue<Limiter>;

}  // namespace weir::inline v0
