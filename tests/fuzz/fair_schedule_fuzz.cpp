// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/fair_schedule_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::fair_order_script, "fair_schedule", data, size);
}
