// SPDX-License-Identifier: MIT
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <weir/clock/manual_clock.hpp>

#include "support/gcra_oracle.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace token_bucket_refund_test {

using namespace std::chrono_literals;
using namespace gcra_oracle;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::permits;
using weir::rate;

using bucket = weir::token_bucket<manual_clock&>;

constexpr auto horizon = static_cast<std::int64_t>(weir::gcra::horizon<nanoseconds>());

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

TEST(token_bucket, gives_back_a_reservation_once_all_behind_it_are_cancelled) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 1, clock};
    ASSERT_TRUE(b.reserve(1, 0s));
    auto one = b.reserve(1, 10s);
    auto two = b.reserve(1, 10s);
    auto three = b.reserve(1, 10s);
    ASSERT_EQ(three.starts_at(), at(3'000'000'000));
    clock.advance(500ms);
    EXPECT_EQ(b.refund(one), 0U) << "two others are booked behind it";
    EXPECT_EQ(b.check().retry_at(), at(4'000'000'000));
    EXPECT_EQ(b.refund(three), 1U);
    EXPECT_EQ(b.check().retry_at(), at(3'000'000'000));
    EXPECT_EQ(b.refund(two), 1U) << "it is the last one now";
    EXPECT_EQ(b.check().retry_at(), at(1'000'000'000)) << "and one, which was cancelled before, goes back with it";
    EXPECT_EQ(b.refund(three), 0U);
    auto again = b.reserve(1, 10s);
    EXPECT_EQ(again.starts_at(), at(1'000'000'000));
    EXPECT_TRUE(b.settle(again, 0));
    EXPECT_EQ(b.check().retry_at(), at(1'000'000'000));
}

TEST(token_bucket, has_no_gap_when_all_reservations_are_cancelled_in_order) {
    manual_clock clock;
    bucket b{rate{1, 10s}, 1, clock};
    ASSERT_TRUE(b.try_acquire());
    std::vector<bucket::reservation> all;
    for (int i = 0; i < 6; ++i) all.push_back(b.reserve(1, 1min));
    ASSERT_EQ(all.back().starts_at(), at(0) + 60s);
    for (auto& d : all) EXPECT_EQ(b.refund(d), &d == &all.back() ? 1U : 0U);
    EXPECT_EQ(b.reserve(1, 1min).starts_at(), at(0) + 10s);
}

/// Grants and reservations of any size, of which all that have not begun are cancelled in some order, or in parts.
void cancel_all_that_wait(std::uint64_t seed) {
    random_engine random{seed};
    manual_clock clock{at(static_cast<std::int64_t>(below(random, 1'000)))};
    permits const burst = 1 + below(random, below(random, 4) == 0 ? 300 : 8);
    auto const q = static_cast<std::int64_t>(1'000 + below(random, 1'000'000));
    bucket b{rate{1, nanoseconds{q}}, burst, clock};
    bucket without{rate{1, nanoseconds{q}}, burst, clock};
    auto const stay = below(random, 4);
    std::vector<bucket::reservation> cancelled;
    for (std::uint64_t i = 0; i < 100; ++i) {
        permits const n = 1 + below(random, 1 + burst / 2);
        auto d = b.reserve(n, 24h);
        ASSERT_TRUE(d);
        if (i < stay || d.starts_at() <= clock.now()) {
            ASSERT_TRUE(without.reserve(n, 24h));
            clock.advance(nanoseconds{below(random, static_cast<std::uint64_t>(q))});
        } else {
            cancelled.push_back(std::move(d));
        }
    }
    auto const order = below(random, 3);
    if (order == 0) std::reverse(cancelled.begin(), cancelled.end());
    if (order == 1) std::shuffle(cancelled.begin(), cancelled.end(), random);
    bool const parts = below(random, 2) == 0;
    for (auto& d : cancelled) {
        if (parts) b.refund(d, 1);
        b.refund(d);
    }
    ASSERT_EQ(b.check(burst).retry_at(), without.check(burst).retry_at());
}

TEST(token_bucket, is_as_if_never_reserved_when_all_reservations_are_cancelled) {
    for (std::uint64_t seed = 1; seed <= 2'000; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        cancel_all_that_wait(seed);
        if (testing::Test::HasFatalFailure()) return;
    }
}

TEST(token_bucket, takes_no_reservation_back_whose_time_has_come_for_one_still_ahead) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 1, {.initial = 0}, clock};
    auto one = b.reserve(1, 10s);
    auto two = b.reserve(1, 10s);
    auto three = b.reserve(1, 10s);
    clock.advance(1s);
    EXPECT_EQ(b.refund(one), 0U) << "its time has come, and others are booked behind it";
    EXPECT_EQ(b.refund(two), 0U);
    EXPECT_EQ(b.refund(three), 1U);
    EXPECT_EQ(b.check().retry_at(), at(2'000'000'000));
}

TEST(token_bucket, takes_the_rest_of_a_reservation_for_no_other_that_ends_where_it_ended) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 2, {.initial = 0}, clock};
    auto one = b.reserve(2, 10s);
    ASSERT_EQ(b.refund(one, 1), 1U);
    ASSERT_TRUE(b.reserve(1, 10s));
    clock.advance(2s);
    b.refund(one);
    EXPECT_EQ(b.available(), 1U) << "the other counts";
}

TEST(token_bucket, keeps_reservations_apart_after_a_refund_in_part) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 10, clock};
    auto grant = b.try_acquire(10);
    auto one = b.reserve(1, 10s);
    auto two = b.reserve(1, 10s);
    ASSERT_EQ(b.refund(grant), 8U) << "what is certain, since two are booked behind it";
    EXPECT_EQ(b.refund(one), 0U);
    EXPECT_EQ(b.refund(two), 1U);
    EXPECT_EQ(b.available(), 7U) << "two of the grant were not certain, and one reservation's gap stays";
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

}  // namespace token_bucket_refund_test
