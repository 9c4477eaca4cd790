// SPDX-License-Identifier: MIT
//
// leaky_bucket: the leaky bucket as a meter. What comes in raises a level that drains at a rate; what would overflow is
// rejected. It is the token bucket seen from the other side (level = capacity − permits left), so it shares its arithmetic,
// its word, and its promise: in any interval of length T at most capacity + rate·T comes in, exactly, for 30 years.
// Source: J. Turner, "New directions in communications (or which way to the information age?)", IEEE Communications
// Magazine 24(10), 1986; ITU-T I.371, annex A (the continuous-state leaky bucket algorithm).
#pragma once

#include <chrono>
#include <type_traits>
#include <utility>

#include "token_bucket.hpp"

namespace weir::inline v0 {

/// A meter of `capacity` that drains at a rate. start::full() means that all of the capacity is free: the level is zero.
/// Arguments, errors, complexity, memory order and progress as token_bucket's.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class leaky_bucket : private token_bucket<Clock, Atomics> {
    using base = token_bucket<Clock, Atomics>;

public:
    using clock_type = typename base::clock_type;
    using time_point = typename base::time_point;
    using duration = typename base::duration;
    using decision = typename base::decision;

    using base::base;
    using base::validate;

    template <class... Args>
    static constexpr result<leaky_bucket> make(rate drain, permits capacity, Args&&... args) {
        if (auto e = base::validate(drain, capacity, detail::resolution_among<Clock>(args...))) return e;
        return result<leaky_bucket>{std::in_place, drain, capacity, std::forward<Args>(args)...};
    }

    using base::acquire;
    using base::available;
    using base::busy;
    using base::change;
    using base::check;
    using base::clock;
    using base::refund;
    using base::settle;
    using base::try_acquire;
    using base::try_acquire_for;
    using base::try_acquire_until;

    constexpr permits capacity() const noexcept { return base::burst(); }

    /// How full it is, in whole permits, rounded up; capacity when it is in debt.
    permits level() const noexcept { return level(clock().now()); }
    constexpr permits level(time_point t) const noexcept { return capacity() - available(t); }
};

leaky_bucket(rate, permits) -> leaky_bucket<std::chrono::steady_clock>;
leaky_bucket(rate, permits, start) -> leaky_bucket<std::chrono::steady_clock>;
template <class C>
    requires clock<C>
leaky_bucket(rate, permits, C&&) -> leaky_bucket<C>;
template <class C>
    requires clock<C>
leaky_bucket(rate, permits, start, C&&) -> leaky_bucket<C>;
template <class C>
    requires clock<C>
leaky_bucket(rate, permits, start, typename std::remove_cvref_t<C>::time_point, C&&) -> leaky_bucket<C>;

}  // namespace weir::inline v0
