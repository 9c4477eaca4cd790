// SPDX-License-Identifier: MIT
//
// Every failure of the simulator: status, code, text and shape.
#include <gtest/gtest.h>
#include <httplib.h>

#include <nlohmann/json.hpp>
#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../../examples/simulator/simulator.hpp"
#include "../support/dashscope_server.hpp"

namespace dashscope_errors_test {

using namespace dashscope_test;
using qwen::error_shape;
using qwen::failure;

struct expected {
    failure what;
    int status;
    std::string native_code, compatible_code;
    std::set<std::string> texts;  // beginnings
    std::string anchor, shapes;
};

std::vector<expected> table() {
    std::string const any = "abcd";
    return {
        {failure::invalid_api_key,
         401,
         "InvalidApiKey",
         "invalid_api_key",
         {"Invalid API-key provided.", "Incorrect API key provided."},
         "apikey-error",
         any},
        {failure::invalid_body, 400, "InvalidParameter", "invalid_parameter_error", {"Required body invalid"}, "", any},
        {failure::model_not_found, 404, "ModelNotFound", "model_not_found", {"Model not exist."}, "", any},
        {failure::arrearage,
         400,
         "Arrearage",
         "Arrearage",
         {"Access denied, please make sure your account is in good standing."},
         "overdue-payment",
         "a"},
        {failure::unpurchased,
         403,
         "AccessDenied.Unpurchased",
         "AccessDenied.Unpurchased",
         {"Access to model denied."},
         "",
         any},
        {failure::commodity_not_purchased,
         429,
         "CommodityNotPurchased",
         "CommodityNotPurchased",
         {"Commodity has not purchased yet."},
         "",
         any},
        {failure::prepaid_overdue,
         429,
         "PrepaidBillOverdue",
         "PrepaidBillOverdue",
         {"The prepaid bill is overdue."},
         "",
         any},
        {failure::postpaid_overdue,
         429,
         "PostpaidBillOverdue",
         "PostpaidBillOverdue",
         {"The postpaid bill is overdue."},
         "",
         any},
        {failure::free_tier_only,
         403,
         "AllocationQuota.FreeTierOnly",
         "AllocationQuota.FreeTierOnly",
         {"The free tier of the model has been exhausted."},
         "",
         "a"},
        {failure::free_quota_exceeded,
         429,
         "Throttling.AllocationQuota",
         "insufficient_quota",
         {"Free allocated quota exceeded."},
         "",
         "bc"},
        {failure::invalid_parameter,
         400,
         "InvalidParameter",
         "invalid_parameter_error",
         {"Required parameter(s) missing or invalid"},
         "",
         any},
        {failure::data_inspection,
         400,
         "DataInspectionFailed",
         "data_inspection_failed",
         {"Input or output data may contain inappropriate content."},
         "",
         any},
        {failure::serving_error,
         503,
         "ModelServingError",
         "ModelServingError",
         {"Too many requests. Your requests are being throttled due to system capacity limits."},
         "",
         any},
        {failure::model_unavailable,
         503,
         "ModelUnavailable",
         "ModelUnavailable",
         {"Model is unavailable, please try again later."},
         "",
         any},
        {failure::route_throttling,
         429,
         "Throttling",
         "Throttling",
         {"Requests throttling triggered.", "Too many requests in route. Please try again later."},
         "",
         any},
        {failure::concurrency,
         429,
         "Throttling.Concurrency",
         "Throttling.Concurrency",
         {"concurrency allocated quota exceeded"},
         "",
         any},
        {failure::plan_quota,
         429,
         "Throttling.AllocationQuota",
         "insufficient_quota",
         {"month allocated quota exceeded"},
         "",
         "bc"},
        {failure::plan_usage,
         429,
         "Throttling.AllocationQuota",
         "insufficient_quota",
         {"usage allocated quota exceeded. please try again later."},
         "",
         "bc"},
        {failure::batch_throttling,
         429,
         "Throttling.AllocationQuota",
         "insufficient_quota",
         {"Too many requests. Batch requests are being throttled due to system capacity limits. Please try again "
          "later."},
         "",
         "bc"},
        {failure::burst_rate,
         429,
         "Throttling.BurstRate",
         "limit_burst_rate",
         {"Request rate increased too quickly. To ensure system stability, please adjust your client logic to scale "
          "requests more smoothly over time."},
         "rate-limit",
         "d"},
        {failure::rate_quota,
         429,
         "Throttling.RateQuota",
         "limit_requests",
         {"Requests rate limit exceeded, please try again later.", "You exceeded your current requests list."},
         "rate-limit",
         "d"},
        {failure::allocation_quota,
         429,
         "Throttling.AllocationQuota",
         "insufficient_quota",
         {"Allocated quota exceeded, please increase your quota limit.",
          "You exceeded your current quota, please check your plan and billing details."},
         "token-limit",
         "bc"},
        {failure::internal_error, 500, "InternalError", "internal_error", {"An internal error has occured"}, "", any},
        {failure::invalid_url, 404, "InvalidURL", "InvalidURL", {"The request URL is invalid."}, "", any},
    };
}

char shape_of(json const& b) {
    std::set<std::string> outer, inner;
    for (auto const& [k, v] : b.items()) outer.insert(k);
    for (auto const& [k, v] : b["error"].items()) inner.insert(k);
    std::set<std::string> const core{"message", "type", "code"}, with_param{"message", "type", "code", "param"},
        with_id{"message", "type", "code", "id"};
    if (outer == std::set<std::string>{"error", "id", "request_id"} && inner == with_param) return 'a';
    if (outer == std::set<std::string>{"error", "request_id"} && inner == with_param) return 'b';
    if (outer == std::set<std::string>{"error"} && inner == with_id) return 'c';
    if (outer == std::set<std::string>{"error"} && inner == core) return 'd';
    if (outer == std::set<std::string>{"error", "status"} && inner == core) return 'e';
    return '?';
}

bool starts_with_one_of(std::string const& text, std::set<std::string> const& beginnings) {
    for (auto const& b : beginnings)
        if (text.compare(0, b.size(), b) == 0) return true;
    return false;
}

TEST(dashscope_errors, every_failure_has_its_status_code_text_and_shape_in_both_dialects) {
    server s{one_model({})};
    for (auto const& e : table()) {
        SCOPED_TRACE(to_string(e.what));
        std::set<std::string> texts;
        std::set<char> shapes;
        for (int i = 0; i < 24; ++i) {
            auto const body = chat("x", 10, {{"simulate_error", to_string(e.what)}});
            auto const n = s.ask_native(body);
            auto const c = s.ask(body);
            for (auto const& r : {n, c}) {
                if (e.what == failure::serving_error) {
                    EXPECT_TRUE(r.status == 503 || r.status == 500);
                } else {
                    EXPECT_EQ(r.status, e.status);
                }
                EXPECT_TRUE(starts_with_one_of(r.message(), e.texts)) << r.text;
                EXPECT_EQ(r.header("content-type"), "application/json");
            }
            EXPECT_EQ(n.body.size(), 3u) << n.text;
            EXPECT_EQ(n.code(), e.native_code);
            EXPECT_EQ(n.body["request_id"], n.header("x-request-id"));
            EXPECT_EQ(n.message().find("For details"), std::string::npos);
            texts.insert(n.message());
            auto const shape = shape_of(c.body);
            shapes.insert(shape);
            EXPECT_EQ(c.code(), e.compatible_code);
            EXPECT_EQ(c.body["error"]["type"], e.compatible_code);
            if (shape == 'a' || shape == 'b') {
                EXPECT_TRUE(c.body["error"]["param"].is_null());
            }
            if (shape == 'a' || shape == 'b') {
                EXPECT_EQ(c.body["request_id"], c.header("x-request-id"));
            }
            if (shape == 'a') {
                EXPECT_EQ(c.body["id"], "chatcmpl-" + c.header("x-request-id"));
            }
            auto const suffix =
                e.anchor.empty()
                    ? std::string::npos
                    : c.message().find(" For details, see: https://help.aliyun.com/zh/model-studio/error-code#" +
                                       e.anchor);
            EXPECT_EQ(suffix == std::string::npos, e.anchor.empty()) << c.message();
        }
        EXPECT_EQ(std::string(shapes.begin(), shapes.end()), e.shapes);
        if (e.what == failure::rate_quota || e.what == failure::allocation_quota) {
            EXPECT_EQ(texts.size(), 2u);
        }
    }
    EXPECT_EQ(s.counted().admitted, 48u);  // the internal errors ran; nothing else cost anything
}

TEST(dashscope_errors, a_shape_can_be_asked_for) {
    for (auto const& [shape, letter] : {std::pair{error_shape::a, 'a'},
                                        {error_shape::b, 'b'},
                                        {error_shape::c, 'c'},
                                        {error_shape::d, 'd'},
                                        {error_shape::e, 'e'}}) {
        auto settings = one_model({.rps = 1});
        settings.shape = shape;
        settings.international = true;
        server s{settings};
        (void)s.ask(chat());
        auto const r = s.ask(chat());
        EXPECT_EQ(shape_of(r.body), letter);
        if (shape == error_shape::e) {
            EXPECT_EQ(r.body["status"], 429);
        }
        EXPECT_NE(r.message().find(
                      " For details, see: https://www.alibabacloud.com/help/en/model-studio/error-code#rate-limit"),
                  std::string::npos);
    }
}

TEST(dashscope_errors, the_order_of_keys_varies) {
    server s{one_model({.rps = 1})};
    (void)s.ask(chat());
    std::set<std::string> orders;
    for (int i = 0; i < 40; ++i) {
        std::string order;
        auto const body = nlohmann::ordered_json::parse(s.ask_native(chat()).text);
        for (auto const& [k, v] : body.items()) order += k + ' ';
        orders.insert(order);
    }
    EXPECT_EQ(orders.size(), 6u);
}

}  // namespace dashscope_errors_test
