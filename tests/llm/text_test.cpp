// SPDX-License-Identifier: MIT
#include <weir/llm/text.hpp>
#include <weir/ostream.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <sstream>

namespace text_test {

using namespace std::chrono_literals;
namespace llm = weir::llm;

TEST(llm_text, says_tokens_and_quotas_with_their_units) {
    EXPECT_EQ(to_string(llm::tokens{.input = 500, .output = 1200}), "500 in, 1,200 out");
    EXPECT_EQ(to_string(llm::quota{.rpm = 600, .tpm = 1'000'000}),
              "600 requests per minute, 1,000,000 tokens per minute");
    EXPECT_EQ(to_string(llm::quota{}), "no limits");
}

TEST(llm_text, says_what_failed_what_to_do_and_how_long_to_wait) {
    llm::verdict v{
        .cause = llm::cause::request_rate, .action = llm::action::retry, .wait = 20s, .reason = "rate limited"};
    std::ostringstream out;
    out << v;
    EXPECT_EQ(out.str(),
              std::string{to_string(v.cause)} + ": " + std::string{to_string(v.action)} + " after 20 s (rate limited)");
    std::ostringstream limit;
    limit << llm::limit::rpm;
    EXPECT_EQ(limit.str(), "requests per minute");
}

}  // namespace text_test
