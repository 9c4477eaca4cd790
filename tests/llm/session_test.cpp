// SPDX-License-Identifier: MIT
//
// The machine: what a call is told to do, and how it ends.
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <stdexcept>

#include "../support/session_fixture.hpp"

namespace session_test {

using namespace session_fixture;

// ---- the machine ----

TEST_F(llm_session, a_call_with_a_max_price_goes_where_that_is_enough_or_ends_by_price) {
    model("max", 1, {.rpm = 2});
    pools.emplace_back().add({"e", "a", "r", "turbo"}, "k", {.rpm = 2}, {}, 10, clock);
    pools.front().add({"proxy", "a", "r", "max"}, "k", {.rpm = 1}, {}, 100, clock);
    models.add("turbo", pools.back());
    open();
    auto const answers = [](call& c) { return c.ended(answered(tokens{.input = 1, .output = 1})); };
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}, .max_price = 9}, answers).link,
              0U);  // the account at no price
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}, .max_price = 9}, answers).link, 0U);
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}, .max_price = 10}, answers).link, 1U);
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}, .cheapest_first = true}, answers).link, 1U);
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}, .cheapest_first = true}, answers).link,
              0U);  // the proxy
    chain expensive;
    pool proxy;
    proxy.add({"proxy", "a", "r", "max"}, "k", {.rpm = 1}, {}, 100, clock);
    expensive.add("max", proxy);
    session_type only{expensive, {.retry = plain}, clock};
    auto const end = only.run({.bound = tokens{.input = 1, .output = 1}, .max_price = 99}, answers);
    EXPECT_EQ(end.status, call_end::never);
    EXPECT_EQ(end.reason, "price");
    EXPECT_EQ(end.attempts, 0U);
}

TEST_F(llm_session, a_call_that_the_limits_grant_is_sent_and_its_answer_ends_it) {
    model("m", 1, {.rpm = 10, .tpm = 1000});
    open();
    call c{*s, request{.bound = tokens{.input = 100, .output = 50}}};
    EXPECT_EQ(c.result().last.cause, cause::none) << "no reply yet";
    EXPECT_EQ(c.result().status, call_end::open);
    EXPECT_EQ(c.result().link, chain::none);
    auto const step = c.next();
    EXPECT_EQ(step.kind, step_kind::send);
    EXPECT_EQ(step.until, clock.now());
    EXPECT_EQ(c.stamp(), clock.now());
    EXPECT_EQ(c.asked(), (tokens{.input = 100, .output = 50}));
    EXPECT_EQ(c.number(), 0U);
    EXPECT_EQ(c.link(), 0U);
    EXPECT_EQ(c.member(), 0U);
    EXPECT_EQ(c.model(), "m");
    EXPECT_EQ(c.key(), "key a");
    EXPECT_EQ(c.account().account, "a");
    EXPECT_TRUE(c.in_flight());
    EXPECT_FALSE(c.over());
    // Asked again while it is under way it says the same, and takes nothing more.
    EXPECT_EQ(c.next().kind, step_kind::send);
    EXPECT_EQ(left().rpm, 9U);
    EXPECT_EQ(left().tpm, 850U);
    c.ended(answered(tokens{.input = 90, .output = 20}));
    EXPECT_TRUE(c.over());
    EXPECT_FALSE(c.in_flight());
    EXPECT_EQ(c.next().kind, step_kind::over);
    EXPECT_TRUE(c.result().answered());
    EXPECT_EQ(c.result().used, (tokens{.input = 90, .output = 20}));
    EXPECT_EQ(c.result().attempts, 1U);
    EXPECT_EQ(c.result().link, 0U);
    EXPECT_EQ(c.result().reason, "");
    EXPECT_EQ(left().tpm, 890U);
    // Nothing is sent again, and what comes late is passed over.
    c.ended(throttled());
    c.lost();
    c.give_up(call_end::stopped);
    EXPECT_EQ(c.next().kind, step_kind::over);
    EXPECT_TRUE(c.result().answered());
    EXPECT_EQ(count(counted_event::answered), 1U);
    EXPECT_EQ(count(counted_event::failed), 0U);
}

TEST_F(llm_session, a_reply_before_anything_was_sent_is_passed_over) {
    model("m", 1, wide);
    open();
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    c.ended(answered());
    EXPECT_FALSE(c.over());
    EXPECT_EQ(count(counted_event::ended_attempts), 0U);
    EXPECT_TRUE(sends(c));
}

TEST_F(llm_session, waits_for_the_limit_that_it_names_until_the_moment_that_it_says) {
    model("m", 1, {.rpm = 1});
    open();
    EXPECT_TRUE(drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) {
                    return answered(tokens{.input = 1, .output = 1});
                }).answered());
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    auto const step = c.next();
    EXPECT_EQ(step.kind, step_kind::wait);
    EXPECT_EQ(step.reason, "requests per minute");
    EXPECT_GT(step.until, clock.now() + 59s);
    clock.advance_to(step.until - 1ns);
    EXPECT_EQ(c.next().kind, step_kind::wait);
    clock.advance(1ns);
    EXPECT_TRUE(sends(c));
    c.ended(answered());
    EXPECT_EQ(c.result().waited, step.until - c.begun());
    EXPECT_EQ(count(counted_event::waits), 1U);
    EXPECT_EQ(count(counted_event::waited_ns), static_cast<std::uint64_t>((step.until - c.begun()).count()));
}

TEST_F(llm_session, a_failure_is_repeated_after_the_backoffs_pause_and_no_sooner) {
    model("m", 1, wide);
    open();
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    for (auto const pause : {1s, 2s, 4s, 8s}) {
        ASSERT_TRUE(sends(c));
        c.ended(throttled());
        auto const step = c.next();
        EXPECT_EQ(step.kind, step_kind::pause);
        EXPECT_EQ(step.until, clock.now() + pause);
        EXPECT_EQ(c.pause_until(), step.until);
        EXPECT_EQ(step.reason, "too many requests per minute or second");
        s->notify();
        clock.advance_to(step.until - 1ns);
        EXPECT_EQ(c.next().kind, step_kind::pause);
        clock.advance(1ns);
    }
    ASSERT_TRUE(sends(c));
    EXPECT_EQ(c.number(), 4U);
    c.ended(throttled());
    EXPECT_EQ(c.next().kind, step_kind::over);
    EXPECT_EQ(c.result().status, call_end::exhausted);
    EXPECT_EQ(c.result().reason, "too many requests per minute or second");
    EXPECT_EQ(c.result().last.cause, cause::request_rate);
    EXPECT_EQ(c.result().attempts, 5U);
    EXPECT_EQ(c.result().waited, 15s);
    EXPECT_EQ(count(counted_event::retries), 4U);
    EXPECT_EQ(s->counters().refusals(cause::request_rate), 5U);
}

TEST_F(llm_session, each_end_has_a_name) {
    for (auto const e : {call_end::open, call_end::answered, call_end::refused, call_end::exhausted, call_end::budget,
                         call_end::deadline, call_end::never, call_end::partial, call_end::lost, call_end::stopped,
                         call_end::queue_full}) {
        EXPECT_FALSE(to_string(e).empty());
        for (auto const f : {call_end::open, call_end::answered, call_end::refused, call_end::exhausted,
                             call_end::budget, call_end::deadline, call_end::never, call_end::partial, call_end::lost,
                             call_end::stopped, call_end::queue_full}) {
            EXPECT_EQ(to_string(e) == to_string(f), e == f);
        }
    }
    EXPECT_EQ(to_string(static_cast<call_end>(200)), "open");
}

TEST_F(llm_session, what_no_retry_helps_ends_at_once_and_says_why) {
    model("m", 1, wide);
    open();
    auto const end =
        drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return says(400, "InvalidParameter"); });
    EXPECT_EQ(end.status, call_end::refused);
    EXPECT_EQ(end.reason, "a parameter is not valid");
    EXPECT_EQ(sent.size(), 1U);
}

TEST_F(llm_session, an_unknown_error_is_not_retried_without_end) {
    model("m", 2, wide);
    open({.retry = {.attempts = 1000, .jitter = weir::jitter::none}});
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}},
                           [](call&) { return says(200, "Surprise", "never heard of"); });
    EXPECT_EQ(end.status, call_end::exhausted);
    EXPECT_EQ(end.reason, "an unknown error");
    EXPECT_EQ(sent.size(), 3U);
    auto const strange = drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return says(777); });
    EXPECT_EQ(strange.status, call_end::refused);
    EXPECT_FALSE(strange.reason.empty());
}

// ---- deadlines ----

TEST_F(llm_session, a_deadline_in_the_past_sends_nothing_and_says_so) {
    model("m", 1, wide);
    open();
    for (auto const d : {0s, -1s}) {
        call c{*s, request{.bound = tokens{.input = 1, .output = 1}, .deadline = clock.now() + d}};
        EXPECT_EQ(c.next().kind, step_kind::over);
        EXPECT_EQ(c.result().status, call_end::deadline);
        EXPECT_FALSE(c.result().reason.empty());
    }
    auto const end = s->run({.bound = tokens{.input = 1, .output = 1}, .deadline = clock.now()}, not_sent);
    EXPECT_EQ(end.status, call_end::deadline);
    EXPECT_FALSE(end.reason.empty());
    EXPECT_EQ(left().rpm, 100'000U);
}

TEST_F(llm_session, a_deadline_that_comes_while_it_waits_names_the_limit) {
    model("m", 1, {.rpm = 1});
    open();
    drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return answered(tokens{.input = 1, .output = 1}); });
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}, .deadline = clock.now() + 10s}};
    auto const step = c.next();
    EXPECT_EQ(step.kind, step_kind::wait);
    EXPECT_EQ(step.until, clock.now() + 10s);
    clock.advance_to(step.until);
    EXPECT_EQ(c.next().kind, step_kind::over);
    EXPECT_EQ(c.result().status, call_end::deadline);
    EXPECT_EQ(c.result().reason, "requests per minute");
    EXPECT_EQ(c.result().attempts, 0U);
}

TEST_F(llm_session, a_pause_that_would_outlast_the_deadline_ends_the_call_at_once) {
    model("m", 1, wide);
    open();
    auto const begin = clock.now();
    auto const end =
        drive({.bound = tokens{.input = 1, .output = 1}, .deadline = begin + 3s}, [](call&) { return throttled(); });
    EXPECT_EQ(end.status, call_end::deadline);
    EXPECT_EQ(end.reason, "too many requests per minute or second");
    EXPECT_EQ(sent.size(), 2U);
    EXPECT_EQ(clock.now(), begin + 1s);
}

TEST_F(llm_session, a_deadline_that_passes_in_flight_says_what_failed) {
    model("m", 2, wide);
    open();
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}, .deadline = clock.now() + 3s}};
    ASSERT_TRUE(sends(c));
    clock.advance(5s);
    c.ended(overloaded());
    EXPECT_EQ(c.next().kind, step_kind::over);
    EXPECT_EQ(c.result().status, call_end::deadline);
    EXPECT_EQ(c.result().reason, "the model is unavailable");
}

TEST_F(llm_session, a_limit_waited_for_before_the_send_is_no_reason_for_a_later_failure) {
    model("m", 2, {.rps = 1});
    open();
    for (int i = 0; i < 2; ++i) drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return answered(); });
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}, .deadline = clock.now() + 3s}};
    auto const step = c.next();
    EXPECT_EQ(step.reason, "requests per second");
    clock.advance_to(step.until);
    ASSERT_TRUE(sends(c));
    clock.advance(5s);
    c.ended(overloaded());
    EXPECT_EQ(c.next().kind, step_kind::over);
    EXPECT_EQ(c.result().status, call_end::deadline);
    EXPECT_EQ(c.result().reason, "the model is unavailable");
}

TEST_F(llm_session, an_answer_after_the_deadline_is_an_answer) {
    model("m", 1, wide);
    open();
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}, .deadline = clock.now() + 3s}};
    ASSERT_TRUE(sends(c));
    clock.advance(5s);
    c.ended(answered());
    EXPECT_TRUE(c.result().answered());
}

TEST_F(llm_session, more_than_any_limit_can_admit_ends_at_once) {
    model("m", 2, {.rpm = 10, .tpm = 1000});
    open();
    auto const end = drive({.bound = tokens{.input = 900, .output = 200}}, [](call&) { return answered(); });
    EXPECT_EQ(end.status, call_end::never);
    EXPECT_EQ(end.reason, "tokens per minute");
    EXPECT_TRUE(sent.empty());
    EXPECT_EQ(s->run({.bound = tokens{.input = 900, .output = 200}}, not_sent).status, call_end::never);
    chain nobody;
    session_type none{nobody, {}, clock};
    call c{none, request{.bound = tokens{.input = 1, .output = 1}}};
    EXPECT_EQ(c.next().kind, step_kind::over);
    EXPECT_EQ(c.result().status, call_end::never);
}

TEST_F(llm_session, what_is_too_large_for_one_models_limit_goes_to_another) {
    model("small", 1, {.tpm = 1000});
    model("large", 1, {.tpm = 5000});
    open();
    auto const end = drive({.bound = tokens{.input = 2000, .output = 200}}, [](call&) { return answered(); });
    EXPECT_TRUE(end.answered());
    EXPECT_EQ(end.link, 1U);
    EXPECT_EQ(count(counted_event::answered_below), 1U);
}

// ---- bad options ----

TEST_F(llm_session, refuses_bad_options) {
    model("m", 1, wide);
    EXPECT_THROW(open({.retry = {.attempts = 0}}), std::invalid_argument);
    EXPECT_THROW(open({.budget = weir::retry_budget_options{.successes = 0}}), std::invalid_argument);
    EXPECT_THROW(open({.ramp = weir::ramp_options{.first = 0}}), std::invalid_argument);
    EXPECT_THROW(open({.adaptive = adaptive_range{.min_percent = 0}}), std::invalid_argument);
    EXPECT_THROW(open({.adaptive = adaptive_range{.min_percent = 101}}), std::invalid_argument);
    EXPECT_THROW(open({.adaptive = adaptive_range{.max_percent = 99}}), std::invalid_argument);
    EXPECT_THROW(open({.adaptive = adaptive_range{.max_percent = 10'001}}), std::invalid_argument);
    EXPECT_THROW(open({.adaptive = adaptive_range{.recovery = 0s}}), std::invalid_argument);
    EXPECT_THROW(open({.concurrency = weir::concurrency_options{.least = 0}}), std::invalid_argument);
    EXPECT_THROW(open({.jitter = {.min_samples = 0}}), std::invalid_argument);
    s.reset();
    EXPECT_FALSE(adaptive_range::validate(adaptive_range{}));
    EXPECT_FALSE(adaptive_range::validate(adaptive_range{.min_percent = 1, .max_percent = 10'000}));
    EXPECT_FALSE(adaptive_range::validate(adaptive_range{.min_percent = 100}));
}

TEST_F(llm_session, is_made_and_destroyed_with_nothing_in_flight) {
    model("m", 2, wide);
    for (int i = 0; i < 3; ++i) {
        open({.budget = weir::retry_budget_options{},
              .ramp = weir::ramp_options{},
              .adaptive = adaptive_range{},
              .concurrency = weir::concurrency_options{}});
        EXPECT_EQ(s->waiting(), 0U);
        s.reset();
    }
}

}  // namespace session_test
