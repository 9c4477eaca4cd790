// SPDX-License-Identifier: MIT
// A decision is the receipt for what was taken: two of them could give it back twice.
// expect: use of deleted function|call to deleted constructor|call to implicitly-deleted copy
#include <weir/token_bucket.hpp>

#include <utility>

void keep(weir::token_bucket<>& bucket) {
    auto first = bucket.try_acquire();
#ifdef MISUSE
    auto second = first;
#else
    auto second = std::move(first);
#endif
    bucket.refund(second);
}
