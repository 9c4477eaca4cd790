// SPDX-License-Identifier: MIT
#include "all_of_script.hpp"

#include <gtest/gtest.h>

namespace all_of_property_test {

using namespace script;

TEST(all_of_property, is_its_oracle_whatever_is_done_to_it) {
    auto const fault = check(all_of_script, "all_of", 5'000, 90);
    EXPECT_TRUE(fault.empty()) << fault;
}

}  // namespace all_of_property_test
