// SPDX-License-Identifier: MIT
#include "bucket_script.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <random>

namespace token_bucket_property_test {

using namespace script;

TEST(token_bucket_property, is_its_oracle_whatever_is_done_to_it) {
    auto const fault = check(token_bucket_script, "token_bucket", 6'000, 90);
    EXPECT_TRUE(fault.empty()) << fault;
}

TEST(leaky_bucket_property, is_its_oracle_whatever_is_done_to_it) {
    auto const fault = check(leaky_bucket_script, "leaky_bucket", 2'000, 90);
    EXPECT_TRUE(fault.empty()) << fault;
}

/// What is available can be taken at once, and in any parts: for any rate, burst, state and time.
TEST(gcra_property, what_is_available_can_be_taken_one_by_one) {
    std::mt19937_64 random{11};
    auto const below = [&](std::uint64_t n) { return random() % n; };
    int awkward = 0;
    for (int i = 0; i < 200'000; ++i) {
        using std::chrono::nanoseconds;
        std::uint64_t const q = 1 + below(std::uint64_t{1} << (1 + below(40)));
        std::uint64_t const burst = 1 + below(12);
        auto const g =
            weir::gcra::make<nanoseconds>(weir::rate{1 + below(q), nanoseconds{static_cast<std::int64_t>(q)}}, burst);
        if (!g) continue;
        std::uint64_t const t = below(g->horizon() >> below(50));
        auto const now = g->at(t);
        std::uint64_t const tat = now.floor + below(3) * below(g->span() + 3) - (now.floor == 0 ? 0 : below(2));
        weir::permits const all = g->available(tat, now);
        ASSERT_LE(all, burst);
        ASSERT_TRUE(all == 0 || g->allows(tat, now, all));
        std::uint64_t one_by_one = tat;
        std::uint64_t in_parts = tat;
        for (weir::permits k = 0; k < all; ++k) {
            ASSERT_TRUE(g->allows(one_by_one, now, 1)) << k << " of " << all << " at " << t;
            one_by_one = g->charged(one_by_one, now, 1);
        }
        for (weir::permits left = all; left != 0;) {
            weir::permits const part = 1 + below(left);
            ASSERT_TRUE(g->allows(in_parts, now, part)) << part << " of " << left << " at " << t;
            in_parts = g->charged(in_parts, now, part);
            left -= part;
        }
        // And no more: one more is denied after them.
        ASSERT_FALSE(all != 0 && g->allows(one_by_one, now, 1)) << all << " at " << t;
        if (tat <= now.floor && all < burst) ++awkward;
    }
    EXPECT_GT(awkward, 1'000) << "full buckets of which not all can be taken one by one";
}

}  // namespace token_bucket_property_test
