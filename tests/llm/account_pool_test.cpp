// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/account_pool.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace account_pool_test {

using namespace std::chrono_literals;
using namespace weir::llm;
using weir::manual_clock;
using weir::llm::tokens;
using pool = account_pool<manual_clock&>;
using time_point = pool::time_point;

account_id account(std::string name, std::string model = "qwen3-max") {
    return {"https://one", std::move(name), "intl", std::move(model)};
}
constexpr weir::llm::quota small{.rpm = 10, .tpm = 10'000};

verdict of(dialect d, int status, std::string_view code, std::string_view message = {}) {
    answer a;
    a.dialect = d;
    a.status = status;
    a.code = code;
    a.message = message;
    return classify(a);
}

TEST(llm_account_pool, two_keys_of_one_account_gain_nothing_and_two_accounts_double) {
    manual_clock clock;
    pool one;
    EXPECT_EQ(one.add(account("alice"), "k1", small, {}, 0, clock), 0U);
    EXPECT_EQ(one.add(account("alice"), "k2", small, {}, 0, clock), 0U);
    EXPECT_EQ(one.size(), 1U);
    EXPECT_EQ(one.effective_rpm(clock.now()), 10U);
    int served = 0;
    while (one.try_acquire({.input = 1, .output = 0}, clock.now())) ++served;
    EXPECT_EQ(served, 10);

    pool two;
    two.add(account("alice"), "k1", small, {}, 0, clock);
    EXPECT_EQ(two.add(account("bob"), "k3", small, {}, 0, clock), 1U);
    EXPECT_EQ(two.effective_rpm(clock.now()), 20U);
    EXPECT_EQ(two.effective_tpm(clock.now()), 20'000U);
    served = 0;
    while (two.try_acquire({.input = 1, .output = 0}, clock.now())) ++served;
    EXPECT_EQ(served, 20);
    EXPECT_EQ(two.member_of("k3"), 1U);
    EXPECT_EQ(two.member_of("k9"), pool::none);
}

TEST(llm_account_pool, another_model_region_or_endpoint_has_a_quota_of_its_own) {
    manual_clock clock;
    pool p;
    p.add(account("alice"), "k1", small, {}, 0, clock);
    p.add(account("alice", "qwen-plus"), "k1", small, {}, 0, clock);
    p.add({"https://proxy", "alice", "intl", "qwen3-max"}, "k1", small, {}, 0, clock);
    p.add({"https://one", "alice", "beijing", "qwen3-max"}, "k1", small, {}, 0, clock);
    EXPECT_EQ(p.size(), 4U);
    EXPECT_EQ(p.effective_rpm(clock.now()), 40U);
}

TEST(llm_account_pool, equals_take_turns) {
    manual_clock clock;
    pool p;
    for (auto const* name : {"a", "b", "c"}) p.add(account(name), name, small, {}, 0, clock);
    std::map<std::size_t, int> served;
    for (int i = 0; i < 12; ++i) ++served[*p.try_acquire({.input = 1, .output = 0}, clock.now())];
    EXPECT_EQ(served, (std::map<std::size_t, int>{{0, 4}, {1, 4}, {2, 4}}));
}

TEST(llm_account_pool, equals_take_turns_among_dearer_ones_and_where_one_of_them_is_away) {
    manual_clock clock;
    pool p;
    for (auto const* name : {"a", "b", "c", "d", "e"})
        p.add(account(name), name, small, {}, *name < 'c' ? 1 : 0, clock);
    std::map<std::size_t, int> served;
    for (int i = 0; i < 12; ++i) ++served[*p.try_acquire({.input = 1, .output = 0}, clock.now())];
    EXPECT_EQ(served, (std::map<std::size_t, int>{{2, 4}, {3, 4}, {4, 4}}));
    p.begin_cooldown(2, clock.now() + 1h);
    served.clear();
    for (int i = 0; i < 6; ++i) ++served[*p.try_acquire({.input = 1, .output = 0}, clock.now())];
    EXPECT_EQ(served, (std::map<std::size_t, int>{{3, 3}, {4, 3}}));
}

TEST(llm_account_pool, a_member_that_grants_nothing_has_had_no_turn) {
    manual_clock clock;
    pool p;
    for (auto const* name : {"a", "b"}) p.add(account(name), name, small, {}, 0, clock);
    std::size_t const both[] = {0, 1};
    std::map<std::size_t, int> served;
    for (int i = 0; i < 6; ++i) {
        ++served[*p.try_acquire({.input = 1, .output = 0}, clock.now())];
        EXPECT_FALSE(p.try_acquire({.input = 1, .output = 0}, clock.now(), both));
    }
    EXPECT_EQ(served, (std::map<std::size_t, int>{{0, 3}, {1, 3}}));
}

TEST(llm_account_pool, a_member_that_is_not_admitted_is_not_waited_for) {
    manual_clock clock;
    pool p;
    p.add(account("a"), "a", small, {}, 0, clock);
    p.begin_cooldown(0, clock.now() + 1min);
    struct nobody {
        static bool admits(std::size_t) { return false; }
        static time_point ready(std::size_t, time_point t) { return t; }
        static bool take(std::size_t, time_point) { return true; }
        static limit_kind denied_by() { return limit_kind::price; }
    };
    auto const c = p.try_acquire({.input = 1, .output = 0}, clock.now(), {}, nobody{});
    EXPECT_EQ(c.retry_at(), time_point::max());
    EXPECT_EQ(c.denied_by(), limit_kind::price);
    EXPECT_TRUE(c.never());
}

TEST(llm_account_pool, the_cheapest_that_can_serve_serves) {
    manual_clock clock;
    pool p;
    p.add(account("dear"), "d", small, {}, 100, clock);
    p.add({"https://proxy", "cheap", "", "qwen3-max"}, "c", small, {}, 88, clock);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(*p.try_acquire({.input = 1, .output = 0}, clock.now()), 1U);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(*p.try_acquire({.input = 1, .output = 0}, clock.now()), 0U);
    EXPECT_FALSE(p.try_acquire({.input = 1, .output = 0}, clock.now()));
}

TEST(llm_account_pool, a_denial_names_the_moment_at_which_the_first_can_serve) {
    manual_clock clock;
    pool p;
    p.add(account("a"), "a", {.rpm = 1}, {}, 0, clock);
    p.add(account("b"), "b", {.rpm = 1}, {}, 0, clock);
    ASSERT_TRUE(p.try_acquire({}, clock.now()));
    clock.advance(20s);
    ASSERT_TRUE(p.try_acquire({}, clock.now()));
    auto const c = p.try_acquire({}, clock.now());
    ASSERT_FALSE(c);
    EXPECT_EQ(*c, pool::none);
    clock.advance_to(c.retry_at() - 1ns);
    EXPECT_FALSE(p.try_acquire({}, clock.now()));
    clock.advance(1ns);
    EXPECT_EQ(*p.try_acquire({}, clock.now()), 0U);
    EXPECT_EQ(pool{}.try_acquire({}, clock.now()).retry_at(), time_point::max());
}

TEST(llm_account_pool, an_account_without_quota_is_on_cooldown_until_its_reset) {
    manual_clock clock;
    pool p;
    p.add(account("a"), "a", small, {}, 0, clock);
    p.add(account("b"), "b", small, {}, 0, clock);
    auto const now = std::chrono::sys_days{std::chrono::year{2026} / 10 / 15} + 15h;
    answer a;
    a.dialect = dialect::dashscope;
    a.status = 429;
    a.message = "Your token-plan 1-month quota has been exhausted. The quota will reset at 10-15 16:00:00 UTC.";
    a.now = now;
    p.report(0, classify(a), clock.now(), now);
    EXPECT_EQ(p.cooldown_until(0), clock.now() + 1h);
    EXPECT_EQ(p.effective_rpm(clock.now()), 10U);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(*p.try_acquire({.input = 1, .output = 0}, clock.now()), 1U);
    clock.advance(1h);
    EXPECT_EQ(p.effective_rpm(clock.now()), 20U);
    bool again = false;
    for (int i = 0; i < 4; ++i) again = again || *p.try_acquire({.input = 1, .output = 0}, clock.now()) == 0U;
    EXPECT_TRUE(again);
}

TEST(llm_account_pool, one_that_does_not_say_until_when_is_away_for_longer_each_time) {
    manual_clock clock;
    pool p{{.min_cooldown = 1min, .max_cooldown = 5min}};
    p.add(account("a"), "a", small, {}, 0, clock);
    auto const overdue = of(dialect::dashscope, 400, "Arrearage");
    for (auto const expected : {1min, 2min, 4min, 5min, 5min}) {
        p.report(0, overdue, clock.now());
        EXPECT_EQ(p.cooldown_until(0), clock.now() + expected);
        EXPECT_FALSE(p.try_acquire({.input = 1, .output = 0}, clock.now()));
        EXPECT_EQ(p.try_acquire({.input = 1, .output = 0}, clock.now()).retry_at(), clock.now() + expected);
        clock.advance_to(p.cooldown_until(0));
    }
    p.report(0, of(dialect::dashscope, 200, {}), clock.now());
    p.report(0, overdue, clock.now());
    EXPECT_EQ(p.cooldown_until(0), clock.now() + 1min);
    p.end_cooldown(0);
    EXPECT_TRUE(p.try_acquire({.input = 1, .output = 0}, clock.now()));
}

TEST(llm_account_pool, a_key_that_is_not_valid_gives_way_to_the_account_s_next) {
    manual_clock clock;
    pool p;
    p.add(account("a"), "k1", small, {}, 0, clock);
    p.add(account("a"), "k2", small, {}, 0, clock);
    auto const bad = of(dialect::dashscope, 401, "InvalidApiKey");
    EXPECT_EQ(p.key(0), "k1");
    p.report(0, bad, clock.now());
    EXPECT_EQ(p.key(0), "k2");
    EXPECT_TRUE(p.try_acquire({.input = 1, .output = 0}, clock.now()));
    p.report(0, bad, clock.now());
    EXPECT_FALSE(p.try_acquire({.input = 1, .output = 0}, clock.now()));
}

TEST(llm_account_pool, a_throttle_starts_no_cooldown) {
    manual_clock clock;
    pool p;
    p.add(account("a"), "a", small, {}, 0, clock);
    p.report(0, of(dialect::dashscope, 429, "Throttling.RateQuota"), clock.now());
    p.report(0, of(dialect::dashscope, 429, "insufficient_quota", "You exceeded your current quota"), clock.now());
    p.report(0, of(dialect::dashscope, 503, "ModelUnavailable"), clock.now());
    p.report(7, of(dialect::dashscope, 400, "Arrearage"), clock.now());
    EXPECT_TRUE(p.try_acquire({.input = 1, .output = 0}, clock.now()));
}

TEST(llm_account_pool, settles_and_refunds_at_the_member_that_served) {
    manual_clock clock;
    pool p;
    p.add(account("a"), "a", {.rpm = 1, .tpm = 100}, {}, 0, clock);
    auto c = p.try_acquire({.input = 50, .output = 50}, clock.now());
    ASSERT_TRUE(c);
    EXPECT_FALSE(p.try_acquire({.input = 1, .output = 0}, clock.now()));
    EXPECT_NE(p.refund(c), weir::llm::tokens{});
    EXPECT_EQ(p.refund(c), weir::llm::tokens{});
    auto d = p.try_acquire({.input = 50, .output = 50}, clock.now());
    ASSERT_TRUE(d);
    EXPECT_TRUE(p.settle(d, {.input = 10, .output = 10}, clock.now()));
    EXPECT_EQ(p.limits(0).available(clock.now()).tpm, 80U);
    auto none = p.try_acquire({.input = 1, .output = 0}, clock.now());
    EXPECT_FALSE(p.settle(none, {.input = 1, .output = 0}, clock.now()));
}

TEST(llm_account_pool, members_can_be_left_out) {
    manual_clock clock;
    pool p;
    p.add(account("a"), "a", small, {}, 0, clock);
    p.add(account("b"), "b", small, {}, 1, clock);
    std::size_t const both[] = {0, 1};
    EXPECT_EQ(*p.try_acquire({.input = 1, .output = 0}, clock.now(), std::span{both}.first(1)), 1U);
    EXPECT_FALSE(p.try_acquire({.input = 1, .output = 0}, clock.now(), both));
}

TEST(llm_account_pool, two_hundred_members_are_told_apart) {
    manual_clock clock;
    pool p;
    for (std::size_t i = 0; i < 200; ++i)
        p.add(account(std::to_string(i)), std::to_string(i), {.rpm = 1}, {}, 0, clock);
    std::vector<std::size_t> left_out;
    for (std::size_t i = 0; i < 200; ++i) {
        auto const c = p.try_acquire({.input = 1, .output = 0}, clock.now(), left_out);
        ASSERT_TRUE(c) << i;
        EXPECT_EQ(std::count(left_out.begin(), left_out.end(), *c), 0) << i;
        left_out.push_back(*c);
    }
    EXPECT_FALSE(p.try_acquire({.input = 1, .output = 0}, clock.now(), left_out));
}

TEST(llm_account_pool_options, have_these_defaults) {
    constexpr account_pool_options o;
    static_assert(o.min_cooldown == 1min && o.max_cooldown == 1h);
}

}  // namespace account_pool_test
