// SPDX-License-Identifier: MIT
//
// A clock that runs N times as fast as another, for demonstrations and for tests of long periods. Sleeping by it takes
// 1/N of the time.
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

/// Starts at time 0 when it is constructed, and runs `factor` times as fast as its base. It owns its base; to share
/// one, pass std::ref(base), which must outlive the clock. A copy shows the same time.
///
/// - Resolution: `factor` times the base's. Cost: the base's read and a multiplication. Drift: the base's, as a share.
/// - Every delay of the real world (a late wake-up, a round trip) appears `factor` times as long.
/// - Range: the base's divided by the factor. 292 years of nanoseconds are 107 days at a factor of 1,000. From then on
///   now() is time_point::max().
template <class Base = std::chrono::steady_clock>
class scaled_clock {
public:
    using base_type = typename detail::clock_traits<Base>::type;
    using duration = typename base_type::duration;
    using rep = typename duration::rep;
    using period = typename duration::period;
    using time_point = std::chrono::time_point<scaled_clock, duration>;
    static constexpr bool is_steady = detail::is_steady<base_type>;

    /// Throws std::invalid_argument for what validate() names.
    explicit scaled_clock(std::int64_t factor)
        requires std::default_initializable<Base>
        : scaled_clock{factor, Base{}} {}
    template <class B>
        requires std::constructible_from<detail::clock_box<Base>, B&&>
    scaled_clock(std::int64_t factor, B&& base)
        : base_{std::forward<B>(base)}, factor_{factor}, origin_{base_.get().now()} {
        detail::ensure(validate(factor));
    }

    [[nodiscard("validate() only reports")]] static constexpr error validate(std::int64_t factor) noexcept {
        if (factor < 1) return {"factor must be at least 1"};
        return {};
    }

    time_point now() const { return time_point{scale(base_.get().now() - origin_)}; }

    std::int64_t factor() const noexcept { return factor_; }
    duration resolution() const { return scale(resolution_of(base_.get())); }

    /// How long `d` takes by the base, rounded up: what to pass to a timer of real time.
    duration base_duration(duration d) const noexcept {
        auto const q = d.count() / factor_;
        return duration{static_cast<rep>(q + (d.count() % factor_ > 0 ? 1 : 0))};
    }

    /// The first time point of the base at which this clock has reached `t`.
    typename base_type::time_point base_time(time_point t) const noexcept {
        if (t == (time_point::max)()) return (base_type::time_point::max)();
        auto const at = detail::saturating_add(detail::ticks(origin_), base_duration(t.time_since_epoch()).count());
        constexpr std::int64_t last = (std::numeric_limits<rep>::max)();
        return typename base_type::time_point{duration{static_cast<rep>(at < last ? at : last)}};
    }

    /// See weir::wait_until.
    bool wait_until(parker& p, time_point t) const { return weir::wait_until(base_.get(), p, base_time(t)); }

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
template <detail::clock_or_reference C>
scaled_clock(std::int64_t, C) -> scaled_clock<detail::clock_argument_t<C>>;

}  // namespace weir::inline v0
