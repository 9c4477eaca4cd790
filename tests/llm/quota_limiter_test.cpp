// SPDX-License-Identifier: MIT
#include <weir/llm/quota_limiter.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <type_traits>
#include <utility>

#include <weir/clock/manual_clock.hpp>

#include "../support/move_semantics.hpp"

namespace quota_limiter_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::llm::accounting;
using weir::llm::limit;
using weir::llm::oversize;
using weir::llm::quota;
using weir::llm::quota_options;
using weir::llm::tokens;

using limiter = weir::llm::quota_limiter<manual_clock&>;
using time_point = manual_clock::time_point;

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
    EXPECT_TRUE(refuses({.rpm = -1}));
    EXPECT_TRUE(refuses({.rpm = 600, .tps = -600}));
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

TEST(quota_limiter, has_these_defaults) {
    constexpr quota_options o;
    static_assert(o.jitter == 0ns && o.server_timeout == 5min && o.accounting == accounting::any &&
                  o.oversize == weir::llm::oversize::refuse && o.start == weir::llm::quota_start::empty);
}

TEST(quota_limiter, counts_segments_from_the_origin_that_it_is_given) {
    manual_clock clock;
    limiter l{quota{.rps = 1}, quota_options{}, at(400us), clock};
    weir::llm::quota_limiter deduced{quota{.rps = 1}, quota_options{}, at(400us), std::ref(clock)};
    static_assert(std::is_same_v<decltype(deduced), limiter>);
    EXPECT_TRUE(l.try_acquire(tokens{}, at(500us)));
    EXPECT_EQ(l.try_acquire(tokens{}, at(500us)).retry_at(), at(400us + 1001ms));
    EXPECT_TRUE(limiter::make({.rps = 1}, {}, at(400us), clock));
}

TEST(quota_limiter, without_limits_grants_everything) {
    manual_clock clock;
    limiter l{{}, clock};
    for (int i = 0; i < 1000; ++i) {
        auto d = l.try_acquire(tokens{.input = most, .output = most});
        ASSERT_TRUE(d.granted());
        EXPECT_EQ(d.denied_by(), limit::none);
        EXPECT_TRUE(i % 2 == 0 ? l.settle(d, tokens{.input = most, .output = 0}) : l.refund(d) != tokens{});
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

// ---- looks and denials change nothing; decisions are snapshots ----

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

TEST(quota_limiter, a_decision_does_not_change_when_the_limiter_does) {
    for (auto how : {accounting::any, accounting::reserve}) {
        manual_clock clock;
        limiter l{{.rpm = 3, .tpm = 100}, {.accounting = how}, clock};
        auto first = l.try_acquire(tokens{.input = 30, .output = 10});
        clock.advance(10s);
        auto second = l.try_acquire(tokens{.input = 30, .output = 10});
        auto const denied = l.try_acquire(tokens{.input = 30, .output = 10});
        auto const never = l.try_acquire(tokens{.input = 101});
        ASSERT_TRUE(first.granted() && second.granted() && !denied.granted() && never.never());
        auto const answers = [&] {
            return std::tuple{denied.retry_at(),  denied.denied_by(), denied.remaining(),         denied.full_at(),
                              second.remaining(), second.full_at(),   denied.awaits_settlement(), never.retry_at()};
        };
        auto const before = answers();
        EXPECT_EQ(denied.remaining(), (quota{.rpm = 1, .tpm = 20}));
        EXPECT_EQ(second.remaining(), (quota{.rpm = 1, .tpm = 20}));
        EXPECT_EQ(denied.denied_by(), limit::tpm);
        EXPECT_NE(l.refund(second, tokens{.input = 5, .output = 1}), tokens{});
        EXPECT_EQ(answers(), before);
        EXPECT_TRUE(l.try_acquire(tokens{.input = 1, .output = 1}));
        EXPECT_EQ(answers(), before);
        EXPECT_TRUE(l.settle(second, tokens{.input = 30, .output = 200}));
        EXPECT_EQ(answers(), before);
        EXPECT_FALSE(l.change({.rpm = 10, .tpm = 1000}));
        EXPECT_EQ(answers(), before);
        clock.advance(1s);
        EXPECT_TRUE(l.try_acquire(tokens{.input = 100, .output = 1}));
        EXPECT_EQ(answers(), before);
        EXPECT_TRUE(never.never());
    }
}

TEST(quota_limiter, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    limiter l{{.rpm = 9, .rps = 9, .tpm = 3, .tps = 3}, clock};
    moved::is_the_same_decision(l, clock, 1ms, [&](std::uint64_t n) { return l.try_acquire(tokens{.output = n}); });
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

}  // namespace quota_limiter_test
