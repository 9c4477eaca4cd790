// SPDX-License-Identifier: MIT
// Sessions against a server in virtual time: session_world.hpp.
#include <weir/backoff.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "../support/session_world.hpp"

namespace session_simulation_test {

using namespace session_world;

// ---- (1) ----

TEST(llm_session_simulation, an_exact_client_gets_the_ceiling_and_no_refusal) {
    for (auto const jitter : {0ms, 10ms}) {
        world w{{.jitter = jitter}};
        w.judge.set_limits("m", served(large));
        auto const calls = batch(6000, 1);
        auto& p = w.add(calls);
        p.model("m", "a", large, {.jitter = jitter});
        p.open({});
        w.begin();
        w.finish();
        double const ideal = ideal_seconds(calls, large);
        show(jitter == 0ms ? "exact, 10 min" : "exact, 10 min, jitter and margin of 10 ms", w, ideal);
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 6000U);
        EXPECT_EQ(w.all().refused, 0U);
        EXPECT_GE(ideal / w.length(), jitter == 0ms ? 0.99 : 0.98);
        EXPECT_LE(ideal / w.length(), 1.001);
        // Of min(RPM, RPS·60), from the first second to the last.
        if (jitter == 0ms) {
            EXPECT_GE(6000 / (w.length() / 60 + 1.0 / 60), 594);
        }
    }
}

// ---- (2) ----

TEST(llm_session_simulation, two_keys_of_an_account_gain_nothing_and_two_accounts_double) {
    auto const run = [](char const* what, int keys, std::string_view accounts) {
        world w;
        w.judge.set_limits("m", served(large));
        auto& p = w.add(batch(3000, 2));
        auto& members = p.model("m", accounts, large);
        for (int k = 1; k < keys; ++k) p.add_key(members, "m", 'a', "another", large);
        p.open({});
        w.begin();
        w.finish();
        show(what, w);
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 3000U);
        EXPECT_EQ(w.all().refused, 0U);
        return w.length();
    };
    double const one = run("one account, one key", 1, "a");
    double const keys = run("one account, two keys", 2, "a");
    double const two = run("two accounts", 1, "ab");
    EXPECT_NEAR(keys / one, 1, 0.001);
    EXPECT_NEAR(two / one, 0.5, 0.01);
}

// ---- (3) ----

TEST(llm_session_simulation, a_request_above_tps_goes_alone_and_one_above_tpm_ends_at_once) {
    for (auto const mode : {qwen::token_mode::actual, qwen::token_mode::input_strict, qwen::token_mode::reserve}) {
        constexpr weir::llm::quota q{.rpm = 60, .tpm = 100'000, .tps = 1'667};
        for (bool const alone : {true, false}) {
            world w{{}, {.tokens = mode, .derive_rps = false}};
            w.judge.set_limits("m", served(q));
            auto calls = batch(60, 3, {100, 1000}, {50, 150}, 160);
            calls[20].used.input = 5000;
            calls[20].facts.bound = tokens{.input = 5000, .output = 160};
            calls[40].used.input = 120'000;
            calls[40].facts.bound = tokens{.input = 120'000, .output = 160};
            auto& p = w.add(calls);
            p.model("m", "a", q, {.oversize = alone ? weir::llm::oversize::alone : weir::llm::oversize::refuse});
            p.open({.retry = {.attempts = 3}});
            w.begin();
            w.finish();
            show(alone ? "one above TPS, one above TPM; alone" : "one above TPS, one above TPM; refused here", w);
            w.expect_honest_books();
            // What is above TPM is let go alone, for servers that take it then; one that never does says so three
            // times.
            bool const taken = mode == qwen::token_mode::actual;
            EXPECT_EQ(w.all().refused, alone && !taken ? 3U : 0U) << to_string(mode);
            EXPECT_EQ(w.answered(), !alone ? 58U : taken ? 60U : 59U);
            EXPECT_EQ(p.calls[20]->result().answered(), alone);
            if (alone) {
                EXPECT_EQ(p.calls[40]->result().status, taken ? call_end::answered : call_end::exhausted);
            } else {
                EXPECT_EQ(p.calls[20]->result().status, call_end::never);
                EXPECT_EQ(p.calls[20]->result().reason, "tokens per second");
                EXPECT_EQ(p.calls[40]->result().status, call_end::never);
                EXPECT_EQ(p.calls[40]->result().attempts, 0U);
            }
        }
    }
}

// ---- (4) ----

TEST(llm_session_simulation, outputs_ten_times_as_long_as_thought_cause_no_storm_and_are_learnt) {
    constexpr weir::llm::quota q{.rpm = 600, .rps = 10, .tpm = 100'000};
    for (auto const latency : {5s, 20s}) {
        world w;
        w.judge.set_limits("m", served(q));
        auto calls = batch(1200, 4, {40, 60}, {900, 1100}, 0);
        for (auto& c : calls) {
            c.facts.bound.reset();
            c.facts.size = {.ascii = 150, .bytes = 150, .messages = 1};
            c.latency = latency;
        }
        auto& p = w.add(calls);
        p.model("m", "a", q);
        p.open({.retry = patient, .default_output = 100});
        w.begin();
        auto const first = w.run_for(1min);
        auto const second = w.run_for(1min);
        auto const third = w.run_for(5min);
        w.finish();
        show(latency == 5s ? "outputs misjudged 10 times, answers take 5 s"
                           : "outputs misjudged 10 times, answers take 20 s",
             w);
        std::printf(
            "    refused in the first minute %llu, the second %llu, later %llu; served %llu, %llu, then %.1f a minute "
            "of 95\n",
            static_cast<unsigned long long>(first.refused), static_cast<unsigned long long>(second.refused),
            static_cast<unsigned long long>(w.all().refused - first.refused - second.refused),
            static_cast<unsigned long long>(first.served), static_cast<unsigned long long>(second.served),
            static_cast<double>(third.served) / 5);
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 1200U);
        EXPECT_LE(first.refused, 5U);
        EXPECT_EQ(w.all().refused - first.refused, 0U);
        // What is held while answers are on their way costs as quota_limiter.hpp says: 1050·60/(1050·60 +
        // 1050·latency).
        double const holds = 60 / (60 + seconds(latency));
        EXPECT_GE(static_cast<double>(third.served) / 5, 0.85 * holds * 100'000 / 1050);
    }
}

// ---- (5) ----

TEST(llm_session_simulation, a_cold_start_at_full_rate_is_refused_and_a_ramp_is_not) {
    constexpr weir::llm::quota q{.rpm = 6000, .rps = 100};
    auto const run = [&](char const* what, bool ramp) {
        world w{{},
                {.derive_rps = false},
                {.on = true, .least_floor = 3, .most_floor = 6, .least_growth = 1.6, .most_growth = 2.5}};
        w.judge.set_limits("m", served(q));
        auto& p = w.add(batch(6000, 5));
        p.model("m", "a", q);
        llm::session_options o{.retry = patient};
        // No more than the server's least, which is not exceeded by learning.
        if (ramp) o.ramp = weir::ramp_options{.first = 3, .max_first = 3, .growth = 160, .max_growth = 160};
        p.open(o);
        w.begin();
        w.finish();
        show(what, w);
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 6000U);
        return w.all().refused;
    };
    EXPECT_GT(run("cold start at full rate, burst protection", false), 100U);
    EXPECT_EQ(run("cold start with a ramp", true), 0U);
}

// ---- (6) ----

TEST(llm_session_simulation, retry_after_of_21_days_turns_to_the_fallback_at_once) {
    world w;
    w.judge.set_limits("n", served(large));
    w.gate = [](std::string const&, std::string const& model) -> std::optional<refusal> {
        if (model == "m")
            return refusal{429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later.",
                           "1814400"};
        return std::nullopt;
    };
    auto& p = w.add(batch(300, 6));
    p.model("m", "a", large);
    p.model("n", "a", large);
    p.open({});
    w.begin();
    w.finish();
    show("Retry-After of 21 days, with a fallback", w);
    w.expect_honest_books();
    EXPECT_EQ(w.answered(), 300U);
    EXPECT_LE(w.all().refused, 10U);  // that were under way when the first was told
    EXPECT_LT(w.length(), 31);

    world alone;
    alone.gate = w.gate;
    auto& q = alone.add(batch(300, 6));
    q.model("m", "a", large);
    q.open({});
    alone.begin();
    alone.finish();
    show("Retry-After of 21 days, and no other way", alone);
    alone.expect_honest_books();
    EXPECT_EQ(alone.answered(), 0U);
    EXPECT_LE(alone.all().refused, 10U);  // likewise; the others are not sent
    EXPECT_EQ(alone.ends().size(), 2U);
    EXPECT_LT(seconds(alone.clock.now() - time_point{1000s}), 31);
}

// ---- (7) ----

TEST(llm_session_simulation, insufficient_quota_is_retried_here_and_a_bill_in_the_dialect_of_openai) {
    // The server counts less than the client was told.
    constexpr weir::llm::quota told{.rpm = 600, .rps = 10, .tpm = 50'000};
    for (auto const dialect : {llm::dialect::dashscope, llm::dialect::openai}) {
        world w{{.dialect = dialect}};
        w.judge.set_limits("m", {.tpm = 40'000});
        auto& p = w.add(batch(500, 7, {400, 600}, {50, 100}, 100));
        p.model("m", "a", told);
        p.open({.retry = patient, .adaptive = llm::adaptive_range{}});
        w.begin();
        w.finish();
        bool const here = dialect == llm::dialect::dashscope;
        show(here ? "insufficient_quota, DashScope" : "insufficient_quota, OpenAI", w);
        w.expect_honest_books();
        EXPECT_GT(w.all().refused, 0U);
        if (here) {
            EXPECT_EQ(w.answered(), 500U);
        } else {
            EXPECT_LT(w.answered(), 500U);
            EXPECT_EQ(w.ends()["refused: the account is out of credit"], 500 - w.answered());
        }
    }
}

// ---- (8) ----

TEST(llm_session_simulation, jitter_of_200_ms_is_refused_without_the_margin_and_never_with_it) {
    for (auto const margin : {0ms, 200ms}) {
        world w{{.jitter = 200ms}};
        w.judge.set_limits("m", served(large));
        auto& p = w.add(batch(3000, 8));
        p.model("m", "a", large, {.jitter = margin});
        p.open({.retry = patient});
        w.begin();
        w.finish();
        show(margin == 0ms ? "jitter 0 to 200 ms, no margin" : "jitter 0 to 200 ms, margin 200 ms", w,
             ideal_seconds(p.todo, large));
        w.expect_honest_books();
        EXPECT_EQ(w.answered(), 3000U);
        if (margin == 0ms) {
            EXPECT_GT(w.all().refused, 0U);
        } else {
            EXPECT_EQ(w.all().refused, 0U);
        }
        // What was measured is the margin that the next run needs.
        EXPECT_GE(p.s->jitter(0, 0), 200ms);
        EXPECT_LE(p.s->jitter(0, 0), 260ms);
    }
}

// ---- (9) ----

struct kind {
    char const* name;
    weir::llm::quota whole, half;
    std::pair<std::uint64_t, std::uint64_t> input, output;
    std::uint64_t bound;
    double per_minute;  // calls of the whole
};
kind const kinds[] = {
    {"RPM 600", {.rpm = 600, .rps = 10}, {.rpm = 300, .rps = 5}, {30, 80}, {30, 180}, 200, 600},
    {"TPM 1,000,000",
     {.rpm = 600, .tpm = 1'000'000},
     {.rpm = 600, .tpm = 500'000},
     {3000, 3000},
     {100, 100},
     100,
     1'000'000.0 / 3100},
};

TEST(llm_session_simulation, a_limit_halved_while_running_is_found_and_so_is_its_return) {
    for (auto const& k : kinds) {
        for (bool const adaptive : {true, false}) {
            world w{{.jitter = 10ms}};
            w.judge.set_limits("m", served(k.whole));
            auto& p = w.add(batch(static_cast<std::size_t>(k.per_minute * 22), 9, k.input, k.output, k.bound));
            p.model("m", "a", k.whole, {.jitter = 10ms});
            llm::session_options o{.retry = patient};
            if (adaptive) o.adaptive = llm::adaptive_range{};
            p.open(o);
            w.begin();
            w.run_for(5min);
            w.judge.set_limits("m", served(k.half));
            auto const finding = w.run_for(3min);
            auto const half = w.run_for(7min);
            w.judge.set_limits("m", served(k.whole));
            auto const climbing = w.run_for(4min);
            auto const back = w.run_for(3min);
            w.finish();
            show(
                (std::string{k.name} + " halved for 10 min and restored" + (adaptive ? ", adaptive" : ", not adaptive"))
                    .c_str(),
                w);
            auto const part = [&](world::figures const& f, double minutes, double of) {
                return 100 * static_cast<double>(f.served) / (minutes * k.per_minute * of);
            };
            std::printf(
                "    halved: at first %.0f%% of it with %.2f%% refused, then %.0f%% with %.2f%%; restored: at first "
                "%.0f%%, then %.0f%% with %.2f%% refused\n",
                part(finding, 3, 0.5), 100 * finding.share_refused(), part(half, 7, 0.5), 100 * half.share_refused(),
                part(climbing, 4, 1), part(back, 3, 1), 100 * back.share_refused());
            w.expect_honest_books();
            if (adaptive) {
                EXPECT_EQ(w.answered(), p.todo.size());
                EXPECT_LT(half.share_refused(), 0.01);
                EXPECT_GE(part(half, 7, 0.5), 90);
                EXPECT_GE(part(back, 3, 1), 90);
            }
        }
    }
}

// ---- (10) ----

TEST(llm_session_simulation, two_processes_share_an_account_well_without_knowing_each_other) {
    for (auto const& k : kinds) {
        // By draws it is 95% and a spread of 2: the promise is that of the mean, and no draw is far from it.
        constexpr std::uint64_t seeds = 6;
        double mean = 0;
        for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
            world w{{.jitter = 10ms, .seed = seed}};
            w.judge.set_limits("m", served(k.whole));
            std::size_t all = 0;
            for (std::uint64_t i = 0; i < 2; ++i) {
                auto& p = w.add(
                    batch(static_cast<std::size_t>(k.per_minute * 32), 10 * seed + i, k.input, k.output, k.bound));
                p.model("m", "a", k.whole, {.jitter = 10ms});
                p.open({.retry = patient, .adaptive = llm::adaptive_range{}, .seed = seed * 100 + i});
                all += p.todo.size();
            }
            w.begin();
            auto const converging = w.run_for(10min);
            auto const f = w.run_for(20min);
            double const goodput = 100 * static_cast<double>(f.served) / (20 * k.per_minute);
            std::printf("%-58s goodput of the pair %.1f%%, refused %.2f%% (in the first 10 min %.2f%%)\n",
                        (std::string{"two processes, "} + k.name).c_str(), goodput, 100 * f.share_refused(),
                        100 * converging.share_refused());
            EXPECT_GE(goodput, 85);
            mean += goodput / static_cast<double>(seeds);
            EXPECT_LT(f.share_refused(), 0.01);
            w.finish();
            w.expect_honest_books();
            EXPECT_EQ(w.answered(), all);
        }
        EXPECT_GE(mean, 90);
    }
}

// ---- what else befalls a batch ----

TEST(llm_session_simulation, a_free_quota_that_runs_out_ends_no_batch) {
    world w;
    w.judge.set_limits("m", served(large));
    w.judge.set_limits("n", served(large));
    std::uint64_t left = 500;
    w.gate = [&](std::string const&, std::string const& model) -> std::optional<refusal> {
        if (model != "m") return std::nullopt;
        if (left == 0) return free_tier;
        --left;
        return std::nullopt;
    };
    auto& p = w.add(batch(3000, 11));
    p.model("m", "a", large);
    p.model("n", "a", large);
    // Each waits for the better model rather than be answered by the lesser.
    for (auto& c : p.todo) c.facts.patience = 10min;
    p.open({});
    w.begin();
    w.finish();
    show("free quota of 500 runs out, with a fallback", w, ideal_seconds(p.todo, large));
    w.expect_honest_books();
    EXPECT_EQ(w.answered(), 3000U);
    EXPECT_EQ(p.s->counters()[llm::counted_event::answered_below], 2500U);
    EXPECT_LE(w.all().refused, 80U);  // ten at once, each time that it is tried again
}

TEST(llm_session_simulation, an_account_that_is_cut_off_ends_no_batch) {
    world w;
    w.judge.set_limits("m", served(large));
    w.gate = [&](std::string const& account, std::string const&) -> std::optional<refusal> {
        if (account == "a" && w.clock.now() > time_point{1060s}) return in_arrears;
        return std::nullopt;
    };
    auto& p = w.add(batch(3000, 12));
    p.model("m", "ab", large);
    p.open({});
    w.begin();
    w.finish();
    show("one of two accounts cut off after a minute", w);
    w.expect_honest_books();
    EXPECT_EQ(w.answered(), 3000U);
    EXPECT_LE(w.all().refused, 40U);  // those under way when it happened, and each time that it is tried again
    // A minute with both, then one.
    EXPECT_LT(w.length(), 60 + 1800.0 / 10 * 1.03);

    world only;
    only.judge.set_limits("m", served(large));
    only.gate = [&](std::string const&, std::string const&) -> std::optional<refusal> {
        if (only.clock.now() > time_point{1060s}) return in_arrears;
        return std::nullopt;
    };
    auto& q = only.add(batch(1000, 12));
    q.model("m", "a", large);
    q.open({.retry = {.budget = 1min}});
    only.begin();
    only.finish();
    show("the only account cut off after a minute", only);
    only.expect_honest_books();
    EXPECT_GE(only.answered(), 590U);
    EXPECT_LT(only.answered(), 1000U);
}

// The default of five attempts may lose a few: a retry that goes to another account at once is an attempt too.
TEST(llm_session_simulation, an_outage_loses_no_call_with_six_attempts_and_few_with_five) {
    for (std::string_view const accounts : {"a", "ab"}) {
        for (bool const fallback : {false, true}) {
            for (std::uint64_t const attempts : {5U, 6U}) {
                // Over several seeds: the waits of one may happen to be long enough.
                for (std::uint64_t seed = 1; seed <= 8; ++seed) {
                    std::string const what = "outage of 5 s, " + std::to_string(accounts.size()) +
                                             (accounts.size() == 1 ? " account" : " accounts") +
                                             (fallback ? ", with a fallback, " : ", ") + std::to_string(attempts) +
                                             " attempts";
                    SCOPED_TRACE(what + ", seed " + std::to_string(seed));
                    world w;
                    w.judge.set_limits("m", served(large));
                    w.judge.set_limits("n", served(large));
                    w.gate = [&](std::string const&, std::string const&) -> std::optional<refusal> {
                        if (w.clock.now() >= time_point{1030s} && w.clock.now() < time_point{1035s}) return down;
                        return std::nullopt;
                    };
                    auto& p = w.add(batch(1200, 13));
                    p.model("m", accounts, large);
                    if (fallback) p.model("n", accounts, large);
                    for (auto& c : p.todo) c.facts.patience = 10min;
                    p.open({.retry = {.attempts = attempts}, .seed = seed});
                    w.begin();
                    w.finish();
                    if (seed == 1) show(what.c_str(), w);
                    w.expect_honest_books();
                    EXPECT_GE(w.answered(), attempts == weir::backoff{}.attempts ? 1180U : 1200U);
                    EXPECT_GT(w.all().refused, 0U);
                    EXPECT_LE(w.all().refused, 50U * accounts.size() * (fallback ? 2 : 1) * 2);
                }
            }
        }
    }
}

}  // namespace session_simulation_test
