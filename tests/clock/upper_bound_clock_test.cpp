// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/clock/upper_bound_clock.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

namespace upper_bound_clock_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

static_assert(weir::clock<weir::upper_bound_clock>);
static_assert(weir::upper_bounding_clock<weir::upper_bound_clock>);
static_assert(!std::is_copy_constructible_v<weir::upper_bound_clock>);

/// A world of true time, a counter and a clock: each runs at its own rate, and time passes while either is read.
struct world {
    std::mt19937_64 rng{1};
    double counts = 1000;       // what the counter would show if it did not count in steps
    double time = 5e9;          // what the clock would show
    double per_count = 1 / 3.;  // the clock's nanoseconds per count, now
    double reading = 30;        // nanoseconds that reading either takes at most
    int reads = 0;              // of the clock

    void pass(double ns) {
        time += ns;
        counts += ns / per_count;
    }
    void take_time() { pass(std::uniform_real_distribution{0., reading}(rng)); }
};

struct fake_clock {
    using duration = nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<fake_clock>;
    world* w;
    time_point now() const {
        w->take_time();
        ++w->reads;
        time_point const t{nanoseconds{static_cast<rep>(w->time)}};
        w->take_time();
        return t;
    }
};

struct fake_counter {
    world* w;
    double at_reading = 0;  // nanoseconds per count as calibrated
    std::uint64_t read() const {
        w->take_time();
        auto const c = static_cast<std::uint64_t>(w->counts);
        w->take_time();
        return c;
    }
    weir::detail::calibration calibrate(nanoseconds length) const {
        if (length <= 0ns) return {};
        return {static_cast<std::int64_t>(at_reading * 0x1p40), 0, 0, 0};
    }
};

using clock_in_a_world = weir::basic_upper_bound_clock<fake_clock, fake_counter>;

/// Glances at the instant of a counter's reading: no earlier than the clock then, in whatever way it is slewed.
void holds(double calibrated, double slowest, double fastest, weir::upper_bound_clock_options o, std::uint64_t seed) {
    world w;
    w.rng.seed(seed);
    clock_in_a_world const clock{o, fake_clock{&w}, fake_counter{&w, calibrated}};
    int known = 0;
    for (int i = 0; i < 20'000; ++i) {
        w.per_count = std::uniform_real_distribution{slowest, fastest}(w.rng);
        w.reading = w.rng() % 100 == 0 ? 50'000 : 30;  // now and then the thread is interrupted
        w.pass(std::exponential_distribution{1 / (w.rng() % 50 == 0 ? 3e6 : 2e4)}(w.rng));
        if (w.rng() % 3 == 0) clock.now();
        double const before = w.time;
        auto const g = clock.now_approx();
        ASSERT_GE(static_cast<double>(g.time_since_epoch().count()), before) << "reading " << i << ", seed " << seed;
        known += g != fake_clock::time_point::max();
    }
    EXPECT_GT(known, 5'000);  // a bound that is never known holds too
}

TEST(upper_bound_clock, now_approx_is_never_before_now_however_the_clock_is_slewed) {
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        // Calibrated at one end of what Linux allows, used at the other; and everything between.
        holds(0.89 / 3, 1.11 / 3 * 0.9999, 1.11 / 3, {.slack = 0ns}, seed);
        holds(0.89 / 3, 0.89 / 3, 1.11 / 3, {.slack = 0ns}, seed);
        holds(1.11 / 3, 0.89 / 3, 1.11 / 3, {.slack = 0ns}, seed);
    }
}

TEST(upper_bound_clock, now_approx_holds_within_a_given_margin) {
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        holds(10.0, 10.0 * 0.9989, 10.0 * 1.001, {.margin_ppm = 1'000, .slack = 0ns}, seed);
        holds(52.08, 52.08, 52.08, {.margin_ppm = 1, .slack = 0ns}, seed);  // a counter of 19.2 MHz, as on AArch64
    }
}

TEST(upper_bound_clock, slack_covers_a_counter_that_is_read_early) {
    world w;
    w.reading = 0;
    clock_in_a_world const clock{{}, fake_clock{&w}, fake_counter{&w, 1 / 3.}};
    for (int i = 0; i < 1000; ++i) {
        if (i % 7 == 0) clock.now();
        auto const g = clock.now_approx();
        w.pass(8'000);  // the call goes on that much later than the reading
        ASSERT_GE(static_cast<double>(g.time_since_epoch().count()), w.time) << i;
    }
}

TEST(upper_bound_clock, now_approx_is_near_now_just_after_it) {
    world w;
    w.reading = 0;
    clock_in_a_world const clock{{}, fake_clock{&w}, fake_counter{&w, 1 / 3.}};
    for (int i = 0; i < 100; ++i) {
        w.pass(1e6);
        auto const t = clock.now();
        EXPECT_LE(clock.now_approx() - t, 10us + 5ns);
    }
    // With an age it grows by the margin.
    auto const t = clock.now();
    w.pass(4e6);
    EXPECT_LE(clock.now_approx() - t, 4ms + 1ms + 10us + 5ns);
}

TEST(upper_bound_clock, now_approx_is_max_once_its_anchor_has_expired) {
    world w;
    w.reading = 0;
    clock_in_a_world const clock{{.max_age = 1ms}, fake_clock{&w}, fake_counter{&w, 1 / 3.}};
    EXPECT_NE(clock.now_approx(), fake_clock::time_point::max());
    w.pass(0.79e6);  // by the margin, which may be what it has run: so void a little earlier
    EXPECT_NE(clock.now_approx(), fake_clock::time_point::max());
    w.pass(0.21e6);
    EXPECT_EQ(clock.now_approx(), fake_clock::time_point::max());
    clock.now();
    EXPECT_NE(clock.now_approx(), fake_clock::time_point::max());
}

TEST(upper_bound_clock, now_approx_is_max_where_the_counter_went_back) {
    world w;
    w.reading = 0;
    w.counts = 1e9;
    clock_in_a_world const clock{{}, fake_clock{&w}, fake_counter{&w, 1 / 3.}};
    w.pass(1e6);
    clock.now();
    w.counts -= 100;
    EXPECT_EQ(clock.now_approx(), fake_clock::time_point::max());
    w.counts = 10;  // before the origin, where it stays unknown
    w.pass(1e6);
    clock.now();
    EXPECT_EQ(clock.now_approx(), fake_clock::time_point::max());
    w.counts = 2e9;  // and where it has run ahead, a new anchor is made
    EXPECT_EQ(clock.now_approx(), fake_clock::time_point::max());
    w.pass(1e6);
    clock.now();
    EXPECT_GE(static_cast<double>(clock.now_approx().time_since_epoch().count()), w.time);
    EXPECT_NE(clock.now_approx(), fake_clock::time_point::max());
    w.counts = 1.5e9;  // back again, after the origin: likewise
    EXPECT_EQ(clock.now_approx(), fake_clock::time_point::max());
    w.pass(1e6);
    clock.now();
    EXPECT_NE(clock.now_approx(), fake_clock::time_point::max());
}

TEST(upper_bound_clock, without_a_counter_now_approx_is_always_max) {
    world w;
    w.counts = 0;
    w.reading = 0;
    clock_in_a_world const clock{{.calibrate_for = 0ns}, fake_clock{&w}, fake_counter{&w, 1 / 3.}};
    EXPECT_FALSE(clock.uses_counter());
    int const reads = w.reads;
    for (int i = 0; i < 100; ++i) clock.now();
    EXPECT_EQ(w.reads, reads + 100) << "no anchor is renewed for nothing";
    EXPECT_EQ(clock.now_approx(), fake_clock::time_point::max());
}

TEST(upper_bound_clock, now_is_the_base_clocks_and_renews_once_a_period) {
    world w;
    w.reading = 0;
    clock_in_a_world const clock{{}, fake_clock{&w}, fake_counter{&w, 1 / 3.}};
    w.reads = 0;
    for (int i = 0; i < 100'000; ++i) {  // a tenth of a second
        w.pass(1'000);
        ASSERT_EQ(clock.now().time_since_epoch().count(), static_cast<std::int64_t>(w.time));
    }
    // 40 us: until then the slack is more than what the margin costs.
    EXPECT_LE(w.reads, 100'000 + 2'510);
    EXPECT_GE(w.reads, 100'000 + 2'400);
}

TEST(upper_bound_clock, without_a_margin_it_renews_twice_in_an_anchors_age) {
    world w;
    w.reading = 0;
    clock_in_a_world const clock{{.margin_ppm = 0, .max_age = 10ms}, fake_clock{&w}, fake_counter{&w, 1 / 3.}};
    w.reads = 0;
    for (int i = 0; i < 100'000; ++i) {
        w.pass(1'000);
        clock.now();
    }
    EXPECT_LE(w.reads, 100'000 + 21);
    EXPECT_GE(w.reads, 100'000 + 19);
}

TEST(upper_bound_clock, refuses_what_it_cannot_hold) {
    world w;
    auto const make = [&](weir::upper_bound_clock_options o) {
        clock_in_a_world{o, fake_clock{&w}, fake_counter{&w, 1}};
    };
    EXPECT_THROW(make({.margin_ppm = -1}), std::invalid_argument);
    EXPECT_THROW(make({.margin_ppm = 1'000'001}), std::invalid_argument);
    EXPECT_THROW(make({.slack = -1ns}), std::invalid_argument);
    EXPECT_THROW(make({.max_age = 0ns}), std::invalid_argument);
    EXPECT_THROW(make({.max_age = 2min}), std::invalid_argument);
    EXPECT_THROW(make({.slack = 1s + 1ns}), std::invalid_argument);
    EXPECT_THROW(make({.max_age = 1min + 1ns}), std::invalid_argument);
    EXPECT_NO_THROW(make({.margin_ppm = 0, .slack = 0ns, .max_age = 1ns}));
    EXPECT_NO_THROW(make({.margin_ppm = 1'000'000, .slack = 1s, .max_age = 1min}));
}

// The real counter and the real clock, by several threads: nothing is asserted of how long anything takes.
TEST(upper_bound_clock, now_approx_is_not_before_a_time_read_earlier_by_any_thread) {
    weir::upper_bound_clock const clock;
    std::atomic<std::int64_t> latest{0};
    std::atomic<int> wrong{0};
    auto const run = [&] {
        for (int i = 0; i < 100'000; ++i) {
            auto const seen = latest.load(std::memory_order_acquire);
            if (clock.now_approx().time_since_epoch().count() < seen) ++wrong;
            auto const t = (i % 2 == 0 ? clock.now() : steady_clock::now()).time_since_epoch().count();
            if (clock.now_approx().time_since_epoch().count() < t) ++wrong;
            latest.exchange(t, std::memory_order_acq_rel);
        }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) threads.emplace_back(run);
    for (auto& t : threads) t.join();
    EXPECT_EQ(wrong, 0);
}

TEST(upper_bound_clock, has_these_defaults) {
    constexpr weir::upper_bound_clock_options o;
    static_assert(o.calibrate_for == 20ms && o.margin_ppm == 250'000 && o.slack == 10us && o.max_age == 10ms);
}

}  // namespace upper_bound_clock_test
