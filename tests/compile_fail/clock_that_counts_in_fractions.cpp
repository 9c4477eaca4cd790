// SPDX-License-Identifier: MIT
// expect: constraint|unsatisfied
#include <weir/token_bucket.hpp>

#include <cstdint>
#include <ratio>

template <class Rep>
struct wall_clock {
    using duration = std::chrono::duration<Rep, std::nano>;
    using time_point = std::chrono::time_point<wall_clock, duration>;
    static time_point now() noexcept { return {}; }
};

#ifdef MISUSE
using bucket = weir::token_bucket<wall_clock<double>>;
#else
using bucket = weir::token_bucket<wall_clock<std::int64_t>>;
#endif

bool serve(bucket& b) { return b.try_acquire().granted(); }
