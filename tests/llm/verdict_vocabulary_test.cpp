// SPDX-License-Identifier: MIT
//
// Each code and each message of each vendor, alone and with an unknown status.
#include <weir/llm/verdict.hpp>

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace verdict_vocabulary_test {

using namespace weir::llm;

struct meaning {
    weir::llm::dialect dialect;
    weir::llm::cause cause;
    weir::llm::action action;
    unsigned max_retries;
    std::vector<std::string_view> codes;
    std::vector<std::string_view> words;
};

// The words of each vendor.
meaning const vocabulary[] = {
    {dialect::dashscope,
     cause::free_quota,
     action::next_model,
     0,
     {},
     {"Free allocated quota exceeded", "free tier of the model has been exhausted"}},
    {dialect::dashscope,
     cause::plan_quota,
     action::next_account,
     0,
     {},
     {"quota has been exhausted. The quota will reset at", "usage allocated quota exceeded",
      "hour allocated quota exceeded", "week allocated quota exceeded", "month allocated quota exceeded"}},
    {dialect::dashscope,
     cause::concurrency,
     action::retry,
     0,
     {"Throttling.Concurrency"},
     {"concurrency allocated quota exceeded"}},
    {dialect::dashscope,
     cause::burst,
     action::retry_slower,
     0,
     {"Throttling.BurstRate", "limit_burst_rate"},
     {"Request rate increased too quickly"}},
    {dialect::dashscope,
     cause::overload,
     action::retry,
     0,
     {"ModelServingError", "ModelUnavailable"},
     {"throttled due to system capacity limits", "Model is unavailable"}},
    {dialect::dashscope,
     cause::billing,
     action::next_account,
     0,
     {"Arrearage", "CommodityNotPurchased", "AccessDenied.Unpurchased", "PrepaidBillOverdue", "PostpaidBillOverdue"},
     {"make sure your account is in good standing", "bill is overdue", "Commodity has not purchased",
      "error-code#overdue-payment"}},
    {dialect::dashscope,
     cause::bad_request,
     action::give_up,
     0,
     {"DataInspectionFailed", "data_inspection_failed", "InvalidParameter", "invalid_parameter_error"},
     {"Role must be in", "list index out of range", "Input or output data may contain inappropriate content"}},
    {dialect::dashscope,
     cause::request_rate,
     action::retry,
     0,
     {"Throttling.RateQuota", "limit_requests", "LimitRequests"},
     {"You exceeded your current requests list", "You have exceeded your current request limit",
      "You have exceeded your request limit", "Requests rate limit exceeded", "error-code#rate-limit"}},
    {dialect::dashscope,
     cause::token_rate,
     action::retry,
     0,
     {"Throttling.AllocationQuota", "insufficient_quota"},
     {"Allocated quota exceeded", "You exceeded your current quota", "error-code#token-limit"}},
    {dialect::dashscope,
     cause::rate,
     action::retry,
     0,
     {"Throttling"},
     {"Requests throttling triggered", "Too many requests in route"}},
    {dialect::dashscope,
     cause::authentication,
     action::next_account,
     0,
     {"InvalidApiKey", "invalid_api_key", "AccessDenied", "access_denied", "Workspace.AccessDenied",
      "Endpoint.AccessDenied", "WorkSpaceNotFound"},
     {"Invalid API-key provided", "Incorrect API key provided"}},
    {dialect::dashscope,
     cause::no_model,
     action::next_model,
     0,
     {"Model.AccessDenied", "ModelNotFound", "model_not_found", "model_not_supported"},
     {}},
    {dialect::dashscope,
     cause::server_error,
     action::retry,
     3,
     {"ModelServiceFailed", "SystemError", "InternalError", "internal_error", "InternalError.Algo",
      "InternalError.Timeout"},
     {}},
    {dialect::dashscope, cause::server_error, action::retry, 2, {"RequestTimeOut"}, {}},
    {dialect::openai, cause::token_rate, action::next_model, 0, {}, {"Request too large"}},
    {dialect::openai,
     cause::billing,
     action::next_account,
     0,
     {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"},
     {}},
    {dialect::openai, cause::burst, action::retry_slower, 0, {"slow_down"}, {}},
    {dialect::openai,
     cause::plan_quota,
     action::next_account,
     0,
     {},
     {"requests per day", "tokens per day", "(RPD)", "(TPD)"}},
    {dialect::openai, cause::token_rate, action::retry, 0, {"tokens"}, {"tokens per min", "token rate limit"}},
    {dialect::openai, cause::request_rate, action::retry, 0, {"requests"}, {"requests per min", "call rate limit"}},
    {dialect::openai, cause::rate, action::retry, 0, {"rate_limit_exceeded", "rate_limit_error"}, {}},
    {dialect::openai,
     cause::overload,
     action::retry,
     0,
     {"server_is_overloaded", "engine_overloaded_error", "capacity_exceeded"},
     {}},
    {dialect::openai, cause::authentication, action::next_account, 0, {"invalid_api_key", "account_deactivated"}, {}},
    {dialect::openai, cause::authentication, action::give_up, 0, {"unsupported_country_region_territory"}, {}},
    {dialect::openai, cause::no_model, action::next_model, 0, {"model_not_found", "DeploymentNotFound"}, {}},
    {dialect::openai,
     cause::bad_request,
     action::give_up,
     0,
     {"context_length_exceeded", "string_above_max_length", "content_filter", "content_policy_violation"},
     {}},
    {dialect::openai,
     cause::server_error,
     action::retry,
     3,
     {"server_error", "internal_error", "InternalServerError"},
     {}},
    {dialect::anthropic, cause::billing, action::next_account, 0, {"billing_error"}, {"credit balance is too low"}},
    {dialect::anthropic, cause::burst, action::retry_slower, 0, {}, {"acceleration limit"}},
    {dialect::anthropic, cause::concurrency, action::retry, 0, {}, {"concurrent connections"}},
    {dialect::anthropic, cause::token_rate, action::retry, 0, {}, {"tokens per minute"}},
    {dialect::anthropic, cause::request_rate, action::retry, 0, {}, {"requests per minute"}},
    {dialect::anthropic, cause::rate, action::retry, 0, {"rate_limit_error"}, {}},
    {dialect::anthropic, cause::overload, action::retry, 0, {"overloaded_error"}, {}},
    {dialect::anthropic,
     cause::authentication,
     action::next_account,
     0,
     {"authentication_error", "permission_error"},
     {}},
    {dialect::anthropic, cause::no_model, action::next_model, 0, {"not_found_error"}, {}},
    {dialect::anthropic, cause::bad_request, action::give_up, 0, {"request_too_large", "invalid_request_error"}, {}},
    {dialect::anthropic, cause::server_error, action::retry, 3, {"api_error"}, {}},
    {dialect::anthropic, cause::server_error, action::retry, 2, {"timeout_error"}, {}},
    {dialect::gemini, cause::plan_quota, action::next_account, 0, {}, {"PerDay"}},
    {dialect::gemini, cause::free_quota, action::next_model, 0, {}, {"limit: 0"}},
    {dialect::gemini, cause::token_rate, action::retry, 0, {}, {"TokensPer"}},
    {dialect::gemini, cause::request_rate, action::retry, 0, {}, {"RequestsPer"}},
    {dialect::gemini,
     cause::authentication,
     action::next_account,
     0,
     {"UNAUTHENTICATED", "PERMISSION_DENIED"},
     {"API_KEY_INVALID", "API key not valid"}},
    {dialect::gemini, cause::rate, action::retry, 0, {"RESOURCE_EXHAUSTED"}, {}},
    {dialect::gemini, cause::overload, action::retry, 0, {"UNAVAILABLE"}, {}},
    {dialect::gemini, cause::no_model, action::next_model, 0, {"NOT_FOUND"}, {}},
    {dialect::gemini, cause::bad_request, action::give_up, 0, {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}, {}},
    {dialect::gemini, cause::server_error, action::retry, 3, {"INTERNAL", "UNKNOWN"}, {}},
    {dialect::gemini, cause::server_error, action::retry, 2, {"DEADLINE_EXCEEDED"}, {}},
    {dialect::mistral, cause::request_rate, action::retry, 0, {}, {"Requests rate limit exceeded"}},
    {dialect::mistral, cause::overload, action::retry, 0, {"3505"}, {"Service tier capacity exceeded"}},
    {dialect::mistral, cause::rate, action::retry, 0, {"1300"}, {}},
    {dialect::mistral, cause::no_model, action::next_model, 0, {"1500", "invalid_model"}, {}},
    {dialect::llama_cpp, cause::overload, action::retry, 0, {"unavailable_error"}, {}},
    {dialect::llama_cpp,
     cause::authentication,
     action::next_account,
     0,
     {"authentication_error", "permission_error"},
     {}},
    {dialect::llama_cpp,
     cause::bad_request,
     action::give_up,
     0,
     {"exceed_context_size_error", "invalid_request_error", "not_supported_error"},
     {}},
    {dialect::llama_cpp, cause::no_model, action::next_model, 0, {"not_found_error"}, {}},
    {dialect::llama_cpp, cause::server_error, action::retry, 3, {"server_error"}, {}},
};

TEST(llm_verdict, a_code_alone_or_a_message_alone_is_enough) {
    for (auto const& m : vocabulary) {
        auto const check = [&](answer a, std::string_view what) {
            a.dialect = m.dialect;
            auto const v = classify(a);
            EXPECT_EQ(v.cause, m.cause) << to_string(m.dialect) << ": " << what << " was taken for "
                                        << to_string(v.cause);
            EXPECT_EQ(v.action, m.action) << to_string(m.dialect) << ": " << what << " got " << to_string(v.action);
            EXPECT_EQ(v.max_retries, m.max_retries) << to_string(m.dialect) << ": " << what;
        };
        for (auto const code : m.codes) {
            answer a;
            a.code = code;
            check(a, code);
            a.status = 499;
            check(a, code);
        }
        for (auto const words : m.words) {
            std::string const message = "The server says: " + std::string{words} + ", sorry.";
            answer a;
            a.message = message;
            check(a, words);
            a.status = 499;
            check(a, words);
        }
    }
}

}  // namespace verdict_vocabulary_test
