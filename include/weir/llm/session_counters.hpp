// SPDX-License-Identifier: MIT
//
// What a session counts, for whatever library exports it: names, labels and values, no dependency.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "../atomics.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

/// One value as it is exported. The names and label values are static text; units are in the name, as Prometheus wants them.
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
    calls,           ///< that were begun
    answered,        ///< calls that ended with an answer
    failed,          ///< calls that ended without
    attempts,        ///< requests that were let go
    retries,         ///< of them, those that repeat
    moved,           ///< calls that another account or model was asked for
    answered_below,  ///< by a model that is not the first of the chain
    withdrawn,       ///< attempts that were let go and not sent
    waits,           ///< attempts that had to wait for a limit
    waited_ns,       ///< in all
    input_tokens,    ///< as answers reported them
    output_tokens,
    ended_attempts,  ///< whose end was told
};

/// Shared by all threads; a word each, every access relaxed, so that values read together may be of slightly different moments.
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
    /// Attempts whose end is not known yet.
    std::uint64_t in_flight() const noexcept {
        std::uint64_t const ended = (*this)[counted_event::ended_attempts];  // first: an attempt ends after it began
        std::uint64_t const begun = (*this)[counted_event::attempts];
        return begun > ended ? begun - ended : 0;
    }

    /// Calls f(metric) for each value. Refusals of causes that never came are left out.
    template <class F>
    void visit(F&& f) const {
        using enum counted_event;
        auto const counter = [&](counted_event e, std::string_view name, std::string_view help) {
            f(metric{name, {}, {}, help, true, (*this)[e]});
        };
        counter(calls, "weir_calls_total", "Calls begun");
        counter(answered, "weir_calls_answered_total", "Calls that ended with an answer");
        counter(failed, "weir_calls_failed_total", "Calls that ended without an answer");
        counter(attempts, "weir_attempts_total", "Requests let go");
        counter(retries, "weir_retries_total", "Requests that repeat one");
        counter(moved, "weir_moves_total", "Times that another account or model was asked for");
        counter(answered_below, "weir_answered_by_fallback_total", "Calls answered by a model that is not the first");
        counter(withdrawn, "weir_withdrawn_total", "Requests let go and not sent");
        counter(waits, "weir_waits_total", "Attempts that waited for a limit");
        counter(waited_ns, "weir_waited_nanoseconds_total", "Time that attempts waited, for limits and after failures");
        counter(input_tokens, "weir_input_tokens_total", "Input tokens as reported");
        counter(output_tokens, "weir_output_tokens_total", "Output tokens as reported");
        f(metric{"weir_in_flight", {}, {}, "Requests under way", false, in_flight()});
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
