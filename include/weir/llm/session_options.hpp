// SPDX-License-Identifier: MIT
//
// What a session does beside asking its chain: the options of its parts.
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
    std::uint32_t least = 10;
    std::uint32_t most = 100;
    std::chrono::nanoseconds recovery{std::chrono::seconds{45}};
};

/// What a session does beside asking the chain. What is absent is left out and costs nothing.
struct session_options {
    weir::backoff retry{};                             ///< of each call
    std::optional<retry_budget_options> budget{};      ///< of all calls together
    std::optional<ramp_options> ramp{};                ///< one for each account
    std::optional<adaptive_range> adaptive{};          ///< of each account's requests and tokens
    std::optional<concurrency_options> concurrency{};  ///< of each account
    /// Where the server reports what is left (OpenAI, Anthropic, gateways; DashScope does not): when it counts that. Strangers' use then lowers what
    /// an account is asked for, see header_sync.hpp.
    std::optional<report_time> feed{};
    jitter_estimator_options margin{};     ///< what is measured of each account's delays; read by margin_of
    token_weights weights{};               ///< of texts, for models whose answers were not seen yet
    usage_weights usage{};                 ///< of what answers report
    std::uint64_t default_output = 1024;   ///< held for the output of a call that does not say
    std::span<error_rule const> rules{};   ///< of one's own, before the dialect's; must outlive the session
    std::chrono::seconds server_queue{0};  ///< to ask of a server that can queue; 0: not
    std::chrono::nanoseconds timeout{
        std::chrono::minutes{5}};  ///< the client's, for one attempt; grows with the server's queue
    wait_queue_options line{};
    std::uint64_t seed = 1;  ///< of the jitter in retries
};

}  // namespace weir::inline v0::llm
