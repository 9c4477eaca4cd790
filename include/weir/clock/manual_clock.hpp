// SPDX-License-Identifier: MIT
//
// A clock that the program moves, for tests and simulations. It drives both decisions and sleeps, across threads.
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

/// Moves only when it is told to. Moving it wakes exactly the sleepers that are due: a sleep ends when it was notified
/// or is due, never otherwise. Nanoseconds from 0, or from the given start. All members may be called from any thread.
///
///     weir::manual_clock clock;
///     weir::token_bucket bucket{weir::rate{1, 1s}, 1, std::ref(clock)};
///     clock.advance(1s);
///
/// now() is one atomic load. A thread that reads the time set by a call of advance() also sees what was written before
/// that call. Moving it, sleeping and counting sleepers take a mutex and O(sleepers).
///
/// In a test, wait_for_sleepers(n) replaces a sleep: it returns when n threads sleep by this clock, so that the test
/// may move it and knows which threads that wakes.
class manual_clock {
public:
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<manual_clock>;
    static constexpr bool is_steady = false;  // because of turn_back()

    explicit manual_clock(time_point start = {}) noexcept : now_{detail::ticks(start)} {}
    manual_clock(manual_clock const&) = delete;  // shared by reference: pass std::ref(clock)
    manual_clock& operator=(manual_clock const&) = delete;

    time_point now() const noexcept {
        // (1) pairs with (2): what was written before the time was set is visible to a thread that reads it
        return time_point{duration{now_.load(std::memory_order_acquire)}};
    }

    /// Moves forward by any duration, at most to time_point::max(). Not positive: does nothing.
    void advance(any_duration<duration> d) {
        std::lock_guard const lock{mutex_};
        move_to(time_point{duration{detail::saturating_add(detail::ticks(now()), d.count())}});
    }

    /// Moves forward to `t`. In the past: does nothing.
    void advance_to(time_point t) {
        std::lock_guard const lock{mutex_};
        move_to(t);
    }

    /// Moves forward to the time at which the next sleeper is due, and returns it. Empty if no thread sleeps until a
    /// time.
    std::optional<time_point> advance_to_next() {
        std::lock_guard const lock{mutex_};
        auto const t = earliest();
        if (t) move_to(*t);
        return t;
    }

    /// Sets the time to `t`, earlier or later, and wakes no thread: for tests with a clock that goes back.
    void turn_back(time_point t) {
        std::lock_guard const lock{mutex_};
        set(t);
    }

    /// The number of threads that sleep by this clock and have not been woken.
    std::size_t sleepers() const {
        std::lock_guard const lock{mutex_};
        return count();
    }

    /// Blocks until at least `n` threads sleep.
    void wait_for_sleepers(std::size_t n) const {
        std::unique_lock lock{mutex_};
        arrived_.wait(lock, [&] { return count() >= n; });
    }

    /// When the next sleeper is due. Empty if no thread sleeps until a time.
    std::optional<time_point> next_due() const {
        std::lock_guard const lock{mutex_};
        return earliest();
    }

    /// See weir::wait_until.
    bool wait_until(parker& p, time_point t) const {
        sleeper self{p, t};
        {
            std::lock_guard const lock{mutex_};
            if (now() >= t) return p.take();
            p.arm();
            self.next = sleepers_;
            if (sleepers_ != nullptr) sleepers_->previous = &self;
            sleepers_ = &self;
            arrived_.notify_all();
        }
        // Lock order: the clock's mutex, then the parker's. A sleeper holds neither here.
        p.wait();
        std::lock_guard const lock{mutex_};
        if (!self.woken) remove(self);
        return p.take();  // after the removal: until then, sleepers() must see that it was notified
    }

private:
    struct sleeper {
        parker& parked;
        time_point due;
        sleeper* previous = nullptr;
        sleeper* next = nullptr;
        bool woken = false;
    };

    // The functions below are called with the mutex held.
    void set(time_point t) noexcept {
        // (2) pairs with (1)
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
                s->parked.expire();  // alive: the sleeper takes the clock's mutex before it returns
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
        for (sleeper* s = sleepers_; s != nullptr; s = s->next) n += s->parked.notified() ? 0U : 1U;
        return n;
    }
    std::optional<time_point> earliest() const {
        auto t = (time_point::max)();
        for (sleeper* s = sleepers_; s != nullptr; s = s->next) {
            if (!s->parked.notified()) t = (std::min)(t, s->due);
        }
        if (t == (time_point::max)()) return std::nullopt;
        return t;
    }

    std::atomic<std::int64_t> now_;
    mutable std::mutex mutex_{};
    mutable std::condition_variable arrived_{};
    mutable sleeper* sleepers_ = nullptr;
};

}  // namespace weir::inline v0
