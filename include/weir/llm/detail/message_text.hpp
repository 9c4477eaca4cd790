// SPDX-License-Identifier: MIT
//
// Times inside error messages: "please try again in 20s", "the quota will reset at 10-15 16:00:00 UTC".
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "../../detail/text.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm::detail {

/// "try again in 20s", "retry in 56.42777108s", "retry after 6 seconds": the duration that follows the words.
constexpr std::optional<std::chrono::nanoseconds> wait_in_words(std::string_view message) noexcept {
    constexpr std::string_view words[] = {"try again in ", "retry in ", "retry after ", "try again after "};
    for (auto const w : words) {
        auto const at = find_ignoring_case(message, w);
        if (at == std::string_view::npos) continue;
        std::string_view rest = message.substr(at + w.size());
        if (std::string_view after = rest; auto const d = take_duration(after)) return d;
        auto const n = take_decimal(rest);
        if (!n) continue;
        rest = trim(rest);
        struct unit {
            std::string_view name;
            std::uint64_t nanoseconds;
        };
        constexpr unit units[] = {{"millisecond", 1'000'000},
                                  {"second", 1'000'000'000},
                                  {"minute", 60'000'000'000},
                                  {"hour", 3'600'000'000'000},
                                  {"day", 86'400'000'000'000}};
        for (auto const& u : units) {
            if (same_ignoring_case(rest.substr(0, u.name.size()), u.name)) {
                return nanoseconds_of(n->whole, n->billionths, u.nanoseconds);
            }
        }
    }
    return std::nullopt;
}

/// "… will reset at 10-15 16:00:00 UTC": the next such time; empty if the message has none.
constexpr std::optional<std::chrono::sys_seconds> reset_in_words(std::string_view message,
                                                                 std::chrono::sys_seconds now) noexcept {
    constexpr std::string_view words = "reset at ";
    auto const at = find_ignoring_case(message, words);
    if (at == std::string_view::npos) return std::nullopt;
    std::string_view s = message.substr(at + words.size());
    if (auto const full = parse_rfc3339(s.substr(0, 20))) return full;
    auto const month = take_digits(s, 2);
    if (!month || !take(s, "-")) return std::nullopt;
    auto const day = take_digits(s, 2);
    if (!day || !take(s, " ")) return std::nullopt;
    auto const time = take_time_of_day(s);
    if (!time) return std::nullopt;
    int const year = static_cast<int>(std::chrono::year_month_day{std::chrono::floor<std::chrono::days>(now)}.year());
    for (int y = year; y < year + 9; ++y) {  // the next 29 February may be eight years ahead
        auto const t = moment(y, *month, *day, *time);
        if (t && *t >= now) return t;
    }
    return std::nullopt;
}

}  // namespace weir::inline v0::llm::detail
