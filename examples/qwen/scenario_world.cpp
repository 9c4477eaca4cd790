// SPDX-License-Identifier: MIT
#include "scenario_world.hpp"

#include <weir/clock/scaled_clock.hpp>
#include <weir/llm/account_pool.hpp>
#include <weir/llm/fallback_chain.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "adapter.hpp"
#include "qwen_client.hpp"

namespace qwen {

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using clock_type = weir::scaled_clock<>;
using pool = weir::llm::account_pool<clock_type&>;
using chain = weir::llm::fallback_chain<pool>;
using session = weir::llm::session<pool>;

// Sleeps between the stamp and the send, for some requests: as if their path were longer.
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

std::string body_of(std::size_t id, scenario_call const& w) {
    std::string text =
        R"({"model":"qwen3-max","messages":[{"role":"user","content":"call )" + std::to_string(id) + R"("}])";
    if (w.says_max_tokens) text += R"(,"max_tokens":)" + std::to_string(w.bound);
    return text + R"(,"metadata":{"input_tokens":")" + std::to_string(w.input) + R"(","output_tokens":")" +
           std::to_string(w.output) + "\"}}";
}

// What happened to one client's calls.
class call_record final : public call_observer {
public:
    call_record(std::size_t calls, bool verbose)
        : answers_(calls, 0), failures_(calls), models_(calls), verbose_{verbose} {}

    void ended(attempt const& a, bool) override {
        if (a.cancelled) return;
        auto const v = weir::llm::classify({.dialect = weir::llm::dialect::dashscope,
                                            .status = a.status == 0 ? std::nullopt : std::optional{a.status},
                                            .body = a.body,
                                            .transport_failed = a.status == 0});
        attempts.push_back({a.stamp, v.cause});
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

    struct attempt_seen {
        steady_time stamp;
        weir::llm::cause cause;
    };
    std::vector<attempt_seen> attempts;
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

// Sends the calls of one client. Returns the error that ended it before, or "".
std::string run_client(client_plan const& plan, scenario_options const& options, std::string const& url,
                       clock_type& clock, call_record& record) {
    std::vector<std::unique_ptr<pool>> pools;
    chain chosen;
    for (auto const& l : plan.models) {
        auto& p = *pools.emplace_back(std::make_unique<pool>());
        for (auto const& m : l.keys) p.add({url, m.account, {}, l.model}, m.key, m.limits, plan.quota, 0, clock);
        chosen.add(l.model, p);
    }
    session s{chosen, plan.session, clock};
    session_driver<session> own{s, plan.dialect};
    delaying_driver driver{own, plan.delays / options.speed, options.seed};
    client_options o;
    o.base_url = url;
    o.key = plan.models.front().keys.front().key;
    o.in_flight = 1000;
    o.send_stamps = true;
    if (plan.delays == 0ns) o.stall = options.jitter / 2;
    o.timeout = std::chrono::duration_cast<std::chrono::milliseconds>(310s / options.speed) + 1s;
    o.spare_connections = 40;
    try {
        qwen_client c(o, driver, record);
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

// The sum over clients, and what must not happen to any.
struct tally {
    std::size_t twice = 0, silent = 0, after_success = 0;

    void add(call_record const& record, std::string const& error, scenario_result& to) {
        to.calls += record.answers().size();
        to.attempts += record.attempts.size();
        after_success += record.sent_after_success;
        for (auto const& a : record.attempts)
            if (a.cause != weir::llm::cause::none) ++to.refusals[std::string(to_string(a.cause))];
        for (std::size_t k = 0; k < record.answers().size(); ++k) {
            if (record.answers()[k] != 0) {
                ++to.answered;
                ++to.answered_by[record.models()[k]];
                twice += record.answers()[k] > 1;
            } else {
                ++to.failed;
                auto const& why = record.failures()[k];
                ++to.failures[why.empty() ? error : why];
                silent += why.empty() && error.empty();
            }
        }
    }
};

}  // namespace

scenario_world::scenario_world(scenario_options const& o) : options_{o} {
    server.speed = o.speed;
    server.seed = o.seed;
    server.keep_records = true;
    server.max_connections = 4096;
    server.models = {{.name = max_name, .limits = {.rpm = 600, .rps = {}, .tpm = 1'000'000}},
                     {.name = plus_name, .limits = {.rpm = 600, .rps = {}, .tpm = 1'000'000}}};
    server.accounts = {{"a", {"sk-a"}}, {"b", {"sk-b"}}};
}

client_plan& scenario_world::client(std::vector<client_model> models, std::size_t calls, scenario_call each) {
    auto& c = clients_.emplace_back();
    c.models = std::move(models);
    c.quota.jitter = options_.jitter * options_.speed;
    c.session.retry = {.base = 1s, .cap = 30s, .attempts = 8, .budget = 30min, .jitter = weir::jitter::equal};
    c.session.seed = options_.seed + clients_.size();
    c.calls.assign(calls, each);
    return c;
}

void scenario_world::change(std::chrono::seconds at, std::string name, std::string json) {
    server.changes.push_back({nanoseconds{at}.count(), std::move(name), std::move(json)});
}

scenario_result scenario_world::run() {
    dashscope_simulator simulator(server);
    simulator.start();
    ::setenv("no_proxy", "127.0.0.1", 1);
    clock_type clock{options_.speed};
    auto const steady_start = std::chrono::steady_clock::now();
    double const server_start = static_cast<double>(simulator.now_ns()) / 1e9;
    auto const server_time = [&](steady_time t) {
        return server_start +
               std::chrono::duration<double>(t - steady_start).count() * static_cast<double>(options_.speed);
    };

    std::vector<call_record> records;
    for (auto const& c : clients_) records.emplace_back(c.calls.size(), options_.verbose);
    std::vector<std::string> errors(clients_.size());
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < clients_.size(); ++i) {
        threads.emplace_back(
            [&, i] { errors[i] = run_client(clients_[i], options_, simulator.base_url(), clock, records[i]); });
    }
    for (auto& t : threads) t.join();
    auto const report = simulator.report();
    requests = simulator.take_records();
    simulator.stop();

    scenario_result r;
    double first = std::numeric_limits<double>::infinity(), last = 0;
    tally sum;
    for (std::size_t i = 0; i < records.size(); ++i) {
        sum.add(records[i], errors[i], r);
        for (auto const& a : records[i].attempts) first = std::min(first, server_time(a.stamp));
        if (records[i].last != steady_time{}) last = std::max(last, server_time(records[i].last));
    }
    first_send_ = first;
    r.seconds = last - first;
    r.spread_ms = static_cast<double>(report.judge.delay.spread_ns()) / 1e6;
    r.claims.push_back({"nothing is lost: each call is answered once or fails once, and says why",
                        sum.twice == 0 && sum.silent == 0 && r.answered + r.failed == r.calls});
    std::uint64_t const served = report.answered(200);
    r.claims.push_back({"nothing is sent again after it was answered (" + std::to_string(served) + " answers, " +
                            std::to_string(r.answered) + " calls)",
                        sum.after_success == 0 && (served == r.answered || answers_are_lost)});
    return r;
}

double scenario_world::since_first_send(request_record const& q) const {
    return static_cast<double>(q.arrival_ns) / 1e9 - first_send_;
}

std::size_t scenario_world::seen(double from, double until, int status) const {
    std::size_t n = 0;
    for (auto const& q : requests) {
        double const t = since_first_send(q);
        n += t >= from && t < until && (status == 0 || q.status == status);
    }
    return n;
}

}  // namespace qwen
