// SPDX-License-Identifier: MIT
// A time for stress tests of windows.
#pragma once

#include <atomic>
#include <cstdint>

#include "stress.hpp"

namespace hammer {

/// A time that the threads themselves move on: seldom, and very seldom by many segments.
class passing_time {
public:
    static constexpr std::int64_t length = 1000;
    static constexpr std::int64_t window = 6 * length;

    std::int64_t pass(random_engine& random) {
        auto const r = random();
        if (r % 16 == 0) now_.fetch_add(static_cast<std::int64_t>((r >> 8U) % 400));
        if (r % 4096 == 1) now_.fetch_add(static_cast<std::int64_t>((r >> 16U) % (12 * length)));
        return now();
    }
    std::int64_t now() const { return now_.load(std::memory_order_relaxed); }

private:
    std::atomic<std::int64_t> now_{0};
};

}  // namespace hammer
