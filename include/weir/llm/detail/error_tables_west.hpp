// SPDX-License-Identifier: MIT
//
// The errors of OpenAI, Anthropic, Google, Mistral, Amazon, Cohere and the servers that speak like them. Sources: the
// vendors' pages on errors. Words that mean the same at every vendor are in error_words.hpp.
#pragma once

#include "../error_rule.hpp"

namespace weir::inline v0::llm::detail {

struct [[gnu::__visibility__("hidden")]] western_errors {
    using enum cause;
    using enum action;

    // Azure and Groq use the same table.
    static constexpr error_rule openai[] = {
        {0, {}, "Request too large", token_rate, next_model, "the request is larger than the limit"},
        {0, {"insufficient_quota"}, {}, billing, next_account, "the account is out of credit"},
        {0, {"billing_hard_limit_reached"}, {}, billing, next_account, "the account's billing limit is reached"},
        {0, {"billing_not_active"}, {}, billing, next_account, "the account's billing is not active"},
        {0, {}, "spend_limit_exceeded", billing, next_account, "the account's budget is spent"},
        {0,
         {"organization_spend_limit_exceeded", "project_spend_limit_exceeded"},
         {},
         billing,
         next_account,
         "the account's budget is spent"},
        {0, {"insufficient_credits", "credits_exhausted"}, {}, billing, next_account, "the account is out of credit"},
        {0, {"CreditsError", "credit_limit"}, {}, billing, next_account, "the account is out of credit"},
        {0, {"budget_exceeded"}, {}, billing, next_account, "the account's budget is spent"},
        {0, {"organization_restricted", "blocked_api_access"}, {}, billing, next_account, "the account is restricted"},
        {0,
         {"usage_limit_reached", "usage_not_included"},
         {},
         plan_quota,
         next_account,
         "an allowance of the plan is exhausted"},
        {0, {"slow_down"}, {}, burst, retry_slower, "requests grew too fast"},
        {0, {}, "You exceeded your current quota", billing, next_account, "the account is out of credit"},
        {0, {"tokens"}, {}, token_rate, retry, "too many tokens per minute"},
        {0, {"requests", "request_rate_limit_exceeded"}, {}, request_rate, retry, "too many requests per minute"},
        {0, {"rpm_rate_limit_exceeded"}, {}, request_rate, retry, "too many requests per minute"},
        {0, {"tpm_rate_limit_exceeded"}, {}, token_rate, retry, "too many tokens per minute"},
        {0, {"token_limit_exceeded"}, {}, token_rate, retry, "too many tokens in batches"},
        {0, {"rate_limit_exceeded", "rate_limit_error"}, {}, rate, retry, "throttled"},
        {0, {"server_is_overloaded", "engine_overloaded_error"}, {}, overload, retry, "the server is overloaded"},
        {0, {"capacity_exceeded", "queue_exceeded"}, {}, overload, retry, "the server is at capacity"},
        {0, {"NoCapacity", "service_unavailable_error"}, {}, overload, retry, "the server is at capacity"},
        {0, {"invalid_api_key", "account_deactivated"}, {}, authentication, next_account, "the key is not valid"},
        {401, {"invalid_organization"}, {}, authentication, next_account, "the organization is not valid"},
        {0, {"unsupported_country_region_territory"}, {}, authentication, give_up, "the region is not supported"},
        {0, {"model_not_found", "DeploymentNotFound"}, {}, no_model, next_model, "no such model"},
        {0, {"model_not_available", "model_decommissioned"}, {}, no_model, next_model, "no such model"},
        {0,
         {"model_permission_blocked_org", "model_permission_blocked_project"},
         {},
         no_model,
         next_model,
         "the model is blocked for this account"},
        {0, {"model_not_supported", "model_terms_required"}, {}, no_model, next_model, "the model is not supported"},
        {0,
         {"context_length_exceeded", "string_above_max_length"},
         {},
         bad_request,
         give_up,
         "the request is too long"},
        {0, {"content_filter", "content_policy_violation"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"moderation_blocked", "invalid_prompt"}, {}, bad_request, give_up, "the content is not allowed"},
        {0, {"internal_error", "InternalServerError"}, {}, server_error, retry, "the server failed", 3},
        {0, {"server_error"}, {}, server_error, retry, "the server failed", 3},
        {0, {"tool_use_failed"}, {}, bad_request, give_up, "the model's tool call is not valid"},
    };

    static constexpr error_rule anthropic[] = {
        {0, {}, "credit balance is too low", billing, next_account, "the account is out of credit"},
        {0, {"rate_limit_error"}, {}, rate, retry, "throttled"},
        {0, {"overloaded_error"}, {}, overload, retry, "the server is overloaded"},
        {0, {"billing_error"}, {}, billing, next_account, "the account has a billing problem"},
        {0, {"authentication_error"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"permission_error"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"not_found_error"}, {}, no_model, next_model, "no such model"},
        {0, {"request_too_large"}, {}, bad_request, give_up, "the request is too large"},
        {400, {"invalid_request_error"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"api_error"}, {}, server_error, retry, "the server failed", 3},
        {0, {"timeout_error"}, {}, server_error, retry, "the server took too long", 2},
    };

    static constexpr error_rule gemini[] = {
        {0, {}, "API_KEY_INVALID", authentication, next_account, "the key is not valid"},
        {0, {}, "SERVICE_DISABLED", authentication, next_account, "the service is not enabled for the key"},
        {0, {"RESOURCE_EXHAUSTED"}, {}, rate, retry, "throttled"},
        {0, {"UNAVAILABLE"}, {}, overload, retry, "the model is overloaded"},
        {0, {"UNAUTHENTICATED"}, {}, authentication, next_account, "the key is not valid"},
        {0, {"PERMISSION_DENIED"}, {}, authentication, next_account, "the key may not do this"},
        {0, {"NOT_FOUND"}, {}, no_model, next_model, "no such model"},
        {0, {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"OUT_OF_RANGE"}, {}, bad_request, give_up, "the request is too long"},
        {0, {"INTERNAL", "UNKNOWN"}, {}, server_error, retry, "the server failed", 3},
        {0, {"DEADLINE_EXCEEDED", "CANCELLED"}, {}, server_error, retry, "the server took too long", 2},
        {0, {"ABORTED", "DATA_LOSS"}, {}, server_error, retry, "the server failed", 3},
    };

    static constexpr error_rule mistral[] = {
        {0, {"3505", "service_tier_capacity_exceeded"}, {}, overload, retry, "the model is at capacity"},
        {0, {"1300", "rate_limited"}, {}, rate, retry, "throttled"},
        {0, {"1500", "invalid_model"}, {}, no_model, next_model, "no such model"},
        {0, {"3051"}, {}, bad_request, give_up, "the request is too long"},
        {0, {"1000", "3000"}, {}, server_error, retry, "the server failed", 3},
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

    static constexpr error_rule bedrock[] = {
        {0, {"ThrottlingException", "TooManyRequestsException"}, {}, rate, retry, "throttled"},
        {0, {"throttlingException", "Throttling"}, {}, rate, retry, "throttled"},
        {0, {"ServiceQuotaExceededException"}, {}, plan_quota, next_account, "the account's quota is exhausted"},
        {0, {"ModelNotReadyException", "ServiceUnavailableException"}, {}, overload, retry, "the model is not ready"},
        {0, {"serviceUnavailableException"}, {}, overload, retry, "the service is not available"},
        {0, {"ModelTimeoutException", "modelTimeoutException"}, {}, server_error, retry, "the model took too long", 2},
        {0, {"ModelErrorException", "ModelStreamErrorException"}, {}, server_error, retry, "the model failed", 3},
        {0, {"modelStreamErrorException", "internalServerException"}, {}, server_error, retry, "the server failed", 3},
        {0, {"InternalServerException", "InternalFailure"}, {}, server_error, retry, "the server failed", 3},
        {0, {"ResourceNotFoundException"}, {}, no_model, next_model, "no such model"},
        {0,
         {"AccessDeniedException", "ExpiredTokenException"},
         {},
         authentication,
         next_account,
         "the key is not valid, or lacks a permission"},
        {0,
         {"UnrecognizedClientException", "InvalidSignatureException"},
         {},
         authentication,
         next_account,
         "the key is not valid"},
        {0, {"ValidationException", "validationException"}, {}, bad_request, give_up, "the request is not valid"},
    };

    static constexpr error_rule xai[] = {
        {0, {"resource-exhausted", "Some resource has been exhausted"}, {}, rate, retry, "throttled"},
        {0, {"Some requested entity was not found"}, {}, no_model, next_model, "no such model"},
    };
    static constexpr error_rule together[] = {
        {0, {"model_rate_limit", "rate_limit"}, {}, rate, retry, "throttled"},
        {0, {"dynamic_request_limited", "dynamic_token_limited"}, {}, rate, retry_slower, "throttled by load"},
        {0, {"insufficient_credits"}, {}, billing, next_account, "the account is out of credit"},
    };
    static constexpr error_rule fireworks[] = {
        {412, {"PRECONDITION_FAILED"}, {}, billing, next_account, "the account is suspended"},
        {0, {"NOT_FOUND"}, {}, no_model, next_model, "no such model"},
    };
    static constexpr error_rule hugging_face[] = {
        {0, {"overloaded"}, {}, overload, retry, "the server is overloaded"},
        {0, {"validation"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"generation", "incomplete_generation"}, {}, server_error, retry, "the server failed", 3},
    };
    static constexpr error_rule vllm[] = {
        {0, {"NotFoundError"}, {}, no_model, next_model, "no such model"},
        {0, {"BadRequestError"}, {}, bad_request, give_up, "the request is not valid"},
        {0, {"InternalServerError"}, {}, server_error, retry, "the server failed", 3},
    };
};

}  // namespace weir::inline v0::llm::detail
