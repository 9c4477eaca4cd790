// SPDX-License-Identifier: MIT
#include "errors.hpp"

#include <nlohmann/json.hpp>
#include <array>
#include <cstring>
#include <iterator>
#include <utility>
#include <vector>

namespace qwen {

namespace {

using ordered_json = nlohmann::ordered_json;
using simulated::chance;

struct failure_row {
    failure what;
    char const* name;
    int status;
    char const *native, *compatible;   // codes
    std::array<char const*, 2> texts;  // of native mode, one of them by seed
    char const* compatible_text;       // where it differs
    char const* anchor;                // of "For details, see: ...", compatible mode only
    char const* shapes;                // compatible bodies that were seen for it
};

constexpr failure_row failures[] = {
    {failure::body_too_large, "body_too_large", 413, "", "", {"Payload Too Large", nullptr}, nullptr, nullptr, ""},
    {failure::invalid_api_key,
     "invalid_api_key",
     401,
     "InvalidApiKey",
     "invalid_api_key",
     {"Invalid API-key provided.", nullptr},
     "Incorrect API key provided.",
     "apikey-error",
     "abcd"},
    {failure::invalid_body,
     "invalid_body",
     400,
     "InvalidParameter",
     "invalid_parameter_error",
     {"Required body invalid, please check the request body format.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::model_not_found,
     "model_not_found",
     404,
     "ModelNotFound",
     "model_not_found",
     {"Model not exist.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::arrearage,
     "arrearage",
     400,
     "Arrearage",
     "Arrearage",
     {"Access denied, please make sure your account is in good standing.", nullptr},
     nullptr,
     "overdue-payment",
     "a"},
    {failure::unpurchased,
     "unpurchased",
     403,
     "AccessDenied.Unpurchased",
     "AccessDenied.Unpurchased",
     {"Access to model denied. Please make sure you are eligible for using the model.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::commodity_not_purchased,
     "commodity_not_purchased",
     429,
     "CommodityNotPurchased",
     "CommodityNotPurchased",
     {"Commodity has not purchased yet.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::prepaid_overdue,
     "prepaid_overdue",
     429,
     "PrepaidBillOverdue",
     "PrepaidBillOverdue",
     {"The prepaid bill is overdue.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::postpaid_overdue,
     "postpaid_overdue",
     429,
     "PostpaidBillOverdue",
     "PostpaidBillOverdue",
     {"The postpaid bill is overdue.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::free_tier_only,
     "free_tier_only",
     403,
     "AllocationQuota.FreeTierOnly",
     "AllocationQuota.FreeTierOnly",
     {"The free tier of the model has been exhausted. If you wish to continue access the model on a paid basis, please "
      "disable the "
      "\"use free tier only\" mode in the management console.",
      nullptr},
     nullptr,
     nullptr,
     "a"},
    {failure::free_quota_exceeded,
     "free_quota_exceeded",
     429,
     "Throttling.AllocationQuota",
     "insufficient_quota",
     {"Free allocated quota exceeded.", nullptr},
     nullptr,
     nullptr,
     "bc"},
    {failure::invalid_parameter,
     "invalid_parameter",
     400,
     "InvalidParameter",
     "invalid_parameter_error",
     {"Required parameter(s) missing or invalid, please check the request parameters.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::data_inspection,
     "data_inspection",
     400,
     "DataInspectionFailed",
     "data_inspection_failed",
     {"Input or output data may contain inappropriate content.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::serving_error,
     "serving_error",
     503,
     "ModelServingError",
     "ModelServingError",
     {"Too many requests. Your requests are being throttled due to system capacity limits. Please try again later.",
      nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::model_unavailable,
     "model_unavailable",
     503,
     "ModelUnavailable",
     "ModelUnavailable",
     {"Model is unavailable, please try again later.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::route_throttling,
     "route_throttling",
     429,
     "Throttling",
     "Throttling",
     {"Requests throttling triggered.", "Too many requests in route. Please try again later."},
     nullptr,
     nullptr,
     "abcd"},
    {failure::concurrency,
     "concurrency",
     429,
     "Throttling.Concurrency",
     "Throttling.Concurrency",
     {"concurrency allocated quota exceeded", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::rate_quota,
     "rate_quota",
     429,
     "Throttling.RateQuota",
     "limit_requests",
     {"Requests rate limit exceeded, please try again later.", "You exceeded your current requests list."},
     nullptr,
     "rate-limit",
     "d"},
    {failure::allocation_quota,
     "allocation_quota",
     429,
     "Throttling.AllocationQuota",
     "insufficient_quota",
     {"Allocated quota exceeded, please increase your quota limit.",
      "You exceeded your current quota, please check your plan and billing details."},
     nullptr,
     "token-limit",
     "bc"},
    {failure::plan_quota,
     "plan_quota",
     429,
     "Throttling.AllocationQuota",
     "insufficient_quota",
     {"month allocated quota exceeded", nullptr},
     nullptr,
     nullptr,
     "bc"},
    {failure::plan_usage,
     "plan_usage",
     429,
     "Throttling.AllocationQuota",
     "insufficient_quota",
     {"usage allocated quota exceeded. please try again later.", nullptr},
     nullptr,
     nullptr,
     "bc"},
    {failure::batch_throttling,
     "batch_throttling",
     429,
     "Throttling.AllocationQuota",
     "insufficient_quota",
     {"Too many requests. Batch requests are being throttled due to system capacity limits. Please try again later.",
      nullptr},
     nullptr,
     nullptr,
     "bc"},
    {failure::burst_rate,
     "burst_rate",
     429,
     "Throttling.BurstRate",
     "limit_burst_rate",
     {"Request rate increased too quickly. To ensure system stability, please adjust your client logic to scale "
      "requests more smoothly over time.",
      nullptr},
     nullptr,
     "rate-limit",
     "d"},
    {failure::internal_error,
     "internal_error",
     500,
     "InternalError",
     "internal_error",
     {"An internal error has occured, please try again later or contact service support.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
    {failure::invalid_url,
     "invalid_url",
     404,
     "InvalidURL",
     "InvalidURL",
     {"The request URL is invalid.", nullptr},
     nullptr,
     nullptr,
     "abcd"},
};

failure_row const& row_of(failure f) {
    for (auto const& r : failures)
        if (r.what == f) return r;
    return failures[std::size(failures) - 1];
}

ordered_json shuffled(std::vector<std::pair<std::string, ordered_json>> members, chance& rng) {
    for (auto i = members.size(); i > 1; --i) std::swap(members[i - 1], members[rng.below(i)]);
    ordered_json out = ordered_json::object();
    for (auto& [k, v] : members) out[k] = std::move(v);
    return out;
}

char shape_letter(error_shape s, char const* seen, chance& rng) {
    switch (s) {
        case error_shape::a: return 'a';
        case error_shape::b: return 'b';
        case error_shape::c: return 'c';
        case error_shape::d: return 'd';
        case error_shape::e: return 'e';
        case error_shape::mixed: break;
    }
    return seen[rng.below(std::strlen(seen))];
}

}  // namespace

std::string_view to_string(failure f) noexcept {
    for (auto const& r : failures)
        if (r.what == f) return r.name;
    return "";
}

std::optional<failure> failure_named(std::string_view name) noexcept {
    for (auto const& r : failures)
        if (r.name == name) return r.what;
    return std::nullopt;
}

namespace simulated {

std::string text_of(failure what, chance& rng) {
    auto const& row = row_of(what);
    return row.texts[1] != nullptr && rng.below(2) == 1 ? row.texts[1] : row.texts[0];
}

error_answer render(problem const& p, error_style const& style, chance& rng) {
    auto const& row = row_of(p.what);
    error_answer out{row.status, row.native, {}, "application/json"};
    if (p.what == failure::serving_error && rng.below(2) == 0) out.status = 500;
    if (p.what == failure::body_too_large) {
        out.body = row.texts[0];
        out.content_type = "text/plain";
        return out;
    }
    std::string const id{style.request_id};
    auto message = p.message.empty() ? text_of(p.what, rng) : p.message;
    if (style.speaks == dialect::native) {
        out.body = shuffled({{"code", row.native}, {"message", message}, {"request_id", id}}, rng).dump();
        return out;
    }
    if (p.message.empty() && row.compatible_text != nullptr) message = row.compatible_text;
    if (row.anchor != nullptr) {
        message += " For details, see: https://";
        message += style.international ? "www.alibabacloud.com/help/en" : "help.aliyun.com/zh";
        message += "/model-studio/error-code#";
        message += row.anchor;
    }
    auto const shape = shape_letter(style.shape, row.shapes, rng);
    std::vector<std::pair<std::string, ordered_json>> error{
        {"message", message}, {"type", row.compatible}, {"code", row.compatible}};
    if (shape == 'a' || shape == 'b') error.emplace_back("param", nullptr);
    if (shape == 'c') error.emplace_back("id", id);
    std::vector<std::pair<std::string, ordered_json>> body{{"error", shuffled(std::move(error), rng)}};
    if (shape == 'a') body.emplace_back("id", "chatcmpl-" + id);
    if (shape == 'a' || shape == 'b') body.emplace_back("request_id", id);
    if (shape == 'e') body.emplace_back("status", out.status);
    out.body = shuffled(std::move(body), rng).dump();
    return out;
}

}  // namespace simulated
}  // namespace qwen
