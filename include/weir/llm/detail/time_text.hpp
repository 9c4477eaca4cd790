// SPDX-License-Identifier: MIT
//
// Readers of times and durations as servers write them. The text is untrusted: malformed text reads as empty, a value
// too large for its type saturates (a wait must not wrap to zero), and fractions are rounded up.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "../../detail/saturating.hpp"
#include "../../detail/text.hpp"
#include "../../detail/wide.hpp"

namespace weir::inline v0::llm::detail {

using weir::detail::contains_ignoring_case;
using weir::detail::find_ignoring_case;
using weir::detail::is_digit;
using weir::detail::number;
using weir::detail::same_ignoring_case;
using weir::detail::take;
using weir::detail::take_digits;
using weir::detail::take_number;
using weir::detail::trim;

/// whole·unit + ⌈fraction·unit/10^9⌉ nanoseconds, saturated.
constexpr std::chrono::nanoseconds nanoseconds_of(std::uint64_t whole, std::uint64_t fraction,
                                                  std::uint64_t unit) noexcept {
    constexpr auto max = static_cast<std::uint64_t>((std::numeric_limits<std::chrono::nanoseconds::rep>::max)());
    std::uint64_t n{};
    if (__builtin_mul_overflow(whole, unit, &n) ||
        __builtin_add_overflow(n, weir::detail::mul_div_ceil(fraction, unit, 1'000'000'000), &n) || n > max) {
        n = max;
    }
    return std::chrono::nanoseconds{static_cast<std::chrono::nanoseconds::rep>(n)};
}

/// a + b, saturated; neither is negative.
constexpr std::chrono::nanoseconds plus(std::chrono::nanoseconds a, std::chrono::nanoseconds b) noexcept {
    return std::chrono::nanoseconds{weir::detail::saturating_add(a.count(), b.count())};
}

constexpr void keep_longest(std::optional<std::chrono::nanoseconds>& longest,
                            std::optional<std::chrono::nanoseconds> d) noexcept {
    if (d && (!longest || *d > *longest)) longest = d;
}

struct decimal {
    std::uint64_t whole;
    std::uint64_t billionths;  // the fraction, rounded up: at most 10^9
};

/// Consumes "12", "12.5" or ".5" at the start of `s`.
constexpr std::optional<decimal> take_decimal(std::string_view& s) noexcept {
    std::string_view rest = s;
    auto const whole = take_number(rest);
    decimal d{whole.value_or(0), 0};
    bool fraction = false;
    if (rest.size() > 1 && rest[0] == '.' && is_digit(rest[1])) {
        rest.remove_prefix(1);
        fraction = true;
        bool more = false;
        std::uint64_t unit = 100'000'000;
        for (; !rest.empty() && is_digit(rest.front()); rest.remove_prefix(1)) {
            auto const digit = static_cast<std::uint64_t>(rest.front() - '0');
            d.billionths += digit * unit;
            more = more || (unit == 0 && digit != 0);
            unit /= 10;
        }
        d.billionths += more ? 1 : 0;
    }
    if (!whole && !fraction) return std::nullopt;
    s = rest;
    return d;
}

constexpr std::optional<unsigned> month_of(std::string_view name) noexcept {
    constexpr std::string_view names = "JanFebMarAprMayJunJulAugSepOctNovDec";
    for (unsigned m = 0; m < 12; ++m) {
        if (names.substr(m * 3, 3) == name) return m + 1;
    }
    return std::nullopt;
}

struct time_of_day {
    unsigned hour, minute, second;
};
constexpr std::optional<time_of_day> take_time_of_day(std::string_view& s) noexcept {
    std::string_view rest = s;
    auto const h = take_digits(rest, 2);
    if (!h || !take(rest, ":")) return std::nullopt;
    auto const m = take_digits(rest, 2);
    if (!m || !take(rest, ":")) return std::nullopt;
    auto const sec = take_digits(rest, 2);
    if (!sec || *h > 23 || *m > 59 || *sec > 60) return std::nullopt;
    s = rest;
    return time_of_day{*h, *m, *sec};
}

constexpr std::optional<std::chrono::sys_seconds> moment(int year, unsigned month, unsigned day,
                                                         time_of_day t) noexcept {
    std::chrono::year_month_day const d{std::chrono::year{year}, std::chrono::month{month}, std::chrono::day{day}};
    if (!d.ok()) return std::nullopt;
    return std::chrono::sys_days{d} + std::chrono::hours{t.hour} + std::chrono::minutes{t.minute} +
           std::chrono::seconds{t.second};
}

}  // namespace weir::inline v0::llm::detail

namespace weir::inline v0::llm {

/// Decimal seconds, as in `Retry-After: 20`, or `1.5` from servers that ignore RFC 9110.
constexpr std::optional<std::chrono::nanoseconds> parse_seconds(std::string_view s) noexcept {
    s = detail::trim(s);
    auto const d = detail::take_decimal(s);
    if (!d || !s.empty()) return std::nullopt;
    return detail::nanoseconds_of(d->whole, d->billionths, 1'000'000'000);
}

/// Milliseconds, as in `retry-after-ms: 1500`.
constexpr std::optional<std::chrono::nanoseconds> parse_milliseconds(std::string_view s) noexcept {
    s = detail::trim(s);
    auto const d = detail::take_decimal(s);
    if (!d || !s.empty()) return std::nullopt;
    return detail::nanoseconds_of(d->whole, d->billionths, 1'000'000);
}

/// Consumes a duration at the start of `s`, as Go and protobuf print them: `1s`, `6m0s`, `20ms`, `2m59.56s`, `1h2m`.
constexpr std::optional<std::chrono::nanoseconds> take_duration(std::string_view& s) noexcept {
    struct suffix {
        std::string_view text;
        std::uint64_t nanoseconds;
    };
    // A suffix comes before its own prefixes.
    constexpr suffix suffixes[] = {{"ns", 1},
                                   {"us", 1'000},
                                   {"\xC2\xB5s", 1'000},  // µ
                                   {"\xCE\xBCs", 1'000},  // μ
                                   {"ms", 1'000'000},
                                   {"s", 1'000'000'000},
                                   {"m", 60'000'000'000},
                                   {"h", 3'600'000'000'000}};
    std::string_view rest = s;
    std::chrono::nanoseconds sum{0};
    bool any = false;
    for (;;) {
        std::string_view part = rest;
        auto const d = detail::take_decimal(part);
        if (!d) break;
        suffix const* unit = nullptr;
        for (auto const& x : suffixes) {
            if (detail::take(part, x.text)) {
                unit = &x;
                break;
            }
        }
        if (unit == nullptr) break;
        sum = detail::plus(sum, detail::nanoseconds_of(d->whole, d->billionths, unit->nanoseconds));
        rest = part;
        any = true;
    }
    if (!any) return std::nullopt;
    s = rest;
    return sum;
}

/// All of `s` as such a duration; a number without a unit is seconds.
constexpr std::optional<std::chrono::nanoseconds> parse_duration(std::string_view s) noexcept {
    s = detail::trim(s);
    if (auto const plain = parse_seconds(s)) return plain;
    auto const d = take_duration(s);
    return s.empty() ? d : std::nullopt;
}

/// A date in one of the three forms of RFC 9110, 5.6.7. `now` determines the century of a two-digit year: a date that
/// appears to be more than 50 years ahead is in the past.
///
///     Sun, 06 Nov 1994 08:49:37 GMT      Sunday, 06-Nov-94 08:49:37 GMT      Sun Nov  6 08:49:37 1994
constexpr std::optional<std::chrono::sys_seconds> parse_http_date(std::string_view s,
                                                                  std::chrono::sys_seconds now) noexcept {
    s = detail::trim(s);
    auto const blank = s.find(' ');
    if (blank == std::string_view::npos || blank < 3) return std::nullopt;
    bool const comma = s[blank - 1] == ',';
    s.remove_prefix(blank + 1);
    if (!comma) {
        if (s.size() < 3) return std::nullopt;
        auto const month = detail::month_of(s.substr(0, 3));
        s.remove_prefix(3);
        if (!month || !detail::take(s, " ")) return std::nullopt;
        detail::take(s, " ");
        auto const day = detail::take_number(s);
        if (!day || *day > 31 || !detail::take(s, " ")) return std::nullopt;
        auto const time = detail::take_time_of_day(s);
        if (!time || !detail::take(s, " ")) return std::nullopt;
        auto const year = detail::take_digits(s, 4);
        if (!year || !s.empty()) return std::nullopt;
        return detail::moment(static_cast<int>(*year), *month, static_cast<unsigned>(*day), *time);
    }
    auto const day = detail::take_digits(s, 2);
    if (!day) return std::nullopt;
    bool const dashes = detail::take(s, "-");
    if ((!dashes && !detail::take(s, " ")) || s.size() < 3) return std::nullopt;
    auto const month = detail::month_of(s.substr(0, 3));
    s.remove_prefix(3);
    if (!month || !detail::take(s, dashes ? "-" : " ")) return std::nullopt;
    auto const year = detail::take_digits(s, dashes ? 2 : 4);
    if (!year || !detail::take(s, " ")) return std::nullopt;
    auto const time = detail::take_time_of_day(s);
    if (!time || !detail::take(s, " GMT") || !s.empty()) return std::nullopt;
    int y = static_cast<int>(*year);
    if (dashes) {
        int const this_year =
            static_cast<int>(std::chrono::year_month_day{std::chrono::floor<std::chrono::days>(now)}.year());
        y += this_year / 100 * 100;
        if (y > this_year + 50) y -= 100;
    }
    return detail::moment(y, *month, *day, *time);
}

/// A time as in RFC 3339: `2025-08-21T12:40:59Z`, optionally with a fraction (rounded up to a second) or an offset.
constexpr std::optional<std::chrono::sys_seconds> parse_rfc3339(std::string_view s) noexcept {
    s = detail::trim(s);
    auto const year = detail::take_digits(s, 4);
    if (!year || !detail::take(s, "-")) return std::nullopt;
    auto const month = detail::take_digits(s, 2);
    if (!month || !detail::take(s, "-")) return std::nullopt;
    auto const day = detail::take_digits(s, 2);
    if (!day || !(detail::take(s, "T") || detail::take(s, "t") || detail::take(s, " "))) return std::nullopt;
    auto const time = detail::take_time_of_day(s);
    if (!time) return std::nullopt;
    std::chrono::seconds shift{0};
    if (!s.empty() && s.front() == '.') {
        auto const fraction = detail::take_decimal(s);
        if (!fraction) return std::nullopt;
        if (fraction->billionths != 0) shift = std::chrono::seconds{1};
    }
    if (!detail::take(s, "Z") && !detail::take(s, "z")) {
        if (s.empty() || (s.front() != '+' && s.front() != '-')) return std::nullopt;
        bool const ahead = s.front() == '+';
        s.remove_prefix(1);
        auto const h = detail::take_digits(s, 2);
        if (!h || !detail::take(s, ":")) return std::nullopt;
        auto const m = detail::take_digits(s, 2);
        if (!m || *h > 23 || *m > 59) return std::nullopt;
        std::chrono::seconds const offset = std::chrono::hours{*h} + std::chrono::minutes{*m};
        shift += ahead ? -offset : offset;
    }
    auto const t = detail::moment(static_cast<int>(*year), *month, *day, *time);
    if (!t || !s.empty()) return std::nullopt;
    return *t + shift;
}

/// The time from `now` until `t`; 0 if `t` is in the past.
constexpr std::chrono::nanoseconds until(std::chrono::sys_seconds t, std::chrono::sys_seconds now) noexcept {
    if (t <= now) return std::chrono::nanoseconds::zero();
    return detail::nanoseconds_of(static_cast<std::uint64_t>((t - now).count()), 0, 1'000'000'000);
}

}  // namespace weir::inline v0::llm

namespace weir::inline v0::llm::detail {

/// Whether the time of an answer is known: 0 is not.
constexpr bool is_known(std::chrono::sys_seconds now) noexcept { return now.time_since_epoch().count() != 0; }

/// A number of seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by its size: 2001 to 5138.
constexpr std::optional<std::chrono::sys_seconds> epoch_time(std::uint64_t n) noexcept {
    constexpr std::uint64_t least = 1'000'000'000;
    for (std::uint64_t unit = 1; unit <= 1'000'000'000; unit *= 1000) {
        if (n / unit < least) return std::nullopt;
        if (n / unit < 100 * least) {
            std::uint64_t const up = n % unit != 0 ? 1 : 0;
            return std::chrono::sys_seconds{std::chrono::seconds{static_cast<std::int64_t>(n / unit + up)}};
        }
    }
    return std::nullopt;
}

/// A duration of ISO 8601 in hours, minutes and seconds: `PT1M30S`.
constexpr std::optional<std::chrono::nanoseconds> parse_iso_duration(std::string_view s) noexcept {
    if (s.size() < 4 || !same_ignoring_case(s.substr(0, 2), "pt")) return std::nullopt;
    s.remove_prefix(2);
    std::chrono::nanoseconds sum{0};
    while (!s.empty()) {
        auto const d = take_decimal(s);
        if (!d || s.empty()) return std::nullopt;
        char const unit = weir::detail::lower(s.front());
        s.remove_prefix(1);
        std::uint64_t const seconds = unit == 'h' ? 3600 : unit == 'm' ? 60 : unit == 's' ? 1 : 0;
        if (seconds == 0) return std::nullopt;
        sum = plus(sum, nanoseconds_of(d->whole, d->billionths, seconds * 1'000'000'000));
    }
    return sum;
}

}  // namespace weir::inline v0::llm::detail

namespace weir::inline v0::llm {

/// When a limit resets, as the wait from `now`: seconds, a duration (`6m0s`, `PT1M30S`), a time of RFC 3339 or RFC
/// 9110, or a number of seconds, milli-, micro- or nanoseconds since 1970. 0 for a time in the past; empty for a
/// time if `now` is 0, since it says nothing then.
constexpr std::optional<std::chrono::nanoseconds> parse_reset(std::string_view s,
                                                              std::chrono::sys_seconds now) noexcept {
    s = detail::trim(s);
    std::string_view rest = s;
    if (auto const d = detail::take_decimal(rest); d && rest.empty()) {
        auto const t = detail::epoch_time(d->whole);
        if (!t) return parse_seconds(s);
        return detail::is_known(now) ? std::optional{until(*t, now)} : std::nullopt;
    }
    if (auto const d = parse_duration(s)) return d;
    if (auto const d = detail::parse_iso_duration(s)) return d;
    if (!detail::is_known(now)) return std::nullopt;
    if (auto const t = parse_rfc3339(s)) return until(*t, now);
    if (auto const t = parse_http_date(s, now)) return until(*t, now);
    return std::nullopt;
}

/// The value of Retry-After (RFC 9110, 10.2.3): seconds or a date, or one of the other forms of parse_reset, as the
/// wait from `now`. Of several that a client has joined by commas, the latest.
constexpr std::optional<std::chrono::nanoseconds> parse_retry_after(std::string_view s,
                                                                    std::chrono::sys_seconds now) noexcept {
    std::optional<std::chrono::nanoseconds> longest = parse_reset(s, now);
    if (longest) return longest;
    std::string_view held{};  // the day of the week, which a comma parts from its date
    while (!s.empty()) {
        auto const comma = s.find(',');
        std::string_view const part = s.substr(0, comma);
        s = comma == std::string_view::npos ? std::string_view{} : s.substr(comma + 1);
        auto d = parse_reset(part, now);
        if (!d && !held.empty())
            d = parse_reset({held.data(), static_cast<std::size_t>(part.data() + part.size() - held.data())}, now);
        detail::keep_longest(longest, d);
        held = d ? std::string_view{} : part;
    }
    return longest;
}

}  // namespace weir::inline v0::llm
