// SPDX-License-Identifier: MIT
// Changes of a token_bucket's rate and burst in every interleaving. What each must show: gcra_world.hpp.
#include "gcra_world.hpp"
#include "model.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace gcra_change_model_test {

using namespace gcra_world;
using model::coverage;

menu changes() {
    menu m;
    m.promise = false;  // there are two of them; the algorithm's own decisions are compared
    m.others = {{20, 2}, {5, 3}, {40, 1}};
    m.bursts = {2};
    return m;
}

TEST(gcra_change_model, an_attempt_is_decided_by_the_one_configuration_or_the_other_whole) {
    auto m = changes();
    m.before = {{}, {take(1, 0, 0)}, {change(1, 0), take(1, 0, 0)}};
    m.one = {{change(2, 0)}, {change(3, 10)}};
    m.other = {{take(1, 0, 1), take(2, 10, 2)}, {take(2, 0, 1)}, {take(1, 10, 1)}, {refund(1, 0)}};
    auto const s = each_of(options::weak(""), m);
    report("token_bucket, change", s);
    ASSERT_TRUE(s.failure.empty()) << s;
}

TEST(gcra_change_model, two_changes_exclude_each_other_and_the_attempts_go_on) {
    auto m = changes();
    m.before = {{take(1, 0, 0)}, {change(1, 0), take(1, 0, 0)}};
    m.one = {{change(2, 0)}, {change(2, 0), change(3, 10)}};
    m.other = {{change(3, 0)}, {change(1, 10), take(1, 10, 1)}, {take(1, 0, 1), change(1, 10)}};
    for (auto const& o : {options::sc(""), options::weak("")}) {
        auto const s = each_of(o, m);
        report("token_bucket, two changers", s);
        ASSERT_TRUE(s.failure.empty()) << s;
    }
}

TEST(gcra_change_model, three_threads_change_and_take) {
    sum all;
    for (auto const& before : {ops{}, ops{change(1, 0)}}) {
        for (std::int64_t t : {0, 10}) {
            program p;
            p.first = {10, 2};
            p.others = changes().others;
            p.promise = false;
            p.before = before;
            p.threads = {{change(2, t)}, {take(1, 0, 1)}, {take(2, 10, 2)}};
            auto const out = gcra_world::explore(options::weak(""), p);
            ASSERT_TRUE(all.add(out, coverage::complete)) << out;
        }
    }
    report("token_bucket, change 3x1", all);
}

program frozen(ops const& before, std::vector<ops> threads) {
    program p;
    p.first = {10, 2};
    p.others = changes().others;
    p.promise = false;
    p.before = before;
    p.threads = std::move(threads);
    // A look: the word, two versions, six words of a slot, the word again. A change: two exchanges in addition to its
    // look, seven for the slot, one for the word. An attempt that finds a change: the word, and then a look.
    p.most_steps = 22;
    p.retry_steps = 11;
    return p;
}

TEST(gcra_change_model, a_changer_that_stops_at_any_step_stops_no_attempt) {
    sum all;
    for (auto const& before : {ops{}, ops{change(1, 0)}}) {
        for (auto const& other : {ops{take(1, 0, 1), take(1, 10, 2)}, ops{change(3, 10)}, ops{reserve(1, 10, 50, 1)}}) {
            auto const p = frozen(before, {{change(2, 0)}, other});
            auto const out =
                model::explore_frozen(options::weak(p.name()), 2, 1, [&p] { return start<world<token_bucket>>(p); });
            ASSERT_TRUE(all.add(out, coverage::complete)) << out;
        }
    }
    report("token_bucket, change, one of two frozen", all);
}

TEST(gcra_change_model_long, with_a_changer_and_another_frozen_at_any_step_an_attempt_ends) {
    for (unsigned count : {1U, 2U}) {
        sum all;
        for (auto const& before : {ops{}, ops{change(1, 0)}}) {
            for (auto const& other : {ops{take(1, 0, 1)}, ops{change(3, 10)}, ops{reserve(1, 10, 50, 1)}}) {
                auto const p = frozen(before, {{change(2, 0)}, other, {take(1, 10, 2)}});
                auto const out = model::explore_frozen(options::weak(p.name(), count == 1 ? 1 : 0), 3, count,
                                                       [&p] { return start<world<token_bucket>>(p); });
                ASSERT_TRUE(all.add(out, coverage::complete)) << out;
            }
        }
        report("token_bucket, change, frozen", all);
    }
}

/// The header: three changes, ending at the very same word, would have to fit in one attempt to be mistaken.
program sleeping_attempt(unsigned changes) {
    program p;
    p.first = {10, 5};
    p.others = {{10, 3}, {10, 2}, {10, 4}, {10, 1}};
    p.promise = false;
    p.before = {change(1, 0)};
    ops meanwhile;
    for (unsigned i = 0; i < changes; ++i) meanwhile.push_back(change(5 - changes + i, 0));
    p.threads = {{take(3, 0, 0)}, meanwhile};
    return p;
}

TEST(gcra_change_model, it_takes_three_changes_within_one_attempt_to_be_mistaken) {
    auto const three = gcra_world::explore(options::bounded("three", 1), sleeping_attempt(3));
    EXPECT_NE(three.failure.find("not linearizable"), std::string::npos) << three;
    auto const two = gcra_world::explore(options::weak("two"), sleeping_attempt(2));
    EXPECT_TRUE(two.passed(coverage::complete)) << two;
    std::cout << "token_bucket, two changes in an attempt: " << two << '\n';
}

}  // namespace gcra_change_model_test
