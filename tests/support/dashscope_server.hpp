// SPDX-License-Identifier: MIT
//
// A simulator whose time the test sets, and what to send it.
#pragma once

#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../../examples/simulator/simulator.hpp"

namespace dashscope_test {

using nlohmann::json;
using qwen::dashscope_simulator;
using qwen::server_limits;
using qwen::simulator_settings;

constexpr std::int64_t ms = 1'000'000;
constexpr std::int64_t second = 1'000 * ms;
constexpr std::int64_t minute = 60 * second;

struct reply {
    int status = 0;
    json body;
    std::string text;
    httplib::Headers headers;
    [[nodiscard]] std::string header(std::string const& name) const {
        auto const at = headers.find(name);
        return at == headers.end() ? std::string{} : at->second;
    }
    [[nodiscard]] std::string code() const {
        return body.contains("error") ? body["error"]["code"].get<std::string>() : body.value("code", "");
    }
    [[nodiscard]] std::string message() const {
        return body.contains("error") ? body["error"]["message"].get<std::string>() : body.value("message", "");
    }
};

inline json chat(std::string const& text = "Hello", int max_tokens = 100, json metadata = nullptr) {
    json b{
        {"model", "m"}, {"messages", json::array({{{"role", "user"}, {"content", text}}})}, {"max_tokens", max_tokens}};
    if (!metadata.is_null()) b["metadata"] = std::move(metadata);
    return b;
}

inline json costing(std::uint64_t input, std::uint64_t output, int max_tokens) {
    return chat("x", max_tokens, {{"input_tokens", std::to_string(input)}, {"output_tokens", std::to_string(output)}});
}

inline json native(json const& compatible) {
    json b{{"model", compatible["model"]},
           {"input", {{"messages", compatible["messages"]}}},
           {"parameters", {{"max_tokens", compatible["max_tokens"]}, {"result_format", "message"}}}};
    if (compatible.contains("metadata")) b["metadata"] = compatible["metadata"];
    return b;
}

inline simulator_settings one_model(server_limits limits, std::uint64_t seed = 1) {
    simulator_settings s;
    s.models = {{.name = "m", .limits = limits}};
    s.accounts = {{"first", {"key-1", "key-2"}}, {"second", {"key-3"}}};
    s.seed = seed;
    return s;
}

// A simulator whose time the test sets: no answer waits, nothing depends on how long anything takes.
class server {
public:
    explicit server(simulator_settings s) {
        s.keep_records = true;
        s.time = [this] { return time.load(); };
        simulator.emplace(std::move(s));
        simulator->start();
        client.emplace("127.0.0.1", simulator->port());
        client->set_keep_alive(true);
        client->set_tcp_nodelay(true);
        client->set_read_timeout(20);
    }
    reply send(std::string const& path, std::string const& body, std::string const& key = "key-1",
               httplib::Headers more = {}) {
        if (!key.empty()) more.emplace("Authorization", "Bearer " + key);
        return read(client->Post(path, more, body, "application/json"));
    }
    reply get(std::string const& path, std::string const& key = "") {
        httplib::Headers h;
        if (!key.empty()) h.emplace("Authorization", "Bearer " + key);
        return read(client->Get(path, h));
    }
    reply ask(json const& body, std::string const& key = "key-1") {
        return send("/compatible-mode/v1/chat/completions", body.dump(), key);
    }
    reply ask_native(json const& body, std::string const& key = "key-1") {
        return send("/api/v1/services/aigc/text-generation/generation", native(body).dump(), key);
    }
    reply stream(json body, std::string const& key = "key-1") {
        body["stream"] = true;
        return ask(body, key);
    }
    reply stream_native(json const& body, std::string const& key = "key-1") {
        return send("/api/v1/services/aigc/text-generation/generation", native(body).dump(), key,
                    {{"X-DashScope-SSE", "enable"}});
    }
    // Nothing where the exchange failed, as a client sees it.
    std::optional<reply> try_to_ask(json const& body, std::string const& key = "key-1") {
        auto const r = client->Post("/compatible-mode/v1/chat/completions", {{"Authorization", "Bearer " + key}},
                                    body.dump(), "application/json");
        return r ? std::optional{read(r)} : std::nullopt;
    }
    qwen::quota_report counted() const { return simulator->report().judge.total(); }

    // Until the server has counted so many ends of requests; they must come.
    std::vector<qwen::request_record> records(std::size_t n) {
        std::vector<qwen::request_record> all;
        while (all.size() < n) {
            for (auto& r : simulator->take_records()) all.push_back(std::move(r));
            std::this_thread::yield();
        }
        return all;
    }

    std::atomic<std::int64_t> time{0};
    std::optional<dashscope_simulator> simulator;

private:
    static reply read(httplib::Result const& r) {
        reply out;
        EXPECT_TRUE(r) << to_string(r.error());
        if (!r) return out;
        out.status = r->status;
        out.text = r->body;
        out.body = json::parse(r->body, nullptr, false);
        out.headers = r->headers;
        return out;
    }
    std::optional<httplib::Client> client;
};

// A connection of its own, with key-1.
struct lone_client {
    explicit lone_client(dashscope_simulator const& s) : http{"127.0.0.1", s.port()} { http.set_read_timeout(60); }
    httplib::Result post(json const& body, std::string const& wait_timeout) {
        return http.Post("/compatible-mode/v1/chat/completions",
                         {{"Authorization", "Bearer key-1"}, {"X-DashScope-Wait-Timeout", wait_timeout}}, body.dump(),
                         "application/json");
    }
    httplib::Client http;
};

}  // namespace dashscope_test
