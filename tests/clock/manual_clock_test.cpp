// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <thread>
#include <vector>

namespace manual_clock_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::parker;
using time_point = manual_clock::time_point;

static_assert(weir::clock<manual_clock>);
static_assert(weir::sleeping_clock<manual_clock>);

TEST(manual_clock, starts_at_zero_or_where_told) {
    EXPECT_EQ(manual_clock{}.now(), time_point{});
    EXPECT_EQ(manual_clock{time_point{5s}}.now(), time_point{5s});
}

TEST(manual_clock, moves_forward_only_unless_turned_back) {
    manual_clock clock;
    clock.advance(3s);
    EXPECT_EQ(clock.now(), time_point{3s});
    clock.advance(-1s);
    clock.advance_to(time_point{1s});
    EXPECT_EQ(clock.now(), time_point{3s});
    clock.turn_back(time_point{1s});
    EXPECT_EQ(clock.now(), time_point{1s});
    clock.advance(manual_clock::duration::max());
    EXPECT_EQ(clock.now(), time_point::max());
}

TEST(manual_clock, advances_by_any_duration_and_stops_at_its_end) {
    manual_clock clock;
    clock.advance(0.5s);
    EXPECT_EQ(clock.now(), time_point{500ms});
    clock.advance(std::chrono::hours::max());
    EXPECT_EQ(clock.now(), time_point::max());
}

TEST(manual_clock, does_not_sleep_when_the_time_has_come) {
    manual_clock clock{time_point{5s}};
    parker seat;
    EXPECT_FALSE(weir::wait_until(clock, seat, time_point{5s}));
    seat.notify();
    EXPECT_TRUE(weir::wait_until(clock, seat, time_point{5s}));
    EXPECT_FALSE(weir::wait_until(clock, seat, time_point{5s}));
}

TEST(manual_clock, wakes_exactly_those_that_are_due) {
    manual_clock clock;
    std::vector<std::thread> threads;
    std::vector<std::atomic<bool>> woke(10);
    for (int i = 0; i < 10; ++i) {
        threads.emplace_back([&, i] {
            weir::sleep_until(clock, time_point{i * 1s + 1s});
            woke[static_cast<std::size_t>(i)] = true;
        });
    }
    clock.wait_for_sleepers(10);
    EXPECT_EQ(clock.next_due(), time_point{1s});
    clock.advance(1s - 1ns);
    EXPECT_EQ(clock.sleepers(), 10U);
    clock.advance_to(time_point{4s});  // four are due
    for (std::size_t i = 0; i < 4; ++i) threads[i].join();
    EXPECT_EQ(clock.sleepers(), 6U);
    for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(woke[i], i < 4) << i;
    for (std::size_t i = 4; i < 10; ++i) {
        EXPECT_EQ(clock.advance_to_next(), time_point{static_cast<int>(i) * 1s + 1s});
        threads[i].join();
        EXPECT_EQ(clock.sleepers(), 9U - i);
    }
    EXPECT_EQ(clock.advance_to_next(), std::nullopt);
    EXPECT_EQ(clock.now(), time_point{10s});
}

TEST(manual_clock, a_notified_sleeper_wakes_before_it_is_due) {
    manual_clock clock;
    parker seat;
    bool notified = false;
    std::thread sleeper{[&] { notified = weir::wait_until(clock, seat, time_point{1h}); }};
    clock.wait_for_sleepers(1);
    seat.notify();
    EXPECT_EQ(clock.sleepers(), 0U);  // notified is no longer asleep, whether or not its thread has run
    EXPECT_EQ(clock.next_due(), std::nullopt);
    sleeper.join();
    EXPECT_TRUE(notified);
    EXPECT_EQ(clock.now(), time_point{});
}

TEST(manual_clock, one_without_a_time_sleeps_until_notified) {
    manual_clock clock;
    parker seat;
    std::thread sleeper{[&] { EXPECT_TRUE(weir::wait_until(clock, seat, time_point::max())); }};
    clock.wait_for_sleepers(1);
    EXPECT_EQ(clock.next_due(), std::nullopt);
    EXPECT_EQ(clock.advance_to_next(), std::nullopt);
    clock.advance(1000h);
    EXPECT_EQ(clock.sleepers(), 1U);
    seat.notify();
    sleeper.join();
}

TEST(manual_clock, turning_it_back_wakes_no_thread_and_delays_sleepers) {
    manual_clock clock{time_point{10s}};
    std::thread sleeper{[&] { weir::sleep_until(clock, time_point{11s}); }};
    clock.wait_for_sleepers(1);
    clock.turn_back(time_point{5s});
    clock.advance(5s);
    EXPECT_EQ(clock.sleepers(), 1U);
    clock.advance(1s);
    sleeper.join();
}

TEST(manual_clock, sleep_for_is_relative_and_saturates) {
    manual_clock clock{time_point{1s}};
    weir::sleep_for(clock, 0s);
    weir::sleep_for(clock, -1s);
    std::thread sleeper{[&] { weir::sleep_for(clock, 2s); }};
    clock.wait_for_sleepers(1);
    EXPECT_EQ(clock.next_due(), time_point{3s});
    clock.advance(2s);
    sleeper.join();
    std::thread long_sleeper{[&] { weir::sleep_for(clock, manual_clock::duration::max()); }};
    clock.wait_for_sleepers(1);
    clock.advance_to(time_point::max());
    long_sleeper.join();
}

// Every sleep ends at its own instant, in virtual order, with many threads going to sleep again and again.
TEST(manual_clock, carries_a_simulation_of_many_threads) {
    constexpr int threads = 4;
    constexpr int naps = 500;
    manual_clock clock;
    std::atomic<int> running{threads};
    std::atomic<int> wrong{0};
    std::vector<std::thread> sleepers;
    for (int i = 0; i < threads; ++i) {
        sleepers.emplace_back([&, i] {
            std::mt19937_64 rng{static_cast<std::uint64_t>(i)};
            auto t = clock.now();
            for (int k = 0; k < naps; ++k) {
                t += manual_clock::duration{static_cast<std::int64_t>(1 + rng() % 1000)};
                weir::sleep_until(clock, t);
                if (clock.now() != t) ++wrong;
            }
            --running;
        });
    }
    while (running > 0) {
        // The next instant is known only when all running threads are asleep.
        if (clock.sleepers() == static_cast<std::size_t>(running.load()))
            clock.advance_to_next();
        else
            std::this_thread::yield();
    }
    for (auto& t : sleepers) t.join();
    EXPECT_EQ(wrong, 0);
}

// Notifications and advances that meet: nothing is lost, no thread hangs, no sleep ends early.
TEST(manual_clock, notifying_and_advancing_at_once_loses_nothing) {
    manual_clock clock;
    parker seat;  // one for all sleeps, so that what comes late to one may not end the next
    std::atomic<bool> done{false};
    std::thread notifier{[&] {
        while (!done) {
            seat.notify();
            std::this_thread::yield();
        }
    }};
    std::thread mover{[&] {
        while (!done) {
            clock.advance(10ns);
            std::this_thread::yield();
        }
    }};
    int notified = 0;
    for (int round = 0; round < 5000; ++round) {
        auto const due = clock.now() + 10ns;
        bool const woken = weir::wait_until(clock, seat, due);
        if (!woken) {
            EXPECT_GE(clock.now(), due);
        }
        notified += woken ? 1 : 0;
    }
    done = true;
    notifier.join();
    mover.join();
    EXPECT_EQ(clock.sleepers(), 0U);
    EXPECT_GT(notified, 0);
}

}  // namespace manual_clock_test
