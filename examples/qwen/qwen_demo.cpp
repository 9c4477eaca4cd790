// SPDX-License-Identifier: MIT
//
// Sends a batch of chat requests as fast as the quota allows, and no faster. See --help.
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <weir/backoff.hpp>
#include <weir/clock/scaled_clock.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/llm/session.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "../../tests/support/ideal.hpp"
#include "../simulator/simulator.hpp"
#include "adapter.hpp"
#include "advice_report.hpp"
#include "batch.hpp"
#include "plain_driver.hpp"
#include "qwen_client.hpp"
#include "scenarios.hpp"
#include "svg.hpp"

#ifndef QWEN_SAMPLES
#define QWEN_SAMPLES "samples"
#endif

namespace {

using namespace std::chrono_literals;
using qwen::steady_time;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr int exit_failed = 1, exit_usage = 2, exit_interrupted = 130;
constexpr nanoseconds server_timeout = 300s;  // Qwen ends a call then, with what it has

constexpr std::string_view help =
    R"(qwen_demo [OPTION VALUE]...     (also OPTION=VALUE)

Sends a batch of chat requests as fast as the quota allows: no 429, and close to what is possible.
Without --base-url (or DASHSCOPE_BASE_URL, OPENAI_BASE_URL) it starts a DashScope simulator of its own.

  --batch FILE          JSONL as of OpenAI's batch API (default: a sample that is bound by requests)
  --out FILE            answers, likewise (default: BATCH.out.jsonl; for the sample and --compare: none)
  --errors FILE         requests that failed (default: beside the answers, *.errors.jsonl)
  --resume              go on with an output file: skip what it has, keep within the quota that earlier runs used
  --first N             only the first N requests
  --svg FILE            picture of the windows (default: qwen_demo.svg in the folder of the program; none: no picture)
  --compare             the same batch without limiter but with backoff, with a fixed interval, and with weir
                        (simulator only)

  --advice WHEN         what would help, in virtual time: a raised quota, another account, a lesser model, a proxy; time, cost, what
                        binds; and a letter that asks the vendor for more. only: of the batch alone, nothing is sent; before: the
                        same, then the run; after: of what the run recorded
  --advice-within S     all is to be done within S seconds with what is asked for (default: half of the time that it takes)
  --expect PERCENT      of max_tokens, how long answers are expected to be before there are any (default 60); how long they
                        take is as of --latency-first and --latency-rate
  --patience S          how long a call rather waits than fall back to a lesser model (default 0)
  --proxy-price X       of the price, what a proxy asks for (default 0.88)

  --scenario NAME       instead of a batch, something that goes wrong (all: each in turn; list: their names), and whether
                        what is promised there held; --speed (default 10), --jitter, --seed and --verbose apply

  --rpm N, --rps N, --tpm N, --tps N
                        limits; 0: none. Default: those of the model in Singapore, RPS = RPM / 60, no TPS
  --jitter MS           how much longer one request may take to arrive than another, in real time (default 10)
  --accounting MODE     any (default: right for every server), actual, input-strict, reserve
  --in-flight N         most calls at once (default 1000)
  --max-tokens N        for requests that do not say (default 1024); it is always sent
  --model NAME          replaces the model of the batch
  --base-url URL, --key KEY
                        the endpoint, with its version: https://dashscope-intl.aliyuncs.com/compatible-mode/v1
                        (also DASHSCOPE_API_KEY, OPENAI_API_KEY)
  --dialect NAME        whose errors the endpoint speaks: dashscope (default), openai, azure, anthropic, gemini, groq, mistral,
                        llama.cpp, http
  --price-in X, --price-out X
                        for a million tokens, to show the cost; without them --advice takes what was once listed for Singapore:
                        qwen3-max 1.20 and 6.00, qwen-plus 0.40 and 1.20, qwen-flash 0.05 and 0.40, qwen-turbo 0.05 and 0.20

  --speed N             time passes N times as fast, whole numbers (default: 3 with the simulator, 1 without)
  --seed N              of the simulator and of retries (default 1)
  --token-mode MODE     how the simulator counts tokens: actual (default), input-strict, reserve
  --latency-first S     simulator: seconds until an answer begins (default 0.4)
  --latency-rate N      simulator: tokens per second after that (default 60)
  --spin US             watch the clock for so long before a send, in real microseconds (default 1500)
  --verbose             a line for every attempt that failed

Exit status: 0 all answered, 1 something failed, 2 bad usage or batch, 130 interrupted.
)";

struct usage_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

enum class advice_when { none, only, before, after };

struct settings {
    std::string batch, out, errors, svg, base_url, key, model, scenario;
    bool resume = false, compare = false, verbose = false, sample = false;
    std::size_t first = 0, in_flight = 1000;
    std::optional<std::uint64_t> rpm, rps, tpm, tps;
    std::chrono::duration<double, std::milli> jitter{10};
    weir::llm::accounting accounting = weir::llm::accounting::any;
    qwen::token_mode token_mode = qwen::token_mode::actual;
    weir::llm::dialect dialect = weir::llm::dialect::dashscope;
    std::uint64_t max_tokens = 1024, seed = 1;
    std::optional<double> price_in, price_out;
    advice_when advice = advice_when::none;
    std::optional<std::chrono::duration<double>> advice_within;
    std::chrono::duration<double> patience{0};
    double expect = 60, proxy_price = 0.88;
    std::int64_t speed = 0;
    qwen::latency_model latency;
    std::chrono::microseconds spin{1500};
};

template <class Number>
Number number_of(std::string_view option, std::string const& text) {
    Number value{};
    bool good = false;
    if constexpr (std::is_floating_point_v<Number>) {
        char* end = nullptr;
        value = std::strtod(text.c_str(), &end);
        good = !text.empty() && *end == '\0' && std::isfinite(value) && value >= 0;
    } else {
        auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        good = error == std::errc{} && end == text.data() + text.size() && value >= Number{};
    }
    if (!good) throw usage_error(std::string(option) + ": not a number: " + text);
    return value;
}

template <class Value>
Value one_of(std::string_view option, std::string const& text,
             std::initializer_list<std::pair<std::string_view, Value>> values) {
    std::string known;
    for (auto const& [name, value] : values) {
        if (name == text) return value;
        known += (known.empty() ? "" : ", ") + std::string(name);
    }
    throw usage_error(std::string(option) + ": " + text + " is none of " + known);
}

settings read_arguments(int count, char** arguments) {
    settings s;
    for (int i = 1; i < count; ++i) {
        std::string option = arguments[i];
        std::optional<std::string> attached;
        if (auto const equals = option.find('='); equals != std::string::npos) {
            attached = option.substr(equals + 1);
            option.resize(equals);
        }
        auto const value = [&]() -> std::string {
            if (attached) return *std::exchange(attached, std::nullopt);
            if (++i == count) throw usage_error(option + " needs a value");
            return arguments[i];
        };
        auto const whole = [&] { return number_of<std::uint64_t>(option, value()); };
        if (option == "--help" || option == "-h") {
            std::fwrite(help.data(), 1, help.size(), stdout);
            std::exit(0);
        } else if (option == "--batch")
            s.batch = value();
        else if (option == "--out")
            s.out = value();
        else if (option == "--scenario")
            s.scenario = value();
        else if (option == "--errors")
            s.errors = value();
        else if (option == "--svg")
            s.svg = value();
        else if (option == "--resume")
            s.resume = true;
        else if (option == "--compare")
            s.compare = true;
        else if (option == "--verbose")
            s.verbose = true;
        else if (option == "--first")
            s.first = whole();
        else if (option == "--rpm")
            s.rpm = whole();
        else if (option == "--rps")
            s.rps = whole();
        else if (option == "--tpm")
            s.tpm = whole();
        else if (option == "--tps")
            s.tps = whole();
        else if (option == "--jitter")
            s.jitter = std::chrono::duration<double, std::milli>(number_of<double>(option, value()));
        else if (option == "--in-flight")
            s.in_flight = whole();
        else if (option == "--max-tokens")
            s.max_tokens = whole();
        else if (option == "--seed")
            s.seed = whole();
        else if (option == "--speed")
            s.speed = number_of<std::int64_t>(option, value());
        else if (option == "--spin")
            s.spin = std::chrono::microseconds(number_of<std::int32_t>(option, value()));
        else if (option == "--model")
            s.model = value();
        else if (option == "--base-url")
            s.base_url = value();
        else if (option == "--key")
            s.key = value();
        else if (option == "--price-in")
            s.price_in = number_of<double>(option, value());
        else if (option == "--price-out")
            s.price_out = number_of<double>(option, value());
        else if (option == "--latency-first")
            s.latency.first_token_s = number_of<double>(option, value());
        else if (option == "--latency-rate")
            s.latency.tokens_per_s = number_of<double>(option, value());
        else if (option == "--advice-within")
            s.advice_within = std::chrono::duration<double>(number_of<double>(option, value()));
        else if (option == "--expect")
            s.expect = number_of<double>(option, value());
        else if (option == "--patience")
            s.patience = std::chrono::duration<double>(number_of<double>(option, value()));
        else if (option == "--proxy-price")
            s.proxy_price = number_of<double>(option, value());
        else if (option == "--advice") {
            using w = advice_when;
            s.advice = one_of<w>(option, value(), {{"only", w::only}, {"before", w::before}, {"after", w::after}});
        } else if (option == "--accounting") {
            using a = weir::llm::accounting;
            s.accounting = one_of<a>(
                option, value(),
                {{"any", a::any}, {"actual", a::actual}, {"input-strict", a::input_strict}, {"reserve", a::reserve}});
        } else if (option == "--dialect") {
            using d = weir::llm::dialect;
            s.dialect = one_of<d>(option, value(),
                                  {{"dashscope", d::dashscope},
                                   {"openai", d::openai},
                                   {"azure", d::azure},
                                   {"anthropic", d::anthropic},
                                   {"gemini", d::gemini},
                                   {"groq", d::groq},
                                   {"mistral", d::mistral},
                                   {"llama.cpp", d::llama_cpp},
                                   {"http", d::http}});
        } else if (option == "--token-mode") {
            using m = qwen::token_mode;
            s.token_mode = one_of<m>(
                option, value(), {{"actual", m::actual}, {"input-strict", m::input_strict}, {"reserve", m::reserve}});
        } else {
            throw usage_error("unknown option " + option + "; see --help");
        }
        if (attached) throw usage_error(option + " takes no value");
        if (option == "--speed" && s.speed == 0) throw usage_error("--speed must be at least 1");
        if (option == "--max-tokens" && s.max_tokens == 0) throw usage_error("--max-tokens must be at least 1");
        if (option == "--latency-rate" && s.latency.tokens_per_s <= 0)
            throw usage_error("--latency-rate must be above 0");
        if (option == "--jitter" && s.jitter > 10s) throw usage_error("--jitter: above 10 s");
        if (option == "--expect" && s.expect > 100)
            throw usage_error("--expect: an answer is no longer than max_tokens, 100");
        if (option == "--patience" && s.patience > 24h) throw usage_error("--patience: above a day");
        if (option == "--advice-within" && (s.advice_within > 24h * 365 || s.advice_within == 0s))
            throw usage_error("--advice-within: not within a year");
    }
    if (s.advice != advice_when::none && !s.scenario.empty())
        throw usage_error("--advice is of a batch, not of a --scenario");
    return s;
}

// Each limit that there is. RPS is taken as enforced, since the vendor says that it may be.
weir::llm::quota quota_of(settings const& s, std::string const& model) {
    weir::llm::quota q{.rpm = s.rpm, .rps = s.rps, .tpm = s.tpm, .tps = s.tps};
    for (auto const& known : qwen::international_models()) {
        if (known.name != model) continue;
        if (!q.rpm) q.rpm = known.limits.rpm;
        if (!q.tpm) q.tpm = known.limits.tpm;
    }
    if (!q.rpm && !q.rps && !q.tpm && !q.tps) {
        throw usage_error("the limits of model \"" + model + "\" are not known here: state --rpm and --tpm (0: none)");
    }
    if (!q.rps && q.rpm && *q.rpm != 0) q.rps = std::max<std::uint64_t>(1, (*q.rpm + 59) / 60);
    for (auto* limit : {&q.rpm, &q.rps, &q.tpm, &q.tps}) {
        if (*limit == std::uint64_t{0}) limit->reset();
    }
    return q;
}

std::string grouped(std::uint64_t value) {
    std::string s = std::to_string(value);
    for (std::size_t i = s.size(); i > 3; i -= 3) s.insert(i - 3, ",");
    return s;
}

template <class... Values>
std::string format(char const* pattern, Values... values) {
    std::array<char, 256> text{};
    std::snprintf(text.data(), text.size(), pattern, values...);  // NOLINT: the patterns are all in this file
    return text.data();
}

std::string minutes(double seconds) {
    auto const s = static_cast<std::uint64_t>(std::llround(std::max(0.0, seconds)));
    return format("%llu:%02llu", static_cast<unsigned long long>(s / 60), static_cast<unsigned long long>(s % 60));
}

std::string to_text(weir::llm::quota const& q) {
    std::string text;
    auto const add = [&](std::optional<std::uint64_t> limit, char const* name) {
        if (limit) text += (text.empty() ? "" : ", ") + grouped(*limit) + " " + name;
    };
    add(q.rpm, "RPM");
    add(q.rps, "RPS");
    add(q.tpm, "TPM");
    add(q.tps, "TPS");
    return text.empty() ? "no limits" : text;
}

double in_seconds(nanoseconds d) { return std::chrono::duration<double>(d).count(); }

// ---------------------------------------------------------------------------------------------------------------------
// What weir is compared with

// No limiter: everything at once, as many as --in-flight allows, and a retry after a pause.
class no_limiter final : public qwen::plain_driver {
public:
    using plain_driver::plain_driver;
    qwen::admission admit(qwen::chat_call const&) override { return qwen::admission::go(); }
};

// One request each 60 / RPM seconds; nothing is known of tokens.
class fixed_interval final : public qwen::plain_driver {
public:
    fixed_interval(nanoseconds interval, weir::backoff retry, std::uint64_t seed, nanoseconds server_second)
        : plain_driver{retry, seed, server_second}, interval_{interval} {}
    qwen::admission admit(qwen::chat_call const&) override {
        auto const now = steady_clock::now();
        if (now < next_) return qwen::admission::not_before(next_, "interval");
        next_ = now + interval_;
        return qwen::admission::go();
    }

private:
    nanoseconds interval_;
    steady_time next_{};
};

// ---------------------------------------------------------------------------------------------------------------------
// One run of the batch

struct sent_attempt {
    std::size_t item = 0;
    steady_time stamp, done;
    bool over = false, left = true;
    int status = 0;
    std::uint64_t input = 0, output = 0;
};

// What happened so far: written by the client's thread, read by the one that shows it.
struct progress {
    std::mutex mutex;
    std::vector<sent_attempt> attempts;
    std::size_t answered = 0, failed = 0, refused = 0, retries = 0, in_flight = 0;
    std::uint64_t input = 0, output = 0;
    std::string waits_for;
};

class batch_run final : public qwen::call_observer {
public:
    batch_run(qwen::batch const& b, std::vector<std::size_t> const& todo, settings const& s, qwen::line_file& out,
              qwen::line_file& errors, qwen::journal& journal)
        : batch_{b}, settings_{s}, out_{out}, errors_{errors}, journal_{journal}, open_(b.items.size()) {
        seen.attempts.reserve(todo.size() + todo.size() / 4);
    }

    void about_to_send(qwen::chat_call const& call, std::uint32_t) override {
        open_[call.id].journal = journal_.about_to_send(call.bound.input, call.bound.output);
    }

    void sent(qwen::chat_call const& call, std::uint32_t number, steady_time stamp) override {
        if (journal_.is_open())
            journal_.sent(open_[call.id].journal, qwen::wall_now() - (steady_clock::now() - stamp) / 1ns);
        std::lock_guard const lock{seen.mutex};
        open_[call.id].attempt = seen.attempts.size();
        auto& s = seen.attempts.emplace_back();
        s.item = call.id;
        s.stamp = stamp;
        seen.retries += number > 0;
        ++seen.in_flight;
        seen.waits_for = {};
    }

    void waiting(qwen::admission const& a) override {
        if (a.limit == waits_for_) return;
        waits_for_ = a.limit;
        std::lock_guard const lock{seen.mutex};
        seen.waits_for = a.limit;
    }

    void ended(qwen::attempt const& a, bool will_retry) override {
        auto const& o = open_[a.id];
        switch (a.charge) {
            case qwen::charge::nothing: journal_.never_left(o.journal); break;
            case qwen::charge::request: journal_.finished(o.journal, 0, 0); break;
            case qwen::charge::used: journal_.finished(o.journal, a.usage.input, a.usage.output); break;
            case qwen::charge::bound: journal_.finished(o.journal, a.bound.input, a.bound.output); break;
            case qwen::charge::unknown: break;
        }
        if (settings_.verbose && !a.answered()) {
            std::fprintf(stderr, "\n%s, attempt %u: %d %s: %s%s\n", batch_.items[a.id].custom_id.c_str(), a.number + 1,
                         a.status, a.code.c_str(), a.message.c_str(), will_retry ? "; will retry" : "");
        }
        std::lock_guard const lock{seen.mutex};
        auto& s = seen.attempts[o.attempt];
        s.over = true;
        s.done = a.done;
        s.status = a.status;
        s.left = a.charge != qwen::charge::nothing;
        if (a.charge == qwen::charge::used) {
            s.input = a.usage.input;
            s.output = a.usage.output;
            seen.input += a.usage.input;
            seen.output += a.usage.output;
        }
        seen.refused += a.status == 429;
        --seen.in_flight;
    }

    void answered(qwen::attempt const& a) override {
        if (out_.is_open()) out_.append(line_of(a));
        std::lock_guard const lock{seen.mutex};
        ++seen.answered;
    }

    void failed(qwen::attempt const& a) override {
        if (errors_.is_open()) errors_.append(line_of(a));
        if (first_failure.empty()) {
            first_failure = "line " + std::to_string(batch_.items[a.id].line) + " (" + batch_.items[a.id].custom_id +
                            "): " + (a.status != 0 ? std::to_string(a.status) + " " : std::string{}) + a.code + ": " +
                            a.message;
        }
        std::lock_guard const lock{seen.mutex};
        ++seen.failed;
    }

    progress seen;
    std::string first_failure;

private:
    struct open_item {
        std::uint64_t journal = 0;
        std::size_t attempt = 0;
    };

    std::string line_of(qwen::attempt const& a) const {
        auto const& item = batch_.items[a.id];
        return qwen::to_line({item.custom_id, item.line, a.status, a.request_id, a.body, a.code, a.message});
    }

    qwen::batch const& batch_;
    settings const& settings_;
    qwen::line_file& out_;
    qwen::line_file& errors_;
    qwen::journal& journal_;
    std::vector<open_item> open_;
    std::string_view waits_for_;
};

// A line that is drawn anew on a terminal, every 200 ms; a line every five seconds elsewhere.
class display {
public:
    display(progress& p, weir::llm::quota const& limits, std::size_t total, double average_tokens, std::int64_t speed,
            std::string name)
        : progress_{p},
          limits_{limits},
          total_{total},
          average_tokens_{average_tokens},
          speed_{speed},
          name_{std::move(name)},
          terminal_{::isatty(STDOUT_FILENO) == 1},
          thread_{[this] { loop(); }} {}
    ~display() {
        {
            std::lock_guard const lock{mutex_};
            ended_ = true;
        }
        changed_.notify_all();
        thread_.join();
        show();
        if (terminal_) std::fputs("\n", stdout);
        std::fflush(stdout);
    }
    display(display const&) = delete;
    display& operator=(display const&) = delete;

private:
    void loop() {
        std::unique_lock lock{mutex_};
        while (!changed_.wait_for(lock, terminal_ ? 200ms : 5000ms, [this] { return ended_; })) show();
    }

    void show() {
        auto const now = steady_clock::now();
        std::uint64_t rpm = 0, rps = 0, tpm = 0, tps = 0;
        std::size_t answered = 0, failed = 0, refused = 0, in_flight = 0;
        std::string waits_for;
        double elapsed = 0;
        {
            std::lock_guard const lock{progress_.mutex};
            answered = progress_.answered;
            failed = progress_.failed;
            refused = progress_.refused;
            in_flight = progress_.in_flight;
            waits_for = progress_.waits_for;
            for (auto const& a : progress_.attempts) {
                if (!a.left || (a.over && a.status == 429)) continue;
                auto const sent = (now - a.stamp) * speed_, done = (now - a.done) * speed_;
                rpm += sent < 60s;
                rps += sent < 1s;
                if (sent < 60s) tpm += a.input;
                if (sent < 1s) tps += a.input;
                if (a.over && done < 60s) tpm += a.output;
                if (a.over && done < 1s) tps += a.output;
            }
            if (!progress_.attempts.empty()) elapsed = in_seconds(now - progress_.attempts.front().stamp);
        }
        auto const done = answered + failed;
        // Until enough has come back to tell, as fast as the limits allow.
        double per_second = std::numeric_limits<double>::infinity();
        if (limits_.rpm) per_second = std::min(per_second, static_cast<double>(*limits_.rpm) / 60);
        if (limits_.rps) per_second = std::min(per_second, static_cast<double>(*limits_.rps));
        if (limits_.tpm) per_second = std::min(per_second, static_cast<double>(*limits_.tpm) / 60 / average_tokens_);
        per_second *= static_cast<double>(speed_);
        if (done * 5 > total_) per_second = std::min(per_second, static_cast<double>(done) / elapsed);
        double const left = static_cast<double>(total_ - std::min(total_, done)) / per_second;

        std::string text =
            format("%s%zu/%zu %3.0f%%  left %s ", name_.c_str(), done, total_,
                   100.0 * static_cast<double>(done) / static_cast<double>(total_), minutes(left).c_str());
        auto const use = [&](char const* name, std::uint64_t used, std::optional<std::uint64_t> limit) {
            if (limit) text += std::string(" ") + name + " " + grouped(used) + "/" + grouped(*limit);
        };
        use("RPM", rpm, limits_.rpm);
        use("RPS", rps, limits_.rps);
        use("TPM", tpm, limits_.tpm);
        use("TPS", tps, limits_.tps);
        text += format("  in flight %zu  429s %zu", in_flight, refused);
        if (failed != 0) text += format("  failed %zu", failed);
        if (!waits_for.empty()) text += "  waits for " + waits_for;
        if (terminal_) {
            std::printf("\r\033[K%s", text.c_str());
        } else {
            std::puts(text.c_str());
        }
        std::fflush(stdout);
    }

    progress& progress_;
    weir::llm::quota limits_;
    std::size_t total_;
    double average_tokens_;
    std::int64_t speed_;
    std::string name_;
    bool terminal_, ended_ = false;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::thread thread_;
};

// ---------------------------------------------------------------------------------------------------------------------
// Interruption: both signals are blocked in every thread but waited for in one.

class interruption {
public:
    interruption() {
        sigemptyset(&signals_);
        sigaddset(&signals_, SIGINT);
        sigaddset(&signals_, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
        thread_ = std::thread{[this] { loop(); }};
    }
    ~interruption() {
        ended_ = true;
        thread_.join();
    }
    interruption(interruption const&) = delete;
    interruption& operator=(interruption const&) = delete;

    [[nodiscard]] bool happened() const { return happened_; }
    void stops(qwen::qwen_client* client) {
        std::lock_guard const lock{mutex_};
        client_ = client;
        if (happened_ && client != nullptr) client->stop();
    }

private:
    void loop() {
        while (!ended_) {
            timespec const pause{0, 50'000'000};
            if (sigtimedwait(&signals_, nullptr, &pause) <= 0) continue;
            if (happened_) ::_exit(exit_interrupted);
            std::lock_guard const lock{mutex_};
            happened_ = true;
            if (client_ != nullptr) client_->stop();
        }
    }

    sigset_t signals_{};
    std::atomic<bool> ended_{false}, happened_{false};
    std::mutex mutex_;
    qwen::qwen_client* client_ = nullptr;  // guarded by mutex_
    std::thread thread_;
};

// ---------------------------------------------------------------------------------------------------------------------

enum class strategy { backoff_only, fixed_interval, weir };

struct run_result {
    std::string name;
    double time = 0;        // real seconds, first send to last arrival
    double quota_time = 0;  // the same in the server's time
    double ideal = 0;       // in the server's time
    std::size_t answered = 0, failed = 0, refused = 0, retries = 0, unsent = 0;
    std::uint64_t input = 0, output = 0;
    std::optional<qwen::simulator_report> server;
    std::vector<sent_attempt> attempts;
    std::string failure;  // why it ended early, or the first request that failed
    bool ended_early = false;
    [[nodiscard]] double share() const { return quota_time > 0 ? ideal / quota_time : 0; }
};

class demo {
    using pool = weir::llm::account_pool<weir::scaled_clock<>&>;
    using chain = weir::llm::fallback_chain<pool>;

public:
    demo(settings s, interruption& i) : s_{std::move(s)}, interruption_{i} {
        if (s_.base_url.empty()) s_.base_url = qwen::options_from_environment().base_url;
        if (s_.key.empty()) s_.key = qwen::options_from_environment().key;
        simulated_ = s_.base_url.empty();
        if (s_.speed == 0) s_.speed = simulated_ ? 3 : 1;
        if (s_.compare && !simulated_) throw usage_error("--compare provokes refusals: with the simulator only");
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
            std::printf("%zu of %zu are in %s already\n", batch_.items.size() - todo_.size(), batch_.items.size(),
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
        if (s_.compare) {
            print_comparison(results);
        }
        print_table(last);
        if (!last.attempts.empty()) write_picture(last);
        if (s_.advice == advice_when::after) advise_after(last);
        std::fflush(stdout);
        if (interruption_.happened()) {
            std::printf("Interrupted%s.\n", s_.out.empty() ? "" : ": --resume goes on from here");
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
                throw usage_error(s_.out + " has answers already: --resume goes on with it");
            }
            out_ = qwen::line_file(s_.out, false);
            if (regular(s_.out)) {
                auto const horizon = (server_timeout + 61s) / s_.speed + 1s;
                journal_ = qwen::journal(s_.out + ".journal", horizon);
            }
        }
        // What failed before is tried again, so the file tells of this run alone.
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

    // All are wanted at once; what they use is expected.
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

    // The answers of the run, at the times of the server.
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
    // A device or a pipe has no neighbours.
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

    run_result run_one(strategy how) {
        std::unique_ptr<qwen::dashscope_simulator> simulator;
        qwen::client_options options;
        options.base_url = s_.base_url;
        options.key = s_.key;
        options.in_flight = s_.in_flight;
        options.spin = s_.spin;
        if (how == strategy::weir) options.stall = std::chrono::duration_cast<nanoseconds>(s_.jitter) / 2;
        if (simulated_) {
            simulator = make_simulator();
            options.base_url = simulator->base_url();
            options.key = simulator->settings().accounts.front().keys.front();
            ::setenv("no_proxy", "127.0.0.1", 1);
        }
        options.send_stamps = options.base_url.starts_with("http://127.0.0.1:");
        options.timeout = std::chrono::ceil<std::chrono::milliseconds>((server_timeout + 10s) / s_.speed) + 1000ms;
        // As many as may be sent at once, and again while they are out.
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
        switch (how) {
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
        bool const keeps = how == strategy::weir;
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

    // What earlier runs used still counts with the server.
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
        // The last stamp, and the longest way that any request took.
        auto took = last - first;
        if (r.server && r.server->judge.delay.count != 0) took += nanoseconds{r.server->judge.delay.max_ns};
        r.time = in_seconds(took);
        r.quota_time = real(took);
    }

    [[nodiscard]] std::string cost(run_result const& r) const {
        if (!s_.price_in && !s_.price_out) return {};
        return format("%.4f", (static_cast<double>(r.input) * s_.price_in.value_or(0) +
                               static_cast<double>(r.output) * s_.price_out.value_or(0)) /
                                  1e6);
    }

    static void row(char const* name, std::string const& value) { std::printf("  %-22s %s\n", name, value.c_str()); }

    void print_table(run_result const& r) const {
        std::printf("\n");
        if (s_.compare) std::printf("weir\n");
        row("requests", format("%zu answered, %zu failed", r.answered, r.failed) +
                            (r.unsent != 0 ? format(", %zu not finished", r.unsent) : std::string{}));
        row("time", format("%.1f s", r.time) +
                        (s_.speed != 1 ? format(", %.1f s of the server's", r.quota_time) : std::string{}) +
                        ", first send to last arrival");
        if (r.ideal > 0) {
            row("goodput", format("%.1f%% of the ideal (%.1f s)", 100 * r.share(), r.ideal) +
                               (todo_.size() < batch_.items.size() ? ", which begins with empty windows" : ""));
        }
        row("429s", grouped(r.refused));
        row("retries", grouped(r.retries));
        row("tokens", grouped(r.input) + " in, " + grouped(r.output) + " out");
        if (auto const c = cost(r); !c.empty()) row("cost", c);
        if (!r.server) {
            if (!r.attempts.empty()) row("peaks", "unknown: the server does not say");
            return;
        }
        auto const total = r.server->judge.total();
        auto const peak = [&](char const* name, std::uint64_t value, std::optional<std::uint64_t> limit) {
            if (limit) row(name, grouped(value) + " of " + grouped(*limit));
        };
        peak("peak RPM at the server", total.peak.requests_minute, quota_.rpm);
        peak("peak RPS", total.peak.requests_second, quota_.rps);
        peak("peak TPM", total.peak.tokens_minute, quota_.tpm);
        peak("peak TPS", total.peak.tokens_second, quota_.tps);
        auto const& delay = r.server->judge.delay;
        if (delay.count == 0) return;
        auto const ms = [](std::int64_t ns) { return static_cast<double>(ns) / 1e6; };
        row("arrival - stamp",
            format("%.2f ... %.2f ms (median %.2f, 99th %.2f), so spread over %.2f ms; J = %g ms", ms(delay.min_ns),
                   ms(delay.max_ns), ms(delay.p50_ns), ms(delay.p99_ns), ms(delay.spread_ns()), s_.jitter.count()));
        if (ms(delay.spread_ns()) > s_.jitter.count()) {
            std::printf(
                "\n  VOID: arrivals were spread over more than J, so nothing was promised for this run. The machine "
                "stalled;\n"
                "  run it again when it is quieter, or with --jitter %.0f.\n",
                std::ceil(ms(delay.spread_ns()) * 1.5));
        }
    }

    void print_comparison(std::vector<run_result> const& results) const {
        std::printf("\n  %-22s", "");
        for (auto const& r : results) std::printf(" %16s", r.name.c_str());
        auto const line = [&](char const* name, auto value) {
            std::printf("\n  %-22s", name);
            for (auto const& r : results) std::printf(" %16s", value(r).c_str());
        };
        line("answered", [](run_result const& r) { return grouped(r.answered); });
        line("failed", [](run_result const& r) { return grouped(r.failed + r.unsent); });
        line("time", [](run_result const& r) { return format("%.1f s", r.time); });
        line("share of the ideal", [](run_result const& r) { return format("%.1f%%", 100 * r.share()); });
        line("429s", [](run_result const& r) { return grouped(r.refused); });
        line("retries", [](run_result const& r) { return grouped(r.retries); });
        line("requests sent", [](run_result const& r) { return grouped(r.attempts.size()); });
        line("tokens", [](run_result const& r) { return grouped(r.input + r.output); });
        if (s_.price_in || s_.price_out) line("cost", [&](run_result const& r) { return cost(r); });
        std::printf("\n");
    }

    void write_picture(run_result const& r) {
        if (s_.svg == "none") return;
        if (s_.svg.empty()) {
            if (!s_.sample) return;
            std::error_code error;
            auto const program = std::filesystem::read_symlink("/proc/self/exe", error);
            if (error) return;
            s_.svg = (program.parent_path() / "qwen_demo.svg").string();
        }
        std::vector<qwen::sent_call> calls;
        auto const first = r.attempts.front().stamp;
        auto const real = [&](nanoseconds d) { return in_seconds(d) * static_cast<double>(s_.speed); };
        for (auto const& a : r.attempts) {
            if (!a.left) continue;
            calls.push_back({real(a.stamp - first), a.over ? real(a.done - first) : real(a.stamp - first), a.input,
                             a.output, a.status == 429});
        }
        std::ofstream file(s_.svg, std::ios::binary | std::ios::trunc);
        file << qwen::draw_windows(batch_.model + ": " + to_text(quota_), calls,
                                   {quota_.rpm, quota_.rps, quota_.tpm, quota_.tps});
        file.close();
        if (!file) {
            std::fprintf(stderr, "qwen_demo: cannot write %s\n", s_.svg.c_str());
        } else {
            row("picture", s_.svg);
        }
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

// ---------------------------------------------------------------------------------------------------------------------

int run_scenarios(settings const& s) {
    if (s.scenario == "list") {
        for (auto const& one : qwen::scenarios())
            std::printf("%-14.*s %.*s\n", static_cast<int>(one.name.size()), one.name.data(),
                        static_cast<int>(one.summary.size()), one.summary.data());
        return 0;
    }
    qwen::scenario_options o;
    if (s.speed != 0) o.speed = s.speed;
    if (auto const e = weir::scaled_clock<>::validate(o.speed)) throw usage_error(e.message());
    o.jitter = std::chrono::duration_cast<nanoseconds>(s.jitter);
    o.seed = s.seed;
    o.verbose = s.verbose;
    bool held = true, found = false;
    for (auto const& one : qwen::scenarios()) {
        if (s.scenario != "all" && s.scenario != one.name) continue;
        found = true;
        auto const r = one.run(o);
        std::printf("%s", to_text(one, r).c_str());
        if (r.spread_ms > s.jitter.count()) {
            std::printf("  VOID        arrivals were spread over %.1f ms, more than J = %g ms: the machine stalled\n",
                        r.spread_ms, s.jitter.count());
        }
        std::fflush(stdout);
        held = held && r.held();
    }
    if (!found) throw usage_error("no scenario " + s.scenario + "; --scenario list has them");
    return held ? 0 : exit_failed;
}

// Where that is allowed (mostly to root), so that the programs of others delay no arrival. All threads inherit it.
void raise_priority() { ::setpriority(PRIO_PROCESS, 0, -15); }

// Each call in flight has a socket here, and one in the simulator.
void raise_file_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 16384);
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int count, char** arguments) {
    try {
        auto s = read_arguments(count, arguments);
        ::signal(SIGPIPE, SIG_IGN);  // NOLINT: no handler, so nothing unsafe
        raise_file_limit();
        raise_priority();
        if (!s.scenario.empty()) return run_scenarios(s);
        interruption interrupted;
        return demo(std::move(s), interrupted).run();
    } catch (usage_error const& e) {
        std::fprintf(stderr, "qwen_demo: %s\n", e.what());
        return exit_usage;
    } catch (qwen::batch_error const& e) {
        std::fprintf(stderr, "qwen_demo: %s\n", e.what());
        return exit_usage;
    } catch (std::exception const& e) {
        std::fprintf(stderr, "qwen_demo: %s\n", e.what());
        return exit_failed;
    }
}
