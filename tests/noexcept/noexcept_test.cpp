// SPDX-License-Identifier: MIT
// A program without exceptions and RTTI: every limiter works; and a bad argument, where make() is not used to learn of
// it, ends in the one handler that the program has replaced (handler.cpp), which says that this was meant to happen.
#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "to be compiled with -fno-exceptions -fno-rtti"
#endif

#include "../support/every_limiter.hpp"

bool bad_argument_expected = false;

int main() {
    using namespace std::chrono_literals;
    if (!every_limiter_works()) return 1;
    if (weir::rate::make(0, 1s)) return 1;
    bad_argument_expected = true;
    weir::rate const bad{0, 1s};
    std::puts("a bad argument did not reach the handler");
    return bad.count() == 0 ? 1 : 2;
}
