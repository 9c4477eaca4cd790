// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/clock/scaled_clock.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <stdexcept>
#include <thread>
#include <type_traits>

namespace scaled_clock_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::scaled_clock;

using scaled_manual = scaled_clock<manual_clock&>;
static_assert(weir::clock<scaled_clock<>>);
static_assert(weir::sleeping_clock<scaled_manual>);
static_assert(!std::is_same_v<scaled_clock<>::time_point, std::chrono::steady_clock::time_point>);
static_assert(scaled_clock<>::is_steady && !scaled_manual::is_steady);

TEST(scaled_clock, runs_factor_times_as_fast_from_zero) {
    manual_clock base{manual_clock::time_point{17s}};
    scaled_clock clock{60, std::ref(base)};
    EXPECT_EQ(clock.now().time_since_epoch(), 0s);
    base.advance(1s);
    EXPECT_EQ(clock.now().time_since_epoch(), 1min);
    base.advance(1ns);
    EXPECT_EQ(clock.now().time_since_epoch(), 1min + 60ns);
    EXPECT_EQ(clock.resolution(), 60ns);
}

TEST(scaled_clock, at_factor_one_is_its_base) {
    manual_clock base;
    scaled_clock clock{1, std::ref(base)};
    base.advance(123ns);
    EXPECT_EQ(clock.now().time_since_epoch(), 123ns);
    EXPECT_EQ(clock.base_duration(5ns), 5ns);
}

TEST(scaled_clock, owns_a_value_and_refers_to_what_is_passed_by_ref) {
    std::chrono::steady_clock steady;
    static_assert(std::is_same_v<decltype(scaled_clock{2, steady}), scaled_clock<std::chrono::steady_clock>>);
    manual_clock base;
    static_assert(std::is_same_v<decltype(scaled_clock{2, std::ref(base)}), scaled_manual>);
    static_assert(std::is_same_v<decltype(scaled_clock{2, std::cref(base)}), scaled_clock<manual_clock const&>>);
}

TEST(scaled_clock, refuses_a_factor_below_one) {
    EXPECT_TRUE(scaled_clock<>::validate(0));
    EXPECT_TRUE(scaled_clock<>::validate(-3));
    EXPECT_FALSE(scaled_clock<>::validate(1));
#if defined(__cpp_exceptions)
    EXPECT_THROW(scaled_clock{0}, std::invalid_argument);
#endif
}

TEST(scaled_clock, a_copy_shows_the_same_time) {
    manual_clock base;
    scaled_clock clock{10, std::ref(base)};
    base.advance(1s);
    auto const copy = clock;
    base.advance(1s);
    EXPECT_EQ(copy.now(), clock.now());
}

TEST(scaled_clock, stays_at_the_end_of_its_range) {
    manual_clock base;
    scaled_clock clock{1'000'000'000, std::ref(base)};
    base.advance(20s);
    EXPECT_EQ(clock.now(), decltype(clock)::time_point::max());
    base.turn_back(manual_clock::time_point{-20s});
    EXPECT_EQ(clock.now(), decltype(clock)::time_point::min());
}

TEST(scaled_clock, converts_to_its_bases_time_rounding_up) {
    manual_clock base{manual_clock::time_point{100ns}};
    scaled_clock clock{7, std::ref(base)};
    using time_point = decltype(clock)::time_point;
    EXPECT_EQ(clock.base_duration(7ns), 1ns);
    EXPECT_EQ(clock.base_duration(8ns), 2ns);
    EXPECT_EQ(clock.base_duration(0ns), 0ns);
    EXPECT_EQ(clock.base_duration(-8ns), -1ns);
    EXPECT_EQ(clock.base_time(time_point::max()), manual_clock::time_point::max());
    for (auto t = 0ns; t < 50ns; t += 1ns) {
        base.turn_back(clock.base_time(time_point{t}));
        EXPECT_GE(clock.now(), time_point{t});
        base.turn_back(base.now() - 1ns);
        EXPECT_LT(clock.now(), time_point{t});
    }
}

TEST(scaled_clock, sleeps_by_its_base) {
    manual_clock base;
    scaled_clock clock{100, std::ref(base)};
    std::thread sleeper{[&] { weir::sleep_for(clock, 10s); }};
    base.wait_for_sleepers(1);
    EXPECT_EQ(base.next_due(), manual_clock::time_point{100ms});
    base.advance(100ms);
    sleeper.join();
}

TEST(scaled_clock, sleeps_in_real_time_by_a_real_base) {
    scaled_clock clock{1'000'000};
    auto const until = clock.now() + 1h;  // 3.6 ms
    weir::sleep_until(clock, until);
    EXPECT_GE(clock.now(), until);
}

}  // namespace scaled_clock_test
