// SPDX-License-Identifier: MIT
//
// Histories of operations, and whether a sequential specification explains them.
//
//     model::history<op, bool> h;  // in the scenario's state
//     h.call({n, t}, [&] { return b.try_acquire(n, at(t)).granted(); });  // in a thread; returns the result
//     h.check(initial, [](state const& s, op const& o, bool const* granted) -> std::vector<state> {...});  // last
//
// The specification is a step: the states that may follow from a state when an operation returned this result; none
// where it may not; the result is null when the operation has not returned (its thread was frozen): then any it might
// have had.
//
// Order to be respected: in a search with options.real_time, an operation that returned before another began comes
// before it. Otherwise happens-before: program order, and what the operations themselves make visible. A relaxed load
// may be stale with regard to an operation that it does not follow in that sense, so more cannot be asked. (States that
// only grow deny no more when they are stale.)
//
// Search: J. Wing and C. Gong, "Testing and verifying concurrent objects", 1993, with the memo of G. Lowe, "Testing for
// linearizability", 2017: a set of operations done and the state after it need be tried once only.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "model.hpp"

namespace model {

template <class Op, class Result>
class history {
public:
    struct entry {
        Op op;
        std::optional<Result> result;
        span time;
    };

    template <class F>
    Result call(Op op, F f) {
        std::size_t const i = entries_.size();
        entries_.push_back({op, {}, {}});
        span const s = begin();
        entries_[i].time = s;
        Result r = f();
        entries_[i].result = r;
        entries_[i].time = end(s);
        if (tracing()) note(describe(entries_[i]));
        return r;
    }

    std::vector<entry> const& entries() const { return entries_; }

    /// Adds to a result what is best found out at the end.
    template <class F>
    void amend(std::size_t i, F f) {
        if (entries_[i].result) f(*entries_[i].result);
    }

    bool all_returned() const {
        return std::all_of(entries_.begin(), entries_.end(), [](entry const& e) { return e.result.has_value(); });
    }

    /// All that a verdict on the history goes by, where the operations are always the same: which returned, what (as
    /// add(key, result) writes it), and what came before what.
    template <class F>
    std::vector<std::uint64_t> key(F add) const {
        std::vector<std::uint64_t> all;
        for (auto const& e : entries_) {
            all.push_back(static_cast<std::uint64_t>(e.time.thread + 1) << 8U | (e.result ? 1U : 0U));
            if (e.result) add(all, *e.result);
            std::uint64_t before = 0;
            for (std::size_t j = 0; j < entries_.size(); ++j) {
                before |= std::uint64_t{entries_[j].time.precedes(e.time)} << j;
            }
            all.push_back(before);
        }
        return all;
    }

    /// Whether an order of the operations explains all results, from `initial` by `step`. State: copyable, with <.
    template <class State, class Step>
    bool linearizable(State const& initial, Step step) const {
        std::size_t const n = entries_.size();
        before_.assign(n, 0);
        done_ = 0;
        for (std::size_t i = 0; i < n; ++i) {
            if (entries_[i].result) done_ |= std::uint32_t{1} << i;
            for (std::size_t j = 0; j < n; ++j) {
                if (j != i && entries_[j].time.precedes(entries_[i].time)) before_[i] |= std::uint32_t{1} << j;
            }
        }
        std::set<std::pair<std::uint32_t, State>> seen;
        return search(std::uint32_t{0}, initial, step, seen);
    }

    /// The same; fails the execution, with the history, when there is none.
    template <class State, class Step>
    void check(State const& initial, Step step) const {
        if (!linearizable(initial, step)) fail("not linearizable\n" + text());
    }

    std::string text() const {
        std::string all;
        for (auto const& e : entries_) all += "    thread " + std::to_string(e.time.thread) + ": " + describe(e) + "\n";
        return all;
    }

private:
    template <class T>
    static void show(std::ostringstream& os, T const& value) {
        if constexpr (requires { os << value; }) {
            os << value;
        } else {
            os << '?';
        }
    }
    static std::string describe(entry const& e) {
        std::ostringstream os;
        show(os, e.op);
        os << " = ";
        if (e.result) {
            show(os, *e.result);
        } else {
            os << "(not returned)";
        }
        return os.str();
    }

    template <class State, class Step>
    bool search(std::uint32_t taken, State const& s, Step& step,
                std::set<std::pair<std::uint32_t, State>>& seen) const {
        if ((taken & done_) == done_) return true;  // what has not returned need not have happened
        if (!seen.insert({taken, s}).second) return false;
        for (std::size_t i = 0; i < entries_.size(); ++i) {
            std::uint32_t const bit = std::uint32_t{1} << i;
            if ((taken & bit) != 0 || (before_[i] & ~taken & done_) != 0) continue;
            auto const& e = entries_[i];
            for (auto const& next : step(s, e.op, e.result ? &*e.result : nullptr)) {
                if (search(taken | bit, next, step, seen)) return true;
            }
        }
        return false;
    }

    std::vector<entry> entries_;
    mutable std::vector<std::uint32_t> before_;
    mutable std::uint32_t done_ = 0;
};

}  // namespace model
