// SPDX-License-Identifier: MIT
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <weir/clock/manual_clock.hpp>

#include "support/gcra_oracle.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>

namespace token_bucket_change_test {

using namespace std::chrono_literals;
using namespace gcra_oracle;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::permits;
using weir::rate;

using bucket = weir::token_bucket<manual_clock&>;
using plain_bucket = weir::token_bucket<manual_clock&, weir::unsynchronized>;

TEST(token_bucket, keeps_credit_and_debt_when_its_rate_changes) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    ASSERT_TRUE(b.try_acquire(4));
    EXPECT_FALSE(b.change({rate{10, 1s}, 20}));
    EXPECT_EQ(b.burst(), 20U);
    EXPECT_EQ(b.available(), 6U) << "a greater burst is earned, not given";
    clock.advance(1s);
    EXPECT_EQ(b.available(), 16U);
    EXPECT_FALSE(b.change({rate{1, 2s}, 3}));
    EXPECT_EQ(b.available(), 3U);
    ASSERT_TRUE(b.try_acquire(3));
    auto d = b.try_acquire();
    EXPECT_EQ(d.retry_after(), 2s);
    EXPECT_TRUE(b.try_acquire(4).never());
    // A debt of 5 at 1 per 2 s is a debt of 5 at 1 per 1 s.
    auto over = b.reserve(1, 1min);
    ASSERT_TRUE(b.settle(over, 5));
    EXPECT_EQ(b.check().retry_after(), 12s);
    EXPECT_FALSE(b.change({rate{1, 1s}, 3}));
    EXPECT_GE(b.check().retry_after(), 6s);
    EXPECT_LE(b.check().retry_after(), 12s);
}

TEST(token_bucket, keeps_bookings_when_its_rate_changes) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 1, {.initial = 0}, clock};
    auto d = b.reserve(1, 1h);
    for (int i = 0; i < 5; ++i) d = b.reserve(1, 1h);
    ASSERT_EQ(d.starts_at(), at(6'000'000'000));
    EXPECT_FALSE(b.change({rate{1000, 1s}, 5}));
    EXPECT_GE(b.check().retry_at(), at(6'000'000'000));
    EXPECT_LE(b.check().retry_at(), at(6'002'000'000));
    EXPECT_EQ(b.refund(d), 0U) << "it was made under another rate";
}

TEST(token_bucket, refunds_no_grant_made_before_a_change_even_back_to_the_same_rate) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    auto d = b.try_acquire(4);
    for (int i = 0; i < 8; ++i) {
        EXPECT_FALSE(b.change({rate{1, 1s}, 10}));
        EXPECT_EQ(b.available(), 6U);
    }
    EXPECT_EQ(b.refund(d), 0U);
    EXPECT_EQ(b.available(), 6U);
    auto e = b.try_acquire(6);
    EXPECT_EQ(b.refund(e), 6U);
}

TEST(token_bucket, changes_nothing_when_it_refuses_a_change) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    ASSERT_TRUE(b.try_acquire(4));
    EXPECT_TRUE(b.change({rate{1, 1s}, 0}));
    EXPECT_TRUE(b.change({rate{5, 1ns}, 3}));
    EXPECT_EQ(b.burst(), 10U);
    EXPECT_EQ(b.available(), 6U);
    EXPECT_NE(b.change({rate{1, 1s}, 0}), weir::errc::busy);
}

TEST(token_bucket, answers_of_a_decision_stay_when_the_limits_change) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 3, clock};
    ASSERT_TRUE(b.try_acquire(3));
    auto d = b.try_acquire(3);
    auto const as_before = [&](auto const& of) {
        EXPECT_EQ(of.retry_at(), at(3'000'000'000));
        EXPECT_EQ(of.retry_after(), 3s);
        EXPECT_EQ(of.remaining(), 0U);
        EXPECT_EQ(of.full_at(), at(3'000'000'000));
    };
    EXPECT_FALSE(b.change({rate{1, 1s}, 2}));
    as_before(d);
    clock.advance(10s);
    EXPECT_FALSE(b.change({rate{1, 1s}, 3}));
    ASSERT_TRUE(b.try_acquire(2));
    clock.turn_back(at(0));
    // Three changes bring another configuration into the slot that this one was made under.
    EXPECT_FALSE(b.change({rate{1, 1s}, 3}, at(10'000'000'000)));
    auto const e = b.try_acquire(2, at(11'000'000'000));
    auto const g = b.try_acquire(1, at(12'000'000'000));
    ASSERT_TRUE(g);
    for (int i = 0; i < 7; ++i) {
        EXPECT_FALSE(e);
        EXPECT_EQ(e.retry_at(), at(12'000'000'000)) << i;
        EXPECT_EQ(e.remaining(), 1U) << i;
        EXPECT_EQ(e.full_at(), at(13'000'000'000)) << i;
        EXPECT_EQ(g.retry_at(), at(12'000'000'000)) << i;
        EXPECT_EQ(g.retry_after(), 0s) << i;
        EXPECT_EQ(g.remaining(), 1U) << i;
        EXPECT_EQ(g.full_at(), at(14'000'000'000)) << i;
        EXPECT_FALSE(b.change({rate{static_cast<permits>(1000 + i), 1s}, 7}));
        as_before(d);
    }
}

TEST(token_bucket, keeps_its_promise_across_changes) {
    // Rates of one per q, q a divisor of 60, so that what they earn is counted in sixtieths of a permit.
    for (std::uint64_t seed = 1; seed <= 4000; ++seed) {
        random_engine random{seed};
        std::int64_t const divisors[] = {1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60};
        manual_clock clock;
        std::int64_t q = divisors[below(random, 12)];
        permits burst = 1 + below(random, 12);
        plain_bucket b{rate{1, nanoseconds{q}}, burst, clock};
        std::int64_t earned = 0;  // since the start
        std::int64_t taken = 0;
        // For each instant: 60·burst + earned, and what had been taken before; the least of their difference bounds all
        // that follows.
        std::int64_t least = std::numeric_limits<std::int64_t>::max();
        for (int i = 0; i < 120; ++i) {
            auto const what = below(random, 8);
            // An interval may begin now: it grants no more than the burst in force and what is earned from now on.
            least = std::min(least, 60 * static_cast<std::int64_t>(burst) - earned + taken);
            if (what < 3) {
                auto const step = static_cast<std::int64_t>(below(random, 40));
                clock.advance(nanoseconds{step});
                earned += step * (60 / q);
            } else if (what < 4) {
                q = divisors[below(random, 12)];
                burst = 1 + below(random, 12);
                permits const had = b.available();
                ASSERT_FALSE(b.change({rate{1, nanoseconds{q}}, burst}));
                ASSERT_EQ(b.available(), std::min(had, burst)) << "seed " << seed;
            } else {
                permits const n = 1 + below(random, burst);
                if (b.try_acquire(n)) taken += 60 * static_cast<std::int64_t>(n);
                ASSERT_LE(taken - earned, least) << "seed " << seed << " step " << i;
            }
        }
    }
}

}  // namespace token_bucket_change_test
