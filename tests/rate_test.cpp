// SPDX-License-Identifier: MIT
#include <weir/rate.hpp>

#include <gtest/gtest.h>

#include "support/gcra_oracle.hpp"

#include <chrono>
#include <cstdint>
#include <limits>
#include <numeric>
#include <ratio>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace rate_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::rate;

template <class Duration>
constexpr bool is(rate r, std::uint64_t permits, std::uint64_t ticks) {
    auto const f = r.per<Duration>();
    return f.permits == permits && f.ticks == ticks;
}

TEST(rate, is_an_exact_fraction_of_any_tick) {
    static_assert(is<nanoseconds>({100, 1s}, 1, 10'000'000));
    static_assert(is<nanoseconds>({600'000, 1s}, 3, 5'000));
    static_assert(is<nanoseconds>({300'000'000, 1s}, 3, 10));
    static_assert(is<nanoseconds>({1'000'000'007, 1s}, 1'000'000'007, 1'000'000'000));
    static_assert(is<nanoseconds>({1, 24h}, 1, 86'400'000'000'000));
    static_assert(is<std::chrono::minutes>({600'000, 1s}, 36'000'000, 1));
    static_assert(is<std::chrono::seconds>({7, 3ms}, 7000, 3));
    static_assert(is<std::chrono::duration<std::int64_t, std::ratio<1, 3>>>({5, 7s}, 5, 21));
}

TEST(rate, has_no_fraction_where_either_side_needs_more_than_63_bits) {
    using half = std::chrono::duration<std::int64_t, std::ratio<1, 2'000'000'000>>;
    using twice = std::chrono::duration<std::int64_t, std::ratio<2, 1'000'000'000>>;
    auto const fast = rate{std::uint64_t{1} << 62U, half{1}}.per<std::chrono::nanoseconds>();
    EXPECT_EQ(fast.permits, 0U);
    EXPECT_EQ(fast.ticks, 0U);
    auto const slow = rate{1, twice{std::int64_t{1} << 62U}}.per<std::chrono::nanoseconds>();
    EXPECT_EQ(slow.permits, 0U);
    EXPECT_EQ(slow.ticks, 0U);
    EXPECT_EQ((rate{(std::uint64_t{1} << 62U) - 1, half{1}}.per<std::chrono::nanoseconds>().permits),
              (std::uint64_t{1} << 63U) - 2);
}

TEST(rate, keeps_its_value_for_random_counts_periods_and_ticks) {
    gcra_oracle::random_engine random{7};
    for (int i = 0; i < 20'000; ++i) {
        std::uint64_t const count = 1 + gcra_oracle::any_size(random, (1ULL << 30U));
        auto const period = static_cast<std::int64_t>(1 + gcra_oracle::any_size(random, (1ULL << 30U)));
        auto const f = rate{count, std::chrono::microseconds{period}}.per<std::chrono::milliseconds>();
        // f.permits/f.ticks = count·1000/period
        ASSERT_EQ(static_cast<gcra_oracle::u128>(f.permits) * static_cast<std::uint64_t>(period),
                  static_cast<gcra_oracle::u128>(f.ticks) * count * 1000)
            << count << " per " << period << "us";
        ASSERT_EQ(std::gcd(f.permits, f.ticks), 1U);
    }
}

TEST(rate, refuses_what_grants_nothing_or_cannot_be_counted) {
    static_assert(rate::validate(0, 1s));
    static_assert(rate::validate(1, 0s));
    static_assert(rate::validate(1, -1s));
    static_assert(rate::validate(1ULL << 63U, 1s));
    static_assert(!rate::validate((1ULL << 63U) - 1, 1s));
    static_assert(!rate::make(0, 1s));
    static_assert(rate::make(1, 1s)->count() == 1);
    EXPECT_THROW((rate{0, 1s}), std::invalid_argument);
    EXPECT_THROW((rate{1, 0s}), std::invalid_argument);
    EXPECT_THROW((rate{1, nanoseconds::min()}), std::invalid_argument);
    try {
        rate const r{1, -5min};
        FAIL() << "made " << r.count();
    } catch (std::invalid_argument const& e) {
        EXPECT_EQ(e.what(), std::string{rate::validate(1, -5min).message()});
    }
}

TEST(rate, says_when_its_fraction_does_not_fit) {
    static_assert(
        is<nanoseconds>({1, std::chrono::duration<std::int64_t, std::ratio<31'556'952'000>>{1'000'000'000}}, 0, 0));
    static_assert(is<nanoseconds>({(1ULL << 63U) - 1, 2ns}, (1ULL << 63U) - 1, 2));
    static_assert(is<std::chrono::hours>({(1ULL << 63U) - 1, 2ns}, 0, 0));
}

TEST(rate, is_equal_when_it_is_the_same_number) {
    static_assert(rate{60, 1min} == rate{1, 1s});
    static_assert(rate{1, 1s} == rate{1'000'000'000, 1'000'000'000s});
    static_assert(rate{61, 1min} != rate{1, 1s});
}

TEST(rate, is_made_of_integers_and_of_nothing_else) {
    static_assert(!std::is_convertible_v<int, rate>);
    static_assert(!std::is_constructible_v<rate, int>);
    static_assert(!std::is_constructible_v<rate, int, int>);
    static_assert(!std::is_constructible_v<rate, int, std::chrono::duration<double>>);
    static_assert(std::is_trivially_copyable_v<rate>);
}

TEST(rate, a_fraction_of_which_either_part_needs_64_bits_does_not_fit) {
    using half = std::chrono::duration<std::int64_t, std::ratio<1, 2'000'000'000>>;
    using two = std::chrono::duration<std::int64_t, std::ratio<2, 1'000'000'000>>;
    constexpr auto fits = [](rate r) { return r.per<std::chrono::nanoseconds>().ticks != 0; };
    static_assert(fits(rate{(1ULL << 62U) - 1, half{1}}) && !fits(rate{1ULL << 62U, half{1}}));
    static_assert(fits(rate{1, two{(1LL << 62) - 1}}) && !fits(rate{1, two{1LL << 62}}));
}

}  // namespace rate_test
