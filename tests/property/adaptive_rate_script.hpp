// SPDX-License-Identifier: MIT
//
// adaptive_rate against its header's text in exact integers: what a refusal lowers it to, the curve from there, and its
// bounds.
#pragma once

#include "run.hpp"

#include <weir/client/adaptive_rate.hpp>
#include <weir/error.hpp>
#include <weir/limiter.hpp>
#include <weir/llm/quota.hpp>
#include <weir/rate.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace script {

template <class Clock>
class adaptive_run {
    using rate_type = weir::adaptive_rate<Clock&>;
    using duration = typename Clock::duration;
    using time_point = typename Clock::time_point;
    using ns = std::chrono::nanoseconds;

public:
    adaptive_run(std::array<step, 2> const& setup, journal& log) : log_{log} {
        auto const& a = setup[0];
        auto const& b = setup[1];
        auto const number = [&](std::uint16_t code) { return a.op % 4 == 0 ? size(code) : std::uint64_t{code}; };
        o_.start = number(a.a);
        o_.least = number(a.b);
        o_.most = a.op / 4 % 2 == 0 ? number(a.c) : 0;
        o_.window = b.op % 4 == 0 ? ns{static_cast<std::int64_t>(size(b.a))} : ns{std::chrono::milliseconds{32 + b.a}};
        o_.recovery =
            b.op / 4 % 4 == 0 ? ns{static_cast<std::int64_t>(size(b.b))} : ns{std::chrono::milliseconds{1 + b.b}};
        std::uint64_t const top = o_.most == 0 ? o_.start : o_.most;
        bool const is_bad = o_.start == 0 || o_.least == 0 || o_.least > o_.start || o_.start > top ||
                            top >= std::uint64_t{1} << 40U || o_.window <= ns{0} || o_.window > std::chrono::hours{1} ||
                            std::chrono::floor<duration>(o_.window).count() < 32 || o_.recovery <= ns{0} ||
                            o_.recovery > std::chrono::hours{24} ||
                            std::chrono::floor<duration>(o_.recovery).count() < 1;
        ensure_equal(static_cast<bool>(rate_type::validate(o_)), is_bad, "refused: an adaptive rate");
        if (is_bad) {
            ensure(*rate_type::validate(o_).message() != '\0', "refused without a reason");
            std::uint64_t const start = 1 + o_.start % 100'000;
            o_ = {.start = start,
                  .least = 1 + o_.least % start,
                  .most = start + o_.most % 100'000,
                  .window = std::chrono::minutes{1},
                  .recovery = std::chrono::seconds{45}};
        }
        most_ = o_.most == 0 ? o_.start : o_.most;
        segment_ = std::chrono::ceil<duration>(o_.window).count() / 32;
        recovery_ = std::chrono::ceil<duration>(o_.recovery).count();
        log_.note("start ", o_.start, ", least ", o_.least, ", most ", o_.most, ", window ", o_.window.count(),
                  ", recovery ", o_.recovery.count());
        clock_.ticks = origin_ = since_ = b.c % 4 == 0 ? -1'000'000'007 : b.c;
        from_ = peak_ = o_.start;
        real_.emplace(o_, clock_);
        observe();
    }

    void take(step const& s) {
        if (s.pick == 255) return scale(s);
        std::int64_t const sent = minus(clock_.ticks, s.pick % 4 == 0 ? size(s.b) >> 8U : s.b % 64U);
        switch (s.op % 8) {
            case 0:
                clock_.ticks += static_cast<std::int64_t>(up_to(static_cast<std::uint64_t>(3 * segment_ * 32), s.a));
                break;
            case 1:
                clock_.ticks += static_cast<std::int64_t>(
                    up_to(static_cast<std::uint64_t>(recovery_) * (s.pick % 16 == 1 ? 12 : 2), s.a));
                break;
            case 2: clock_.ticks += segment_ * (s.a % 4U) + s.a / 4 % 4U; break;
            case 3:
                // A window's worth, a bit at a time.
                for (int i = 0; i < 32; ++i) {
                    clock_.ticks += segment_;
                    served(std::max<std::uint64_t>(real_->current() * (1 + s.a % 64U) / 1024, 1), clock_.ticks);
                }
                break;
            case 4: served(s.pick % 8 == 0 ? size(s.a) >> 20U : up_to(2 * most_, s.a), sent); break;
            case 5:
            case 6: refused(sent); break;
            default: apply(s);
        }
        observe();
    }

    void end() const {}

private:
    /// A quota at so many 1,048,576ths.
    static void scale(step const& s) {
        weir::llm::quota q;
        if (s.op % 2 == 0) q.rpm = size(s.a);
        if (s.op / 2 % 2 == 0) q.tps = size(s.b);
        std::uint64_t const requests = size(s.c);
        std::uint64_t const tokens = std::uint64_t{s.c} << 5U;
        auto const part = [](std::optional<std::uint64_t> n, std::uint64_t share) -> std::optional<std::uint64_t> {
            if (!n) return n;
            return std::max(floor_div(integer{*n} * share, integer::power(20)), integer{1}).u64();
        };
        ensure(weir::llm::scaled(q, requests, tokens) ==
                   weir::llm::quota{.rpm = part(q.rpm, requests), .tps = part(q.tps, tokens)},
               "another part of a quota");
    }

    std::int64_t segment_of(std::int64_t t) const { return (t - origin_) / segment_; }

    /// Of the segment of now and the 31 before it.
    integer served_in_window() const {
        integer sum = 0;
        std::int64_t const now = segment_of(clock_.ticks);
        for (auto const& [segment, n] : served_) {
            if (segment > now - 32) sum += n;
        }
        return std::min(sum, integer{~std::uint64_t{0}});
    }

    /// peak + (peak − from)·((t − recovery)/recovery)³, time in 1024ths of a recovery, rounded against the rate.
    integer curve() const {
        integer const depth = std::min(std::max(peak_ - from_, floor_div(peak_, integer{16})), peak_);
        integer const age =
            std::min(floor_div(integer{clock_.ticks - since_} * 1024, integer{recovery_}), integer{9 * 1024});
        integer const x = age - 1024;
        integer const cube = x * x * x;
        integer const to = cube.is_negative() ? peak_ - floor_div(depth * -cube, integer::power(30))
                                              : peak_ + floor_div(depth * cube, integer::power(30));
        integer const tried = std::max(peak_, served_in_window() * 2);
        return std::min(std::max(std::max(std::min(to, tried), from_), integer{o_.least}), integer{most_});
    }
    integer current() const { return std::max(floor_div(curve(), integer::power(2 * refusals_)), integer{1}); }

    void served(std::uint64_t n, std::int64_t sent) {
        log_.note("served ", n, ", sent at ", sent);
        real_->served(n, at<time_point>(sent));
        served_[segment_of(clock_.ticks)] += n;
        if (sent > since_ || !was_cut_) {
            served_since_ = true;
            refusals_ = 0;
        }
    }

    void refused(std::int64_t sent) {
        log_.note("refused, sent at ", sent);
        auto const before = real_->current();
        bool const lowered = real_->refused(at<time_point>(sent));
        // Once for all that were sent before; not while nothing has been served since, for a window.
        bool const known = was_cut_ && sent <= since_;
        bool const drains =
            was_cut_ && !served_since_ && clock_.ticks - since_ < std::chrono::ceil<duration>(o_.window).count();
        ensure_equal(lowered, !known && !drains, "lowered");
        if (known) return;
        if (drains) {
            refusals_ = std::min(refusals_ + 1, 3U);
            ensure(real_->current() <= before, "a refusal has raised the rate");
            return;
        }
        integer const rate = curve();
        integer got = std::min(std::max(served_in_window(), floor_div(rate, integer{2})), rate);
        if (got > rate - floor_div(rate, integer{4})) got = rate;
        integer const last = peak_;
        from_ = std::min(std::max(got - floor_div(got, integer{8}), integer{o_.least}), integer{most_});
        peak_ = std::max(from_, got < last ? got - floor_div(got, integer{16}) : got);
        since_ = clock_.ticks;
        was_cut_ = true;
        served_since_ = false;
        refusals_ = 0;
        // By half of 7/8 at most, and by an eighth at least where its bounds let it.
        integer const now = real_->current();
        ensure(now * 16 >= std::min(rate * 7 - 16, integer{16} * o_.least),
               "lowered to less than half of seven eighths");
        ensure(now <= std::max(rate - floor_div(rate, integer{8}), integer{o_.least}), "not lowered by an eighth");
    }

    void apply(step const& s) {
        struct bucket {
            bool refuses;
            int asked = 0;
            weir::rate r{1, ns{1}};
            struct limits_type {
                weir::rate rate;
                weir::permits burst;
            };
            weir::error change(limits_type const& l, time_point) {
                ++asked;
                r = l.rate;
                return refuses ? weir::error{"no"} : weir::error{};
            }
        } b{s.a % 4 == 0};
        std::uint64_t const now = current().u64();
        std::uint64_t const moved = now > applied_ ? now - applied_ : applied_ - now;
        bool const puts = moved != 0 && integer{moved} * 64 >= integer{applied_};
        auto const e = real_->apply(b, 1);
        ensure_equal(b.asked, puts ? 1 : 0, "put in force, ", now, " after ", applied_);
        ensure_equal(static_cast<bool>(e), puts && b.refuses, "an error of the bucket's");
        if (puts) ensure(b.r == weir::rate{now, o_.window}, "another rate was put in force");
        if (puts) applied_ = b.refuses ? 0 : now;
    }

    void observe() {
        std::uint64_t const now = real_->current();
        ensure_equal(now, current().u64(), "current at ", clock_.ticks);
        ensure(now <= most_ && (refusals_ != 0 || now >= o_.least), "outside its bounds: ", now);
        ensure_equal(real_->share(), floor_div(integer{now} * integer::power(20), integer{o_.start}).u64(),
                     "the share");
        ensure(real_->rate() == weir::rate{now, o_.window}, "the rate");
    }

    journal& log_;
    weir::adaptive_options o_{};
    std::uint64_t most_ = 0;
    Clock clock_{};
    std::int64_t origin_ = 0, since_ = 0, segment_ = 1, recovery_ = 1;
    std::optional<rate_type> real_;
    std::map<std::int64_t, integer> served_;
    integer from_ = 0, peak_ = 0;
    std::uint64_t applied_ = 0;
    unsigned refusals_ = 0;
    bool was_cut_ = false, served_since_ = false;
};

inline void adaptive_script(schedule const& s, journal& log) { interpret<adaptive_run>(s, log); }

}  // namespace script
