// SPDX-License-Identifier: MIT
//
// Numbers as text for qwen_demo.
#pragma once

#include <weir/llm/quota.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace qwen::demo {

inline std::string grouped(std::uint64_t value) {
    std::string s = std::to_string(value);
    for (std::size_t i = s.size(); i > 3; i -= 3) s.insert(i - 3, ",");
    return s;
}

template <class... Values>
std::string format(char const* pattern, Values... values) {
    std::array<char, 256> text{};
    std::snprintf(text.data(), text.size(), pattern, values...);  // NOLINT: all patterns are literals
    return text.data();
}

inline std::string percent(double share) { return format("%.1f%%", 100 * share); }

/// Without decimals.
inline std::string rounded(double x) { return format("%.0f", x); }

inline std::string minutes(double seconds) {
    auto const s = static_cast<std::uint64_t>(std::llround(std::max(0.0, seconds)));
    return format("%llu:%02llu", static_cast<unsigned long long>(s / 60), static_cast<unsigned long long>(s % 60));
}

inline std::string to_text(weir::llm::quota const& q) {
    std::string text;
    auto const add = [&](std::optional<std::uint64_t> limit, char const* name) {
        if (limit) text += (text.empty() ? "" : ", ") + grouped(*limit) + " " + name;
    };
    add(q.rpm, "RPM");
    add(q.rps, "RPS");
    add(q.tpm, "TPM");
    add(q.tps, "TPS");
    return text.empty() ? "no limits" : text;
}

inline double in_seconds(std::chrono::nanoseconds d) { return std::chrono::duration<double>(d).count(); }

}  // namespace qwen::demo
