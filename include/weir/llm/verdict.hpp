// SPDX-License-Identifier: MIT
//
// classify(): what an answer means, and what to do next. Takes whatever a client has of the answer. The dialect
// matters, since servers use the same words for opposite things: insufficient_quota is a token throttle at DashScope
// and a billing stop at OpenAI. Sources: the vendors' pages on errors; the rules are in detail/error_tables.hpp.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "../detail/text.hpp"
#include "detail/error_body.hpp"
#include "detail/message_text.hpp"
#include "dialect.hpp"
#include "headers.hpp"
#include "hints.hpp"

namespace weir::inline v0::llm {

/// What went wrong.
enum class cause : unsigned char {
    none,            ///< nothing
    request_rate,    ///< too many requests per minute or per second
    token_rate,      ///< too many tokens per minute or per second
    rate,            ///< one of the two; the server does not say which
    burst,           ///< requests grew too fast
    concurrency,     ///< too many calls at once
    free_quota,      ///< the free allowance is exhausted
    plan_quota,      ///< an allowance of hours to months is exhausted, until `verdict::until` if that is known
    billing,         ///< the account has a billing problem
    authentication,  ///< the key is not valid, or lacks a permission
    no_model,        ///< no such model, or not for this account
    bad_request,     ///< the request is refused however often it is sent
    overload,        ///< the server is at capacity
    server_error,    ///< the server failed
    transport,       ///< no answer arrived
    unknown,
};

/// What to do next.
enum class action : unsigned char {
    proceed,       ///< nothing failed
    retry,         ///< send the same again, not before `verdict::wait`
    retry_slower,  ///< likewise, and slow the ramp
    next_account,  ///< send the same through another account or key; put this one on cooldown until `verdict::until`
    next_model,    ///< send the same to another model
    give_up,
};

struct verdict {
    llm::cause cause = llm::cause::unknown;
    llm::action action = llm::action::give_up;
    /// The wait that the server asks for: a lower bound for weir::backoff, which never shortens it.
    std::optional<std::chrono::nanoseconds> wait{};
    /// When the exhausted allowance is restored.
    std::optional<std::chrono::sys_seconds> until{};
    /// The most retries that make sense; 0: as many as the backoff allows. An error that is not understood always has a
    /// bound.
    unsigned max_retries = 0;
    /// The reason in words; static text.
    std::string_view reason{};

    constexpr bool retries() const noexcept {
        return action == llm::action::retry || action == llm::action::retry_slower;
    }
};

/// What a client has of an answer. Every field may be absent.
struct answer {
    llm::dialect dialect = llm::dialect::http;
    std::optional<int> status{};
    llm::headers headers{};
    std::string_view code{};
    std::string_view type{};
    std::string_view message{};
    std::string_view body{};  ///< the raw body; fields that are not given separately are read from it
    bool transport_failed = false;
    /// When the answer arrived: the reference for dates in it.
    std::chrono::sys_seconds now{};
};

/// One row of a table of errors. It applies if its status is the answer's (0: any) and
/// - its message is part of the answer's message, whatever the code; or
/// - it has no message, and one of its codes is the answer's code or type.
struct error_rule {
    int status = 0;
    std::string_view codes[2]{};  ///< either, compared in full to the code and to the type
    std::string_view message{};   ///< part of the message, or of Gemini's quotaId or reason
    llm::cause cause{};
    llm::action action{};
    std::string_view reason{};
    unsigned max_retries = 0;
};

/// What the answer means and what to do next. `own` rules are tried before the dialect's table: a custom dialect is its
/// rules with dialect::http. Pure; O(size of the body).
///
///     auto const v = weir::llm::classify({.dialect = weir::llm::dialect::openai, .status = 429, .body = body});
///     if (v.retries()) retry_after(backoff.next(v.wait));
constexpr verdict classify(answer const& a, std::span<error_rule const> own = {});

constexpr std::string_view to_string(cause c) noexcept {
    switch (c) {
        case cause::none: return "none";
        case cause::request_rate: return "request rate";
        case cause::token_rate: return "token rate";
        case cause::rate: return "rate";
        case cause::burst: return "burst";
        case cause::concurrency: return "concurrency";
        case cause::free_quota: return "free quota";
        case cause::plan_quota: return "plan quota";
        case cause::billing: return "billing";
        case cause::authentication: return "authentication";
        case cause::no_model: return "no model";
        case cause::bad_request: return "bad request";
        case cause::overload: return "overload";
        case cause::server_error: return "server error";
        case cause::transport: return "transport";
        case cause::unknown: return "unknown";
    }
    return "unknown";
}

constexpr std::string_view to_string(action a) noexcept {
    switch (a) {
        case action::proceed: return "proceed";
        case action::retry: return "retry";
        case action::retry_slower: return "retry slower";
        case action::next_account: return "next account";
        case action::next_model: return "next model";
        case action::give_up: return "give up";
    }
    return "give up";
}

}  // namespace weir::inline v0::llm

namespace weir::inline v0::llm::detail {

// Defined in error_tables.hpp, which includes this header.
constexpr std::span<error_rule const> rules_of(dialect d) noexcept;
constexpr verdict verdict_of_status(int status) noexcept;

struct error_facts {
    int status;  // 0: unknown
    std::string_view code, type, message, detail;

    constexpr bool says(std::string_view text) const noexcept {
        return contains_ignoring_case(message, text) || contains_ignoring_case(detail, text);
    }
};

constexpr bool applies(error_rule const& r, error_facts const& f) noexcept {
    if (r.status != 0 && r.status != f.status) return false;
    if (!r.message.empty()) return f.says(r.message);
    for (auto const c : r.codes) {
        if (!c.empty() && (c == f.code || c == f.type)) return true;
    }
    return false;
}

}  // namespace weir::inline v0::llm::detail

namespace weir::inline v0::llm {

constexpr verdict classify(answer const& a, std::span<error_rule const> own) {
    error_body const body{a.body};
    auto const or_else = [](std::string_view given, std::string_view found) { return given.empty() ? found : given; };
    detail::error_facts f{a.status.value_or(0), or_else(a.code, body.code), or_else(a.type, body.type),
                          or_else(a.message, body.message), body.detail};
    bool const said = body.failed || !a.code.empty() || !a.type.empty() || !a.message.empty();
    bool const good = f.status >= 200 && f.status < 300;

    if (a.transport_failed && f.status == 0 && !said) {
        return {cause::transport, action::retry, {}, {}, 3, "no answer arrived"};
    }
    if (good && !said) {
        // DashScope may report burst protection as the text of an answer that used no tokens.
        constexpr std::string_view burst_words = "Request rate increased too quickly";
        if (a.dialect == dialect::dashscope && body.total_tokens.value_or(0) == 0 &&
            body.text.substr(0, burst_words.size()) == burst_words) {
            return {
                cause::burst, action::retry_slower, {}, {}, 0, "burst protection, reported in the text of an answer"};
        }
        return {cause::none, action::proceed, {}, {}, 0, {}};
    }
    // An error inside a stream that began well carries its own status.
    if ((good || f.status == 0) && body.status) f.status = *body.status;

    verdict v{};
    bool known = false;
    auto const look_in = [&](std::span<error_rule const> table) {
        for (auto const& r : table) {
            if (known) return;
            if (!detail::applies(r, f)) continue;
            v = {r.cause, r.action, {}, {}, r.max_retries, r.reason};
            known = true;
        }
    };
    look_in(own);
    look_in(detail::rules_of(a.dialect));
    if (!known && f.status >= 300) {
        v = detail::verdict_of_status(f.status);
        if (said && v.retries() && v.max_retries == 0) v.max_retries = 5;
    } else if (!known) {
        v = {cause::unknown, action::retry, {}, {}, 2, "an unknown error"};
    }

    // OpenAI's and Anthropic's servers may say whether to retry; a known permanent error stays permanent.
    if (a.dialect == dialect::openai || a.dialect == dialect::anthropic || a.dialect == dialect::azure) {
        if (auto const should = a.headers("x-should-retry")) {
            if (detail::trim(*should) == "false" && v.retries()) v.action = action::give_up;
            if (detail::trim(*should) == "true" && v.action == action::give_up && !known) {
                v.action = action::retry;
                v.max_retries = 2;
            }
        }
    }
    v.wait = retry_hint(a.headers, body, a.now);
    if (!v.wait && !a.message.empty()) v.wait = detail::wait_in_words(a.message);
    if (v.cause == cause::plan_quota || v.cause == cause::free_quota) {
        v.until = detail::reset_in_words(f.message, a.now);
        if (!v.until && v.wait) v.until = a.now + std::chrono::ceil<std::chrono::seconds>(*v.wait);
    }
    return v;
}

}  // namespace weir::inline v0::llm

#include "detail/error_tables.hpp"  // defines rules_of and verdict_of_status
