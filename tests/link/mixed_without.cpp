// SPDX-License-Identifier: MIT
// Compiled without exceptions and RTTI.
#include "mixed.hpp"

#if defined(__cpp_exceptions)
#error "this unit must be compiled with -fno-exceptions"
#endif

WEIR_MIXED_UNIT(unit_without_exceptions)
