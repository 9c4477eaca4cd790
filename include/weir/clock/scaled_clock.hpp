// SPDX-License-Identifier: MIT
//
// A clock that runs N times as fast as another, for demonstrations and for tests of long periods. Sleeping by it takes
// a N-th of the time.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <utility>

#include "../detail/parker.hpp"
#include "../error.hpp"
#include "clock.hpp"

namespace weir::inline v0 {

/// Starts at time 0 when it is made, and runs `factor` times as fast as its base; an lvalue base is referred to and
/// must outlive the clock, an rvalue is owned. A copy shows the same time. A factor below 1 is an error.
///
/// Resolution: `factor` times the base's. Cost: the base's read and a multiplication. Drift: the base's, as a share.
/// Every delay of the real world (a late wake-up, a round trip) appears `factor` times as long.
/// Reaches as far as its base, divided by the factor: 292 years of nanoseconds are 107 days at a factor of 1,000;
/// from there on it stands at time_point::max().
template <class Base = std::chrono::steady_clock>
class scaled_clock {
public:
    using base_type = typename detail::clock_traits<Base>::type;
    using duration = typename base_type::duration;
    using rep = typename duration::rep;
    using period = typename duration::period;
    using time_point = std::chrono::time_point<scaled_clock, duration>;
    static constexpr bool is_steady = detail::is_steady<base_type>;

    explicit scaled_clock(std::int64_t factor)
        requires std::default_initializable<Base>
        : scaled_clock{factor, Base{}} {}
    template <class B>
        requires std::constructible_from<detail::clock_box<Base>, B&&>
    scaled_clock(std::int64_t factor, B&& base)
        : base_{std::forward<B>(base)}, factor_{factor}, origin_{base_.get().now()} {
        detail::ensure(validate(factor));
    }

    static constexpr error validate(std::int64_t factor) noexcept {
        if (factor < 1) return {"a clock's factor must be at least 1"};
        return {};
    }

    time_point now() const { return time_point{scale(base_.get().now() - origin_)}; }

    std::int64_t factor() const noexcept { return factor_; }
    duration resolution() const { return scale(resolution_of(base_.get())); }

    /// How long `d` takes by the base, rounded up: what to give to a timer that knows real time only.
    duration base_duration(duration d) const noexcept {
        auto const q = d.count() / factor_;
        return duration{static_cast<rep>(q + (d.count() % factor_ > 0 ? 1 : 0))};
    }

    /// When this clock has reached `t`, by the base: the first of the base's instants at which it has.
    typename base_type::time_point base_time(time_point t) const noexcept {
        if (t == (time_point::max)()) return (base_type::time_point::max)();
        auto const at = detail::saturating_add(detail::ticks(origin_), base_duration(t.time_since_epoch()).count());
        constexpr std::int64_t end = (std::numeric_limits<rep>::max)();
        return typename base_type::time_point{duration{static_cast<rep>(at < end ? at : end)}};
    }

    /// See weir::wait_until.
    bool wait_until(parker& seat, time_point t) const { return weir::wait_until(base_.get(), seat, base_time(t)); }

private:
    duration scale(duration d) const noexcept {
        std::int64_t r{};
        if (__builtin_mul_overflow(static_cast<std::int64_t>(d.count()), factor_, &r) ||
            r > (std::numeric_limits<rep>::max)()) {
            return d.count() < 0 ? (duration::min)() : (duration::max)();
        }
        return duration{static_cast<rep>(r)};
    }

    [[no_unique_address]] detail::clock_box<Base> base_;
    std::int64_t factor_;
    typename base_type::time_point origin_;
};

scaled_clock(std::int64_t) -> scaled_clock<std::chrono::steady_clock>;
template <clock C>
scaled_clock(std::int64_t, C&&) -> scaled_clock<C>;

}  // namespace weir::inline v0
