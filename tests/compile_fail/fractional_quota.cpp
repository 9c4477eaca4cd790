// SPDX-License-Identifier: MIT
// Permits are whole numbers.
// expect: deleted
#include <weir/llm/quota.hpp>

#ifdef MISUSE
constexpr weir::llm::quota limits{.rpm = 0.5};
#else
constexpr weir::llm::quota limits{.rpm = 1};
#endif
static_assert(limits.rpm == 1);
