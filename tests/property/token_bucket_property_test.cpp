// SPDX-License-Identifier: MIT
#include "bucket_script.hpp"

#include <gtest/gtest.h>

namespace {

using namespace script;

TEST(token_bucket_property, is_its_oracle_whatever_is_done_to_it) {
    auto const fault = check(token_bucket_script, "token_bucket", 6'000, 90);
    EXPECT_TRUE(fault.empty()) << fault;
}

TEST(leaky_bucket_property, is_its_oracle_whatever_is_done_to_it) {
    auto const fault = check(leaky_bucket_script, "leaky_bucket", 2'000, 90);
    EXPECT_TRUE(fault.empty()) << fault;
}

}  // namespace
