// SPDX-License-Identifier: MIT
//
// How a quota_limiter lays out its windows, and how a call is charged to them: pure arithmetic.
//
// Window i is the limit that limits_of_quota[i] names; window `held` has what calls in flight hold of both token
// limits.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "../../detail/window_layout.hpp"
#include "../../error.hpp"
#include "../../limiter.hpp"
#include "../quota.hpp"

namespace weir::inline v0::llm::detail {

struct window_index {
    enum : std::size_t { rpm, rps, tpm, tps, held, size };
};

inline constexpr std::size_t quota_limits = 4;
[[gnu::__visibility__("hidden")]] inline constexpr std::array<optional_count quota::*, quota_limits> limits_of_quota{
    &quota::rpm, &quota::rps, &quota::tpm, &quota::tps};
[[gnu::__visibility__("hidden")]] inline constexpr std::array<limit, quota_limits> limit_names{limit::rpm, limit::rps,
                                                                                               limit::tpm, limit::tps};
/// Some of the windows, in this order: f.operator()<I>() of each, until one is false. Indices that are constants, so
/// that what is prepared for each window stays in registers.
template <std::size_t... Which>
struct window_set {
    template <class F>
    [[gnu::__always_inline__]] static constexpr bool all(F&& f) {
        return (f.template operator()<Which>() && ...);
    }
};
using request_windows = window_set<window_index::rps, window_index::rpm>;  // what is denied most often comes first
using token_windows = window_set<window_index::tpm, window_index::tps>;

constexpr bool counts_tokens(std::size_t i) noexcept { return i >= window_index::tpm; }

/// The windows that a quota needs, in ticks of `Duration`; or why there are none.
template <class Duration>
struct quota_layout {
    struct window {
        permits limit = 0;  // 0: none
        permits taken = 0;  // at the start, just before it
        weir::detail::window_layout layout{};
    };
    std::array<window, window_index::size> windows{};
    permits held_at_start = 0;
    error problem{};

    static constexpr quota_layout make(quota const& q, quota_options const& o, Duration resolution) noexcept {
        quota_layout all;
        all.problem = wrong(q, o, resolution);
        for (std::size_t i = 0; i < quota_limits && !all.problem; ++i) {
            auto const& l = q.*limits_of_quota[i];
            if (!l) continue;
            auto& w = all.windows[i];
            w.limit = *l;
            w.taken = o.start == quota_start::empty ? 0 : w.limit;
            w.layout = layout(w.limit, length(i, o), asked(w.limit, length(i, o), resolution, 1000), resolution);
            all.problem = w.layout.problem;
        }
        if (!all.problem && (q.tpm || q.tps) && o.accounting != accounting::reserve) all.hold(q, o, resolution);
        return all;
    }

private:
    using layout_of = weir::detail::window_layout;

    static constexpr error wrong(quota const& q, quota_options const& o, Duration resolution) noexcept {
        if (auto e = quota::validate(q)) return e;
        if (o.jitter < o.jitter.zero()) return {"the jitter margin must not be negative"};
        if (o.server_timeout < o.server_timeout.zero()) return {"the server's timeout must not be negative"};
        constexpr std::chrono::nanoseconds most = std::chrono::hours{24 * 365};
        if (o.jitter > most || o.server_timeout > most) return {"a margin or timeout of more than a year"};
        if ((q.rps || q.tps) && length(window_index::rps, o) / 10 < (std::max)(resolution, Duration{1})) {
            return {"the clock is too coarse for a second: more than a tenth of the rate would be lost"};
        }
        return {};
    }

    /// Holds are within the limits except for attempts under way, each of which may hold as much for a moment. Their
    /// window has room for many of these, so that it does not saturate; it lasts minutes and is divided more coarsely.
    constexpr void hold(quota const& q, quota_options const& o, Duration resolution) noexcept {
        auto& w = windows[window_index::held];
        Duration const length_of_holds =
            length(q.tpm ? window_index::tpm : window_index::tps, o) + std::chrono::ceil<Duration>(o.server_timeout);
        w.limit = (std::max)(q.tpm.value_or(1), q.tps.value_or(1));
        std::uint32_t const segments = asked(w.limit, length_of_holds, resolution, 250);
        w.layout = layout(w.limit, length_of_holds, segments, resolution);
        for (int i = 0; i < 10 && !(w.limit >> 62U); ++i) {
            auto const larger = layout(w.limit * 2, length_of_holds, segments, resolution);
            if (larger.problem) break;
            w.limit *= 2;
            w.layout = larger;
        }
        problem = w.layout.problem;
        if (o.start == quota_start::full_in_flight) {
            held_at_start = (std::max)(q.tpm.value_or(0), q.tps.value_or(0));
        }
    }

    static constexpr Duration length(std::size_t i, quota_options const& o) noexcept {
        bool const minute = i == window_index::rpm || i == window_index::tpm;
        return std::chrono::ceil<Duration>(std::chrono::seconds{minute ? 60 : 1} + o.jitter);
    }
    static constexpr layout_of layout(permits limit, Duration window, std::uint32_t segments,
                                      Duration resolution) noexcept {
        return layout_of::make(limit, static_cast<std::int64_t>(window.count()), segments,
                               static_cast<std::int64_t>(resolution.count()), layout_of::horizon<Duration>());
    }
    /// A thousandth of a window is the slack of the counters, more where the limit leaves no room for so many segments.
    static constexpr std::uint32_t asked(permits limit, Duration window, Duration resolution,
                                         std::uint32_t most) noexcept {
        for (std::uint32_t const s : {1000U, 500U, 250U, 125U, 60U}) {
            if (s <= most && !layout(limit, window, s, resolution).problem) return s;
        }
        return 20;
    }
};

/// How a call is charged to a token limit: `count` at once, and of what it holds, `own` need not fit.
struct token_charge {
    permits count = 0;
    permits own = 0;
    bool never = false;
    bool alone = false;  // larger than the limit: it needs an empty window, and counts in full
};

/// `hold`: what the call holds; `holds`: whether calls are held at all.
[[gnu::__always_inline__]] constexpr token_charge charge_of(tokens n, permits hold, bool holds, permits limit,
                                                            permits max_limit, quota_options const& o) noexcept {
    bool const strict = o.accounting == accounting::any || o.accounting == accounting::reserve;
    permits const total = n.total();
    permits const must_fit = strict ? total : n.input.value();
    if (must_fit > limit) {
        // All of it, whether or not its output is held as well: what is above the limit needs an empty window.
        return {(std::min)(must_fit, max_limit), hold, o.oversize == oversize::refuse, true};
    }
    if (!holds || hold == 0) return {total, 0, false, false};
    // An exchange on the window's word is what makes an admission one event: at least one token is counted.
    return {n.input == 0 ? 1 : n.input.value(), strict ? 0 : hold, false, false};
}

}  // namespace weir::inline v0::llm::detail
