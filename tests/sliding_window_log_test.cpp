// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/sliding_window_log.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <ratio>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/move_semantics.hpp"

namespace sliding_window_log_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::permits;
using time_point = manual_clock::time_point;
using ns = std::chrono::nanoseconds;
template <class Atomics = weir::std_atomics>
using log_of = weir::sliding_window_log<manual_clock&, Atomics>;

constexpr time_point at(std::int64_t t) { return time_point{ns{t}}; }

static_assert(weir::limiter<weir::sliding_window_log<>> && weir::limiter<log_of<weir::unsynchronized>>);
static_assert(!std::is_copy_constructible_v<log_of<>::decision> &&
              std::is_nothrow_move_constructible_v<log_of<>::decision>);
// A fraction of a permit does not compile, and a truth value is no number.
template <class N>
constexpr bool takes = requires(log_of<>& log, N n) { log.try_acquire(n); };
static_assert(takes<int> && takes<unsigned char> && takes<std::int64_t> && !takes<double> && !takes<bool>);

TEST(sliding_window_log, denies_after_its_limit_until_the_first_is_a_window_old) {
    manual_clock clock;
    weir::sliding_window_log log{3, 1s, std::ref(clock)};
    static_assert(std::is_same_v<decltype(log), log_of<>>);
    for (int i = 0; i < 3; ++i) {
        auto const d = log.try_acquire();
        EXPECT_TRUE(d);
        EXPECT_EQ(d.retry_at(), clock.now());
        EXPECT_EQ(d.retry_after(), 0ns);
        clock.advance(1ms);
    }
    auto const d = log.try_acquire();
    EXPECT_FALSE(d.granted());
    EXPECT_FALSE(d.never());
    EXPECT_EQ(d.retry_at(), at(0) + 1s);
    EXPECT_EQ(d.retry_after(), 997ms);
    clock.advance(d.retry_after() - 1ns);
    EXPECT_FALSE(log.try_acquire());
    EXPECT_FALSE(log.check());
    clock.advance(1ns);
    EXPECT_TRUE(log.check());
    EXPECT_TRUE(log.try_acquire());
    EXPECT_FALSE(log.try_acquire());
}

TEST(sliding_window_log, spends_no_burst_across_the_edge_of_a_window) {
    manual_clock clock;
    log_of<> log{10, 1s, clock};
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(log.try_acquire(at(999'999'999)));
    EXPECT_FALSE(log.try_acquire(at(1'000'000'000)));
    EXPECT_EQ(log.try_acquire(at(1'000'000'000)).retry_at(), at(1'999'999'999));
}

TEST(sliding_window_log, takes_several_permits_or_none) {
    manual_clock clock;
    log_of<> log{5, 1s, clock};
    EXPECT_TRUE(log.try_acquire(3));
    clock.advance(10ms);
    auto const d = log.try_acquire(3);
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), at(0) + 1s);
    EXPECT_EQ(log.available(), 2U);
    EXPECT_TRUE(log.try_acquire(2));
    EXPECT_EQ(log.check(4).retry_at(), at(0) + 1010ms);
    EXPECT_EQ(log.available(at(0) + 1s), 3U);
    EXPECT_EQ(log.available(at(0) + 1010ms), 5U);
}

TEST(sliding_window_log, grants_no_permits_at_any_time_and_never_more_than_the_limit) {
    manual_clock clock;
    log_of<> log{2, 1s, {.initial = 0, .capacity = 4}, clock};
    EXPECT_TRUE(log.try_acquire(0));
    EXPECT_TRUE(log.check(0));
    auto const d = log.try_acquire(3);
    EXPECT_TRUE(d.never());
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), time_point::max());
    EXPECT_EQ(d.error(), weir::errc::does_not_fit);
    EXPECT_TRUE(log.check(3).never());
    EXPECT_EQ(d.retry_after(), std::chrono::seconds{946'728'000});
    EXPECT_EQ(log.try_acquire(weir::all_permits).error(), weir::errc::does_not_fit);
    EXPECT_FALSE(log.try_acquire(2).never());
}

TEST(sliding_window_log, check_and_available_charge_nothing) {
    manual_clock clock;
    log_of<> log{2, 1s, clock};
    for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(log.check(2));
        EXPECT_TRUE(log.check());
        EXPECT_TRUE(log.check(clock.now()));
        EXPECT_EQ(log.available(), 2U);
    }
    auto const d = log.check();
    EXPECT_EQ(d.live(), 0U);
}

TEST(sliding_window_log, refunds_exactly_and_once) {
    manual_clock clock;
    log_of<> log{1, 1s, clock};
    auto first = log.try_acquire(at(0));
    ASSERT_TRUE(first);
    EXPECT_EQ(first.live(), 1U);
    auto second = log.try_acquire(at(1'500'000'000));
    ASSERT_TRUE(second);
    EXPECT_EQ(log.refund(second), 1U);
    EXPECT_EQ(log.refund(second), 0U);
    EXPECT_EQ(second.live(), 0U);
    // The slot is back at its stamp before: free from 1 s on, not earlier.
    EXPECT_EQ(log.check(at(999'999'999)).retry_at(), at(1'000'000'000));
    EXPECT_EQ(log.refund(first), 1U);
    EXPECT_TRUE(log.check(at(0)));
    EXPECT_TRUE(log.try_acquire(at(7)));
    EXPECT_FALSE(log.check(at(8)));
}

TEST(sliding_window_log, a_refund_after_its_slot_was_taken_again_does_nothing) {
    manual_clock clock;
    log_of<> log{1, 10ns, clock};
    auto first = log.try_acquire(at(0));
    ASSERT_TRUE(log.try_acquire(at(10)));
    EXPECT_EQ(log.refund(first), 0U);
    EXPECT_EQ(log.check(at(11)).retry_at(), at(20));
}

TEST(sliding_window_log, gives_a_single_permit_back_exactly_whichever_verb_took_it) {
    manual_clock clock;
    auto const at = [](auto d) { return manual_clock::time_point{d}; };
    for (int way = 0; way < 3; ++way) {
        log_of<> log{1, 1s, clock};
        clock.advance_to(std::max(clock.now(), at(10s)));
        auto d = way == 0   ? log.try_acquire()
                 : way == 1 ? log.try_acquire(1, clock.now())
                            : log.try_acquire(clock.now());
        ASSERT_TRUE(d);
        EXPECT_EQ(log.refund(d), 1U);
        EXPECT_TRUE(log.check(1, clock.now() - 500ms)) << way;
    }
}

TEST(sliding_window_log, a_receipt_moves_and_belongs_to_one_limiter) {
    manual_clock clock;
    log_of<> log{1, 1s, clock};
    log_of<> other{1, 1s, clock};
    auto d = log.try_acquire();
    auto d2 = other.try_acquire();
    EXPECT_EQ(other.refund(d), 0U);
    log_of<>::decision moved{std::move(d)};
    EXPECT_EQ(log.refund(d), 0U);  // NOLINT(bugprone-use-after-move): that it is spent is the point
    EXPECT_EQ(log.refund(moved), 1U);
    EXPECT_TRUE(log.try_acquire());
    d = std::move(d2);
    EXPECT_EQ(other.refund(d2), 0U);  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(other.refund(d), 1U);
    auto denied = log.try_acquire();
    EXPECT_EQ(log.refund(denied), 0U);
    log_of<>::decision none;
    EXPECT_EQ(log.refund(none), 0U);
}

TEST(sliding_window_log, a_part_of_several_permits_is_refunded_and_the_rest_once) {
    manual_clock clock;
    log_of<> log{8, 1s, clock};
    auto mine = log.try_acquire(3);
    auto others = log.try_acquire(3);
    log_of<> other{8, 1s, clock};
    EXPECT_EQ(other.refund(mine, 1), 0U);
    EXPECT_EQ(log.refund(mine, 0), 0U);
    EXPECT_EQ(log.refund(mine, 2), 2U);
    EXPECT_EQ(log.available(), 4U);
    EXPECT_EQ(log.refund(mine, 5), 1U);
    EXPECT_EQ(log.refund(mine, 1), 0U);
    EXPECT_EQ(log.available(), 5U);
    EXPECT_EQ(log.refund(others), 3U);
    EXPECT_EQ(log.available(), 8U);
}

TEST(sliding_window_log, refunds_several_and_leaves_others_of_the_same_time_refundable) {
    manual_clock clock;
    log_of<> log{6, 1s, clock};
    auto a = log.try_acquire(at(5));
    auto b = log.try_acquire(3, at(5));
    auto c = log.try_acquire(at(5));
    ASSERT_TRUE(a && b && c);
    EXPECT_EQ(log.refund(b), 3U);
    EXPECT_EQ(log.refund(b), 0U);
    EXPECT_EQ(log.available(at(6)), 4U);
    EXPECT_EQ(log.refund(c), 1U);
    EXPECT_EQ(log.refund(a), 1U);
    EXPECT_EQ(log.available(at(6)), 6U);
    EXPECT_TRUE(log.try_acquire(6, at(6)));
}

TEST(sliding_window_log, a_lower_limit_counts_what_was_taken_and_voids_receipts) {
    manual_clock clock;
    log_of<> log{5, 100ns, clock};
    std::vector<log_of<>::decision> taken;
    for (int i = 0; i < 5; ++i) taken.push_back(log.try_acquire(at(i)));
    EXPECT_FALSE(log.change({2, 100ns}));
    EXPECT_EQ(log.limit(), 2U);
    for (auto& d : taken) EXPECT_EQ(log.refund(d), 0U);
    // The two newest are of 3 and 4: only when the first of these is a window old does the window hold less than two.
    EXPECT_EQ(log.check(at(5)).retry_at(), at(103));
    EXPECT_EQ(log.check(2, at(5)).retry_at(), at(104));
    EXPECT_TRUE(log.check(3, at(5)).never());
    auto d = log.try_acquire(at(103));
    ASSERT_TRUE(d);
    EXPECT_EQ(log.refund(d), 1U);
    EXPECT_TRUE(log.try_acquire(at(103)));
}

TEST(sliding_window_log, a_limit_raised_again_remembers_what_was_cut_off) {
    manual_clock clock;
    log_of<> log{3, 100ns, {.capacity = 5}, clock};
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(log.try_acquire(at(i)));
    EXPECT_FALSE(log.change({1, 100ns}));
    EXPECT_FALSE(log.change({3, 100ns}));
    EXPECT_EQ(log.check(at(50)).retry_at(), at(100));
    EXPECT_FALSE(log.change({5, 100ns}));
    EXPECT_EQ(log.available(at(50)), 2U);
    EXPECT_TRUE(log.try_acquire(2, at(50)));
    EXPECT_FALSE(log.try_acquire(at(50)));
    EXPECT_TRUE(log.change({6, 100ns}));
    EXPECT_TRUE(log.change({0, 100ns}));
    EXPECT_FALSE(log.change({5, 100ns}));
    EXPECT_EQ(log.limit(), 5U);
    EXPECT_EQ(log.capacity(), 5U);
}

TEST(sliding_window_log, starts_full_empty_or_with_so_many) {
    manual_clock clock{at(1'000'000)};
    log_of<> empty{3, 1s, {.initial = 0}, clock};
    EXPECT_EQ(empty.try_acquire().retry_at(), clock.now() + 1s);
    EXPECT_TRUE(empty.try_acquire(3, clock.now() + 1s));
    log_of<> part{30, 1s, {.initial = 12}, clock};
    EXPECT_EQ(part.available(), 12U);
    EXPECT_TRUE(part.try_acquire(12));
    EXPECT_FALSE(part.try_acquire());
    log_of<> more{3, 1s, {.initial = 7}, clock};
    EXPECT_EQ(more.available(), 3U);
    weir::sliding_window_log by_default{3, 1s, {.initial = 1}};
    static_assert(std::is_same_v<decltype(by_default), weir::sliding_window_log<>>);
    EXPECT_EQ(by_default.available(), 1U);
}

TEST(sliding_window_log, restores_saved_stamps_in_any_order_and_the_newest_count) {
    manual_clock clock{at(1'000)};
    log_of<> log{3, 100ns, clock};
    for (std::int64_t t : {950, 990, 910, 970, 930}) log.restore(at(t));
    EXPECT_EQ(log.try_acquire().retry_at(), at(1'050));
    EXPECT_EQ(log.check(2).retry_at(), at(1'070));
    EXPECT_EQ(log.check(3).retry_at(), at(1'090));
    std::vector<std::int64_t> held;
    log.for_each_held(clock.now(), [&](time_point t) { held.push_back(t.time_since_epoch().count()); });
    std::sort(held.begin(), held.end());
    EXPECT_EQ(held, (std::vector<std::int64_t>{950, 970, 990}));
    log_of<> again{3, 100ns, clock};
    again.restore(7, at(990));
    EXPECT_EQ(again.try_acquire().retry_at(), at(1'090));
}

TEST(sliding_window_log, starts_empty_at_either_end_of_its_clock) {
    for (auto const origin : {time_point::min(), time_point::min() + 1h, time_point::max() - 1h}) {
        manual_clock clock{origin};
        log_of<> log{2, 1s, {.initial = 0}, clock};
        EXPECT_FALSE(log.check(origin + 1s - 1ns));
        EXPECT_EQ(log.try_acquire(origin).retry_at(), origin + 1s);
        EXPECT_TRUE(log.try_acquire(2, origin + 1s));
    }
}

TEST(sliding_window_log, a_time_in_the_future_is_trusted) {
    manual_clock clock;
    log_of<> log{1, 100ns, clock};
    EXPECT_TRUE(log.try_acquire(at(5'000)));
    EXPECT_EQ(log.try_acquire().retry_at(), at(5'100));
    EXPECT_FALSE(log.check(at(5'099)));
}

TEST(sliding_window_log, refuses_bad_arguments_with_a_reason) {
    manual_clock clock;
    using log = log_of<>;
    EXPECT_TRUE(log::validate(0, 1s));
    EXPECT_TRUE(log::validate(1, 0s));
    EXPECT_TRUE(log::validate(1, -1s));
    EXPECT_FALSE(log::validate(1, 1ns));
    EXPECT_FALSE(log::validate(permits{1} << 24U, 1s));
    EXPECT_TRUE(log::validate((permits{1} << 24U) + 1, 1s));
    EXPECT_TRUE(log::validate(1, 1s, {.capacity = (permits{1} << 24U) + 1}));
    EXPECT_TRUE(log::validate(5, 1s, {.capacity = 4}));
    EXPECT_FALSE(log::validate(5, 1s, {.capacity = 5}));
    EXPECT_FALSE(log::validate(5, 24h * 359));
    EXPECT_TRUE(log::validate(5, 24h * 360));
    EXPECT_TRUE(log::validate(5, ns::max()));
    EXPECT_FALSE(log::validate(5, 10ms, {}, 10ms));
    EXPECT_TRUE(log::validate(5, 10ms, {}, 11ms));
    auto const bad = log::make(0, 1s, {}, clock);
    ASSERT_FALSE(bad);
    EXPECT_NE(bad.error(), weir::errc::none);
    auto const good = log::make(4, 1s, {.initial = 2}, clock);
    ASSERT_TRUE(good);
    EXPECT_EQ(good->available(), 2U);
    EXPECT_TRUE(weir::sliding_window_log<>::make(4, 1s));
    EXPECT_FALSE(weir::sliding_window_log<>::make(4, 0s));
#if defined(__cpp_exceptions)
    EXPECT_THROW((log{0, 1s, clock}), std::invalid_argument);
    EXPECT_THROW((log{1, -1s, clock}), std::invalid_argument);
    EXPECT_THROW((log{(permits{1} << 24U) + 1, 1s, clock}), std::invalid_argument);
#endif
}

struct half_nanosecond_clock {
    using duration = std::chrono::duration<std::int64_t, std::ratio<1, 2'000'000'000>>;
    using time_point = std::chrono::time_point<half_nanosecond_clock, duration>;
    static time_point now() { return {}; }
};
struct second_clock {
    using duration = std::chrono::duration<std::int32_t>;
    using time_point = std::chrono::time_point<second_clock, duration>;
    static time_point now() { return time_point{duration{1'000}}; }
};
struct slow_clock : second_clock {
    static duration resolution() { return duration{60}; }
};

TEST(sliding_window_log, works_with_coarse_clocks_and_refuses_those_too_coarse) {
    using p = weir::sliding_window_log<half_nanosecond_clock>;
    EXPECT_TRUE(p::validate(1, half_nanosecond_clock::duration{1'000}));
    weir::sliding_window_log<second_clock> log{2, std::chrono::seconds{10}};
    EXPECT_TRUE(log.try_acquire());
    EXPECT_TRUE(log.try_acquire());
    EXPECT_EQ(log.try_acquire().retry_after(), second_clock::duration{10});
    EXPECT_TRUE(log.try_acquire(2, second_clock::time_point::max() - second_clock::duration{3}));
    EXPECT_TRUE(log.try_acquire(second_clock::time_point::max()).never());  // where such a clock ends
    EXPECT_FALSE(weir::sliding_window_log<slow_clock>::make(2, std::chrono::seconds{59}));
    EXPECT_TRUE(weir::sliding_window_log<slow_clock>::make(2, std::chrono::seconds{60}));
}

TEST(sliding_window_log, is_exact_for_thirty_years_and_denies_after_its_end) {
    constexpr auto years = std::chrono::seconds{946'728'000};
    for (auto const origin : {at(0), at(1'700'000'000'000'000'000), time_point::min() + 24h * 366 * 5}) {
        manual_clock clock{origin};
        log_of<> log{2, 24h * 359, clock};
        EXPECT_TRUE(log.try_acquire(2));
        auto const late = origin + years;
        if (late < origin) continue;
        EXPECT_TRUE(log.try_acquire(late - 24h));
        EXPECT_TRUE(log.try_acquire(late));
        EXPECT_EQ(log.try_acquire(late).retry_at(), late - 24h + 24h * 359);
        EXPECT_FALSE(log.check(late - 24h + 24h * 359 - 1ns));
        EXPECT_TRUE(log.check(late - 24h + 24h * 359));
    }
    manual_clock clock;
    log_of<> log{2, 1s, clock};
    EXPECT_TRUE(log.try_acquire(2, time_point::max()));
    EXPECT_TRUE(log.try_acquire(time_point::max()).never());
    EXPECT_TRUE(log.try_acquire(at(0)).never());
    log_of<> early{2, 1s, clock};
    EXPECT_TRUE(early.try_acquire(2, time_point::min()));
    EXPECT_FALSE(early.try_acquire(time_point::min()));
    EXPECT_TRUE(early.try_acquire(at(0)));
}

// Plain cells that count how many were made.
std::size_t cells_made = 0;
struct counted_cells {
    template <class T>
    struct atomic : weir::unsynchronized::atomic<T> {
        atomic(T value) noexcept : weir::unsynchronized::atomic<T>{value} { ++cells_made; }
    };
};

TEST(sliding_window_log, makes_its_slots_at_construction_and_none_later) {
    manual_clock clock;
    cells_made = 0;
    log_of<counted_cells> log{100, 1s, {.capacity = 2'000}, clock};
    auto const before = cells_made;
    EXPECT_GE(before, 2'000U);
    EXPECT_LE(before, 2'000U + 2 * 2'000U / 31 + 10);
    for (int i = 0; i < 1'000; ++i) {
        clock.advance(3ms);
        auto d = log.try_acquire();
        (void)log.try_acquire(40);
        (void)log.check(99);
        if (i % 3 == 0) (void)log.refund(d);
        if (i % 100 == 0) {
            EXPECT_FALSE(log.change({100 + i, 1s}));
        }
    }
    EXPECT_EQ(cells_made, before);
}

TEST(sliding_window_log, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    log_of<> log{3, 1s, clock};
    moved::is_the_same_decision(log, clock, 1ms, [&](weir::permits n) { return log.try_acquire(n); });
}

TEST(sliding_window_log, asks_for_one_permit_where_none_is_named) {
    manual_clock clock;
    log_of<> l{1, 1s, clock};
    EXPECT_TRUE(l.check());
    EXPECT_FALSE(l.check(2));
    EXPECT_TRUE(l.try_acquire());
    EXPECT_FALSE(l.check());
}

TEST(sliding_window_log, denies_a_negative_number_of_permits_with_a_reason) {
    manual_clock clock;
    log_of<> log{3, 1s, clock};
    int const minus = -1;
    for (auto const& d : {log.try_acquire(minus), log.check(minus), log.try_acquire(minus, at(5))}) {
        EXPECT_FALSE(d);
        EXPECT_TRUE(d.never());
        EXPECT_EQ(d.error(), weir::errc::invalid_argument);
    }
    auto d = log.try_acquire(2);
    EXPECT_FALSE(d.error());
    EXPECT_EQ(log.refund(d, minus), 0U);
    EXPECT_FALSE(log.settle(d, minus));
    EXPECT_EQ(log.available(), 1U);
    EXPECT_TRUE(log.change({minus, 1s}) == weir::errc::invalid_argument);
    log.restore(minus, clock.now());
    EXPECT_EQ(log.available(), 1U);
    EXPECT_EQ(log.refund(d), 2U);
    EXPECT_TRUE(log_of<>::validate(minus, 1s) && log_of<>::validate(1, 1s, {.initial = minus}) &&
                log_of<>::validate(1, 1s, {.capacity = minus}));
}

TEST(sliding_window_log, settles_less_as_a_refund_of_the_rest) {
    manual_clock clock;
    log_of<> log{5, 1s, clock};
    auto d = log.try_acquire(4);
    EXPECT_TRUE(log.settle(d, 1));
    EXPECT_EQ(log.available(), 4U);
    EXPECT_FALSE(log.settle(d, 1));
    EXPECT_EQ(log.refund(d), 0U);
    auto exact = log.try_acquire(2);
    EXPECT_TRUE(log.settle(exact, 2));
    EXPECT_EQ(log.refund(exact), 0U);
    EXPECT_EQ(log.available(), 2U);
    auto part = log.try_acquire(2);
    EXPECT_EQ(log.refund(part, 1), 1U);
    EXPECT_TRUE(log.settle(part, 0));
    EXPECT_EQ(log.available(), 2U);
    auto all = log.try_acquire(1);
    EXPECT_EQ(log.refund(all), 1U);
    EXPECT_FALSE(log.settle(all, 3));
    auto none = log.try_acquire(0);
    EXPECT_FALSE(log.settle(none, 3));
    log_of<> other{5, 1s, clock};
    auto others = other.try_acquire();
    EXPECT_FALSE(log.settle(others, 3));
    EXPECT_EQ(log.available(), 2U);
}

TEST(sliding_window_log, settles_more_as_a_log_that_had_granted_it) {
    manual_clock clock;
    log_of<> log{5, 10ns, clock};
    auto d = log.try_acquire(at(0));
    EXPECT_TRUE(log.settle(d, 3, at(1)));
    EXPECT_EQ(log.available(at(1)), 2U);
    auto e = log.try_acquire(at(2));
    // 7 in the last window: the next is granted when 3 of them have left it.
    EXPECT_TRUE(log.settle(e, 4, at(3)));
    EXPECT_EQ(log.check(at(4)).retry_at(), at(11));
    EXPECT_EQ(log.check(2, at(4)).retry_at(), at(12));
    auto f = log.try_acquire(at(12));
    EXPECT_TRUE(log.settle(f, 1'000'000'000'000, at(12)));
    EXPECT_EQ(log.check(at(12)).retry_at(), at(22));
    EXPECT_EQ(log.available(at(22)), 5U);
}

TEST(sliding_window_log, refuses_to_change_its_window) {
    manual_clock clock;
    log_of<> log{5, 1s, {.capacity = 8}, clock};
    EXPECT_TRUE(log.change({5, 2s}) == weir::errc::unsupported);
    EXPECT_TRUE(log.change({0, 1s}) == weir::errc::invalid_argument);
    EXPECT_TRUE(log.change({9, 1s}) == weir::errc::does_not_fit);
    EXPECT_FALSE(log.change(log.limits()));
    EXPECT_FALSE(log.change({7, 1s}, at(5)));
    EXPECT_EQ(log.limits(), (log_of<>::limits_type{7, 1s}));
    EXPECT_EQ(log.window(), 1s);
}

TEST(sliding_window_log, takes_a_window_of_any_duration_and_rounds_it_up) {
    EXPECT_EQ(weir::sliding_window_log<>(1, 0.5s).window(), 500ms);
    EXPECT_EQ(weir::sliding_window_log<>(1, std::chrono::duration<std::int64_t, std::pico>{1'001}).window(), 2ns);
    EXPECT_TRUE(log_of<>::validate(1, std::chrono::seconds::max()));
    EXPECT_TRUE(log_of<>::validate(1, std::chrono::years{300}));
    EXPECT_TRUE(log_of<>::validate(1, -0.5s));
}

TEST(sliding_window_log, counts_from_an_origin_and_owns_its_clock_unless_it_is_a_reference) {
    manual_clock clock;
    weir::sliding_window_log log{2, 1s, {.initial = 0}, at(500), std::ref(clock)};
    static_assert(std::is_same_v<decltype(log), log_of<>>);
    EXPECT_EQ(log.check(at(500)).retry_at(), at(500) + 1s);
    auto const origin = std::chrono::steady_clock::now() - 2s;
    weir::sliding_window_log past{2, 1s, {.initial = 0}, origin};
    EXPECT_EQ(past.available(), 2U);
    weir::sliding_window_log owned{2, 1s, std::chrono::system_clock{}};
    static_assert(std::is_same_v<decltype(owned), weir::sliding_window_log<std::chrono::system_clock>>);
    EXPECT_TRUE(log_of<>::make(2, 1s, {.initial = 0}, at(500), std::ref(clock)));
}

TEST(sliding_window_log, tells_what_is_left_and_when_all_is_available) {
    manual_clock clock{at(1'000)};
    log_of<> log{5, 100ns, clock};
    EXPECT_EQ(log.check().remaining(), 5U);
    EXPECT_EQ(log.check().full_at(), at(1'000));
    auto const one = log.try_acquire();
    EXPECT_EQ(one.remaining(), 4U);
    EXPECT_EQ(one.full_at(), at(1'100));
    clock.advance(10ns);
    auto const three = log.try_acquire(3);
    auto const two = log.try_acquire(2);
    EXPECT_FALSE(two);
    EXPECT_EQ(two.retry_at(), at(1'100));
    for (auto const* d : {&three, &two}) {
        EXPECT_EQ(d->remaining(), 1U);
        EXPECT_EQ(d->full_at(), at(1'110));
    }
    clock.advance(10ns);
    auto last = log.try_acquire();
    auto const denied = log.try_acquire();
    EXPECT_EQ(denied.remaining(), 0U);
    EXPECT_EQ(denied.full_at(), at(1'120));
    EXPECT_EQ(last.remaining(), 0U);
    EXPECT_EQ(last.full_at(), at(1'120));
    // Asked once, the answer stays.
    EXPECT_EQ(log.refund(last), 1U);
    EXPECT_EQ(two.retry_at(), at(1'100));
    EXPECT_EQ(three.remaining(), 1U);
    EXPECT_EQ(two.full_at(), at(1'110));
    EXPECT_EQ(last.remaining(), 0U);
    EXPECT_EQ(last.full_at(), at(1'120));
    EXPECT_EQ(one.remaining(), 4U);
}

TEST(sliding_window_log, waits_no_longer_than_30_years_at_either_end_of_its_clock) {
    for (auto const t : {time_point::min(), time_point::max(), at(0)}) {
        manual_clock clock{t};
        log_of<> log{1, 1h, {.initial = 0}, clock};
        for (auto const when : {time_point::min(), time_point::max(), t}) {
            auto const d = log.try_acquire(when);
            EXPECT_GE(d.retry_after(), 0ns);
            EXPECT_LE(d.retry_after_seconds(), 946'728'000);
            auto const never = log.try_acquire(2, when);
            EXPECT_LE(never.retry_after(), std::chrono::seconds{946'728'000});
        }
    }
    manual_clock clock;
    log_of<> log{1, 1'500ms, {.initial = 0}, clock};
    EXPECT_EQ(log.try_acquire().retry_after_seconds(), 2);
}

}  // namespace sliding_window_log_test
