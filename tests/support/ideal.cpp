// SPDX-License-Identifier: MIT
#include "ideal.hpp"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

namespace qwen {

namespace {

// One limit: what counts now, and when how much of it ceases to.
class exact_window {
public:
    exact_window(std::uint64_t limit, seconds length) : limit_{limit}, length_{length} {}

    // The first instant from `now` on at which `amount` fits. What counted over (t - length, t] has ceased at its end
    // exactly.
    seconds room_at(seconds now, std::uint64_t amount) {
        while (!ends_.empty() && (ends_.top().first <= now || (sum_ != 0 && sum_ + amount > limit_))) {
            now = std::max(now, ends_.top().first);
            sum_ -= ends_.top().second;
            ends_.pop();
        }
        return now;
    }
    void count(std::uint64_t amount, seconds until) {
        if (amount == 0) return;
        sum_ += amount;
        ends_.emplace(until, amount);
    }
    [[nodiscard]] seconds length() const { return length_; }

private:
    using end = std::pair<seconds, std::uint64_t>;
    std::uint64_t limit_, sum_ = 0;
    seconds length_;
    std::priority_queue<end, std::vector<end>, std::greater<>> ends_;
};

}  // namespace

std::vector<seconds> ideal_arrivals(std::vector<ideal_call> const& calls, ideal_limits const& limits) {
    std::vector<exact_window> requests, tokens;
    if (limits.rpm) requests.emplace_back(*limits.rpm, 60);
    if (limits.rps) requests.emplace_back(*limits.rps, 1);
    if (limits.tpm) tokens.emplace_back(*limits.tpm, 60);
    if (limits.tps) tokens.emplace_back(*limits.tps, 1);

    std::vector<seconds> arrivals;
    arrivals.reserve(calls.size());
    seconds now = 0;
    for (auto const& call : calls) {
        // Room in one window stays while another is waited for: without takers a sum only falls.
        for (auto& window : requests) now = window.room_at(now, 1);
        for (auto& window : tokens) now = window.room_at(now, call.input + call.output_bound);
        for (auto& window : requests) window.count(1, now + window.length());
        auto const reply = now + call.latency;
        auto const used = std::min(call.output, call.output_bound);
        for (auto& window : tokens) {
            window.count(call.input, now + window.length());
            window.count(call.output_bound - used, reply);
            window.count(used, reply + window.length());
        }
        arrivals.push_back(now);
    }
    return arrivals;
}

seconds ideal_time(std::vector<ideal_call> const& calls, ideal_limits const& limits) {
    auto const arrivals = ideal_arrivals(calls, limits);
    return arrivals.empty() ? 0 : arrivals.back();
}

}  // namespace qwen
