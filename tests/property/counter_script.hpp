// SPDX-License-Identifier: MIT
//
// Everything that can be done to a sliding_window_counter and to its protocol, on std::atomic and on plain cells at
// once, against counter_model.
#pragma once

#include "counter_model.hpp"
#include "run.hpp"

#include <weir/atomics.hpp>
#include <weir/sliding_window_counter.hpp>

namespace script {

/// What sliding_window_counter forwards to, and the verbs of its protocol by time points.
template <class Clock, class Atomics>
class open_counter : public weir::detail::window_core<Clock&, Atomics> {
    using base = weir::detail::window_core<Clock&, Atomics>;

public:
    using typename base::time_point;
    using receipt = weir::detail::window_receipt;

    open_counter(std::uint64_t limit, typename base::duration window, weir::counter_options o, Clock& clock)
        : base{weir::detail::clock_box<Clock&>{clock},
               base::layout(limit, window, o.segments, typename base::duration{1}),
               limit,
               o.initial,
               window,
               clock.now()} {}

    bool take_alone(std::uint64_t n, time_point t, receipt& r) noexcept {
        auto const a = this->template try_acquire<true>(n, ticks(t));
        r = receipt{a.head, a.taken};
        return a.granted;
    }
};

template <class Clock>
class counter_run {
    using shared = open_counter<Clock, weir::std_atomics>;
    using plain = open_counter<Clock, weir::unsynchronized>;
    using whole = weir::sliding_window_counter<Clock&>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;

public:
    counter_run(std::array<step, 2> const& setup, journal& log) : log_{log} {
        auto const& s = setup[1];
        std::uint64_t limit = s.pick % 4 == 0 ? size(s.a) : 1 + size(s.a) % 200;
        auto window = static_cast<std::int64_t>(size(s.b) >> 1U);
        auto asked = static_cast<std::uint32_t>(s.op % 32 == 0  ? size(s.c) % 70'000
                                                : s.op % 4 == 0 ? 125
                                                                : 1 + s.c % 12);
        auto cut = counter_cut::of<duration>(limit, window, asked);
        auto const e = whole::validate(limit, duration{window}, {.segments = asked});
        ensure_equal(!e, cut.has_value(), "accepted: ", limit, " in ", window, ", segments ", asked);
        ensure(cut.has_value() || *e.message() != '\0', "refused without a reason");
        if (!cut || cut->ring > 2'048) {
            limit = 1 + s.a % 60;
            asked = 1 + s.c % 12;
            window = static_cast<std::int64_t>(asked) * (1 << 20) + s.b % 100;
            cut = counter_cut::of<duration>(limit, window, asked);
        }
        clock_.ticks = now_ = origin_ = origin_of(setup[0].b);
        std::uint64_t const start = setup[0].a % 3 == 0 ? up_to(limit, setup[0].a) : ~std::uint64_t{0};
        log_.note(limit, " in ", window, " ticks, ", cut->segments, " segments, start ", start, ", clock ",
                  Clock::period::num, '/', Clock::period::den, " s, origin ", origin_);
        weir::counter_options const options{.segments = asked,
                                            .initial = start == ~std::uint64_t{0} ? weir::all_permits : start};
        shared_.emplace(limit, duration{window}, options, clock_);
        plain_.emplace(limit, duration{window}, options, clock_);
        model_.emplace(limit, *cut, origin_, start);
        ensure_equal(shared_->segments(), cut->segments, "segments");
        ensure_equal(shared_->scale().length(), static_cast<std::uint64_t>(cut->length), "the length of a segment");
        ensure_equal(shared_->max_limit(), cut->max_limit(), "the greatest limit");
        observe(now_, 1);
    }

    void take(step const& s) {
        switch (s.op % 14) {
            case 0:
            case 1:
            case 2: advance(s); return observe(now_, amount(s.b));
            case 3:
            case 4:
            case 5:
            case 6: return attempt(amount(s.a), time_of(s));
            case 7: return attempt_alone(amount(s.a), time_of(s));
            case 8:
                if (s.pick % 4 != 0) return attempt(amount(s.a), time_of(s));
                return charge(s.a % 4 == 0 ? size(s.b) : amount(s.b), now_);
            case 9:
            case 10:
            case 11: return give_back(s);
            case 12: return change(s);
            default: return look_ahead(s);
        }
    }

    void end() const {}

private:
    struct held {
        typename shared::decision s;  // of an attempt
        typename plain::decision p;
        weir::detail::window_receipt of_s;  // of what is charged otherwise
        weir::detail::window_receipt of_p;
        counter_model::receipt r;
    };

    std::uint64_t amount(std::uint16_t code) const {
        if (code >= 0xfe00) return ~std::uint64_t{0} - (code & 0xffU);
        return code % 2 == 0 ? code / 2 % (model_->limit() / 4 + 2) : up_to(model_->limit() + 1, code);
    }
    void advance(step const& s) {
        std::int64_t const before = now_;
        auto const length = static_cast<std::uint64_t>(model_->cut().length);
        switch (s.pick % 7) {
            case 0: now_ = plus(now_, size(s.a)); break;
            case 1: now_ = plus(now_, s.a % (static_cast<std::uint64_t>(model_->cut().window) + 2)); break;
            case 2: now_ = plus(now_, up_to(2 * length, s.a)); break;
            case 3:
            case 4:  // the last tick of a segment, or the first
                now_ = std::max(before,
                                minus(model_->start_of(model_->segment_of(now_) + 1 + s.a % 3U), s.pick / 8U % 2U));
                break;
            default:
                if (auto const t = model_->retry(1 + up_to(model_->limit() - 1, s.a), now_)) now_ = *t;
                if (s.pick % 3 == 0) now_ = std::max(before, minus(now_, 1));
        }
        log_.note("the time is ", now_);
    }
    /// Some read the clock long ago, and a few have one that is ahead.
    std::int64_t time_of(step const& s) const {
        if (s.pick % 8 == 1) return minus(now_, size(s.c));
        if (s.pick % 32 == 2) return plus(now_, s.c);
        return now_;
    }

    void attempt(std::uint64_t n, std::int64_t t) {
        auto const when = at<time_point>(t);
        bool const looks = n % 2 == 0;
        if (looks) {
            auto const looked = shared_->look(n, when);
            (void)plain_->look(n, when);
            ensure_equal(looked.granted(), model_->grants(n, t), "check of ", n, " at ", t);
        }
        auto s = shared_->take(n, when);
        auto p = plain_->take(n, when);
        bool const grants = model_->grants(n, t);
        auto const retry = model_->retry(n, t);
        log_.note("take ", n, " at ", t, grants ? ": granted" : ": denied");
        judge(s, p, n, t, grants, retry);
        if (grants) {
            ensure_equal(s.live(), n, "the receipt of ", n);
            held_.add({std::move(s), std::move(p), {}, {}, model_->take(n, t)});
        } else {
            ensure_equal(s.never(), n > model_->limit(), "never");
            model_->justify_denial(n, t);
            ensure_first(s.retry_at(), [&](time_point x) { return shared_->used(ticks(x)) + n <= model_->limit(); });
        }
        observe(t, n);
    }

    void attempt_alone(std::uint64_t n, std::int64_t t) {
        n = std::min(n, weir::all_permits);  // above it is what a negative number becomes
        auto const when = at<time_point>(t);
        weir::detail::window_receipt of_s;
        weir::detail::window_receipt of_p;
        bool const s = shared_->take_alone(n, when, of_s);
        bool const p = plain_->take_alone(n, when, of_p);
        std::uint64_t const takes = std::min(n, std::max(model_->limit(), model_->cut().max_limit()));
        bool const grants = model_->grants_alone(n, t);
        log_.note("take ", n, " alone at ", t, grants ? ": granted" : ": denied");
        ensure_equal(s, grants, "grants ", n, " alone at ", t);
        ensure_equal(p, grants, "with plain cells, grants ", n, " alone at ", t);
        if (grants) {
            ensure_equal(of_s.live(), takes, "the receipt of ", n, " alone");
            held_.add({{}, {}, std::move(of_s), std::move(of_p), model_->take(takes, t)});
        }
        observe(t, 1);
    }

    template <class S, class P>
    void judge(S const& s, P const& p, std::uint64_t n, std::int64_t t, bool grants,
               std::optional<std::int64_t> retry) const {
        ensure_equal(s.granted(), grants, "grants ", n, " at ", t);
        ensure_equal(p.granted(), grants, "with plain cells, grants ", n, " at ", t);
        ensure_equal(ticks(s.retry_at()), grants ? t : retry.value_or(max_ticks), "retry_at of ", n, " at ", t);
        ensure(s.retry_at() == p.retry_at(), "with plain cells, retry_at");
    }

    void charge(std::uint64_t n, std::int64_t t) {
        auto of_s = shared_->force_acquire(n, t);
        auto of_p = plain_->force_acquire(n, t);
        model_->move_to(t);
        auto const r = model_->overrun(n, t);
        log_.note("charge ", n, " at ", t);
        ensure_equal(shared_->used(t), model_->used_open(), "used after an overrun");
        ensure_equal(of_s.live(), r.live, "the receipt of an overrun");
        ensure_equal(of_p.live(), r.live, "with plain cells, the receipt of an overrun");
        held_.add({{}, {}, std::move(of_s), std::move(of_p), r});
        observe(t, 1);
    }

    void give_back(step const& s) {
        held* const h = held_.pick(s);
        if (h == nullptr) return;
        std::uint64_t const live = h->r.live;
        std::uint64_t const k = s.a % 3 == 0 ? live : s.a % (live + 2);
        std::uint64_t const expected = model_->refund(h->r, k);
        log_.note("refund ", k, " of ", live, ": ", expected);
        bool const attempted = h->s.granted();
        ensure_equal(attempted ? shared_->give_back(h->s, k) : shared_->refund(h->of_s, k), expected, "refund of ", k,
                     " of ", live);
        ensure_equal(attempted ? plain_->give_back(h->p, k) : plain_->refund(h->of_p, k), expected,
                     "with plain cells, refund of ", k);
        ensure_equal(attempted ? h->s.live() : h->of_s.live(), h->r.live, "live after a refund");
        observe(now_, 1);
    }

    void change(step const& s) {
        std::uint64_t const to = s.pick % 8 == 0 ? size(s.a) : 1 + s.a % (2 * model_->limit() + 8);
        int const kind = model_->change(to, now_);
        auto const e = shared_->change_limit(to, now_);
        log_.note("change the limit to ", to, kind == 0 ? "" : kind == 1 ? ": refused" : ": busy");
        ensure_equal(!e, kind == 0, "changes the limit to ", to);
        ensure_equal(e.code() == weir::errc::busy, kind == 2, "busy");
        ensure_equal(!plain_->change_limit(to, now_), kind == 0, "with plain cells, changes the limit");
        observe(now_, 1);
    }

    void look_ahead(step const& s) const {
        std::int64_t const t =
            plus(now_, s.pick % 2 == 0 ? size(s.a) : s.a * static_cast<std::uint64_t>(model_->cut().length) / 64);
        log_.note("look at ", t);
        std::uint64_t const budget = s.b % (model_->limit() + 2);
        auto const fit = shared_->first_fit(budget, t);
        ensure_equal(fit, model_->first_fit(budget, t).value_or(max_ticks), "first_fit of ", budget, " from ", t);
        observe(t, 1);
    }

    void observe(std::int64_t t, std::uint64_t) const {
        std::uint64_t const used = model_->used(t);
        ensure_equal(shared_->used(t), used, "used at ", t);
        ensure_equal(plain_->used(t), used, "with plain cells, used at ", t);
        ensure_equal(shared_->available(t), model_->available(t), "available at ", t);
        ensure_equal(plain_->available(t), model_->available(t), "with plain cells, available at ", t);
        ensure_equal(shared_->limit(), model_->limit(), "limit");
    }

    journal& log_;
    Clock clock_{};
    std::int64_t origin_ = 0;
    std::int64_t now_ = 0;
    std::optional<shared> shared_;
    std::optional<plain> plain_;
    std::optional<counter_model> model_;
    held_list<held, 64> held_;
};

inline void sliding_window_counter_script(schedule const& s, journal& log) { interpret<counter_run>(s, log); }

}  // namespace script
