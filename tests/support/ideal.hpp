// SPDX-License-Identifier: MIT
//
// What a run is measured against: the best client without foresight. It sends the same batch in file order, each
// request at the first instant at which every limit has room for it; it knows that instant exactly (a sliding log of
// every permit), its requests arrive when they are sent, and each answer takes as long as it took in the run. It cannot
// know how long an answer will be: the output counts at its bound until the reply, and at what was used for a window
// after it. This file includes nothing of weir.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace qwen {

using seconds = double;

struct ideal_limits {
    std::optional<std::uint64_t> rpm{}, rps{}, tpm{}, tps{};
};

struct ideal_call {
    std::uint64_t input = 0, output = 0;  ///< tokens used
    std::uint64_t output_bound = 0;       ///< max_tokens
    seconds latency = 0;                  ///< from arrival to the end of the reply
};

/// When each call arrives, in seconds after the first one. A call above a limit's size goes when that limit's window is
/// empty. O(n log n).
[[nodiscard]] std::vector<seconds> ideal_arrivals(std::vector<ideal_call> const&, ideal_limits const&);

/// From the first send to the last arrival: the last of them, or 0 for no calls.
[[nodiscard]] seconds ideal_time(std::vector<ideal_call> const&, ideal_limits const&);

}  // namespace qwen
