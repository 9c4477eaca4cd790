// SPDX-License-Identifier: MIT
// The hand-written peers keep a token bucket's promise, in virtual time.
#include "buckets.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <random>
#include <thread>
#include <vector>

namespace {

template <class Bucket>
class bucket : public testing::Test {};
using all = testing::Types<peers::mutex_bucket, peers::spin_bucket, peers::cas_bucket>;
TYPED_TEST_SUITE(bucket, all);

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t begin = 123'456'789'012;

TYPED_TEST(bucket, begins_full_and_grants_a_burst_at_once) {
    TypeParam b{10 / 1e9, 5, begin};
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(b.try_acquire(begin)) << i;
    EXPECT_FALSE(b.try_acquire(begin));
}

TYPED_TEST(bucket, refills_a_permit_in_its_time_and_never_more_than_the_burst) {
    TypeParam b{10 / 1e9, 5, begin};
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(b.try_acquire(begin));
    EXPECT_FALSE(b.try_acquire(begin + 99 * ms));
    EXPECT_TRUE(b.try_acquire(begin + 101 * ms));
    EXPECT_FALSE(b.try_acquire(begin + 199 * ms));
    int granted = 0;
    while (b.try_acquire(begin + 3'600'000 * ms)) ++granted;
    EXPECT_EQ(granted, 5);
}

TYPED_TEST(bucket, grants_at_most_burst_and_rate_in_any_interval_and_all_of_that_when_asked_enough) {
    std::mt19937_64 random{7};
    TypeParam b{100 / 1e9, 20, begin};
    std::vector<std::int64_t> granted;
    std::int64_t t = begin;
    for (int i = 0; i < 20'000; ++i) {
        t += static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(4 * ms));
        if (b.try_acquire(t)) granted.push_back(t);
    }
    for (std::size_t i = 0; i < granted.size(); ++i) {
        for (std::size_t k = i; k < granted.size() && k < i + 200; ++k) {
            double const most = 20 + 100 / 1e9 * static_cast<double>(granted[k] - granted[i]);
            ASSERT_LE(static_cast<double>(k - i + 1), most + 1e-6);
        }
    }
    EXPECT_GE(static_cast<double>(granted.size()), 100 / 1e9 * static_cast<double>(t - begin) + 18);
}

TYPED_TEST(bucket, racing_threads_take_the_burst_and_no_more) {
    constexpr int burst = 300'000;
    for (int round = 0; round < 3; ++round) {
        TypeParam b{0x1p-40, burst, begin};  // a power of two: the double is exact
        std::atomic<int> granted{0};
        std::latch together{4};
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i) {
            threads.emplace_back([&] {
                together.arrive_and_wait();
                int mine = 0;
                for (int k = 0; k < burst / 3; ++k) mine += b.try_acquire(begin) ? 1 : 0;
                granted.fetch_add(mine);
            });
        }
        for (auto& t : threads) t.join();
        ASSERT_EQ(granted.load(), burst);
    }
}

}  // namespace
