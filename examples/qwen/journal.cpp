// SPDX-License-Identifier: MIT
#include "journal.hpp"

#include <nlohmann/json.hpp>
#include <algorithm>
#include <cstddef>
#include <map>

#include "json_fields.hpp"

namespace qwen {

wall_ns wall_now() noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

// Lines: {"ask":CALL,"in":N,"out":N}, {"sent":CALL,"at":NS}, {"done":CALL,"at":NS,"in":N,"out":N}, {"void":CALL}.
journal::journal(std::string const& path, std::chrono::nanoseconds horizon) {
    wall_ns const now = wall_now();
    std::map<std::uint64_t, journal_call> calls;
    for_each_line(path, [&](std::size_t number, std::string const& text) {
        auto const line = nlohmann::ordered_json::parse(text, nullptr, false);
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
