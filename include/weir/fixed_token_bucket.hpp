// SPDX-License-Identifier: MIT
//
// fixed_token_bucket: a token bucket whose rate and burst never change, in half the memory: two cache lines. For many
// buckets, one for each user or key.
//
// Promise, state and progress as token_bucket's.
#pragma once

#include <chrono>
#include <type_traits>
#include <utility>

#include "token_bucket.hpp"

namespace weir::inline v0 {

/// A token_bucket without `change`. Arguments, verbs, errors, complexity, memory order and progress as token_bucket's.
///
///     weir::fixed_token_bucket bucket{weir::rate{100, 1s}, 20};
///
/// `change` accepts the limits that are in force, and answers errc::unsupported to others.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class fixed_token_bucket : private token_bucket<Clock, detail::fixed_limits<Atomics>> {
    using base = token_bucket<Clock, detail::fixed_limits<Atomics>>;

public:
    using typename base::amount;
    using typename base::clock_type;
    using typename base::decision;
    using typename base::duration;
    using typename base::limits_type;
    using typename base::reservation;
    using typename base::time_point;

    using base::base;
    using base::validate;

    template <class... Rest>
    static constexpr result<fixed_token_bucket> make(rate const& r, permit_count burst, token_bucket_options const& o,
                                                     Rest&&... rest) {
        if (auto e = base::validate(r, burst, o, detail::resolution_among<Clock>(rest...))) return e;
        return result<fixed_token_bucket>{std::in_place, r, burst, o, std::forward<Rest>(rest)...};
    }
    template <detail::clock_or_reference... C>
        requires(sizeof...(C) <= 1)
    static constexpr result<fixed_token_bucket> make(rate const& r, permit_count burst, C&&... c) {
        return make(r, burst, token_bucket_options{}, std::forward<C>(c)...);
    }

    fixed_token_bucket(permit_count, rate) = delete;  // the rate comes first: fixed_token_bucket{rate, burst}

    using base::acquire;
    using base::available;
    using base::burst;
    using base::change;
    using base::check;
    using base::clock;
    using base::limits;
    using base::refund;
    using base::reserve;
    using base::settle;
    using base::try_acquire;
    using base::try_acquire_for;
    using base::try_acquire_until;
};

fixed_token_bucket(permit_count, rate) -> fixed_token_bucket<std::chrono::steady_clock>;
fixed_token_bucket(rate, permit_count) -> fixed_token_bucket<std::chrono::steady_clock>;
fixed_token_bucket(rate, permit_count, token_bucket_options) -> fixed_token_bucket<std::chrono::steady_clock>;
template <detail::clock_or_reference C>
fixed_token_bucket(rate, permit_count, C) -> fixed_token_bucket<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C>
fixed_token_bucket(rate, permit_count, token_bucket_options, C) -> fixed_token_bucket<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C>
fixed_token_bucket(rate, permit_count, token_bucket_options,
                   typename std::remove_cvref_t<detail::clock_argument_t<C>>::time_point, C)
    -> fixed_token_bucket<detail::clock_argument_t<C>>;

static_assert(limiter<fixed_token_bucket<>>);

}  // namespace weir::inline v0
