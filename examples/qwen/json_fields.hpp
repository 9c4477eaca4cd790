// SPDX-License-Identifier: MIT
//
// Members of a JSON object that may be absent.
#pragma once

#include <nlohmann/json.hpp>
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

namespace qwen {

/// Empty where it is absent or no string.
inline std::string string_of(nlohmann::ordered_json const& object, char const* key) {
    auto const it = object.find(key);
    return it != object.end() && it->is_string() ? it->get<std::string>() : std::string{};
}

/// A count, as a number or, as in the metadata of a request, as a string of digits.
inline std::optional<std::uint64_t> count_of(nlohmann::ordered_json const& object, char const* key) {
    auto const it = object.find(key);
    if (it == object.end()) return std::nullopt;
    if (it->is_number_unsigned()) return it->get<std::uint64_t>();
    if (it->is_string()) {
        auto const& text = it->get_ref<std::string const&>();
        if (!text.empty() && text.size() <= 18 &&
            std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
            return std::stoull(text);
        }
    }
    return std::nullopt;
}

}  // namespace qwen
