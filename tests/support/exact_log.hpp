// SPDX-License-Identifier: MIT
// What an exact log of grants shows: the most that any window held.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace exact_log {

/// n permits at a time in ticks.
struct grant {
    std::int64_t time;
    std::uint64_t n;
};

/// The most permits in any window [t, t + window), of anything with a time and an n. A window with both its ends in it is one
/// tick longer.
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

}  // namespace exact_log
