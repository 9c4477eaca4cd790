// SPDX-License-Identifier: MIT
//
// What tests of fair_queue share: a number of permits that the test provides, and coroutines that wait in the queues.
#pragma once

#include <weir/clock/manual_clock.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/fair_queue.hpp>

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

#include "manual_loop.hpp"

namespace fair_scene {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::permits;
using weir::wait_status;
using time_point = manual_clock::time_point;

// A number of permits, which come when the test says so.
class stock {
public:
    using clock_type = manual_clock;
    using duration = manual_clock::duration;
    using time_point = manual_clock::time_point;
    struct decision {
        bool ok;
        explicit operator bool() const { return ok; }
        bool granted() const { return ok; }
        bool never() const { return false; }
        time_point retry_at() const { return time_point::max(); }
        duration retry_after() const { return duration::max(); }
    };
    explicit stock(manual_clock& c) : clock_{c} {}
    decision try_acquire(permits n) {
        if (n > left) return {false};
        left -= n;
        return {true};
    }
    // Room for so many comes back.
    permits refund(permits n) {
        left += n;
        return n;
    }
    manual_clock const& clock() const { return clock_; }

    permits left = 0;

private:
    manual_clock& clock_;
};

// Coroutines that wait in the queues of a limiter, and which were served, in order.
template <class Queues>
struct scene {
    manual_clock& clock;
    Queues& queues;
    loop executor{clock};
    std::vector<int> served{};
    std::list<std::pair<int, eager_task>> callers{};

    template <class Cost>
    static eager_task wait(scene& s, std::size_t c, Cost n, int number) {
        loop::timer timer{s.executor};
        auto const a = co_await s.queues[c].async_acquire(n, timer);
        EXPECT_EQ(a.status(), wait_status::granted);
        s.served.push_back(number);
    }
    template <class Cost>
    static eager_task wait(scene& s, std::size_t c, Cost n, int number, weir::queue_ticket& ticket) {
        loop::timer timer{s.executor};
        auto const a = co_await s.queues[c].async_try_acquire_until(n, manual_clock::time_point::max(), timer, ticket);
        EXPECT_EQ(a.status(), wait_status::granted);
        s.served.push_back(number);
    }
    template <class Cost, class... Ticket>
    void join(std::size_t c, Cost n, int number, Ticket&... ticket) {
        callers.emplace_back(number, wait(*this, c, n, number, ticket...));
    }
    void cancel(int number) {
        callers.remove_if([&](auto const& c) { return c.first == number; });
        executor.run_due();
    }
    void advance(manual_clock::duration d) {
        clock.advance(d);
        executor.run_due();
    }
    // Step by step to the next alarm until no call waits.
    void run_out() {
        while (queues.waiting() != 0) {
            auto const next = executor.next_due();
            ASSERT_TRUE(next);
            clock.advance(std::max(*next - clock.now(), manual_clock::duration::zero()));
            executor.run_due();
        }
    }
};

}  // namespace fair_scene
