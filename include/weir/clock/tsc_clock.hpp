// SPDX-License-Identifier: MIT
//
// A clock that reads the processor's own counter: about a third of steady_clock's cost at nearly its precision.
#pragma once

#include <chrono>
#include <cstdint>

#include "../detail/processor_counter.hpp"
#include "clock.hpp"

namespace weir::inline v0 {

/// The processor's constant-rate counter (detail/processor_counter.hpp) in nanoseconds, set to steady_clock's time at
/// construction. Where there is no such counter, or Linux has found it unreliable, this is steady_clock, and
/// uses_counter() is false. The object carries its calibration: construct one, and give limiters copies or
/// std::ref(clock); copies agree.
///
/// - Resolution: one count of the counter, rounded up to nanoseconds: 1 ns on x86-64, 1 to 52 ns on AArch64.
/// - Cost (AMD EPYC under KVM): tsc_clock 12 ns, ordered_tsc_clock 25 ns, steady_clock 30 ns; no division, no lock.
/// - Drift: the constructor compares the counter with steady_clock for `calibrate_for`. The rate found may be wrong by
///   error_ppb() parts in 10^9: here 2,500 at the default of 20 ms (480 seen at worst, 140 on average), a fifth of that
///   at 100 ms. steady_clock itself is slewed later (by NTP, at most 500 ppm). The clock is never set again, so compare
///   its time points only with its own.
/// - Order: time never goes back on one thread. tsc_clock's read is not ordered with the instructions around it, and
///   may be early by as much as a core runs ahead (about 100 ns): a thread that learns of an event from another thread
///   may read a time just before it. ordered_tsc_clock waits for the loads before it, so that its time lies between
///   call and return, as steady_clock's does.
/// - Suspend: it may set the counter back. Construct a new clock after a resume.
template <bool Ordered>
class basic_tsc_clock {
public:
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<basic_tsc_clock>;
    static constexpr bool is_steady = true;

    /// Takes `calibrate_for`, most of it asleep. If it is not positive, the clock is steady_clock.
    explicit basic_tsc_clock(any_duration<duration> calibrate_for = std::chrono::milliseconds{20})
        : calibrated_{counter::calibrate(calibrate_for)} {}

    time_point now() const noexcept {
        if (calibrated_.scale == 0) [[unlikely]]
            return time_point{duration{counter::steady_now()}};
        // Signed: a core whose counter lags by a little reads a little before the origin.
        auto const counts = static_cast<std::int64_t>(read_counter() - calibrated_.origin_counter);
        return time_point{duration{calibrated_.origin_time + scaled(counts)}};
    }

    duration resolution() const noexcept {
        return duration{calibrated_.scale == 0 ? 1 : (calibrated_.scale >> detail::calibration::fraction_bits) + 1};
    }

    /// False where the clock reads steady_clock.
    bool uses_counter() const noexcept { return calibrated_.scale != 0; }

    /// The largest possible error of the calibrated rate against steady_clock's, in parts in 10^9. 0 without a counter.
    std::int64_t error_ppb() const noexcept { return calibrated_.error_ppb; }

private:
    using counter = detail::processor_counter;

    static std::uint64_t read_counter() noexcept { return Ordered ? counter::read_ordered() : counter::read(); }

    // counts * scale / 2^40, without division: at most 62 bits of counts and 51 of scale.
    std::int64_t scaled(std::int64_t counts) const noexcept {
#if defined(__SIZEOF_INT128__)
        __extension__ using wide = __int128;
        return static_cast<std::int64_t>((static_cast<wide>(counts) * calibrated_.scale) >>
                                         detail::calibration::fraction_bits);
#else
        return counts;  // no counter is read on such targets
#endif
    }

    detail::calibration calibrated_;
};

using tsc_clock = basic_tsc_clock<false>;
using ordered_tsc_clock = basic_tsc_clock<true>;

}  // namespace weir::inline v0
