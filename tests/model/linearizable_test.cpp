// SPDX-License-Identifier: MIT
// Histories: which order of the operations explains them.
#include "linearizable.hpp"
#include "litmus_words.hpp"
#include "model.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace linearizable_test {

using namespace litmus;

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

}  // namespace linearizable_test
