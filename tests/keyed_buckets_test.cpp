// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/http_fields.hpp>
#include <weir/keyed_buckets.hpp>

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace keyed_buckets_test {

using namespace std::chrono_literals;
using weir::full_set;
using weir::plan;
using weir::plan_id;
using weir::rate;
using buckets = weir::keyed_buckets<weir::manual_clock&>;

constexpr plan ten_a_second{rate{10, 1s}, 20};

struct fixture : testing::Test {
    weir::manual_clock clock;
    buckets b{{.capacity = 1000}, ten_a_second, clock};
};
using keyed_buckets = fixture;

/// One set; the hash of an integer is the integer, so that a test chooses the fingerprint.
struct plain_hash {
    std::uint64_t operator()(std::uint64_t word) const noexcept { return word; }
    std::uint64_t operator()(std::span<std::byte const> bytes) const noexcept { return bytes.size(); }
};
using one_set = weir::keyed_buckets<weir::manual_clock&, plain_hash>;

TEST_F(keyed_buckets, each_key_has_a_bucket_of_its_own) {
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(b.try_acquire("a"));
    EXPECT_FALSE(b.try_acquire("a"));
    EXPECT_TRUE(b.try_acquire("b", 20));
    clock.advance(100ms);
    EXPECT_TRUE(b.try_acquire("a"));
    EXPECT_FALSE(b.try_acquire("a"));
}

TEST_F(keyed_buckets, a_denial_says_when_to_ask_again) {
    EXPECT_TRUE(b.try_acquire("a", 20));
    auto const d = b.try_acquire("a", 3);
    ASSERT_FALSE(d);
    EXPECT_FALSE(d.never());
    EXPECT_EQ(d.retry_after(), 300ms);
    EXPECT_EQ(d.retry_after_seconds(), 1);
    EXPECT_EQ(d.remaining(), 0U);
    EXPECT_EQ(d.full_at(), clock.now() + 2s);
    clock.advance(300ms - 1ns);
    EXPECT_FALSE(b.try_acquire("a", 3));
    clock.advance(1ns);
    EXPECT_TRUE(b.try_acquire("a", 3));
}

TEST_F(keyed_buckets, a_decision_makes_its_own_http_fields) {
    EXPECT_TRUE(b.try_acquire("a", 19));
    std::string text;
    for (auto const [name, value] : weir::rate_limit_fields(b.try_acquire("a", 2), "ip")) {
        text += std::string{name} + ": " + value + "\n";
    }
    EXPECT_EQ(text, "RateLimit-Policy: \"ip\";q=20;w=2\nRateLimit: \"ip\";r=1;t=2\nRetry-After: 1\n");
}

TEST_F(keyed_buckets, more_than_the_burst_is_never_granted) {
    auto const d = b.try_acquire("a", 21);
    EXPECT_TRUE(d.never());
    EXPECT_EQ(d.error().code(), weir::errc::does_not_fit);
    EXPECT_EQ(d.retry_at(), weir::manual_clock::time_point::max());
    int const negative = -1;
    EXPECT_EQ(b.try_acquire("a", negative).error().code(), weir::errc::invalid_argument);
    EXPECT_EQ(b.available("a"), 20U);
}

TEST_F(keyed_buckets, no_permits_are_granted_and_take_no_slot) {
    EXPECT_TRUE(b.try_acquire("a", 0));
    EXPECT_EQ(b.live(), 0U);
    EXPECT_TRUE(b.try_acquire("a", 20));
    EXPECT_TRUE(b.try_acquire("a", 0));
}

TEST_F(keyed_buckets, check_answers_and_takes_nothing) {
    EXPECT_TRUE(b.check("a", 20));
    EXPECT_TRUE(b.try_acquire("a", 20));
    EXPECT_FALSE(b.check("a"));
    EXPECT_EQ(b.check("a", {}, 1, clock.now() + 100ms).remaining(), 0U);
    EXPECT_EQ(b.available("a", {}, clock.now() + 500ms), 5U);
}

TEST_F(keyed_buckets, keys_are_text_bytes_integers_and_hashes) {
    std::array<std::byte, 2> const bytes{std::byte{'x'}, std::byte{'y'}};
    EXPECT_TRUE(b.try_acquire(std::string{"xy"}, 20));
    EXPECT_FALSE(b.try_acquire(std::string_view{"xy"}));
    EXPECT_FALSE(b.try_acquire(bytes));
    EXPECT_FALSE(b.try_acquire(b.hash("xy")));
    EXPECT_TRUE(b.try_acquire(std::uint8_t{7}, 20));
    EXPECT_FALSE(b.try_acquire(std::int64_t{7}));
    EXPECT_TRUE(b.try_acquire("", 20));
    EXPECT_FALSE(b.try_acquire(std::string_view{}));
}

TEST_F(keyed_buckets, a_plan_is_named_by_each_attempt_and_changes_in_use) {
    constexpr plan_id pro{5};
    EXPECT_TRUE(b.try_acquire("a", pro, 1).never());
    EXPECT_EQ(b.try_acquire("a", pro, 1).error().code(), weir::errc::invalid_argument);
    ASSERT_FALSE(b.set_plan(pro, {rate{100, 1s}, 200}));
    EXPECT_TRUE(b.try_acquire("a", pro, 200));
    EXPECT_FALSE(b.try_acquire("a", pro));
    clock.advance(10ms);
    EXPECT_TRUE(b.try_acquire("a", pro));
    EXPECT_EQ(b.try_acquire("a", pro).limits().burst, 200U);
    // A debt of two seconds stays one.
    ASSERT_FALSE(b.change({rate{1, 1s}, 3}));
    EXPECT_EQ(b.available("a"), 1U);
    EXPECT_TRUE(b.set_plan(plan_id{64}, ten_a_second));
    EXPECT_TRUE(b.try_acquire("a", plan_id{64}).never());
}

TEST_F(keyed_buckets, a_refund_gives_back_the_last_charge_of_the_key) {
    auto first = b.try_acquire("a", 5);
    auto second = b.try_acquire("a", 7);
    EXPECT_EQ(b.refund(first), 0U);  // not the last
    EXPECT_EQ(b.available("a"), 8U);
    EXPECT_EQ(b.refund(second, 3), 3U);
    EXPECT_EQ(b.available("a"), 11U);
    EXPECT_EQ(b.refund(second), 4U);
    EXPECT_EQ(b.refund(second), 0U);
    EXPECT_EQ(b.available("a"), 15U);
    auto inserted = b.try_acquire("b", 20);
    EXPECT_EQ(b.refund(inserted), 20U);
    EXPECT_TRUE(b.try_acquire("b", 20));
}

TEST_F(keyed_buckets, a_decision_of_another_table_gives_nothing_back) {
    buckets other{{.capacity = 10}, ten_a_second, clock};
    auto d = other.try_acquire("a");
    EXPECT_EQ(b.refund(d), 0U);
    EXPECT_EQ(other.refund(d), 1U);
}

TEST_F(keyed_buckets, settle_corrects_a_grant_once) {
    auto d = b.try_acquire("a", 5);
    EXPECT_TRUE(b.settle("a", d, 2));
    EXPECT_EQ(b.available("a"), 18U);
    EXPECT_FALSE(b.settle("a", d, 2));
    auto more = b.try_acquire("a", 5);
    EXPECT_TRUE(b.settle("a", more, 20));
    EXPECT_EQ(b.available("a"), 0U);
    EXPECT_EQ(b.try_acquire("a").retry_after(), 300ms);
}

TEST_F(keyed_buckets, a_charge_is_debt) {
    EXPECT_TRUE(b.charge("a", {}, 25));
    EXPECT_EQ(b.try_acquire("a").retry_after(), 600ms);
    EXPECT_FALSE(b.charge("a", plan_id{9}, 1));
    int const negative = -1;
    EXPECT_FALSE(b.charge("a", {}, negative));
    EXPECT_TRUE(b.charge("b", {}, std::numeric_limits<std::int64_t>::max()));
    EXPECT_LE(b.try_acquire("b").retry_after(), 70s);  // 2^34 ticks of 4 ns
}

TEST_F(keyed_buckets, a_reservation_books_ahead) {
    EXPECT_EQ(b.reserve("a", {}, 20, 1s).starts_at(), clock.now());
    auto later = b.reserve("a", {}, 5, 1s);
    ASSERT_TRUE(later);
    EXPECT_EQ(later.starts_at(), clock.now() + 500ms);
    auto const no = b.reserve("a", {}, 10, 1s);
    EXPECT_FALSE(no);
    EXPECT_EQ(no.retry_after(), 500ms);
    EXPECT_EQ(b.refund(later), 5U);
    EXPECT_TRUE(b.reserve("a", {}, 10, 1s));
}

TEST_F(keyed_buckets, reset_forgets_a_key) {
    EXPECT_FALSE(b.reset("a"));
    auto d = b.try_acquire("a", 20);
    EXPECT_TRUE(b.reset("a"));
    EXPECT_TRUE(b.try_acquire("a", 20));
    EXPECT_EQ(b.refund(d), 0U);
    EXPECT_FALSE(b.try_acquire("a"));
}

TEST_F(keyed_buckets, time_that_goes_back_grants_nothing_twice) {
    clock.advance(1h);
    EXPECT_TRUE(b.try_acquire("a", 20));
    EXPECT_FALSE(b.try_acquire("a", 1, clock.now() - 30min));
    EXPECT_FALSE(b.try_acquire("a", 1, weir::manual_clock::time_point::min()));
    EXPECT_TRUE(b.try_acquire("a", 1, weir::manual_clock::time_point::max()));
}

TEST_F(keyed_buckets, a_set_that_nobody_touched_for_years_is_as_new) {
    EXPECT_TRUE(b.try_acquire("a", 20));
    clock.advance(24h * 365 * 29);
    EXPECT_EQ(b.available("a"), 20U);
    EXPECT_TRUE(b.try_acquire("a", 20));
    EXPECT_FALSE(b.try_acquire("a"));
}

TEST(keyed_buckets_full, a_refusing_set_denies_new_keys_until_a_slot_is_refilled) {
    weir::manual_clock clock;
    one_set b{{.capacity = 1, .when_full = full_set::refuse}, ten_a_second, clock, plain_hash{}};
    EXPECT_EQ(b.capacity(), 14U);
    for (std::uint64_t k = 1; k <= 14; ++k) EXPECT_TRUE(b.try_acquire(k, static_cast<int>(k)));
    auto const d = b.try_acquire(std::uint64_t{15});
    EXPECT_TRUE(!d && d.full() && !d.never());
    EXPECT_EQ(d.retry_after(), 100ms);
    EXPECT_EQ(b.refused(), 1U);
    EXPECT_EQ(b.available(std::uint64_t{15}), 0U);
    EXPECT_FALSE(b.charge(std::uint64_t{15}, {}, 1));
    clock.advance(100ms);
    EXPECT_TRUE(b.try_acquire(std::uint64_t{15}, 20));
    EXPECT_EQ(b.available(std::uint64_t{2}), 19U);
}

TEST(keyed_buckets_full, a_forgetting_set_gives_the_least_debt_to_the_new_key) {
    weir::manual_clock clock;
    one_set b{{.capacity = 1}, ten_a_second, clock, plain_hash{}};
    for (std::uint64_t k = 1; k <= 14; ++k) EXPECT_TRUE(b.try_acquire(k, static_cast<int>(k) + 1));
    EXPECT_TRUE(b.try_acquire(std::uint64_t{15}, 17));
    EXPECT_EQ(b.forgotten(), 1U);
    EXPECT_EQ(b.live(), 14U);
    EXPECT_EQ(b.available(std::uint64_t{15}), 0U);  // and the two that were forgotten
    EXPECT_EQ(b.available(std::uint64_t{2}), 17U);
}

TEST(keyed_buckets_errors, say_what_is_wrong) {
    auto const says = [](weir::keyed_options const& o, plan const& p) {
        return std::string{weir::keyed_buckets<>::validate(o, p).message()};
    };
    EXPECT_EQ(says({}, ten_a_second), "capacity must be at least 1");
    EXPECT_EQ(says({.capacity = 1, .longest = 0s}, ten_a_second), "longest must be positive");
    EXPECT_EQ(says({.capacity = 1}, {rate{1, 1s}, 100}), "a plan's burst must refill within keyed_options::longest");
    EXPECT_EQ(says({.capacity = 1, .longest = 24h}, {rate{100'000, 1s}, 10}),
              "a plan's rate is too high for the ticks of keyed_options::longest");
    EXPECT_NE(says({.capacity = 1}, {rate{1, 1s}, 0}), "");
    EXPECT_EQ(says({.capacity = 1, .longest = 24h}, {rate{100, 24h}, 100}), "");
    EXPECT_EQ(says({.capacity = 1}, {rate{200'000, 1s}, 1000}), "");
    EXPECT_FALSE(weir::keyed_buckets<>::make({}, ten_a_second));
    EXPECT_TRUE(weir::keyed_buckets<>::make({.capacity = 1}, ten_a_second));
    EXPECT_THROW((weir::keyed_buckets{weir::keyed_options{}, ten_a_second}), std::invalid_argument);
}

TEST(keyed_buckets_layout, a_slot_takes_at_most_nine_bytes_and_a_fifth) {
    weir::keyed_buckets b{{.capacity = 1 << 20}, ten_a_second};
    using set = weir::detail::keyed_set<weir::std_atomics>;
    EXPECT_LE(static_cast<double>(b.capacity() / 14 * sizeof(set)) / static_cast<double>(b.capacity()), 9.2);
    static_assert(sizeof(set) == 128 && alignof(set) == 128);
}

}  // namespace keyed_buckets_test
