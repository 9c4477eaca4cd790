// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/backoff_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::backoff_script, "backoff", data, size);
}
