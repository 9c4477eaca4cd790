// SPDX-License-Identifier: MIT
//
// What can go wrong between a client and Qwen, one scenario each, over real HTTP against a simulator that makes it go
// wrong. A scenario says what weir promises there, and the run says whether it held.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace qwen {

struct scenario_options {
    std::int64_t speed = 10;                                         ///< time passes so many times as fast
    std::chrono::nanoseconds jitter{std::chrono::milliseconds{15}};  ///< J, real time
    std::uint64_t seed = 1;
    bool verbose = false;  ///< a line for each attempt that failed
};

/// Something that was promised, and whether it was kept.
struct claim {
    std::string text;
    bool held = false;
};

/// What came of the clients of a scenario, all together. Times are of the server's clock.
struct scenario_result {
    std::size_t calls = 0, answered = 0, failed = 0, attempts = 0;
    std::map<std::string, std::size_t> refusals;     ///< by what weir took them for
    std::map<std::string, std::size_t> answered_by;  ///< "model at account"
    std::map<std::string, std::size_t> failures;     ///< by the reason that reached the user
    double seconds = 0;                              ///< first send to last answer
    std::string measured;                            ///< the scenario's own figure, in words
    double spread_ms = 0;                            ///< of (arrival - stamp), real time
    std::vector<claim> claims;
    [[nodiscard]] std::size_t refused() const;
    [[nodiscard]] bool held() const;
};

struct scenario {
    std::string_view name, summary;
    scenario_result (*run)(scenario_options const&);
};

/// All that there are.
[[nodiscard]] std::vector<scenario> const& scenarios();
/// For people, several lines.
[[nodiscard]] std::string to_text(scenario const&, scenario_result const&);

}  // namespace qwen
