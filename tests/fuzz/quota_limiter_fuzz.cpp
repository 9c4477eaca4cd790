// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/quota_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::quota_limiter_script, "quota_limiter", data, size);
}
