// SPDX-License-Identifier: MIT
//
// The options of dashscope_simulator as one table, which the parser and --help read.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "simulator_options.hpp"

namespace qwen::simulated {

/// One option of a command line. The members read its value, or a part of it; they throw std::invalid_argument.
struct given_option {
    std::string flag, value;

    [[noreturn]] void wrong(std::string const& why) const;
    [[nodiscard]] std::uint64_t whole(std::string const& text) const;
    [[nodiscard]] std::uint64_t whole() const { return whole(value); }
    [[nodiscard]] double real(std::string const& text) const;
    [[nodiscard]] double real() const { return real(value); }
    [[nodiscard]] bool yes() const;
    [[nodiscard]] std::optional<std::uint64_t> limit(std::string const& text) const;  ///< "" or "none": empty
    template <class T>
    [[nodiscard]] T one_of(std::string const& text, std::map<std::string, T> const& known) const {
        auto const at = known.find(text);
        if (at != known.end()) return at->second;
        std::string all;
        for (auto const& [k, v] : known) all += (all.empty() ? "" : ", ") + k;
        wrong("one of " + all);
    }
};

/// What the options have set so far. Some take effect only when all are known.
struct options_so_far {
    simulator_options out;
    std::vector<model_settings> models;
    std::vector<std::pair<std::string, std::string>> keys;
    std::vector<std::function<void(model_settings&)>> for_all_models;
    std::vector<std::function<void(simulator_settings&)>> last;  // when models and accounts are known

    simulator_settings& s() { return out.settings; }
};

struct option {
    char const* name;
    char const* argument;  // "": none
    char const* text;
    void (*take)(options_so_far&, given_option const&);
};

struct option_group {
    char const* title;
    std::vector<option> options;
};

[[nodiscard]] std::vector<option_group> const& option_groups();

/// The account of that name; a new one if there is none.
[[nodiscard]] account_settings& account_named(simulator_settings&, std::string const& name);

}  // namespace qwen::simulated
