// SPDX-License-Identifier: MIT
//
// What a call does after a failure that another account or model may mend, and after a hint.
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/header_map.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../support/session_fixture.hpp"

namespace session_moves_test {

using namespace session_fixture;

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

TEST_F(llm_session, a_failure_that_several_calls_see_begins_one_cooldown) {
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

TEST_F(llm_session, a_request_too_large_for_a_model_moves_on_without_a_cooldown) {
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

TEST_F(llm_session, a_refused_call_moves_on_at_once_however_patient_it_is) {
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

TEST_F(llm_session, an_adaptive_quota_that_is_not_lowered_paces_no_call) {
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

TEST_F(llm_session, a_call_in_its_own_pause_holds_no_other_call_up) {
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

TEST_F(llm_session, overloads_in_a_row_put_a_model_on_cooldown_until_it_answers) {
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

}  // namespace session_moves_test
