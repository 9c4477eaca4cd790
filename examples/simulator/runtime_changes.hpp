// SPDX-License-Identifier: MIT
//
// The changes that a running simulator can be told, by name and JSON: POST /simulator/CHANGE with the JSON as body, or
// settings.changes for a change at a known time, --at on the command line. The same by C++: the members of
// dashscope_simulator.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "simulator.hpp"

namespace qwen {

struct runtime_change {
    char const* name;
    char const* members;  ///< of its JSON object; in brackets those that may be absent
    char const* meaning;
};

/// All that there are.
[[nodiscard]] std::vector<runtime_change> const& runtime_changes();

/// Throws std::invalid_argument that says what is wrong: no such change, no JSON, a member that is missing, unknown or
/// of a wrong type. What it returns throws std::invalid_argument too, where what the change names is not there.
[[nodiscard]] std::function<void(dashscope_simulator&)> parse_change(std::string_view name, std::string_view json);

}  // namespace qwen
