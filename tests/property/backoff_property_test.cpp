// SPDX-License-Identifier: MIT
#include "backoff_script.hpp"

#include <gtest/gtest.h>

namespace backoff_property_test {

using namespace script;

TEST(backoff_property, is_its_oracle_whatever_is_done_to_it) {
    auto const fault = check(backoff_script, "backoff", 5'000, 90);
    EXPECT_TRUE(fault.empty()) << fault;
}

}  // namespace backoff_property_test
