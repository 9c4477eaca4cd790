// SPDX-License-Identifier: MIT
//
// What tests of the checker's outcomes and of programs of operations share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iostream>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "model.hpp"

namespace model {

/// By newest stores in real time, with so many preemptions: where all interleavings are too many.
inline options preempted(unsigned preemptions) {
    options o = options::sc("");
    o.preemptions = preemptions;
    return o;
}

/// All that such a search can show.
inline coverage whole(options const& o) {
    return o.preemptions == options::unlimited ? coverage::complete : coverage::preemption_bounded;
}

inline void sees(outcome const& o, coverage expected) {
    std::cout << o << std::endl;
    EXPECT_TRUE(o.passed(expected)) << o;
}
inline void sees(options const& o, std::function<scenario()> const& make) { sees(explore(o, make), whole(o)); }

/// By newest stores in real time, and by old ones too with a failure for nothing.
inline void sees_either_way(std::string const& name, std::function<scenario()> const& make) {
    sees(options::sc(name + ", SC"), make);
    sees(options::weak(name), make);
}

/// Each thread runs its operations on the world one by one, and at the end the world is checked. `threads` must stay.
template <class World, class Op>
scenario play(std::shared_ptr<World> const& w, std::vector<std::vector<Op>> const& threads) {
    scenario s;
    for (auto const& ops : threads) {
        s.threads.push_back([w, &ops] {
            for (auto const& o : ops) w->run(o);
        });
    }
    s.check = [w] { w->check(); };
    return s;
}

/// "one two | three | four", of the threads' operations.
template <class Op>
void print(std::ostream& os, std::vector<Op> const& before, std::vector<std::vector<Op>> const& threads) {
    for (auto const& o : before) os << ' ' << o;
    for (auto const& t : threads) {
        os << " |";
        for (auto const& o : t) os << ' ' << o;
    }
}

/// How many steps operations took, over all executions. One that meets no other takes so many at most; what it takes
/// beyond them it owes to what others wrote, or to what failed for nothing.
struct paid_steps {
    unsigned alone;            // at most, where no other wrote meanwhile and nothing failed for nothing
    unsigned undisturbed = 0;  // those that were seen
    unsigned ratio = 0;        // steps beyond `alone` for each such event, rounded up

    void add(span const& s) {
        unsigned const events = s.others + s.spurious;
        if (events == 0) undisturbed = std::max(undisturbed, s.steps);
        if (s.steps <= alone) return;
        check(events != 0, "an undisturbed operation takes too many steps");
        ratio = std::max(ratio, (s.steps - alone + events - 1) / events);
    }
    friend std::ostream& operator<<(std::ostream& os, paid_steps const& p) {
        return os << "undisturbed at most " << p.undisturbed << " steps, beyond " << p.alone << " at most " << p.ratio
                  << " for each event";
    }
};

/// What the executions of one exploration hand on to each other.
struct findings {
    paid_steps steps;
    std::set<std::vector<std::uint64_t>> right;  // keys of histories: none need be checked twice
};

/// Explores a program by worlds that are made of it and of findings, or (`frozen` > 0) has so many of its threads stop
/// forever after every number of steps.
template <class World, class Program>
outcome explore_program(options o, Program const& p, unsigned frozen = 0) {
    findings found{{World::undisturbed_steps}, {}};
    auto const begun = std::chrono::steady_clock::now();
    o.name += (o.name.empty() ? "" : " ") + p.name();
    auto const make = [&] { return play(std::make_shared<World>(p, found), p.threads); };
    auto const threads = static_cast<unsigned>(p.threads.size());
    auto const out = frozen == 0 ? explore(o, make) : explore_frozen(o, threads, frozen, make);
    std::chrono::duration<double> const took = std::chrono::steady_clock::now() - begun;
    std::cout << out << "; " << found.steps << "; " << found.right.size() << " histories, " << took.count() << " s"
              << std::endl;
    return out;
}

template <class World, class Program>
void expect_right(options const& o, std::initializer_list<Program> programs, unsigned frozen = 0) {
    for (auto const& p : programs) {
        auto const out = explore_program<World>(o, p, frozen);
        EXPECT_TRUE(out.passed(whole(o))) << out;
    }
}

/// A clock for operations that bring their times.
struct still {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<still>;
    static constexpr bool is_steady = true;
    static time_point now() { return time_point{}; }
};

}  // namespace model
