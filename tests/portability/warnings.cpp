// SPDX-License-Identifier: MIT
// Every header, with warnings that weir's own programs are not compiled with. The test passes when this file compiles.
#include "every_header.hpp"
