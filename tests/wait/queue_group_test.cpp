// SPDX-License-Identifier: MIT
// Queues that each have a limiter of their own and share one more, as a crawler's hosts.
#include <weir/all_of.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/queue_group.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../support/manual_loop.hpp"

namespace queue_group_test {

using namespace std::chrono_literals;
using weir::fair_class;
using weir::manual_clock;
using weir::permits;
using weir::rate;
using weir::wait_status;

using bucket = weir::token_bucket<manual_clock&>;
using both_limits = weir::all_of<bucket&, bucket&>;

// A timer that counts how often a queue woke it.
struct counting_timer : loop::timer {
    counting_timer(loop& l, std::size_t& count) : loop::timer{l}, wakes{count} {}
    void wake() {
        ++wakes;
        loop::timer::wake();
    }
    std::size_t& wakes;
};

struct host {
    host(weir::queue_group<>& group, bucket& everyone, rate r, permits burst, manual_clock& c, fair_class f = {})
        : own{r, burst, c}, both{own, everyone}, queue{group, both, f} {}
    bucket own;
    both_limits both;
    weir::grouped_queue<both_limits> queue;
    std::size_t granted = 0;
};

class queue_group : public testing::Test {
protected:
    static constexpr rate fast{1'000'000, 1s};

    host& add(rate r = fast, permits burst = 1'000'000, fair_class f = {}) {
        return hosts.emplace_back(group, everyone, r, burst, clock, f);
    }
    // Asks for n again and again.
    eager_task worker(host& h, permits n = 1) {
        counting_timer timer{events, wakes};
        for (;;) {
            auto const a = co_await h.queue.async_acquire(n, timer);
            if (!a) co_return;
            h.granted += n;
            ++grants;
        }
    }
    eager_task once(host& h, std::optional<wait_status>& status, permits n = 1) {
        loop::timer timer{events};
        auto const a = co_await h.queue.async_acquire(n, timer);
        status = a.status();
    }
    void run_until(manual_clock::time_point end) {
        for (;;) {
            events.run_due();
            auto const next = events.next_due();
            if (!next || *next > end) break;
            clock.advance_to(*next);
        }
        clock.advance_to(end);
    }
    void run_for(manual_clock::duration d) { run_until(clock.now() + d); }

    manual_clock clock;
    loop events{clock};
    std::size_t wakes = 0;
    std::size_t grants = 0;
    bucket everyone{rate{100, 1s}, 1, clock};
    weir::queue_group<> group{everyone};
    std::deque<host> hosts;
    std::deque<eager_task> tasks;  // before the hosts
};

TEST_F(queue_group, sixty_four_hosts_get_equal_shares) {
    for (int i = 0; i < 64; ++i) {
        for (int k = 0; k < 1 + i % 3; ++k)
            tasks.push_back(worker(i == static_cast<int>(hosts.size()) ? add() : hosts.back()));
    }
    run_for(64s);
    EXPECT_GE(grants, 6400U);
    for (host const& h : hosts) {
        EXPECT_GE(h.granted, grants / 64 - 2);
        EXPECT_LE(h.granted, grants / 64 + 3);
    }
}
TEST_F(queue_group, one_waiter_is_woken_for_each_grant) {
    for (int i = 0; i < 64; ++i) {
        add();
        for (int k = 0; k < 2; ++k) tasks.push_back(worker(hosts.back()));
    }
    run_for(20s);
    EXPECT_GE(grants, 2000U);
    EXPECT_LE(wakes, grants + 2 * 64);
}
TEST_F(queue_group, one_waiter_is_woken_for_each_grant_of_slow_hosts_too) {
    for (int i = 0; i < 64; ++i) {
        add(rate{1, 1s}, 1);  // together less than the shared limiter grants
        for (int k = 0; k < 2; ++k) tasks.push_back(worker(hosts.back()));
    }
    run_for(20s);
    EXPECT_GE(grants, 64U * 20);
    EXPECT_LE(wakes, grants + 3 * 64);
    for (host const& h : hosts) {
        EXPECT_GE(h.granted, 20U);
        EXPECT_LE(h.granted, 21U);
    }
}
TEST_F(queue_group, slow_hosts_leave_the_rest_to_the_others_in_equal_shares) {
    for (int i = 0; i < 20; ++i) tasks.push_back(worker(add(rate{1, 1s}, 1)));
    for (int i = 0; i < 4; ++i) tasks.push_back(worker(add()));
    run_for(50s);
    for (std::size_t i = 0; i < 20; ++i) EXPECT_NEAR(static_cast<double>(hosts[i].granted), 50, 2);
    for (std::size_t i = 20; i < 24; ++i) EXPECT_NEAR(static_cast<double>(hosts[i].granted), 80 * 50 / 4.0, 12);
    EXPECT_GE(grants, 5000U);  // nothing of the shared limiter is left over
}
TEST_F(queue_group, a_host_with_one_worker_gets_as_much_as_a_host_with_ten) {
    host& one = add();
    host& ten = add();
    tasks.push_back(worker(one));  // its queue is empty between two of its calls
    for (int k = 0; k < 10; ++k) tasks.push_back(worker(ten));
    run_for(10s);
    EXPECT_NEAR(static_cast<double>(one.granted), static_cast<double>(ten.granted), 2);
    EXPECT_GE(grants, 1000U);
}
TEST_F(queue_group, weights_divide_what_is_granted) {
    host& three = add(fast, 1'000'000, {.weight = 3});
    host& one = add();
    for (int k = 0; k < 2; ++k) {
        tasks.push_back(worker(three));
        tasks.push_back(worker(one));
    }
    run_for(10s);
    EXPECT_NEAR(static_cast<double>(three.granted), 750, 4);
    EXPECT_FALSE(one.queue.change_weight(3));
    auto const before = one.granted;
    run_for(10s);
    EXPECT_NEAR(static_cast<double>(one.granted - before), 500, 4);
    EXPECT_TRUE(one.queue.change_weight(0));
    EXPECT_THROW(add(fast, 1, {.weight = 0}), std::invalid_argument);
}
TEST_F(queue_group, two_users_of_one_limiter_that_ask_for_one_and_for_five_share_it) {
    bucket shared{rate{100, 1s}, 5, clock};
    weir::queue_group<> users{shared};
    struct user {
        weir::grouped_queue<bucket> queue;
        std::size_t granted = 0;
    };
    user small{{users, shared}};
    user large{{users, shared}};
    auto const ask = [this](user& u, permits n) -> eager_task {
        loop::timer timer{events};
        for (;;) {
            auto const a = co_await u.queue.async_acquire(n, timer);
            if (!a) co_return;
            u.granted += n;
        }
    };
    eager_task const a = ask(small, 1);
    eager_task const b = ask(large, 5);
    run_for(20s);
    EXPECT_NEAR(static_cast<double>(small.granted), static_cast<double>(large.granted), 11);
    EXPECT_GE(small.granted + large.granted, 2000U);
    users.close();
    events.run_due();
}

TEST_F(queue_group, a_blocked_host_does_not_hold_up_the_others) {
    host& blocked = add(rate{1, 1h}, 1);
    host& open = add();
    ASSERT_TRUE(blocked.queue.acquire(1));
    std::optional<wait_status> status;
    tasks.push_back(once(blocked, status));
    ASSERT_EQ(group.waiting(), 1U);
    clock.advance(1s);
    EXPECT_TRUE(open.queue.try_acquire(1));
    EXPECT_EQ(blocked.queue.try_acquire(1).status(), wait_status::timed_out);
    std::optional<wait_status> other;
    tasks.push_back(once(open, other));  // the shared limiter denies it for 10 ms
    clock.advance(10ms);
    events.run_due();
    EXPECT_EQ(other, wait_status::granted);
    EXPECT_FALSE(status);
    run_for(1h);
    EXPECT_EQ(status, wait_status::granted);
}
TEST_F(queue_group, a_refund_to_a_blocked_host_wakes_its_waiter) {
    host& h = add(rate{1, 1h}, 1);
    auto a = h.queue.acquire(1);
    std::optional<wait_status> status;
    tasks.push_back(once(h, status));
    clock.advance(1s);
    events.run_due();
    EXPECT_FALSE(status);
    h.queue.refund(*a);
    events.run_due();
    EXPECT_EQ(status, wait_status::granted);
}
TEST_F(queue_group, a_refund_to_the_shared_limiter_wakes_the_waiter_that_has_the_turn) {
    host& h = add();
    auto a = everyone.try_acquire(1);
    std::optional<wait_status> status;
    tasks.push_back(once(h, status));
    events.run_due();
    EXPECT_FALSE(status);
    everyone.refund(a);
    group.notify();
    events.run_due();
    EXPECT_EQ(status, wait_status::granted);
}
TEST_F(queue_group, fifo_inside_a_queue_and_a_ticket_keeps_the_place) {
    host& h = add();
    weir::queue_ticket ticket;
    ASSERT_TRUE(h.queue.acquire(1, ticket));
    std::vector<int> order;
    auto const wait = [&](int number, weir::queue_ticket* t) -> eager_task {
        loop::timer timer{events};
        weir::queue_ticket own;
        auto const a = co_await h.queue.async_try_acquire_until(1, manual_clock::time_point::max(), timer,
                                                                t != nullptr ? *t : own);
        if (a) order.push_back(number);
    };
    tasks.push_back(wait(1, nullptr));
    tasks.push_back(wait(2, nullptr));
    tasks.push_back(wait(3, &ticket));
    run_for(1s);
    EXPECT_EQ(order, (std::vector{3, 1, 2}));
}
TEST_F(queue_group, hosts_come_and_go_while_others_wait) {
    add();
    for (int k = 0; k < 3; ++k) tasks.push_back(worker(hosts.front()));
    std::size_t visitors = 0;
    for (int round = 0; round < 50; ++round) {
        auto visitor = std::make_unique<host>(group, everyone, fast, 1'000'000, clock);
        std::optional<wait_status> status;
        eager_task const task = once(*visitor, status);
        run_for(20ms);
        visitors += status == wait_status::granted ? 1U : 0U;
        visitor.reset();
        events.run_due();
        ASSERT_TRUE(status);
    }
    EXPECT_EQ(visitors, 50U);  // each is next but for one
    EXPECT_GE(hosts.front().granted, 49U);
}
TEST_F(queue_group, a_waiter_that_leaves_hands_its_turn_on) {
    host& first = add();
    host& second = add();
    ASSERT_TRUE(everyone.try_acquire(1));
    std::optional<wait_status> left;
    std::optional<wait_status> served;
    tasks.push_back(once(first, left));
    tasks.push_back(once(second, served));
    tasks.front().destroy();
    run_for(10ms);
    EXPECT_FALSE(left);
    EXPECT_EQ(served, wait_status::granted);
}
TEST_F(queue_group, a_deadline_a_stop_and_close_end_a_wait) {
    host& h = add(rate{1, 1h}, 1);
    ASSERT_TRUE(h.queue.acquire(1));
    stop_source stop;
    auto timed = std::async(std::launch::async, [&] { return h.queue.try_acquire_for(1, 0.5s).status(); });
    clock.wait_for_sleepers(1);
    auto stopped = std::async(std::launch::async, [&] { return h.queue.acquire(1, stop.get_token()).status(); });
    clock.wait_for_sleepers(2);
    auto closed = std::async(std::launch::async, [&] { return h.queue.acquire(1).status(); });
    clock.wait_for_sleepers(3);
    clock.advance(500ms);
    EXPECT_EQ(timed.get(), wait_status::timed_out);
    stop.request_stop();
    EXPECT_EQ(stopped.get(), wait_status::stopped);
    group.close();
    EXPECT_EQ(closed.get(), wait_status::closed);
    EXPECT_EQ(add().queue.acquire(1).status(), wait_status::closed);
}
TEST_F(queue_group, more_than_a_limiter_can_grant_is_denied_at_once) {
    host& h = add(rate{1, 1s}, 3);
    EXPECT_EQ(h.queue.acquire(2).status(), wait_status::never);  // the shared limiter holds one
    std::optional<wait_status> status;
    ASSERT_TRUE(h.queue.acquire(1));
    tasks.push_back(once(h, status));
    EXPECT_EQ(h.queue.acquire(4).status(), wait_status::never);
}
TEST_F(queue_group, what_a_queue_gives_back_is_credited_to_it) {
    bucket wide{rate{100, 1s}, 100, clock};
    weir::queue_group<> users{wide};
    weir::grouped_queue<bucket> half{users, wide};
    weir::grouped_queue<bucket> whole{users, wide};
    ASSERT_TRUE(wide.try_acquire(100));
    std::size_t half_calls = 0;
    std::size_t whole_calls = 0;
    auto const ask = [this](auto& queue, std::size_t& calls, permits unused) -> eager_task {
        loop::timer timer{events};
        for (;;) {
            auto a = co_await queue.async_acquire(permits{2}, timer);
            if (!a) co_return;
            ++calls;
            if (unused != 0) queue.refund(*a, unused);
        }
    };
    eager_task const a = ask(half, half_calls, 1);
    eager_task const b = ask(whole, whole_calls, 0);
    run_for(30s);
    EXPECT_NEAR(static_cast<double>(half_calls), 2 * static_cast<double>(whole_calls), 20);
    users.close();
    events.run_due();
}

TEST(queue_group_threads, workers_of_many_hosts_share_a_limiter_by_real_time) {
    weir::token_bucket everyone{rate{4000, 1s}, 1};
    weir::queue_group group{everyone};
    struct target {
        target(weir::queue_group<>& g, weir::token_bucket<>& all)
            : own{rate{100'000, 1s}, 100}, both{own, all}, queue{g, both} {}
        weir::token_bucket<> own;
        weir::all_of<weir::token_bucket<>&, weir::token_bucket<>&> both;
        weir::grouped_queue<decltype(both)> queue;
        std::size_t granted = 0;
    };
    std::deque<target> targets;
    for (int i = 0; i < 4; ++i) targets.emplace_back(group, everyone);
    std::vector<std::future<std::size_t>> workers;
    for (std::size_t i = 0; i < 8; ++i) {
        workers.push_back(std::async(std::launch::async, [&, i] {
            std::size_t granted = 0;
            while (targets[i % 4].queue.acquire(1)) ++granted;
            return granted;
        }));
    }
    for (std::size_t i = 0; i < 200; ++i) everyone.acquire();  // about 50 ms, past the queues
    group.close();
    std::size_t total = 0;
    for (auto& w : workers) total += w.get();
    EXPECT_GT(total, 0U);
    EXPECT_EQ(group.waiting(), 0U);
}

}  // namespace queue_group_test
