// SPDX-License-Identifier: MIT
//
// A call through a session as a coroutine: session::run, where waiting holds no thread.
#pragma once

#include <coroutine>
#include <cstddef>
#include <optional>
#include <utility>

#include "../wait/async_timer.hpp"
#include "../wait/task.hpp"
#include "../wait/wait_queue.hpp"
#include "session.hpp"

namespace weir::inline v0::detail {

// An instant awaited by a timer, sooner where a stop is requested. A woken timer may end it early too.
template <class Timer, class TimePoint, class Token>
class timer_pause {
public:
    timer_pause(Timer& timer, TimePoint until, Token token) : timer_{timer}, until_{until}, token_{std::move(token)} {}
    timer_pause(timer_pause const&) = delete;
    timer_pause& operator=(timer_pause const&) = delete;
    ~timer_pause() {
        on_stop_.reset();
        if (armed_) timer_.cancel();
    }

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> h) {
        next_ = h;
        armed_ = true;
        on_stop_.emplace(token_, wake{&timer_});
        timer_.wait_until(until_, {[](void* p) { static_cast<timer_pause*>(p)->fired(); }, this});
        // It may have fired.
    }
    void await_resume() const noexcept {}

private:
    struct wake {
        Timer* timer;
        void operator()() const { timer->wake(); }
    };
    void fired() {
        armed_ = false;
        on_stop_.reset();
        next_.resume();
    }

    Timer& timer_;
    TimePoint until_;
    Token token_;
    std::coroutine_handle<> next_{};
    std::optional<typename stop_callback_for<Token, wake>::type> on_stop_{};
    bool armed_ = false;
};

}  // namespace weir::inline v0::detail

namespace weir::inline v0::llm {

/// session::run as a coroutine: the same steps, the same line, in which threads and coroutines stand together.
///
///     auto const end = co_await weir::llm::async_run(session, {.size = weir::llm::measure(prompt)}, [&](auto& call) -> weir::task<> {
///         auto r = co_await http.post(call.account().endpoint, call.key(), body(call.model()));
///         call.ended({.answer = {.dialect = dashscope, .status = r.status, .body = r.body}, .used = usage_in(r)});
///     }, timer);
///
/// `send(call&)` returns anything that a coroutine can await; it is kept until the call is over, so that a lambda that is a
/// coroutine may use its captures. All is taken by value into the frame, but the session and the timer (see
/// async_timer.hpp), which must outlive it. It resumes from the timer's executor, and from where what `send` returned resumes it:
/// one executor, which is a strand or one thread.
///
/// Destroyed while it waits or pauses it leaves no trace; while it sends, the attempt is held as lost, as it is when
/// `send` throws, which passes through. A stop that is requested ends a wait and a pause at once; an attempt that was let
/// go is not cut short: what send awaits is the sender's.
template <class Pool, std::size_t Classes, class Send, class Timer, class Observe = no_observer,
          stoppable_token Token = never_stop>
    requires async_timer<Timer, typename Pool::time_point>
task<typename session<Pool, Classes>::outcome> async_run(session<Pool, Classes>& s,
                                                         typename session<Pool, Classes>::request r, Send send,
                                                         Timer& timer, Observe observe = {}, Token token = {}) {
    typename session<Pool, Classes>::template drive<Observe, Token> d{s, r, observe, token};
    while (d.goes_on()) {
        if (auto const until = d.pause()) {
            weir::detail::timer_pause<Timer, typename Pool::time_point, Token> pause{timer, *until, token};
            co_await pause;
        } else {
            // Named, as temporaries of a co_await are not safe with every compiler.
            auto wait = d.wait(timer);
            auto const admission = co_await wait;
            if (!d.admitted(admission)) continue;
            auto&& sending = send(d.the_call());
            co_await std::forward<decltype(sending)>(sending);
            d.sent();
        }
    }
    co_return d.end();
}

}  // namespace weir::inline v0::llm
