// SPDX-License-Identifier: MIT
//
// A clock that counts the time in which the machine was suspended.
#pragma once

#include <chrono>

#if defined(__linux__)
#include <time.h>
#endif

#include "../detail/parker.hpp"
#include "../detail/saturating.hpp"
#include "clock.hpp"

namespace weir::inline v0 {

/// Time since boot, suspend included: CLOCK_BOOTTIME on Linux. Elsewhere it is std::chrono::steady_clock, and
/// counts_suspend is false: whether that clock counts suspend is the system's choice. Nanoseconds; never goes back.
///
/// Use it for a limiter whose server goes on counting while this machine sleeps: laptops, phones, paused virtual
/// machines. With steady_clock such a limiter waits again, after the resume, for what the server has long refilled.
///
///     weir::token_bucket bucket{weir::rate{60, 1min}, 10, weir::boot_clock{}};
///
/// Waiting: the system's timed waits do not count suspend, so a wait by this clock consists of naps, and the clock is
/// read after each. A nap lasts an eighth of what is left to wait, but at least 20 ms and at most 1 s. So a waiter
/// whose time has come during suspend wakes at most one nap after the resume.
///
/// Cost of now(): as steady_clock's with Linux 5.3 or later, which answers in user space; a system call before.
class boot_clock {
public:
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<boot_clock>;
    static constexpr bool is_steady = true;

#if defined(CLOCK_BOOTTIME)
    static constexpr bool counts_suspend = true;

    static time_point now() noexcept {
        timespec t{};
        ::clock_gettime(CLOCK_BOOTTIME, &t);
        return time_point{std::chrono::seconds{t.tv_sec} + duration{t.tv_nsec}};
    }
#else
    static constexpr bool counts_suspend = false;

    static time_point now() noexcept {
        return time_point{std::chrono::duration_cast<duration>(std::chrono::steady_clock::now().time_since_epoch())};
    }
#endif

    /// See weir::wait_until.
    static bool wait_until(parker& p, time_point t);
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// The longest nap of a waiter that has `left` to wait.
constexpr std::chrono::nanoseconds nap_within(std::chrono::nanoseconds left) noexcept {
    constexpr std::chrono::nanoseconds shortest = std::chrono::milliseconds{20};
    constexpr std::chrono::nanoseconds longest = std::chrono::seconds{1};
    std::chrono::nanoseconds const nap = left / 8 < shortest ? shortest : left / 8 > longest ? longest : left / 8;
    return nap < left ? nap : left;
}

/// Waits for t by a clock that runs on while naps do not. `nap(d)` sleeps for d at most, of time without suspend, and
/// returns true when it was notified, which ends the wait. False once now() >= t.
template <class TimePoint, class Now, class Nap>
bool wait_in_naps(TimePoint t, Now now, Nap nap) {
    for (;;) {
        std::chrono::nanoseconds const left{saturating_sub(ticks(t), ticks(now()))};
        if (left.count() <= 0) return nap(std::chrono::nanoseconds{0});
        if (nap(t == (TimePoint::max)() ? std::chrono::nanoseconds{std::chrono::hours{1}} : nap_within(left)))
            return true;
    }
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

inline bool boot_clock::wait_until(parker& p, time_point t) {
    return detail::wait_in_naps(t, &boot_clock::now,
                                [&p](duration d) { return d.count() > 0 ? p.wait_for(d) : p.take(); });
}

}  // namespace weir::inline v0
