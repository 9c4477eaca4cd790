// SPDX-License-Identifier: MIT
// sliding_window_counter by long random schedules: against the property tests' exact counter, and with time points that
// go back.
#include <weir/clock/manual_clock.hpp>
#include <weir/sliding_window_counter.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <utility>
#include <vector>

#include "property/counter_model.hpp"

namespace sliding_window_counter_schedules_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::counter_options;
using weir::manual_clock;
using weir::permits;

using counter = weir::sliding_window_counter<manual_clock&>;
using time_point = manual_clock::time_point;

time_point at(std::int64_t ns) { return time_point{nanoseconds{ns}}; }

struct setup {
    permits limit;
    std::int64_t window;
    std::uint32_t segments;
};

void follow(setup const& s, std::uint64_t seed) {
    auto const [limit, window, segments] = s;
    std::mt19937_64 random{seed};
    auto below = [&](std::uint64_t n) { return random() % n; };
    manual_clock clock;
    counter c{limit, nanoseconds{window}, counter_options{.segments = segments}, clock};
    auto const length = c.segment_length().count();
    script::counter_model m{limit, *script::counter_cut::of<nanoseconds>(limit, window, segments), 0, ~permits{0}};
    ASSERT_EQ(c.segments(), m.cut().segments);
    ASSERT_EQ(length, m.cut().length);
    std::deque<std::pair<counter::decision, script::counter_model::receipt>> grants;
    std::int64_t now = 0;
    std::uint64_t denials = 0;
    for (int i = 0; i < 2000; ++i) {
        switch (below(12)) {
            case 0: now += static_cast<std::int64_t>(below(static_cast<std::uint64_t>(2 * length))); break;
            case 1: now += static_cast<std::int64_t>(below(static_cast<std::uint64_t>(window))); break;
            case 2:
                if (below(20) == 0) now += static_cast<std::int64_t>(below(static_cast<std::uint64_t>(5 * window)));
                break;
            case 3: now = (now / length + 1) * length - static_cast<std::int64_t>(below(2)); break;
            default: now += static_cast<std::int64_t>(below(static_cast<std::uint64_t>(length / 4 + 1))); break;
        }
        // Some callers read the clock long ago.
        std::int64_t const t =
            below(8) == 0
                ? std::max<std::int64_t>(0, now - static_cast<std::int64_t>(below(static_cast<std::uint64_t>(window))))
                : now;
        if (below(4) == 0 && !grants.empty()) {
            auto const which = grants.begin() + static_cast<std::ptrdiff_t>(below(grants.size()));
            auto& [d, taken] = *which;
            permits const k = below(d.live() + 1);
            ASSERT_EQ(c.refund(d, k), m.refund(taken, k));
            ASSERT_EQ(d.live(), taken.live);
            if (d.live() == 0) grants.erase(which);
            continue;
        }
        permits const n = below(6) == 0 ? 1 + below(limit) : 1 + below(limit / 8 + 1);
        ASSERT_EQ(c.used(at(t)), m.used(t));
        bool const fits = m.grants(n, t);
        ASSERT_EQ(c.check(n, at(t)).granted(), fits);
        auto d = c.try_acquire(n, at(t));
        ASSERT_EQ(d.granted(), fits);
        if (d) {
            ASSERT_EQ(d.live(), n);
            ASSERT_EQ(d.retry_at(), at(t));
            grants.emplace_back(std::move(d), m.take(n, t));
            ASSERT_EQ(c.used(at(t)), m.used(t));
            continue;
        }
        ++denials;
        ASSERT_EQ(c.used(at(t)), m.used(t));
        m.justify_denial(n, t);
        auto const again = d.retry_at();
        ASSERT_EQ(again, at(m.retry(n, t).value()));
        if (below(4) == 0) {
            ASSERT_EQ(d.retry_after(), again - at(t));
            ASSERT_FALSE(c.check(n, again - 1ns));
            ASSERT_TRUE(c.check(n, again));
            now = again.time_since_epoch().count();
        }
    }
    ASSERT_GT(denials, 50U);
}

class random_schedules : public testing::TestWithParam<setup> {};

TEST_P(random_schedules, decide_as_the_exact_counter_and_never_exceed_the_limit_in_any_window) {
    for (std::uint64_t seed = 1; seed <= 40 && !HasFailure(); ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        try {
            follow(GetParam(), seed);
        } catch (script::broken const& b) {
            FAIL() << b.what;
        }
    }
}
INSTANTIATE_TEST_SUITE_P(sliding_window_counter, random_schedules,
                         testing::Values(setup{20, 60'000, 6}, setup{100, 1'000'003, 7}, setup{7, 100'000, 1},
                                         setup{1000, 1'000'000, 125}, setup{3, 8'000'000, 8}, setup{64, 64'000, 64}));

/// Grants of random time points, which go back, by an exact log of their effective times; every step is made twice, on
/// a counter with checks and denials at later times between, and on one without.
TEST(sliding_window_counter, keeps_its_promise_over_effective_times_that_go_back) {
    std::mt19937_64 rng{7};
    auto const below = [&](std::uint64_t n) { return rng() % n; };
    for (int round = 0; round < 200; ++round) {
        manual_clock clock;
        permits const limit = 1 + below(20);
        counter disturbed{limit, 1s, counter_options{.segments = 10}, clock};
        counter quiet{limit, 1s, counter_options{.segments = 10}, clock};
        auto const length = static_cast<std::int64_t>(disturbed.segment_length().count());
        struct entry {
            std::int64_t when;
            permits n;
        };
        std::vector<entry> log;
        std::int64_t open = 0;  // the start of the latest segment with a grant
        std::int64_t now = 0;
        for (int i = 0; i < 200; ++i) {
            now += static_cast<std::int64_t>(below(2)) * static_cast<std::int64_t>(below(300'000'000));
            std::int64_t const t = std::max<std::int64_t>(0, now - static_cast<std::int64_t>(below(2'000'000'000)));
            auto const later = at(0) + nanoseconds{now + static_cast<std::int64_t>(below(3'000'000'000))};
            (void)disturbed.check(1 + below(limit), later);
            ASSERT_FALSE(disturbed.try_acquire(limit + 1, later));
            if (!disturbed.check(1, later)) {
                ASSERT_FALSE(disturbed.try_acquire(1, later));
            }
            permits const n = 1 + below(limit);
            bool const granted = disturbed.try_acquire(n, at(0) + nanoseconds{t}).granted();
            ASSERT_EQ(granted, quiet.try_acquire(n, at(0) + nanoseconds{t}).granted());
            if (!granted) continue;
            std::int64_t const effective = std::max(t, open);
            open = effective - effective % length;
            log.push_back({effective, n});
            for (auto const& end : log) {
                permits sum = 0;
                for (auto const& e : log) sum += e.when > end.when - 1'000'000'000 && e.when <= end.when ? e.n : 0;
                ASSERT_LE(sum, limit);
            }
        }
    }
}

}  // namespace sliding_window_counter_schedules_test
