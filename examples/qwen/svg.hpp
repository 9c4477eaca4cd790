// SPDX-License-Identifier: MIT
//
// The picture of a run: requests and tokens in every sliding window, against the limits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qwen {

/// One call that was sent, in seconds since any common origin. Its input counts from `sent`, its output from `done`.
struct sent_call {
    double sent = 0, done = 0;
    std::uint64_t input = 0, output = 0;
    bool refused = false;  ///< by a 429: marked, and counts in no window
};

struct picture_limits {
    std::optional<std::uint64_t> rpm{}, rps{}, tpm{}, tps{};
};

/// A panel for every limit, one above the other. Each shows, for every instant, what lay in the window that ended
/// there; where a column of the picture covers many instants, the greatest. Readable on light and dark backgrounds
/// alike.
[[nodiscard]] std::string draw_windows(std::string const& title, std::vector<sent_call> const&, picture_limits const&);

}  // namespace qwen
