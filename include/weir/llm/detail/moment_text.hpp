// SPDX-License-Identifier: MIT
//
// Moments inside error messages: when an allowance is restored. The text is that of error_text::plain().
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "message_text.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm::detail {

/// Consumes "16:00", "16:00:00" or "3:05 pm".
constexpr std::optional<time_of_day> take_short_time(std::string_view& s) noexcept {
    std::string_view rest = s;
    auto const h = take_number(rest);
    if (!h || *h > 24) return std::nullopt;
    time_of_day t{static_cast<unsigned>(*h), 0, 0};
    bool const colon = take(rest, ":") || take(rest, "时");
    if (colon) {
        auto const m = take_digits(rest, 2);
        if (!m || *m > 59) return std::nullopt;
        t.minute = *m;
        take(rest, "分");
        std::string_view more = rest;
        if (take(more, ":")) {
            auto const sec = take_digits(more, 2);
            if (!sec || *sec > 60) return std::nullopt;
            t.second = *sec;
            rest = more;
            if (!rest.empty() && rest.front() == '.') take_decimal(rest);
        }
    }
    std::string_view half = rest;
    skip_spaces(half);
    bool const am = take_word(half, "am");
    bool const pm = !am && take_word(half, "pm");
    if (am || pm) {
        if (t.hour > 12) return std::nullopt;
        t.hour = t.hour % 12 + (pm ? 12U : 0U);
        rest = half;
    } else if (!colon || t.hour > 23) {
        return std::nullopt;
    }
    s = rest;
    return t;
}

/// The offset from UTC at the start of `s`; `otherwise` if it names none.
constexpr std::chrono::seconds zone_of(std::string_view s, std::chrono::seconds otherwise) noexcept {
    skip_any(s, " (");
    if (take(s, "z") || take_word(s, "utc") || take_word(s, "gmt")) {
        if (s.empty() || (s.front() != '+' && s.front() != '-')) return std::chrono::seconds{0};
    }
    if (s.empty() || (s.front() != '+' && s.front() != '-')) return otherwise;
    bool const ahead = s.front() == '+';
    s.remove_prefix(1);
    auto h = take_digits(s, 2);
    if (!h) h = take_digits(s, 1);
    if (!h || *h > 14) return otherwise;
    take(s, ":");
    std::chrono::seconds const offset = std::chrono::hours{*h} + std::chrono::minutes{take_digits(s, 2).value_or(0)};
    return ahead ? offset : -offset;
}

struct reading_of_time {
    std::chrono::sys_seconds now;
    std::chrono::seconds zone;  // of times that name none
};

/// A date, then a time of day if there is one, then its zone.
constexpr std::optional<std::chrono::sys_seconds> finish_moment(std::string_view s, int year, unsigned month,
                                                                unsigned day, reading_of_time r) noexcept {
    for (auto const w : {"日", "st", "nd", "rd", "th"}) take(s, w);
    auto const after_comma = [](std::string_view from) {
        take(from, ",");
        skip_spaces(from);
        return from;
    };
    std::string_view rest = after_comma(s);
    if (std::string_view number = rest; year == 0 && take_number(number).value_or(0) > 31) {  // "nov 5th, 2025 …"
        year = static_cast<int>(take_digits(rest, 4).value_or(0));
        s = rest;
        rest = after_comma(s);
    }
    if (take(rest, "t") || take_word(rest, "at")) skip_spaces(rest);
    auto const time = take_short_time(rest);
    if (time) s = rest;
    if (year != 0) {
        auto const t = moment(year, month, day, time.value_or(time_of_day{0, 0, 0}));
        if (!t) return std::nullopt;
        return *t - zone_of(s, r.zone);
    }
    if (!time || !is_known(r.now)) return std::nullopt;
    int const first =
        static_cast<int>(std::chrono::year_month_day{std::chrono::floor<std::chrono::days>(r.now)}.year());
    for (int y = first; y < first + 9; ++y) {  // the next 29 February may be eight years ahead
        auto const t = moment(y, month, day, *time);
        if (t && *t - zone_of(s, r.zone) >= r.now) return *t - zone_of(s, r.zone);
    }
    return std::nullopt;
}

constexpr std::optional<unsigned> take_month_name(std::string_view& s) noexcept {
    constexpr std::string_view names[] = {"january", "february", "march",     "april",   "may",      "june",
                                          "july",    "august",   "september", "october", "november", "december"};
    for (unsigned m = 0; m < 12; ++m) {
        if (take_word(s, names[m]) || take_word(s, names[m].substr(0, 3))) return m + 1;
    }
    return std::nullopt;
}

/// The moment at the start of `s`: a date with or without a year, a number of seconds or milliseconds since 1970.
constexpr std::optional<std::chrono::sys_seconds> moment_at(std::string_view s, reading_of_time r) noexcept {
    if (is_letter(s.front())) {  // "nov 5th, 2025 8:12 pm"
        auto const month = take_month_name(s);
        if (!month || !take(s, " ")) return std::nullopt;
        auto const day = take_number(s);
        return day && *day <= 31 ? finish_moment(s, 0, *month, static_cast<unsigned>(*day), r) : std::nullopt;
    }
    std::string_view rest = s;
    auto const n = take_number(rest);
    std::size_t const digits = s.size() - rest.size();
    if (!n) return std::nullopt;
    if (digits == 10 || digits == 13) {
        auto const t = epoch_time(*n);
        // Others are the number of a request.
        return t && is_known(r.now) && *t > r.now + std::chrono::days{400} ? std::nullopt : t;
    }
    auto const separator = [&rest] {
        return take(rest, "-") || take(rest, "/") || take(rest, "年") || take(rest, "月");
    };
    if (digits == 4 && *n >= 2000) {
        if (!separator()) return std::nullopt;
        auto const month = take_number(rest);
        if (!month || *month > 12 || !separator()) return std::nullopt;
        auto const day = take_number(rest);
        if (!day || *day > 31) return std::nullopt;
        return finish_moment(rest, static_cast<int>(*n), static_cast<unsigned>(*month), static_cast<unsigned>(*day), r);
    }
    if (digits > 2 || *n > 31) return std::nullopt;
    if (take(rest, " ")) {  // "26 mar 2026 20:01:30 gmt"
        auto const month = take_month_name(rest);
        if (!month || !take(rest, " ")) return std::nullopt;
        auto const year = take_digits(rest, 4);
        return year ? finish_moment(rest, static_cast<int>(*year), *month, static_cast<unsigned>(*n), r) : std::nullopt;
    }
    if (*n > 12 || !separator()) return std::nullopt;
    auto const day = take_number(rest);
    if (!day || *day > 31) return std::nullopt;
    return finish_moment(rest, 0, static_cast<unsigned>(*n), static_cast<unsigned>(*day), r);
}

constexpr bool has_any(std::string_view s, std::span<std::string_view const> words) noexcept {
    for (auto const w : words) {
        if (s.find(w) != std::string_view::npos) return true;
    }
    return false;
}

/// "… will reset at 10-15 16:00:00 UTC", "regain access on 2026-05-01 at 00:00 UTC", "将在 2026-03-27 06:30:00 重置",
/// "limit reached|1774573200": the latest of such times; empty if the message has none. Times without a zone are of
/// Beijing where the text is Chinese or `beijing` is true, else UTC.
constexpr std::optional<std::chrono::sys_seconds> reset_in_words(std::string_view text, std::chrono::sys_seconds now,
                                                                 bool beijing = false) noexcept {
    constexpr std::string_view before[] = {"reset",    "regain",         "available", "until",   "again at",
                                           "again on", "again after",    "renew",     "refresh", "replenish",
                                           "restor",   "limit reached|", "重置",      "恢复",    "刷新"};
    constexpr std::string_view after[] = {"重置", "恢复", "刷新", "重试", "再试"};
    bool chinese = beijing;
    for (auto const w : {"的", "请", "重置", "恢复", "限额"})
        chinese = chinese || text.find(w) != std::string_view::npos;
    reading_of_time const r{now, chinese ? std::chrono::hours{8} : std::chrono::hours{0}};
    std::optional<std::chrono::sys_seconds> latest;
    for (std::size_t i = 0; i < text.size(); ++i) {
        constexpr std::string_view joints = ".-_/:";      // of a version or a name
        if (text.substr(0, i).ends_with("年")) continue;  // the month of a date
        bool const starts = i == 0 || !(is_alnum(text[i - 1]) || joints.find(text[i - 1]) != std::string_view::npos);
        if (!starts || !(is_digit(text[i]) || (is_letter(text[i]) && i != 0 && text[i - 1] == ' '))) continue;
        auto const t = moment_at(text.substr(i), r);
        if (!t || (latest && *t <= *latest)) continue;
        if (is_known(now) && *t < now - std::chrono::days{1}) continue;  // the date of a model's version
        std::size_t const from = i < 48 ? 0 : i - 48;
        if (has_any(text.substr(from, i - from), before) || has_any(text.substr(i, 60), after)) latest = t;
    }
    return latest;
}

/// The next midnight in California, when Google's daily quotas are restored: UTC-8, in summer UTC-7 (from the second
/// Sunday of March to the first of November).
constexpr std::chrono::sys_seconds pacific_midnight(std::chrono::sys_seconds now) noexcept {
    using std::chrono::days, std::chrono::floor, std::chrono::hours, std::chrono::sys_days, std::chrono::sys_seconds;
    using std::chrono::Sunday;
    auto const offset = [](sys_seconds t) {
        auto const y = std::chrono::year_month_day{floor<days>(t)}.year();
        sys_seconds const begin = sys_days{y / std::chrono::March / Sunday[2]} + hours{10};
        sys_seconds const end = sys_days{y / std::chrono::November / Sunday[1]} + hours{9};
        return t >= begin && t < end ? hours{-7} : hours{-8};
    };
    auto const tomorrow = floor<days>(now + offset(now)) + days{1};
    // A change is at two in the morning: midnight has the offset of the hour before it.
    sys_seconds const about = sys_seconds{tomorrow} + hours{7};
    return sys_seconds{tomorrow} - offset(about);
}

}  // namespace weir::inline v0::llm::detail
