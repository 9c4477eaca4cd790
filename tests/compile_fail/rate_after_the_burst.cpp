// SPDX-License-Identifier: MIT
// The rate comes first.
// expect: the rate comes first
#include <weir/token_bucket.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
weir::token_bucket bucket{20, weir::rate{100, 1s}};
#else
weir::token_bucket bucket{weir::rate{100, 1s}, 20};
#endif
