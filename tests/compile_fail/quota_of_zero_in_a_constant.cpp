// SPDX-License-Identifier: MIT
// A limit that is not enforced is left out; a limit of zero is an error.
// expect: static(_| )assert(ion)? failed
#include <weir/quota.hpp>

#ifdef MISUSE
constexpr weir::quota plan{.rpm = 600, .tpm = 0};
#else
constexpr weir::quota plan{.rpm = 600};
#endif
static_assert(!weir::quota::validate(plan));
