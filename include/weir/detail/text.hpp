// SPDX-License-Identifier: MIT
//
// Small readers of untrusted text: ASCII only, constexpr, no locale, no allocation.
#pragma once

#include "cpp20.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace weir::inline v0::detail {

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

constexpr std::string_view trim(std::string_view s) noexcept {
    constexpr std::string_view blank = " \t\r\n";
    auto const first = s.find_first_not_of(blank);
    if (first == std::string_view::npos) return {};
    return s.substr(first, s.find_last_not_of(blank) - first + 1);
}

constexpr bool same_ignoring_case(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (lower(a[i]) != lower(b[i])) return false;
    }
    return true;
}

/// Where `pattern` begins in `s`, ignoring case; npos if it does not occur.
constexpr std::size_t find_ignoring_case(std::string_view s, std::string_view pattern, std::size_t from = 0) noexcept {
    for (; from + pattern.size() <= s.size(); ++from) {
        if (same_ignoring_case(s.substr(from, pattern.size()), pattern)) return from;
    }
    return std::string_view::npos;
}
constexpr bool contains_ignoring_case(std::string_view s, std::string_view pattern) noexcept {
    return find_ignoring_case(s, pattern) != std::string_view::npos;
}

/// Consumes the digits at the start of `s`: their number, saturated; empty if there is no digit.
constexpr std::optional<std::uint64_t> take_number(std::string_view& s) noexcept {
    constexpr std::uint64_t max = (std::numeric_limits<std::uint64_t>::max)();
    if (s.empty() || !is_digit(s.front())) return std::nullopt;
    std::uint64_t n = 0;
    while (!s.empty() && is_digit(s.front())) {
        auto const d = static_cast<std::uint64_t>(s.front() - '0');
        n = n > (max - d) / 10 ? max : n * 10 + d;
        s.remove_prefix(1);
    }
    return n;
}

/// All of `s` as a number; empty if it has anything but digits.
constexpr std::optional<std::uint64_t> number(std::string_view s) noexcept {
    auto const n = take_number(s);
    return s.empty() ? n : std::nullopt;
}

/// Consumes `prefix` at the start of `s`; false if `s` does not start with it.
constexpr bool take(std::string_view& s, std::string_view prefix) noexcept {
    if (s.substr(0, prefix.size()) != prefix) return false;
    s.remove_prefix(prefix.size());
    return true;
}

/// Consumes exactly `digits` digits at the start of `s`.
constexpr std::optional<unsigned> take_digits(std::string_view& s, unsigned digits) noexcept {
    if (s.size() < digits) return std::nullopt;
    std::string_view head = s.substr(0, digits);
    auto const n = number(head);
    if (!n) return std::nullopt;
    s.remove_prefix(digits);
    return static_cast<unsigned>(*n);
}

}  // namespace weir::inline v0::detail
