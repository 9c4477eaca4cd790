// SPDX-License-Identifier: MIT
//
// Three words for small programs, and what they can leave: for the tests of the checker itself.
#pragma once

#include "model.hpp"
#include "model_atomic.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <set>
#include <vector>

namespace litmus {

using model::coverage;
using model::explore;
using model::options;
using model::outcome;
using model::scenario;

constexpr auto relaxed = std::memory_order_relaxed;
constexpr auto acquire = std::memory_order_acquire;
constexpr auto release = std::memory_order_release;
constexpr auto acq_rel = std::memory_order_acq_rel;

using cell = model::atomics::atomic<int>;

/// Three words and what was read. The registers begin at -1, which no thread writes.
struct words {
    cell x{0}, y{0}, z{0};
    int r[6] = {-1, -1, -1, -1, -1, -1};
};
using registers = std::vector<int>;

/// All that `threads` can leave in the first n registers.
inline std::set<registers> results(options const& o, std::size_t n,
                                   std::vector<std::function<void(words&)>> const& threads,
                                   coverage expected = coverage::complete) {
    std::set<registers> all;
    auto const out = explore(o, [&] {
        auto w = std::make_shared<words>();
        scenario s;
        for (auto const& t : threads) s.threads.push_back([w, &t] { t(*w); });
        s.check = [w, n, &all] { all.insert(registers(w->r, w->r + n)); };
        return s;
    });
    EXPECT_TRUE(out.passed(expected)) << out;
    return all;
}

}  // namespace litmus
