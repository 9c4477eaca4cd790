// SPDX-License-Identifier: MIT
//
// error_rule: what an error means, and what to do next: the rows that the vendors' tables, and a client's own, are made
// of. classify() in verdict.hpp applies them.
#pragma once

#include "../detail/cpp20.hpp"

#include <chrono>
#include <optional>
#include <string_view>

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
    transport,       ///< no answer arrived, or it broke off
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

/// One row of a table of errors. It applies if its status is the answer's (0: any) and
/// - its message is part of what the answer says, whatever the code: words are compared, without their case and the
///   punctuation between them; or
/// - it has no message, and one of its codes is the answer's code or type.
struct error_rule {
    int status = 0;
    std::string_view codes[2]{};  ///< either, compared in full to the code and to the type
    std::string_view message{};   ///< part of the message, or of another text of the error
    llm::cause cause{};
    llm::action action{};
    std::string_view reason{};
    unsigned max_retries = 0;
};

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
