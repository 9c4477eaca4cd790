// SPDX-License-Identifier: MIT
// A copy would hand out every permit once more.
// expect: use of deleted function|call to deleted constructor
#include <weir/token_bucket.hpp>

void share(weir::token_bucket<>& bucket) {
#ifdef MISUSE
    auto mine = bucket;
#else
    auto& mine = bucket;
#endif
    static_cast<void>(mine.try_acquire());
}
