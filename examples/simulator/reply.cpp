// SPDX-License-Identifier: MIT
#include "reply.hpp"

#include <httplib.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <ctime>
#include <utility>

namespace qwen::simulated {

namespace {

using ordered_json = nlohmann::ordered_json;

std::string http_date(std::int64_t epoch_ms) {
    auto const t = static_cast<std::time_t>(epoch_ms / 1'000);
    std::tm parts{};
    ::gmtime_r(&t, &parts);
    char out[64];
    std::strftime(out, sizeof out, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return out;
}

}  // namespace

std::string completion_body(completion_call& c, std::int64_t created_s) {
    bool const soft = c.record.befell == mishap::soft_failure;
    auto const text = soft ? text_of(failure::burst_rate, c.rng)
                           : "A simulated answer of " + std::to_string(c.planned.output) + " tokens.";
    auto const input = soft ? 0 : c.planned.input, output = soft ? 0 : c.planned.output;
    auto const reason = !soft && c.planned.output == c.planned.max_tokens ? "length" : "stop";
    ordered_json const message{{"role", "assistant"}, {"content", text}};
    ordered_json body;
    if (c.speaks == dialect::native) {
        body = {{"output", {{"choices", ordered_json::array({{{"finish_reason", reason}, {"message", message}}})}}},
                {"usage", {{"total_tokens", input + output}, {"output_tokens", output}, {"input_tokens", input}}},
                {"request_id", c.record.request_id}};
    } else {
        body = {
            {"choices", ordered_json::array(
                            {{{"message", message}, {"finish_reason", reason}, {"index", 0}, {"logprobs", nullptr}}})},
            {"object", "chat.completion"},
            {"usage",
             {{"prompt_tokens", input},
              {"completion_tokens", output},
              {"total_tokens", input + output},
              {"prompt_tokens_details", {{"cached_tokens", 0}}}}},
            {"created", created_s},
            {"system_fingerprint", nullptr},
            {"model", c.record.model},
            {"id", "chatcmpl-" + c.record.request_id}};
    }
    return body.dump();
}

void set_problem(httplib::Response& r, problem const& p, exchange& x, simulator_settings const& s) {
    auto e = render(p, {x.speaks, s.shape, s.international, x.record.request_id}, x.rng);
    if (p.retry_after_s) r.set_header("Retry-After", std::to_string(*p.retry_after_s));
    x.record.status = r.status = e.status;
    x.record.code = std::move(e.code);
    r.set_content(e.body, e.content_type.c_str());
}

void set_gateway_headers(httplib::Response& r, request_record const& record, server_clock const& clock) {
    auto const now = clock.shown_ns();
    auto const cost = std::to_string(std::max<std::int64_t>(0, (now - record.arrival_ns) / 1'000'000));
    r.set_header("x-request-id", record.request_id);
    r.set_header("x-dashscope-call-gateway", "true");
    r.set_header("req-arrive-time", std::to_string(clock.epoch_ms(record.arrival_ns)));
    r.set_header("resp-start-time", std::to_string(clock.epoch_ms(now)));
    r.set_header("req-cost-time", cost);
    r.set_header("x-envoy-upstream-service-time", cost);
    r.set_header("date", http_date(clock.epoch_ms(now)));
    r.set_header("server", "istio-envoy");
    r.set_header("vary", "Origin,Access-Control-Request-Method,Access-Control-Request-Headers");
    if (r.status == 200 && !record.streamed) r.set_header("x-dashscope-finished", "true");
}

}  // namespace qwen::simulated
