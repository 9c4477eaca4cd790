// SPDX-License-Identifier: MIT
//
// Small readers of text from strangers: ASCII only, constexpr, no locale, no allocation.
#pragma once

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

/// Where `what` begins in `s`, ignoring case; npos where it does not.
constexpr std::size_t find_ignoring_case(std::string_view s, std::string_view what, std::size_t from = 0) noexcept {
    for (; from + what.size() <= s.size(); ++from) {
        if (same_ignoring_case(s.substr(from, what.size()), what)) return from;
    }
    return std::string_view::npos;
}
constexpr bool contains_ignoring_case(std::string_view s, std::string_view what) noexcept {
    return find_ignoring_case(s, what) != std::string_view::npos;
}

/// Takes digits off the front of `s`: the number, at most the greatest that there is; nothing where there is no digit.
constexpr std::optional<std::uint64_t> take_number(std::string_view& s) noexcept {
    constexpr std::uint64_t most = (std::numeric_limits<std::uint64_t>::max)();
    if (s.empty() || !is_digit(s.front())) return std::nullopt;
    std::uint64_t n = 0;
    while (!s.empty() && is_digit(s.front())) {
        auto const d = static_cast<std::uint64_t>(s.front() - '0');
        n = n > (most - d) / 10 ? most : n * 10 + d;
        s.remove_prefix(1);
    }
    return n;
}

/// A whole text of digits; nothing where it has anything else.
constexpr std::optional<std::uint64_t> number(std::string_view s) noexcept {
    auto const n = take_number(s);
    return s.empty() ? n : std::nullopt;
}

/// Takes `what` off the front of `s` if it is there.
constexpr bool take(std::string_view& s, std::string_view what) noexcept {
    if (s.substr(0, what.size()) != what) return false;
    s.remove_prefix(what.size());
    return true;
}

/// Takes exactly `digits` digits off the front of `s`.
constexpr std::optional<unsigned> take_digits(std::string_view& s, unsigned digits) noexcept {
    if (s.size() < digits) return std::nullopt;
    std::string_view head = s.substr(0, digits);
    auto const n = number(head);
    if (!n) return std::nullopt;
    s.remove_prefix(digits);
    return static_cast<unsigned>(*n);
}

}  // namespace weir::inline v0::detail
