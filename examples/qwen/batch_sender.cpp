// SPDX-License-Identifier: MIT
#include "batch_sender.hpp"

#include <weir/backoff.hpp>
#include <weir/clock/scaled_clock.hpp>
#include <weir/llm/account_pool.hpp>
#include <weir/llm/fallback_chain.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/llm/session.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "../../tests/support/ideal.hpp"
#include "../simulator/simulator.hpp"
#include "adapter.hpp"
#include "baselines.hpp"
#include "demo_text.hpp"
#include "qwen_client.hpp"

namespace qwen::demo {

using std::chrono::nanoseconds;

namespace {

std::unique_ptr<dashscope_simulator> start_simulator(batch_job const& job) {
    auto const& o = job.options;
    simulator_settings s;
    auto const known =
        std::find_if(s.models.begin(), s.models.end(), [&](auto const& m) { return m.name == job.batch.model; });
    auto& model = known != s.models.end() ? *known : s.models.emplace_back();
    model.name = job.batch.model;
    model.limits = {job.quota.rpm, job.quota.rps, job.quota.tpm, job.quota.tps};
    s.judge.tokens = o.token_mode;
    s.judge.derive_rps = job.quota.rps.has_value();
    s.judge.derive_tps = job.quota.tps.has_value();
    s.seed = o.seed;
    s.speed = o.speed;
    s.latency = o.latency;
    s.max_connections = 4096;
    if (!o.key.empty()) s.accounts = {{"main", {o.key}}};
    auto simulator = std::make_unique<dashscope_simulator>(std::move(s));
    simulator->start();
    return simulator;
}

// Where the requests go, and how.
client_options options_for(batch_job const& job, strategy kind, dashscope_simulator const* simulator) {
    auto const& o = job.options;
    client_options c;
    c.base_url = o.base_url;
    c.key = o.key;
    c.in_flight = kind == strategy::backoff_only ? std::min<std::size_t>(o.in_flight, 100) : o.in_flight;
    c.spin = o.spin;
    if (kind == strategy::weir) c.stall = std::chrono::duration_cast<nanoseconds>(o.jitter) / 2;
    if (simulator != nullptr) {
        c.base_url = simulator->base_url();
        c.key = simulator->settings().accounts.front().keys.front();
        ::setenv("no_proxy", "127.0.0.1", 1);
    }
    c.send_stamps = c.base_url.starts_with("http://127.0.0.1:");
    c.timeout = std::chrono::ceil<std::chrono::milliseconds>((server_timeout + 10s) / o.speed) + 1000ms;
    // Twice as many as may be sent at once.
    c.spare_connections =
        std::clamp<std::size_t>(job.quota.rps ? *job.quota.rps * 2 + 6 : job.quota.rpm.value_or(64), 8, 256);
    return c;
}

// What paces the requests, and what that needs.
class pacing {
public:
    pacing(batch_job const& job, strategy kind, journal const& earlier, client_options const& to)
        : job_{job}, clock_{job.options.speed} {
        auto const seed = job.options.seed;
        switch (kind) {
            case strategy::backoff_only:
                name_ = "backoff only";
                driver_ = std::make_unique<no_limiter>(plain_backoff(), seed, real(1s));
                break;
            case strategy::fixed_interval:
                name_ = "fixed interval";
                driver_ = std::make_unique<fixed_interval>(real(interval()), plain_backoff(), seed, real(1s));
                break;
            case strategy::weir:
                name_ = "weir";
                pace_by_weir(earlier, to);
                break;
        }
    }

    [[nodiscard]] std::string const& name() const { return name_; }
    [[nodiscard]] call_driver& driver() { return *driver_; }

private:
    using pool = weir::llm::account_pool<weir::scaled_clock<>&>;
    using chain = weir::llm::fallback_chain<pool>;
    using session = weir::llm::session<pool>;

    [[nodiscard]] nanoseconds real(nanoseconds of_server) const { return of_server / job_.options.speed; }

    [[nodiscard]] weir::backoff plain_backoff() const {
        return {.base = real(1s),
                .cap = real(60s),
                .attempts = 12,
                .budget = real(30min),
                .jitter = weir::jitter::additive,
                .spread = real(1s)};
    }

    [[nodiscard]] nanoseconds interval() const {
        auto const share = [](nanoseconds window, std::uint64_t limit) {
            return nanoseconds{window.count() / static_cast<std::int64_t>(limit)};
        };
        if (job_.quota.rpm) return share(60s, *job_.quota.rpm);
        return job_.quota.rps ? share(1s, *job_.quota.rps) : nanoseconds{100ms};
    }

    void pace_by_weir(journal const& earlier, client_options const& to) {
        auto const& o = job_.options;
        weir::llm::quota_options const quota_options{
            .jitter = job_.jitter, .server_timeout = server_timeout, .accounting = o.accounting};
        accounts_.add({to.base_url, "main", {}, job_.batch.model}, to.key, job_.quota, quota_options, 0, clock_);
        // The server still counts what earlier runs used. A simulator of this process has seen none.
        if (!job_.simulated || o.resume) restore(accounts_.limits(0), earlier);
        models_.add(job_.batch.model, accounts_);
        weir::llm::session_options so;
        so.retry = {
            .base = 1s, .cap = 60s, .attempts = 6, .budget = 30min, .jitter = weir::jitter::additive, .spread = 1s};
        so.seed = o.seed;
        so.timeout = server_timeout + 10s;
        session_ = std::make_unique<session>(models_, so, clock_);
        driver_ = std::make_unique<session_driver<session>>(*session_, o.dialect);
    }

    template <class Limiter>
    void restore(Limiter& limiter, journal const& earlier) const {
        auto const now = clock_.now();
        auto const wall = wall_now();
        auto const then = [&](wall_ns t) { return now - nanoseconds{wall - t} * job_.options.speed; };
        std::vector<typename Limiter::past_call> past;
        for (auto const& call : earlier.past()) {
            auto& p = past.emplace_back();
            p.sent = then(call.sent);
            p.charge = {.input = call.input, .output = call.output};
            if (call.finished) p.finished = then(*call.finished);
        }
        limiter.restore(past);
    }

    batch_job const& job_;
    std::string name_;
    weir::scaled_clock<> clock_;
    pool accounts_;
    chain models_;
    std::unique_ptr<session> session_;
    std::unique_ptr<call_driver> driver_;
};

// Sends all requests, and returns when they are over.
void send(batch_job const& job, client_options const& options, pacing& paced_by, batch_run& observer,
          interruption& interrupted) {
    double tokens = 1;
    for (auto const i : job.todo)
        tokens += static_cast<double>(job.batch.items[i].input_tokens + job.batch.items[i].max_tokens);
    auto const count = job.todo.size();
    qwen_client client(options, paced_by.driver(), observer);
    interrupted.stops(&client);
    try {
        client.check_endpoint();
        for (auto const i : job.todo) {
            auto const& item = job.batch.items[i];
            client.submit({i, item.body, {.input = item.input_tokens, .output = item.max_tokens}});
        }
        display const shown(observer.seen, job.quota, count, tokens / static_cast<double>(count), job.options.speed,
                            job.options.compare ? paced_by.name() + ": " : "");
        client.run();
    } catch (...) {
        interrupted.stops(nullptr);
        throw;
    }
    interrupted.stops(nullptr);
}

// What came of it, compared with the ideal.
void collect(batch_job const& job, batch_run& observer, run_result& r) {
    auto& seen = observer.seen;
    r.answered = seen.answered;
    r.failed = seen.failed;
    r.refused = seen.refused;
    r.retries = seen.retries;
    r.unsent = job.todo.size() - r.answered - r.failed;
    r.input = seen.input;
    r.output = seen.output;
    r.attempts = std::move(seen.attempts);
    if (r.failure.empty()) r.failure = observer.first_failure;
    if (r.attempts.empty()) return;

    auto const of_server = [&](nanoseconds d) { return in_seconds(d) * static_cast<double>(job.options.speed); };
    auto const first = r.attempts.front().stamp;
    steady_time last = first;
    std::vector<ideal_call> calls;
    for (auto const& a : answered_in_order(r.attempts)) {
        last = std::max(last, a.stamp);
        calls.push_back({a.input, a.output, job.batch.items[a.item].max_tokens, of_server(a.done - a.stamp)});
    }
    r.ideal = ideal_time(calls, {job.quota.rpm, job.quota.rps, job.quota.tpm, job.quota.tps});
    // Until the last stamp, plus the longest delay of any request.
    auto took = last - first;
    if (r.server && r.server->judge.delay.count != 0) took += nanoseconds{r.server->judge.delay.max_ns};
    r.time = in_seconds(took);
    r.quota_time = of_server(took);
}

}  // namespace

run_result send_batch(batch_job const& job, strategy kind, batch_files& files, interruption& interrupted) {
    auto const simulator = job.simulated ? start_simulator(job) : nullptr;
    auto const options = options_for(job, kind, simulator.get());
    pacing paced_by{job, kind, files.journal, options};
    batch_files none;
    auto& written = kind == strategy::weir ? files : none;
    batch_run observer(job.batch, job.todo, job.options, written.out, written.errors, written.journal);
    run_result result;
    result.name = paced_by.name();
    try {
        send(job, options, paced_by, observer, interrupted);
    } catch (std::exception const& e) {
        result.failure = e.what();
        result.ended_early = true;
    }
    if (simulator) result.server = simulator->report();
    collect(job, observer, result);
    return result;
}

}  // namespace qwen::demo
