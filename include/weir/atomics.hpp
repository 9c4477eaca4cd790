// SPDX-License-Identifier: MIT
//
// The atomics policy: where a limiter keeps its shared state. Every limiter takes one as its last template parameter
// and touches shared words in no other way, so that the same code runs on std::atomic, on plain cells, and under a
// checker.
#pragma once

#include "detail/cpp20.hpp"

#include <atomic>

namespace weir::inline v0 {

/// std::atomic: the default.
struct std_atomics {
    template <class T>
    using atomic = std::atomic<T>;
};

/// Plain cells for a limiter that only one thread touches, such as an event loop's. Not thread-safe.
struct unsynchronized {
    template <class T>
    class atomic {
    public:
        constexpr atomic() noexcept = default;
        constexpr atomic(T value) noexcept : value_{value} {}
        atomic(atomic const&) = delete;
        atomic& operator=(atomic const&) = delete;

        constexpr T load(std::memory_order = std::memory_order_relaxed) const noexcept { return value_; }

        constexpr T exchange(T desired, std::memory_order = std::memory_order_relaxed) noexcept {
            T const old = value_;
            value_ = desired;
            return old;
        }
        constexpr T fetch_add(T n, std::memory_order = std::memory_order_relaxed) noexcept {
            return exchange(static_cast<T>(value_ + n));
        }
        constexpr T fetch_sub(T n, std::memory_order = std::memory_order_relaxed) noexcept {
            return exchange(static_cast<T>(value_ - n));
        }

        constexpr bool compare_exchange_strong(T& expected, T desired, std::memory_order = std::memory_order_relaxed,
                                               std::memory_order = std::memory_order_relaxed) noexcept {
            if (value_ != expected) {
                expected = value_;
                return false;
            }
            value_ = desired;
            return true;
        }
        constexpr bool compare_exchange_weak(T& expected, T desired,
                                             std::memory_order success = std::memory_order_relaxed,
                                             std::memory_order failure = std::memory_order_relaxed) noexcept {
            return compare_exchange_strong(expected, desired, success, failure);
        }

    private:
        T value_{};
    };
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// What objects are aligned to so that their state shares a cache line with no stranger. A constant, because
/// std::hardware_destructive_interference_size varies with compiler flags and would vary the layout with them.
inline constexpr decltype(sizeof 0) cache_line = 64;

}  // namespace weir::inline v0::detail
