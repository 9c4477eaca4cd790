// SPDX-License-Identifier: MIT
//
// The generic cell rate algorithm as pure arithmetic: state in, time in, answer and new state out. Integers only,
// constexpr, no clock and no atomics; token_bucket, leaky_bucket and leaky_bucket_queue are shells around it.
// Source: ITU-T Recommendation I.371, annex A (the virtual scheduling algorithm).
//
// Time is not counted in ticks but in what it earns. Let a permit be worth `unit` units; a clock that has run for t
// ticks has earned ρ·t units, ρ = unit·permits/ticks of the rate. The state is one number, the theoretical arrival time
// (TAT) on that scale:
//     grant n at t   iff   max(TAT, ⌊ρt⌋) + n·unit ≤ ⌊ρt⌋ + burst·unit     and then  TAT := max(TAT, ⌈ρt⌉) + n·unit
// A permit's worth is a whole number of units, so nothing is rounded when permits are charged; ⌊ρt⌋ and ⌈ρt⌉ are exact,
// so nothing drifts; and the two roundings, refill down and idle clamp up, both go against the caller. Hence, for the
// grants with times in [s, e], in whatever order they came: the first leaves TAT ≥ ρs + its own worth, each one between
// adds its own, and the last was found to fit, TAT + its worth ≤ ρe + burst·unit; so permits ≤ burst + rate·(e − s),
// exactly. (One grant alone is at most burst.)
//
// Bits: TAT has `tat_bits` = 60. `unit` is made as large as (rate × 30 years + burst)·unit < 2^60 allows, and a divisor
// of the rate's ticks where one is near, so that equal steps of human size (a millisecond, a second) earn whole units:
//     rate (clock in ns)        burst      unit (units a permit)    a unit in time
//     1 per day                 1          2^9·10^10 or so          about 1 tick
//     100 per second            20         10^7                     1 tick
//     7 per second              10         125,000,000              1.14 ticks
//     1,000,000 per minute      1,000      60,000                   1 tick
//     3·10^8 per second         1,000      2                        1.67 ticks
//     10^9 + 7 per second       1,000      1                        1 permit
// A grant may come later than the ideal's by the time of one unit, never earlier. What needs more bits is refused.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

#include "../error.hpp"
#include "../limiter.hpp"
#include "../rate.hpp"
#include "wide.hpp"

namespace weir::inline v0 {

class gcra {
public:
    static constexpr unsigned tat_bits = 60;
    static constexpr std::uint64_t tat_max = (std::uint64_t{1} << tat_bits) - 1;

    /// More than any number of units or ticks.
    static constexpr std::uint64_t never = (std::numeric_limits<std::uint64_t>::max)();

    /// What the clock has earned at an instant, rounded down and up.
    struct position {
        std::uint64_t floor;
        std::uint64_t ceil;
    };

    /// The algorithm for `r` and `burst` on a clock with ticks of `Duration` that advances `resolution` at a time.
    /// Errors: a burst of 0; a rate or burst that 30 years of this clock cannot count; a clock so coarse that one step
    /// earns more than the burst, so that rate would be lost.
    template <class Duration>
    static constexpr result<gcra> make(rate const& r, permit_count burst, Duration resolution = Duration{1}) {
        gcra g;
        if (auto e = g.configure<Duration>(r, burst, resolution)) return e;
        return result<gcra>{std::in_place, g};
    }

    /// How many ticks of `Duration` the promise covers: 30 years (of 365.25 days).
    template <class Duration>
    static constexpr std::uint64_t horizon() noexcept {
        return detail::thirty_years<Duration>();
    }

    constexpr permits burst() const noexcept { return span_ / unit_; }
    constexpr std::uint64_t unit() const noexcept { return unit_; }
    constexpr std::uint64_t span() const noexcept { return span_; }

    /// The rate it was made with, by value: per second, minute, hour or day where that is a whole number of permits,
    /// else as the reduced fraction of permits per tick. `Duration` is the one it was made for.
    template <class Duration>
    constexpr rate rate_per() const {
        for (std::int64_t const seconds : {1, 60, 3600, 86'400}) {
            std::uint64_t const num = static_cast<std::uint64_t>(Duration::period::num);
            std::uint64_t ticks = 0;
            if (__builtin_mul_overflow(static_cast<std::uint64_t>(seconds),
                                       static_cast<std::uint64_t>(Duration::period::den), &ticks))
                break;
            if (ticks % num != 0 || ticks / num % ticks_ != 0) continue;
            std::uint64_t count = 0;
            if (__builtin_mul_overflow(permits_per_ticks(), ticks / num / ticks_, &count) || count >> 63U) break;
            return rate{count, std::chrono::seconds{seconds}};
        }
        using ticks_of = std::chrono::duration<std::int64_t, typename Duration::period>;
        return rate{permits_per_ticks(), ticks_of{static_cast<std::int64_t>(ticks_)}};
    }

    /// What `t` ticks have earned, t ≤ horizon. One multiplication for a rate of whole units a tick, else three.
    ///
    /// ρ = whole + fraction·2^-128, the fraction rounded up, so the sum exceeds ρt by less than 2^-64. A ρt that is no
    /// integer is at least 2^-63 away from the next (the denominator of ρ has 63 bits), hence the floor is exact, and
    /// ρt is an integer exactly when the first 64 bits after the point are zero.
    constexpr position at(std::uint64_t t) const noexcept {
        if (one()) [[likely]]
            return {t, t};
        return scaled(t);
    }

    /// Ticks since the start, as a number that `at` takes: beyond the horizon, the horizon.
    constexpr std::uint64_t horizon() const noexcept { return horizon_ & ~is_one; }
    constexpr std::uint64_t clamp(std::uint64_t t) const noexcept { return t < horizon() ? t : horizon(); }

    /// The first tick at which `units` are earned; all ones where that is beyond the horizon. One division at most.
    constexpr std::uint64_t first(std::uint64_t units) const noexcept {
        if (one()) [[likely]]
            return units <= horizon() ? units : never;
        return first_scaled(units);
    }

    /// TAT after n more permits at `now`, whether or not they are available. n ≤ burst, so that the product does not
    /// wrap.
    constexpr std::uint64_t charged(std::uint64_t tat, position now, permits n) const noexcept {
        return (tat > now.ceil ? tat : now.ceil) + n * unit_;
    }

    /// What n permits are worth; all ones where n is above the burst.
    constexpr std::uint64_t worth(permits n) const noexcept {
        std::uint64_t units = unit_;
        return n != 1 && (__builtin_mul_overflow(n, unit_, &units) || units > span_) ? never : units;
    }
    constexpr bool fits(permits n) const noexcept { return worth(n) != never; }

    /// Whether n permits are available at `now`. n ≤ burst, so that a TAT below ⌊ρt⌋ need not be raised to it.
    constexpr bool allows(std::uint64_t tat, position now, permits n) const noexcept {
        return tat + n * unit_ <= now.floor + span_;
    }

    /// What must be earned before n permits are available. 1 ≤ n ≤ burst.
    constexpr std::uint64_t required(std::uint64_t tat, permits n) const noexcept {
        std::uint64_t const sum = tat + n * unit_;
        return sum > span_ ? sum - span_ : 0;
    }

    /// The moment at which permits count whose charge left the TAT at `after`, as what is earned by then; 0 where they
    /// were available before anything was earned.
    constexpr std::uint64_t moment(std::uint64_t after) const noexcept { return after > span_ ? after - span_ : 0; }

    /// How far the TAT may fall for k of the `live` permits of a charge made at tick t; `latest`: gcra_state.hpp,
    /// give_back.
    constexpr std::uint64_t certain(std::uint64_t after, std::uint64_t t, permits live, permits k,
                                    std::uint64_t latest) const noexcept {
        std::uint64_t const charged = at(t).floor;
        std::uint64_t const from = charged > moment(after) ? charged : moment(after);
        std::uint64_t const to = at(latest).ceil;
        std::uint64_t const gone = to > from ? to - from : 0;
        std::uint64_t const whole = live * unit_;
        std::uint64_t const left = whole > gone ? whole - gone : 0;
        return left < k * unit_ ? left : k * unit_;
    }

    /// How many permits can be taken at `now`, at once or in any parts, one by one included. The state may be in debt.
    ///
    /// The first part raises the TAT to ⌈ρt⌉, and the others are held against ⌊ρt⌋. Where ρt is not an integer that
    /// costs one unit of the burst, so a full bucket then counts burst − 1, although one call for the whole burst is
    /// granted. A burst of 1 has no second part.
    constexpr permits available(std::uint64_t tat, position now) const noexcept {
        std::uint64_t const after_idle = tat > now.ceil ? tat : now.ceil;
        std::uint64_t const used = after_idle - now.floor;
        permits const parts = used >= span_ ? 0 : (span_ - used) / unit_;
        return parts != 0 || !allows(tat, now, 1) ? parts : 1;
    }

    /// The state at tick 0 with k permits available (all of them where k is more than burst).
    constexpr std::uint64_t initial(permits k) const noexcept { return fits(k) ? span_ - k * unit_ : 0; }

    /// What a change of configuration keeps: what is available, as a bucket does; or the time from which on the next
    /// can depart, as a queue does.
    enum class keep : unsigned char { availability, departures };

    /// Carries a state over from `old` to this at tick t. All ones where it does not fit.
    constexpr std::uint64_t carried(gcra const& old, std::uint64_t tat, std::uint64_t t, keep k) const noexcept {
        if (k == keep::availability) return carried(old, tat, t);
        std::uint64_t const free_from = old.first(tat);
        if (free_from == never) return free_from;
        return free_from <= t ? at(t).floor : at(free_from).ceil;
    }

    /// Carries a state over from `old` to this at tick t: what was available stays available, up to this burst, and
    /// debt stays debt, rounded against the caller by less than a unit each. What is booked ahead also keeps its time:
    /// nothing is available before the last of it is due, since it will be used then. All ones where the debt does not
    /// fit.
    constexpr std::uint64_t carried(gcra const& old, std::uint64_t tat, std::uint64_t t) const noexcept {
        constexpr std::uint64_t no_fit = never;
        position const then = old.at(t);
        std::uint64_t const used = tat > then.floor ? tat - then.floor : 0;
        std::uint64_t next = at(t).ceil;
        if (used <= old.span_) {
            std::uint64_t const credit = detail::mul_div_floor(old.span_ - used, unit_, old.unit_);
            // What is full stays full: the next grant clamps its own time up.
            next = credit >= span_ ? at(t).floor : next + (span_ - credit);
        } else {
            std::uint64_t const debt = detail::mul_div_ceil(used - old.span_, unit_, old.unit_);
            std::uint64_t const due = old.first(tat - old.span_);
            if (debt > tat_max || due == no_fit) return no_fit;
            std::uint64_t const paid = next + debt;
            std::uint64_t const booked = at(due).ceil;
            next = (paid > booked ? paid : booked) + span_;
        }
        return next > tat_max ? no_fit : next;
    }

    /// The configuration, word by word, for a shell that must publish it through atomics. The horizon is not part of
    /// it: it depends on the clock's ticks alone.
    static constexpr int words = 6;
    struct packed_state {
        std::uint64_t word[words];
    };
    constexpr packed_state pack() const noexcept {
        return {{whole_, fraction_.hi, fraction_.lo, unit_, span_, ticks_}};
    }
    static constexpr gcra unpack(packed_state const& p, std::uint64_t horizon) noexcept {
        gcra g;
        g.whole_ = p.word[0];
        g.fraction_ = {p.word[1], p.word[2]};
        g.unit_ = p.word[3];
        g.span_ = p.word[4];
        g.ticks_ = p.word[5];
        g.set_horizon(horizon);
        return g;
    }

    constexpr gcra() = default;

private:
    static constexpr std::uint64_t is_one = std::uint64_t{1} << 63U;

    /// ρ = 1: time is its own measure, as it is for most rates of human size.
    constexpr bool one() const noexcept { return (horizon_ & is_one) != 0; }
    constexpr void set_horizon(std::uint64_t ticks) noexcept {
        bool const rho_is_one = whole_ == 1 && fraction_.hi == 0 && fraction_.lo == 0;
        horizon_ = ticks | (rho_is_one ? is_one : 0U);
    }

    template <class Duration>
    constexpr error configure(rate const& r, permit_count burst, Duration resolution) noexcept {
        if (burst.invalid()) return {"burst must be at least 1 (got a negative number)"};
        if (burst == 0U) return {"burst must be at least 1 (got 0)"};
        if (burst > tat_max) return {"burst must be below 2^60"};
        if (resolution.count() <= 0) return {"a clock's resolution must be positive"};
        auto const per_tick = r.per<Duration>();
        ticks_ = per_tick.ticks;
        if (per_tick.ticks == 0)
            return {"the rate does not fit: as a fraction of permits per tick it needs more than 63 bits"};

        // One step of the clock must not earn more than the burst.
        detail::u128 const step = detail::mul(per_tick.permits, static_cast<std::uint64_t>(resolution.count()));
        detail::u128 const most = detail::mul(per_tick.ticks, burst);
        if (step.hi > most.hi || (step.hi == most.hi && step.lo > most.lo)) {
            return {"the clock is too coarse: it earns more than the burst in one step, so that rate would be lost"};
        }

        constexpr std::uint64_t last = horizon<Duration>();
        if (last == 0 || last >> 62U) return {"the clock's tick is too short or too long to count 30 years"};
        std::uint64_t const total = detail::mul_div_ceil(per_tick.permits, last, per_tick.ticks);
        if (total > tat_max || total + burst >= tat_max) {
            return {"the rate does not fit: 30 years of it and the burst need more than 60 bits"};
        }
        unit_ = pick_unit(per_tick.ticks, tat_max / (total + burst + 1));
        span_ = burst * unit_;

        // ρ = unit·permits/ticks as 64.128 fixed point, rounded up.
        detail::quotient const whole = detail::div(detail::mul(unit_, per_tick.permits), per_tick.ticks);
        detail::quotient const f1 = detail::div({whole.remainder, 0}, per_tick.ticks);
        detail::quotient const f2 = detail::div({f1.remainder, 0}, per_tick.ticks);
        whole_ = whole.value;
        fraction_ = {f1.value, f2.value};
        if (f2.remainder != 0 && ++fraction_.lo == 0) ++fraction_.hi;
        set_horizon(last);
        return {};
    }

    /// The largest number up to `most` that divides `ticks` and has no prime factor above 7, or `most` itself where
    /// that one is much smaller.
    static constexpr std::uint64_t pick_unit(std::uint64_t ticks, std::uint64_t most) noexcept {
        if (ticks <= most) return ticks;
        std::uint64_t best = 1;
        for (std::uint64_t a = 1;; a *= 2) {
            for (std::uint64_t b = a;; b *= 3) {
                for (std::uint64_t c = b;; c *= 5) {
                    for (std::uint64_t d = c;; d *= 7) {
                        if (d > best) best = d;
                        if (ticks % d != 0 || d > most / 7 || ticks % (d * 7) != 0) break;
                    }
                    if (c > most / 5 || ticks % (c * 5) != 0) break;
                }
                if (b > most / 3 || ticks % (b * 3) != 0) break;
            }
            if (a > most / 2 || ticks % (a * 2) != 0) break;
        }
        return best >= most / 8 ? best : most;
    }

    /// The numerator of the rate: ρ·ticks is unit·permits exactly, since ρ is rounded up by less than 2^-128.
    constexpr permits permits_per_ticks() const noexcept {
        detail::u128 worth = detail::mul(whole_, ticks_);
        detail::u128 const high = detail::mul(ticks_, fraction_.hi);
        std::uint64_t const rest = high.lo + detail::mul(ticks_, fraction_.lo).hi;
        std::uint64_t const part = high.hi + (rest < high.lo ? 1U : 0U);
        worth.lo += part;
        if (worth.lo < part) ++worth.hi;
        return detail::div(worth, unit_).value;
    }

    constexpr position scaled(std::uint64_t t) const noexcept {
        detail::u128 const high = detail::mul(t, fraction_.hi);
        std::uint64_t const rest = high.lo + detail::mul(t, fraction_.lo).hi;
        std::uint64_t const floor = t * whole_ + high.hi + (rest < high.lo ? 1U : 0U);
        return {floor, floor + (rest != 0 ? 1U : 0U)};
    }

    /// Let d be the first 64 bits of ρ = (d + ε)·2^-s, 0 ≤ ε < 1 and d ≥ 2^63, and q = units/ρ < 2^62. Then
    /// q ≤ units·2^s/d = q·(1 + ε/d) < q + 1/2. So the quotient, rounded down, is ⌊q⌋, or ⌊q⌋ + 1 where q is no
    /// integer. The answer is ⌈q⌉: the quotient, or one more.
    [[gnu::__noinline__]] constexpr std::uint64_t first_scaled(std::uint64_t units) const noexcept {
        std::uint64_t divisor = 0;
        detail::u128 scaled_units{0, 0};
        if (whole_ != 0) {
            auto const up = static_cast<unsigned>(__builtin_clzll(whole_));
            divisor = up == 0 ? whole_ : whole_ << up | fraction_.hi >> (64 - up);
            scaled_units = {up == 0 ? 0 : units >> (64 - up), units << up};
        } else {
            auto const up = static_cast<unsigned>(__builtin_clzll(fraction_.hi));
            divisor = up == 0 ? fraction_.hi : fraction_.hi << up | fraction_.lo >> (64 - up);
            scaled_units = {units << up, 0};
            if (up != 0 && units >> (64 - up) != 0) return never;
        }
        if (scaled_units.hi >= divisor) return never;
        std::uint64_t const t = detail::div(scaled_units, divisor).value;
        if (t > horizon()) return never;
        if (scaled(t).floor >= units) return t;
        return t < horizon() ? t + 1 : never;
    }

    // What an attempt reads comes first.
    std::uint64_t unit_ = 1;
    std::uint64_t span_ = 1;
    std::uint64_t horizon_ = is_one;  // and whether ρ = 1
    std::uint64_t whole_ = 1;
    detail::u128 fraction_{0, 0};
    std::uint64_t ticks_ = 1;  // the denominator of the rate
};

}  // namespace weir::inline v0
