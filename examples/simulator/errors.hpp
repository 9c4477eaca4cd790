// SPDX-License-Identifier: MIT
//
// What the simulator answers when it does not answer: for each failure its status, codes, texts and the shapes of body
// it was seen in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "chance.hpp"

namespace qwen {

/// Everything that the simulator can answer besides 200. to_string gives the enumerator's name.
enum class failure {
    body_too_large,   ///< 413
    invalid_api_key,  ///< 401
    invalid_body,     ///< 400: no JSON
    model_not_found,  ///< 404
    arrearage,        ///< 400
    unpurchased,      ///< 403
    commodity_not_purchased,
    prepaid_overdue,
    postpaid_overdue,     ///< 429, never mended by waiting
    free_tier_only,       ///< 403
    free_quota_exceeded,  ///< 429, code of AllocationQuota, never mended by waiting
    plan_quota,           ///< 429, code of AllocationQuota, not before the date that it names
    plan_usage,           ///< 429, code of AllocationQuota, of a plan: after about an hour
    invalid_parameter,    ///< 400
    data_inspection,      ///< 400
    serving_error,        ///< 503 or 500: too many requests for the system
    model_unavailable,    ///< 503
    route_throttling,     ///< 429 Throttling
    concurrency,          ///< 429
    burst_rate,           ///< 429: requests grew too quickly
    rate_quota,           ///< 429: RPS, RPM
    allocation_quota,     ///< 429: TPS, TPM
    batch_throttling,     ///< 429, code of AllocationQuota: batch requests
    internal_error,       ///< 500, after the call ran
    invalid_url,          ///< 404
};
[[nodiscard]] std::string_view to_string(failure) noexcept;
[[nodiscard]] std::optional<failure> failure_named(std::string_view) noexcept;

/// The bodies of compatible-mode errors that were seen in the field. `mixed`: per code as seen, by seed where several
/// were.
enum class error_shape { mixed, a, b, c, d, e };

namespace simulated {

enum class dialect { native, compatible };

struct problem {
    failure what;
    std::string message{};  ///< replaces the table's text
    std::optional<std::int64_t> retry_after_s{};
};

struct error_style {
    dialect speaks = dialect::native;
    error_shape shape = error_shape::mixed;
    bool international = false;
    std::string_view request_id{};
};

struct error_answer {
    int status = 0;
    std::string code;  ///< native
    std::string body, content_type;
};

[[nodiscard]] error_answer render(problem const&, error_style const&, chance&);

/// The table's text, one of them by chance where there are two.
[[nodiscard]] std::string text_of(failure, chance&);

}  // namespace simulated
}  // namespace qwen
