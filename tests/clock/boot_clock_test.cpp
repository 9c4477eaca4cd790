// SPDX-License-Identifier: MIT
#include <weir/clock/boot_clock.hpp>
#include <weir/clock/hybrid_clock.hpp>
#include <weir/clock/scaled_clock.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

namespace boot_clock_test {

using namespace std::chrono_literals;
using weir::boot_clock;
using weir::detail::nap_within;
using weir::detail::wait_in_naps;
using nanoseconds = std::chrono::nanoseconds;

static_assert(weir::clock<boot_clock>);
static_assert(weir::sleeping_clock<boot_clock>);
static_assert(boot_clock::is_steady);
#if defined(__linux__)
static_assert(boot_clock::counts_suspend);
#endif
static_assert(weir::sleeping_clock<weir::scaled_clock<boot_clock>>);
static_assert(weir::sleeping_clock<weir::basic_hybrid_clock<boot_clock, boot_clock>>);

// A machine that is suspended for a while. Time awake is what naps count; the clock counts both.
struct machine {
    nanoseconds awake{0};
    nanoseconds suspend_at = nanoseconds::max();  // in time awake
    nanoseconds suspended_for{0};
    std::vector<nanoseconds> naps{};

    boot_clock::time_point now() const {
        return boot_clock::time_point{awake + (awake >= suspend_at ? suspended_for : 0ns)};
    }
    bool wait_until(boot_clock::time_point t) {
        return wait_in_naps(
            t, [this] { return now(); },
            [this](nanoseconds d) {
                naps.push_back(d);
                awake += d;
                return false;
            });
    }
};

TEST(boot_clock, never_goes_back_and_is_not_behind_steady_clock) {
    auto last = boot_clock::now();
    for (int i = 0; i < 10'000; ++i) {
        auto const steady = std::chrono::steady_clock::now().time_since_epoch();
        auto const t = boot_clock::now();
        ASSERT_GE(t, last);
        ASSERT_GE(t.time_since_epoch(), steady);
        last = t;
    }
}

TEST(boot_clock, a_sleep_by_it_ends_when_its_time_has_come) {
    auto const until = boot_clock::now() + 30ms;
    weir::sleep_until(boot_clock{}, until);
    EXPECT_GE(boot_clock::now(), until);
}

TEST(boot_clock, a_notification_ends_a_wait_and_is_kept_before_one) {
    weir::parker p;
    p.notify();
    EXPECT_TRUE(weir::wait_until(boot_clock{}, p, boot_clock::time_point::max()));
    EXPECT_FALSE(weir::wait_until(boot_clock{}, p, boot_clock::now()));
    p.notify();
    EXPECT_TRUE(weir::wait_until(boot_clock{}, p, boot_clock::time_point::min()));
}

TEST(boot_clock, a_nap_is_an_eighth_of_the_wait_from_20_ms_to_1_s) {
    static_assert(nap_within(4s) == 500ms);
    static_assert(nap_within(8s) == 1s);
    static_assert(nap_within(1h) == 1s);
    static_assert(nap_within(160ms) == 20ms);
    static_assert(nap_within(100ms) == 20ms);
    static_assert(nap_within(7ms) == 7ms);
    static_assert(nap_within(nanoseconds::max()) == 1s);
}

TEST(boot_clock, a_waiter_wakes_at_most_one_nap_after_the_resume) {
    for (nanoseconds const wait : {5ms, 100ms, 1000ms, 20'000ms, 600'000ms}) {
        for (int part = 0; part < 100; ++part) {
            machine m{.suspend_at = wait * part / 100, .suspended_for = 8h};
            EXPECT_FALSE(m.wait_until(boot_clock::time_point{wait}));
            EXPECT_GE(m.now(), boot_clock::time_point{wait});
            // The last nap is of 0 ns. None comes before it where the machine was suspended from the start.
            nanoseconds const nap = m.naps.size() < 2 ? 0ns : m.naps[m.naps.size() - 2];
            EXPECT_LE(m.awake - m.suspend_at, nap);
            EXPECT_LE(nap, std::clamp<nanoseconds>(wait / 8, 20ms, 1s));
        }
    }
}

TEST(boot_clock, without_suspend_a_wait_ends_on_time) {
    for (nanoseconds const wait : {0ns, 1ns, 5'000'000ns, 100'000'000ns, 20'000'000'000ns}) {
        machine m;
        EXPECT_FALSE(m.wait_until(boot_clock::time_point{wait}));
        EXPECT_EQ(m.awake, wait);
    }
}

TEST(boot_clock, a_suspend_that_ends_before_its_time_shortens_the_rest_of_the_wait) {
    machine m{.suspend_at = 1s, .suspended_for = 5s};
    EXPECT_FALSE(m.wait_until(boot_clock::time_point{60s}));
    EXPECT_EQ(m.now(), boot_clock::time_point{60s});
    EXPECT_EQ(m.awake, 55s);
}

TEST(boot_clock, a_wait_without_end_takes_long_naps) {
    std::vector<nanoseconds> naps;
    EXPECT_TRUE(wait_in_naps(boot_clock::time_point::max(), &boot_clock::now, [&](nanoseconds d) {
        naps.push_back(d);
        return naps.size() == 3;
    }));
    EXPECT_EQ(naps, (std::vector<nanoseconds>{1h, 1h, 1h}));
}

}  // namespace boot_clock_test
