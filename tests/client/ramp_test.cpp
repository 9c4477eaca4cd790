// SPDX-License-Identifier: MIT
#include <weir/all_of.hpp>
#include <weir/client/ramp.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/detail/server_queue.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "../support/move_semantics.hpp"
#include "../support/stress.hpp"

namespace ramp_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::ramp_options;
using ramp = weir::ramp<manual_clock&>;
using time_point = manual_clock::time_point;
static_assert(weir::limiter<ramp>);

TEST(ramp, starts_with_one_permit_and_spaces_the_others) {
    manual_clock clock;
    ramp r{{.first = 4}, clock};
    EXPECT_TRUE(r.try_acquire());
    auto d = r.try_acquire();
    EXPECT_FALSE(d);
    EXPECT_FALSE(d.never());
    EXPECT_GT(d.retry_after(), 200ms);
    EXPECT_LE(d.retry_after(), 266ms);
    clock.advance_to(d.retry_at() - 1ns);
    EXPECT_FALSE(r.check(1));
    clock.advance(1ns);
    EXPECT_TRUE(r.check(1));
    EXPECT_TRUE(r.try_acquire());
}

TEST(ramp, no_interval_exceeds_first_or_growth_times_the_mean) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random{seed};
        manual_clock clock;
        auto const first = static_cast<std::uint32_t>(1 + random() % 12);
        auto const growth = static_cast<std::uint32_t>(125 + random() % 200);
        ramp r{{.first = first, .max_first = first, .growth = growth, .max_growth = growth}, clock};
        std::vector<std::int64_t> grants;
        // Busy and idle times by turns; when busy, asked often.
        for (int phase = 0; phase < 12; ++phase) {
            if (random() % 2 == 0) clock.advance(std::chrono::milliseconds{random() % 15'000});
            auto const until = clock.now() + std::chrono::milliseconds{random() % 15'000};
            while (clock.now() < until && grants.size() < 20'000) {
                if (r.try_acquire()) {
                    auto const t = clock.now().time_since_epoch().count();
                    grants.push_back(t);
                    auto const since = [&](std::int64_t w) {
                        return static_cast<std::uint64_t>(grants.end() -
                                                          std::upper_bound(grants.begin(), grants.end(), t - w));
                    };
                    std::uint64_t const second = since(1'000'000'000);
                    std::uint64_t const memory = since(10'000'000'000);
                    // n − 1 < max(first, growth·mean), in integers.
                    ASSERT_LT((second - 1) * 1000, std::max<std::uint64_t>(first * 1000U, growth * memory)) << seed;
                }
                clock.advance(std::chrono::microseconds{1 + random() % 20'000});
            }
        }
        ASSERT_GT(grants.size(), 20U);
    }
}

TEST(ramp, a_burst_verdict_lowers_what_was_in_force_once_an_interval) {
    manual_clock clock;
    ramp r{{.first = 8}, clock};
    auto a = r.try_acquire();
    clock.advance(150ms);
    auto b = r.try_acquire();
    ASSERT_TRUE(a && b);
    EXPECT_TRUE(r.burst(a));
    EXPECT_FALSE(r.burst(a));
    EXPECT_EQ(r.first(), 6U);
    EXPECT_EQ(r.growth(), 150U);
    EXPECT_TRUE(r.burst(b));
    EXPECT_EQ(r.first(), 6U);
    clock.advance(2s);
    auto c = r.try_acquire();
    EXPECT_TRUE(r.burst(c));
    EXPECT_EQ(r.first(), 4U);
    for (int i = 0; i < 40; ++i) {
        clock.advance(2s);
        auto d = r.try_acquire();
        ASSERT_TRUE(d);
        r.burst(d);
    }
    EXPECT_EQ(r.first(), 1U);
}

TEST(ramp, a_burst_verdict_on_the_climb_lowers_growth_and_not_first) {
    manual_clock clock;
    ramp r{{.first = 4, .max_first = 4, .growth = 200, .max_growth = 200}, clock};
    while (r.current(clock.now()) < 20) {
        if (!r.try_acquire()) clock.advance(10ms);
    }
    auto const high = r.current(clock.now());
    while (!r.check(1)) clock.advance(1ms);
    auto d = r.try_acquire();
    ASSERT_TRUE(r.burst(d));
    EXPECT_EQ(r.first(), 4U);
    EXPECT_EQ(r.growth(), 175U);
    clock.advance(130ms);
    EXPECT_LT(r.current(clock.now()), high);
}

TEST(ramp, growth_is_earned_by_use_and_lost_by_rest) {
    manual_clock clock;
    ramp r{{.first = 2, .max_first = 2}, clock};
    clock.advance(1h);
    EXPECT_EQ(r.current(clock.now()), 2U);
    auto const busy = clock.now() + 40s;
    while (clock.now() < busy) {
        auto d = r.try_acquire();
        if (!d) clock.advance_to(d.retry_at());
    }
    EXPECT_GT(r.current(clock.now()), 10U);
    clock.advance(10s);
    EXPECT_EQ(r.current(clock.now()), 2U);
    EXPECT_EQ(r.available(), 2U);
}

TEST(ramp, after_a_refusal_it_learns_in_small_steps) {
    for (bool const of_growth : {true, false}) {
        SCOPED_TRACE(of_growth);
        manual_clock clock;
        ramp r{{.first = 4, .max_first = of_growth ? 4U : 64U, .growth = 150, .max_growth = of_growth ? 400U : 150U},
               clock};
        clock.advance(1h);
        auto const busy = [&](nanoseconds length) {
            auto const end = clock.now() + length;
            while (clock.now() < end) {
                auto d = r.try_acquire();
                if (!d) clock.advance_to(d.retry_at());
            }
        };
        auto const grant = [&] {
            auto d = r.try_acquire();
            while (!d) {
                clock.advance_to(d.retry_at());
                d = r.try_acquire();
            }
            return d;
        };
        if (of_growth) busy(8s);
        auto d = grant();
        ASSERT_TRUE(r.burst(d));
        auto const first = r.first();
        auto const growth = r.growth();
        EXPECT_EQ(first, of_growth ? 4U : 3U);
        busy(20s);
        if (of_growth) {
            EXPECT_GT(r.growth(), growth);
            EXPECT_LE(r.growth(), growth + 10) << "eighths would be 300 by now";
        } else {
            EXPECT_EQ(r.growth(), growth);
            EXPECT_LE(r.first(), first + 1);
        }
    }
}

TEST(ramp, what_never_left_no_longer_counts) {
    manual_clock clock;
    ramp r{{.first = 2, .max_first = 2}, clock};
    for (int i = 0; i < 5000; ++i) {
        auto d = r.try_acquire();
        ASSERT_TRUE(d);
        EXPECT_TRUE(r.refund(d));
        EXPECT_FALSE(r.refund(d));
        EXPECT_FALSE(r.burst(d));
        clock.advance(1ms);
    }
    EXPECT_EQ(r.current(clock.now()), 2U);
    EXPECT_TRUE(r.try_acquire());
}

TEST(ramp, has_available_what_it_would_grant_and_no_more) {
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        std::mt19937_64 random{seed};
        manual_clock clock;
        ramp r{{.first = 4, .max_first = 4}, clock};
        for (int i = 0; i < 2'000; ++i) {
            auto const a = r.available();
            if (a != 0) {
                ASSERT_TRUE(r.check(a)) << "seed " << seed << ", step " << i;
            }
            ASSERT_FALSE(r.check(a + 1)) << "seed " << seed << ", step " << i;
            if (random() % 2 == 0) (void)r.try_acquire(random() % 5);
            clock.advance(nanoseconds{random() % (random() % 16 == 0 ? 5'000'000'000 : 400'000'000)});
        }
    }
}

TEST(ramp, several_at_once_leave_the_gap_that_they_would_have_taken) {
    manual_clock clock;
    ramp r{{.first = 4, .max_first = 4}, clock};
    EXPECT_TRUE(r.try_acquire(5).never());
    EXPECT_TRUE(r.try_acquire(5).error() == weir::errc::does_not_fit);
    EXPECT_EQ(r.try_acquire(5).retry_at(), time_point::max());
    EXPECT_TRUE(r.try_acquire(0));
    EXPECT_TRUE(r.try_acquire(4));
    EXPECT_FALSE(r.try_acquire(1));
    EXPECT_EQ(r.available(), 0U);
    clock.advance(1s);
    EXPECT_FALSE(r.try_acquire(1));  // 4 intervals of spacing, and a sixteenth
    clock.advance(63ms);
    EXPECT_TRUE(r.try_acquire(1));
    auto d = r.check(4);
    EXPECT_FALSE(d);
    EXPECT_GT(d.retry_after(), 1s);
    clock.advance_to(d.retry_at());
    EXPECT_TRUE(r.check(4));
}

TEST(ramp, in_all_of_a_denial_by_the_other_part_charges_nothing) {
    manual_clock clock;
    ramp r{{.first = 2}, clock};
    weir::token_bucket<manual_clock&> bucket{weir::rate{1, 1s}, 1, {.initial = 0}, clock};
    weir::all_of both{bucket, r};
    for (int i = 0; i < 100; ++i) EXPECT_FALSE(both.try_acquire());
    EXPECT_TRUE(r.check(1));
    clock.advance(1s);
    EXPECT_TRUE(both.try_acquire());
    EXPECT_FALSE(r.check(1));
}

TEST(ramp, refuses_bad_arguments_with_a_reason) {
    manual_clock clock;
    EXPECT_FALSE(ramp::validate({}));
    EXPECT_TRUE(ramp::validate({.interval = 0ns}));
    EXPECT_TRUE(ramp::validate({.interval = 63ns}));
    EXPECT_TRUE(ramp::validate({}, 20ms));
    EXPECT_TRUE(ramp::validate({.memory = 2}));
    EXPECT_TRUE(ramp::validate({.memory = 16}));
    EXPECT_TRUE(ramp::validate({.first = 0}));
    EXPECT_TRUE(ramp::validate({.first = 2, .max_first = 1}));
    EXPECT_TRUE(ramp::validate({.growth = 124}));
    EXPECT_TRUE(ramp::validate({.growth = 200, .max_growth = 150}));
    EXPECT_TRUE(ramp::validate({.jitter = -1ns}));
    EXPECT_TRUE(ramp::validate({.interval = 1h + 1ns}));
    EXPECT_TRUE(ramp::validate({.interval = 63s}, 1s));
    EXPECT_TRUE(ramp::validate({.max_first = 50'001}));
    EXPECT_TRUE(ramp::validate({.max_growth = 6'001}));
    EXPECT_TRUE(ramp::validate({.jitter = 1h + 1ns}));
    EXPECT_FALSE(ramp::validate(
        {.interval = 64ns, .memory = 3, .first = 1, .max_first = 1, .growth = 125, .max_growth = 125, .jitter = 0ns}));
    EXPECT_FALSE(ramp::validate({.interval = 1h,
                                 .memory = 15,
                                 .first = 50'000,
                                 .max_first = 50'000,
                                 .growth = 6'000,
                                 .max_growth = 6'000,
                                 .jitter = 1h}));
    EXPECT_FALSE(ramp::validate({.interval = 64s}, 1s));
    EXPECT_THROW((ramp{{.first = 0}, clock}), std::invalid_argument);
}

TEST(ramp, threads_together_get_no_more_than_one) {
    manual_clock clock;
    ramp r{{.first = 5, .max_first = 5, .growth = 200, .max_growth = 200}, clock};
    std::atomic<std::uint64_t> granted{0};
    hammer::on_threads(4, [&] {
        std::uint64_t mine = 0;
        for (int k = 0; k < 30'000; ++k) {
            auto d = r.try_acquire();
            if (d && k % 7 == 0) {
                r.refund(d);
            } else {
                mine += d ? 1U : 0U;
            }
            clock.advance(100us);
        }
        granted += mine;
    });
    auto const seconds = static_cast<std::uint64_t>(clock.now().time_since_epoch() / 1s);
    EXPECT_GE(seconds, 12U);
    std::uint64_t alone = 0;
    {
        manual_clock other;
        ramp one{{.first = 5, .max_first = 5, .growth = 200, .max_growth = 200}, other};
        while (other.now() < clock.now()) {
            alone += one.try_acquire() ? 1U : 0U;
            other.advance(100us);
        }
    }
    EXPECT_GT(granted.load(), 20U);
    EXPECT_LE(granted.load(), alone + alone / 20 + 1);
}

TEST(ramp, works_with_plain_cells_and_its_own_clock) {
    weir::ramp<std::chrono::steady_clock, weir::unsynchronized> plain{};
    EXPECT_TRUE(plain.try_acquire());
    weir::ramp deduced{ramp_options{}};
    EXPECT_TRUE(deduced.try_acquire());
}

TEST(llm_server_queue, the_clients_timeout_grows_by_what_the_server_may_wait) {
    using weir::llm::server_queue;
    static_assert(server_queue::ask(30s, 60s).wait == 30s && server_queue::ask(30s, 60s).timeout == 90s);
    static_assert(server_queue::ask(500s, 60s).wait == 120s && server_queue::ask(500s, 60s).timeout == 180s);
    static_assert(server_queue::ask(1s, 60s).wait == 1s);
    static_assert(server_queue::ask(0s, 60s).wait == 0s && server_queue::ask(0s, 60s).timeout == 60s);
    static_assert(server_queue::ask(-5s, 60s).wait == 0s && server_queue::ask(-5s, 60s).timeout == 60s);
    EXPECT_EQ(server_queue::ask(30s, 0s).timeout, 0s);
    EXPECT_EQ(server_queue::ask(30s, std::chrono::nanoseconds::max()).timeout, std::chrono::nanoseconds::max());
    EXPECT_EQ(server_queue::header, "X-DashScope-Wait-Timeout");
}

TEST(ramp, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    ramp r{{}, clock};
    auto a = r.try_acquire();
    ASSERT_TRUE(a);
    while (r.try_acquire()) {
    }
    clock.advance(1ms);
    auto denied = r.try_acquire();
    ASSERT_FALSE(denied);
    auto const said = moved::said_by(a);
    auto const refused = moved::said_by(denied);
    auto& itself = a;
    a = std::move(itself);
    EXPECT_EQ(moved::said_by(a), said);
    auto made = std::move(denied);
    EXPECT_EQ(moved::said_by(made), refused);
    made = std::move(a);
    EXPECT_EQ(moved::said_by(made), said);
    EXPECT_FALSE(r.refund(a)) << "moved from";  // NOLINT(bugprone-use-after-move): that is the point
    EXPECT_TRUE(r.refund(made));
    EXPECT_FALSE(r.refund(made)) << "once";
}

TEST(ramp, asks_for_one_permit_where_none_is_named) {
    manual_clock clock;
    ramp l{{.first = 2, .max_first = 2}, clock};
    EXPECT_TRUE(l.try_acquire());
    clock.advance(l.check().retry_after());
    EXPECT_TRUE(l.check());
    EXPECT_FALSE(l.check(2));
    EXPECT_TRUE(l.try_acquire());
    EXPECT_FALSE(l.check());
}

TEST(ramp, has_these_defaults) {
    constexpr ramp_options o;
    static_assert(o.interval == 1s && o.memory == 10 && o.first == 2 && o.max_first == 64 && o.growth == 150 &&
                  o.max_growth == 400 && o.jitter == 0s);
}

TEST(ramp, the_second_permit_comes_half_an_interval_after_the_first) {
    manual_clock clock;
    ramp r{{.first = 2, .max_first = 2}, clock};
    clock.advance(10min);
    ASSERT_TRUE(r.try_acquire());
    // 17/16 of a second for two, of which a sixteenth was saved up.
    EXPECT_EQ(r.check().retry_after(), 531'250us - 62'500us);
}

TEST(ramp, a_negative_count_is_denied_and_changes_nothing) {
    manual_clock clock;
    ramp r{{.first = 4}, clock};
    int const minus = -1;
    EXPECT_TRUE(r.try_acquire(minus).never());
    EXPECT_TRUE(r.try_acquire(minus).error() == weir::errc::invalid_argument);
    EXPECT_TRUE(r.check(5).error() == weir::errc::does_not_fit);
    auto d = r.try_acquire(2);
    EXPECT_EQ(r.refund(d, minus), 0U);
    EXPECT_FALSE(r.settle(d, minus));
    EXPECT_EQ(r.refund(d), 2U);
    int const zero = 0;
    EXPECT_TRUE(ramp::validate({.first = minus}));
    EXPECT_TRUE(ramp::validate({.first = zero}));
    EXPECT_THROW((ramp{{.max_first = minus}, clock}), std::invalid_argument);
}

// A twin that is never checked nor denied answers the same.
TEST(ramp, checks_and_denials_change_nothing_at_any_time) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        std::mt19937_64 random{seed};
        manual_clock clock;
        ramp asked{{.first = 4}, clock};
        ramp twin{{.first = 4}, clock};
        for (int i = 0; i < 2'000; ++i) {
            auto const t = clock.now() + nanoseconds{static_cast<std::int64_t>(random() % 20'000'000'000)};
            (void)asked.check(1 + random() % 4, t);
            (void)asked.try_acquire(5, t);
            (void)asked.available(t);
            (void)asked.current(t);
            auto d = asked.try_acquire();
            if (d) {
                ASSERT_TRUE(twin.try_acquire());
            } else {
                ASSERT_EQ(d.retry_at(), twin.check().retry_at());
            }
            ASSERT_EQ(asked.limits(), twin.limits());
            clock.advance(nanoseconds{static_cast<std::int64_t>(random() % 200'000'000)});
        }
    }
}

TEST(ramp, a_decision_is_a_snapshot_with_what_is_left) {
    manual_clock clock;
    ramp r{{.first = 4}, clock};
    auto const a = r.try_acquire();
    EXPECT_EQ(a.retry_after(), 0ns);
    EXPECT_EQ(a.retry_at(), clock.now());
    EXPECT_EQ(a.remaining(), 0U);
    auto const b = r.try_acquire();
    EXPECT_FALSE(b);
    EXPECT_EQ(b.retry_after_seconds(), 1);
    EXPECT_EQ(b.full_at(), a.full_at());
    auto const full = a.full_at();
    EXPECT_EQ(r.available(full), 4U);
    EXPECT_EQ(r.available(full - 1ns), 3U);
    clock.advance(1h);
    (void)r.try_acquire(4);
    EXPECT_EQ(a.full_at(), full);
    EXPECT_EQ(b.remaining(), 0U);
    EXPECT_EQ(r.check(1, time_point::max()).retry_after(), 0ns);
    EXPECT_EQ(r.try_acquire(9, time_point::min()).retry_after(), ramp::duration{std::chrono::seconds{946'728'000}});
}

TEST(ramp, part_of_a_grant_is_refunded_and_settle_corrects_it_once) {
    manual_clock clock;
    ramp r{{.first = 8}, clock};
    auto d = r.try_acquire(6);
    EXPECT_EQ(r.refund(d, 2), 2U);
    EXPECT_EQ(r.refund(d), 4U);
    EXPECT_EQ(r.refund(d), 0U);
    clock.advance(1h);
    auto e = r.try_acquire(6);
    EXPECT_TRUE(r.settle(e, 2));
    EXPECT_FALSE(r.settle(e, 2));
    EXPECT_EQ(r.refund(e), 0U);
    clock.advance(1h);
    auto f = r.try_acquire();
    auto const before = r.try_acquire().retry_at();
    EXPECT_TRUE(r.settle(f, 3));
    EXPECT_GT(r.try_acquire().retry_at(), before + 200ms);
}

TEST(ramp, change_replaces_what_was_learned_and_limits_change_nothing) {
    manual_clock clock;
    ramp r{{.first = 4}, clock};
    EXPECT_EQ(r.limits(), (ramp::limits_type{4, 150}));
    EXPECT_FALSE(r.change(r.limits()));
    EXPECT_FALSE(r.change({9, 200}));
    EXPECT_EQ(r.first(), 9U);
    EXPECT_EQ(r.growth(), 200U);
    EXPECT_TRUE(r.change({65, 200}));
    EXPECT_TRUE(r.change({0, 200}));
    EXPECT_TRUE(r.change({9, 401}));
    int const minus = -1;
    EXPECT_TRUE(r.change({minus, 200}));
    EXPECT_EQ(r.limits(), (ramp::limits_type{9, 200}));
}

TEST(ramp, owns_its_clock_or_refers_to_what_is_passed_by_ref) {
    manual_clock clock;
    weir::ramp r{ramp_options{}, std::ref(clock)};
    static_assert(std::is_same_v<decltype(r), ramp>);
    weir::ramp late{ramp_options{}, time_point{5s}, std::ref(clock)};
    EXPECT_TRUE(late.try_acquire());
    static_assert(std::is_same_v<decltype(weir::ramp{ramp_options{}, std::chrono::steady_clock{}}), weir::ramp<>>);
    EXPECT_TRUE(weir::ramp<>::make({.first = 0}).error());
    EXPECT_TRUE(ramp::make({}, std::ref(clock)));
    EXPECT_TRUE(r.acquire(1));
    EXPECT_FALSE(r.try_acquire_for(1, 0.0s));
}

TEST(llm_server_queue, has_these_bounds) {
    static_assert(weir::llm::server_queue::min_wait == 1s && weir::llm::server_queue::max_wait == 120s);
}

}  // namespace ramp_test
