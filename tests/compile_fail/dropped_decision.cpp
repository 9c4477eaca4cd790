// SPDX-License-Identifier: MIT
// A denial that no one reads is no limit at all.
// misuse: -Werror=unused-result
// expect: unused-result
#include <weir/token_bucket.hpp>

void serve(weir::token_bucket<>& bucket) {
#ifdef MISUSE
    bucket.try_acquire();
#else
    if (!bucket.try_acquire()) return;
#endif
}
