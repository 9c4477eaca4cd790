// SPDX-License-Identifier: MIT
// upper_bound_clock's anchors in every interleaving, with every reading of the counter that the memory model allows.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "weakening.hpp"

#include <weir/clock/upper_bound_clock.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace upper_bound_clock_model_test {

using namespace std::chrono_literals;
using model::explore;
using model::options;
using model::scenario;

/// Its time is always 0, so that now_approx() shows the age of the anchor.
struct still_clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<still_clock>;
    static time_point now() noexcept { return {}; }
};

using word = model::atomics::atomic<std::uint64_t>;

struct counter {
    word* at;
    std::uint64_t read() const noexcept { return at->load(std::memory_order_relaxed); }
    static weir::detail::calibration calibrate(std::chrono::nanoseconds) { return {std::int64_t{1} << 40, 0, 0, 0}; }
};

using bound_clock = weir::basic_upper_bound_clock<still_clock, counter, model::atomics>;

/// A count is at most 2 ns, an anchor lives for 9 counts, and each now() makes one.
struct world {
    word counts{0};
    bound_clock clock{{.margin_ppm = 1'000'000, .slack = 0ns, .max_age = 20ns}, still_clock{}, counter{&counts}};

    void pass(std::uint64_t n) { counts.fetch_add(n, std::memory_order_relaxed); }
    void read() const {
        auto const t = clock.now_approx();
        if (t == still_clock::time_point::max()) return;
        model::check(t.time_since_epoch() >= 0ns, "now_approx() is never before now()");
        // 9 counts of 2 ns, 4 ns for rounding at either end, and 1.
        model::check(t.time_since_epoch() <= 23ns, "no anchor is used after max_age");
    }
};

scenario renewing_and_reading() {
    auto w = std::make_shared<world>();
    return {{[w] {
                 w->pass(12);
                 w->clock.now();
                 w->read();
                 w->pass(12);
                 w->clock.now();
             },
             [w] {
                 w->read();
                 w->read();
             }}};
}

scenario two_renewing() {
    auto w = std::make_shared<world>();
    return {{[w] {
                 w->pass(12);
                 w->clock.now();
                 w->read();
             },
             [w] {
                 w->clock.now();
                 w->read();
             }}};
}

TEST(upper_bound_clock_model, now_approx_holds_whichever_thread_renews) {
    model::sees_either_way("renewing", renewing_and_reading);
    model::sees_either_way("two renewing", two_renewing);
}

TEST(upper_bound_clock_model, each_memory_order_is_needed) {
    int n = 0;
    for (auto const& e :
         model::weaken_each("upper_bound_clock.hpp",
                            {{"renewing", [] { return explore(options::weak("renewing"), renewing_and_reading); }},
                             {"two", [] { return explore(options::weak("two renewing"), two_renewing); }}})) {
        ++n;
        EXPECT_FALSE(e.noticed_by.empty()) << e.what << " is not needed, or no case shows that it is";
    }
    EXPECT_GE(n, 5);
}

}  // namespace upper_bound_clock_model_test
