// SPDX-License-Identifier: MIT
//
// What the interpreters of schedules share: how a run is made and fed, what it holds, and where its time begins.
#pragma once

#include "exact.hpp"
#include "script.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace script {

using exact::integer;

template <std::size_t N>
std::array<step, N> setup_of(schedule const& s) {
    std::array<step, N> a{};
    std::copy_n(s.begin(), std::min(N, s.size()), a.begin());
    return a;
}

/// All but the first N steps.
template <std::size_t N, class Run>
void take_the_rest(Run&& run, schedule const& s) {
    for (std::size_t i = N; i < s.size(); ++i) run.take(s[i]);
    run.end();
}

/// Has a run that is made of the first N steps take the others, by a clock that one of the first picks.
template <template <class> class Run, std::size_t N = 2>
void interpret(schedule const& s, journal& log, std::size_t clock = 0) {
    auto const setup = setup_of<N>(s);
    with_clock(setup[clock].pick, [&]<class Clock>() { take_the_rest<N>(Run<Clock>{setup, log}, s); });
}

/// Lets a few ticks pass, or up to some minutes.
template <class Clock>
void let_time_pass(Clock& clock, step const& s, journal& log) {
    constexpr std::int64_t second = Clock::period::den / Clock::period::num;
    std::int64_t const most[] = {3, second / 20 + 1, second, 10 * second, 70 * second, 400 * second};
    clock.ticks += static_cast<std::int64_t>(up_to(static_cast<std::uint64_t>(most[s.pick % 6]), s.a));
    log.note("the clock goes to ", clock.ticks);
}

/// What was granted and can be given back: the newest so many.
template <class Held, std::size_t Most = std::numeric_limits<std::size_t>::max()>
class held_list {
public:
    void add(Held h) {
        if (all_.size() == Most) all_.erase(all_.begin());
        all_.push_back(std::move(h));
    }
    /// The newest, or any; null where nothing is held.
    Held* pick(step const& s) {
        if (all_.empty()) return nullptr;
        std::size_t const back = s.pick % 2 == 0 ? 0 : s.pick / 2 % all_.size();
        return &all_[all_.size() - 1 - back];
    }
    void remove(Held* h) { all_.erase(all_.begin() + (h - all_.data())); }
    void clear() { all_.clear(); }
    auto begin() { return all_.begin(); }
    auto end() { return all_.end(); }

private:
    std::vector<Held> all_;
};

/// Where time begins: mostly near 0, now and then where the clock nearly ends.
inline std::int64_t origin_of(std::uint16_t code) {
    switch (code % 8) {
        case 0: return plus(min_ticks, code >> 3U);
        case 1: return minus(max_ticks, size(code));
        case 2: return -static_cast<std::int64_t>(size(code) >> 2U);
        case 3: return static_cast<std::int64_t>(size(code) >> 2U);
        default: return code >> 3U;
    }
}

/// Of a limiter that counts from `origin` on and not beyond `horizon`.
inline std::uint64_t time_since(std::int64_t origin, std::int64_t t, integer const& horizon) {
    return std::clamp(integer{t} - origin, integer{0}, horizon).u64();
}
/// The way back; the clock's last where there is no such time.
template <class TimePoint>
TimePoint time_after(std::int64_t origin, std::optional<std::uint64_t> t) {
    integer const sum = integer{origin} + t.value_or(0);
    return !t || sum > integer{max_ticks} ? TimePoint::max() : at<TimePoint>(sum.clamped<std::int64_t>());
}

/// A denial's retry_at: what was denied fits then, and not a tick earlier.
template <class TimePoint, class F>
void ensure_first(TimePoint retry_at, F fits) {
    if (retry_at == TimePoint::max()) return;
    ensure(fits(retry_at), "denied at its own retry_at ", ticks(retry_at));
    ensure(!fits(at<TimePoint>(ticks(retry_at) - 1)), "granted before its retry_at ", ticks(retry_at));
}

}  // namespace script
