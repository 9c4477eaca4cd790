// SPDX-License-Identifier: MIT
//
// Walks over JSON text that nobody has checked, and shows its scalars with the keys that lead to them. For error bodies: it
// allocates nothing, copies nothing, and takes what it can get from text that is cut off or garbage.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace weir::inline v0::detail {

struct json_scalar {
    /// Of a string what is between the quotes, escapes as they stand; else the token.
    std::string_view text;
    bool is_string = false;

    constexpr bool is_null() const noexcept { return !is_string && text == "null"; }
};

/// Calls visit(path, scalar) for each scalar in order, until it answers true. The path is the keys from the outermost object to
/// the scalar's own; an array's place is an empty key. What is nested deeper than 12 is passed over. O(size of the text).
template <class Visit>
constexpr void walk_json(std::string_view text, Visit visit) {
    constexpr std::size_t most = 12;
    struct level {
        std::string_view key{};
        bool object = false;
        bool has_key = false;
    };
    std::array<level, most> open{};
    std::array<std::string_view, most> path{};
    std::size_t depth = 0;

    auto const show = [&](json_scalar s) {
        if (depth > most) return false;
        for (std::size_t i = 0; i < depth; ++i) path[i] = open[i].key;
        if (depth != 0) open[depth - 1].has_key = false;
        return static_cast<bool>(visit(std::span<std::string_view const>{path.data(), depth}, s));
    };
    constexpr std::string_view ends = " \t\r\n,:{}[]\"";

    for (std::size_t i = 0; i < text.size();) {
        char const c = text[i];
        if (c == '{' || c == '[') {
            if (depth < most) open[depth] = {{}, c == '{', false};
            ++depth;
            ++i;
        } else if (c == '}' || c == ']') {
            if (depth == 0 || --depth == 0) return;
            if (depth <= most) open[depth - 1].has_key = false;
            ++i;
        } else if (c == '"') {
            std::size_t end = i + 1;
            while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
            bool const whole = end < text.size();
            std::string_view const s = text.substr(i + 1, (whole ? end : text.size()) - i - 1);
            i = whole ? end + 1 : text.size();
            if (depth != 0 && depth <= most && open[depth - 1].object && !open[depth - 1].has_key) {
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
