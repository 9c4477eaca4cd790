// SPDX-License-Identifier: MIT
// expect: no matching (function for call to .*rate|constructor for initialization of .*rate)
#include <weir/rate.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
weir::rate r{1s, 100};
#else
weir::rate r{100, 1s};
#endif
