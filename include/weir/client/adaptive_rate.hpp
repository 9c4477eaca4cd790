// SPDX-License-Identifier: MIT
//
// adaptive_rate: finds the rate that a server really grants, where the configured quota is only a starting point: other
// clients share it, or it is raised or lowered at run time. It counts what the server served, is told of refusals for
// rate, and says what to ask for.
//
// A refusal lowers the rate to 7/8. If less than 3/4 of the rate was served in the last window, it lowers to 7/8 of
// that (in a sliding window this is what the server now grants), but by half at most. All requests sent before a
// lowering cause no other one. Nor is there one while nothing has been served since: a window over its limit must drain
// first, and tells nothing about the rate. From the second refusal on, the rate is then a quarter for each, so that the
// wait costs few requests.
// Without refusals the rate follows a curve, back at the old rate after `recovery`, flat around it and steep beyond it
// (CUBIC), but no further above it than twice what was served in a window: a rate that is not used is not tried.
// Source: RFC 9438 (CUBIC, with its fast convergence); RFC 7661 for unused rates.
//
// Speed and waste (in virtual time against an exact judge; docs/adaptive.md has the table and the command). One client
// gets 94 to 97% of the limit with 0.2% refused; two that do not know of each other get 94 to 99% together, with under
// 0.5% refused. A halved limit is found in 40 to 110 s with about 12 refusals, of which a window's draining is half a
// minute; a restored one in 110 to 150 s. AIMD with the same cut and recovery shares as well, but needs 250 to 480 s
// for the restored limit, and gets 84 to 95% alone.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../detail/wide.hpp"
#include "../error.hpp"
#include "../limiter.hpp"
#include "../rate.hpp"

namespace weir::inline v0 {

/// Rates are permits (requests, or tokens) per `window`.
struct adaptive_options {
    permits start = 0;                                  ///< the configured quota
    permits least = 1;                                  ///< the estimate never falls below
    permits most = 0;                                   ///< nor rises above; 0: `start`
    any_duration<> window{std::chrono::minutes{1}};     ///< the server's
    any_duration<> recovery{std::chrono::seconds{45}};  ///< until a lowered rate is back where it was
};

/// From `from` at 0 through `peak` at `recovery`, and beyond: peak + (peak − from)·((t − recovery)/recovery)³.
struct cubic_growth {
    static constexpr permits at(permits from, permits peak, std::uint64_t t, std::uint64_t recovery) noexcept {
        constexpr std::int64_t one = 1024;
        std::uint64_t const whole = (std::min<std::uint64_t>)(t / recovery, 9);
        std::int64_t const x = static_cast<std::int64_t>(whole == 9 ? 9 * one : t * one / recovery) -
                               one;  // t < 9·recovery, which has 13 bits to spare
        std::uint64_t const depth = peak - from;
        if (x < 0) {
            auto const cube = static_cast<std::uint64_t>(-x * -x * -x);
            return peak - weir::detail::div(weir::detail::mul(depth, cube), std::uint64_t{1} << 30U).value;
        }
        auto const cube = static_cast<std::uint64_t>(x * x * x);
        return peak + weir::detail::div(weir::detail::mul(depth, cube), std::uint64_t{1} << 30U).value;
    }
};

/// One dimension of a quota. Tell it each answer; put its rate in force where it is enforced:
///
///     weir::adaptive_rate requests{{.start = 600, .least = 30, .most = 1200}};
///     if (served) requests.served(1, sent); else if (cause is request_rate) requests.refused(sent);
///     requests.apply(bucket, 1);           // a token_bucket, or
///     limiter.change(weir::llm::scaled(quota, requests.share(), tokens.share()));   // a quota_limiter
///
/// All verbs take one mutex for some tens of nanoseconds: they come with answers, never with attempts, and their state
/// is many words that must agree. `Growth` is the curve.
template <class Clock = std::chrono::steady_clock, class Growth = cubic_growth>
    requires clock<Clock>
class adaptive_rate {
public:
    using clock_type = typename weir::detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;

    /// Throws std::invalid_argument for what `validate` names.
    explicit adaptive_rate(adaptive_options o)
        requires(!std::is_reference_v<Clock>)
        : adaptive_rate{o, Clock{}} {}
    template <class C>
        requires std::constructible_from<weir::detail::clock_box<Clock>, C&&>
    adaptive_rate(adaptive_options o, C&& c)
        : clock_{std::forward<C>(c)},
          options_{o},
          origin_{clock_.get().now()},
          since_{origin_},
          from_{o.start},
          peak_{o.start} {
        weir::detail::ensure(validate(o, resolution_of(clock_.get())));
        if (options_.most == 0) options_.most = o.start;
        segment_ = static_cast<std::uint64_t>(std::chrono::ceil<duration>(o.window).count()) / segments;
        recovery_ = static_cast<std::uint64_t>(std::chrono::ceil<duration>(o.recovery).count());
    }

    static constexpr error validate(adaptive_options const& o, duration resolution = duration{1}) noexcept {
        permits const most = o.most == 0 ? o.start : o.most;
        if (o.start == 0) return {"start must be at least 1"};
        if (o.least == 0) return {"least must be at least 1"};
        if (o.least > o.start || o.start > most) return {"start must be from least to most"};
        if (most >> 40U) return {"most must be below 2^40 permits per window"};
        if (o.window <= o.window.zero() || o.window > std::chrono::hours{1})
            return {"window must be positive and at most 1 hour"};
        if (std::chrono::floor<duration>(o.window) < segments * (std::max)(resolution, duration{1})) {
            return {"window must be at least 32 steps of the clock"};
        }
        if (o.recovery <= o.recovery.zero() || o.recovery > std::chrono::hours{24} ||
            std::chrono::floor<duration>(o.recovery) < duration{1}) {
            return {"recovery must be positive and at most 1 day"};
        }
        return {};
    }

    /// The server served n permits of a request that was sent (granted by the limiter) at `sent`.
    void served(permits n, time_point sent) { served(n, sent, clock_.get().now()); }
    void served(permits n, time_point sent, time_point now) {
        std::lock_guard const lock{mutex_};
        std::uint64_t const s = segment_at(now);
        auto& slot = ring_[s % ring_size];
        if (slot.segment < s) slot = {s, 0};
        if (slot.segment == s) slot.count += n;
        if (sent > since_ || !ever_cut_) {
            served_since_ = true;
            refusals_ = 0;
        }
    }

    /// The server refused one for rate (requests for an adaptive_rate of requests, tokens for one of tokens). True when
    /// it lowered the rate.
    bool refused(time_point sent) { return refused(sent, clock_.get().now()); }
    bool refused(time_point sent, time_point now) {
        std::lock_guard const lock{mutex_};
        if (ever_cut_ && sent <= since_) return false;
        if (ever_cut_ && !served_since_ && now - since_ < std::chrono::ceil<duration>(options_.window)) {
            refusals_ = (std::min)(refusals_ + 1, 3U);
            return false;
        }
        permits const rate = curve(now);
        // Served over a window lags behind a rate that climbs: it is believed where it is far off.
        permits got = std::clamp(served_in_window(now), rate / 2, rate);
        if (got > rate - rate / 4) got = rate;
        permits const before = peak_;
        from_ = std::clamp(got - got / 8, options_.least, options_.most);
        // A client that found less than last time leaves room for others: the shares become equal faster.
        peak_ = (std::max)(from_, got < before ? got - got / 16 : got);
        since_ = now;
        ever_cut_ = true;
        served_since_ = false;
        refusals_ = 0;
        return true;
    }

    /// What to ask for, in permits per window.
    permits current() { return current(clock_.get().now()); }
    permits current(time_point now) {
        std::lock_guard const lock{mutex_};
        permits const c = curve(now);
        return (std::max<permits>)(c >> (2 * refusals_), 1);
    }
    weir::rate rate() { return rate(clock_.get().now()); }
    weir::rate rate(time_point now) { return {current(now), options_.window}; }

    /// A part of what it started with, in 1,048,576ths.
    std::uint64_t share() { return share(clock_.get().now()); }
    std::uint64_t share(time_point now) {
        return weir::detail::div(weir::detail::mul(current(now), std::uint64_t{1} << 20U), options_.start).value;
    }

    /// Puts it in force in a token_bucket (or what has its `change`), if it has moved by a 64th since. Errors: the
    /// bucket's.
    template <class Bucket>
    error apply(Bucket& bucket, permits burst) {
        return apply(bucket, burst, clock_.get().now());
    }
    template <class Bucket>
    error apply(Bucket& bucket, permits burst, time_point now) {
        permits const c = current(now);
        {
            std::lock_guard const lock{mutex_};
            permits const moved = c > applied_ ? c - applied_ : applied_ - c;
            if (moved == 0 || moved * 64 < applied_) return {};
            applied_ = c;
        }
        error const e = bucket.change({weir::rate{c, options_.window}, burst}, now);
        if (e) {
            std::lock_guard const lock{mutex_};
            applied_ = 0;  // next time
        }
        return e;
    }

    clock_type const& clock() const noexcept { return clock_.get(); }

private:
    [[gnu::__visibility__("hidden")]] static constexpr int segments = 32;
    static constexpr std::size_t ring_size = 64;

    struct count {
        std::uint64_t segment = 0;
        permits count = 0;
    };

    std::uint64_t segment_at(time_point t) const noexcept {
        auto const d = weir::detail::saturating_sub(weir::detail::ticks(t), weir::detail::ticks(origin_));
        return d > 0 ? static_cast<std::uint64_t>(d) / segment_ : 0;
    }
    /// Of the segment of now and 31 before it: a 32nd too little at most.
    permits served_in_window(time_point now) const noexcept {
        std::uint64_t const s = segment_at(now);
        permits sum = 0;
        for (auto const& c : ring_) {
            if (c.segment <= s && c.segment + segments > s) sum += c.count;
        }
        return sum;
    }
    permits curve(time_point now) const noexcept {
        auto const age = weir::detail::saturating_sub(weir::detail::ticks(now), weir::detail::ticks(since_));
        permits const depth = (std::max<permits>)(peak_ - from_, peak_ / 16);
        permits const low = peak_ - (std::min)(depth, peak_);
        permits const to = Growth::at(low, peak_, age > 0 ? static_cast<std::uint64_t>(age) : 0, recovery_);
        permits const tried = (std::max)(peak_, 2 * served_in_window(now));
        return std::clamp((std::max)((std::min)(to, tried), from_), options_.least, options_.most);
    }

    [[no_unique_address]] weir::detail::clock_box<Clock> clock_;
    adaptive_options options_;
    time_point origin_;
    std::uint64_t segment_ = 1;
    std::uint64_t recovery_ = 1;

    std::mutex mutex_{};
    time_point since_;  // the last lowering
    permits from_;      // the rate after it
    permits peak_;      // what was granted before it
    permits applied_ = 0;
    bool ever_cut_ = false;
    bool served_since_ = false;  // of what was sent since
    unsigned refusals_ = 0;      // of that, while nothing was served
    std::array<count, ring_size> ring_{};
};

adaptive_rate(adaptive_options) -> adaptive_rate<std::chrono::steady_clock>;
template <weir::detail::clock_or_reference C>
adaptive_rate(adaptive_options, C) -> adaptive_rate<weir::detail::clock_argument_t<C>>;

}  // namespace weir::inline v0
