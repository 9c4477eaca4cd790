// SPDX-License-Identifier: MIT
#include <weir/client/adaptive_concurrency.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <queue>
#include <random>
#include <stdexcept>
#include <vector>

#include "../support/stress.hpp"

namespace adaptive_concurrency_test {

using namespace std::chrono_literals;
using weir::adaptive_concurrency;
using weir::concurrency_options;

/// Gradient2's rule: limit × min(1, tolerance × least/mean) + √limit, half of the way at a time.
struct gradient {
    static std::uint32_t next(std::uint32_t limit, std::uint64_t least, std::uint64_t mean,
                              std::uint32_t tolerance) noexcept {
        double const g =
            std::clamp(tolerance / 100.0 * static_cast<double>(least) / static_cast<double>(mean), 0.5, 1.0);
        double const wanted = g * limit + std::sqrt(static_cast<double>(limit));
        return static_cast<std::uint32_t>(std::lround((limit + wanted) / 2));
    }
};

/// A server with `slots` workers and a queue before them; a call takes 1 s of a worker, give or take a fifth. Clients
/// have endless work.
template <class Law>
class simulation {
public:
    struct phase {
        double throughput, latency, limit;  // calls a second; mean, s; mean limit
    };
    explicit simulation(std::uint64_t seed) : random_{seed} {}
    std::size_t slots = 16;

    phase run(double seconds) {
        double const end = now_ + seconds;
        std::uint64_t done = 0;
        double latency = 0, limits = 0;
        for (;;) {
            while (limit_.try_enter()) queue_.push(now_);
            while (!queue_.empty() && busy_.size() < slots) {
                busy_.push({now_ + std::uniform_real_distribution{0.8, 1.2}(random_), queue_.front()});
                queue_.pop();
            }
            if (busy_.top().first > end) break;
            auto const [t, entered] = busy_.top();
            busy_.pop();
            now_ = t;
            ++done;
            latency += t - entered;
            limits += limit_.limit();
            limit_.leave(std::chrono::nanoseconds{static_cast<std::int64_t>((t - entered) * 1e9)});
        }
        now_ = end;
        auto const n = static_cast<double>(done);
        return {n / seconds, latency / n, limits / n};
    }
    std::uint32_t limit() const { return limit_.limit(); }

private:
    using call = std::pair<double, double>;
    std::mt19937_64 random_;
    adaptive_concurrency<Law> limit_{};
    std::queue<double> queue_;
    std::priority_queue<call, std::vector<call>, std::greater<>> busy_;
    double now_ = 0;
};

struct figures {
    double found = 0, share = 0, latency = 0, limit = 0, halved = 0, share_halved = 0, latency_halved = 0;
};

template <class Law>
figures study() {
    figures f;
    constexpr int seeds = 10;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        simulation<Law> s{seed};
        double t = 0;
        for (; t < 600 && s.limit() < 16; ++t) s.run(1);
        f.found += t / seeds;
        s.run(120);
        auto const p = s.run(600);
        f.share += 100 * p.throughput / 16 / seeds;
        f.latency += p.latency / seeds;
        f.limit += p.limit / seeds;
        s.slots = 8;
        for (t = 0; t < 600 && s.limit() > 12; ++t) s.run(1);
        f.halved += t / seeds;
        s.run(60);
        auto const h = s.run(600);
        f.share_halved += 100 * h.throughput / 8 / seeds;
        f.latency_halved += h.latency / seeds;
    }
    return f;
}

TEST(llm_concurrency, finds_what_a_server_can_work_on_and_leaves_the_rest_of_the_queue_out) {
    auto const print = [](char const* name, figures const& f) {
        std::printf(
            "%-9s found in %.0f s, %.1f%% of the throughput, latency %.2f of 1 s, limit %.1f of 16; halved: %.0f s, "
            "%.1f%%, %.2f s\n",
            name, f.found, f.share, f.latency, f.limit, f.halved, f.share_halved, f.latency_halved);
    };
    auto const a = study<weir::additive>();
    auto const g = study<gradient>();
    print("additive", a);
    print("gradient", g);
    EXPECT_LT(a.found, 30);
    EXPECT_GT(a.share, 97);
    EXPECT_LT(a.latency, 1.6);
    EXPECT_LT(a.halved, 30);
    EXPECT_GT(a.share_halved, 95);
    EXPECT_LT(a.latency_halved, 1.7);
    EXPECT_LT(a.latency, g.latency);
}

TEST(llm_concurrency, lets_in_as_many_as_its_limit_and_one_for_each_that_leaves) {
    adaptive_concurrency<> c{{.start = 3}};
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(c.try_enter());
    EXPECT_FALSE(c.try_enter());
    EXPECT_EQ(c.in_flight(), 3U);
    c.leave();
    EXPECT_TRUE(c.try_enter());
    EXPECT_FALSE(c.try_enter());
    EXPECT_EQ(c.limit(), 3U);
}

/// A round of as many calls as the limit allows.
void round(adaptive_concurrency<>& c, std::chrono::nanoseconds latency) {
    auto const n = c.limit();
    for (std::uint32_t i = 0; i < n; ++i) ASSERT_TRUE(c.try_enter());
    for (std::uint32_t i = 0; i < n; ++i) c.leave(latency);
}

TEST(llm_concurrency, rises_by_one_a_round_that_was_full_and_falls_by_an_eighth_when_slow) {
    adaptive_concurrency<> c{{.start = 16}};
    round(c, 1s);
    EXPECT_EQ(c.limit(), 17U);
    round(c, 1400ms);
    EXPECT_EQ(c.limit(), 18U);
    round(c, 1600ms);
    EXPECT_EQ(c.limit(), 16U);
    for (int i = 0; i < 200; ++i) {  // never two at once: not reached
        ASSERT_TRUE(c.try_enter());
        c.leave(1s);
    }
    EXPECT_EQ(c.limit(), 16U);
}

TEST(llm_concurrency, stays_within_its_bounds) {
    adaptive_concurrency<> c{{.start = 3, .least = 2, .most = 5}};
    for (int i = 0; i < 10; ++i) round(c, 1s);
    EXPECT_EQ(c.limit(), 5U);
    for (int i = 0; i < 10; ++i) round(c, 9s);
    EXPECT_EQ(c.limit(), 2U);
}

TEST(llm_concurrency, measures_the_least_latency_again_at_half_of_the_limit) {
    adaptive_concurrency<> c{{.start = 8, .most = 8, .memory = 4}};
    for (int i = 0; i < 3; ++i) round(c, 100ms);
    EXPECT_EQ(c.limit(), 8U);
    round(c, 100ms);
    EXPECT_EQ(c.limit(), 4U);
    round(c, 900ms);
    round(c, 900ms);  // what was in flight before
    EXPECT_EQ(c.limit(), 4U);
    round(c, 2s);
    EXPECT_EQ(c.limit(), 8U);
    round(c, 2s);  // which is no longer slow
    EXPECT_EQ(c.limit(), 8U);
    round(c, 3100ms);
    EXPECT_EQ(c.limit(), 7U);
}

TEST(llm_concurrency, a_refusal_lowers_it_once_a_round) {
    adaptive_concurrency<> c{{.start = 16}};
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(c.try_enter());
    for (int i = 0; i < 5; ++i) c.refused();
    EXPECT_EQ(c.limit(), 14U);
    EXPECT_EQ(c.in_flight(), 0U);
    round(c, 1s);
    ASSERT_TRUE(c.try_enter());
    c.refused();
    EXPECT_EQ(c.limit(), 14U);
}

TEST(llm_concurrency, refuses_bad_arguments_with_a_reason) {
    using limit = adaptive_concurrency<>;
    EXPECT_FALSE(limit::validate({}));
    EXPECT_TRUE(limit::validate({.least = 0}));
    EXPECT_TRUE(limit::validate({.start = 1, .least = 2}));
    EXPECT_TRUE(limit::validate({.start = 5, .most = 4}));
    EXPECT_TRUE(limit::validate({.most = 1U << 30U}));
    EXPECT_TRUE(limit::validate({.tolerance = 100}));
    EXPECT_TRUE(limit::validate({.memory = 0}));
    EXPECT_TRUE(limit::validate({.tolerance = 10'001}));
    EXPECT_FALSE(limit::validate({.start = 1, .least = 1, .most = 1, .tolerance = 101, .memory = 1}));
    EXPECT_FALSE(limit::validate({.start = 1, .most = (1U << 30U) - 1, .tolerance = 10'000}));
    EXPECT_THROW((limit{{.least = 0}}), std::invalid_argument);
}

TEST(llm_concurrency, threads_are_never_more_in_flight_than_the_limit) {
    adaptive_concurrency<> c{{.start = 3, .most = 3}};
    std::atomic<int> inside{0}, most{0};
    hammer::on_threads(6, [&] {
        for (int i = 0; i < 20'000; ++i) {
            if (!c.try_enter()) continue;
            int const n = ++inside;
            int seen = most.load();
            while (n > seen && !most.compare_exchange_weak(seen, n)) {
            }
            --inside;
            c.leave(1s);
        }
    });
    EXPECT_LE(most.load(), 3);
    EXPECT_EQ(c.in_flight(), 0U);
}

TEST(llm_concurrency, works_with_plain_cells) {
    adaptive_concurrency<weir::additive, weir::unsynchronized> c{};
    EXPECT_TRUE(c.try_enter());
    c.leave(1s);
}

TEST(llm_concurrency, has_these_defaults) {
    constexpr weir::concurrency_options o;
    static_assert(o.start == 4 && o.least == 1 && o.most == 1024 && o.tolerance == 150 && o.memory == 50);
}

}  // namespace adaptive_concurrency_test
