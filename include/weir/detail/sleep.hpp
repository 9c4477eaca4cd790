// SPDX-License-Identifier: MIT
//
// Sleeping by a clock without a thread library: what the limiters' blocking verbs need, and no header more.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <type_traits>

#if __has_include(<unistd.h>)
#include <ctime>
#else
#include <thread>
#endif

#include "../clock/clock.hpp"

namespace weir::inline v0 {

class parker;

/// A clock that sleeps in its own way: one that does not run at the speed of real time must. Its wait_until returns
/// true when the parker was notified (and takes the notification), and false once now() >= t.
template <class C>
concept sleeping_clock = clock<C> && requires(C const& c, parker& p, typename C::time_point t) {
    { c.wait_until(p, t) } -> std::same_as<bool>;
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// The next real-time sleep on the way to `t`: an hour at most, since libraries differ in what they do with a wait
/// that passes the end of their clock. Rounded up, so that a clock with ticks of a second is not read over and over.
template <class TimePoint>
constexpr std::chrono::nanoseconds sleep_step(TimePoint now, TimePoint t) noexcept {
    using duration = typename TimePoint::duration;
    constexpr auto longest = std::chrono::hours{1};
    bool const is_long =
        saturating_sub(ticks(t), ticks(now)) > static_cast<std::int64_t>(std::chrono::ceil<duration>(longest).count());
    return is_long ? std::chrono::nanoseconds{longest} : std::chrono::ceil<std::chrono::nanoseconds>(t - now);
}

/// Sleeps for `d` of real time, or less.
inline void sleep_for_real(std::chrono::nanoseconds d) noexcept {
#if __has_include(<unistd.h>)
    constexpr std::int64_t second = 1'000'000'000;
    std::timespec left{};
    left.tv_sec = to<decltype(left.tv_sec)>(d.count() / second);
    left.tv_nsec = to<decltype(left.tv_nsec)>(d.count() % second);
    ::nanosleep(&left, nullptr);
#else
    std::this_thread::sleep_for(d);
#endif
}

/// Sleeps until c.now() >= t. A clock without a wait_until of its own is taken to run at the speed of real time; a
/// step of such a clock is noticed when the sleep that was computed before the step ends.
template <class C>
void sleep_by(C const& c, typename C::time_point t) {
    using time_point = typename C::time_point;
    if constexpr (sleeping_clock<C>) {
        // Its header has defined the parker.
        std::conditional_t<std::is_void_v<C>, void, parker> p;
        static_cast<void>(c.wait_until(p, t));
    } else {
        for (time_point now = c.now(); now < t; now = c.now()) sleep_for_real(sleep_step(now, t));
    }
}

}  // namespace weir::inline v0::detail
