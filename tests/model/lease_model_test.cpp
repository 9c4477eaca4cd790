// SPDX-License-Identifier: MIT
// Leases over one token_bucket in every interleaving: the promise over the times at which permits are spent, and
// nothing is lost or gained when all has been given back.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"

#include <weir/clock/manual_clock.hpp>
#include <weir/lease.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

namespace lease_model_test {

using namespace std::chrono_literals;
using model::scenario;
using model::sees_either_way;
using weir::manual_clock;
using weir::permits;
using weir::rate;

using bucket = weir::token_bucket<manual_clock&, model::atomics>;
using lease = weir::lease<bucket>;

manual_clock::time_point at(std::int64_t t) { return manual_clock::time_point{std::chrono::nanoseconds{t}}; }

constexpr permits burst = 3;
constexpr permits slice = 2;
constexpr std::int64_t age = 10;

/// A permit every 10 ticks; two leases of two permits that live for 10.
struct world {
    manual_clock clock;
    bucket b{rate{1, 10ns}, burst, clock};
    lease mine[2] = {lease{b, {.slice = slice, .age = std::chrono::nanoseconds{age}}},
                     lease{b, {.slice = slice, .age = std::chrono::nanoseconds{age}}}};
    std::vector<std::int64_t> spent;

    explicit world(std::int64_t now) { clock.advance_to(at(now)); }
    void take(int index, std::int64_t t) {
        if (mine[index].try_acquire(1, at(t))) spent.push_back(t);
    }
    void check() {
        std::sort(spent.begin(), spent.end());
        for (std::size_t i = 0; i < spent.size(); ++i) {
            for (std::size_t j = i; j < spent.size(); ++j) {
                auto const length = spent[j] - spent[i];
                auto const n = static_cast<std::int64_t>(j - i + 1);
                model::check(n <= static_cast<std::int64_t>(burst) + (length + age) / 10, "burst + rate * (T + age)");
                model::check(n <= static_cast<std::int64_t>(burst + 2 * (slice - 1)) + length / 10,
                             "burst + rate * T + what leases hold");
            }
        }
    }
};

// At one instant: then the bucket gives back whole what was not spent, and no more is spent than it holds.
scenario at_one_instant() {
    auto w = std::make_shared<world>(0);
    auto const work = [w](int index) {
        return [w, index] {
            w->take(index, 0);
            w->take(index, 0);
            w->take(index, 0);
            w->mine[index].give_back();
        };
    };
    return {{work(0), work(1)}, [w] {
                (void)w->check();
                model::check(w->spent.size() <= burst, "no more than there is");
                model::check(w->spent.size() >= 2, "each takes one at least");
                model::check(w->b.available(at(0)) == burst - w->spent.size(), "what was not spent has come back");
            }};
}

TEST(lease_model, two_leases_at_one_instant_spend_what_there_is_and_give_back_the_rest) {
    sees_either_way("instant", at_one_instant);
}

// Over time: slices lapse and are refunded while the other takes.
TEST(lease_model, two_leases_over_time_keep_both_bounds) {
    sees_either_way("over time", [] {
        auto w = std::make_shared<world>(30);
        return scenario{{[w] {
                             w->take(0, 0);
                             w->take(0, 0);   // takes two, if they are there
                             w->take(0, 11);  // lapsed: one goes back
                         },
                         [w] {
                             w->take(1, 9);
                             w->take(1, 9);
                             w->take(1, 19);  // spent at its last tick
                         }},
                        [w] { w->check(); }};
    });
}

}  // namespace lease_model_test
