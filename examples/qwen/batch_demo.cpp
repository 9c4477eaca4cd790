// SPDX-License-Identifier: MIT
#include "batch_demo.hpp"

#include <sys/stat.h>

#include <weir/backoff.hpp>
#include <weir/clock/scaled_clock.hpp>
#include <weir/llm/account_pool.hpp>
#include <weir/llm/fallback_chain.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/llm/session.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "../../tests/support/ideal.hpp"
#include "../simulator/simulator.hpp"
#include "adapter.hpp"
#include "advice_report.hpp"
#include "baselines.hpp"
#include "batch.hpp"
#include "batch_run.hpp"
#include "demo_text.hpp"
#include "qwen_client.hpp"
#include "report.hpp"

#ifndef QWEN_SAMPLES
#define QWEN_SAMPLES "samples"
#endif

namespace qwen::demo {

using std::chrono::nanoseconds;

namespace {

enum class strategy { backoff_only, fixed_interval, weir };

class batch_demo {
    using pool = weir::llm::account_pool<weir::scaled_clock<>&>;
    using chain = weir::llm::fallback_chain<pool>;

public:
    batch_demo(settings s, interruption& i) : s_{std::move(s)}, interruption_{i} {
        if (s_.base_url.empty()) s_.base_url = qwen::options_from_environment().base_url;
        if (s_.key.empty()) s_.key = qwen::options_from_environment().key;
        simulated_ = s_.base_url.empty();
        if (s_.speed == 0) s_.speed = simulated_ ? 3 : 1;
        if (s_.compare && !simulated_) throw usage_error("--compare needs the simulator: it provokes refusals");
        s_.sample = s_.batch.empty();
        if (s_.sample) s_.batch = QWEN_SAMPLES "/requests_600.jsonl";
        batch_ = qwen::read_batch(s_.batch, {s_.max_tokens, s_.model, s_.first});
        quota_ = quota_of(s_, batch_.model);
        if (auto const e = weir::scaled_clock<>::validate(s_.speed)) throw usage_error(e.message());
        jitter_ = std::chrono::duration_cast<nanoseconds>(s_.jitter) * s_.speed;
    }

    int run() {
        if (s_.advice == advice_when::only) {
            for (std::size_t i = 0; i < batch_.items.size(); ++i) todo_.push_back(i);
            if (todo_.empty()) throw usage_error(s_.batch + " has no requests");
            advise_before();
            return 0;
        }
        open_files();
        std::printf("%zu requests of %s, %s at %s\n", todo_.size(), s_.batch.c_str(), batch_.model.c_str(),
                    simulated_ ? "a simulator in this process" : s_.base_url.c_str());
        if (todo_.size() < batch_.items.size()) {
            std::printf("%zu of %zu are already in %s\n", batch_.items.size() - todo_.size(), batch_.items.size(),
                        s_.out.c_str());
        }
        std::printf("limits %s; J = %g ms; speed %lld\n", to_text(quota_).c_str(), s_.jitter.count(),
                    static_cast<long long>(s_.speed));
        std::fflush(stdout);
        if (todo_.empty()) return 0;
        if (s_.advice == advice_when::before) advise_before();

        std::vector<run_result> results;
        if (s_.compare) {
            results.push_back(run_one(strategy::backoff_only));
            if (!interruption_.happened()) results.push_back(run_one(strategy::fixed_interval));
        }
        if (!interruption_.happened()) results.push_back(run_one(strategy::weir));
        out_.close();
        auto const errors = errors_.path();
        errors_.close();
        std::error_code ignored;
        if (!errors.empty() && regular(errors) && std::filesystem::is_empty(errors, ignored))
            std::filesystem::remove(errors, ignored);
        journal_.close();

        auto const& last = results.back();
        report const shown{s_, batch_, quota_, todo_.size()};
        if (s_.compare) {
            shown.print_comparison(results);
        }
        shown.print_table(last);
        if (!last.attempts.empty()) shown.write_picture(last);
        if (s_.advice == advice_when::after) advise_after(last);
        std::fflush(stdout);
        if (interruption_.happened()) {
            std::printf("Interrupted%s.\n", s_.out.empty() ? "" : ": --resume continues from here");
            std::fflush(stdout);
            return exit_interrupted;
        }
        if (!last.failure.empty()) {
            std::fprintf(stderr, "qwen_demo: %s%s\n", last.ended_early ? "" : "first failure: ", last.failure.c_str());
        }
        return last.failed != 0 || last.ended_early ? exit_failed : 0;
    }

private:
    void open_files() {
        if (s_.out.empty() && !s_.sample && !s_.compare) s_.out = without_suffix(s_.batch) + ".out.jsonl";
        if (s_.errors.empty() && !s_.out.empty()) {
            auto const stem = without_suffix(s_.out);
            s_.errors = (stem.ends_with(".out") ? stem.substr(0, stem.size() - 4) : stem) + ".errors.jsonl";
            if (!regular(s_.out)) s_.errors.clear();
        }
        if (s_.resume && s_.out.empty()) throw usage_error("--resume needs --out");
        std::unordered_set<std::string> done;
        if (!s_.out.empty()) {
            if (s_.resume) {
                done = qwen::finished_ids(s_.out);
            } else if (std::error_code ignored; regular(s_.out) && std::filesystem::exists(s_.out, ignored) &&
                                                std::filesystem::file_size(s_.out, ignored) != 0) {
                throw usage_error(s_.out + " already has answers: --resume continues it");
            }
            out_ = qwen::line_file(s_.out, false);
            if (regular(s_.out)) {
                auto const horizon = (server_timeout + 61s) / s_.speed + 1s;
                journal_ = qwen::journal(s_.out + ".journal", horizon);
            }
        }
        // Failed requests are tried again, so the file is about this run alone.
        if (!s_.errors.empty()) errors_ = qwen::line_file(s_.errors, true);
        for (std::size_t i = 0; i < batch_.items.size(); ++i) {
            if (!done.contains(batch_.items[i].custom_id)) todo_.push_back(i);
        }
    }

    [[nodiscard]] qwen::advice_request advice_request(bool recorded) const {
        qwen::advice_request r;
        if (s_.dialect == weir::llm::dialect::dashscope) r.vendor = "Alibaba Cloud Model Studio";
        r.model = batch_.model;
        r.limits = quota_;
        r.options = {.jitter = jitter_, .server_timeout = server_timeout, .accounting = s_.accounting};
        r.in_flight = s_.in_flight;
        r.price = qwen::price_of(batch_.model);
        if (s_.price_in || s_.price_out)
            r.price = qwen::listed_price{s_.price_in.value_or(0), s_.price_out.value_or(0)};
        r.proxy_price = s_.proxy_price;
        r.patience = std::chrono::duration_cast<nanoseconds>(s_.patience);
        if (s_.advice_within) r.within = std::chrono::duration_cast<nanoseconds>(*s_.advice_within);
        r.recorded = recorded;
        return r;
    }

    // From the batch: all calls are wanted at once, and their answers are expected.
    void advise_before() const {
        weir::llm::answer_estimate guess;
        guess.output_per_mille = static_cast<std::uint64_t>(std::llround(s_.expect * 10));
        guess.first_token = nanoseconds{std::llround(std::min(s_.latency.first_token_s, 86'400.0) * 1e9)};
        guess.tokens_per_second = static_cast<std::uint64_t>(std::clamp(std::round(s_.latency.tokens_per_s), 1.0, 1e6));
        std::vector<weir::llm::planned_call> calls;
        for (auto const i : todo_)
            calls.push_back(weir::llm::expected_call(
                {.input = batch_.items[i].input_tokens, .output = batch_.items[i].max_tokens}, guess));
        std::printf(
            "\nWhat would help, from the batch alone, in virtual time: answers of %g%% of max_tokens, %g s and then %g "
            "tokens a second\n\n",
            s_.expect, s_.latency.first_token_s, s_.latency.tokens_per_s);
        std::printf("%s\n", qwen::advice_report(calls, advice_request(false)).c_str());
        std::fflush(stdout);
    }

    // From the answers of the run, in the server's time.
    void advise_after(run_result const& r) const {
        std::vector<std::pair<std::size_t, weir::llm::planned_call>> in_order;
        steady_time first = steady_time::max(), last{};
        for (auto const& a : r.attempts) {
            if (!a.over || a.status != 200) continue;
            first = std::min(first, a.stamp);
            last = std::max(last, a.done);
            auto const& item = batch_.items[a.item];
            in_order.push_back({a.item,
                                {.bound = {.input = item.input_tokens, .output = item.max_tokens},
                                 .used = {.input = a.input, .output = a.output},
                                 .latency = (a.done - a.stamp) * s_.speed}});
        }
        if (in_order.empty()) return;
        std::sort(in_order.begin(), in_order.end(), [](auto const& x, auto const& y) { return x.first < y.first; });
        std::vector<weir::llm::planned_call> calls;
        for (auto const& [item, call] : in_order) calls.push_back(call);
        auto const request = advice_request(true);
        std::printf(
            "\nWhat would have helped, from the run's %zu answers, in virtual time. First send to last answer: %.1f s "
            "in the run, %.1f s simulated\n\n",
            calls.size(), in_seconds((last - first) * s_.speed), in_seconds(qwen::simulated_time(calls, request)));
        std::printf("%s", qwen::advice_report(calls, request).c_str());
    }

    static std::string without_suffix(std::string const& path) {
        return path.ends_with(".jsonl") ? path.substr(0, path.size() - 6) : path;
    }
    // A device or a pipe has no files next to it.
    static bool regular(std::string const& path) {
        struct stat status{};
        return ::stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode);
    }

    std::unique_ptr<qwen::dashscope_simulator> make_simulator() const {
        qwen::simulator_settings ss;
        qwen::server_limits const limits{quota_.rpm, quota_.rps, quota_.tpm, quota_.tps};
        auto const known =
            std::find_if(ss.models.begin(), ss.models.end(), [&](auto const& m) { return m.name == batch_.model; });
        auto& model = known != ss.models.end() ? *known : ss.models.emplace_back();
        model.name = batch_.model;
        model.limits = limits;
        ss.judge.tokens = s_.token_mode;
        ss.judge.derive_rps = quota_.rps.has_value();
        ss.judge.derive_tps = quota_.tps.has_value();
        ss.seed = s_.seed;
        ss.speed = s_.speed;
        ss.latency = s_.latency;
        ss.max_connections = 4096;
        if (!s_.key.empty()) ss.accounts = {{"main", {s_.key}}};
        auto simulator = std::make_unique<qwen::dashscope_simulator>(std::move(ss));
        simulator->start();
        return simulator;
    }

    run_result run_one(strategy kind) {
        std::unique_ptr<qwen::dashscope_simulator> simulator;
        qwen::client_options options;
        options.base_url = s_.base_url;
        options.key = s_.key;
        options.in_flight = s_.in_flight;
        options.spin = s_.spin;
        if (kind == strategy::weir) options.stall = std::chrono::duration_cast<nanoseconds>(s_.jitter) / 2;
        if (simulated_) {
            simulator = make_simulator();
            options.base_url = simulator->base_url();
            options.key = simulator->settings().accounts.front().keys.front();
            ::setenv("no_proxy", "127.0.0.1", 1);
        }
        options.send_stamps = options.base_url.starts_with("http://127.0.0.1:");
        options.timeout = std::chrono::ceil<std::chrono::milliseconds>((server_timeout + 10s) / s_.speed) + 1000ms;
        // Twice as many as may be sent at once.
        options.spare_connections =
            std::clamp<std::size_t>(quota_.rps ? *quota_.rps * 2 + 6 : quota_.rpm.value_or(64), 8, 256);

        auto const scaled = [&](nanoseconds d) { return d / s_.speed; };
        auto const plain = [&](std::uint64_t attempts) {
            return weir::backoff{.base = scaled(1s),
                                 .cap = scaled(60s),
                                 .attempts = attempts,
                                 .budget = scaled(30min),
                                 .jitter = weir::jitter::additive,
                                 .spread = scaled(1s)};
        };

        weir::scaled_clock<> clock{s_.speed};
        pool accounts;
        chain models;
        std::unique_ptr<weir::llm::session<pool>> session;
        std::unique_ptr<qwen::call_driver> driver;
        run_result result;
        qwen::line_file none;
        qwen::journal no_journal;
        switch (kind) {
            case strategy::backoff_only:
                result.name = "backoff only";
                driver = std::make_unique<no_limiter>(plain(12), s_.seed, scaled(1s));
                options.in_flight = std::min<std::size_t>(options.in_flight, 100);
                break;
            case strategy::fixed_interval: {
                result.name = "fixed interval";
                auto const gap = [](nanoseconds window, std::uint64_t limit) {
                    return nanoseconds{window.count() / static_cast<std::int64_t>(limit)};
                };
                nanoseconds const interval = quota_.rpm   ? gap(60s, *quota_.rpm)
                                             : quota_.rps ? gap(1s, *quota_.rps)
                                                          : nanoseconds{100ms};
                driver = std::make_unique<fixed_interval>(scaled(interval), plain(12), s_.seed, scaled(1s));
                break;
            }
            case strategy::weir: {
                result.name = "weir";
                weir::llm::quota_options const qo{
                    .jitter = jitter_, .server_timeout = server_timeout, .accounting = s_.accounting};
                accounts.add({options.base_url, "main", {}, batch_.model}, options.key, quota_, qo, 0, clock);
                restore(accounts.limits(0), clock);
                models.add(batch_.model, accounts);
                weir::llm::session_options so;
                so.retry = {.base = 1s,
                            .cap = 60s,
                            .attempts = 6,
                            .budget = 30min,
                            .jitter = weir::jitter::additive,
                            .spread = 1s};
                so.seed = s_.seed;
                so.timeout = server_timeout + 10s;
                session = std::make_unique<weir::llm::session<pool>>(models, so, clock);
                driver = std::make_unique<qwen::session_driver<weir::llm::session<pool>>>(*session, s_.dialect);
                break;
            }
        }
        bool const keeps = kind == strategy::weir;
        batch_run observer(batch_, todo_, s_, keeps ? out_ : none, keeps ? errors_ : none,
                           keeps ? journal_ : no_journal);
        double tokens = 1;
        for (auto const i : todo_)
            tokens += static_cast<double>(batch_.items[i].input_tokens + batch_.items[i].max_tokens);
        try {
            qwen::qwen_client client(options, *driver, observer);
            interruption_.stops(&client);
            try {
                client.check_endpoint();
                for (auto const i : todo_) {
                    auto const& item = batch_.items[i];
                    client.submit({i, item.body, {.input = item.input_tokens, .output = item.max_tokens}});
                }
                display const shown(observer.seen, quota_, todo_.size(), tokens / static_cast<double>(todo_.size()),
                                    s_.speed, s_.compare ? result.name + ": " : "");
                client.run();
            } catch (...) {
                interruption_.stops(nullptr);
                throw;
            }
            interruption_.stops(nullptr);
        } catch (std::exception const& e) {
            result.failure = e.what();
            result.ended_early = true;
        }
        if (simulator) result.server = simulator->report();
        collect(observer, result);
        return result;
    }

    // The server still counts what earlier runs used.
    template <class Limiter>
    void restore(Limiter& limiter, weir::scaled_clock<> const& clock) const {
        if (simulated_ && !s_.resume) return;
        auto const now = clock.now();
        auto const wall = qwen::wall_now();
        auto const then = [&](qwen::wall_ns t) { return now - nanoseconds{wall - t} * s_.speed; };
        std::vector<typename Limiter::past_call> past;
        for (auto const& call : journal_.past()) {
            auto& p = past.emplace_back();
            p.sent = then(call.sent);
            p.charge = {.input = call.input, .output = call.output};
            if (call.finished) p.finished = then(*call.finished);
        }
        limiter.restore(past);
    }

    void collect(batch_run& observer, run_result& r) const {
        auto& seen = observer.seen;
        r.answered = seen.answered;
        r.failed = seen.failed;
        r.refused = seen.refused;
        r.retries = seen.retries;
        r.unsent = todo_.size() - r.answered - r.failed;
        r.input = seen.input;
        r.output = seen.output;
        r.attempts = std::move(seen.attempts);
        if (r.failure.empty()) r.failure = observer.first_failure;
        if (r.attempts.empty()) return;

        auto const real = [&](nanoseconds d) { return in_seconds(d) * static_cast<double>(s_.speed); };
        auto const first = r.attempts.front().stamp;
        steady_time last = first;
        std::vector<qwen::ideal_call> calls;
        std::vector<std::pair<std::size_t, qwen::ideal_call>> in_order;
        for (auto const& a : r.attempts) {
            if (!a.over || a.status != 200) continue;
            last = std::max(last, a.stamp);
            in_order.push_back({a.item, {a.input, a.output, batch_.items[a.item].max_tokens, real(a.done - a.stamp)}});
        }
        std::sort(in_order.begin(), in_order.end(), [](auto const& x, auto const& y) { return x.first < y.first; });
        for (auto const& [item, call] : in_order) calls.push_back(call);
        r.ideal = qwen::ideal_time(calls, {quota_.rpm, quota_.rps, quota_.tpm, quota_.tps});
        // Until the last stamp, plus the longest delay of any request.
        auto took = last - first;
        if (r.server && r.server->judge.delay.count != 0) took += nanoseconds{r.server->judge.delay.max_ns};
        r.time = in_seconds(took);
        r.quota_time = real(took);
    }

    settings s_;
    interruption& interruption_;
    bool simulated_ = false;
    qwen::batch batch_;
    weir::llm::quota quota_;
    nanoseconds jitter_{};
    std::vector<std::size_t> todo_;
    qwen::line_file out_, errors_;
    qwen::journal journal_;
};

}  // namespace

int run_batch(settings s, interruption& i) { return batch_demo(std::move(s), i).run(); }

}  // namespace qwen::demo
