// SPDX-License-Identifier: MIT
// Options take whole permits too.
// expect: deleted
#include <weir/token_bucket.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
weir::token_bucket bucket{weir::rate{10, 1s}, 5, weir::token_bucket_options{.initial = 0.5}};
#else
weir::token_bucket bucket{weir::rate{10, 1s}, 5, weir::token_bucket_options{.initial = 1}};
#endif
