// SPDX-License-Identifier: MIT
//
// Start-time fair queueing: which class is next. Pure arithmetic, without threads.
// Source: P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace weir::inline v0::detail {

/// What service costs in virtual time.
struct fair_unit {
    /// A permit at weight 1. Weights up to 16 divide it; for the others the rest of each division is carried to the
    /// next.
    static constexpr std::uint64_t unit = 720'720;
    /// Larger grants count as this: 10^12 permits.
    [[gnu::__visibility__("hidden")]] static constexpr std::uint64_t max_cost = (std::uint64_t{1} << 60) / unit;
};

/// Which of several classes is next. Each class has the tag at which its next call starts, in permits over its
/// weight. A grant of n moves the tag on by n / weight. The class with the least tag is next; of equal ones, the
/// class that is listed first. The virtual time is the start tag of the call served last: a class that was idle
/// comes back there, without credit for the time it was idle, and is next. When no class waits, the virtual time
/// jumps to the largest tag: capacity used while no call was waiting creates no debt.
/// O(log classes), and O(classes) once in 2^62 units of work.
template <std::size_t Classes>
    requires(Classes > 0 && Classes <= 65'536)
class fair_schedule : fair_unit {
public:
    [[gnu::__visibility__("hidden")]] static constexpr std::size_t none = Classes;

    constexpr explicit fair_schedule(std::array<std::uint32_t, Classes> const& weights) noexcept : weights_{weights} {
        winner_.fill(none);
    }

    /// The class to be served next; none when no class waits.
    constexpr std::size_t first() const noexcept { return winner_[1]; }
    constexpr bool waits(std::size_t i) const noexcept { return winner_[leaves + i] == i; }
    /// Whether another class would be ahead of i, which is idle and would begin to wait now.
    constexpr bool would_be_behind(std::size_t i) const noexcept {
        std::size_t const f = first();
        if (f == none) return false;
        std::uint64_t const tag = (std::max)(tags_[i], now_);
        return tags_[f] < tag || (tags_[f] == tag && f < i);
    }

    /// The first call of class i begins to wait.
    constexpr void begins(std::size_t i) noexcept {
        if (first() == none) {
            now_ = latest_;
            ++period_;
        }
        tags_[i] = (std::max)(tags_[i], now_);
        enter(i, i);
    }
    /// The number of the period in which calls have been waiting without a break, 1 the first: what was counted in an
    /// earlier period is no longer owed.
    constexpr std::uint64_t period() const noexcept { return period_; }
    /// No call of class i waits any more.
    constexpr void ends(std::size_t i) noexcept { enter(i, none); }

    /// A call of class i, which waits, was granted n. A cost of 0 counts as 1, so that a stream of them cannot starve
    /// others.
    constexpr void serve(std::size_t i, std::uint64_t n) noexcept {
        now_ = (std::max)(now_, tags_[i]);
        advance(i, n);
        if (now_ >= rebase_at) {
            for (auto& t : tags_) t -= (std::min)(t, now_);
            latest_ -= (std::min)(latest_, now_);
            now_ = 0;  // the order is the same: only tags that were below it have become equal
        }
    }
    /// What class i was granted came to more, or less, than was counted. Less is credit down to the virtual time, not
    /// below it.
    constexpr void correct(std::size_t i, std::uint64_t counted, std::uint64_t actual) noexcept {
        if (actual > counted) {
            advance(i, actual - counted);
        } else if (tags_[i] > now_) {
            std::uint64_t const back = (std::min)(counted - actual, max_cost) * unit / weights_[i];
            tags_[i] -= (std::min)(back, tags_[i] - now_);
        }
        replay(i);
    }

    /// From the next grant on.
    constexpr void change_weight(std::size_t i, std::uint32_t w) noexcept {
        weights_[i] = w;
        rests_[i] = 0;
    }

private:
    static constexpr std::uint64_t rebase_at = std::uint64_t{1} << 62;
    static constexpr std::size_t leaves = std::bit_ceil(Classes);

    constexpr void advance(std::size_t i, std::uint64_t n) noexcept {
        std::uint64_t const work = std::clamp(n, std::uint64_t{1}, max_cost) * unit + rests_[i];
        // Where much more is settled than was counted, a tag can grow past the virtual time without bound: it stops,
        // and does not wrap.
        tags_[i] += (std::min)(work / weights_[i], (std::numeric_limits<std::uint64_t>::max)() - tags_[i]);
        rests_[i] = static_cast<std::uint32_t>(work % weights_[i]);
        latest_ = (std::max)(latest_, tags_[i]);
        replay(i);
    }

    constexpr std::size_t better(std::size_t a, std::size_t b) const noexcept {
        if (a == none || b == none) return (std::min)(a, b);
        return tags_[b] < tags_[a] ? b : a;
    }
    constexpr void enter(std::size_t i, std::size_t leaf) noexcept {
        winner_[leaves + i] = leaf;
        replay(i);
    }
    constexpr void replay(std::size_t i) noexcept {
        for (std::size_t k = (leaves + i) / 2; k != 0; k /= 2) winner_[k] = better(winner_[2 * k], winner_[2 * k + 1]);
    }

    std::array<std::uint32_t, Classes> weights_;
    std::array<std::uint32_t, Classes> rests_{};
    std::array<std::uint64_t, Classes> tags_{};
    std::uint64_t now_ = 0;     // virtual time
    std::uint64_t latest_ = 0;  // no tag is above it
    std::uint64_t period_ = 0;
    std::array<std::size_t, 2 * leaves> winner_{};  // a tournament: the winner of node k, of nodes 2k and 2k + 1
};

}  // namespace weir::inline v0::detail
