// SPDX-License-Identifier: MIT
// The checker itself: it shows what the standard allows, and nothing else; and it finds what is broken.
#include "linearizable.hpp"
#include "model.hpp"
#include "model_atomic.hpp"
#include "weakening.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using model::coverage;
using model::explore;
using model::options;
using model::outcome;
using model::scenario;

constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto acquire = std::memory_order_acquire;
constexpr auto release = std::memory_order_release;
constexpr auto acq_rel = std::memory_order_acq_rel;

using cell = model::atomics::atomic<int>;

/// Three words and what was read. The registers begin at -1, which no thread writes.
struct words {
    cell x{0}, y{0}, z{0};
    int r[6] = {-1, -1, -1, -1, -1, -1};
};
using registers = std::vector<int>;

/// All that `threads` can leave in the first n registers.
std::set<registers> results(options const& o, std::size_t n, std::vector<std::function<void(words&)>> const& threads,
                            coverage expected = coverage::complete) {
    std::set<registers> all;
    auto const out = explore(o, [&] {
        auto w = std::make_shared<words>();
        scenario s;
        for (auto const& t : threads) s.threads.push_back([w, &t] { t(*w); });
        s.check = [w, n, &all] { all.insert(registers(w->r, w->r + n)); };
        return s;
    });
    EXPECT_TRUE(out.passed(expected)) << out;
    return all;
}

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

// ---- what is broken is found ----

TEST(checker, finds_the_update_that_load_and_store_lose) {
    auto const count = [](bool right) {
        return explore(options::weak("counter"), [right] {
            auto w = std::make_shared<words>();
            auto const add = [w, right] {
                int old = w->x.load(relaxed);
                if (!right) {
                    w->x.exchange(old + 1, relaxed);
                    return;
                }
                while (!w->x.compare_exchange_weak(old, old + 1, relaxed, relaxed)) {
                }
            };
            return scenario{{add, add}, [w] { model::check(w->x.load(relaxed) == 2, "both count"); }};
        });
    };
    EXPECT_TRUE(count(true).passed(coverage::complete)) << count(true);
    auto const o = count(false);
    EXPECT_EQ(o.seen, coverage::failed);
    EXPECT_NE(o.failure.find("both count"), std::string::npos) << o;
}

/// A window of two words with a ring: `closes` says whether its head is closed to increments before its segment is
/// published.
struct small_window {
    static constexpr int limit = 2;
    bool closes;
    cell head{0};      // 100 * segment + 10 if closing + count
    cell ring[2]{};    // 100 * segment + count
    int granted[2]{};  // by segment

    explicit small_window(bool c) : closes{c} {}
    void take(int segment) {
        for (;;) {
            int h = head.load(acquire);
            int const open = h / 100;
            if (open < segment || h % 100 >= 10) {
                if (closes && h % 100 < 10) {
                    head.compare_exchange_strong(h, h + 10, relaxed, relaxed);
                    continue;
                }
                int old = ring[open].load(relaxed);
                if (old < 100) ring[open].compare_exchange_strong(old, 100 + h % 10, release, relaxed);
                head.compare_exchange_strong(h, 100 * (open + 1), release, relaxed);
                // Without a closing bit the exchange fails where another was granted meanwhile, but the count is
                // published.
                continue;
            }
            int const before = open == 0 ? 0 : ring[0].load(acquire) % 100;
            if (before + h % 10 >= limit) return;
            if (head.compare_exchange_weak(h, h + 1, relaxed, relaxed)) {
                ++granted[open];
                return;
            }
        }
    }
};

TEST(checker, finds_a_segment_published_while_its_head_still_accepts_increments) {
    auto const window = [](bool closes, options const& o) {
        return explore(o, [closes] {
            auto w = std::make_shared<small_window>(closes);
            return scenario{
                {[w] {
                     w->take(0);
                     w->take(1);
                 },
                 [w] {
                     w->take(0);
                     w->take(1);
                 }},
                [w] { model::check(w->granted[0] + w->granted[1] <= small_window::limit, "within the limit"); }};
        });
    };
    for (auto const& o : {options::sc("window, SC"), options::weak("window")}) {
        auto const broken = window(false, o);
        EXPECT_EQ(broken.seen, coverage::failed) << broken;
        EXPECT_LT(broken.executions, 2000U);
        auto const right = window(true, o);
        EXPECT_TRUE(right.passed(coverage::complete)) << right;
    }
}

TEST(checker, finds_plain_data_that_races_and_lets_it_pass_where_it_is_published) {
    auto const publish = [](std::memory_order o) {
        return explore(options::weak("cell"), [o] {
            struct state {
                model::checked_cell<int> data{0};
                cell ready{0};
            };
            auto s = std::make_shared<state>();
            return scenario{{[s, o] {
                                 s->data.write(42);
                                 s->ready.exchange(1, o);
                             },
                             [s] {
                                 if (s->ready.load(acquire) == 1)
                                     model::check(s->data.read() == 42, "what was written");
                             }}};
        });
    };
    EXPECT_TRUE(publish(release).passed(coverage::complete)) << publish(release);
    auto const o = publish(relaxed);
    EXPECT_NE(o.failure.find("a read races with a write at litmus_test.cpp"), std::string::npos) << o;
}

TEST(checker, finds_a_loop_that_never_ends) {
    options o = options::sc("loop");
    o.max_steps = 100;
    auto const out = explore(o, [] {
        auto w = std::make_shared<words>();
        return scenario{{[w] {
            while (w->x.load(acquire) == 0) {
            }
        }}};
    });
    EXPECT_NE(out.failure.find("no end after 100 steps"), std::string::npos) << out;
}

/// A loop that is known to end, for the store it waits for has been made; but a view alone would let it read the old
/// one forever.
TEST(checker, a_loop_ends_where_an_old_store_may_be_read_again_only_so_often) {
    auto const wait = [](unsigned rereads) {
        options o = options::weak("wait");
        o.rereads = rereads;
        o.max_steps = 50;
        int most = 0;
        auto const out = explore(o, [&most] {
            auto w = std::make_shared<words>();
            return scenario{{[w] {
                                 w->x.exchange(1, relaxed);
                                 w->y.exchange(1, relaxed);
                             },
                             [w, &most] {
                                 if (w->y.load(relaxed) == 0) return;
                                 int n = 0;
                                 while (w->x.load(relaxed) == 0) most = std::max(most, ++n);
                             }}};
        });
        return std::pair{out, most};
    };
    EXPECT_NE(wait(options::unlimited).first.failure.find("no end after 50 steps"), std::string::npos);
    for (unsigned n : {1U, 2U, 5U}) {
        auto const [out, most] = wait(n);
        EXPECT_TRUE(out.passed(coverage::complete)) << out;
        EXPECT_EQ(most, static_cast<int>(n));
    }
}

TEST(checker, names_what_the_model_has_no_place_for) {
    auto const refused = [](std::function<void(words&)> const& what) {
        return explore(options::weak("misuse"),
                       [&what] {
                           auto w = std::make_shared<words>();
                           return scenario{{[w, &what] { what(*w); }}};
                       })
            .failure;
    };
    EXPECT_NE(refused([](words& w) { w.x.load(); }).find("seq_cst load at litmus_test.cpp"), std::string::npos);
    EXPECT_NE(refused([](words& w) { w.x.exchange(1); }).find("seq_cst exchange at"), std::string::npos);
    EXPECT_NE(refused([](words& w) {
                  int old = 0;
                  w.x.compare_exchange_weak(old, 1);
              }).find("seq_cst cas_weak at"),
              std::string::npos);
    EXPECT_NE(refused([](words& w) { w.x.store(1, release); }).find("plain store at litmus_test.cpp"),
              std::string::npos);
}

TEST(checker, a_thread_that_throws_and_a_scenario_that_varies_are_failures) {
    auto const thrown =
        explore(options::weak("throws"), [] { return scenario{{[] { throw std::runtime_error{"so"}; }}}; });
    EXPECT_NE(thrown.failure.find("a thread threw so"), std::string::npos) << thrown;
    int run = 0;
    auto const moody = explore(options::weak("moody"), [&run] {
        auto w = std::make_shared<words>();
        model::body const touch = [w] { w->x.fetch_add(1, relaxed); };
        return scenario{std::vector<model::body>(run++ < 2 ? 2 : 3, touch)};
    });
    EXPECT_EQ(moody.seen, coverage::failed) << moody;
}

// ---- what it says ----

scenario lost_update() {
    auto w = std::make_shared<words>();
    auto const add = [w] { w->x.exchange(w->x.load(relaxed) + 1, acq_rel); };
    return scenario{{add, add}, [w] { model::check(w->x.load(relaxed) == 2, "both count"); }};
}

TEST(checker, a_failure_has_a_table_and_a_token_that_runs_it_again) {
    auto const o = explore(options::weak("lost update"), lost_update);
    ASSERT_EQ(o.seen, coverage::failed);
    for (char const* part : {"lost update: both count", "thread 0", "thread 1", "load #0 relaxed = 0",
                             "exchange #0 acq_rel 0 -> 1", "@litmus_test.cpp:", "WEIR_MODEL_REPLAY='lost update:"}) {
        EXPECT_NE(o.failure.find(part), std::string::npos) << part << " in\n" << o.failure;
    }

    options again = options::weak("lost update");
    again.replay = o.token;
    auto const replayed = explore(again, lost_update);
    EXPECT_EQ(replayed.executions, 1U);
    EXPECT_EQ(replayed.failure, o.failure);
    EXPECT_EQ(replayed.token, o.token);

    setenv("WEIR_MODEL_REPLAY", o.token.c_str(), 1);
    auto const by_environment = explore(options::weak("lost update"), lost_update);
    auto const another = explore(options::weak("another"), [] { return scenario{{[] {}}}; });
    unsetenv("WEIR_MODEL_REPLAY");
    EXPECT_EQ(by_environment.executions, 1U);
    EXPECT_EQ(by_environment.failure, o.failure);
    EXPECT_TRUE(another.passed(coverage::complete)) << "the token is not for this one";
}

TEST(checker, a_replay_of_a_run_that_did_not_fail_is_no_pass) {
    options o = options::weak("lost update");
    o.replay = "lost update:";
    testing::internal::CaptureStdout();
    auto const out = explore(o, lost_update);
    testing::internal::GetCapturedStdout();
    EXPECT_EQ(out.executions, 1U);
    EXPECT_FALSE(out.passed(coverage::complete));
}

TEST(checker, random_search_finds_it_too_and_its_token_runs_it_again) {
    for (unsigned depth : {0U, 3U}) {
        auto const o = explore(options::random("by chance", 1000, 7, depth), lost_update);
        ASSERT_EQ(o.seen, coverage::failed) << o;
        options again = options::weak("by chance");
        again.replay = o.token;
        EXPECT_EQ(explore(again, lost_update).failure, o.failure);
        auto const same = explore(options::random("by chance", 1000, 7, depth), lost_update);
        EXPECT_EQ(same.token, o.token) << "the seed says all";
        EXPECT_EQ(same.executions, o.executions);
    }
    auto const fine = explore(options::random("nothing", 50), [] { return scenario{{[] {}, [] {}}}; });
    EXPECT_TRUE(fine.passed(coverage::sampled)) << fine;
    EXPECT_EQ(fine.executions, 50U);
}

TEST(checker, a_search_that_was_cut_off_is_no_pass_unless_it_was_asked_for) {
    auto const three = [](bool asked) {
        options o = options::weak("three");
        o.max_executions = 10;
        o.may_be_cut_off = asked;
        return explore(o, [] {
            auto w = std::make_shared<words>();
            auto const add = [w] {
                w->x.fetch_add(1, relaxed);
                w->y.fetch_add(1, relaxed);
                w->x.fetch_add(1, relaxed);
            };
            return scenario{{add, add, add}};
        });
    };
    EXPECT_EQ(three(false).seen, coverage::cut_off);
    EXPECT_FALSE(three(false).passed(coverage::complete));
    EXPECT_TRUE(three(true).passed(coverage::execution_bounded));
}

TEST(checker, preemptions_are_counted) {
    // To lose one update takes one preemption: between load and store.
    auto const lost = [](unsigned n) { return explore(options::bounded("bounded", n, 0), lost_update).seen; };
    options o = options::bounded("bounded", 0, 0);
    o.stale = false;
    EXPECT_TRUE(explore(o, lost_update).passed(coverage::preemption_bounded));
    o.preemptions = 1;
    EXPECT_EQ(explore(o, lost_update).seen, coverage::failed);
    EXPECT_EQ(lost(0), coverage::failed) << "a stale read needs none";
}

TEST(checker, a_frozen_thread_takes_so_many_steps_and_no_more) {
    for (unsigned k = 0; k <= 3; ++k) {
        options o = options::weak("frozen");
        o.frozen = {{0, k}};
        std::set<int> left;
        auto const out = explore(o, [&left] {
            auto w = std::make_shared<words>();
            return scenario{{[w] {
                                 for (int i = 0; i < 3; ++i) w->x.fetch_add(1, relaxed);
                             },
                             [w] { w->x.fetch_add(10, relaxed); }},
                            [w, &left] { left.insert(w->x.load(relaxed)); }};
        });
        EXPECT_TRUE(out.passed(coverage::complete)) << out;
        EXPECT_EQ(left, (std::set<int>{10 + static_cast<int>(k)}));
    }
}

TEST(checker, an_operation_knows_its_steps_its_writes_and_what_others_wrote) {
    for (bool stale : {false, true}) {
        options o = options::weak("span", 0);
        o.stale = stale;
        unsigned most_others = 0;
        unsigned most_steps = 0;
        auto const out = explore(o, [&] {
            auto w = std::make_shared<words>();
            auto const add = [&, w] {
                auto const s = model::begin();
                int old = w->x.load(relaxed);
                while (!w->x.compare_exchange_weak(old, old + 1, relaxed, relaxed)) {
                }
                auto const e = model::end(s);
                model::check(e.writes == 1, "one write");
                model::check(e.steps <= 2 + e.others, "each retry is paid for by another's write");
                most_others = std::max(most_others, e.others);
                most_steps = std::max(most_steps, e.steps);
            };
            return scenario{{add, add, add}};
        });
        EXPECT_TRUE(out.passed(coverage::complete)) << out;
        EXPECT_EQ(most_others, 2U);
        EXPECT_EQ(most_steps, 4U);
        EXPECT_EQ(out.operation_steps, 4U);
    }
}

TEST(checker, freezes_every_choice_of_threads_after_every_number_of_steps) {
    auto const frozen = [](unsigned count, bool waits) {
        return model::explore_frozen(options::weak("frozen"), 3, count, [waits] {
            auto w = std::make_shared<words>();
            // Where it waits, x is a lock: taken by 0 -> 1.
            auto const add = [w, waits] {
                int old = 0;
                if (waits) {
                    while (!w->x.compare_exchange_strong(old, 1, acquire, relaxed)) old = 0;
                }
                w->y.fetch_add(1, relaxed);
                if (waits) w->x.exchange(0, release);
            };
            return scenario{{add, add, add}};
        });
    };
    auto const one = frozen(1, false);
    EXPECT_TRUE(one.passed(coverage::complete)) << one;
    EXPECT_GE(one.executions, 3U * 2U * 2U);
    EXPECT_TRUE(frozen(2, false).passed(coverage::complete)) << frozen(2, false);
    auto const locked = frozen(1, true);
    EXPECT_NE(locked.failure.find("no end"), std::string::npos) << "a lock whose holder stands still";
}

TEST(checker, a_mutex_excludes_and_shows_what_its_last_owner_did) {
    struct guarded {
        model::atomics::mutex m;
        model::checked_cell<int> n{0};
    };
    auto const o = explore(options::weak("mutex"), [] {
        auto g = std::make_shared<guarded>();
        model::body const add = [g] {
            g->m.lock();
            g->n.write(g->n.read() + 1);
            g->m.unlock();
        };
        return scenario{{add, add, add}, [g] { model::check(g->n.read() == 3, "each adds one"); }};
    });
    EXPECT_TRUE(o.passed(coverage::complete)) << o;
    EXPECT_EQ(o.executions, 6U) << "the orders of three";
}

TEST(checker, says_so_where_a_thread_waits_forever) {
    auto const waits = [](bool looks_first) {
        struct sleeper {
            words w;
            model::signal s;
        };
        return explore(options::weak("waits"), [looks_first] {
            auto z = std::make_shared<sleeper>();
            return scenario{{[z] {
                                 z->w.x.exchange(1, acq_rel);
                                 z->s.wait();
                             },
                             [z, looks_first] {
                                 // A thread that first looks whether another sleeps may look too early.
                                 if (!looks_first || z->w.x.load(acquire) == 1) z->s.raise();
                             }}};
        });
    };
    EXPECT_TRUE(waits(false).passed(coverage::complete)) << waits(false);
    EXPECT_NE(waits(true).failure.find("waits forever"), std::string::npos) << waits(true);
}

TEST(checker, weakens_one_order_at_a_time_and_says_which_was_needed) {
    // The first release and the acquire on failure are needed, the release on z is not.
    auto const run = [] {
        return explore(options::weak("to be weakened"), [] {
            auto w = std::make_shared<words>();
            return scenario{{[w] {
                                 w->x.exchange(1, relaxed);
                                 w->y.exchange(1, release);
                                 w->z.exchange(1, release);
                             },
                             [w] {
                                 int seen = 7;
                                 w->y.compare_exchange_strong(seen, 8, acq_rel, acquire);
                                 if (seen == 1) model::check(w->x.load(relaxed) == 1, "x is published");
                             }}};
        });
    };
    auto const all = model::weaken_each("litmus_test.cpp", {{"publication", run}});
    std::size_t needed = 0;
    for (auto const& e : all) needed += e.noticed_by == "publication" ? 1 : 0;
    EXPECT_EQ(all.size(), 5U) << "two exchanges, acq_rel both ways, acquire";
    EXPECT_EQ(needed, 2U);
    EXPECT_TRUE(run().passed(coverage::complete)) << "as it was";
    std::set<model::site> const sites = model::sites_of("litmus_test.cpp", {{"publication", run}});
    EXPECT_EQ(sites.size(), 4U);
}

// ---- linearizability ----

/// A register that adds, and forgets to in part of the cases where `loses`.
outcome counter_history(options const& o, bool loses) {
    return explore(o, [loses] {
        struct state {
            cell x{0};
            model::history<int, int> h;
        };
        auto s = std::make_shared<state>();
        auto const add = [s, loses](int n) {
            s->h.call(n, [&] {
                if (!loses) return s->x.fetch_add(n, relaxed);
                int const old = s->x.load(relaxed);
                s->x.exchange(old + n, relaxed);
                return old;
            });
        };
        return scenario{{[add] { add(1); }, [add] { add(2); }, [add] { add(4); }}, [s] {
                            s->h.check(0, [](int value, int n, int const* returned) {
                                if (returned != nullptr && *returned != value) return std::vector<int>{};
                                return std::vector<int>{value + n};
                            });
                        }};
    });
}

TEST(linearizable, tells_a_counter_from_one_that_loses) {
    for (auto const& o : {options::sc("counter, SC"), options::weak("counter")}) {
        EXPECT_TRUE(counter_history(o, false).passed(coverage::complete)) << counter_history(o, false);
        auto const broken = counter_history(o, true);
        EXPECT_NE(broken.failure.find("not linearizable"), std::string::npos) << broken;
    }
    options frozen = options::sc("counter, frozen");
    frozen.frozen = {{0, 1}};
    EXPECT_TRUE(counter_history(frozen, false).passed(coverage::complete)) << "what has not returned may count";
}

TEST(linearizable, one_mode_asks_for_real_time_order_the_other_for_happens_before) {
    // A reader that returns an old value after a write has returned.
    auto const stale_read = [](bool real_time, bool stale, std::memory_order o) {
        options p = options::weak("stale read", 0);
        p.real_time = real_time;
        p.stale = stale;
        return explore(p, [o] {
            struct state {
                cell x{0}, told{0};
                model::history<int, int> h;  // positive: writes it; 0: reads
            };
            auto s = std::make_shared<state>();
            return scenario{{[s, o] {
                                 s->h.call(1, [&] {
                                     s->x.exchange(1, relaxed);
                                     return 0;
                                 });
                                 s->told.exchange(1, o);
                             },
                             [s, o] {
                                 if (s->told.load(o == release ? acquire : relaxed) == 0) return;
                                 s->h.call(0, [&] { return s->x.load(relaxed); });
                             }},
                            [s] {
                                s->h.check(0, [](int value, int n, int const* returned) {
                                    if (n != 0) return std::vector<int>{n};
                                    return *returned == value ? std::vector<int>{value} : std::vector<int>{};
                                });
                            }};
        });
    };
    EXPECT_TRUE(stale_read(false, true, release).passed(coverage::complete));
    EXPECT_TRUE(stale_read(false, true, relaxed).passed(coverage::complete)) << "it does not follow the write";
    EXPECT_EQ(stale_read(true, true, relaxed).seen, coverage::failed) << "in real time it does";
    EXPECT_TRUE(stale_read(true, false, relaxed).passed(coverage::complete)) << "newest stores only";
}

TEST(linearizable, real_time_mode_sees_before_after_and_overlap_on_different_words) {
    std::set<registers> seen;
    auto const out = explore(options::sc("two words"), [&seen] {
        auto w = std::make_shared<words>();
        auto h = std::make_shared<model::history<int, int>>();
        return scenario{{[w, h] { h->call(0, [&] { return w->x.fetch_add(1, relaxed); }); },
                         [w, h] { h->call(1, [&] { return w->y.fetch_add(1, relaxed); }); }},
                        [h, &seen] {
                            bool const first = h->entries()[0].op == 0;
                            auto const& a = h->entries()[first ? 0 : 1].time;
                            auto const& b = h->entries()[first ? 1 : 0].time;
                            seen.insert({a.precedes(b) ? 1 : 0, b.precedes(a) ? 1 : 0});
                        }};
    });
    EXPECT_TRUE(out.passed(coverage::complete)) << out;
    EXPECT_EQ(seen, (std::set<registers>{{0, 0}, {0, 1}, {1, 0}}));
}

}  // namespace
