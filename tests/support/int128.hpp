// SPDX-License-Identifier: MIT
// 128-bit integers for the tests' oracles: the compiler's, or, where it has none (32-bit targets), two's complement by
// limbs. Slow and simple, and not weir's own arithmetic, which they judge.
#pragma once

#include <array>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace int128 {

template <bool Signed>
class portable {
public:
    constexpr portable() = default;
    template <std::integral T>
    constexpr portable(T value) {
        auto const low = static_cast<std::uint64_t>(value);
        std::uint32_t const fill = value < T{} ? ~std::uint32_t{0} : 0;
        limbs_ = {static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32U), fill, fill};
    }
    template <std::integral T>
    constexpr explicit operator T() const {
        return static_cast<T>(limbs_[0] | std::uint64_t{limbs_[1]} << 32U);
    }

    friend constexpr portable operator+(portable const& a, portable const& b) {
        portable sum;
        std::uint64_t carry = 0;
        for (std::size_t i = 0; i < count; ++i) {
            carry += std::uint64_t{a.limbs_[i]} + b.limbs_[i];
            sum.limbs_[i] = static_cast<std::uint32_t>(carry);
            carry >>= 32U;
        }
        return sum;
    }
    friend constexpr portable operator-(portable const& a) {
        portable r;
        for (std::size_t i = 0; i < count; ++i) r.limbs_[i] = ~a.limbs_[i];
        return r + portable{1};
    }
    friend constexpr portable operator-(portable const& a, portable const& b) { return a + -b; }
    friend constexpr portable operator*(portable const& a, portable const& b) {
        portable product;
        for (std::size_t i = 0; i < count; ++i) {
            std::uint64_t carry = 0;
            for (std::size_t j = 0; i + j < count; ++j) {
                carry += std::uint64_t{a.limbs_[i]} * b.limbs_[j] + product.limbs_[i + j];
                product.limbs_[i + j] = static_cast<std::uint32_t>(carry);
                carry >>= 32U;
            }
        }
        return product;
    }
    friend constexpr portable operator/(portable const& a, portable const& b) { return divide(a, b).quotient; }
    friend constexpr portable operator%(portable const& a, portable const& b) { return divide(a, b).remainder; }
    friend constexpr portable operator<<(portable a, unsigned by) {
        for (; by > 0; --by) a = a + a;
        return a;
    }
    friend constexpr portable operator|(portable a, portable const& b) {
        for (std::size_t i = 0; i < count; ++i) a.limbs_[i] |= b.limbs_[i];
        return a;
    }
    constexpr portable& operator+=(portable const& b) { return *this = *this + b; }
    constexpr portable& operator-=(portable const& b) { return *this = *this - b; }

    friend constexpr bool operator==(portable const&, portable const&) = default;
    friend constexpr std::strong_ordering operator<=>(portable const& a, portable const& b) {
        if (a.negative() != b.negative())
            return a.negative() ? std::strong_ordering::less : std::strong_ordering::greater;
        for (std::size_t i = count; i-- > 0;) {
            if (a.limbs_[i] != b.limbs_[i]) return a.limbs_[i] <=> b.limbs_[i];
        }
        return std::strong_ordering::equal;
    }

private:
    static constexpr std::size_t count = 4;

    struct division {
        portable quotient;
        portable remainder;
    };
    static constexpr division divide(portable const& a, portable const& b) {
        if constexpr (Signed) {
            if (a.negative() || b.negative()) {
                auto const d = divide(a.negative() ? -a : a, b.negative() ? -b : b);
                return {a.negative() != b.negative() ? -d.quotient : d.quotient,
                        a.negative() ? -d.remainder : d.remainder};
            }
        }
        division d;
        for (std::size_t i = 32 * count; i-- > 0;) {
            bool const carry = (d.remainder.limbs_[count - 1] >> 31U) != 0;
            d.remainder = d.remainder + d.remainder;
            d.remainder.limbs_[0] |= a.limbs_[i / 32] >> (i % 32) & 1U;
            if (carry || d.remainder >= b) {
                d.remainder = d.remainder - b;
                d.quotient.limbs_[i / 32] |= std::uint32_t{1} << (i % 32);
            }
        }
        return d;
    }
    constexpr bool negative() const { return Signed && (limbs_[count - 1] >> 31U) != 0; }

    std::array<std::uint32_t, count> limbs_{};
};

#if defined(__SIZEOF_INT128__)
__extension__ typedef __int128 i128;
__extension__ typedef unsigned __int128 u128;
#else
using i128 = portable<true>;
using u128 = portable<false>;
#endif

}  // namespace int128
