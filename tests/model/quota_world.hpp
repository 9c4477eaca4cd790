// SPDX-License-Identifier: MIT
//
// Programs for quota_limiter, and what each execution of them must show.
// - Every grant is one that some order of the operations allows: with it, in every window over effective times, what
//   counts and what calls in flight hold is within each limit. A settlement turns what is held into what counts in one
//   step of that order: a token is never uncounted between the two.
// - Every denial is one that an exact log of a window and a segment would make, or one that would be if the attempts
//   and refunds that it overlaps had charged all that they ask for and given nothing back yet; of these, only such as
//   wrote anything. So attempts that race for the last room may all be denied, and one that meets no other may not.
// - At the end, what is left is what that order leaves: nothing leaked.
// Where operations lower the sums (refunds, settlements at less than was held), search with options.real_time: the
// server counts in real time, and happens-before alone would let a refund come before what in truth came before it.
#pragma once

#include "linearizable.hpp"
#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"

#include <weir/llm/quota.hpp>
#include <weir/llm/quota_limiter.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace quota_world {

using model::options;
using model::outcome;
using model::scenario;
using weir::llm::accounting;
using weir::llm::quota;
using weir::llm::tokens;

/// Steps of six seconds: the coarsest that a quota takes for a minute. Then a minute is ten segments, and a ring 16
/// words.
struct coarse_clock {
    using duration = std::chrono::seconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<coarse_clock>;
    static constexpr bool is_steady = true;

    time_point now() const noexcept { return {}; }
    static constexpr duration resolution() noexcept { return duration{segment}; }
    static constexpr std::int64_t segment = 6;
};

using limiter = weir::llm::quota_limiter<coarse_clock&, model::atomics>;

inline coarse_clock::time_point at(std::int64_t t) { return coarse_clock::time_point{std::chrono::seconds{t}}; }

constexpr std::size_t max_calls = 6;

enum class verb : char { take = 'a', settle = 's', refund = 'r', change = 'c' };

/// Numbers of calls tell the decisions apart; those of threads that take first.
struct op {
    verb what = verb::take;
    unsigned call = 0;
    tokens n{};  // asked for, or used
    std::int64_t t = 0;
    quota limits{};  // of a change

    friend std::ostream& operator<<(std::ostream& os, op const& o) {
        os << static_cast<char>(o.what) << '#' << o.call << ' ' << o.n.input << '+' << o.n.output;
        if (o.t != 0) os << '@' << o.t;
        return os;
    }
};

inline op take(unsigned call, tokens n, std::int64_t t = 0) { return {verb::take, call, n, t, {}}; }
inline op settle(unsigned call, tokens used, std::int64_t t = 0) { return {verb::settle, call, used, t, {}}; }
inline op refund(unsigned call) { return {verb::refund, call, {}, 0, {}}; }
inline op change(quota q, std::int64_t t = 0) { return {verb::change, 0, {}, t, q}; }

struct program {
    std::vector<std::vector<op>> threads;
    quota limits{};
    accounting how = accounting::any;
    std::chrono::nanoseconds jitter{0};
    std::vector<op> before{};  // by no thread, before all threads
    bool cold = false;         // the first attempt finds no ceiling
    std::int64_t later = 0;    // when all is looked at in the end: where it has aged out, nothing may be left
};

/// What the order of operations has come to.
struct state {
    enum : std::uint8_t { none, live, settled, gone };
    struct part {
        std::int64_t when = 0;
        std::uint64_t n = 0;
        friend auto operator<=>(part const&, part const&) = default;
    };
    struct one {
        std::uint8_t is = none;
        std::int64_t when = 0;  // effective time
        part counts{};          // at its stamp
        part late{};            // at its settlement
        std::uint64_t holds = 0;
        friend auto operator<=>(one const&, one const&) = default;
    };
    std::array<one, max_calls> calls{};
    quota limits{};
    friend bool operator<(state const& a, state const& b) {
        auto const key = [](quota const& q) { return std::tie(q.rpm, q.rps, q.tpm, q.tps); };
        return a.calls != b.calls ? a.calls < b.calls : key(a.limits) < key(b.limits);
    }
};

class world {
public:
    explicit world(program const& p)
        : p_{p},
          limiter_{p.limits,
                   {.jitter = p.jitter, .server_timeout = std::chrono::nanoseconds{0}, .accounting = p.how},
                   clock_} {
        if (!p.cold) (void)limiter_.check(tokens{.input = 1, .output = 1}, at(0));
        for (auto const& thread : p.threads) {
            for (auto const& o : thread) note(o);
        }
        for (auto const& o : p.before) {
            note(o);
            run(o);
        }
    }

    void run(op const& o) {
        history_.call(o, [&] {
            auto& d = decisions_[o.call];
            switch (o.what) {
                case verb::take: {
                    auto got = limiter_.try_acquire(o.n, at(o.t));
                    bool const granted = got.granted();
                    d.emplace(std::move(got));
                    return granted;
                }
                case verb::settle: return d && limiter_.settle(*d, o.n, at(o.t));
                case verb::refund: {
                    bool const live = d && d->live();
                    if (live) limiter_.refund(*d);
                    return live;
                }
                case verb::change: break;
            }
            return !limiter_.change(o.limits, at(o.t));
        });
    }

    void check() const {
        state first;
        first.limits = p_.limits;
        history_.check(first, [this](state const& s, op const& o, bool const* result) { return step(s, o, result); });
        leftovers();
    }

private:
    using entry = model::history<op, bool>::entry;
    static constexpr std::int64_t minute = 60;

    void note(op const& o) {
        if (std::find(times_.begin(), times_.end(), o.t) == times_.end()) times_.push_back(o.t);
        if (o.what == verb::take) asked_[o.call] = o.n;
    }

    bool holding() const { return p_.how != accounting::reserve; }
    bool strict() const { return p_.how == accounting::any || p_.how == accounting::reserve; }
    /// What a call counts at its stamp, and what it holds.
    std::uint64_t counts(tokens n) const {
        return !holding() ? n.total() : n.input == 0 && n.output != 0 ? 1 : n.input.value();
    }
    std::uint64_t holds(tokens n) const { return n.total() - counts(n); }

    std::int64_t length(bool of_a_minute) const {
        return (of_a_minute ? minute : 1) + std::chrono::ceil<std::chrono::seconds>(p_.jitter).count();
    }
    static std::int64_t segment_of(std::int64_t t) { return t / coarse_clock::segment; }
    std::int64_t segments(std::int64_t window) const { return (window - 1) / coarse_clock::segment + 1; }

    /// What a window that ends at x holds, by an exact log, or by one of a window and a segment.
    std::uint64_t sum(state const& s, std::int64_t x, std::int64_t window, bool requests, bool coarse) const {
        std::uint64_t all = 0;
        auto const within = [&](std::int64_t t, std::int64_t w) {
            return coarse ? segment_of(t) >= segment_of(x) - segments(w) && segment_of(t) <= segment_of(x)
                          : t <= x && t > x - w;
        };
        auto const in = [&](std::int64_t t) { return within(t, window); };
        for (auto const& c : s.calls) {
            if (c.is == state::none || c.is == state::gone) continue;
            if (requests) {
                all += in(c.when) ? 1U : 0U;
                continue;
            }
            all += in(c.counts.when) ? c.counts.n : 0;
            all += in(c.late.when) ? c.late.n : 0;
            // The server's timeout is 0: a hold ends by itself after the longest window of tokens.
            if (c.is == state::live && within(c.when, length(p_.limits.tpm.has_value()))) all += c.holds;
        }
        return all;
    }

    /// Whether no window that holds e exceeds a limit when n more are counted there.
    bool fits(state const& s, std::int64_t e, std::int64_t window, bool requests, std::uint64_t n,
              std::optional<std::uint64_t> const& limit) const {
        if (!limit || n == 0) return true;
        for (std::int64_t const x : times_) {
            if (x >= e && x < e + window && sum(s, x, window, requests, false) + n > *limit) return false;
        }
        return true;
    }
    /// Whether the coarse log, and what overlaps, leave no room.
    bool full(state const& s, std::int64_t e, std::int64_t window, bool requests, std::uint64_t n,
              std::optional<std::uint64_t> const& limit, std::uint64_t overlapping) const {
        return limit && n != 0 && sum(s, e, window, requests, true) + n + overlapping > *limit;
    }

    entry const& entry_of(op const& o) const {
        for (auto const& e : history_.entries()) {
            if (&e.op == &o) return e;
        }
        model::fail("an operation that is not in the history");
    }

    std::vector<state> step(state const& s, op const& o, bool const* result) const {
        auto const& c = s.calls[o.call];
        state next = s;
        auto& changed = next.calls[o.call];
        switch (o.what) {
            case verb::take: return step_of_take(s, o, result);
            case verb::settle:
                if (result != nullptr && *result != (c.is == state::live)) return {};
                if (c.is != state::live) return {s};
                changed.is = state::settled;
                changed.late = {o.t, holding() ? o.n.output.value() : 0};
                if (std::uint64_t const n = holding() ? o.n.input.value() : o.n.total(); n <= c.counts.n) {
                    changed.counts.n = n;
                } else {
                    changed.late.n += n - c.counts.n;
                }
                changed.holds = 0;
                return {next};
            case verb::refund:
                if (result != nullptr && *result != (c.is == state::live)) return {};
                if (c.is == state::live) changed.is = state::gone;
                return {next};
            case verb::change: break;
        }
        if (result != nullptr && !*result) return {};  // none is busy
        next.limits = o.limits;
        return {next};
    }

    std::vector<state> step_of_take(state const& s, op const& o, bool const* result) const {
        std::vector<state> all;
        bool const may_be_denied = result == nullptr || !*result;
        bool const may_be_granted = result == nullptr || *result;
        std::uint64_t const needed = strict() ? o.n.total() : counts(o.n);
        for (std::int64_t const e : times_) {
            if (e < o.t) continue;
            if (may_be_granted && fits(s, e, length(true), true, 1, s.limits.rpm) &&
                fits(s, e, length(false), true, 1, s.limits.rps) &&
                fits(s, e, length(true), false, needed, s.limits.tpm) &&
                fits(s, e, length(false), false, needed, s.limits.tps)) {
                all.push_back(s);
                all.back().calls[o.call] = {state::live, e, {e, counts(o.n)}, {}, holds(o.n)};
            }
            if (!may_be_denied) continue;
            auto const [calls, more] = overlapping(s, entry_of(o));
            if (result == nullptr || full(s, e, length(true), true, 1, s.limits.rpm, calls) ||
                full(s, e, length(false), true, 1, s.limits.rps, calls) ||
                full(s, e, length(true), false, needed, s.limits.tpm, more) ||
                full(s, e, length(false), false, needed, s.limits.tps, more)) {
                all.push_back(s);
            }
        }
        return all;
    }

    /// Happens-before, in real time too: a refund that is over need not be known yet to an operation that does not
    /// follow it otherwise.
    static bool known_before(model::span const& a, model::span const& b) {
        if (!a.ended) return false;
        if (a.thread == b.thread || a.thread < 0 || b.thread < 0) return a.number < b.number;
        return b.seen[static_cast<unsigned>(a.thread)] >= a.clock;
    }

    /// Requests and tokens that operations which overlap `mine` may have charged, or not yet given back, in addition
    /// to what `s` says.
    std::pair<std::uint64_t, std::uint64_t> overlapping(state const& s, entry const& mine) const {
        std::uint64_t calls = 0;
        std::uint64_t more = 0;
        for (auto const& other : history_.entries()) {
            if (&other == &mine || known_before(other.time, mine.time) || known_before(mine.time, other.time)) continue;
            if (other.time.ended && other.time.writes == 0) continue;
            auto const is = s.calls[other.op.call].is;
            tokens const n = asked_[other.op.call];
            switch (other.op.what) {
                case verb::take:
                    if (is == state::none) {
                        calls += 1;
                        more += n.total();
                    }
                    break;
                case verb::settle:
                    // Counted at both places for a moment, whichever side of `mine` it stands.
                    more += n.total();
                    break;
                case verb::refund:
                    if (is == state::gone) {
                        calls += 1;
                        more += n.total();
                    }
                    break;
                case verb::change: break;
            }
        }
        return {calls, more};
    }

    /// What is left when all have returned, or when all has aged out.
    void leftovers() const {
        bool every_one_returned = true;
        std::uint64_t calls = 0;
        std::uint64_t used = 0;
        bool changed = false;
        for (auto const& e : history_.entries()) {
            every_one_returned = every_one_returned && e.time.ended;
            changed = changed || e.op.what == verb::change;
            if (!e.result || !*e.result) continue;
            tokens const n = asked_[e.op.call];
            switch (e.op.what) {
                case verb::take:
                    calls += 1;
                    used += n.total();
                    break;
                case verb::settle:
                    used += e.op.n.total();
                    used -= n.total();
                    break;
                case verb::refund:
                    calls -= 1;
                    used -= n.total();
                    break;
                case verb::change: break;
            }
        }
        bool const aged = p_.later > 0;
        if (!every_one_returned && !aged) return;
        if (aged) calls = used = 0;
        quota const limits = changed ? limiter_.limits() : p_.limits;
        // What was given back of a past segment is had with the next at the latest.
        std::int64_t const last = *std::max_element(times_.begin(), times_.end());
        auto const left = limiter_.available(at(aged ? p_.later : last + coarse_clock::segment));
        auto const is = [&](std::optional<std::uint64_t> const& limit, std::optional<std::uint64_t> const& got,
                            std::uint64_t taken) { return !limit || *got == (*limit > taken ? *limit - taken : 0); };
        model::check(is(limits.rpm, left.rpm, calls) && is(limits.rps, left.rps, calls),
                     "requests leaked or were lost");
        model::check(is(limits.tpm, left.tpm, used) && is(limits.tps, left.tps, used), "tokens leaked or were lost");
    }

    program p_;
    coarse_clock clock_;
    limiter limiter_;
    std::array<std::optional<limiter::decision>, max_calls> decisions_{};
    std::array<tokens, max_calls> asked_{};
    std::vector<std::int64_t> times_;
    model::history<op, bool> history_;
};

inline std::function<scenario()> of(program const& p) {
    return [p] { return model::play(std::make_shared<world>(p), p.threads); };
}

/// begin() and end() order the operations: see above.
inline options real_time(std::string name) {
    options o = options::weak(std::move(name));
    o.real_time = true;
    return o;
}

/// With few preemptions. Where a segment ends, threads read again until they see what another has done: an old store
/// once in a row, no more.
inline options few(std::string name, unsigned preemptions, unsigned spurious = 1) {
    options o = options::bounded(std::move(name), preemptions, spurious);
    o.rereads = 1;
    return o;
}

inline outcome explore(options const& o, program const& p) { return model::explore(o, of(p)); }

}  // namespace quota_world
