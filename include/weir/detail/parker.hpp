// SPDX-License-Identifier: MIT
//
// Sleeping by a clock. A thread sleeps in a parker until the clock reaches an instant or another thread notifies it.
// The clock decides how, so that one manual clock drives decisions and sleeps.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>
#include <utility>

#include "../clock/clock.hpp"
#include "sleep.hpp"

namespace weir::inline v0 {

/// What a thread sleeps in: any thread may notify it, one thread at a time sleeps in it (through weir::wait_until). A
/// notification is kept until a sleep returns it, so that one that comes before the sleep is not lost; two before one
/// sleep count as one. notify() takes the parker's own mutex, which is never held for longer than a few instructions.
///
/// The parker must outlive the call of notify(): where the sleeper may leave on its own, notify it under a mutex
/// that it takes before it destroys the parker.
class parker {
public:
    parker() = default;
    parker(parker const&) = delete;
    parker& operator=(parker const&) = delete;

    void notify() {
        std::lock_guard const lock{mutex_};
        notified_ = true;
        condition_.notify_one();
    }

    // What follows is for clocks that sleep in their own way: see manual_clock.

    /// Whether a notification waits to be taken.
    bool notified() const {
        std::lock_guard const lock{mutex_};
        return notified_;
    }

    /// Takes the notification, if there is one.
    bool take() {
        std::lock_guard const lock{mutex_};
        return std::exchange(notified_, false);
    }

    /// Forgets an expire() that came after the last sleep ended.
    void arm() {
        std::lock_guard const lock{mutex_};
        expired_ = false;
    }

    /// Ends the sleep because its time has come.
    void expire() {
        std::lock_guard const lock{mutex_};
        expired_ = true;
        condition_.notify_one();
    }

    /// Sleeps until notify() or expire(); a notification is not taken.
    void wait() {
        std::unique_lock lock{mutex_};
        condition_.wait(lock, [this] { return notified_ || expired_; });
        expired_ = false;
    }

    /// Sleeps until notify(), for `real` of real time at most; true, and the notification is taken, where there was
    /// one.
    template <class Rep, class Period>
    bool wait_for(std::chrono::duration<Rep, Period> real) {
        std::unique_lock lock{mutex_};
        condition_.wait_for(lock, real, [this] { return notified_; });
        return std::exchange(notified_, false);
    }

private:
    mutable std::mutex mutex_{};
    std::condition_variable condition_{};
    bool notified_ = false;
    bool expired_ = false;
};

/// Sleeps in `p` until it is notified (true) or c.now() >= t (false). time_point::max() means no time at all. A
/// clock without a wait_until of its own is taken to run at the speed of real time; steps of such a clock, as
/// system_clock's, are noticed when the sleep that was computed before the step ends. Never returns false early.
template <clock C>
bool wait_until(C const& c, parker& p, typename C::time_point t) {
    if constexpr (sleeping_clock<C>) {
        return c.wait_until(p, t);
    } else {
        // The time is read outside the parker's mutex, since a clock's now() may take a lock of its own.
        for (;;) {
            typename C::time_point const now = c.now();
            if (now >= t) return p.take();
            std::chrono::nanoseconds const left = detail::sleep_step(now, t);
            if (p.wait_for(left)) return true;
        }
    }
}

/// Sleeps until c.now() >= t.
template <clock C>
void sleep_until(C const& c, typename C::time_point t) {
    detail::sleep_by(c, t);
}

/// Sleeps for `d` of the clock's time, rounded up to its ticks; not at all when `d` is not positive.
template <clock C, class Rep, class Period>
void sleep_for(C const& c, std::chrono::duration<Rep, Period> d) {
    auto const ticks = detail::saturating_ceil<typename C::duration>(d);
    if (ticks > C::duration::zero())
        detail::sleep_by(c, detail::saturating_add(typename C::time_point{c.now()}, ticks));
}

}  // namespace weir::inline v0
