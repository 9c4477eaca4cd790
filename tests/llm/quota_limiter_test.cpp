// SPDX-License-Identifier: MIT
#include <weir/llm/quota_limiter.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <weir/clock/manual_clock.hpp>

#include "../support/exact_log.hpp"
#include "../support/move_semantics.hpp"
#include "../support/preemption_injection.hpp"
#include "../support/stress.hpp"

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::llm::accounting;
using weir::llm::limit;
using weir::llm::oversize;
using weir::llm::quota;
using weir::llm::quota_options;
using weir::llm::quota_start;
using weir::llm::tokens;

template <class Atomics = weir::std_atomics>
using limiter_of = weir::llm::quota_limiter<manual_clock&, Atomics>;
using limiter = limiter_of<>;
using time_point = manual_clock::time_point;
using past_call = limiter::past_call;

static_assert(
    std::is_same_v<decltype(weir::llm::quota_limiter{quota{}}), weir::llm::quota_limiter<std::chrono::steady_clock>>);
static_assert(
    std::is_same_v<decltype(weir::llm::quota_limiter{quota{}, std::ref(std::declval<manual_clock&>())}), limiter>);
static_assert(!std::is_copy_constructible_v<limiter> && !std::is_move_constructible_v<limiter>);
static_assert(!std::is_copy_constructible_v<limiter::decision>);
static_assert(std::is_nothrow_move_constructible_v<limiter::decision> &&
              std::is_nothrow_move_assignable_v<limiter::decision>);
static_assert(weir::decision<limiter::decision>);
static_assert(alignof(limiter) == weir::detail::cache_line);

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max() - 1;

time_point at(nanoseconds since_start) { return time_point{since_start}; }

/// A thousandth of a window: by how much a denial may be longer than an exact log's.
constexpr nanoseconds slack(nanoseconds window) { return window / 1000 + 1ns; }

// ---- construction ----

bool refuses(quota const& q, quota_options const& o = {}) {
    manual_clock clock;
    auto const error = limiter::validate(q, o);
    auto const made = limiter::make(q, o, clock);
    EXPECT_EQ(static_cast<bool>(error), !made);
    EXPECT_EQ(static_cast<bool>(error), static_cast<bool>(made.error()));
    bool thrown = false;
    try {
        limiter const l{q, o, clock};
    } catch (std::invalid_argument const& e) {
        thrown = true;
        EXPECT_STREQ(e.what(), error.message());
    }
    EXPECT_EQ(thrown, static_cast<bool>(error));
    return thrown;
}

TEST(quota_limiter, refuses_what_makes_no_sense_and_says_why) {
    EXPECT_TRUE(refuses({.rpm = 0}));
    EXPECT_TRUE(refuses({.rps = 0}));
    EXPECT_TRUE(refuses({.tpm = 0}));
    EXPECT_TRUE(refuses({.tps = 0}));
    EXPECT_TRUE(refuses({.rpm = 600, .rps = 10, .tpm = 1'000'000, .tps = 0}));
    EXPECT_TRUE(refuses({.rpm = 600}, {.jitter = -1ns}));
    EXPECT_TRUE(refuses({.rpm = 600}, {.server_timeout = -1ns}));
    EXPECT_TRUE(refuses({.rpm = 600}, {.jitter = 24h * 366}));
    EXPECT_TRUE(refuses({.tpm = 600}, {.jitter = nanoseconds::max()}));
    EXPECT_TRUE(refuses({.tpm = 600}, {.server_timeout = nanoseconds::max()}));
    EXPECT_TRUE(refuses({.rpm = most}));
    EXPECT_TRUE(refuses({.rps = most}));
    EXPECT_TRUE(refuses({.tpm = most}));
    EXPECT_TRUE(refuses({.tps = most}));
    EXPECT_FALSE(refuses({}));
    EXPECT_FALSE(refuses({.rpm = 1, .rps = 1, .tpm = 1, .tps = 1}));
    EXPECT_FALSE(refuses({.rpm = 30'000, .rps = 500, .tpm = 10'000'000, .tps = 166'667}));
    EXPECT_FALSE(refuses({.tpm = 1}, {.jitter = 0ns, .server_timeout = 0ns}));
    EXPECT_FALSE(refuses({.rpm = 1, .tpm = 1'000'000}, {.jitter = 24h, .server_timeout = 24h}));
    EXPECT_FALSE(refuses({.rpm = 1, .tpm = 1}, {.jitter = 24h * 365, .server_timeout = 24h * 365}));
    EXPECT_TRUE(refuses({.rpm = 1, .tpm = 1}, {.jitter = 24h * 365 + 1ns}));
    EXPECT_TRUE(refuses({.rpm = 1, .tpm = 1}, {.server_timeout = 24h * 365 + 1ns}));
}

struct coarse_second {
    using duration = std::chrono::seconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<coarse_second, duration>;
    time_point now() const noexcept { return {}; }
};

TEST(quota_limiter, refuses_a_clock_too_coarse_for_a_second_where_a_second_is_limited) {
    using coarse = weir::llm::quota_limiter<coarse_second>;
    EXPECT_TRUE(coarse::validate({.rps = 1}));
    EXPECT_TRUE(coarse::validate({.tps = 1}));
    EXPECT_FALSE(coarse::validate({.rpm = 1, .tpm = 1}));
    EXPECT_THROW((coarse{quota{.rps = 1}}), std::invalid_argument);
    coarse one{quota{.rpm = 1}};
    EXPECT_TRUE(one.try_acquire(tokens{}));
    EXPECT_FALSE(one.try_acquire(tokens{}));
}

TEST(quota_limiter, keeps_the_limits_and_options_it_was_given) {
    manual_clock clock;
    quota const q{.rpm = 3, .tps = 7};
    limiter const l{q, {.jitter = 5ms, .accounting = accounting::reserve}, clock};
    EXPECT_EQ(l.limits(), q);
    EXPECT_EQ(l.options().jitter, 5ms);
    EXPECT_EQ(&l.clock(), &clock);
    auto const left = l.available();
    EXPECT_EQ(left.rpm, 3U);
    EXPECT_EQ(left.rps, std::nullopt);
    EXPECT_EQ(left.tpm, std::nullopt);
    EXPECT_EQ(left.tps, 7U);
}

TEST(quota_limiter, without_limits_grants_everything) {
    manual_clock clock;
    limiter l{{}, clock};
    for (int i = 0; i < 1000; ++i) {
        auto d = l.try_acquire(tokens{.input = most, .output = most});
        ASSERT_TRUE(d.granted());
        EXPECT_EQ(d.denied_by(), limit::none);
        EXPECT_TRUE(i % 2 == 0 ? l.settle(d, tokens{.input = most, .output = 0}) : l.refund(d));
    }
}

// ---- each limit alone, and all of them ----

TEST(quota_limiter, keeps_requests_per_minute) {
    manual_clock clock;
    limiter l{{.rpm = 3}, clock};
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(l.try_acquire(tokens{.input = 1000, .output = 1000}));
        clock.advance(1s);
    }
    auto const d = l.try_acquire(tokens{});
    EXPECT_FALSE(d);
    EXPECT_FALSE(d.never());
    EXPECT_EQ(d.denied_by(), limit::rpm);
    EXPECT_GE(d.retry_at(), at(60s));
    EXPECT_LE(d.retry_at(), at(60s + slack(60s)));
    EXPECT_EQ(d.retry_after(), d.retry_at() - clock.now());
    EXPECT_FALSE(l.check(tokens{}, d.retry_at() - 1ns));
    EXPECT_TRUE(l.try_acquire(tokens{}, d.retry_at()));
}

TEST(quota_limiter, keeps_requests_per_second) {
    manual_clock clock;
    limiter l{{.rpm = 1000, .rps = 2}, clock};
    EXPECT_TRUE(l.try_acquire(tokens{}));
    EXPECT_TRUE(l.try_acquire(tokens{}));
    auto const d = l.try_acquire(tokens{});
    EXPECT_FALSE(d);
    EXPECT_EQ(d.denied_by(), limit::rps);
    EXPECT_GE(d.retry_at(), at(1s));
    EXPECT_LE(d.retry_at(), at(1s + slack(1s)));
    EXPECT_EQ(l.available().rpm, 998U) << "a request that was denied counts nowhere";
    EXPECT_TRUE(l.try_acquire(tokens{}, d.retry_at()));
}

TEST(quota_limiter, keeps_tokens_per_minute_and_per_second) {
    for (auto const& [q, which, window] : {std::tuple{quota{.tpm = 100}, limit::tpm, nanoseconds{60s}},
                                           std::tuple{quota{.tps = 100}, limit::tps, nanoseconds{1s}}}) {
        manual_clock clock;
        limiter l{q, clock};
        auto d = l.try_acquire(tokens{.input = 40, .output = 20});
        EXPECT_TRUE(d);
        EXPECT_FALSE(l.try_acquire(tokens{.input = 21, .output = 20}));
        EXPECT_TRUE(l.try_acquire(tokens{.input = 20, .output = 20}));
        EXPECT_TRUE(l.try_acquire(tokens{})) << "a request without tokens needs none";
        clock.advance(100ms);
        EXPECT_TRUE(l.settle(d, tokens{.input = 40, .output = 5}));  // until 100 ms + window
        auto const e = l.try_acquire(tokens{.input = 36, .output = 20});
        EXPECT_FALSE(e);
        EXPECT_EQ(e.denied_by(), which);
        // At `window` 60 of input leave, 20 are held on and 5 counted: room for 75.
        time_point const then = e.retry_at();  // what it says later knows of what was taken later
        EXPECT_GE(then, at(window));
        EXPECT_LE(then, at(window + slack(window)));
        EXPECT_FALSE(l.check(tokens{.input = 36, .output = 20}, then - 1ns));
        EXPECT_TRUE(l.try_acquire(tokens{.input = 36, .output = 20}, then));
        EXPECT_FALSE(l.try_acquire(tokens{.input = 20, .output = 0}, then));
        EXPECT_TRUE(l.try_acquire(tokens{.input = 19, .output = 0}, then));
    }
}

TEST(quota_limiter, one_number_is_held_until_it_is_settled) {
    manual_clock clock;
    limiter l{{.tpm = 100}, clock};
    auto d = l.try_acquire(tokens{.output = 60});
    EXPECT_TRUE(d);
    EXPECT_EQ(d.asked(), (tokens{.input = 0, .output = 60}));
    EXPECT_FALSE(l.try_acquire(tokens{.output = 41}));
    EXPECT_TRUE(l.check(tokens{.output = 40}));
    EXPECT_TRUE(l.check(tokens{.output = 40}, clock.now()));
    clock.advance(100s);
    EXPECT_FALSE(l.try_acquire(tokens{.output = 42})) << "still in flight, but for the one that was counted at once";
    EXPECT_TRUE(l.settle(d, tokens{.output = 10}));
    EXPECT_EQ(l.available().tpm, 90U);
    clock.advance(60s + slack(60s));
    EXPECT_EQ(l.available().tpm, 100U);
}

TEST(quota_limiter, any_of_the_limits_may_be_absent_and_the_longest_wait_is_named) {
    // In turn each is exhausted longest: rps 1 s, tps held, rpm and tpm 60 s.
    for (unsigned mask = 1; mask < 16; ++mask) {
        quota q;
        if (mask & 1U) q.rpm = 2;
        if (mask & 2U) q.rps = 1;
        if (mask & 4U) q.tpm = 100;
        if (mask & 8U) q.tps = 50;
        manual_clock clock;
        limiter l{q, {.accounting = accounting::reserve}, clock};
        auto const left = l.available();
        EXPECT_EQ(left.rpm, q.rpm);
        EXPECT_EQ(left.rps, q.rps);
        EXPECT_EQ(left.tpm, q.tpm);
        EXPECT_EQ(left.tps, q.tps);
        int granted = 0;
        limit by = limit::none;
        for (int i = 0; i < 10 && by == limit::none; ++i) {
            auto const d = l.try_acquire(tokens{.input = 20, .output = 20});
            granted += d.granted();
            by = d.denied_by();
        }
        int const expected = (mask & 10U) != 0 ? 1 : 2;
        EXPECT_EQ(granted, expected) << mask;
        EXPECT_EQ(by, (mask & 2U)   ? limit::rps
                      : (mask & 8U) ? limit::tps
                      : (mask & 1U) ? limit::rpm
                                    : limit::tpm)
            << mask;
        // The second in the minute, then the third: a minute outlasts a second.
        if (expected == 1 && (mask & 5U) != 0) {
            clock.advance(1s + slack(1s));
            EXPECT_TRUE(l.try_acquire(tokens{.input = 20, .output = 20})) << mask;
            auto const d = l.try_acquire(tokens{.input = 20, .output = 20});
            EXPECT_FALSE(d);
            EXPECT_EQ(d.denied_by(), (mask & 1U) ? limit::rpm : limit::tpm) << mask;
            EXPECT_TRUE(l.try_acquire(tokens{.input = 20, .output = 20}, d.retry_at())) << mask;
        }
    }
}

// ---- never, and what is larger than a limit ----

TEST(quota_limiter, never_grants_more_than_a_limit_holds) {
    manual_clock clock;
    for (auto how : {accounting::any, accounting::actual, accounting::input_strict, accounting::reserve}) {
        limiter l{{.rpm = 1, .tpm = 100}, {.accounting = how}, clock};
        auto const d = l.try_acquire(tokens{.input = 101, .output = 0});
        EXPECT_FALSE(d);
        EXPECT_TRUE(d.never());
        EXPECT_EQ(d.retry_at(), time_point::max());
        EXPECT_EQ(d.retry_after(), std::chrono::seconds{946'728'000});
        EXPECT_EQ(d.denied_by(), limit::tpm);
        EXPECT_FALSE(d.awaits_settlement());
        EXPECT_TRUE(l.try_acquire(tokens{.input = most, .output = most}).never());
        bool const strict = how == accounting::any || how == accounting::reserve;
        EXPECT_EQ(l.check(tokens{.input = 50, .output = 51}, clock.now()).never(), strict)
            << "an output of its own need not fit where a server looks only at input";
        EXPECT_EQ(l.available().rpm, 1U);
        EXPECT_EQ(l.available().tpm, 100U);
        EXPECT_TRUE(l.try_acquire(tokens{.input = 50, .output = 50}));
    }
}

TEST(quota_limiter, admits_a_call_larger_than_a_limit_alone_for_a_whole_window) {
    for (auto how : {accounting::any, accounting::actual, accounting::input_strict, accounting::reserve}) {
        manual_clock clock;
        limiter l{{.tps = 125}, {.accounting = how, .oversize = oversize::alone}, clock};
        auto small = l.try_acquire(tokens{.input = 1, .output = 0});
        EXPECT_TRUE(small);
        auto const d = l.try_acquire(tokens{.input = 100'000, .output = 50});
        EXPECT_FALSE(d);
        EXPECT_FALSE(d.never());
        EXPECT_EQ(d.denied_by(), limit::tps);
        EXPECT_GE(d.retry_at(), at(1s));
        EXPECT_FALSE(l.check(tokens{.input = 100'000, .output = 50}, d.retry_at() - 1ns));
        clock.advance_to(d.retry_at());
        auto big = l.try_acquire(tokens{.input = 100'000, .output = 50});
        EXPECT_TRUE(big);
        EXPECT_EQ(l.available().tps, 0U);
        EXPECT_FALSE(l.try_acquire(tokens{.input = 1, .output = 0}));
        clock.advance(500ms);
        EXPECT_TRUE(l.settle(big, tokens{.input = 100'000, .output = 20}));
        clock.advance(1s);
        if (how != accounting::reserve) {
            EXPECT_FALSE(l.try_acquire(tokens{.input = 100'000, .output = 50})) << "its output counts from the reply";
        }
        clock.advance(slack(1s));
        EXPECT_EQ(l.available().tps, 125U);
        EXPECT_TRUE(l.try_acquire(tokens{.input = 100'000, .output = 50}));
    }
}

TEST(quota_limiter, a_call_above_the_limit_counts_in_full_when_the_limit_rises) {
    for (auto how : {accounting::any, accounting::actual, accounting::input_strict, accounting::reserve}) {
        manual_clock clock;
        limiter l{{.tpm = 2'000}, {.accounting = how, .oversize = oversize::alone}, clock};
        ASSERT_TRUE(l.try_acquire(tokens{.input = 500, .output = 3'000}));
        ASSERT_FALSE(l.change({.tpm = 5'000}));
        EXPECT_FALSE(l.check(tokens{.input = 1'501}));
        // By `any` its output counts as held too, until its reply is read.
        EXPECT_EQ(l.check(tokens{.input = 1'500}).granted(), how != accounting::any);
    }
}

TEST(quota_limiter, a_check_or_a_denial_at_a_later_time_changes_nothing) {
    for (auto how : {accounting::any, accounting::reserve}) {
        manual_clock clock;
        limiter l{{.rpm = 10, .tpm = 1'000}, {.accounting = how}, clock};
        for (int i = 0; i < 10; ++i) ASSERT_TRUE(l.try_acquire(tokens{.input = 1, .output = 1}));
        EXPECT_TRUE(l.check(tokens{.input = 1, .output = 1}, at(61s)));
        EXPECT_FALSE(l.try_acquire(tokens{.input = 2'000}, at(61s)));
        EXPECT_FALSE(l.try_acquire(tokens{.input = 1, .output = 1}, at(30s)));
        EXPECT_FALSE(l.try_acquire(tokens{.input = 1, .output = 1}, at(2ms)));
    }
}

// ---- settle ----

TEST(quota_limiter, settling_at_less_gives_back_what_was_not_used) {
    for (auto how : {accounting::any, accounting::actual, accounting::input_strict, accounting::reserve}) {
        manual_clock clock;
        limiter l{{.tpm = 100}, {.accounting = how}, clock};
        auto d = l.try_acquire(tokens{.input = 50, .output = 50});
        EXPECT_EQ(l.available().tpm, 0U);
        clock.advance(10s);
        EXPECT_TRUE(l.settle(d, tokens{.input = 30, .output = 10}));
        clock.advance(slack(60s));  // a count of a past segment is known of with the next
        EXPECT_EQ(l.available().tpm, 60U);
        clock.advance_to(at(60s + slack(60s)));
        EXPECT_EQ(l.available().tpm, how == accounting::reserve ? 100U : 90U);
        clock.advance_to(at(70s + slack(60s)));
        EXPECT_EQ(l.available().tpm, 100U);
    }
}

TEST(quota_limiter, a_settled_hold_is_given_back_at_once) {
    manual_clock clock;
    limiter l{{.tpm = 100}, clock};
    std::vector<limiter::decision> calls;
    for (int i = 0; i < 10; ++i) {
        calls.push_back(l.try_acquire(tokens{.input = 1, .output = 9}));
        clock.advance(7s);
    }
    EXPECT_EQ(l.available().tpm, 2U) << "two inputs have left";
    for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(l.settle(calls[static_cast<std::size_t>(i)], tokens{.input = 1, .output = 0}));
        EXPECT_EQ(l.available().tpm, 2U + 9U * static_cast<unsigned>(i + 1));
        EXPECT_TRUE(l.check(tokens{.input = 2U + 9U * static_cast<unsigned>(i + 1), .output = 0}, clock.now()));
        EXPECT_FALSE(l.check(tokens{.input = 3U + 9U * static_cast<unsigned>(i + 1), .output = 0}, clock.now()));
    }
}

TEST(quota_limiter, settling_at_more_is_debt_that_blocks_until_it_has_aged_out) {
    for (auto how : {accounting::any, accounting::actual, accounting::input_strict, accounting::reserve}) {
        manual_clock clock;
        limiter l{{.tpm = 100}, {.accounting = how}, clock};
        auto d = l.try_acquire(tokens{.input = 20, .output = 20});
        clock.advance(30s);
        EXPECT_TRUE(l.settle(d, tokens{.input = 120, .output = 200}));
        EXPECT_EQ(l.available().tpm, 0U);
        auto const e = l.try_acquire(tokens{.input = 1, .output = 0});
        EXPECT_FALSE(e);
        EXPECT_FALSE(e.never());
        EXPECT_GE(e.retry_at(), at(90s));
        EXPECT_LE(e.retry_at(), at(90s + slack(60s)));
        clock.advance_to(e.retry_at());
        EXPECT_EQ(l.available().tpm, 100U);
    }
}

TEST(quota_limiter, debt_beyond_all_bounds_saturates_and_ages_out) {
    manual_clock clock;
    limiter l{{.tpm = 100, .tps = 100}, {.oversize = oversize::alone}, clock};
    for (int i = 0; i < 3; ++i) {
        auto d = l.try_acquire(tokens{.input = most, .output = most});
        ASSERT_TRUE(d) << i;
        EXPECT_TRUE(l.settle(d, tokens{.input = most, .output = most}));
        EXPECT_FALSE(l.try_acquire(tokens{.input = 1, .output = 1}));
        clock.advance(60s + slack(60s));
        EXPECT_EQ(l.available().tpm, 100U);
        EXPECT_EQ(l.available().tps, 100U);
    }
}

TEST(quota_limiter, use_by_others_is_booked_like_a_call_and_given_back_in_part_or_whole) {
    manual_clock clock;
    limiter l{{.rpm = 10, .tpm = 1000, .tps = 500}, clock};
    auto own = l.try_acquire({.input = 10, .output = 20}, at(0s));
    ASSERT_TRUE(own.granted());
    EXPECT_EQ(l.used(at(0s)), (quota{.rpm = 1, .tpm = 30, .tps = 30}));
    auto theirs = l.charge({.rpm = 9, .rps = 5, .tpm = 300}, at(0s));
    EXPECT_EQ(l.used(at(0s)), (quota{.rpm = 10, .tpm = 330, .tps = 30}));
    EXPECT_FALSE(l.try_acquire({.input = 1, .output = 0}, at(0s)).granted());
    EXPECT_TRUE(l.refund(theirs, quota{.rpm = 4, .tpm = 100}));
    EXPECT_EQ(l.used(at(0s)), (quota{.rpm = 6, .tpm = 230, .tps = 30}));
    // No more than is left of it.
    EXPECT_TRUE(l.refund(theirs, quota{.rpm = 7}));
    EXPECT_EQ(l.used(at(0s)), (quota{.rpm = 1, .tpm = 230, .tps = 30}));
    EXPECT_TRUE(l.refund(theirs));
    EXPECT_EQ(l.used(at(0s)), (quota{.rpm = 1, .tpm = 30, .tps = 30}));
    EXPECT_FALSE(l.refund(theirs, quota{.rpm = 1}));
    EXPECT_FALSE(l.refund(theirs));

    // More than the limit is counted as such, and ages out with its window.
    auto flood = l.charge({.rpm = 50}, at(1s));
    EXPECT_EQ(l.used(at(1s)).rpm, 51U);
    EXPECT_EQ(l.available(at(1s)).rpm, 0U);
    limiter other{{.rpm = 10}, clock};
    EXPECT_FALSE(other.refund(flood, quota{.rpm = 5}));
    EXPECT_EQ(l.used(at(62s)).rpm, 0U);
}

TEST(quota_limiter, settles_or_refunds_once) {
    manual_clock clock;
    limiter l{{.rpm = 10, .tpm = 100}, clock};
    limiter other{{.rpm = 10, .tpm = 100}, clock};
    auto first = l.try_acquire(tokens{.input = 10, .output = 10});
    auto second = l.try_acquire(tokens{.input = 10, .output = 10});
    EXPECT_FALSE(other.settle(first, tokens{})) << "another limiter's";
    EXPECT_FALSE(other.refund(first));
    EXPECT_EQ(l.available().tpm, 60U);
    EXPECT_EQ(other.available().tpm, 100U);

    EXPECT_TRUE(l.settle(first, tokens{.input = 10, .output = 0}));
    EXPECT_FALSE(l.settle(first, tokens{}));
    EXPECT_FALSE(l.settle(first, tokens{.input = 100, .output = 100}));
    EXPECT_FALSE(l.refund(first));
    EXPECT_EQ(l.available().tpm, 70U);
    EXPECT_EQ(l.available().rpm, 8U);

    auto moved = std::move(second);
    EXPECT_FALSE(l.refund(second)) << "moved from";
    EXPECT_FALSE(l.settle(second, tokens{}));
    EXPECT_TRUE(l.refund(moved));
    EXPECT_FALSE(l.refund(moved));
    EXPECT_FALSE(l.settle(moved, tokens{.input = 50, .output = 50}));
    EXPECT_EQ(l.available().tpm, 90U);
    EXPECT_EQ(l.available().rpm, 9U);

    auto third = l.try_acquire(tokens{.input = 10, .output = 10});
    moved = std::move(third);
    EXPECT_TRUE(l.refund(moved)) << "moved into";

    auto denied = l.try_acquire(tokens{.input = 100, .output = 0});
    EXPECT_FALSE(l.settle(denied, tokens{.input = 5, .output = 5})) << "nothing was granted";
    EXPECT_FALSE(l.refund(denied));
    auto checked = l.check(tokens{.input = 1, .output = 1}, clock.now());
    EXPECT_TRUE(checked);
    EXPECT_FALSE(l.refund(checked)) << "a check took nothing";
    EXPECT_EQ(l.available().tpm, 90U);
    EXPECT_EQ(l.available().rpm, 9U);
}

TEST(quota_limiter, a_refund_gives_back_exactly_all) {
    for (auto how : {accounting::any, accounting::actual, accounting::input_strict, accounting::reserve}) {
        manual_clock clock;
        limiter l{
            {.rpm = 5, .rps = 5, .tpm = 100, .tps = 100}, {.accounting = how, .oversize = oversize::alone}, clock};
        for (tokens const n : {tokens{.input = 10, .output = 20}, tokens{.input = 0, .output = 20},
                               tokens{.input = 20, .output = 0}, tokens{}, tokens{.input = 500, .output = 500}}) {
            auto kept = l.try_acquire(tokens{});
            ASSERT_TRUE(kept);
            auto d = l.try_acquire(n);
            ASSERT_TRUE(d);
            clock.advance(200ms);
            EXPECT_TRUE(l.refund(d));
            clock.advance(slack(60s));
            EXPECT_EQ(l.available().rpm, 4U);
            EXPECT_EQ(l.available().rps, 4U);
            EXPECT_EQ(l.available().tpm, 100U);
            EXPECT_EQ(l.available().tps, 100U);
            EXPECT_TRUE(l.refund(kept));
            clock.advance(slack(60s));
        }
    }
}

// ---- holds that nobody ends ----

TEST(quota_limiter, a_hold_ends_by_itself_when_the_server_must_have_given_up) {
    for (auto how : {accounting::any, accounting::actual, accounting::input_strict}) {
        manual_clock clock;
        limiter l{{.tpm = 100}, {.jitter = 1s, .server_timeout = 100s, .accounting = how}, clock};
        EXPECT_TRUE(l.try_acquire(tokens{.input = 30, .output = 60})) << "and its decision is dropped";
        nanoseconds const end = 60s + 1s + 100s;
        clock.advance_to(at(61s + slack(61s)));
        EXPECT_EQ(l.available().tpm, 40U) << "the input has left, the output is held";
        auto const d = l.try_acquire(tokens{.input = 41, .output = 0});
        EXPECT_FALSE(d);
        EXPECT_TRUE(d.awaits_settlement());
        EXPECT_GE(d.retry_at(), at(end));
        EXPECT_LE(d.retry_at(), at(end + end / 250 + 1ns));
        EXPECT_FALSE(l.check(tokens{.input = 41, .output = 0}, at(end - 1ns)));
        EXPECT_FALSE(l.check(tokens{.input = 41, .output = 0}, d.retry_at() - 1ns));
        EXPECT_TRUE(l.check(tokens{.input = 41, .output = 0}, d.retry_at()));
        EXPECT_TRUE(l.try_acquire(tokens{.input = 100, .output = 0}, d.retry_at()));
    }
}

TEST(quota_limiter, says_whether_a_settle_may_help) {
    manual_clock clock;
    limiter l{{.rpm = 2, .tpm = 100}, clock};
    auto d = l.try_acquire(tokens{.input = 10, .output = 80});
    EXPECT_FALSE(d.awaits_settlement());
    EXPECT_TRUE(l.try_acquire(tokens{.input = 20, .output = 20}).awaits_settlement());
    EXPECT_TRUE(l.try_acquire(tokens{.input = 1, .output = 0}));
    EXPECT_FALSE(l.try_acquire(tokens{.input = 1, .output = 0}).awaits_settlement()) << "it waits for requests";
    EXPECT_TRUE(l.settle(d, tokens{.input = 10, .output = 80}));
    EXPECT_FALSE(l.try_acquire(tokens{.input = 20, .output = 20}).awaits_settlement())
        << "nothing is in flight that holds tokens";
}

TEST(quota_limiter, where_the_server_reserves_a_settle_may_help_a_call_that_waits) {
    manual_clock clock;
    limiter l{{.rpm = 2, .tpm = 100}, {.accounting = accounting::reserve}, clock};
    EXPECT_TRUE(l.try_acquire(tokens{.input = 10, .output = 80}));
    EXPECT_TRUE(l.try_acquire(tokens{.input = 20, .output = 20}).awaits_settlement());
    EXPECT_FALSE(l.try_acquire(tokens{.input = 101, .output = 0}).awaits_settlement());
    EXPECT_TRUE(l.try_acquire(tokens{.input = 1, .output = 0}));
    EXPECT_FALSE(l.try_acquire(tokens{.input = 1, .output = 0}).awaits_settlement()) << "it waits for requests";
}

// ---- the start ----

TEST(quota_limiter, starts_empty_full_or_full_and_in_flight) {
    for (auto start : {quota_start::empty, quota_start::full, quota_start::full_in_flight}) {
        manual_clock clock{at(77s)};
        limiter l{{.rpm = 4, .rps = 2, .tpm = 100, .tps = 100},
                  {.jitter = 500ms, .server_timeout = 40s, .start = start},
                  clock};
        bool const full = start != quota_start::empty;
        EXPECT_EQ(l.available().rpm, full ? 0U : 4U);
        EXPECT_EQ(l.available().rps, full ? 0U : 2U);
        EXPECT_EQ(l.available().tpm, full ? 0U : 100U);
        EXPECT_EQ(l.available().tps, full ? 0U : 100U);
        auto const d = l.try_acquire(tokens{.input = 1, .output = 0});
        EXPECT_EQ(d.granted(), !full);
        if (!full) continue;
        bool const in_flight = start == quota_start::full_in_flight;
        nanoseconds const end = in_flight ? 100s + 500ms : 60s + 500ms;
        EXPECT_GE(d.retry_at() - clock.now(), end);
        EXPECT_LE(d.retry_at() - clock.now(), end + end / 250 + 1ns);
        EXPECT_EQ(d.denied_by(), in_flight ? limit::tpm : limit::rpm);
        EXPECT_FALSE(l.check(tokens{.input = 1, .output = 0}, d.retry_at() - 1ns));
        clock.advance_to(d.retry_at());
        EXPECT_EQ(l.available().tpm, 100U);
        EXPECT_TRUE(l.try_acquire(tokens{.input = 50, .output = 50}));
    }
}

TEST(quota_limiter, calls_without_tokens_need_not_wait_for_those_in_flight) {
    manual_clock clock;
    limiter l{{.rpm = 4, .tpm = 100}, {.start = quota_start::full_in_flight}, clock};
    EXPECT_TRUE(l.try_acquire(tokens{}, at(60s + slack(60s))));
    EXPECT_FALSE(l.try_acquire(tokens{.input = 1, .output = 0}, at(60s + slack(60s))));
}

TEST(quota_limiter, restores_calls_of_an_earlier_run) {
    manual_clock clock{at(100s)};
    limiter l{{.rpm = 10, .rps = 5, .tpm = 1000}, {.server_timeout = 100s}, clock};
    past_call const past[] = {
        {at(30s), {.input = 500, .output = 500}, at(39s)},   // has left
        {at(50s), {.input = 100, .output = 50}, at(60s)},    // its input leaves at 110 s, its output at 120 s
        {at(99s + 500ms), {.input = 20, .output = 80}, {}},  // in flight: held until 259.5 s
        {at(95s), {.input = 10, .output = 0}, at(100s)},
    };
    l.restore(past);
    EXPECT_EQ(l.available().rpm, 7U);
    EXPECT_EQ(l.available().rps, 4U);
    EXPECT_EQ(l.available().tpm, 1000U - 150 - 100 - 10);
    EXPECT_EQ(l.available(at(109s + 999ms)).tpm, 740U);
    EXPECT_EQ(l.available(at(110s + slack(60s))).tpm, 840U);
    EXPECT_EQ(l.available(at(119s + 999ms)).tpm, 840U);
    EXPECT_EQ(l.available(at(120s + slack(60s))).tpm, 890U);
    EXPECT_EQ(l.available(at(160s)).tpm, 920U);
    EXPECT_EQ(l.available(at(259s + 499ms)).tpm, 920U);
    EXPECT_EQ(l.available(at(259s + 500ms + 2 * 640ms)).tpm, 1000U);
}

TEST(quota_limiter, restored_calls_count_as_if_they_had_been_made_here) {
    // The same calls made, and restored into another limiter: neither ever has more left than an exact log, both less a
    // segment.
    std::mt19937_64 random{20};
    for (int round = 0; round < 200; ++round) {
        manual_clock clock;
        quota const q{.rpm = 100, .tpm = 10'000};
        auto const how = static_cast<accounting>(random() % 4);
        quota_options const o{.jitter = 200ms, .server_timeout = 30s, .accounting = how};
        limiter made{q, o, clock};
        std::vector<past_call> past;
        for (int i = 0; i < 20; ++i) {
            clock.advance(nanoseconds{static_cast<std::int64_t>(random() % 8'000'000'000)});
            tokens const n{.input = random() % 100 + 1, .output = random() % 100 + 1};
            auto d = made.try_acquire(n);
            ASSERT_TRUE(d);
            past_call c{clock.now(), n, {}};
            if (random() % 2 == 0) {
                clock.advance(nanoseconds{static_cast<std::int64_t>(random() % 1'000'000'000)});
                c.finished = clock.now();
                c.charge.output = random() % (n.output + 1);
                ASSERT_TRUE(made.settle(d, c.charge));
            }
            past.push_back(c);
        }
        std::shuffle(past.begin(), past.end(), random);
        limiter again{q, o, clock};
        again.restore(past);
        for (int i = 0; i < 120; ++i) {
            // Restored stamps lie in segments of another origin: within one of either.
            time_point const t = clock.now() + i * 1s;
            auto const spare = [&](limiter const& l, time_point when) { return *l.available(when).tpm; };
            EXPECT_LE(spare(again, t), spare(made, t + 400ms)) << round << ' ' << i;
            EXPECT_LE(spare(made, t), spare(again, t + 400ms)) << round << ' ' << i;
            EXPECT_LE(*again.available(t).rpm, *made.available(t + 130ms).rpm) << round << ' ' << i;
            EXPECT_LE(*made.available(t).rpm, *again.available(t + 130ms).rpm) << round << ' ' << i;
        }
    }
}

// ---- a change of quota in use ----

TEST(quota_limiter, changes_limits_in_use_and_keeps_what_was_charged) {
    manual_clock clock;
    limiter l{{.rpm = 4, .tpm = 100}, clock};
    auto d = l.try_acquire(tokens{.input = 40, .output = 20});
    EXPECT_FALSE(l.change({.rpm = 2, .tpm = 50}));
    EXPECT_EQ(l.limits(), (quota{.rpm = 2, .tpm = 50}));
    EXPECT_EQ(l.available().rpm, 1U);
    EXPECT_EQ(l.available().tpm, 0U);
    EXPECT_FALSE(l.try_acquire(tokens{.input = 1, .output = 0}));
    EXPECT_TRUE(l.try_acquire(tokens{.input = 51, .output = 0}).never());
    EXPECT_TRUE(l.settle(d, tokens{.input = 40, .output = 0}));
    EXPECT_EQ(l.available().tpm, 10U);
    EXPECT_TRUE(l.try_acquire(tokens{.input = 5, .output = 5}));
    EXPECT_FALSE(l.change({.rpm = 8, .tpm = 400}));
    EXPECT_EQ(l.available().rpm, 6U);
    EXPECT_EQ(l.available().tpm, 350U);
    EXPECT_TRUE(l.try_acquire(tokens{.input = 100, .output = 250}));
}

TEST(quota_limiter, refuses_a_change_of_what_is_limited_and_changes_nothing_then) {
    manual_clock clock;
    quota const q{.rpm = 4, .tpm = 100};
    limiter l{q, clock};
    EXPECT_TRUE(l.change({}));
    EXPECT_TRUE(l.change({.rpm = 4}));
    EXPECT_TRUE(l.change({.rpm = 5, .rps = 1, .tpm = 100}));
    EXPECT_TRUE(l.change({.rpm = 5, .tpm = 0}));
    EXPECT_TRUE(l.change({.rpm = 5, .tpm = most}));
    EXPECT_TRUE(l.change({.rpm = most, .tpm = 50}));
    EXPECT_EQ(l.limits(), q);
}

TEST(quota_limiter, a_change_that_was_refused_as_busy_is_accepted_later) {
    manual_clock clock;
    limiter l{{.rps = 4, .tpm = 100}, clock};
    bool busy = false;
    for (std::uint64_t i = 1; i < 20; ++i) busy |= static_cast<bool>(l.change({.rps = i, .tpm = 100 * i}));
    EXPECT_TRUE(busy);
    clock.advance(slack(60s));
    EXPECT_FALSE(l.change({.rps = 9, .tpm = 900}));
    EXPECT_EQ(l.limits(), (quota{.rps = 9, .tpm = 900}));
}

// ---- the margin ----

TEST(quota_limiter, only_with_the_margin_no_window_of_the_server_exceeds_the_limit) {
    struct row {
        quota limits;
        nanoseconds window, jitter;
        tokens each;
        std::uint64_t limit;
    };
    constexpr row rows[] = {{{.rps = 10}, 1s, 10ms, {}, 10},
                            {{.rps = 1}, 1s, 5ms, {}, 1},
                            {{.rps = 10}, 1s, 2s, {}, 10},
                            {{.rpm = 60}, 60s, 500ms, {}, 60},
                            {{.tpm = 1000}, 60s, 1s, {.input = 7}, 1000},
                            {{.tps = 100}, 1s, 30ms, {.input = 9}, 100}};
    for (auto const& r : rows) {
        for (bool const margin : {true, false}) {
            std::uint64_t greatest = 0;
            for (std::uint64_t seed = 1; seed <= 5; ++seed) {
                std::mt19937_64 random{seed};
                manual_clock clock;
                limiter l{r.limits, {.jitter = margin ? r.jitter : 0ns}, clock};
                std::vector<exact_log::grant> arrivals;
                while (arrivals.size() < 4000) {
                    auto const d = l.try_acquire(r.each);
                    if (!d) {
                        clock.advance_to(d.retry_at());
                        continue;
                    }
                    auto const range = static_cast<std::uint64_t>(r.jitter.count());
                    std::uint64_t const delay = random() % 3 == 0   ? 0
                                                : random() % 2 == 0 ? range
                                                                    : random() % (range + 1);
                    arrivals.push_back(
                        {clock.now().time_since_epoch().count() + 123'456'789 + static_cast<std::int64_t>(delay),
                         r.each.total() == 0 ? 1 : r.each.total()});
                    if (random() % 16 == 0)
                        clock.advance(nanoseconds{static_cast<std::int64_t>(random() % (range + 1))});
                }
                greatest = std::max(greatest, exact_log::peak(std::move(arrivals), r.window.count()));
            }
            if (margin) {
                EXPECT_LE(greatest, r.limit) << r.limit << " in " << r.window.count();
            } else {
                EXPECT_GT(greatest, r.limit) << r.limit << " in " << r.window.count();
            }
        }
    }
}

// ---- threads ----

using hammered = limiter_of<hammer::counting_atomics>;

struct granted_call {
    std::int64_t before, after;  // its effective time lies between
    tokens asked, used;
    std::int64_t settling = std::numeric_limits<std::int64_t>::max();  // not before this
    bool refunded = false;
};

struct load {
    quota limits;
    quota_options options;
    std::int64_t tick;  // by how much the time moves on with each attempt
    int attempts;
    std::uint64_t input = 20;  // at most
};
constexpr std::size_t hammering = 4;  // threads

std::vector<granted_call> run(load const& h, hammered& l, std::uint64_t seed) {
    std::atomic<std::int64_t> time{0};
    std::vector<std::vector<granted_call>> all(hammering);
    hammer::on_threads(hammering, seed, [&](std::size_t id, auto& random) {
        std::vector<std::pair<std::size_t, hammered::decision>> open;
        auto& mine = all[id];
        for (int i = 0; i < h.attempts; ++i) {
            tokens const n{.input = 1 + random() % h.input, .output = random() % 40};
            std::int64_t const t = time.fetch_add(h.tick);
            auto d = l.try_acquire(n, time_point{nanoseconds{t}});
            if (d) {
                mine.push_back({t, time.load(), n, n});
                open.emplace_back(mine.size() - 1, std::move(d));
            }
            while (open.size() > 4 || (!open.empty() && random() % 3 == 0)) {
                auto const which = static_cast<std::ptrdiff_t>(random() % open.size());
                auto& [index, receipt] = open[static_cast<std::size_t>(which)];
                auto& c = mine[index];
                std::int64_t const now = time.load();
                c.settling = now;
                if (random() % 8 == 0) {
                    c.refunded = true;
                    EXPECT_TRUE(l.refund(receipt));
                } else {
                    c.used = {.input = n.input == 0 ? 0 : c.asked.input - random() % (c.asked.input + 1),
                              .output = random() % (c.asked.output + 1)};
                    EXPECT_TRUE(l.settle(receipt, c.used, time_point{nanoseconds{now}}));
                }
                open.erase(open.begin() + which);
            }
        }
        for (auto& [index, receipt] : open) {
            mine[index].settling = time.load();
            mine[index].refunded = true;
            EXPECT_TRUE(l.refund(receipt));
        }
    });
    std::vector<granted_call> calls;
    for (auto& c : all) calls.insert(calls.end(), c.begin(), c.end());
    std::sort(calls.begin(), calls.end(), [](auto const& a, auto const& b) { return a.before < b.before; });
    return calls;
}

void check_promise(load const& h, std::vector<granted_call> const& calls) {
    // Requests that were kept, in any window that certainly holds their effective times.
    std::vector<exact_log::span> kept;
    for (auto const& c : calls) {
        if (!c.refunded) kept.push_back({c.before, c.after, 1});
    }
    auto const requests = [&](std::uint64_t limit_of, nanoseconds w) {
        ASSERT_LE(exact_log::certain_peak(kept, (w + h.options.jitter).count()), limit_of);
    };
    if (h.limits.rpm) requests(*h.limits.rpm, 60s);
    if (h.limits.rps) requests(*h.limits.rps, 1s);
    // Tokens: what each call certainly charged when a later one was granted.
    auto const sums = [&](std::uint64_t limit_of, nanoseconds w) {
        std::int64_t const window = (w + h.options.jitter).count();
        bool const reserve = h.options.accounting == accounting::reserve;
        for (std::size_t j = 0; j < calls.size(); ++j) {
            auto const& last = calls[j];
            std::uint64_t n = last.asked.total();
            for (std::size_t i = j; i-- > 0 && calls[i].before > last.before - 3 * window;) {
                auto const& c = calls[i];
                if (c.after > last.before || c.refunded) continue;  // not certainly before it
                bool const in_window = c.before + window > last.after;
                if (c.settling > last.after) {
                    n += in_window ? c.asked.total() : reserve ? 0 : c.asked.output.value();
                } else {
                    n += in_window ? c.used.input.value() + (reserve ? c.used.output.value() : 0) : 0;
                    n += !reserve && c.settling + window > last.after ? c.used.output.value() : 0;
                }
            }
            ASSERT_LE(n, limit_of) << "at " << last.before;
        }
    };
    if (h.limits.tpm) sums(*h.limits.tpm, 60s);
    if (h.limits.tps) sums(*h.limits.tps, 1s);
}

void hammer_and_check(load const& h) {
    std::size_t granted = 0;
    hammer::until_collided(3, [&](std::uint64_t seed) {
        manual_clock clock;
        hammered l{h.limits, h.options, clock};
        auto const calls = run(h, l, seed);
        granted += calls.size();
        check_promise(h, calls);
        if (::testing::Test::HasFatalFailure()) return;
        // Everything has been settled or refunded: when it has aged out nothing is left, and what was rolled back never
        // was.
        std::int64_t const threads = hammering;
        std::int64_t const end = h.tick * h.attempts * threads + (60s + h.options.jitter).count() * 2;
        auto const left = l.available(time_point{nanoseconds{end}});
        EXPECT_EQ(left.rpm, h.limits.rpm);
        EXPECT_EQ(left.rps, h.limits.rps);
        EXPECT_EQ(left.tpm, h.limits.tpm);
        EXPECT_EQ(left.tps, h.limits.tps);
    });
    EXPECT_GT(granted, 100U);
}

TEST(quota_limiter, keeps_every_limit_under_threads) {
    hammer_and_check({{.rpm = 100, .rps = 20, .tpm = 2000, .tps = 400}, {.jitter = 20ms}, 20'000'000, 1500});
}
TEST(quota_limiter, keeps_a_token_limit_under_threads) {
    hammer_and_check({{.tpm = 1000}, {.jitter = 1s}, 100'000'000, 1500});
}
TEST(quota_limiter, keeps_a_token_limit_under_threads_where_the_server_reserves) {
    hammer_and_check({{.rpm = 50, .tpm = 1000}, {.accounting = accounting::reserve}, 100'000'000, 1500});
}
TEST(quota_limiter, threads_keep_a_token_limit_though_the_count_returns_to_old_values) {
    // Inputs of 1, many of them given back: the word that is exchanged is often as it was, and the holds next to it
    // are not.
    hammer_and_check({{.tpm = 120}, {}, 300'000'000, 4000, 1});
}
TEST(quota_limiter, keeps_seconds_under_threads) {
    hammer_and_check({{.rps = 10, .tps = 300}, {.jitter = 10ms}, 1'000'000, 1500});
}

TEST(quota_limiter, what_is_rolled_back_under_threads_leaves_nothing) {
    // The first limits have room and the last seldom has, so that most attempts that lose a race are rolled back; all
    // that is granted is refunded. One segment later nothing may be missing, without a window's having passed.
    for (auto how : {accounting::any, accounting::reserve}) {
        hammer::until_collided(20, [&](std::uint64_t seed) {
            manual_clock clock;
            quota const q{.rpm = 1000, .rps = 1000, .tpm = 10'000, .tps = 50};
            hammered l{q, {.accounting = how}, clock};
            hammer::on_threads(4, seed, [&](std::size_t id, auto& random) {
                for (int i = 0; i < 500; ++i) {
                    auto d = l.try_acquire(tokens{.input = 1 + random() % 15, .output = random() % 15});
                    if (id == 0 && i % 8 == 0) clock.advance(300us);
                    EXPECT_EQ(l.refund(d), d.granted());
                }
            });
            clock.advance(slack(60s));
            auto const left = l.available();
            EXPECT_EQ(left.rpm, q.rpm);
            EXPECT_EQ(left.rps, q.rps);
            EXPECT_EQ(left.tpm, q.tpm);
            EXPECT_EQ(left.tps, q.tps);
        });
    }
}

TEST(quota_limiter, changes_of_quota_under_threads_lose_nothing) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        manual_clock clock;
        hammered l{{.rpm = 40, .tpm = 400}, clock};
        std::atomic<int> running{3};
        std::atomic<std::uint64_t> granted{0};
        hammer::on_threads(4, seed, [&](std::size_t id, auto& random) {
            if (id == 0) {
                for (int i = 0; running.load() != 0; ++i) {
                    (void)l.change(i % 2 == 0 ? quota{.rpm = 20, .tpm = 200} : quota{.rpm = 40, .tpm = 400});
                }
                return;
            }
            for (int i = 0; i < 3000; ++i) {
                auto d = l.try_acquire(tokens{.input = 1 + random() % 20, .output = random() % 20});
                if (!d) {
                    clock.advance(5ms);
                    continue;
                }
                granted.fetch_add(1);
                EXPECT_TRUE(random() % 2 == 0 ? l.refund(d) : l.settle(d, tokens{.input = 1, .output = 1}));
            }
            running.fetch_sub(1);
        });
        EXPECT_GE(granted.load(), 20U) << "the lower limit, which may be in force all the time";
        clock.advance(130s);
        while (l.change({.rpm = 40, .tpm = 400})) clock.advance(60ms);
        EXPECT_EQ(l.available().rpm, 40U);
        EXPECT_EQ(l.available().tpm, 400U);
    });
}

// ---- another thread's whole deed before any one exchange ----

TEST(quota_limiter, an_attempt_that_is_overtaken_anywhere_is_granted_or_leaves_nothing) {
    using interrupted = limiter_of<interrupted_exchanges>;
    quota const q{.rpm = 10, .rps = 5, .tpm = 100, .tps = 80};
    int overtaken = 0, rolled_back = 0;
    for (auto how : {accounting::any, accounting::actual, accounting::reserve}) {
        for (nanoseconds const later : {nanoseconds{0}, nanoseconds{2ms}, nanoseconds{700ms}, nanoseconds{61s}}) {
            for (tokens const rival : {tokens{.input = 40, .output = 0}, tokens{.input = 10, .output = 30},
                                       tokens{.input = 1, .output = 39}, tokens{}}) {
                for (int k = 0;; ++k) {
                    manual_clock clock;
                    auto const owner = std::make_unique<interrupted>(q, quota_options{.accounting = how}, clock);
                    auto& l = *owner;
                    auto held = l.try_acquire(tokens{.input = 5, .output = 15});
                    ASSERT_TRUE(held);
                    clock.advance(1ms);
                    bool happened = false;
                    std::uint64_t taken = 0, requests = 0;
                    int left_until = k;
                    interrupted_exchanges::interrupt = [&] {
                        if (happened || left_until-- != 0) return;
                        happened = true;
                        clock.advance(later);
                        while (auto d = l.try_acquire(rival)) {
                            taken += rival.total();
                            if (++requests == 4) break;
                        }
                        EXPECT_TRUE(l.settle(held, tokens{.input = 5, .output = 15}));
                    };
                    tokens const mine{.input = 10, .output = 30};
                    auto d = l.try_acquire(mine);
                    interrupted_exchanges::interrupt = nullptr;
                    if (!happened) break;
                    ++overtaken;
                    rolled_back += d ? 0 : 1;
                    std::uint64_t const sum = taken + (d ? mine.total() : 0);
                    std::uint64_t const calls = requests + (d ? 1 : 0);
                    clock.advance(slack(60s));
                    auto const left = l.available();
                    if (later > 60s) {
                        // What this attempt charged before it stood still may have left by now.
                        EXPECT_GE(*left.rpm, 10 - calls) << k;
                        EXPECT_GE(*left.tpm + 15, 100 - sum) << k;
                        continue;
                    }
                    EXPECT_LE(calls, 4U) << k;
                    EXPECT_LE(sum, how == accounting::actual ? 90U : 60U) << k;
                    EXPECT_EQ(*left.rpm, 9 - calls) << k;
                    EXPECT_EQ(*left.tpm, 80 - std::min<std::uint64_t>(80, sum)) << k;
                    EXPECT_EQ(l.refund(d), d.granted());
                }
            }
        }
    }
    EXPECT_GT(overtaken, 100);
    EXPECT_GT(rolled_back, 30);
}

// ---- the counter's verb that holds rest on ----

TEST(quota_limiter, holds_given_back_at_once_are_never_given_back_twice) {
    // A counter of holds only: some charge and give back, one moves the time on. What is live at a moment is
    // never more than used() says, and in the end both are nothing.
    using counter = weir::sliding_window_counter<manual_clock&, hammer::counting_atomics>;
    hammer::until_collided(30, [](std::uint64_t seed) {
        manual_clock clock;
        counter c{1000, 1ms, {.segments = 10}, clock};
        std::atomic<std::int64_t> live{0};
        hammer::on_threads(3, seed, [&](std::size_t id, auto& random) {
            std::vector<std::pair<counter::receipt, std::int64_t>> held;
            for (int i = 0; i < 3000; ++i) {
                std::int64_t const now = clock.now().time_since_epoch().count();
                if (random() % 2 == 0 || held.empty()) {
                    held.emplace_back(c.charge(1 + random() % 5, time_point{nanoseconds{now}}).receipt, now);
                    live.fetch_add(static_cast<std::int64_t>(held.back().first.live()));
                } else {
                    auto const which = static_cast<std::ptrdiff_t>(random() % held.size());
                    auto& [receipt, since] = held[static_cast<std::size_t>(which)];
                    live.fetch_sub(static_cast<std::int64_t>(receipt.live()));
                    c.refund_visible(receipt);
                    EXPECT_EQ(receipt.live(), 0U);
                    held.erase(held.begin() + which);
                }
                if (id == 0 && random() % 16 == 0)
                    clock.advance(nanoseconds{static_cast<std::int64_t>(random() % 60'000)});
                // None of this thread's that is younger than the window may be missing, by a clock read last: another
                // may move it on.
                std::uint64_t const used = c.used();
                std::uint64_t mine = 0;
                std::int64_t const later = clock.now().time_since_epoch().count();
                for (auto const& [receipt, since] : held) mine += since + 1'000'000 > later ? receipt.live() : 0;
                ASSERT_LE(mine, used);
            }
            for (auto& [receipt, since] : held) {
                live.fetch_sub(static_cast<std::int64_t>(receipt.live()));
                c.refund_visible(receipt);
            }
        });
        EXPECT_EQ(live.load(), 0);
        clock.advance(100us);  // a refund that meets the beginning of a segment is known of with the next
        EXPECT_EQ(c.used(), 0U);
        EXPECT_TRUE(c.try_acquire(1000));
    });
}

TEST(quota_limiter, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    limiter l{{.rpm = 9, .rps = 9, .tpm = 3, .tps = 3}, clock};
    moved::is_the_same_decision(l, clock, 1ms, [&](std::uint64_t n) { return l.try_acquire(tokens{.output = n}); });
}

TEST(quota_limiter, has_these_defaults) {
    constexpr quota_options o;
    static_assert(o.jitter == 0ns && o.server_timeout == 5min && o.accounting == accounting::any &&
                  o.oversize == weir::llm::oversize::refuse && o.start == weir::llm::quota_start::empty);
}

}  // namespace
