// SPDX-License-Identifier: MIT
//
// Bookings that were cancelled while others were booked behind them. Their place in the queue cannot be given back
// then, since the departures behind it are promised; it can be once everything behind it is cancelled too.
//
// In a token bucket only the bookings that are still ahead are cancelled so, and only where no refund in part has moved
// the TAT below them since (gcra_state.hpp, unordered_below_).
//
// A permit that is booked has an index, ⌊base/unit⌋ of the part (base, base + unit] of the TAT's scale that it takes.
// Those parts are disjoint, so the indices are distinct, and all permits that are booked have indices up to that of the
// TAT, top. A set is (first, count): count cancelled permits, none with an index below first.
//
// Lemma. If count = top − first + 1, then every permit with an index from first to top is cancelled, and is in the set.
// Proof. There are count indices from first to top, and the set's permits take count of them. ∎
//
// The TAT may then fall by count·unit: what is left was booked before all of them. The set that is claimed for it is
// taken out first, by one exchange, so no other thread lowers the TAT for the same permits; when the TAT has moved
// meanwhile, it is put back. While a thread is stopped between the two, its permits stay unused.
//
// There are a few sets, one for each range of indices that the queue spans, so that a permit that departed between
// cancelled ones spoils the set of its range only. Forgetting a set is always safe: its gap stays unused.
//
// Pairs: (1) the exchanges of a set, acquire-release, with each other. Between a cancellation, which adds to a set and
// then reads the TAT, and another, which lowers the TAT and then reads the set, one sees what the other did: both
// access the set by read-modify-writes, of which one is later, and what came before the earlier one is seen after the
// later one.
#pragma once

#include <atomic>
#include <cstdint>

#include "../limiter.hpp"
#include "gcra.hpp"

namespace weir::inline v0::detail {

template <class Atomics>
class cancelled_permits {
public:
    static constexpr std::uint64_t sets = 3;

    struct set {
        std::uint64_t first = 0;  ///< index
        permits count = 0;
    };

    /// How permits worth `unit` are counted: ranges have 2^shift indices, and counts so many bits.
    struct layout {
        unsigned shift;
        unsigned count_bits;
    };
    /// The layout with the shortest ranges of which all but one hold `line` permits, and no shorter than 2^shift.
    static constexpr layout layout_for(std::uint64_t unit, permits line, unsigned shift = 0) noexcept {
        auto const bits = static_cast<unsigned>(__builtin_clzll(gcra::tat_max / unit));
        while (shift + 1 < bits && line >> shift >= sets - 1) ++shift;
        return {shift, bits};
    }

    /// Adds the permits with indices from s.first to s.first + s.count − 1, or those of them that the sets can hold.
    /// `past()` is the index below which none can be cancelled any more: a set that misses one of those is begun again.
    template <class Past>
    constexpr void add(set s, layout l, Past past) noexcept {
        std::uint64_t const end = s.first + s.count;
        std::uint64_t const last = (end - 1) >> l.shift;
        std::uint64_t const held = last < sets ? 0 : (last - (sets - 1)) << l.shift;
        for (std::uint64_t at = s.first > held ? s.first : held; at < end;) {
            std::uint64_t const next = ((at >> l.shift) + 1) << l.shift;
            std::uint64_t const to = next < end ? next : end;
            add_to(words_[(at >> l.shift) % sets], {at, to - at}, l, past);
            at = to;
        }
    }

    /// Takes out the set that is complete up to the index `top`; count is 0 where there is none.
    constexpr set claim(std::uint64_t top, layout l) noexcept {
        auto& word = words_[(top >> l.shift) % sets];
        std::uint64_t seen = word.fetch_add(0, std::memory_order_acq_rel);  // (1)
        while (true) {
            set const s = unpacked(seen, l);
            if (s.count == 0 || s.first > top || s.count != top - s.first + 1) return {};
            if (word.compare_exchange_weak(seen, 0, std::memory_order_acq_rel, std::memory_order_acquire))  // (1)
                return s;
        }
    }

private:
    using word_type = typename Atomics::template atomic<std::uint64_t>;

    static constexpr set unpacked(std::uint64_t w, layout l) noexcept {
        return {w >> l.count_bits, w & ((std::uint64_t{1} << l.count_bits) - 1)};
    }
    /// None where the count has no room.
    static constexpr std::uint64_t packed_set(set s, layout l) noexcept {
        return s.count >> l.count_bits != 0 ? 0 : s.first << l.count_bits | s.count;
    }

    template <class Past>
    static constexpr void add_to(word_type& word, set s, layout l, Past past) noexcept {
        // Relaxed: the exchange says whether it is still so.
        std::uint64_t seen = word.load(std::memory_order_relaxed);
        while (true) {
            set const old = unpacked(seen, l);
            set sum = s;
            if (old.count != 0) {
                if (old.first >> l.shift > s.first >> l.shift) return;  // of a later range: keep that
                if (old.first >> l.shift == s.first >> l.shift) {
                    std::uint64_t const departed = past();
                    if (old.first >= departed || old.count >= departed - old.first)
                        sum = {old.first < s.first ? old.first : s.first, old.count + s.count};
                }
            }
            if (word.compare_exchange_weak(seen, packed_set(sum, l), std::memory_order_acq_rel,
                                           std::memory_order_relaxed)) {  // (1)
                return;
            }
        }
    }

    word_type words_[sets] = {};
};

}  // namespace weir::inline v0::detail
