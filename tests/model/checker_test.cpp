// SPDX-License-Identifier: MIT
// The checker finds what is broken, and says how to run it again.
#include "litmus_words.hpp"
#include "model.hpp"
#include "weakening.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace checker_test {

using namespace litmus;

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
    EXPECT_NE(o.failure.find("a read races with a write at checker_test.cpp"), std::string::npos) << o;
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
    EXPECT_NE(refused([](words& w) { w.x.load(); }).find("seq_cst load at checker_test.cpp"), std::string::npos);
    EXPECT_NE(refused([](words& w) { w.x.exchange(1); }).find("seq_cst exchange at"), std::string::npos);
    EXPECT_NE(refused([](words& w) {
                  int old = 0;
                  w.x.compare_exchange_weak(old, 1);
              }).find("seq_cst cas_weak at"),
              std::string::npos);
    EXPECT_NE(refused([](words& w) { w.x.store(1, release); }).find("plain store at checker_test.cpp"),
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
                             "exchange #0 acq_rel 0 -> 1", "@checker_test.cpp:", "WEIR_MODEL_REPLAY='lost update:"}) {
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
    auto const all = model::weaken_each("checker_test.cpp", {{"publication", run}});
    std::size_t needed = 0;
    for (auto const& e : all) needed += e.noticed_by == "publication" ? 1U : 0U;
    EXPECT_EQ(all.size(), 5U) << "two exchanges, acq_rel both ways, acquire";
    EXPECT_EQ(needed, 2U);
    EXPECT_TRUE(run().passed(coverage::complete)) << "as it was";
    std::set<model::site> const sites = model::sites_of("checker_test.cpp", {{"publication", run}});
    EXPECT_EQ(sites.size(), 4U);
}

}  // namespace checker_test
