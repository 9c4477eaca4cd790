// SPDX-License-Identifier: MIT
#include <weir/llm/verdict.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace verdict_test {

using namespace std::chrono_literals;
using namespace weir::llm;
using std::chrono::nanoseconds;

constexpr std::chrono::sys_seconds now = std::chrono::sys_days{std::chrono::year{2026} / 9 / 24} + 16h;

verdict judge(dialect d, int status, std::string_view body) {
    return classify({.dialect = d, .status = status, .body = body, .now = now});
}

struct row {
    int status;
    char const* native;
    char const* compatible;
    char const* message;
    weir::llm::cause cause;
    weir::llm::action action;
};

// The vendor's table of errors, and the action for each row.
constexpr row dashscope[] = {
    {400, "InvalidParameter", "invalid_parameter_error", "Range of input length should be [1, 30720]",
     cause::bad_request, action::give_up},
    {400, "DataInspectionFailed", "data_inspection_failed", "Input or output data may contain inappropriate content.",
     cause::bad_request, action::give_up},
    {400, "Arrearage", "Arrearage", "Access denied, please make sure your account is in good standing.", cause::billing,
     action::next_account},
    {400, "Throttling.AllocationQuota", "Throttling.AllocationQuota", "Too many voices.", cause::bad_request,
     action::give_up},
    {401, "InvalidApiKey", "invalid_api_key", "Invalid API-key provided.", cause::authentication, action::next_account},
    {401, "InvalidApiKey", "invalid_api_key", "Incorrect API key provided.", cause::authentication,
     action::next_account},
    {403, "AccessDenied", "access_denied", "Access denied.", cause::authentication, action::next_account},
    {403, "AccessDenied.Unpurchased", "AccessDenied.Unpurchased", "Access to model denied.", cause::billing,
     action::next_account},
    {403, "Model.AccessDenied", "Model.AccessDenied", "Model access denied.", cause::no_model, action::next_model},
    {403, "Workspace.AccessDenied", "Workspace.AccessDenied", "Workspace access denied.", cause::authentication,
     action::next_account},
    {403, "Endpoint.AccessDenied", "Endpoint.AccessDenied", "Endpoint access denied.", cause::authentication,
     action::next_account},
    {403, "AllocationQuota.FreeTierOnly", "AllocationQuota.FreeTierOnly",
     "The free tier of the model has been exhausted. If you wish to continue access the model on a paid basis, please "
     "disable the "
     "\\\"use free tier only\\\" mode in the management console.",
     cause::free_quota, action::next_model},
    {403, "insufficient_quota", "insufficient_quota", "quota", cause::free_quota, action::next_model},
    {404, "ModelNotFound", "model_not_found", "Model not exist.", cause::no_model, action::next_model},
    {404, "model_not_supported", "model_not_supported", "Unsupported model.", cause::no_model, action::next_model},
    {404, "WorkSpaceNotFound", "WorkSpaceNotFound", "WorkSpace can not be found.", cause::authentication,
     action::next_account},
    {429, "Throttling", "Throttling", "Requests throttling triggered.", cause::rate, action::retry},
    {429, "Throttling", "Throttling", "Too many requests in route. Please try again later.", cause::rate,
     action::retry},
    {429, "Throttling.RateQuota", "limit_requests", "Requests rate limit exceeded, please try again later.",
     cause::request_rate, action::retry},
    {429, "LimitRequests", "limit_requests", "You exceeded your current requests list.", cause::request_rate,
     action::retry},
    {429, "Throttling.RateQuota", "limit_requests", "You have exceeded your current request limit.",
     cause::request_rate, action::retry},
    {429, "Throttling.BurstRate", "limit_burst_rate",
     "Request rate increased too quickly. To ensure system stability, please adjust your client logic to scale "
     "requests more smoothly "
     "over time.",
     cause::burst, action::retry_slower},
    {429, "Throttling.AllocationQuota", "insufficient_quota",
     "Allocated quota exceeded, please increase your quota limit.", cause::token_rate, action::retry},
    {429, "Throttling.AllocationQuota", "insufficient_quota",
     "You exceeded your current quota, please check your plan and billing details.", cause::token_rate, action::retry},
    {429, "Throttling.AllocationQuota", "insufficient_quota",
     "Too many requests. Batch requests are being throttled due to system capacity limits. Please try again later.",
     cause::overload, action::retry},
    {429, "Throttling.AllocationQuota", "insufficient_quota", "Free allocated quota exceeded.", cause::free_quota,
     action::next_model},
    {429, "Throttling.AllocationQuota", "insufficient_quota", "concurrency allocated quota exceeded",
     cause::concurrency, action::retry},
    {429, "Throttling.AllocationQuota", "insufficient_quota", "usage allocated quota exceeded. please try again later.",
     cause::plan_quota, action::next_account},
    {429, "Throttling.AllocationQuota", "insufficient_quota", "hour allocated quota exceeded", cause::plan_quota,
     action::next_account},
    {429, "Throttling.AllocationQuota", "insufficient_quota", "week allocated quota exceeded", cause::plan_quota,
     action::next_account},
    {429, "Throttling.AllocationQuota", "insufficient_quota", "month allocated quota exceeded", cause::plan_quota,
     action::next_account},
    {429, "Throttling.AllocationQuota", "insufficient_quota",
     "Your token-plan 1-month quota has been exhausted. The quota will reset at 10-15 16:00:00 UTC.", cause::plan_quota,
     action::next_account},
    {429, "Throttling.Concurrency", "Throttling.Concurrency", "Too many.", cause::concurrency, action::retry},
    {429, "CommodityNotPurchased", "CommodityNotPurchased", "Commodity has not purchased yet.", cause::billing,
     action::next_account},
    {429, "PrepaidBillOverdue", "PrepaidBillOverdue", "The prepaid bill is overdue.", cause::billing,
     action::next_account},
    {429, "PostpaidBillOverdue", "PostpaidBillOverdue", "The postpaid bill is overdue.", cause::billing,
     action::next_account},
    {500, "InternalError", "internal_error", "An internal error has occurred.", cause::server_error, action::retry},
    {500, "InternalError.Algo", "InternalError.Algo", "Receive batching backend response failed!", cause::server_error,
     action::retry},
    {500, "InternalError.Algo", "InternalError.Algo", "Role must be in [user, assistant]", cause::bad_request,
     action::give_up},
    {500, "InternalError.Algo", "InternalError.Algo", "list index out of range", cause::bad_request, action::give_up},
    {500, "SystemError", "SystemError", "An system error has occured.", cause::server_error, action::retry},
    {500, "ModelServiceFailed", "ModelServiceFailed", "Failed to request model service.", cause::server_error,
     action::retry},
    {500, "RequestTimeOut", "RequestTimeOut", "Request timed out, please try again later.", cause::server_error,
     action::retry},
    {500, "ModelServingError", "ModelServingError",
     "Too many requests. Your requests are being throttled due to system capacity limits. Please try again later.",
     cause::overload, action::retry},
    {503, "ModelServingError", "ModelServingError",
     "Too many requests. Your requests are being throttled due to system capacity limits. Please try again later.",
     cause::overload, action::retry},
    {503, "ModelUnavailable", "ModelUnavailable", "Model is unavailable, please try again later.", cause::overload,
     action::retry},
};

/// Every way in which such an error has been seen to come.
std::vector<std::string> bodies(row const& r) {
    std::string const m = r.message, c = r.compatible, n = r.native;
    std::string const see = " For details, see: https://help.aliyun.com/zh/model-studio/error-code#some-anchor";
    return {
        R"({"code":")" + n + R"(","message":")" + m + R"(","request_id":"8f9e"})",
        R"({"request_id":"8f9e","message":")" + m + R"(","code":")" + n + "\"}",
        R"({"error":{"message":")" + m + see + R"(","type":")" + c + R"(","param":null,"code":")" + c +
            R"("},"id":"chatcmpl-1","request_id":"1"})",
        R"({"error":{"code":")" + c + R"(","message":")" + m + see + R"(","param":null,"type":")" + c +
            R"("},"request_id":""})",
        R"({"error":{"message":")" + m + R"(","id":"1","type":")" + c + R"(","code":")" + c + "\"}}",
        R"({ "error" : { "message" : ")" + m + see + R"(" , "type" : ")" + c + R"(" , "code" : ")" + c + "\" } }\n",
        R"({"error":{"message":")" + m + R"(","type":")" + c + R"(","code":")" + c + R"("},"status":)" +
            std::to_string(r.status) + "}",
        "id:1\nevent:error\n:HTTP_STATUS/" + std::to_string(r.status) + "\ndata:{\"request_id\":\"1\",\"code\":\"" + n +
            "\",\"message\":\"" + m + "\"}\n\n",
    };
}

TEST(llm_verdict, every_row_of_dashscope_s_table_in_every_shape) {
    for (auto const& r : dashscope) {
        for (auto const& body : bodies(r)) {
            auto const v = judge(dialect::dashscope, r.status, body);
            EXPECT_EQ(v.cause, r.cause) << r.status << ' ' << body << " was taken for " << to_string(v.cause);
            EXPECT_EQ(v.action, r.action) << r.status << ' ' << body << " got " << to_string(v.action);
            EXPECT_FALSE(v.reason.empty()) << body;
        }
    }
}

TEST(llm_verdict, a_part_of_an_answer_is_enough) {
    for (auto const& r : dashscope) {
        bool const only_status_tells = std::string_view{r.native} == "insufficient_quota" || r.status == 400;
        answer by_words;
        by_words.dialect = dialect::dashscope;
        by_words.code = r.native;
        by_words.message = r.message;
        if (!only_status_tells) {
            EXPECT_EQ(classify(by_words).cause, r.cause) << r.native << ' ' << r.message;
        }
        answer by_status_and_words = by_words;
        by_status_and_words.status = r.status;
        EXPECT_EQ(classify(by_status_and_words).cause, r.cause) << r.native << ' ' << r.message;
        answer by_stream = by_words;
        by_stream.code = {};
        by_stream.message = {};
        std::string const frame = bodies(r).back();
        by_stream.body = frame;
        EXPECT_EQ(classify(by_stream).cause, r.cause) << frame;
    }
}

TEST(llm_verdict, an_error_inside_a_stream_that_began_with_200) {
    for (auto const& r : dashscope) {
        std::string const frame =
            "id:7\nevent:result\n:HTTP_STATUS/200\ndata:{\"output\":{\"text\":\"so "
            "far\"},\"usage\":{\"total_tokens\":9}}\n\n" +
            bodies(r).back();
        auto const v = judge(dialect::dashscope, 200, frame);
        EXPECT_EQ(v.cause, r.cause) << frame;
    }
}

TEST(llm_verdict, the_soft_failure_is_a_burst_and_an_answer_that_quotes_it_is_none) {
    constexpr std::string_view words = "Request rate increased too quickly. To ensure system stability, please adjust";
    std::string const soft = R"({"choices":[{"message":{"role":"assistant","content":")" + std::string{words} +
                             R"("}}],"usage":{"total_tokens":0}})";
    EXPECT_EQ(judge(dialect::dashscope, 200, soft).cause, cause::burst);
    EXPECT_EQ(judge(dialect::dashscope, 200, soft).action, action::retry_slower);
    std::string const paid = R"({"choices":[{"message":{"role":"assistant","content":")" + std::string{words} +
                             R"("}}],"usage":{"total_tokens":31}})";
    EXPECT_EQ(judge(dialect::dashscope, 200, paid).action, action::proceed);
}

TEST(llm_verdict, a_proxy_that_rewrites_code_and_status_keeps_the_words) {
    auto const v =
        judge(dialect::dashscope, 500,
              R"({"error":{"message":"Upstream error from Alibaba: Request rate increased too quickly. To ensure",)"
              R"("code":500}})");
    EXPECT_EQ(v.cause, cause::burst);
    answer a;
    a.dialect = dialect::dashscope;
    a.message = "Upstream error from Alibaba: Free allocated quota exceeded.";
    EXPECT_EQ(classify(a).action, action::next_model);
}

TEST(llm_verdict, insufficient_quota_is_a_throttle_here_and_a_stop_there) {
    constexpr std::string_view body =
        R"({"error":{"message":"You exceeded your current quota, please check your plan and billing details.",)"
        R"("type":"insufficient_quota","param":null,"code":"insufficient_quota"}})";
    EXPECT_EQ(judge(dialect::dashscope, 429, body).cause, cause::token_rate);
    EXPECT_EQ(judge(dialect::dashscope, 429, body).action, action::retry);
    for (auto const d : {dialect::openai, dialect::azure}) {
        EXPECT_EQ(judge(d, 429, body).cause, cause::billing);
        EXPECT_EQ(judge(d, 429, body).action, action::next_account);
    }
}

TEST(llm_verdict, a_good_answer_is_no_failure) {
    for (auto const* body :
         {"", R"({"choices":[{"message":{"content":"error: failed"}}],"usage":{"total_tokens":3}})",
          R"({"error":null,"output":[{"content":[{"text":"x"}]}]})",
          R"({"output":{"text":"hi"},"usage":{"total_tokens":5},"code":"","message":"","request_id":"1"})",
          "plain text", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n"}) {
        for (int d = 0; d <= static_cast<int>(dialect::spark); ++d) {
            EXPECT_EQ(judge(static_cast<dialect>(d), 200, body).action, action::proceed) << body << ' ' << d;
        }
    }
}

struct other {
    weir::llm::dialect dialect;
    int status;
    char const* body;
    weir::llm::cause cause;
    weir::llm::action action;
};
constexpr other others[] = {
    {dialect::openai, 429,
     R"({"error":{"message":"Rate limit reached for gpt-4 on tokens per min (TPM): Limit 10000, Used 9000, )"
     R"(Requested 2000. Please try again in 6s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}})",
     cause::token_rate, action::retry},
    {dialect::openai, 429,
     R"({"error":{"message":"Rate limit reached for gpt-4 on requests per min (RPM): Limit 3. Please try again in )"
     R"(20s.","type":"requests","param":null,"code":"rate_limit_exceeded"}})",
     cause::request_rate, action::retry},
    {dialect::openai, 429,
     R"({"error":{"message":"Rate limit reached on requests per day (RPD): Limit 200","type":"requests",)"
     R"("code":"rate_limit_exceeded"}})",
     cause::plan_quota, action::next_account},
    {dialect::openai, 429,
     R"({"error":{"message":"Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 12000.",)"
     R"("type":"tokens","code":"rate_limit_exceeded"}})",
     cause::token_rate, action::next_model},
    {dialect::openai, 503, R"({"error":{"message":"Slow down","type":"server_error","code":"slow_down"}})",
     cause::burst, action::retry_slower},
    {dialect::openai, 503, R"({"error":{"message":"Overloaded","type":"server_error","code":"server_is_overloaded"}})",
     cause::overload, action::retry},
    {dialect::openai, 401,
     R"({"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}})",
     cause::authentication, action::next_account},
    {dialect::openai, 404,
     R"({"error":{"message":"The model does not exist","type":"invalid_request_error","code":"model_not_found"}})",
     cause::no_model, action::next_model},
    {dialect::openai, 400,
     R"({"error":{"message":"maximum context length is 8192 tokens","type":"invalid_request_error",)"
     R"("code":"context_length_exceeded"}})",
     cause::bad_request, action::give_up},
    {dialect::azure, 429,
     R"({"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation have exceeded token rate )"
     R"(limit of your current OpenAI S0 pricing tier. Please retry after 6 seconds."}})",
     cause::token_rate, action::retry},
    {dialect::azure, 429,
     R"({"error":{"code":"429","message":"Requests have exceeded call rate limit of your current tier. Please retry )"
     R"(after 1 second."}})",
     cause::request_rate, action::retry},
    {dialect::azure, 404,
     R"({"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}})",
     cause::no_model, action::next_model},
    {dialect::anthropic, 429,
     R"({"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's )"
     R"(rate limit of 40,000 input tokens per minute."}})",
     cause::token_rate, action::retry},
    {dialect::anthropic, 429,
     R"({"type":"error","error":{"type":"rate_limit_error","message":"Number of requests has exceeded your rate )"
     R"(limit of 50 requests per minute"}})",
     cause::request_rate, action::retry},
    {dialect::anthropic, 429,
     R"({"type":"error","error":{"type":"rate_limit_error","message":"Number of concurrent connections has exceeded )"
     R"(your rate limit."}})",
     cause::concurrency, action::retry},
    {dialect::anthropic, 429,
     R"({"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed the acceleration )"
     R"(limit"}})",
     cause::burst, action::retry_slower},
    {dialect::anthropic, 529, R"({"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}})",
     cause::overload, action::retry},
    {dialect::anthropic, 400,
     R"({"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access )"
     R"(the Anthropic API."}})",
     cause::billing, action::next_account},
    {dialect::anthropic, 400,
     R"({"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: field required"}})",
     cause::bad_request, action::give_up},
    {dialect::anthropic, 500, R"({"type":"error","error":{"type":"api_error","message":"Internal server error"}})",
     cause::server_error, action::retry},
    {dialect::gemini, 429,
     R"([{"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED",)"
     R"("details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaMetric":"m",)"
     R"("quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]},)"
     R"({"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"38s"}]}}])",
     cause::request_rate, action::retry},
    {dialect::gemini, 429,
     R"({"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED",)"
     R"("details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel"},)"
     R"({"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}})",
     cause::plan_quota, action::next_account},
    {dialect::gemini, 429,
     R"({"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"quota",)"
     R"("details":[{"violations":[{"quotaId":"GenerateContentInputTokensPerModelPerMinute"}]}]}})",
     cause::token_rate, action::retry},
    {dialect::gemini, 503,
     R"({"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}})",
     cause::overload, action::retry},
    {dialect::gemini, 400,
     R"({"error":{"code":400,"message":"API key not valid. Please pass a valid API key.",)"
     R"("status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}})",
     cause::authentication, action::next_account},
    {dialect::groq, 429,
     R"({"error":{"message":"Rate limit reached for model in organization on tokens per day (TPD): Limit 100000. )"
     R"(Please try again in 2m59.56s.","type":"tokens","code":"rate_limit_exceeded"}})",
     cause::plan_quota, action::retry},
    {dialect::groq, 429,
     R"({"error":{"message":"Rate limit reached for model in organization on tokens per day (TPD): Limit 100000. )"
     R"(Please try again in 2h59m.","type":"tokens","code":"rate_limit_exceeded"}})",
     cause::plan_quota, action::next_account},
    {dialect::groq, 413,
     R"({"error":{"message":"Request too large for model on tokens per minute (TPM): Limit 6000","type":"tokens",)"
     R"("code":"rate_limit_exceeded"}})",
     cause::token_rate, action::next_model},
    {dialect::mistral, 429, R"({"message":"Requests rate limit exceeded"})", cause::request_rate, action::retry},
    {dialect::mistral, 429,
     R"({"object":"error","message":"Service tier capacity exceeded for this model.",)"
     R"("type":"service_tier_capacity_exceeded","param":null,"code":"3505"})",
     cause::overload, action::retry},
    {dialect::llama_cpp, 503, R"({"error":{"code":503,"message":"Loading model","type":"unavailable_error"}})",
     cause::overload, action::retry},
    {dialect::llama_cpp, 400,
     R"({"error":{"code":400,"message":"the request exceeds the available context size",)"
     R"("type":"exceed_context_size_error"}})",
     cause::bad_request, action::give_up},
    {dialect::http, 429, "", cause::rate, action::retry},
    {dialect::http, 429, "<html>Too Many Requests</html>", cause::rate, action::retry},
    {dialect::http, 502, "", cause::overload, action::retry},
    {dialect::http, 413, "", cause::bad_request, action::give_up},
    {dialect::http, 402, "", cause::billing, action::next_account},
    {dialect::dashscope, 429, "", cause::rate, action::retry},
};

TEST(llm_verdict, errors_of_other_vendors) {
    for (auto const& o : others) {
        auto const v = judge(o.dialect, o.status, o.body);
        EXPECT_EQ(v.cause, o.cause) << to_string(o.dialect) << ' ' << o.body << " was taken for " << to_string(v.cause);
        EXPECT_EQ(v.action, o.action) << to_string(o.dialect) << ' ' << o.body << " got " << to_string(v.action);
    }
}

TEST(llm_verdict, the_wait_that_the_server_asks_for_is_in_the_verdict) {
    EXPECT_EQ(judge(dialect::openai, 429, others[0].body).wait, nanoseconds{6s});
    EXPECT_EQ(judge(dialect::azure, 429, others[9].body).wait, nanoseconds{6s});
    answer a;
    a.dialect = dialect::dashscope;
    a.status = 429;
    auto const find = [](std::string_view name) -> std::optional<std::string_view> {
        if (name == "retry-after") return "7";
        return std::nullopt;
    };
    a.headers = find;
    a.now = now;
    EXPECT_EQ(classify(a).wait, nanoseconds{7s});
}

TEST(llm_verdict, a_plan_s_reset_is_the_next_such_date) {
    auto const reset = [](std::string_view when, std::chrono::sys_seconds at) {
        answer a;
        a.dialect = dialect::dashscope;
        a.status = 429;
        std::string const m =
            "Your token-plan 1-month quota has been exhausted. The quota will reset at " + std::string{when} + " UTC.";
        a.message = m;
        a.now = at;
        return classify(a).until;
    };
    using std::chrono::sys_days;
    using std::chrono::year;
    EXPECT_EQ(reset("10-15 16:00:00", now), sys_days{year{2026} / 10 / 15} + 16h);
    EXPECT_EQ(reset("01-02 00:00:00", now), sys_days{year{2027} / 1 / 2});
    EXPECT_EQ(reset("2026-10-15T16:00:00Z", now), sys_days{year{2026} / 10 / 15} + 16h);
    EXPECT_EQ(reset("02-29 00:00:00", now), sys_days{year{2028} / 2 / 29});
    EXPECT_EQ(reset("09-24 16:00:00", now), now);
    EXPECT_EQ(reset("13-01 00:00:00", now), std::nullopt);
    EXPECT_EQ(reset("soon", now), std::nullopt);
}

TEST(llm_verdict, a_plan_s_reset_may_come_as_retry_after) {
    answer a;
    a.dialect = dialect::dashscope;
    a.status = 429;
    a.message = "month allocated quota exceeded";
    auto const find = [](std::string_view name) -> std::optional<std::string_view> {
        if (name == "retry-after") return "1849295";
        return std::nullopt;
    };
    a.headers = find;
    a.now = now;
    EXPECT_EQ(classify(a).until, now + 1849295s);
    EXPECT_EQ(classify(a).wait, nanoseconds{1849295s});
}

TEST(llm_verdict, a_call_without_an_answer_is_retried_a_few_times) {
    answer a;
    a.transport_failed = true;
    auto const v = classify(a);
    EXPECT_EQ(v.cause, cause::transport);
    EXPECT_TRUE(v.retries());
    EXPECT_GT(v.max_retries, 0U);
}

TEST(llm_verdict, an_error_that_is_not_understood_has_a_bound_of_retries) {
    std::mt19937 random{7};
    constexpr std::string_view pieces[] = {"{",     "}",     "[",           "]",    "\"",     ":",   ",",
                                           "error", "code",  "message",     "\\",   "null",   "429", " ",
                                           "\n",    "data:", "event:error", "type", "status", "\xff"};
    for (int i = 0; i < 50'000; ++i) {
        std::string body;
        for (auto n = random() % 24; n > 0; --n) body += pieces[random() % std::size(pieces)];
        auto const d = static_cast<dialect>(random() % 28);
        auto const v = judge(d, static_cast<int>(400 + random() % 200), body);
        if (v.retries() && v.reason == "an error that is not known") {
            EXPECT_GT(v.max_retries, 0U) << body;
        }
        EXPECT_NE(v.action, action::proceed) << body;
    }
    EXPECT_GT(judge(dialect::dashscope, 429, R"({"error":{"code":"Throttling.Something","message":"new words"}})")
                  .max_retries,
              0U);
    EXPECT_GT(classify({}).max_retries, 0U);
}

TEST(llm_verdict, a_server_that_says_not_to_retry_is_obeyed) {
    answer a;
    a.dialect = dialect::openai;
    a.status = 429;
    auto const no = [](std::string_view name) -> std::optional<std::string_view> {
        if (name == "x-should-retry") return "false";
        return std::nullopt;
    };
    a.headers = no;
    EXPECT_EQ(classify(a).action, action::give_up);
    auto const yes = [](std::string_view name) -> std::optional<std::string_view> {
        if (name == "x-should-retry") return "true";
        return std::nullopt;
    };
    a.headers = yes;
    EXPECT_EQ(classify(a).action, action::retry);
    a.status = 401;
    a.code = "invalid_api_key";
    a.headers = no;
    EXPECT_EQ(classify(a).action, action::next_account) << "to give up the call is more than was asked for";
    a.code = {};
    a.headers = yes;
    a.status = 418;
    EXPECT_EQ(classify(a).action, action::retry);
    EXPECT_GT(classify(a).max_retries, 0U);
}

TEST(llm_verdict, nested_members_before_and_after_a_field_do_not_hide_it) {
    for (auto const* body :
         {R"({"meta":{"a":1,"b":[2,{"c":3}]},"code":"Throttling.BurstRate","message":"m"})",
          R"({"meta":{},"list":[],"code":"Throttling.BurstRate","message":"m"})",
          R"({"list":[[],{},"x"],"more":"code","code":"Throttling.BurstRate","message":"m"})",
          R"({"note":"a \"b\"","x\\":"\\","code":"Throttling.BurstRate","message":"m"})",
          R"({"error":{"inner":{"code":7},"code":"Throttling.BurstRate","message":"m"}})",
          R"({"d":[[[[[[[[[[[[[[1,"code"]]]]]]]]]]]]]],"code":"Throttling.BurstRate","message":"m"})"}) {
        EXPECT_EQ(judge(dialect::dashscope, 429, body).cause, cause::burst) << body;
    }
}

TEST(llm_verdict, a_stream_s_status_is_taken_from_100_to_599) {
    auto const status = [](int n) {
        return error_body{":HTTP_STATUS/" + std::to_string(n) + "\ndata:{\"message\":\"m\"}\n"}.status;
    };
    EXPECT_EQ(status(100), 100);
    EXPECT_EQ(status(599), 599);
    EXPECT_EQ(status(99), std::nullopt);
    EXPECT_EQ(status(600), std::nullopt);
    EXPECT_EQ(error_body{":HTTP_STATUS/x\ndata:{\"message\":\"m\"}\n"}.status, std::nullopt);
}

TEST(llm_verdict, a_stream_s_fields_may_begin_with_a_space) {
    for (auto const* body : {"event:error\ndata:{\"code\":\"Throttling.BurstRate\",\"message\":\"m\"}\n\n",
                             "event: error\ndata: {\"code\":\"Throttling.BurstRate\",\"message\":\"m\"}\n\n",
                             "event: error\r\ndata:  {\"code\":\"Throttling.BurstRate\",\"message\":\"m\"} \r\n\r\n"}) {
        EXPECT_EQ(judge(dialect::dashscope, 200, body).cause, cause::burst) << body;
    }
}

TEST(llm_verdict, a_user_s_own_rules_come_first) {
    constexpr error_rule mine[] = {
        {0, {"E-TOO-FAST"}, {}, cause::request_rate, action::retry, "my gateway's limit"},
        {503, {}, "maintenance", cause::overload, action::next_model, "my gateway is being repaired"}};
    answer a;
    a.status = 503;
    a.body = R"({"error":{"code":"E-TOO-FAST"}})";
    EXPECT_EQ(classify(a, mine).cause, cause::request_rate);
    a.body = R"({"message":"Under maintenance"})";
    EXPECT_EQ(classify(a, mine).reason, "my gateway is being repaired");
}

TEST(llm_verdict, a_status_alone_is_enough) {
    struct {
        int status;
        weir::llm::cause cause;
        weir::llm::action action;
        unsigned max_retries;
    } const rows[] = {
        {400, cause::bad_request, action::give_up, 0},  {401, cause::authentication, action::next_account, 0},
        {402, cause::billing, action::next_account, 0}, {403, cause::authentication, action::next_account, 0},
        {404, cause::no_model, action::next_model, 0},  {408, cause::transport, action::retry, 3},
        {409, cause::unknown, action::retry, 2},        {425, cause::unknown, action::retry, 2},
        {429, cause::rate, action::retry, 0},           {498, cause::overload, action::retry, 0},
        {500, cause::server_error, action::retry, 3},   {501, cause::bad_request, action::give_up, 0},
        {502, cause::overload, action::retry, 0},       {503, cause::overload, action::retry, 0},
        {504, cause::overload, action::retry, 0},       {505, cause::bad_request, action::give_up, 0},
        {506, cause::server_error, action::retry, 3},   {529, cause::overload, action::retry, 0}};
    for (auto const& r : rows) {
        auto const v = judge(dialect::http, r.status, {});
        EXPECT_EQ(v.cause, r.cause) << r.status;
        EXPECT_EQ(v.action, r.action) << r.status;
        EXPECT_EQ(v.max_retries, r.max_retries) << r.status;
    }
}

TEST(llm_verdict, a_status_that_is_not_http_is_not_retried) {
    for (int const status : {300, 304, 399, 600, 999}) {
        auto const v = judge(dialect::http, status, {});
        EXPECT_EQ(v.cause, cause::unknown) << status;
        EXPECT_EQ(v.action, action::give_up) << status;
    }
    for (int const status : {-1, 1, 199}) {
        auto const v = judge(dialect::http, status, {});
        EXPECT_EQ(v.cause, cause::unknown) << status;
        EXPECT_TRUE(v.action == action::give_up || v.max_retries > 0) << status << ": retried without a bound";
    }
    EXPECT_EQ(judge(dialect::http, 200, {}).cause, cause::none);
    EXPECT_EQ(judge(dialect::http, 299, {}).cause, cause::none);
    EXPECT_EQ(judge(dialect::http, 400, {}).cause, cause::bad_request);
    EXPECT_EQ(judge(dialect::http, 499, {}).cause, cause::bad_request);
    EXPECT_EQ(judge(dialect::http, 599, {}).cause, cause::server_error);
}

TEST(llm_verdict, causes_actions_and_dialects_have_names) {
    std::vector<std::string_view> const causes = {"none",     "request rate",   "token rate", "rate",
                                                  "burst",    "concurrency",    "free quota", "plan quota",
                                                  "billing",  "authentication", "no model",   "bad request",
                                                  "overload", "server error",   "transport",  "unknown"};
    for (std::size_t i = 0; i < causes.size(); ++i) EXPECT_EQ(to_string(static_cast<cause>(i)), causes[i]);
    EXPECT_EQ(cause::unknown, static_cast<cause>(causes.size() - 1));
    std::vector<std::string_view> const actions = {"proceed",      "retry",      "retry slower",
                                                   "next account", "next model", "give up"};
    for (std::size_t i = 0; i < actions.size(); ++i) EXPECT_EQ(to_string(static_cast<action>(i)), actions[i]);
    EXPECT_EQ(action::give_up, static_cast<action>(actions.size() - 1));
    for (int i = 0; i <= 27; ++i) EXPECT_NE(to_string(static_cast<dialect>(i)), "unknown") << i;
    EXPECT_EQ(to_string(static_cast<cause>(200)), "unknown");
    EXPECT_EQ(to_string(static_cast<action>(200)), "give up");
    EXPECT_EQ(to_string(static_cast<dialect>(200)), "unknown");
}

TEST(llm_verdict, works_at_compile_time) {
    constexpr auto v = [] {
        answer a;
        a.dialect = dialect::dashscope;
        a.status = 429;
        a.body = R"({"code":"Throttling.AllocationQuota","message":"Free allocated quota exceeded.","request_id":"1"})";
        return classify(a);
    }();
    static_assert(v.cause == cause::free_quota && v.action == action::next_model);
}

}  // namespace verdict_test
