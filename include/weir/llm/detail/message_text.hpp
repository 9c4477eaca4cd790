// SPDX-License-Identifier: MIT
//
// Times inside error messages: "please try again in 1m 30s", "the quota will reset at 10-15 16:00:00 UTC". The text is
// that of error_text::plain(): lower case, escapes resolved.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "../../detail/text.hpp"
#include "error_text.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm::detail {

constexpr bool is_letter(char c) noexcept { return c >= 'a' && c <= 'z'; }
constexpr void skip_any(std::string_view& s, std::string_view characters) noexcept {
    while (!s.empty() && characters.find(s.front()) != std::string_view::npos) s.remove_prefix(1);
}
constexpr void skip_spaces(std::string_view& s) noexcept { skip_any(s, " "); }
/// Consumes a whole word of ASCII letters.
constexpr bool take_word(std::string_view& s, std::string_view word) noexcept {
    if (s.substr(0, word.size()) != word) return false;
    if (s.size() > word.size() && is_letter(s[word.size()])) return false;
    s.remove_prefix(word.size());
    return true;
}

/// Consumes the name of a unit: its nanoseconds, or 0.
constexpr std::uint64_t take_unit(std::string_view& s) noexcept {
    struct unit {
        std::string_view name;
        std::uint64_t nanoseconds;
    };
    constexpr std::uint64_t ms = 1'000'000;
    constexpr std::uint64_t second = 1000 * ms;
    constexpr unit words[] = {{"milliseconds", ms},
                              {"millisecond", ms},
                              {"millis", ms},
                              {"msecs", ms},
                              {"msec", ms},
                              {"ms", ms},
                              {"seconds", second},
                              {"second", second},
                              {"secs", second},
                              {"sec", second},
                              {"s", second},
                              {"minutes", 60 * second},
                              {"minute", 60 * second},
                              {"mins", 60 * second},
                              {"min", 60 * second},
                              {"m", 60 * second},
                              {"hours", 3600 * second},
                              {"hour", 3600 * second},
                              {"hrs", 3600 * second},
                              {"hr", 3600 * second},
                              {"h", 3600 * second},
                              {"days", 86'400 * second},
                              {"day", 86'400 * second},
                              {"d", 86'400 * second},
                              {"weeks", 604'800 * second},
                              {"week", 604'800 * second},
                              {"w", 604'800 * second}};
    for (auto const& u : words) {
        if (take_word(s, u.name)) return u.nanoseconds;
    }
    constexpr unit chinese[] = {{"毫秒", ms},
                                {"秒", second},
                                {"分钟", 60 * second},
                                {"分", 60 * second},
                                {"个小时", 3600 * second},
                                {"小时", 3600 * second},
                                {"天", 86'400 * second},
                                {"周", 604'800 * second}};
    for (auto const& u : chinese) {
        if (take(s, u.name)) return u.nanoseconds;
    }
    return 0;
}

/// Consumes "12", "1,200" or "1.5".
constexpr std::optional<decimal> take_grouped(std::string_view& s) noexcept {
    auto d = take_decimal(s);
    if (!d) return std::nullopt;
    while (d->billionths == 0 && s.size() >= 4 && s[0] == ',' && number(s.substr(1, 3)) &&
           (s.size() == 4 || !is_digit(s[4])) && d->whole < 1'000'000'000'000) {
        d->whole = d->whole * 1000 + *number(s.substr(1, 3));
        s.remove_prefix(4);
        std::string_view rest = s;
        if (!rest.empty() && rest.front() == '.') {
            if (auto const fraction = take_decimal(rest)) {
                d->billionths = fraction->billionths;
                s = rest;
            }
        }
    }
    return d;
}

/// Consumes "06:12:34".
constexpr std::optional<std::chrono::nanoseconds> take_clock(std::string_view& s) noexcept {
    std::string_view rest = s;
    auto const hours = take_number(rest);
    if (!hours || *hours > 9999 || !take(rest, ":")) return std::nullopt;
    auto const minutes = take_digits(rest, 2);
    if (!minutes || *minutes > 59 || !take(rest, ":")) return std::nullopt;
    auto const seconds = take_digits(rest, 2);
    if (!seconds || *seconds > 59) return std::nullopt;
    s = rest;
    return nanoseconds_of(*hours * 3600 + *minutes * 60 + *seconds, 0, 1'000'000'000);
}

/// Consumes a duration in words: all parts of "1 day, 3 hours and 5 minutes", "1m 30s", "a minute", "2分30秒".
constexpr std::optional<std::chrono::nanoseconds> take_spelled(std::string_view& s) noexcept {
    if (auto const clock = take_clock(s)) return clock;
    if (s.substr(0, 2) == "pt") {
        std::size_t n = 2;
        while (n < s.size() && is_alnum(s[n])) ++n;
        if (auto const iso = parse_iso_duration(s.substr(0, n))) {
            s.remove_prefix(n);
            return iso;
        }
    }
    std::chrono::nanoseconds sum{0};
    bool any = false;
    for (;;) {
        std::string_view rest = s;
        if (any) {
            skip_spaces(rest);
            take(rest, ",");
            skip_spaces(rest);
            if (take_word(rest, "and")) skip_spaces(rest);
        }
        auto d = take_grouped(rest);
        if (!d && (take_word(rest, "a") || take_word(rest, "an") || take_word(rest, "one"))) d = decimal{1, 0};
        if (!d) break;
        skip_spaces(rest);
        take(rest, "-");
        std::uint64_t const unit = take_unit(rest);
        if (unit == 0) break;
        sum = plus(sum, nanoseconds_of(d->whole, d->billionths, unit));
        s = rest;
        any = true;
    }
    return any ? std::optional{sum} : std::nullopt;
}

/// The duration after a word that asks to wait, with words such as "in" or "at least" between them.
constexpr std::optional<std::chrono::nanoseconds> wait_after_word(std::string_view s) noexcept {
    constexpr std::string_view fillers[] = {"in",     "after",   "for",      "at",  "least", "about",  "approximately",
                                            "approx", "another", "next",     "the", "again", "within", "around",
                                            "your",   "request", "requests", "up",  "to",    "until",  "roughly"};
    for (int i = 0; i < 8; ++i) {
        skip_any(s, " ~:=\"'");
        if (auto const d = take_spelled(s)) return d;
        bool filler = false;
        for (auto const f : fillers) filler = filler || take_word(s, f);
        if (!filler) return std::nullopt;
    }
    return std::nullopt;
}

/// "try again in 20s", "retry after 6 seconds", "wait 2 minutes 30 seconds", "resets in 1h", "30 秒后重试": the longest of
/// all that the text names. A window ("60 requests within 1 minute") is none.
constexpr std::optional<std::chrono::nanoseconds> wait_in_words(std::string_view text) noexcept {
    std::optional<std::chrono::nanoseconds> longest;
    constexpr std::string_view words[] = {"try again", "retry",    "wait",        "reset",     "resets",  "available",
                                          "cooldown",  "restored", "replenished", "refreshed", "allowed", "come back"};
    for (auto const w : words) {
        for (auto at = text.find(w); at != std::string_view::npos; at = text.find(w, at + 1)) {
            if (at != 0 && is_letter(text[at - 1])) continue;
            std::string_view rest = text.substr(at);
            if (!take_word(rest, w)) continue;
            keep_longest(longest, wait_after_word(rest));
        }
    }
    // "retry-after: 30" has no unit.
    for (auto at = text.find("retry"); at != std::string_view::npos; at = text.find("retry", at + 1)) {
        std::string_view rest = text.substr(at + 5);
        if (!take(rest, "-after") && !take(rest, "_after")) continue;
        skip_any(rest, " :=\"'");
        auto const n = take_decimal(rest);
        bool const plain = rest.empty() || (!is_alnum(rest.front()) && rest.front() != ':' && rest.front() != '-');
        if (n && plain && n->whole < 1'000'000'000)
            keep_longest(longest, nanoseconds_of(n->whole, n->billionths, 1'000'000'000));
    }
    constexpr std::string_view after[] = {"后", "之后", "以后"};
    constexpr std::string_view before[] = {"等待", "请等", "请在", "需等"};
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (!is_digit(text[i]) || (i != 0 && is_digit(text[i - 1]))) continue;
        std::string_view rest = text.substr(i);
        auto const d = take_spelled(rest);
        if (!d) continue;
        skip_spaces(rest);
        std::string_view head = text.substr(0, i);
        while (!head.empty() && head.back() == ' ') head.remove_suffix(1);
        bool asked = false;
        for (auto const a : after) asked = asked || rest.substr(0, a.size()) == a;
        for (auto const b : before)
            asked = asked || (head.size() >= b.size() && head.substr(head.size() - b.size()) == b);
        if (asked) keep_longest(longest, d);
    }
    return longest;
}

}  // namespace weir::inline v0::llm::detail
