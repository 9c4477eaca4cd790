// SPDX-License-Identifier: MIT
#include <weir/limiter.hpp>

#include <gtest/gtest.h>

#include <weir/clock/manual_clock.hpp>
#include <weir/leaky_bucket.hpp>
#include <weir/leaky_bucket_queue.hpp>
#include <weir/token_bucket.hpp>

#include <chrono>
#include <limits>
#include <type_traits>

namespace {

using namespace std::chrono_literals;

template <class L>
constexpr bool is_one() {
    using decision = typename L::decision;
    return weir::old_limiter<L> && weir::old_decision<decision> && !std::is_copy_constructible_v<decision> &&
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
    static_assert(!weir::old_limiter<int>);
    static_assert(!weir::old_decision<bool>);
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

TEST(start, says_how_much_there_is) {
    static_assert(weir::start{}.available == weir::all_permits);
    static_assert(weir::start::full().available == weir::start{}.available);
    static_assert(weir::start::empty().available == 0);
    static_assert(weir::start::with(5).available == 5);
}

}  // namespace
