// SPDX-License-Identifier: MIT
//
// lease: a thread's own slice of a limiter's permits. It is taken at once and spent without touching what is shared, so
// threads that use one limiter do not wait for each other's cache lines. What is left goes back, or lapses.
//
// Let m leases stand on one limiter, with slices of n permits and an age of A. A slice taken at s is spent at times
// from s to s + A, so in any interval [x, y], T = y − x:
// - spent are only permits that were taken within [x − A, y]: at most what the limiter grants in T + A. Of a bucket,
//   burst + rate·(T + A).
// - spent are only permits that were taken within [x, y], or that a lease held at x. Where a lease's times do not go
//   back, it holds one slice at a time, and of that at most n − 1, since the attempt that takes a slice spends a part
//   of it at once (n, if that part is refunded). So at most what the limiter grants in T, and m·(n − 1): of a bucket,
//   burst + rate·T + m·(n − 1); of a window, limit + m·(n − 1). Both hold, so the lesser does. Permits that go back are
//   none that the limiter has granted, by its own rules of refund, and none that are spent. With slices of 1 a lease
//   promises what the limiter does.
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
#include "error.hpp"
#include "limiter.hpp"

namespace weir::inline v0 {

/// A limiter that takes back a part of what it granted.
template <class L>
concept leasable = old_limiter<L> && requires(L& l, typename L::decision& d, permits k) {
    { l.refund(d, k) } -> std::convertible_to<permits>;
};

struct lease_options {
    /// The most permits that are taken at once. Slices begin at 1, double when one has been spent in time, and are
    /// halved when the limiter has not got so many or one has lapsed: a thread that needs few holds few.
    permits slice = 64;
    /// How long a slice may be spent: what is left of it then goes back with the next attempt.
    std::chrono::nanoseconds age = std::chrono::milliseconds{10};
};

/// One thread's slice of `limiter`, which it refers to and which must outlive it. Not thread-safe: make one for each
/// thread.
///
///     weir::token_bucket bucket{weir::rate{1'000'000, 1s}, 10'000};         // shared
///     thread_local weir::lease mine{bucket, {.slice = 64, .age = 10ms}};
///     if (auto d = mine.try_acquire()) serve(); else answer_429(d.retry_after());
///
/// Promise: see the head of this file. A refusal is the limiter's, at that time, to an attempt of n permits: what other
/// leases hold is not to be had until they give it back, a bucket loses what it would have refilled meanwhile (rate ×
/// the time held, at most what was left), and a thread that never comes back keeps its slice. So a limiter should hold
/// many slices.
///
/// Cost: a spend is two comparisons and a subtraction on a line of its own, and the clock's read where no time is given
/// (with a upper_bounding_clock its glance); a new slice is one attempt on the limiter, two where it has not got a whole one,
/// and a refund where something was left. Lock-free as the limiter is.
template <leasable L>
class alignas(detail::cache_line) lease : public detail::blocking<lease<L>> {
public:
    using limiter_type = L;
    using clock_type = typename L::clock_type;
    using time_point = typename L::time_point;
    using duration = typename L::duration;
    class decision;

    explicit lease(L& limiter, lease_options o = {})
        : limiter_{limiter}, most_{o.slice}, age_{std::chrono::floor<duration>(o.age)} {
        detail::ensure(validate(o));
    }
    lease(lease const&) = delete;
    lease& operator=(lease const&) = delete;
    ~lease() { give_back(); }

    /// A slice of 0; an age that is not positive, or less than a tick of the limiter's clock.
    static constexpr error validate(lease_options const& o) noexcept {
        if (o.slice == 0) return {"a slice of zero permits cannot be spent"};
        if (std::chrono::floor<duration>(o.age).count() <= 0) return {"a lease's age must be at least a tick"};
        return {};
    }

    /// Spends n permits of the slice; where that has lapsed or has not got so many, gives back what is left and takes a
    /// new one. A time point before that of the slice counts as it.
    [[gnu::__always_inline__]] decision try_acquire(permits n = 1) noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (n <= left_ && lasts()) [[likely]]
                return spend(n);
            return take(n, [this](permits k) { return limiter_.try_acquire(k); });
        } else {
            return try_acquire(n, limiter_.clock().now());
        }
    }
    [[gnu::__always_inline__]] decision try_acquire(time_point t) noexcept { return try_acquire(1, t); }
    [[gnu::__always_inline__]] decision try_acquire(permits n, time_point t) noexcept {
        if (n <= left_ && t <= until_) [[likely]]
            return spend(n);
        return take(n, [this, t](permits k) { return limiter_.try_acquire(k, t); });
    }

    /// Puts back into the slice what was spent of it, once: for what certainly was not used. Returns how many; 0 where
    /// the slice is no longer the same: such a permit stays spent.
    permits refund(decision& d) noexcept {
        if (d.lease_ != this || d.slice_ != number_) return 0;
        permits const n = std::exchange(d.live_, permits{0});
        left_ += n;
        return n;
    }

    /// Gives back to the limiter what is left; returns how many permits it took back, by its rules.
    permits give_back() noexcept {
        permits const n = std::exchange(left_, permits{0});
        ++number_;
        return n == 0 ? 0 : limiter_.refund(*receipt_, n);
    }

    /// What is left of the slice, lapsed or not.
    permits left() const noexcept { return left_; }
    L& limiter() const noexcept { return limiter_; }

    clock_type const& clock() const noexcept { return limiter_.clock(); }

private:
    [[gnu::__always_inline__]] decision spend(permits n) noexcept {
        left_ -= n;
        return decision{this, n, number_, true};
    }

    bool lasts() const noexcept {
        if constexpr (upper_bounding_clock<clock_type>) {
            // The precise time is no later.
            if (limiter_.clock().now_approx() <= until_) [[likely]]
                return true;
        }
        return limiter_.clock().now() <= until_;
    }

    template <class Attempt>
    [[gnu::__noinline__]] decision take(permits n, Attempt attempt) noexcept {
        if (n == 0) return decision{this, 0, number_, true};
        if (left_ >= n) {  // it has lapsed
            next_ -= next_ / 2;
        } else if (whole_) {
            next_ = next_ < most_ - next_ ? next_ * 2 : most_;
        }
        give_back();
        permits const slice = next_ > n ? next_ : n;
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
            refused_.emplace(std::move(d));
            return decision{this, n, number_, false};
        }
        time_point const s = d.retry_at();  // of what is granted, the time of the attempt
        until_ = s > (time_point::max)() - age_ ? (time_point::max)() : s + age_;
        receipt_.emplace(std::move(d));
        return spend(n);
    }

    permits left_ = 0;
    time_point until_ = (time_point::min)();
    std::uint64_t number_ = 0;  // of the slice
    L& limiter_;
    permits next_ = 1;    // how many to take
    bool whole_ = false;  // the last time so many were to be had
    permits most_;
    duration age_;
    std::optional<typename L::decision> receipt_{};  // of the slice
    std::optional<typename L::decision> refused_{};  // the last refusal
};

/// What an attempt returned. Where it was refused, `retry_at` and the rest are the limiter's answer, until the lease's
/// next attempt.
template <leasable L>
class lease<L>::decision {
public:
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    constexpr decision(decision&& other) noexcept
        : lease_{other.lease_},
          live_{std::exchange(other.live_, permits{0})},
          slice_{other.slice_},
          granted_{other.granted_} {}
    constexpr decision& operator=(decision&& other) noexcept {
        permits const live = std::exchange(other.live_, permits{0});
        lease_ = other.lease_;
        live_ = live;
        slice_ = other.slice_;
        granted_ = other.granted_;
        return *this;
    }

    constexpr bool granted() const noexcept { return granted_; }
    constexpr explicit operator bool() const noexcept { return granted_; }
    bool never() const noexcept { return !granted_ && lease_->refused_->never(); }
    /// Where granted, time_point::min(): now.
    time_point retry_at() const noexcept { return granted_ ? (time_point::min)() : lease_->refused_->retry_at(); }
    duration retry_after() const noexcept { return granted_ ? duration::zero() : lease_->refused_->retry_after(); }

private:
    friend class lease;
    constexpr decision(lease const* l, permits n, std::uint64_t slice, bool granted) noexcept
        : lease_{l}, live_{granted ? n : 0}, slice_{slice}, granted_{granted} {}

    lease const* lease_;
    permits live_;
    std::uint64_t slice_;
    bool granted_;
};

}  // namespace weir::inline v0
