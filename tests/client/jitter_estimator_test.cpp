// SPDX-License-Identifier: MIT
#include <weir/client/jitter_estimator.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/quota_limiter.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <stdexcept>
#include <vector>

#include "../support/quota_judge.hpp"
#include "../support/stress.hpp"

namespace jitter_estimator_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::jitter_estimator;
using weir::jitter_estimator_options;
using weir::manual_clock;
using time_point = manual_clock::time_point;

constexpr nanoseconds offset = 1'700'000'000s;  // the server's clock against ours

TEST(llm_margin, is_the_cautious_one_until_enough_was_measured) {
    jitter_estimator m{{.initial = 300ms, .min_samples = 10}};
    EXPECT_EQ(m.jitter(), 300ms);
    for (int i = 0; i < 9; ++i) {
        m.arrived(i * 1s, offset + i * 1s + 50ms);
        EXPECT_EQ(m.jitter(), 300ms);
    }
    m.arrived(9s, offset + 9s + 58ms);
    EXPECT_EQ(m.jitter(), 11'250us);
    EXPECT_EQ(m.measured(), 10U);
}

TEST(llm_margin, before_that_a_wider_range_counts_at_once) {
    jitter_estimator m{{.initial = 300ms, .min_samples = 10}};
    m.arrived(0s, offset);
    m.arrived(1s, offset + 1s + 900ms);
    EXPECT_GE(m.jitter(), 901ms);
}

TEST(llm_margin, where_the_clocks_stand_does_not_matter) {
    for (nanoseconds const o : {nanoseconds{0}, offset, -offset}) {
        jitter_estimator m{{.min_samples = 2}};
        m.arrived(5s, o + 5s);
        m.arrived(6s, o + 6s + 20ms);
        EXPECT_EQ(m.jitter(), 26'250us);
    }
}

TEST(llm_margin, without_stamps_it_is_the_greatest_answer_time_less_the_servers_time) {
    jitter_estimator m{{.min_samples = 3}};
    m.answered(0s, 100ms);
    m.answered(1s, 1s + 80ms);
    m.answered(2s, 2s + 5s, 4950ms);
    EXPECT_EQ(m.jitter(), 126'250us);
    m.answered(3s, 3s + 5s, 6s);  // cannot be
    EXPECT_GE(m.jitter(), 5s);
    m.answered(4s, 3s);  // cannot be
    EXPECT_EQ(m.measured(), 4U);
}

TEST(llm_margin, stamps_are_preferred_once_they_are_enough) {
    jitter_estimator m{{.min_samples = 3}};
    for (int i = 0; i < 5; ++i) m.answered(i * 1s, i * 1s + 2s);
    EXPECT_GE(m.jitter(), 2s);
    for (int i = 0; i < 3; ++i) m.arrived(i * 1s, offset + i * 1s + i * 1ms);
    EXPECT_LE(m.jitter(), 4ms);
}

TEST(llm_margin, forgets_extremes_after_two_memories_and_never_for_fewer_measurements) {
    jitter_estimator m{{.memory = 10s, .min_samples = 10}};
    auto const calm = [&](nanoseconds from, int n) {
        for (int i = 0; i < n; ++i) m.arrived(from + i * 1s, offset + from + i * 1s);
    };
    m.arrived(0s, offset + 700ms);
    calm(1s, 9);
    EXPECT_GE(m.jitter(), 700ms);
    calm(1h, 9);
    EXPECT_GE(m.jitter(), 700ms);
    calm(1h + 10s, 30);
    EXPECT_LE(m.jitter(), 2ms);
}

TEST(llm_margin, a_sample_is_kept_for_the_memory_and_longer_while_calls_are_rare) {
    jitter_estimator rare{{.initial = 2ms, .memory = 10s, .min_samples = 10}};
    for (int i = 0; i < 10; ++i) rare.arrived(i * 1s, offset + i * 1s + (i == 0 ? 700ms : 0ms));
    for (int i = 1; i <= 4; ++i) rare.arrived(i * 1h, offset + i * 1h);
    EXPECT_GE(rare.jitter(), 700ms);
    jitter_estimator often{{.memory = 10s, .min_samples = 10}};
    for (int i = 0; i < 50; ++i) often.arrived(1h + i * 100ms, offset + 1h + i * 100ms + (i == 0 ? 700ms : 0ms));
    EXPECT_GE(often.jitter(), 700ms);
}

TEST(llm_margin, stays_within_its_least_and_its_most) {
    jitter_estimator m{{.initial = 10ms, .min_jitter = 5ms, .max_jitter = 50ms, .min_samples = 2}};
    m.arrived(0s, 0s);
    m.arrived(1s, 1s);
    EXPECT_EQ(m.jitter(), 5ms);
    m.arrived(2s, 2h);
    EXPECT_EQ(m.jitter(), 50ms);
    m.arrived(nanoseconds::min(), nanoseconds::max());
    EXPECT_EQ(m.jitter(), 50ms);
}

TEST(llm_margin, refuses_bad_arguments_with_a_reason) {
    EXPECT_FALSE(jitter_estimator::validate({}));
    EXPECT_TRUE(jitter_estimator::validate({.min_jitter = -1ns}));
    EXPECT_TRUE(jitter_estimator::validate({.initial = 1ms, .min_jitter = 2ms}));
    EXPECT_TRUE(jitter_estimator::validate({.initial = 2s, .max_jitter = 1s}));
    EXPECT_TRUE(jitter_estimator::validate({.max_jitter = 2h}));
    EXPECT_TRUE(jitter_estimator::validate({.steps = -1ns}));
    EXPECT_TRUE(jitter_estimator::validate({.memory = 0s}));
    EXPECT_TRUE(jitter_estimator::validate({.min_samples = 1}));
    EXPECT_TRUE(jitter_estimator::validate({.headroom = 10'001}));
    EXPECT_TRUE(jitter_estimator::validate({.max_jitter = 1h + 1ns}));
    EXPECT_TRUE(jitter_estimator::validate({.steps = 1h + 1ns}));
    EXPECT_FALSE(jitter_estimator::validate({.initial = 0ns,
                                             .min_jitter = 0ns,
                                             .max_jitter = 0ns,
                                             .steps = 0ns,
                                             .memory = 1ns,
                                             .min_samples = 2,
                                             .headroom = 0}));
    EXPECT_FALSE(jitter_estimator::validate(
        {.initial = 1h, .min_jitter = 1h, .max_jitter = 1h, .steps = 1h, .headroom = 10'000}));
    EXPECT_THROW((jitter_estimator{{.memory = 0s}}), std::invalid_argument);
}

TEST(llm_margin, threads_lose_no_measurement) {
    jitter_estimator m{};
    hammer::on_threads(4, 1, [&](std::size_t t, auto&) {
        for (int i = 0; i < 1000; ++i) m.arrived(1ms * i, 1ms * i + 10ms * static_cast<int>(t));
    });
    EXPECT_EQ(m.measured(), 4000U);
    EXPECT_EQ(m.jitter(), 38'750us);
}

/// A client with endless work under 10 RPS and 600 RPM, whose requests take 40 to 40 + `spread` to arrive, at an exact
/// judge.
struct outcome {
    std::uint64_t served = 0, refused = 0;
    nanoseconds first{}, last{};
};
using limiter = weir::llm::quota_limiter<manual_clock&>;

template <class Margin>
outcome run(std::uint64_t seed, nanoseconds spread, Margin decide, std::chrono::seconds length,
            jitter_estimator* measured) {
    std::mt19937_64 random{seed};
    manual_clock clock;
    qwen::quota_judge judge{{.derive_rps = false}};
    judge.set_limits("m", {.rpm = 600, .rps = 10});
    weir::llm::quota const q{.rpm = 600, .rps = 10};
    nanoseconds in_force = decide();
    outcome o{.first = in_force};
    auto now = std::make_unique<limiter>(q, weir::llm::quota_options{.jitter = in_force}, clock);
    std::unique_ptr<limiter> next;
    time_point handed_over{}, looked{};
    std::priority_queue<std::pair<std::int64_t, std::int64_t>, std::vector<std::pair<std::int64_t, std::int64_t>>,
                        std::greater<>>
        wire;
    auto const end = clock.now() + length;
    while (clock.now() < end) {
        auto const t = clock.now();
        while (!wire.empty() && wire.top().first <= t.time_since_epoch().count()) {
            auto const [arrival, sent] = wire.top();
            wire.pop();
            (judge.arrive("a", "m", arrival, 1, 1).admitted ? o.served : o.refused) += 1;
            // As the server says it: in whole milliseconds, by its own clock.
            if (measured)
                measured->arrived(nanoseconds{sent},
                                  std::chrono::floor<std::chrono::milliseconds>(offset + nanoseconds{arrival}));
        }
        if (next && t >= handed_over) now = std::move(next);
        if (!next && t >= looked + 60s) {
            looked = t;
            nanoseconds const j = decide();
            if (j > in_force || j < in_force - in_force / 4) {
                next = std::make_unique<limiter>(q, weir::llm::quota_options{.jitter = j}, clock);
                handed_over = t + 60s + in_force;
                in_force = j;
            }
        }
        auto d = now->try_acquire(weir::llm::tokens{}, t);
        std::optional<time_point> later;
        if (!d) later = d.retry_at();
        if (d && next) {
            auto e = next->try_acquire(weir::llm::tokens{}, t);
            if (!e) {
                now->refund(d);
                later = e.retry_at();
            }
        }
        if (!later) {
            auto const delay =
                40ms + nanoseconds{static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(spread.count()))};
            wire.push({(t + delay).time_since_epoch().count(), t.time_since_epoch().count()});
            continue;
        }
        auto to = std::max(*later, t + 1ns);
        if (!wire.empty()) to = std::min(to, time_point{nanoseconds{wire.top().first}});
        clock.advance_to(std::max(to, t + 1ns));
    }
    o.last = in_force;
    return o;
}

TEST(llm_margin, a_jittery_path_is_refused_without_it_and_not_once_it_is_measured) {
    std::uint64_t bare = 0, guessed = 0, own = 0, own_refused = 0, guessed_refused = 0;
    nanoseconds last{};
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        bare += run(seed, 20ms, [] { return nanoseconds{0}; }, 600s, nullptr).refused;
        auto const g = run(seed, 20ms, [] { return nanoseconds{500ms}; }, 600s, nullptr);
        guessed += g.served;
        guessed_refused += g.refused;
        jitter_estimator m{{.initial = 500ms}};
        auto const o = run(seed, 20ms, [&] { return m.jitter(); }, 600s, &m);
        own += o.served;
        own_refused += o.refused;
        EXPECT_EQ(o.first, 500ms);
        EXPECT_LE(o.last, 30ms);
        EXPECT_GE(o.last, 20ms);
        last = o.last;
    }
    std::printf(
        "jitter 20 ms, 10 RPS, 10 minutes: J = 0: %llu refusals of 5 runs; J = 500 ms, guessed: %llu, %.1f%% of the "
        "limit; measured "
        "(500 ms at first, then %.1f ms): %llu, %.1f%%\n",
        static_cast<unsigned long long>(bare), static_cast<unsigned long long>(guessed_refused),
        static_cast<double>(guessed) / 300, static_cast<double>(last.count()) / 1e6,
        static_cast<unsigned long long>(own_refused), static_cast<double>(own) / 300);
    EXPECT_GT(bare, 100U);
    EXPECT_EQ(guessed_refused, 0U);
    EXPECT_EQ(own_refused, 0U);
    EXPECT_GT(own * 10, guessed * 12);
}

TEST(llm_margin, has_these_defaults) {
    constexpr weir::jitter_estimator_options o;
    static_assert(o.initial == 1s && o.min_jitter == 2ms && o.max_jitter == 30s && o.steps == 1ms && o.memory == 2min &&
                  o.min_samples == 100 && o.headroom == 25);
}

}  // namespace jitter_estimator_test
