// SPDX-License-Identifier: MIT
//
// The parts of gcra_state's word, what an attempt on it did and saw, and what undoing it needs.
#pragma once

#include <cstdint>

#include "../limiter.hpp"
#include "gcra.hpp"

namespace weir::inline v0::detail {

/// 63..62 configuration   61..60 epoch   59..0 TAT
struct gcra_word {
    static constexpr unsigned tat_bits = gcra::tat_bits;
    static constexpr std::uint64_t tat_max = gcra::tat_max;
    static constexpr std::uint64_t epoch_mask = std::uint64_t{3} << tat_bits;
    static constexpr unsigned version_shift = 62;

    static constexpr std::uint64_t tat_of(std::uint64_t word) noexcept { return word & tat_max; }
    static constexpr std::uint64_t with_tat(std::uint64_t word, std::uint64_t tat) noexcept {
        return (word & ~tat_max) | tat;
    }
    static constexpr unsigned epoch_of(std::uint64_t word) noexcept {
        return static_cast<unsigned>((word & epoch_mask) >> tat_bits);
    }
    static constexpr std::uint64_t with_epoch(std::uint64_t word, unsigned epoch) noexcept {
        return (word & ~epoch_mask) | std::uint64_t{epoch} << tat_bits;
    }
};

/// What undoing a charge needs.
struct gcra_receipt {
    std::uint64_t before = 0;   ///< the word that it replaced; under a changed configuration see undone()
    std::uint64_t after = 0;    ///< the word that replaced it
    std::uint64_t version = 0;  ///< full number of the configuration it was made under

    /// The TAT without the charge, where it was the last, and `live` of its permits are left. Under a changed
    /// configuration the receipt has no room for the TAT before, and for times before the charge the undone one stays:
    /// `before` is 1 where the charge raised the TAT from ⌊ρt⌋ or less to ⌈ρt⌉ = ⌊ρt⌋ + 1, else 0.
    constexpr std::uint64_t undone(permits live, std::uint64_t unit) const noexcept {
        return version == 0 ? before & gcra::tat_max : (after & gcra::tat_max) - live * unit - before;
    }
};

/// What an attempt did and saw: plain words, so that what is kept of it is written once and nothing is copied
/// through memory. Its answers follow from the words and the configuration. A changed configuration may be
/// replaced, so under one the attempt computes them.
///
///                    n           before             after
///     version 0      asked for   the word it saw    the word it left; of a check, would leave
///     else, granted  remaining   tick of full_at    the word it left
///     else, denied   full_at     tick of retry_at   remaining
struct gcra_attempt {
    std::uint64_t n;
    std::uint64_t before;
    std::uint64_t after;
    std::uint64_t flags;        ///< and the version
    std::uint64_t departs = 0;  ///< from a queue, under a changed configuration

    static constexpr std::uint64_t granted = 1;
    static constexpr std::uint64_t never = 2;     ///< n is above the burst
    static constexpr std::uint64_t negative = 4;  ///< n is no number of permits
    static constexpr std::uint64_t approx = 8;    ///< not made at a time of the clock
    static constexpr std::uint64_t raised = 16;   ///< under a changed configuration: see undone()
    static constexpr unsigned version_shift = 5;

    static constexpr std::uint64_t too_many(permits asked_for) noexcept {
        return asked_for == permit_count::invalid_value ? never | negative : never;
    }
    constexpr bool is_granted() const noexcept { return (flags & granted) != 0; }
    constexpr std::uint64_t version() const noexcept { return flags >> version_shift; }
};

/// The atomics of a limiter whose limits never change. It has no room for others.
template <class Atomics>
struct fixed_limits : Atomics {
    static constexpr bool limits_are_fixed = true;
};

}  // namespace weir::inline v0::detail
