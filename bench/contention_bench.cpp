// SPDX-License-Identifier: MIT
// What threads lose to each other on one limiter, and what leases and other ways win back: docs/contention.md. By 1, 2
// and 16 threads: granted attempts in all for each second that the threads ran, times the cores that they could have
// (processor time, so that what else the machine does counts little); exchanges that failed for each that succeeded;
// and what the slowest thread got in the time it ran, as a share of the fastest. Rounds of all are interleaved, and
// medians of --rounds (5) of --milliseconds (100) are printed.
#include <weir/llm.hpp>
#include <weir/weir.hpp>

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#include <time.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "no_clock.hpp"

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using weir::permits;
using weir::rate;

thread_local std::uint64_t failures = 0;

#if defined(__x86_64__)
inline void pause() { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
inline void pause() { __asm__ volatile("yield"); }
#else
inline void pause() {}
#endif

/// Counts the exchanges that failed; waits after each, `Wait` pauses at first and twice as many each time, or not at
/// all.
template <unsigned Wait>
struct counting {
    template <class T>
    class atomic {
    public:
        constexpr atomic(T v = T{}) noexcept : word_{v} {}
        T load(std::memory_order o) const noexcept { return word_.load(o); }
        T exchange(T v, std::memory_order o) noexcept { return word_.exchange(v, o); }
        bool compare_exchange_weak(T& seen, T v, std::memory_order a, std::memory_order b) noexcept {
            thread_local unsigned wait = Wait;
            if (word_.compare_exchange_weak(seen, v, a, b)) {
                wait = Wait;
                return true;
            }
            ++failures;
            if constexpr (Wait != 0) {
                for (unsigned i = 0; i < wait; ++i) pause();
                wait = std::min(wait * 2, 1024U);
                seen = word_.load(b);  // what was seen is old by now
            }
            return false;
        }
        bool compare_exchange_strong(T& seen, T v, std::memory_order a, std::memory_order b) noexcept {
            return word_.compare_exchange_strong(seen, v, a, b);
        }

    private:
        std::atomic<T> word_;
    };
};

/// So much that all is granted: what is measured is the word.
constexpr rate plenty{1'000'000, 1s};
constexpr permits ample = permits{1} << 40U;

using step = std::function<std::uint64_t(std::uint64_t)>;  // so many attempts; returns how many were granted
using setup = std::function<std::vector<step>(unsigned threads)>;

template <class Attempt>
step repeat(Attempt attempt) {
    return [attempt, t = std::int64_t{0}](std::uint64_t n) mutable {
        std::uint64_t granted = 0;
        for (std::uint64_t i = 0; i < n; ++i) granted += attempt(++t) ? 1U : 0U;
        return granted;
    };
}
no_clock::time_point at(std::int64_t t) { return no_clock::time_point{nanoseconds{t}}; }

/// Each thread's own bucket.
template <class Clock, class... Extra>
std::vector<step> independent(unsigned threads, Extra&... extra) {
    std::vector<step> all;
    for (unsigned i = 0; i < threads; ++i) {
        auto b = std::make_shared<weir::token_bucket<Clock>>(plenty, ample, extra...);
        if constexpr (std::is_same_v<Clock, no_clock>) {
            all.push_back(repeat([b](std::int64_t t) { return b->try_acquire(1, at(t)).granted(); }));
        } else {
            all.push_back(repeat([b](std::int64_t) { return b->try_acquire().granted(); }));
        }
    }
    return all;
}

template <class Clock, class Atomics, class... Extra>
std::vector<step> shared(unsigned threads, Extra&... extra) {
    auto b = std::make_shared<weir::token_bucket<Clock, Atomics>>(plenty, ample, extra...);
    if constexpr (std::is_same_v<Clock, no_clock>) {
        return std::vector<step>(threads, repeat([b](std::int64_t t) { return b->try_acquire(1, at(t)).granted(); }));
    } else {
        return std::vector<step>(threads, repeat([b](std::int64_t) { return b->try_acquire().granted(); }));
    }
}

template <class Clock, class... Extra>
std::vector<step> leased(unsigned threads, permits slice, Extra&... extra) {
    using bucket = weir::token_bucket<Clock>;
    auto b = std::make_shared<bucket>(plenty, ample, extra...);
    std::vector<step> all;
    for (unsigned i = 0; i < threads; ++i) {
        auto l = std::make_shared<weir::lease<bucket>>(*b, weir::lease_options{.slice = slice, .age = 10ms});
        if constexpr (std::is_same_v<Clock, no_clock>) {
            all.push_back(repeat([b, l](std::int64_t t) { return l->try_acquire(1, at(t)).granted(); }));
        } else {
            all.push_back(repeat([b, l](std::int64_t) { return l->try_acquire().granted(); }));
        }
    }
    return all;
}

/// The rate and the burst in as many parts as threads; a thread that finds its own empty tries the others.
std::vector<step> sharded(unsigned threads) {
    using bucket = weir::token_bucket<no_clock>;
    auto shards = std::make_shared<std::deque<bucket>>();
    for (unsigned i = 0; i < threads; ++i) shards->emplace_back(rate{1'000'000 / 16, 1s}, ample / 16);
    std::vector<step> all;
    for (unsigned i = 0; i < threads; ++i) {
        all.push_back(repeat([shards, i](std::int64_t t) {
            std::size_t k = i;
            do {
                if ((*shards)[k].try_acquire(1, at(t))) return true;
                k = k + 1 == shards->size() ? 0 : k + 1;
            } while (k != i);
            return false;
        }));
    }
    return all;
}

struct figures {
    double per_second = 0;
    double failed = 0;
    double fairness = 0;
};

/// Each thread to a core of its own, as long as there are some.
void pin(std::thread& t, unsigned i) {
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(i % std::max(1U, std::thread::hardware_concurrency()), &set);
    pthread_setaffinity_np(t.native_handle(), sizeof set, &set);
#else
    static_cast<void>(t);
    static_cast<void>(i);
#endif
}

double thread_seconds() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
#else
    return std::chrono::duration<double>(steady_clock::now().time_since_epoch()).count();
#endif
}

figures measure(setup const& make, unsigned threads, nanoseconds length) {
    auto steps = make(threads);
    std::atomic<bool> stop{false};
    std::barrier<> go{static_cast<std::ptrdiff_t>(threads) + 1};
    struct alignas(64) count {
        std::uint64_t granted = 0;
        std::uint64_t failed = 0;
        double seconds = 0;
    };
    std::vector<count> counts(threads);
    std::vector<std::thread> all;
    for (unsigned i = 0; i < threads; ++i) {
        all.emplace_back([&, i] {
            failures = 0;
            go.arrive_and_wait();
            double const begin = thread_seconds();
            while (!stop.load(std::memory_order_relaxed)) counts[i].granted += steps[i](512);
            counts[i].seconds = thread_seconds() - begin;
            counts[i].failed = failures;
        });
        pin(all.back(), i);
    }
    go.arrive_and_wait();
    std::this_thread::sleep_for(length);
    stop.store(true, std::memory_order_relaxed);
    for (auto& t : all) t.join();
    figures f;
    double least = 1e300;
    double most = 0;
    double granted = 0;
    double seconds = 0;
    for (auto const& c : counts) {
        auto const g = static_cast<double>(c.granted);
        granted += g;
        seconds += c.seconds;
        f.failed += static_cast<double>(c.failed);
        least = std::min(least, g / c.seconds);
        most = std::max(most, g / c.seconds);
    }
    f.per_second = granted / seconds * std::min(threads, std::max(1U, std::thread::hardware_concurrency()));
    f.failed /= granted;
    f.fairness = least / most;
    return f;
}

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

/// Slices of one size always, to be compared.
template <class L>
class plain_lease {
public:
    plain_lease(L& l, weir::lease_options o) : limiter_{l}, o_{o} {}
    bool try_acquire(permits n, typename L::time_point t) {
        if (n > left_ || t > until_) {
            if (left_ != 0) limiter_.refund(*receipt_, std::exchange(left_, permits{0}));
            permits got = o_.slice;
            auto d = limiter_.try_acquire(got, t);
            if (!d) d = limiter_.try_acquire(got = n, t);
            if (!d) return false;
            left_ = got;
            until_ = t + o_.age;
            receipt_.emplace(std::move(d));
        }
        left_ -= n;
        return true;
    }

private:
    L& limiter_;
    weir::lease_options o_;
    permits left_ = 0;
    typename L::time_point until_{};
    std::optional<typename L::decision> receipt_{};
};

/// In virtual time: one thread that asks for most, and fifteen that ask seldom; what is granted of what could be.
template <class Lease>
double simulate(permits slice, std::uint64_t busy_per_second) {
    weir::manual_clock clock;
    using bucket = weir::token_bucket<weir::manual_clock&>;
    bucket b{rate{10'000, 1s}, 200, clock};
    std::deque<Lease> leases;
    for (int i = 0; i < 16; ++i) leases.emplace_back(b, weir::lease_options{.slice = slice, .age = 10ms});
    std::mt19937_64 rng{1};
    std::uint64_t asked = 0;
    std::uint64_t granted = 0;
    auto const take = [&](std::size_t i) {
        ++asked;
        granted += static_cast<bool>(leases[i].try_acquire(1, clock.now())) ? 1U : 0U;
    };
    for (int i = 0; i < 10 * 100'000; ++i) {  // ten seconds, by steps of 10 us
        clock.advance(10us);
        if (rng() % 100'000 < busy_per_second) take(0);
        if (rng() % 100'000 < 600) take(1 + rng() % 15);
    }
    return static_cast<double>(granted) / static_cast<double>(std::min<std::uint64_t>(asked, 100'000));
}

}  // namespace

int main(int argc, char** argv) {
    unsigned rounds = 5;
    nanoseconds length = 100ms;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (std::strcmp(argv[i], "--rounds") == 0) rounds = static_cast<unsigned>(std::atoi(argv[i + 1]));
        if (std::strcmp(argv[i], "--milliseconds") == 0) length = std::chrono::milliseconds{std::atoi(argv[i + 1])};
    }
    weir::upper_bound_clock const bounded;
    weir::tsc_clock const counter;
    struct row {
        std::string name;
        setup make;
    };
    std::vector<row> const rows = {
        {"time given: a bucket each", [](unsigned n) { return independent<no_clock>(n); }},
        {"time given: one bucket", [](unsigned n) { return shared<no_clock, weir::std_atomics>(n); }},
        {"time given: one bucket, failures counted", [](unsigned n) { return shared<no_clock, counting<0>>(n); }},
        {"time given: one bucket, backoff from 1 pause", [](unsigned n) { return shared<no_clock, counting<1>>(n); }},
        {"time given: one bucket, backoff from 32 pauses",
         [](unsigned n) { return shared<no_clock, counting<32>>(n); }},
        {"time given: a shard each, with stealing", sharded},
        {"time given: leases of 8", [](unsigned n) { return leased<no_clock>(n, 8); }},
        {"time given: leases of 64", [](unsigned n) { return leased<no_clock>(n, 64); }},
        {"time given: leases of 512", [](unsigned n) { return leased<no_clock>(n, 512); }},
        {"steady_clock: a bucket each", [](unsigned n) { return independent<steady_clock>(n); }},
        {"steady_clock: one bucket", [](unsigned n) { return shared<steady_clock, weir::std_atomics>(n); }},
        {"steady_clock: leases of 64", [](unsigned n) { return leased<steady_clock>(n, 64); }},
        {"upper_bound_clock: one bucket",
         [&](unsigned n) { return shared<weir::upper_bound_clock const&, weir::std_atomics>(n, bounded); }},
        {"upper_bound_clock: leases of 64",
         [&](unsigned n) { return leased<weir::upper_bound_clock const&>(n, 64, bounded); }},
        {"tsc_clock: a bucket each", [&](unsigned n) { return independent<weir::tsc_clock const&>(n, counter); }},
        {"tsc_clock: one bucket",
         [&](unsigned n) { return shared<weir::tsc_clock const&, weir::std_atomics>(n, counter); }},
        {"tsc_clock: leases of 64", [&](unsigned n) { return leased<weir::tsc_clock const&>(n, 64, counter); }},
    };
    constexpr std::array<unsigned, 3> threads = {1, 2, 16};
    std::vector<std::array<std::array<std::vector<double>, 3>, 3>> seen(rows.size());
    for (unsigned r = 0; r < rounds; ++r) {
        for (std::size_t i = 0; i < rows.size(); ++i) {
            for (std::size_t k = 0; k < threads.size(); ++k) {
                auto const f = measure(rows[i].make, threads[k], length);
                seen[i][k][0].push_back(f.per_second / 1e6);
                seen[i][k][1].push_back(f.failed);
                seen[i][k][2].push_back(f.fairness);
            }
        }
    }
    std::printf("%-48s %27s %20s %20s\n", "million granted a second, by threads:", "1       2      16",
                "failed: 2     16", "slowest: 2     16");
    std::vector<std::array<double, 3>> speed(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
        std::printf("%-48s ", rows[i].name.c_str());
        for (std::size_t k = 0; k < threads.size(); ++k) std::printf(" %8.1f", speed[i][k] = median(seen[i][k][0]));
        std::printf("       %6.3f %6.3f      %6.2f %6.2f\n", median(seen[i][1][1]), median(seen[i][2][1]),
                    median(seen[i][1][2]), median(seen[i][2][2]));
    }
    // Of two runs side by side, so that a noisy moment falls on both.
    auto const of = [&](char const* name) {
        for (std::size_t i = 0; i < rows.size(); ++i) {
            if (rows[i].name == name) return i;
        }
        return std::size_t{0};
    };
    for (char const* clock : {"time given", "steady_clock", "tsc_clock"}) {
        std::vector<double> ratios;
        std::string const name = clock;
        for (unsigned r = 0; r < rounds; ++r) {
            ratios.push_back(seen[of((name + ": leases of 64").c_str())][1][0][r] /
                             seen[of((name + ": a bucket each").c_str())][1][0][r]);
        }
        double const m = median(ratios);
        std::printf("%s: 2 threads on one leased bucket, against a bucket each: %.2f (>= 0.8: %s)\n", clock, m,
                    m >= 0.8 ? "PASS" : "UNDER");
    }

    std::printf(
        "\n10,000 a second in bursts of 200; one thread asks for most, fifteen for 40 a second each; slices live 10 "
        "ms\n");
    std::printf("%-12s %40s %40s\n", "", "granted, of 96% of the rate asked for", "of the rate, 126% of it asked for");
    std::printf("%-12s %20s %20s %20s %20s\n", "slice", "of one size", "adapting", "of one size", "adapting");
    using bucket = weir::token_bucket<weir::manual_clock&>;
    for (permits slice : {permits{1}, permits{8}, permits{32}, permits{64}}) {
        std::printf("%-12llu", static_cast<unsigned long long>(slice));
        for (std::uint64_t busy : {9'000U, 12'000U}) {
            std::printf(" %19.1f%% %19.1f%%", 100 * simulate<plain_lease<bucket>>(slice, busy),
                        100 * simulate<weir::lease<bucket>>(slice, busy));
        }
        std::printf("\n");
    }
}
