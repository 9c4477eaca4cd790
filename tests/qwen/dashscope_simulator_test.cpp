// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../../examples/simulator/simulator.hpp"
#include "../support/dashscope_server.hpp"

namespace dashscope_simulator_test {

using namespace dashscope_test;
using qwen::account_state;
using qwen::failure;
using qwen::free_tier;
using qwen::server_rule;
using qwen::token_mode;

TEST(dashscope_simulator, answers_in_openais_shape_with_usage) {
    server s{one_model({})};
    auto const r = s.ask(costing(120, 30, 100));
    ASSERT_EQ(r.status, 200) << r.text;
    EXPECT_EQ(r.body["usage"]["prompt_tokens"], 120);
    EXPECT_EQ(r.body["usage"]["completion_tokens"], 30);
    EXPECT_EQ(r.body["usage"]["total_tokens"], 150);
    EXPECT_EQ(r.body["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    EXPECT_EQ(r.body["object"], "chat.completion");
    EXPECT_EQ(r.body["model"], "m");
    EXPECT_EQ(r.body["choices"][0]["finish_reason"], "stop");
    EXPECT_EQ(r.body["choices"][0]["message"]["role"], "assistant");
    EXPECT_EQ(s.ask(costing(120, 300, 100)).body["usage"]["completion_tokens"], 100);
    EXPECT_EQ(s.ask(costing(120, 300, 100)).body["choices"][0]["finish_reason"], "length");
}

TEST(dashscope_simulator, answers_in_its_own_shape_with_usage) {
    server s{one_model({})};
    auto const r = s.ask_native(costing(120, 30, 100));
    ASSERT_EQ(r.status, 200) << r.text;
    EXPECT_EQ(r.body["usage"], (json{{"input_tokens", 120}, {"output_tokens", 30}, {"total_tokens", 150}}));
    EXPECT_EQ(r.body["output"]["choices"][0]["message"]["role"], "assistant");
    EXPECT_EQ(r.body["request_id"], r.header("x-request-id"));
    auto const prompt =
        s.send("/api/v1/services/aigc/text-generation/generation", R"({"model":"m","input":{"prompt":"Hello"}})");
    EXPECT_EQ(prompt.status, 200) << prompt.text;
}

TEST(dashscope_simulator, sends_the_headers_of_the_gateway_and_no_ratelimit_headers) {
    server s{one_model({.rps = 1})};
    std::set<std::string> ids;
    for (int i = 0; i < 2; ++i) {  // an answer, and a refusal
        auto const r = s.ask(chat());
        EXPECT_EQ(r.status, i == 0 ? 200 : 429);
        EXPECT_EQ(r.header("x-dashscope-call-gateway"), "true");
        EXPECT_EQ(r.header("server"), "istio-envoy");
        for (auto const* name :
             {"req-cost-time", "req-arrive-time", "resp-start-time", "x-envoy-upstream-service-time"}) {
            EXPECT_FALSE(r.header(name).empty()) << name;
            EXPECT_EQ(r.header(name).find_first_not_of("0123456789"), std::string::npos) << name;
        }
        EXPECT_FALSE(r.header("date").empty());
        auto const id = r.header("x-request-id");
        ids.insert(id);
        ASSERT_EQ(id.size(), 36u);
        EXPECT_EQ(id[14], '4');
        for (auto const& [name, value] : r.headers) {
            EXPECT_EQ(name.find("ratelimit"), std::string::npos) << name;
            EXPECT_NE(name, "Retry-After");
        }
    }
    EXPECT_EQ(ids.size(), 2u);
}

TEST(dashscope_simulator, the_same_request_costs_the_same_in_every_run_and_the_plan_foretells_it) {
    auto const settings = one_model({}, 7);
    auto const body = chat("Tell me about weirs. \u6c34\u575d", 500);
    auto const plan = qwen::plan_answer(settings, body.dump());
    ASSERT_TRUE(plan);
    EXPECT_GE(plan->output, 150u);
    EXPECT_LE(plan->output, 450u);
    EXPECT_EQ(plan->input, (21 + 3) / 4 + 2 + 4 + 3);  // ASCII, two characters, one message, 3
    for (int run = 0; run < 2; ++run) {
        server s{settings};
        for (int i = 0; i < 2; ++i) {
            auto const r = s.ask(body);
            EXPECT_EQ(r.body["usage"]["prompt_tokens"], plan->input);
            EXPECT_EQ(r.body["usage"]["completion_tokens"], plan->output);
        }
    }
    auto const same = qwen::plan_answer(settings, native(body).dump());
    ASSERT_TRUE(same);
    EXPECT_EQ(same->output, plan->output);
    EXPECT_EQ(same->latency_ns, plan->latency_ns);
    EXPECT_NE(qwen::plan_answer(one_model({}, 8), body.dump())->latency_ns, plan->latency_ns);
    EXPECT_FALSE(qwen::plan_answer(settings, "{"));
    EXPECT_FALSE(qwen::plan_answer(settings, R"({"model":"other"})"));
}

TEST(dashscope_simulator, checks_key_then_body_then_model_then_account_then_parameters) {
    auto settings = one_model({.rpm = 1});
    settings.max_body = 2'000;
    server s{settings};
    s.simulator->set_account("second", account_state::arrearage);
    auto const path = std::string{"/compatible-mode/v1/chat/completions"};
    auto const large = std::string(3'000, 'x');
    EXPECT_EQ(s.send(path, large, "wrong").status, 413);
    EXPECT_EQ(s.send(path, large, "wrong").text, "Payload Too Large");
    EXPECT_EQ(s.send(path, "not JSON", "wrong").code(), "invalid_api_key");
    EXPECT_EQ(s.send(path, "not JSON", "").code(), "invalid_api_key");
    EXPECT_EQ(s.send(path, "not JSON").code(), "invalid_parameter_error");
    EXPECT_EQ(s.send(path, "[1]").code(), "invalid_parameter_error");
    EXPECT_EQ(s.send(path, "{}").message(), "you must provide a model parameter");
    EXPECT_EQ(s.send(path, R"({"model":"no"})", "key-3").code(), "model_not_found");
    EXPECT_EQ(s.send(path, R"({"model":"m"})", "key-3").code(), "Arrearage");
    EXPECT_EQ(s.send(path, R"({"model":"m"})").code(), "invalid_parameter_error");
    EXPECT_EQ(s.send(path, R"({"model":"m","messages":[]})").status, 400);
    EXPECT_EQ(s.send(path, R"({"model":"m","messages":[{"role":"king","content":"x"}]})").status, 400);
    EXPECT_EQ(s.counted().arrived, 0u);
    EXPECT_EQ(s.ask(chat()).status, 200);
    // With the quota spent: a wrong key is still 401, a malformed request 400.
    EXPECT_EQ(s.ask(chat(), "wrong").status, 401);
    EXPECT_EQ(s.ask(chat("x", 0)).status, 400);
    EXPECT_EQ(s.ask(chat()).status, 429);
}

TEST(dashscope_simulator, refuses_parameters_out_of_range) {
    auto settings = one_model({});
    settings.models[0].max_output = 50;
    settings.models[0].max_input = 1'000;
    server s{settings};
    EXPECT_EQ(s.ask(chat("x", 50)).status, 200);
    EXPECT_NE(s.ask(chat("x", 51)).message().find("Range of max_tokens should be [1, 50]"), std::string::npos);
    EXPECT_NE(s.ask(chat("x", -1)).message().find("Range of max_tokens"), std::string::npos);
    EXPECT_EQ(s.ask(costing(1'000, 1, 10)).status, 200);
    EXPECT_NE(s.ask(costing(1'001, 1, 10)).message().find("Range of input length should be [1, 1000]"),
              std::string::npos);
    auto no_stream = chat();
    no_stream["stream_options"] = {{"include_usage", true}};
    EXPECT_EQ(s.ask(no_stream).status, 400);
}

TEST(dashscope_simulator, an_unknown_path_is_404_and_the_list_of_models_costs_nothing) {
    server s{one_model({.rpm = 1})};
    EXPECT_EQ(s.get("/v2/chat").status, 404);
    EXPECT_EQ(s.get("/v2/chat").code(), "InvalidURL");
    EXPECT_EQ(s.send("/v1/chat/completions", "{}").status, 404);
    EXPECT_EQ(s.get("/compatible-mode/v1/chat/completions").status, 404);
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.ask(chat()).status, 429);
    auto const list = s.get("/compatible-mode/v1/models", "key-1");
    EXPECT_EQ(list.status, 200);
    EXPECT_EQ(list.body["data"][0]["id"], "m");
    EXPECT_EQ(s.get("/compatible-mode/v1/models", "wrong").status, 401);
    EXPECT_EQ(s.counted().arrived, 2u);
}

TEST(dashscope_simulator, an_account_in_trouble_is_refused_and_the_other_is_not) {
    server s{one_model({})};
    for (auto const& [state, status] : {std::pair{account_state::arrearage, 400},
                                        {account_state::unpurchased, 403},
                                        {account_state::commodity_not_purchased, 429},
                                        {account_state::prepaid_overdue, 429},
                                        {account_state::postpaid_overdue, 429},
                                        {account_state::good, 200}}) {
        s.simulator->set_account("first", state);
        EXPECT_EQ(s.ask(chat()).status, status);
        EXPECT_EQ(s.ask(chat(), "key-3").status, 200);
    }
}

TEST(dashscope_simulator, free_tokens_end_with_403_or_for_models_not_sold_with_429) {
    for (auto const& [tier, status] :
         {std::pair{free_tier::only, 403}, {free_tier::not_sold, 429}, {free_tier::none, 200}}) {
        auto settings = one_model({});
        settings.models[0].tier = tier;
        settings.models[0].free_tokens = 250;
        server s{settings};
        EXPECT_EQ(s.ask(costing(100, 50, 100)).status, 200);
        EXPECT_EQ(s.ask(costing(100, 50, 100)).status, 200);
        auto const r = s.ask(costing(100, 50, 100));
        EXPECT_EQ(r.status, status);
        if (status == 429) {
            EXPECT_EQ(r.message(), "Free allocated quota exceeded.");
        }
        EXPECT_EQ(s.ask(costing(100, 50, 100), "key-3").status, 200);
    }
}

TEST(dashscope_simulator, the_inspection_refuses_a_prompt_with_the_word) {
    auto settings = one_model({});
    settings.inspected_word = "forbidden";
    server s{settings};
    EXPECT_EQ(s.ask(chat("a forbidden thing")).code(), "data_inspection_failed");
    EXPECT_EQ(s.ask(chat("a thing")).status, 200);
}

TEST(dashscope_simulator, a_fault_strikes_its_share_of_the_requests) {
    auto settings = one_model({});
    settings.faults = {{failure::internal_error, 0.25}};
    server s{settings};
    for (int i = 0; i < 200; ++i) (void)s.ask(chat());
    auto const r = s.simulator->report();
    EXPECT_EQ(r.answered(200) + r.answered(500), 200u);
    EXPECT_GT(r.answered(500), 25u);
    EXPECT_LT(r.answered(500), 80u);
    EXPECT_EQ(r.by_code.at("InternalError"), r.answered(500));
    EXPECT_EQ(r.judge.total().completed, 200u);
}

TEST(dashscope_simulator, a_client_that_leaks_by_one_request_in_a_second_is_refused) {
    server s{one_model({.rpm = 600, .rps = 10})};
    s.time = minute;
    for (int i = 0; i < 10; ++i) {
        s.time += 50 * ms;
        ASSERT_EQ(s.ask(chat()).status, 200) << i;
    }
    s.time += 50 * ms;
    auto const eleventh = s.ask(chat());
    EXPECT_EQ(eleventh.status, 429);
    EXPECT_EQ(eleventh.code(), "limit_requests");
    auto const r = s.counted();
    EXPECT_EQ(r.refused.rps, 1u);
    EXPECT_EQ(r.refused.total(), 1u);
    EXPECT_EQ(r.peak.requests_second, 10u);
    EXPECT_EQ(r.peak_arrivals_second, 11u);
    s.time = minute + 50 * ms + second - 1;
    EXPECT_EQ(s.ask(chat()).status, 429);
    s.time = minute + 50 * ms + second;
    EXPECT_EQ(s.ask(chat()).status, 200);
}

TEST(dashscope_simulator, a_client_that_leaks_by_one_request_in_a_minute_is_refused) {
    server s{one_model({.rpm = 60})};
    for (int i = 0; i < 60; ++i) {
        s.time = i * second;
        ASSERT_EQ(s.ask(chat()).status, 200) << i;
    }
    s.time = minute - 1;
    EXPECT_EQ(s.ask(chat()).status, 429);
    s.time = minute;
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.counted().peak.requests_minute, 60u);
}

TEST(dashscope_simulator, counts_tokens_in_each_of_the_three_modes) {
    struct step {
        std::uint64_t input, output;
        int max_tokens, status;
    };
    std::vector<std::pair<token_mode, std::vector<step>>> const schedules{
        {token_mode::actual, {{900, 50, 1'000, 200}, {700, 10, 1'000, 200}, {1, 1, 1, 429}}},
        {token_mode::input_strict, {{900, 50, 1'000, 200}, {51, 10, 1'000, 429}, {50, 10, 1'000, 200}, {1, 1, 1, 429}}},
        {token_mode::reserve,
         {{900, 50, 101, 429}, {900, 50, 100, 200}, {20, 5, 31, 429}, {20, 5, 30, 200}, {1, 1, 25, 429}}},
    };
    for (auto const& [mode, steps] : schedules) {
        auto settings = one_model({.tpm = 1'000});
        settings.judge.tokens = mode;
        server s{settings};
        for (auto const& x : steps) {
            auto const r = s.ask(costing(x.input, x.output, x.max_tokens));
            EXPECT_EQ(r.status, x.status) << to_string(mode) << ' ' << x.input;
            if (r.status == 429) {
                EXPECT_EQ(r.code(), "insufficient_quota");
            }
        }
        s.time = minute;
        EXPECT_EQ(s.ask(costing(900, 1, 100)).status, 200) << to_string(mode);
    }
}

TEST(dashscope_simulator, tps_is_off_until_it_is_switched_on) {
    for (bool const on : {false, true}) {
        auto settings = one_model({.tpm = 6'000});
        settings.judge.derive_tps = on;
        server s{settings};
        EXPECT_EQ(s.ask(costing(500, 1, 10)).status, 200);  // above TPS alone: its window was empty
        EXPECT_EQ(s.ask(costing(1, 1, 10)).status, on ? 429 : 200);
        EXPECT_EQ(s.counted().refused.tps, on ? 1u : 0u);
    }
}

TEST(dashscope_simulator, two_keys_of_an_account_share_its_quota_and_two_accounts_do_not) {
    server s{one_model({.rpm = 2, .rps = 2})};
    EXPECT_EQ(s.ask(chat(), "key-1").status, 200);
    EXPECT_EQ(s.ask(chat(), "key-2").status, 200);
    EXPECT_EQ(s.ask(chat(), "key-1").status, 429);
    EXPECT_EQ(s.ask(chat(), "key-2").status, 429);
    EXPECT_EQ(s.ask(chat(), "key-3").status, 200);
    EXPECT_EQ(s.ask(chat(), "key-3").status, 200);
    EXPECT_EQ(s.ask(chat(), "key-3").status, 429);
}

TEST(dashscope_simulator, models_have_quotas_of_their_own) {
    auto settings = one_model({.rps = 1});
    settings.models.push_back({.name = "snapshot", .limits = {.rps = 1}});
    server s{settings};
    auto other = chat();
    other["model"] = "snapshot";
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.ask(other).status, 200);
    EXPECT_EQ(s.ask(chat()).status, 429);
    EXPECT_EQ(s.ask(other).status, 429);
}

TEST(dashscope_simulator, limits_change_while_it_runs) {
    server s{one_model({.rps = 1})};
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.ask(chat()).status, 429);
    s.simulator->set_limits("m", {.rps = 2});
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.ask(chat()).status, 429);
}

TEST(dashscope_simulator, a_refusal_may_cost_a_request) {
    auto settings = one_model({.rps = 1});
    settings.judge.count_rejected = true;
    server s{settings};
    EXPECT_EQ(s.ask(chat()).status, 200);
    s.time = second / 2;
    EXPECT_EQ(s.ask(chat()).status, 429);
    s.time = second;
    EXPECT_EQ(s.ask(chat()).status, 429);
    s.time = 2 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
}

TEST(dashscope_simulator, retry_after_is_sent_only_where_switched_on_in_seconds_rounded_up) {
    auto settings = one_model({.rpm = 1});
    settings.retry_after = true;
    server s{settings};
    EXPECT_EQ(s.ask(chat()).status, 200);
    s.time = 100 * ms;
    EXPECT_EQ(s.ask(chat()).header("Retry-After"), "60");
    s.time = 59 * second;
    EXPECT_EQ(s.ask(chat()).header("Retry-After"), "1");
}

// --- records, delays, time
// ------------------------------------------------------------------------------------------------------

TEST(dashscope_simulator, keeps_a_record_of_each_request_with_its_window_sums) {
    server s{one_model({.rps = 2})};
    s.time = 5 * second;
    (void)s.ask(costing(10, 3, 20));
    (void)s.ask(costing(20, 4, 20));
    (void)s.ask(costing(30, 5, 20));
    (void)s.ask(chat(), "wrong");
    auto const records = s.simulator->take_records();
    ASSERT_EQ(records.size(), 4u);
    EXPECT_EQ(records[1].number, 2u);
    EXPECT_EQ(records[1].account, "first");
    EXPECT_EQ(records[1].model, "m");
    EXPECT_EQ(records[1].arrival_ns, 5 * second);
    EXPECT_EQ(records[1].status, 200);
    EXPECT_EQ(records[1].input, 20u);
    EXPECT_EQ(records[1].output, 4u);
    EXPECT_EQ(records[1].sums.requests_second, 2u);
    EXPECT_EQ(records[1].sums.tokens_minute, 33u);
    EXPECT_EQ(records[2].status, 429);
    EXPECT_EQ(records[2].rule, server_rule::rps);
    EXPECT_EQ(records[2].code, "Throttling.RateQuota");
    EXPECT_EQ(records[2].output, 0u);
    EXPECT_EQ(records[3].status, 401);
    EXPECT_TRUE(s.simulator->take_records().empty());
    EXPECT_NE(to_text(records[2]).find("429 Throttling.RateQuota by RPS"), std::string::npos);
    auto const report = s.simulator->report();
    EXPECT_NE(to_text(report).find("first, m: admitted 2, refused 1 (RPS 1, RPM 0, TPS 0, TPM 0)"), std::string::npos)
        << to_text(report);
    EXPECT_EQ(json::parse(to_json(report))["quotas"][0]["peak"]["tokens_minute"], 37);
    EXPECT_EQ(s.get("/simulator/report").body["by_status"]["200"], 2);
}

TEST(dashscope_simulator, reports_arrival_minus_stamp_and_ignores_a_stamp_that_is_none) {
    server s{one_model({})};
    auto const path = std::string{"/compatible-mode/v1/chat/completions"};
    auto const now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
    auto const before = now();
    EXPECT_EQ(s.send(path, chat().dump(), "key-1", {{"X-Weir-Stamp", std::to_string(before)}}).status, 200);
    auto const after = now();
    EXPECT_EQ(s.send(path, chat().dump(), "key-1", {{"X-Weir-Stamp", std::to_string(now() - 7 * second)}}).status, 200);
    // The last is of another clock: hours away, however long this machine has been up.
    std::string const other = std::to_string(now() + 2 * 3600 * second);
    for (auto const& bad : {std::string{}, std::string{"-5"}, std::string{"12x"}, std::string(23, '9'), other})
        EXPECT_EQ(s.send(path, chat().dump(), "key-1", {{"X-Weir-Stamp", bad}}).status, 200);
    auto const d = s.simulator->report().judge.delay;
    EXPECT_EQ(d.count, 2u);
    EXPECT_GE(d.min_ns, 0);
    EXPECT_LE(d.min_ns, after - before);
    EXPECT_GE(d.max_ns, 7 * second);
}

TEST(dashscope_simulator, simulated_time_runs_as_many_times_as_fast_as_told) {
    auto settings = one_model({.rpm = 1});
    settings.speed = 600;  // a minute in 100 ms
    settings.keep_records = true;
    settings.latency = {.first_token_s = 1, .tokens_per_s = 100, .spread = 0};
    dashscope_simulator simulator{settings};
    simulator.start();
    httplib::Client client{"127.0.0.1", simulator.port()};
    client.set_keep_alive(true);
    auto const now = [] { return std::chrono::steady_clock::now().time_since_epoch().count(); };
    std::vector<std::int64_t> before, after;  // each that was answered, by this machine's clock
    while (after.size() < 3) {
        auto const sent = now();
        auto const r = client.Post("/compatible-mode/v1/chat/completions", {{"Authorization", "Bearer key-1"}},
                                   costing(10, 500, 500).dump(), "application/json");
        ASSERT_TRUE(r);
        if (r->status != 200) continue;
        before.push_back(sent);
        after.push_back(now());
    }
    std::vector<std::int64_t> arrivals;
    for (auto const& r : simulator.take_records()) {
        if (r.status != 200) continue;
        arrivals.push_back(r.arrival_ns);
        EXPECT_GE(r.done_ns - r.arrival_ns, 6 * second);  // 1 s and 500 tokens at 100 a second
    }
    ASSERT_EQ(arrivals.size(), 3u);
    EXPECT_GE(arrivals[1] - arrivals[0], minute);
    EXPECT_GE(arrivals[2] - arrivals[1], minute);
    EXPECT_GE(arrivals[2] - arrivals[0], 600 * (before[2] - after[0]));
    EXPECT_LE(arrivals[2] - arrivals[0], 600 * (after[2] - before[0]));
}

TEST(dashscope_simulator, saturation_shows_as_slowness) {
    auto settings = one_model({});
    settings.speed = 100;
    settings.keep_records = true;
    settings.latency = {.first_token_s = 2, .tokens_per_s = 1'000, .spread = 0, .capacity = 2};
    dashscope_simulator simulator{settings};
    simulator.start();
    httplib::Client client{"127.0.0.1", simulator.port()};
    ASSERT_TRUE(client.Post("/compatible-mode/v1/chat/completions", {{"Authorization", "Bearer key-1"}},
                            costing(1, 0, 1).dump(), "application/json"));
    auto const r = simulator.take_records();
    ASSERT_EQ(r.size(), 1u);
    EXPECT_GE(r[0].done_ns - r[0].arrival_ns, 4 * second);  // one of two: twice as long
}

TEST(dashscope_simulator, serves_two_hundred_at_once_and_refuses_exactly_those_above_the_limit) {
    auto settings = one_model({.rpm = 150}, 3);
    settings.judge.derive_rps = false;
    settings.latency = {.first_token_s = 0.2, .tokens_per_s = 1e9, .spread = 0};
    settings.wait_on_time = true;
    server s{settings};
    std::atomic<unsigned> ok{0}, throttled{0}, other{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 200; ++i)
        threads.emplace_back([&] {
            httplib::Client client{"127.0.0.1", s.simulator->port()};
            client.set_read_timeout(100);
            auto const r = client.Post("/compatible-mode/v1/chat/completions", {{"Authorization", "Bearer key-1"}},
                                       chat().dump(), "application/json");
            ++(!r ? other : r->status == 200 ? ok : r->status == 429 ? throttled : other);
        });
    // None is answered before all have come.
    while (s.counted().in_flight + throttled + other < 200) std::this_thread::yield();
    EXPECT_EQ(s.counted().in_flight, 150u);
    s.time = second;
    for (auto& t : threads) t.join();
    EXPECT_EQ(ok, 150u);
    EXPECT_EQ(throttled, 50u);
    EXPECT_EQ(other, 0u);
    EXPECT_EQ(s.counted().refused.rpm, 50u);
}

TEST(dashscope_simulator, more_at_once_than_the_cap_are_refused) {
    auto settings = one_model({});
    settings.max_in_flight = 1;
    settings.latency.first_token_s = 1'000;
    dashscope_simulator simulator{settings};
    simulator.start();
    std::thread first{[&] {
        httplib::Client client{"127.0.0.1", simulator.port()};
        client.set_read_timeout(60);
        auto const r = client.Post("/compatible-mode/v1/chat/completions", {{"Authorization", "Bearer key-1"}},
                                   chat().dump(), "application/json");
        EXPECT_FALSE(r && r->status == 200);  // cut by stop
    }};
    while (simulator.report().judge.total().in_flight == 0) std::this_thread::yield();
    httplib::Client client{"127.0.0.1", simulator.port()};
    auto const r = client.Post("/compatible-mode/v1/chat/completions", {{"Authorization", "Bearer key-2"}},
                               chat().dump(), "application/json");
    ASSERT_TRUE(r);
    EXPECT_EQ(r->status, 429);
    EXPECT_EQ(json::parse(r->body)["error"]["code"], "Throttling.Concurrency");
    simulator.stop();  // though an answer is 1000 s away
    first.join();
    EXPECT_EQ(simulator.report().judge.total().in_flight, 0u);
    EXPECT_EQ(simulator.report().judge.total().output_tokens, 0u);
    EXPECT_EQ(simulator.report().answered(200), 0u);
}

TEST(dashscope_simulator, a_port_that_is_taken_is_an_error) {
    dashscope_simulator first{one_model({})};
    first.start();
    auto settings = one_model({});
    settings.port = static_cast<std::uint16_t>(first.port());
    dashscope_simulator second_one{settings};
    EXPECT_THROW(second_one.start(), std::runtime_error);
}

TEST(dashscope_simulator, stops_with_idle_connections_open_and_stopping_twice_is_nothing) {
    server s{one_model({})};
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.simulator->base_url(),
              "http://127.0.0.1:" + std::to_string(s.simulator->port()) + "/compatible-mode/v1");
    EXPECT_EQ(s.simulator->native_base_url(), s.simulator->origin() + "/api/v1");
    s.simulator->stop();
    s.simulator->stop();
    EXPECT_EQ(s.simulator->report().requests, 1u);
}

TEST(dashscope_simulator, refuses_settings_that_make_no_sense) {
    auto const refuses = [](auto change) {
        auto settings = one_model({});
        change(settings);
        EXPECT_THROW(dashscope_simulator{settings}, std::invalid_argument);
    };
    refuses([](auto& s) { s.models.clear(); });
    refuses([](auto& s) { s.models.push_back(s.models[0]); });
    refuses([](auto& s) { s.models[0].name.clear(); });
    refuses([](auto& s) { s.accounts.clear(); });
    refuses([](auto& s) { s.accounts[1].keys = {"key-1"}; });
    refuses([](auto& s) { s.accounts[1].name = "first"; });
    refuses([](auto& s) { s.speed = 0; });
    refuses([](auto& s) { s.latency.spread = 1.5; });
    refuses([](auto& s) { s.latency.tokens_per_s = 0; });
    refuses([](auto& s) { s.output.least = 0.95; });
    refuses([](auto& s) { s.faults = {{failure::internal_error, 2}}; });
}

}  // namespace dashscope_simulator_test
