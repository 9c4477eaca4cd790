// SPDX-License-Identifier: MIT
// Which of two token counts is the input is said by name.
// expect: named_fields_only
#include <weir/llm/quota.hpp>

#ifdef MISUSE
constexpr weir::llm::tokens call{500, 0};
#else
constexpr weir::llm::tokens call{.input = 500, .output = 0};
#endif
