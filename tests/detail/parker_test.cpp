// SPDX-License-Identifier: MIT
// Sleeping by clocks that run at the speed of real time, and what a seat keeps. See manual_clock_test.cpp for the rest.
#include <weir/detail/parker.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ratio>
#include <thread>

namespace parker_test {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using weir::parker;

TEST(parker, keeps_a_notification_for_the_next_sleep_once) {
    parker seat;
    seat.notify();
    seat.notify();
    EXPECT_TRUE(seat.notified());
    EXPECT_TRUE(weir::wait_until(steady_clock{}, seat, steady_clock::time_point::max()));
    EXPECT_FALSE(seat.notified());
    EXPECT_FALSE(weir::wait_until(steady_clock{}, seat, steady_clock::now()));
}

TEST(parker, a_sleep_never_ends_early) {
    parker seat;
    for (int i = 0; i < 20; ++i) {
        auto const until = steady_clock::now() + 50us * i;
        EXPECT_FALSE(weir::wait_until(steady_clock{}, seat, until));
        EXPECT_GE(steady_clock::now(), until);
    }
}

TEST(parker, a_sleep_without_a_time_or_with_a_far_one_ends_when_notified) {
    using std::chrono::system_clock;
    parker seat;
    parker asleep;
    std::thread sleeper{[&] {
        EXPECT_TRUE(weir::wait_until(steady_clock{}, seat, steady_clock::time_point::max()));
        asleep.notify();
        EXPECT_TRUE(weir::wait_until(steady_clock{}, seat, steady_clock::now() + 24h * 365 * 100));
        asleep.notify();
        EXPECT_TRUE(weir::wait_until(system_clock{}, seat, system_clock::time_point::max()));
    }};
    seat.notify();
    weir::wait_until(steady_clock{}, asleep, steady_clock::time_point::max());
    seat.notify();
    weir::wait_until(steady_clock{}, asleep, steady_clock::time_point::max());
    seat.notify();
    sleeper.join();
}

// A clock of the user's that counts in milliseconds.
struct small_clock {
    using duration = std::chrono::duration<std::int64_t, std::milli>;
    using time_point = std::chrono::time_point<small_clock, duration>;
    static time_point now() {
        static auto const start = steady_clock::now();
        return time_point{std::chrono::duration_cast<duration>(steady_clock::now() - start)};
    }
};

TEST(parker, sleeps_by_a_clock_with_long_ticks) {
    auto const until = small_clock::now() + small_clock::duration{2};
    weir::sleep_until(small_clock{}, until);
    EXPECT_GE(small_clock::now(), until);
    auto const start = small_clock::now();
    weir::sleep_for(small_clock{}, small_clock::duration{1});
    EXPECT_GE(small_clock::now(), start + small_clock::duration{1});
    weir::sleep_for(small_clock{}, small_clock::duration{-1});
}

}  // namespace parker_test
