// SPDX-License-Identifier: MIT
//
// What a class of a fair_queue, or a member of a queue_group, is entitled to.
#pragma once

#include <cstdint>

#include "../error.hpp"
#include "wait_status.hpp"

namespace weir::inline v0 {

/// What a class of callers is entitled to.
struct fair_class {
    /// 1 to 65,536. While others wait, its share of what is granted is weight / sum of their weights.
    std::uint32_t weight = 1;
    wait_queue_options queue{};  ///< of the class's own queue

    static constexpr std::uint32_t max_weight = 65'536;
    static constexpr error validate(fair_class const& c) noexcept {
        if (c.weight == 0) return {"weight must be at least 1"};
        if (c.weight > max_weight) return {"weight must be at most 65,536"};
        return {};
    }
};

}  // namespace weir::inline v0
