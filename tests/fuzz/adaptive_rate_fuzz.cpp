// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/adaptive_rate_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::adaptive_script, "adaptive", data, size);
}
