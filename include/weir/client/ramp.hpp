// SPDX-License-Identifier: MIT
//
// ramp: a limiter that grows smoothly from rest, for servers with burst protection ("request rate increased too
// quickly") whose threshold varies and is not published. Its model of the server: a request is refused if the requests
// of the last interval would exceed max(first, growth × their mean per interval over the memory). The ramp keeps to
// this rule with its own `first` and `growth`, and learns both: a burst verdict lowers the one that was in force,
// intervals at the limit without a verdict raise it.
//
// Why it is not refused. Grants are spaced by d = (interval + slack + jitter)/A, and may catch up by at most `slack`.
// So n requests that arrive within an interval satisfy (n − 1)·d < interval + slack + jitter, that is n ≤ ⌈A⌉. A is
// max(first, growth × mean). The mean is taken over closed segments of an eighth of an interval, without those that
// leave the server's memory before an interval has passed. So whenever the server looks, its memory contains everything
// that A was derived from, and its mean is at least ours. If `first` and `growth` are at most the server's, what
// remains is the rounding up of A, less than one request. A count that a slow thread adds late makes A smaller.
//
// What it costs. The segments left out are 9 of 8·memory, and the slack is a sixteenth: of a server's growth g it uses
// about 0.83·g (memory 10), so it needs a g above 1.2 to climb at all. docs/adaptive.md compares it with the ideal.
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
#include "../detail/blocking.hpp"
#include "../detail/decision_head.hpp"
#include "../error.hpp"
#include "../limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

struct ramp_options {
    any_duration<> interval{std::chrono::seconds{1}};  ///< in which the server counts
    std::uint32_t memory = 10;                         ///< intervals of the mean: 3 to 15
    permit_count first = 2;                            ///< permits in an interval, from rest
    permit_count max_first = 64;                       ///< `first` is never learned above this
    std::uint32_t growth = 150;                        ///< per cent of the mean
    std::uint32_t max_growth = 400;                    ///< `growth` is never learned above this
    any_duration<> jitter{};                           ///< range of the delay from time point to arrival
};

/// A limiter for requests, in addition to a quota_limiter or in an all_of with any limiter. A permit is a request.
///
///     weir::ramp ramp{weir::ramp_options{}};
///     auto d = ramp.acquire(1);
///     if (verdict_of(call()).cause == cause::burst) ramp.burst(d);
///
/// At rest it saves up no more than a sixteenth of an interval. Several permits at once are granted after as long a gap
/// as they would have taken one by one; more than `first` of them never.
/// State: one word for spacing, one for A in this segment, one for what was learned, and a ring of counts (1 KiB).
/// Lock-free. A grant is two exchanges, and a third once a segment; a denial and a check write nothing.
/// Memory order: relaxed throughout, since each word is used on its own. Do not publish other data through it.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(weir::detail::cache_line) ramp : public weir::detail::blocking<ramp<Clock, Atomics>> {
public:
    using clock_type = typename weir::detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    using amount = permit_count;
    class decision;

    /// What it has learned, rounded down, and what `change` takes.
    struct limits_type {
        permit_count first;
        std::uint32_t growth;  ///< per cent

        friend constexpr bool operator==(limits_type const&, limits_type const&) = default;
    };

    /// Throws std::invalid_argument for what `validate` names.
    explicit ramp(ramp_options const& o = {})
        requires(!std::is_reference_v<Clock>)
        : ramp{o, Clock{}} {}
    explicit ramp(ramp_options const& o, Clock c) : ramp{o, time_point{c.now()}, static_cast<Clock&&>(c)} {}
    /// The same, with the instant at which it begins.
    explicit ramp(ramp_options const& o, time_point origin, Clock c)
        : clock_{static_cast<Clock&&>(c)},
          options_{o},
          first_{weir::detail::to<std::uint32_t>(o.first.value() & first_mask)},
          max_first_{weir::detail::to<std::uint32_t>(o.max_first.value() & first_mask)},
          origin_{weir::detail::ticks(origin)},
          learned_{pack_learned({first_ * permit, to_growth(o.growth), 0, false, false})} {
        weir::detail::ensure(validate(o, resolution_of(clock_.get())));
        std::int64_t const whole = std::chrono::ceil<duration>(o.interval).count();
        length_ = static_cast<std::uint64_t>(whole) / per_interval;
        slack_ = length_ / 2;
        unit_ = static_cast<std::uint64_t>(whole) + slack_ +
                static_cast<std::uint64_t>(std::chrono::ceil<duration>(o.jitter).count());
        plan_.fetch_add(first_ * permit, std::memory_order_relaxed);
    }
    ramp(ramp const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    ramp& operator=(ramp const&) = delete;

    [[nodiscard("validate only reports")]] static constexpr error validate(ramp_options const& o,
                                                                           duration resolution = duration{1}) noexcept {
        if (o.interval <= o.interval.zero() || o.interval > std::chrono::hours{1})
            return {"interval must be positive and at most 1 hour"};
        if (std::chrono::floor<duration>(o.interval) < 64 * (std::max)(resolution, duration{1}))
            return {"interval must be at least 64 steps of the clock"};
        if (o.memory < 3 || o.memory > 15) return {"memory must be from 3 to 15 intervals"};
        if (o.first.invalid() || o.max_first.invalid()) return {"the number of permits must not be negative"};
        if (o.first == 0U) return {"first must be at least 1"};
        if (o.max_first < o.first || o.max_first > 50'000U) return {"max_first must be from first to 50,000"};
        if (o.growth < 125) return {"growth must be at least 125 per cent"};
        if (o.max_growth < o.growth || o.max_growth > 6'000)
            return {"max_growth must be from growth to 6,000 per cent"};
        if (o.jitter < o.jitter.zero() || o.jitter > std::chrono::hours{1}) return {"jitter must be from 0 to 1 hour"};
        return {};
    }
    /// A ramp, or the reason why there is none. Arguments as the constructors'.
    template <class... Rest>
    [[nodiscard("make returns the ramp")]] static result<ramp> make(ramp_options const& o, Rest&&... rest) {
        if (auto e = validate(o, weir::detail::resolution_among<Clock>(rest...))) return e;
        return result<ramp>{std::in_place, o, std::forward<Rest>(rest)...};
    }

    /// Takes n permits if the spacing allows it, else nothing. O(1); once a segment O(memory).
    [[nodiscard("a dropped decision limits nothing")]] decision try_acquire(permit_count n = 1) noexcept {
        return try_acquire(n, clock_.get().now());
    }
    [[nodiscard("a dropped decision limits nothing")]] decision try_acquire(permit_count n, time_point t) noexcept {
        decision d = attempt(n, t);
        if (!d.granted_ || n == 0U) return d;
        std::uint64_t const at = since_origin(t);
        std::uint64_t const segment = at / length_;
        while (!tat_.compare_exchange_weak(d.before_, d.after_, std::memory_order_relaxed, std::memory_order_relaxed)) {
            d = attempt(n, t);
            if (!d.granted_) return d;
        }
        publish(segment);
        count(segment, n);
        d.live_ = weir::detail::live_permits{n};
        return d;
    }
    /// What try_acquire would answer. Takes nothing, and changes nothing.
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n = 1) const noexcept {
        return check(n, clock_.get().now());
    }
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n, time_point t) const noexcept {
        return attempt(n, t);
    }

    /// The request never left: it no longer counts, and if no other call has taken since, the next grant is as early as
    /// before. Or k of its permits. Once; returns what was given back.
    permits refund(decision& d) noexcept { return refund(d, d.live_.count()); }
    permits refund(decision& d, permit_count k) noexcept {
        if (d.ramp_ != this || k.invalid()) return 0;
        permits const back = d.live_.take(k);
        if (back == 0) return 0;
        if (back == d.n_) {
            // tat_ falls only from a receipt's after_ to its before_, so no two live receipts end at one value.
            std::uint64_t expected = d.after_;
            tat_.compare_exchange_strong(expected, d.before_, std::memory_order_relaxed, std::memory_order_relaxed);
        }
        uncount(segment_of(d.at_), back);
        return back;
    }

    /// Corrects a grant to the requests actually sent, once. Fewer: the rest is refunded. More: they count, and delay
    /// the next grants; more than 100,000 count as so many.
    [[nodiscard("false says that the decision was settled or refunded before")]] bool settle(
        decision& d, permit_count actual) noexcept {
        if (d.ramp_ != this || actual.invalid() || d.live_.count() == 0) return false;
        permits const live = d.live_.count();
        if (actual < live) {
            refund(d, live - actual);
        } else if (actual > live) {
            permits const more = (std::min<permits>)(actual - live, 100'000);
            tat_.fetch_add(more * d.step(), std::memory_order_relaxed);
            count(segment_of(d.at_), more);
        }
        d.live_.take_all();
        return true;
    }

    /// Burst protection refused what `d` granted. The server did not count it, so the ramp does not either. Lowers what
    /// was in force by a quarter, once an interval however many verdicts come. Once for each decision.
    bool burst(decision& d) noexcept { return burst(d, clock_.get().now()); }
    bool burst(decision& d, time_point now) noexcept {
        if (d.ramp_ != this) return false;
        permits const live = d.live_.take_all();
        if (live == 0) return false;
        uncount(segment_of(d.at_), live);
        std::uint64_t const at = segment_of(now);
        std::uint64_t seen = learned_.load(std::memory_order_relaxed);
        for (;;) {
            facts f = unpack_learned(seen);
            if ((f.first_cut || f.growth_cut) && since(at, f.cut) < per_interval) return true;
            if (d.from_rest_) {
                f.first = (std::max)(f.first - f.first / 4, permit);
                f.first_cut = true;
            } else {
                f.growth = (std::max)(one + (f.growth - one) * 3 / 4, min_growth);
                f.growth_cut = true;
            }
            f.cut = at & cut_mask;
            if (learned_.compare_exchange_weak(seen, pack_learned(f), std::memory_order_relaxed,
                                               std::memory_order_relaxed))
                return true;
        }
    }

    /// How many permits can be taken at once.
    permits available() const noexcept { return available(clock_.get().now()); }
    permits available(time_point t) const noexcept { return attempt(0, t).remaining(); }

    /// Replaces what was learned, from the next segment on. Errors, with nothing changed: what the options do not
    /// allow.
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l) noexcept {
        return change(l, clock_.get().now());
    }
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l, time_point) noexcept {
        if (l.first == 0U || l.first > max_first_) return {"first must be from 1 to max_first"};
        if (l.growth < 125 || l.growth > options_.max_growth) return {"growth must be from 125 to max_growth per cent"};
        std::uint64_t seen = learned_.load(std::memory_order_relaxed);
        while (l != limits_of(seen)) {
            facts const f{weir::detail::to<std::uint32_t>(l.first.value() & first_mask) * permit, to_growth(l.growth),
                          0, false, false};
            if (learned_.compare_exchange_weak(seen, pack_learned(f), std::memory_order_relaxed,
                                               std::memory_order_relaxed))
                break;
        }
        return {};
    }
    limits_type limits() const noexcept { return limits_of(learned_.load(std::memory_order_relaxed)); }

    /// Permits per interval that are allowed at t, rounded down.
    permits current(time_point t) const noexcept { return allowance(segment_of(t)) / permit; }
    permits first() const noexcept { return limits().first; }
    std::uint32_t growth() const noexcept { return limits().growth; }

    clock_type const& clock() const noexcept { return clock_.get(); }

private:
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t per_interval = 8;  // segments
    static constexpr std::size_t ring_size = 128;  // a power of 2 above per_interval·15
    static constexpr unsigned count_bits = 30;     // the other 34 number an eighth of a second for 68 years
    [[gnu::__visibility__("hidden")]] static constexpr std::uint64_t count_mask = (std::uint64_t{1} << count_bits) - 1;
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t permit =
        256;  // permits per interval are kept in 256ths
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t one = 1024;  // growth in 1024ths
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t min_growth = one + one / 4;
    static constexpr std::uint64_t first_mask = 0xffff;  // 50,000 at most
    static constexpr std::uint64_t cut_mask = (std::uint64_t{1} << 22U) - 1;

    static constexpr limits_type limits_of(std::uint64_t learned) noexcept {
        facts const f = unpack_learned(learned);
        // Rounded to the nearest, so that what was set is what is read.
        return {f.first / permit, (f.growth * 100 + one / 2) / one};
    }
    static constexpr std::uint32_t to_growth(std::uint32_t percent) noexcept { return percent * one / 100; }

    /// What was learned, in one word: 24 bits of first, 16 of growth, 22 of the segment of the last cut, 1 + 1 for
    /// whether there was one.
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

    /// The count of the segments in [from, until). Counts that are added late are missed, which errs on the safe side.
    std::uint64_t counted(std::uint64_t from, std::uint64_t until) const noexcept {
        std::uint64_t sum = 0;
        for (std::uint64_t s = from; s < until; ++s) {
            std::uint64_t const w = ring_[s % ring_size].load(std::memory_order_relaxed);
            if (w >> count_bits == s) sum += w & count_mask;
        }
        return sum;
    }

    /// A in 256ths, for a segment: what was published for it or for a later one, else computed.
    std::uint64_t allowance(std::uint64_t segment) const noexcept {
        std::uint64_t const p = plan_.load(std::memory_order_relaxed);
        return p >> count_bits < segment ? computed(segment) : p & count_mask;
    }
    std::uint64_t computed(std::uint64_t segment) const noexcept {
        std::uint64_t const kept = std::uint64_t{per_interval} * options_.memory - per_interval - 1;
        std::uint64_t const sum = counted(segment > kept ? segment - kept : 0, segment);
        facts const f = unpack_learned(learned_.load(std::memory_order_relaxed));
        // sum < 2^37, growth < 2^16.
        std::uint64_t const grown = sum * f.growth / options_.memory * permit / one;
        return (std::min<std::uint64_t>)((std::max<std::uint64_t>)(f.first, grown), count_mask);
    }

    /// The first grant of a segment fixes A for the segment, and learns from the interval that has passed.
    void publish(std::uint64_t segment) noexcept {
        std::uint64_t p = plan_.load(std::memory_order_relaxed);
        while (p >> count_bits < segment) {
            if (plan_.compare_exchange_weak(p, segment << count_bits | computed(segment), std::memory_order_relaxed,
                                            std::memory_order_relaxed)) {
                std::uint64_t const before = p >> count_bits;
                if (before / per_interval < segment / per_interval && segment - before <= 2 * per_interval)
                    learn_up(before, segment, p & count_mask);
                return;
            }
        }
    }

    /// An interval has passed, in which `allowed` was in force at the last grant. If that was used up, and nothing was
    /// refused for as long as the server remembers, more may be allowed: an eighth before the first refusal, a 128th
    /// after it.
    void learn_up(std::uint64_t before, std::uint64_t segment, std::uint64_t allowed) noexcept {
        if (segment < per_interval) return;
        if (counted((std::min)(before, segment - per_interval), segment) * permit * 8 < allowed * 6) return;
        std::uint64_t seen = learned_.load(std::memory_order_relaxed);
        for (;;) {
            facts f = unpack_learned(seen);
            bool const cut = f.first_cut || f.growth_cut;
            if (cut && since(segment, f.cut) < std::uint64_t{per_interval} * options_.memory) return;
            if (allowed <= f.first) {
                f.first = (std::min)(f.first + f.first / (f.first_cut ? 128 : 8) + 1, max_first_ * permit);
            } else {
                f.growth = (std::min)(f.growth + (f.growth - one) / (f.growth_cut ? 128 : 8) + 1,
                                      to_growth(options_.max_growth));
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
            if (w >> count_bits > segment) return;  // the ring has moved on
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

    /// The answer at t, and, if it is granted, the exchange of tat_ that would take it.
    decision attempt(permit_count n, time_point t) const noexcept {
        std::uint64_t const tat = tat_.load(std::memory_order_relaxed);
        std::uint64_t const at = since_origin(t);
        decision d{this, t, n};
        d.before_ = tat;
        if (n > first_) {
            d.retry_at_ = (time_point::max)();
            d.after_ = spacing(allowance(at / length_));
            return d;
        }
        std::uint64_t const a = allowance(at / length_);
        d.from_rest_ = a <= unpack_learned(learned_.load(std::memory_order_relaxed)).first;
        std::uint64_t const step = spacing(a);
        std::uint64_t const due = n <= 1U || tat == 0 ? tat : tat + (n - 1) * step;
        if (n != 0U && due > at) {
            d.retry_at_ = point(due);
            d.after_ = step;
            return d;
        }
        d.granted_ = true;
        d.after_ = n == 0U ? step : (std::max)(tat, at > slack_ ? at - slack_ : 0) + n * step;
        return d;
    }
    time_point point(std::uint64_t since_origin) const noexcept {
        return time_point{duration{weir::detail::to<typename duration::rep>(weir::detail::saturating_add(
            origin_, static_cast<std::int64_t>(since_origin & ~(std::uint64_t{1} << 63U))))}};
    }

    [[no_unique_address]] weir::detail::clock_box<Clock> clock_;
    ramp_options options_;
    std::uint32_t first_;
    std::uint32_t max_first_;
    std::int64_t origin_;
    std::uint64_t length_ = 1;  // of a segment, in ticks
    std::uint64_t slack_ = 0;
    std::uint64_t unit_ = 1;
    // The earliest time of the next grant, in ticks since the origin; 0 until the first one.
    typename Atomics::template atomic<std::uint64_t> tat_{0};
    typename Atomics::template atomic<std::uint64_t> plan_{0};  // segment and A
    typename Atomics::template atomic<std::uint64_t> learned_;
    typename Atomics::template atomic<std::uint64_t> ring_[ring_size]{};  // segment and count
};

/// What an attempt returned, and, when granted, the receipt by which it is refunded, settled or reported as refused.
/// A snapshot. It refers to its ramp, which must outlive it.
template <class Clock, class Atomics>
    requires clock<Clock>
class [[nodiscard("a dropped decision limits nothing")]] ramp<Clock, Atomics>::decision
    : public weir::detail::decision_head<time_point> {
    using head = weir::detail::decision_head<time_point>;

public:
    weir::error error() const noexcept { return head::never() ? weir::detail::never_granted(n_) : weir::error{}; }
    /// Permits that could be taken at once just after the attempt.
    permits remaining() const noexcept {
        std::uint64_t const at = ramp_->since_origin(head::at_);
        std::uint64_t const tat = left();
        if (tat == 0) return ramp_->first_;
        return tat > at ? 0 : (std::min<std::uint64_t>)((at - tat) / step() + 1, ramp_->first_);
    }
    /// When `first` permits can be taken at once, if no call takes any.
    time_point full_at() const noexcept {
        std::uint64_t const tat = left();
        std::uint64_t const full = tat == 0 ? 0 : tat + (ramp_->first_ - 1) * step();
        return full <= ramp_->since_origin(head::at_) ? head::at_ : ramp_->point(full);
    }

private:
    friend class ramp;
    decision(ramp const* r, time_point t, permit_count n) noexcept : head{t}, ramp_{r}, n_{n} {}

    // A grant of permits has the new tat_ in after_. Any other decision has the spacing there.
    bool took() const noexcept { return head::granted_ && n_ != 0; }
    std::uint64_t left() const noexcept { return took() ? after_ : before_; }
    std::uint64_t step() const noexcept {
        if (!took()) return after_;
        std::uint64_t const at = ramp_->since_origin(head::at_);
        return (after_ - (std::max)(before_, at > ramp_->slack_ ? at - ramp_->slack_ : 0)) / n_;
    }

    ramp const* ramp_;
    permits n_;
    weir::detail::live_permits live_{};
    std::uint64_t before_ = 0;
    std::uint64_t after_ = 0;
    bool from_rest_ = false;
};

ramp(ramp_options) -> ramp<std::chrono::steady_clock>;
template <weir::detail::clock_or_reference C>
ramp(ramp_options, C) -> ramp<weir::detail::clock_argument_t<C>>;
template <weir::detail::clock_or_reference C>
ramp(ramp_options, typename std::remove_cvref_t<weir::detail::clock_argument_t<C>>::time_point, C)
    -> ramp<weir::detail::clock_argument_t<C>>;

static_assert(limiter<ramp<>>);

}  // namespace weir::inline v0

#pragma pop_macro("check")
