// SPDX-License-Identifier: MIT
#include "queue_script.hpp"

#include <gtest/gtest.h>

namespace leaky_bucket_queue_property_test {

using namespace script;

TEST(leaky_bucket_queue_property, is_its_oracle_whatever_is_done_to_it) {
    auto const fault = check(leaky_bucket_queue_script, "leaky_bucket_queue", 10'000, 90);
    EXPECT_TRUE(fault.empty()) << fault;
}

}  // namespace leaky_bucket_queue_property_test
