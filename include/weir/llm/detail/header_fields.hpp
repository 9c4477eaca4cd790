// SPDX-License-Identifier: MIT
//
// Readers of HTTP header fields: lists and parameters of structured fields (RFC 9651, as far as the IETF draft on
// RateLimit fields uses them), and counts. A malformed item is skipped.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "../../detail/text.hpp"
#include "../headers.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm::detail {

/// The name of a header, concatenated without allocation.
class header_name {
public:
    constexpr header_name(std::string_view a, std::string_view b, std::string_view c = {},
                          std::string_view d = {}) noexcept {
        for (auto const part : {a, b, c, d}) {
            for (char const x : part) {
                if (size_ < text_.size()) text_[size_++] = x;
            }
        }
    }
    constexpr operator std::string_view() const noexcept { return {text_.data(), size_}; }

private:
    std::array<char, 64> text_{};
    std::size_t size_ = 0;
};

/// The header as a count; empty if it is missing or malformed.
constexpr std::optional<std::uint64_t> count_in(headers const& h, std::string_view name) {
    auto const v = h(name);
    return v ? number(trim(*v)) : std::nullopt;
}

/// Calls item(name or number, parameters) for each item of a list (RFC 9651, section 3.1).
template <class Item>
constexpr void for_each_item(std::string_view list, Item item) {
    while (!list.empty()) {
        bool quoted = false;
        std::size_t end = 0;
        for (; end < list.size() && (quoted || list[end] != ','); ++end) {
            if (list[end] == '"') quoted = !quoted;
            if (quoted && list[end] == '\\') ++end;
        }
        end = (std::min)(end, list.size());
        std::string_view one = trim(list.substr(0, end));
        list = end < list.size() ? list.substr(end + 1) : std::string_view{};
        std::string_view head = one;
        std::string_view parameters{};
        if (!one.empty() && one.front() == '"') {
            std::size_t close = 1;
            while (close < one.size() && one[close] != '"') close += one[close] == '\\' ? 2U : 1U;
            if (close >= one.size()) continue;
            head = one.substr(1, close - 1);
            parameters = trim(one.substr(close + 1));
        } else if (auto const semicolon = one.find(';'); semicolon != std::string_view::npos) {
            head = trim(one.substr(0, semicolon));
            parameters = one.substr(semicolon);
        }
        if (!head.empty() && (parameters.empty() || parameters.front() == ';')) item(head, parameters);
    }
}

/// The value of `;name=value` among the parameters, without quotes; empty if there is none.
constexpr std::optional<std::string_view> parameter(std::string_view parameters, std::string_view name) noexcept {
    while (!parameters.empty()) {
        auto const start = parameters.find(';');
        if (start == std::string_view::npos) return std::nullopt;
        parameters.remove_prefix(start + 1);
        std::string_view const one = trim(parameters.substr(0, parameters.find(';')));
        auto const equals = one.find('=');
        if (equals == std::string_view::npos || one.substr(0, equals) != name) continue;
        std::string_view v = one.substr(equals + 1);
        if (v.size() >= 2 && v.front() == '"' && v.back() == '"') v = v.substr(1, v.size() - 2);
        return v;
    }
    return std::nullopt;
}
constexpr std::optional<std::uint64_t> number_in(std::string_view parameters, std::string_view name) noexcept {
    auto const v = parameter(parameters, name);
    return v ? number(*v) : std::nullopt;
}

}  // namespace weir::inline v0::llm::detail
