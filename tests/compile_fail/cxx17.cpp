// SPDX-License-Identifier: MIT
// An older standard is one sentence, not a page of errors.
// misuse: -std=c++17
// expect: weir needs C.*20: compile with -std=c
#include <weir/token_bucket.hpp>
