// SPDX-License-Identifier: MIT
//
// Everything that can be done to a sliding_window_log, on std::atomic and on plain cells at once. Where time points do
// not go back every answer is the exact log's; where they do, the promise and the meaning of retry_at remain.
#pragma once

#include "log_model.hpp"
#include "run.hpp"

#include <weir/atomics.hpp>
#include <weir/sliding_window_log.hpp>

namespace script {

/// What sliding_window_log::validate says it refuses, of a clock whose step is one tick.
template <class Duration>
bool log_is_countable(std::uint64_t limit, std::int64_t window, std::uint64_t capacity) {
    integer const needed = floor_div(integer{946'728'000} * Duration::period::den, integer{Duration::period::num});
    integer const ahead = integer::power(60) - 2 - integer::power(57);
    integer const most = integer::power(24);
    return limit != 0 && window > 0 && integer{limit} <= most && integer{capacity} <= most &&
           (capacity == 0 || capacity >= limit) && needed <= ahead && integer{window} * 2 <= ahead - needed &&
           integer{window} <= integer::power(55);
}

template <class Clock>
class log_run {
    using shared = weir::sliding_window_log<Clock&, weir::std_atomics>;
    using plain = weir::sliding_window_log<Clock&, weir::unsynchronized>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;

public:
    log_run(std::array<step, 2> const& setup, journal& log) : log_{log}, in_order_{setup[0].op % 4 != 0} {
        std::uint64_t const most =
            std::array<std::uint64_t, 4>{3, 12, 70, 1'200}[setup[1].op % 16 == 0 ? 3 : setup[1].op % 3];
        std::uint64_t limit = setup[1].pick % 16 == 0 ? size(setup[1].a) : 1 + setup[1].a % most;
        std::uint64_t capacity = setup[1].pick % 3 == 0    ? 0
                                 : setup[1].pick % 16 == 1 ? size(setup[1].b)
                                                           : limit + setup[1].b % most;
        auto window = static_cast<std::int64_t>(size(setup[1].c) >> 1U);
        bool const counts = log_is_countable<duration>(limit, window, capacity);
        auto const e = shared::validate(limit, duration{window}, {.capacity = capacity});
        ensure_equal(!e, counts, "accepted: ", limit, " in ", window, ", capacity ", capacity);
        ensure(counts || *e.message() != '\0', "refused without a reason");
        if (!counts || std::max(limit, capacity) > 1'300) {
            limit = 1 + setup[1].a % 12;
            capacity = limit + setup[1].b % 12;
            window = 1 + setup[1].c % 1000;
        }
        capacity_ = std::max(limit, capacity);
        clock_.ticks = now_ = origin_ = origin_of(setup[0].b);
        std::uint64_t const start = setup[0].a % 3 == 0 ? up_to(limit, setup[0].a) : weir::all_permits;
        log_.note(limit, " in ", window, " ticks, capacity ", capacity, ", start ", start, ", clock ",
                  Clock::period::num, '/', Clock::period::den, " s, origin ", origin_,
                  in_order_ ? "" : ", times in any order");
        weir::sliding_window_log_options const options{.initial = start, .capacity = capacity};
        shared_.emplace(limit, duration{window}, options, clock_);
        plain_.emplace(limit, duration{window}, options, clock_);
        model_.emplace(limit, window, start);
        // What an earlier run took.
        std::uint64_t const past = setup[0].c % 4 == 0 ? setup[0].c / 4 % 20 : 0;
        random r{setup[0].c};
        for (std::uint64_t i = 0; i < past; ++i) {
            std::int64_t const t = minus(origin_, r.below(2 * static_cast<std::uint64_t>(window)));
            log_.note("restore ", t);
            shared_->restore(at<time_point>(t));
            plain_->restore(at<time_point>(t));
            model_->take(1, model_->effective(t, origin_));
        }
        model_->forget_all_but_the_newest();
        if (past != 0) in_order_ = true;
        observe(now_, 1);
    }

    void take(step const& s) {
        switch (s.op % 10) {
            case 0:
            case 1: advance(s); return observe(now_, 1 + s.b % (model_->limit() + 1));
            case 2:
            case 3: return attempt(1, time_of(s));
            case 4:
            case 5:
                return attempt(s.a >= 0xff00 ? weir::all_permits - (s.a & 0xffU) : up_to(model_->limit() + 1, s.a),
                               time_of(s));
            case 6: return attempt(1 + s.a % 3U, time_of(s));
            case 7: return give_back(s);
            case 8: return s.b % 3 == 0 ? settle(s) : give_back(s);
            default: return change(s);
        }
    }

    void end() const {}

private:
    struct held {
        typename shared::decision s;
        typename plain::decision p;
        std::uint64_t n;
        std::int64_t x;
        bool valid = true;
    };

    void advance(step const& s) {
        std::int64_t const before = now_;
        auto const w = static_cast<std::uint64_t>(model_->window());
        switch (s.pick % 5) {
            case 0: now_ = plus(now_, size(s.a)); break;
            case 1: now_ = plus(now_, s.a % (w + 2)); break;
            case 2: now_ = plus(now_, s.a % (w / model_->limit() + 2)); break;
            default:
                if (auto const x = model_->retry(1 + up_to(model_->limit() - 1, s.a), effective(now_))) {
                    now_ = std::max(before, point_of(*x));
                    if (s.pick % 3 == 0) now_ = std::max(before, minus(now_, 1));
                    if (s.pick % 3 == 1) now_ = plus(now_, 1);
                }
        }
        log_.note("the time is ", now_);
    }
    std::int64_t time_of(step const& s) const {
        if (in_order_) return now_;
        std::uint64_t const range = 5 * static_cast<std::uint64_t>(model_->window());
        return s.pick % 2 == 0 ? minus(now_, up_to(range, s.b)) : plus(now_, up_to(range, s.b));
    }

    std::int64_t effective(std::int64_t t) const { return model_->effective(t, origin_); }
    std::int64_t point_of(std::int64_t x) const { return (integer{origin_} + x).template clamped<std::int64_t>(); }

    /// By both, since a look may help what another began, and they take the same slots only where all is done to both.
    auto look(std::uint64_t n, time_point when) const {
        auto s = shared_->check(n, when);
        auto const p = plain_->check(n, when);
        ensure(s.granted() == p.granted() && s.retry_at() == p.retry_at(), "with plain cells, a look differs");
        return s;
    }

    void attempt(std::uint64_t n, std::int64_t t) {
        std::int64_t const x = effective(t);
        auto const when = at<time_point>(t);
        auto const looked = look(n, when);
        auto s = shared_->try_acquire(n, when);
        auto p = plain_->try_acquire(n, when);
        log_.note("take ", n, " at ", t, s.granted() ? ": granted" : ": denied");
        ensure_equal(looked.granted(), s.granted(), "check of ", n, " at ", t);
        ensure_equal(p.granted(), s.granted(), "with plain cells, grants ", n, " at ", t);
        ensure(p.retry_at() == s.retry_at() && looked.retry_at() == s.retry_at(),
               "retry_at of check, or of plain cells, differs");
        if (in_order_) {
            ensure_equal(s.granted(), model_->grants(n, x), "grants ", n, " at ", t);
            auto const again = model_->retry(n, x);
            ensure_equal(ticks(s.retry_at()),
                         !again        ? max_ticks
                         : s.granted() ? t
                                       : point_of(*again),
                         "retry_at of ", n, " at ", t);
        }
        if (s.granted()) {
            model_->take(n, x);
            ensure(s.retry_at() == when, "a grant's retry_at");
            if (n != 0) held_.add({std::move(s), std::move(p), n, x});
            if (!in_order_) ensure(model_->most_around(x) <= most_, "more than ", most_, " in a window around ", t);
        } else {
            ensure_equal(shared_->refund(s), 0U, "a denial's refund");
            ensure(n > model_->limit() ? s.never() : true, "not never");
            if (s.retry_at() != time_point::max()) {
                ensure(s.retry_at() > when, "retry_at is not later than the attempt");
                ensure_first(s.retry_at(), [&](time_point again) { return look(n, again).granted(); });
            }
        }
        observe(t, n);
    }

    void give_back(step const& s) {
        held* const h = held_.pick(s);
        if (h == nullptr) return;
        auto const got = shared_->refund(h->s);
        log_.note("refund ", h->n, ": ", got);
        ensure_equal(plain_->refund(h->p), got, "with plain cells, refund of ", h->n);
        ensure_equal(shared_->refund(h->s), 0U, "a second refund");
        ensure(got <= h->n, "more given back than was taken");
        if (in_order_) {
            if (!h->valid) {
                ensure_equal(got, 0U, "refund of a receipt that is void");
            } else if (h->x + model_->window() > effective(now_)) {
                ensure_equal(got, h->n, "refund of ", h->n);
                model_->give_back(h->n, h->x);
            }
        } else {
            model_->give_back(got, h->x);
        }
        held_.remove(h);
        observe(now_, 1);
    }

    /// To less, to more, or to what was granted.
    void settle(step const& s) {
        held* const h = held_.pick(s);
        if (h == nullptr) return;
        std::int64_t const x = effective(now_);
        std::uint64_t actual = up_to(h->n + model_->limit() + 2, s.a);
        // In any order, and of stamps that a change of the limit has put aside, the model does not know which remain.
        if (!in_order_ || (is_changed_ && actual > h->n + model_->available(x))) actual = h->n;
        log_.note("settle ", h->n, " to ", actual);
        auto const when = at<time_point>(now_);
        ensure(shared_->settle(h->s, actual, when), "does not settle");
        ensure(plain_->settle(h->p, actual, when), "with plain cells, does not settle");
        ensure(!shared_->settle(h->s, actual, when), "settles twice");
        ensure_equal(shared_->refund(h->s), 0U, "a refund of what was settled");
        if (actual < h->n && h->valid && h->x + model_->window() > x) model_->give_back(h->n - actual, h->x);
        if (actual > h->n) {
            model_->take(std::min(actual - h->n, model_->limit()), x);
            if (model_->live(x) > model_->limit()) {
                model_->forget_all_but_the_newest();
                held_.clear();
                return observe(now_, 1);
            }
        }
        held_.remove(h);
        observe(now_, 1);
    }

    void change(step const& s) {
        std::uint64_t const to = s.a % 8 == 0 ? s.b % (capacity_ + 2) : 1 + s.b % capacity_;
        auto const e = shared_->change({to, shared_->window()});
        log_.note("change the limit to ", to, e ? ": refused" : "");
        ensure_equal(static_cast<bool>(plain_->change({to, plain_->window()})), static_cast<bool>(e),
                     "with plain cells, changes");
        ensure_equal(!e, to != 0 && to <= capacity_, "changes the limit to ", to);
        if (e) return;
        if (to < model_->limit()) {
            // What is granted at one tick cannot be told apart, so a void receipt may stand for a later one of its very
            // tick.
            for (auto& h : held_) h.valid = false;
            std::int64_t const x = effective(now_);
            now_ = plus(now_, 1);
            if (effective(now_) == x) held_.clear();
        }
        is_changed_ = true;
        model_->change(to);
        // In any order, a window may hold what an earlier limit let in.
        most_ = std::max(most_, to);
        observe(now_, 1);
    }

    void observe(std::int64_t t, std::uint64_t n) {
        most_ = std::max(most_, model_->limit());
        auto const when = at<time_point>(t);
        std::int64_t const x = effective(t);
        auto const free = shared_->available(when);
        ensure_equal(plain_->available(when), free, "with plain cells, available at ", t);
        ensure_equal(shared_->limit(), model_->limit(), "limit");
        ensure(look(free, when).granted(), "denies what is available, ", free, ", at ", t);
        ensure(!look(free + 1, when).granted(), "grants more than is available, ", free, ", at ", t);
        if (!in_order_) return;
        ensure_equal(free, model_->available(x), "available at ", t);
        for (std::uint64_t const k : {n, free + 1, model_->limit()}) {
            auto const d = look(k, when);
            ensure_equal(d.granted(), model_->grants(k, x), "check of ", k, " at ", t);
            auto const again = model_->retry(k, x);
            if (!d.granted())
                ensure_equal(ticks(d.retry_at()), again ? point_of(*again) : max_ticks, "retry_at of ", k, " at ", t);
        }
        if (is_changed_ || model_->live(x) > model_->limit()) return;
        std::vector<std::int64_t> listed;
        shared_->for_each_held(when, [&](time_point h) { listed.push_back(ticks(h)); });
        std::sort(listed.begin(), listed.end());
        auto expected = model_->held(x);
        for (auto& h : expected) h = point_of(h);
        ensure(listed == expected, "the stamps held are not those that were taken");
    }

    journal& log_;
    Clock clock_{};
    bool in_order_;
    bool is_changed_ = false;
    std::int64_t origin_ = 0;
    std::int64_t now_ = 0;
    std::uint64_t capacity_ = 0;
    std::uint64_t most_ = 0;
    std::optional<shared> shared_;
    std::optional<plain> plain_;
    std::optional<log_model> model_;
    held_list<held> held_;
};

inline void sliding_window_log_script(schedule const& s, journal& log) { interpret<log_run>(s, log); }

}  // namespace script
