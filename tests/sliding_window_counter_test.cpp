// SPDX-License-Identifier: MIT
#include <weir/sliding_window_counter.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <weir/clock/manual_clock.hpp>

#include "property/counter_model.hpp"
#include "support/exact_log.hpp"
#include "support/move_semantics.hpp"
#include "support/stress.hpp"

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::counter_options;
using weir::manual_clock;
using weir::permits;

template <class Atomics = weir::std_atomics>
using counter_of = weir::sliding_window_counter<manual_clock&, Atomics>;
using counter = counter_of<>;
using time_point = manual_clock::time_point;

time_point at(std::int64_t ns) { return time_point{nanoseconds{ns}}; }

static_assert(weir::limiter<counter>);
static_assert(weir::limiter<weir::sliding_window_counter<>>);
static_assert(weir::decision<counter::decision>);
static_assert(!std::is_copy_constructible_v<counter> && !std::is_move_constructible_v<counter>);
static_assert(!std::is_copy_constructible_v<counter::decision> &&
              std::is_nothrow_move_constructible_v<counter::decision>);
static_assert(!std::is_copy_constructible_v<counter::receipt> && std::is_nothrow_move_assignable_v<counter::receipt>);
static_assert(alignof(counter) == weir::detail::cache_line);

// ---- the pure parts, in constant expressions ----

constexpr std::uint64_t most_ticks = (std::uint64_t{1} << 63U) - 1;

constexpr bool divides(std::uint64_t d) {
    auto const r = weir::detail::reciprocal::of(d);
    std::uint64_t const last = most_ticks / d * d;  // the greatest multiple
    for (std::uint64_t t :
         {std::uint64_t{0}, std::uint64_t{1}, d - 1, d, d + 1, 2 * d - 1, last - 1, last, most_ticks - 1, most_ticks}) {
        if (t <= most_ticks && r.divide(t) != t / d) return false;
    }
    for (std::uint64_t t = most_ticks; t > 1; t /= 3) {
        std::uint64_t const m = t / d * d;
        if (r.divide(m) != m / d || (m != 0 && r.divide(m - 1) != (m - 1) / d)) return false;
    }
    return true;
}
static_assert(divides(1) && divides(2) && divides(3) && divides(7) && divides(8'000'000) && divides(480'000'000));
static_assert(divides((std::uint64_t{1} << 62U) - 1) && divides(std::uint64_t{1} << 62U) && divides(most_ticks));

using words = weir::detail::counter_words;
constexpr bool words_keep_to_their_bits() {
    words const w{20};
    auto const h = w.open(12345, 5);
    return w.segment(h) == 12345 && w.version(h) == 5 && w.count(h) == 0 && !w.is_closing(h) &&
           w.count(words::charged(h, 7)) == 7 && w.is_closing(w.closing(h)) && w.segment(w.closing(h)) == 12345 &&
           w.version(w.closing(words::charged(h, 9))) == 5 && w.count(w.closing(words::charged(h, 9))) == 9 &&
           w.version(w.with_version(words::charged(h, 9), 2)) == 2 &&
           w.count(w.with_version(words::charged(h, 9), 2)) == 9 && w.agree(words::charged(h, 3), w.cell(12345, 999)) &&
           !w.agree(h, w.cell(12344, 0)) && !w.agree(w.closing(h), w.cell(12345, 0)) && words::next(7) == 0 &&
           words::next(0) == 1;
}
static_assert(words_keep_to_their_bits());
constexpr bool words_saturate() {
    words const w{20};
    auto const full = w.overcharged(w.open(9, 1), std::numeric_limits<permits>::max());
    return w.is_stuck(full) && w.count(full) == w.max_count() && w.segment(full) == 9 && w.version(full) == 1 &&
           w.lowered(full, 1) == full && w.count(w.lowered(w.open(9, 1) + 5, 3)) == 2 &&
           w.count(w.lowered(w.open(9, 1) + 5, 8)) == 0 &&
           w.total(w.cell(9, std::numeric_limits<permits>::max())) == (std::uint64_t{1} << 23U) - 1 &&
           w.segment(w.cell(9, std::numeric_limits<permits>::max())) == 9;
}
static_assert(words_saturate());
constexpr bool ceilings_bound_what_head_may_count() {
    words const w{20};
    auto const h = w.open(9, 3) + 40;
    return w.under(h, w.ceiling(h, 10, 100)) && words::room(h, w.ceiling(h, 10, 100)) == 50 &&
           words::room(h, w.ceiling(h, 60, 100)) == 0 && words::room(h, w.ceiling(h, 600, 100)) == 0 &&
           !w.under(w.closing(h), w.ceiling(h, 10, 100)) && !w.under(w.with_version(h, 4), w.ceiling(h, 10, 100)) &&
           !w.under(w.open(10, 3), w.ceiling(h, 10, 100));
}
static_assert(ceilings_bound_what_head_may_count());

constexpr auto plan_of(permits limit, nanoseconds window, std::uint32_t segments) {
    return weir::detail::window_layout::make(limit, window.count(), segments, 1,
                                             weir::detail::window_layout::horizon<nanoseconds>());
}
// The table at the head of the header.
static_assert(plan_of(1, 1s, 125).count_bits == 23 && plan_of(1, 1s, 125).max_limit() == 4'194'303);
static_assert(plan_of(1, 1s, 1000).count_bits == 20 && plan_of(1, 1s, 1000).max_limit() == 524'287);
static_assert(plan_of(1, 60s, 125).count_bits == 29 && plan_of(1, 60s, 125).max_limit() == 268'435'455);
static_assert(plan_of(1, 60s, 1000).count_bits == 26 && plan_of(1, 60s, 1000).max_limit() == 33'554'431);
static_assert(plan_of(1, 1h, 125).count_bits == 35 && plan_of(1, 1h, 125).max_limit() == 17'179'869'183);
static_assert(plan_of(1, 1s, 125).ring == 128 && plan_of(1, 1s, 125).length == 8'000'000);
static_assert(!plan_of(4'194'303, 1s, 125).problem && plan_of(4'194'304, 1s, 125).problem);
// ceil, and no more segments than the window then needs.
static_assert(plan_of(1, 100ns, 64).problem);  // 2 ns for 30 years leave no bits
static_assert(plan_of(1, 1'000'001ns, 1000).length == 1001 && plan_of(1, 1'000'001ns, 1000).segments == 1000);
static_assert(plan_of(1, 1'500us, 1'000'00).problem);
static_assert(plan_of(1, 1'500'000ns, 1024).length == 1465 && plan_of(1, 1'500'000ns, 1024).segments == 1024);
static_assert(plan_of(1, 10'000ns, 6).length == 1667 && plan_of(1, 10'000ns, 6).segments == 6);
static_assert(plan_of(1, 9'000ns, 7).ring == 8 && plan_of(1, 9'000ns, 8).ring == 16);

// ---- long random schedules, against the property tests' exact counter ----

struct setup {
    permits limit;
    std::int64_t window;
    std::uint32_t segments;
};

void follow(setup const& s, std::uint64_t seed) {
    auto const [limit, window, segments] = s;
    std::mt19937_64 random{seed};
    auto below = [&](std::uint64_t n) { return random() % n; };
    manual_clock clock;
    counter c{limit, nanoseconds{window}, counter_options{.segments = segments}, clock};
    auto const length = c.segment_length().count();
    script::counter_model m{limit, *script::counter_cut::of<nanoseconds>(limit, window, segments), 0, ~permits{0}};
    ASSERT_EQ(c.segments(), m.cut().segments);
    ASSERT_EQ(length, m.cut().length);
    std::deque<std::pair<counter::receipt, script::counter_model::receipt>> receipts;
    std::int64_t now = 0;
    std::uint64_t denials = 0;
    for (int i = 0; i < 2000; ++i) {
        switch (below(12)) {
            case 0: now += static_cast<std::int64_t>(below(static_cast<std::uint64_t>(2 * length))); break;
            case 1: now += static_cast<std::int64_t>(below(static_cast<std::uint64_t>(window))); break;
            case 2:
                if (below(20) == 0) now += static_cast<std::int64_t>(below(static_cast<std::uint64_t>(5 * window)));
                break;
            case 3: now = (now / length + 1) * length - static_cast<std::int64_t>(below(2)); break;
            default: now += static_cast<std::int64_t>(below(static_cast<std::uint64_t>(length / 4 + 1))); break;
        }
        // Some callers read the clock long ago.
        std::int64_t const t =
            below(8) == 0
                ? std::max<std::int64_t>(0, now - static_cast<std::int64_t>(below(static_cast<std::uint64_t>(window))))
                : now;
        if (below(4) == 0 && !receipts.empty()) {
            auto const which = receipts.begin() + static_cast<std::ptrdiff_t>(below(receipts.size()));
            auto& [receipt, taken] = *which;
            permits const k = below(receipt.live() + 1);
            ASSERT_EQ(c.refund(receipt, k), m.refund(taken, k));
            ASSERT_EQ(receipt.live(), taken.live);
            if (receipt.live() == 0) receipts.erase(which);
            continue;
        }
        permits const n = below(6) == 0 ? 1 + below(limit) : 1 + below(limit / 8 + 1);
        ASSERT_EQ(c.used(at(t)), m.used(t));
        bool const fits = m.grants(n, t);
        ASSERT_EQ(c.check(n, at(t)).granted(), fits);
        auto d = c.try_acquire(n, at(t));
        ASSERT_EQ(d.granted(), fits);
        if (d) {
            ASSERT_EQ(d.receipt().live(), n);
            ASSERT_EQ(d.retry_at(), at(t));
            receipts.emplace_back(std::move(d.receipt()), m.take(n, t));
            ASSERT_EQ(c.used(at(t)), m.used(t));
            continue;
        }
        ++denials;
        ASSERT_EQ(c.used(at(t)), m.used(t));
        m.justify_denial(n, t);
        auto const again = d.retry_at();
        ASSERT_EQ(again, at(m.retry(n, t).value()));
        if (below(4) == 0) {
            ASSERT_EQ(d.retry_after(), again - at(t));
            ASSERT_FALSE(c.check(n, again - 1ns));
            ASSERT_TRUE(c.check(n, again));
            now = again.time_since_epoch().count();
        }
    }
    ASSERT_GT(denials, 50U);
}

class random_schedules : public testing::TestWithParam<setup> {};

TEST_P(random_schedules, decide_as_the_exact_counter_and_never_exceed_the_limit_in_any_window) {
    for (std::uint64_t seed = 1; seed <= 40 && !HasFailure(); ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        try {
            follow(GetParam(), seed);
        } catch (script::broken const& b) {
            FAIL() << b.what;
        }
    }
}
INSTANTIATE_TEST_SUITE_P(sliding_window_counter, random_schedules,
                         testing::Values(setup{20, 60'000, 6}, setup{100, 1'000'003, 7}, setup{7, 100'000, 1},
                                         setup{1000, 1'000'000, 125}, setup{3, 8'000'000, 8}, setup{64, 64'000, 64}));

// ---- one promise a test ----

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
    c.charge(100);
    auto d = c.try_acquire(0);
    EXPECT_TRUE(d);
    EXPECT_EQ(d.receipt().live(), 0U);
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
    c.charge(1, time_point::max());
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
    auto r = std::move(d.receipt());
    EXPECT_EQ(c.refund(d), 0U);
    EXPECT_EQ(c.refund(r, 3), 3U);
    EXPECT_EQ(r.live(), 7U);
    EXPECT_EQ(c.refund(r, 0), 0U);
    EXPECT_EQ(c.refund(r, 100), 7U);
    EXPECT_EQ(c.refund(r, 1), 0U);
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

TEST(sliding_window_counter, a_refund_at_once_of_a_past_segment_is_seen_at_once_and_subtracted_once) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    auto a = c.try_acquire(4, at(0));
    auto b = c.try_acquire(5, at(0));
    ASSERT_FALSE(c.try_acquire(2, at(0) + 100ms));
    EXPECT_EQ(c.refund_visible(a.receipt()), 4U);
    EXPECT_EQ(c.refund_visible(a.receipt()), 0U);
    EXPECT_EQ(c.used(at(0) + 100ms), 5U);
    EXPECT_EQ(c.first_fit(5, at(0) + 100ms), at(0) + 100ms);
    ASSERT_TRUE(c.check(5, at(0) + 200ms));
    EXPECT_EQ(c.used(at(0) + 200ms), 5U);
    EXPECT_EQ(c.refund_visible(b.receipt()), 5U);
    EXPECT_EQ(c.used(at(0) + 200ms), 0U);
}

TEST(sliding_window_counter, a_refund_of_permits_that_aged_out_frees_no_others) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 7},
              clock};  // a ring of 8: the ninth segment takes the place of the first
    auto const length = c.segment_length();
    auto old = c.try_acquire(10, at(0));
    ASSERT_TRUE(c.try_acquire(10, at(0) + 8 * length));
    c.advance_to(at(0) + 9 * length);  // publishes the ninth
    EXPECT_EQ(c.refund(old), 0U);
    EXPECT_EQ(c.used(at(0) + 9 * length), 10U);
    EXPECT_FALSE(c.try_acquire(1, at(0) + 10 * length));
}

// ---- retry_at and first_fit ----

TEST(sliding_window_counter, first_fit_is_the_first_segment_at_which_the_sum_is_within_the_budget) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 random{seed};
        manual_clock clock;
        counter c{100, 10us, counter_options{.segments = 10}, clock};
        std::int64_t t = 0;
        for (int i = 0; i < 30; ++i) {
            t += static_cast<std::int64_t>(random() % 900);
            c.charge(random() % 8, at(t));
        }
        for (std::int64_t ahead : {std::int64_t{0}, std::int64_t{700}, std::int64_t{4'000}, std::int64_t{20'000}}) {
            auto const from = at(t + ahead);
            for (permits budget : {permits{0}, permits{1}, permits{10}, permits{30}, permits{60}, permits{1000}}) {
                auto const fit = c.first_fit(budget, from);
                ASSERT_GE(fit, from);
                ASSERT_LE(c.used(fit), budget);
                if (fit > from) {
                    ASSERT_GT(c.used(fit - 1ns), budget);
                    ASSERT_EQ(fit.time_since_epoch().count() % 1000, 0);
                }
            }
        }
    }
}

TEST(sliding_window_counter, looking_advances_nothing) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    ASSERT_TRUE(c.try_acquire(10, at(0)));
    EXPECT_EQ(c.used(at(0) + 1s), 10U);
    EXPECT_EQ(c.used(at(0) + 1100ms), 0U);
    EXPECT_EQ(c.available(at(0) + 20s), 10U);
    EXPECT_EQ(c.first_fit(0, at(0)), at(0) + 1100ms);
    EXPECT_EQ(c.used_as_of(at(0) + 1050ms).as_of, at(0) + 1s);
    auto d = c.try_acquire(1, at(0) + 50ms);
    EXPECT_FALSE(d);
    EXPECT_EQ(c.used(at(0) + 50ms), 10U);
}

TEST(sliding_window_counter, retry_at_sees_a_change_made_after_the_denial) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    auto first = c.try_acquire(5, at(0));
    ASSERT_TRUE(c.try_acquire(5, at(0) + 500ms));
    auto d = c.try_acquire(5, at(0) + 500ms);
    EXPECT_EQ(d.retry_at(), at(0) + 1100ms);
    c.refund(first);
    EXPECT_EQ(d.retry_at(), at(0) + 600ms);
}

// ---- overruns ----

TEST(sliding_window_counter, a_charge_is_always_counted_reported_and_blocks_until_it_has_aged_out) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    ASSERT_TRUE(c.try_acquire(8, at(0)));
    auto a = c.charge(2, at(0) + 300ms);
    EXPECT_EQ(a.debt, 0U);
    auto b = c.charge(25, at(0) + 300ms);
    EXPECT_EQ(b.debt, 25U);
    EXPECT_FALSE(b.saturated);
    EXPECT_EQ(c.used(at(0) + 300ms), 35U);
    EXPECT_EQ(c.available(at(0) + 300ms), 0U);
    auto d = c.try_acquire(1, at(0) + 300ms);
    EXPECT_EQ(d.retry_at(), at(0) + 1400ms);
    EXPECT_FALSE(c.check(1, at(0) + 1400ms - 1ns));
    EXPECT_TRUE(c.check(1, at(0) + 1400ms));
}

TEST(sliding_window_counter, a_charge_after_an_idle_time_counts_in_the_segment_of_now) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    ASSERT_TRUE(c.try_acquire(1, at(0)));
    c.charge(30, at(0) + 900ms);
    EXPECT_EQ(c.try_acquire(1, at(0) + 1s).retry_at(), at(0) + 2s);
}

TEST(sliding_window_counter, an_overrun_can_be_refunded_exactly) {
    manual_clock clock;
    counter c{10, 1s, clock};
    auto charge = c.charge(25);
    EXPECT_EQ(charge.receipt.live(), 25U);
    EXPECT_EQ(c.refund(charge.receipt, 20), 20U);
    EXPECT_EQ(c.used(), 5U);
    EXPECT_TRUE(c.try_acquire(5));
}

TEST(sliding_window_counter, a_saturated_count_sticks_until_its_segment_ages_out) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    auto before = c.try_acquire(3, at(0));
    auto charge = c.charge(std::numeric_limits<permits>::max(), at(0));
    EXPECT_TRUE(charge.saturated);
    EXPECT_EQ(charge.receipt.live(), 0U);
    EXPECT_GT(charge.debt, 1'000'000U);
    EXPECT_EQ(c.refund(before), 0U);
    EXPECT_TRUE(c.charge(1, at(0)).saturated);
    permits const stuck = c.used(at(0));
    for (int i = 1; i < 10; ++i) {
        EXPECT_TRUE(c.charge(std::numeric_limits<permits>::max(), at(0) + i * 100ms).saturated);
    }
    EXPECT_GE(c.used(at(0) + 900ms), stuck);
    EXPECT_EQ(c.available(at(0) + 1s), 0U);
    EXPECT_EQ(c.first_fit(9, at(0) + 900ms), at(0) + 2s);
    EXPECT_FALSE(c.try_acquire(1, at(0) + 2s - 1ns));
    EXPECT_TRUE(c.try_acquire(10, at(0) + 2s));
}

// ---- larger than the limit ----

TEST(sliding_window_counter, alone_admits_more_than_the_limit_to_an_empty_window_and_takes_it_whole) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    EXPECT_TRUE(c.check_alone(1000, at(0)));
    auto d = c.try_acquire_alone(1000, at(0));
    EXPECT_TRUE(d);
    EXPECT_EQ(d.receipt().live(), 1000U);
    EXPECT_EQ(c.used(at(0)), 1000U);
    auto again = c.try_acquire_alone(1000, at(0) + 200ms);
    EXPECT_FALSE(again);
    EXPECT_FALSE(again.never());
    EXPECT_EQ(again.retry_at(), at(0) + 1100ms);
    EXPECT_FALSE(c.check_alone(1000, at(0) + 1100ms - 1ns));
    auto one = c.try_acquire(1, at(0) + 1100ms);
    EXPECT_TRUE(one);
    EXPECT_FALSE(c.try_acquire_alone(11, at(0) + 1100ms));
    EXPECT_TRUE(c.try_acquire_alone(9, at(0) + 1100ms));
    EXPECT_EQ(c.refund(d), 1000U);
}

TEST(sliding_window_counter, alone_counts_in_full_when_the_limit_rises) {
    manual_clock clock;
    counter c{2'000, 1s, clock};
    ASSERT_TRUE(c.try_acquire_alone(3'500, at(0)));
    ASSERT_FALSE(c.change({5'000}, at(0)));
    EXPECT_FALSE(c.try_acquire(1'501, at(0)));
    EXPECT_TRUE(c.try_acquire(1'500, at(0)));
}

// ---- effective time ----

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

/// Grants of random time points, which go back, by an exact log of their effective times; every step is made twice, on
/// a counter with checks and denials at later times between, and on one without.
TEST(sliding_window_counter, keeps_its_promise_over_effective_times_that_go_back) {
    std::mt19937_64 rng{7};
    auto const below = [&](std::uint64_t n) { return rng() % n; };
    for (int round = 0; round < 200; ++round) {
        manual_clock clock;
        permits const limit = 1 + below(20);
        counter disturbed{limit, 1s, counter_options{.segments = 10}, clock};
        counter quiet{limit, 1s, counter_options{.segments = 10}, clock};
        auto const length = static_cast<std::int64_t>(disturbed.segment_length().count());
        struct entry {
            std::int64_t when;
            permits n;
        };
        std::vector<entry> log;
        std::int64_t open = 0;  // the start of the latest segment with a grant
        std::int64_t now = 0;
        for (int i = 0; i < 200; ++i) {
            now += static_cast<std::int64_t>(below(2)) * static_cast<std::int64_t>(below(300'000'000));
            std::int64_t const t = std::max<std::int64_t>(0, now - static_cast<std::int64_t>(below(2'000'000'000)));
            auto const later = at(0) + nanoseconds{now + static_cast<std::int64_t>(below(3'000'000'000))};
            (void)disturbed.check(1 + below(limit), later);
            ASSERT_FALSE(disturbed.try_acquire(limit + 1, later));
            if (!disturbed.check(1, later)) {
                ASSERT_FALSE(disturbed.try_acquire(1, later));
            }
            permits const n = 1 + below(limit);
            bool const granted = disturbed.try_acquire(n, at(0) + nanoseconds{t}).granted();
            ASSERT_EQ(granted, quiet.try_acquire(n, at(0) + nanoseconds{t}).granted());
            if (!granted) continue;
            std::int64_t const effective = std::max(t, open);
            open = effective - effective % length;
            log.push_back({effective, n});
            for (auto const& end : log) {
                permits sum = 0;
                for (auto const& e : log) sum += e.when > end.when - 1'000'000'000 && e.when <= end.when ? e.n : 0;
                ASSERT_LE(sum, limit);
            }
        }
    }
}

TEST(sliding_window_counter, alone_within_the_limit_is_try_acquire) {
    manual_clock clock;
    counter c{10, 1s, clock};
    EXPECT_TRUE(c.try_acquire_alone(6));
    EXPECT_FALSE(c.try_acquire_alone(5));
    EXPECT_TRUE(c.try_acquire_alone(4));
    EXPECT_TRUE(c.try_acquire_alone(0));
    c.charge(5);
    EXPECT_TRUE(c.try_acquire_alone(0));
    EXPECT_FALSE(c.try_acquire_alone(1));
}

// ---- a change of the limit ----

TEST(sliding_window_counter, a_change_of_the_limit_keeps_what_was_taken) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    ASSERT_TRUE(c.try_acquire(8, at(0)));
    EXPECT_FALSE(c.change_limit(20, at(0)));
    EXPECT_EQ(c.limit(), 20U);
    EXPECT_EQ(c.available(at(0)), 12U);
    EXPECT_TRUE(c.try_acquire(12, at(0) + 100ms));
    EXPECT_FALSE(c.change_limit(5, at(0) + 150ms));
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
    EXPECT_TRUE(c.change_limit(0));
    EXPECT_TRUE(c.change_limit(c.max_limit() + 1));
    EXPECT_TRUE(c.change_limit(std::numeric_limits<permits>::max()));
    EXPECT_EQ(c.limit(), 10U);
    EXPECT_FALSE(c.change_limit(c.max_limit()));
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
            ASSERT_FALSE(c.change_limit(++limit, t));
            ASSERT_EQ(c.limit(), limit);
            ASSERT_TRUE(c.check(limit, t));
            ASSERT_FALSE(c.check(limit + 1, t));
        }
        auto const e = c.change_limit(limit + 1, t);
        ASSERT_TRUE(e);
        ASSERT_EQ(e, counter::busy);
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

// ---- two counters, one limit ----

TEST(sliding_window_counter, beside_counts_what_the_others_hold) {
    manual_clock clock;
    counter c{10, 1s, clock};
    ASSERT_TRUE(c.try_acquire(3));
    EXPECT_TRUE(c.check_beside(2, at(0), [] { return permits{5}; }));
    EXPECT_FALSE(c.check_beside(3, at(0), [] { return permits{5}; }));
    EXPECT_FALSE(c.try_acquire_beside(3, at(0), [] { return permits{5}; }));
    EXPECT_FALSE(c.try_acquire_beside(1, at(0), [] { return std::numeric_limits<permits>::max(); }));
    EXPECT_FALSE(c.try_acquire_beside(std::numeric_limits<permits>::max(), at(0), [] { return permits{1}; }));
    auto d = c.try_acquire_beside(2, at(0), [] { return permits{5}; });
    EXPECT_TRUE(d);
    EXPECT_EQ(c.used(), 5U);
    EXPECT_EQ(c.refund(d), 2U);
    EXPECT_TRUE(c.try_acquire_beside(0, at(0), [] { return permits{50}; }));
    EXPECT_EQ(c.used(), 3U);
}

TEST(sliding_window_counter, beside_takes_back_its_charge_when_the_second_look_finds_too_much) {
    manual_clock clock;
    counter c{10, 1s, clock};
    int looks = 0;
    c.advance_to(at(0));
    auto d = c.try_acquire_beside(2, at(0), [&] { return looks++ == 0 ? permits{8} : permits{9}; });
    EXPECT_FALSE(d);
    EXPECT_EQ(looks, 2);
    EXPECT_EQ(c.used(), 0U);
}

TEST(sliding_window_counter, beside_follows_the_other_counter_to_its_segment) {
    manual_clock clock;
    counter c{10, 1s, counter_options{.segments = 10}, clock};
    counter h{10, 1s, counter_options{.segments = 10}, clock};
    (void)h.charge(10, at(0));
    h.advance_to(at(0) + 1100ms);  // the other has moved on, and its ten have aged out
    auto d = c.try_acquire_beside(10, at(0) + 50ms, [&] { return h.used_as_of(at(0) + 50ms); });
    EXPECT_TRUE(d);
    EXPECT_EQ(c.used_as_of(at(0)).as_of, at(0) + 1100ms);
    // And when it moves on between the two looks, the charge moves with it.
    int looks = 0;
    auto e = h.try_acquire_beside(1, at(0) + 1100ms, [&] {
        return looks++ == 0 ? counter::usage{0, at(0) + 1100ms} : counter::usage{0, at(0) + 1300ms};
    });
    EXPECT_TRUE(e);
    EXPECT_GE(looks, 4);
    EXPECT_EQ(h.used_as_of(at(0)).as_of, at(0) + 1300ms);
    EXPECT_EQ(h.used(at(0) + 1300ms), 1U);
    EXPECT_TRUE(h.try_acquire_beside(1, at(0), [] { return counter::usage{0, time_point::max()}; }));
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

// ---- threads ----

using counted = counter_of<hammer::counting_atomics>;

struct grant {
    std::int64_t time;  // effective
    std::uint64_t segment;
    permits n;
};

/// A time that the threads themselves move on: seldom, and very seldom by many segments.
class passing_time {
public:
    static constexpr std::int64_t length = 1000;
    static constexpr std::int64_t first = 8;  // the ring's size is the number of the first segment, with 6 segments
    static constexpr std::int64_t window = 6 * length;

    std::int64_t pass(hammer::random_engine& random) {
        auto const r = random();
        if (r % 16 == 0) now_.fetch_add(static_cast<std::int64_t>((r >> 8U) % 400));
        if (r % 4096 == 1) now_.fetch_add(static_cast<std::int64_t>((r >> 16U) % (12 * length)));
        return now();
    }
    std::int64_t now() const { return now_.load(std::memory_order_relaxed); }

    static std::int64_t effective(std::int64_t t, std::uint64_t segment) {
        return std::max(t, (static_cast<std::int64_t>(segment) - first) * length);
    }

private:
    std::atomic<std::int64_t> now_{0};
};
constexpr nanoseconds hammered_window{passing_time::window};
constexpr counter_options hammered_segments{.segments = 6};

TEST(sliding_window_counter, threads_never_exceed_the_limit_in_any_window_and_lose_nothing) {
    hammer::until_collided(6, [](std::uint64_t seed) {
        manual_clock clock;
        constexpr permits limit = 40;
        counted c{limit, hammered_window, hammered_segments, clock};
        ASSERT_EQ(c.segment_length().count(), passing_time::length);
        passing_time time;
        std::atomic<std::uint64_t> denials{0};
        std::atomic<std::uint64_t> refunds{0};
        auto const all = hammer::gather<grant>(4, seed, 100'000, [&](auto& random, auto& grants) {
            thread_local std::vector<std::pair<counted::decision, std::size_t>> held;
            std::int64_t t = time.pass(random);
            auto const r = random();
            if (r % 3 == 0 && !held.empty()) {
                auto const i = static_cast<std::size_t>((r >> 8U) % held.size());
                auto& [d, index] = held[i];
                permits const k = 1 + (r >> 16U) % d.receipt().live();
                c.refund(d, k);
                grants[index].n -= k;
                refunds.fetch_add(1, std::memory_order_relaxed);
                if (d.receipt().live() == 0 || held.size() > 20) {
                    std::swap(held[i], held.back());
                    held.pop_back();
                }
                return;
            }
            if (r % 17 == 1) t = std::max<std::int64_t>(0, t - static_cast<std::int64_t>((r >> 8U) % 3000));
            permits const n = 1 + (r >> 24U) % 4;
            auto d = c.try_acquire(n, at(t));
            if (!d) {
                denials.fetch_add(1, std::memory_order_relaxed);
                return;
            }
            grants.push_back({passing_time::effective(t, d.receipt().segment()), d.receipt().segment(), n});
            if (r % 2 == 0) held.emplace_back(std::move(d), grants.size() - 1);
        });
        ASSERT_GT(denials.load(), 0U);
        ASSERT_GT(refunds.load(), 0U);
        ASSERT_GT(all.size(), 1000U);
        ASSERT_LE(exact_log::peak(all, passing_time::window + 1), limit);
        // When all is quiet, the next segment counts exactly what is live.
        std::int64_t const t = time.now() + passing_time::length;
        (void)c.check(1, at(t));
        auto const e = static_cast<std::uint64_t>(
            c.used_as_of(at(t)).as_of.time_since_epoch().count() / passing_time::length + passing_time::first);
        permits live = 0;
        for (auto const& g : all) {
            if (g.segment + 6 >= e) live += g.n;
        }
        ASSERT_EQ(c.used(at(t)), live);
        ASSERT_TRUE(c.try_acquire(limit - live, at(t)));
        ASSERT_FALSE(c.try_acquire(1, at(t)));
    });
}

TEST(sliding_window_counter, threads_decide_by_the_old_limit_or_the_new_one) {
    // When the lesser limit is in force and time stands still, what the window holds cannot grow above it.
    hammer::until_collided(1, [](std::uint64_t seed) {
        manual_clock clock;
        counted c{10, hammered_window, hammered_segments, clock};
        std::atomic<std::int64_t> now{0};
        std::atomic<bool> done{false};
        std::atomic<std::uint64_t> granted{0};
        std::uint64_t changed = 0;
        auto const attempt = [&] {
            while (!done) {
                auto d = c.try_acquire(1, at(now.load()));
                if (d) granted.fetch_add(1);
                if (granted.load() % 4 != 0) c.refund(d);
                ASSERT_LE(c.used(at(now.load())), 50U);
            }
        };
        auto const change = [&] {
            for (int round = 0; round < 200'000 && (changed < 300 || granted < 5'000); ++round) {
                permits const limit = round % 2 == 0 ? 50 : 10;
                auto const e = c.change_limit(limit, at(now.load()));
                ASSERT_TRUE(!e || e == counted::busy);
                if (!e) {
                    ++changed;
                    ASSERT_EQ(c.limit(), limit);
                    permits const before = c.used(at(now.load()));
                    if (round % 16 < 2) std::this_thread::yield();
                    ASSERT_LE(c.used(at(now.load())), std::max<permits>(before, limit));
                }
                now.fetch_add(round % 7 == 0 ? 3 * passing_time::length : passing_time::length / 5);
            }
        };
        hammer::on_threads(4, seed, [&](std::size_t id, auto&) {
            if (id != 0) return attempt();
            change();
            done = true;
        });
        EXPECT_GE(changed, 300U);
        EXPECT_GE(granted.load(), 5'000U);
    });
}

TEST(sliding_window_counter, threads_that_all_change_the_limit_leave_one_of_theirs_and_finish) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        manual_clock clock;
        counted c{10, hammered_window, hammered_segments, clock};
        passing_time time;
        std::atomic<std::uint64_t> changed{0};
        hammer::on_threads(4, seed, [&](std::size_t, auto& random) {
            for (int i = 0; i < 20'000; ++i) {
                if (!c.change_limit(1 + random() % 30, at(time.pass(random)))) changed.fetch_add(1);
                ASSERT_GE(c.limit(), 1U);
                ASSERT_LE(c.limit(), 30U);
            }
        });
        EXPECT_GT(changed.load(), 1000U);
        std::int64_t const t = time.now() + 20 * passing_time::length;
        EXPECT_FALSE(c.change_limit(17, at(t)));
        EXPECT_TRUE(c.try_acquire(17, at(t)));
        EXPECT_FALSE(c.try_acquire(1, at(t)));
    });
}

TEST(sliding_window_counter, threads_that_share_a_limit_between_two_counters_keep_it) {
    // Each call holds its bound in `held`, is admitted with it counted, and settles later: its actual use is charged in
    // `main` before its hold is given back. As bounds are bounds, `main` alone must keep the limit, though settled
    // charges are not asked.
    hammer::until_collided(4, [](std::uint64_t seed) {
        constexpr permits limit = 60;
        manual_clock clock;
        counted spent{limit, hammered_window, hammered_segments, clock};
        // A hold must outlive its call, though the thread be preempted for long.
        counted held{limit, nanoseconds{400'000 * passing_time::length}, counter_options{.segments = 1000}, clock};
        passing_time time;
        std::atomic<std::uint64_t> settled{0};
        auto const all = hammer::gather<grant>(4, seed, 60'000, [&](auto& random, auto& grants) {
            struct call {
                counted::receipt hold;
                permits bound;
            };
            thread_local std::vector<call> flying;
            std::int64_t const t = time.pass(random);
            auto const r = random();
            if (flying.size() > 3 || (r % 2 == 0 && !flying.empty())) {
                auto const i = static_cast<std::size_t>((r >> 8U) % flying.size());
                permits const actual = (r >> 16U) % (flying[i].bound + 1);
                auto const done = spent.charge(actual, at(t));
                grants.push_back({passing_time::effective(t, done.receipt.segment()), done.receipt.segment(), actual});
                held.refund(flying[i].hold);
                settled.fetch_add(1);
                std::swap(flying[i], flying.back());
                flying.pop_back();
                return;
            }
            permits const bound = 1 + (r >> 8U) % 12;
            permits const input = 1 + (r >> 16U) % 5;
            auto hold = held.charge(bound, at(t));
            auto d = spent.try_acquire_beside(input, at(t), [&] { return held.used_as_of(at(t)); });
            if (!d) {
                held.refund(hold.receipt);
                return;
            }
            grants.push_back({passing_time::effective(t, d.receipt().segment()), d.receipt().segment(), input});
            flying.push_back({std::move(hold.receipt), bound});
        });
        ASSERT_GT(settled.load(), 500U);
        ASSERT_LE(exact_log::peak(all, passing_time::window + 1), limit);
    });
}

TEST(sliding_window_counter, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    weir::sliding_window_counter<manual_clock&> c{3, 1s, clock};
    moved::is_the_same_decision(c, clock, 1ms, [&](weir::permits n) { return c.try_acquire(n); });
}

TEST(sliding_window_counter, asks_for_one_permit_where_none_is_named) {
    manual_clock clock;
    counter l{1, 1s, clock};
    EXPECT_TRUE(l.check());
    EXPECT_FALSE(l.check(2));
    EXPECT_TRUE(l.try_acquire());
    EXPECT_FALSE(l.check());
}

}  // namespace
