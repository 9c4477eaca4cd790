// SPDX-License-Identifier: MIT
// A number alone is no rate: 100 per what?
// expect: no matching function|no viable constructor|class template argument deduction failed
#include <weir/token_bucket.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
weir::token_bucket bucket{100, 20};
#else
weir::token_bucket bucket{weir::rate{100, 1s}, 20};
#endif
