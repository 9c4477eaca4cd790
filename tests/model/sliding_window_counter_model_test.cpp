// SPDX-License-Identifier: MIT
//
// sliding_window_counter in every interleaving. Each execution must show:
// - the promise, by an exact oracle over the effective times of what was granted and not given back;
// - decisions, refunds and looks that an ideal counter would also make in some order of the operations, with the
//   documented slack: it may move on to any segment that an operation has asked for, and does not know of refunds of
//   past segments until it does;
// - nothing lost, nothing leaked: the next segment counts what is live;
// - steps bounded by what others wrote.
#include "linearizable.hpp"
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "weakening.hpp"

#include <weir/sliding_window_counter.hpp>

#include "../support/exact_log.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using model::coverage;
using model::options;
using model::outcome;
using model::scenario;
using model::still;
using std::chrono::nanoseconds;
using weir::permits;

using counter = weir::sliding_window_counter<still, model::atomics>;

constexpr std::int64_t length = 1000;  // of a segment
constexpr std::uint64_t first = 8;     // the segment of time 0
constexpr still::time_point at(std::int64_t t) { return still::time_point{nanoseconds{t}}; }
constexpr std::uint64_t segment_of(std::int64_t t) {
    return first + static_cast<std::uint64_t>(std::max<std::int64_t>(t, 0) / length);
}

enum class verb : char {
    take = 't',     // n at t, into the slot
    alone = 'a',    // the same, as try_acquire_alone
    offered = 'o',  // the same, by make_offer and accept
    look = 'l',     // check(n, t)
    charge = 'c',   // n at t, into the slot
    refund = 'r',   // n of the slot
    at_once = 'R',  // the slot, at once
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
op take(permits n, std::int64_t t, unsigned slot = 0) { return {verb::take, n, t, slot}; }
op alone(permits n, std::int64_t t, unsigned slot = 0) { return {verb::alone, n, t, slot}; }
op offered(permits n, std::int64_t t, unsigned slot = 0) { return {verb::offered, n, t, slot}; }
op look(permits n, std::int64_t t) { return {verb::look, n, t}; }
op charge(permits n, std::int64_t t, unsigned slot = 0) { return {verb::charge, n, t, slot}; }
op refund(permits n, unsigned slot) { return {verb::refund, n, 0, slot}; }
op at_once(permits n, unsigned slot) { return {verb::at_once, n, 0, slot}; }
op change(permits n, std::int64_t t) { return {verb::change, n, t}; }
op used(std::int64_t t) { return {verb::used, 0, t}; }

bool takes(verb v) { return v == verb::take || v == verb::alone || v == verb::offered; }
bool gives(verb v) { return v == verb::refund || v == verb::at_once; }

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
        for (std::uint64_t s = end - segments; s <= end; ++s) sum += s >= oldest ? live.at(s - oldest) : 0;
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
        : p{what},
          found{f},
          c{p.limit, nanoseconds{length * p.segments}, weir::counter_options{.segments = p.segments}, still{}} {
        for (auto const& o : p.before) run(o);
    }

    void run(op o) {
        o.id = h.entries().size();
        result const r = h.call(o, [&] { return perform(o); });
        auto const& s = h.entries()[o.id].time;
        found.steps.add(s);
        if (p.at_rest && takes(o.what) && !r.ok) model::check(s.writes == 0, "a denial writes nothing");
    }

    result perform(op const& o) {
        switch (o.what) {
            case verb::take:
            case verb::alone: {
                if (p.deny_always) return {};
                auto d = o.what == verb::take ? c.try_acquire(o.n, at(o.t)) : c.try_acquire_alone(o.n, at(o.t));
                held[o.slot] = std::move(d.receipt());
                return {d.granted(), held[o.slot].segment(), held[o.slot].live()};
            }
            case verb::offered: {
                auto const offer = c.make_offer(o.n, at(o.t));
                if (!offer.granted()) return {};
                bool const ok = c.accept(offer, o.n, at(o.t), held[o.slot]);
                return {ok, held[o.slot].segment(), held[o.slot].live()};
            }
            case verb::look: return {c.check(o.n, at(o.t)).granted(), 0, 0};
            case verb::charge:
                held[o.slot] = std::move(c.charge(o.n, at(o.t)).receipt);
                return {true, held[o.slot].segment(), held[o.slot].live()};
            case verb::refund:
            case verb::at_once: {
                auto& r = held[o.slot];
                if (r.live() == 0) return {};
                permits const n = o.what == verb::refund ? c.refund(r, o.n) : c.refund_visible(r);
                return {true, r.segment(), n};
            }
            case verb::change: return {!c.change_limit(o.n, at(o.t)), 0, 0};
            case verb::used: return {true, 0, c.used(at(o.t))};
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
                case verb::offered:
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
                case verb::at_once: {
                    if (r != nullptr && !r->ok) {  // nothing was held
                        all.push_back(next);
                        break;
                    }
                    std::uint64_t const where = held[o.slot].segment();
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
        auto const now = c.used_as_of(at(0)).as_of;
        auto const next = now + nanoseconds{length};
        std::uint64_t const e = segment_of(next.time_since_epoch().count());
        permits sum = 0;
        for (std::uint64_t s = e - p.segments; s < e; ++s) sum += live.at(s);
        model::check(c.used(next) == sum, "ahead it counts what is live");
        (void)c.check(1, next);
        model::check(c.used(next) == sum, "the next segment counts what is live");
        if (one_change) model::check(c.limit() == last, "the limit is what it was changed to");
    }
};

outcome explore(options const& o, program const& p) { return model::explore_program<world>(o, p); }

void expect_right(options const& o, std::initializer_list<program> programs, unsigned frozen = 0) {
    model::expect_right<world>(o, programs, frozen);
}

// Within a segment.
program const at_rest{2, 1, {take(1, 0)}, {{take(1, 0), take(1, 999)}, {take(1, 500), take(1, 0)}}, true};
program const offers{2, 1, {take(1, 0)}, {{offered(1, 0), look(1, 0)}, {offered(1, 0), take(1, 0)}}, true};
program const refunds{2, 1, {take(2, 0, 1)}, {{refund(1, 1), refund(1, 1)}, {take(1, 0), take(1, 0)}}};
program const alone_and_refund{2, 1, {take(1, 0, 1)}, {{refund(1, 1), look(2, 0)}, {alone(5, 0), take(1, 0)}}};
program const charges{3, 1, {take(1, 0)}, {{charge(2, 0, 1), refund(1, 1)}, {take(1, 0), take(1, 0)}}};
program const three_takes{2, 1, {take(1, 0)}, {{take(1, 0)}, {take(1, 0)}, {take(1, 0)}}, true};
program const three_kinds{2, 1, {take(2, 0, 1)}, {{take(1, 0)}, {take(1, 0)}, {refund(1, 1)}}};
program const change_and_takes{2, 1, {take(1, 0)}, {{change(1, 0)}, {take(1, 0), take(1, 0)}}};
program const change_then_take{2, 1, {take(1, 0)}, {{change(3, 0), take(1, 0)}, {take(1, 0), take(1, 0)}}};
program const two_changes{2, 1, {take(1, 0)}, {{change(1, 0)}, {change(3, 0)}}};
program const last_two_changes{2,
                               1,
                               {change(3, 0), change(1, 0), change(2, 0), change(3, 0), change(1, 0), change(2, 0)},
                               {{change(1, 0)}, {change(3, 0)}}};
// Into the next segment.
program const one_crosses{2, 1, {take(1, 0)}, {{take(1, 0)}, {take(1, 1000)}}};
program const both_cross{2, 1, {take(1, 0)}, {{take(1, 1000)}, {take(1, 1000)}}};
program const refund_and_cross{2, 1, {take(2, 0, 1)}, {{refund(2, 1)}, {take(1, 1000), take(1, 1000)}}};
program const part_refund_and_cross{2, 2, {take(2, 0, 1)}, {{refund(1, 1), refund(1, 1)}, {take(1, 1999)}}};
program const at_once_and_cross{3, 2, {take(2, 0, 1), take(1, 1000)}, {{at_once(2, 1)}, {used(1000), take(1, 2000)}}};
program const charge_and_cross{2, 1, {take(1, 0)}, {{charge(3, 0)}, {take(1, 1000)}}};
program const change_and_cross{2, 1, {take(1, 0)}, {{change(1, 0)}, {take(1, 1000)}}};
program const change_crosses{2, 1, {take(1, 0)}, {{change(3, 1000)}, {take(1, 0), take(1, 1000)}}};
// A word of the ring has a tenant that is refunded while the next is published.
program const old_tenant{2, 2, {take(2, 0, 1), take(1, 1000), take(2, 8000)}, {{refund(1, 1)}, {take(1, 9000)}}};
// Time points that differ and go back; segments skipped.
program const back_and_forth{2, 1, {take(1, 0)}, {{take(1, 0), take(1, 1000)}, {take(1, 999), take(1, 1000)}}};
program const ahead{2, 1, {take(1, 0)}, {{take(1, 1000)}, {take(1, 0), take(1, 0)}}};
program const two_segments{2, 2, {take(1, 0)}, {{take(1, 1000)}, {take(1, 2000)}}};
program const idle{2, 2, {take(2, 0, 1)}, {{refund(1, 1)}, {take(2, 20'000)}}};
program const three_cross{2, 1, {take(1, 0)}, {{take(1, 1000)}, {take(1, 1000)}, {take(1, 0)}}};
program const looks_ahead{2, 2, {take(1, 0)}, {{used(1000), used(2000)}, {take(1, 1000)}}};
// A look that has read head meets the new tenant of a word that it should have counted.
program const new_tenant{2, 2, {take(1, 0), take(1, 1000)}, {{used(2000)}, {take(2, 8000), take(1, 9000)}}};
program const look_and_cross{
    2, 2, {take(2, 0, 1), take(1, 1000)}, {{refund(1, 1), used(0)}, {used(2000), take(1, 2000)}}};

// The second change of the one makes the slots look to the other as if the limit had been changed seven times.
program const three_changes{2, 1, {}, {{change(1, 0), change(3, 0)}, {change(2, 0)}}};

TEST(sliding_window_counter_model, within_a_segment_all_decide_as_one_counter_would_in_some_order) {
    for (auto const& o : {options::sc("SC"), options::weak("weak")}) {
        expect_right(o, {at_rest, offers, refunds, alone_and_refund, charges, three_takes, three_kinds});
    }
}

TEST(sliding_window_counter_model, a_change_of_the_limit_is_whole) {
    for (auto const& o : {options::sc("SC"), options::weak("weak")}) {
        expect_right(o, {change_and_takes, change_then_take, two_changes, three_changes, last_two_changes});
    }
    expect_right(options::sc("SC"), {change_and_cross, change_crosses});
    expect_right(options::weak("weak", 0), {change_and_cross});
}

TEST(sliding_window_counter_model, the_segment_moves_on_and_nothing_is_lost) {
    expect_right(options::sc("SC"),
                 {one_crosses, both_cross, refund_and_cross, part_refund_and_cross, at_once_and_cross, charge_and_cross,
                  old_tenant, ahead, idle, new_tenant, looks_ahead, look_and_cross});
    expect_right(options::weak("weak", 0), {both_cross, charge_and_cross, new_tenant, looks_ahead, look_and_cross});
    expect_right(options::weak("weak"), {refund_and_cross, part_refund_and_cross, old_tenant, idle});
}

TEST(sliding_window_counter_model_long, the_segment_moves_on_with_stale_reads_and_failures_for_nothing) {
    expect_right(options::weak("weak"), {one_crosses, both_cross, charge_and_cross, change_and_cross});
    expect_right(options::weak("weak", 0), {at_once_and_cross, one_crosses, ahead, back_and_forth});
}

TEST(sliding_window_counter_model_long, two_segments_are_crossed) {
    expect_right(options::sc("SC"), {back_and_forth, two_segments});
}

/// Not complete: three threads that cross are too many; the first so many executions.
TEST(sliding_window_counter_model_long, three_threads_cross_as_far_as_was_looked) {
    for (auto o : {options::sc("SC, part"), options::weak("weak, part", 0)}) {
        o.max_executions = 1'000'000;
        o.may_be_cut_off = true;
        auto const out = explore(o, three_cross);
        EXPECT_TRUE(out.passed(coverage::execution_bounded)) << out;
    }
}

TEST(sliding_window_counter_model, a_thread_that_stops_anywhere_stops_no_other) {
    expect_right(options::sc("SC"),
                 {at_rest, refunds, three_kinds, change_then_take, two_changes, refund_and_cross, old_tenant}, 1);
}

TEST(sliding_window_counter_model_long, a_thread_that_stops_in_a_crossing_stops_no_other) {
    expect_right(options::sc("SC"), {one_crosses, both_cross, change_and_cross}, 1);
}

TEST(sliding_window_counter_model_long, two_threads_that_stop_anywhere_stop_no_other) {
    expect_right(options::sc("SC"), {three_takes, three_kinds}, 2);
}

// ---- boundaries one by one ----

/// Newest stores only, so that what a thread looks up is what is so; `preemptions` where all interleavings are too
/// many.
options newest(unsigned preemptions = options::unlimited) {
    options o = options::bounded("newest", preemptions, 0);
    o.stale = false;
    return o;
}

TEST(sliding_window_counter_model, two_threads_that_cross_a_boundary_keep_the_limit) {
    for (std::int64_t const t : {0, 1000, 2000, 4000}) {
        // To segments of their own, two preemptions; all of those would be millions.
        expect_right(newest(t > 1000 ? 2 : options::unlimited),
                     {{2, 2, {take(1, 0)}, {{take(1, 1000)}, {take(1, t)}}}});
    }
}

TEST(sliding_window_counter_model, a_refund_at_a_boundary_gives_back_exactly) {
    for (std::int64_t const t : {0, 1000, 2000, 3000}) {
        expect_right(newest(), {{2, 2, {take(2, 0, 1)}, {{refund(1, 1)}, {take(1, t)}}}});
    }
}

TEST(sliding_window_counter_model, a_refund_at_once_at_a_boundary_never_shows_too_little) {
    for (std::int64_t const t : {1000, 2000, 3000}) {
        expect_right(newest(),
                     {{4, 2, {take(2, 0, 1), take(1, 0), take(1, 1000)}, {{at_once(2, 1)}, {take(1, t), used(t)}}}});
    }
}

TEST(sliding_window_counter_model, attempts_with_refunds_keep_the_limit_and_lose_nothing) {
    for (std::int64_t const t : {0, 1000, 3000}) {
        expect_right(
            newest(2),
            {{2, 2, {take(1, 0)}, {{take(1, t, 1), refund(1, 1), take(1, 4000)}, {take(1, 1000, 2), refund(1, 2)}}}});
    }
}

TEST(sliding_window_counter_model, each_decides_by_one_limit_or_the_other) {
    for (std::int64_t const t : {0, 1000}) {
        for (permits const to : {1U, 4U}) {
            expect_right(
                newest(3),
                {{4, 2, {change(2, 0), take(1, 0)}, {{change(to, t), used(0), take(1, t)}, {take(1, 0), used(0)}}}});
        }
    }
}

TEST(sliding_window_counter_model, one_of_four_that_stops_anywhere_stops_no_other) {
    for (std::int64_t const a : {0, 1000, 3000}) {
        for (std::int64_t const b : {0, 1000, 2000}) {
            expect_right(
                newest(0),
                {{4, 2, {take(2, 0, 1)}, {{take(1, a), change(3, a)}, {take(1, b)}, {refund(1, 1)}, {change(2, b)}}}},
                1);
        }
    }
}

TEST(sliding_window_counter_model, a_counter_that_denies_always_fails) {
    program p = at_rest;
    p.deny_always = true;
    EXPECT_FALSE(explore(options::sc("denies always"), p).failure.empty());
    EXPECT_FALSE(explore(options::weak("denies always"), p).failure.empty());
}

/// Two counters keep one limit of 10: each caller holds 4 in the one, then takes from the other what the holds leave.
outcome share_a_limit(options const& o) {
    return model::explore(o, [] {
        struct state {
            counter spent{10, nanoseconds{length}, weir::counter_options{.segments = 1}, still{}};
            counter held{100, nanoseconds{length}, weir::counter_options{.segments = 1}, still{}};
            counter::receipt first;
            permits granted = 0;

            void call(permits n) {
                auto hold = held.book(4, at(0));
                if (spent.try_acquire_beside(n, at(0), [&] { return held.used_as_of(at(0)); })) {
                    granted += n + 4;
                } else {
                    held.refund(hold);
                }
            }
        };
        auto s = std::make_shared<state>();
        s->first = std::move(s->spent.try_acquire(1, at(0)).receipt());
        // The refund brings head back to what the other may have seen before the hold.
        return scenario{{[s] { s->call(3); },
                         [s] {
                             s->call(1);
                             s->spent.refund(s->first);
                         }},
                        [s] {
                            model::check(s->granted <= 10, "the two hold more than the limit");
                            model::check(s->spent.used(at(0)) + s->held.used(at(0)) == s->granted, "leaked or lost");
                        }};
    });
}

TEST(sliding_window_counter_model, two_counters_keep_one_limit_though_head_comes_back) {
    for (auto const& o : {options::sc("shared, SC"), options::weak("shared, weak", 0)}) {
        model::sees(share_a_limit(o), coverage::complete);
    }
}

// ---- each memory order is needed ----

model::trial trial_of(program const& p) {
    return {p.name(), [p] { return explore(options::weak("", 0), p); }};
}

/// Two threads do one thing each to a counter that `before` has prepared.
struct pair_of {
    counter c;
    counter::receipt taken;
    counter::receipt later;
    model::atomics::atomic<std::uint64_t> told{0};

    pair_of(permits limit, std::uint32_t segments)
        : c{limit, nanoseconds{length * segments}, weir::counter_options{.segments = segments}, still{}} {}

    /// What comes before a refund.
    void tell() { told.exchange(1, std::memory_order_relaxed); }
    /// A thread that sees the lowered sum sees what came before.
    void must_know(bool sees_it) {
        if (sees_it) model::check(told.load(std::memory_order_relaxed) == 1, "a lowered sum without what came before");
    }
};
using deed = void (*)(pair_of&);

model::trial race(char const* name, permits limit, std::uint32_t segments, deed before, deed one, deed other,
                  options o = options::weak("", 0)) {
    o.name = name;
    return {name, [=] {
                return model::explore(o, [=] {
                    auto s = std::make_shared<pair_of>(limit, segments);
                    before(*s);
                    return scenario{{[=] { one(*s); }, [=] { other(*s); }}, {}};
                });
            }};
}

void nothing(pair_of&) {}
void full(pair_of& s) { s.c.charge(2, at(0)); }
void take_two(pair_of& s) {
    s.taken = std::move(s.c.try_acquire(2, at(0)).receipt());
    s.c.charge(1, at(1000));
}
template <std::int64_t T>
void move_to(pair_of& s) {
    (void)s.c.check(1, at(T));
}

/// Its glance is the time that it tells.
struct glanced : still {
    using time_point = std::chrono::time_point<glanced>;
    std::int64_t t = 0;
    time_point now() const { return time_point{nanoseconds{t}}; }
    time_point now_approx() const { return now(); }
};
struct glancing_pair {
    glanced clock;
    weir::sliding_window_counter<glanced&, model::atomics> c{5, nanoseconds{length},
                                                             weir::counter_options{.segments = 1}, clock};
    glanced::time_point at(std::int64_t t) const { return glanced::time_point{nanoseconds{t}}; }
};

/// The window is empty then, but was full; a refusal at a glance must not be of what it was.
outcome glance_where_the_segment_moves_on() {
    return model::explore(options::weak("glance | move on", 0), [] {
        auto s = std::make_shared<glancing_pair>();
        s->c.charge(5, s->at(0));
        s->clock.t = 2000;
        return scenario{{[s] { (void)s->c.check(1, s->at(2000)); },
                         [s] { model::check(s->c.try_acquire(1).granted(), "refused though empty"); }},
                        {}};
    });
}
/// The window is empty; the new limit's slot held a greater one before, and the window's room is not all of that.
template <bool Glance>
outcome alone_where_the_limit_changes() {
    return model::explore(options::weak(Glance ? "glance alone | change" : "look alone | change", 0), [] {
        auto s = std::make_shared<glancing_pair>();
        for (permits n = 1; n <= 7; ++n) (void)s->c.change_limit(5, s->at(0));
        s->clock.t = 1000;
        (void)s->c.check(1, s->at(1000));
        return scenario{{[s] {
                             (void)s->c.change_limit(2, s->at(1000));
                             (void)s->c.check(1, s->at(1000));
                         },
                         [s] {
                             bool const granted = Glance ? s->c.try_acquire_alone(9).granted()
                                                         : s->c.check_alone(9, s->at(1000)).granted();
                             model::check(granted, "refused though empty");
                         }},
                        {}};
    });
}

std::vector<model::trial> trials_of_orders() {
    auto few = options::bounded("", 1, 0);
    few.rereads = 1;
    auto const in_bounds = options::bounded("", 2, 0);
    return {
        trial_of(refund_and_cross),
        trial_of(change_then_take),
        trial_of(new_tenant),
        trial_of(looks_ahead),
        trial_of({2, 1, {}, {{change(3, 0)}, {take(1, 0)}}}),  // a ceiling of a limit that is not there yet
        trial_of({2, 1, {take(1, 0)}, {{change(3, 0), look(1, 0)}, {alone(5, 0)}}}),
        // The end of the segment is known before its head.
        trial_of({2, 1, {take(2, 0)}, {{look(1, 2000)}, {used(2000)}}}),
        trial_of({2, 1, {take(2, 0)}, {{look(1, 2000)}, {look(1, 2000)}}}),
        trial_of({2, 1, {take(2, 0)}, {{look(1, 2000)}, {take(1, 2000)}}}),
        // Refunds are known with what came before them.
        race(
            "refund | used", 2, 1, take_two,
            [](pair_of& s) {
                s.tell();
                s.c.charge(0, at(0));
                s.c.refund(s.taken);
            },
            [](pair_of& s) { s.must_know(s.c.used(at(1000)) < 3); }),
        race(
            "refund | used, in its segment", 2, 1,
            [](pair_of& s) { s.taken = std::move(s.c.try_acquire(2, at(0)).receipt()); },
            [](pair_of& s) {
                s.tell();
                s.c.refund(s.taken);
            },
            [](pair_of& s) { s.must_know(s.c.used(at(0)) == 0); }),
        race(
            "refund | look at both", 2, 1, [](pair_of& s) { s.taken = std::move(s.c.try_acquire(2, at(0)).receipt()); },
            [](pair_of& s) {
                s.tell();
                s.c.refund(s.taken);
            },
            [](pair_of& s) { s.must_know(s.c.check_beside(1, at(0), [] { return permits{0}; }).granted()); }),
        race(
            "refund | second look", 3, 1, [](pair_of& s) { s.taken = std::move(s.c.try_acquire(1, at(0)).receipt()); },
            [](pair_of& s) {
                s.tell();
                s.c.refund(s.taken);
            },
            [](pair_of& s) {
                int calls = 0;
                s.must_know(
                    s.c.try_acquire_beside(2, at(0), [&] { return permits{calls++ == 0 ? 0U : 1U}; }).granted());
            }),
        race(
            "refund at once | used", 3, 2, take_two,
            [](pair_of& s) {
                s.tell();
                s.c.refund_visible(s.taken);
            },
            [](pair_of& s) { s.must_know(s.c.used(at(1000)) == 1); }),
        race(
            "refund | move on, used", 3, 2, take_two,
            [](pair_of& s) {
                s.tell();
                s.c.refund(s.taken);
            },
            [](pair_of& s) {
                (void)s.c.check(1, at(2000));
                s.must_know(s.c.used(at(2000)) == 1);
            }),
        // The other helps to move on, and shows what the first has summed.
        race(
            "refund, move on | refund, used", 3, 2,
            [](pair_of& s) {
                s.taken = std::move(s.c.try_acquire(2, at(0)).receipt());
                s.later = s.c.book(1, at(1000));
            },
            [](pair_of& s) {
                s.tell();
                s.c.refund(s.taken);
                (void)s.c.check(1, at(2000));
            },
            [](pair_of& s) {
                s.c.refund(s.later);
                s.must_know(s.c.used(at(2000)) <= 1);
            }),
        race(
            "refund, move on | move on, used", 3, 2, take_two,
            [](pair_of& s) {
                s.tell();
                s.c.refund(s.taken);
                (void)s.c.check(1, at(2000));
            },
            [](pair_of& s) {
                (void)s.c.check(1, at(2000));
                s.must_know(s.c.used(at(2000)) == 1);
            },
            in_bounds),
        // The limit is there when its version is.
        race(
            "change | limit", 2, 1, nothing, [](pair_of& s) { (void)s.c.change_limit(3, at(0)); },
            [](pair_of& s) { model::check(s.c.limit() - 2 <= 1, "a limit that never was"); }),
        race(
            "change | charge", 2, 1, move_to<0>, [](pair_of& s) { (void)s.c.change_limit(3, at(0)); },
            [](pair_of& s) { model::check(s.c.charge(5, at(0)).debt - 2 <= 1, "a limit that never was"); }),
        {"look alone | change", [] { return alone_where_the_limit_changes<false>(); }},
        {"glance alone | change", [] { return alone_where_the_limit_changes<true>(); }},
        {"glance | move on", [] { return glance_where_the_segment_moves_on(); }},
        race(
            "seven changes | change", 2, 1, nothing,
            [](pair_of& s) {
                for (int i = 0; i < 7; ++i)
                    s.told.fetch_add(s.c.change_limit(3, at(0)) ? 0 : 1, std::memory_order_relaxed);
                model::check(s.told.load(std::memory_order_relaxed) <= 7, "an eighth change");
            },
            [](pair_of& s) {
                s.told.fetch_add(s.c.change_limit(1, at(0)) ? 0 : 1, std::memory_order_relaxed);
                model::check(s.told.load(std::memory_order_relaxed) <= 7, "an eighth change");
            },
            few),
        // The first segment in which it fits.
        race("first fit | move on", 2, 2, full, move_to<1000>,
             [](pair_of& s) { model::check(s.c.first_fit(0, at(1000)) == at(3000), "not the first that fits"); }),
        race(
            "first fit | a new tenant", 2, 2,
            [](pair_of& s) {
                s.c.charge(1, at(0));
                s.c.charge(1, at(1000));
            },
            [](pair_of& s) {
                s.c.charge(2, at(8000));
                (void)s.c.check(1, at(9000));
            },
            [](pair_of& s) {
                // At once where the counter has moved on, past both.
                auto const fit = s.c.first_fit(1, at(1000));
                model::check(fit == at(1000) || fit >= at(3000), "too early");
            }),
        {"shared", [] { return share_a_limit(options::weak("shared", 0)); }},
        race("shared | move on", 2, 1, full, move_to<2000>,
             [](pair_of& s) {
                 auto const d = s.c.try_acquire_beside(1, at(2000), [] { return permits{0}; });
                 model::check(d.granted(), "refused though empty");
             }),
        race(
            "second look | move on", 2, 1, move_to<0>, move_to<1000>,
            [](pair_of& s) {
                std::int64_t as_of = 0;
                int calls = 0;
                auto d = s.c.try_acquire_beside(1, at(0), [&] {
                    if (++calls == 2) as_of = 1000;
                    return counter::usage{0, at(as_of)};
                });
                if (d) model::check(d.receipt().segment() >= segment_of(as_of), "before what it was compared with");
            },
            in_bounds),
        // No thread waits for what is on its way.
        race("cold | move on", 2, 1, nothing, move_to<1000>, move_to<0>),
        race(
            "moves on twice | move on", 2, 1, nothing,
            [](pair_of& s) {
                (void)s.c.check(1, at(1000));
                (void)s.c.check(1, at(2000));
            },
            move_to<2000>, in_bounds),
    };
}

/// Kept, not shown to be needed: of advance_to the acquire, before `put`, whose exchange of head is of the newest. A
/// head older than `until` could only be charged where program order and reads-from make a cycle, which the standard's
/// relaxed accesses allow and this search leaves out.
bool is_kept_unshown(std::string const& line) { return line.find("[[unlikely]] refresh(t)") != std::string::npos; }

TEST(sliding_window_counter_model_long, each_memory_order_but_one_is_needed) {
    std::string const path = "../../include/weir/sliding_window_counter.hpp";
    std::vector<std::string> lines{""};
    std::ifstream header{path};
    for (std::string line; std::getline(header, line);) lines.push_back(line);
    std::size_t kept = 0;
    auto const trials = trials_of_orders();
    for (auto const& t : trials) {
        auto const begun = std::chrono::steady_clock::now();
        auto const o = t.run();
        std::chrono::duration<double> const took = std::chrono::steady_clock::now() - begun;
        std::cout << o << ", " << took.count() << " s" << std::endl;
        EXPECT_TRUE(o.failure.empty()) << o;
        EXPECT_NE(o.seen, coverage::cut_off) << o;
    }
    std::vector<model::earned> all;
    for (auto const& site : model::sites_of("sliding_window_counter.hpp", trials)) {
        for (auto& e : model::weaken(site, trials)) {
            std::cout << e.what << ": " << e.noticed_by << std::endl;
            if (is_kept_unshown(lines.at(e.what.where.line))) {
                ++kept;
            } else {
                EXPECT_FALSE(e.noticed_by.empty()) << e.what << " is not needed, or the cases are blind";
            }
            all.push_back(std::move(e));
        }
    }
    EXPECT_EQ(kept, 1U);
    for (auto const line : model::unreached(path, all)) {
        ADD_FAILURE() << "no case reaches line " << line;
    }
}

}  // namespace
