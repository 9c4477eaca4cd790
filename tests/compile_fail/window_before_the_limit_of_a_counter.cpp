// SPDX-License-Identifier: MIT
// The limit comes first.
// expect: the limit comes first
#include <weir/sliding_window_counter.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
weir::sliding_window_counter wide{1s, 10};
#else
weir::sliding_window_counter wide{10, 1s};
#endif
