// SPDX-License-Identifier: MIT
//
// The options of qwen_demo.
#pragma once

#include <weir/llm/dialect.hpp>
#include <weir/llm/quota.hpp>
#include <weir/llm/quota_limiter.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "../simulator/simulator.hpp"

namespace qwen::demo {

inline constexpr int exit_failed = 1, exit_usage = 2, exit_interrupted = 130;
inline constexpr std::chrono::seconds server_timeout{300};  // Qwen ends a call after this time, with what it has

struct usage_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

enum class advice_when { none, only, before, after };

struct settings {
    std::string batch, out, errors, svg, base_url, key, model, scenario;
    bool resume = false, compare = false, verbose = false, sample = false;
    std::size_t first = 0, in_flight = 1000;
    std::optional<std::uint64_t> rpm, rps, tpm, tps;
    std::chrono::duration<double, std::milli> jitter{10};
    weir::llm::accounting accounting = weir::llm::accounting::any;
    qwen::token_mode token_mode = qwen::token_mode::actual;
    weir::llm::dialect dialect = weir::llm::dialect::dashscope;
    std::uint64_t max_tokens = 1024, seed = 1;
    std::optional<double> price_in, price_out;
    advice_when advice = advice_when::none;
    std::optional<std::chrono::duration<double>> advice_within;
    std::chrono::duration<double> patience{0};
    double expect = 60, proxy_price = 0.88;
    std::int64_t speed = 0;
    qwen::latency_model latency;
    std::chrono::microseconds spin{1500};
};

/// Prints the help and exits for --help. Throws usage_error.
settings read_arguments(int count, char** arguments);

/// The limits of the model with those of the options on top. RPS is enforced, since the vendor says that it may be.
/// Throws usage_error if nothing is known of the model.
weir::llm::quota quota_of(settings const& s, std::string const& model);

}  // namespace qwen::demo
