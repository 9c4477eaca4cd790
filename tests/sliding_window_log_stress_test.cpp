// SPDX-License-Identifier: MIT
// sliding_window_log and its slots in the hands of several threads.
#include <weir/clock/manual_clock.hpp>
#include <weir/sliding_window_log.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "support/exact_log.hpp"
#include "support/log_attempts.hpp"
#include "support/stress.hpp"

namespace sliding_window_log_stress_test {

using namespace std::chrono_literals;
using hammer::counting_atomics;
using weir::manual_clock;
using weir::permits;

std::size_t draw(std::mt19937_64& rng, std::size_t n) { return static_cast<std::size_t>(rng() % n); }

struct hammering {
    std::uint32_t limit;
    std::uint32_t capacity;
    std::uint64_t window;
    std::size_t most;  // permits at a time
    bool change;
};

// Threads draw their times from one counter, some of them late; they keep receipts for a while and refund some. Then:
// the promise over what was granted and not refunded; nothing lost; no bound untrue.
template <class Atomics, unsigned Fanout>
void hammer_slots(hammering const& h, std::uint64_t seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << " limit " << h.limit << " fanout " << Fanout);
    constexpr std::size_t threads = 4;
    constexpr int steps = 4'000;
    constexpr std::uint64_t origin = std::uint64_t{1} << 40U;
    weir::detail::log_slots<Atomics, Fanout> slots{h.limit, h.capacity, h.window, 0, origin};
    std::atomic<std::uint64_t> ticks{origin};
    std::vector<std::vector<std::int64_t>> kept(threads);
    std::vector<std::size_t> lost(threads, 0);
    hammer::on_threads(threads, seed, [&](std::size_t id, auto& rng) {
        auto& mine = kept[id];
        struct held {
            weir::detail::log_receipt grip;
            std::uint64_t t;
            std::uint32_t n;
        };
        std::vector<held> receipts;
        auto settle = [&](held r, bool refund) {
            std::uint32_t left = r.n;
            if (refund) {
                left -= slots.give_back(r.grip);
                // Only what was taken again, a window later, cannot go back.
                if (left != 0 && !h.change && ticks.load(std::memory_order_relaxed) < r.t + h.window) {
                    ++lost[id];
                }
            }
            for (; left > 0; --left) mine.push_back(static_cast<std::int64_t>(r.t));
        };
        for (int step = 0; step < steps; ++step) {
            std::uint64_t const now = rng() % 4 == 0 ? ticks.fetch_add(rng() % 3) : ticks.load();
            std::uint64_t const x = rng() % 8 == 0 ? now - rng() % h.window : now;
            auto const n = static_cast<std::uint32_t>(rng() % 4 == 0 ? 1 + draw(rng, h.most) : 1);
            weir::detail::log_receipt g;
            std::uint64_t oldest = 0;
            if (n == 1 ? log_attempts::take(slots, x, g, oldest) : log_attempts::take_many(slots, n, x, g, oldest))
                receipts.push_back({g, x, n});
            while (!receipts.empty() && rng() % 2 == 0) {
                std::swap(receipts[draw(rng, receipts.size())], receipts.back());
                settle(receipts.back(), rng() % 2 == 0);
                receipts.pop_back();
            }
            if (h.change && rng() % 256 == 0) {
                slots.change_limit(static_cast<std::uint32_t>(1 + draw(rng, h.capacity)));
            }
        }
        for (auto const& r : receipts) settle(r, false);
    });

    std::vector<std::int64_t> all;
    for (auto const& k : kept) all.insert(all.end(), k.begin(), k.end());
    EXPECT_LE(exact_log::most_in_a_window(all, static_cast<std::int64_t>(h.window)), h.change ? h.capacity : h.limit);
    EXPECT_EQ(slots.count_untrue_bounds(), 0U);
    std::uint64_t const end = ticks.load();
    auto const live = static_cast<std::uint32_t>(std::count_if(
        all.begin(), all.end(), [&](std::int64_t t) { return static_cast<std::uint64_t>(t) + h.window > end; }));
    if (!h.change) {
        for (auto const l : lost) EXPECT_EQ(l, 0U);
        EXPECT_EQ(slots.count_free(end, h.limit), h.limit - live);
    }
    // What is free can be taken, and no more than that.
    std::uint32_t const free = slots.count_free(end, h.capacity);
    EXPECT_LE(free + std::min(live, slots.limit()), slots.limit());
    weir::detail::log_receipt g;
    std::uint64_t oldest = 0;
    for (std::uint32_t i = 0; i < free; ++i) EXPECT_TRUE(log_attempts::take(slots, end, g, oldest));
    EXPECT_FALSE(log_attempts::take(slots, end, g, oldest));
    EXPECT_EQ(slots.count_free(end + h.window, h.capacity), slots.limit());
}

TEST(log_slots, threads_never_exceed_the_limit_and_lose_nothing) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        hammer_slots<counting_atomics, 32>({10, 10, 100, 1, false}, seed);
        hammer_slots<counting_atomics, 2>({10, 10, 100, 1, false}, seed);
        hammer_slots<counting_atomics, 4>({300, 300, 500, 1, false}, seed);
        hammer_slots<weir::std_atomics, 32>({60, 60, 500, 1, false}, seed);
    });
}

TEST(log_slots, threads_that_take_several_keep_the_limit_and_lose_nothing) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        hammer_slots<counting_atomics, 32>({10, 10, 100, 5, false}, seed);
        hammer_slots<counting_atomics, 2>({40, 40, 100, 40, false}, seed);
        hammer_slots<weir::std_atomics, 4>({60, 60, 300, 8, false}, seed);
    });
}

TEST(log_slots, threads_that_change_the_limit_never_exceed_what_it_was_at_most) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        hammer_slots<counting_atomics, 32>({10, 20, 100, 3, true}, seed);
        hammer_slots<counting_atomics, 2>({40, 40, 100, 1, true}, seed);
    });
}

// After a lower limit has been confirmed, grants keep to it, whatever else went on meanwhile.
TEST(log_slots, threads_keep_to_a_lower_limit_once_it_is_confirmed) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        constexpr std::uint64_t window = 200;
        constexpr std::uint32_t low = 5;
        weir::detail::log_slots<counting_atomics, 4> slots{20, 20, window, 0, 1 << 30};
        std::atomic<std::uint64_t> ticks{1 << 30};
        std::atomic<bool> lowered{false};
        struct permit {
            std::int64_t t;
            bool after;
        };
        std::vector<std::vector<permit>> kept(3);
        hammer::on_threads(kept.size() + 1, seed, [&](std::size_t id, auto& rng) {
            if (id == kept.size()) {
                while (ticks.load() < (1 << 30) + 300) std::this_thread::yield();
                EXPECT_TRUE(slots.change_limit(low));
                lowered.store(true);
                return;
            }
            for (int i = 0; i < 3'000; ++i) {
                bool const after = lowered.load();
                std::uint64_t const x = ticks.fetch_add(rng() % 8 == 0 ? 1 : 0);
                weir::detail::log_receipt g;
                std::uint64_t oldest = 0;
                if (!log_attempts::take(slots, x, g, oldest)) continue;
                if (rng() % 2 == 0 && slots.give_back(g) == 1) continue;
                kept[id].push_back({static_cast<std::int64_t>(x), after});
            }
        });
        std::multiset<std::int64_t> all;
        for (auto const& k : kept) {
            for (auto const& p : k) all.insert(p.t);
        }
        for (auto const& k : kept) {
            for (auto const& p : k) {
                if (!p.after) continue;
                ASSERT_LE(exact_log::most_around(all, p.t, window), low);
            }
        }
    });
}

// All at one time point: exactly the limit is granted, however the threads meet; what is refunded is granted again.
TEST(sliding_window_log, threads_together_get_exactly_the_limit_at_one_instant) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        manual_clock clock;
        weir::sliding_window_log<manual_clock&, counting_atomics> log{500, 1s, clock};
        std::atomic<permits> granted{0};
        hammer::on_threads(4, seed, [&](std::size_t, auto& rng) {
            // A denial may overlap a refund that is under way, so each thread continues until its own refunds are over.
            for (int refunds = 0; refunds < 200;) {
                auto d = log.try_acquire();
                if (!d) break;
                if (rng() % 4 == 0) {
                    EXPECT_EQ(log.refund(d), 1U);
                    ++refunds;
                } else {
                    granted.fetch_add(1);
                }
            }
        });
        while (log.try_acquire()) granted.fetch_add(1);
        EXPECT_EQ(granted.load(), 500U);
        EXPECT_EQ(log.available(), 0U);
    });
}

}  // namespace sliding_window_log_stress_test
