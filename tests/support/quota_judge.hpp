// SPDX-License-Identifier: MIT
//
// The quota as a server enforces it: a plain, exact log of what arrived, under one mutex. It shares no code with weir,
// so that it can judge a client that uses weir. Time is passed in (nanoseconds on any one clock), so the same judge
// stands behind the HTTP simulator and inside a simulation in virtual time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace qwen {

/// What a server allows one account on one model; absent = not enforced.
struct server_limits {
    std::optional<std::uint64_t> rpm{}, rps{}, tpm{}, tps{};
    double tpm_soft = 0;  ///< this share (0 ... 1) of what TPM would refuse is admitted all the same, by seed
};

/// How tokens are counted. The vendor does not say, so a client must be clean under each.
enum class token_mode {
    actual,  ///< admit while the window's sum < limit; input is charged at arrival, output at completion: overdraft
    input_strict,  ///< the same charges, but admit only if the sum + input <= limit
    reserve,  ///< charge input + max_tokens at arrival, admit only if that fits; at completion lowered to what was used
};

/// The shape of the RPM window. RPS, TPM and TPS are always sliding.
enum class window_kind {
    sliding,  ///< exact log over (now - 60 s, now]
    fixed,    ///< calendar minutes of the clock
    gcra,     ///< a bucket of RPM requests, full at start, that refills at RPM / 60 s
};

/// The limit that refused, in the order in which they are checked.
enum class server_rule { none, rps, rpm, tps, tpm };

[[nodiscard]] std::string_view to_string(server_rule) noexcept;
[[nodiscard]] std::string_view to_string(token_mode) noexcept;
[[nodiscard]] std::string_view to_string(window_kind) noexcept;

struct judge_settings {
    token_mode tokens = token_mode::actual;
    window_kind requests = window_kind::sliding;
    bool count_rejected = false;  ///< a request refused by any of the four limits uses up one request of RPM and RPS
    bool derive_rps = true;       ///< where rps is absent and rpm is not: rps = max(1, ceil(rpm / 60))
    bool derive_tps = false;      ///< where tps is absent and tpm is not: tps = ceil(tpm / 60)
    std::uint64_t seed = 1;       ///< of tpm_soft
};

/// Sums of the half-open sliding windows (now - W, now], W = 60 s and 1 s, whatever is enforced.
struct window_sums {
    std::uint64_t requests_minute = 0, requests_second = 0, tokens_minute = 0, tokens_second = 0;
};

inline constexpr std::int64_t never_ns = std::numeric_limits<std::int64_t>::max();

struct verdict {
    bool admitted = false;
    server_rule rule = server_rule::none;  ///< the first limit that refused
    int status = 200;                      ///< 429 if refused
    std::string_view code;  ///< native code: Throttling.RateQuota or Throttling.AllocationQuota; empty if admitted
    std::int64_t time_ns =
        0;  ///< the arrival as counted: an arrival older than the latest event of its log is counted at that event
    std::int64_t retry_at_ns =
        0;  ///< if refused: when it would be admitted if nothing else happened; never_ns if it cannot be
    std::uint64_t ticket = 0;  ///< for complete(); 0 if refused
    window_sums sums;          ///< with this request if admitted, without it if not
};

struct refusals {
    std::uint64_t rps = 0, rpm = 0, tps = 0, tpm = 0;
    [[nodiscard]] std::uint64_t total() const noexcept { return rps + rpm + tps + tpm; }
};

/// One (account, model).
struct quota_report {
    std::string account, model;
    server_limits limits;  ///< as enforced, derived ones included
    std::uint64_t arrived = 0, admitted = 0, completed = 0, in_flight = 0, peak_in_flight = 0;
    std::uint64_t input_tokens = 0, output_tokens = 0;  ///< of admitted calls; output of completed ones
    std::uint64_t admitted_above_tpm = 0;               ///< of admitted: those that a hard TPM would have refused
    refusals refused;
    window_sums
        peak;  ///< greatest sum each window ever had, of what was counted (in reserve mode, reservations included)
    std::uint64_t peak_arrivals_minute = 0, peak_arrivals_second = 0;  ///< refused requests included
    std::int64_t first_arrival_ns = 0, last_arrival_ns = 0, last_event_ns = 0;
};

/// (arrival - stamp) over all requests that carried a stamp, in real nanoseconds.
struct delay_report {
    std::uint64_t count = 0;
    std::int64_t min_ns = 0, p50_ns = 0, p99_ns = 0, max_ns = 0;  ///< percentiles of the first million
    [[nodiscard]] std::int64_t spread_ns() const noexcept { return max_ns - min_ns; }
};

struct judge_report {
    std::vector<quota_report> quotas;  ///< by account, then model; only those that saw a request
    delay_report delay;
    [[nodiscard]] quota_report total() const;  ///< counts added up, peaks the greatest of any
};

/// Thread-safe; every call takes one mutex, for O(1) amortised time and a map lookup (a refusal also scans the window
/// for retry_at).
class quota_judge {
public:
    explicit quota_judge(judge_settings = {});

    /// Limits of a model, for every account that has none of its own. A call in use takes effect at the next arrival;
    /// what was counted stays counted. A limit of 0 refuses everything. A model without limits is unlimited.
    void set_limits(std::string const& model, server_limits);
    void set_limits(std::string const& account, std::string const& model, server_limits);
    /// The same, from what is set now; no other change comes between.
    void change_limits(std::string const& model, std::function<void(server_limits&)> const& how);
    void change_limits(std::string const& account, std::string const& model,
                       std::function<void(server_limits&)> const& how);

    /// One request. `max_tokens` matters in reserve mode only.
    [[nodiscard]] verdict arrive(std::string_view account, std::string_view model, std::int64_t time_ns,
                                 std::uint64_t input, std::uint64_t max_tokens);

    /// The end of an admitted call. A second completion of a ticket, or that of a refused call (0), does nothing and is
    /// false.
    bool complete(std::uint64_t ticket, std::int64_t time_ns, std::uint64_t output);

    void note_delay(std::int64_t arrival_minus_stamp_ns);

    [[nodiscard]] std::uint64_t in_flight(std::string_view account, std::string_view model) const;
    [[nodiscard]] window_sums sums(std::string_view account, std::string_view model, std::int64_t time_ns) const;
    /// As enforced, derived ones included.
    [[nodiscard]] server_limits limits_of(std::string_view account, std::string_view model) const;
    [[nodiscard]] judge_report report() const;
    [[nodiscard]] judge_settings const& settings() const noexcept { return settings_; }

private:
    struct entry {
        std::int64_t time;
        std::uint64_t amount, id;
    };

    // What happened within the last `length` ns, oldest first; ids rise.
    class exact_log {
    public:
        explicit exact_log(std::int64_t length) : length_{length} {}
        void expire(std::int64_t now);
        void add(std::int64_t now, std::uint64_t amount, std::uint64_t id);
        void lower(std::uint64_t id, std::uint64_t amount);
        [[nodiscard]] std::uint64_t sum() const { return sum_; }
        [[nodiscard]] std::uint64_t sum_at(std::int64_t now) const;
        [[nodiscard]] std::uint64_t peak() const { return peak_; }
        // When the sum will have fallen to `at_most`.
        [[nodiscard]] std::int64_t falls_to(std::uint64_t at_most) const;

    private:
        std::int64_t length_;
        std::deque<entry> entries_;
        std::uint64_t sum_ = 0, peak_ = 0;
    };

    struct account_log {
        account_log();
        quota_report counts;
        exact_log requests_minute, requests_second, tokens_minute, tokens_second, arrivals_minute, arrivals_second;
        std::int64_t latest;
        // window_kind::fixed
        std::int64_t minute = 0;
        std::uint64_t in_minute = 0;
        // window_kind::gcra: one request is 60e9 units of credit, a nanosecond brings rpm units
        std::uint64_t credit = 0, credit_rpm = 0;
        std::int64_t credit_time = 0;
    };

    struct open_call {
        account_log* log;
        std::uint64_t input, charge;
    };

    using key = std::pair<std::string, std::string>;

    account_log& log_of(std::string_view account, std::string_view model);
    account_log const* find(std::string_view account, std::string_view model) const;
    [[nodiscard]] server_limits as_set(std::string const& account, std::string const& model) const;
    [[nodiscard]] server_limits effective(std::string const& account, std::string const& model) const;
    [[nodiscard]] std::int64_t requests_free_at(account_log const&, std::uint64_t rpm, std::int64_t now) const;
    [[nodiscard]] std::int64_t tokens_free_at(exact_log const&, std::uint64_t limit, std::uint64_t charge,
                                              bool alone_passes, std::int64_t now) const;
    void count_request(account_log&, std::int64_t now);
    double unit();  // [0, 1)

    judge_settings settings_;
    mutable std::mutex mutex_;
    std::map<std::string, server_limits, std::less<>> by_model_;
    std::map<key, server_limits> by_account_;
    std::map<key, account_log> logs_;
    std::unordered_map<std::uint64_t, open_call> open_;
    std::uint64_t next_id_ = 1, random_;
    std::vector<std::int64_t> delays_;
    delay_report delay_;
};

}  // namespace qwen
