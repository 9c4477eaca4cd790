// SPDX-License-Identifier: MIT
//
// Changes at known times: made when the first request arrives at that time or later.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "request_log.hpp"
#include "simulator.hpp"

namespace qwen::simulated {

class change_schedule {
public:
    /// Throws std::invalid_argument for a change that cannot be parsed.
    explicit change_schedule(std::vector<scheduled_change> const&);

    /// Makes the changes that are due at `now`, in true time. One that fails goes to the log.
    void make_due(std::int64_t now, dashscope_simulator& to, request_log& log);

    /// While this thread makes a scheduled change: the time for which it was scheduled.
    [[nodiscard]] static std::optional<std::int64_t> time_of_change() { return time_of_change_; }

private:
    struct change {
        std::string name;
        std::function<void(dashscope_simulator&)> make;
    };
    void find_next();

    inline static thread_local std::optional<std::int64_t> time_of_change_{};
    std::mutex mutex_;
    std::multimap<std::int64_t, change> changes_;  // guarded by mutex_
    std::atomic<std::int64_t> next_ns_;
};

}  // namespace qwen::simulated
