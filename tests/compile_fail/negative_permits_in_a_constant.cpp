// SPDX-License-Identifier: MIT
// A negative number of permits is refused by the compiler where it can see it.
// expect: the_number_of_permits_must_not_be_negative
#include <weir/limiter.hpp>

#ifdef MISUSE
constexpr weir::permit_count n = -1;
#else
constexpr weir::permit_count n = 1;
#endif
static_assert(n == 1U);
