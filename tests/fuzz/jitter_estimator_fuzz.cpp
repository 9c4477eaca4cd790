// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/learnt_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::margin_script, "margin", data, size);
}
