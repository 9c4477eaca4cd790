// SPDX-License-Identifier: MIT
// Threads that hammer a limiter. They start together, what they do is drawn from a seed, the exchanges that failed
// because another thread came first are counted, and a test that provoked too few of them fails: it has tested nothing.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace hammer {

using random_engine = std::mt19937_64;

/// The policy: std::atomic that now and then lets another thread run before an exchange, where it hurts most, and
/// counts the exchanges that failed because another came first.
struct counting_atomics {
    static inline std::atomic<std::uint64_t> collisions{0};

    template <class T>
    class atomic : public std::atomic<T> {
    public:
        using std::atomic<T>::atomic;
        bool compare_exchange_weak(T& expected, T desired, std::memory_order success,
                                   std::memory_order failure) noexcept {
            T const old = expected;
            pause();
            bool const done = std::atomic<T>::compare_exchange_weak(expected, desired, success, failure);
            return counted(old, expected, done);
        }
        bool compare_exchange_strong(T& expected, T desired, std::memory_order success,
                                     std::memory_order failure) noexcept {
            T const old = expected;
            pause();
            bool const done = std::atomic<T>::compare_exchange_strong(expected, desired, success, failure);
            return counted(old, expected, done);
        }

    private:
        static void pause() noexcept {
            static std::atomic<unsigned> threads{0};
            thread_local std::minstd_rand random{threads.fetch_add(1, std::memory_order_relaxed) + 1};
            if (random() % 32 == 0) std::this_thread::yield();
        }
        // A spurious failure leaves `expected` as it was, and is no collision.
        static bool counted(T old, T seen, bool done) noexcept {
            if (!done && old != seen) collisions.fetch_add(1, std::memory_order_relaxed);
            return done;
        }
    };
};

/// A clock for many threads: moved without a lock, never back.
struct shared_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<shared_clock>;

    time_point now() const noexcept { return time_point{duration{ticks.load(std::memory_order_acquire)}}; }
    void advance(std::int64_t by) noexcept { ticks.fetch_add(by, std::memory_order_acq_rel); }

    std::atomic<std::int64_t> ticks{0};
};

/// Runs `body(thread number, random engine)` on `count` threads, none of which begins before all are there, and waits
/// for them all.
template <class Body>
void on_threads(std::size_t count, std::uint64_t seed, Body body) {
    std::atomic<std::size_t> ready{0};
    std::vector<std::thread> pool;
    for (std::size_t i = 0; i < count; ++i) {
        pool.emplace_back([&body, &ready, i, seed, count] {
            random_engine random{seed * 1000 + i};
            ready.fetch_add(1);
            while (ready.load() < count) std::this_thread::yield();
            body(i, random);
        });
    }
    for (auto& t : pool) t.join();
}

template <std::invocable Body>
void on_threads(std::size_t count, Body body) {
    on_threads(count, 0, [&](std::size_t, random_engine&) { body(); });
}

/// The same with `steps` calls of `step(random engine, list)` on each thread, where the list is the thread's own.
/// Returns all that the lists came to hold.
template <class T, class Step>
std::vector<T> gather(std::size_t count, std::uint64_t seed, int steps, Step step) {
    std::vector<std::vector<T>> each(count);
    on_threads(count, seed, [&](std::size_t i, random_engine& random) {
        for (int k = 0; k < steps; ++k) step(random, each[i]);
    });
    std::vector<T> all;
    for (auto& mine : each) all.insert(all.end(), mine.begin(), mine.end());
    return all;
}

/// Calls `round(number, from 1 on)` at least `rounds` times, and on until there have been collisions enough; fails when
/// 50 times as many rounds did not provoke them.
template <class Round>
void until_collided(std::uint64_t rounds, Round round) {
    constexpr std::uint64_t enough = 100;  // a round
    std::uint64_t const before = counting_atomics::collisions.load();
    auto const collided = [&] { return counting_atomics::collisions.load() - before; };
    for (std::uint64_t k = 1; k <= rounds || (k <= 50 * rounds && collided() < enough * rounds); ++k) {
        SCOPED_TRACE(testing::Message() << "round " << k);
        round(k);
        if (testing::Test::HasFailure()) return;
    }
    testing::Test::RecordProperty("collisions", std::to_string(collided()));
    EXPECT_GE(collided(), enough * rounds) << "the threads hardly met, so nothing was tested";
}

}  // namespace hammer
