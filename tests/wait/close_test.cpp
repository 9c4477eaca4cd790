// SPDX-License-Identifier: MIT
// How a queue ends: close(), the destructor, and the child of a fork().
#include <weir/clock/manual_clock.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/fair_queue.hpp>
#include <weir/wait/wait_queue.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#if __has_include(<sys/wait.h>)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "../support/manual_loop.hpp"
#include "../support/sanitizer.hpp"

namespace close_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::rate;
using weir::wait_status;

using bucket_type = weir::token_bucket<manual_clock&>;
using queue_type = weir::wait_queue<bucket_type>;
using queues_type = weir::fair_queue<bucket_type, 2>;

constexpr weir::fair_class two_classes[] = {{}, {}};

// One permit a second, none at first.
class close_queue : public testing::Test {
protected:
    close_queue() { static_cast<void>(bucket.try_acquire(10)); }

    // Threads that wait; when this returns they sleep.
    template <class Queue>
    std::vector<std::future<wait_status>> wait_in(Queue& queue, std::size_t count) {
        std::vector<std::future<wait_status>> all;
        for (std::size_t i = 0; i < count; ++i) {
            std::size_t const before = clock.sleepers();
            all.push_back(std::async(std::launch::async, [&queue] { return queue.acquire(1).status(); }));
            clock.wait_for_sleepers(before + 1);
        }
        return all;
    }

    manual_clock clock;
    bucket_type bucket{rate{1, 1s}, 10, clock};
    loop events{clock};
};

template <class Queue>
eager_task coroutine(Queue& queue, loop& l, std::optional<wait_status>& status) {
    loop::timer timer{l};
    auto const a = co_await queue.async_acquire(1, timer);
    status = a.status();
}

TEST_F(close_queue, every_waiter_returns_closed) {
    queue_type queue{bucket};
    auto waiting = wait_in(queue, 3);
    std::optional<wait_status> status;
    eager_task const task = coroutine(queue, events, status);
    EXPECT_EQ(queue.waiting(), 4U);
    EXPECT_FALSE(queue.closed());
    queue.close();
    for (auto& w : waiting) EXPECT_EQ(w.get(), wait_status::closed);
    EXPECT_FALSE(status);  // it ends where its timer fires
    events.run_due();
    EXPECT_EQ(status, wait_status::closed);
    EXPECT_EQ(queue.waiting(), 0U);
    EXPECT_TRUE(queue.closed());
}
TEST_F(close_queue, later_calls_return_closed_at_once) {
    queue_type queue{bucket};
    queue.close();
    queue.close();
    clock.advance(5s);  // there are permits
    EXPECT_EQ(queue.acquire(1).status(), wait_status::closed);
    EXPECT_EQ(queue.try_acquire(1).status(), wait_status::closed);
    EXPECT_EQ(queue.try_acquire_for(1, 1h).status(), wait_status::closed);
    EXPECT_EQ(queue.acquire(100).status(), wait_status::closed);
    loop::timer timer{events};
    auto wait = queue.async_acquire(1, timer);
    ASSERT_TRUE(wait.ready());
    EXPECT_EQ(wait.result().status(), wait_status::closed);
    EXPECT_EQ(bucket.available(), 5U);
}
TEST_F(close_queue, what_was_granted_can_be_given_back_after_close) {
    queue_type queue{bucket};
    clock.advance(1s);
    auto a = queue.acquire(1);
    queue.close();
    EXPECT_EQ(queue.refund(*a), 1U);
    EXPECT_EQ(bucket.available(), 1U);
}
TEST_F(close_queue, the_destructor_closes_and_waits_for_threads) {
    auto queue = std::make_unique<queue_type>(bucket);
    auto waiting = wait_in(*queue, 3);
    queue.reset();
    for (auto& w : waiting) EXPECT_EQ(w.get(), wait_status::closed);
}
TEST_F(close_queue, the_destructor_does_not_wait_for_a_suspended_coroutine) {
    auto queue = std::make_unique<queue_type>(bucket);
    std::optional<wait_status> first;
    std::optional<wait_status> second;
    eager_task const kept = coroutine(*queue, events, first);
    eager_task destroyed = coroutine(*queue, events, second);
    queue.reset();  // on the thread that runs the loop
    destroyed.destroy();
    events.run_due();
    EXPECT_EQ(first, wait_status::closed);
    EXPECT_TRUE(kept.done());
    EXPECT_FALSE(second);
}
TEST_F(close_queue, a_coroutine_that_begins_another_wait_when_closed_ends_too) {
    queue_type queue{bucket};
    std::vector<wait_status> all;
    auto const worker = [](queue_type& q, loop& l, std::vector<wait_status>& seen) -> eager_task {
        loop::timer timer{l};
        for (int i = 0; i < 2; ++i) seen.push_back((co_await q.async_acquire(1, timer)).status());
    };
    eager_task const task = worker(queue, events, all);
    queue.close();
    events.run_due();
    EXPECT_EQ(all, (std::vector{wait_status::closed, wait_status::closed}));
}

TEST_F(close_queue, a_fair_queue_closes_all_its_classes) {
    queues_type queues{bucket, two_classes};
    auto first = wait_in(queues[0], 2);
    auto second = wait_in(queues[1], 2);
    std::optional<wait_status> status;
    eager_task const task = coroutine(queues[1], events, status);
    queues.close();
    for (auto& w : first) EXPECT_EQ(w.get(), wait_status::closed);
    for (auto& w : second) EXPECT_EQ(w.get(), wait_status::closed);
    events.run_due();
    EXPECT_EQ(status, wait_status::closed);
    EXPECT_EQ(queues.waiting(), 0U);
    EXPECT_EQ(queues[0].acquire(1).status(), wait_status::closed);
}
TEST_F(close_queue, a_class_that_is_closed_leaves_the_others_as_they_are) {
    queues_type queues{bucket, two_classes};
    auto first = wait_in(queues[0], 2);
    std::optional<wait_status> closed;
    eager_task const task = coroutine(queues[0], events, closed);
    auto second = wait_in(queues[1], 1);
    queues[0].close();
    for (auto& w : first) EXPECT_EQ(w.get(), wait_status::closed);
    events.run_due();
    EXPECT_EQ(closed, wait_status::closed);
    clock.wait_for_sleepers(1);
    clock.advance(1s);
    EXPECT_EQ(second.front().get(), wait_status::granted);
    EXPECT_EQ(queues[0].try_acquire(1).status(), wait_status::closed);
    clock.advance(1s);
    EXPECT_EQ(queues[1].try_acquire(1).status(), wait_status::granted);
}
TEST_F(close_queue, a_class_of_suspended_coroutines_hands_its_turn_on_when_closed) {
    queues_type queues{bucket, two_classes};
    std::optional<wait_status> closed;
    eager_task const task = coroutine(queues[0], events, closed);
    auto second = wait_in(queues[1], 1);
    queues[0].close();
    clock.wait_for_sleepers(1);
    clock.advance(1s);
    EXPECT_EQ(second.front().get(), wait_status::granted);
}
TEST_F(close_queue, the_destructor_of_a_fair_queue_closes_and_waits) {
    auto queues = std::make_unique<queues_type>(bucket, two_classes);
    auto first = wait_in((*queues)[0], 2);
    auto second = wait_in((*queues)[1], 2);
    std::optional<wait_status> status;
    eager_task const task = coroutine((*queues)[0], events, status);
    queues.reset();
    for (auto& w : first) EXPECT_EQ(w.get(), wait_status::closed);
    for (auto& w : second) EXPECT_EQ(w.get(), wait_status::closed);
    events.run_due();
    EXPECT_EQ(status, wait_status::closed);
}

#if __has_include(<sys/wait.h>) && !WEIR_THREAD_SANITIZER
// What `in_child` returns in the child of a fork.
template <class F>
bool holds_in_child(F in_child) {
    pid_t const child = ::fork();
    if (child == 0) ::_exit(in_child() ? 0 : 1);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_F(close_queue, the_child_of_a_fork_has_an_empty_queue) {
    queue_type queue{bucket};
    auto waiting = wait_in(queue, 2);
    EXPECT_TRUE(holds_in_child([&] {
        queue.after_fork_in_child();
        return queue.waiting() == 0 && queue.try_acquire(1).status() == wait_status::timed_out;
    }));
    queue.close();
    for (auto& w : waiting) EXPECT_EQ(w.get(), wait_status::closed);
}
TEST_F(close_queue, the_child_of_a_fork_has_empty_classes) {
    queues_type queues{bucket, two_classes};
    auto waiting = wait_in(queues[1], 2);
    EXPECT_TRUE(holds_in_child([&] {
        queues.after_fork_in_child();
        return queues.waiting() == 0 && queues[0].try_acquire(1).status() == wait_status::timed_out;
    }));
    queues.close();
    for (auto& w : waiting) EXPECT_EQ(w.get(), wait_status::closed);
}
#endif

}  // namespace close_test
