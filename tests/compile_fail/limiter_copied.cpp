// SPDX-License-Identifier: MIT
// A copy would hand out every permit once more.
// expect: does not move: use try_emplace, deque or unique_ptr
#include <weir/token_bucket.hpp>

void share(weir::token_bucket<>& bucket) {
#ifdef MISUSE
    auto mine = bucket;
#else
    auto& mine = bucket;
#endif
    static_cast<void>(mine.try_acquire());
}
