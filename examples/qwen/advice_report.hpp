// SPDX-License-Identifier: MIT
//
// What to do about a quota that is too small for a batch: the usual remedies, simulated by weir::llm::advise, and a
// letter that asks the vendor for more.
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

/// In dollars per million tokens.
struct listed_price {
    double input = 0, output = 0;
};

/// The price once listed for Singapore and the shortest prompts. Prices change: pass your own to decide by them. Empty
/// for an unknown model.
[[nodiscard]] std::optional<listed_price> price_of(std::string_view model);

/// The limits of a model in Singapore, with RPS = RPM / 60; empty for an unknown model.
[[nodiscard]] std::optional<weir::llm::quota> limits_of(std::string_view model);

struct advice_request {
    std::string vendor{};  ///< the addressee of the letter
    std::string model;
    weir::llm::quota limits;
    weir::llm::quota_options options;
    std::uint64_t in_flight = 0;
    std::optional<listed_price> price{};
    double proxy_price = 0.88;             ///< times that price
    std::chrono::nanoseconds patience{0};  ///< how long a call waits before it falls back
    std::optional<std::chrono::nanoseconds>
        within{};           ///< the goal; default: half of the time that it takes as it is, as far as answers allow
    bool recorded = false;  ///< the calls are those of a run
};

/// The comparison and the letter. Throws std::invalid_argument, as weir::llm::advise.
[[nodiscard]] std::string advice_report(std::vector<weir::llm::planned_call> const&, advice_request const&);

/// How long the calls take as they are, from the first wanted to the last answered.
[[nodiscard]] std::chrono::nanoseconds simulated_time(std::vector<weir::llm::planned_call> const&,
                                                      advice_request const&);

}  // namespace qwen
