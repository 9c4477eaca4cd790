// SPDX-License-Identifier: MIT
#include "option_table.hpp"

#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "runtime_changes.hpp"

namespace qwen::simulated {

void given_option::wrong(std::string const& why) const {
    throw std::invalid_argument(flag + ": " + why + ": \"" + value + "\"");
}

std::uint64_t given_option::whole(std::string const& text) const {
    if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
        wrong("not a whole number");
    return std::stoull(text);
}

double given_option::real(std::string const& text) const {
    char* end = nullptr;
    double const x = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(x >= 0)) wrong("not a number");
    return x;
}

bool given_option::yes() const {
    if (value != "yes" && value != "no") wrong("yes or no");
    return value == "yes";
}

std::optional<std::uint64_t> given_option::limit(std::string const& text) const {
    if (text.empty() || text == "none") return std::nullopt;
    auto const n = whole(text);
    if (n == 0) wrong("a limit of 0 admits nothing; \"none\" is no limit");
    return n;
}

account_settings& account_named(simulator_settings& s, std::string const& name) {
    for (auto& a : s.accounts)
        if (a.name == name) return a;
    return s.accounts.emplace_back(account_settings{.name = name, .keys = {}});
}

namespace {

std::pair<std::string, std::string> split(std::string const& text, char at) {
    auto const where = text.find(at);
    if (where == std::string::npos) return {text, {}};
    return {text.substr(0, where), text.substr(where + 1)};
}

server_limits limits_in(given_option const& g, std::string const& text) {
    auto const [rpm, after_rpm] = split(text, ',');
    auto const [rps, after_rps] = split(after_rpm, ',');
    auto const [tpm, tps] = split(after_rps, ',');
    return {.rpm = g.limit(rpm), .rps = g.limit(rps), .tpm = g.limit(tpm), .tps = g.limit(tps)};
}

template <std::optional<std::uint64_t> server_limits::* Which>
void limit_of_all(options_so_far& r, given_option const& g) {
    auto const l = g.limit(g.value);
    r.for_all_models.emplace_back([l](model_settings& m) { m.limits.*Which = l; });
    if (!l && g.flag == "--rps") r.s().judge.derive_rps = false;
    if (!l && g.flag == "--tps") r.s().judge.derive_tps = false;
}

template <double mishap_rates::* Which>
void rate(options_so_far& r, given_option const& g) {
    r.s().mishaps.*Which = g.real();
    if (g.real() > 1) g.wrong("a share within 0 ... 1");
}

// "3,6", or "3" for both.
template <double burst_settings::* Least, double burst_settings::* Most>
void bounds(options_so_far& r, given_option const& g) {
    auto const [least, most] = split(g.value, ',');
    r.s().burst.on = true;
    r.s().burst.*Least = g.real(least);
    r.s().burst.*Most = most.empty() ? g.real(least) : g.real(most);
}

void plan_option(options_so_far& r, given_option const& g) {
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

void free_tier_option(options_so_far& r, given_option const& g) {
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

void at_option(options_so_far& r, given_option const& g) {
    auto const [when, what] = split(g.value, ':');
    auto const [name, json] = split(what, '=');
    auto const at = g.real(when);
    if (at > 1e9) g.wrong("too late");
    try {
        (void)parse_change(name, json);
    } catch (std::invalid_argument const& e) {
        throw std::invalid_argument("--at: " + std::string{e.what()});
    }
    r.s().changes.push_back({std::llround(at * 1e9), name, json});
}

}  // namespace

std::vector<option_group> const& option_groups() {
    static std::vector<option_group> const all{
        {"Server",
         {{"--port", "N", "Listen there; 0, the default, takes a free port.",
           [](options_so_far& r, given_option const& g) {
               if (g.whole() > 65'535) g.wrong("at most 65535");
               r.s().port = static_cast<std::uint16_t>(g.whole());
           }},
          {"--key", "KEY=ACCOUNT",
           "A key and whose it is; may be repeated; default sk-simulator=main. Keys of one account share its quota.",
           [](options_so_far& r, given_option const& g) {
               auto kv = split(g.value, '=');
               if (kv.first.empty() || kv.second.empty()) g.wrong("KEY=ACCOUNT");
               r.keys.push_back(std::move(kv));
           }},
          {"--account", "NAME=STATE",
           "good, arrearage, unpurchased, commodity_not_purchased, prepaid_overdue or postpaid_overdue.",
           [](options_so_far& r, given_option const& g) {
               auto const [name, text] = split(g.value, '=');
               auto const state = g.one_of<account_state>(text, account_states());
               r.last.emplace_back(
                   [name = name, state](simulator_settings& s) { account_named(s, name).state = state; });
           }},
          {"--speed", "N", "Simulated time runs N times as fast: windows, latencies, and all times in answers.",
           [](options_so_far& r, given_option const& g) { r.s().speed = static_cast<std::int64_t>(g.whole()); }},
          {"--seed", "N", "Of latencies, lengths of answers, wordings, thresholds and faults; default 1.",
           [](options_so_far& r, given_option const& g) { r.s().seed = g.whole(); }},
          {"--log", "",
           "One line for each request, on standard output: its arrival, what was decided by which limit, and the sums "
           "of "
           "the windows.",
           [](options_so_far& r, given_option const&) { r.out.log = true; }},
          {"--at", "SECONDS:CHANGE=JSON",
           "Make a change at that simulated time; may be repeated. The changes are listed below.", at_option}}},
        {"Limits",
         {{"--model", "NAME[=RPM[,RPS[,TPM[,TPS]]]]",
           "Serve this model; may be repeated, and replaces the built-in list. An empty place is not enforced.",
           [](options_so_far& r, given_option const& g) {
               auto const [name, rest] = split(g.value, '=');
               r.models.push_back({.name = name, .limits = limits_in(g, rest)});
           }},
          {"--limits", "ACCOUNT:MODEL=RPM[,RPS[,TPM[,TPS]]]", "Limits that this account has in place of the model's.",
           [](options_so_far& r, given_option const& g) {
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
           [](options_so_far& r, given_option const& g) {
               auto const share = g.real();
               if (share > 1) g.wrong("a share within 0 ... 1");
               r.for_all_models.emplace_back([share](model_settings& m) { m.limits.tpm_soft = share; });
           }},
          {"--derive-rps", "yes|no", "Where a model has RPM and no RPS: RPS = RPM / 60, rounded up; default yes.",
           [](options_so_far& r, given_option const& g) { r.s().judge.derive_rps = g.yes(); }},
          {"--derive-tps", "yes|no", "The same for TPS; default no.",
           [](options_so_far& r, given_option const& g) { r.s().judge.derive_tps = g.yes(); }},
          {"--tokens", "MODE",
           "actual (default): admit while the minute's sum is below the limit, charge the output when it is made; "
           "input_strict: admit only if the input fits; reserve: admit only if input + max_tokens fit.",
           [](options_so_far& r, given_option const& g) {
               using enum token_mode;
               r.s().judge.tokens = g.one_of<token_mode>(
                   g.value, {{"actual", actual}, {"input_strict", input_strict}, {"reserve", reserve}});
           }},
          {"--window", "KIND", "Of RPM: sliding (default), fixed or gcra.",
           [](options_so_far& r, given_option const& g) {
               using enum window_kind;
               r.s().judge.requests =
                   g.one_of<window_kind>(g.value, {{"sliding", sliding}, {"fixed", fixed}, {"gcra", gcra}});
           }},
          {"--count-rejected", "yes|no", "A refused request uses up one request; default no.",
           [](options_so_far& r, given_option const& g) { r.s().judge.count_rejected = g.yes(); }},
          {"--in-flight", "N", "More at once on one account and model: 429 Throttling.Concurrency.",
           [](options_so_far& r, given_option const& g) { r.s().max_in_flight = g.whole(); }},
          {"--free-tier", "[MODEL:]TYPE=N",
           "Of each account on this model, or on every one: only=N, 403 after N tokens; not_sold=N, 429 after N "
           "tokens.",
           free_tier_option}}},
        {"Burst protection, off unless one of these is there",
         {{"--burst", "", "On: a rate of requests that grows too quickly is refused with 429 Throttling.BurstRate.",
           [](options_so_far& r, given_option const&) { r.s().burst.on = true; }},
          {"--burst-floor", "LEAST[,MOST]",
           "Requests per second that always pass, moving slowly between the two by seed; default 3,6.",
           bounds<&burst_settings::least_floor, &burst_settings::most_floor>},
          {"--burst-growth", "LEAST[,MOST]",
           "Beyond that, so many times the mean rate of the last ten seconds; default 1.5,2.5.",
           bounds<&burst_settings::least_growth, &burst_settings::most_growth>},
          {"--burst-drift", "S", "A new aim of both so often; default 30.",
           [](options_so_far& r, given_option const& g) {
               r.s().burst.on = true;
               r.s().burst.drift_s = g.real();
           }}}},
        {"Plans, none by default",
         {{"--plan", "ACCOUNT=[5h:N][,week:N][,month:N]",
           "Credits in each of these periods; when they are spent, 429 with the date of the reset and Retry-After.",
           plan_option},
          {"--tokens-per-credit", "N", "Default 1000.",
           [](options_so_far& r, given_option const& g) {
               auto const n = g.whole();
               r.last.emplace_back([n](simulator_settings& s) {
                   for (auto& a : s.accounts) a.plan.tokens_per_credit = n;
               });
           }},
          {"--plan-age", "S", "The plans began so long before the start; default 0.",
           [](options_so_far& r, given_option const& g) {
               auto const age = g.real();
               r.last.emplace_back([age](simulator_settings& s) {
                   for (auto& a : s.accounts) a.plan.age_s = age;
               });
           }}}},
        {"Answers",
         {{"--first-token", "S", "Seconds until the first token; default 0.4.",
           [](options_so_far& r, given_option const& g) { r.s().latency.first_token_s = g.real(); }},
          {"--tokens-per-second", "N", "Default 60.",
           [](options_so_far& r, given_option const& g) { r.s().latency.tokens_per_s = g.real(); }},
          {"--spread", "X", "Each of both varies by +-X of itself, 0 ... 1; default 0.3.",
           [](options_so_far& r, given_option const& g) { r.s().latency.spread = g.real(); }},
          {"--capacity", "N", "The closer to N in flight, the slower, up to ten times.",
           [](options_so_far& r, given_option const& g) { r.s().latency.capacity = g.whole(); }},
          {"--output", "LEAST,MOST", "Length as shares of max_tokens; default 0.3,0.9.",
           [](options_so_far& r, given_option const& g) {
               auto const [least, most] = split(g.value, ',');
               r.s().output.least = g.real(least);
               r.s().output.most = g.real(most);
           }},
          {"--chunk", "N", "Tokens in each event of a stream; default 8.",
           [](options_so_far& r, given_option const& g) { r.s().chunk_tokens = g.whole(); }},
          {"--inspect", "WORD", "A prompt that contains WORD is refused as inappropriate.",
           [](options_so_far& r, given_option const& g) { r.s().inspected_word = g.value; }},
          {"--shape", "S", "The body of compatible-mode errors: mixed (default), a, b, c, d or e.",
           [](options_so_far& r, given_option const& g) {
               using enum error_shape;
               r.s().shape =
                   g.one_of<error_shape>(g.value, {{"mixed", mixed}, {"a", a}, {"b", b}, {"c", c}, {"d", d}, {"e", e}});
           }},
          {"--retry-after", "", "Send Retry-After with rate limits too, in seconds of simulated time.",
           [](options_so_far& r, given_option const&) { r.s().retry_after = true; }},
          {"--international", "", "Errors refer to the international site.",
           [](options_so_far& r, given_option const&) { r.s().international = true; }}}},
        {"Faults, each a share (0 ... 1) of the requests, by seed; none by default",
         {{"--fault", "NAME=RATE",
           "Answered with this failure; may be repeated: internal_error, serving_error, model_unavailable, "
           "route_throttling, concurrency, burst_rate, rate_quota, allocation_quota, plan_usage, data_inspection, ...",
           [](options_so_far& r, given_option const& g) {
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
           [](options_so_far& r, given_option const& g) { r.s().slow_body_s = g.real(); }},
          {"--midstream-429", "RATE", "A stream breaks off with an error event of the token limit.",
           rate<&mishap_rates::midstream_429_rate>},
          {"--soft-failure", "RATE", "200 whose text is the sentence of burst protection, with a usage of zero.",
           rate<&mishap_rates::soft_failure_rate>}}},
        {"Help", {{"--help", "", "This page.", [](options_so_far& r, given_option const&) { r.out.help = true; }}}}};
    return all;
}

}  // namespace qwen::simulated
