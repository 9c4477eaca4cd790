// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/counter_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::sliding_window_counter_script, "sliding_window_counter", data, size);
}
