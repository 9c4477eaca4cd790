// SPDX-License-Identifier: MIT
//
// What a request asks for, read from its body, and what it is going to be answered: how much, and how long that takes.
#pragma once

#include <nlohmann/json.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "errors.hpp"
#include "simulator.hpp"

namespace qwen::simulated {

struct text_size {
    std::uint64_t ascii = 0, cjk = 0, other_bytes = 0;
    void add(std::string_view);
    [[nodiscard]] std::uint64_t tokens() const { return (ascii + 3) / 4 + (2 * cjk + 2) / 3 + (other_bytes + 2) / 3; }
};

struct asked {
    std::string prompt;  ///< all texts, for what depends on the text
    text_size size;
    std::uint64_t messages = 0;
    std::optional<std::uint64_t> max_tokens;
    std::optional<std::uint64_t> input_tokens, output_tokens;
    std::string simulate_error, simulate_mishap;
    std::string fault;           ///< what is wrong with the parameters; empty: nothing
    bool stream = false;         ///< the body's part of it: the native dialect asks by a header
    bool include_usage = false;  ///< stream_options of the compatible dialect
    bool incremental = false;    ///< of the native dialect: each event has the new text alone

    void text(std::string_view s) {
        size.add(s);
        prompt.append(s).push_back('\0');
    }
};

/// Empty if there is none.
[[nodiscard]] std::string model_in(nlohmann::json const& body);
[[nodiscard]] asked read_request(nlohmann::json const& body, dialect, model_settings const&);
[[nodiscard]] planned_answer plan(simulator_settings const&, model_settings const&, asked const&);

}  // namespace qwen::simulated
