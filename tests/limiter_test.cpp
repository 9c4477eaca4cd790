// SPDX-License-Identifier: MIT
#include <weir/limiter.hpp>

#include <gtest/gtest.h>

#include <weir/all_of.hpp>
#include <weir/client/ramp.hpp>
#include <weir/client/retry_budget.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/fixed_token_bucket.hpp>
#include <weir/keyed_buckets.hpp>
#include <weir/leaky_bucket.hpp>
#include <weir/leaky_bucket_queue.hpp>
#include <weir/lease.hpp>
#include <weir/llm/quota.hpp>
#include <weir/llm/session_options.hpp>
#include <weir/sliding_window_counter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <type_traits>

namespace limiter_test {

using namespace std::chrono_literals;

template <class L>
constexpr bool is_one() {
    using decision = typename L::decision;
    return weir::limiter<L> && weir::decision<decision> && !std::is_copy_constructible_v<decision> &&
           std::is_nothrow_move_constructible_v<decision> && std::is_nothrow_move_assignable_v<decision> &&
           !std::is_copy_constructible_v<L> && !std::is_move_constructible_v<L> &&
           alignof(L) == weir::detail::cache_line && !std::is_convertible_v<decision, bool> &&
           !std::is_convertible_v<decision, int>;
}
template <template <class, class> class L>
constexpr bool all_are() {
    return is_one<L<std::chrono::steady_clock, weir::std_atomics>>() &&
           is_one<L<std::chrono::system_clock, weir::unsynchronized>>() &&
           is_one<L<weir::manual_clock&, weir::std_atomics>>() &&
           is_one<L<weir::manual_clock const&, weir::unsynchronized>>();
}

TEST(limiter, is_what_every_bucket_is) {
    static_assert(all_are<weir::token_bucket>());
    static_assert(all_are<weir::leaky_bucket>());
    static_assert(all_are<weir::leaky_bucket_queue>());
    static_assert(!weir::limiter<int>);
    static_assert(!weir::decision<bool>);
}

TEST(limiter, is_found_without_angle_brackets_whatever_the_clock) {
    weir::manual_clock clock;
    weir::manual_clock const& const_clock = clock;
    weir::token_bucket a{weir::rate{1, 1s}, 1};
    weir::token_bucket b{weir::rate{1, 1s}, 1, {.initial = 0}};
    weir::token_bucket c{weir::rate{1, 1s}, 1, std::ref(clock)};
    weir::token_bucket d{weir::rate{1, 1s}, 1, std::ref(const_clock)};
    weir::token_bucket e{weir::rate{1, 1s}, 1, {.initial = 1}, std::chrono::system_clock{}};
    weir::leaky_bucket f{weir::rate{1, 1s}, 1, std::ref(clock)};
    weir::leaky_bucket_queue g{weir::rate{1, 1s}, 1, std::ref(clock)};
    static_assert(std::is_same_v<decltype(a), weir::token_bucket<std::chrono::steady_clock>>);
    static_assert(std::is_same_v<decltype(b), decltype(a)>);
    static_assert(std::is_same_v<decltype(c), weir::token_bucket<weir::manual_clock&>>);
    static_assert(std::is_same_v<decltype(d), weir::token_bucket<weir::manual_clock const&>>);
    static_assert(std::is_same_v<decltype(e), weir::token_bucket<std::chrono::system_clock>>);
    static_assert(std::is_same_v<decltype(f), weir::leaky_bucket<weir::manual_clock&>>);
    static_assert(std::is_same_v<decltype(g), weir::leaky_bucket_queue<weir::manual_clock&>>);
    EXPECT_EQ(&c.clock(), &clock);
}

TEST(permit_count, takes_any_integer_and_nothing_else) {
    static_assert(weir::permit_count{5} == 5U && weir::permit_count{std::uint8_t{200}} == 200U);
    static_assert(weir::permit_count{std::int64_t{7}} == 7U && weir::permit_count{7ULL} == 7U);
    static_assert(!std::is_convertible_v<double, weir::permit_count> &&
                  !std::is_convertible_v<float, weir::permit_count>);
    static_assert(!std::is_convertible_v<bool, weir::permit_count>);
    static_assert(!std::is_convertible_v<std::chrono::seconds, weir::permit_count>);
}

TEST(permit_count, is_invalid_when_it_was_negative) {
    volatile int debt = -1;
    weir::permit_count const n{int{debt}};
    EXPECT_TRUE(n.invalid());
    EXPECT_FALSE(weir::permit_count{weir::all_permits}.invalid());
}

template <class Limiter>
void refuses_what_no_one_can_mean(Limiter& l) {
    int const negative = -1;
    auto const before = l.available();
    auto d = l.try_acquire(negative);
    EXPECT_FALSE(d);
    EXPECT_TRUE(d.never());
    EXPECT_EQ(d.error(), weir::errc::invalid_argument);
    EXPECT_EQ(l.check(negative).error(), weir::errc::invalid_argument);
    auto too_many = l.try_acquire(weir::all_permits);
    EXPECT_TRUE(too_many.never());
    EXPECT_EQ(too_many.error(), weir::errc::does_not_fit);
    EXPECT_EQ(too_many.retry_after_seconds(), 30 * 31'557'600LL);
    auto granted = l.try_acquire(2);
    EXPECT_TRUE(granted);
    EXPECT_EQ(granted.error(), weir::errc::none);
    EXPECT_EQ(granted.retry_after_seconds(), 0);
    EXPECT_EQ(l.refund(granted, negative), 0U);
    EXPECT_FALSE(l.settle(granted, negative));
    EXPECT_EQ(l.refund(granted), 2U);
    EXPECT_EQ(l.available(), before);
    EXPECT_EQ(l.change(l.limits()), weir::errc::none);
    EXPECT_EQ(l.available(), before);
}

TEST(limiter, refuses_what_no_one_can_mean_and_loses_nothing) {
    weir::manual_clock clock;
    weir::token_bucket bucket{weir::rate{1, 1s}, 5, std::ref(clock)};
    weir::leaky_bucket leaky{weir::rate{1, 1s}, 5, std::ref(clock)};
    weir::leaky_bucket_queue queue{weir::rate{1, 1s}, 5, std::ref(clock)};
    weir::sliding_window_log log{5, 1s, std::ref(clock)};
    weir::sliding_window_counter counter{5, 1s, std::ref(clock)};
    weir::all_of both{bucket, counter};
    {
        SCOPED_TRACE("token_bucket");
        refuses_what_no_one_can_mean(bucket);
    }
    {
        SCOPED_TRACE("leaky_bucket");
        refuses_what_no_one_can_mean(leaky);
    }
    {
        SCOPED_TRACE("leaky_bucket_queue");
        refuses_what_no_one_can_mean(queue);
    }
    {
        SCOPED_TRACE("sliding_window_log");
        refuses_what_no_one_can_mean(log);
    }
    {
        SCOPED_TRACE("sliding_window_counter");
        refuses_what_no_one_can_mean(counter);
    }
    {
        SCOPED_TRACE("all_of");
        refuses_what_no_one_can_mean(both);
    }
}

// What is never granted has the longest wait, also at the end of the clock, where a grant is one.
template <class L>
void at_the_end_of_the_clock(L& l) {
    auto const end = (L::time_point::max)();
    auto const never = l.try_acquire(1'000'000, end);
    EXPECT_TRUE(never.never());
    EXPECT_EQ(never.retry_at(), end);
    EXPECT_GT(never.retry_after_seconds(), 900'000'000);
    EXPECT_TRUE(never.error());
    auto const granted = l.try_acquire(1, end);
    ASSERT_TRUE(granted);
    EXPECT_FALSE(granted.never());
    EXPECT_EQ(granted.retry_at(), end);
    EXPECT_EQ(granted.retry_after_seconds(), 0);
    EXPECT_EQ(granted.full_at(), end);
}

TEST(limiter, answers_at_the_end_of_the_clock_as_before) {
    weir::manual_clock clock;
    weir::token_bucket a{weir::rate{1, 1s}, 5, std::ref(clock)};
    weir::fixed_token_bucket b{weir::rate{1, 1s}, 5, std::ref(clock)};
    weir::leaky_bucket c{weir::rate{1, 1s}, 5, std::ref(clock)};
    weir::leaky_bucket_queue d{weir::rate{1, 1s}, 5, std::ref(clock)};
    weir::sliding_window_log e{5, 1s, std::ref(clock)};
    weir::sliding_window_counter f{5, 1s, std::ref(clock)};
    weir::token_bucket first{weir::rate{1, 1s}, 5, std::ref(clock)};
    weir::sliding_window_log second{5, 1s, std::ref(clock)};
    weir::all_of g{first, second};
    weir::ramp<weir::manual_clock&> h{{}, clock};
    at_the_end_of_the_clock(a);
    at_the_end_of_the_clock(b);
    at_the_end_of_the_clock(c);
    at_the_end_of_the_clock(d);
    at_the_end_of_the_clock(e);
    at_the_end_of_the_clock(f);
    at_the_end_of_the_clock(g);
    at_the_end_of_the_clock(h);
    auto const again = h.try_acquire(1, weir::manual_clock::time_point::max());
    EXPECT_EQ(again.retry_at(), weir::manual_clock::time_point::max());
}

// A number that is counted takes no half, a time takes any duration.
TEST(limiter, options_take_whole_numbers_and_any_duration) {
    static_assert(!std::is_convertible_v<double, decltype(weir::counter_options::segments)>);
    static_assert(!std::is_convertible_v<double, decltype(weir::keyed_options::capacity)>);
    static_assert(!std::is_convertible_v<double, decltype(weir::retry_budget_options::retries)>);
    static_assert(!std::is_convertible_v<double, decltype(weir::retry_budget_options::max_saved)>);
    static_assert(!std::is_convertible_v<double, decltype(weir::ramp_options::memory)>);
    static_assert(!std::is_convertible_v<double, decltype(weir::ramp_options::growth)>);
    static_assert(!std::is_convertible_v<double, decltype(weir::llm::session_options::default_output)>);
    EXPECT_EQ(weir::llm::quota_options{.jitter = 0.01s}.jitter, 10ms);
    EXPECT_EQ(weir::llm::quota_options{.server_timeout = std::chrono::hours::max()}.server_timeout,
              std::chrono::nanoseconds::max());
    EXPECT_EQ(weir::lease_options{.age = 0.5s}.age, 500ms);
    EXPECT_EQ(weir::llm::session_options{.timeout = 0.5s}.timeout, 500ms);
    EXPECT_TRUE(weir::retry_budget<>::validate({.retries = std::uint64_t{1} << 32U}));
    EXPECT_TRUE(weir::ramp<>::validate({.growth = std::uint64_t{1} << 40U}));
    EXPECT_TRUE(weir::sliding_window_counter<>::validate(5, 1s, {.segments = std::uint64_t{1} << 40U}));
}

}  // namespace limiter_test
