// SPDX-License-Identifier: MIT
//
// The world of a scenario: a simulator, clients that send to it over HTTP, and what came of them.
#pragma once

#include <weir/llm/dialect.hpp>
#include <weir/llm/quota.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/llm/session.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../simulator/simulator.hpp"
#include "scenarios.hpp"

namespace qwen {

inline constexpr weir::llm::quota qwen3_max{.rpm = 600, .rps = 10, .tpm = 1'000'000};
inline constexpr char max_name[] = "qwen3-max", plus_name[] = "qwen-plus";

/// A call: its tokens as they are, and as the client bounds them.
struct scenario_call {
    std::uint64_t input = 50, output = 20, bound = 30;
    bool says_max_tokens = true;  ///< else the server answers as long as it likes
};

/// A key of a client, with the limits that the client assumes for its account.
struct client_key {
    std::string account, key;
    weir::llm::quota limits = qwen3_max;
};
struct client_model {
    std::string model;
    std::vector<client_key> keys;
};

/// A client, as one process: it knows its own quota, and nothing of others.
struct client_plan {
    std::vector<client_model> models;  ///< the first, then its fallbacks
    weir::llm::session_options session{};
    weir::llm::quota_options quota{};
    weir::llm::dialect dialect = weir::llm::dialect::dashscope;
    /// One request in four is delayed between stamp and send, by a time drawn up to this, of the server's clock.
    std::chrono::nanoseconds delays{0};
    std::vector<scenario_call> calls;
};

class scenario_world {
public:
    explicit scenario_world(scenario_options const&);

    /// A new client with `calls` calls like `each`.
    client_plan& client(std::vector<client_model> models, std::size_t calls, scenario_call each = {});
    /// A change of runtime_changes.hpp.
    void change(std::chrono::seconds at, std::string name, std::string json);

    /// Runs all clients at once, until their last call is over. Once.
    [[nodiscard]] scenario_result run();

    // --- after run ---
    /// Requests that the server saw between two times after the first send, in seconds; of `status`, or of all (0).
    [[nodiscard]] std::size_t seen(double from, double until, int status = 0) const;
    /// Seconds from the first send to the arrival.
    [[nodiscard]] double since_first_send(request_record const&) const;

    simulator_settings server{};
    bool answers_are_lost = false;  ///< on their way, so that the server makes more of them than arrive
    std::vector<request_record> requests{};

private:
    scenario_options const& options_;
    std::vector<client_plan> clients_{};
    double first_send_ = 0;  // seconds of the server's clock
};

}  // namespace qwen
