// SPDX-License-Identifier: MIT
//
// The settings of dashscope_simulator: models, accounts, latencies, faults.
// Where the vendor publishes no rule, the rule is a setting.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "../../tests/support/quota_judge.hpp"
#include "burst_guard.hpp"
#include "errors.hpp"
#include "faults.hpp"
#include "plan_quota.hpp"

namespace qwen {

enum class account_state { good, arrearage, unpurchased, commodity_not_purchased, prepaid_overdue, postpaid_overdue };
[[nodiscard]] std::map<std::string, account_state> const& account_states();  ///< by name

enum class free_tier {
    none,      ///< paid from the first token
    only,      ///< the user chose "free tier only": 403 when it is used up
    not_sold,  ///< a model that has nothing but its free tokens: 429 when they are used up
};

struct model_settings {
    std::string name;
    server_limits limits{};
    std::uint64_t max_input = 258'048;  ///< tokens; more is a 400
    std::uint64_t max_output = 32'768;  ///< the range of max_tokens, and what is reserved where a request has none
    free_tier tier = free_tier::none;
    std::uint64_t free_tokens = 0;  ///< of each account, if tier is not none
};

struct account_settings {
    std::string name;
    std::vector<std::string> keys;
    account_state state = account_state::good;
    std::map<std::string, server_limits> limits{};  ///< by model: the account's own, in place of the model's
    plan_settings plan{};                           ///< for all models together
};

/// qwen3-max (600 RPM, 10 RPS, 1,000,000 TPM), qwen3-max-2025-09-23 (60, 1, 100,000) and its siblings, as of Singapore.
[[nodiscard]] std::vector<model_settings> international_models();

/// How long an answer takes, in simulated time: (first token + output / speed), each drawn by seed and the prompt's
/// text within +-spread, so that the same request takes equally long in every run; more near capacity.
struct latency_model {
    double first_token_s = 0.4;
    double tokens_per_s = 60;
    double spread = 0.3;  ///< 0 ... 1
    /// In flight, of all accounts; with it, the time is divided by (1 - in flight / capacity), at most by ten.
    std::optional<std::uint64_t> capacity{};
};

/// How much is answered: a share of max_tokens, drawn by seed and the prompt's text.
struct output_model {
    double least = 0.3, most = 0.9;
    std::uint64_t without_max_tokens = 1'024;  ///< what the share is of where a request has none
};

/// A failure that strikes a share of the requests, by seed. Each failure has its own place in the order of checks.
struct fault {
    failure what = failure::internal_error;
    double rate = 0;
};

/// One of the changes of runtime_changes.hpp: ("outage", R"({"seconds": 5})").
struct scheduled_change {
    std::int64_t at_ns = 0;
    std::string name, json;
};

struct simulator_settings {
    std::vector<model_settings> models = international_models();
    std::vector<account_settings> accounts = {{"main", {"sk-simulator"}}};
    judge_settings judge{};

    std::uint64_t seed = 1;
    std::int64_t speed = 1;  ///< simulated time over real time, for windows, latencies and every time in an answer
    latency_model latency{};
    output_model output{};

    error_shape shape = error_shape::mixed;
    bool international = false;  ///< the host in "For details, see: ..."
    bool retry_after = false;    ///< Retry-After on 429s of rate limits (simulated seconds); the real one sends none
    std::optional<std::uint64_t> max_in_flight{};  ///< per account and model: above it, 429 Throttling.Concurrency
    std::string inspected_word{};  ///< a prompt that contains it does not pass the inspection; empty: none
    std::vector<fault> faults{};
    mishap_rates mishaps{};
    double slow_body_s = 5;          ///< of a slow body
    std::uint64_t chunk_tokens = 8;  ///< of each event of a stream
    burst_settings burst{};
    std::size_t max_body = 16u << 20;

    std::uint16_t port = 0;               ///< on 127.0.0.1; 0: a free one
    std::size_t max_connections = 1'024;  ///< one thread each; more must wait
    bool keep_records = false;            ///< for take_records()

    /// Changes at known times of simulated time: made when the first request arrives that late.
    std::vector<scheduled_change> changes{};

    /// If set, the time (nanoseconds), in place of CLOCK_MONOTONIC x speed; then no answer waits for its latency,
    /// unless wait_on_time. Called from many threads. A request that waits in the server's queue, or for
    /// `wait_on_time`, reads it each millisecond.
    std::function<std::int64_t()> time{};
    bool wait_on_time = false;
};

namespace simulated {

/// Throws std::invalid_argument("simulator: " + what) unless `fine`.
void require(bool fine, std::string const& what);

/// Throws std::invalid_argument for a value out of its range. The models and accounts are checked by server_state.
void check(simulator_settings const&);

}  // namespace simulated
}  // namespace qwen
