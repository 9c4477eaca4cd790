// SPDX-License-Identifier: MIT
// expect: throw_invalid_argument|weir_invalid_argument
#include <weir/rate.hpp>

using namespace std::chrono_literals;

#ifdef MISUSE
constexpr weir::rate r{0, 1s};
#else
constexpr weir::rate r{1, 1s};
#endif
