// SPDX-License-Identifier: MIT
#include "simulator_options.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "runtime_changes.hpp"

namespace qwen {

namespace {

[[noreturn]] void complain(std::string const& what) { throw std::invalid_argument(what); }

// One option on the command line.
struct given {
    std::string flag, value;

    [[noreturn]] void wrong(std::string const& why) const { complain(flag + ": " + why + ": \"" + value + "\""); }

    [[nodiscard]] std::uint64_t whole(std::string const& text) const {
        if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
            wrong("not a whole number");
        return std::stoull(text);
    }
    [[nodiscard]] std::uint64_t whole() const { return whole(value); }
    [[nodiscard]] double real(std::string const& text) const {
        char* end = nullptr;
        double const x = std::strtod(text.c_str(), &end);
        if (text.empty() || *end != '\0' || !(x >= 0)) wrong("not a number");
        return x;
    }
    [[nodiscard]] double real() const { return real(value); }
    [[nodiscard]] bool yes() const {
        if (value != "yes" && value != "no") wrong("yes or no");
        return value == "yes";
    }
    [[nodiscard]] std::optional<std::uint64_t> limit(std::string const& text) const {
        if (text.empty() || text == "none") return std::nullopt;
        auto const n = whole(text);
        if (n == 0) wrong("a limit of 0 admits nothing; \"none\" is no limit");
        return n;
    }
    template <class T>
    [[nodiscard]] T one_of(std::string const& text, std::map<std::string, T> const& known) const {
        auto const at = known.find(text);
        if (at != known.end()) return at->second;
        std::string all;
        for (auto const& [k, v] : known) all += (all.empty() ? "" : ", ") + k;
        wrong("one of " + all);
    }
};

std::pair<std::string, std::string> split(std::string const& text, char at) {
    auto const where = text.find(at);
    if (where == std::string::npos) return {text, {}};
    return {text.substr(0, where), text.substr(where + 1)};
}

// What the options have said so far; some can only be done when all are known.
struct reading {
    simulator_options out;
    std::vector<model_settings> models;
    std::vector<std::pair<std::string, std::string>> keys;
    std::vector<std::function<void(model_settings&)>> for_all;
    std::vector<std::function<void(simulator_settings&)>> last;  // when models and accounts are there

    simulator_settings& s() { return out.settings; }
};

account_settings& account_named(simulator_settings& s, std::string const& name) {
    for (auto& a : s.accounts)
        if (a.name == name) return a;
    return s.accounts.emplace_back(account_settings{.name = name, .keys = {}});
}

server_limits limits_in(given const& g, std::string const& text) {
    auto const [rpm, after_rpm] = split(text, ',');
    auto const [rps, after_rps] = split(after_rpm, ',');
    auto const [tpm, tps] = split(after_rps, ',');
    return {.rpm = g.limit(rpm), .rps = g.limit(rps), .tpm = g.limit(tpm), .tps = g.limit(tps)};
}

template <std::optional<std::uint64_t> server_limits::* Which>
void limit_of_all(reading& r, given const& g) {
    auto const l = g.limit(g.value);
    r.for_all.emplace_back([l](model_settings& m) { m.limits.*Which = l; });
    if (!l && g.flag == "--rps") r.s().judge.derive_rps = false;
    if (!l && g.flag == "--tps") r.s().judge.derive_tps = false;
}

template <double mishap_rates::* Which>
void rate(reading& r, given const& g) {
    r.s().mishaps.*Which = g.real();
    if (g.real() > 1) g.wrong("a share within 0 ... 1");
}

// "3,6", or "3" for both.
template <double burst_settings::* Least, double burst_settings::* Most>
void bounds(reading& r, given const& g) {
    auto const [least, most] = split(g.value, ',');
    r.s().burst.on = true;
    r.s().burst.*Least = g.real(least);
    r.s().burst.*Most = most.empty() ? g.real(least) : g.real(most);
}

void plan_option(reading& r, given const& g) {
    auto const [name, all] = split(g.value, '=');
    plan_settings p;
    for (std::string rest = all; !rest.empty();) {
        auto const [one, more] = split(rest, ',');
        auto const [period, credits] = split(one, ':');
        p.*g.one_of<std::optional<std::uint64_t> plan_settings::*>(
               period,
               {{"5h", &plan_settings::five_hours}, {"week", &plan_settings::week}, {"month", &plan_settings::month}}) =
            g.whole(credits);
        rest = more;
    }
    if (name.empty() || !p.limits_anything()) g.wrong("ACCOUNT=[5h:N][,week:N][,month:N]");
    r.last.emplace_back([name = name, p](simulator_settings& s) {
        auto& plan = account_named(s, name).plan;
        plan.five_hours = p.five_hours;
        plan.week = p.week;
        plan.month = p.month;
    });
}

void free_tier_option(reading& r, given const& g) {
    auto [what, n] = split(g.value, '=');
    std::string model;
    if (auto const colon = what.rfind(':'); colon != std::string::npos) {
        model = what.substr(0, colon);
        what = what.substr(colon + 1);
    }
    auto const tier = g.one_of<free_tier>(what, {{"only", free_tier::only}, {"not_sold", free_tier::not_sold}});
    auto const tokens = g.whole(n);
    r.last.emplace_back([=](simulator_settings& s) {
        bool found = false;
        for (auto& m : s.models) {
            if (!model.empty() && m.name != model) continue;
            m.tier = tier;
            m.free_tokens = tokens;
            found = true;
        }
        if (!found) g.wrong("there is no such model");
    });
}

void at_option(reading& r, given const& g) {
    auto const [when, what] = split(g.value, ':');
    auto const [name, json] = split(what, '=');
    auto const at = g.real(when);
    if (at > 1e9) g.wrong("too late");
    try {
        (void)parse_change(name, json);
    } catch (std::invalid_argument const& e) {
        complain("--at: " + std::string{e.what()});
    }
    r.s().changes.push_back({std::llround(at * 1e9), name, json});
}

struct option {
    char const* name;
    char const* argument;  // "": none
    char const* text;
    void (*take)(reading&, given const&);
};

struct group {
    char const* title;
    std::vector<option> options;
};

std::vector<group> const& groups() {
    static std::vector<group> const all{
        {"Server",
         {{"--port", "N", "Listen there; 0, the default, takes a free port.",
           [](reading& r, given const& g) {
               if (g.whole() > 65'535) g.wrong("at most 65535");
               r.s().port = static_cast<std::uint16_t>(g.whole());
           }},
          {"--key", "KEY=ACCOUNT",
           "A key and whose it is; may be repeated; default sk-simulator=main. Keys of one account share its quota.",
           [](reading& r, given const& g) {
               auto kv = split(g.value, '=');
               if (kv.first.empty() || kv.second.empty()) g.wrong("KEY=ACCOUNT");
               r.keys.push_back(std::move(kv));
           }},
          {"--account", "NAME=STATE",
           "good, arrearage, unpurchased, commodity_not_purchased, prepaid_overdue or postpaid_overdue.",
           [](reading& r, given const& g) {
               auto const [name, text] = split(g.value, '=');
               auto const state = g.one_of<account_state>(text, account_states());
               r.last.emplace_back(
                   [name = name, state](simulator_settings& s) { account_named(s, name).state = state; });
           }},
          {"--speed", "N", "Simulated time runs N times as fast: windows, latencies, and all times in answers.",
           [](reading& r, given const& g) { r.s().speed = static_cast<std::int64_t>(g.whole()); }},
          {"--seed", "N", "Of latencies, lengths of answers, wordings, thresholds and faults; default 1.",
           [](reading& r, given const& g) { r.s().seed = g.whole(); }},
          {"--log", "",
           "One line for each request, on standard output: its arrival, what was decided by which limit, and the sums "
           "of "
           "the windows.",
           [](reading& r, given const&) { r.out.log = true; }},
          {"--at", "SECONDS:CHANGE=JSON",
           "Make a change at that simulated time; may be repeated. The changes are listed below.", at_option}}},
        {"Limits",
         {{"--model", "NAME[=RPM[,RPS[,TPM[,TPS]]]]",
           "Serve this model; may be repeated, and replaces the built-in list. An empty place is not enforced.",
           [](reading& r, given const& g) {
               auto const [name, rest] = split(g.value, '=');
               r.models.push_back({.name = name, .limits = limits_in(g, rest)});
           }},
          {"--limits", "ACCOUNT:MODEL=RPM[,RPS[,TPM[,TPS]]]", "Limits that this account has in place of the model's.",
           [](reading& r, given const& g) {
               auto const [target, rest] = split(g.value, '=');
               auto const [account, model] = split(target, ':');
               if (account.empty() || model.empty()) g.wrong("ACCOUNT:MODEL=RPM,...");
               r.last.emplace_back([account = account, model = model, l = limits_in(g, rest)](simulator_settings& s) {
                   account_named(s, account).limits[model] = l;
               });
           }},
          {"--rpm", "N", "Requests per minute of every model, in place of its own; \"none\": not enforced.",
           limit_of_all<&server_limits::rpm>},
          {"--rps", "N", "Requests per second, likewise.", limit_of_all<&server_limits::rps>},
          {"--tpm", "N", "Tokens per minute, likewise.", limit_of_all<&server_limits::tpm>},
          {"--tps", "N", "Tokens per second, likewise.", limit_of_all<&server_limits::tps>},
          {"--soft-tpm", "SHARE",
           "This share (0 ... 1) of what TPM would refuse is admitted all the same, as for accounts of a spend tier; "
           "default 0.",
           [](reading& r, given const& g) {
               auto const share = g.real();
               if (share > 1) g.wrong("a share within 0 ... 1");
               r.for_all.emplace_back([share](model_settings& m) { m.limits.tpm_soft = share; });
           }},
          {"--derive-rps", "yes|no", "Where a model has RPM and no RPS: RPS = RPM / 60, rounded up; default yes.",
           [](reading& r, given const& g) { r.s().judge.derive_rps = g.yes(); }},
          {"--derive-tps", "yes|no", "The same for TPS; default no.",
           [](reading& r, given const& g) { r.s().judge.derive_tps = g.yes(); }},
          {"--tokens", "MODE",
           "actual (default): admit while the minute's sum is below the limit, charge the output when it is made; "
           "input_strict: admit only if the input fits; reserve: admit only if input + max_tokens fit.",
           [](reading& r, given const& g) {
               using enum token_mode;
               r.s().judge.tokens = g.one_of<token_mode>(
                   g.value, {{"actual", actual}, {"input_strict", input_strict}, {"reserve", reserve}});
           }},
          {"--window", "KIND", "Of RPM: sliding (default), fixed or gcra.",
           [](reading& r, given const& g) {
               using enum window_kind;
               r.s().judge.requests =
                   g.one_of<window_kind>(g.value, {{"sliding", sliding}, {"fixed", fixed}, {"gcra", gcra}});
           }},
          {"--count-rejected", "yes|no", "A refused request uses up one request; default no.",
           [](reading& r, given const& g) { r.s().judge.count_rejected = g.yes(); }},
          {"--in-flight", "N", "More at once on one account and model: 429 Throttling.Concurrency.",
           [](reading& r, given const& g) { r.s().max_in_flight = g.whole(); }},
          {"--free-tier", "[MODEL:]TYPE=N",
           "Of each account on this model, or on every one: only=N, 403 after N tokens; not_sold=N, 429 after N "
           "tokens.",
           free_tier_option}}},
        {"Burst protection, off unless one of these is there",
         {{"--burst", "", "On: a rate of requests that grows too quickly is refused with 429 Throttling.BurstRate.",
           [](reading& r, given const&) { r.s().burst.on = true; }},
          {"--burst-floor", "LEAST[,MOST]",
           "Requests per second that always pass, moving slowly between the two by seed; default 3,6.",
           bounds<&burst_settings::least_floor, &burst_settings::most_floor>},
          {"--burst-growth", "LEAST[,MOST]",
           "Beyond that, so many times the mean rate of the last ten seconds; default 1.5,2.5.",
           bounds<&burst_settings::least_growth, &burst_settings::most_growth>},
          {"--burst-drift", "S", "A new aim of both so often; default 30.",
           [](reading& r, given const& g) {
               r.s().burst.on = true;
               r.s().burst.drift_s = g.real();
           }}}},
        {"Plans, none by default",
         {{"--plan", "ACCOUNT=[5h:N][,week:N][,month:N]",
           "Credits in each of these periods; when they are spent, 429 with the date of the reset and Retry-After.",
           plan_option},
          {"--tokens-per-credit", "N", "Default 1000.",
           [](reading& r, given const& g) {
               auto const n = g.whole();
               r.last.emplace_back([n](simulator_settings& s) {
                   for (auto& a : s.accounts) a.plan.tokens_per_credit = n;
               });
           }},
          {"--plan-age", "S", "The plans began so long before the start; default 0.",
           [](reading& r, given const& g) {
               auto const age = g.real();
               r.last.emplace_back([age](simulator_settings& s) {
                   for (auto& a : s.accounts) a.plan.age_s = age;
               });
           }}}},
        {"Answers",
         {{"--first-token", "S", "Seconds until the first token; default 0.4.",
           [](reading& r, given const& g) { r.s().latency.first_token_s = g.real(); }},
          {"--tokens-per-second", "N", "Default 60.",
           [](reading& r, given const& g) { r.s().latency.tokens_per_s = g.real(); }},
          {"--spread", "X", "Each of both varies by +-X of itself, 0 ... 1; default 0.3.",
           [](reading& r, given const& g) { r.s().latency.spread = g.real(); }},
          {"--capacity", "N", "The closer to N in flight, the slower, up to ten times.",
           [](reading& r, given const& g) { r.s().latency.capacity = g.whole(); }},
          {"--output", "LEAST,MOST", "Length as shares of max_tokens; default 0.3,0.9.",
           [](reading& r, given const& g) {
               auto const [least, most] = split(g.value, ',');
               r.s().output.least = g.real(least);
               r.s().output.most = g.real(most);
           }},
          {"--chunk", "N", "Tokens in each event of a stream; default 8.",
           [](reading& r, given const& g) { r.s().chunk_tokens = g.whole(); }},
          {"--inspect", "WORD", "A prompt that contains WORD is refused as inappropriate.",
           [](reading& r, given const& g) { r.s().inspected_word = g.value; }},
          {"--shape", "S", "The body of compatible-mode errors: mixed (default), a, b, c, d or e.",
           [](reading& r, given const& g) {
               using enum error_shape;
               r.s().shape =
                   g.one_of<error_shape>(g.value, {{"mixed", mixed}, {"a", a}, {"b", b}, {"c", c}, {"d", d}, {"e", e}});
           }},
          {"--retry-after", "", "Send Retry-After with rate limits too, in seconds of simulated time.",
           [](reading& r, given const&) { r.s().retry_after = true; }},
          {"--international", "", "Errors refer to the international site.",
           [](reading& r, given const&) { r.s().international = true; }}}},
        {"Faults, each a share (0 ... 1) of the requests, by seed; none by default",
         {{"--fault", "NAME=RATE",
           "Answered with this failure; may be repeated: internal_error, serving_error, model_unavailable, "
           "route_throttling, concurrency, burst_rate, rate_quota, allocation_quota, plan_usage, data_inspection, ...",
           [](reading& r, given const& g) {
               auto const [name, text] = split(g.value, '=');
               auto const what = failure_named(name);
               if (!what) g.wrong("there is no failure of that name");
               r.s().faults.push_back({*what, g.real(text)});
           }},
          {"--drop-before", "RATE", "The connection is closed before anything is counted.",
           rate<&mishap_rates::dropped_before>},
          {"--drop-after", "RATE", "The call runs and is charged, then the connection is closed without an answer.",
           rate<&mishap_rates::dropped_after>},
          {"--truncate", "RATE", "Half of the body, then the connection is closed.",
           rate<&mishap_rates::truncated_body>},
          {"--garbage", "RATE", "200 and a body that is no JSON; in a stream, one event.",
           rate<&mishap_rates::garbage_body>},
          {"--slow", "RATE", "The body comes slowly.", rate<&mishap_rates::slow_body>},
          {"--slow-for", "S", "How long a slow body takes; default 5.",
           [](reading& r, given const& g) { r.s().slow_body_s = g.real(); }},
          {"--midstream-429", "RATE", "A stream breaks off with an error event of the token limit.",
           rate<&mishap_rates::midstream_429_rate>},
          {"--soft-failure", "RATE", "200 whose text is the sentence of burst protection, with a usage of zero.",
           rate<&mishap_rates::soft_failure_rate>}}},
        {"Help", {{"--help", "", "This page.", [](reading& r, given const&) { r.out.help = true; }}}}};
    return all;
}

option const* find(std::string_view name) {
    for (auto const& g : groups())
        for (auto const& o : g.options)
            if (o.name == name) return &o;
    return nullptr;
}

// Wrapped at 80 columns, each line indented.
std::string wrapped(std::string_view text, std::size_t indent) {
    constexpr std::size_t width = 80;
    std::string out, line;
    auto const flush = [&] {
        if (!line.empty()) out += std::string(indent, ' ') + line + "\n";
        line.clear();
    };
    while (!text.empty()) {
        auto const end = text.find(' ');
        auto const word = text.substr(0, end);
        if (!line.empty() && indent + line.size() + 1 + word.size() > width) flush();
        if (!line.empty()) line += ' ';
        line += word;
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    }
    flush();
    return out;
}

}  // namespace

simulator_options parse_simulator_options(std::vector<std::string> const& arguments) {
    reading r;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        auto const& text = arguments[i];
        given g{text == "-h" ? "--help" : text.substr(0, text.find('=')), {}};
        bool has_value = g.flag.size() < text.size() && text != "-h";
        auto const* o = find(g.flag);
        if (o == nullptr) complain("no such option: " + text + " (--help lists them)");
        bool const takes = *o->argument != '\0';
        if (has_value && !takes) complain(g.flag + ": takes no value");
        if (has_value) g.value = text.substr(g.flag.size() + 1);
        if (takes && !has_value) {
            if (++i >= arguments.size()) complain(g.flag + ": needs a value");
            g.value = arguments[i];
        }
        o->take(r, g);
    }

    auto& s = r.s();
    if (!r.models.empty()) s.models = std::move(r.models);
    for (auto const& change : r.for_all)
        for (auto& m : s.models) change(m);
    if (!r.keys.empty()) s.accounts.clear();
    for (auto const& [key, name] : r.keys) account_named(s, name).keys.push_back(key);
    for (auto const& change : r.last) change(s);
    s.keep_records = r.out.log;
    return std::move(r.out);
}

std::vector<option_shown> simulator_option_list() {
    std::vector<option_shown> out;
    for (auto const& g : groups())
        for (auto const& o : g.options) out.push_back({o.name, o.argument});
    return out;
}

std::string simulator_help() {
    std::string out =
        "NAME\n"
        "    dashscope_simulator - enforces the quota of Qwen on DashScope, refuses as it\n"
        "    does\n"
        "\n"
        "SYNOPSIS\n"
        "    dashscope_simulator [OPTION]...\n"
        "\n"
        "DESCRIPTION\n";
    out += wrapped(
        "An HTTP server on 127.0.0.1 that speaks OpenAI's dialect and DashScope's own, in one piece and in streams. "
        "Without options it has the international models with their limits, and prints the address that it listens "
        "on. Ctrl-C ends it and prints what it counted: refusals by limit, the peak of every window, and the delays of "
        "requests that carry X-Weir-Stamp. GET /simulator/report shows the same as JSON while it runs.",
        4);
    out += "\n";
    out += wrapped(
        "What the vendor does not publish is an option, and what is not a limit of every account is off until its "
        "option "
        "is given.",
        4);
    out += "\n";
    out += wrapped(
        "A request may say in its \"metadata\" what it costs, {\"input_tokens\": \"1200\", \"output_tokens\": "
        "\"300\"}, "
        "or how it fails, {\"simulate_error\": \"internal_error\"} or {\"simulate_mishap\": \"truncated_body\"}. With "
        "X-DashScope-Wait-Timeout: 1 ... 120 it waits so many seconds in line where burst protection would refuse it.",
        4);
    out += "\nOPTIONS\n";
    for (auto const& g : groups()) {
        out += "  " + std::string{g.title} + "\n";
        for (auto const& o : g.options) {
            out += "    " + std::string{o.name} + (*o.argument == '\0' ? "" : " ") + o.argument + "\n";
            out += wrapped(o.text, 8);
        }
        out += "\n";
    }
    out += "CHANGES WHILE IT RUNS\n";
    out += wrapped(
        "POST /simulator/CHANGE with a JSON object as body, or --at. Members in brackets may be absent. Each holds "
        "from "
        "the next request; a call that was admitted runs on.",
        4);
    for (auto const& c : runtime_changes()) {
        out += "    " + std::string{c.name} + "\n" + wrapped(c.members, 8) + wrapped(std::string{c.meaning} + ".", 8);
    }
    out +=
        "\n"
        "EXAMPLES\n"
        "    dashscope_simulator --rpm 600 --rps 10 --tpm 1000000 --port 8080 --log\n"
        "    export DASHSCOPE_BASE_URL=http://127.0.0.1:8080/compatible-mode/v1\n"
        "    export DASHSCOPE_API_KEY=sk-simulator\n"
        "\n"
        "    dashscope_simulator --key a=first --key b=second \\\n"
        "        --model qwen3-max=600,,1000000 \\\n"
        "        --limits second:qwen3-max=60,1,100000 --burst --midstream-429 0.01 \\\n"
        "        --at '30:outage={\"seconds\": 5}'\n"
        "    curl -d '{\"model\": \"qwen3-max\", \"rpm\": 300}' localhost:8080/simulator/limits\n"
        "\n"
        "EXIT STATUS\n"
        "    0   It was ended by Ctrl-C or SIGTERM, or printed this page.\n"
        "    1   It could not listen, or its settings make no sense together.\n"
        "    2   An option was wrong.\n";
    return out;
}

}  // namespace qwen
