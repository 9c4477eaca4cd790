// SPDX-License-Identifier: MIT
//
// How a sliding_window_counter divides time into segments, and the words that it keeps: pure arithmetic.
//
//     head             segment | closing: 1 | version: V | count of the open segment: C
//     closed           segment | 0 | total of the B segments before it: V + C
//     ring[i]          segment | 0 | count: V + C       (K >= B + 1 of them, a power of two; i = segment mod K)
//     limit[v]         segment | 0 | the limit that version v of head names: V + C    (the segment it was written in)
//     pending_refunds  segment | 0 | what refund_visible gave back of what closed counts: V + C
//     cached_room      segment | 0 | version: V | the limit less closed's total: C    (what head may reach)
//
// C = count_bits, V = version_bits = 3; the segment takes what 30 years of segments need. One bit of a count is kept
// for overruns:
//
//     window   B     segment   count   greatest limit
//     1 s      125   37        23      4,194,303
//     1 s      1000  40        20      524,287
//     60 s     125   31        29      268,435,455
//     60 s     1000  34        26      33,554,431
//     1 h      125   25        35      17,179,869,183
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "../error.hpp"
#include "../limiter.hpp"
#include "decision_head.hpp"
#include "saturating.hpp"
#include "wide.hpp"

namespace weir::inline v0::detail {

/// Divides by a constant that is known only at run time, with one multiplication. Granlund and Montgomery, "Division by
/// invariant integers using multiplication", theorem 4.2 with N = 63: for l = ceil(log2 d) and
/// 2^(N+l) <= m·d <= 2^(N+l) + 2^l, floor(t/d) = floor(t·m / 2^(N+l)) for every t < 2^63.
struct reciprocal {
    std::uint64_t multiplier = (std::uint64_t{1} << 63U) + 1;
    unsigned shift = 0;

    /// 1 <= d < 2^63.
    static constexpr reciprocal of(std::uint64_t d) noexcept {
        auto const l = static_cast<unsigned>(std::bit_width(d - 1));
        // floor(2^(63+l) / d), which is in [2^63, 2^64): its first bit is 2^l / d, so 63 more of the remainder follow.
        std::uint64_t q = 1;
        std::uint64_t r = (std::uint64_t{1} << l) - d;
        for (int i = 0; i < 63; ++i) {
            r <<= 1U;
            q <<= 1U;
            if (r >= d) {
                r -= d;
                q |= 1U;
            }
        }
        return {q + 1, l};
    }

    /// floor(t/d), exact for t < 2^63.
    constexpr std::uint64_t divide(std::uint64_t t) const noexcept { return mul(t << 1U, multiplier).hi >> shift; }
};

/// How a window is divided, and how a word is. In ticks and segments; no clock.
struct window_layout {
    static constexpr unsigned version_bits = 3;
    static constexpr std::uint32_t max_segments = 1U << 16U;

    std::uint64_t length = 1;    // L, in ticks
    std::uint32_t segments = 1;  // B in use: ceil(W/L), at most what was asked for
    std::uint32_t ring = 8;      // K
    std::uint64_t last = 0;      // the last segment that a word can name
    unsigned count_bits = 1;     // C
    error problem{};

    /// The segment in which the origin lies. The B before it have numbers too, for what was taken before the start.
    constexpr std::uint64_t first() const noexcept { return ring; }

    /// The greatest limit: one bit of the count is for overruns.
    constexpr permits max_limit() const noexcept { return (std::uint64_t{1} << (count_bits - 1)) - 1; }

    static constexpr window_layout make(permits limit, std::int64_t window, std::uint64_t asked,
                                        std::int64_t resolution, std::uint64_t horizon) noexcept {
        window_layout p;
        if (limit == 0) return refuse("limit must be at least 1");
        if (window <= 0) return refuse("window must be positive");
        if (window >> 60U) return refuse("window must be shorter than 2^60 ticks of its clock");
        if (asked == 0) return refuse("segments must be at least 1");
        if (asked > max_segments) return refuse("segments must be at most 65,536");
        auto const w = static_cast<std::uint64_t>(window);
        auto const step = static_cast<std::uint64_t>((std::max<std::int64_t>)(resolution, 1));
        p.length = (w - 1) / asked + 1;
        if (step > p.length) {
            // Shorter segments than the clock's step would only be skipped.
            if (step > w / 10)
                return refuse("the clock is too coarse for the window: more than a tenth of the rate would be lost");
            p.length = step;
        }
        p.segments = static_cast<std::uint32_t>((w - 1) / p.length + 1);
        p.ring = std::bit_ceil((std::max<std::uint32_t>)(p.segments + 1, 8));
        std::uint64_t const needed = horizon / p.length + p.first() + p.segments + 2;
        auto const segment_bits = static_cast<unsigned>(std::bit_width(needed));
        p.last = (std::uint64_t{1} << segment_bits) - 1;
        if (segment_bits + 1 + version_bits + static_cast<unsigned>(std::bit_width(limit)) + 1 > 64) {
            return refuse("the limit does not fit in one word with 30 years of segments: use fewer segments");
        }
        p.count_bits = 64 - segment_bits - 1 - version_bits;
        return p;
    }

    static constexpr window_layout refuse(char const* reason) noexcept {
        window_layout p;
        p.problem = {reason};
        return p;
    }

    /// 30 years in ticks of `Duration`, or what a signed 64-bit count can hold of them.
    template <class Duration>
    static constexpr std::uint64_t horizon() noexcept {
        return (std::min)(thirty_years<Duration>(), (std::uint64_t{1} << 63U) - 1);
    }
};

/// The segments of a layout on the clock: ticks since the clock's epoch, and the numbers of segments.
class window_scale {
public:
    constexpr window_scale(window_layout const& p, std::int64_t origin) noexcept
        : length_{p.length}, first_{p.first()}, last_{p.last}, per_length_{reciprocal::of(p.length)}, origin_{origin} {}

    constexpr std::uint64_t length() const noexcept { return length_; }
    constexpr std::uint64_t first() const noexcept { return first_; }
    constexpr std::uint64_t last() const noexcept { return last_; }
    constexpr std::int64_t origin() const noexcept { return origin_; }

    /// The segment of a tick; the first for what is before the origin. May be beyond last().
    constexpr std::uint64_t segment_of(std::int64_t t) const noexcept {
        std::int64_t const since = saturating_sub(t, origin_);
        return first_ + per_length_.divide(since < 0 ? 0 : static_cast<std::uint64_t>(since));
    }
    constexpr std::uint64_t reachable(std::int64_t t) const noexcept { return (std::min)(segment_of(t), last_); }

    /// How many segments before the first a tick lies; 0 from the origin on.
    constexpr std::uint64_t segments_before_first(std::int64_t t) const noexcept {
        std::int64_t const before = saturating_sub(origin_, t);
        return before > 0 ? per_length_.divide(static_cast<std::uint64_t>(before) - 1) + 1 : 0;
    }

    /// The last tick of a segment. The last segment has none, and the one in which the clock or a difference ends takes
    /// all that is left.
    constexpr std::int64_t end_of(std::uint64_t segment) const noexcept {
        std::uint64_t next{};
        if (segment >= last_ || __builtin_mul_overflow(segment + 1 - first_, length_, &next) || next > max_ticks) {
            return (std::numeric_limits<std::int64_t>::max)();
        }
        return saturating_add(origin_, static_cast<std::int64_t>(next - 1));
    }

    /// The first tick of a segment that is not before the first; saturates.
    constexpr std::int64_t start_of(std::uint64_t segment) const noexcept {
        std::uint64_t since{};
        if (__builtin_mul_overflow(segment - first_, length_, &since) || since > max_ticks) since = max_ticks;
        return saturating_add(origin_, static_cast<std::int64_t>(since));
    }

private:
    static constexpr auto max_ticks = static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)());

    std::uint64_t length_;
    std::uint64_t first_;
    std::uint64_t last_;
    reciprocal per_length_;
    std::int64_t origin_;
};

/// The words, and each step that one of them can take.
class window_words {
public:
    using word = std::uint64_t;
    static constexpr unsigned versions = 1U << window_layout::version_bits;

    constexpr window_words() = default;
    constexpr explicit window_words(unsigned count_bits) noexcept
        : count_bits_{count_bits},
          total_bits_{count_bits + window_layout::version_bits},
          count_mask_{(word{1} << count_bits_) - 1},
          total_mask_{(word{1} << total_bits_) - 1} {}

    // Any word.
    constexpr std::uint64_t segment(word w) const noexcept { return w >> (total_bits_ + 1); }

    // head
    constexpr word open(std::uint64_t segment, unsigned version) const noexcept {
        return (segment << (total_bits_ + 1)) | (word{version} << count_bits_);
    }
    constexpr permits count(word h) const noexcept { return h & count_mask_; }
    constexpr unsigned version(word h) const noexcept {
        return static_cast<unsigned>(h >> count_bits_) & (versions - 1);
    }
    constexpr bool is_closing(word h) const noexcept { return ((h >> total_bits_) & 1U) != 0; }
    /// The segment, `want` or a later one, in which what is charged after h counts: a closing one is followed by
    /// another.
    constexpr std::uint64_t next_charge(word h, std::uint64_t want) const noexcept {
        return (std::max)(want, segment(h) + (is_closing(h) ? 1U : 0U));
    }
    constexpr word closing(word h) const noexcept { return h | (word{1} << total_bits_); }
    constexpr word with_version(word h, unsigned version) const noexcept {
        return (h & ~(word{versions - 1} << count_bits_)) | (word{version} << count_bits_);
    }
    /// A charge that is known to fit.
    static constexpr word charged(word h, permits n) noexcept { return h + n; }
    /// A charge that need not fit: the count stays at its maximum once it got there.
    constexpr word overcharged(word h, permits n) const noexcept {
        permits const room = count_mask_ - count(h);
        return h + (std::min)(n, room);
    }
    constexpr bool is_stuck(word h) const noexcept { return count(h) == count_mask_; }
    constexpr permits max_count() const noexcept { return count_mask_; }

    // closed, pending_refunds, a ring's word, a limit's
    constexpr word cell(std::uint64_t segment, permits total) const noexcept {
        return (segment << (total_bits_ + 1)) | (std::min)(total, total_mask_);
    }
    constexpr permits total(word w) const noexcept { return w & total_mask_; }

    /// head is open, and this is its closed.
    constexpr bool agree(word h, word closed) const noexcept { return ((h ^ closed) >> total_bits_) == 0; }

    // cached_room
    constexpr word cached_room(word h, permits total, permits limit) const noexcept {
        return (h & ~count_mask_) | (limit - (std::min)(limit, total));
    }
    /// head is open, and this is the cached_room of its segment and version.
    constexpr bool is_current(word cached, word h) const noexcept { return (h ^ cached) <= count_mask_; }
    /// How many more head may count, by a cached_room that is current.
    static constexpr permits room(word h, word cached) noexcept { return h < cached ? cached - h : 0; }

    /// k fewer in head or a ring's word. A count at its maximum has lost count, and stays.
    constexpr word lowered(word w, permits k) const noexcept { return is_stuck(w) ? w : w - (std::min)(k, count(w)); }

    static constexpr unsigned next(unsigned version) noexcept { return (version + 1) & (versions - 1); }

private:
    unsigned count_bits_ = 1;
    unsigned total_bits_ = 1 + window_layout::version_bits;
    word count_mask_ = 1;
    word total_mask_ = (word{1} << (1 + window_layout::version_bits)) - 1;
};

/// What was charged where, for refunds: the word of head after the charge, and how many permits of it are live. Only
/// moved, so that none goes back twice; an object that was moved from has none. It belongs to the counter that made it.
class window_receipt {
public:
    constexpr window_receipt() = default;
    constexpr window_receipt(std::uint64_t head, permits n) noexcept : head_{head}, live_{n} {}

    /// How many permits have not been refunded.
    constexpr permits live() const noexcept { return live_.count(); }
    constexpr std::uint64_t head() const noexcept { return head_; }

    /// Takes up to k of the live ones, and returns how many.
    constexpr permits take(permits k) noexcept { return live_.take(k); }

private:
    std::uint64_t head_ = 0;
    live_permits live_{};
};

}  // namespace weir::inline v0::detail
