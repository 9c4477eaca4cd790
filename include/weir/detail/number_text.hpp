// SPDX-License-Identifier: MIT
//
// Numbers and durations as text for people, computed from integers, independent of the locale.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "wide.hpp"

namespace weir::inline v0::detail {

/// 1,234,567
inline std::string grouped(std::uint64_t n) {
    std::string s = std::to_string(n);
    for (std::size_t i = s.size(); i > 3; i -= 3) s.insert(i - 3, 1, ',');
    return s;
}

/// n / 10^decimals, exactly: 1,500 by 3 is "1.5", or "1.50" with min_digits = 2.
inline std::string decimal_text(std::uint64_t n, unsigned decimals, unsigned min_digits = 0) {
    std::string digits = std::to_string(n);
    if (digits.size() <= decimals) digits.insert(0, decimals + 1 - digits.size(), '0');
    std::string fraction = digits.substr(digits.size() - decimals);
    digits.erase(digits.size() - decimals);
    while (fraction.size() > min_digits && fraction.back() == '0') fraction.pop_back();
    if (fraction.size() < min_digits) fraction.append(min_digits - fraction.size(), '0');
    for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, 1, ',');
    return fraction.empty() ? digits : digits + '.' + fraction;
}

/// 984 is "98.4%".
inline std::string percent(std::uint64_t per_mille) { return decimal_text(per_mille, 1, 1) + '%'; }

/// "0 s", "0.35 s", "12.3 s", "3 min 21 s", "2 h 5 min", "3 d 4 h": about three digits, rounded to nearest. A negative
/// duration is "0 s".
inline std::string duration_text(std::chrono::nanoseconds d) {
    if (d.count() <= 0) return "0 s";
    auto const ns = static_cast<std::uint64_t>(d.count());
    auto const in = [ns](std::uint64_t unit) { return ns / unit + (ns % unit >= unit - unit / 2 ? 1 : 0); };
    constexpr std::uint64_t ms = 1'000'000;
    if (std::uint64_t const n = in(ms); n < 10) return n == 0 ? "below 1 ms" : std::to_string(n) + " ms";
    if (std::uint64_t const n = in(10 * ms); n < 1000) return decimal_text(n, 2) + " s";
    if (std::uint64_t const n = in(100 * ms); n < 600) return decimal_text(n, 1) + " s";
    auto const pair = [](std::uint64_t n, std::uint64_t per, char const* unit, char const* unit_below) {
        return std::to_string(n / per) + unit +
               (n % per == 0 ? std::string{} : ' ' + std::to_string(n % per) + unit_below);
    };
    if (std::uint64_t const n = in(1000 * ms); n < 3600) return pair(n, 60, " min", " s");
    if (std::uint64_t const n = in(60'000 * ms); n < 1440) return pair(n, 60, " h", " min");
    return pair(in(3'600'000 * ms), 24, " d", " h");
}

}  // namespace weir::inline v0::detail
