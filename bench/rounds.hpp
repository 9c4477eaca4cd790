// SPDX-License-Identifier: MIT
// Measures small steps against each other: rounds of all are interleaved, so that a noisy moment falls on all of them,
// and the lower quartile of the thread's own processor time is taken. Two threads are measured in fresh processes, of
// which the median is taken: one process is fast or slow as a whole, by where its memory lies.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <time.h>
#endif

namespace rounds {

/// So many steps.
using step = std::function<void(std::uint64_t)>;

inline double thread_seconds() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
#else
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
#endif
}

inline double seconds_of(step const& s, std::uint64_t n) {
    double const begin = thread_seconds();
    s(n);
    return thread_seconds() - begin;
}

/// How many steps take about `seconds`.
inline std::uint64_t steps_in(step const& s, double seconds) {
    std::uint64_t n = 16;
    for (double took = 0; n < (std::uint64_t{1} << 30U); n *= 2) {
        took = seconds_of(s, n);
        if (took * 2 > seconds) break;
    }
    return n;
}

/// Nanoseconds of each step: the lower quartile of `count` rounds of `milliseconds` each.
inline std::vector<double> measure(std::vector<step> const& steps, unsigned count, double milliseconds) {
    std::vector<std::uint64_t> n;
    for (auto const& s : steps) n.push_back(steps_in(s, milliseconds * 1e-3));
    std::vector<std::vector<double>> seen(steps.size());
    for (unsigned r = 0; r < count; ++r) {
        for (std::size_t i = 0; i < steps.size(); ++i)
            seen[i].push_back(seconds_of(steps[i], n[i]) / static_cast<double>(n[i]) * 1e9);
    }
    std::vector<double> quartile;
    for (auto& v : seen) {
        std::sort(v.begin(), v.end());
        quartile.push_back(v[v.size() / 4]);
    }
    return quartile;
}

/// Nanoseconds of a step where two threads, each on a core of its own, take it at the same time.
inline double pair(std::array<step, 2> steps) {
    std::atomic<int> ready{0};
    std::array<double, 2> seconds{};
    constexpr std::uint64_t n = 200'000;
    std::array<std::thread, 2> threads;
    for (unsigned i = 0; i < 2; ++i) {
        threads[i] = std::thread{[&, i] {
#if defined(__linux__)
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(i % std::max(1U, std::thread::hardware_concurrency()), &set);
            pthread_setaffinity_np(pthread_self(), sizeof set, &set);
#endif
            steps[i](1000);
            ready.fetch_add(1);
            while (ready.load() < 2) {
            }
            seconds[i] = seconds_of(steps[i], n);
        }};
    }
    for (auto& t : threads) t.join();
    return (seconds[0] + seconds[1]) / 2 / static_cast<double>(n) * 1e9;
}

/// What `program --pair NAME` prints, a number; 0 where it fails.
inline double in_fresh_process(std::string const& program, std::string const& name) {
    std::string const command = "'" + program + "' --pair '" + name + "'";
    double value = 0;
    if (std::FILE* const p = popen(command.c_str(), "r"); p != nullptr) {
        if (std::fscanf(p, "%lf", &value) != 1) value = 0;
        pclose(p);
    }
    return value;
}

/// The median of `count` fresh processes for each name, interleaved.
inline std::vector<double> measure_pairs(std::string const& program, std::vector<std::string> const& names,
                                         unsigned count) {
    std::vector<std::vector<double>> seen(names.size());
    for (unsigned r = 0; r < count; ++r) {
        for (std::size_t i = 0; i < names.size(); ++i) seen[i].push_back(in_fresh_process(program, names[i]));
    }
    std::vector<double> median;
    for (auto& v : seen) {
        std::sort(v.begin(), v.end());
        median.push_back(v[v.size() / 2]);
    }
    return median;
}

}  // namespace rounds
