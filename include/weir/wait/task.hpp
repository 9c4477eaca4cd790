// SPDX-License-Identifier: MIT
//
// The return type of a coroutine that begins when it is awaited: what weir's own coroutines return, and enough to call them from one's own.
#pragma once

#include <atomic>
#include <concepts>
#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "../atomics.hpp"
#include "async_timer.hpp"

namespace weir::inline v0 {
template <class T, class Atomics>
class task;
}  // namespace weir::inline v0

namespace weir::inline v0::detail {

template <class Atomics>
struct task_promise {
    struct ending {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> h) noexcept {
            task_promise& p = h.promise();
            if (!p.meet()) return std::noop_coroutine();  // who awaits finds it ended, and may have destroyed it by now
            if (p.next) return p.next;
            timer_callback const call = p.done;
            call();  // may destroy it
            return std::noop_coroutine();
        }
        void await_resume() const noexcept {}
    };

    std::suspend_always initial_suspend() const noexcept { return {}; }
    ending final_suspend() const noexcept { return {}; }
    void unhandled_exception() noexcept { thrown = std::current_exception(); }

    // True for the second of the two who come: the end, and the one who waits for it. The second goes on with what waits.
    // Acquire-release: the second sees what the first wrote, the result or what is to be resumed.
    bool meet() noexcept { return met.exchange(true, std::memory_order_acq_rel); }
    void rethrow() const {
        if (thrown) std::rethrow_exception(thrown);
    }

    bool begun = false;
    std::coroutine_handle<> next{};
    timer_callback done{};
    typename Atomics::template atomic<bool> met{false};
    std::exception_ptr thrown{};
};

template <class T, class Atomics>
struct task_result : task_promise<Atomics> {
    template <std::convertible_to<T> U = T>
    void return_value(U&& u) {
        value.emplace(std::forward<U>(u));
    }
    T take() {
        this->rethrow();
        return std::move(*value);
    }
    std::optional<T> value{};
};

template <class Atomics>
struct task_result<void, Atomics> : task_promise<Atomics> {
    void return_void() const noexcept {}
    void take() const { this->rethrow(); }
};

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// A coroutine that begins when it is awaited, once:
///
///     weir::task<int> answer() { co_return 42; }
///     weir::task<> ask() { int const a = co_await answer(); … }
///
/// It ends in the coroutine that awaits it, wherever its own waits resumed it: no executor, no lock, no allocation but the frame's.
/// What it throws passes to who awaits it. Where it never has to wait, who awaits it is not suspended either, so that
/// thousands that end at once, one after another, take no more stack than one.
///
/// Who is no coroutine of this kind does what co_await does, by hand, as with wait_queue's async_wait:
///
///     auto t = ask();
///     if (!t.ready() && t.start(done)) return;  // done() is called when it has ended, from where it ended
///     t.result();
///
/// **Lifetime.** Destroying a task destroys its frame, whether it has not begun, has ended, or waits; all that it awaits is destroyed with it, innermost
/// first. It must not be running just then: destroy it where its waits resume it. `done` may destroy it. What the
/// coroutine is given by reference must live until it ends: a lambda that is a coroutine too, whose captures are in the lambda.
///
/// Atomics: see policy.hpp; one exchange at its end, and one where somebody has to wait for that. unsynchronized where all is one thread's.
template <class T = void, class Atomics = std_atomics>
class [[nodiscard]] task {
    static_assert(std::is_void_v<T> || std::is_object_v<T>);

public:
    struct promise_type : detail::task_result<T, Atomics> {
        task get_return_object() noexcept { return task{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    };

    task(task&& other) noexcept : handle_{std::exchange(other.handle_, {})} {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            destroy();
            handle_ = std::exchange(other.handle_, {});
        }
        return *this;
    }
    ~task() { destroy(); }

    /// Begins it where it has not, and says whether it has ended.
    bool ready() {
        auto& p = handle_.promise();
        if (!std::exchange(p.begun, true)) handle_.resume();
        // Pairs with meet(), by the end: nobody else has come yet.
        return p.met.load(std::memory_order_acquire);
    }
    /// `done` is called when it ends. False, and `done` is not called, when it has already. Once, and not beside co_await.
    bool start(timer_callback done) {
        if (ready()) return false;
        auto& p = handle_.promise();
        p.done = done;
        return !p.meet();  // from here on it may be gone
    }
    /// What it returned, or throws what it threw. Once, after its end.
    T result() { return handle_.promise().take(); }

    /// False for one that was moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

    bool await_ready() { return ready(); }
    bool await_suspend(std::coroutine_handle<> h) noexcept {
        auto& p = handle_.promise();
        p.next = h;
        return !p.meet();  // from here on it may be gone
    }
    T await_resume() { return result(); }

private:
    explicit task(std::coroutine_handle<promise_type> h) noexcept : handle_{h} {}
    void destroy() noexcept {
        if (handle_) std::exchange(handle_, {}).destroy();
    }

    std::coroutine_handle<promise_type> handle_;
};

}  // namespace weir::inline v0
