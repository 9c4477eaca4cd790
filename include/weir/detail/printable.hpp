// SPDX-License-Identifier: MIT
//
// Which types ostream.hpp and format.hpp print.
#pragma once

#include "cpp20.hpp"

namespace weir::inline v0::detail {

/// True for the types that text.hpp and llm/text.hpp have a to_string for.
template <class T>
inline constexpr bool has_text = false;

template <class T>
concept printable = has_text<T>;

}  // namespace weir::inline v0::detail
