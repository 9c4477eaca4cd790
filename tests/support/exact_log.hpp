// SPDX-License-Identifier: MIT
// What an exact log of grants shows: the most that any window held.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace exact_log {

/// n permits at a time in ticks.
struct grant {
    std::int64_t time;
    std::uint64_t n;
};

/// The most permits in any window [t, t + window), of anything with a time and an n. A window with both its ends in it
/// is one tick longer.
template <class Grant>
std::uint64_t peak(std::vector<Grant> grants, std::int64_t window) {
    std::sort(grants.begin(), grants.end(), [](Grant const& a, Grant const& b) { return a.time < b.time; });
    std::uint64_t sum = 0;
    std::uint64_t most = 0;
    for (std::size_t i = 0, j = 0; i < grants.size(); ++i) {
        sum += grants[i].n;
        while (grants[i].time - grants[j].time >= window) sum -= grants[j++].n;
        most = std::max(most, sum);
    }
    return most;
}

/// n permits at a time that is known only to lie between two.
struct span {
    std::int64_t first;
    std::int64_t last;
    std::uint64_t n;
};

/// The most permits that certainly were in one window [t, t + window).
inline std::uint64_t certain_peak(std::vector<span> grants, std::int64_t window) {
    std::sort(grants.begin(), grants.end(), [](span const& a, span const& b) { return a.first < b.first; });
    std::uint64_t most = 0;
    for (std::size_t i = 0; i < grants.size(); ++i) {
        std::uint64_t sum = 0;
        for (std::size_t j = i; j < grants.size() && grants[j].first - grants[i].first < window; ++j) {
            if (grants[j].last - grants[i].first < window) sum += grants[j].n;
        }
        most = std::max(most, sum);
    }
    return most;
}

/// A log of every permit: what a sliding_window_log must answer while time does not go back.
class reference {
public:
    reference(std::size_t limit, std::int64_t window) : limit_{limit}, window_{window} {}

    std::size_t live(std::int64_t t) const {
        return static_cast<std::size_t>(std::distance(stamps_.upper_bound(t - window_), stamps_.end()));
    }
    std::size_t available(std::int64_t t) const { return live(t) < limit_ ? limit_ - live(t) : 0; }
    bool grants(std::size_t n, std::int64_t t) const { return n == 0 || (n <= limit_ && live(t) + n <= limit_); }
    std::optional<std::int64_t> retry_at(std::size_t n, std::int64_t t) const {
        if (grants(n, t)) return t;
        if (n > limit_) return {};
        return *std::next(stamps_.rbegin(), static_cast<std::ptrdiff_t>(limit_ - n)) + window_;
    }
    /// When all is available again; t when all is.
    std::int64_t full_at(std::int64_t t) const {
        return stamps_.empty() ? t : std::max(t, *stamps_.rbegin() + window_);
    }
    void take(std::size_t n, std::int64_t t) {
        for (std::size_t i = 0; i < n; ++i) stamps_.insert(t);
    }
    void give_back(std::size_t n, std::int64_t t) {
        for (std::size_t i = 0; i < n; ++i) stamps_.erase(stamps_.find(t));
    }
    void limit(std::size_t n) { limit_ = n; }
    std::size_t limit() const { return limit_; }

private:
    std::size_t limit_;
    std::int64_t window_;
    std::multiset<std::int64_t> stamps_;
};

/// The most stamps in any half-open window.
inline std::size_t most_in_a_window(std::vector<std::int64_t> const& stamps, std::int64_t window) {
    std::vector<grant> grants;
    for (auto const t : stamps) grants.push_back({t, 1});
    return static_cast<std::size_t>(peak(std::move(grants), window));
}

/// The most stamps in one of the windows that hold t.
inline std::size_t most_around(std::multiset<std::int64_t> const& stamps, std::int64_t t, std::int64_t window) {
    return most_in_a_window({stamps.upper_bound(t - window), stamps.lower_bound(t + window)}, window);
}

}  // namespace exact_log
