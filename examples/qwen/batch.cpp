// SPDX-License-Identifier: MIT
#include "batch.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <map>
#include <system_error>
#include <unordered_map>
#include <utility>

namespace qwen {

namespace {

using json = nlohmann::ordered_json;

constexpr std::size_t max_requests = 50'000;
constexpr std::size_t max_line = 6U << 20U;

[[noreturn]] void fail(std::string const& path, std::string const& what) { throw batch_error(path + ": " + what); }
[[noreturn]] void fail(std::string const& path, std::size_t line, std::string const& what) {
    throw batch_error(path + ":" + std::to_string(line) + ": " + what);
}
std::string cause(int error) { return std::error_code(error, std::generic_category()).message(); }

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

std::string string_of(json const& object, char const* key) {
    auto const it = object.find(key);
    return it != object.end() && it->is_string() ? it->get<std::string>() : std::string{};
}

// A count that a body states, as a number or, in metadata, as a string of digits.
std::optional<std::uint64_t> count_of(json const& object, char const* key) {
    auto const it = object.find(key);
    if (it == object.end()) return std::nullopt;
    if (it->is_number_unsigned()) return it->get<std::uint64_t>();
    if (it->is_string()) {
        auto const& text = it->get_ref<std::string const&>();
        if (!text.empty() && text.size() <= 18 &&
            std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
            return std::stoull(text);
        }
    }
    return std::nullopt;
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
    if (!in) fail(path, cause(errno));
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
    if (in.bad()) fail(path, cause(errno));
    if (result.items.empty()) fail(path, "no requests in it");
    return result;
}

line_file::line_file(std::string path, bool truncate) : path_{std::move(path)} {
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (truncate ? O_TRUNC : 0), 0644);
    if (fd_ < 0) fail(path_, cause(errno));
}

line_file::line_file(line_file&& other) noexcept : fd_{std::exchange(other.fd_, -1)}, path_{std::move(other.path_)} {}

line_file& line_file::operator=(line_file&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
}

line_file::~line_file() {
    if (fd_ >= 0) ::close(fd_);
}

void line_file::append(std::string line) {
    line += '\n';
    std::size_t done = 0;
    while (done < line.size()) {
        auto const n = ::write(fd_, line.data() + done, line.size() - done);
        if (n > 0) {
            done += static_cast<std::size_t>(n);
        } else if (n < 0 && errno != EINTR) {
            int const error = errno;
            struct stat now{};
            if (done > 0 && ::fstat(fd_, &now) == 0 && S_ISREG(now.st_mode)) {
                // Half a line would be read as a fault of the file.
                [[maybe_unused]] auto const cut = ::ftruncate(fd_, now.st_size - static_cast<off_t>(done));
            }
            fail(path_, "cannot write: " + cause(error));
        }
    }
}

void line_file::close() {
    if (fd_ < 0) return;
    if (::close(std::exchange(fd_, -1)) != 0) fail(path_, "cannot write: " + cause(errno));
}

void line_file::rename(std::string const& path) {
    if (std::rename(path_.c_str(), path.c_str()) != 0) fail(path, cause(errno));
    path_ = path;
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

namespace {

// Calls each(number, text) for every whole line of a file and cuts a torn last one off it. False: there is no such
// file.
template <class Each>
bool for_each_line(std::string const& path, Each each) {
    std::ifstream in(path, std::ios::binary);
    if (!in) {
        if (errno == ENOENT) return false;
        fail(path, cause(errno));
    }
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) return true;
    std::string text;
    off_t whole = 0;
    bool torn = false;
    for (std::size_t number = 1; std::getline(in, text); ++number) {
        if (in.eof()) {  // no line break at its end
            torn = true;
            break;
        }
        whole += static_cast<off_t>(text.size() + 1);
        if (text.find_first_not_of(" \t\r") != std::string::npos) each(number, text);
    }
    if (torn && ::truncate(path.c_str(), whole) != 0) fail(path, "cannot cut off its torn last line: " + cause(errno));
    return true;
}

}  // namespace

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

wall_ns wall_now() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// Lines: {"ask":CALL,"in":N,"out":N}, {"sent":CALL,"at":NS}, {"done":CALL,"at":NS,"in":N,"out":N}, {"void":CALL}.
journal::journal(std::string const& path, std::chrono::nanoseconds horizon) {
    wall_ns const now = wall_now();
    std::map<std::uint64_t, journal_call> calls;
    for_each_line(path, [&](std::size_t number, std::string const& text) {
        auto const line = json::parse(text, nullptr, false);
        auto const bad = [&] { fail(path, number, "not a line of a journal"); };
        if (!line.is_object()) bad();
        auto const at = line.find("at");
        auto const time = at != line.end() && at->is_number_integer() ? at->get<wall_ns>() : now;
        // A clock that was set back would make a stamp lie in the future.
        auto const past = std::min(time, now);
        if (auto const ask = count_of(line, "ask")) {
            calls[*ask] = {now, count_of(line, "in").value_or(0), count_of(line, "out").value_or(0), std::nullopt};
        } else if (auto const sent = count_of(line, "sent")) {
            calls[*sent].sent = past;
        } else if (auto const done = count_of(line, "done")) {
            auto& call = calls[*done];
            call.finished = past;
            call.input = count_of(line, "in").value_or(call.input);
            call.output = count_of(line, "out").value_or(call.output);
        } else if (auto const unsent = count_of(line, "void")) {
            calls.erase(*unsent);
        } else {
            bad();
        }
    });
    // Written to a second file that then replaces the old one at once, so that the journal is always whole.
    std::string const fresh = path + ".new";
    file_ = line_file(fresh, true);
    for (auto const& [old_number, call] : calls) {
        auto const latest = std::max(call.sent, call.finished.value_or(call.sent));
        if (latest < now - horizon.count()) continue;
        auto const number = about_to_send(call.input, call.output);
        sent(number, call.sent);
        if (call.finished) write_done(number, *call.finished, call.input, call.output);
        past_.push_back(call);
    }
    file_.rename(path);
}

std::uint64_t journal::about_to_send(std::uint64_t input, std::uint64_t output_bound) {
    auto const call = next_++;
    if (is_open()) {
        file_.append("{\"ask\":" + std::to_string(call) + ",\"in\":" + std::to_string(input) +
                     ",\"out\":" + std::to_string(output_bound) + "}");
    }
    return call;
}

void journal::sent(std::uint64_t call, wall_ns stamp) {
    if (is_open()) file_.append("{\"sent\":" + std::to_string(call) + ",\"at\":" + std::to_string(stamp) + "}");
}

void journal::finished(std::uint64_t call, std::uint64_t input, std::uint64_t output) {
    if (is_open()) write_done(call, wall_now(), input, output);
}

void journal::write_done(std::uint64_t call, wall_ns at, std::uint64_t input, std::uint64_t output) {
    file_.append("{\"done\":" + std::to_string(call) + ",\"at\":" + std::to_string(at) +
                 ",\"in\":" + std::to_string(input) + ",\"out\":" + std::to_string(output) + "}");
}

void journal::never_left(std::uint64_t call) {
    if (is_open()) file_.append("{\"void\":" + std::to_string(call) + "}");
}

}  // namespace qwen
