// SPDX-License-Identifier: MIT
//
// session_options: what a session does in addition to asking its chain.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>

#include "../backoff.hpp"
#include "../client/adaptive_concurrency.hpp"
#include "../client/jitter_estimator.hpp"
#include "../client/ramp.hpp"
#include "../client/retry_budget.hpp"
#include "../error.hpp"
#include "../wait/wait_queue.hpp"
#include "estimate.hpp"
#include "header_sync.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

/// How far an adaptive quota may move from the configured one, in per cent of it.
struct adaptive_range {
    std::uint32_t min_percent = 10;   ///< 1 to 100
    std::uint32_t max_percent = 100;  ///< 100 to 10,000
    std::chrono::nanoseconds recovery{std::chrono::seconds{45}};

    static constexpr error validate(adaptive_range const& a) noexcept {
        if (a.min_percent == 0 || a.min_percent > 100)
            return {"min_percent of an adaptive quota must be from 1 to 100"};
        if (a.max_percent < 100 || a.max_percent > 10'000)
            return {"max_percent of an adaptive quota must be from 100 to 10,000"};
        return {};
    }
};

/// An optional part that is absent costs nothing.
struct session_options {
    weir::backoff retry{};                             ///< of each call
    std::optional<retry_budget_options> budget{};      ///< of all calls together
    std::optional<ramp_options> ramp{};                ///< one for each account
    std::optional<adaptive_range> adaptive{};          ///< of each account's requests and tokens
    std::optional<concurrency_options> concurrency{};  ///< of each account
    /// Where the server reports what is left (OpenAI, Anthropic, gateways; DashScope does not): when it counts that.
    /// The use of strangers then lowers what an account is asked for, see header_sync.hpp.
    std::optional<report_time> sync_headers{};
    jitter_estimator_options jitter{};     ///< how each account's delays are measured; read by session::jitter
    token_weights weights{};               ///< of texts, for models whose answers were not seen yet
    usage_weights usage{};                 ///< of what answers report
    permit_count default_output = 1024;    ///< reserved for the output of a call that gives no max_tokens
    std::span<error_rule const> rules{};   ///< the user's own, before the dialect's; must outlive the session
    std::chrono::seconds server_queue{0};  ///< to ask of a server that can queue; 0: none
    /// The client's, for one attempt; grows with the server's queue.
    any_duration<> timeout{std::chrono::minutes{5}};
    wait_queue_options queue{};
    std::uint64_t seed = 1;  ///< of the jitter in retries
};

}  // namespace weir::inline v0::llm
