// SPDX-License-Identifier: MIT
// The first thing that any header of weir includes: one clear sentence in place of a page of syntax errors.
#pragma once

#if defined(_MSVC_LANG) ? _MSVC_LANG < 202002L : __cplusplus < 202002L
#error "weir needs C++20: compile with -std=c++20 (or /std:c++20) or later"
#endif
