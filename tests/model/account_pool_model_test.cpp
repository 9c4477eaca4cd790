// SPDX-License-Identifier: MIT
// llm::account_pool and llm::fallback_chain in every interleaving. What callers share in addition to the limiters
// (turns, keys, cooldowns, counts of overload) is each a word by itself; no report is lost, and none counts twice.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "quota_world.hpp"

#include <weir/llm/account_pool.hpp>
#include <weir/llm/detail/cooldown.hpp>
#include <weir/llm/fallback_chain.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

namespace account_pool_model_test {

using namespace std::chrono_literals;
using model::scenario;
using quota_world::at;
using quota_world::coarse_clock;
using weir::llm::action;
using weir::llm::cause;
using weir::llm::verdict;

using pool = weir::llm::account_pool<coarse_clock&, model::atomics>;
using chain = weir::llm::fallback_chain<pool>;
using cooldown = weir::llm::cooldown<coarse_clock::time_point, model::atomics>;

constexpr verdict bad_key{cause::authentication, action::next_account, {}, {}, 0, {}};
constexpr verdict unpaid{cause::billing, action::next_account, {}, {}, 0, {}};
constexpr verdict overloaded{cause::overload, action::retry, {}, {}, 0, {}};
constexpr verdict answered{cause::none, action::proceed, {}, {}, 0, {}};

struct accounts {
    coarse_clock clock;
    pool p{{.min_cooldown = 60s, .max_cooldown = 600s}};
    void add(char const* name, char const* key, std::uint64_t rpm = 1) {
        p.add({"here", name, "r", "m"}, key, weir::llm::quota{.rpm = rpm}, {}, 0, clock);
    }
};

// Two callers, two members of one request each: both are served, by different members, or the one that came too late in
// a race for a member is served by the other.
scenario both_are_served() {
    struct world : accounts {
        std::size_t by[2] = {pool::none, pool::none};
        world() {
            add("a", "1");
            add("b", "2");
        }
    };
    auto w = std::make_shared<world>();
    auto const take = [w](int i) { w->by[i] = *w->p.try_acquire({}, at(0)); };
    return {{[take] { take(0); }, [take] { take(1); }}, [w] {
                model::check(w->by[0] != pool::none && w->by[1] != pool::none, "there is room for both");
                model::check(w->by[0] != w->by[1], "one request each");
                model::check(!w->p.try_acquire({}, at(0)), "and no more");
            }};
}

// One is refunded while another asks: granted twice only if the refund came before.
scenario a_refund_makes_room_once() {
    struct world : accounts {
        pool::choice first;
        bool second = false, third = false;
        world() {
            add("a", "1");
            first = p.try_acquire({}, at(0));
        }
    };
    auto w = std::make_shared<world>();
    return {{[w] {
                 model::check(w->first.decision().live(), "granted");
                 w->p.refund(w->first);
                 model::check(!w->first.decision().live(), "given back");
                 w->p.refund(w->first);  // gives nothing more
             },
             [w] { w->second = w->p.try_acquire({}, at(0)).granted(); }},
            [w] {
                w->third = w->p.try_acquire({}, at(0)).granted();
                model::check(w->second != w->third, "room for one");
            }};
}

// Two calls through one key learn that it is not valid: the next key is not blamed for it.
scenario a_key_gives_way_once() {
    struct world : accounts {
        pool::choice call[2];
        world() {
            add("a", "1", 9);
            add("a", "2", 9);
            for (auto& c : call) c = p.try_acquire({}, at(0));
        }
    };
    auto w = std::make_shared<world>();
    auto const report = [w](int i) { w->p.report(w->call[i], bad_key, at(0)); };
    return {{[report] { report(0); }, [report] { report(1); }}, [w] {
                model::check(w->p.key(0) == "2" && w->p.cooldown_until(0) <= at(0),
                             "the second key is in use, and the account in its place");
            }};
}

// Two calls see one absence: it begins once, and the next is twice as long.
scenario one_absence_is_one() {
    auto w = std::make_shared<accounts>();
    w->add("a", "1");
    auto const report = [w] { w->p.report(0, unpaid, at(0)); };
    return {{report, report}, [w] {
                model::check(w->p.cooldown_until(0) == at(60), "as long as the first");
                w->p.report(0, unpaid, at(60));
                model::check(w->p.cooldown_until(0) == at(180), "then twice as long");
            }};
}

// A server asks everybody to wait while an absence begins: neither shortens the other.
scenario the_later_end_stands() {
    auto w = std::make_shared<accounts>();
    w->add("a", "1");
    return {{[w] { w->p.report(0, unpaid, at(0)); }, [w] { w->p.begin_cooldown(0, at(30)); },
             [w] { w->p.begin_cooldown(0, at(90)); }},
            [w] { model::check(w->p.cooldown_until(0) == at(90), "the latest of 30, 60 and 90"); }};
}

// An answer while an absence begins: afterwards it has doubled once at most.
scenario an_answer_ends_the_doubling() {
    struct world {
        cooldown a;
        world() { a.begin(unpaid, at(0), {}, 60s, 600s); }
    };
    auto w = std::make_shared<world>();
    return {{[w] { w->a.answered(); }, [w] { w->a.begin(unpaid, at(100), {}, 60s, 600s); }}, [w] {
                auto const back = w->a.until();
                model::check(back == at(160) || back == at(220), "as long as the first, or twice as long");
                w->a.begin(unpaid, at(1000), {}, 60s, 600s);
                // Of what the answer overlapped, the absence at 100 at most is remembered; what was before it, never.
                model::check(w->a.until() == at(1060) || w->a.until() == at(1120),
                             "what came before an answer is forgotten");
            }};
}

struct two_models {
    coarse_clock clock;
    pool upper, lower;
    chain c{{.max_overloads = 2, .min_cooldown = 60s, .max_cooldown = 600s}};
    std::optional<chain::choice> call[2];
    two_models() {
        upper.add({"here", "a", "r", "max"}, "1", weir::llm::quota{.rpm = 2}, {}, 0, clock);
        lower.add({"here", "a", "r", "plus"}, "1", weir::llm::quota{.rpm = 2}, {}, 0, clock);
        c.add("max", upper);
        c.add("plus", lower);
        for (auto& k : call) k.emplace(c.try_acquire({}, at(0), 0s));
    }
};

// Two answers of overload at once are two in a row: the model is out, once.
scenario overloads_are_counted() {
    auto w = std::make_shared<two_models>();
    auto const report = [w](int i) { w->c.report(*w->call[i], overloaded, at(0)); };
    return {{[report] { report(0); }, [report] { report(1); }},
            [w] { model::check(w->c.cooldown_until(0) == at(60), "out for the first time"); }};
}

// An answer between them: out, or one is counted since it, or none.
scenario an_answer_forgives_overload() {
    auto w = std::make_shared<two_models>();
    w->c.report(*w->call[0], overloaded, at(0));
    auto const report = [w](int i, verdict const& v) { w->c.report(*w->call[i], v, at(0)); };
    return {{[report] { report(0, answered); }, [report] { report(1, overloaded); }}, [w] {
                bool const out = w->c.cooldown_until(0) > at(0);
                w->c.report(*w->call[0], overloaded, at(10));
                // Overload before the answer took the model out, and the answer forgot it; after the answer it is the
                // first of two.
                model::check(w->c.cooldown_until(0) == (out ? at(60) : at(70)),
                             "what came before an answer is forgotten, what came after is not");
            }};
}

// The last room above and the room below: no call is refused, and each is taken once.
scenario who_finds_no_room_above_goes_down() {
    struct world {
        coarse_clock clock;
        pool upper, lower;
        chain c{};
        std::size_t by[2] = {chain::none, chain::none};
        world() {
            upper.add({"here", "a", "r", "max"}, "1", weir::llm::quota{.rpm = 1}, {}, 0, clock);
            lower.add({"here", "a", "r", "plus"}, "1", weir::llm::quota{.rpm = 1}, {}, 0, clock);
            c.add("max", upper);
            c.add("plus", lower);
        }
    };
    auto w = std::make_shared<world>();
    auto const take = [w](int i) { w->by[i] = *w->c.try_acquire({}, at(0), 0s); };
    return {{[take] { take(0); }, [take] { take(1); }},
            [w] { model::check(w->by[0] + w->by[1] == 1 && w->by[0] != w->by[1], "one above, one below"); }};
}

void expect_all(std::initializer_list<scenario (*)()> all) {
    for (auto const s : all) model::sees_either_way("pool", s);
}

TEST(llm_pool_model, members_serve_as_many_as_they_have_room_for) {
    expect_all({both_are_served, a_refund_makes_room_once});
}
TEST(llm_pool_model, reports_that_come_at_once_are_all_heard) {
    expect_all({a_key_gives_way_once, one_absence_is_one, the_later_end_stands, an_answer_ends_the_doubling});
}
TEST(llm_pool_model, a_chain_counts_overload_and_goes_down_one_by_one) {
    expect_all({overloads_are_counted, an_answer_forgives_overload, who_finds_no_room_above_goes_down});
}

}  // namespace account_pool_model_test
