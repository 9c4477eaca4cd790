// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/retry_budget_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::retry_budget_script, "retry_budget", data, size);
}
