// SPDX-License-Identifier: MIT
//
// probation: after a cooldown one call at a time tries an account or a model, and the others wait for what comes of it.
#pragma once

#include <cstdint>
#include <limits>

#include "../../atomics.hpp"
#include "../../clock/clock.hpp"

namespace weir::inline v0::llm {

/// Calm at first: every call may pass. After begin() one call at a time is the probe; the next may be after it has
/// left, or after the time that it was given. When one has passed, it is calm again. Any thread may call any verb.
/// Every access is relaxed: the state is one word. Lock-free.
template <class TimePoint, class Atomics = std_atomics>
class probation {
public:
    using duration = typename TimePoint::duration;

    /// What a call holds while it is the probe.
    class ticket {
        friend probation;
        std::int64_t until_ = calm;
    };

    /// One call at a time from now on. Where there is a probe already, it stays the one.
    void begin() noexcept {
        std::int64_t seen = calm;
        state_.compare_exchange_strong(seen, open, std::memory_order_relaxed, std::memory_order_relaxed);
    }

    /// When a call may pass: t when it may now, else the time at which the probe is given up.
    TimePoint ready(TimePoint t) const noexcept {
        std::int64_t const s = state_.load(std::memory_order_relaxed);
        if (s == calm || s == open || s <= weir::detail::ticks(t)) return t;
        return TimePoint{duration{static_cast<typename duration::rep>(s)}};
    }

    /// Lets a call pass; false where another is the probe. A probe that has not ended at `give_up` is forgotten.
    bool enter(ticket& mine, TimePoint t, TimePoint give_up) noexcept {
        std::int64_t seen = state_.load(std::memory_order_relaxed);
        while (seen != calm) {
            if (seen != open && seen > weir::detail::ticks(t)) return false;
            std::int64_t const until = weir::detail::ticks(give_up);
            if (state_.compare_exchange_weak(seen, until, std::memory_order_relaxed, std::memory_order_relaxed)) {
                mine.until_ = until;
                return true;
            }
        }
        return true;
    }

    /// The probe was not sent, or its end is no reason to trust: the next call may try.
    void leave(ticket& mine) noexcept { end(mine, open); }
    /// The probe shows that all may pass. Nothing where the call is no probe.
    void pass(ticket& mine) noexcept { end(mine, calm); }

private:
    // Before any time of a clock: neither is a time at which a probe is given up.
    static constexpr std::int64_t calm = (std::numeric_limits<std::int64_t>::min)();
    static constexpr std::int64_t open = calm + 1;

    void end(ticket& mine, std::int64_t next) noexcept {
        if (mine.until_ == calm) return;
        std::int64_t seen = mine.until_;
        mine.until_ = calm;
        // Fails where it was given up and another is the probe.
        state_.compare_exchange_strong(seen, next, std::memory_order_relaxed, std::memory_order_relaxed);
    }

    typename Atomics::template atomic<std::int64_t> state_{calm};
};

}  // namespace weir::inline v0::llm
