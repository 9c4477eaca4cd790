// SPDX-License-Identifier: MIT
//
// A DashScope on loopback: a real HTTP server that enforces Qwen's limits and answers as the real one does, refusals
// included: statuses, codes, texts, body shapes and headers. Its quota is quota_judge's, which shares no code with
// weir.
//
// Where the vendor publishes no rule, the rule is a setting. What is not a limit of every account is off until it is
// switched on: burst protection (burst_guard.hpp), plans (plan_quota.hpp), broken connections and bodies (faults.hpp),
// changes (runtime_changes.hpp).
//
//   POST /compatible-mode/v1/chat/completions                      OpenAI's dialect
//   POST /api/v1/services/aigc/text-generation/generation          DashScope's own
//   GET  /compatible-mode/v1/models                                needs a key, costs no quota
//   POST /simulator/CHANGE                                         runtime_changes.hpp
//   GET  /simulator/report, GET /simulator/clock                   the simulator's own: what it counted, its time
//
// Two things in a request are the simulator's own. The header `X-Weir-Stamp`, CLOCK_MONOTONIC in nanoseconds when the
// client sent, lets it report (arrival - stamp); that clock is shared by all processes of a machine. And "metadata" in
// the body (strings, as OpenAI's API has them; plain numbers pass too) may say what it costs: {"input_tokens": "1200",
// "output_tokens": "300"}, or how it fails: {"simulate_error": "internal_error"} (any name of enum failure),
// {"simulate_mishap": "truncated_body"} (of enum mishap).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
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
    std::optional<std::uint64_t>
        capacity{};  ///< in flight, of all accounts; with it, the time is divided by (1 - in flight / capacity),
                     ///< at most by ten
};

/// How much is answered: a share of max_tokens, drawn by seed and the prompt's text.
struct output_model {
    double least = 0.3, most = 0.9;
    std::uint64_t without_max_tokens = 1'024;  ///< what the share is of where a request has none
};

/// A failure that strikes a share of the requests, by seed; where it stands in the order of checks is the failure's
/// own.
struct fault {
    failure what = failure::internal_error;
    double rate = 0;
};

/// One of the changes of runtime_changes.hpp: ("outage", R"({"seconds": 5})").
struct scheduled_change {
    std::int64_t at_ns = 0;
    std::string name, json;
};

/// One request, when it is over.
struct request_record {
    std::uint64_t number = 0;  ///< from 1, in the order of arrival
    std::string request_id, account, model;
    std::int64_t arrival_ns = 0, done_ns = 0;  ///< simulated time since the start (or what settings.time said)
    std::optional<std::int64_t> delay_ns;      ///< arrival - stamp, real time
    int status = 0;                            ///< 0: nothing was answered
    std::string code;                          ///< native; empty for 200, but for a stream that broke off with one
    server_rule rule = server_rule::none;
    window_sums sums;  ///< at arrival
    std::uint64_t input = 0, output = 0, max_tokens = 0;
    bool streamed = false;
    mishap befell = mishap::none;
    std::int64_t queued_ns = 0;  ///< in the server's queue: the windows count it at arrival_ns + queued_ns
};

struct simulator_settings {
    std::vector<model_settings> models = international_models();
    std::vector<account_settings> accounts = {{"main", {"sk-simulator"}}};
    judge_settings judge{};

    std::uint64_t seed = 1;
    std::int64_t speed =
        1;  ///< simulated time runs so many times as fast: windows, latencies and every time in an answer
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

struct simulator_report {
    judge_report judge;
    judge_settings rules;
    std::int64_t speed = 1;
    std::uint64_t requests = 0;                      ///< to either chat path
    std::map<int, std::uint64_t> by_status;          ///< of those; 0: no answer
    std::map<std::string, std::uint64_t> by_code;    ///< native codes of those that failed
    std::map<std::string, std::uint64_t> by_mishap;  ///< what befell them, by name
    std::vector<std::string> failed_changes;         ///< scheduled ones that could not be made, and why
    std::int64_t elapsed_ns = 0;                     ///< simulated time since the start
    [[nodiscard]] std::uint64_t answered(int status) const {
        auto const at = by_status.find(status);
        return at == by_status.end() ? 0 : at->second;
    }
};
/// For people, several lines.
[[nodiscard]] std::string to_text(simulator_report const&);
/// For programs, one line of JSON.
[[nodiscard]] std::string to_json(simulator_report const&);
[[nodiscard]] std::string to_text(request_record const&);

/// What a request will use if it is admitted, and how long it takes without saturation: the same each time.
struct planned_answer {
    std::uint64_t input = 0, output = 0, max_tokens = 0;
    std::int64_t latency_ns = 0;      ///< simulated time
    std::int64_t first_token_ns = 0;  ///< of that, until the first token
};
/// For a body of either dialect. The prompt's tokens: ceil(ASCII bytes / 4) + ceil(2/3 of the CJK characters) +
/// ceil(bytes of other scripts / 3), + 4 for each message + 3. Nothing if the body is not JSON, or its model is not in
/// the settings.
[[nodiscard]] std::optional<planned_answer> plan_answer(simulator_settings const&, std::string_view body);

/// All members may be called from any thread, start and stop from one.
class dashscope_simulator {
public:
    /// Throws std::invalid_argument: no model, no account, a key of two accounts, a speed outside 1 ... 1,000,000, a
    /// rate or spread outside 0 ... 1.
    explicit dashscope_simulator(simulator_settings = {});
    ~dashscope_simulator();
    dashscope_simulator(dashscope_simulator const&) = delete;
    dashscope_simulator& operator=(dashscope_simulator const&) = delete;

    /// Listens when it returns. Throws std::runtime_error if the port cannot be had. Once.
    void start();
    /// Cuts every connection, and returns when no thread is left, within milliseconds. What was in flight is completed
    /// with no output.
    void stop();

    [[nodiscard]] int port() const noexcept;
    [[nodiscard]] std::string origin() const;           ///< http://127.0.0.1:PORT
    [[nodiscard]] std::string base_url() const;         ///< origin + /compatible-mode/v1, as OpenAI's clients take it
    [[nodiscard]] std::string native_base_url() const;  ///< origin + /api/v1

    [[nodiscard]] simulator_report report() const;
    [[nodiscard]] std::vector<request_record>
    take_records();  ///< those since the last call, in the order of their ends
    /// In the server's queue behind burst protection.
    [[nodiscard]] std::size_t waiting(std::string const& account, std::string const& model) const;
    [[nodiscard]] std::int64_t now_ns() const;  ///< simulated time since the start

    // --- Changes while it runs. Each holds from the next request to arrive; a call that was admitted runs on. They
    // throw std::invalid_argument where what they name is not there. POST /simulator/CHANGE does the same from outside
    // (runtime_changes.hpp).

    /// What was counted stays counted: after a cut, the window must first fall below the new limit.
    void set_limits(std::string const& model, server_limits);
    void set_limits(std::string const& account, std::string const& model, server_limits);
    /// Another spend tier: this TPM, and the share `soft` (0 ... 1) of the requests above it that are admitted all the
    /// same.
    void set_spend_tier(std::string const& account, std::string const& model, std::uint64_t tpm, double soft);
    /// In one step: what is set now, changed by `how`.
    void change_limits(std::string const& model, std::function<void(server_limits&)> const& how);
    void change_limits(std::string const& account, std::string const& model,
                       std::function<void(server_limits&)> const& how);
    [[nodiscard]] server_limits limits_of(std::string const& account, std::string const& model) const;

    /// A new account, without keys, if there was none.
    void set_account(std::string const& account, account_state);
    void cut_off_account(std::string const& account) { set_account(account, account_state::arrearage); }
    void restore_account(std::string const& account) { set_account(account, account_state::good); }
    /// Of a new account, if there was none of that name.
    void add_key(std::string const& key, std::string const& account);
    void revoke_key(std::string const& key);  ///< 401 from now on

    /// From now on `tokens` are left; 0: used up. free_tier::none: the account pays.
    void set_free_quota(std::string const& account, std::string const& model, free_tier, std::uint64_t tokens);

    /// The account's plan from now on, with nothing spent; one that limits nothing: none.
    void set_plan(std::string const& account, plan_settings);

    void set_mishaps(mishap_rates);

    /// A new model, or the settings of one of that name: its limits too, for accounts without limits of their own.
    void set_model(model_settings);
    void remove_model(std::string const& name);

    /// Every request that gets past its account's checks fails so for `for_s` seconds of simulated time; 0 ends an
    /// outage.
    void outage(double for_s, failure = failure::model_unavailable);
    void outage_of_model(std::string const& model, double for_s, failure = failure::model_unavailable);

    /// The server's clock jumps: its windows, the times in its answers and its records with it, how long answers take
    /// not. Back: the judge's windows stand still until the clock is where it was.
    void step_clock(std::int64_t ns);

    [[nodiscard]] simulator_settings const& settings() const noexcept;

private:
    class impl;
    std::unique_ptr<impl> impl_;
};

}  // namespace qwen
