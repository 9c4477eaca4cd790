// SPDX-License-Identifier: MIT
#include "quota_script.hpp"

#include <gtest/gtest.h>

namespace quota_limiter_property_test {

using namespace script;

TEST(quota_limiter_property, is_its_oracle_whatever_is_done_to_it) {
    auto const fault = check(quota_limiter_script, "quota_limiter", 4'000, 50);
    EXPECT_TRUE(fault.empty()) << fault;
}

}  // namespace quota_limiter_property_test
