// SPDX-License-Identifier: MIT
// expect: no matching (member )?function .*try_acquire
#include <weir/token_bucket.hpp>

using namespace std::chrono_literals;

bool serve(weir::token_bucket<>& bucket) {
#ifdef MISUSE
    return bucket.try_acquire(1, std::chrono::system_clock::now()).granted();
#else
    return bucket.try_acquire(1, std::chrono::steady_clock::now()).granted();
#endif
}
