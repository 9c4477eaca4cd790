// SPDX-License-Identifier: MIT
//
// leaky_bucket: the leaky bucket as a meter. What comes in raises a level that drains at a rate; what would overflow is
// denied. It is the token bucket seen from the other side (level = capacity − permits left), so it shares its
// arithmetic, its word, and its promise: in any interval of length T at most capacity + rate·T comes in, exactly, for
// 30 years.
// Source: J. Turner, "New directions in communications (or which way to the information age?)", IEEE Communications
// Magazine 24(10), 1986; ITU-T I.371, annex A (the continuous-state leaky bucket algorithm).
#pragma once

#include <chrono>
#include <type_traits>
#include <utility>

#include "token_bucket.hpp"

namespace weir::inline v0 {

/// `initial` is how much of the capacity is free at the start.
using leaky_bucket_options = token_bucket_options;

/// A meter of `capacity` that drains at a rate.
///
///     weir::leaky_bucket meter{weir::rate{100, 1s}, 20};
///     if (auto d = meter.try_acquire()) accept(); else reject(d.retry_after());
///
/// Arguments, verbs, errors, complexity, memory order and progress as token_bucket's.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class leaky_bucket : private token_bucket<Clock, Atomics> {
    using base = token_bucket<Clock, Atomics>;

public:
    using clock_type = typename base::clock_type;
    using time_point = typename base::time_point;
    using duration = typename base::duration;
    using amount = permit_count;
    using decision = typename base::decision;

    /// What `change` takes.
    struct limits_type {
        weir::rate rate;
        permit_count capacity;

        friend constexpr bool operator==(limits_type const&, limits_type const&) = default;
    };

    using base::base;
    using base::validate;

    template <class... Rest>
    static constexpr result<leaky_bucket> make(rate const& drain, permit_count capacity, leaky_bucket_options const& o,
                                               Rest&&... rest) {
        if (auto e = base::validate(drain, capacity, o, detail::resolution_among<Clock>(rest...))) return e;
        return result<leaky_bucket>{std::in_place, drain, capacity, o, std::forward<Rest>(rest)...};
    }
    template <detail::clock_or_reference... C>
        requires(sizeof...(C) <= 1)
    static constexpr result<leaky_bucket> make(rate const& drain, permit_count capacity, C&&... c) {
        return make(drain, capacity, leaky_bucket_options{}, std::forward<C>(c)...);
    }

    leaky_bucket(permit_count, rate) = delete;  // the rate comes first: leaky_bucket{rate, capacity}

    using base::acquire;
    using base::available;
    using base::check;
    using base::clock;
    using base::refund;
    using base::settle;
    using base::try_acquire;
    using base::try_acquire_for;
    using base::try_acquire_until;

    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l) noexcept {
        return base::change({l.rate, l.capacity});
    }
    [[nodiscard("an error says that nothing was changed")]] constexpr error change(limits_type const& l,
                                                                                   time_point t) noexcept {
        return base::change({l.rate, l.capacity}, t);
    }
    constexpr limits_type limits() const noexcept {
        auto const l = base::limits();
        return {l.rate, l.burst};
    }
    constexpr permits capacity() const noexcept { return base::burst(); }

    /// How full it is, in whole permits, rounded up; capacity when it is in debt.
    permits level() const noexcept { return level(clock().now()); }
    constexpr permits level(time_point t) const noexcept { return capacity() - available(t); }
};

leaky_bucket(permit_count, rate) -> leaky_bucket<std::chrono::steady_clock>;
leaky_bucket(rate, permit_count) -> leaky_bucket<std::chrono::steady_clock>;
leaky_bucket(rate, permit_count, leaky_bucket_options) -> leaky_bucket<std::chrono::steady_clock>;
template <detail::clock_or_reference C>
leaky_bucket(rate, permit_count, C) -> leaky_bucket<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C>
leaky_bucket(rate, permit_count, leaky_bucket_options, C) -> leaky_bucket<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C>
leaky_bucket(rate, permit_count, leaky_bucket_options,
             typename std::remove_cvref_t<detail::clock_argument_t<C>>::time_point, C)
    -> leaky_bucket<detail::clock_argument_t<C>>;

static_assert(limiter<leaky_bucket<>>);

}  // namespace weir::inline v0
