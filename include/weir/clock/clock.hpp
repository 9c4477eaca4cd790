// SPDX-License-Identifier: MIT
//
// What a limiter requires of a clock. Every std::chrono clock satisfies it, and so does an object with a now() of its
// own.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "../detail/saturating.hpp"
#include "../detail/wide.hpp"

namespace weir::inline v0::detail {

/// Whether `Duration` has room for 30 years of its ticks.
template <class Duration>
inline constexpr bool counts_thirty_years =
    thirty_years<Duration>() <= static_cast<std::uint64_t>((std::numeric_limits<typename Duration::rep>::max)());

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// A source of time points: an object, or a type with a static now() like the clocks of std::chrono.
/// - Its representation must be a signed integer of at most 64 bits, since limiters count in integers.
/// - It must count 30 years of its own ticks: 32-bit milliseconds wrap after 25 days, and a limiter would then deny for
///   as long again.
/// - steady_clock does not count suspend on Linux (CLOCK_MONOTONIC): after one, a limiter refills later than wall time
///   says, never earlier. Use boot_clock where that matters.
///
/// A limiter that is given a clock object owns a copy of it. To share one clock, pass std::ref(clock), or write the
/// reference in the limiter's type; the clock must then outlive the limiter.
template <class C>
concept clock = requires(std::remove_reference_t<C> const& c) {
    typename std::remove_reference_t<C>::duration;
    typename std::remove_reference_t<C>::time_point;
    { c.now() } -> std::convertible_to<typename std::remove_reference_t<C>::time_point>;
    requires std::signed_integral<typename std::remove_reference_t<C>::duration::rep>;
    requires sizeof(typename std::remove_reference_t<C>::duration::rep) <= sizeof(std::int64_t);
    requires detail::counts_thirty_years<typename std::remove_reference_t<C>::duration>;
};

/// The smallest step of `c`: c.resolution() if it has one, else one tick of its duration.
template <class C>
constexpr auto resolution_of(C const& c) noexcept -> typename C::duration {
    if constexpr (requires { c.resolution(); }) {
        return c.resolution();
    } else {
        return typename C::duration{1};
    }
}

/// A clock with a second, cheaper reading. A limiter that reads its own clock first tries at now_approx(). If it must
/// deny at that time, it denies without reading now(); a grant always reads now().
///
/// What is denied at one time point is denied at every earlier one. So there are two kinds:
/// - now_approx() is never before what now() would return (upper_bounding_clock; see upper_bound_clock). Denials are
///   then exact.
/// - now_approx() is late by at most max_lag() (see hybrid_clock). A denial may then last longer by that much.
///
/// now_approx() returns time_point::max() when it is not known; the limiter then reads now().
template <class C>
concept approximate_clock = clock<C> && requires(std::remove_reference_t<C> const& c) {
    { c.now_approx() } -> std::convertible_to<typename std::remove_reference_t<C>::time_point>;
};

/// An approximate_clock whose now_approx() is never before now().
template <class C>
concept upper_bounding_clock = approximate_clock<C> && !requires(std::remove_reference_t<C> const& c) { c.max_lag(); };

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// What a constructor's clock argument makes of a limiter: std::ref(c) refers to c, anything else is copied or moved
/// in.
template <class C>
struct clock_argument {
    using type = C;
};
// A std::reference_wrapper, recognised by its members: <functional> would cost a third of what including a limiter
// does.
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

/// The types of a clock; C may be a reference, or std::ref of one, as a constructor is offered it.
template <class C>
struct clock_traits {
    using type = std::remove_cvref_t<clock_argument_t<C>>;
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

/// What a constructor of a limiter by Clock takes as its clock.
template <class C, class Clock>
concept clock_for = clock_or_reference<C> && std::constructible_from<clock_box<Clock>, C>;

/// The resolution of the clock, or std::ref of one, among a constructor's arguments, else of a default-constructed
/// `Clock`.
template <class Clock, class... Args>
constexpr auto resolution_among(Args const&... args) {
    typename clock_traits<Clock>::duration d{1};
    [[maybe_unused]] auto const look = [&d]<class A>(A const& a) {
        if constexpr (clock<A>) {
            d = resolution_of(a);
        } else if constexpr (clock_or_reference<A>) {
            d = resolution_of(a.get());
        }
    };
    if constexpr ((clock_or_reference<Args> || ...)) {
        (look(args), ...);
    } else if constexpr (std::default_initializable<Clock>) {
        d = resolution_of(Clock{});
    }
    return d;
}

/// C::is_steady; false for a clock without it.
template <class C>
inline constexpr bool is_steady = false;
template <class C>
    requires requires { C::is_steady; }
inline constexpr bool is_steady<C> = C::is_steady;

/// In a decision: whether it was denied at now_approx(), so that its attempt has no time on the clock. Empty for other
/// clocks.
template <class Clock>
struct approx_mark {
    static constexpr bool is_approx = false;
};
template <approximate_clock Clock>
struct approx_mark<Clock> {
    bool is_approx = false;
};

/// When an attempt that was denied at now_approx() can be granted, given that one at the precise time can be at `at`.
template <approximate_clock C>
constexpr auto approx_retry_at(C const& c, typename C::time_point at) -> typename C::time_point {
    if constexpr (upper_bounding_clock<C>) {
        return at;
    } else {
        using time_point = typename C::time_point;
        return at > (time_point::max)() - c.max_lag() ? (time_point::max)() : at + c.max_lag();
    }
}

/// How long that is from now. A now_approx() that lags by more than max_lag() costs another max_lag().
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
