// SPDX-License-Identifier: MIT
//
// running_quantile: a quantile of what was seen lately, for bounds that are learnt: a histogram in buckets an eighth of
// an octave wide (as HdrHistogram's with three bits), halved now and then, so that the past is forgotten by and by.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "../atomics.hpp"
#include "saturating.hpp"

namespace weir::inline v0::llm {

/// Shared by all threads; every write is one relaxed read-modify-write. What is read while others write is of about
/// that moment: statistics, not a limit. Values above 2^40 count as that. 1.3 KiB.
template <class Atomics = std_atomics>
class running_quantile {
public:
    /// So many observations, and all counts are halved: half of what a quantile is made of is younger than that. What
    /// was seen once is forgotten with the second time.
    static constexpr std::uint32_t memory = 2048;

    void add(std::uint64_t x) noexcept {
        // Relaxed: counts, each for itself.
        counts_[bucket_of(x)].fetch_add(one, std::memory_order_relaxed);
        std::uint32_t const before = total_.fetch_add(one, std::memory_order_relaxed);
        if (before < one * memory && before + one >= one * memory) forget();
    }

    /// Observations that count, after halving.
    std::uint32_t size() const noexcept { return total_.load(std::memory_order_relaxed) / one; }

    /// The least bucket's upper end that at least numerator/denominator of the observations do not exceed: above the
    /// exact quantile by less than an eighth of it. 0 where nothing was seen. O(number of buckets).
    std::uint64_t at(std::uint32_t numerator, std::uint32_t denominator) const noexcept {
        std::uint64_t sum = 0;
        for (auto const& c : counts_) sum += c.load(std::memory_order_relaxed);
        std::uint64_t const needed = (sum * numerator + denominator - 1) / denominator;
        std::uint64_t seen = 0;
        std::uint64_t last = 0;
        for (std::size_t i = 0; i < buckets; ++i) {
            std::uint32_t const n = counts_[i].load(std::memory_order_relaxed);
            if (n == 0) continue;
            seen += n;
            last = upper_end(i);
            if (seen >= needed) break;
        }
        return last;
    }

    static constexpr std::size_t bucket_of(std::uint64_t x) noexcept {
        if (x > greatest) x = greatest;
        if (x < 16) return weir::detail::to<std::size_t>(x);
        auto const shift = static_cast<unsigned>(std::bit_width(x)) - 4U;
        return shift * 8U + weir::detail::to<std::size_t>(x >> shift);
    }
    static constexpr std::uint64_t upper_end(std::size_t bucket) noexcept {
        if (bucket < 16) return bucket;
        auto const shift = weir::detail::to<unsigned>(bucket / 8 - 1);
        return ((std::uint64_t{bucket % 8 + 9}) << shift) - 1;
    }

private:
    static constexpr std::uint64_t greatest = std::uint64_t{1} << 40U;
    static constexpr std::size_t buckets = 38 * 8 + 8;
    static_assert(bucket_of(greatest) < buckets);
    static constexpr std::uint32_t one = 2;  // an observation: it can be halved once and still count

    void forget() noexcept {
        std::uint32_t gone = 0;
        for (auto& c : counts_) {
            std::uint32_t n = c.load(std::memory_order_relaxed);
            while (n != 0 && !c.compare_exchange_weak(n, n / 2, std::memory_order_relaxed, std::memory_order_relaxed)) {
            }
            gone += n - n / 2;
        }
        total_.fetch_sub(gone, std::memory_order_relaxed);
    }

    typename Atomics::template atomic<std::uint32_t> counts_[buckets]{};
    typename Atomics::template atomic<std::uint32_t> total_{0};
};

}  // namespace weir::inline v0::llm
