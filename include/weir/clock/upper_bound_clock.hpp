// SPDX-License-Identifier: MIT
//
// steady_clock, with a bound of it for the price of one read of the processor's counter: what must be refused at the
// bound must be refused at the precise time too, so a refusal seldom reads the precise clock.
//
// The bound. An anchor is a pair (c, s): the counter, read first, and then the base clock; so when the counter stood at
// c, the base clock stood at s or before. Let ρ be no less than what the base clock ever gains per count. Then, at a
// count x ≥ c, the base clock stands at s + ρ·(x − c) or before. With one ρ for all, the anchor is one number, offset =
// s + slack − ⌊ρ·c⌋, and the bound is offset + ⌊ρ·x⌋: one word, which cannot be torn.
//
// What it rests on:
// - Rate. The base clock may be slewed: on Linux by adjtimex (frequency ±500 ppm, adjtime ±500 ppm, tick ±10%), and at
//   11% off its nominal speed the kernel complains. The calibration may have been made at one end and the bound be used
//   at the other: 1.11/0.89 < 1.25, so `margin_ppm` is 250,000 by default. A generous margin costs little: the nearer
//   the instant of the next grant, the more often an anchor is renewed, about log(wait/slack)/log(1 + 1/margin) times
//   in a wait, 3 in a millisecond. A phase set by hand beyond that needs a larger one.
// - Reading. The counter may be read early by as much as a core runs ahead, e (its loads in flight; a fault would take
//   the read back), and the counters of two cores may differ by d, less than a message takes (Linux checks it, or uses
//   another clock; where the clock is made from the counter, they differ alike). `slack` covers it: 10 µs by default,
//   3·(e + d) is needed. A count is taken to last from its value to the next.
// - Continuity. Where the counter stops or is set while the base clock runs on (a machine suspended, copied, or moved),
//   a bound may be too low until the anchor is void: after `max_age`, 10 ms of counting, or at once when the counter
//   has gone back.
//
// Publication: `offset_`, then `until_`, the count at which it is void. Who sees an `until_` sees its offset or a newer
// one (1, 2), and reads the counter after the anchor's reading (3, 4); bounded_clock_model_test has every interleaving.
// An anchor is renewed by who claims `renew_at_`, once a period (40 µs by default) at most: so what is written does not
// grow with the number of attempts or threads.
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

/// What a upper_bound_clock's bound is to hold for; see the head of this file.
struct upper_bound_clock_options {
    std::chrono::nanoseconds calibrate_for =
        std::chrono::milliseconds{20};  ///< asleep; not positive: no counter, no bound
    std::int64_t margin_ppm = 250'000;  ///< how much faster than calibrated the base clock may run
    std::chrono::nanoseconds slack = std::chrono::microseconds{10};
    std::chrono::nanoseconds max_age = std::chrono::milliseconds{10};
};

/// A clock whose now() is the base's, and whose now_approx() costs one read of the counter and a multiplication, and is no
/// earlier than what now() would be; time_point::max() where that is not known (no counter to rely on, or no fresh
/// anchor: the next now() makes one). Limiters refer to it: it is neither copied nor moved.
///
///     weir::upper_bound_clock const clock;                     // takes 20 ms, once
///     weir::token_bucket bucket{weir::rate{100, 1s}, 20, clock};
///
/// Time points are steady_clock's. Cost of now(): the base's, a load and a comparison; seldom a second reading and
/// three exchanges. Lock-free: a thread that stops while it renews an anchor leaves the old one, and the next period's
/// claimer renews.
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

    explicit basic_upper_bound_clock(upper_bound_clock_options o = {})
        requires std::default_initializable<detail::clock_box<Base>>
        : basic_upper_bound_clock{o, detail::clock_box<Base>{}, Counter{}} {}
    template <class B>
        requires std::constructible_from<detail::clock_box<Base>, B&&>
    basic_upper_bound_clock(upper_bound_clock_options o, B&& base, Counter counter)
        : basic_upper_bound_clock{o, detail::clock_box<Base>{std::forward<B>(base)}, std::move(counter)} {}

    basic_upper_bound_clock(basic_upper_bound_clock const&) = delete;
    basic_upper_bound_clock& operator=(basic_upper_bound_clock const&) = delete;

    static constexpr error validate(upper_bound_clock_options const& o) noexcept {
        if (o.margin_ppm < 0 || o.margin_ppm > 1'000'000) return {"a margin is from 0 to 1,000,000 ppm"};
        if (o.slack.count() < 0 || o.slack > std::chrono::seconds{1}) return {"a slack is from nothing to a second"};
        if (o.max_age.count() <= 0 || o.max_age > std::chrono::minutes{1})
            return {"an anchor's age is from 1 ns to a minute"};
        return {};
    }

    time_point now() const noexcept {
        time_point const t = base_.get().now();
        // Relaxed: a hint of whose turn it is.
        std::int64_t due = renew_at_.load(std::memory_order_relaxed);
        if (detail::ticks(t) < due) [[likely]]
            return t;
        return renew(t, due);
    }

    time_point now_approx() const noexcept {
        if (rate_ == 0) [[unlikely]]
            return (time_point::max)();
        // (1) - this acquire-load synchronizes-with the release-CAS (2): the offset is that anchor's or a newer one's
        std::uint64_t const until = until_.load(std::memory_order_acquire);
        // (3) - this acquire-load synchronizes-with the release-CAS (4): the counter is read after the anchor's was
        std::uint64_t const offset = offset_.load(std::memory_order_acquire);
        std::uint64_t const x = counter_.read() - origin_;
        // One comparison for both ends: the anchor is void, or the counter stands before it.
        if (until - x > valid_for_) [[unlikely]]
            return (time_point::max)();
        return time_point{duration{static_cast<rep>(offset + earned(x))}};
    }

    duration resolution() const noexcept { return resolution_of(base_.get()); }

    /// False where there is no counter to rely on: then now_approx() never knows.
    bool uses_counter() const noexcept { return rate_ != 0; }

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
        rate_ = detail::mul_div_ceil(scale + 1, per_billion, 1'000'000'000U);  // the scale was rounded down
        valid_for_ = detail::mul_div_floor(static_cast<std::uint64_t>(o.max_age.count()), one, rate_);
        // The count at the anchor began before its value was read, this one ends after: one more. And ⌊ρx⌋ is rounded down.
        slack_ = static_cast<std::uint64_t>(o.slack.count()) + (rate_ >> detail::calibration::fraction_bits) + 2;
        // Until then the margin costs less than the slack does.
        std::int64_t const cheap = o.margin_ppm == 0 ? never / 2 : o.slack.count() * 1'000'000 / o.margin_ppm;
        std::int64_t const most = o.max_age.count() / 2;
        std::int64_t const least = o.max_age.count() / 1024;
        period_ = cheap > most ? most : cheap < least ? least : cheap;
        origin_ = counter_.read();
        renew_at_.exchange((std::numeric_limits<std::int64_t>::min)(), std::memory_order_relaxed);
        static_cast<void>(now());
    }

    /// ⌊ρ·x⌋. Offsets are differences to it, right in the 64 bits that are kept.
    std::uint64_t earned(std::uint64_t x) const noexcept {
        constexpr unsigned shift = detail::calibration::fraction_bits;
        detail::u128 const p = detail::mul(x, rate_);
        return (p.hi << (64 - shift)) | (p.lo >> shift);
    }

    [[gnu::__noinline__, gnu::__cold__]] time_point renew(time_point t, std::int64_t due) const noexcept {
        // Relaxed: it decides who, and publishes nothing.
        if (!renew_at_.compare_exchange_strong(due, detail::saturating_add(detail::ticks(t), period_),
                                               std::memory_order_relaxed, std::memory_order_relaxed)) {
            return t;
        }
        // (3) - likewise. If it is replaced meanwhile, by an anchor no older, this one is dropped.
        std::uint64_t offset = offset_.load(std::memory_order_acquire);
        std::uint64_t const x = counter_.read() - origin_;
        time_point const s = base_.get().now();
        if (x >> 63U) return s;  // set back to before the origin: no bound until it is there again
        std::uint64_t const next = static_cast<std::uint64_t>(detail::ticks(s)) + slack_ - earned(x);
        // (4) - this release-CAS synchronizes-with the acquire-loads (3)
        if (!offset_.compare_exchange_strong(offset, next, std::memory_order_release, std::memory_order_relaxed))
            return s;
        std::uint64_t const until = x + valid_for_;
        std::uint64_t old = until_.load(std::memory_order_relaxed);
        // (2) - this release-CAS synchronizes-with the acquire-load (1). It rises, and falls where the counter was set back.
        while (old - until > valid_for_ &&
               !until_.compare_exchange_weak(old, until, std::memory_order_release, std::memory_order_relaxed)) {
        }
        return s;
    }

    // Read by every attempt, written once a period.
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
