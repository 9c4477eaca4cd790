// SPDX-License-Identifier: MIT
//
// error_body reads the body of an error: its status, code, type, message and wait, from any JSON shape that LLM servers
// send, or from a frame of an event stream. The fields are views into the text, which must outlive them; strings keep
// their JSON escapes.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "../../detail/json_walk.hpp"
#include "../../detail/text.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm {

/// The shapes (`…`: members that are ignored):
///     {"code","message","request_id"}                              DashScope native
///     {"error":{"message","type","param","code"},…}                OpenAI, and the compatible modes A to E
///     {"error":{"code":503,"message","type"}}                      llama.cpp; the number is the status
///     {"error":{"code":429,"message","status","details":[…]}}      Gemini, also as the only element of an array
///     {"type":"error","error":{"type","message"}}                  Anthropic
///     {"object":"error","message","type","code"}, {"message"}      Mistral
///     {"error":"…"}, {"detail":"…"}                                proxies
///     id:1 / event:error / :HTTP_STATUS/429 / data:{…}             an error inside a stream
/// Missing and malformed fields stay empty.
struct error_body {
    std::optional<int> status{};
    std::string_view code{};
    std::string_view type{};
    std::string_view message{};
    std::string_view detail{};  ///< Gemini's quotaId or reason: distinguishes a daily quota from a minute's
    std::optional<std::chrono::nanoseconds> retry_delay{};  ///< google.rpc.RetryInfo
    bool failed = false;                                    ///< the body describes an error
    std::string_view text{};  ///< the first text of an answer, where some servers put errors
    std::optional<std::uint64_t> total_tokens{};

    constexpr error_body() = default;
    constexpr explicit error_body(std::string_view body) noexcept {
        body = detail::trim(body);
        if (body.empty()) return;
        if (body.front() == '{' || body.front() == '[') {
            read(body);
        } else {
            read_frame(body);
        }
    }

private:
    constexpr void read(std::string_view json) noexcept {
        weir::detail::walk_json(json, [this](std::span<std::string_view const> path, weir::detail::json_scalar s) {
            while (!path.empty() && path.front().empty()) path = path.subspan(1);  // an enclosing array
            if (path.empty() || s.is_null()) return false;
            std::string_view const name = path.back();
            bool const nested = path.size() == 2 && path.front() == "error";
            bool const top = path.size() == 1;
            if (nested || top) {
                if (top && (name == "error" || name == "detail") && s.is_string) {
                    set(message, s.text);
                    failed = true;
                } else if (name == "message") {
                    set(message, s.text, nested);
                } else if (name == "code") {
                    if (s.is_string) {
                        set(code, s.text, nested);
                    } else {
                        set_status(s.text);
                    }
                } else if (name == "type") {
                    if (top && s.text == "error") {
                        failed = true;
                    } else {
                        set(type, s.text, nested);
                    }
                } else if (name == "status") {
                    if (s.is_string && !status_of(s.text)) {
                        set(type, s.text, nested);
                    } else {
                        set_status(s.text);
                    }
                } else if (top && name == "object" && s.text == "error") {
                    failed = true;
                }
                failed = failed || nested;
                return false;
            }
            if (path.size() > 2 && path.front() == "error") {
                if (name == "retryDelay") {
                    if (auto const d = parse_duration(s.text); d && (!retry_delay || *d > *retry_delay))
                        retry_delay = d;
                } else if (name == "quotaId" || name == "reason") {
                    // A daily quota takes precedence over a minute's.
                    if (detail.empty() || detail::contains_ignoring_case(s.text, "perday")) detail = s.text;
                }
            } else if (name == "total_tokens") {
                total_tokens = detail::number(s.text);
            } else if ((name == "content" || name == "text") && s.is_string) {
                set(text, s.text);
            }
            return false;
        });
        // DashScope's native shape: a code and a message at the top level, and no answer.
        failed = failed || (!code.empty() && !message.empty()) || (!message.empty() && text.empty() && !total_tokens);
    }

    constexpr void read_frame(std::string_view frame) noexcept {
        bool error_event = false;
        std::string_view data;
        while (!frame.empty()) {
            auto const end = frame.find('\n');
            std::string_view line = detail::trim(frame.substr(0, end));
            frame = end == std::string_view::npos ? std::string_view{} : frame.substr(end + 1);
            if (detail::take(line, ":HTTP_STATUS/")) {
                set_status(line);
            } else if (detail::take(line, "event:")) {
                error_event = detail::trim(line) == "error";
            } else if (detail::take(line, "data:")) {
                line = detail::trim(line);
                if (!line.empty() && line.front() == '{' && (data.empty() || error_event)) data = line;
            }
        }
        read(data);
        failed = failed || error_event;
    }

    static constexpr std::optional<int> status_of(std::string_view s) noexcept {
        auto const n = detail::number(s);
        return n && *n >= 100 && *n <= 599 ? std::optional<int>{static_cast<int>(*n)} : std::nullopt;
    }
    constexpr void set_status(std::string_view s) noexcept {
        if (auto const n = status_of(s)) status = n;
    }
    /// Keeps the first value, except that members of "error" take precedence over those at the top level.
    static constexpr void set(std::string_view& to, std::string_view s, bool prefer = false) noexcept {
        if (to.empty() || prefer) to = s;
    }
};

}  // namespace weir::inline v0::llm
