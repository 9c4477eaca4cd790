// SPDX-License-Identifier: MIT
#include <weir/leaky_bucket.hpp>

#include <gtest/gtest.h>

#include <weir/clock/manual_clock.hpp>

#include "support/gcra_oracle.hpp"
#include "support/stress.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <vector>

namespace leaky_bucket_test {

using namespace std::chrono_literals;
using namespace gcra_oracle;
using hammer::counting_atomics;
using hammer::shared_clock;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::permits;
using weir::rate;

using meter = weir::leaky_bucket<manual_clock&>;

TEST(leaky_bucket, rejects_what_would_overflow_and_drains) {
    manual_clock clock;
    meter m{rate{10, 1s}, 3, clock};
    EXPECT_EQ(m.capacity(), 3U);
    EXPECT_EQ(m.level(), 0U);
    EXPECT_TRUE(m.try_acquire(2));
    EXPECT_EQ(m.level(), 2U);
    auto d = m.try_acquire(2);
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_after(), 100ms);
    EXPECT_EQ(m.level(), 2U);
    clock.advance(99'999'999ns);
    EXPECT_FALSE(m.try_acquire(2));
    EXPECT_EQ(m.level(), 2U) << "a level is rounded up";
    clock.advance(1ns);
    EXPECT_EQ(m.level(), 1U);
    EXPECT_TRUE(m.try_acquire(2));
    EXPECT_EQ(m.level(), 3U);
    EXPECT_EQ(m.level(clock.now() + 300ms), 0U);
    EXPECT_EQ(m.level(clock.now() + 24h), 0U);
}

TEST(leaky_bucket, starts_at_the_level_that_leaves_what_it_is_told) {
    manual_clock clock;
    EXPECT_EQ((meter{rate{1, 1s}, 5, {}, clock}.level()), 0U);
    EXPECT_EQ((meter{rate{1, 1s}, 5, {.initial = 2}, clock}.level()), 3U);
    EXPECT_EQ((meter{rate{1, 1s}, 5, {.initial = 0}, clock}.level()), 5U);
    EXPECT_EQ((meter{rate{1, 1s}, 5, {.initial = 0}, at(-1'000'000'000), clock}.level()), 4U);
}

TEST(leaky_bucket, says_never_to_more_than_its_capacity) {
    manual_clock clock;
    meter m{rate{1, 1s}, 5, clock};
    EXPECT_TRUE(m.try_acquire(6).never());
    EXPECT_EQ(m.try_acquire(6).retry_at(), manual_clock::time_point::max());
    EXPECT_TRUE(m.try_acquire(0));
    EXPECT_EQ(m.level(), 0U);
}

TEST(leaky_bucket, decides_as_the_token_bucket_does) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        random_engine random{seed};
        manual_clock clock;
        permits const capacity = 2 + below(random, 20);
        meter m{rate{2, 7ns}, capacity, clock};
        weir::token_bucket b{rate{2, 7ns}, capacity, std::ref(clock)};
        for (int i = 0; i < 200; ++i) {
            clock.advance(nanoseconds{below(random, 10)});
            permits const n = below(random, capacity + 2);
            auto x = m.try_acquire(n);
            auto y = b.try_acquire(n);
            ASSERT_EQ(x.granted(), y.granted()) << "seed " << seed;
            ASSERT_EQ(x.never(), y.never());
            ASSERT_EQ(x.retry_at(), y.retry_at());
            ASSERT_EQ(m.level() + b.available(), capacity);
            ASSERT_EQ(m.available(), b.available());
            switch (below(random, 6)) {
                case 0: ASSERT_EQ(m.refund(x), b.refund(y)); break;
                case 1: ASSERT_EQ(m.refund(x, 1), b.refund(y, 1)); break;
                case 2: ASSERT_EQ(m.settle(x, n + 2), b.settle(y, n + 2)); break;
                case 3: ASSERT_EQ(m.check(n).granted(), b.check(n).granted()); break;
                default: break;
            }
            ASSERT_EQ(m.level() + b.available(), capacity);
        }
    }
}

TEST(leaky_bucket, is_full_when_in_debt) {
    manual_clock clock;
    meter m{rate{1, 1s}, 5, clock};
    auto d = m.try_acquire();
    ASSERT_TRUE(m.settle(d, 100));
    EXPECT_EQ(m.level(), 5U);
    EXPECT_EQ(m.try_acquire().retry_after(), 96s);
}

TEST(leaky_bucket, changes_its_rate_and_keeps_its_room) {
    manual_clock clock;
    meter m{rate{1, 1s}, 5, clock};
    ASSERT_TRUE(m.try_acquire(4));
    EXPECT_FALSE(m.change({rate{2, 1s}, 8}));
    EXPECT_EQ(m.capacity(), 8U);
    EXPECT_EQ(m.available(), 1U);
    EXPECT_EQ(m.level(), 7U);
    EXPECT_TRUE(m.change({rate{2, 1s}, 0}));
}

TEST(leaky_bucket, is_refused_with_the_reason) {
    manual_clock clock;
    EXPECT_THROW((meter{rate{1, 1s}, 0, clock}), std::invalid_argument);
    EXPECT_THROW((meter{rate{2, 1ns}, 100, clock}), std::invalid_argument);
    auto const made = meter::make(rate{1, 1s}, 0, clock);
    EXPECT_FALSE(made);
    EXPECT_STREQ(made.error().message(), meter::validate(rate{1, 1s}, 0).message());
    EXPECT_TRUE(meter::make(rate{1, 1s}, 1, {.initial = 0}, clock));
}

TEST(leaky_bucket, keeps_its_promise_whatever_the_threads_do) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        shared_clock clock;
        weir::leaky_bucket<shared_clock&, counting_atomics> m{rate{1, 5ns}, 20, clock};
        auto const all = hammer::gather<grant>(3, seed, 50'000, [&](random_engine& random, auto& mine) {
            if (below(random, 3) == 0) clock.advance(static_cast<std::int64_t>(below(random, 15)));
            permits const n = 1 + below(random, 5);
            auto const t = clock.now();
            auto d = m.try_acquire(n, t);
            if (!d) return;
            if (below(random, 4) == 0) {
                m.refund(d);
            } else {
                mine.push_back({t.time_since_epoch().count(), n});
            }
        });
        ASSERT_GT(all.size(), 1000U);
        ASSERT_EQ(excess(all, {1, 5}, 20), 0);
    });
}

}  // namespace leaky_bucket_test
