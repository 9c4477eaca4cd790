// SPDX-License-Identifier: MIT
//
// How weir's coroutines wait: by a timer that the caller's event loop provides, through a callback that allocates
// nothing.
#pragma once

namespace weir::inline v0 {

/// What a timer calls when it fires, and what is called when an operation has ended.
struct timer_callback {
    void (*run)(void*) = nullptr;
    void* context = nullptr;

    void operator()() const { run(context); }
};

/// The caller's timer, by which a coroutine waits: one wait at a time.
/// - wait_until(t, f): calls f once, at or after `t` (time_point::max(): at no time), or soon after wake(); from the
///   timer's executor, and never from within wait_until. f may call wait_until again, or destroy the timer.
/// - wake(): from any thread, while a lock is held, so it must not call f itself: it hands the call to the executor.
///   A call that comes while no wait is armed is kept for the next wait_until.
/// - cancel(): from where f is called; the wait ends and f is not called.
template <class T, class TimePoint>
concept async_timer = requires(T& timer, TimePoint t, timer_callback f) {
    timer.wait_until(t, f);
    timer.wake();
    timer.cancel();
};

}  // namespace weir::inline v0
