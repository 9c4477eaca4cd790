// SPDX-License-Identifier: MIT
//
// What tests of wait_queue share: threads that wait, and a queue in front of a bucket.
#pragma once

#include <weir/clock/manual_clock.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/wait_queue.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <concepts>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "manual_loop.hpp"

namespace waiting {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::permits;
using weir::rate;
using weir::wait_status;
using time_point = manual_clock::time_point;
using bucket_type = weir::token_bucket<manual_clock&>;
using queue_type = weir::wait_queue<bucket_type>;

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
    void served(int number) {
        std::lock_guard const lock{mutex_};
        served_.push_back(number);
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
class wait_queue_fixture : public testing::Test {
protected:
    // A thread that waits; when this returns it sleeps.
    template <class Wait>
    void join(Wait wait) {
        auto const before = clock.sleepers();
        threads.add([this, wait, number = next_++] {
            if (granted(wait, number)) threads.served(number);
        });
        clock.wait_for_sleepers(before + 1);
    }
    template <class Wait>
    static bool granted(Wait const& wait, int number) {
        if constexpr (std::invocable<Wait const&, int>) {
            wait(number);
            return false;
        } else {
            return wait();
        }
    }
    // The same for n, noting its turn in the attempt itself: once it has left the queue, the next may be quicker to
    // tell.
    void join_for(permits n) {
        join([this, n](int number) {
            (void)queue.acquire([&](bucket_type& b) {
                auto d = b.try_acquire(n);
                if (d) threads.served(number);
                return d;
            });
        });
    }
    // Waits until as many have been served as should have been: the wake-ups are certain, only not instant.
    std::vector<int> order(std::size_t n) {
        while (threads.order().size() < n) std::this_thread::yield();
        return threads.order();
    }
    // Lets time pass whenever all waiters are asleep, until no call waits.
    void run_out() {
        while (queue.waiting() > 0) {
            if (clock.sleepers() == queue.waiting()) clock.advance_to_next();
            std::this_thread::yield();
        }
        threads.join();
    }

    manual_clock clock;
    bucket_type bucket{rate{1, 1s}, 10, {.initial = 0}, clock};
    queue_type queue{bucket};
    crew threads;

private:
    int next_ = 0;
};

using order_of = std::vector<int>;

}  // namespace waiting
