// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/fallback_chain.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>

namespace fallback_chain_test {

using namespace std::chrono_literals;
using namespace weir::llm;
using weir::manual_clock;
using pool = account_pool<manual_clock&>;
using chain = fallback_chain<pool>;

verdict of(int status, std::string_view code, std::string_view message = {}) {
    answer a;
    a.dialect = dialect::dashscope;
    a.status = status;
    a.code = code;
    a.message = message;
    return classify(a);
}

struct three_models : testing::Test {
    three_models() {
        top.add({"e", "a", "r", "qwen3-max"}, "k", {.rpm = 2}, {}, 0, clock);
        middle.add({"e", "a", "r", "qwen-plus"}, "k", {.rpm = 3}, {}, 0, clock);
        bottom.add({"e", "a", "r", "qwen-turbo"}, "k", {.rpm = 100}, {}, 0, clock);
        models.add("qwen3-max", top);
        models.add("qwen-plus", middle);
        models.add("qwen-turbo", bottom);
    }
    std::string next(std::chrono::nanoseconds patience = 1s) {
        auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), patience);
        return c ? std::string{models.model(*c)} : "none";
    }

    manual_clock clock;
    pool top, middle, bottom;
    chain models{{.max_overloads = 3, .min_cooldown = 10s, .max_cooldown = 40s}};
};
using llm_fallback_chain = three_models;

TEST_F(llm_fallback_chain, falls_when_the_wait_is_longer_than_the_caller_bears_and_comes_back_up) {
    EXPECT_EQ(next(), "qwen3-max");
    clock.advance(30s);
    EXPECT_EQ(next(), "qwen3-max");
    EXPECT_EQ(next(), "qwen-plus");
    EXPECT_EQ(next(), "qwen-plus");
    EXPECT_EQ(next(), "qwen-plus");
    EXPECT_EQ(next(), "qwen-turbo");
    clock.advance(31s);
    EXPECT_EQ(next(), "qwen3-max");
}

TEST_F(llm_fallback_chain, waits_for_a_better_model_that_is_near) {
    EXPECT_EQ(next(), "qwen3-max");
    EXPECT_EQ(next(), "qwen3-max");
    clock.advance(59s);
    auto const c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 2s);
    EXPECT_FALSE(c);
    EXPECT_EQ(c.waits_for(), 0U);
    clock.advance_to(c.retry_at());
    EXPECT_EQ(next(), "qwen3-max");
}

TEST_F(llm_fallback_chain, a_model_whose_free_quota_is_gone_is_out_and_the_next_answers) {
    auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
    ASSERT_EQ(*c, 0U);
    models.report(c, of(429, "insufficient_quota", "Free allocated quota exceeded."), clock.now());
    EXPECT_EQ(models.cooldown_until(0), clock.now() + 10s);
    EXPECT_EQ(next(), "qwen-plus");
    clock.advance(10s);
    EXPECT_EQ(next(), "qwen3-max");
}

TEST_F(llm_fallback_chain, a_free_quota_is_an_account_s_where_the_model_has_several) {
    top.add({"e", "b", "r", "qwen3-max"}, "k2", {.rpm = 2}, {}, 0, clock);
    auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
    ASSERT_EQ(*c, 0U);
    models.report(c, of(429, "insufficient_quota", "Free allocated quota exceeded."), clock.now());
    EXPECT_LE(models.cooldown_until(0), clock.now());
    EXPECT_GT(std::max(top.cooldown_until(0), top.cooldown_until(1)), clock.now()) << "the account";
    EXPECT_LE(std::min(top.cooldown_until(0), top.cooldown_until(1)), clock.now()) << "and no other";
    EXPECT_EQ(next(), "qwen3-max");
    EXPECT_EQ(next(), "qwen3-max");
    EXPECT_EQ(next(), "qwen-plus");
}

TEST_F(llm_fallback_chain, a_model_on_cooldown_keeps_no_call_waiting_however_patient) {
    auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
    models.report(c, of(403, "AllocationQuota.FreeTierOnly"), clock.now());
    EXPECT_EQ(next(1h), "qwen-plus");
}

TEST_F(llm_fallback_chain, overload_now_and_then_is_borne_and_in_a_row_is_not) {
    auto const down = of(503, "ModelUnavailable");
    for (int round = 0; round < 3; ++round) {
        auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
        ASSERT_EQ(*c, 0U) << round;
        models.report(c, down, clock.now());
        models.report(c, down, clock.now());
        EXPECT_LE(models.cooldown_until(0), clock.now());
        models.report(c, of(200, {}), clock.now());
        clock.advance(61s);
    }
    auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
    for (int i = 0; i < 3; ++i) models.report(c, down, clock.now());
    EXPECT_EQ(models.cooldown_until(0), clock.now() + 10s);
    clock.advance(10s);
    models.report(c, down, clock.now());
    EXPECT_EQ(models.cooldown_until(0), clock.now() + 20s);
}

TEST_F(llm_fallback_chain, a_hint_says_how_long_a_model_is_out) {
    auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
    auto v = of(404, "ModelNotFound");
    v.wait = 7s;
    models.report(c, v, clock.now());
    EXPECT_EQ(models.cooldown_until(0), clock.now() + 7s);
}

TEST_F(llm_fallback_chain, a_request_too_large_for_a_model_starts_no_cooldown) {
    answer a;
    a.dialect = dialect::openai;
    a.status = 429;
    a.code = "rate_limit_exceeded";
    a.message = "Request too large for gpt-4";
    auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
    models.report(c, classify(a), clock.now());
    EXPECT_LE(models.cooldown_until(0), clock.now());
}

TEST_F(llm_fallback_chain, an_account_s_trouble_is_the_pool_s) {
    auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
    models.report(c, of(400, "Arrearage"), clock.now());
    EXPECT_LE(models.cooldown_until(0), clock.now());
    EXPECT_GT(top.cooldown_until(0), clock.now());
    EXPECT_EQ(next(), "qwen-plus");
}

TEST_F(llm_fallback_chain, when_none_can_it_names_the_earliest) {
    for (int i = 0; i < 105; ++i) EXPECT_NE(next(0s), "none");
    auto const c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
    EXPECT_FALSE(c);
    EXPECT_GT(c.retry_at(), clock.now());
    clock.advance_to(c.retry_at());
    EXPECT_NE(next(0s), "none");
    chain empty;
    EXPECT_EQ(empty.try_acquire({.input = 1, .output = 0}, clock.now(), 1s).retry_at(), chain::time_point::max());
}

TEST_F(llm_fallback_chain, refunds_and_settles_where_it_was_charged) {
    auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), 0s);
    EXPECT_NE(models.refund(c), weir::llm::tokens{});
    EXPECT_EQ(models.refund(c), weir::llm::tokens{});
    EXPECT_EQ(top.limits(0).available(clock.now()).rpm, 2U);
}

// The dear model is the better one; each link has an account at its own price and a proxy at a lower one.
struct priced_models : testing::Test {
    priced_models() {
        best.add({"e", "a", "r", "max"}, "k", {.rpm = 2}, {}, 100, clock);
        best.add({"proxy", "a", "r", "max"}, "k", {.rpm = 1}, {}, 88, clock);
        lesser.add({"e", "a", "r", "turbo"}, "k", {.rpm = 2}, {}, 10, clock);
        models.add("max", best);
        models.add("turbo", lesser);
    }
    std::string next(chain::terms const& bears) {
        auto c = models.try_acquire({.input = 1, .output = 0}, clock.now(), bears);
        if (c) return std::string{models.model(*c)} + " " + std::to_string(models.pool(*c).price(*c.member()));
        return std::string{to_string(c.denied_by())} + (c.retry_at() == chain::time_point::max() ? ", never" : "");
    }

    manual_clock clock;
    pool best, lesser;
    chain models;
};
using llm_fallback_price = priced_models;

TEST_F(llm_fallback_price, is_the_pools_matter_where_the_call_does_not_ask) {
    EXPECT_EQ(next({}), "max 88");
    EXPECT_EQ(next({}), "max 100");
    EXPECT_EQ(next({}), "max 100");
    EXPECT_EQ(next({}), "turbo 10");
}

TEST_F(llm_fallback_price, goes_before_the_order_of_the_chain_with_cheapest_first) {
    chain::terms const cheap{.cheapest_first = true};
    EXPECT_EQ(next(cheap), "turbo 10");
    EXPECT_EQ(next(cheap), "turbo 10");
    EXPECT_EQ(next(cheap), "max 88");
    EXPECT_EQ(next(cheap), "max 100");
    EXPECT_EQ(next(cheap), "max 100");
    EXPECT_EQ(next(cheap), "requests per minute");
    // The patient wait for the cheap one.
    clock.advance(59s);
    EXPECT_EQ(next({.patience = 2s, .cheapest_first = true}), "requests per minute");
    clock.advance(1100ms);
    EXPECT_EQ(next({.patience = 2s, .cheapest_first = true}), "turbo 10");
}

TEST_F(llm_fallback_price, that_is_more_than_the_call_allows_is_not_paid) {
    EXPECT_EQ(next({.max_price = 99}), "max 88");
    EXPECT_EQ(next({.max_price = 99}), "turbo 10");
    EXPECT_EQ(next({.max_price = 100}), "max 100");
    EXPECT_EQ(next({.max_price = 10}), "turbo 10");
    EXPECT_EQ(next({.max_price = 10}),
              "requests per minute");  // the cheap one's own limit: it is worth waiting for
    EXPECT_EQ(next({.max_price = 9}), "price, never");
    EXPECT_EQ(next({.max_price = 9, .cheapest_first = true}), "price, never");
    EXPECT_EQ(best.limits(0).available(clock.now()).rpm, 1U) << "nothing was taken";
}

TEST_F(llm_fallback_price, above_the_maximum_is_not_waited_for_while_its_model_is_on_cooldown) {
    auto dear = models.try_acquire({.input = 1, .output = 0}, clock.now(), chain::terms{});
    ASSERT_EQ(*dear, 0U);
    for (int i = 0; i < 3; ++i) models.report(dear, of(503, "ModelUnavailable"), clock.now());
    ASSERT_GT(models.cooldown_until(0), clock.now());
    EXPECT_EQ(next({.max_price = 9}), "price, never");
    EXPECT_EQ(next({.max_price = 10}), "turbo 10");
    EXPECT_EQ(next({.max_price = 10}), "turbo 10");
    auto const c = models.try_acquire({.input = 1, .output = 0}, clock.now(), chain::terms{.max_price = 10});
    EXPECT_FALSE(c);
    EXPECT_EQ(c.waits_for(), 1U);
    EXPECT_EQ(c.denied_by(), limit_kind::rpm);
    EXPECT_GT(c.retry_at(), models.cooldown_until(0));
}

TEST_F(llm_fallback_price, is_an_account_s_not_its_link_s) {
    lesser.add({"proxy", "a", "r", "turbo"}, "k", {.rpm = 1}, {}, 90, clock);
    chain::terms const cheap{.cheapest_first = true};
    for (auto const* expected : {"turbo 10", "turbo 10", "max 88", "turbo 90", "max 100", "max 100"})
        EXPECT_EQ(next(cheap), expected);
}

TEST_F(llm_fallback_price, of_links_that_cost_the_same_leaves_them_in_the_order_of_the_chain) {
    pool other;
    other.add({"e", "b", "r", "turbo-2"}, "k", {.rpm = 2}, {}, 10, clock);
    models.add("turbo-2", other);
    pool nobody;
    models.add("empty", nobody);
    chain::terms const cheap{.cheapest_first = true};
    EXPECT_EQ(next(cheap), "turbo 10");
    EXPECT_EQ(next(cheap), "turbo 10");
    EXPECT_EQ(next(cheap), "turbo-2 10");
}

TEST(llm_fallback_options, have_these_defaults) {
    constexpr fallback_options o;
    static_assert(o.max_overloads == 3 && o.min_cooldown == 10s && o.max_cooldown == 10min);
}

TEST(llm_cooldown, doubles_to_the_longest_and_no_further) {
    cooldown<manual_clock::time_point> out;
    manual_clock::time_point t{};
    for (auto const length : {10s + 0ns, 20s + 0ns, 40s + 0ns, 40s + 1ns, 40s + 1ns}) {
        for (int same = 0; same < 2; ++same) {
            out.begin({}, t, {}, 10s, 40s + 1ns);
            EXPECT_EQ(out.until(), t + length);
        }
        t = out.until();
    }
    out.answered();
    out.end();
    out.begin({}, t, {}, 10s, 40s + 1ns);
    EXPECT_EQ(out.until(), t + 10s);
    out.end();
    out.begin({}, t, {}, 10s, 5s);
    EXPECT_EQ(out.until(), t + 5s) << "the first is no longer than the longest";
}

}  // namespace fallback_chain_test
