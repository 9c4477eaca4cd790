// SPDX-License-Identifier: MIT
// A clock that is never read: for limiters that are given the time.
#pragma once

#include <chrono>

struct no_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<no_clock>;
    static time_point now() noexcept { return {}; }
};
