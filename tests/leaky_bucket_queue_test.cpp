// SPDX-License-Identifier: MIT
#include <weir/leaky_bucket_queue.hpp>

#include <gtest/gtest.h>

#include <weir/clock/manual_clock.hpp>

#include "support/gcra_oracle.hpp"
#include "support/move_semantics.hpp"
#include "support/stress.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace leaky_bucket_queue_test {

using namespace std::chrono_literals;
using namespace gcra_oracle;
using hammer::counting_atomics;
using hammer::shared_clock;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::permits;
using weir::rate;

using queue = weir::leaky_bucket_queue<manual_clock&>;

/// n permits whose first departs at a time.
struct departure {
    std::int64_t time;
    permits n;
};

/// Exact departures that tick up to these: the earliest ones, each as early as its tick and those before it allow.
/// Whether none of them would come after its tick; p permits per q ticks.
bool are_one_interval_apart(std::vector<departure> d, std::int64_t p, std::int64_t q) {
    std::sort(d.begin(), d.end(), [](auto const& a, auto const& b) { return a.time < b.time; });
    bool first = true;
    i128 next = 0;  // in 1/p of a tick
    for (auto const& x : d) {
        // The exact moment lies in (time − 1, time].
        i128 exact = p * (static_cast<i128>(x.time) - 1) + 1;
        if (!first) exact = std::max(exact, next);
        if (exact > p * static_cast<i128>(x.time)) return false;
        next = exact + q * static_cast<i128>(x.n);
        first = false;
    }
    return true;
}

TEST(leaky_bucket_queue, spaces_departures_by_the_interval_and_bounds_the_queue) {
    manual_clock clock;
    queue pace{rate{10, 1s}, 3, clock};
    EXPECT_EQ(pace.waiting(), 3U);
    EXPECT_EQ(pace.available(), 4U);
    for (int i = 0; i < 4; ++i) {
        auto d = pace.try_acquire();
        ASSERT_TRUE(d);
        EXPECT_EQ(d.departs_at(), at(i * 100'000'000));
        EXPECT_EQ(d.retry_at(), clock.now());
    }
    auto d = pace.try_acquire();
    EXPECT_FALSE(d);
    EXPECT_FALSE(d.never());
    EXPECT_EQ(d.departs_at(), clock.now());
    EXPECT_EQ(d.retry_after(), 100ms);
    EXPECT_EQ(pace.available(), 0U);
    clock.advance(99'999'999ns);
    EXPECT_FALSE(pace.try_acquire());
    clock.advance(1ns);
    EXPECT_EQ(pace.available(), 1U);
    EXPECT_EQ(pace.try_acquire().departs_at(), at(400'000'000));
    clock.advance(1h);
    EXPECT_EQ(pace.try_acquire().departs_at(), clock.now());
    EXPECT_EQ(pace.try_acquire().departs_at(), clock.now() + 100ms);
}

TEST(leaky_bucket_queue, asks_and_books_for_one_permit_where_none_is_named) {
    manual_clock clock;
    queue q{rate{1, 1s}, 0, clock};
    EXPECT_TRUE(q.check());
    EXPECT_FALSE(q.check(2));
    EXPECT_TRUE(q.try_acquire());
    EXPECT_FALSE(q.check());
}

TEST(leaky_bucket_queue, keeps_the_places_of_a_booking_of_many) {
    manual_clock clock;
    queue pace{rate{10, 1s}, 5, clock};
    EXPECT_EQ(pace.try_acquire(3).departs_at(), at(0));
    EXPECT_EQ(pace.try_acquire(2).departs_at(), at(300'000'000));
    EXPECT_FALSE(pace.try_acquire(2));
    EXPECT_EQ(pace.try_acquire(1).departs_at(), at(500'000'000));
    EXPECT_TRUE(pace.try_acquire(7).never());
    EXPECT_EQ(pace.try_acquire(7).retry_at(), manual_clock::time_point::max());
    EXPECT_EQ(pace.try_acquire(6).retry_after(), 600ms);
    auto nothing = pace.try_acquire(0);
    EXPECT_TRUE(nothing);
    EXPECT_EQ(nothing.departs_at(), clock.now());
    EXPECT_FALSE(pace.refund(nothing));
}

TEST(leaky_bucket_queue, grants_one_an_interval_when_no_permit_may_wait) {
    manual_clock clock;
    queue pace{rate{3, 1s}, 0, clock};
    EXPECT_TRUE(pace.try_acquire());
    auto d = pace.try_acquire();
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), at(333'333'334));
    EXPECT_TRUE(pace.check(1, at(333'333'334)));
    EXPECT_FALSE(pace.check(1, at(333'333'333)));
    EXPECT_TRUE(pace.try_acquire(2).never());
}

TEST(leaky_bucket_queue, departs_in_order_one_interval_apart_and_within_the_bound) {
    for (auto const& r : gcra_oracle::awkward_rates()) {
        if (queue::validate(r.rate, 3)) continue;  // the clock is too coarse to pace it
        for (std::uint64_t seed = 1; seed <= 40; ++seed) {
            random_engine random{seed};
            permits const waiting = any_size(random, 40);
            manual_clock clock{at(static_cast<std::int64_t>(any_size(random, 1'000'000'000)))};
            queue pace{r.rate, waiting, clock};
            std::int64_t const begin = ticks(clock.now());
            SCOPED_TRACE(testing::Message() << r << " waiting " << waiting << " seed " << seed);
            auto const p = r.per_tick.permits;
            auto const q = r.per_tick.ticks;
            auto const permit = static_cast<std::uint64_t>(std::max<std::int64_t>(1, q / p));
            std::vector<departure> all;
            std::int64_t last = std::numeric_limits<std::int64_t>::min();
            for (int i = 0; i < 200; ++i) {
                clock.advance(
                    nanoseconds{below(random, 4) == 0 ? below(random, permit * 3) : below(random, permit / 2 + 1)});
                auto t = clock.now();
                if (below(random, 8) == 0) t -= nanoseconds{below(random, permit)};
                permits const n = 1 + below(random, waiting + 1);
                permits const room = pace.available(t);
                auto const c = pace.check(n, t);
                auto d = pace.try_acquire(n, t);
                ASSERT_TRUE(n <= room ? d.granted() : n > room + 1 ? !d.granted() : true);
                ASSERT_EQ(c.granted(), d.granted());
                if (!d) {
                    if (d.retry_at() == manual_clock::time_point::max()) break;
                    ASSERT_GT(d.retry_at(), t);
                    ASSERT_TRUE(pace.check(n, d.retry_at()));
                    ASSERT_FALSE(pace.check(n, d.retry_at() - 1ns));
                    ASSERT_EQ(pace.available(t), room);
                    continue;
                }
                if (d.departs_at() == manual_clock::time_point::max()) break;  // beyond 30 years
                ASSERT_GE(d.departs_at(), t);
                ASSERT_GE(ticks(d.departs_at()), last) << "first booked, first out";
                last = ticks(d.departs_at());
                // No booking waits longer than `waiting` intervals, counting the places that it takes itself.
                ASSERT_LE(static_cast<i128>(last - std::max(ticks(t), begin) - 1) * p,
                          static_cast<i128>(q) * static_cast<std::int64_t>(waiting + 1 - n));
                all.push_back({last, n});
            }
            ASSERT_TRUE(are_one_interval_apart(all, p, q));
        }
    }
}

TEST(leaky_bucket_queue, loses_no_place_when_it_is_kept_full) {
    for (auto const& r : gcra_oracle::awkward_rates()) {
        if (queue::validate(r.rate, 3)) continue;
        manual_clock clock;
        queue pace{r.rate, 3, clock};
        for (std::int64_t k = 0; k < 300; ++k) {
            auto d = pace.try_acquire();
            if (!d) {
                if (d.retry_at() == manual_clock::time_point::max()) break;
                clock.advance_to(d.retry_at());
                d = pace.try_acquire();
            }
            ASSERT_TRUE(d);
            if (d.departs_at() == manual_clock::time_point::max()) break;  // beyond 30 years
            i128 const exact = (static_cast<i128>(k) * r.per_tick.ticks + r.per_tick.permits - 1) / r.per_tick.permits;
            ASSERT_EQ(ticks(d.departs_at()), static_cast<std::int64_t>(exact)) << r << " departure " << k;
        }
    }
}

TEST(leaky_bucket_queue, cancels_the_last_booking_whole_and_leaves_the_gap_of_another) {
    manual_clock clock;
    queue pace{rate{10, 1s}, 3, clock};
    auto a = pace.try_acquire();
    auto b = pace.try_acquire();
    auto c = pace.try_acquire();
    auto d = pace.try_acquire();
    EXPECT_FALSE(pace.refund(b)) << "not the last one";
    EXPECT_FALSE(pace.refund(b));
    EXPECT_EQ(pace.available(), 0U) << "a gap counts as a place";
    EXPECT_TRUE(pace.refund(d));
    EXPECT_FALSE(pace.refund(d)) << "once";
    EXPECT_EQ(pace.available(), 1U);
    auto e = pace.try_acquire();
    EXPECT_EQ(e.departs_at(), at(300'000'000));
    EXPECT_FALSE(pace.refund(d)) << "not by another's receipt";
    EXPECT_TRUE(pace.refund(e));
    EXPECT_TRUE(pace.refund(c)) << "it is the last one now";
    EXPECT_EQ(pace.available(), 3U) << "and b, which was cancelled before it, is behind the last live one";
    EXPECT_TRUE(pace.refund(a));
    EXPECT_EQ(pace.try_acquire().departs_at(), at(0));
}

TEST(leaky_bucket_queue, cancels_nothing_that_is_not_its_own) {
    manual_clock clock;
    queue a{rate{10, 1s}, 3, clock};
    queue b{rate{10, 1s}, 3, clock};
    auto d = a.try_acquire();
    ASSERT_TRUE(b.try_acquire());
    EXPECT_FALSE(b.refund(d));
    EXPECT_EQ(b.available(), 3U);
    auto moved = std::move(d);
    EXPECT_FALSE(a.refund(d));  // NOLINT: a decision that was moved from cancels nothing
    auto& same = moved;
    moved = std::move(same);
    EXPECT_TRUE(a.refund(moved));
    auto check = a.check();
    EXPECT_TRUE(check);
    EXPECT_FALSE(a.refund(check));
    for (int i = 0; i < 4; ++i) ASSERT_TRUE(a.try_acquire());
    auto denied = a.try_acquire();
    EXPECT_FALSE(a.refund(denied));
    EXPECT_EQ(a.available(), 0U);
}

TEST(leaky_bucket_queue, is_free_when_all_bookings_are_cancelled_in_order) {
    manual_clock clock;
    queue pace{rate{1, 10s}, 10, clock};
    std::vector<queue::decision> all;
    for (int i = 0; i < 6; ++i) all.push_back(pace.try_acquire());
    ASSERT_EQ(all.back().departs_at(), at(0) + 50s);
    for (auto& d : all) {
        EXPECT_EQ(pace.refund(d), &d == &all.back() ? 1U : 0U);
    }
    EXPECT_EQ(pace.available(), 11U);
    EXPECT_EQ(pace.try_acquire().departs_at(), clock.now());
}

TEST(leaky_bucket_queue, is_free_behind_the_last_live_booking_once_the_others_are_cancelled) {
    for (std::uint64_t seed = 1; seed <= 2'000; ++seed) {
        random_engine random{seed};
        manual_clock clock{at(static_cast<std::int64_t>(below(random, 1'000)))};
        permits const waiting = 1 + below(random, below(random, 4) == 0 ? 300 : 20);
        auto const q = static_cast<std::int64_t>(1 + below(random, 1'000'000));
        queue pace{rate{1, nanoseconds{q}}, waiting, clock};
        // Some depart, some stay; of those behind them all are cancelled, in any order.
        std::int64_t free_from = ticks(clock.now());
        auto const stay = below(random, 4);
        std::vector<queue::decision> cancelled;
        for (std::uint64_t i = 0; i < 300; ++i) {
            permits const n = 1 + below(random, 1 + waiting / 8);
            auto d = pace.try_acquire(n);
            if (!d) break;
            if (i < stay) {
                free_from = ticks(d.departs_at()) + q * static_cast<std::int64_t>(n);
            } else {
                cancelled.push_back(std::move(d));
            }
            if (i < stay) clock.advance(nanoseconds{below(random, static_cast<std::uint64_t>(q))});
        }
        auto const order = below(random, 3);
        if (order == 0) std::reverse(cancelled.begin(), cancelled.end());
        if (order == 1) std::shuffle(cancelled.begin(), cancelled.end(), random);
        for (auto& d : cancelled) {
            ASSERT_LE(pace.refund(d), waiting + 1);
            // Time passes meanwhile, but none of those that are still booked departs.
            if (below(random, 4) == 0) clock.advance(nanoseconds{q / 1'000});
        }
        if (cancelled.empty()) continue;
        auto const next = pace.try_acquire();
        ASSERT_TRUE(next) << "seed " << seed;
        ASSERT_LE(ticks(next.departs_at()), std::max(free_from, ticks(clock.now()))) << "seed " << seed;
        ASSERT_GE(ticks(next.departs_at()), free_from) << "seed " << seed;
    }
}

TEST(leaky_bucket_queue, keeps_its_interval_whatever_is_cancelled) {
    std::uint64_t given = 0;
    for (std::uint64_t seed = 1; seed <= 5'000; ++seed) {
        random_engine random{seed};
        manual_clock clock;
        permits const waiting = below(random, 30);
        auto const q = static_cast<std::int64_t>(1 + below(random, 5));
        queue pace{rate{1, nanoseconds{q}}, waiting, clock};
        struct booked {
            queue::decision d;
            std::int64_t from;
            permits n;  // live
        };
        std::vector<booked> all;
        for (int i = 0; i < 120; ++i) {
            auto const what = below(random, 8);
            if (what < 2) {
                clock.advance(nanoseconds{below(random, static_cast<std::uint64_t>(2 * q))});
            } else if (what < 5) {
                permits const n = 1 + below(random, below(random, 2) == 0 ? 2 : waiting + 1);
                auto d = pace.try_acquire(n);
                if (!d) continue;
                std::int64_t const from = ticks(d.departs_at());
                for (auto const& b : all) {
                    ASSERT_TRUE(b.n == 0 || from >= b.from + q * static_cast<std::int64_t>(b.n)) << "seed " << seed;
                }
                all.push_back({std::move(d), from, n});
            } else if (!all.empty()) {
                auto const j = static_cast<std::size_t>(
                    below(random, 3) == 0 ? all.size() - 1
                                          : all.size() - 1 - below(random, std::min<std::size_t>(all.size(), 12)));
                permits const k = below(random, 4) == 0 ? 1 + below(random, 3) : all[j].n;
                bool const is_live = all[j].n != 0;
                permits const back = pace.refund(all[j].d, k);
                ASSERT_LE(back, is_live ? k : 0U);
                given += back;
                all[j].n -= std::min(k, all[j].n);
            }
        }
    }
    EXPECT_GT(given, 10'000U);
}

TEST(leaky_bucket_queue, takes_any_time_point) {
    using limits = std::numeric_limits<std::int64_t>;
    for (std::int64_t origin : {limits::min(), std::int64_t{0}, limits::max()}) {
        for (std::int64_t t : {limits::min(), std::int64_t{-1}, std::int64_t{1}, limits::max()}) {
            manual_clock clock{at(origin)};
            queue pace{rate{1, 1s}, 1, clock};
            EXPECT_EQ(pace.try_acquire(1, at(t)).departs_at(), at(t));
            auto d = pace.try_acquire(1, at(t));
            EXPECT_TRUE(d);
            EXPECT_GE(d.departs_at(), at(t));
            auto e = pace.try_acquire(1, at(t));
            EXPECT_FALSE(e);
            EXPECT_GT(e.retry_after(), 0ns);
            pace.refund(d);
        }
    }
}

TEST(leaky_bucket_queue, is_refused_with_the_reason) {
    manual_clock clock;
    EXPECT_NO_THROW((queue{rate{1, 1ns}, 3, clock}));
    EXPECT_THROW((queue{rate{1'000'000'007, 1s}, 3, clock}), std::invalid_argument) << "less than a tick apart";
    EXPECT_THROW((queue{rate{1, 1s}, std::numeric_limits<permits>::max(), clock}), std::invalid_argument);
    EXPECT_THROW((queue{rate{1, 1s}, weir::gcra::tat_max - 1, clock}), std::invalid_argument);
    auto const made = queue::make(rate{1'000'000'007, 1s}, 3, clock);
    EXPECT_FALSE(made);
    EXPECT_NE(std::string{made.error().message()}.find("too coarse"), std::string::npos);
}

TEST(leaky_bucket_queue, made_without_exceptions_is_the_same) {
    manual_clock clock;
    auto made = queue::make(rate{10, 1s}, 2, clock);
    ASSERT_TRUE(made);
    EXPECT_TRUE(made->try_acquire());
    EXPECT_EQ(made->try_acquire().departs_at(), clock.now() + 100ms);
    EXPECT_EQ(made->try_acquire().departs_at(), clock.now() + 200ms);
    EXPECT_FALSE(made->try_acquire());
}

constexpr bool works_in_a_constant() {
    using clock = std::chrono::steady_clock;
    using time = clock::time_point;
    weir::leaky_bucket_queue<clock, weir::unsynchronized> pace{rate{10, 1s}, 1, {}, time{1h}, clock{}};
    auto a = pace.try_acquire(1, time{1h});
    auto b = pace.try_acquire(1, time{1h});
    auto const c = pace.try_acquire(1, time{1h});
    bool ok = a && b && !c && b.departs_at() == time{1h + 100ms} && c.retry_after() == 100ms;
    return ok && pace.refund(b) == 1 && pace.refund(b) == 0 && pace.available(time{1h}) == 1;
}

TEST(leaky_bucket_queue, works_in_a_constant_expression) { static_assert(works_in_a_constant()); }

TEST(leaky_bucket_queue, spaces_departures_whatever_the_threads_do) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        shared_clock clock;
        weir::leaky_bucket_queue<shared_clock&, counting_atomics> pace{rate{2, 9ns}, 30, clock};
        std::atomic<std::uint64_t> cancelled{0};
        std::atomic<std::uint64_t> late{0};
        auto const all = hammer::gather<departure>(3, seed, 50'000, [&](random_engine& random, auto& mine) {
            if (below(random, 3) == 0) clock.advance(static_cast<std::int64_t>(below(random, 15)));
            permits const n = 1 + below(random, 5);
            auto const t = clock.now();
            auto d = pace.try_acquire(n, t);
            if (!d) return;
            if ((d.departs_at() - t).count() > 1 + 9 * 30 / 2) late.fetch_add(1, std::memory_order_relaxed);
            if (below(random, 4) == 0) {
                // Cancelled: whether its place is used again or left as a gap, it departs no more.
                if (pace.refund(d)) cancelled.fetch_add(1, std::memory_order_relaxed);
            } else {
                mine.push_back({d.departs_at().time_since_epoch().count(), n});
            }
        });
        ASSERT_GT(cancelled.load(), 100U);
        ASSERT_EQ(late.load(), 0U);
        ASSERT_GT(all.size(), 1000U);
        ASSERT_TRUE(are_one_interval_apart(all, 2, 9));
    });
}

TEST(leaky_bucket_queue, settling_cancels_what_was_not_used_and_books_what_was_used_in_addition) {
    manual_clock clock;
    queue q{rate{10, 1s}, 10, clock};
    auto less = q.try_acquire(3);
    EXPECT_TRUE(q.settle(less, 1));
    EXPECT_FALSE(q.settle(less, 1));
    EXPECT_EQ(q.try_acquire().departs_at(), clock.now() + 100ms);  // two of the three are free again
    auto more = q.try_acquire();                                   // departs at 200 ms
    EXPECT_TRUE(q.settle(more, 4));
    EXPECT_EQ(q.try_acquire().departs_at(), clock.now() + 600ms);
    auto same = q.try_acquire();
    EXPECT_FALSE(q.settle(same, -1));
    EXPECT_TRUE(q.settle(same, 1));
    EXPECT_FALSE(q.settle(same, 1));
    EXPECT_EQ(q.refund(same), 0U);
    queue other{rate{10, 1s}, 10, clock};
    auto strange = other.try_acquire();
    EXPECT_FALSE(q.settle(strange, 1));
}

TEST(leaky_bucket_queue, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    queue q{rate{1, 1s}, 2, clock};
    moved::is_the_same_decision(q, clock, 1ms, [&](permits n) { return q.try_acquire(n); });
    queue other{rate{1, 1s}, 2, clock};
    auto a = other.try_acquire();
    auto b = other.try_acquire();
    a = std::move(b);
    EXPECT_EQ(a.departs_at(), clock.now() + 1s);
}

}  // namespace leaky_bucket_queue_test
