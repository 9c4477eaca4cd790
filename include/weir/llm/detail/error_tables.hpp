// SPDX-License-Identifier: MIT
//
// The rules that classify() applies: one table per vendor, and what an HTTP status alone means. The first rule that
// applies decides. To add a vendor: a dialect, a table in one of the headers below, a line in rules_of, and cases in
// tests/llm/cases.
#pragma once

#include <span>
#include <string_view>

#include "../dialect.hpp"
#include "../error_rule.hpp"
#include "error_tables_dashscope.hpp"
#include "error_tables_east.hpp"
#include "error_tables_west.hpp"
#include "error_words.hpp"

namespace weir::inline v0::llm::detail {

constexpr std::span<error_rule const> rules_of(dialect d) noexcept {
    switch (d) {
        case dialect::dashscope: return dashscope_errors::table;
        case dialect::openai:
        case dialect::azure:
        case dialect::groq:
        case dialect::deepseek:
        case dialect::openrouter: return western_errors::openai;
        case dialect::anthropic: return western_errors::anthropic;
        case dialect::gemini: return western_errors::gemini;
        case dialect::mistral: return western_errors::mistral;
        case dialect::llama_cpp: return western_errors::llama_cpp;
        case dialect::moonshot: return eastern_errors::moonshot;
        case dialect::zhipu: return eastern_errors::zhipu;
        case dialect::minimax: return eastern_errors::minimax;
        case dialect::siliconflow: return eastern_errors::siliconflow;
        case dialect::xai: return western_errors::xai;
        case dialect::together: return western_errors::together;
        case dialect::fireworks: return western_errors::fireworks;
        case dialect::bedrock: return western_errors::bedrock;
        case dialect::hugging_face: return western_errors::hugging_face;
        case dialect::vllm: return western_errors::vllm;
        case dialect::new_api: return eastern_errors::new_api;
        case dialect::volcengine: return eastern_errors::volcengine;
        case dialect::qianfan: return eastern_errors::qianfan;
        case dialect::hunyuan: return eastern_errors::hunyuan;
        case dialect::spark: return eastern_errors::spark;
        // Their errors are told by their words and by their status.
        case dialect::cohere:
        case dialect::ollama:
        case dialect::http: break;
    }
    return {};
}

/// The tables whose codes are looked for in the answers of other dialects, in this order.
constexpr dialect other_dialects[] = {dialect::openai,     dialect::bedrock, dialect::moonshot, dialect::together,
                                      dialect::xai,        dialect::new_api, dialect::vllm,     dialect::hugging_face,
                                      dialect::volcengine, dialect::hunyuan, dialect::qianfan,  dialect::anthropic,
                                      dialect::mistral,    dialect::gemini,  dialect::dashscope};

constexpr verdict verdict_of_status(int s) noexcept {
    using enum cause;
    using enum action;
    switch (s) {
        case 401: return {authentication, next_account, {}, {}, 0, "401: the key is not valid"};
        case 402: return {billing, next_account, {}, {}, 0, "402: payment required"};
        case 403: return {authentication, next_account, {}, {}, 0, "403: forbidden"};
        case 404: return {no_model, next_model, {}, {}, 0, "404: no such model or path"};
        case 408: return {transport, retry, {}, {}, 3, "408: the request timed out"};
        case 409: return {unknown, retry, {}, {}, 2, "409: conflict"};
        case 424: return {server_error, retry, {}, {}, 3, "424: the model failed"};
        case 425: return {unknown, retry, {}, {}, 2, "425: too early"};
        case 429: return {rate, retry, {}, {}, 0, "429: throttled"};
        case 498: return {overload, retry, {}, {}, 0, "498: the tier is at capacity"};
        case 500: return {server_error, retry, {}, {}, 3, "500: the server failed"};
        case 501:
        case 505: return {bad_request, give_up, {}, {}, 0, "the server does not support this"};
        case 502: return {overload, retry, {}, {}, 0, "502: bad gateway"};
        case 503: return {overload, retry, {}, {}, 0, "503: the service is unavailable"};
        case 504: return {overload, retry, {}, {}, 0, "504: the gateway timed out"};
        case 529: return {overload, retry, {}, {}, 0, "529: the server is overloaded"};
        default: break;
    }
    if (s >= 200 && s < 300) return {none, proceed, {}, {}, 0, {}};
    if (s >= 400 && s < 500) return {bad_request, give_up, {}, {}, 0, "the request is not valid"};
    if (s >= 500 && s < 600) return {server_error, retry, {}, {}, 3, "the server failed"};
    return {unknown, give_up, {}, {}, 0, "not an HTTP status"};
}

}  // namespace weir::inline v0::llm::detail
