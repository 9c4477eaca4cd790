// SPDX-License-Identifier: MIT
//
// The processor's own counter that runs at one speed whatever the core does, and how it compares with steady_clock:
// the invariant time-stamp counter (CPUID 0x80000007, EDX bit 8) on x86-64, CNTVCT_EL0 on AArch64.
#pragma once

#include <chrono>
#include <cstdint>
#include <thread>

#if defined(__linux__)
#include <cstdio>
#include <cstring>
#endif

#include "wide.hpp"

namespace weir::inline v0::detail {

/// How a counter compares with steady_clock, as measured.
struct calibration {
    static constexpr unsigned fraction_bits = 40;

    std::int64_t scale =
        0;  ///< nanoseconds per count, times 2^40, between 2^30 and 2^50; 0 where there is no such counter
    std::uint64_t origin_counter = 0;
    std::int64_t origin_time = 0;
    std::int64_t error_ppb = 0;  ///< by how many parts in 10^9 `scale` may have missed at most
};

struct processor_counter {
    /// Not ordered with the instructions around it: it may be read early, by as much as a core runs ahead.
    static std::uint64_t read() noexcept {
#if defined(__x86_64__)
        return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
        std::uint64_t c{};
        __asm__ volatile("mrs %0, cntvct_el0" : "=r"(c));
        return c;
#else
        return 0;
#endif
    }

    /// After the loads before it.
    static std::uint64_t read_ordered() noexcept {
#if defined(__x86_64__)
        unsigned processor{};
        return __builtin_ia32_rdtscp(&processor);
#elif defined(__aarch64__)
        std::uint64_t c{};
        __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(c) : : "memory");
        return c;
#else
        return 0;
#endif
    }

    /// Whether time can be kept by it: it is there, runs at one speed, and Linux has not found that it does not.
    static bool is_trusted() noexcept {
#if defined(__x86_64__)
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
        return has_rdtscp && is_invariant && system_trusts_it();
#elif defined(__aarch64__)
        return system_trusts_it();
#else
        return false;
#endif
    }

    /// Compares it with steady_clock for that long, most of it asleep. Not positive: no calibration.
    static calibration calibrate(std::chrono::nanoseconds length) {
        if (length <= std::chrono::nanoseconds::zero() || !is_trusted()) return {};
        pair const first = read_both();
        std::this_thread::sleep_for(length);
        pair const last = read_both();
        auto const counts = static_cast<std::int64_t>(last.counter - first.counter);
        auto const span = last.time - first.time;
        // A counter that does not move, or runs below 1 MHz or above 1 THz, cannot keep time.
        if (counts <= 0 || span <= 0 || counts > span * 1000 || counts < span / 1000) return {};
        constexpr std::uint64_t one = std::uint64_t{1} << calibration::fraction_bits;
        auto const divisor = static_cast<std::uint64_t>(counts);
        std::uint64_t const error = mul_div_floor(first.width + last.width, 500'000'000, divisor) + 1;
        return {static_cast<std::int64_t>(mul_div_floor(static_cast<std::uint64_t>(span), one, divisor)), last.counter,
                last.time, static_cast<std::int64_t>(error)};
    }

    static std::int64_t steady_now() noexcept {
        auto const t = std::chrono::steady_clock::now().time_since_epoch();
        return std::chrono::duration_cast<std::chrono::nanoseconds>(t).count();
    }

private:
    // The counters of a machine's sockets may disagree, which no bit of the processor tells. Linux watches them, and
    // moves to another source when they do. Where it does not say, the processor's word is taken.
    static bool system_trusts_it() noexcept {
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
            std::uint64_t const before = read_ordered();
            std::int64_t const time = steady_now();
            std::uint64_t const width = read_ordered() - before;
            if (i == 0 || width < best.width) best = {before + width / 2, time, width};
        }
        return best;
    }
};

}  // namespace weir::inline v0::detail
