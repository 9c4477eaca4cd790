// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/bucket_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::leaky_bucket_script, "leaky_bucket", data, size);
}
