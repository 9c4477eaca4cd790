// SPDX-License-Identifier: MIT
// The checker shows what the standard allows, and nothing else.
#include "litmus_words.hpp"
#include "model.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace litmus_test {

using namespace litmus;

// ---- what the standard allows and forbids ----

TEST(litmus, store_buffering_lets_both_read_the_old_value) {
    std::vector<std::function<void(words&)>> const threads{[](words& w) {
                                                               w.x.exchange(1, acq_rel);
                                                               w.r[0] = w.y.load(acquire);
                                                           },
                                                           [](words& w) {
                                                               w.y.exchange(1, acq_rel);
                                                               w.r[1] = w.x.load(acquire);
                                                           }};
    EXPECT_EQ(results(options::weak("SB"), 2, threads), (std::set<registers>{{0, 0}, {0, 1}, {1, 0}, {1, 1}}));
    EXPECT_EQ(results(options::sc("SB, SC"), 2, threads), (std::set<registers>{{0, 1}, {1, 0}, {1, 1}}));
}

std::set<registers> message_passing(std::memory_order publish, std::memory_order look) {
    return results(options::weak("MP"), 2,
                   {[=](words& w) {
                        w.x.exchange(1, relaxed);
                        w.y.exchange(1, publish);
                    },
                    [=](words& w) {
                        w.r[0] = w.y.load(look);
                        w.r[1] = w.x.load(relaxed);
                    }});
}

TEST(litmus, message_passing_is_hidden_only_by_release_and_acquire_together) {
    std::set<registers> const ordered{{0, 0}, {0, 1}, {1, 1}};
    std::set<registers> const all{{0, 0}, {0, 1}, {1, 0}, {1, 1}};
    EXPECT_EQ(message_passing(release, acquire), ordered);
    EXPECT_EQ(message_passing(acq_rel, acquire), ordered);
    EXPECT_EQ(message_passing(relaxed, acquire), all);
    EXPECT_EQ(message_passing(release, relaxed), all);
    EXPECT_EQ(message_passing(relaxed, relaxed), all);
}

TEST(litmus, coherence_reads_of_one_word_do_not_go_back) {  // CoRR
    EXPECT_EQ(results(options::weak("CoRR"), 2,
                      {[](words& w) { w.x.exchange(1, relaxed); },
                       [](words& w) {
                           w.r[0] = w.x.load(relaxed);
                           w.r[1] = w.x.load(relaxed);
                       }}),
              (std::set<registers>{{0, 0}, {0, 1}, {1, 1}}));
}

TEST(litmus, coherence_a_thread_reads_what_it_wrote_or_newer) {  // CoWR
    EXPECT_EQ(results(options::weak("CoWR"), 1,
                      {[](words& w) {
                           w.x.exchange(1, relaxed);
                           w.r[0] = w.x.load(relaxed);
                       },
                       [](words& w) { w.x.exchange(2, relaxed); }}),
              (std::set<registers>{{1}, {2}}));
}

TEST(litmus, coherence_what_was_read_is_older_than_what_is_then_written) {  // CoRW: r[1] is the store before its own
    EXPECT_EQ(results(options::weak("CoRW"), 2,
                      {[](words& w) {
                           w.r[0] = w.x.load(relaxed);
                           w.r[1] = w.x.exchange(1, relaxed);
                       },
                       [](words& w) { w.x.exchange(2, relaxed); }}),
              (std::set<registers>{{0, 0}, {0, 2}, {2, 2}}));
}

TEST(litmus, coherence_writes_of_one_thread_stand_in_its_order) {  // CoWW
    EXPECT_EQ(results(options::weak("CoWW"), 2,
                      {[](words& w) {
                           w.x.exchange(1, relaxed);
                           w.x.exchange(2, relaxed);
                       },
                       [](words& w) {
                           w.r[0] = w.x.load(relaxed);
                           w.r[1] = w.x.load(relaxed);
                       }}),
              (std::set<registers>{{0, 0}, {0, 1}, {0, 2}, {1, 1}, {1, 2}, {2, 2}}));
}

TEST(litmus, load_buffering_does_not_appear) {
    // The standard allows 1 1 for relaxed accesses; it takes a cycle of program order and reads-from: each load reads a
    // store that comes after it in the other thread. Here a load reads what has been stored, so there are no such
    // cycles; a compiler and a processor that make them (none does for read-modify-writes on a word whose value it
    // depends on) are outside of what is checked.
    EXPECT_EQ(results(options::weak("LB"), 2,
                      {[](words& w) {
                           w.r[0] = w.x.load(relaxed);
                           w.y.exchange(1, relaxed);
                       },
                       [](words& w) {
                           w.r[1] = w.y.load(relaxed);
                           w.x.exchange(1, relaxed);
                       }}),
              (std::set<registers>{{0, 0}, {0, 1}, {1, 0}}));
}

TEST(litmus, independent_reads_of_independent_writes_may_disagree) {  // IRIW
    std::vector<std::function<void(words&)>> const threads{[](words& w) { w.x.exchange(1, release); },
                                                           [](words& w) { w.y.exchange(1, release); },
                                                           [](words& w) {
                                                               w.r[0] = w.x.load(acquire);
                                                               w.r[1] = w.y.load(acquire);
                                                           },
                                                           [](words& w) {
                                                               w.r[2] = w.y.load(acquire);
                                                               w.r[3] = w.x.load(acquire);
                                                           }};
    registers const disagree{1, 0, 1, 0};
    auto const weak = results(options::weak("IRIW"), 4, threads);
    EXPECT_TRUE(weak.contains(disagree));
    EXPECT_EQ(weak.size(), 16U);
    auto const sc = results(options::sc("IRIW, SC"), 4, threads);
    EXPECT_FALSE(sc.contains(disagree));
    EXPECT_EQ(sc.size(), 15U);
}

TEST(litmus, causality_passes_through_a_third_thread) {  // WRC
    auto const causal = [](std::memory_order publish) {
        return results(options::weak("WRC"), 3,
                       {[](words& w) { w.x.exchange(1, release); },
                        [=](words& w) {
                            w.r[0] = w.x.load(acquire);
                            w.y.exchange(1, publish);
                        },
                        [](words& w) {
                            w.r[1] = w.y.load(acquire);
                            w.r[2] = w.x.load(relaxed);
                        }});
    };
    EXPECT_FALSE(causal(release).contains({1, 1, 0}));
    EXPECT_TRUE(causal(relaxed).contains({1, 1, 0}));
}

TEST(litmus, a_release_sequence_is_carried_on_by_the_read_modify_writes_of_others) {
    auto const chain = [](std::memory_order head) {
        return results(options::weak("release sequence"), 2,
                       {[=](words& w) {
                            w.x.exchange(1, relaxed);
                            w.y.exchange(1, head);
                        },
                        [](words& w) {
                            int one = 1;
                            w.y.compare_exchange_strong(one, 2, relaxed, relaxed);
                        },
                        [](words& w) {
                            int two = 2;
                            w.y.compare_exchange_strong(two, 3, relaxed, relaxed);
                        },
                        [](words& w) {
                            w.r[0] = w.y.load(acquire);
                            w.r[1] = w.x.load(relaxed);
                        }});
    };
    auto const carried = chain(release);
    for (int i : {1, 2, 3}) {
        EXPECT_TRUE(carried.contains({i, 1}));
        EXPECT_FALSE(carried.contains({i, 0})) << i;
    }
    auto const lost = chain(relaxed);
    for (int i : {1, 2, 3}) EXPECT_TRUE(lost.contains({i, 0})) << i;
}

TEST(litmus, a_release_that_carries_on_a_release_sequence_carries_both) {
    auto const all = results(options::weak("two releases"), 3,
                             {[](words& w) {
                                  w.x.exchange(1, relaxed);
                                  w.y.fetch_add(1, release);
                              },
                              [](words& w) {
                                  w.z.exchange(1, relaxed);
                                  w.y.fetch_add(1, release);
                              },
                              [](words& w) {
                                  w.r[0] = w.y.load(acquire);
                                  w.r[1] = w.x.load(relaxed);
                                  w.r[2] = w.z.load(relaxed);
                              }});
    EXPECT_TRUE(all.contains({1, 1, 0}));
    EXPECT_TRUE(all.contains({1, 0, 1}));
    EXPECT_FALSE(all.contains({1, 0, 0}));
    for (int x : {0, 1}) {
        for (int z : {0, 1}) EXPECT_EQ(all.contains({2, x, z}), x == 1 && z == 1);
    }
}

TEST(litmus, an_acquire_read_modify_write_takes_over_what_it_replaced) {
    auto const with = [](std::memory_order o) {
        return results(options::weak("MP by RMW"), 2,
                       {[](words& w) {
                            w.x.exchange(1, relaxed);
                            w.y.fetch_add(1, release);
                        },
                        [=](words& w) {
                            w.r[0] = w.y.fetch_add(2, o);
                            w.r[1] = w.x.load(relaxed);
                        }});
    };
    EXPECT_EQ(with(acquire), (std::set<registers>{{0, 0}, {0, 1}, {1, 1}}));
    EXPECT_EQ(with(acq_rel), (std::set<registers>{{0, 0}, {0, 1}, {1, 1}}));
    EXPECT_TRUE(with(release).contains({1, 0}));
}

TEST(litmus, read_modify_writes_see_the_newest_store_and_none_is_lost) {
    EXPECT_EQ(results(options::weak("RMW"), 3,
                      {[](words& w) { w.r[0] = w.x.fetch_add(1, relaxed); },
                       [](words& w) { w.r[1] = w.x.fetch_add(2, relaxed); },
                       [](words& w) { w.r[2] = w.x.fetch_sub(4, relaxed); }})
                  .size(),
              6U);  // one for each order
}

TEST(litmus, a_weak_exchange_fails_for_nothing_as_often_as_the_budget_says) {
    for (unsigned budget : {0U, 1U, 2U}) {
        auto const all = results(options::weak("spurious", budget), 1, {[](words& w) {
                                     int failed = 0;
                                     for (int old = 0; !w.x.compare_exchange_weak(old, 1, relaxed, relaxed); ++failed) {
                                         EXPECT_EQ(old, 0);
                                     }
                                     w.r[0] = failed;
                                 }});
        EXPECT_EQ(all.size(), budget + 1);
    }
    EXPECT_EQ(results(options::weak("strong", 5), 1, {[](words& w) {
                          int old = 0;
                          w.r[0] = w.x.compare_exchange_strong(old, 1, relaxed, relaxed) ? 1 : 0;
                      }}),
              (std::set<registers>{{1}}));
}

TEST(litmus, a_failed_exchange_is_a_load_and_may_be_stale) {
    // 7 is wanted: fails at 0, though 1 came first in time, and even where y tells so without acquire.
    auto const failing = [](std::memory_order look, std::memory_order on_failure) {
        return results(options::weak("stale failure"), 3,
                       {[](words& w) {
                            w.z.exchange(1, relaxed);
                            w.x.exchange(1, release);
                            w.y.exchange(1, release);
                        },
                        [=](words& w) {
                            w.r[0] = w.y.load(look);
                            w.r[1] = 7;
                            w.x.compare_exchange_strong(w.r[1], 8, relaxed, on_failure);
                            w.r[2] = w.z.load(relaxed);
                        }});
    };
    auto const stale = failing(relaxed, relaxed);
    EXPECT_TRUE(stale.contains({1, 0, 0}));
    EXPECT_TRUE(stale.contains({1, 1, 0}));
    EXPECT_FALSE(failing(acquire, relaxed).contains({1, 0, 0}));
    EXPECT_FALSE(failing(relaxed, acquire).contains({1, 1, 0})) << "its order on failure acquires";
    EXPECT_TRUE(failing(relaxed, acquire).contains({1, 0, 0}));
}

TEST(litmus, a_strong_exchange_may_fail_at_an_old_value) {
    auto const all = results(options::weak("old failure"), 2,
                             {[](words& w) { w.x.exchange(1, relaxed); },
                              [](words& w) {
                                  w.r[0] = 1;
                                  w.r[1] = w.x.compare_exchange_strong(w.r[0], 2, relaxed, relaxed) ? 1 : 0;
                              }});
    EXPECT_EQ(all, (std::set<registers>{{0, 0}, {1, 1}}));
}

TEST(litmus, a_clock_does_not_go_back_along_happens_before) {
    auto const read = [](std::memory_order o) {
        bool went_back = false;
        auto const out = explore(options::weak("clock"), [&, o] {
            struct state {
                model::clock clock;
                cell flag{0};
            };
            auto s = std::make_shared<state>();
            return scenario{{[s] { s->clock.advance(std::chrono::nanoseconds{5}); },
                             [s] {
                                 if (s->clock.now().time_since_epoch().count() == 5) s->flag.exchange(1, release);
                             },
                             [s, o, &went_back] {
                                 if (s->flag.load(o) == 1 && s->clock.now().time_since_epoch().count() == 0)
                                     went_back = true;
                             }}};
        });
        EXPECT_TRUE(out.passed(coverage::complete)) << out;
        return went_back;
    };
    EXPECT_FALSE(read(acquire));
    EXPECT_TRUE(read(relaxed));
}

// ---- the reduction loses nothing ----

/// Random little programs: threads × accesses over two words with any orders.
TEST(litmus, the_reduction_shows_all_that_is_there_without_it) {
    std::uint64_t all = 0;
    std::uint64_t reduced = 0;
    for (unsigned seed = 1; seed <= 400; ++seed) {
        std::mt19937 random{seed};
        auto const below = [&](unsigned n) { return static_cast<int>(random() % n); };
        struct access {
            int kind, word, value, wanted;
            std::memory_order order;
        };
        std::size_t const threads = seed % 4 == 0 ? 3 : 2;
        std::vector<std::vector<access>> program(threads);
        for (auto& t : program) {
            for (int i = 0, n = threads == 3 ? 2 : 3; i < n; ++i) {
                access a{below(4), below(2), below(3), below(3), relaxed};
                constexpr std::memory_order for_load[] = {relaxed, acquire};
                constexpr std::memory_order for_change[] = {relaxed, acquire, release, acq_rel};
                a.order = a.kind == 0 ? for_load[below(2)] : for_change[below(4)];
                t.push_back(a);
            }
        }
        std::set<registers> seen[2];
        for (bool reduce : {false, true}) {
            for (bool stale : {false, true}) {
                options o = options::weak("random program");
                o.reduce = reduce;
                o.stale = stale;
                auto const out = explore(o, [&] {
                    struct state {
                        cell w[2];
                        std::vector<registers> r;
                    };
                    auto s = std::make_shared<state>();
                    s->r.resize(threads);
                    scenario sc;
                    for (std::size_t t = 0; t < threads; ++t) {
                        sc.threads.push_back([s, t, &program] {
                            for (auto const& a : program[t]) {
                                cell& w = s->w[a.word];
                                int wanted = a.wanted;
                                switch (a.kind) {
                                    case 0: s->r[t].push_back(w.load(a.order)); break;
                                    case 1: s->r[t].push_back(w.exchange(a.value, a.order)); break;
                                    case 2:
                                        s->r[t].push_back(w.compare_exchange_weak(wanted, a.value, a.order) ? 1 : 0);
                                        s->r[t].push_back(wanted);
                                        break;
                                    default:
                                        s->r[t].push_back(w.compare_exchange_strong(wanted, a.value, a.order) ? 1 : 0);
                                        s->r[t].push_back(wanted);
                                }
                            }
                        });
                    }
                    sc.check = [s, &seen, reduce, stale] {
                        registers flat{stale ? 1 : 0};
                        for (auto const& r : s->r) flat.insert(flat.end(), r.begin(), r.end());
                        for (auto& w : s->w) flat.push_back(w.load(relaxed));
                        seen[reduce ? 1 : 0].insert(flat);
                    };
                    return sc;
                });
                ASSERT_TRUE(out.passed(coverage::complete)) << out;
                (reduce ? reduced : all) += out.executions + out.pruned;
            }
        }
        ASSERT_EQ(seen[0], seen[1]) << "program " << seed;
    }
    RecordProperty("executions without", std::to_string(all));
    RecordProperty("executions with", std::to_string(reduced));
    EXPECT_LT(reduced, all);
}

}  // namespace litmus_test
