// SPDX-License-Identifier: MIT
#include "../../examples/simulator/burst_guard.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace burst_guard_test {

using qwen::burst_guard;
using qwen::burst_settings;
using qwen::wait_timeout_s;
using answer = burst_guard::answer;

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t second = 1'000 * ms;

burst_settings fixed(double floor, double growth) {
    return {.on = true, .least_floor = floor, .most_floor = floor, .least_growth = growth, .most_growth = growth};
}

struct guard : burst_guard {
    using burst_guard::burst_guard;
    bool passes(std::int64_t t) { return arrive("a", "m", t).is == answer::passes; }
    std::uint64_t wait(std::int64_t t, std::int64_t for_ns) {
        auto const o = arrive("a", "m", t, for_ns);
        EXPECT_EQ(o.is, answer::waits);
        return o.ticket;
    }
};

TEST(burst_guard, a_cold_start_gets_the_floor_in_each_second) {
    guard g{fixed(3, 2)};
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(g.passes(i * 100 * ms));
    EXPECT_FALSE(g.passes(300 * ms));
    EXPECT_FALSE(g.passes(second - 1));
    EXPECT_TRUE(g.passes(second));  // the first has left
    EXPECT_FALSE(g.passes(second + 1));
    EXPECT_EQ(g.refused(), 3u);
}

TEST(burst_guard, then_at_most_growth_times_the_mean_of_ten_seconds) {
    guard g{fixed(2, 1.5)};
    std::int64_t t = 0;
    for (; t < 10 * second; t += 100 * ms) (void)g.passes(t);
    EXPECT_EQ(g.allowed("a", "m", t), 3);  // 2 a second for 10 s
    int in_second = 0;
    for (auto end = t + second; t < end; t += 10 * ms) in_second += g.passes(t);
    EXPECT_LE(in_second, 3);
    // A client that asks for more than there is for a minute gets more and more, but no more than growth allows.
    std::vector<std::int64_t> passed;
    guard h{fixed(2, 1.5)};
    for (t = 0; t < 60 * second; t += 5 * ms)
        if (h.passes(t)) {
            auto const within = [&](std::int64_t length) {
                return std::count_if(passed.begin(), passed.end(), [&](auto p) { return p > t - length; });
            };
            EXPECT_LE(static_cast<double>(within(second) + 1),
                      std::max(2.0, 1.5 * static_cast<double>(within(10 * second)) / 10));
            passed.push_back(t);
        }
    auto const in = [&](int from, int to) {
        return std::count_if(passed.begin(), passed.end(),
                             [&](auto p) { return p >= from * second && p < to * second; });
    };
    EXPECT_GT(in(50, 60), in(20, 30));
    EXPECT_GT(in(20, 30), in(0, 10));
}

TEST(burst_guard, ten_idle_seconds_are_a_cold_start_again) {
    guard g{fixed(2, 10)};
    for (std::int64_t t = 0; t < 20 * second; t += 100 * ms) (void)g.passes(t);
    EXPECT_GT(g.allowed("a", "m", 20 * second), 2);
    EXPECT_EQ(g.allowed("a", "m", 30 * second), 2);
}

TEST(burst_guard, accounts_and_models_are_apart) {
    guard g{fixed(1, 2)};
    EXPECT_TRUE(g.passes(0));
    EXPECT_FALSE(g.passes(0));
    EXPECT_EQ(g.arrive("b", "m", 0).is, answer::passes);
    EXPECT_EQ(g.arrive("a", "n", 0).is, answer::passes);
}

TEST(burst_guard, the_threshold_moves_slowly_within_its_bounds_by_seed) {
    burst_settings const s{
        .on = true, .least_floor = 2, .most_floor = 8, .least_growth = 1.5, .most_growth = 3, .drift_s = 10};
    guard g{s, 1}, same{s, 1}, other{s, 2};
    double least = 100, most = 0;
    int differs = 0;
    for (std::int64_t t = 0; t < 1'000 * second; t += 100 * ms) {
        auto const a = g.threshold_at(t), b = g.threshold_at(t + 100 * ms);
        ASSERT_GE(a.floor, 2);
        ASSERT_LE(a.floor, 8);
        ASSERT_GE(a.growth, 1.5);
        ASSERT_LE(a.growth, 3);
        ASSERT_LE(a.floor > b.floor ? a.floor - b.floor : b.floor - a.floor, 0.0601);  // 6 in 10 s
        ASSERT_EQ(a.floor, same.threshold_at(t).floor);
        differs += a.floor != other.threshold_at(t).floor;
        least = std::min(least, a.floor);
        most = std::max(most, a.floor);
    }
    EXPECT_LT(least, 3);
    EXPECT_GT(most, 7);
    EXPECT_GT(differs, 9'000);
}

TEST(burst_guard, the_line_is_first_come_first_served) {
    guard g{fixed(1, 2)};
    EXPECT_TRUE(g.passes(0));
    auto const a = g.wait(100 * ms, 30 * second), b = g.wait(200 * ms, 30 * second);
    EXPECT_EQ(g.waiting("a", "m"), 2u);
    EXPECT_FALSE(g.passes(second));  // there is room, and it belongs to the line
    EXPECT_EQ(g.look(b, second), answer::waits);
    EXPECT_EQ(g.look(a, second), answer::passes);
    EXPECT_EQ(g.look(b, second), answer::waits);
    EXPECT_EQ(g.look(b, 2 * second), answer::passes);
    EXPECT_EQ(g.waiting("a", "m"), 0u);
    EXPECT_EQ(g.look(a, 3 * second), answer::refused);  // an ended ticket
}

TEST(burst_guard, a_wait_ends_with_its_time_and_not_before) {
    guard g{fixed(1, 2)};
    EXPECT_TRUE(g.passes(0));
    auto const a = g.wait(1, 10 * second), b = g.wait(1, 500 * ms);
    EXPECT_EQ(g.look(b, 500 * ms), answer::waits);
    EXPECT_EQ(g.look(b, 500 * ms + 1), answer::refused);
    EXPECT_EQ(g.waiting("a", "m"), 1u);
    EXPECT_EQ(g.look(a, second), answer::passes);
}

TEST(burst_guard, who_leaves_makes_room_for_the_next) {
    guard g{fixed(1, 2)};
    EXPECT_TRUE(g.passes(0));
    auto const a = g.wait(1, 10 * second), b = g.wait(2, 10 * second);
    g.leave(a);
    g.leave(a);
    EXPECT_EQ(g.look(b, second), answer::passes);
}

TEST(burst_guard, says_when_it_is_of_use_to_look_again) {
    guard g{fixed(1, 2)};
    EXPECT_TRUE(g.passes(0));
    auto const a = g.wait(100 * ms, 10 * second), b = g.wait(100 * ms, 10 * second), c = g.wait(100 * ms, 500 * ms);
    EXPECT_EQ(g.look_again_at(a, 100 * ms), second);
    EXPECT_GE(g.look_again_at(b, 100 * ms), second);
    EXPECT_EQ(g.look_again_at(c, 100 * ms), 600 * ms);  // its time is over then
    EXPECT_EQ(g.look(a, second), answer::passes);
}

TEST(burst_guard, reads_the_wait_timeout_as_1_to_120_seconds) {
    EXPECT_EQ(wait_timeout_s("30"), 30);
    EXPECT_EQ(wait_timeout_s(" 1 "), 1);
    EXPECT_EQ(wait_timeout_s("120"), 120);
    EXPECT_EQ(wait_timeout_s("121"), 120);
    EXPECT_EQ(wait_timeout_s("99999999999999999999999999"), 120);
    for (auto const* none : {"", " ", "0", "-1", "1.5", "3s", "0x10", "thirty"})
        EXPECT_EQ(wait_timeout_s(none), 0) << none;
}

TEST(burst_guard, refuses_settings_that_make_no_sense) {
    EXPECT_THROW(burst_guard{fixed(0.5, 2)}, std::invalid_argument);
    EXPECT_THROW(burst_guard{fixed(2, 0.5)}, std::invalid_argument);
    EXPECT_THROW((burst_guard{{.least_floor = 5, .most_floor = 4}}), std::invalid_argument);
    EXPECT_THROW((burst_guard{{.drift_s = 0}}), std::invalid_argument);
}

}  // namespace burst_guard_test
