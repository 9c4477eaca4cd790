// SPDX-License-Identifier: MIT
//
// absence: how long something is not to be asked, an account or a model, after a verdict that it has nothing to give.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>

#include "../../atomics.hpp"
#include "../../clock/clock.hpp"
#include "../verdict.hpp"
#include "time_text.hpp"

namespace weir::inline v0::llm {

/// Until what the verdict says; where it says nothing for a time that doubles with each absence, until there is an answer again. Any thread may call
/// any verb: a time and a count, each a word by itself, every access relaxed.
template <class TimePoint, class Atomics = std_atomics>
class cooldown {
public:
    using duration = typename TimePoint::duration;

    /// `now` is the wall clock's time at t; 0 where it is not known, and a date in the verdict then says nothing.
    void begin(verdict const& v, TimePoint t, std::chrono::sys_seconds now, std::chrono::nanoseconds first,
               std::chrono::nanoseconds longest) noexcept {
        if (v.until && now.time_since_epoch().count() != 0) return until(after(t, llm::until(*v.until, now)));
        if (v.wait) return until(after(t, *v.wait));
        std::int64_t seen = back_.load(std::memory_order_relaxed);
        // Who finds it out has seen the same absence through another call, however close together: it doubles for one of them.
        while (seen <= weir::detail::ticks(t)) {
            std::chrono::nanoseconds length = first;
            std::uint32_t const before = count_.load(std::memory_order_relaxed);
            for (std::uint32_t k = 0; k < before && length < longest; ++k)
                length = length > longest / 2 ? longest : length * 2;
            std::int64_t const when = weir::detail::ticks(after(t, (std::min)(length, longest)));
            if (back_.compare_exchange_weak(seen, when, std::memory_order_relaxed, std::memory_order_relaxed)) {
                count_.fetch_add(1, std::memory_order_relaxed);
                return;
            }
        }
    }

    /// Until `t` at least.
    void until(TimePoint t) noexcept {
        std::int64_t const when = weir::detail::ticks(t);
        std::int64_t seen = back_.load(std::memory_order_relaxed);
        while (seen < when &&
               !back_.compare_exchange_weak(seen, when, std::memory_order_relaxed, std::memory_order_relaxed)) {
        }
    }

    /// It answered: the next absence begins with the first length again.
    void answered() noexcept {
        if (count_.load(std::memory_order_relaxed) != 0) count_.exchange(0, std::memory_order_relaxed);
    }

    /// It is there again, whatever was said.
    void end() noexcept {
        back_.exchange((std::numeric_limits<std::int64_t>::min)(), std::memory_order_relaxed);
        answered();
    }

    /// When it is there again; a time that is not after now: it is.
    TimePoint back_at() const noexcept {
        return TimePoint{duration{static_cast<typename duration::rep>(back_.load(std::memory_order_relaxed))}};
    }

private:
    static TimePoint after(TimePoint t, std::chrono::nanoseconds length) noexcept {
        // What is too long to be counted in the clock's ticks is for ever.
        using ticks_of_one = std::ratio_divide<std::nano, typename duration::period>;
        if (length > (std::chrono::nanoseconds::max)() / ticks_of_one::num) return (TimePoint::max)();
        return TimePoint{duration{static_cast<typename duration::rep>(weir::detail::saturating_add(
            weir::detail::ticks(t), static_cast<std::int64_t>(std::chrono::ceil<duration>(length).count())))}};
    }

    typename Atomics::template atomic<std::int64_t> back_{(std::numeric_limits<std::int64_t>::min)()};
    typename Atomics::template atomic<std::uint32_t> count_{0};
};

}  // namespace weir::inline v0::llm
