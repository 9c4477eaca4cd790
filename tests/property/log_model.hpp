// SPDX-License-Identifier: MIT
//
// The exact log of a window: all stamps. What sliding_window_log.hpp promises where time points do not go back.
#pragma once

#include "exact.hpp"
#include "script.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <set>
#include <vector>

namespace script {

/// Times are ticks since the origin, within what a stamp can name.
class log_model {
public:
    log_model(std::uint64_t limit, std::int64_t window, std::uint64_t start)
        : limit_{limit},
          window_{window},
          earliest_{1 + window - (std::int64_t{1} << 57U)},
          latest_{(std::int64_t{1} << 60U) - 2 - window - (std::int64_t{1} << 57U)} {
        take(limit - std::min(limit, start), 0);
    }

    std::int64_t effective(std::int64_t t, std::int64_t origin) const {
        return std::clamp(exact::integer{t} - origin, exact::integer{earliest_}, exact::integer{latest_})
            .clamped<std::int64_t>();
    }
    std::uint64_t live(std::int64_t t) const {
        return static_cast<std::uint64_t>(std::distance(stamps_.upper_bound(t - window_), stamps_.end()));
    }
    std::uint64_t available(std::int64_t t) const { return limit_ - std::min(limit_, live(t)); }
    bool grants(std::uint64_t n, std::int64_t t) const { return n <= available(t); }
    /// The first time from t on; none: never.
    std::optional<std::int64_t> retry(std::uint64_t n, std::int64_t t) const {
        if (grants(n, t)) return t;
        if (n > limit_) return std::nullopt;
        // All but limit - n must have aged out.
        std::int64_t const stamp = *std::next(stamps_.rbegin(), static_cast<std::ptrdiff_t>(limit_ - n));
        return stamp > latest_ - window_ ? std::nullopt : std::optional{stamp + window_};
    }
    void take(std::uint64_t n, std::int64_t t) {
        for (std::uint64_t i = 0; i < n; ++i) stamps_.insert(t);
    }
    void give_back(std::uint64_t n, std::int64_t t) {
        for (std::uint64_t i = 0; i < n; ++i) stamps_.erase(stamps_.find(t));
    }
    /// Of more than the limit, only the newest count, after a change of limit too.
    void forget_all_but_the_newest() {
        while (stamps_.size() > limit_) stamps_.erase(stamps_.begin());
    }
    void change(std::uint64_t limit) { limit_ = limit; }
    std::uint64_t limit() const { return limit_; }
    std::int64_t window() const { return window_; }

    /// Of the half-open windows that hold t, the most stamps in one.
    std::uint64_t most_around(std::int64_t t) const {
        std::uint64_t most = 0;
        auto first = stamps_.upper_bound(t - window_);
        auto const end = stamps_.lower_bound(t + window_);
        std::uint64_t n = 0;
        for (auto last = first; last != end; ++last) {
            ++n;
            for (; *last - *first >= window_; ++first) --n;
            most = std::max(most, n);
        }
        return most;
    }
    std::vector<std::int64_t> held(std::int64_t t) const { return {stamps_.upper_bound(t - window_), stamps_.end()}; }

private:
    std::uint64_t limit_;
    std::int64_t window_;
    std::int64_t earliest_, latest_;
    std::multiset<std::int64_t> stamps_;
};

}  // namespace script
