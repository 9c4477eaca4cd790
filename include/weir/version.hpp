// SPDX-License-Identifier: MIT
// The version of weir. This is its one place: the build, the package files and `weir::version` read it from here.
// A change that breaks callers raises MAJOR (MINOR while MAJOR is 0). The inline namespace of every header is called
// v<MAJOR>, so two majors can be linked into one program.
#pragma once

#include "detail/cpp20.hpp"

#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
#define WEIR_VERSION_PATCH 0

// One number to compare in #if: 10203 is 1.2.3.
#define WEIR_VERSION (WEIR_VERSION_MAJOR * 10000 + WEIR_VERSION_MINOR * 100 + WEIR_VERSION_PATCH)

namespace weir::inline v0 {

struct version_number {
    int major_number, minor_number, patch_number;  // not major and minor: some C libraries define these as macros
    friend constexpr bool operator==(version_number, version_number) = default;
};

[[gnu::__visibility__("hidden")]] inline constexpr version_number version{WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR,
                                                                          WEIR_VERSION_PATCH};

}  // namespace weir::inline v0
