// SPDX-License-Identifier: MIT
//
// The words of a set of keyed_buckets: head, base and slots. Pure; the protocol is keyed_set.hpp.
//
//     head   kind: 2 | slot: 4 | fingerprint: 27 | version: 31
//     base   gap: 2 | epoch: 26 | floor: 36
//     slot   fingerprint: 27 | stained: 1 | TAT: 36
//     empty  fingerprint 0, and instead of the TAT: ticket: 1 | number: 35
#pragma once

#include <cstdint>

#include "cpp20.hpp"

namespace weir::inline v0::detail {

/// Time is in ticks from the start of epoch 0. An epoch has 2^EpochBits ticks. A word holds a time modulo four epochs;
/// under epoch e it lies in the epochs e - 1 to e + 2.
template <unsigned EpochBits = 34, unsigned Ways = 14>
struct keyed_layout {
    static_assert(EpochBits <= 34 && Ways >= 1 && Ways <= 16);
    using word = std::uint64_t;
    using ticks = std::uint64_t;

    static constexpr unsigned ways = Ways;
    static constexpr ticks epoch_ticks = ticks{1} << EpochBits;
    static constexpr unsigned fingerprint_bits = 27;

    static constexpr ticks start_of(word epoch) noexcept { return epoch << EpochBits; }
    static constexpr word epoch_of(ticks t) noexcept { return t >> EpochBits; }

    // ---- head: which insert is under way ----

    enum class kind : std::uint8_t {
        none,
        insert,  ///< over a bucket that has refilled
        forced,  ///< over one that has not: its debt is forgotten
    };

    static constexpr kind kind_of(word head) noexcept { return static_cast<kind>(head >> 62U); }
    static constexpr bool announces(word head) noexcept { return head >> 62U != 0; }
    static constexpr unsigned slot_of(word head) noexcept { return static_cast<unsigned>((head >> 58U) & 15U); }
    static constexpr word announced(word head) noexcept { return (head >> 31U) & fingerprint_mask; }
    static constexpr word version_of(word head) noexcept { return head & version_mask; }
    /// The next version, with this announcement.
    static constexpr word announce(word head, kind k, unsigned slot, word fingerprint) noexcept {
        return word{static_cast<std::uint8_t>(k)} << 62U | word{slot} << 58U | fingerprint << 31U | next(head);
    }
    /// The same version without an announcement, and the next one.
    static constexpr word idle(word head) noexcept { return version_of(head); }
    static constexpr word next(word head) noexcept { return (head + 1) & version_mask; }

    // ---- base: the epoch, and the latest TAT that was evicted ----

    static constexpr word base(word epoch, ticks floor) noexcept { return epoch << 36U | (floor & time_mask); }
    static constexpr word first_base = base(1, start_of(1));
    static constexpr word epoch_in(word base) noexcept { return (base >> 36U) & epoch_mask; }
    /// How many epochs the set is being moved on: 0 for none, 3 for three or more.
    static constexpr word gap_of(word base) noexcept { return base >> 62U; }
    static constexpr ticks floor_of(word base) noexcept { return time_of(base, epoch_in(base)); }
    static constexpr word with_floor(word b, ticks floor) noexcept { return (b & ~field_mask) | (floor & time_mask); }
    /// On its way to `epoch`. Every time before that epoch counts as its start.
    static constexpr word moving(word b, word epoch) noexcept {
        word const gap = epoch - epoch_in(b);
        ticks const floor = floor_of(b);
        return (gap < 3 ? gap : 3) << 62U | base(epoch, floor < start_of(epoch) ? start_of(epoch) : floor);
    }
    static constexpr word moved(word b) noexcept { return b & ~(word{3} << 62U); }
    /// What slots are read by: the epoch, and that before the move.
    static constexpr bool same_epoch(word a, word b) noexcept { return ((a ^ b) & ~field_mask) == 0; }

    // ---- slots ----

    static constexpr word fingerprint_of(word slot) noexcept { return slot >> 37U; }
    static constexpr bool is_empty(word slot) noexcept { return fingerprint_of(slot) == 0; }
    static constexpr bool is_stained(word slot) noexcept { return (slot & stain) != 0; }
    static constexpr ticks tat_of(word slot, word epoch) noexcept { return time_of(slot, epoch); }
    static constexpr word filled(word fingerprint, word stain_of, ticks tat) noexcept {
        return fingerprint << 37U | (stain_of & stain) | (tat & time_mask);
    }
    static constexpr word with_tat(word slot, ticks tat) noexcept { return (slot & ~field_mask) | (tat & time_mask); }
    static constexpr word lowered(word slot, ticks by) noexcept { return with_tat(slot, (slot & field_mask) - by); }

    /// Empty since the set moved to that epoch.
    static constexpr word emptied(word epoch, bool stained) noexcept { return epoch | (stained ? stain : 0); }
    /// Empty by the owner of that version of head.
    static constexpr word erased(word slot, word version, bool stained) noexcept {
        return (slot & stain) | (stained ? stain : 0) | ticket | version;
    }

    /// What becomes of a slot when its set moves as `b` says: a bucket with debt in the new epoch stays, all else is
    /// emptied. A stain is kept while an undo may know a TAT that a new bucket can still have.
    static constexpr word moved_slot(word slot, word b) noexcept {
        word const to = epoch_in(b);
        word const gap = gap_of(b);
        if (is_empty(slot)) {
            if (slot == emptied(to, false) || slot == emptied(to, true)) return slot;
            return emptied(to, gap == 1 && is_stained(slot) && (slot & ticket) != 0);
        }
        if (gap < 3 && tat_of(slot, to - gap) >= start_of(to)) return slot;
        return emptied(to, gap == 1 && is_stained(slot));
    }

private:
    static constexpr word fingerprint_mask = (word{1} << fingerprint_bits) - 1;
    static constexpr word version_mask = (word{1} << 31U) - 1;
    static constexpr word epoch_mask = (word{1} << 26U) - 1;
    static constexpr word field_mask = (word{1} << 36U) - 1;
    static constexpr word time_mask = (word{1} << (EpochBits + 2)) - 1;
    static constexpr word stain = word{1} << 36U;
    static constexpr word ticket = word{1} << 35U;

    static constexpr ticks time_of(word w, word epoch) noexcept {
        ticks const first = start_of(epoch - 1);
        return first + ((w - first) & time_mask);
    }
};

/// A plan in one word: interval: 34 | burst: 30, both in ticks and permits. 0: not set.
struct keyed_plan_word {
    static constexpr std::uint64_t most_burst = (std::uint64_t{1} << 30U) - 1;
    static constexpr std::uint64_t most_interval = std::uint64_t{1} << 34U;

    static constexpr keyed_plan_word of(std::uint64_t interval, std::uint64_t burst) noexcept {
        return {(interval - 1) << 30U | burst};
    }
    constexpr std::uint64_t interval() const noexcept { return (bits >> 30U) + 1; }
    constexpr std::uint64_t burst() const noexcept { return bits & most_burst; }
    constexpr bool is_set() const noexcept { return bits != 0; }

    std::uint64_t bits = 0;
};

}  // namespace weir::inline v0::detail
