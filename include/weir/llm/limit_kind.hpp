// SPDX-License-Identifier: MIT
//
// limit_kind: what denied a call, or what it waits for. Programs branch on it; to_string is for people.
#pragma once

#include <string_view>

#include "quota.hpp"

namespace weir::inline v0::llm {

/// The first five are those of `limit`, with the same values.
enum class limit_kind : unsigned char {
    none,            ///< nothing: it was granted
    rpm,             ///< requests per minute
    rps,             ///< requests per second
    tpm,             ///< tokens per minute
    tps,             ///< tokens per second
    concurrency,     ///< calls in flight (adaptive_concurrency)
    adaptive_rate,   ///< the rate that the server was found to bear
    ramp,            ///< growth of the request rate
    cooldown,        ///< the account is on cooldown
    model_cooldown,  ///< the model is on cooldown
    price,           ///< every account costs more than the call may
    model_limit,     ///< the request is larger than the model's limit
    backoff,         ///< the call's own pause after a failure
    queue,           ///< other calls wait ahead of it
    other,           ///< a condition of the caller's own
};

constexpr limit_kind kind_of(limit l) noexcept { return static_cast<limit_kind>(l); }

constexpr std::string_view to_string(limit_kind k) noexcept {
    switch (k) {
        case limit_kind::none: return "none";
        case limit_kind::rpm:
        case limit_kind::rps:
        case limit_kind::tpm:
        case limit_kind::tps: return to_string(static_cast<limit>(k));
        case limit_kind::concurrency: return "concurrency";
        case limit_kind::adaptive_rate: return "adaptive rate";
        case limit_kind::ramp: return "ramp";
        case limit_kind::cooldown: return "the account is on cooldown";
        case limit_kind::model_cooldown: return "the model is on cooldown";
        case limit_kind::price: return "price";
        case limit_kind::model_limit: return "too large for the model";
        case limit_kind::backoff: return "backoff";
        case limit_kind::queue: return "others wait ahead of it";
        case limit_kind::other: return "a condition of the caller's";
    }
    return "none";
}

}  // namespace weir::inline v0::llm
