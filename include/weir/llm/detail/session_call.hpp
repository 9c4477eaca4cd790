// SPDX-License-Identifier: MIT
//
// session::call: one call, as a machine that says what to do next and is told what came of it. Part of session.hpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "../../backoff.hpp"
#include "../../clock/clock.hpp"
#include "../../error.hpp"
#include "../account_pool.hpp"
#include "../dialect.hpp"
#include "../estimate.hpp"
#include "../limit_kind.hpp"
#include "../quota.hpp"
#include "../session.hpp"
#include "../session_counters.hpp"
#include "../session_reply.hpp"
#include "../verdict.hpp"
#include "account_throttle.hpp"
#include "index_set.hpp"
#include "server_queue.hpp"

namespace weir::inline v0::llm {

/// One call. One thread at a time uses it; it does not move.
///
///     auto s = call.next();      // send: granted, its stamp is now: send it, then call.ended(…)
///                                // wait, pause: next() again at s.until, or (wait) when any call has ended
///                                // over: call.result()
/// Destroyed while an attempt is in flight, it leaves that as lost: reserved until the server has given up.
template <class Pool, std::size_t Classes>
class session<Pool, Classes>::call {
public:
    call(session& s, request const& r) : call{s, r, s.clock().now()} {}
    /// Throws std::invalid_argument for the index of a class that the session does not have.
    call(session& s, request const& r, time_point now);
    call(call const&) = delete;
    call& operator=(call const&) = delete;
    ~call();

    [[nodiscard("the step says whether to send, to wait, or to stop")]] step next() {
        return next(session_.clock().now());
    }
    [[nodiscard("the step says whether to send, to wait, or to stop")]] step next(time_point now);

    /// The result of the attempt, once; more are ignored. An empty reply is lost(). A sender returns what this returns.
    ended_attempt ended(reply const& r) { return ended(r, session_.clock().now()); }
    ended_attempt ended(reply const& r, time_point now);
    /// It was sent, and the transport failed: refused, reset, timed out. A reply whose answer.transport_failed is set.
    ended_attempt transport_failed();
    /// It was sent, and nothing else is known; it may be billed. Sent again only if request::repeatable is true.
    ended_attempt lost();
    /// Not sent, by the caller's choice: no failure. It asks again, behind the calls that wait.
    ended_attempt cancelled();
    /// The first of the answer was read: what latency and jitter are measured by. Without it, the end is.
    void on_response() { on_response(session_.clock().now()); }
    void on_response(time_point t) noexcept {
        if (!response_) response_ = t;
    }
    /// Ends it for a reason of the caller's. An attempt in flight is taken as lost.
    void give_up(call_end status);

    // ---- what to send, once next() said so ----

    std::string_view model() const noexcept { return session_.chain_.model(*choice_); }
    account_id const& account() const noexcept { return pool().id(member()); }
    std::string_view key() const noexcept { return pool().key(choice_.member()); }
    std::size_t link() const noexcept { return *choice_; }
    std::size_t member() const noexcept { return *choice_.member(); }
    /// What it was granted, and when.
    tokens asked() const noexcept { return asked_; }
    time_point stamp() const noexcept { return stamp_; }
    /// 0: the first attempt.
    std::uint32_t number() const noexcept { return outcome_.attempts == 0 ? 0 : outcome_.attempts - 1; }
    /// The header that asks the server to queue it, and the client's timeout.
    llm::server_queue queue() const noexcept {
        return llm::server_queue::ask(session_.options_.server_queue, session_.options_.timeout);
    }

    /// What the last attempt that ended was charged.
    charged_as charged() const noexcept { return charged_; }
    /// After a failure: it asks again then, at the earliest.
    time_point pause_until() const noexcept { return pause_until_; }

    request const& facts() const noexcept { return request_; }
    bool over() const noexcept { return state_ == state::over; }
    bool in_flight() const noexcept { return state_ == state::sent; }
    outcome const& result() const noexcept { return outcome_; }
    time_point begun() const noexcept { return begun_; }

private:
    friend session;
    enum class state : unsigned char { asks, sent, over };
    [[gnu::__visibility__("hidden")]] static constexpr std::string_view no_time = "no time was left for it";

    struct condition;

    Pool& pool() const noexcept { return session_.chain_.pool(*choice_); }
    throttle_type& throttle() noexcept { return session_.throttle(link(), member()); }
    std::size_t number_of_account() const noexcept { return session_.account(link(), member()); }

    tokens need(std::size_t link) const noexcept;
    decision ask(time_point now);
    void granted(time_point now);
    void denied(time_point now);
    ended_attempt attempt_ended(reply const& r, time_point now, call_end unless_known);
    void report(verdict const& v, time_point now, std::chrono::sys_seconds wall);
    void end_probe(verdict const& v, bool sent) noexcept;
    tokens charge(reply const& r, answer const& a, verdict const& v, bool sent, time_point now);
    void decide(reply const& r, verdict const& v, bool sent, time_point now);
    void answered(reply const& r);
    void move_on(verdict const& v);
    void retry(verdict const& v, time_point now);
    void finish(call_end status, std::string_view reason) noexcept;

    static constexpr bool says_nothing(answer const& a) noexcept {
        return !a.status && !a.transport_failed && a.code.empty() && a.type.empty() && a.message.empty() &&
               a.body.empty();
    }
    static constexpr bool refused_at_the_gate(answer const& a, cause c) noexcept {
        // DashScope looks whether it has capacity before it counts tokens.
        if (c == cause::overload) return a.dialect == dialect::dashscope && (a.status == 503 || a.status == 500);
        for (cause const gate :
             {cause::request_rate, cause::token_rate, cause::rate, cause::burst, cause::concurrency, cause::free_quota,
              cause::plan_quota, cause::billing, cause::authentication, cause::no_model}) {
            if (c == gate) return true;
        }
        return false;
    }
    // A server that answers, refuses the request or counts it is up. A limit that was met is kept by the limiter.
    static constexpr bool shows_it_is_up(verdict const& v) noexcept {
        cause const c = v.cause;
        return v.action == action::proceed || v.action == action::give_up || c == cause::request_rate ||
               c == cause::token_rate || c == cause::rate || c == cause::burst || c == cause::concurrency;
    }
    static time_point after(time_point t, std::chrono::nanoseconds d) noexcept {
        return weir::detail::saturating_add(t, weir::detail::saturating_ceil<duration>(d));
    }
    static bool may_have_been_worked_on(reply const& r, cause c) noexcept {
        if (c == cause::overload)
            return r.answer.status == 502 || r.answer.status == 504;  // a gateway that does not know
        return c == cause::transport || c == cause::server_error || c == cause::unknown;
    }
    std::string_view reason_or(std::string_view other) const noexcept {
        return !outcome_.last.reason.empty()    ? outcome_.last.reason
               : waits_for_ != limit_kind::none ? to_string(waits_for_)
                                                : other;
    }
    std::string_view limit_or_reason() const noexcept {
        return waits_for_ == limit_kind::none ? reason_or(no_time) : to_string(waits_for_);
    }

    session& session_;
    request request_;
    time_point begun_;
    time_point since_;  // when the attempt that it asks for could first have been sent, but for limits and pauses
    time_point stamp_{};
    time_point pause_until_ = (time_point::min)();
    std::optional<time_point> first_{};  // stamp of the first attempt that was not cancelled, once it has ended
    std::optional<time_point> response_{};
    std::optional<std::chrono::nanoseconds> previous_{};
    tokens asked_{};
    std::uint64_t counted_in_ = 0;  // of the attempt, in the queue of its class
    typename chain_type::choice choice_{};
    typename throttle_type::ticket ticket_{};
    typename probation_type::ticket account_probe_{};  // held while it is in flight
    typename probation_type::ticket model_probe_{};
    outcome outcome_{};
    weir::detail::index_set avoided_{};  // accounts, while this call's pause after their failures lasts
    time_point avoid_until_ = (time_point::min)();
    weir::detail::index_set ruled_out_{};  // models
    std::uint64_t retries_ = 0;
    std::size_t moves_ = 0;
    limit_kind waits_for_ = limit_kind::none;
    state state_ = state::asks;
    charged_as charged_ = charged_as::nothing;
    bool moving_ = false;
    bool comes_back_ = false;  // what it moved away from says when
    bool cancelled_ = false;   // its last attempt
    bool counted_wait_ = false;
    bool any_available_ = false;  // a member that is not on cooldown, in the last attempt
};

template <class Pool, std::size_t Classes>
session<Pool, Classes>::call::call(session& s, request const& r, time_point now)
    : session_{s}, request_{r}, begun_{now}, since_{now} {
    weir::detail::ensure(r.fair_class < Classes ? error{}
                                                : error{"fair_class must be an index of the session's classes"});
    s.counters_.add(counted_event::calls);
}

template <class Pool, std::size_t Classes>
session<Pool, Classes>::call::~call() {
    give_up(call_end::stopped);
}

template <class Pool, std::size_t Classes>
auto session<Pool, Classes>::call::next(time_point now) -> step {
    if (state_ == state::asks) {
        bool const pauses = now < pause_until_ && now < request_.deadline;
        decision const d = pauses ? decision::denied_at(now) : ask(now);
        if (!d && state_ == state::asks) {
            if (now < pause_until_)
                return {step_kind::pause, (std::min)(pause_until_, request_.deadline), limit_kind::backoff,
                        outcome_.last.reason};
            return {step_kind::wait, (std::min)(d.retry_at(), request_.deadline), waits_for_, to_string(waits_for_)};
        }
    }
    if (state_ == state::sent) return {step_kind::send, stamp_, limit_kind::none, {}};
    return {step_kind::over, now, outcome_.limit, outcome_.reason};
}

template <class Pool, std::size_t Classes>
ended_attempt session<Pool, Classes>::call::ended(reply const& r, time_point now) {
    bool const nothing = r.sent && !r.cancelled && says_nothing(r.answer);
    return attempt_ended(r, now, nothing ? call_end::lost : call_end::open);
}

template <class Pool, std::size_t Classes>
ended_attempt session<Pool, Classes>::call::transport_failed() {
    reply r;
    r.answer.transport_failed = true;
    return ended(r);
}

template <class Pool, std::size_t Classes>
ended_attempt session<Pool, Classes>::call::lost() {
    return ended(reply{});
}

template <class Pool, std::size_t Classes>
ended_attempt session<Pool, Classes>::call::cancelled() {
    reply r;
    r.cancelled = true;
    return ended(r);
}

template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::give_up(call_end status) {
    if (state_ == state::sent) {
        request_.repeatable = false;
        attempt_ended(reply{}, session_.clock().now(), status);
    }
    if (state_ != state::over)
        finish(status, reason_or(status == call_end::queue_full ? "others wait ahead of it" : "given up"));
}

// `unless_known` other than open: nothing is known of the attempt, and the call ends so, unless it is repeatable.
template <class Pool, std::size_t Classes>
ended_attempt session<Pool, Classes>::call::attempt_ended(reply const& r, time_point now, call_end unless_known) {
    if (state_ != state::sent) return {charged_, state_ == state::over};
    answer a = r.answer;
    if (unless_known != call_end::open) a.transport_failed = true;
    if (a.now.time_since_epoch().count() == 0)
        a.now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    verdict v = classify(a, session_.options_.rules);
    if (r.cancelled || (!r.sent && v.action == action::proceed))
        v = {cause::transport, action::retry, {}, {}, 0, "it was not sent"};
    bool const sent = r.sent && !r.cancelled;
    tokens const used = charge(r, a, v, sent, now);
    if (!r.cancelled) report(v, now, a.now);
    end_probe(v, sent);
    state_ = state::asks;
    since_ = now;
    cancelled_ = r.cancelled;
    if (r.cancelled) {
        session_.counters_.add(counted_event::cancelled);
        pause_until_ = now;
    } else {
        outcome_.last = v;
        if (!first_) first_ = stamp_;
        if (unless_known != call_end::open && request_.repeatable != true) {
            session_.counters_.refused(v.cause);
            finish(unless_known, v.reason);
        } else {
            decide(r, v, sent, now);
        }
    }
    session_.counters_.add(counted_event::ended_attempts);
    // The class is charged what was used, if it was at all, and the next in the queue tries again.
    auto& queue = session_.queues_[request_.fair_class];
    decision const was_granted = decision::granted_at(stamp_, asked_, counted_in_);
    if (sent) {
        static_cast<void>(queue.settle(was_granted, used));
    } else {
        queue.refund(was_granted);
    }
    return {charged_, state_ == state::over};
}

template <class Pool, std::size_t Classes>
tokens session<Pool, Classes>::call::need(std::size_t link) const noexcept {
    if (request_.bound) return *request_.bound;
    auto const& e = session_.estimators_[link];
    tokens t{.input = e.input(request_.size).bound, .output = e.output(request_.max_tokens)};
    tokens const pictures = weighted({.input = 0, .output = 0}, 0, request_.images, session_.options_.usage);
    t.input =
        t.input + pictures.input < t.input ? (std::numeric_limits<std::uint64_t>::max)() : t.input + pictures.input;
    return t;
}

// Makes an attempt.
template <class Pool, std::size_t Classes>
auto session<Pool, Classes>::call::ask(time_point now) -> decision {
    any_available_ = false;
    if (now >= request_.deadline) {
        finish(call_end::deadline, limit_or_reason());
        return decision::denied_at(now);
    }
    choice_ =
        session_.chain_.try_acquire([this](std::size_t link) { return asked_ = need(link); }, now,
                                    typename chain_type::terms{.patience = moving_ ? duration{0} : request_.patience,
                                                               .max_price = request_.max_price,
                                                               .cheapest_first = request_.cheapest_first},
                                    condition{*this});
    if (choice_) {
        granted(now);
        return decision::granted_at(now, asked_);
    }
    waits_for_ = choice_.denied_by();
    if (waits_for_ == limit_kind::backoff) {
        // Out of the queue: others may pass where this call may not.
        pause_until_ = choice_.retry_at();
        return decision::denied_at(now);
    }
    denied(now);
    if (state_ == state::over) return decision::denied_at(now);
    if (!std::exchange(counted_wait_, true)) session_.counters_.add(counted_event::waits);
    return decision::denied_at(now, choice_.retry_at());
}

template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::granted(time_point now) {
    stamp_ = now;
    counted_in_ = 0;
    state_ = state::sent;
    throttle().sent(ticket_, choice_.member().decision());
    response_.reset();
    outcome_.link = link();
    ++outcome_.attempts;
    auto& counters = session_.counters_;
    counters.add(counted_event::attempts);
    if (first_) counters.add(counted_event::retries);
    if (now > since_) {
        outcome_.waited += now - since_;
        counters.add(counted_event::waited_ns,
                     static_cast<std::uint64_t>(std::chrono::nanoseconds{now - since_}.count()));
    }
    counted_wait_ = false;
    waits_for_ = limit_kind::none;
}

// Ends the call where it is not worth to wait.
template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::denied(time_point now) {
    time_point const at = choice_.retry_at();
    bool const has_deadline = request_.deadline != (time_point::max)();
    if (at == (time_point::max)()) {
        if (moving_) return finish(call_end::refused, outcome_.last.reason);
        return finish(call_end::never, to_string(waits_for_));
    }
    if (any_available_) return;
    // All are on cooldown: until when is not known, or too late, or for longer than a retry would wait.
    if (moving_ && !(comes_back_ && has_deadline && at < request_.deadline))
        return finish(call_end::refused, outcome_.last.reason);
    if (first_ && has_deadline && at >= request_.deadline)
        return finish(call_end::deadline, reason_or(to_string(waits_for_)));
    if (has_deadline) return;
    std::int64_t const wait =
        weir::detail::saturating_sub(weir::detail::ticks(at), weir::detail::ticks(first_.value_or(now)));
    if (wait > weir::detail::saturating_ceil<duration>(session_.options_.retry.budget).count())
        finish(first_ ? call_end::exhausted : call_end::refused, reason_or(to_string(waits_for_)));
}

// What the attempt cost, and what is learnt from it.
template <class Pool, std::size_t Classes>
tokens session<Pool, Classes>::call::charge(reply const& r, answer const& a, verdict const& v, bool sent,
                                            time_point now) {
    auto& chain = session_.chain_;
    tokens used{};
    if (!sent) {
        chain.refund(choice_);
        charged_ = charged_as::nothing;
        throttle().give_back(ticket_);
        return used;
    }
    if (r.used) {
        used = weighted(*r.used, r.cached, 0, session_.options_.usage);
        charged_ = charged_as::used;
    } else if (!r.delivered && refused_at_the_gate(a, v.cause)) {
        charged_ = charged_as::request;
    } else {
        used = asked_;
        // Without an answer the server may still be working on it; the limiter knows when it has certainly given up.
        charged_ = v.cause != cause::transport ? charged_as::max_estimate : charged_as::reserved;
    }
    if (charged_ != charged_as::reserved) static_cast<void>(chain.settle(choice_, used, now));
    throttle().ended(ticket_, {r, a, v, asked_, stamp_, response_.value_or(now), now});
    if (v.action == action::proceed && r.used && request_.size.messages != 0)
        session_.estimators_[link()].learn(request_.size, *r.used);
    return used;
}

// Where it goes from here.
template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::decide(reply const& r, verdict const& v, bool sent, time_point now) {
    if (v.action == action::proceed) return answered(r);
    session_.counters_.refused(v.cause);
    if (r.delivered) return finish(call_end::partial, v.reason);
    if (v.action == action::give_up) return finish(call_end::refused, v.reason);
    if (sent && request_.repeatable == false && may_have_been_worked_on(r, v.cause))
        return finish(call_end::lost, v.reason);
    if (v.action == action::next_account || v.action == action::next_model) return move_on(v);
    moving_ = false;
    retry(v, now);
}

template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::answered(reply const& r) {
    if (r.used) {
        outcome_.used = *r.used;
        session_.counters_.add(counted_event::input_tokens, r.used->input);
        session_.counters_.add(counted_event::output_tokens, r.used->output);
    }
    if (session_.budget_) session_.budget_->succeeded();
    if (link() != 0) session_.counters_.add(counted_event::answered_below);
    finish(call_end::answered, {});
}

// To another account or model, without a pause.
template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::move_on(verdict const& v) {
    if (v.cause == cause::token_rate) ruled_out_.insert(link());
    if (++moves_ > session_.max_moves_) return finish(call_end::refused, v.reason);
    moving_ = true;
    comes_back_ = v.until.has_value() || v.wait.has_value();
    session_.counters_.add(counted_event::moved);
}

template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::retry(verdict const& v, time_point now) {
    bool const elsewhere = session_.accounts_ > 1;
    if (v.max_retries != 0 && retries_ >= v.max_retries) return finish(call_end::exhausted, v.reason);
    // With one account, a hint beyond the backoff's budget ends the call; else it says when this account is back.
    auto const pause =
        session_.options_.retry.next(retries_, random_numbers{&session_}, elsewhere ? std::nullopt : v.wait,
                                     std::chrono::nanoseconds{now - *first_}, previous_);
    if (!pause) return finish(call_end::exhausted, v.reason);
    if (!elsewhere && after(now, *pause) >= request_.deadline) return finish(call_end::deadline, v.reason);
    if (session_.budget_ && !session_.budget_->try_retry(now)) return finish(call_end::budget, v.reason);
    ++retries_;
    previous_ = (std::min<std::chrono::nanoseconds>)(*pause, session_.options_.retry.cap);
    if (elsewhere) {
        if (now >= avoid_until_) avoided_.clear();
        avoided_.insert(number_of_account());
        avoid_until_ = (std::max)(avoid_until_, after(now, *pause));
    } else {
        pause_until_ = after(now, *pause);
    }
}

template <class Pool, std::size_t Classes>
void session<Pool, Classes>::call::finish(call_end status, std::string_view reason) noexcept {
    outcome_.status = status;
    outcome_.limit = status == call_end::answered ? limit_kind::none : waits_for_;
    outcome_.reason = reason;
    state_ = state::over;
    session_.counters_.add(status == call_end::answered ? counted_event::answered : counted_event::failed);
}

}  // namespace weir::inline v0::llm

#include "session_condition.hpp"
