// SPDX-License-Identifier: MIT
#include "../../examples/simulator/plan_quota.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace plan_quota_test {

using qwen::plan_quota;
using qwen::plan_settings;

constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t hour = 3'600 * second;
constexpr std::int64_t day = 24 * hour;

TEST(plan_quota, is_exhausted_with_its_credits_until_the_end_of_the_period) {
    plan_quota p{{.five_hours = 3, .tokens_per_credit = 100}};
    EXPECT_FALSE(p.trouble(0));
    p.spend(299, hour);
    EXPECT_FALSE(p.trouble(hour));  // something is left
    p.spend(1, 2 * hour);
    auto const t = p.trouble(2 * hour);
    ASSERT_TRUE(t);
    EXPECT_STREQ(t->period, "5-hour");
    EXPECT_EQ(t->reset_ns, 5 * hour);
    EXPECT_TRUE(p.trouble(5 * hour - 1));
    EXPECT_FALSE(p.trouble(5 * hour));
    p.spend(300, 5 * hour);
    EXPECT_EQ(p.trouble(6 * hour)->reset_ns, 10 * hour);
}

TEST(plan_quota, names_the_period_that_ends_last) {
    plan_quota p{{.five_hours = 1, .week = 2, .month = 3}};
    p.spend(1'000, 0);
    EXPECT_STREQ(p.trouble(0)->period, "5-hour");
    p.spend(1'000, 5 * hour);
    EXPECT_STREQ(p.trouble(5 * hour)->period, "1-week");
    EXPECT_EQ(p.trouble(5 * hour)->reset_ns, 7 * day);
    p.spend(1'000, 7 * day);
    EXPECT_STREQ(p.trouble(7 * day)->period, "1-month");
    EXPECT_EQ(p.trouble(7 * day)->reset_ns, 30 * day);
    EXPECT_STREQ(p.trouble(8 * day)->period, "1-month");
}

TEST(plan_quota, a_plan_may_have_begun_before) {
    plan_quota p{{.month = 0, .age_s = 9 * 86'400.0}};
    EXPECT_EQ(p.trouble(0)->reset_ns, 21 * day);
}

TEST(plan_quota, says_it_in_the_vendors_words) {
    EXPECT_EQ(qwen::plan_message("1-month", 1'760'544'000),
              "Your token-plan 1-month quota has been exhausted. The quota will reset at 10-15 16:00:00 UTC.");
}

TEST(plan_quota, refuses_settings_that_make_no_sense) {
    EXPECT_THROW((plan_quota{{.month = 1, .tokens_per_credit = 0}}), std::invalid_argument);
    EXPECT_THROW((plan_quota{{.month = 1, .age_s = -1}}), std::invalid_argument);
}

}  // namespace plan_quota_test
