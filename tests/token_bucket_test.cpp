// SPDX-License-Identifier: MIT
#include <weir/token_bucket.hpp>

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
#include <ratio>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace gcra_oracle;
using hammer::counting_atomics;
using hammer::shared_clock;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::permits;
using weir::rate;

using bucket = weir::token_bucket<manual_clock&>;
using plain_bucket = weir::token_bucket<manual_clock&, weir::unsynchronized>;

constexpr auto horizon = static_cast<std::int64_t>(weir::gcra::horizon<nanoseconds>());

// ---- deciding ----

TEST(token_bucket, grants_its_burst_and_then_its_rate) {
    manual_clock clock;
    bucket b{rate{10, 1s}, 3, clock};
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(b.try_acquire());
    EXPECT_FALSE(b.try_acquire());
    for (int i = 0; i < 100; ++i) {
        clock.advance(99'999'999ns);
        ASSERT_FALSE(b.try_acquire());
        clock.advance(1ns);
        ASSERT_TRUE(b.try_acquire());
        ASSERT_FALSE(b.try_acquire());
    }
    EXPECT_EQ(b.burst(), 3U);
}

TEST(token_bucket, does_not_forget_the_fraction_of_a_permit) {
    // Burst 10 at 1/s, 10 taken at 0.999 s and one more at 1.000 s is too many; at 1.999 s it is not.
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    clock.advance(999ms);
    ASSERT_TRUE(b.try_acquire(10));
    clock.advance(1ms);
    EXPECT_FALSE(b.try_acquire());
    clock.advance(998ms + 999'999ns);
    EXPECT_FALSE(b.try_acquire());
    clock.advance(1ns);
    EXPECT_TRUE(b.try_acquire());
}

TEST(token_bucket, charges_nothing_for_a_check_and_answers_as_an_attempt_would) {
    random_engine random{3};
    manual_clock clock;
    bucket b{rate{3, 7ns}, 9, clock};
    for (int i = 0; i < 2000; ++i) {
        clock.advance(nanoseconds{below(random, 6)});
        permits const n = below(random, 11);
        auto c = b.check(n);
        auto c2 = b.check(n, clock.now());
        permits const before = b.available();
        ASSERT_EQ(b.refund(c), 0U) << "a check is no grant";
        auto d = b.try_acquire(n);
        ASSERT_EQ(c.granted(), d.granted());
        ASSERT_EQ(c2.granted(), d.granted());
        ASSERT_EQ(c.never(), d.never());
        ASSERT_EQ(c.never(), n > 9);
        if (!d) {
            ASSERT_EQ(c.retry_at(), d.retry_at());
        }
        ASSERT_EQ(before >= n, d.granted());
    }
}

TEST(token_bucket, grants_nothing_at_all_and_takes_nothing_for_it) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 2, {.initial = 0}, clock};
    auto d = b.try_acquire(0);
    EXPECT_TRUE(d.granted());
    EXPECT_EQ(d.retry_at(), clock.now());
    EXPECT_EQ(b.refund(d), 0U);
    EXPECT_FALSE(b.settle(d, 1));
    EXPECT_TRUE(b.check(0));
    EXPECT_EQ(b.available(), 0U);
}

TEST(token_bucket, says_never_to_more_than_its_burst) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 2, clock};
    for (permits n : {permits{3}, permits{1} << 60U, std::numeric_limits<permits>::max()}) {
        auto d = b.try_acquire(n);
        EXPECT_FALSE(d);
        EXPECT_TRUE(d.never());
        EXPECT_EQ(d.retry_at(), manual_clock::time_point::max());
        EXPECT_EQ(d.retry_after(), nanoseconds{horizon});
        EXPECT_EQ(d.retry_after_seconds(), 30 * 31'557'600);
        EXPECT_EQ(d.error(),
                  n == weir::permit_count::invalid_value ? weir::errc::invalid_argument : weir::errc::does_not_fit);
        EXPECT_TRUE(b.check(n).never());
        EXPECT_TRUE(b.reserve(n, 24h * 365).never());
    }
    EXPECT_EQ(b.available(), 2U);
}

TEST(token_bucket, starts_with_what_it_is_told) {
    manual_clock clock{at(12'345)};
    EXPECT_EQ((bucket{rate{1, 1s}, 5, clock}.available()), 5U);
    EXPECT_EQ((bucket{rate{1, 1s}, 5, {}, clock}.available()), 5U);
    EXPECT_EQ((bucket{rate{1, 1s}, 5, {.initial = 3}, clock}.available()), 3U);
    EXPECT_EQ((bucket{rate{1, 1s}, 5, {.initial = 99}, clock}.available()), 5U);
    bucket b{rate{1, 1s}, 5, {.initial = 0}, clock};
    EXPECT_EQ(b.available(), 0U);
    EXPECT_EQ(b.try_acquire().retry_after(), 1s);
    EXPECT_EQ(b.try_acquire(5).retry_after(), 5s);
    clock.advance(1s);
    EXPECT_EQ(b.available(), 1U);
}

TEST(token_bucket, begins_at_the_instant_given) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 5, {.initial = 0}, at(10'000'000'000), clock};
    EXPECT_EQ(b.available(at(10'999'999'999)), 0U);
    EXPECT_EQ(b.available(at(11'000'000'000)), 1U);
}

TEST(token_bucket, what_is_available_can_be_taken_one_by_one) {
    manual_clock clock;
    bucket b{rate{3, 1s}, 10, clock};
    clock.advance(1h + 1ns);
    permits const n = b.available();
    EXPECT_EQ(n, 9U) << "the rate earns no whole unit a tick";
    EXPECT_TRUE(b.check(10)) << "one call takes the whole burst";
    for (permits i = 0; i < n; ++i) {
        auto const d = b.try_acquire();
        EXPECT_TRUE(d) << i;
        EXPECT_EQ(d.remaining(), n - 1 - i);
    }
    EXPECT_FALSE(b.try_acquire());
}

// ---- time ----

TEST(token_bucket, is_not_confused_by_time_that_goes_back) {
    manual_clock clock{at(1'000)};
    bucket b{rate{1, 10ns}, 4, clock};
    clock.advance(1us);
    ASSERT_TRUE(b.try_acquire(4));
    clock.turn_back(at(1'500));
    auto d = b.try_acquire();
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), at(2'010));
    EXPECT_EQ(b.available(), 0U);
    EXPECT_EQ(b.available(at(2'040)), 4U);
}

TEST(token_bucket, counts_time_before_construction_as_construction) {
    manual_clock clock{at(1'000'000)};
    bucket b{rate{1, 10ns}, 4, clock};
    EXPECT_TRUE(b.try_acquire(4, at(0)));
    auto d = b.try_acquire(1, at(-5));
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), at(1'000'010));
    EXPECT_EQ(d.retry_after(), 1'000'015ns);
    EXPECT_FALSE(b.try_acquire(1, at(1'000'009)));
    EXPECT_TRUE(b.try_acquire(1, at(1'000'010)));
}

TEST(token_bucket, counts_time_before_construction_as_construction_where_it_would_wrap) {
    using limits = std::numeric_limits<std::int64_t>;
    manual_clock clock{at(limits::max() - 10'000'000'000)};
    bucket b{rate{1, 1s}, 4, {.initial = 0}, clock};
    EXPECT_EQ(b.available(at(limits::min())), 0U);
    EXPECT_FALSE(b.try_acquire(1, at(limits::min())));
    EXPECT_EQ(b.try_acquire(1, at(limits::min())).retry_at(), clock.now() + 1s);
}

TEST(token_bucket, takes_any_time_point) {
    using limits = std::numeric_limits<std::int64_t>;
    for (std::int64_t origin : {limits::min(), limits::min() + 1, std::int64_t{-1}, std::int64_t{0}, std::int64_t{1},
                                limits::max() - 1, limits::max()}) {
        for (std::int64_t t : {limits::min(), limits::min() + 1, std::int64_t{-1}, std::int64_t{0}, std::int64_t{1},
                               limits::max() - 1, limits::max()}) {
            manual_clock clock{at(origin)};
            bucket b{rate{1, 1s}, 4, clock};
            SCOPED_TRACE(testing::Message() << "origin " << origin << " t " << t);
            EXPECT_EQ(b.available(at(t)), 4U);
            auto d = b.try_acquire(4, at(t));
            EXPECT_TRUE(d);
            EXPECT_EQ(d.retry_at(), at(t));
            auto e = b.try_acquire(1, at(t));
            EXPECT_FALSE(e);
            EXPECT_GT(e.retry_at(), at(t) - (t == limits::min() ? 0ns : 1ns));
            EXPECT_GT(e.retry_after(), 0ns);
            auto r = b.reserve(4, nanoseconds::max(), at(t));
            if (r) {
                EXPECT_GE(r.starts_at(), at(t));
            }
            (void)b.check(4, at(t));
            b.refund(d);
            (void)b.change({rate{2, 1s}, 3}, at(t));
            b.available(at(t));
        }
    }
}

/// A clock that counts in 32 bits and will soon have no more of them.
struct narrow_clock {
    using duration = std::chrono::duration<std::int32_t, std::ratio<1>>;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<narrow_clock, duration>;
    static time_point now() { return time_point{duration{2'147'483'000}}; }
};

TEST(token_bucket, says_max_for_an_instant_that_the_clock_cannot_name) {
    weir::token_bucket b{rate{1, std::chrono::hours{1}}, 1, {}, narrow_clock{}};
    ASSERT_TRUE(b.try_acquire());
    EXPECT_EQ(b.try_acquire().retry_at(), narrow_clock::time_point::max());
    EXPECT_EQ(b.try_acquire().retry_after().count(), 30 * 31'557'600);
    EXPECT_EQ(b.try_acquire(1, narrow_clock::time_point::min()).retry_after().count(), 30 * 31'557'600);
    EXPECT_FALSE(b.try_acquire(1, narrow_clock::time_point::max()).never());
}

TEST(token_bucket, stands_still_beyond_30_years) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    EXPECT_TRUE(b.try_acquire(10, at(horizon - 5'000'000'000)));
    EXPECT_EQ(b.available(at(horizon)), 5U);
    EXPECT_EQ(b.available(at(horizon + 3'000'000'000)), 5U);
    auto d = b.try_acquire(6, at(horizon + 9'000'000'000));
    EXPECT_FALSE(d);
    EXPECT_FALSE(d.never());
    EXPECT_EQ(d.retry_at(), manual_clock::time_point::max());
    EXPECT_TRUE(b.try_acquire(5, at(horizon * 4)));
    EXPECT_FALSE(b.try_acquire(1, manual_clock::time_point::max()));
}

// ---- the promise ----

TEST(token_bucket, keeps_its_promise_in_any_interval_whatever_the_order_of_times) {
    for (auto const& r : gcra_oracle::awkward_rates()) {
        for (std::uint64_t seed = 1; seed <= 60; ++seed) {
            random_engine random{seed};
            permits const burst = 2 + any_size(random, 100);
            SCOPED_TRACE(testing::Message() << r << " burst " << burst << " seed " << seed);
            manual_clock clock;
            bucket b{r.rate, burst, {.initial = below(random, burst + 1)}, clock};
            auto const permit =
                static_cast<std::uint64_t>(std::max<std::int64_t>(1, r.per_tick.ticks / r.per_tick.permits));
            std::vector<grant> granted;
            std::int64_t t = 0;
            for (int i = 0; i < 400 && t < horizon; ++i) {
                t += static_cast<std::int64_t>(below(random, 3) == 0 ? below(random, 2 * permit)
                                                                     : below(random, 1 + permit / 8));
                std::int64_t const back =
                    below(random, 4) == 0
                        ? t - static_cast<std::int64_t>(any_size(random, static_cast<std::uint64_t>(t)))
                        : t;
                permits const n = 1 + any_size(random, burst - 1);
                if (b.try_acquire(n, at(back))) granted.push_back({back, n});
            }
            ASSERT_EQ(excess(granted, r.per_tick, burst), 0);
        }
    }
}

TEST(token_bucket, loses_less_than_a_permit_in_30_years) {
    for (auto const& r : gcra_oracle::awkward_rates()) {
        manual_clock clock;
        // Thirty steps of a year: the burst of two years is never full.
        gcra_oracle::i128 const year = horizon / 30;
        auto const burst = static_cast<permits>(2 * year * r.per_tick.permits / r.per_tick.ticks + 2);
        auto made = bucket::make(r.rate, burst, {.initial = 0}, clock);
        ASSERT_TRUE(made) << r << ": " << made.error().message();
        random_engine random{5};
        permits taken = 0;
        for (std::int64_t t = 0; t < horizon;) {
            t = std::min(horizon,
                         t + static_cast<std::int64_t>(below(random, static_cast<std::uint64_t>(2 * year - 1))));
            permits const n = made->available(at(t));
            ASSERT_TRUE(made->try_acquire(n, at(t)));
            taken += n;
            ASSERT_EQ(taken,
                      static_cast<permits>(static_cast<gcra_oracle::i128>(t) * r.per_tick.permits / r.per_tick.ticks))
                << r << " at " << t;
        }
    }
}

TEST(token_bucket, loses_nothing_to_callers_that_come_at_retry_at) {
    // Every rate is reached by single permits at their first ticks: the k-th after the burst comes at ⌈k/rate⌉, or a
    // unit later.
    for (auto const& r : gcra_oracle::awkward_rates()) {
        manual_clock clock;
        bucket b{r.rate, 2, {.initial = 0}, clock};
        for (int k = 1; k <= 500; ++k) {
            auto d = b.try_acquire();
            if (!d) {
                if (d.retry_at() == manual_clock::time_point::max()) break;
                clock.advance_to(d.retry_at());
                ASSERT_TRUE(b.try_acquire());
            }
            gcra_oracle::i128 const exact =
                (static_cast<gcra_oracle::i128>(k) * r.per_tick.ticks + r.per_tick.permits - 1) / r.per_tick.permits;
            ASSERT_EQ(ticks(clock.now()), static_cast<std::int64_t>(exact)) << r << " permit " << k;
        }
    }
}

// ---- refunds ----

TEST(token_bucket, takes_a_refund_once) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 5, clock};
    clock.advance(1h);
    auto d = b.try_acquire(3);
    ASSERT_EQ(b.available(), 2U);
    EXPECT_EQ(b.refund(d), 3U) << "no more than it took, however long the bucket was idle";
    EXPECT_EQ(b.available(), 5U);
    EXPECT_EQ(b.refund(d), 0U);
    EXPECT_FALSE(b.settle(d, 9));
    EXPECT_EQ(b.available(), 5U);
    auto e = b.try_acquire(5);
    EXPECT_EQ(b.refund(d), 0U);
    EXPECT_EQ(b.available(), 0U);
    auto moved = std::move(e);
    EXPECT_EQ(b.refund(e), 0U);  // NOLINT: a decision that was moved from gives nothing back
    EXPECT_EQ(b.refund(moved, 2), 2U);
    EXPECT_EQ(b.refund(moved, 99), 3U);
    EXPECT_EQ(b.refund(moved), 0U);
    EXPECT_EQ(b.available(), 5U);
    auto denied = b.try_acquire(6);
    EXPECT_EQ(b.refund(denied), 0U);
}

TEST(token_bucket, keeps_the_receipt_of_a_decision_that_is_moved_onto_itself) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 5, clock};
    auto d = b.try_acquire(3);
    auto& same = d;
    d = std::move(same);
    EXPECT_EQ(b.refund(d), 3U);
    auto e = b.try_acquire(1);
    auto f = b.try_acquire(2);
    e = std::move(f);
    EXPECT_EQ(b.refund(e), 2U);
    EXPECT_EQ(b.available(), 4U);
}

TEST(token_bucket, takes_refunds_again_and_again) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 100, clock};
    auto a = b.try_acquire(50);
    for (int i = 0; i < 50; ++i) {
        auto d = b.try_acquire(1);
        ASSERT_EQ(b.refund(a, 1), 1U) << i;
        ASSERT_EQ(b.refund(d), 1U) << i;
    }
    EXPECT_EQ(b.available(), 100U);
}

TEST(token_bucket, takes_no_refund_of_another_buckets_decision) {
    manual_clock clock;
    bucket a{rate{1, 1s}, 5, clock};
    bucket b{rate{1, 1s}, 5, clock};
    auto d = a.try_acquire(3);
    (void)b.try_acquire(3);
    EXPECT_EQ(b.refund(d), 0U);
    EXPECT_FALSE(b.settle(d, 1));
    EXPECT_EQ(b.available(), 2U);
    EXPECT_EQ(a.refund(d), 3U);
}

TEST(token_bucket, gives_back_what_is_certain_and_no_more) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    auto a = b.try_acquire(6);
    auto c = b.try_acquire(2);
    clock.advance(2s);
    EXPECT_EQ(b.available(), 4U);
    EXPECT_EQ(b.refund(a), 4U);  // 6 less the 2 that were earned since
    EXPECT_EQ(b.available(), 8U);
    EXPECT_EQ(b.refund(c), 0U);
}

TEST(token_bucket, gives_back_the_last_charge_whole) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    (void)b.try_acquire(8);
    auto a = b.try_acquire(1);
    auto c = b.try_acquire(1);
    clock.advance(500ms);
    EXPECT_EQ(b.refund(c), 1U);
    EXPECT_EQ(b.refund(a), 1U) << "it is the last one again";
    EXPECT_EQ(b.available(at(0)), 2U);
    EXPECT_EQ(b.available(), 2U);
}

TEST(token_bucket, is_not_deceived_by_a_word_that_came_back) {
    // Refunds are counted in two bits; four of a part bring the same word back with other permits behind it.
    manual_clock clock;
    bucket b{rate{1, 1ns}, 10, clock};
    std::vector<grant> live;
    auto p = b.try_acquire(5);
    auto a = b.try_acquire(1);
    ASSERT_EQ(b.refund(p), 5U);
    clock.advance(1ns);
    ASSERT_TRUE(b.try_acquire(4));
    live.push_back({1, 4});
    clock.advance(4ns);
    for (int i = 0; i < 3; ++i) {
        auto d = b.try_acquire(1);
        ASSERT_TRUE(d);
        auto e = b.try_acquire(1);
        b.refund(d);
        b.refund(e);
    }
    if (b.available() == 5) {
        ASSERT_TRUE(b.try_acquire(1));
        live.push_back({5, 1});
    }
    b.refund(a);
    permits const rest = b.available();
    ASSERT_TRUE(b.try_acquire(rest));
    live.push_back({5, rest});
    EXPECT_EQ(excess(live, {1, 1}, 10), 0);
}

/// Thousands of runs of everything that can be done with receipts, against the promise over what was granted and not
/// refunded.
template <class Bucket>
void refund_in_every_way(bool reservations, bool parts, bool past, std::uint64_t seeds) {
    std::uint64_t refunded = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        random_engine random{seed};
        // Where there are reservations the rate is one per q ticks, so that their exact moments are ticks.
        auto const q = static_cast<std::int64_t>(1 + below(random, 4));
        auto const p = reservations ? std::int64_t{1}
                                    : static_cast<std::int64_t>(1 + below(random, static_cast<std::uint64_t>(q)));
        permits const burst = 3 + below(random, 10);
        manual_clock clock;
        Bucket b{rate{static_cast<permits>(p), nanoseconds{q}}, burst, clock};
        struct held {
            typename Bucket::decision d;
            std::size_t index;
            permits live;
        };
        std::vector<held> holds;
        std::vector<grant> granted;
        auto const steps = 5 + below(random, 40);
        for (std::uint64_t i = 0; i < steps; ++i) {
            auto const what = below(random, 10);
            permits const n = 1 + below(random, burst);
            if (what < 2) {
                clock.advance(nanoseconds{below(random, static_cast<std::uint64_t>(3 * q))});
            } else if (what < 5) {
                auto t = clock.now();
                if (past && below(random, 3) == 0) t -= nanoseconds{below(random, static_cast<std::uint64_t>(5 * q))};
                auto d = b.try_acquire(n, t);
                if (!d) continue;
                granted.push_back({std::max<std::int64_t>(0, ticks(t)), n});
                holds.push_back({std::move(d), granted.size() - 1, n});
            } else if (what < 7) {
                if (!reservations) continue;
                auto d = b.reserve(n, nanoseconds{below(random, static_cast<std::uint64_t>(20 * q))});
                if (!d) continue;
                granted.push_back({ticks(d.starts_at()), n});
                holds.push_back({std::move(d), granted.size() - 1, n});
            } else if (!holds.empty()) {
                auto const j =
                    static_cast<std::size_t>(below(random, 2) == 0 ? holds.size() - 1 : below(random, holds.size()));
                auto& h = holds[j];
                permits const k = parts ? 1 + below(random, h.live) : h.live;
                permits const back =
                    below(random, 4) == 0 ? (b.settle(h.d, h.live - k) ? h.live = k : 0) : b.refund(h.d, k);
                ASSERT_LE(back, h.live) << "seed " << seed;
                refunded += back;
                granted[h.index].n -= k;
                h.live -= k;
                if (h.d.granted() && h.live == 0) {
                    ASSERT_EQ(b.refund(h.d), 0U) << "seed " << seed;
                    holds.erase(holds.begin() + static_cast<std::ptrdiff_t>(j));
                } else {
                    // A settled one gives nothing more; its rest stays used.
                    if (b.settle(h.d, h.live)) holds.erase(holds.begin() + static_cast<std::ptrdiff_t>(j));
                }
            }
        }
        // What is left of credit must be covered by the promise too.
        for (int i = 0; i < 6; ++i) {
            permits const n = b.available();
            ASSERT_TRUE(b.try_acquire(n));
            granted.push_back({ticks(clock.now()), n});
            clock.advance(nanoseconds{below(random, static_cast<std::uint64_t>(8 * q))});
        }
        ASSERT_EQ(excess(granted, {p, q}, burst), 0)
            << "seed " << seed << " rate " << p << '/' << q << " burst " << burst;
    }
    ASSERT_GT(refunded, seeds / 8);
}

TEST(token_bucket, keeps_its_promise_when_grants_are_refunded) {
    refund_in_every_way<bucket>(false, false, false, 20'000);
}
TEST(token_bucket, keeps_its_promise_when_parts_are_refunded) {
    refund_in_every_way<bucket>(false, true, false, 20'000);
}
TEST(token_bucket, keeps_its_promise_when_grants_of_the_past_are_refunded) {
    refund_in_every_way<bucket>(false, true, true, 20'000);
}
TEST(token_bucket, keeps_its_promise_when_reservations_are_cancelled) {
    refund_in_every_way<bucket>(true, false, true, 20'000);
}
TEST(token_bucket, keeps_its_promise_when_parts_of_reservations_are_cancelled) {
    refund_in_every_way<bucket>(true, true, false, 20'000);
}

// ---- settling ----

TEST(token_bucket, settles_once_at_less_at_the_same_and_at_more) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    auto less = b.try_acquire(4);
    EXPECT_TRUE(b.settle(less, 1));
    EXPECT_EQ(b.available(), 9U);
    EXPECT_FALSE(b.settle(less, 1));
    EXPECT_EQ(b.refund(less), 0U);
    auto same = b.try_acquire(2);
    EXPECT_TRUE(b.settle(same, 2));
    EXPECT_FALSE(b.settle(same, 0));
    EXPECT_EQ(b.available(), 7U);
    auto more = b.try_acquire(2);
    EXPECT_TRUE(b.settle(more, 11));  // 9 more than the 5 that are left: a debt of 4
    EXPECT_FALSE(b.settle(more, 12));
    EXPECT_EQ(b.available(), 0U);
    EXPECT_EQ(b.try_acquire().retry_after(), 5s);
    EXPECT_EQ(b.try_acquire(10).retry_after(), 14s);
}

TEST(token_bucket, bears_any_overrun) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    for (permits actual : {permits{1} << 40U, permits{1} << 62U, std::numeric_limits<permits>::max() - 1}) {
        clock.advance(1s);
        bucket fresh{rate{1, 1s}, 10, clock};
        auto d = fresh.try_acquire();
        EXPECT_TRUE(fresh.settle(d, actual));
        EXPECT_EQ(fresh.available(), 0U);
        auto denied = fresh.try_acquire();
        EXPECT_FALSE(denied);
        EXPECT_FALSE(denied.never());
        EXPECT_GT(denied.retry_at(), clock.now() + 24h * 365);
        EXPECT_EQ(fresh.available(at(horizon)), 0U);
        EXPECT_FALSE(fresh.reserve(1, 24h * 365 * 10));
        EXPECT_TRUE(fresh.change({rate{1, 1s}, 20})) << "a debt that does not fit is no reason to forget it";
        EXPECT_EQ(fresh.available(at(horizon)), 0U);
    }
}

// ---- reservations ----

TEST(token_bucket, reserves_in_order_and_at_the_first_moment) {
    manual_clock clock;
    bucket b{rate{10, 1s}, 2, clock};
    EXPECT_EQ(b.reserve(1, 0ns).starts_at(), at(0));
    EXPECT_EQ(b.reserve(1, 0ns).starts_at(), at(0));
    EXPECT_FALSE(b.reserve(1, 99'999'999ns));
    EXPECT_EQ(b.reserve(1, 100ms).starts_at(), at(100'000'000));
    EXPECT_EQ(b.reserve(2, 1s).starts_at(), at(300'000'000));
    EXPECT_EQ(b.reserve(1, 1s).starts_at(), at(400'000'000));
    EXPECT_FALSE(b.try_acquire(1, at(499'999'999)));
    EXPECT_TRUE(b.try_acquire(1, at(500'000'000)));
}

TEST(token_bucket, refuses_a_wait_that_is_too_long_before_anything_changes) {
    for (std::uint64_t seed = 1; seed <= 500; ++seed) {
        random_engine random{seed};
        auto const& rates = gcra_oracle::awkward_rates();
        auto const& r = rates[static_cast<std::size_t>(below(random, rates.size()))];
        permits const burst = 2 + any_size(random, 30);
        manual_clock clock;
        bucket b{r.rate, burst, clock};
        bucket same{r.rate, burst, clock};
        auto const permit =
            static_cast<std::uint64_t>(std::max<std::int64_t>(1, r.per_tick.ticks / r.per_tick.permits));
        std::int64_t last = 0;
        for (int i = 0; i < 30; ++i) {
            SCOPED_TRACE(testing::Message() << r << " burst " << burst << " seed " << seed << " step " << i);
            clock.advance(nanoseconds{below(random, permit)});
            permits const n = 1 + below(random, burst);
            nanoseconds const wait{static_cast<std::int64_t>(below(random, 3 * permit)) - 1};
            auto d = b.reserve(n, wait);
            if (d) {
                ASSERT_LE(d.starts_at(), clock.now() + std::max(wait, 0ns));
                ASSERT_GE(d.starts_at(), clock.now());
                ASSERT_GE(ticks(d.starts_at()), last) << "first booked, first served";
                last = ticks(d.starts_at());
                ASSERT_TRUE(same.reserve(n, wait));
            } else {
                // The same wait would do at retry_at and not before.
                auto const again = d.retry_at();
                if (again != manual_clock::time_point::max()) {
                    ASSERT_GT(again, clock.now());
                    ASSERT_EQ(d.retry_after(), again - clock.now());
                    bucket early{r.rate, burst, {}, at(0), clock};
                    ASSERT_FALSE(b.reserve(n, wait, again - 1ns));
                }
            }
            for (auto t : {clock.now(), clock.now() + nanoseconds{permit}, clock.now() + nanoseconds{7 * permit}}) {
                ASSERT_EQ(b.available(t), same.available(t));
                ASSERT_EQ(b.check(burst, t).retry_at(), same.check(burst, t).retry_at());
            }
            if (!d && d.retry_at() != manual_clock::time_point::max() && below(random, 2) == 0) {
                clock.advance_to(d.retry_at());
                auto const now_it_does = b.reserve(n, wait);
                ASSERT_TRUE(now_it_does);
                ASSERT_TRUE(same.reserve(n, wait));
                last = ticks(now_it_does.starts_at());
            }
        }
    }
}

TEST(token_bucket, gives_back_the_last_reservation_whole_and_leaves_the_gap_of_another) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 1, clock};
    ASSERT_TRUE(b.reserve(1, 0s));
    auto one = b.reserve(1, 10s);
    auto two = b.reserve(1, 10s);
    auto three = b.reserve(1, 10s);
    ASSERT_EQ(three.starts_at(), at(3'000'000'000));
    clock.advance(500ms);
    EXPECT_EQ(b.refund(one), 0U) << "its moment is one interval before the next: nothing of it is certain";
    EXPECT_EQ(b.check().retry_at(), at(4'000'000'000));
    EXPECT_EQ(b.refund(three), 1U);
    EXPECT_EQ(b.check().retry_at(), at(3'000'000'000));
    EXPECT_EQ(b.refund(two), 1U) << "it is the last one now";
    EXPECT_EQ(b.check().retry_at(), at(2'000'000'000));
    EXPECT_EQ(b.refund(three), 0U);
    auto again = b.reserve(1, 10s);
    EXPECT_EQ(again.starts_at(), at(2'000'000'000));
    EXPECT_TRUE(b.settle(again, 0));
    EXPECT_EQ(b.check().retry_at(), at(2'000'000'000));
}

TEST(token_bucket, settles_a_reservation_at_more) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 2, {.initial = 0}, clock};
    auto d = b.reserve(1, 10s);
    ASSERT_EQ(d.starts_at(), at(1'000'000'000));
    EXPECT_TRUE(b.settle(d, 4));
    EXPECT_EQ(b.check().retry_at(), at(5'000'000'000));
}

TEST(token_bucket, reserves_nothing_at_once) {
    manual_clock clock{at(5)};
    bucket b{rate{1, 1s}, 2, {.initial = 0}, clock};
    auto d = b.reserve(0, -1s);
    EXPECT_TRUE(d);
    EXPECT_EQ(d.starts_at(), clock.now());
    EXPECT_EQ(b.refund(d), 0U);
}

// ---- changing ----

TEST(token_bucket, keeps_credit_and_debt_when_its_rate_changes) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    ASSERT_TRUE(b.try_acquire(4));
    EXPECT_FALSE(b.change({rate{10, 1s}, 20}));
    EXPECT_EQ(b.burst(), 20U);
    EXPECT_EQ(b.available(), 6U) << "a greater burst is earned, not given";
    clock.advance(1s);
    EXPECT_EQ(b.available(), 16U);
    EXPECT_FALSE(b.change({rate{1, 2s}, 3}));
    EXPECT_EQ(b.available(), 3U);
    ASSERT_TRUE(b.try_acquire(3));
    auto d = b.try_acquire();
    EXPECT_EQ(d.retry_after(), 2s);
    EXPECT_TRUE(b.try_acquire(4).never());
    // A debt of 5 at 1 per 2 s is a debt of 5 at 1 per 1 s.
    auto over = b.reserve(1, 1min);
    ASSERT_TRUE(b.settle(over, 5));
    EXPECT_EQ(b.check().retry_after(), 12s);
    EXPECT_FALSE(b.change({rate{1, 1s}, 3}));
    EXPECT_GE(b.check().retry_after(), 6s);
    EXPECT_LE(b.check().retry_after(), 12s);
}

TEST(token_bucket, keeps_bookings_when_its_rate_changes) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 1, {.initial = 0}, clock};
    auto d = b.reserve(1, 1h);
    for (int i = 0; i < 5; ++i) d = b.reserve(1, 1h);
    ASSERT_EQ(d.starts_at(), at(6'000'000'000));
    EXPECT_FALSE(b.change({rate{1000, 1s}, 5}));
    EXPECT_GE(b.check().retry_at(), at(6'000'000'000));
    EXPECT_LE(b.check().retry_at(), at(6'002'000'000));
    EXPECT_EQ(b.refund(d), 0U) << "it was made under another rate";
}

TEST(token_bucket, refunds_no_grant_made_before_a_change_even_back_to_the_same_rate) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    auto d = b.try_acquire(4);
    for (int i = 0; i < 8; ++i) {
        EXPECT_FALSE(b.change({rate{1, 1s}, 10}));
        EXPECT_EQ(b.available(), 6U);
    }
    EXPECT_EQ(b.refund(d), 0U);
    EXPECT_EQ(b.available(), 6U);
    auto e = b.try_acquire(6);
    EXPECT_EQ(b.refund(e), 6U);
}

TEST(token_bucket, changes_nothing_when_it_refuses_a_change) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    ASSERT_TRUE(b.try_acquire(4));
    EXPECT_TRUE(b.change({rate{1, 1s}, 0}));
    EXPECT_TRUE(b.change({rate{5, 1ns}, 3}));
    EXPECT_EQ(b.burst(), 10U);
    EXPECT_EQ(b.available(), 6U);
    EXPECT_NE(b.change({rate{1, 1s}, 0}), weir::errc::busy);
}

TEST(token_bucket, answers_of_a_decision_stay_when_the_limits_change) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 3, clock};
    ASSERT_TRUE(b.try_acquire(3));
    auto d = b.try_acquire(3);
    auto const as_before = [&](auto const& of) {
        EXPECT_EQ(of.retry_at(), at(3'000'000'000));
        EXPECT_EQ(of.retry_after(), 3s);
        EXPECT_EQ(of.remaining(), 0U);
        EXPECT_EQ(of.full_at(), at(3'000'000'000));
    };
    EXPECT_FALSE(b.change({rate{1, 1s}, 2}));
    as_before(d);
    clock.advance(10s);
    EXPECT_FALSE(b.change({rate{1, 1s}, 3}));
    ASSERT_TRUE(b.try_acquire(2));
    clock.turn_back(at(0));
    // Three changes bring another configuration into the slot that this one was made under.
    EXPECT_FALSE(b.change({rate{1, 1s}, 3}, at(10'000'000'000)));
    auto const e = b.try_acquire(2, at(11'000'000'000));
    auto const g = b.try_acquire(1, at(12'000'000'000));
    ASSERT_TRUE(g);
    for (int i = 0; i < 7; ++i) {
        EXPECT_FALSE(e);
        EXPECT_EQ(e.retry_at(), at(12'000'000'000)) << i;
        EXPECT_EQ(e.remaining(), 1U) << i;
        EXPECT_EQ(e.full_at(), at(13'000'000'000)) << i;
        EXPECT_EQ(g.retry_at(), at(12'000'000'000)) << i;
        EXPECT_EQ(g.retry_after(), 0s) << i;
        EXPECT_EQ(g.remaining(), 1U) << i;
        EXPECT_EQ(g.full_at(), at(14'000'000'000)) << i;
        EXPECT_FALSE(b.change({rate{static_cast<permits>(1000 + i), 1s}, 7}));
        as_before(d);
    }
}

TEST(token_bucket, keeps_its_promise_across_changes) {
    // Rates of one per q, q a divisor of 60, so that what they earn is counted in sixtieths of a permit.
    for (std::uint64_t seed = 1; seed <= 4000; ++seed) {
        random_engine random{seed};
        std::int64_t const divisors[] = {1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60};
        manual_clock clock;
        std::int64_t q = divisors[below(random, 12)];
        permits burst = 1 + below(random, 12);
        plain_bucket b{rate{1, nanoseconds{q}}, burst, clock};
        std::int64_t earned = 0;  // since the start
        std::int64_t taken = 0;
        // For each instant: 60·burst + earned, and what had been taken before; the least of their difference bounds all
        // that follows.
        std::int64_t least = std::numeric_limits<std::int64_t>::max();
        for (int i = 0; i < 120; ++i) {
            auto const what = below(random, 8);
            // An interval may begin now: it grants no more than the burst in force and what is earned from now on.
            least = std::min(least, 60 * static_cast<std::int64_t>(burst) - earned + taken);
            if (what < 3) {
                auto const step = static_cast<std::int64_t>(below(random, 40));
                clock.advance(nanoseconds{step});
                earned += step * (60 / q);
            } else if (what < 4) {
                q = divisors[below(random, 12)];
                burst = 1 + below(random, 12);
                permits const had = b.available();
                ASSERT_FALSE(b.change({rate{1, nanoseconds{q}}, burst}));
                ASSERT_EQ(b.available(), std::min(had, burst)) << "seed " << seed;
            } else {
                permits const n = 1 + below(random, burst);
                if (b.try_acquire(n)) taken += 60 * static_cast<std::int64_t>(n);
                ASSERT_LE(taken - earned, least) << "seed " << seed << " step " << i;
            }
        }
    }
}

// ---- construction ----

TEST(token_bucket, is_refused_with_the_reason_where_its_promise_could_not_be_kept) {
    manual_clock clock;
    auto const why = [&](rate r, permits burst) {
        try {
            bucket b{r, burst, clock};
        } catch (std::invalid_argument const& e) {
            EXPECT_EQ(e.what(), std::string{bucket::validate(r, burst).message()});
            EXPECT_FALSE(bucket::make(r, burst, clock));
            EXPECT_EQ(e.what(), std::string{bucket::make(r, burst, clock).error().message()});
            return std::string{e.what()};
        }
        EXPECT_FALSE(bucket::validate(r, burst));
        EXPECT_TRUE(bucket::make(r, burst, clock));
        return std::string{};
    };
    EXPECT_EQ(why({1, 1s}, 1), "");
    EXPECT_EQ(why({1, 24h}, 213'505), "");
    EXPECT_NE(why({1, 1s}, 0), "");
    EXPECT_NE(why({1, 1s}, permits{1} << 60U), "");
    EXPECT_NE(why({2, 1ns}, 1000), "");
    EXPECT_NE(why({1'000'000'007, 1s}, 1), "") << "a tick earns more than one";
    EXPECT_NE(why({1, 1s}, std::numeric_limits<permits>::max()), "");
}

struct slow_clock {
    using duration = nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<slow_clock>;
    duration step{4ms};
    time_point now() const noexcept { return {}; }
    duration resolution() const noexcept { return step; }
};

TEST(token_bucket, refuses_a_clock_that_is_too_coarse) {
    EXPECT_NO_THROW((weir::token_bucket{rate{1000, 1s}, 4, slow_clock{}}));
    EXPECT_THROW((weir::token_bucket{rate{1000, 1s}, 3, slow_clock{}}), std::invalid_argument);
    slow_clock coarser{8ms};
    EXPECT_THROW((weir::token_bucket{rate{1000, 1s}, 4, coarser}), std::invalid_argument);
    EXPECT_FALSE((weir::token_bucket<slow_clock>::make(rate{1000, 1s}, 3)));
    EXPECT_FALSE((weir::token_bucket<slow_clock&>::make(rate{1000, 1s}, 4, coarser)));
    EXPECT_TRUE((weir::token_bucket<slow_clock>::make(rate{1000, 1s}, 4, {.initial = 0}, slow_clock{})));
    weir::token_bucket b{rate{1000, 1s}, 4, slow_clock{}};
    EXPECT_TRUE(b.change({rate{1000, 1s}, 3}));
    EXPECT_EQ(b.burst(), 4U);
}

struct still_clock {
    using duration = nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<still_clock>;
    static constexpr time_point now() noexcept { return {}; }
};

constexpr bool works_in_a_constant() {
    using time = still_clock::time_point;
    weir::token_bucket<still_clock, weir::unsynchronized> b{rate{10, 1s}, 2, {}, time{1h}, still_clock{}};
    bool ok = b.try_acquire(2, time{1h}).granted() && b.available(time{1h}) == 0;
    auto const d = b.try_acquire(1, time{1h});
    ok = ok && !d && !d.never() && d.retry_after() == 100ms && d.retry_at() == time{1h + 100ms};
    ok = ok && b.check(1, time{1h + 100ms}) && b.reserve(1, 1s, time{1h}).starts_at() == time{1h + 100ms};
    ok = ok && !b.change({rate{1, 1s}, 7}, time{1h + 1s}) && b.burst() == 7;
    return ok && b.available(time{1h + 1s}) == 2;
}

TEST(token_bucket, works_in_a_constant_expression) { static_assert(works_in_a_constant()); }

// ---- threads ----

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

TEST(token_bucket, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    bucket b{weir::rate{1, 1s}, 3, clock};
    moved::is_the_same_decision(b, clock, 1ms, [&](weir::permits n) { return b.try_acquire(n); });
}

TEST(token_bucket, asks_for_one_permit_where_none_is_named) {
    manual_clock clock;
    bucket l{weir::rate{1, 1s}, 1, clock};
    EXPECT_TRUE(l.check());
    EXPECT_FALSE(l.check(2));
    EXPECT_TRUE(l.try_acquire());
    EXPECT_FALSE(l.check());
}

TEST(gcra_state, a_time_point_is_exact_to_the_end_of_its_clock_and_is_that_end_beyond) {
    using time_point = manual_clock::time_point;
    using weir::detail::time_since;
    constexpr std::uint64_t last = std::numeric_limits<std::int64_t>::max();
    for (std::uint64_t const t : {std::uint64_t{0}, std::uint64_t{1} << 61U, std::uint64_t{1} << 62U, last}) {
        EXPECT_EQ(time_since<time_point>(0, t), time_point{nanoseconds{static_cast<std::int64_t>(t)}}) << t;
    }
    EXPECT_EQ(time_since<time_point>(0, last + 1), time_point::max());
    EXPECT_EQ(time_since<time_point>(1, last), time_point::max());
    EXPECT_EQ(time_since<time_point>(-1, last), time_point::max() - 1ns);
}

}  // namespace
