// SPDX-License-Identifier: MIT
#include <weir/llm/hints.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace hints_test {

using namespace std::chrono_literals;
using namespace weir::llm;
using std::chrono::nanoseconds;

constexpr std::chrono::sys_seconds now = std::chrono::sys_days{std::chrono::year{2026} / 9 / 24} + 16h;

struct fields {
    std::map<std::string, std::string, std::less<>> all;
    std::optional<std::string_view> operator()(std::string_view name) const {
        auto const at = all.find(name);
        return at == all.end() ? std::nullopt : std::optional<std::string_view>{at->second};
    }
};

std::optional<nanoseconds> hint(fields const& f, std::string_view body = {}) {
    return retry_hint(f, error_body{body}, now);
}

limit_reports limits_in(fields const& f, dialect d, std::chrono::sys_seconds t) { return read_limits(f, d, t); }
limit_reports gateway_limits_in(fields const& f, std::string_view window, std::string_view provider) {
    return read_gateway_limits(f, window, provider);
}

TEST(llm_hints, takes_the_longest_that_a_header_asks_for) {
    EXPECT_EQ(hint({{{"retry-after", "2"}}}), nanoseconds{2s});
    EXPECT_EQ(hint({{{"retry-after-ms", "1500"}}}), nanoseconds{1500ms});
    EXPECT_EQ(hint({{{"retry-after", "2"}, {"retry-after-ms", "1500"}}}), nanoseconds{2s});
    EXPECT_EQ(hint({{{"retry-after", "1"}, {"retry-after-ms", "1500"}}}), nanoseconds{1500ms});
    EXPECT_EQ(hint({{{"x-ai-ratelimit-retry-after", "9"}}}), nanoseconds{9s});
    EXPECT_EQ(hint({}), std::nullopt);
    EXPECT_EQ(retry_hint({}, {}, now), std::nullopt);
}

TEST(llm_hints, ignores_what_is_malformed_and_obeys_what_is_absurd) {
    EXPECT_EQ(hint({{{"retry-after", "soon"}, {"retry-after-ms", "1500"}}}), nanoseconds{1500ms});
    EXPECT_EQ(hint({{{"retry-after", "-1"}}}), std::nullopt);
    EXPECT_EQ(hint({{{"retry-after", "1849295"}}}), nanoseconds{1849295s});
    EXPECT_EQ(hint({{{"retry-after", "99999999999999999999"}}}), nanoseconds::max());
}

TEST(llm_hints, reads_what_a_body_asks_and_takes_the_longest_of_all) {
    constexpr std::string_view gemini =
        R"({"error":{"code":429,"message":"quota. Please retry in 38.5s.","status":"RESOURCE_EXHAUSTED","details":[
            {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"38s"}]}})";
    EXPECT_EQ(hint({}, gemini), nanoseconds{38500ms});
    EXPECT_EQ(hint({{{"retry-after", "5"}}}, gemini), nanoseconds{38500ms});
    EXPECT_EQ(hint({{{"retry-after", "50"}}}, gemini), nanoseconds{50s});
    EXPECT_EQ(hint({}, R"({"error":{"message":"Rate limit reached … Please try again in 6m0s. Visit"}})"),
              nanoseconds{6min});
    EXPECT_EQ(hint({}, R"({"error":{"message":"Please try again in 20ms."}})"), nanoseconds{20ms});
    EXPECT_EQ(hint({}, R"({"error":{"code":"429","message":"Please retry after 6 seconds."}})"), nanoseconds{6s});
    EXPECT_EQ(hint({}, R"({"error":{"message":"please try again later"}})"), std::nullopt);
    EXPECT_EQ(hint({}, R"({"error":{"message":"try again in a while"}})"), std::nullopt);
    EXPECT_EQ(hint({}, R"({"error":{"message":"try again in seconds"}})"), std::nullopt);
}

TEST(llm_hints, an_ietf_field_that_has_nothing_left_is_a_hint_and_retry_after_wins) {
    EXPECT_EQ(hint({{{"ratelimit", R"("default";r=0;t=30)"}}}), nanoseconds{30s});
    EXPECT_EQ(hint({{{"ratelimit", R"("default";r=5;t=30)"}}}), std::nullopt);
    EXPECT_EQ(hint({{{"ratelimit", R"("a";r=0;t=3,"b";r=0;t=70)"}}}), nanoseconds{70s});
    EXPECT_EQ(hint({{{"ratelimit", R"("default";r=0;t=30)"}, {"retry-after", "7"}}}), nanoseconds{7s});
}

limit_report only(limit_reports const& r) {
    EXPECT_EQ(r.size(), 1U);
    return r.empty() ? limit_report{} : *r.begin();
}

TEST(llm_hints, reads_openai_s_limits) {
    fields const f{{{"x-ratelimit-limit-requests", "60"},
                    {"x-ratelimit-remaining-requests", "59"},
                    {"x-ratelimit-reset-requests", "1s"},
                    {"x-ratelimit-limit-tokens", "150000"},
                    {"x-ratelimit-remaining-tokens", "149984"},
                    {"x-ratelimit-reset-tokens", "6m0s"}}};
    auto const r = read_limits(f, dialect::openai, now);
    ASSERT_EQ(r.size(), 2U);
    EXPECT_EQ(r.begin()->kind, counted::requests);
    EXPECT_EQ(r.begin()->limit, 60U);
    EXPECT_EQ(r.begin()->remaining, 59U);
    EXPECT_EQ(r.begin()->reset, nanoseconds{1s});
    EXPECT_EQ((r.begin() + 1)->kind, counted::tokens);
    EXPECT_EQ((r.begin() + 1)->remaining, 149984U);
    EXPECT_EQ((r.begin() + 1)->reset, nanoseconds{6min});
}

TEST(llm_hints, reads_azure_s_seconds_and_passes_over_minus_one) {
    EXPECT_EQ(only(limits_in(fields{{{"x-ratelimit-reset-tokens", "17"}}}, dialect::azure, now)).reset,
              nanoseconds{17s});
    EXPECT_TRUE(limits_in(fields{{{"x-ratelimit-reset-tokens", "-1"}}}, dialect::azure, now).empty());
}

TEST(llm_hints, groq_counts_requests_by_the_day) {
    fields const f{{{"x-ratelimit-limit-requests", "14400"},
                    {"x-ratelimit-reset-requests", "2m59.56s"},
                    {"x-ratelimit-limit-tokens", "18000"}}};
    auto const r = read_limits(f, dialect::groq, now);
    ASSERT_EQ(r.size(), 2U);
    EXPECT_EQ(r.begin()->window, nanoseconds{24h});
    EXPECT_EQ((r.begin() + 1)->window, nanoseconds{1min});
}

TEST(llm_hints, reads_anthropic_s_limits) {
    fields const f{{{"anthropic-ratelimit-requests-limit", "50"},
                    {"anthropic-ratelimit-requests-remaining", "49"},
                    {"anthropic-ratelimit-requests-reset", "2026-09-24T16:00:30Z"},
                    {"anthropic-ratelimit-input-tokens-remaining", "30000"},
                    {"anthropic-ratelimit-output-tokens-limit", "8000"},
                    {"anthropic-ratelimit-unified-reset", "1790265600"}}};
    auto const r = read_limits(f, dialect::anthropic, now);
    ASSERT_EQ(r.size(), 4U);
    EXPECT_EQ(r.begin()->reset, nanoseconds{30s});
    EXPECT_EQ((r.begin() + 1)->kind, counted::input_tokens);
    EXPECT_EQ((r.begin() + 2)->kind, counted::output_tokens);
    EXPECT_TRUE((r.begin() + 3)->reset.has_value());
}

TEST(llm_hints, reads_mistral_s_and_a_gateway_s_limits) {
    auto const m = only(
        limits_in(fields{{{"x-ratelimit-limit-tokens-minute", "500000"}, {"x-ratelimit-remaining-tokens-minute", "4"}}},
                  dialect::mistral, now));
    EXPECT_EQ(m.limit, 500'000U);
    EXPECT_EQ(m.remaining, 4U);
    auto const k = only(gateway_limits_in(fields{{{"x-ai-ratelimit-limit-minute-azure", "1000"},
                                                  {"x-ai-ratelimit-remaining-minute-azure", "950"},
                                                  {"x-ai-ratelimit-reset", "12"}}},
                                          "minute", "azure"));
    EXPECT_EQ(k.limit, 1000U);
    EXPECT_EQ(k.remaining, 950U);
    EXPECT_EQ(k.reset, nanoseconds{12s});
}

TEST(llm_hints, reads_ietf_policies_and_joins_what_is_left_by_name) {
    fields const f{{{"ratelimit-policy",
                     R"("burst";q=100;w=60, "daily";q=1000;w=86400;qu="requests", "bytes";q=9;qu="content-bytes")"},
                    {"ratelimit", R"("daily";r=50;t=30)"}}};
    auto const r = read_limits(f, dialect::http, now);
    ASSERT_EQ(r.size(), 3U);
    auto const* p = r.begin();
    EXPECT_EQ(p[0].name, "burst");
    EXPECT_EQ(p[0].limit, 100U);
    EXPECT_EQ(p[0].window, nanoseconds{60s});
    EXPECT_EQ(p[0].remaining, std::nullopt);
    EXPECT_EQ(p[1].remaining, 50U);
    EXPECT_EQ(p[1].reset, nanoseconds{30s});
    EXPECT_FALSE(p[1].full_reset);
    EXPECT_EQ(p[2].kind, counted::other);
}

TEST(llm_hints, malformed_ietf_items_are_passed_over_and_the_others_count) {
    for (auto const* bad : {R"("a";w=60)", R"("a";q=-1;w=60)", R"("a";q=1;w=0)", R"("a";q=1;w=x)", R"("a)", ",", ";",
                            R"(;q=1)", R"("a";q)"}) {
        auto const r =
            limits_in(fields{{{"ratelimit-policy", std::string{bad} + R"(,"b";q=2;w=1)"}}}, dialect::http, now);
        bool found = false;
        for (auto const& x : r) found = found || x.limit == 2U;
        // A quote that is not closed takes the rest with it.
        EXPECT_EQ(found, std::string_view{bad} != R"("a)") << bad;
        for (auto const& x : r) EXPECT_NE(x.limit, 1U) << bad;
    }
}

TEST(llm_hints, a_quoted_name_may_hold_commas_semicolons_and_escaped_quotes) {
    EXPECT_EQ(hint({{{"ratelimit", R"("a,b;c";r=0;t=30)"}}}), nanoseconds{30s});
    EXPECT_EQ(hint({{{"ratelimit", R"("a\",b";r=0;t=30)"}}}), nanoseconds{30s});
    EXPECT_EQ(hint({{{"ratelimit", R"("a\\";r=0;t=30)"}}}), nanoseconds{30s});
    auto const name = [](char const* item) {
        return std::string{only(limits_in(fields{{{"ratelimit-policy", item}}}, dialect::http, now)).name};
    };
    EXPECT_EQ(name(R"("a\",b";q=5)"), R"(a\",b)");
    EXPECT_EQ(name(R"("a,\\";q=5)"), R"(a,\\)");
    for (auto const* open : {R"(")", R"("\)", R"("\")", R"("a\)", R"("a;r=0;t=30)", R"("a\";r=0;t=30)"}) {
        EXPECT_EQ(hint({{{"ratelimit", open}}}), std::nullopt) << open;
    }
}

TEST(llm_hints, quotes_are_taken_off_a_value_that_has_both) {
    auto const what = [](std::string const& unit) {
        return only(limits_in(fields{{{"ratelimit-policy", R"("a";q=5;w=1;qu=)" + unit}}}, dialect::http, now)).kind;
    };
    EXPECT_EQ(what("requests"), counted::requests);
    EXPECT_EQ(what(R"("requests")"), counted::requests);
    EXPECT_EQ(what(R"("tokens")"), counted::tokens);
    EXPECT_EQ(what(R"(xrequests")"), counted::other);
    EXPECT_EQ(what(R"("requestsx)"), counted::other);
}

TEST(llm_hints, reads_the_older_ietf_fields) {
    auto const r = only(limits_in(
        fields{{{"ratelimit-limit", "100, 100;w=60"}, {"ratelimit-remaining", "7"}, {"ratelimit-reset", "50"}}},
        dialect::http, now));
    EXPECT_EQ(r.limit, 100U);
    EXPECT_EQ(r.remaining, 7U);
    EXPECT_EQ(r.reset, nanoseconds{50s});
    auto const p = only(limits_in(fields{{{"ratelimit-policy", "10;w=1"}}}, dialect::http, now));
    EXPECT_EQ(p.limit, 10U);
    EXPECT_EQ(p.window, nanoseconds{1s});
}

TEST(llm_hints, words_are_found_whatever_their_case_and_differ_by_any_letter) {
    constexpr std::string_view words = "try again in";
    EXPECT_EQ(weir::detail::find_ignoring_case("Please TRY Again In 5s", words), 7U);
    for (std::size_t i = 0; i < words.size(); ++i) {
        std::string other{words};
        other[i] = '_';
        EXPECT_EQ(weir::detail::find_ignoring_case(other, words), std::string_view::npos) << other;
    }
    EXPECT_EQ(weir::detail::find_ignoring_case("try again i", words), std::string_view::npos);
}

TEST(llm_hints, keeps_no_more_than_eight_limits) {
    std::string many;
    for (int i = 0; i < 30; ++i) many += "\"p" + std::to_string(i) + "\";q=1,";
    EXPECT_EQ(limits_in(fields{{{"ratelimit-policy", many}}}, dialect::http, now).size(), 8U);
}

}  // namespace hints_test
