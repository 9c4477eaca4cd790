// SPDX-License-Identifier: MIT
//
// The waiters of a fair_queue: one list for each class, all under one mutex.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "fair_schedule.hpp"
#include "fair_share.hpp"
#include "mutex_of.hpp"
#include "waiter_list.hpp"

namespace weir::inline v0::detail {

template <std::size_t Classes, class Atomics>
class fair_waiters {
public:
    using node = waiter_node<Atomics>;

    explicit fair_waiters(std::array<std::uint32_t, Classes> const& weights) noexcept : order_{weights} {}

    // Relaxed: as population::idle.
    bool idle(std::size_t i) const noexcept {
        return length_.load(std::memory_order_relaxed) == 0 && classes_[i].waiters.idle();
    }
    bool closed(std::size_t i) const noexcept { return classes_[i].waiters.closed(); }
    std::size_t length() const noexcept { return length_.load(std::memory_order_relaxed); }
    std::size_t length(std::size_t i) const noexcept { return classes_[i].waiters.count(); }

    bool join(std::size_t i, node& p, std::size_t most) {
        std::lock_guard const lock{mutex_};
        class_state& c = classes_[i];
        if (length(i) >= most || c.waiters.closed()) return false;
        bool const begins = c.list.first == nullptr;
        arrivals_.number(p);
        c.list.insert(p);
        // The newcomer needs no waking when that makes it first; a waiter that it displaces finds out when it wakes.
        if (begins) order_.begins(i);
        c.waiters.enter();
        length_.fetch_add(1, std::memory_order_relaxed);
        return true;
    }
    void leave(std::size_t i, node& p) {
        std::lock_guard const lock{mutex_};
        bool const was_first = first() == &p;
        take_out(i, p);
        if (was_first) wake();
    }
    /// Leaves with a grant, which is counted in the period that is returned. It was first when it asked, and may
    /// have been displaced since.
    std::uint64_t serve(std::size_t i, node& p, std::uint64_t n) {
        std::lock_guard const lock{mutex_};
        node* const before = first();
        std::uint64_t const period = order_.period();
        order_.serve(i, n);
        take_out(i, p);
        // The waiter that p had displaced, or that comes after it. One that was first before is awake, or has its
        // alarm.
        if (first() != before) wake();
        return period;
    }
    bool is_first(node const& p) const {
        std::lock_guard const lock{mutex_};
        return first() == &p;
    }
    std::uint64_t arrival() const noexcept { return arrivals_.last(); }
    bool is_behind(std::size_t i, node const& p) const {
        std::lock_guard const lock{mutex_};
        if (!order_.waits(i)) return order_.would_be_behind(i);
        return order_.first() != i || p.arrival == 0 || classes_[i].list.first->arrival <= p.arrival;
    }
    void wake_first() {
        std::lock_guard const lock{mutex_};
        wake();
    }
    /// The same, and the account of class i is corrected.
    void correct(std::size_t i, std::uint64_t counted, std::uint64_t actual) {
        std::lock_guard const lock{mutex_};
        order_.correct(i, counted, actual);
        wake();
    }
    /// Where the grant was counted in this period; 0: it was in none.
    void correct(std::size_t i, std::uint64_t counted, std::uint64_t actual, std::uint64_t period) {
        std::lock_guard const lock{mutex_};
        if (period == order_.period()) order_.correct(i, counted, actual);
        wake();
    }
    void change_weight(std::size_t i, std::uint32_t w) {
        std::lock_guard const lock{mutex_};
        order_.change_weight(i, w);
    }

    void close(std::size_t i) {
        std::lock_guard const lock{mutex_};
        class_state& c = classes_[i];
        if (!c.waiters.close()) return;
        std::size_t const released = c.list.release();
        c.waiters.leave(released);
        length_.fetch_sub(released, std::memory_order_relaxed);
        if (released == 0 || c.list.first != nullptr) return;  // else its last thread ends the class when it leaves
        order_.ends(i);
        wake();
    }
    void drain(std::size_t i) { detail::drain(classes_[i].waiters, mutex_); }
    void after_fork_in_child() noexcept {
        renew(mutex_);
        for (std::size_t i = 0; i < Classes; ++i) {
            if (classes_[i].list.first != nullptr) order_.ends(i);
            classes_[i].list = {};
            classes_[i].waiters.reset();
        }
        length_.exchange(0, std::memory_order_relaxed);
    }

private:
    struct class_state {
        waiter_list<Atomics> list;
        population<Atomics> waiters;
    };

    node* first() const noexcept {
        std::size_t const i = order_.first();
        return i == order_.none ? nullptr : classes_[i].list.first;
    }
    void wake() {
        if (node* const p = first()) p->wake(*p);
    }
    void take_out(std::size_t i, node& p) {
        class_state& c = classes_[i];
        c.list.erase(p);
        if (c.list.first == nullptr) order_.ends(i);
        length_.fetch_sub(1, std::memory_order_relaxed);
        c.waiters.leave();
    }

    mutable typename mutex_of<Atomics>::type mutex_{};
    fair_schedule<Classes> order_;
    std::array<class_state, Classes> classes_{};
    arrivals<Atomics> arrivals_{};
    typename Atomics::template atomic<std::size_t> length_{0};
};

/// What the wait_queue of one class sees of it.
template <std::size_t Classes, class Atomics>
class class_queue {
    using all_classes = fair_waiters<Classes, Atomics>;

public:
    using node = waiter_node<Atomics>;
    static constexpr bool by_shares = true;
    static constexpr bool by_turns = false;

    constexpr class_queue(all_classes& all, std::size_t i) noexcept : all_{&all}, class_{i} {}

    bool idle() const noexcept { return all_->idle(class_); }
    bool closed() const noexcept { return all_->closed(class_); }
    std::size_t length() const noexcept { return all_->length(class_); }
    bool join(node& p, std::size_t most) { return all_->join(class_, p, most); }
    void leave(node& p) { all_->leave(class_, p); }
    bool is_first(node const& p) const { return all_->is_first(p); }
    std::uint64_t arrival() const noexcept { return all_->arrival(); }
    bool is_behind(node const& p) const { return all_->is_behind(class_, p); }
    void wake_first() { all_->wake_first(); }
    void close() { all_->close(class_); }
    void drain() { all_->drain(class_); }
    void after_fork_in_child() noexcept { all_->after_fork_in_child(); }

    template <class Limiter, class Cost>
    void served(node& p, Limiter& l, Cost const& cost, typename Limiter::decision& d) {
        std::uint64_t const period = all_->serve(class_, p, share_granted(l, cost, d));
        if constexpr (requires { d.counted_in(period); }) d.counted_in(period);
    }
    template <class Limiter, class Result, class Decision, class... Rest>
    void gave_back(Limiter& l, Result const& r, Decision const& d, Rest const&...) {
        correct(d, refunded(l, r, d));
    }
    template <class Limiter, class Result, class Decision, class... Rest>
    void settled(Limiter& l, Result const& r, Decision const& d, Rest const&... rest) {
        correct(d, settlement(l, r, d, rest...));
    }

private:
    // A decision that can say so is asked whether it was counted at all.
    template <class Decision>
    void correct(Decision const& d, share_correction c) {
        if (!c.known) {
            all_->wake_first();
        } else if constexpr (requires { d.counted_in(); }) {
            all_->correct(class_, c.counted, c.actual, d.counted_in());
        } else {
            all_->correct(class_, c.counted, c.actual);
        }
    }

    all_classes* all_;
    std::size_t class_;
};

}  // namespace weir::inline v0::detail
