// SPDX-License-Identifier: MIT
//
// dashscope_simulator's command line. One table has the options, so that --help and the parser cannot differ.
#pragma once

#include <string>
#include <vector>

#include "simulator.hpp"

namespace qwen {

struct simulator_options {
    simulator_settings settings;
    bool log = false, help = false;
};

/// Throws std::invalid_argument that names the option and what is wrong with it.
[[nodiscard]] simulator_options parse_simulator_options(std::vector<std::string> const& arguments);

/// The manual page.
[[nodiscard]] std::string simulator_help();

struct option_shown {
    std::string name, argument;  ///< "--port", "N"; no argument: a switch
};
/// All that the parser knows.
[[nodiscard]] std::vector<option_shown> simulator_option_list();

}  // namespace qwen
