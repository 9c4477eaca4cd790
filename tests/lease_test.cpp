// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/leaky_bucket.hpp>
#include <weir/lease.hpp>
#include <weir/sliding_window_counter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "support/move_semantics.hpp"
#include "support/stress.hpp"

namespace lease_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::lease;
using weir::lease_options;
using weir::manual_clock;
using weir::permits;
using weir::rate;
using bucket = weir::token_bucket<manual_clock&>;

static_assert(weir::leasable<weir::token_bucket<>>);
static_assert(weir::leasable<weir::leaky_bucket<>>);
static_assert(weir::leasable<weir::sliding_window_log<>>);
static_assert(weir::leasable<weir::sliding_window_counter<>>);
static_assert(!std::is_copy_constructible_v<lease<bucket>>);
static_assert(weir::decision<lease<bucket>::decision> && weir::limiter<lease<bucket>>);

/// Spends until it is refused; returns how many.
template <class Lease>
permits drain(Lease& l) {
    permits n = 0;
    while (l.try_acquire()) ++n;
    return n;
}

TEST(lease, spends_its_slice_without_touching_the_limiter) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 100, clock};
    lease mine{b, {.slice = 8, .age = 1s}};
    // Slices begin at 1 and double: 1, 2, 4, 8, 8.
    permits expected = 100;
    permits left = 0;
    permits next = 1;
    for (int i = 0; i < 23; ++i) {
        if (left == 0) {
            left = next;
            expected -= next;
            next = std::min<permits>(next * 2, 8);
        }
        ASSERT_TRUE(mine.try_acquire());
        --left;
        ASSERT_EQ(b.available(), expected) << i;
        ASSERT_EQ(mine.left(), left);
    }
}

TEST(lease, all_that_the_limiter_has_can_be_had_through_one) {
    manual_clock clock;
    bucket b{rate{1, 1h}, 1000, clock};
    lease mine{b, {.slice = 64, .age = 1s}};
    EXPECT_EQ(drain(mine), 1000u);
    EXPECT_EQ(b.available(), 0u);
}

TEST(lease, what_is_left_goes_back_when_it_ends) {
    manual_clock clock;
    bucket b{rate{1, 1h}, 100, clock};
    {
        lease mine{b, {.slice = 32, .age = 1s}};
        for (int i = 0; i < 20; ++i) ASSERT_TRUE(mine.try_acquire());
        EXPECT_LT(b.available(), 80u);
    }
    EXPECT_EQ(b.available(), 80u);
}

TEST(lease, what_is_left_goes_back_when_asked) {
    manual_clock clock;
    bucket b{rate{1, 1h}, 100, clock};
    lease mine{b, {.slice = 32, .age = 1s}};
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(mine.try_acquire());
    permits const left = mine.left();
    ASSERT_GT(left, 0u);
    EXPECT_EQ(mine.give_back(), left);
    EXPECT_EQ(mine.give_back(), 0u);
    EXPECT_EQ(mine.left(), 0u);
    EXPECT_EQ(b.available(), 80u);
}

TEST(lease, a_slice_is_spent_up_to_its_age_and_no_tick_longer) {
    manual_clock clock;
    bucket b{rate{1, 1h}, 100, clock};
    lease mine{b, {.slice = 4, .age = 10ms}};
    ASSERT_TRUE(mine.try_acquire());
    ASSERT_TRUE(mine.try_acquire());  // takes two, so that one is left
    ASSERT_EQ(mine.left(), 1u);
    ASSERT_EQ(b.available(), 97u);
    clock.advance(10ms);
    ASSERT_TRUE(mine.try_acquire());
    EXPECT_EQ(b.available(), 97u);
    ASSERT_TRUE(mine.try_acquire());  // takes four
    ASSERT_EQ(b.available(), 93u);
    clock.advance(10ms + 1ns);
    ASSERT_TRUE(mine.try_acquire());
    // The three that were left went back, and two were taken: it needs fewer.
    EXPECT_EQ(mine.left(), 1u);
    EXPECT_EQ(b.available(), 94u);
}

TEST(lease, of_a_bucket_loses_what_would_have_been_refilled_meanwhile) {
    manual_clock clock;
    bucket b{rate{1000, 1s}, 100, clock};
    lease mine{b, {.slice = 32, .age = 1s}};
    for (int i = 0; i < 40; ++i) ASSERT_TRUE(mine.try_acquire());
    permits const left = mine.left();
    ASSERT_EQ(left, 23u);
    (void)b.try_acquire();  // another's, so that the slice is not the last charge
    clock.advance(15ms);
    // The receipt was of 32: 32 − 15 are certain, and 23 of them left.
    EXPECT_EQ(mine.give_back(), 17u);
}

TEST(lease, takes_what_is_asked_where_a_slice_is_not_to_be_had) {
    manual_clock clock;
    bucket b{rate{1, 1h}, 10, clock};
    lease mine{b, {.slice = 64, .age = 1s}};
    EXPECT_TRUE(mine.try_acquire(7));
    EXPECT_TRUE(mine.try_acquire(3));
    EXPECT_FALSE(mine.try_acquire());
}

TEST(lease, a_refusal_is_the_limiters) {
    manual_clock clock;
    bucket b{rate{10, 1s}, 3, clock};
    lease mine{b, {.slice = 4, .age = 1s}};
    EXPECT_EQ(drain(mine), 3u);
    auto const d = mine.try_acquire();
    ASSERT_FALSE(d);
    EXPECT_FALSE(d.never());
    EXPECT_EQ(d.retry_after(), 100ms);
    EXPECT_EQ(d.retry_at(), clock.now() + 100ms);
    clock.advance(100ms - 1ns);
    EXPECT_FALSE(mine.try_acquire());
    clock.advance(1ns);
    EXPECT_TRUE(mine.try_acquire());
    EXPECT_TRUE(mine.try_acquire(4).never());
    EXPECT_FALSE(mine.try_acquire(0).never());
    EXPECT_TRUE(mine.try_acquire(0));
}

TEST(lease, answers_of_a_decision_stay_as_they_were) {
    manual_clock clock;
    bucket b{rate{10, 1s}, 3, clock};
    lease mine{b, {.slice = 2, .age = 1s}};
    auto const first = mine.try_acquire();
    EXPECT_EQ(first.retry_at(), clock.now());
    EXPECT_EQ(first.retry_after(), 0s);
    ASSERT_TRUE(mine.try_acquire(2));
    auto const denied = mine.try_acquire(3);
    auto const never = mine.try_acquire(4);
    clock.advance(1h);
    ASSERT_TRUE(mine.try_acquire());
    EXPECT_FALSE(b.change({rate{1, 1h}, 9}));
    EXPECT_EQ(denied.retry_at() - first.retry_at(), 300ms);
    EXPECT_EQ(denied.retry_after(), 300ms);
    EXPECT_EQ(denied.retry_after_seconds(), 1);
    EXPECT_EQ(denied.remaining(), 0U);
    EXPECT_TRUE(never.never());
    EXPECT_EQ(never.error(), weir::errc::does_not_fit);
    EXPECT_EQ(first.retry_at(), manual_clock::time_point{});
}

TEST(lease, settles_a_spend_out_of_its_slice_and_charges_the_rest_as_debt) {
    manual_clock clock;
    bucket b{rate{1, 1h}, 100, clock};
    lease mine{b, {.slice = 4, .age = 1s}};
    while (mine.left() < 2) ASSERT_TRUE(mine.try_acquire());
    permits const left = mine.left();
    permits const shared = b.available();
    auto less = mine.try_acquire(2);
    EXPECT_TRUE(mine.settle(less, 1));
    EXPECT_FALSE(mine.settle(less, 1));
    EXPECT_EQ(mine.left(), left - 1);
    EXPECT_FALSE(mine.settle(less, -1));
    auto more = mine.try_acquire();
    permits const has = mine.left();
    EXPECT_TRUE(mine.settle(more, 1 + has + 5)) << "the slice has some of it, and the limiter charges 5";
    EXPECT_EQ(mine.left(), 0U);
    EXPECT_EQ(b.available(), shared - 5);
    EXPECT_EQ(mine.give_back(), 0U);
}

TEST(lease, check_answers_by_the_slice_or_the_limiter_and_takes_nothing) {
    manual_clock clock;
    bucket b{rate{1, 1h}, 10, clock};
    lease mine{b, {.slice = 4, .age = 1s}};
    auto const& look = mine;
    EXPECT_TRUE(look.check(10));
    EXPECT_EQ(look.available(), 10U);
    while (mine.left() < 2) ASSERT_TRUE(mine.try_acquire());
    permits const left = mine.left();
    EXPECT_TRUE(look.check(left));
    EXPECT_TRUE(look.check(11).never());
    EXPECT_EQ(mine.left(), left);
    EXPECT_EQ(look.limits(), b.limits());
    EXPECT_FALSE(mine.change({rate{1, 1h}, 20}));
    EXPECT_EQ(b.burst(), 20U);
}

TEST(lease, a_spend_is_refunded_into_its_slice_once) {
    manual_clock clock;
    bucket b{rate{1, 1h}, 100, clock};
    lease mine{b, {.slice = 8, .age = 1s}};
    ASSERT_TRUE(mine.try_acquire());
    auto d = mine.try_acquire();
    ASSERT_EQ(mine.left(), 1u);
    EXPECT_EQ(mine.refund(d), 1u);
    EXPECT_EQ(mine.refund(d), 0u);
    EXPECT_EQ(mine.left(), 2u);
    auto e = mine.try_acquire();
    mine.give_back();
    EXPECT_EQ(mine.refund(e), 0u);
    lease other{b, {.slice = 8, .age = 1s}};
    auto f = other.try_acquire();
    EXPECT_EQ(mine.refund(f), 0u);
    lease third{b, {.slice = 8, .age = 1s}};
    auto g = third.try_acquire();  // as many slices as the other has had
    EXPECT_EQ(other.refund(g), 0u);
    auto moved = std::move(f);
    EXPECT_EQ(other.refund(f), 0u);
    EXPECT_EQ(other.refund(moved), 1u);
}

TEST(lease, who_needs_few_holds_few) {
    manual_clock clock;
    bucket b{rate{100, 1s}, 1000, clock};
    lease mine{b, {.slice = 64, .age = 10ms}};
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(mine.try_acquire());
    for (int i = 0; i < 10; ++i) {
        clock.advance(1s);
        ASSERT_TRUE(mine.try_acquire());
    }
    EXPECT_LE(mine.left(), 1u);
}

TEST(lease, a_limiter_that_has_few_is_asked_for_few) {
    manual_clock clock;
    bucket b{rate{10, 1s}, 10, clock};
    lease mine{b, {.slice = 64, .age = 1h}};
    EXPECT_EQ(drain(mine), 10u);  // 1, 2, 4; then one by one, where 8, 4 and 2 were not available
    clock.advance(1s);
    ASSERT_TRUE(mine.try_acquire());
    EXPECT_EQ(mine.left(), 0u);
    EXPECT_EQ(b.available(), 9u);
}

TEST(lease, nothing_asked_takes_nothing) {
    manual_clock clock;
    bucket b{rate{10, 1s}, 10, clock};
    lease mine{b};
    EXPECT_TRUE(mine.try_acquire(0));
    EXPECT_EQ(b.available(), 10u);
}

TEST(lease, refuses_what_it_cannot_hold) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 1, clock};
    EXPECT_THROW((lease{b, {.slice = 0}}), std::invalid_argument);
    EXPECT_THROW((lease{b, {.age = 0ns}}), std::invalid_argument);
    EXPECT_THROW((lease{b, {.age = -1ns}}), std::invalid_argument);
}

// ---- the promise, over the times at which permits are spent ----

struct spent {
    std::int64_t t;
    permits n;
};

/// No interval that begins and ends with a spend holds more than is allowed for its length.
template <class Allowed>
void expect_within(std::vector<spent> all, Allowed allowed) {
    std::sort(all.begin(), all.end(), [](spent const& a, spent const& b) { return a.t < b.t; });
    for (std::size_t i = 0; i < all.size(); ++i) {
        permits sum = 0;
        for (std::size_t j = i; j < all.size(); ++j) {
            sum += all[j].n;
            if (j + 1 < all.size() && all[j + 1].t == all[j].t) continue;
            ASSERT_LE(sum, allowed(all[j].t - all[i].t)) << "from " << all[i].t << " to " << all[j].t;
        }
    }
}

struct run {
    std::vector<spent> all;
    bool lapsed = false;  // a slice was cut off by its age
};

/// `m` leases in one thread's hands, each at its own pace, that are refunded, given back, and replaced at times.
template <class Limiter>
run play(Limiter& l, manual_clock& clock, std::size_t m, lease_options o, std::uint64_t seed, int steps) {
    std::mt19937_64 rng{seed};
    std::deque<lease<Limiter>> leases;
    for (std::size_t i = 0; i < m; ++i) leases.emplace_back(l, o);
    run r;
    for (int i = 0; i < steps; ++i) {
        clock.advance(nanoseconds{rng() % 8 == 0 ? rng() % 20'000'000 : rng() % 200'000});
        auto& mine = leases[rng() % 4 == 0 ? static_cast<std::size_t>(rng() % m) : 0];
        permits const n = rng() % 10 == 0 ? 1 + rng() % 3 : 1;
        permits const before = mine.left();
        auto d = mine.try_acquire(n);
        r.lapsed = r.lapsed || (before >= n && d.granted() && mine.left() != before - n);
        if (d && rng() % 10 == 0) {
            mine.refund(d);
        } else if (d) {
            r.all.push_back({clock.now().time_since_epoch().count(), n});
        }
        if (rng() % 40 == 0) mine.give_back();
    }
    return r;
}

TEST(lease_promise, of_a_bucket_holds_both_ways_over_random_schedules) {
    bool lapsed = false;
    for (std::uint64_t seed = 0; seed < 150; ++seed) {
        manual_clock clock;
        bucket b{rate{1000, 1s}, 50, clock};
        std::size_t const m = 1 + seed % 4;
        permits const slice = 1 + seed % 17;
        auto const age = nanoseconds{(1 + static_cast<std::int64_t>(seed) % 7) * 3'000'000};
        auto const r = play(b, clock, m, {.slice = slice, .age = age}, seed, 600);
        lapsed = lapsed || r.lapsed;
        expect_within(r.all, [&](std::int64_t T) {
            auto const earned = [](std::int64_t t) { return static_cast<permits>(t / 1'000'000); };
            return 50 + std::min(earned(T + age.count()), earned(T) + m * slice);
        });
    }
    EXPECT_TRUE(lapsed);
}

TEST(lease_promise, of_windows_holds_over_random_schedules) {
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
        std::size_t const m = 1 + seed % 4;
        permits const slice = 1 + seed % 9;
        lease_options const o{.slice = slice,
                              .age = nanoseconds{(1 + static_cast<std::int64_t>(seed) % 5) * 4'000'000}};
        auto const in_a_window = [&](std::int64_t T) { return T < 50'000'000 ? 40 + m * slice : ~permits{0}; };
        manual_clock clock;
        weir::sliding_window_log<manual_clock&> log{40, 50ms, clock};
        expect_within(play(log, clock, m, o, seed, 600).all, in_a_window);
        weir::sliding_window_counter<manual_clock&> counter{40, 50ms, clock};
        expect_within(play(counter, clock, m, o, seed, 600).all, in_a_window);
    }
}

// As bad as it gets: slices are held, and spent together with a full bucket. No lower bound would hold.
TEST(lease_promise, is_met_to_the_permit) {
    manual_clock clock;
    constexpr permits slice = 8;
    constexpr std::size_t m = 3;
    bucket b{rate{1000, 1s}, 30, clock};
    std::deque<lease<bucket>> leases;
    for (std::size_t i = 0; i < m; ++i) leases.emplace_back(b, lease_options{.slice = slice, .age = 100ms});
    for (auto& l : leases) {
        while (l.left() != slice - 1) {
            ASSERT_TRUE(l.try_acquire());
            clock.advance(1ms);
        }
    }
    clock.advance(70ms);  // all are young enough, and the bucket is full
    ASSERT_EQ(b.available(), 30u);
    permits sum = 0;
    for (auto& l : leases) {
        while (l.left() != 0) {
            ASSERT_TRUE(l.try_acquire());
            ++sum;
        }
    }
    while (b.try_acquire()) ++sum;
    EXPECT_EQ(sum, 30 + m * (slice - 1));
}

// Many threads: what is spent and what comes back is all that was taken.
TEST(lease, threads_lose_and_gain_nothing) {
    manual_clock clock;
    bucket b{rate{1, 24h * 365}, 100'000, clock};
    std::atomic<permits> sum{0};
    hammer::on_threads(3, 1, [&](std::size_t, auto& rng) {
        lease mine{b, {.slice = 16, .age = 1s}};
        permits n = 0;
        for (int k = 0; k < 20'000; ++k) {
            permits const want = 1 + rng() % 3;
            auto d = mine.try_acquire(want);
            if (!d) continue;
            n += want;
            if (rng() % 8 == 0) n -= mine.refund(d);
        }
        sum += n;
    });
    EXPECT_EQ(b.available(), 100'000 - sum);
}

TEST(lease, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    bucket b{rate{1, 1s}, 3, clock};
    lease<bucket> mine{b, lease_options{.slice = 3, .age = 1min}};
    auto c = mine.try_acquire(4);
    ASSERT_FALSE(c);
    auto const refused = moved::said_by(c);
    auto a = mine.try_acquire(2);
    ASSERT_TRUE(a);
    auto& itself = a;
    a = std::move(itself);
    auto const said = moved::said_by(a);
    auto made = std::move(c);
    EXPECT_EQ(moved::said_by(made), refused);
    made = std::move(a);
    EXPECT_EQ(moved::said_by(made), said);
    EXPECT_EQ(mine.refund(a), 0U) << "moved from";  // NOLINT(bugprone-use-after-move): that is the point
    EXPECT_EQ(mine.refund(made), 2U);
    EXPECT_EQ(mine.refund(made), 0U) << "once";
}

TEST(lease, what_is_never_granted_leaves_the_slice) {
    manual_clock clock;
    bucket all{rate{1, 1s}, 10, clock};
    lease mine{all, {.slice = 4, .age = 1h}};
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(mine.try_acquire());
    ASSERT_GT(mine.left(), 0U);
    permits const left = mine.left();
    permits const shared = all.available();
    auto const d = mine.try_acquire(1000);
    EXPECT_TRUE(d.never());
    EXPECT_TRUE(d.error());
    EXPECT_TRUE(mine.try_acquire(1000, clock.now()).never());
    EXPECT_EQ(mine.left(), left);
    EXPECT_EQ(all.available(), shared);
}

}  // namespace lease_test
