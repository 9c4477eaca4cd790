// SPDX-License-Identifier: MIT
//
// Programs for one set of keyed_buckets (keyed_set.hpp), and what each execution of them must show:
// - each key is granted what one exact bucket would grant it, in some order of the operations. Where a full set
//   forgets, that bucket is emptied of its debt when, and only when, the set is full of debts;
// - a denial is that bucket's, or the set is full, or the time lies before the latest TAT that was evicted;
// - at the end no key has two slots, and no announcement or move is left.
#pragma once

#include "linearizable.hpp"
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"

#include <weir/detail/keyed_layout.hpp>
#include <weir/detail/keyed_set.hpp>

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

// With one slot, gcc 12 does not see that a view without the key has read all of them.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace keyed_world {

using ticks = std::uint64_t;

constexpr unsigned epoch_bits = 10;
constexpr ticks epoch = ticks{1} << epoch_bits;
constexpr ticks interval = 10;
constexpr unsigned max_keys = 4;
constexpr unsigned max_receipts = 6;

enum class verb : char {
    take = 'a',     // n permits for the key at t
    reserve = 'b',  // the same, with a wait of two intervals
    charge = 'd',   // the same, as debt
    undo = 'r',     // n of what the receipt holds
    reset = 'z',    // the key
};

struct op {
    verb what = verb::take;
    unsigned key = 1;
    ticks n = 1;
    ticks t = 0;
    unsigned receipt = 0;

    friend std::ostream& operator<<(std::ostream& os, op const& o) {
        os << static_cast<char>(o.what) << static_cast<char>('A' + o.key - 1) << o.n << '@' << o.t;
        if (o.receipt != 0) os << '#' << o.receipt;
        return os;
    }
};
/// Times are from the start of the first epoch.
inline op take(unsigned key, ticks n, ticks t, unsigned receipt = 0) { return {verb::take, key, n, t, receipt}; }
inline op reserve(unsigned key, ticks n, ticks t, unsigned receipt = 0) { return {verb::reserve, key, n, t, receipt}; }
inline op charge(unsigned key, ticks n, ticks t) { return {verb::charge, key, n, t, 0}; }
inline op undo(unsigned receipt, ticks n) { return {verb::undo, 0, n, 0, receipt}; }
inline op reset(unsigned key) { return {verb::reset, key, 0, 0, 0}; }

struct result {
    bool ok = false;
    ticks at = 0;  // the effective time
    friend std::ostream& operator<<(std::ostream& os, result const& r) {
        return os << (r.ok ? "yes" : "no") << " (at " << r.at << ')';
    }
};

using ops = std::vector<op>;

struct program {
    ticks burst = 2;
    bool forget = false;
    std::vector<unsigned> preferred{0, 0, 0, 0};  // of each key
    ops before{};
    std::vector<ops> threads{};

    std::string name() const {
        std::ostringstream os;
        os << 'b' << burst << (forget ? " forget" : "") << " p";
        for (auto const p : preferred) os << p;
        model::print(os, before, threads);
        return os.str();
    }
};

/// What exact buckets would have, and the most that those have that begin at the floor.
struct state {
    std::array<ticks, max_keys> tat{};
    std::array<ticks, max_keys> high{};
    std::array<ticks, max_receipts> before{};
    std::array<ticks, max_receipts> after{};
    ticks latest = 0;
    auto operator<=>(state const&) const = default;
};

template <unsigned Ways, class Rules = weir::detail::keyed_rules>
class world {
    using layout = weir::detail::keyed_layout<epoch_bits, Ways>;
    using set = weir::detail::keyed_set<model::atomics, layout, Rules>;
    using outcome = weir::detail::keyed_outcome;

public:
    static constexpr unsigned undisturbed_steps = 40;

    world(program const& p, model::findings& found) : p_{p}, found_{found} {
        for (auto const& o : p.before) run(o);
    }

    void run(op const& o) {
        std::size_t const entry = history_.entries().size();
        history_.call(o, [&] { return perform(o); });
        auto const& time = history_.entries()[entry].time;
        if (time.thread < 0) return;
        found_.steps.add(time);
    }

    void check() {
        for (unsigned i = 0; i < Ways; ++i) {
            for (unsigned j = 0; j < i; ++j) {
                model::check(layout::is_empty(set_.slot(i)) ||
                                 layout::fingerprint_of(set_.slot(i)) != layout::fingerprint_of(set_.slot(j)),
                             "a key has two slots");
            }
        }
        if (history_.all_returned()) {
            model::check(!layout::announces(set_.head()), "an announcement is left");
            model::check(layout::gap_of(set_.base()) == 0, "a move is left");
        }
        auto const key = history_.key([](auto& all, result const& r) {
            all.push_back(r.ok ? 1 : 0);
            all.push_back(r.at);
        });
        if (found_.right.contains(key)) return;
        history_.check(state{}, [this](state const& s, op const& o, result const* r) { return step(s, o, r); });
        found_.right.insert(key);  // only now: an execution may be run again
    }

private:
    weir::detail::keyed_request request(op const& o) const {
        ticks const room = p_.burst * interval + (o.what == verb::reserve ? 2 * interval : 0);
        return {
            o.key,    p_.preferred[o.key - 1], layout::start_of(1) + o.t, o.n * interval, room, o.what == verb::charge,
            p_.forget};
    }

    result perform(op const& o) {
        if (o.what == verb::reset) return {set_.reset(o.key, p_.preferred[o.key - 1]), 0};
        if (o.what == verb::undo) {
            auto& made = made_[o.receipt];
            if (!made || made->result != outcome::status::granted) return {};
            bool const whole = made->inserted && o.n * interval == cost_[o.receipt];
            bool const done =
                whole ? set_.erase(made->slot, made->word) : set_.undo(made->slot, made->word, o.n * interval);
            made.reset();
            return {done, 0};
        }
        auto const got = set_.attempt(request(o));
        made_[o.receipt] = got;
        cost_[o.receipt] = o.n * interval;
        return {got.result == outcome::status::granted, got.at};
    }

    std::vector<state> step(state const& s, op const& o, result const* r) const {
        if (o.what == verb::undo) return undone(s, o, r);
        if (o.what == verb::reset) {
            state next = s;
            next.tat[o.key - 1] = 0;
            // What was granted before is no charge of the bucket any more.
            for (auto const& e : history_.entries()) {
                if (e.op.key == o.key) next.after[e.op.receipt] = 0;
            }
            return {next};
        }
        std::vector<state> all;
        attempt(s, o, r, 0, all);
        if (!p_.forget) return all;
        // The bucket of another key is forgotten, if all slots hold debt.
        for (unsigned victim = 0; victim < max_keys; ++victim) {
            ticks const t = r != nullptr ? r->at : layout::start_of(1) + o.t;
            if (victim == o.key - 1 || s.tat[victim] <= t || live(s, o.key, t) < Ways) continue;
            state next = s;
            next.tat[victim] = 0;
            attempt(next, o, r, s.tat[victim] + 1, all);
        }
        return all;
    }

    static unsigned live(state const& s, unsigned key, ticks t) {
        unsigned n = 0;
        for (unsigned i = 0; i < max_keys; ++i) n += i != key - 1 && s.tat[i] > t ? 1U : 0U;
        return n;
    }

    /// Other keys with debt, and those that an overlapping attempt may have put into a slot just now.
    unsigned taken(state const& s, op const& o, ticks t) const {
        std::array<bool, max_keys> is{};
        model::span const* mine = nullptr;
        for (auto const& e : history_.entries()) {
            if (&e.op == &o) mine = &e.time;
        }
        for (auto const& e : history_.entries()) {
            if (e.op.key != 0 && !e.time.precedes(*mine) && !mine->precedes(e.time)) is[e.op.key - 1] = true;
        }
        unsigned n = 0;
        for (unsigned i = 0; i < max_keys; ++i) n += i != o.key - 1 && (is[i] || s.tat[i] > t) ? 1U : 0U;
        return n;
    }

    void attempt(state const& s, op const& o, result const* r, ticks inherited, std::vector<state>& all) const {
        auto const q = request(o);
        ticks const at = r != nullptr ? r->at : q.at;
        ticks const start = std::max({s.tat[o.key - 1], at, inherited});
        bool const fits = q.debt || start + q.cost <= at + q.room;
        // A key that another thread puts into its slot begins one tick above the floor.
        ticks const floor = std::max(s.latest, layout::start_of(layout::epoch_of(at)));
        ticks const high = std::max({s.high[o.key - 1], floor + 1, start});
        if (fits && (r == nullptr || r->ok)) {
            all.push_back(s);
            state& next = all.back();
            next.tat[o.key - 1] = start + q.cost;
            next.high[o.key - 1] = high + q.cost;
            next.before[o.receipt] = s.tat[o.key - 1];
            next.after[o.receipt] = start + q.cost;
            next.latest = std::max(s.latest, high + q.cost);
        }
        if (r != nullptr && r->ok) return;
        if (high + q.cost > at + q.room || taken(s, o, at) >= Ways) all.push_back(s);
    }

    std::vector<state> undone(state const& s, op const& o, result const* r) const {
        std::vector<state> all;
        unsigned key = 0;
        for (auto const& e : history_.entries()) {
            if (e.op.receipt == o.receipt && e.op.what != verb::undo) key = e.op.key;
        }
        if (r == nullptr || !r->ok) all.push_back(s);
        if (key == 0 || s.tat[key - 1] != s.after[o.receipt] || s.after[o.receipt] == 0) return all;
        if (r == nullptr || r->ok) {
            all.push_back(s);
            bool const whole = o.n * interval == cost_[o.receipt];
            all.back().tat[key - 1] = whole ? s.before[o.receipt] : s.tat[key - 1] - o.n * interval;
            all.back().after[o.receipt] = 0;
        }
        return all;
    }

    program const& p_;
    model::findings& found_;
    set set_;
    std::array<std::optional<outcome>, max_receipts> made_{};
    std::array<ticks, max_receipts> cost_{};
    model::history<op, result> history_;
};

template <unsigned Ways, class Rules = weir::detail::keyed_rules>
model::outcome explore(model::options o, program const& p, unsigned frozen = 0) {
    return model::explore_program<world<Ways, Rules>>(o, p, frozen);
}

}  // namespace keyed_world
