// SPDX-License-Identifier: MIT
// A decision is true or false where that is asked for, and no number.
// expect: cannot convert|no viable conversion
#include <weir/token_bucket.hpp>

int count(weir::token_bucket<>& bucket) {
#ifdef MISUSE
    int const granted = bucket.try_acquire();
#else
    int const granted = bucket.try_acquire() ? 1 : 0;
#endif
    return granted;
}
