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

namespace weir::inline v0 {

/// A source of time points: an object, or a type with a static now(), as std::chrono has them. Its representation must be
/// a signed integer of at most 64 bits, since limiters count in integers.
template <class C>
concept clock = requires(std::remove_reference_t<C> const& c) {
    typename std::remove_reference_t<C>::duration;
    typename std::remove_reference_t<C>::time_point;
    { c.now() } -> std::convertible_to<typename std::remove_reference_t<C>::time_point>;
    requires std::signed_integral<typename std::remove_reference_t<C>::duration::rep>;
    requires sizeof(typename std::remove_reference_t<C>::duration::rep) <= sizeof(std::int64_t);
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
        if constexpr (clock<decltype(a)>) d = resolution_of(a);
    };
    if constexpr ((clock<Args> || ...)) {
        (look(args), ...);
    } else if constexpr (std::default_initializable<Clock>) {
        d = resolution_of(Clock{});
    }
    return d;
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
        return b < 0 ? std::numeric_limits<std::int64_t>::max() : std::numeric_limits<std::int64_t>::min();
    }
    return r;
}

/// a + b without overflow: the result is clamped to the range of the type.
constexpr std::int64_t saturating_add(std::int64_t a, std::int64_t b) noexcept {
    std::int64_t r{};
    if (__builtin_add_overflow(a, b, &r)) {
        return b > 0 ? std::numeric_limits<std::int64_t>::max() : std::numeric_limits<std::int64_t>::min();
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
        return at > time_point::max() - c.max_lag() ? time_point::max() : at + c.max_lag();
    }
}

/// How long that is from now on. A glance that lags more than it says is waited for as long again.
template <approximate_clock C>
constexpr auto approx_retry_after(C const& c, typename C::time_point retry_at) -> typename C::duration {
    using duration = typename C::duration;
    using rep = typename duration::rep;
    if (retry_at == C::time_point::max()) return duration::max();
    std::int64_t const left = saturating_sub(ticks(retry_at), ticks(typename C::time_point{c.now()}));
    if (left > 0) return duration{static_cast<rep>(left)};
    if constexpr (upper_bounding_clock<C>) {
        return duration::zero();
    } else {
        return c.max_lag();
    }
}

}  // namespace weir::inline v0::detail
