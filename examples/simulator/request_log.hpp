// SPDX-License-Identifier: MIT
//
// What the simulator has answered: counts, and a record of each request where they are kept. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "simulator.hpp"

namespace qwen::simulated {

class request_log {
public:
    explicit request_log(bool keep_records) : keeps_records_{keep_records} {}

    /// The request is over.
    void add(request_record r, std::int64_t done_ns) {
        r.done_ns = done_ns;
        std::lock_guard const lock{mutex_};
        ++counts_.requests;
        ++counts_.by_status[r.status];
        if (!r.code.empty()) ++counts_.by_code[r.code];
        if (r.befell != mishap::none) ++counts_.by_mishap[std::string{to_string(r.befell)}];
        if (keeps_records_) records_.push_back(std::move(r));
    }

    void add_failed_change(std::string what) {
        std::lock_guard const lock{mutex_};
        counts_.failed_changes.push_back(std::move(what));
    }

    /// A report with the counts alone.
    [[nodiscard]] simulator_report counts() const {
        std::lock_guard const lock{mutex_};
        return counts_;
    }

    /// Those since the last call.
    [[nodiscard]] std::vector<request_record> take_records() {
        std::lock_guard const lock{mutex_};
        return std::exchange(records_, {});
    }

private:
    bool const keeps_records_;
    mutable std::mutex mutex_;
    simulator_report counts_;
    std::vector<request_record> records_;
};

}  // namespace qwen::simulated
