// SPDX-License-Identifier: MIT
#include <weir/client/retry_budget.hpp>
#include <weir/clock/manual_clock.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <random>
#include <stdexcept>

#include "../support/stress.hpp"

namespace retry_budget_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::retry_budget;
using weir::retry_budget_options;
using budget = retry_budget<manual_clock&>;

/// No floor to speak of: one a day, and that one is taken.
retry_budget_options bare(std::uint32_t retries, std::uint32_t successes, std::uint32_t most = 100) {
    return {
        .retries = retries, .successes = successes, .max_saved = most, .floor = weir::rate{1, 24h}, .floor_burst = 1};
}

TEST(llm_retry_budget, six_of_ten_allow_exactly_six_retries_for_ten_successes) {
    manual_clock clock;
    budget b{bare(6, 10), clock};
    EXPECT_TRUE(b.try_retry());  // the floor's
    for (int i = 0; i < 10; ++i) b.succeeded();
    EXPECT_EQ(b.available(), 6U);
    for (int i = 0; i < 6; ++i) EXPECT_TRUE(b.try_retry());
    EXPECT_FALSE(b.try_retry());
}

TEST(llm_retry_budget, retries_never_exceed_the_ratio_and_lose_none_of_it) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        std::mt19937_64 random{seed};
        auto const r = static_cast<std::uint32_t>(1 + random() % 9);
        auto const s = static_cast<std::uint32_t>(1 + random() % 9);
        manual_clock clock;
        budget b{bare(r, s, 1'000'000), clock};
        ASSERT_TRUE(b.try_retry());
        std::uint64_t successes = 0, retries = 0;
        for (int i = 0; i < 500; ++i) {
            if (random() % 2 == 0) {
                b.succeeded();
                ++successes;
            } else {
                bool const may = (retries + 1) * s <= successes * r;
                ASSERT_EQ(b.try_retry(), may) << seed << ' ' << i;
                retries += may ? 1 : 0;
            }
        }
    }
}

TEST(llm_retry_budget, saves_up_to_its_most) {
    manual_clock clock;
    budget b{bare(1, 1, 3), clock};
    EXPECT_TRUE(b.try_retry());
    for (int i = 0; i < 50; ++i) b.succeeded();
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(b.try_retry());
    EXPECT_FALSE(b.try_retry());
}

TEST(llm_retry_budget, when_all_fails_the_floor_is_left) {
    manual_clock clock;
    budget b{{.floor = weir::rate{2, 1s}, .floor_burst = 2}, clock};
    std::uint64_t retries = 0;
    for (int i = 0; i < 10'000; ++i) {
        retries += b.try_retry() ? 1U : 0U;
        clock.advance(1ms);
    }
    EXPECT_EQ(retries, 2U + 2U * 10U - 1U);  // the last of them would be due at the very end
}

TEST(llm_retry_budget, refuses_bad_arguments_with_a_reason) {
    EXPECT_TRUE(budget::validate({.retries = 0}));
    EXPECT_TRUE(budget::validate({.successes = 0}));
    EXPECT_TRUE(budget::validate({.max_saved = 0}));
    EXPECT_TRUE(budget::validate({.floor_burst = 0}));
    EXPECT_FALSE(budget::validate({}));
    EXPECT_FALSE(budget::validate({.retries = 1, .successes = 1, .max_saved = 1, .floor_burst = 1}));
    manual_clock clock;
    EXPECT_THROW((budget{{.successes = 0}, clock}), std::invalid_argument);
}

TEST(llm_retry_budget, threads_together_never_exceed_it) {
    manual_clock clock;
    budget b{bare(1, 4, 1'000'000), clock};
    ASSERT_TRUE(b.try_retry());
    constexpr int threads = 4, rounds = 40'000;
    std::atomic<std::uint64_t> retries{0};
    hammer::on_threads(threads, [&] {
        std::uint64_t mine = 0;
        for (int k = 0; k < rounds; ++k) {
            b.succeeded();
            mine += b.try_retry() ? 1U : 0U;
        }
        retries += mine;
    });
    while (b.try_retry()) ++retries;
    EXPECT_EQ(retries.load(), std::uint64_t{threads} * rounds / 4);
}

TEST(llm_retry_budget, works_with_plain_cells_and_its_own_clock) {
    retry_budget<std::chrono::steady_clock, weir::unsynchronized> b{{.retries = 1, .successes = 1}};
    b.succeeded();
    EXPECT_TRUE(b.try_retry());
    retry_budget const deduced{retry_budget_options{}};
    EXPECT_EQ(deduced.available(), 10U);
}

TEST(llm_retry_budget, has_these_defaults) {
    constexpr weir::retry_budget_options o;
    static_assert(o.retries == 1 && o.successes == 5 && o.max_saved == 100 && o.floor_burst == 10);
}

}  // namespace retry_budget_test
