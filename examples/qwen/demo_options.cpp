// SPDX-License-Identifier: MIT
#include "demo_options.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string_view>
#include <type_traits>
#include <utility>

namespace qwen::demo {

using namespace std::chrono_literals;

namespace {

constexpr std::string_view help =
    R"(qwen_demo [OPTION VALUE]...     (also OPTION=VALUE)

Sends a batch of chat requests as fast as the quota allows: without 429, and close to the ideal.
Without --base-url (or DASHSCOPE_BASE_URL, OPENAI_BASE_URL) it starts its own DashScope simulator.

  --batch FILE          JSONL as in OpenAI's batch API (default: a sample that requests bound)
  --out FILE            answers, in the same format (default: BATCH.out.jsonl; for the sample and --compare: none)
  --errors FILE         failed requests (default: next to the answers, *.errors.jsonl)
  --resume              continue an output file: skip what it has, and count what earlier runs used of the quota
  --first N             only the first N requests
  --svg FILE            picture of the windows (default: qwen_demo.svg in the program's folder; none: no picture)
  --compare             run the batch with backoff alone, with a fixed interval, and with weir (simulator only)

  --advice WHEN         simulate what would help: a raised quota, another account, a fallback model, a proxy; print
                        the times, the costs and what binds, and a letter that requests more from the vendor.
                        only: for the batch, and send nothing; before: the same, then run; after: for the run
  --advice-within S     the quota to request finishes all calls within S seconds (default: half of the present time)
  --expect PERCENT      the expected length of answers, of max_tokens (default 60); --latency-first and
                        --latency-rate are their expected latency
  --patience S          how long a call waits before it falls back to another model (default 0)
  --proxy-price X       the price of a proxy, times the model's price (default 0.88)

  --scenario NAME       run a failure scenario instead of a batch, and check its promises (all: each in turn; list:
                        their names); --speed (default 10), --jitter, --seed and --verbose apply

  --rpm N, --rps N, --tpm N, --tps N
                        limits; 0: none (default: the model's in Singapore, RPS = RPM / 60, no TPS)
  --jitter MS           J: how much longer one request may take to arrive than another, in real time (default 10)
  --accounting MODE     any (default: correct for every server), actual, input-strict, reserve
  --in-flight N         the most calls in flight (default 1000)
  --max-tokens N        for requests without max_tokens (default 1024); it is always sent
  --model NAME          replaces the model of the batch
  --base-url URL, --key KEY
                        the endpoint, with its version: https://dashscope-intl.aliyuncs.com/compatible-mode/v1
                        (also DASHSCOPE_API_KEY, OPENAI_API_KEY)
  --dialect NAME        the dialect of the endpoint's errors: dashscope (default), openai, azure, anthropic, gemini,
                        groq, mistral, llama.cpp, deepseek, moonshot, zhipu, minimax, siliconflow, openrouter, vllm,
                        http
  --price-in X, --price-out X
                        dollars per million tokens, to show the cost; the default of --advice is the price once listed
                        for Singapore: qwen3-max 1.20 and 6.00, qwen-plus 0.40 and 1.20, qwen-flash 0.05 and 0.40,
                        qwen-turbo 0.05 and 0.20

  --speed N             time runs N times as fast, an integer (default: 3 with the simulator, 1 without)
  --seed N              of the simulator and of retries (default 1)
  --token-mode MODE     how the simulator counts tokens: actual (default), input-strict, reserve
  --latency-first S     simulator: seconds until an answer begins (default 0.4)
  --latency-rate N      simulator: tokens per second after that (default 60)
  --spin US             spin for this long before a send, in real microseconds (default 1500)
  --verbose             print a line for every failed attempt

Exit status: 0 all answered, 1 something failed, 2 bad usage or batch, 130 interrupted.
)";

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
    if (!good) throw usage_error(std::string(option) + " must be a number of at least 0 (got " + text + ")");
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
    throw usage_error(std::string(option) + " must be one of " + known + " (got " + text + ")");
}

}  // namespace

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
                                   {"deepseek", d::deepseek},
                                   {"moonshot", d::moonshot},
                                   {"zhipu", d::zhipu},
                                   {"minimax", d::minimax},
                                   {"siliconflow", d::siliconflow},
                                   {"openrouter", d::openrouter},
                                   {"vllm", d::vllm},
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
        if (option == "--jitter" && s.jitter > 10s) throw usage_error("--jitter must be at most 10000");
        if (option == "--expect" && s.expect > 100) throw usage_error("--expect must be at most 100");
        if (option == "--patience" && s.patience > 24h) throw usage_error("--patience must be at most 86400");
        if (option == "--advice-within" && (s.advice_within > 24h * 365 || s.advice_within == 0s))
            throw usage_error("--advice-within must be above 0 and at most a year");
    }
    if (s.advice != advice_when::none && !s.scenario.empty())
        throw usage_error("--advice needs a batch: it cannot be combined with --scenario");
    return s;
}

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

}  // namespace qwen::demo
