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
#include "errors.hpp"
#include "faults.hpp"
#include "plan_quota.hpp"
#include "simulator_settings.hpp"

namespace qwen {

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
    /// Those since the last call, in the order of their ends.
    [[nodiscard]] std::vector<request_record> take_records();
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
