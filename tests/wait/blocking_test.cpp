// SPDX-License-Identifier: MIT
// The blocking verbs of every limiter, driven by a clock that stands still until it is moved.
#include <weir/all_of.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/leaky_bucket.hpp>
#include <weir/lease.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/sliding_window_counter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/stop_token.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <limits>
#include <ratio>
#include <type_traits>
#include <utility>

#include "../support/manual_loop.hpp"

namespace blocking_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::rate;
using time_point = manual_clock::time_point;

using bucket_type = weir::token_bucket<manual_clock&>;

// One permit a second, ten at most, none at first.
class blocking : public testing::Test {
protected:
    blocking() { static_cast<void>(bucket.try_acquire(10)); }

    // What `wait` returns on another thread, after that has slept and the clock has gone forward by each of `steps`.
    template <class Wait, class... Steps>
    auto after(Wait wait, Steps... steps) {
        auto answer = std::async(std::launch::async, wait);
        auto const step = [&](manual_clock::duration d) {
            clock.wait_for_sleepers(1);
            clock.advance(d);
        };
        (step(steps), ...);
        return answer.get();
    }

    manual_clock clock;
    bucket_type bucket{rate{1, 1s}, 10, clock};
};

TEST_F(blocking, acquire_sleeps_until_the_permits_are_there) {
    auto const d = after([&] { return bucket.acquire(3); }, 3s);
    EXPECT_TRUE(d.granted());
    EXPECT_EQ(clock.now(), time_point{3s});
    EXPECT_EQ(bucket.available(), 0U);
}
TEST_F(blocking, acquire_without_a_count_takes_one_and_may_be_dropped) {
    after(
        [&] {
            bucket.acquire();
            return true;
        },
        1s);
    EXPECT_EQ(clock.now(), time_point{1s});
    EXPECT_EQ(bucket.available(), 0U);
}
TEST_F(blocking, the_grant_of_acquire_can_be_refunded) {
    clock.advance(1s);
    auto d = bucket.acquire();
    EXPECT_EQ(bucket.available(), 0U);
    bucket.refund(d);
    EXPECT_EQ(bucket.available(), 1U);
}
TEST_F(blocking, acquire_tries_again_when_another_thread_was_faster) {
    auto answer = std::async(std::launch::async, [&] { return bucket.acquire(3); });
    clock.wait_for_sleepers(1);
    EXPECT_TRUE(
        bucket.try_acquire(1, time_point{1s}).granted());  // from the future, as another thread could have taken it
    clock.advance(3s);
    clock.wait_for_sleepers(1);
    clock.advance(1s);
    EXPECT_TRUE(answer.get().granted());
    EXPECT_EQ(clock.now(), time_point{4s});
}
TEST_F(blocking, more_than_the_limiter_can_grant_is_denied_at_once) {
    EXPECT_TRUE(bucket.acquire(11).never());
    EXPECT_TRUE(bucket.try_acquire_for(11, 1h).never());
    EXPECT_TRUE(bucket.try_acquire_until(11, time_point::max()).never());
}
TEST_F(blocking, a_wait_that_cannot_end_in_time_is_denied_at_once) {
    EXPECT_FALSE(bucket.try_acquire_for(3, 2999ms));
    EXPECT_FALSE(bucket.try_acquire_until(3, time_point{2s}));
    EXPECT_FALSE(bucket.try_acquire_for(1, 0s));
    EXPECT_FALSE(bucket.try_acquire_for(1, -1s));
    EXPECT_FALSE(bucket.try_acquire_for(1, std::chrono::nanoseconds::min()));
    EXPECT_FALSE(bucket.try_acquire_until(1, time_point::min()));
    EXPECT_EQ(clock.now(), time_point{});
}
TEST_F(blocking, a_wait_that_ends_with_its_deadline_is_granted) {
    EXPECT_TRUE(after([&] { return bucket.try_acquire_for(3, 3s); }, 3s).granted());
    EXPECT_TRUE(after([&] { return bucket.try_acquire_until(1, time_point{4s}); }, 1s).granted());
}
TEST_F(blocking, a_wait_takes_a_duration_of_any_kind) {
    EXPECT_TRUE(after([&] { return bucket.try_acquire_for(1, 1.5s); }, 1s).granted());
    EXPECT_TRUE(after([&] { return bucket.try_acquire_for(1, std::chrono::seconds::max()); }, 1s).granted());
    EXPECT_TRUE(after([&] { return bucket.try_acquire_for(1, std::chrono::hours::max()); }, 1s).granted());
    EXPECT_TRUE(after([&] { return bucket.try_acquire_for(1, std::chrono::years{300}); }, 1s).granted());
    using days = std::chrono::duration<double, std::ratio<86400>>;
    EXPECT_TRUE(after([&] { return bucket.try_acquire_for(1, days{1e300}); }, 1s).granted());
    EXPECT_FALSE(bucket.try_acquire_for(1, days{std::numeric_limits<double>::quiet_NaN()}));
}

TEST_F(blocking, a_stop_ends_the_sleep_with_the_denial) {
    stop_source stop;
    auto answer = std::async(std::launch::async, [&] { return bucket.acquire(3, stop.get_token()); });
    clock.wait_for_sleepers(1);
    stop.request_stop();
    auto const d = answer.get();
    EXPECT_FALSE(d.granted());
    EXPECT_FALSE(d.never());
    EXPECT_EQ(d.retry_after(), 3s);
    EXPECT_EQ(clock.now(), time_point{});
}
TEST_F(blocking, a_stop_ends_the_sleeps_with_a_deadline) {
    stop_source stop;
    auto first = std::async(std::launch::async, [&] { return bucket.try_acquire_for(3, 1min, stop.get_token()); });
    auto second =
        std::async(std::launch::async, [&] { return bucket.try_acquire_until(3, time_point{9s}, stop.get_token()); });
    clock.wait_for_sleepers(2);
    stop.request_stop();
    EXPECT_FALSE(first.get());
    EXPECT_FALSE(second.get());
}
TEST_F(blocking, a_stop_that_came_before_ends_the_wait_after_one_attempt) {
    stop_source stop;
    stop.request_stop();
    EXPECT_FALSE(bucket.acquire(1, stop.get_token()));
    clock.advance(1s);
    EXPECT_TRUE(bucket.acquire(1, stop.get_token()).granted());
}
TEST_F(blocking, a_token_that_does_not_stop_changes_nothing) {
    stop_source stop;
    EXPECT_TRUE(after([&] { return bucket.acquire(3, stop.get_token()); }, 3s).granted());
    EXPECT_TRUE(after([&] { return bucket.try_acquire_for(2, 2s, stop.get_token()); }, 1s, 1s).granted());
}

TEST_F(blocking, every_limiter_waits) {
    weir::leaky_bucket<manual_clock&> leaky{rate{1, 1s}, 1, clock};
    weir::sliding_window_log<manual_clock&> log{1, 1s, clock};
    weir::sliding_window_counter<manual_clock&> counter{1, 1s, clock};
    weir::all_of both{leaky, log};
    weir::llm::quota_limiter<manual_clock&> quota{weir::llm::quota{.rpm = 1, .tpm = 100}, clock};

    EXPECT_TRUE(both.acquire().granted());
    auto const begin = clock.now();
    EXPECT_TRUE(after([&] { return leaky.acquire(); }, 1s).granted());
    EXPECT_TRUE(log.acquire().granted());
    EXPECT_TRUE(after([&] { return both.try_acquire_for(1, 1min); }, 1s).granted());
    EXPECT_EQ(clock.now() - begin, 2s);

    EXPECT_TRUE(counter.acquire(1).granted());
    auto second = std::async(std::launch::async, [&] { return counter.acquire(1); });
    clock.wait_for_sleepers(1);
    clock.advance_to_next();
    EXPECT_TRUE(second.get().granted());

    EXPECT_TRUE(quota.acquire(weir::llm::tokens{.input = 40, .output = 40}).granted());
    auto next =
        std::async(std::launch::async, [&] { return quota.acquire(weir::llm::tokens{.input = 40, .output = 40}); });
    clock.wait_for_sleepers(1);
    clock.advance_to_next();
    EXPECT_TRUE(next.get().granted());

    {
        clock.advance(1h);
        weir::lease mine{bucket, {.slice = 4, .age = 1h}};
        EXPECT_TRUE(mine.acquire(10).granted());
        EXPECT_TRUE(after([&] { return mine.acquire(); }, 1s).granted());
    }
}

TEST(blocking_by_real_time, acquire_takes_as_long_as_the_rate_says) {
    weir::token_bucket bucket{rate{1000, 1s}, 1};
    auto const begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 21; ++i) bucket.acquire();
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 20ms);
    EXPECT_TRUE(bucket.try_acquire_for(1, 1.5s).granted());
}

// A limiter that denies without a time to wait for, as one that lost a race: its caller looks again, less and less
// often.
struct racing {
    using clock_type = manual_clock;
    using time_point = manual_clock::time_point;
    using duration = manual_clock::duration;
    struct decision {
        bool ok;
        time_point at;
        bool granted() const { return ok; }
        static bool never() { return false; }
        time_point retry_at() const { return at; }
        static duration retry_after() { return {}; }
    };
    decision try_acquire(int) { return {--denials < 0, clock_.now()}; }

    manual_clock& clock_;
    int denials = 0;
};

TEST(blocking_loop, a_denial_without_a_time_is_tried_again_after_a_growing_pause) {
    manual_clock clock;
    racing limiter{clock, 9};
    auto answer = std::async(std::launch::async, [&] {
        return weir::detail::acquire_until(limiter, 1, time_point::max(), weir::detail::sleeper<manual_clock>{clock});
    });
    for (int i = 0; i < 9; ++i) {
        clock.wait_for_sleepers(1);
        clock.advance_to_next();
    }
    EXPECT_TRUE(answer.get().granted());
    // 0.1 + 0.2 + … + 6.4, then 10 + 10 ms
    EXPECT_EQ(clock.now(), time_point{12700us + 20ms});
}
TEST(blocking_loop, a_denial_without_a_time_ends_at_the_deadline) {
    manual_clock clock;
    racing limiter{clock, 1000};
    auto answer = std::async(std::launch::async, [&] {
        return weir::detail::acquire_until(limiter, 1, time_point{250us}, weir::detail::sleeper<manual_clock>{clock});
    });
    for (int i = 0; i < 2; ++i) {
        clock.wait_for_sleepers(1);
        clock.advance_to_next();
    }
    EXPECT_FALSE(answer.get().granted());
    EXPECT_EQ(limiter.denials, 1000 - 3);
}

}  // namespace blocking_test
