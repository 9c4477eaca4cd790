// SPDX-License-Identifier: MIT
#include <weir/clock/clock.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <ratio>
#include <type_traits>

namespace clock_test {

using namespace std::chrono_literals;
using weir::detail::clock_box;
using weir::detail::saturating_add;
using weir::detail::saturating_sub;

struct with_state {
    using duration = std::chrono::microseconds;
    using time_point = std::chrono::time_point<with_state, duration>;
    duration at{};
    time_point now() const { return time_point{at}; }
    duration resolution() const noexcept { return 5us; }
};

struct cannot_be_read_when_const : with_state {
    time_point now() { return {}; }
};

struct without_now {
    using duration = std::chrono::seconds;
    using time_point = std::chrono::time_point<without_now>;
};

template <class Rep>
struct counted_in {
    using duration = std::chrono::duration<Rep, std::milli>;
    using time_point = std::chrono::time_point<counted_in, duration>;
    static time_point now() { return {}; }
};

TEST(clock, is_any_clock_of_the_standard_or_an_object_with_now) {
    static_assert(weir::clock<std::chrono::steady_clock>);
    static_assert(weir::clock<std::chrono::system_clock>);
    static_assert(weir::clock<with_state>);
    static_assert(weir::clock<with_state&>);
    static_assert(weir::clock<with_state const&>);
    static_assert(!weir::clock<counted_in<std::int32_t>>, "32 bits of its ticks do not hold 30 years");
}

TEST(clock, must_be_readable_when_const_and_count_in_signed_integers) {
    static_assert(!weir::clock<without_now>);
    static_assert(!weir::clock<cannot_be_read_when_const>);
    static_assert(!weir::clock<counted_in<double>>);
    static_assert(!weir::clock<counted_in<std::uint64_t>>);
    static_assert(!weir::clock<int>);
}

TEST(clock, has_the_resolution_that_it_states_or_one_tick) {
    EXPECT_EQ(weir::resolution_of(with_state{}), 5us);
    EXPECT_EQ(weir::resolution_of(counted_in<std::int64_t>{}), 1ms);
}

TEST(clock_box, owns_a_value) {
    with_state clock{3us};
    clock_box<with_state> const box{clock};
    clock.at = 7us;
    EXPECT_EQ(box.get().now().time_since_epoch(), 3us);
}

TEST(clock_box, refers_to_an_lvalue) {
    with_state clock{3us};
    clock_box<with_state&> const box{clock};
    clock.at = 7us;
    EXPECT_EQ(box.get().now().time_since_epoch(), 7us);
    EXPECT_EQ(&box.get(), &clock);
    clock_box<with_state const&> const constant{clock};
    EXPECT_EQ(&constant.get(), &clock);
}

TEST(clock_box, resolution_is_that_of_the_clock_among_the_arguments) {
    with_state clock;
    EXPECT_EQ(weir::detail::resolution_among<with_state>(1, clock), 5us);
    EXPECT_EQ(weir::detail::resolution_among<with_state&>(1, std::ref(clock)), 5us);
    EXPECT_EQ(weir::detail::resolution_among<with_state>(1), 5us);
    EXPECT_EQ(weir::detail::resolution_among<with_state&>(1), 1us);
}

TEST(clock_box, takes_no_room_for_a_clock_without_state) {
    struct holder {
        [[no_unique_address]] clock_box<std::chrono::steady_clock> clock;
        std::int64_t x;
    };
    static_assert(sizeof(holder) == sizeof(std::int64_t));
    static_assert(std::is_default_constructible_v<clock_box<std::chrono::steady_clock>>);
    static_assert(!std::is_default_constructible_v<clock_box<with_state&>>);
}

TEST(clock, ticks_since_its_epoch_are_counted_in_its_unit) {
    EXPECT_EQ(weir::detail::ticks(with_state::time_point{3ms}), 3000);
    EXPECT_EQ(weir::detail::ticks(with_state::time_point{-3us}), -3);
}

TEST(saturating, a_duration_is_rounded_up_and_clamped) {
    using weir::detail::saturating_ceil;
    using ns = std::chrono::nanoseconds;
    static_assert(saturating_ceil<ns>(3s) == 3s);
    static_assert(saturating_ceil<ns>(0.5s) == 500ms);
    static_assert(saturating_ceil<ns>(std::chrono::duration<std::int64_t, std::pico>{1}) == 1ns);
    static_assert(saturating_ceil<ns>(std::chrono::duration<std::int64_t, std::pico>{-1999}) == -1ns);
    static_assert(saturating_ceil<ns>(std::chrono::seconds::max()) == ns::max());
    static_assert(saturating_ceil<ns>(std::chrono::hours::max()) == ns::max());
    static_assert(saturating_ceil<ns>(std::chrono::hours{300 * 8766}) == ns::max());
    static_assert(saturating_ceil<ns>(std::chrono::hours::min()) == ns::min());
    static_assert(saturating_ceil<ns>(std::chrono::duration<std::uint64_t>{~std::uint64_t{0}}) == ns::max());
    static_assert(saturating_ceil<ns>(std::chrono::duration<double>{1e300}) == ns::max());
    static_assert(saturating_ceil<ns>(std::chrono::duration<double>{-1e300}) == ns::min());
    static_assert(saturating_ceil<ns>(std::chrono::duration<double>{std::numeric_limits<double>::quiet_NaN()}) == 0ns);
    static_assert(saturating_ceil<std::chrono::seconds>(1ms) == 1s);
}

TEST(saturating, any_duration_takes_every_duration_and_is_one) {
    weir::any_duration<> d = 0.5s;
    EXPECT_EQ(d, 500ms);
    d = std::chrono::hours::max();
    EXPECT_EQ(d, std::chrono::nanoseconds::max());
    EXPECT_EQ(weir::any_duration<>{}, 0ns);
    static_assert(std::is_convertible_v<std::chrono::duration<float>, weir::any_duration<std::chrono::seconds>>);
    static_assert(!std::is_convertible_v<int, weir::any_duration<>>, "a number has no unit");
    std::chrono::nanoseconds const n = d;
    EXPECT_EQ(n.count(), d.count());
}

TEST(saturating, adds_and_subtracts_where_there_is_room) {
    EXPECT_EQ(saturating_add(2, 3), 5);
    EXPECT_EQ(saturating_sub(2, 3), -1);
}

TEST(saturating, stops_at_the_ends_of_the_type) {
    constexpr auto min = std::numeric_limits<std::int64_t>::min();
    constexpr auto max = std::numeric_limits<std::int64_t>::max();
    static_assert(saturating_add(max, 1) == max);
    static_assert(saturating_add(max, max) == max);
    static_assert(saturating_add(min, -1) == min);
    static_assert(saturating_add(min, min) == min);
    static_assert(saturating_add(max, min) == -1);
    static_assert(saturating_sub(min, 1) == min);
    static_assert(saturating_sub(max, -1) == max);
    static_assert(saturating_sub(0, min) == max);
    static_assert(saturating_sub(-1, min) == max);
    static_assert(saturating_sub(min, max) == min);
    static_assert(saturating_sub(min, min) == 0);
}

}  // namespace clock_test
