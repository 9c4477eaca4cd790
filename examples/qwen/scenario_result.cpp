// SPDX-License-Identifier: MIT
// What came of a scenario: sums over it, and its text.
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include "demo_text.hpp"
#include "scenarios.hpp"

namespace qwen {

std::size_t scenario_result::refused() const {
    std::size_t n = 0;
    for (auto const& [cause, count] : refusals) n += count;
    return n;
}

bool scenario_result::held() const {
    return std::all_of(claims.begin(), claims.end(), [](claim const& c) { return c.held; });
}

std::string to_text(scenario const& s, scenario_result const& r) {
    std::string text(s.name);
    text += ": " + std::string(s.summary) + "\n";
    auto const row = [&](std::string_view name, std::string const& value) {
        text += "  " + std::string(name) + std::string(name.size() < 12 ? 12 - name.size() : 1, ' ') + value + "\n";
    };
    row("calls", std::to_string(r.calls) + ", " + std::to_string(r.answered) + " answered, " +
                     std::to_string(r.failed) + " failed, by " + std::to_string(r.attempts) + " requests in " +
                     demo::rounded(r.seconds) + " s of the server's");
    for (auto const& [why, n] : r.failures) row("failed", std::to_string(n) + ": " + why);
    for (auto const& [cause, n] : r.refusals) row("refused", std::to_string(n) + " (" + cause + ")");
    row("measured", r.measured);
    for (auto const& c : r.claims) row(c.held ? "held" : "NOT HELD", c.text);
    return text;
}

}  // namespace qwen
