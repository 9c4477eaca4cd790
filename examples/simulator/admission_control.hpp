// SPDX-License-Identifier: MIT
//
// Which requests get in: the checks of the server, in its order. The key comes first, then the body, the model, the
// account, the parameters, outages, burst protection, and at last the quota.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "../../tests/support/quota_judge.hpp"
#include "burst_guard.hpp"
#include "errors.hpp"
#include "exchange.hpp"
#include "faults.hpp"
#include "server_clock.hpp"
#include "server_state.hpp"
#include "simulator_settings.hpp"

namespace httplib {
struct Request;
}

namespace qwen::simulated {

/// The server's account of a request's key, in its Authorization header.
[[nodiscard]] std::optional<std::string> account_of(httplib::Request const&, server_state const&);

/// Thread-safe.
class admission_control {
public:
    admission_control(simulator_settings const& s, quota_judge& judge, server_state& state, burst_guard& burst,
                      server_clock& clock)
        : settings_{s}, judge_{judge}, state_{state}, burst_{burst}, clock_{clock}, mishaps_{s.mishaps} {}

    /// Admits the call, or says what is wrong with it. Fills in what is known of it by then. A call that draws
    /// dropped_before is neither counted nor refused.
    [[nodiscard]] std::optional<problem> admit(httplib::Request const&, completion_call&);

    /// The call has made its output: the judge counts it. Does nothing the second time, or without a ticket.
    void complete(completion_call&, std::uint64_t output);

    /// The call is over: its place is free.
    void leave(completion_call&);

    void set_mishaps(mishap_rates);

private:
    [[nodiscard]] std::optional<failure> draw_fault(asked const&, chance&) const;
    [[nodiscard]] mishap draw_mishap(completion_call&);
    [[nodiscard]] std::optional<problem> check_account(completion_call const&, std::optional<failure> injected) const;
    [[nodiscard]] std::optional<problem> check_parameters(completion_call&, model_settings const&,
                                                          std::optional<failure> injected) const;
    [[nodiscard]] problem plan_problem(plan_quota::exhausted const&, request_record const&) const;
    [[nodiscard]] bool enter(completion_call const&);
    [[nodiscard]] std::optional<problem> pass_burst(httplib::Request const&, completion_call&);
    [[nodiscard]] std::optional<problem> pass_quota(httplib::Request const&, completion_call&);
    void plan_times(completion_call&);
    void note_stamp(httplib::Request const&, completion_call&, std::int64_t counted_later_ns);

    simulator_settings const& settings_;
    quota_judge& judge_;
    server_state& state_;
    burst_guard& burst_;
    server_clock& clock_;
    std::atomic<std::uint64_t> in_flight_{0};

    std::mutex mutex_;
    std::map<std::pair<std::string, std::string>, std::uint64_t> inside_;  // by account and model
    mishap_rates mishaps_;
};

}  // namespace qwen::simulated
