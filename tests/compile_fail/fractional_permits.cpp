// SPDX-License-Identifier: MIT
// Half a permit does not exist: it would be none, granted without end.
// expect: deleted
#include <weir/token_bucket.hpp>

bool take(weir::token_bucket<>& bucket) {
#ifdef MISUSE
    return bucket.try_acquire(0.5).granted();
#else
    return bucket.try_acquire(5).granted();
#endif
}
