// SPDX-License-Identifier: MIT
//
// A request on its way through the simulator.
#pragma once

#include <cstdint>
#include <utility>

#include "answer_plan.hpp"
#include "chance.hpp"
#include "errors.hpp"
#include "faults.hpp"
#include "simulator.hpp"

namespace qwen::simulated {

/// A request of any kind.
struct exchange {
    dialect speaks;
    chance rng;
    std::int64_t arrival_real;  ///< CLOCK_MONOTONIC
    request_record record;
};

/// A request for a completion. What it takes, a place in flight and a ticket of the judge, is given back once:
/// admission::complete and admission::leave.
struct completion_call : exchange {
    explicit completion_call(exchange x) : exchange{std::move(x)} {}
    planned_answer planned{};
    asked wants{};
    mishap drawn = mishap::none;
    bool stream = false;  ///< it asks for server-sent events
    bool inside = false;  ///< it is counted in flight
    bool fails = false;   ///< it ends with internal_error, after the call ran
    bool ended = false;
    std::uint64_t ticket = 0;                ///< of the judge; 0: none, or given back
    std::uint64_t made = 0;                  ///< of the output, and sent
    std::int64_t began_ns = 0;               ///< true time
    std::int64_t first_ns = 0, last_ns = 0;  ///< of the first and the last token, from then
};

}  // namespace qwen::simulated
