// SPDX-License-Identifier: MIT
// Rates are exact: one and a half seconds are 1500 milliseconds.
// expect: no matching (function for call to .*rate|constructor for initialization of .*rate)
#include <weir/rate.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
weir::rate r{1, 1.5s};
#else
weir::rate r{1, 1500ms};
#endif
