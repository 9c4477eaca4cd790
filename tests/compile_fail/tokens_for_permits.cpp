// SPDX-License-Identifier: MIT
// LLM tokens are counted by a quota; a bucket counts permits.
// expect: no matching (member )?function .*try_acquire
#include <weir/llm/quota.hpp>
#include <weir/token_bucket.hpp>

bool serve(weir::token_bucket<>& bucket, weir::llm::tokens cost) {
#ifdef MISUSE
    return bucket.try_acquire(cost).granted();
#else
    return bucket.try_acquire(cost.total()).granted();
#endif
}
