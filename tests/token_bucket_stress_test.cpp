// SPDX-License-Identifier: MIT
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include "support/gcra_oracle.hpp"
#include "support/stress.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace token_bucket_stress_test {

using namespace std::chrono_literals;
using namespace gcra_oracle;
using hammer::counting_atomics;
using hammer::shared_clock;
using std::chrono::nanoseconds;
using weir::permits;
using weir::rate;

using contended = weir::token_bucket<shared_clock&, counting_atomics>;

TEST(token_bucket, keeps_its_promise_whatever_the_threads_do) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        shared_clock clock;
        contended b{rate{3, 10ns}, 20, clock};
        auto const all = hammer::gather<grant>(3, seed, 60'000, [&](random_engine& random, auto& mine) {
            if (below(random, 4) == 0) clock.advance(static_cast<std::int64_t>(below(random, 20)));
            permits const n = 1 + below(random, 4);
            auto t = clock.now();
            if (below(random, 8) == 0) t -= nanoseconds{below(random, 50)};
            if (b.try_acquire(n, t)) mine.push_back({std::max<std::int64_t>(0, t.time_since_epoch().count()), n});
        });
        ASSERT_EQ(excess(all, {3, 10}, 20), 0);
        // And what was earned was granted: about half of the attempts ask at a time when there is nothing.
        permits total = 0;
        for (auto const& g : all) total += g.n;
        ASSERT_GT(total, static_cast<permits>(clock.ticks.load()) / 10);
    });
}

TEST(token_bucket, keeps_its_promise_under_threads_that_refund_reserve_and_cancel) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        shared_clock clock;
        contended b{rate{1, 4ns}, 12, clock};
        std::atomic<std::uint64_t> refunds{0};
        auto const all = hammer::gather<grant>(3, seed, 40'000, [&](random_engine& random, auto& mine) {
            thread_local std::vector<std::pair<contended::decision, std::size_t>> held;
            auto const what = below(random, 8);
            permits const n = 1 + below(random, 12);
            if (what < 2) {
                clock.advance(static_cast<std::int64_t>(below(random, 20)));
            } else if (what < 4) {
                auto const t = clock.now();
                auto d = b.try_acquire(n, t);
                if (!d) return;
                mine.push_back({t.time_since_epoch().count(), n});
                held.emplace_back(std::move(d), mine.size() - 1);
            } else if (what < 5) {
                auto d = b.reserve(n, nanoseconds{below(random, 60)});
                if (!d) return;
                mine.push_back({d.starts_at().time_since_epoch().count(), n});
                held.emplace_back(std::move(d), mine.size() - 1);
            } else if (!held.empty()) {
                auto const j =
                    static_cast<std::size_t>(below(random, 2) == 0 ? held.size() - 1 : below(random, held.size()));
                auto& [d, index] = held[j];
                permits const k = 1 + below(random, std::max<permits>(1, mine[index].n));
                if (mine[index].n == 0) return;
                if (b.refund(d, k) != 0) refunds.fetch_add(1, std::memory_order_relaxed);
                mine[index].n -= k;
                if (held.size() > 16) held.erase(held.begin());
            }
        });
        ASSERT_GT(refunds.load(), 100U);
        ASSERT_EQ(excess(all, {1, 4}, 12), 0);
    });
}

TEST(token_bucket, keeps_its_promise_by_its_own_clock) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        weir::token_bucket<std::chrono::steady_clock, counting_atomics> b{rate{3'000'000, 1s}, 50};
        auto const all = hammer::gather<grant>(2, seed, 100'000, [&](random_engine& random, auto& mine) {
            permits const n = 1 + below(random, 3);
            if (auto d = b.try_acquire(n)) mine.push_back({d.retry_at().time_since_epoch().count(), n});
        });
        ASSERT_GT(all.size(), 50U);
        ASSERT_EQ(excess(all, {3, 1000}, 50), 0);
    });
}

/// Tells at which time a change comes into force at the latest, before it does.
struct announcing_clock : shared_clock {
    static inline thread_local bool changes = false;
    mutable std::atomic<std::int64_t> changed_at{0};

    time_point now() const noexcept {
        auto const t = shared_clock::now();
        if (changes) {
            std::int64_t const to = t.time_since_epoch().count();
            std::int64_t seen = changed_at.load();
            while (seen < to && !changed_at.compare_exchange_weak(seen, to)) {
            }
        }
        return t;
    }
};

TEST(token_bucket, is_changed_under_threads_without_a_moment_of_too_much) {
    hammer::until_collided(3, [](std::uint64_t seed) {
        announcing_clock clock;
        weir::token_bucket<announcing_clock&, counting_atomics> b{rate{1, 4ns}, 12, clock};
        std::atomic<std::uint64_t> changes{0};
        std::atomic<std::uint64_t> wrong{0};
        auto const all = hammer::gather<exact_log::span>(3, seed, 40'000, [&](random_engine& random, auto& mine) {
            auto const what = below(random, 64);
            if (what == 0) {
                // Three configurations that differ in everything, none above one per 4 ns with a burst of 12.
                auto const which = below(random, 3);
                announcing_clock::changes = true;
                auto const e = which == 0   ? b.change({rate{1, 4ns}, 12})
                               : which == 1 ? b.change({rate{1, 7ns}, 5})
                                            : b.change({rate{2, 13ns}, 9});
                announcing_clock::changes = false;
                if (!e) changes.fetch_add(1, std::memory_order_relaxed);
                if (e && e != weir::errc::busy) wrong.fetch_add(1, std::memory_order_relaxed);
            } else if (what < 16) {
                clock.advance(static_cast<std::int64_t>(below(random, 20)));
            } else {
                permits const n = 1 + below(random, 12);
                auto const t = clock.now();
                auto d = b.try_acquire(n, t);
                // Under a rate that came into force after the clock was read, what is granted is what there is by then.
                std::int64_t const read = t.time_since_epoch().count();
                if (d) mine.push_back({read, std::max(read, clock.changed_at.load()), n});
                permits const burst = b.burst();
                if (burst != 12 && burst != 5 && burst != 9) wrong.fetch_add(1, std::memory_order_relaxed);
                if (!d && !d.never() && d.retry_at() < t) wrong.fetch_add(1, std::memory_order_relaxed);
                if (d && below(random, 4) == 0) {
                    b.refund(d);
                    if (mine.back().n != 0) mine.pop_back();
                }
            }
        });
        ASSERT_EQ(wrong.load(), 0U);
        ASSERT_GT(changes.load(), 500U);
        ASSERT_EQ(certain_excess(all, {1, 4}, 12), 0);
    });
}

}  // namespace token_bucket_stress_test
