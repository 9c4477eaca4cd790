// SPDX-License-Identifier: MIT
// What the tests of the bucket family share: exact rational oracles.
#pragma once

#include <weir/clock/manual_clock.hpp>
#include <weir/rate.hpp>

#include "exact_log.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <ostream>
#include <random>
#include <vector>

#include "int128.hpp"

namespace gcra_oracle {

using int128::i128;
using int128::u128;

using exact_log::grant;
using random_engine = std::mt19937_64;
inline std::uint64_t below(random_engine& random, std::uint64_t n) { return random() % n; }

/// `permits` per `ticks`, not necessarily reduced.
struct fraction {
    std::int64_t permits;
    std::int64_t ticks;
};

/// The promise, exactly: in any interval [s, e] at most burst + rate·(e − s) permits. Returns by how many permits it is
/// exceeded at worst, rounded up; 0 where it is kept.
///
/// With C the running sum: q·(C(e) − C(s−)) ≤ b·q + p·(e − s) for all s ≤ e, so one pass that keeps the least q·C(s−) −
/// p·s is enough.
inline std::int64_t excess(std::vector<grant> grants, fraction rate, std::uint64_t burst) {
    std::stable_sort(grants.begin(), grants.end(), [](grant const& a, grant const& b) { return a.time < b.time; });
    i128 const p = rate.permits;
    i128 const q = rate.ticks;
    i128 sum = 0;
    i128 least = 0;
    i128 worst = 0;
    bool first = true;
    for (std::size_t i = 0; i < grants.size();) {
        i128 const t = grants[i].time;
        i128 const before = q * sum - p * t;
        least = first ? before : std::min(least, before);
        first = false;
        std::size_t j = i;
        for (; j < grants.size() && grants[j].time == grants[i].time; ++j) sum += grants[j].n;
        worst = std::max(worst, q * sum - p * t - least - q * static_cast<i128>(burst));
        i = j;
    }
    return static_cast<std::int64_t>((worst + q - 1) / q);
}

/// The same where a grant's time is known only to lie between two: it counts in the intervals that hold both.
inline std::int64_t certain_excess(std::vector<exact_log::span> grants, fraction rate, std::uint64_t burst) {
    std::stable_sort(grants.begin(), grants.end(), [](auto const& a, auto const& b) { return a.last < b.last; });
    i128 const p = rate.permits;
    i128 const q = rate.ticks;
    // For each s that was the time of a grant, q·C(s−) − p·s, and the least of it up to there. What ends now and began
    // before s is not in an interval from s on: it raises C(s−) as it raises C(e).
    struct start {
        std::int64_t at;
        i128 before;
        i128 least;
    };
    std::vector<start> starts;
    i128 sum = 0;
    i128 worst = 0;
    for (auto const& g : grants) {
        if (starts.empty() || starts.back().at < g.first) starts.push_back({g.first, q * sum - p * g.first, 0});
        auto i = std::partition_point(starts.begin(), starts.end(), [&](start const& s) { return s.at < g.first; });
        for (; i != starts.end(); ++i) {
            if (i->at > g.first) i->before += q * static_cast<i128>(g.n);
            i->least = i == starts.begin() ? i->before : std::min(i->before, std::prev(i)->least);
        }
        sum += g.n;
        worst = std::max(worst, q * sum - p * g.last - starts.back().least - q * static_cast<i128>(burst));
    }
    return static_cast<std::int64_t>((worst + q - 1) / q);
}

/// The algorithm over the rationals: state and time in 1/ticks of a permit. What a bucket without any rounding would
/// do.
class ideal {
public:
    ideal(fraction r, std::uint64_t burst) : p_{r.permits}, q_{r.ticks}, span_{static_cast<i128>(burst) * r.ticks} {}

    bool allows(std::uint64_t n, std::int64_t t) const { return base(t) + q_ * static_cast<i128>(n) <= p_ * t + span_; }
    bool take(std::uint64_t n, std::int64_t t) {
        if (!allows(n, t)) return false;
        tat_ = base(t) + q_ * static_cast<i128>(n);
        return true;
    }
    std::uint64_t available(std::int64_t t) const {
        i128 const left = p_ * t + span_ - base(t);
        return left <= 0 ? 0 : static_cast<std::uint64_t>(left / q_);
    }
    /// The first tick at which n are available.
    std::int64_t first(std::uint64_t n) const {
        i128 const need = tat_ + q_ * static_cast<i128>(n) - span_;
        return need <= 0 ? 0 : static_cast<std::int64_t>((need + p_ - 1) / p_);
    }

private:
    i128 base(std::int64_t t) const { return std::max(tat_, p_ * t); }

    i128 p_;
    i128 q_;
    i128 span_;
    i128 tat_ = 0;
};

/// Rates of human size and awkward ones, of a clock in nanoseconds.
struct named_rate {
    char const* name;
    weir::rate rate;
    fraction per_tick;
    friend std::ostream& operator<<(std::ostream& os, named_rate const& r) { return os << r.name; }
};
inline std::vector<named_rate> awkward_rates() {
    using namespace std::chrono_literals;
    constexpr std::int64_t s = 1'000'000'000;
    return {
        {"100/s", {100, 1s}, {100, s}},
        {"3/s", {3, 1s}, {3, s}},
        {"7/s", {7, 1s}, {7, s}},
        {"600000/s", {600'000, 1s}, {600'000, s}},
        {"3e8/s", {300'000'000, 1s}, {300'000'000, s}},
        {"1e6/min", {1'000'000, 1min}, {1'000'000, 60 * s}},
        {"1e9+7/s", {1'000'000'007, 1s}, {1'000'000'007, s}},
        {"1/ns", {1, 1ns}, {1, 1}},
        {"1/day", {1, 24h}, {1, 86'400 * s}},
        {"1/year", {1, std::chrono::years{1}}, {1, 31'556'952 * s}},
        {"999983/17min", {999'983, 17min}, {999'983, 17 * 60 * s}},
        {"2^61-1/2^61 ns", {(1ULL << 61U) - 1, std::chrono::nanoseconds{1LL << 61U}}, {(1LL << 61U) - 1, 1LL << 61U}},
    };
}

inline weir::manual_clock::time_point at(std::int64_t t) {
    return weir::manual_clock::time_point{weir::manual_clock::duration{t}};
}
inline std::int64_t ticks(weir::manual_clock::time_point t) { return t.time_since_epoch().count(); }

/// Mostly small numbers, of every magnitude up to `most`.
inline std::uint64_t any_size(random_engine& random, std::uint64_t most) {
    if (most == 0) return 0;
    unsigned bits = 0;
    while (bits < 64 && (most >> bits) != 0) ++bits;
    std::uint64_t const mask = ~std::uint64_t{0} >> (63U - below(random, bits));
    return std::min(most, random() & mask);
}

}  // namespace gcra_oracle
