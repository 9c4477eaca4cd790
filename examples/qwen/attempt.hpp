// SPDX-License-Identifier: MIT
//
// A call, one attempt to have it answered, and what the answer says.
#pragma once

#include <weir/llm/estimate.hpp>
#include <weir/llm/quota.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qwen {

using steady_time = std::chrono::steady_clock::time_point;

/// The number of a call, chosen by the caller that submits it. Its retries keep it.
using call_id = std::uint64_t;

struct chat_call {
    call_id id = 0;
    std::string body;  ///< JSON, with max_tokens; begins with {"model":"…" where a driver may choose another model
    /// What it may use at most: the estimate of its input, and max_tokens. 0: a driver estimates it from `size`.
    weir::llm::tokens bound{};
    weir::llm::text_size size{};  ///< of its texts
};

/// What the server has charged for an attempt, as far as the client can know.
enum class charge {
    nothing,  ///< the request certainly never left
    request,  ///< refused at the gate: a request at most, no tokens
    used,     ///< `usage` says how many tokens
    bound,    ///< answered without saying: the bound at most
    unknown,  ///< it left, and no answer came: the server may still be working on it
};

/// One attempt, when it is over.
struct attempt {
    call_id id = 0;
    std::uint32_t number = 0;  ///< 0: the first, 1: the first retry
    steady_time stamp, done;   ///< taken just before the send; when the answer had been read
    int status = 0;            ///< of HTTP; 0: no answer
    std::string body, request_id;
    std::string headers;  ///< of the answer, a line each
    /// Of the error, in any of the vendor's shapes; of the transport's failure if status is 0; of a 200 that is no
    /// answer.
    std::string code, message;
    qwen::charge charge = charge::unknown;
    weir::llm::tokens bound, usage;
    bool connected = true;   ///< false: there was no connection
    bool cancelled = false;  ///< not sent after all, since it would have left too late (client_options::stall)
    std::string model{};     ///< that was asked, where the driver chose
    /// A header of the answer, by its name in lower case.
    [[nodiscard]] std::optional<std::string_view> header(std::string_view name) const;
    [[nodiscard]] bool answered() const noexcept { return status == 200 && code.empty(); }
};

/// Reads the body and the headers of an answer: fills in its id, the error or the usage, and the charge.
void read_answer(attempt&);

}  // namespace qwen
