// SPDX-License-Identifier: MIT
#include "../../examples/simulator/simulator_options.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../examples/simulator/runtime_changes.hpp"
#include "../../examples/simulator/simulator.hpp"

namespace simulator_options_test {

using qwen::parse_simulator_options;
using qwen::simulator_settings;

simulator_settings parsed(std::vector<std::string> const& arguments) {
    return parse_simulator_options(arguments).settings;
}

std::string complaint(std::vector<std::string> const& arguments) {
    try {
        (void)parse_simulator_options(arguments);
    } catch (std::invalid_argument const& e) {
        return e.what();
    }
    return "";
}

// Every word of the help that begins with two dashes, without what follows its name.
std::set<std::string> flags_in_help() {
    std::set<std::string> out;
    auto const help = qwen::simulator_help();
    for (auto at = help.find("--"); at != std::string::npos; at = help.find("--", at + 2)) {
        auto const end = help.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-", at);
        out.insert(help.substr(at, end - at));
    }
    return out;
}

// A value that each option takes.
std::map<std::string, std::string> const& fit_values() {
    static std::map<std::string, std::string> const values{{"--port", "8080"},
                                                           {"--key", "k=main"},
                                                           {"--account", "main=arrearage"},
                                                           {"--speed", "60"},
                                                           {"--seed", "7"},
                                                           {"--at", "30:outage={\"seconds\": 5}"},
                                                           {"--model", "m=600,10,1000000,"},
                                                           {"--limits", "main:m=60,1,100000"},
                                                           {"--rpm", "11"},
                                                           {"--rps", "12"},
                                                           {"--tpm", "13"},
                                                           {"--tps", "14"},
                                                           {"--soft-tpm", "0.5"},
                                                           {"--derive-rps", "no"},
                                                           {"--derive-tps", "yes"},
                                                           {"--tokens", "reserve"},
                                                           {"--window", "gcra"},
                                                           {"--count-rejected", "yes"},
                                                           {"--in-flight", "9"},
                                                           {"--free-tier", "only=100"},
                                                           {"--burst-floor", "2,5"},
                                                           {"--burst-growth", "2"},
                                                           {"--burst-drift", "10"},
                                                           {"--plan", "main=5h:1,week:2,month:3"},
                                                           {"--tokens-per-credit", "10"},
                                                           {"--plan-age", "60"},
                                                           {"--first-token", "1.5"},
                                                           {"--tokens-per-second", "70"},
                                                           {"--spread", "0.1"},
                                                           {"--capacity", "20"},
                                                           {"--output", "0.1,0.2"},
                                                           {"--chunk", "3"},
                                                           {"--inspect", "word"},
                                                           {"--shape", "e"},
                                                           {"--fault", "internal_error=0.1"},
                                                           {"--drop-before", "0.1"},
                                                           {"--drop-after", "0.2"},
                                                           {"--truncate", "0.3"},
                                                           {"--garbage", "0.4"},
                                                           {"--slow", "0.5"},
                                                           {"--slow-for", "6"},
                                                           {"--midstream-429", "0.6"},
                                                           {"--soft-failure", "0.7"}};
    return values;
}

TEST(simulator_options, help_lists_what_the_parser_knows_and_nothing_else) {
    std::set<std::string> known;
    for (auto const& o : qwen::simulator_option_list()) EXPECT_TRUE(known.insert(o.name).second) << o.name;
    EXPECT_EQ(flags_in_help(), known);
    for (auto const& name : flags_in_help()) EXPECT_EQ(complaint({name}).find("no such option"), std::string::npos);
    EXPECT_NE(complaint({"--rmp", "600"}).find("no such option: --rmp"), std::string::npos);
}

TEST(simulator_options, every_option_takes_a_fit_value_and_switches_take_none) {
    std::size_t with_value = 0;
    for (auto const& o : qwen::simulator_option_list()) {
        SCOPED_TRACE(o.name);
        if (o.argument.empty()) {
            EXPECT_EQ(complaint({o.name}), "");
            EXPECT_NE(complaint({o.name + "=1"}).find("takes no value"), std::string::npos);
            continue;
        }
        ++with_value;
        ASSERT_TRUE(fit_values().contains(o.name));
        auto const& value = fit_values().at(o.name);
        EXPECT_EQ(complaint({o.name, value}), "");
        EXPECT_EQ(complaint({o.name + "=" + value}), "");
        EXPECT_NE(complaint({o.name}).find("needs a value"), std::string::npos);
    }
    EXPECT_EQ(with_value, fit_values().size());
}

TEST(simulator_options, each_option_sets_its_field) {
    std::vector<std::string> all;
    for (auto const& [name, value] : fit_values()) all.insert(all.end(), {name, value});
    all.insert(all.end(), {"--retry-after", "--international", "--log", "--burst"});
    auto const o = parse_simulator_options(all);
    auto const& s = o.settings;
    EXPECT_TRUE(o.log);
    EXPECT_TRUE(s.keep_records);
    EXPECT_EQ(s.port, 8080);
    ASSERT_EQ(s.accounts.size(), 1u);
    auto const& a = s.accounts[0];
    EXPECT_EQ(a.keys, std::vector<std::string>{"k"});
    EXPECT_EQ(a.state, qwen::account_state::arrearage);
    EXPECT_EQ(a.limits.at("m").rpm, 60u);
    EXPECT_EQ(a.limits.at("m").tpm, 100'000u);
    EXPECT_EQ(a.plan.five_hours, 1u);
    EXPECT_EQ(a.plan.week, 2u);
    EXPECT_EQ(a.plan.month, 3u);
    EXPECT_EQ(a.plan.tokens_per_credit, 10u);
    EXPECT_EQ(a.plan.age_s, 60);
    EXPECT_EQ(s.speed, 60);
    EXPECT_EQ(s.seed, 7u);
    ASSERT_EQ(s.changes.size(), 1u);
    EXPECT_EQ(s.changes[0].at_ns, 30'000'000'000);
    EXPECT_EQ(s.changes[0].name, "outage");
    ASSERT_EQ(s.models.size(), 1u);
    EXPECT_EQ(s.models[0].name, "m");
    EXPECT_EQ(s.models[0].limits.rpm, 11u);
    EXPECT_EQ(s.models[0].limits.rps, 12u);
    EXPECT_EQ(s.models[0].limits.tpm, 13u);
    EXPECT_EQ(s.models[0].limits.tps, 14u);
    EXPECT_EQ(s.models[0].limits.tpm_soft, 0.5);
    EXPECT_EQ(s.models[0].tier, qwen::free_tier::only);
    EXPECT_EQ(s.models[0].free_tokens, 100u);
    EXPECT_FALSE(s.judge.derive_rps);
    EXPECT_TRUE(s.judge.derive_tps);
    EXPECT_TRUE(s.judge.count_rejected);
    EXPECT_EQ(s.judge.tokens, qwen::token_mode::reserve);
    EXPECT_EQ(s.judge.requests, qwen::window_kind::gcra);
    EXPECT_EQ(s.max_in_flight, 9u);
    EXPECT_TRUE(s.burst.on);
    EXPECT_EQ(s.burst.least_floor, 2);
    EXPECT_EQ(s.burst.most_floor, 5);
    EXPECT_EQ(s.burst.least_growth, 2);
    EXPECT_EQ(s.burst.most_growth, 2);
    EXPECT_EQ(s.burst.drift_s, 10);
    EXPECT_EQ(s.latency.first_token_s, 1.5);
    EXPECT_EQ(s.latency.tokens_per_s, 70);
    EXPECT_EQ(s.latency.spread, 0.1);
    EXPECT_EQ(s.latency.capacity, 20u);
    EXPECT_EQ(s.output.least, 0.1);
    EXPECT_EQ(s.output.most, 0.2);
    EXPECT_EQ(s.chunk_tokens, 3u);
    EXPECT_EQ(s.inspected_word, "word");
    EXPECT_EQ(s.shape, qwen::error_shape::e);
    EXPECT_TRUE(s.retry_after);
    EXPECT_TRUE(s.international);
    ASSERT_EQ(s.faults.size(), 1u);
    EXPECT_EQ(s.faults[0].what, qwen::failure::internal_error);
    EXPECT_EQ(s.mishaps.dropped_before, 0.1);
    EXPECT_EQ(s.mishaps.dropped_after, 0.2);
    EXPECT_EQ(s.mishaps.truncated_body, 0.3);
    EXPECT_EQ(s.mishaps.garbage_body, 0.4);
    EXPECT_EQ(s.mishaps.slow_body, 0.5);
    EXPECT_EQ(s.slow_body_s, 6);
    EXPECT_EQ(s.mishaps.midstream_429_rate, 0.6);
    EXPECT_EQ(s.mishaps.soft_failure_rate, 0.7);
}

TEST(simulator_options, without_options_everything_that_is_not_a_plain_limit_is_off) {
    auto const s = parsed({});
    EXPECT_EQ(s.models.size(), qwen::international_models().size());
    EXPECT_EQ(s.accounts[0].keys[0], "sk-simulator");
    EXPECT_FALSE(s.burst.on);
    EXPECT_FALSE(s.accounts[0].plan.limits_anything());
    EXPECT_TRUE(s.faults.empty());
    EXPECT_TRUE(s.changes.empty());
    EXPECT_FALSE(s.retry_after);
    EXPECT_FALSE(s.max_in_flight);
    EXPECT_FALSE(s.latency.capacity);
    for (auto const& m : s.models) {
        EXPECT_EQ(m.tier, qwen::free_tier::none);
        EXPECT_EQ(m.limits.tpm_soft, 0);
    }
    auto const& r = s.mishaps;
    EXPECT_EQ(r.dropped_before + r.dropped_after + r.truncated_body + r.garbage_body + r.slow_body +
                  r.midstream_429_rate + r.soft_failure_rate,
              0);
}

TEST(simulator_options, the_order_of_options_does_not_matter_to_accounts_and_models) {
    auto const s = parsed({"--limits", "b:m=5", "--free-tier", "n:not_sold=7", "--account", "b=arrearage", "--key",
                           "x=a", "--model", "m", "--key", "y=b", "--model", "n"});
    ASSERT_EQ(s.accounts.size(), 2u);
    EXPECT_EQ(s.accounts[1].name, "b");
    EXPECT_EQ(s.accounts[1].limits.at("m").rpm, 5u);
    EXPECT_EQ(s.accounts[1].state, qwen::account_state::arrearage);
    EXPECT_EQ(s.models[0].tier, qwen::free_tier::none);
    EXPECT_EQ(s.models[1].tier, qwen::free_tier::not_sold);
    EXPECT_EQ(parsed({"--rps", "none"}).judge.derive_rps, false);
}

TEST(simulator_options, what_is_wrong_is_named) {
    std::vector<std::vector<std::string>> const wrong{{"--port", "70000"},
                                                      {"--port", "x"},
                                                      {"--key", "k"},
                                                      {"--account", "main=fine"},
                                                      {"--at", "soon:outage={\"seconds\": 1}"},
                                                      {"--at", "1:outages={}"},
                                                      {"--at", "1:outage={}"},
                                                      {"--limits", "m=5"},
                                                      {"--rpm", "0"},
                                                      {"--rpm", "-1"},
                                                      {"--soft-tpm", "2"},
                                                      {"--derive-rps", "maybe"},
                                                      {"--tokens", "some"},
                                                      {"--window", "round"},
                                                      {"--free-tier", "only"},
                                                      {"--free-tier", "none:only=5"},
                                                      {"--burst-floor", "a,b"},
                                                      {"--plan", "main"},
                                                      {"--plan", "main=day:5"},
                                                      {"--fault", "none=0.1"},
                                                      {"--drop-before", "1.5"},
                                                      {"--spread", "nan"},
                                                      {"--shape", "f"}};
    for (auto const& w : wrong)
        EXPECT_EQ(complaint(w).find(w[0] + ": "), 0u) << w[0] << " " << w[1] << ": " << complaint(w);
}

TEST(simulator_options, help_is_a_page_of_eighty_columns_with_its_sections_and_every_change) {
    auto const help = qwen::simulator_help();
    std::size_t at = 0;
    for (auto const* section : {"NAME\n", "\nSYNOPSIS\n", "\nDESCRIPTION\n", "\nOPTIONS\n", "\nCHANGES WHILE IT RUNS\n",
                                "\nEXAMPLES\n", "\nEXIT STATUS\n"}) {
        auto const found = help.find(section, at);
        EXPECT_NE(found, std::string::npos) << section;
        at = found == std::string::npos ? at : found;
    }
    for (auto const& c : qwen::runtime_changes())
        EXPECT_NE(help.find("\n    " + std::string{c.name} + "\n"), std::string::npos) << c.name;
    std::istringstream lines{help};
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80u) << line;
}

}  // namespace simulator_options_test
