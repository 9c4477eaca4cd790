// SPDX-License-Identifier: MIT
// What no limiter can be faster than, and what people write without one: the floors that the benches are held against.
#pragma once

#include <benchmark/benchmark.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>

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

/// A token bucket as it is often written: a count and a time of last refill in floating point, under a mutex.
class alignas(64) mutex_bucket {
public:
    mutex_bucket(double per_ns, double burst) : per_ns_{per_ns}, burst_{burst}, level_{burst} {}
    bool try_acquire(std::int64_t t) {
        std::lock_guard const lock{mutex_};
        if (t > last_) {
            level_ += static_cast<double>(t - last_) * per_ns_;
            if (level_ > burst_) level_ = burst_;
            last_ = t;
        }
        if (level_ < 1) return false;
        level_ -= 1;
        return true;
    }

private:
    std::mutex mutex_;
    double per_ns_;
    double burst_;
    double level_;
    std::int64_t last_ = 0;
};

}  // namespace floors
