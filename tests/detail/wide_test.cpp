// SPDX-License-Identifier: MIT
#include <weir/detail/wide.hpp>

#include <gtest/gtest.h>

#include "../support/gcra_oracle.hpp"

#include <chrono>
#include <cstdint>
#include <ratio>
#include <vector>

namespace wide_test {

using gcra_oracle::any_size;
using gcra_oracle::random_engine;
using weir::detail::div;
using weir::detail::div_portable;
using weir::detail::mul;
using weir::detail::mul_div_ceil;
using weir::detail::mul_div_floor;
using weir::detail::mul_portable;
using native = gcra_oracle::u128;

constexpr std::uint64_t all = ~std::uint64_t{0};

std::vector<std::uint64_t> operands(random_engine& random) {
    std::vector<std::uint64_t> v{
        0, 1, 2, 3, 0xffff'ffff, 0x1'0000'0000, 0x1'0000'0001, all >> 1U, (all >> 1U) + 1, all - 1, all};
    for (int i = 0; i < 200; ++i) v.push_back(any_size(random, all));
    return v;
}

TEST(wide, products_are_exact_in_both_forms) {
    random_engine random{1};
    auto const v = operands(random);
    for (auto a : v) {
        for (auto b : v) {
            native const p = static_cast<native>(a) * b;
            ASSERT_EQ(mul(a, b), mul_portable(a, b)) << a << " * " << b;
            ASSERT_EQ((static_cast<native>(mul(a, b).hi) << 64U) | mul(a, b).lo, p) << a << " * " << b;
        }
    }
}

TEST(wide, quotients_are_exact_in_both_forms) {
    random_engine random{2};
    auto const v = operands(random);
    for (auto d : v) {
        for (auto hi : v) {
            if (hi >= d) continue;
            for (int i = 0; i < 8; ++i) {
                std::uint64_t const lo = i == 0 ? 0 : i == 1 ? all : any_size(random, all);
                auto const q = div({hi, lo}, d);
                auto const p = div_portable({hi, lo}, d);
                ASSERT_EQ(q.value, p.value) << hi << ' ' << lo << " / " << d;
                ASSERT_EQ(q.remainder, p.remainder) << hi << ' ' << lo << " / " << d;
                ASSERT_LT(q.remainder, d);
                ASSERT_EQ(static_cast<native>(q.value) * d + q.remainder, (static_cast<native>(hi) << 64U) | lo);
            }
        }
    }
}

TEST(wide, mul_div_rounds_as_it_says_and_saturates) {
    random_engine random{3};
    auto const v = operands(random);
    for (auto a : v) {
        for (auto b : v) {
            std::uint64_t const d = v[static_cast<std::size_t>(random() % v.size())];
            if (d == 0) continue;
            native const p = static_cast<native>(a) * b;
            native const down = p / d;
            native const up = down + (p % d != 0 ? 1 : 0);
            ASSERT_EQ(mul_div_floor(a, b, d), down > all ? all : static_cast<std::uint64_t>(down))
                << a << ' ' << b << ' ' << d;
            ASSERT_EQ(mul_div_ceil(a, b, d), up > all ? all : static_cast<std::uint64_t>(up))
                << a << ' ' << b << ' ' << d;
        }
    }
}

#if defined(__SIZEOF_INT128__)
template <class Portable, class Native>
void expect_the_same_arithmetic() {
    random_engine random{4};
    auto v = operands(random);
    v.resize(40);
    auto const same = [](Portable const& p, Native const& n) {
        return static_cast<std::uint64_t>(p) == static_cast<std::uint64_t>(n) &&
               static_cast<std::uint64_t>(p / 65536 / 65536 / 65536 / 65536) ==
                   static_cast<std::uint64_t>(n / 65536 / 65536 / 65536 / 65536);
    };
    for (auto x : v) {
        for (auto y : v) {
            // Factors of less than 63 bits: the products of signed ones stay in range.
            std::uint64_t const z = v[static_cast<std::size_t>(random() % v.size())] >> 2U;
            Portable const p = (Portable{x >> 2U} - Portable{y >> 2U}) * z + x;
            Native const n = (Native{x >> 2U} - Native{y >> 2U}) * z + x;
            ASSERT_TRUE(same(p, n)) << x << ' ' << y << ' ' << z;
            ASSERT_EQ(p < Portable{y}, n < Native{y});
            ASSERT_EQ(p <= -Portable{y}, n <= -Native{y});
            ASSERT_TRUE(same(Portable{y} << 60U | Portable{1}, Native{y} << 60U | Native{1}));
            if (z == 0) continue;
            ASSERT_TRUE(same(p / z, n / z) && same(p % z, n % z)) << x << ' ' << y << ' ' << z;
            ASSERT_TRUE(same(z / (p + 1 == 0 ? 1 : p + 1), z / (n + 1 == 0 ? 1 : n + 1))) << x << ' ' << y << ' ' << z;
        }
    }
}

TEST(wide, the_oracles_portable_integers_count_as_the_compilers_do) {
    expect_the_same_arithmetic<int128::portable<false>, gcra_oracle::u128>();
    expect_the_same_arithmetic<int128::portable<true>, gcra_oracle::i128>();
}
#endif

TEST(wide, rounding_up_ends_at_the_largest_number) {
    std::uint64_t const a = 0xbc0e432d70b89231, b = 0xdb6a89c88f93a630, d = 0xa12e7696a6cecc1b;
    ASSERT_EQ(mul_div_floor(a, b, d), all);
    ASSERT_NE(div(mul(a, b), d).remainder, 0U);
    EXPECT_EQ(mul_div_ceil(a, b, d), all);
    std::uint64_t const e = 0xeec96dc8edfbe23e, f = 0xca81f9218fec4aba, g = 0xbce42c8218072e8c;
    ASSERT_EQ(mul_div_floor(e, f, g), all - 1);
    EXPECT_EQ(mul_div_ceil(e, f, g), all);
}

TEST(wide, thirty_years_are_counted_in_any_tick_or_known_not_to_fit) {
    using weir::detail::thirty_years;
    static_assert(thirty_years<std::chrono::seconds>() == 946'728'000);
    static_assert(thirty_years<std::chrono::nanoseconds>() == 946'728'000'000'000'000);
    static_assert(thirty_years<std::chrono::hours>() == 262'980);
    static_assert(thirty_years<std::chrono::duration<std::int64_t, std::ratio<7>>>() == 135'246'857);
    // The product alone has no room, what it is divided to has; a picosecond's has neither.
    static_assert(thirty_years<std::chrono::duration<std::int64_t, std::ratio<7, 100'000'000'000>>>() ==
                  13'524'685'714'285'714'285U);
    static_assert(thirty_years<std::chrono::duration<std::int64_t, std::pico>>() == all);
}

TEST(wide, works_in_a_constant_expression) {
    static_assert(mul(all, all) == weir::detail::u128{all - 1, 1});
    static_assert(mul_portable(all, all) == mul(all, all));
    static_assert(div({1, 0}, 3).value == 0x5555'5555'5555'5555);
    static_assert(div_portable({1, 0}, 3).remainder == 1);
    static_assert(mul_div_floor(10, 10, 3) == 33 && mul_div_ceil(10, 10, 3) == 34);
}

}  // namespace wide_test
