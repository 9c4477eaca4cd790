// SPDX-License-Identifier: MIT
// A limiter as a member of a class. The clock is a template parameter of that class, so that its tests need not sleep.
// A class that is used by one thread takes weir::unsynchronized and pays for no atomics.
#include <weir/clock/manual_clock.hpp>
#include <weir/token_bucket.hpp>

#include <chrono>
#include <cstdio>
#include <string_view>

using namespace std::chrono_literals;

// Sends alarms: three at once, then one per minute. Alarms above the limit are counted and reported with the next one.
template <class Clock = std::chrono::steady_clock>
class pager {
public:
    pager() = default;
    explicit pager(Clock clock) : limit_{weir::rate{1, 1min}, 3, clock} {}

    bool alarm(std::string_view text) {
        if (!limit_.try_acquire()) {
            ++suppressed_;
            return false;
        }
        std::printf("paged: %.*s (%d suppressed)\n", static_cast<int>(text.size()), text.data(), suppressed_);
        suppressed_ = 0;
        return true;
    }
    int suppressed() const { return suppressed_; }

private:
    weir::token_bucket<Clock, weir::unsynchronized> limit_{weir::rate{1, 1min}, 3};
    int suppressed_ = 0;
};

int main() {
    pager<> production;
    if (!production.alarm("disk full")) return 1;

    weir::manual_clock clock;
    pager<weir::manual_clock&> under_test{clock};
    for (int i = 0; i < 3; ++i) {
        if (!under_test.alarm("disk full")) return 1;
    }
    if (under_test.alarm("disk still full") || under_test.suppressed() != 1) return 1;
    clock.advance(1min);
    return under_test.alarm("disk full for a minute") && under_test.suppressed() == 0 ? 0 : 1;
}
