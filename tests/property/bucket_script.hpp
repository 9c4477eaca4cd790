// SPDX-License-Identifier: MIT
//
// Everything that can be done to a token_bucket or leaky_bucket, on std::atomic and on plain cells at once, against
// bucket_model.
#pragma once

#include "bucket_model.hpp"
#include "gaps.hpp"
#include "run.hpp"

#include <weir/atomics.hpp>
#include <weir/leaky_bucket.hpp>
#include <weir/token_bucket.hpp>

#include <array>
#include <stdexcept>

namespace script {

/// What a bucket is made of.
struct bucket_config {
    written_rate r;
    std::uint64_t burst;
};

/// What a step asks for if it can be counted; else, having seen that it is refused with a reason, something that can.
template <class Limiter>
bucket_config bucket_config_of(step const& s, journal& log, std::uint64_t more = 0) {
    using duration = typename Limiter::duration;
    bucket_config c{rate_of<duration>(s), s.pick % 4 == 0 ? size(s.c) : 1 + size(s.c) % (s.pick % 4 == 1 ? 5 : 1000)};
    bool const counts = is_countable<duration>(c.r, c.burst);
    ensure_equal(static_cast<bool>(weir::gcra::make<duration>(c.r.rate, c.burst)), counts, "accepted: ", c.r.count,
                 " per ", c.r.ticks, '*', c.r.num, '/', c.r.den, " s, burst ", c.burst);
    if (!counts) {
        auto const e = weir::gcra::make<duration>(c.r.rate, c.burst).error();
        ensure(*e.message() != '\0', "refused without a reason");
        log.note("refused: ", e.message());
        c = {written_rate::of(1 + s.a % 3, duration{3}), 1 + more + s.c % 9};
    }
    log.note(c.r.count, " per ", c.r.ticks, '*', c.r.num, '/', c.r.den, " s, burst ", c.burst);
    return c;
}

template <template <class, class> class Limiter, class Clock>
class bucket_run {
    using shared = Limiter<Clock&, weir::std_atomics>;
    using plain = Limiter<Clock&, weir::unsynchronized>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    static constexpr bool reserves = requires(shared& b) { b.reserve(1, duration{}); };

public:
    bucket_run(std::array<step, 4> const& setup, journal& log) : log_{log} {
        for (int i = 0; i < 3; ++i)
            configs_.push_back(bucket_config_of<shared>(setup[static_cast<std::size_t>(i) + 1], log_));
        // The least common multiple of what the three rates count in.
        integer common = 1;
        for (auto const& c : configs_) {
            auto const q = c.r.template per_tick<duration>().below;
            common = floor_div(common * q, gcd(common, q));
        }
        auto const& c = configs_[0];
        clock_.ticks = origin_ = origin_of(setup[0].b);
        std::uint64_t const start = setup[0].a % 4 == 0   ? 0
                                    : setup[0].a % 4 == 1 ? up_to(c.burst, setup[0].a)
                                                          : std::numeric_limits<std::uint64_t>::max();
        log_.note("clock ", Clock::period::num, '/', Clock::period::den, " s, origin ", origin_, ", start ", start);
        shared_.emplace(c.r.rate, c.burst, weir::token_bucket_options{.initial = std::min(start, weir::all_permits)},
                        clock_);
        plain_.emplace(c.r.rate, c.burst, weir::token_bucket_options{.initial = std::min(start, weir::all_permits)},
                       clock_);
        model_.emplace(gcra_model::make<duration>(c.r, c.burst), start, common);
        observe(origin_, 1);
    }

    void take(step const& s) {
        switch (s.op % 12) {
            case 0:
            case 1: return advance(s);
            case 2:
            case 3:
            case 4: return attempt(amount(s.a), clock_.ticks);
            case 5: return attempt(amount(s.a), minus(clock_.ticks, delay(s.b)));
            case 6: return attempt(amount(s.a), s.pick % 4 == 0 ? plus(clock_.ticks, delay(s.b)) : clock_.ticks);
            case 7:
                if constexpr (reserves) return reserve(amount(s.a), s.pick % 4 == 0 ? size(s.b) : delay(s.b), s);
                return;
            case 8:
            case 9: return give_back(s);
            case 10: return settle(s);
            default: return change(s);
        }
    }

    void end() const { model_->keep_promise(); }

private:
    struct held {
        typename shared::decision s;
        typename plain::decision p;
        bucket_model::receipt r;
    };

    std::uint64_t since(std::int64_t t) const { return time_since(origin_, t, model_->algorithm().horizon); }
    time_point time_of(std::optional<std::uint64_t> t) const { return time_after<time_point>(origin_, t); }
    /// Up to a little above the burst, and now and then more than any.
    std::uint64_t amount(std::uint16_t code) const {
        if (code >= 0xfe00) return ~std::uint64_t{0} - (code & 0xffU);
        if (code % 3 == 0) return code % 5;
        return up_to(model_->burst() == ~std::uint64_t{0} ? model_->burst() : model_->burst() + 1, code);
    }
    /// Of the order of what a permit takes.
    std::uint64_t delay(std::uint16_t code) const {
        auto const& g = model_->algorithm();
        integer const permit = ceil_div(g.ticks, g.permits);
        return floor_div(permit * (code % 1024U), integer{code < 1024 ? 1U : 256U}).u64() + (code % 3U);
    }

    void advance(step const& s) {
        std::int64_t const before = clock_.ticks;
        std::uint64_t const t = since(before);
        auto const& g = model_->algorithm();
        switch (s.pick % 6) {
            case 0: clock_.ticks = plus(before, size(s.a)); break;
            case 1: {  // to what the horizon leaves
                std::uint64_t const left = g.horizon.u64() - t;
                clock_.ticks = plus(before, left - std::min(left, size(s.a)));
                break;
            }
            case 2: {  // a share of a refill
                integer const whole = ceil_div(g.ticks * g.burst, g.permits);
                clock_.ticks = plus(before, floor_div(whole * (s.a % 1100U), integer{1024}).u64());
                break;
            }
            case 3: clock_.ticks = plus(before, s.a % 4U); break;
            default:  // to the instant at which so many are there, a tick before it, or one after
                auto const first = model_->retry(1 + up_to(model_->burst() - 1, s.a), t);
                if (!first) break;
                clock_.ticks = plus(before, *first - t);
                if (s.pick % 3 == 0) clock_.ticks = std::max(before, minus(clock_.ticks, 1));
                if (s.pick % 3 == 1) clock_.ticks = plus(clock_.ticks, 1);
        }
        log_.note("the clock goes to ", clock_.ticks);
        observe(clock_.ticks, 1 + up_to(model_->burst() - 1, s.b));
        observe(s.c % 2 == 0 ? plus(clock_.ticks, size(s.c)) : minus(clock_.ticks, size(s.c)), amount(s.b));
    }

    /// One and the same from both, and from the model.
    template <class S, class P>
    void compare(S const& s, P const& p, std::uint64_t n, std::int64_t t, bool granted, time_point retry_at) const {
        ensure_equal(s.granted(), granted, "grants ", n, " at ", t);
        ensure_equal(p.granted(), granted, "with plain cells, grants ", n, " at ", t);
        ensure_equal(s.never(), !granted && model_->never(n), "never");
        ensure_equal(p.never(), s.never(), "with plain cells, never");
        ensure_equal(ticks(s.retry_at()), ticks(retry_at), "retry_at of ", n, " at ", t);
        ensure_equal(p.retry_at() == s.retry_at(), true, "with plain cells, retry_at");
        std::int64_t const longest = model_->algorithm().horizon.template clamped<std::int64_t>();
        auto const wait = integer{ticks(retry_at)} - t;
        std::int64_t const after = granted ? 0
                                   : retry_at == time_point::max()
                                       ? longest
                                       : std::min(longest, wait.template clamped<std::int64_t>());
        ensure_equal(s.retry_after().count(), after, "retry_after of ", n, " at ", t);
        std::uint64_t const u = since(t);
        ensure_equal(s.remaining(), model_->remaining(n, u), "remaining after ", n, " at ", t);
        ensure_equal(p.remaining(), s.remaining(), "with plain cells, remaining");
        auto const full = model_->full(n, u);
        ensure_equal(ticks(s.full_at()), full && *full <= u ? t : ticks(time_of(full)), "full_at after ", n, " at ", t);
        ensure_equal(p.full_at() == s.full_at(), true, "with plain cells, full_at");
    }

    void attempt(std::uint64_t n, std::int64_t t) {
        std::uint64_t const u = since(t);
        bool const grants = model_->grants(n, u);
        log_.note("take ", n, " at ", t, grants ? ": granted" : ": denied");
        auto const retry = grants ? at<time_point>(t) : retry_of(n, u);
        compare(shared_->check(n, at<time_point>(t)), plain_->check(n, at<time_point>(t)), n, t, grants, retry);
        auto s = shared_->try_acquire(n, at<time_point>(t));
        auto p = plain_->try_acquire(n, at<time_point>(t));
        compare(s, p, n, t, grants, retry);
        model_->keep_to_the_ideal(n, u, grants);
        if (grants) {
            auto const r = model_->take(n, u);
            held_.add({std::move(s), std::move(p), r});
        } else {
            ensure_equal(shared_->refund(s), 0U, "a denial's refund");
            ensure_first(retry, [&](time_point x) { return shared_->check(n, x).granted(); });
        }
        observe(t, n);
    }
    time_point retry_of(std::uint64_t n, std::uint64_t u) const { return time_of(model_->retry(n, u)); }

    void reserve(std::uint64_t n, std::uint64_t wait, step const& s) {
        if constexpr (reserves) {
            std::int64_t const t = s.pick % 8 == 1 ? minus(clock_.ticks, delay(s.c)) : clock_.ticks;
            std::uint64_t const u = since(t);
            std::int64_t const most =
                wait > static_cast<std::uint64_t>(max_ticks) ? -1 : static_cast<std::int64_t>(wait);
            wait = most < 0 ? 0 : wait;
            auto a = shared_->reserve(n, duration{most}, at<time_point>(t));
            auto b = plain_->reserve(n, duration{most}, at<time_point>(t));
            auto const m = model_->reserve(n, wait, u);
            log_.note("reserve ", n, " at ", t, " within ", most, m.granted ? ": granted, due " : ": refused ", m.due);
            ensure_equal(a.granted(), m.granted, "reserves ", n, " at ", t, " within ", most);
            ensure_equal(b.granted(), m.granted, "with plain cells, reserves ", n);
            auto const starts = m.granted && m.due > u ? time_of(m.due) : at<time_point>(t);
            ensure_equal(ticks(a.starts_at()), ticks(starts), "starts_at of ", n, " at ", t);
            ensure(a.starts_at() == b.starts_at() && a.retry_at() == b.retry_at(),
                   "with plain cells, a reservation differs");
            if (m.granted) {
                held_.add({std::move(a), std::move(b), m.r});
            } else {
                auto const first = model_->retry(n, u);
                auto const retry = !first               ? time_point::max()
                                   : *first - u <= wait ? at<time_point>(t)
                                                        : time_of(*first - wait);
                ensure_equal(ticks(a.retry_at()), ticks(retry), "retry_at of a reservation of ", n, " at ", t,
                             " within ", most);
                ensure_equal(a.never(), model_->never(n), "never, of a reservation");
            }
            observe(t, n);
        }
    }

    void give_back(step const& s) {
        held* const h = held_.pick(s);
        if (h == nullptr) return;
        std::uint64_t const k = s.a % 3 == 0 ? h->r.live : up_to(plus_one(h->r.live), s.a);
        std::uint64_t const live = h->r.live;
        std::uint64_t const expected = model_->refund(h->r, k, since(clock_.ticks));
        log_.note("refund ", k, " of ", live, ": ", expected);
        ensure_equal(shared_->refund(h->s, k), expected, "refund of ", k, " of ", live);
        ensure_equal(plain_->refund(h->p, k), expected, "with plain cells, refund of ", k);
        if (h->r.live == 0) ensure_equal(shared_->refund(h->s), 0U, "a second refund");
        release_gaps();
        observe(clock_.ticks, model_->burst());
        model_->keep_promise();
    }

    void settle(step const& s) {
        held* const h = held_.pick(s);
        if (h == nullptr) return;
        std::uint64_t const actual =
            s.a % 4 == 0 ? std::min(size(s.b), ~std::uint64_t{0} - 1) : up_to(plus_one(h->r.live), s.a);
        bool const first = h->r.live != 0;
        log_.note("settle ", h->r.live, " at ", actual);
        ensure_equal(shared_->settle(h->s, actual), first, "settles");
        ensure_equal(plain_->settle(h->p, actual), first, "with plain cells, settles");
        if (first && actual < h->r.live) model_->refund(h->r, h->r.live - actual, since(clock_.ticks));
        if (first && actual > h->r.live) model_->debt(actual - h->r.live, since(clock_.ticks));
        h->r.live = 0;
        release_gaps();
        ensure(!shared_->settle(h->s, 1) && shared_->refund(h->s) == 0, "settled twice");
        observe(clock_.ticks, model_->burst());
    }
    void release_gaps() {
        integer tat = model_->tat();
        give_back_gaps(
            model_->gaps, tat, model_->algorithm(), *shared_, at<time_point>(origin_), at<time_point>(clock_.ticks),
            [&](auto const& x) { return time_of(x); }, since(clock_.ticks));
        model_->set_tat(tat);
    }
    static std::uint64_t plus_one(std::uint64_t n) { return n == ~std::uint64_t{0} ? n : n + 1; }

    void change(step const& s) {
        auto const& c = configs_[s.a % 3];
        std::int64_t const t = s.pick % 4 == 1 ? minus(clock_.ticks, delay(s.b)) : clock_.ticks;
        std::uint64_t const had = model_->available(since(t));
        std::uint64_t const old_burst = model_->burst();
        bool const was_whole = model_->tat() <= model_->algorithm().floor(since(t));
        bool const fits = model_->change(gcra_model::make<duration>(c.r, c.burst), since(t));
        log_.note("change to ", c.r.count, " per ", c.r.ticks, '*', c.r.num, '/', c.r.den, " s, burst ", c.burst,
                  " at ", t, fits ? "" : ": does not fit");
        ensure_equal(shared_->change({c.r.rate, c.burst}, at<time_point>(t)) == weir::errc::none, fits, "changes");
        ensure_equal(plain_->change({c.r.rate, c.burst}, at<time_point>(t)) == weir::errc::none, fits,
                     "with plain cells, changes");
        std::uint64_t const has = shared_->available(at<time_point>(t));
        // Of a full bucket one call can take all, whether or not single ones can.
        std::uint64_t const most = fits ? std::min(was_whole ? old_burst : had, c.burst) : had;
        ensure(has <= most && most - has <= 1, "available was ", had, " and is ", has, " after a change");
        if (was_whole && fits && old_burst >= c.burst)
            ensure(shared_->check(c.burst, at<time_point>(t)).granted(), "full before a change, and after it");
        observe(t, model_->burst());
    }

    /// What can be seen at t, all of it.
    void observe(std::int64_t t, std::uint64_t n) const {
        auto const when = at<time_point>(t);
        std::uint64_t const u = since(t);
        std::uint64_t const free = model_->available(u);
        ensure_equal(shared_->available(when), free, "available at ", t);
        ensure_equal(plain_->available(when), free, "with plain cells, available at ", t);
        ensure(shared_->check(free, when).granted(), "denies what is available, ", free, ", at ", t);
        ensure(!shared_->check(free + 2, when).granted(), "grants more than is available, ", free, ", at ", t);
        ensure(free <= model_->burst(), "more available than the burst");
        for (std::uint64_t const k : {n, model_->burst()}) {
            bool const grants = model_->grants(k, u);
            compare(shared_->check(k, when), plain_->check(k, when), k, t, grants, grants ? when : retry_of(k, u));
        }
    }

    journal& log_;
    Clock clock_{};
    std::int64_t origin_ = 0;
    std::vector<bucket_config> configs_;
    std::optional<shared> shared_;
    std::optional<plain> plain_;
    std::optional<bucket_model> model_;
    held_list<held, 64> held_;
};

template <class Clock>
using token_bucket_run = bucket_run<weir::token_bucket, Clock>;
template <class Clock>
using leaky_bucket_run = bucket_run<weir::leaky_bucket, Clock>;

inline void token_bucket_script(schedule const& s, journal& log) { interpret<token_bucket_run, 4>(s, log); }
inline void leaky_bucket_script(schedule const& s, journal& log) { interpret<leaky_bucket_run, 4>(s, log); }

}  // namespace script
