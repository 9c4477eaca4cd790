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

#include "../support/int128.hpp"
#include "../support/manual_loop.hpp"
#include "../support/stress.hpp"

namespace fair_queue_stress_test {

using int128::i128;
using namespace std::chrono_literals;
using weir::fair_class;
using weir::fair_queue;
using weir::manual_clock;
using weir::permits;
using weir::rate;
using weir::wait_status;
using time_point = manual_clock::time_point;

// Threads of three classes, random costs, deadlines and stops, while one moves the clock.
TEST(fair_queue_under_load, keeps_the_limiters_promise_and_leaves_no_waiter_behind) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        using contended = weir::token_bucket<manual_clock&, hammer::counting_atomics>;
        constexpr int waiters = 7;
        manual_clock clock;
        contended bucket{rate{1, 1ms}, 10, clock};
        fair_queue queues{
            bucket,
            {fair_class{.weight = 5}, fair_class{.weight = 1, .queue = {.max_waiting = 1}}, fair_class{.weight = 2}}};
        std::atomic<std::uint64_t> granted{0};
        std::atomic<int> ends[6] = {};
        std::atomic<int> running{waiters};
        auto const wait = [&](std::size_t id, auto& rng) {
            auto& queue = queues[id % 3];
            for (int k = 0; k < 500; ++k) {
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
                switch (rng() % 4) {
                    case 0: take(queue.acquire(n)); break;
                    case 1: take(queue.try_acquire_for(n, std::chrono::microseconds{rng() % 4000})); break;
                    case 2: take(queue.try_acquire(n)); break;
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
            if (id < waiters) return wait(id, rng);
            while (running > 0) {
                if (id == waiters) {
                    clock.advance(100us);
                } else {
                    for (int k = 0; k < 10; ++k) {
                        if (auto d = bucket.try_acquire()) queues[k % 3].refund(d);
                    }
                    (void)queues.change_weight(1, 1 + static_cast<std::uint32_t>(rng() % 4));
                }
                std::this_thread::yield();
            }
        });
        EXPECT_EQ(queues.waiting(), 0U);
        EXPECT_EQ(clock.sleepers(), 0U);
        EXPECT_LE(granted, 10U + static_cast<std::uint64_t>(clock.now().time_since_epoch() / 1ms));
        for (auto const w : {wait_status::granted, wait_status::timed_out, wait_status::stopped,
                             wait_status::queue_full, wait_status::never}) {
            EXPECT_GT(ends[static_cast<int>(w)], 0) << weir::to_string(w);
        }
    });
}

}  // namespace fair_queue_stress_test
