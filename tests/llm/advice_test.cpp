// SPDX-License-Identifier: MIT
//
// advise(): the quota to request, the comparison, invalid input.
#include <weir/llm/advice/advice.hpp>
#include <weir/llm/advice/letter.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/planned_calls.hpp"

namespace advice_test {

using namespace std::chrono_literals;
using namespace advice_test;
using namespace weir::llm;
using std::chrono::nanoseconds;

TEST(llm_advice, finds_the_smallest_quota_that_meets_a_goal) {
    auto const calls = at_once(600);
    auto const now = one_account({.rpm = 60, .tpm = 1'000'000});
    // In two halves, a window apart: 300 a minute, to the request. Tokens are not what is short.
    auto const r = find_min_raise(calls, now, {.makespan = 60'060ms});
    ASSERT_TRUE(r);
    EXPECT_EQ(r->limits, (quota{.rpm = 300, .tpm = 1'000'000}));
    EXPECT_EQ(r->outcome.makespan, 60'060ms);
    EXPECT_GT(simulate(calls, one_account({.rpm = 299, .tpm = 1'000'000})).makespan, 60'060ms);

    // Each limit as much as it must be, and no more: with 15 tokens a call the tokens are short as well.
    auto const heavy = at_once(600, io(15, 0));
    auto const tight = one_account({.rpm = 60, .tpm = 3000});
    auto const both = find_min_raise(heavy, tight, {.makespan = 60'060ms});
    ASSERT_TRUE(both);
    EXPECT_EQ(both->limits, (quota{.rpm = 300, .tpm = 4500}));

    EXPECT_EQ(find_min_raise(calls, now, {.p99_wait = 0ms})->limits.rpm, 594U) << "99 of 100 at once";
    EXPECT_EQ(find_min_raise(calls, now, {.max_limited = 0})->limits.rpm, 600U) << "no call waits";
    // One limit alone: 15 tokens a call, so that both would have to be ten times as much for no call to wait.
    auto const mixed = one_account({.rpm = 60, .tpm = 100});
    EXPECT_GT(simulate(heavy, mixed).share(constraint::tpm), 900U);
    auto const tokens_alone = find_min_raise(heavy, mixed, {.max_limited = 0, .by = weir::llm::limit::tpm});
    ASSERT_TRUE(tokens_alone);
    EXPECT_EQ(tokens_alone->limits.rpm, 60U);
    EXPECT_EQ(tokens_alone->limits.tpm, 900U) << "60 calls of 15: what the requests let through";
    EXPECT_EQ(find_min_raise(calls, now, {.makespan = 1h})->limits, now.models[0].accounts[0].limits)
        << "enough as it is";
    EXPECT_EQ(find_min_raise(at_once(10, io(1, 0), 5s), now, {.makespan = 4s}), std::nullopt)
        << "no quota makes an answer shorter";
    // A goal admits every call.
    auto large = at_once(3, io(2000, 0));
    EXPECT_EQ(find_min_raise(large, one_account({.tpm = 1000}), {.makespan = 1h})->limits.tpm, 2000U);
}

TEST(llm_advice, accounts_that_differ_are_raised_each_from_its_own_quota) {
    setup const two{.models = {{"large", {{"main", {.rpm = 60}}, {"other", {.rpm = 600}}}}}};
    auto const calls = at_once(1320);
    goal const g{.p99_wait = 0ms};
    auto const a = advise(calls, two, {}, {.goal = g});
    ASSERT_TRUE(a.min_raise);
    EXPECT_TRUE(g.met(a.min_raise->outcome));
    EXPECT_EQ(a.min_raise->limits.rpm, 119U) << "99 of 100 at once";
    EXPECT_EQ(a.requested.rpm, 150U);
    EXPECT_TRUE(g.met(a.with_requested)) << "a larger request is no worse";

    // A limit that the first account does not have.
    setup const unlike{.models = {{"large", {{"main", {.rpm = 5}}, {"other", {.tpm = 500}}}}}};
    auto const large = at_once(20, io(100, 0));
    auto const b = advise(large, unlike, {}, {.goal = g});
    ASSERT_TRUE(b.min_raise);
    EXPECT_TRUE(g.met(b.min_raise->outcome));
    EXPECT_TRUE(g.met(b.with_requested));
    EXPECT_NE(letter(b).find("  Account main:\n  requests per minute   12  (now 5)\n  Account other:\n  tokens per "
                             "minute     1,200  (now 500)\n"),
              std::string::npos)
        << letter(b);
}

TEST(llm_advice, no_smaller_factor_meets_the_goal) {
    // The limits that a factor in steps of a hundredth makes of 60 are 60, 61, 62, 62, 63, …; the least of them that
    // lets all go at once.
    for (std::uint64_t n = 60; n <= 200; n += 7) {
        std::uint64_t factor = 1000;
        while (weir::detail::mul_div_ceil(60, factor, 1000) < n) factor += 10;
        auto const r = find_min_raise(at_once(static_cast<std::size_t>(n)), one_account({.rpm = 60}),
                                      {.p99_wait = 0ms, .max_limited = 0});
        ASSERT_TRUE(r);
        EXPECT_EQ(r->limits.rpm, weir::detail::mul_div_ceil(60, factor, 1000)) << n;
    }
}

TEST(llm_advice, headroom_is_added_only_to_limits_that_are_raised) {
    static_assert(with_headroom({.rpm = 300, .tpm = 1'000'000}, {.rpm = 60, .tpm = 1'000'000}) ==
                  quota{.rpm = 360, .tpm = 1'000'000});
    static_assert(with_headroom({.rpm = 301, .rps = 7}, {.rpm = 60, .rps = 1}, 1000) == quota{.rpm = 310, .rps = 7});
    static_assert(with_headroom({.tpm = 1'234'567}, {.tpm = 1}).tpm == 1'500'000U);
    static_assert(with_headroom({.tpm = max_count}, {.tpm = 1}).tpm == max_count);
}

TEST(llm_advice, advise_compares_all_remedies) {
    auto const now = one_account({.rpm = 60});
    auto const a = advise(at_once(600), now, {with_accounts(now, 2), with_raised_quota(now, 5000)},
                          {.goal = {.makespan = 60'060ms}});
    EXPECT_EQ(a.present.makespan, 9 * 60'060ms);
    EXPECT_EQ(a.unlimited.makespan, 0s);
    ASSERT_EQ(a.remedies.size(), 2U);
    EXPECT_EQ(a.remedies[0].makespan, 4 * 60'060ms);
    EXPECT_EQ(a.remedies[1].makespan, 60'060ms);
    ASSERT_TRUE(a.min_raise);
    EXPECT_EQ(a.min_raise->limits.rpm, 300U);
    EXPECT_EQ(a.requested.rpm, 360U);
    EXPECT_EQ(a.with_requested.makespan, 60'060ms);
    EXPECT_EQ(a.with_requested.name, "requested quota");
}

template <class F>
std::string complaint(F f) {
    try {
        f();
    } catch (std::invalid_argument const& e) {
        return e.what();
    }
    return "no complaint";
}

TEST(llm_advice, invalid_input_is_reported_with_what_is_allowed) {
    auto const good = one_account({.rpm = 60});
    auto const calls = at_once(1);
    auto const of = [&](std::vector<planned_call> const& c, setup const& s) {
        return complaint([&] { (void)simulate(c, s); });
    };
    EXPECT_EQ(of(calls, good), "no complaint");
    EXPECT_EQ(of({}, good), "calls must not be empty");
    EXPECT_EQ(of({{0s, {}, {}, -1ns}}, good), "latency must not be negative");
    EXPECT_EQ(of({{0s, {}, {}, 25h}}, good), "latency must be at most 24 h");
    EXPECT_EQ(of({{24h * 366, {}, {}, 0s}}, good), "wanted must be within a year of the origin");
    EXPECT_EQ(of(calls, {}), "a setup must have at least one model");
    EXPECT_EQ(of(calls, {.models = {{"m", {}}}}), "a model must have at least one account");
    EXPECT_NE(of(calls, one_account({.rpm = 0})), "no complaint");
    EXPECT_EQ(of(calls, {.models = {{"m", {{"a", {.rpm = 1}}, {"a", {.rpm = 1}}}}}}),
              "the accounts of a model must have different names: keys of one account share its quota");
    auto s = good;
    s.patience = -1ns;
    EXPECT_EQ(of(calls, s), "patience must not be negative");
    int negative = -1;
    s = good;
    s.max_in_flight = negative;
    EXPECT_EQ(of(calls, s), "max_in_flight must not be negative");
    s = good;
    s.models[0].accounts[0].max_in_flight = negative;
    EXPECT_EQ(of(calls, s), "max_in_flight must not be negative");
    s.models[0].accounts[0].max_in_flight = 0;
    s.models[0].accounts[0].price.output = negative;
    EXPECT_EQ(of(calls, s), "a price must not be negative");
    s = good;
    s.models[0].latency_per_mille = 1'000'001;
    EXPECT_EQ(of(calls, s), "latency_per_mille must be at most 1000000");
    s = good;
    s.options.jitter = -1ns;
    EXPECT_NE(of(calls, s).find("jitter"), std::string::npos);
    EXPECT_NE(of(calls, with_raised_quota(good, 0)), "no complaint");
    EXPECT_EQ(complaint([] { (void)expected_call({}, {.tokens_per_second = 0}); }),
              "tokens_per_second must be at least 1");
    EXPECT_EQ(complaint([&] { (void)expected_call({}, {.output_per_mille = negative}); }),
              "output_per_mille must not be negative");
    EXPECT_EQ(complaint([] { (void)expected_call({}, {.first_token = -1ns}); }), "first_token must not be negative");
    EXPECT_EQ(complaint([&] { (void)find_min_raise(calls, good, {}, 0); }), "step_per_mille must be at least 1");
    EXPECT_EQ(complaint([&] { (void)advise(calls, good, {}, {.headroom_per_mille = 999}); }),
              "headroom_per_mille must be at least 1000");
    EXPECT_EQ(complaint([&] { (void)find_min_raise(calls, {}, {}); }), "a setup must have at least one model");
    EXPECT_NE(complaint([&] { (void)find_min_raise(calls, one_account({.rpm = 0}), {}); }), "no complaint");
    EXPECT_EQ(complaint([&] { (void)find_min_raise({}, good, {}); }), "calls must not be empty");
    EXPECT_EQ(complaint([&] { (void)advise({}, good, {}); }), "calls must not be empty");
    EXPECT_EQ(complaint([&] { (void)advise(calls, {}, {}); }), "a setup must have at least one model");
    EXPECT_EQ(complaint([&] { (void)advise(calls, good, {setup{}}); }), "a setup must have at least one model");
    EXPECT_EQ(complaint([&] { (void)demand_of({}); }), "calls must not be empty");
}

template <class T>
concept can_be_a_count = requires(T n) {
    token_price{n, n};
    with_raised_quota(setup{}, n);
    with_accounts(setup{}, n);
    setup_account{.max_in_flight = n};
};
static_assert(can_be_a_count<int> && can_be_a_count<std::uint64_t> && !can_be_a_count<double> &&
              !can_be_a_count<float>);

TEST(llm_advice, a_call_that_would_wait_twenty_years_is_never_admitted) {
    // A call a day by its answer, one at a time: 7300 in twenty years.
    auto s = one_account({});
    s.max_in_flight = 1;
    auto const f = simulate(at_once(8000, io(1, 0), 24h), s);
    EXPECT_EQ(f.answered, 7301U);
    EXPECT_EQ(f.never, 699U);
}

}  // namespace advice_test
