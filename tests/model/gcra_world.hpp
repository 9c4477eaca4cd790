// SPDX-License-Identifier: MIT
//
// Programs for the limiters that stand on one word (gcra_state.hpp), and what each execution of them must show:
// - decision, retry_at, departure and what a refund gave back are those of the pure algorithm in some order of the
//   operations (linearizable.hpp), and the word at the end is what that order leaves: nothing is lost, nothing leaks;
// - over the permits that are live at a grant, the promise, by an exact oracle;
// - a denial writes nothing; an operation takes so many steps and more only for what others wrote.
#pragma once

#include "linearizable.hpp"
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"

#include <weir/detail/gcra.hpp>
#include <weir/fixed_token_bucket.hpp>
#include <weir/leaky_bucket.hpp>
#include <weir/leaky_bucket_queue.hpp>
#include <weir/token_bucket.hpp>

#include "../support/gcra_oracle.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gcra_world {

using model::options;
using model::outcome;
using model::scenario;
using std::chrono::nanoseconds;
using weir::permits;

inline model::clock::time_point at(std::int64_t t) { return model::clock::time_point{nanoseconds{t}}; }
inline std::int64_t ticks(model::clock::time_point t) { return t.time_since_epoch().count(); }

/// A permit every so many ticks: then a tick earns one unit, and what a limiter reports is exact.
struct config {
    std::int64_t interval = 10;
    permits burst = 2;

    weir::rate rate() const { return {1, nanoseconds{interval}}; }
    weir::gcra algorithm() const { return *weir::gcra::make<nanoseconds>(rate(), burst); }
};

enum class verb : char {
    take = 'a',     // n at t, into the slot
    reserve = 'b',  // n at t, waiting at most `wait`, into the slot
    refund = 'r',   // n of what is in the slot
    settle = 's',   // the slot, at n
    change = 'c',   // to configuration n, at t
    advance = 'w',  // the clock, by t
    look = 'o',     // the word at the end
};
constexpr std::int64_t by_clock = -1;  // as a time: what the limiter's clock says

struct op {
    verb what = verb::take;
    permits n = 1;
    std::int64_t t = 0;
    unsigned slot = 0;
    std::int64_t wait = 0;

    friend std::ostream& operator<<(std::ostream& os, op const& o) {
        os << static_cast<char>(o.what) << o.n;
        if (o.t != 0) os << '@' << o.t;
        if (o.slot != 0) os << '#' << o.slot;
        if (o.wait != 0) os << '+' << o.wait;
        return os;
    }
};
inline op take(permits n, std::int64_t t, unsigned slot = 0) { return {verb::take, n, t, slot, 0}; }
inline op reserve(permits n, std::int64_t t, std::int64_t wait, unsigned slot = 0) {
    return {verb::reserve, n, t, slot, wait};
}
inline op refund(permits n, unsigned slot = 0) { return {verb::refund, n, 0, slot, 0}; }
inline op settle(permits n, unsigned slot = 0) { return {verb::settle, n, 0, slot, 0}; }
inline op change(unsigned to, std::int64_t t) { return {verb::change, to, t, 0, 0}; }
inline op advance(std::int64_t by) { return {verb::advance, 0, by, 0, 0}; }

struct result {
    bool ok = false;
    std::int64_t value = 0;  // take: retry_at; reserve: starts_at; refund: permits given back; look: the TAT
    std::int64_t t = 0;      // the time that was used
    friend std::ostream& operator<<(std::ostream& os, result const& r) {
        return os << (r.ok ? "yes " : "no ") << r.value << " (at " << r.t << ')';
    }
};

struct program {
    config first{};
    std::vector<config> others{};  // that a change may name
    std::int64_t clock = 0;        // its start
    std::vector<op> before{};      // done before the threads begin
    std::vector<std::vector<op>> threads{};
    bool promise = true;       // check the bound: false where there is debt or a change
    bool by_algorithm = true;  // check linearizability
    bool only_ahead = false;   // what is refunded are reservations whose moments do not come
    unsigned most_steps = 0;   // of an operation that meets no other; 0: not checked
    unsigned retry_steps = 1;  // more of them for each write of another, and each failure for nothing

    std::string name() const {
        std::ostringstream os;
        os << "b" << first.burst;
        if (clock != 0) os << " c" << clock;
        model::print(os, before, threads);
        return os.str();
    }
};

constexpr unsigned slots = 7;

// ---- what the algorithm would do ----

/// The word and what each slot holds.
struct state {
    struct held {
        permits live = 0;
        std::int64_t t = 0;
        std::uint64_t before = 0;
        std::uint64_t after = 0;
        unsigned version = 0;
        permits cancelled = 0;  // the last ones of a booking: not given back yet
        permits n = 0;          // what was asked for
        std::uint64_t end = 0;  // TAT where what is live or cancelled ends
        auto operator<=>(held const&) const = default;
    };
    std::uint64_t tat = 0;
    unsigned version = 0;               // changes so far
    unsigned config = 0;                // 0: the first
    bool booked = false;                // there has been a booking
    std::uint64_t unordered_below = 0;  // the highest TAT that a partial refund lowered since
    std::array<held, slots> slot{};
    auto operator<=>(state const&) const = default;
};

class spec {
public:
    /// `changes`: how many there have been at the end, if all have returned.
    explicit spec(program const& p, std::optional<unsigned> changes = {}) : changes_{changes} {
        algorithms_.push_back(p.first.algorithm());
        for (auto const& c : p.others) algorithms_.push_back(c.algorithm());
        only_ahead_ = p.only_ahead;
        std::int64_t now = p.clock;
        times_.push_back(now);
        auto const note = [&](op const& o) {
            if (o.what == verb::advance) times_.push_back(now += o.t);
            if (o.what == verb::refund && o.n != 0) ++refunds_;
            if (o.what == verb::settle) ++refunds_;
            if (o.what == verb::reserve)
                booked_until_ = std::max(booked_until_, std::max(o.t, std::int64_t{0}) + o.wait);
        };
        for (auto const& o : p.before) note(o);
        unsigned refunding = 0;
        for (auto const& t : p.threads) {
            unsigned const before = refunds_;
            for (auto const& o : t) note(o);
            if (refunds_ != before) ++refunding;
        }
        crowded_ = refunding > 3;
        booked_until_ += now;
    }
    void is_queue() { queue_ = true; }

    std::vector<state> operator()(state s, op const& o, result const* r) const {
        if (o.what == verb::advance) return step(std::move(s), o, r);
        // What was cancelled and is the last now goes back at any time, and by the end.
        std::vector<state> all;
        for (bool more = true; more;) {
            state const now = s;
            more = release(s);
            if (more && o.what == verb::look && !crowded_) continue;
            for (auto& next : step(now, o, r)) all.push_back(std::move(next));
        }
        return all;
    }

private:
    /// Gives back the cancelled booking that is the last one, if there is one.
    bool release(state& s) const {
        for (auto& h : s.slot) {
            if (h.cancelled == 0 || h.end != s.tat || s.version != 0) continue;
            std::uint64_t const worth = h.cancelled * algorithms_[s.config].unit();
            if (s.tat - worth < s.unordered_below) continue;
            s.tat -= worth;
            h.end -= worth;
            h.cancelled = 0;
            return true;
        }
        return false;
    }
    std::vector<state> step(state s, op const& o, result const* r) const {
        auto const& g = algorithms_[s.config];
        switch (o.what) {
            case verb::advance: return {s};
            case verb::take: return queue_ ? enqueue(s, g, o, r) : attempt(s, g, o, r);
            case verb::reserve: return book(s, g, o, r);
            case verb::refund: return give_back(s, g, o.slot, std::min(o.n, s.slot[o.slot].live), r);
            case verb::settle: return at_last(s, g, o, r);
            case verb::change: return changed(s, g, o, r);
            case verb::look:
                if (r->value != static_cast<std::int64_t>(s.tat)) return {};
                return {s};
        }
        return {};
    }

    static std::uint64_t u(std::int64_t t) { return static_cast<std::uint64_t>(t); }

    std::vector<state> attempt(state s, weir::gcra const& g, op const& o, result const* r) const {
        std::int64_t const t = r != nullptr ? r->t : o.t;
        bool const allowed = o.n <= g.burst() && g.allows(s.tat, g.at(u(t)), o.n);
        if (r != nullptr) {
            if (r->ok != allowed) return {};
            // A denial is a snapshot: a change that came after it changes no answer.
            if (!r->ok && r->value != retry(s, g, o.n, t)) return {};
        }
        if (allowed) charge(s, g, o, t);
        return {s};
    }
    static std::int64_t retry(state const& s, weir::gcra const& g, permits n, std::int64_t t) {
        if (n > g.burst()) return std::numeric_limits<std::int64_t>::max();
        return std::max(t, static_cast<std::int64_t>(g.first(g.required(s.tat, n))));
    }
    static void charge(state& s, weir::gcra const& g, op const& o, std::int64_t t) {
        std::uint64_t const next = g.charged(s.tat, g.at(u(t)), o.n);
        // After a change a receipt has no room for the TAT before, and what is undone stays for times before it.
        std::uint64_t const before = s.version == 0 ? s.tat : std::max(s.tat, g.at(u(t)).floor);
        s.slot[o.slot] = {o.n, t, before, next, s.version, 0, o.n, next};
        s.tat = next;
    }
    std::vector<state> enqueue(state s, weir::gcra const& g, op const& o, result const* r) const {
        bool const allowed = o.n <= g.burst() && g.allows(s.tat, g.at(u(o.t)), o.n);
        std::int64_t const departs = s.tat <= g.at(u(o.t)).floor ? o.t : static_cast<std::int64_t>(g.first(s.tat));
        if (r != nullptr && (r->ok != allowed || r->value != (allowed ? departs : retry(s, g, o.n, o.t)))) return {};
        if (allowed) charge(s, g, o, o.t);
        return {s};
    }
    std::vector<state> book(state s, weir::gcra const& g, op const& o, result const* r) const {
        std::int64_t const t = r != nullptr ? r->t : o.t;
        auto const now = g.at(u(t));
        bool const at_once = o.n <= g.burst() && g.allows(s.tat, now, o.n);
        std::uint64_t const next = g.charged(s.tat, now, o.n);
        bool const booked = o.n <= g.burst() && (at_once || next <= g.at(u(t + o.wait)).floor + g.span());
        std::int64_t const due = at_once || !booked ? t : static_cast<std::int64_t>(g.first(next - g.span()));
        if (r != nullptr && (r->ok != booked || r->value != due)) return {};
        if (booked) charge(s, g, o, t);
        if (booked && !at_once) s.booked = true;
        return {s};
    }
    std::vector<state> give_back(state s, weir::gcra const& g, unsigned slot, permits k, result const* r) const {
        auto& h = s.slot[slot];
        permits const live = h.live;
        auto const gave = [&](std::uint64_t units) { return r == nullptr || u(r->value) == units / g.unit(); };
        std::vector<state> all;
        h.live -= k;
        if (k == 0 || h.version != s.version) {
            if (gave(0)) all.push_back(s);
            return all;
        }
        bool const last = s.tat == h.after && k == (s.version == 0 ? h.n : live);
        if (queue_) {
            if (r != nullptr && r->ok != last) return {};
            if (last) {
                s.tat = h.before;
            } else {
                h.cancelled = k;
            }
            return {s};
        }
        cancel(s, g, slot, live, k, r, all);
        if (only_ahead_ && !crowded_) return all;
        // Where three others stand in its way, nothing goes back.
        if (crowded_ && r != nullptr && gave(0)) all.push_back(s);
        if (last && gave(live * g.unit())) {
            all.push_back(s);
            all.back().tat = h.before + (h.n - live) * g.unit();
        }
        // As the last charge it must go back whole, unless another refund stands in the way.
        if (last && refunds_ == 1) return all;
        // Otherwise what is certain at a time that the clock showed, or up to which a thread had booked.
        std::vector<std::int64_t> latest = times_;
        for (std::int64_t t = times_.back(); t <= booked_until_; ++t) latest.push_back(t);
        for (auto const now : latest) {
            std::uint64_t const ahead = h.after > g.span() ? h.after - g.span() : 0;
            std::uint64_t const from = std::max(g.at(u(h.t)).floor, ahead);
            std::uint64_t const to = g.at(u(now)).ceil;
            std::uint64_t const gone = to > from ? to - from : 0;
            std::uint64_t const whole = live * g.unit();
            std::uint64_t const certain = gone < whole ? std::min(whole - gone, k * g.unit()) : 0;
            std::uint64_t const units = std::min(certain, s.tat);
            if (!gave(units)) continue;
            all.push_back(s);
            if (units != 0 && s.booked) all.back().unordered_below = std::max(s.unordered_below, s.tat);
            all.back().tat -= units;
        }
        return all;
    }
    /// A reservation whose moment has not come at a time that the clock showed: the last of all goes back, another one
    /// waits.
    void cancel(state const& s, weir::gcra const& g, unsigned slot, permits live, permits k, result const* r,
                std::vector<state>& all) const {
        auto const& h = s.slot[slot];
        std::uint64_t const end = h.end - h.cancelled * g.unit();
        bool const ahead = g.moment(h.after) > g.at(u(times_.front())).floor;
        if (s.version != 0 || !ahead || end - live * g.unit() < s.unordered_below) return;
        permits const given = end == s.tat ? k : 0;
        if (r != nullptr && u(r->value) != given) return;
        all.push_back(s);
        auto& next = all.back().slot[slot];
        if (given == 0) {
            next.cancelled += k;
        } else {
            next.end = end - k * g.unit();
            all.back().tat = k == live ? h.before : next.end;
        }
    }
    std::vector<state> at_last(state s, weir::gcra const& g, op const& o, result const* r) const {
        permits const live = s.slot[o.slot].live;
        if (r != nullptr && r->ok != (live != 0)) return {};
        if (live == 0) return {s};
        if (o.n < live) {
            auto all = give_back(s, g, o.slot, live - o.n, nullptr);
            for (auto& one : all) one.slot[o.slot].live = 0;
            return all;
        }
        s.slot[o.slot].live = 0;
        if (o.n == live) return {s};
        std::vector<state> all;
        for (auto const now : times_) {
            all.push_back(s);
            all.back().tat = std::max(s.tat, g.at(u(now)).ceil) + (o.n - live) * g.unit();
        }
        return all;
    }
    std::vector<state> changed(state s, weir::gcra const& g, op const& o, result const* r) const {
        if (r != nullptr && !r->ok) return {s};  // busy
        auto const& to = algorithms_[o.n];
        s.tat = to.carried(g, s.tat, u(o.t));
        s.config = static_cast<unsigned>(o.n);
        ++s.version;
        return {s};
    }

    std::vector<weir::gcra> algorithms_;
    std::vector<std::int64_t> times_;
    std::optional<unsigned> changes_;
    unsigned refunds_ = 0;
    bool crowded_ = false;  // more than three threads refund
    std::int64_t booked_until_ = 0;
    bool queue_ = false;
    bool only_ahead_ = false;
};

// ---- the limiter ----

template <class Limiter>
class world {
public:
    using decision = typename Limiter::decision;
    static constexpr bool is_queue = requires(decision const& d) { d.departs_at(); };

    explicit world(program const& p)
        : program_{p}, clock{0}, limiter{p.first.rate(), is_queue ? p.first.burst - 1 : p.first.burst, clock} {
        clock.advance(nanoseconds{p.clock});
        for (auto const& o : p.before) run(o);
    }
    void run(op const& o) {
        std::size_t const entry = history.entries().size();
        auto const r = history.call(o, [&] { return perform(o, entry); });
        auto const& time = history.entries()[entry].time;
        if (time.thread < 0) return;
        if (o.what == verb::take && !r.ok) model::check(time.writes == 0, "a denial writes nothing");
        if (program_.most_steps != 0) {
            model::check(time.steps <= program_.most_steps + program_.retry_steps * (time.others + time.spurious),
                         "an operation takes more steps than others' writes account for");
        }
    }
    void check() {
        for (std::size_t i = 0; i < asked_.size(); ++i) {
            auto const& a = asked_[i];
            history.amend(a.entry, [&](result& r) { r.value = ticks(a.d.retry_at()); });
        }
        std::optional<unsigned> changes{0U};
        for (auto const& e : history.entries()) {
            if (e.op.what != verb::change) continue;
            if (!e.result) changes.reset();
            if (changes && e.result->ok) ++*changes;
        }
        history.call(op{verb::look}, [&] { return result{true, tat(), 0}; });
        if (!program_.by_algorithm) return;
        spec step{program_, changes};
        if (is_queue) step.is_queue();
        (void)history.check(state{}, step);
    }

    model::history<op, result> history;

private:
    struct refused {
        std::size_t entry;
        decision d;
    };
    struct live {
        std::int64_t t;
        permits n;
    };

    result perform(op const& o, std::size_t entry) {
        switch (o.what) {
            case verb::take: {
                std::int64_t const t = o.t == by_clock ? ticks(clock.now()) : o.t;
                auto d = limiter.try_acquire(o.n, at(t));
                bool const ok = d.granted();
                if (!ok) {
                    asked_.push_back({entry, std::move(d)});
                    return {false, 0, t};
                }
                std::int64_t when = t;
                if constexpr (is_queue) when = ticks(d.departs_at());
                hold(o, std::move(d), when);
                return {true, is_queue ? when : 0, t};
            }
            case verb::reserve:
                if constexpr (requires { limiter.reserve(1, nanoseconds{1}, at(0)); }) {
                    std::int64_t const t = o.t == by_clock ? ticks(clock.now()) : o.t;
                    auto d = limiter.reserve(o.n, nanoseconds{o.wait}, at(t));
                    bool const ok = d.granted();
                    std::int64_t const when = ticks(d.starts_at());
                    if (ok) hold(o, std::move(d), when);
                    return {ok, when, t};
                }
                break;
            case verb::refund: {
                if (!slot_[o.slot]) return {};
                if constexpr (is_queue) {
                    live_[o.slot].n = 0;
                    return {limiter.refund(*slot_[o.slot]) != 0, 0, 0};
                } else {
                    permits const k = std::min(o.n, left_[o.slot]);
                    // A thread that gives them back does not use them from then on.
                    left_[o.slot] -= k;
                    live_[o.slot].n -= k;
                    auto const given = limiter.refund(*slot_[o.slot], o.n);
                    return {true, static_cast<std::int64_t>(given), 0};
                }
            }
            case verb::settle:
                if constexpr (requires { limiter.settle(*slot_[0], 1); }) {
                    if (!slot_[o.slot]) return {};
                    bool const ok = limiter.settle(*slot_[o.slot], o.n);
                    if (ok) live_[o.slot].n = o.n;
                    left_[o.slot] = 0;
                    return {ok, 0, 0};
                }
                break;
            case verb::change:
                if constexpr (requires { limiter.change({program_.first.rate(), 1}, at(0)); }) {
                    auto const& c = program_.others[o.n - 1];
                    auto const e = limiter.change({c.rate(), is_queue ? c.burst - 1 : c.burst}, at(o.t));
                    return {!e, 0, o.t};
                }
                break;
            case verb::advance: clock.advance(nanoseconds{o.t}); return {true, 0, 0};
            case verb::look: break;
        }
        return {};
    }
    void hold(op const& o, decision&& d, std::int64_t when) {
        slot_[o.slot].emplace(std::move(d));
        left_[o.slot] = o.n;
        live_[o.slot] = {when, o.n};
        if (program_.promise) keep();
    }
    /// In every interval, of what is live now.
    void keep() const {
        std::vector<gcra_oracle::grant> all;
        for (auto const& l : live_) {
            if (l.n != 0) all.push_back({l.t, l.n});
        }
        if constexpr (is_queue) {
            // Departures: each at least as many intervals after the one before as that one took.
            std::sort(all.begin(), all.end(), [](auto const& a, auto const& b) { return a.time < b.time; });
            for (std::size_t i = 1; i < all.size(); ++i) {
                model::check(
                    all[i].time >= all[i - 1].time + static_cast<std::int64_t>(all[i - 1].n) * program_.first.interval,
                    "departures are too close");
            }
        } else {
            model::check(gcra_oracle::excess(all, {1, program_.first.interval}, program_.first.burst) <= 0,
                         "more than the promise");
        }
    }
    /// What must be earned before all of the burst is there again: the TAT itself.
    std::int64_t tat() const {
        permits burst = 0;
        if constexpr (requires { limiter.burst(); }) {
            burst = limiter.burst();
        } else if constexpr (requires { limiter.capacity(); }) {
            burst = limiter.capacity();
        } else {
            burst = limiter.waiting() + 1;
        }
        auto const d = limiter.check(burst, at(0));
        return d.granted() ? 0 : ticks(d.retry_at());
    }

    program const& program_;

public:
    model::clock clock;
    Limiter limiter;

private:
    std::array<std::optional<decision>, slots> slot_;
    std::array<permits, slots> left_{};
    std::array<live, slots> live_{};
    std::vector<refused> asked_;
};

using token_bucket = weir::token_bucket<model::clock&, model::atomics>;
using fixed_token_bucket = weir::fixed_token_bucket<model::clock&, model::atomics>;
using leaky_bucket = weir::leaky_bucket<model::clock&, model::atomics>;
using leaky_bucket_queue = weir::leaky_bucket_queue<model::clock&, model::atomics>;

template <class World>
scenario start(program const& p) {
    return model::play(std::make_shared<World>(p), p.threads);
}

/// What a number of explorations came to.
struct sum {
    std::uint64_t programs = 0;
    std::uint64_t executions = 0;
    std::uint64_t pruned = 0;
    std::size_t longest = 0;
    unsigned operation_steps = 0;
    std::string failure;
    std::string bounds;

    bool add(outcome const& o, model::coverage expected) {
        ++programs;
        executions += o.executions;
        pruned += o.pruned;
        longest = std::max(longest, o.longest);
        operation_steps = std::max(operation_steps, o.operation_steps);
        bounds = o.bounds;
        if (o.passed(expected)) return true;
        std::ostringstream os;
        os << o;
        failure = os.str();
        return false;
    }
    friend std::ostream& operator<<(std::ostream& os, sum const& s) {
        os << s.programs << " programs, " << s.executions << " executions, " << s.pruned << " pruned, longest "
           << s.longest << " steps, an operation at most " << s.operation_steps << " (" << s.bounds << ')';
        if (!s.failure.empty()) os << "\n" << s.failure;
        return os;
    }
};

inline void report(char const* what, sum const& s) {
    std::cout << what << ": " << s << '\n';
    testing::Test::RecordProperty("executions", std::to_string(s.executions));
}

template <class Limiter = token_bucket>
outcome explore(options o, program const& p) {
    o.name += (o.name.empty() ? "" : " ") + p.name();
    return model::explore(o, [&p] { return start<world<Limiter>>(p); });
}

using ops = std::vector<op>;

/// All pairs of one from each menu, for two threads, before them each of the beginnings; and a third that moves the
/// clock.
struct menu {
    std::vector<ops> before;
    std::vector<ops> one;
    std::vector<ops> other;
    std::vector<std::int64_t> clocks{0};
    std::vector<std::int64_t> moves{0};
    std::vector<permits> bursts{2};
    std::vector<config> others{};
    bool promise = true;
    unsigned most_steps = 0;
    unsigned retry_steps = 1;
};

inline sum each_of(options const& o, menu const& m, model::coverage expected = model::coverage::complete) {
    sum all;
    program p;
    p.others = m.others;
    p.promise = m.promise;
    p.most_steps = m.most_steps;
    p.retry_steps = m.retry_steps;
    for (auto const burst : m.bursts) {
        for (auto const clock : m.clocks) {
            for (auto const move : m.moves) {
                for (auto const& b : m.before) {
                    for (auto const& x : m.one) {
                        for (auto const& y : m.other) {
                            p.first = {10, burst};
                            p.clock = clock;
                            p.before = b;
                            p.threads = {x, y};
                            if (move != 0) p.threads.push_back({advance(move)});
                            if (!all.add(explore(o, p), expected)) return all;
                        }
                    }
                }
            }
        }
    }
    return all;
}

}  // namespace gcra_world
