// SPDX-License-Identifier: MIT
//
// Waiting for a limiter, in order of arrival. The first in line sleeps until its attempt can succeed, the others behind
// it sleep until it is their turn: nobody polls, nobody is overtaken, and no wake-up brings a stampede. Threads and
// coroutines may stand in one line.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <mutex>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../detail/mutex_of.hpp"
#include "../detail/parker.hpp"
#include "../limiter.hpp"
#include "async_timer.hpp"
#include "stop_token.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// How a wait ended.
enum class wait_status : std::uint8_t {
    granted,    ///< the permits are taken
    timed_out,  ///< the deadline came first
    too_late,  ///< refused at once: it could not have been granted before the deadline (wait_queue_options::refuse_too_late)
    stopped,    ///< the stop token said so
    line_full,  ///< as many were waiting as may
    never,      ///< more was asked for than the limiter can ever grant
};

constexpr std::string_view to_string(wait_status w) noexcept {
    switch (w) {
        case wait_status::granted: return "granted";
        case wait_status::timed_out: return "timed out";
        case wait_status::too_late: return "too late";
        case wait_status::stopped: return "stopped";
        case wait_status::line_full: return "line full";
        case wait_status::never: return "never";
    }
    return "unknown";
}

/// How many may wait, and what of those who could only be granted after their deadline.
struct wait_queue_options {
    std::size_t max_waiting = (std::numeric_limits<std::size_t>::max)();  ///< 0: nobody waits, an attempt succeeds or not
    /// Refuse at once who could be granted before the deadline only if permits came back (a refund, a settlement, a
    /// change of limits). Off by default, since they may.
    bool refuse_too_late = false;
};

/// When its holder arrived: kept over several waits in one line (or in the lines of one fair_queue class), it stands before all who arrived later. For
/// one whose call failed after it was served, and comes again. The first wait sets it; for one wait at a time.
class queue_ticket {
public:
    constexpr queue_ticket() noexcept = default;
    /// Whether it has been used.
    constexpr explicit operator bool() const noexcept { return arrival_ != 0; }

private:
    template <class, class, class>
    friend class wait_queue;
    std::uint64_t arrival_ = 0;
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// Numbers are permits, whatever their type; anything else is what it is.
template <class T>
constexpr decltype(auto) as_argument(T&& t) noexcept {
    if constexpr (std::integral<std::remove_cvref_t<T>>) {
        return static_cast<permits>(t);
    } else {
        return std::forward<T>(t);
    }
}

/// An attempt at a limiter: by a callable, or by its own verb.
template <class Limiter, class Cost>
typename Limiter::decision ask(Limiter& l, Cost& cost) {
    if constexpr (std::invocable<Cost&, Limiter&>) {
        return cost(l);
    } else {
        return l.try_acquire(as_argument(std::as_const(cost)));
    }
}

/// A place in a line, on the stack of whoever waits, or in its coroutine's frame.
struct waiter_node {
    explicit waiter_node(void (*w)(waiter_node&)) noexcept : wake{w} {}
    waiter_node(waiter_node const&) = delete;
    waiter_node& operator=(waiter_node const&) = delete;

    void (*wake)(waiter_node&);  // called with the queue's mutex held
    waiter_node* previous = nullptr;
    waiter_node* next = nullptr;
    std::uint64_t arrival = 0;  // 0: when it joins
    bool queued = false;
};

/// Places in order of arrival.
struct waiter_list {
    waiter_node* first = nullptr;
    waiter_node* last = nullptr;

    /// O(1) for who arrives; who comes again passes the others who did, and arrived before him.
    void insert(waiter_node& p) noexcept {
        waiter_node* after = last;
        if (after != nullptr && after->arrival > p.arrival) {
            after = nullptr;
            for (waiter_node* q = first; q->arrival <= p.arrival; q = q->next) after = q;
        }
        p.previous = after;
        p.next = after != nullptr ? after->next : first;
        (p.next != nullptr ? p.next->previous : last) = &p;
        (after != nullptr ? after->next : first) = &p;
        p.queued = true;
    }
    void erase(waiter_node& p) noexcept {
        (p.previous != nullptr ? p.previous->next : first) = p.next;
        (p.next != nullptr ? p.next->previous : last) = p.previous;
        p.queued = false;
    }
};

/// Numbers of arrival, the next of them for who joins. Who is served without joining takes the last that was given: all who wait
/// when he comes again have joined since, and stand behind him. Relaxed: a count; what orders two arrivals orders their numbers, by coherence.
template <class Atomics>
class arrivals {
public:
    std::uint64_t last() const noexcept { return last_.load(std::memory_order_relaxed); }
    void number(waiter_node& p) noexcept {
        if (p.arrival == 0) p.arrival = last_.fetch_add(1, std::memory_order_relaxed) + 1;
    }

private:
    typename Atomics::template atomic<std::uint64_t> last_{1};
};

/// The order of those who wait: first come, first served. Everything is O(1) and a few instructions under a mutex, but
/// for who comes again (see waiter_list::insert): a holder that is suspended delays those who join and leave, not an attempt that meets an empty line, nor any direct user
/// of the limiter.
template <class Atomics>
class fifo_waiters {
public:
    static constexpr bool by_shares = false;  // else what is granted and given back is told to served() and gave_back()

    /// Whether nobody waits. Relaxed: who has learnt of another's joining, by whatever means, sees it by coherence; to
    /// all others the joining is concurrent, and either order is the order of arrival.
    bool empty() const noexcept { return length_.load(std::memory_order_relaxed) == 0; }
    std::size_t length() const noexcept { return length_.load(std::memory_order_relaxed); }

    bool join(waiter_node& p, std::size_t most) {
        std::lock_guard const lock{mutex_};
        if (length() >= most) return false;
        // It needs no waking when that makes it first; whom it displaces finds out when it wakes.
        arrivals_.number(p);
        places_.insert(p);
        length_.fetch_add(1, std::memory_order_relaxed);
        return true;
    }

    /// Leaves the line; when it was the first, the next is woken.
    void leave(waiter_node& p) {
        std::lock_guard const lock{mutex_};
        bool const was_first = places_.first == &p;
        places_.erase(p);
        length_.fetch_sub(1, std::memory_order_relaxed);
        if (was_first) wake();
    }

    bool is_first(waiter_node const& p) const {
        std::lock_guard const lock{mutex_};
        return places_.first == &p;
    }
    /// The number of one who is served without joining.
    std::uint64_t arrival() const noexcept { return arrivals_.last(); }
    /// Whether somebody goes before one who joins now, where the line was not empty.
    bool is_behind(waiter_node const& p) const {
        if (p.arrival == 0) return true;
        std::lock_guard const lock{mutex_};
        return places_.first != nullptr && places_.first->arrival <= p.arrival;
    }

    /// Takes the mutex even when the line looks empty: who joins after this attempts after it and sees what it brought.
    void wake_first() {
        std::lock_guard const lock{mutex_};
        wake();
    }

private:
    void wake() {
        if (places_.first != nullptr) places_.first->wake(*places_.first);
    }

    mutable typename mutex_of<Atomics>::type mutex_;
    waiter_list places_;
    arrivals<Atomics> arrivals_;
    typename Atomics::template atomic<std::size_t> length_{0};
};

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// A line in front of a limiter, which it refers to and which must outlive it. First come, first served, large attempts
/// included: while anybody waits, a newcomer queues, though the limiter would grant it, so that a stream of small
/// attempts does not starve a large one.
///
///     weir::wait_queue line{bucket};
///     line.acquire(10);                                             // sleeps until there are ten
///     if (auto a = line.try_acquire_for(1, 100ms)) use(*a);         // *a is the limiter's decision
///     else log(to_string(a.why()));
///
/// Who failed after he was served, and comes again, keeps his place by a queue_ticket: he stands before all who arrived after he first did.
///
/// What is asked for ("cost") is whatever the limiter's try_acquire takes: a number of permits, a type of its own, or
/// for anything else a callable that takes the limiter and returns its decision. All sleeping is done by the limiter's
/// clock (see parker.hpp). The one who is served makes the attempt itself when it runs, so that the time of the
/// grant is its own.
///
/// Permits that come back otherwise than by time must be told to the line, lest the first sleep on: give them back
/// through the line's refund, settle and change, or call notify(). Whoever asks the limiter past the line overtakes it,
/// harmlessly otherwise: the first sees its attempt denied and sleeps again.
///
/// A mutex guards the order, on purpose: who waits, sleeps anyway. It is held for O(1) steps, in which no limiter and
/// no clock is called; nothing is allocated. An attempt that meets an empty line takes no lock: it costs a relaxed load
/// and the limiter's own attempt, whose decision is then copied into the admission (68 ns against 36 on an AMD EPYC).
/// What the lock can delay: a thread that stands still while it holds it keeps the others from joining, leaving and giving
/// back through the line. Who asks the limiter itself, or gives back past the line, never meets it.
///
/// Atomics: see policy.hpp; where it names a mutex, that is taken in place of std::mutex.
/// Queue: who is next. Several lines in front of one limiter, each with its share: fair_queue.hpp.
template <class Limiter, class Atomics = std_atomics, class Queue = detail::fifo_waiters<Atomics>>
class wait_queue {
public:
    using limiter_type = Limiter;
    using decision = typename Limiter::decision;
    using time_point = typename Limiter::time_point;
    using duration = typename Limiter::duration;
    class admission;
    template <class Cost, class Timer, class Token>
    class async_wait;

    constexpr explicit wait_queue(Limiter& limiter, wait_queue_options options = {}) noexcept
        : limiter_{limiter}, options_{options} {}
    /// With a queue that is not made from nothing.
    constexpr wait_queue(Limiter& limiter, wait_queue_options options, Queue const& queue) noexcept
        : limiter_{limiter}, options_{options}, queue_{queue} {}
    wait_queue(wait_queue const&) = delete;
    wait_queue& operator=(wait_queue const&) = delete;
    /// Nobody may be waiting.
    ~wait_queue() = default;

    /// Waits as long as it takes. Not granted only when stopped, the line is full, or never.
    template <class Cost = permits, stoppable_token Token = never_stop>
    admission acquire(Cost cost = Cost{1}, Token token = {}) {
        return wait(std::move(cost), (time_point::max)(), std::move(token));
    }
    /// The same for one who comes again, as the ticket says; likewise below.
    template <class Cost, stoppable_token Token = never_stop>
    admission acquire(Cost cost, queue_ticket& ticket, Token token = {}) {
        return wait(std::move(cost), (time_point::max)(), std::move(token), &ticket);
    }

    /// Does not wait: granted only if nobody else waits and the limiter grants. timed_out when it does not.
    template <class Cost = permits>
    admission try_acquire(Cost cost = Cost{1}) {
        return wait(std::move(cost), (time_point::min)(), never_stop{});
    }

    /// Waits for `d` at most; not at all when `d` is not positive.
    template <class Cost, stoppable_token Token = never_stop>
    admission try_acquire_for(Cost cost, duration d, Token token = {}) {
        return wait(std::move(cost), from_now(d), std::move(token));
    }

    /// Waits until `deadline` at most. The first in line tries once more when it wakes at the deadline, so a grant may
    /// come later than it by as much as the thread woke late.
    template <class Cost, stoppable_token Token = never_stop>
    admission try_acquire_until(Cost cost, time_point deadline, Token token = {}) {
        return wait(std::move(cost), deadline, std::move(token));
    }
    template <class Cost, stoppable_token Token = never_stop>
    admission try_acquire_until(Cost cost, time_point deadline, queue_ticket& ticket, Token token = {}) {
        return wait(std::move(cost), deadline, std::move(token), &ticket);
    }

    /// The same for coroutines: `co_await line.async_acquire(cost, timer)` gives an admission. The wait stands in the
    /// same line as threads do. It resumes from the timer's executor, or goes on at once where it need not wait. The
    /// timer is referred to. A coroutine destroyed while it waits leaves no trace; it must be destroyed where the timer
    /// fires.
    template <class Cost, class Timer, stoppable_token Token = never_stop>
        requires async_timer<Timer, time_point>
    async_wait<Cost, Timer, Token> async_acquire(Cost cost, Timer& timer, Token token = {}) {
        return {*this, std::move(cost), timer, (time_point::max)(), std::move(token)};
    }
    template <class Cost, class Timer, stoppable_token Token = never_stop>
        requires async_timer<Timer, time_point>
    async_wait<Cost, Timer, Token> async_try_acquire_for(Cost cost, duration d, Timer& timer, Token token = {}) {
        return {*this, std::move(cost), timer, from_now(d), std::move(token)};
    }
    template <class Cost, class Timer, stoppable_token Token = never_stop>
        requires async_timer<Timer, time_point>
    async_wait<Cost, Timer, Token> async_try_acquire_until(Cost cost, time_point deadline, Timer& timer,
                                                           Token token = {}) {
        return {*this, std::move(cost), timer, deadline, std::move(token)};
    }
    /// The ticket is referred to.
    template <class Cost, class Timer, stoppable_token Token = never_stop>
        requires async_timer<Timer, time_point>
    async_wait<Cost, Timer, Token> async_try_acquire_until(Cost cost, time_point deadline, Timer& timer,
                                                           queue_ticket& ticket, Token token = {}) {
        return {*this, std::move(cost), timer, deadline, std::move(token), &ticket};
    }

    /// The limiter's own verbs; afterwards the first in line tries anew. After a change of limits that leaves no room
    /// for somebody further back, that one learns it when its turn comes.
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
    auto settle(Args&&... args) {
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

    /// Something else has made permits available: the first in line tries anew. O(1), from any thread.
    void notify() { queue_.wake_first(); }

    /// How many wait. A moment's view.
    std::size_t waiting() const noexcept { return queue_.length(); }
    Limiter& limiter() const noexcept { return limiter_; }
    wait_queue_options const& options() const noexcept { return options_; }

private:
    template <class Cost, class Token>
    class place;
    template <class Cost, class Token>
    class thread_waiter;

    time_point from_now(duration d) const {
        if (d <= duration::zero()) return (time_point::min)();
        constexpr std::int64_t end = (std::numeric_limits<typename duration::rep>::max)();
        auto const t = detail::saturating_add(detail::ticks(time_point{limiter_.clock().now()}), d.count());
        return time_point{duration{static_cast<typename duration::rep>((std::min)(t, end))}};
    }

    template <class Cost, class Token>
    admission wait(Cost cost, time_point deadline, Token token, queue_ticket* ticket = nullptr) {
        // The common case by itself, so that it costs no more than it must.
        std::optional<decision> denied;
        if (!token.stop_requested() && queue_.empty()) {
            arrival const now{queue_, ticket};
            decision d = detail::ask(limiter_, cost);
            if (d) {
                now.keep();
                return admission{wait_status::granted, std::move(d)};
            }
            denied.emplace(std::move(d));
        }
        thread_waiter<Cost, Token> self{*this, std::move(cost), deadline, std::move(token), ticket};
        if (!(denied ? self.settled_by(std::move(*denied)) : self.settled_at_once())) self.sleep();
        return std::move(self).result();
    }

    // Of one who meets an empty line: kept where he is served, else he has a number when he joins.
    class arrival {
    public:
        arrival(Queue const& q, queue_ticket* ticket) noexcept
            : ticket_{ticket == nullptr || *ticket ? nullptr : ticket}, number_{ticket_ == nullptr ? 0 : q.arrival()} {}
        void keep() const noexcept {
            if (ticket_ != nullptr) ticket_->arrival_ = number_;
        }

    private:
        queue_ticket* ticket_;
        std::uint64_t number_;
    };

    Limiter& limiter_;
    wait_queue_options options_;
    Queue queue_;
};

/// How a wait ended, and the limiter's decision: the grant, or, with wait_status::never, the denial.
template <class Limiter, class Atomics, class Queue>
class [[nodiscard]] wait_queue<Limiter, Atomics, Queue>::admission {
public:
    explicit operator bool() const noexcept { return why_ == wait_status::granted; }
    bool granted() const noexcept { return why_ == wait_status::granted; }
    wait_status why() const noexcept { return why_; }

    /// There is none unless granted or never.
    bool has_decision() const noexcept { return decision_.has_value(); }
    decision& operator*() noexcept { return *decision_; }
    decision const& operator*() const noexcept { return *decision_; }
    decision* operator->() noexcept { return &*decision_; }
    decision const* operator->() const noexcept { return &*decision_; }

private:
    friend wait_queue;
    explicit admission(wait_status why) noexcept : why_{why} {}
    admission(wait_status why, decision&& d) noexcept : why_{why}, decision_{std::in_place, std::move(d)} {}

    wait_status why_;
    std::optional<decision> decision_;
};

// What threads and coroutines have in common: a place in the line and the steps from it to an admission.
template <class Limiter, class Atomics, class Queue>
template <class Cost, class Token>
class wait_queue<Limiter, Atomics, Queue>::place : public detail::waiter_node {
public:
    place(wait_queue& line, Cost cost, time_point deadline, Token token, queue_ticket* ticket,
          void (*waker)(waiter_node&))
        : waiter_node{waker},
          line_{line},
          cost_{std::move(cost)},
          deadline_{deadline},
          token_{std::move(token)},
          ticket_{ticket} {
        if (ticket_ != nullptr) arrival = ticket_->arrival_;
    }
    // Out of the line, where an exception or a destroyed coroutine ends the wait: what derives from this calls it
    // before it destroys what wake() uses.
    void abandon() {
        if (queued) line_.queue_.leave(*this);
    }

    // Whether there is an answer without queuing.
    bool settled_at_once() {
        if (token_.stop_requested()) return ends(wait_status::stopped);
        if (line_.queue_.empty()) {
            typename wait_queue::arrival const now{line_.queue_, ticket_};
            bool const settled = settled_by(detail::ask(line_.limiter_, cost_));
            if (why_ == wait_status::granted) now.keep();
            return settled;
        }
        return looked() || (line_.queue_.is_behind(*this) && out_of_time());
    }
    // The same, where the limiter has been asked.
    bool settled_by(decision&& d) { return answered(std::move(d)) || out_of_time(); }

    bool join() {
        pause_ = {};
        if (line_.queue_.join(*this, line_.options_.max_waiting)) {
            if (ticket_ != nullptr) ticket_->arrival_ = arrival;
            return true;
        }
        ends(wait_status::line_full);
        return false;
    }

    // One turn: true when there is an answer, and the place in the line is given up; else sleep until `until()` or
    // woken.
    bool step() {
        if (token_.stop_requested()) return leaves(wait_status::stopped);
        bool const first = line_.queue_.is_first(*this);
        // Read before the attempt: whoever is woken at the deadline has tried at or after it.
        bool const last = deadline_ != (time_point::max)() && expired();
        if (first && answered(detail::ask(line_.limiter_, cost_))) {
            if constexpr (Queue::by_shares) {
                if (why_ == wait_status::granted) {
                    line_.queue_.served(*this, line_.limiter_, cost_, *decision_);
                    return true;
                }
            }
            line_.queue_.leave(*this);
            return true;
        }
        if (last) return leaves(wait_status::timed_out);
        until_ = first ? (std::min)(retry_at_, deadline_) : deadline_;
        return false;
    }

    time_point until() const noexcept { return until_; }
    admission result() && { return decision_ ? admission{why_, std::move(*decision_)} : admission{why_}; }

private:
    bool ends(wait_status why) noexcept {
        why_ = why;
        return true;
    }
    bool leaves(wait_status why) {
        line_.queue_.leave(*this);
        return ends(why);
    }
    bool expired() const { return time_point{line_.limiter_.clock().now()} >= deadline_; }

    bool out_of_time() { return deadline_ != (time_point::max)() && expired() && ends(wait_status::timed_out); }

    // Takes the limiter's answer: true when that settles it; else retry_at_ is set.
    bool answered(decision&& d) {
        if (d) {
            decision_.emplace(std::move(d));
            return ends(wait_status::granted);
        }
        bool const by_time = d.retry_after() > duration::zero();
        if (denied_for_good(std::move(d))) return true;
        if (by_time) {
            pause_ = {};
            return false;
        }
        // Denied, and yet nothing to wait for by the clock: the attempt lost a race, or waits for something in flight.
        // The line is told when that ends; where it is not, look again now and then.
        using std::chrono::ceil;
        pause_ = std::clamp(pause_ * 2, ceil<duration>(std::chrono::microseconds{100}),
                            ceil<duration>(std::chrono::milliseconds{10}));
        retry_at_ = line_.limiter_.clock().now() + pause_;
        return false;
    }

    // Somebody waits already, and must not be overtaken; but what can never be granted, or not in time, need not queue.
    bool looked() {
        if constexpr (!std::invocable<Cost&, Limiter&>) {
            if constexpr (requires(Limiter& l, Cost const& c) { l.check(detail::as_argument(c)); }) {
                return denied_for_good(line_.limiter_.check(detail::as_argument(std::as_const(cost_))));
            }
        }
        return false;
    }

    bool denied_for_good(decision&& d) {
        if (d) return false;
        if (d.never()) {
            decision_.emplace(std::move(d));
            return ends(wait_status::never);
        }
        retry_at_ = d.retry_at();
        return line_.options_.refuse_too_late && retry_at_ > deadline_ && deadline_ != (time_point::min)() &&
               ends(wait_status::too_late);
    }

protected:
    wait_queue& line_;
    Cost cost_;
    time_point deadline_;
    Token token_;

private:
    queue_ticket* ticket_;
    time_point until_{};
    time_point retry_at_{};
    duration pause_{};
    std::optional<decision> decision_;
    wait_status why_ = wait_status::timed_out;
};

template <class Limiter, class Atomics, class Queue>
template <class Cost, class Token>
class wait_queue<Limiter, Atomics, Queue>::thread_waiter : public place<Cost, Token> {
    using base = place<Cost, Token>;

public:
    thread_waiter(wait_queue& line, Cost cost, time_point deadline, Token token, queue_ticket* ticket)
        : base{line,     std::move(cost),
               deadline, std::move(token),
               ticket,   [](detail::waiter_node& p) { static_cast<thread_waiter&>(p).seat_->notify(); }} {}

    ~thread_waiter() { this->abandon(); }

    void sleep() {
        struct notify {
            parker* seat;
            void operator()() const { seat->notify(); }
        };
        seat_.emplace();
        // Before joining, since it may call back at once, and what it does takes a lock.
        typename stop_callback_for<Token, notify>::type const on_stop{this->token_, notify{&*seat_}};
        if (!this->join()) return;
        while (!this->step()) weir::wait_until(this->line_.limiter_.clock(), *seat_, this->until());
    }

private:
    // Notified with the queue's mutex held, which this thread takes to leave: so the seat outlives the notification.
    std::optional<parker> seat_;  // none before it is needed: making one is not free
};

/// What async_acquire returns: awaitable once, in the expression that made it. Where coroutines are not wanted,
/// ready(), start() and result() are what co_await does with it: while it is waited for it must stay where it is.
template <class Limiter, class Atomics, class Queue>
template <class Cost, class Timer, class Token>
class [[nodiscard]] wait_queue<Limiter, Atomics, Queue>::async_wait : place<Cost, Token> {
    using base = place<Cost, Token>;

public:
    async_wait(wait_queue& line, Cost cost, Timer& timer, time_point deadline, Token token,
               queue_ticket* ticket = nullptr)
        : base{line,     std::move(cost),
               deadline, std::move(token),
               ticket,   [](detail::waiter_node& p) { static_cast<async_wait&>(p).timer_.wake(); }},
          timer_{timer} {}
    ~async_wait() {
        this->abandon();
        on_stop_.reset();
        if (armed_) timer_.cancel();
    }

    /// Whether the answer is there without waiting.
    bool ready() { return this->settled_at_once(); }

    /// Begins to wait; `done` is called from the timer's executor when the answer is there. False, and `done` is not
    /// called, when it is there already.
    bool start(timer_callback done) {
        done_ = done;
        on_stop_.emplace(this->token_, wake_timer{&timer_});
        if (!this->join()) {
            on_stop_.reset();
            return false;
        }
        return !advance();
    }

    /// Throws what the limiter, or the cost where it is a callable, threw at an attempt.
    admission result() {
#if defined(__cpp_exceptions)
        if (thrown_) std::rethrow_exception(thrown_);
#endif
        return std::move(static_cast<base&>(*this)).result();
    }

    bool await_ready() { return ready(); }
    bool await_suspend(std::coroutine_handle<> h) {
        return start({[](void* p) { std::coroutine_handle<>::from_address(p).resume(); }, h.address()});
    }
    admission await_resume() { return result(); }

private:
    struct wake_timer {
        Timer* timer;
        void operator()() const { timer->wake(); }
    };

    // True when there is an answer. Else the timer is armed, and nothing of *this may be touched: it may have fired.
    bool advance() {
        if (this->step()) {
            on_stop_.reset();
            return true;
        }
        armed_ = true;
        timer_.wait_until(this->until(), {[](void* p) { static_cast<async_wait*>(p)->fired(); }, this});
        return false;
    }
    void fired() {
        armed_ = false;
#if defined(__cpp_exceptions)
        try {
            if (!advance()) return;
        } catch (...) {
            // Of the caller's, not of the timer's executor; and the next has its turn.
            thrown_ = std::current_exception();
            this->abandon();
            on_stop_.reset();
        }
        done_();
#else
        if (advance()) done_();
#endif
    }

    Timer& timer_;
    timer_callback done_;
    std::optional<typename stop_callback_for<Token, wake_timer>::type> on_stop_;
    bool armed_ = false;
#if defined(__cpp_exceptions)
    std::exception_ptr thrown_{};
#endif
};

}  // namespace weir::inline v0

#pragma pop_macro("check")
