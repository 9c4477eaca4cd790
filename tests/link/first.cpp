// SPDX-License-Identifier: MIT
// One of two translation units that include everything: they link, and share every entity of the headers.
#include "../support/every_limiter.hpp"

bool first_unit_works() { return every_limiter_works(); }
weir::version_number const* version_of_first_unit() { return &weir::version; }
