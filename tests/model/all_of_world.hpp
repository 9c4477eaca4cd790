// SPDX-License-Identifier: MIT
//
// Composites of two parts, P and Q: parts made of one word, programs over them, and what each execution must show while
// time stands still:
// - a grant is one that every part allows in some order of the operations, and that order leaves what is left at the
//   end: all or none, and nothing leaks;
// - a denial is that order's, or would be if the attempts and refunds that it overlaps had charged all they ask for; of
//   these, only such as wrote anything;
// - a denial that wrote met another operation that wrote, the part charged last is never given back, and retry_at is
//   exact at the end.
#include "linearizable.hpp"
#pragma once

#include "model.hpp"
#include "model_atomic.hpp"
#include "program.hpp"

#include <weir/all_of.hpp>
#include <weir/sliding_window_counter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace all_of_world {

using model::coverage;
using model::options;
using model::outcome;
using model::scenario;
using std::chrono::nanoseconds;
using weir::permits;

using time_point = model::clock::time_point;
inline time_point at(std::int64_t t) { return time_point{nanoseconds{t}}; }

// ---- parts of one word ----

/// What the parts have in common, and the calls that charged them.
class part {
public:
    using clock_type = model::clock;
    using time_point = model::clock::time_point;
    using duration = model::clock::duration;

    class decision {
    public:
        decision(bool granted, permits n, time_point at, time_point when)
            : granted_{granted}, n_{n}, at_{at}, retry_at_{when} {}
        bool granted() const { return granted_; }
        explicit operator bool() const { return granted_; }
        bool never() const { return retry_at_ == time_point::max(); }
        time_point retry_at() const { return retry_at_; }
        duration retry_after() const { return retry_at_ - at_; }
        permits n() const { return n_; }
        time_point at() const { return at_; }

    private:
        bool granted_;
        permits n_;
        time_point at_;
        time_point retry_at_;
    };

    part(model::clock& c, permits limit) : limit_{limit}, clock_{&c} {}
    clock_type const& clock() const { return *clock_; }

    /// How often each thread has charged it.
    std::array<unsigned, model::max_threads + 1> charges{};

protected:
    void charged() { ++charges[static_cast<std::size_t>(model::detail::engine::get().running() + 1)]; }

    permits limit_;
    model::clock* clock_;
    mutable model::atomics::atomic<std::uint64_t> word_{0};
};

/// At most so many before tick 100, then as many as one likes; refunds are exact.
class window_part : public part {
public:
    static constexpr bool refunds_in_full = true;
    static constexpr std::int64_t end = 100;
    using part::part;

    decision check(permits n, time_point t) const {
        std::uint64_t const used = t >= at(end) ? 0 : word_.load(std::memory_order_relaxed);
        return answer(n, t, used + n <= limit_);
    }
    decision try_acquire(permits n, time_point t) {
        std::uint64_t used = word_.load(std::memory_order_relaxed);
        while (used + n <= limit_) {
            if (word_.compare_exchange_weak(used, used + n, std::memory_order_relaxed, std::memory_order_relaxed)) {
                charged();
                return answer(n, t, true);
            }
        }
        return answer(n, t, false);
    }
    permits refund(decision& d) {
        word_.fetch_sub(d.n(), std::memory_order_relaxed);
        return d.n();
    }
    permits available(time_point) const { return limit_ - word_.load(std::memory_order_relaxed); }

private:
    decision answer(permits n, time_point t, bool yes) const {
        return {yes, n, t, yes ? t : n > limit_ ? time_point::max() : std::max(t, at(end))};
    }
};

/// Fills by one a tick; a refund gives back what is certain: less what it filled by since.
class bucket_part : public part {
public:
    using part::part;

    decision check(permits n, time_point t) const { return answer(n, t, word_.load(std::memory_order_relaxed)); }
    decision try_acquire(permits n, time_point t) {
        std::uint64_t full_at = word_.load(std::memory_order_relaxed);
        while (true) {
            decision d = answer(n, t, full_at);
            if (!d) return d;
            if (word_.compare_exchange_weak(full_at, std::max(full_at, ticks(t)) + n, std::memory_order_relaxed,
                                            std::memory_order_relaxed)) {
                charged();
                return d;
            }
        }
    }
    permits refund(decision& d) {
        std::uint64_t full_at = word_.load(std::memory_order_relaxed);
        while (true) {
            std::uint64_t const gone = ticks(clock_->now()) - ticks(d.at());
            if (gone >= d.n()) return 0;
            if (word_.compare_exchange_weak(full_at, full_at - (d.n() - gone), std::memory_order_relaxed,
                                            std::memory_order_relaxed)) {
                return d.n() - gone;
            }
        }
    }
    permits available(time_point t) const {
        std::uint64_t const full_at = word_.load(std::memory_order_relaxed);
        return full_at > ticks(t) ? limit_ - std::min(limit_, full_at - ticks(t)) : limit_;
    }
    std::uint64_t full_at() const { return word_.load(std::memory_order_relaxed); }

private:
    static std::uint64_t ticks(time_point t) { return static_cast<std::uint64_t>(t.time_since_epoch().count()); }
    decision answer(permits n, time_point t, std::uint64_t full_at) const {
        if (n > limit_) return {false, n, t, time_point::max()};
        std::uint64_t const first = std::max(full_at, ticks(t)) + n - limit_;
        bool const yes = std::max(full_at, ticks(t)) + n <= ticks(t) + limit_;
        return {yes, n, t, yes ? t : at(static_cast<std::int64_t>(first))};
    }
};

using token_bucket = weir::token_bucket<model::clock&, model::atomics>;
using window_log = weir::sliding_window_log<model::clock&, model::atomics>;
using window_counter = weir::sliding_window_counter<model::clock&, model::atomics>;

/// So many at once, and time enough that nothing comes back by it.
template <class Part>
Part build(model::clock& c, permits limit) {
    if constexpr (std::is_base_of_v<part, Part>) {
        return Part{c, limit};
    } else if constexpr (std::is_same_v<Part, token_bucket>) {
        return Part{weir::rate{1, nanoseconds{1000}}, limit, c};
    } else if constexpr (std::is_same_v<Part, window_counter>) {
        return Part{limit, nanoseconds{1000}, weir::counter_options{.segments = 1}, c};
    } else {
        return Part{limit, nanoseconds{1000}, c};
    }
}

// ---- programs ----

/// What an operation is about. P comes before Q in memory.
enum class parts : char { pq, qp, nested, twice, p, q };

struct op {
    bool refunds = false;
    unsigned call = 0;
    parts of = parts::pq;
    std::array<permits, 2> n{};  // of P and Q as written in the composite; what it costs them: see need()

    /// Of P and of Q.
    std::array<permits, 2> need() const {
        switch (of) {
            case parts::nested:  // P and {P, Q}
                return {2 * n[0], n[1]};
            case parts::twice:  // {P, P}
                return {n[0] + n[1], 0};
            case parts::p: return {n[0], 0};
            case parts::q: return {0, n[1]};
            default: return n;
        }
    }
    friend std::ostream& operator<<(std::ostream& os, op const& o) {
        constexpr char const* names[] = {"{p,q}", "{q,p}", "{p,{p,q}}", "{p,p}", "p", "q"};
        return os << (o.refunds ? "refund #" : "take #") << o.call << ' ' << names[static_cast<unsigned>(o.of)] << ' '
                  << o.n[0] << ',' << o.n[1];
    }
};

inline op take(unsigned call, parts of, permits n = 1, permits m = 1) { return {false, call, of, {n, m}}; }
inline op refund(unsigned call, parts of) { return {true, call, of, {}}; }

struct program {
    std::vector<std::vector<op>> threads;
    std::array<permits, 2> limits{1, 1};
    std::vector<op> before{};
    bool asks_when = false;      // a denied call asks for retry_at
    bool denies_always = false;  // instead of asking
    unsigned most_steps = 0;     // of an operation; and one more for each write by others or failure for nothing
};

constexpr std::size_t max_calls = 6;

struct state {
    std::array<permits, 2> used{};
    std::array<bool, max_calls> live{};
    std::array<bool, max_calls> gone{};
    friend auto operator<=>(state const&, state const&) = default;
};

template <class P, class Q>
class world {
    using pq_type = weir::all_of<P&, Q&>;
    using qp_type = weir::all_of<Q&, P&>;
    using nested_type = weir::all_of<P&, pq_type&>;
    using twice_type = weir::all_of<P&, P&>;

public:
    explicit world(program const& p) : p_{p} {
        // The first look at a real window notes what the later ones read.
        (void)P_.check(1, at(0));
        (void)Q_.check(1, at(0));
        for (auto const& thread : p.threads) {
            for (auto const& o : thread) note(o);
        }
        for (auto const& o : p.before) {
            note(o);
            run(o);
        }
    }

    void run(op const& o) {
        auto const me = static_cast<std::size_t>(model::detail::engine::get().running() + 1);
        auto const before = charges_of_the_last(me);
        std::size_t const i = history_.entries().size();
        bool const yes = history_.call(o, [&] {
            switch (o.of) {
                case parts::pq: return act(pq_, pqs_, o, typename pq_type::costs{o.n[0], o.n[1]});
                case parts::qp: return act(qp_, qps_, o, typename qp_type::costs{o.n[1], o.n[0]});
                case parts::nested:
                    return act(nested_, nesteds_, o, typename nested_type::costs{o.n[0], o.n[0], o.n[1]});
                case parts::twice: return act(twice_, twices_, o, typename twice_type::costs{o.n[0], o.n[1]});
                case parts::p: return act(P_, ps_, o, o.n[0]);
                case parts::q: break;
            }
            return act(Q_, qs_, o, o.n[1]);
        });
        auto const& e = history_.entries()[i];
        if (!yes && !o.refunds && o.of != parts::twice && o.of != parts::p) {
            model::check(charges_of_the_last(me) == before, "the part charged last was given back");
        }
        if (p_.most_steps != 0) {
            model::check(e.time.steps <= p_.most_steps + e.time.others + e.time.spurious, "too many steps");
        }
    }

    void check() const {
        (void)history_.check(state{}, [this](state const& s, op const& o, bool const* r) { return step(s, o, r); });
        bool all_ended = true;
        std::array<permits, 2> used{};
        for (auto const& e : history_.entries()) {
            all_ended = all_ended && e.time.ended;
            if (!e.result || !*e.result) {
                if (e.time.ended && !e.op.refunds && e.time.writes != 0 && small) {
                    model::check(meets_a_writer(e), "a denial wrote, and met no writer");
                }
                continue;
            }
            auto const n = needs_[e.op.call];
            for (std::size_t i = 0; i < 2; ++i) used[i] += e.op.refunds ? 0 - n[i] : n[i];
        }
        if (!all_ended) return;
        model::check(P_.available(at(0)) == p_.limits[0] - used[0], "P: leaked or lost");
        model::check(Q_.available(at(0)) == p_.limits[1] - used[1], "Q: leaked or lost");
        // One only: a look at a later time moves windows on.
        for (auto const& d : pqs_) {
            if (check_retry(pq_, d)) return;
        }
        for (auto const& d : qps_) {
            if (check_retry(qp_, d)) return;
        }
    }

private:
    using entry = model::history<op, bool>::entry;
    static constexpr bool small = std::is_base_of_v<part, P> && std::is_base_of_v<part, Q>;
    template <class L>
    struct asked {
        std::optional<typename L::decision> d{};
        std::optional<time_point> when{};
    };
    template <class L>
    using all_asked = std::array<asked<L>, max_calls>;

    void note(op const& o) {
        if (!o.refunds) needs_[o.call] = o.need();
    }

    /// Windows are charged before buckets, and each kind in the order of addresses: Q is last unless P alone is a
    /// bucket.
    unsigned charges_of_the_last(std::size_t me) const {
        if constexpr (!small) {
            return 0;
        } else if constexpr (std::is_same_v<P, bucket_part> && std::is_same_v<Q, window_part>) {
            return P_.charges[me];
        } else {
            return Q_.charges[me];
        }
    }

    template <class L, class Costs>
    bool act(L& l, all_asked<L>& all, op const& o, Costs const& c) {
        auto& slot = all[o.call];
        if (o.refunds) {
            if (!slot.d || !slot.d->granted()) return false;
            l.refund(*slot.d);
            return true;
        }
        if (p_.denies_always) return false;
        auto d = l.try_acquire(c, at(0));
        bool const granted = d.granted();
        slot.d.emplace(std::move(d));
        if (!granted && p_.asks_when) {
            time_point const t = slot.d->retry_at();
            model::check(t >= at(0), "retry_at is before the attempt");
            slot.when = t;
        }
        return granted;
    }

    template <class L>
    bool check_retry(L& l, asked<L> const& a) const {
        if (!a.d || a.d->granted()) return false;
        std::size_t const i = static_cast<std::size_t>(&a - &all_of_them(l)[0]);
        typename L::costs c{needs_[i][0], needs_[i][1]};
        if constexpr (std::is_same_v<L, qp_type> && !std::is_same_v<L, pq_type>) std::swap(c[0], c[1]);
        if constexpr (std::is_same_v<P, Q>) {
            if (static_cast<void const*>(&l) == static_cast<void const*>(&qp_)) std::swap(c[0], c[1]);
        }
        if (a.d->never()) return false;
        // The denial is a snapshot, and others may have taken since: the end is asked again.
        auto const d = l.check(c, at(0));
        if (d.granted()) return false;
        time_point const t = d.retry_at();
        model::check(t == at(0) || !l.check(c, t - nanoseconds{1}).granted(), "granted before retry_at");
        model::check(l.check(c, t).granted(), "denied at retry_at");
        return true;
    }
    auto const& all_of_them(pq_type& l) const {
        if constexpr (std::is_same_v<P, Q>) {
            return &l == &qp_ ? qps_ : pqs_;
        } else {
            return pqs_;
        }
    }
    auto const& all_of_them(qp_type&) const
        requires(!std::is_same_v<P, Q>)
    {
        return qps_;
    }

    entry const& entry_of(op const& o) const {
        for (auto const& e : history_.entries()) {
            if (&e.op == &o) return e;
        }
        model::fail("an operation that is not in the history");
    }
    static bool overlap(entry const& a, entry const& b) {
        return &a != &b && !a.time.precedes(b.time) && !b.time.precedes(a.time);
    }
    static bool may_have_written(entry const& e) { return !e.time.ended || e.time.writes != 0; }
    bool meets_a_writer(entry const& mine) const {
        for (auto const& e : history_.entries()) {
            if (overlap(e, mine) && may_have_written(e)) return true;
        }
        return false;
    }

    std::vector<state> step(state const& s, op const& o, bool const* result) const {
        auto const n = needs_[o.call];
        state next = s;
        if (o.refunds) {
            if (result != nullptr && *result != s.live[o.call]) return {};
            if (!s.live[o.call]) return {s};
            for (std::size_t i = 0; i < 2; ++i) next.used[i] -= n[i];
            next.live[o.call] = false;
            next.gone[o.call] = true;
            return {next};
        }
        bool fits = true;
        for (std::size_t i = 0; i < 2; ++i) {
            fits = fits && (n[i] == 0 || s.used[i] + n[i] <= p_.limits[i]);
            next.used[i] += n[i];
        }
        next.live[o.call] = true;
        std::vector<state> all;
        if (fits && (result == nullptr || *result)) all.push_back(next);
        if (result == nullptr || (!*result && may_deny(s, entry_of(o), n))) all.push_back(s);
        return all;
    }
    bool may_deny(state const& s, entry const& mine, std::array<permits, 2> const& n) const {
        auto seen = s.used;
        for (auto const& e : history_.entries()) {
            if (!overlap(e, mine) || !may_have_written(e)) continue;
            bool const counted = s.live[e.op.call];
            bool const still_there = e.op.refunds ? s.gone[e.op.call] : !counted && !s.gone[e.op.call];
            if (!still_there) continue;
            for (std::size_t i = 0; i < 2; ++i) seen[i] += needs_[e.op.call][i];
        }
        for (std::size_t i = 0; i < 2; ++i) {
            if (n[i] != 0 && seen[i] + n[i] > p_.limits[i]) return true;
        }
        return false;
    }

    program p_;
    model::clock clock_{0};
    P P_ = build<P>(clock_, p_.limits[0]);
    Q Q_ = build<Q>(clock_, p_.limits[1]);
    mutable pq_type pq_{P_, Q_};
    mutable qp_type qp_{Q_, P_};
    nested_type nested_{P_, pq_};
    twice_type twice_{P_, P_};
    all_asked<pq_type> pqs_{};
    all_asked<qp_type> qps_{};
    all_asked<nested_type> nesteds_{};
    all_asked<twice_type> twices_{};
    all_asked<P> ps_{};
    all_asked<Q> qs_{};
    std::array<std::array<permits, 2>, max_calls> needs_{};
    model::history<op, bool> history_;
};

template <class P, class Q>
std::function<scenario()> of(program const& p) {
    return [p] { return model::play(std::make_shared<world<P, Q>>(p), p.threads); };
}

template <class P, class Q>
void sees(options o, std::string const& name, program const& p) {
    o.name = name;
    model::sees(o, of<P, Q>(p));
}
/// Every choice of small parts, with old stores and by newest stores in real time.
inline void sees_over_small_parts(std::string const& name, program p) {
    p.most_steps = 15;
    for (auto const& o : {options::weak(""), options::sc("")}) {
        sees<window_part, window_part>(o, name + ", windows", p);
        sees<bucket_part, window_part>(o, name + ", a bucket and a window", p);
        sees<bucket_part, bucket_part>(o, name + ", buckets", p);
    }
}

}  // namespace all_of_world
