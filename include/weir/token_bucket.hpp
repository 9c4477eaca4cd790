// SPDX-License-Identifier: MIT
//
// token_bucket: permits flow in at a rate, up to a burst; an attempt takes n of them or is refused.
//
// Promise: in any interval of length T at most burst + rate·T permits are granted, exactly, for 30 years from construction,
// whatever the threads do. Times are the ones that the attempts were made with. (Proof in gcra.hpp.)
// State: one 64-bit word. Lock-free: every verb but `change`, which excludes other changers, and only them.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <utility>

#include "atomics.hpp"
#include "clock/clock.hpp"
#include "detail/blocking.hpp"
#include "detail/gcra.hpp"
#include "detail/gcra_state.hpp"
#include "error.hpp"
#include "limiter.hpp"
#include "rate.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// A token bucket on one word. `Clock` may be a reference type: the clock is then referred to and must outlive the bucket.
///
///     weir::token_bucket bucket{weir::rate{100, 1s}, 20};
///     if (auto d = bucket.try_acquire()) serve(); else answer_429(d.retry_after());
///
/// Time points before construction count as the moment of construction; time points ahead of the clock are trusted, and
/// deny others until the clock catches up. Refunds are right only where no time point is ahead of the clock.
/// Memory order: an attempt orders nothing but the bucket's own word; do not publish other data through it.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(detail::cache_line) token_bucket : public detail::blocking<token_bucket<Clock, Atomics>> {
    using cell = detail::gcra_state<Atomics>;

public:
    using clock_type = typename detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    class decision;
    class reservation;

    /// At most `burst` permits at once, `r` in the long run, beginning with `s`. Throws std::invalid_argument for what
    /// `validate` names.
    constexpr token_bucket(rate r, permits burst, start s, Clock c)
        requires(!std::is_reference_v<Clock>)
        : token_bucket{r, burst, s, c.now(), std::move(c)} {}
    constexpr token_bucket(rate r, permits burst, start s, Clock c)
        requires std::is_reference_v<Clock>
        : token_bucket{r, burst, s, c.now(), c} {}
    constexpr token_bucket(rate r, permits burst, Clock c)
        requires(!std::is_reference_v<Clock>)
        : token_bucket{r, burst, start::full(), std::move(c)} {}
    constexpr token_bucket(rate r, permits burst, Clock c)
        requires std::is_reference_v<Clock>
        : token_bucket{r, burst, start::full(), c} {}
    constexpr explicit token_bucket(rate r, permits burst, start s = start::full())
        requires(!std::is_reference_v<Clock>)
        : token_bucket{r, burst, s, Clock{}} {}

    /// The same, with the instant at which it begins.
    constexpr token_bucket(rate r, permits burst, start s, time_point begin, Clock c)
        : clock_{static_cast<Clock&&>(c)},
          origin_{detail::ticks(begin)},
          cell_{prepare(r, burst, clock_.get()), s.available} {}

    token_bucket(token_bucket const&) = delete;
    token_bucket& operator=(token_bucket const&) = delete;

    /// What is wrong with these arguments: a burst of zero, a rate and burst that 30 years cannot count, a clock so coarse
    /// that one step of it earns more than the burst. The reason is empty when nothing is.
    static constexpr error validate(rate r, permits burst, duration resolution = duration{1}) {
        return gcra::make<duration>(r, burst, resolution).error();
    }

    /// A bucket, or the reason why there is none.
    template <class... Args>
    static constexpr result<token_bucket> make(rate r, permits burst, Args&&... args) {
        if (auto e = validate(r, burst, detail::resolution_among<Clock>(args...))) return e;
        return result<token_bucket>{std::in_place, r, burst, std::forward<Args>(args)...};
    }

    /// Takes n permits if they are there. n = 0 is granted and takes nothing; n above the burst is denied for ever.
    /// O(1): one exchange when granted; a denial writes nothing. Lock-free.
    /// Always inlined, so that a caller who looks at one bit of the decision pays for no more.
    /// With a approximate_clock the bucket is tried at the glance first: a TAT that does not allow n at a later time does not allow
    /// them earlier, since what is earned never falls, so a refusal there is one at now() too.
    [[gnu::__always_inline__]] decision try_acquire(permits n = 1) noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (decision d = check_approx(n); !d) return d;
        }
        return try_acquire(n, clock_.get().now());
    }
    [[gnu::__always_inline__]] decision try_acquire(time_point t) noexcept { return try_acquire(1, t); }
    [[gnu::__always_inline__]] constexpr decision try_acquire(permits n, time_point t) noexcept {
        if (n == 0) return decision{this, t, 0, nothing()};
        return decision{this, t, n, cell_.try_charge(n, since_origin(t))};
    }

    /// What try_acquire would answer. Charges nothing.
    decision check(permits n = 1) const noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (decision d = check_approx(n); !d) return d;
        }
        return check(n, clock_.get().now());
    }
    decision check(time_point t) const noexcept { return check(1, t); }
    [[gnu::__always_inline__]] constexpr decision check(permits n, time_point t) const noexcept {
        if (n == 0) return decision{this, t, 0, nothing()};
        return decision{this, t, n, cell_.probe(n, since_origin(t)), permits{0}};
    }

    /// Books n permits for the first moment at which they are to be had, if that is at most `max_wait` from t; otherwise it
    /// is refused, and nothing has changed. A booking counts at its exact moment, which `starts_at` rounds up to a tick.
    /// O(1), one division when there is a wait. Lock-free.
    reservation reserve(permits n, duration max_wait) noexcept { return reserve(n, max_wait, clock_.get().now()); }
    constexpr reservation reserve(permits n, duration max_wait, time_point t) noexcept {
        std::uint64_t const wait = max_wait.count() > 0 ? static_cast<std::uint64_t>(max_wait.count()) : 0;
        if (n == 0) return reservation{this, t, 0, nothing(), t, wait};
        std::uint64_t const at = since_origin(t);
        auto const b = cell_.try_book(n, at, add(at, wait));
        return reservation{this, t, n, b.made, b.made.what.granted && b.due > at ? from_origin(b.due) : t, wait};
    }

    /// Gives back what a grant or a reservation took, or k permits of it, once: whole when nobody has taken since, else what
    /// is certain, live·interval − (now − granted at): a permit that the bucket would have refilled meanwhile is gone.
    /// Only for requests that certainly never left. Reads the bucket's own clock. Returns the whole permits given back;
    /// 0 after a second refund, after a change of rate, for another bucket's decision, and where threads stand still in the midst
    /// of three others. Lock-free.
    permits refund(decision& d) noexcept { return refund(d, d.live_); }
    permits refund(decision& d, permits k) noexcept {
        if (d.bucket_ != this || d.live_ == 0 || k == 0) return 0;
        permits const live = d.live_;
        k = k < live ? k : live;
        d.live_ -= k;
        return cell_.give_back(d.made_, since_origin(d.t_), live, k,
                               [this] { return since_origin(clock_.get().now()); });
    }

    /// Tells how many permits a grant or reservation used in the end, once. Fewer: the rest is refunded. More: the overrun is
    /// debt, charged now whether or not it is there; it delays later grants and is outside the promise. False when
    /// `d` was settled or refunded before.
    bool settle(decision& d, permits actual) noexcept {
        if (d.bucket_ != this || d.live_ == 0) return false;
        if (actual < d.live_) {
            refund(d, d.live_ - actual);
        } else if (actual > d.live_) {
            cell_.charge_debt(actual - d.live_, since_origin(clock_.get().now()));
        }
        d.live_ = 0;
        return true;
    }

    /// Permits to be had. O(1).
    permits available() const noexcept { return available(clock_.get().now()); }
    constexpr permits available(time_point t) const noexcept { return cell_.available(since_origin(t)); }

    /// Puts another rate and burst in force from now on. What is available stays available, up to the new burst, less what
    /// rounding takes (less than a unit of the arithmetic, so that one permit may show a moment late); debt and bookings
    /// stay. Grants made before it can no longer be refunded. Errors, with nothing changed: what `validate` names;
    /// another thread is changing it (`busy`); a debt that does not fit. Attempts stay lock-free meanwhile.
    error change(rate r, permits burst) noexcept {
        return change_from(r, burst, [this] { return since_origin(clock_.get().now()); });
    }
    constexpr error change(rate r, permits burst, time_point t) noexcept {
        return change_from(r, burst, [this, t] { return since_origin(t); });
    }
    static constexpr error busy() noexcept { return cell::busy(); }

    constexpr permits burst() const noexcept { return cell_.look().g.burst(); }
    constexpr clock_type const& clock() const noexcept { return clock_.get(); }

private:
    [[gnu::__always_inline__]] decision check_approx(permits n) const noexcept {
        decision d = check(n, clock_.get().now_approx());
        d.mark_.is_approx = true;
        return d;
    }

    static constexpr typename cell::attempt nothing() noexcept { return {{true, 0, 0, 0}, false}; }

    template <class C>
    static constexpr gcra prepare(rate r, permits burst, C const& c) {
        auto g = gcra::make<duration>(r, burst, resolution_of(c));
        detail::ensure(g.error());
        return g ? *g : gcra{};
    }
    template <class Now>
    constexpr error change_from(rate r, permits burst, Now now) noexcept {
        auto const g = gcra::make<duration>(r, burst, resolution_of(clock_.get()));
        return g ? cell_.change(*g, now) : g.error();
    }

    static constexpr std::uint64_t add(std::uint64_t a, std::uint64_t b) noexcept {
        return a + b < a ? (std::numeric_limits<std::uint64_t>::max)() : a + b;
    }
    constexpr std::uint64_t since_origin(time_point t) const noexcept {
        return detail::ticks_since<duration>(t, origin_);
    }
    constexpr time_point from_origin(std::uint64_t t) const noexcept {
        return detail::time_since<time_point>(origin_, t);
    }

    [[no_unique_address]] detail::clock_box<Clock> clock_;
    std::int64_t origin_;
    cell cell_;
};

/// What an attempt returned, and, when granted, the receipt by which it is refunded or settled. It refers to its bucket,
/// which must outlive it. `retry_at` is computed when asked for.
template <class Clock, class Atomics>
    requires clock<Clock>
class token_bucket<Clock, Atomics>::decision {
public:
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    constexpr decision(decision&& other) noexcept
        : bucket_{other.bucket_},
          t_{other.t_},
          n_{other.n_},
          live_{std::exchange(other.live_, 0)},
          made_{other.made_},
          never_{other.never_},
          mark_{other.mark_} {}
    constexpr decision& operator=(decision&& other) noexcept {
        bucket_ = other.bucket_;
        t_ = other.t_;
        n_ = other.n_;
        live_ = this == &other ? live_ : std::exchange(other.live_, 0);
        made_ = other.made_;
        never_ = other.never_;
        mark_ = other.mark_;
        return *this;
    }

    constexpr bool granted() const noexcept { return made_.granted; }
    constexpr explicit operator bool() const noexcept { return made_.granted; }

    /// n is above the burst: no waiting helps.
    constexpr bool never() const noexcept { return never_; }

    /// The earliest instant at which the same attempt is granted if nobody else takes; one tick earlier it is denied.
    /// time_point::max() when never, or beyond the 30 years. The time of the attempt when granted. One division.
    constexpr time_point retry_at() const noexcept { return retry_at_with(0); }
    /// How long that is from the attempt; of a refusal at a glance, whose time is not known, from now on: it reads the clock.
    constexpr duration retry_after() const noexcept { return after(retry_at()); }

private:
    friend class token_bucket;
    using attempt = typename cell::attempt;

    constexpr decision(token_bucket const* bucket, time_point t, permits n, attempt const& a) noexcept
        : decision{bucket, t, n, a, a.what.granted ? n : 0} {}
    constexpr decision(token_bucket const* bucket, time_point t, permits n, attempt const& a, permits live) noexcept
        : bucket_{bucket}, t_{t}, n_{n}, live_{live}, made_{a.what}, never_{a.too_many} {}

    constexpr time_point retry_at_with(std::uint64_t wait) const noexcept {
        if (made_.granted) return t_;
        if (never_) return (time_point::max)();
        std::uint64_t const t = bucket_->since_origin(t_);
        std::uint64_t const at = bucket_->cell_.retry(made_, n_, t);
        if (at == (std::numeric_limits<std::uint64_t>::max)()) return (time_point::max)();
        time_point const from = at - t <= wait ? t_ : bucket_->from_origin(at - wait);
        if constexpr (approximate_clock<clock_type>) {
            if (mark_.is_approx) return detail::approx_retry_at(bucket_->clock(), from);
        }
        return from;
    }
    constexpr duration after(time_point at) const noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (mark_.is_approx) return detail::approx_retry_after(bucket_->clock(), at);
        }
        return at == (time_point::max)() ? (duration::max)() : detail::wait_between(t_, at);
    }

    token_bucket const* bucket_;
    time_point t_;
    permits n_;
    permits live_;
    typename cell::charge made_;
    bool never_;
    [[no_unique_address]] detail::approx_mark<clock_type> mark_{};
};

/// Permits booked for `starts_at()`. A decision otherwise: refund cancels it, settle settles it. Cancelled as the last
/// booking it is given back whole; otherwise what is certain is, and the rest of its gap stays unused. `retry_at` of a
/// refused one is the earliest instant at which the same wait would do.
template <class Clock, class Atomics>
    requires clock<Clock>
class token_bucket<Clock, Atomics>::reservation : public decision {
public:
    /// When the permits may be used; the time of the attempt when at once, and when refused.
    constexpr time_point starts_at() const noexcept { return starts_at_; }

    constexpr time_point retry_at() const noexcept { return this->retry_at_with(wait_); }
    constexpr duration retry_after() const noexcept { return this->after(retry_at()); }

private:
    friend class token_bucket;

    constexpr reservation(token_bucket const* bucket, time_point t, permits n, typename cell::attempt const& a,
                          time_point starts_at, std::uint64_t wait) noexcept
        : decision{bucket, t, n, a}, starts_at_{starts_at}, wait_{wait} {}

    time_point starts_at_;
    std::uint64_t wait_;
};

token_bucket(rate, permits) -> token_bucket<std::chrono::steady_clock>;
token_bucket(rate, permits, start) -> token_bucket<std::chrono::steady_clock>;
template <class C>
    requires clock<C>
token_bucket(rate, permits, C&&) -> token_bucket<C>;
template <class C>
    requires clock<C>
token_bucket(rate, permits, start, C&&) -> token_bucket<C>;
template <class C>
    requires clock<C>
token_bucket(rate, permits, start, typename std::remove_cvref_t<C>::time_point, C&&) -> token_bucket<C>;

}  // namespace weir::inline v0

#pragma pop_macro("check")
