// SPDX-License-Identifier: MIT
// expect: no matching (member )?function .*refund
#include <weir/sliding_window_counter.hpp>
#include <weir/token_bucket.hpp>

void give_back(weir::token_bucket<>& bucket, weir::sliding_window_counter<>& counter) {
    auto taken = bucket.try_acquire();
#ifdef MISUSE
    counter.refund(taken);
#else
    bucket.refund(taken);
    static_cast<void>(counter.available());
#endif
}
