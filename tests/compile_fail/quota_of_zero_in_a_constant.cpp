// SPDX-License-Identifier: MIT
// A limit that is not enforced is left out; a limit of zero is an error.
// expect: static(_| )assert(ion)? failed
#include <weir/llm/quota.hpp>

#ifdef MISUSE
constexpr weir::llm::quota plan{.rpm = 600, .tpm = 0};
#else
constexpr weir::llm::quota plan{.rpm = 600};
#endif
static_assert(!weir::llm::quota::validate(plan));
