// SPDX-License-Identifier: MIT
//
// Burst protection: refuses a rate of requests that grows too quickly, against a threshold that is not published and
// that moves. With the server's own queue for requests that ask for it (X-DashScope-Wait-Timeout). Like quota_judge:
// exact, under one mutex, no code of weir's, time passed in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace qwen {

/// A request passes while those that passed in the last second are fewer than max(floor, growth x the mean per second
/// of the last ten). A cold start gets `floor` per second, and then at most grows `growth`-fold. Both move slowly
/// between their bounds, by seed.
struct burst_settings {
    bool on = false;
    double least_floor = 3, most_floor = 6;  ///< requests per second
    double least_growth = 1.5, most_growth = 2.5;
    double drift_s = 30;  ///< a new aim so often, and on a straight line towards it
};

/// Thread-safe. Keeps a log for each (account, model).
class burst_guard {
public:
    /// Throws std::invalid_argument: a floor below 1, a growth below 1, bounds in the wrong order, a drift that is not
    /// positive.
    explicit burst_guard(burst_settings, std::uint64_t seed = 1);

    struct threshold {
        double floor, growth;
    };
    [[nodiscard]] threshold threshold_at(std::int64_t now) const;
    /// So many requests within one second, as of now.
    [[nodiscard]] double allowed(std::string_view account, std::string_view model, std::int64_t now) const;

    enum class answer { passes, refused, waits };
    struct outcome {
        answer is = answer::passes;
        std::uint64_t ticket = 0;  ///< if it waits
    };

    /// One request. It passes at once, or waits in line up to wait_ns, or, where that is 0, is refused. No
    /// request overtakes the line.
    [[nodiscard]] outcome arrive(std::string_view account, std::string_view model, std::int64_t now,
                                 std::int64_t wait_ns = 0);
    /// For a waiting request: passes (the first in line only), refused when its time is over, or still waits. Anything
    /// but the last ends the ticket; an ended or unknown ticket is refused.
    [[nodiscard]] answer look(std::uint64_t ticket, std::int64_t now);
    /// A time before which it is of no use to look again.
    [[nodiscard]] std::int64_t look_again_at(std::uint64_t ticket, std::int64_t now) const;
    /// Leaves the line; nothing if the ticket has ended.
    void leave(std::uint64_t ticket);

    [[nodiscard]] std::size_t waiting(std::string_view account, std::string_view model) const;
    [[nodiscard]] std::uint64_t refused() const;

    [[nodiscard]] burst_settings const& settings() const noexcept { return settings_; }

private:
    using key = std::pair<std::string, std::string>;

    struct passed_log {
        std::deque<std::int64_t> times;  // of those that passed within the last ten seconds
        std::deque<std::uint64_t> line;  // tickets, first come first
        std::int64_t latest = std::numeric_limits<std::int64_t>::min();
    };
    struct waiter {
        passed_log* log;
        std::int64_t deadline;
    };

    static std::size_t within_second(passed_log const&, std::int64_t now);
    [[nodiscard]] double allowed(passed_log const&, std::int64_t now) const;
    [[nodiscard]] bool pass(passed_log&, std::int64_t now);

    burst_settings settings_;
    std::uint64_t seed_;
    mutable std::mutex mutex_;
    std::map<key, passed_log> logs_;
    std::map<std::uint64_t, waiter> waiters_;
    std::uint64_t next_ticket_ = 1, refused_ = 0;
};

/// The value of X-DashScope-Wait-Timeout as seconds: 1 ... 120, more is 120; 0, nothing and nonsense are none.
[[nodiscard]] std::int64_t wait_timeout_s(std::string_view header) noexcept;

}  // namespace qwen
