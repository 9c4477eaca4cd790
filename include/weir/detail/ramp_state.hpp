// SPDX-License-Identifier: MIT
//
// What a ramp counts and learns, by segments of an eighth of an interval: a ring of counts, the allowance A of the open
// segment, and `first` and `growth`. It reads no clock; ramp.hpp gives it one and spaces the grants.
//
// Memory order: relaxed throughout, since each word is used on its own. A count that is added late makes A smaller.
//
// Why it is not refused. Grants are spaced by d = (interval + slack + jitter)/A, and may catch up by at most `slack`.
// So n requests that arrive within an interval satisfy (n − 1)·d < interval + slack + jitter, that is n ≤ ⌈A⌉. A is
// max(first, growth × mean). The mean is taken over closed segments of an eighth of an interval, without those that
// leave the server's memory before an interval has passed. So whenever the server looks, its memory contains everything
// that A was derived from, and its mean is at least ours. If `first` and `growth` are at most the server's, what
// remains is the rounding up of A, less than one request. A count that a slow thread adds late makes A smaller.
//
// What it costs. The segments left out are 9 of 8·memory, and the slack is a sixteenth: of a server's growth g it uses
// about 0.83·g (memory 10), so it needs a g above 1.2 to climb at all. docs/adaptive.md compares it with the ideal.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "../limiter.hpp"

namespace weir::inline v0::detail {

template <class Atomics>
class ramp_state {
public:
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t per_interval = 8;  // segments
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t permit =
        256;                                             // permits per interval are kept in 256ths
    static constexpr std::uint64_t first_mask = 0xffff;  // 50,000 at most

    ramp_state(std::uint32_t first, std::uint32_t max_first, std::uint32_t growth, std::uint32_t max_growth,
               std::uint32_t memory) noexcept
        : memory_{memory},
          max_first_{max_first},
          max_growth_{to_growth(max_growth)},
          learned_{pack_learned({first * permit, to_growth(growth), 0, false, false})} {
        plan_.fetch_add(first * permit, std::memory_order_relaxed);
    }

    /// A in 256ths, for a segment: what was published for it or for a later one, else computed.
    std::uint64_t allowance(std::uint64_t segment) const noexcept {
        std::uint64_t const p = plan_.load(std::memory_order_relaxed);
        return p >> count_bits < segment ? computed(segment) : p & count_mask;
    }
    /// Whether an allowance is no more than `first`.
    bool from_rest(std::uint64_t allowed) const noexcept {
        return allowed <= unpack_learned(learned_.load(std::memory_order_relaxed)).first;
    }

    /// The first grant of a segment fixes A for the segment, and learns from the interval that has passed.
    void publish(std::uint64_t segment) noexcept {
        std::uint64_t p = plan_.load(std::memory_order_relaxed);
        while (p >> count_bits < segment) {
            if (plan_.compare_exchange_weak(p, segment << count_bits | computed(segment), std::memory_order_relaxed,
                                            std::memory_order_relaxed)) {
                std::uint64_t const before = p >> count_bits;
                if (before / per_interval < segment / per_interval && segment - before <= 2 * per_interval)
                    learn_up(before, segment, p & count_mask);
                return;
            }
        }
    }

    void count(std::uint64_t segment, permits n) noexcept {
        auto& slot = ring_[segment % ring_size];
        std::uint64_t w = slot.load(std::memory_order_relaxed);
        for (;;) {
            if (w >> count_bits > segment) return;  // the ring has moved on
            std::uint64_t const old = w >> count_bits == segment ? w & count_mask : 0;
            std::uint64_t const next = segment << count_bits | (std::min)(old + n, count_mask);
            if (slot.compare_exchange_weak(w, next, std::memory_order_relaxed, std::memory_order_relaxed)) return;
        }
    }
    void uncount(std::uint64_t segment, permits n) noexcept {
        auto& slot = ring_[segment % ring_size];
        std::uint64_t w = slot.load(std::memory_order_relaxed);
        while (w >> count_bits == segment) {
            std::uint64_t const next = w - (std::min)(w & count_mask, n);
            if (slot.compare_exchange_weak(w, next, std::memory_order_relaxed, std::memory_order_relaxed)) return;
        }
    }

    /// Burst protection refused a grant, as a thread learns in segment `at`: lowers what was in force by a quarter,
    /// once an interval.
    void cut(std::uint64_t at, bool from_rest) noexcept {
        std::uint64_t seen = learned_.load(std::memory_order_relaxed);
        for (;;) {
            facts f = unpack_learned(seen);
            if ((f.first_cut || f.growth_cut) && since(at, f.cut) < per_interval) return;
            if (from_rest) {
                f.first = (std::max)(f.first - f.first / 4, permit);
                f.first_cut = true;
            } else {
                f.growth = (std::max)(one + (f.growth - one) * 3 / 4, min_growth);
                f.growth_cut = true;
            }
            f.cut = at & cut_mask;
            if (learned_.compare_exchange_weak(seen, pack_learned(f), std::memory_order_relaxed,
                                               std::memory_order_relaxed))
                return;
        }
    }

    /// Puts `first` and `growth`, in per cent, in place of what was learned.
    void set(permits first, std::uint32_t growth) noexcept {
        std::uint64_t seen = learned_.load(std::memory_order_relaxed);
        while (first != first_of(seen) || growth != growth_of(seen)) {
            facts const f{detail::to<std::uint32_t>(first & first_mask) * permit, to_growth(growth), 0, false, false};
            if (learned_.compare_exchange_weak(seen, pack_learned(f), std::memory_order_relaxed,
                                               std::memory_order_relaxed))
                break;
        }
    }
    /// What was learned, in one word.
    std::uint64_t learned() const noexcept { return learned_.load(std::memory_order_relaxed); }
    static constexpr permits first_of(std::uint64_t learned) noexcept { return unpack_learned(learned).first / permit; }
    /// In per cent, rounded to the nearest, so that what was set is what is read.
    static constexpr std::uint32_t growth_of(std::uint64_t learned) noexcept {
        return (unpack_learned(learned).growth * 100 + one / 2) / one;
    }

private:
    static constexpr std::size_t ring_size = 128;  // a power of 2 above per_interval·15
    static constexpr unsigned count_bits = 30;     // the other 34 number an eighth of a second for 68 years
    [[gnu::__visibility__("hidden")]] static constexpr std::uint64_t count_mask = (std::uint64_t{1} << count_bits) - 1;
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t one = 1024;  // growth in 1024ths
    [[gnu::__visibility__("hidden")]] static constexpr std::uint32_t min_growth = one + one / 4;
    static constexpr std::uint64_t cut_mask = (std::uint64_t{1} << 22U) - 1;

    static constexpr std::uint32_t to_growth(std::uint32_t percent) noexcept { return percent * one / 100; }

    /// What was learned, in one word: 24 bits of first, 16 of growth, 22 of the segment of the last cut, 1 + 1 for
    /// whether there was one.
    struct facts {
        std::uint32_t first;
        std::uint32_t growth;
        std::uint64_t cut;
        bool first_cut;
        bool growth_cut;
    };
    static constexpr std::uint64_t pack_learned(facts f) noexcept {
        return std::uint64_t{f.first} << 40U | std::uint64_t{f.growth} << 24U | f.cut << 2U | (f.first_cut ? 2U : 0U) |
               (f.growth_cut ? 1U : 0U);
    }
    static constexpr facts unpack_learned(std::uint64_t w) noexcept {
        return {static_cast<std::uint32_t>(w >> 40U), static_cast<std::uint32_t>(w >> 24U & 0xffffU),
                w >> 2U & cut_mask, (w & 2U) != 0, (w & 1U) != 0};
    }
    static constexpr std::uint64_t since(std::uint64_t segment, std::uint64_t cut) noexcept {
        return (segment - cut) & cut_mask;
    }

    /// The count of the segments in [from, until). Counts that are added late are missed, which errs on the safe side.
    std::uint64_t counted(std::uint64_t from, std::uint64_t until) const noexcept {
        std::uint64_t sum = 0;
        for (std::uint64_t s = from; s < until; ++s) {
            std::uint64_t const w = ring_[s % ring_size].load(std::memory_order_relaxed);
            if (w >> count_bits == s) sum += w & count_mask;
        }
        return sum;
    }

    std::uint64_t computed(std::uint64_t segment) const noexcept {
        std::uint64_t const kept = std::uint64_t{per_interval} * memory_ - per_interval - 1;
        std::uint64_t const sum = counted(segment > kept ? segment - kept : 0, segment);
        facts const f = unpack_learned(learned_.load(std::memory_order_relaxed));
        // sum < 2^37, growth < 2^16.
        std::uint64_t const grown = sum * f.growth / memory_ * permit / one;
        return (std::min<std::uint64_t>)((std::max<std::uint64_t>)(f.first, grown), count_mask);
    }

    /// An interval has passed, in which `allowed` was in force at the last grant. If that was used up, and nothing was
    /// refused for as long as the server remembers, more may be allowed: an eighth before the first refusal, a 128th
    /// after it.
    void learn_up(std::uint64_t before, std::uint64_t segment, std::uint64_t allowed) noexcept {
        if (segment < per_interval) return;
        if (counted((std::min)(before, segment - per_interval), segment) * permit * 8 < allowed * 6) return;
        std::uint64_t seen = learned_.load(std::memory_order_relaxed);
        for (;;) {
            facts f = unpack_learned(seen);
            bool const cut = f.first_cut || f.growth_cut;
            if (cut && since(segment, f.cut) < std::uint64_t{per_interval} * memory_) return;
            if (allowed <= f.first) {
                f.first = (std::min)(f.first + f.first / (f.first_cut ? 128 : 8) + 1, max_first_ * permit);
            } else {
                f.growth = (std::min)(f.growth + (f.growth - one) / (f.growth_cut ? 128 : 8) + 1, max_growth_);
            }
            std::uint64_t const next = pack_learned(f);
            if (next == seen) return;
            if (learned_.compare_exchange_weak(seen, next, std::memory_order_relaxed, std::memory_order_relaxed))
                return;
        }
    }

    std::uint32_t memory_;
    std::uint32_t max_first_;
    std::uint32_t max_growth_;
    typename Atomics::template atomic<std::uint64_t> plan_{0};  // segment and A
    typename Atomics::template atomic<std::uint64_t> learned_;
    typename Atomics::template atomic<std::uint64_t> ring_[ring_size]{};  // segment and count
};

}  // namespace weir::inline v0::detail
