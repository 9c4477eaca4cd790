// SPDX-License-Identifier: MIT
#include <weir/clock/coarse_clock.hpp>
#include <weir/detail/parker.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace coarse_clock_test {

using namespace std::chrono_literals;
using weir::coarse_clock;

static_assert(weir::clock<coarse_clock>);
static_assert(coarse_clock::is_steady);
#if defined(CLOCK_MONOTONIC_COARSE)
static_assert(coarse_clock::is_coarse);
#endif

TEST(coarse_clock, never_goes_back) {
    auto last = coarse_clock::now();
    for (int i = 0; i < 1'000'000; ++i) {
        auto const t = coarse_clock::now();
        ASSERT_GE(t, last);
        last = t;
    }
}

TEST(coarse_clock, says_its_resolution) {
    EXPECT_GT(coarse_clock::resolution(), 0ns);
    EXPECT_LE(coarse_clock::resolution(), 100ms);
    EXPECT_EQ(weir::resolution_of(coarse_clock{}), coarse_clock::resolution());
}

TEST(coarse_clock, is_not_ahead_of_steady_clock) {
    for (int i = 0; i < 1000; ++i) {
        auto const coarse = coarse_clock::now().time_since_epoch();
        ASSERT_LE(coarse, std::chrono::steady_clock::now().time_since_epoch());
    }
}

TEST(coarse_clock, moves_in_steps_of_its_resolution_or_more) {
    if (!coarse_clock::is_coarse) GTEST_SKIP() << "this system has no coarse clock";
    auto last = coarse_clock::now();
    for (int steps = 0; steps < 3;) {
        auto const t = coarse_clock::now();
        if (t == last) continue;
        // The kernel's tick is kept to the nearest nanosecond or so, and slewed.
        EXPECT_GE((t - last) * 100, coarse_clock::resolution() * 95);
        last = t;
        ++steps;
    }
}

TEST(coarse_clock, a_sleep_by_it_ends_when_it_has_got_there) {
    auto const until = coarse_clock::now() + 2 * coarse_clock::resolution();
    weir::sleep_until(coarse_clock{}, until);
    EXPECT_GE(coarse_clock::now(), until);
}

}  // namespace coarse_clock_test
