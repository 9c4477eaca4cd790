// SPDX-License-Identifier: MIT
// Each memory order of gcra_state.hpp and refund_epochs.hpp is needed: weakened alone, it makes one of these fail.
#include "gcra_world.hpp"
#include "model.hpp"
#include "weakening.hpp"

#include <gtest/gtest.h>

#include <iostream>
#include <string>
#include <vector>

namespace gcra_orders_model_test {

using namespace gcra_world;
using model::coverage;

/// The first failure among them, or what they came to.
outcome one_of(menu const& m, options const& o = options::weak("", 0)) {
    auto const s = each_of(o, m);
    outcome all;
    all.executions = s.executions;
    all.failure = s.failure;
    all.seen = coverage::complete;  // each of them, or there is a failure
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

outcome one_preemption(permits burst, ops const& before, std::vector<ops> const& threads) {
    program p;
    p.first = {10, burst};
    p.by_algorithm = false;
    p.before = before;
    p.threads = threads;
    return gcra_world::explore(options::bounded("", 1, 0), p);
}

/// By its TAT a charge is the last again; that there has been a refund must be known all the same.
outcome refund_of_what_is_last_again() {
    return one_preemption(8, {take(6, 0, 1), take(2, 0, 0)},
                          {{refund(6, 1)}, {advance(20), take(6, by_clock, 4), refund(2, 0), take(3, by_clock, 5)}});
}

/// A refund that begins when two are over, which ended in the epoch in which they began. It must not go by a word from
/// before them.
outcome refund_after_two() {
    return one_preemption(
        8, {take(3, 0, 1), take(3, 0, 2), take(2, 0, 0)},
        {{refund(1, 0)}, {refund(3, 1), refund(3, 2), advance(20), take(6, by_clock, 3), take(3, by_clock, 4)}});
}

/// The same with a third, of another thread than the two, that begins the epoch again.
outcome refund_after_two_and_one() {
    return one_preemption(8, {take(2, 0, 1), take(2, 0, 2), take(2, 0, 3), take(2, 0, 0)},
                          {{refund(1, 0)},
                           {refund(2, 1), refund(2, 2)},
                           {refund(2, 3), advance(20), take(4, by_clock, 4), take(5, by_clock, 5)}});
}

/// Bookings of a queue, cancelled from the front, in the middle and from the back while others book. The exchanges that
/// cancel are relaxed; this shows that they may be.
outcome cancelling_out_of_order() {
    sum all;
    for (auto const& threads : std::vector<std::vector<ops>>{{{refund(1, 0), refund(1, 2)}, {refund(1, 1)}},
                                                             {{refund(1, 1), take(1, 10, 4)}, {refund(1, 2)}},
                                                             {{refund(1, 0), take(1, 10, 4)}, {refund(1, 1)}},
                                                             {{refund(1, 1)}, {take(1, 0, 4), refund(1, 4)}}}) {
        program p;
        p.first = {10, 4};
        p.before = {take(1, 0, 0), take(1, 0, 1), take(1, 0, 2)};
        p.threads = threads;
        if (!all.add(gcra_world::explore<leaky_bucket_queue>(options::weak("", 0), p), coverage::complete)) break;
    }
    outcome o;
    o.executions = all.executions;
    o.failure = all.failure;
    o.seen = coverage::complete;
    return o;
}

void each_is_earned(std::string const& header, std::vector<model::trial> const& trials) {
    auto const all = model::weaken_each(header, trials);
    for (auto const& e : all) {
        std::cout << e.what << ": " << (e.noticed_by.empty() ? "NO CASE" : e.noticed_by) << '\n';
        EXPECT_FALSE(e.noticed_by.empty()) << e.what << ": not needed, or not looked for";
    }
    EXPECT_EQ(model::unreached("../../include/weir/detail/" + header, all), std::vector<unsigned>{});
}

// The quick ones first.
TEST(gcra_orders_model, each_is_earned) {
    each_is_earned("gcra_state.hpp", {{"refund of what is last again", refund_of_what_is_last_again},
                                      {"refund after two", refund_after_two},
                                      {"refund after two and one", refund_after_two_and_one},
                                      {"refund after a change", refund_beside_attempts_after_a_change},
                                      {"slot written over", slot_written_over},
                                      {"change during attempts", change_beside_attempts},
                                      {"refund during attempts", refund_beside_attempts}});
}
TEST(gcra_orders_model, each_of_the_epochs_is_earned) {
    each_is_earned("refund_epochs.hpp",
                   {{"refund after two", refund_after_two}, {"refund after two and one", refund_after_two_and_one}});
}

TEST(gcra_orders_model, the_cases_pass_with_the_orders_as_they_are) {
    for (auto const& run : {refund_of_what_is_last_again, refund_after_two, refund_after_two_and_one,
                            refund_beside_attempts_after_a_change, slot_written_over, change_beside_attempts,
                            refund_beside_attempts, cancelling_out_of_order}) {
        auto const o = run();
        EXPECT_TRUE(o.failure.empty()) << o;
        std::cout << o.executions << " executions\n";
    }
}

}  // namespace gcra_orders_model_test
