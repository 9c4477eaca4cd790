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
#include <memory>
#include <string>
#include <vector>

namespace gcra_refund_model_test {

using namespace gcra_world;
using model::coverage;

void refunds_beside_attempts(options const& o) {
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
    auto const s = each_of(o, m);
    report("token_bucket, refunds", s);
    ASSERT_TRUE(s.failure.empty()) << s;
}

TEST(gcra_refund_model, refunds_during_attempts_keep_the_promise_over_live_permits) {
    refunds_beside_attempts(options::weak("", 0));
}
TEST(gcra_refund_model, refunds_of_a_fixed_bucket_keep_the_promise_over_live_permits) {
    sum all;
    for (auto const& one : {ops{refund(1, 0)}, ops{refund(2, 0), take(1, by_clock, 2)}}) {
        for (auto const& other : {ops{take(2, by_clock, 3)}, ops{take(1, 0, 3), refund(1, 3)}}) {
            program p;
            p.first = {10, 2};
            p.before = {take(2, 0, 0)};
            p.threads = {one, other, {advance(15)}};
            auto const out = gcra_world::explore<fixed_token_bucket>(options::weak("", 0), p);
            ASSERT_TRUE(all.add(out, coverage::complete)) << out;
        }
    }
    report("fixed_token_bucket, refunds", all);
}
TEST(gcra_refund_model_long, refunds_during_attempts_keep_the_promise_under_spurious_failures) {
    refunds_beside_attempts(options::weak(""));
}

void bookings_beside_refunds(options const& o, std::vector<permits> const& bursts) {
    menu m;
    m.bursts = bursts;
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
    auto const s = each_of(o, m, model::whole(o));
    report("token_bucket, bookings", s);
    ASSERT_TRUE(s.failure.empty()) << s;
}

TEST(gcra_refund_model_long, bookings_and_their_cancelling_keep_the_promise_at_the_moments_booked) {
    bookings_beside_refunds(options::weak("", 0), {1});
}
TEST(gcra_refund_model_long, bookings_keep_the_promise_when_exchanges_fail_for_nothing) {
    bookings_beside_refunds(options::bounded("", 1), {1, 2});
}

/// Reservations cancelled in every order: what is behind the last live one goes back, all of it.
void reservations_cancelled(options const& o, std::vector<std::vector<ops>> const& programs) {
    sum all;
    for (auto const& threads : programs) {
        program p;
        p.first = {10, 2};
        p.only_ahead = true;
        p.before = {take(2, 0, 0), reserve(1, 0, 50, 1), reserve(2, 0, 50, 2), reserve(1, 0, 50, 3)};
        p.threads = threads;
        auto const out = gcra_world::explore(o, p);
        ASSERT_TRUE(all.add(out, model::whole(o))) << out;
    }
    report("token_bucket, cancelled", all);
}

TEST(gcra_refund_model, reservations_cancelled_in_any_order_leave_no_gap) {
    reservations_cancelled(options::weak("", 0), {{{refund(1, 1), refund(1, 3)}, {refund(2, 2)}},
                                                  {{refund(1, 1)}, {refund(2, 2), refund(1, 3)}},
                                                  {{refund(1, 2), refund(1, 2)}, {refund(1, 3)}},
                                                  {{refund(1, 1), take(1, 5, 4)}, {refund(1, 3)}},
                                                  {{refund(1, 3)}, {reserve(1, 0, 50, 4), refund(1, 4)}}});
}
TEST(gcra_refund_model_long, reservations_cancelled_by_three_threads_leave_no_gap) {
    reservations_cancelled(model::preempted(2),
                           {{{refund(1, 1)}, {refund(2, 2)}, {refund(1, 3)}},
                            {{refund(1, 3)}, {refund(2, 2)}, {reserve(1, 0, 50, 4), refund(1, 4)}}});
}

TEST(gcra_refund_model, refunds_in_part_and_cancelled_reservations_keep_the_promise) {
    menu m;
    m.before = {{take(2, 0, 0), reserve(1, 0, 50, 1), reserve(1, 0, 50, 2)}};
    m.one = {{refund(1, 1)}, {refund(1, 2), refund(1, 1)}};
    m.other = {{refund(2, 0), reserve(1, by_clock, 50, 3)}, {refund(1, 2)}, {take(1, by_clock, 3), refund(1, 2)}};
    m.clocks = {0, 10};
    m.moves = {0, 15};
    auto const s = each_of(options::weak("", 0), m);
    report("token_bucket, refunds and cancelled reservations", s);
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

TEST(gcra_refund_model_long, refunds_of_three_threads_keep_the_promise) {
    sum all;
    for (std::int64_t clock : {0, 10}) {
        for (auto const& third : {ops{take(2, by_clock, 4)}, ops{take(1, 0, 4)}, ops{refund(1, 2)}}) {
            for (permits k : {1U, 2U}) {
                program p;
                p.first = {10, 4};
                p.clock = clock;
                p.before = {take(2, 0, 0), take(1, 0, 1), take(1, 0, 2)};
                p.threads = {{refund(k, 0)}, {refund(1, 1)}, third};
                auto const out = gcra_world::explore(options::weak("", 0), p);
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

void others_end(unsigned count, std::vector<ops> const& ones) {
    sum all;
    for (auto const& one : ones) {
        for (auto const& other : {ops{refund(1, 1)}, ops{take(1, 0, 3)}}) {
            program p;
            p.first = {10, 3};
            p.promise = one[0].what != verb::settle;
            p.before = {take(2, 0, 0), take(1, 0, 1)};
            p.threads = {one, other, {take(1, 10, 4)}};
            // A refund: the word, refunds in progress, the word, the marks, the clock, two marks again and their
            // exchanges, the word's, that it is over, and what is cancelled. A clock that stands still.
            p.most_steps = 14;
            p.retry_steps = 12;
            auto const out = model::explore_frozen(options::weak(p.name(), 0), 3, count,
                                                   [&p] { return start<world<token_bucket>>(p); });
            ASSERT_TRUE(all.add(out, coverage::complete)) << out;
        }
    }
    report("token_bucket, refunds, frozen", all);
}

TEST(gcra_refund_model_long, with_one_thread_or_two_frozen_at_any_step_the_others_end) {
    for (unsigned count : {1U, 2U}) others_end(count, {{refund(1, 0)}, {settle(4, 0)}});
}
TEST(gcra_refund_model_long, with_a_thread_frozen_in_a_reservation_the_others_end) {
    others_end(1, {{reserve(1, 0, 20, 2)}});
}

/// A refund of 1, and others that meanwhile bring the word back to what it was: they give back 6, in so many parts, and
/// take as much later. If the refund succeeded then, 3 more would be granted at that time, and be one too many.
program brought_back(ops const& parts) {
    program p;
    p.first = {10, 8};
    p.by_algorithm = false;
    p.before = {take(3, 0, 1), take(3, 0, 2), take(2, 0, 0)};
    ops meanwhile = parts;
    meanwhile.insert(meanwhile.end(), {advance(20), take(6, by_clock, 5)});
    p.threads = {{refund(1, 0)}, meanwhile, {take(3, by_clock, 6)}};
    return p;
}

TEST(gcra_refund_model, a_refund_that_stalls_is_not_mistaken_when_others_bring_its_word_back) {
    // Newest stores only: stale ones and failures for nothing multiply what three such long threads can do.
    auto o = options::bounded("", 3, 0);
    o.stale = false;
    sum all;
    for (auto const& parts : {ops{refund(3, 1), refund(3, 2)}, ops{refund(2, 1), refund(1, 1), refund(3, 2)},
                              ops{refund(2, 1), refund(1, 1), refund(2, 2), refund(1, 2)}}) {
        auto const out = gcra_world::explore(o, brought_back(parts));
        ASSERT_TRUE(all.add(out, coverage::preemption_bounded)) << out;
    }
    report("token_bucket, stalled refund", all);
}

TEST(gcra_refund_model, a_stalled_refund_is_not_mistaken_when_the_word_comes_back) {
    program p;
    p.first = {10, 8};
    p.before = {take(2, 0, 0), take(1, 0, 1)};
    p.threads = {{refund(2, 0)}, {refund(1, 1), advance(20), take(1, by_clock, 2), take(8, by_clock, 3)}};
    auto const out = gcra_world::explore(options::weak(""), p);
    EXPECT_TRUE(out.passed(coverage::complete)) << out;
    std::cout << "token_bucket, undone meanwhile: " << out << '\n';
}

TEST(gcra_refund_model_long, three_threads_frozen_in_refunds_cost_others_only_their_refunds) {
    // Each leaves one epoch and stops in the next.
    program p;
    p.first = {10, 7};
    for (unsigned i = 0; i < 7; ++i) p.before.push_back(take(1, 0, i));
    p.threads = {
        {refund(1, 0)}, {refund(1, 1), refund(1, 2)}, {refund(1, 3), refund(1, 4)}, {refund(1, 5), refund(1, 6)}};
    std::uint64_t nothing = 0;
    auto o = options::bounded(p.name(), 0, 0);
    o.stale = false;
    auto const out = model::explore_frozen(o, 4, 3, [&] {
        auto const w = std::make_shared<world<token_bucket>>(p);
        auto s = model::play(w, p.threads);
        s.check = [w, &nothing] {
            for (auto const& e : w->history.entries()) {
                if (e.op.what == verb::refund && e.result && e.result->value == 0) ++nothing;
            }
            (void)w->check();
        };
        return s;
    });
    EXPECT_TRUE(out.passed(coverage::preemption_bounded)) << out;
    EXPECT_NE(nothing, 0U);
    std::cout << "token_bucket, refunds frozen in three epochs: " << out << '\n';
}

}  // namespace gcra_refund_model_test
