// SPDX-License-Identifier: MIT
//
// The words of a sliding_window_counter, and what can be read from them without moving time on.
//
// The protocol is in three layers: window_state (reading), window_segments (time moves on, refunds, changes of the
// limit) and window_counter (attempts). Pairs of all three; an acquire reads from the release of the same pair:
//
//     access                                            partner                  protects
//     (1)  loads of head                                (2) (6) (9)              the limit, closed, ring before head
//     (2)  change: exchange of head                     (1)                      the limit's slot
//     (3)  shared attempt: acq_rel exchange of head     (3) of other attempts    what the caller charged elsewhere
//     (5)  close: publishes a count in the ring         (8)                      a newer tenant of a ring's word
//     (6)  close: opens head at another segment         (1)                      closed and the ring before it
//     (7)  close: exchange of closed                    (7) loads of closed      what its sum includes
//     (8)  loads of the ring                            (5) (9)                  what came before a refund
//     (9)  refund: lowers head or the ring              (1) (8)                  what came before the refund
//     (10) loads of cached_segment_end                  (11)                     head at that segment or later
//     (11) refresh: raises cached_segment_end           (10)
//     (12) refund: adds to pending_refunds              (13)                     what came before the refund
//     (13) load of pending_refunds                      (12)
//     (14) refresh: load and exchange of cached_room    each other               cached rooms follow as heads do
//
// Release sequences go on through every exchange of the same word, since each write is a read-modify-write.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>

#include "../atomics.hpp"
#include "../limiter.hpp"
#include "wide.hpp"
#include "window_layout.hpp"

namespace weir::inline v0::detail {

/// What the window holds, and since when that holds: the start of the segment that was summed up to, in ticks.
struct window_usage {
    permits used = 0;
    std::int64_t as_of = (std::numeric_limits<std::int64_t>::min)();
};

/// All time points are ticks since the clock's epoch.
template <class Atomics>
class alignas(cache_line) window_state {
public:
    using word = std::uint64_t;

    window_state(window_state const&) = delete;
    window_state& operator=(window_state const&) = delete;

    // ---- looking; nothing is changed ----

    /// What the window that ends at `t` holds, overruns included: for a time ahead, if nothing is taken until then;
    /// before the open segment, the open segment's. An acquire: sees every charge and refund that happened before.
    window_usage used_at(std::int64_t t) const noexcept {
        tally const s = sum_at(t);
        return {s.used, scale_.start_of(s.segment)};
    }
    permits used(std::int64_t t) const noexcept { return sum_at(t).used; }

    /// The limit less what the window holds, 0 where that is more. O(1) in the open segment, else O(K).
    permits available(std::int64_t t) const noexcept {
        permits const u = used(t);
        permits const l = limit();
        return u < l ? l - u : 0;
    }

    permits limit() const noexcept {
        // (1)
        return limit_at(head_.load(std::memory_order_acquire));
    }

    /// The first tick, not before `from`, at which the window holds at most `budget` if nothing is taken: `from` itself
    /// or the start of a segment; the greatest number where the counter ends before. O(B). Later ticks hold no more.
    std::int64_t first_fit(permits budget, std::int64_t from) const noexcept {
        std::uint64_t const want = scale_.segment_of(from);
        return tick_of(first_fit_segment(budget, want), want, from);
    }

    // ---- looking back at a moment: `h` is a word of head that was read before ----
    //
    // What was taken, given back in h's segment or moved on since counts for nothing. The counts of the segments before
    // do not change any more, except by refunds. A limit is known until it was changed eight times.

    word head() const noexcept {
        // (1)
        return head_.load(std::memory_order_acquire);
    }
    permits limit_after(word h) const noexcept { return limit_at(h); }
    permits used_after(word h, std::int64_t t) const noexcept { return sum_after(h, scale_.reachable(t)); }
    std::int64_t first_fit_after(word h, permits budget, std::int64_t from) const noexcept {
        std::uint64_t const want = scale_.segment_of(from);
        if (sum_after(h, (std::min)(want, scale_.last())) <= budget) return tick_of(want, want, from);
        return next_fit_after(h, budget, from);
    }
    /// The same where the window at `from` holds more than the budget.
    std::int64_t next_fit_after(word h, permits budget, std::int64_t from) const noexcept {
        bool moved = false;
        std::uint64_t const want = scale_.segment_of(from);
        bool const aged_out = want > words_.segment(h) + segments_;
        return tick_of(aged_out ? want : fit_after(h, budget, want, moved), want, from);
    }

    /// The segment that a word names.
    std::uint64_t segment(word w) const noexcept { return words_.segment(w); }
    window_scale const& scale() const noexcept { return scale_; }
    /// B.
    std::uint32_t segments() const noexcept { return segments_; }
    /// The greatest limit; one bit of the count is for overruns.
    permits max_limit() const noexcept { return words_.max_count() >> 1U; }

protected:
    static constexpr std::int64_t never = (std::numeric_limits<std::int64_t>::max)();

    using atomic_word = typename Atomics::template atomic<word>;

    /// `limit` permits a window, of which `taken` count as taken just before `origin`. Not shared yet.
    window_state(window_layout const& p, permits limit, permits taken, std::int64_t origin)
        : words_{p.count_bits},
          ring_{new ring_line[p.ring / ring_line::size]},
          scale_{p, origin},
          segments_{p.segments},
          ring_mask_{p.ring - 1} {
        std::uint64_t const e = p.first();
        for (std::uint64_t s = 0; s < e; ++s) {
            at(s).exchange(words_.cell(s, s == e - 1 ? taken : 0), std::memory_order_relaxed);
        }
        word const head = words_.open(e, 0);
        limits_[0].exchange(words_.cell(0, limit), std::memory_order_relaxed);
        closed_.exchange(words_.cell(e, taken), std::memory_order_relaxed);
        cached_room_.exchange(words_.cached_room(head, taken, limit), std::memory_order_relaxed);
        cached_segment_end_.exchange(scale_.end_of(e), std::memory_order_relaxed);
        head_.exchange(head, std::memory_order_relaxed);
    }
    ~window_state() = default;

    atomic_word& at(std::uint64_t segment) const noexcept {
        std::size_t const i = to<std::size_t>(segment & ring_mask_);
        return ring_[i / ring_line::size].words[i % ring_line::size];
    }

    permits limit_at(word h) const noexcept {
        // Relaxed: (1) shows what head's version names. A newer one is there only when that version has passed, and
        // then an exchange of head fails.
        return words_.total(limits_[words_.version(h)].load(std::memory_order_relaxed));
    }

    /// What the window holds, by an open head and its closed.
    permits total_of(word h, word c) const noexcept {
        // (13) pairs with (12). An older value makes the answer higher.
        word const r = pending_refunds_.load(std::memory_order_acquire);
        permits const sum = words_.total(c) + words_.count(h);
        return words_.segment(r) == words_.segment(h) ? sum - words_.total(r) : sum;
    }

    /// The sum of the B segments before `segment`, of what has been published.
    permits sum_before(std::uint64_t segment) const noexcept {
        std::uint64_t const from = segment - segments_;
        permits sum = 0;  // fits: the bits of a segment, which the counts leave free, can number the ring
        for (std::uint64_t i = 0; i <= ring_mask_; ++i) {
            // (8) pairs with (9), for a caller that must know what came before a refund. For the sum alone relaxed
            // would do: (1) and, of head's segment, the load before show all that was published, and a refund that is
            // missed leaves the sum too high.
            word const w = at(i).load(std::memory_order_acquire);
            std::uint64_t const s = words_.segment(w);
            if (s >= from && s < segment) sum += words_.total(w);
        }
        return sum;
    }

    permits sum_after(word h, std::uint64_t want) const noexcept {
        // Relaxed: as in sum_in.
        word const c = closed_.load(std::memory_order_relaxed);
        if (want <= words_.segment(h) && words_.agree(h, c)) return total_of(h, c);
        permits used = 0;
        sum_ahead(h, words_.next_charge(h, want), used);
        return used;
    }

    struct tally {
        permits used;
        std::uint64_t segment;
        word head = 0;  // of which it was summed, where the segment is not open
    };

    tally sum_at(std::int64_t t) const noexcept {
        // (10) pairs with (11)
        if (t <= cached_segment_end_.load(std::memory_order_acquire)) return sum_in(0);
        return scan(scale_.segment_of(t));
    }

    /// The window at segment `want`, or at the open one if that is later.
    tally sum_in(std::uint64_t want) const noexcept {
        // (1)
        word const h = head_.load(std::memory_order_acquire);
        // Relaxed: (1) shows head's closed; where it is newer, the words do not agree.
        word const c = closed_.load(std::memory_order_relaxed);
        if (want <= words_.segment(h) && words_.agree(h, c)) [[likely]] {
            return {total_of(h, c), words_.segment(h)};
        }
        return scan(want);
    }

    [[gnu::__noinline__]] tally scan(std::uint64_t want) const noexcept {
        want = (std::min)(want, scale_.last());
        for (;;) {
            // (1)
            word const h = head_.load(std::memory_order_acquire);
            // Relaxed: as in sum_in.
            word const c = closed_.load(std::memory_order_relaxed);
            std::uint64_t const e = words_.segment(h);
            if (want <= e && words_.agree(h, c)) return {total_of(h, c), e};
            std::uint64_t const g = words_.next_charge(h, want);
            permits used = 0;
            if (sum_ahead(h, (std::min)(g, scale_.last()), used)) return {used, g, h};
        }
    }

    /// What the window at segment g holds, later than head's, of which h was read. False: head has moved on since.
    bool sum_ahead(word h, std::uint64_t g, permits& used) const noexcept {
        std::uint64_t const e = words_.segment(h);
        std::uint64_t const from = g - segments_;
        used = e >= from ? words_.count(h) : 0;
        std::uint64_t newest = 0;
        for (std::uint64_t i = 0; i <= ring_mask_; ++i) {
            // (8) pairs with (5) too: after a newer tenant is read, the newer head that allowed it is.
            word const w = at(i).load(std::memory_order_acquire);
            std::uint64_t const s = words_.segment(w);
            newest = (std::max)(newest, s);
            if (s >= from && s < e) used += words_.total(w);
        }
        return newest <= e;
    }

    /// The first segment, not before `want`, at whose start the window holds at most `budget`.
    [[gnu::__noinline__]] std::uint64_t first_fit_segment(permits budget, std::uint64_t want) const noexcept {
        for (;;) {
            // (1)
            word const h = head_.load(std::memory_order_acquire);
            // Relaxed: as in sum_in.
            word const c = closed_.load(std::memory_order_relaxed);
            std::uint64_t const e = words_.segment(h);
            if (want > e + segments_) return want;
            // In the open segment closed counts, which may be above the ring's sum, after a refund.
            if (want <= e && words_.agree(h, c) && total_of(h, c) <= budget) return want;
            bool moved = false;
            std::uint64_t const fit = fit_after(h, budget, want, moved);
            if (!moved) return fit;
        }
    }

    /// The first segment after h's, not before `want`, that has room by the ring. `moved`: head has moved on since h.
    std::uint64_t fit_after(word h, permits budget, std::uint64_t want, bool& moved) const noexcept {
        // From the newest segment to the oldest that counts in the next: the first that is too much must age out.
        std::uint64_t const e = words_.segment(h);
        permits sum = words_.count(h);
        std::uint64_t too_much = sum > budget ? e : 0;
        for (std::uint64_t s = e - 1; too_much == 0 && s > e - segments_; --s) {
            // (8)
            word const w = at(s).load(std::memory_order_acquire);
            moved = moved || words_.segment(w) > e;
            if (words_.segment(w) == s) sum += words_.total(w);
            if (sum > budget) too_much = s;
        }
        return (std::max)(want, too_much != 0 ? too_much + segments_ + 1 : e + 1);
    }

    /// The tick at which segment g begins, for a look from `from` in segment `want` <= g.
    std::int64_t tick_of(std::uint64_t g, std::uint64_t want, std::int64_t from) const noexcept {
        if (g > scale_.last()) return never;
        return g == want ? from : (std::max)(from, scale_.start_of(g));
    }

    struct alignas(cache_line) ring_line {
        static constexpr std::size_t size = 8;
        atomic_word words[size]{};
    };

    // The word that every grant writes has its line to itself; every grant reads the next line, which seldom changes.
    alignas(cache_line) atomic_word head_{};
    alignas(cache_line) atomic_word cached_room_{};
    typename Atomics::template atomic<std::int64_t> cached_segment_end_{(std::numeric_limits<std::int64_t>::min)()};
    atomic_word closed_{};
    atomic_word pending_refunds_{};
    window_words words_;
    std::unique_ptr<ring_line[]> ring_;
    alignas(cache_line) atomic_word limits_[window_words::versions]{};
    window_scale scale_;
    std::uint32_t segments_;
    std::uint32_t ring_mask_;
};

}  // namespace weir::inline v0::detail
