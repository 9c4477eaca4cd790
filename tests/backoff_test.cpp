// SPDX-License-Identifier: MIT
#include <weir/backoff.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace backoff_test {

using namespace std::chrono_literals;
using weir::backoff;
using weir::jitter;
using duration = backoff::duration;

constexpr jitter every_jitter[] = {jitter::none, jitter::full, jitter::equal, jitter::decorrelated, jitter::additive};

// Generators of one number each: those for which a draw is the lowest and the highest of its range.
struct lowest {
    static constexpr std::uint64_t min() { return 0; }
    static constexpr std::uint64_t max() { return std::numeric_limits<std::uint64_t>::max(); }
    constexpr std::uint64_t operator()() const { return 0; }
};
struct highest : lowest {
    constexpr std::uint64_t operator()() const { return 0xcf9a'04af'fa6b'adc0; }
};
static_assert(weir::detail::mixed(lowest{}()) == lowest::min() && weir::detail::mixed(highest{}()) == highest::max());

// The shortest and the longest wait that the policy returns after an attempt.
struct range {
    std::optional<duration> min, max;
};
range range_of(backoff const& policy, std::uint64_t attempt, std::optional<duration> previous = std::nullopt) {
    return {policy.next(attempt, lowest{}, {}, 0s, previous), policy.next(attempt, highest{}, {}, 0s, previous)};
}

TEST(backoff, doubles_from_base_to_cap) {
    constexpr backoff policy{.base = 1s, .cap = 10s, .attempts = 100, .jitter = jitter::none};
    static_assert(policy.next(0, lowest{}) == 1s);
    static_assert(policy.next(1, lowest{}) == 2s);
    static_assert(policy.next(3, lowest{}) == 8s);
    static_assert(policy.next(4, lowest{}) == 10s);
    static_assert(policy.next(98, lowest{}) == 10s);
}

TEST(backoff, full_is_any_wait_up_to_the_exponential) {
    backoff const policy{.base = 1s, .cap = 10s, .attempts = 100, .jitter = jitter::full};
    for (auto [attempt, top] : {std::pair{0U, 1s}, {1U, 2s}, {2U, 4s}, {3U, 8s}, {4U, 10s}, {50U, 10s}}) {
        EXPECT_EQ(range_of(policy, attempt).min, 0s);
        EXPECT_EQ(range_of(policy, attempt).max, top);
    }
}

TEST(backoff, equal_is_at_least_half_of_the_exponential) {
    backoff const policy{.base = 1s, .cap = 10s, .attempts = 100, .jitter = jitter::equal};
    EXPECT_EQ(range_of(policy, 2).min, 2s);
    EXPECT_EQ(range_of(policy, 2).max, 4s);
    backoff const odd{.base = 5ns, .cap = 5ns, .jitter = jitter::equal};
    EXPECT_EQ(range_of(odd, 0).min, 3ns);
    EXPECT_EQ(range_of(odd, 0).max, 5ns);
}

TEST(backoff, decorrelated_is_between_base_and_three_times_the_previous_wait) {
    backoff const policy{.base = 1s, .cap = 20s, .attempts = 100, .jitter = jitter::decorrelated};
    EXPECT_EQ(range_of(policy, 0).min, 1s);
    EXPECT_EQ(range_of(policy, 0).max, 3s);
    EXPECT_EQ(range_of(policy, 1, 3s).min, 1s);
    EXPECT_EQ(range_of(policy, 1, 3s).max, 9s);
    EXPECT_EQ(range_of(policy, 2, 9s).max, 20s);
    // Without the previous wait, the exponential is used.
    EXPECT_EQ(range_of(policy, 3).max, 12s);
    // A previous wait out of range is clamped.
    EXPECT_EQ(range_of(policy, 1, -5s).max, 3s);
    EXPECT_EQ(range_of(policy, 1, duration::max()).max, 20s);
    // Three times the previous wait may overflow.
    backoff const endless{
        .base = 1s, .cap = duration::max(), .attempts = 100, .budget = duration::max(), .jitter = jitter::decorrelated};
    EXPECT_EQ(range_of(endless, 1, duration::max() / 2).min, 1s);
    EXPECT_EQ(range_of(endless, 1, duration::max() / 2).max, duration::max());
    EXPECT_EQ(range_of(endless, 1, duration::max() / 3).max, duration::max() / 3 * 3);
}

TEST(backoff, additive_adds_a_random_second_to_the_exponential) {
    backoff const policy{.base = 1s, .cap = 60s, .attempts = 100, .jitter = jitter::additive};
    for (std::uint64_t attempt = 0; attempt < 5; ++attempt) {
        EXPECT_EQ(range_of(policy, attempt).min, 1s * (1 << attempt));
        EXPECT_EQ(range_of(policy, attempt).max, 1s * (1 << attempt) + 1s);
    }
    // At the cap the waits are spread too, below it.
    EXPECT_EQ(range_of(policy, 6).min, 59s);
    EXPECT_EQ(range_of(policy, 6).max, 60s);
    // No wait is below base, where base and cap leave no room for the spread.
    backoff const narrow{.base = 1s, .cap = 1500ms, .jitter = jitter::additive};
    EXPECT_EQ(range_of(narrow, 3).min, 1s);
    EXPECT_EQ(range_of(narrow, 3).max, 1500ms);
    backoff const wide{.base = 1s, .cap = 60s, .jitter = jitter::additive, .spread = 4s};
    EXPECT_EQ(range_of(wide, 0).max, 5s);
}

TEST(backoff, every_duration_may_be_fractional_or_endless) {
    backoff const policy{.base = 0.5s,
                         .cap = 1.5s,
                         .attempts = 100,
                         .budget = std::chrono::hours::max(),
                         .jitter = jitter::additive,
                         .spread = 0.25s,
                         .hint_spread = std::chrono::duration<double>{1e300}};
    EXPECT_FALSE(policy.validate());
    EXPECT_EQ(policy.base, 500ms);
    EXPECT_EQ(policy.budget, duration::max());
    EXPECT_EQ(policy.hint_spread, duration::max());
    EXPECT_EQ(range_of(policy, 0).max, 750ms);
    EXPECT_EQ(policy.next(0, lowest{}, 2.5s, 0.5s), 2500ms);
    EXPECT_EQ(policy.next(0, lowest{}, std::chrono::years{300}), duration::max());
    backoff const tight{.base = 1s, .budget = std::chrono::minutes{1}, .jitter = jitter::none};
    EXPECT_EQ(tight.next(0, lowest{}, {}, std::chrono::seconds::max()), std::nullopt);
    EXPECT_EQ(tight.next(0, lowest{}, {}, std::chrono::hours::min()), 1s);
    for (auto const endless : {duration::max(), duration{weir::any_duration<>{std::chrono::seconds::max()}}}) {
        EXPECT_TRUE((backoff{.budget = endless}.next(0, lowest{}, 24h * 365 * 290)));
    }
}

TEST(backoff, gives_up_after_the_last_attempt) {
    backoff const policy{.attempts = 3};
    EXPECT_TRUE(policy.next(0, lowest{}));
    EXPECT_TRUE(policy.next(1, lowest{}));
    EXPECT_FALSE(policy.next(2, lowest{}));
    EXPECT_FALSE(policy.next(std::numeric_limits<std::uint64_t>::max(), lowest{}));
    EXPECT_FALSE((backoff{.attempts = 1}.next(0, lowest{})));
}

TEST(backoff, does_not_begin_a_wait_that_ends_beyond_the_budget) {
    backoff const policy{.base = 4s, .cap = 60s, .attempts = 100, .budget = 10s, .jitter = jitter::none};
    EXPECT_EQ(policy.next(0, lowest{}, {}, 0s), 4s);
    EXPECT_EQ(policy.next(0, lowest{}, {}, 6s), 4s);
    EXPECT_EQ(policy.next(0, lowest{}, {}, 6s + 1ns), std::nullopt);
    EXPECT_EQ(policy.next(2, lowest{}, {}, 0s), std::nullopt);
    EXPECT_EQ(policy.next(0, lowest{}, {}, 11s), std::nullopt);
    EXPECT_EQ(policy.next(0, lowest{}, {}, -5s), 4s);
    backoff const none{.base = 0s, .budget = 0s, .jitter = jitter::none};
    EXPECT_EQ(none.next(0, lowest{}), 0s);
}

TEST(backoff, a_hint_wins_when_later_and_is_never_shortened) {
    for (auto const j : every_jitter) {
        backoff const policy{.base = 1s, .cap = 4s, .attempts = 100, .jitter = j};
        std::mt19937_64 rng{1};
        for (std::uint64_t attempt = 0; attempt < 50; ++attempt) {
            EXPECT_EQ(policy.next(attempt, rng, 30s), 30s);  // beyond the cap, which is the client's own
            EXPECT_GE(policy.next(attempt, rng, 500ms), 500ms);
        }
    }
    backoff const policy{.base = 8s, .cap = 8s, .jitter = jitter::none};
    EXPECT_EQ(policy.next(0, lowest{}, 3s), 8s);
    EXPECT_EQ(policy.next(0, lowest{}, 0s), 8s);
    EXPECT_EQ(policy.next(0, lowest{}, -3s), 8s);
    EXPECT_EQ(policy.next(0, lowest{}, std::optional<std::chrono::seconds>{9}), 9s);
    EXPECT_EQ(policy.next(0, lowest{}, std::optional<std::chrono::seconds>{}), 8s);
    EXPECT_EQ(policy.next(0, lowest{}, std::nullopt), 8s);
}

TEST(backoff, a_hint_beyond_the_budget_gives_up_at_once) {
    backoff const policy{.budget = 60s, .jitter = jitter::none};
    EXPECT_EQ(policy.next(0, lowest{}, 60s), 60s);
    EXPECT_EQ(policy.next(0, lowest{}, 61s), std::nullopt);
    EXPECT_EQ(policy.next(0, lowest{}, 31s, 30s), std::nullopt);
    // 21 days, the answer of an exhausted plan, with the default budget.
    EXPECT_EQ(backoff{}.next(0, lowest{}, 1'849'295s), std::nullopt);
}

TEST(backoff, a_hint_too_long_for_nanoseconds_does_not_wrap) {
    backoff const policy{.budget = duration::max(), .jitter = jitter::none};
    EXPECT_EQ(policy.next(0, lowest{}, std::chrono::seconds{10'000'000'000}), duration::max());
    EXPECT_EQ(policy.next(0, lowest{}, std::chrono::hours::max()), duration::max());
    EXPECT_EQ(policy.next(0, lowest{}, std::chrono::duration<std::uint64_t>{std::uint64_t{1} << 63U}), duration::max());
    EXPECT_EQ(backoff{}.next(0, lowest{}, std::chrono::seconds{10'000'000'000}), std::nullopt);
    // Finer than a nanosecond is rounded up.
    EXPECT_EQ(policy.next(0, lowest{}, std::chrono::duration<std::int64_t, std::pico>{5'000'000'000'001}), 5s + 1ns);
    // What fits is exact, though its count of nanoseconds times the unit's divisor does not.
    EXPECT_EQ(policy.next(0, lowest{}, std::chrono::duration<std::int64_t, std::ratio<1, 3>>{24'000'000'000}),
              8'000'000'000s);
    backoff const spread{.budget = duration::max(), .jitter = jitter::none, .hint_spread = 1h};
    EXPECT_EQ(spread.next(0, highest{}, duration::max()), duration::max());
}

TEST(backoff, hints_are_spread_upwards_only_when_asked) {
    backoff const policy{.base = 1s, .jitter = jitter::none, .hint_spread = 2s};
    EXPECT_EQ(policy.next(0, lowest{}, 30s), 30s);
    EXPECT_EQ(policy.next(0, highest{}, 30s), 32s);
    EXPECT_EQ(policy.next(0, highest{}), 1s);
}

// Every jitter, and policies at the ends of their ranges.
TEST(backoff, is_finite_and_within_its_cap_after_any_number_of_attempts) {
    constexpr duration longest = duration::max();
    for (auto const j : every_jitter) {
        for (auto const base : {duration{0}, duration{1}, duration{1s}, longest / 2, longest}) {
            for (auto const cap : {base, std::max<duration>(base, 60s), longest}) {
                for (auto const spread : {duration{0}, duration{1s}, longest}) {
                    backoff const policy{.base = base,
                                         .cap = cap,
                                         .attempts = std::numeric_limits<std::uint64_t>::max(),
                                         .budget = longest,
                                         .jitter = j,
                                         .spread = spread};
                    std::mt19937_64 rng{7};
                    backoff::sequence tries{policy};
                    for (std::uint64_t attempt = 0; attempt < 200; ++attempt) {
                        for (auto const k :
                             {attempt, attempt + 10'000, std::numeric_limits<std::uint64_t>::max() - 2 - attempt}) {
                            for (auto const wait :
                                 {policy.next(k, rng), policy.next(k, lowest{}), policy.next(k, highest{})}) {
                                ASSERT_TRUE(wait);
                                ASSERT_GE(*wait, 0s);
                                ASSERT_LE(*wait, cap);
                            }
                        }
                        ASSERT_LE(tries.next(rng, {}, 0s), cap);
                    }
                }
            }
        }
    }
}

TEST(backoff, each_jitter_keeps_its_bounds) {
    auto const seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 rng{seed};
    for (int i = 0; i < 20'000; ++i) {
        duration const base{static_cast<std::int64_t>(rng() % 5'000'000'000)};
        duration const cap = base + duration{static_cast<std::int64_t>(rng() % 100'000'000'000)};
        auto const attempt = rng() % 40;
        duration const e = std::min<duration>(
            cap, base.count() > (cap.count() >> attempt) ? cap : base * (std::int64_t{1} << attempt));
        auto const wait = [&](jitter j) {
            return *backoff{.base = base, .cap = cap, .attempts = 1000, .jitter = j}.next(attempt, rng);
        };
        ASSERT_EQ(wait(jitter::none), e);
        ASSERT_LE(wait(jitter::full), e);
        ASSERT_GE(wait(jitter::equal) * 2, e);
        ASSERT_LE(wait(jitter::equal), e);
        ASSERT_GE(wait(jitter::decorrelated), base);
        ASSERT_GE(wait(jitter::additive), base);
        ASSERT_LE(wait(jitter::additive), std::min(cap, e + duration{1s}));
    }
}

// Draws fill their range evenly: 16 bins of an even share each, within what chance allows (chi squared with 15 degrees
// of freedom is above 50 once in 10^5).
template <class Generator>
void fills_evenly() {
    backoff const policy{.base = 1s, .cap = 1s, .jitter = jitter::full};
    Generator rng{42};
    std::vector<int> bins(16);
    constexpr int draws = 64'000;
    for (int i = 0; i < draws; ++i) {
        auto const bin = policy.next(0, rng)->count() * 16 / 1'000'000'001;
        ++bins[static_cast<std::size_t>(bin)];
    }
    double chi = 0;
    for (int n : bins) chi += (n - draws / 16.0) * (n - draws / 16.0) / (draws / 16.0);
    EXPECT_LT(chi, 50.0);
}
TEST(backoff, draws_evenly_from_any_standard_generator) {
    fills_evenly<std::mt19937_64>();
    fills_evenly<std::mt19937>();
    fills_evenly<std::minstd_rand>();
    fills_evenly<std::minstd_rand0>();
    fills_evenly<std::ranlux24_base>();
    fills_evenly<std::ranlux48_base>();
    fills_evenly<std::knuth_b>();
}

// 4,000 clients, each with a generator of its own whose seeds are related: their first waits fill the range evenly (64
// bins: chi squared with 63 degrees of freedom is above 130 once in 10^6).
template <class Generator>
double chi_squared_of_clients(std::uint64_t first_seed, std::uint64_t step) {
    backoff const policy{.base = 1s, .cap = 1s, .jitter = jitter::full};
    constexpr int clients = 4'000;
    std::vector<int> bins(64);
    for (int i = 0; i < clients; ++i) {
        Generator rng{static_cast<typename Generator::result_type>(first_seed + static_cast<std::uint64_t>(i) * step)};
        ++bins[static_cast<std::size_t>(policy.next(0, rng)->count() * 64 / 1'000'000'001)];
    }
    double chi = 0;
    for (int n : bins) chi += (n - clients / 64.0) * (n - clients / 64.0) / (clients / 64.0);
    return chi;
}
struct xorshift64 {
    using result_type = std::uint64_t;
    std::uint64_t state;
    static constexpr std::uint64_t min() { return 0; }
    static constexpr std::uint64_t max() { return std::numeric_limits<std::uint64_t>::max(); }
    std::uint64_t operator()() {
        state ^= state << 13U;
        state ^= state >> 7U;
        return state ^= state << 17U;
    }
};
TEST(backoff, related_seeds_spread_clients_over_the_whole_range) {
    using modulo_2_31 = std::linear_congruential_engine<std::uint32_t, 1'103'515'245, 12'345, 1U << 31U>;
    for (std::uint64_t const step : {1U, 2U, 4U, 8U, 64U, 4096U}) {
        EXPECT_LT(chi_squared_of_clients<modulo_2_31>(4, step), 130) << step;
        EXPECT_LT(chi_squared_of_clients<std::minstd_rand>(4, step), 130) << step;
        EXPECT_LT(chi_squared_of_clients<std::minstd_rand0>(4, step), 130) << step;
        EXPECT_LT(chi_squared_of_clients<std::mt19937_64>(4, step), 130) << step;
        EXPECT_LT(chi_squared_of_clients<xorshift64>(4, step), 130) << step;
    }
}

// The waits themselves are part of the contract: the same on every platform and library.
TEST(backoff, is_the_same_everywhere_given_the_generator) {
    backoff const policy{.base = 1s, .cap = 60s, .attempts = 10, .jitter = jitter::full};
    std::mt19937_64 wide;
    std::mt19937 narrow;
    std::minstd_rand odd;
    EXPECT_EQ(policy.next(0, wide), 610'838'111ns);
    EXPECT_EQ(policy.next(8, wide), 31'250'573'190ns);
    EXPECT_EQ(policy.next(0, narrow), 713'889'177ns);
    EXPECT_EQ(policy.next(0, odd), 27'040'559ns);
}

TEST(backoff, takes_as_many_random_numbers_whatever_it_returns) {
    struct counting : std::mt19937_64 {
        int calls = 0;
        std::uint64_t operator()() {
            ++calls;
            return std::mt19937_64::operator()();
        }
    };
    for (auto const j : every_jitter) {
        backoff const policy{.attempts = 5, .jitter = j, .hint_spread = 1s};
        counting rng;
        int const per_call = j == jitter::none ? 1 : 2;
        for (int i = 0; i < 10; ++i)
            (void)policy.next(static_cast<std::uint64_t>(i), rng, i % 2 == 0 ? 0s : 1'000'000s);
        EXPECT_EQ(rng.calls, 10 * per_call);
    }
    counting rng;
    (void)backoff{.jitter = jitter::none}.next(0, rng);
    EXPECT_EQ(rng.calls, 0);
}

TEST(backoff, validate_names_the_bad_field) {
    EXPECT_FALSE(backoff{}.validate());
    EXPECT_FALSE((backoff{.base = 0ns,
                          .cap = 0ns,
                          .attempts = 1,
                          .budget = 0ns,
                          .jitter = jitter::additive,
                          .spread = 0ns,
                          .hint_spread = 0ns}
                      .validate()));
    EXPECT_TRUE(backoff{.base = -1ns}.validate());
    EXPECT_TRUE((backoff{.base = 2s, .cap = 1s}.validate()));
    EXPECT_TRUE(backoff{.attempts = 0}.validate());
    EXPECT_TRUE(backoff{.budget = -1ns}.validate());
    EXPECT_TRUE(backoff{.jitter = static_cast<jitter>(9)}.validate());
    EXPECT_TRUE(backoff{.spread = -1ns}.validate());
    EXPECT_TRUE(backoff{.hint_spread = -1ns}.validate());
    EXPECT_STREQ(backoff{.attempts = 0}.validate().message(), "attempts must be at least 1");
#if defined(__cpp_exceptions)
    EXPECT_THROW((void)backoff{.attempts = 0}.next(0, lowest{}), std::invalid_argument);
    EXPECT_THROW(backoff::sequence{backoff{.base = -1ns}}, std::invalid_argument);
#endif
}

TEST(backoff_sequence, counts_attempts_and_the_time_that_it_waited) {
    backoff::sequence tries{backoff{.base = 1s, .cap = 60s, .attempts = 4, .jitter = jitter::none}};
    EXPECT_EQ(tries.next(lowest{}), 1s);
    EXPECT_EQ(tries.next(lowest{}), 2s);
    EXPECT_EQ(tries.next(lowest{}), 4s);
    EXPECT_EQ(tries.waited(), 7s);
    EXPECT_EQ(tries.failures(), 3U);
    EXPECT_EQ(tries.next(lowest{}), std::nullopt);
    EXPECT_EQ(tries.next(lowest{}), std::nullopt);
    EXPECT_EQ(tries.failures(), 4U);
    tries.reset();
    EXPECT_EQ(tries.next(lowest{}), 1s);
    EXPECT_EQ(tries.policy().attempts, 4U);
}

TEST(backoff_sequence, keeps_the_budget_by_its_waits_or_by_a_given_elapsed_time) {
    backoff const policy{.base = 1s, .cap = 60s, .attempts = 100, .budget = 7s, .jitter = jitter::none};
    backoff::sequence by_waits{policy};
    for (auto const s : {1s, 2s, 4s}) EXPECT_EQ(by_waits.next(lowest{}), s);
    EXPECT_EQ(by_waits.next(lowest{}), std::nullopt);
    backoff::sequence by_clock{policy};
    EXPECT_EQ(by_clock.next(lowest{}, {}, 5s), 1s);
    EXPECT_EQ(by_clock.next(lowest{}, {}, 6s), std::nullopt);
}

TEST(backoff_sequence, decorrelates_from_its_own_previous_wait) {
    backoff const policy{
        .base = 1s, .cap = 100s, .attempts = 1000, .budget = duration::max(), .jitter = jitter::decorrelated};
    backoff::sequence up{policy};
    for (auto const s : {3s, 9s, 27s, 81s, 100s, 100s}) EXPECT_EQ(up.next(highest{}), s);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(up.next(lowest{}), 1s);
    EXPECT_EQ(up.next(highest{}), 3s);
    // A long hint does not widen the range of the next wait.
    EXPECT_EQ(up.next(lowest{}, 1h), 1h);
    EXPECT_EQ(up.next(highest{}), 100s);
}

}  // namespace backoff_test
