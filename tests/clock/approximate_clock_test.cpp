// SPDX-License-Identifier: MIT
// Limiters with approximate clocks, in virtual time. Denials at an upper bound equal those at the precise time, and do
// not read it. Denials at a coarse time last longer by the lag at most, and grant nothing more.
#include <weir/clock/hybrid_clock.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/clock/upper_bound_clock.hpp>
#include <weir/leaky_bucket.hpp>
#include <weir/sliding_window_counter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <utility>

namespace approximate_clock_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::permits;
using weir::rate;

/// A clock with a bound of any quality. It counts how often it is read.
struct bound_clock {
    using duration = nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<bound_clock>;
    mutable int reads = 0;
    time_point time{};
    duration over{};  // how far the bound is above the time
    bool known = true;
    time_point now() const {
        ++reads;
        return time;
    }
    time_point now_approx() const { return known ? time + over : time_point::max(); }
};
static_assert(weir::upper_bounding_clock<bound_clock>);

/// One that lags.
struct lagging_clock {
    using duration = nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<lagging_clock>;
    mutable int reads = 0;
    time_point time{};
    duration tick = 4ms;
    time_point now() const {
        ++reads;
        return time;
    }
    duration skipped{};  // lag beyond max_lag()
    time_point now_approx() const { return time - time.time_since_epoch() % tick - skipped; }
    duration max_lag() const { return tick; }
};
static_assert(weir::approximate_clock<lagging_clock> && !weir::upper_bounding_clock<lagging_clock>);

template <class Clock>
struct bucket {
    weir::token_bucket<Clock&> limiter;
    explicit bucket(Clock& c) : limiter{rate{1000, 1s}, 5, c} {}
};
template <class Clock>
struct drain {
    weir::leaky_bucket<Clock&> limiter;
    explicit drain(Clock& c) : limiter{rate{7, 3ms}, 4, c} {}
};
template <class Clock>
struct changed_bucket {
    weir::token_bucket<Clock&> limiter;
    explicit changed_bucket(Clock& c) : limiter{rate{10, 1s}, 5, c} { (void)limiter.change({rate{1000, 1s}, 5}); }
};
template <class Clock>
struct log {
    weir::sliding_window_log<Clock&> limiter;
    explicit log(Clock& c) : limiter{9, 10ms, c} {}
};
template <class Clock>
struct counter {
    weir::sliding_window_counter<Clock&> limiter;
    explicit counter(Clock& c) : limiter{9, 10ms, weir::counter_options{.segments = 10}, c} {}
};

template <class T>
constexpr bool is_counter = false;
template <class Clock>
constexpr bool is_counter<counter<Clock>> = true;

template <template <class> class Make>
struct kind {
    template <class Clock>
    using made = Make<Clock>;
};

template <class Kind>
class approximate_clock : public testing::Test {};
struct names {
    template <class Kind>
    static std::string GetName(int i) {
        constexpr char const* of[] = {"token_bucket", "token_bucket_changed", "leaky_bucket", "sliding_window_log",
                                      "sliding_window_counter"};
        return of[i];
    }
};
using kinds = testing::Types<kind<bucket>, kind<changed_bucket>, kind<drain>, kind<log>, kind<counter>>;
TYPED_TEST_SUITE(approximate_clock, kinds, names);

// The twin has an ordinary clock. Bounds from exact to far too late, and unknown ones.
TYPED_TEST(approximate_clock, exact_decisions_are_those_of_the_precise_clock) {
    int refusals = 0;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        std::mt19937_64 rng{seed};
        bound_clock clock;
        weir::manual_clock plain;
        typename TypeParam::template made<bound_clock> approximate{clock};
        typename TypeParam::template made<weir::manual_clock> twin{plain};
        for (int i = 0; i < 3'000; ++i) {
            nanoseconds const step{rng() % 4 == 0 ? rng() % 3'000'000 : rng() % 300'000};
            clock.time += step;
            plain.advance(step);
            clock.over = nanoseconds{rng() % 3 == 0 ? 0 : rng() % 1'000'000};
            clock.known = rng() % 8 != 0;
            permits const n = rng() % 20 == 0 ? rng() % 12 : 1;
            bool const look = rng() % 5 == 0;
            auto mine = look ? approximate.limiter.check(n) : approximate.limiter.try_acquire(n);
            auto its = look ? twin.limiter.check(n) : twin.limiter.try_acquire(n);
            ASSERT_EQ(mine.granted(), its.granted()) << "seed " << seed << ", attempt " << i;
            ASSERT_EQ(mine.never(), its.never());
            if (mine) {
                if (!look && rng() % 10 == 0) {
                    ASSERT_EQ(approximate.limiter.refund(mine), twin.limiter.refund(its));
                }
                continue;
            }
            ++refusals;
            ASSERT_EQ(mine.retry_at().time_since_epoch(), its.retry_at().time_since_epoch());
            ASSERT_EQ(mine.retry_after(), its.retry_after());
        }
    }
    EXPECT_GT(refusals, 1'000);
}

TYPED_TEST(approximate_clock, an_exact_denial_does_not_read_the_precise_clock) {
    bound_clock clock;
    typename TypeParam::template made<bound_clock> it{clock};
    for (auto const t : {1000us, 1010us}) {  // twice: a fraction may be rounded against the first
        clock.time = bound_clock::time_point{t};
        while (it.limiter.try_acquire()) {
        }
    }
    clock.reads = 0;
    clock.over = 1us;
    for (int i = 0; i < 100; ++i) ASSERT_FALSE(it.limiter.try_acquire());
    EXPECT_FALSE(it.limiter.check());
    EXPECT_EQ(clock.reads, 0);
    clock.known = false;
    EXPECT_FALSE(it.limiter.try_acquire());
    EXPECT_EQ(clock.reads, 1);
}

// The bound does not tell how long there is to wait, so retry_after() reads the clock.
TYPED_TEST(approximate_clock, waiting_retry_after_is_enough_and_a_tick_less_is_not) {
    std::mt19937_64 rng{5};
    bound_clock clock;
    typename TypeParam::template made<bound_clock> it{clock};
    int waited = 0;
    for (int i = 0; i < 2'000; ++i) {
        clock.time += nanoseconds{rng() % 400'000};
        clock.over = nanoseconds{rng() % 200'000};
        clock.reads = 0;
        auto d = it.limiter.try_acquire();
        if (d || clock.reads != 0) continue;
        ++waited;
        clock.over = 0ns;
        auto const wait = d.retry_after();
        ASSERT_GT(wait, 0ns);
        clock.time += wait - 1ns;
        ASSERT_FALSE(it.limiter.check(1, clock.time));
        ASSERT_EQ(d.retry_after(), 1ns);  // from the clock's time now
        clock.time += 1ns;
        ASSERT_EQ(d.retry_after(), 0ns);
        ASSERT_EQ(d.retry_at(), clock.time);
        ASSERT_TRUE(it.limiter.try_acquire());
    }
    EXPECT_GT(waited, 20);
}

// Why denials at a bound are exact: if no permits are taken, what is granted at one time is granted at every later one.
TYPED_TEST(approximate_clock, availability_never_falls_as_time_passes) {
    std::mt19937_64 rng{3};
    bound_clock clock;
    typename TypeParam::template made<bound_clock> it{clock};
    for (int i = 0; i < 2'000; ++i) {
        clock.time += nanoseconds{rng() % 1'500'000};
        (void)it.limiter.try_acquire(rng() % 3, clock.time);
        auto const sooner = clock.time + nanoseconds{rng() % 1'000'000};
        auto const later = sooner + nanoseconds{rng() % 1'000'000};
        permits const n = 1 + rng() % 5;
        bool const granted = it.limiter.check(n, sooner).granted();
        permits const had = it.limiter.available(sooner);
        ASSERT_TRUE(!granted || it.limiter.check(n, later));
        // What could be taken one by one can be taken at once. (One by one it may be a permit less: where a rate earns
        // no whole unit by `later`, the first of them loses a part of one.)
        ASSERT_TRUE(it.limiter.check(had, later)) << had;
        ASSERT_LE(had, it.limiter.available(later) + 1);
        clock.time = later;
    }
}

TYPED_TEST(approximate_clock, a_coarse_denial_is_late_by_no_more_than_the_lag) {
    int late = 0;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        std::mt19937_64 rng{seed};
        lagging_clock clock;
        clock.tick = nanoseconds{1 + rng() % 2'000'000};
        typename TypeParam::template made<lagging_clock> it{clock};
        auto const begin = clock.time;
        for (int i = 0; i < 1'000; ++i) {
            clock.time += nanoseconds{rng() % 400'000};
            bool const would = it.limiter.check(1, std::max(begin, clock.now_approx())).granted();
            bool const there = it.limiter.check(1, clock.time).granted();
            auto d = it.limiter.try_acquire();
            if (d) {
                ASSERT_TRUE(there);
                // The counter does not go by a coarse time after the open segment.
                ASSERT_TRUE(would || is_counter<decltype(it)>);
                continue;
            }
            // Denied at the precise time too, or at the coarse one.
            late += there ? 1 : 0;
            ASSERT_TRUE(!there || !would);
            // The denial ends at retry_at at the latest.
            ASSERT_GT(d.retry_after(), 0ns);
            if (rng() % 10 == 0 && !d.never()) {
                auto const wait = d.retry_after();
                clock.time += wait;
                ASSERT_GE(clock.time, d.retry_at());
                ASSERT_TRUE(it.limiter.try_acquire()) << "seed " << seed << ", attempt " << i;
            }
        }
    }
    EXPECT_GT(late, 100);  // otherwise nothing was tested
}

TYPED_TEST(approximate_clock, a_coarse_denial_does_not_read_the_precise_clock) {
    lagging_clock clock;
    typename TypeParam::template made<lagging_clock> it{clock};
    while (it.limiter.try_acquire()) {
    }
    clock.reads = 0;
    for (int i = 0; i < 100; ++i) ASSERT_FALSE(it.limiter.try_acquire());
    EXPECT_EQ(clock.reads, 0);
}

TYPED_TEST(approximate_clock, a_lag_above_max_lag_costs_another_max_lag) {
    lagging_clock clock;
    clock.time += 50ms;
    typename TypeParam::template made<lagging_clock> it{clock};
    while (it.limiter.try_acquire()) {
    }
    auto const first = it.limiter.try_acquire();
    ASSERT_FALSE(first);
    clock.time += first.retry_after();
    clock.skipped = clock.time - lagging_clock::time_point{50ms};
    auto const d = it.limiter.try_acquire();
    ASSERT_FALSE(d);
    EXPECT_LE(d.retry_at(), clock.time);
    EXPECT_EQ(d.retry_after(), clock.max_lag());
    clock.time += d.retry_after();
    clock.skipped = 0ns;
    EXPECT_TRUE(it.limiter.try_acquire());
}

// Grants are made at the precise time, so the promise holds as with any clock.
TYPED_TEST(approximate_clock, a_coarse_clock_grants_no_more_than_the_precise_one) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        std::mt19937_64 rng{seed};
        lagging_clock clock;
        weir::manual_clock plain;
        typename TypeParam::template made<lagging_clock> it{clock};
        typename TypeParam::template made<weir::manual_clock> twin{plain};
        for (int i = 0; i < 2'000; ++i) {
            nanoseconds const step{rng() % 400'000};
            clock.time += step;
            plain.advance(step);
            // Whatever this one grants, the twin grants at the same time.
            if (!it.limiter.try_acquire()) continue;
            ASSERT_TRUE(twin.limiter.try_acquire()) << "seed " << seed << ", attempt " << i;
        }
    }
}

TEST(approximate_clock_and_counter, never_advances_it) {
    bound_clock clock;
    weir::sliding_window_counter<bound_clock&> it{9, 10ms, weir::counter_options{.segments = 10}, clock};
    ASSERT_TRUE(it.try_acquire(9));
    clock.over = 1h;
    ASSERT_FALSE(it.try_acquire());
    clock.over = 0ns;
    // Had the hour been believed, the window would be empty.
    EXPECT_EQ(it.used(), 9U);
    EXPECT_FALSE(it.try_acquire());
}

}  // namespace approximate_clock_test
