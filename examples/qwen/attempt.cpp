// SPDX-License-Identifier: MIT
#include "attempt.hpp"

#include <nlohmann/json.hpp>
#include <algorithm>

namespace qwen {

namespace {

std::string text_of(nlohmann::json const& object, char const* key) {
    auto const it = object.find(key);
    if (it == object.end()) return {};
    if (it->is_string()) return it->get<std::string>();
    return it->is_number_integer() ? it->dump() : std::string{};
}

std::optional<std::uint64_t> count_of(nlohmann::json const& object, char const* key) {
    auto const it = object.find(key);
    if (it == object.end() || !it->is_number_unsigned()) return std::nullopt;
    return it->get<std::uint64_t>();
}

std::string_view trimmed(std::string_view text) {
    auto const from = text.find_first_not_of(" \t");
    auto const until = text.find_last_not_of(" \t\r\n");
    return from == std::string_view::npos || until == std::string_view::npos || until < from
               ? std::string_view{}
               : text.substr(from, until - from + 1);
}

// A 200: what the call has used, if the body says so.
void read_usage(attempt& a, nlohmann::json const& body) {
    a.charge = charge::bound;
    if (!body.is_object()) {
        a.code = "garbled_answer";
        a.message = "200, and a body that is no JSON object";
        return;
    }
    auto const usage = body.find("usage");
    if (usage == body.end() || !usage->is_object()) return;
    auto const input = count_of(*usage, "prompt_tokens"), output = count_of(*usage, "completion_tokens");
    if (!input || !output) return;
    a.usage = {.input = *input, .output = *output};
    a.charge = charge::used;
}

}  // namespace

std::optional<std::string_view> attempt::header(std::string_view name) const {
    for (std::string_view rest = headers; !rest.empty();) {
        auto const line = rest.substr(0, rest.find('\n'));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
        if (line.size() <= name.size() || line[name.size()] != ':') continue;
        auto const same = [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + ('a' - 'A') : b); };
        if (std::equal(name.begin(), name.end(), line.begin(), same)) return trimmed(line.substr(name.size() + 1));
    }
    return std::nullopt;
}

void read_answer(attempt& a) {
    if (auto const id = a.header("x-request-id")) a.request_id = *id;
    auto const body = nlohmann::json::parse(a.body, nullptr, false);
    if (body.is_object()) {
        if (a.request_id.empty()) a.request_id = text_of(body, "request_id");
        auto const error = body.find("error");
        auto const& said = error != body.end() && error->is_object() ? *error : body;
        if (a.status != 200) {
            a.code = text_of(said, "code");
            a.message = text_of(said, "message");
        }
    }
    switch (a.status) {
        case 200: read_usage(a, body); break;
        case 401:
        case 403:
        case 404:
        case 413:
        case 429: a.charge = charge::request; break;
        default: a.charge = charge::bound; break;
    }
}

}  // namespace qwen
