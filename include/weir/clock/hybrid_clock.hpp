// SPDX-License-Identifier: MIT
//
// steady_clock for grants, coarse_clock for denials: a limiter first tries at the coarse time, and reads the precise
// clock only if that does not deny. It grants nothing that the precise clock would not. It may deny for longer, by the
// lag of the coarse clock.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <utility>

#include "../error.hpp"
#include "clock.hpp"
#include "coarse_clock.hpp"

namespace weir::inline v0 {

/// now() reads the precise clock, now_approx() the coarse one. Both count from one epoch.
///
///     weir::token_bucket bucket{weir::rate{100, 1s}, 20, weir::hybrid_clock{}};
///
/// - max_lag() is how far the coarse clock may lag behind the precise one: by default one step of it, 1 to 10 ms. A
///   kernel that skips ticks on an idle core lags more (13 ms were seen at a step of 4 ms). Denials then last longer by
///   that much, and nothing else changes.
/// - A permit that is available from R on is denied, to attempts without a time point, until the coarse clock reaches
///   R. So retry_at() of such a denial is R + max_lag(), and an earlier attempt may succeed.
/// - This costs rate: a bucket that holds less than rate × max_lag() overflows in the meantime.
/// - Attempts with a time point do not use now_approx().
template <class Precise = std::chrono::steady_clock, class Coarse = coarse_clock>
    requires clock<Precise> && clock<Coarse>
class basic_hybrid_clock {
    using precise_type = typename detail::clock_traits<Precise>::type;

public:
    using duration = typename precise_type::duration;
    using rep = typename duration::rep;
    using period = typename duration::period;
    using time_point = typename precise_type::time_point;
    static constexpr bool is_steady = detail::is_steady<precise_type>;

    basic_hybrid_clock()
        requires std::default_initializable<Precise> && std::default_initializable<Coarse>
        : basic_hybrid_clock{Precise{}, Coarse{}} {}
    /// The lag is one step of the coarse clock.
    template <class P, class C>
        requires std::constructible_from<detail::clock_box<Precise>, P&&> &&
                     std::constructible_from<detail::clock_box<Coarse>, C&&>
    basic_hybrid_clock(P&& precise, C&& coarse)
        : precise_{std::forward<P>(precise)},
          coarse_{std::forward<C>(coarse)},
          lag_{std::chrono::ceil<duration>(resolution_of(coarse_.get()))} {}
    /// With another lag. Throws std::invalid_argument for what validate() names.
    template <class P, class C>
        requires std::constructible_from<detail::clock_box<Precise>, P&&> &&
                     std::constructible_from<detail::clock_box<Coarse>, C&&>
    basic_hybrid_clock(P&& precise, C&& coarse, any_duration<duration> max_lag)
        : precise_{std::forward<P>(precise)}, coarse_{std::forward<C>(coarse)}, lag_{max_lag} {
        detail::ensure(validate(max_lag));
    }

    [[nodiscard("validate() only reports")]] static constexpr error validate(any_duration<duration> max_lag) noexcept {
        if (max_lag.count() <= 0) return {"max_lag must be positive"};
        return {};
    }

    time_point now() const { return precise_.get().now(); }
    time_point now_approx() const {
        return time_point{std::chrono::floor<duration>(coarse_.get().now().time_since_epoch())};
    }
    duration max_lag() const noexcept { return lag_; }
    duration resolution() const noexcept { return resolution_of(precise_.get()); }

    /// See weir::wait_until. Where the precise clock has a way of its own to wait, this clock waits in that way.
    template <class Parker>
    bool wait_until(Parker& p, time_point t) const
        requires requires(precise_type const& c) { c.wait_until(p, t); }
    {
        return precise_.get().wait_until(p, t);
    }

private:
    [[no_unique_address]] detail::clock_box<Precise> precise_;
    [[no_unique_address]] detail::clock_box<Coarse> coarse_;
    duration lag_;
};

using hybrid_clock = basic_hybrid_clock<>;

}  // namespace weir::inline v0
