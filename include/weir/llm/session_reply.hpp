// SPDX-License-Identifier: MIT
//
// session_reply: what is said of a call: what came of an attempt, what it was charged, what to do next, how it ended.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "quota.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

template <class Pool, std::size_t Classes>
class session;

/// What came of an attempt. The views need only live until `ended` returns.
struct reply {
    llm::answer answer{};          ///< `answer.now` of 0: the system clock is read
    std::optional<tokens> used{};  ///< as reported; without it an answer is charged at its bound
    std::uint64_t cached = 0;      ///< of the input, see usage_weights
    bool sent = true;              ///< false: the request certainly never left; it is refunded whole
    /// Not sent, by the caller's choice (it was too late, say): no failure. The call asks again, behind the calls that
    /// wait. Implies !sent.
    bool cancelled = false;
    bool delivered = false;  ///< part of the answer was handed on: the request is not sent again
    std::optional<std::chrono::nanoseconds> arrived{};  ///< the server's stamp of the request, by its clock
    std::chrono::nanoseconds took{};                    ///< as the server reports; 0: it does not
};

/// What an attempt cost.
enum class charged_as : unsigned char {
    nothing,       ///< it was refunded whole
    request,       ///< a request, and no tokens: refused at the gate
    used,          ///< a request, and the tokens that were reported
    max_estimate,  ///< a request, and all the tokens that it might have used
    reserved,      ///< likewise, until the server has certainly given up
};

/// What call::ended returns, and what a sender returns in turn: the session has been told what came of the attempt.
/// Only a call can make one.
class ended_attempt {
public:
    constexpr charged_as charged() const noexcept { return charged_; }
    /// Whether the call is over; else it will be sent again.
    constexpr bool over() const noexcept { return over_; }

private:
    template <class, std::size_t>
    friend class session;
    constexpr ended_attempt(charged_as charged, bool over) noexcept : charged_{charged}, over_{over} {}

    charged_as charged_;
    bool over_;
};

/// How a call ended.
enum class call_end : unsigned char {
    open,  ///< it has not
    answered,
    refused,     ///< the verdict says that no retry helps
    exhausted,   ///< retried as often, or as long, as the backoff allows
    budget,      ///< the shared budget of retries is spent
    deadline,    ///< its deadline has passed, or would before it could be served
    never,       ///< it asks for more than any limit can ever grant
    partial,     ///< the answer broke off after a part of it was handed on
    lost,        ///< it was sent, no answer came, and it must not be repeated
    stopped,     ///< the stop token, or give_up
    queue_full,  ///< too many calls wait
    closed,      ///< the session was closed
};

constexpr std::string_view to_string(call_end e) noexcept {
    switch (e) {
        case call_end::open: return "open";
        case call_end::answered: return "answered";
        case call_end::refused: return "refused";
        case call_end::exhausted: return "retries exhausted";
        case call_end::budget: return "the retry budget is spent";
        case call_end::deadline: return "the deadline came first";
        case call_end::never: return "more than the limit can ever grant";
        case call_end::partial: return "the answer broke off after a part of it was handed on";
        case call_end::lost: return "it was sent, no answer came, and it must not be repeated";
        case call_end::stopped: return "stopped";
        case call_end::queue_full: return "too many calls wait";
        case call_end::closed: return "the session was closed";
    }
    return "open";
}

/// What a call is to do now.
enum class step_kind : unsigned char {
    send,   ///< its attempt is granted, and its stamp is now: send it at once, then report by ended()
    wait,   ///< until `until`; the end of any call may make it sooner
    pause,  ///< until `until`, after a failure; nothing makes it sooner, and it needs no place in the queue
    over,
};

}  // namespace weir::inline v0::llm
