// SPDX-License-Identifier: MIT
//
// What tests of coroutines wait by: timers of a manual_clock, fired by the caller of run_due(), a token to stop them, a
// gate to hold them, and a coroutine that starts at once.
#pragma once

#include <weir/clock/manual_clock.hpp>
#include <weir/wait/async_timer.hpp>

#include <algorithm>
#include <atomic>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <list>
#include <mutex>
#include <optional>
#include <utility>

// A token as a program without std::stop_token would write one.
class stop_source {
public:
    struct callback_base {
        virtual void call() = 0;

    protected:
        ~callback_base() = default;
    };
    struct token {
        stop_source* source;
        bool stop_requested() const { return source->stopped_; }

        template <class F>
        struct callback_type final : callback_base {
            callback_type(token t, F g) : source{t.source}, f{std::move(g)} {
                std::lock_guard const lock{source->mutex_};
                if (source->stopped_)
                    f();
                else
                    source->callbacks_.push_back(this);
            }
            callback_type(callback_type const&) = delete;
            callback_type& operator=(callback_type const&) = delete;
            ~callback_type() {
                std::lock_guard const lock{source->mutex_};
                source->callbacks_.remove(this);
            }
            void call() override { f(); }
            stop_source* source;
            F f;
        };
    };
    token get_token() { return {this}; }
    void request_stop() {
        std::lock_guard const lock{mutex_};
        stopped_ = true;
        for (auto* c : callbacks_) c->call();
        callbacks_.clear();
    }
    std::size_t callbacks() {
        std::lock_guard const lock{mutex_};
        return callbacks_.size();
    }

private:
    std::atomic<bool> stopped_{false};
    std::mutex mutex_;
    std::list<callback_base*> callbacks_;
};

// The executor: a thread that calls run_due() fires what is due or was woken.
class loop {
public:
    class timer {
    public:
        timer(loop& l) : loop_{l} {
            std::lock_guard const lock{loop_.mutex_};
            loop_.timers_.push_back(this);
        }
        timer(timer const&) = delete;
        timer& operator=(timer const&) = delete;
        ~timer() {
            std::lock_guard const lock{loop_.mutex_};
            loop_.timers_.remove(this);
        }
        void wait_until(weir::manual_clock::time_point t, weir::timer_callback f) {
            std::lock_guard const lock{loop_.mutex_};
            due_ = t;
            f_ = f;
        }
        void wake() {
            std::lock_guard const lock{loop_.mutex_};
            woken_ = true;
        }
        void cancel() {
            std::lock_guard const lock{loop_.mutex_};
            f_.reset();
        }

    private:
        friend loop;
        loop& loop_;
        weir::manual_clock::time_point due_{};
        std::optional<weir::timer_callback> f_;
        bool woken_ = false;
    };

    explicit loop(weir::manual_clock const& c) : clock_{c} {}

    // Fires until nothing is due; how many were.
    int run_due() {
        for (int fired = 0;; ++fired) {
            weir::timer_callback f;
            {
                std::lock_guard const lock{mutex_};
                auto const t = std::find_if(timers_.begin(), timers_.end(),
                                            [&](timer* x) { return x->f_ && (x->woken_ || x->due_ <= clock_.now()); });
                if (t == timers_.end()) return fired;
                (*t)->woken_ = false;
                f = *std::exchange((*t)->f_, std::nullopt);
            }
            f();
        }
    }
    std::optional<weir::manual_clock::time_point> next_due() {
        std::lock_guard const lock{mutex_};
        std::optional<weir::manual_clock::time_point> next;
        for (auto* t : timers_) {
            if (t->f_ && t->due_ != weir::manual_clock::time_point::max() && (!next || t->due_ < *next)) next = t->due_;
        }
        return next;
    }

private:
    weir::manual_clock const& clock_;
    std::mutex mutex_;
    std::list<timer*> timers_;
};

// What a coroutine waits for until the test lets it go on.
struct gate {
    // By pointer: gcc 12 copies an awaiter that a lambda has captured by reference.
    struct pass {
        gate* g;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> h) const noexcept { g->waits = h; }
        void await_resume() const noexcept {}
    };
    gate() = default;
    gate(gate const&) = delete;
    gate& operator=(gate const&) = delete;
    pass passed() { return {this}; }
    void open() { std::exchange(waits, {}).resume(); }
    std::coroutine_handle<> waits{};
};

// A coroutine that runs until its end, or until its handle is destroyed.
struct eager_task {
    struct promise_type {
        eager_task get_return_object() { return eager_task{std::coroutine_handle<promise_type>::from_promise(*this)}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
    explicit eager_task(std::coroutine_handle<promise_type> h) : handle{h} {}
    eager_task(eager_task&& other) noexcept : handle{std::exchange(other.handle, {})} {}
    eager_task& operator=(eager_task&&) = delete;
    ~eager_task() { destroy(); }
    void destroy() {
        if (handle) std::exchange(handle, {}).destroy();
    }
    bool done() const { return handle.done(); }
    std::coroutine_handle<promise_type> handle;
};
