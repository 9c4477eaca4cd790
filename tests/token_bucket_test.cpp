// SPDX-License-Identifier: MIT
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <weir/clock/manual_clock.hpp>

#include "support/gcra_oracle.hpp"
#include "support/move_semantics.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>
#include <stdexcept>
#include <string>
#include <vector>

namespace token_bucket_test {

using namespace std::chrono_literals;
using namespace gcra_oracle;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::permits;
using weir::rate;

using bucket = weir::token_bucket<manual_clock&>;

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

}  // namespace token_bucket_test
