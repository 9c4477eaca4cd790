// SPDX-License-Identifier: MIT
// weir::ack_window in every interleaving: no window has more arrivals than slots, with bounds, without, and with
// refunds.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"

#include <weir/client/ack_window.hpp>
#include <weir/clock/manual_clock.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace ack_window_model_test {

using namespace std::chrono_literals;
using model::scenario;
using model::sees_either_way;
using weir::manual_clock;

using window = weir::ack_window<manual_clock&, model::atomics>;

manual_clock::time_point at(std::int64_t t) { return manual_clock::time_point{std::chrono::nanoseconds{t}}; }

constexpr std::int64_t length = 10;
constexpr std::int64_t max_delay = 30;

struct world {
    manual_clock clock;
    window w;
    std::vector<std::int64_t> arrivals;

    explicit world(weir::permits limit)
        : w{limit, std::chrono::nanoseconds{length}, {.max_delay = std::chrono::nanoseconds{max_delay}}, clock} {}

    /// Granted at t, it arrives 2 later, and its answer bounds that at 5 later.
    bool call(std::int64_t t) {
        auto d = w.try_acquire(1, at(t));
        if (!d) return false;
        arrivals.push_back(t + 2);
        model::check(w.confirm(d, at(t + 5)), "a slot that is in time is confirmed");
        model::check(!w.refund(d), "once");
        return true;
    }
    /// Granted at t, and never sent.
    void drop(std::int64_t t) {
        auto d = w.try_acquire(1, at(t));
        if (!d) return;
        model::check(w.refund(d) == 1, "a slot that is in time is given back");
        model::check(!w.refund(d) && !w.confirm(d), "once");
    }
    void check() {
        std::sort(arrivals.begin(), arrivals.end());
        auto const limit = static_cast<std::size_t>(w.limit());
        for (std::size_t i = 0; i + limit < arrivals.size(); ++i) {
            model::check(arrivals[i + limit] - arrivals[i] >= length, "no more arrivals in a window than slots");
        }
    }
};

// One slot; the first call's bound is at 5, so that it is free at 15.
scenario turns() {
    auto w = std::make_shared<world>(1);
    return {{[w] {
                 w->call(0);
                 w->call(15);
             },
             [w] {
                 w->drop(14);
                 w->call(15);
             }},
            [w] {
                w->check();
                model::check(!w->arrivals.empty() && w->arrivals.size() <= 2,
                             "one at least, and no more than two turns");
            }};
}

// One slot, whose first request is confirmed so late that the slot may be taken again.
scenario late() {
    auto w = std::make_shared<world>(1);
    return {{[w] {
                 auto d = w->w.try_acquire(1, at(0));
                 if (!d) return;
                 w->arrivals.push_back(2);
                 w->w.confirm(d, at(5));
             },
             [w] {
                 w->call(40);
                 w->call(44);
             }},
            [w] { w->check(); }};
}

// Two slots, three at one instant, one of which never sends.
scenario instant() {
    auto w = std::make_shared<world>(2);
    return {{[w] { w->call(0); }, [w] { w->call(0); }, [w] { w->drop(0); }}, [w] {
                w->check();
                model::check(!w->arrivals.empty(), "one is granted");
                model::check(w->arrivals.size() == 2 || w->w.check(1, at(0)).granted(),
                             "a slot that was given back is there");
            }};
}

TEST(ack_window_model, a_slot_has_one_arrival_in_a_window) { sees_either_way("turns", turns); }
TEST(ack_window_model, a_late_confirmation_does_not_free_a_slot_taken_again) { sees_either_way("late", late); }
TEST(ack_window_model, at_one_instant_as_many_are_granted_as_slots_exist) { sees_either_way("instant", instant); }

}  // namespace ack_window_model_test
