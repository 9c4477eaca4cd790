// SPDX-License-Identifier: MIT
// 1.5 a second is 3 in two seconds, not 1 a second.
// expect: deleted
#include <weir/rate.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
weir::rate const r{1.5, 1s};
#else
weir::rate const r{3, 2s};
#endif
