// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/fair_queue.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <list>
#include <numeric>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../support/fair_scene.hpp"
#include "../support/int128.hpp"
#include "../support/manual_loop.hpp"
#include "../support/stress.hpp"

namespace fair_queue_test {

using int128::i128;
using namespace std::chrono_literals;
using namespace fair_scene;
using weir::fair_class;
using weir::fair_queue;
using weir::rate;

enum role { agent, batch };

TEST(fair_queue_arguments, are_refused_with_a_reason) {
    EXPECT_TRUE(fair_class::validate({.weight = 0}));
    EXPECT_TRUE(fair_class::validate({.weight = fair_class::max_weight + 1}));
    EXPECT_FALSE(fair_class::validate({.weight = fair_class::max_weight}));
    manual_clock clock;
    stock s{clock};
#if defined(__cpp_exceptions)
    EXPECT_THROW((fair_queue{s, {fair_class{.weight = 1}, fair_class{.weight = 0}}}), std::invalid_argument);
    fair_queue queues{s, {fair_class{.weight = 1}, fair_class{.weight = 2}}};
    EXPECT_THROW((void)queues[2], std::invalid_argument);
    EXPECT_THROW((void)queues[-1], std::invalid_argument);
    EXPECT_THROW((void)queues.change_weight(2, 1), std::invalid_argument);
    EXPECT_TRUE(queues.change_weight(0, 0));
    EXPECT_FALSE(queues.change_weight(0, 5));
#endif
}

// One permit a second, a hundred at most, none at first.
class fair_queue_of_a_bucket : public testing::Test {
protected:
    manual_clock clock;
    weir::token_bucket<manual_clock&> bucket{rate{1, 1s}, 100, {.initial = 0}, clock};
    fair_queue<weir::token_bucket<manual_clock&>, 2> queues{bucket, {fair_class{.weight = 3}, fair_class{.weight = 1}}};
    scene<decltype(queues)> all{clock, queues};
};

using order_of = std::vector<int>;

TEST_F(fair_queue_of_a_bucket, gives_each_class_its_share_and_is_fifo_inside) {
    for (int i = 0; i < 30; ++i) all.join(agent, 1, i);
    for (int i = 0; i < 30; ++i) all.join(batch, 1, 100 + i);
    EXPECT_EQ(queues.waiting(), 60U);
    EXPECT_EQ(queues[agent].waiting(), 30U);
    all.run_out();
    EXPECT_EQ(clock.now(), time_point{60s});  // all of the rate was used
    order_of firsts(all.served.begin(), all.served.begin() + 20);
    EXPECT_EQ(std::count_if(firsts.begin(), firsts.end(), [](int number) { return number < 100; }), 15);
    for (int const from : {0, 100}) {
        order_of of_class;
        std::copy_if(all.served.begin(), all.served.end(), std::back_inserter(of_class),
                     [&](int number) { return number / 100 * 100 == from; });
        EXPECT_TRUE(std::is_sorted(of_class.begin(), of_class.end()));
    }
}

TEST_F(fair_queue_of_a_bucket, gives_an_idle_share_to_the_others) {
    for (int i = 0; i < 20; ++i) all.join(batch, 2, i);
    all.run_out();
    EXPECT_EQ(clock.now(), time_point{40s});
}

TEST_F(fair_queue_of_a_bucket, a_class_that_comes_back_passes_a_large_call_not_yet_served) {
    all.join(batch, 100, 100);
    all.advance(50s);
    all.join(agent, 10, 0);
    EXPECT_EQ(all.served, order_of{0});
    all.join(agent, 10, 1);  // 10/3 of the way: still before a batch that has waited from the start
    EXPECT_EQ(all.served, order_of{0});
    all.advance(60s);
    EXPECT_EQ(all.served, (order_of{0, 100}));
    all.advance(10s);
    EXPECT_EQ(all.served, (order_of{0, 100, 1}));
}

TEST_F(fair_queue_of_a_bucket, a_retry_passes_later_arrivals_of_its_class_and_no_others) {
    weir::queue_ticket ticket;
    all.advance(1s);
    all.join(batch, 1, 100, ticket);
    EXPECT_EQ(all.served, order_of{100});
    all.join(batch, 1, 101);
    for (int i = 0; i < 4; ++i) all.join(agent, 1, i);
    EXPECT_FALSE(queues[batch].try_acquire(1));
    all.join(batch, 1, 102, ticket);
    all.run_out();
    order_of of_batch;
    std::copy_if(all.served.begin(), all.served.end(), std::back_inserter(of_batch),
                 [](int number) { return number >= 100; });
    EXPECT_EQ(of_batch, (order_of{100, 102, 101}));
    order_of const firsts(all.served.begin() + 1, all.served.begin() + 5);
    EXPECT_EQ(std::count_if(firsts.begin(), firsts.end(), [](int number) { return number >= 100; }),
              1);  // the shares are what they were
    all.advance(1s);
    all.join(batch, 2, 103);
    weir::queue_ticket& early = ticket;
    EXPECT_TRUE(queues[batch].try_acquire_until(1, clock.now(), early));
    weir::queue_ticket late;
    EXPECT_FALSE(queues[batch].try_acquire_until(1, clock.now(), late));
    all.run_out();
}

TEST_F(fair_queue_of_a_bucket, a_waiter_that_displaced_the_first_wakes_it_when_it_leaves) {
    all.join(batch, 10, 100);
    all.join(agent, 50, 0);
    EXPECT_TRUE(all.served.empty());
    all.advance(10s);
    EXPECT_TRUE(all.served.empty());  // the alarm of a waiter that is no longer first
    all.cancel(0);
    EXPECT_EQ(all.served, order_of{100});
    EXPECT_EQ(queues.waiting(), 0U);
}

TEST_F(fair_queue_of_a_bucket, an_attempt_without_a_wait_is_granted_where_no_call_is_ahead) {
    clock.advance(5s);
    all.join(batch, 20, 100);
    EXPECT_TRUE(queues[agent].try_acquire(2));
    EXPECT_TRUE(queues[agent].try_acquire_for(1, 0s).status() ==
                wait_status::timed_out);  // its last is not paid for yet
    EXPECT_EQ(queues[batch].try_acquire(1).status(), wait_status::timed_out);
    EXPECT_EQ(queues[agent].try_acquire(50).status(), wait_status::timed_out);
    EXPECT_EQ(queues[agent].try_acquire(101).status(), wait_status::never);
    EXPECT_EQ(queues.waiting(), 1U);
    all.run_out();
    EXPECT_EQ(clock.now(), time_point{22s});
}

TEST_F(fair_queue_of_a_bucket, an_attempt_that_meets_no_waiting_call_is_the_limiters_own) {
    clock.advance(100s);
    for (int k = 0; k < 9; ++k) EXPECT_TRUE(queues[batch].try_acquire(10));
    EXPECT_TRUE(queues[agent].try_acquire(10));
    EXPECT_EQ(queues[agent].try_acquire(1).status(), wait_status::timed_out);
}

TEST_F(fair_queue_of_a_bucket, times_out_and_is_stopped_without_a_trace) {
    std::optional<wait_status> late, stopped;
    stop_source stop;
    stop_source never;
    auto const wait = [&](role c, permits n, std::optional<wait_status>& status, stop_source& s,
                          manual_clock::duration d) -> eager_task {
        loop::timer timer{all.executor};
        status = (co_await queues[c].async_try_acquire_for(n, d, timer, s.get_token())).status();
    };
    auto const a = wait(agent, 50, late, never, 5s);
    auto const b = wait(batch, 60, stopped, stop, 100s);
    all.join(batch, 7, 100);
    all.advance(5s);
    EXPECT_EQ(late, wait_status::timed_out);
    stop.request_stop();
    all.executor.run_due();
    EXPECT_EQ(stopped, wait_status::stopped);
    EXPECT_EQ(queues.waiting(), 1U);
    all.advance(2s);
    EXPECT_EQ(all.served, order_of{100});
}

TEST_F(fair_queue_of_a_bucket, each_class_has_its_own_bound_on_how_many_wait) {
    fair_queue bounded{
        bucket,
        {fair_class{.weight = 1, .queue = {.max_waiting = 1}}, fair_class{.weight = 1, .queue = {.max_waiting = 2}}}};
    std::vector<wait_status> ends;
    auto const wait = [&](role c) -> eager_task {
        loop::timer timer{all.executor};
        ends.push_back((co_await bounded[c].async_acquire(1, timer)).status());
    };
    auto const a = wait(agent);
    auto const b = wait(agent);
    auto const c = wait(batch);
    auto const d = wait(batch);
    auto const e = wait(batch);
    EXPECT_EQ(ends, (std::vector{wait_status::queue_full, wait_status::queue_full}));
    for (int k = 0; k < 3; ++k) all.advance(1s);
    EXPECT_EQ(ends.size(), 5U);
    EXPECT_EQ(std::count(ends.begin(), ends.end(), wait_status::granted), 3);
}

TEST_F(fair_queue_of_a_bucket, a_weight_changed_in_use_holds_from_the_next_grant) {
    for (int i = 0; i < 60; ++i) all.join(agent, 1, i);
    for (int i = 0; i < 60; ++i) all.join(batch, 1, 100 + i);
    for (int k = 0; k < 20; ++k) all.advance(1s);
    auto const agents = [&] {
        return std::count_if(all.served.begin(), all.served.end(), [](int number) { return number < 100; });
    };
    EXPECT_EQ(agents(), 15);
    EXPECT_FALSE(queues.change_weight(batch, 9));
    for (int k = 0; k < 40; ++k) all.advance(1s);
    EXPECT_NEAR(static_cast<double>(agents()), 15 + 10, 1);
    all.callers.clear();
}

TEST_F(fair_queue_of_a_bucket, a_change_of_limits_through_any_queue_wakes_the_next) {
    all.join(batch, 50, 100);
    EXPECT_EQ(all.executor.next_due(), time_point{50s});
    (void)queues[agent].change(weir::token_bucket<manual_clock&>::limits_type{rate{10, 1s}, 100});
    all.executor.run_due();
    EXPECT_EQ(all.executor.next_due(), time_point{5s});
    all.run_out();
}

TEST(fair_queue_of_a_stock, a_refund_is_its_classes_credit_and_wakes_the_next) {
    manual_clock clock;
    stock s{clock};
    fair_queue queues{s, {fair_class{.weight = 1}, fair_class{.weight = 1}}};
    scene<decltype(queues)> all{clock, queues};
    for (int i = 0; i < 3; ++i) all.join(agent, 10, i);
    for (int i = 0; i < 3; ++i) all.join(batch, 10, 100 + i);
    (void)queues[batch].refund(permits{20});
    all.executor.run_due();
    EXPECT_EQ(all.served, (order_of{0, 100}));
    // Agent is at 10, and batch at 10; of the agent's ten, nine come back: 1.
    (void)queues[agent].refund(permits{9});
    all.executor.run_due();
    EXPECT_EQ(all.served.size(), 2U);
    s.left += 1;
    queues.notify();
    all.executor.run_due();
    EXPECT_EQ(all.served, (order_of{0, 100, 1}));
    s.left += 10;
    queues.notify();
    all.executor.run_due();
    EXPECT_EQ(all.served, (order_of{0, 100, 1, 101}));
    all.callers.clear();
}

TEST(fair_queue_of_a_quota, counts_the_dominant_resource_and_corrects_it_when_settled) {
    manual_clock clock;
    weir::llm::quota_limiter quota{weir::llm::quota{.rpm = 100, .tpm = 10'000},
                                   std::ref(clock)};  // a request is worth a hundred tokens
    EXPECT_EQ((weir::detail::share_of(quota, weir::llm::tokens{.input = 5, .output = 10})), 100U);
    EXPECT_EQ((weir::detail::share_of(quota, weir::llm::tokens{.input = 500, .output = 10})), 510U);
    EXPECT_EQ((weir::detail::share_of(quota, std::uint64_t{700})), 700U);
    weir::llm::quota_limiter requests{weir::llm::quota{.rpm = 100}, std::ref(clock)};
    EXPECT_EQ((weir::detail::share_of(requests, weir::llm::tokens{.input = 500, .output = 10})), 1U);
    weir::llm::quota_limiter tokens{weir::llm::quota{.tpm = 100}, std::ref(clock)};
    EXPECT_EQ((weir::detail::share_of(tokens, weir::llm::tokens{.input = 5, .output = 10})), 15U);
    struct seats {
        int n;
    };
    EXPECT_EQ((weir::detail::share_of(quota, seats{7})), 100U);

    // Two classes of one weight: many small calls and few large ones. Each gets half of what is scarce for it.
    fair_queue queues{quota, {fair_class{.weight = 1}, fair_class{.weight = 1}}};
    scene<decltype(queues)> all{clock, queues};
    ASSERT_TRUE(quota.try_acquire(weir::llm::tokens{.input = 10'000, .output = 0}));
    for (int i = 0; i < 100; ++i) all.join(agent, weir::llm::tokens{.input = 1, .output = 0}, i);
    for (int i = 0; i < 30; ++i) all.join(batch, weir::llm::tokens{.input = 400, .output = 0}, 1000 + i);
    all.advance(61s);
    auto const small = std::count_if(all.served.begin(), all.served.end(), [](int number) { return number < 1000; });
    auto const large = static_cast<long>(all.served.size()) - small;
    EXPECT_NEAR(static_cast<double>(small * 100), static_cast<double>(large * 400), 500);
    EXPECT_GT(large, 10);
    all.callers.clear();
}

TEST(fair_queue_of_a_quota, reserved_output_that_was_not_used_goes_back_to_its_class) {
    manual_clock clock;
    weir::llm::quota_limiter quota{weir::llm::quota{.tpm = 1000}, std::ref(clock)};
    fair_queue queues{quota, {fair_class{.weight = 1}, fair_class{.weight = 1}}};
    std::vector<int> served;
    loop executor{clock};
    ASSERT_TRUE(quota.try_acquire(weir::llm::tokens{.input = 1000, .output = 0}));
    auto const wait = [&](role c, int number, weir::llm::tokens asked,
                          std::optional<weir::llm::tokens> used) -> eager_task {
        loop::timer timer{executor};
        auto a = co_await queues[c].async_acquire(asked, timer);
        EXPECT_TRUE(a);
        served.push_back(number);
        if (used) {
            EXPECT_TRUE(queues[c].settle(*a, *used));
            EXPECT_FALSE(queues[c].settle(*a, *used));
        }
    };
    // Both ask for the same, and the agent's turn out short: it gets as many more.
    std::list<eager_task> calls;
    for (int i = 0; i < 20; ++i)
        calls.push_back(wait(agent, i, {.input = 10, .output = 90}, weir::llm::tokens{.input = 10, .output = 15}));
    for (int i = 0; i < 20; ++i)
        calls.push_back(
            wait(batch, 100 + i, {.input = 100, .output = 0}, weir::llm::tokens{.input = 100, .output = 0}));
    clock.advance(61s);
    executor.run_due();
    auto const agents = std::count_if(served.begin(), served.end(), [](int number) { return number < 100; });
    auto const batches = static_cast<long>(served.size()) - agents;
    EXPECT_GE(agents, 4 * batches - 4);
    EXPECT_GE(batches, 4);
    calls.clear();
}

TEST(fair_queue_of_a_cost_of_its_own, a_callable_counts_as_what_its_decision_asked_for_or_one) {
    manual_clock clock;
    stock s{clock};
    fair_queue queues{s, {fair_class{.weight = 1}, fair_class{.weight = 1}}};
    scene<decltype(queues)> all{clock, queues};
    for (int i = 0; i < 4; ++i) all.join(agent, [](stock& l) { return l.try_acquire(50); }, i);
    for (int i = 0; i < 4; ++i) all.join(batch, 2, 100 + i);
    s.left = 1000;
    queues.notify();
    all.executor.run_due();
    EXPECT_EQ(all.served, (order_of{0, 100, 1, 2, 101, 3, 102, 103}));
}

}  // namespace fair_queue_test
