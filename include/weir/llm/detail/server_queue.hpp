// SPDX-License-Identifier: MIT
//
// server_queue: DashScope can hold a request that burst protection would refuse, for as long as the request header
// X-DashScope-Wait-Timeout says. The client's timeout must grow by the same time, or the client hangs up while queued.
#pragma once

#include <algorithm>
#include <chrono>
#include <string_view>

#include "../../clock/clock.hpp"

namespace weir::inline v0::llm {

/// The header that asks the server to queue a request, and the client's timeout to go with it.
struct server_queue {
    static constexpr std::string_view header = "X-DashScope-Wait-Timeout";
    static constexpr std::chrono::seconds min_wait{1};
    static constexpr std::chrono::seconds max_wait{120};

    std::chrono::seconds wait{0};         ///< the header's value; 0: send no header
    std::chrono::nanoseconds timeout{0};  ///< of the client, for the whole answer or for the first byte of a stream

    /// If `asked` is positive, it is clamped to 1 to 120 s and the timeout grows by the result; otherwise there is no
    /// queue and the timeout is unchanged. A timeout that is not positive means none, and is unchanged. The queue helps
    /// against burst protection, not against quotas.
    static constexpr server_queue ask(std::chrono::seconds asked, std::chrono::nanoseconds timeout) noexcept {
        if (asked <= asked.zero()) return {std::chrono::seconds{0}, timeout};
        auto const wait = std::clamp(asked, min_wait, max_wait);
        if (timeout <= timeout.zero()) return {wait, timeout};
        return {wait, std::chrono::nanoseconds{
                          weir::detail::saturating_add(timeout.count(), std::chrono::nanoseconds{wait}.count())}};
    }
};

}  // namespace weir::inline v0::llm
