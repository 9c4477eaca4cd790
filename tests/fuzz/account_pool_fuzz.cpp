// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/pool_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::account_pool_script, "account_pool", data, size);
}
