// SPDX-License-Identifier: MIT
//
// operator<< for every value of weir that has a to_string: errors, rates, decisions, and, with llm/text.hpp, quotas,
// tokens and verdicts.
#pragma once

#include <ostream>

#include "detail/printable.hpp"
#include "text.hpp"

namespace weir::inline v0 {

template <detail::printable T>
std::ostream& operator<<(std::ostream& out, T const& value) {
    return out << to_string(value);
}

}  // namespace weir::inline v0

namespace weir::inline v0::llm {

using weir::operator<<;  // argument-dependent lookup does not look into the enclosing namespace

}  // namespace weir::inline v0::llm
