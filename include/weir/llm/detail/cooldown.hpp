// SPDX-License-Identifier: MIT
//
// cooldown: how long an account or a model is not used, after a verdict that says so.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>

#include "../../atomics.hpp"
#include "../../clock/clock.hpp"
#include "../verdict.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm {

/// Cooldown until the time in the verdict. Without one, the delay doubles each time and resets on the first success.
/// Any thread may call any verb. Every access is relaxed: the end and the count are each a value by itself.
template <class TimePoint, class Atomics = std_atomics>
class cooldown {
public:
    using duration = typename TimePoint::duration;

    /// `now` is the wall clock at t; with 0, which means unknown, a date in the verdict is ignored.
    void begin(verdict const& v, TimePoint t, std::chrono::sys_seconds now, std::chrono::nanoseconds min_delay,
               std::chrono::nanoseconds max_delay) noexcept {
        if (v.until && now.time_since_epoch().count() != 0) return extend(after(t, llm::until(*v.until, now)));
        if (v.wait) return extend(after(t, *v.wait));
        std::int64_t seen = until_.load(std::memory_order_relaxed);
        // Several calls see one failure at the same time: the delay doubles for one of them.
        while (seen <= weir::detail::ticks(t)) {
            std::chrono::nanoseconds delay = min_delay;
            std::uint32_t const before = count_.load(std::memory_order_relaxed);
            for (std::uint32_t k = 0; k < before && delay < max_delay; ++k)
                delay = delay > max_delay / 2 ? max_delay : delay * 2;
            std::int64_t const end = weir::detail::ticks(after(t, (std::min)(delay, max_delay)));
            if (until_.compare_exchange_weak(seen, end, std::memory_order_relaxed, std::memory_order_relaxed)) {
                count_.fetch_add(1, std::memory_order_relaxed);
                return;
            }
        }
    }

    /// Until `t` at least.
    void extend(TimePoint t) noexcept {
        std::int64_t const end = weir::detail::ticks(t);
        std::int64_t seen = until_.load(std::memory_order_relaxed);
        while (seen < end &&
               !until_.compare_exchange_weak(seen, end, std::memory_order_relaxed, std::memory_order_relaxed)) {
        }
    }

    /// A call succeeded: the next delay is the first one again.
    void answered() noexcept {
        if (count_.load(std::memory_order_relaxed) != 0) count_.exchange(0, std::memory_order_relaxed);
    }

    /// Ends it now, and resets the delay.
    void end() noexcept {
        until_.exchange((std::numeric_limits<std::int64_t>::min)(), std::memory_order_relaxed);
        answered();
    }

    /// When it ends; a time not after now when there is none.
    TimePoint until() const noexcept {
        return TimePoint{duration{static_cast<typename duration::rep>(until_.load(std::memory_order_relaxed))}};
    }

private:
    static TimePoint after(TimePoint t, std::chrono::nanoseconds delay) noexcept {
        // What saturated on the way has no end, even where the clock could count so far.
        if (delay == (std::chrono::nanoseconds::max)()) return (TimePoint::max)();
        return weir::detail::saturating_add(t, weir::detail::saturating_ceil<duration>(delay));
    }

    typename Atomics::template atomic<std::int64_t> until_{(std::numeric_limits<std::int64_t>::min)()};
    typename Atomics::template atomic<std::uint32_t> count_{0};
};

}  // namespace weir::inline v0::llm
