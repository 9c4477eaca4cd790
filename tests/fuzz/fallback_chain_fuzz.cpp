// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/pool_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::fallback_chain_script, "fallback_chain", data, size);
}
