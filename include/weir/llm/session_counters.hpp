// SPDX-License-Identifier: MIT
//
// session_counters: what a session counts, for whatever library exports it: names, labels and values, no dependency.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "../atomics.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

/// One value as it is exported. The names and label values are static text; units are in the name, as Prometheus
/// expects.
struct metric {
    std::string_view name;
    std::string_view label;  ///< the label's name; empty: none
    std::string_view label_value;
    std::string_view help;
    bool monotonic;  ///< a counter; else a gauge
    std::uint64_t value;
};

/// What is counted.
enum class counted_event : unsigned char {
    calls,           ///< that began
    answered,        ///< calls that ended with an answer
    failed,          ///< calls that ended without one
    attempts,        ///< requests that were granted
    retries,         ///< requests that repeat an earlier one
    moved,           ///< times that another account or model was asked
    answered_below,  ///< calls answered by a model that is not the first of the chain
    cancelled,       ///< requests that were granted and not sent
    waits,           ///< attempts that waited for a limit
    waited_ns,       ///< the time that attempts waited
    input_tokens,    ///< as answers reported them
    output_tokens,   ///< likewise
    ended_attempts,  ///< attempts whose end was reported
};

/// Shared by all threads. Every access is relaxed: each value is exact, and values read together may be of slightly
/// different times.
template <class Atomics = std_atomics>
class alignas(weir::detail::cache_line) session_counters {
public:
    void add(counted_event e, std::uint64_t n = 1) noexcept {
        events_[static_cast<std::size_t>(e)].fetch_add(n, std::memory_order_relaxed);
    }
    void refused(cause c) noexcept { refusals_[static_cast<std::size_t>(c)].fetch_add(1, std::memory_order_relaxed); }

    std::uint64_t operator[](counted_event e) const noexcept {
        return events_[static_cast<std::size_t>(e)].load(std::memory_order_relaxed);
    }
    std::uint64_t refusals(cause c) const noexcept {
        return refusals_[static_cast<std::size_t>(c)].load(std::memory_order_relaxed);
    }
    /// Attempts whose end was not reported yet.
    std::uint64_t in_flight() const noexcept {
        std::uint64_t const ended = (*this)[counted_event::ended_attempts];  // first: an attempt ends after it begins
        std::uint64_t const begun = (*this)[counted_event::attempts];
        return begun > ended ? begun - ended : 0;
    }

    /// Calls f(metric) for each value. A cause that no refusal had is left out.
    template <class F>
    void visit(F&& f) const {
        using enum counted_event;
        auto const counter = [&](counted_event e, std::string_view name, std::string_view help) {
            f(metric{name, {}, {}, help, true, (*this)[e]});
        };
        counter(calls, "weir_calls_total", "Calls that began");
        counter(answered, "weir_calls_answered_total", "Calls that ended with an answer");
        counter(failed, "weir_calls_failed_total", "Calls that ended without an answer");
        counter(attempts, "weir_attempts_total", "Requests granted");
        counter(retries, "weir_retries_total", "Requests that repeat an earlier one");
        counter(moved, "weir_moves_total", "Times that another account or model was asked");
        counter(answered_below, "weir_answered_by_fallback_total", "Calls answered by a model that is not the first");
        counter(cancelled, "weir_cancelled_total", "Requests granted and not sent");
        counter(waits, "weir_waits_total", "Attempts that waited for a limit");
        counter(waited_ns, "weir_waited_nanoseconds_total", "Time that attempts waited, for limits and after failures");
        counter(input_tokens, "weir_input_tokens_total", "Input tokens as reported");
        counter(output_tokens, "weir_output_tokens_total", "Output tokens as reported");
        f(metric{"weir_in_flight", {}, {}, "Requests in flight", false, in_flight()});
        for (std::size_t c = 1; c < causes; ++c) {
            auto const n = refusals_[c].load(std::memory_order_relaxed);
            if (n == 0) continue;
            f(metric{"weir_refusals_total", "cause", to_string(static_cast<cause>(c)), "Attempts that failed, by cause",
                     true, n});
        }
    }

private:
    static constexpr std::size_t causes = static_cast<std::size_t>(cause::unknown) + 1;
    static constexpr std::size_t events = static_cast<std::size_t>(counted_event::ended_attempts) + 1;

    std::array<typename Atomics::template atomic<std::uint64_t>, events> events_{};
    std::array<typename Atomics::template atomic<std::uint64_t>, causes> refusals_{};
};

}  // namespace weir::inline v0::llm
