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

/// Calls visit(path, scalar) for each scalar in order, until it returns true. The path holds the keys from the
/// outermost object to the scalar; an array contributes an empty key. Scalars nested deeper than 12 levels are skipped.
/// O(size of the text).
template <class Visit>
constexpr void walk_json(std::string_view text, Visit visit) {
    constexpr std::size_t max_depth = 12;
    struct level {
        std::string_view key{};
        bool object = false;
        bool has_key = false;
    };
    std::array<level, max_depth> open{};
    std::array<std::string_view, max_depth> path{};
    std::size_t depth = 0;

    auto const show = [&](json_scalar s) {
        if (depth > max_depth) return false;
        for (std::size_t i = 0; i < depth; ++i) path[i] = open[i].key;
        if (depth != 0) open[depth - 1].has_key = false;
        return static_cast<bool>(visit(std::span<std::string_view const>{path.data(), depth}, s));
    };
    constexpr std::string_view ends = " \t\r\n,:{}[]\"";

    for (std::size_t i = 0; i < text.size();) {
        char const c = text[i];
        if (c == '{' || c == '[') {
            if (depth < max_depth) open[depth] = {{}, c == '{', false};
            ++depth;
            ++i;
        } else if (c == '}' || c == ']') {
            if (depth == 0 || --depth == 0) return;
            if (depth <= max_depth) open[depth - 1].has_key = false;
            ++i;
        } else if (c == '"') {
            std::size_t end = i + 1;
            while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2U : 1U;
            bool const whole = end < text.size();
            std::string_view const s = text.substr(i + 1, (whole ? end : text.size()) - i - 1);
            i = whole ? end + 1 : text.size();
            if (depth != 0 && depth <= max_depth && open[depth - 1].object && !open[depth - 1].has_key) {
                open[depth - 1].key = s;
                open[depth - 1].has_key = true;
            } else if (show({s, true})) {
                return;
            }
        } else if (ends.find(c) != std::string_view::npos) {
            ++i;
        } else {
            std::size_t end = text.find_first_of(ends, i);
            if (end == std::string_view::npos) end = text.size();
            if (show({text.substr(i, end - i), false})) return;
            i = end;
        }
    }
}

}  // namespace weir::inline v0::detail
