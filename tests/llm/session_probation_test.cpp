// SPDX-License-Identifier: MIT
//
// What the other calls do while an account or a model is on cooldown, and after it: one call asks, they wait.
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/detail/probation.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "../support/session_fixture.hpp"

namespace session_probation_test {

using namespace session_fixture;

request const one{.bound = tokens{.input = 1, .output = 1}};

struct llm_probation : llm_session {
    // An account that begins its cooldown, and calls that come at its end.
    void cool_down(pool& p, std::size_t calls) {
        EXPECT_EQ(drive(one, [](call&) { return in_arrears(); }).status, call_end::refused);
        ASSERT_GT(p.cooldown_until(0), clock.now());
        clock.advance_to(p.cooldown_until(0));
        for (std::size_t i = 0; i < calls; ++i) waiting.push_back(std::make_unique<call>(*s, one));
    }
    // How many of them are sent now; each of the others waits.
    std::size_t sent_now() {
        std::size_t n = 0;
        for (auto& c : waiting) {
            if (c->in_flight() || c->over()) continue;
            auto const step = c->next();
            if (step.kind == step_kind::send) {
                ++n;
            } else {
                EXPECT_EQ(step.kind, step_kind::wait);
                EXPECT_EQ(step.reason, "the account is on cooldown");
                EXPECT_GT(step.until, clock.now());
            }
        }
        return n;
    }

    // Of five calls one is sent, and ends so.
    void a_probe_ends(pool& p, reply const& end) {
        waiting.clear();
        cool_down(p, 5);
        EXPECT_EQ(sent_now(), 1U);
        waiting.front()->ended(end);
        waiting.erase(waiting.begin());
    }

    std::vector<std::unique_ptr<call>> waiting;
};

TEST_F(llm_probation, one_call_asks_after_a_cooldown_and_the_others_wait_for_its_answer) {
    pool& p = model("m", 1, wide);
    open();
    cool_down(p, 50);
    EXPECT_EQ(sent_now(), 1U);
    EXPECT_EQ(sent_now(), 0U);
    EXPECT_EQ(waiting[1]->next().until, clock.now() + s->options().timeout);
    waiting.front()->ended(answered());
    EXPECT_EQ(sent_now(), 49U);
}

TEST_F(llm_probation, a_probe_that_fails_begins_the_next_cooldown_for_all) {
    pool& p = model("m", 1, wide);
    open();
    cool_down(p, 50);
    EXPECT_EQ(sent_now(), 1U);
    waiting.front()->ended(in_arrears());
    waiting.erase(waiting.begin());
    EXPECT_EQ(p.cooldown_until(0), clock.now() + 2min);
    EXPECT_EQ(sent_now(), 0U);
    clock.advance(2min);
    EXPECT_EQ(sent_now(), 1U);
}

TEST_F(llm_probation, a_probe_that_is_not_sent_is_no_answer) {
    pool& p = model("m", 1, wide);
    open();
    for (auto const& end : {cancelled(), unsent(), overloaded(), no_answer()}) {
        a_probe_ends(p, end);
        EXPECT_EQ(sent_now(), 1U);
        waiting.front()->ended(answered());
        EXPECT_EQ(sent_now(), 3U);
        for (auto& c : waiting) c->ended(answered());
    }
}

TEST_F(llm_probation, a_server_that_refuses_a_request_is_up) {
    pool& p = model("m", 1, wide);
    open();
    for (auto const& end : {says(400, "InvalidParameter"), says(400, "DataInspectionFailed"), throttled()}) {
        a_probe_ends(p, end);
        EXPECT_EQ(sent_now(), 4U);
        for (auto& c : waiting) c->ended(answered());
    }
}

TEST_F(llm_probation, a_probe_that_never_ends_is_given_up) {
    pool& p = model("m", 1, wide);
    open();
    cool_down(p, 5);
    EXPECT_EQ(sent_now(), 1U);
    clock.advance(s->options().timeout - 1ns);
    EXPECT_EQ(sent_now(), 0U);
    clock.advance(1ns);
    EXPECT_EQ(sent_now(), 1U);
    waiting[0]->ended(answered());  // too late to count
    EXPECT_EQ(sent_now(), 0U);
    waiting[1]->ended(answered());
    EXPECT_EQ(sent_now(), 3U);
}

TEST_F(llm_probation, a_call_whose_account_failed_waits_for_the_probe_of_another) {
    pool& p = model("m", 2, wide);
    open();
    p.begin_cooldown(1, clock.now() + 1h);
    cool_down(p, 2);
    EXPECT_EQ(sent_now(), 1U);
    p.end_cooldown(1);
    call moves{*s, one};
    ASSERT_TRUE(sends(moves));
    moves.ended(in_arrears());
    EXPECT_EQ(moves.next().kind, step_kind::wait);
    waiting.front()->ended(answered());
    EXPECT_TRUE(sends(moves));
}

TEST_F(llm_probation, one_call_asks_a_model_that_was_down_and_the_others_take_the_next_model) {
    model("m", 2, wide);
    model("n", 1, wide);
    open();
    for (int i = 0; i < 3; ++i) drive(one, [](call& c) { return c.link() == 0 ? overloaded() : answered(); });
    ASSERT_GT(models.cooldown_until(0), clock.now());
    clock.advance_to(models.cooldown_until(0));
    std::vector<std::unique_ptr<call>> calls;
    for (int i = 0; i < 20; ++i) {
        calls.push_back(std::make_unique<call>(*s, one));
        ASSERT_TRUE(sends(*calls.back()));
        EXPECT_EQ(calls.back()->link(), i == 0 ? 0U : 1U);
    }
    calls.front()->ended(answered());
    call next{*s, one};
    ASSERT_TRUE(sends(next));
    EXPECT_EQ(next.link(), 0U);
}

// An hour is more than a retry waits for.
TEST_F(llm_probation, a_wait_that_ends_a_call_holds_for_the_others_too) {
    pool& p = model("m", 1, wide);
    open();
    fields const hour{"3600"};
    auto const end = drive(one, [&](call&) { return says(429, "Throttling.RateQuota", {}, hour); });
    EXPECT_EQ(end.status, call_end::exhausted);
    EXPECT_EQ(p.cooldown_until(0), clock.now() + 1h);
    for (int i = 0; i < 20; ++i) {
        auto const later = drive(one, [](call& c) { return not_sent(c), answered(); });
        EXPECT_EQ(later.status, call_end::refused);
        EXPECT_EQ(later.reason, "the account is on cooldown");
    }
    request patient = one;
    patient.deadline = clock.now() + 2h;
    call c{*s, patient};
    EXPECT_EQ(c.next().until, clock.now() + 1h);
    clock.advance(1h);
    EXPECT_TRUE(sends(c));  // a limit: no probe
    call other{*s, one};
    EXPECT_TRUE(sends(other));
}

TEST(probation, holds_one_ticket_at_a_time) {
    weir::llm::probation<time_point> p;
    decltype(p)::ticket a, b;
    time_point const t{10s};
    EXPECT_TRUE(p.enter(a, t, t + 5s));
    EXPECT_TRUE(p.enter(b, t, t + 5s));
    p.leave(a);
    p.pass(b);
    EXPECT_EQ(p.ready(t), t);
    p.begin();
    EXPECT_EQ(p.ready(t), t);
    EXPECT_TRUE(p.enter(a, t, t + 5s));
    EXPECT_FALSE(p.enter(b, t, t + 5s));
    EXPECT_EQ(p.ready(t), t + 5s);
    p.begin();
    p.pass(b);  // is no probe
    EXPECT_EQ(p.ready(t), t + 5s);
    p.leave(a);
    p.leave(a);
    EXPECT_TRUE(p.enter(b, t, t + 5s));
    EXPECT_EQ(p.ready(t + 5s), t + 5s);
    EXPECT_TRUE(p.enter(a, t + 5s, t + 10s));
    p.pass(b);  // was given up
    EXPECT_EQ(p.ready(t + 5s), t + 10s);
    p.pass(a);
    EXPECT_EQ(p.ready(t + 5s), t + 5s);
    EXPECT_TRUE(p.enter(a, t, t + 5s));
    EXPECT_TRUE(p.enter(b, t, t + 5s));
}

}  // namespace session_probation_test
