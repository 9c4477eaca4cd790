// SPDX-License-Identifier: MIT
// Races on one thread, and the same again each time: lock-free code can be entered again at any point.
#pragma once

#include <weir/atomics.hpp>

#include <atomic>
#include <functional>

/// The policy: plain cells that before each access (or each but loads) may let another thread do a whole operation,
/// within which others may come in in turn, and whose weak exchanges may fail for nothing. So any thread may stall
/// anywhere while others go on.
template <bool AtLoads>
struct basic_interrupted_cells {
    static inline std::function<void()> interrupt;
    static inline std::function<bool()> fails;

    template <class T>
    class atomic {
    public:
        atomic() noexcept : atomic{T{}} {}
        atomic(T value) noexcept : cell_{value} {}
        T load(std::memory_order = {}) const noexcept {
            if constexpr (AtLoads) come_in();
            return cell_.load();
        }
        T exchange(T desired, std::memory_order = {}) noexcept {
            come_in();
            return cell_.exchange(desired);
        }
        T fetch_add(T n, std::memory_order = {}) noexcept {
            come_in();
            return cell_.fetch_add(n);
        }
        T fetch_sub(T n, std::memory_order = {}) noexcept {
            come_in();
            return cell_.fetch_sub(n);
        }
        bool compare_exchange_strong(T& expected, T desired, std::memory_order, std::memory_order) noexcept {
            come_in();
            return cell_.compare_exchange_strong(expected, desired);
        }
        bool compare_exchange_weak(T& expected, T desired, std::memory_order, std::memory_order) noexcept {
            come_in();
            return !(fails && fails()) && cell_.compare_exchange_strong(expected, desired);
        }

    private:
        static void come_in() noexcept {
            if (interrupt) interrupt();
        }

        weir::unsynchronized::atomic<T> cell_;
    };
};
using preemption_injection = basic_interrupted_cells<true>;
using interrupted_exchanges = basic_interrupted_cells<false>;
