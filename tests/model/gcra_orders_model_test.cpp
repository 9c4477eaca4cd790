// SPDX-License-Identifier: MIT
// Each memory order of gcra_cell.hpp is needed: weakened alone, it makes one of these fail.
#include "gcra_world.hpp"
#include "model.hpp"
#include "weakening.hpp"

#include <gtest/gtest.h>

#include <iostream>
#include <string>
#include <vector>

namespace {

using namespace gcra_world;
using model::coverage;

/// The first failure among them, or what they came to.
outcome one_of(menu const& m, options const& o = options::weak("", 0)) {
    auto const s = each_of(o, m);
    outcome all;
    all.executions = s.executions;
    all.failure = s.failure;
    return all;
}

outcome change_beside_attempts() {
    menu m;
    m.promise = false;
    m.others = {{20, 2}, {5, 3}, {40, 1}};
    m.before = {{}, {change(1, 0), take(1, 0, 0)}, {change(1, 0), change(2, 0)}};
    m.one = {{change(2, 0)},
             {change(3, 0), change(1, 10)},
             {change(3, 11), change(1, 23), change(2, 37)}};  // at three times: three words
    m.other = {{take(1, 0, 1), take(2, 10, 2)}, {take(2, 0, 1)}, {reserve(1, 0, 30, 1)}};
    auto o = one_of(m);
    if (!o.failure.empty()) return o;
    m.one.pop_back();
    m.other = {{change(1, 10), take(1, 10, 1)}};
    return one_of(m);
}

outcome refund_beside_attempts() {
    menu m;
    m.before = {{take(2, 0, 0)}, {take(1, 0, 0), take(1, 0, 1)}};
    m.one = {{refund(2, 0)}, {refund(1, 0)}, {refund(2, 0), reserve(2, by_clock, 40, 2)}};
    m.other = {{take(2, by_clock, 3), take(2, by_clock, 4)},
               {reserve(2, by_clock, 40, 3)},
               {refund(1, 1), take(2, by_clock, 3)}};
    m.moves = {0, 20};
    return one_of(m);
}

/// A reader of a slot that is written over: of each of the configurations it takes one from, of some of both none.
outcome slot_written_over() {
    menu m;
    m.promise = false;
    m.others = {{10, 2}, {20, 2}, {30, 2}, {100, 1}};
    m.before = {{change(1, 0)}};
    m.one = {{change(2, 11), change(3, 23), change(4, 37)}};
    m.other = {{take(1, 40, 1)}, {take(2, 0, 1)}, {take(3, 0, 1)}};
    return one_of(m);
}

outcome refund_beside_attempts_after_a_change() {
    menu m;
    m.others = {{10, 2}};
    m.before = {{change(1, 0), take(2, 0, 0)}};
    m.one = {{refund(2, 0)}};
    m.other = {{take(2, by_clock, 3), take(2, by_clock, 4)}};
    m.moves = {20};
    return one_of(m);
}

/// Four refunds, and what was charged last is so again by its word; that they have been must be known all the same.
outcome four_refunds_and_a_fifth() {
    program p;
    p.first = {10, 8};
    p.by_algorithm = false;
    p.before = {take(2, 0, 1), take(2, 0, 2), take(2, 0, 3), take(2, 0, 0)};
    p.threads = {{refund(2, 1), refund(2, 2), refund(1, 3), refund(1, 3)},
                 {advance(20), take(6, by_clock, 4), refund(2, 0), take(3, by_clock, 5)}};
    return gcra_world::explore(options::bounded("", 0, 0), p);
}

TEST(gcra_orders_model, each_is_earned) {
    // The quick ones first.
    auto const all =
        model::weaken_each("gcra_cell.hpp", {{"four refunds and a fifth", four_refunds_and_a_fifth},
                                             {"refund after a change", refund_beside_attempts_after_a_change},
                                             {"slot written over", slot_written_over},
                                             {"change beside attempts", change_beside_attempts},
                                             {"refund beside attempts", refund_beside_attempts}});
    for (auto const& e : all) {
        std::cout << e.what << ": " << (e.noticed_by.empty() ? "NOBODY" : e.noticed_by) << '\n';
        EXPECT_FALSE(e.noticed_by.empty()) << e.what << ": not needed, or not looked for";
    }
    EXPECT_EQ(model::unreached("../../include/weir/detail/gcra_cell.hpp", all), std::vector<unsigned>{});
}

TEST(gcra_orders_model, the_cases_pass_with_the_orders_as_they_are) {
    for (auto const& run : {four_refunds_and_a_fifth, refund_beside_attempts_after_a_change, slot_written_over,
                            change_beside_attempts, refund_beside_attempts}) {
        auto const o = run();
        EXPECT_TRUE(o.failure.empty()) << o;
        std::cout << o.executions << " executions\n";
    }
}

}  // namespace
