// SPDX-License-Identifier: MIT
//
// The rules that classify() applies: one table per vendor, and what an HTTP status alone means. The first rule that
// applies decides. Sources: the vendors' pages on errors, and error bodies that clients have recorded from DashScope.
#pragma once

#include <span>
#include <string_view>

#include "../dialect.hpp"
#include "../verdict.hpp"

namespace weir::inline v0::llm::detail {

/// The tables are hidden: an exported inline variable is a unique symbol (STB_GNU_UNIQUE), and glibc never unloads a
/// plugin that has one.
struct [[gnu::__visibility__("hidden")]] error_tables {
    using enum cause;
    using enum action;

    static constexpr error_rule dashscope[] = {
        // Messages first: proxies rewrite codes and statuses.
        {0, {}, "Free allocated quota exceeded", free_quota, next_model, "the free quota of this model is exhausted"},
        {0,
         {},
         "free tier of the model has been exhausted",
         free_quota,
         next_model,
         "the free tier of this model is exhausted"},
        {0,
         {},
         "quota has been exhausted. The quota will reset at",
         plan_quota,
         next_account,
         "the plan's quota is exhausted"},
        {0, {}, "concurrency allocated quota exceeded", concurrency, retry, "too many calls at once for the plan"},
        {0,
         {},
         "usage allocated quota exceeded",
         plan_quota,
         next_account,
         "the plan's usage quota is exhausted for about an hour"},
        {0, {}, "hour allocated quota exceeded", plan_quota, next_account, "the plan's hourly quota is exhausted"},
        {0, {}, "week allocated quota exceeded", plan_quota, next_account, "the plan's weekly quota is exhausted"},
        {0, {}, "month allocated quota exceeded", plan_quota, next_account, "the plan's monthly quota is exhausted"},
        {0, {}, "Request rate increased too quickly", burst, retry_slower, "requests grew too fast: burst protection"},
        {0, {}, "throttled due to system capacity limits", overload, retry, "the server is at capacity"},
        {0, {}, "make sure your account is in good standing", billing, next_account, "the account is overdue"},
        {0, {}, "bill is overdue", billing, next_account, "the account's bill is overdue"},
        {0, {}, "Commodity has not purchased", billing, next_account, "the service has not been purchased"},
        {0, {}, "error-code#overdue-payment", billing, next_account, "the account is overdue"},
        {0, {}, "Role must be in", bad_request, give_up, "the model does not support this role"},
        {0, {}, "list index out of range", bad_request, give_up, "the model fails on this request each time"},
        // Codes whose meaning depends on the status.
        {400, {"Throttling.AllocationQuota"}, {}, bad_request, give_up, "a resource quota, not a rate limit"},
        {403, {"insufficient_quota"}, {}, free_quota, next_model, "the free quota of this model is exhausted"},
        {403, {"AllocationQuota.FreeTierOnly"}, {}, free_quota, next_model, "the free tier of this model is exhausted"},
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
         "too many requests per minute or second"},
        {0, {"LimitRequests"}, {}, request_rate, retry, "too many requests per minute or second"},
        {0,
         {"Throttling.AllocationQuota", "insufficient_quota"},
         {},
         token_rate,
         retry,
         "too many tokens per minute or second"},
        {0, {"Throttling"}, {}, rate, retry, "throttled"},
        {0, {"Arrearage"}, {}, billing, next_account, "the account is overdue"},
        {0,
         {"CommodityNotPurchased", "AccessDenied.Unpurchased"},
         {},
         billing,
         next_account,
         "the service has not been purchased"},
        {0, {"PrepaidBillOverdue", "PostpaidBillOverdue"}, {}, billing, next_account, "the account's bill is overdue"},
        {0, {"InvalidApiKey", "invalid_api_key"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"Model.AccessDenied"}, {}, no_model, next_model, "this account may not use the model"},
        {0, {"AccessDenied", "access_denied"}, {}, authentication, next_account, "access denied"},
        {0, {"Workspace.AccessDenied", "Endpoint.AccessDenied"}, {}, authentication, next_account, "access denied"},
        {0, {"ModelNotFound", "model_not_found"}, {}, no_model, next_model, "no such model"},
        {0, {"model_not_supported"}, {}, no_model, next_model, "the model is not supported here"},
        {0, {"WorkSpaceNotFound"}, {}, authentication, next_account, "no such workspace"},
        {0, {"DataInspectionFailed", "data_inspection_failed"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"InvalidParameter", "invalid_parameter_error"}, {}, bad_request, give_up, "a parameter is not valid"},
        {0, {"ModelServingError"}, {}, overload, retry, "the server is at capacity"},
        {0, {"ModelUnavailable"}, {}, overload, retry, "the model is unavailable"},
        {0, {"ModelServiceFailed", "SystemError"}, {}, server_error, retry, "the server failed", 3},
        {0, {"InternalError", "internal_error"}, {}, server_error, retry, "the server failed", 3},
        {0, {"InternalError.Algo", "InternalError.Timeout"}, {}, server_error, retry, "the server failed", 3},
        {0, {"RequestTimeOut"}, {}, server_error, retry, "the call took longer than the server allows", 2},
        // Messages that arrive without a code.
        {0,
         {},
         "You exceeded your current requests list",
         request_rate,
         retry,
         "too many requests per minute or second"},
        {0,
         {},
         "You have exceeded your current request limit",
         request_rate,
         retry,
         "too many requests per minute or second"},
        {0, {}, "You have exceeded your request limit", request_rate, retry, "too many requests per minute or second"},
        {0, {}, "Requests rate limit exceeded", request_rate, retry, "too many requests per minute or second"},
        {0, {}, "error-code#rate-limit", request_rate, retry, "too many requests per minute or second"},
        {0, {}, "Allocated quota exceeded", token_rate, retry, "too many tokens per minute or second"},
        {0, {}, "You exceeded your current quota", token_rate, retry, "too many tokens per minute or second"},
        {0, {}, "error-code#token-limit", token_rate, retry, "too many tokens per minute or second"},
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

    // Groq and Azure use the same table.
    static constexpr error_rule openai[] = {
        {0, {}, "Request too large", token_rate, next_model, "the request is larger than the limit"},
        {0,
         {"insufficient_quota", "billing_hard_limit_reached"},
         {},
         billing,
         next_account,
         "the account is out of credit"},
        {0, {"billing_not_active"}, {}, billing, next_account, "the account's billing is not active"},
        {0, {"slow_down"}, {}, burst, retry_slower, "requests grew too fast"},
        {0, {}, "requests per day", plan_quota, next_account, "the day's requests are exhausted"},
        {0, {}, "tokens per day", plan_quota, next_account, "the day's tokens are exhausted"},
        {0, {}, "(RPD)", plan_quota, next_account, "the day's requests are exhausted"},
        {0, {}, "(TPD)", plan_quota, next_account, "the day's tokens are exhausted"},
        {0, {}, "tokens per min", token_rate, retry, "too many tokens per minute"},
        {0, {}, "token rate limit", token_rate, retry, "too many tokens per minute"},
        {0, {}, "requests per min", request_rate, retry, "too many requests per minute"},
        {0, {}, "call rate limit", request_rate, retry, "too many requests per minute"},
        {0, {"tokens"}, {}, token_rate, retry, "too many tokens per minute"},
        {0, {"requests"}, {}, request_rate, retry, "too many requests per minute"},
        {0, {"rate_limit_exceeded", "rate_limit_error"}, {}, rate, retry, "throttled"},
        {0, {"server_is_overloaded", "engine_overloaded_error"}, {}, overload, retry, "the server is overloaded"},
        {0, {"capacity_exceeded"}, {}, overload, retry, "the server is at capacity"},
        {0, {"invalid_api_key", "account_deactivated"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"unsupported_country_region_territory"}, {}, authentication, give_up, "the region is not supported"},
        {0, {"model_not_found", "DeploymentNotFound"}, {}, no_model, next_model, "no such model"},
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

    static constexpr error_rule anthropic[] = {
        {0, {}, "credit balance is too low", billing, next_account, "the account is out of credit"},
        {0, {}, "acceleration limit", burst, retry_slower, "requests grew too fast"},
        {0, {}, "concurrent connections", concurrency, retry, "too many calls at once"},
        {0, {}, "tokens per minute", token_rate, retry, "too many tokens per minute"},
        {0, {}, "requests per minute", request_rate, retry, "too many requests per minute"},
        {0, {"rate_limit_error"}, {}, rate, retry, "throttled"},
        {0, {"overloaded_error"}, {}, overload, retry, "the server is overloaded"},
        {0, {"billing_error"}, {}, billing, next_account, "the account has a billing problem"},
        {0, {"authentication_error"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"permission_error"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"not_found_error"}, {}, no_model, next_model, "no such model"},
        {0, {"request_too_large"}, {}, bad_request, give_up, "the request is too large"},
        {0, {"invalid_request_error"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"api_error"}, {}, server_error, retry, "the server failed", 3},
        {0, {"timeout_error"}, {}, server_error, retry, "the server took too long", 2},
    };

    static constexpr error_rule gemini[] = {
        {0, {}, "PerDay", plan_quota, next_account, "the day's quota is exhausted"},
        {0, {}, "limit: 0", free_quota, next_model, "this account has no quota of the model"},
        {0, {}, "TokensPer", token_rate, retry, "too many tokens per minute"},
        {0, {}, "RequestsPer", request_rate, retry, "too many requests per minute"},
        {0, {}, "API_KEY_INVALID", authentication, next_account, "the key is not valid"},
        {0, {}, "API key not valid", authentication, next_account, "the key is not valid"},
        {0, {"RESOURCE_EXHAUSTED"}, {}, rate, retry, "throttled"},
        {0, {"UNAVAILABLE"}, {}, overload, retry, "the model is overloaded"},
        {0, {"UNAUTHENTICATED"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"PERMISSION_DENIED"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"NOT_FOUND"}, {}, no_model, next_model, "no such model"},
        {0, {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"INTERNAL", "UNKNOWN"}, {}, server_error, retry, "the server failed", 3},
        {0, {"DEADLINE_EXCEEDED"}, {}, server_error, retry, "the server took too long", 2},
    };

    static constexpr error_rule mistral[] = {
        {0, {}, "Requests rate limit exceeded", request_rate, retry, "too many requests per second"},
        {0, {}, "Service tier capacity exceeded", overload, retry, "the model is at capacity"},
        {0, {"3505"}, {}, overload, retry, "the model is at capacity"},
        {0, {"1300"}, {}, rate, retry, "throttled"},
        {0, {"1500", "invalid_model"}, {}, no_model, next_model, "no such model"},
    };

    static constexpr error_rule llama_cpp[] = {
        {0, {"unavailable_error"}, {}, overload, retry, "the server is loading its model or has no free slot"},
        {0, {"authentication_error"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"permission_error"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"exceed_context_size_error"}, {}, bad_request, give_up, "the request is too long"},
        {0, {"invalid_request_error"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"not_found_error"}, {}, no_model, next_model, "no such model"},
        {0, {"not_supported_error"}, {}, bad_request, give_up, "the server does not support this"},
        {0, {"server_error"}, {}, server_error, retry, "the server failed", 3},
    };
};

constexpr std::span<error_rule const> rules_of(dialect d) noexcept {
    switch (d) {
        case dialect::dashscope: return error_tables::dashscope;
        case dialect::openai:
        case dialect::azure:
        case dialect::groq: return error_tables::openai;
        case dialect::anthropic: return error_tables::anthropic;
        case dialect::gemini: return error_tables::gemini;
        case dialect::mistral: return error_tables::mistral;
        case dialect::llama_cpp: return error_tables::llama_cpp;
        case dialect::http: break;
    }
    return {};
}

constexpr verdict verdict_of_status(int s) noexcept {
    using enum cause;
    using enum action;
    switch (s) {
        case 401: return {authentication, next_account, {}, {}, 0, "401: the key is not valid"};
        case 402: return {billing, next_account, {}, {}, 0, "402: payment required"};
        case 403: return {authentication, next_account, {}, {}, 0, "403: forbidden"};
        case 404: return {no_model, next_model, {}, {}, 0, "404: no such model or path"};
        case 408: return {transport, retry, {}, {}, 3, "408: the request timed out"};
        case 409: return {unknown, retry, {}, {}, 2, "409: conflict"};
        case 425: return {unknown, retry, {}, {}, 2, "425: too early"};
        case 429: return {rate, retry, {}, {}, 0, "429: throttled"};
        case 498: return {overload, retry, {}, {}, 0, "498: the tier is at capacity"};
        case 500: return {server_error, retry, {}, {}, 3, "500: the server failed"};
        case 501:
        case 505: return {bad_request, give_up, {}, {}, 0, "the server does not support this"};
        case 502: return {overload, retry, {}, {}, 0, "502: bad gateway"};
        case 503: return {overload, retry, {}, {}, 0, "503: the service is unavailable"};
        case 504: return {overload, retry, {}, {}, 0, "504: the gateway timed out"};
        case 529: return {overload, retry, {}, {}, 0, "529: the server is overloaded"};
        default: break;
    }
    if (s >= 200 && s < 300) return {none, proceed, {}, {}, 0, {}};
    if (s >= 400 && s < 500) return {bad_request, give_up, {}, {}, 0, "the request is not valid"};
    if (s >= 500 && s < 600) return {server_error, retry, {}, {}, 3, "the server failed"};
    return {unknown, give_up, {}, {}, 0, "not an HTTP status"};
}

}  // namespace weir::inline v0::llm::detail
