// SPDX-License-Identifier: MIT
// llm::probation in every interleaving: one probe at a time, and it ends in one way.
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"

#include <weir/clock/manual_clock.hpp>
#include <weir/llm/detail/probation.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>

namespace probation_model_test {

using model::scenario;
using time_point = weir::manual_clock::time_point;
using probation = weir::llm::probation<time_point, model::atomics>;

time_point at(std::int64_t t) { return time_point{std::chrono::nanoseconds{t}}; }

struct world {
    probation p;
    probation::ticket tickets[2];
    bool in[2] = {};

    world() { p.begin(); }
    void enter(int i, std::int64_t t) { in[i] = p.enter(tickets[i], at(t), at(t + 10)); }
};

scenario one_probe() {
    auto w = std::make_shared<world>();
    return {{[w] { w->enter(0, 0); }, [w] { w->enter(1, 0); }}, [w] {
                model::check(w->in[0] != w->in[1], "one of two is the probe");
                model::check(w->p.ready(at(0)) == at(10), "the next waits for it");
            }};
}

scenario gives_way() {
    auto w = std::make_shared<world>();
    w->enter(0, 0);
    return {{[w] { w->p.leave(w->tickets[0]); }, [w] { w->enter(1, 5); }}, [w] {
                model::check(w->p.ready(at(5)) == (w->in[1] ? at(15) : at(5)), "after one has left the next may ask");
            }};
}

// A probe passes while another failure is seen, which begins nothing before that.
scenario passes() {
    auto w = std::make_shared<world>();
    w->enter(0, 0);
    return {{[w] { w->p.pass(w->tickets[0]); }, [w] { w->p.begin(); }}, [w] {
                w->enter(0, 1);
                w->enter(1, 1);
                model::check(w->in[0], "the next may ask");
            }};
}

// A probe that was given up ends late: it does not end the other's.
scenario given_up() {
    auto w = std::make_shared<world>();
    w->enter(0, 0);
    return {{[w] { w->p.pass(w->tickets[0]); }, [w] { w->enter(1, 10); }}, [w] {
                model::check(w->in[1], "the next may ask once the first is given up");
                time_point const next = w->p.ready(at(10));
                model::check(next == at(10) || next == at(20), "calm, or the second is the probe");
            }};
}

TEST(probation_model, has_one_probe_at_a_time) {
    model::sees_either_way("one_probe", one_probe);
    model::sees_either_way("gives_way", gives_way);
    model::sees_either_way("passes", passes);
    model::sees_either_way("given_up", given_up);
}

}  // namespace probation_model_test
