// SPDX-License-Identifier: MIT
//
// ramp: a limiter that grows smoothly from rest, for servers with burst protection ("request rate increased too
// quickly") whose threshold varies and is not published. Its model of the server: a request is refused if the requests
// of the last interval would exceed max(first, growth × their mean per interval over the memory). The ramp keeps to
// this rule with its own `first` and `growth`, and learns both: a burst verdict lowers the one that was in force,
// intervals at the limit without one raise it.
//
// Why such a server refuses nothing, and what that costs: detail/ramp_state.hpp.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../detail/blocking.hpp"
#include "../detail/decision_head.hpp"
#include "../detail/ramp_state.hpp"
#include "../error.hpp"
#include "../limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

struct ramp_options {
    any_duration<> interval{std::chrono::seconds{1}};  ///< in which the server counts
    permit_count memory = 10;                          ///< intervals of the mean: 3 to 15
    permit_count first = 2;                            ///< permits in an interval, from rest
    permit_count max_first = 64;                       ///< `first` is never learned above this
    permit_count growth = 150;                         ///< per cent of the mean
    permit_count max_growth = 400;                     ///< `growth` is never learned above this
    any_duration<> jitter{};                           ///< range of the delay to arrival
};

/// A limiter for requests, in addition to a quota_limiter or in an all_of with any limiter. A permit is a request.
///
///     weir::ramp ramp{weir::ramp_options{}};
///     auto d = ramp.acquire(1);
///     if (verdict_of(call()).cause == cause::burst) ramp.burst(d);
///
/// At rest it saves up no more than a sixteenth of an interval. Several permits at once are granted after as long a gap
/// as they would have taken one by one; more than `first` of them never.
/// State: one word for spacing, one for A in this segment, one for what was learned, and a ring of counts (1 KiB).
/// Lock-free. A grant is two exchanges, and a third once a segment; a denial and a check write nothing.
/// Memory order: relaxed throughout, since each word is used on its own. Do not publish other data through it.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(detail::cache_line) ramp : public detail::blocking<ramp<Clock, Atomics>> {
public:
    using clock_type = typename detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    using amount = permit_count;
    class decision;

    /// What it has learned, rounded down, and what `change` takes.
    struct limits_type {
        permit_count first;
        permit_count growth;  ///< per cent

        friend constexpr bool operator==(limits_type const&, limits_type const&) = default;
    };

    /// Throws std::invalid_argument for what `validate` names.
    explicit ramp(ramp_options const& o = {})
        requires(!std::is_reference_v<Clock>)
        : ramp{o, Clock{}} {}
    explicit ramp(ramp_options const& o, Clock c) : ramp{o, time_point{c.now()}, static_cast<Clock&&>(c)} {}
    /// The same, with the instant at which it begins.
    explicit ramp(ramp_options const& o, time_point origin, Clock c)
        : clock_{static_cast<Clock&&>(c)},
          first_{as_count(o.first)},
          max_first_{as_count(o.max_first)},
          max_growth_{as_count(o.max_growth)},
          origin_{detail::ticks(origin)},
          state_{first_, max_first_, as_count(o.growth), max_growth_, as_count(o.memory)} {
        detail::ensure(validate(o, resolution_of(clock_.get())));
        std::int64_t const whole = std::chrono::ceil<duration>(o.interval).count();
        length_ = static_cast<std::uint64_t>(whole) / per_interval;
        slack_ = length_ / 2;
        unit_ = static_cast<std::uint64_t>(whole) + slack_ +
                static_cast<std::uint64_t>(std::chrono::ceil<duration>(o.jitter).count());
    }
    ramp(ramp const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    ramp& operator=(ramp const&) = delete;

    [[nodiscard("validate only reports")]] static constexpr error validate(ramp_options const& o,
                                                                           duration resolution = duration{1}) noexcept {
        if (o.interval <= o.interval.zero() || o.interval > std::chrono::hours{1})
            return {"interval must be positive and at most 1 hour"};
        if (std::chrono::floor<duration>(o.interval) < 64 * (std::max)(resolution, duration{1}))
            return {"interval must be at least 64 steps of the clock"};
        if (o.memory < 3U || o.memory > 15U) return {"memory must be from 3 to 15 intervals"};
        if (o.first.invalid() || o.max_first.invalid()) return {"the number of permits must not be negative"};
        if (o.first == 0U) return {"first must be at least 1"};
        if (o.max_first < o.first || o.max_first > 50'000U) return {"max_first must be from first to 50,000"};
        if (o.growth < 125U) return {"growth must be at least 125 per cent"};
        if (o.max_growth < o.growth || o.max_growth > 6'000U)
            return {"max_growth must be from growth to 6,000 per cent"};
        if (o.jitter < o.jitter.zero() || o.jitter > std::chrono::hours{1}) return {"jitter must be from 0 to 1 hour"};
        return {};
    }
    /// A ramp, or the reason why there is none. Arguments as the constructors'.
    template <class... Rest>
    [[nodiscard("make returns the ramp")]] static result<ramp> make(ramp_options const& o, Rest&&... rest) {
        if (auto e = validate(o, detail::resolution_among<Clock>(rest...))) return e;
        return result<ramp>{std::in_place, o, std::forward<Rest>(rest)...};
    }

    /// Takes n permits if the spacing allows it, else nothing. O(1); once a segment O(memory).
    [[nodiscard("a dropped decision limits nothing")]] decision try_acquire(permit_count n = 1) noexcept {
        return try_acquire(n, clock_.get().now());
    }
    [[nodiscard("a dropped decision limits nothing")]] decision try_acquire(permit_count n, time_point t) noexcept {
        decision d = attempt(n, t);
        if (!d.granted_ || n == 0U) return d;
        std::uint64_t const at = since_origin(t);
        std::uint64_t const segment = at / length_;
        while (!tat_.compare_exchange_weak(d.before_, d.after_, std::memory_order_relaxed, std::memory_order_relaxed)) {
            d = attempt(n, t);
            if (!d.granted_) return d;
        }
        state_.publish(segment);
        state_.count(segment, n);
        d.live_ = detail::live_permits{n};
        return d;
    }
    /// What try_acquire would answer. Takes nothing, and changes nothing.
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n = 1) const noexcept {
        return check(n, clock_.get().now());
    }
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n, time_point t) const noexcept {
        return attempt(n, t);
    }

    /// The request never left: it no longer counts, and if no other call has taken since, the next grant is as early as
    /// before. Or k of its permits. Once; returns what was given back.
    permits refund(decision& d) noexcept { return refund(d, d.live_.count()); }
    permits refund(decision& d, permit_count k) noexcept {
        if (d.ramp_ != this || k.invalid()) return 0;
        permits const back = d.live_.take(k);
        if (back == 0) return 0;
        if (back == d.n_) {
            // tat_ falls only from a receipt's after_ to its before_, so no two live receipts end at one value.
            std::uint64_t expected = d.after_;
            tat_.compare_exchange_strong(expected, d.before_, std::memory_order_relaxed, std::memory_order_relaxed);
        }
        state_.uncount(segment_of(d.at_), back);
        return back;
    }

    /// Corrects a grant to the requests actually sent, once. Fewer: the rest is refunded. More: they count, and delay
    /// the next grants; more than 100,000 count as so many.
    [[nodiscard("false says that the decision was settled or refunded before")]] bool settle(
        decision& d, permit_count actual) noexcept {
        if (d.ramp_ != this || actual.invalid() || d.live_.count() == 0) return false;
        permits const live = d.live_.count();
        if (actual < live) {
            refund(d, live - actual);
        } else if (actual > live) {
            permits const more = (std::min<permits>)(actual - live, 100'000);
            tat_.fetch_add(more * d.step(), std::memory_order_relaxed);
            state_.count(segment_of(d.at_), more);
        }
        d.live_.take_all();
        return true;
    }

    /// Burst protection refused what `d` granted. The server did not count it, so the ramp does not either. Lowers what
    /// was in force by a quarter, once an interval however many verdicts come. Once for each decision.
    bool burst(decision& d) noexcept { return burst(d, clock_.get().now()); }
    bool burst(decision& d, time_point now) noexcept {
        if (d.ramp_ != this) return false;
        permits const live = d.live_.take_all();
        if (live == 0) return false;
        state_.uncount(segment_of(d.at_), live);
        state_.cut(segment_of(now), d.from_rest_);
        return true;
    }

    /// How many permits can be taken at once.
    permits available() const noexcept { return available(clock_.get().now()); }
    permits available(time_point t) const noexcept { return attempt(0, t).remaining(); }

    /// Replaces what was learned, from the next segment on. Errors, with nothing changed: what the options do not
    /// allow.
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l) noexcept {
        return change(l, clock_.get().now());
    }
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l, time_point) noexcept {
        if (l.first == 0U || l.first > max_first_) return {"first must be from 1 to max_first"};
        if (l.growth < 125U || l.growth > max_growth_) return {"growth must be from 125 to max_growth per cent"};
        state_.set(l.first, as_count(l.growth));
        return {};
    }
    limits_type limits() const noexcept { return limits_of(state_.learned()); }

    /// Permits per interval that are allowed at t, rounded down.
    permits current(time_point t) const noexcept { return state_.allowance(segment_of(t)) / permit; }
    permits first() const noexcept { return limits().first; }
    std::uint32_t growth() const noexcept { return as_count(limits().growth); }

    clock_type const& clock() const noexcept { return clock_.get(); }

private:
    using state = detail::ramp_state<Atomics>;
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t per_interval = state::per_interval;
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t permit = state::permit;

    static constexpr limits_type limits_of(std::uint64_t learned) noexcept {
        return {state::first_of(learned), state::growth_of(learned)};
    }
    static constexpr std::uint32_t as_count(permit_count n) noexcept { return static_cast<std::uint32_t>(n.value()); }

    std::uint64_t since_origin(time_point t) const noexcept {
        std::int64_t const d = detail::saturating_sub(detail::ticks(t), origin_);
        return d > 0 ? static_cast<std::uint64_t>(d) : 0;
    }
    std::uint64_t segment_of(time_point t) const noexcept { return since_origin(t) / length_; }
    std::uint64_t spacing(std::uint64_t allowed) const noexcept {
        // unit_ < 2^43 for two hours and a bit of nanoseconds.
        return (unit_ * permit + allowed - 1) / allowed;
    }

    /// The answer at t, and, if it is granted, the exchange of tat_ that would take it.
    decision attempt(permit_count n, time_point t) const noexcept {
        std::uint64_t const tat = tat_.load(std::memory_order_relaxed);
        std::uint64_t const at = since_origin(t);
        decision d{this, t, n};
        d.before_ = tat;
        if (n > first_) {
            d.retry_at_ = (time_point::max)();
            d.after_ = spacing(state_.allowance(at / length_));
            return d;
        }
        std::uint64_t const a = state_.allowance(at / length_);
        d.from_rest_ = state_.from_rest(a);
        std::uint64_t const step = spacing(a);
        std::uint64_t const due = n <= 1U || tat == 0 ? tat : tat + (n - 1) * step;
        if (n != 0U && due > at) {
            d.retry_at_ = point(due);
            d.after_ = step;
            return d;
        }
        d.granted_ = true;
        d.after_ = n == 0U ? step : (std::max)(tat, at > slack_ ? at - slack_ : 0) + n * step;
        return d;
    }
    time_point point(std::uint64_t since_origin) const noexcept {
        auto const since = static_cast<std::int64_t>((std::min)(since_origin, ~std::uint64_t{0} >> 1U));
        return detail::time_of_tick<time_point>(detail::saturating_add(origin_, since));
    }

    [[no_unique_address]] detail::clock_box<Clock> clock_;
    std::uint32_t first_;
    std::uint32_t max_first_;
    std::uint32_t max_growth_;
    std::int64_t origin_;
    std::uint64_t length_ = 1;  // of a segment, in ticks
    std::uint64_t slack_ = 0;
    std::uint64_t unit_ = 1;
    // The earliest time of the next grant, in ticks since the origin; 0 until the first one.
    typename Atomics::template atomic<std::uint64_t> tat_{0};
    state state_;
};

/// What an attempt returned, and, when granted, the receipt by which it is refunded, settled or reported as refused.
/// A snapshot. It refers to its ramp, which must outlive it.
template <class Clock, class Atomics>
    requires clock<Clock>
class [[nodiscard("a dropped decision limits nothing")]] ramp<Clock, Atomics>::decision
    : public detail::decision_head<time_point> {
    using head = detail::decision_head<time_point>;

public:
    weir::error error() const noexcept { return head::never() ? detail::never_granted(n_) : weir::error{}; }
    /// Permits that could be taken at once just after the attempt.
    permits remaining() const noexcept {
        std::uint64_t const at = ramp_->since_origin(head::at_);
        std::uint64_t const tat = left();
        if (tat == 0) return ramp_->first_;
        return tat > at ? 0 : (std::min<std::uint64_t>)((at - tat) / step() + 1, ramp_->first_);
    }
    /// When `first` permits can be taken at once, if no call takes any.
    time_point full_at() const noexcept {
        std::uint64_t const tat = left();
        std::uint64_t const full = tat == 0 ? 0 : tat + (ramp_->first_ - 1) * step();
        return full <= ramp_->since_origin(head::at_) ? head::at_ : ramp_->point(full);
    }

private:
    friend class ramp;
    decision(ramp const* r, time_point t, permit_count n) noexcept : head{t}, ramp_{r}, n_{n} {}

    // A grant of permits has the new tat_ in after_. Any other decision has the spacing there.
    bool took() const noexcept { return head::granted_ && n_ != 0; }
    std::uint64_t left() const noexcept { return took() ? after_ : before_; }
    std::uint64_t step() const noexcept {
        if (!took()) return after_;
        std::uint64_t const at = ramp_->since_origin(head::at_);
        return (after_ - (std::max)(before_, at > ramp_->slack_ ? at - ramp_->slack_ : 0)) / n_;
    }

    ramp const* ramp_;
    permits n_;
    detail::live_permits live_{};
    std::uint64_t before_ = 0;
    std::uint64_t after_ = 0;
    bool from_rest_ = false;
};

ramp(ramp_options) -> ramp<std::chrono::steady_clock>;
template <detail::clock_or_reference C>
ramp(ramp_options, C) -> ramp<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C>
ramp(ramp_options, typename std::remove_cvref_t<detail::clock_argument_t<C>>::time_point, C)
    -> ramp<detail::clock_argument_t<C>>;

static_assert(limiter<ramp<>>);

}  // namespace weir::inline v0

#pragma pop_macro("check")
