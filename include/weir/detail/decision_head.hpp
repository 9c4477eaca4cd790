// SPDX-License-Identifier: MIT
//
// What decisions with a known retry_at have in common, and what a receipt is live by.
#pragma once

#include <cstdint>
#include <utility>

#include "../clock/clock.hpp"
#include "../limiter.hpp"

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
    constexpr duration retry_after() const noexcept { return detail::retry_after(never(), at_, retry_at_); }
    constexpr std::int64_t retry_after_seconds() const noexcept { return seconds_rounded_up(retry_after()); }

protected:
    constexpr explicit decision_head(time_point t) noexcept : at_{t}, retry_at_{t} {}

    time_point at_;
    time_point retry_at_;
    bool granted_ = false;
};

/// How many permits a receipt can still give back. One owner only: an object that was moved from has none.
class live_permits {
public:
    constexpr live_permits() = default;
    constexpr explicit live_permits(permits n) noexcept : n_{n} {}
    constexpr live_permits(live_permits&& o) noexcept : n_{o.take_all()} {}
    constexpr live_permits& operator=(live_permits&& o) noexcept {
        n_ = o.take_all();
        return *this;
    }
    ~live_permits() = default;

    constexpr permits count() const noexcept { return n_; }
    /// Takes up to k of them, and returns how many.
    constexpr permits take(permits k) noexcept {
        k = k < n_ ? k : n_;
        n_ -= k;
        return k;
    }
    constexpr permits take_all() noexcept { return std::exchange(n_, permits{0}); }

private:
    permits n_ = 0;
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
    constexpr bool is_live() const noexcept { return live_; }
    constexpr bool spend() noexcept { return std::exchange(live_, false); }

private:
    bool live_ = false;
};

}  // namespace weir::inline v0::detail
