// SPDX-License-Identifier: MIT
//
// The fuzz targets of a replay program. CMake writes the table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fuzz {

struct target {
    char const* name;
    int (*run)(std::uint8_t const* data, std::size_t size);
};

extern std::vector<target> const targets;

}  // namespace fuzz
