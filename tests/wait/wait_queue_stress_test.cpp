// SPDX-License-Identifier: MIT
// A queue under load.
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

namespace wait_queue_stress_test {

using namespace waiting;

// Many threads, random costs, deadlines and stops, while one thread moves the clock and one asks the bucket directly
// and gives back. What was granted keeps the bucket's promise, no waiter is left behind, and every status occurs.
// The attempts at the bucket collide; the queue has no exchange that could fail, but a mutex.
TEST(wait_queue_under_load, keeps_the_limiters_promise_and_leaves_no_waiter_behind) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        using contended = weir::token_bucket<manual_clock&, hammer::counting_atomics>;
        constexpr int waiters = 7;
        manual_clock clock;
        contended bucket{rate{1, 1ms}, 10, clock};
        weir::wait_queue queue{bucket, {.max_waiting = 5}};
        std::atomic<std::uint64_t> granted{0};
        std::atomic<int> ends[6] = {};
        std::atomic<int> running{waiters};
        auto const wait = [&](auto& rng) {
            for (int k = 0; k < 600; ++k) {
                permits const n = 1 + rng() % (rng() % 20 == 0 ? 11 : 5);
                wait_status status{};
                auto const take = [&](auto a) {
                    status = a.status();
                    if (!a) return;
                    if (rng() % 8 == 0) {
                        queue.refund(*a);  // not one was used, however many come back whole
                    } else {
                        granted += n;
                    }
                };
                switch (rng() % 3) {
                    case 0: take(queue.acquire(n)); break;
                    case 1: take(queue.try_acquire_for(n, std::chrono::microseconds{rng() % 4000})); break;
                    default: {
                        stop_source stop;
                        std::thread stopper{[&] { stop.request_stop(); }};
                        take(queue.try_acquire_until(n, clock.now() + 20ms, stop.get_token()));
                        stopper.join();
                    }
                }
                ++ends[static_cast<int>(status)];
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
                        if (auto d = bucket.try_acquire()) queue.refund(d);
                    }
                }
                std::this_thread::yield();
            }
        });
        EXPECT_EQ(queue.waiting(), 0U);
        EXPECT_EQ(clock.sleepers(), 0U);
        EXPECT_LE(granted, 10U + static_cast<std::uint64_t>(clock.now().time_since_epoch() / 1ms));
        for (auto const w : {wait_status::granted, wait_status::timed_out, wait_status::stopped,
                             wait_status::queue_full, wait_status::never}) {
            EXPECT_GT(ends[static_cast<int>(w)], 0) << weir::to_string(w);
        }
    });
}

}  // namespace wait_queue_stress_test
