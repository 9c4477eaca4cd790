// SPDX-License-Identifier: MIT
#include "scenarios.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "../simulator/simulator.hpp"
#include "demo_text.hpp"
#include "scenario_world.hpp"

namespace qwen {

namespace {

using namespace std::chrono_literals;

void all_answered(scenario_result& r) { r.claims.push_back({"every call is answered", r.answered == r.calls}); }
void no_refusal(scenario_result& r) { r.claims.push_back({"no request is refused", r.refused() == 0}); }

// Where a rate is to be found out: a delay of the machine, times the speed, must be small compared with a second.
scenario_options slowly(scenario_options o) {
    o.speed = std::min<std::int64_t>(o.speed, 4);
    return o;
}

// ---- what can go wrong ----

scenario_result steady(scenario_options const& o) {
    scenario_world w(o);
    w.client({{max_name, {{"a", "sk-a"}}}}, 5000);
    auto r = w.run();
    all_answered(r);
    no_refusal(r);
    double const whole = static_cast<double>(w.seen(60, 480)) / (600.0 * 7);
    r.measured = demo::percent(whole) + " of 600 RPM, from the first minute to the eighth";
    double const margin = 1 / (1 + std::chrono::duration<double>(o.jitter).count() * static_cast<double>(o.speed));
    r.claims.push_back({"99% of the ceiling, but for the margin: 1 s/(1 s + J)", whole >= 0.99 * margin});
    return r;
}

scenario_result two_keys(scenario_options const& o) {
    scenario_world one(o);
    one.server.accounts = {{"a", {"sk-a", "sk-a2"}}, {"b", {"sk-b"}}};
    one.client({{max_name, {{"a", "sk-a"}, {"a", "sk-a2"}}}}, 1200);
    auto const same = one.run();
    scenario_world two(o);
    two.client({{max_name, {{"a", "sk-a"}, {"b", "sk-b"}}}}, 2400);
    auto r = two.run();
    all_answered(r);
    no_refusal(r);
    double const one_rate = static_cast<double>(same.answered) / same.seconds,
                 two_rate = static_cast<double>(r.answered) / r.seconds;
    r.measured = demo::rounded(one_rate * 60) + " a minute with two keys of one account, " +
                 demo::rounded(two_rate * 60) + " with two accounts";
    r.claims.push_back(
        {"two keys of one account gain nothing, and provoke nothing", one_rate * 60 <= 610 && same.refused() == 0});
    r.claims.push_back({"two accounts double", two_rate >= 1.8 * one_rate});
    return r;
}

scenario_result too_large(scenario_options const& o) {
    scenario_world w(o);
    w.server.judge.derive_tps = true;
    w.server.models[0].limits.tpm = 60'000;
    weir::llm::quota const q{.rpm = 600, .rps = 10, .tpm = 60'000, .tps = 1000};
    auto& c = w.client({{max_name, {{"a", "sk-a", q}}}}, 40, {.input = 300, .output = 50, .bound = 60});
    c.quota.oversize = weir::llm::oversize::alone;
    c.calls[10] = {.input = 5'000, .output = 50, .bound = 60};   // above TPS
    c.calls[20] = {.input = 80'000, .output = 50, .bound = 60};  // above TPM
    auto r = w.run();
    all_answered(r);
    no_refusal(r);
    r.measured = "5,000 tokens at 1,000 TPS and 80,000 at 60,000 TPM, each alone in its window";
    return r;
}

scenario_result misjudged(scenario_options const& o) {
    scenario_world w(o);
    w.server.models[0].limits.tpm = 100'000;
    weir::llm::quota const q{.rpm = 600, .rps = 10, .tpm = 100'000};
    // The first hundred answers are ten times as long as was thought, and it had said no max_tokens.
    auto& c = w.client({{max_name, {{"a", "sk-a", q}}}}, 400,
                       {.input = 200, .output = 100, .bound = 100, .says_max_tokens = false});
    for (std::size_t i = 0; i < 100; ++i) c.calls[i].output = 1000;
    auto r = w.run();
    all_answered(r);
    double last_refusal = 0;
    for (auto const& seen : w.requests)
        if (seen.status == 429) last_refusal = std::max(last_refusal, w.since_first_send(seen));
    double const storm = static_cast<double>(r.refused()) / static_cast<double>(r.attempts);
    r.measured = std::to_string(r.refused()) + " of " + std::to_string(r.attempts) +
                 " requests refused, all within the first " + demo::rounded(last_refusal) + " s";
    r.claims.push_back({"no storm of refusals: fewer than 5%", storm < 0.05});
    r.claims.push_back({"none after the first window and the time of an answer", w.seen(100, 1e9, 429) == 0});
    return r;
}

scenario_result free_quota(scenario_options const& o) {
    scenario_world w(o);
    w.server.models[0].tier = free_tier::only;
    w.server.models[0].free_tokens = 14'000;  // for about 200 calls
    w.client({{max_name, {{"a", "sk-a"}}}, {plus_name, {{"a", "sk-a"}}}}, 600);
    auto r = w.run();
    all_answered(r);
    r.measured = std::to_string(r.answered_by[max_name]) + " by qwen3-max, " +
                 std::to_string(r.answered_by[plus_name]) + " by qwen-plus, " + std::to_string(r.refused()) +
                 " refused at the turn";
    r.claims.push_back({"the first model answers until it is used up, the second goes on",
                        r.answered_by[max_name] > 100 && r.answered_by[plus_name] > 100});
    r.claims.push_back(
        {"what is refused was in flight, or asked whether it is back: 5% at most", r.refused() <= r.calls / 20});
    return r;
}

scenario_result cut_off(scenario_options const& o) {
    scenario_world w(o);
    w.change(20s, "account", R"({"account":"a","state":"arrearage"})");
    w.client({{max_name, {{"a", "sk-a"}, {"b", "sk-b"}}}}, 1200);
    auto r = w.run();
    all_answered(r);
    r.measured = demo::rounded(r.seconds) + " s, " + std::to_string(r.refused()) + " refused at the turn";
    r.claims.push_back(
        {"what is refused was in flight, or asked whether it is back: 2% at most", r.refused() <= r.calls / 50});
    return r;
}

scenario_result halved(scenario_options const& given) {
    auto const o = slowly(given);
    scenario_world w(o);
    w.change(120s, "limits", R"({"model":"qwen3-max","rpm":300,"rps":5})");
    w.change(360s, "limits", R"({"model":"qwen3-max","rpm":600,"rps":10})");
    auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 5400);
    c.session.adaptive = weir::llm::adaptive_range{};
    auto r = w.run();
    all_answered(r);
    double const low = static_cast<double>(w.seen(240, 360, 200)) / 600,
                 high = static_cast<double>(w.seen(540, 600, 200)) / 600;
    double const refused = static_cast<double>(r.refused()) / static_cast<double>(r.attempts);
    r.measured = demo::percent(low) + " of the halved limit two minutes later, " + demo::percent(high) +
                 " of the restored one after three; " + demo::percent(refused) + " refused";
    r.claims.push_back({"at least 80% of the halved limit after two minutes, and of the restored one after three",
                        low >= 0.8 && high >= 0.8});
    r.claims.push_back({"fewer than 2% refused", refused < 0.02});
    return r;
}

scenario_result outage(scenario_options const& o) {
    scenario_world w(o);
    w.change(20s, "outage", R"({"seconds":5})");
    w.client({{max_name, {{"a", "sk-a"}}}}, 600);
    auto r = w.run();
    all_answered(r);
    r.measured =
        demo::rounded(r.seconds) + " s for a minute's calls, " + std::to_string(r.refused()) + " attempts failed";
    r.claims.push_back(
        {"retries do not multiply it: fewer than 3 attempts for each call that met it", r.refused() < 150});
    return r;
}

scenario_result burst(scenario_options const& o) {
    scenario_world bare(o);
    bare.server.burst.on = true;
    bare.client({{max_name, {{"a", "sk-a"}}}}, 200);
    auto const storm = bare.run();
    scenario_world w(o);
    w.server.burst.on = true;
    auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 200);
    c.session.ramp = weir::ramp_options{.jitter = o.jitter * o.speed};
    auto r = w.run();
    all_answered(r);
    no_refusal(r);
    auto const without = storm.refusals.contains("burst") ? storm.refusals.at("burst") : 0;
    r.measured = std::to_string(without) + " refused for growing too fast without the ramp, " +
                 std::to_string(r.refused()) + " with it, in " + demo::rounded(storm.seconds) + " and " +
                 demo::rounded(r.seconds) + " s";
    r.claims.push_back({"a cold start at the full rate is refused without the ramp", without > 0});
    return r;
}

scenario_result queued(scenario_options const& o) {
    scenario_world w(o);
    w.server.burst.on = true;
    auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 200);
    c.session.server_queue = 120s;
    auto r = w.run();
    all_answered(r);
    std::size_t held = 0;
    for (auto const& q : w.requests) held += q.queued_ns > 0;
    r.measured = std::to_string(held) + " of " + std::to_string(r.calls) + " requests were held by the server, " +
                 std::to_string(r.refused()) + " refused, in " + demo::rounded(r.seconds) + " s";
    r.claims.push_back(
        {"the server's queue takes what burst protection would refuse", held > 0 && !r.refusals.contains("burst")});
    return r;
}

scenario_result plan_gone(scenario_options const& o) {
    scenario_world w(o);
    w.server.accounts[0].plan.month = 10;  // credits, of a thousand tokens each; they come again in days
    w.client({{max_name, {{"a", "sk-a"}, {"b", "sk-b"}}}}, 600);
    auto r = w.run();
    all_answered(r);
    r.measured = std::to_string(r.refused()) + " refused at the turn, all answered in " + demo::rounded(r.seconds) +
                 " s though the plan comes again in days";
    r.claims.push_back({"no call waits for the plan: what was in flight is all that is refused",
                        r.refused() <= 40 && r.seconds < 120});
    return r;
}

scenario_result dialects(scenario_options const& o) {
    // The server allows fewer tokens than its clients think: "insufficient_quota", which to DashScope is a throttle,
    // to OpenAI the end of the credit.
    auto const one = [&](weir::llm::dialect d) {
        scenario_world w(o);
        w.server.models[0].limits.tpm = 60'000;
        auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 150, {.input = 900, .output = 100, .bound = 120});
        c.dialect = d;
        c.session.adaptive = weir::llm::adaptive_range{};
        c.session.retry.attempts = 20;
        return w.run();
    };
    auto r = one(weir::llm::dialect::dashscope);
    auto const there = one(weir::llm::dialect::openai);
    all_answered(r);
    std::string const why = there.failures.empty() ? "" : there.failures.begin()->first;
    r.measured = "DashScope: " + std::to_string(r.refused()) + " refused, all answered. OpenAI: ended after " +
                 std::to_string(there.answered) + " with \"" + why + "\"";
    r.claims.push_back(
        {"insufficient_quota is waited out here, and ends the run at OpenAI, with the reason",
         r.refusals.contains("token rate") && there.failed > 0 && why.find("credit") != std::string::npos});
    return r;
}

scenario_result jitter(scenario_options const& o) {
    auto const one = [&](bool margin) {
        scenario_world w(o);
        auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 600);
        c.delays = 200ms;
        c.quota.jitter = margin ? 200ms + o.jitter * o.speed : 0ns;
        return w.run();
    };
    auto const without = one(false);
    auto r = one(true);
    all_answered(r);
    no_refusal(r);
    r.spread_ms = 0;  // they are spread on purpose
    r.measured = std::to_string(without.refused()) + " refused without a margin, " + std::to_string(r.refused()) +
                 " with one of 200 ms more than the machine's";
    r.claims.push_back({"an exact client without a margin is refused", without.refused() > 0});
    return r;
}

scenario_result mishaps(scenario_options const& o) {
    scenario_world w(o);
    w.answers_are_lost = true;
    w.server.faults = {{failure::internal_error, 0.02}, {failure::model_unavailable, 0.01}};
    w.server.mishaps = {.dropped_before = 0.02,
                        .dropped_after = 0.02,
                        .truncated_body = 0.02,
                        .garbage_body = 0.02,
                        .soft_failure_rate = 0.02};
    auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 600);
    c.quota.server_timeout = 30s;
    auto r = w.run();
    r.claims.push_back({"all but one in a hundred are answered in the end", r.failed * 100 <= r.calls});
    r.measured = std::to_string(r.attempts - r.calls) + " of " + std::to_string(r.attempts) + " attempts failed";
    return r;
}

scenario_result strangers(scenario_options const& given) {
    auto const o = slowly(given);
    scenario_world w(o);
    for (int i = 0; i < 2; ++i) {
        auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 3000);
        c.session.adaptive = weir::llm::adaptive_range{};
        c.session.retry.attempts = 20;
    }
    auto r = w.run();
    all_answered(r);
    // After convergence, and while both have calls.
    double const good = static_cast<double>(w.seen(240, 540, 200)) / 3000;
    double const refused =
        static_cast<double>(w.seen(240, 540, 429)) / static_cast<double>(std::max<std::size_t>(w.seen(240, 540), 1));
    r.measured = demo::percent(good) + " of the limit together from the fourth minute to the ninth, " +
                 demo::percent(refused) + " refused";
    r.claims.push_back({"the pair gets 90% of the limit after convergence", good >= 0.9});
    r.claims.push_back({"fewer than 1% refused after convergence", refused < 0.01});
    return r;
}

}  // namespace

std::vector<scenario> const& scenarios() {
    static std::vector<scenario> const all{
        {"steady", "ten minutes at the full rate", steady},
        {"two-keys", "two keys of one account, and two accounts", two_keys},
        {"too-large", "requests above a second's and a minute's tokens", too_large},
        {"misjudged", "answers ten times as long as was thought", misjudged},
        {"burst", "a cold start at the full rate against burst protection", burst},
        {"queued", "the same, with the server's own queue", queued},
        {"plan", "a plan that is spent, and comes again in days", plan_gone},
        {"dialects", "one code that means two things", dialects},
        {"jitter", "ways that differ by 200 ms", jitter},
        {"mishaps", "connections that break, answers that are none", mishaps},
        {"free-quota", "a free quota that runs out", free_quota},
        {"cut-off", "one of two accounts is cut off", cut_off},
        {"halved", "the limit halved while it runs, and restored", halved},
        {"outage", "five seconds of 503", outage},
        {"strangers", "two processes that share an account and do not know of each other", strangers},
    };
    return all;
}

}  // namespace qwen
