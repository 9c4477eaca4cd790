// SPDX-License-Identifier: MIT
//
// simulate(), by cases worked by hand. A window W has 1000 segments, and the current one counts as well: what was taken
// at 0 is free again at W + W/1000, so after 60.06 s for a minute and 1.001 s for a second.
#include <weir/llm/advice/advice.hpp>
#include <weir/llm/advice/simulation.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../support/planned_calls.hpp"

namespace advice_schedule_test {

using namespace std::chrono_literals;
using namespace advice_test;
using namespace weir::llm;
using std::chrono::nanoseconds;

TEST(llm_advice, a_batch_of_twice_the_quota_waits_for_one_window) {
    auto const f = simulate(at_once(120), one_account({.rpm = 60}));
    EXPECT_EQ(f.name, "as it is");
    EXPECT_EQ(f.answered, 120U);
    EXPECT_EQ(f.fallbacks + f.never + f.first_never + f.largest_never, 0U);
    EXPECT_EQ(f.makespan, 60'060ms);
    EXPECT_EQ(f.wait.median, 0ms) << "60 of 120 did not wait";
    EXPECT_EQ(f.wait.p99, 60'060ms);
    EXPECT_EQ(f.wait.longest, 60'060ms);
    EXPECT_EQ(f.wait.total, 60 * 60'060ms);
    EXPECT_EQ(f.share(constraint::rpm), 1000U);
    EXPECT_EQ(f.limited(), 1000U);
    EXPECT_EQ(f.peak_minute, (load{60, 60}));
    EXPECT_EQ(f.peak_second, (load{60, 60}));
}

TEST(llm_advice, a_peak_beyond_64_bits_saturates_and_the_next_one_is_exact) {
    std::vector<planned_call> const calls{
        {0ns, io(1, 0), io(max_count, 0), 0ns}, {0ns, io(1, 0), io(2, 0), 0ns}, {90s, io(1, 0), io(3, 0), 0ns}};
    EXPECT_EQ(demand_of(calls).peak_minute.tokens, max_count);
    EXPECT_EQ(demand_of(std::span{calls}.subspan(1)).peak_minute.tokens, 3U);
    EXPECT_EQ(simulate(calls, one_account({.rpm = 60})).peak_second.tokens, max_count);
}

TEST(llm_advice, the_median_and_the_99th_percentile_are_nearest_ranks) {
    // 49 at 0, 49 at 60.06 s, 2 at 120.12 s.
    auto const f = simulate(at_once(100), one_account({.rpm = 49}));
    EXPECT_EQ(f.wait.median, 60'060ms);
    EXPECT_EQ(f.wait.p99, 120'120ms);
    auto const most_at_once = simulate(at_once(100), one_account({.rpm = 99}));
    EXPECT_EQ(most_at_once.wait.p99, 0ms);
    EXPECT_EQ(most_at_once.wait.longest, 60'060ms);
    EXPECT_EQ(simulate(at_once(101), one_account({.rpm = 99})).wait.p99, 60'060ms) << "99 of 101 are too few";
}

TEST(llm_advice, time_of_answers_is_told_from_time_of_limits) {
    auto const f = simulate(at_once(120, io(1, 0), 1s), one_account({.rpm = 60}));
    EXPECT_EQ(f.makespan, 61'060ms);
    EXPECT_EQ(f.share(constraint::rpm), 984U) << "60.06 of 61.06";
    EXPECT_EQ(f.share(constraint::answers), 16U);
    EXPECT_EQ(sum(f), 1000U);
}

TEST(llm_advice, of_two_limits_the_one_that_denies_longest_binds) {
    auto const f = simulate(at_once(31), one_account({.rpm = 60, .rps = 1}));
    EXPECT_EQ(f.makespan, 30 * 1001ms);
    EXPECT_EQ(f.share(constraint::rps), 1000U);
    // Ten tokens a call, 100 a minute: ten calls in the first nine seconds, and the others wait for tokens.
    auto const g = simulate(at_once(20, io(10, 0)), one_account({.rps = 1, .tpm = 100}));
    EXPECT_EQ(g.share(constraint::rps) + g.share(constraint::tpm), 1000U);
    // Second by second for the first nine; the eleventh at 60.06 s, each of the next nine a second or so after the one
    // before.
    EXPECT_GE(g.makespan, 60'060ms + 9 * 1001ms);
    EXPECT_LE(g.makespan, 60'060ms + 9 * 1001ms + 60ms);
    EXPECT_GT(g.share(constraint::tpm), g.share(constraint::rps));
}

TEST(llm_advice, tokens_bind_by_the_minute) {
    auto const f = simulate(at_once(20, io(100, 0)), one_account({.rpm = 1000, .tpm = 1000}));
    EXPECT_EQ(f.makespan, 60'060ms);
    EXPECT_EQ(f.share(constraint::tpm), 1000U);
    EXPECT_EQ(f.used, (io(2000, 0)));
    EXPECT_EQ(f.peak_minute, (load{10, 1000}));
}

TEST(llm_advice, tokens_are_reserved_at_the_bound_until_the_answer_ends) {
    // Ten calls hold all of 1000 tokens until their answers come after a second, and then have used 510: the other four
    // have room.
    std::vector<planned_call> const calls(14, planned_call{0ns, io(50, 50), io(50, 1), 1s});
    auto const now = one_account({.tpm = 1000});
    auto const f = simulate(calls, now);
    EXPECT_EQ(f.makespan, 2s) << "ten at 0, four more at 1 s, and their answers";
    EXPECT_EQ(f.share(constraint::tpm), 500U);
    EXPECT_EQ(f.share(constraint::answers), 500U);
    auto const a = advise(calls, now, {});
    EXPECT_EQ(a.present.makespan, 2s);
    EXPECT_EQ(a.exact_bounds.makespan, 1s) << "a bound that is tight needs none of that";
    // But a bound below what the answer used is no tighter.
    std::vector<planned_call> const beyond(14, planned_call{0ns, io(50, 50), io(50, 90), 1s});
    auto const b = advise(beyond, now, {});
    EXPECT_EQ(b.exact_bounds.makespan, b.present.makespan);
    EXPECT_EQ(b.exact_bounds.wait.total, b.present.wait.total);
    // Nor is one that never would be: 50 and 960 are more than 1000.
    std::vector<planned_call> const much(2, planned_call{0ns, io(50, 50), io(50, 960), 1s});
    EXPECT_EQ(advise(much, now, {}).exact_bounds.never, 0U);
}

TEST(llm_advice, two_accounts_halve_the_windows) {
    auto const now = one_account({.rpm = 60});
    auto const calls = at_once(600);
    EXPECT_EQ(simulate(calls, now).makespan, 9 * 60'060ms);
    auto const two = simulate(calls, with_accounts(now, 2));
    EXPECT_EQ(two.name, "2 accounts");
    EXPECT_EQ(two.makespan, 4 * 60'060ms);
    ASSERT_EQ(two.use.size(), 2U);
    EXPECT_EQ(two.use[0].calls, 300U);
    EXPECT_EQ(two.use[1].calls, 300U);
    EXPECT_EQ(two.use[1].account, "main (2)");
    EXPECT_EQ(simulate(calls, with_accounts(now, 10)).makespan, 0ms);
    EXPECT_EQ(simulate(calls, with_account(now, {"bob", {.rpm = 540}})).makespan, 0ms);
}

TEST(llm_advice, a_raised_quota_needs_fewer_windows) {
    auto const now = one_account({.rpm = 60});
    auto const f = simulate(at_once(600), with_raised_quota(now, 2500));
    EXPECT_EQ(f.name, "quota x 2.5");
    EXPECT_EQ(f.makespan, 3 * 60'060ms);
    EXPECT_EQ(simulate(at_once(600), with_quota(now, {.rpm = 600})).makespan, 0ms);
}

TEST(llm_advice, a_fallback_serves_calls_that_would_wait_beyond_patience) {
    auto const now = one_account({.rpm = 60}, {10'000'000, 0});
    auto const lesser = fallback_model({.rpm = 60}, {1'000'000, 0});
    auto const at_once_too = simulate(at_once(120), with_fallback(now, lesser));
    EXPECT_EQ(at_once_too.name, "falls back to small");
    EXPECT_EQ(at_once_too.makespan, 0ms);
    EXPECT_EQ(at_once_too.fallbacks, 60U);
    EXPECT_EQ(at_once_too.cost, 60U * 10 + 60U * 1);
    EXPECT_EQ(sum(at_once_too), 1000U) << "of a makespan of zero";
    auto const patient = simulate(at_once(120), with_fallback(now, lesser, 60'060ms));
    EXPECT_EQ(patient.name, "falls back to small after 1 min");
    EXPECT_EQ(patient.fallbacks, 0U);
    EXPECT_EQ(patient.makespan, 60'060ms);
    EXPECT_EQ(patient.cost, 1200U);
    EXPECT_EQ(simulate(at_once(120), with_fallback(now, lesser, 60'059ms)).fallbacks, 60U);
    // Answers of the lesser model take a tenth of the time.
    auto quick = lesser;
    quick.latency_per_mille = 100;
    std::vector<placement> where;
    (void)simulate(at_once(120, io(1, 0), 10s), with_fallback(now, quick), &where);
    EXPECT_EQ(where[0].ended, 10s);
    EXPECT_EQ(where[119].model, 1U);
    EXPECT_EQ(where[119].ended, 1s);
}

TEST(llm_advice, a_proxy_at_088_of_the_price_saves_12_percent) {
    auto const now = one_account({.rpm = 60}, {1'200'000, 6'000'000});
    auto const calls = at_once(60, io(1000, 500));
    EXPECT_EQ(simulate(calls, now).cost, 60U * 1200 + 60U * 3000);
    setup_account const proxy{"proxy", {.rpm = 60}, {1'200'000, 6'000'000, 880}};
    auto const f = simulate(calls, through(now, proxy));
    EXPECT_EQ(f.name, "through proxy");
    EXPECT_EQ(f.cost, (60U * 1200 + 60U * 3000) * 88 / 100);
    // Together with the present account, the cheaper of the two is used first.
    auto const both = simulate(at_once(90, io(1000, 500)), with_account(now, proxy));
    EXPECT_EQ(both.name, "also proxy");
    EXPECT_EQ(both.makespan, 0ms);
    ASSERT_EQ(both.use.size(), 2U);
    EXPECT_EQ(both.use[0].calls, 30U);
    EXPECT_EQ(both.use[1].calls, 60U);
    EXPECT_EQ(both.cost, both.use[0].cost + both.use[1].cost);
    EXPECT_EQ(both.use[1].cost, (60U * 1200 + 60U * 3000) * 88 / 100);
}

TEST(llm_advice, remedies_compose) {
    auto const now = one_account({.rpm = 60});
    auto const s = with_fallback(with_accounts(with_raised_quota(now, 2000), 2), fallback_model({.rpm = 60}));
    EXPECT_EQ(s.name, "quota x 2, 2 accounts, falls back to small");
    auto const f = simulate(at_once(300), s);
    EXPECT_EQ(f.makespan, 0ms);
    EXPECT_EQ(f.fallbacks, 60U);
    EXPECT_EQ(now.models.size(), 1U) << "the setup that they are made of stays as it is";
}

TEST(llm_advice, a_bound_on_calls_in_flight_binds_as_in_flight) {
    auto now = one_account({});
    now.max_in_flight = 2;
    auto const f = simulate(at_once(10, io(1, 0), 1s), now);
    EXPECT_EQ(f.makespan, 5s);
    EXPECT_EQ(f.share(constraint::in_flight), 800U);
    EXPECT_EQ(f.share(constraint::answers), 200U);
    EXPECT_EQ(f.limited(), 0U);
    // An account's own: two accounts have four places.
    auto own = one_account({});
    own.models[0].accounts[0].max_in_flight = 2;
    EXPECT_EQ(simulate(at_once(10, io(1, 0), 1s), own).makespan, 5s);
    auto const two = simulate(at_once(10, io(1, 0), 1s), with_accounts(own, 2));
    EXPECT_EQ(two.makespan, 3s);
    EXPECT_EQ(two.share(constraint::in_flight), 667U);
    EXPECT_EQ(two.share(constraint::answers), 333U);
}

TEST(llm_advice, without_wanted_calls_the_time_is_idle) {
    std::vector<planned_call> const calls{{-5s, io(1, 0), io(1, 0), 1s}, {5s, io(1, 0), io(1, 0), 1s}};
    auto const f = simulate(calls, one_account({.rpm = 60}));
    EXPECT_EQ(f.makespan, 11s);
    EXPECT_EQ(f.share(constraint::answers), 182U) << "2 of 11";
    EXPECT_EQ(f.share(constraint::idle), 818U);
    EXPECT_EQ(f.wait.longest, 0s);
}

TEST(llm_advice, calls_are_served_in_the_order_in_which_they_are_wanted) {
    std::vector<planned_call> const calls{
        {2s, io(1, 0), io(1, 0), 0s}, {0s, io(1, 0), io(1, 0), 0s}, {1s, io(1, 0), io(1, 0), 0s}};
    std::vector<placement> where;
    auto const f = simulate(calls, one_account({.rpm = 1}), &where);
    EXPECT_EQ(where[1].sent, 0s);
    EXPECT_EQ(where[2].sent, 60'060ms);
    EXPECT_EQ(where[0].sent, 120'120ms);
    EXPECT_EQ(f.wait.longest, 118'120ms) << "from when it was wanted";
    EXPECT_EQ(f.wait.total, 118'120ms + 59'060ms);
}

TEST(llm_advice, a_call_that_can_never_be_admitted_delays_no_other) {
    auto calls = at_once(3, io(50, 0), 1s);
    calls[1].bound = io(101, 0);
    calls[1].used = io(101, 0);
    std::vector<placement> where;
    auto now = one_account({.tpm = 100}, {1'000'000, 0});
    auto const f = simulate(calls, now, &where);
    EXPECT_EQ(f.never, 1U);
    EXPECT_EQ(f.first_never, 1U);
    EXPECT_EQ(f.largest_never, 101U);
    EXPECT_EQ(f.answered, 2U);
    EXPECT_EQ(f.cost, 100U) << "it costs nothing";
    EXPECT_EQ(f.makespan, 1s);
    EXPECT_FALSE(where[1].admitted);
    EXPECT_TRUE(where[2].admitted);
    // Nor can it be where all are such.
    EXPECT_EQ(simulate(at_once(2, io(101, 0)), now).never, 2U);
    // Another model may take it, and a server that admits the large alone.
    EXPECT_EQ(simulate(calls, with_fallback(now, fallback_model({.tpm = 1000}))).fallbacks, 1U);
    now.options.oversize = weir::llm::oversize::alone;
    EXPECT_EQ(simulate(calls, now).never, 0U);
}

TEST(llm_advice, the_jitter_margin_is_simulated) {
    auto now = one_account({.rps = 10});
    now.options.jitter = 1s;
    EXPECT_EQ(simulate(at_once(20), now).makespan, 2002ms) << "a window of two seconds";
}

TEST(llm_advice, expects_answers_of_calls_that_were_not_sent) {
    constexpr planned_call c = expected_call(
        io(1000, 600), {.input_per_mille = 900, .output_per_mille = 500, .first_token = 400ms, .tokens_per_second = 60},
        3s);
    static_assert(c.wanted == 3s && c.used == io(900, 300) && c.bound == io(1000, 600) && c.latency == 5400ms);
    static_assert(expected_call(io(7, 7), {.input_per_mille = 500, .output_per_mille = 500}).used == io(4, 4),
                  "rounded up");
    static_assert(expected_call(io(0, 1), {.tokens_per_second = 3}).latency == 400ms + nanoseconds{333'333'334});
    static_assert(expected_call(io(0, max_count)).latency.count() > 0);
}

TEST(llm_advice, money_is_exact_and_rounds_up_once) {
    constexpr token_price p{1'200'000, 6'000'000};
    static_assert(p.of(io(1'000'000, 1'000'000)) == 7'200'000);
    static_assert(p.of(io(0, 0)) == 0);
    static_assert(token_price{1, 0}.of(io(1, 0)) == 1, "a millionth is one");
    static_assert(token_price{1'000'000, 0, 880}.of(io(1, 0)) == 1, "and so is 0.88");
    static_assert(token_price{1'000'000, 0, 880}.of(io(25, 0)) == 22);
    static_assert(token_price{1'000'000, 0, 0}.of(io(25, 0)) == 0);
    // 2^63 tokens at 2 for each: exactly 2^64 is one too many.
    static_assert(token_price{2'000'000, 0}.of(io((max_count >> 1U) + 1, 0)) == max_count);
    static_assert(token_price{2'000'000, 0}.of(io(max_count >> 1U, 0)) == max_count - 1);
    static_assert(token_price{max_count, max_count, max_count}.of(io(max_count, max_count)) == max_count);
    static_assert(token_price{1'000'000, 1'000'000}.of(io(max_count, 1)) == max_count);
    EXPECT_EQ(p.of(io(1, 0)), 2U) << "1.2";
}

TEST(llm_advice, demand_is_what_is_wanted_whatever_is_granted) {
    std::vector<planned_call> calls;
    for (int i = 0; i < 240; ++i) calls.push_back({7s + i * 500ms, io(10, 5), io(8, 2), 3s});
    auto const d = demand_of(calls);
    EXPECT_EQ(d.calls, 240U);
    EXPECT_EQ(d.used, (io(1920, 480)));
    EXPECT_EQ(d.span, 119'500ms);
    EXPECT_EQ(d.peak_minute, (load{120, 1200}));
    EXPECT_EQ(d.peak_second, (load{2, 20}));
    EXPECT_EQ(d.per_minute.requests, 121U) << "240 in 119.5 s, rounded up";
    auto const all = demand_of(at_once(7, io(3, 1)));
    EXPECT_EQ(all.per_minute, (load{7, 28}));
    EXPECT_EQ(all.peak_second, (load{7, 28}));
}

}  // namespace advice_schedule_test
