// SPDX-License-Identifier: MIT
// What no limiter can be faster than, and what people write without one: the floors that the benches are held against.
#pragma once

#include <benchmark/benchmark.h>

#include "peers/buckets.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>

namespace floors {

/// A read of the clock.
template <class Clock>
[[gnu::always_inline]] inline void read(Clock const& clock) {
    benchmark::DoNotOptimize(clock.now());
}

/// A relaxed load with a compare and a branch: the least by which shared state can say no.
struct alignas(64) load_floor {
    std::atomic<std::uint64_t> word{~std::uint64_t{0}};
    [[gnu::always_inline]] bool allows(std::uint64_t t) const noexcept {
        return word.load(std::memory_order_relaxed) <= t;
    }
};

/// A compare-exchange loop that adds one: the least by which shared state can take note of a grant.
struct alignas(64) exchange_floor {
    std::atomic<std::uint64_t> word{0};
    [[gnu::always_inline]] void add() noexcept {
        std::uint64_t seen = word.load(std::memory_order_relaxed);
        while (!word.compare_exchange_weak(seen, seen + 1, std::memory_order_relaxed, std::memory_order_relaxed)) {
        }
    }
};

using peers::mutex_bucket;

}  // namespace floors
