// SPDX-License-Identifier: MIT
//
// 128-bit products and quotients, with a portable form for targets without a 128-bit integer and for comparison in
// tests.
#pragma once

#include "cpp20.hpp"

#include <cstdint>

namespace weir::inline v0::detail {

struct u128 {
    std::uint64_t hi;
    std::uint64_t lo;

    friend constexpr bool operator==(u128 const&, u128 const&) = default;
};

struct quotient {
    std::uint64_t value;
    std::uint64_t remainder;
};

/// a * b by 32-bit limbs.
constexpr u128 mul_portable(std::uint64_t a, std::uint64_t b) noexcept {
    constexpr std::uint64_t mask = 0xffff'ffffU;
    std::uint64_t const ll = (a & mask) * (b & mask);
    std::uint64_t const lh = (a & mask) * (b >> 32U);
    std::uint64_t const hl = (a >> 32U) * (b & mask);
    std::uint64_t const hh = (a >> 32U) * (b >> 32U);
    std::uint64_t const mid = (ll >> 32U) + (lh & mask) + (hl & mask);
    return {hh + (lh >> 32U) + (hl >> 32U) + (mid >> 32U), (mid << 32U) | (ll & mask)};
}

/// n / d bit by bit. Requires n.hi < d, so that the quotient fits.
constexpr quotient div_portable(u128 n, std::uint64_t d) noexcept {
    std::uint64_t r = n.hi;
    std::uint64_t q = 0;
    for (int i = 63; i >= 0; --i) {
        bool const carry = (r >> 63U) != 0;
        r = (r << 1U) | ((n.lo >> static_cast<unsigned>(i)) & 1U);
        q <<= 1U;
        if (carry || r >= d) {
            r -= d;
            q |= 1U;
        }
    }
    return {q, r};
}

#if defined(__SIZEOF_INT128__)
__extension__ typedef unsigned __int128 native_u128;

constexpr u128 mul(std::uint64_t a, std::uint64_t b) noexcept {
    native_u128 const p = static_cast<native_u128>(a) * b;
    return {static_cast<std::uint64_t>(p >> 64U), static_cast<std::uint64_t>(p)};
}
constexpr quotient div(u128 n, std::uint64_t d) noexcept {
    native_u128 const x = (static_cast<native_u128>(n.hi) << 64U) | n.lo;
    return {static_cast<std::uint64_t>(x / d), static_cast<std::uint64_t>(x % d)};
}
#else
constexpr u128 mul(std::uint64_t a, std::uint64_t b) noexcept { return mul_portable(a, b); }
constexpr quotient div(u128 n, std::uint64_t d) noexcept { return div_portable(n, d); }
#endif

/// floor(a * b / d), or all ones where that does not fit 64 bits. d > 0.
constexpr std::uint64_t mul_div_floor(std::uint64_t a, std::uint64_t b, std::uint64_t d) noexcept {
    u128 const p = mul(a, b);
    return p.hi >= d ? ~std::uint64_t{0} : div(p, d).value;
}

/// ceil(a * b / d), or all ones where that does not fit 64 bits. d > 0.
constexpr std::uint64_t mul_div_ceil(std::uint64_t a, std::uint64_t b, std::uint64_t d) noexcept {
    u128 const p = mul(a, b);
    if (p.hi >= d) return ~std::uint64_t{0};
    quotient const q = div(p, d);
    return q.value == ~std::uint64_t{0} ? q.value : q.value + (q.remainder != 0 ? 1U : 0U);
}

/// How many ticks of `Duration` a limiter's promise covers: 30 years (of 365.25 days), rounded down; all ones where 64
/// bits do not hold them.
template <class Duration>
constexpr std::uint64_t thirty_years() noexcept {
    constexpr std::uint64_t seconds = 30U * 31'557'600ULL;
    return mul_div_floor(seconds, static_cast<std::uint64_t>(Duration::period::den),
                         static_cast<std::uint64_t>(Duration::period::num));
}

}  // namespace weir::inline v0::detail
