// SPDX-License-Identifier: MIT
//
// session::call: one call on its way, as a machine that says what to do next and is told what came of it. Part of session.hpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
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
#include "../quota.hpp"
#include "../session.hpp"
#include "../session_counters.hpp"
#include "../session_reply.hpp"
#include "../verdict.hpp"
#include "account_throttle.hpp"
#include "server_queue.hpp"

namespace weir::inline v0::llm {

/// One call on its way. For one thread at a time; it stays where it is. What it asks and is told:
///
///     auto s = call.next();                    // send: granted, its stamp is now: send it, then call.ended(…)
///                                              // wait, pause: next() again at s.until, or (wait) when any call has ended
///                                              // over: call.result()
///
/// A call that is destroyed while an attempt is under way leaves it as lost: what it holds is held until the server has given up.
template <class Pool, std::size_t Classes>
class session<Pool, Classes>::call {
public:
    call(session& s, request const& r) : call{s, r, s.clock().now()} {}
    /// Throws std::invalid_argument for a share that there is not.
    call(session& s, request const& r, time_point now) : session_{s}, request_{r}, begun_{now}, since_{now} {
        weir::detail::ensure(r.share < Classes ? error{} : error{"there is no such share"});
        s.counters_.add(counted_event::calls);
    }
    call(call const&) = delete;
    call& operator=(call const&) = delete;
    ~call() {
        if (state_ == state::sent) lost();
        if (state_ != state::over) finish(call_end::stopped, "abandoned");
    }

    step next() { return next(session_.clock().now()); }
    step next(time_point now) {
        if (state_ == state::asks) {
            auto const d = now < pause_until_ && now < request_.deadline
                               ? typename gate::decision{false, now, (time_point::max)()}
                               : ask(now);
            if (!d && state_ == state::asks) {
                if (now < pause_until_)
                    return {step_kind::pause, (std::min)(pause_until_, request_.deadline), outcome_.last.reason};
                return {step_kind::wait, (std::min)(d.when, request_.deadline), waits_for_};
            }
        }
        if (state_ == state::sent) return {step_kind::send, stamp_, {}};
        return {step_kind::over, now, outcome_.why};
    }

    /// What came of the attempt. Once for each that was let go; others are passed over.
    void ended(reply const& r) { ended(r, session_.clock().now()); }
    void ended(reply const& r, time_point now) {
        if (state_ != state::sent) return;
        answer a = r.answer;
        if (a.now.time_since_epoch().count() == 0)
            a.now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
        verdict v = classify(a, session_.options_.rules);
        if (r.withdrawn || (!r.left && v.action == action::proceed))
            v = {cause::transport, action::retry, {}, {}, 0, "it was not sent"};
        bool const left = r.left && !r.withdrawn;
        tokens const used = charge(r, a, v, left, now);
        if (!r.withdrawn) session_.chain_.report(choice_, v, now, a.now);
        state_ = state::asks;
        since_ = now;
        withdrawn_ = r.withdrawn;
        if (r.withdrawn) {
            session_.counters_.add(counted_event::withdrawn);
            pause_until_ = now;
        } else {
            outcome_.last = v;
            if (!first_) first_ = stamp_;
            decide(r, v, left, now);
        }
        session_.counters_.add(counted_event::ended_attempts);
        // The class is charged what was used, if it was at all, and whoever is next looks again.
        auto& line = session_.lines_[request_.share];
        typename gate::decision const granted{true, stamp_, stamp_, asked_, counted_in_};
        if (left) {
            line.settle(granted, used);
        } else {
            line.refund(granted);
        }
    }
    /// It left, and nothing came: as a reply whose transport failed.
    void lost() {
        reply r;
        r.answer.transport_failed = true;
        ended(r);
    }
    /// The first of the answer was read: what latency and margins are measured by. Without it, the end is.
    void on_response() { on_response(session_.clock().now()); }
    void on_response(time_point t) noexcept {
        if (!heard_) heard_ = t;
    }
    /// Ends it for another reason: the caller stops it, or its line is full. An attempt under way is taken as lost.
    void give_up(call_end how) {
        if (state_ == state::sent) lost();
        if (state_ != state::over)
            finish(how, reason_or(how == call_end::line_full ? "others wait before it" : "given up"));
    }

    // ---- what to send, once next() said so ----

    std::string_view model() const noexcept { return session_.chain_.model(*choice_); }
    account_id const& account() const noexcept { return pool().id(member()); }
    std::string_view key() const noexcept { return pool().key(choice_.member()); }
    std::size_t link() const noexcept { return *choice_; }
    std::size_t member() const noexcept { return *choice_.member(); }
    /// What it was granted, and when.
    tokens asked() const noexcept { return asked_; }
    time_point stamp() const noexcept { return stamp_; }
    /// 0: the first.
    std::uint32_t number() const noexcept { return outcome_.attempts == 0 ? 0 : outcome_.attempts - 1; }
    /// The header that asks the server to queue it, and the client's timeout.
    llm::server_queue queue() const noexcept {
        return llm::server_queue::ask(session_.options_.server_queue, session_.options_.timeout);
    }

    /// What the attempt that ended last was charged.
    charged_as charged() const noexcept { return charged_; }
    /// After a failure: it asks again then, at the earliest.
    time_point pause_until() const noexcept { return pause_until_; }

    request const& facts() const noexcept { return request_; }
    bool over() const noexcept { return state_ == state::over; }
    bool under_way() const noexcept { return state_ == state::sent; }
    outcome const& result() const noexcept { return outcome_; }
    time_point begun() const noexcept { return begun_; }

private:
    friend session;
    enum class state : unsigned char { asks, sent, over };
    static constexpr std::string_view own_pause = "backoff";

    // What each member has to pass beside its limits, for this call.
    struct beside {
        call& c;
        std::string_view by{};

        time_point ready(std::size_t link, std::size_t member, time_point t) {
            if (link < 64 && (c.ruled_out_ >> link & 1U) != 0) {
                by = "too large for the model";
                return (time_point::max)();
            }
            c.somebody_is_there_ = true;
            if ((c.avoided_ & c.session_.bit_of(link, member)) != 0 && t < c.avoid_until_) {
                by = own_pause;
                return c.avoid_until_;
            }
            return c.session_.lane_of(link, member).ready(c.asked_, t, by);
        }
        bool take(std::size_t link, std::size_t member, time_point t) {
            return c.session_.lane_of(link, member).take(c.pass_, c.asked_, t, by);
        }
        std::string_view denied_by() const noexcept { return by; }
    };

    Pool& pool() const noexcept { return session_.chain_.pool(*choice_); }
    lane& my_lane() noexcept { return session_.lane_of(link(), member()); }

    tokens need(std::size_t link) const noexcept {
        if (request_.bound) return *request_.bound;
        auto const& e = session_.estimators_[link];
        tokens t{e.input(request_.size).bound, e.output(request_.max_tokens)};
        tokens const pictures = weighted({0, 0}, 0, request_.images, session_.options_.usage);
        t.input =
            t.input + pictures.input < t.input ? (std::numeric_limits<std::uint64_t>::max)() : t.input + pictures.input;
        return t;
    }

    // An attempt to be let go.
    typename gate::decision ask(time_point now) {
        somebody_is_there_ = false;
        if (now >= request_.deadline) {
            finish(call_end::deadline, waits_for_.empty() ? reason_or("no time was left for it") : waits_for_);
            return {false, now, (time_point::max)()};
        }
        choice_ = session_.chain_.try_acquire(
            [this](std::size_t link) { return asked_ = need(link); }, now,
            typename chain_type::terms{.patience = moving_ ? duration{0} : request_.patience,
                                       .price_at_most = request_.price_at_most,
                                       .cheapest_first = request_.cheapest_first},
            beside{*this});
        if (choice_) {
            stamp_ = now;
            counted_in_ = 0;
            state_ = state::sent;
            my_lane().sent(pass_, choice_.member().decision());
            heard_.reset();
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
            denied_ = false;
            waits_for_ = {};
            return {true, now, now, asked_};
        }
        waits_for_ = choice_.denied_by();
        if (waits_for_ == own_pause) {
            // Out of the line: others may pass where this call may not.
            pause_until_ = choice_.retry_at();
            return {false, now, (time_point::max)()};
        }
        if (choice_.retry_at() == (time_point::max)()) {
            if (moving_) {
                finish(call_end::refused, outcome_.last.reason);
            } else {
                finish(call_end::never, waits_for_);
            }
        } else if (moving_ && !somebody_is_there_ &&
                   !(comes_back_ && request_.deadline != (time_point::max)() &&
                     choice_.retry_at() < request_.deadline)) {
            // All are set aside, and when they are there again is not known, or too late.
            finish(call_end::refused, outcome_.last.reason);
        } else if (!somebody_is_there_ && first_ && request_.deadline != (time_point::max)() &&
                   choice_.retry_at() >= request_.deadline) {
            finish(call_end::deadline, reason_or(waits_for_));
        } else if (!somebody_is_there_ && request_.deadline == (time_point::max)() &&
                   weir::detail::saturating_sub(weir::detail::ticks(choice_.retry_at()),
                                                weir::detail::ticks(first_.value_or(now))) >
                       std::chrono::ceil<duration>(session_.options_.retry.budget).count()) {
            // All are set aside, for longer than a retry would wait.
            finish(first_ ? call_end::exhausted : call_end::refused, reason_or(waits_for_));
        }
        if (state_ == state::over) return {false, now, (time_point::max)()};
        if (!std::exchange(denied_, true)) session_.counters_.add(counted_event::waits);
        return {false, now, choice_.retry_at()};
    }

    // What the attempt cost, and what is to be learnt of it.
    tokens charge(reply const& r, answer const& a, verdict const& v, bool left, time_point now) {
        auto& chain = session_.chain_;
        tokens used{0, 0};
        if (!left) {
            chain.refund(choice_);
            charged_ = charged_as::nothing;
            my_lane().give_back(pass_);
            return used;
        }
        if (r.used) {
            used = weighted(*r.used, r.cached, 0, session_.options_.usage);
            charged_ = charged_as::used;
        } else if (!r.delivered && refused_at_the_gate(a, v.cause)) {
            charged_ = charged_as::request;
        } else {
            used = asked_;
            // Where nothing came, the server may be working on it; when it has certainly given up, the limiter knows.
            charged_ = v.cause != cause::transport ? charged_as::max_estimate : charged_as::reserved;
        }
        if (charged_ != charged_as::reserved) chain.settle(choice_, used, now);
        my_lane().ended(pass_, {r, a, v, asked_, stamp_, heard_.value_or(now), now});
        if (v.action == action::proceed && r.used && request_.size.messages != 0)
            session_.estimators_[link()].learn(request_.size, *r.used);
        return used;
    }

    static constexpr bool refused_at_the_gate(answer const& a, cause c) noexcept {
        switch (c) {
            case cause::request_rate:
            case cause::token_rate:
            case cause::rate:
            case cause::burst:
            case cause::concurrency:
            case cause::free_quota:
            case cause::plan_quota:
            case cause::billing:
            case cause::authentication:
            case cause::no_model: return true;
            // DashScope looks whether it has capacity before it counts tokens.
            case cause::overload: return a.dialect == dialect::dashscope && (a.status == 503 || a.status == 500);
            default: return false;
        }
    }

    // Or it was refused for want of capacity before that.
    static bool may_have_been_worked_on(reply const& r, cause c) noexcept {
        if (c == cause::overload)
            return r.answer.status == 502 || r.answer.status == 504;  // a gateway that does not know
        return c == cause::transport || c == cause::server_error || c == cause::unknown;
    }
    std::string_view reason_or(std::string_view other) const noexcept {
        return !outcome_.last.reason.empty() ? outcome_.last.reason : !waits_for_.empty() ? waits_for_ : other;
    }

    // Where it goes from here.
    void decide(reply const& r, verdict const& v, bool left, time_point now) {
        if (v.action == action::proceed) {
            if (r.used) {
                outcome_.used = *r.used;
                session_.counters_.add(counted_event::input_tokens, r.used->input);
                session_.counters_.add(counted_event::output_tokens, r.used->output);
            }
            if (session_.budget_) session_.budget_->succeeded();
            if (link() != 0) session_.counters_.add(counted_event::answered_below);
            return finish(call_end::answered, {});
        }
        session_.counters_.refused(v.cause);
        if (r.delivered) return finish(call_end::partial, v.reason);
        if (v.action == action::give_up) return finish(call_end::refused, v.reason);
        if (left && !request_.repeatable && may_have_been_worked_on(r, v.cause))
            return finish(call_end::lost, v.reason);
        if (v.action == action::next_account || v.action == action::next_model) {
            // Each sets a key, a member or a link aside, so that there are only so many.
            if (v.cause == cause::token_rate && link() < 64) ruled_out_ |= std::uint64_t{1} << link();
            if (++moves_ > session_.moves_most_) return finish(call_end::refused, v.reason);
            moving_ = true;
            comes_back_ = v.until.has_value() || v.wait.has_value();
            session_.counters_.add(counted_event::moved);
            return;
        }
        moving_ = false;
        bool const elsewhere = session_.ways_ > 1;
        if (v.max_retries != 0 && retries_ >= v.max_retries) return finish(call_end::exhausted, v.reason);
        // Where there is no other way, a hint that the backoff cannot bear ends it; else it only says when this account is there again.
        auto const pause =
            session_.options_.retry.next(retries_, random_numbers{&session_}, elsewhere ? std::nullopt : v.wait,
                                         std::chrono::nanoseconds{now - *first_}, previous_);
        if (!pause) return finish(call_end::exhausted, v.reason);
        auto const after = [now](std::chrono::nanoseconds d) {
            return time_point{duration{static_cast<typename duration::rep>(
                weir::detail::saturating_add(weir::detail::ticks(now), std::chrono::ceil<duration>(d).count()))}};
        };
        if (v.wait && *v.wait > v.wait->zero()) {
            pool().set_aside(member(), after(*v.wait));
        }
        if (!elsewhere && after(*pause) >= request_.deadline) return finish(call_end::deadline, v.reason);
        if (session_.budget_ && !session_.budget_->try_retry(now)) return finish(call_end::budget, v.reason);
        ++retries_;
        previous_ = (std::min<std::chrono::nanoseconds>)(*pause, session_.options_.retry.cap);
        if (elsewhere) {
            if (now >= avoid_until_) avoided_ = 0;
            avoided_ |= session_.bit_of(link(), member());
            avoid_until_ = (std::max)(avoid_until_, after(*pause));
        } else {
            pause_until_ = after(*pause);
        }
    }

    void finish(call_end how, std::string_view why) noexcept {
        outcome_.how = how;
        outcome_.why = why;
        state_ = state::over;
        session_.counters_.add(how == call_end::answered ? counted_event::answered : counted_event::failed);
    }

    session& session_;
    request request_;
    time_point begun_;
    time_point since_;  // when the attempt that is asked for could first have been let go, but for limits and pauses
    time_point stamp_{};
    time_point pause_until_ = (time_point::min)();
    std::optional<time_point> first_{};  // when the first attempt that was not withdrawn was let go, once it has ended
    std::optional<time_point> heard_{};
    std::optional<std::chrono::nanoseconds> previous_{};
    tokens asked_{0, 0};
    std::uint64_t counted_in_ = 0;  // of the attempt, in the line of its class
    typename chain_type::choice choice_{};
    typename lane::pass pass_{};
    outcome outcome_{};
    std::string_view waits_for_{};
    std::uint64_t avoided_ = 0;  // accounts, while this call's pause after their failures lasts
    time_point avoid_until_ = (time_point::min)();
    std::uint64_t ruled_out_ = 0;
    std::uint64_t retries_ = 0;
    std::size_t moves_ = 0;
    state state_ = state::asks;
    charged_as charged_ = charged_as::nothing;
    bool moving_ = false;
    bool comes_back_ = false;
    bool withdrawn_ = false;  // its last attempt
    bool denied_ = false;
    bool somebody_is_there_ = false;
};

}  // namespace weir::inline v0::llm
