// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "../../examples/simulator/simulator.hpp"
#include "../support/dashscope_server.hpp"

namespace dashscope_streaming_test {

using namespace dashscope_test;
using qwen::mishap;

// Server-sent events: the fields of each; a line that begins with a colon under ":".
std::vector<std::map<std::string, std::string>> events_in(std::string const& text) {
    std::vector<std::map<std::string, std::string>> out(1);
    for (std::size_t at = 0; at < text.size();) {
        auto const end = text.find('\n', at);
        if (end == std::string::npos) break;
        auto const line = text.substr(at, end - at);
        at = end + 1;
        if (line.empty()) {
            out.emplace_back();
        } else if (line[0] == ':') {
            out.back()[":"] = line.substr(1);
        } else {
            auto const colon = line.find(':');
            auto value = line.substr(colon + 1);
            if (!value.empty() && value[0] == ' ') value.erase(0, 1);
            out.back()[line.substr(0, colon)] = value;
        }
    }
    if (out.back().empty()) out.pop_back();
    return out;
}

json parsed(std::string const& text) { return json::parse(text, nullptr, false); }

TEST(dashscope_streaming, a_compatible_stream_is_chunks_and_done_and_has_usage_only_where_asked) {
    server s{one_model({})};
    for (bool const usage : {false, true}) {
        auto body = costing(12, 20, 100);  // 20 tokens in chunks of 8
        if (usage) body["stream_options"] = {{"include_usage", true}};
        auto const r = s.stream(body);
        ASSERT_EQ(r.status, 200) << r.text;
        EXPECT_EQ(r.header("content-type"), "text/event-stream");
        EXPECT_FALSE(r.header("x-request-id").empty());
        auto const events = events_in(r.text);
        ASSERT_EQ(events.size(), usage ? 5u : 4u) << r.text;
        EXPECT_EQ(events.back().at("data"), "[DONE]");
        std::string text;
        for (std::size_t i = 0; i < 3; ++i) {
            auto const j = parsed(events[i].at("data"));
            EXPECT_EQ(j["object"], "chat.completion.chunk");
            EXPECT_EQ(j["id"], "chatcmpl-" + r.header("x-request-id"));
            EXPECT_EQ(j["model"], "m");
            EXPECT_TRUE(j["usage"].is_null());
            auto const& choice = j["choices"][0];
            EXPECT_EQ(choice["finish_reason"], i == 2 ? json("stop") : json(nullptr));
            EXPECT_EQ(choice["delta"].contains("role"), i == 0);
            text += choice["delta"]["content"].get<std::string>();
        }
        EXPECT_EQ(text.size(), 20u * 4);  // four bytes a token
        if (usage) {
            auto const j = parsed(events[3].at("data"));
            EXPECT_TRUE(j["choices"].empty());
            EXPECT_EQ(j["usage"]["prompt_tokens"], 12);
            EXPECT_EQ(j["usage"]["completion_tokens"], 20);
            EXPECT_EQ(j["usage"]["total_tokens"], 32);
        }
    }
    auto const all = s.records(2);
    EXPECT_TRUE(all[0].streamed);
    EXPECT_EQ(all[0].output, 20u);
    EXPECT_EQ(all[0].befell, mishap::none);
    EXPECT_EQ(s.counted().output_tokens, 40u);
    EXPECT_EQ(s.counted().in_flight, 0u);
}

TEST(dashscope_streaming, a_stream_that_reaches_max_tokens_ends_for_its_length) {
    server s{one_model({})};
    auto const events = events_in(s.stream(costing(1, 9, 9)).text);
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(parsed(events[1].at("data"))["choices"][0]["finish_reason"], "length");
}

TEST(dashscope_streaming, a_native_stream_has_ids_the_status_and_cumulative_usage_in_each_event) {
    server s{one_model({})};
    auto const r = s.stream_native(costing(12, 20, 100));
    ASSERT_EQ(r.status, 200) << r.text;
    auto const events = events_in(r.text);
    ASSERT_EQ(events.size(), 3u) << r.text;
    std::uint64_t const made[] = {8, 16, 20};
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(events[i].at("id"), std::to_string(i + 1));
        EXPECT_EQ(events[i].at("event"), "result");
        EXPECT_EQ(events[i].at(":"), "HTTP_STATUS/200");
        auto const j = parsed(events[i].at("data"));
        EXPECT_EQ(j["usage"], (json{{"input_tokens", 12}, {"output_tokens", made[i]}, {"total_tokens", 12 + made[i]}}));
        EXPECT_EQ(j["output"]["choices"][0]["message"]["content"].get<std::string>().size(), made[i] * 4);
        EXPECT_EQ(j["output"]["choices"][0]["finish_reason"], i == 2 ? "stop" : "null");
        EXPECT_EQ(j["request_id"], r.header("x-request-id"));
    }
}

TEST(dashscope_streaming, a_native_stream_can_be_incremental) {
    server s{one_model({})};
    auto body = native(costing(12, 20, 100));
    body["parameters"]["incremental_output"] = true;
    auto const r = s.send("/api/v1/services/aigc/text-generation/generation", body.dump(), "key-1",
                          {{"X-DashScope-SSE", "enable"}});
    auto const events = events_in(r.text);
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(parsed(events[2].at("data"))["output"]["choices"][0]["message"]["content"].get<std::string>().size(),
              4u * 4);
}

TEST(dashscope_streaming, limits_are_checked_before_the_first_byte) {
    server s{one_model({.rps = 1})};
    EXPECT_EQ(s.stream(chat()).status, 200);
    auto const r = s.stream(chat());
    EXPECT_EQ(r.status, 429);
    EXPECT_EQ(r.code(), "limit_requests");
    EXPECT_EQ(r.header("content-type"), "application/json");
    EXPECT_EQ(s.stream_native(chat()).code(), "Throttling.RateQuota");
}

TEST(dashscope_streaming, an_error_within_a_stream_is_an_event_and_its_output_is_charged) {
    auto settings = one_model({});
    settings.mishaps.midstream_429_rate = 1;
    server s{settings};
    EXPECT_EQ(s.ask(costing(10, 40, 100)).status, 200);  // no stream
    for (bool const native_one : {false, true}) {
        auto const r = native_one ? s.stream_native(costing(10, 40, 100)) : s.stream(costing(10, 40, 100));
        ASSERT_EQ(r.status, 200);
        auto const events = events_in(r.text);
        auto const& last = events.back();
        EXPECT_EQ(last.at("event"), "error");
        EXPECT_EQ(last.at(":"), "HTTP_STATUS/429");
        EXPECT_FALSE(last.at("id").empty());
        auto const j = parsed(last.at("data"));
        EXPECT_EQ(j.size(), 3u);
        EXPECT_EQ(j["code"], "Throttling.AllocationQuota");
        EXPECT_EQ(j["request_id"], r.header("x-request-id"));
        EXPECT_EQ(r.text.find("[DONE]"), std::string::npos);
        auto const made = (events.size() - 1) * 8;
        EXPECT_LT(made, 40u);
        auto const record = s.records(native_one ? 1 : 2).back();
        EXPECT_EQ(record.output, made);
        EXPECT_EQ(record.status, 200);
        EXPECT_EQ(record.code, "Throttling.AllocationQuota");
        EXPECT_EQ(record.befell, mishap::midstream_error);
    }
    EXPECT_EQ(s.simulator->report().by_mishap.at("midstream_error"), 2u);
}

TEST(dashscope_streaming, a_client_that_leaves_is_charged_for_what_was_made_so_far) {
    auto settings = one_model({});
    settings.wait_on_time = true;
    settings.latency = {.first_token_s = 1, .tokens_per_s = 8, .spread = 0};
    server s{settings};
    s.time = 1;
    std::atomic<int> pieces{0};
    std::thread client{[&] {
        httplib::Client c{"127.0.0.1", s.simulator->port()};
        httplib::Request q;
        q.method = "POST";
        q.path = "/compatible-mode/v1/chat/completions";
        q.set_header("Authorization", "Bearer key-1");
        q.set_header("Content-Type", "application/json");
        auto body = costing(10, 80, 100);  // ten pieces, a second between two
        body["stream"] = true;
        q.body = body.dump();
        q.content_receiver = [&](const char*, std::size_t, std::uint64_t, std::uint64_t) { return ++pieces < 3; };
        EXPECT_FALSE(c.send(q));  // it left
    }};
    while (s.counted().in_flight == 0) std::this_thread::yield();
    // Past the first n + 1 pieces; the client may find them in fewer reads, or be gone after three of them already.
    for (int n = 0; pieces < 3; ++n) {
        int const before = pieces;
        s.time = (3 + n) * second;
        while (pieces == before) std::this_thread::yield();
    }
    client.join();
    auto const record = s.records(1).front();
    EXPECT_EQ(record.befell, mishap::client_left);
    EXPECT_GE(record.output, 24u);
    EXPECT_LT(record.output, 80u);
    EXPECT_EQ(s.counted().output_tokens, record.output);
    EXPECT_EQ(s.counted().in_flight, 0u);
}

TEST(dashscope_streaming, pieces_come_at_the_speed_of_the_tokens) {
    auto settings = one_model({});
    settings.speed = 200;
    settings.keep_records = true;
    settings.latency = {.first_token_s = 2, .tokens_per_s = 10, .spread = 0};
    dashscope_simulator simulator{settings};
    simulator.start();
    httplib::Client client{"127.0.0.1", simulator.port()};
    auto body = costing(1, 80, 100);
    body["stream"] = true;
    ASSERT_TRUE(client.Post("/compatible-mode/v1/chat/completions", {{"Authorization", "Bearer key-1"}}, body.dump(),
                            "application/json"));
    auto const r = simulator.take_records();
    ASSERT_EQ(r.size(), 1u);
    EXPECT_GE(r[0].done_ns - r[0].arrival_ns, 10 * second);  // 2 s and 80 tokens at 10 a second
}

TEST(dashscope_streaming, a_soft_failure_is_the_burst_sentence_with_no_usage) {
    auto settings = one_model({});
    settings.mishaps.soft_failure_rate = 1;
    settings.accounts[0].plan.month = 1;
    server s{settings};
    std::string const sentence = "Request rate increased too quickly. ";
    auto const r = s.ask(costing(10, 20, 100));
    ASSERT_EQ(r.status, 200);
    EXPECT_EQ(r.body["choices"][0]["message"]["content"].get<std::string>().find(sentence), 0u);
    EXPECT_EQ(r.body["usage"]["total_tokens"], 0);
    auto const n = s.ask_native(costing(10, 20, 100));
    EXPECT_EQ(n.body["usage"]["total_tokens"], 0);
    EXPECT_EQ(n.body["output"]["choices"][0]["message"]["content"].get<std::string>().find(sentence), 0u);

    auto body = costing(10, 20, 100);
    body["stream_options"] = {{"include_usage", true}};
    auto const events = events_in(s.stream(body).text);
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(parsed(events[0].at("data"))["choices"][0]["delta"]["content"].get<std::string>().find(sentence), 0u);
    EXPECT_EQ(parsed(events[1].at("data"))["usage"]["total_tokens"], 0);
    EXPECT_EQ(s.records(3).back().output, 0u);
    EXPECT_EQ(s.ask(costing(10, 2'000, 3'000)).status, 200);  // and no credit was spent
}

TEST(dashscope_streaming, stopping_the_server_ends_a_stream) {
    auto settings = one_model({});
    settings.latency.first_token_s = 1'000;
    settings.keep_records = true;
    dashscope_simulator simulator{settings};
    simulator.start();
    std::thread client{[&] {
        httplib::Client c{"127.0.0.1", simulator.port()};
        c.set_read_timeout(60);
        auto body = chat();
        body["stream"] = true;
        EXPECT_FALSE(c.Post("/compatible-mode/v1/chat/completions", {{"Authorization", "Bearer key-1"}}, body.dump(),
                            "application/json"));
    }};
    while (simulator.report().judge.total().in_flight == 0) std::this_thread::yield();
    simulator.stop();
    client.join();
    EXPECT_EQ(simulator.report().judge.total().in_flight, 0u);
    EXPECT_EQ(simulator.take_records().size(), 1u);
}

}  // namespace dashscope_streaming_test
