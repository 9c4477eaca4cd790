// SPDX-License-Identifier: MIT
//
// A clock that reads the processor's own counter: about a third of steady_clock's cost at nearly its precision.
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>

#if defined(__linux__)
#include <cstdio>
#include <cstring>
#endif

#include "clock.hpp"

namespace weir::inline v0 {

/// The counter that runs at one speed whatever the core does: the invariant time-stamp counter (CPUID 0x80000007, EDX
/// bit 8) on x86-64, CNTVCT_EL0 on AArch64; in nanoseconds, and set to std::chrono::steady_clock's time when it is
/// made. Where there is no such counter, or Linux itself has found that it cannot keep time by it, this is
/// steady_clock, and uses_counter() is false. An object, since it carries its calibration: make one, and let limiters
/// refer to it or hold copies, which agree.
///
/// Resolution: one count of the counter, rounded up to nanoseconds: 1 ns on x86-64, 1 to 52 on AArch64.
/// Cost (AMD EPYC under KVM): tsc_clock 12 ns, ordered_tsc_clock 25 ns, steady_clock 30 ns; no division, no lock.
/// Drift: the construction compares the counter with steady_clock for `calibrate_for`, and may be wrong by error_ppb()
/// parts in 10^9: there 2,500 at the default of 20 ms, of which 480 were seen at worst and 140 on average; a fifth of
/// that at 100 ms. To this comes what steady_clock's own rate is slewed by afterwards (by NTP, at most 500 ppm). The
/// clock is not set again: compare its time points with its own only.
///
/// Never goes back on one thread. tsc_clock's read is not ordered with the instructions around it: it may be taken
/// early, by as much as a core runs ahead (some 100 ns), so that a thread that learns of an event from another may read
/// a time just before it. ordered_tsc_clock waits for the loads before it, so that its time lies between call and
/// return, as steady_clock's does. A machine that has been suspended may have set its counter back: make the clock anew
/// then.
template <bool Ordered>
class basic_tsc_clock {
public:
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<basic_tsc_clock>;
    static constexpr bool is_steady = true;

    /// Takes that long, most of it asleep. Not positive: no calibration, and no counter, but steady_clock.
    explicit basic_tsc_clock(duration calibrate_for = std::chrono::milliseconds{20}) {
        if (calibrate_for <= duration::zero() || !counter_is_invariant()) return;
        pair const first = read_both();
        std::this_thread::sleep_for(calibrate_for);
        pair const last = read_both();
        auto const counts = static_cast<std::int64_t>(last.counter - first.counter);
        auto const span = last.time - first.time;
        // A counter that stands still, or runs below 1 MHz or above 1 THz, is none to keep time by.
        if (counts <= 0 || span <= 0 || counts > span * 1000 || counts < span / 1000) return;
        // Once only, so by long division: span * 2^40 / counts. span is at least 2^-10 of counts and at most 2^10 of
        // it.
        auto const divisor = static_cast<std::uint64_t>(counts);
        std::uint64_t quotient = static_cast<std::uint64_t>(span) / divisor;
        std::uint64_t rest = static_cast<std::uint64_t>(span) % divisor;
        for (unsigned i = 0; i < fraction_bits; ++i) {
            rest <<= 1U;
            quotient = (quotient << 1U) | (rest >= divisor ? 1U : 0U);
            if (rest >= divisor) rest -= divisor;
        }
        scale_ = static_cast<std::int64_t>(quotient);
        origin_counter_ = last.counter;
        origin_time_ = last.time;
        error_ppb_ = static_cast<std::int64_t>(
            static_cast<double>(first.width + last.width) * 0.5e9 / static_cast<double>(counts) + 1);
    }

    time_point now() const noexcept {
        if (scale_ == 0) [[unlikely]]
            return time_point{duration{steady_now()}};
        // Signed: a core whose counter lags by a little reads a little before the origin.
        auto const counts = static_cast<std::int64_t>(read_counter() - origin_counter_);
        return time_point{duration{origin_time_ + scaled(counts)}};
    }

    duration resolution() const noexcept { return duration{scale_ == 0 ? 1 : (scale_ >> fraction_bits) + 1}; }

    /// False where this is steady_clock under another name.
    bool uses_counter() const noexcept { return scale_ != 0; }

    /// By how many parts in 10^9 the calibration may have missed steady_clock's rate at most; 0 without a counter.
    std::int64_t error_ppb() const noexcept { return error_ppb_; }

private:
    static constexpr unsigned fraction_bits = 40;

    static std::int64_t steady_now() noexcept {
        return std::chrono::duration_cast<duration>(std::chrono::steady_clock::now().time_since_epoch()).count();
    }

#if defined(__x86_64__)
    static std::uint64_t read_counter() noexcept {
        if constexpr (Ordered) {
            return read_counter_ordered();
        } else {
            return __builtin_ia32_rdtsc();
        }
    }
    static std::uint64_t read_counter_ordered() noexcept {
        unsigned processor{};
        return __builtin_ia32_rdtscp(&processor);
    }
    static bool counter_is_invariant() noexcept {
        struct registers {
            std::uint32_t a, b, c, d;
        };
        auto const cpuid = [](std::uint32_t leaf) {
            registers r{};
            __asm__("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(0));
            return r;
        };
        if (cpuid(0x8000'0000U).a < 0x8000'0007U) return false;
        bool const has_rdtscp = (cpuid(0x8000'0001U).d >> 27U & 1U) != 0;
        bool const is_invariant = (cpuid(0x8000'0007U).d >> 8U & 1U) != 0;
        return has_rdtscp && is_invariant && system_trusts_counter();
    }
#elif defined(__aarch64__)
    static std::uint64_t read_counter() noexcept {
        if constexpr (Ordered) {
            return read_counter_ordered();
        } else {
            std::uint64_t c{};
            __asm__ volatile("mrs %0, cntvct_el0" : "=r"(c));
            return c;
        }
    }
    static std::uint64_t read_counter_ordered() noexcept {
        std::uint64_t c{};
        __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(c) : : "memory");
        return c;
    }
    static bool counter_is_invariant() noexcept { return system_trusts_counter(); }
#else
    static std::uint64_t read_counter() noexcept { return 0; }
    static std::uint64_t read_counter_ordered() noexcept { return 0; }
    static bool counter_is_invariant() noexcept { return false; }
#endif

    // The counters of a machine's sockets may disagree, which no bit of the processor tells. Linux watches them, and
    // moves to another source when they do. Where it does not say, the processor's word is taken.
    static bool system_trusts_counter() noexcept {
#if defined(__linux__)
        char source[32] = {};
        std::FILE* const f = std::fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "r");
        if (f == nullptr) return true;
        bool const read = std::fgets(source, sizeof source, f) != nullptr;
        std::fclose(f);
        if (!read) return true;
        for (char const* other : {"hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit"}) {
            if (std::strncmp(source, other, std::strlen(other)) == 0) return false;
        }
#endif
        return true;
    }

    // The counter and steady_clock at one instant, as near as can be: of many tries the one in which reading the time
    // took the fewest counts, and the counter's value in its middle. The two differ by at most half of `width`.
    struct pair {
        std::uint64_t counter;
        std::int64_t time;
        std::uint64_t width;
    };
    static pair read_both() noexcept {
        pair best{};
        for (int i = 0; i < 64; ++i) {
            std::uint64_t const before = read_counter_ordered();
            std::int64_t const time = steady_now();
            std::uint64_t const width = read_counter_ordered() - before;
            if (i == 0 || width < best.width) best = {before + width / 2, time, width};
        }
        return best;
    }

    // counts * scale_ / 2^40, without division. 62 bits of counts and 51 of scale_ at most.
    std::int64_t scaled(std::int64_t counts) const noexcept {
#if defined(__SIZEOF_INT128__)
        __extension__ using wide = __int128;
        return static_cast<std::int64_t>((static_cast<wide>(counts) * scale_) >> fraction_bits);
#else
        return counts;  // no counter is read on such targets
#endif
    }

    std::int64_t scale_ = 0;  // nanoseconds per count, times 2^40; 0 without a counter
    std::uint64_t origin_counter_ = 0;
    std::int64_t origin_time_ = 0;
    std::int64_t error_ppb_ = 0;
};

using tsc_clock = basic_tsc_clock<false>;
using ordered_tsc_clock = basic_tsc_clock<true>;

}  // namespace weir::inline v0
