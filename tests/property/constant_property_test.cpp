// SPDX-License-Identifier: MIT
// The same schedules in constant expressions and at run time: what constexpr promises is that they do not differ.
#include "exact.hpp"
#include "script.hpp"

#include <weir/backoff.hpp>
#include <weir/leaky_bucket.hpp>
#include <weir/leaky_bucket_queue.hpp>
#include <weir/sliding_window_counter.hpp>
#include <weir/sliding_window_log.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace constant_property_test {

using namespace std::chrono_literals;
using weir::permits;
using weir::rate;
using numbers = std::array<std::uint64_t, 48>;

template <class Period>
struct still {
    using duration = std::chrono::duration<std::int64_t, Period>;
    using rep = std::int64_t;
    using period = Period;
    using time_point = std::chrono::time_point<still>;
    static constexpr time_point now() noexcept { return {}; }
};

/// What a compiler cannot know.
std::uint64_t unknown(std::uint64_t n) {
    std::uint64_t volatile v = n;
    return v;
}

template <template <class, class> class Bucket, class Clock>
constexpr numbers bucket_answers(std::uint64_t seed, rate r, permits burst, rate other) {
    using time_point = typename Clock::time_point;
    Bucket<Clock, weir::unsynchronized> b{r, burst, {.initial = burst / 2}, time_point{}, Clock{}};
    script::random random{seed};
    std::int64_t t = 0;
    numbers out{};
    for (std::size_t i = 0; i < out.size(); i += 3) {
        t += static_cast<std::int64_t>(script::size(static_cast<std::uint16_t>(random.next())) >> 24U);
        auto const when = script::at<time_point>(t);
        permits const n = random.below(burst + 2);
        if (i == out.size() / 2) out[i] += b.change({other, burst + 1}, when) == weir::errc::none ? 1U : 0U;
        if (random.below(4) == 0) {
            if constexpr (requires { b.reserve(n, typename Clock::duration{9}, when); }) {
                auto const d = b.reserve(n, typename Clock::duration{99}, when);
                out[i] += (d.granted() ? 2U : 4U) + static_cast<std::uint64_t>(script::ticks(d.starts_at()));
                out[i + 1] = static_cast<std::uint64_t>(script::ticks(d.retry_at()));
            }
        } else {
            auto const d = random.below(3) == 0 ? b.check(n, when) : b.try_acquire(n, when);
            out[i] += d.granted() ? 2U : d.never() ? 8U : 4U;
            out[i + 1] = static_cast<std::uint64_t>(script::ticks(d.retry_at()));
        }
        out[i + 2] = b.available(when);
    }
    return out;
}

template <class Clock>
constexpr numbers queue_answers(std::uint64_t seed, rate r, permits waiting) {
    using time_point = typename Clock::time_point;
    weir::leaky_bucket_queue<Clock, weir::unsynchronized> q{r, waiting, {}, time_point{}, Clock{}};
    script::random random{seed};
    std::int64_t t = 0;
    numbers out{};
    for (std::size_t i = 0; i < out.size(); i += 3) {
        t += static_cast<std::int64_t>(script::size(static_cast<std::uint16_t>(random.next())) >> 26U);
        auto const when = script::at<time_point>(t);
        auto d = q.try_acquire(1 + random.below(waiting + 1), when);
        out[i] = (d.granted() ? 2 : 4) + static_cast<std::uint64_t>(script::ticks(d.departs_at()));
        out[i + 1] = static_cast<std::uint64_t>(script::ticks(d.retry_at()));
        if (random.below(3) == 0) out[i + 1] += q.refund(d) ? 1U : 0U;
        out[i + 2] = q.available(when);
    }
    return out;
}

struct generator {
    static constexpr std::uint64_t min() { return 0; }
    static constexpr std::uint64_t max() { return ~std::uint64_t{0}; }
    constexpr std::uint64_t operator()() { return random.next(); }
    script::random random;
};
constexpr numbers backoff_answers(std::uint64_t seed) {
    numbers out{};
    generator g{script::random{seed}};
    for (std::size_t i = 0; i < out.size(); ++i) {
        weir::backoff const p{
            .base = 100ms, .cap = 20s, .attempts = 60, .jitter = static_cast<weir::jitter>(i % 5), .hint_spread = 1s};
        auto const wait = i % 3 == 0 ? p.next(i, g) : p.next(i, g, std::chrono::seconds{static_cast<int>(i)});
        out[i] = wait ? static_cast<std::uint64_t>(wait->count()) : 1;
    }
    return out;
}

/// The pure parts of the windows.
constexpr numbers window_answers(std::uint64_t seed) {
    numbers out{};
    script::random random{seed};
    for (std::size_t i = 0; i < out.size(); i += 4) {
        auto const window = static_cast<std::int64_t>(random.next() >> (20 + i / 4));
        permits const limit = 1 + random.below(1000);
        auto const segments = 1 + static_cast<std::uint32_t>(random.below(300));
        auto const p = weir::detail::window_layout::make(
            limit, window, segments, 1, weir::detail::window_layout::horizon<std::chrono::nanoseconds>());
        out[i] = p.problem ? 1 : p.length;
        out[i + 1] = p.last + p.count_bits + p.ring + p.segments;
        std::uint64_t const divisor = 1 + random.below(1U << 30U);
        out[i + 2] = weir::detail::reciprocal::of(divisor).divide(random.next() >> 1U);
        using log = weir::detail::log_layout;
        std::uint64_t const a = random.next() >> 5U;
        std::uint64_t const b = random.next() >> 5U;
        std::uint64_t const c = random.next() >> 5U;
        out[i + 3] = log::raised(log::lowered(log::bound(a), b), c) ^ log::taken(log::slot(b, log::frozen), i);
    }
    return out;
}

using nano = still<std::nano>;
using milli = still<std::milli>;
using third = still<std::ratio<1, 3>>;

TEST(constant_property, a_bucket_answers_alike_in_a_constant_expression_and_at_run_time) {
    constexpr auto a = bucket_answers<weir::token_bucket, nano>(1, rate{100, 1s}, 20, rate{7, 1s});
    constexpr auto b =
        bucket_answers<weir::token_bucket, milli>(2, rate{1, std::chrono::years{1}}, 3, rate{999, 17min});
    constexpr auto c = bucket_answers<weir::token_bucket, third>(3, rate{2, 7s}, 1000, rate{1, 1min});
    constexpr auto d = bucket_answers<weir::leaky_bucket, nano>(4, rate{1'000'000'007, 1s}, 5, rate{3, 1ns * 100});
    EXPECT_EQ(a,
              (bucket_answers<weir::token_bucket, nano>(unknown(1), rate{unknown(100), 1s}, unknown(20), rate{7, 1s})));
    EXPECT_EQ(b, (bucket_answers<weir::token_bucket, milli>(unknown(2), rate{unknown(1), std::chrono::years{1}},
                                                            unknown(3), rate{999, 17min})));
    EXPECT_EQ(
        c, (bucket_answers<weir::token_bucket, third>(unknown(3), rate{unknown(2), 7s}, unknown(1000), rate{1, 1min})));
    EXPECT_EQ(d, (bucket_answers<weir::leaky_bucket, nano>(unknown(4), rate{unknown(1'000'000'007), 1s}, unknown(5),
                                                           rate{3, 1ns * 100})));
}

TEST(constant_property, a_queue_answers_alike_in_a_constant_expression_and_at_run_time) {
    constexpr auto a = queue_answers<nano>(1, rate{10, 1s}, 5);
    constexpr auto b = queue_answers<third>(2, rate{7, 11s}, 0);
    EXPECT_EQ(a, queue_answers<nano>(unknown(1), rate{unknown(10), 1s}, unknown(5)));
    EXPECT_EQ(b, queue_answers<third>(unknown(2), rate{unknown(7), 11s}, unknown(0)));
}

TEST(constant_property, backoff_waits_alike_in_a_constant_expression_and_at_run_time) {
    constexpr auto a = backoff_answers(1);
    EXPECT_EQ(a, backoff_answers(unknown(1)));
}

TEST(constant_property, the_windows_words_are_alike_in_a_constant_expression_and_at_run_time) {
    constexpr auto a = window_answers(1);
    EXPECT_EQ(a, window_answers(unknown(1)));
}

// ---- the tests' own arithmetic ----

TEST(exact, quotients_times_divisors_and_rests_are_what_was_divided) {
    using exact::integer;
    script::random random{1};
    auto const any = [&](unsigned limbs) {
        integer n = 0;
        for (unsigned i = 0; i < limbs; ++i) {
            // Digits of all zeros and all ones are where a division errs.
            std::uint64_t const bits = random.next();
            n = n * integer::power(32) + (bits % 5 == 0 ? 0U : bits % 5 == 1 ? 0xffff'ffffU : bits >> 32U);
        }
        return random.below(2) == 0 ? n : -n;
    };
    for (int i = 0; i < 20'000; ++i) {
        integer const a = any(static_cast<unsigned>(random.below(14)));
        integer b = any(1 + static_cast<unsigned>(random.below(7)));
        if (b.is_negative()) b = -b;
        if (b.is_zero()) continue;
        integer const down = floor_div(a, b);
        integer const rest = a - down * b;
        ASSERT_TRUE(rest >= integer{0} && rest < b) << a.text() << " / " << b.text();
        ASSERT_TRUE(ceil_div(a, b) == down + (rest.is_zero() ? 0 : 1)) << a.text() << " / " << b.text();
        ASSERT_TRUE(a - b + b == a && -(-a) == a && (a < b) == ((a - b) < integer{0}));
    }
    EXPECT_EQ((integer{-7} * integer::power(40)).text(), "-7696581394432");
    EXPECT_EQ(integer{std::int64_t{-5}}.clamped<std::int64_t>(), -5);
    EXPECT_EQ(integer::power(70).clamped<std::int64_t>(), script::max_ticks);
    EXPECT_EQ((-integer::power(70)).clamped<std::int64_t>(), script::min_ticks);
    EXPECT_EQ(integer{script::min_ticks}.clamped<std::int64_t>(), script::min_ticks);
    EXPECT_EQ(gcd(integer{84}, integer{-36}).u64(), 12U);
}

TEST(script, shrinks_to_the_steps_that_matter_and_prints_them) {
    // Fails where a step 3 with a >= 700 comes before a step 5.
    script::interpreter const run = [](script::schedule const& s, script::journal& log) {
        bool seen = false;
        for (auto const& t : s) {
            log.note("step ", unsigned{t.op});
            if (t.op == 3 && t.a >= 700) seen = true;
            script::ensure(!(seen && t.op == 5), "three, then five");
        }
    };
    script::schedule s = script::draw(9, 60);
    s.push_back({3, 44, 5000, 6, 7});
    s.push_back({9, 1, 1, 1, 1});
    s.push_back({5, 2, 2, 2, 2});
    auto const least = script::shrunk(run, s);
    EXPECT_EQ(least, (script::schedule{{3, 0, 700, 0, 0}, {5, 0, 0, 0, 0}}));
    auto const text = script::report(run, "any", s);
    EXPECT_NE(text.find("{{3, 0, 700, 0, 0}, {5, 0, 0, 0, 0}}"), std::string::npos) << text;
    EXPECT_NE(text.find("three, then five"), std::string::npos) << text;
    EXPECT_EQ(script::report(run, "any", {}), "");
}

}  // namespace constant_property_test
