// SPDX-License-Identifier: MIT
// A queue in front of a limiter: order, deadlines, stops, and permits that come back.
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

namespace wait_queue_test {

using namespace waiting;

static_assert(weir::stoppable_token<weir::never_stop>);
static_assert(weir::stoppable_token<stop_source::token>);
static_assert(!weir::stoppable_token<int>);

class wait_queue : public wait_queue_fixture {};

TEST_F(wait_queue, names_how_a_wait_ended) {
    EXPECT_EQ(to_string(wait_status::granted), "granted");
    EXPECT_EQ(to_string(wait_status::timed_out), "timed out");
    EXPECT_EQ(to_string(wait_status::too_late), "too late");
    EXPECT_EQ(to_string(wait_status::stopped), "stopped");
    EXPECT_EQ(to_string(wait_status::queue_full), "queue full");
    EXPECT_EQ(to_string(wait_status::never), "never");
    EXPECT_EQ(to_string(static_cast<wait_status>(200)), "unknown");
}

TEST_F(wait_queue, an_attempt_that_meets_an_empty_queue_is_the_limiters_own) {
    clock.advance(3s);
    auto a = queue.acquire(2);
    ASSERT_TRUE(a);
    EXPECT_EQ(a.status(), wait_status::granted);
    EXPECT_TRUE(a->granted());
    EXPECT_EQ(a->retry_at(), clock.now());
    EXPECT_EQ(bucket.available(), 1U);
    EXPECT_TRUE(queue.try_acquire());
    auto const denied = queue.try_acquire();
    EXPECT_FALSE(denied);
    EXPECT_EQ(denied.status(), wait_status::timed_out);
    EXPECT_FALSE(denied.has_decision());
    EXPECT_EQ(queue.waiting(), 0U);
}

TEST_F(wait_queue, the_first_sleeps_until_its_retry_at) {
    join_for(4);
    EXPECT_EQ(queue.waiting(), 1U);
    EXPECT_EQ(clock.next_due(), time_point{4s});
    clock.advance(4s - 1ns);
    EXPECT_EQ(clock.sleepers(), 1U);
    clock.advance(1ns);
    threads.join();
    EXPECT_EQ(threads.order(), order_of{0});
    EXPECT_EQ(queue.waiting(), 0U);
    EXPECT_EQ(bucket.available(), 0U);
}

TEST_F(wait_queue, waiters_behind_the_first_have_no_alarm) {
    join_for(10);
    for (int i = 0; i < 5; ++i) join_for(1);
    EXPECT_EQ(queue.waiting(), 6U);
    EXPECT_EQ(clock.next_due(), time_point{10s});
    clock.advance(10s - 1ns);
    EXPECT_EQ(clock.sleepers(), 6U);
    run_out();
    EXPECT_EQ(clock.now(), time_point{15s});
}

TEST_F(wait_queue, serves_in_order_of_arrival_whatever_the_size) {
    for (permits const n : {3U, 1U, 10U, 1U, 2U, 7U, 1U}) join_for(n);
    run_out();
    EXPECT_EQ(threads.order(), (order_of{0, 1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(clock.now(), time_point{25s});
}

TEST_F(wait_queue, a_newcomer_does_not_overtake_though_the_limiter_would_grant) {
    clock.advance(5s);
    join_for(10);
    EXPECT_TRUE(bucket.check(1));
    EXPECT_EQ(queue.try_acquire(1).status(), wait_status::timed_out);
    EXPECT_EQ(queue.try_acquire_for(1, 0s).status(), wait_status::timed_out);
    EXPECT_EQ(queue.try_acquire_until(1, clock.now()).status(), wait_status::timed_out);
    EXPECT_EQ(bucket.available(), 5U);
    run_out();
}

TEST_F(wait_queue, a_large_attempt_is_not_starved_by_a_stream_of_small_ones) {
    join_for(10);
    for (int i = 1; i <= 10; ++i) {
        join_for(1);
        EXPECT_TRUE(threads.order().empty());
        clock.advance(1s);
    }
    EXPECT_EQ(order(1), order_of{0});
    run_out();
    EXPECT_EQ(threads.order(), (order_of{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
}

TEST_F(wait_queue, a_retry_with_a_ticket_keeps_its_original_position) {
    clock.advance(1s);
    weir::queue_ticket first;
    EXPECT_FALSE(first);
    EXPECT_TRUE(queue.acquire(1, first));  // served at once: its ticket is older than all that wait at the retry
    EXPECT_TRUE(first);
    weir::queue_ticket second;
    join([&](int number) {
        (void)queue.try_acquire_until(1, time_point::max(), second);
        threads.served(number);
    });
    clock.advance(1s);
    EXPECT_EQ(order(1), order_of{0});
    for (int i = 1; i < 3; ++i) join_for(1);
    auto const again = [&](weir::queue_ticket& ticket) {
        join([&](int number) {
            (void)queue.acquire(
                [this, number](bucket_type& b) {
                    auto d = b.try_acquire(1);
                    if (d) threads.served(number);
                    return d;
                },
                ticket);
        });
    };
    again(second);  // 3: before 1 and 2
    again(first);   // 4: before 3 too
    join_for(1);    // 5
    run_out();
    EXPECT_EQ(threads.order(), (order_of{0, 4, 3, 1, 2, 5}));
    EXPECT_EQ(clock.now(), time_point{7s});
}

TEST_F(wait_queue, a_waiter_displaced_by_a_retry_is_woken_when_that_leaves) {
    clock.advance(1s);
    weir::queue_ticket ticket;
    EXPECT_TRUE(queue.acquire(1, ticket));
    join_for(2);
    stop_source stop;
    join([&](int) { EXPECT_EQ(queue.acquire(5, ticket, stop.get_token()).status(), wait_status::stopped); });
    clock.advance(2s);  // the alarm of a waiter that is no longer first
    clock.wait_for_sleepers(2);
    EXPECT_TRUE(threads.order().empty());
    EXPECT_EQ(bucket.available(), 2U);
    stop.request_stop();
    EXPECT_EQ(order(1), order_of{0});
    threads.join();
    EXPECT_EQ(queue.waiting(), 0U);
    EXPECT_EQ(clock.now(), time_point{3s});
}

TEST_F(wait_queue, a_ticket_passes_only_later_arrivals_where_no_wait_is_wanted) {
    clock.advance(2s);
    weir::queue_ticket ticket;
    EXPECT_TRUE(queue.try_acquire_until(1, time_point::min(), ticket));
    join_for(3);
    EXPECT_TRUE(queue.try_acquire_until(1, clock.now(), ticket));
    EXPECT_EQ(queue.try_acquire_until(1, clock.now(), ticket).status(),
              wait_status::timed_out);  // the limiter has none
    clock.advance(1s);
    weir::queue_ticket later;
    EXPECT_EQ(queue.try_acquire_until(1, clock.now(), later).status(), wait_status::timed_out);
    EXPECT_FALSE(later);  // it never waited
    EXPECT_TRUE(queue.try_acquire_until(1, clock.now(), ticket));
    run_out();
    EXPECT_EQ(clock.now(), time_point{6s});
}

TEST_F(wait_queue, times_out_at_its_deadline_and_not_before) {
    join([this] {
        auto const a = queue.try_acquire_for(5, 2s);
        EXPECT_EQ(a.status(), wait_status::timed_out);
        return a.granted();
    });
    EXPECT_EQ(clock.next_due(), time_point{2s});
    clock.advance(2s - 1ns);
    EXPECT_EQ(clock.sleepers(), 1U);
    clock.advance(1ns);
    threads.join();
    EXPECT_EQ(queue.waiting(), 0U);
    EXPECT_EQ(bucket.available(), 2U);  // nothing was charged
}

TEST_F(wait_queue, is_granted_when_its_deadline_is_its_retry_at) {
    join([this] { return queue.try_acquire_until(3, time_point{3s}).granted(); });
    clock.advance(3s);
    EXPECT_EQ(order(1), order_of{0});
}

TEST_F(wait_queue, does_not_wait_when_the_deadline_has_passed) {
    clock.advance(5s);
    EXPECT_EQ(queue.try_acquire_until(6, time_point{1s}).status(), wait_status::timed_out);
    EXPECT_EQ(queue.try_acquire_for(6, -1s).status(), wait_status::timed_out);
    EXPECT_EQ(queue.try_acquire_for(6, manual_clock::duration::min()).status(), wait_status::timed_out);
    EXPECT_TRUE(queue.try_acquire_until(5, time_point{1s}));  // but takes what is there
}

TEST_F(wait_queue, a_very_long_wait_does_not_overflow) {
    join([this] { return queue.try_acquire_for(1, manual_clock::duration::max()).granted(); });
    EXPECT_EQ(clock.next_due(), time_point{1s});
    run_out();
    EXPECT_EQ(threads.order(), order_of{0});
}

TEST_F(wait_queue, when_the_first_times_out_the_next_is_served_at_once) {
    join([this] { return queue.try_acquire_for(10, 2s).granted(); });
    join_for(2);
    clock.advance(2s);
    EXPECT_EQ(order(1), order_of{1});
    EXPECT_EQ(clock.now(), time_point{2s});
}

TEST_F(wait_queue, one_that_times_out_in_the_middle_leaves_no_trace) {
    join_for(4);
    join([this] { return queue.try_acquire_for(1, 1s).granted(); });
    join_for(1);
    EXPECT_EQ(clock.next_due(), time_point{1s});
    clock.advance(1s);
    while (queue.waiting() != 2) std::this_thread::yield();
    run_out();
    EXPECT_EQ(threads.order(), (order_of{0, 2}));
    EXPECT_EQ(clock.now(), time_point{5s});
}

TEST_F(wait_queue, a_stopped_first_leaves_no_trace_and_the_next_is_served_at_once) {
    stop_source stop;
    clock.advance(3s);
    join([&] {
        auto const a = queue.acquire(10, stop.get_token());
        EXPECT_EQ(a.status(), wait_status::stopped);
        return a.granted();
    });
    join_for(3);
    EXPECT_EQ(stop.callbacks(), 1U);
    stop.request_stop();
    EXPECT_EQ(order(1), order_of{1});
    threads.join();
    EXPECT_EQ(stop.callbacks(), 0U);
    EXPECT_EQ(bucket.available(), 0U);
    EXPECT_EQ(queue.waiting(), 0U);
}

TEST_F(wait_queue, one_stopped_in_the_middle_leaves_no_trace) {
    stop_source stop;
    join_for(2);
    join([&] { return queue.try_acquire_for(10, 1h, stop.get_token()).granted(); });
    join_for(1);
    stop.request_stop();
    while (queue.waiting() != 2) std::this_thread::yield();
    run_out();
    EXPECT_EQ(threads.order(), (order_of{0, 2}));
    EXPECT_EQ(clock.now(), time_point{3s});
}

TEST_F(wait_queue, does_not_attempt_when_stopped_before) {
    stop_source stop;
    stop.request_stop();
    clock.advance(5s);
    EXPECT_EQ(queue.acquire(1, stop.get_token()).status(), wait_status::stopped);
    EXPECT_EQ(bucket.available(), 5U);
}

#if defined(__cpp_lib_jthread)
TEST_F(wait_queue, takes_the_standards_stop_token) {
    std::stop_source stop;
    join([&] {
        auto const a = queue.acquire(10, stop.get_token());
        EXPECT_EQ(a.status(), wait_status::stopped);
        return a.granted();
    });
    stop.request_stop();
    threads.join();
    EXPECT_EQ(queue.waiting(), 0U);
}
#endif

TEST_F(wait_queue, a_bounded_queue_refuses) {
    queue_type bounded{bucket, {.max_waiting = 2}};
    threads.add([&] { EXPECT_TRUE(bounded.acquire(1)); });
    threads.add([&] { EXPECT_TRUE(bounded.acquire(1)); });
    clock.wait_for_sleepers(2);
    EXPECT_EQ(bounded.acquire(1).status(), wait_status::queue_full);
    EXPECT_EQ(bounded.try_acquire(1).status(), wait_status::timed_out);
    clock.advance(2s);
    threads.join();
    queue_type without_places{bucket, {.max_waiting = 0}};
    EXPECT_EQ(without_places.acquire(1).status(), wait_status::queue_full);
    clock.advance(1s);
    EXPECT_TRUE(without_places.acquire(1));
}

TEST_F(wait_queue, what_can_never_be_granted_does_not_wait) {
    auto const a = queue.acquire(11);
    EXPECT_EQ(a.status(), wait_status::never);
    ASSERT_TRUE(a.has_decision());
    EXPECT_TRUE(a->never());
    join_for(10);
    EXPECT_EQ(queue.acquire(11).status(), wait_status::never);  // nor behind others
    EXPECT_EQ(queue.try_acquire_for(11, 1s).status(), wait_status::never);
    EXPECT_EQ(queue.waiting(), 1U);
    run_out();
}

TEST_F(wait_queue, a_change_that_leaves_no_room_is_told_at_the_waiters_turn) {
    std::atomic<int> nevers{0};
    auto const wait = [&] {
        auto const a = queue.acquire(10);
        nevers += a.status() == wait_status::never ? 1 : 0;
        return a.granted();
    };
    join(wait);
    join(wait);
    join_for(5);
    EXPECT_FALSE(queue.change(bucket_type::limits_type{rate{1, 1s}, 5}));
    while (nevers != 2) std::this_thread::yield();
    EXPECT_EQ(clock.now(), time_point{});
    run_out();
    EXPECT_EQ(threads.order(), order_of{2});
}

TEST_F(wait_queue, refuses_what_comes_too_late_only_when_told_to) {
    queue_type strict{bucket, {.refuse_too_late = true}};
    EXPECT_EQ(strict.try_acquire_for(5, 5s - 1ns).status(), wait_status::too_late);
    EXPECT_EQ(strict.waiting(), 0U);
    threads.add([&] { EXPECT_TRUE(strict.try_acquire_for(5, 5s)); });
    clock.wait_for_sleepers(1);
    EXPECT_EQ(strict.try_acquire_for(3, 3s - 1ns).status(),
              wait_status::too_late);  // by its own retry_at, in the queue too
    clock.advance(5s);
    threads.join();
    EXPECT_EQ(strict.try_acquire(3).status(), wait_status::timed_out);
}

TEST_F(wait_queue, what_becomes_too_late_behind_others_is_told_at_its_turn) {
    queue_type strict{bucket, {.refuse_too_late = true}};
    threads.add([&] { EXPECT_TRUE(strict.acquire(5)); });
    clock.wait_for_sleepers(1);
    threads.add([&] { EXPECT_EQ(strict.try_acquire_for(4, 8s).status(), wait_status::too_late); });
    clock.wait_for_sleepers(2);
    clock.advance(5s);
    threads.join();
    EXPECT_EQ(clock.now(), time_point{5s});
}

TEST_F(wait_queue, a_refund_wakes_the_first) {
    clock.advance(10s);
    auto a = queue.acquire(6);
    ASSERT_TRUE(a);
    join_for(8);
    join_for(2);
    EXPECT_EQ(clock.next_due(), time_point{14s});
    EXPECT_EQ(queue.refund(*a), 6U);
    EXPECT_EQ(order(2), (order_of{0, 1}));
    EXPECT_EQ(clock.now(), time_point{10s});
}

TEST_F(wait_queue, a_settlement_re_times_the_first) {
    clock.advance(10s);
    auto a = queue.acquire(10);
    ASSERT_TRUE(a);
    join_for(8);
    EXPECT_EQ(clock.next_due(), time_point{18s});
    EXPECT_TRUE(queue.settle(*a, 6U));  // four come back
    while (clock.next_due() != time_point{14s}) std::this_thread::yield();
    EXPECT_FALSE(queue.settle(*a, 6U));
    clock.wait_for_sleepers(1);
    run_out();
    EXPECT_EQ(clock.now(), time_point{14s});
}

TEST_F(wait_queue, a_change_of_rate_re_times_the_first) {
    join_for(10);
    EXPECT_EQ(clock.next_due(), time_point{10s});
    EXPECT_FALSE(queue.change(bucket_type::limits_type{rate{10, 1s}, 10}));
    while (clock.next_due() != time_point{1s}) std::this_thread::yield();
    run_out();
    EXPECT_EQ(clock.now(), time_point{1s});
}

TEST_F(wait_queue, notify_makes_the_first_try_again) {
    clock.advance(10s);
    auto d = bucket.try_acquire(10);
    join_for(5);
    bucket.refund(d);  // directly
    EXPECT_EQ(clock.sleepers(), 1U);
    queue.notify();
    EXPECT_EQ(order(1), order_of{0});
    queue.notify();  // no waiter
}

TEST_F(wait_queue, a_caller_that_asks_the_limiter_directly_only_delays_the_queue) {
    join_for(2);
    clock.advance(1s);
    EXPECT_TRUE(bucket.try_acquire(1));
    clock.advance(1s);
    while (clock.next_due() != time_point{3s}) std::this_thread::yield();
    run_out();
    EXPECT_EQ(threads.order(), order_of{0});
}

TEST_F(wait_queue, asks_by_a_callable_for_anything_else) {
    clock.advance(10s);
    int calls = 0;
    auto const a = queue.acquire([&](bucket_type& b) {
        ++calls;
        return b.try_acquire(4, time_point{9s});
    });
    EXPECT_TRUE(a);
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(bucket.available(time_point{9s}), 5U);
}

#if defined(__cpp_exceptions)
TEST_F(wait_queue, an_attempt_that_throws_leaves_no_trace) {
    join([&] {
        int calls = 0;
        EXPECT_THROW((void)queue.acquire([&](bucket_type& b) {
            if (++calls == 3) throw std::runtime_error{"no"};
            return b.try_acquire(5);
        }),
                     std::runtime_error);
        return false;
    });
    join_for(1);
    clock.advance(1s);
    queue.notify();
    EXPECT_EQ(order(1), order_of{1});
    threads.join();
    EXPECT_EQ(queue.waiting(), 0U);
}
#endif

}  // namespace wait_queue_test
