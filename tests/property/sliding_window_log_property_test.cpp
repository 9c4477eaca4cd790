// SPDX-License-Identifier: MIT
#include "log_script.hpp"

#include <gtest/gtest.h>

namespace sliding_window_log_property_test {

using namespace script;

TEST(sliding_window_log_property, is_its_oracle_whatever_is_done_to_it) {
    auto const fault = check(sliding_window_log_script, "sliding_window_log", 8'000, 90);
    EXPECT_TRUE(fault.empty()) << fault;
}

}  // namespace sliding_window_log_property_test
