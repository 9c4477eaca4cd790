// SPDX-License-Identifier: MIT
// Answers that stream through a session: latency is measured by the first byte, text is handed on as it comes, and an
// answer that breaks off after that is not requested again.
#include <weir/llm/account_pool.hpp>
#include <weir/llm/fallback_chain.hpp>
#include <weir/llm/header_map.hpp>
#include <weir/llm/session.hpp>

#include <httplib.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "simulator/simulator.hpp"

using namespace std::chrono_literals;
using nlohmann::json;

// Calls f(data) for each event of a stream of server-sent events, as soon as it is whole.
template <class F>
void read_events(std::string& rest, std::string_view more, F f) {
    rest += more;
    for (std::size_t end; (end = rest.find("\n\n")) != std::string::npos; rest.erase(0, end + 2)) {
        std::string_view const event = std::string_view{rest}.substr(0, end);
        auto const at = event.find("data:");
        if (at != std::string_view::npos) f(event.substr(at + 5));
    }
}

int main() {
    constexpr int calls = 12;
    qwen::simulator_settings settings;
    settings.latency = {.first_token_s = 0.02, .tokens_per_s = 500};
    settings.mishaps.midstream_429_rate = 0.3;
    qwen::dashscope_simulator server{settings};
    server.start();

    weir::llm::account_pool accounts;
    accounts.add({server.base_url(), "main", "intl", "qwen3-max"}, "sk-simulator",
                 {.rpm = 600, .rps = 10, .tpm = 1'000'000}, {.jitter = 100ms});
    weir::llm::fallback_chain models;
    models.add("qwen3-max", accounts);
    weir::llm::session session{models};
    httplib::Client http{server.origin()};

    int whole = 0;
    int partial = 0;
    for (int i = 0; i < calls; ++i) {
        std::string text;
        auto const end = session.run({.bound = weir::llm::tokens{.input = 50, .output = 40}}, [&](auto& call) {
            httplib::Request request;
            request.method = "POST";
            request.path = "/compatible-mode/v1/chat/completions";
            request.headers = {{"Authorization", "Bearer " + std::string{call.key()}},
                               {"Content-Type", "application/json"}};
            request.body = json{{"model", call.model()},
                                {"stream", true},
                                {"stream_options", {{"include_usage", true}}},
                                {"max_tokens", 40},
                                {"messages", {{{"role", "user"}, {"content", "Question " + std::to_string(i)}}}}}
                               .dump();
            std::string rest;
            std::string all;
            std::string failure;  // the body of an error inside the stream
            bool done = false;
            weir::llm::reply reply;
            reply.answer.dialect = weir::llm::dialect::dashscope;
            request.content_receiver = [&](char const* data, std::size_t size, std::uint64_t, std::uint64_t) {
                call.on_response();
                all.append(data, size);
                read_events(rest, {data, size}, [&](std::string_view event) {
                    done = done || event.find("[DONE]") != std::string_view::npos;
                    auto const j = json::parse(event, nullptr, false);
                    if (!j.is_object()) return;
                    if (j.contains("code")) failure = event;
                    if (auto const u = j.find("usage"); u != j.end() && u->is_object()) {
                        reply.used = weir::llm::tokens{.input = u->at("prompt_tokens").get<std::uint64_t>(),
                                                       .output = u->at("completion_tokens").get<std::uint64_t>()};
                    }
                    if (auto const c = j.find("choices"); c != j.end() && !c->empty()) {
                        text += c->at(0).at("delta").value("content", "");  // to the reader
                        reply.delivered = !text.empty();
                    }
                });
                return true;
            };
            auto const result = http.send(request);
            reply.answer.transport_failed = !result || (result->status == 200 && !done && failure.empty());
            weir::llm::header_map const fields{result ? result->headers : httplib::Headers{}};
            reply.answer.headers = fields;
            if (result) reply.answer.status = failure.empty() ? result->status : 429;
            reply.answer.body = failure.empty() ? std::string_view{all} : std::string_view{failure};
            return call.ended(reply);
        });
        whole += end.answered() ? 1 : 0;
        partial += end.status == weir::llm::call_end::partial ? 1 : 0;
        if (!end.answered())
            std::printf("%d: %s (%s), %zu bytes were read\n", i, to_string(end.status).data(), end.reason.data(),
                        text.size());
    }
    std::printf("%d whole, %d broke off, %llu requests\n", whole, partial,
                static_cast<unsigned long long>(session.counters()[weir::llm::counted_event::attempts]));
    return whole + partial == calls && whole != 0 && partial != 0 && server.report().requests == calls ? 0 : 1;
}
