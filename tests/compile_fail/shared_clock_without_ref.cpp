// SPDX-License-Identifier: MIT
// A clock that other objects share is passed visibly, by std::ref; it would dangle otherwise.
// expect: std::ref
#include <weir/clock/manual_clock.hpp>
#include <weir/token_bucket.hpp>

#include <functional>

using namespace std::chrono_literals;

void make(weir::manual_clock& clock) {
#ifdef MISUSE
    weir::token_bucket bucket{weir::rate{100, 1s}, 20, clock};
#else
    weir::token_bucket bucket{weir::rate{100, 1s}, 20, std::ref(clock)};
#endif
    static_cast<void>(bucket.available());
}
