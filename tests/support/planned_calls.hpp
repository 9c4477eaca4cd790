// SPDX-License-Identifier: MIT
//
// Planned calls and setups for the tests of llm/advice.
#pragma once

#include <weir/llm/advice/setup.hpp>
#include <weir/llm/advice/simulation.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace advice_test {

using weir::llm::planned_call;
using weir::llm::quota;
using weir::llm::setup;
using weir::llm::setup_model;
using weir::llm::simulation_result;
using weir::llm::token_price;
using weir::llm::tokens;

inline constexpr std::uint64_t max_count = std::numeric_limits<std::uint64_t>::max();

constexpr tokens io(std::uint64_t input, std::uint64_t output) { return {.input = input, .output = output}; }

inline std::vector<planned_call> at_once(std::size_t n, tokens used = io(1, 0),
                                         std::chrono::nanoseconds latency = std::chrono::nanoseconds{0}) {
    return {n, planned_call{std::chrono::nanoseconds{0}, used, used, latency}};
}

inline setup one_account(quota q, token_price price = {}) { return {.models = {{"large", {{"main", q, price}}}}}; }
inline setup_model fallback_model(quota q, token_price price = {}) { return {"small", {{"main", q, price}}}; }

inline std::uint64_t sum(simulation_result const& r) {
    std::uint64_t s = 0;
    for (auto const n : r.per_mille) s += n;
    return s;
}

}  // namespace advice_test
