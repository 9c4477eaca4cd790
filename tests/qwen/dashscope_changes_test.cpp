// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <stdexcept>
#include <string>

#include "../../examples/simulator/runtime_changes.hpp"
#include "../../examples/simulator/simulator.hpp"
#include "../support/dashscope_server.hpp"

namespace dashscope_changes_test {

using namespace dashscope_test;
using qwen::failure;
using qwen::free_tier;

TEST(dashscope_changes, an_account_has_limits_of_its_own_before_those_of_the_model) {
    auto settings = one_model({.rps = 1});
    settings.accounts[1].limits["m"] = {.rps = 3};
    server s{settings};
    int first = 0, second_one = 0;
    for (int i = 0; i < 5; ++i) {
        first += s.ask(chat(), "key-1").status == 200;
        second_one += s.ask(chat(), "key-3").status == 200;
    }
    EXPECT_EQ(first, 1);
    EXPECT_EQ(second_one, 3);
    EXPECT_EQ(s.simulator->limits_of("second", "m").rps, 3u);
}

TEST(dashscope_changes, a_change_of_one_limit_leaves_the_others_and_the_other_accounts) {
    server s{one_model({.rpm = 60, .rps = 9, .tpm = 1'000})};
    s.simulator->set_limits("first", "m", {.rps = 2});
    EXPECT_EQ(s.simulator->limits_of("first", "m").rps, 2u);
    EXPECT_FALSE(s.simulator->limits_of("first", "m").rpm);
    EXPECT_EQ(s.simulator->limits_of("second", "m").rps, 9u);
    s.simulator->change_limits("m", [](server_limits& l) { l.tpm = 500; });
    EXPECT_EQ(s.simulator->limits_of("second", "m").tpm, 500u);
    EXPECT_EQ(s.simulator->limits_of("second", "m").rpm, 60u);
    s.simulator->set_spend_tier("second", "m", 5'000, 0.5);
    EXPECT_EQ(s.simulator->limits_of("second", "m").tpm, 5'000u);
    EXPECT_EQ(s.simulator->limits_of("second", "m").tpm_soft, 0.5);
    EXPECT_EQ(s.simulator->limits_of("second", "m").rps, 9u);
    EXPECT_THROW(s.simulator->set_spend_tier("second", "m", 5'000, 1.5), std::invalid_argument);
}

TEST(dashscope_changes, a_soft_limit_admits_its_share_of_what_is_above_tpm) {
    server s{one_model({.tpm = 100, .tpm_soft = 0.25})};
    EXPECT_EQ(s.ask(costing(100, 0, 1)).status, 200);
    int above = 0;
    for (int i = 0; i < 400; ++i) above += s.ask(costing(10, 0, 1)).status == 200;
    EXPECT_GT(above, 60);
    EXPECT_LT(above, 140);
    EXPECT_EQ(s.counted().admitted_above_tpm, static_cast<std::uint64_t>(above));
    EXPECT_EQ(s.counted().refused.tpm, static_cast<std::uint64_t>(400 - above));
}

TEST(dashscope_changes, a_revoked_key_is_refused_and_an_added_one_shares_its_accounts_quota) {
    server s{one_model({.rpm = 3})};
    s.simulator->revoke_key("key-1");
    EXPECT_EQ(s.ask(chat(), "key-1").status, 401);
    EXPECT_EQ(s.ask(chat(), "key-2").status, 200);
    s.simulator->add_key("key-4", "first");
    s.time = second;
    EXPECT_EQ(s.ask(chat(), "key-4").status, 200);
    EXPECT_EQ(s.counted().peak.requests_minute, 2u);
    s.simulator->add_key("key-5", "third");
    EXPECT_EQ(s.ask(chat(), "key-5").status, 200);
    EXPECT_EQ(s.counted().peak.requests_minute, 2u);
    EXPECT_THROW(s.simulator->revoke_key("key-1"), std::invalid_argument);
    EXPECT_THROW(s.simulator->add_key("key-3", "first"), std::invalid_argument);
}

TEST(dashscope_changes, an_account_is_cut_off_and_restored_while_it_runs) {
    server s{one_model({})};
    EXPECT_EQ(s.ask(chat()).status, 200);
    s.simulator->cut_off_account("first");
    auto const r = s.ask(chat());
    EXPECT_EQ(r.status, 400);
    EXPECT_EQ(r.code(), "Arrearage");
    EXPECT_EQ(s.ask(chat(), "key-3").status, 200);
    s.simulator->restore_account("first");
    EXPECT_EQ(s.ask(chat()).status, 200);
}

TEST(dashscope_changes, free_quota_is_set_while_it_runs_and_then_runs_out) {
    server s{one_model({})};
    s.simulator->set_free_quota("first", "m", free_tier::only, 15);
    EXPECT_EQ(s.ask(costing(10, 0, 1)).status, 200);
    EXPECT_EQ(s.ask(costing(10, 0, 1)).status, 200);
    EXPECT_EQ(s.ask(costing(10, 0, 1)).code(), "AllocationQuota.FreeTierOnly");
    EXPECT_EQ(s.ask(costing(10, 0, 1), "key-3").status, 200);
    s.simulator->set_free_quota("first", "m", free_tier::not_sold, 0);
    EXPECT_EQ(s.ask(costing(10, 0, 1)).message().find("Free allocated quota exceeded."), 0u);
    s.simulator->set_free_quota("first", "m", free_tier::none, 0);
    EXPECT_EQ(s.ask(costing(10, 0, 1)).status, 200);
    EXPECT_THROW(s.simulator->set_free_quota("none", "m", free_tier::only, 1), std::invalid_argument);
    EXPECT_THROW(s.simulator->set_free_quota("first", "none", free_tier::only, 1), std::invalid_argument);
}

TEST(dashscope_changes, an_outage_ends_by_itself_and_consumes_nothing) {
    auto settings = one_model({});
    settings.models.push_back({.name = "other"});
    server s{settings};
    s.time = 10 * second;
    s.simulator->outage(5);
    s.time = 15 * second - 1;
    auto const r = s.ask(chat());
    EXPECT_EQ(r.status, 503);
    EXPECT_EQ(r.code(), "ModelUnavailable");
    EXPECT_EQ(s.ask(chat(), "wrong").status, 401);
    EXPECT_EQ(s.get("/compatible-mode/v1/models", "key-1").status, 200);
    s.time = 15 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
    EXPECT_EQ(s.counted().arrived, 1u);

    s.simulator->outage_of_model("other", 100, failure::serving_error);
    auto other = chat();
    other["model"] = "other";
    EXPECT_EQ(s.ask(other).code(), "ModelServingError");
    EXPECT_EQ(s.ask(chat()).status, 200);
    s.simulator->outage_of_model("other", 0);
    EXPECT_EQ(s.ask(other).status, 200);
    EXPECT_THROW(s.simulator->outage_of_model("none", 1), std::invalid_argument);
    EXPECT_THROW(s.simulator->outage(-1), std::invalid_argument);
}

TEST(dashscope_changes, the_clock_steps_and_the_windows_and_headers_with_it) {
    server s{one_model({.rpm = 1})};
    s.time = 100 * second;
    auto const before = s.ask(chat());
    EXPECT_EQ(before.status, 200);
    EXPECT_EQ(s.ask(chat()).status, 429);
    s.simulator->step_clock(minute);
    auto const after = s.ask(chat());
    EXPECT_EQ(after.status, 200);
    EXPECT_EQ(std::stoll(after.header("req-arrive-time")) - std::stoll(before.header("req-arrive-time")), 60'000);
    EXPECT_EQ(s.simulator->now_ns(), 160 * second);
    s.simulator->step_clock(-2 * minute);  // the judge's windows wait for it
    s.time = 160 * second;
    EXPECT_EQ(s.ask(chat()).status, 429);
    s.time = 280 * second;
    EXPECT_EQ(s.ask(chat()).status, 200);
}

TEST(dashscope_changes, models_come_and_go) {
    server s{one_model({})};
    auto body = chat();
    body["model"] = "new";
    EXPECT_EQ(s.ask(body).status, 404);
    s.simulator->set_model({.name = "new", .limits = {.rps = 1}});
    EXPECT_EQ(s.ask(body).status, 200);
    EXPECT_EQ(s.ask(body).status, 429);
    s.simulator->set_model({.name = "new"});
    EXPECT_EQ(s.ask(body).status, 200);
    EXPECT_EQ(s.get("/compatible-mode/v1/models", "key-1").body["data"].size(), 2u);
    s.simulator->remove_model("new");
    EXPECT_EQ(s.ask(body).status, 404);
    EXPECT_THROW(s.simulator->remove_model("new"), std::invalid_argument);
    EXPECT_THROW(s.simulator->set_model({}), std::invalid_argument);
}

TEST(dashscope_changes, every_change_can_be_made_from_outside) {
    server s{one_model({.rpm = 600, .tpm = 1'000})};
    std::set<std::string> made;
    auto const change = [&](std::string const& name, json const& body) {
        made.insert(name);
        auto const r = s.send("/simulator/" + name, body.dump());
        EXPECT_EQ(r.status, 200) << r.text;
    };
    change("limits", {{"model", "m"}, {"rpm", 300}, {"rps", nullptr}});
    EXPECT_EQ(s.simulator->limits_of("first", "m").rpm, 300u);
    EXPECT_EQ(s.simulator->limits_of("first", "m").tpm, 1'000u);
    change("limits", {{"model", "m"}, {"account", "first"}, {"tpm", 7}, {"tpm_soft", 0.5}});
    EXPECT_EQ(s.simulator->limits_of("first", "m").tpm, 7u);
    EXPECT_EQ(s.simulator->limits_of("second", "m").tpm, 1'000u);
    change("spend_tier", {{"model", "m"}, {"account", "first"}, {"tpm", 2'000}, {"soft", 1}});
    EXPECT_EQ(s.simulator->limits_of("first", "m").tpm, 2'000u);
    EXPECT_EQ(s.simulator->limits_of("first", "m").tpm_soft, 1);
    change("free_quota", {{"model", "m"}, {"account", "first"}, {"tier", "only"}});
    EXPECT_EQ(s.ask(chat()).status, 403);
    change("free_quota", {{"model", "m"}, {"account", "first"}, {"tier", "none"}});
    EXPECT_EQ(s.ask(chat()).status, 200);
    change("add_key", {{"key", "key-9"}, {"account", "first"}});
    EXPECT_EQ(s.ask(chat(), "key-9").status, 200);
    change("revoke_key", {{"key", "key-9"}});
    EXPECT_EQ(s.ask(chat(), "key-9").status, 401);
    change("account", {{"account", "first"}, {"state", "arrearage"}});
    EXPECT_EQ(s.ask(chat()).status, 400);
    change("account", {{"account", "first"}, {"state", "good"}});
    change("outage", {{"seconds", 5}, {"model", "m"}, {"failure", "serving_error"}});
    EXPECT_EQ(s.ask(chat()).code(), "ModelServingError");
    change("outage", {{"seconds", 0}, {"model", "m"}});
    change("plan", {{"account", "first"}, {"five_hours", 0}, {"age", 10}});
    EXPECT_NE(s.ask(chat()).message().find("token-plan 5-hour quota"), std::string::npos);
    change("plan", {{"account", "first"}});
    EXPECT_EQ(s.ask(chat()).status, 200);
    change("mishaps", {{"garbage_body", 1}});
    EXPECT_TRUE(s.ask(chat()).body.is_discarded());
    change("mishaps", json::object());
    EXPECT_EQ(s.ask(chat()).status, 200);
    change("clock", {{"step", 2.5}});
    EXPECT_EQ(s.simulator->now_ns(), 2'500 * ms);
    change("model", {{"model", "n"}, {"rpm", 60}});
    EXPECT_EQ(s.simulator->limits_of("first", "n").rps, 1u);
    change("remove_model", {{"model", "n"}});
    for (auto const& c : qwen::runtime_changes()) EXPECT_TRUE(made.contains(c.name)) << c.name;
    EXPECT_EQ(made.size(), qwen::runtime_changes().size());
}

TEST(dashscope_changes, a_change_that_makes_no_sense_says_why_and_changes_nothing) {
    server s{one_model({.rpm = 600})};
    auto const refuses = [&](std::string const& name, std::string const& body, std::string const& why) {
        auto const r = s.send("/simulator/" + name, body);
        EXPECT_EQ(r.status, 400);
        EXPECT_NE(r.text.find(why), std::string::npos) << r.text;
    };
    refuses("limit", "{}", "there is no change");
    refuses("limits", "[1]", "not a JSON object");
    refuses("limits", "{", "not a JSON object");
    refuses("limits", R"({"rpm": 5})", "must be a string");
    refuses("limits", R"({"model": "m", "rpm": -5})", "must be a whole number");
    refuses("limits", R"({"model": "m", "rmp": 5})", "has no \\\"rmp\\\"");
    refuses("account", R"({"account": "first", "state": "fine"})", "must be one of arrearage");
    refuses("outage", R"({"seconds": 1, "failure": "none"})", "no such failure");
    refuses("outage", R"({"seconds": 1, "model": "none"})", "there is no model none");
    refuses("revoke_key", R"({"key": "none"})", "there is no key none");
    EXPECT_EQ(s.simulator->limits_of("first", "m").rpm, 600u);
}

TEST(dashscope_changes, changes_come_at_their_times) {
    auto settings = one_model({});
    settings.changes = {{30 * second, "outage", R"({"seconds": 5})"},
                        {10 * second, "account", R"({"account": "first", "state": "arrearage"})"},
                        {20 * second, "account", R"({"account": "first", "state": "good"})"},
                        {40 * second, "revoke_key", R"({"key": "none"})"}};
    server s{settings};
    auto const at = [&s](std::int64_t t) {
        s.time = t;
        return s.ask(chat()).status;
    };
    EXPECT_EQ(at(10 * second - 1), 200);
    EXPECT_EQ(at(10 * second), 400);
    EXPECT_EQ(at(20 * second), 200);
    EXPECT_EQ(at(34 * second), 503);  // since 30, though no request came before
    EXPECT_EQ(at(35 * second), 200);
    EXPECT_EQ(at(41 * second), 200);
    auto const report = s.simulator->report();
    ASSERT_EQ(report.failed_changes.size(), 1u);
    EXPECT_NE(report.failed_changes[0].find("there is no key none"), std::string::npos);
    settings.changes = {{0, "outage", "{}"}};
    EXPECT_THROW(dashscope_simulator{settings}, std::invalid_argument);
}

}  // namespace dashscope_changes_test
