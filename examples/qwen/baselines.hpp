// SPDX-License-Identifier: MIT
//
// What qwen_demo --compare compares weir with.
#pragma once

#include <weir/backoff.hpp>

#include <chrono>
#include <cstdint>

#include "plain_driver.hpp"
#include "qwen_client.hpp"

namespace qwen::demo {

/// No limiter: everything at once, as many as --in-flight allows, and retries after a backoff.
class no_limiter final : public qwen::plain_driver {
public:
    using plain_driver::plain_driver;
    qwen::admission admit(qwen::chat_call const&) override { return qwen::admission::go(); }
};

/// One request every 60 / RPM seconds; tokens are ignored.
class fixed_interval final : public qwen::plain_driver {
public:
    fixed_interval(std::chrono::nanoseconds interval, weir::backoff retry, std::uint64_t seed,
                   std::chrono::nanoseconds server_second)
        : plain_driver{retry, seed, server_second}, interval_{interval} {}
    qwen::admission admit(qwen::chat_call const&) override {
        auto const now = std::chrono::steady_clock::now();
        if (now < next_) return qwen::admission::not_before(next_, "interval");
        next_ = now + interval_;
        return qwen::admission::go();
    }

private:
    std::chrono::nanoseconds interval_;
    steady_time next_{};
};

}  // namespace qwen::demo
