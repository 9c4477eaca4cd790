// SPDX-License-Identifier: MIT
// 100 in 60 of what?
// expect: deduction (failed|of template arguments)|no viable constructor
#include <weir/sliding_window_counter.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
weir::sliding_window_counter counter{100, 60};
#else
weir::sliding_window_counter counter{100, 60s};
#endif
