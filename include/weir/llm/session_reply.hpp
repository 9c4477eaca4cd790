// SPDX-License-Identifier: MIT
//
// What is said of a call: what came of an attempt, what that was charged, what is to be done next, how it ended.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string_view>

#include "quota.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

/// What came of an attempt. The views need only live until `ended` returns.
struct reply {
    llm::answer answer{};          ///< `answer.now` of 0: the system clock is asked
    std::optional<tokens> used{};  ///< as reported; without it an answer is charged with its bound
    std::uint64_t cached = 0;      ///< of the input, see usage_weights
    bool left = true;              ///< false: the request certainly never left; it is given back whole
    bool withdrawn =
        false;  ///< not sent, by the caller's choice (it was late, say): no failure, it asks again, behind those who wait; implies !left
    bool delivered = false;                             ///< part of the answer was handed on: it is not asked for again
    std::optional<std::chrono::nanoseconds> arrived{};  ///< the server's stamp of the request, by its clock
    std::chrono::nanoseconds took{};                    ///< as the server says; 0: it does not
};

/// What an attempt cost.
enum class charged_as : unsigned char {
    nothing,       ///< it was given back whole
    request,       ///< a request, and no tokens: refused at the gate
    used,          ///< a request, and the tokens that were reported
    max_estimate,  ///< a request, and all the tokens that it might have used
    reserved,      ///< likewise, until the server has certainly given up
};

/// How a call ended.
enum class call_end : unsigned char {
    open,  ///< it has not
    answered,
    refused,    ///< the verdict says that no retry helps
    exhausted,  ///< retried as often, or as long, as the backoff allows
    budget,     ///< the shared budget of retries is spent
    deadline,   ///< its time is over, or would be before it could be served
    never,      ///< it asks for more than any limit can ever admit
    partial,    ///< the answer broke off after a part of it was handed on
    lost,       ///< it left, no answer came, and it must not be repeated
    stopped,
    line_full,
};

constexpr std::string_view to_string(call_end e) noexcept {
    switch (e) {
        case call_end::open: return "open";
        case call_end::answered: return "answered";
        case call_end::refused: return "refused";
        case call_end::exhausted: return "retried in vain";
        case call_end::budget: return "the budget of retries is spent";
        case call_end::deadline: return "the deadline came first";
        case call_end::never: return "more than the limit can ever admit";
        case call_end::partial: return "the answer broke off after a part of it was handed on";
        case call_end::lost: return "it left, no answer came, and it must not be repeated";
        case call_end::stopped: return "stopped";
        case call_end::line_full: return "too many are waiting";
    }
    return "open";
}

/// What a call is to do now.
enum class step_kind : unsigned char {
    send,   ///< its attempt is granted, and its stamp is now: send it at once, then say what came of it
    wait,   ///< until `until`; an end of any call may make it sooner
    pause,  ///< until `until`, after a failure; nothing makes it sooner, and it needs no place in line
    over,
};

}  // namespace weir::inline v0::llm
