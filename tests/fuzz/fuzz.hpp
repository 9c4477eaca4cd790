// SPDX-License-Identifier: MIT
//
// One fuzz target a file: its bytes are a schedule, the interpreter is the property tests', the oracle the assertion.
// Linked with libFuzzer it searches; linked with replay.cpp it runs files.
#pragma once

#include "../property/script.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace fuzz {

/// Long schedules tell no more than several short ones.
constexpr std::size_t most_bytes = 1024;

inline int run(script::interpreter const& f, char const* name, std::uint8_t const* data, std::size_t size) {
    if (size > most_bytes) return -1;
    auto const s = script::from_bytes({data, size});
    if (script::failure(f, s).empty()) return 0;
    std::fprintf(stderr, "%s\n", script::report(f, name, s).c_str());
    std::abort();
}

}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size);
