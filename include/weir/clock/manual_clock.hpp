// SPDX-License-Identifier: MIT
//
// A clock that moves when it is told to, for tests and simulations. It drives decisions and sleeps alike, across
// threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>  // std::ref, by which limiters are given a clock that they share
#include <mutex>
#include <optional>

#include "../detail/parker.hpp"
#include "clock.hpp"

namespace weir::inline v0 {

/// Stands still until it is moved; moving it wakes exactly the sleepers that are due, and a sleeper returns when it was
/// notified or is due, never otherwise. Nanoseconds from 0, or from the start given. All members may be called from any
/// thread.
///
/// now() is one atomic load. Whoever reads the time that a call of advance() made also sees what was written before
/// that call. Moving it, sleeping and counting sleepers take a mutex, and O(sleepers).
///
/// In a test, wait_for_sleepers(n) takes the place of a sleep: it returns when n threads have gone to sleep by this
/// clock, so that the test may move it and know whom that wakes.
class manual_clock {
public:
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<manual_clock>;
    static constexpr bool is_steady = false;  // turn_back() is there

    explicit manual_clock(time_point start = {}) noexcept : now_{detail::ticks(start)} {}
    manual_clock(manual_clock const&) = delete;
    manual_clock& operator=(manual_clock const&) = delete;

    time_point now() const noexcept {
        // (1) - this acquire-load synchronizes-with the release-store (2)
        return time_point{duration{now_.load(std::memory_order_acquire)}};
    }

    /// Forward by `d`, at most to time_point::max(); nothing when `d` is not positive.
    void advance(duration d) {
        std::lock_guard const lock{mutex_};
        move_to(time_point{duration{detail::saturating_add(detail::ticks(now()), d.count())}});
    }

    /// Forward to `t`; nothing when that has passed.
    void advance_to(time_point t) {
        std::lock_guard const lock{mutex_};
        move_to(t);
    }

    /// Forward to the instant at which the next sleeper is due, which is returned; where nobody sleeps for a time,
    /// nothing.
    std::optional<time_point> advance_to_next() {
        std::lock_guard const lock{mutex_};
        auto const t = earliest();
        if (t) move_to(*t);
        return t;
    }

    /// Sets the time to `t`, though it be earlier, and wakes nobody: for tests of what a clock that goes back does to
    /// others.
    void turn_back(time_point t) {
        std::lock_guard const lock{mutex_};
        set(t);
    }

    /// How many threads sleep: have gone to sleep by this clock and have not been woken.
    std::size_t sleepers() const {
        std::lock_guard const lock{mutex_};
        return count();
    }

    /// Blocks until at least `n` threads sleep.
    void wait_for_sleepers(std::size_t n) const {
        std::unique_lock lock{mutex_};
        arrived_.wait(lock, [&] { return count() >= n; });
    }

    /// When the next sleeper is due; nothing when nobody sleeps, or only until notified.
    std::optional<time_point> next_due() const {
        std::lock_guard const lock{mutex_};
        return earliest();
    }

    /// See weir::wait_until.
    bool wait_until(parker& seat, time_point t) const {
        sleeper self{seat, t};
        {
            std::lock_guard const lock{mutex_};
            if (now() >= t) return seat.take();
            seat.arm();
            self.next = sleepers_;
            if (sleepers_ != nullptr) sleepers_->previous = &self;
            sleepers_ = &self;
            arrived_.notify_all();
        }
        // Mutexes are taken in one order, the clock's before the seat's, and a sleeper holds neither here.
        seat.wait();
        std::lock_guard const lock{mutex_};
        if (!self.woken) remove(self);
        return seat.take();  // not before it is removed: who counts sleepers meanwhile sees that it was notified
    }

private:
    struct sleeper {
        parker& seat;
        time_point due;
        sleeper* previous = nullptr;
        sleeper* next = nullptr;
        bool woken = false;
    };

    // All that follow are called with the mutex held.
    void set(time_point t) noexcept {
        // (2) - this release-store synchronizes-with the acquire-load (1)
        now_.store(detail::ticks(t), std::memory_order_release);
    }
    void move_to(time_point t) {
        if (t <= now()) return;
        set(t);
        for (sleeper* s = sleepers_; s != nullptr;) {
            sleeper* const next = s->next;
            if (s->due <= t) {
                remove(*s);
                s->woken = true;
                s->seat.expire();  // the sleeper takes the mutex before it leaves, so that the seat lives
            }
            s = next;
        }
    }
    void remove(sleeper& s) const noexcept {
        (s.previous != nullptr ? s.previous->next : sleepers_) = s.next;
        if (s.next != nullptr) s.next->previous = s.previous;
    }
    std::size_t count() const {
        std::size_t n = 0;
        for (sleeper* s = sleepers_; s != nullptr; s = s->next) n += s->seat.notified() ? 0 : 1;
        return n;
    }
    std::optional<time_point> earliest() const {
        auto t = (time_point::max)();
        for (sleeper* s = sleepers_; s != nullptr; s = s->next) {
            if (!s->seat.notified()) t = (std::min)(t, s->due);
        }
        if (t == (time_point::max)()) return std::nullopt;
        return t;
    }

    std::atomic<std::int64_t> now_;
    mutable std::mutex mutex_;
    mutable std::condition_variable arrived_;
    mutable sleeper* sleepers_ = nullptr;
};

}  // namespace weir::inline v0
