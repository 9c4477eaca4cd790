// SPDX-License-Identifier: MIT
//
// An exact rate: so many permits per duration, both integers.
#pragma once

#include <chrono>
#include <cstdint>

#include "error.hpp"
#include "limiter.hpp"

namespace weir::inline v0 {

/// `count` permits per `period`, exactly. The period is kept as a ratio of seconds, so that "1 per day" and
/// "10^9 + 7 per second" lose nothing to a unit. A rate of zero, a period that is not positive and a count that has no
/// room in 63 bits are errors. Nothing converts to a rate: permits alone are none.
class rate {
public:
    template <class Rep, class Period>
        requires std::is_integral_v<Rep>
    constexpr rate(permit_count count, std::chrono::duration<Rep, Period> period)
        : count_{count}, ticks_{static_cast<std::int64_t>(period.count())}, num_{Period::num}, den_{Period::den} {
        detail::ensure(validate(count, period));
    }

    template <class Rep, class Period>
        requires std::is_integral_v<Rep>
    static constexpr error validate(permit_count count, std::chrono::duration<Rep, Period> period) noexcept {
        if (count.invalid()) return {"a rate's count must be at least 1 (got a negative number)"};
        if (count == 0U) return {"a rate's count must be at least 1 (got 0)"};
        if (count >> 63U) return {"a rate's count must be below 2^63"};
        if (period.count() <= 0) return {"a rate's period must be positive"};
        return {};
    }

    template <class Rep, class Period>
        requires std::is_integral_v<Rep>
    static constexpr result<rate> make(permit_count count, std::chrono::duration<Rep, Period> period) {
        if (auto e = validate(count, period)) return e;
        return result<rate>{std::in_place, count, period};
    }

    constexpr permits count() const noexcept { return count_; }

    /// The same rate as a reduced fraction of permits per tick of `Duration`: `permits` per `ticks`. Both zero where
    /// the fraction does not fit 63 bits.
    struct fraction {
        std::uint64_t permits;
        std::uint64_t ticks;
    };
    template <class Duration>
    constexpr fraction per() const noexcept {
        // One period is ticks_ * num_/den_ seconds; one tick of Duration is period::num/period::den seconds. Each
        // factor above the line is reduced with each one below, so that a product overflows only where the fraction
        // does not fit.
        std::uint64_t above[3] = {count_, static_cast<std::uint64_t>(den_),
                                  static_cast<std::uint64_t>(Duration::period::num)};
        std::uint64_t below[3] = {static_cast<std::uint64_t>(ticks_), static_cast<std::uint64_t>(num_),
                                  static_cast<std::uint64_t>(Duration::period::den)};
        for (std::uint64_t& a : above) {
            for (std::uint64_t& b : below) reduce(a, b);
        }
        std::uint64_t p = above[0];
        std::uint64_t q = below[0];
        for (int i = 1; i < 3; ++i) {
            if (__builtin_mul_overflow(p, above[i], &p) || __builtin_mul_overflow(q, below[i], &q)) return {0, 0};
        }
        if ((p | q) >> 63U) return {0, 0};
        return {p, q};
    }

    /// Equal when they are the same number, however written: 60 per minute is 1 per second.
    friend constexpr bool operator==(rate const& a, rate const& b) noexcept {
        auto const x = a.per<std::chrono::nanoseconds>();
        auto const y = b.per<std::chrono::nanoseconds>();
        if (x.ticks == 0 || y.ticks == 0) {
            return a.count_ == b.count_ && a.ticks_ == b.ticks_ && a.num_ == b.num_ && a.den_ == b.den_;
        }
        return x.permits == y.permits && x.ticks == y.ticks;
    }

private:
    static constexpr void reduce(std::uint64_t& a, std::uint64_t& b) noexcept {
        // Euclid's; <numeric> would be a third of what this header costs to include.
        std::uint64_t g = a;
        for (std::uint64_t r = b; r != 0;) {
            std::uint64_t const next = g % r;
            g = r;
            r = next;
        }
        a /= g;
        b /= g;
    }

    permits count_;
    std::int64_t ticks_;
    std::int64_t num_;
    std::int64_t den_;
};

}  // namespace weir::inline v0
