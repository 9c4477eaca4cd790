// SPDX-License-Identifier: MIT
//
// error_body reads the body of an answer: whether it is a failure, and what it says, from any JSON shape that LLM
// servers send, in one piece or as a stream. The fields are views into the text, which must outlive them; strings keep
// their JSON escapes.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "../../detail/json_walk.hpp"
#include "../../detail/text.hpp"
#include "body_member.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm {

/// The shapes (`…`: members that are ignored):
///     {"code","message","request_id"}                              DashScope native; {"code","msg"} Zhipu, Spark
///     {"error":{"message","type","param","code"},…}                OpenAI, and the compatible modes A to E
///     {"error":{"code":503,"message","type"}}                      llama.cpp; the number is the status
///     {"error":{"code":429,"message","status","details":[…]}}      Gemini, also as the only element of an array
///     {"error":{"message","code","metadata":{"raw","headers"}}}    OpenRouter; also in choices[]
///     {"type":"error","error":{"type","message"}}                  Anthropic
///     {"object":"error","message","type","code"}, {"message"}      Mistral, vLLM
///     {"error":"…"}, {"detail":"…"}, {"errors":[…]}, "…"           proxies, Hugging Face, Ollama, Cloudflare
///     {"base_resp":{"status_code","status_msg"}}                   MiniMax
///     {"error_code","error_msg"}                                   Baidu, Databricks
///     {"Response":{"Error":{"Code","Message"}}}                    Tencent; ResponseMetadata: Volcengine
///     {"output":{"task_status":"FAILED","code","message"}}         DashScope's tasks; {"status":"failed","error"}
///     {"throttlingException":{"message"}}                          Bedrock, inside a stream
///     id:1 / event:error / :HTTP_STATUS/429 / data:{…}             an error inside a stream; data: or error: alone
///     {…} / {…}                                                    lines of JSON
/// Missing and malformed fields stay empty.
struct error_body {
    std::optional<int> status{};
    std::string_view code{};
    std::string_view type{};
    std::string_view message{};
    std::string_view detail{};  ///< Gemini's quotaId or reason: distinguishes a daily quota from a minute's
    std::optional<std::chrono::nanoseconds> retry_delay{};  ///< a wait as a member: retryDelay, retry_after, …
    std::string_view reset{};                               ///< when a limit resets, as the body has it
    std::array<std::string_view, 6> more{};                 ///< further texts of the error
    bool failed = false;                                    ///< the body describes an error
    bool broken = false;      ///< it is cut off: JSON that does not end, or a stream without its end
    bool zero_limit = false;  ///< a limit of 0 is named as a member
    bool minimax = false;     ///< it has base_resp
    bool mistral = false;     ///< it is an object "error" with a code in digits
    std::string_view text{};  ///< the first text of an answer, where some servers put errors
    std::optional<std::uint64_t> total_tokens{};

    constexpr error_body() = default;
    constexpr explicit error_body(std::string_view body) noexcept {
        bool const given = !body.empty();
        body = detail::trim(body);
        if (body.empty()) {
            broken = given;
        } else if (body.front() == '{' || body.front() == '[') {
            read_documents(body);
        } else if (body.front() == '"') {
            weir::detail::walk_json(body, [this](auto, weir::detail::json_scalar s) { return say(s.text), true; });
            failed = true;
        } else if (body.front() == '<') {
            read_page(body);
        } else if (is_stream(body)) {
            read_stream(body);
        } else {
            say(body.substr(0, max_plain));
        }
    }

private:
    static constexpr std::size_t max_plain = 4096;

    // What one JSON value says of itself.
    struct document {
        bool answer = false;   // it has a part of an answer
        bool success = false;  // it says so
        bool failure = false;  // it says so
        bool partial = false;  // it is a part of a stream that goes on
        bool piece = false;    // likewise, if it came in a stream
        bool ended = false;    // it is the end of a stream
    };

    constexpr void read_documents(std::string_view body) noexcept {
        document all;
        bool whole = true;
        while (!body.empty() && (body.front() == '{' || body.front() == '[')) {
            document one;
            auto const end = read(body, one);
            whole = end.whole;
            all.partial = all.partial || one.partial;
            all.ended = all.ended || one.ended;
            if (failed) return;
            body.remove_prefix(end.at);
            while (!body.empty() && (body.front() == ',' || detail::trim(body.substr(0, 1)).empty()))
                body.remove_prefix(1);
        }
        broken = !whole || (all.partial && !all.ended);
    }

    constexpr weir::detail::json_end read(std::string_view json, document& d) noexcept {
        auto const end =
            weir::detail::walk_json(json, [&](std::span<std::string_view const> path, weir::detail::json_scalar s) {
                while (!path.empty() && path.front().empty()) path = path.subspan(1);  // an enclosing array
                if (!path.empty()) visit(path, s, d);
                return false;
            });
        bool const coded = !code.empty() && !detail::is_success(code);
        bool const told = !message.empty() && !(d.success && !coded);
        failed = failed || d.failure || (!d.answer && (coded || told));
        return end;
    }

    constexpr void visit(std::span<std::string_view const> path, weir::detail::json_scalar s, document& d) noexcept {
        // Numbers in lists: embeddings.
        if (!s.is_string && path.back().empty()) {
            d.answer = d.answer || detail::holds_answer(path[0]);
            return;
        }
        if (path.size() == 1 && detail::is_stream_end(path[0], s)) d.ended = true;
        if (detail::ends_stream(path, s)) d.ended = true;
        if (detail::continues_stream(path, s)) d.partial = true;
        if (path[0] == "candidates") d.piece = true;
        if (s.is_null() || (s.is_string && s.text.empty())) return;
        std::size_t const inside = detail::error_depth(path);
        if (inside != 0) {
            in_error(path.subspan(inside), s, d);
        } else if (path.size() == 1) {
            at_top(path[0], s, d);
        } else {
            in_answer(path, s, d);
        }
    }

    // A member of the error object, or of something in it.
    constexpr void in_error(std::span<std::string_view const> path, weir::detail::json_scalar s, document& d) noexcept {
        while (path.size() > 1 && path.front().empty()) path = path.subspan(1);
        if (path.empty()) return;
        bool const outermost = path.size() == 1;
        if (outermost && !s.is_string && (s.text == "false" || s.text == "0")) return;
        d.failure = true;
        switch (std::string_view const name = path.back(); detail::meaning_of(name)) {
            using m = detail::member;
            case m::message: say(s.text, outermost); break;
            case m::code:
                if (outermost || path.size() == 2) set_code(s, outermost);
                say_code(s);
                break;
            case m::type:
                if (outermost) set(type, s.text, true);
                break;
            case m::status:
                if (s.is_string && !status_of(s.text)) {
                    if (outermost) set(type, s.text, true);
                } else if (outermost) {
                    set_status(s.text);
                }
                break;
            case m::other:
            case m::error:
            case m::success:
            case m::answer:
            case m::total: time_or_limit(name, s); break;
        }
    }

    constexpr void at_top(std::string_view name, weir::detail::json_scalar s, document& d) noexcept {
        switch (detail::meaning_of(name)) {
            using m = detail::member;
            case m::error:
                if (!s.is_string && s.text != "true") break;
                d.failure = true;
                if (s.is_string) say(s.text, true);
                break;
            case m::message:
                if (detail::is_success(s.text)) {
                    d.success = true;
                } else {
                    say(s.text);
                }
                break;
            case m::code:
                if (detail::is_success(s.text)) {
                    d.success = true;
                } else {
                    set_code(s, false);
                }
                if (name == "error_code") d.failure = d.failure || !code.empty();
                break;
            case m::type:
                if (s.text == "error" || detail::same_ignoring_case(s.text, "response.error")) {
                    d.failure = true;
                } else if (name != "object") {
                    set(type, s.text);
                }
                break;
            case m::status:
                if (detail::is_failure(s.text)) d.failure = true;
                if (detail::is_success(s.text)) d.success = true;
                set_status(s.text);
                break;
            case m::success: (s.text == "false" ? d.failure : d.success) = true; break;
            case m::answer:
                if (s.is_string) {
                    d.answer = true;
                    set(text, s.text);
                }
                break;
            case m::total: total_tokens = detail::number(s.text); break;
            case m::other: time_or_limit(name, s); break;
        }
        mistral = mistral || name == "raw_status_code" || (name == "object" && s.text == "error");
    }

    constexpr void in_answer(std::span<std::string_view const> path, weir::detail::json_scalar s,
                             document& d) noexcept {
        std::string_view const name = path.back();
        if (path[0] == "base_resp" || path[0] == "header") {
            minimax = minimax || path[0] == "base_resp";
            if (name == "status_code" || name == "code") {
                if (s.text != "0") {
                    set_code(s, false);
                    d.failure = true;
                }
            } else if ((name == "status_msg" || name == "message") && !detail::is_success(s.text)) {
                say(s.text);
            }
            return;
        }
        if (path[0] == "output" && path.size() == 2 && (name == "code" || name == "message" || name == "task_status")) {
            if (name == "code") set(code, s.text);
            if (name == "message") say(s.text);
            d.answer = d.answer || name == "task_status";
            if (name == "task_status" && detail::is_failure(s.text)) d.failure = true;
            return;
        }
        if (path[0] == "promptFeedback") {
            if (name == "blockReason") set(code, "content_filter");
            return;
        }
        if (detail::holds_answer(path[0])) d.answer = true;
        if (name == "total_tokens" || name == "totalTokenCount") total_tokens = detail::number(s.text);
        if ((name == "content" || name == "text") && s.is_string) set(text, s.text);
    }

    constexpr void time_or_limit(std::string_view name, weir::detail::json_scalar s) noexcept {
        if (auto const d = detail::delay_member(name, s.text); d && (!retry_delay || *d > *retry_delay)) {
            retry_delay = d;
        } else if (detail::is_reset_member(name)) {
            set(reset, s.text);
        } else if (name == "quotaId" || name == "reason") {
            // A daily quota takes precedence over a minute's.
            if (detail.empty() || detail::contains_ignoring_case(s.text, "perday")) detail = s.text;
        } else if (name == "quota_limit_value" || name == "quotaValue") {
            zero_limit = zero_limit || s.text == "0";
        }
    }

    static constexpr bool is_stream(std::string_view body) noexcept {
        for (std::string_view const field : {"data:", "event:", "id:", ":", "error:", "retry:"}) {
            if (body.substr(0, field.size()) == field) return true;
        }
        return false;
    }

    constexpr void read_stream(std::string_view stream) noexcept {
        bool error_event = false;
        document all;
        bool any = false;  // data
        while (!stream.empty() && !failed) {
            auto const end = stream.find('\n');
            std::string_view line = detail::trim(stream.substr(0, end));
            std::string_view next = end == std::string_view::npos ? std::string_view{} : stream.substr(end + 1);
            if (detail::take(line, ":HTTP_STATUS/")) {
                set_status(line);
            } else if (detail::take(line, "event:")) {
                line = detail::trim(line);
                error_event = line == "error" || line == "response.failed" || line == "response.error";
                all.ended = all.ended || detail::is_last_event(line);
            } else if (detail::take(line, "data:") || (!line.empty() && line.front() == '{')) {
                line = detail::trim(line);
                if (line == "[DONE]") {
                    all.ended = true;
                } else if (!line.empty() && (line.front() == '{' || line.front() == '[')) {
                    any = true;
                    document one;
                    if (!read(line, one).whole && !failed) {
                        // Over several lines, as Gemini sends an error in the middle of a stream.
                        stream.remove_prefix(static_cast<std::size_t>(line.data() - stream.data()));
                        next = stream.substr(read(stream, one).at);
                    }
                    all.partial = all.partial || one.partial || one.piece;
                    all.ended = all.ended || one.ended;
                    failed = failed || error_event || status.value_or(0) >= 400;
                    if (!failed) forget();
                } else if (error_event) {
                    say(line);
                    failed = true;
                }
            } else if (detail::take(line, "error:")) {
                line = detail::trim(line);
                document one;
                if (!line.empty() && line.front() == '{') {
                    read(line, one);
                } else {
                    say(line);
                }
                failed = true;
            }
            stream = next;
        }
        failed = failed || error_event;
        broken = !failed && !all.ended && (all.partial || !any);
    }

    // What a piece of an answer has in the places of an error.
    constexpr void forget() noexcept { status = {}, code = {}, type = {}, message = {}, more = {}; }

    // A page of a proxy: its title says what happened.
    constexpr void read_page(std::string_view page) noexcept {
        failed = true;
        page = page.substr(0, max_plain);
        auto const open = detail::find_ignoring_case(page, "<title>");
        if (open == std::string_view::npos) return;
        std::string_view const rest = page.substr(open + 7);
        std::string_view title = detail::trim(rest.substr(0, rest.find('<')));
        say(title);
        set_status(title.substr(0, 3));
    }

    static constexpr std::optional<int> status_of(std::string_view s) noexcept {
        auto const n = detail::number(s);
        return n && *n >= 100 && *n <= 599 ? std::optional<int>{static_cast<int>(*n)} : std::nullopt;
    }
    constexpr void set_status(std::string_view s) noexcept {
        if (auto const n = status_of(s)) status = n;
    }
    constexpr void set_code(weir::detail::json_scalar s, bool prefer) noexcept {
        if (status_of(s.text)) set_status(s.text);
        if (s.is_string || !status_of(s.text)) set(code, s.text, prefer);
    }
    // A code deeper in the error is a text: it may be of another server.
    constexpr void say_code(weir::detail::json_scalar s) noexcept {
        if (s.is_string && s.text.data() != code.data()) say(s.text, false);
    }
    /// Keeps the first message, except that members of "error" take precedence over those at the top level.
    constexpr void say(std::string_view s, bool prefer = false) noexcept {
        if (message.empty()) {
            message = s;
            return;
        }
        if (prefer) std::swap(message, s);
        for (auto& m : more) {
            if (m == s) return;
            if (m.empty()) {
                m = s;
                return;
            }
        }
    }
    static constexpr void set(std::string_view& to, std::string_view s, bool prefer = false) noexcept {
        if (to.empty() || prefer) to = s;
    }
};

}  // namespace weir::inline v0::llm
