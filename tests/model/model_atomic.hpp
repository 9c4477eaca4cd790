// SPDX-License-Identifier: MIT
//
// What the code under test is built upon in place of std::atomic, see model.hpp; plain data whose race is an error; a
// clock.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>
#include <vector>

#include "model.hpp"

namespace model {

/// The policy. Accesses outside the threads of an exploration, such as a constructor's and the final check's, are
/// plain.
struct atomics {
    template <class T>
    class atomic {
        static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
        using order = std::memory_order;
        using where = std::source_location;
        using access = detail::access;

    public:
        atomic() noexcept : atomic{T{}} {}
        atomic(T value) noexcept : id_{engine().add(pack(value))} {}
        atomic(atomic const&) = delete;
        atomic& operator=(atomic const&) = delete;

        T load(order o = std::memory_order_seq_cst, where at = where::current()) const {
            return unpack(engine().load(id_, o, at));
        }
        T exchange(T desired, order o = std::memory_order_seq_cst, where at = where::current()) {
            return unpack(engine().modify(access::exchange, id_, pack(desired), o, at));
        }
        T fetch_add(T n, order o = std::memory_order_seq_cst, where at = where::current()) {
            return unpack(engine().modify(access::add, id_, pack(n), o, at));
        }
        T fetch_sub(T n, order o = std::memory_order_seq_cst, where at = where::current()) {
            return unpack(engine().modify(access::subtract, id_, pack(n), o, at));
        }
        bool compare_exchange_weak(T& expected, T desired, order success, order failure, where at = where::current()) {
            return exchange_if(access::weak, expected, desired, success, failure, at);
        }
        bool compare_exchange_strong(T& expected, T desired, order success, order failure,
                                     where at = where::current()) {
            return exchange_if(access::strong, expected, desired, success, failure, at);
        }
        bool compare_exchange_weak(T& expected, T desired, order o = std::memory_order_seq_cst,
                                   where at = where::current()) {
            return exchange_if(access::weak, expected, desired, o, on_failure(o), at);
        }
        bool compare_exchange_strong(T& expected, T desired, order o = std::memory_order_seq_cst,
                                     where at = where::current()) {
            return exchange_if(access::strong, expected, desired, o, on_failure(o), at);
        }
        void store(T, order = std::memory_order_seq_cst, where at = where::current()) {
            engine().misuse("plain store", at);
        }

    private:
        static detail::engine& engine() { return detail::engine::get(); }
        // Arithmetic is done on 64 bits, and cut to T when it is read.
        static std::uint64_t pack(T value) {
            if constexpr (std::is_integral_v<T>) {
                return static_cast<std::uint64_t>(value);
            } else {
                std::uint64_t bits = 0;
                std::memcpy(&bits, &value, sizeof value);
                return bits;
            }
        }
        static T unpack(std::uint64_t bits) {
            if constexpr (std::is_integral_v<T>) {
                return static_cast<T>(bits);
            } else {
                T value;
                std::memcpy(&value, &bits, sizeof value);
                return value;
            }
        }
        static order on_failure(order o) {
            return o == std::memory_order_acq_rel   ? std::memory_order_acquire
                   : o == std::memory_order_release ? std::memory_order_relaxed
                                                    : o;
        }
        bool exchange_if(access a, T& expected, T desired, order success, order failure, where at) {
            std::uint64_t bits = pack(expected);
            bool const done = engine().compare_exchange(a, id_, bits, pack(desired), success, failure, at);
            expected = unpack(bits);
            return done;
        }

        detail::engine::index id_;
    };

    /// For code that excludes others on purpose. A thread that waits for one that is never unlocked is reported, unless
    /// threads are frozen.
    class mutex {
        using where = std::source_location;

    public:
        void lock(where at = where::current()) {
            detail::engine::get().exchange_once(true, id_, 1, std::memory_order_acquire, at);
        }
        void unlock(where at = where::current()) {
            detail::engine::get().modify(detail::access::exchange, id_, 0, std::memory_order_release, at);
        }

    private:
        detail::engine::index id_ = detail::engine::get().add(0);
    };

    /// What the destructor of a queue sleeps in, in place of a parker.
    class event {
        using where = std::source_location;

    public:
        void notify(where at = where::current()) {
            detail::engine::get().modify(detail::access::exchange, id_, 1, std::memory_order_acq_rel, at);
        }
        void wait(where at = where::current()) {
            detail::engine::get().exchange_once(false, id_, 0, std::memory_order_acquire, at);
        }

    private:
        detail::engine::index id_ = detail::engine::get().add(0);
    };
};

/// wait() stands still until raise() has been called since the last wait(); a thread that returns from it sees
/// what came before.
class signal {
    using where = std::source_location;

public:
    void raise(where at = where::current()) {
        detail::engine::get().modify(detail::access::exchange, id_, 1, std::memory_order_acq_rel, at);
    }
    void wait(where at = where::current()) {
        detail::engine::get().exchange_once(false, id_, 0, std::memory_order_acquire, at);
    }

private:
    detail::engine::index id_ = detail::engine::get().add(0);
};

/// Plain shared data: what is not ordered by happens-before is an error. No step.
template <class T>
class checked_cell {
public:
    checked_cell() = default;
    explicit checked_cell(T value) : value_{std::move(value)} {}
    checked_cell(checked_cell const&) = delete;
    checked_cell& operator=(checked_cell const&) = delete;

    T const& read(std::source_location at = std::source_location::current()) const {
        auto& e = detail::engine::get();
        if (!e.has_seen(writer_.thread, writer_.clock)) e.misuse("a read races with a write", at);
        if (e.running() >= 0) readers_.push_back({e.running(), e.clock_now()});
        return value_;
    }
    void write(T value, std::source_location at = std::source_location::current()) {
        auto& e = detail::engine::get();
        if (!e.has_seen(writer_.thread, writer_.clock)) e.misuse("a write races with a write", at);
        for (auto const& r : readers_) {
            if (!e.has_seen(r.thread, r.clock)) e.misuse("a write races with a read", at);
        }
        readers_.clear();
        writer_ = {e.running(), e.clock_now()};
        value_ = std::move(value);
    }

private:
    struct event {
        int thread = -1;
        std::uint32_t clock = 0;
    };
    T value_{};
    event writer_;
    mutable std::vector<event> readers_;
};

/// Time that all share and a thread moves. A reader may see an old time, but never one before what happened before.
class clock {
public:
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<clock>;
    static constexpr bool is_steady = true;

    explicit clock(rep start = 0) : ticks_{start} {}
    time_point now() const noexcept { return time_point{duration{ticks_.load(std::memory_order_relaxed)}}; }
    void advance(duration d) { ticks_.fetch_add(d.count(), std::memory_order_relaxed); }

private:
    atomics::atomic<rep> ticks_;
};

}  // namespace model
