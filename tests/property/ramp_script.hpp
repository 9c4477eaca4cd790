// SPDX-License-Identifier: MIT
//
// ramp against the server of its header, by an exact log of what was granted: whenever one is granted, the last
// interval holds no more than max(first, growth times the mean per interval of what the server remembers), rounded up;
// with what it has learned of the two at most.
#pragma once

#include "run.hpp"

#include <weir/atomics.hpp>
#include <weir/client/ramp.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace script {

template <class Clock>
class ramp_run {
    using shared = weir::ramp<Clock&, weir::std_atomics>;
    using plain = weir::ramp<Clock&, weir::unsynchronized>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using ns = std::chrono::nanoseconds;

public:
    ramp_run(std::array<step, 2> const& setup, journal& log) : log_{log} {
        auto const& a = setup[0];
        auto const& b = setup[1];
        o_.interval = a.op % 4 == 0 ? ns{static_cast<std::int64_t>(size(a.a) >> 1U)}
                                    : ns{std::chrono::milliseconds{64 + a.a % 4096U}};
        o_.memory = a.op / 4 % 16U;
        o_.first = a.b % 20U;
        o_.max_first = o_.first.value() + (a.b / 32U % 2 == 0 ? 0U : a.b / 64U);
        o_.growth = 100U + a.c % 400U;
        o_.max_growth = o_.growth + (a.c / 512U % 2 == 0 ? 0U : a.c / 1024U * 100U);
        o_.jitter = b.op % 2 == 0 ? ns{0} : ns{std::chrono::microseconds{b.a}} * (1 + b.b % 64);
        bool const is_bad = o_.interval <= ns{0} || o_.interval > std::chrono::hours{1} ||
                            std::chrono::floor<duration>(o_.interval).count() < 64 || o_.memory < 3U ||
                            o_.first == 0U || o_.growth < 125U || o_.max_growth > 6'000U;
        ensure_equal(static_cast<bool>(shared::validate(o_)), is_bad, "refused: a ramp");
        if (is_bad) {
            ensure(*shared::validate(o_).message() != '\0', "refused without a reason");
            o_ = {.interval = std::chrono::seconds{30},
                  .memory = std::max<weir::permits>(o_.memory, 3),
                  .first = 1 + o_.first.value() % 5,
                  .max_first = 9,
                  .growth = 150,
                  .max_growth = 400};
        }
        interval_ = std::chrono::ceil<duration>(o_.interval).count();
        jitter_ = std::chrono::ceil<duration>(o_.jitter).count();
        log_.note("interval ", interval_, ", memory ", o_.memory, ", first ", o_.first, " to ", o_.max_first,
                  ", growth ", o_.growth, " to ", o_.max_growth, ", jitter ", jitter_);
        clock_.ticks = b.c % 4 == 0 ? -1'000'000'007 : b.c;
        shared_.emplace(o_, clock_);
        plain_.emplace(o_, clock_);
        learned();
    }

    void take(step const& s) {
        switch (s.op % 8) {
            case 0:
                clock_.ticks += static_cast<std::int64_t>(
                    up_to(static_cast<std::uint64_t>(interval_) * (s.pick % 4 == 0 ? 3 * o_.memory : 1), s.a));
                log_.note("the clock goes to ", clock_.ticks);
                return;
            case 1: clock_.ticks += static_cast<std::int64_t>(s.a % 64U); return;
            case 2:
            case 3: return attempt(s.pick % 4 == 0 ? s.a % 24U : 1, s.pick);
            case 4:
                // As many as it lets through, each as soon as it may.
                for (unsigned i = 0; i < 4U + s.a % 64U; ++i) attempt(1, 1);
                return;
            case 5: return end_call(s, false);
            case 6: return end_call(s, true);
            default: clock_.ticks += interval_ * (s.a % 4U) / 8; return attempt(1, s.pick);
        }
    }

    void end() const {}

private:
    struct entry {
        std::int64_t time;
        std::uint64_t n;
        std::optional<std::int64_t> gone{};  // refunded, or refused by the server
    };
    struct held {
        typename shared::decision s;
        typename plain::decision p;
        std::size_t entry;
        bool live = true;
    };

    /// What it has learned, rounded up: the most that was in force so far.
    void learned() {
        ensure(shared_->first() >= 1 && shared_->first() <= o_.max_first, "first ", shared_->first(),
               " is outside its bounds");
        ensure(shared_->growth() >= 124 && shared_->growth() <= o_.max_growth, "growth ", shared_->growth(),
               " is outside its bounds");
        first_ = std::max(first_, std::min<std::uint64_t>(shared_->first() + 1, o_.max_first));
        growth_ = std::max(growth_, std::min(weir::permits{shared_->growth()} + 1, o_.max_growth.value()));
        ensure(plain_->first() == shared_->first() && plain_->growth() == shared_->growth(),
               "unsynchronized, another thing is learned");
    }

    void attempt(std::uint64_t n, std::uint8_t pick) {
        std::int64_t const t = clock_.ticks;
        auto const now = clock_.now();
        auto const looked = shared_->check(n, now);
        auto s = shared_->try_acquire(n, now);
        auto p = plain_->try_acquire(n, now);
        log_.note("take ", n, " at ", t, s.granted() ? ": granted" : ": denied");
        ensure(looked.granted() == s.granted() && looked.retry_at() == s.retry_at(), "check at ", t,
               " answers otherwise");
        ensure(p.granted() == s.granted() && p.retry_at() == s.retry_at(), "unsynchronized at ", t,
               " answers otherwise");
        ensure(n != 0 || s.granted(), "nothing is denied");
        ensure_equal(s.never(), n > o_.first, "never at ", t);
        learned();
        if (s.granted()) {
            log_of_.push_back({t, n});
            if (n != 0) keep_to_the_rule(t);
            held_.push_back({std::move(s), std::move(p), log_of_.size() - 1, n != 0});
            return;
        }
        if (s.never()) return;
        // The last grant has moved it on by what its permits take at one in an interval and a bit, no more.
        std::int64_t const again = ticks(s.retry_at());
        ensure(again > t, "retry_at is not later than the attempt");
        integer const most = integer{2 * static_cast<std::uint64_t>(o_.first)} *
                             (integer{interval_} + floor_div(integer{interval_}, integer{16}) + jitter_ + 1);
        ensure(integer{again} - t <= most, "retry_at ", again,
               " is further off than all that can be granted at once would take");
        if (n != 1 || pick % 2 == 0) return;
        // One permit waits for a moment that no longer moves, whatever is allowed by then. (The earlier first: time
        // does not go back.)
        ensure(!shared_->check(1, at<time_point>(again - 1)).granted() &&
                   !plain_->check(1, at<time_point>(again - 1)).granted(),
               "granted before its retry_at ", again);
        clock_.ticks = again;
        ensure(shared_->check(1, clock_.now()).granted() && plain_->check(1, clock_.now()).granted(),
               "denied at its own retry_at ", again);
        learned();
    }

    /// What the server would have seen at t, with all that arrive within the jitter.
    void keep_to_the_rule(std::int64_t t) const {
        std::uint64_t lately = 0;
        std::uint64_t remembered = 0;
        std::uint64_t at_once = 0;
        std::uint64_t largest = 0;
        std::int64_t const recent = t - interval_ - jitter_;
        std::int64_t const old = t - interval_ * static_cast<std::int64_t>(o_.memory.value()) - jitter_;
        for (auto e = log_of_.rbegin(); e != log_of_.rend() && e->time >= old; ++e) {
            if (e->time > recent && !e->gone) lately += e->n;
            if (e->time == t && !e->gone) {
                at_once += e->n;
                largest = std::max(largest, e->n);
            }
            // What did not count, after all, counted for what was in force before that was known, an interval and a
            // segment ago at most.
            if (!e->gone || *e->gone > recent - interval_ / 8 - 8) remembered += e->n;
        }
        std::uint64_t const below = std::uint64_t{100} * o_.memory;
        std::uint64_t const most = std::max<std::uint64_t>(first_, (remembered * growth_ + below - 1) / below);
        ensure(lately <= most, "granted ", lately, " in an interval until ", t, ", where the server allows ", most);
        // Apart from what is asked for at once, no more is saved up than a sixteenth of an interval.
        ensure(largest != 1 || at_once <= 2 + most / 16, "granted ", at_once, " one by one at ", t, ", of ", most,
               " in an interval");
    }

    void end_call(step const& s, bool refused) {
        if (held_.empty()) return;
        auto& h = held_[held_.size() - 1 - s.pick % std::min<std::size_t>(held_.size(), 16)];
        auto const before = std::pair{shared_->first(), shared_->growth()};
        bool const done = refused ? shared_->burst(h.s, clock_.now()) : shared_->refund(h.s) != 0;
        bool const done_plain = refused ? plain_->burst(h.p, clock_.now()) : plain_->refund(h.p) != 0;
        log_.note(refused ? "burst" : "refund", " of what was granted at ", log_of_[h.entry].time, " at ",
                  clock_.ticks);
        ensure_equal(done, h.live, "ends once");
        ensure_equal(done_plain, h.live, "unsynchronized, ends once");
        if (h.live) log_of_[h.entry].gone = clock_.ticks;
        h.live = false;
        auto const after = std::pair{shared_->first(), shared_->growth()};
        ensure(after.first <= before.first && after.second <= before.second && (refused || after == before),
               "what was in force has grown by a refusal");
        ensure(after.first == before.first || after.second == before.second, "both were lowered by one refusal");
        learned();
    }

    journal& log_;
    weir::ramp_options o_{};
    Clock clock_{};
    std::int64_t interval_ = 1, jitter_ = 0;
    std::uint64_t first_ = 0;
    weir::permits growth_ = 0;
    std::optional<shared> shared_;
    std::optional<plain> plain_;
    std::vector<entry> log_of_;
    std::vector<held> held_;
};

inline void ramp_script(schedule const& s, journal& log) { interpret<ramp_run>(s, log); }

}  // namespace script
