// SPDX-License-Identifier: MIT
#include "fuzz.hpp"

#include "../property/header_sync_script.hpp"

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    return fuzz::run(script::limit_feed_script, "header_sync", data, size);
}
