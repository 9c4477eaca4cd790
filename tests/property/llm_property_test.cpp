// SPDX-License-Identifier: MIT
#include "adaptive_rate_script.hpp"
#include "fair_schedule_script.hpp"
#include "header_sync_script.hpp"
#include "learnt_script.hpp"
#include "pool_script.hpp"
#include "ramp_script.hpp"
#include "retry_budget_script.hpp"

#include <gtest/gtest.h>

namespace llm_property_test {

using namespace script;

// Whatever is asked for is refused without an overflow, in ticks of any clock.
using thirds = ticking_clock<std::ratio<1, 3>>;
static_assert(weir::adaptive_rate<thirds&>::validate({.start = 1, .recovery = std::chrono::nanoseconds::max()}));
static_assert(weir::adaptive_rate<thirds&>::validate({.start = 1, .recovery = std::chrono::nanoseconds::min()}));

TEST(account_pool_property, is_its_oracle_whatever_is_done_to_it) {
    EXPECT_EQ(check(account_pool_script, "account_pool", 2'000, 50), "");
}
TEST(fallback_chain_property, is_its_oracle_whatever_is_done_to_it) {
    EXPECT_EQ(check(fallback_chain_script, "fallback_chain", 1'000, 50), "");
}
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
TEST(limit_feed_property, charges_what_was_strangers_and_no_more) {
    EXPECT_EQ(check(limit_feed_script, "header_sync", 1'000, 60), "");
}
TEST(margin_property, covers_what_was_seen_and_no_more) { EXPECT_EQ(check(margin_script, "margin", 5'000, 60), ""); }
TEST(estimate_property, bounds_what_was_seen) { EXPECT_EQ(check(estimate_script, "estimate", 2'000, 40), ""); }

// A wait that saturated has no end, and is not over at once.
TEST(account_pool_property, a_wait_that_saturated_has_no_end) {
    weir::llm::cooldown<thirds::time_point> a;
    a.begin({.cause = weir::llm::cause::billing,
             .action = weir::llm::action::next_account,
             .wait = std::chrono::nanoseconds::max()},
            thirds::time_point{}, {}, std::chrono::seconds{1}, std::chrono::seconds{1});
    EXPECT_EQ(a.until(), thirds::time_point::max());
}

}  // namespace llm_property_test
