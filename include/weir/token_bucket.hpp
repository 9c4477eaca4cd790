// SPDX-License-Identifier: MIT
//
// token_bucket: permits flow in at a rate, up to a burst; an attempt takes n of them or is denied.
//
// Promise: in any interval of length T at most burst + rate·T permits are granted, exactly, for 30 years from
// construction, whatever the threads do. Times are the ones that the attempts were made with. (Proof: detail/gcra.hpp.)
// State: one 64-bit word. Lock-free: every verb but `change`, which excludes other changers, and only them.
#pragma once

#include <chrono>
#include <cstdint>
#include <utility>

#include "atomics.hpp"
#include "clock/clock.hpp"
#include "detail/blocking.hpp"
#include "detail/gcra.hpp"
#include "detail/gcra_limiter.hpp"
#include "error.hpp"
#include "limiter.hpp"
#include "rate.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

struct token_bucket_options {
    /// Permits that are available at the start; more than the burst are the burst.
    permit_count initial = all_permits;
};

/// A token bucket on one word. `Clock` may be a reference type: the clock is then referred to and must outlive the
/// bucket.
///
///     weir::token_bucket bucket{weir::rate{100, 1s}, 20};
///     if (auto d = bucket.try_acquire()) serve(); else answer_429(d.retry_after_seconds());
///
/// Time points before the origin count as the origin. Time points ahead of the clock are trusted, and deny others until
/// the clock catches up; refunds are right only where no time point is ahead of the clock.
/// Memory order: an attempt orders nothing but the bucket's own word; do not publish other data through it.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(detail::cache_line) token_bucket : private detail::gcra_limiter<Clock, Atomics>,
                                                 public detail::blocking<token_bucket<Clock, Atomics>> {
    using base = detail::gcra_limiter<Clock, Atomics>;
    using base::since_origin;
    using base::state_;

public:
    using clock_type = std::remove_cvref_t<Clock>;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    using amount = permit_count;
    class decision;
    class reservation;

    /// What `change` takes.
    struct limits_type {
        weir::rate rate;
        permit_count burst;

        friend constexpr bool operator==(limits_type const&, limits_type const&) = default;
    };

    /// At most `burst` permits at once, `r` in the long run. Throws std::invalid_argument for what `validate` names.
    constexpr explicit token_bucket(rate r, permit_count burst, token_bucket_options const& o = {})
        requires(!std::is_reference_v<Clock>)
        : token_bucket{r, burst, o, Clock{}} {}
    constexpr explicit token_bucket(rate r, permit_count burst, Clock c)
        : token_bucket{r, burst, token_bucket_options{}, static_cast<Clock&&>(c)} {}
    constexpr explicit token_bucket(rate r, permit_count burst, token_bucket_options const& o, Clock c)
        : token_bucket{r, burst, o, time_point{c.now()}, static_cast<Clock&&>(c)} {}
    /// The same, with the instant at which it begins.
    constexpr explicit token_bucket(rate r, permit_count burst, token_bucket_options const& o, time_point origin,
                                    Clock c)
        : base{prepared(r, burst, o, c), o.initial, origin, static_cast<Clock&&>(c)} {}

    token_bucket(permit_count, rate) = delete;   // the rate comes first: token_bucket{rate, burst}
    token_bucket(token_bucket const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    token_bucket& operator=(token_bucket const&) = delete;

    /// What is wrong with these arguments: a burst of 0; a rate and burst that 30 years cannot count; a clock so coarse
    /// that one step of it earns more than the burst; a negative count. `resolution` is the clock's step.
    static constexpr error validate(rate const& r, permit_count burst, token_bucket_options const& o = {},
                                    duration resolution = duration{1}) {
        if (o.initial.invalid()) return {"initial must not be negative"};
        return gcra::make<duration>(r, burst, resolution).error();
    }

    /// A bucket, or the reason why there is none. Arguments as the constructors'.
    template <class... Rest>
    static constexpr result<token_bucket> make(rate const& r, permit_count burst, token_bucket_options const& o,
                                               Rest&&... rest) {
        if (auto e = validate(r, burst, o, detail::resolution_among<Clock>(rest...))) return e;
        return result<token_bucket>{std::in_place, r, burst, o, std::forward<Rest>(rest)...};
    }
    template <detail::clock_or_reference... C>
        requires(sizeof...(C) <= 1)
    static constexpr result<token_bucket> make(rate const& r, permit_count burst, C&&... c) {
        return make(r, burst, token_bucket_options{}, std::forward<C>(c)...);
    }

    /// Takes n permits if they are available, else nothing. n = 0 is granted; n above the burst is never granted.
    /// O(1): one exchange when granted; a denial writes nothing. Lock-free.
    /// Always inlined, so that a caller that reads one bit of the decision pays for no more.
    /// With an approximate clock, now_approx() is tried first: what is earned never falls, so what is denied at one
    /// time is denied at every earlier one (see approximate_clock).
    [[nodiscard("a dropped decision limits nothing"), gnu::__always_inline__]] decision try_acquire(
        permit_count n = 1) noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (decision d = check_approx(n); !d) return d;
        }
        return try_acquire(n, base::now());
    }
    [[nodiscard("a dropped decision limits nothing"), gnu::__always_inline__]] decision try_acquire(
        time_point t) noexcept {
        return try_acquire(1, t);
    }
    [[nodiscard("a dropped decision limits nothing"), gnu::__always_inline__]] constexpr decision try_acquire(
        permit_count n, time_point t) noexcept {
        if (n == 0U) return decision{this, t, state_.look_only(since_origin(t)), 0};
        auto const a = state_.try_charge(n, since_origin(t));
        return decision{this, t, a, a.is_granted() ? n.value() : 0};
    }

    /// What try_acquire would answer. Takes nothing.
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n = 1) const noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (decision d = check_approx(n); !d) return d;
        }
        return check(n, base::now());
    }
    [[nodiscard("check does nothing but answer")]] decision check(time_point t) const noexcept { return check(1, t); }
    [[nodiscard("check does nothing but answer"), gnu::__always_inline__]] constexpr decision check(
        permit_count n, time_point t) const noexcept {
        if (n == 0U) return decision{this, t, state_.look_only(since_origin(t)), 0};
        return decision{this, t, state_.probe(n, since_origin(t)), 0};
    }

    /// Books n permits for the first moment at which they are available, if that is at most `max_wait` from t; else it
    /// is denied, and nothing has changed. `max_wait` is rounded up to a tick; one longer than 30 years is no bound. A
    /// booking counts at its exact moment, which `starts_at` rounds up to a tick. O(1), one division when it waits.
    /// Lock-free.
    template <class Rep, class Period>
    [[nodiscard("the reservation says when the permits may be used")]] reservation reserve(
        permit_count n, std::chrono::duration<Rep, Period> max_wait) noexcept {
        return reserve(n, max_wait, base::now());
    }
    template <class Rep, class Period>
    [[nodiscard("the reservation says when the permits may be used")]] constexpr reservation reserve(
        permit_count n, std::chrono::duration<Rep, Period> max_wait, time_point t) noexcept {
        auto const ticks = static_cast<std::int64_t>(detail::saturating_ceil<duration>(max_wait).count());
        std::uint64_t const wait = ticks > 0 ? static_cast<std::uint64_t>(ticks) : 0;
        std::uint64_t const at = since_origin(t);
        if (n == 0U) return reservation{this, t, state_.look_only(at), 0, t, wait};
        auto const b = state_.try_book(n, at, at + wait);  // at is below 2^62 and wait below 2^63
        permits const live = b.made.is_granted() ? n.value() : 0;
        return reservation{this, t, b.made, live, b.due > at ? base::from_origin(b.due) : t, wait};
    }

    /// Gives back what a grant or a reservation took, or k permits of it, once: whole when no call has taken since,
    /// else what is certain, live·interval − (now − granted at): a permit that the bucket would have refilled meanwhile
    /// is lost. Only for requests that certainly never left. Reads the bucket's own clock. Returns the whole permits
    /// given back; 0 after a second refund, after a change of limits, for another bucket's decision, for a negative k,
    /// and while three other refunds are stopped midway. Undone under changed limits, a grant still counts for times
    /// before its own. Lock-free.
    ///
    /// A reservation whose moment has not come is cancelled instead: the last k permits of the last booking go back at
    /// once, others (which return 0) once all that is booked behind them is cancelled, in whatever order. When all
    /// reservations made since some moment are cancelled before the first of them is due, the bucket is as if none had
    /// been made, up to max(burst, 4096) permits. A gap stays where a booking behind it is used or a refund gave
    /// back a part, where a neighbour was cancelled before a departure between them, and after a change of limits.
    permits refund(decision& d) noexcept { return refund(d, d.live_.count()); }
    permits refund(decision& d, permit_count k) noexcept {
        if (!d.is_of(this) || k == 0U || k.invalid()) return 0;
        permits const live = d.live_.count();
        return state_.give_back(d.made(), d.asked(), d.at(), live, d.live_.take(k), base::ticks_now());
    }

    /// Corrects a grant or reservation to the permits actually used, once. Fewer: the rest is refunded. More: the
    /// overrun is debt, charged now whether or not it is available; it delays later grants and is outside the promise.
    /// False, with nothing changed, when `d` was settled or refunded before, and for a negative number.
    [[nodiscard("false says that the decision was settled or refunded before")]] bool settle(
        decision& d, permit_count actual) noexcept {
        if (!d.is_of(this) || actual.invalid()) return false;
        permits const live = d.live_.count();
        if (actual < live) {
            refund(d, live - actual);
        } else if (actual > live) {
            state_.charge_debt(actual - live, since_origin(base::now()));
        }
        d.live_.take_all();
        return true;
    }

    /// How many permits can be taken, at once or one by one. O(1). Where the rate does not earn whole units a tick, a
    /// full bucket may say burst − 1: one call for the whole burst is granted, one permit at a time the last comes a
    /// tick later.
    permits available() const noexcept { return available(base::now()); }
    constexpr permits available(time_point t) const noexcept { return state_.available(since_origin(t)); }

    /// Puts another rate and burst in force from now on. What is available stays available, up to the new burst, less
    /// what rounding takes (less than a unit of the arithmetic, so that one permit may show a moment late); debt and
    /// bookings stay. Grants made before it can no longer be refunded. Errors, with nothing changed: what `validate`
    /// names; another thread is changing it (errc::busy); a debt that does not fit. Attempts stay lock-free meanwhile.
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l) noexcept {
        return change_from(l, base::ticks_now());
    }
    [[nodiscard("an error says that nothing was changed")]] constexpr error change(limits_type const& l,
                                                                                   time_point t) noexcept {
        return change_from(l, [this, t] { return since_origin(t); });
    }

    /// What is in force. The rate equals the one that was given, and is reduced: 600 a minute reads 10 a second.
    constexpr limits_type limits() const noexcept {
        gcra const g = state_.look().g;
        return {g.template rate_per<duration>(), g.burst()};
    }
    constexpr permits burst() const noexcept { return state_.look().g.burst(); }
    using base::clock;

private:
    [[gnu::__always_inline__]] decision check_approx(permit_count n) const noexcept {
        decision d = check(n, time_point{base::clock().now_approx()});
        d.mark_approx();
        return d;
    }

    template <class C>
    static constexpr gcra prepared(rate const& r, permit_count burst, token_bucket_options const& o, C const& c) {
        detail::ensure(validate(r, burst, o, resolution_of(c)));
        auto g = gcra::make<duration>(r, burst, resolution_of(c));
        return g ? *g : gcra{};
    }
    template <class Now>
    constexpr error change_from(limits_type const& l, Now now) noexcept {
        if constexpr (base::state::is_fixed) {
            if (l == limits()) return {};
            return {errc::unsupported, "the limits of a fixed_token_bucket do not change"};
        } else {
            auto const g = gcra::make<duration>(l.rate, l.burst, resolution_of(base::clock()));
            return g ? state_.change(*g, now) : g.error();
        }
    }
};

/// What an attempt returned, and, when granted, the receipt by which it is refunded or settled. Its answers are a
/// snapshot. It refers to its bucket, which must outlive it.
template <class Clock, class Atomics>
    requires clock<Clock>
class [[nodiscard("a dropped decision limits nothing")]] token_bucket<Clock, Atomics>::decision
    : public detail::gcra_limiter<Clock, Atomics>::decision {
    friend class token_bucket;
    using detail::gcra_limiter<Clock, Atomics>::decision::decision;
};

/// Permits booked for `starts_at()`. A decision otherwise: refund cancels it, settle settles it. `retry_at` of a denied
/// one is the earliest instant at which the same wait would do.
template <class Clock, class Atomics>
    requires clock<Clock>
class [[nodiscard("the reservation says when the permits may be used")]] token_bucket<Clock, Atomics>::reservation
    : public decision {
public:
    /// When the permits may be used; the time of the attempt when at once, and when denied.
    constexpr time_point starts_at() const noexcept { return starts_at_; }

    constexpr time_point retry_at() const noexcept { return this->retry_within(wait_); }
    constexpr duration retry_after() const noexcept { return this->after_within(wait_); }
    constexpr std::int64_t retry_after_seconds() const noexcept { return detail::seconds_rounded_up(retry_after()); }

private:
    friend class token_bucket;

    constexpr reservation(token_bucket const* bucket, time_point t, typename base::state::attempt const& a,
                          permits live, time_point starts_at, std::uint64_t wait) noexcept
        : decision{bucket, t, a, live}, starts_at_{starts_at}, wait_{wait} {}

    time_point starts_at_;
    std::uint64_t wait_;
};

token_bucket(permit_count, rate) -> token_bucket<std::chrono::steady_clock>;
token_bucket(rate, permit_count) -> token_bucket<std::chrono::steady_clock>;
token_bucket(rate, permit_count, token_bucket_options) -> token_bucket<std::chrono::steady_clock>;
template <detail::clock_or_reference C>
token_bucket(rate, permit_count, C) -> token_bucket<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C>
token_bucket(rate, permit_count, token_bucket_options, C) -> token_bucket<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C>
token_bucket(rate, permit_count, token_bucket_options,
             typename std::remove_cvref_t<detail::clock_argument_t<C>>::time_point, C)
    -> token_bucket<detail::clock_argument_t<C>>;

static_assert(limiter<token_bucket<>>);

}  // namespace weir::inline v0

#pragma pop_macro("check")
