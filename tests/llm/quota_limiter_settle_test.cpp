// SPDX-License-Identifier: MIT
// What becomes of a call in a quota_limiter: settlements, refunds, holds, and calls of earlier runs.
#include <weir/llm/quota_limiter.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include <weir/clock/manual_clock.hpp>

namespace quota_limiter_settle_test {

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

using limiter = weir::llm::quota_limiter<manual_clock&>;
using time_point = manual_clock::time_point;
using past_call = limiter::past_call;

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max() - 1;

time_point at(nanoseconds since_start) { return time_point{since_start}; }

/// A thousandth of a window: by how much a denial may be longer than an exact log's.
constexpr nanoseconds slack(nanoseconds window) { return window / 1000 + 1ns; }

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
    EXPECT_EQ(l.refund(theirs, quota{.rpm = 4, .tpm = 100}), (quota{.rpm = 4, .tpm = 100}));
    EXPECT_EQ(l.used(at(0s)), (quota{.rpm = 6, .tpm = 230, .tps = 30}));
    // No more than is left of it.
    EXPECT_EQ(l.refund(theirs, quota{.rpm = 7, .rps = 1}), (quota{.rpm = 5}));
    EXPECT_EQ(l.used(at(0s)), (quota{.rpm = 1, .tpm = 230, .tps = 30}));
    EXPECT_TRUE(theirs.live());
    l.refund(theirs);
    EXPECT_FALSE(theirs.live());
    EXPECT_EQ(l.used(at(0s)), (quota{.rpm = 1, .tpm = 30, .tps = 30}));
    EXPECT_EQ(l.refund(theirs, quota{.rpm = 1}), quota{});
    EXPECT_EQ(l.refund(theirs), tokens{});

    // More than the limit is counted as such, and ages out with its window.
    auto flood = l.charge({.rpm = 50}, at(1s));
    EXPECT_EQ(l.used(at(1s)).rpm, 51U);
    EXPECT_EQ(l.available(at(1s)).rpm, 0U);
    limiter other{{.rpm = 10}, clock};
    EXPECT_EQ(other.refund(flood, quota{.rpm = 5}), quota{});
    EXPECT_EQ(l.used(at(62s)).rpm, 0U);
}

TEST(quota_limiter, settles_or_refunds_once) {
    manual_clock clock;
    limiter l{{.rpm = 10, .tpm = 100}, clock};
    limiter other{{.rpm = 10, .tpm = 100}, clock};
    auto first = l.try_acquire(tokens{.input = 10, .output = 10});
    auto second = l.try_acquire(tokens{.input = 10, .output = 10});
    EXPECT_FALSE(other.settle(first, tokens{})) << "another limiter's";
    EXPECT_EQ(other.refund(first), tokens{});
    EXPECT_EQ(l.available().tpm, 60U);
    EXPECT_EQ(other.available().tpm, 100U);

    EXPECT_TRUE(l.settle(first, tokens{.input = 10, .output = 0}));
    EXPECT_FALSE(l.settle(first, tokens{}));
    EXPECT_FALSE(l.settle(first, tokens{.input = 100, .output = 100}));
    EXPECT_EQ(l.refund(first), tokens{});
    EXPECT_EQ(l.available().tpm, 70U);
    EXPECT_EQ(l.available().rpm, 8U);

    auto moved = std::move(second);
    EXPECT_EQ(l.refund(second), tokens{}) << "moved from";
    EXPECT_FALSE(l.settle(second, tokens{}));
    EXPECT_NE(l.refund(moved), tokens{});
    EXPECT_EQ(l.refund(moved), tokens{});
    EXPECT_FALSE(l.settle(moved, tokens{.input = 50, .output = 50}));
    EXPECT_EQ(l.available().tpm, 90U);
    EXPECT_EQ(l.available().rpm, 9U);

    auto third = l.try_acquire(tokens{.input = 10, .output = 10});
    moved = std::move(third);
    EXPECT_NE(l.refund(moved), tokens{}) << "moved into";

    auto denied = l.try_acquire(tokens{.input = 100, .output = 0});
    EXPECT_FALSE(l.settle(denied, tokens{.input = 5, .output = 5})) << "nothing was granted";
    EXPECT_EQ(l.refund(denied), tokens{});
    auto checked = l.check(tokens{.input = 1, .output = 1}, clock.now());
    EXPECT_TRUE(checked);
    EXPECT_EQ(l.refund(checked), tokens{}) << "a check took nothing";
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
            EXPECT_EQ(l.refund(d), n);
            clock.advance(slack(60s));
            EXPECT_EQ(l.available().rpm, 4U);
            EXPECT_EQ(l.available().rps, 4U);
            EXPECT_EQ(l.available().tpm, 100U);
            EXPECT_EQ(l.available().tps, 100U);
            EXPECT_TRUE(kept.live());
            EXPECT_EQ(l.refund(kept), tokens{});
            clock.advance(slack(60s));
        }
    }
}

TEST(quota_limiter, a_refund_of_some_tokens_returns_what_was_given_back) {
    manual_clock clock;
    limiter l{{.rpm = 5, .tpm = 100}, clock};
    auto d = l.try_acquire(tokens{.input = 30, .output = 40});
    EXPECT_EQ(l.refund(d, tokens{.input = 10, .output = 50}), (tokens{.input = 10, .output = 40}));
    EXPECT_EQ(l.available().tpm, 80U);
    EXPECT_EQ(l.refund(d, tokens{.input = -1}), tokens{});
    EXPECT_EQ(l.refund(d), (tokens{.input = 20}));
    EXPECT_EQ(l.refund(d, tokens{.input = 1}), tokens{});
    EXPECT_EQ(l.available(), (quota{.rpm = 5, .tpm = 100}));
}

// ---- holds ----

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

TEST(quota_limiter, calls_without_tokens_need_not_wait_for_those_in_flight) {
    manual_clock clock;
    limiter l{{.rpm = 4, .tpm = 100}, {.start = quota_start::full_in_flight}, clock};
    EXPECT_TRUE(l.try_acquire(tokens{}, at(60s + slack(60s))));
    EXPECT_FALSE(l.try_acquire(tokens{.input = 1, .output = 0}, at(60s + slack(60s))));
}

// ---- the start, and earlier runs ----

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

}  // namespace quota_limiter_settle_test
