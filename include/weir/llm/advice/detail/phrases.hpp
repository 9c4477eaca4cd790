// SPDX-License-Identifier: MIT
//
// Phrases that the comparison and the letter share. ASCII; paragraphs are wrapped at 100 columns.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../../../detail/number_text.hpp"
#include "../../quota.hpp"
#include "../advice.hpp"
#include "../simulation.hpp"

namespace weir::inline v0::llm::detail {

using weir::detail::decimal_text;
using weir::detail::duration_text;
using weir::detail::grouped;
using weir::detail::percent;

/// "600 RPM, 10 RPS, 1,000,000 TPM"
inline std::string short_text(quota const& q) {
    std::string s;
    auto const add = [&](std::optional<std::uint64_t> const& l, char const* name) {
        if (l) s += (s.empty() ? "" : ", ") + grouped(*l) + ' ' + name;
    };
    add(q.rpm, "RPM");
    add(q.rps, "RPS");
    add(q.tpm, "TPM");
    add(q.tps, "TPS");
    return s.empty() ? "no limits" : s;
}

inline bool all_equal(std::vector<quota> const& q) {
    return std::all_of(q.begin(), q.end(), [&](quota const& x) { return x == q.front(); });
}

/// The quotas of the first model's accounts: one for all, or each with its account's name.
inline std::string short_text(setup const& s, std::vector<quota> const& q) {
    if (all_equal(q)) return short_text(q.front());
    std::string text;
    for (std::size_t i = 0; i < q.size(); ++i) {
        text += (i == 0 ? "" : "; ") + s.models.front().accounts[i].name + ": " + short_text(q[i]);
    }
    return text;
}

[[gnu::__visibility__("hidden")]] inline constexpr std::array<char const*, constraints> short_names{
    "RPM", "RPS", "TPM", "TPS", "in flight", "answers", "idle"};

/// "RPS 98.2%, answers 1.8%": the shares that are not 0, largest first.
inline std::string shares_text(simulation_result const& r) {
    std::array<std::size_t, constraints> order{};
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return r.per_mille[a] > r.per_mille[b]; });
    std::string s;
    for (std::size_t const i : order) {
        if (r.per_mille[i] == 0) continue;
        s += (s.empty() ? "" : ", ") + std::string{short_names[i]} + ' ' + percent(r.per_mille[i]);
    }
    return s;
}

inline bool has_prices(simulation_result const& r) noexcept { return r.cost != 0; }

inline std::string calls_text(std::size_t n) { return grouped(n) + (n == 1 ? " call" : " calls"); }

/// The calls that can never be admitted, in a sentence; empty if there are none.
inline std::string never_text(simulation_result const& r) {
    if (r.never == 0) return {};
    return calls_text(r.never) + (r.never == 1 ? " is" : " are") +
           " larger than a limit and can never be admitted (the first is number " + grouped(r.first_never + 1) +
           "; the largest asks for " + grouped(r.largest_never) + " tokens).";
}

inline std::string goal_text(goal const& g) {
    std::string s;
    auto const add = [&](std::string const& part) { s += (s.empty() ? "" : ", and ") + part; };
    if (g.makespan) add("all calls are done within " + duration_text(*g.makespan));
    if (g.p99_wait) add("99 of 100 calls wait at most " + duration_text(*g.p99_wait));
    if (g.max_limited && *g.max_limited == 0U) {
        add(g.by == limit::none ? "no limit binds" : "no call waits for " + std::string{to_string(g.by)});
    } else if (g.max_limited) {
        add((g.by == limit::none ? "limits" : std::string{to_string(g.by)}) + " bind for at most " +
            percent(*g.max_limited) + " of the time");
    }
    return s;
}

/// Appends words to a text, wrapped, and ends the line.
class paragraph {
public:
    explicit paragraph(std::string& out) : out_{out} {}
    paragraph(paragraph const&) = delete;
    paragraph& operator=(paragraph const&) = delete;
    ~paragraph() { out_ += '\n'; }

    void add(std::string_view text) {
        while (!text.empty()) {
            auto const space = text.find(' ');
            std::string_view const word = text.substr(0, space);
            text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
            if (word.empty()) continue;
            if (width_ != 0 && width_ + 1 + word.size() > 100) {
                out_ += '\n';
                width_ = 0;
            }
            if (width_ != 0) {
                out_ += ' ';
                ++width_;
            }
            out_ += word;
            width_ += word.size();
        }
    }

private:
    std::string& out_;
    std::size_t width_ = 0;
};

}  // namespace weir::inline v0::llm::detail
