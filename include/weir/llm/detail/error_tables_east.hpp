// SPDX-License-Identifier: MIT
//
// The errors of vendors and resellers in China but DashScope: mostly numbers, which mean something else at each.
// Sources: the vendors' pages on errors. Words that mean the same at every vendor are in error_words.hpp.
#pragma once

#include "../error_rule.hpp"

namespace weir::inline v0::llm::detail {

struct [[gnu::__visibility__("hidden")]] eastern_errors {
    using enum cause;
    using enum action;

    static constexpr error_rule moonshot[] = {
        {0, {"exceeded_current_quota_error"}, {}, billing, next_account, "the account is out of credit"},
        {0, {"rate_limit_reached_error"}, {}, rate, retry, "throttled"},
        {0, {"engine_overloaded_error"}, {}, overload, retry, "the server is overloaded"},
        {0, {"resource_not_found_error"}, {}, no_model, next_model, "no such model"},
        {0,
         {"invalid_authentication_error", "incorrect_api_key_error"},
         {},
         authentication,
         next_account,
         "the key is not valid"},
        {0,
         {"permission_denied_error", "access_terminated_error"},
         {},
         authentication,
         next_account,
         "the key may not do this"},
        {0, {"content_filter"}, {}, bad_request, give_up, "the content is not allowed"},
    };

    static constexpr error_rule zhipu[] = {
        {0, {"1000", "1001"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"1002", "1003"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"1004", "1220"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"1110", "1111"}, {}, authentication, next_account, "the account is not active"},
        {0, {"1112", "1121"}, {}, authentication, next_account, "the account is locked"},
        {0, {"1113"}, {}, billing, next_account, "the account is out of credit"},
        {0, {"1210", "1213"}, {}, bad_request, give_up, "a parameter is not valid"},
        {0, {"1214", "1215"}, {}, bad_request, give_up, "a parameter is not valid"},
        {0, {"1261"}, {}, bad_request, give_up, "the request is too long"},
        {0, {"1211", "1212"}, {}, no_model, next_model, "no such model"},
        {0, {"1221", "1222"}, {}, no_model, next_model, "no such model"},
        {0, {"1230", "1234"}, {}, server_error, retry, "the server failed", 3},
        {0, {"1300", "1301"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"1302"}, {}, concurrency, retry, "too many calls at once"},
        {0, {"1303"}, {}, request_rate, retry, "too many requests per minute"},
        {0, {"1304", "1308"}, {}, plan_quota, next_account, "an allowance of the plan is exhausted"},
        {0, {"1310", "1316"}, {}, plan_quota, next_account, "an allowance of the plan is exhausted"},
        {0, {"1305", "1312"}, {}, overload, retry, "the model is at capacity"},
        {0, {"1309"}, {}, billing, next_account, "the plan has expired"},
        {0, {"1311"}, {}, no_model, next_model, "the plan does not include the model"},
        {0, {"1313"}, {}, plan_quota, next_account, "the plan is restricted for fair use"},
    };

    static constexpr error_rule minimax[] = {
        {0, {"1000"}, {}, server_error, retry, "the server failed", 3},
        {0, {"1001", "1024"}, {}, server_error, retry, "the server failed or took too long", 3},
        {0, {"1013", "1033"}, {}, server_error, retry, "the server failed", 3},
        {0, {"1002"}, {}, request_rate, retry, "too many requests per minute"},
        {0, {"1039"}, {}, token_rate, retry, "too many tokens per minute"},
        {0, {"1041"}, {}, concurrency, retry, "too many calls at once"},
        {0, {"2045"}, {}, burst, retry_slower, "requests grew too fast"},
        {0, {"1004", "2049"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"1008"}, {}, billing, next_account, "the account is out of credit"},
        {0, {"1026", "1027"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"1042", "2013"}, {}, bad_request, give_up, "a parameter is not valid"},
        {0, {"2056"}, {}, plan_quota, next_account, "an allowance of the plan is exhausted"},
        {0, {"2061"}, {}, no_model, next_model, "the plan does not include the model"},
        {0, {"2062", "2064"}, {}, overload, retry, "the server is at capacity"},
    };

    static constexpr error_rule siliconflow[] = {
        {0, {"20012", "30003"}, {}, no_model, next_model, "no such model"},
        {0, {"20015"}, {}, bad_request, give_up, "a parameter is not valid"},
        {0, {"30001", "30011"}, {}, billing, next_account, "the account is out of credit"},
        {0, {"50501", "50505"}, {}, overload, retry, "the server is overloaded"},
        {0, {"50603"}, {}, rate, retry, "throttled"},
        {0, {"50507", "60000"}, {}, server_error, retry, "the server failed", 3},
    };

    static constexpr error_rule new_api[] = {
        {0,
         {"insufficient_user_quota", "pre_consume_token_quota_failed"},
         {},
         billing,
         next_account,
         "the account is out of credit"},
        {0, {"model_not_found", "get_channel_failed"}, {}, no_model, next_model, "no channel for the model"},
        {0, {"access_denied"}, {}, authentication, next_account, "access denied"},
        {0, {"sensitive_words_detected"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"do_request_failed", "read_response_body_failed"}, {}, server_error, retry, "the reseller failed", 3},
    };

    static constexpr error_rule volcengine[] = {
        {0, {"AccountOverdueError", "InsufficientBalance"}, {}, billing, next_account, "the account is overdue"},
        {0, {"SetLimitExceeded", "QuotaExceeded"}, {}, plan_quota, next_account, "an allowance is exhausted"},
        {0, {"AccountQuotaExceeded"}, {}, plan_quota, next_account, "an allowance of the plan is exhausted"},
        {0, {"ServerOverloaded", "ModelLoadingError"}, {}, overload, retry, "the server is overloaded"},
        {0, {"RequestBurstTooFast"}, {}, burst, retry_slower, "requests grew too fast"},
        {0,
         {"ModelAccountRpmRateLimitExceeded", "ModelAccountIpmRateLimitExceeded"},
         {},
         request_rate,
         retry,
         "too many requests per minute"},
        {0, {"ModelAccountTpmRateLimitExceeded"}, {}, token_rate, retry, "too many tokens per minute"},
        {0, {"ModelNotOpen", "InvalidEndpointOrModel.NotFound"}, {}, no_model, next_model, "no such model"},
        {0, {"UnsupportedModel", "InvalidEndpoint.ClosedEndpoint"}, {}, no_model, next_model, "no such model"},
        {0,
         {"SensitiveContentDetected", "InputTextSensitiveContentDetected"},
         {},
         bad_request,
         give_up,
         "the content is not allowed"},
        {0, {"OutputTextSensitiveContentDetected"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"AuthenticationError", "AccountDisabled"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"InvalidAccountStatus", "AccessDenied"}, {}, authentication, next_account, "access denied"},
        {0, {"InternalServiceError"}, {}, server_error, retry, "the server failed", 3},
    };

    static constexpr error_rule qianfan[] = {
        {0, {"4", "18"}, {}, request_rate, retry, "too many requests per second"},
        {0, {"17", "19"}, {}, plan_quota, next_account, "an allowance is exhausted"},
        {0, {"6", "14"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"13", "15"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"100", "110"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"111"}, {}, authentication, next_account, "the key has expired"},
        {0, {"1", "2"}, {}, server_error, retry, "the server failed", 3},
        {0, {"336000", "336100"}, {}, server_error, retry, "the server failed", 3},
        {0, {"336501"}, {}, request_rate, retry, "too many requests per minute"},
        {0, {"336502"}, {}, token_rate, retry, "too many tokens per minute"},
        {0, {"336007"}, {}, bad_request, give_up, "the request is too long"},
        {0, {"account_overdue", "insufficient_balance"}, {}, billing, next_account, "the account is overdue"},
    };

    static constexpr error_rule hunyuan[] = {
        {0, {"RequestLimitExceeded", "LimitExceeded"}, {}, request_rate, retry, "too many requests per second"},
        {0,
         {"FailedOperation.ResourcePackExhausted", "FailedOperation.FreeResourcePackExhausted"},
         {},
         billing,
         next_account,
         "the account's packages are exhausted"},
        {0,
         {"FailedOperation.ServiceStop", "FailedOperation.ServiceStopArrears"},
         {},
         billing,
         next_account,
         "the service is stopped"},
        {0, {"FailedOperation.ServiceNotActivated"}, {}, billing, next_account, "the service is not activated"},
        {0, {"FailedOperation.EngineServerLimitExceeded"}, {}, concurrency, retry, "too many calls at once"},
        {0,
         {"FailedOperation.EngineServerError", "FailedOperation.EngineRequestTimeout"},
         {},
         server_error,
         retry,
         "the server failed",
         3},
        {0, {"InternalError"}, {}, server_error, retry, "the server failed", 3},
    };

    static constexpr error_rule spark[] = {
        {0, {"10013", "10014"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"10019", "10163"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"10907"}, {}, bad_request, give_up, "the request is too long"},
        {0, {"10007", "10008"}, {}, overload, retry, "the server is at capacity"},
        {0, {"10010", "10110"}, {}, overload, retry, "the server is at capacity"},
        {0, {"10012"}, {}, server_error, retry, "the server failed", 3},
        {0, {"11200", "10313"}, {}, authentication, next_account, "the key may not do this, or its quota is spent"},
        {0, {"11201"}, {}, plan_quota, next_account, "the day's requests are exhausted"},
        {0, {"11202"}, {}, request_rate, retry, "too many requests per second"},
        {0, {"11203"}, {}, concurrency, retry, "too many calls at once"},
    };
};

}  // namespace weir::inline v0::llm::detail
