// SPDX-License-Identifier: MIT
//
// Refunds, bookings and settling of token_bucket in every interleaving, its clock moving.
// What each must show: gcra_world.hpp.
#include "gcra_world.hpp"
#include "model.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

namespace {

using namespace gcra_world;
using model::coverage;

void report(char const* what, sum const& s) {
    std::cout << what << ": " << s << '\n';
    testing::Test::RecordProperty("executions", std::to_string(s.executions));
}

TEST(gcra_refund_model, refunds_beside_attempts_keep_the_promise_over_live_permits) {
    menu m;
    m.bursts = {2, 3};
    m.before = {{take(2, 0, 0)}, {take(1, 0, 0), take(1, 0, 1)}};
    m.one = {{refund(1, 0)},
             {refund(2, 0)},
             {refund(1, 0), refund(1, 0)},
             {refund(2, 0), take(1, by_clock, 2)},
             {take(1, by_clock, 2), refund(1, 0)}};
    m.other = {{take(1, by_clock, 3), take(1, by_clock, 4)},
               {take(2, by_clock, 3)},
               {refund(1, 1), take(2, by_clock, 3)},
               {take(1, 0, 3), refund(1, 3)},
               {take(1, by_clock, 3), refund(1, 1)}};
    m.clocks = {0, 10};
    m.moves = {0, 5, 15};
    for (auto const& o : {options::weak("")}) {
        auto const s = each_of(o, m);
        report("token_bucket, refunds", s);
        ASSERT_TRUE(s.failure.empty()) << s;
    }
}

TEST(gcra_refund_model, bookings_and_their_cancelling_keep_the_promise_at_the_moments_booked) {
    menu m;
    m.bursts = {1, 2};
    m.before = {{take(1, 0, 0)}, {take(1, 0, 0), reserve(1, 0, 20, 1)}};
    m.one = {{reserve(1, by_clock, 20, 2)},
             {reserve(1, by_clock, 20, 2), refund(1, 2)},
             {reserve(1, by_clock, 5, 2), take(1, by_clock, 3)}};
    m.other = {{take(1, by_clock, 4)},
               {refund(1, 0)},
               {refund(1, 1), take(1, by_clock, 4)},
               {refund(1, 1), reserve(1, by_clock, 40, 4)},
               {reserve(1, by_clock, 20, 4), refund(1, 4)}};
    m.clocks = {0, 10};
    m.moves = {0, 5, 15};
    auto const s = each_of(options::weak(""), m);
    report("token_bucket, bookings", s);
    ASSERT_TRUE(s.failure.empty()) << s;
}

TEST(gcra_refund_model, settling_charges_what_was_used_and_debt_delays_the_others) {
    menu m;
    m.promise = false;  // debt is outside of it
    m.before = {{take(2, 0, 0)}, {take(1, 0, 0), take(1, 0, 1)}};
    m.one = {{settle(1, 0)},
             {settle(2, 0)},
             {settle(4, 0)},
             {settle(3, 0), settle(1, 0)},
             {take(1, by_clock, 2), settle(2, 2)}};
    m.other = {{take(1, by_clock, 3), take(1, by_clock, 4)},
               {settle(3, 1)},
               {settle(2, 1), take(1, by_clock, 3)},
               {refund(1, 1)}};
    m.clocks = {0, 10};
    m.moves = {0, 15};
    auto const s = each_of(options::weak(""), m);
    report("token_bucket, settling", s);
    ASSERT_TRUE(s.failure.empty()) << s;
}

TEST(gcra_refund_model, refunds_of_three_threads_keep_the_promise) {
    sum all;
    for (std::int64_t clock : {0, 10}) {
        for (auto const& third : {ops{take(2, by_clock, 4)}, ops{take(1, 0, 4)}, ops{refund(1, 2)}}) {
            for (permits k : {1U, 2U}) {
                program p;
                p.first = {10, 4};
                p.clock = clock;
                p.before = {take(2, 0, 0), take(1, 0, 1), take(1, 0, 2)};
                p.threads = {{refund(k, 0)}, {refund(1, 1)}, third};
                auto const out = gcra_world::explore(options::weak(""), p);
                ASSERT_TRUE(all.add(out, coverage::complete)) << out;
            }
        }
    }
    report("token_bucket, refunds 3x1", all);
}

TEST(gcra_refund_model, real_time_order_explains_refunds_as_well) {
    menu m;
    m.before = {{take(1, 0, 0), take(1, 0, 1)}};
    m.one = {{refund(1, 0)}, {refund(1, 0), take(1, by_clock, 2)}, {reserve(1, 0, 20, 2)}};
    m.other = {{take(1, 0, 3)}, {take(1, by_clock, 3)}, {refund(1, 1)}, {refund(1, 1), take(2, by_clock, 3)}};
    m.clocks = {0, 5, 10};
    auto const s = each_of(options::sc(""), m);
    report("token_bucket, refunds, SC", s);
    ASSERT_TRUE(s.failure.empty()) << s;
}

TEST(gcra_refund_model, with_one_thread_or_two_frozen_at_any_step_the_others_end) {
    for (unsigned count : {1U, 2U}) {
        sum all;
        for (auto const& one : {ops{refund(1, 0)}, ops{reserve(1, 0, 20, 2)}, ops{settle(4, 0)}}) {
            for (auto const& other : {ops{refund(1, 1)}, ops{take(1, 0, 3)}}) {
                program p;
                p.first = {10, 3};
                p.promise = one[0].what != verb::settle;
                p.before = {take(2, 0, 0), take(1, 0, 1)};
                p.threads = {one, other, {take(1, 10, 4)}};
                // A refund: word, the two marks, the clock, the second mark again and its exchange, the word's. A clock
                // that stands still.
                p.most_steps = 7;
                p.retry_steps = 7;
                options o = options::weak(p.name(), count == 1 ? 1 : 0);
                auto const out = model::explore_frozen(o, 3, count, [&p] { return start<world<token_bucket>>(p); });
                ASSERT_TRUE(all.add(out, coverage::complete)) << out;
            }
        }
        report("token_bucket, refunds, frozen", all);
    }
}

/// The header: four refunds in part that end at the very same TAT would have to fit in one stall of a refund to be
/// mistaken.
program stalled_refund(bool four) {
    program p;
    p.first = {10, 8};
    p.by_algorithm = false;
    p.before = {take(2, 0, 1), take(2, 0, 2), take(2, 0, 3), take(2, 0, 0)};
    ops meanwhile{refund(2, 1), refund(2, 2)};
    if (four) {
        meanwhile.insert(meanwhile.end(), {refund(1, 3), refund(1, 3)});
    } else {
        meanwhile.insert(meanwhile.end(), {refund(2, 3)});
    }
    meanwhile.insert(meanwhile.end(), {advance(20), take(6, by_clock, 4)});
    p.threads = {{refund(1, 0)}, meanwhile, {take(3, by_clock, 5)}};
    return p;
}

TEST(gcra_refund_model, it_takes_four_refunds_within_the_stall_of_another_to_be_mistaken) {
    // Newest stores only: stale ones and failures for nothing multiply what three such long threads can do.
    options o = options::bounded("four", 1, 0);
    o.stale = false;
    auto const four = gcra_world::explore(o, stalled_refund(true));
    EXPECT_NE(four.failure.find("more than the promise"), std::string::npos) << four;
    o.name = "three";
    o.preemptions = 3;
    auto const three = gcra_world::explore(o, stalled_refund(false));
    EXPECT_TRUE(three.passed(coverage::preemption_bounded)) << three;
    std::cout << "token_bucket, stalled refund: " << three << '\n';
}

}  // namespace
