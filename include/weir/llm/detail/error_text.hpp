// SPDX-License-Identifier: MIT
//
// error_text: what an error says, in a form that rules can search: lower case, escapes resolved, once with punctuation
// (for times) and once as words (for meaning). Nothing is allocated: of a text longer than the buffer its beginning and
// its end are kept, which is where servers say what is wrong.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "../../detail/text.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm::detail {

/// Text in a fixed buffer; what does not fit is dropped.
template <std::size_t Capacity>
class fixed_text {
public:
    constexpr fixed_text() noexcept {}  // NOLINT: leaves the text as it is

    constexpr std::string_view view() const noexcept { return {text_, size_}; }
    constexpr std::size_t room() const noexcept { return Capacity - size_; }
    constexpr void add(char c) noexcept {
        if (size_ < Capacity) text_[size_++] = c;
    }
    /// A space, unless there is one already.
    constexpr void add_space() noexcept {
        if (size_ != 0 && text_[size_ - 1] != ' ') add(' ');
    }

private:
    char text_[Capacity];  // [0, size_) is written
    std::size_t size_ = 0;
};

constexpr bool is_alnum(char c) noexcept { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// The code point of four hexadecimal digits at the start of `s`; 0 if there are none.
constexpr unsigned hex4(std::string_view s) noexcept {
    if (s.size() < 4) return 0;
    unsigned n = 0;
    for (char const c : s.substr(0, 4)) {
        char const l = weir::detail::lower(c);
        if (!is_digit(c) && (l < 'a' || l > 'f')) return 0;
        n = n * 16 + static_cast<unsigned>(is_digit(c) ? c - '0' : l - 'a' + 10);
    }
    return n;
}

/// Calls put(char) for each byte of `s` in lower case, with JSON escapes resolved, nested ones too; control characters
/// become spaces.
template <class Put>
constexpr void unescape(std::string_view s, Put put) {
    for (std::size_t i = 0; i < s.size(); ++i) {
        char c = s[i];
        if (c == '\\') {
            while (i + 1 < s.size() && s[i + 1] == '\\') ++i;
            if (i + 1 == s.size()) return;
            char const e = s[i + 1];
            if (e == 'n' || e == 'r' || e == 't' || e == 'b' || e == 'f') {
                put(' ');
                ++i;
            } else if (unsigned const u = e == 'u' ? hex4(s.substr(i + 2)) : 0; u != 0) {
                if (u < 0x80) {
                    put(weir::detail::lower(static_cast<char>(u)));
                } else if (u < 0x800) {
                    put(static_cast<char>(0xC0U | (u >> 6U)));
                    put(static_cast<char>(0x80U | (u & 0x3FU)));
                } else {
                    put(static_cast<char>(0xE0U | (u >> 12U)));
                    put(static_cast<char>(0x80U | ((u >> 6U) & 0x3FU)));
                    put(static_cast<char>(0x80U | (u & 0x3FU)));
                }
                i += 5;
            }
            continue;
        }
        put(static_cast<unsigned char>(c) < ' ' ? ' ' : weir::detail::lower(c));
    }
}

/// Searches words: letters match in either case, and a run of spaces and punctuation in the pattern matches one space.
/// `words` is from error_text. Returns the position, or npos.
constexpr std::size_t find_words(std::string_view words, std::string_view pattern, std::size_t from = 0) noexcept {
    if (pattern.empty()) return std::string_view::npos;
    auto const plain = [](char c) { return is_alnum(c) || static_cast<unsigned char>(c) >= 0x80; };
    char const first = plain(pattern.front()) ? weir::detail::lower(pattern.front()) : ' ';
    for (from = words.find(first, from); from != std::string_view::npos; from = words.find(first, from + 1)) {
        std::size_t at = from;
        std::size_t i = 0;
        while (i < pattern.size() && at < words.size()) {
            bool const space = !plain(pattern[i]);
            if (words[at] != (space ? ' ' : weir::detail::lower(pattern[i]))) break;
            ++at;
            ++i;
            while (space && i < pattern.size() && !plain(pattern[i])) ++i;
        }
        if (i == pattern.size()) return from;
    }
    return std::string_view::npos;
}

/// Whether `words` match a pattern: alternatives apart by '|'; with " ~ ", one of the first group followed by one of
/// the second within 64 characters, as in "insufficient|not enough ~ balance|credit". O(size of the words) an
/// alternative.
constexpr bool match_words(std::string_view words, std::string_view pattern) noexcept {
    constexpr std::size_t gap = 64;
    constexpr unsigned max_seen = 32;  // of one word: bounds the work on text that repeats it
    auto const tilde = pattern.find(" ~ ");
    std::string_view first = pattern.substr(0, tilde);
    std::string_view const second = tilde == std::string_view::npos ? std::string_view{} : pattern.substr(tilde + 3);
    while (!first.empty()) {
        auto const bar = first.find('|');
        std::string_view const one = first.substr(0, bar);
        first = bar == std::string_view::npos ? std::string_view{} : first.substr(bar + 1);
        unsigned seen = 0;
        for (auto at = find_words(words, one); at != std::string_view::npos; at = find_words(words, one, at + 1)) {
            if (second.empty()) return true;
            if (match_words(words.substr((std::min)(at + one.size(), words.size()), gap), second)) return true;
            if (++seen == max_seen) break;
        }
    }
    return false;
}

/// What an error says. Each part is added once; of a long one, its beginning and its end.
template <std::size_t Capacity = 6144>
class error_text {
public:
    constexpr error_text() noexcept { words_.add(' '); }
    /// Whether nothing was said.
    constexpr bool empty() const noexcept { return words_.view().size() <= 1; }

    constexpr void add(std::string_view part) noexcept {
        if (part.empty()) return;
        std::size_t const room = (std::min)(plain_.room() / 2, max_part);
        if (part.size() <= room) return put(part);
        put(part.substr(0, room / 2));
        put(part.substr(part.size() - room / 2));
    }
    /// Lower case, with punctuation.
    constexpr std::string_view plain() const noexcept { return plain_.view(); }
    /// Lower case; each run of spaces and punctuation is one space, and there is one at both ends.
    constexpr std::string_view words() const noexcept { return words_.view(); }

private:
    [[gnu::__visibility__("hidden")]] static constexpr std::size_t max_part = 2048;

    constexpr void put(std::string_view part) noexcept {
        unescape(part, [this](char c) {
            plain_.add(c);
            put_word(c);
        });
        flush();
        plain_.add(' ');
        words_.add_space();
    }
    // Full-width punctuation (U+3000 to U+303F, U+FF00 to U+FF7F) and the quotes and dashes of U+2000 to U+203F are
    // spaces too: three bytes are held back until it is known.
    constexpr void put_word(char c) noexcept {
        auto const u = static_cast<unsigned char>(c);
        if (held_ == 0 && u != 0xE2 && u != 0xE3 && u != 0xEF) return put_byte(c);
        hold_[held_++] = c;
        if (held_ == 2) {
            auto const lead = static_cast<unsigned char>(hold_[0]);
            bool const mark = (lead == 0xE2 && u == 0x80) || (lead == 0xE3 && u == 0x80) ||
                              (lead == 0xEF && (u == 0xBC || u == 0xBD));
            if (!mark) flush();
        } else if (held_ == 3) {
            held_ = 0;
            words_.add_space();
        }
    }
    constexpr void flush() noexcept {
        for (std::size_t i = 0; i < held_; ++i) put_byte(hold_[i]);
        held_ = 0;
    }
    constexpr void put_byte(char c) noexcept {
        if (is_alnum(c) || static_cast<unsigned char>(c) >= 0x80) {
            words_.add(c);
        } else {
            words_.add_space();
        }
    }

    fixed_text<Capacity> plain_{};
    fixed_text<Capacity> words_{};
    char hold_[3]{};
    std::size_t held_ = 0;
};

}  // namespace weir::inline v0::llm::detail
