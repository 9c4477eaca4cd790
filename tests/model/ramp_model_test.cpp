// SPDX-License-Identifier: MIT
// weir::ramp in every interleaving: grants are spaced, and what refunds and verdicts give back is given back once.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"

#include <weir/client/ramp.hpp>
#include <weir/clock/manual_clock.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>

namespace ramp_model_test {

using model::scenario;
using weir::manual_clock;

using ramp = weir::ramp<manual_clock&, model::atomics>;

manual_clock::time_point at(std::int64_t t) { return manual_clock::time_point{std::chrono::nanoseconds{t}}; }

/// Two permits in 800 ticks, so that grants are 425 apart.
struct world {
    manual_clock clock;
    ramp r{{.interval = std::chrono::nanoseconds{800}, .first = 2, .max_first = 2}, clock};
    int granted = 0;

    void take(std::int64_t t) { granted += r.try_acquire(1, at(t)) ? 1 : 0; }
    void drop(std::int64_t t) {
        auto d = r.try_acquire(1, at(t));
        if (d) model::check(r.refund(d) && !r.refund(d) && !r.burst(d, at(t)), "given back once");
    }
};

scenario instant() {
    auto w = std::make_shared<world>();
    return {{[w] { w->take(0); }, [w] { w->take(0); }}, [w] { model::check(w->granted == 1, "one at an instant"); }};
}

scenario refunds() {
    auto w = std::make_shared<world>();
    return {{[w] { w->drop(0); }, [w] { w->take(0); }}, [w] {
                model::check(w->granted <= 1, "no more than one at an instant");
                model::check(w->granted == 1 || w->r.check(1, at(0)).granted(), "what was given back is there");
            }};
}

// Two verdicts on what was granted before: one volley.
scenario verdicts() {
    struct volley {
        manual_clock clock;
        ramp r{{.interval = std::chrono::nanoseconds{800}, .first = 8, .max_first = 8}, clock};
        ramp::decision a = r.try_acquire(1, at(0));
        ramp::decision b = r.try_acquire(1, at(120));
    };
    auto v = std::make_shared<volley>();
    return {{[v] { model::check(v->r.burst(v->a, at(130)), "a verdict is heard"); },
             [v] { model::check(v->r.burst(v->b, at(130)), "a verdict is heard"); }},
            [v] { model::check(v->r.first() == 6, "lowered by a quarter, once"); }};
}

// Over segments, in each of which one computes what is allowed: a grant at 0 makes room at 425, one at 100 not before
// 475.
scenario segments() {
    auto w = std::make_shared<world>();
    return {{[w] {
                 w->take(0);
                 w->take(425);
             },
             [w] {
                 w->take(100);
                 w->take(425);
             }},
            [w] {
                model::check(w->granted == 1 || w->granted == 2, "as far apart as first allows");
                model::check(w->r.current(at(425)) == 2, "first, from rest");
                model::check(!w->r.check(1, at(474)).granted(), "none sooner than the last one's end");
            }};
}

TEST(ramp_model, grants_are_spaced_and_refunds_are_given_back_once) {
    model::sees_either_way("instant", instant);
    model::sees_either_way("refunds", refunds);
    model::sees_either_way("verdicts", verdicts);
    model::sees_either_way("segments", segments);
}

}  // namespace ramp_model_test
