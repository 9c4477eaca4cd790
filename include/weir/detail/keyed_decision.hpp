// SPDX-License-Identifier: MIT
//
// What an attempt on keyed_buckets returned: its answers, computed when they are asked for, and the receipt of a grant.
#pragma once

#include <cstdint>

#include "../error.hpp"
#include "../limiter.hpp"
#include "../rate.hpp"
#include "decision_head.hpp"
#include "gcra_limiter.hpp"
#include "keyed_layout.hpp"
#include "keyed_set.hpp"

namespace weir::inline v0::detail {

/// The ticks of a table on its clock: 2^shift of the clock's each, and epoch 1 begins at the origin.
template <class TimePoint>
struct keyed_time {
    std::int64_t origin;
    unsigned shift;

    constexpr std::uint64_t ticks(TimePoint t) const noexcept {
        using duration = typename TimePoint::duration;
        return keyed_layout<>::start_of(1) + (ticks_since<duration>(t, origin) >> shift);
    }
    constexpr TimePoint time(std::uint64_t t) const noexcept {
        return time_since<TimePoint>(origin, (t - keyed_layout<>::start_of(1)) << shift);
    }
};

template <class TimePoint>
class keyed_decision {
public:
    using time_point = TimePoint;
    using duration = typename TimePoint::duration;
    /// The plan by which it was made. The rate is that in force: a permit takes whole ticks of the table.
    struct limits_type {
        weir::rate rate;
        permit_count burst;
    };

    constexpr bool granted() const noexcept { return outcome_.result == keyed_outcome::status::granted; }
    constexpr explicit operator bool() const noexcept { return granted(); }
    /// Denied because all slots of the key's set hold debt: the key itself may owe nothing.
    constexpr bool full() const noexcept { return outcome_.result == keyed_outcome::status::full; }
    /// Denied, and no waiting helps: error() says why.
    constexpr bool never() const noexcept { return never_; }
    constexpr weir::error error() const noexcept {
        if (!never_) return {};
        if (!plan_.is_set()) return {errc::invalid_argument, "the plan is not set: see set_plan"};
        return never_granted(n_);
    }

    /// Denied: the earliest instant at which the same attempt is granted if no other takes; time_point::max() when
    /// never. Granted: the time of the attempt.
    constexpr time_point retry_at() const noexcept {
        if (granted()) return t_;
        if (never_) return (time_point::max)();
        if (full()) return later(outcome_.tat);
        return later(outcome_.tat + n_ * plan_.interval() - plan_.burst() * plan_.interval() - wait_);
    }
    constexpr duration retry_after() const noexcept { return detail::retry_after(never(), t_, retry_at()); }
    constexpr std::int64_t retry_after_seconds() const noexcept { return seconds_rounded_up(retry_after()); }

    /// The time of the attempt.
    constexpr time_point at() const noexcept { return t_; }

    /// What the key could take just after the attempt.
    constexpr permits remaining() const noexcept {
        if (full() || !plan_.is_set()) return 0;
        std::uint64_t const debt = outcome_.tat - outcome_.at;
        std::uint64_t const span = plan_.burst() * plan_.interval();
        return debt < span ? (span - debt) / plan_.interval() : 0;
    }
    /// When the key owes nothing, if no other takes.
    constexpr time_point full_at() const noexcept { return later(outcome_.tat); }

    constexpr limits_type limits() const {
        auto const ticks = static_cast<std::int64_t>(plan_.interval() << time_.shift);
        return {weir::rate{1, std::chrono::duration<std::int64_t, typename duration::period>{ticks}}, plan_.burst()};
    }

protected:
    constexpr keyed_decision(keyed_time<TimePoint> const& time, time_point t, permits n, keyed_plan_word plan,
                             std::uint64_t wait, keyed_outcome const& o, bool never, void const* set) noexcept
        : time_{time},
          t_{t},
          n_{n},
          wait_{wait},
          plan_{plan},
          outcome_{o},
          set_{set},
          live_{granted() ? n : 0},
          never_{never} {}

    constexpr time_point later(std::uint64_t tick) const noexcept {
        time_point const at = time_.time(tick);
        return at < t_ ? t_ : at;
    }

    keyed_time<TimePoint> time_;
    time_point t_;
    permits n_;
    std::uint64_t wait_;
    keyed_plan_word plan_;
    keyed_outcome outcome_;
    void const* set_;
    live_permits live_;
    bool never_;
};

}  // namespace weir::inline v0::detail
