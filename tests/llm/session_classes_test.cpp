// SPDX-License-Identifier: MIT
//
// Which call goes first in a session: classes by their shares, in a class by arrival, a retry by its first arrival.
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/account_pool.hpp>
#include <weir/llm/async_run.hpp>
#include <weir/llm/fallback_chain.hpp>
#include <weir/llm/session.hpp>
#include <weir/wait/fair_queue.hpp>
#include <weir/wait/task.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../support/manual_loop.hpp"

namespace session_classes_test {

using namespace std::chrono_literals;
using namespace weir::llm;
using weir::fair_class;
using weir::manual_clock;
using weir::llm::quota;
using weir::llm::tokens;
using time_point = manual_clock::time_point;
using pool = account_pool<manual_clock&>;
using chain = fallback_chain<pool>;

enum role : std::size_t { agent, batch };

reply with(int status, std::optional<tokens> used = std::nullopt) {
    reply r;
    r.answer.dialect = dialect::dashscope;
    r.answer.status = status;
    r.used = used;
    return r;
}

constexpr weir::backoff patient{.base = 1s, .attempts = 50, .budget = 60min, .jitter = weir::jitter::none};

// An account, a session of two classes in front of it, and the calls that were sent, in order.
struct llm_session_shares : testing::Test {
    using session_type = session<pool, 2>;
    using call_type = session_type::call;
    struct let_go {
        int id;
        std::size_t share;
        time_point at;
    };

    void open(quota q, fair_class const (&shares)[2], session_options o = {.retry = patient}) {
        accounts.add({"e", "a", "r", "m"}, "k", q, {}, 0, clock);
        models.add("m", accounts);
        s.emplace(models, shares, o, clock);
    }
    // Calls from here on.
    void begin(
        session_type::request r, int id,
        std::function<reply(int)> server = [](int) { return with(200, tokens{.input = 10, .output = 0}); }) {
        timers.emplace_back(executor);
        std::size_t const share = r.fair_class;
        auto send = [this, id, share, server, n = 0](call_type& c) mutable -> weir::task<ended_attempt> {
            order.push_back({id, share, clock.now()});
            co_return c.ended(server(n++));
        };
        tasks.push_back(async_run(*s, r, std::move(send), timers.back()));
        (void)tasks.back().ready();
    }
    void until(time_point t) {
        for (auto due = executor.next_due(); due && *due <= t; due = executor.next_due()) {
            clock.advance_to(std::max(*due, clock.now()));
            executor.run_due();
        }
        clock.advance_to(t);
        executor.run_due();
    }
    bool all_answered() {
        return std::all_of(tasks.begin(), tasks.end(), [](auto& t) { return t.ready() && t.result().answered(); });
    }
    std::vector<int> served() const {
        std::vector<int> v;
        for (auto const& o : order) v.push_back(o.id);
        return v;
    }
    std::ptrdiff_t of_class(std::size_t c, std::size_t from, std::size_t to) const {
        return std::count_if(order.begin() + static_cast<std::ptrdiff_t>(from),
                             order.begin() + static_cast<std::ptrdiff_t>(to),
                             [c](auto const& o) { return o.share == c; });
    }

    manual_clock clock{time_point{100s}};
    loop executor{clock};
    pool accounts;
    chain models;
    std::optional<session_type> s;
    std::vector<let_go> order;
    std::list<loop::timer> timers;
    std::list<weir::task<session_type::outcome>> tasks;
};

using served_are = std::vector<int>;
constexpr tokens small{.input = 10, .output = 0};

TEST_F(llm_session_shares, give_each_class_its_part_of_the_calls_and_are_fifo_inside) {
    open({.rpm = 60, .rps = 1}, {fair_class{.weight = 3}, fair_class{.weight = 1}});
    for (int i = 0; i < 40; ++i) begin({.bound = small, .fair_class = batch}, 100 + i);
    for (int i = 0; i < 40; ++i) begin({.bound = small, .fair_class = agent}, i);
    EXPECT_EQ(s->waiting(), 79U);
    EXPECT_EQ(s->waiting(agent), 40U);
    EXPECT_EQ(s->waiting(batch), 39U);
    until(time_point{200s});
    ASSERT_EQ(order.size(), 80U);
    EXPECT_TRUE(all_answered());
    EXPECT_LE(order.back().at, time_point{180s});  // one a second: nothing was left unused
    EXPECT_EQ(of_class(agent, 1, 41), 30);
    for (std::size_t const c : {agent, batch}) {
        served_are of;
        for (auto const& o : order) {
            if (o.share == c) of.push_back(o.id);
        }
        EXPECT_TRUE(std::is_sorted(of.begin(), of.end()));
    }
}

TEST_F(llm_session_shares, lend_what_a_class_leaves_and_take_it_back_for_its_next_call) {
    open({.rpm = 60, .rps = 1}, {fair_class{.weight = 9}, fair_class{.weight = 1}});
    for (int i = 0; i < 30; ++i) begin({.bound = small, .fair_class = batch}, 100 + i);
    until(time_point{110s + 500ms});
    EXPECT_EQ(order.size(), 11U);  // batch has all of it
    begin({.bound = small, .fair_class = agent}, 1);
    until(time_point{111s + 500ms});
    EXPECT_EQ(order.size(), 12U);
    EXPECT_EQ(order.back().id, 1);
    until(time_point{200s});
    EXPECT_TRUE(all_answered());
}

TEST_F(llm_session_shares, count_the_tokens_that_calls_used_in_the_end) {
    // 600 tokens a second; agent's calls take 300, batch's are thought to take 600 and take 100.
    open({.tpm = 36'000, .tps = 600}, {fair_class{}, fair_class{}});
    for (int i = 0; i < 60; ++i)
        begin({.bound = tokens{.input = 600, .output = 0}, .fair_class = batch}, 100 + i,
              [](int) { return with(200, tokens{.input = 100, .output = 0}); });
    for (int i = 0; i < 60; ++i)
        begin({.bound = tokens{.input = 300, .output = 0}, .fair_class = agent}, i,
              [](int) { return with(200, tokens{.input = 300, .output = 0}); });
    until(time_point{125s});
    ASSERT_GT(order.size(), 30U);
    // Equal shares of tokens: three of batch for one of agent.
    auto const agents = of_class(agent, 5, order.size());
    auto const batches = of_class(batch, 5, order.size());
    EXPECT_GE(batches, 3 * agents - 4);
    EXPECT_LE(batches, 3 * agents + 4);
}

TEST_F(llm_session_shares, what_was_lent_is_no_credit_when_it_turns_out_short) {
    open({.rpm = 60, .rps = 1, .tpm = 600'000}, {fair_class{.weight = 1}, fair_class{.weight = 1}});
    // Ten calls while none waits; they hold more than they use, and end one by one while both classes wait.
    std::list<call_type> lent;
    for (int i = 0; i < 10; ++i) {
        lent.emplace_back(*s,
                          session_type::request{.bound = tokens{.input = 100, .output = 19'900}, .fair_class = agent});
        ASSERT_EQ(lent.back().next().kind, step_kind::send);
        until(clock.now() + 1100ms);
    }
    lent.emplace_back(*s, session_type::request{.bound = small, .fair_class = batch});
    ASSERT_EQ(lent.back().next().kind, step_kind::send);
    for (int i = 0; i < 30; ++i) {
        begin({.bound = small, .fair_class = agent}, i);
        begin({.bound = small, .fair_class = batch}, 100 + i);
    }
    ASSERT_EQ(s->waiting(), 60U);
    for (auto& c : lent) {
        until(clock.now() + 1100ms);
        c.ended(with(200, tokens{.input = 100, .output = 0}));
    }
    ASSERT_GE(order.size(), 10U);
    EXPECT_EQ(of_class(agent, 0, 10), 5);
    until(clock.now() + 120s);
    EXPECT_TRUE(all_answered());
}

TEST_F(llm_session_shares, a_retry_keeps_its_position_in_its_class) {
    open({.rpm = 60, .rps = 1}, {fair_class{}, fair_class{}});
    int failures = 0;
    begin({.bound = small, .fair_class = batch}, 0,
          [&](int n) { return n < 2 ? ++failures, with(500) : with(200, small); });
    for (int i = 1; i < 8; ++i) begin({.bound = small, .fair_class = batch}, i);
    until(time_point{120s});
    EXPECT_EQ(failures, 2);
    EXPECT_TRUE(all_answered());
    // Fails at 100 s, pauses for 1 s, is next; fails at 101 s, pauses for 2 s, is next.
    EXPECT_EQ(served(), (served_are{0, 0, 1, 0, 2, 3, 4, 5, 6, 7}));
    EXPECT_GE(order[3].at, time_point{103s});
    EXPECT_LT(order[3].at, time_point{103s + 500ms});
}

TEST_F(llm_session_shares, a_retry_of_a_call_that_had_to_wait_keeps_its_position_too) {
    open({.rpm = 60, .rps = 1}, {fair_class{}, fair_class{}});
    begin({.bound = small, .fair_class = batch}, 0);
    for (int i = 1; i < 4; ++i) {
        begin({.bound = small, .fair_class = batch}, i, [](int n) { return n == 0 ? with(500) : with(200, small); });
    }
    for (int i = 4; i < 8; ++i) begin({.bound = small, .fair_class = batch}, i);
    until(time_point{120s});
    EXPECT_TRUE(all_answered());
    EXPECT_EQ(served(), (served_are{0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7}));
}

TEST_F(llm_session_shares, a_cancelled_call_goes_behind_those_that_wait) {
    open({.rpm = 60, .rps = 1}, {fair_class{}, fair_class{}});
    begin({.bound = small, .fair_class = batch}, 0);
    begin({.bound = small, .fair_class = batch}, 1, [](int n) {
        reply r = with(200, small);
        r.cancelled = n < 2;
        return r;
    });
    for (int i = 2; i < 5; ++i) begin({.bound = small, .fair_class = batch}, i);
    until(time_point{120s});
    EXPECT_TRUE(all_answered());
    EXPECT_EQ(served(), (served_are{0, 1, 2, 3, 4, 1, 1}));
}

TEST_F(llm_session_shares, each_class_has_its_own_bound_on_how_many_wait) {
    open({.rpm = 60, .rps = 1}, {fair_class{.queue = {.max_waiting = 3}}, fair_class{.queue = {.max_waiting = 1}}});
    begin({.bound = small, .fair_class = batch}, 0);
    begin({.bound = small, .fair_class = batch}, 1);
    begin({.bound = small, .fair_class = batch}, 2);
    ASSERT_TRUE(tasks.back().ready());
    EXPECT_EQ(tasks.back().result().status, call_end::queue_full);
    tasks.pop_back();
    for (int i = 3; i < 6; ++i) begin({.bound = small, .fair_class = agent}, i);
    until(time_point{120s});
    EXPECT_TRUE(all_answered());
    EXPECT_EQ(order.size(), 5U);
}

TEST_F(llm_session_shares, refuse_a_class_that_there_is_not_and_a_weight_that_is_none) {
    open({.rpm = 60}, {fair_class{}, fair_class{}});
    EXPECT_THROW((call_type{*s, {.bound = small, .fair_class = 2}}), std::invalid_argument);
    EXPECT_THROW((void)s->run({.bound = small, .fair_class = 2}, [](call_type& c) { return c.ended(with(200)); }),
                 std::invalid_argument);
    EXPECT_EQ(s->counters()[counted_event::calls], 0U);
    EXPECT_TRUE(s->change_weight(agent, 0));
    EXPECT_FALSE(s->change_weight(agent, 5));
    EXPECT_THROW((session<pool, 2>{models, {fair_class{.weight = 0}, fair_class{}}, {}, clock}), std::invalid_argument);
}

TEST_F(llm_session_shares, are_changed_while_calls_wait) {
    open({.rpm = 60, .rps = 1}, {fair_class{}, fair_class{}});
    for (int i = 0; i < 60; ++i) {
        begin({.bound = small, .fair_class = batch}, 100 + i);
        begin({.bound = small, .fair_class = agent}, i);
    }
    until(time_point{120s});
    EXPECT_FALSE(s->change_weight(agent, 3));
    std::size_t const then = order.size();
    until(time_point{160s});
    EXPECT_EQ(order.size(), then + 40);
    EXPECT_NEAR(static_cast<double>(of_class(agent, then, order.size())), 30, 1);
}

TEST(llm_session_of_shares, is_deduced_from_its_array_and_runs_with_the_clock_of_its_pool) {
    manual_clock clock{time_point{100s}};
    pool accounts;
    accounts.add({"e", "a", "r", "m"}, "k", {.rpm = 60}, {}, 0, clock);
    chain models;
    models.add("m", accounts);
    session s{models, {fair_class{.weight = 9}, fair_class{.weight = 1}, fair_class{}}, {.retry = patient}, clock};
    static_assert(std::same_as<decltype(s), session<pool, 3>>);
    auto const end = s.run({.bound = small, .fair_class = 2}, [](auto& c) { return c.ended(with(200, small)); });
    EXPECT_TRUE(end.answered());
}

}  // namespace session_classes_test
