// SPDX-License-Identifier: MIT
// A refused change that no one notices leaves the old limit in force.
// misuse: -Werror=unused-result
// expect: unused-result
#include <weir/token_bucket.hpp>

using namespace std::chrono_literals;

void faster(weir::token_bucket<>& bucket) {
#ifdef MISUSE
    bucket.change({weir::rate{200, 1s}, 40});
#else
    if (auto e = bucket.change({weir::rate{200, 1s}, 40})) static_cast<void>(e.message());
#endif
}
