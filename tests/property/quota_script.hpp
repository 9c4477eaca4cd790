// SPDX-License-Identifier: MIT
//
// Everything that can be done to a quota_limiter, on std::atomic and on plain cells at once, between two exact logs: it
// grants only what a log of the window would, and denies only what a log of a segment more would.
#pragma once

#include "counter_model.hpp"
#include "run.hpp"

#include <weir/atomics.hpp>
#include <weir/llm/quota_limiter.hpp>

#include <memory>

namespace script {

template <class Clock>
class quota_run {
    using shared = weir::llm::quota_limiter<Clock&, weir::std_atomics>;
    using plain = weir::llm::quota_limiter<Clock&, weir::unsynchronized>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using ns = std::chrono::nanoseconds;

public:
    quota_run(std::array<step, 2> const& setup, journal& log) : log_{log} {
        auto const& a = setup[0];
        auto const& b = setup[1];
        if (a.op % 2 == 0) limits_.rpm = a.pick % 8 == 7 ? 0 : 1 + a.a % 12U;
        if (a.op / 2 % 2 == 0) limits_.rps = 1 + a.b % 4U;
        if (a.op / 4 % 3 != 0) limits_.tpm = b.op % 16 == 0 ? size(a.c) : 20 + a.c % 200U;
        if (a.op / 16 % 3 == 0) limits_.tps = 20 + a.c / 256 % 100U;
        options_.jitter = ns{b.a % 2 == 0 ? 0 : static_cast<std::int64_t>(b.a) * 30'000};
        options_.server_timeout = ns{static_cast<std::int64_t>(b.b) * 1'500'000};
        options_.accounting = static_cast<weir::llm::accounting>(b.pick % 4);
        options_.oversize = b.pick / 4 % 2 == 0 ? weir::llm::oversize::refuse : weir::llm::oversize::alone;
        options_.start = static_cast<weir::llm::quota_start>(b.c % 4 == 3 ? b.c / 4 % 3U : 0U);
        auto const e = shared::validate(limits_, options_);
        ensure_equal(!e, is_countable(), "accepted: a quota");
        if (e) {
            ensure(*e.message() != '\0', "refused without a reason");
            limits_ = {.rpm = 5, .tpm = 100};
        }
        log_.note("rpm ", limits_.rpm.value_or(0), ", rps ", limits_.rps.value_or(0), ", tpm ", limits_.tpm.value_or(0),
                  ", tps ", limits_.tps.value_or(0), ", J ", options_.jitter.count(), ", T ",
                  options_.server_timeout.count(), ", accounting ", static_cast<int>(options_.accounting),
                  options_.oversize == weir::llm::oversize::alone ? ", alone" : "", ", start ",
                  static_cast<int>(options_.start), ", clock ", Clock::period::num, '/', Clock::period::den, " s");
        first_.q = limits_;
        clock_.ticks = origin_ = b.c % 8 == 1 ? -1'000'000'007 : b.c;
        shared_.reset(new shared{limits_, options_, clock_});
        plain_.reset(new plain{limits_, options_, clock_});
        if (options_.start != weir::llm::quota_start::empty) {
            // Taken just before the start, and, where calls may be in flight, held from it on.
            call all{origin_ - 1, true, {}, {}};
            all.requests = true;
            all.taken = true;
            for (int i = 0; i < 2; ++i) all.part[i].count = limit_of(i).value_or(0);
            calls_.push_back(all);
            if (options_.start == weir::llm::quota_start::full_in_flight &&
                options_.accounting != weir::llm::accounting::reserve) {
                call in_flight{origin_, true, {}, {}};
                in_flight.hold = std::max(limits_.tpm.value_or(0), limits_.tps.value_or(0));
                calls_.push_back(in_flight);
            }
        }
    }

    void take(step const& s) {
        switch (s.op % 9) {
            case 0:
            case 1: return let_time_pass(clock_, s, log_);
            case 2:
            case 3:
            case 4:
            case 5: attempt(tokens_of(s), s.pick); return;
            case 6: return end_call(s, true);
            case 7: return end_call(s, false);
            default:
                if (s.pick % 4 == 0) return change(s);
                attempt(tokens_of(s), s.pick);
        }
    }

    void end() const {}

private:
    struct charge {
        std::uint64_t count = 0;                 // as charged
        std::uint64_t at_stamp = 0, at_end = 0;  // as settled
    };
    struct call {
        std::int64_t stamp;
        bool counts_tokens;
        charge part[2];  // per minute, per second
        std::optional<std::int64_t> ended;
        bool requests = false, refunded = false, taken = false;
        std::uint64_t hold = 0;  // in addition to either limit
    };
    struct held {
        typename shared::decision s;
        typename plain::decision p;
        std::size_t call;
        weir::llm::tokens n;
    };

    static std::int64_t up(ns d) { return std::chrono::ceil<duration>(d).count(); }
    std::int64_t window(int i) const { return up(ns{i == 0 ? 60'000'000'000 : 1'000'000'000} + options_.jitter); }
    std::optional<std::uint64_t> limit_of(int i) const { return i == 0 ? limits_.tpm : limits_.tps; }
    std::optional<std::uint64_t> requests_of(int i) const { return i == 0 ? limits_.rpm : limits_.rps; }

    /// How finely a limit's window can be cut.
    static std::optional<counter_cut> cut_of(std::uint64_t limit, std::int64_t w, std::uint32_t most = 1000) {
        for (std::uint32_t const n : {1000U, 500U, 250U, 125U, 60U, 20U}) {
            if (n > most) continue;
            if (auto const c = counter_cut::of<duration>(limit, w, n)) return c;
        }
        return std::nullopt;
    }
    bool holds(weir::llm::quota const& q) const {
        return (q.tpm || q.tps) && options_.accounting != weir::llm::accounting::reserve;
    }
    /// One window of holds for both token limits, as long as the longer needs.
    std::int64_t hold_window(weir::llm::quota const& q) const {
        return window(q.tpm ? 0 : 1) + up(options_.server_timeout);
    }
    std::optional<counter_cut> cut_of_holds(weir::llm::quota const& q) const {
        return cut_of(std::max(q.tpm.value_or(1), q.tps.value_or(1)), hold_window(q), 250);
    }
    bool is_countable() const {
        if ((limits_.rps || limits_.tps) && window(1) / 10 < 1) return false;
        for (int i = 0; i < 2; ++i) {
            auto const w = window(i);
            if (auto const l = requests_of(i); l && (*l == 0 || !cut_of(*l, w))) return false;
            if (auto const l = limit_of(i)) {
                if (*l == 0 || !cut_of(*l, w)) return false;
            }
        }
        return !holds(limits_) || cut_of_holds(limits_).has_value();
    }

    /// How long a charge counts: exactly, or as long as the limiter may take it for live.
    std::int64_t lasts(int i, std::uint64_t limit, bool late) const {
        if (!late) return window(i);
        auto const c = *cut_of(limit, window(i));
        return c.length * static_cast<std::int64_t>(c.segments + 1);
    }
    std::int64_t segment(int i, std::uint64_t limit) const { return cut_of(limit, window(i))->length; }

    std::uint64_t requests(int i, std::int64_t t, bool late) const {
        std::uint64_t const limit = first_.requests(i);
        std::uint64_t n = 0;
        for (auto const& c : calls_) {
            bool const gone = c.refunded && t >= *c.ended + (late ? segment(i, limit) : 0);
            if (c.requests && !gone && t < c.stamp + lasts(i, limit, late)) n += c.taken ? limit : 1;
        }
        return n;
    }
    std::uint64_t tokens(int i, std::int64_t t, bool late) const {
        std::uint64_t const limit = first_.tokens(i);
        std::int64_t holding = 0;
        if (holds(first_.q)) {
            auto const cut = *cut_of_holds(first_.q);
            holding = late ? cut.length * static_cast<std::int64_t>(cut.segments + 1) : hold_window(first_.q);
        }
        std::int64_t const end = lasts(i, limit, late);
        std::uint64_t n = 0;
        for (auto const& c : calls_) {
            if (!c.counts_tokens) continue;
            auto const& p = c.part[i];
            bool const corrected = c.ended && t >= *c.ended + (late ? segment(i, limit) : 0);
            if (t < c.stamp + end) n += corrected ? p.at_stamp : std::max(p.count, c.ended ? p.at_stamp : 0);
            if (!c.ended && t < c.stamp + holding) n += c.hold;
            if (c.ended && t < *c.ended + end) n += p.at_end;
        }
        return n;
    }

    weir::llm::tokens tokens_of(step const& s) const {
        weir::llm::tokens n{.input = s.a % 60U, .output = s.b % 60U};
        if (s.c % 8 == 0) n.input = 0;
        if (s.c / 8 % 8 == 0) n.output = 0;
        if (s.c / 64 % 32 == 0) n.output = n.output + 200;
        if (s.c / 64 % 32 == 1) n.input = n.input + 200;
        return n;
    }

    /// What of a call counts at once and what is held, by the table in the header, and what must fit.
    struct plan {
        charge c;
        std::uint64_t need = 0;
        bool never = false;
    };
    plan plan_of(weir::llm::tokens n, std::uint64_t hold, std::uint64_t limit) const {
        bool const reserve = options_.accounting == weir::llm::accounting::reserve;
        bool const strict = reserve || options_.accounting == weir::llm::accounting::any;
        std::uint64_t const total = n.input + n.output;
        if (total == 0) return {};
        if ((strict ? total : n.input.value()) > limit)
            return {{strict ? total : n.input.value(), 0, 0}, limit, options_.oversize == weir::llm::oversize::refuse};
        if (hold == 0) return {{total, 0, 0}, total};
        std::uint64_t const count = n.input == 0 ? 1 : n.input.value();
        return {{count, 0, 0}, strict ? count + hold : count};
    }
    std::uint64_t hold_of(weir::llm::tokens n) const {
        if (!holds(limits_) || n.output == 0) return 0;
        return n.input == 0 ? n.output - 1 : n.output.value();
    }

    /// Whether it was granted.
    bool attempt(weir::llm::tokens n, std::uint8_t pick) {
        std::int64_t const t = clock_.ticks;
        auto const now = clock_.now();
        auto const before = shared_->available(now);
        // A look may move the windows on, so half of the attempts are made without one.
        bool const looks = pick / 4 % 2 == 0;
        std::optional<typename shared::decision> looked;
        if (looks) {
            looked.emplace(shared_->check(n, now));
            (void)plain_->check(n, now);
        }
        auto s = shared_->try_acquire(n, now);
        auto p = plain_->try_acquire(n, now);
        log_.note("take ", n.input, " + ", n.output, " at ", t, s.granted() ? ": granted" : ": denied");
        if (looks) ensure_equal(looked->granted(), s.granted(), "check at ", t);
        ensure_equal(p.granted(), s.granted(), "with plain cells, grants at ", t);

        call c{t, n.input + n.output != 0, {}, {}};
        c.requests = true;
        c.hold = hold_of(n);
        bool room = true;
        bool room_late = true;
        bool never = false;
        for (int i = 0; i < 2; ++i) {
            if (auto const l = requests_of(i)) {
                room = room && requests(i, t, false) < *l;
                room_late = room_late && requests(i, t, true) < *l;
            }
            auto const l = limit_of(i);
            if (!l || !c.counts_tokens) continue;
            plan const m = plan_of(n, c.hold, *l);
            c.part[i] = m.c;
            never = never || m.never;
            room = room && !m.never && tokens(i, t, false) + m.need <= *l;
            room_late = room_late && !m.never && tokens(i, t, true) + m.need <= *l;
        }
        ensure_equal(s.never(), never, "never");
        ensure(!s.granted() || room, "granted what an exact log would not");
        ensure(s.granted() || !room_late, "denied what a log of a segment more would grant");
        if (s.granted()) {
            ensure(s.retry_at() == now && s.denied_by() == weir::llm::limit::none, "a grant's retry_at or denied_by");
            calls_.push_back(c);
            held_.add({std::move(s), std::move(p), calls_.size() - 1, n});
            return true;
        }
        auto const after = shared_->available(now);
        ensure(before.rpm == after.rpm && before.rps == after.rps && before.tpm == after.tpm && before.tps == after.tps,
               "a denial changed what is available");
        ensure(s.denied_by() != weir::llm::limit::none && shared_->refund(s) == weir::llm::tokens{} &&
                   !shared_->settle(s, n),
               "a denial has something to give");
        auto const again = s.retry_at();
        ensure((!looks || looked->retry_at() == again) && p.retry_at() == again,
               "retry_at of check, or of plain cells, differs");
        ensure_equal(again == time_point::max(), never, "retry_at is never");
        if (never || pick % 2 == 0) return false;
        ensure(again > now, "retry_at is not later than the attempt");
        auto const earlier = at<time_point>(ticks(again) - 1);
        ensure(!shared_->check(n, earlier).granted(), "granted before its retry_at ", ticks(again), " by ",
               to_string(s.denied_by()));
        (void)plain_->check(n, earlier);
        clock_.ticks = ticks(again);
        if (pick % 4 == 1) {
            ensure(attempt(n, 4), "denied at its own retry_at ", ticks(again), " by ", to_string(s.denied_by()));
        } else {
            ensure(shared_->check(n, again).granted(), "denied at its own retry_at ", ticks(again), " by ",
                   to_string(s.denied_by()));
            (void)plain_->check(n, again);
        }
        return false;
    }

    void end_call(step const& s, bool settles) {
        held* const picked = held_.pick(s);
        if (picked == nullptr) return;
        auto& h = *picked;
        auto& c = calls_[h.call];
        auto const now = clock_.now();
        if (settles) {
            weir::llm::tokens used{.input = s.a % (h.n.input + 1), .output = s.b % (h.n.output + 1)};
            if (s.c % 4 == 0) used.output = used.output + s.c / 4 % 300U;
            if (s.c % 4 == 1) used.input = used.input + s.c / 4 % 300U;
            log_.note("settle ", h.n.input, " + ", h.n.output, " at ", used.input, " + ", used.output);
            ensure(shared_->settle(h.s, used, now) && plain_->settle(h.p, used, now), "does not settle");
            bool const reserve = options_.accounting == weir::llm::accounting::reserve;
            c.counts_tokens = c.counts_tokens || used.input + used.output != 0;
            for (auto& p : c.part) {
                std::uint64_t const first = reserve ? used.total() : used.input.value();
                p.at_stamp = std::min(first, p.count);
                p.at_end = first - p.at_stamp + (reserve ? 0 : used.output.value());
            }
        } else {
            log_.note("refund ", h.n.input, " + ", h.n.output);
            ensure(shared_->refund(h.s) == h.n && plain_->refund(h.p) == h.n, "does not refund");
            c.refunded = true;
        }
        c.ended = clock_.ticks;
        ensure(shared_->refund(h.s) == weir::llm::tokens{} && !shared_->settle(h.s, h.n, now), "ends twice");
        held_.remove(picked);
    }

    void change(step const& s) {
        weir::llm::quota q = limits_;
        if (q.rpm) q.rpm = s.a % 16U;
        if (q.rps) q.rps = 1 + s.b % 5U;
        if (q.tpm) q.tpm = 10 + s.c % 300U;
        if (q.tps) q.tps = 10 + s.c / 256 % 120U;
        if (s.pick % 16 == 0) q.tps = q.tps ? std::nullopt : std::optional<std::uint64_t>{5};
        bool const same_kind =
            q.rpm.has_value() == limits_.rpm.has_value() && q.tps.has_value() == limits_.tps.has_value();
        auto const before = shared_->limits();
        auto const e = shared_->change(q, clock_.now());
        auto const f = plain_->change(q, clock_.now());
        ensure_equal(static_cast<bool>(e), static_cast<bool>(f), "with plain cells, changes");
        log_.note("change rpm to ", q.rpm.value_or(0), ", rps ", q.rps.value_or(0), ", tpm ", q.tpm.value_or(0),
                  ", tps ", q.tps.value_or(0), e ? ": refused" : "");
        if (!same_kind || q.rpm == 0U) {
            ensure(static_cast<bool>(e) && before == shared_->limits(),
                   "a change that makes no sense changes something");
        }
        // What was changed before a window was busy stays changed.
        limits_ = shared_->limits();
        if (!e) ensure(limits_ == q, "the limits are not those that were put in force");
        ensure(plain_->limits() == limits_, "with plain cells, the limits differ");
    }

    /// The limits that it was made with: they say how finely each window is cut.
    struct {
        weir::llm::quota q;
        std::uint64_t requests(int i) const { return *(i == 0 ? q.rpm : q.rps); }
        std::uint64_t tokens(int i) const { return *(i == 0 ? q.tpm : q.tps); }
    } first_;

    journal& log_;
    Clock clock_{};
    std::int64_t origin_ = 0;
    weir::llm::quota limits_;
    weir::llm::quota_options options_;
    std::unique_ptr<shared> shared_;
    std::unique_ptr<plain> plain_;
    std::vector<call> calls_;
    held_list<held> held_;
};

inline void quota_limiter_script(schedule const& s, journal& log) { interpret<quota_run>(s, log); }

}  // namespace script
