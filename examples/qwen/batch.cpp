// SPDX-License-Identifier: MIT
#include "batch.hpp"

#include <nlohmann/json.hpp>
#include <algorithm>
#include <cerrno>
#include <fstream>
#include <unordered_map>
#include <utility>

#include "json_fields.hpp"

namespace qwen {

namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t max_requests = 50'000;
constexpr std::size_t max_line = 6U << 20U;

// "[json.exception.parse_error.101] parse error at line 1, column 7: …", without what says nothing to the user: a
// JSONL line is line 1.
std::string parse_fault(json::parse_error const& e) {
    std::string text = e.what();
    auto const column = text.find("column ");
    return "malformed JSON at " + (column == std::string::npos ? text : text.substr(column));
}

std::string in_quotes(std::string_view text) {
    constexpr std::size_t most = 60;
    return '"' + std::string(text.substr(0, most)) + (text.size() > most ? "…\"" : "\"");
}

// Characters of a text by what they weigh. Malformed UTF-8 weighs as other scripts do.
std::uint64_t text_tokens(std::string_view text) {
    std::uint64_t ascii = 0, cjk = 0, other_bytes = 0;
    for (std::size_t i = 0; i < text.size();) {
        auto const c = static_cast<unsigned char>(text[i]);
        std::size_t const length = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
        std::size_t const there = std::min(length, text.size() - i);
        if (there == 1) {
            ++ascii;
        } else if (c >= 0xE3 && there >= 3) {  // from U+3000: kana, ideographs, hangul, emoji
            ++cjk;
            if (there == 4) ++cjk;
        } else {
            other_bytes += there;
        }
        i += there;
    }
    return (ascii + 2) / 3 + cjk + (other_bytes + 1) / 2;
}

std::uint64_t estimate(json const& body) {
    if (auto const metadata = body.find("metadata"); metadata != body.end() && metadata->is_object()) {
        if (auto const stated = count_of(*metadata, "input_tokens")) return *stated;
    }
    std::uint64_t tokens = 3;
    auto const messages = body.find("messages");
    if (messages != body.end() && messages->is_array()) {
        for (auto const& message : *messages) {
            tokens += 4;
            if (!message.is_object()) continue;
            auto const content = message.find("content");
            if (content == message.end()) continue;
            if (content->is_string()) {
                tokens += text_tokens(content->get_ref<std::string const&>());
            } else {
                tokens += text_tokens(content->dump(-1, ' ', false, json::error_handler_t::replace));
            }
        }
    }
    // Tools and their like are part of the prompt too.
    for (char const* key : {"tools", "functions", "response_format"}) {
        if (auto const it = body.find(key); it != body.end()) {
            tokens += text_tokens(it->dump(-1, ' ', false, json::error_handler_t::replace));
        }
    }
    return tokens;
}

}  // namespace

std::uint64_t estimate_input_tokens(std::string_view body) {
    auto const parsed = json::parse(body, nullptr, false);
    return parsed.is_object() ? estimate(parsed) : text_tokens(body);
}

batch read_batch(std::string const& path, read_options const& options) {
    std::ifstream in(path, std::ios::binary);
    if (!in) fail(path, errno_text(errno));
    batch result;
    result.path = path;
    std::unordered_map<std::string, std::size_t> lines_of;
    std::string text;
    std::size_t model_line = 0;
    for (std::size_t number = 1; std::getline(in, text); ++number) {
        if (number == 1 && text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
        if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
        if (text.size() > max_line) fail(path, number, "the line is longer than 6 MiB");
        if (result.items.size() == max_requests) fail(path, number, "more than 50,000 requests in one file");
        json line;
        try {
            line = json::parse(text);
        } catch (json::parse_error const& e) {
            fail(path, number, parse_fault(e));
        }
        if (!line.is_object()) fail(path, number, "not a JSON object");

        batch_item item;
        item.line = number;
        item.custom_id = string_of(line, "custom_id");
        if (item.custom_id.empty()) fail(path, number, "no \"custom_id\" (a non-empty string)");
        if (auto const [it, first] = lines_of.emplace(item.custom_id, number); !first) {
            fail(path, number,
                 "duplicate custom_id " + in_quotes(item.custom_id) + ", first on line " + std::to_string(it->second));
        }
        if (string_of(line, "method") != "POST") fail(path, number, "\"method\" must be \"POST\"");
        auto const url = string_of(line, "url");
        if (url.empty()) fail(path, number, "no \"url\" (\"/v1/chat/completions\")");
        if (result.items.empty()) {
            if (!url.ends_with("/chat/completions"))
                fail(path, number, "url " + in_quotes(url) + " is not a chat completion");
            result.url = url;
        } else if (url != result.url) {
            fail(path, number, "url " + in_quotes(url) + ", where the lines before have " + in_quotes(result.url));
        }
        auto const found = line.find("body");
        if (found == line.end() || !found->is_object()) fail(path, number, "no \"body\" (an object)");
        json& body = *found;

        if (!options.model.empty()) body["model"] = options.model;
        auto const model = string_of(body, "model");
        if (model.empty()) fail(path, number, "the body has no \"model\"");
        if (result.items.empty()) {
            result.model = model;
            model_line = number;
        } else if (model != result.model) {
            fail(path, number,
                 "mismatched model " + in_quotes(model) + ", where line " + std::to_string(model_line) + " has " +
                     in_quotes(result.model));
        }
        auto const messages = body.find("messages");
        if (messages == body.end() || !messages->is_array() || messages->empty()) {
            fail(path, number, "the body has no \"messages\" (an array that is not empty)");
        }
        if (auto const stream = body.find("stream"); stream != body.end() && *stream == true) {
            fail(path, number, "\"stream\": true has no place in a batch");
        }
        for (char const* key : {"max_tokens", "max_completion_tokens"}) {
            auto const bound = body.find(key);
            if (bound == body.end() || bound->is_null()) continue;
            if (!bound->is_number_unsigned() || *bound == 0U)
                fail(path, number, in_quotes(key) + " must be a positive whole number");
            item.max_tokens = std::max(item.max_tokens, bound->get<std::uint64_t>());
        }
        if (item.max_tokens == 0) {
            item.max_tokens = options.default_max_tokens;
            body["max_tokens"] = item.max_tokens;
        }
        item.input_tokens = estimate(body);
        // The model first, where a client can replace it without reading the rest.
        body.erase("model");
        item.body = "{\"model\":" + json(model).dump() + "," + body.dump().substr(1);
        result.items.push_back(std::move(item));
        if (options.first != 0 && result.items.size() == options.first) break;
    }
    if (in.bad()) fail(path, errno_text(errno));
    if (result.items.empty()) fail(path, "no requests in it");
    return result;
}

std::string to_line(batch_answer const& answer) {
    json const number = "batch_req_" + std::to_string(answer.number);
    std::string line =
        "{\"id\":" + number.dump() + ",\"custom_id\":" + json(answer.custom_id).dump() + ",\"response\":";
    if (answer.status == 0) {
        line += "null";
    } else {
        // The body as the server sent it, not as a parser would print it again. A line break in JSON is only white
        // space.
        std::string body = answer.body;
        std::replace_if(body.begin(), body.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
        if (!json::accept(body)) body = json(answer.body).dump(-1, ' ', false, json::error_handler_t::replace);
        line += "{\"status_code\":" + std::to_string(answer.status) +
                ",\"request_id\":" + json(answer.request_id).dump(-1, ' ', false, json::error_handler_t::replace) +
                ",\"body\":" + body + "}";
    }
    line += ",\"error\":";
    if (answer.error_code.empty()) {
        line += "null}";
    } else {
        json const error{{"code", answer.error_code}, {"message", answer.error_message}};
        line += error.dump(-1, ' ', false, json::error_handler_t::replace) + "}";
    }
    return line;
}

std::unordered_set<std::string> finished_ids(std::string const& path) {
    std::unordered_set<std::string> ids;
    for_each_line(path, [&](std::size_t number, std::string const& text) {
        auto const line = json::parse(text, nullptr, false);
        auto id = line.is_object() ? string_of(line, "custom_id") : std::string{};
        if (id.empty()) fail(path, number, "not a line of an output file, so this file is not one to resume from");
        auto const response = line.find("response");
        if (response == line.end() || !response->is_object()) return;
        auto const status = response->find("status_code");
        if (status != response->end() && *status == 200) ids.insert(std::move(id));
    });
    return ids;
}

}  // namespace qwen
