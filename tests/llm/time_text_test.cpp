// SPDX-License-Identifier: MIT
#include <weir/llm/detail/time_text.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace time_text_test {

using namespace std::chrono_literals;
using namespace weir::llm;
using std::chrono::nanoseconds;
using std::chrono::sys_days;
using std::chrono::sys_seconds;

constexpr sys_seconds now = sys_days{std::chrono::year{2026} / 9 / 24} + 16h;

TEST(llm_time_text, reads_seconds_whole_and_in_fractions_and_rounds_up) {
    EXPECT_EQ(parse_seconds("20"), nanoseconds{20s});
    EXPECT_EQ(parse_seconds(" 20 "), nanoseconds{20s});
    EXPECT_EQ(parse_seconds("0"), nanoseconds{0});
    EXPECT_EQ(parse_seconds("1.5"), nanoseconds{1500ms});
    EXPECT_EQ(parse_seconds(".25"), nanoseconds{250ms});
    EXPECT_EQ(parse_seconds("0.0000000001"), nanoseconds{1});
    EXPECT_EQ(parse_seconds("0.9999999999"), nanoseconds{1s});
    EXPECT_EQ(parse_seconds("1849295"), nanoseconds{1849295s});
}

TEST(llm_time_text, what_is_too_long_is_the_longest_and_never_short) {
    EXPECT_EQ(parse_seconds("99999999999999999999999"), nanoseconds::max());
    EXPECT_EQ(parse_seconds("18446744073709551616"), nanoseconds::max());
    EXPECT_EQ(parse_seconds("18446744074"), nanoseconds::max());
    EXPECT_EQ(parse_milliseconds("99999999999999999999999"), nanoseconds::max());
    EXPECT_EQ(parse_duration("9999999999999h"), nanoseconds::max());
    EXPECT_EQ(parse_duration("9223372036s9223372036s"), nanoseconds::max());
}

TEST(llm_time_text, garbage_is_nothing) {
    for (auto const* s :
         {"", " ", "-1", "+1", "1e3", "0x10", "1,5", "1.", ".", "soon", "1 s", "12x", "nan", "inf", "\xff"}) {
        EXPECT_EQ(parse_seconds(s), std::nullopt) << s;
        EXPECT_EQ(parse_milliseconds(s), std::nullopt) << s;
    }
    for (auto const* s : {"", "-1", "s", "m", "1x", "1h30", "1s1", "1d", "6m 0s", "1.s", "-5s"}) {
        EXPECT_EQ(parse_duration(s), std::nullopt) << s;
    }
}

TEST(llm_time_text, reads_durations_as_go_prints_them) {
    EXPECT_EQ(parse_duration("1s"), nanoseconds{1s});
    EXPECT_EQ(parse_duration("6m0s"), nanoseconds{6min});
    EXPECT_EQ(parse_duration("20ms"), nanoseconds{20ms});
    EXPECT_EQ(parse_duration("2m59.56s"), nanoseconds{2min + 59s + 560ms});
    EXPECT_EQ(parse_duration("7.66s"), nanoseconds{7660ms});
    EXPECT_EQ(parse_duration("1h2m3s"), nanoseconds{1h + 2min + 3s});
    EXPECT_EQ(parse_duration("15us"), nanoseconds{15us});
    EXPECT_EQ(parse_duration("15\xC2\xB5s"), nanoseconds{15us});
    EXPECT_EQ(parse_duration("3ns"), nanoseconds{3});
    EXPECT_EQ(parse_duration("56.42777108s"), nanoseconds{56'427'771'080});
    EXPECT_EQ(parse_duration("0.5h"), nanoseconds{30min});
    EXPECT_EQ(parse_duration("12"), nanoseconds{12s});
}

TEST(llm_time_text, reads_the_three_forms_of_a_date) {
    constexpr auto t = sys_days{std::chrono::year{1994} / 11 / 6} + 8h + 49min + 37s;
    EXPECT_EQ(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT", now), t);
    EXPECT_EQ(parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT", now), t);
    EXPECT_EQ(parse_http_date("Sun Nov  6 08:49:37 1994", now), t);
    EXPECT_EQ(parse_http_date("Wed Nov 16 08:49:37 1994", now), t + std::chrono::days{10});
    EXPECT_EQ(parse_http_date(" Sun, 06 Nov 1994 08:49:37 GMT ", now), t);
}

TEST(llm_time_text, a_year_of_two_digits_is_at_most_fifty_ahead) {
    EXPECT_EQ(parse_http_date("Sunday, 06-Nov-76 08:49:37 GMT", now),
              sys_days{std::chrono::year{2076} / 11 / 6} + 8h + 49min + 37s);
    EXPECT_EQ(parse_http_date("Sunday, 06-Nov-77 08:49:37 GMT", now),
              sys_days{std::chrono::year{1977} / 11 / 6} + 8h + 49min + 37s);
}

TEST(llm_time_text, a_year_of_two_digits_is_of_the_century_that_is_nearest) {
    constexpr auto later = sys_days{std::chrono::year{2101} / 1 / 1} + 0s;
    EXPECT_EQ(parse_http_date("Sunday, 06-Nov-01 08:49:37 GMT", later),
              sys_days{std::chrono::year{2101} / 11 / 6} + 8h + 49min + 37s);
    EXPECT_EQ(parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT", later),
              sys_days{std::chrono::year{2094} / 11 / 6} + 8h + 49min + 37s);
}

TEST(llm_time_text, the_first_and_the_last_of_a_day_and_of_a_month_are_dates) {
    EXPECT_EQ(parse_http_date("Sat, 31 Dec 1994 23:59:59 GMT", now), sys_days{std::chrono::year{1995} / 1 / 1} - 1s);
    EXPECT_EQ(parse_http_date("Sun, 01 Jan 1995 00:00:00 GMT", now), sys_days{std::chrono::year{1995} / 1 / 1});
    EXPECT_EQ(parse_http_date("Sat Dec 31 23:59:59 1994", now), sys_days{std::chrono::year{1995} / 1 / 1} - 1s);
    EXPECT_EQ(parse_http_date("Thu, 29 Feb 2024 08:49:37 GMT", now),
              sys_days{std::chrono::year{2024} / 2 / 29} + 8h + 49min + 37s);
    char const* const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    for (unsigned m = 1; m <= 12; ++m) {
        EXPECT_EQ(parse_http_date(std::string{"Xxx, 02 "} + months[m - 1] + " 2003 01:02:03 GMT", now),
                  sys_days{std::chrono::year{2003} / std::chrono::month{m} / 2} + 1h + 2min + 3s);
    }
}

TEST(llm_time_text, dates_that_are_none_are_nothing) {
    for (auto const* s : {"Sun, 31 Nov 1994 08:49:37 GMT",
                          "Sun, 06 Nov 1994 24:49:37 GMT",
                          "Sun, 06 Nov 1994 08:60:37 GMT",
                          "Sun, 06 Nov 1994 08:49:37",
                          "Sun, 06 Nov 1994 08:49:37 CET",
                          "Sun, 06 Foo 1994 08:49:37 GMT",
                          "Sun, 6 Nov 1994 08:49:37 GMT",
                          "Sun Nov 99 08:49:37 1994",
                          "Sun Nov 18446744073709551622 08:49:37 1994",
                          "Sun,",
                          "Sun, ",
                          "Sun Nov",
                          "06 Nov 1994",
                          "Sun, 06 Nov 1994 08:49:37 GMT.",
                          "Sun, 29 Feb 2025 08:49:37 GMT",
                          "S, 06 Nov 1994 08:49:37 GMT",
                          "Sun Nov 32 08:49:37 1994",
                          "Sun Nov  0 08:49:37 1994",
                          "Sun, 00 Nov 1994 08:49:37 GMT",
                          "Sun, 06 Nov 1994 08:49:61 GMT"}) {
        EXPECT_EQ(parse_http_date(s, now), std::nullopt) << s;
    }
}

TEST(llm_time_text, reads_rfc_3339_with_fractions_and_offsets) {
    constexpr auto t = sys_days{std::chrono::year{2025} / 8 / 21} + 12h + 40min + 59s;
    EXPECT_EQ(parse_rfc3339("2025-08-21T12:40:59Z"), t);
    EXPECT_EQ(parse_rfc3339("2025-08-21t12:40:59z"), t);
    EXPECT_EQ(parse_rfc3339("2025-08-21T12:40:59.001Z"), t + 1s);
    EXPECT_EQ(parse_rfc3339("2025-08-21T12:40:59.000Z"), t);
    EXPECT_EQ(parse_rfc3339("2025-08-21T20:40:59+08:00"), t);
    EXPECT_EQ(parse_rfc3339("2025-08-21T07:10:59-05:30"), t);
    EXPECT_EQ(parse_rfc3339("2025-08-22T12:39:59+23:59"), t);
    EXPECT_EQ(parse_rfc3339("2025-08-20T12:41:59-23:59"), t);
    EXPECT_EQ(parse_rfc3339("2025-08-21T20:40:59+07:60"), std::nullopt);
    EXPECT_EQ(parse_rfc3339("2025-08-21T00:00:00Z"), sys_days{std::chrono::year{2025} / 8 / 21});
    EXPECT_EQ(parse_rfc3339("2025-12-31T23:59:59Z"), sys_days{std::chrono::year{2026} / 1 / 1} - 1s);
    for (auto const* s :
         {"2025-08-21T12:40:59", "2025-13-21T12:40:59Z", "2025-08-21T12:40:59+8", "2025-08-21", "20250821T124059Z",
          "2025-08-21T12:40:59.Z", "2025-08-21T12:40:59Zz", "2025-08-21T12:40:59+24:00"}) {
        EXPECT_EQ(parse_rfc3339(s), std::nullopt) << s;
    }
}

TEST(llm_time_text, retry_after_is_seconds_or_a_date_and_a_date_past_is_now) {
    EXPECT_EQ(parse_retry_after("120", now), nanoseconds{120s});
    EXPECT_EQ(parse_retry_after("Thu, 24 Sep 2026 16:01:00 GMT", now), nanoseconds{60s});
    EXPECT_EQ(parse_retry_after("Thu, 24 Sep 2026 15:59:00 GMT", now), nanoseconds{0});
    EXPECT_EQ(parse_retry_after("later", now), std::nullopt);
    EXPECT_EQ(parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", now), nanoseconds::max());
}

TEST(llm_time_text, works_at_compile_time) {
    static_assert(parse_retry_after("Thu, 24 Sep 2026 16:01:00 GMT", now) == nanoseconds{60s});
    static_assert(parse_duration("6m0s") == nanoseconds{6min});
}

}  // namespace time_text_test
