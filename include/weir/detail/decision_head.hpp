// SPDX-License-Identifier: MIT
//
// What decisions with a known retry_at have in common, and what a receipt is live by.
#pragma once

#include <utility>

#include "../clock/clock.hpp"

namespace weir::inline v0::detail {

/// Granted or not, and when to ask again: the part of a decision that its reader sees; see the concept `decision`.
template <class TimePoint>
class decision_head {
public:
    using time_point = TimePoint;
    using duration = typename TimePoint::duration;

    constexpr bool granted() const noexcept { return granted_; }
    constexpr explicit operator bool() const noexcept { return granted_; }
    constexpr bool never() const noexcept { return !granted_ && retry_at_ == (time_point::max)(); }
    constexpr time_point retry_at() const noexcept { return retry_at_; }
    constexpr duration retry_after() const noexcept {
        return never() ? (duration::max)() : duration{saturating_sub(ticks(retry_at_), ticks(at_))};
    }

protected:
    constexpr explicit decision_head(time_point t) noexcept : at_{t}, retry_at_{t} {}

    time_point at_;
    time_point retry_at_;
    bool granted_ = false;
};

/// Whether a receipt can still be used. In one hand only: moved, it leaves false behind.
class live_once {
public:
    constexpr live_once() = default;
    constexpr live_once(live_once&& o) noexcept : live_{o.spend()} {}
    constexpr live_once& operator=(live_once&& o) noexcept {
        live_ = o.spend();
        return *this;
    }
    ~live_once() = default;

    constexpr void begin() noexcept { live_ = true; }
    constexpr bool spend() noexcept { return std::exchange(live_, false); }

private:
    bool live_ = false;
};

}  // namespace weir::inline v0::detail
