// SPDX-License-Identifier: MIT
//
// session::run: calls of several threads in one queue.
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../support/exact_log.hpp"
#include "../support/manual_loop.hpp"
#include "../support/session_fixture.hpp"
#include "../support/stress.hpp"

namespace session_run_test {

using namespace session_fixture;

// ---- run() ----

struct llm_session_run : llm_session {
    // A thread that runs one call; its outcome is kept.
    template <class Send>
    void start(request const& r, Send send) {
        results.emplace_back();
        threads.emplace_back([this, r, send, &out = results.back()] { out = s->run(r, send); });
    }
    // Lets time pass whenever all that are not done are asleep.
    void join() {
        for (auto& t : threads) t.join();
        threads.clear();
    }
    void wait_for_waiting(std::size_t n) {
        while (s->waiting() < n) std::this_thread::yield();
        clock.wait_for_sleepers(n);
    }
    ~llm_session_run() override { join(); }

    std::list<outcome> results;
    std::vector<std::thread> threads;
};

TEST_F(llm_session_run, waits_for_limits_and_pauses_by_the_sessions_clock) {
    model("m", 1, wide);
    open();
    std::vector<step_kind> steps;
    std::vector<std::string> because;
    int n = 0;
    auto const begin = clock.now();
    std::thread t{[&] {
        auto const end = s->run(
            {.bound = tokens{.input = 1, .output = 1}},
            [&](call& c) { return c.ended(n++ < 2 ? throttled() : answered()); },
            [&](auto const& p) {
                steps.push_back(p.now.kind);
                because.emplace_back(p.now.reason);
                EXPECT_EQ(p.since, begin);
            });
        EXPECT_TRUE(end.answered());
        EXPECT_EQ(end.attempts, 3U);
    }};
    for (auto const d : {1s, 2s}) {
        clock.wait_for_sleepers(1);
        EXPECT_EQ(clock.next_due(), clock.now() + d);
        clock.advance(d);
    }
    t.join();
    using enum step_kind;
    EXPECT_EQ(steps, (std::vector{send, pause, send, pause, send, over}));
    EXPECT_EQ(because[1], "too many requests per minute or second");
}

TEST_F(llm_session_run, waiting_is_told_with_the_limit_and_until_when) {
    model("m", 1, {.rps = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    std::vector<std::pair<step_kind, std::string>> steps;
    time_point until{};
    std::thread t{[&] {
        (void)s->run(
            {.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); },
            [&](auto const& p) {
                steps.emplace_back(p.now.kind, p.now.reason);
                if (p.now.kind == step_kind::wait) until = p.now.until;
            });
    }};
    clock.wait_for_sleepers(1);
    EXPECT_EQ(until, *clock.next_due());
    clock.advance_to(until);
    t.join();
    ASSERT_EQ(steps.size(), 3U);
    EXPECT_EQ(steps[0], (std::pair{step_kind::wait, std::string{"requests per second"}}));
    EXPECT_EQ(steps[1].first, step_kind::send);
}

TEST_F(llm_session_run, serves_in_order_of_arrival) {
    model("m", 1, {.rps = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    std::mutex m;
    std::vector<int> order;
    for (int i = 0; i < 4; ++i) {
        start({.bound = tokens{.input = 1, .output = 1}}, [&, i](call& c) {
            {
                std::lock_guard const lock{m};
                order.push_back(i);
            }
            return c.ended(answered());
        });
        wait_for_waiting(static_cast<std::size_t>(i) + 1);
    }
    while (s->waiting() > 0) {
        if (clock.sleepers() == s->waiting()) clock.advance_to_next();
        std::this_thread::yield();
    }
    join();
    EXPECT_EQ(order, (std::vector{0, 1, 2, 3}));
    for (auto const& r : results) EXPECT_TRUE(r.answered());
}

TEST_F(llm_session_run, the_end_of_a_call_lets_the_first_waiter_try_at_once) {
    model("m", 1, {.tpm = 1000});
    open();
    call first{*s, request{.bound = tokens{.input = 100, .output = 900}}};
    ASSERT_TRUE(sends(first));
    auto const begin = clock.now();
    start({.bound = tokens{.input = 10, .output = 500}}, [](call& c) { return c.ended(answered()); });
    wait_for_waiting(1);
    first.ended(answered(tokens{.input = 100, .output = 10}));
    join();
    EXPECT_TRUE(results.front().answered());
    EXPECT_EQ(clock.now(), begin);
}

TEST_F(llm_session_run, concurrency_wakes_the_next_without_the_clock) {
    model("m", 1, wide);
    open({.retry = plain, .concurrency = weir::concurrency_options{.start = 1, .most = 1}});
    call first{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(first));
    for (int i = 0; i < 3; ++i)
        start({.bound = tokens{.input = 1, .output = 1}},
              [](call& c) { return c.ended(answered(tokens{.input = 1, .output = 1})); });
    while (s->waiting() < 3) std::this_thread::yield();
    first.ended(answered(tokens{.input = 1, .output = 1}));
    join();
    for (auto const& r : results) EXPECT_TRUE(r.answered());
    EXPECT_EQ(clock.now(), time_point{1000s});
}

TEST_F(llm_session_run, a_deadline_ends_the_wait_of_the_first_and_of_those_behind) {
    model("m", 1, {.rpm = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    auto const end = clock.now() + 10s;
    for (int i = 0; i < 2; ++i) {
        start({.bound = tokens{.input = 1, .output = 1}, .deadline = end}, not_sent);
        wait_for_waiting(static_cast<std::size_t>(i) + 1);
    }
    clock.advance_to(end);
    join();
    for (auto const& r : results) {
        EXPECT_EQ(r.status, call_end::deadline);
        EXPECT_FALSE(r.reason.empty());
    }
    EXPECT_EQ(results.front().reason, "requests per minute");
}

TEST_F(llm_session_run, a_deadline_ends_the_wait_of_one_behind_while_the_first_waits_on) {
    model("m", 1, {.rpm = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    auto const end = clock.now() + 10s;
    start({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    wait_for_waiting(1);
    start({.bound = tokens{.input = 1, .output = 1}, .deadline = end}, not_sent);
    wait_for_waiting(2);
    clock.advance_to(end);
    threads.back().join();
    threads.pop_back();
    EXPECT_EQ(results.back().status, call_end::deadline);
    EXPECT_EQ(results.back().reason, "others wait ahead of it");
    clock.advance(60s);
    join();
    EXPECT_TRUE(results.front().answered());
}

TEST_F(llm_session_run, nothing_is_sent_at_or_after_the_deadline) {
    model("m", 1, {.rps = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    call probe{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    auto const at = probe.next().until;
    start({.bound = tokens{.input = 1, .output = 1}, .deadline = at}, not_sent);
    wait_for_waiting(1);
    clock.advance_to(at);
    join();
    EXPECT_EQ(results.front().status, call_end::deadline);
}

TEST_F(llm_session_run, is_stopped_while_it_waits_and_while_it_pauses) {
    model("m", 1, {.rpm = 2});
    open();
    for (bool const pauses : {true, false}) {
        stop_source stop;
        outcome end;
        std::thread t{[&] {
            end = s->run(
                {.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(throttled()); }, no_observer{},
                stop.get_token());
        }};
        clock.wait_for_sleepers(1);
        if (!pauses) {
            clock.advance(1s);  // to the second and last request of the minute
            clock.wait_for_sleepers(1);
            clock.advance(2s);
            while (s->waiting() == 0) std::this_thread::yield();
            clock.wait_for_sleepers(1);
        }
        stop.request_stop();
        t.join();
        EXPECT_EQ(end.status, call_end::stopped);
        EXPECT_FALSE(end.reason.empty());
        clock.advance(61s);
    }
    stop_source stop;
    stop.request_stop();
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}}, not_sent, no_observer{}, stop.get_token()).status,
              call_end::stopped);
}

TEST_F(llm_session_run, a_full_queue_turns_a_call_away) {
    model("m", 1, {.rpm = 1});
    open({.retry = plain, .queue = {.max_waiting = 1}});
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    start({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    wait_for_waiting(1);
    auto const end = s->run({.bound = tokens{.input = 1, .output = 1}}, not_sent);
    EXPECT_EQ(end.status, call_end::queue_full);
    EXPECT_FALSE(end.reason.empty());
    clock.advance(61s);
    join();
    EXPECT_TRUE(results.front().answered());
}

TEST_F(llm_session_run, close_ends_what_waits_now_and_later) {
    model("m", 1, {.rpm = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    for (std::size_t i = 0; i < 2; ++i) {
        start({.bound = tokens{.input = 1, .output = 1}}, not_sent);
        wait_for_waiting(i + 1);
    }
    s->close();
    join();
    for (auto const& r : results) EXPECT_EQ(r.status, call_end::closed);
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}}, not_sent).status, call_end::closed);
    EXPECT_EQ(s->waiting(), 0U);
}

TEST_F(llm_session_run, what_pauses_is_overtaken) {
    model("m", 2, wide);
    open();
    std::atomic<int> n{0};
    start({.bound = tokens{.input = 1, .output = 1}},
          [&](call& c) { return c.ended(n++ < 2 ? overloaded() : answered()); });
    clock.wait_for_sleepers(1);
    EXPECT_EQ(s->waiting(), 0U);
    EXPECT_TRUE(
        s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); }).answered());
    clock.advance_to_next();
    join();
    EXPECT_TRUE(results.front().answered());
}

// ---- threads ----

TEST(llm_session_threads, many_threads_keep_the_quota_on_a_real_clock) {
    using real_pool = account_pool<std::chrono::steady_clock>;
    real_pool p;
    constexpr std::uint64_t rps = 200;
    p.add({"e", "a", "r", "m"}, "k", {.rps = rps}, {});
    p.add({"e", "b", "r", "m"}, "k2", {.rps = rps}, {});
    fallback_chain<real_pool> models;
    models.add("m", p);
    session<real_pool> s{models,
                         {.retry = {.base = 1ms, .cap = 5ms, .attempts = 20},
                          .adaptive = adaptive_range{.min_percent = 100},
                          .concurrency = weir::concurrency_options{.start = 8, .most = 64}}};
    // Another thread may book a later time before a thread books its own stamp, which then counts later than it reads.
    std::vector<std::vector<exact_log::span>> grants[2];
    for (auto& g : grants) g.resize(8);
    std::atomic<std::uint64_t> sends{0}, answers{0};
    hammer::on_threads(8, 1, [&](std::size_t me, hammer::random_engine& random) {
        for (int i = 0; i < 100; ++i) {
            int sent_this = 0;
            auto const end = s.run({.bound = tokens{.input = 1, .output = 1}}, [&](auto& c) {
                ++sent_this;
                ++sends;
                reply r = says(200);
                switch (random() % 8) {
                    case 0: r = overloaded(); break;
                    case 1: r = cancelled(); break;
                    default: break;
                }
                auto const sent_at = std::chrono::steady_clock::now();
                if (!r.cancelled) {
                    grants[c.member()][me].push_back(
                        {c.stamp().time_since_epoch().count(), sent_at.time_since_epoch().count(), 1});
                }
                return c.ended(r);
            });
            EXPECT_TRUE(end.answered()) << to_string(end.status) << end.reason;
            EXPECT_EQ(end.attempts, static_cast<std::uint32_t>(sent_this));
            answers += end.answered() ? 1 : 0;
        }
    });
    EXPECT_EQ(answers, 800U);
    for (auto const& per_thread : grants) {
        std::vector<exact_log::span> all;
        for (auto const& v : per_thread) all.insert(all.end(), v.begin(), v.end());
        EXPECT_GT(all.size(), 200U);
        EXPECT_LE(exact_log::certain_peak(all, 1'000'000'000), rps);
    }
    auto const& n = s.counters();
    EXPECT_EQ(n[counted_event::attempts], sends);
    EXPECT_EQ(n[counted_event::ended_attempts], sends);
    EXPECT_EQ(n[counted_event::calls], 800U);
    EXPECT_EQ(n.in_flight(), 0U);
    EXPECT_EQ(s.waiting(), 0U);
}

}  // namespace session_run_test
