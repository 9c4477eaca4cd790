// SPDX-License-Identifier: MIT
// upper_bound_clock's anchors in every interleaving, the counter's readings old or new as the memory model allows.
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

namespace {

using namespace std::chrono_literals;
using model::explore;
using model::options;
using model::scenario;

/// A clock that stands at 0, so that a glance shows how far its anchor lies behind.
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

using bounded = weir::basic_upper_bound_clock<still_clock, counter, model::atomics>;

/// A count is at most two nanoseconds, an anchor lives for nine, and each now() makes one.
struct world {
    word counts{0};
    bounded clock{{.margin_ppm = 1'000'000, .slack = 0ns, .max_age = 20ns}, still_clock{}, counter{&counts}};

    void pass(std::uint64_t n) { counts.fetch_add(n, std::memory_order_relaxed); }
    void now_approx() const {
        auto const g = clock.now_approx();
        if (g == still_clock::time_point::max()) return;
        model::check(g.time_since_epoch() >= 0ns, "a glance is never before the clock");
        // Nine counts of two, and 4 for the rounding of either end, and 1.
        model::check(g.time_since_epoch() <= 23ns, "the anchor of a glance is no older than its age");
    }
};

scenario renewing_and_glancing() {
    auto w = std::make_shared<world>();
    return {{[w] {
                 w->pass(12);
                 w->clock.now();
                 w->now_approx();
                 w->pass(12);
                 w->clock.now();
             },
             [w] {
                 w->now_approx();
                 w->now_approx();
             }}};
}

scenario two_renewing() {
    auto w = std::make_shared<world>();
    return {{[w] {
                 w->pass(12);
                 w->clock.now();
                 w->now_approx();
             },
             [w] {
                 w->clock.now();
                 w->now_approx();
             }}};
}

TEST(bounded_clock_model, a_glance_holds_whoever_renews_meanwhile) {
    model::sees_either_way("renewing", renewing_and_glancing);
    model::sees_either_way("two renewing", two_renewing);
}

TEST(bounded_clock_model, each_memory_order_is_earned) {
    int n = 0;
    for (auto const& e :
         model::weaken_each("upper_bound_clock.hpp",
                            {{"renewing", [] { return explore(options::weak("renewing"), renewing_and_glancing); }},
                             {"two", [] { return explore(options::weak("two renewing"), two_renewing); }}})) {
        ++n;
        EXPECT_FALSE(e.noticed_by.empty()) << e.what << " is not needed, or the cases are blind";
    }
    EXPECT_GE(n, 5);
}

}  // namespace
