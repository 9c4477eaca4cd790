// SPDX-License-Identifier: MIT
// A ramp against burst protection, in virtual time.
#include <weir/all_of.hpp>
#include <weir/client/ramp.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <random>
#include <vector>

namespace ramp_simulation_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::ramp_options;
using ramp = weir::ramp<manual_clock&>;
using time_point = manual_clock::time_point;
static_assert(weir::limiter<ramp>);

/// Burst protection as it is supposed to be: refuse when the requests of the last second, this one included, would be
/// more than max(floor, k × mean per second of the last ten). Floor and k walk slowly through their ranges.
class burst_server {
public:
    struct range {
        double floor_low, floor_high, k_low, k_high;
    };
    burst_server(std::uint64_t seed, range r) : random_{seed}, range_{r} {
        floor_ = pick(r.floor_low, r.floor_high);
        k_ = pick(r.k_low, r.k_high);
    }

    bool admits(std::int64_t t) {
        while (moved_ + 1'000'000'000 <= t) {
            moved_ += 1'000'000'000;
            floor_ = std::clamp(floor_ * pick(0.98, 1.02), range_.floor_low, range_.floor_high);
            k_ = std::clamp(k_ * pick(0.99, 1.01), range_.k_low, range_.k_high);
        }
        while (!admitted_.empty() && admitted_.front() <= t - 10'000'000'000) admitted_.pop_front();
        auto const second = static_cast<double>(
            admitted_.end() - std::upper_bound(admitted_.begin(), admitted_.end(), t - 1'000'000'000));
        return second + 1 <= std::max(floor_, k_ * static_cast<double>(admitted_.size()) / 10);
    }
    bool arrive(std::int64_t t) {
        if (!admits(t)) {
            ++refused;
            return false;
        }
        admitted_.push_back(t);
        ++served;
        return true;
    }

    std::uint64_t served = 0, refused = 0;

private:
    double pick(double low, double high) { return std::uniform_real_distribution{low, high}(random_); }

    std::mt19937_64 random_;
    range range_;
    double floor_, k_;
    std::int64_t moved_ = 0;
    std::deque<std::int64_t> admitted_;
};

constexpr burst_server::range usual{4, 20, 1.5, 3};

/// A batch of endless work until `end`; nothing is learnt from refusals.
template <class Limiter>
void work(Limiter& l, burst_server& server, manual_clock& clock, time_point end) {
    while (clock.now() < end) {
        if (auto d = l.try_acquire(1)) {
            server.arrive(clock.now().time_since_epoch().count());
        } else {
            clock.advance_to(std::min(d.retry_at(), end));
        }
    }
}

/// Admissions of a client that knows the server's rule and state, spaced by nothing else.
std::uint64_t ideal(std::uint64_t seed, burst_server::range range, std::uint64_t rate, std::int64_t seconds) {
    burst_server server{seed, range};
    std::uint64_t n = 0;
    std::int64_t const step = 1'000'000'000 / static_cast<std::int64_t>(rate);
    for (std::int64_t t = step; t <= seconds * 1'000'000'000; t += step)
        n += server.admits(t) && server.arrive(t) ? 1U : 0U;
    return n;
}

TEST(ramp, a_cold_start_meets_burst_protection_and_a_ramp_does_not) {
    std::uint64_t without = 0, with = 0, served = 0, ideal_served = 0;
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        manual_clock clock;
        weir::token_bucket<manual_clock&> full{weir::rate{100, 1s}, 1, {.initial = 0}, clock};
        burst_server server{seed, usual};
        work(full, server, clock, time_point{5s});
        without += server.refused;

        manual_clock clock2;
        ramp r{{.first = 3, .max_first = 3, .growth = 150, .max_growth = 150}, clock2};
        weir::token_bucket<manual_clock&> cap{weir::rate{100, 1s}, 1, {.initial = 0}, clock2};
        weir::all_of both{cap, r};
        burst_server server2{seed, usual};
        work(both, server2, clock2, time_point{120s});
        with += server2.refused;
        served += server2.served;
        ideal_served += ideal(seed, usual, 100, 120);
    }
    EXPECT_GT(without, 50U * 100U);
    EXPECT_EQ(with, 0U);
    std::printf(
        "first 3, growth 150, nothing learnt: 100 a second from rest, %.1f%% of the ideal's first two minutes\n",
        100.0 * static_cast<double>(served) / static_cast<double>(ideal_served));
    EXPECT_GT(served * 100, ideal_served * 50);
}

/// Cold starts in turn, each after 15 s of rest; refusals of each, and what was served of the ideal.
struct learning {
    std::vector<std::uint64_t> refused;
    std::uint64_t served = 0, ideal = 0;
};
learning learn(std::uint64_t seed, burst_server::range range, std::uint64_t rate, int rounds) {
    learning l;
    manual_clock clock;
    ramp r{{}, clock};
    burst_server server{seed, range};
    for (int i = 0; i < rounds; ++i) {
        auto const begin = clock.now();
        auto const before = server.refused;
        auto const served = server.served;
        auto const step = std::chrono::nanoseconds{1'000'000'000 / static_cast<std::int64_t>(rate)};
        while (clock.now() < begin + 60s) {
            auto d = r.try_acquire();
            if (!d) {
                clock.advance_to(std::min(d.retry_at(), begin + 60s));
                continue;
            }
            if (!server.arrive(clock.now().time_since_epoch().count())) r.burst(d);
            clock.advance(step);  // the quota's
        }
        l.refused.push_back(server.refused - before);
        if (i >= rounds / 2) {
            l.served += server.served - served;
            l.ideal += ideal(seed * 1000 + static_cast<std::uint64_t>(i), range, rate, 60);
        }
        clock.advance(15s);
    }
    return l;
}

TEST(ramp, learns_what_the_server_allows_with_few_refusals) {
    std::uint64_t served = 0, ideal_served = 0, refused = 0;
    std::vector<std::uint64_t> by_round(20);
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        auto const l = learn(seed, usual, 100, 20);
        for (std::size_t i = 0; i < by_round.size(); ++i) by_round[i] += l.refused[i];
        for (std::size_t i = 10; i < 20; ++i) refused += l.refused[i];
        served += l.served;
        ideal_served += l.ideal;
    }
    std::printf("refusals in each of 20 cold starts, summed over 30 servers:");
    for (auto n : by_round) std::printf(" %llu", static_cast<unsigned long long>(n));
    std::printf("\nafter ten cold starts: %.2f refusals a start, %.3f%% of requests, %.1f%% of the ideal\n",
                static_cast<double>(refused) / 300, 100.0 * static_cast<double>(refused) / static_cast<double>(served),
                100.0 * static_cast<double>(served) / static_cast<double>(ideal_served));
    EXPECT_LT(refused * 1000, served);  // under 0.1%
    EXPECT_LT(refused, 300U * 2U);      // under two a cold start
    EXPECT_GT(served * 100, ideal_served * 85);
}

}  // namespace ramp_simulation_test
