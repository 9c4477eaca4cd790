// SPDX-License-Identifier: MIT
//
// What to do about a quota that is too small for a batch: the remedies that a user of Qwen is told, rehearsed by weir::llm::advise, and the letter
// that asks the vendor for more.
#pragma once

#include <weir/llm/advice/advice.hpp>
#include <weir/llm/quota.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

/// Dollars for a million tokens.
struct listed_price {
    double input = 0, output = 0;
};

/// As once listed for Singapore, for the shortest prompts. Prices move: who decides by them states their own. Nothing for an unknown model.
[[nodiscard]] std::optional<listed_price> price_of(std::string_view model);

/// A model's limits in Singapore, RPS = RPM / 60; none for an unknown model.
[[nodiscard]] std::optional<weir::llm::quota> limits_of(std::string_view model);

struct advice_request {
    std::string vendor{};  ///< whom the letter is to
    std::string model;
    weir::llm::quota limits;
    weir::llm::quota_options options;
    std::uint64_t in_flight = 0;
    std::optional<listed_price> price{};
    double proxy_price = 0.88;             ///< of that price
    std::chrono::nanoseconds patience{0};  ///< before a call falls back to a lesser model
    std::optional<std::chrono::nanoseconds>
        within{};           ///< the goal; default: half of the time that it takes as it is, as far as answers allow
    bool recorded = false;  ///< the calls are those of a run
};

/// The comparison and the letter. Throws std::invalid_argument, as weir::llm::advise.
[[nodiscard]] std::string advice_report(std::vector<weir::llm::planned_call> const&, advice_request const&);

/// How long the calls take as they are, first wanted to last answered, in virtual time.
[[nodiscard]] std::chrono::nanoseconds rehearsed_time(std::vector<weir::llm::planned_call> const&,
                                                      advice_request const&);

}  // namespace qwen
