// SPDX-License-Identifier: MIT
// The protocol of a counter, which quota_limiter uses too: attempts in one step, in two, and with a shared limit;
// overruns, visible refunds, and the first fit.
#include <weir/detail/window_counter.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>

#include "../support/window.hpp"

namespace window_counter_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::permits;

using window = support::window_of<>;
using receipt = window::receipt;
using usage = window::usage;

std::int64_t at(nanoseconds t) { return t.count(); }
constexpr std::int64_t end_of_time = std::numeric_limits<std::int64_t>::max();

// ---- in two steps ----

TEST(window_counter, a_commit_grants_what_was_prepared) {
    window c{10, 1s, 10};
    receipt r;
    for (int i = 0; i < 5; ++i) {
        EXPECT_TRUE(c.take_in_two_steps(2, at(i * 100ms), r));
        EXPECT_EQ(r.live(), 2U);
    }
    EXPECT_FALSE(c.take_in_two_steps(1, at(500ms), r));
    EXPECT_EQ(c.used(at(500ms)), 10U);
    EXPECT_TRUE(c.take_in_two_steps(2, at(1100ms), r)) << "the first two have aged out";
    EXPECT_FALSE(c.take_in_two_steps(1, at(1100ms), r));
}

TEST(window_counter, preparing_changes_nothing) {
    window c{10, 1s, 10};
    ASSERT_TRUE(c.take(10, 0));
    window::forecast f;
    EXPECT_TRUE(c.prepare(10, at(5s), f).is_later());
    EXPECT_FALSE(c.prepare(1, 0, f).granted());
    EXPECT_FALSE(c.take(1, 0));
}

TEST(window_counter, a_commit_of_an_old_preparation_is_a_new_attempt) {
    window c{10, 1s, 10};
    ASSERT_TRUE(c.take(1, 0));
    window::forecast soon;
    window::forecast later;
    auto const p = c.prepare(4, 0, soon);
    auto const q = c.prepare(4, at(300ms), later);
    ASSERT_TRUE(p.granted() && !p.is_later() && q.is_later());
    ASSERT_TRUE(c.take(5, 0));
    receipt r;
    EXPECT_TRUE(c.commit(q, later, 4, at(300ms), r));
    EXPECT_EQ(c.used(at(300ms)), 10U);
    EXPECT_FALSE(c.commit(p, soon, 4, 0, r));
    EXPECT_EQ(c.used(at(300ms)), 10U);
}

// ---- visible refunds ----

TEST(window_counter, a_visible_refund_is_seen_at_once_and_subtracted_once) {
    window c{10, 1s, 10};
    receipt a;
    receipt b;
    ASSERT_TRUE(c.take(4, 0, a) && c.take(5, 0, b));
    ASSERT_TRUE(c.take(1, at(100ms)));
    EXPECT_EQ(c.refund_visible(a), 4U);
    EXPECT_EQ(c.refund_visible(a), 0U);
    EXPECT_EQ(c.used(at(100ms)), 6U);
    EXPECT_EQ(c.first_fit(6, at(100ms)), at(100ms));
    EXPECT_EQ(c.used(at(200ms)), 6U);
    ASSERT_TRUE(c.take(1, at(200ms)));
    EXPECT_EQ(c.used(at(200ms)), 7U);
    EXPECT_EQ(c.refund_visible(b, 2), 2U);
    EXPECT_EQ(c.refund_visible(b), 3U);
    EXPECT_EQ(c.used(at(200ms)), 2U);
}

TEST(window_counter, a_refund_of_permits_that_aged_out_frees_no_others) {
    window c{10, 1s, 7};  // a ring of 8: the ninth segment takes the place of the first
    auto const length = static_cast<std::int64_t>(c.scale().length());
    receipt old;
    ASSERT_TRUE(c.take(10, 0, old));
    ASSERT_TRUE(c.take(10, 8 * length));
    c.advance_to(9 * length);  // publishes the ninth
    EXPECT_EQ(c.refund(old), 0U);
    EXPECT_EQ(c.used(9 * length), 10U);
    EXPECT_FALSE(c.take(1, 10 * length));
}

// ---- the first fit ----

TEST(window_counter, first_fit_is_the_first_segment_at_which_the_sum_is_within_the_budget) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 random{seed};
        window c{100, 10us, 10};
        std::int64_t t = 0;
        for (int i = 0; i < 30; ++i) {
            t += static_cast<std::int64_t>(random() % 900);
            (void)c.force_acquire(random() % 8, t);
        }
        auto const head = c.head();
        for (std::int64_t ahead : {std::int64_t{0}, std::int64_t{700}, std::int64_t{4'000}, std::int64_t{20'000}}) {
            std::int64_t const from = t + ahead;
            for (permits budget : {permits{0}, permits{1}, permits{10}, permits{30}, permits{60}, permits{1000}}) {
                auto const fit = c.first_fit(budget, from);
                ASSERT_EQ(c.first_fit_after(head, budget, from), fit);
                ASSERT_EQ(c.used_after(head, fit), c.used(fit));
                ASSERT_GE(fit, from);
                ASSERT_LE(c.used(fit), budget);
                if (fit > from) {
                    ASSERT_GT(c.used(fit - 1), budget);
                    ASSERT_EQ(fit % 1000, 0);
                }
            }
        }
    }
}

TEST(window_counter, looking_back_sees_nothing_that_came_later) {
    window c{10, 1s, 10};
    receipt r;
    ASSERT_TRUE(c.take(3, 0) && c.take(4, at(100ms), r));
    auto const head = c.head();
    ASSERT_FALSE(c.change_limit(20, at(100ms)));
    ASSERT_TRUE(c.take(9, at(100ms)));
    EXPECT_EQ(c.refund(r), 4U);
    ASSERT_TRUE(c.take(5, at(300ms)));
    EXPECT_EQ(c.limit_after(head), 10U);
    EXPECT_EQ(c.used_after(head, at(100ms)), 7U);
    EXPECT_EQ(c.used_after(head, at(1050ms)), 7U);
    EXPECT_EQ(c.used_after(head, at(1100ms)), 4U);
    EXPECT_EQ(c.first_fit_after(head, 7, at(100ms)), at(100ms));
    EXPECT_EQ(c.first_fit_after(head, 4, at(100ms)), at(1100ms));
    EXPECT_EQ(c.first_fit_after(head, 0, at(100ms)), at(1200ms));
    EXPECT_EQ(c.first_fit_after(head, 0, at(90s)), at(90s));
    EXPECT_EQ(c.first_fit_after(head, 0, end_of_time), end_of_time);
}

// ---- overruns ----

TEST(window_counter, a_forced_charge_is_always_counted_and_blocks_until_it_has_aged_out) {
    window c{10, 1s, 10};
    ASSERT_TRUE(c.take(8, 0));
    (void)c.force_acquire(2, at(300ms));
    EXPECT_EQ(c.available(at(300ms)), 0U);
    (void)c.force_acquire(25, at(300ms));
    EXPECT_EQ(c.used(at(300ms)), 35U);
    EXPECT_EQ(c.available(at(300ms)), 0U);
    EXPECT_EQ(c.first_fit(9, at(300ms)), at(1400ms));
    EXPECT_FALSE(c.check(1, at(1400ms - 1ns)).granted);
    EXPECT_TRUE(c.check(1, at(1400ms)).granted);
}

TEST(window_counter, a_forced_charge_after_an_idle_time_counts_in_the_segment_of_now) {
    window c{10, 1s, 10};
    ASSERT_TRUE(c.take(1, 0));
    (void)c.force_acquire(30, at(900ms));
    EXPECT_FALSE(c.take(1, at(1s)));
    EXPECT_EQ(c.first_fit(9, at(1s)), at(2s));
}

TEST(window_counter, an_overrun_can_be_refunded_exactly) {
    window c{10, 1s};
    auto charge = c.force_acquire(25, 0);
    EXPECT_EQ(charge.live(), 25U);
    EXPECT_EQ(c.refund(charge, 20), 20U);
    EXPECT_EQ(c.used(0), 5U);
    EXPECT_TRUE(c.take(5, 0));
}

TEST(window_counter, a_saturated_count_sticks_until_its_segment_ages_out) {
    window c{10, 1s, 10};
    receipt before;
    ASSERT_TRUE(c.take(3, 0, before));
    EXPECT_EQ(c.force_acquire(std::numeric_limits<permits>::max(), 0).live(), 0U);
    EXPECT_GT(c.used(0), 1'000'000U);
    EXPECT_EQ(c.refund(before), 0U);
    EXPECT_EQ(c.force_acquire(1, 0).live(), 0U);
    permits const stuck = c.used(0);
    for (int i = 1; i < 10; ++i) {
        EXPECT_EQ(c.force_acquire(std::numeric_limits<permits>::max(), at(i * 100ms)).live(), 0U);
    }
    EXPECT_GE(c.used(at(900ms)), stuck);
    EXPECT_EQ(c.available(at(1s)), 0U);
    EXPECT_EQ(c.first_fit(9, at(900ms)), at(2s));
    EXPECT_FALSE(c.take(1, at(2s - 1ns)));
    EXPECT_TRUE(c.take(10, at(2s)));
}

// ---- larger than the limit ----

TEST(window_counter, alone_admits_more_than_the_limit_to_an_empty_window_and_takes_it_whole) {
    window c{10, 1s, 10};
    receipt d;
    EXPECT_TRUE(c.prepare_alone(1000, 0, {}).granted());
    EXPECT_FALSE(c.prepare_alone(1000, 0, usage{1, 0}).granted());
    EXPECT_TRUE(c.take<true>(1000, 0, d));
    EXPECT_EQ(d.live(), 1000U);
    EXPECT_EQ(c.used(0), 1000U);
    EXPECT_FALSE(c.take<true>(1000, at(200ms)));
    EXPECT_FALSE(c.prepare_alone(1000, at(1100ms - 1ns), {}).granted());
    EXPECT_TRUE(c.prepare_alone(1000, at(1100ms), {}).granted());
    EXPECT_TRUE(c.take(1, at(1100ms)));
    EXPECT_FALSE(c.take<true>(11, at(1100ms)));
    EXPECT_TRUE(c.take<true>(9, at(1100ms)));
    EXPECT_EQ(c.refund(d), 1000U);
}

TEST(window_counter, alone_counts_in_full_when_the_limit_rises) {
    window c{2'000, 1s};
    ASSERT_TRUE(c.take<true>(3'500, 0));
    ASSERT_FALSE(c.change_limit(5'000, 0));
    EXPECT_FALSE(c.take(1'501, 0));
    EXPECT_TRUE(c.take(1'500, 0));
}

TEST(window_counter, alone_within_the_limit_is_an_attempt_as_any) {
    window c{10, 1s};
    EXPECT_TRUE(c.take<true>(6, 0));
    EXPECT_FALSE(c.take<true>(5, 0));
    EXPECT_TRUE(c.take<true>(4, 0));
    EXPECT_TRUE(c.take<true>(0, 0));
    (void)c.force_acquire(5, 0);
    EXPECT_TRUE(c.take<true>(0, 0));
    EXPECT_FALSE(c.take<true>(1, 0));
    window empty{10, 1s};
    EXPECT_FALSE(empty.take<true>(weir::permit_count::invalid_value, 0));
    EXPECT_FALSE(empty.take<true>(weir::permit_count::invalid_value, at(5s)));
}

// ---- a shared limit ----

TEST(window_counter, a_shared_attempt_counts_what_the_others_hold) {
    window c{10, 1s};
    constexpr permits most = std::numeric_limits<permits>::max();
    ASSERT_TRUE(c.take(3, 0));
    EXPECT_TRUE(c.check_shared(2, 0, [] { return usage{5}; }));
    EXPECT_FALSE(c.check_shared(3, 0, [] { return usage{5}; }));
    EXPECT_FALSE(c.take_shared(3, 0, [] { return usage{5}; }));
    EXPECT_FALSE(c.take_shared(1, 0, [] { return usage{most}; }));
    EXPECT_FALSE(c.take_shared(most, 0, [] { return usage{1}; }));
    receipt r;
    EXPECT_TRUE(c.try_acquire_shared(2, 0, [] { return usage{5}; }, r));
    EXPECT_EQ(c.used(0), 5U);
    EXPECT_EQ(c.refund(r), 2U);
    EXPECT_TRUE(c.take_shared(0, 0, [] { return usage{50}; }));
    EXPECT_EQ(c.used(0), 3U);
}

TEST(window_counter, a_shared_attempt_is_taken_back_when_its_second_look_finds_too_much) {
    window c{10, 1s};
    int looks = 0;
    c.advance_to(0);
    EXPECT_FALSE(c.take_shared(2, 0, [&] { return looks++ == 0 ? usage{8} : usage{9}; }));
    EXPECT_EQ(looks, 2);
    EXPECT_EQ(c.used(0), 0U);
}

TEST(window_counter, a_shared_attempt_follows_the_other_counter_to_its_segment) {
    window c{10, 1s, 10};
    window h{10, 1s, 10};
    (void)h.force_acquire(10, 0);
    h.advance_to(at(1100ms));  // the other has moved on, and its ten have aged out
    EXPECT_TRUE(c.take_shared(10, at(50ms), [&] { return h.used_at(at(50ms)); }));
    EXPECT_EQ(c.used_at(0).as_of, at(1100ms));
    // And when it moves on between the two looks, the charge moves with it.
    int looks = 0;
    EXPECT_TRUE(h.take_shared(1, at(1100ms), [&] { return usage{0, at(looks++ == 0 ? 1100ms : 1300ms)}; }));
    EXPECT_GE(looks, 4);
    EXPECT_EQ(h.used_at(0).as_of, at(1300ms));
    EXPECT_EQ(h.used(at(1300ms)), 1U);
    EXPECT_TRUE(h.take_shared(1, 0, [] { return usage{0, end_of_time}; }));
}

}  // namespace window_counter_test
