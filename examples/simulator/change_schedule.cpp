// SPDX-License-Identifier: MIT
#include "change_schedule.hpp"

#include <stdexcept>

#include "runtime_changes.hpp"

namespace qwen::simulated {

change_schedule::change_schedule(std::vector<scheduled_change> const& all) {
    for (auto const& c : all) changes_.emplace(c.at_ns, change{c.name, parse_change(c.name, c.json)});
    find_next();
}

void change_schedule::find_next() { next_ns_ = changes_.empty() ? never_ns : changes_.begin()->first; }

void change_schedule::make_due(std::int64_t now, dashscope_simulator& to, request_log& log) {
    if (now < next_ns_) return;
    std::lock_guard const lock{mutex_};
    while (!changes_.empty() && changes_.begin()->first <= now) {
        time_of_change_ = changes_.begin()->first;
        auto const c = changes_.extract(changes_.begin()).mapped();
        try {
            c.make(to);
        } catch (std::invalid_argument const& e) {
            log.add_failed_change(c.name + ": " + e.what());
        }
    }
    time_of_change_.reset();
    find_next();
}

}  // namespace qwen::simulated
