// SPDX-License-Identifier: MIT
// A program of a stranger's that links weir::advice.
#include <weir/llm/advice/advice.hpp>
#include <weir/llm/advice/letter.hpp>
#include <weir/llm/advice/text.hpp>

int main() {
    weir::llm::setup const setup{.models = {{"model", {{"account", {.rpm = 1}}}}}};
    return weir::llm::setup::validate(setup) ? 1 : 0;
}
