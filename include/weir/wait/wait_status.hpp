// SPDX-License-Identifier: MIT
//
// What all queues in front of limiters have in common: how a wait ends, options, and tickets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

namespace weir::inline v0 {

/// How a wait ended.
enum class wait_status : std::uint8_t {
    granted,     ///< the permits are taken
    timed_out,   ///< the deadline came first
    too_late,    ///< refused at once: it could not be granted before the deadline (wait_queue_options::refuse_too_late)
    stopped,     ///< the stop token said so
    queue_full,  ///< wait_queue_options::max_waiting were waiting
    never,       ///< more was asked for than the limiter can ever grant
    closed,      ///< the queue is closed
};

constexpr std::string_view to_string(wait_status s) noexcept {
    switch (s) {
        case wait_status::granted: return "granted";
        case wait_status::timed_out: return "timed out";
        case wait_status::too_late: return "too late";
        case wait_status::stopped: return "stopped";
        case wait_status::queue_full: return "queue full";
        case wait_status::never: return "never";
        case wait_status::closed: return "closed";
    }
    return "unknown";
}

struct wait_queue_options {
    /// How many calls may wait. 0: no call waits, an attempt succeeds or not.
    std::size_t max_waiting = (std::numeric_limits<std::size_t>::max)() / 2;
    /// Refuse a call at once when only permits that come back (a refund, a settlement, a change of limits) could
    /// bring its grant before its deadline. Off by default, since they may come back.
    bool refuse_too_late = false;
};

template <class Limiter, class Atomics, class Queue>
class wait_queue;

}  // namespace weir::inline v0

namespace weir::inline v0::detail {
template <class Line, class Cost, class Token>
class waiter;
template <class Line, class Cost, class Token>
class thread_waiter;
template <class Queue>
class first_attempt;
}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// When its holder first arrived. Passed to several waits in one queue, or in the queues of one fair_queue or
/// queue_group, it keeps the holder ahead of every waiter that arrived later: for a retry after a call that was
/// served and failed. The first wait sets it. One wait at a time may use it.
class queue_ticket {
public:
    constexpr queue_ticket() noexcept = default;
    /// Whether it has been used.
    constexpr explicit operator bool() const noexcept { return arrival_ != 0; }

private:
    template <class, class, class>
    friend class detail::waiter;
    template <class>
    friend class detail::first_attempt;
    std::uint64_t arrival_ = 0;
};

}  // namespace weir::inline v0
