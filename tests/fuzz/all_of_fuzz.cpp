// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/all_of_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::all_of_script, "all_of", data, size);
}
