// SPDX-License-Identifier: MIT
#include "runtime_changes.hpp"

#include <nlohmann/json.hpp>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>

namespace qwen {

namespace {

using json = nlohmann::json;
using change = std::function<void(dashscope_simulator&)>;

[[noreturn]] void complain(std::string const& what) { throw std::invalid_argument(what); }

// An object whose members are each asked for once; a member that is not asked for is a mistake.
class members {
public:
    members(std::string_view name, std::string_view text)
        : name_{name}, object_(json::parse(text.empty() ? std::string_view{"{}"} : text, nullptr, false)) {
        if (!object_.is_object()) complain(name_ + ": not a JSON object");
    }
    [[nodiscard]] bool has(char const* key) {
        known_.insert(key);
        return object_.contains(key);
    }
    [[nodiscard]] std::string text(char const* key) {
        if (!has(key) || !object_[key].is_string()) complain(name_ + ": \"" + key + "\" must be a string");
        return object_[key].get<std::string>();
    }
    [[nodiscard]] std::string text(char const* key, char const* otherwise) { return has(key) ? text(key) : otherwise; }
    [[nodiscard]] std::uint64_t whole(char const* key) {
        if (!has(key) || !object_[key].is_number_unsigned())
            complain(name_ + ": \"" + key + "\" must be a whole number");
        return object_[key].get<std::uint64_t>();
    }
    [[nodiscard]] double number(char const* key) {
        if (!has(key) || !object_[key].is_number()) complain(name_ + ": \"" + key + "\" must be a number");
        return object_[key].get<double>();
    }
    [[nodiscard]] double share(char const* key) {
        auto const x = number(key);
        if (!(x >= 0 && x <= 1)) complain(name_ + ": \"" + key + "\" must be within 0 ... 1");
        return x;
    }
    [[nodiscard]] bool is_null(char const* key) { return has(key) && object_[key].is_null(); }
    template <class T>
    [[nodiscard]] T one_of(char const* key, std::map<std::string, T> const& names) {
        auto const at = names.find(text(key));
        if (at != names.end()) return at->second;
        std::string all;
        for (auto const& [n, v] : names) all += (all.empty() ? "" : ", ") + n;
        complain(name_ + ": \"" + key + "\" must be one of " + all);
    }
    void end() const {
        for (auto const& [key, value] : object_.items())
            if (!known_.contains(key)) complain(name_ + ": has no \"" + key + "\"");
    }

private:
    std::string name_;
    json object_;
    std::set<std::string> known_;
};

// Some of the limits, each a number or null; what is absent stays.
struct limit_changes {
    struct one {
        std::optional<std::uint64_t> server_limits::* which;
        std::optional<std::uint64_t> to;
    };
    std::vector<one> ones;
    std::optional<double> soft;

    explicit limit_changes(members& m) {
        for (auto const& [key, which] :
             std::map<char const*, std::optional<std::uint64_t> server_limits::*>{{"rpm", &server_limits::rpm},
                                                                                  {"rps", &server_limits::rps},
                                                                                  {"tpm", &server_limits::tpm},
                                                                                  {"tps", &server_limits::tps}}) {
            if (!m.has(key)) continue;
            ones.push_back({which, m.is_null(key) ? std::nullopt : std::optional{m.whole(key)}});
        }
        if (m.has("tpm_soft")) soft = m.share("tpm_soft");
    }
    void apply(server_limits& l) const {
        for (auto const& o : ones) l.*o.which = o.to;
        if (soft) l.tpm_soft = *soft;
    }
};

change limits(members& m) {
    limit_changes const to{m};
    auto const model = m.text("model");
    if (!m.has("account"))
        return [=](dashscope_simulator& s) { s.change_limits(model, [&](auto& l) { to.apply(l); }); };
    auto const account = m.text("account");
    return [=](dashscope_simulator& s) { s.change_limits(account, model, [&](auto& l) { to.apply(l); }); };
}

change spend_tier(members& m) {
    auto const account = m.text("account"), model = m.text("model");
    auto const tpm = m.whole("tpm");
    auto const soft = m.has("soft") ? m.share("soft") : 0;
    return [=](dashscope_simulator& s) { s.set_spend_tier(account, model, tpm, soft); };
}

change free_quota(members& m) {
    auto const account = m.text("account"), model = m.text("model");
    auto const tier = m.one_of<free_tier>(
        "tier", {{"none", free_tier::none}, {"only", free_tier::only}, {"not_sold", free_tier::not_sold}});
    auto const tokens = m.has("tokens") ? m.whole("tokens") : 0;
    return [=](dashscope_simulator& s) { s.set_free_quota(account, model, tier, tokens); };
}

change add_key(members& m) {
    auto const key = m.text("key"), account = m.text("account");
    return [=](dashscope_simulator& s) { s.add_key(key, account); };
}

change revoke_key(members& m) {
    auto const key = m.text("key");
    return [=](dashscope_simulator& s) { s.revoke_key(key); };
}

change account(members& m) {
    auto const name = m.text("account");
    auto const state = m.one_of<account_state>("state", account_states());
    return [=](dashscope_simulator& s) { s.set_account(name, state); };
}

change outage(members& m) {
    auto const seconds = m.number("seconds");
    if (!(seconds >= 0 && seconds <= 1e9)) complain("outage: \"seconds\" must not be negative");
    auto const model = m.text("model", "");
    auto const what = failure_named(m.text("failure", "model_unavailable"));
    if (!what) complain("outage: no such failure");
    return [=](dashscope_simulator& s) {
        model.empty() ? s.outage(seconds, *what) : s.outage_of_model(model, seconds, *what);
    };
}

change clock(members& m) {
    auto const seconds = m.number("step");
    if (!(std::abs(seconds) <= 1e8)) complain("clock: \"step\" must be within three years");
    return [=](dashscope_simulator& s) { s.step_clock(std::llround(seconds * 1e9)); };
}

change plan(members& m) {
    auto const account = m.text("account");
    plan_settings p;
    auto const credits = [&m](char const* key) { return m.has(key) ? std::optional{m.whole(key)} : std::nullopt; };
    p.five_hours = credits("five_hours");
    p.week = credits("week");
    p.month = credits("month");
    if (m.has("tokens_per_credit")) p.tokens_per_credit = m.whole("tokens_per_credit");
    if (m.has("age")) p.age_s = m.number("age");
    return [=](dashscope_simulator& s) { s.set_plan(account, p); };
}

change mishaps(members& m) {
    mishap_rates rates;
    for (auto const& [key, which] :
         std::map<char const*, double mishap_rates::*>{{"dropped_before", &mishap_rates::dropped_before},
                                                       {"dropped_after", &mishap_rates::dropped_after},
                                                       {"truncated_body", &mishap_rates::truncated_body},
                                                       {"garbage_body", &mishap_rates::garbage_body},
                                                       {"slow_body", &mishap_rates::slow_body},
                                                       {"midstream_429", &mishap_rates::midstream_429_rate},
                                                       {"soft_failure", &mishap_rates::soft_failure_rate}})
        if (m.has(key)) rates.*which = m.share(key);
    return [=](dashscope_simulator& s) { s.set_mishaps(rates); };
}

change model(members& m) {
    limit_changes const to{m};
    model_settings n{.name = m.text("model")};
    if (n.name.empty()) complain("model: a model must have a name");
    to.apply(n.limits);
    return [=](dashscope_simulator& s) { s.set_model(n); };
}

change remove_model(members& m) {
    auto const name = m.text("model");
    return [=](dashscope_simulator& s) { s.remove_model(name); };
}

using reader = change (*)(members&);
struct row {
    runtime_change shown;
    reader read;
};

constexpr row rows[] = {
    {{"limits", "model, [account], [rpm], [rps], [tpm], [tps], [tpm_soft]",
      "limits of a model, or of an account on it; null: not enforced; what is absent stays"},
     limits},
    {{"spend_tier", "account, model, tpm, [soft]",
      "another TPM, above which the share soft of the requests is admitted all the same"},
     spend_tier},
    {{"free_quota", "account, model, tier, [tokens]",
      "tier none, only or not_sold; so many free tokens are left, 0 if absent"},
     free_quota},
    {{"add_key", "key, account", "one more key, of a new account if there is none of that name"}, add_key},
    {{"revoke_key", "key", "401 from now on"}, revoke_key},
    {{"account", "account, state", "good, arrearage, ... as --account has them"}, account},
    {{"outage", "seconds, [model], [failure]",
      "everything (or one model) fails for so long, with model_unavailable if absent; 0 ends it"},
     outage},
    {{"plan", "account, [five_hours], [week], [month], [tokens_per_credit], [age]",
      "credits of a plan whose periods began so many seconds ago; with none of the three: no plan"},
     plan},
    {{"mishaps",
      "[dropped_before], [dropped_after], [truncated_body], [garbage_body], [slow_body], [midstream_429], "
      "[soft_failure]",
      "shares of the requests from now on; what is absent is 0"},
     mishaps},
    {{"clock", "step", "the server's clock jumps by so many seconds"}, clock},
    {{"model", "model, [rpm], [rps], [tpm], [tps], [tpm_soft]", "adds a model, or replaces one"}, model},
    {{"remove_model", "model", "404 from now on"}, remove_model},
};

}  // namespace

std::vector<runtime_change> const& runtime_changes() {
    static auto const all = [] {
        std::vector<runtime_change> v;
        for (auto const& r : rows) v.push_back(r.shown);
        return v;
    }();
    return all;
}

std::function<void(dashscope_simulator&)> parse_change(std::string_view name, std::string_view text) {
    for (auto const& r : rows) {
        if (name != r.shown.name) continue;
        members m{name, text};
        auto c = r.read(m);
        m.end();
        return c;
    }
    complain("there is no change \"" + std::string{name} + "\"");
}

}  // namespace qwen
