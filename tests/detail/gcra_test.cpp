// SPDX-License-Identifier: MIT
#include <weir/detail/gcra.hpp>

#include <gtest/gtest.h>

#include "../support/gcra_oracle.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>
#include <string>
#include <string_view>
#include <vector>

namespace gcra_test {

using namespace std::chrono_literals;
using namespace gcra_oracle;
using std::chrono::nanoseconds;
using weir::gcra;
using weir::permits;
using weir::rate;

constexpr std::uint64_t never = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t horizon = gcra::horizon<nanoseconds>();

gcra make(named_rate const& r, permits burst) {
    auto g = gcra::make<nanoseconds>(r.rate, burst);
    EXPECT_TRUE(g) << r << " burst " << burst << ": " << (g ? "" : g.error().message());
    return g ? *g : gcra{};
}

/// Bursts of every size that fit with the rate.
std::vector<permits> bursts(named_rate const& r) {
    std::vector<permits> v;
    for (permits b : {1ULL, 2ULL, 3ULL, 20ULL, 1000ULL, 999'983ULL, 1ULL << 32U, 1ULL << 50U, 1ULL << 59U}) {
        if (gcra::make<nanoseconds>(r.rate, b)) v.push_back(b);
    }
    return v;
}

/// A tick near one of the places where arithmetic likes to fail.
std::uint64_t any_tick(random_engine& random) {
    switch (below(random, 4)) {
        case 0: return any_size(random, 1'000'000);
        case 1: return horizon - any_size(random, horizon);
        default: return any_size(random, horizon);
    }
}

struct state {
    gcra g;
    std::uint64_t tat = 0;
    bool take(permits n, std::uint64_t t) {
        if (n > g.burst() || !g.allows(tat, g.at(t), n)) return false;
        tat = g.charged(tat, g.at(t), n);
        return true;
    }
    std::uint64_t available(std::uint64_t t) const { return g.available(tat, g.at(t)); }
};

TEST(gcra, earns_the_exact_floor_and_ceiling_at_any_tick) {
    random_engine random{11};
    for (auto const& r : gcra_oracle::awkward_rates()) {
        for (auto burst : bursts(r)) {
            gcra const g = make(r, burst);
            i128 const p = static_cast<i128>(g.unit()) * r.per_tick.permits;
            i128 const q = r.per_tick.ticks;
            for (int i = 0; i < 3000; ++i) {
                std::uint64_t const t = i == 0 ? 0 : i == 1 ? horizon : any_tick(random);
                auto const earned = g.at(t);
                // p·t would not always fit: p may hold a unit of 60 bits. Split p = a·q + b.
                i128 const exact_floor = p / q * static_cast<i128>(t) + p % q * static_cast<i128>(t) / q;
                bool const whole = p % q * static_cast<i128>(t) % q == 0;
                ASSERT_EQ(earned.floor, static_cast<std::uint64_t>(exact_floor))
                    << r << " burst " << burst << " t " << t;
                ASSERT_EQ(earned.ceil, earned.floor + (whole ? 0U : 1U)) << r << " burst " << burst << " t " << t;
            }
        }
    }
}

TEST(gcra, finds_the_first_tick_that_has_earned_so_much_whatever_the_burst) {
    random_engine random{12};
    for (auto const& r : gcra_oracle::awkward_rates()) {
        for (auto burst : bursts(r)) {
            gcra const g = make(r, burst);
            std::uint64_t const most = g.at(horizon).floor;
            ASSERT_EQ(g.first(0), 0U);
            ASSERT_EQ(g.first(most + 1), never);
            for (int i = 0; i < 300; ++i) {
                std::uint64_t const units = i == 0 ? most : any_size(random, most);
                std::uint64_t const t = g.first(units);
                ASSERT_LE(t, horizon);
                ASSERT_GE(g.at(t).floor, units) << r << " burst " << burst << " units " << units;
                if (t > 0) {
                    ASSERT_LT(g.at(t - 1).floor, units) << r << " burst " << burst << " units " << units;
                }
            }
        }
    }
}

TEST(gcra, keeps_its_numbers_within_sixty_bits_and_uses_them) {
    for (auto const& r : gcra_oracle::awkward_rates()) {
        for (auto burst : bursts(r)) {
            gcra const g = make(r, burst);
            i128 const total = static_cast<i128>(g.at(horizon).ceil) + g.span() + 1;
            EXPECT_LE(total, static_cast<i128>(gcra::tat_max)) << r << " burst " << burst;
            bool const one_tick_is_exact = g.unit() % static_cast<std::uint64_t>(r.per_tick.ticks) == 0;
            EXPECT_TRUE(one_tick_is_exact || total * 40 > static_cast<i128>(gcra::tat_max) ||
                        static_cast<std::uint64_t>(r.per_tick.ticks) % g.unit() == 0)
                << r << " burst " << burst << " wastes bits: unit " << g.unit();
        }
    }
}

TEST(gcra, refuses_a_rate_whose_fraction_does_not_fit) {
    using seventh = std::chrono::duration<std::int64_t, std::ratio<1, 7>>;
    auto const g = gcra::make<nanoseconds>(rate{(permits{1} << 62U) - 1, seventh{1}}, permits{1} << 59U);
    ASSERT_FALSE(g);
    EXPECT_NE(std::string_view{g.error().message()}.find("as a fraction of permits per tick"), std::string_view::npos)
        << g.error().message();
}

TEST(gcra, counts_exactly_wherever_the_period_fits) {
    for (std::int64_t const period : {std::int64_t{1'000'003}, std::int64_t{999'999'937}, std::int64_t{1} << 40U}) {
        gcra const g = make({"1 in a period", {1, nanoseconds{period}}, {1, period}}, 3);
        EXPECT_EQ(g.unit() % static_cast<std::uint64_t>(period), 0U) << period;
    }
}

TEST(gcra, counts_in_a_divisor_of_a_period_that_is_too_long_to_count_in) {
    for (std::uint64_t const prime : {2U, 3U, 5U, 7U}) {
        std::uint64_t ticks = 1;
        while (ticks < (std::uint64_t{1} << 62U) / prime) ticks *= prime;
        auto const period = static_cast<std::int64_t>(ticks);
        gcra const g = make({"1 in a power of a prime", {1, std::chrono::nanoseconds{period}}, {1, period}}, 1);
        EXPECT_GT(g.unit(), ticks / 1000);
        EXPECT_LT(g.unit(), ticks) << "not too long";
        EXPECT_EQ(ticks % g.unit(), 0U) << prime;
    }
}

/// By trying all of them: the largest divisor without a factor above 7 that is at most `most`.
std::uint64_t largest_smooth_divisor(std::uint64_t ticks, std::uint64_t most) {
    std::vector<std::uint64_t> all{1};
    for (std::uint64_t const prime : {2U, 3U, 5U, 7U}) {
        for (std::size_t i = 0; i < all.size(); ++i) {
            if (all[i] <= ticks / prime && ticks % (all[i] * prime) == 0) all.push_back(all[i] * prime);
        }
    }
    std::uint64_t best = 1;
    for (auto const d : all) best = d <= most ? std::max(best, d) : best;
    return best;
}

TEST(gcra, counts_in_the_largest_smooth_divisor_that_fits_or_in_as_much_as_fits) {
    random_engine random{29};
    int divisors = 0;
    int others = 0;
    for (int i = 0; i < 3'000; ++i) {
        std::uint64_t ticks = random() % 3 == 0 ? 1'000'003 : 1;
        for (std::uint64_t const prime : {2U, 3U, 5U, 7U}) {
            for (auto n = random() % (1 + random() % 40); n > 0 && ticks < (std::uint64_t{1} << 62U) / prime; --n)
                ticks *= prime;
        }
        permits const burst = 1 + random() % (std::uint64_t{1} << (random() % 56));
        auto const g = gcra::make<nanoseconds>({1, nanoseconds{static_cast<std::int64_t>(ticks)}}, burst);
        if (!g) continue;
        std::uint64_t const most = gcra::tat_max / (horizon / ticks + (horizon % ticks != 0 ? 1 : 0) + burst + 1);
        if (ticks <= most) {
            ASSERT_EQ(g->unit(), ticks) << "burst " << burst;
            continue;
        }
        std::uint64_t const best = largest_smooth_divisor(ticks, most);
        ASSERT_EQ(g->unit(), best >= most / 8 ? best : most) << ticks << ", burst " << burst;
        ++(best >= most / 8 ? divisors : others);
    }
    EXPECT_GT(divisors, 300);
    EXPECT_GT(others, 100);
}

TEST(gcra, prefers_a_divisor_of_an_eighth_to_a_number_that_divides_nothing) {
    constexpr std::uint64_t divisor = std::uint64_t{1} << 20U;
    constexpr std::uint64_t ticks = divisor * 285'311'670'611;  // 11^11
    constexpr permits total = horizon / ticks + 1;
    auto const unit = [](permits burst) {
        auto const g = gcra::make<nanoseconds>({1, nanoseconds{static_cast<std::int64_t>(ticks)}}, burst);
        return g ? g->unit() : 0;
    };
    EXPECT_EQ(unit((std::uint64_t{1} << 37U) - 2 - total), divisor) << "8 divisors fit";
    EXPECT_GT(unit(std::uint64_t{1} << 36U), 8 * divisor) << "16 do";
}

TEST(gcra, is_exact_where_the_remainder_beyond_bit_128_is_one_part_of_the_period) {
    int tried = 0;
    for (std::uint64_t q = (std::uint64_t{1} << 50U) - 1; tried < 50; q -= 2) {
        // p = 2^-128 modulo q: then the 128 bits of p/q are too small by 2^-128/q, and at q ticks by 2^-128 of a unit.
        i128 p = 1;
        for (int i = 0; i < 128; ++i) p = p % 2 == 0 ? p / 2 : (p + static_cast<i128>(q)) / 2;
        if (p > static_cast<i128>(q) / 2) continue;
        auto const count = static_cast<permits>(p);
        auto const g = gcra::make<nanoseconds>({count, nanoseconds{static_cast<std::int64_t>(q)}}, gcra::tat_max / 2);
        if (!g || g->unit() != 1) continue;
        ++tried;
        ASSERT_EQ(g->at(q).floor, count) << q;
        ASSERT_EQ(g->at(q).ceil, count) << q;
        ASSERT_EQ(g->first(count), q) << q;
    }
}

TEST(gcra, is_never_above_the_rate_and_loses_less_than_a_permit_in_30_years) {
    random_engine random{13};
    for (auto const& r : gcra_oracle::awkward_rates()) {
        // A bucket that is never full grants, step by step, burst + ⌊rate·t⌋ in all, whatever the steps.
        for (auto burst : bursts(r)) {
            i128 const p = r.per_tick.permits;
            i128 const q = r.per_tick.ticks;
            // However much of a permit is left over, a step earns no more than fits.
            i128 const to_fill = (static_cast<i128>(burst) - 1) * q / p;
            std::uint64_t const step =
                to_fill > static_cast<i128>(horizon / 500) ? horizon / 500 : static_cast<std::uint64_t>(to_fill);
            if (step < 2) continue;
            for (std::uint64_t start :
                 {std::uint64_t{0}, horizon - horizon / 7, horizon - std::min<std::uint64_t>(horizon, 1500 * step)}) {
                state s{make(r, burst)};
                // From `start` on; it begins empty there, as if all had been taken until then.
                ASSERT_TRUE(s.take(burst, start));
                std::uint64_t taken = 0;
                std::uint64_t const loss =
                    s.tat - s.g.at(start).floor - s.g.span();  // the clamp's rounding, 0 or 1 unit
                std::uint64_t t = start;
                for (int i = 0; i < 1500 && t < horizon; ++i) {
                    t += std::min(horizon - t, 1 + below(random, step - 1));
                    auto const n = s.available(t);
                    if (n == 0) continue;
                    ASSERT_LT(n, burst + 1);
                    ASSERT_TRUE(s.take(n, t));
                    taken += n;
                    i128 const elapsed = static_cast<i128>(t - start);
                    i128 const exact = p * elapsed / q;
                    ASSERT_LE(static_cast<i128>(taken), exact) << r << " burst " << burst;
                    // Less than a permit: what is missing is the fraction of one, and the rounding of `start`.
                    ASSERT_GE((static_cast<i128>(taken) + 1) * q + (loss != 0 || start != 0 ? q : 0), p * elapsed)
                        << r << " burst " << burst << " start " << start << " t " << t;
                    if (start == 0) {
                        ASSERT_EQ(static_cast<i128>(taken), exact) << r << " burst " << burst;
                    }
                }
            }
        }
    }
}

TEST(gcra, grants_what_the_rational_algorithm_grants_but_for_the_time_of_a_unit) {
    random_engine random{14};
    for (auto const& r : gcra_oracle::awkward_rates()) {
        for (auto burst : bursts(r)) {
            gcra const g = make(r, burst);
            i128 const unit_time = (static_cast<i128>(r.per_tick.ticks) /
                                    (static_cast<i128>(r.per_tick.permits) * static_cast<i128>(g.unit()))) +
                                   2;
            for (int i = 0; i < 200; ++i) {
                std::uint64_t const t = any_size(random, horizon / 2);
                state s{g};
                gcra_oracle::ideal exact{r.per_tick, burst};
                permits const n = 1 + any_size(random, burst - 1);
                ASSERT_TRUE(s.take(n, t));
                ASSERT_TRUE(exact.take(n, static_cast<std::int64_t>(t)));
                permits const m = 1 + any_size(random, burst - 1);
                std::uint64_t const mine = std::max(t, g.first(g.required(s.tat, m)));
                std::int64_t const ideal = std::max(static_cast<std::int64_t>(t), exact.first(m));
                if (mine == never || mine > horizon) continue;
                ASSERT_GE(static_cast<std::int64_t>(mine), ideal)
                    << r << " burst " << burst << " t " << t << " n " << n << " m " << m;
                ASSERT_LE(static_cast<i128>(mine) - ideal, unit_time)
                    << r << " burst " << burst << " t " << t << " n " << n << " m " << m;
            }
        }
    }
}

TEST(gcra, keeps_its_promise_in_any_interval_in_whatever_order_times_come) {
    for (auto const& r : gcra_oracle::awkward_rates()) {
        for (auto burst : bursts(r)) {
            if (burst > 1'000'000) continue;
            for (std::uint64_t seed = 1; seed <= 30; ++seed) {
                SCOPED_TRACE(testing::Message() << r << " burst " << burst << " seed " << seed);
                random_engine random{seed};
                state s{make(r, burst)};
                std::vector<gcra_oracle::grant> granted;
                // Steps of about a permit's time, sometimes of a burst's, sometimes none, sometimes back.
                auto const permit =
                    static_cast<std::uint64_t>(std::max<std::int64_t>(1, r.per_tick.ticks / r.per_tick.permits));
                std::uint64_t t = seed % 3 == 0 ? 0 : any_size(random, horizon / 2);
                std::uint64_t const begin = t;
                for (int i = 0; i < 300; ++i) {
                    auto const what = below(random, 8);
                    if (what < 3) t += below(random, 2 * permit);
                    if (what == 3)
                        t += below(random,
                                   std::min(permit, horizon / burst / 4) * std::min<std::uint64_t>(burst, 4) + 1);
                    if (t > horizon) t = horizon;
                    std::uint64_t const back = what == 4 ? t - std::min(t - begin, below(random, 4 * permit)) : t;
                    permits const n = below(random, 3) == 0 ? 1 + any_size(random, burst - 1) : 1;
                    if (s.take(n, back)) granted.push_back({static_cast<std::int64_t>(back), n});
                    if (below(random, 16) == 0) {
                        auto const all = s.available(t);
                        if (all != 0 && s.take(all, t)) granted.push_back({static_cast<std::int64_t>(t), all});
                    }
                }
                ASSERT_EQ(gcra_oracle::excess(granted, r.per_tick, burst), 0);
            }
        }
    }
}

/// Whether k permits can be taken at `now` one by one. The first raises the TAT to the time, rounded up.
bool allows_one_by_one(gcra const& g, std::uint64_t tat, gcra::position now, permits k) {
    if (k == 0) return true;
    if (!g.allows(tat, now, 1)) return false;
    // The others follow each other without a gap.
    return k == 1 || (k <= g.burst() && g.allows(g.charged(tat, now, 1), now, k - 1));
}

/// How many permits one call can take at `now`.
permits at_once(gcra const& g, std::uint64_t tat, gcra::position now) {
    std::uint64_t const room = now.floor + g.span();
    return tat >= room ? 0 : std::min(g.burst(), (room - tat) / g.unit());
}

TEST(gcra, has_available_exactly_what_it_allows_one_by_one) {
    random_engine random{16};
    for (auto const& r : gcra_oracle::awkward_rates()) {
        for (auto burst : bursts(r)) {
            gcra const g = make(r, burst);
            for (int i = 0; i < 500; ++i) {
                auto const now = g.at(any_tick(random));
                std::uint64_t const tat =
                    std::min(gcra::tat_max, below(random, 2) == 0 ? any_size(random, gcra::tat_max)
                                                                  : now.floor + any_size(random, 2 * g.span()));
                permits const n = g.available(tat, now);
                ASSERT_LE(n, burst);
                ASSERT_TRUE(allows_one_by_one(g, tat, now, n)) << r << " burst " << burst;
                ASSERT_FALSE(allows_one_by_one(g, tat, now, n + 1)) << r << " burst " << burst;
                // At once it is as many, or all of a full burst, of which a part of a unit is lost to a first part.
                permits const whole = at_once(g, tat, now);
                ASSERT_TRUE(whole == n ||
                            (whole == burst && n + 1 == burst && tat <= now.floor && now.ceil != now.floor))
                    << r << " burst " << burst << ": " << n << " one by one, " << whole << " at once";
                if (whole > 0) {
                    ASSERT_TRUE(g.allows(tat, now, whole)) << r << " burst " << burst;
                }
                if (whole < burst) {
                    ASSERT_FALSE(g.allows(tat, now, whole + 1)) << r << " burst " << burst;
                }
            }
            for (permits k : {permits{0}, permits{1}, burst / 2, burst - 1, burst, burst + 1, never}) {
                ASSERT_EQ(g.available(g.initial(k), g.at(0)), std::min(k, burst));
            }
        }
    }
}

TEST(gcra, carries_credit_and_debt_over_and_never_adds_to_them) {
    auto const rates = gcra_oracle::awkward_rates();
    random_engine random{17};
    for (auto const& from : rates) {
        for (auto const& to : rates) {
            for (int i = 0; i < 200; ++i) {
                permits const b1 = 2 + any_size(random, 2000);
                permits const b2 = 2 + any_size(random, 2000);
                gcra const a = make(from, b1);
                gcra const b = make(to, b2);
                std::uint64_t const t = any_size(random, horizon);
                auto const before = a.at(t);
                std::uint64_t const tat = below(random, 3) == 0 ? any_size(random, before.floor)
                                                                : before.floor + any_size(random, 2 * a.span());
                SCOPED_TRACE(testing::Message() << from << " burst " << b1 << " to " << to << " burst " << b2 << " t "
                                                << t << " tat " << tat);
                std::uint64_t const next = b.carried(a, tat, t);
                if (next == never) continue;  // the debt is due beyond the horizon
                ASSERT_LE(next, gcra::tat_max);
                permits const had = at_once(a, tat, before);
                permits const has = at_once(b, next, b.at(t));
                ASSERT_LE(has, std::min(had, b2));
                ASSERT_GE(has + 1, std::min(had, b2));
                if (tat <= before.floor && b1 >= b2) {
                    ASSERT_EQ(has, std::min(b1, b2)) << "what is full stays full";
                }
                // In fractions of a permit: credit a.span − used, and never more of it than before.
                i128 const used = tat > before.floor ? static_cast<i128>(tat - before.floor) : 0;
                i128 const credit = static_cast<i128>(a.span()) - used;
                auto const at = b.at(t).ceil;
                i128 const credit2 = static_cast<i128>(b.span()) - (next > at ? static_cast<i128>(next - at) : 0);
                ASSERT_LE(credit2, std::max<i128>(credit * static_cast<i128>(b.unit()) / static_cast<i128>(a.unit()),
                                                  credit < 0 ? -1 : 0));
                // What was booked under the old one is due before anything is available under the new.
                if (credit < 0) {
                    std::uint64_t const due = a.first(tat - a.span());
                    if (due > t) {
                        ASSERT_GE(b.first(b.required(next, 1)), due);
                        ASSERT_EQ(b.available(next, b.at(due)), 0U);
                    }
                }
            }
        }
    }
}

TEST(gcra, refuses_what_cannot_be_counted_and_says_why) {
    auto const reason = [](rate r, permits burst, nanoseconds resolution = 1ns) {
        auto g = gcra::make<nanoseconds>(r, burst, resolution);
        return std::string{g ? "" : g.error().message()};
    };
    EXPECT_EQ(reason({1, 1s}, 1), "");
    EXPECT_NE(reason({1, 1s}, 0).find("burst must be at least 1 (got 0)"), std::string::npos);
    EXPECT_NE(reason({1, 1s}, weir::permit_count::invalid_value).find("got a negative number"), std::string::npos);
    EXPECT_NE(reason({1, 1s}, weir::all_permits).find("burst must be below 2^60"), std::string::npos);
    EXPECT_NE(reason({1, 1s}, gcra::tat_max).find("does not fit"), std::string::npos);
    EXPECT_NE(reason({2, 1ns}, 1'000'000).find("does not fit"), std::string::npos);
    EXPECT_NE(reason({1, 1s}, 1, 0ns).find("resolution"), std::string::npos);
    // 1000 a second through a clock of 4 ms: four permits a step.
    EXPECT_NE(reason({1000, 1s}, 3, 4ms).find("too coarse"), std::string::npos);
    EXPECT_EQ(reason({1000, 1s}, 4, 4ms), "");
    EXPECT_NE(reason({1001, 1s}, 4, 4ms).find("too coarse"), std::string::npos);
    using years = std::chrono::duration<std::int64_t, std::ratio<31'557'600>>;
    EXPECT_FALSE(gcra::make<years>({1, 24h}, 300));
    EXPECT_TRUE(gcra::make<years>({1, 24h}, 366));
    using eons = std::chrono::duration<std::int64_t, std::ratio<3'155'760'000LL>>;
    EXPECT_FALSE(gcra::make<eons>({1, std::chrono::hours{1'000'000}}, 100));
    EXPECT_FALSE((gcra::make<std::chrono::duration<std::int64_t, std::pico>>({1, 1s}, 1)));
}

TEST(gcra, counts_by_any_tick) {
    // 7 an hour by clocks of a millisecond, a second, a third of a second, a minute: four promises, one algorithm.
    auto const run = [](auto tick, std::uint64_t per_hour) {
        using duration = decltype(tick);
        auto const made = gcra::make<duration>(rate{7, 1h}, 3);
        ASSERT_TRUE(made) << made.error().message();
        state s{*made};
        ASSERT_TRUE(s.take(3, 0));
        permits taken = 0;
        for (std::uint64_t t = 1; t <= 5 * per_hour; t += 1 + per_hour / 1000) {
            taken += s.take(1, t) ? 1U : 0U;
            ASSERT_LE(taken * per_hour, 7 * t);
        }
        ASSERT_GE(taken, 34U);
    };
    run(std::chrono::milliseconds{}, 3'600'000);
    run(std::chrono::seconds{}, 3'600);
    run(std::chrono::duration<std::int64_t, std::ratio<1, 3>>{}, 10'800);
    run(std::chrono::minutes{}, 60);
}

TEST(gcra, survives_being_packed) {
    for (auto const& r : gcra_oracle::awkward_rates()) {
        gcra const a = make(r, 17);
        gcra const b = gcra::unpack(a.pack(), a.horizon());
        EXPECT_EQ(a.burst(), b.burst());
        EXPECT_EQ(a.unit(), b.unit());
        EXPECT_EQ(a.span(), b.span());
        for (std::uint64_t t : {std::uint64_t{1}, std::uint64_t{12'345'678'901'234'567}, horizon}) {
            EXPECT_EQ(a.at(t).floor, b.at(t).floor);
            EXPECT_EQ(a.at(t).ceil, b.at(t).ceil);
            EXPECT_EQ(a.clamp(t + 1), b.clamp(t + 1));
        }
    }
}

TEST(gcra, is_an_algorithm_for_constant_expressions) {
    constexpr gcra g = *gcra::make<nanoseconds>(rate{10, 1s}, 2);
    static_assert(g.burst() == 2);
    constexpr auto full = g.initial(2);
    constexpr auto one_less = g.charged(full, g.at(0), 1);
    constexpr auto empty = g.charged(one_less, g.at(0), 1);
    static_assert(g.available(one_less, g.at(0)) == 1);
    static_assert(!g.allows(empty, g.at(99'999'999), 1));
    static_assert(g.allows(empty, g.at(100'000'000), 1));
    static_assert(g.first(g.required(empty, 1)) == 100'000'000);
    static_assert(g.first(g.required(empty, 2)) == 200'000'000);
    static_assert(g.clamp(never) == horizon);
    static_assert(!gcra::make<nanoseconds>(rate{10, 1s}, 0));
}

}  // namespace gcra_test
