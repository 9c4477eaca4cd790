// SPDX-License-Identifier: MIT
// A program of a stranger's that links weir::llm.
#include <weir/llm/quota_limiter.hpp>
#include <weir/llm/verdict.hpp>

int main() {
    weir::llm::quota_limiter quota{weir::llm::quota{.rpm = 1}};
    bool const first = quota.try_acquire({.input = 10, .output = 10}).granted();
    bool const second = quota.try_acquire({.input = 10, .output = 10}).granted();
    return first && !second ? 0 : 1;
}
