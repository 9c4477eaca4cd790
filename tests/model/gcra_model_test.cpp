// SPDX-License-Identifier: MIT
// token_bucket, leaky_bucket and leaky_bucket_queue in every interleaving.
#include "linearizable.hpp"
#include "model.hpp"
#include "model_atomic.hpp"

#include <weir/manual_clock.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <ostream>
#include <vector>

namespace {

using namespace std::chrono_literals;
using model::coverage;
using model::explore;
using model::options;
using model::scenario;
using weir::manual_clock;
using weir::permits;
using weir::rate;

using token_bucket = weir::token_bucket<manual_clock&, model::atomics>;

manual_clock::time_point at(std::int64_t t) { return manual_clock::time_point{std::chrono::nanoseconds{t}}; }

struct attempt {
    permits n;
    std::int64_t t;
    friend std::ostream& operator<<(std::ostream& os, attempt const& a) { return os << a.n << " at " << a.t; }
};

/// A permit every 10 ticks.
struct world {
    manual_clock clock;
    token_bucket b;
    weir::gcra g;
    model::history<attempt, bool> h;

    explicit world(permits burst)
        : b{rate{1, 10ns}, burst, clock}, g{*weir::gcra::make<std::chrono::nanoseconds>(rate{1, 10ns}, burst)} {}
    void take(attempt a) {
        h.call(a, [&] { return b.try_acquire(a.n, at(a.t)).granted(); });
    }
    void check() const {
        h.check(std::uint64_t{0}, [this](std::uint64_t tat, attempt const& a, bool const* granted) {
            auto const now = g.at(static_cast<std::uint64_t>(a.t));
            bool const allowed = g.allows(tat, now, a.n);
            if (granted != nullptr && *granted != allowed) return std::vector<std::uint64_t>{};
            return std::vector<std::uint64_t>{allowed ? g.charged(tat, now, a.n) : tat};
        });
    }
};

TEST(gcra_model, two_threads_of_two_attempts_decide_as_the_algorithm_would_in_some_order) {
    for (auto const& o : {options::sc("2x2, SC"), options::weak("2x2")}) {
        auto const out = explore(o, [] {
            auto w = std::make_shared<world>(permits{2});
            return scenario{{[w] {
                                 w->take({1, 0});
                                 w->take({2, 20});
                             },
                             [w] {
                                 w->take({1, 9});
                                 w->take({1, 10});
                             }},
                            [w] { w->check(); }};
        });
        EXPECT_TRUE(out.passed(coverage::complete)) << out;
    }
}

}  // namespace
