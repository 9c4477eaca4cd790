// SPDX-License-Identifier: MIT
// Coroutines that wait in a queue.
#include <weir/all_of.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/wait_queue.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../support/manual_loop.hpp"
#include "../support/stress.hpp"
#include "../support/waiting_threads.hpp"

namespace wait_queue_async_test {

using namespace waiting;

static_assert(weir::async_timer<loop::timer, time_point>);

class wait_queue_of_coroutines : public wait_queue_fixture {
protected:
    loop executor{clock};

    eager_task acquire(permits n, int number) {
        loop::timer timer{executor};
        auto const a = co_await queue.async_acquire(n, timer);
        EXPECT_EQ(a.status(), wait_status::granted);
        threads.served(number);
    }
    eager_task acquire_for(permits n, manual_clock::duration d, std::optional<wait_status>& status) {
        loop::timer timer{executor};
        status = (co_await queue.async_try_acquire_for(n, d, timer)).status();
    }
    eager_task acquire_unless(permits n, stop_source& stop, std::optional<wait_status>& status) {
        loop::timer timer{executor};
        status = (co_await queue.async_acquire(n, timer, stop.get_token())).status();
    }
};

TEST_F(wait_queue_of_coroutines, goes_on_at_once_where_it_need_not_wait) {
    clock.advance(5s);
    auto const t = acquire(3, 1);
    EXPECT_TRUE(t.done());
    std::optional<wait_status> status;
    auto const never = acquire_for(11, 1s, status);
    EXPECT_EQ(status, wait_status::never);
    auto const late = acquire_for(5, 0s, status);
    EXPECT_EQ(status, wait_status::timed_out);
}

TEST_F(wait_queue_of_coroutines, is_resumed_at_its_retry_at_in_order) {
    auto const a = acquire(4, 1);
    auto const b = acquire(1, 2);
    auto const c = acquire(1, 3);
    EXPECT_EQ(queue.waiting(), 3U);
    EXPECT_EQ(executor.next_due(), time_point{4s});
    clock.advance(4s - 1ns);
    EXPECT_EQ(executor.run_due(), 0);
    clock.advance(1ns);
    executor.run_due();
    EXPECT_EQ(threads.order(), order_of{1});
    EXPECT_EQ(executor.next_due(), time_point{5s});
    clock.advance(1s);
    executor.run_due();
    clock.advance(1s);
    executor.run_due();
    EXPECT_EQ(threads.order(), (order_of{1, 2, 3}));
    EXPECT_EQ(queue.waiting(), 0U);
}

TEST_F(wait_queue_of_coroutines, times_out_and_is_stopped) {
    std::optional<wait_status> first;
    std::optional<wait_status> second;
    std::optional<wait_status> third;
    stop_source stop;
    auto const a = acquire_for(10, 2s, first);
    auto const b = acquire_unless(10, stop, second);
    auto const c = acquire_for(2, 1s, third);
    EXPECT_EQ(executor.next_due(), time_point{1s});
    clock.advance(1s - 1ns);
    EXPECT_EQ(executor.run_due(), 0);
    clock.advance(1ns);
    executor.run_due();
    EXPECT_EQ(third, wait_status::timed_out);
    EXPECT_FALSE(first || second);
    stop.request_stop();
    executor.run_due();
    EXPECT_EQ(second, wait_status::stopped);
    clock.advance(1s);
    executor.run_due();
    EXPECT_EQ(first, wait_status::timed_out);
    EXPECT_EQ(queue.waiting(), 0U);
    EXPECT_EQ(stop.callbacks(), 0U);
}

TEST_F(wait_queue_of_coroutines, one_that_is_destroyed_while_it_waits_leaves_no_trace) {
    auto a = acquire(10, 1);
    auto b = acquire(5, 2);
    auto const c = acquire(2, 3);
    clock.advance(2s);
    b.destroy();
    EXPECT_EQ(queue.waiting(), 2U);
    EXPECT_EQ(executor.run_due(), 0);
    a.destroy();
    executor.run_due();
    EXPECT_EQ(threads.order(), order_of{3});
    EXPECT_TRUE(c.done());
    EXPECT_EQ(queue.waiting(), 0U);
}

TEST_F(wait_queue_of_coroutines, a_retry_with_a_ticket_keeps_its_original_position) {
    weir::queue_ticket ticket;
    order_of served;
    auto const wait = [&](int number, weir::queue_ticket& t) -> eager_task {
        loop::timer timer{executor};
        (void)co_await queue.async_try_acquire_until(1, time_point::max(), timer, t);
        served.push_back(number);
    };
    weir::queue_ticket others[2];
    auto const a = wait(0, ticket);
    auto const b = wait(1, others[0]);
    clock.advance(1s);
    executor.run_due();
    EXPECT_EQ(served, order_of{0});
    auto const c = wait(2, others[1]);
    auto const d = wait(3, ticket);
    for (int i = 0; i < 3; ++i) {
        clock.advance(1s);
        executor.run_due();
    }
    EXPECT_EQ(served, (order_of{0, 3, 1, 2}));
}

TEST_F(wait_queue_of_coroutines, retries_of_calls_served_in_turn_come_in_that_order) {
    weir::queue_ticket tickets[3];
    order_of served;
    auto const wait = [&](int number, weir::queue_ticket& t) -> eager_task {
        loop::timer timer{executor};
        (void)co_await queue.async_try_acquire_until(1, time_point::max(), timer, t);
        served.push_back(number);
    };
    clock.advance(2s);
    auto const a = wait(0, tickets[0]);
    auto const b = wait(1, tickets[1]);
    EXPECT_EQ(served, (order_of{0, 1}));
    auto const other = wait(2, tickets[2]);
    auto const again_a = wait(3, tickets[0]);
    auto const again_b = wait(4, tickets[1]);
    for (int i = 0; i < 3; ++i) {
        clock.advance(1s);
        executor.run_due();
    }
    EXPECT_EQ(served, (order_of{0, 1, 3, 4, 2}));
}

TEST_F(wait_queue_of_coroutines, refuses_when_the_queue_is_full) {
    queue_type bounded{bucket, {.max_waiting = 1}};
    auto const wait = [](queue_type& l, loop& e, std::optional<wait_status>& status) -> eager_task {
        loop::timer timer{e};
        status = (co_await l.async_acquire(1, timer)).status();
    };
    std::optional<wait_status> first;
    std::optional<wait_status> second;
    auto const a = wait(bounded, executor, first);
    auto const b = wait(bounded, executor, second);
    EXPECT_EQ(second, wait_status::queue_full);
    clock.advance(1s);
    executor.run_due();
    EXPECT_EQ(first, wait_status::granted);
}

TEST_F(wait_queue_of_coroutines, threads_and_coroutines_wait_in_one_order) {
    join_for(2);  // 0
    auto const a = acquire(1, 100);
    join_for(3);  // 1
    auto const b = acquire(2, 101);
    auto const c = acquire(1, 102);
    join_for(1);  // 2
    EXPECT_EQ(queue.waiting(), 6U);
    order_of const expected{0, 100, 1, 101, 102, 2};
    for (std::size_t n = 0; n < expected.size();) {
        clock.advance(1s);
        // All that this second pays for is served before the next begins.
        auto const seconds = static_cast<std::size_t>(clock.now().time_since_epoch() / 1s);
        std::size_t const paid[] = {2, 3, 6, 8, 9, 10};
        while (n < expected.size() && paid[n] <= seconds) {
            executor.run_due();
            if (threads.order().size() > n)
                ++n;
            else
                std::this_thread::yield();
        }
        EXPECT_EQ(threads.order().size(), n);
    }
    EXPECT_EQ(threads.order(), expected);
    EXPECT_EQ(clock.now(), time_point{10s});
}

}  // namespace wait_queue_async_test
