// SPDX-License-Identifier: MIT
// 32-bit milliseconds wrap after 25 days, and a limiter would deny for as long again.
// expect: constraint
#include <weir/token_bucket.hpp>

struct tick_clock {
#ifdef MISUSE
    using rep = std::int32_t;
#else
    using rep = std::int64_t;
#endif
    using period = std::milli;
    using duration = std::chrono::duration<rep, period>;
    using time_point = std::chrono::time_point<tick_clock>;
    static constexpr bool is_steady = true;
    static time_point now() { return {}; }
};

using bucket = weir::token_bucket<tick_clock>;
bool take(bucket& b) { return b.try_acquire().granted(); }
