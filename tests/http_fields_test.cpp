// SPDX-License-Identifier: MIT
#include <weir/all_of.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/http_fields.hpp>
#include <weir/leaky_bucket.hpp>
#include <weir/leaky_bucket_queue.hpp>
#include <weir/llm/headers.hpp>
#include <weir/llm/hints.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace http_fields_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::rate;
using weir::rate_limit_fields;
using field_map = std::map<std::string, std::string>;

template <class Fields>
field_map as_map(Fields const& fields) {
    field_map all;
    for (auto [name, value] : fields) all.emplace(name, value);
    EXPECT_EQ(all.size(), fields.size());
    return all;
}

/// What a client of weir reads in these fields.
weir::llm::limit_reports read(field_map const& fields) {
    auto const look = [&](std::string_view name) -> std::optional<std::string_view> {
        for (auto const& [n, value] : fields) {
            bool same = n.size() == name.size();
            for (std::size_t i = 0; same && i < n.size(); ++i) {
                same = (static_cast<unsigned char>(n[i]) | 0x20U) == (static_cast<unsigned char>(name[i]) | 0x20U);
            }
            if (same) return value;
        }
        return std::nullopt;
    };
    return weir::llm::read_limits(look, weir::llm::dialect{}, {});
}

TEST(http_fields, says_what_a_bucket_has_left_and_when_to_retry) {
    manual_clock clock;
    weir::token_bucket bucket{rate{100, 1min}, 100, std::ref(clock)};
    auto const d = bucket.try_acquire(50);
    EXPECT_EQ(as_map(rate_limit_fields(bucket, d)),
              (field_map{{"RateLimit-Policy", "\"default\";q=100;w=60"}, {"RateLimit", "\"default\";r=50;t=30"}}));
    auto const denied = bucket.try_acquire(52);
    EXPECT_EQ(as_map(rate_limit_fields(bucket, denied)), (field_map{{"RateLimit-Policy", "\"default\";q=100;w=60"},
                                                                    {"RateLimit", "\"default\";r=50;t=30"},
                                                                    {"Retry-After", "2"}}));
    auto const never = bucket.try_acquire(101);
    EXPECT_FALSE(as_map(rate_limit_fields(bucket, never)).contains("Retry-After"));
}

TEST(http_fields, says_what_a_window_has_left_as_the_decision_found_it) {
    manual_clock clock;
    weir::sliding_window_log log{3, 1'500ms, std::ref(clock)};
    auto const two = log.try_acquire(2);
    field_map const found{{"RateLimit-Policy", "\"api\";q=3;w=2"}, {"RateLimit", "\"api\";r=1;t=2"}};
    EXPECT_EQ(as_map(rate_limit_fields(log, two, "api")), found);
    clock.advance(1s);
    auto const last = log.try_acquire();
    auto const denied = log.try_acquire();
    EXPECT_EQ(as_map(rate_limit_fields(log, two, "api")), found);
    EXPECT_EQ(as_map(rate_limit_fields(log, last, "api")).at("RateLimit"), "\"api\";r=0;t=2");
    EXPECT_EQ(
        as_map(rate_limit_fields(log, denied, "api")),
        (field_map{{"RateLimit-Policy", "\"api\";q=3;w=2"}, {"RateLimit", "\"api\";r=0;t=2"}, {"Retry-After", "1"}}));
}

TEST(http_fields, a_leaky_bucket_and_a_queue_have_a_quota_and_a_window) {
    manual_clock clock;
    weir::leaky_bucket leaky{rate{2, 1s}, 5, std::ref(clock)};
    EXPECT_EQ(as_map(rate_limit_fields(leaky, leaky.try_acquire(3))),
              (field_map{{"RateLimit-Policy", "\"default\";q=5;w=3"}, {"RateLimit", "\"default\";r=2;t=2"}}));
    weir::leaky_bucket_queue queue{rate{1, 2s}, 3, std::ref(clock)};
    auto const d = queue.try_acquire();
    EXPECT_EQ(as_map(rate_limit_fields(queue, d)).at("RateLimit-Policy"), "\"default\";q=4;w=8");
}

TEST(http_fields, is_read_by_weir_as_it_was_written) {
    manual_clock clock;
    weir::token_bucket bucket{rate{100, 1min}, 100, std::ref(clock)};
    auto const d = bucket.try_acquire(51);
    auto const denied = bucket.try_acquire(99);
    for (std::string_view const name : {"default", "a b", "say \"when\"", "back\\slash", "a,b;q=1", "~"}) {
        auto const fields = as_map(rate_limit_fields(bucket, d, name));
        auto const reports = read(fields);
        ASSERT_EQ(reports.size(), 1U) << name;
        auto const& r = *reports.begin();
        EXPECT_EQ(r.kind, weir::llm::counted::requests);
        EXPECT_EQ(r.window, 60s);
        EXPECT_EQ(r.limit, 100U);
        EXPECT_EQ(r.remaining, 49U);
        EXPECT_EQ(r.reset, std::optional<std::chrono::nanoseconds>{31s});
    }
    auto const fields = as_map(rate_limit_fields(bucket, denied));
    auto const wait = weir::llm::parse_retry_after(fields.at("Retry-After"), {});
    EXPECT_EQ(wait, std::optional<std::chrono::nanoseconds>{30s});
}

TEST(http_fields, refuses_a_name_that_no_string_of_a_field_can_hold) {
    manual_clock clock;
    weir::token_bucket bucket{rate{1, 1s}, 1, std::ref(clock)};
    (void)bucket.try_acquire();
    auto const denied = bucket.try_acquire();
    for (std::string const& name : {std::string{}, std::string{"a\r\nSet-Cookie: x"}, std::string{"\xc3\xa9"},
                                    std::string(65, 'a'), std::string(1, '\x7f')}) {
        auto const fields = rate_limit_fields(bucket, denied, name);
        EXPECT_TRUE(fields.error() == weir::errc::invalid_argument) << name;
        EXPECT_EQ(as_map(fields), (field_map{{"Retry-After", "1"}}));
    }
    auto const longest = rate_limit_fields(bucket, denied, std::string(64, '"'));
    EXPECT_FALSE(longest.error());
    EXPECT_EQ(read(as_map(longest)).size(), 1U);
}

TEST(http_fields, numbers_stay_within_the_fifteen_digits_of_a_field) {
    manual_clock clock;
    weir::token_bucket bucket{rate{1, 1ns}, std::int64_t{1} << 50, std::ref(clock)};
    auto const d = bucket.try_acquire();
    EXPECT_EQ(as_map(rate_limit_fields(bucket, d)).at("RateLimit"), "\"default\";r=999999999999999;t=1");
    weir::sliding_window_log log{1, 24h, std::ref(clock)};
    for (auto const t : {manual_clock::time_point::min(), manual_clock::time_point::max()}) {
        auto const attempt = log.try_acquire(t);
        EXPECT_FALSE(rate_limit_fields(log, attempt).empty());
    }
}

TEST(http_fields, are_pairs_that_a_range_for_takes_apart) {
    manual_clock clock;
    weir::token_bucket bucket{rate{1, 1s}, 1, std::ref(clock)};
    auto const d = bucket.try_acquire();
    std::string head;
    for (auto [name, value] : rate_limit_fields(bucket, d)) head += std::string{name} + ": " + value + "\r\n";
    EXPECT_EQ(head, "RateLimit-Policy: \"default\";q=1;w=1\r\nRateLimit: \"default\";r=0;t=1\r\n");
}

TEST(http_fields, an_all_of_has_a_policy_for_each_part) {
    manual_clock clock;
    weir::token_bucket bucket{rate{100, 1min}, 100, std::ref(clock)};
    weir::sliding_window_log log{2, 2s, std::ref(clock)};
    weir::all_of both{bucket, log};
    [&]<class Both>(Both& all) {
        if constexpr (requires { typename Both::limits_type; }) {
            auto const d = all.try_acquire(2);
            auto const denied = all.try_acquire();
            EXPECT_EQ(as_map(rate_limit_fields(all, d, "x")),
                      (field_map{{"RateLimit-Policy", R"("x-1";q=100;w=60, "x-2";q=2;w=2)"},
                                 {"RateLimit", R"("x-1";r=98;t=2, "x-2";r=0;t=2)"}}));
            EXPECT_EQ(as_map(rate_limit_fields(all, denied)).at("Retry-After"), "2");
            EXPECT_EQ(read(as_map(rate_limit_fields(all, denied))).size(), 2U);
        }
    }(both);
}

TEST(http_fields, a_quota_has_a_policy_for_each_limit_and_counts_tokens_as_tokens) {
    manual_clock clock;
    weir::llm::quota_limiter<manual_clock&> limiter{weir::llm::quota{.rpm = 2, .tpm = 1'000}, clock};
    auto const d = limiter.try_acquire(weir::llm::tokens{.input = 100, .output = 0});
    auto const fields = as_map(rate_limit_fields(limiter, d));
    EXPECT_EQ(fields.at("RateLimit-Policy"), R"("default-rpm";q=2;w=60, "default-tpm";q=1000;w=60;qu="tokens")");
    auto reports = read(fields);
    ASSERT_EQ(reports.size(), 2U);
    auto const* const requests = reports.find("default-rpm");
    auto const* const tokens = reports.find("default-tpm");
    ASSERT_TRUE(requests && tokens);
    EXPECT_EQ(requests->kind, weir::llm::counted::requests);
    EXPECT_EQ(requests->remaining, 1U);
    EXPECT_EQ(tokens->kind, weir::llm::counted::tokens);
    EXPECT_EQ(tokens->remaining, 900U);
    EXPECT_EQ(tokens->window, 60s);
    EXPECT_LE(tokens->reset, std::optional<std::chrono::nanoseconds>{60s});
}

}  // namespace http_fields_test
