// SPDX-License-Identifier: MIT
//
// The simulator's time, and waits until a point in it.
//
// True time starts at 0 and runs `speed` times as fast as CLOCK_MONOTONIC. Outages and latencies are in true time. The
// server's clock is true time plus the steps that it was told to make; everything that an answer shows is in that time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "faults.hpp"
#include "simulator_settings.hpp"

namespace qwen::simulated {

/// What a wait is for.
enum class wait_reason {
    work,    ///< goes on when the client is gone; takes no time with settings.time, unless wait_on_time
    client,  ///< ends when the client is gone; otherwise as work
    queue,   ///< ends when the client is gone; waits with settings.time too
};

class server_clock {
public:
    explicit server_clock(simulator_settings const& s) : settings_{s} {}

    void start();
    void stop();  ///< every wait ends, with server_stopped

    [[nodiscard]] std::int64_t true_ns() const;
    [[nodiscard]] std::int64_t true_ns(std::int64_t real) const {
        return settings_.time ? settings_.time() : (real - start_real_) * settings_.speed;
    }
    /// What the server's clock shows.
    [[nodiscard]] std::int64_t shown_ns() const;
    [[nodiscard]] std::int64_t shown_ns(std::int64_t real) const { return true_ns(real) + stepped_ns_; }
    void step(std::int64_t ns) { stepped_ns_ += ns; }
    [[nodiscard]] std::int64_t stepped_ns() const { return stepped_ns_; }

    /// Milliseconds since 1970, at a time of the server's clock.
    [[nodiscard]] std::int64_t epoch_ms(std::int64_t shown_ns) const { return start_wall_ms_ + shown_ns / 1'000'000; }
    [[nodiscard]] std::int64_t started_s() const { return start_wall_ms_ / 1'000; }  ///< since 1970

    /// Waits until `due`, in true time: none, or what ended the wait before. On the thread that handles the request.
    mishap wait_until(std::int64_t due, wait_reason);

private:
    simulator_settings const& settings_;
    std::int64_t start_real_ = 0, start_wall_ms_ = 0;
    std::atomic<std::int64_t> stepped_ns_{0};
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;  // guarded by mutex_
};

}  // namespace qwen::simulated
