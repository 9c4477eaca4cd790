// SPDX-License-Identifier: MIT
// Coroutines of standalone Asio and a thread wait for a limiter in one queue.
#include <weir/token_bucket.hpp>
#include <weir/wait/wait_queue.hpp>

#if defined(__clang__) && !defined(ASIO_HAS_CO_AWAIT)
#define ASIO_HAS_CO_AWAIT 1  // Asio 1.22 looks for <experimental/coroutine>, though clang has the standard's
#endif
#include <asio.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

// Asio's timer as weir wants one. All but wake() runs on the executor, which must be a strand or one thread.
class asio_timer {
    struct state {
        explicit state(asio::any_io_executor const& e) : timer{e} {}
        asio::steady_timer timer;
        std::optional<weir::timer_callback> callback;
        bool woken = false;

        void fire() {
            woken = false;
            (*std::exchange(callback, std::nullopt))();
        }
    };

public:
    explicit asio_timer(asio::any_io_executor const& e) : state_{std::make_shared<state>(e)} {}
    asio_timer(asio_timer const&) = delete;
    asio_timer& operator=(asio_timer const&) = delete;
    ~asio_timer() { cancel(); }

    void wait_until(std::chrono::steady_clock::time_point t, weir::timer_callback f) {
        state_->callback = f;
        state_->timer.expires_at(state_->woken ? std::chrono::steady_clock::time_point::min() : t);
        state_->timer.async_wait([s = state_](std::error_code error) {
            if (!error && s->callback) s->fire();
        });
    }
    void wake() {
        asio::post(state_->timer.get_executor(), [s = state_] {
            s->woken = true;
            if (s->callback && s->timer.cancel() > 0) s->fire();
        });
    }
    void cancel() {
        state_->callback.reset();
        state_->timer.cancel();
    }

private:
    std::shared_ptr<state> state_;
};

// What an asio::awaitable can await: the wait as an operation of Asio's, which completes when it is over.
template <class Line, class Cost>
asio::awaitable<typename Line::admission> acquire(Line& line, Cost cost) {
    auto const executor = co_await asio::this_coro::executor;
    asio_timer timer{executor};
    auto wait = line.async_acquire(cost, timer);
    if (!wait.ready()) {
        auto const begin = [&](auto completion) {
            using handler = decltype(completion);
            weir::timer_callback const done{[](void* p) {
                                                std::unique_ptr<handler> const h{static_cast<handler*>(p)};
                                                std::move (*h)();
                                            },
                                            new handler{std::move(completion)}};
            if (!wait.start(done)) asio::post(executor, done);
        };
        co_await asio::async_initiate<asio::use_awaitable_t<> const, void()>(begin, asio::use_awaitable);
    }
    co_return wait.result();
}

int main() {
    constexpr int coroutines = 20;
    asio::io_context context;  // before the line, whose destructor posts to it
    weir::token_bucket bucket{weir::rate{200, 1s}, 1};
    weir::wait_queue line{bucket};
    auto const start = bucket.clock().now();

    std::vector<int> order;
    for (int i = 0; i < coroutines; ++i) {
        asio::co_spawn(
            context,
            [&, i]() -> asio::awaitable<void> {
                if (co_await acquire(line, 1)) order.push_back(i);
            },
            asio::detached);
    }
    bool thread_was_served = false;
    std::thread sleeper{[&] { thread_was_served = line.acquire(1).granted(); }};
    context.run();
    sleeper.join();

    auto const took = bucket.clock().now() - start;
    std::printf("%d coroutines and a thread, one every 5 ms: %.1f ms\n", coroutines,
                std::chrono::duration<double, std::milli>(took).count());
    bool const all = order.size() == coroutines && std::is_sorted(order.begin(), order.end()) && thread_was_served;
    return all && took >= coroutines * 5ms ? 0 : 1;
}
