// SPDX-License-Identifier: MIT
//
// The words that all limiters share: permits, start states, and what a limiter and its decision look like.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "clock/clock.hpp"

namespace weir::inline v0 {

/// Units that a limiter hands out.
using permits = std::uint64_t;

/// What a limiter holds when it is made: all it may ever hold, nothing, or so many permits (at most what it may hold).
struct start {
    permits available = std::numeric_limits<permits>::max();

    static constexpr start full() noexcept { return {}; }
    static constexpr start empty() noexcept { return {0}; }
    static constexpr start with(permits n) noexcept { return {n}; }
};

/// What an attempt returns. Granted or not; when not, `retry_at` is the earliest instant at which the same attempt could be
/// granted if nobody else takes (time_point::max() when it never can), and `retry_after` how long that is from the attempt.
/// When granted, `retry_at` is the time of the attempt.
template <class D>
concept decision = requires(D const& d) {
    { d.granted() } -> std::same_as<bool>;
    { static_cast<bool>(d) };
    { d.never() } -> std::same_as<bool>;
    d.retry_at();
    d.retry_after();
};

/// A limiter: asks come in with or without a time point; `check` says what `try_acquire` would, and charges nothing.
template <class L>
concept limiter = requires(L& l, permits n, typename L::time_point t, typename L::decision& d) {
    typename L::clock_type;
    typename L::duration;
    requires decision<typename L::decision>;
    { l.try_acquire(n) } -> std::same_as<typename L::decision>;
    { l.try_acquire(n, t) } -> std::same_as<typename L::decision>;
    { l.check(n, t) } -> std::same_as<typename L::decision>;
    l.refund(d);
    { l.available(t) } -> std::convertible_to<permits>;
    { l.clock().now() } -> std::convertible_to<typename L::time_point>;
};

}  // namespace weir::inline v0
