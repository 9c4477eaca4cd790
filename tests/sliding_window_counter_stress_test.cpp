// SPDX-License-Identifier: MIT
// sliding_window_counter in the hands of several threads.
#include <weir/clock/manual_clock.hpp>
#include <weir/sliding_window_counter.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "support/exact_log.hpp"
#include "support/passing_time.hpp"
#include "support/stress.hpp"

namespace sliding_window_counter_stress_test {

using hammer::passing_time;
using std::chrono::nanoseconds;
using weir::counter_options;
using weir::manual_clock;
using weir::permits;

using counted = weir::sliding_window_counter<manual_clock&, hammer::counting_atomics>;
manual_clock::time_point at(std::int64_t ns) { return manual_clock::time_point{nanoseconds{ns}}; }

constexpr nanoseconds hammered_window{passing_time::window};
constexpr counter_options hammered_segments{.segments = 6};

TEST(sliding_window_counter, threads_never_exceed_the_limit_in_any_window_and_lose_nothing) {
    hammer::until_collided(6, [](std::uint64_t seed) {
        manual_clock clock;
        constexpr permits limit = 40;
        counted c{limit, hammered_window, hammered_segments, clock};
        ASSERT_EQ(c.segment_length().count(), passing_time::length);
        passing_time time;
        std::atomic<std::uint64_t> denials{0};
        std::atomic<std::uint64_t> refunds{0};
        auto const all = hammer::gather<exact_log::grant>(4, seed, 100'000, [&](auto& random, auto& grants) {
            thread_local std::vector<std::pair<counted::decision, std::size_t>> held;
            std::int64_t t = time.pass(random);
            auto const r = random();
            if (r % 3 == 0 && !held.empty()) {
                auto const i = static_cast<std::size_t>((r >> 8U) % held.size());
                auto& [d, index] = held[i];
                permits const k = 1 + (r >> 16U) % d.live();
                c.refund(d, k);
                grants[index].n -= k;
                refunds.fetch_add(1, std::memory_order_relaxed);
                if (d.live() == 0 || held.size() > 20) {
                    std::swap(held[i], held.back());
                    held.pop_back();
                }
                return;
            }
            if (r % 17 == 1) t = std::max<std::int64_t>(0, t - static_cast<std::int64_t>((r >> 8U) % 3000));
            permits const n = 1 + (r >> 24U) % 4;
            auto d = c.try_acquire(n, at(t));
            if (!d) {
                denials.fetch_add(1, std::memory_order_relaxed);
                return;
            }
            grants.push_back({d.effective_at().time_since_epoch().count(), n});
            if (r % 2 == 0) held.emplace_back(std::move(d), grants.size() - 1);
        });
        ASSERT_GT(denials.load(), 0U);
        ASSERT_GT(refunds.load(), 0U);
        ASSERT_GT(all.size(), 1000U);
        ASSERT_LE(exact_log::peak(all, passing_time::window + 1), limit);
        // When all is quiet, the next segment counts exactly what is live.
        std::int64_t const t = time.now() + passing_time::length;
        permits live = 0;
        for (auto const& g : all) {
            if (g.time / passing_time::length + 6 >= t / passing_time::length) live += g.n;
        }
        ASSERT_EQ(c.used(at(t)), live);
        ASSERT_TRUE(c.try_acquire(limit - live, at(t)));
        ASSERT_FALSE(c.try_acquire(1, at(t)));
    });
}

TEST(sliding_window_counter, threads_decide_by_the_old_limit_or_the_new_one) {
    // When the lesser limit is in force and time stands still, what the window holds cannot grow above it.
    hammer::until_collided(1, [](std::uint64_t seed) {
        manual_clock clock;
        counted c{10, hammered_window, hammered_segments, clock};
        std::atomic<std::int64_t> now{0};
        std::atomic<bool> done{false};
        std::atomic<std::uint64_t> granted{0};
        std::uint64_t changed = 0;
        auto const attempt = [&] {
            while (!done) {
                auto d = c.try_acquire(1, at(now.load()));
                if (d) granted.fetch_add(1);
                if (granted.load() % 4 != 0) c.refund(d);
                ASSERT_LE(c.used(at(now.load())), 50U);
            }
        };
        auto const change = [&] {
            for (int round = 0; round < 200'000 && (changed < 300 || granted < 5'000); ++round) {
                permits const limit = round % 2 == 0 ? 50 : 10;
                auto const e = c.change({limit}, at(now.load()));
                ASSERT_TRUE(!e || e.code() == weir::errc::busy);
                if (!e) {
                    ++changed;
                    ASSERT_EQ(c.limit(), limit);
                    permits const before = c.used(at(now.load()));
                    if (round % 16 < 2) std::this_thread::yield();
                    ASSERT_LE(c.used(at(now.load())), std::max<permits>(before, limit));
                }
                now.fetch_add(round % 7 == 0 ? 3 * passing_time::length : passing_time::length / 5);
            }
        };
        hammer::on_threads(4, seed, [&](std::size_t id, auto&) {
            if (id != 0) return attempt();
            change();
            done = true;
        });
        EXPECT_GE(changed, 300U);
        EXPECT_GE(granted.load(), 5'000U);
    });
}

TEST(sliding_window_counter, threads_that_all_change_the_limit_leave_one_of_theirs_and_finish) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        manual_clock clock;
        counted c{10, hammered_window, hammered_segments, clock};
        passing_time time;
        std::atomic<std::uint64_t> changed{0};
        hammer::on_threads(4, seed, [&](std::size_t, auto& random) {
            for (int i = 0; i < 20'000; ++i) {
                if (!c.change({1 + random() % 30}, at(time.pass(random)))) changed.fetch_add(1);
                ASSERT_GE(c.limit(), 1U);
                ASSERT_LE(c.limit(), 30U);
            }
        });
        EXPECT_GT(changed.load(), 1000U);
        std::int64_t const t = time.now() + 20 * passing_time::length;
        EXPECT_FALSE(c.change({17}, at(t)));
        EXPECT_TRUE(c.try_acquire(17, at(t)));
        EXPECT_FALSE(c.try_acquire(1, at(t)));
    });
}

}  // namespace sliding_window_counter_stress_test
