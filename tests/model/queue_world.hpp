// SPDX-License-Identifier: MIT
//
// What the checker's queues are in front of: a number of permits, a timer that only wake() ends, and a source of
// stops.
#pragma once

#include "model.hpp"
#include "model_atomic.hpp"

#include <weir/limiter.hpp>
#include <weir/wait/wait_queue.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <optional>
#include <utility>

namespace line_world {

using weir::permits;

/// A number of permits that only refunds raise.
class pool {
public:
    using clock_type = model::clock;
    using time_point = model::clock::time_point;
    using duration = model::clock::duration;

    class decision {
    public:
        explicit decision(bool granted) : granted_{granted} {}
        bool granted() const { return granted_; }
        explicit operator bool() const { return granted_; }
        bool never() const { return false; }
        time_point retry_at() const { return granted_ ? time_point{} : time_point{duration{1000}}; }
        duration retry_after() const { return granted_ ? duration{} : duration{1000}; }

    private:
        bool granted_;
    };

    explicit pool(permits n) : left_{n} {}
    decision try_acquire(permits n) {
        permits left = left_.load(std::memory_order_relaxed);
        while (left >= n) {
            if (left_.compare_exchange_weak(left, left - n, std::memory_order_relaxed, std::memory_order_relaxed)) {
                ++grants_;
                if (int const t = model::this_thread(); t >= 0) last_grant_[static_cast<std::size_t>(t)] = grants_;
                return decision{true};
            }
        }
        return decision{false};
    }
    permits refund(permits n) {
        left_.fetch_add(n, std::memory_order_relaxed);
        return n;
    }
    permits left() const { return left_.load(std::memory_order_relaxed); }
    /// Of all, and the number of a thread's last one. Counted in the step that takes: a thread that takes and is then
    /// left for another comes first.
    unsigned grants() const { return grants_; }
    unsigned last_grant(std::size_t thread) const { return last_grant_.at(thread); }
    clock_type const& clock() const { return clock_; }

private:
    model::clock clock_{0};
    model::atomics::atomic<permits> left_;
    unsigned grants_ = 0;
    std::array<unsigned, 8> last_grant_{};
};

/// A queue whose destructor does not run: where an execution is abandoned, waiters are left in it. A scenario that is
/// about destroying it calls destroy().
template <class T>
class kept {
public:
    template <class... Args>
    explicit kept(Args&&... args) : value_(std::forward<Args>(args)...) {}
    kept(kept const&) = delete;
    kept& operator=(kept const&) = delete;
    ~kept() {}
    T& operator*() { return value_; }
    T const& operator*() const { return value_; }
    T* operator->() { return &value_; }
    T const* operator->() const { return &value_; }
    void destroy() { value_.~T(); }

private:
    union {
        T value_;
    };
};

/// The executor is the waiting thread itself.
class timer {
public:
    void wait_until(pool::time_point, weir::timer_callback f) { armed_ = f; }
    void wake() { woken_.raise(); }
    void cancel() { armed_.reset(); }
    void run() {
        while (armed_) {
            woken_.wait();
            auto const f = *std::exchange(armed_, {});
            f();
        }
    }

private:
    model::signal woken_;
    std::optional<weir::timer_callback> armed_;
};

/// Asks once for a wait to end.
class stop_source {
public:
    class token {
    public:
        explicit token(stop_source* s) : source_{s} {}
        bool stop_requested() const {
            return source_ != nullptr && source_->asked_.load(std::memory_order_acquire) != 0;
        }

        template <class F>
        class callback_type {
        public:
            callback_type(token const& t, F f) : source_{t.source_}, f_{f} {
                if (source_ == nullptr) return;
                std::lock_guard const lock{source_->mutex_};
                if (source_->asked_.load(std::memory_order_relaxed) != 0) {
                    f_();
                } else {
                    source_->call_ = [](void* p) { static_cast<callback_type*>(p)->f_(); };
                    source_->context_ = this;
                }
            }
            ~callback_type() {
                if (source_ == nullptr) return;
                std::lock_guard const lock{source_->mutex_};
                source_->context_ = nullptr;
            }

        private:
            stop_source* source_;
            F f_;
        };

    private:
        stop_source* source_;
    };

    void request() {
        std::lock_guard const lock{mutex_};
        asked_.exchange(1, std::memory_order_release);
        if (context_ != nullptr) call_(context_);
    }

private:
    model::atomics::mutex mutex_;
    model::atomics::atomic<int> asked_{0};
    void (*call_)(void*) = nullptr;
    void* context_ = nullptr;
};

}  // namespace line_world
