// SPDX-License-Identifier: MIT
#include <cstdio>

#include "../support/every_limiter.hpp"

bool first_unit_works();
weir::version_number const* version_of_first_unit();

int main() {
    if (version_of_first_unit() != &weir::version) {
        std::puts("the two units have an object each");
        return 1;
    }
    return first_unit_works() && every_limiter_works() ? 0 : 1;
}
