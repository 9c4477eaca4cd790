// SPDX-License-Identifier: MIT
// The parts of an all_of are asked with one time point.
// expect: must have one clock
#include <weir/all_of.hpp>
#include <weir/token_bucket.hpp>

using namespace std::chrono_literals;

void both() {
    weir::token_bucket a{weir::rate{10, 1s}, 5};
#ifdef MISUSE
    weir::token_bucket b{weir::rate{10, 1s}, 5, std::chrono::system_clock{}};
#else
    weir::token_bucket b{weir::rate{10, 1s}, 5};
#endif
    weir::all_of all{a, b};
}
