// SPDX-License-Identifier: MIT
//
// What is sent again, and what is not.
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <stdexcept>

#include "../support/session_fixture.hpp"

namespace session_retry_test {

using namespace session_fixture;

// ---- retries: budget, backoff ----

TEST_F(llm_session, the_shared_budget_ends_retries_and_moves_are_free) {
    model("m", 1, wide);
    open({.retry = {.base = 1ms, .attempts = 100, .jitter = weir::jitter::none},
          .budget = weir::retry_budget_options{.floor = {1, 1h}, .floor_burst = 2}});
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return throttled(); });
    EXPECT_EQ(end.status, call_end::budget);
    EXPECT_EQ(end.reason, "too many requests per minute or second");
    EXPECT_EQ(end.attempts, 3U);
    EXPECT_EQ(drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return throttled(); }).attempts, 1U);
    // Five answers earn one.
    for (int i = 0; i < 5; ++i) drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return answered(); });
    EXPECT_EQ(drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return throttled(); }).attempts, 2U);
}

TEST_F(llm_session, the_backoffs_time_counts_from_the_first_attempt) {
    model("m", 1, {.rpm = 1});
    open();
    EXPECT_TRUE(drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return answered(); }).answered());
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    EXPECT_EQ(c.next().kind, step_kind::wait);
    clock.advance(11min);  // behind others
    ASSERT_TRUE(sends(c));
    c.ended(throttled());
    EXPECT_EQ(c.next().kind, step_kind::pause);
}

TEST_F(llm_session, retries_end_when_the_backoffs_time_is_over) {
    model("m", 1, wide);
    open({.retry = {.base = 10s, .cap = 10s, .attempts = 100, .budget = 25s, .jitter = weir::jitter::none}});
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return throttled(); });
    EXPECT_EQ(end.status, call_end::exhausted);
    EXPECT_EQ(end.attempts, 3U);
    EXPECT_EQ(clock.now(), time_point{1020s});
}

TEST_F(llm_session, the_server_fails_a_few_times_only) {
    model("m", 1, wide);
    open({.retry = {.attempts = 100, .jitter = weir::jitter::none}});
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return failed(); });
    EXPECT_EQ(end.status, call_end::exhausted);
    EXPECT_EQ(end.attempts, 4U);
    EXPECT_EQ(end.reason, "the server failed");
}

TEST_F(llm_session, the_users_rules_come_before_the_dialects) {
    static constexpr error_rule mine[] = {
        {0, {"Throttling.RateQuota"}, {}, cause::bad_request, action::give_up, "as I say"}};
    model("m", 1, wide);
    open({.retry = plain, .rules = mine});
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return throttled(); });
    EXPECT_EQ(end.status, call_end::refused);
    EXPECT_EQ(end.reason, "as I say");
}

// ---- what was sent and what was not ----

TEST_F(llm_session, a_cancelled_attempt_is_refunded_whole_and_is_no_failure) {
    model("m", 1, {.rpm = 10, .tpm = 1000});
    open({.retry = {.attempts = 1}, .ramp = weir::ramp_options{}, .concurrency = weir::concurrency_options{}});
    call c{*s, request{.bound = tokens{.input = 100, .output = 100}}};
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(sends(c));
        c.ended(cancelled());
        EXPECT_EQ(c.charged(), charged_as::nothing);
        EXPECT_EQ(left().rpm, 10U);
        EXPECT_EQ(left().tpm, 1000U);
        EXPECT_FALSE(c.over());
    }
    ASSERT_TRUE(sends(c));
    c.ended(answered(tokens{.input = 1, .output = 1}));
    EXPECT_TRUE(c.result().answered());
    EXPECT_EQ(count(counted_event::cancelled), 20U);
    EXPECT_EQ(count(counted_event::attempts), 21U);
    EXPECT_EQ(count(counted_event::retries), 0U) << "nothing was sent twice";
    EXPECT_EQ(count(counted_event::ended_attempts), 21U);
}

TEST_F(llm_session, what_was_not_sent_is_refunded_and_sent_again_even_if_not_repeatable) {
    model("m", 1, {.rpm = 10, .tpm = 1000});
    open();
    call c{*s, request{.bound = tokens{.input = 100, .output = 100}, .repeatable = false}};
    ASSERT_TRUE(sends(c));
    c.ended(unsent());
    EXPECT_EQ(c.charged(), charged_as::nothing);
    EXPECT_EQ(left().rpm, 10U);
    EXPECT_EQ(left().tpm, 1000U);
    EXPECT_EQ(c.next().kind, step_kind::pause);
    clock.advance(1s);
    ASSERT_TRUE(sends(c));
    c.ended(no_answer());
    EXPECT_EQ(c.result().status, call_end::lost);
    EXPECT_EQ(c.result().reason, "no answer arrived");
}

TEST_F(llm_session, what_was_not_sent_was_not_answered_whatever_else_is_said) {
    model("m", 1, wide);
    open();
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(c));
    auto r = answered(tokens{.input = 1, .output = 1});
    r.cancelled = true;
    c.ended(r);
    ASSERT_TRUE(sends(c));
    r.cancelled = false;
    r.sent = false;
    c.ended(r);
    EXPECT_FALSE(c.over());
    EXPECT_EQ(c.charged(), charged_as::nothing);
    EXPECT_EQ(c.next().reason, "it was not sent");
}

TEST_F(llm_session, what_may_have_been_worked_on_is_not_sent_again_if_not_repeatable) {
    model("m", 2, wide);
    open();
    for (auto const& r : {no_answer(), failed(), says(502), says(504), says(408)}) {
        call c{*s, request{.bound = tokens{.input = 1, .output = 1}, .repeatable = false}};
        ASSERT_TRUE(sends(c));
        c.ended(r);
        EXPECT_EQ(c.result().status, call_end::lost) << r.answer.status.value_or(0);
        EXPECT_FALSE(c.result().reason.empty());
    }
    for (auto const& r : {throttled(), overloaded(), in_arrears()}) {  // refused at the gate
        call c{*s, request{.bound = tokens{.input = 1, .output = 1}, .repeatable = false}};
        ASSERT_TRUE(sends(c));
        c.ended(r);
        EXPECT_FALSE(c.over()) << r.answer.code;
    }
}

TEST_F(llm_session, after_a_part_of_the_answer_nothing_is_sent_again) {
    model("m", 2, wide);
    open();
    for (auto r : {throttled(), failed(), no_answer(), in_arrears()}) {
        r.delivered = true;
        call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
        ASSERT_TRUE(sends(c));
        c.ended(r);
        EXPECT_EQ(c.next().kind, step_kind::over);
        EXPECT_EQ(c.result().status, call_end::partial);
        EXPECT_FALSE(c.result().reason.empty());
    }
}

TEST_F(llm_session, a_call_destroyed_in_flight_is_held_and_a_waiting_one_leaves_no_trace) {
    model("m", 1, {.rpm = 10, .tpm = 1000}, {.server_timeout = 30s});
    open();
    {
        call c{*s, request{.bound = tokens{.input = 100, .output = 400}}};
        ASSERT_TRUE(sends(c));
    }
    EXPECT_EQ(count(counted_event::calls), 1U);
    EXPECT_EQ(count(counted_event::failed), 1U);
    EXPECT_EQ(count(counted_event::ended_attempts), 1U);
    EXPECT_EQ(s->counters().in_flight(), 0U);
    EXPECT_EQ(left().tpm, 500U);
    clock.advance(60s + 29s);
    EXPECT_EQ(left().tpm, 600U) << "the hold stays";
    clock.advance(3s);
    EXPECT_EQ(left().tpm, 1000U);
    {
        call c{*s, request{.bound = tokens{.input = 100, .output = 400}}};
    }
    EXPECT_EQ(left().tpm, 1000U);
    EXPECT_EQ(count(counted_event::failed), 2U);
}

TEST_F(llm_session, a_call_given_up_says_why_and_one_in_flight_is_taken_as_lost) {
    model("m", 1, {.rpm = 1});
    open();
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(c));
    call waits{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    EXPECT_EQ(waits.next().kind, step_kind::wait);
    waits.give_up(call_end::queue_full);
    EXPECT_EQ(waits.result().status, call_end::queue_full);
    EXPECT_EQ(waits.result().reason, "requests per minute");
    c.give_up(call_end::stopped);
    EXPECT_EQ(c.result().status, call_end::stopped);
    EXPECT_EQ(c.result().reason, "no answer arrived");
    EXPECT_EQ(c.charged(), charged_as::reserved);
    EXPECT_EQ(count(counted_event::ended_attempts), 1U);
    EXPECT_EQ(count(counted_event::failed), 2U);
}

// ---- what nothing is known of ----

TEST_F(llm_session, what_nothing_is_known_of_is_not_sent_again) {
    model("m", 1, wide);
    open({.retry = plain});
    int sends = 0;
    auto const lost = [&](call& c) { return ++sends, c.lost(); };
    auto const says_nothing = [&](call& c) { return ++sends, c.ended({}); };
    auto const end = s->run({.bound = tokens{.input = 1, .output = 1}}, lost);
    EXPECT_EQ(end.status, call_end::lost);
    EXPECT_EQ(end.reason, "no answer arrived");
    EXPECT_EQ(end.last.cause, cause::transport);
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}}, says_nothing).status, call_end::lost);
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}, .repeatable = false}, lost).status, call_end::lost);
    EXPECT_EQ(sends, 3);
    EXPECT_EQ(s->counters().in_flight(), 0U);
    EXPECT_EQ(count(counted_event::failed), 3U);
}

TEST_F(llm_session, what_nothing_is_known_of_is_sent_again_if_repeatable) {
    model("m", 1, wide);
    open({.retry = {.base = 1ms, .attempts = 4, .jitter = weir::jitter::none}});
    int sends = 0;
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}, .repeatable = true}};
    while (!c.over()) {
        auto const step = c.next();
        if (step.kind == step_kind::send) {
            ++sends;
            c.lost();
        } else {
            clock.advance_to(step.until);
        }
    }
    EXPECT_EQ(sends, 4);
    EXPECT_EQ(c.result().status, call_end::exhausted);
}

TEST_F(llm_session, a_transport_that_failed_is_tried_again_by_default) {
    model("m", 1, wide);
    open({.retry = plain});
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(c));
    EXPECT_FALSE(c.transport_failed().over());
    EXPECT_EQ(c.charged(), charged_as::reserved);
    EXPECT_EQ(c.next().kind, step_kind::pause);
}

TEST_F(llm_session, what_send_throws_passes_through_and_the_attempt_is_reserved) {
    model("m", 1, {.rpm = 10, .tpm = 1000});
    open();
    auto const throws = [](call&) -> ended_attempt { throw std::runtime_error{"mine"}; };
    EXPECT_THROW((void)s->run({.bound = tokens{.input = 1, .output = 499}}, throws), std::runtime_error);
    EXPECT_EQ(left().tpm, 500U);
    EXPECT_EQ(s->counters().in_flight(), 0U);
    EXPECT_EQ(count(counted_event::failed), 1U);
}

}  // namespace session_retry_test
