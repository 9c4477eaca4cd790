// SPDX-License-Identifier: MIT
#include <weir/clock/hybrid_clock.hpp>
#include <weir/clock/manual_clock.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>
#include <thread>

namespace hybrid_clock_test {

using namespace std::chrono_literals;

static_assert(weir::approximate_clock<weir::hybrid_clock>);
static_assert(!weir::upper_bounding_clock<weir::hybrid_clock>);
static_assert(!weir::approximate_clock<std::chrono::steady_clock>);

struct ticking_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<ticking_clock>;
    weir::manual_clock const* base;
    time_point now() const {
        return time_point{std::chrono::floor<std::chrono::milliseconds>(base->now().time_since_epoch())};
    }
    static duration resolution() { return 1ms; }
};

TEST(hybrid_clock, now_is_precise_and_now_approx_is_coarse) {
    weir::manual_clock base;
    weir::basic_hybrid_clock<weir::manual_clock&, ticking_clock> const clock{base, ticking_clock{&base}};
    base.advance(1500us);
    EXPECT_EQ(clock.now().time_since_epoch(), 1500us);
    EXPECT_EQ(clock.now_approx().time_since_epoch(), 1ms);
    EXPECT_EQ(clock.max_lag(), 1ms);
    EXPECT_EQ(clock.resolution(), 1ns);
}

TEST(hybrid_clock, max_lag_is_one_step_of_the_coarse_clock_or_as_given) {
    weir::manual_clock base;
    using type = weir::basic_hybrid_clock<weir::manual_clock&, ticking_clock>;
    EXPECT_EQ((type{base, ticking_clock{&base}, 20ms}.max_lag()), 20ms);
    EXPECT_THROW((type{base, ticking_clock{&base}, 0ns}), std::invalid_argument);
}

TEST(hybrid_clock, a_thread_that_waits_by_it_waits_by_the_precise_clock) {
    weir::manual_clock base;
    weir::basic_hybrid_clock<weir::manual_clock&, ticking_clock> const clock{base, ticking_clock{&base}};
    static_assert(weir::sleeping_clock<decltype(clock)>);
    static_assert(!weir::sleeping_clock<weir::hybrid_clock>);
    std::thread sleeper{[&] { weir::sleep_until(clock, weir::manual_clock::time_point{10s}); }};
    base.wait_for_sleepers(1);
    EXPECT_EQ(base.advance_to_next(), weir::manual_clock::time_point{10s});
    sleeper.join();
}

TEST(hybrid_clock, is_never_ahead_of_steady_clock) {
    weir::hybrid_clock const clock;
    EXPECT_GT(clock.max_lag(), 0ns);
    for (int i = 0; i < 100'000; ++i) {
        auto const approx = clock.now_approx();
        ASSERT_LE(approx, clock.now());
    }
}

}  // namespace hybrid_clock_test
