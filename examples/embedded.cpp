// SPDX-License-Identifier: MIT
// A limiter as a member of another project's class. The clock is a parameter of that class, so that its tests need not
// sleep. A class that lives on one thread takes plain cells and pays for no atomics.
#include <weir/clock/manual_clock.hpp>
#include <weir/token_bucket.hpp>

#include <chrono>
#include <cstdio>
#include <string_view>

using namespace std::chrono_literals;

// Alarms that page somebody: three at once, then one a minute. What is held back is counted and told with the next one.
template <class Clock = std::chrono::steady_clock>
class pager {
public:
    pager() = default;
    explicit pager(Clock clock) : limit_{weir::rate{1, 1min}, 3, clock} {}

    bool alarm(std::string_view what) {
        if (!limit_.try_acquire()) {
            ++held_back_;
            return false;
        }
        std::printf("paged: %.*s (%d held back)\n", static_cast<int>(what.size()), what.data(), held_back_);
        held_back_ = 0;
        return true;
    }
    int held_back() const { return held_back_; }

private:
    weir::token_bucket<Clock, weir::unsynchronized> limit_{weir::rate{1, 1min}, 3};
    int held_back_ = 0;
};

int main() {
    pager<> in_production;
    if (!in_production.alarm("disk full")) return 1;

    weir::manual_clock clock;
    pager<weir::manual_clock&> under_test{clock};
    for (int i = 0; i < 3; ++i) {
        if (!under_test.alarm("disk full")) return 1;
    }
    if (under_test.alarm("disk still full") || under_test.held_back() != 1) return 1;
    clock.advance(1min);
    return under_test.alarm("disk full for a minute") && under_test.held_back() == 0 ? 0 : 1;
}
