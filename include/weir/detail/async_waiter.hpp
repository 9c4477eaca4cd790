// SPDX-License-Identifier: MIT
//
// What the asynchronous verbs of the queues return.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "../wait/async_timer.hpp"
#include "waiter.hpp"

namespace weir::inline v0::detail {

/// What async_acquire returns: awaitable once, in the expression that made it. Where coroutines are not wanted,
/// ready(), start() and result() are what co_await does with it. It must stay where it is while it waits.
template <class Line, class Cost, class Timer, class Token>
class [[nodiscard("co_await it, or call ready(), start() and result()")]] async_waiter : waiter<Line, Cost, Token> {
    using base = waiter<Line, Cost, Token>;
    using node = waiter_node<typename Line::atomics>;

public:
    using admission = typename Line::admission;

    async_waiter(Line& line, Cost cost, Timer& timer, typename Line::time_point deadline, Token token,
                 queue_ticket* ticket = nullptr)
        : base{line,     std::move(cost),
               deadline, std::move(token),
               ticket,   [](node& p) { static_cast<async_waiter&>(p).timer_.wake(); }},
          timer_{timer} {}
    ~async_waiter() {
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
        if (thrown_) std::rethrow_exception(thrown_);
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
        this->fall_asleep();
        timer_.wait_until(this->until(), {[](void* p) { static_cast<async_waiter*>(p)->fired(); }, this});
        return false;
    }
    void fired() {
        armed_ = false;
        // What is thrown goes to the caller, not to the timer's executor.
        bool answered = false;
        if (std::exception_ptr thrown = caught([&] { answered = advance(); })) {
            this->abandon();
            on_stop_.reset();
            thrown_ = std::move(thrown);
        } else if (!answered) {
            return;
        }
        done_();
    }

    Timer& timer_;
    timer_callback done_;
    std::optional<typename stop_callback_for<Token, wake_timer>::type> on_stop_;
    bool armed_ = false;
    std::exception_ptr thrown_{};
};

}  // namespace weir::inline v0::detail
