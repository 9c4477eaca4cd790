// SPDX-License-Identifier: MIT
#include <weir/clock/tsc_clock.hpp>
#include <weir/detail/parker.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>
#include <type_traits>

namespace tsc_clock_test {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

static_assert(weir::clock<weir::tsc_clock>);
static_assert(weir::clock<weir::ordered_tsc_clock>);
static_assert(!std::is_same_v<weir::tsc_clock, weir::ordered_tsc_clock>);
static_assert(weir::tsc_clock::is_steady);

template <class C>
class tsc_clock : public testing::Test {};
struct names {
    template <class C>
    static std::string GetName(int) {
        return std::is_same_v<C, weir::tsc_clock> ? "plain" : "ordered";
    }
};
using clocks = testing::Types<weir::tsc_clock, weir::ordered_tsc_clock>;
TYPED_TEST_SUITE(tsc_clock, clocks, names);

TYPED_TEST(tsc_clock, never_goes_back_on_one_thread) {
    TypeParam const clock{1ms};
    auto last = clock.now();
    for (int i = 0; i < 3'000'000; ++i) {
        auto const t = clock.now();
        ASSERT_GE(t, last);
        last = t;
    }
}

// However the thread is interrupted, the reading lies between the two of steady_clock around it, give or take what the
// calibration may be wrong by.
template <class C>
void agrees(C const& clock, std::int64_t rounds) {
    auto const start = steady_clock::now();
    for (std::int64_t i = 0; i < rounds; ++i) {
        auto const before = steady_clock::now();
        auto const t = clock.now().time_since_epoch();
        auto const after = steady_clock::now();
        // 500 ppm: steady_clock may be slewed meanwhile.
        auto const slack = 10us + (after - start) * (500'000 + clock.error_ppb()) / 1'000'000'000;
        ASSERT_GE(t, before.time_since_epoch() - slack);
        ASSERT_LE(t, after.time_since_epoch() + slack);
    }
}

TYPED_TEST(tsc_clock, agrees_with_steady_clock) { agrees(TypeParam{}, 200'000); }

TYPED_TEST(tsc_clock, says_what_it_is) {
    TypeParam const clock{5ms};
    if (clock.uses_counter()) {
        EXPECT_GT(clock.error_ppb(), 0);
        EXPECT_LE(clock.error_ppb(), 1'000'000);
    } else {
        EXPECT_EQ(clock.error_ppb(), 0);
    }
    EXPECT_GE(clock.resolution(), 1ns);
    EXPECT_LE(clock.resolution(), 1us);
    this->RecordProperty("uses_counter", clock.uses_counter() ? 1 : 0);
}

#if defined(__x86_64__) && defined(__linux__)
/// Linux keeps time by the counter, and the processor says that it never stops nor changes its speed.
bool linux_uses_it() {
    std::ifstream source{"/sys/devices/system/clocksource/clocksource0/current_clocksource"};
    std::string name;
    source >> name;
    std::ifstream cpus{"/proc/cpuinfo"};
    std::string line;
    while (std::getline(cpus, line) && line.find("flags") != 0) {
    }
    line += ' ';
    return name == "tsc" && line.find(" rdtscp ") != line.npos && line.find(" constant_tsc ") != line.npos &&
           line.find(" nonstop_tsc ") != line.npos;
}

TYPED_TEST(tsc_clock, uses_the_counter_where_linux_does) {
    if (!linux_uses_it()) GTEST_SKIP() << "this machine's Linux does not keep time by the counter";
    TypeParam const clock{5ms};
    EXPECT_TRUE(clock.uses_counter());
}
#endif

TYPED_TEST(tsc_clock, without_calibration_it_is_steady_clock) {
    for (auto const d : {0ns, -1ns}) {
        TypeParam const clock{d};
        EXPECT_FALSE(clock.uses_counter());
        EXPECT_EQ(clock.error_ppb(), 0);
        EXPECT_EQ(clock.resolution(), 1ns);
        auto const before = steady_clock::now().time_since_epoch();
        auto const t = clock.now().time_since_epoch();
        EXPECT_GE(t, before);
        EXPECT_LE(t, steady_clock::now().time_since_epoch());
    }
}

TYPED_TEST(tsc_clock, copies_agree) {
    TypeParam const clock{1ms};
    auto const copy = clock;
    auto const before = clock.now();
    auto const t = copy.now();
    EXPECT_GE(t, before);
    EXPECT_GE(clock.now(), t);
}

TYPED_TEST(tsc_clock, a_sleep_by_it_ends_when_it_has_got_there) {
    TypeParam const clock{1ms};
    auto const until = clock.now() + 100us;
    weir::sleep_until(clock, until);
    EXPECT_GE(clock.now(), until);
}

// A time that another thread has read and published is not before the time read after seeing it.
TEST(ordered_tsc_clock, is_in_order_across_threads) {
    weir::ordered_tsc_clock const clock{5ms};
    std::atomic<std::int64_t> latest{0};
    std::atomic<int> wrong{0};
    auto const run = [&] {
        for (int i = 0; i < 200'000; ++i) {
            auto const seen = latest.load(std::memory_order_acquire);
            auto const t = clock.now().time_since_epoch().count();
            if (t < seen) ++wrong;
            latest.exchange(t, std::memory_order_acq_rel);
        }
    };
    std::thread other{run};
    run();
    other.join();
    EXPECT_EQ(wrong, 0);
}

}  // namespace tsc_clock_test
