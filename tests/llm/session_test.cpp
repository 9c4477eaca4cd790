// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/header_map.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "../support/exact_log.hpp"
#include "../support/manual_loop.hpp"
#include "../support/stress.hpp"

namespace {
thread_local std::uint64_t allocations = 0;
}

[[gnu::noinline]] void* operator new(std::size_t n) {
    ++allocations;
    if (void* p = std::malloc(n == 0 ? 1 : n)) return p;
    throw std::bad_alloc{};
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace {

using namespace std::chrono_literals;
using namespace weir::llm;
using weir::manual_clock;
using weir::llm::tokens;
using time_point = manual_clock::time_point;
using pool = account_pool<manual_clock&>;
using chain = fallback_chain<pool>;
using session_type = session<pool>;
using call = session_type::call;
using request = session_type::request;
using outcome = session_type::outcome;

// ---- what servers say ----

struct fields {
    std::string retry_after{};
    std::optional<std::string_view> operator()(std::string_view name) const {
        if (name == "retry-after" && !retry_after.empty()) return retry_after;
        return std::nullopt;
    }
};
fields const no_fields{};

constexpr std::chrono::sys_seconds today{std::chrono::sys_days{std::chrono::year{2026} / 3 / 1}};

constexpr auto not_sent = [](auto& c) {
    ADD_FAILURE() << "sent";
    return c.lost();
};

reply says(int status, std::string_view code = {}, std::string_view message = {}, fields const& f = no_fields) {
    reply r;
    r.answer.dialect = dialect::dashscope;
    r.answer.status = status;
    r.answer.code = code;
    r.answer.message = message;
    r.answer.headers = f;
    r.answer.now = today;
    return r;
}
reply answered(std::optional<tokens> used = std::nullopt) {
    reply r = says(200);
    r.used = used;
    return r;
}
reply throttled() { return says(429, "Throttling.RateQuota"); }
reply overloaded() { return says(503, "ModelUnavailable"); }
reply failed() { return says(500, "InternalError"); }
reply bad_key() { return says(401, "InvalidApiKey"); }
reply in_arrears() { return says(400, "Arrearage"); }
reply no_answer() {
    reply r;
    r.answer.transport_failed = true;
    r.answer.now = today;
    return r;
}
reply unsent() {
    reply r = no_answer();
    r.sent = false;
    return r;
}
reply of_another(dialect d, reply r) {
    r.answer.dialect = d;
    return r;
}
// After a part of the answer was handed on.
reply broken_off(reply r) {
    r.delivered = true;
    return r;
}
reply withdrawn() {
    reply r;
    r.cancelled = true;
    return r;
}

// Waits of exactly 1, 2, 4, 8 s, five attempts.
constexpr weir::backoff plain{.base = 1s, .cap = 60s, .attempts = 5, .budget = 10min, .jitter = weir::jitter::none};

struct llm_session : testing::Test {
    // A model with accounts that have a quota each.
    pool& model(std::string const& name, std::size_t accounts, weir::llm::quota q, weir::llm::quota_options o = {}) {
        pools.emplace_back();
        for (std::size_t i = 0; i < accounts; ++i) {
            pools.back().add({"e", std::string(1, static_cast<char>('a' + i)), "r", name},
                             "key " + std::string(1, static_cast<char>('a' + i)), q, o, 0, clock);
        }
        models.add(name, pools.back());
        return pools.back();
    }
    session_type& open(session_options o = {.retry = plain}) { return s.emplace(models, o, clock); }

    // Lets the call go, or fails.
    bool sends(call& c) {
        auto const step = c.next();
        EXPECT_EQ(step.kind, step_kind::send) << step.reason << " until " << step.until.time_since_epoch().count();
        return step.kind == step_kind::send;
    }
    // Drives a call to its end against `server`, in time, and counts the sends.
    outcome drive(call& c, std::function<reply(call&)> const& server, int most = 1000) {
        while (most-- > 0) {
            auto const step = c.next();
            switch (step.kind) {
                case step_kind::send:
                    sent.emplace_back(clock.now(), std::string{c.model()} + "/" + c.account().account);
                    c.ended(server(c));
                    break;
                case step_kind::wait:
                case step_kind::pause:
                    EXPECT_GT(step.until, clock.now());
                    if (step.until == time_point::max()) {
                        ADD_FAILURE() << "waits for ever because of " << step.reason;
                        return c.result();
                    }
                    clock.advance_to(step.until);
                    break;
                case step_kind::over: return c.result();
            }
        }
        ADD_FAILURE() << "never ends";
        return c.result();
    }
    outcome drive(request const& r, std::function<reply(call&)> const& server) {
        call c{*s, r};
        return drive(c, server);
    }
    std::uint64_t count(counted_event e) const { return s->counters()[e]; }
    weir::llm::quota_limiter<manual_clock&>::remaining left(std::size_t link = 0, std::size_t member = 0) {
        return pools_at(link).limits(member).available(clock.now());
    }
    pool& pools_at(std::size_t link) { return models.pool(link); }
    std::vector<std::string> sent_to() const {
        std::vector<std::string> names;
        for (auto const& [t, who] : sent) names.push_back(who);
        return names;
    }

    manual_clock clock{time_point{1000s}};
    std::list<pool> pools;
    chain models;
    std::optional<session_type> s;
    std::vector<std::pair<time_point, std::string>> sent;
};

constexpr weir::llm::quota wide{.rpm = 100'000, .tpm = 10'000'000};

// ---- the machine ----

TEST_F(llm_session, a_call_that_may_cost_no_more_goes_where_that_is_enough_or_says_that_it_is_the_price) {
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
    chain dear;
    pool proxy;
    proxy.add({"proxy", "a", "r", "max"}, "k", {.rpm = 1}, {}, 100, clock);
    dear.add("max", proxy);
    session_type only{dear, {.retry = plain}, clock};
    auto const end = only.run({.bound = tokens{.input = 1, .output = 1}, .max_price = 99}, answers);
    EXPECT_EQ(end.status, call_end::never);
    EXPECT_EQ(end.reason, "price");
    EXPECT_EQ(end.attempts, 0U);
}

TEST_F(llm_session, a_call_that_the_limits_grant_is_sent_at_once_and_its_answer_ends_it) {
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

TEST_F(llm_session, an_error_that_nobody_knows_is_not_repeated_for_ever) {
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

TEST_F(llm_session, a_deadline_that_is_over_lets_nothing_go_and_says_so) {
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

TEST_F(llm_session, a_deadline_that_passed_while_an_attempt_was_under_way_says_what_failed) {
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

TEST_F(llm_session, what_it_waited_for_before_it_was_sent_is_no_reason_for_what_failed_after) {
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

// ---- hints ----

TEST_F(llm_session, a_hint_is_obeyed_by_all_calls_of_the_account) {
    model("m", 1, wide);
    open();
    fields const f{"30"};
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    call other{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(c));
    c.ended(says(429, "Throttling.RateQuota", {}, f));
    EXPECT_EQ(c.next().until, clock.now() + 30s);
    auto const step = other.next();
    EXPECT_EQ(step.kind, step_kind::wait);
    EXPECT_EQ(step.until, clock.now() + 30s);
    EXPECT_EQ(step.reason, "the account is on cooldown");
    clock.advance(30s);
    EXPECT_TRUE(sends(c));
    EXPECT_TRUE(sends(other));
}

TEST_F(llm_session, a_retry_after_in_a_header_map_is_honoured) {
    model("m", 1, wide);
    open();
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(c));
    std::multimap<std::string, std::string> const from{{"Retry-After", "20"}};
    header_map const fields{from};
    c.ended({.answer = {.status = 429, .headers = fields}});
    EXPECT_EQ(c.next().kind, step_kind::pause);
    EXPECT_EQ(c.pause_until(), clock.now() + 20s);
}

TEST_F(llm_session, a_hint_of_21_days_goes_at_once_to_where_there_is_another_way) {
    for (bool const account : {true, false}) {
        SCOPED_TRACE(account);
        chain two;
        pool one_of_two, below;
        one_of_two.add({"e", "a", "r", "m"}, "a", wide, {}, 0, clock);
        if (account) one_of_two.add({"e", "b", "r", "m"}, "b", wide, {}, 0, clock);
        below.add({"e", "a", "r", "n"}, "a", wide, {}, 0, clock);
        two.add("m", one_of_two);
        if (!account) two.add("n", below);
        session_type with{two, {.retry = plain}, clock};
        fields const f{"1814400"};
        auto const begin = clock.now();
        call c{with, request{.bound = tokens{.input = 1, .output = 1}}};
        int n = 0;
        auto const end =
            drive(c, [&](call&) { return n++ == 0 ? says(429, "Throttling.RateQuota", {}, f) : answered(); });
        EXPECT_TRUE(end.answered());
        EXPECT_EQ(clock.now(), begin);
        EXPECT_EQ(end.attempts, 2U);
        EXPECT_EQ(one_of_two.cooldown_until(0), begin + 1'814'400s);
    }
}

TEST_F(llm_session, a_hint_of_21_days_without_another_way_gives_up_at_once) {
    model("m", 1, wide);
    open();
    fields const f{"1814400"};
    auto const begin = clock.now();
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}},
                           [&](call&) { return says(429, "Throttling.RateQuota", {}, f); });
    EXPECT_EQ(end.status, call_end::exhausted);
    EXPECT_EQ(end.reason, "too many requests per minute or second");
    EXPECT_EQ(end.attempts, 1U);
    EXPECT_EQ(clock.now(), begin);
}

TEST_F(llm_session, a_hint_of_21_days_from_every_account_gives_up_at_once) {
    model("m", 2, wide);
    open();
    fields const f{"1814400"};
    auto const begin = clock.now();
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}},
                           [&](call&) { return says(429, "Throttling.RateQuota", {}, f); });
    EXPECT_EQ(end.status, call_end::exhausted);
    EXPECT_EQ(end.reason, "too many requests per minute or second");
    EXPECT_EQ(end.attempts, 2U);
    EXPECT_EQ(clock.now(), begin);
    // Nor does the next call sleep for three weeks.
    auto const next = drive({.bound = tokens{.input = 1, .output = 1}}, [&](call&) { return answered(); });
    EXPECT_EQ(next.status, call_end::refused);
    EXPECT_EQ(next.reason, "the account is on cooldown");
    EXPECT_EQ(next.attempts, 0U);
    EXPECT_EQ(clock.now(), begin);
}

TEST_F(llm_session, a_hint_beyond_the_deadline_from_every_account_ends_at_once) {
    model("m", 2, wide);
    open();
    fields const f{"100"};
    auto const begin = clock.now();
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}, .deadline = begin + 60s},
                           [&](call&) { return says(429, "Throttling.RateQuota", {}, f); });
    EXPECT_EQ(end.status, call_end::deadline);
    EXPECT_EQ(end.reason, "too many requests per minute or second");
    EXPECT_EQ(clock.now(), begin);
}

// ---- moves ----

TEST_F(llm_session, an_account_that_is_refused_gives_way_to_the_next_without_a_pause) {
    model("m", 3, wide);
    open();
    auto const begin = clock.now();
    int n = 0;
    auto const end =
        drive({.bound = tokens{.input = 1, .output = 1}}, [&](call&) { return n++ < 2 ? in_arrears() : answered(); });
    EXPECT_TRUE(end.answered());
    EXPECT_EQ(clock.now(), begin);
    EXPECT_EQ(sent_to(), (std::vector<std::string>{"m/a", "m/b", "m/c"}));
    EXPECT_EQ(count(counted_event::moved), 2U);
    EXPECT_EQ(count(counted_event::retries), 2U);
    EXPECT_EQ(s->counters().refusals(cause::billing), 2U);
    // The next call goes where it was answered.
    sent.clear();
    EXPECT_TRUE(drive({.bound = tokens{.input = 1, .output = 1}}, [&](call&) { return answered(); }).answered());
    EXPECT_EQ(sent_to(), (std::vector<std::string>{"m/c"}));
}

TEST_F(llm_session, where_every_account_is_refused_it_ends_with_the_servers_reason) {
    model("m", 3, wide);
    model("n", 2, wide);
    open();
    auto const begin = clock.now();
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, [&](call&) { return in_arrears(); });
    EXPECT_EQ(end.status, call_end::refused);
    EXPECT_EQ(end.reason, "the account is overdue");
    EXPECT_EQ(sent.size(), 5U);
    EXPECT_EQ(clock.now(), begin);
}

TEST_F(llm_session, keys_of_an_account_are_tried_one_after_the_other_each_once) {
    pool& p = model("m", 1, wide);
    for (auto const* k : {"key 2", "key 3", "key 4", "key 5"}) p.add({"e", "a", "r", "m"}, k, wide, {}, 0, clock);
    open();
    std::vector<std::string> keys;
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, [&](call& c) {
        keys.emplace_back(c.key());
        return c.key() == "key 5" ? answered() : bad_key();
    });
    EXPECT_TRUE(end.answered());
    EXPECT_EQ(keys, (std::vector<std::string>{"key a", "key 2", "key 3", "key 4", "key 5"}));
    keys.clear();
    auto const none = drive({.bound = tokens{.input = 1, .output = 1}}, [&](call& c) {
        keys.emplace_back(c.key());
        return bad_key();
    });
    EXPECT_EQ(none.status, call_end::refused);
    EXPECT_EQ(none.reason, "the key is not valid");
    EXPECT_LE(keys.size(), 6U);
}

TEST_F(llm_session, calls_that_a_revoked_key_fails_at_once_do_not_condemn_the_next_key) {
    pool& p = model("m", 1, wide);
    p.add({"e", "a", "r", "m"}, "good", wide, {}, 0, clock);
    open();
    std::vector<std::unique_ptr<call>> calls;
    for (int i = 0; i < 5; ++i) {
        calls.push_back(std::make_unique<call>(*s, request{.bound = tokens{.input = 1, .output = 1}}));
        ASSERT_TRUE(sends(*calls.back()));
        EXPECT_EQ(calls.back()->key(), "key a");
    }
    for (auto& c : calls) {
        EXPECT_EQ(c->key(), "key a") << "what it was sent with";
        c->ended(bad_key());
    }
    for (auto& c : calls)
        EXPECT_TRUE(drive(*c, [](call& me) { return me.key() == "good" ? answered() : bad_key(); }).answered());
    EXPECT_EQ(sent.size(), 5U);
}

TEST_F(llm_session, an_absence_that_several_calls_see_is_one) {
    pool& p = model("m", 2, wide);
    open();
    std::vector<std::unique_ptr<call>> calls;
    for (int i = 0; i < 20; ++i) {
        calls.push_back(std::make_unique<call>(*s, request{.bound = tokens{.input = 1, .output = 1}}));
        ASSERT_TRUE(sends(*calls.back()));
    }
    for (auto& c : calls) c->ended(c->account().account == "a" ? in_arrears() : answered());
    EXPECT_EQ(p.cooldown_until(0), clock.now() + 1min);
    clock.advance(1min);
    calls.clear();
    drive({.bound = tokens{.input = 1, .output = 1}},
          [](call& c) { return c.account().account == "a" ? in_arrears() : answered(); });
    drive({.bound = tokens{.input = 1, .output = 1}},
          [](call& c) { return c.account().account == "a" ? in_arrears() : answered(); });
    EXPECT_EQ(p.cooldown_until(0), clock.now() + 2min);
}

TEST_F(llm_session, a_model_whose_free_quota_is_gone_gives_way_to_the_next_model) {
    model("m", 1, wide);
    model("n", 1, wide);
    open();
    auto const begin = clock.now();
    auto const gone = [](call& c) { return c.link() == 0 ? says(403, "AllocationQuota.FreeTierOnly") : answered(); };
    EXPECT_TRUE(drive({.bound = tokens{.input = 1, .output = 1}}, gone).answered());
    EXPECT_EQ(sent_to(), (std::vector<std::string>{"m/a", "n/a"}));
    EXPECT_TRUE(drive({.bound = tokens{.input = 1, .output = 1}}, gone).answered());
    EXPECT_EQ(sent.size(), 3U);
    EXPECT_EQ(clock.now(), begin);
    EXPECT_EQ(count(counted_event::answered_below), 2U);
}

TEST_F(llm_session, a_request_that_the_server_finds_too_large_goes_to_the_next_model_and_the_model_stays_in) {
    model("m", 1, wide);
    model("n", 1, wide);
    open();
    auto const server = [](call& c) {
        auto r = c.link() == 0 ? says(429, "rate_limit_exceeded", "Request too large for m") : answered();
        r.answer.dialect = dialect::openai;
        return r;
    };
    EXPECT_TRUE(drive({.bound = tokens{.input = 1, .output = 1}}, server).answered());
    EXPECT_EQ(sent_to(), (std::vector<std::string>{"m/a", "n/a"}));
    EXPECT_LE(models.cooldown_until(0), clock.now());
    auto const nowhere = [](call&) {
        auto r = says(429, "rate_limit_exceeded", "Request too large for m");
        r.answer.dialect = dialect::openai;
        return r;
    };
    sent.clear();
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, nowhere);
    EXPECT_EQ(end.status, call_end::refused);
    EXPECT_EQ(end.reason, "the request is larger than the limit");
    EXPECT_EQ(sent.size(), 2U);
}

TEST_F(llm_session, insufficient_quota_is_a_throttle_here_and_a_bill_there) {
    model("m", 1, wide);
    open();
    int n = 0;
    auto const as = [&n](dialect d) {
        return [&n, d](call&) {
            auto r = n++ == 0 ? says(429, "insufficient_quota",
                                     "You exceeded your current quota, please check your plan and billing details.")
                              : answered();
            r.answer.dialect = d;
            return r;
        };
    };
    EXPECT_TRUE(drive({.bound = tokens{.input = 1, .output = 1}}, as(dialect::dashscope)).answered());
    EXPECT_EQ(sent.size(), 2U);
    n = 0;
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, as(dialect::openai));
    EXPECT_EQ(end.status, call_end::refused);
    EXPECT_EQ(end.reason, "the account is out of credit");
    EXPECT_EQ(sent.size(), 3U);
}

TEST_F(llm_session, a_first_model_without_an_account_is_passed_over) {
    model("qwen3-max", 0, wide);
    model("qwen-plus", 1, wide);
    open();
    outcome const end = drive(request{.bound = tokens{.input = 10, .output = 0}},
                              [](call&) { return answered(tokens{.input = 10, .output = 0}); });
    EXPECT_TRUE(end.answered());
    EXPECT_EQ(end.link, 1U);
}

TEST_F(llm_session, patience_waits_for_a_better_model_and_none_falls) {
    model("m", 1, {.rps = 1});
    model("n", 1, wide);
    open();
    EXPECT_TRUE(drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return answered(); }).answered());
    auto const begin = clock.now();
    auto const falls = drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return answered(); });
    EXPECT_EQ(falls.link, 1U);
    EXPECT_EQ(clock.now(), begin);
    auto const waits =
        drive({.bound = tokens{.input = 1, .output = 1}, .patience = 2s}, [](call&) { return answered(); });
    EXPECT_EQ(waits.link, 0U);
    EXPECT_GE(clock.now(), begin + 1s);
}

TEST_F(llm_session, what_is_refused_moves_on_at_once_however_patient_it_is) {
    model("m", 1, wide);
    model("n", 1, wide);
    open();
    auto const begin = clock.now();
    for (auto const& r : {in_arrears(), says(403, "AllocationQuota.FreeTierOnly")}) {
        auto const end = drive({.bound = tokens{.input = 1, .output = 1}, .patience = 10min},
                               [&](call& c) { return c.link() == 0 ? r : answered(); });
        EXPECT_TRUE(end.answered());
        EXPECT_EQ(end.link, 1U);
        EXPECT_EQ(clock.now(), begin);
        pools.front().end_cooldown(0);
    }
}

TEST_F(llm_session, a_pause_of_every_account_that_outlasts_the_deadline_ends_with_it) {
    model("m", 2, wide);
    open();
    auto const deadline = clock.now() + 500ms;
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}, .deadline = deadline}};
    for (int i = 0; i < 2; ++i) {
        ASSERT_TRUE(sends(c));
        c.ended(overloaded());
    }
    auto const step = c.next();
    ASSERT_EQ(step.kind, step_kind::pause);
    EXPECT_EQ(step.until, deadline);
    clock.advance_to(deadline - 1ns);
    EXPECT_EQ(c.next().kind, step_kind::pause);
    clock.advance_to(deadline);
    EXPECT_EQ(c.next().kind, step_kind::over);
    EXPECT_EQ(c.result().status, call_end::deadline);
}

TEST_F(llm_session, an_adaptive_quota_that_is_not_lowered_paces_nobody) {
    model("m", 1, {.rpm = 600});
    open({.retry = plain, .adaptive = adaptive_range{}});
    std::list<call> calls;
    for (int i = 0; i < 5; ++i)
        EXPECT_TRUE(sends(calls.emplace_back(*s, request{.bound = tokens{.input = 1, .output = 1}}))) << i;
    for (auto& c : calls) c.ended(answered(tokens{.input = 1, .output = 1}));
}

TEST_F(llm_session, has_no_limit_of_calls_in_flight_where_none_was_asked_for) {
    model("m", 1, wide);
    open();
    EXPECT_EQ(s->concurrency(0, 0), std::nullopt);
}

TEST_F(llm_session, an_account_that_fails_is_avoided_by_the_call_while_its_pause_lasts) {
    model("m", 2, wide);
    open();
    auto const begin = clock.now();
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}},
                           [](call& c) { return c.account().account == "a" ? overloaded() : answered(); });
    EXPECT_TRUE(end.answered());
    EXPECT_EQ(sent_to(), (std::vector<std::string>{"m/a", "m/b"}));
    EXPECT_EQ(clock.now(), begin);
}

TEST_F(llm_session, where_every_account_fails_the_pauses_are_kept) {
    for (std::size_t const accounts : {2U, 3U}) {
        SCOPED_TRACE(accounts);
        chain many;
        pool p;
        for (std::size_t i = 0; i < accounts; ++i)
            p.add({"e", std::string(1, static_cast<char>('a' + i)), "r", "m"}, "k", wide, {}, 0, clock);
        many.add("m", p);
        session_type with{many, {.retry = {.base = 1s, .attempts = 8, .jitter = weir::jitter::none}}, clock};
        sent.clear();
        call c{with, request{.bound = tokens{.input = 1, .output = 1}}};
        auto const end = drive(c, [](call&) { return overloaded(); });
        EXPECT_EQ(end.status, call_end::exhausted);
        ASSERT_EQ(sent.size(), 8U);
        // Each is tried once at first, then none before its pause is over.
        for (std::size_t i = accounts; i < sent.size(); ++i)
            EXPECT_GE(sent[i].first, sent[i - accounts].first + 1s) << i;
    }
}

TEST_F(llm_session, what_waits_for_its_own_pause_stands_in_nobodys_way) {
    model("m", 2, wide);
    open();
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    for (int i = 0; i < 2; ++i) {
        ASSERT_TRUE(sends(c));
        c.ended(overloaded());
    }
    EXPECT_EQ(c.next().kind, step_kind::pause);
    call other{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    EXPECT_TRUE(sends(other));
}

TEST_F(llm_session, overload_in_a_row_takes_a_model_out_and_it_comes_back) {
    model("m", 1, wide);
    model("n", 1, wide);
    open();
    auto const server = [](call& c) { return c.link() == 0 ? overloaded() : answered(); };
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(drive({.bound = tokens{.input = 1, .output = 1}}, server).link, 1U);
    }
    EXPECT_EQ(sent.size(), 6U);
    EXPECT_GT(models.cooldown_until(0), clock.now());
    EXPECT_EQ(drive({.bound = tokens{.input = 1, .output = 1}}, server).attempts, 1U);
    clock.advance_to(models.cooldown_until(0));
    EXPECT_EQ(drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return answered(); }).link, 0U);
}

TEST_F(llm_session, accounts_beyond_64_are_avoided_one_by_one) {
    for (std::size_t const accounts : {65U, 200U}) {
        SCOPED_TRACE(accounts);
        chain many;
        pool p;
        for (std::size_t i = 0; i < accounts; ++i) p.add({"e", std::to_string(i), "r", "m"}, "k", wide, {}, 0, clock);
        many.add("m", p);
        session_type with{many, {.retry = {.base = 1s, .attempts = 1000, .jitter = weir::jitter::none}}, clock};
        sent.clear();
        call c{with, request{.bound = tokens{.input = 1, .output = 1}}};
        for (std::size_t i = 0; i < accounts; ++i) {
            ASSERT_TRUE(sends(c)) << i;
            sent.emplace_back(clock.now(), c.account().account);
            c.ended(overloaded());
        }
        EXPECT_EQ(c.next().kind, step_kind::pause);
        auto names = sent_to();
        std::sort(names.begin(), names.end());
        EXPECT_EQ(std::unique(names.begin(), names.end()), names.end()) << "each account is tried once";
    }
}

TEST_F(llm_session, models_beyond_64_are_ruled_out_one_by_one) {
    constexpr std::size_t links = 200;
    for (std::size_t i = 0; i < links; ++i) model(std::to_string(i), 1, wide);
    open();
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, [](call& c) {
        if (c.link() == links - 1) return answered();
        return of_another(dialect::openai, says(429, "rate_limit_exceeded", "Request too large for m"));
    });
    EXPECT_TRUE(end.answered());
    EXPECT_EQ(end.link, links - 1);
    EXPECT_EQ(sent.size(), links);
    EXPECT_EQ(sent.front().first, sent.back().first);
}

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

TEST_F(llm_session, the_backoffs_time_counts_from_the_first_attempt_and_not_from_the_wait_before_it) {
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

TEST_F(llm_session, ones_own_rules_come_before_the_dialects) {
    static constexpr error_rule mine[] = {
        {0, {"Throttling.RateQuota"}, {}, cause::bad_request, action::give_up, "as I say"}};
    model("m", 1, wide);
    open({.retry = plain, .rules = mine});
    auto const end = drive({.bound = tokens{.input = 1, .output = 1}}, [](call&) { return throttled(); });
    EXPECT_EQ(end.status, call_end::refused);
    EXPECT_EQ(end.reason, "as I say");
}

// ---- what was sent and what was not ----

TEST_F(llm_session, a_withdrawn_attempt_is_given_back_whole_and_is_no_failure) {
    model("m", 1, {.rpm = 10, .tpm = 1000});
    open({.retry = {.attempts = 1}, .ramp = weir::ramp_options{}, .concurrency = weir::concurrency_options{}});
    call c{*s, request{.bound = tokens{.input = 100, .output = 100}}};
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(sends(c));
        c.ended(withdrawn());
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

TEST_F(llm_session, what_never_left_is_given_back_whole_and_repeated_though_it_be_not_repeatable) {
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

TEST_F(llm_session, what_may_have_been_worked_on_is_not_sent_again_where_it_is_not_repeatable) {
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

TEST_F(llm_session, a_call_destroyed_under_way_is_held_and_one_that_waits_leaves_no_trace) {
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

TEST_F(llm_session, given_up_it_says_why_and_one_under_way_is_taken_as_lost) {
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

// ---- what it costs ----

TEST_F(llm_session, charges_what_was_used_the_bound_a_request_or_a_hold) {
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
                                   {withdrawn(), charged_as::nothing, 1000}};
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

TEST_F(llm_session, concurrency_is_kept_and_whoever_ends_lets_the_next_in) {
    model("m", 1, wide);
    open({.retry = plain, .concurrency = weir::concurrency_options{.start = 2, .most = 2}});
    EXPECT_EQ(s->concurrency(0, 0), 2U);
    for (auto const& end :
         {answered(tokens{.input = 1, .output = 1}), throttled(), no_answer(), unsent(), withdrawn()}) {
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
    auto gone = overloaded();
    gone.sent = false;
    never_left.ended(gone);
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
    first.ended(withdrawn());
    EXPECT_EQ(second.next().kind, step_kind::send) << "what was withdrawn is given back to the pace";
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

TEST_F(llm_session, a_lowered_rate_of_tokens_is_paced_call_by_call_and_what_was_not_used_is_given_back) {
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
    EXPECT_EQ(wait_after(withdrawn()), 0);
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

TEST_F(llm_session, the_margin_is_measured_by_stamps_and_by_what_was_heard) {
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

// ---- counters ----

TEST_F(llm_session, counters_add_up_and_are_visited) {
    model("m", 2, {.rps = 2, .tpm = 1'000'000});
    model("n", 1, wide);
    open();
    std::vector<std::unique_ptr<call>> open_calls;
    std::uint64_t x = 7;
    int ended = 0;
    for (int i = 0; i < 400; ++i) {
        x = x * 6364136223846793005U + 1442695040888963407U;
        auto c = std::make_unique<call>(
            *s, request{.bound = tokens{.input = 10, .output = 10}, .deadline = clock.now() + 20s});
        for (int k = 0; k < 20 && !c->over(); ++k) {
            auto const step = c->next();
            if (step.kind == step_kind::send) {
                if (x >> 40U & 1U) break;
                x = x * 6364136223846793005U + 1442695040888963407U;
                reply const all[] = {answered(tokens{.input = 3, .output = 4}),
                                     throttled(),
                                     failed(),
                                     no_answer(),
                                     withdrawn(),
                                     overloaded(),
                                     says(400, "InvalidParameter"),
                                     answered()};
                c->ended(all[x >> 61U]);
            } else if (step.kind != step_kind::over) {
                clock.advance_to(step.until);
            }
        }
        if (c->over() || c->in_flight()) {
            ended += c->over() ? 1 : 0;
            open_calls.push_back(std::move(c));
        } else {
            c.reset();
            ++ended;
        }
    }
    auto const& n = s->counters();
    std::uint64_t under_way = 0, still_open = 0;
    for (auto const& c : open_calls) {
        under_way += c->in_flight() ? 1 : 0;
        still_open += c->over() ? 0 : 1;
    }
    using enum counted_event;
    EXPECT_GT(under_way, 10U);
    EXPECT_EQ(n[calls], 400U);
    EXPECT_EQ(n[calls], n[counted_event::answered] + n[counted_event::failed] + still_open);
    EXPECT_EQ(n[attempts], n[ended_attempts] + under_way);
    EXPECT_EQ(n.in_flight(), under_way);
    std::map<std::string, std::uint64_t> seen;
    n.visit([&](metric const& m) {
        EXPECT_FALSE(m.help.empty());
        EXPECT_EQ(m.label.empty(), m.label_value.empty());
        EXPECT_TRUE(m.name.starts_with("weir_"));
        EXPECT_EQ(m.monotonic, m.name.ends_with("_total"));
        auto const name = std::string{m.name} + std::string{m.label_value};
        EXPECT_TRUE(seen.emplace(name, m.value).second) << name;
    });
    EXPECT_EQ(seen["weir_calls_total"], 400U);
    EXPECT_EQ(seen["weir_calls_answered_total"], n[counted_event::answered]);
    EXPECT_EQ(seen["weir_calls_failed_total"], n[counted_event::failed]);
    EXPECT_EQ(seen["weir_attempts_total"], n[attempts]);
    EXPECT_EQ(seen["weir_in_flight"], under_way);
    EXPECT_EQ(seen["weir_cancelled_total"], n[counted_event::cancelled]);
    EXPECT_EQ(seen["weir_refusals_totalrequest rate"], n.refusals(cause::request_rate));
    EXPECT_EQ(seen.count("weir_refusals_totalfree quota"), 0U);
    // Each attempt that ended was answered, withdrawn, or a refusal with its cause.
    std::uint64_t refusals = 0;
    for (int c = 1; c <= static_cast<int>(cause::unknown); ++c) refusals += n.refusals(static_cast<cause>(c));
    EXPECT_EQ(n[ended_attempts], n[counted_event::answered] + n[counted_event::cancelled] + refusals);
    EXPECT_EQ(n[input_tokens] % 3, 0U);
    EXPECT_EQ(n[input_tokens] / 3, n[output_tokens] / 4);
    open_calls.clear();
    EXPECT_EQ(n[calls], n[counted_event::answered] + n[counted_event::failed]);
    EXPECT_EQ(n.in_flight(), 0U);
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

TEST_F(llm_session, nothing_is_allocated_by_a_call_after_warm_up) {
    model("m", 2, {.rpm = 100, .tpm = 1'000'000});
    model("n", 1, wide);
    open({.retry = plain,
          .budget = weir::retry_budget_options{},
          .ramp = weir::ramp_options{},
          .adaptive = adaptive_range{},
          .concurrency = weir::concurrency_options{}});
    auto const round = [&] {
        for (int i = 0; i < 50; ++i) {
            call c{*s, request{.size = {.ascii = 10, .bytes = 10, .messages = 1},
                               .max_tokens = 10,
                               .deadline = clock.now() + 30s}};
            int n = 0;
            for (;;) {
                auto const step = c.next();
                if (step.kind == step_kind::over) break;
                if (step.kind == step_kind::send) {
                    c.ended(n++ < i % 3 ? throttled() : answered(tokens{.input = 10, .output = 10}));
                } else {
                    clock.advance_to(step.until);
                }
            }
        }
        for (int i = 0; i < 50; ++i) {
            clock.advance(1min);
            (void)s->run({.bound = tokens{.input = 10, .output = 10}},
                         [&](call& c) { return c.ended(answered(tokens{.input = 1, .output = 1})); });
        }
    };
    round();
    auto const before = allocations;
    round();
    EXPECT_EQ(allocations, before);
}

TEST(llm_session_counters, each_event_is_counted_and_shown_by_its_name) {
    using enum counted_event;
    std::vector<std::pair<counted_event, std::string>> const shown = {
        {calls, "weir_calls_total"},
        {counted_event::answered, "weir_calls_answered_total"},
        {failed, "weir_calls_failed_total"},
        {attempts, "weir_attempts_total"},
        {retries, "weir_retries_total"},
        {counted_event::moved, "weir_moves_total"},
        {answered_below, "weir_answered_by_fallback_total"},
        {counted_event::cancelled, "weir_cancelled_total"},
        {waits, "weir_waits_total"},
        {waited_ns, "weir_waited_nanoseconds_total"},
        {input_tokens, "weir_input_tokens_total"},
        {output_tokens, "weir_output_tokens_total"}};
    weir::llm::session_counters<> n;
    for (std::size_t i = 0; i < shown.size(); ++i) n.add(shown[i].first, i + 100);
    n.add(counted_event::ended_attempts, 3);
    n.refused(cause::burst);
    n.refused(cause::unknown);
    n.refused(cause::unknown);
    std::map<std::string, std::uint64_t> seen;
    n.visit([&](metric const& m) { seen[std::string{m.name} + ' ' + std::string{m.label_value}] = m.value; });
    for (std::size_t i = 0; i < shown.size(); ++i) {
        EXPECT_EQ(n[shown[i].first], i + 100) << shown[i].second;
        EXPECT_EQ(seen[shown[i].second + ' '], i + 100) << shown[i].second;
    }
    EXPECT_EQ(seen["weir_in_flight "], 100U);
    EXPECT_EQ(seen["weir_refusals_total burst"], 1U);
    EXPECT_EQ(seen["weir_refusals_total unknown"], 2U);
    EXPECT_EQ(seen.size(), shown.size() + 3);
}

// ---- run() ----

struct llm_session_run : llm_session {
    // A thread that runs one call; its outcome is kept.
    template <class Send>
    void start(request const& r, Send send) {
        results.emplace_back();
        threads.emplace_back([this, r, send, &out = results.back()] { out = s->run(r, send); });
    }
    // Lets time pass whenever all that are not done are asleep.
    void join() {
        for (auto& t : threads) t.join();
        threads.clear();
    }
    void wait_for_waiting(std::size_t n) {
        while (s->waiting() < n) std::this_thread::yield();
        clock.wait_for_sleepers(n);
    }
    ~llm_session_run() override { join(); }

    std::list<outcome> results;
    std::vector<std::thread> threads;
};

TEST_F(llm_session_run, waits_for_limits_and_pauses_by_the_sessions_clock) {
    model("m", 1, wide);
    open();
    std::vector<step_kind> steps;
    std::vector<std::string> because;
    int n = 0;
    auto const begin = clock.now();
    std::thread t{[&] {
        auto const end = s->run(
            {.bound = tokens{.input = 1, .output = 1}},
            [&](call& c) { return c.ended(n++ < 2 ? throttled() : answered()); },
            [&](auto const& p) {
                steps.push_back(p.now.kind);
                because.emplace_back(p.now.reason);
                EXPECT_EQ(p.since, begin);
            });
        EXPECT_TRUE(end.answered());
        EXPECT_EQ(end.attempts, 3U);
    }};
    for (auto const d : {1s, 2s}) {
        clock.wait_for_sleepers(1);
        EXPECT_EQ(clock.next_due(), clock.now() + d);
        clock.advance(d);
    }
    t.join();
    using enum step_kind;
    EXPECT_EQ(steps, (std::vector{send, pause, send, pause, send, over}));
    EXPECT_EQ(because[1], "too many requests per minute or second");
}

TEST_F(llm_session_run, waiting_is_told_with_the_limit_and_until_when) {
    model("m", 1, {.rps = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    std::vector<std::pair<step_kind, std::string>> steps;
    time_point until{};
    std::thread t{[&] {
        (void)s->run(
            {.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); },
            [&](auto const& p) {
                steps.emplace_back(p.now.kind, p.now.reason);
                if (p.now.kind == step_kind::wait) until = p.now.until;
            });
    }};
    clock.wait_for_sleepers(1);
    EXPECT_EQ(until, *clock.next_due());
    clock.advance_to(until);
    t.join();
    ASSERT_EQ(steps.size(), 3U);
    EXPECT_EQ(steps[0], (std::pair{step_kind::wait, std::string{"requests per second"}}));
    EXPECT_EQ(steps[1].first, step_kind::send);
}

TEST_F(llm_session_run, serves_in_order_of_arrival) {
    model("m", 1, {.rps = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    std::mutex m;
    std::vector<int> order;
    for (int i = 0; i < 4; ++i) {
        start({.bound = tokens{.input = 1, .output = 1}}, [&, i](call& c) {
            {
                std::lock_guard const lock{m};
                order.push_back(i);
            }
            return c.ended(answered());
        });
        wait_for_waiting(static_cast<std::size_t>(i) + 1);
    }
    while (s->waiting() > 0) {
        if (clock.sleepers() == s->waiting()) clock.advance_to_next();
        std::this_thread::yield();
    }
    join();
    EXPECT_EQ(order, (std::vector{0, 1, 2, 3}));
    for (auto const& r : results) EXPECT_TRUE(r.answered());
}

TEST_F(llm_session_run, what_ends_lets_the_first_in_line_look_at_once) {
    model("m", 1, {.tpm = 1000});
    open();
    call first{*s, request{.bound = tokens{.input = 100, .output = 900}}};
    ASSERT_TRUE(sends(first));
    auto const begin = clock.now();
    start({.bound = tokens{.input = 10, .output = 500}}, [](call& c) { return c.ended(answered()); });
    wait_for_waiting(1);
    first.ended(answered(tokens{.input = 100, .output = 10}));
    join();
    EXPECT_TRUE(results.front().answered());
    EXPECT_EQ(clock.now(), begin);
}

TEST_F(llm_session_run, concurrency_wakes_the_next_without_the_clock) {
    model("m", 1, wide);
    open({.retry = plain, .concurrency = weir::concurrency_options{.start = 1, .most = 1}});
    call first{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(first));
    for (int i = 0; i < 3; ++i)
        start({.bound = tokens{.input = 1, .output = 1}},
              [](call& c) { return c.ended(answered(tokens{.input = 1, .output = 1})); });
    while (s->waiting() < 3) std::this_thread::yield();
    first.ended(answered(tokens{.input = 1, .output = 1}));
    join();
    for (auto const& r : results) EXPECT_TRUE(r.answered());
    EXPECT_EQ(clock.now(), time_point{1000s});
}

TEST_F(llm_session_run, what_nothing_is_known_of_is_not_sent_again) {
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

TEST_F(llm_session_run, what_nothing_is_known_of_is_sent_again_if_repeatable) {
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

TEST_F(llm_session_run, a_transport_that_failed_is_tried_again_by_default) {
    model("m", 1, wide);
    open({.retry = plain});
    call c{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    ASSERT_TRUE(sends(c));
    EXPECT_FALSE(c.transport_failed().over());
    EXPECT_EQ(c.charged(), charged_as::reserved);
    EXPECT_EQ(c.next().kind, step_kind::pause);
}

TEST_F(llm_session_run, what_send_throws_passes_through_and_the_attempt_is_reserved) {
    model("m", 1, {.rpm = 10, .tpm = 1000});
    open();
    auto const throws = [](call&) -> ended_attempt { throw std::runtime_error{"mine"}; };
    EXPECT_THROW((void)s->run({.bound = tokens{.input = 1, .output = 499}}, throws), std::runtime_error);
    EXPECT_EQ(left().tpm, 500U);
    EXPECT_EQ(s->counters().in_flight(), 0U);
    EXPECT_EQ(count(counted_event::failed), 1U);
}

TEST_F(llm_session_run, a_deadline_ends_the_wait_of_the_first_and_of_those_behind) {
    model("m", 1, {.rpm = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    auto const end = clock.now() + 10s;
    for (int i = 0; i < 2; ++i) {
        start({.bound = tokens{.input = 1, .output = 1}, .deadline = end}, not_sent);
        wait_for_waiting(static_cast<std::size_t>(i) + 1);
    }
    clock.advance_to(end);
    join();
    for (auto const& r : results) {
        EXPECT_EQ(r.status, call_end::deadline);
        EXPECT_FALSE(r.reason.empty());
    }
    EXPECT_EQ(results.front().reason, "requests per minute");
}

TEST_F(llm_session_run, a_deadline_ends_the_wait_of_one_behind_while_the_first_waits_on) {
    model("m", 1, {.rpm = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    auto const end = clock.now() + 10s;
    start({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    wait_for_waiting(1);
    start({.bound = tokens{.input = 1, .output = 1}, .deadline = end}, not_sent);
    wait_for_waiting(2);
    clock.advance_to(end);
    threads.back().join();
    threads.pop_back();
    EXPECT_EQ(results.back().status, call_end::deadline);
    EXPECT_EQ(results.back().reason, "others wait ahead of it");
    clock.advance(60s);
    join();
    EXPECT_TRUE(results.front().answered());
}

TEST_F(llm_session_run, nothing_is_let_go_at_or_after_the_deadline) {
    model("m", 1, {.rps = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    call probe{*s, request{.bound = tokens{.input = 1, .output = 1}}};
    auto const at = probe.next().until;
    start({.bound = tokens{.input = 1, .output = 1}, .deadline = at}, not_sent);
    wait_for_waiting(1);
    clock.advance_to(at);
    join();
    EXPECT_EQ(results.front().status, call_end::deadline);
}

TEST_F(llm_session_run, is_stopped_while_it_waits_and_while_it_pauses) {
    model("m", 1, {.rpm = 2});
    open();
    for (bool const pauses : {true, false}) {
        stop_source stop;
        outcome end;
        std::thread t{[&] {
            end = s->run(
                {.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(throttled()); }, no_observer{},
                stop.get_token());
        }};
        clock.wait_for_sleepers(1);
        if (!pauses) {
            clock.advance(1s);  // to the second and last request of the minute
            clock.wait_for_sleepers(1);
            clock.advance(2s);
            while (s->waiting() == 0) std::this_thread::yield();
            clock.wait_for_sleepers(1);
        }
        stop.request_stop();
        t.join();
        EXPECT_EQ(end.status, call_end::stopped);
        EXPECT_FALSE(end.reason.empty());
        clock.advance(61s);
    }
    stop_source stop;
    stop.request_stop();
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}}, not_sent, no_observer{}, stop.get_token()).status,
              call_end::stopped);
}

TEST_F(llm_session_run, a_full_line_turns_away) {
    model("m", 1, {.rpm = 1});
    open({.retry = plain, .queue = {.max_waiting = 1}});
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    start({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    wait_for_waiting(1);
    auto const end = s->run({.bound = tokens{.input = 1, .output = 1}}, not_sent);
    EXPECT_EQ(end.status, call_end::queue_full);
    EXPECT_FALSE(end.reason.empty());
    clock.advance(61s);
    join();
    EXPECT_TRUE(results.front().answered());
}

TEST_F(llm_session_run, close_ends_what_waits_now_and_later) {
    model("m", 1, {.rpm = 1});
    open();
    (void)s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); });
    for (std::size_t i = 0; i < 2; ++i) {
        start({.bound = tokens{.input = 1, .output = 1}}, not_sent);
        wait_for_waiting(i + 1);
    }
    s->close();
    join();
    for (auto const& r : results) EXPECT_EQ(r.status, call_end::closed);
    EXPECT_EQ(s->run({.bound = tokens{.input = 1, .output = 1}}, not_sent).status, call_end::closed);
    EXPECT_EQ(s->waiting(), 0U);
}

TEST_F(llm_session_run, what_pauses_is_overtaken) {
    model("m", 2, wide);
    open();
    std::atomic<int> n{0};
    start({.bound = tokens{.input = 1, .output = 1}},
          [&](call& c) { return c.ended(n++ < 2 ? overloaded() : answered()); });
    clock.wait_for_sleepers(1);
    EXPECT_EQ(s->waiting(), 0U);
    EXPECT_TRUE(
        s->run({.bound = tokens{.input = 1, .output = 1}}, [](call& c) { return c.ended(answered()); }).answered());
    clock.advance_to_next();
    join();
    EXPECT_TRUE(results.front().answered());
}

// ---- threads ----

struct grant {
    std::int64_t time;
    std::uint64_t n;
};

TEST(llm_session_threads, many_threads_keep_the_quota_on_a_real_clock) {
    using real_pool = account_pool<std::chrono::steady_clock>;
    real_pool p;
    constexpr std::uint64_t rps = 200;
    p.add({"e", "a", "r", "m"}, "k", {.rps = rps}, {});
    p.add({"e", "b", "r", "m"}, "k2", {.rps = rps}, {});
    fallback_chain<real_pool> models;
    models.add("m", p);
    session<real_pool> s{models,
                         {.retry = {.base = 1ms, .cap = 5ms, .attempts = 20},
                          .adaptive = adaptive_range{.min_percent = 100},
                          .concurrency = weir::concurrency_options{.start = 8, .most = 64}}};
    std::vector<std::vector<grant>> grants[2];
    for (auto& g : grants) g.resize(8);
    std::atomic<std::uint64_t> sends{0}, answers{0};
    hammer::on_threads(8, 1, [&](std::size_t me, hammer::random_engine& random) {
        for (int i = 0; i < 100; ++i) {
            int sent_this = 0;
            auto const end = s.run({.bound = tokens{.input = 1, .output = 1}}, [&](auto& c) {
                ++sent_this;
                ++sends;
                reply r = says(200);
                switch (random() % 8) {
                    case 0: r = overloaded(); break;
                    case 1: r = withdrawn(); break;
                    default: break;
                }
                if (!r.cancelled) grants[c.member()][me].push_back({c.stamp().time_since_epoch().count(), 1});
                return c.ended(r);
            });
            EXPECT_TRUE(end.answered()) << to_string(end.status) << end.reason;
            EXPECT_EQ(end.attempts, static_cast<std::uint32_t>(sent_this));
            answers += end.answered() ? 1 : 0;
        }
    });
    EXPECT_EQ(answers, 800U);
    for (auto const& per_thread : grants) {
        std::vector<grant> all;
        for (auto const& v : per_thread) all.insert(all.end(), v.begin(), v.end());
        EXPECT_GT(all.size(), 200U);
        EXPECT_LE(exact_log::peak(all, 1'000'000'000), rps);
    }
    auto const& n = s.counters();
    EXPECT_EQ(n[counted_event::attempts], sends);
    EXPECT_EQ(n[counted_event::ended_attempts], sends);
    EXPECT_EQ(n[counted_event::calls], 800U);
    EXPECT_EQ(n.in_flight(), 0U);
    EXPECT_EQ(s.waiting(), 0U);
}

// ---- what servers report ----

TEST_F(llm_session, strangers_that_the_server_reports_are_left_room_where_that_is_asked_for) {
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

}  // namespace
