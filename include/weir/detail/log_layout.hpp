// SPDX-License-Identifier: MIT
//
// The words of a sliding_window_log and each step that one of them can take: pure arithmetic.
//
//     slot     stamp: 60 | unused: 2 | state: 2
//     bound    stamp: 60 | tag: 4
//     hints    slot to look at for the oldest stamp: 32 | slot to look at for the next permit: 32
//
// A stamp is a time in ticks of the clock; the origin of the log is 2^57. In nanoseconds that is 4.5 years back and 32
// forward.
#pragma once

#include <algorithm>
#include <cstdint>

namespace weir::inline v0::detail {

struct log_layout {
    using word = std::uint64_t;

    static constexpr word stamp_bits = 60;
    static constexpr word low_bits = 64 - stamp_bits;
    static constexpr word low_mask = (word{1} << low_bits) - 1;
    /// Greater than every stamp: the key of a slot that is out of use.
    static constexpr word no_stamp = (word{1} << stamp_bits) - 1;
    /// The stamp of a slot that was never taken. A bound below it says that nothing is known.
    static constexpr word never_taken = 1;
    /// The stamp of the origin.
    static constexpr word origin = word{1} << 57U;

    /// What the stamp of a slot means.
    enum state : word {
        held = 0,     ///< the time of a permit that its receipt can give back
        loose = 1,    ///< a time one window before the slot is free; no receipt names it
        frozen = 2,   ///< as loose, and stays frozen when it is taken: the limit is being lowered
        retired = 3,  ///< out of use: the limit is below the capacity; the stamp is kept
    };
    static constexpr word state_mask = 3;

    static constexpr word slot(word stamp, state s) noexcept { return (stamp << low_bits) | s; }
    static constexpr word stamp(word w) noexcept { return w >> low_bits; }
    static constexpr state state_of(word w) noexcept { return static_cast<state>(w & state_mask); }
    /// The stamp of a slot in use; no_stamp for a retired one.
    static constexpr word key(word w) noexcept { return state_of(w) == retired ? no_stamp : stamp(w); }

    /// A slot in use after it is taken at `x`: held, or frozen if it was frozen.
    static constexpr word taken(word w, word x) noexcept { return (x << low_bits) | (w & frozen); }
    /// A slot in use after usage that no receipt names is recorded at `x`.
    static constexpr word booked(word w, word x) noexcept { return slot(x, state_of(w) == frozen ? frozen : loose); }
    static constexpr word with_state(word w, state s) noexcept { return (w & ~state_mask) | s; }
    /// A slot that was taken at `x` and is given back, where its word before is not known: its stamp was at most this.
    static constexpr word given_back(word x, word window) noexcept { return slot(x - window, loose); }

    static constexpr word bound(word stamp) noexcept { return stamp << low_bits; }
    static constexpr word raised(word b, word stamp) noexcept { return (stamp << low_bits) | (b & low_mask); }
    /// The tag changes each time, so that a scan which began before cannot publish a bound that is no longer true.
    static constexpr word lowered(word b, word to, word tags = low_mask) noexcept {
        return ((std::min)(stamp(b), to) << low_bits) | ((b + 1) & tags);
    }

    static constexpr word hints(std::uint32_t next, std::uint32_t oldest) noexcept {
        return word{oldest} << 32U | next;
    }
    static constexpr std::uint32_t next_hint(word h) noexcept { return static_cast<std::uint32_t>(h); }
    static constexpr std::uint32_t oldest_hint(word h) noexcept { return static_cast<std::uint32_t>(h >> 32U); }
};

/// What a permit needs to be given back: its slot, and the slot's word with the permit and before it. Where several
/// permits were taken at once: the lowest slot, no word before (0), and how many permits can be given back.
struct log_receipt {
    std::uint64_t after = 0;
    std::uint64_t before = 0;
    std::uint32_t slot = 0;
    std::uint32_t live = 0;
};

}  // namespace weir::inline v0::detail
