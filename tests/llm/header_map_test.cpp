// SPDX-License-Identifier: MIT
#include <weir/llm/header_map.hpp>
#include <weir/llm/headers.hpp>
#include <weir/llm/hints.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace header_map_test {

using namespace std::chrono_literals;
using weir::llm::header_map;
using weir::llm::headers;

struct ignores_case {
    static char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
    bool operator()(std::string const& a, std::string const& b) const {
        return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                            [](char x, char y) { return lower(x) < lower(y); });
    }
};
using httplib_headers = std::multimap<std::string, std::string, ignores_case>;

TEST(llm_header_map, reads_the_multimap_of_cpp_httplib) {
    httplib_headers const from{{"Retry-After", "20"}, {"RateLimit", "\"a\";r=1"}, {"RateLimit", "\"b\";r=2"}};
    header_map const fields{from};
    headers const h{fields};
    EXPECT_EQ(h("retry-after"), "20");
    EXPECT_EQ(h("RETRY-AFTER"), "20");
    EXPECT_EQ(h("ratelimit"), "\"a\";r=1, \"b\";r=2");
    EXPECT_EQ(h("absent"), std::nullopt);
    EXPECT_EQ(fields.first("ratelimit"), "\"a\";r=1");
    EXPECT_EQ(fields.all("RateLimit"), (std::vector<std::string_view>{"\"a\";r=1", "\"b\";r=2"}));
    EXPECT_EQ(fields.size(), 3U);
    EXPECT_EQ(weir::llm::retry_hint(h, {}, {}), 20s);
}

TEST(llm_header_map, reads_any_range_of_pairs) {
    std::vector<std::pair<std::string const, std::string>> const from{{"retry-after-ms", "1500"}};
    header_map const fields{from};
    EXPECT_EQ(weir::llm::retry_hint(fields, {}, {}), 1500ms);
}

TEST(llm_header_map, collects_the_lines_that_libcurl_gives) {
    header_map fields;
    for (std::string_view const line :
         {"HTTP/1.1 100 Continue\r\n", "X-Old: 1\r\n", "\r\n", "HTTP/2 429 \r\n", "Retry-After:  20\t\r\n",
          "Warning: a\r\n", " folded \r\n", "warning:b\r\n", "no colon\r\n", "Empty:\r\n", "\r\n"}) {
        EXPECT_EQ(header_map::curl_header(line.data(), 1, line.size(), &fields), line.size());
    }
    EXPECT_EQ(fields("retry-after"), "20");
    EXPECT_EQ(fields("x-old"), std::nullopt);
    EXPECT_EQ(fields("warning"), "a folded, b");
    EXPECT_EQ(fields("empty"), "");
    EXPECT_EQ(fields.size(), 4U);
}

TEST(llm_header_map, a_folded_line_continues_the_last_value) {
    header_map fields;
    fields.add_line(" nothing to continue");
    EXPECT_TRUE(fields.empty());
    fields.add_line("a: 1");
    fields.add_line("A: 2");
    fields.add_line("\t3");
    fields.add_line("A: 4");
    EXPECT_EQ(fields("a"), "1, 2 3, 4");
    fields.clear();
    EXPECT_EQ(fields("a"), std::nullopt);
}

// ---- what headers hold ----

TEST(llm_headers, copy_a_small_look_up) {
    headers h;
    EXPECT_EQ(h("retry-after"), std::nullopt);
    std::string const value = "7";
    h = [&value](std::string_view name) -> std::optional<std::string_view> {
        if (name == "retry-after") return value;
        return std::nullopt;
    };
    headers const copy = h;
    h = {};
    EXPECT_EQ(copy("retry-after"), "7");
    EXPECT_EQ(copy("other"), std::nullopt);
    EXPECT_EQ(h("retry-after"), std::nullopt);
}

TEST(llm_headers, refer_to_a_large_look_up_and_refuse_a_temporary_of_it) {
    struct large {
        std::array<std::string_view, 8> values{};
        std::optional<std::string_view> operator()(std::string_view) const { return values[0]; }
    };
    static_assert(std::is_constructible_v<headers, large&> && std::is_constructible_v<headers, large const&>);
    static_assert(!std::is_constructible_v<headers, large>);
    static_assert(!std::is_constructible_v<headers, header_map> && !std::is_assignable_v<headers&, header_map>);
    static_assert(std::is_constructible_v<headers, header_map const&>);
    static_assert(!std::is_constructible_v<headers, int>);
    large l;
    headers const h{l};
    l.values[0] = "later";
    EXPECT_EQ(h("x"), "later");
}

}  // namespace header_map_test
