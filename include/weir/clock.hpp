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

}  // namespace weir::inline v0::detail
