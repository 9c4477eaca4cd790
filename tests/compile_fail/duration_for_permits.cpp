// SPDX-License-Identifier: MIT
// expect: no matching (member )?function .*try_acquire
#include <weir/token_bucket.hpp>

using namespace std::chrono_literals;

bool serve(weir::token_bucket<>& bucket) {
#ifdef MISUSE
    return bucket.try_acquire(5s).granted();
#else
    return bucket.try_acquire(5).granted();
#endif
}
