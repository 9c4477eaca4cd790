// SPDX-License-Identifier: MIT
//
// What a limiter asks of a clock. Any std::chrono clock will do, and any object with a now() of its own.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "../detail/wide.hpp"

namespace weir::inline v0::detail {

/// Whether `Duration` has room for 30 years of its ticks.
template <class Duration>
inline constexpr bool counts_thirty_years =
    thirty_years<Duration>() <= static_cast<std::uint64_t>((std::numeric_limits<typename Duration::rep>::max)());

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// A source of time points: an object, or a type with a static now(), as std::chrono has them.
/// - Its representation must be a signed integer of at most 64 bits, since limiters count in integers.
/// - It must count 30 years of its own ticks: 32-bit milliseconds wrap after 25 days, and a limiter would then deny for
///   as long again.
/// - A steady clock stops while the machine sleeps (CLOCK_MONOTONIC on Linux): a limiter then refills later than wall
///   time says, never earlier. Take boot_clock where that matters.
template <class C>
concept clock = requires(std::remove_reference_t<C> const& c) {
    typename std::remove_reference_t<C>::duration;
    typename std::remove_reference_t<C>::time_point;
    { c.now() } -> std::convertible_to<typename std::remove_reference_t<C>::time_point>;
    requires std::signed_integral<typename std::remove_reference_t<C>::duration::rep>;
    requires sizeof(typename std::remove_reference_t<C>::duration::rep) <= sizeof(std::int64_t);
    requires detail::counts_thirty_years<typename std::remove_reference_t<C>::duration>;
};

/// The smallest step that `c` is known to take: c.resolution() where it has one, else one tick of its duration.
template <class C>
constexpr auto resolution_of(C const& c) noexcept -> typename C::duration {
    if constexpr (requires { c.resolution(); }) {
        return c.resolution();
    } else {
        return typename C::duration{1};
    }
}

/// A clock that can be glanced at as well, for less than now() costs: now_approx() is the time at which a limiter that reads its own
/// clock tries first whether it must refuse; time_point::max() where it is not known. What is refused at a later time is
/// refused at an earlier one too, so if now_approx() is never before what now() would be, refusals at a glance are exact
/// (upper_bound_clock). A clock whose glance lags says by how much in max_lag(): its limiters may refuse so much longer
/// (hybrid_clock). Grants always read now().
template <class C>
concept approximate_clock = clock<C> && requires(std::remove_reference_t<C> const& c) {
    { c.now_approx() } -> std::convertible_to<typename std::remove_reference_t<C>::time_point>;
};

/// approximate_clock, and its glance is never before now().
template <class C>
concept upper_bounding_clock = approximate_clock<C> && !requires(std::remove_reference_t<C> const& c) { c.max_lag(); };

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// The types of a clock that may be given as a reference.
template <class C>
struct clock_traits {
    using type = std::remove_cvref_t<C>;
    using duration = typename type::duration;
    using time_point = typename type::time_point;
    using period = typename duration::period;
};

/// Holds a clock by value, or refers to it when C is a reference; then it must outlive the holder.
template <class C>
class clock_box {
public:
    constexpr clock_box() = default;
    template <class T>
        requires std::constructible_from<C, T&&> && (!std::same_as<std::remove_cvref_t<T>, clock_box>)
    constexpr explicit clock_box(T&& c) : clock_(std::forward<T>(c)) {}

    constexpr C const& get() const noexcept { return clock_; }

private:
    [[no_unique_address]] C clock_;
};

/// What a constructor's clock argument makes of a limiter: std::ref(c) refers to c, anything else is copied or moved in.
template <class C>
struct clock_argument {
    using type = C;
};
// A std::reference_wrapper, recognised by its members: <functional> would cost a third of what including a limiter does.
template <class C>
    requires requires(C const& c) {
        typename C::type;
        { c.get() } -> std::same_as<typename C::type&>;
    }
struct clock_argument<C> {
    using type = typename C::type&;
};
template <class C>
using clock_argument_t = typename clock_argument<std::remove_cvref_t<C>>::type;

/// A clock, or std::ref of one.
template <class C>
concept clock_or_reference = clock<clock_argument_t<C>>;

template <class C>
class clock_box<C&> {
public:
    constexpr explicit clock_box(C& c) noexcept : clock_{__builtin_addressof(c)} {}

    constexpr C& get() const noexcept { return *clock_; }

private:
    C* clock_;
};

/// The resolution of the clock among a constructor's arguments, else of the one that `Clock` makes by default.
template <class Clock, class... Args>
constexpr auto resolution_among(Args const&... args) {
    typename clock_traits<Clock>::duration d{1};
    [[maybe_unused]] auto const look = [&d](auto const& a) {
        if constexpr (clock_or_reference<decltype(a)>) {
            std::remove_reference_t<clock_argument_t<decltype(a)>> const& c = a;  // of std::ref, what it refers to
            d = resolution_of(c);
        }
    };
    if constexpr ((clock_or_reference<Args> || ...)) {
        (look(args), ...);
    } else if constexpr (std::default_initializable<Clock>) {
        d = resolution_of(Clock{});
    }
    return d;
}

/// x as a T; no conversion where it is one already, so that no warning of a useless cast appears in a user's build.
template <class T, class U>
constexpr T to(U x) noexcept {
    if constexpr (std::same_as<T, U>) {
        return x;
    } else {
        return static_cast<T>(x);
    }
}

/// A duration of any representation and period in ticks of `Duration`, rounded up, and clamped to its range. Not a number
/// is zero. For waits and deadlines: seconds::max() and 300 years are as long as `Duration` can say.
template <class Duration, class Rep, class Period>
constexpr Duration saturating_ceil(std::chrono::duration<Rep, Period> d) noexcept {
    using rep = typename Duration::rep;
    using ratio = std::ratio_divide<Period, typename Duration::period>;
    constexpr std::uint64_t num = static_cast<std::uint64_t>(ratio::num);
    constexpr std::uint64_t den = static_cast<std::uint64_t>(ratio::den);
    if constexpr (std::floating_point<Rep>) {
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
        constexpr std::uint64_t most = static_cast<std::uint64_t>((std::numeric_limits<rep>::max)());
        if (negative) {
            std::uint64_t const ticks = mul_div_floor(magnitude, num, den);
            return ticks > most ? (Duration::min)() : Duration{static_cast<rep>(-static_cast<std::int64_t>(ticks))};
        }
        std::uint64_t const ticks = mul_div_ceil(magnitude, num, den);
        return ticks > most ? (Duration::max)() : Duration{static_cast<rep>(ticks)};
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

/// a - b without overflow: the result is clamped to the range of the type.
constexpr std::int64_t saturating_sub(std::int64_t a, std::int64_t b) noexcept {
    std::int64_t r{};
    if (__builtin_sub_overflow(a, b, &r)) {
        return b < 0 ? (std::numeric_limits<std::int64_t>::max)() : (std::numeric_limits<std::int64_t>::min)();
    }
    return r;
}

/// a + b without overflow: the result is clamped to the range of the type.
constexpr std::int64_t saturating_add(std::int64_t a, std::int64_t b) noexcept {
    std::int64_t r{};
    if (__builtin_add_overflow(a, b, &r)) {
        return b > 0 ? (std::numeric_limits<std::int64_t>::max)() : (std::numeric_limits<std::int64_t>::min)();
    }
    return r;
}

/// What a clock says of itself; nothing said is false.
template <class C>
inline constexpr bool is_steady = false;
template <class C>
    requires requires { C::is_steady; }
inline constexpr bool is_steady<C> = C::is_steady;

/// In a decision: whether it is a refusal at a glance, so that its time of attempt is no clock's. Empty for other clocks.
template <class Clock>
struct approx_mark {
    static constexpr bool is_approx = false;
};
template <approximate_clock Clock>
struct approx_mark<Clock> {
    bool is_approx = false;
};

/// From when on an attempt is granted that was refused at a glance, where one at the precise time is granted at `at`.
template <approximate_clock C>
constexpr auto approx_retry_at(C const& c, typename C::time_point at) -> typename C::time_point {
    if constexpr (upper_bounding_clock<C>) {
        return at;
    } else {
        using time_point = typename C::time_point;
        return at > (time_point::max)() - c.max_lag() ? (time_point::max)() : at + c.max_lag();
    }
}

/// How long that is from now on. A glance that lags more than it says is waited for as long again.
template <approximate_clock C>
constexpr auto approx_retry_after(C const& c, typename C::time_point retry_at) -> typename C::duration {
    using duration = typename C::duration;
    using rep = typename duration::rep;
    if (retry_at == (C::time_point::max)()) return (duration::max)();
    std::int64_t const left = saturating_sub(ticks(retry_at), ticks(typename C::time_point{c.now()}));
    if (left > 0) return duration{static_cast<rep>(left)};
    if constexpr (upper_bounding_clock<C>) {
        return duration::zero();
    } else {
        return c.max_lag();
    }
}

}  // namespace weir::inline v0::detail
