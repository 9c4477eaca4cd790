// SPDX-License-Identifier: MIT
#include "answer_plan.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <utility>

namespace qwen {

namespace simulated {

using json = nlohmann::json;

namespace {

json const* member(json const& object, char const* name) {
    if (!object.is_object()) return nullptr;
    auto const at = object.find(name);
    return at == object.end() || at->is_null() ? nullptr : &*at;
}

std::optional<std::uint64_t> number_in(json const* j) {
    if (j == nullptr) return std::nullopt;
    if (j->is_number_unsigned()) return j->get<std::uint64_t>();
    if (j->is_string()) {
        auto const& s = j->get_ref<std::string const&>();
        if (s.empty() || s.size() > 18 || s.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
        return std::stoull(s);
    }
    return std::nullopt;
}

}  // namespace

void text_size::add(std::string_view s) {
    for (std::size_t i = 0; i < s.size();) {
        auto const c = static_cast<unsigned char>(s[i]);
        std::size_t const n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
        std::uint32_t point = n == 1 ? c : c & (0xffu >> (n + 1));
        for (std::size_t k = 1; k < n && i + k < s.size(); ++k)
            point = point << 6 | (static_cast<unsigned char>(s[i + k]) & 0x3fu);
        if (n == 1) {
            ++ascii;
        } else if ((point >= 0x2e80 && point <= 0x9fff) || (point >= 0xac00 && point <= 0xd7af) ||
                   (point >= 0xf900 && point <= 0xfaff) || (point >= 0xff00 && point <= 0xffef) || point >= 0x20000) {
            ++cjk;
        } else {
            other_bytes += n;
        }
        i += n;
    }
}

std::string model_in(json const& body) {
    auto const* m = member(body, "model");
    return m != nullptr && m->is_string() ? m->get<std::string>() : std::string{};
}

asked read_request(json const& body, dialect d, model_settings const& model) {
    asked a;
    auto const complain = [&a](std::string text) {
        if (a.fault.empty()) a.fault = std::move(text);
    };
    json const* input = d == dialect::native ? member(body, "input") : &body;
    json const* parameters = d == dialect::native ? member(body, "parameters") : &body;
    json const* messages = input == nullptr ? nullptr : member(*input, "messages");
    json const* prompt = d == dialect::native && input != nullptr ? member(*input, "prompt") : nullptr;
    if (prompt != nullptr && prompt->is_string()) {
        a.text(prompt->get_ref<std::string const&>());
        a.messages = 1;
    } else if (messages == nullptr || !messages->is_array() || messages->empty()) {
        complain(d == dialect::native ? "Either \"prompt\" or \"messages\" must exist and cannot both be none"
                                      : "messages is required and must not be empty");
    } else {
        for (auto const& m : *messages) {
            ++a.messages;
            auto const* role = member(m, "role");
            static std::set<std::string, std::less<>> const roles{"system",    "developer", "user",
                                                                  "assistant", "tool",      "function"};
            if (role == nullptr || !role->is_string() || !roles.contains(role->get_ref<std::string const&>()))
                complain("Role must be in [system, user, assistant, tool]");
            auto const* content = member(m, "content");
            if (content == nullptr) continue;
            if (content->is_string()) {
                a.text(content->get_ref<std::string const&>());
            } else if (content->is_array()) {
                for (auto const& part : *content)
                    if (auto const* t = member(part, "text"); t != nullptr && t->is_string())
                        a.text(t->get_ref<std::string const&>());
            } else {
                complain("The content field must be a string or an array");
            }
        }
    }
    if (parameters != nullptr) {
        auto const* most = member(*parameters, "max_tokens");
        if (most == nullptr && d == dialect::compatible) most = member(*parameters, "max_completion_tokens");
        if (most != nullptr) {
            if (most->is_number_unsigned()) a.max_tokens = most->get<std::uint64_t>();
            if (!a.max_tokens || *a.max_tokens == 0 || *a.max_tokens > model.max_output)
                complain("Range of max_tokens should be [1, " + std::to_string(model.max_output) + "]");
        }
        auto const says = [](json const* j) { return j != nullptr && j->is_boolean() && j->get<bool>(); };
        a.stream = d == dialect::compatible && says(member(*parameters, "stream"));
        a.incremental = says(member(*parameters, "incremental_output"));
        if (auto const* o = member(*parameters, "stream_options"); d == dialect::compatible && o != nullptr) {
            if (!a.stream) complain("The stream_options option can only be set when stream is true.");
            a.include_usage = says(member(*o, "include_usage"));
        }
    }
    if (auto const* own = member(body, "metadata"); own != nullptr) {
        a.input_tokens = number_in(member(*own, "input_tokens"));
        a.output_tokens = number_in(member(*own, "output_tokens"));
        if (auto const* e = member(*own, "simulate_error"); e != nullptr && e->is_string())
            a.simulate_error = e->get<std::string>();
        if (auto const* e = member(*own, "simulate_mishap"); e != nullptr && e->is_string())
            a.simulate_mishap = e->get<std::string>();
    }
    return a;
}

planned_answer plan(simulator_settings const& s, model_settings const& model, asked const& a) {
    planned_answer p;
    p.input = a.input_tokens.value_or(a.size.tokens() + 4 * a.messages + 3);
    p.max_tokens = a.max_tokens.value_or(model.max_output);

    chance rng{fnv(fnv(s.seed ^ 0xcbf29ce484222325u, model.name), a.prompt)};
    auto const share = s.output.least + (s.output.most - s.output.least) * rng.unit();
    auto const around = [&rng, &s] { return 1 + s.latency.spread * (2 * rng.unit() - 1); };
    auto const of = std::min(a.max_tokens.value_or(s.output.without_max_tokens), model.max_output);
    p.output = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::llround(share * static_cast<double>(of))));
    if (a.output_tokens) p.output = *a.output_tokens;
    p.output = std::min(p.output, p.max_tokens);

    auto const first = s.latency.first_token_s * around();
    auto const rest =
        s.latency.tokens_per_s > 0 ? static_cast<double>(p.output) / s.latency.tokens_per_s * around() : 0;
    p.first_token_ns = std::llround(first * 1e9);
    p.latency_ns = std::llround((first + rest) * 1e9);
    return p;
}

}  // namespace simulated

std::optional<planned_answer> plan_answer(simulator_settings const& s, std::string_view text) {
    auto const body = nlohmann::json::parse(text, nullptr, false);
    if (!body.is_object()) return std::nullopt;
    auto const name = simulated::model_in(body);
    for (auto const& m : s.models)
        if (m.name == name)
            return simulated::plan(
                s, m,
                simulated::read_request(
                    body, body.contains("input") ? simulated::dialect::native : simulated::dialect::compatible, m));
    return std::nullopt;
}

}  // namespace qwen
