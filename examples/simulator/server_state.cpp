// SPDX-License-Identifier: MIT
#include "server_state.hpp"

#include <algorithm>

namespace qwen::simulated {

server_state::server_state(simulator_settings const& s) {
    require(!s.models.empty(), "there must be a model");
    for (auto const& m : s.models) {
        require(!models_.contains(m.name), "model " + m.name + " is there twice");
        set_model(m);
    }
    for (auto const& a : s.accounts) {
        require(states_.emplace(a.name, a.state).second, "account " + a.name + " is there twice");
        if (a.plan.limits_anything()) set_plan(a.name, a.plan);
        for (auto const& k : a.keys) require(keys_.emplace(k, a.name).second, "key " + k + " is there twice");
    }
    require(!keys_.empty(), "there must be an account with a key");
}

std::optional<std::string> server_state::account_of(std::string_view key) const {
    std::lock_guard const lock{mutex_};
    auto const at = keys_.find(key);
    if (at == keys_.end()) return std::nullopt;
    return at->second;
}

std::shared_ptr<model_settings const> server_state::model(std::string_view name) const {
    std::lock_guard const lock{mutex_};
    auto const at = models_.find(name);
    return at == models_.end() ? nullptr : at->second;
}

std::vector<std::string> server_state::model_names() const {
    std::lock_guard const lock{mutex_};
    return order_;
}

std::optional<failure> server_state::account_trouble(std::string const& account) const {
    std::lock_guard const lock{mutex_};
    auto const at = states_.find(account);
    switch (at == states_.end() ? account_state::good : at->second) {
        case account_state::arrearage: return failure::arrearage;
        case account_state::unpurchased: return failure::unpurchased;
        case account_state::commodity_not_purchased: return failure::commodity_not_purchased;
        case account_state::prepaid_overdue: return failure::prepaid_overdue;
        case account_state::postpaid_overdue: return failure::postpaid_overdue;
        case account_state::good: break;
    }
    return std::nullopt;
}

server_state::free_quota server_state::free_quota_of(account_model const& pair) const {
    if (auto const at = free_.find(pair); at != free_.end()) return at->second;
    auto const m = models_.find(pair.second);
    return m == models_.end() ? free_quota{free_tier::none, 0} : free_quota{m->second->tier, m->second->free_tokens};
}

std::optional<failure> server_state::free_quota_trouble(std::string const& account, std::string const& model) const {
    std::lock_guard const lock{mutex_};
    auto const f = free_quota_of({account, model});
    if (f.tier == free_tier::none || f.left != 0) return std::nullopt;
    return f.tier == free_tier::only ? failure::free_tier_only : failure::free_quota_exceeded;
}

std::optional<failure> server_state::outage(std::string const& model, std::int64_t now) const {
    std::lock_guard const lock{mutex_};
    for (auto const& name : {model, std::string{}})
        if (auto const at = closed_.find(name); at != closed_.end() && now < at->second.until) return at->second.what;
    return std::nullopt;
}

std::optional<plan_quota::exhausted> server_state::plan_trouble(std::string const& account, std::int64_t now) const {
    std::lock_guard const lock{mutex_};
    auto const at = plans_.find(account);
    return at == plans_.end() ? std::nullopt : at->second->trouble(now);
}

void server_state::spent(std::string const& account, std::string const& model, std::uint64_t tokens, std::int64_t now) {
    std::lock_guard const lock{mutex_};
    if (auto const at = plans_.find(account); at != plans_.end()) at->second->spend(tokens, now);
    account_model const pair{account, model};
    auto f = free_quota_of(pair);
    if (f.tier == free_tier::none) return;
    f.left -= std::min(f.left, tokens);
    free_[pair] = f;
}

void server_state::set_model(model_settings m) {
    require(!m.name.empty(), "a model must have a name");
    std::lock_guard const lock{mutex_};
    std::erase_if(free_, [&m](auto const& f) { return f.first.second == m.name; });
    auto const name = m.name;
    auto& slot = models_[name];
    if (slot == nullptr) order_.push_back(name);
    slot = std::make_shared<model_settings const>(std::move(m));
}

void server_state::remove_model(std::string const& name) {
    std::lock_guard const lock{mutex_};
    require(models_.erase(name) != 0, "there is no model " + name);
    std::erase(order_, name);
}

void server_state::set_account(std::string const& account, account_state s) {
    require(!account.empty(), "an account must have a name");
    std::lock_guard const lock{mutex_};
    states_[account] = s;
}

void server_state::add_key(std::string const& key, std::string const& account) {
    require(!key.empty() && !account.empty(), "a key and an account must have names");
    std::lock_guard const lock{mutex_};
    auto const [at, fresh] = keys_.emplace(key, account);
    require(fresh || at->second == account, "key " + key + " is of another account");
    states_.try_emplace(account, account_state::good);
}

void server_state::revoke_key(std::string const& key) {
    std::lock_guard const lock{mutex_};
    require(keys_.erase(key) != 0, "there is no key " + key);
}

void server_state::set_free_quota(std::string const& account, std::string const& model, free_tier tier,
                                  std::uint64_t left) {
    std::lock_guard const lock{mutex_};
    require(states_.contains(account), "there is no account " + account);
    require(models_.contains(model), "there is no model " + model);
    free_[{account, model}] = {tier, left};
}

void server_state::set_plan(std::string const& account, plan_settings p) {
    auto fresh = std::make_shared<plan_quota>(p);
    std::lock_guard const lock{mutex_};
    require(states_.contains(account), "there is no account " + account);
    if (p.limits_anything()) {
        plans_[account] = std::move(fresh);
    } else {
        plans_.erase(account);
    }
}

void server_state::begin_outage(std::string const& model, failure what, std::int64_t until) {
    std::lock_guard const lock{mutex_};
    require(model.empty() || models_.contains(model), "there is no model " + model);
    closed_[model] = {what, until};
}

}  // namespace qwen::simulated
