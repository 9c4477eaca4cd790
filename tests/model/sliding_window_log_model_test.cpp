// SPDX-License-Identifier: MIT
//
// The slots of sliding_window_log, and the log itself, in every interleaving. Each execution must show:
// - the promise, by an exact oracle over the time points of what was granted and not given back;
// - decisions, stamps for retry_at, refunds and, when all have returned, all stamps, that an ideal log would also have
//   in some order of the operations, with the documented slack: several permits at once, and changes of the limit,
//   overlap what others do;
// - when all have returned no bound is above a stamp below it;
// - steps bounded by what others wrote; a denial of one permit writes no slot.
#include "linearizable.hpp"
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"
#include "weakening.hpp"

#include <weir/sliding_window_log.hpp>

#include "../support/exact_log.hpp"
#include "../support/log_attempts.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace sliding_window_log_model_test {

using model::options;
using model::outcome;
using model::scenario;
using model::still;
using layout = weir::detail::log_layout;

constexpr std::uint64_t window = 10;
constexpr std::uint64_t origin = 1000;  // the stamp of time 0
constexpr std::uint64_t stamp_of(std::int64_t t) { return origin + static_cast<std::uint64_t>(t); }

enum class verb : char {
    take = 't',    // one at t, into the slot of receipts
    many = 'm',    // n at t
    look = 'l',    // can_take(t)
    back = 'r',    // what is in the slot
    book = 'b',    // usage at t that nothing refuses
    change = 'x',  // the limit to n
    all = 'A',     // the stamps in use, when all is over
};

struct op {
    verb what = verb::take;
    std::uint32_t n = 1;
    std::int64_t t = 0;
    unsigned slot = 0;
    std::size_t id = 0;  // where it stands in the history

    friend std::ostream& operator<<(std::ostream& os, op const& o) {
        os << static_cast<char>(o.what) << o.n << '@' << o.t;
        if (o.slot != 0) os << '#' << o.slot;
        return os;
    }
};
op take(std::int64_t t, unsigned slot = 0) { return {verb::take, 1, t, slot}; }
op many(std::uint32_t n, std::int64_t t, unsigned slot = 0) { return {verb::many, n, t, slot}; }
op look(std::int64_t t) { return {verb::look, 1, t}; }
op back(unsigned slot) { return {verb::back, 1, 0, slot}; }
op book(std::int64_t t) { return {verb::book, 1, t}; }
op change(std::uint32_t n) { return {verb::change, n, 0}; }

struct result {
    bool ok = false;
    std::uint32_t n = 0;       // that can go back, or went back
    std::uint64_t oldest = 0;  // of a denial
    std::vector<std::uint64_t> all{};

    friend std::ostream& operator<<(std::ostream& os, result const& r) {
        os << (r.ok ? "yes " : "no ") << r.n;
        if (r.oldest != 0) os << ", oldest " << r.oldest;
        for (auto s : r.all) os << ' ' << s;
        return os;
    }
};

constexpr unsigned receipts = 8;

struct program {
    std::uint32_t limit = 2;
    std::uint32_t capacity = 2;
    std::vector<op> before{};  // done before the threads begin
    std::vector<std::vector<op>> threads{};
    bool shared_bounds = false;  // bounds may be untrue while a scan that found so lowers them: see log_slots, Tags
    bool deny_always = false;    // to test the test
    bool stale = false;          // loads may read old stores

    std::string name() const {
        std::ostringstream os;
        os << 'L' << limit << '/' << capacity << ':';
        model::print(os, before, threads);
        return os.str();
    }
};

// ---- the ideal ----

constexpr int nobody = -1;

struct cell {
    std::uint64_t stamp = 0;
    int holder = nobody;  // whose receipt can give it back
    auto operator<=>(cell const&) const = default;
};

struct ideal {
    std::vector<cell> used;                      // sorted
    std::vector<cell> retired;                   // sorted
    std::array<cell, receipts> before{};         // what a single permit displaced
    std::array<std::uint64_t, receipts> time{};  // of what was taken
    std::array<bool, receipts> single{};

    auto operator<=>(ideal const&) const = default;
    void put(cell c) { used.insert(std::upper_bound(used.begin(), used.end(), c), c); }
    std::uint64_t nth(std::uint32_t n) const { return n <= used.size() ? used[n - 1].stamp : layout::no_stamp; }
    void loosen() {
        for (auto& c : used) c.holder = nobody;
        std::sort(used.begin(), used.end());
    }
    void retire() {  // the oldest
        retired.push_back({used.front().stamp, nobody});
        std::sort(retired.begin(), retired.end());
        used.erase(used.begin());
    }
    void bring_back() {  // the newest
        put(retired.back());
        retired.pop_back();
    }
};

template <class Slots>
struct world {
    static constexpr unsigned undisturbed_steps = 80;

    program const& p;
    model::findings& found;
    Slots s;
    model::history<op, result> h;
    std::array<weir::detail::log_receipt, receipts> grips{};

    world(program const& what, model::findings& f) : p{what}, found{f}, s{p.limit, p.capacity, window, 0, origin} {
        for (auto const& o : p.before) run(o);
    }

    void run(op o) {
        o.id = h.entries().size();
        h.call(o, [&] { return perform(o); });
        found.steps.add(h.entries()[o.id].time);
    }

    result perform(op const& o) {
        auto& g = grips[o.slot];
        result r;
        switch (o.what) {
            case verb::take:
                if (p.deny_always) return {false, 0, layout::no_stamp};
                r.ok = log_attempts::take(s, stamp_of(o.t), g, r.oldest);
                break;
            case verb::many: r.ok = log_attempts::take_many(s, o.n, stamp_of(o.t), g, r.oldest); break;
            case verb::look: r.ok = s.can_take(stamp_of(o.t), r.oldest); break;
            case verb::back:
                r.ok = true;
                r.n = s.give_back(g);
                break;
            case verb::book:
                s.book(stamp_of(o.t));
                r.ok = true;
                break;
            case verb::change: r.ok = s.change_limit(o.n); break;
            case verb::all:
                s.for_each_held(window, [&](std::uint64_t stamp) { r.all.push_back(stamp); });
                std::sort(r.all.begin(), r.all.end());
                r.ok = true;
                return r;
        }
        if (r.ok) r.oldest = 0;
        if (r.ok && (o.what == verb::take || o.what == verb::many)) r.n = g.live;
        return r;
    }

    void check() {
        if (h.all_returned()) {
            run({verb::all, 0, 0});
            if (s.count_untrue_bounds() != 0) model::fail("a bound is untrue");
        }
        auto key = h.key([](auto& all, result const& r) {
            all.push_back((r.oldest << 16U | r.n) << 1U | (r.ok ? 1U : 0U));
            all.insert(all.end(), r.all.begin(), r.all.end());
        });
        if (found.right.contains(key)) return;
        linearizable();
        keeps_promise();
        found.right.insert(std::move(key));
    }

    bool overlap(std::size_t i, std::size_t j) const {
        auto const& a = h.entries()[i].time;
        auto const& b = h.entries()[j].time;
        return i != j && !a.precedes(b) && !b.precedes(a);
    }
    bool overlaps(op const& o, std::initializer_list<verb> verbs) const {
        for (auto const& e : h.entries()) {
            if (std::find(verbs.begin(), verbs.end(), e.op.what) != verbs.end() && overlap(o.id, e.op.id)) return true;
        }
        return false;
    }

    bool overlaps_refund_of_several(op const& o) const {
        for (auto const& e : h.entries()) {
            if (e.op.what != verb::back || !overlap(o.id, e.op.id)) continue;
            for (auto const& taken : h.entries()) {
                if (taken.op.what == verb::many && taken.op.slot == e.op.slot) return true;
            }
        }
        return false;
    }

    /// Where stamps are read old, what was the oldest may have been taken meanwhile by another thread.
    bool denies(ideal const& now, std::uint32_t n, std::uint64_t q, std::uint64_t oldest) const {
        return now.nth(n) > q && (oldest == now.nth(n) || (p.stale && oldest > q && oldest < now.nth(n)));
    }

    /// What changes of the limit that are under way may have done so far.
    std::vector<ideal> moved_on(ideal const& s0, op const& o) const {
        std::set<ideal> all{s0};
        if (o.what == verb::all) return {s0};
        for (auto const& e : h.entries()) {
            if (e.op.what != verb::change || !overlap(o.id, e.op.id)) continue;
            std::vector<ideal> now{all.begin(), all.end()};
            for (auto x : now) {
                if (x.used.size() > e.op.n) {
                    x.loosen();
                    all.insert(x);
                    while (x.used.size() > e.op.n) {
                        x.retire();
                        all.insert(x);
                    }
                } else {
                    while (x.used.size() < e.op.n) {
                        x.bring_back();
                        all.insert(x);
                    }
                }
            }
        }
        return {all.begin(), all.end()};
    }

    std::vector<ideal> step(ideal const& s0, op const& o, result const* r) const {
        std::vector<ideal> all;
        std::uint64_t const x = stamp_of(o.t);
        std::uint64_t const q = x - window;
        bool const changing = overlaps(o, {verb::change});
        for (auto const& now : moved_on(s0, o)) {
            switch (o.what) {
                case verb::take:
                case verb::many: {
                    if (r == nullptr || r->ok) {
                        put(all, now, o, x, o.n, 0);
                        if (changing) put(all, now, o, x, o.n, 1);
                    }
                    if (r != nullptr && !r->ok) {
                        bool const exact = denies(now, o.n, q, r->oldest);
                        bool slack = overlaps(o, {verb::many}) || overlaps_refund_of_several(o) || changing;
                        if (o.what == verb::many) slack = slack || overlaps(o, {verb::take, verb::back});
                        if (p.shared_bounds) slack = slack || overlaps(o, {verb::take, verb::back});
                        if (exact || slack) all.push_back(now);
                    }
                    break;
                }
                case verb::look: {
                    bool const free = now.nth(1) <= q;
                    bool const slack = overlaps(o, {verb::many}) || changing || p.shared_bounds;
                    if (r == nullptr || (r->ok ? free : denies(now, 1, q, r->oldest) || slack)) {
                        all.push_back(now);
                    }
                    break;
                }
                case verb::back: give(all, now, o, r, changing); break;
                case verb::book: book_in(all, now, o, x); break;
                case verb::change: {
                    ideal next = now;
                    if (r != nullptr && !r->ok) {
                        if (overlaps(o, {verb::change})) all.push_back(now);  // busy
                        break;
                    }
                    if (next.used.size() > o.n) next.loosen();
                    while (next.used.size() > o.n) next.retire();
                    while (next.used.size() < o.n) next.bring_back();
                    all.push_back(next);
                    next.loosen();
                    all.push_back(next);
                    break;
                }
                case verb::all: {
                    std::vector<std::uint64_t> stamps;
                    for (auto const& c : now.used) stamps.push_back(c.stamp);
                    if (r->all == stamps) all.push_back(now);
                    break;
                }
            }
        }
        return all;
    }

    /// n slots that are free for x, whichever; `loose`: they cannot go back, since the limit is being lowered.
    void put(std::vector<ideal>& all, ideal const& now, op const& o, std::uint64_t x, std::uint32_t n,
             int loose) const {
        std::function<void(ideal, std::size_t, std::uint32_t)> choose = [&](ideal s1, std::size_t from,
                                                                            std::uint32_t left) {
            if (left == 0) {
                for (std::uint32_t k = 0; k < n; ++k) s1.put({x, loose != 0 ? nobody : static_cast<int>(o.slot)});
                all.push_back(std::move(s1));
                return;
            }
            for (std::size_t i = from; i < s1.used.size(); ++i) {
                if (s1.used[i].stamp > x - window) break;
                ideal next = s1;
                next.before[o.slot] = next.used[i];
                next.time[o.slot] = x;
                next.single[o.slot] = n == 1;
                next.used.erase(next.used.begin() + static_cast<std::ptrdiff_t>(i));
                choose(std::move(next), i, left - 1);
            }
        };
        choose(now, 0, n);
    }

    /// In place of the oldest stamp, if that is older; a refund under way may hide which one that is.
    void book_in(std::vector<ideal>& all, ideal const& now, op const& o, std::uint64_t x) const {
        bool const hidden = overlaps(o, {verb::back});
        bool none = now.used.front().stamp >= x;
        for (std::size_t i = 0; i < now.used.size(); ++i) {
            if (now.used[i].stamp >= x || (!hidden && now.used[i].stamp != now.used.front().stamp)) continue;
            ideal next = now;
            next.used.erase(next.used.begin() + static_cast<std::ptrdiff_t>(i));
            next.put({x, nobody});
            all.push_back(std::move(next));
        }
        if (none || hidden) all.push_back(now);
    }

    void give(std::vector<ideal>& all, ideal const& now, op const& o, result const* r, bool changing) const {
        int const me = static_cast<int>(o.slot);
        std::uint64_t const x = now.time[o.slot];
        auto const count = static_cast<std::uint32_t>(std::count(now.used.begin(), now.used.end(), cell{x, me}));
        // What has one time cannot be told apart: whichever of them goes back.
        std::uint32_t alike = 0;
        for (auto const& c : now.used) alike += c.stamp == x && c.holder != nobody ? 1U : 0U;
        for (std::uint32_t n = 0; n <= std::max(count, alike); ++n) {
            if (r != nullptr && r->n != n) continue;
            bool const may_be_less = changing || r == nullptr;
            if (n < count && !may_be_less) continue;
            if (n == 0) {
                all.push_back(now);
                continue;
            }
            ideal next = now;
            for (std::uint32_t k = 0; k < n; ++k) {
                auto i = std::find(next.used.begin(), next.used.end(), cell{x, me});
                if (i == next.used.end()) {
                    i = std::find_if(next.used.begin(), next.used.end(),
                                     [&](cell const& c) { return c.stamp == x && c.holder != nobody; });
                }
                if (i != next.used.end()) next.used.erase(i);
            }
            if (now.single[o.slot] && n == 1) {
                ideal exact = next;
                exact.put(now.before[o.slot]);
                all.push_back(exact);
            }
            if (!now.single[o.slot] || alike > 1) {
                for (std::uint32_t k = 0; k < n; ++k) next.put({x - window, nobody});
                all.push_back(next);
            }
        }
    }

    void linearizable() const {
        ideal s0;
        for (std::uint32_t i = 0; i < p.capacity; ++i) {
            (i < p.limit ? s0.used : s0.retired).push_back({layout::never_taken, nobody});
        }
        h.check(s0, [this](ideal const& from, op const& o, result const* r) { return step(from, o, r); });
    }

    void keeps_promise() const {
        std::vector<exact_log::grant> grants;
        std::uint32_t most = p.limit;
        std::array<std::uint32_t, receipts> given{};
        for (auto const& e : h.entries()) {
            if (e.op.what == verb::back) given[e.op.slot] += e.result ? e.result->n : receipts;  // or may have been
            if (e.op.what == verb::change) most = std::max(most, e.op.n);
        }
        for (auto const& e : h.entries()) {
            if ((e.op.what != verb::take && e.op.what != verb::many) || !e.result || !e.result->ok) continue;
            auto& gone = given[e.op.slot];
            grants.push_back({e.op.t, e.op.n - std::min(e.op.n, gone)});
            gone -= std::min(e.op.n, gone);
        }
        model::check(exact_log::peak(std::move(grants), window) <= most, "the promise is broken");
    }
};

template <class Slots>
outcome explore(options const& o, program p) {
    p.stale = o.stale;
    return model::explore_program<world<Slots>>(o, p);
}

using shipped = weir::detail::log_slots<model::atomics>;         // one level for so few slots
using deep = weir::detail::log_slots<model::atomics, 2>;         // several
using untagged = weir::detail::log_slots<model::atomics, 2, 0>;  // the version check by itself

template <class Slots>
void expect_right(options const& o, std::initializer_list<program> programs, unsigned frozen = 0) {
    for (program p : programs) {
        p.stale = o.stale;
        model::expect_right<world<Slots>>(o, {p}, frozen);
    }
}

// Times around the edge of a window of 10, some of which go back between threads.
program const around_the_edge{2, 2, {take(0)}, {{take(0), take(10)}, {take(9), take(11)}}};
program const ahead_of_the_rest{2, 2, {take(0)}, {{take(25), take(1)}, {take(5), take(10)}}};
program const refund_and_take{2, 2, {take(0, 1), take(1, 2)}, {{back(1)}, {take(3), take(9)}}};
program const refund_take_and_takes{2, 2, {take(0, 1), take(1, 2)}, {{back(1), take(3)}, {take(3), take(9)}}};
program const refunds_twice{2, 2, {take(0, 1), take(1, 2)}, {{back(1), back(1)}, {back(2), take(3)}}};
program const refund_of_what_was_taken_again{1, 1, {take(0, 1)}, {{take(10, 2), back(2)}, {back(1), take(11)}}};
program const levels{3, 3, {take(0, 1), take(1, 2), take(2, 3)}, {{back(1)}, {take(5), take(11)}}};
program const more_levels{4, 4, {take(0, 1), take(1, 2), take(2, 3), take(3, 4)}, {{back(4)}, {take(5), take(9)}}};
program const two_refunds{2, 2, {take(0, 1), take(1, 2)}, {{back(1)}, {back(2)}, {take(9)}}};
program const three_takes{2, 2, {take(0)}, {{take(1)}, {take(9)}, {take(10)}}};
program const three_kinds{2, 2, {take(0, 1)}, {{take(11)}, {take(0)}, {back(1)}}};
program const several_and_one{2, 2, {take(0)}, {{many(2, 10, 2)}, {take(10)}}};
program const several_twice{3, 3, {take(0)}, {{many(2, 10, 2)}, {many(2, 10, 3)}}};
program const several_and_back{2, 2, {}, {{many(2, 0, 2), back(2)}, {take(0)}}};
program const alike{2, 2, {many(2, 0, 1)}, {{back(1)}, {take(0, 2), take(5, 3)}}};
program const alike_one_by_one{2, 2, {take(0, 1), take(0, 2)}, {{back(1), take(0, 3)}, {back(2), take(0, 4)}}};
program const lowered{2, 2, {take(0)}, {{change(1)}, {take(1), take(10)}}};
program const lowered_and_refund{2, 2, {take(0, 1), take(1, 2)}, {{change(1)}, {back(2), take(10)}}};
program const lowered_by_two{3, 3, {take(0)}, {{change(1), take(11)}, {take(1), take(10)}}};
program const raised{1, 2, {take(0)}, {{change(2)}, {take(1), take(2)}}};
program const two_changes{2, 3, {take(0), take(1)}, {{change(1)}, {change(3), take(2)}}};
program const booked{2, 2, {take(0, 1)}, {{book(5)}, {take(3), take(9)}}};
program const booked_and_refund{2, 2, {take(0, 1), take(1, 2)}, {{book(5)}, {back(1)}}};
program const booked_and_lowered{2, 2, {take(0)}, {{change(1)}, {book(5), take(10)}}};
program const booked_twice{2, 2, {take(0)}, {{book(5)}, {book(4), take(10)}}};
program const change_and_take{2, 2, {take(0)}, {{change(1)}, {change(2)}, {take(1)}}};

TEST(sliding_window_log_model, two_threads_of_two_decide_as_an_exact_log_would_in_some_order) {
    for (auto const& o : {options::sc("SC"), options::weak("weak")}) {
        expect_right<deep>(o, {around_the_edge, refund_and_take, levels});
        expect_right<shipped>(o, {around_the_edge, levels, more_levels});
    }
    expect_right<deep>(options::sc("SC"), {ahead_of_the_rest, refund_of_what_was_taken_again, refund_take_and_takes,
                                           refunds_twice, alike_one_by_one, more_levels});
}

TEST(sliding_window_log_model, three_threads_of_one_decide_as_an_exact_log_would_in_some_order) {
    for (auto const& o : {options::sc("SC"), options::weak("weak")}) expect_right<deep>(o, {three_takes, three_kinds});
    expect_right<deep>(options::sc("SC"), {two_refunds});
}

TEST(sliding_window_log_model, several_permits_are_taken_at_once_or_not_at_all) {
    for (auto const& o : {options::sc("SC"), options::weak("weak")}) {
        expect_right<deep>(o, {several_and_one, several_twice, several_and_back});
    }
    expect_right<deep>(options::sc("SC"), {alike});
}

TEST(sliding_window_log_model, a_change_of_the_limit_keeps_what_was_taken) {
    for (auto const& o : {options::sc("SC"), options::weak("weak")}) {
        expect_right<deep>(o, {lowered, lowered_and_refund, raised});
    }
    expect_right<deep>(options::sc("SC"), {lowered_by_two, two_changes, change_and_take});
}

TEST(sliding_window_log_model, usage_that_nothing_refuses_replaces_the_oldest) {
    for (auto const& o : {options::sc("SC"), options::weak("weak")}) {
        expect_right<deep>(o, {booked, booked_and_refund, booked_and_lowered, booked_twice});
    }
}

TEST(sliding_window_log_model_long, two_threads_of_two_with_stale_reads) {
    expect_right<deep>(options::weak("weak", 0), {refund_take_and_takes, more_levels, alike});
    expect_right<deep>(options::weak("weak"), {refunds_twice, alike_one_by_one, lowered_by_two, two_changes});
}

TEST(sliding_window_log_model_long, three_threads_of_one_with_stale_reads) {
    expect_right<deep>(options::weak("weak"), {two_refunds, change_and_take});
}

// The tags could only fail to tell when they have gone round; without tags the version check stands alone.
TEST(sliding_window_log_model, bounds_come_true_again_without_the_help_of_tags) {
    for (program p : {refund_and_take, levels}) {
        p.shared_bounds = true;
        expect_right<untagged>(options::weak("untagged, weak"), {p});
    }
    program p = refund_take_and_takes;
    p.shared_bounds = true;
    expect_right<untagged>(options::sc("untagged, SC"), {p});
}

TEST(sliding_window_log_model_long, a_thread_that_stops_anywhere_stops_no_other) {
    expect_right<deep>(options::sc("SC"),
                       {around_the_edge, refund_and_take, refund_take_and_takes, levels, two_refunds, three_kinds,
                        several_and_back, several_twice, lowered, lowered_and_refund, raised, booked, booked_twice},
                       1);
}

TEST(sliding_window_log_model_long, a_thread_that_stops_anywhere_stops_no_other_with_stale_reads) {
    expect_right<deep>(options::weak("weak", 0), {around_the_edge, refund_and_take, three_kinds, several_twice}, 1);
}

TEST(sliding_window_log_model_long, two_threads_that_stop_anywhere_stop_no_other) {
    expect_right<deep>(options::sc("SC"), {two_refunds, three_kinds, change_and_take}, 2);
}

TEST(sliding_window_log_model, a_log_that_denies_always_fails) {
    program p = around_the_edge;
    p.deny_always = true;
    EXPECT_FALSE(explore<deep>(options::sc("denies always"), p).failure.empty());
    EXPECT_FALSE(explore<deep>(options::weak("denies always"), p).failure.empty());
}

TEST(sliding_window_log_model, each_memory_order_is_earned) {
    auto const trial = [](auto kind, program p, bool shared) {
        p.shared_bounds = shared;
        return model::trial{p.name(), [p] { return explore<typename decltype(kind)::type>(options::weak("", 0), p); }};
    };
    // Of two stamps alike, one is where the untrue bound says.
    program const one_back{2, 2, {take(0, 1), take(0, 2)}, {{back(1)}, {take(3)}}};
    program const taken_while_one_looks{2, 2, {take(0, 1), take(0, 2)}, {{back(1), take(3)}, {look(3)}}};
    program const changes{2, 2, {take(0)}, {{change(1)}, {change(2)}}};
    std::vector<model::trial> const trials{trial(std::type_identity<untagged>{}, one_back, true),
                                           trial(std::type_identity<deep>{}, taken_while_one_looks, false),
                                           trial(std::type_identity<deep>{}, changes, false)};
    auto all = model::weaken_each("log_tree.hpp", trials);
    EXPECT_EQ(all.size(), 5U);
    for (auto& e : model::weaken_each("log_slots.hpp", trials)) all.push_back(std::move(e));
    EXPECT_EQ(all.size(), 7U);
    for (auto const& e : all) EXPECT_FALSE(e.noticed_by.empty()) << e.what << " is not needed, or the cases are blind";
}

// The log itself: times are stamps from its construction on.
TEST(sliding_window_log_model, the_log_grants_and_gives_back_as_its_slots_do) {
    using log = weir::sliding_window_log<still, model::atomics>;
    auto const at = [](std::int64_t t) { return still::time_point{still::duration{t}}; };
    for (auto const& o : {options::sc("log, SC"), options::weak("log, weak")}) {
        model::sees(o, [at] {
            struct state {
                log l{2, still::duration{10}, {}, still{}};
                log::decision d[3];
                weir::permits back = 0;
            };
            auto s = std::make_shared<state>();
            s->d[0] = s->l.try_acquire(at(0));
            return scenario{{[s, at] {
                                 s->d[1] = s->l.try_acquire(2, at(1));
                                 model::check(!s->d[1].granted() || s->d[0].live() == 0, "more than the limit");
                             },
                             [s, at] {
                                 s->back = s->l.refund(s->d[0]);
                                 s->d[2] = s->l.try_acquire(at(2));
                             }},
                            [s, at] {
                                model::check(s->back == 1, "a permit goes back");
                                weir::permits const taken =
                                    (s->d[1].granted() ? 2U : 0U) + (s->d[2].granted() ? 1U : 0U);
                                model::check(taken <= 2, "the promise is broken");
                                model::check(s->l.available(at(2)) == 2 - taken, "something leaked or was lost");
                                model::check(taken != 0, "both were denied");
                            }};
        });
    }
}

}  // namespace sliding_window_log_model_test
