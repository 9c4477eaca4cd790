// SPDX-License-Identifier: MIT
//
// What an attempt costs, and what it must be granted: quota, ramp, concurrency, adaptive rate.
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../support/session_fixture.hpp"

namespace session_limits_test {

using namespace session_fixture;

// ---- what it costs ----

TEST_F(llm_session, charges_the_use_the_bound_a_request_or_a_reservation) {
    struct row {
        reply r;
        charged_as as;
        std::uint64_t tokens_left;  // of 1000, after 100 + 400 were asked
    };
    std::vector<row> const rows = {{answered(tokens{.input = 90, .output = 10}), charged_as::used, 900},
                                   {answered(), charged_as::max_estimate, 500},
                                   {throttled(), charged_as::request, 1000},
                                   {says(429, "insufficient_quota"), charged_as::request, 1000},
                                   {says(429, "Throttling.BurstRate"), charged_as::request, 1000},
                                   {says(429, "Throttling.Concurrency"), charged_as::request, 1000},
                                   {says(403, "AllocationQuota.FreeTierOnly"), charged_as::request, 1000},
                                   {in_arrears(), charged_as::request, 1000},
                                   {bad_key(), charged_as::request, 1000},
                                   {says(404, "ModelNotFound"), charged_as::request, 1000},
                                   {failed(), charged_as::max_estimate, 500},
                                   {overloaded(), charged_as::request, 1000},
                                   {says(500, "ModelServingError"), charged_as::request, 1000},
                                   {says(502), charged_as::max_estimate, 500},
                                   {of_another(dialect::openai, overloaded()), charged_as::max_estimate, 500},
                                   {broken_off(throttled()), charged_as::max_estimate, 500},
                                   {broken_off(overloaded()), charged_as::max_estimate, 500},
                                   {no_answer(), charged_as::reserved, 500},
                                   {unsent(), charged_as::nothing, 1000},
                                   {cancelled(), charged_as::nothing, 1000}};
    for (auto const& x : rows) {
        SCOPED_TRACE(x.r.answer.code);
        chain one;
        pool p;
        p.add({"e", "a", "r", "m"}, "k", {.rpm = 10, .tpm = 1000}, {}, 0, clock);
        one.add("m", p);
        session_type with{one, {.retry = plain}, clock};
        call c{with, request{.bound = tokens{.input = 100, .output = 400}}};
        ASSERT_TRUE(sends(c));
        EXPECT_EQ(p.limits(0).available(clock.now()).tpm, 500U);
        c.ended(x.r);
        EXPECT_EQ(c.charged(), x.as);
        EXPECT_EQ(p.limits(0).available(clock.now()).tpm, x.tokens_left);
        EXPECT_EQ(p.limits(0).available(clock.now()).rpm, x.as == charged_as::nothing ? 10U : 9U);
        // A minute later only what may still be worked on is held.
        clock.advance(61s);
        EXPECT_EQ(p.limits(0).available(clock.now()).tpm, x.as == charged_as::reserved ? 600U : 1000U);
    }
}

TEST_F(llm_session, charges_by_the_users_weights) {
    model("m", 1, {.rpm = 10, .tpm = 1000});
    open({.retry = plain, .usage = {.cached = 100, .per_image = 50}});
    call c{*s, request{.max_tokens = 20, .images = 2}};
    ASSERT_TRUE(sends(c));
    EXPECT_GE(c.asked().input, 100U);
    auto r = answered(tokens{.input = 200, .output = 10});
    r.cached = 100;
    c.ended(r);
    EXPECT_EQ(left().tpm, 1000U - 100 - 10 - 10);
    EXPECT_EQ(c.result().used, (tokens{.input = 200, .output = 10})) << "as reported";
}

TEST_F(llm_session, estimates_from_the_text_and_learns_from_usage) {
    model("m", 1, wide);
    open({.retry = plain, .default_output = 700});
    std::string const text(3000, 'x');
    request const r{.size = measure(text)};
    {
        call c{*s, r};
        ASSERT_TRUE(sends(c));
        EXPECT_EQ(c.asked().input, token_bound(r.size));
        EXPECT_EQ(c.asked().output, 700U);
        c.ended(answered(tokens{.input = 500, .output = 20}));
    }
    {
        call c{*s, request{.size = r.size, .max_tokens = 33}};
        ASSERT_TRUE(sends(c));
        EXPECT_EQ(c.asked().output, 33U);
        c.ended(answered(tokens{.input = 500, .output = 20}));
    }
    for (int i = 0; i < 40; ++i) drive(r, [](call&) { return answered(tokens{.input = 500, .output = 20}); });
    call c{*s, r};
    ASSERT_TRUE(sends(c));
    EXPECT_EQ(c.asked().input, s->estimator(0).input(r.size).bound);
    EXPECT_LT(c.asked().input, 800U);
    EXPECT_LE(c.asked().output, 25U);
    // Failures and answers without usage teach nothing.
    auto const before = s->estimator(0).output(std::nullopt);
    c.ended(failed());
    EXPECT_EQ(s->estimator(0).output(std::nullopt), before);
}

// ---- all or nothing: quota, ramp, concurrency ----

TEST_F(llm_session, a_denial_by_the_ramp_charges_no_quota) {
    model("m", 1, {.rpm = 100, .tpm = 1000});
    open({.retry = plain,
          .ramp = weir::ramp_options{.first = 1, .max_first = 1},
          .concurrency = weir::concurrency_options{}});
    call a{*s, request{.bound = tokens{.input = 10, .output = 10}}};
    call b{*s, request{.bound = tokens{.input = 10, .output = 10}}};
    ASSERT_TRUE(sends(a));
    auto const step = b.next();
    EXPECT_EQ(step.kind, step_kind::wait);
    EXPECT_EQ(step.reason, "ramp");
    EXPECT_GE(step.until, clock.now() + 1s);
    EXPECT_EQ(left().rpm, 99U);
    EXPECT_EQ(left().tpm, 980U);
    clock.advance_to(step.until);
    EXPECT_TRUE(sends(b));
}

TEST_F(llm_session, a_denial_by_the_quota_takes_nothing_of_ramp_and_concurrency) {
    model("m", 1, {.rpm = 100, .tpm = 1000});
    open({.retry = plain,
          .ramp = weir::ramp_options{.first = 1, .max_first = 1},
          .concurrency = weir::concurrency_options{.start = 1}});
    {
        call a{*s, request{.bound = tokens{.input = 900, .output = 0}}};
        ASSERT_TRUE(sends(a));
        a.ended(answered(tokens{.input = 900, .output = 0}));
    }
    clock.advance(5s);
    for (int i = 0; i < 5; ++i) {
        call b{*s, request{.bound = tokens{.input = 200, .output = 0}}};
        EXPECT_EQ(b.next().reason, "tokens per minute");
    }
    call c{*s, request{.bound = tokens{.input = 10, .output = 0}}};
    EXPECT_TRUE(sends(c));
}

TEST_F(llm_session, concurrency_is_kept_and_the_end_of_a_call_admits_the_next) {
    model("m", 1, wide);
    open({.retry = plain, .concurrency = weir::concurrency_options{.start = 2, .most = 2}});
    EXPECT_EQ(s->concurrency(0, 0), 2U);
    for (auto const& end :
         {answered(tokens{.input = 1, .output = 1}), throttled(), no_answer(), unsent(), cancelled()}) {
        call a{*s, request{.bound = tokens{.input = 10, .output = 10}}};
        call b{*s, request{.bound = tokens{.input = 10, .output = 10}}};
        call c{*s, request{.bound = tokens{.input = 10, .output = 10}}};
        ASSERT_TRUE(sends(a));
        ASSERT_TRUE(sends(b));
        auto const before = left().rpm;
        auto const step = c.next();
        EXPECT_EQ(step.kind, step_kind::wait);
        EXPECT_EQ(step.reason, "concurrency");
        EXPECT_GT(step.until, clock.now());
        EXPECT_EQ(left().rpm, before);
        a.ended(end);
        EXPECT_TRUE(sends(c));
    }
    // Five sessions of calls have left nothing behind.
    call a{*s, request{.bound = tokens{.input = 10, .output = 10}}};
    call b{*s, request{.bound = tokens{.input = 10, .output = 10}}};
    EXPECT_TRUE(sends(a));
    EXPECT_TRUE(sends(b));
}

TEST_F(llm_session, refusals_for_concurrency_lower_it_and_burst_verdicts_slow_the_ramp) {
    model("m", 1, wide);
    open({.retry = plain,
          .ramp = weir::ramp_options{.first = 8},
          .concurrency = weir::concurrency_options{.start = 16}});
    call never_left{*s, request{.bound = tokens{.input = 10, .output = 10}}};
    clock.advance(10s);
    ASSERT_TRUE(sends(never_left));
    auto not_sent_yet = overloaded();
    not_sent_yet.sent = false;
    never_left.ended(not_sent_yet);
    EXPECT_EQ(s->concurrency(0, 0), 16U) << "what never left says nothing of the server's load";
    clock.advance(10s);
    call a{*s, request{.bound = tokens{.input = 10, .output = 10}}};
    ASSERT_TRUE(sends(a));
    a.ended(says(429, "Throttling.Concurrency"));
    EXPECT_EQ(s->concurrency(0, 0), 14U);
    clock.advance(10s);
    auto const wait_after_one = [&] {
        call x{*s, request{.bound = tokens{.input = 1, .output = 1}}};
        call y{*s, request{.bound = tokens{.input = 1, .output = 1}}};
        EXPECT_TRUE(sends(x));
        auto const w = y.next().until - clock.now();
        x.ended(answered(tokens{.input = 1, .output = 1}));
        clock.advance(20s);
        return w;
    };
    auto const before = wait_after_one();
    call b{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(b));
    b.ended(says(429, "Throttling.BurstRate"));
    clock.advance(20s);
    EXPECT_GT(wait_after_one(), before);
}

// ---- adaptive ----

TEST_F(llm_session, refusals_for_rate_lower_what_is_asked_for_and_answers_bring_it_back) {
    model("m", 1, {.rpm = 600, .rps = 10, .tpm = 1'000'000});
    open({.retry = {.base = 1ms, .attempts = 100, .jitter = weir::jitter::none}, .adaptive = adaptive_range{}});
    constexpr std::uint64_t whole = 1U << 20U;
    EXPECT_EQ(s->adaptive_fractions(0, 0), (std::pair{whole, whole}));
    // Calls one after the other, as often as they are let go.
    auto const work = [&](std::chrono::seconds length) {
        int n = 0;
        for (auto const until = clock.now() + length; clock.now() < until; ++n) {
            drive({.bound = tokens{.input = 1000, .output = 600}},
                  [](call&) { return answered(tokens{.input = 1000, .output = 600}); });
        }
        return n;
    };
    EXPECT_NEAR(work(60s) + work(60s), 1200, 10);
    drive({.bound = tokens{.input = 1, .output = 0}},
          [n = 0](call&) mutable { return n++ == 0 ? throttled() : answered(tokens{.input = 1, .output = 0}); });
    EXPECT_EQ(s->adaptive_fractions(0, 0).second, whole) << "tokens were not refused";
    EXPECT_NEAR(static_cast<double>(s->adaptive_fractions(0, 0).first), 0.875 * whole, 0.01 * whole);
    // A second at seven eighths, one by one.
    call first{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    while (first.next().kind == step_kind::wait) clock.advance_to(first.next().until);
    call second{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    auto const step = second.next();
    EXPECT_EQ(step.reason, "adaptive rate");
    EXPECT_NEAR(static_cast<double>((step.until - clock.now()) / 1us), 114'000, 3'000);
    auto r = answered(tokens{.input = 1, .output = 1});
    first.ended(cancelled());
    EXPECT_EQ(second.next().kind, step_kind::send) << "what was cancelled is given back to the pace";
    second.ended(r);
    EXPECT_LT(work(10s), 95);
    work(50s);
    EXPECT_GT(s->adaptive_fractions(0, 0).first, whole * 98 / 100);
    drive({.bound = tokens{.input = 1, .output = 0}}, [n = 0](call&) mutable {
        return n++ == 0 ? says(429, "insufficient_quota") : answered(tokens{.input = 1, .output = 0});
    });
    EXPECT_LT(*pools.front().limits(0).limits().tpm, 930'000U);
    EXPECT_GT(*pools.front().limits(0).limits().tpm, 800'000U);
    work(90s);
    EXPECT_GT(*pools.front().limits(0).limits().tpm, 980'000U);
}

TEST_F(llm_session, a_lowered_token_rate_is_paced_by_call_and_unused_tokens_come_back) {
    model("m", 1, {.tpm = 600'000});
    open({.retry = {.base = 1ms, .attempts = 100, .jitter = weir::jitter::none}, .adaptive = adaptive_range{}});
    drive({.bound = tokens{.input = 1, .output = 0}}, [n = 0](call&) mutable {
        return n++ == 0 ? says(429, "insufficient_quota") : answered(tokens{.input = 1, .output = 0});
    });
    clock.advance(1s);
    std::uint64_t const share = s->adaptive_fractions(0, 0).second;
    ASSERT_LT(share, (1U << 20U) * 7 / 8);
    std::uint64_t const per_minute = *pools.front().limits(0).limits().tpm;
    // How long the next waits after a call of 5,000 tokens that ended so.
    auto const wait_after = [&](reply const& r) {
        call a{*s, request{.bound = tokens{.input = 1000, .output = 4000}}};
        EXPECT_TRUE(sends(a));
        call b{*s, request{.bound = tokens{.input = 1, .output = 0}}};
        auto step = b.next();
        EXPECT_EQ(step.reason, "adaptive rate");
        a.ended(r);
        step = b.next();
        auto const wait = step.kind == step_kind::wait ? std::chrono::nanoseconds{step.until - clock.now()} : 0ns;
        b.give_up(call_end::stopped);
        clock.advance(3s);
        return static_cast<double>(wait.count()) * 1e-9 * static_cast<double>(per_minute) / 60;
    };
    EXPECT_NEAR(wait_after(no_answer()), 5000, 100);
    EXPECT_NEAR(wait_after(throttled()), 5000, 100);
    EXPECT_EQ(wait_after(unsent()), 0);
    EXPECT_EQ(wait_after(cancelled()), 0);
    EXPECT_NEAR(wait_after(answered(tokens{.input = 1000, .output = 500})), 1500, 100);
    EXPECT_NEAR(wait_after(answered(tokens{.input = 3000, .output = 4000})), 5000, 200);
}

TEST_F(llm_session, a_refusal_lowers_tokens_to_what_was_used_and_not_to_what_was_asked_for) {
    model("m", 1, {.tpm = 600'000});
    open({.retry = {.attempts = 1}, .adaptive = adaptive_range{}});
    for (int i = 0; i < 600; ++i) {
        drive({.bound = tokens{.input = 500, .output = 4500}},
              [](call&) { return answered(tokens{.input = 500, .output = 0}); });
        clock.advance(100ms);
    }
    drive({.bound = tokens{.input = 500, .output = 4500}}, [](call&) { return says(429, "insufficient_quota"); });
    EXPECT_LT(s->adaptive_fractions(0, 0).second, (1U << 20U) / 2);
}

TEST_F(llm_session, never_asks_for_less_than_the_least_of_its_range) {
    model("m", 1, {.rpm = 600});
    open({.retry = {.base = 1ms, .attempts = 1, .jitter = weir::jitter::none},
          .adaptive = adaptive_range{.min_percent = 50}});
    for (int i = 0; i < 50; ++i) {
        drive({.bound = tokens{.input = 10, .output = 10}}, [](call&) { return throttled(); });
        drive({.bound = tokens{.input = 10, .output = 10}},
              [](call&) { return answered(tokens{.input = 1, .output = 1}); });
        clock.advance(10s);
    }
    EXPECT_GE(s->adaptive_fractions(0, 0).first, (1U << 20U) / 2);
    EXPECT_LE(s->adaptive_fractions(0, 0).first, (1U << 20U) * 2 / 3);
}

TEST_F(llm_session, jitter_is_measured_by_stamps_and_by_responses) {
    model("m", 1, wide);
    open({.retry = plain,
          .jitter = {.initial = 500ms, .min_jitter = 1ms, .steps = 0ns, .min_samples = 10, .headroom = 0}});
    EXPECT_EQ(s->jitter(0, 0), 500ms);
    for (int i = 0; i < 20; ++i) {
        call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
        ASSERT_TRUE(sends(c));
        clock.advance(40ms);
        c.on_response();
        clock.advance(5s);
        c.on_response();  // the first counts
        c.ended(answered(tokens{.input = 1, .output = 1}));
    }
    EXPECT_EQ(s->jitter(0, 0), 40ms);
    for (int i = 0; i < 20; ++i) {
        call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
        ASSERT_TRUE(sends(c));
        auto r = answered(tokens{.input = 1, .output = 1});
        r.arrived = clock.now().time_since_epoch() + 10ms + i * 1ms;
        c.ended(r);
        clock.advance(1s);
    }
    EXPECT_EQ(s->jitter(0, 0), 19ms);
}

TEST_F(llm_session, asks_the_servers_queue_and_lengthens_the_clients_timeout) {
    model("m", 1, wide);
    open({.retry = plain, .server_queue = 30s, .timeout = 60s});
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(c));
    EXPECT_EQ(c.queue().wait, 30s);
    EXPECT_EQ(c.queue().timeout, 90s);
}

// ---- what servers report ----

TEST_F(llm_session, strangers_that_the_server_reports_are_left_room_with_sync_headers) {
    for (bool const fed : {false, true}) {
        pools.clear();
        chain fresh;
        pools.emplace_back().add({"e", "a", "r", "m"}, "key", {.rpm = 10}, {}, 0, clock);
        fresh.add("m", pools.back());
        session_options o{.retry = plain};
        if (fed) o.sync_headers = report_time::on_arrival;
        session_type one{fresh, o, clock};
        auto const report = [](std::string_view name) -> std::optional<std::string_view> {
            if (name == "x-ratelimit-limit-requests") return "10";
            if (name == "x-ratelimit-remaining-requests") return "3";
            return std::nullopt;
        };
        {
            call first{one, {.bound = tokens{.input = 1, .output = 1}}};
            ASSERT_TRUE(sends(first));
            reply r = answered(tokens{.input = 1, .output = 1});
            r.answer.dialect = dialect::openai;
            r.answer.headers = report;
            first.ended(r);
        }
        // One was ours, three are left: six are strangers'.
        EXPECT_EQ(pools.back().limits(0).available().rpm, fed ? 3U : 9U);
        clock.advance(5min);
    }
}

TEST_F(llm_session, a_rate_that_cannot_be_put_in_force_changes_nothing) {
    // Found to be far above what was configured, and too large for the words of the limiter's window.
    constexpr std::uint64_t many = 100'000'000;
    model("m", 1, {.tpm = many});
    session_options o{.retry = plain};
    o.adaptive = adaptive_range{.min_percent = 10, .max_percent = 10'000, .recovery = 1s};
    session_type& one = open(o);
    std::uint64_t found = 0;
    for (int k = 0; k < 20; ++k) {
        call c{one, {.bound = tokens{.input = many / 2, .output = 0}}};
        auto const step = c.next();
        ASSERT_EQ(step.kind, step_kind::send) << k << ": " << step.reason;
        c.ended(answered(tokens{.input = many / 2, .output = 0}));
        found = std::max(found, one.adaptive_fractions(0, 0).second);
        clock.advance(31s);
    }
    EXPECT_GT(found, std::uint64_t{1} << 20U);
}

}  // namespace session_limits_test
