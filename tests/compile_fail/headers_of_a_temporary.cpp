// SPDX-License-Identifier: MIT
// Headers refer to a look-up that is too large to be copied: one that ends with the statement would dangle.
// expect: deleted function|deleted constructor|selected deleted operator
#include <weir/llm/header_map.hpp>
#include <weir/llm/verdict.hpp>

void show(weir::llm::answer& answer, weir::llm::header_map const& fields) {
#ifdef MISUSE
    answer.headers = weir::llm::header_map{fields};
#else
    answer.headers = fields;
#endif
}
