// SPDX-License-Identifier: MIT
//
// A waiter: its place in the queue, and the steps from there to an admission. Threads and coroutines take the same
// steps.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "../limiter.hpp"
#include "../wait/stop_token.hpp"
#include "../wait/wait_status.hpp"
#include "blocking.hpp"
#include "caught.hpp"
#include "parker.hpp"
#include "waiter_list.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0::detail {

/// A number is a count of permits, whatever its type; anything else is what it is.
template <class T>
constexpr decltype(auto) as_argument(T&& t) noexcept {
    if constexpr (std::is_arithmetic_v<std::remove_cvref_t<T>>) {
        return permit_count{t};
    } else {
        return std::forward<T>(t);
    }
}

/// An attempt at a limiter: by a callable, or by the limiter's own verb.
template <class Limiter, class Cost>
typename Limiter::decision ask(Limiter& l, Cost& cost) {
    if constexpr (std::invocable<Cost&, Limiter&>) {
        return cost(l);
    } else {
        return l.try_acquire(as_argument(std::as_const(cost)));
    }
}

/// An attempt that meets an idle queue. Its ticket is set when it is served; else it gets a number when it joins.
template <class Queue>
class first_attempt {
public:
    first_attempt(Queue const& q, queue_ticket* ticket) noexcept
        : ticket_{ticket == nullptr || *ticket ? nullptr : ticket}, number_{ticket_ == nullptr ? 0 : q.arrival()} {}
    void keep() const noexcept {
        if (ticket_ != nullptr) ticket_->arrival_ = number_;
    }

private:
    queue_ticket* ticket_;
    std::uint64_t number_;
};

/// `Line` is a wait_queue.
template <class Line, class Cost, class Token>
class waiter : public waiter_node<typename Line::atomics> {
    using node = waiter_node<typename Line::atomics>;

protected:
    using queue_type = typename Line::queue_type;
    using limiter_type = typename Line::limiter_type;
    using decision = typename Line::decision;
    using time_point = typename Line::time_point;
    using duration = typename Line::duration;
    using admission = typename Line::admission;

public:
    waiter(Line& line, Cost cost, time_point deadline, Token token, queue_ticket* ticket, void (*waker)(node&))
        : node{waker},
          line_{line},
          cost_{std::move(cost)},
          deadline_{deadline},
          token_{std::move(token)},
          ticket_{ticket} {
        if (ticket_ != nullptr) this->arrival = ticket_->arrival_;
    }
    // Out of the queue, where an exception or a destroyed coroutine ends the wait. What derives from this calls it
    // before it destroys what wake() uses.
    void abandon() {
        if (this->queued && this->wake_up()) line_.queue_.leave(*this);
    }

    // Whether there is an answer without queuing.
    bool settled_at_once() {
        if (token_.stop_requested()) return ends(wait_status::stopped);
        if (line_.queue_.closed()) return ends(wait_status::closed);
        if (line_.queue_.idle()) {
            first_attempt<queue_type> const now{line_.queue_, ticket_};
            bool const settled = settled_by(ask(line_.limiter_, cost_));
            if (status_ == wait_status::granted) now.keep();
            return settled;
        }
        return looked() || (line_.queue_.is_behind(*this) && out_of_time());
    }
    // The same, where the limiter has been asked.
    bool settled_by(decision&& d) { return answered(std::move(d)) || out_of_time(); }

    bool join() {
        pause_ = {};
        if (line_.queue_.join(*this, line_.options_.max_waiting)) {
            if (ticket_ != nullptr) ticket_->arrival_ = this->arrival;
            return true;
        }
        ends(line_.queue_.closed() ? wait_status::closed : wait_status::queue_full);
        return false;
    }

    // One turn: true when there is an answer, and the entry in the queue is given up; else sleep until `until()` or
    // woken.
    bool step() {
        if (!this->wake_up()) return ends(wait_status::closed);
        if (token_.stop_requested()) return leaves(wait_status::stopped);
        if (line_.queue_.closed()) return leaves(wait_status::closed);
        bool const first = line_.queue_.is_first(*this);
        // Read before the attempt: a waiter that is woken at the deadline has tried at or after it.
        bool const last = deadline_ != (time_point::max)() && expired();
        bool has_alarm = first;
        if (first) {
            decision d = ask(line_.limiter_, cost_);
            [[maybe_unused]] bool shared = false;
            if constexpr (queue_type::by_turns) shared = line_.queue_.denied_by_shared(line_.limiter_, d);
            if (answered(std::move(d))) {
                if constexpr (queue_type::by_shares) {
                    if (status_ == wait_status::granted) {
                        line_.queue_.served(*this, line_.limiter_, cost_, *decision_);
                        return true;
                    }
                }
                line_.queue_.leave(*this);
                return true;
            }
            if constexpr (queue_type::by_turns) {
                has_alarm = line_.queue_.denied(*this, shared, retry_at_, time_point{line_.limiter_.clock().now()});
            }
        }
        if (last) return leaves(wait_status::timed_out);
        until_ = has_alarm ? (std::min)(retry_at_, deadline_) : deadline_;
        return false;
    }

    time_point until() const noexcept { return until_; }
    admission result() && { return decision_ ? admission{status_, std::move(*decision_)} : admission{status_}; }

private:
    bool ends(wait_status s) noexcept {
        status_ = s;
        return true;
    }
    bool leaves(wait_status s) {
        line_.queue_.leave(*this);
        return ends(s);
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
        // Denied, and yet nothing to wait for by the clock: the attempt lost a race, or waits for a call in flight.
        // The queue is told when that ends; where it is not, look again now and then.
        pause_ = next_pause(pause_);
        retry_at_ = saturating_add(time_point{line_.limiter_.clock().now()}, pause_);
        return false;
    }

    // Other calls wait, and must not be overtaken; but what can never be granted, or not in time, need not queue.
    bool looked() {
        if constexpr (!std::invocable<Cost&, limiter_type&>) {
            if constexpr (requires(limiter_type& l, Cost const& c) { l.check(as_argument(c)); }) {
                return denied_for_good(line_.limiter_.check(as_argument(std::as_const(cost_))));
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
    Line& line_;
    Cost cost_;
    time_point deadline_;
    Token token_;

private:
    queue_ticket* ticket_;
    time_point until_{};
    time_point retry_at_{};
    duration pause_{};
    std::optional<decision> decision_{};
    wait_status status_ = wait_status::timed_out;
};

template <class Line, class Cost, class Token>
class thread_waiter : public waiter<Line, Cost, Token> {
    using base = waiter<Line, Cost, Token>;
    using node = waiter_node<typename Line::atomics>;

public:
    thread_waiter(Line& line, Cost cost, typename Line::time_point deadline, Token token, queue_ticket* ticket)
        : base{line,     std::move(cost),
               deadline, std::move(token),
               ticket,   [](node& p) { static_cast<thread_waiter&>(p).parker_->notify(); }} {}
    ~thread_waiter() { this->abandon(); }

    void sleep() {
        parker_.emplace();
        // Before joining, since it may call back at once, and what it does takes a lock.
        typename stop_callback_for<Token, notify_parker>::type const on_stop{this->token_, notify_parker{&*parker_}};
        if (!this->join()) return;
        std::exception_ptr const thrown = caught([this] {
            while (!this->step()) weir::wait_until(this->line_.limiter_.clock(), *parker_, this->until());
        });
        if (!thrown) return;
        this->abandon();
        std::rethrow_exception(thrown);
    }

private:
    // Notified with the queue's mutex held, which this thread takes to leave: so the parker outlives the
    // notification.
    std::optional<parker> parker_{};  // none before it is needed: making one is not free
};

}  // namespace weir::inline v0::detail

#pragma pop_macro("check")
