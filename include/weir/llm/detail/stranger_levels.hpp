// SPDX-License-Identifier: MIT
//
// stranger_levels: how much of one limit others are known to use, and until when. Part of header_sync.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace weir::inline v0::detail {

template <class TimePoint>
class stranger_levels {
public:
    using duration = typename TimePoint::duration;

    void note(std::uint64_t amount, TimePoint until, duration window) noexcept {
        for (auto& l : levels_) {
            if (l.amount >= amount && l.until >= until - window / 32) return;
            if (l.amount <= amount && l.until <= until) l = {};
        }
        level* oldest = levels_.data();
        for (auto& l : levels_) {
            if (l.until < oldest->until) oldest = &l;
        }
        *oldest = {amount, until};
    }
    /// The most that is known at t.
    std::uint64_t known(TimePoint t) const noexcept {
        std::uint64_t amount = 0;
        for (auto const& l : levels_) {
            if (l.until > t) amount = (std::max)(amount, l.amount);
        }
        return amount;
    }

private:
    struct level {
        std::uint64_t amount = 0;
        TimePoint until = (TimePoint::min)();
    };
    // None is both lower and earlier than another. Their ends are at least a 32nd of a window apart, except for resets.
    std::array<level, 40> levels_{};
};

}  // namespace weir::inline v0::detail
