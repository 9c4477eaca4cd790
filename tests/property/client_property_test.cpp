// SPDX-License-Identifier: MIT
#include "adaptive_rate_script.hpp"
#include "fair_schedule_script.hpp"
#include "learnt_script.hpp"
#include "ramp_script.hpp"
#include "retry_budget_script.hpp"

#include <gtest/gtest.h>

namespace client_property_test {

using namespace script;

// Whatever is asked for is refused without an overflow, in ticks of any clock.
using thirds = ticking_clock<std::ratio<1, 3>>;
static_assert(weir::adaptive_rate<thirds&>::validate({.start = 1, .recovery = std::chrono::nanoseconds::max()}));
static_assert(weir::adaptive_rate<thirds&>::validate({.start = 1, .recovery = std::chrono::nanoseconds::min()}));

TEST(retry_budget_property, is_its_oracle_whatever_is_done_to_it) {
    EXPECT_EQ(check(retry_budget_script, "retry_budget", 1'000, 50), "");
}
TEST(ramp_property, is_never_faster_than_its_server_allows) { EXPECT_EQ(check(ramp_script, "ramp", 3'000, 60), ""); }
TEST(adaptive_property, is_its_oracle_whatever_is_done_to_it) {
    EXPECT_EQ(check(adaptive_script, "adaptive", 3'000, 50), "");
}
TEST(fair_order_property, keeps_its_shares_whatever_is_asked_for) {
    EXPECT_EQ(check(fair_order_script, "fair_schedule", 5'000, 60), "");
}
TEST(margin_property, covers_what_was_seen_and_no_more) { EXPECT_EQ(check(margin_script, "margin", 5'000, 60), ""); }
TEST(estimate_property, bounds_what_was_seen) { EXPECT_EQ(check(estimate_script, "estimate", 2'000, 40), ""); }

}  // namespace client_property_test
