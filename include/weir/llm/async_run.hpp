// SPDX-License-Identifier: MIT
//
// async_run: session::run as a coroutine, where waiting holds no thread.
#pragma once

#include <coroutine>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

#include "../wait/async_timer.hpp"
#include "../wait/task.hpp"
#include "../wait/wait_queue.hpp"
#include "session.hpp"
#include "session_reply.hpp"

namespace weir::inline v0::detail {

// Waits for a time by a timer, or until a stop is requested. A woken timer may end it early too.
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
        // Nothing of *this may be used now: the timer may have fired.
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

template <class T>
decltype(auto) awaiter_of(T&& t) {
    if constexpr (requires { static_cast<T&&>(t).operator co_await(); }) {
        return static_cast<T&&>(t).operator co_await();
    } else if constexpr (requires { operator co_await(static_cast<T&&>(t)); }) {
        return operator co_await(static_cast<T&&>(t));
    } else {
        return static_cast<T&&>(t);
    }
}

/// What `co_await` of a T gives.
template <class T>
using awaited_t = std::remove_cvref_t<decltype(awaiter_of(std::declval<T>()).await_resume())>;

}  // namespace weir::inline v0::detail

namespace weir::inline v0::llm {

/// session::run as a coroutine: the same steps and the same queue, in which threads and coroutines wait together.
///
///     auto send = [&](auto& call) -> weir::task<weir::llm::ended_attempt> {
///         auto r = co_await http.post(call.account().endpoint, call.key(), body(call.model()));
///         weir::llm::header_map const fields{r.headers};
///         co_return call.ended({
///             .answer = {.dialect = dashscope, .status = r.status, .headers = fields, .body = r.body},
///             .used = usage_in(r)});
///     };
///     auto const end = co_await weir::llm::async_run(session, {.size = weir::llm::measure(prompt)}, send, timer);
///
/// `send(call&)` returns anything whose co_await gives what call.ended(…), call.transport_failed(), call.cancelled() or
/// call.lost() returns. It is kept until the call is over, so that a lambda that is a coroutine may use its captures.
/// Everything is taken by value into the frame, except the session and the timer (see async_timer.hpp), which must
/// outlive it. It resumes from the timer's executor, and from where the awaitable of `send` resumes it: one executor,
/// which is a strand or one thread.
///
/// Destroyed while it waits or pauses, it leaves no trace. Destroyed while it sends, or where `send` throws (which
/// passes through), the attempt stays reserved until the server has given up. A requested stop ends a wait and a pause
/// at once; an attempt that was sent is not cut short: what `send` awaits is the sender's.
template <class Pool, std::size_t Classes, class Send, class Timer, class Observe = no_observer,
          stoppable_token Token = never_stop>
    requires async_timer<Timer, typename Pool::time_point>
[[nodiscard("a task does nothing until it is awaited")]] task<typename session<Pool, Classes>::outcome> async_run(
    session<Pool, Classes>& s, typename session<Pool, Classes>::request r, Send send, Timer& timer,
    Observe observe = {}, Token token = {}) {
    typename session<Pool, Classes>::template drive<Token> d{s, r, observe, token};
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
            static_assert(std::is_same_v<weir::detail::awaited_t<decltype(sending)>, ended_attempt>,
                          "co_await of what send returns must give what call.ended(reply), call.transport_failed(), "
                          "call.cancelled() or call.lost() returns: let send return task<ended_attempt>");
            ended_attempt const told = co_await std::forward<decltype(sending)>(sending);
            d.ended(told);
        }
    }
    co_return d.result();
}

}  // namespace weir::inline v0::llm
