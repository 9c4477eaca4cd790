// SPDX-License-Identifier: MIT
#include <weir/sliding_window_counter.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include <weir/clock/manual_clock.hpp>

#include "support/move_semantics.hpp"

namespace sliding_window_counter_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::counter_options;
using weir::manual_clock;
using weir::permits;

using counter = weir::sliding_window_counter<manual_clock&>;
using time_point = manual_clock::time_point;

time_point at(std::int64_t ns) { return time_point{nanoseconds{ns}}; }

static_assert(weir::limiter<counter>);
static_assert(weir::limiter<weir::sliding_window_counter<>>);
static_assert(weir::decision<counter::decision>);
static_assert(!std::is_copy_constructible_v<counter> && !std::is_move_constructible_v<counter>);
static_assert(!std::is_copy_constructible_v<counter::decision> &&
              std::is_nothrow_move_constructible_v<counter::decision>);
static_assert(alignof(counter) == weir::detail::cache_line);

// ---- granting and denying ----

TEST(sliding_window_counter, grants_the_limit_and_denies_one_more) {
    manual_clock clock;
    counter c{10, 1s, clock};
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(c.try_acquire());
    auto d = c.try_acquire();
    EXPECT_FALSE(d);
    EXPECT_FALSE(d.never());
    EXPECT_EQ(c.available(), 0U);
    EXPECT_EQ(c.used(), 10U);
}

TEST(sliding_window_counter, a_permit_counts_until_its_segment_is_a_whole_window_old) {
    manual_clock clock;
    counter c{1, 1s, counter_options{.segments = 4}, clock};
    ASSERT_TRUE(c.try_acquire(1, at(0) + 100ms));
    auto d = c.try_acquire(1, at(0) + 200ms);
    EXPECT_EQ(d.retry_at(), at(0) + 1250ms);
    EXPECT_EQ(d.retry_after(), 1050ms);
    EXPECT_FALSE(c.try_acquire(1, at(0) + 1250ms - 1ns));
    EXPECT_TRUE(c.try_acquire(1, at(0) + 1250ms));
}

TEST(sliding_window_counter, a_denial_charges_nothing) {
    manual_clock clock;
    counter c{10, 1s, clock};
    ASSERT_TRUE(c.try_acquire(7));
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(c.try_acquire(4));
    EXPECT_EQ(c.available(), 3U);
    EXPECT_TRUE(c.try_acquire(3));
}

TEST(sliding_window_counter, check_answers_as_try_acquire_would_and_charges_nothing) {
    manual_clock clock;
    counter c{10, 1s, clock};
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(c.check(10));
    EXPECT_EQ(c.available(), 10U);
    auto d = c.check(10);
    EXPECT_EQ(c.refund(d), 0U);
    EXPECT_TRUE(c.try_acquire(4));
    EXPECT_FALSE(c.check(7));
    EXPECT_TRUE(c.check(6));
    EXPECT_TRUE(c.check(11).never());
    EXPECT_TRUE(c.check(at(5)));
}

TEST(sliding_window_counter, zero_permits_are_granted_and_take_nothing) {
    manual_clock clock;
    counter c{1, 1s, clock};
    EXPECT_TRUE(c.try_acquire(0));
    EXPECT_EQ(c.available(), 1U);
    c.restore(100, at(0));
    auto d = c.try_acquire(0);
    EXPECT_TRUE(d);
    EXPECT_EQ(d.live(), 0U);
    EXPECT_EQ(c.refund(d), 0U);
    EXPECT_TRUE(c.check(0));
    EXPECT_EQ(c.used(), 100U);
}

TEST(sliding_window_counter, more_than_the_limit_is_never_granted) {
    manual_clock clock;
    counter c{10, 1s, clock};
    for (permits n : {permits{11}, permits{1} << 40U, permits{1} << 63U, std::numeric_limits<permits>::max()}) {
        auto d = c.try_acquire(n);
        EXPECT_FALSE(d);
        EXPECT_TRUE(d.never());
        EXPECT_EQ(d.retry_at(), time_point::max());
        EXPECT_EQ(d.retry_after(), std::chrono::duration_cast<nanoseconds>(std::chrono::seconds{946'728'000}));
    }
    EXPECT_EQ(c.available(), 10U);
}

TEST(sliding_window_counter, asks_for_one_permit_where_none_is_named) {
    manual_clock clock;
    counter l{1, 1s, clock};
    EXPECT_TRUE(l.check());
    EXPECT_FALSE(l.check(2));
    EXPECT_TRUE(l.try_acquire());
    EXPECT_FALSE(l.check());
}

TEST(sliding_window_counter, an_idle_gap_of_any_length_is_one_step) {
    manual_clock clock;
    counter c{5, 1s, counter_options{.segments = 10}, clock};
    std::int64_t t = 0;
    for (std::int64_t gap : {900'000'000LL, 1'000'000'000LL, 1'100'000'000LL, 1'600'000'000LL, 10'000'000'000LL,
                             86'400'000'000'000LL, 31'557'600'000'000'000LL}) {
        ASSERT_TRUE(c.try_acquire(5, at(t)));
        ASSERT_FALSE(c.try_acquire(1, at(t)));
        t += gap;
        EXPECT_EQ(c.try_acquire(1, at(t)).granted(), gap >= 1'100'000'000LL) << gap;
        EXPECT_EQ(c.available(at(t)), gap >= 1'100'000'000LL ? 4U : 0U);
        t += 2'000'000'000LL;
    }
}

TEST(sliding_window_counter, works_for_thirty_years_and_only_denies_after_its_last_segment) {
    manual_clock clock;
    counter c{5, 1s, clock};
    auto const years = at(0) + std::chrono::hours{30 * 8766};
    EXPECT_TRUE(c.try_acquire(5, years - 2s));
    EXPECT_EQ(c.try_acquire(1, years - 2s).retry_at(), years - 2s + 1008ms);
    EXPECT_TRUE(c.try_acquire(5, years));
    EXPECT_TRUE(c.try_acquire(3, time_point::max()));
    EXPECT_TRUE(c.try_acquire(2, time_point::max() - 1s));
    auto d = c.try_acquire(1, time_point::max());
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), time_point::max());
    EXPECT_EQ(c.used(time_point::max()), 5U);
    c.restore(1, time_point::max());
    EXPECT_EQ(c.used(), 6U);
}

TEST(sliding_window_counter, a_time_before_the_start_counts_as_the_start) {
    manual_clock clock{at(1'000'000'000)};
    counter c{2, 1s, clock};
    EXPECT_TRUE(c.try_acquire(1, at(0)));
    EXPECT_TRUE(c.try_acquire(1, time_point::min()));
    auto d = c.try_acquire(1, at(999));
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), at(1'000'000'000) + 1008ms);
}

TEST(sliding_window_counter, an_origin_far_below_zero_is_no_danger) {
    manual_clock clock{time_point::min()};
    counter c{2, 1s, clock};
    EXPECT_TRUE(c.try_acquire(2, time_point::min()));
    EXPECT_FALSE(c.try_acquire(1, time_point::min() + 1s));
    EXPECT_TRUE(c.try_acquire(2, time_point::min() + 2s));
    EXPECT_TRUE(c.try_acquire(2, time_point::max()));
    EXPECT_FALSE(c.try_acquire(1, at(0)));
}

TEST(sliding_window_counter, answers_at_any_time_point_whatever_its_origin) {
    using limits = std::numeric_limits<std::int64_t>;
    for (std::int64_t const origin : {limits::min(), limits::min() + 1, std::int64_t{-1}, std::int64_t{0},
                                      limits::max() - 1'500'000'000, limits::max() - 1, limits::max()}) {
        for (std::int64_t const t : {limits::min(), std::int64_t{-2}, std::int64_t{-1}, std::int64_t{0},
                                     std::int64_t{1}, limits::max() - 1, limits::max()}) {
            manual_clock clock{at(origin)};
            counter c{2, 1s, clock};
            EXPECT_TRUE(c.check(2, at(t)));
            EXPECT_TRUE(c.try_acquire(2, at(t)));
            EXPECT_FALSE(c.try_acquire(1, at(t)));
            EXPECT_EQ(c.available(at(t)), 0U);
        }
    }
}

TEST(sliding_window_counter, a_time_ahead_is_trusted_and_holds_the_others_to_it) {
    manual_clock clock;
    counter c{2, 1s, counter_options{.segments = 10}, clock};
    ASSERT_TRUE(c.try_acquire(2, at(0)));
    EXPECT_TRUE(c.try_acquire(2, at(0) + 5s));
    auto d = c.try_acquire(1, at(0) + 10ms);
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), at(0) + 6100ms);
}

TEST(sliding_window_counter, a_check_or_a_denial_at_a_later_time_changes_nothing) {
    manual_clock clock;
    counter c{10, 60s, clock};
    ASSERT_TRUE(c.try_acquire(10, at(0)));
    EXPECT_TRUE(c.check(10, at(0) + 61s));
    EXPECT_FALSE(c.try_acquire(11, at(0) + 61s));
    EXPECT_FALSE(c.try_acquire(1, at(0) + 30s));
    EXPECT_TRUE(c.try_acquire(0, at(0) + 61s));
    EXPECT_FALSE(c.change({10}, at(0) + 61s));
    EXPECT_FALSE(c.try_acquire(1, at(0) + 2ms)) << "an eleventh within 2 ms of ten";
    EXPECT_TRUE(c.try_acquire(1, at(0) + 61s));
    EXPECT_TRUE(c.try_acquire(9, at(0) + 2ms)) << "its effective time is the start of the segment of 61 s";
    EXPECT_FALSE(c.try_acquire(1, at(0) + 2ms));
}

TEST(sliding_window_counter, looking_advances_nothing) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    auto const first = c.try_acquire(10, at(0));
    EXPECT_EQ(c.used(at(0) + 1s), 10U);
    EXPECT_EQ(c.used(at(0) + 1100ms), 0U);
    EXPECT_EQ(c.available(at(0) + 20s), 10U);
    EXPECT_EQ(first.full_at(), at(0) + 1100ms);
    EXPECT_FALSE(c.try_acquire(1, at(0) + 50ms));
    EXPECT_EQ(c.used(at(0) + 50ms), 10U);
}

TEST(sliding_window_counter, starts_with_what_it_is_told) {
    manual_clock clock;
    counter full{10, 1s, counter_options{.segments = 10, .initial = weir::all_permits}, clock};
    EXPECT_EQ(full.available(), 10U);
    counter empty{10, 1s, counter_options{.segments = 10, .initial = 0}, clock};
    EXPECT_EQ(empty.available(), 0U);
    auto d = empty.try_acquire(10);
    EXPECT_EQ(d.retry_at(), at(0) + 1s);
    EXPECT_FALSE(empty.try_acquire(1, at(0) + 1s - 1ns));
    EXPECT_TRUE(empty.try_acquire(10, at(0) + 1s));
    counter part{10, 1s, counter_options{.initial = 3}, clock};
    EXPECT_FALSE(part.try_acquire(4));
    EXPECT_TRUE(part.try_acquire(3));
    counter more{10, 1s, counter_options{.initial = 30}, clock};
    EXPECT_EQ(more.available(), 10U);
}

// ---- decisions are snapshots ----

TEST(sliding_window_counter, a_denial_does_not_change_when_the_counter_does) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    ASSERT_TRUE(c.try_acquire(4, at(0)));
    auto now = c.try_acquire(4, at(0) + 300ms);
    auto const d = c.try_acquire(5, at(0) + 300ms);
    auto const later = c.try_acquire(9, at(0) + 400ms);  // of a segment that is not open
    auto const never = c.check(11, at(0) + 300ms);
    auto const check = [&] {
        EXPECT_EQ(d.retry_at(), at(0) + 1100ms);
        EXPECT_EQ(d.retry_after(), 800ms);
        EXPECT_EQ(d.remaining(), 2U);
        EXPECT_EQ(d.full_at(), at(0) + 1400ms);
        EXPECT_FALSE(d.never());
        EXPECT_EQ(later.retry_at(), at(0) + 1400ms);
        EXPECT_EQ(later.remaining(), 2U);
        EXPECT_EQ(later.full_at(), at(0) + 1400ms);
        EXPECT_TRUE(never.never());
        EXPECT_EQ(never.retry_at(), time_point::max());
    };
    check();
    ASSERT_TRUE(c.try_acquire(2, at(0) + 300ms));
    check();
    EXPECT_EQ(c.refund(now), 4U);
    check();
    ASSERT_FALSE(c.change({3}, at(0) + 300ms));
    check();
    ASSERT_FALSE(c.change({100}, at(0) + 310ms));
    check();
    ASSERT_TRUE(c.try_acquire(9, at(0) + 500ms));
    check();
}

TEST(sliding_window_counter, a_grant_does_not_change_when_the_counter_does) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    auto d = c.try_acquire(4, at(0) + 250ms);
    auto const nothing = c.try_acquire(0, at(0) + 250ms);
    auto const looked = c.check(1, at(0) + 250ms);
    auto const check = [&] {
        EXPECT_EQ(d.retry_at(), at(0) + 250ms);
        EXPECT_EQ(d.effective_at(), at(0) + 250ms);
        for (auto const* x : {&std::as_const(d), &nothing, &looked}) {
            EXPECT_EQ(x->remaining(), 6U);
            EXPECT_EQ(x->full_at(), at(0) + 1300ms);
            EXPECT_FALSE(x->never());
        }
    };
    check();
    ASSERT_TRUE(c.try_acquire(5, at(0) + 300ms));
    check();
    EXPECT_EQ(c.refund(d, 1), 1U);
    check();
    ASSERT_FALSE(c.change({20}, at(0) + 400ms));
    check();
}

TEST(sliding_window_counter, a_grant_whose_time_went_back_counts_from_the_open_segment) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    ASSERT_TRUE(c.try_acquire(1, at(0) + 520ms));
    auto const d = c.try_acquire(1, at(0) + 30ms);
    EXPECT_EQ(d.at(), at(0) + 30ms);
    EXPECT_EQ(d.effective_at(), at(0) + 500ms);
    EXPECT_EQ(c.check(11, at(0) + 30ms).effective_at(), at(0) + 30ms);
}

TEST(sliding_window_counter, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    weir::sliding_window_counter<manual_clock&> c{3, 1s, clock};
    moved::is_the_same_decision(c, clock, 1ms, [&](weir::permits n) { return c.try_acquire(n); });
}

// ---- refunds ----

TEST(sliding_window_counter, a_refund_in_the_open_segment_is_available_at_once) {
    manual_clock clock;
    counter c{10, 1s, clock};
    auto d = c.try_acquire(10);
    EXPECT_EQ(c.refund(d), 10U);
    EXPECT_EQ(c.available(), 10U);
    EXPECT_TRUE(c.try_acquire(10));
}

TEST(sliding_window_counter, a_second_refund_does_nothing) {
    manual_clock clock;
    counter c{10, 1s, clock};
    auto a = c.try_acquire(4);
    auto b = c.try_acquire(6);
    EXPECT_EQ(c.refund(a), 4U);
    EXPECT_EQ(c.refund(a), 0U);
    EXPECT_EQ(c.available(), 4U);
    auto moved = std::move(b);
    EXPECT_EQ(c.refund(b), 0U);  // NOLINT(bugprone-use-after-move): that is the point
    EXPECT_EQ(c.refund(moved), 6U);
    EXPECT_EQ(c.refund(moved), 0U);
    EXPECT_EQ(c.used(), 0U);
}

TEST(sliding_window_counter, a_part_is_refunded_once_a_permit) {
    manual_clock clock;
    counter c{10, 1s, clock};
    auto d = c.try_acquire(10);
    EXPECT_EQ(c.refund(d, 3), 3U);
    EXPECT_EQ(d.live(), 7U);
    EXPECT_EQ(c.refund(d, 0), 0U);
    EXPECT_EQ(c.refund(d, -1), 0U);
    EXPECT_EQ(c.refund(d, 100), 7U);
    EXPECT_EQ(c.refund(d, 1), 0U);
    EXPECT_EQ(c.used(), 0U);
}

TEST(sliding_window_counter, a_denial_refunds_nothing_and_a_stranger_refunds_nothing) {
    manual_clock clock;
    counter c{10, 1s, clock};
    counter other{10, 1s, clock};
    auto d = c.try_acquire(10);
    auto denied = c.try_acquire(1);
    ASSERT_TRUE(other.try_acquire(10));
    EXPECT_EQ(c.refund(denied), 0U);
    EXPECT_EQ(other.refund(d), 0U);
    EXPECT_EQ(other.used(), 10U);
    EXPECT_EQ(c.refund(d), 10U);
}

TEST(sliding_window_counter, a_refund_of_a_past_segment_comes_with_the_next_one) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    auto d = c.try_acquire(9, at(0));
    ASSERT_TRUE(c.try_acquire(1, at(0) + 100ms));
    EXPECT_EQ(c.refund(d), 9U);
    EXPECT_FALSE(c.try_acquire(1, at(0) + 150ms));
    auto denied = c.try_acquire(9, at(0) + 199ms);
    EXPECT_EQ(denied.retry_at(), at(0) + 200ms);
    EXPECT_FALSE(c.check(9, at(0) + 200ms - 1ns));
    EXPECT_TRUE(c.try_acquire(9, at(0) + 200ms));
}

// ---- settling ----

TEST(sliding_window_counter, settle_gives_back_what_was_not_used_or_charges_more) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    auto less = c.try_acquire(4, at(0));
    auto more = c.try_acquire(4, at(0));
    EXPECT_FALSE(c.settle(less, -1, at(0)));
    EXPECT_TRUE(c.settle(less, 1, at(0)));
    EXPECT_FALSE(c.settle(less, 1, at(0)));
    EXPECT_EQ(c.refund(less), 0U);
    EXPECT_EQ(c.used(at(0)), 5U);
    EXPECT_TRUE(c.settle(more, 20, at(0) + 300ms));
    EXPECT_EQ(c.used(at(0) + 300ms), 21U);
    EXPECT_EQ(c.available(at(0) + 300ms), 0U);
    EXPECT_FALSE(c.try_acquire(1, at(0) + 1300ms)) << "sixteen of them were charged at 300 ms";
    EXPECT_TRUE(c.try_acquire(1, at(0) + 1400ms));
    auto denied = c.try_acquire(10, at(0) + 1400ms);
    EXPECT_FALSE(c.settle(denied, 0, at(0) + 1400ms));
}

// ---- a change of the limit ----

TEST(sliding_window_counter, a_change_of_the_limit_keeps_what_was_taken) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    ASSERT_TRUE(c.try_acquire(8, at(0)));
    EXPECT_FALSE(c.change({20}, at(0)));
    EXPECT_EQ(c.limit(), 20U);
    EXPECT_EQ(c.available(at(0)), 12U);
    EXPECT_TRUE(c.try_acquire(12, at(0) + 100ms));
    EXPECT_FALSE(c.change({5}, at(0) + 150ms));
    EXPECT_EQ(c.available(at(0) + 150ms), 0U);
    EXPECT_TRUE(c.try_acquire(6, at(0) + 150ms).never());
    auto d = c.try_acquire(5, at(0) + 150ms);
    EXPECT_EQ(d.retry_at(), at(0) + 1200ms);
    EXPECT_TRUE(c.try_acquire(5, at(0) + 1200ms));
    EXPECT_FALSE(c.try_acquire(1, at(0) + 1200ms));
}

TEST(sliding_window_counter, a_limit_that_does_not_fit_is_refused) {
    manual_clock clock;
    counter c{10, 1s, clock};
    EXPECT_TRUE(c.change({0}));
    EXPECT_TRUE(c.change({c.max_limit() + 1}));
    EXPECT_TRUE(c.change({std::numeric_limits<permits>::max()}));
    EXPECT_EQ(c.limit(), 10U);
    EXPECT_FALSE(c.change({c.max_limit()}));
    EXPECT_EQ(c.available(), c.max_limit());
    EXPECT_TRUE(c.try_acquire(c.max_limit()));
    EXPECT_FALSE(c.try_acquire(1));
}

TEST(sliding_window_counter, seven_changes_fit_a_segment_and_the_eighth_is_told_to_ask_again) {
    manual_clock clock;
    counter c{100, 1s, counter_options{.segments = 10}, clock};
    permits limit = 100;
    for (int segment = 0; segment < 30; ++segment) {
        auto const t = at(0) + segment * 100ms;
        for (int i = 0; i < 7; ++i) {
            ASSERT_FALSE(c.change({++limit}, t));
            ASSERT_EQ(c.limit(), limit);
            ASSERT_TRUE(c.check(limit, t));
            ASSERT_FALSE(c.check(limit + 1, t));
        }
        auto const e = c.change({limit + 1}, t);
        ASSERT_EQ(e.code(), weir::errc::busy);
        ASSERT_EQ(c.limit(), limit);
    }
}

// ---- saved stamps ----

TEST(sliding_window_counter, restored_stamps_count_as_if_taken_then) {
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 random{seed};
        std::int64_t const now = 50'000'123;
        manual_clock clock{at(now)};
        counter c{1000, 1ms, counter_options{.segments = 10}, clock};
        std::vector<std::pair<std::int64_t, permits>> stamps;
        for (int i = 0; i < 40; ++i) {
            stamps.emplace_back(now + 200'000 - static_cast<std::int64_t>(random() % 1'700'000), 1 + random() % 20);
            c.restore(stamps.back().second, at(stamps.back().first));
        }
        for (std::int64_t t = now + 200'000; t < now + 2'000'000; t += 7'001) {
            permits in_window = 0;
            permits in_longer = 0;
            for (auto const& [stamp, n] : stamps) {
                if (stamp > t - 1'000'000) in_window += n;
                if (stamp > t - 1'100'000) in_longer += n;
            }
            ASSERT_GE(c.used(at(t)), in_window);
            ASSERT_LE(c.used(at(t)), in_longer);
            ASSERT_EQ(c.check(1000 - c.used(at(t)), at(t)).granted(), true);
            ASSERT_EQ(c.check(1001 - c.used(at(t)), at(t)).granted(), false);
        }
    }
}

TEST(sliding_window_counter, restored_stamps_that_are_out_of_the_window_are_ignored) {
    manual_clock clock{at(0) + 10s};
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    c.restore(5, at(0) + 9s - 1ns);
    EXPECT_EQ(c.used(), 0U);
    c.restore(5, time_point::min());
    EXPECT_EQ(c.used(), 0U);
    c.restore(5, at(0) + 9s);
    EXPECT_EQ(c.used(), 5U);
    EXPECT_EQ(c.used(at(0) + 10s + 100ms), 0U);
    c.restore(3, at(0) + 10s);
    EXPECT_EQ(c.used(), 8U);
    EXPECT_TRUE(c.try_acquire(2));
    EXPECT_FALSE(c.try_acquire(1));
}

// ---- construction ----

TEST(sliding_window_counter, refuses_what_it_cannot_keep) {
    using weir::sliding_window_counter;
    EXPECT_TRUE(counter::validate(0, 1s));
    EXPECT_TRUE(counter::validate(1, 0s));
    EXPECT_TRUE(counter::validate(1, -1s));
    EXPECT_TRUE(counter::validate(1, 1s, {.segments = 0}));
    EXPECT_TRUE(counter::validate(1, 1h, {.segments = 65'537}));
    EXPECT_FALSE(counter::validate(1, 1h, {.segments = 65'536}));
    EXPECT_TRUE(counter::validate(1, nanoseconds::max()));
    EXPECT_TRUE(counter::validate(1, 100ns));
    EXPECT_TRUE(counter::validate(std::numeric_limits<permits>::max(), 1s));
    EXPECT_FALSE(counter::validate(4'194'303, 1s));
    EXPECT_TRUE(counter::validate(4'194'304, 1s));
    static_assert(!counter::validate(1'000'000, 60s));
    manual_clock clock;
    EXPECT_FALSE(counter::make(0, 1s, {}, clock));
    EXPECT_NE(counter::make(0, 1s, {}, clock).error(), weir::errc::none);
    auto made = counter::make(3, 1s, {}, clock);
    ASSERT_TRUE(made);
    EXPECT_TRUE((*made).try_acquire(3));
#if defined(__cpp_exceptions)
    EXPECT_THROW((counter{0, 1s, clock}), std::invalid_argument);
    EXPECT_THROW((counter{1, 0s, clock}), std::invalid_argument);
    EXPECT_THROW((counter{1, 1s, counter_options{.segments = 0}, clock}), std::invalid_argument);
#endif
}

struct slow_clock {
    using duration = nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<slow_clock>;
    time_point now() const { return {}; }
    duration resolution() const { return step; }
    duration step;
};

TEST(sliding_window_counter, a_coarse_clock_gets_longer_segments_and_one_too_coarse_is_refused) {
    weir::sliding_window_counter fine{10, 1s, slow_clock{8ms}};
    EXPECT_EQ(fine.segments(), 125U);
    weir::sliding_window_counter coarse{10, 1s, slow_clock{10ms}};
    EXPECT_EQ(coarse.segments(), 100U);
    EXPECT_EQ(coarse.segment_length(), 10ms);
    EXPECT_FALSE(decltype(fine)::make(10, 1s, {}, slow_clock{101ms}));
    EXPECT_TRUE(decltype(fine)::make(10, 1s, {.segments = 5}, slow_clock{101ms}));
    EXPECT_TRUE(decltype(fine)::make(10, 1s, {.segments = 20}, slow_clock{100ms}));
    EXPECT_FALSE(decltype(fine)::make(10, 1s, {.segments = 20}, slow_clock{100ms + 1ns}));
}

TEST(sliding_window_counter, is_deduced_from_what_it_is_given) {
    manual_clock clock;
    weir::sliding_window_counter a{1'000'000, 60s};
    weir::sliding_window_counter b{10, 1s, counter_options{.segments = 250}};
    weir::sliding_window_counter d{10, 1min, std::ref(clock)};
    weir::sliding_window_counter e{10, 1s, counter_options{}, std::ref(clock)};
    weir::sliding_window_counter f{10, 1s, std::chrono::steady_clock{}};
    weir::sliding_window_counter g{10, 1s, counter_options{}, at(17), std::ref(clock)};
    static_assert(std::is_same_v<decltype(a), weir::sliding_window_counter<>>);
    static_assert(std::is_same_v<decltype(b), weir::sliding_window_counter<>>);
    static_assert(std::is_same_v<decltype(d), counter> && std::is_same_v<decltype(e), counter> &&
                  std::is_same_v<decltype(g), counter>);
    static_assert(std::is_same_v<decltype(f), weir::sliding_window_counter<>>);
    EXPECT_TRUE(a.try_acquire(1'000'000));
    EXPECT_FALSE(a.try_acquire());
    EXPECT_TRUE(b.try_acquire());
    EXPECT_EQ(b.segments(), 250U);
    EXPECT_EQ(d.window(), 1min);
    EXPECT_EQ(&d.clock(), &clock);
    EXPECT_EQ(g.try_acquire(11, at(0)).retry_at(), time_point::max());
    ASSERT_TRUE(g.try_acquire(10, at(0)));
    EXPECT_EQ(g.try_acquire(1, at(0)).retry_at(), at(17) + 1008ms);
}

}  // namespace sliding_window_counter_test
