// SPDX-License-Identifier: MIT
// A token count is a whole number.
// expect: (deleted function|no viable conversion)
#include <weir/llm/quota.hpp>

weir::llm::tokens half(double n) {
#ifdef MISUSE
    return {.input = n};
#else
    return {.input = static_cast<long>(n)};
#endif
}
