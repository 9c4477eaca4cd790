// SPDX-License-Identifier: MIT
// The protocol of a counter in the hands of several threads: what quota_limiter rests on.
#include <weir/detail/window_counter.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../support/exact_log.hpp"
#include "../support/passing_time.hpp"
#include "../support/stress.hpp"
#include "../support/window.hpp"

namespace window_counter_stress_test {

using hammer::passing_time;
using std::chrono::nanoseconds;
using weir::permits;

using counted = support::window_of<hammer::counting_atomics>;

/// The time at which a charge at `t` counts.
std::int64_t effective(counted const& c, std::int64_t t, counted::receipt const& r) {
    return std::max(t, c.scale().start_of(c.segment(r.head())));
}

TEST(window_counter, threads_that_share_a_limit_between_two_counters_keep_it) {
    // Each call holds its bound in `held`, is admitted with it counted, and settles later: its actual use is charged in
    // `spent` before its hold is given back. As bounds are bounds, `spent` alone must keep the limit, though settled
    // charges are not asked.
    hammer::until_collided(4, [](std::uint64_t seed) {
        constexpr permits limit = 60;
        counted spent{limit, nanoseconds{passing_time::window}, 6};
        // A hold must outlive its call, though the thread be preempted for long.
        counted held{limit, nanoseconds{400'000 * passing_time::length}, 1000};
        passing_time time;
        std::atomic<std::uint64_t> settled{0};
        auto const all = hammer::gather<exact_log::grant>(4, seed, 60'000, [&](auto& random, auto& grants) {
            struct call {
                counted::receipt hold;
                permits bound;
            };
            thread_local std::vector<call> flying;
            std::int64_t const t = time.pass(random);
            auto const r = random();
            if (flying.size() > 3 || (r % 2 == 0 && !flying.empty())) {
                auto const i = static_cast<std::size_t>((r >> 8U) % flying.size());
                permits const actual = (r >> 16U) % (flying[i].bound + 1);
                auto const done = spent.force_acquire(actual, t);
                grants.push_back({effective(spent, t, done), actual});
                held.refund(flying[i].hold);
                settled.fetch_add(1);
                std::swap(flying[i], flying.back());
                flying.pop_back();
                return;
            }
            permits const bound = 1 + (r >> 8U) % 12;
            permits const input = 1 + (r >> 16U) % 5;
            auto hold = held.force_acquire(bound, t);
            counted::receipt taken;
            if (!spent.try_acquire_shared(input, t, [&] { return held.used_at(t); }, taken)) {
                held.refund(hold);
                return;
            }
            grants.push_back({effective(spent, t, taken), input});
            flying.push_back({std::move(hold), bound});
        });
        ASSERT_GT(settled.load(), 500U);
        ASSERT_LE(exact_log::peak(all, passing_time::window + 1), limit);
    });
}

TEST(window_counter, threads_that_give_back_holds_visibly_give_none_back_twice) {
    // A counter of holds only: some charge and give back, one moves the time on. What is live at a moment is
    // never more than used() says, and in the end both are nothing.
    hammer::until_collided(30, [](std::uint64_t seed) {
        counted c{1000, nanoseconds{1'000'000}, 10};
        std::atomic<std::int64_t> now{0};
        std::atomic<std::int64_t> live{0};
        hammer::on_threads(3, seed, [&](std::size_t id, auto& random) {
            std::vector<std::pair<counted::receipt, std::int64_t>> held;
            for (int i = 0; i < 3000; ++i) {
                std::int64_t const t = now.load();
                if (random() % 2 == 0 || held.empty()) {
                    held.emplace_back(c.force_acquire(1 + random() % 5, t), t);
                    live.fetch_add(static_cast<std::int64_t>(held.back().first.live()));
                } else {
                    auto const which = static_cast<std::ptrdiff_t>(random() % held.size());
                    auto& receipt = held[static_cast<std::size_t>(which)].first;
                    live.fetch_sub(static_cast<std::int64_t>(receipt.live()));
                    c.refund_visible(receipt);
                    EXPECT_EQ(receipt.live(), 0U);
                    held.erase(held.begin() + which);
                }
                if (id == 0 && random() % 16 == 0) now.fetch_add(static_cast<std::int64_t>(random() % 60'000));
                // None of this thread's that is younger than the window may be missing, by a clock read last: another
                // may move it on.
                std::uint64_t const used = c.used(now.load());
                std::uint64_t mine = 0;
                std::int64_t const later = now.load();
                for (auto const& [receipt, since] : held) mine += since + 1'000'000 > later ? receipt.live() : 0;
                ASSERT_LE(mine, used);
            }
            for (auto& [receipt, since] : held) {
                live.fetch_sub(static_cast<std::int64_t>(receipt.live()));
                c.refund_visible(receipt);
            }
        });
        EXPECT_EQ(live.load(), 0);
        std::int64_t const end =
            now.load() + 100'000;  // a refund that meets the beginning of a segment shows in the next
        EXPECT_EQ(c.used(end), 0U);
        EXPECT_TRUE(c.take(1000, end));
    });
}

}  // namespace window_counter_stress_test
