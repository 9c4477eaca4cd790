// SPDX-License-Identifier: MIT
// A queue in front of limiters whose cost is not a number of permits.
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

namespace wait_queue_costs_test {

using namespace waiting;

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

TEST(wait_queue_of_another_cost, waits_for_what_is_in_flight_and_looks_again_now_and_then) {
    manual_clock clock;
    in_flight limiter{clock, 3};
    weir::wait_queue queue{limiter};
    EXPECT_TRUE(queue.acquire(seats{3}));
    std::thread waiter{[&] { EXPECT_TRUE(queue.acquire(seats{2})); }};
    // No notice comes: it looks after 0.1, 0.2, 0.4 ms, ..., and every 10 ms in the long run.
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
    EXPECT_EQ(queue.settle(seats{3}), 7);
    waiter.join();
}

TEST(wait_queue_of_another_cost, waits_for_a_quota_of_requests_and_tokens) {
    manual_clock clock;
    weir::llm::quota_limiter quota{weir::llm::quota{.rpm = 2, .tpm = 1000}, std::ref(clock)};
    weir::wait_queue queue{quota};
    auto first = queue.acquire(weir::llm::tokens{.input = 100, .output = 700});
    ASSERT_TRUE(first);
    EXPECT_EQ(queue.acquire(weir::llm::tokens{.input = 1000, .output = 1}).status(), wait_status::never);
    bool second_done = false;
    std::thread second{[&] { second_done = queue.acquire(weir::llm::tokens{.input = 100, .output = 200}).granted(); }};
    clock.wait_for_sleepers(1);
    EXPECT_TRUE(queue.settle(*first, weir::llm::tokens{.input = 100, .output = 50}));  // of 700 held, 650 come back
    second.join();
    EXPECT_TRUE(second_done);
    EXPECT_EQ(clock.now(), time_point{});
    EXPECT_EQ(queue.try_acquire_for(weir::llm::tokens{.input = 1, .output = 1}, 0s).status(),
              wait_status::timed_out);  // two requests, the third waits
    std::thread third{[&] { EXPECT_TRUE(queue.acquire(weir::llm::tokens{.input = 1, .output = 1})); }};
    clock.wait_for_sleepers(1);
    auto const due = clock.next_due();
    ASSERT_TRUE(due);
    EXPECT_GE(*due, time_point{1min});
    clock.advance_to_next();
    third.join();
}

TEST(wait_queue_of_another_cost, waits_for_all_of_several_limiters) {
    manual_clock clock;
    bucket_type quick{rate{1, 1s}, 5, clock};
    weir::sliding_window_log strict{2, 10s, std::ref(clock)};
    weir::all_of both{quick, strict};
    weir::wait_queue queue{both};
    EXPECT_TRUE(queue.acquire());
    EXPECT_TRUE(queue.acquire());
    std::thread third{[&] { EXPECT_TRUE(queue.acquire()); }};
    clock.wait_for_sleepers(1);
    EXPECT_EQ(clock.next_due(), time_point{10s});
    clock.advance_to_next();
    third.join();
}

}  // namespace wait_queue_costs_test
