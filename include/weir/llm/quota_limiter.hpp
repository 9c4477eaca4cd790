// SPDX-License-Identifier: MIT
//
// quota_limiter: paces an LLM client so that a server which enforces a quota in sliding windows never refuses it.
//
// Promise: no refusal by such a server, under the conditions below; sustained, min(RPM, RPS×60) requests and
// min(TPM, TPS×60) tokens a minute, less the margin J, a thousandth for segments, and what is held for outputs.
//
// **The margin J.** The server counts arrivals, the client stamps. Let s be a stamp and the arrival a = s + d + e, with d the
// same for all calls and 0 ≤ e ≤ J. If a lies in a window (x, x + W] of the server's then s lies in (x − d − J, x − d + W], a
// window of length W + J; the client lets no more than the limit into any window of W + J, so the server counts no more than
// the limit in any W. Conditions: J covers the whole range of the delay over time, a stall between stamp and send
// included; it also covers both clocks' resolution and drift·(W + J); the connection is open when the stamp is taken; no one
// else uses the account. J costs J/(W + J) of the rate: a hundredth of a one-second window at 10 ms. Measure it.
//
// **Tokens.** A server may charge output when it ends, or max_tokens on arrival. Whenever it charges a token, the client must:
//     accounting      from the stamp, for W + J      until the reply is read           from then on, for W + J
//     any             input                          output's bound, held              the output used
//     actual, input_strict   as any, but a call's own output need not fit: it is held against those that follow
//     reserve         input + output's bound, corrected at the stamp's place when the reply is read
// Each row charges at least what its server does: `any` charges the bound for as long as a reserving server can, and the
// output for a window after the last moment at which another can have charged it. (actual and input_strict assume that a
// reply takes longer than J.) A hold ends with settle or refund; without them (a caller that died, a call cut off) by itself
// at stamp + T + W + J, T being `server_timeout`, after which the server can charge nothing any more, and W the longer of the
// token windows that there are.
//
// A hold costs what it holds. With inputs in, outputs out, bound M, latency l and window W, the share of the ideal is about
//     (in + out)·W / (in·(W + J) + out·W + M·l)
// (in 500, out 300, l 10 s: 89% at M = 600, 71% at 2,000, 37% at 8,192): keep max_tokens tight, and where the server's mode is
// known, say it. In a one-second window it is ruinous, so tps is to be given only where it is enforced.
//
// **Composition.** All limits or none: every part is first looked at with one time point, then charged; a part that refuses then, having lost
// a race, has the earlier ones given back, exactly. The windows are sliding_window_counters; a token limit is two that share one limit,
// what counts and, one for both token limits, what is held. (The proof that two can share one is at sliding_window_counter::try_acquire_beside.)
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../detail/blocking.hpp"
#include "../error.hpp"
#include "../limiter.hpp"
#include "../sliding_window_counter.hpp"
#include "quota.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0::llm {

/// How a quota_limiter is to enforce its quota. Durations are of the limiter's clock.
struct quota_options {
    std::chrono::nanoseconds jitter{0};  ///< J: the range of the delay from stamp to arrival
    std::chrono::nanoseconds server_timeout{std::chrono::minutes{5}};  ///< T: after it the server has given a call up
    weir::llm::accounting accounting = weir::llm::accounting::any;
    weir::llm::oversize oversize = weir::llm::oversize::refuse;
    quota_start start = quota_start::empty;
};

/// All limits of a quota at once, for calls of one request and so many tokens.
///
///     weir::llm::quota_limiter quota{weir::llm::quota{.rpm = 600, .rps = 10, .tpm = 1'000'000}};
///     if (auto d = quota.try_acquire({.input = input_bound, .output = max_tokens})) { auto used = call(); quota.settle(d, used); }
///     else log(to_string(d.denied_by()), d.retry_after());
///
/// Lock-free; nothing is allocated after construction. Memory order: as sliding_window_counter's.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(weir::detail::cache_line) quota_limiter : public weir::detail::blocking<quota_limiter<Clock, Atomics>> {
public:
    using clock_type = typename weir::detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    using amount = tokens;
    using limits_type = quota;
    using remaining = quota;  ///< what each limit has left; absent where it is not enforced
    using atomics = Atomics;
    class decision;

    /// A call of an earlier run, for `restore`.
    struct past_call {
        time_point sent;                       ///< its stamp
        tokens charge;                         ///< what it used, or, without an end, its bounds
        std::optional<time_point> finished{};  ///< when its reply was read
    };

    /// Throws std::invalid_argument for what `validate` names. Allocates its windows, some 8 KiB for each limit.
    explicit quota_limiter(quota q, quota_options o = {})
        requires std::default_initializable<Clock>
        : quota_limiter{q, o, Clock{}} {}
    quota_limiter(quota q, Clock c)
        requires(!std::is_reference_v<Clock>)
        : quota_limiter{q, quota_options{}, std::move(c)} {}
    quota_limiter(quota q, Clock c)
        requires std::is_reference_v<Clock>
        : quota_limiter{q, quota_options{}, c} {}
    quota_limiter(quota q, quota_options o, Clock c) : clock_{static_cast<Clock&&>(c)}, options_{o} {
        weir::detail::ensure(validate(q, o, resolution_of(clock_.get())));
        time_point const begin = clock_.get().now();
        duration const tick = resolution_of(clock_.get());
        duration const minute = window(std::chrono::minutes{1}, o);
        duration const second = window(std::chrono::seconds{1}, o);
        if (q.rpm) rpm_.emplace(*q.rpm, minute, cut(*q.rpm, minute, o, tick), begin, clock_.get());
        if (q.rps) rps_.emplace(*q.rps, second, cut(*q.rps, second, o, tick), begin, clock_.get());
        counter* held = nullptr;
        if (holds(q, o)) {
            auto const [most, cut_holds] = plan_holds(q, o, tick);
            held = &held_.emplace(most, hold_window(q, o), cut_holds, begin, clock_.get());
            if (o.start == quota_start::full_in_flight) {
                held->restore((std::max)(q.tpm.value_or(0), q.tps.value_or(0)), begin);
            }
        }
        if (q.tpm) tpm_.emplace(*q.tpm, minute, cut(*q.tpm, minute, o, tick), begin, clock_.get(), held);
        if (q.tps) tps_.emplace(*q.tps, second, cut(*q.tps, second, o, tick), begin, clock_.get(), held);
    }

    quota_limiter(quota_limiter const&) = delete;
    quota_limiter& operator=(quota_limiter const&) = delete;

    /// What is wrong with these arguments: a limit of 0, a negative margin, a limit too large for its window's words, a clock
    /// too coarse for a second.
    static error validate(quota const& q, quota_options const& o = {}, duration resolution = duration{1}) {
        if (auto e = quota::validate(q)) return e;
        if (o.jitter < o.jitter.zero()) return {"the jitter margin must not be negative"};
        if (o.server_timeout < o.server_timeout.zero()) return {"the server's timeout must not be negative"};
        constexpr std::chrono::nanoseconds most = std::chrono::hours{24 * 365};
        if (o.jitter > most || o.server_timeout > most) return {"a margin or timeout of more than a year"};
        duration const minute = window(std::chrono::minutes{1}, o);
        duration const second = window(std::chrono::seconds{1}, o);
        if ((q.rps || q.tps) && second / 10 < (std::max)(resolution, duration{1})) {
            return {"the clock is too coarse for a second: more than a tenth of the rate would be lost"};
        }
        if (q.rpm) {
            if (auto e = counter::validate(*q.rpm, minute, cut(*q.rpm, minute, o, resolution), resolution)) return e;
        }
        if (q.rps) {
            if (auto e = counter::validate(*q.rps, second, cut(*q.rps, second, o, resolution), resolution)) return e;
        }
        if (q.tpm) {
            if (auto e = counter::validate(*q.tpm, minute, cut(*q.tpm, minute, o, resolution), resolution)) return e;
        }
        if (q.tps) {
            if (auto e = counter::validate(*q.tps, second, cut(*q.tps, second, o, resolution), resolution)) return e;
        }
        if (holds(q, o)) {
            auto const [holdable, cut_holds] = plan_holds(q, o, resolution);
            if (auto e = counter::validate(holdable, hold_window(q, o), cut_holds, resolution)) return e;
        }
        return {};
    }

    template <class... Args>
    static result<quota_limiter> make(quota q, quota_options o = {}, Args&&... args) {
        if (auto e = validate(q, o, weir::detail::resolution_among<Clock>(args...))) return e;
        return result<quota_limiter>{std::in_place, q, o, std::forward<Args>(args)...};
    }

    /// One request and the tokens that it may use at most. Tokens of 0 ask for a request alone; a negative number is denied
    /// for good. Where the split is not known, name all of it as output. A denial changes nothing. O(1), but for the first
    /// in a new segment.
    decision try_acquire(tokens n) noexcept { return try_acquire(n, clock_.get().now()); }
    decision try_acquire(tokens n, time_point t) noexcept {
        prepared const p = prepare(n, t);
        decision d{this, n, t};
        d.never_ = p.never;
        if (p.granted) commit(d, p);
        return d;
    }

    /// What try_acquire would answer. Changes nothing.
    decision check(tokens n) const noexcept { return check(n, clock_.get().now()); }
    decision check(tokens n, time_point t) const noexcept {
        prepared const p = prepare(n, t);
        decision d{this, n, t};
        d.never_ = p.never;
        d.granted_ = p.granted;
        return d;
    }

    /// The reply was read, and this is what the call used. Holds end; what was overestimated is given back where it was
    /// charged; more than was asked for is debt, charged now: it blocks later calls and is outside the promise. Once: false
    /// when `d` was settled or refunded before, or is another limiter's, and for a negative number.
    [[nodiscard("settle() is false if the call was settled or refunded before")]] bool settle(decision& d,
                                                                                              tokens used) noexcept {
        return settle(d, used, clock_.get().now());
    }
    [[nodiscard("settle() is false if the call was settled or refunded before")]] bool settle(decision& d, tokens used,
                                                                                              time_point now) noexcept {
        if (d.limiter_ != this || used.invalid() || !std::exchange(d.live_, false)) return false;
        if (tpm_) tpm_->settle(d.tpm_, used, now);
        if (tps_) tps_->settle(d.tps_, used, now);
        if (held_) held_->refund_visible(d.held_);
        return true;
    }

    /// The request certainly never left: gives back all of it, exactly, once. False when it was settled or refunded before.
    bool refund(decision& d) noexcept {
        if (d.limiter_ != this || !std::exchange(d.live_, false)) return false;
        give_back(d);
        return true;
    }
    /// Gives back some of the tokens, at most those that were asked for; the request and the others stay taken.
    bool refund(decision& d, tokens some) noexcept {
        if (d.limiter_ != this || !d.live_ || some.invalid()) return false;
        some.input = (std::min)(some.input.value(), d.asked_.input.value());
        some.output = (std::min)(some.output.value(), d.asked_.output.value());
        d.asked_ = {.input = d.asked_.input - some.input, .output = d.asked_.output - some.output};
        permits const counted = held_ ? some.input.value() : some.total();
        if (tpm_) tpm_->counted.refund(d.tpm_, counted);
        if (tps_) tps_->counted.refund(d.tps_, counted);
        if (held_) held_->refund_visible(d.held_, some.output);
        return true;
    }

    /// What each limit has left. A number that is negative by debt is 0.
    quota available() const noexcept { return available(clock_.get().now()); }
    quota available(time_point t) const noexcept {
        quota r;
        if (rpm_) r.rpm = rpm_->available(t);
        if (rps_) r.rps = rps_->available(t);
        if (tpm_) r.tpm = tpm_->available(t);
        if (tps_) r.tps = tps_->available(t);
        return r;
    }

    /// What the windows hold, of tokens with what is held beside them: more than the limit after an overrun.
    quota used() const noexcept { return used(clock_.get().now()); }
    quota used(time_point t) const noexcept {
        quota q;
        if (rpm_) q.rpm = rpm_->used(t);
        if (rps_) q.rps = rps_->used(t);
        if (tpm_) q.tpm = tpm_->used(t);
        if (tps_) q.tps = tps_->used(t);
        return q;
    }

    /// Books what others used of the same account, as if sent at `t`: it need not fit, and blocks later calls until it ages out
    /// or is given back by `refund`, in part or whole. Of limits that there are not, and 0, nothing.
    decision charge(quota const& use, time_point t) noexcept {
        decision d{this, tokens{}, t};
        if (rpm_ && use.rpm) d.rpm_ = rpm_->book(*use.rpm, t);
        if (rps_ && use.rps) d.rps_ = rps_->book(*use.rps, t);
        if (tpm_ && use.tpm) d.tpm_ = tpm_->counted.book(*use.tpm, t);
        if (tps_ && use.tps) d.tps_ = tps_->counted.book(*use.tps, t);
        d.granted_ = true;
        d.live_ = true;
        return d;
    }
    /// Some of what `charge` booked; of each limit at most what is left of it.
    bool refund(decision& d, quota const& some) noexcept {
        if (d.limiter_ != this || !d.live_) return false;
        if (rpm_ && some.rpm) rpm_->refund(d.rpm_, *some.rpm);
        if (rps_ && some.rps) rps_->refund(d.rps_, *some.rps);
        if (tpm_ && some.tpm) tpm_->counted.refund(d.tpm_, *some.tpm);
        if (tps_ && some.tps) tps_->counted.refund(d.tps_, *some.tps);
        return true;
    }

    /// The limits in force.
    quota limits() const noexcept {
        quota q;
        if (rpm_) q.rpm = rpm_->limit();
        if (rps_) q.rps = rps_->limit();
        if (tpm_) q.tpm = tpm_->counted.limit();
        if (tps_) q.tps = tps_->counted.limit();
        return q;
    }

    /// Puts other limits in force. Which limits there are cannot change, only their size. What was charged stays charged; a lowered
    /// limit admits again when enough has aged out. Each limit changes at once for all threads, one after the other; the
    /// error "changed seven times" (busy) may leave the later ones unchanged: ask again. Other errors change nothing.
    [[nodiscard("change() returns an error when it changed nothing")]] error change(quota q) noexcept {
        return change(q, clock_.get().now());
    }
    [[nodiscard("change() returns an error when it changed nothing")]] error change(quota q, time_point t) noexcept {
        if (auto e = quota::validate(q)) return e;
        if (q.rpm.has_value() != rpm_.has_value() || q.rps.has_value() != rps_.has_value() ||
            q.tpm.has_value() != tpm_.has_value() || q.tps.has_value() != tps_.has_value()) {
            return {"a change of quota keeps the limits that there are: make another limiter for others"};
        }
        if ((q.rpm && *q.rpm > rpm_->max_limit()) || (q.rps && *q.rps > rps_->max_limit()) ||
            (q.tpm && *q.tpm > tpm_->max_limit()) || (q.tps && *q.tps > tps_->max_limit())) {
            return {"a limit is too large for the words of its window: make another limiter for it"};
        }
        error e{};
        if (q.rpm && !e) e = rpm_->change({*q.rpm}, t);
        if (q.rps && !e) e = rps_->change({*q.rps}, t);
        if (q.tpm && !e) e = tpm_->counted.change({*q.tpm}, t);
        if (q.tps && !e) e = tps_->counted.change({*q.tps}, t);
        return e;
    }

    /// Before the limiter is shared: books calls of an earlier run, at their stamps on this clock. Calls without an end are held
    /// as if they were in flight.
    void restore(std::span<past_call const> calls) noexcept {
        for (auto const& c : calls) {
            if (rpm_) rpm_->restore(1, c.sent);
            if (rps_) rps_->restore(1, c.sent);
            if (tpm_) tpm_->restore(c);
            if (tps_) tps_->restore(c);
            if (held_ && !c.finished) held_->restore(c.charge.output, c.sent);
        }
    }

    clock_type const& clock() const noexcept { return clock_.get(); }
    quota_options const& options() const noexcept { return options_; }

private:
    using counter = sliding_window_counter<clock_type const&, Atomics>;

    /// A thousandth of a window is the slack of the counters, more where the limit leaves no room for so many segments.
    static constexpr std::uint32_t segments_for(std::uint64_t limit, duration w, duration resolution,
                                                std::uint32_t most = 1000) noexcept {
        for (std::uint32_t const s : {1000U, 500U, 250U, 125U, 60U}) {
            if (s <= most && !counter::validate(limit, w, {.segments = s}, resolution)) return s;
        }
        return 20;
    }

    static constexpr duration ceil(std::chrono::nanoseconds d) noexcept { return std::chrono::ceil<duration>(d); }
    static constexpr duration window(std::chrono::nanoseconds w, quota_options const& o) noexcept {
        return ceil(w + o.jitter);
    }
    static constexpr counter_options cut(std::uint64_t limit, duration w, quota_options const& o,
                                         duration resolution) noexcept {
        return {.segments = segments_for(limit, w, resolution),
                .initial = o.start == quota_start::empty ? all_permits : 0};
    }

    static duration hold_window(quota const& q, quota_options const& o) noexcept {
        return window(q.tpm ? std::chrono::seconds{60} : std::chrono::seconds{1}, o) + ceil(o.server_timeout);
    }

    /// Holds are within the limits but for attempts under way, each of which may hold as much for a moment. The window of
    /// holds has room for a good many, so that it does not saturate; it lasts minutes and may be cut more coarsely.
    struct hold_layout {
        std::uint64_t limit;
        counter_options cut;
    };
    static hold_layout plan_holds(quota const& q, quota_options const& o, duration resolution) noexcept {
        std::uint64_t most = (std::max)(q.tpm.value_or(1), q.tps.value_or(1));
        counter_options const cut{.segments = segments_for(most, hold_window(q, o), resolution, 250)};
        for (int i = 0; i < 10 && !(most >> 62U); ++i) {
            if (counter::validate(most * 2, hold_window(q, o), cut, resolution)) break;
            most *= 2;
        }
        return {most, cut};
    }
    static bool holds(quota const& q, quota_options const& o) noexcept {
        return (q.tpm || q.tps) && o.accounting != accounting::reserve;
    }

    /// How a call is to be charged to a token limit: `count` at once, and of what it holds `own` need not fit.
    struct token_plan {
        std::uint64_t count = 0;
        std::uint64_t own = 0;
        bool never = false;
        bool alone = false;  // larger than the limit: it needs an empty window, and counts in full
    };

    /// A token limit: what counts, and beside it what all calls in flight hold, which is the same for every token limit.
    struct token_part {
        counter counted;
        counter* held;  // none where nothing is ever held

        token_part(std::uint64_t limit, duration w, counter_options const& o, time_point begin, clock_type const& c,
                   counter* beside)
            : counted{limit, w, o, begin, c}, held{beside} {}

        [[gnu::__always_inline__]] token_plan plan_for(tokens n, std::uint64_t hold,
                                                       quota_options const& o) const noexcept {
            std::uint64_t const limit = counted.limit();
            std::uint64_t const total = n.total();
            bool const strict = o.accounting == accounting::any || o.accounting == accounting::reserve;
            if ((strict ? total : n.input.value()) > limit) {
                // All of it, whether or not its output is held as well: what is above the limit needs an empty window.
                std::uint64_t const all = strict ? total : n.input.value();
                return {(std::min)(all, counted.max_limit()), hold, o.oversize == oversize::refuse, true};
            }
            if (held == nullptr || hold == 0) return {total, 0, false};
            // An exchange on the window's word is what makes an admission one event: at least one token is counted.
            return {n.input == 0 ? 1 : n.input.value(), strict ? 0 : hold, false};
        }

        [[gnu::__always_inline__]] typename counter::offer make_offer(token_plan const& p, std::uint64_t hold,
                                                                      typename counter::usage others,
                                                                      time_point t) const noexcept {
            if (p.alone) [[unlikely]]
                return counted.make_offer_alone(p.count, t, with(others, hold - p.own, 0));
            if (held == nullptr) return counted.make_offer(p.count, t);
            return counted.make_offer_beside(p.count, t, [&] { return with(others, hold - p.own, 0); });
        }
        [[gnu::__noinline__]] bool charge_beside(token_plan const& p, time_point t,
                                                 typename counter::receipt& r) noexcept {
            if (p.alone) {
                auto d = counted.try_acquire_alone(p.count, t);
                r = std::move(d.receipt());
                if (!d.granted() || held == nullptr || with(held->used_as_of(t), 0, p.own).used == 0)
                    return d.granted();
                counted.refund(r);
                return false;
            }
            auto d = held == nullptr
                         ? counted.try_acquire(p.count, t)
                         : counted.try_acquire_beside(p.count, t, [&] { return with(held->used_as_of(t), 0, p.own); });
            r = std::move(d.receipt());
            return d.granted();
        }

        /// What moves is counted where it comes before it is released where it was: the caller ends the hold after this.
        void settle(typename counter::receipt& r, tokens used, time_point now) noexcept {
            std::uint64_t const charged = r.live();
            std::uint64_t const counts = held == nullptr ? used.total() : used.input.value();
            std::uint64_t const late =
                (held == nullptr ? 0 : used.output.value()) + (counts > charged ? counts - charged : 0);
            if (late != 0) counted.book(late, now);
            if (counts < charged) counted.refund(r, charged - counts);
        }

        void restore(past_call const& c) noexcept {
            if (held == nullptr) {
                counted.restore(c.charge.total(), c.sent);
            } else {
                counted.restore(c.charge.input, c.sent);
                if (c.finished) counted.restore(c.charge.output, *c.finished);
            }
        }

        std::uint64_t max_limit() const noexcept {
            return held == nullptr ? counted.max_limit() : (std::min)(counted.max_limit(), held->max_limit());
        }

        std::uint64_t available(time_point t) const noexcept {
            std::uint64_t const free = counted.available(t);
            std::uint64_t const hold = held == nullptr ? 0 : held->used(t);
            return free > hold ? free - hold : 0;
        }

        /// What is held first: a settle between the looks is then counted in both, else in neither.
        std::uint64_t used(time_point t) const noexcept {
            std::uint64_t const hold = held == nullptr ? 0 : held->used(t);
            return with({counted.used(t)}, hold, 0).used;
        }

        /// The first time from t on at which the plan fits, if nothing is taken or settled. Both windows only fall, so
        /// the first fit is found by halving where holds age out meanwhile.
        time_point first_fit(token_plan const& p, std::uint64_t own_hold, time_point t) const noexcept {
            if (held == nullptr) return first_fit_without_holds(p, own_hold, t);
            std::uint64_t const limit = counted.limit();
            std::uint64_t const needed = p.alone ? limit : p.count + (own_hold - p.own);
            if (p.never || needed > limit) return (time_point::max)();
            std::uint64_t const budget = limit - needed;
            time_point low = held->first_fit(budget, t);
            if (low == (time_point::max)()) return low;
            std::uint64_t const hold = held->used(low);
            time_point high = counted.first_fit(budget - (std::min)(hold, budget), low);
            if (high == (time_point::max)() || held->used(high) == hold) return high;
            while (low < high) {
                time_point const mid = low + (high - low) / 2;
                std::uint64_t const h = held->used(mid);
                if (h <= budget && counted.used(mid) <= budget - h) {
                    high = mid;
                } else {
                    low = mid + duration{1};
                }
            }
            return high;
        }

        /// The first time at which it fits if all that is in flight were settled at nothing.
        time_point first_fit_without_holds(token_plan const& p, std::uint64_t own_hold, time_point t) const noexcept {
            std::uint64_t const limit = counted.limit();
            std::uint64_t const needed = p.alone ? limit : p.count + (own_hold - p.own);
            return p.never || needed > limit ? (time_point::max)() : counted.first_fit(limit - needed, t);
        }

        static typename counter::usage with(typename counter::usage u, std::uint64_t more,
                                            std::uint64_t less) noexcept {
            u.used = u.used > less ? u.used - less : 0;
            u.used = u.used + more < more ? (std::numeric_limits<std::uint64_t>::max)() : u.used + more;
            return u;
        }
    };

    /// What a call of n holds until it is settled. Beyond the greatest limit that `change` accepts it makes no difference.
    [[gnu::__always_inline__]] std::uint64_t hold_for(tokens n) const noexcept {
        if (!held_ || n.output == 0) return 0;
        permits const most = held_->max_limit();
        return (std::min)(n.input == 0 ? n.output - 1 : n.output.value(), most);
    }

    /// Phase one of a call: what each window would do, of one time point. Nothing is changed.
    struct prepared {
        token_plan minute{}, second{};
        std::uint64_t hold = 0;
        typename counter::offer rps{}, rpm{}, tpm{}, tps{};
        bool never = false;
        bool granted = false;
    };
    [[gnu::__always_inline__]] prepared prepare(tokens n, time_point t) const noexcept {
        prepared p;
        if (n.invalid()) [[unlikely]] {
            p.never = true;
            return p;
        }
        bool const counts_tokens = n.input != 0 || n.output != 0;
        p.hold = hold_for(n);
        if (tpm_ && counts_tokens) p.minute = tpm_->plan_for(n, p.hold, options_);
        if (tps_ && counts_tokens) p.second = tps_->plan_for(n, p.hold, options_);
        p.never = p.minute.never || p.second.never;
        if (p.never) return p;
        if (rps_ && !(p.rps = rps_->make_offer(1, t)).granted()) return p;
        if (rpm_ && !(p.rpm = rpm_->make_offer(1, t)).granted()) return p;
        typename counter::usage others{};
        if (held_ && counts_tokens) others = held_->used_as_of(t);
        if (p.minute.count != 0 && !(p.tpm = tpm_->make_offer(p.minute, p.hold, others, t)).granted()) return p;
        if (p.second.count != 0 && !(p.tps = tps_->make_offer(p.second, p.hold, others, t)).granted()) return p;
        p.granted = true;
        return p;
    }
    /// Phase two: charges what was prepared, or nothing.
    [[gnu::__always_inline__]] void commit(decision& d, prepared const& p) noexcept {
        time_point const t = d.at_;
        if (held_ && (p.minute.count != 0 || p.second.count != 0)) held_->advance_to(t);
        if ((!rpm_ || rpm_->accept(p.rpm, 1, t, d.rpm_)) && (!rps_ || rps_->accept(p.rps, 1, t, d.rps_)) &&
            charge_tokens(d, p, t)) [[likely]] {
            d.granted_ = true;
            d.live_ = true;
        } else {
            give_back(d);
        }
    }
    [[gnu::__always_inline__]] bool charge_tokens(decision& d, prepared const& p, time_point t) noexcept {
        if (held_ || p.minute.alone || p.second.alone)
            return charge_beside_holds(d, p.minute, p.second, p.tpm, p.tps, p.hold, t);
        return (p.minute.count == 0 || tpm_->counted.accept(p.tpm, p.minute.count, t, d.tpm_)) &&
               (p.second.count == 0 || tps_->counted.accept(p.tps, p.second.count, t, d.tps_));
    }

    /// The hold first, then what counts, then one look at what is held, for both token limits. Where that does not do, somebody
    /// came between, and they are charged one by one.
    bool charge_beside_holds(decision& d, token_plan const& minute, token_plan const& second,
                             typename counter::offer tpm, typename counter::offer tps, std::uint64_t hold,
                             time_point t) noexcept {
        if (hold != 0) d.held_ = held_->book(hold, t);
        if (!minute.alone && !second.alone && (minute.count == 0 || tpm_->counted.claim(tpm, minute.count, d.tpm_)) &&
            (second.count == 0 || tps_->counted.claim(tps, second.count, d.tps_))) [[likely]] {
            auto const held = held_->used_as_of(t);
            if ((minute.count == 0 || tpm_->counted.confirm(d.tpm_, token_part::with(held, 0, minute.own))) &&
                (second.count == 0 || tps_->counted.confirm(d.tps_, token_part::with(held, 0, second.own))))
                [[likely]] {
                return true;
            }
        }
        if (tpm_) tpm_->counted.refund(d.tpm_);
        if (tps_) tps_->counted.refund(d.tps_);
        return (minute.count == 0 || tpm_->charge_beside(minute, t, d.tpm_)) &&
               (second.count == 0 || tps_->charge_beside(second, t, d.tps_));
    }

    [[gnu::__noinline__]] void give_back(decision& d) noexcept {
        if (rpm_) rpm_->refund(d.rpm_);
        if (rps_) rps_->refund(d.rps_);
        if (tpm_) tpm_->counted.refund(d.tpm_);
        if (tps_) tps_->counted.refund(d.tps_);
        if (held_) held_->refund_visible(d.held_);
    }

    [[no_unique_address]] weir::detail::clock_box<Clock> clock_;
    quota_options options_;
    std::optional<counter> rpm_;
    std::optional<counter> rps_;
    std::optional<counter> held_;  // what calls in flight hold of every token limit; none under accounting::reserve
    std::optional<token_part> tpm_;
    std::optional<token_part> tps_;
};

/// What an attempt returned, and, when granted, the receipt by which it is settled or refunded: keep it with the call. It refers
/// to its limiter, which must outlive it. What is asked of a denial is computed then, from the limiter as it then is; O(segments).
template <class Clock, class Atomics>
    requires clock<Clock>
class [[nodiscard("a decision says whether the call may be sent")]] quota_limiter<Clock, Atomics>::decision {
public:
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    decision(decision&& other) noexcept
        : limiter_{other.limiter_},
          asked_{other.asked_},
          at_{other.at_},
          rpm_{std::move(other.rpm_)},
          rps_{std::move(other.rps_)},
          tpm_{std::move(other.tpm_)},
          tps_{std::move(other.tps_)},
          held_{std::move(other.held_)},
          granted_{other.granted_},
          live_{std::exchange(other.live_, false)},
          never_{other.never_} {}
    decision& operator=(decision&& other) noexcept {
        if (this != &other) {
            limiter_ = other.limiter_;
            asked_ = other.asked_;
            at_ = other.at_;
            rpm_ = std::move(other.rpm_);
            rps_ = std::move(other.rps_);
            tpm_ = std::move(other.tpm_);
            tps_ = std::move(other.tps_);
            held_ = std::move(other.held_);
            granted_ = other.granted_;
            live_ = std::exchange(other.live_, false);
            never_ = other.never_;
        }
        return *this;
    }

    bool granted() const noexcept { return granted_; }
    explicit operator bool() const noexcept { return granted_; }
    /// The call is larger than a limit, and such calls are refused; or a number of tokens is negative.
    bool never() const noexcept { return never_; }
    /// Why it is never granted; none where waiting helps.
    weir::error error() const noexcept {
        if (!never_) return {};
        return weir::detail::never_granted(asked_.invalid() ? permit_count::invalid_value : 0);
    }
    /// What each limit has left at the time of the attempt.
    quota remaining() const noexcept { return limiter_->available(at_); }
    /// When all windows are empty if nobody takes and nothing in flight is settled.
    time_point full_at() const noexcept {
        time_point t = at_;
        for (auto const* c : {&limiter_->rpm_, &limiter_->rps_, &limiter_->held_}) {
            if (*c) t = (std::max)(t, (*c)->first_fit(0, at_));
        }
        for (auto const* p : {&limiter_->tpm_, &limiter_->tps_}) {
            if (*p) t = (std::max)(t, (*p)->counted.first_fit(0, at_));
        }
        return t;
    }

    /// The earliest instant at which the same attempt is granted, if nobody takes and nothing in flight is settled; the time
    /// of the attempt when granted, time_point::max() when never.
    time_point retry_at() const noexcept { return granted_ ? at_ : never_ ? (time_point::max)() : latest().when; }
    /// How long that is from the attempt, at most 30 years.
    duration retry_after() const noexcept { return weir::detail::retry_after(at_, retry_at()); }
    std::int64_t retry_after_seconds() const noexcept { return weir::detail::seconds_rounded_up(retry_after()); }
    /// The limit that keeps it waiting longest; none when granted.
    limit denied_by() const noexcept { return granted_ ? limit::none : latest().which; }
    /// Outputs of calls in flight are what it waits for: a settle may let it in before retry_at. Under accounting::reserve these
    /// are not told from others: true for all that wait longest for tokens.
    bool awaits_settlement() const noexcept {
        if (granted_ || never_) return false;
        time_point without = at_;
        auto const consider = [&](time_point t) { without = (std::max)(without, t); };
        if (limiter_->rpm_) consider(request(*limiter_->rpm_));
        if (limiter_->rps_) consider(request(*limiter_->rps_));
        std::uint64_t const hold = limiter_->hold_for(asked_);
        for (auto const* part : {&limiter_->tpm_, &limiter_->tps_}) {
            if (*part && asked_.total() != 0 && limiter_->held_) {
                auto const plan = (*part)->plan_for(asked_, hold, limiter_->options_);
                consider((*part)->first_fit_without_holds(plan, hold, at_));
            }
        }
        return without < latest().when;
    }

    /// The time of the attempt: the stamp, when granted.
    time_point at() const noexcept { return at_; }
    /// What was asked for.
    tokens asked() const noexcept { return asked_; }

private:
    friend class quota_limiter;

    struct bound {
        time_point when;
        limit which;
    };

    decision(quota_limiter const* limiter, tokens asked, time_point at) noexcept
        : limiter_{limiter}, asked_{asked}, at_{at} {}

    time_point request(counter const& c) const noexcept { return c.first_fit(c.limit() - 1, at_); }

    bound latest() const noexcept {
        bound b{at_, limit::none};
        auto const consider = [&](time_point t, limit which) {
            if (t > b.when || b.which == limit::none) b = {t, which};
        };
        if (limiter_->rpm_) consider(request(*limiter_->rpm_), limit::rpm);
        if (limiter_->rps_) consider(request(*limiter_->rps_), limit::rps);
        if (asked_.total() != 0) {
            std::uint64_t const hold = limiter_->hold_for(asked_);
            auto const fit = [&](token_part const& p) {
                return p.first_fit(p.plan_for(asked_, hold, limiter_->options_), hold, at_);
            };
            if (limiter_->tpm_) consider(fit(*limiter_->tpm_), limit::tpm);
            if (limiter_->tps_) consider(fit(*limiter_->tps_), limit::tps);
        }
        return b;
    }

    quota_limiter const* limiter_;
    tokens asked_;
    time_point at_;
    typename counter::receipt rpm_{};
    typename counter::receipt rps_{};
    typename counter::receipt tpm_{};
    typename counter::receipt tps_{};
    typename counter::receipt held_{};
    bool granted_ = false;
    bool live_ = false;
    bool never_ = false;
};

quota_limiter(quota, quota_options = {}) -> quota_limiter<>;
template <weir::detail::clock_or_reference C>
quota_limiter(quota, C) -> quota_limiter<weir::detail::clock_argument_t<C>>;
template <weir::detail::clock_or_reference C>
quota_limiter(quota, quota_options, C) -> quota_limiter<weir::detail::clock_argument_t<C>>;

static_assert(weir::limiter<quota_limiter<>>);

}  // namespace weir::inline v0::llm

#pragma pop_macro("check")
