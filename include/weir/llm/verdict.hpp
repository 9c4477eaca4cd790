// SPDX-License-Identifier: MIT
//
// What an answer was, and what to do next. Takes whatever a client happens to have of it; the same words mean opposite things at
// different servers (insufficient_quota is a throttle of tokens at DashScope and a billing stop at OpenAI), so the dialect decides.
// Sources: the vendors' pages on errors; what clients have seen of DashScope's four body shapes.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "../detail/text.hpp"
#include "detail/error_body.hpp"
#include "detail/time_text.hpp"
#include "dialect.hpp"
#include "headers.hpp"
#include "hints.hpp"

namespace weir::inline v0::llm {

/// What it was.
enum class cause : unsigned char {
    none,          ///< no failure
    request_rate,  ///< too many requests for a minute or a second
    token_rate,    ///< too many tokens for a minute or a second
    rate,          ///< one of the two, it does not say which
    burst,         ///< requests grew too fast
    concurrency,   ///< too many calls at once
    free_quota,    ///< the free allowance is gone
    plan_quota,    ///< an allowance of hours, days, weeks or months is gone, until `verdict::until` where that is known
    billing,       ///< the account does not pay
    authentication,  ///< the key, or what it may do
    no_model,        ///< there is no such model, or not for this account
    bad_request,     ///< the request will not be taken, however often it is sent
    overload,        ///< the server has too much to do
    server_error,    ///< the server failed
    transport,       ///< no answer came
    unknown,
};

/// What to do.
enum class action : unsigned char {
    proceed,       ///< nothing failed
    retry,         ///< the same again, not before `verdict::wait`
    retry_slower,  ///< likewise, and slow the ramp
    next_account,  ///< the same through another account or key; this one is out until `verdict::until`, or for long
    next_model,    ///< the same of another model
    give_up,
};

struct verdict {
    llm::cause cause = llm::cause::unknown;
    llm::action action = llm::action::give_up;
    /// What the server asks to wait, at least: a hint for weir::backoff, which never shortens it.
    std::optional<std::chrono::nanoseconds> wait{};
    /// When what is gone is there again.
    std::optional<std::chrono::sys_seconds> until{};
    /// Retries that make sense at most; 0: as many as the backoff has. What is not understood is never retried for ever.
    unsigned at_most = 0;
    /// The reason in words; static text.
    std::string_view reason{};

    constexpr bool retries() const noexcept {
        return action == llm::action::retry || action == llm::action::retry_slower;
    }
};

/// What a client has of an answer; all of it may be absent.
struct answer {
    llm::dialect dialect = llm::dialect::http;
    std::optional<int> status{};
    llm::headers headers{};
    std::string_view code{};
    std::string_view type{};
    std::string_view message{};
    std::string_view body{};  ///< raw; what is not given apart is looked for in it
    bool transport_failed = false;
    /// When the answer came, for dates in it.
    std::chrono::sys_seconds now{};
};

/// A line of a table of errors. It applies where its status is the answer's (0: any), and its message is part of the answer's, under
/// whatever code; or, where it has no message, where one of its codes is the answer's code or type.
struct error_rule {
    int status = 0;
    std::string_view codes[2]{};  ///< either, whole, as code or as type
    std::string_view message{};   ///< a part of the message, or of Gemini's quotaId and reason
    llm::cause cause{};
    llm::action action{};
    std::string_view reason{};
    unsigned at_most = 0;
};

/// What it was and what to do. Pure; O(size of the body). `own` is looked at before the dialect's table: a user's own dialect
/// is its lines with dialect::http.
constexpr verdict classify(answer const& a, std::span<error_rule const> own = {});

}  // namespace weir::inline v0::llm

namespace weir::inline v0::detail {

/// What each vendor's errors mean, the first line that applies before the others.
struct error_tables {
    using enum llm::cause;
    using enum llm::action;

    static constexpr llm::error_rule dashscope[] = {
        // By message first: proxies rewrite codes and statuses.
        {0, {}, "Free allocated quota exceeded", free_quota, next_model, "the free quota of this model is gone"},
        {0,
         {},
         "free tier of the model has been exhausted",
         free_quota,
         next_model,
         "the free tier of this model is gone"},
        {0,
         {},
         "quota has been exhausted. The quota will reset at",
         plan_quota,
         next_account,
         "the plan's quota is gone"},
        {0, {}, "concurrency allocated quota exceeded", concurrency, retry, "too many calls at once for the plan"},
        {0,
         {},
         "usage allocated quota exceeded",
         plan_quota,
         next_account,
         "the plan's usage is spent for about an hour"},
        {0, {}, "hour allocated quota exceeded", plan_quota, next_account, "the plan's quota for hours is gone"},
        {0, {}, "week allocated quota exceeded", plan_quota, next_account, "the plan's quota for the week is gone"},
        {0, {}, "month allocated quota exceeded", plan_quota, next_account, "the plan's quota for the month is gone"},
        {0, {}, "Request rate increased too quickly", burst, retry_slower, "requests grew too fast: burst protection"},
        {0, {}, "throttled due to system capacity limits", overload, retry, "the server's capacity is used up"},
        {0, {}, "make sure your account is in good standing", billing, next_account, "the account is overdue"},
        {0, {}, "bill is overdue", billing, next_account, "the account's bill is overdue"},
        {0, {}, "Commodity has not purchased", billing, next_account, "the service is not purchased"},
        {0, {}, "error-code#overdue-payment", billing, next_account, "the account is overdue"},
        {0, {}, "Role must be in", bad_request, give_up, "a role that the model does not know"},
        {0, {}, "list index out of range", bad_request, give_up, "the model fails on this request each time"},
        // A code that means another thing under another status.
        {400, {"Throttling.AllocationQuota"}, {}, bad_request, give_up, "a quota of resources, not of rate"},
        {403, {"insufficient_quota"}, {}, free_quota, next_model, "the free quota of this model is gone"},
        {403, {"AllocationQuota.FreeTierOnly"}, {}, free_quota, next_model, "the free tier of this model is gone"},
        {0,
         {"Throttling.BurstRate", "limit_burst_rate"},
         {},
         burst,
         retry_slower,
         "requests grew too fast: burst protection"},
        {0, {"Throttling.Concurrency"}, {}, concurrency, retry, "too many calls at once"},
        {0,
         {"Throttling.RateQuota", "limit_requests"},
         {},
         request_rate,
         retry,
         "too many requests a minute or a second"},
        {0, {"LimitRequests"}, {}, request_rate, retry, "too many requests a minute or a second"},
        {0,
         {"Throttling.AllocationQuota", "insufficient_quota"},
         {},
         token_rate,
         retry,
         "too many tokens a minute or a second"},
        {0, {"Throttling"}, {}, rate, retry, "throttled"},
        {0, {"Arrearage"}, {}, billing, next_account, "the account is overdue"},
        {0,
         {"CommodityNotPurchased", "AccessDenied.Unpurchased"},
         {},
         billing,
         next_account,
         "the service is not purchased"},
        {0, {"PrepaidBillOverdue", "PostpaidBillOverdue"}, {}, billing, next_account, "the account's bill is overdue"},
        {0, {"InvalidApiKey", "invalid_api_key"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"Model.AccessDenied"}, {}, no_model, next_model, "this account may not use the model"},
        {0, {"AccessDenied", "access_denied"}, {}, authentication, next_account, "access denied"},
        {0, {"Workspace.AccessDenied", "Endpoint.AccessDenied"}, {}, authentication, next_account, "access denied"},
        {0, {"ModelNotFound", "model_not_found"}, {}, no_model, next_model, "there is no such model"},
        {0, {"model_not_supported"}, {}, no_model, next_model, "the model is not supported here"},
        {0, {"WorkSpaceNotFound"}, {}, authentication, next_account, "there is no such workspace"},
        {0, {"DataInspectionFailed", "data_inspection_failed"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"InvalidParameter", "invalid_parameter_error"}, {}, bad_request, give_up, "a parameter is not valid"},
        {0, {"ModelServingError"}, {}, overload, retry, "the server's capacity is used up"},
        {0, {"ModelUnavailable"}, {}, overload, retry, "the model is unavailable"},
        {0, {"ModelServiceFailed", "SystemError"}, {}, server_error, retry, "the server failed", 3},
        {0, {"InternalError", "internal_error"}, {}, server_error, retry, "the server failed", 3},
        {0, {"InternalError.Algo", "InternalError.Timeout"}, {}, server_error, retry, "the server failed", 3},
        {0, {"RequestTimeOut"}, {}, server_error, retry, "the call took longer than the server allows", 2},
        // By message where no code came with it.
        {0,
         {},
         "You exceeded your current requests list",
         request_rate,
         retry,
         "too many requests a minute or a second"},
        {0,
         {},
         "You have exceeded your current request limit",
         request_rate,
         retry,
         "too many requests a minute or a second"},
        {0, {}, "You have exceeded your request limit", request_rate, retry, "too many requests a minute or a second"},
        {0, {}, "Requests rate limit exceeded", request_rate, retry, "too many requests a minute or a second"},
        {0, {}, "error-code#rate-limit", request_rate, retry, "too many requests a minute or a second"},
        {0, {}, "Allocated quota exceeded", token_rate, retry, "too many tokens a minute or a second"},
        {0, {}, "You exceeded your current quota", token_rate, retry, "too many tokens a minute or a second"},
        {0, {}, "error-code#token-limit", token_rate, retry, "too many tokens a minute or a second"},
        {0, {}, "Requests throttling triggered", rate, retry, "throttled"},
        {0, {}, "Too many requests in route", rate, retry, "throttled"},
        {0, {}, "Model is unavailable", overload, retry, "the model is unavailable"},
        {0, {}, "Invalid API-key provided", authentication, next_account, "the key is not valid"},
        {0, {}, "Incorrect API key provided", authentication, next_account, "the key is not valid"},
        {0,
         {},
         "Input or output data may contain inappropriate content",
         bad_request,
         give_up,
         "the content is not allowed"},
    };

    // Groq's and Azure's too, as far as they say the same.
    static constexpr llm::error_rule openai[] = {
        {0, {}, "Request too large", token_rate, next_model, "the request is larger than the limit"},
        {0,
         {"insufficient_quota", "billing_hard_limit_reached"},
         {},
         billing,
         next_account,
         "the account is out of credit"},
        {0, {"billing_not_active"}, {}, billing, next_account, "the account's billing is not active"},
        {0, {"slow_down"}, {}, burst, retry_slower, "requests grew too fast"},
        {0, {}, "requests per day", plan_quota, next_account, "the day's requests are gone"},
        {0, {}, "tokens per day", plan_quota, next_account, "the day's tokens are gone"},
        {0, {}, "(RPD)", plan_quota, next_account, "the day's requests are gone"},
        {0, {}, "(TPD)", plan_quota, next_account, "the day's tokens are gone"},
        {0, {}, "tokens per min", token_rate, retry, "too many tokens a minute"},
        {0, {}, "token rate limit", token_rate, retry, "too many tokens a minute"},
        {0, {}, "requests per min", request_rate, retry, "too many requests a minute"},
        {0, {}, "call rate limit", request_rate, retry, "too many requests a minute"},
        {0, {"tokens"}, {}, token_rate, retry, "too many tokens a minute"},
        {0, {"requests"}, {}, request_rate, retry, "too many requests a minute"},
        {0, {"rate_limit_exceeded", "rate_limit_error"}, {}, rate, retry, "throttled"},
        {0, {"server_is_overloaded", "engine_overloaded_error"}, {}, overload, retry, "the server has too much to do"},
        {0, {"capacity_exceeded"}, {}, overload, retry, "the server's capacity is used up"},
        {0, {"invalid_api_key", "account_deactivated"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"unsupported_country_region_territory"}, {}, authentication, give_up, "the region is not supported"},
        {0, {"model_not_found", "DeploymentNotFound"}, {}, no_model, next_model, "there is no such model"},
        {0,
         {"context_length_exceeded", "string_above_max_length"},
         {},
         bad_request,
         give_up,
         "the request is too long"},
        {0, {"content_filter", "content_policy_violation"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"server_error", "internal_error"}, {}, server_error, retry, "the server failed", 3},
        {0, {"InternalServerError"}, {}, server_error, retry, "the server failed", 3},
    };

    static constexpr llm::error_rule anthropic[] = {
        {0, {}, "credit balance is too low", billing, next_account, "the account is out of credit"},
        {0, {}, "acceleration limit", burst, retry_slower, "requests grew too fast"},
        {0, {}, "concurrent connections", concurrency, retry, "too many calls at once"},
        {0, {}, "tokens per minute", token_rate, retry, "too many tokens a minute"},
        {0, {}, "requests per minute", request_rate, retry, "too many requests a minute"},
        {0, {"rate_limit_error"}, {}, rate, retry, "throttled"},
        {0, {"overloaded_error"}, {}, overload, retry, "the server has too much to do"},
        {0, {"billing_error"}, {}, billing, next_account, "the account does not pay"},
        {0, {"authentication_error"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"permission_error"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"not_found_error"}, {}, no_model, next_model, "there is no such model"},
        {0, {"request_too_large"}, {}, bad_request, give_up, "the request is too large"},
        {0, {"invalid_request_error"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"api_error"}, {}, server_error, retry, "the server failed", 3},
        {0, {"timeout_error"}, {}, server_error, retry, "the server took too long", 2},
    };

    static constexpr llm::error_rule gemini[] = {
        {0, {}, "PerDay", plan_quota, next_account, "the day's quota is gone"},
        {0, {}, "limit: 0", free_quota, next_model, "this account has no quota of the model"},
        {0, {}, "TokensPer", token_rate, retry, "too many tokens a minute"},
        {0, {}, "RequestsPer", request_rate, retry, "too many requests a minute"},
        {0, {}, "API_KEY_INVALID", authentication, next_account, "the key is not valid"},
        {0, {}, "API key not valid", authentication, next_account, "the key is not valid"},
        {0, {"RESOURCE_EXHAUSTED"}, {}, rate, retry, "throttled"},
        {0, {"UNAVAILABLE"}, {}, overload, retry, "the model is overloaded"},
        {0, {"UNAUTHENTICATED"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"PERMISSION_DENIED"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"NOT_FOUND"}, {}, no_model, next_model, "there is no such model"},
        {0, {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"INTERNAL", "UNKNOWN"}, {}, server_error, retry, "the server failed", 3},
        {0, {"DEADLINE_EXCEEDED"}, {}, server_error, retry, "the server took too long", 2},
    };

    static constexpr llm::error_rule mistral[] = {
        {0, {}, "Requests rate limit exceeded", request_rate, retry, "too many requests a second"},
        {0, {}, "Service tier capacity exceeded", overload, retry, "the model's capacity is used up"},
        {0, {"3505"}, {}, overload, retry, "the model's capacity is used up"},
        {0, {"1300"}, {}, rate, retry, "throttled"},
        {0, {"1500", "invalid_model"}, {}, no_model, next_model, "there is no such model"},
    };

    static constexpr llm::error_rule llama_cpp[] = {
        {0, {"unavailable_error"}, {}, overload, retry, "the server is loading its model, or has no slot"},
        {0, {"authentication_error"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"permission_error"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"exceed_context_size_error"}, {}, bad_request, give_up, "the request is too long"},
        {0, {"invalid_request_error"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"not_found_error"}, {}, no_model, next_model, "there is no such model"},
        {0, {"not_supported_error"}, {}, bad_request, give_up, "the server does not do this"},
        {0, {"server_error"}, {}, server_error, retry, "the server failed", 3},
    };

    static constexpr std::span<llm::error_rule const> of(llm::dialect d) noexcept {
        switch (d) {
            case llm::dialect::dashscope: return dashscope;
            case llm::dialect::openai:
            case llm::dialect::azure:
            case llm::dialect::groq: return openai;
            case llm::dialect::anthropic: return anthropic;
            case llm::dialect::gemini: return gemini;
            case llm::dialect::mistral: return mistral;
            case llm::dialect::llama_cpp: return llama_cpp;
            case llm::dialect::http: break;
        }
        return {};
    }

    /// The status alone.
    static constexpr llm::verdict by_status(int s) noexcept {
        switch (s) {
            case 401: return {authentication, next_account, {}, {}, 0, "401: the key is not valid"};
            case 402: return {billing, next_account, {}, {}, 0, "402: payment required"};
            case 403: return {authentication, next_account, {}, {}, 0, "403: forbidden"};
            case 404: return {no_model, next_model, {}, {}, 0, "404: there is no such model or path"};
            case 408: return {transport, retry, {}, {}, 3, "408: the request came too slowly"};
            case 409: return {unknown, retry, {}, {}, 2, "409: conflict"};
            case 425: return {unknown, retry, {}, {}, 2, "425: too early"};
            case 429: return {rate, retry, {}, {}, 0, "429: throttled"};
            case 498: return {overload, retry, {}, {}, 0, "498: the tier's capacity is used up"};
            case 500: return {server_error, retry, {}, {}, 3, "500: the server failed"};
            case 501:
            case 505: return {bad_request, give_up, {}, {}, 0, "the server does not do this"};
            case 502: return {overload, retry, {}, {}, 0, "502: bad gateway"};
            case 503: return {overload, retry, {}, {}, 0, "503: the service is unavailable"};
            case 504: return {overload, retry, {}, {}, 0, "504: the gateway timed out"};
            case 529: return {overload, retry, {}, {}, 0, "529: the server is overloaded"};
            default: break;
        }
        if (s >= 200 && s < 300) return {none, proceed, {}, {}, 0, {}};
        if (s >= 400 && s < 500) return {bad_request, give_up, {}, {}, 0, "the request is not valid"};
        if (s >= 500 && s < 600) return {server_error, retry, {}, {}, 3, "the server failed"};
        return {unknown, give_up, {}, {}, 0, "a status that is none"};
    }
};

struct error_facts {
    int status;  // 0: none
    std::string_view code, type, message, detail;

    constexpr bool says(std::string_view what) const noexcept {
        return contains_ignoring_case(message, what) || contains_ignoring_case(detail, what);
    }
};

constexpr bool applies(llm::error_rule const& r, error_facts const& f) noexcept {
    if (r.status != 0 && r.status != f.status) return false;
    if (!r.message.empty()) return f.says(r.message);
    for (auto const c : r.codes) {
        if (!c.empty() && (c == f.code || c == f.type)) return true;
    }
    return false;
}

/// "… will reset at 10-15 16:00:00 UTC": the next such moment.
constexpr std::optional<std::chrono::sys_seconds> reset_in_words(std::string_view message,
                                                                 std::chrono::sys_seconds now) noexcept {
    constexpr std::string_view words = "reset at ";
    auto const at = find_ignoring_case(message, words);
    if (at == std::string_view::npos) return std::nullopt;
    std::string_view s = message.substr(at + words.size());
    if (auto const full = llm::parse_rfc3339(s.substr(0, 20))) return full;
    auto const month = take_digits(s, 2);
    if (!month || !take(s, "-")) return std::nullopt;
    auto const day = take_digits(s, 2);
    if (!day || !take(s, " ")) return std::nullopt;
    auto const time = take_time_of_day(s);
    if (!time) return std::nullopt;
    int const year = static_cast<int>(std::chrono::year_month_day{std::chrono::floor<std::chrono::days>(now)}.year());
    for (int y = year; y < year + 9; ++y) {  // a 29th of February may be years ahead
        auto const t = moment(y, *month, *day, *time);
        if (t && *t >= now) return t;
    }
    return std::nullopt;
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0::llm {

constexpr verdict classify(answer const& a, std::span<error_rule const> own) {
    using tables = detail::error_tables;
    error_body const body{a.body};
    auto const or_else = [](std::string_view given, std::string_view found) { return given.empty() ? found : given; };
    detail::error_facts f{a.status.value_or(0), or_else(a.code, body.code), or_else(a.type, body.type),
                          or_else(a.message, body.message), body.detail};
    bool const said = body.failed || !a.code.empty() || !a.type.empty() || !a.message.empty();
    bool const good = f.status >= 200 && f.status < 300;

    if (a.transport_failed && f.status == 0 && !said) {
        return {cause::transport, action::retry, {}, {}, 3, "no answer came"};
    }
    if (good && !said) {
        // An answer whose text is the refusal, and which cost nothing.
        constexpr std::string_view burst_words = "Request rate increased too quickly";
        if (a.dialect == dialect::dashscope && body.total_tokens.value_or(0) == 0 &&
            body.text.substr(0, burst_words.size()) == burst_words) {
            return {cause::burst, action::retry_slower, {}, {}, 0, "burst protection, said in the text of an answer"};
        }
        return {cause::none, action::proceed, {}, {}, 0, {}};
    }
    // Inside a stream that began well the error carries its own status.
    if ((good || f.status == 0) && body.status) f.status = *body.status;

    verdict v{};
    bool known = false;
    auto const look_in = [&](std::span<error_rule const> table) {
        for (auto const& r : table) {
            if (known) return;
            if (!detail::applies(r, f)) continue;
            v = {r.cause, r.action, {}, {}, r.at_most, r.reason};
            known = true;
        }
    };
    look_in(own);
    look_in(tables::of(a.dialect));
    if (!known && f.status >= 300) {
        v = tables::by_status(f.status);
        if (said && v.retries() && v.at_most == 0) v.at_most = 5;
    } else if (!known) {
        v = {cause::unknown, action::retry, {}, {}, 2, "an error that is not known"};
    }

    // OpenAI's and Anthropic's servers may say so themselves; to what will not help they cannot send us back.
    if (a.dialect == dialect::openai || a.dialect == dialect::anthropic || a.dialect == dialect::azure) {
        if (auto const should = a.headers("x-should-retry")) {
            if (detail::trim(*should) == "false" && v.retries()) v.action = action::give_up;
            if (detail::trim(*should) == "true" && v.action == action::give_up && !known) {
                v.action = action::retry;
                v.at_most = 2;
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
