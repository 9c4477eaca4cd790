// SPDX-License-Identifier: MIT
//
// std::format of every value of weir that has a to_string, with the format specification of a string: "{:>20}".
// Where the standard library has no <format> (before gcc 13 and libc++ 17) it defines nothing.
#pragma once

#include "detail/cpp20.hpp"

#include <version>

#if defined(__cpp_lib_format)

#include <format>
#include <string>
#include <string_view>

#include "detail/printable.hpp"
#include "text.hpp"

template <weir::detail::printable T>
struct std::formatter<T, char> : std::formatter<std::string_view, char> {
    template <class Context>
    auto format(T const& value, Context& context) const {
        auto const text = to_string(value);
        return std::formatter<std::string_view, char>::format(std::string_view{text}, context);
    }
};

#endif
