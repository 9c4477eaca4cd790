// SPDX-License-Identifier: MIT
#include <weir/llm/quota.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

namespace quota_test {

using weir::llm::quota;
using weir::llm::tokens;

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

TEST(quota, takes_an_absent_limit_for_not_enforced) {
    static_assert(!quota::validate({}));
    static_assert(!quota{}.effective_rpm() && !quota{}.effective_tpm());
    static_assert(!quota::validate({.rpm = 1}) && !quota::validate({.rps = 1}) && !quota::validate({.tpm = 1}) &&
                  !quota::validate({.tps = 1}));
}

TEST(quota, names_the_limit_that_is_an_explicit_zero) {
    using std::string_view;
    EXPECT_NE(string_view{quota::validate({.rpm = 0}).message()}.find("rpm"), string_view::npos);
    EXPECT_NE(string_view{quota::validate({.rps = 0}).message()}.find("rps"), string_view::npos);
    EXPECT_NE(string_view{quota::validate({.tpm = 0}).message()}.find("tpm"), string_view::npos);
    EXPECT_NE(string_view{quota::validate({.tps = 0}).message()}.find("tps"), string_view::npos);
    EXPECT_TRUE(quota::validate({.rpm = 600, .rps = 10, .tpm = 0}));
}

TEST(quota, says_the_effective_ceiling) {
    static_assert(quota{.rpm = 600}.effective_rpm() == 600U);
    static_assert(quota{.rps = 7}.effective_rpm() == 420U);
    static_assert(quota{.rpm = 600, .rps = 10}.effective_rpm() == 600U);
    static_assert(quota{.rpm = 599, .rps = 10}.effective_rpm() == 599U);
    static_assert(quota{.rpm = 601, .rps = 10}.effective_rpm() == 600U);
    static_assert(quota{.tpm = 1'000'000, .tps = 10'000}.effective_tpm() == 600'000U);
    static_assert(quota{.tpm = 1'000'000, .tps = 16'667}.effective_tpm() == 1'000'000U);
    static_assert(!quota{.rpm = 1}.effective_tpm() && !quota{.tps = 1}.effective_rpm());
}

TEST(quota, has_a_ceiling_that_does_not_wrap) {
    static_assert(quota{.rps = most}.effective_rpm() == most);
    static_assert(quota{.rps = most / 60 + 1}.effective_rpm() == most);
    static_assert(quota{.rps = most / 60}.effective_rpm() == most / 60 * 60);
    static_assert(quota{.tpm = 5, .tps = most}.effective_tpm() == 5U);
}

TEST(quota, compares_by_its_limits) {
    static_assert(quota{.rpm = 1} == quota{.rpm = 1} && quota{.rpm = 1} != quota{.rps = 1} &&
                  quota{} != quota{.tpm = 1});
}

TEST(tokens, total_saturates) {
    static_assert(tokens{.input = 2, .output = 3}.total() == 5 && tokens{}.total() == 0);
    static_assert(tokens{.input = most, .output = 0}.total() == most &&
                  tokens{.input = most, .output = 1}.total() == most &&
                  tokens{.input = most, .output = most}.total() == most);
    static_assert(tokens{.input = 1, .output = 2} == tokens{.input = 1, .output = 2} &&
                  tokens{.input = 1, .output = 2} != tokens{.input = 2, .output = 1});
}

TEST(limit, has_a_name) {
    EXPECT_EQ(to_string(weir::llm::limit::rpm), "requests per minute");
    EXPECT_EQ(to_string(weir::llm::limit::rps), "requests per second");
    EXPECT_EQ(to_string(weir::llm::limit::tpm), "tokens per minute");
    EXPECT_EQ(to_string(weir::llm::limit::tps), "tokens per second");
    EXPECT_EQ(to_string(weir::llm::limit::none), "none");
}

}  // namespace quota_test
