// SPDX-License-Identifier: MIT
//
// How a sliding_window_counter moves on from segment to segment, takes refunds and changes its limit. window_state.hpp
// lists the pairs of the memory orders.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "../error.hpp"
#include "../limiter.hpp"
#include "window_layout.hpp"
#include "window_state.hpp"

namespace weir::inline v0::detail {

/// Why a change of the limit changed nothing though the limit would fit: another one can be written only in the next
/// segment.
inline constexpr error busy_until_next_segment() noexcept {
    return {errc::busy, "the limit has been changed seven times in this segment: ask again in the next"};
}

template <class Atomics>
class window_segments : public window_state<Atomics> {
    using base = window_state<Atomics>;
    using words = window_words;
    using typename base::atomic_word;

public:
    using typename base::word;

    // ---- time moves on ----

    /// Moves the open segment on to that of `t`: looks that cannot, since they are const, cost O(K) until then.
    void advance_to(std::int64_t t) noexcept {
        // (10)
        if (t > cached_segment_end_.load(std::memory_order_acquire)) [[unlikely]] {
            advance(scale_.segment_of(t));
            refresh();
        }
    }

    // ---- refunds ----

    /// Gives back up to k of a receipt's permits, where they were charged. Returns by how much the window was lowered:
    /// 0 when nothing is live any more, the permits have aged out, or the count is at its maximum. Permits of a past
    /// segment become available with the next one. A release: a thread that sees the lowered sum through used(), or
    /// grants by prepare_shared, sees what came before the refund.
    permits refund(window_receipt& r, permits k = all_permits) noexcept {
        k = r.take(k);
        return k == 0 ? 0 : lower<false>(words_.segment(r.head()), k);
    }

    /// The same for a counter that is only looked at: used() and first_fit() know of permits of a past segment at once
    /// and not with the next one (except of a refund that meets the beginning of a segment). Attempts on this counter
    /// itself learn of them with the next segment, as after refund.
    ///
    /// Lemma: used() is never below what is live. head was seen at segment e before the ring's word was lowered. So
    /// closed at e was summed by then, of words that were published and not yet lowered by this refund: it counts them.
    /// Noted under e, they are subtracted from closed at e, and from no other.
    permits refund_visible(window_receipt& r, permits k = all_permits) noexcept {
        k = r.take(k);
        return k == 0 ? 0 : lower<true>(words_.segment(r.head()), k);
    }

    // ---- the limit ----

    /// Puts another limit in force at `t`; what was taken stays taken. Every attempt is decided by one of the two
    /// whole: the version in head names the limit, and the exchange that grants covers it. Errors: 0; above
    /// max_limit(); busy, when the limit has been changed seven times in the segment of `t`. Lock-free: a change that
    /// another thread left half done is finished.
    error change_limit(permits limit, std::int64_t t) noexcept {
        if (limit == 0) return {"limit must be at least 1"};
        if (limit > this->max_limit()) {
            return {errc::does_not_fit, "the limit does not fit in one word with 30 years of segments"};
        }
        std::uint64_t want = scale_.segment_of(t);
        bool written = false;
        for (;;) {
            // (1)
            word h = head_.load(std::memory_order_acquire);
            if (want > words_.segment(h) || words_.is_closing(h)) {
                want = advance(want);
                continue;
            }
            // Versions come into force in turn, and each slot is tagged with the segment of its writing. The next slot
            // was last in force until the one after it was written, and may be written only in a later segment. So
            // (segment, version) never comes twice, and a stalled attempt cannot succeed on another limit. Hence
            // tag(next) > tag(after) only while a change waits for its exchange of head. Relaxed: (1) shows both as
            // they were when head's version came into force; a newer value makes an exchange fail, or shows a change
            // under way.
            unsigned const next = words::next(words_.version(h));
            word slot = limits_[next].load(std::memory_order_relaxed);
            std::uint64_t const after = words_.segment(limits_[words::next(next)].load(std::memory_order_relaxed));
            if (words_.segment(slot) > after) {
                // (2)
                head_.compare_exchange_weak(h, words_.with_version(h, next), std::memory_order_release,
                                            std::memory_order_relaxed);
            } else if (written) {
                return {};
            } else if (words_.segment(h) <= after) {
                // Or head is not what it was, and the slots are of changes since: an exchange of head for itself can
                // tell. Relaxed: it publishes nothing.
                if (head_.compare_exchange_weak(h, h, std::memory_order_relaxed, std::memory_order_relaxed)) {
                    return busy_until_next_segment();
                }
            } else {
                // Relaxed: (2) publishes it, whichever thread makes that exchange, since the slot was read there.
                written = limits_[next].compare_exchange_weak(slot, words_.cell(words_.segment(h), limit),
                                                              std::memory_order_relaxed, std::memory_order_relaxed);
            }
        }
    }

    // ---- saved state ----

    /// Before the counter is shared: books n permits at a tick that has passed, before the origin or after, in any
    /// order. False when `t` is not before the open segment: then it is a charge as any other. What is out of the
    /// window already is ignored.
    bool restore_past(permits n, std::int64_t t) noexcept {
        std::uint64_t const back = scale_.segments_before_first(t);
        // Relaxed: not shared yet.
        std::uint64_t const e = words_.segment(head_.load(std::memory_order_relaxed));
        if (back == 0 && scale_.segment_of(t) >= e) return false;
        if (back > this->segments_) return true;
        std::uint64_t const s = back != 0 ? scale_.first() - back : scale_.segment_of(t);
        if (s + this->segments_ < e) return true;
        auto& place = this->at(s);
        word const w = place.load(std::memory_order_relaxed);
        place.exchange(words_.overcharged(words_.segment(w) == s ? w : words_.cell(s, 0), n),
                       std::memory_order_relaxed);
        closed_.exchange(words_.cell(e, this->sum_before(e)), std::memory_order_relaxed);
        cached_room_.exchange(0, std::memory_order_relaxed);
        pending_refunds_.exchange(0, std::memory_order_relaxed);
        return true;
    }

protected:
    using base::base;
    using base::cached_room_;
    using base::cached_segment_end_;
    using base::closed_;
    using base::head_;
    using base::limits_;
    using base::pending_refunds_;
    using base::scale_;
    using base::words_;

    /// Notes the room and the end of the open segment, unless it is being closed. Both only save the next attempts the
    /// way here: what a race loses is time.
    [[gnu::__noinline__]] void refresh() noexcept {
        // (14): head, read next, is at least as new as it was to the thread that wrote this. So cached rooms follow
        // each other as heads do, and two threads cannot undo each other's without end.
        word old = cached_room_.load(std::memory_order_acquire);
        // (1)
        word const h = head_.load(std::memory_order_acquire);
        // (7): where closed is of a later segment than head was, the next load shows a head that has moved, so that no
        // thread waits here for what is on its way.
        word const c = closed_.load(std::memory_order_acquire);
        if (!words_.agree(h, c)) return;
        word const known = words_.cached_room(h, words_.total(c), this->limit_at(h));
        if (old != known) {
            // (14). Relaxed on failure: then there is a newer one.
            cached_room_.compare_exchange_strong(old, known, std::memory_order_release, std::memory_order_relaxed);
        }
        std::int64_t const end = scale_.end_of(words_.segment(h));
        std::int64_t seen = cached_segment_end_.load(std::memory_order_relaxed);
        while (seen < end &&
               // (11). It only grows.
               !cached_segment_end_.compare_exchange_weak(seen, end, std::memory_order_release,
                                                          std::memory_order_relaxed)) {
        }
    }

    /// Makes head open at segment `want` or later, or finishes what stands in the way. Returns `want`, at most the last
    /// segment that can be counted to: there the counter stands still, and only denies what does not fit.
    [[gnu::__noinline__]] std::uint64_t advance(std::uint64_t want) noexcept {
        want = (std::min)(want, scale_.last());
        for (;;) {
            // (1)
            word h = head_.load(std::memory_order_acquire);
            if (!words_.is_closing(h)) {
                if (words_.segment(h) >= want) return want;
                if (!close(h)) continue;
            }
            help(h, want);
        }
    }

    /// Freezes the count of an open head.
    bool close(word& h) noexcept {
        // Relaxed: what it freezes is in the same word.
        if (!head_.compare_exchange_weak(h, words_.closing(h), std::memory_order_relaxed, std::memory_order_relaxed)) {
            return false;
        }
        h = words_.closing(h);
        return true;
    }

    /// Carries a closing head over: its count to the ring, the sum to closed, and head to the segment that closed
    /// names. Any thread may do it, at any time: each exchange of a helper that is late fails, since every tag changes
    /// once.
    void help(word h, std::uint64_t want) noexcept {
        help(h, (std::max)(want, words_.segment(h) + 1),
             [this](std::uint64_t target) { return this->sum_before(target); });
    }

    /// `sum_before(target)`: what the B segments before `target` hold, h's included; a refund may be missing.
    template <class Sum>
    void help(word h, std::uint64_t target, Sum sum_before) noexcept {
        std::uint64_t const e = words_.segment(h);
        auto& place = this->at(e);
        // Relaxed: another helper's word is the same word, and a thread that sees what this one releases sees it or a
        // newer one (coherence); (1) has shown all that was published before it.
        word w = place.load(std::memory_order_relaxed);
        while (words_.segment(w) < e) {
            // (5). Until the tag is there: a late refund of the old tenant can make an exchange fail, and once is not
            // enough.
            if (place.compare_exchange_weak(w, words_.cell(e, words_.count(h)), std::memory_order_release,
                                            std::memory_order_relaxed)) {
                break;
            }
        }
        // (7), and at the failed exchange: what the winner summed includes refunds, and a thread that sees them through
        // head must see what came before them.
        word c = closed_.load(std::memory_order_acquire);
        while (words_.segment(c) == e) {
            word const sum = words_.cell(target, sum_before(target));
            // (7). The winner decides the target. Acquires nothing where it succeeds: (1) has shown closed at e.
            if (closed_.compare_exchange_weak(c, sum, std::memory_order_release, std::memory_order_acquire)) c = sum;
        }
        if (words_.segment(c) < e) return;  // cannot be, since (1) shows closed at e; then there is nothing to do
        // (6). Relaxed on failure: then it has been done.
        head_.compare_exchange_strong(h, words_.open(words_.segment(c), words_.version(h)), std::memory_order_release,
                                      std::memory_order_relaxed);
    }

    /// k fewer where they were charged. Returns by how many it was.
    template <bool Visible>
    [[gnu::__noinline__]] permits lower(std::uint64_t segment, permits k) noexcept {
        for (;;) {
            // (1): shows the word of every segment before head's as published.
            word h = head_.load(std::memory_order_acquire);
            std::uint64_t const e = words_.segment(h);
            if (e < segment) return 0;  // no receipt of this counter
            if (e == segment && words_.is_closing(h)) {
                help(h, e + 1);
                continue;
            }
            auto& place = e == segment ? head_ : this->at(segment);
            word w = e == segment ? h : place.load(std::memory_order_relaxed);
            if (words_.segment(w) != segment) return 0;  // aged out
            word const less = words_.lowered(w, k);
            if (less == w) return 0;
            // (9)
            if (!place.compare_exchange_weak(w, less, std::memory_order_release, std::memory_order_relaxed)) continue;
            if (Visible && segment < e && segment >= e - this->segments_) note_pending(e, w - less);
            return w - less;
        }
    }

private:
    /// k permits that closed at segment e counts have been given back.
    void note_pending(std::uint64_t e, permits k) noexcept {
        word r = pending_refunds_.load(std::memory_order_relaxed);
        while (words_.segment(r) <= e) {
            permits const before = words_.segment(r) == e ? words_.total(r) : 0;
            // (12)
            if (pending_refunds_.compare_exchange_weak(r, words_.cell(e, before + k), std::memory_order_release,
                                                       std::memory_order_relaxed)) {
                return;
            }
        }
    }
};

}  // namespace weir::inline v0::detail
