// SPDX-License-Identifier: MIT
#include "quota_judge.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

namespace quota_judge_test {

using qwen::judge_settings;
using qwen::quota_judge;
using qwen::server_limits;
using qwen::server_rule;
using qwen::token_mode;
using qwen::window_kind;

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t second = 1'000 * ms;
constexpr std::int64_t minute = 60 * second;

struct judged : quota_judge {
    explicit judged(server_limits l, judge_settings s = {}) : quota_judge{s} { set_limits("m", l); }
    auto at(std::int64_t t, std::uint64_t input = 0, std::uint64_t max_tokens = 0) {
        return arrive("a", "m", t, input, max_tokens);
    }
};

judge_settings no_rps() { return {.derive_rps = false}; }

TEST(quota_judge, admits_the_eleventh_request_when_the_first_has_left_the_second) {
    judged j{{.rps = 10}};
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(j.at(i * 10 * ms).admitted) << i;
    auto const eleventh = j.at(999 * ms);
    EXPECT_FALSE(eleventh.admitted);
    EXPECT_EQ(eleventh.rule, server_rule::rps);
    EXPECT_EQ(eleventh.status, 429);
    EXPECT_EQ(eleventh.code, "Throttling.RateQuota");
    EXPECT_EQ(eleventh.ticket, 0u);
    EXPECT_EQ(eleventh.retry_at_ns, second);
    EXPECT_EQ(eleventh.sums.requests_second, 10u);
    EXPECT_FALSE(j.at(second - 1).admitted);
    EXPECT_TRUE(j.at(second).admitted);  // (0, 1 s] is half-open: what came at 0 has left
    EXPECT_FALSE(j.at(second).admitted);
}

TEST(quota_judge, refuses_a_client_that_leaks_one_request_a_minute) {
    judged j{{.rpm = 600}, no_rps()};
    std::uint64_t refused = 0;
    // 601 in each minute, evenly spread.
    for (int i = 0; i < 10 * 601; ++i) refused += j.at(i * minute / 601).admitted ? 0U : 1U;
    EXPECT_GT(refused, 0u);
    auto const r = j.report().total();
    EXPECT_EQ(r.refused.rpm, refused);
    EXPECT_EQ(r.refused.rps, 0u);
    EXPECT_EQ(r.peak.requests_minute, 600u);
    EXPECT_EQ(r.peak_arrivals_minute, 601u);
}

TEST(quota_judge, never_refuses_a_client_that_keeps_to_the_limits_exactly) {
    for (auto const kind : {window_kind::sliding, window_kind::fixed, window_kind::gcra}) {
        judged j{{.rpm = 600}, {.requests = kind}};
        for (int i = 0; i < 10 * 600; ++i) ASSERT_TRUE(j.at(i * minute / 600).admitted) << to_string(kind) << ' ' << i;
        EXPECT_EQ(j.report().total().peak.requests_minute, 600u);
        EXPECT_EQ(j.report().total().peak.requests_second, 10u);
    }
}

TEST(quota_judge, derives_rps_from_rpm_and_tps_from_tpm_only_where_told) {
    judged j{{.rpm = 61, .tpm = 601}};
    EXPECT_EQ(j.limits_of("a", "m").rps, 2u);
    EXPECT_FALSE(j.limits_of("a", "m").tps);
    judged small{{.rpm = 3}};
    EXPECT_EQ(small.limits_of("a", "m").rps, 1u);
    judged neither{{.rpm = 60, .tpm = 600}, no_rps()};
    EXPECT_FALSE(neither.limits_of("a", "m").rps);
    judged both{{.rpm = 60, .rps = 7, .tpm = 601}, {.derive_tps = true}};
    EXPECT_EQ(both.limits_of("a", "m").rps, 7u);
    EXPECT_EQ(both.limits_of("a", "m").tps, 11u);
}

TEST(quota_judge, fixed_window_starts_again_at_each_minute) {
    judged j{{.rpm = 2}, {.requests = window_kind::fixed, .derive_rps = false}};
    EXPECT_TRUE(j.at(58 * second).admitted);
    EXPECT_TRUE(j.at(59 * second).admitted);
    auto const v = j.at(minute - 1);
    EXPECT_FALSE(v.admitted);
    EXPECT_EQ(v.rule, server_rule::rpm);
    EXPECT_EQ(v.retry_at_ns, minute);
    EXPECT_TRUE(j.at(minute).admitted);
    EXPECT_TRUE(j.at(minute).admitted);
    EXPECT_FALSE(j.at(minute).admitted);
    EXPECT_EQ(j.report().total().peak.requests_minute, 4u);  // twice the limit in one sliding minute
}

TEST(quota_judge, gcra_refills_one_request_every_interval) {
    judged j{{.rpm = 7}, {.requests = window_kind::gcra, .derive_rps = false}};
    for (int i = 0; i < 7; ++i) ASSERT_TRUE(j.at(0).admitted);
    auto const v = j.at(0);
    EXPECT_FALSE(v.admitted);
    EXPECT_EQ(v.retry_at_ns, minute / 7 + 1);  // rounded up
    EXPECT_FALSE(j.at(v.retry_at_ns - 1).admitted);
    EXPECT_TRUE(j.at(v.retry_at_ns).admitted);
    EXPECT_FALSE(j.at(v.retry_at_ns).admitted);
}

TEST(quota_judge, actual_mode_charges_output_at_completion_and_lets_one_call_overdraw) {
    judged j{{.tpm = 1'000}, {.tokens = token_mode::actual}};
    auto const first = j.at(0, 999, 5'000);
    ASSERT_TRUE(first.admitted);
    EXPECT_EQ(first.sums.tokens_minute, 999u);
    ASSERT_TRUE(j.at(second, 700, 5'000).admitted);  // 999 < 1000
    auto const third = j.at(2 * second, 1, 1);
    EXPECT_FALSE(third.admitted);
    EXPECT_EQ(third.rule, server_rule::tpm);
    EXPECT_EQ(third.code, "Throttling.AllocationQuota");
    EXPECT_EQ(third.retry_at_ns, minute);
    EXPECT_TRUE(j.complete(first.ticket, 30 * second, 400));
    EXPECT_FALSE(j.at(minute, 1, 1).admitted);  // 700 + 400
    EXPECT_TRUE(j.at(minute + second, 1, 1).admitted);
    EXPECT_EQ(j.sums("a", "m", 90 * second - 1).tokens_minute, 401u);
    EXPECT_EQ(j.sums("a", "m", 90 * second).tokens_minute, 1u);
    EXPECT_EQ(j.report().total().peak.tokens_minute, 2'099u);
}

TEST(quota_judge, input_strict_mode_refuses_an_input_that_does_not_fit) {
    judged j{{.tpm = 1'000}, {.tokens = token_mode::input_strict}};
    ASSERT_TRUE(j.at(0, 600, 5'000).admitted);
    EXPECT_FALSE(j.at(1, 401, 0).admitted);
    EXPECT_TRUE(j.at(1, 400, 0).admitted);
    auto const never = j.at(2, 1'001, 0);
    EXPECT_FALSE(never.admitted);
    EXPECT_EQ(never.retry_at_ns, qwen::never_ns);
}

TEST(quota_judge, reserve_mode_holds_max_tokens_from_arrival_to_completion) {
    judged j{{.tpm = 1'000}, {.tokens = token_mode::reserve}};
    auto const first = j.at(0, 100, 500);
    ASSERT_TRUE(first.admitted);
    EXPECT_EQ(first.sums.tokens_minute, 600u);
    EXPECT_FALSE(j.at(1, 100, 301).admitted);
    EXPECT_TRUE(j.complete(first.ticket, second, 50));
    EXPECT_EQ(j.sums("a", "m", second).tokens_minute, 150u);
    EXPECT_TRUE(j.at(second, 100, 750).admitted);
    EXPECT_EQ(j.sums("a", "m", minute).tokens_minute,
              850u);  // the first call's whole charge leaves a minute after its arrival
    EXPECT_FALSE(j.complete(first.ticket, minute, 50));
}

TEST(quota_judge, a_call_that_outlives_its_window_leaves_nothing_behind_in_reserve_mode) {
    judged j{{.tpm = 1'000}, {.tokens = token_mode::reserve}};
    auto const first = j.at(0, 100, 500);
    ASSERT_TRUE(j.at(2 * minute, 1, 1).admitted);
    EXPECT_TRUE(j.complete(first.ticket, 2 * minute, 50));
    EXPECT_EQ(j.sums("a", "m", 2 * minute).tokens_minute, 2u);
}

TEST(quota_judge, tps_never_refuses_when_its_window_is_empty) {
    for (auto const mode : {token_mode::actual, token_mode::input_strict, token_mode::reserve}) {
        judged j{{.tps = 125}, {.tokens = mode}};
        auto const big = j.at(0, 100'000, 1'000);
        EXPECT_TRUE(big.admitted) << to_string(mode);
        auto const next = j.at(second - 1, 1, 1);
        EXPECT_FALSE(next.admitted) << to_string(mode);
        EXPECT_EQ(next.rule, server_rule::tps);
        EXPECT_EQ(next.retry_at_ns, second);
        EXPECT_TRUE(j.at(second, 100'000, 1'000).admitted) << to_string(mode);
    }
}

TEST(quota_judge, a_refusal_costs_nothing_by_default_and_a_request_where_told) {
    for (bool const counted : {false, true}) {
        judged j{{.rpm = 2}, {.count_rejected = counted, .derive_rps = false}};
        ASSERT_TRUE(j.at(0).admitted);
        ASSERT_TRUE(j.at(0).admitted);
        EXPECT_FALSE(j.at(30 * second).admitted);
        EXPECT_FALSE(j.at(30 * second).admitted);
        EXPECT_EQ(j.at(minute).admitted, !counted);
    }
}

TEST(quota_judge, counts_by_account_and_model) {
    quota_judge j;
    j.set_limits("m", {.rps = 1});
    j.set_limits("b", "m", {.rps = 2});
    EXPECT_TRUE(j.arrive("a", "m", 0, 1, 1).admitted);
    EXPECT_FALSE(j.arrive("a", "m", 0, 1, 1).admitted);
    EXPECT_TRUE(j.arrive("a", "other", 0, 1, 1).admitted);  // no limits known
    EXPECT_TRUE(j.arrive("b", "m", 0, 1, 1).admitted);
    EXPECT_TRUE(j.arrive("b", "m", 0, 1, 1).admitted);
    EXPECT_FALSE(j.arrive("b", "m", 0, 1, 1).admitted);
    EXPECT_EQ(j.report().quotas.size(), 3u);
}

TEST(quota_judge, a_changed_limit_rules_the_next_arrival_and_forgets_nothing) {
    judged j{{.rpm = 4}, no_rps()};
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(j.at(i * second).admitted);
    j.set_limits("m", {.rpm = 2});
    EXPECT_FALSE(j.at(minute).admitted);  // three of the old ones remain
    EXPECT_FALSE(j.at(minute + second).admitted);
    EXPECT_TRUE(j.at(minute + 2 * second).admitted);
    j.set_limits("m", {.rpm = 0});
    EXPECT_EQ(j.at(3 * minute).retry_at_ns, qwen::never_ns);
}

TEST(quota_judge, an_arrival_that_comes_late_to_the_log_is_counted_at_the_latest_event) {
    judged j{{.rps = 1}};
    ASSERT_TRUE(j.at(second).admitted);
    auto const late = j.at(0);
    EXPECT_FALSE(late.admitted);
    EXPECT_EQ(late.time_ns, second);
}

TEST(quota_judge, reports_counts_and_the_spread_of_delays) {
    judged j{{.rps = 2}};
    auto const v = j.at(5, 10, 100);
    (void)j.at(6, 20, 100);
    (void)j.at(7, 40, 100);
    j.complete(v.ticket, 8, 3);
    for (std::int64_t d = 100; d >= 1; --d) j.note_delay(d * ms);
    auto const r = j.report();
    auto const q = r.total();
    EXPECT_EQ(q.arrived, 3u);
    EXPECT_EQ(q.admitted, 2u);
    EXPECT_EQ(q.completed, 1u);
    EXPECT_EQ(q.in_flight, 1u);
    EXPECT_EQ(q.peak_in_flight, 2u);
    EXPECT_EQ(q.input_tokens, 30u);
    EXPECT_EQ(q.output_tokens, 3u);
    EXPECT_EQ(q.refused.total(), 1u);
    EXPECT_EQ(q.first_arrival_ns, 5);
    EXPECT_EQ(q.last_arrival_ns, 7);
    EXPECT_EQ(q.last_event_ns, 8);
    EXPECT_EQ(r.delay.count, 100u);
    EXPECT_EQ(r.delay.min_ns, ms);
    EXPECT_EQ(r.delay.max_ns, 100 * ms);
    EXPECT_EQ(r.delay.p50_ns, 50 * ms);
    EXPECT_EQ(r.delay.p99_ns, 99 * ms);
    EXPECT_EQ(r.delay.spread_ns(), 99 * ms);
}

// The judge against the definition itself: over a random schedule, each decision is recomputed from the list of all
// that was charged.
TEST(quota_judge, agrees_with_the_definition_over_random_schedules) {
    struct charge {
        std::int64_t time;
        std::uint64_t amount;
        std::uint64_t ticket;
    };
    for (auto const mode : {token_mode::actual, token_mode::input_strict, token_mode::reserve}) {
        for (std::uint64_t seed = 1; seed <= 20; ++seed) {
            SCOPED_TRACE(testing::Message() << to_string(mode) << " seed " << seed);
            std::mt19937_64 rng{seed};
            auto const pick = [&rng](std::uint64_t n) { return rng() % n; };
            server_limits const limits{
                .rpm = 20 + pick(20), .rps = 1 + pick(4), .tpm = 2'000 + pick(2'000), .tps = 200 + pick(400)};
            judged j{limits, {.tokens = mode}};
            std::vector<std::int64_t> requests;
            std::vector<charge> charges;
            struct call {
                std::uint64_t ticket, input;
            };
            std::vector<call> open;
            std::uint64_t peak_minute = 0, refused = 0;
            std::int64_t now = 0;
            auto const requests_in = [&](std::int64_t w) {
                return static_cast<std::uint64_t>(
                    std::count_if(requests.begin(), requests.end(), [&](auto t) { return t > now - w; }));
            };
            auto const tokens_in = [&](std::int64_t w) {
                std::uint64_t sum = 0;
                for (auto const& c : charges)
                    if (c.time > now - w) sum += c.amount;
                return sum;
            };
            for (int step = 0; step < 1'500; ++step) {
                now += static_cast<std::int64_t>(pick(2 * second));
                if (!open.empty() && pick(2) == 0) {
                    auto const at = pick(open.size());
                    auto const c = open[at];
                    open.erase(open.begin() + static_cast<std::ptrdiff_t>(at));
                    auto const output = pick(150);
                    ASSERT_TRUE(j.complete(c.ticket, now, output));
                    if (mode != token_mode::reserve) {
                        charges.push_back({now, output, 0});
                    } else {
                        for (auto& ch : charges)
                            if (ch.ticket == c.ticket) ch.amount = c.input + output;
                    }
                    continue;
                }
                auto const input = 1 + pick(300);
                auto const bound = mode == token_mode::reserve ? input + 150 : input;
                auto const fits = [&](std::int64_t w, std::uint64_t limit) {
                    return mode == token_mode::actual ? tokens_in(w) < limit : tokens_in(w) + bound <= limit;
                };
                bool const expected = requests_in(second) < *limits.rps && requests_in(minute) < *limits.rpm &&
                                      (tokens_in(second) == 0 || fits(second, *limits.tps)) &&
                                      fits(minute, *limits.tpm);
                auto const v = j.at(now, input, 150);
                ASSERT_EQ(v.admitted, expected) << step;
                if (!v.admitted) {
                    ++refused;
                    ASSERT_GT(v.retry_at_ns, now);
                    continue;
                }
                requests.push_back(now);
                charges.push_back({now, bound, v.ticket});
                open.push_back({v.ticket, input});
                peak_minute = std::max(peak_minute, requests_in(minute));
                ASSERT_EQ(v.sums.tokens_minute, tokens_in(minute));
                ASSERT_EQ(v.sums.tokens_second, tokens_in(second));
            }
            EXPECT_GT(refused, 0u);
            EXPECT_EQ(j.report().total().peak.requests_minute, peak_minute);
        }
    }
}

TEST(quota_judge, waiting_until_retry_at_is_enough_and_one_nanosecond_less_is_not) {
    for (auto const kind : {window_kind::sliding, window_kind::fixed, window_kind::gcra}) {
        for (std::uint64_t seed = 1; seed <= 10; ++seed) {
            std::mt19937_64 rng{seed};
            judged j{{.rpm = 7, .rps = 2, .tpm = 900, .tps = 300},
                     {.tokens = token_mode::input_strict, .requests = kind}};
            std::int64_t now = 0;
            for (int i = 0; i < 300; ++i) {
                now += static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(3 * second));
                auto const input = 1 + rng() % 400;
                auto const v = j.at(now, input);
                if (v.admitted) continue;
                ASSERT_FALSE(j.at(v.retry_at_ns - 1, input).admitted) << to_string(kind) << " seed " << seed;
                ASSERT_TRUE(j.at(v.retry_at_ns, input).admitted) << to_string(kind) << " seed " << seed;
                now = v.retry_at_ns;
            }
        }
    }
}

TEST(quota_judge, a_soft_tpm_admits_its_share_by_seed_and_softens_no_other_limit) {
    auto const run = [](std::uint64_t seed, server_limits l) {
        judged j{l, {.derive_rps = false, .seed = seed}};
        std::vector<bool> admitted;
        for (int i = 0; i < 1'000; ++i) admitted.push_back(j.at(i, 10).admitted);
        auto const q = j.report().total();
        EXPECT_EQ(q.admitted + q.refused.total(), 1'000u);
        EXPECT_EQ(q.admitted_above_tpm, q.admitted - 10);
        return admitted;
    };
    auto const half = run(1, {.tpm = 100, .tpm_soft = 0.5});
    auto const n = std::count(half.begin(), half.end(), true);
    EXPECT_GT(n, 440);
    EXPECT_LT(n, 580);
    EXPECT_EQ(run(1, {.tpm = 100, .tpm_soft = 0.5}), half);
    EXPECT_NE(run(2, {.tpm = 100, .tpm_soft = 0.5}), half);
    auto const hard = run(1, {.tpm = 100});
    EXPECT_EQ(std::count(hard.begin(), hard.end(), true), 10);
    auto const by_rpm = run(1, {.rpm = 20, .tpm = 100, .tpm_soft = 1});
    EXPECT_EQ(std::count(by_rpm.begin(), by_rpm.end(), true), 20);
}

TEST(quota_judge, a_limit_that_is_changed_leaves_what_was_counted_and_the_other_limits) {
    judged j{{.rpm = 100, .tpm = 1'000}, no_rps()};
    for (int i = 0; i < 60; ++i) ASSERT_TRUE(j.at(i * second / 10, 1).admitted);
    j.change_limits("m", [](server_limits& l) { l.rpm = 50; });
    EXPECT_EQ(j.limits_of("a", "m").tpm, 1'000u);
    auto const v = j.at(10 * second, 1);
    EXPECT_EQ(v.rule, server_rule::rpm);
    EXPECT_EQ(v.retry_at_ns, minute + second);  // when the eleventh has left, 49 are there
    j.change_limits("a", "m", [](server_limits& l) { l.rpm = 100; });
    EXPECT_TRUE(j.at(10 * second, 1).admitted);
    EXPECT_EQ(j.limits_of("b", "m").rpm, 50u);
}

TEST(quota_judge, many_threads_never_get_more_than_the_limit) {
    judged j{{.rpm = 1'000}, no_rps()};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&j] {
            for (int i = 0; i < 500; ++i)
                if (auto const v = j.at(i, 1, 1); v.admitted) j.complete(v.ticket, i, 1);
        });
    for (auto& t : threads) t.join();
    auto const q = j.report().total();
    EXPECT_EQ(q.admitted, 1'000u);
    EXPECT_EQ(q.refused.rpm, 1'000u);
    EXPECT_EQ(q.completed, 1'000u);
    EXPECT_EQ(q.in_flight, 0u);
}

}  // namespace quota_judge_test
