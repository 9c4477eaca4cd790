// SPDX-License-Identifier: MIT
// keyed_buckets and an exact map of buckets, on random attempts: floods, full sets, times that step back, plans that
// change.
#include <weir/clock/manual_clock.hpp>
#include <weir/keyed_buckets.hpp>

#include "../support/gcra_oracle.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <vector>

namespace keyed_buckets_property_test {

using namespace std::chrono_literals;
using weir::full_set;
using weir::manual_clock;

/// An integer is its own hash: keys below 2^27 share the first set.
struct plain_hash {
    std::uint64_t operator()(std::uint64_t word) const noexcept { return word; }
    std::uint64_t operator()(std::span<std::byte const> bytes) const noexcept { return bytes.size(); }
};
using one_set = weir::keyed_buckets<manual_clock&, plain_hash>;

manual_clock::time_point at(std::int64_t ns) { return manual_clock::time_point{std::chrono::nanoseconds{ns}}; }

/// A bucket for each key, in nanoseconds.
struct exact_map {
    std::map<std::uint64_t, std::int64_t> tat;

    bool allows(std::uint64_t key, std::int64_t t, std::int64_t cost, std::int64_t span) {
        return std::max(tat[key], t) + cost <= t + span;
    }
    void charge(std::uint64_t key, std::int64_t t, std::int64_t cost) { tat[key] = std::max(tat[key], t) + cost; }
    std::size_t others_in_debt(std::uint64_t key, std::int64_t t) const {
        return static_cast<std::size_t>(
            std::count_if(tat.begin(), tat.end(), [&](auto const& e) { return e.first != key && e.second > t; }));
    }
};

constexpr std::int64_t second = 1'000'000'000;

TEST(keyed_buckets_property, a_refusing_set_decides_as_an_exact_map_while_time_goes_on) {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        std::mt19937_64 random{seed};
        manual_clock clock;
        std::int64_t interval = second / 10;
        std::int64_t burst = 5;
        one_set b{{.capacity = 14, .when_full = full_set::refuse}, {weir::rate{10, 1s}, 5}, clock, plain_hash{}};
        exact_map exact;
        std::uint64_t const keys = 5 + random() % 40;
        std::int64_t t = 0;
        bool was_reset = false;
        for (int i = 0; i < 2000; ++i) {
            t += random() % 50 == 0 ? static_cast<std::int64_t>(random() % 400) * second
                                    : static_cast<std::int64_t>(random() % 20) * second / 400;
            if (random() % 200 == 0) {
                bool const fast = random() % 2 == 0;
                interval = fast ? second / 10 : second / 2;
                burst = fast ? 5 : 3;
                ASSERT_FALSE(b.change(fast ? weir::plan{weir::rate{10, 1s}, 5} : weir::plan{weir::rate{2, 1s}, 3}));
            }
            std::uint64_t const key = 1 + random() % keys;
            auto const n = static_cast<std::int64_t>(1 + random() % static_cast<std::uint64_t>(burst));
            auto d = b.try_acquire(key, n, at(t));
            bool const allowed = exact.allows(key, t, n * interval, burst * interval);
            bool const full = exact.tat[key] <= t && exact.others_in_debt(key, t) >= 14;
            ASSERT_EQ(d.granted(), allowed && !full) << seed << ' ' << i;
            ASSERT_EQ(d.full(), full) << seed << ' ' << i;
            if (d) {
                std::int64_t const before = exact.tat[key];
                exact.charge(key, t, n * interval);
                if (random() % 8 == 0) {
                    // Nothing where a reset has made TATs repeat.
                    weir::permits const back = b.refund(d);
                    ASSERT_TRUE(back == static_cast<weir::permits>(n) || (was_reset && back == 0)) << seed << ' ' << i;
                    if (back != 0) exact.tat[key] = before;
                }
            } else if (!full) {
                ASSERT_FALSE(b.check(key, {}, n, d.retry_at() - 4ns)) << seed << ' ' << i;
                ASSERT_TRUE(b.check(key, {}, n, d.retry_at())) << seed << ' ' << i;
            }
            if (random() % 100 == 0) {
                was_reset = true;
                b.reset(key);
                exact.tat[key] = 0;
            }
        }
    }
}

TEST(keyed_buckets_property, times_that_step_back_grant_no_key_more_than_its_limit) {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        std::mt19937_64 random{seed};
        manual_clock clock;
        one_set b{{.capacity = 14, .when_full = full_set::refuse}, {weir::rate{10, 1s}, 5}, clock, plain_hash{}};
        std::map<std::uint64_t, std::vector<gcra_oracle::grant>> granted;
        std::int64_t t = 0;
        for (int i = 0; i < 2000; ++i) {
            // Within the first epoch, so that the effective time is the time.
            t = std::clamp<std::int64_t>(t + static_cast<std::int64_t>(random() % 300) * second / 1000 - second / 10, 0,
                                         60 * second);
            std::uint64_t const key = 1 + random() % 25;
            weir::permits const n = 1 + random() % 5;
            if (b.try_acquire(key, n, at(t))) granted[key].push_back({t, n});
        }
        for (auto const& [key, grants] : granted) {
            EXPECT_LE(gcra_oracle::excess(grants, {10, second}, 5), 0) << seed << ' ' << key;
        }
    }
}

TEST(keyed_buckets_property, a_flood_of_fresh_keys_denies_few_of_the_others) {
    manual_clock clock;
    weir::keyed_buckets b{{.capacity = 14'000}, {weir::rate{1, 1s}, 5}, std::ref(clock), weir::sip_hash{1, 2}};
    std::uint64_t asked = 0;
    std::uint64_t served = 0;
    std::uint64_t fresh = 1'000'000;
    for (int round = 0; round < 20; ++round) {
        for (std::uint64_t honest = 0; honest < 1000; ++honest) {
            for (int flood = 0; flood < 2; ++flood) (void)b.try_acquire(fresh++);
            ++asked;
            served += b.try_acquire(honest) ? 1U : 0U;
            clock.advance(1ms);
        }
        clock.advance(1s);
    }
    EXPECT_GE(served * 1000, asked * 990) << served << " of " << asked;
}

}  // namespace keyed_buckets_property_test
