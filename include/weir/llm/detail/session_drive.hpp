// SPDX-License-Identifier: MIT
//
// session::drive: a call on its way through the session's line, whatever sleeps and sends; and session::run, where that is the thread that calls. Part of
// session.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "../../detail/parker.hpp"
#include "../../wait/wait_queue.hpp"
#include "../session.hpp"
#include "../session_reply.hpp"
#include "session_call.hpp"

namespace weir::inline v0::llm {

/// A call on its way through the session's line: what run() and async_run() have in common. They add how to sleep and how to send, as may others:
///
///     session_type::drive<Observe, Token> d{session, request, observe, token};
///     while (d.goes_on()) {
///         if (auto const t = d.pause()) …                      // until *t, or a stop is requested
///         else if (d.admitted(d.wait())) send(d.the_call()), d.sent();
///     }
///     return d.end();
///
/// The observer is referred to. It stays where it is.
template <class Pool, std::size_t Classes>
template <class Observe, stoppable_token Token>
class session<Pool, Classes>::drive {
public:
    drive(session& s, request const& r, Observe& observe, Token token)
        : session_{s}, observe_{observe}, token_{std::move(token)}, call_{s, r} {}

    bool goes_on() {
        if (!call_.over() && token_.stop_requested()) call_.give_up(call_end::stopped);
        return !call_.over();
    }
    /// Until when it pauses, if it does: by itself, with no place in the line.
    std::optional<time_point> pause() {
        time_point const until = (std::min)(call_.pause_until_, call_.request_.deadline);
        if (session_.clock().now() >= until) return std::nullopt;
        if (std::exchange(paused_until_, until) != until) see({step_kind::pause, until, call_.outcome_.last.reason});
        return until;
    }
    /// Waits in the line, to be sent.
    auto wait() {
        joins();
        return line().try_acquire_until(attempt(), call_.request_.deadline, ticket_, token_);
    }
    template <class Timer>
    auto wait(Timer& timer) {
        joins();
        return line().async_try_acquire_until(attempt(), call_.request_.deadline, timer, ticket_, token_);
    }
    /// Takes what wait() gave. True: to be sent now.
    template <class Admission>
    bool admitted(Admission const& a) {
        if (call_.over()) return false;
        if (a) {
            call_.counted_in_ = a->counted_in();
            see({step_kind::send, call_.stamp(), {}});
            return true;
        }
        switch (a.status()) {
            case wait_status::never: break;  // it pauses
            case wait_status::closed:
            case wait_status::stopped: call_.give_up(call_end::stopped); break;
            case wait_status::queue_full: call_.give_up(call_end::line_full); break;
            default:
                call_.finish(call_end::deadline,
                             call_.waits_for_.empty() ? call_.reason_or("no time was left for it") : call_.waits_for_);
                break;
        }
        return false;
    }
    call& the_call() noexcept { return call_; }
    /// The sender has returned.
    void sent() {
        if (call_.under_way()) call_.lost();
        // Whoever did not want his turn has it after the others: else one who never does would keep them waiting.
        if (call_.withdrawn_) ticket_ = {};
    }
    outcome const& end() {
        see({step_kind::over, session_.clock().now(), call_.outcome_.why});
        return call_.outcome_;
    }

private:
    auto& line() { return session_.lines_[call_.request_.share]; }
    void see(step s) { observe_(progress{s, call_.result(), call_.begun()}); }
    void joins() {
        told_ = {};
        if (session_.waiting() == 0) return;
        told_ = call_.waits_for_ = "others wait before it";
        see({step_kind::wait, call_.request_.deadline, told_});
    }
    auto attempt() {
        return [this](gate&) {
            auto const d = call_.ask(session_.clock().now());
            if (!d && !call_.over() && !d.never() && call_.waits_for_.data() != told_.data()) {
                told_ = call_.waits_for_;
                see({step_kind::wait, (std::min)(d.when, call_.request_.deadline), told_});
            }
            return d;
        };
    }

    session& session_;
    Observe& observe_;
    Token token_;
    call call_;
    queue_ticket ticket_{};    // where it first stood
    std::string_view told_{};  // what it waits for, as the observer knows
    time_point paused_until_ = (time_point::min)();
};

template <class Pool, std::size_t Classes>
template <class Send, class Observe, stoppable_token Token>
auto session<Pool, Classes>::run(request const& r, Send&& send, Observe&& observe, Token token) -> outcome {
    drive<std::remove_reference_t<Observe>, Token> d{*this, r, observe, token};
    parker seat;
    struct wake {
        parker* seat;
        void operator()() const { seat->notify(); }
    };
    while (d.goes_on()) {
        if (auto const until = d.pause()) {
            [[maybe_unused]] typename stop_callback_for<Token, wake>::type const on_stop{token, wake{&seat}};
            wait_until(clock(), seat, *until);
        } else if (d.admitted(d.wait())) {
            send(d.the_call());
            d.sent();
        }
    }
    return d.end();
}

}  // namespace weir::inline v0::llm
