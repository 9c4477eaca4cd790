// SPDX-License-Identifier: MIT
//
// all_of in every interleaving: over small parts made here, completely; over real ones, with few preemptions.
// What each must show: all_of_world.hpp.
#include "all_of_world.hpp"
#include "model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

namespace all_of_model_test {

using namespace all_of_world;

// ---- over small parts, completely ----

TEST(all_of_model, crossed_composites_of_two_threads) {
    program p;
    p.threads = {{take(0, parts::pq)}, {take(1, parts::qp)}};
    sees_over_small_parts("{p,q} | {q,p}", p);
    p.limits = {2, 2};
    p.threads = {{take(0, parts::pq), take(1, parts::pq)}, {take(2, parts::qp), take(3, parts::qp)}};
    sees_over_small_parts("2x2", p);
    p.threads = {{take(0, parts::pq), refund(0, parts::pq)}, {take(2, parts::qp), take(3, parts::qp)}};
    sees_over_small_parts("2x2, a refund", p);
    p.before = {take(4, parts::pq, 1, 2)};
    p.threads = {{refund(4, parts::pq), take(0, parts::pq)}, {take(2, parts::qp, 2, 1), take(3, parts::q)}};
    sees_over_small_parts("2x2, a refund of an earlier grant", p);
}

TEST(all_of_model, different_costs_and_attempts_past_the_composite) {
    program p;
    p.limits = {2, 2};
    p.threads = {{take(0, parts::pq, 1, 2), take(1, parts::pq, 2, 1)}, {take(2, parts::q), take(3, parts::p)}};
    sees_over_small_parts("costs, 2x2", p);
    p.threads = {{take(0, parts::pq)}, {take(1, parts::qp)}, {take(2, parts::q, 0, 2)}};
    sees_over_small_parts("costs, 3x1", p);
    p.limits = {1, 1};
    p.threads = {{take(0, parts::pq, 0, 1)}, {take(1, parts::pq)}, {take(2, parts::qp, 1, 0)}};
    sees_over_small_parts("a cost of nothing, 3x1", p);
}

TEST(all_of_model, nested_ones_and_the_same_limiter_twice) {
    program p;
    p.limits = {3, 1};
    p.threads = {{take(0, parts::nested)}, {take(1, parts::twice)}, {take(2, parts::qp)}};
    sees_over_small_parts("{p,{p,q}} | {p,p} | {q,p}", p);
    p.limits = {4, 2};
    p.threads = {{take(0, parts::nested), refund(0, parts::nested)}, {take(1, parts::twice), take(2, parts::pq)}};
    sees_over_small_parts("{p,{p,q}}, refund | {p,p}, {p,q}", p);
}

TEST(all_of_model, of_two_that_race_for_the_same_one_wins) {
    // Both charge in one order, so they cannot deny each other.
    auto const o = model::explore(options::weak("one wins"), [] {
        struct race {
            model::clock clock{0};
            window_part p{clock, 1};
            window_part q{clock, 1};
            weir::all_of<window_part&, window_part&> pq{p, q};
            weir::all_of<window_part&, window_part&> qp{q, p};
            int granted = 0;
        };
        auto const r = std::make_shared<race>();
        return scenario{{[r] { r->granted += r->pq.try_acquire(1, at(0)).granted() ? 1 : 0; },
                         [r] { r->granted += r->qp.try_acquire(1, at(0)).granted() ? 1 : 0; }},
                        [r] { model::check(r->granted == 1, "one wins"); }};
    });
    sees(o, coverage::complete);
}

TEST(all_of_model, retry_at_asked_for_after_a_lost_race) {
    program p;
    p.limits = {2, 2};
    p.asks_when = true;
    p.threads = {{take(0, parts::pq, 2, 1)}, {take(1, parts::qp, 2, 1)}, {take(2, parts::q, 0, 2)}};
    sees<window_part, window_part>(options::weak(""), "retry_at, windows", p);
    sees<bucket_part, bucket_part>(options::weak(""), "retry_at, buckets", p);
}

TEST(all_of_model, what_always_denies_is_found_out) {
    program p;
    p.denies_always = true;
    p.threads = {{take(0, parts::pq)}, {take(1, parts::qp)}};
    auto const o = model::explore(options::weak("denies always"), of<window_part, window_part>(p));
    EXPECT_NE(o.failure.find("not linearizable"), std::string::npos) << o;
}

TEST(all_of_model, a_lost_race_costs_a_bucket_at_most_what_it_filled_by_meanwhile) {
    for (std::int64_t const filled : {0, 1, 2, 3}) {
        std::uint64_t most = 0;
        auto const o = model::explore(options::weak("time runs"), [&most, filled] {
            struct race {
                model::clock clock{0};
                bucket_part p{clock, 2};
                bucket_part q{clock, 1};
                weir::all_of<bucket_part&, bucket_part&> both{p, q};
                bool granted = false;
            };
            auto const r = std::make_shared<race>();
            return scenario{
                {[r] { r->granted = r->both.try_acquire({2, 1}, at(0)).granted(); },
                 [r] { (void)r->q.try_acquire(1, at(0)); }, [r, filled] { r->clock.advance(nanoseconds{filled}); }},
                [r, &most, filled] {
                    std::uint64_t const granted = r->granted ? 2 : 0;
                    std::uint64_t const lost = r->p.full_at() - granted;
                    model::check(r->p.full_at() >= granted, "more than was taken was given back");
                    model::check(lost <= static_cast<std::uint64_t>(filled), "more was lost");
                    model::check(r->q.full_at() == 1, "the part charged last");
                    most = std::max(most, lost);
                }};
        });
        model::sees(o, coverage::complete);
        EXPECT_EQ(most, std::min<std::uint64_t>(static_cast<std::uint64_t>(filled), 2)) << "the race was not lost";
    }
}

void stands_still(options o, program p, bool buckets) {
    p.limits = {2, 2};
    p.most_steps = 15;
    auto const make = buckets ? of<bucket_part, bucket_part>(p) : of<window_part, window_part>(p);
    auto const threads = static_cast<unsigned>(p.threads.size());
    for (unsigned count = 1; count < threads; ++count) {
        o.name = "stands still: " + std::to_string(count);
        model::sees(model::explore_frozen(o, threads, count, make), coverage::complete);
    }
}

TEST(all_of_model, a_thread_that_stops_anywhere_stops_no_other) {
    program p;
    p.threads = {{take(0, parts::pq), refund(0, parts::pq)}, {take(1, parts::qp), take(2, parts::q)}};
    stands_still(options::weak(""), p, false);
    stands_still(options::sc(""), p, true);
    p.threads = {{take(0, parts::pq)}, {take(1, parts::qp)}, {take(2, parts::q)}};
    stands_still(options::sc(""), p, false);
}

TEST(all_of_model_long, a_thread_that_stops_anywhere_stops_no_other) {
    program p;
    p.threads = {{take(0, parts::pq), refund(0, parts::pq)}, {take(1, parts::qp), take(2, parts::q)}};
    stands_still(options::weak(""), p, true);
    p.threads = {{take(0, parts::pq)}, {take(1, parts::qp)}, {take(2, parts::q)}};
    stands_still(options::weak("", 0), p, false);
    stands_still(options::sc(""), p, true);
}

// ---- over real parts, with few preemptions ----

/// Where a word is waited for, an old store is read once in a row, no more.
options bounded_by(unsigned preemptions) {
    options o = options::bounded("", preemptions);
    o.rereads = 1;
    return o;
}

template <class P, class Q>
void sees_over_real_parts(std::string const& name, unsigned preemptions, bool three = false) {
    program p;
    p.limits = {2, 2};
    if (three) {
        p.threads = {{take(0, parts::pq)}, {take(1, parts::qp)}, {take(2, parts::q, 0, 2)}};
        sees<P, Q>(bounded_by(preemptions), name + ", 3x1", p);
        return;
    }
    p.limits = {1, 1};
    p.threads = {{take(0, parts::pq)}, {take(1, parts::qp)}};
    sees<P, Q>(bounded_by(preemptions), name + ", 2x1", p);
    p.limits = {2, 2};
    p.threads = {{take(0, parts::pq), refund(0, parts::pq)}, {take(1, parts::qp), take(2, parts::q)}};
    sees<P, Q>(bounded_by(preemptions), name + ", 2x2", p);
}

TEST(all_of_model, real_parts) {
    sees_over_real_parts<window_counter, token_bucket>("counter and bucket", 2);
    sees_over_real_parts<window_log, window_counter>("log and counter", 2);
    sees_over_real_parts<token_bucket, token_bucket>("buckets", 2);
}

TEST(all_of_model_long, real_parts) {
    sees_over_real_parts<window_log, token_bucket>("log and bucket", 3);
    sees_over_real_parts<window_counter, window_counter>("counters", 3);
    sees_over_real_parts<window_counter, token_bucket>("counter and bucket", 2, true);
    sees_over_real_parts<window_log, window_counter>("log and counter", 2, true);
}

}  // namespace all_of_model_test
