// SPDX-License-Identifier: MIT
// Races of sliding_window_counter's protocol one by one: boundaries with refunds, changes of the limit, two counters and one limit.
#include "model.hpp"
#include "model_atomic.hpp"

#include <weir/manual_clock.hpp>
#include <weir/sliding_window_counter.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace {

using model::coverage;
using model::options;
using std::chrono::nanoseconds;
using weir::counter_options;
using weir::manual_clock;
using weir::permits;
using time_point = manual_clock::time_point;

time_point at(std::int64_t ns) { return time_point{nanoseconds{ns}}; }

using modelled = weir::sliding_window_counter<manual_clock&, model::atomics>;

/// A counter of two segments of 1000 ticks, and what has been taken where, watched at every grant.
struct world {
    static constexpr std::int64_t length = 1000;
    static constexpr std::uint64_t segments = 2;

    manual_clock clock;
    modelled c;
    std::map<std::uint64_t, permits> live;
    permits limit;
    bool kept = true;
    bool right = true;

    explicit world(permits n) : c{n, nanoseconds{2 * length}, counter_options{.segments = 2}, clock}, limit{n} {}

    // Nothing is shared between an exchange and the book-keeping here, so they are one step.
    modelled::decision take(permits n, std::int64_t segment) {
        auto d = c.try_acquire(n, at(segment * length));
        if (d) {
            live[d.receipt().segment()] += n;
            watch();
        }
        return d;
    }
    void give(modelled::receipt& r, permits k) {
        auto const s = r.segment();
        live[s] -= k;  // before: a refund that has begun may be seen
        c.refund(r, k);
    }
    void watch() {
        for (auto const& [s, n] : live) {
            permits sum = 0;
            for (std::uint64_t i = 0; i <= segments; ++i) sum += live.contains(s + i) ? live.at(s + i) : 0;
            if (sum > limit) kept = false;
        }
    }
    /// The next segment counts exactly what is live, so nothing was lost and nothing leaked.
    bool quiet() {
        auto const t = c.used_as_of(at(0)).as_of + nanoseconds{length};
        c.check(1, t);
        auto const e = static_cast<std::uint64_t>(t.time_since_epoch().count() / length) + 8;
        permits sum = 0;
        for (auto const& [s, n] : live) {
            if (s + segments >= e) sum += n;
        }
        return c.used(t) == sum;
    }
};

using bodies = std::vector<model::body>;

/// Newest stores only, so that what a thread looks up is what is so; `preemptions` where all interleavings are too many.
template <class Setup>
void explore(permits limit, Setup setup, unsigned preemptions = options::unlimited) {
    options p;
    p.name = testing::UnitTest::GetInstance()->current_test_info()->name();
    p.stale = false;
    p.spurious = 0;
    p.preemptions = preemptions;
    std::unique_ptr<world> w;
    auto const o = model::explore(p, [&] {
        w = std::make_unique<world>(limit);
        auto threads = setup(*w);
        return model::scenario{std::move(threads), [&] {
                                   model::check(w->kept, "within the limit");
                                   model::check(w->right, "as the case says");
                                   model::check(w->quiet(), "nothing lost and nothing leaked");
                               }};
    });
    EXPECT_TRUE(o.passed(preemptions == options::unlimited ? coverage::complete : coverage::preemption_bounded)) << o;
    std::cout << o << '\n';
}

TEST(counter_races_model, every_interleaving_keeps_the_limit_when_two_threads_cross_a_boundary) {
    for (std::int64_t ahead : {0, 1, 2, 4}) {
        // To segments of their own, two preemptions; all of those would be millions.
        explore(
            2,
            [&](world& w) {
                w.take(1, 0);
                return bodies{[&] { w.take(1, 1); }, [&, ahead] { w.take(1, ahead); }};
            },
            ahead > 1 ? 2 : options::unlimited);
    }
}

TEST(counter_races_model, every_interleaving_of_a_refund_and_a_boundary_gives_back_exactly) {
    for (std::int64_t ahead : {0, 1, 2, 3}) {
        modelled::receipt r;
        explore(2, [&](world& w) {
            r = std::move(w.take(2, 0).receipt());
            return bodies{[&] { w.give(r, 1); }, [&, ahead] { w.take(1, ahead); }};
        });
    }
}

TEST(counter_races_model, every_interleaving_of_a_refund_at_once_and_a_boundary_never_shows_too_little) {
    for (std::int64_t ahead : {1, 2, 3}) {
        modelled::receipt r;
        explore(4, [&](world& w) {
            r = std::move(w.take(2, 0).receipt());
            w.take(1, 0);
            w.take(1, 1);
            return bodies{[&] {
                              w.live[8] -= 2;
                              w.c.refund_at_once(r);
                          },
                          [&, ahead] {
                              w.take(1, ahead);
                              // At segment 1 and 2 what was not given back of segments 0 and 1 is still counted.
                              permits const least = (ahead < 3 ? w.live[8] : 0) + w.live[9];
                              if (w.c.used(at(ahead * world::length)) < least) w.right = false;
                          }};
        });
    }
}

TEST(counter_races_model, every_interleaving_publishes_though_the_old_tenant_of_the_word_is_refunded) {
    // The ring has eight words: segment 8 takes the place of segment 0.
    modelled::receipt r;
    explore(2, [&](world& w) {
        r = std::move(w.take(2, 0).receipt());
        w.take(1, 1);  // is denied, and publishes segment 0
        w.take(2, 8);
        return bodies{[&] { w.give(r, 1); }, [&] { w.take(1, 9); }};
    });
}

TEST(counter_races_model, interleavings_of_attempts_with_refunds_keep_the_limit_and_lose_nothing) {
    for (std::int64_t a : {0, 1, 3}) {
        explore(
            2,
            [&](world& w) {
                w.take(1, 0);
                return bodies{[&, a] {
                                  auto d = w.take(1, a);
                                  if (d) w.give(d.receipt(), 1);
                                  w.take(1, 4);
                              },
                              [&] {
                                  auto d = w.take(1, 1);
                                  if (d) w.give(d.receipt(), 1);
                              }};
            },
            2);
    }
}

TEST(counter_races_model, every_interleaving_decides_by_one_limit_or_the_other) {
    for (std::int64_t ahead : {0, 1}) {
        for (permits to : {permits{1}, permits{4}}) {
            explore(
                4,
                [&](world& w) {
                    w.c.change_limit(2, at(0));
                    w.take(1, 0);
                    return bodies{[&, ahead] {
                                      w.c.change_limit(to, at(ahead * world::length));
                                      // What begins after the change obeys it, and what was granted before is counted.
                                      permits const used = w.c.used(at(0));
                                      if (w.take(1, ahead) && used + 1 > to) w.right = false;
                                      if (w.c.limit() != to) w.right = false;
                                  },
                                  [&] {
                                      permits const most = std::max<permits>(to, 2);
                                      w.take(1, 0);
                                      if (w.c.used(at(0)) > most) w.right = false;
                                  }};
                },
                3);
        }
    }
}

TEST(counter_races_model, every_interleaving_of_two_counters_keeps_their_one_limit_though_head_comes_back) {
    // The first looks before the second holds; a refund then brings head back to what the first saw.
    std::unique_ptr<modelled> held;
    modelled::receipt r;
    permits granted = 0;
    explore(
        10,
        [&](world& w) {
            held = std::make_unique<modelled>(permits{100}, nanoseconds{2 * world::length},
                                              counter_options{.segments = 2}, w.clock);
            r = std::move(w.take(1, 0).receipt());
            granted = 1;
            auto const beside = [&](permits n) {
                auto hold = held->charge(4, at(0));
                if (w.c.try_acquire_beside(n, at(0), [&] { return held->used_as_of(at(0)); })) {
                    granted += n + 4;
                    w.live[8] += n;
                    if (granted > 10) w.right = false;
                    return;
                }
                held->refund(hold.receipt);
            };
            return bodies{[beside] { beside(3); },
                          [&, beside] {
                              beside(1);
                              granted -= 1;
                              w.give(r, 1);
                          }};
        },
        3);
}

TEST(counter_races_model, a_thread_that_stops_anywhere_stops_nobody) {
    unsigned most = 0;
    for (std::int64_t a : {0, 1, 3}) {
        for (std::int64_t b : {0, 1, 2}) {
            options p = options::bounded("stops", 0, 0);
            p.stale = false;
            for (unsigned steps = 0;; ++steps) {
                p.frozen = {{0, steps}};
                std::unique_ptr<world> w;
                modelled::receipt r;
                auto const o = model::explore(p, [&] {
                    w = std::make_unique<world>(4);
                    r = std::move(w->take(2, 0).receipt());
                    return model::scenario{{[&w, a] {
                                                w->take(1, a);
                                                w->c.change_limit(3, at(a * world::length));
                                            },
                                            [&w, b] { w->take(1, b); }, [&w, &r] { w->give(r, 1); },
                                            [&w, b] { w->c.change_limit(2, at(b * world::length)); }}};
                });
                ASSERT_TRUE(o.passed(coverage::preemption_bounded)) << o;
                for (unsigned t = 1; t < 4; ++t) most = std::max(most, o.thread_steps[t]);
                if (o.thread_steps[0] < steps) break;
            }
        }
    }
    EXPECT_LT(most, 100U);
    RecordProperty("most steps", static_cast<int>(most));
}

}  // namespace
