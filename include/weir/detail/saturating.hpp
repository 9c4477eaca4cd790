// SPDX-License-Identifier: MIT
//
// Time arithmetic that stops at the ends of its type instead of wrapping, and the duration of an option, which any
// std::chrono duration converts to.
#pragma once

#include "cpp20.hpp"

#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <ratio>
#include <utility>

#include "wide.hpp"

namespace weir::inline v0::detail {

/// x as a T; no conversion where it is one already, so that no warning of a useless cast appears in a user's build.
template <class T, class U>
constexpr T to(U x) noexcept {
    if constexpr (std::same_as<T, U>) {
        return x;
    } else {
        return static_cast<T>(x);
    }
}

/// A duration of any representation and period in ticks of `Duration`, rounded up and clamped to its range. Not a
/// number is zero. For waits and deadlines: seconds::max() and 300 years become Duration::max().
template <class Duration, class Rep, class Period>
constexpr Duration saturating_ceil(std::chrono::duration<Rep, Period> d) noexcept {
    using rep = typename Duration::rep;
    using ratio = std::ratio_divide<Period, typename Duration::period>;
    constexpr std::uint64_t num = static_cast<std::uint64_t>(ratio::num);
    constexpr std::uint64_t den = static_cast<std::uint64_t>(ratio::den);
    if constexpr (std::floating_point<Rep>) {
        if (d.count() != d.count()) return Duration{0};  // not a number, with which no constant may be computed
        long double const x = static_cast<long double>(d.count()) * ratio::num / ratio::den;
        if (!(x < static_cast<long double>((std::numeric_limits<rep>::max)())))
            return x != x ? Duration{0} : (Duration::max)();
        if (x <= static_cast<long double>((std::numeric_limits<rep>::min)())) return (Duration::min)();
        rep const whole = static_cast<rep>(x);
        return Duration{static_cast<long double>(whole) < x ? to<rep>(whole + 1) : whole};
    } else {
        static_assert(std::integral<Rep> && sizeof(Rep) <= sizeof(std::int64_t),
                      "a duration counts integers or floating-point numbers");
        bool negative = false;
        if constexpr (std::signed_integral<Rep>) negative = d.count() < 0;
        std::uint64_t const magnitude =
            negative ? std::uint64_t{0} - to<std::uint64_t>(d.count()) : to<std::uint64_t>(d.count());
        constexpr std::uint64_t largest = static_cast<std::uint64_t>((std::numeric_limits<rep>::max)());
        if (negative) {
            std::uint64_t const ticks = mul_div_floor(magnitude, num, den);
            return ticks > largest ? (Duration::min)() : Duration{static_cast<rep>(-static_cast<std::int64_t>(ticks))};
        }
        std::uint64_t const ticks = mul_div_ceil(magnitude, num, den);
        return ticks > largest ? (Duration::max)() : Duration{static_cast<rep>(ticks)};
    }
}

/// t + d, clamped to the range of the clock.
template <class TimePoint>
constexpr TimePoint saturating_add(TimePoint t, typename TimePoint::duration d) noexcept {
    using rep = typename TimePoint::duration::rep;
    rep r{};
    if (__builtin_add_overflow(t.time_since_epoch().count(), d.count(), &r)) {
        return d.count() > 0 ? (TimePoint::max)() : (TimePoint::min)();
    }
    return TimePoint{typename TimePoint::duration{r}};
}

/// Ticks of a time point since its clock's epoch.
template <class TimePoint>
constexpr std::int64_t ticks(TimePoint t) noexcept {
    return static_cast<std::int64_t>(t.time_since_epoch().count());
}

/// The time point of a tick; the clock's last or first where it has none.
template <class TimePoint>
constexpr TimePoint time_of_tick(std::int64_t t) noexcept {
    using rep = typename TimePoint::rep;
    if (!std::in_range<rep>(t)) return t > 0 ? (TimePoint::max)() : (TimePoint::min)();
    return TimePoint{typename TimePoint::duration{static_cast<rep>(t)}};
}

/// a - b without overflow: the result is clamped to the range of the type.
constexpr std::int64_t saturating_sub(std::int64_t a, std::int64_t b) noexcept {
    std::int64_t r{};
    if (__builtin_sub_overflow(a, b, &r)) {
        return b < 0 ? (std::numeric_limits<std::int64_t>::max)() : (std::numeric_limits<std::int64_t>::min)();
    }
    return r;
}

/// a + b, or the greatest number where it does not fit.
constexpr std::uint64_t saturating_sum(std::uint64_t a, std::uint64_t b) noexcept {
    return a + b < a ? (std::numeric_limits<std::uint64_t>::max)() : a + b;
}

/// a + b without overflow: the result is clamped to the range of the type.
constexpr std::int64_t saturating_add(std::int64_t a, std::int64_t b) noexcept {
    std::int64_t r{};
    if (__builtin_add_overflow(a, b, &r)) {
        return b > 0 ? (std::numeric_limits<std::int64_t>::max)() : (std::numeric_limits<std::int64_t>::min)();
    }
    return r;
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// The duration of an option or a parameter: any std::chrono duration converts to it, rounded up to whole ticks and
/// clamped to the range, so that 0.5s, hours::max() and 300 years are all valid. Converts to `Duration`, and is used as
/// one.
template <class Duration = std::chrono::nanoseconds>
class any_duration : public Duration {
public:
    constexpr any_duration() noexcept : Duration{0} {}
    template <class Rep, class Period>
    constexpr any_duration(std::chrono::duration<Rep, Period> d) noexcept
        : Duration{detail::saturating_ceil<Duration>(d)} {}
};

}  // namespace weir::inline v0
