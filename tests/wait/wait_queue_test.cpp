// SPDX-License-Identifier: MIT
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

namespace {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::permits;
using weir::rate;
using weir::wait_status;
using time_point = manual_clock::time_point;

static_assert(weir::stoppable_token<weir::never_stop>);
static_assert(weir::stoppable_token<stop_source::token>);
static_assert(!weir::stoppable_token<int>);

using bucket_type = weir::token_bucket<manual_clock&>;
using line_type = weir::wait_queue<bucket_type>;

// Threads that end with the test, and the order in which they were served.
class crew {
public:
    ~crew() { join(); }
    template <class F>
    void add(F f) {
        threads_.emplace_back(std::move(f));
    }
    void join() {
        for (auto& t : threads_) t.join();
        threads_.clear();
    }
    void served(int who) {
        std::lock_guard const lock{mutex_};
        served_.push_back(who);
    }
    std::vector<int> order() {
        std::lock_guard const lock{mutex_};
        return served_;
    }

private:
    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::vector<int> served_;
};

// One permit a second, ten at most, none at first.
class wait_queue : public testing::Test {
protected:
    // A thread that waits; when this returns it sleeps.
    template <class Wait>
    void join(Wait wait) {
        auto const before = clock.sleepers();
        threads.add([this, wait, who = next_++] {
            if (granted(wait, who)) threads.served(who);
        });
        clock.wait_for_sleepers(before + 1);
    }
    template <class Wait>
    static bool granted(Wait const& wait, int who) {
        if constexpr (std::invocable<Wait const&, int>) {
            wait(who);
            return false;
        } else {
            return wait();
        }
    }
    // The same for n, noting its turn in the attempt itself: once it has left the line, the next may be quicker to
    // tell.
    void join_for(permits n) {
        join([this, n](int who) {
            (void)line.acquire([&](bucket_type& b) {
                auto d = b.try_acquire(n);
                if (d) threads.served(who);
                return d;
            });
        });
    }
    // Waits until as many have been served as should have been: the wake-ups are certain, only not instant.
    std::vector<int> order(std::size_t n) {
        while (threads.order().size() < n) std::this_thread::yield();
        return threads.order();
    }
    // Lets time pass whenever all who wait are asleep, until nobody waits.
    void run_out() {
        while (line.waiting() > 0) {
            if (clock.sleepers() == line.waiting()) clock.advance_to_next();
            std::this_thread::yield();
        }
        threads.join();
    }

    manual_clock clock;
    bucket_type bucket{rate{1, 1s}, 10, {.initial = 0}, clock};
    line_type line{bucket};
    crew threads;

private:
    int next_ = 0;
};

using order_of = std::vector<int>;

TEST_F(wait_queue, names_how_a_wait_ended) {
    EXPECT_EQ(to_string(wait_status::granted), "granted");
    EXPECT_EQ(to_string(wait_status::timed_out), "timed out");
    EXPECT_EQ(to_string(wait_status::too_late), "too late");
    EXPECT_EQ(to_string(wait_status::stopped), "stopped");
    EXPECT_EQ(to_string(wait_status::queue_full), "queue full");
    EXPECT_EQ(to_string(wait_status::never), "never");
    EXPECT_EQ(to_string(static_cast<wait_status>(200)), "unknown");
}

TEST_F(wait_queue, an_attempt_that_meets_an_empty_line_is_the_limiters_own) {
    clock.advance(3s);
    auto a = line.acquire(2);
    ASSERT_TRUE(a);
    EXPECT_EQ(a.status(), wait_status::granted);
    EXPECT_TRUE(a->granted());
    EXPECT_EQ(a->retry_at(), clock.now());
    EXPECT_EQ(bucket.available(), 1U);
    EXPECT_TRUE(line.try_acquire());
    auto const denied = line.try_acquire();
    EXPECT_FALSE(denied);
    EXPECT_EQ(denied.status(), wait_status::timed_out);
    EXPECT_FALSE(denied.has_decision());
    EXPECT_EQ(line.waiting(), 0U);
}

TEST_F(wait_queue, the_first_sleeps_until_its_retry_at) {
    join_for(4);
    EXPECT_EQ(line.waiting(), 1U);
    EXPECT_EQ(clock.next_due(), time_point{4s});
    clock.advance(4s - 1ns);
    EXPECT_EQ(clock.sleepers(), 1U);
    clock.advance(1ns);
    threads.join();
    EXPECT_EQ(threads.order(), order_of{0});
    EXPECT_EQ(line.waiting(), 0U);
    EXPECT_EQ(bucket.available(), 0U);
}

TEST_F(wait_queue, those_behind_the_first_have_no_alarm_of_their_own) {
    join_for(10);
    for (int i = 0; i < 5; ++i) join_for(1);
    EXPECT_EQ(line.waiting(), 6U);
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
    EXPECT_EQ(line.try_acquire(1).status(), wait_status::timed_out);
    EXPECT_EQ(line.try_acquire_for(1, 0s).status(), wait_status::timed_out);
    EXPECT_EQ(line.try_acquire_until(1, clock.now()).status(), wait_status::timed_out);
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

TEST_F(wait_queue, who_comes_again_with_its_ticket_stands_before_all_who_arrived_after_it) {
    clock.advance(1s);
    weir::queue_ticket first;
    EXPECT_FALSE(first);
    EXPECT_TRUE(line.acquire(1, first));  // served at once: a ticket from before all who wait when it comes again
    EXPECT_TRUE(first);
    weir::queue_ticket second;
    join([&](int who) {
        (void)line.try_acquire_until(1, time_point::max(), second);
        threads.served(who);
    });
    clock.advance(1s);
    EXPECT_EQ(order(1), order_of{0});
    for (int i = 1; i < 3; ++i) join_for(1);
    auto const again = [&](weir::queue_ticket& ticket) {
        join([&](int who) {
            (void)line.acquire(
                [this, who](bucket_type& b) {
                    auto d = b.try_acquire(1);
                    if (d) threads.served(who);
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

TEST_F(wait_queue, who_is_displaced_by_one_who_comes_again_is_served_after_it_and_woken_when_it_leaves) {
    clock.advance(1s);
    weir::queue_ticket ticket;
    EXPECT_TRUE(line.acquire(1, ticket));
    join_for(2);
    stop_source stop;
    join([&](int) { EXPECT_EQ(line.acquire(5, ticket, stop.get_token()).status(), wait_status::stopped); });
    clock.advance(2s);  // the alarm of the one who was first, and is not any more
    clock.wait_for_sleepers(2);
    EXPECT_TRUE(threads.order().empty());
    EXPECT_EQ(bucket.available(), 2U);
    stop.request_stop();
    EXPECT_EQ(order(1), order_of{0});
    threads.join();
    EXPECT_EQ(line.waiting(), 0U);
    EXPECT_EQ(clock.now(), time_point{3s});
}

TEST_F(wait_queue, a_ticket_lets_one_who_does_not_wait_past_those_only_who_arrived_later) {
    clock.advance(2s);
    weir::queue_ticket ticket;
    EXPECT_TRUE(line.try_acquire_until(1, time_point::min(), ticket));
    join_for(3);
    EXPECT_TRUE(line.try_acquire_until(1, clock.now(), ticket));
    EXPECT_EQ(line.try_acquire_until(1, clock.now(), ticket).status(), wait_status::timed_out);  // the limiter has none
    clock.advance(1s);
    weir::queue_ticket later;
    EXPECT_EQ(line.try_acquire_until(1, clock.now(), later).status(), wait_status::timed_out);
    EXPECT_FALSE(later);  // it never stood in the line
    EXPECT_TRUE(line.try_acquire_until(1, clock.now(), ticket));
    run_out();
    EXPECT_EQ(clock.now(), time_point{6s});
}

TEST_F(wait_queue, times_out_at_its_deadline_and_not_before) {
    join([this] {
        auto const a = line.try_acquire_for(5, 2s);
        EXPECT_EQ(a.status(), wait_status::timed_out);
        return a.granted();
    });
    EXPECT_EQ(clock.next_due(), time_point{2s});
    clock.advance(2s - 1ns);
    EXPECT_EQ(clock.sleepers(), 1U);
    clock.advance(1ns);
    threads.join();
    EXPECT_EQ(line.waiting(), 0U);
    EXPECT_EQ(bucket.available(), 2U);  // nothing was charged
}

TEST_F(wait_queue, is_granted_when_its_deadline_is_its_retry_at) {
    join([this] { return line.try_acquire_until(3, time_point{3s}).granted(); });
    clock.advance(3s);
    EXPECT_EQ(order(1), order_of{0});
}

TEST_F(wait_queue, does_not_wait_when_the_deadline_has_passed) {
    clock.advance(5s);
    EXPECT_EQ(line.try_acquire_until(6, time_point{1s}).status(), wait_status::timed_out);
    EXPECT_EQ(line.try_acquire_for(6, -1s).status(), wait_status::timed_out);
    EXPECT_EQ(line.try_acquire_for(6, manual_clock::duration::min()).status(), wait_status::timed_out);
    EXPECT_TRUE(line.try_acquire_until(5, time_point{1s}));  // but takes what is there
}

TEST_F(wait_queue, a_very_long_wait_does_not_overflow) {
    join([this] { return line.try_acquire_for(1, manual_clock::duration::max()).granted(); });
    EXPECT_EQ(clock.next_due(), time_point{1s});
    run_out();
    EXPECT_EQ(threads.order(), order_of{0});
}

TEST_F(wait_queue, when_the_first_times_out_the_next_is_served_at_once) {
    join([this] { return line.try_acquire_for(10, 2s).granted(); });
    join_for(2);
    clock.advance(2s);
    EXPECT_EQ(order(1), order_of{1});
    EXPECT_EQ(clock.now(), time_point{2s});
}

TEST_F(wait_queue, one_that_times_out_in_the_middle_leaves_no_trace) {
    join_for(4);
    join([this] { return line.try_acquire_for(1, 1s).granted(); });
    join_for(1);
    EXPECT_EQ(clock.next_due(), time_point{1s});
    clock.advance(1s);
    while (line.waiting() != 2) std::this_thread::yield();
    run_out();
    EXPECT_EQ(threads.order(), (order_of{0, 2}));
    EXPECT_EQ(clock.now(), time_point{5s});
}

TEST_F(wait_queue, a_stopped_first_leaves_no_trace_and_the_next_is_served_at_once) {
    stop_source stop;
    clock.advance(3s);
    join([&] {
        auto const a = line.acquire(10, stop.get_token());
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
    EXPECT_EQ(line.waiting(), 0U);
}

TEST_F(wait_queue, one_stopped_in_the_middle_leaves_no_trace) {
    stop_source stop;
    join_for(2);
    join([&] { return line.try_acquire_for(10, 1h, stop.get_token()).granted(); });
    join_for(1);
    stop.request_stop();
    while (line.waiting() != 2) std::this_thread::yield();
    run_out();
    EXPECT_EQ(threads.order(), (order_of{0, 2}));
    EXPECT_EQ(clock.now(), time_point{3s});
}

TEST_F(wait_queue, does_not_attempt_when_stopped_before) {
    stop_source stop;
    stop.request_stop();
    clock.advance(5s);
    EXPECT_EQ(line.acquire(1, stop.get_token()).status(), wait_status::stopped);
    EXPECT_EQ(bucket.available(), 5U);
}

#if defined(__cpp_lib_jthread)
TEST_F(wait_queue, takes_the_standards_stop_token) {
    std::stop_source stop;
    join([&] {
        auto const a = line.acquire(10, stop.get_token());
        EXPECT_EQ(a.status(), wait_status::stopped);
        return a.granted();
    });
    stop.request_stop();
    threads.join();
    EXPECT_EQ(line.waiting(), 0U);
}
#endif

TEST_F(wait_queue, a_bounded_line_refuses) {
    line_type bounded{bucket, {.max_waiting = 2}};
    threads.add([&] { EXPECT_TRUE(bounded.acquire(1)); });
    threads.add([&] { EXPECT_TRUE(bounded.acquire(1)); });
    clock.wait_for_sleepers(2);
    EXPECT_EQ(bounded.acquire(1).status(), wait_status::queue_full);
    EXPECT_EQ(bounded.try_acquire(1).status(), wait_status::timed_out);
    clock.advance(2s);
    threads.join();
    line_type nobody{bucket, {.max_waiting = 0}};
    EXPECT_EQ(nobody.acquire(1).status(), wait_status::queue_full);
    clock.advance(1s);
    EXPECT_TRUE(nobody.acquire(1));
}

TEST_F(wait_queue, what_can_never_be_granted_does_not_wait) {
    auto const a = line.acquire(11);
    EXPECT_EQ(a.status(), wait_status::never);
    ASSERT_TRUE(a.has_decision());
    EXPECT_TRUE(a->never());
    join_for(10);
    EXPECT_EQ(line.acquire(11).status(), wait_status::never);  // nor behind others
    EXPECT_EQ(line.try_acquire_for(11, 1s).status(), wait_status::never);
    EXPECT_EQ(line.waiting(), 1U);
    run_out();
}

TEST_F(wait_queue, one_that_a_change_has_left_no_room_for_learns_it_when_its_turn_comes) {
    std::atomic<int> nevers{0};
    auto const wait = [&] {
        auto const a = line.acquire(10);
        nevers += a.status() == wait_status::never ? 1 : 0;
        return a.granted();
    };
    join(wait);
    join(wait);
    join_for(5);
    EXPECT_FALSE(line.change(bucket_type::limits_type{rate{1, 1s}, 5}));
    while (nevers != 2) std::this_thread::yield();
    EXPECT_EQ(clock.now(), time_point{});
    run_out();
    EXPECT_EQ(threads.order(), order_of{2});
}

TEST_F(wait_queue, refuses_who_comes_too_late_only_when_told_to) {
    line_type strict{bucket, {.refuse_too_late = true}};
    EXPECT_EQ(strict.try_acquire_for(5, 5s - 1ns).status(), wait_status::too_late);
    EXPECT_EQ(strict.waiting(), 0U);
    threads.add([&] { EXPECT_TRUE(strict.try_acquire_for(5, 5s)); });
    clock.wait_for_sleepers(1);
    EXPECT_EQ(strict.try_acquire_for(3, 3s - 1ns).status(),
              wait_status::too_late);  // by its own reckoning, in line too
    clock.advance(5s);
    threads.join();
    EXPECT_EQ(strict.try_acquire(3).status(), wait_status::timed_out);
}

TEST_F(wait_queue, one_who_becomes_too_late_behind_others_is_told_when_its_turn_comes) {
    line_type strict{bucket, {.refuse_too_late = true}};
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
    auto a = line.acquire(6);
    ASSERT_TRUE(a);
    join_for(8);
    join_for(2);
    EXPECT_EQ(clock.next_due(), time_point{14s});
    EXPECT_EQ(line.refund(*a), 6U);
    EXPECT_EQ(order(2), (order_of{0, 1}));
    EXPECT_EQ(clock.now(), time_point{10s});
}

TEST_F(wait_queue, a_settlement_re_times_the_first) {
    clock.advance(10s);
    auto a = line.acquire(10);
    ASSERT_TRUE(a);
    join_for(8);
    EXPECT_EQ(clock.next_due(), time_point{18s});
    EXPECT_TRUE(line.settle(*a, 6U));  // four come back
    while (clock.next_due() != time_point{14s}) std::this_thread::yield();
    EXPECT_FALSE(line.settle(*a, 6U));
    clock.wait_for_sleepers(1);
    run_out();
    EXPECT_EQ(clock.now(), time_point{14s});
}

TEST_F(wait_queue, a_change_of_rate_re_times_the_first) {
    join_for(10);
    EXPECT_EQ(clock.next_due(), time_point{10s});
    EXPECT_FALSE(line.change(bucket_type::limits_type{rate{10, 1s}, 10}));
    while (clock.next_due() != time_point{1s}) std::this_thread::yield();
    run_out();
    EXPECT_EQ(clock.now(), time_point{1s});
}

TEST_F(wait_queue, notify_makes_the_first_try_anew) {
    clock.advance(10s);
    auto d = bucket.try_acquire(10);
    join_for(5);
    bucket.refund(d);  // past the line
    EXPECT_EQ(clock.sleepers(), 1U);
    line.notify();
    EXPECT_EQ(order(1), order_of{0});
    line.notify();  // nobody there
}

TEST_F(wait_queue, somebody_who_asks_the_limiter_past_the_line_only_delays_it) {
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
    auto const a = line.acquire([&](bucket_type& b) {
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
        EXPECT_THROW((void)line.acquire([&](bucket_type& b) {
            if (++calls == 3) throw std::runtime_error{"no"};
            return b.try_acquire(5);
        }),
                     std::runtime_error);
        return false;
    });
    join_for(1);
    clock.advance(1s);
    line.notify();
    EXPECT_EQ(order(1), order_of{1});
    threads.join();
    EXPECT_EQ(line.waiting(), 0U);
}
#endif

// A limiter of calls in flight, by a cost of its own type: its denials name no time at which they end.
struct seats {
    std::uint64_t n;
};
class in_flight {
public:
    using clock_type = manual_clock;
    using duration = manual_clock::duration;
    using time_point = manual_clock::time_point;
    struct decision {
        bool ok;
        time_point at;
        bool granted() const { return ok; }
        explicit operator bool() const { return ok; }
        bool never() const { return false; }
        time_point retry_at() const { return at; }
        duration retry_after() const { return {}; }
    };
    in_flight(manual_clock& c, std::uint64_t n) : clock_{c}, free_{n} {}
    decision try_acquire(seats s) {
        auto f = free_.load();
        while (f >= s.n) {
            if (free_.compare_exchange_weak(f, f - s.n)) return {true, clock_.now()};
        }
        return {false, clock_.now()};
    }
    int settle(seats s) {
        free_ += s.n;
        return 7;
    }
    manual_clock const& clock() const { return clock_; }

private:
    manual_clock& clock_;
    std::atomic<std::uint64_t> free_;
};

TEST(waiting_line_of_another_cost, waits_for_what_is_in_flight_and_looks_again_now_and_then) {
    manual_clock clock;
    in_flight limiter{clock, 3};
    weir::wait_queue line{limiter};
    EXPECT_TRUE(line.acquire(seats{3}));
    std::thread waiter{[&] { EXPECT_TRUE(line.acquire(seats{2})); }};
    // Nobody tells: it looks after 0.1, 0.2, 0.4 ms, ..., and every 10 ms in the long run.
    auto last = clock.now();
    for (auto const pause : {100us, 200us, 400us, 800us, 1600us, 3200us, 6400us, 10000us, 10000us}) {
        clock.wait_for_sleepers(1);
        auto const next = clock.next_due();
        ASSERT_TRUE(next);
        EXPECT_EQ(*next - last, pause);
        last = *next;
        clock.advance_to_next();
    }
    clock.wait_for_sleepers(1);
    EXPECT_EQ(line.settle(seats{3}), 7);
    waiter.join();
}

TEST(waiting_line_of_another_cost, waits_for_a_quota_of_requests_and_tokens) {
    manual_clock clock;
    weir::llm::quota_limiter quota{weir::llm::quota{.rpm = 2, .tpm = 1000}, std::ref(clock)};
    weir::wait_queue line{quota};
    auto first = line.acquire(weir::llm::tokens{.input = 100, .output = 700});
    ASSERT_TRUE(first);
    EXPECT_EQ(line.acquire(weir::llm::tokens{.input = 1000, .output = 1}).status(), wait_status::never);
    bool second_done = false;
    std::thread second{[&] { second_done = line.acquire(weir::llm::tokens{.input = 100, .output = 200}).granted(); }};
    clock.wait_for_sleepers(1);
    EXPECT_TRUE(line.settle(*first, weir::llm::tokens{.input = 100, .output = 50}));  // of 700 held, 650 come back
    second.join();
    EXPECT_TRUE(second_done);
    EXPECT_EQ(clock.now(), time_point{});
    EXPECT_EQ(line.try_acquire_for(weir::llm::tokens{.input = 1, .output = 1}, 0s).status(),
              wait_status::timed_out);  // two requests, the third waits
    std::thread third{[&] { EXPECT_TRUE(line.acquire(weir::llm::tokens{.input = 1, .output = 1})); }};
    clock.wait_for_sleepers(1);
    auto const due = clock.next_due();
    ASSERT_TRUE(due);
    EXPECT_GE(*due, time_point{1min});
    clock.advance_to_next();
    third.join();
}

TEST(waiting_line_of_another_cost, waits_for_all_of_several_limiters) {
    manual_clock clock;
    bucket_type quick{rate{1, 1s}, 5, clock};
    weir::sliding_window_log strict{2, 10s, std::ref(clock)};
    weir::all_of both{quick, strict};
    weir::wait_queue line{both};
    EXPECT_TRUE(line.acquire());
    EXPECT_TRUE(line.acquire());
    std::thread third{[&] { EXPECT_TRUE(line.acquire()); }};
    clock.wait_for_sleepers(1);
    EXPECT_EQ(clock.next_due(), time_point{10s});
    clock.advance_to_next();
    third.join();
}

static_assert(weir::async_timer<loop::timer, time_point>);

class waiting_line_of_coroutines : public wait_queue {
protected:
    loop executor{clock};

    eager_task acquire(permits n, int who) {
        loop::timer timer{executor};
        auto const a = co_await line.async_acquire(n, timer);
        EXPECT_EQ(a.status(), wait_status::granted);
        threads.served(who);
    }
    eager_task acquire_for(permits n, manual_clock::duration d, std::optional<wait_status>& why) {
        loop::timer timer{executor};
        why = (co_await line.async_try_acquire_for(n, d, timer)).status();
    }
    eager_task acquire_unless(permits n, stop_source& stop, std::optional<wait_status>& why) {
        loop::timer timer{executor};
        why = (co_await line.async_acquire(n, timer, stop.get_token())).status();
    }
};

TEST_F(waiting_line_of_coroutines, goes_on_at_once_where_it_need_not_wait) {
    clock.advance(5s);
    auto const t = acquire(3, 1);
    EXPECT_TRUE(t.done());
    std::optional<wait_status> why;
    auto const never = acquire_for(11, 1s, why);
    EXPECT_EQ(why, wait_status::never);
    auto const late = acquire_for(5, 0s, why);
    EXPECT_EQ(why, wait_status::timed_out);
}

TEST_F(waiting_line_of_coroutines, is_resumed_at_its_retry_at_in_order) {
    auto const a = acquire(4, 1);
    auto const b = acquire(1, 2);
    auto const c = acquire(1, 3);
    EXPECT_EQ(line.waiting(), 3U);
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
    EXPECT_EQ(line.waiting(), 0U);
}

TEST_F(waiting_line_of_coroutines, times_out_and_is_stopped) {
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
    EXPECT_EQ(line.waiting(), 0U);
    EXPECT_EQ(stop.callbacks(), 0U);
}

TEST_F(waiting_line_of_coroutines, one_that_is_destroyed_while_it_waits_leaves_no_trace) {
    auto a = acquire(10, 1);
    auto b = acquire(5, 2);
    auto const c = acquire(2, 3);
    clock.advance(2s);
    b.destroy();
    EXPECT_EQ(line.waiting(), 2U);
    EXPECT_EQ(executor.run_due(), 0);
    a.destroy();
    executor.run_due();
    EXPECT_EQ(threads.order(), order_of{3});
    EXPECT_TRUE(c.done());
    EXPECT_EQ(line.waiting(), 0U);
}

TEST_F(waiting_line_of_coroutines, who_comes_again_with_its_ticket_stands_before_all_who_arrived_after_it) {
    weir::queue_ticket ticket;
    order_of served;
    auto const wait = [&](int who, weir::queue_ticket& t) -> eager_task {
        loop::timer timer{executor};
        (void)co_await line.async_try_acquire_until(1, time_point::max(), timer, t);
        served.push_back(who);
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

TEST_F(waiting_line_of_coroutines, who_were_served_one_after_the_other_at_once_come_again_in_that_order) {
    weir::queue_ticket tickets[3];
    order_of served;
    auto const wait = [&](int who, weir::queue_ticket& t) -> eager_task {
        loop::timer timer{executor};
        (void)co_await line.async_try_acquire_until(1, time_point::max(), timer, t);
        served.push_back(who);
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

TEST_F(waiting_line_of_coroutines, refuses_when_the_line_is_full) {
    line_type bounded{bucket, {.max_waiting = 1}};
    auto const wait = [](line_type& l, loop& e, std::optional<wait_status>& why) -> eager_task {
        loop::timer timer{e};
        why = (co_await l.async_acquire(1, timer)).status();
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

TEST_F(waiting_line_of_coroutines, threads_and_coroutines_stand_in_one_line) {
    join_for(2);  // 0
    auto const a = acquire(1, 100);
    join_for(3);  // 1
    auto const b = acquire(2, 101);
    auto const c = acquire(1, 102);
    join_for(1);  // 2
    EXPECT_EQ(line.waiting(), 6U);
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

// Many threads, random costs, deadlines and stops, while one moves the clock and one asks past the line and gives back: what was
// granted keeps the bucket's promise, nobody is left behind, every kind of end comes about. What collides is the attempts at the
// bucket; the line itself has no exchange that could fail, but a mutex.
TEST(waiting_line_under_load, keeps_the_limiters_promise_and_forgets_nobody) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        using contended = weir::token_bucket<manual_clock&, hammer::counting_atomics>;
        constexpr int waiters = 7;
        manual_clock clock;
        contended bucket{rate{1, 1ms}, 10, clock};
        weir::wait_queue line{bucket, {.max_waiting = 5}};
        std::atomic<std::uint64_t> granted{0};
        std::atomic<int> ends[6] = {};
        std::atomic<int> running{waiters};
        auto const wait = [&](auto& rng) {
            for (int k = 0; k < 600; ++k) {
                permits const n = 1 + rng() % (rng() % 20 == 0 ? 11 : 5);
                wait_status why{};
                auto const take = [&](auto a) {
                    why = a.status();
                    if (!a) return;
                    if (rng() % 8 == 0) {
                        line.refund(*a);  // not one was used, however many come back whole
                    } else {
                        granted += n;
                    }
                };
                switch (rng() % 3) {
                    case 0: take(line.acquire(n)); break;
                    case 1: take(line.try_acquire_for(n, std::chrono::microseconds{rng() % 4000})); break;
                    default: {
                        stop_source stop;
                        std::thread stopper{[&] { stop.request_stop(); }};
                        take(line.try_acquire_until(n, clock.now() + 20ms, stop.get_token()));
                        stopper.join();
                    }
                }
                ++ends[static_cast<int>(why)];
            }
            --running;
        };
        hammer::on_threads(waiters + 2, seed, [&](std::size_t id, auto& rng) {
            if (id < waiters) return wait(rng);
            while (running > 0) {
                if (id == waiters) {
                    clock.advance(100us);
                } else {
                    for (int k = 0; k < 10; ++k) {
                        if (auto d = bucket.try_acquire()) line.refund(d);
                    }
                }
                std::this_thread::yield();
            }
        });
        EXPECT_EQ(line.waiting(), 0U);
        EXPECT_EQ(clock.sleepers(), 0U);
        EXPECT_LE(granted, 10U + static_cast<std::uint64_t>(clock.now().time_since_epoch() / 1ms));
        for (auto const w : {wait_status::granted, wait_status::timed_out, wait_status::stopped,
                             wait_status::queue_full, wait_status::never}) {
            EXPECT_GT(ends[static_cast<int>(w)], 0) << weir::to_string(w);
        }
    });
}

}  // namespace
