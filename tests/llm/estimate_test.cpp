// SPDX-License-Identifier: MIT
#include <weir/llm/estimate.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "../support/stress.hpp"

namespace estimate_test {

using namespace weir::llm;
using weir::llm::tokens;

TEST(llm_estimate, tells_scripts_apart) {
    EXPECT_EQ(measure("hello"), (text_size{5, 0, 0, 5, 1}));
    EXPECT_EQ(measure("你好"), (text_size{0, 2, 0, 6, 1}));
    EXPECT_EQ(measure("かな한글"), (text_size{0, 4, 0, 12, 1}));
    EXPECT_EQ(measure("привет"), (text_size{0, 0, 12, 12, 1}));
    EXPECT_EQ(measure("\xF0\x9F\x98\x80"), (text_size{0, 0, 4, 4, 1}));  // an emoji
    EXPECT_EQ(measure("\xF0\xA0\x80\x80"), (text_size{0, 2, 0, 4, 1}));  // U+20000
    EXPECT_EQ(measure("，"), (text_size{0, 1, 0, 3, 1}));                // full width
    EXPECT_EQ(measure(""), (text_size{0, 0, 0, 0, 1}));
    EXPECT_EQ(measure("a") + measure("你"), (text_size{1, 1, 0, 4, 2}));
}

TEST(llm_estimate, the_blocks_of_chinese_japanese_and_korean_end_where_unicode_ends_them) {
    auto const utf8 = [](std::uint32_t p) {
        auto const part = [p](unsigned shift) { return static_cast<char>(0x80U | ((p >> shift) & 0x3FU)); };
        return p < 0x10000 ? std::string{static_cast<char>(0xE0U | (p >> 12U)), part(6), part(0)}
                           : std::string{static_cast<char>(0xF0U | (p >> 18U)), part(12), part(6), part(0)};
    };
    struct block {
        std::uint32_t first, last;
        std::uint64_t tokens;
    };
    for (auto const& b : {block{0x2E80, 0x9FFF, 1}, block{0xAC00, 0xD7AF, 1}, block{0xF900, 0xFAFF, 1},
                          block{0xFF00, 0xFFEF, 1}, block{0x20000, 0x3FFFF, 2}}) {
        for (auto const p : {b.first, b.last}) EXPECT_EQ(measure(utf8(p)).cjk, b.tokens) << std::hex << p;
        for (auto const p : {b.first - 1, b.last + 1}) EXPECT_EQ(measure(utf8(p)).cjk, 0U) << std::hex << p;
    }
}

TEST(llm_estimate, malformed_text_is_counted_byte_by_byte) {
    EXPECT_EQ(measure("\xFF\xFE"), (text_size{0, 0, 2, 2, 1}));
    EXPECT_EQ(measure("\xE4\xBD"), (text_size{0, 0, 2, 2, 1}));
    EXPECT_EQ(measure("\xE4"
                      "a"),
              (text_size{1, 0, 1, 2, 1}));
    for (std::string const whole : {"\xE4\xBD\xA0", "\xF0\xA0\x80\x80"}) {
        for (std::size_t k = 1; k < whole.size(); ++k) {
            auto broken = whole;
            broken[k] = 'a';
            EXPECT_EQ(measure(broken), (text_size{1, 0, whole.size() - 1, whole.size(), 1}))
                << whole.size() << ' ' << k;
        }
    }
    EXPECT_EQ(measure("\x80\x80"), (text_size{0, 0, 2, 2, 1}));
    std::mt19937 random{1};
    for (int i = 0; i < 20'000; ++i) {
        std::string s(random() % 12, ' ');
        for (auto& c : s) c = static_cast<char>(random());
        auto const m = measure(s);
        EXPECT_EQ(m.bytes, s.size());
        EXPECT_LE(m.ascii + m.other, s.size());
        EXPECT_LE(expected_tokens(m), token_bound(m) + m.cjk);
    }
}

TEST(llm_estimate, expects_by_script_and_is_never_above_a_token_a_byte) {
    EXPECT_EQ(expected_tokens(measure("hello world!")), 4U + 4U + 3U);
    EXPECT_EQ(expected_tokens(measure("你好世界")), 4U + 4U + 3U);
    EXPECT_EQ(token_bound(measure("hello world!")), 12U + 14U);
    static_assert(expected_tokens(measure("abc")) == 8);
}

TEST(llm_quantile, a_bucket_is_less_than_an_eighth_wide_and_holds_what_falls_into_it) {
    using q = running_quantile<>;
    std::mt19937_64 random{2};
    for (int i = 0; i < 100'000; ++i) {
        std::uint64_t const x = random() >> (24 + random() % 40);
        auto const b = q::bucket_of(x);
        EXPECT_GE(q::upper_end(b), x);
        EXPECT_LE((q::upper_end(b) - x) * 8, x);
        if (b != 0) {
            EXPECT_LT(q::upper_end(b - 1), x);
        }
    }
    EXPECT_EQ(q::bucket_of(std::numeric_limits<std::uint64_t>::max()), q::bucket_of(std::uint64_t{1} << 40U));
}

TEST(llm_quantile, is_the_exact_one_less_than_an_eighth_above) {
    std::mt19937_64 random{3};
    for (int round = 0; round < 50; ++round) {
        running_quantile<> q;
        std::vector<std::uint64_t> all;
        auto const n = 1 + random() % 2000;
        for (std::uint64_t i = 0; i < n; ++i) {
            all.push_back(random() % (1 + static_cast<unsigned>(round) * 500U));
            q.add(all.back());
        }
        std::sort(all.begin(), all.end());
        for (std::uint32_t p : {1U, 50U, 90U, 99U, 100U}) {
            auto const exact = all[static_cast<std::size_t>((n * p + 99) / 100 - 1)];
            EXPECT_GE(q.at(p, 100), exact);
            EXPECT_LE((q.at(p, 100) - exact) * 8, exact);
        }
    }
    EXPECT_EQ(running_quantile<>{}.at(1, 2), 0U);
}

TEST(llm_quantile, forgets_the_past_by_and_by) {
    running_quantile<> q;
    for (int i = 0; i < 2000; ++i) q.add(10'000);
    for (int i = 0; i < 20'000; ++i) q.add(10);
    EXPECT_EQ(q.at(99, 100), 10U);
    EXPECT_LT(q.size(), running_quantile<>::memory);
}

TEST(llm_quantile, what_was_seen_once_is_forgotten_too_and_not_at_once) {
    running_quantile<> q;
    for (std::uint32_t i = 0; i + 2 < running_quantile<>::memory; ++i) q.add(10);
    q.add(1'000'000);
    q.add(10);
    EXPECT_LT(q.size(), running_quantile<>::memory / 2 + 2);  // halved
    EXPECT_GE(q.at(1, 1), 1'000'000U);
    for (std::uint32_t i = 0; i < running_quantile<>::memory; ++i) q.add(10);
    EXPECT_EQ(q.at(1, 1), 10U);
}

TEST(llm_quantile, threads_lose_no_observation) {
    running_quantile<> q;
    hammer::on_threads(4, [&] {
        for (std::uint64_t i = 0; i < 500; ++i) q.add(i);
    });
    EXPECT_EQ(q.size(), 2000U);
}

TEST(llm_estimator, is_on_the_safe_side_before_it_has_learnt) {
    token_estimator<> e{{}, 777};
    auto const s = measure("hello world!");
    EXPECT_EQ(e.input(s).bound, token_bound(s));
    EXPECT_EQ(e.input(s).expected, expected_tokens(s));
    EXPECT_EQ(e.output(std::nullopt), 777U);
    EXPECT_EQ(e.output(50), 50U);
}

TEST(llm_estimator, learns_what_texts_cost_and_how_long_answers_get) {
    token_estimator<> e;
    std::mt19937_64 random{5};
    std::uint64_t charged = 0, used = 0, above = 0;
    for (int i = 0; i < 5000; ++i) {
        auto const s = measure(std::string(static_cast<std::size_t>(200 + random() % 3000), 'x'));
        std::uint64_t const actual = s.bytes / 4 + s.bytes * (random() % 20) / 400 + 7;  // 4 to 3.3 characters a token
        auto const guess = e.input(s);
        if (i > 100) {
            charged += guess.bound;
            used += actual;
            above += actual > guess.bound ? 1 : 0;
        }
        e.learn(s, {.input = actual, .output = 100 + random() % 100});
    }
    EXPECT_EQ(above, 0U);
    EXPECT_LT(charged * 100, used * 190);  // a token a byte would be 360
    EXPECT_GE(e.output(std::nullopt), 195U);
    EXPECT_LE(e.output(std::nullopt), 225U);
}

TEST(llm_estimator, recovers_from_a_misjudgement_of_ten_times) {
    token_estimator<> e;
    auto const s = measure(std::string(300, 'x'));
    for (int i = 0; i < 3000; ++i) e.learn(s, {.input = 80, .output = 50});
    for (int i = 0; i < 100; ++i) e.learn(s, {.input = 80, .output = 500});
    EXPECT_GE(e.output(std::nullopt), 500U);
    for (int i = 0; i < 20'000; ++i) e.learn(s, {.input = 80, .output = 50});
    EXPECT_LE(e.output(std::nullopt), 60U);
}

TEST(llm_estimator, failures_teach_nothing) {
    token_estimator<> e;
    for (int i = 0; i < 100; ++i) e.learn(measure("hello"), {.input = 0, .output = 0});
    EXPECT_EQ(e.output(std::nullopt), 1024U);
    e.learn(measure("hello"), {.input = std::numeric_limits<std::uint64_t>::max()});
    EXPECT_EQ(e.input(measure("hello")).bound, token_bound(measure("hello")));
}

TEST(llm_estimate, weights_what_is_cached_and_counts_pictures) {
    EXPECT_EQ(weighted({.input = 1000, .output = 200}, 400, 0, {.cached = 100}), (tokens{.input = 640, .output = 200}));
    EXPECT_EQ(weighted({.input = 1000, .output = 200}, 4000, 0, {.cached = 0}), (tokens{.input = 0, .output = 200}));
    EXPECT_EQ(weighted({.input = 10, .output = 1}, 0, 3, {.output = 1500, .per_image = 258}),
              (tokens{.input = 784, .output = 2}));
    EXPECT_EQ(weighted({.input = std::numeric_limits<std::uint64_t>::max()}, 0, 1, {.input = 2000}).input,
              std::numeric_limits<std::uint64_t>::max());
}

}  // namespace estimate_test
