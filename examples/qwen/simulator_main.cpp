// SPDX-License-Identifier: MIT
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "simulator.hpp"

namespace {

constexpr char const* help =
    R"(dashscope_simulator: an HTTP server on 127.0.0.1 that enforces the quota of Qwen on DashScope and refuses as it does.

  dashscope_simulator                            the international limits, on a free port, which it prints
  dashscope_simulator --rpm 600 --rps 10 --tpm 1000000 --port 8080 --log
  export DASHSCOPE_BASE_URL=http://127.0.0.1:8080/compatible-mode/v1 DASHSCOPE_API_KEY=sk-simulator

Ctrl-C ends it and prints what it counted: refusals by limit, the peak of every window, the delays of requests that carry
X-Weir-Stamp. GET /simulator/report shows the same as JSON while it runs.

Server
  --port N              listen there; 0, the default, takes a free one
  --key KEY=ACCOUNT     a key and whose it is; may be repeated; default sk-simulator=main. Keys of one account share its quota
  --account NAME=STATE  good, arrearage, unpurchased, commodity_not_purchased, prepaid_overdue or postpaid_overdue
  --speed N             simulated time runs N times as fast: windows, latencies, and all times in answers
  --seed N              of latencies, lengths of answers, wordings and faults; default 1
  --log                 one line for each request, on standard output

Limits
  --model NAME[=RPM[,RPS[,TPM[,TPS]]]]
                        serve this model; may be repeated, and replaces the built-in list; an empty place is not enforced
  --rpm, --rps, --tpm, --tps N
                        for every model, in place of its own; "none": not enforced
  --derive-rps yes|no   where a model has RPM and no RPS: RPS = RPM / 60, rounded up; default yes
  --derive-tps yes|no   the same for TPS; default no
  --tokens MODE         actual (default): admit while the minute's sum is below the limit, charge the output when it is made;
                        input_strict: admit only if the input fits; reserve: admit only if input + max_tokens fit
  --window KIND         of RPM: sliding (default), fixed or gcra
  --count-rejected yes|no
                        a refused request uses up one request; default no
  --in-flight N         more at once on one account and model: 429 Throttling.Concurrency

Answers
  --first-token S       seconds, default 0.4
  --tokens-per-second N default 60
  --spread X            each of both varies by +-X of itself, 0 ... 1, default 0.3
  --capacity N          the closer to N in flight, the slower, up to ten times
  --output LEAST,MOST   length as shares of max_tokens, default 0.3,0.9
  --free-tier TYPE=N    only=N: 403 after N tokens; not_sold=N: 429 after N tokens
  --fault NAME=RATE     NAME fails a share of the requests; may be repeated; internal_error, serving_error, model_unavailable,
                        route_throttling, concurrency, rate_quota, allocation_quota, data_inspection, ...
  --inspect WORD        a prompt that contains WORD is refused as inappropriate
  --shape S             the body of compatible-mode errors: mixed (default), a, b, c, d or e
  --retry-after         send Retry-After with rate limits, in seconds of simulated time
  --international       errors refer to the international site
)";

[[noreturn]] void complain(std::string const& what) { throw std::invalid_argument(what); }

std::uint64_t whole(std::string const& flag, std::string const& text) {
    if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
        complain(flag + ": not a whole number: \"" + text + "\"");
    return std::stoull(text);
}

double real(std::string const& flag, std::string const& text) {
    char* end = nullptr;
    double const x = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(x >= 0)) complain(flag + ": not a number: \"" + text + "\"");
    return x;
}

bool yes(std::string const& flag, std::string const& text) {
    if (text != "yes" && text != "no") complain(flag + ": yes or no, not \"" + text + "\"");
    return text == "yes";
}

std::pair<std::string, std::string> split(std::string const& text, char at) {
    auto const where = text.find(at);
    if (where == std::string::npos) return {text, {}};
    return {text.substr(0, where), text.substr(where + 1)};
}

template <class T>
T one_of(std::string const& flag, std::string const& text, std::map<std::string, T> const& known) {
    auto const at = known.find(text);
    if (at != known.end()) return at->second;
    std::string all;
    for (auto const& [k, v] : known) all += (all.empty() ? "" : ", ") + k;
    complain(flag + ": one of " + all + ", not \"" + text + "\"");
}

std::optional<std::uint64_t> limit(std::string const& flag, std::string const& text) {
    if (text.empty() || text == "none") return std::nullopt;
    auto const n = whole(flag, text);
    if (n == 0) complain(flag + ": a limit of 0 admits nothing; \"none\" is no limit");
    return n;
}

struct options {
    qwen::simulator_settings settings;
    bool log = false, help = false;
};

options parse(std::vector<std::string> arguments) {
    options o;
    auto& s = o.settings;
    std::vector<qwen::model_settings> models;
    std::vector<std::pair<std::string, std::string>> keys, states;
    std::vector<std::function<void(qwen::model_settings&)>> for_all;

    for (std::size_t i = 0; i < arguments.size(); ++i) {
        auto const parts = split(arguments[i], '=');
        auto const& flag = parts.first;
        auto value = parts.second;
        bool has_value = flag.size() != arguments[i].size();
        if (has_value && (flag == "--help" || flag == "--log" || flag == "--retry-after" || flag == "--international"))
            complain(flag + ": takes no value");
        auto const next = [&]() -> std::string const& {
            if (!has_value) {
                if (++i >= arguments.size()) complain(flag + ": needs a value");
                value = arguments[i];
                has_value = true;
            }
            return value;
        };
        auto const number = [&] { return whole(flag, next()); };

        if (flag == "--help" || flag == "-h") {
            o.help = true;
        } else if (flag == "--log") {
            o.log = true;
        } else if (flag == "--retry-after") {
            s.retry_after = true;
        } else if (flag == "--international") {
            s.international = true;
        } else if (flag == "--port") {
            auto const n = number();
            if (n > 65'535) complain("--port: at most 65535");
            s.port = static_cast<std::uint16_t>(n);
        } else if (flag == "--speed") {
            s.speed = static_cast<std::int64_t>(number());
        } else if (flag == "--seed") {
            s.seed = number();
        } else if (flag == "--key") {
            auto kv = split(next(), '=');
            if (kv.first.empty() || kv.second.empty()) complain("--key: KEY=ACCOUNT");
            keys.push_back(std::move(kv));
        } else if (flag == "--account") {
            states.push_back(split(next(), '='));
        } else if (flag == "--model") {
            auto const [name, rest] = split(next(), '=');
            qwen::model_settings m{.name = name};
            auto [rpm, after_rpm] = split(rest, ',');
            auto [rps, after_rps] = split(after_rpm, ',');
            auto [tpm, tps] = split(after_rps, ',');
            m.limits = {limit(flag, rpm), limit(flag, rps), limit(flag, tpm), limit(flag, tps)};
            models.push_back(std::move(m));
        } else if (flag == "--rpm" || flag == "--rps" || flag == "--tpm" || flag == "--tps") {
            auto const l = limit(flag, next());
            auto const which = flag == "--rpm"   ? &qwen::server_limits::rpm
                               : flag == "--rps" ? &qwen::server_limits::rps
                               : flag == "--tpm" ? &qwen::server_limits::tpm
                                                 : &qwen::server_limits::tps;
            for_all.emplace_back([l, which](qwen::model_settings& m) { m.limits.*which = l; });
            if (!l && flag == "--rps") s.judge.derive_rps = false;
            if (!l && flag == "--tps") s.judge.derive_tps = false;
        } else if (flag == "--derive-rps") {
            s.judge.derive_rps = yes(flag, next());
        } else if (flag == "--derive-tps") {
            s.judge.derive_tps = yes(flag, next());
        } else if (flag == "--count-rejected") {
            s.judge.count_rejected = yes(flag, next());
        } else if (flag == "--tokens") {
            using enum qwen::token_mode;
            s.judge.tokens = one_of<qwen::token_mode>(
                flag, next(), {{"actual", actual}, {"input_strict", input_strict}, {"reserve", reserve}});
        } else if (flag == "--window") {
            using enum qwen::window_kind;
            s.judge.requests =
                one_of<qwen::window_kind>(flag, next(), {{"sliding", sliding}, {"fixed", fixed}, {"gcra", gcra}});
        } else if (flag == "--in-flight") {
            s.max_in_flight = number();
        } else if (flag == "--first-token") {
            s.latency.first_token_s = real(flag, next());
        } else if (flag == "--tokens-per-second") {
            s.latency.tokens_per_s = real(flag, next());
        } else if (flag == "--spread") {
            s.latency.spread = real(flag, next());
        } else if (flag == "--capacity") {
            s.latency.capacity = number();
        } else if (flag == "--output") {
            auto const [least, most] = split(next(), ',');
            s.output.least = real(flag, least);
            s.output.most = real(flag, most);
        } else if (flag == "--free-tier") {
            auto const [type, n] = split(next(), '=');
            auto const tier = one_of<qwen::free_tier>(
                flag, type, {{"only", qwen::free_tier::only}, {"not_sold", qwen::free_tier::not_sold}});
            auto const tokens = whole(flag, n);
            for_all.emplace_back([tier, tokens](qwen::model_settings& m) { m.tier = tier, m.free_tokens = tokens; });
        } else if (flag == "--fault") {
            auto const [name, rate] = split(next(), '=');
            auto const what = qwen::failure_named(name);
            if (!what) complain("--fault: there is none named \"" + name + "\"");
            s.faults.push_back({*what, real(flag, rate)});
        } else if (flag == "--inspect") {
            s.inspected_word = next();
        } else if (flag == "--shape") {
            using enum qwen::error_shape;
            s.shape = one_of<qwen::error_shape>(flag, next(),
                                                {{"mixed", mixed}, {"a", a}, {"b", b}, {"c", c}, {"d", d}, {"e", e}});
        } else {
            complain("no such option: " + arguments[i] + " (--help lists them)");
        }
    }

    if (!models.empty()) s.models = std::move(models);
    for (auto const& change : for_all)
        for (auto& m : s.models) change(m);
    if (!keys.empty()) s.accounts.clear();
    auto const account = [&s](std::string const& name) -> qwen::account_settings& {
        for (auto& a : s.accounts)
            if (a.name == name) return a;
        return s.accounts.emplace_back(qwen::account_settings{name, {}});
    };
    for (auto const& [key, name] : keys) account(name).keys.push_back(key);
    for (auto const& [name, state] : states) {
        account(name).state = one_of<qwen::account_state>("--account", state, qwen::account_states());
    }
    s.keep_records = o.log;
    return o;
}

}  // namespace

int main(int argc, char** argv) try {
    auto const o = parse({argv + 1, argv + argc});
    if (o.help) {
        std::fputs(help, stdout);
        return 0;
    }

    // Blocked before any thread is made, so that every thread inherits it and only sigtimedwait sees them.
    sigset_t ends;
    ::sigemptyset(&ends);
    ::sigaddset(&ends, SIGINT);
    ::sigaddset(&ends, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);

    qwen::dashscope_simulator simulator{o.settings};
    simulator.start();
    std::printf("listening on %s\n", simulator.base_url().c_str());
    std::fflush(stdout);

    // The log is written here, apart from the threads that answer, so that a slow terminal delays no request.
    auto const write_log = [&simulator] {
        for (auto const& r : simulator.take_records()) std::printf("%s\n", to_text(r).c_str());
        std::fflush(stdout);
    };
    timespec const patience{o.log ? 0 : 3'600, o.log ? 200'000'000 : 0};
    while (::sigtimedwait(&ends, nullptr, &patience) < 0) {
        if (o.log) write_log();
    }
    simulator.stop();
    if (o.log) write_log();
    std::fputs(to_text(simulator.report()).c_str(), stdout);
    return 0;
} catch (std::exception const& e) {
    std::fprintf(stderr, "dashscope_simulator: %s\n", e.what());
    return 1;
}
