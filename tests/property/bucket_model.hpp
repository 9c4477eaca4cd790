// SPDX-License-Identifier: MIT
//
// What token_bucket.hpp and gcra.hpp promise, in exact integers: the algorithm as it is documented, the ideal over the
// rationals that it stands for, and the promise over what was granted.
#pragma once

#include "exact.hpp"
#include "script.hpp"

#include <weir/detail/gcra.hpp>
#include <weir/limiter.hpp>
#include <weir/rate.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace script {

using exact::fraction;
using exact::integer;

inline integer const tat_max = integer::power(60) - 1;

/// A rate as it was written: count permits per ticks·num/den seconds.
struct written_rate {
    std::uint64_t count;
    std::int64_t ticks;
    std::int64_t num;
    std::int64_t den;
    weir::rate rate;

    template <class Rep, class Period>
    static written_rate of(std::uint64_t count, std::chrono::duration<Rep, Period> d) {
        return {count, static_cast<std::int64_t>(d.count()), Period::num, Period::den, weir::rate{count, d}};
    }

    template <class Duration>
    fraction per_tick() const {
        return fraction::of(integer{count} * den * Duration::period::num, integer{ticks} * num * Duration::period::den);
    }
};

/// A rate of an application, or any at all.
template <class Duration>
written_rate rate_of(step const& s) {
    using namespace std::chrono_literals;
    switch (s.op % 24) {
        case 0: return written_rate::of(1, std::chrono::years{1});
        case 1: return written_rate::of(1, 24h);
        case 2: return written_rate::of(100, 1s);
        case 3: return written_rate::of(7, 1s);
        case 4: return written_rate::of(600'000, 1s);
        case 5: return written_rate::of(1'000'000, 1min);
        case 6: return written_rate::of(300'000'000, 1s);
        case 7: return written_rate::of(1'000'000'007, 1s);
        case 8: return written_rate::of(10'000'000'000, 1s);
        case 9: return written_rate::of(999'983, 17min);
        case 10:
            return written_rate::of((std::uint64_t{1} << 61U) - 1, std::chrono::nanoseconds{std::int64_t{1} << 61U});
        default: break;
    }
    std::uint64_t p = 1 + (size(s.a) >> 1U) % ((std::uint64_t{1} << 62U) - 1);
    std::uint64_t q = 1 + (size(s.b) >> 1U) % ((std::uint64_t{1} << 62U) - 1);
    // Most rates that have a meaning earn less than a permit a tick.
    if (p > q && s.op % 3 != 0) std::swap(p, q);
    return written_rate::of(p, Duration{static_cast<std::int64_t>(q)});
}

template <class Duration>
integer horizon_of() {
    return floor_div(integer{30U} * 31'557'600U * Duration::period::den, integer{Duration::period::num});
}

/// What a bucket can be made of, by the text of gcra.hpp, for a clock whose step is one tick.
template <class Duration>
bool is_countable(written_rate const& r, std::uint64_t burst) {
    fraction const f = r.per_tick<Duration>();
    integer const horizon = horizon_of<Duration>();
    return burst != 0 && integer{burst} <= tat_max && f.above < integer::power(63) && f.below < integer::power(63) &&
           f.above <= f.below * burst && !horizon.is_zero() && horizon < integer::power(62) &&
           ceil_div(f.above * horizon, f.below) + burst < tat_max;
}

/// The virtual scheduling algorithm with a permit worth `unit` units, each product and quotient exact.
class gcra_model {
public:
    template <class Duration>
    static gcra_model make(written_rate const& r, std::uint64_t burst) {
        gcra_model m;
        fraction const f = r.per_tick<Duration>();
        // How many units a permit is worth is the implementation's choice; what follows from it is not.
        m.unit = weir::gcra::make<Duration>(r.rate, burst)->unit();
        m.permits = f.above;
        m.ticks = f.below;
        m.burst = burst;
        m.span = m.unit * burst;
        m.horizon = horizon_of<Duration>();
        return m;
    }

    /// What tick t has earned, in units times `ticks`: exactly.
    integer earned(std::uint64_t t) const { return unit * permits * t; }
    integer floor(std::uint64_t t) const { return floor_div(earned(t), ticks); }
    integer ceil(std::uint64_t t) const { return ceil_div(earned(t), ticks); }

    bool allows(integer const& tat, std::uint64_t n, std::uint64_t t) const {
        integer const f = floor(t);
        return integer{n} <= burst && std::max(tat, f) + unit * n <= f + span;
    }
    integer charged(integer const& tat, std::uint64_t n, std::uint64_t t) const {
        return std::max(tat, ceil(t)) + unit * n;
    }
    /// As many as are granted one by one, all at t.
    std::uint64_t available(integer const& tat, std::uint64_t t) const {
        if (!allows(tat, 1, t)) return 0;
        integer const left = floor(t) + span - charged(tat, 1, t);
        return left < integer{0} ? 1 : 1 + floor_div(left, unit).u64();
    }
    /// The first tick that has earned `units`; none beyond the horizon.
    std::optional<std::uint64_t> first(integer const& units) const {
        if (units <= integer{0}) return 0;
        integer const t = ceil_div(units * ticks, unit * permits);
        return t > horizon ? std::nullopt : std::optional{t.u64()};
    }

    integer unit = 1;
    integer permits = 1;
    integer ticks = 1;
    integer burst = 1;
    integer span = 1;
    integer horizon = 0;
};

/// A booking, or the end of one, that was cancelled with others booked behind it.
struct gap {
    integer after;  // the TAT where it ends
    integer worth;
};

/// A bucket: gcra_model and what the shell adds to it. Times are ticks since the origin, up to the horizon.
class bucket_model {
public:
    struct receipt {
        std::uint64_t t = 0;
        std::uint64_t live = 0;
        integer before, after;  // the TAT
        std::uint64_t epoch = 0;
        std::size_t grant = 0;  // its number in `grants`
        std::uint64_t n = 0;    // what was asked for
    };
    struct grant {
        integer at;  // on the scale of gcra_model::earned
        std::uint64_t n;
    };

    /// `denominator` is a multiple of the ticks of all rates that will be in force.
    bucket_model(gcra_model const& g, std::uint64_t start, integer denominator)
        : g_{g}, common_{std::move(denominator)} {
        if (integer{start} < g.burst) tat_ = (g.burst - start) * g.unit;
        ideal_tat_ = integer{start} < g.burst ? (g.burst - start) * common_ : integer{0};
    }

    gcra_model const& algorithm() const { return g_; }
    integer const& tat() const { return tat_; }
    /// The TAT after gaps at its end have gone back.
    void set_tat(integer tat) { tat_ = std::move(tat); }
    std::uint64_t burst() const { return g_.burst.u64(); }
    bool grants(std::uint64_t n, std::uint64_t t) const { return n == 0 || g_.allows(tat_, n, t); }
    std::uint64_t available(std::uint64_t t) const { return g_.available(tat_, t); }
    bool never(std::uint64_t n) const { return integer{n} > g_.burst; }
    /// The state that an attempt for n at t leaves, were it made.
    integer left_by(std::uint64_t n, std::uint64_t t) const {
        return n != 0 && grants(n, t) ? g_.charged(tat_, n, t) : tat_;
    }
    std::uint64_t remaining(std::uint64_t n, std::uint64_t t) const { return g_.available(left_by(n, t), t); }
    std::optional<std::uint64_t> full(std::uint64_t n, std::uint64_t t) const { return g_.first(left_by(n, t)); }
    /// The first tick from t on at which n are there; none: not within the horizon.
    std::optional<std::uint64_t> retry(std::uint64_t n, std::uint64_t t) const {
        if (never(n)) return std::nullopt;
        auto const first = g_.first(tat_ + g_.unit * n - g_.span);
        return first ? std::optional{std::max(*first, t)} : std::nullopt;
    }

    receipt take(std::uint64_t n, std::uint64_t t) {
        return n == 0 ? receipt{} : charge(n, t, g_.earned(t), g_.charged(tat_, n, t));
    }

    struct booking {
        bool granted = false;
        std::uint64_t due = 0;
        receipt r{};
    };
    booking reserve(std::uint64_t n, std::uint64_t wait, std::uint64_t t) {
        if (n == 0) return {true, t, {}};
        if (never(n)) return {};
        integer const next = g_.charged(tat_, n, t);
        if (g_.allows(tat_, n, t)) return {true, t, charge(n, t, g_.earned(t), next)};
        std::uint64_t const latest = std::min(integer{t} + wait, g_.horizon).u64();
        if (next > g_.floor(latest) + g_.span || next > tat_max) return {};
        std::uint64_t const due = *g_.first(next - g_.span);
        booked_until_ = std::max(booked_until_, due);
        return {true, due, charge(n, t, (next - g_.span) * g_.ticks, next)};
    }

    /// What is certain of k of the permits that r still has; whole if it is the last charge.
    std::uint64_t refund(receipt& r, std::uint64_t k, std::uint64_t now) {
        std::uint64_t const live = r.live;
        k = std::min(k, live);
        if (k == 0) return 0;
        r.live -= k;
        if (r.epoch != epoch_) return 0;
        grants_[r.grant].n -= k;
        if (latest_ > now) is_ahead_ = true;
        integer const moment = std::max(r.after - g_.span, integer{0});
        integer const last = r.after - g_.unit * (r.n - live);
        if (epoch_ == 0 && booked_until_ != 0 && moment > g_.floor(now) && last - g_.unit * live >= unordered_below_) {
            if (last != tat_) {
                gaps.push_back({last, g_.unit * k});
                return 0;
            }
            tat_ = k == live ? r.before : last - g_.unit * k;
            ideal_is_known_ = false;
            return k;
        }
        if (r.after == tat_ && k == (epoch_ == 0 ? r.n : live) && refunded_after_ <= r.t) {
            // After a change, what was undone stays for times before it: a receipt has no room for the TAT before.
            tat_ = epoch_ == 0 ? r.before : std::max(r.before, g_.floor(r.t)) + g_.unit * (r.n - live);
            ideal_is_known_ = false;
            return k;
        }
        integer const charged = std::max(g_.floor(r.t), moment);
        integer const gone = std::max(g_.ceil(std::max(now, booked_until_)) - charged, integer{0});
        if (gone >= g_.unit * live) return 0;
        integer const give = std::min(std::min(g_.unit * live - gone, g_.unit * k), tat_);
        refunded_after_ = std::max(refunded_after_, now + 1);
        if (booked_until_ != 0) unordered_below_ = std::max(unordered_below_, tat_);
        gaps.clear();
        tat_ -= give;
        ideal_is_known_ = false;
        return floor_div(give, g_.unit).u64();
    }

    void debt(std::uint64_t n, std::uint64_t now) {
        integer const base = std::max(tat_, g_.ceil(now));
        integer const next = base + g_.unit * n;
        if (next > tat_max) ideal_is_known_ = false;
        tat_ = std::min(next, tat_max);
        ideal_tat_ = std::max(ideal_tat_, ideal_earned(now)) + common_ * n;
    }

    /// False where the debt does not fit; then nothing has changed.
    bool change(gcra_model const& to, std::uint64_t t) {
        integer const used = std::max(tat_ - g_.floor(t), integer{0});
        integer next;
        if (used <= g_.span) {
            integer const credit = floor_div((g_.span - used) * to.unit, g_.unit);
            next = credit >= to.span ? to.floor(t) : to.ceil(t) + to.span - credit;
        } else {
            integer const debt = ceil_div((used - g_.span) * to.unit, g_.unit);
            auto const due = g_.first(tat_ - g_.span);
            if (debt > tat_max || !due) return false;
            next = std::max(to.ceil(t) + debt, to.ceil(*due)) + to.span;
        }
        if (next > tat_max) return false;
        // The ideal carries over exactly what there is, up to the new burst.
        integer const had = g_.burst * common_ - std::max(ideal_tat_ - ideal_earned(t), integer{0});
        keep_promise();
        grants_.clear();
        gaps.clear();
        ++epoch_;
        tat_ = next;
        g_ = to;
        ideal_tat_ = ideal_earned(t) + g_.burst * common_ - std::min(had, g_.burst * common_);
        if (t < changed_at_) ideal_is_known_ = false;
        changed_at_ = std::max(changed_at_, t);
        only_taken_ = false;
        return true;
    }

    /// Never more than the ideal has; and, where there was no change, no refund, denied only what the ideal would deny
    /// one unit earlier.
    void keep_to_the_ideal(std::uint64_t n, std::uint64_t t, bool granted) {
        if (!ideal_is_known_ || n == 0 || never(n)) return;
        if (t < changed_at_) return;
        integer const e = ideal_earned(t);
        integer const after = std::max(ideal_tat_, e) + common_ * n;
        ensure(!granted || after <= e + g_.burst * common_, "granted ", n, ", which the ideal does not have");
        ensure(granted || !only_taken_ || g_.unit * (after - e - g_.burst * common_) > -common_, "denied ", n,
               ", which the ideal had a unit earlier");
    }

    /// In any interval at most burst + rate·T of what was granted and not given back, exactly. (Refunds while a time
    /// point is ahead of the clock void it.)
    void keep_promise() const {
        if (is_ahead_) return;
        auto all = grants_;
        std::stable_sort(all.begin(), all.end(), [](grant const& a, grant const& b) { return a.at < b.at; });
        // With C the sum of the grants' worth: C(e) - C(s-) <= span + e - s for all s <= e; so the least C(s-) - s will
        // do.
        integer sum = 0;
        std::optional<integer> least;
        for (std::size_t i = 0; i < all.size();) {
            integer const before = sum - all[i].at;
            least = least ? std::min(*least, before) : before;
            std::size_t j = i;
            for (; j < all.size() && all[j].at == all[i].at; ++j) sum += g_.unit * g_.ticks * all[j].n;
            ensure(sum - all[i].at - *least <= g_.span * g_.ticks,
                   "the promise: more than burst + rate*T in an interval that ends at ",
                   floor_div(all[i].at, g_.unit * g_.permits).text());
            i = j;
        }
    }

    std::vector<gap> gaps;

private:
    integer ideal_earned(std::uint64_t t) const { return g_.permits * t * floor_div(common_, g_.ticks); }

    receipt charge(std::uint64_t n, std::uint64_t t, integer const& moment, integer const& next) {
        // The roundings of a change are against the caller from then on; what is granted of a time before it is another
        // matter.
        if (t < changed_at_) ideal_is_known_ = false;
        receipt r{t, n, tat_, next, epoch_, grants_.size(), n};
        grants_.push_back({moment, n});
        tat_ = next;
        ideal_tat_ = std::max(ideal_tat_, ideal_earned(t)) + common_ * n;
        latest_ = std::max(latest_, t);
        return r;
    }

    gcra_model g_;
    integer tat_ = 0;
    integer unordered_below_ = 0;  // the highest TAT that a partial refund has lowered
    std::uint64_t epoch_ = 0, refunded_after_ = 0, booked_until_ = 0;
    std::uint64_t latest_ = 0;  // time point of a charge
    bool is_ahead_ = false;
    std::vector<grant> grants_;  // under the configuration in force
    integer common_;
    integer ideal_tat_ = 0;  // in permits times common_
    bool ideal_is_known_ = true, only_taken_ = true;
    std::uint64_t changed_at_ = 0;
};

}  // namespace script
