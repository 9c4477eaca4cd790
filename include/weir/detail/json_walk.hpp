// SPDX-License-Identifier: MIT
//
// walk_json visits the scalars of untrusted JSON text, each with the keys that lead to it. Made for error bodies: it
// neither allocates nor copies, and reads what it can from text that is truncated or malformed.
#pragma once

#include "cpp20.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace weir::inline v0::detail {

struct json_scalar {
    /// A string without its quotes, escapes unchanged; or the token.
    std::string_view text;
    bool is_string = false;

    constexpr bool is_null() const noexcept { return !is_string && text == "null"; }
};

/// Where a walk ended, and whether its value ended there. A value that is cut off ends with the text.
struct json_end {
    std::size_t at;
    bool whole;
};

/// The end of the string that begins at `from`, after its quote: the position of its closing quote, or npos. A search
/// for quotes passes over long strings several times faster than a loop over characters; where quotes are escaped, the
/// loop does.
constexpr std::size_t closing_quote(std::string_view text, std::size_t from) noexcept {
    std::size_t at = from;
    for (;;) {
        std::size_t const nearby = at + 64 < text.size() ? at + 64 : text.size();
        while (at < nearby && text[at] != '"') at += text[at] == '\\' ? 2U : 1U;
        if (at < nearby) return at;
        if (at >= text.size()) return std::string_view::npos;
        // From the middle of a string: its next quote, and whether an odd number of backslashes is before it.
        std::size_t const quote = text.find('"', at);
        if (quote == std::string_view::npos) return quote;
        std::size_t backslashes = 0;
        while (quote - backslashes > at && text[quote - backslashes - 1] == '\\') ++backslashes;
        if (backslashes % 2 == 0) return quote;
        at = quote + 1;
    }
}

constexpr bool ends_json_token(char c) noexcept {
    switch (c) {
        case ' ':
        case '\t':
        case '\r':
        case '\n':
        case ',':
        case ':':
        case '{':
        case '}':
        case '[':
        case ']':
        case '"': return true;
        default: return false;
    }
}

/// Calls visit(path, scalar) for each scalar of the first value, in order, until it returns true. The path holds the
/// keys from the outermost object to the scalar; an array contributes an empty key. Scalars nested deeper than 12
/// levels are skipped. O(size of the text).
template <class Visit>
constexpr json_end walk_json(std::string_view text, Visit visit) {
    constexpr std::size_t max_depth = 12;
    struct level {
        bool object = false;
        bool has_key = false;
    };
    std::array<level, max_depth> open{};
    std::array<std::string_view, max_depth> path{};  // the key of each level that is open
    std::size_t depth = 0;

    auto const show = [&](json_scalar s) {
        if (depth > max_depth) return false;
        if (depth != 0) open[depth - 1].has_key = false;
        return static_cast<bool>(visit(std::span<std::string_view const>{path.data(), depth}, s));
    };

    for (std::size_t i = 0; i < text.size();) {
        char const c = text[i];
        if (c == '{' || c == '[') {
            if (depth < max_depth) {
                open[depth] = {c == '{', false};
                path[depth] = {};
            }
            ++depth;
            ++i;
        } else if (c == '}' || c == ']') {
            ++i;
            if (depth == 0 || --depth == 0) return {i, true};
            if (depth <= max_depth) open[depth - 1].has_key = false;
        } else if (c == '"') {
            std::size_t const end = closing_quote(text, i + 1);
            bool const whole = end != std::string_view::npos;
            std::string_view const s = text.substr(i + 1, (whole ? end : text.size()) - i - 1);
            i = whole ? end + 1 : text.size();
            if (depth != 0 && depth <= max_depth && open[depth - 1].object && !open[depth - 1].has_key) {
                path[depth - 1] = s;
                open[depth - 1].has_key = true;
            } else if (show({s, true})) {
                return {i, true};
            }
            if (depth == 0) return {i, whole};
        } else if (ends_json_token(c)) {
            ++i;
        } else {
            std::size_t end = i + 1;
            while (end < text.size() && !ends_json_token(text[end])) ++end;
            if (show({text.substr(i, end - i), false})) return {end, true};
            i = end;
        }
    }
    return {text.size(), depth == 0};
}

}  // namespace weir::inline v0::detail
