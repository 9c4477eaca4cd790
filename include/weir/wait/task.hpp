// SPDX-License-Identifier: MIT
//
// task: the return type of a coroutine that begins when it is awaited. weir's own coroutines return it. Its layout
// is the same with and without exceptions.
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
            if (!p.meet()) return std::noop_coroutine();  // the awaiting side finds it ended, and may have destroyed it
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

    // Called by the end, and by the side that waits for it. True for the second of the two, which goes on with what
    // waits. (1) pairs with itself, and with (2): the second sees what the first wrote, the result or what is to be
    // resumed.
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
/// It continues the coroutine that awaits it, on the thread that resumed it last: no executor, no lock, no
/// allocation but the frame's. What it throws passes to its awaiter. Where it never has to wait, its awaiter is not
/// suspended either, so that thousands that end at once, one after another, take no more stack than one.
///
/// Code that is no coroutine does by hand what co_await does, as with wait_queue's async_wait:
///
///     auto t = ask();
///     if (!t.ready() && t.start(done)) return;  // done() is called when it has ended, from where it ended
///     t.result();
///
/// **Lifetime.** Destroying a task destroys its frame, whether it has not begun, has ended, or waits; all that it
/// awaits is destroyed with it, innermost first. It must not be running at that time: destroy it where its waits
/// resume it. `done` may destroy it. What the coroutine is given by reference must live until it ends; so must a
/// lambda that is a coroutine, since its captures are in the lambda.
///
/// Atomics: see atomics.hpp; one exchange at its end, and one where a caller has to wait for that. `unsynchronized`
/// fits where all is on one thread.
template <class T = void, class Atomics = std_atomics>
class [[nodiscard("a task begins when it is awaited")]] task {
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
        // (2) pairs with (1), by the end: no other side has called it yet
        return p.met.load(std::memory_order_acquire);
    }
    /// `done` is called when it ends. False, and `done` is not called, when it has ended already. Once, and not
    /// together with co_await.
    bool start(timer_callback done) {
        if (ready()) return false;
        auto& p = handle_.promise();
        p.done = done;
        return !p.meet();  // from here on it may be destroyed
    }
    /// What it returned, or throws what it threw. Once, after its end.
    T result() { return handle_.promise().take(); }

    /// False for one that was moved from.
    explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

    bool await_ready() { return ready(); }
    bool await_suspend(std::coroutine_handle<> h) noexcept {
        auto& p = handle_.promise();
        p.next = h;
        return !p.meet();  // from here on it may be destroyed
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
