// SPDX-License-Identifier: MIT
// The race's runner for limiters in C++: reads runs from standard input, a line each, and answers each with a line.
//     NAME granted|denied THREADS rate|latency MILLISECONDS
//  -> ATTEMPTS SURPRISES NANOSECONDS [LATENCY:COUNT ...]
// A run of `rate` has no timer in its loop; one of `latency` takes the time of each attempt by the time-stamp counter.
// Surprises are answers that are not the ones to be measured. The Go and Java programs in this folder do the same in
// the same way.
#pragma once

#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace race {

/// Waits for what came before it, and nothing after it starts earlier.
[[gnu::always_inline]] inline std::uint64_t ticks() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_lfence();
    std::uint64_t const t = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    return t;
#else
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds{1});
#endif
}

/// Exact up to 256, then to 1 part in 128.
class histogram {
public:
    [[gnu::always_inline]] void add(std::uint64_t v) noexcept {
        unsigned const shift = v < 256 ? 0U : static_cast<unsigned>(std::bit_width(v)) - 8U;
        ++counts_[(shift << 7U) + static_cast<std::size_t>(v >> shift)];
    }
    void add(histogram const& other) noexcept {
        for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    }
    template <class Each>
    void for_each(Each each) const {
        for (std::size_t i = 0; i < counts_.size(); ++i) {
            std::size_t const shift = i < 256 ? 0 : i / 128 - 1;
            if (counts_[i] != 0) each(static_cast<std::uint64_t>(i - shift * 128) << shift, counts_[i]);
        }
    }

private:
    std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(57U * 128U + 256U);
};

struct alignas(128) worker {
    std::uint64_t attempts = 0;
    std::uint64_t granted = 0;
    histogram latencies;
};

template <class Limiter>
void attempt_untimed(Limiter& limiter, std::atomic<bool> const& stop, worker& w) {
    std::uint64_t attempts = 0;
    std::uint64_t granted = 0;
    while (!stop.load(std::memory_order_relaxed)) {
        for (int i = 0; i < 16; ++i) granted += limiter.attempt() ? 1U : 0U;
        attempts += 16;
    }
    w.attempts = attempts;
    w.granted = granted;
}

template <class Limiter>
void attempt_timed(Limiter& limiter, std::atomic<bool> const& stop, worker& w) {
    while (!stop.load(std::memory_order_relaxed)) {
        for (int i = 0; i < 16; ++i) {
            std::uint64_t const before = ticks();
            bool const granted = limiter.attempt();
            w.latencies.add(ticks() - before);
            w.granted += granted ? 1U : 0U;
        }
        w.attempts += 16;
    }
}

struct order {
    bool granted;
    unsigned threads;
    bool timed;
    std::chrono::milliseconds length;
};

template <class Limiter>
void run(Limiter& limiter, order const& o) {
    using clock = std::chrono::steady_clock;
    if (!o.granted) limiter.drain();
    std::vector<worker> workers(o.threads);
    alignas(128) std::atomic<unsigned> ready{0};
    alignas(128) std::atomic<bool> go{false};
    alignas(128) std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (auto& w : workers) {
        threads.emplace_back([&] {
            ready.fetch_add(1);
            go.wait(false);
            o.timed ? attempt_timed(limiter, stop, w) : attempt_untimed(limiter, stop, w);
        });
    }
    while (ready.load() != o.threads) std::this_thread::yield();
    std::uint64_t const counted_from = ticks();
    auto const begin = clock::now();
    go.store(true);
    go.notify_all();
    std::this_thread::sleep_for(o.length);
    stop.store(true);
    auto const end = clock::now();
    std::uint64_t const counted = ticks() - counted_from;
    for (auto& t : threads) t.join();

    auto const ns = std::chrono::duration<double, std::nano>(end - begin).count();
    worker all;
    for (auto const& w : workers) {
        all.attempts += w.attempts;
        all.granted += w.granted;
        all.latencies.add(w.latencies);
    }
    std::uint64_t const surprises = (o.granted ? all.attempts - all.granted : all.granted) + limiter.waits();
    std::printf("%llu %llu %.0f", static_cast<unsigned long long>(all.attempts),
                static_cast<unsigned long long>(surprises), ns);
    double const tick = ns / static_cast<double>(counted);
    all.latencies.for_each([tick](std::uint64_t v, std::uint64_t n) {
        std::printf(" %.2f:%llu", static_cast<double>(v) * tick, static_cast<unsigned long long>(n));
    });
    std::printf("\n");
    std::fflush(stdout);
}

/// The names of the limiters that can be ordered. `make(granted)` returns a new one, held by a pointer, for each run.
class field {
public:
    template <class Make>
    void add(std::string name, Make make) {
        runs_[std::move(name)] = [make](order const& o) { run(*make(o.granted), o); };
    }
    int serve() const {
        std::string name, answer, kind;
        unsigned threads = 0;
        int ms = 0;
        while (std::cin >> name >> answer >> threads >> kind >> ms) {
            auto const found = runs_.find(name);
            if (found == runs_.end()) {
                std::cerr << "no limiter is called " << name << '\n';
                return 1;
            }
            found->second({answer == "granted", threads, kind == "latency", std::chrono::milliseconds{ms}});
        }
        return 0;
    }

private:
    std::map<std::string, std::function<void(order const&)>> runs_;
};

}  // namespace race
