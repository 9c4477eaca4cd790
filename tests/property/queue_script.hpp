// SPDX-License-Identifier: MIT
//
// Everything that can be done to a leaky_bucket_queue, on std::atomic and on plain cells at once, against an exact
// queue.
#pragma once

#include "bucket_model.hpp"
#include "gaps.hpp"
#include "run.hpp"

#include <weir/atomics.hpp>
#include <weir/leaky_bucket_queue.hpp>

namespace script {

template <class Clock>
class queue_run {
    using shared = weir::leaky_bucket_queue<Clock&, weir::std_atomics>;
    using plain = weir::leaky_bucket_queue<Clock&, weir::unsynchronized>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;

public:
    queue_run(std::array<step, 2> const& setup, journal& log) : log_{log} {
        auto r = rate_of<duration>(setup[1]);
        std::uint64_t waiting = setup[1].pick % 3 == 0 ? size(setup[1].c) : size(setup[1].c) % 40;
        bool const counts =
            waiting < ~std::uint64_t{0} && is_countable<duration>(r, 1) && is_countable<duration>(r, waiting + 1);
        ensure_equal(!shared::validate(r.rate, waiting), counts, "accepted: ", r.count, " per ", r.ticks, '*', r.num,
                     '/', r.den, " s, waiting ", waiting);
        if (!counts) {
            auto const made = shared::make(r.rate, waiting, clock_);
            ensure(!made && made.error() != weir::errc::none && *made.error().message() != '\0',
                   "refused without a reason");
            log_.note("refused: ", made.error().message());
            r = written_rate::of(1 + setup[1].a % 3, duration{3});
            waiting = setup[1].c % 9;
        }
        clock_.ticks = origin_ = origin_of(setup[0].b);
        log_.note(r.count, " per ", r.ticks, '*', r.num, '/', r.den, " s, waiting ", waiting, ", clock ",
                  Clock::period::num, '/', Clock::period::den, " s, origin ", origin_);
        g_ = gcra_model::make<duration>(r, waiting + 1);
        shared_.emplace(r.rate, waiting, clock_);
        plain_.emplace(r.rate, waiting, clock_);
        ensure_equal(shared_->waiting(), waiting, "waiting");
    }

    void take(step const& s) {
        switch (s.op % 8) {
            case 0:
            case 1: return advance(s);
            case 2:
            case 3:
            case 4: return attempt(amount(s.a), clock_.ticks);
            case 5:
                return attempt(amount(s.a), s.pick % 2 == 0 ? minus(clock_.ticks, size(s.b)) : plus(clock_.ticks, s.b));
            default: return cancel(s);
        }
    }

    /// One interval apart, exactly: as it was granted, and as it was not cancelled.
    void end() const {
        integer free_from = 0;
        std::int64_t last = min_ticks;
        for (auto const& b : booked_) {
            if (b.n == 0) continue;
            ensure(b.moment >= free_from, "a departure less than its interval after the one before");
            free_from = b.moment + g_.unit * g_.ticks * b.n;
            ensure(b.departs >= last, "a later booking departs earlier");
            last = b.departs;
        }
    }

private:
    struct held {
        typename shared::decision s;
        typename plain::decision p;
        integer before, after;
        std::size_t booked;
        bool live = true;
    };
    struct booking {
        integer moment;  // of the departure, on the scale of gcra_model::earned
        std::int64_t departs;
        std::uint64_t n;
    };

    std::uint64_t since(std::int64_t t) const { return time_since(origin_, t, g_.horizon); }
    time_point time_of(std::optional<std::uint64_t> t) const { return time_after<time_point>(origin_, t); }
    std::uint64_t amount(std::uint16_t code) const {
        if (code >= 0xfe00) return ~std::uint64_t{0} - (code & 0xffU);
        return code % 2 == 0 ? code / 2 % 4 : up_to(g_.burst.u64() + 1, code);
    }
    std::optional<std::uint64_t> retry(std::uint64_t n, std::uint64_t u) const {
        if (integer{n} > g_.burst) return std::nullopt;
        auto const first = g_.first(tat_ + g_.unit * n - g_.span);
        return first ? std::optional{std::max(*first, u)} : std::nullopt;
    }

    void advance(step const& s) {
        std::int64_t const before = clock_.ticks;
        std::uint64_t const u = since(before);
        integer const interval = ceil_div(g_.ticks, g_.permits);
        switch (s.pick % 5) {
            case 0: clock_.ticks = plus(before, size(s.a)); break;
            case 1: clock_.ticks = plus(before, floor_div(interval * (s.a % 1024U), integer{256}).u64()); break;
            case 2: {
                std::uint64_t const left = g_.horizon.u64() - u;
                clock_.ticks = plus(before, left - std::min(left, size(s.a)));
                break;
            }
            default:
                if (auto const first = retry(1 + up_to(g_.burst.u64() - 1, s.a), u))
                    clock_.ticks = plus(before, *first - u);
                if (s.pick % 3 == 0) clock_.ticks = std::max(before, minus(clock_.ticks, 1));
                if (s.pick % 3 == 1) clock_.ticks = plus(clock_.ticks, 1);
        }
        log_.note("the clock goes to ", clock_.ticks);
        observe(clock_.ticks, amount(s.b));
    }

    void attempt(std::uint64_t n, std::int64_t t) {
        std::uint64_t const u = since(t);
        bool const grants = n == 0 || g_.allows(tat_, n, u);
        log_.note("take ", n, " at ", t, grants ? ": granted" : ": denied");
        observe(t, n);
        auto s = shared_->try_acquire(n, at<time_point>(t));
        auto p = plain_->try_acquire(n, at<time_point>(t));
        ensure_equal(s.granted(), grants, "grants ", n, " at ", t);
        ensure_equal(p.granted(), grants, "with plain cells, grants ", n, " at ", t);
        if (!grants) {
            ensure(shared_->refund(s) == 0, "a denial is cancelled");
            auto const again = retry(n, u);
            ensure_equal(ticks(s.retry_at()), ticks(time_of(again)), "retry_at of ", n, " at ", t);
            ensure(s.retry_at() == p.retry_at() && s.departs_at() == p.departs_at(),
                   "with plain cells, a denial differs");
            observe(t, n);
            return;
        }
        // It leaves when all before it have: at once, or on the first tick at or after that moment.
        integer const f = g_.floor(u);
        bool const waits = n != 0 && tat_ > f;
        std::optional<std::uint64_t> const due = waits ? g_.first(tat_) : std::nullopt;
        time_point const departs = waits ? time_of(due) : at<time_point>(t);
        ensure_equal(ticks(s.departs_at()), ticks(departs), "departs_at of ", n, " at ", t);
        ensure(p.departs_at() == s.departs_at() && s.retry_at() == at<time_point>(t), "a grant differs");
        if (n == 0) return;
        integer const moment = std::max(tat_ * g_.ticks, g_.earned(u));
        ensure(moment - g_.earned(u) <= (g_.span - g_.unit * n) * g_.ticks, "waits longer than the queue is");
        integer const before = tat_;
        tat_ = g_.charged(tat_, n, u);
        booked_.push_back({moment, departs == time_point::max() ? max_ticks : std::max(origin_, ticks(departs)), n});
        held_.add({std::move(s), std::move(p), before, tat_, booked_.size() - 1});
        observe(t, n);
    }

    void cancel(step const& s) {
        held* const h = held_.pick(s);
        if (h == nullptr) return;
        bool const last = h->live && h->after == tat_;
        log_.note("cancel ", h->booked, last ? ": given back" : ": a gap");
        std::uint64_t const back = last ? booked_[h->booked].n : 0;
        ensure_equal(shared_->refund(h->s), back, "cancels");
        ensure_equal(plain_->refund(h->p), back, "with plain cells, cancels");
        ensure(shared_->refund(h->s) == 0, "cancels twice");
        // Its place is free, or a gap until all behind it are cancelled: it departs no more either way.
        if (last) tat_ = h->before;
        if (!last && h->live) gaps_.push_back({h->after, g_.unit * booked_[h->booked].n});
        give_back_gaps(
            gaps_, tat_, g_, *shared_, at<time_point>(origin_), at<time_point>(clock_.ticks),
            [&](auto const& x) { return time_of(x); }, since(clock_.ticks));
        booked_[h->booked].n = 0;
        h->live = false;
        observe(clock_.ticks, 1);
    }

    void observe(std::int64_t t, std::uint64_t n) const {
        auto const when = at<time_point>(t);
        std::uint64_t const u = since(t);
        std::uint64_t const free = g_.available(tat_, u);
        ensure_equal(shared_->available(when), free, "available at ", t);
        ensure_equal(plain_->available(when), free, "with plain cells, available at ", t);
        for (std::uint64_t const k : {free, free + 2, n}) {
            bool const grants = k == 0 || g_.allows(tat_, k, u);
            ensure(k != free || grants, "denies what is available");
            ensure(k != free + 2 || !grants, "grants more than is available");
            auto const s = shared_->check(k, when);
            auto const p = plain_->check(k, when);
            ensure_equal(s.granted(), grants, "check of ", k, " at ", t);
            ensure_equal(p.granted(), grants, "with plain cells, check of ", k);
            if (grants) continue;
            auto const again = retry(k, u);
            ensure_equal(ticks(s.retry_at()), ticks(time_of(again)), "retry_at of ", k, " at ", t);
            ensure(p.retry_at() == s.retry_at(), "with plain cells, retry_at");
            ensure_equal(s.never(), integer{k} > g_.burst, "never");
            ensure_first(s.retry_at(), [&](time_point x) { return shared_->check(k, x).granted(); });
        }
    }

    journal& log_;
    Clock clock_{};
    std::int64_t origin_ = 0;
    gcra_model g_;
    integer tat_ = 0;
    std::optional<shared> shared_;
    std::optional<plain> plain_;
    held_list<held, 64> held_;
    std::vector<booking> booked_;
    std::vector<gap> gaps_;
};

inline void leaky_bucket_queue_script(schedule const& s, journal& log) { interpret<queue_run>(s, log); }

}  // namespace script
