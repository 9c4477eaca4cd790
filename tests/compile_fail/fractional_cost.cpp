// SPDX-License-Identifier: MIT
// Costs of parts are whole permits.
// expect: deleted|no matching
#include <weir/all_of.hpp>
#include <weir/token_bucket.hpp>

bool take(weir::token_bucket<>& a, weir::token_bucket<>& b) {
    weir::all_of both{a, b};
#ifdef MISUSE
    return both.try_acquire({1, 0.5}).granted();
#else
    return both.try_acquire({1, 2}).granted();
#endif
}
