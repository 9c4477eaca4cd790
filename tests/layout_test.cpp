// SPDX-License-Identifier: MIT
// What objects promise of their layout: nothing on a limiter's lines but itself, decisions that are cheap to return and
// to drop, and sizes. docs/size.md has them all.
#include <weir/llm.hpp>
#include <weir/weir.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace layout_test {

using bucket = weir::token_bucket<>;
using fixed = weir::fixed_token_bucket<>;
using meter = weir::leaky_bucket<>;
using queue = weir::leaky_bucket_queue<>;
using window_log = weir::sliding_window_log<>;
using window_counter = weir::sliding_window_counter<>;
using quota = weir::llm::quota_limiter<>;
using lease = weir::lease<bucket>;
using both = weir::all_of<bucket&, bucket&>;

constexpr std::size_t line = weir::detail::cache_line;
static_assert(line == 64);

/// Whole lines of its own, so that no stranger's writes disturb it, in whatever array it stands; and it stays where it
/// is.
template <class T>
constexpr bool stands_alone =
    alignof(T) >= line && sizeof(T) % line == 0 && !std::copy_constructible<T> && !std::move_constructible<T>;
static_assert(stands_alone<bucket> && stands_alone<fixed> && stands_alone<meter> && stands_alone<queue> &&
              stands_alone<window_log> && stands_alone<window_counter> && stands_alone<quota> && stands_alone<lease> &&
              stands_alone<weir::upper_bound_clock>);

/// Returned by value and dropped in passing: nothing is run for it, and a receipt is in one hand only.
template <class D>
constexpr bool passes = std::is_trivially_destructible_v<D> && std::is_nothrow_move_constructible_v<D> &&
                        std::is_nothrow_move_assignable_v<D> && !std::copy_constructible<D>;
static_assert(passes<bucket::decision> && passes<bucket::reservation> && passes<meter::decision> &&
              passes<queue::decision> && passes<window_log::decision> && passes<window_counter::decision> &&
              passes<weir::detail::window_receipt> && passes<quota::decision> && passes<lease::decision>);

/// Plain values: copied as bytes.
static_assert(std::is_trivially_copyable_v<weir::rate> && std::is_trivially_copyable_v<weir::error> &&
              std::is_trivially_copyable_v<weir::gcra> && std::is_trivially_copyable_v<weir::llm::quota> &&
              std::is_trivially_copyable_v<weir::tsc_clock> && std::is_trivially_copyable_v<weir::backoff>);

/// A clock without state takes no room. approx_mark takes none in the decisions of limiters with other clocks.
struct large_clock : std::chrono::steady_clock {
    std::int64_t state[8] = {};
};
struct beside_a_clock {
    [[no_unique_address]] weir::detail::clock_box<std::chrono::steady_clock> clock;
    std::int64_t word;
};
static_assert(sizeof(beside_a_clock) == sizeof(std::int64_t));
static_assert(sizeof(weir::token_bucket<large_clock>) > sizeof(bucket));
static_assert(std::is_empty_v<weir::detail::approx_mark<std::chrono::steady_clock>>);
static_assert(!std::is_empty_v<weir::detail::approx_mark<weir::upper_bound_clock>>);

// What docs/size.md states; with a clock that is referred to, too.
static_assert(sizeof(bucket) <= 256 && sizeof(weir::token_bucket<weir::upper_bound_clock const&>) <= 256);
static_assert(sizeof(fixed) <= 128);

// Where the words are: a limiter whose words needed a lock would be none of weir's.
static_assert(sizeof(void*) != 8 || std::atomic<std::uint64_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<std::uint64_t>) == sizeof(std::uint64_t));

#define EXPECT_AT_MOST(type, bytes) EXPECT_LE(sizeof(type), static_cast<std::size_t>(bytes)) << #type

TEST(layout, objects_are_no_larger_than_docs_size_says) {
    EXPECT_AT_MOST(bucket, 4 * line);
    EXPECT_AT_MOST(fixed, 2 * line);
    EXPECT_AT_MOST(meter, 4 * line);
    EXPECT_AT_MOST(queue, 4 * line);
    EXPECT_AT_MOST(window_log, 4 * line);
    EXPECT_AT_MOST(window_counter, 4 * line);
    EXPECT_AT_MOST(quota, 26 * line);
    EXPECT_AT_MOST(lease, 4 * line);
    EXPECT_AT_MOST(both, 72);
    EXPECT_AT_MOST(weir::backoff, 56);
}

TEST(layout, decisions_are_no_larger_than_docs_size_says) {
    EXPECT_AT_MOST(bucket::decision, 56);
    EXPECT_AT_MOST(bucket::reservation, 72);
    EXPECT_AT_MOST(meter::decision, 56);
    EXPECT_AT_MOST(queue::decision, 64);
    EXPECT_AT_MOST(window_log::decision, 56);
    EXPECT_AT_MOST(window_counter::decision, 48);
    EXPECT_AT_MOST(quota::decision, 120);
    EXPECT_AT_MOST(lease::decision, 64);
}

TEST(layout, now_approx_reads_one_cache_line) { EXPECT_EQ(sizeof(weir::upper_bound_clock), line); }

TEST(layout, decisions_of_glancing_clocks_are_no_larger_than_the_others) {
    EXPECT_EQ(sizeof(weir::token_bucket<weir::upper_bound_clock const&>::decision), sizeof(bucket::decision));
    EXPECT_EQ(sizeof(weir::sliding_window_log<weir::upper_bound_clock const&>::decision), sizeof(window_log::decision));
    EXPECT_EQ(sizeof(weir::sliding_window_counter<weir::upper_bound_clock const&>::decision),
              sizeof(window_counter::decision));
}

}  // namespace layout_test
