// SPDX-License-Identifier: MIT
//
// What the server knows of its customers, all of which may change while it runs: models, accounts and their keys, free
// tokens, outages. Time is passed in, as to quota_judge.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "plan_quota.hpp"
#include "simulator_settings.hpp"

namespace qwen::simulated {

class server_state {
public:
    /// Throws std::invalid_argument.
    explicit server_state(simulator_settings const&);

    [[nodiscard]] std::optional<std::string> account_of(std::string_view key) const;
    [[nodiscard]] std::shared_ptr<model_settings const> model(std::string_view name) const;
    [[nodiscard]] std::vector<std::string> model_names() const;

    [[nodiscard]] std::optional<failure> account_trouble(std::string const& account) const;
    [[nodiscard]] std::optional<failure> free_quota_trouble(std::string const& account, std::string const& model) const;
    [[nodiscard]] std::optional<plan_quota::exhausted> plan_trouble(std::string const& account, std::int64_t now) const;
    [[nodiscard]] std::optional<failure> outage(std::string const& model, std::int64_t now) const;

    void spent(std::string const& account, std::string const& model, std::uint64_t tokens, std::int64_t now);

    // --- changes; std::invalid_argument where what they name is not there ---
    void set_model(model_settings);
    void remove_model(std::string const& name);
    void set_account(std::string const& account, account_state);  ///< a new one, without keys, if there was none
    void add_key(std::string const& key, std::string const& account);
    void revoke_key(std::string const& key);
    void set_free_quota(std::string const& account, std::string const& model, free_tier, std::uint64_t left);
    void set_plan(std::string const& account, plan_settings);
    void begin_outage(std::string const& model, failure, std::int64_t until);  ///< an empty name: every model

private:
    struct free_quota {
        free_tier tier;
        std::uint64_t left;
    };
    struct closed {
        failure what;
        std::int64_t until;
    };
    using account_model = std::pair<std::string, std::string>;

    [[nodiscard]] free_quota free_quota_of(account_model const&) const;

    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<model_settings const>, std::less<>> models_;
    std::vector<std::string> order_;  // of the models, as they were given
    std::map<std::string, std::string, std::less<>> keys_;
    std::map<std::string, account_state> states_;
    std::map<account_model, free_quota> free_;  // those that differ from what the model gives
    std::map<std::string, closed> closed_;
    std::map<std::string, std::shared_ptr<plan_quota>> plans_;
};

}  // namespace qwen::simulated
