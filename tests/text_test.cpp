// SPDX-License-Identifier: MIT
#include <weir/ostream.hpp>
#include <weir/text.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <sstream>
#include <string>

#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_lib_format)
#include <weir/format.hpp>
#endif

namespace text_test {

using namespace std::chrono_literals;
using weir::errc;
using weir::rate;

template <class T>
std::string streamed(T const& value) {
    std::ostringstream out;
    using weir::operator<<;
    out << value;
    return out.str();
}

// A decision as a limiter returns it.
struct answer {
    answer(bool granted, weir::error e, std::chrono::nanoseconds wait) : granted_{granted}, error_{e}, wait_{wait} {}
    answer(answer&&) = default;
    answer& operator=(answer&&) = default;

    bool granted() const { return granted_; }
    explicit operator bool() const { return granted_; }
    bool never() const { return bool{error_}; }
    weir::error error() const { return error_; }
    std::chrono::steady_clock::time_point retry_at() const { return {}; }
    std::chrono::nanoseconds retry_after() const { return wait_; }
    std::int64_t retry_after_seconds() const { return 1; }
    weir::permits remaining() const { return 12'345; }
    std::chrono::steady_clock::time_point full_at() const { return {}; }

private:
    bool granted_;
    weir::error error_;
    std::chrono::nanoseconds wait_;
};

TEST(text, names_errors_and_says_their_message) {
    EXPECT_EQ(to_string(errc::busy), "busy");
    EXPECT_EQ(to_string(static_cast<errc>(200)), "unknown");
    EXPECT_EQ(to_string(weir::error{}), "no error");
    EXPECT_EQ(to_string(weir::error{errc::does_not_fit, "burst must be at most 5"}), "burst must be at most 5");
}

TEST(text, says_a_rate_as_it_was_written) {
    EXPECT_EQ(to_string(rate{100, 1s}), "100 per second");
    EXPECT_EQ(to_string(rate{1'000'000, 1min}), "1,000,000 per minute");
    EXPECT_EQ(to_string(rate{7, 1h}), "7 per hour");
    EXPECT_EQ(to_string(rate{1, 24h}), "1 per day");
    EXPECT_EQ(to_string(rate{3, 90s}), "3 per 1 min 30 s");
    EXPECT_EQ(to_string(rate{1, 1500us}), "1 per 1 ms 500 us");
}

TEST(text, says_what_was_decided_and_how_long_to_wait) {
    EXPECT_EQ(weir::to_string(answer{true, {}, 0s}), "granted, 12,345 left");
    EXPECT_EQ(weir::to_string(answer{false, {}, 120ms}), "denied, retry after 0.12 s");
    EXPECT_EQ(weir::to_string(answer{false, {errc::does_not_fit, "more than fits"}, 24h}),
              "denied for good: more than fits");
}

TEST(text, goes_to_streams_and_formats_alike) {
    EXPECT_EQ(streamed(rate{5, 1min}), "5 per minute");
    EXPECT_EQ(streamed(errc::busy), "busy");
    EXPECT_EQ(streamed(weir::error{"window must be positive"}), "window must be positive");
    EXPECT_EQ(streamed(answer{true, {}, 0s}), "granted, 12,345 left");
#if defined(__cpp_lib_format)
    EXPECT_EQ(std::format("{:>14}", rate{5, 1min}), "  5 per minute");
#endif
}

}  // namespace text_test
