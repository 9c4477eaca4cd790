// SPDX-License-Identifier: MIT
//
// Cases worked by hand, properties over drawn workloads, and two strangers that share no code with weir: the judge of quotas, whom every
// rehearsed schedule must satisfy, and the ideal client, whom none may beat.
//
// What the cases by hand rest on: a window W is cut into 1000 segments and the one that is open counts as well, so that what was taken at 0 is free again at W + W/1000:
// 60.06 s for a minute, 1.001 s for a second.
#include <weir/llm/advice/advice.hpp>
#include <weir/llm/advice/advice_text.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "../support/exact_log.hpp"
#include "../support/ideal.hpp"
#include "../support/quota_judge.hpp"

namespace {

using namespace std::chrono_literals;
using namespace weir::llm;
using std::chrono::nanoseconds;
using weir::llm::quota;
using weir::llm::tokens;

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

std::vector<planned_call> at_once(std::size_t n, tokens used = {.input = 1, .output = 0}, nanoseconds took = 0ns) {
    return {n, planned_call{0ns, used, used, took}};
}

setup one_account(quota q, token_price price = {}) { return {.models = {{"large", {{"main", q, price}}}}}; }
setup_model lesser_model(quota q, token_price price = {}) { return {"small", {{"main", q, price}}}; }

std::uint64_t sum(simulation_result const& f) {
    std::uint64_t s = 0;
    for (auto const n : f.per_mille) s += n;
    return s;
}

// ---- by hand ----

TEST(llm_advice, a_batch_of_twice_the_quota_waits_for_one_window) {
    auto const f = simulate(at_once(120), one_account({.rpm = 60}));
    EXPECT_EQ(f.name, "as it is");
    EXPECT_EQ(f.answered, 120U);
    EXPECT_EQ(f.lesser + f.never + f.first_never + f.largest_never, 0U);
    EXPECT_EQ(f.whole, 60'060ms);
    EXPECT_EQ(f.wait.median, 0ms) << "60 of 120 did not wait";
    EXPECT_EQ(f.wait.p99, 60'060ms);
    EXPECT_EQ(f.wait.longest, 60'060ms);
    EXPECT_EQ(f.wait.total, 60 * 60'060ms);
    EXPECT_EQ(f.share(constraint::rpm), 1000U);
    EXPECT_EQ(f.limited(), 1000U);
    EXPECT_EQ(f.peak_minute, (load{60, 60}));
    EXPECT_EQ(f.peak_second, (load{60, 60}));
}

TEST(llm_advice, a_peak_that_64_bits_do_not_hold_is_all_ones_and_what_comes_after_it_is_counted_anew) {
    std::vector<planned_call> const calls{{0ns, {.input = 1, .output = 0}, {.input = most, .output = 0}, 0ns},
                                          {0ns, {.input = 1, .output = 0}, {.input = 2, .output = 0}, 0ns},
                                          {90s, {.input = 1, .output = 0}, {.input = 3, .output = 0}, 0ns}};
    EXPECT_EQ(demand_of(calls).peak_minute.tokens, most);
    EXPECT_EQ(demand_of(std::span{calls}.subspan(1)).peak_minute.tokens, 3U);
    EXPECT_EQ(simulate(calls, one_account({.rpm = 60})).peak_second.tokens, most);
}

TEST(llm_advice, the_median_is_of_the_half_and_the_99th_leaves_one_in_a_hundred) {
    // 49 at 0, 49 at 60.06 s, 2 at 120.12 s.
    auto const f = simulate(at_once(100), one_account({.rpm = 49}));
    EXPECT_EQ(f.wait.median, 60'060ms);
    EXPECT_EQ(f.wait.p99, 120'120ms);
    auto const most_at_once = simulate(at_once(100), one_account({.rpm = 99}));
    EXPECT_EQ(most_at_once.wait.p99, 0ms);
    EXPECT_EQ(most_at_once.wait.longest, 60'060ms);
    EXPECT_EQ(simulate(at_once(101), one_account({.rpm = 99})).wait.p99, 60'060ms) << "99 of 101 are too few";
}

TEST(llm_advice, what_the_answers_take_is_told_from_what_the_limit_takes) {
    auto const f = simulate(at_once(120, {.input = 1, .output = 0}, 1s), one_account({.rpm = 60}));
    EXPECT_EQ(f.whole, 61'060ms);
    EXPECT_EQ(f.share(constraint::rpm), 984U) << "60.06 of 61.06";
    EXPECT_EQ(f.share(constraint::answers), 16U);
    EXPECT_EQ(sum(f), 1000U);
}

TEST(llm_advice, of_two_limits_the_one_that_keeps_waiting_longest_binds) {
    auto const f = simulate(at_once(31), one_account({.rpm = 60, .rps = 1}));
    EXPECT_EQ(f.whole, 30 * 1001ms);
    EXPECT_EQ(f.share(constraint::rps), 1000U);
    // Ten tokens a call, 100 a minute: ten calls in the first nine seconds, and the others wait for tokens.
    auto const g = simulate(at_once(20, {.input = 10, .output = 0}), one_account({.rps = 1, .tpm = 100}));
    EXPECT_EQ(g.share(constraint::rps) + g.share(constraint::tpm), 1000U);
    // Second by second for the first nine; the eleventh at 60.06 s, each of the next nine a second or so after the one before.
    EXPECT_GE(g.whole, 60'060ms + 9 * 1001ms);
    EXPECT_LE(g.whole, 60'060ms + 9 * 1001ms + 60ms);
    EXPECT_GT(g.share(constraint::tpm), g.share(constraint::rps));
}

TEST(llm_advice, tokens_bind_by_the_minute) {
    auto const f = simulate(at_once(20, {.input = 100, .output = 0}), one_account({.rpm = 1000, .tpm = 1000}));
    EXPECT_EQ(f.whole, 60'060ms);
    EXPECT_EQ(f.share(constraint::tpm), 1000U);
    EXPECT_EQ(f.used, (tokens{.input = 2000, .output = 0}));
    EXPECT_EQ(f.peak_minute, (load{10, 1000}));
}

TEST(llm_advice, tokens_are_held_for_answers_at_their_bound) {
    // Ten calls hold all of 1000 tokens until their answers come after a second, and then have used 510: the other four have room.
    std::vector<planned_call> const calls(
        14, planned_call{0ns, {.input = 50, .output = 50}, {.input = 50, .output = 1}, 1s});
    auto const now = one_account({.tpm = 1000});
    auto const f = simulate(calls, now);
    EXPECT_EQ(f.whole, 2s) << "ten at 0, four more at 1 s, and their answers";
    EXPECT_EQ(f.share(constraint::tpm), 500U);
    EXPECT_EQ(f.share(constraint::answers), 500U);
    auto const a = advise(calls, now, {});
    EXPECT_EQ(a.present.whole, 2s);
    EXPECT_EQ(a.tight.whole, 1s) << "a bound that is tight needs none of that";
    // But a bound below what the answer used is no tighter.
    std::vector<planned_call> const beyond(
        14, planned_call{0ns, {.input = 50, .output = 50}, {.input = 50, .output = 90}, 1s});
    auto const b = advise(beyond, now, {});
    EXPECT_EQ(b.tight.whole, b.present.whole);
    EXPECT_EQ(b.tight.wait.total, b.present.wait.total);
    // Nor is one that never would be: 50 and 960 are more than 1000.
    std::vector<planned_call> const much(
        2, planned_call{0ns, {.input = 50, .output = 50}, {.input = 50, .output = 960}, 1s});
    EXPECT_EQ(advise(much, now, {}).tight.never, 0U);
}

TEST(llm_advice, two_accounts_halve_the_windows) {
    auto const now = one_account({.rpm = 60});
    auto const calls = at_once(600);
    EXPECT_EQ(simulate(calls, now).whole, 9 * 60'060ms);
    auto const two = simulate(calls, with_accounts(now, 2));
    EXPECT_EQ(two.name, "2 accounts");
    EXPECT_EQ(two.whole, 4 * 60'060ms);
    ASSERT_EQ(two.use.size(), 2U);
    EXPECT_EQ(two.use[0].calls, 300U);
    EXPECT_EQ(two.use[1].calls, 300U);
    EXPECT_EQ(two.use[1].account, "main (2)");
    EXPECT_EQ(simulate(calls, with_accounts(now, 10)).whole, 0ms);
    EXPECT_EQ(simulate(calls, with_account(now, {"bob", {.rpm = 540}})).whole, 0ms);
}

TEST(llm_advice, a_raised_quota_needs_fewer_windows) {
    auto const now = one_account({.rpm = 60});
    auto const f = simulate(at_once(600), with_raised_quota(now, 2500));
    EXPECT_EQ(f.name, "quota x 2.5");
    EXPECT_EQ(f.whole, 3 * 60'060ms);
    EXPECT_EQ(simulate(at_once(600), with_quota(now, {.rpm = 600})).whole, 0ms);
}

TEST(llm_advice, a_fallback_serves_whom_patience_does_not_keep) {
    auto const now = one_account({.rpm = 60}, {10'000'000, 0});
    auto const lesser = lesser_model({.rpm = 60}, {1'000'000, 0});
    auto const at_once_too = simulate(at_once(120), with_fallback(now, lesser));
    EXPECT_EQ(at_once_too.name, "falls back to small");
    EXPECT_EQ(at_once_too.whole, 0ms);
    EXPECT_EQ(at_once_too.lesser, 60U);
    EXPECT_EQ(at_once_too.cost, 60U * 10 + 60U * 1);
    EXPECT_EQ(sum(at_once_too), 1000U) << "of no time at all";
    auto const patient = simulate(at_once(120), with_fallback(now, lesser, 60'060ms));
    EXPECT_EQ(patient.name, "falls back to small rather than wait 1 min");
    EXPECT_EQ(patient.lesser, 0U);
    EXPECT_EQ(patient.whole, 60'060ms);
    EXPECT_EQ(patient.cost, 1200U);
    EXPECT_EQ(simulate(at_once(120), with_fallback(now, lesser, 60'059ms)).lesser, 60U);
    // Answers of the lesser model take a tenth of the time.
    auto quick = lesser;
    quick.took_per_mille = 100;
    std::vector<placement> where;
    (void)simulate(at_once(120, {.input = 1, .output = 0}, 10s), with_fallback(now, quick), &where);
    EXPECT_EQ(where[0].ended, 10s);
    EXPECT_EQ(where[119].model, 1U);
    EXPECT_EQ(where[119].ended, 1s);
}

TEST(llm_advice, a_proxy_at_088_of_the_price_saves_12_percent) {
    auto const now = one_account({.rpm = 60}, {1'200'000, 6'000'000});
    auto const calls = at_once(60, {.input = 1000, .output = 500});
    EXPECT_EQ(simulate(calls, now).cost, 60U * 1200 + 60U * 3000);
    setup_account const proxy{"proxy", {.rpm = 60}, {1'200'000, 6'000'000, 880}};
    auto const f = simulate(calls, through(now, proxy));
    EXPECT_EQ(f.name, "through proxy");
    EXPECT_EQ(f.cost, (60U * 1200 + 60U * 3000) * 88 / 100);
    // Beside what there is, the cheaper of the two is used first.
    auto const both = simulate(at_once(90, {.input = 1000, .output = 500}), with_account(now, proxy));
    EXPECT_EQ(both.name, "also proxy");
    EXPECT_EQ(both.whole, 0ms);
    ASSERT_EQ(both.use.size(), 2U);
    EXPECT_EQ(both.use[0].calls, 30U);
    EXPECT_EQ(both.use[1].calls, 60U);
    EXPECT_EQ(both.cost, both.use[0].cost + both.use[1].cost);
    EXPECT_EQ(both.use[1].cost, (60U * 1200 + 60U * 3000) * 88 / 100);
}

TEST(llm_advice, remedies_compose) {
    auto const now = one_account({.rpm = 60});
    auto const s = with_fallback(with_accounts(with_raised_quota(now, 2000), 2), lesser_model({.rpm = 60}));
    EXPECT_EQ(s.name, "quota x 2, 2 accounts, falls back to small");
    auto const f = simulate(at_once(300), s);
    EXPECT_EQ(f.whole, 0ms);
    EXPECT_EQ(f.lesser, 60U);
    EXPECT_EQ(now.models.size(), 1U) << "the setup that they are made of stays as it is";
}

TEST(llm_advice, a_bound_on_calls_under_way_binds_by_that_name) {
    auto now = one_account({});
    now.in_flight = 2;
    auto const f = simulate(at_once(10, {.input = 1, .output = 0}, 1s), now);
    EXPECT_EQ(f.whole, 5s);
    EXPECT_EQ(f.share(constraint::in_flight), 800U);
    EXPECT_EQ(f.share(constraint::answers), 200U);
    EXPECT_EQ(f.limited(), 0U);
    // An account's own: two accounts have four places.
    auto own = one_account({});
    own.models[0].accounts[0].in_flight = 2;
    EXPECT_EQ(simulate(at_once(10, {.input = 1, .output = 0}, 1s), own).whole, 5s);
    auto const two = simulate(at_once(10, {.input = 1, .output = 0}, 1s), with_accounts(own, 2));
    EXPECT_EQ(two.whole, 3s);
    EXPECT_EQ(two.share(constraint::in_flight), 667U);
    EXPECT_EQ(two.share(constraint::answers), 333U);
}

TEST(llm_advice, where_nothing_is_wanted_nobody_binds) {
    std::vector<planned_call> const calls{{-5s, {.input = 1, .output = 0}, {.input = 1, .output = 0}, 1s},
                                          {5s, {.input = 1, .output = 0}, {.input = 1, .output = 0}, 1s}};
    auto const f = simulate(calls, one_account({.rpm = 60}));
    EXPECT_EQ(f.whole, 11s);
    EXPECT_EQ(f.share(constraint::answers), 182U) << "2 of 11";
    EXPECT_EQ(f.share(constraint::nobody), 818U);
    EXPECT_EQ(f.wait.longest, 0s);
}

TEST(llm_advice, who_is_wanted_first_is_served_first_in_whatever_order_they_are_given) {
    std::vector<planned_call> const calls{{2s, {.input = 1, .output = 0}, {.input = 1, .output = 0}, 0s},
                                          {0s, {.input = 1, .output = 0}, {.input = 1, .output = 0}, 0s},
                                          {1s, {.input = 1, .output = 0}, {.input = 1, .output = 0}, 0s}};
    std::vector<placement> where;
    auto const f = simulate(calls, one_account({.rpm = 1}), &where);
    EXPECT_EQ(where[1].sent, 0s);
    EXPECT_EQ(where[2].sent, 60'060ms);
    EXPECT_EQ(where[0].sent, 120'120ms);
    EXPECT_EQ(f.wait.longest, 118'120ms) << "from when it was wanted";
    EXPECT_EQ(f.wait.total, 118'120ms + 59'060ms);
}

TEST(llm_advice, a_call_that_can_never_be_admitted_is_reported_and_holds_nobody_up) {
    auto calls = at_once(3, {.input = 50, .output = 0}, 1s);
    calls[1].bound = {.input = 101, .output = 0};
    calls[1].used = {.input = 101, .output = 0};
    std::vector<placement> where;
    auto now = one_account({.tpm = 100}, {1'000'000, 0});
    auto const f = simulate(calls, now, &where);
    EXPECT_EQ(f.never, 1U);
    EXPECT_EQ(f.first_never, 1U);
    EXPECT_EQ(f.largest_never, 101U);
    EXPECT_EQ(f.answered, 2U);
    EXPECT_EQ(f.cost, 100U) << "it costs nothing";
    EXPECT_EQ(f.whole, 1s);
    EXPECT_FALSE(where[1].admitted);
    EXPECT_TRUE(where[2].admitted);
    // Nor can it be where all are such.
    EXPECT_EQ(simulate(at_once(2, {.input = 101, .output = 0}), now).never, 2U);
    // Another model may take it, and a server that admits the large alone.
    EXPECT_EQ(simulate(calls, with_fallback(now, lesser_model({.tpm = 1000}))).lesser, 1U);
    now.options.oversize = weir::llm::oversize::alone;
    EXPECT_EQ(simulate(calls, now).never, 0U);
}

TEST(llm_advice, the_jitter_margin_is_part_of_it) {
    auto now = one_account({.rps = 10});
    now.options.jitter = 1s;
    EXPECT_EQ(simulate(at_once(20), now).whole, 2002ms) << "a window of two seconds";
}

TEST(llm_advice, expects_answers_of_calls_that_were_not_sent) {
    constexpr planned_call c = expected_call(
        {.input = 1000, .output = 600},
        {.input_per_mille = 900, .output_per_mille = 500, .first_token = 400ms, .tokens_per_second = 60}, 3s);
    static_assert(c.wanted == 3s && c.used == tokens{.input = 900, .output = 300} &&
                  c.bound == tokens{.input = 1000, .output = 600} && c.took == 5400ms);
    static_assert(expected_call({.input = 7, .output = 7}, {.input_per_mille = 500, .output_per_mille = 500}).used ==
                      tokens{.input = 4, .output = 4},
                  "rounded up");
    static_assert(expected_call({.input = 0, .output = 1}, {.tokens_per_second = 3}).took ==
                  400ms + nanoseconds{333'333'334});
    static_assert(expected_call({.input = 0, .output = most}).took.count() > 0);
}

TEST(llm_advice, money_is_exact_and_rounds_up_once) {
    constexpr token_price p{1'200'000, 6'000'000};
    static_assert(p.of({.input = 1'000'000, .output = 1'000'000}) == 7'200'000);
    static_assert(p.of({.input = 0, .output = 0}) == 0);
    static_assert(token_price{.input = 1, .output = 0}.of({.input = 1, .output = 0}) == 1, "a millionth is one");
    static_assert(token_price{1'000'000, 0, 880}.of({.input = 1, .output = 0}) == 1, "and so is 0.88");
    static_assert(token_price{1'000'000, 0, 880}.of({.input = 25, .output = 0}) == 22);
    static_assert(token_price{1'000'000, 0, 0}.of({.input = 25, .output = 0}) == 0);
    // 2^63 tokens at 2 for each: exactly 2^64 is one too many.
    static_assert(token_price{.input = 2'000'000, .output = 0}.of({.input = (most >> 1U) + 1, .output = 0}) == most);
    static_assert(token_price{.input = 2'000'000, .output = 0}.of({.input = most >> 1U, .output = 0}) == most - 1);
    static_assert(token_price{most, most, most}.of({.input = most, .output = most}) == most);
    static_assert(token_price{.input = 1'000'000, .output = 1'000'000}.of({.input = most, .output = 1}) == most);
    EXPECT_EQ(p.of({.input = 1, .output = 0}), 2U) << "1.2";
}

TEST(llm_advice, demand_is_what_is_wanted_whatever_is_granted) {
    std::vector<planned_call> calls;
    for (int i = 0; i < 240; ++i)
        calls.push_back({7s + i * 500ms, {.input = 10, .output = 5}, {.input = 8, .output = 2}, 3s});
    auto const d = demand_of(calls);
    EXPECT_EQ(d.calls, 240U);
    EXPECT_EQ(d.used, (tokens{.input = 1920, .output = 480}));
    EXPECT_EQ(d.span, 119'500ms);
    EXPECT_EQ(d.peak_minute, (load{120, 1200}));
    EXPECT_EQ(d.peak_second, (load{2, 20}));
    EXPECT_EQ(d.sustained.requests, 121U) << "240 in 119.5 s, rounded up";
    auto const all = demand_of(at_once(7, {.input = 3, .output = 1}));
    EXPECT_EQ(all.sustained, (load{7, 28}));
    EXPECT_EQ(all.peak_second, (load{7, 28}));
}

// ---- what to ask for ----

TEST(llm_advice, finds_the_least_quota_that_meets_a_goal) {
    auto const calls = at_once(600);
    auto const now = one_account({.rpm = 60, .tpm = 1'000'000});
    // In two halves, a window apart: 300 a minute, to the request. Tokens are not what is short.
    auto const r = find_least_raise(calls, now, {.whole = 60'060ms});
    ASSERT_TRUE(r);
    EXPECT_EQ(r->limits, (quota{.rpm = 300, .tpm = 1'000'000}));
    EXPECT_EQ(r->outcome.whole, 60'060ms);
    EXPECT_GT(simulate(calls, one_account({.rpm = 299, .tpm = 1'000'000})).whole, 60'060ms);

    // Each limit as much as it must be, and no more: with 15 tokens a call the tokens are short as well.
    auto const heavy = at_once(600, {.input = 15, .output = 0});
    auto const tight = one_account({.rpm = 60, .tpm = 3000});
    auto const both = find_least_raise(heavy, tight, {.whole = 60'060ms});
    ASSERT_TRUE(both);
    EXPECT_EQ(both->limits, (quota{.rpm = 300, .tpm = 4500}));

    EXPECT_EQ(find_least_raise(calls, now, {.wait = 0ms})->limits.rpm, 594U) << "99 of 100 at once";
    EXPECT_EQ(find_least_raise(calls, now, {.limited = 0})->limits.rpm, 600U) << "nobody waits";
    // One limit alone: 15 tokens a call, so that both would have to be ten times as much for nobody to wait.
    auto const mixed = one_account({.rpm = 60, .tpm = 100});
    EXPECT_GT(simulate(heavy, mixed).share(constraint::tpm), 900U);
    auto const tokens_alone = find_least_raise(heavy, mixed, {.limited = 0, .by = weir::llm::limit::tpm});
    ASSERT_TRUE(tokens_alone);
    EXPECT_EQ(tokens_alone->limits.rpm, 60U);
    EXPECT_EQ(tokens_alone->limits.tpm, 900U) << "60 calls of 15: what the requests let through";
    EXPECT_EQ(find_least_raise(calls, now, {.whole = 1h})->limits, now.models[0].accounts[0].limits)
        << "enough as it is";
    EXPECT_EQ(find_least_raise(at_once(10, {.input = 1, .output = 0}, 5s), now, {.whole = 4s}), std::nullopt)
        << "no quota makes an answer shorter";
    // A goal admits every call.
    auto large = at_once(3, {.input = 2000, .output = 0});
    EXPECT_EQ(find_least_raise(large, one_account({.tpm = 1000}), {.whole = 1h})->limits.tpm, 2000U);
}

TEST(llm_advice, accounts_that_differ_are_raised_each_from_its_own_quota) {
    setup const two{.models = {{"large", {{"main", {.rpm = 60}}, {"other", {.rpm = 600}}}}}};
    auto const calls = at_once(1320);
    goal const g{.wait = 0ms};
    auto const a = advise(calls, two, {}, {.goal = g});
    ASSERT_TRUE(a.least);
    EXPECT_TRUE(g.met(a.least->outcome));
    EXPECT_EQ(a.least->limits.rpm, 119U) << "99 of 100 at once";
    EXPECT_EQ(a.asked.rpm, 150U);
    EXPECT_TRUE(g.met(a.with_asked)) << "who asks for more than the least has no less";

    // A limit that the first has not.
    setup const unlike{.models = {{"large", {{"main", {.rpm = 5}}, {"other", {.tpm = 500}}}}}};
    auto const large = at_once(20, {.input = 100, .output = 0});
    auto const b = advise(large, unlike, {}, {.goal = g});
    ASSERT_TRUE(b.least);
    EXPECT_TRUE(g.met(b.least->outcome));
    EXPECT_TRUE(g.met(b.with_asked));
    EXPECT_NE(letter(b).find("  Account main:\n  requests per minute   12  (now 5)\n  Account other:\n  tokens per "
                             "minute     1,200  (now 500)\n"),
              std::string::npos)
        << letter(b);
}

TEST(llm_advice, no_lesser_factor_would_do) {
    // The limits that a factor in steps of a hundredth makes of 60 are 60, 61, 62, 62, 63, …; the least of them that lets all go at once.
    for (std::uint64_t n = 60; n <= 200; n += 7) {
        std::uint64_t factor = 1000;
        while (weir::detail::mul_div_ceil(60, factor, 1000) < n) factor += 10;
        auto const r = find_least_raise(at_once(static_cast<std::size_t>(n)), one_account({.rpm = 60}),
                                        {.wait = 0ms, .limited = 0});
        ASSERT_TRUE(r);
        EXPECT_EQ(r->limits.rpm, weir::detail::mul_div_ceil(60, factor, 1000)) << n;
    }
}

TEST(llm_advice, a_headroom_is_added_to_what_is_raised_alone) {
    static_assert(with_headroom({.rpm = 300, .tpm = 1'000'000}, {.rpm = 60, .tpm = 1'000'000}) ==
                  quota{.rpm = 360, .tpm = 1'000'000});
    static_assert(with_headroom({.rpm = 301, .rps = 7}, {.rpm = 60, .rps = 1}, 1000) == quota{.rpm = 310, .rps = 7});
    static_assert(with_headroom({.tpm = 1'234'567}, {.tpm = 1}).tpm == 1'500'000U);
    static_assert(with_headroom({.tpm = most}, {.tpm = 1}).tpm == most);
}

TEST(llm_advice, puts_everything_side_by_side) {
    auto const now = one_account({.rpm = 60});
    auto const a =
        advise(at_once(600), now, {with_accounts(now, 2), with_raised_quota(now, 5000)}, {.goal = {.whole = 60'060ms}});
    EXPECT_EQ(a.present.whole, 9 * 60'060ms);
    EXPECT_EQ(a.unlimited.whole, 0s);
    ASSERT_EQ(a.remedies.size(), 2U);
    EXPECT_EQ(a.remedies[0].whole, 4 * 60'060ms);
    EXPECT_EQ(a.remedies[1].whole, 60'060ms);
    ASSERT_TRUE(a.least);
    EXPECT_EQ(a.least->limits.rpm, 300U);
    EXPECT_EQ(a.asked.rpm, 360U);
    EXPECT_EQ(a.with_asked.whole, 60'060ms);
    EXPECT_EQ(a.with_asked.name, "the quota asked for");
}

// ---- bad input ----

template <class F>
std::string complaint(F f) {
    try {
        f();
    } catch (std::invalid_argument const& e) {
        return e.what();
    }
    return "no complaint";
}

TEST(llm_advice, names_what_is_wrong_with_its_input) {
    auto const good = one_account({.rpm = 60});
    auto const calls = at_once(1);
    auto const of = [&](std::vector<planned_call> const& c, setup const& s) {
        return complaint([&] { (void)simulate(c, s); });
    };
    EXPECT_EQ(of(calls, good), "no complaint");
    EXPECT_EQ(of({}, good), "no calls: there is nothing to advise on");
    EXPECT_NE(of({{0s, {}, {}, -1ns}}, good).find("before its call"), std::string::npos);
    EXPECT_NE(of({{0s, {}, {}, 25h}}, good).find("more than a day"), std::string::npos);
    EXPECT_NE(of({{24h * 366, {}, {}, 0s}}, good).find("more than a year"), std::string::npos);
    EXPECT_NE(of(calls, {}).find("without a model"), std::string::npos);
    EXPECT_NE(of(calls, {.models = {{"m", {}}}}).find("without an account"), std::string::npos);
    EXPECT_NE(of(calls, one_account({.rpm = 0})).find("0 requests per minute"), std::string::npos);
    EXPECT_NE(of(calls, {.models = {{"m", {{"a", {.rpm = 1}}, {"a", {.rpm = 1}}}}}}).find("keys of one account"),
              std::string::npos);
    auto s = good;
    s.patience = -1ns;
    EXPECT_NE(of(calls, s).find("patience"), std::string::npos);
    s = good;
    s.models[0].took_per_mille = 1'000'001;
    EXPECT_NE(of(calls, s).find("thousand times"), std::string::npos);
    s = good;
    s.options.jitter = -1ns;
    EXPECT_NE(of(calls, s).find("jitter"), std::string::npos);
    EXPECT_NE(of(calls, with_raised_quota(good, 0)).find("0 requests per minute"), std::string::npos);
    EXPECT_NE(complaint([] { (void)expected_call({}, {.tokens_per_second = 0}); }).find("0 tokens a second"),
              std::string::npos);
    EXPECT_NE(complaint([] { (void)expected_call({}, {.first_token = -1ns}); }).find("before its call"),
              std::string::npos);
    EXPECT_NE(complaint([&] { (void)find_least_raise(calls, good, {}, 0); }).find("steps of 0"), std::string::npos);
    EXPECT_NE(complaint([&] { (void)advise(calls, good, {}, {.headroom_per_mille = 999}); }).find("headroom"),
              std::string::npos);
    EXPECT_NE(complaint([&] { (void)find_least_raise(calls, {}, {}); }).find("without a model"), std::string::npos);
    EXPECT_NE(
        complaint([&] { (void)find_least_raise(calls, one_account({.rpm = 0}), {}); }).find("0 requests per minute"),
        std::string::npos);
    EXPECT_NE(complaint([&] { (void)find_least_raise({}, good, {}); }).find("no calls"), std::string::npos);
    EXPECT_NE(complaint([&] { (void)advise({}, good, {}); }).find("no calls"), std::string::npos);
    EXPECT_NE(complaint([&] { (void)advise(calls, {}, {}); }).find("without a model"), std::string::npos);
    EXPECT_NE(complaint([&] { (void)advise(calls, good, {setup{}}); }).find("without a model"), std::string::npos);
    EXPECT_NE(complaint([&] { (void)demand_of({}); }).find("no calls"), std::string::npos);
}

TEST(llm_advice, what_would_take_longer_than_twenty_years_is_never) {
    // A call a day by its answer, one at a time: 7300 in twenty years.
    auto s = one_account({});
    s.in_flight = 1;
    auto const f = simulate(at_once(8000, {.input = 1, .output = 0}, 24h), s);
    EXPECT_EQ(f.answered, 7301U);
    EXPECT_EQ(f.never, 699U);
}

// ---- drawn workloads ----

class drawn {
public:
    explicit drawn(std::uint64_t seed) : engine_{seed} {}
    std::uint64_t among(std::uint64_t least, std::uint64_t greatest) {
        return least + engine_() % (greatest - least + 1);
    }
    nanoseconds ms(std::uint64_t least, std::uint64_t greatest) {
        return std::chrono::milliseconds{static_cast<std::int64_t>(among(least, greatest))};
    }

    std::vector<planned_call> calls() {
        std::vector<planned_call> all(static_cast<std::size_t>(among(50, 300)));
        std::uint64_t const span = among(0, 1) == 0 ? 0 : among(1, 200'000);
        for (auto& c : all) {
            c.wanted = ms(0, span);
            c.bound = {.input = among(1, 400), .output = among(0, 300)};
            c.used = {.input = c.bound.input, .output = among(0, c.bound.output)};
            c.took = ms(1, 20'000);
        }
        return all;
    }
    quota limits() {
        quota q;
        if (among(0, 3) != 0) q.rpm = among(10, 200);
        if (among(0, 3) == 0) q.rps = among(1, 5);
        if (among(0, 3) != 0) q.tpm = among(1'000, 40'000);
        if (among(0, 7) == 0) q.tps = among(700, 2'000);
        return q;
    }

private:
    std::mt19937_64 engine_;
};

bool same(simulation_result const& a, simulation_result const& b) {
    auto const all = [](simulation_result const& f) {
        return std::tie(f.name, f.whole, f.wait.median, f.wait.p99, f.wait.longest, f.wait.total, f.cost, f.used,
                        f.answered, f.lesser, f.never, f.peak_minute, f.peak_second, f.per_mille);
    };
    return all(a) == all(b);
}

TEST(llm_advice, shares_sum_to_a_thousand_and_the_same_question_has_the_same_answer) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        drawn d{seed};
        auto const calls = d.calls();
        setup s = one_account(d.limits(), {d.among(0, 5'000'000), d.among(0, 9'000'000)});
        if (d.among(0, 1) == 0) s = with_accounts(s, static_cast<std::size_t>(d.among(2, 3)));
        if (d.among(0, 1) == 0) s = with_fallback(s, lesser_model(d.limits(), {1'000'000, 2'000'000}), d.ms(0, 5'000));
        if (d.among(0, 2) == 0) s.in_flight = d.among(1, 20);
        auto const f = simulate(calls, s);
        EXPECT_EQ(sum(f), 1000U) << seed;
        EXPECT_EQ(f.answered + f.never, calls.size()) << seed;
        EXPECT_LE(f.wait.median, f.wait.p99);
        EXPECT_LE(f.wait.p99, f.wait.longest);
        EXPECT_LE(f.wait.longest, f.whole);
        EXPECT_TRUE(same(f, simulate(calls, s))) << seed;
    }
}

TEST(llm_advice, a_raised_quota_makes_no_call_later) {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        drawn d{seed};
        auto const calls = d.calls();
        auto const now = one_account(d.limits());
        std::vector<placement> before;
        std::vector<placement> after;
        (void)simulate(calls, now, &before);
        for (std::uint64_t const per_mille : {1100U, 1500U, 3000U}) {
            (void)simulate(calls, with_raised_quota(now, per_mille), &after);
            for (std::size_t i = 0; i < calls.size(); ++i) {
                if (!before[i].admitted) continue;
                EXPECT_LE(after[i].sent, before[i].sent) << seed << ", call " << i << " at " << per_mille;
            }
        }
    }
}

// What the judge is told: requests that take up to J to arrive, and answers that end when they did.
std::uint64_t refusals(std::vector<planned_call> const& calls, setup const& s, std::vector<placement> const& where,
                       qwen::token_mode mode, drawn& d) {
    struct event {
        std::int64_t at;
        bool ends;
        std::size_t call;
    };
    qwen::quota_judge judge{{.tokens = mode, .derive_rps = false}};
    for (std::size_t m = 0; m < s.models.size(); ++m) {
        for (std::size_t a = 0; a < s.models[m].accounts.size(); ++a) {
            auto const& q = s.models[m].accounts[a].limits;
            judge.set_limits(std::to_string(a), std::to_string(m), {q.rpm, q.rps, q.tpm, q.tps});
        }
    }
    std::vector<event> events;
    for (std::size_t i = 0; i < calls.size(); ++i) {
        if (!where[i].admitted) continue;
        auto const late = static_cast<std::int64_t>(d.among(0, static_cast<std::uint64_t>(s.options.jitter.count())));
        std::int64_t const arrives = where[i].sent.count() + late;
        events.push_back({arrives, false, i});
        // The server is done with it before the client has read it.
        events.push_back({std::max<std::int64_t>(arrives, where[i].ended.count()), true, i});
    }
    // At one instant ends come first: an answer that is read may be what lets the next call go.
    std::sort(events.begin(), events.end(), [](event const& x, event const& y) {
        return std::tuple{x.at, !x.ends, x.call} < std::tuple{y.at, !y.ends, y.call};
    });
    std::vector<std::uint64_t> tickets(calls.size());
    for (auto const& e : events) {
        if (e.ends) {
            judge.complete(tickets[e.call], e.at, calls[e.call].used.output);
        } else {
            auto const v = judge.arrive(std::to_string(where[e.call].account), std::to_string(where[e.call].model),
                                        e.at, calls[e.call].bound.input, calls[e.call].bound.output);
            tickets[e.call] = v.ticket;
        }
    }
    return judge.report().total().refused.total();
}

TEST(llm_advice, a_server_that_keeps_exact_logs_refuses_no_call_of_a_rehearsed_schedule) {
    std::uint64_t waited = 0;
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        drawn d{seed};
        auto calls = d.calls();
        // The judge is told of the end at the end, so an answer must outlast the way.
        for (auto& c : calls) c.took = std::max<nanoseconds>(c.took, 200ms);
        setup s = with_fallback(with_accounts(one_account(d.limits()), 2), lesser_model(d.limits()), d.ms(0, 5'000));
        s.options.jitter = d.ms(0, 1) * 100;
        std::vector<placement> where;
        auto const f = simulate(calls, s, &where);
        waited += f.wait.longest > 0s ? 1 : 0;
        for (auto const mode : {qwen::token_mode::actual, qwen::token_mode::input_strict, qwen::token_mode::reserve}) {
            EXPECT_EQ(refusals(calls, s, where, mode, d), 0U) << seed << ", " << to_string(mode);
        }
        // And the judge can refuse: with all sent at once it does.
        if (f.wait.total > 0s && f.lesser == 0) {
            for (auto& p : where) p.ended -= p.sent, p.sent = 0s;
            EXPECT_GT(refusals(calls, s, where, qwen::token_mode::reserve, d), 0U) << seed;
        }
    }
    EXPECT_GT(waited, 15U) << "or little was tested";
}

TEST(llm_advice, is_within_a_hundredth_of_the_best_client_without_foresight) {
    int compared = 0;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        drawn d{seed};
        auto calls = d.calls();
        for (auto& c : calls) c.wanted = 0s;
        auto const q = d.limits();
        std::vector<placement> where;
        auto const f = simulate(calls, one_account(q), &where);
        if (f.never != 0) continue;
        std::vector<qwen::ideal_call> same_calls;
        for (auto const& c : calls)
            same_calls.push_back(
                {c.used.input, c.used.output, c.bound.output, std::chrono::duration<double>(c.took).count()});
        double const ideal = qwen::ideal_time(same_calls, {q.rpm, q.rps, q.tpm, q.tps});
        double last = 0;
        for (auto const& p : where) last = std::max(last, std::chrono::duration<double>(p.sent).count());
        EXPECT_GE(last, ideal - 0.001) << seed << ": better than the best";
        EXPECT_LE(last, ideal * 1.01 + 0.5) << seed;
        ++compared;
    }
    EXPECT_GT(compared, 15);
}

TEST(llm_advice, two_accounts_take_about_half_of_the_time) {
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        drawn d{seed};
        auto const calls =
            at_once(static_cast<std::size_t>(d.among(2000, 3000)), {.input = d.among(5, 50)}, d.ms(1, 500));
        auto const now = one_account({.rpm = d.among(30, 60), .tpm = d.among(2'000, 4'000)});
        auto const one = simulate(calls, now).whole;
        auto const two = simulate(calls, with_accounts(now, 2)).whole;
        EXPECT_LT(two * 100, one * 52) << seed;
        EXPECT_GT(two * 100, one * 45) << seed;
    }
}

// ---- in words ----

TEST(llm_advice, numbers_read_as_people_write_them) {
    using namespace weir::detail;
    EXPECT_EQ(grouped(0), "0");
    EXPECT_EQ(grouped(999), "999");
    EXPECT_EQ(grouped(1'000), "1,000");
    EXPECT_EQ(grouped(1'234'567), "1,234,567");
    EXPECT_EQ(decimal_text(1500, 3), "1.5");
    EXPECT_EQ(decimal_text(2000, 3), "2");
    EXPECT_EQ(decimal_text(5, 3), "0.005");
    EXPECT_EQ(decimal_text(1'234'500, 2, 2), "12,345.00");
    EXPECT_EQ(decimal_text(7, 0), "7");
    EXPECT_EQ(percent(984), "98.4%");
    EXPECT_EQ(percent(0), "0.0%");
    EXPECT_EQ(duration_text(0s), "0 s");
    EXPECT_EQ(duration_text(-1s), "0 s");
    EXPECT_EQ(duration_text(1ns), "below 1 ms");
    EXPECT_EQ(duration_text(5ms), "5 ms");
    EXPECT_EQ(duration_text(350ms), "0.35 s");
    EXPECT_EQ(duration_text(9'994ms), "9.99 s");
    EXPECT_EQ(duration_text(9'996ms), "10 s");
    EXPECT_EQ(duration_text(59'949ms), "59.9 s");
    EXPECT_EQ(duration_text(59'950ms), "1 min");
    EXPECT_EQ(duration_text(201s), "3 min 21 s");
    EXPECT_EQ(duration_text(3'599'500ms), "1 h");
    EXPECT_EQ(duration_text(2h + 5min), "2 h 5 min");
    EXPECT_EQ(duration_text(76h), "3 d 4 h");
    EXPECT_EQ(money{}.text(1'234'567), "$1.2346");
    EXPECT_EQ(money{}.text(1'200'000), "$1.20");
    EXPECT_EQ((money{"", " yuan", 2, 2}.text(1234)), "12.34 yuan");
    EXPECT_EQ((money{"", " yen", 0, 0}.text(1234)), "1,234 yen");
    EXPECT_EQ(to_text(quota{.rpm = 600, .rps = 10, .tpm = 1'000'000}), "600 RPM, 10 RPS, 1,000,000 TPM");
    EXPECT_EQ(to_text(quota{}), "no limits");
    for (std::size_t c = 0; c < constraints; ++c) EXPECT_FALSE(to_string(static_cast<constraint>(c)).empty());
}

advice small_advice() {
    auto const now = one_account({.rpm = 60, .tpm = 1'000'000}, {1'200'000, 6'000'000});
    auto const calls = at_once(600, {.input = 1000, .output = 100}, 2s);
    return advise(calls, now,
                  {with_accounts(now, 2), with_fallback(now, lesser_model({.rpm = 600}, {400'000, 1'200'000}))},
                  {.goal = {.whole = 5min}});
}

TEST(llm_advice, the_comparison_has_a_row_for_each) {
    EXPECT_EQ(to_text(small_advice()), R"(600 calls, 600,000 tokens in and 60,000 out; 60 RPM, 1,000,000 TPM.

                          time  wait: half  99 of 100    longest     cost  lesser model  bound by
as it is             9 min 3 s       4 min  9 min 1 s  9 min 1 s    $1.08                RPM 99.6%, answers 0.4%
2 accounts           4 min 2 s       2 min      4 min      4 min    $1.08                RPM 99.2%, answers 0.8%
falls back to small        2 s         0 s        0 s        0 s  $0.3888     540 calls  answers 100.0%
the quota asked for  3 min 2 s       1 min      3 min      3 min    $1.08                RPM 98.9%, answers 1.1%
no limits                  2 s         0 s        0 s        0 s    $1.08                answers 100.0%

2 accounts: large by main 300 calls $0.54; large by main (2) 300 calls $0.54
falls back to small: large by main 60 calls $0.108; small by main 540 calls $0.2808
The least quota with which all is done within 5 min: 120 RPM, 1,000,000 TPM (in steps of 1%). To ask
for, with a headroom of 20%, rounded up: 150 RPM, 1,000,000 TPM.
)");
}

TEST(llm_advice, the_letter_has_the_facts_and_the_figures) {
    auto const a = small_advice();
    auto const text = letter(a, {.vendor = "Alibaba Cloud",
                                 .sender = "A. Person",
                                 .account = "1234",
                                 .region = "Singapore",
                                 .purpose = "We summarise reports."});
    EXPECT_EQ(text, R"(Subject: request for a higher rate limit of large

To Alibaba Cloud

Dear team, we ask for a higher rate limit of large in region Singapore for account 1234 as follows:

  requests per minute   150  (now 60)
  tokens per minute     unchanged at 1,000,000

We summarise reports. What we need it for: 600 calls with 660,000 tokens (600,000 in, 60,000 out, as
we expect), all of them ready to be sent at once. To be done within 5 min that is 120 requests and
132,000 tokens a minute on the average, 2 requests and 2,200 tokens a second. At your prices that is
worth $1.08.

What the present limits cost: our client paces itself so that you need not refuse it. Its busiest
minute holds 60 of 60 requests and 66,000 of 1,000,000 tokens, its busiest second 60 requests. The
work takes 9 min 3 s; without any limit your answers would need 2 s. Half of the calls wait for more
than 4 min, one in a hundred for more than 9 min 1 s, the last for 9 min 1 s; all waiting together
is 1 d 21 h. Of the whole time requests per minute bound for 99.6%.

What the change would give: the same work takes 3 min 2 s, half of the calls wait for no more than 1
min and 99 of 100 for no more than 3 min. The amounts are the least with which all is done within 5
min (120 RPM, 1,000,000 TPM), and 20% more for growth, rounded up. They come from a simulation of
these calls, admitted by the very limiter that our client uses, in sliding windows.

Kind regards
A. Person
)");
}

TEST(llm_advice, a_letter_puts_one_space_between_words) {
    EXPECT_NE(
        letter(small_advice(), {.purpose = "  We  summarise reports. "}).find("\nWe summarise reports. What we need"),
        std::string::npos);
}

TEST(llm_advice, a_goal_is_told_in_words) {
    using weir::detail::goal_text;
    EXPECT_EQ(goal_text({}), "");
    EXPECT_EQ(goal_text({.whole = 90s, .wait = 2s}),
              "all is done within 1 min 30 s, and 99 of 100 calls wait at most 2 s");
    EXPECT_EQ(goal_text({.limited = 0}), "no limit binds");
    EXPECT_EQ(goal_text({.limited = 50}), "limits bind for at most 5.0% of the time");
    EXPECT_EQ(goal_text({.limited = 0, .by = weir::llm::limit::tpm}), "no call waits for tokens per minute");
    EXPECT_EQ(goal_text({.limited = 50, .by = weir::llm::limit::rps}),
              "requests per second bind for at most 5.0% of the time");
}

TEST(llm_advice, there_is_no_letter_without_something_to_ask_for) {
    auto const now = one_account({.rpm = 60});
    EXPECT_EQ(letter(advise(at_once(60), now, {})), "") << "no goal";
    EXPECT_EQ(letter(advise(at_once(60), now, {}, {.goal = {.whole = 1h}})), "") << "met";
    auto const in_vain = advise(at_once(60, {.input = 1, .output = 0}, 10s), now, {}, {.goal = {.whole = 9s}});
    EXPECT_EQ(letter(in_vain), "") << "in vain";
    EXPECT_NE(to_text(in_vain).find("No quota is large enough"), std::string::npos);
}

TEST(llm_advice, words_for_calls_that_cannot_be_admitted_and_for_tokens_that_are_held) {
    auto calls = at_once(3, {.input = 50, .output = 0}, 1s);
    calls[1].bound = {.input = 101, .output = 0};
    auto const now = one_account({.tpm = 100});
    auto const a = advise(calls, now, {}, {.goal = {.whole = 1min}});
    EXPECT_NE(to_text(a).find("1 call is larger than a limit and can never be admitted (the first is number 2; the "
                              "largest asks for 101 tokens)."),
              std::string::npos)
        << to_text(a);
    EXPECT_NE(letter(a).find("can never be admitted"), std::string::npos);
    std::vector<planned_call> const held(
        14, planned_call{0ns, {.input = 50, .output = 50}, {.input = 50, .output = 1}, 1s});
    auto const text = to_text(advise(held, one_account({.tpm = 1000}), {}));
    EXPECT_NE(text.find("\nmax_tokens as the answers   1 s"), std::string::npos) << text;
    EXPECT_NE(text.find("all would be done in 1 s"), std::string::npos) << text;
}

}  // namespace
