// SPDX-License-Identifier: MIT
#include <cstdio>
#include <cstdlib>

extern bool bad_argument_expected;

extern "C" [[noreturn]] void weir_invalid_argument(char const* reason);

extern "C" void weir_invalid_argument(char const* reason) {
    std::printf("refused: %s\n", reason);
    std::_Exit(bad_argument_expected && reason != nullptr && *reason != '\0' ? 0 : 1);
}
