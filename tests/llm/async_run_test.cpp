// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/account_pool.hpp>
#include <weir/llm/async_run.hpp>
#include <weir/llm/fallback_chain.hpp>
#include <weir/llm/session.hpp>
#include <weir/wait/task.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <list>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "../support/manual_loop.hpp"
#include "../support/manual_session.hpp"

namespace async_run_test {

using namespace std::chrono_literals;
using namespace weir::llm;
using weir::manual_clock;
using weir::task;
using time_point = manual_clock::time_point;
using pool = account_pool<manual_clock&>;
using chain = fallback_chain<pool>;
using session_type = session<pool>;
using outcome = session_type::outcome;
using call_type = session_type::call;

reply with(int status, std::string_view code = {}) {
    reply r;
    r.answer.dialect = dialect::dashscope;
    r.answer.status = status;
    r.answer.code = code;
    if (status == 200) r.used = weir::llm::tokens{.input = 10, .output = 10};
    return r;
}

// What a step was, to be compared.
struct seen {
    step_kind what;
    time_point until;
    std::string because;
    friend bool operator==(seen const&, seen const&) = default;
};
std::ostream& operator<<(std::ostream& o, seen const& s) {
    return o << '{' << static_cast<int>(s.what) << ", " << s.until.time_since_epoch().count() << ", " << s.because
             << '}';
}
struct writes_down {
    std::vector<seen>* all;
    void operator()(session_type::progress const& p) const {
        all->push_back({p.now.kind, p.now.until, std::string{p.now.reason}});
    }
};

// An account of two requests a minute, and a session before it.
struct world {
    manual_clock clock{time_point{100s}};
    loop executor{clock};
    loop::timer timer{executor};
    pool accounts;
    chain models;
    std::optional<session_type> s;
    session_type::request some{.bound = weir::llm::tokens{.input = 10, .output = 10}};

    explicit world(std::size_t may_wait = 100) {
        accounts.add({"e", "a", "r", "qwen3-max"}, "k", {.rpm = 2}, {}, 0, clock);
        models.add("qwen3-max", accounts);
        s.emplace(models,
                  session_options{.retry = {.base = 1s, .attempts = 3, .jitter = weir::jitter::none},
                                  .concurrency = weir::concurrency_options{.start = 4},
                                  .queue = {.max_waiting = may_wait}},
                  clock);
    }
    // All that the account has for this minute.
    void use_up() {
        for (int i = 0; i < 2; ++i) EXPECT_TRUE(s->run(some, answers_now).answered());
    }
    // Moves the clock to what is due next, and fires it.
    void next() {
        auto const due = executor.next_due();
        ASSERT_TRUE(due);
        clock.advance_to(*due);
        executor.run_due();
    }
    // No call waits, nothing is in flight, no timer is armed; and each call that began has ended.
    void expect_no_trace() {
        EXPECT_EQ(s->waiting(), 0U);
        EXPECT_EQ(executor.next_due(), std::nullopt);
        EXPECT_EQ(executor.run_due(), 0);
        auto const& n = s->counters();
        EXPECT_EQ(n.in_flight(), 0U);
        EXPECT_EQ(n[counted_event::calls], n[counted_event::answered] + n[counted_event::failed]);
    }
    // How many more are let go without waiting.
    int left() {
        for (int n = 0;; ++n) {
            call_type c{*s, some};
            if (c.next().kind != step_kind::send) return n;
            c.ended(with(200));
        }
    }
    static ended_attempt answers_now(call_type& c) { return c.ended(with(200)); }
};

// Senders.
struct answers {
    task<ended_attempt> operator()(call_type& c) const { co_return c.ended(with(200)); }
};
struct fails {
    task<ended_attempt> operator()(call_type& c) const { co_return c.ended(with(500)); }
};
struct at_once {
    ended_attempt told;
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    ended_attempt await_resume() const noexcept { return told; }
};
struct holds {
    gate* g;
    task<ended_attempt> operator()(call_type& c) const {
        co_await g->passed();
        co_return c.ended(with(200));
    }
};

struct llm_async_run : testing::Test, world {};

TEST_F(llm_async_run, ends_at_once_where_nothing_is_to_be_waited_for) {
    auto t = async_run(*s, some, answers{}, timer);
    EXPECT_EQ(s->counters()[counted_event::calls], 0U);  // not begun
    ASSERT_TRUE(t.ready());
    auto const end = t.result();
    EXPECT_TRUE(end.answered());
    EXPECT_EQ(end.attempts, 1U);
    EXPECT_EQ(end.used.total(), 20U);
    expect_no_trace();
}

TEST_F(llm_async_run, waits_for_the_limit_by_the_timer) {
    use_up();
    auto t = async_run(*s, some, answers{}, timer);
    EXPECT_FALSE(t.ready());
    EXPECT_EQ(s->waiting(), 1U);
    auto const due = executor.next_due();
    ASSERT_TRUE(due);
    clock.advance_to(*due - 1ns);
    EXPECT_EQ(executor.run_due(), 0);
    next();
    ASSERT_TRUE(t.ready());
    auto const end = t.result();
    EXPECT_TRUE(end.answered());
    EXPECT_EQ(end.waited, *due - time_point{100s});
    expect_no_trace();
}

TEST_F(llm_async_run, pauses_by_the_timer_with_no_place_in_the_queue) {
    auto t = async_run(*s, some, fails{}, timer);
    EXPECT_FALSE(t.ready());
    EXPECT_EQ(executor.next_due(), time_point{101s});
    EXPECT_EQ(s->waiting(), 0U);
    EXPECT_TRUE(s->run(some, answers_now).answered());
    clock.advance(1s);
    EXPECT_EQ(executor.run_due(), 1);
    EXPECT_FALSE(t.ready());
    EXPECT_EQ(s->waiting(), 1U);  // now for the limit
}

TEST_F(llm_async_run, a_timer_that_fires_early_does_not_shorten_a_pause) {
    std::vector<seen> steps;
    auto t = async_run(*s, some, fails{}, timer, writes_down{&steps});
    EXPECT_FALSE(t.ready());
    clock.advance(1s - 1ns);
    timer.wake();
    EXPECT_EQ(executor.run_due(), 1);
    EXPECT_EQ(executor.next_due(), time_point{101s});
    EXPECT_EQ(std::count_if(steps.begin(), steps.end(), [](seen const& x) { return x.what == step_kind::pause; }), 1);
    EXPECT_EQ(s->counters()[counted_event::attempts], 1U);
}

// The same answers, to either form.
TEST(llm_async_run_and_run, take_the_same_steps_to_the_same_ends) {
    constexpr int script[] = {500, 503, 200, 429, 200, 500, 500, 500, 400, 200};
    std::vector<seen> steps[2];
    std::vector<std::pair<call_end, weir::permits>> ends[2];
    {
        world w;
        std::atomic<bool> over{false};
        std::thread runs{[&] {
            for (std::size_t at = 0; at < std::size(script);) {
                auto const send = [&](call_type& c) { return c.ended(with(script[at++])); };
                auto const end = w.s->run(w.some, send, writes_down{&steps[0]});
                ends[0].emplace_back(end.status, end.attempts);
            }
            over.store(true);
        }};
        while (!over.load()) {
            w.clock.advance_to_next();
            std::this_thread::yield();
        }
        runs.join();
    }
    {
        world w;
        for (std::size_t at = 0; at < std::size(script);) {
            auto const send = [&](call_type& c) -> task<ended_attempt> { co_return c.ended(with(script[at++])); };
            auto t = async_run(*w.s, w.some, send, w.timer, writes_down{&steps[1]});
            while (!t.ready()) w.next();
            auto const end = t.result();
            ends[1].emplace_back(end.status, end.attempts);
        }
    }
    EXPECT_EQ(steps[0], steps[1]);
    EXPECT_EQ(ends[0], ends[1]);
    EXPECT_GE(steps[1].size(), 20U);
}

TEST_F(llm_async_run, a_stop_ends_it_before_it_begins) {
    stop_source stop;
    stop.request_stop();
    auto t = async_run(*s, some, answers{}, timer, no_observer{}, stop.get_token());
    ASSERT_TRUE(t.ready());
    EXPECT_EQ(t.result().status, call_end::stopped);
    EXPECT_EQ(left(), 2);
    expect_no_trace();
}

TEST_F(llm_async_run, a_stop_ends_the_wait) {
    use_up();
    stop_source stop;
    auto t = async_run(*s, some, answers{}, timer, no_observer{}, stop.get_token());
    EXPECT_FALSE(t.ready());
    stop.request_stop();
    EXPECT_EQ(executor.run_due(), 1);
    ASSERT_TRUE(t.ready());
    EXPECT_EQ(t.result().status, call_end::stopped);
    EXPECT_EQ(stop.callbacks(), 0U);
    expect_no_trace();
}

TEST_F(llm_async_run, a_stop_ends_the_pause) {
    stop_source stop;
    auto t = async_run(*s, some, fails{}, timer, no_observer{}, stop.get_token());
    EXPECT_FALSE(t.ready());
    EXPECT_EQ(stop.callbacks(), 1U);
    stop.request_stop();
    EXPECT_EQ(executor.run_due(), 1);
    ASSERT_TRUE(t.ready());
    auto const end = t.result();
    EXPECT_EQ(end.status, call_end::stopped);
    EXPECT_EQ(end.last.cause, cause::server_error);
    EXPECT_EQ(stop.callbacks(), 0U);
    EXPECT_EQ(clock.now(), time_point{100s});
    expect_no_trace();
}

TEST_F(llm_async_run, a_stop_lets_an_attempt_end_and_keeps_its_answer) {
    stop_source stop;
    gate g;
    auto t = async_run(*s, some, holds{&g}, timer, no_observer{}, stop.get_token());
    EXPECT_FALSE(t.ready());
    stop.request_stop();
    EXPECT_EQ(executor.run_due(), 0);
    EXPECT_FALSE(t.ready());
    g.open();
    ASSERT_TRUE(t.ready());
    EXPECT_TRUE(t.result().answered());
    expect_no_trace();
}

TEST_F(llm_async_run, a_stop_while_it_sends_keeps_it_from_being_sent_again) {
    stop_source stop;
    auto const send = [&](call_type& c) -> task<ended_attempt> {
        stop.request_stop();
        co_return c.ended(with(500));
    };
    auto t = async_run(*s, some, send, timer, no_observer{}, stop.get_token());
    ASSERT_TRUE(t.ready());
    auto const end = t.result();
    EXPECT_EQ(end.status, call_end::stopped);
    EXPECT_EQ(end.attempts, 1U);
    expect_no_trace();
}

TEST_F(llm_async_run, one_destroyed_before_it_began_leaves_no_trace) {
    {
        auto const t = async_run(*s, some, answers{}, timer);
    }
    EXPECT_EQ(s->counters()[counted_event::calls], 0U);
    EXPECT_EQ(left(), 2);
    expect_no_trace();
}

TEST_F(llm_async_run, one_destroyed_while_it_waits_leaves_no_trace_and_the_next_has_its_turn) {
    use_up();
    stop_source stop;
    auto first = async_run(*s, some, answers{}, timer, no_observer{}, stop.get_token());
    loop::timer another{executor};
    auto second = async_run(*s, some, answers{}, another);
    EXPECT_FALSE(first.ready());
    EXPECT_FALSE(second.ready());
    EXPECT_EQ(s->waiting(), 2U);
    {
        auto const destroyed = std::move(first);
    }
    EXPECT_EQ(stop.callbacks(), 0U);
    EXPECT_EQ(s->waiting(), 1U);
    EXPECT_EQ(executor.run_due(), 1);  // it learns that it is the first
    next();
    ASSERT_TRUE(second.ready());
    EXPECT_TRUE(second.result().answered());
    expect_no_trace();
}

TEST_F(llm_async_run, one_destroyed_while_it_pauses_leaves_no_trace) {
    stop_source stop;
    {
        auto t = async_run(*s, some, fails{}, timer, no_observer{}, stop.get_token());
        EXPECT_FALSE(t.ready());
        EXPECT_TRUE(executor.next_due());
    }
    EXPECT_EQ(stop.callbacks(), 0U);
    EXPECT_EQ(left(), 1);  // but for what it had sent
    expect_no_trace();
}

TEST_F(llm_async_run, one_destroyed_while_it_sends_holds_the_attempt_as_lost) {
    gate g;
    {
        auto t = async_run(*s, some, holds{&g}, timer);
        EXPECT_FALSE(t.ready());
        EXPECT_EQ(s->counters().in_flight(), 1U);
    }
    EXPECT_EQ(s->counters().refusals(cause::transport), 1U);
    EXPECT_EQ(s->counters()[counted_event::failed], 1U);
    EXPECT_EQ(left(), 1);
    expect_no_trace();
}

TEST_F(llm_async_run, what_send_throws_passes_through_and_the_attempt_is_held_as_lost) {
    auto const at_once = [](call_type&) -> weir::task<ended_attempt> { throw std::runtime_error("at once"); };
    auto t = async_run(*s, some, at_once, timer);
    ASSERT_TRUE(t.ready());
    EXPECT_THROW(t.result(), std::runtime_error);
    EXPECT_EQ(s->counters().refusals(cause::transport), 1U);
    gate g;
    auto const later = [&](call_type&) -> weir::task<ended_attempt> {
        co_await g.passed();
        throw std::runtime_error("later");
    };
    auto u = async_run(*s, some, later, timer);
    EXPECT_FALSE(u.ready());
    g.open();
    ASSERT_TRUE(u.ready());
    EXPECT_THROW(u.result(), std::runtime_error);
    EXPECT_EQ(s->counters().refusals(cause::transport), 2U);
    EXPECT_EQ(left(), 0);
    expect_no_trace();
}

TEST_F(llm_async_run, what_a_function_throws_that_makes_the_awaitable_passes_through_too) {
    auto const send = [](call_type&) -> at_once { throw std::runtime_error("no"); };
    auto t = async_run(*s, some, send, timer);
    ASSERT_TRUE(t.ready());
    EXPECT_THROW(t.result(), std::runtime_error);
    EXPECT_EQ(s->counters().refusals(cause::transport), 1U);
    expect_no_trace();
}

TEST_F(llm_async_run, what_an_observer_throws_passes_through_and_the_next_has_its_turn) {
    use_up();
    auto const throws = [](session_type::progress const& p) {
        if (p.now.kind == step_kind::wait && p.now.reason == "requests per minute")
            throw std::runtime_error("observed");
    };
    loop::timer second_timer{executor};
    loop::timer third_timer{executor};
    auto first = async_run(*s, some, answers{}, timer);
    auto second = async_run(*s, some, answers{}, second_timer, throws);
    auto third = async_run(*s, some, answers{}, third_timer);
    EXPECT_FALSE(first.ready());
    EXPECT_FALSE(second.ready());
    EXPECT_FALSE(third.ready());
    clock.advance(61s);
    ASSERT_TRUE(accounts.limits(0).try_acquire(
        {.input = 10, .output = 10}, clock.now()));  // leaves one, so that the second learns what it waits for
    EXPECT_NO_THROW(executor.run_due());
    EXPECT_TRUE(first.ready());
    ASSERT_TRUE(second.ready());
    EXPECT_THROW(second.result(), std::runtime_error);
    EXPECT_EQ(s->waiting(), 1U);
    next();
    ASSERT_TRUE(third.ready());
    EXPECT_TRUE(third.result().answered());
    expect_no_trace();
}

TEST_F(llm_async_run, what_is_lost_is_sent_again_only_if_the_request_says_so) {
    for (bool const again : {false, true}) {
        int sent = 0;
        some.repeatable = again ? std::optional{true} : std::nullopt;
        auto const send = [&](call_type& c) { return at_once{++sent == 2 ? c.ended(with(200)) : c.lost()}; };
        auto t = async_run(*s, some, send, timer);
        EXPECT_EQ(t.ready(), !again);
        if (again) next();
        ASSERT_TRUE(t.ready());
        EXPECT_EQ(t.result().status, again ? call_end::answered : call_end::lost);
        EXPECT_EQ(sent, again ? 2 : 1);
        clock.advance(2min);
    }
    expect_no_trace();
}

// An awaitable that cannot be moved, which its operator co_await makes one more of.
TEST_F(llm_async_run, send_may_return_whatever_can_be_awaited) {
    gate g;
    struct immovable {
        immovable(call_type& c, gate& at) : call{&c}, g{&at} {}
        immovable(immovable const&) = delete;
        immovable& operator=(immovable const&) = delete;
        ~immovable() { EXPECT_EQ(me, this); }
        struct awaiter {
            immovable* of;
            bool await_ready() const noexcept { return false; }
            void await_suspend(std::coroutine_handle<> h) const noexcept { of->g->waits = h; }
            ended_attempt await_resume() const { return of->call->ended(with(200)); }
        };
        awaiter operator co_await() && noexcept { return {this}; }
        call_type* call;
        gate* g;
        immovable* me = this;
    };
    auto t = async_run(*s, some, [&](call_type& c) { return immovable{c, g}; }, timer);
    EXPECT_FALSE(t.ready());
    g.open();
    ASSERT_TRUE(t.ready());
    EXPECT_TRUE(t.result().answered());
}

// All that it is given may be gone before it begins, and the sender's captures live until it has ended.
TEST_F(llm_async_run, keeps_what_it_is_given) {
    use_up();
    std::string heard;
    std::vector<seen> steps;
    gate g;
    auto const make = [&] {
        auto const text =
            std::make_shared<std::string const>("a prompt that does not fit into a small string's own bytes");
        session_type::request r{.bound = weir::llm::tokens{.input = 10, .output = 10}};
        return async_run(
            *s, r,
            [text, own = std::make_unique<int>(1), &g, &heard](call_type& c) -> task<ended_attempt> {
                co_await g.passed();
                heard = *text + std::to_string(*own);
                co_return c.ended(with(200));
            },
            timer, writes_down{&steps});
    };
    auto t = make();
    EXPECT_FALSE(t.ready());
    next();
    g.open();
    ASSERT_TRUE(t.ready());
    EXPECT_EQ(heard, "a prompt that does not fit into a small string's own bytes1");
    EXPECT_EQ(steps.back().what, step_kind::over);
}

TEST_F(llm_async_run, ends_where_its_time_is_over) {
    use_up();
    some.deadline = time_point{110s};
    auto t = async_run(*s, some, answers{}, timer);
    EXPECT_FALSE(t.ready());
    EXPECT_EQ(executor.next_due(), time_point{110s});
    next();
    ASSERT_TRUE(t.ready());
    auto const end = t.result();
    EXPECT_EQ(end.status, call_end::deadline);
    EXPECT_EQ(end.reason, "requests per minute");
    expect_no_trace();
}

TEST(llm_async_run_in_a_short_queue, is_refused_where_too_many_wait) {
    world w{1};
    w.use_up();
    auto first = async_run(*w.s, w.some, answers{}, w.timer);
    EXPECT_FALSE(first.ready());
    loop::timer another{w.executor};
    auto second = async_run(*w.s, w.some, answers{}, another);
    ASSERT_TRUE(second.ready());
    EXPECT_EQ(second.result().status, call_end::queue_full);
}

TEST_F(llm_async_run, thousands_in_a_row_take_no_more_stack_than_one) {
    constexpr int many = 20'000;
    pool ample;
    ample.add({"e", "b", "r", "m"}, "k", {.rpm = 100'000}, {}, 0, clock);
    chain one;
    one.add("m", ample);
    session_type all{one, {}, clock};
    std::uintptr_t least = UINTPTR_MAX;
    std::uintptr_t most = 0;
    auto const send = [&](call_type& c) -> task<ended_attempt> {
        auto const here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
        least = std::min(least, here);
        most = std::max(most, here);
        co_return c.ended(with(200));
    };
    auto const caller = [&]() -> task<int> {
        int answered = 0;
        for (int i = 0; i < many; ++i) {
            auto const end = co_await async_run(all, some, send, timer);
            answered += end.answered() ? 1 : 0;
        }
        co_return answered;
    };
    auto t = caller();
    ASSERT_TRUE(t.ready());
    EXPECT_EQ(t.result(), many);
    EXPECT_LE(most - least, 1024U);
}

TEST_F(llm_async_run, threads_and_coroutines_wait_in_one_queue) {
    use_up();
    time_point granted[6];
    std::vector<std::thread> threads;
    std::list<loop::timer> timers;
    std::vector<task<outcome>> tasks;
    for (int i = 0; i < 6; ++i) {
        if (i % 2 == 0) {
            auto const send = [&at = granted[i]](call_type& c) -> task<ended_attempt> {
                at = c.stamp();
                co_return c.ended(with(200));
            };
            tasks.push_back(async_run(*s, some, send, timers.emplace_back(executor)));
            EXPECT_FALSE(tasks.back().ready());
        } else {
            threads.emplace_back([this, &at = granted[i]] {
                (void)s->run(some, [&](call_type& c) {
                    at = c.stamp();
                    return c.ended(with(200));
                });
            });
        }
        while (s->waiting() != static_cast<std::size_t>(i) + 1) std::this_thread::yield();
    }
    while (s->waiting() != 0) {
        executor.run_due();
        std::this_thread::yield();
        clock.advance(1s);
    }
    executor.run_due();
    for (auto& t : threads) t.join();
    for (auto& t : tasks) {
        ASSERT_TRUE(t.ready());
        EXPECT_TRUE(t.result().answered());
    }
    EXPECT_TRUE(std::is_sorted(std::begin(granted), std::end(granted)));
    EXPECT_GE(granted[5] - granted[0], 2min);
    expect_no_trace();
}

}  // namespace async_run_test
