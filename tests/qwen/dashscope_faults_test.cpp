// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>

#include "../../examples/simulator/faults.hpp"
#include "../../examples/simulator/simulator.hpp"
#include "../support/dashscope_server.hpp"

namespace dashscope_faults_test {

using namespace dashscope_test;
using qwen::mishap;
using qwen::mishap_rates;

simulator_settings always(double mishap_rates::* which) {
    auto settings = one_model({});
    settings.mishaps.*which = 1;
    return settings;
}

TEST(dashscope_faults, a_connection_dropped_before_the_work_costs_nothing) {
    server s{always(&mishap_rates::dropped_before)};
    EXPECT_FALSE(s.try_to_ask(costing(10, 20, 100)));
    EXPECT_EQ(s.counted().arrived, 0u);
    auto const r = s.records(1).front();
    EXPECT_EQ(r.status, 0);
    EXPECT_EQ(r.befell, mishap::dropped_before);
    EXPECT_EQ(s.simulator->report().by_mishap.at("dropped_before"), 1u);
    EXPECT_NE(to_text(r).find(" no answer "), std::string::npos) << to_text(r);
    EXPECT_NE(to_text(r).find("; dropped_before"), std::string::npos) << to_text(r);
}

TEST(dashscope_faults, a_connection_dropped_after_the_work_is_charged_in_full) {
    server s{always(&mishap_rates::dropped_after)};
    EXPECT_FALSE(s.try_to_ask(costing(10, 20, 100)));
    auto body = costing(10, 30, 100);
    body["stream"] = true;
    EXPECT_FALSE(s.try_to_ask(body));
    auto const all = s.records(2);
    EXPECT_EQ(all[0].status, 0);
    EXPECT_EQ(all[0].befell, mishap::dropped_after);
    EXPECT_EQ(all[1].output, 30u);
    EXPECT_EQ(s.counted().input_tokens, 20u);
    EXPECT_EQ(s.counted().output_tokens, 50u);
    EXPECT_EQ(s.counted().in_flight, 0u);
}

TEST(dashscope_faults, a_truncated_body_breaks_off_and_the_next_request_is_fine) {
    server s{always(&mishap_rates::truncated_body)};
    EXPECT_FALSE(s.try_to_ask(costing(10, 20, 100)));
    auto body = costing(10, 80, 100);
    body["stream"] = true;
    EXPECT_FALSE(s.try_to_ask(body));
    auto const all = s.records(2);
    EXPECT_EQ(all[0].befell, mishap::truncated_body);
    EXPECT_EQ(all[0].output, 20u);
    EXPECT_LT(all[1].output, 80u);  // a stream's, as far as it came
    EXPECT_EQ(s.counted().output_tokens, all[0].output + all[1].output);
    s.simulator->set_mishaps({});
    EXPECT_EQ(s.ask(chat()).status, 200);
}

TEST(dashscope_faults, a_garbage_body_is_200_and_no_json) {
    server s{always(&mishap_rates::garbage_body)};
    auto const r = s.ask(costing(10, 20, 100));
    EXPECT_EQ(r.status, 200);
    EXPECT_EQ(r.header("content-type"), "application/json");
    EXPECT_TRUE(r.body.is_discarded());
    EXPECT_EQ(s.counted().output_tokens, 20u);
    auto const stream = s.stream(costing(10, 40, 100));
    EXPECT_EQ(stream.status, 200);
    std::size_t broken = 0, at = 0;
    while ((at = stream.text.find("data: ", at)) != std::string::npos) {
        at += 6;
        auto const data = stream.text.substr(at, stream.text.find("\n\n", at) - at);
        broken += data != "[DONE]" && json::parse(data, nullptr, false).is_discarded();
    }
    EXPECT_EQ(broken, 1u);
}

TEST(dashscope_faults, a_slow_body_arrives_whole_and_late) {
    auto settings = always(&mishap_rates::slow_body);
    settings.slow_body_s = 20;
    settings.speed = 200;
    settings.latency = {.first_token_s = 0, .tokens_per_s = 1e9, .spread = 0};
    dashscope_simulator simulator{settings};
    simulator.start();
    httplib::Client client{"127.0.0.1", simulator.port()};
    client.set_read_timeout(60);
    auto const before = simulator.now_ns();
    auto const r = client.Post("/compatible-mode/v1/chat/completions", {{"Authorization", "Bearer key-1"}},
                               costing(10, 20, 100).dump(), "application/json");
    ASSERT_TRUE(r);
    EXPECT_FALSE(json::parse(r->body, nullptr, false).is_discarded());
    EXPECT_GE(simulator.now_ns() - before, 20 * second);
}

TEST(dashscope_faults, a_refusal_is_no_mishap_and_a_request_may_ask_for_one) {
    auto settings = always(&mishap_rates::garbage_body);
    settings.models[0].limits.rps = 1;
    server s{settings};
    (void)s.ask(chat());
    EXPECT_EQ(s.ask(chat()).status, 429);
    EXPECT_EQ(s.records(2).back().befell, mishap::none);
    s.time = minute;
    EXPECT_EQ(s.ask(chat("x", 10, {{"simulate_error", "internal_error"}})).status, 500);
    EXPECT_EQ(s.records(1).back().befell, mishap::none);
    s.simulator->set_mishaps({});
    s.time = 2 * minute;
    EXPECT_TRUE(s.ask(chat("x", 10, {{"simulate_mishap", "garbage_body"}})).body.is_discarded());
    EXPECT_EQ(qwen::mishap_named("client_left"), std::nullopt);  // it is not the server's to draw
}

TEST(dashscope_faults, a_mishap_strikes_its_share_by_seed) {
    auto const strikes = [](std::uint64_t seed) {
        auto settings = one_model({}, seed);
        settings.mishaps.garbage_body = 0.3;
        server s{settings};
        std::string which;
        for (int i = 0; i < 200; ++i) which += s.ask(chat()).body.is_discarded() ? 'x' : '.';
        return which;
    };
    auto const first = strikes(1);
    EXPECT_EQ(strikes(1), first);
    EXPECT_NE(strikes(2), first);
    auto const n = std::count(first.begin(), first.end(), 'x');
    EXPECT_GT(n, 35);
    EXPECT_LT(n, 85);
}

TEST(dashscope_faults, a_rate_outside_0_to_1_is_refused) {
    auto settings = one_model({});
    settings.mishaps.soft_failure_rate = 1.5;
    EXPECT_THROW(dashscope_simulator{settings}, std::invalid_argument);
    server s{one_model({})};
    EXPECT_THROW(s.simulator->set_mishaps({.slow_body = -1}), std::invalid_argument);
}

// --- burst protection
// ----------------------------------------------------------------------------------------------------------

simulator_settings bursting() {
    auto settings = one_model({});
    settings.burst = {.on = true, .least_floor = 2, .most_floor = 2, .least_growth = 2, .most_growth = 2};
    return settings;
}

TEST(dashscope_burst, is_off_until_it_is_switched_on) {
    server s{one_model({})};
    for (int i = 0; i < 50; ++i) EXPECT_EQ(s.ask(chat()).status, 200);
}

TEST(dashscope_burst, a_cold_start_above_the_floor_is_refused_and_costs_nothing) {
    server s{bursting()};
    s.time = 100 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.ask(chat()).status, 200);
    auto const c = s.ask(chat());
    EXPECT_EQ(c.status, 429);
    EXPECT_EQ(c.code(), "limit_burst_rate");
    EXPECT_EQ(s.ask_native(chat()).code(), "Throttling.BurstRate");
    EXPECT_EQ(s.ask(chat(), "key-3").status, 200);  // another account
    EXPECT_EQ(s.simulator->report().judge.quotas[0].arrived, 2u);
    s.time = 101 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
}

TEST(dashscope_burst, the_servers_queue_holds_a_request_until_there_is_room) {
    server s{bursting()};
    s.time = 100 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.ask(chat()).status, 200);
    std::thread waits{[&] { EXPECT_EQ(lone_client{*s.simulator}.post(chat(), "30")->status, 200); }};
    while (s.simulator->waiting("first", "m") == 0) std::this_thread::yield();
    EXPECT_EQ(s.ask(chat()).status, 429);  // none overtakes it, and without the header none waits
    s.time = 101 * second;
    waits.join();
    auto const all = s.records(4);
    EXPECT_EQ(all.back().queued_ns, second);
    EXPECT_EQ(all.back().arrival_ns, 100 * second);
    EXPECT_NE(to_text(all.back()).find("in the queue 1.0000 s"), std::string::npos) << to_text(all.back());
    EXPECT_EQ(s.simulator->report().judge.quotas[0].last_arrival_ns, 101 * second);
}

TEST(dashscope_burst, who_waited_too_long_is_refused) {
    auto settings = bursting();
    settings.burst.least_floor = settings.burst.most_floor = 1;
    server s{settings};
    s.time = 100 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
    std::thread first{[&] { EXPECT_EQ(lone_client{*s.simulator}.post(chat(), "30")->status, 200); }};
    while (s.simulator->waiting("first", "m") != 1) std::this_thread::yield();
    std::thread behind{[&] {
        auto const r = lone_client{*s.simulator}.post(chat(), "1");
        EXPECT_EQ(r->status, 429);
        EXPECT_NE(r->body.find("limit_burst_rate"), std::string::npos);
    }};
    while (s.simulator->waiting("first", "m") != 2) std::this_thread::yield();
    s.time = 101 * second;  // room for one
    first.join();
    behind.join();
}

TEST(dashscope_burst, a_client_that_leaves_leaves_the_queue) {
    server s{bursting()};
    s.time = 100 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.ask(chat()).status, 200);
    int const leaves = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<std::uint16_t>(s.simulator->port()));
    ASSERT_EQ(::connect(leaves, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    auto const body = chat().dump();
    auto const request =
        "POST /compatible-mode/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer key-1\r\n"
        "X-DashScope-Wait-Timeout: 30\r\nContent-Type: application/json\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body;
    ASSERT_EQ(::send(leaves, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
    while (s.simulator->waiting("first", "m") == 0) std::this_thread::yield();
    ::close(leaves);
    while (s.simulator->waiting("first", "m") != 0) std::this_thread::yield();
    EXPECT_EQ(s.records(3).back().befell, mishap::client_left);
    s.time = 101 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.counted().admitted, 3u);
}

TEST(dashscope_burst, the_queue_is_not_for_requests_per_second_or_minute) {
    auto settings = bursting();
    settings.models[0].limits.rps = 1;
    server s{settings};
    s.time = 100 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
    auto const r = lone_client{*s.simulator}.post(chat(), "30");
    EXPECT_EQ(r->status, 429);
    EXPECT_NE(r->body.find("limit_requests"), std::string::npos);
}

TEST(dashscope_burst, a_server_that_stops_lets_go_of_its_queue) {
    server s{bursting()};
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.ask(chat()).status, 200);
    std::thread waits{[&] { EXPECT_FALSE(lone_client{*s.simulator}.post(chat(), "30")); }};
    while (s.simulator->waiting("first", "m") == 0) std::this_thread::yield();
    s.simulator->stop();
    waits.join();
    EXPECT_EQ(s.simulator->waiting("first", "m"), 0u);
}

// --- plans
// ---------------------------------------------------------------------------------------------------------------------

TEST(dashscope_plan, a_spent_month_is_refused_until_its_reset_with_the_date_and_retry_after) {
    auto settings = one_model({});
    settings.accounts[0].plan = {.month = 2, .age_s = 9 * 86'400.0};
    server s{settings};
    EXPECT_EQ(s.ask(costing(1'000, 0, 1)).status, 200);
    EXPECT_EQ(s.ask(costing(900, 400, 500)).status, 200);  // the last one may cost more than there is
    auto const c = s.ask(chat());
    EXPECT_EQ(c.status, 429);
    EXPECT_EQ(c.code(), "insufficient_quota");
    EXPECT_EQ(c.header("Retry-After"), std::to_string(21 * 86'400));
    EXPECT_EQ(c.message().find("Your token-plan 1-month quota has been exhausted. The quota will reset at "), 0u);
    EXPECT_EQ(c.message().substr(c.message().size() - 5), " UTC.");
    EXPECT_EQ(s.ask_native(chat()).code(), "Throttling.AllocationQuota");
    EXPECT_EQ(s.ask(chat(), "key-3").status, 200);
    s.time = 21 * 86'400 * second - 1;
    EXPECT_EQ(s.ask(chat()).header("Retry-After"), "1");
    s.time = 21 * 86'400 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
}

TEST(dashscope_plan, a_plan_can_be_bought_while_it_runs) {
    server s{one_model({})};
    s.simulator->set_plan("first", {.five_hours = 0});
    EXPECT_EQ(s.ask(chat()).message().find("Your token-plan 5-hour quota"), 0u);
    s.simulator->set_plan("first", {});
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_THROW(s.simulator->set_plan("none", {.week = 1}), std::invalid_argument);
    EXPECT_THROW(s.simulator->set_plan("first", {.week = 1, .tokens_per_credit = 0}), std::invalid_argument);
}

}  // namespace dashscope_faults_test
