// SPDX-License-Identifier: MIT
//
// session::drive: a call on its way through the session's queue, whatever sleeps and sends; and session::run, where
// that is the calling thread. Part of session.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "../../detail/parker.hpp"
#include "../../wait/wait_queue.hpp"
#include "../limit_kind.hpp"
#include "../session.hpp"
#include "../session_reply.hpp"
#include "session_call.hpp"

namespace weir::inline v0::detail {

/// Refers to a function that observes.
template <class Progress>
class observer_ref {
public:
    template <class F>
        requires(!std::is_same_v<std::remove_cv_t<F>, observer_ref>)
    explicit observer_ref(F& f) noexcept
        : object_{const_cast<void*>(static_cast<void const*>(std::addressof(f)))},
          call_{[](void* o, Progress const& p) { (*static_cast<F*>(o))(p); }} {}
    void operator()(Progress const& p) const { call_(object_, p); }

private:
    void* object_;
    void (*call_)(void*, Progress const&);
};

}  // namespace weir::inline v0::detail

namespace weir::inline v0::llm {

/// What run() and async_run() have in common. They add how to sleep and how to send, as may others:
///
///     session_type::drive<Token> d{session, request, observe, token};
///     while (d.goes_on()) {
///         if (auto const t = d.pause()) …              // sleep until *t, or until a stop is requested
///         else if (d.wait()) d.ended(send(d.the_call()));
///     }
///     return d.result();
///
/// The observer is referred to. It does not move.
template <class Pool, std::size_t Classes>
template <class Token>
class session<Pool, Classes>::drive {
public:
    template <class Observe>
    drive(session& s, request const& r, Observe& observe, Token token) : drive{s, r, observer{observe}, token} {}
    drive(drive const&) = delete;
    drive& operator=(drive const&) = delete;

    bool goes_on();
    /// The end of its pause, if it has one: it needs no place in the queue.
    std::optional<time_point> pause();
    /// Sleeps until then, or until a stop is requested.
    void sleep_until(time_point t);
    /// Waits in the queue. True: it is to be sent now.
    bool wait();
    /// The same as a coroutine: co_await it, and give the admission to admitted().
    template <class Timer>
    auto wait(Timer& timer) {
        joins();
        return queue().async_try_acquire_until(attempt{this}, call_.request_.deadline, timer, ticket_, token_);
    }
    template <class Admission>
    bool admitted(Admission const& a) {
        return takes(a.status(), a ? a->counted_in() : 0);
    }
    call& the_call() noexcept { return call_; }
    /// The sender has returned.
    void ended(ended_attempt) { sent(); }
    void sent();
    outcome const& result();

private:
    using observer = weir::detail::observer_ref<progress>;
    // What the queue asks: an attempt of the call, by its own time.
    struct attempt {
        drive* d;
        decision operator()(gate&) const { return d->asks(); }
    };
    drive(session& s, request const& r, observer observe, Token token);

    auto& queue() { return session_.queues_[call_.request_.fair_class]; }
    void joins();
    decision asks();
    bool takes(wait_status status, std::uint64_t counted_in);
    void see(step const& s) { observe_(progress{s, call_.result(), call_.begun()}); }

    session& session_;
    observer observe_;
    Token token_;
    call call_;
    queue_ticket ticket_{};               // its position
    limit_kind told_ = limit_kind::none;  // what it waits for, as the observer knows
    time_point paused_until_ = (time_point::min)();
};

template <class Pool, std::size_t Classes>
template <class Token>
session<Pool, Classes>::drive<Token>::drive(session& s, request const& r, observer observe, Token token)
    : session_{s}, observe_{observe}, token_{std::move(token)}, call_{s, r} {}

template <class Pool, std::size_t Classes>
template <class Token>
bool session<Pool, Classes>::drive<Token>::goes_on() {
    if (!call_.over() && token_.stop_requested()) call_.give_up(call_end::stopped);
    return !call_.over();
}

template <class Pool, std::size_t Classes>
template <class Token>
auto session<Pool, Classes>::drive<Token>::pause() -> std::optional<time_point> {
    time_point const until = (std::min)(call_.pause_until_, call_.request_.deadline);
    if (session_.clock().now() >= until) return std::nullopt;
    if (std::exchange(paused_until_, until) != until)
        see({step_kind::pause, until, limit_kind::backoff, call_.outcome_.last.reason});
    return until;
}

template <class Pool, std::size_t Classes>
template <class Token>
void session<Pool, Classes>::drive<Token>::sleep_until(time_point t) {
    parker p;
    struct wake {
        parker* p;
        void operator()() const { p->notify(); }
    };
    [[maybe_unused]] typename stop_callback_for<Token, wake>::type const on_stop{token_, wake{&p}};
    weir::wait_until(session_.clock(), p, t);
}

template <class Pool, std::size_t Classes>
template <class Token>
bool session<Pool, Classes>::drive<Token>::wait() {
    joins();
    return admitted(queue().try_acquire_until(attempt{this}, call_.request_.deadline, ticket_, token_));
}

template <class Pool, std::size_t Classes>
template <class Token>
void session<Pool, Classes>::drive<Token>::sent() {
    if (call_.in_flight()) call_.lost();
    // A caller that cancelled its turn goes behind the others: else it could keep them waiting without end.
    if (call_.cancelled_) ticket_ = {};
}

template <class Pool, std::size_t Classes>
template <class Token>
auto session<Pool, Classes>::drive<Token>::result() -> outcome const& {
    see({step_kind::over, session_.clock().now(), call_.outcome_.limit, call_.outcome_.reason});
    return call_.outcome_;
}

template <class Pool, std::size_t Classes>
template <class Token>
void session<Pool, Classes>::drive<Token>::joins() {
    told_ = limit_kind::none;
    if (session_.waiting() == 0) return;
    told_ = call_.waits_for_ = limit_kind::queue;
    see({step_kind::wait, call_.request_.deadline, told_, to_string(told_)});
}

template <class Pool, std::size_t Classes>
template <class Token>
auto session<Pool, Classes>::drive<Token>::asks() -> decision {
    decision const d = call_.ask(session_.clock().now());
    if (!d && !call_.over() && !d.never() && call_.waits_for_ != told_) {
        told_ = call_.waits_for_;
        see({step_kind::wait, (std::min)(d.retry_at(), call_.request_.deadline), told_, to_string(told_)});
    }
    return d;
}

template <class Pool, std::size_t Classes>
template <class Token>
bool session<Pool, Classes>::drive<Token>::takes(wait_status status, std::uint64_t counted_in) {
    if (call_.over()) return false;
    switch (status) {
        case wait_status::granted:
            call_.counted_in_ = counted_in;
            see({step_kind::send, call_.stamp(), limit_kind::none, {}});
            return true;
        case wait_status::never: break;  // it pauses
        case wait_status::stopped: call_.give_up(call_end::stopped); break;
        case wait_status::queue_full: call_.give_up(call_end::queue_full); break;
        case wait_status::closed: call_.give_up(call_end::closed); break;
        case wait_status::timed_out:
        case wait_status::too_late: call_.finish(call_end::deadline, call_.limit_or_reason()); break;
    }
    return false;
}

template <class Pool, std::size_t Classes>
template <class Send, class Observe, stoppable_token Token>
auto session<Pool, Classes>::run(request const& r, Send&& send, Observe&& observe, Token token) -> outcome {
    static_assert(std::is_same_v<std::remove_cvref_t<std::invoke_result_t<Send&, call&>>, ended_attempt>,
                  "send must return what call.ended(reply), call.transport_failed(), call.cancelled() or call.lost() "
                  "returns: else the session does not know what came of the request, which was sent and may be billed");
    drive<Token> d{*this, r, observe, std::move(token)};
    while (d.goes_on()) {
        if (auto const until = d.pause()) {
            d.sleep_until(*until);
        } else if (d.wait()) {
            d.ended(send(d.the_call()));
        }
    }
    return d.result();
}

}  // namespace weir::inline v0::llm
