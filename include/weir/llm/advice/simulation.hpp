// SPDX-License-Identifier: MIT
//
// simulate: what planned calls take through a setup, in time and in money. weir's own quota_limiter, account_pool and
// fallback_chain admit the calls in virtual time, with the jitter margin, the reservations for outputs and the
// resolution of their windows, so the result is what weir would do. Not simulated: refusals (there are none while
// quota_limiter's conditions hold), retries, and the network.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../quota.hpp"
#include "setup.hpp"

namespace weir::inline v0::llm {

/// What bound the throughput at an instant; see simulation_result::share.
enum class constraint : unsigned char {
    rpm,
    rps,
    tpm,
    tps,
    in_flight,  ///< the most calls in flight
    answers,    ///< no call waits; answers are in flight
    idle,       ///< nothing to do
};
inline constexpr std::size_t constraints = 7;

constexpr std::string_view to_string(constraint c) noexcept {
    switch (c) {
        case constraint::rpm: return to_string(limit::rpm);
        case constraint::rps: return to_string(limit::rps);
        case constraint::tpm: return to_string(limit::tpm);
        case constraint::tps: return to_string(limit::tps);
        case constraint::in_flight: return "calls in flight";
        case constraint::answers: return "answers";
        case constraint::idle: break;
    }
    return "idle";
}

/// Requests and tokens within some time.
struct load {
    std::uint64_t requests = 0;
    std::uint64_t tokens = 0;

    friend constexpr bool operator==(load const&, load const&) = default;
};

/// What the calls ask for, whatever is granted.
struct demand {
    std::size_t calls = 0;
    tokens used{};
    std::chrono::nanoseconds span{0};  ///< from the first wanted call to the last
    load peak_minute{};                ///< the most wanted in any minute [t, t + 60 s), answers included
    load peak_second{};
    load per_minute{};  ///< averaged over the span; everything if the span is shorter than a minute
};

/// Where and when one call was served.
struct placement {
    std::chrono::nanoseconds sent{0};  ///< since the first wanted call
    std::chrono::nanoseconds ended{0};
    std::size_t model = 0;
    std::size_t account = 0;
    bool admitted = false;  ///< false: never admitted, and the other fields are zero
};

/// What an account served.
struct account_use {
    std::string model{};
    std::string account{};
    std::size_t calls = 0;
    tokens used{};
    std::uint64_t cost = 0;
};

/// How long calls waited, from wanted to sent.
struct wait_summary {
    std::chrono::nanoseconds median{0};  ///< half of the calls waited at most this long
    std::chrono::nanoseconds p99{0};     ///< 99 of 100 waited at most this long
    std::chrono::nanoseconds longest{0};
    std::chrono::nanoseconds total{0};  ///< the sum over all calls
};

struct simulation_result {
    std::string name{};                    ///< of the setup
    std::chrono::nanoseconds makespan{0};  ///< from the first wanted call until all have been answered or rejected
    wait_summary wait{};
    std::uint64_t cost = 0;  ///< of the tokens used: the sum over the accounts, each rounded up
    tokens used{};
    std::size_t answered = 0;
    std::size_t fallbacks = 0;  ///< calls answered by another model than the first
    /// Calls that no account can ever admit: larger than a limit, or not within twenty years. They delay no other call,
    /// cost nothing, and are in no other figure.
    std::size_t never = 0;
    std::size_t first_never = 0;      ///< the index of the first of them
    std::uint64_t largest_never = 0;  ///< the most tokens that one of them asks for
    /// The most used in any minute. A request and its input count when sent, its output when the answer ends.
    load peak_minute{};
    load peak_second{};
    /// The share of the makespan in which each constraint bound, in thousandths that sum to 1000. An instant is bound
    /// by
    /// - the limit that denies the first call in the queue the longest; if several accounts or models could serve it,
    ///   the limit of the one that could first (fallback_chain::choice::denied_by);
    /// - in_flight, if that call waits only for a call in flight to end;
    /// - answers, if no call waits and some are in flight; idle otherwise.
    ///   The first call tries again when that time has come, and after each answer, which may release tokens.
    std::array<std::uint64_t, constraints> per_mille{};
    std::vector<account_use> use{};  ///< of every account

    std::uint64_t share(constraint c) const noexcept { return per_mille[static_cast<std::size_t>(c)]; }
    /// The share of one of the four limits; of all of them for limit::none.
    std::uint64_t limited(limit by = limit::none) const noexcept {
        switch (by) {
            case limit::rpm: return share(constraint::rpm);
            case limit::rps: return share(constraint::rps);
            case limit::tpm: return share(constraint::tpm);
            case limit::tps: return share(constraint::tps);
            case limit::none: break;
        }
        return share(constraint::rpm) + share(constraint::rps) + share(constraint::tpm) + share(constraint::tps);
    }
};

/// Serves the calls through the setup in the order in which they are wanted, and in their given order where that is the
/// same. Deterministic. If `schedule` is given, it receives the placement of each call. Errors of validate(calls) and
/// setup::validate. O(n · (log n + accounts · segments)), 10 to 50 µs a call.
inline simulation_result simulate(std::span<planned_call const> calls, setup const& s,
                                  std::vector<placement>* schedule = nullptr);

/// What the calls ask for. Errors of validate(calls). O(n log n).
inline demand demand_of(std::span<planned_call const> calls);

}  // namespace weir::inline v0::llm

#include "detail/simulation_run.hpp"  // defines simulate and demand_of
