// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/fair_queue.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <list>
#include <numeric>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "../support/int128.hpp"
#include "../support/manual_loop.hpp"
#include "../support/stress.hpp"

namespace {

using int128::i128;
using namespace std::chrono_literals;
using weir::fair_class;
using weir::fair_queue;
using weir::manual_clock;
using weir::permits;
using weir::rate;
using weir::wait_status;
using time_point = manual_clock::time_point;

// Start-time fair queueing as the paper has it: every call has its own tags, given when it arrives, S = max(v, F of the call before it in
// its class), F = S + n / weight; the least S is served; v is the S of the call served last, and the greatest F when none is left. All
// in exact fractions, over the least common multiple of the weights.
class paper {
public:
    struct call {
        std::size_t of = 0;
        std::uint64_t n = 0;
        int who = 0;
        i128 start{};
    };

    explicit paper(std::vector<std::uint32_t> weights)
        : weights_{std::move(weights)}, queues_(weights_.size()), finish_(weights_.size()) {
        for (auto const w : weights_) unit_ = std::lcm(unit_, std::uint64_t{w});
    }

    bool idle() const {
        return std::all_of(queues_.begin(), queues_.end(), [](auto const& q) { return q.empty(); });
    }
    void arrives(std::size_t c, std::uint64_t n, int who) {
        i128 const start = std::max(v_, finish_[c]);
        queues_[c].push_back({c, n, who, start});
        finish_[c] = start + cost(c, n);
    }
    call const* first() const {
        call const* best = nullptr;
        for (auto const& q : queues_) {
            if (!q.empty() && (best == nullptr || q.front().start < best->start)) best = &q.front();
        }
        return best;
    }
    void serve_first() {
        call const c = *first();
        queues_[c.of].pop_front();
        v_ = c.start;
        served_finish_ = std::max(served_finish_, c.start + cost(c.of, c.n));
        if (idle()) v_ = served_finish_;
    }
    // As if it had never come: those behind it in its class start where it would have.
    bool leaves(std::size_t c, int who) {
        auto& q = queues_[c];
        auto const at = std::find_if(q.begin(), q.end(), [&](call const& x) { return x.who == who; });
        if (at == q.end()) return false;
        i128 start = at->start;
        for (auto next = q.erase(at); next != q.end(); ++next) {
            next->start = start;
            start = start + cost(c, next->n);
        }
        finish_[c] = start;
        if (idle()) v_ = std::max(v_, served_finish_);
        return true;
    }

private:
    i128 cost(std::size_t c, std::uint64_t n) const {
        return static_cast<i128>(std::max<std::uint64_t>(n, 1)) * static_cast<i128>(unit_ / weights_[c]);
    }

    std::vector<std::uint32_t> weights_;
    std::vector<std::deque<call>> queues_;
    std::vector<i128> finish_;
    i128 v_ = 0;
    i128 served_finish_ = 0;
    std::uint64_t unit_ = 1;
};

// A number of permits, which come when the test says so.
class stock {
public:
    using clock_type = manual_clock;
    using duration = manual_clock::duration;
    using time_point = manual_clock::time_point;
    struct decision {
        bool ok;
        explicit operator bool() const { return ok; }
        bool granted() const { return ok; }
        bool never() const { return false; }
        time_point retry_at() const { return time_point::max(); }
        duration retry_after() const { return duration::max(); }
    };
    explicit stock(manual_clock& c) : clock_{c} {}
    decision try_acquire(permits n) {
        if (n > left) return {false};
        left -= n;
        return {true};
    }
    // Room for so many comes back.
    permits refund(permits n) {
        left += n;
        return n;
    }
    manual_clock const& clock() const { return clock_; }

    permits left = 0;

private:
    manual_clock& clock_;
};

// Coroutines that wait in the lines of a limiter, and who was served, in order.
template <class Lines>
struct scene {
    manual_clock& clock;
    Lines& lines;
    loop executor{clock};
    std::vector<int> served{};
    std::list<std::pair<int, eager_task>> callers{};

    template <class Cost>
    static eager_task wait(scene& s, std::size_t c, Cost n, int who) {
        loop::timer timer{s.executor};
        auto const a = co_await s.lines[c].async_acquire(n, timer);
        EXPECT_EQ(a.status(), wait_status::granted);
        s.served.push_back(who);
    }
    template <class Cost>
    static eager_task wait(scene& s, std::size_t c, Cost n, int who, weir::queue_ticket& ticket) {
        loop::timer timer{s.executor};
        auto const a = co_await s.lines[c].async_try_acquire_until(n, manual_clock::time_point::max(), timer, ticket);
        EXPECT_EQ(a.status(), wait_status::granted);
        s.served.push_back(who);
    }
    template <class Cost, class... Ticket>
    void join(std::size_t c, Cost n, int who, Ticket&... ticket) {
        callers.emplace_back(who, wait(*this, c, n, who, ticket...));
    }
    void cancel(int who) {
        callers.remove_if([&](auto const& c) { return c.first == who; });
        executor.run_due();
    }
    void advance(manual_clock::duration d) {
        clock.advance(d);
        executor.run_due();
    }
    // Step by step to the next alarm until nobody waits.
    void run_out() {
        while (lines.waiting() != 0) {
            auto const next = executor.next_due();
            ASSERT_TRUE(next);
            clock.advance(std::max(*next - clock.now(), manual_clock::duration::zero()));
            executor.run_due();
        }
    }
};

TEST(fair_lines_arguments, are_refused_with_a_reason) {
    EXPECT_TRUE(fair_class::validate({.weight = 0}));
    EXPECT_TRUE(fair_class::validate({.weight = fair_class::max_weight + 1}));
    EXPECT_FALSE(fair_class::validate({.weight = fair_class::max_weight}));
    manual_clock clock;
    stock s{clock};
#if defined(__cpp_exceptions)
    EXPECT_THROW((fair_queue{s, {fair_class{.weight = 1}, fair_class{.weight = 0}}}), std::invalid_argument);
    fair_queue lines{s, {fair_class{.weight = 1}, fair_class{.weight = 2}}};
    EXPECT_THROW((void)lines[2], std::invalid_argument);
    EXPECT_THROW((void)lines[-1], std::invalid_argument);
    EXPECT_THROW((void)lines.change_weight(2, 1), std::invalid_argument);
    EXPECT_TRUE(lines.change_weight(0, 0));
    EXPECT_FALSE(lines.change_weight(0, 5));
#endif
}

TEST(fair_queue, serves_whom_the_paper_serves_over_random_arrivals_grants_and_cancellations) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        std::mt19937_64 random{seed};
        auto const pick = [&](std::uint64_t n) { return random() % n; };
        // Weights that divide the unit in which the tags are kept; so they are exact.
        std::vector<std::uint32_t> w;
        for (int i = 0; i < 5; ++i) w.push_back(static_cast<std::uint32_t>(1 + pick(16)));
        manual_clock clock;
        stock s{clock};
        fair_queue lines{s, {fair_class{w[0]}, fair_class{w[1]}, fair_class{w[2]}, fair_class{w[3]}, fair_class{w[4]}}};
        scene<decltype(lines)> all{clock, lines};
        paper model{w};
        permits left = 0;
        std::vector<int> expected;
        std::vector<std::pair<std::size_t, int>> joined;
        auto const settle = [&] {
            while (model.first() != nullptr && model.first()->n <= left) {
                left -= model.first()->n;
                expected.push_back(model.first()->who);
                model.serve_first();
            }
        };
        std::uint64_t const eager = 1 + pick(6);
        for (int who = 0; who < 600; ++who) {
            if (pick(8) < eager) {
                std::size_t const c = static_cast<std::size_t>(pick(5));
                std::uint64_t const n = pick(20) == 0 ? pick(5000) : pick(50);
                if (model.idle() && n <= left) {
                    left -= n;
                    expected.push_back(who);
                } else {
                    model.arrives(c, n, who);
                    joined.emplace_back(c, who);
                    settle();
                }
                all.join(c, n, who);
            } else if (pick(5) == 0 && !joined.empty()) {
                auto const [c, gone] = joined[static_cast<std::size_t>(pick(joined.size()))];
                model.leaves(c, gone);
                settle();
                all.cancel(gone);
            } else {
                permits const n = pick(eager * 40);
                left += n;
                settle();
                s.left += n;
                lines.notify();
                all.executor.run_due();
            }
            ASSERT_EQ(all.served, expected) << "seed " << seed << ", step " << who;
            ASSERT_EQ(s.left, left);
        }
        EXPECT_GT(expected.size(), 50U);
        all.callers.clear();
        EXPECT_EQ(lines.waiting(), 0U);
    }
}

// The promises by themselves, for weights that do not divide the unit, over the bare order: all classes but those that pause have always
// somebody waiting.
struct served_call {
    std::size_t of;
    std::uint64_t n;
};

constexpr std::size_t classes = 6;

TEST(fair_schedule, keeps_every_pair_of_waiting_classes_within_the_stated_bound_of_their_shares) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random{seed};
        std::array<std::uint32_t, classes> w{};
        std::array<std::uint64_t, classes> largest{};
        for (std::size_t i = 0; i < classes; ++i) {
            w[i] = static_cast<std::uint32_t>(1 + random() % (random() % 2 == 0 ? 10 : fair_class::max_weight));
            largest[i] = 1 + random() % (random() % 2 == 0 ? 10 : 1'000'000);
        }
        weir::detail::fair_schedule<classes> order{w};
        for (std::size_t i = 0; i < classes; ++i) order.begins(i);
        std::array<i128, classes> got{};
        // The bound is for every interval: so for the extremes of the difference.
        std::array<std::array<i128, classes>, classes> least{}, most{};
        for (int k = 0; k < 20'000; ++k) {
            std::size_t const i = order.first();
            std::uint64_t const n = 1 + random() % largest[i];
            order.serve(i, n);
            got[i] = got[i] + static_cast<i128>(n);
            for (std::size_t a = 0; a < classes; ++a) {
                for (std::size_t b = 0; b < classes; ++b) {
                    i128 const d = got[a] * w[b] - got[b] * w[a];
                    least[a][b] = std::min(least[a][b], d);
                    most[a][b] = std::max(most[a][b], d);
                }
            }
        }
        // They only move apart: what holds at the end has held all along.
        for (std::size_t a = 0; a < classes; ++a) {
            for (std::size_t b = 0; b < classes; ++b) {
                i128 const bound = static_cast<i128>(largest[a]) * w[b] + static_cast<i128>(largest[b]) * w[a];
                // Tags are rounded down by less than a part in 720,720 of a permit over the weight, once.
                i128 const slack = static_cast<i128>(w[a]) * w[b] / 720'720 + 1;
                ASSERT_LE(most[a][b] - least[a][b], bound + slack) << "seed " << seed;
            }
        }
    }
}

TEST(fair_schedule, starves_nobody_between_two_grants_of_a_class_the_others_get_what_is_stated) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        std::mt19937_64 random{seed};
        std::array<std::uint32_t, classes> w{};
        std::array<std::uint64_t, classes> largest{};
        for (std::size_t i = 0; i < classes; ++i) {
            w[i] = static_cast<std::uint32_t>(1 + random() % 1000);
            largest[i] = 1 + random() % 100'000;
        }
        weir::detail::fair_schedule<classes> order{w};
        order.begins(0);
        std::uint64_t last = 0;  // what class 0 was granted last
        i128 others = 0;
        std::uint64_t grants = 0;
        for (int k = 0; k < 20'000; ++k) {
            // The others come and go as they like; class 0 always waits.
            std::size_t const j = 1 + static_cast<std::size_t>(random() % (classes - 1));
            if (!order.waits(j)) {
                order.begins(j);
            } else if (random() % 8 == 0) {
                order.ends(j);
            }
            std::size_t const i = order.first();
            std::uint64_t const n = 1 + random() % largest[i];
            order.serve(i, n);
            if (i == 0) {
                last = n;
                others = 0;
                ++grants;
            } else {
                others = others + static_cast<i128>(n);
                i128 bound = 0;
                for (std::size_t b = 1; b < classes; ++b) {
                    bound = bound + static_cast<i128>(largest[b]) + static_cast<i128>(last) * w[b] / w[0] + 1;
                }
                ASSERT_LE(others, bound) << "seed " << seed << ", grant " << k;
            }
        }
        EXPECT_GT(grants, 20U);
    }
}

TEST(fair_schedule, a_class_that_comes_back_is_next_and_has_no_credit_for_the_time_it_was_away) {
    weir::detail::fair_schedule<2> order{{1, 1}};
    order.begins(1);
    for (int k = 0; k < 1000; ++k) order.serve(1, 10);
    EXPECT_FALSE(order.would_be_behind(0));
    order.begins(0);
    std::uint64_t agent = 0, batch = 0;
    EXPECT_EQ(order.first(), 0U);
    for (int k = 0; k < 100; ++k) {
        auto const i = order.first();
        order.serve(i, 10);
        (i == 0 ? agent : batch) += 10;
    }
    EXPECT_EQ(agent, 510U);  // the virtual time is that of the call served last, which is not paid for yet
    EXPECT_EQ(batch, 490U);
}

TEST(fair_schedule, who_used_what_nobody_wanted_does_not_owe_for_it) {
    weir::detail::fair_schedule<2> order{{1, 1}};
    order.begins(1);
    for (int k = 0; k < 1000; ++k) order.serve(1, 1'000'000);
    order.ends(1);
    order.begins(1);
    order.begins(0);
    EXPECT_EQ(order.first(), 0U);  // equal: the one that is listed first
    order.serve(0, 1);
    EXPECT_EQ(order.first(), 1U);
}

TEST(fair_schedule, a_huge_grant_neither_wraps_nor_starves) {
    for (std::uint64_t const huge : {std::uint64_t{1} << 40, std::numeric_limits<std::uint64_t>::max()}) {
        weir::detail::fair_schedule<2> order{{1, 1}};
        order.begins(0);
        order.begins(1);
        // Beyond 2^64 units of work several times over.
        for (int k = 0; k < 1000; ++k) {
            ASSERT_EQ(order.first(), 0U);
            order.serve(0, huge);
            ASSERT_EQ(order.first(), 1U);
            order.serve(1, huge);
        }
        order.serve(0, huge);
        order.correct(0, huge, 1);
        order.correct(1, 1, huge);
        EXPECT_EQ(order.first(), 0U);
    }
}

TEST(fair_schedule, what_huge_grants_came_to_does_not_wrap_either) {
    constexpr std::uint64_t huge = 1'000'000'000'000;
    weir::detail::fair_schedule<2> order{{1, 1}};
    order.begins(0);
    order.begins(1);
    order.serve(0, 1);
    for (int k = 0; k < 20; ++k) order.correct(0, 1, 2 * huge);
    for (int k = 0; k < 10; ++k) {
        EXPECT_EQ(order.first(), 1U) << k;
        order.serve(1, huge);
    }
}

TEST(fair_schedule, costs_of_nothing_take_turns_too) {
    weir::detail::fair_schedule<2> order{{1, 1}};
    order.begins(0);
    order.begins(1);
    int turns[2] = {};
    for (int k = 0; k < 10; ++k) {
        auto const i = order.first();
        ++turns[i];
        order.serve(i, 0);
    }
    EXPECT_EQ(turns[0], 5);
    EXPECT_EQ(turns[1], 5);
}

TEST(fair_schedule, what_is_given_back_is_credit_but_not_below_the_virtual_time) {
    weir::detail::fair_schedule<2> order{{1, 1}};
    order.begins(0);
    order.begins(1);
    order.serve(0, 100);
    order.correct(0, 100, 10);
    order.serve(1, 30);
    EXPECT_EQ(order.first(), 0U);  // 10 against 30
    order.serve(0, 5);             // 15; the virtual time is 10
    order.correct(0, 100, 0);      // 90 of it come too late
    EXPECT_EQ(order.first(), 0U);
    order.serve(0, 21);  // 31
    EXPECT_EQ(order.first(), 1U);
    order.correct(1, 30, 32);  // more than was counted is debt
    EXPECT_EQ(order.first(), 0U);
}

constexpr bool order_is_constexpr = [] {
    weir::detail::fair_schedule<3> order{{2, 1, 1}};
    order.begins(0);
    order.begins(2);
    order.serve(0, 4);
    return order.first() == 2 && order.would_be_behind(1) == false && order.none == 3;
}();
static_assert(order_is_constexpr);

enum role { agent, batch };

// One permit a second, a hundred at most, none at first.
class fair_lines_of_a_bucket : public testing::Test {
protected:
    manual_clock clock;
    weir::token_bucket<manual_clock&> bucket{rate{1, 1s}, 100, {.initial = 0}, clock};
    fair_queue<weir::token_bucket<manual_clock&>, 2> lines{bucket, {fair_class{.weight = 3}, fair_class{.weight = 1}}};
    scene<decltype(lines)> all{clock, lines};
};

using order_of = std::vector<int>;

TEST_F(fair_lines_of_a_bucket, gives_each_class_its_share_and_is_fifo_inside) {
    for (int i = 0; i < 30; ++i) all.join(agent, 1, i);
    for (int i = 0; i < 30; ++i) all.join(batch, 1, 100 + i);
    EXPECT_EQ(lines.waiting(), 60U);
    EXPECT_EQ(lines[agent].waiting(), 30U);
    all.run_out();
    EXPECT_EQ(clock.now(), time_point{60s});  // all of the rate was used
    order_of firsts(all.served.begin(), all.served.begin() + 20);
    EXPECT_EQ(std::count_if(firsts.begin(), firsts.end(), [](int who) { return who < 100; }), 15);
    for (int const from : {0, 100}) {
        order_of of_class;
        std::copy_if(all.served.begin(), all.served.end(), std::back_inserter(of_class),
                     [&](int who) { return who / 100 * 100 == from; });
        EXPECT_TRUE(std::is_sorted(of_class.begin(), of_class.end()));
    }
}

TEST_F(fair_lines_of_a_bucket, lends_an_idle_share_whole) {
    for (int i = 0; i < 20; ++i) all.join(batch, 2, i);
    all.run_out();
    EXPECT_EQ(clock.now(), time_point{40s});
}

TEST_F(fair_lines_of_a_bucket, who_comes_back_takes_the_place_of_a_large_call_that_is_not_served_yet) {
    all.join(batch, 100, 100);
    all.advance(50s);
    all.join(agent, 10, 0);
    EXPECT_EQ(all.served, order_of{0});
    all.join(agent, 10, 1);  // 10/3 of the way: still before a batch that has waited from the start
    EXPECT_EQ(all.served, order_of{0});
    all.advance(60s);
    EXPECT_EQ(all.served, (order_of{0, 100}));
    all.advance(10s);
    EXPECT_EQ(all.served, (order_of{0, 100, 1}));
}

TEST_F(fair_lines_of_a_bucket, who_comes_again_stands_before_those_of_its_class_who_arrived_later_and_no_others) {
    weir::queue_ticket ticket;
    all.advance(1s);
    all.join(batch, 1, 100, ticket);
    EXPECT_EQ(all.served, order_of{100});
    all.join(batch, 1, 101);
    for (int i = 0; i < 4; ++i) all.join(agent, 1, i);
    EXPECT_FALSE(lines[batch].try_acquire(1));
    all.join(batch, 1, 102, ticket);
    all.run_out();
    order_of of_batch;
    std::copy_if(all.served.begin(), all.served.end(), std::back_inserter(of_batch),
                 [](int who) { return who >= 100; });
    EXPECT_EQ(of_batch, (order_of{100, 102, 101}));
    order_of const firsts(all.served.begin() + 1, all.served.begin() + 5);
    EXPECT_EQ(std::count_if(firsts.begin(), firsts.end(), [](int who) { return who >= 100; }),
              1);  // the shares are what they were
    all.advance(1s);
    all.join(batch, 2, 103);
    weir::queue_ticket& early = ticket;
    EXPECT_TRUE(lines[batch].try_acquire_until(1, clock.now(), early));
    weir::queue_ticket late;
    EXPECT_FALSE(lines[batch].try_acquire_until(1, clock.now(), late));
    all.run_out();
}

TEST_F(fair_lines_of_a_bucket, who_displaced_the_first_and_leaves_wakes_it) {
    all.join(batch, 10, 100);
    all.join(agent, 50, 0);
    EXPECT_TRUE(all.served.empty());
    all.advance(10s);
    EXPECT_TRUE(all.served.empty());  // the alarm of one who is not first any more
    all.cancel(0);
    EXPECT_EQ(all.served, order_of{100});
    EXPECT_EQ(lines.waiting(), 0U);
}

TEST_F(fair_lines_of_a_bucket, an_attempt_that_does_not_wait_is_granted_where_nobody_goes_before) {
    clock.advance(5s);
    all.join(batch, 20, 100);
    EXPECT_TRUE(lines[agent].try_acquire(2));
    EXPECT_TRUE(lines[agent].try_acquire_for(1, 0s).status() ==
                wait_status::timed_out);  // its last is not paid for yet
    EXPECT_EQ(lines[batch].try_acquire(1).status(), wait_status::timed_out);
    EXPECT_EQ(lines[agent].try_acquire(50).status(), wait_status::timed_out);
    EXPECT_EQ(lines[agent].try_acquire(101).status(), wait_status::never);
    EXPECT_EQ(lines.waiting(), 1U);
    all.run_out();
    EXPECT_EQ(clock.now(), time_point{22s});
}

TEST_F(fair_lines_of_a_bucket, an_attempt_that_meets_no_waiting_call_is_the_limiters_own) {
    clock.advance(100s);
    for (int k = 0; k < 9; ++k) EXPECT_TRUE(lines[batch].try_acquire(10));
    EXPECT_TRUE(lines[agent].try_acquire(10));
    EXPECT_EQ(lines[agent].try_acquire(1).status(), wait_status::timed_out);
}

TEST_F(fair_lines_of_a_bucket, times_out_and_is_stopped_without_a_trace) {
    std::optional<wait_status> late, stopped;
    stop_source stop;
    stop_source never;
    auto const wait = [&](role c, permits n, std::optional<wait_status>& why, stop_source& s,
                          manual_clock::duration d) -> eager_task {
        loop::timer timer{all.executor};
        why = (co_await lines[c].async_try_acquire_for(n, d, timer, s.get_token())).status();
    };
    auto const a = wait(agent, 50, late, never, 5s);
    auto const b = wait(batch, 60, stopped, stop, 100s);
    all.join(batch, 7, 100);
    all.advance(5s);
    EXPECT_EQ(late, wait_status::timed_out);
    stop.request_stop();
    all.executor.run_due();
    EXPECT_EQ(stopped, wait_status::stopped);
    EXPECT_EQ(lines.waiting(), 1U);
    all.advance(2s);
    EXPECT_EQ(all.served, order_of{100});
}

TEST_F(fair_lines_of_a_bucket, each_class_has_its_own_bound_on_how_many_wait) {
    fair_queue bounded{
        bucket,
        {fair_class{.weight = 1, .queue = {.max_waiting = 1}}, fair_class{.weight = 1, .queue = {.max_waiting = 2}}}};
    std::vector<wait_status> ends;
    auto const wait = [&](role c) -> eager_task {
        loop::timer timer{all.executor};
        ends.push_back((co_await bounded[c].async_acquire(1, timer)).status());
    };
    auto const a = wait(agent);
    auto const b = wait(agent);
    auto const c = wait(batch);
    auto const d = wait(batch);
    auto const e = wait(batch);
    EXPECT_EQ(ends, (std::vector{wait_status::queue_full, wait_status::queue_full}));
    for (int k = 0; k < 3; ++k) all.advance(1s);
    EXPECT_EQ(ends.size(), 5U);
    EXPECT_EQ(std::count(ends.begin(), ends.end(), wait_status::granted), 3);
}

TEST_F(fair_lines_of_a_bucket, a_weight_changed_in_use_holds_from_the_next_grant) {
    for (int i = 0; i < 60; ++i) all.join(agent, 1, i);
    for (int i = 0; i < 60; ++i) all.join(batch, 1, 100 + i);
    for (int k = 0; k < 20; ++k) all.advance(1s);
    auto const agents = [&] {
        return std::count_if(all.served.begin(), all.served.end(), [](int who) { return who < 100; });
    };
    EXPECT_EQ(agents(), 15);
    EXPECT_FALSE(lines.change_weight(batch, 9));
    for (int k = 0; k < 40; ++k) all.advance(1s);
    EXPECT_NEAR(static_cast<double>(agents()), 15 + 10, 1);
    all.callers.clear();
}

TEST_F(fair_lines_of_a_bucket, a_change_of_limits_through_any_line_wakes_whoever_is_next) {
    all.join(batch, 50, 100);
    EXPECT_EQ(all.executor.next_due(), time_point{50s});
    (void)lines[agent].change(weir::token_bucket<manual_clock&>::limits_type{rate{10, 1s}, 100});
    all.executor.run_due();
    EXPECT_EQ(all.executor.next_due(), time_point{5s});
    all.run_out();
}

TEST(fair_lines_of_a_stock, what_comes_back_through_a_line_is_its_classes_credit_and_wakes_the_next) {
    manual_clock clock;
    stock s{clock};
    fair_queue lines{s, {fair_class{.weight = 1}, fair_class{.weight = 1}}};
    scene<decltype(lines)> all{clock, lines};
    for (int i = 0; i < 3; ++i) all.join(agent, 10, i);
    for (int i = 0; i < 3; ++i) all.join(batch, 10, 100 + i);
    (void)lines[batch].refund(permits{20});
    all.executor.run_due();
    EXPECT_EQ(all.served, (order_of{0, 100}));
    // Agent is at 10, and batch at 10; of the agent's ten, nine come back: 1.
    (void)lines[agent].refund(permits{9});
    all.executor.run_due();
    EXPECT_EQ(all.served.size(), 2U);
    s.left += 1;
    lines.notify();
    all.executor.run_due();
    EXPECT_EQ(all.served, (order_of{0, 100, 1}));
    s.left += 10;
    lines.notify();
    all.executor.run_due();
    EXPECT_EQ(all.served, (order_of{0, 100, 1, 101}));
    all.callers.clear();
}

TEST(fair_lines_of_a_quota, count_what_a_call_takes_most_of_and_correct_it_when_it_is_settled) {
    manual_clock clock;
    weir::llm::quota_limiter quota{weir::llm::quota{.rpm = 100, .tpm = 10'000},
                                   std::ref(clock)};  // a request is worth a hundred tokens
    EXPECT_EQ((weir::detail::share_of(quota, weir::llm::tokens{.input = 5, .output = 10})), 100U);
    EXPECT_EQ((weir::detail::share_of(quota, weir::llm::tokens{.input = 500, .output = 10})), 510U);
    EXPECT_EQ((weir::detail::share_of(quota, std::uint64_t{700})), 700U);
    weir::llm::quota_limiter requests{weir::llm::quota{.rpm = 100}, std::ref(clock)};
    EXPECT_EQ((weir::detail::share_of(requests, weir::llm::tokens{.input = 500, .output = 10})), 1U);
    weir::llm::quota_limiter tokens{weir::llm::quota{.tpm = 100}, std::ref(clock)};
    EXPECT_EQ((weir::detail::share_of(tokens, weir::llm::tokens{.input = 5, .output = 10})), 15U);
    struct seats {
        int n;
    };
    EXPECT_EQ((weir::detail::share_of(quota, seats{7})), 100U);

    // Two classes of one weight: many small calls and few large ones. Each gets half of what is scarce for it.
    fair_queue lines{quota, {fair_class{.weight = 1}, fair_class{.weight = 1}}};
    scene<decltype(lines)> all{clock, lines};
    ASSERT_TRUE(quota.try_acquire(weir::llm::tokens{.input = 10'000, .output = 0}));
    for (int i = 0; i < 100; ++i) all.join(agent, weir::llm::tokens{.input = 1, .output = 0}, i);
    for (int i = 0; i < 30; ++i) all.join(batch, weir::llm::tokens{.input = 400, .output = 0}, 1000 + i);
    all.advance(61s);
    auto const small = std::count_if(all.served.begin(), all.served.end(), [](int who) { return who < 1000; });
    auto const large = static_cast<long>(all.served.size()) - small;
    EXPECT_NEAR(static_cast<double>(small * 100), static_cast<double>(large * 400), 500);
    EXPECT_GT(large, 10);
    all.callers.clear();
}

TEST(fair_lines_of_a_quota, an_output_that_was_held_and_not_used_is_given_back_to_its_class) {
    manual_clock clock;
    weir::llm::quota_limiter quota{weir::llm::quota{.tpm = 1000}, std::ref(clock)};
    fair_queue lines{quota, {fair_class{.weight = 1}, fair_class{.weight = 1}}};
    std::vector<int> served;
    loop executor{clock};
    ASSERT_TRUE(quota.try_acquire(weir::llm::tokens{.input = 1000, .output = 0}));
    auto const wait = [&](role c, int who, weir::llm::tokens asked,
                          std::optional<weir::llm::tokens> used) -> eager_task {
        loop::timer timer{executor};
        auto a = co_await lines[c].async_acquire(asked, timer);
        EXPECT_TRUE(a);
        served.push_back(who);
        if (used) {
            EXPECT_TRUE(lines[c].settle(*a, *used));
            EXPECT_FALSE(lines[c].settle(*a, *used));
        }
    };
    // Both ask for the same, and the agent's turn out short: it gets as many more.
    std::list<eager_task> calls;
    for (int i = 0; i < 20; ++i)
        calls.push_back(wait(agent, i, {.input = 10, .output = 90}, weir::llm::tokens{.input = 10, .output = 15}));
    for (int i = 0; i < 20; ++i)
        calls.push_back(
            wait(batch, 100 + i, {.input = 100, .output = 0}, weir::llm::tokens{.input = 100, .output = 0}));
    clock.advance(61s);
    executor.run_due();
    auto const agents = std::count_if(served.begin(), served.end(), [](int who) { return who < 100; });
    auto const batches = static_cast<long>(served.size()) - agents;
    EXPECT_GE(agents, 4 * batches - 4);
    EXPECT_GE(batches, 4);
    calls.clear();
}

TEST(fair_lines_of_a_cost_of_its_own, a_callable_counts_as_what_its_decision_says_was_asked_for_else_as_one) {
    manual_clock clock;
    stock s{clock};
    fair_queue lines{s, {fair_class{.weight = 1}, fair_class{.weight = 1}}};
    scene<decltype(lines)> all{clock, lines};
    for (int i = 0; i < 4; ++i) all.join(agent, [](stock& l) { return l.try_acquire(50); }, i);
    for (int i = 0; i < 4; ++i) all.join(batch, 2, 100 + i);
    s.left = 1000;
    lines.notify();
    all.executor.run_due();
    EXPECT_EQ(all.served, (order_of{0, 100, 1, 2, 101, 3, 102, 103}));
}

// Threads of three classes, random costs, deadlines and stops, while one moves the clock.
TEST(fair_lines_under_load, keep_the_limiters_promise_and_forget_nobody) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        using contended = weir::token_bucket<manual_clock&, hammer::counting_atomics>;
        constexpr int waiters = 7;
        manual_clock clock;
        contended bucket{rate{1, 1ms}, 10, clock};
        fair_queue lines{
            bucket,
            {fair_class{.weight = 5}, fair_class{.weight = 1, .queue = {.max_waiting = 1}}, fair_class{.weight = 2}}};
        std::atomic<std::uint64_t> granted{0};
        std::atomic<int> ends[6] = {};
        std::atomic<int> running{waiters};
        auto const wait = [&](std::size_t id, auto& rng) {
            auto& line = lines[id % 3];
            for (int k = 0; k < 500; ++k) {
                permits const n = 1 + rng() % (rng() % 20 == 0 ? 11 : 5);
                wait_status why{};
                auto const take = [&](auto a) {
                    why = a.status();
                    if (!a) return;
                    if (rng() % 8 == 0) {
                        line.refund(*a);  // not one was used, however many come back whole
                    } else {
                        granted += n;
                    }
                };
                switch (rng() % 4) {
                    case 0: take(line.acquire(n)); break;
                    case 1: take(line.try_acquire_for(n, std::chrono::microseconds{rng() % 4000})); break;
                    case 2: take(line.try_acquire(n)); break;
                    default: {
                        stop_source stop;
                        std::thread stopper{[&] { stop.request_stop(); }};
                        take(line.try_acquire_until(n, clock.now() + 20ms, stop.get_token()));
                        stopper.join();
                    }
                }
                ++ends[static_cast<int>(why)];
            }
            --running;
        };
        hammer::on_threads(waiters + 2, seed, [&](std::size_t id, auto& rng) {
            if (id < waiters) return wait(id, rng);
            while (running > 0) {
                if (id == waiters) {
                    clock.advance(100us);
                } else {
                    for (int k = 0; k < 10; ++k) {
                        if (auto d = bucket.try_acquire()) lines[k % 3].refund(d);
                    }
                    (void)lines.change_weight(1, 1 + static_cast<std::uint32_t>(rng() % 4));
                }
                std::this_thread::yield();
            }
        });
        EXPECT_EQ(lines.waiting(), 0U);
        EXPECT_EQ(clock.sleepers(), 0U);
        EXPECT_LE(granted, 10U + static_cast<std::uint64_t>(clock.now().time_since_epoch() / 1ms));
        for (auto const w : {wait_status::granted, wait_status::timed_out, wait_status::stopped,
                             wait_status::queue_full, wait_status::never}) {
            EXPECT_GT(ends[static_cast<int>(w)], 0) << weir::to_string(w);
        }
    });
}

}  // namespace
