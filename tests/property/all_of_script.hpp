// SPDX-License-Identifier: MIT
//
// all_of over a token bucket, a counter, and a nested all_of of a log and the same bucket, against the models of its
// parts. The parts are used by others too.
#pragma once

#include "bucket_script.hpp"
#include "counter_model.hpp"
#include "log_model.hpp"
#include "run.hpp"

#include <weir/all_of.hpp>
#include <weir/atomics.hpp>
#include <weir/sliding_window_counter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>

namespace script {

template <class Clock, class Atomics>
struct parts_of {
    weir::token_bucket<Clock&, Atomics> bucket;
    weir::sliding_window_counter<Clock&, Atomics> counter;
    weir::sliding_window_log<Clock&, Atomics> log;
    weir::all_of<decltype(log)&, decltype(bucket)&> inner{log, bucket};
    weir::all_of<decltype(bucket)&, decltype(counter)&, decltype(inner)&> all{bucket, counter, inner};
};

template <class Clock>
class all_of_run {
    using shared = parts_of<Clock, weir::std_atomics>;
    using plain = parts_of<Clock, weir::unsynchronized>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using costs = std::array<weir::permits, 4>;  // bucket, counter, log, bucket again

public:
    all_of_run(std::array<step, 2> const& setup, journal& log) : log_{log} {
        auto const config = bucket_config_of<weir::token_bucket<Clock&>>(setup[0], log_);
        std::uint64_t const counted = 1 + setup[1].a % 40U;
        std::uint64_t const logged = 1 + setup[1].b % 12U;
        std::int64_t const window = std::int64_t{6} << (20U + setup[1].c % 8U);
        clock_.ticks = origin_ = static_cast<std::int64_t>(setup[1].c);
        log_.note(counted, " and ", logged, " in ", window, " ticks, clock ", Clock::period::num, '/',
                  Clock::period::den, " s");
        weir::counter_options const options{.segments = 6};
        shared_.reset(new shared{decltype(shared::bucket){config.r.rate, config.burst, clock_},
                                 decltype(shared::counter){counted, duration{window}, options, clock_},
                                 decltype(shared::log){logged, duration{window}, clock_}});
        plain_.reset(new plain{decltype(plain::bucket){config.r.rate, config.burst, clock_},
                               decltype(plain::counter){counted, duration{window}, options, clock_},
                               decltype(plain::log){logged, duration{window}, clock_}});
        auto const g = gcra_model::make<duration>(config.r, config.burst);
        bucket_.emplace(g, ~std::uint64_t{0}, g.ticks);
        counter_.emplace(counted, *counter_cut::of<duration>(counted, window, 6), origin_, ~std::uint64_t{0});
        logged_.emplace(logged, window, ~std::uint64_t{0});
    }

    void take(step const& s) {
        switch (s.op % 8) {
            case 0:
            case 1: advance(s); break;
            case 2: {
                auto const n = amount(s.a);
                attempt({n, n, n, n}, s.pick % 2 == 0);
                break;
            }
            case 3:
            case 4: attempt({amount(s.a), amount(s.b), amount(s.c), s.pick % 3U}, s.pick % 2 == 0); break;
            case 5: others(s); break;
            default: give_back(s);
        }
        observe();
    }

    void end() const { bucket_->keep_promise(); }

private:
    struct held {
        typename decltype(shared::all)::decision s;
        typename decltype(plain::all)::decision p;
        costs c;
        bucket_model::receipt bucket;
        counter_model::receipt counter;
        std::int64_t x;
    };

    std::uint64_t since() const { return time_since(origin_, clock_.ticks, bucket_->algorithm().horizon); }
    std::int64_t stamp() const { return logged_->effective(clock_.ticks, origin_); }
    std::uint64_t amount(std::uint16_t code) const {
        if (code >= 0xfe00) return ~std::uint64_t{0} - (code & 0xffU);
        return code % 3 == 0 ? code / 3 % 3U : up_to(14, code);
    }

    void advance(step const& s) {
        std::int64_t const before = clock_.ticks;
        if (s.pick % 4 == 0) {
            clock_.ticks = plus(before, size(s.a) >> 3U);
        } else if (s.pick % 4 == 1) {
            clock_.ticks = plus(before, up_to(2 * static_cast<std::uint64_t>(counter_->cut().length), s.a));
        } else if (auto const d = shared_->all.check(1 + s.a % 6U, clock_.now()); !d.granted()) {
            // Every part looks, for its retry_at; so the counter follows.
            auto const again = d.retry_at();
            (void)plain_->counter.check(1, at<time_point>(before));
            if (again != time_point::max()) clock_.ticks = std::max(before, ticks(again) - (s.pick % 8 < 4 ? 1 : 0));
        } else {
            (void)plain_->counter.check(1, at<time_point>(before));
        }
        log_.note("the clock goes to ", clock_.ticks);
    }

    static std::array<weir::permit_count, 4> asked(costs const& c) { return {c[0], c[1], c[2], c[3]}; }

    void attempt(costs const& c, bool looks) {
        std::int64_t const t = clock_.ticks;
        auto const now = clock_.now();
        auto const cost = merged(c);
        if (looks) {
            auto const d = shared_->all.check(asked(c), now);
            (void)plain_->all.check(asked(c), now);
            // It may have stopped before the counter: let that look too.
            (void)shared_->counter.check(1, now);
            (void)plain_->counter.check(1, now);
            ensure_equal(d.granted(), grants(cost), "check at ", t);
        }
        auto s = shared_->all.try_acquire(asked(c), now);
        auto p = plain_->all.try_acquire(asked(c), now);
        if (cost[1] != 0) {
            (void)shared_->counter.check(1, now);
            (void)plain_->counter.check(1, now);
        }
        bool const all = grants(cost);
        log_.note("take ", c[0], ", ", c[1], ", ", c[2], ", ", c[3], " at ", t, all ? ": granted" : ": denied");
        ensure_equal(s.granted(), all, "grants ", c[0], ", ", c[1], ", ", c[2], ", ", c[3], " at ", t);
        ensure_equal(p.granted(), all, "with plain cells, grants");
        std::array<weir::permits, 3> const left{shared_->bucket.available(now), shared_->counter.available(now),
                                                shared_->log.available(now)};
        if (all) {
            ensure(s.retry_at() == now && s.denied_by() == 4, "a grant's retry_at or denied_by");
            held h{std::move(s), std::move(p), cost, bucket_->take(cost[0], since()), counter_->take(cost[1], t),
                   stamp()};
            logged_->take(cost[2], h.x);
            held_.add(std::move(h));
            return;
        }
        ensure(left[0] == bucket_->available(since()) && left[1] == counter_->available(t) &&
                   left[2] == logged_->available(stamp()),
               "what is left");
        ensure(shared_->all.refund(s) == 0, "a denial is refunded");
        // The latest of the parts that deny, and the first of those.
        integer latest = -integer::power(70);
        std::size_t which = 4;
        auto const consider = [&](std::size_t i, bool denies, std::optional<integer> const& when) {
            if (!denies) return;
            integer const w = when ? *when : integer{max_ticks};
            if (which == 4 || w > latest) {
                latest = w;
                which = i;
            }
        };
        auto const by_bucket = bucket_->retry(cost[0], since());
        consider(0, !bucket_->grants(cost[0], since()),
                 by_bucket ? std::optional{integer{origin_} + *by_bucket} : std::nullopt);
        auto const by_counter = counter_->retry(cost[1], t);
        consider(1, !counter_->grants(cost[1], t), by_counter ? std::optional{integer{*by_counter}} : std::nullopt);
        auto const by_log = logged_->retry(cost[2], stamp());
        consider(2, !logged_->grants(cost[2], stamp()),
                 by_log ? std::optional{integer{origin_} + *by_log} : std::nullopt);
        ensure_equal(ticks(s.retry_at()), latest.clamped<std::int64_t>(), "retry_at of ", c[0], ", ", c[1], ", ", c[2],
                     ", ", c[3], " at ", t);
        ensure_equal(s.denied_by(), which, "denied_by");
        ensure_equal(s.never(), latest >= integer{max_ticks}, "never");
        ensure(p.retry_at() == s.retry_at() && p.denied_by() == s.denied_by(), "with plain cells, a denial differs");
        ensure(t == max_ticks || s.retry_at() > now, "retry_at is not later than the attempt");
    }

    /// The bucket stands twice: it is asked for the sum.
    static costs merged(costs const& c) {
        std::uint64_t const sum = c[0] + c[3] < c[0] ? ~std::uint64_t{0} : c[0] + c[3];
        return {sum, c[1], c[2], 0};
    }
    bool grants(costs const& c) const {
        return bucket_->grants(c[0], since()) && counter_->grants(c[1], clock_.ticks) && logged_->grants(c[2], stamp());
    }

    void others(step const& s) {
        std::int64_t const t = clock_.ticks;
        auto const now = clock_.now();
        std::uint64_t const n = amount(s.a);
        log_.note("another user takes ", n, " of part ", s.pick % 3);
        if (s.pick % 3 == 0) {
            bool const there = bucket_->grants(n, since());
            ensure_equal(shared_->bucket.try_acquire(n, now).granted(), there, "the bucket grants ", n);
            (void)plain_->bucket.try_acquire(n, now);
            if (there) bucket_->take(n, since());
        } else if (s.pick % 3 == 1) {
            bool const there = counter_->grants(n, t);
            ensure_equal(shared_->counter.try_acquire(n, now).granted(), there, "the counter grants ", n);
            (void)plain_->counter.try_acquire(n, now);
            if (there) counter_->take(n, t);
        } else {
            bool const there = logged_->grants(n, stamp());
            ensure_equal(shared_->log.try_acquire(n, now).granted(), there, "the log grants ", n);
            (void)plain_->log.try_acquire(n, now);
            if (there) logged_->take(n, stamp());
        }
    }

    void give_back(step const& s) {
        held* const picked = held_.pick(s);
        if (picked == nullptr) return;
        auto& h = *picked;
        log_.note("refund ", h.c[0], ", ", h.c[1], ", ", h.c[2]);
        ensure_equal(shared_->all.refund(h.s), plain_->all.refund(h.p), "unsynchronized, refunds");
        ensure(shared_->all.refund(h.s) == 0, "refunds twice");
        bucket_->refund(h.bucket, h.bucket.live, since());
        counter_->refund(h.counter, h.counter.live);
        if (h.x + logged_->window() > stamp()) logged_->give_back(h.c[2], h.x);
        held_.remove(picked);
    }

    void observe() const {
        std::int64_t const t = clock_.ticks;
        auto const now = clock_.now();
        std::uint64_t const least =
            std::min(std::min(bucket_->available(since()) / 2, counter_->available(t)), logged_->available(stamp()));
        ensure_equal(shared_->all.available(now), least, "available at ", t);
        ensure_equal(plain_->all.available(now), least, "with plain cells, available at ", t);
        ensure_equal(shared_->bucket.available(now), bucket_->available(since()), "available of the bucket at ", t);
        ensure_equal(shared_->counter.used(now), counter_->used(t), "used of the counter at ", t);
        ensure_equal(shared_->log.available(now), logged_->available(stamp()), "available of the log at ", t);
    }

    journal& log_;
    Clock clock_{};
    std::int64_t origin_ = 0;
    std::unique_ptr<shared> shared_;
    std::unique_ptr<plain> plain_;
    std::optional<bucket_model> bucket_;
    std::optional<counter_model> counter_;
    std::optional<log_model> logged_;
    held_list<held, 32> held_;
};

inline void all_of_script(schedule const& s, journal& log) { interpret<all_of_run>(s, log, 1); }

}  // namespace script
