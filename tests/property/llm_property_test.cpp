// SPDX-License-Identifier: MIT
#include "header_sync_script.hpp"
#include "pool_script.hpp"

#include <gtest/gtest.h>

namespace llm_property_test {

using namespace script;

TEST(account_pool_property, is_its_oracle_whatever_is_done_to_it) {
    EXPECT_EQ(check(account_pool_script, "account_pool", 2'000, 50), "");
}
TEST(fallback_chain_property, is_its_oracle_whatever_is_done_to_it) {
    EXPECT_EQ(check(fallback_chain_script, "fallback_chain", 1'000, 50), "");
}
TEST(limit_feed_property, charges_what_was_strangers_and_no_more) {
    EXPECT_EQ(check(limit_feed_script, "header_sync", 1'000, 60), "");
}

using thirds = ticking_clock<std::ratio<1, 3>>;

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
