// SPDX-License-Identifier: MIT
//
// ramp: a limiter that grows smoothly from rest, against burst protection ("request rate increased too quickly") whose threshold is
// dynamic and unpublished. Its model of the server: a request is refused when the requests of the last interval would be more than
// max(first, growth × their mean per interval over the memory). It keeps to that rule with first and growth of its own, and
// learns both: a burst verdict lowers the one that was in force, clean intervals at the limit raise it.
//
// **Why it is not refused.** Grants are spaced by d = (interval + slack + jitter)/A, with catching up by at most `slack`; so n requests
// that arrive within an interval satisfy (n − 1)·d < interval + slack + jitter, that is n ≤ ⌈A⌉. A is max(first, growth × mean), with the
// mean taken over closed segments of an eighth of an interval, without those that leave the server's memory before an interval has
// passed: so whenever the server looks, it has in its memory all that A was derived from, and its mean is at least ours. With first and growth at
// most the server's there remains the rounding up of A, less than one request. A count that a slow thread adds late makes A smaller.
//
// **What it costs.** The segments left out are 9 of 8·memory and the slack is a sixteenth: of a server's growth g it uses about 0.83·g (memory
// 10), so it needs a g above 1.2 to climb at all. docs/adaptive.md has it measured against the ideal.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../detail/decision_head.hpp"
#include "../error.hpp"
#include "../limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// What a ramp begins with and how far it may learn. Growth is in per cent of the mean.
struct ramp_options {
    std::chrono::nanoseconds interval{std::chrono::seconds{1}};  ///< in which the server counts
    std::uint32_t memory = 10;                                   ///< intervals with whose mean it compares: 3 to 15
    std::uint32_t first = 2;                                     ///< permits in an interval, from rest
    std::uint32_t first_most = 64;                               ///< to which that may be learnt; `first`: never raised
    std::uint32_t growth = 150;                                  ///< of the mean, in per cent
    std::uint32_t growth_most = 400;                             ///< to which that may be learnt
    std::chrono::nanoseconds jitter{0};                          ///< the range of the delay from stamp to arrival
};

/// A limiter for requests: beside a quota_limiter, or in an all_of with any limiter. A permit is a request.
///
///     weir::ramp ramp{weir::ramp_options{}};
///     if (auto d = ramp.try_acquire()) { if (verdict_of(call()).cause == cause::burst) ramp.burst(d); }
///     else wait_until(d.retry_at());
///
/// Starts empty: one permit, and nothing is saved up at rest beyond a sixteenth of an interval. Several permits at once are granted after
/// as long a gap as they would have taken one by one; more than `first` of them never.
/// State: a word for spacing, one for what A is in this segment, one for what was learnt, and a ring of counts (1 KiB). Lock-free.
/// A grant is two exchanges, a denial writes nothing but, once a segment, A. Nothing is ordered: publish no data through it.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(weir::detail::cache_line) ramp {
public:
    using clock_type = typename weir::detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    class decision;

    /// Throws std::invalid_argument for what `validate` names.
    explicit ramp(ramp_options o = {})
        requires(!std::is_reference_v<Clock>)
        : ramp{o, Clock{}} {}
    template <class C>
        requires std::constructible_from<weir::detail::clock_box<Clock>, C&&>
    ramp(ramp_options o, C&& c)
        : clock_{std::forward<C>(c)},
          options_{o},
          origin_{weir::detail::ticks(clock_.get().now())},
          learned_{pack_learned({o.first * permit, to_growth(o.growth), 0, false, false})} {
        weir::detail::ensure(validate(o, resolution_of(clock_.get())));
        std::int64_t const whole = std::chrono::ceil<duration>(o.interval).count();
        length_ = static_cast<std::uint64_t>(whole) / per_interval;
        slack_ = length_ / 2;
        unit_ = static_cast<std::uint64_t>(whole) + slack_ +
                static_cast<std::uint64_t>(std::chrono::ceil<duration>(o.jitter).count());
        plan_.fetch_add(o.first * permit, std::memory_order_relaxed);
    }
    ramp(ramp const&) = delete;
    ramp& operator=(ramp const&) = delete;

    static constexpr error validate(ramp_options const& o, duration resolution = duration{1}) noexcept {
        if (o.interval <= o.interval.zero() || o.interval > std::chrono::hours{1})
            return {"a ramp's interval is positive, an hour at most"};
        if (std::chrono::floor<duration>(o.interval) < 64 * (std::max)(resolution, duration{1})) {
            return {"the clock is too coarse for the ramp's interval: it needs 64 steps"};
        }
        if (o.memory < 3 || o.memory > 15) return {"a ramp remembers 3 to 15 intervals"};
        if (o.first == 0) return {"a ramp that begins with no permits never begins"};
        if (o.first_most < o.first || o.first_most > 50'000)
            return {"a ramp's first_most is at least first, at most 50,000"};
        if (o.growth < 125) return {"a ramp needs a growth of 125 per cent to climb"};
        if (o.growth_most < o.growth || o.growth_most > 6'000)
            return {"a ramp's growth_most is at least growth, at most 6,000 per cent"};
        if (o.jitter < o.jitter.zero() || o.jitter > std::chrono::hours{1})
            return {"a ramp's jitter is not negative, an hour at most"};
        return {};
    }

    decision try_acquire(permits n = 1) noexcept { return try_acquire(n, clock_.get().now()); }
    decision try_acquire(permits n, time_point t) noexcept { return attempt(n, t, true); }
    decision check(permits n = 1) noexcept { return check(n, clock_.get().now()); }
    decision check(permits n, time_point t) noexcept { return attempt(n, t, false); }

    /// The request never left: it no longer counts, and if nobody has taken since, its place is free again. Once.
    bool refund(decision& d) noexcept {
        if (d.ramp_ != this || !d.live_.spend()) return false;
        // Relaxed, as everywhere here: each word stands for itself. No two live receipts end at one value, since the word falls only
        // from a receipt's end to its beginning: so this meets nobody else's.
        std::uint64_t expected = d.after_;
        tat_.compare_exchange_strong(expected, d.before_, std::memory_order_relaxed, std::memory_order_relaxed);
        uncount(d.segment_, d.n_);
        return true;
    }

    /// Burst protection refused what `d` granted, which the server then did not count: neither do we. Lowers what was in force
    /// by a quarter, once an interval however many verdicts come. Once for each decision.
    bool burst(decision& d) noexcept { return burst(d, clock_.get().now()); }
    bool burst(decision& d, time_point now) noexcept {
        if (d.ramp_ != this || !d.live_.spend()) return false;
        uncount(d.segment_, d.n_);
        std::uint64_t const at = segment_of(now);
        std::uint64_t seen = learned_.load(std::memory_order_relaxed);
        for (;;) {
            facts f = unpack_learned(seen);
            if ((f.first_cut || f.growth_cut) && since(at, f.cut) < per_interval) return true;
            if (d.from_rest_) {
                f.first = (std::max)(f.first - f.first / 4, permit);
                f.first_cut = true;
            } else {
                f.growth = (std::max)(one + (f.growth - one) * 3 / 4, growth_least);
                f.growth_cut = true;
            }
            f.cut = at & cut_mask;
            if (learned_.compare_exchange_weak(seen, pack_learned(f), std::memory_order_relaxed,
                                               std::memory_order_relaxed))
                return true;
        }
    }

    permits available() noexcept { return available(clock_.get().now()); }
    permits available(time_point t) noexcept {
        std::uint64_t const at = since_origin(t);
        std::uint64_t const d = spacing(allowance(at / length_));
        std::uint64_t const tat = tat_.load(std::memory_order_relaxed);
        if (tat == 0) return options_.first;  // as in attempt: nothing was taken
        return tat > at ? 0 : (std::min<std::uint64_t>)((at - tat) / d + 1, options_.first);
    }

    /// Permits per interval that it gives now; what it has learnt, rounded down.
    std::uint64_t current(time_point t) noexcept { return allowance(segment_of(t)) / permit; }
    std::uint32_t first() const noexcept {
        return unpack_learned(learned_.load(std::memory_order_relaxed)).first / permit;
    }
    std::uint32_t growth() const noexcept {
        return unpack_learned(learned_.load(std::memory_order_relaxed)).growth * 100 / one;
    }

    clock_type const& clock() const noexcept { return clock_.get(); }

private:
    static constexpr std::uint32_t per_interval = 8;  // segments
    static constexpr std::size_t ring_size = 128;     // a power of 2 above per_interval·15
    static constexpr unsigned count_bits = 30;        // the other 34 number an eighth of a second for 68 years
    static constexpr std::uint64_t count_mask = (std::uint64_t{1} << count_bits) - 1;
    static constexpr std::uint32_t permit = 256;  // permits per interval are kept in 256ths
    static constexpr std::uint32_t one = 1024;    // growth in 1024ths
    static constexpr std::uint32_t growth_least = one + one / 4;
    static constexpr std::uint64_t cut_mask = (std::uint64_t{1} << 22U) - 1;

    static constexpr std::uint32_t to_growth(std::uint32_t percent) noexcept { return percent * one / 100; }

    /// What was learnt, in one word: first 24 bits, growth 16, the segment of the last cut 22, whether there was one 1 + 1.
    struct facts {
        std::uint32_t first;
        std::uint32_t growth;
        std::uint64_t cut;
        bool first_cut;
        bool growth_cut;
    };
    static constexpr std::uint64_t pack_learned(facts f) noexcept {
        return std::uint64_t{f.first} << 40U | std::uint64_t{f.growth} << 24U | f.cut << 2U | (f.first_cut ? 2U : 0U) |
               (f.growth_cut ? 1U : 0U);
    }
    static constexpr facts unpack_learned(std::uint64_t w) noexcept {
        return {static_cast<std::uint32_t>(w >> 40U), static_cast<std::uint32_t>(w >> 24U & 0xffffU),
                w >> 2U & cut_mask, (w & 2U) != 0, (w & 1U) != 0};
    }
    static constexpr std::uint64_t since(std::uint64_t segment, std::uint64_t cut) noexcept {
        return (segment - cut) & cut_mask;
    }

    std::uint64_t since_origin(time_point t) const noexcept {
        std::int64_t const d = weir::detail::saturating_sub(weir::detail::ticks(t), origin_);
        return d > 0 ? static_cast<std::uint64_t>(d) : 0;
    }
    std::uint64_t segment_of(time_point t) const noexcept { return since_origin(t) / length_; }
    std::uint64_t spacing(std::uint64_t allowed) const noexcept {
        // unit_ < 2^43 for two hours and a bit of nanoseconds.
        return (unit_ * permit + allowed - 1) / allowed;
    }

    /// What the segments from `from` until before `until` count. Counts that come late are missed: that is the safe side.
    std::uint64_t counted(std::uint64_t from, std::uint64_t until) const noexcept {
        std::uint64_t sum = 0;
        for (std::uint64_t s = from; s < until; ++s) {
            std::uint64_t const w = ring_[s % ring_size].load(std::memory_order_relaxed);
            if (w >> count_bits == s) sum += w & count_mask;
        }
        return sum;
    }

    /// A, in 256ths: computed by the first to come in a segment. From a time point that is late, the latest.
    std::uint64_t allowance(std::uint64_t segment) noexcept {
        std::uint64_t p = plan_.load(std::memory_order_relaxed);
        while (p >> count_bits < segment) {
            std::uint64_t const kept = std::uint64_t{per_interval} * options_.memory - per_interval - 1;
            std::uint64_t const sum = counted(segment > kept ? segment - kept : 0, segment);
            facts const f = unpack_learned(learned_.load(std::memory_order_relaxed));
            // sum < 2^37, growth < 2^16.
            std::uint64_t const grown = sum * f.growth / options_.memory * permit / one;
            std::uint64_t const a = (std::min<std::uint64_t>)((std::max<std::uint64_t>)(f.first, grown), count_mask);
            if (plan_.compare_exchange_weak(p, segment << count_bits | a, std::memory_order_relaxed,
                                            std::memory_order_relaxed)) {
                std::uint64_t const before = p >> count_bits;
                if (before / per_interval < segment / per_interval && segment - before <= per_interval)
                    learn_up(segment, p & count_mask);
                return a;
            }
        }
        return p & count_mask;
    }

    /// An interval has passed, and at its end `allowed` was in force. If that was used up, and nothing was refused for as long as the server
    /// remembers, there may be more to be had: an eighth until the first refusal, a 128th after it.
    void learn_up(std::uint64_t segment, std::uint64_t allowed) noexcept {
        if (segment < per_interval) return;
        if (counted(segment - per_interval, segment) * permit * 8 < allowed * 6) return;
        std::uint64_t seen = learned_.load(std::memory_order_relaxed);
        for (;;) {
            facts f = unpack_learned(seen);
            bool const cut = f.first_cut || f.growth_cut;
            if (cut && since(segment, f.cut) < std::uint64_t{per_interval} * options_.memory) return;
            if (allowed <= f.first) {
                f.first = (std::min)(f.first + f.first / (f.first_cut ? 128 : 8) + 1, options_.first_most * permit);
            } else {
                f.growth = (std::min)(f.growth + (f.growth - one) / (f.growth_cut ? 128 : 8) + 1,
                                    to_growth(options_.growth_most));
            }
            std::uint64_t const next = pack_learned(f);
            if (next == seen) return;
            if (learned_.compare_exchange_weak(seen, next, std::memory_order_relaxed, std::memory_order_relaxed))
                return;
        }
    }

    void count(std::uint64_t segment, permits n) noexcept {
        auto& slot = ring_[segment % ring_size];
        std::uint64_t w = slot.load(std::memory_order_relaxed);
        for (;;) {
            if (w >> count_bits > segment) return;  // long past
            std::uint64_t const old = w >> count_bits == segment ? w & count_mask : 0;
            std::uint64_t const next = segment << count_bits | (std::min)(old + n, count_mask);
            if (slot.compare_exchange_weak(w, next, std::memory_order_relaxed, std::memory_order_relaxed)) return;
        }
    }
    void uncount(std::uint64_t segment, permits n) noexcept {
        auto& slot = ring_[segment % ring_size];
        std::uint64_t w = slot.load(std::memory_order_relaxed);
        while (w >> count_bits == segment) {
            std::uint64_t const next = w - (std::min)(w & count_mask, n);
            if (slot.compare_exchange_weak(w, next, std::memory_order_relaxed, std::memory_order_relaxed)) return;
        }
    }

    decision attempt(permits n, time_point t, bool take) noexcept {
        decision d{this, t, n};
        if (n == 0) {
            d.granted_ = true;
            return d;
        }
        if (n > options_.first) {
            d.retry_at_ = (time_point::max)();
            return d;
        }
        std::uint64_t const at = since_origin(t);
        d.segment_ = at / length_;
        std::uint64_t const a = allowance(d.segment_);
        d.from_rest_ = a <= unpack_learned(learned_.load(std::memory_order_relaxed)).first;
        std::uint64_t const step = spacing(a);
        std::uint64_t tat = tat_.load(std::memory_order_relaxed);
        for (;;) {
            std::uint64_t const due = n == 1 || tat == 0 ? tat : tat + (n - 1) * step;
            if (due > at) {
                d.retry_at_ =
                    time_point{duration{weir::detail::saturating_add(origin_, static_cast<std::int64_t>(due))}};
                return d;
            }
            if (!take) break;
            std::uint64_t const next = (std::max)(tat, at > slack_ ? at - slack_ : 0) + n * step;
            if (tat_.compare_exchange_weak(tat, next, std::memory_order_relaxed, std::memory_order_relaxed)) {
                count(d.segment_, n);
                d.before_ = tat;
                d.after_ = next;
                d.live_.begin();
                break;
            }
        }
        d.granted_ = true;
        return d;
    }

    [[no_unique_address]] weir::detail::clock_box<Clock> clock_;
    ramp_options options_;
    std::int64_t origin_;
    std::uint64_t length_ = 1;  // of a segment, in ticks
    std::uint64_t slack_ = 0;
    std::uint64_t unit_ = 1;
    typename Atomics::template atomic<std::uint64_t> tat_{
        0};  // the next grant's earliest moment, in ticks since the origin
    typename Atomics::template atomic<std::uint64_t> plan_{0};  // segment and A
    typename Atomics::template atomic<std::uint64_t> learned_;
    typename Atomics::template atomic<std::uint64_t> ring_[ring_size]{};  // segment and count
};

/// What an attempt returned. It refers to its ramp, which must outlive it.
template <class Clock, class Atomics>
    requires clock<Clock>
class ramp<Clock, Atomics>::decision : public weir::detail::decision_head<time_point> {
    using head = weir::detail::decision_head<time_point>;
    friend class ramp;
    decision(ramp* r, time_point t, permits n) noexcept : head{t}, ramp_{r}, n_{n} {}

    ramp* ramp_;
    permits n_;
    std::uint64_t before_ = 0;
    std::uint64_t after_ = 0;
    std::uint64_t segment_ = 0;
    bool from_rest_ = false;
    weir::detail::live_once live_{};
};

ramp(ramp_options) -> ramp<std::chrono::steady_clock>;
template <class C>
    requires clock<C>
ramp(ramp_options, C&&) -> ramp<C>;

}  // namespace weir::inline v0

#pragma pop_macro("check")
