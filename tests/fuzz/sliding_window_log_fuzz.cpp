// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/log_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::sliding_window_log_script, "sliding_window_log", data, size);
}
