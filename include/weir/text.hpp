// SPDX-License-Identifier: MIT
//
// weir's values as text: to_string of errors, rates and decisions. For log lines; the limiters do not include it.
// ostream.hpp and format.hpp print the same texts.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "detail/number_text.hpp"
#include "detail/printable.hpp"
#include "detail/wide.hpp"
#include "error.hpp"
#include "limiter.hpp"
#include "rate.hpp"

namespace weir::inline v0::detail {

/// Every digit of a duration: "1 min 30 s", "3 ms 333 us".
inline std::string exact_duration_text(std::uint64_t nanoseconds) {
    struct unit {
        std::uint64_t length;
        char const* name;
    };
    constexpr unit units[] = {{86'400'000'000'000, " d"},
                              {3'600'000'000'000, " h"},
                              {60'000'000'000, " min"},
                              {1'000'000'000, " s"},
                              {1'000'000, " ms"},
                              {1'000, " us"},
                              {1, " ns"}};
    std::string text;
    for (auto const [length, name] : units) {
        if (nanoseconds < length) continue;
        if (!text.empty()) text += ' ';
        text += std::to_string(nanoseconds / length) + name;
        nanoseconds %= length;
    }
    return text.empty() ? "0 s" : text;
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

constexpr std::string_view to_string(errc c) noexcept {
    switch (c) {
        case errc::none: return "no error";
        case errc::invalid_argument: return "invalid argument";
        case errc::does_not_fit: return "does not fit";
        case errc::busy: return "busy";
        case errc::unsupported: return "unsupported";
    }
    return "unknown";
}

/// The message; "no error" without one.
inline std::string to_string(error const& e) { return e ? e.message() : std::string{to_string(errc::none)}; }

/// "100 per second", "1,000 per 1 min 30 s", "1 per 3.3 ns".
inline std::string to_string(rate const& r) {
    auto const [count, nanoseconds] = r.per<std::chrono::nanoseconds>();
    std::string s = detail::grouped(r.count());
    if (nanoseconds == 0) return s + " per a fraction of a nanosecond";
    // The period is r.count()·nanoseconds/count: exact where a nanosecond divides it, else rounded down.
    std::uint64_t const period = detail::mul_div_floor(r.count(), nanoseconds, count);
    constexpr std::uint64_t second = 1'000'000'000;
    if (period == second) return s + " per second";
    if (period == 60 * second) return s + " per minute";
    if (period == 3600 * second) return s + " per hour";
    if (period == 86'400 * second) return s + " per day";
    if (period > static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)()))
        return s + " per 292 years or more";
    return s + " per " + detail::exact_duration_text(period);
}

/// "granted, 19 left", "denied, retry after 0.12 s", "denied for good: more permits than the limiter can ever grant".
template <class D>
    requires decision<D>
std::string to_string(D const& d) {
    if (d.granted()) {
        if constexpr (std::is_same_v<decltype(d.remaining()), permits>) {
            return "granted, " + detail::grouped(d.remaining()) + " left";
        } else {
            return "granted";
        }
    }
    if (d.never()) return std::string{"denied for good: "} + d.error().message();
    return "denied, retry after " + detail::duration_text(std::chrono::ceil<std::chrono::nanoseconds>(d.retry_after()));
}

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

template <>
inline constexpr bool has_text<errc> = true;
template <>
inline constexpr bool has_text<error> = true;
template <>
inline constexpr bool has_text<rate> = true;
template <decision D>
inline constexpr bool has_text<D> = true;

}  // namespace weir::inline v0::detail
