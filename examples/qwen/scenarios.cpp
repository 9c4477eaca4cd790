// SPDX-License-Identifier: MIT
#include "scenarios.hpp"

#include <weir/clock/scaled_clock.hpp>
#include <weir/llm/session.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>

#include "../simulator/simulator.hpp"
#include "adapter.hpp"
#include "plain_driver.hpp"
#include "qwen_client.hpp"

namespace qwen {

std::size_t scenario_result::refused() const {
    std::size_t n = 0;
    for (auto const& [cause, count] : refusals) n += count;
    return n;
}
bool scenario_result::held() const {
    return std::all_of(claims.begin(), claims.end(), [](claim const& c) { return c.held; });
}

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using clock_type = weir::scaled_clock<>;
using pool = weir::llm::account_pool<clock_type&>;
using chain = weir::llm::fallback_chain<pool>;
using session = weir::llm::session<pool>;

constexpr weir::llm::quota qwen3_max{.rpm = 600, .rps = 10, .tpm = 1'000'000};
constexpr char max_name[] = "qwen3-max", plus_name[] = "qwen-plus";

struct work {
    std::uint64_t input = 50, output = 20, bound = 30;
    bool says_max_tokens = true;  // else the server answers as long as it likes
};

struct member {
    std::string account, key;
    weir::llm::quota limits = qwen3_max;
};
struct link {
    std::string model;
    std::vector<member> members;
};

// One process as it were: it knows its own quota, and nothing of others.
struct client_plan {
    std::vector<link> links;
    weir::llm::session_options session{};
    weir::llm::quota_options quota{};
    weir::llm::dialect dialect = weir::llm::dialect::dashscope;
    nanoseconds delays{0};  // from stamp to send, drawn up to this, of the server's time; one request in four
    std::vector<work> calls;
};

// The way is longer for some: sleeps between the stamp and the send.
class delaying_driver final : public call_driver {
public:
    delaying_driver(call_driver& to, nanoseconds most, std::uint64_t seed) : to_{to}, most_{most}, random_{seed} {}
    admission admit(chat_call const& c) override {
        auto a = to_.admit(c);
        if (a.what == admission::kind::now && most_ > 0ns && random_() % 4 == 0) {
            std::this_thread::sleep_for(
                nanoseconds{static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(most_.count()))});
        }
        return a;
    }
    next_step ended(attempt& a) override { return to_.ended(a); }

private:
    call_driver& to_;
    nanoseconds most_;
    std::mt19937_64 random_;
};

struct attempt_seen {
    double sent = 0;  // seconds of the server's clock
    int status = 0;
    weir::llm::cause cause = weir::llm::cause::none;
};

std::string body_of(std::size_t id, work const& w) {
    std::string text =
        R"({"model":"qwen3-max","messages":[{"role":"user","content":"call )" + std::to_string(id) + R"("}])";
    if (w.says_max_tokens) text += R"(,"max_tokens":)" + std::to_string(w.bound);
    return text + R"(,"metadata":{"input_tokens":")" + std::to_string(w.input) + R"(","output_tokens":")" +
           std::to_string(w.output) + "\"}}";
}

// What happened to one client's calls.
class record final : public call_observer {
public:
    record(std::size_t calls, bool verbose) : answers_(calls, 0), failures_(calls), models_(calls), verbose_{verbose} {}

    void ended(attempt const& a, bool) override {
        if (a.withdrawn) return;
        auto const v = weir::llm::classify({.dialect = weir::llm::dialect::dashscope,
                                            .status = a.status == 0 ? std::nullopt : std::optional{a.status},
                                            .body = a.body,
                                            .transport_failed = a.status == 0});
        attempts.push_back({0, a.status, v.cause});
        stamps.push_back(a.stamp);
        if (answers_[a.id] != 0) ++sent_after_success;
        if (verbose_ && !a.answered()) {
            std::fprintf(stderr, "call %llu, attempt %u: %d %s: %s\n", static_cast<unsigned long long>(a.id),
                         a.number + 1, a.status, a.code.c_str(), a.message.c_str());
        }
    }
    void answered(attempt const& a) override {
        ++answers_[a.id];
        models_[a.id] = a.model;
        last = std::max(last, a.done);
    }
    void failed(attempt const& a) override { failures_[a.id] = a.message.empty() ? a.code : a.message; }

    std::vector<attempt_seen> attempts;
    std::vector<steady_time> stamps;
    steady_time last{};
    std::size_t sent_after_success = 0;

    [[nodiscard]] std::vector<int> const& answers() const { return answers_; }
    [[nodiscard]] std::vector<std::string> const& failures() const { return failures_; }
    [[nodiscard]] std::vector<std::string> const& models() const { return models_; }

private:
    std::vector<int> answers_;
    std::vector<std::string> failures_, models_;
    bool verbose_;
};

struct world {
    scenario_options const& options;
    simulator_settings server{};
    std::vector<client_plan> clients{};
    bool answers_are_lost = false;  // on their way, so that the server made more of them
    // What it left.
    simulator_report report{};
    std::vector<request_record> requests{};
    std::vector<std::unique_ptr<record>> records{};
    double began = 0;  // seconds of the server's clock

    explicit world(scenario_options const& o) : options{o} {
        server.speed = o.speed;
        server.seed = o.seed;
        server.keep_records = true;
        server.max_connections = 4096;
        server.models = {{.name = max_name, .limits = {.rpm = 600, .rps = {}, .tpm = 1'000'000}},
                         {.name = plus_name, .limits = {.rpm = 600, .rps = {}, .tpm = 1'000'000}}};
        server.accounts = {{"a", {"sk-a"}}, {"b", {"sk-b"}}};
    }
    client_plan& client(std::vector<link> links, std::size_t calls, work w = {}) {
        auto& c = clients.emplace_back();
        c.links = std::move(links);
        c.quota.jitter = options.jitter * options.speed;
        c.session.retry = {.base = 1s, .cap = 30s, .attempts = 8, .budget = 30min, .jitter = weir::jitter::equal};
        c.session.seed = options.seed + clients.size();
        c.calls.assign(calls, w);
        return c;
    }
    void change(std::chrono::seconds at, std::string name, std::string json) {
        server.changes.push_back({nanoseconds{at}.count(), std::move(name), std::move(json)});
    }

    scenario_result run() {
        dashscope_simulator simulator(server);
        simulator.start();
        ::setenv("no_proxy", "127.0.0.1", 1);
        clock_type clock{options.speed};
        auto const steady_start = std::chrono::steady_clock::now();
        double const server_start = static_cast<double>(simulator.now_ns()) / 1e9;
        std::vector<std::thread> threads;
        std::vector<std::string> errors(clients.size());
        for (auto const& c : clients) records.push_back(std::make_unique<record>(c.calls.size(), options.verbose));
        for (std::size_t i = 0; i < clients.size(); ++i) {
            threads.emplace_back(
                [&, i] { errors[i] = run_client(clients[i], simulator.base_url(), clock, *records[i]); });
        }
        for (auto& t : threads) t.join();
        report = simulator.report();
        requests = simulator.take_records();
        simulator.stop();

        scenario_result r;
        double first = std::numeric_limits<double>::infinity(), last = 0;
        auto const server_time = [&](steady_time t) {
            return server_start +
                   std::chrono::duration<double>(t - steady_start).count() * static_cast<double>(options.speed);
        };
        std::size_t twice = 0, after = 0, silent = 0;
        for (std::size_t i = 0; i < clients.size(); ++i) {
            auto& rec = *records[i];
            r.calls += clients[i].calls.size();
            r.attempts += rec.attempts.size();
            for (std::size_t k = 0; k < rec.attempts.size(); ++k) {
                auto& a = rec.attempts[k];
                a.sent = server_time(rec.stamps[k]);
                first = std::min(first, a.sent);
                if (a.cause != weir::llm::cause::none) ++r.refusals[std::string(to_string(a.cause))];
            }
            if (rec.last != steady_time{}) last = std::max(last, server_time(rec.last));
            for (std::size_t k = 0; k < rec.answers().size(); ++k) {
                if (rec.answers()[k] != 0) {
                    ++r.answered;
                    ++r.answered_by[rec.models()[k]];
                    twice += rec.answers()[k] > 1;
                } else {
                    ++r.failed;
                    auto const& why = rec.failures()[k];
                    ++r.failures[why.empty() ? errors[i] : why];
                    silent += why.empty() && errors[i].empty();
                }
            }
            after += rec.sent_after_success;
        }
        began = first;
        r.seconds = last - first;
        r.spread_ms = static_cast<double>(report.judge.delay.spread_ns()) / 1e6;
        r.claims.push_back({"nothing is lost: each call is answered once or fails once, and says why",
                            twice == 0 && silent == 0 && r.answered + r.failed == r.calls});
        std::uint64_t const served = report.answered(200);
        r.claims.push_back({"nothing is sent again after it was answered (" + std::to_string(served) + " answers, " +
                                std::to_string(r.answered) + " calls)",
                            after == 0 && (served == r.answered || answers_are_lost)});
        return r;
    }

    // Requests that the server saw between two moments after the first send, in seconds; of status, or of all (0).
    [[nodiscard]] std::size_t seen(double from, double until, int status = 0) const {
        std::size_t n = 0;
        for (auto const& q : requests) {
            double const t = static_cast<double>(q.arrival_ns) / 1e9 - began;
            n += t >= from && t < until && (status == 0 || q.status == status);
        }
        return n;
    }
    [[nodiscard]] std::uint64_t tokens(double from, double until) const {
        std::uint64_t n = 0;
        for (auto const& q : requests) {
            double const t = static_cast<double>(q.arrival_ns) / 1e9 - began;
            if (t >= from && t < until && q.status == 200) n += q.input + q.output;
        }
        return n;
    }

private:
    std::string run_client(client_plan const& plan, std::string const& url, clock_type& clock, record& rec) const {
        std::vector<std::unique_ptr<pool>> pools;
        chain models;
        for (auto const& l : plan.links) {
            auto& p = *pools.emplace_back(std::make_unique<pool>());
            for (auto const& m : l.members) p.add({url, m.account, {}, l.model}, m.key, m.limits, plan.quota, 0, clock);
            models.add(l.model, p);
        }
        session s{models, plan.session, clock};
        session_driver<session> own{s, plan.dialect};
        delaying_driver driver{own, plan.delays / options.speed, options.seed};
        client_options o;
        o.base_url = url;
        o.key = plan.links.front().members.front().key;
        o.in_flight = 1000;
        o.send_stamps = true;
        if (plan.delays == 0ns) o.stall = options.jitter / 2;
        o.timeout = std::chrono::duration_cast<std::chrono::milliseconds>(310s / options.speed) + 1s;
        o.spare_connections = 40;
        try {
            qwen_client c(o, driver, rec);
            for (std::size_t i = 0; i < plan.calls.size(); ++i) {
                auto const& w = plan.calls[i];
                c.submit({i, body_of(i, w), {.input = w.input, .output = w.bound}, {}});
            }
            c.run();
        } catch (std::exception const& e) {
            return e.what();
        }
        return {};
    }
};

std::string percent(double x) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.1f%%", 100 * x);
    return text.data();
}
std::string number(double x) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), "%.0f", x);
    return text.data();
}

void all_answered(scenario_result& r) { r.claims.push_back({"every call is answered", r.answered == r.calls}); }
void no_refusal(scenario_result& r) { r.claims.push_back({"no request is refused", r.refused() == 0}); }

// Where a rate is to be found out: a delay of the machine, times the speed, must be small compared with a second.
scenario_options slowly(scenario_options o) {
    o.speed = std::min<std::int64_t>(o.speed, 4);
    return o;
}

// ---- what can go wrong ----

scenario_result steady(scenario_options const& o) {
    world w(o);
    w.client({{max_name, {{"a", "sk-a"}}}}, 5000);
    auto r = w.run();
    all_answered(r);
    no_refusal(r);
    double const whole = static_cast<double>(w.seen(60, 480)) / (600.0 * 7);
    r.measured = percent(whole) + " of 600 RPM, from the first minute to the eighth";
    double const margin = 1 / (1 + std::chrono::duration<double>(o.jitter).count() * static_cast<double>(o.speed));
    r.claims.push_back({"99% of the ceiling, but for the margin: 1 s/(1 s + J)", whole >= 0.99 * margin});
    return r;
}

scenario_result two_keys(scenario_options const& o) {
    scenario_options quick = o;
    world one(quick);
    one.server.accounts = {{"a", {"sk-a", "sk-a2"}}, {"b", {"sk-b"}}};
    one.client({{max_name, {{"a", "sk-a"}, {"a", "sk-a2"}}}}, 1200);
    auto const same = one.run();
    world two(o);
    two.client({{max_name, {{"a", "sk-a"}, {"b", "sk-b"}}}}, 2400);
    auto r = two.run();
    all_answered(r);
    no_refusal(r);
    double const one_rate = static_cast<double>(same.answered) / same.seconds,
                 two_rate = static_cast<double>(r.answered) / r.seconds;
    r.measured = number(one_rate * 60) + " a minute with two keys of one account, " + number(two_rate * 60) +
                 " with two accounts";
    r.claims.push_back(
        {"two keys of one account gain nothing, and provoke nothing", one_rate * 60 <= 610 && same.refused() == 0});
    r.claims.push_back({"two accounts double", two_rate >= 1.8 * one_rate});
    return r;
}

scenario_result too_large(scenario_options const& o) {
    world w(o);
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
    world w(o);
    w.server.models[0].limits.tpm = 100'000;
    weir::llm::quota const q{.rpm = 600, .rps = 10, .tpm = 100'000};
    // The first hundred answers are ten times as long as was thought, and it had said no max_tokens.
    auto& c = w.client({{max_name, {{"a", "sk-a", q}}}}, 400,
                       {.input = 200, .output = 100, .bound = 100, .says_max_tokens = false});
    for (std::size_t i = 0; i < 100; ++i) c.calls[i].output = 1000;
    auto r = w.run();
    all_answered(r);
    double const storm = static_cast<double>(r.refused()) / static_cast<double>(r.attempts);
    r.measured = std::to_string(r.refused()) + " of " + std::to_string(r.attempts) +
                 " requests refused, all within the first " + number([&] {
                     double last = 0;
                     for (auto const& q_ : w.requests)
                         if (q_.status == 429)
                             last = std::max(last, static_cast<double>(q_.arrival_ns) / 1e9 - w.began);
                     return last;
                 }()) +
                 " s";
    r.claims.push_back({"no storm of refusals: fewer than 5%", storm < 0.05});
    r.claims.push_back({"none after the first window and the time of an answer", w.seen(100, 1e9, 429) == 0});
    return r;
}

scenario_result free_quota(scenario_options const& o) {
    world w(o);
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
    world w(o);
    w.change(20s, "account", R"({"account":"a","state":"arrearage"})");
    w.client({{max_name, {{"a", "sk-a"}, {"b", "sk-b"}}}}, 1200);
    auto r = w.run();
    all_answered(r);
    r.measured = number(r.seconds) + " s, " + std::to_string(r.refused()) + " refused at the turn";
    r.claims.push_back(
        {"what is refused was in flight, or asked whether it is back: 2% at most", r.refused() <= r.calls / 50});
    return r;
}

scenario_result halved(scenario_options const& given) {
    auto const o = slowly(given);
    world w(o);
    w.change(120s, "limits", R"({"model":"qwen3-max","rpm":300,"rps":5})");
    w.change(360s, "limits", R"({"model":"qwen3-max","rpm":600,"rps":10})");
    auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 5400);
    c.session.adaptive = weir::llm::adaptive_range{};
    auto r = w.run();
    all_answered(r);
    double const low = static_cast<double>(w.seen(240, 360, 200)) / 600,
                 high = static_cast<double>(w.seen(540, 600, 200)) / 600;
    double const refused = static_cast<double>(r.refused()) / static_cast<double>(r.attempts);
    r.measured = percent(low) + " of the halved limit two minutes later, " + percent(high) +
                 " of the restored one after three; " + percent(refused) + " refused";
    r.claims.push_back({"at least 80% of the halved limit after two minutes, and of the restored one after three",
                        low >= 0.8 && high >= 0.8});
    r.claims.push_back({"fewer than 2% refused", refused < 0.02});
    return r;
}

scenario_result outage(scenario_options const& o) {
    world w(o);
    w.change(20s, "outage", R"({"seconds":5})");
    w.client({{max_name, {{"a", "sk-a"}}}}, 600);
    auto r = w.run();
    all_answered(r);
    r.measured = number(r.seconds) + " s for a minute's calls, " + std::to_string(r.refused()) + " attempts failed";
    r.claims.push_back(
        {"retries do not multiply it: fewer than 3 attempts for each call that met it", r.refused() < 150});
    return r;
}

scenario_result burst(scenario_options const& o) {
    world bare(o);
    bare.server.burst.on = true;
    bare.client({{max_name, {{"a", "sk-a"}}}}, 200);
    auto const storm = bare.run();
    world w(o);
    w.server.burst.on = true;
    auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 200);
    c.session.ramp = weir::ramp_options{.jitter = o.jitter * o.speed};
    auto r = w.run();
    all_answered(r);
    no_refusal(r);
    auto const without = storm.refusals.contains("burst") ? storm.refusals.at("burst") : 0;
    r.measured = std::to_string(without) + " refused for growing too fast without the ramp, " +
                 std::to_string(r.refused()) + " with it, in " + number(storm.seconds) + " and " + number(r.seconds) +
                 " s";
    r.claims.push_back({"a cold start at the full rate is refused without the ramp", without > 0});
    return r;
}

scenario_result queued(scenario_options const& o) {
    world w(o);
    w.server.burst.on = true;
    auto& c = w.client({{max_name, {{"a", "sk-a"}}}}, 200);
    c.session.server_queue = 120s;
    auto r = w.run();
    all_answered(r);
    std::size_t held = 0;
    for (auto const& q : w.requests) held += q.queued_ns > 0;
    r.measured = std::to_string(held) + " of " + std::to_string(r.calls) + " requests were held by the server, " +
                 std::to_string(r.refused()) + " refused, in " + number(r.seconds) + " s";
    r.claims.push_back(
        {"the server's queue takes what burst protection would refuse", held > 0 && !r.refusals.contains("burst")});
    return r;
}

scenario_result plan_gone(scenario_options const& o) {
    world w(o);
    w.server.accounts[0].plan.month = 10;  // credits, of a thousand tokens each; they come again in days
    auto& c = w.client({{max_name, {{"a", "sk-a"}, {"b", "sk-b"}}}}, 600);
    (void)c;
    auto r = w.run();
    all_answered(r);
    r.measured = std::to_string(r.refused()) + " refused at the turn, all answered in " + number(r.seconds) +
                 " s though the plan comes again in days";
    r.claims.push_back({"no call waits for the plan: what was in flight is all that is refused",
                        r.refused() <= 40 && r.seconds < 120});
    return r;
}

scenario_result dialects(scenario_options const& o) {
    // The server allows fewer tokens than its clients think: "insufficient_quota", which to DashScope is a throttle,
    // to OpenAI the end of the credit.
    auto const one = [&](weir::llm::dialect d) {
        world w(o);
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
        world w(o);
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
    world w(o);
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
    world w(o);
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
    r.measured =
        percent(good) + " of the limit together from the fourth minute to the ninth, " + percent(refused) + " refused";
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

std::string to_text(scenario const& s, scenario_result const& r) {
    std::string text(s.name);
    text += ": " + std::string(s.summary) + "\n";
    auto const row = [&](std::string_view name, std::string const& value) {
        text += "  " + std::string(name) + std::string(name.size() < 12 ? 12 - name.size() : 1, ' ') + value + "\n";
    };
    row("calls", std::to_string(r.calls) + ", " + std::to_string(r.answered) + " answered, " +
                     std::to_string(r.failed) + " failed, by " + std::to_string(r.attempts) + " requests in " +
                     number(r.seconds) + " s of the server's");
    for (auto const& [why, n] : r.failures) row("failed", std::to_string(n) + ": " + why);
    for (auto const& [cause, n] : r.refusals) row("refused", std::to_string(n) + " (" + cause + ")");
    row("measured", r.measured);
    for (auto const& c : r.claims) row(c.held ? "held" : "NOT HELD", c.text);
    return text;
}

}  // namespace qwen
