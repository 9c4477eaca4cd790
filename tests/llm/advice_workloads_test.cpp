// SPDX-License-Identifier: MIT
//
// simulate() on random workloads, against two implementations that share no code with weir: the judge of quotas, which
// must refuse no call of a schedule, and the ideal client, which no schedule may beat.
#include <weir/llm/advice/simulation.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "../support/ideal.hpp"
#include "../support/planned_calls.hpp"
#include "../support/quota_judge.hpp"

namespace advice_workloads_test {

using namespace std::chrono_literals;
using namespace advice_test;
using namespace weir::llm;
using std::chrono::nanoseconds;

class drawn {
public:
    explicit drawn(std::uint64_t seed) : engine_{seed} {}
    std::uint64_t among(std::uint64_t least, std::uint64_t greatest) {
        return least + engine_() % (greatest - least + 1);
    }
    nanoseconds ms(std::uint64_t least, std::uint64_t greatest) {
        return std::chrono::milliseconds{static_cast<std::int64_t>(among(least, greatest))};
    }

    std::vector<planned_call> calls() {
        std::vector<planned_call> all(static_cast<std::size_t>(among(50, 300)));
        std::uint64_t const span = among(0, 1) == 0 ? 0 : among(1, 200'000);
        for (auto& c : all) {
            c.wanted = ms(0, span);
            c.bound = io(among(1, 400), among(0, 300));
            c.used = io(c.bound.input, among(0, c.bound.output));
            c.latency = ms(1, 20'000);
        }
        return all;
    }
    quota limits() {
        quota q;
        if (among(0, 3) != 0) q.rpm = among(10, 200);
        if (among(0, 3) == 0) q.rps = among(1, 5);
        if (among(0, 3) != 0) q.tpm = among(1'000, 40'000);
        if (among(0, 7) == 0) q.tps = among(700, 2'000);
        return q;
    }

private:
    std::mt19937_64 engine_;
};

bool same(simulation_result const& a, simulation_result const& b) {
    auto const all = [](simulation_result const& f) {
        return std::tie(f.name, f.makespan, f.wait.median, f.wait.p99, f.wait.longest, f.wait.total, f.cost, f.used,
                        f.answered, f.fallbacks, f.never, f.peak_minute, f.peak_second, f.per_mille);
    };
    return all(a) == all(b);
}

TEST(llm_advice, shares_sum_to_a_thousand_and_simulations_are_deterministic) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        drawn d{seed};
        auto const calls = d.calls();
        setup s = one_account(d.limits(), {d.among(0, 5'000'000), d.among(0, 9'000'000)});
        if (d.among(0, 1) == 0) s = with_accounts(s, static_cast<std::size_t>(d.among(2, 3)));
        if (d.among(0, 1) == 0)
            s = with_fallback(s, fallback_model(d.limits(), {1'000'000, 2'000'000}), d.ms(0, 5'000));
        if (d.among(0, 2) == 0) s.max_in_flight = d.among(1, 20);
        auto const f = simulate(calls, s);
        EXPECT_EQ(sum(f), 1000U) << seed;
        EXPECT_EQ(f.answered + f.never, calls.size()) << seed;
        EXPECT_LE(f.wait.median, f.wait.p99);
        EXPECT_LE(f.wait.p99, f.wait.longest);
        EXPECT_LE(f.wait.longest, f.makespan);
        EXPECT_TRUE(same(f, simulate(calls, s))) << seed;
    }
}

TEST(llm_advice, a_raised_quota_makes_no_call_later) {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        drawn d{seed};
        auto const calls = d.calls();
        auto const now = one_account(d.limits());
        std::vector<placement> before;
        std::vector<placement> after;
        (void)simulate(calls, now, &before);
        for (std::uint64_t const per_mille : {1100U, 1500U, 3000U}) {
            (void)simulate(calls, with_raised_quota(now, per_mille), &after);
            for (std::size_t i = 0; i < calls.size(); ++i) {
                if (!before[i].admitted) continue;
                EXPECT_LE(after[i].sent, before[i].sent) << seed << ", call " << i << " at " << per_mille;
            }
        }
    }
}

// What the judge is told: requests that take up to J to arrive, and answers that end when they did.
std::uint64_t refusals(std::vector<planned_call> const& calls, setup const& s, std::vector<placement> const& where,
                       qwen::token_mode mode, drawn& d) {
    struct event {
        std::int64_t at;
        bool ends;
        std::size_t call;
    };
    qwen::quota_judge judge{{.tokens = mode, .derive_rps = false}};
    for (std::size_t m = 0; m < s.models.size(); ++m) {
        for (std::size_t a = 0; a < s.models[m].accounts.size(); ++a) {
            auto const& q = s.models[m].accounts[a].limits;
            judge.set_limits(std::to_string(a), std::to_string(m), {q.rpm, q.rps, q.tpm, q.tps});
        }
    }
    std::vector<event> events;
    for (std::size_t i = 0; i < calls.size(); ++i) {
        if (!where[i].admitted) continue;
        auto const late = static_cast<std::int64_t>(d.among(0, static_cast<std::uint64_t>(s.options.jitter.count())));
        std::int64_t const arrives = where[i].sent.count() + late;
        events.push_back({arrives, false, i});
        // The server is done with it before the client has read it.
        events.push_back({std::max<std::int64_t>(arrives, where[i].ended.count()), true, i});
    }
    // At one instant ends come first: an answer that is read may be what lets the next call go.
    std::sort(events.begin(), events.end(), [](event const& x, event const& y) {
        return std::tuple{x.at, !x.ends, x.call} < std::tuple{y.at, !y.ends, y.call};
    });
    std::vector<std::uint64_t> tickets(calls.size());
    for (auto const& e : events) {
        if (e.ends) {
            judge.complete(tickets[e.call], e.at, calls[e.call].used.output);
        } else {
            auto const v = judge.arrive(std::to_string(where[e.call].account), std::to_string(where[e.call].model),
                                        e.at, calls[e.call].bound.input, calls[e.call].bound.output);
            tickets[e.call] = v.ticket;
        }
    }
    return judge.report().total().refused.total();
}

TEST(llm_advice, an_exact_server_refuses_no_call_of_a_simulated_schedule) {
    std::uint64_t waited = 0;
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        drawn d{seed};
        auto calls = d.calls();
        // The judge is told of the end at the end, so an answer must outlast the way.
        for (auto& c : calls) c.latency = std::max<nanoseconds>(c.latency, 200ms);
        setup s = with_fallback(with_accounts(one_account(d.limits()), 2), fallback_model(d.limits()), d.ms(0, 5'000));
        s.options.jitter = d.ms(0, 1) * 100;
        std::vector<placement> where;
        auto const f = simulate(calls, s, &where);
        waited += f.wait.longest > 0s ? 1U : 0U;
        for (auto const mode : {qwen::token_mode::actual, qwen::token_mode::input_strict, qwen::token_mode::reserve}) {
            EXPECT_EQ(refusals(calls, s, where, mode, d), 0U) << seed << ", " << to_string(mode);
        }
        // And the judge can refuse: with all sent at once it does.
        if (f.wait.total > 0s && f.fallbacks == 0) {
            for (auto& p : where) p.ended -= p.sent, p.sent = 0s;
            EXPECT_GT(refusals(calls, s, where, qwen::token_mode::reserve, d), 0U) << seed;
        }
    }
    EXPECT_GT(waited, 15U) << "or little was tested";
}

TEST(llm_advice, a_schedule_is_within_1_percent_of_the_ideal_client) {
    int compared = 0;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        drawn d{seed};
        auto calls = d.calls();
        for (auto& c : calls) c.wanted = 0s;
        auto const q = d.limits();
        std::vector<placement> where;
        auto const f = simulate(calls, one_account(q), &where);
        if (f.never != 0) continue;
        std::vector<qwen::ideal_call> same_calls;
        for (auto const& c : calls)
            same_calls.push_back(
                {c.used.input, c.used.output, c.bound.output, std::chrono::duration<double>(c.latency).count()});
        double const ideal = qwen::ideal_time(same_calls, {q.rpm, q.rps, q.tpm, q.tps});
        double last = 0;
        for (auto const& p : where) last = std::max(last, std::chrono::duration<double>(p.sent).count());
        EXPECT_GE(last, ideal - 0.001) << seed << ": better than the best";
        EXPECT_LE(last, ideal * 1.01 + 0.5) << seed;
        ++compared;
    }
    EXPECT_GT(compared, 15);
}

TEST(llm_advice, two_accounts_take_about_half_of_the_time) {
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
        drawn d{seed};
        auto const calls = at_once(static_cast<std::size_t>(d.among(2000, 3000)), io(d.among(5, 50), 0), d.ms(1, 500));
        auto const now = one_account({.rpm = d.among(30, 60), .tpm = d.among(2'000, 4'000)});
        auto const one = simulate(calls, now).makespan;
        auto const two = simulate(calls, with_accounts(now, 2)).makespan;
        EXPECT_LT(two * 100, one * 52) << seed;
        EXPECT_GT(two * 100, one * 45) << seed;
    }
}

}  // namespace advice_workloads_test
