// SPDX-License-Identifier: MIT
//
// steady_clock for grants, coarse_clock for refusals: a limiter first tries at the coarse time whether it must refuse,
// and reads the precise clock only if not. It never grants what the precise clock would not; it may refuse longer, by
// the lag.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <utility>

#include "../error.hpp"
#include "clock.hpp"
#include "coarse_clock.hpp"

namespace weir::inline v0 {

/// now() is the precise clock's, now_approx() the coarse one's, which lags behind it by max_lag() at most, as the maker says: a
/// tick of the coarse clock by default, 1 to 10 ms. A kernel that skips ticks while a core is idle lags more (13 ms
/// were seen at a tick of 4 ms): refusals then last as much longer, and nothing else.
///
///     weir::hybrid_clock clock;
///     weir::token_bucket bucket{weir::rate{100, 1s}, 20, clock};
///
/// A permit that is there from R on is refused to attempts without a time point until the coarse clock has got to R,
/// and may then have waited for max_lag(). So `retry_at` of such a refusal is R + max_lag(); an attempt before may be granted.
/// It costs rate: a bucket that holds less than rate × max_lag() overflows meanwhile. Attempts with a time point know
/// nothing of all this.
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
    template <class P, class C>
    basic_hybrid_clock(P&& precise, C&& coarse)
        : precise_{std::forward<P>(precise)},
          coarse_{std::forward<C>(coarse)},
          lag_{std::chrono::ceil<duration>(resolution_of(coarse_.get()))} {}
    /// With a lag of another length. A lag that is not positive is an error.
    template <class P, class C>
    basic_hybrid_clock(P&& precise, C&& coarse, duration lag)
        : precise_{std::forward<P>(precise)}, coarse_{std::forward<C>(coarse)}, lag_{lag} {
        detail::ensure(validate(lag));
    }

    static constexpr error validate(duration lag) noexcept {
        if (lag.count() <= 0) return {"a lag must be positive"};
        return {};
    }

    time_point now() const { return precise_.get().now(); }
    /// The two share an epoch.
    time_point now_approx() const {
        return time_point{std::chrono::floor<duration>(coarse_.get().now().time_since_epoch())};
    }
    duration max_lag() const noexcept { return lag_; }
    duration resolution() const noexcept { return resolution_of(precise_.get()); }

private:
    [[no_unique_address]] detail::clock_box<Precise> precise_;
    [[no_unique_address]] detail::clock_box<Coarse> coarse_;
    duration lag_;
};

using hybrid_clock = basic_hybrid_clock<>;

}  // namespace weir::inline v0
