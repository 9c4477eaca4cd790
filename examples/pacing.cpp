// SPDX-License-Identifier: MIT
// Pacing a loop: every round leaves at its own moment, 5 ms after the one before, however long the work takes.
#include <weir/detail/parker.hpp>
#include <weir/leaky_bucket_queue.hpp>

#include <chrono>
#include <cstdio>

using namespace std::chrono_literals;

int main() {
    weir::leaky_bucket_queue pace{weir::rate{200, 1s}, 1};
    auto const start = pace.clock().now();
    auto last = start - 5ms;
    for (int round = 0; round < 20; ++round) {
        auto const turn = pace.try_acquire();
        if (!turn) return 1;  // more than one ahead: cannot be, in a loop that waits for its turns
        weir::sleep_until(pace.clock(), turn.departs_at());
        if (turn.departs_at() - last < 5ms) return 1;
        last = turn.departs_at();
    }
    auto const took = pace.clock().now() - start;
    std::printf("20 rounds at 200 a second took %.1f ms\n", std::chrono::duration<double, std::milli>(took).count());
    return took >= 95ms ? 0 : 1;
}
