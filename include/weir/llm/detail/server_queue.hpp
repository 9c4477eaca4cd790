// SPDX-License-Identifier: MIT
//
// The server's own queue: DashScope holds a request that burst protection would refuse, for as long as the request header
// X-DashScope-Wait-Timeout says, and answers later. The client's timeout has to grow by as much, or it hangs up on the queue.
#pragma once

#include <algorithm>
#include <chrono>
#include <string_view>

#include "../../clock/clock.hpp"

namespace weir::inline v0::llm {

/// What to put into a request so that the server queues it, and how long to wait for the answer then.
struct server_queue {
    static constexpr std::string_view header = "X-DashScope-Wait-Timeout";
    static constexpr std::chrono::seconds least{1};
    static constexpr std::chrono::seconds most{120};

    std::chrono::seconds wait{0};         ///< the header's value; 0: leave the header out
    std::chrono::nanoseconds timeout{0};  ///< the client's, for the whole answer, or for the first byte of a stream

    /// `asked` of zero or less: no queue, and the timeout as it was; else within 1 to 120 s, and the timeout grows by what is sent. A timeout
    /// of zero or less means that there is none, and stays. It helps against burst protection only, not against quotas.
    static constexpr server_queue ask(std::chrono::seconds asked, std::chrono::nanoseconds timeout) noexcept {
        if (asked <= asked.zero()) return {std::chrono::seconds{0}, timeout};
        auto const wait = std::clamp(asked, least, most);
        if (timeout <= timeout.zero()) return {wait, timeout};
        return {wait, std::chrono::nanoseconds{
                          weir::detail::saturating_add(timeout.count(), std::chrono::nanoseconds{wait}.count())}};
    }
};

}  // namespace weir::inline v0::llm
