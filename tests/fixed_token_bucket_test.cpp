// SPDX-License-Identifier: MIT
#include <weir/fixed_token_bucket.hpp>

#include <gtest/gtest.h>

#include <weir/all_of.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/lease.hpp>

namespace fixed_token_bucket_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using bucket = weir::fixed_token_bucket<manual_clock&>;

static_assert(sizeof(weir::fixed_token_bucket<>) <= 128);
static_assert(weir::limiter<bucket> && weir::leasable<bucket>);

TEST(fixed_token_bucket, grants_the_burst_and_then_the_rate) {
    manual_clock clock;
    bucket b{weir::rate{10, 1s}, 3, clock};
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(b.try_acquire());
    auto const d = b.try_acquire();
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_after(), 100ms);
    EXPECT_EQ(b.available(), 0U);
    clock.advance(100ms);
    EXPECT_TRUE(b.try_acquire());
    EXPECT_FALSE(b.try_acquire());
}

TEST(fixed_token_bucket, takes_back_settles_and_reserves) {
    manual_clock clock;
    bucket b{weir::rate{10, 1s}, 3, clock};
    auto d = b.try_acquire(2);
    EXPECT_EQ(b.refund(d), 2U);
    auto e = b.try_acquire(1);
    EXPECT_TRUE(b.settle(e, 3));
    EXPECT_EQ(b.available(), 0U);
    auto r = b.reserve(1, 1s);
    ASSERT_TRUE(r);
    EXPECT_EQ(r.starts_at(), clock.now() + 100ms);
    EXPECT_EQ(b.refund(r), 1U);
}

TEST(fixed_token_bucket, change_accepts_the_limits_in_force_and_no_others) {
    manual_clock clock;
    bucket b{weir::rate{10, 1s}, 3, clock};
    ASSERT_TRUE(b.try_acquire(2));
    EXPECT_FALSE(b.change(b.limits()));
    EXPECT_EQ(b.change({weir::rate{11, 1s}, 3}), weir::errc::unsupported);
    EXPECT_EQ(b.change({weir::rate{10, 1s}, 4}, clock.now()), weir::errc::unsupported);
    EXPECT_EQ(b.available(), 1U);
    EXPECT_EQ(b.burst(), 3U);
}

TEST(fixed_token_bucket, is_made_and_refused_as_a_token_bucket) {
    EXPECT_TRUE(weir::fixed_token_bucket<>::make(weir::rate{10, 1s}, 3));
    EXPECT_FALSE(weir::fixed_token_bucket<>::make(weir::rate{10, 1s}, 0));
    weir::fixed_token_bucket deduced{weir::rate{10, 1s}, 3};
    EXPECT_TRUE(deduced.try_acquire(3));
}

TEST(fixed_token_bucket, is_a_part_of_an_all_of_and_has_leases) {
    manual_clock clock;
    bucket a{weir::rate{10, 1s}, 3, clock};
    weir::token_bucket<manual_clock&> b{weir::rate{10, 1s}, 2, clock};
    weir::all_of both{a, b};
    EXPECT_TRUE(both.try_acquire(2));
    EXPECT_FALSE(both.try_acquire());
    weir::lease mine{a};
    EXPECT_TRUE(mine.try_acquire());
}

}  // namespace fixed_token_bucket_test
