// SPDX-License-Identifier: MIT
//
// steady_clock with an upper bound of itself that costs one read of the processor's counter. What must be denied at the
// bound must be denied at the precise time too, so that most denials do not read the precise clock.
//
// The bound. An anchor is a pair (c, s): the counter is read first (c), then the base clock (s). So when the counter
// was at c, the base clock was at s or before. Let ρ be at least what the base clock ever gains per count. Then at a
// count x ≥ c the base clock is at s + ρ·(x − c) or before. With one ρ for all anchors, an anchor is one number, offset
// = s + slack − ⌊ρ·c⌋, and the bound is offset + ⌊ρ·x⌋. It is one word, so it cannot be torn.
//
// Assumptions:
// - Rate. The base clock may be slewed: on Linux by adjtimex (frequency ±500 ppm, adjtime ±500 ppm, tick ±10%), and the
//   kernel complains at 11% off the nominal rate. The calibration may happen at one end of that range, and the use at
//   the other: 1.11/0.89 < 1.25, so `margin_ppm` is 250,000 by default. A large margin costs little: an anchor is
//   renewed more often near the next grant, about log(wait/slack)/log(1 + 1/margin) times in a wait, 3 times in a
//   millisecond. A rate set by hand beyond that range needs a larger margin.
// - Reading. The counter may be read early by as much as a core runs ahead, e (its loads in flight; a fault would take
//   the read back). The counters of two cores may differ by d, less than a message takes: Linux checks it, or uses
//   another clock source; where the base clock is made from the counter, both differ alike. `slack` must be at least
//   3·(e + d); it is 10 µs by default. A count lasts from its value to the next one.
// - Continuity. If the counter stops or is set while the base clock runs on (a machine suspended, copied or migrated),
//   a bound may be too low until the anchor expires: after `max_age`, 10 ms of counting, or at once if the counter went
//   back.
//
// Protocol. An anchor is published in two words: offset_, then until_, the count at which it expires.
// (1) pairs with (2): a thread that sees an until_ sees that anchor's offset, or a newer one.
// (3) pairs with (4): a thread that sees an offset reads the counter after the anchor's reading.
// upper_bound_clock_model_test checks every interleaving. The thread that exchanges renew_at_ renews the anchor, at
// most once a period (40 µs by default), so the writes do not grow with the number of attempts or threads.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "../atomics.hpp"
#include "../detail/processor_counter.hpp"
#include "../detail/wide.hpp"
#include "../error.hpp"
#include "clock.hpp"

namespace weir::inline v0 {

/// The assumptions of the bound; see the head of this file.
struct upper_bound_clock_options {
    any_duration<> calibrate_for = std::chrono::milliseconds{20};  ///< asleep; if not positive: no counter, no bound
    std::int64_t margin_ppm = 250'000;                             ///< how much faster the base clock may run later
    any_duration<> slack = std::chrono::microseconds{10};          ///< error of one reading of the counter
    any_duration<> max_age = std::chrono::milliseconds{10};        ///< an anchor expires after this
};

/// now() is the base clock's. now_approx() costs one read of the counter and a multiplication, and is never before what
/// now() would return. It is time_point::max() where the bound is not known: without a reliable counter, or without a
/// fresh anchor (the next now() makes one).
///
///     weir::upper_bound_clock const clock;                                      // takes 20 ms, once
///     weir::token_bucket bucket{weir::rate{100, 1s}, 20, std::ref(clock)};
///
/// Time points are the base clock's. now() costs the base's read, a load and a comparison; once a period, a second
/// reading and three exchanges. Lock-free: if a thread stops while it renews the anchor, the old one stays valid, and
/// the next period's thread renews it.
template <class Base = std::chrono::steady_clock, class Counter = detail::processor_counter,
          class Atomics = std_atomics>
    requires clock<Base>
class alignas(detail::cache_line) basic_upper_bound_clock {
    using base_type = typename detail::clock_traits<Base>::type;

public:
    using duration = typename base_type::duration;
    using rep = typename duration::rep;
    using period = typename duration::period;
    using time_point = typename base_type::time_point;
    static constexpr bool is_steady = detail::is_steady<base_type>;
    static_assert(std::same_as<period, std::nano>, "a counter is calibrated in nanoseconds");

    /// Throws std::invalid_argument for what validate() names.
    explicit basic_upper_bound_clock(upper_bound_clock_options o = {})
        requires std::default_initializable<detail::clock_box<Base>>
        : basic_upper_bound_clock{o, detail::clock_box<Base>{}, Counter{}} {}
    template <class B>
        requires std::constructible_from<detail::clock_box<Base>, B&&>
    basic_upper_bound_clock(upper_bound_clock_options o, B&& base, Counter counter)
        : basic_upper_bound_clock{o, detail::clock_box<Base>{std::forward<B>(base)}, std::move(counter)} {}

    basic_upper_bound_clock(basic_upper_bound_clock const&) = delete;  // shared by reference: pass std::ref(clock)
    basic_upper_bound_clock& operator=(basic_upper_bound_clock const&) = delete;

    [[nodiscard("validate() only reports")]] static constexpr error validate(
        upper_bound_clock_options const& o) noexcept {
        if (o.margin_ppm < 0 || o.margin_ppm > 1'000'000) return {"margin_ppm must be from 0 to 1,000,000"};
        if (o.slack.count() < 0 || o.slack > std::chrono::seconds{1}) return {"slack must be from 0 to 1 s"};
        if (o.max_age.count() <= 0 || o.max_age > std::chrono::minutes{1})
            return {"max_age must be from 1 ns to 1 minute"};
        return {};
    }

    time_point now() const noexcept {
        time_point const t = base_.get().now();
        // Relaxed: it only decides which thread renews the anchor.
        std::int64_t due = renew_at_.load(std::memory_order_relaxed);
        if (detail::ticks(t) < due) [[likely]]
            return t;
        return renew(t, due);
    }

    time_point now_approx() const noexcept {
        if (rate_ == 0) [[unlikely]]
            return (time_point::max)();
        // (1) pairs with (2)
        std::uint64_t const until = until_.load(std::memory_order_acquire);
        // (3) pairs with (4)
        std::uint64_t const offset = offset_.load(std::memory_order_acquire);
        std::uint64_t const x = counter_.read() - origin_;
        // One comparison for both ends: the anchor has expired, or the counter is before it.
        if (until - x > valid_for_) [[unlikely]]
            return (time_point::max)();
        return time_point{duration{static_cast<rep>(offset + earned(x))}};
    }

    duration resolution() const noexcept { return resolution_of(base_.get()); }

    /// False without a reliable counter: now_approx() is then always time_point::max().
    bool uses_counter() const noexcept { return rate_ != 0; }

    /// See weir::wait_until. Where the base clock has a way of its own to wait, this clock waits in that way.
    template <class Parker>
    bool wait_until(Parker& p, time_point t) const
        requires requires(base_type const& c) { c.wait_until(p, t); }
    {
        return base_.get().wait_until(p, t);
    }

private:
    static constexpr std::int64_t never = (std::numeric_limits<std::int64_t>::max)();

    basic_upper_bound_clock(upper_bound_clock_options const& o, detail::clock_box<Base> base, Counter counter)
        : renew_at_{never}, base_{std::move(base)}, counter_{std::move(counter)} {
        detail::ensure(validate(o));
        detail::calibration const c = counter_.calibrate(o.calibrate_for);
        if (c.scale <= 0) return;
        auto const scale = static_cast<std::uint64_t>(c.scale);
        auto const per_billion = 1'000'000'000U + static_cast<std::uint64_t>(o.margin_ppm * 1000 + c.error_ppb);
        constexpr std::uint64_t one = std::uint64_t{1} << detail::calibration::fraction_bits;
        rate_ = detail::mul_div_ceil(scale + 1, per_billion, 1'000'000'000U);  // + 1: the scale was rounded down
        valid_for_ = detail::mul_div_floor(static_cast<std::uint64_t>(o.max_age.count()), one, rate_);
        // One count more: the anchor's count began before it was read, and the last one ends after. And ⌊ρ·x⌋ rounds
        // down.
        slack_ = static_cast<std::uint64_t>(o.slack.count()) + (rate_ >> detail::calibration::fraction_bits) + 2;
        // For so long the margin adds less to the bound than the slack does.
        std::int64_t const cheap = o.margin_ppm == 0 ? never / 2 : o.slack.count() * 1'000'000 / o.margin_ppm;
        std::int64_t const max_period = o.max_age.count() / 2;
        std::int64_t const min_period = o.max_age.count() / 1024;
        period_ = cheap > max_period ? max_period : cheap < min_period ? min_period : cheap;
        origin_ = counter_.read();
        renew_at_.exchange((std::numeric_limits<std::int64_t>::min)(), std::memory_order_relaxed);
        static_cast<void>(now());
    }

    /// ⌊ρ·x⌋ modulo 2^64. Offsets are differences from it, so that the lost bits cancel.
    std::uint64_t earned(std::uint64_t x) const noexcept {
        constexpr unsigned shift = detail::calibration::fraction_bits;
        detail::u128 const p = detail::mul(x, rate_);
        return (p.hi << (64 - shift)) | (p.lo >> shift);
    }

    [[gnu::__noinline__, gnu::__cold__]] time_point renew(time_point t, std::int64_t due) const noexcept {
        // Relaxed: it decides which thread renews, and publishes nothing.
        if (!renew_at_.compare_exchange_strong(due, detail::saturating_add(detail::ticks(t), period_),
                                               std::memory_order_relaxed, std::memory_order_relaxed)) {
            return t;
        }
        // (3) pairs with (4). If another thread replaces it meanwhile, its anchor is no older, and this one is dropped.
        std::uint64_t offset = offset_.load(std::memory_order_acquire);
        std::uint64_t const x = counter_.read() - origin_;
        time_point const s = base_.get().now();
        if (x >> 63U) return s;  // the counter was set back to before the origin: no bound until it is past it
        std::uint64_t const next = static_cast<std::uint64_t>(detail::ticks(s)) + slack_ - earned(x);
        // (4) pairs with (3)
        if (!offset_.compare_exchange_strong(offset, next, std::memory_order_release, std::memory_order_relaxed))
            return s;
        std::uint64_t const until = x + valid_for_;
        std::uint64_t old = until_.load(std::memory_order_relaxed);
        // (2) pairs with (1). It rises, and falls if the counter was set back.
        while (old - until > valid_for_ &&
               !until_.compare_exchange_weak(old, until, std::memory_order_release, std::memory_order_relaxed)) {
        }
        return s;
    }

    // Read by every attempt, written at most once a period.
    mutable typename Atomics::template atomic<std::uint64_t> offset_{0};
    mutable typename Atomics::template atomic<std::uint64_t> until_{0};
    mutable typename Atomics::template atomic<std::int64_t> renew_at_;
    std::uint64_t rate_ = 0;  // ρ: nanoseconds per count, times 2^40; 0 without a counter
    std::uint64_t origin_ = 0;
    std::uint64_t valid_for_ = 0;
    std::uint64_t slack_ = 0;
    std::int64_t period_ = 0;
    [[no_unique_address]] detail::clock_box<Base> base_;
    [[no_unique_address]] Counter counter_;
};

using upper_bound_clock = basic_upper_bound_clock<>;

}  // namespace weir::inline v0
