// SPDX-License-Identifier: MIT
#include "server_clock.hpp"

#include <chrono>

#include "http_server.hpp"

namespace qwen::simulated {

namespace {

constexpr std::int64_t look_ns = 1'000'000;  // real time between two looks at settings.time

}  // namespace

void server_clock::start() {
    using namespace std::chrono;
    start_real_ = monotonic_ns();
    start_wall_ms_ = duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

void server_clock::stop() {
    {
        std::lock_guard const lock{mutex_};
        stopping_ = true;
    }
    wake_.notify_all();
}

std::int64_t server_clock::true_ns() const { return true_ns(monotonic_ns()); }
std::int64_t server_clock::shown_ns() const { return shown_ns(monotonic_ns()); }

mishap server_clock::wait_until(std::int64_t due, wait_reason why) {
    bool const for_client = why != wait_reason::work;
    bool const at_once = settings_.time && !settings_.wait_on_time && why != wait_reason::queue;
    for (;;) {
        auto const real = monotonic_ns();
        bool const over = at_once || due <= true_ns(real);
        auto const until = over             ? real
                           : settings_.time ? real + look_ns
                                            : start_real_ + (due + settings_.speed - 1) / settings_.speed;
        bool const left = for_client && http_server::current().peer_left_by(until);
        {
            std::unique_lock lock{mutex_};
            if (!for_client && !over) {
                auto const at = std::chrono::steady_clock::time_point{std::chrono::nanoseconds{until}};
                wake_.wait_until(lock, at, [this] { return stopping_; });
            }
            if (stopping_) return mishap::server_stopped;
        }
        if (left) return mishap::client_left;
        if (over) return mishap::none;
    }
}

}  // namespace qwen::simulated
