// SPDX-License-Identifier: MIT
//
// What the members of a JSON body mean: which hold an error, a code, a wait; which are parts of an answer; and which
// end a stream. The names are those that the vendors' pages and their servers use.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "../../detail/json_walk.hpp"
#include "../../detail/text.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm::detail {

template <std::size_t N>
constexpr bool is_one_of(std::string_view s, std::string_view const (&all)[N]) noexcept {
    for (auto const one : all) {
        if (s == one) return true;
    }
    return false;
}

/// What a member of an error, or of the top level, is.
enum class member : unsigned char { other, error, message, code, type, status, success, answer, total };

constexpr member meaning_of(std::string_view name) noexcept {
    struct row {
        std::string_view name;
        member meaning;
    };
    using enum member;
    constexpr row rows[] = {
        {"error", error},
        {"message", message},
        {"Message", message},
        {"msg", message},
        {"detail", message},
        {"details", message},
        {"raw", message},
        {"description", message},
        {"title", message},
        {"error_msg", message},
        {"error_message", message},
        {"errorMessage", message},
        {"error_description", message},
        {"errmsg", message},
        {"status_msg", message},
        {"faultstring", message},
        {"localized_message", message},
        {"code", code},
        {"Code", code},
        {"error_code", code},
        {"errorCode", code},
        {"errorcode", code},
        {"errcode", code},
        {"err_code", code},
        {"type", type},
        {"__type", type},
        {"error_type", type},
        {"object", type},
        {"name", type},
        {"status", status},
        {"statusCode", status},
        {"status_code", status},
        {"http_code", status},
        {"success", success},
        {"text", answer},
        {"content", answer},
        {"result", answer},
        {"response", answer},
        {"completion", answer},
        {"generated_text", answer},
        {"output", answer},
        {"total_tokens", total},
    };
    for (auto const& r : rows) {
        if (r.name == name) return r.meaning;
    }
    return other;
}

/// The number of keys that lead to the error object; 0 outside of one.
constexpr std::size_t error_depth(std::span<std::string_view const> path) noexcept {
    if (path.size() < 2) return 0;
    constexpr std::string_view containers[] = {"error", "Error", "errors", "fault", "detail", "message"};
    if (is_one_of(path[0], containers)) {
        // A message of Ollama is a part of an answer.
        bool const answer = path[0] == "message" && path[1] != "detail" && path[1] != "error" && path[1] != "message";
        return answer ? 0 : 1;
    }
    constexpr std::string_view suffix = "Exception";
    if (path[0].size() > suffix.size() && path[0].substr(path[0].size() - suffix.size()) == suffix) return 1;
    if (path.size() < 3) return 0;
    if ((path[0] == "response" && path[1] == "error") ||
        ((path[0] == "Response" || path[0] == "ResponseMetadata") && path[1] == "Error"))
        return 2;
    return path.size() > 3 && path[0] == "choices" && path[2] == "error" ? 3 : 0;
}

constexpr bool is_success(std::string_view s) noexcept {
    if (s.size() > 16) return false;
    for (auto const one : {"success", "succeeded", "successful", "ok", "0", "200", "20000", "00000", "completed"}) {
        if (same_ignoring_case(s, one)) return true;
    }
    return false;
}

constexpr bool is_failure(std::string_view s) noexcept {
    for (auto const one : {"failed", "error", "failure", "expired"}) {
        if (same_ignoring_case(s, one)) return true;
    }
    return false;
}

/// Whether an object or array of this name is, or holds, an answer.
constexpr bool holds_answer(std::string_view name) noexcept {
    constexpr std::string_view all[] = {"choices",    "candidates",    "output",  "content",     "message",
                                        "embeddings", "data",          "results", "result",      "embedding",
                                        "delta",      "content_block", "item",    "predictions", "token"};
    return is_one_of(name, all);
}

/// Whether a scalar marks the end of a stream: a reason to stop, or the name of the last event.
constexpr bool ends_stream(std::span<std::string_view const> path, weir::detail::json_scalar s) noexcept {
    constexpr std::string_view reasons[] = {"finish_reason", "finishReason", "stop_reason", "done_reason",
                                            "generated_text"};
    return is_one_of(path.back(), reasons) && s.is_string && !s.text.empty() && s.text != "null" &&
           s.text != "FINISH_REASON_UNSPECIFIED";
}
constexpr bool is_last_event(std::string_view name) noexcept {
    constexpr std::string_view all[] = {"message_stop",        "message-end", "message_end",
                                        "response.completed",  "stream-end",  "response.done",
                                        "response.incomplete", "done",        "end"};
    return is_one_of(name, all);
}
constexpr bool is_stream_end(std::string_view name, weir::detail::json_scalar s) noexcept {
    if (name == "type" || name == "event" || name == "event_type") return is_last_event(s.text);
    return (name == "done" || name == "is_end" || name == "is_finished") && s.text == "true";
}
/// Whether a scalar is of a part of a stream, after which more must come.
constexpr bool continues_stream(std::span<std::string_view const> path, weir::detail::json_scalar s) noexcept {
    std::string_view const name = path.back();
    if (path.size() == 1) {
        if (name == "done" || name == "is_end") return s.text == "false";
        if (name != "type") return false;
        constexpr std::string_view starts[] = {"message_start", "content_block", "message_delta",
                                               "response.",     "content-",      "message-start"};
        for (auto const one : starts) {
            if (s.text.substr(0, one.size()) == one) return true;
        }
        return false;
    }
    if (path[0] == "choices") return path.size() > 2 && path[2] == "delta";
    return name == "finish_reason" && s.text == "null";
}

/// A wait as a member of a body.
constexpr std::optional<std::chrono::nanoseconds> delay_member(std::string_view name, std::string_view text) noexcept {
    constexpr std::string_view seconds[] = {
        "retryDelay",   "retry_after", "retryAfter",        "retry_after_seconds", "retryAfterSeconds",
        "retry-after",  "Retry-After", "resets_in_seconds", "reset_in_seconds",    "estimated_time",
        "wait_seconds", "wait_time",   "quotaResetDelay",   "reset_after",         "resets_in"};
    if (is_one_of(name, seconds)) {
        auto const plain = parse_seconds(text);
        if (plain && *plain >= std::chrono::seconds{1'000'000'000}) return std::nullopt;
        return plain ? plain : parse_duration(text);
    }
    constexpr std::string_view milliseconds[] = {"retry_after_ms", "retryAfterMs", "retry-after-ms", "retryDelayMs"};
    return is_one_of(name, milliseconds) ? parse_milliseconds(text) : std::nullopt;
}
/// A moment as a member of a body.
constexpr bool is_reset_member(std::string_view name) noexcept {
    constexpr std::string_view all[] = {"resets_at",  "reset_at",          "resetsAt",          "resetAt",
                                        "reset_time", "X-RateLimit-Reset", "x-ratelimit-reset", "quotaResetTimeStamp"};
    return is_one_of(name, all);
}

}  // namespace weir::inline v0::llm::detail
