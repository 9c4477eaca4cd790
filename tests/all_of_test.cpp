// SPDX-License-Identifier: MIT
#include <weir/all_of.hpp>

#include <gtest/gtest.h>

#include <weir/clock/manual_clock.hpp>
#include <weir/sliding_window_counter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>
#include <memory>
#include <random>
#include <vector>

#include "support/exact_log.hpp"
#include "support/gcra_oracle.hpp"
#include "support/stress.hpp"

namespace all_of_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::permits;
using bucket = weir::token_bucket<manual_clock&>;
using counter = weir::sliding_window_counter<manual_clock&>;

static_assert(weir::limiter<weir::all_of<bucket&, counter&>>);
static_assert(!std::is_copy_constructible_v<weir::all_of<bucket&>::decision>);

TEST(all_of, grants_only_what_every_part_has) {
    manual_clock clock;
    bucket a{weir::rate{10, 1s}, 5, clock};
    counter b{3, 1s, clock};
    weir::all_of both{a, b};
    EXPECT_EQ(both.available(), 3U);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(both.try_acquire());
    auto const d = both.try_acquire();
    EXPECT_FALSE(d);
    EXPECT_EQ(d.denied_by(), 1U);
    EXPECT_FALSE(d.never());
}

TEST(all_of, charges_nothing_when_one_part_denies) {
    manual_clock clock;
    bucket a{weir::rate{10, 1s}, 5, clock};
    counter b{3, 1s, clock};
    weir::all_of both{a, b};
    ASSERT_TRUE(b.try_acquire(3));
    EXPECT_FALSE(both.try_acquire());
    EXPECT_EQ(a.available(), 5U);
    EXPECT_EQ(b.available(), 0U);
}

TEST(all_of, says_what_it_would_answer_and_charges_nothing_for_it) {
    manual_clock clock;
    bucket a{weir::rate{1, 1s}, 5, clock};
    counter b{3, 1s, clock};
    weir::all_of both{a, b};
    EXPECT_TRUE(both.check());
    EXPECT_TRUE(both.check(3));
    EXPECT_FALSE(both.check(4));
    EXPECT_EQ(both.check(4).denied_by(), 1U);
    EXPECT_EQ(a.available(), 5U);
    EXPECT_EQ(b.available(), 3U);
    ASSERT_TRUE(both.try_acquire(2));
    EXPECT_TRUE(both.check()) << "one";
    ASSERT_TRUE(both.try_acquire());
    EXPECT_FALSE(both.check());
    EXPECT_EQ(both.check().retry_at(), both.try_acquire().retry_at());
}

TEST(all_of, charges_each_part_its_own_cost) {
    manual_clock clock;
    bucket requests{weir::rate{10, 1s}, 5, clock};
    bucket tokens{weir::rate{1000, 1s}, 1000, clock};
    weir::all_of both{requests, tokens};
    auto d = both.try_acquire({1, 400});
    ASSERT_TRUE(d);
    EXPECT_EQ(d.remaining_of_each(), (std::array<std::optional<permits>, 2>{4, 600}));
    EXPECT_EQ(d.remaining(), 4U);
    EXPECT_EQ(d.denied_by(), both.size);
    EXPECT_FALSE(both.try_acquire({1, 601}));
    EXPECT_TRUE(both.try_acquire({0, 600}));
    EXPECT_EQ(requests.available(), 4U);
}

TEST(all_of, denies_until_the_latest_retry_at_of_its_parts_and_grants_at_it) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        SCOPED_TRACE(seed);
        std::mt19937_64 rng{seed};
        manual_clock clock;
        bucket a{weir::rate{1 + rng() % 50, 1s}, 1 + rng() % 9, clock};
        bucket b{weir::rate{1 + rng() % 50, 1s}, 1 + rng() % 9, clock};
        counter c{1 + rng() % 9, 1s, clock};
        weir::all_of all{a, c, b};
        for (int i = 0; i < 60; ++i) {
            clock.advance(std::chrono::nanoseconds{rng() % 300'000'000});
            auto const n = 1 + rng() % 4;
            auto const d = all.try_acquire(n);
            if (d.granted()) continue;
            if (d.never()) {
                EXPECT_TRUE(n > a.burst() || n > b.burst() || n > c.limit());
                EXPECT_EQ(d.retry_after_seconds(), 30 * 31'557'600LL);
                continue;
            }
            EXPECT_FALSE(all.check(n, d.retry_at() - 1ns));
            EXPECT_TRUE(all.check(n, d.retry_at()));
            EXPECT_EQ(d.retry_after(), d.retry_at() - clock.now());
        }
    }
}

TEST(all_of, asks_a_limiter_that_appears_twice_for_the_sum) {
    manual_clock clock;
    bucket a{weir::rate{1, 1s}, 3, clock};
    weir::all_of twice{a, a};
    ASSERT_TRUE(twice.try_acquire());
    EXPECT_EQ(a.available(), 1U);
    auto const d = twice.try_acquire();
    ASSERT_FALSE(d);
    EXPECT_EQ(d.retry_after(), 1s);  // at which there are two
    EXPECT_TRUE(twice.check(1, d.retry_at()));
    EXPECT_TRUE(twice.try_acquire({1, 0}));
    EXPECT_TRUE(twice.try_acquire(2).never());
    EXPECT_TRUE(twice.try_acquire({~permits{0}, ~permits{0}}).never());
}

TEST(all_of, flattens_what_is_nested_and_merges_across_the_nesting) {
    manual_clock clock;
    bucket a{weir::rate{1, 1s}, 4, clock};
    bucket b{weir::rate{1, 1s}, 9, clock};
    weir::all_of inner{a, b};
    weir::all_of outer{a, inner};
    static_assert(decltype(outer)::size == 3);
    auto d = outer.try_acquire();
    ASSERT_TRUE(d);
    EXPECT_EQ(a.available(), 2U);
    EXPECT_EQ(b.available(), 8U);
    EXPECT_EQ(outer.available(), 1U);
    EXPECT_GT(outer.refund(d), 0U);
    EXPECT_EQ(a.available(), 4U);
    EXPECT_EQ(b.available(), 9U);
}

TEST(all_of, owns_what_it_is_given_in_place_or_by_pointer) {
    manual_clock clock;
    bucket shared{weir::rate{1, 1s}, 9, clock};
    weir::all_of all{weir::own_part{[&] { return bucket{weir::rate{1, 1s}, 2, clock}; }},
                     std::make_unique<counter>(permits{3}, 1s, clock), shared};
    EXPECT_TRUE(all.try_acquire(2));
    EXPECT_FALSE(all.try_acquire());
    EXPECT_EQ(shared.available(), 7U);
}

TEST(all_of, answers_do_not_change_when_the_parts_do) {
    manual_clock clock;
    bucket a{weir::rate{1, 1s}, 2, clock};
    bucket b{weir::rate{1, 2s}, 1, clock};
    weir::all_of both{a, b};
    ASSERT_TRUE(both.try_acquire());
    auto const d = both.try_acquire();
    ASSERT_FALSE(d);
    auto const then = d.retry_at();
    clock.advance(1s);
    ASSERT_FALSE(b.change({weir::rate{100, 1s}, 50}));
    static_cast<void>(a.try_acquire());
    EXPECT_EQ(d.retry_at(), then);
    EXPECT_EQ(d.denied_by(), 1U);
    EXPECT_EQ(d.remaining_of_each(), (std::array<std::optional<permits>, 2>{1, 0}));
    EXPECT_EQ(d.full_at() - then, 0s);
}

TEST(all_of, gives_back_a_part_and_settles_once) {
    manual_clock clock;
    bucket a{weir::rate{1, 1s}, 9, clock};
    bucket b{weir::rate{1, 1s}, 9, clock};
    weir::all_of both{a, b};
    auto d = both.try_acquire(6);
    EXPECT_EQ(both.refund(d, -1), 0U);
    EXPECT_EQ(both.refund(d, 2), 2U);
    EXPECT_EQ(both.available(), 5U);
    EXPECT_TRUE(both.settle(d, 1));
    EXPECT_EQ(both.available(), 8U);
    EXPECT_FALSE(both.settle(d, 1));
    auto seen = both.check(3);
    EXPECT_EQ(both.refund(seen), 0U) << "a check took nothing";
    EXPECT_EQ(both.try_acquire(-1).error(), weir::errc::invalid_argument);
}

TEST(all_of, changes_the_limits_of_all_parts_or_of_none) {
    manual_clock clock;
    bucket a{weir::rate{1, 1s}, 9, clock};
    bucket b{weir::rate{1, 1s}, 9, clock};
    weir::all_of both{a, b};
    auto limits = both.limits();
    std::get<0>(limits).burst = 5;
    EXPECT_FALSE(both.change(limits));
    EXPECT_EQ(a.limits().burst, 5U);
    EXPECT_EQ(b.limits().burst, 9U);
    std::get<0>(limits).burst = 7;
    std::get<1>(limits).burst = 0;
    EXPECT_EQ(both.change(limits), weir::errc::invalid_argument);
    EXPECT_EQ(a.limits().burst, 5U) << "changed back";
}

TEST(all_of, gives_back_once) {
    manual_clock clock;
    bucket a{weir::rate{1, 1s}, 5, clock};
    counter b{5, 1s, clock};
    weir::all_of both{a, b};
    weir::all_of other{a, b};
    auto d = both.try_acquire(2);
    EXPECT_EQ(other.refund(d), 0U);
    EXPECT_EQ(both.refund(d), 2U);
    EXPECT_EQ(both.refund(d), 0U);
    EXPECT_EQ(a.available(), 5U);
    EXPECT_EQ(b.available(), 5U);
    auto denied = both.try_acquire(6);
    EXPECT_EQ(both.refund(denied), 0U);
}

TEST(all_of, grants_nothing_asked_for_and_takes_nothing) {
    manual_clock clock;
    bucket a{weir::rate{1, 1s}, 1, {.initial = 0}, clock};
    weir::all_of one{a};
    EXPECT_TRUE(one.try_acquire(0));
    EXPECT_FALSE(one.try_acquire(1));
}

TEST(all_of, works_on_plain_cells) {
    manual_clock clock;
    weir::token_bucket<manual_clock&, weir::unsynchronized> a{weir::rate{1, 1s}, 2, clock};
    weir::sliding_window_counter<manual_clock&, weir::unsynchronized> b{3, 1s, clock};
    weir::all_of both{a, b};
    EXPECT_TRUE(both.try_acquire(2));
    EXPECT_FALSE(both.try_acquire());
}

// ---- threads ----

using hammer::counting_atomics;
using hammer::shared_clock;

// Two composites over the same parts, named in crossed order, hammered by two threads: each part keeps its promise over
// what was granted, and nothing stays charged after a lost race.
TEST(all_of, crossed_composites_keep_every_promise_and_leave_nothing_charged) {
    hammer::until_collided(40, [](std::uint64_t seed) {
        constexpr permits limit = 40;
        manual_clock clock;
        weir::sliding_window_counter<manual_clock&, counting_atomics> a{limit, 1s, clock};
        weir::sliding_window_counter<manual_clock&, counting_atomics> b{limit, 1s, clock};
        weir::all_of ab{a, b};
        weir::all_of ba{b, a};
        std::uint64_t granted[2] = {};
        auto const run = [&](auto& all, std::uint64_t& mine) {
            for (int i = 0; i < 200; ++i) {
                auto d = all.try_acquire(1, clock.now());
                if (!d) continue;
                if (i % 3 == 0) {
                    all.refund(d);
                } else {
                    ++mine;
                }
            }
        };
        hammer::on_threads(2, seed, [&](std::size_t id, auto&) {
            if (id == 0) {
                run(ab, granted[0]);
            } else {
                run(ba, granted[1]);
            }
        });
        // A denial may be due to an attempt that was then given back, so the two may end below the limit; never above,
        // and nothing stays charged that was not granted.
        EXPECT_LE(granted[0] + granted[1], limit);
        EXPECT_EQ(a.used(), granted[0] + granted[1]);
        EXPECT_EQ(b.used(), granted[0] + granted[1]);
        permits rest = 0;
        while (ab.try_acquire(1, clock.now())) ++rest;
        EXPECT_EQ(granted[0] + granted[1] + rest, limit);
        EXPECT_EQ(a.used(), limit);
        EXPECT_EQ(b.used(), limit);
    });
}

// A part of each kind, in three orders, while time goes on: over what was granted and kept, each keeps its own promise.
TEST(all_of, parts_of_every_kind_keep_their_promises_whatever_the_threads_do) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        shared_clock clock;
        weir::token_bucket<shared_clock&, counting_atomics> rated{weir::rate{1, 10ns}, 20, clock};
        weir::sliding_window_counter<shared_clock&, counting_atomics> wide{400, 6us, {.segments = 6}, clock};
        weir::sliding_window_log<shared_clock&, counting_atomics> exact{30, 300ns, clock};
        weir::all_of first{rated, wide, exact};
        weir::all_of second{exact, rated, wide};
        weir::all_of third{wide, exact, rated};
        std::vector<exact_log::span> granted[3];
        hammer::on_threads(3, seed, [&](std::size_t id, hammer::random_engine& random) {
            auto const run = [&](auto& all) {
                for (int i = 0; i < 20'000; ++i) {
                    if (random() % 4 == 0) clock.advance(static_cast<std::int64_t>(random() % 20));
                    permits const n = 1 + random() % 3;
                    auto const t = clock.now();
                    auto d = all.try_acquire(n, t);
                    if (!d) continue;
                    if (random() % 4 == 0) {
                        static_cast<void>(all.refund(d));
                    } else {
                        // A counter's effective time may be later than the time point, by what others knew meanwhile.
                        granted[id].push_back(
                            {t.time_since_epoch().count(), clock.now().time_since_epoch().count(), n});
                    }
                }
            };
            if (id == 0) return run(first);
            if (id == 1) return run(second);
            run(third);
        });
        std::vector<exact_log::span> spans;
        std::vector<exact_log::grant> grants;
        for (auto const& mine : granted) {
            for (auto const& g : mine) {
                spans.push_back(g);
                grants.push_back({g.first, g.n});
            }
        }
        EXPECT_GT(grants.size(), 1000U);
        EXPECT_EQ(gcra_oracle::excess(grants, {1, 10}, 20), 0);
        EXPECT_LE(exact_log::peak(grants, 300), 30U);
        EXPECT_LE(exact_log::certain_peak(spans, 6001), 400U);
        // A window later nothing of all this is left.
        auto const later = clock.now() + 12us;
        EXPECT_EQ(rated.available(later), 20U);
        EXPECT_EQ(wide.used(later), 0U);
        EXPECT_EQ(exact.available(later), 30U);
    });
}

}  // namespace all_of_test
