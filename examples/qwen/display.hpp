// SPDX-License-Identifier: MIT
//
// What qwen_demo shows while it runs, and how it is interrupted.
#pragma once

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <weir/llm/quota.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "batch_run.hpp"
#include "demo_text.hpp"

namespace qwen::demo {

/// On a terminal, one line that is redrawn every 200 ms; elsewhere, a line every five seconds.
class display {
public:
    display(progress& p, weir::llm::quota const& limits, std::size_t total, double average_tokens, std::int64_t speed,
            std::string name)
        : progress_{p},
          limits_{limits},
          total_{total},
          average_tokens_{average_tokens},
          speed_{speed},
          name_{std::move(name)},
          terminal_{::isatty(STDOUT_FILENO) == 1},
          thread_{[this] { loop(); }} {}
    ~display() {
        {
            std::lock_guard const lock{mutex_};
            ended_ = true;
        }
        changed_.notify_all();
        thread_.join();
        show();
        if (terminal_) std::fputs("\n", stdout);
        std::fflush(stdout);
    }
    display(display const&) = delete;
    display& operator=(display const&) = delete;

private:
    void loop() {
        std::unique_lock lock{mutex_};
        while (!changed_.wait_for(lock, terminal_ ? 200ms : 5000ms, [this] { return ended_; })) show();
    }

    void show() {
        auto const now = steady_clock::now();
        std::uint64_t rpm = 0, rps = 0, tpm = 0, tps = 0;
        std::size_t answered = 0, failed = 0, refused = 0, in_flight = 0;
        std::string waits_for;
        double elapsed = 0;
        {
            std::lock_guard const lock{progress_.mutex};
            answered = progress_.answered;
            failed = progress_.failed;
            refused = progress_.refused;
            in_flight = progress_.in_flight;
            waits_for = progress_.waits_for;
            for (auto const& a : progress_.attempts) {
                if (!a.left || (a.over && a.status == 429)) continue;
                auto const sent = (now - a.stamp) * speed_, done = (now - a.done) * speed_;
                rpm += sent < 60s;
                rps += sent < 1s;
                if (sent < 60s) tpm += a.input;
                if (sent < 1s) tps += a.input;
                if (a.over && done < 60s) tpm += a.output;
                if (a.over && done < 1s) tps += a.output;
            }
            if (!progress_.attempts.empty()) elapsed = in_seconds(now - progress_.attempts.front().stamp);
        }
        auto const done = answered + failed;
        // Until a fifth is done, the estimate is what the limits allow.
        double per_second = std::numeric_limits<double>::infinity();
        if (limits_.rpm) per_second = std::min(per_second, static_cast<double>(*limits_.rpm) / 60);
        if (limits_.rps) per_second = std::min(per_second, static_cast<double>(*limits_.rps));
        if (limits_.tpm) per_second = std::min(per_second, static_cast<double>(*limits_.tpm) / 60 / average_tokens_);
        per_second *= static_cast<double>(speed_);
        if (done * 5 > total_) per_second = std::min(per_second, static_cast<double>(done) / elapsed);
        double const left = static_cast<double>(total_ - std::min(total_, done)) / per_second;

        std::string text =
            format("%s%zu/%zu %3.0f%%  left %s ", name_.c_str(), done, total_,
                   100.0 * static_cast<double>(done) / static_cast<double>(total_), minutes(left).c_str());
        auto const use = [&](char const* name, std::uint64_t used, std::optional<std::uint64_t> limit) {
            if (limit) text += std::string(" ") + name + " " + grouped(used) + "/" + grouped(*limit);
        };
        use("RPM", rpm, limits_.rpm);
        use("RPS", rps, limits_.rps);
        use("TPM", tpm, limits_.tpm);
        use("TPS", tps, limits_.tps);
        text += format("  in flight %zu  429s %zu", in_flight, refused);
        if (failed != 0) text += format("  failed %zu", failed);
        if (!waits_for.empty()) text += "  waits for " + waits_for;
        if (terminal_) {
            std::printf("\r\033[K%s", text.c_str());
        } else {
            std::puts(text.c_str());
        }
        std::fflush(stdout);
    }

    progress& progress_;
    weir::llm::quota limits_;
    std::size_t total_;
    double average_tokens_;
    std::int64_t speed_;
    std::string name_;
    bool terminal_, ended_ = false;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::thread thread_;
};

/// SIGINT and SIGTERM stop the client; a second signal ends the program. The signals are blocked in all threads but
/// one.
class interruption {
public:
    interruption() {
        sigemptyset(&signals_);
        sigaddset(&signals_, SIGINT);
        sigaddset(&signals_, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
        thread_ = std::thread{[this] { loop(); }};
    }
    ~interruption() {
        ended_ = true;
        thread_.join();
    }
    interruption(interruption const&) = delete;
    interruption& operator=(interruption const&) = delete;

    [[nodiscard]] bool happened() const { return happened_; }
    void stops(qwen::qwen_client* client) {
        std::lock_guard const lock{mutex_};
        client_ = client;
        if (happened_ && client != nullptr) client->stop();
    }

private:
    void loop() {
        while (!ended_) {
            timespec const pause{0, 50'000'000};
            if (sigtimedwait(&signals_, nullptr, &pause) <= 0) continue;
            if (happened_) ::_exit(exit_interrupted);
            std::lock_guard const lock{mutex_};
            happened_ = true;
            if (client_ != nullptr) client_->stop();
        }
    }

    sigset_t signals_{};
    std::atomic<bool> ended_{false}, happened_{false};
    std::mutex mutex_;
    qwen::qwen_client* client_ = nullptr;  // guarded by mutex_
    std::thread thread_;
};

}  // namespace qwen::demo
