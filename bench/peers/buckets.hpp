// SPDX-License-Identifier: MIT
// Token buckets as one would write them in C++ without a library: in floating point, under a mutex, under a spinlock,
// and lock-free by compare-exchange. They are raced against weir's, and are meant to be as good as their kind can be:
// the clock is read before the lock is taken, no division on any path, what changes lies on one cache line and shares
// it with no stranger.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

namespace peers {

inline void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

/// Test and test-and-set, with exponential backoff; gives its core away after some ten microseconds, since with more
/// threads than cores the holder may be waiting for it.
class spinlock {
public:
    void lock() noexcept {
        if (held_.exchange(true, std::memory_order_acquire)) [[unlikely]]
            wait();
    }
    void unlock() noexcept { held_.store(false, std::memory_order_release); }

private:
    [[gnu::noinline]] void wait() noexcept {
        unsigned pauses = 1;
        unsigned spent = 0;
        do {
            // Only read until it looks free: a failed exchange would take the line from its holder.
            do {
                if (spent < 512) {
                    for (unsigned i = 0; i < pauses; ++i) pause();
                    spent += pauses;
                    if (pauses < 32) pauses *= 2;
                } else {
                    std::this_thread::yield();
                }
            } while (held_.load(std::memory_order_relaxed));
        } while (held_.exchange(true, std::memory_order_acquire));
    }

    std::atomic<bool> held_{false};
};

/// A count and the time of its last refill under a lock. It begins full. Times in nanoseconds; one that lies behind
/// another's refills nothing.
template <class Lock>
class alignas(64) locked_bucket {
public:
    locked_bucket(double per_ns, double burst, std::int64_t begin = 0)
        : level_{burst}, last_{begin}, per_ns_{per_ns}, burst_{burst} {}

    bool try_acquire(std::int64_t t) {
        std::lock_guard const guard{lock_};
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
    Lock lock_;
    double level_;
    std::int64_t last_;
    double per_ns_;
    double burst_;
};
using mutex_bucket = locked_bucket<std::mutex>;
using spin_bucket = locked_bucket<spinlock>;

/// folly::TokenBucket's idea: the state is the moment at which the bucket would have been empty, a double that is
/// exchanged. folly takes min((now - zero)·rate, burst) tokens, n off, and now - tokens/rate as the next moment; that
/// is max(zero, now - burst/rate) + n/rate, which needs no division. Relaxed, since nothing else is published through
/// it.
class alignas(64) cas_bucket {
public:
    cas_bucket(double per_ns, double burst, std::int64_t begin = 0)
        : zero_{-burst / per_ns}, begin_{begin}, interval_{1 / per_ns}, span_{burst / per_ns} {}

    bool try_acquire(std::int64_t t) {
        double const now = static_cast<double>(t - begin_);
        double const full = now - span_;
        double zero = zero_.load(std::memory_order_relaxed);
        do {
            if (now - zero < interval_) return false;
        } while (!zero_.compare_exchange_weak(zero, (zero > full ? zero : full) + interval_, std::memory_order_relaxed,
                                              std::memory_order_relaxed));
        return true;
    }

private:
    std::atomic<double> zero_;
    std::int64_t begin_;
    double interval_;
    double span_;
};
static_assert(std::atomic<double>::is_always_lock_free);

}  // namespace peers
