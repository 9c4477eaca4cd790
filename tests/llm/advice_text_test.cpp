// SPDX-License-Identifier: MIT
//
// The comparison and the letter, word for word.
#include <weir/llm/advice/advice.hpp>
#include <weir/llm/advice/letter.hpp>
#include <weir/llm/advice/text.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "../support/planned_calls.hpp"

namespace advice_text_test {

using namespace std::chrono_literals;
using namespace advice_test;
using namespace weir::llm;
using std::chrono::nanoseconds;

TEST(llm_advice, numbers_are_printed_for_people) {
    using namespace weir::detail;
    EXPECT_EQ(grouped(0), "0");
    EXPECT_EQ(grouped(999), "999");
    EXPECT_EQ(grouped(1'000), "1,000");
    EXPECT_EQ(grouped(1'234'567), "1,234,567");
    EXPECT_EQ(decimal_text(1500, 3), "1.5");
    EXPECT_EQ(decimal_text(2000, 3), "2");
    EXPECT_EQ(decimal_text(5, 3), "0.005");
    EXPECT_EQ(decimal_text(1'234'500, 2, 2), "12,345.00");
    EXPECT_EQ(decimal_text(7, 0), "7");
    EXPECT_EQ(percent(984), "98.4%");
    EXPECT_EQ(percent(0), "0.0%");
    EXPECT_EQ(duration_text(0s), "0 s");
    EXPECT_EQ(duration_text(-1s), "0 s");
    EXPECT_EQ(duration_text(1ns), "below 1 ms");
    EXPECT_EQ(duration_text(5ms), "5 ms");
    EXPECT_EQ(duration_text(350ms), "0.35 s");
    EXPECT_EQ(duration_text(9'994ms), "9.99 s");
    EXPECT_EQ(duration_text(9'996ms), "10 s");
    EXPECT_EQ(duration_text(59'949ms), "59.9 s");
    EXPECT_EQ(duration_text(59'950ms), "1 min");
    EXPECT_EQ(duration_text(201s), "3 min 21 s");
    EXPECT_EQ(duration_text(3'599'500ms), "1 h");
    EXPECT_EQ(duration_text(2h + 5min), "2 h 5 min");
    EXPECT_EQ(duration_text(76h), "3 d 4 h");
    EXPECT_EQ(money{}.text(1'234'567), "$1.2346");
    EXPECT_EQ(money{}.text(1'200'000), "$1.20");
    EXPECT_EQ((money{"", " yuan", 2, 2}.text(1234)), "12.34 yuan");
    EXPECT_EQ((money{"", " yen", 0, 0}.text(1234)), "1,234 yen");
    EXPECT_EQ(detail::short_text(quota{.rpm = 600, .rps = 10, .tpm = 1'000'000}), "600 RPM, 10 RPS, 1,000,000 TPM");
    EXPECT_EQ(detail::short_text(quota{}), "no limits");
    for (std::size_t c = 0; c < constraints; ++c) EXPECT_FALSE(to_string(static_cast<constraint>(c)).empty());
}

advice small_advice() {
    auto const now = one_account({.rpm = 60, .tpm = 1'000'000}, {1'200'000, 6'000'000});
    auto const calls = at_once(600, io(1000, 100), 2s);
    return advise(calls, now,
                  {with_accounts(now, 2), with_fallback(now, fallback_model({.rpm = 600}, {400'000, 1'200'000}))},
                  {.goal = {.makespan = 5min}});
}

TEST(llm_advice, the_comparison_has_a_row_for_each_setup) {
    EXPECT_EQ(to_text(small_advice()), R"(600 calls, 600,000 tokens in and 60,000 out; 60 RPM, 1,000,000 TPM.

                          time  median wait        p99    longest     cost  fallbacks  bound by
as it is             9 min 3 s        4 min  9 min 1 s  9 min 1 s    $1.08             RPM 99.6%, answers 0.4%
2 accounts           4 min 2 s        2 min      4 min      4 min    $1.08             RPM 99.2%, answers 0.8%
falls back to small        2 s          0 s        0 s        0 s  $0.3888  540 calls  answers 100.0%
requested quota      3 min 2 s        1 min      3 min      3 min    $1.08             RPM 98.9%, answers 1.1%
no limits                  2 s          0 s        0 s        0 s    $1.08             answers 100.0%

2 accounts: large by main 300 calls $0.54; large by main (2) 300 calls $0.54
falls back to small: large by main 60 calls $0.108; small by main 540 calls $0.2808
The smallest quota with which all calls are done within 5 min: 120 RPM, 1,000,000 TPM (in steps of
1%). To request, with a headroom of 20%, rounded up: 150 RPM, 1,000,000 TPM.
)");
}

TEST(llm_advice, the_letter_has_the_facts_and_the_figures) {
    auto const a = small_advice();
    auto const text = letter(a, {.vendor = "Alibaba Cloud",
                                 .sender = "A. Person",
                                 .account = "1234",
                                 .region = "Singapore",
                                 .purpose = "We summarise reports."});
    EXPECT_EQ(text, R"(Subject: request for a higher rate limit for large

To Alibaba Cloud

Dear team, we request a higher rate limit for large in region Singapore for account 1234 as follows:

  requests per minute   150  (now 60)
  tokens per minute     unchanged at 1,000,000

We summarise reports. Our workload: 600 calls with 660,000 tokens (600,000 in, 60,000 out, as
expected), all of them ready to be sent at once. To finish within 5 min takes 120 requests and
132,000 tokens per minute on average, 2 requests and 2,200 tokens per second. At your prices this
costs $1.08.

With the present limits: our client paces itself so that your servers need not refuse it. Its
busiest minute has 60 of 60 requests and 66,000 of 1,000,000 tokens, its busiest second 60 requests.
The work takes 9 min 3 s; without limits the answers alone would take 2 s. The median wait is 4 min,
the 99th percentile 9 min 1 s, the longest 9 min 1 s; the waits sum to 1 d 21 h. Of the total time,
99.6% was limited by requests per minute.

With the requested limits: the same work takes 3 min 2 s, with a median wait of 1 min and a 99th
percentile of 3 min. The requested amounts are the smallest with which all calls are done within 5
min (120 RPM, 1,000,000 TPM), plus 20% for growth, rounded up. They come from a simulation of these
calls, admitted by the limiter that our client uses, with sliding windows.

Kind regards
A. Person
)");
}

TEST(llm_advice, a_letter_puts_one_space_between_words) {
    EXPECT_NE(
        letter(small_advice(), {.purpose = "  We  summarise reports. "}).find("\nWe summarise reports. Our workload"),
        std::string::npos);
}

TEST(llm_advice, a_goal_is_printed_in_words) {
    using weir::llm::detail::goal_text;
    EXPECT_EQ(goal_text({}), "");
    EXPECT_EQ(goal_text({.makespan = 90s, .p99_wait = 2s}),
              "all calls are done within 1 min 30 s, and 99 of 100 calls wait at most 2 s");
    EXPECT_EQ(goal_text({.max_limited = 0}), "no limit binds");
    EXPECT_EQ(goal_text({.max_limited = 50}), "limits bind for at most 5.0% of the time");
    EXPECT_EQ(goal_text({.max_limited = 0, .by = weir::llm::limit::tpm}), "no call waits for tokens per minute");
    EXPECT_EQ(goal_text({.max_limited = 50, .by = weir::llm::limit::rps}),
              "requests per second bind for at most 5.0% of the time");
}

TEST(llm_advice, there_is_no_letter_without_a_request) {
    auto const now = one_account({.rpm = 60});
    EXPECT_EQ(letter(advise(at_once(60), now, {})), "") << "no goal";
    EXPECT_EQ(letter(advise(at_once(60), now, {}, {.goal = {.makespan = 1h}})), "") << "met";
    auto const impossible = advise(at_once(60, io(1, 0), 10s), now, {}, {.goal = {.makespan = 9s}});
    EXPECT_EQ(letter(impossible), "") << "no quota meets it";
    EXPECT_NE(to_text(impossible).find("No quota is large enough"), std::string::npos);
}

TEST(llm_advice, text_names_calls_never_admitted_and_tokens_reserved) {
    auto calls = at_once(3, io(50, 0), 1s);
    calls[1].bound = io(101, 0);
    auto const now = one_account({.tpm = 100});
    auto const a = advise(calls, now, {}, {.goal = {.makespan = 1min}});
    EXPECT_NE(to_text(a).find("1 call is larger than a limit and can never be admitted (the first is number 2; the "
                              "largest asks for 101 tokens)."),
              std::string::npos)
        << to_text(a);
    EXPECT_NE(letter(a).find("can never be admitted"), std::string::npos);
    std::vector<planned_call> const held(14, planned_call{0ns, io(50, 50), io(50, 1), 1s});
    auto const text = to_text(advise(held, one_account({.tpm = 1000}), {}));
    EXPECT_NE(text.find("\nexact max_tokens   1 s"), std::string::npos) << text;
    EXPECT_NE(text.find("all calls would be done in 1 s"), std::string::npos) << text;
}

}  // namespace advice_text_test
