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

#include "../support/fair_scene.hpp"
#include "../support/int128.hpp"
#include "../support/manual_loop.hpp"
#include "../support/stress.hpp"

namespace fair_schedule_test {

using int128::i128;
using namespace std::chrono_literals;
using namespace fair_scene;
using weir::fair_class;
using weir::fair_queue;
using weir::rate;

// Start-time fair queueing as the paper has it: every call has its own tags, given when it arrives, S = max(v, F of
// the call before it in its class), F = S + n / weight; the least S is served; v is the S of the call served last,
// and the greatest F when none is left. All in exact fractions, over the least common multiple of the weights.
class paper {
public:
    struct call {
        std::size_t of = 0;
        std::uint64_t n = 0;
        int number = 0;
        i128 start{};
    };

    explicit paper(std::vector<std::uint32_t> weights)
        : weights_{std::move(weights)}, queues_(weights_.size()), finish_(weights_.size()) {
        for (auto const w : weights_) unit_ = std::lcm(unit_, std::uint64_t{w});
    }

    bool idle() const {
        return std::all_of(queues_.begin(), queues_.end(), [](auto const& q) { return q.empty(); });
    }
    void arrives(std::size_t c, std::uint64_t n, int number) {
        i128 const start = std::max(v_, finish_[c]);
        queues_[c].push_back({c, n, number, start});
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
    bool leaves(std::size_t c, int number) {
        auto& q = queues_[c];
        auto const at = std::find_if(q.begin(), q.end(), [&](call const& x) { return x.number == number; });
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

TEST(fair_queue, serves_in_the_papers_order_over_random_arrivals) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        std::mt19937_64 random{seed};
        auto const pick = [&](std::uint64_t n) { return random() % n; };
        // Weights that divide the unit in which the tags are kept; so they are exact.
        std::vector<std::uint32_t> w;
        for (int i = 0; i < 5; ++i) w.push_back(static_cast<std::uint32_t>(1 + pick(16)));
        manual_clock clock;
        stock s{clock};
        fair_queue queues{s,
                          {fair_class{w[0]}, fair_class{w[1]}, fair_class{w[2]}, fair_class{w[3]}, fair_class{w[4]}}};
        scene<decltype(queues)> all{clock, queues};
        paper model{w};
        permits left = 0;
        std::vector<int> expected;
        std::vector<std::pair<std::size_t, int>> joined;
        auto const settle = [&] {
            while (model.first() != nullptr && model.first()->n <= left) {
                left -= model.first()->n;
                expected.push_back(model.first()->number);
                model.serve_first();
            }
        };
        std::uint64_t const eager = 1 + pick(6);
        for (int number = 0; number < 600; ++number) {
            if (pick(8) < eager) {
                std::size_t const c = static_cast<std::size_t>(pick(5));
                std::uint64_t const n = pick(20) == 0 ? pick(5000) : pick(50);
                if (model.idle() && n <= left) {
                    left -= n;
                    expected.push_back(number);
                } else {
                    model.arrives(c, n, number);
                    joined.emplace_back(c, number);
                    settle();
                }
                all.join(c, n, number);
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
                queues.notify();
                all.executor.run_due();
            }
            ASSERT_EQ(all.served, expected) << "seed " << seed << ", step " << number;
            ASSERT_EQ(s.left, left);
        }
        EXPECT_GT(expected.size(), 50U);
        all.callers.clear();
        EXPECT_EQ(queues.waiting(), 0U);
    }
}

// The promises by themselves, for weights that do not divide the unit, over the bare order: all classes but those
// that pause have always a call that waits.
struct served_call {
    std::size_t of;
    std::uint64_t n;
};

constexpr std::size_t classes = 6;

TEST(fair_schedule, keeps_each_pair_of_classes_within_the_stated_bound) {
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

TEST(fair_schedule, between_two_grants_of_a_class_others_get_what_is_stated) {
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

TEST(fair_schedule, a_class_that_comes_back_is_next_and_has_no_credit) {
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

TEST(fair_schedule, capacity_used_while_no_call_waited_creates_no_debt) {
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

TEST(fair_schedule, a_huge_settlement_does_not_wrap_either) {
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

TEST(fair_schedule, costs_of_zero_take_turns_too) {
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

TEST(fair_schedule, a_refund_is_credit_down_to_the_virtual_time) {
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

}  // namespace fair_schedule_test
