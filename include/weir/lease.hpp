// SPDX-License-Identifier: MIT
//
// lease: a thread's own slice of a limiter's permits. The thread takes it by one attempt and spends it without touching
// shared state, so threads that use one limiter do not wait for each other's cache lines. What is left is given back,
// or lapses.
//
// Promise: let one limiter have m leases, with slices of n permits and an age of A. A slice taken at s is spent at
// times from s to s + A. For any interval [x, y] of length T = y − x:
// 1. Every permit spent in it was taken within [x − A, y]. So at most what the limiter grants in T + A is spent: of a
//    bucket, burst + rate·(T + A).
// 2. Every permit spent in it was taken within [x, y], or a lease held it at x. A lease whose times do not go back
//    holds one slice at a time, and at most n − 1 permits of it: the attempt that takes a slice spends at least one at
//    once (n, if that one is refunded). So at most what the limiter grants in T, plus m·(n − 1), is spent: of a bucket,
//    burst + rate·T + m·(n − 1); of a window, limit + m·(n − 1).
// Both bounds hold, so the smaller one does. Refunded permits count neither as granted nor as spent. With slices of 1 a
// lease promises what the limiter promises.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

#include "atomics.hpp"
#include "clock/clock.hpp"
#include "detail/blocking.hpp"
#include "detail/decision_head.hpp"
#include "error.hpp"
#include "limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// A limiter that takes back a part of what it granted.
template <class L>
concept leasable = limiter<L> && requires(L& l, typename L::decision& d, permits k) {
    { l.refund(d, k) } -> std::convertible_to<permits>;
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

template <class L>
struct lease_limits_of {
    struct type {};
};
template <class L>
    requires requires { typename L::limits_type; }
struct lease_limits_of<L> {
    using type = typename L::limits_type;
};
template <class L>
using lease_limits = typename lease_limits_of<L>::type;

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

struct lease_options {
    /// The most permits that are taken at once. Slices begin at 1, double when one has been spent in time, and are
    /// halved when the limiter has fewer permits or a slice has lapsed: a thread that needs few holds few.
    permit_count slice = 64;
    /// How long a slice may be spent: what is left of it then goes back with the next attempt.
    any_duration<> age = std::chrono::milliseconds{10};
};

/// One thread's slice of `limiter`, which it refers to and which must outlive it. Not thread-safe: make one for each
/// thread.
///
///     void work(weir::token_bucket<>& bucket) {                        // in each thread
///         weir::lease mine{bucket, {.slice = 64, .age = 10ms}};
///         while (next()) if (auto d = mine.try_acquire()) serve(); else answer_429(d.retry_after());
///     }
///
/// Make it a variable of the thread's function, as above. A thread_local one is destroyed when its thread ends, which
/// may be after the limiter has ended, and its destructor gives permits back to the limiter.
///
/// Promise: see the head of this file. A refusal is the limiter's, at that time, to an attempt of n permits: what other
/// leases hold is not available until they give it back, a bucket loses what it would have refilled meanwhile (rate ×
/// the time held, at most what was left), and a thread that never comes back keeps its slice. So a limiter should hold
/// many slices.
///
/// Cost: a spend is two comparisons and a subtraction on a line of its own, and the clock's read where no time is given
/// (with an upper_bounding_clock, now_approx()); a new slice is one attempt on the limiter, two where the limiter has
/// less than a whole one, and a refund where something was left. Lock-free if the limiter is.
template <leasable L>
class alignas(detail::cache_line) lease : public detail::blocking<lease<L>> {
public:
    using limiter_type = L;
    using clock_type = typename L::clock_type;
    using time_point = typename L::time_point;
    using duration = typename L::duration;
    using amount = permit_count;
    using limits_type = detail::lease_limits<L>;
    class decision;

    explicit lease(L& limiter, lease_options o = {})
        : limiter_{limiter}, most_{o.slice.value()}, age_{std::chrono::floor<duration>(o.age)} {
        detail::ensure(validate(o));
    }
    lease(lease const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    lease& operator=(lease const&) = delete;
    ~lease() { give_back(); }

    /// A slice of 0; an age that is not positive, or less than a tick of the limiter's clock.
    static constexpr error validate(lease_options const& o) noexcept {
        if (o.slice.invalid()) return {"slice must not be negative"};
        if (o.slice == 0U) return {"a slice of zero permits cannot be spent"};
        if (std::chrono::floor<duration>(o.age).count() <= 0) return {"a lease's age must be at least a tick"};
        return {};
    }

    /// Spends n permits of the slice. If the slice has lapsed or has fewer, gives back what is left and takes a new
    /// one; if there is none, the denial leaves an empty slice. What can never be granted changes nothing. A time point
    /// before the slice's counts as the slice's.
    [[nodiscard("a dropped decision limits nothing"), gnu::__always_inline__]] decision try_acquire(
        permit_count n = 1) noexcept {
        if constexpr (approximate_clock<clock_type>) {
            time_point const t = spent_at();
            if (n <= left_ && t <= until_) [[likely]]
                return spend(n, t);
            return take(
                n, [this](permits k) { return limiter_.try_acquire(k); },
                [this](permits k) { return limiter_.check(k); });
        } else {
            return try_acquire(n, limiter_.clock().now());
        }
    }
    [[nodiscard("a dropped decision limits nothing"), gnu::__always_inline__]] decision try_acquire(
        time_point t) noexcept {
        return try_acquire(1, t);
    }
    [[nodiscard("a dropped decision limits nothing"), gnu::__always_inline__]] decision try_acquire(
        permit_count n, time_point t) noexcept {
        if (n <= left_ && t <= until_) [[likely]]
            return spend(n, t);
        return take(
            n, [this, t](permits k) { return limiter_.try_acquire(k, t); },
            [this, t](permits k) { return limiter_.check(k, t); });
    }

    /// What the slice, or else the limiter, would answer now. Takes nothing. What try_acquire would first give back of
    /// the slice is not counted, so a check may deny more permits than the slice has where try_acquire would grant
    /// them.
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n = 1) const noexcept {
        return check(n, limiter_.clock().now());
    }
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n, time_point t) const noexcept {
        if (n <= left_ && t <= until_) return decision{this, number_, t, left_ - n, full_at_, 0};
        auto const d = limiter_.check(n, t);
        return decision{this, n, number_, d, 0};
    }

    /// Puts back into the slice what was spent of it, or k of it, once: for what certainly was not used. Returns how
    /// many; 0 where the slice is no longer the same: such a permit stays spent.
    permits refund(decision& d) noexcept { return refund(d, d.live_.count()); }
    permits refund(decision& d, permit_count k) noexcept {
        if (d.lease_ != this || d.slice_ != number_ || k.invalid()) return 0;
        permits const n = d.live_.take(k);
        left_ += n;
        return n;
    }

    /// Corrects a grant to the permits actually used, once. Fewer: the rest is refunded. More: the overrun is taken
    /// from the slice; what the slice lacks is charged to the limiter as debt, now or with the next slice. False, with
    /// nothing changed, when `d` was settled or refunded before, and for a negative number.
    [[nodiscard("false says that the decision was settled or refunded before")]] bool settle(
        decision& d, permit_count actual) noexcept
        requires weir::limiter<L>
    {
        permits const live = d.live_.count();
        if (d.lease_ != this || live == 0 || actual.invalid()) return false;
        if (actual < live) {
            refund(d, live - actual);
        } else {
            permits const over = actual - live;
            permits const of_slice = over < left_ ? over : left_;
            left_ -= of_slice;
            owe(over - of_slice);
        }
        d.live_.take_all();
        return true;
    }

    /// How many permits can be taken: what is left of the slice, or what the limiter has, whichever is more.
    permits available() const noexcept { return available(limiter_.clock().now()); }
    permits available(time_point t) const noexcept {
        permits const shared = limiter_.available(t);
        return t <= until_ && left_ > shared ? left_ : shared;
    }

    /// The limiter's limits, for all that use it. The slice stays.
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l) noexcept
        requires weir::limiter<L>
    {
        return limiter_.change(l);
    }
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l, time_point t) noexcept
        requires weir::limiter<L>
    {
        return limiter_.change(l, t);
    }
    limits_type limits() const noexcept
        requires weir::limiter<L>
    {
        return limiter_.limits();
    }

    /// Gives back to the limiter what is left; returns how many permits it took back, by its rules.
    permits give_back() noexcept {
        permits const n = std::exchange(left_, permits{0});
        ++number_;
        if (n == 0) return 0;
        live_ -= n;
        return limiter_.refund(*receipt_, n);
    }

    /// What is left of the slice, lapsed or not.
    permits left() const noexcept { return left_; }
    L& limiter() const noexcept { return limiter_; }

    clock_type const& clock() const noexcept { return limiter_.clock(); }

private:
    [[gnu::__always_inline__]] decision spend(permits n, time_point t) noexcept {
        left_ -= n;
        return decision{this, number_, t, left_, full_at_, n};
    }

    /// The time of a spend by the clock: not before now, and where the clock has an upper bound within reach, that.
    time_point spent_at() const noexcept {
        if constexpr (upper_bounding_clock<clock_type>) {
            time_point const bound = limiter_.clock().now_approx();
            if (bound <= until_) [[likely]]
                return bound;
        }
        return limiter_.clock().now();
    }

    void owe(permits n) noexcept
        requires weir::limiter<L>
    {
        if (n == 0) return;
        if (live_ == 0) {
            owed_ = owed_ + n < n ? all_permits : owed_ + n;
        } else {
            // The whole slice has been spent: what is live of its receipt is settled at that and the debt.
            permits const sum = live_ + n < n ? all_permits : live_ + n;
            (void)limiter_.settle(*receipt_, sum);
            live_ = 0;
            ++number_;
        }
    }

    template <class Attempt, class Look>
    [[gnu::__noinline__]] decision take(permits n, Attempt attempt, Look look) noexcept {
        if (n == 0) return decision{this, 0, number_, attempt(0), 0};
        if (left_ != 0 && left_ < n) {
            if (auto const d = look(n); d.never()) return decision{this, n, number_, d, 0};
        }
        if (left_ >= n) {  // it has lapsed
            next_ -= next_ / 2;
        } else if (whole_) {
            next_ = next_ < most_ - next_ ? next_ * 2 : most_;
        }
        give_back();
        permits const slice = next_ > n && owed_ == 0 ? next_ : n;
        auto d = attempt(slice);
        whole_ = d.granted();
        left_ = slice;
        if (!d && slice != n) {
            next_ -= next_ / 2;
            d = attempt(n);
            left_ = n;
        }
        if (!d) {
            left_ = 0;
            return decision{this, n, number_, d, 0};
        }
        time_point const s = d.retry_at();  // of what is granted, the time of the attempt
        until_ = s > (time_point::max)() - age_ ? (time_point::max)() : s + age_;
        full_at_ = decision::full_at_of(d);
        receipt_.emplace(std::move(d));
        live_ = left_;
        if constexpr (weir::limiter<L>) {
            if (permits const owed = std::exchange(owed_, permits{0}); owed != 0) {
                (void)limiter_.settle(*receipt_, live_ + owed < owed ? all_permits : live_ + owed);
                live_ = 0;
                left_ = 0;
                return decision{this, number_++, s, 0, full_at_, 0};
            }
        }
        return spend(n, s);
    }

    permits left_ = 0;
    time_point until_ = (time_point::min)();
    std::uint64_t number_ = 0;  // of the slice
    L& limiter_;
    time_point full_at_{};  // the limiter's, as the slice left it
    permits next_ = 1;      // how many to take
    bool whole_ = false;    // the last time so many were available
    permits most_;
    duration age_;
    permits live_ = 0;                               // of receipt_
    permits owed_ = 0;                               // debt that is charged with the next slice
    std::optional<typename L::decision> receipt_{};  // of the slice
};

/// What an attempt returned: a snapshot. Of a grant, remaining() is what was left of the slice, and full_at() the
/// limiter's when the slice was taken. Of a denial, the answers are the limiter's.
template <leasable L>
class [[nodiscard("a dropped decision limits nothing")]] lease<L>::decision {
public:
    constexpr bool granted() const noexcept { return granted_; }
    constexpr explicit operator bool() const noexcept { return granted_; }
    constexpr bool never() const noexcept { return never_; }
    constexpr weir::error error() const noexcept { return never_ ? detail::never_granted(slice_) : weir::error{}; }
    constexpr time_point retry_at() const noexcept { return retry_at_; }
    constexpr duration retry_after() const noexcept { return retry_after_; }
    constexpr std::int64_t retry_after_seconds() const noexcept { return detail::seconds_rounded_up(retry_after_); }
    constexpr permits remaining() const noexcept { return remaining_; }
    constexpr time_point full_at() const noexcept { return full_at_; }

private:
    friend class lease;

    constexpr decision(lease const* l, std::uint64_t slice, time_point t, permits remaining, time_point full_at,
                       permits live) noexcept
        : lease_{l},
          live_{live},
          slice_{slice},
          retry_at_{t},
          retry_after_{},
          remaining_{remaining},
          full_at_{full_at},
          granted_{true} {}
    template <class D>
    constexpr decision(lease const* l, permits n, std::uint64_t slice, D const& d, permits live) noexcept
        : lease_{l},
          live_{live},
          slice_{d.granted() ? slice : n},
          retry_at_{d.retry_at()},
          retry_after_{d.retry_after()},
          remaining_{remaining_of(d)},
          full_at_{full_at_of(d)},
          granted_{d.granted()},
          never_{d.never()} {}

    template <class D>
    static constexpr permits remaining_of(D const& d) noexcept {
        if constexpr (requires { d.remaining(); }) {
            return d.remaining();
        } else {
            return 0;
        }
    }
    template <class D>
    static constexpr time_point full_at_of(D const& d) noexcept {
        if constexpr (requires { d.full_at(); }) {
            return d.full_at();
        } else {
            return d.retry_at();
        }
    }

    lease const* lease_;
    detail::live_permits live_;
    std::uint64_t slice_;  // of a denial, the permits that were asked for
    time_point retry_at_;
    duration retry_after_;
    permits remaining_;
    time_point full_at_;
    bool granted_ = false;
    bool never_ = false;
};

}  // namespace weir::inline v0

#pragma pop_macro("check")
