// SPDX-License-Identifier: MIT
// The pure parts of sliding_window_counter: in constant expressions, and the scale at the ends of its range.
#include <weir/detail/window_layout.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <utility>

namespace window_layout_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::permits;

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

using words = weir::detail::window_words;
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
constexpr bool cached_rooms_bound_what_head_may_count() {
    words const w{20};
    auto const h = w.open(9, 3) + 40;
    return w.is_current(w.cached_room(h, 10, 100), h) && words::room(h, w.cached_room(h, 10, 100)) == 50 &&
           words::room(h, w.cached_room(h, 60, 100)) == 0 && words::room(h, w.cached_room(h, 600, 100)) == 0 &&
           !w.is_current(w.cached_room(h, 10, 100), w.closing(h)) &&
           !w.is_current(w.cached_room(h, 10, 100), w.with_version(h, 4)) &&
           !w.is_current(w.cached_room(h, 10, 100), w.open(10, 3));
}
static_assert(cached_rooms_bound_what_head_may_count());

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

constexpr std::int64_t min_tick = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t max_tick = std::numeric_limits<std::int64_t>::max();

constexpr bool segments_follow_each_other(std::int64_t origin) {
    auto const p = plan_of(10, 10'000ns, 5);
    weir::detail::window_scale const s{p, origin};
    if (s.segment_of(min_tick) != p.first() || s.segment_of(origin) != p.first()) return false;
    for (std::uint64_t e = p.first(); e < p.first() + 20; ++e) {
        if (s.start_of(e) + static_cast<std::int64_t>(p.length) - 1 != s.end_of(e)) return false;
        if (s.segment_of(s.start_of(e)) != e || s.segment_of(s.end_of(e)) != e) return false;
        if (s.start_of(e + 1) != s.end_of(e) + 1) return false;
    }
    return true;
}
static_assert(segments_follow_each_other(0) && segments_follow_each_other(-7) &&
              segments_follow_each_other(1'000'000'007) && segments_follow_each_other(min_tick));

TEST(window_scale, saturates_where_the_clock_ends) {
    auto const p = plan_of(10, 10'000ns, 5);
    weir::detail::window_scale const late{p, max_tick - 3000};
    EXPECT_EQ(late.segment_of(max_tick), p.first() + 1);
    EXPECT_EQ(late.end_of(p.first() + 1), max_tick);
    EXPECT_EQ(late.start_of(p.first() + 5), max_tick);
    weir::detail::window_scale const early{p, min_tick};
    EXPECT_EQ(early.end_of(p.last), max_tick) << "the last segment has no end";
    EXPECT_LE(early.reachable(max_tick), p.last);
    EXPECT_EQ(early.end_of(early.segment_of(max_tick)), max_tick);
}

TEST(window_scale, numbers_the_segments_before_the_origin) {
    weir::detail::window_scale const s{plan_of(10, 10'000ns, 5), 0};
    EXPECT_EQ(s.segments_before_first(0), 0U);
    EXPECT_EQ(s.segments_before_first(1), 0U);
    EXPECT_EQ(s.segments_before_first(-1), 1U);
    EXPECT_EQ(s.segments_before_first(-2000), 1U);
    EXPECT_EQ(s.segments_before_first(-2001), 2U);
    EXPECT_GT(s.segments_before_first(min_tick), 1'000'000U);
}

TEST(window_receipt, is_in_one_hand_only) {
    weir::detail::window_receipt a{7, 5};
    auto b = std::move(a);
    EXPECT_EQ(a.live(), 0U);  // NOLINT(bugprone-use-after-move): that is the point
    EXPECT_EQ(b.live(), 5U);
    EXPECT_EQ(b.take(3), 3U);
    EXPECT_EQ(b.take(9), 2U);
    EXPECT_EQ(b.take(1), 0U);
    EXPECT_EQ(b.head(), 7U);
}

}  // namespace window_layout_test
