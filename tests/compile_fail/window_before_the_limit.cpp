// SPDX-License-Identifier: MIT
// The limit comes first.
// expect: the limit comes first
#include <weir/sliding_window_log.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
weir::sliding_window_log log{1s, 10};
#else
weir::sliding_window_log log{10, 1s};
#endif
