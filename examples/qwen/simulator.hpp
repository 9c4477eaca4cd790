// SPDX-License-Identifier: MIT
//
// A DashScope on loopback: a real HTTP server that enforces Qwen's limits and answers as the real one does, refusals included: statuses,
// codes, texts, body shapes and headers. Its quota is quota_judge's, which shares no code with weir.
//
// Where the vendor publishes no rule, the rule is a setting. Not simulated: streaming (answered 400, and says so), burst protection, plans.
//
//   POST /compatible-mode/v1/chat/completions                      OpenAI's dialect
//   POST /api/v1/services/aigc/text-generation/generation          DashScope's own
//   GET  /compatible-mode/v1/models                                needs a key, costs no quota
//   GET  /simulator/report, GET /simulator/clock                   the simulator's own: what it counted, and what time it has
//
// Two things in a request are the simulator's own. The header `X-Weir-Stamp`, CLOCK_MONOTONIC in nanoseconds when the client sent, lets it
// report (arrival - stamp); that clock is shared by all processes of a machine. And "metadata" in the body (strings, as OpenAI's API has
// them; plain numbers pass too) may say what it costs: {"input_tokens": "1200", "output_tokens": "300"}, or how it fails:
// {"simulate_error": "internal_error"} (any name of enum failure).
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

#include "quota_judge.hpp"

namespace qwen {

/// Everything that the simulator can answer besides 200. to_string gives the enumerator's name.
enum class failure {
    body_too_large,   ///< 413
    invalid_api_key,  ///< 401
    invalid_body,     ///< 400: no JSON
    model_not_found,  ///< 404
    arrearage,        ///< 400
    unpurchased,      ///< 403
    commodity_not_purchased,
    prepaid_overdue,
    postpaid_overdue,     ///< 429, never mended by waiting
    free_tier_only,       ///< 403
    free_quota_exceeded,  ///< 429, code of AllocationQuota, never mended by waiting
    invalid_parameter,    ///< 400
    data_inspection,      ///< 400
    serving_error,        ///< 503 or 500: too many requests for the system
    model_unavailable,    ///< 503
    route_throttling,     ///< 429 Throttling
    concurrency,          ///< 429
    rate_quota,           ///< 429: RPS, RPM
    allocation_quota,     ///< 429: TPS, TPM
    internal_error,       ///< 500, after the call ran
    invalid_url,          ///< 404
};
[[nodiscard]] std::string_view to_string(failure) noexcept;
[[nodiscard]] std::optional<failure> failure_named(std::string_view) noexcept;

enum class account_state { good, arrearage, unpurchased, commodity_not_purchased, prepaid_overdue, postpaid_overdue };

enum class free_tier {
    none,      ///< paid from the first token
    only,      ///< the user chose "free tier only": 403 when it is used up
    not_sold,  ///< a model that has nothing but its free tokens: 429 when they are used up
};

/// The bodies of compatible-mode errors that were seen in the field. `mixed`: per code as seen, by seed where several were.
enum class error_shape { mixed, a, b, c, d, e };

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
};

/// qwen3-max (600 RPM, 10 RPS, 1,000,000 TPM), qwen3-max-2025-09-23 (60, 1, 100,000) and its siblings, as of Singapore.
[[nodiscard]] std::vector<model_settings> international_models();

/// How long an answer takes, in simulated time: (first token + output / speed), each drawn by seed and the prompt's text within
/// +-spread, so that the same request takes equally long in every run; more near capacity.
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

/// A failure that strikes a share of the requests, by seed; where it stands in the order of checks is the failure's own.
struct fault {
    failure what = failure::internal_error;
    double rate = 0;
};

/// One request, when it is over.
struct request_record {
    std::uint64_t number = 0;  ///< from 1, in the order of arrival
    std::string request_id, account, model;
    std::int64_t arrival_ns = 0, done_ns = 0;  ///< simulated time since the start (or what settings.time said)
    std::optional<std::int64_t> delay_ns;      ///< arrival - stamp, real time
    int status = 0;
    std::string code;  ///< native; empty for 200
    server_rule rule = server_rule::none;
    window_sums sums;  ///< at arrival
    std::uint64_t input = 0, output = 0, max_tokens = 0;
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
    std::size_t max_body = 16u << 20;

    std::uint16_t port = 0;               ///< on 127.0.0.1; 0: a free one
    std::size_t max_connections = 1'024;  ///< one thread each; more must wait
    bool keep_records = false;            ///< for take_records()

    /// If set, the time (nanoseconds), in place of CLOCK_MONOTONIC x speed; then no answer waits for its latency. Called from many threads.
    std::function<std::int64_t()> time{};
};

struct simulator_report {
    judge_report judge;
    judge_settings rules;
    std::int64_t speed = 1;
    std::uint64_t requests = 0;                    ///< to either chat path
    std::map<int, std::uint64_t> by_status;        ///< of those
    std::map<std::string, std::uint64_t> by_code;  ///< native codes of those that failed
    std::int64_t elapsed_ns = 0;                   ///< simulated time since the start
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
    std::int64_t latency_ns = 0;  ///< simulated time
};
/// For a body of either dialect. The prompt's tokens: ceil(ASCII bytes / 4) + ceil(2/3 of the CJK characters) + ceil(bytes of other scripts / 3),
/// + 4 for each message + 3. Nothing if the body is not JSON, or its model is not in the settings.
[[nodiscard]] std::optional<planned_answer> plan_answer(simulator_settings const&, std::string_view body);

/// All members may be called from any thread, start and stop from one.
class dashscope_simulator {
public:
    /// Throws std::invalid_argument: no model, no account, a key of two accounts, a speed outside 1 ... 1,000,000, a rate or spread outside 0 ... 1.
    explicit dashscope_simulator(simulator_settings = {});
    ~dashscope_simulator();
    dashscope_simulator(dashscope_simulator const&) = delete;
    dashscope_simulator& operator=(dashscope_simulator const&) = delete;

    /// Listens when it returns. Throws std::runtime_error if the port cannot be had. Once.
    void start();
    /// Cuts every connection, and returns when no thread is left, within milliseconds. What was in flight is completed with no output.
    void stop();

    [[nodiscard]] int port() const noexcept;
    [[nodiscard]] std::string origin() const;           ///< http://127.0.0.1:PORT
    [[nodiscard]] std::string base_url() const;         ///< origin + /compatible-mode/v1, as OpenAI's clients take it
    [[nodiscard]] std::string native_base_url() const;  ///< origin + /api/v1

    [[nodiscard]] simulator_report report() const;
    [[nodiscard]] std::vector<request_record>
    take_records();                             ///< those since the last call, in the order of their ends
    [[nodiscard]] std::int64_t now_ns() const;  ///< simulated time since the start

    /// While it runs.
    void set_limits(std::string const& model, server_limits);
    void set_account(std::string const& account, account_state);

    [[nodiscard]] simulator_settings const& settings() const noexcept;

private:
    class impl;
    std::unique_ptr<impl> impl_;
};

}  // namespace qwen
