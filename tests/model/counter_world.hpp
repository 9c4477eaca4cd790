// SPDX-License-Identifier: MIT
//
// Programs for the protocol of sliding_window_counter, and what each execution of them must show:
// - the promise, by an exact oracle over the effective times of what was granted and not given back;
// - decisions, refunds and looks that an ideal counter would also make in some order of the operations, with the
//   documented slack: it may move on to any segment that an operation has asked for, and does not know of refunds of
//   past segments until it does;
// - nothing lost, nothing leaked: the next segment counts what is live;
// - steps bounded by what others wrote.
#pragma once

#include "linearizable.hpp"
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"

#include <weir/detail/window_counter.hpp>

#include "../support/exact_log.hpp"
#include "../support/window.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <ostream>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace counter_world {

using model::options;
using model::outcome;
using weir::permits;

using counter = support::window_of<model::atomics>;

constexpr std::int64_t length = 1000;  // of a segment
constexpr std::uint64_t first = 8;     // the segment of time 0
constexpr std::uint64_t segment_of(std::int64_t t) {
    return first + static_cast<std::uint64_t>(std::max<std::int64_t>(t, 0) / length);
}

enum class verb : char {
    take = 't',     // n at t, into the slot
    alone = 'a',    // the same, as try_acquire_alone
    in_two = 'o',   // the same as take, by prepare and commit
    look = 'l',     // check(n, t)
    move_on = 'm',  // to t
    charge = 'c',   // n at t, into the slot
    refund = 'r',   // n of the slot
    visibly = 'R',  // the slot, by refund_visible
    change = 'x',   // the limit to n, at t
    used = 'u',     // used(t)
};

struct op {
    verb what = verb::take;
    permits n = 1;
    std::int64_t t = 0;
    unsigned slot = 0;
    std::size_t id = 0;  // where it stands in the history

    friend std::ostream& operator<<(std::ostream& os, op const& o) {
        os << static_cast<char>(o.what) << o.n << '@' << o.t;
        if (o.slot != 0) os << '#' << o.slot;
        return os;
    }
};
inline op take(permits n, std::int64_t t, unsigned slot = 0) { return {verb::take, n, t, slot}; }
inline op alone(permits n, std::int64_t t, unsigned slot = 0) { return {verb::alone, n, t, slot}; }
inline op in_two(permits n, std::int64_t t, unsigned slot = 0) { return {verb::in_two, n, t, slot}; }
inline op look(permits n, std::int64_t t) { return {verb::look, n, t}; }
inline op move_on(std::int64_t t) { return {verb::move_on, 0, t}; }
inline op charge(permits n, std::int64_t t, unsigned slot = 0) { return {verb::charge, n, t, slot}; }
inline op refund(permits n, unsigned slot) { return {verb::refund, n, 0, slot}; }
inline op visibly(permits n, unsigned slot) { return {verb::visibly, n, 0, slot}; }
inline op change(permits n, std::int64_t t) { return {verb::change, n, t}; }
inline op used(std::int64_t t) { return {verb::used, 0, t}; }

inline bool takes(verb v) { return v == verb::take || v == verb::alone || v == verb::in_two; }
inline bool gives(verb v) { return v == verb::refund || v == verb::visibly; }

struct result {
    bool ok = false;
    std::uint64_t segment = 0;  // charged, or given back to
    permits n = 0;              // taken, given back, or used

    friend std::ostream& operator<<(std::ostream& os, result const& r) {
        return os << (r.ok ? "yes " : "no ") << r.n << " in " << r.segment;
    }
};

constexpr unsigned slots = 8;

struct program {
    permits limit = 2;
    std::uint32_t segments = 1;
    std::vector<op> before{};  // done before the threads begin
    std::vector<std::vector<op>> threads{};
    bool at_rest = false;      // no thread moves the segment on: denials write nothing
    bool deny_always = false;  // to test the test

    std::string name() const {
        std::ostringstream os;
        os << 'L' << limit << " B" << segments << ':';
        model::print(os, before, threads);
        return os.str();
    }
};

// ---- the ideal ----

struct ideal {
    static constexpr std::uint64_t oldest = first - 2;
    static constexpr std::size_t most = 32;  // segments of a program

    std::uint64_t open = first;
    permits limit = 0;
    permits unknown = 0;   // given back in past segments since `open` was opened
    unsigned changes = 0;  // of the limit in the open segment
    std::array<std::uint16_t, most> live{};

    auto operator<=>(ideal const&) const = default;

    std::uint16_t& in(std::uint64_t segment) { return live.at(segment - oldest); }
    permits window(std::uint64_t end, std::uint32_t segments) const {
        permits sum = 0;
        for (std::uint64_t s = end - segments; s <= end; ++s) sum += s >= oldest ? live.at(s - oldest) : 0U;
        return sum;
    }
};

struct world {
    /// Two loads, an exchange and two rotations with a ring of 8.
    static constexpr unsigned undisturbed_steps = 70;

    program const& p;
    model::findings& found;
    counter c;
    model::history<op, result> h;
    std::array<counter::receipt, slots> held;

    world(program const& what, model::findings& f)
        : p{what}, found{f}, c{p.limit, std::chrono::nanoseconds{length * p.segments}, p.segments} {
        for (auto const& o : p.before) run(o);
    }

    void run(op o) {
        o.id = h.entries().size();
        result const r = h.call(o, [&] { return perform(o); });
        auto const& s = h.entries()[o.id].time;
        found.steps.add(s);
        if (p.at_rest && takes(o.what) && !r.ok) model::check(s.writes == 0, "a denial writes nothing");
    }

    result charged(bool ok, unsigned slot) const {
        if (!ok) return {};
        return {true, c.segment(held[slot].head()), held[slot].live()};
    }

    result perform(op const& o) {
        switch (o.what) {
            case verb::take:
                if (p.deny_always) return {};
                return charged(c.take(o.n, o.t, held[o.slot]), o.slot);
            case verb::alone: return charged(c.take<true>(o.n, o.t, held[o.slot]), o.slot);
            case verb::in_two: return charged(c.take_in_two_steps(o.n, o.t, held[o.slot]), o.slot);
            case verb::look: return {c.check(o.n, o.t).granted, 0, 0};
            case verb::move_on: c.advance_to(o.t); return {true, 0, 0};
            case verb::charge: held[o.slot] = c.force_acquire(o.n, o.t); return charged(true, o.slot);
            case verb::refund:
            case verb::visibly: {
                auto& r = held[o.slot];
                if (r.live() == 0) return {};
                permits const n = o.what == verb::refund ? c.refund(r, o.n) : c.refund_visible(r);
                return {true, c.segment(r.head()), n};
            }
            case verb::change: return {!c.change_limit(o.n, o.t), 0, 0};
            case verb::used: return {true, 0, c.used(o.t)};
        }
        return {};
    }

    void check() {
        auto key =
            h.key([](auto& all, result const& r) { all.push_back((r.segment << 16U | r.n) << 1U | (r.ok ? 1U : 0U)); });
        if (!found.right.contains(key)) {
            linearizable();
            keeps_promise();
            found.right.insert(std::move(key));
        }
        if (h.all_returned()) at_rest();
    }

    /// The segments to which the ideal may have moved on when it comes to `o`: an operation asks for them that does not
    /// come after it, or (a refund that helps) for the next or a later one.
    std::vector<ideal> moved_on(ideal const& s, op const& o, std::uint64_t at_least) const {
        std::vector<ideal> all;
        std::set<std::uint64_t> targets;
        std::uint64_t furthest = at_least;
        for (auto const& e : h.entries()) {
            if (gives(e.op.what) || e.op.what == verb::used) continue;
            if (h.entries()[o.id].time.precedes(e.time)) continue;
            targets.insert(segment_of(e.op.t));
            furthest = std::max(furthest, segment_of(e.op.t));
        }
        // An operation that moves on opens the next one first, whatever is open then.
        std::set<std::uint64_t> from{s.open};
        from.insert(targets.begin(), targets.end());
        for (auto const open : from) {
            if (open >= s.open && open < furthest) targets.insert(open + 1);
        }
        if (s.open >= at_least) all.push_back(s);
        for (auto const target : targets) {
            if (target <= s.open || target < at_least) continue;
            ideal next = s;
            next.open = target;
            next.unknown = 0;
            next.changes = 0;
            all.push_back(next);
        }
        return all;
    }

    std::vector<ideal> step(ideal const& s, op const& o, result const* r) const {
        std::vector<ideal> all;
        std::uint64_t const asked = gives(o.what) || o.what == verb::used ? 0 : segment_of(o.t);
        for (ideal next : moved_on(s, o, asked)) {
            permits const held_now = next.window(next.open, p.segments);
            permits const most = next.unknown;
            switch (o.what) {
                case verb::take:
                case verb::in_two:
                case verb::alone: {
                    bool const whole = o.what == verb::alone && o.n > next.limit;
                    permits const n = o.n;  // counts in full
                    bool const fits = whole ? held_now == 0 : held_now + n <= next.limit;
                    bool const may_deny = whole ? held_now + most > 0 : held_now + most + n > next.limit;
                    if (r == nullptr ? fits : r->ok && r->segment == next.open && r->n == n && fits) {
                        next.in(next.open) = static_cast<std::uint16_t>(next.in(next.open) + n);
                        all.push_back(next);
                    } else if (r != nullptr && !r->ok && may_deny) {
                        all.push_back(next);
                    }
                    break;
                }
                case verb::move_on: all.push_back(next); break;
                case verb::look:
                    if (r == nullptr || (r->ok ? held_now + o.n <= next.limit : held_now + most + o.n > next.limit)) {
                        all.push_back(next);
                    }
                    break;
                case verb::charge:
                    if (r == nullptr || r->segment == next.open) {
                        next.in(next.open) = static_cast<std::uint16_t>(next.in(next.open) + o.n);
                        all.push_back(next);
                    }
                    break;
                case verb::refund:
                case verb::visibly: {
                    if (r != nullptr && !r->ok) {  // nothing was held
                        all.push_back(next);
                        break;
                    }
                    std::uint64_t const where = c.segment(held[o.slot].head());
                    if (r == nullptr || r->n == o.n) {
                        next.in(where) = static_cast<std::uint16_t>(next.in(where)-o.n);
                        if (where < next.open && where + p.segments >= next.open) next.unknown += o.n;
                        all.push_back(next);
                    } else if (r->n == 0 && where + p.segments < next.open) {
                        all.push_back(next);  // aged out
                    }
                    break;
                }
                case verb::change:
                    if (r == nullptr || r->ok) {
                        next.limit = o.n;
                        ++next.changes;
                        if (next.changes <= 7) all.push_back(next);
                    } else if (next.changes >= 7) {
                        all.push_back(next);
                    }
                    break;
                case verb::used: {
                    std::uint64_t const want = std::max(segment_of(o.t), next.open);
                    permits const sum = next.window(want, p.segments);
                    permits const slack = want == next.open ? next.unknown : 0;
                    if (r == nullptr || (r->n >= sum && r->n <= sum + slack)) all.push_back(next);
                    break;
                }
            }
        }
        return all;
    }

    void linearizable() const {
        ideal s;
        s.limit = p.limit;
        h.check(s, [this](ideal const& from, op const& o, result const* r) { return step(from, o, r); });
    }

    /// In any window at most the (greatest) limit was granted and is not refunded.
    void keeps_promise() const {
        std::vector<exact_log::grant> grants;
        permits most = p.limit;
        std::array<permits, slots> back{};
        for (auto const& e : h.entries()) {
            if (gives(e.op.what) && e.result) back[e.op.slot] += e.result->n;
            if (e.op.what == verb::change) most = std::max(most, e.op.n);
            // Larger than the limit, it is granted to an empty window, and alone in it.
            if (e.op.what == verb::alone) most = std::max(most, e.op.n);
        }
        for (auto const& e : h.entries()) {
            if (!takes(e.op.what) || !e.result || !e.result->ok) continue;
            auto const start = static_cast<std::int64_t>(e.result->segment - first) * length;
            grants.push_back({std::max(e.op.t, start), e.result->n - std::exchange(back[e.op.slot], 0)});
        }
        model::check(exact_log::peak(std::move(grants), length * p.segments) <= most, "the promise is broken");
    }

    /// All have returned: the open segment counts what is live in it, and the next knows all of it.
    void at_rest() {
        std::array<std::uint64_t, ideal::most> live{};
        permits last = p.limit;
        bool one_change = true;
        bool changed = false;
        for (auto const& e : h.entries()) {
            auto const& r = *e.result;
            if ((takes(e.op.what) || e.op.what == verb::charge) && r.ok) {
                live.at(r.segment) += e.op.what == verb::charge ? e.op.n : r.n;
            }
            if (gives(e.op.what)) live.at(r.segment) -= r.n;
            if (e.op.what == verb::change && r.ok) {
                one_change = !std::exchange(changed, true);
                last = e.op.n;
            }
        }
        std::int64_t const next = c.used_at(0).as_of + length;
        std::uint64_t const e = segment_of(next);
        permits sum = 0;
        for (std::uint64_t s = e - p.segments; s < e; ++s) sum += live.at(s);
        model::check(c.used(next) == sum, "ahead it counts what is live");
        c.advance_to(next);
        model::check(c.used(next) == sum, "the next segment counts what is live");
        if (one_change) model::check(c.limit() == last, "the limit is what it was changed to");
    }
};

inline outcome explore(options const& o, program const& p) { return model::explore_program<world>(o, p); }

inline void expect_right(options const& o, std::initializer_list<program> programs, unsigned frozen = 0) {
    model::expect_right<world>(o, programs, frozen);
}

/// Two counters keep one limit of 10: each caller holds 4 in the one, then takes from the other what the holds leave.
inline outcome share_a_limit(options const& o) {
    return model::explore(o, [] {
        struct state {
            counter spent{10, std::chrono::nanoseconds{length}, 1};
            counter held{100, std::chrono::nanoseconds{length}, 1};
            counter::receipt first;
            permits granted = 0;

            void call(permits n) {
                auto hold = held.force_acquire(4, 0);
                if (spent.take_shared(n, 0, [&] { return held.used_at(0); })) {
                    granted += n + 4;
                } else {
                    held.refund(hold);
                }
            }
        };
        auto s = std::make_shared<state>();
        s->spent.take(1, 0, s->first);
        // The refund brings head back to what the other may have seen before the hold.
        return model::scenario{{[s] { s->call(3); },
                                [s] {
                                    s->call(1);
                                    s->spent.refund(s->first);
                                }},
                               [s] {
                                   model::check(s->granted <= 10, "the two hold more than the limit");
                                   model::check(s->spent.used(0) + s->held.used(0) == s->granted, "leaked or lost");
                               }};
    });
}

}  // namespace counter_world
