// SPDX-License-Identifier: MIT
// A user's program, which has got weir in one way or another.
#include <weir/clock/manual_clock.hpp>
#include <weir/token_bucket.hpp>
#include <weir/version.hpp>

#include <chrono>
#include <functional>

static_assert(weir::version == weir::version_number{WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR, WEIR_VERSION_PATCH});

int main() {
    using namespace std::chrono_literals;
    weir::manual_clock clock;
    weir::token_bucket bucket{weir::rate{1, 1s}, 1, std::ref(clock)};
    bool const first = bucket.try_acquire().granted();
    bool const second = bucket.try_acquire().granted();
    clock.advance(1s);
    bool const third = bucket.try_acquire().granted();
    return first && !second && third ? 0 : 1;
}
