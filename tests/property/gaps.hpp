// SPDX-License-Identifier: MIT
//
// Bookings that were cancelled while others were booked behind them, as the exact models of leaky_bucket_queue and of
// token_bucket's reservations keep them.
#pragma once

#include "bucket_model.hpp"
#include "exact.hpp"
#include "script.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

namespace script {

/// The gaps at the end of the line go back, as many as the limiter could keep count of: the least that explains what it
/// shows. `start` and `now` are time points of the limiter, `ticks_now` the ticks between them.
template <class Limiter, class TimePoint, class TimeOf>
void give_back_gaps(std::vector<gap>& gaps, integer& tat, gcra_model const& g, Limiter const& shown, TimePoint start,
                    TimePoint now, TimeOf time_of, std::uint64_t ticks_now) {
    auto const is_end = [&](integer const& x) {
        auto const seen = shown.check(0, start);
        return seen.remaining() == g.available(x, 0) && seen.full_at() == time_of(g.first(x)) &&
               shown.available(now) == g.available(x, ticks_now);
    };
    while (!is_end(tat)) {
        auto const last = std::find_if(gaps.begin(), gaps.end(),
                                       [&](auto const& x) { return x.after <= tat && tat - x.after < g.unit; });
        ensure(last != gaps.end(), "the line ends elsewhere than behind a booking");
        // Whole, or as much of it as has been counted: the least that explains what is seen.
        auto const full_at = shown.check(0, start).full_at();
        std::uint64_t const n = floor_div(last->worth, g.unit).u64();
        std::uint64_t part = 0;
        for (std::uint64_t most = n; part < most;) {
            std::uint64_t const half = part + (most - part) / 2;
            if (time_of(g.first(tat - g.unit * half)) <= full_at) {
                most = half;
            } else {
                part = half + 1;
            }
        }
        if (full_at == TimePoint::max()) {  // beyond the horizon all ends look the same from the start
            std::uint64_t const had = g.available(tat, ticks_now);
            std::uint64_t const has = shown.available(now);
            part = std::min(n, has > had ? has - had : 0);
        }
        for (int i = 0; i < 64 && part < n && !is_end(tat - g.unit * part); ++i) ++part;
        tat -= is_end(tat - g.unit * part) ? g.unit * part : last->worth;
        gaps.erase(last);
    }
}

}  // namespace script
