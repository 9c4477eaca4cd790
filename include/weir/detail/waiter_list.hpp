// SPDX-License-Identifier: MIT
//
// Waiters in order of arrival, and the queue of those that are served first come, first served.
//
// Closing. close() marks the queue closed and wakes every waiter, with the queue's mutex held. A thread that waits
// leaves through the mutex when it runs, with wait_status::closed. A coroutine may be suspended in an executor that
// the closing thread itself runs, so no thread may wait for it: close() takes it out of the list, and it does not touch
// the queue again. Its node's `phase` decides which of the two it is:
//   awake → asleep     the coroutine, before it arms its timer: from here on it touches nothing of the queue;
//   asleep → awake     the coroutine, when its timer fires or it is destroyed: it is in the list, and leaves;
//   asleep → released  close(): the coroutine is out of the list.
//   (1) close() releases, the coroutine acquires: what close() did to the node happened before the coroutine ends.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>

#include "mutex_of.hpp"
#include "parker.hpp"

namespace weir::inline v0::detail {

/// What the destructor of a queue sleeps in: what the policy names, else a parker.
template <class Atomics>
struct event_of {
    using type = parker;
};
template <class Atomics>
    requires requires { typename Atomics::event; }
struct event_of<Atomics> {
    using type = typename Atomics::event;
};

/// A waiter's entry in a queue, on the stack of its thread or in the frame of its coroutine.
template <class Atomics>
struct waiter_node {
    explicit waiter_node(void (*w)(waiter_node&)) noexcept : wake{w} {}
    waiter_node(waiter_node const&) = delete;
    waiter_node& operator=(waiter_node const&) = delete;

    /// Before a coroutine's timer is armed.
    void fall_asleep() noexcept {
        int expected = awake;
        phase.compare_exchange_strong(expected, asleep, std::memory_order_relaxed, std::memory_order_relaxed);
    }
    /// False when close() has taken it out of the queue.
    bool wake_up() noexcept {
        int expected = asleep;
        // (1) pairs with itself, in release(). Failing with `awake` means that it never slept.
        if (phase.compare_exchange_strong(expected, awake, std::memory_order_acquire, std::memory_order_acquire)) {
            return true;
        }
        if (expected == released) queued = false;
        return expected != released;
    }
    /// True when it was asleep: nothing of it may be touched from here on.
    bool release() noexcept {
        int expected = asleep;
        // (1) pairs with wake_up()
        return phase.compare_exchange_strong(expected, released, std::memory_order_release, std::memory_order_relaxed);
    }

    static constexpr int awake = 0;
    static constexpr int asleep = 1;
    static constexpr int released = 2;

    void (*wake)(waiter_node&);  // called with the queue's mutex held
    waiter_node* previous = nullptr;
    waiter_node* next = nullptr;
    std::uint64_t arrival = 0;  // 0: when it joins
    bool queued = false;
    typename Atomics::template atomic<int> phase{awake};
};

/// Waiters in order of arrival.
template <class Atomics>
struct waiter_list {
    using node = waiter_node<Atomics>;
    node* first = nullptr;
    node* last = nullptr;

    /// O(1) for a newcomer; a holder of a ticket passes every waiter that arrived later.
    void insert(node& p) noexcept {
        node* after = last;
        if (after != nullptr && after->arrival > p.arrival) {
            after = nullptr;
            for (node* q = first; q->arrival <= p.arrival; q = q->next) after = q;
        }
        p.previous = after;
        p.next = after != nullptr ? after->next : first;
        (p.next != nullptr ? p.next->previous : last) = &p;
        (after != nullptr ? after->next : first) = &p;
        p.queued = true;
    }
    void erase(node& p) noexcept {
        (p.previous != nullptr ? p.previous->next : first) = p.next;
        (p.next != nullptr ? p.next->previous : last) = p.previous;
        p.queued = false;
    }
    /// Wakes all; takes out those that sleep in an executor, and returns how many they were.
    std::size_t release() {
        std::size_t count = 0;
        node* p = first;
        first = last = nullptr;
        while (p != nullptr) {
            node* const next = p->next;
            p->wake(*p);
            if (p->release()) {
                ++count;
            } else {
                insert(*p);
            }
            p = next;
        }
        return count;
    }
};

/// How many wait in one queue, whether it is closed, and what waits for the last to leave. All that changes it is
/// called with the queue's mutex held.
template <class Atomics>
class population {
public:
    using event = typename event_of<Atomics>::type;

    /// Open, and no call waits. Relaxed: a caller that learned of another call's joining, in any way, sees it by
    /// coherence; to all others the joining is concurrent, and either order is the order of arrival.
    bool idle() const noexcept { return word_.load(std::memory_order_relaxed) == 0; }
    bool closed() const noexcept { return (word_.load(std::memory_order_relaxed) & closed_bit) != 0; }
    std::size_t count() const noexcept { return word_.load(std::memory_order_relaxed) & ~closed_bit; }

    void enter() noexcept { word_.fetch_add(1, std::memory_order_relaxed); }
    void leave(std::size_t n = 1) {
        word_.fetch_sub(n, std::memory_order_relaxed);
        if (drained_ != nullptr && count() == 0) drained_->notify();
    }
    /// False when it was closed before.
    bool close() noexcept {
        if (closed()) return false;
        word_.fetch_add(closed_bit, std::memory_order_relaxed);
        return true;
    }
    /// Whether there is nothing to wait for. Else `e` is notified when the last has left.
    bool drained(event& e) noexcept {
        if (count() != 0) drained_ = &e;
        return drained_ == nullptr;
    }
    void reset() noexcept {
        word_.exchange(0, std::memory_order_relaxed);
        drained_ = nullptr;
    }

private:
    static constexpr std::size_t closed_bit = ~(~std::size_t{0} >> 1U);

    typename Atomics::template atomic<std::size_t> word_{0};
    event* drained_ = nullptr;
};

/// Waits until the last waiter of a closed queue has left.
template <class Atomics, class Mutex>
void drain(population<Atomics>& who_waits, Mutex& mutex) {
    std::optional<typename population<Atomics>::event> e;  // made where it is needed, which is seldom
    {
        std::lock_guard const lock{mutex};
        if (who_waits.count() == 0) return;
        if (who_waits.drained(e.emplace())) return;
    }
    e->wait();
    std::lock_guard const lock{mutex};  // the notifier has left it
}

/// Numbers of arrival, the next of them for a waiter that joins. A caller served without joining takes the number
/// that was given last: every call that waits when it comes back has joined since, and is behind it. Relaxed: a
/// count; what orders two arrivals orders their numbers, by coherence.
template <class Atomics>
class arrivals {
public:
    std::uint64_t last() const noexcept { return last_.load(std::memory_order_relaxed); }
    void number(waiter_node<Atomics>& p) noexcept {
        if (p.arrival == 0) p.arrival = last_.fetch_add(1, std::memory_order_relaxed) + 1;
    }

private:
    typename Atomics::template atomic<std::uint64_t> last_{1};
};

/// A mutex that a child process can make new: at fork() another thread may have held it.
template <class Mutex>
void renew(Mutex& m) noexcept {
    ::new (static_cast<void*>(&m)) Mutex;
}

/// First come, first served. Everything is O(1) under a mutex, except for a holder of a ticket (see
/// waiter_list::insert). A thread that is suspended while it holds the mutex delays joining and leaving, not an
/// attempt that meets an empty queue, nor any direct user of the limiter.
template <class Atomics>
class fifo_waiters {
public:
    using atomics = Atomics;
    using node = waiter_node<Atomics>;
    static constexpr bool by_shares = false;  // else what is granted and given back is told to served() and gave_back()
    static constexpr bool by_turns = false;   // else a denial is told to denied()

    fifo_waiters() = default;
    fifo_waiters(fifo_waiters const&) = delete;
    fifo_waiters& operator=(fifo_waiters const&) = delete;
    ~fifo_waiters() = default;

    bool idle() const noexcept { return population_.idle(); }
    bool closed() const noexcept { return population_.closed(); }
    std::size_t length() const noexcept { return population_.count(); }

    /// False when `most` wait, or it is closed.
    bool join(node& p, std::size_t most) {
        std::lock_guard const lock{mutex_};
        if (length() >= most || closed()) return false;
        // The newcomer needs no waking when that makes it first; a waiter that it displaces finds out when it wakes.
        arrivals_.number(p);
        list_.insert(p);
        population_.enter();
        return true;
    }

    /// Leaves the queue; when it was the first, the next is woken.
    void leave(node& p) {
        std::lock_guard const lock{mutex_};
        bool const was_first = list_.first == &p;
        list_.erase(p);
        population_.leave();
        if (was_first) wake();
    }

    bool is_first(node const& p) const {
        std::lock_guard const lock{mutex_};
        return list_.first == &p;
    }
    /// The number of a caller that is served without joining.
    std::uint64_t arrival() const noexcept { return arrivals_.last(); }
    /// Whether a waiter is ahead of one that joins now, where the queue was not empty.
    bool is_behind(node const& p) const {
        if (p.arrival == 0) return true;
        std::lock_guard const lock{mutex_};
        return list_.first != nullptr && list_.first->arrival <= p.arrival;
    }

    /// Takes the mutex even when the queue looks empty: a call that joins after this attempts after it and sees what
    /// it brought.
    void wake_first() {
        std::lock_guard const lock{mutex_};
        wake();
    }

    void close() {
        std::lock_guard const lock{mutex_};
        if (population_.close()) population_.leave(list_.release());
    }
    void drain() { detail::drain(population_, mutex_); }
    void after_fork_in_child() noexcept {
        renew(mutex_);
        list_ = {};
        population_.reset();
    }

private:
    void wake() {
        if (list_.first != nullptr) list_.first->wake(*list_.first);
    }

    mutable typename mutex_of<Atomics>::type mutex_{};
    waiter_list<Atomics> list_{};
    arrivals<Atomics> arrivals_{};
    population<Atomics> population_{};
};

}  // namespace weir::inline v0::detail
