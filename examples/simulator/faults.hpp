// SPDX-License-Identifier: MIT
//
// What can befall an exchange besides an honest refusal: a connection that breaks, a body that is not what it should
// be.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "chance.hpp"

namespace qwen {

enum class mishap {
    none,
    dropped_before,   ///< the connection is closed before anything is counted
    dropped_after,    ///< the call runs and is counted, then the connection is closed without an answer
    truncated_body,   ///< half of the body, then the connection is closed
    garbage_body,     ///< 200 and a body that is no JSON; in a stream one event
    slow_body,        ///< the body takes `slow_body_s` of simulated time to arrive
    midstream_error,  ///< a stream breaks off with a 429 of the token limit in it
    soft_failure,     ///< 200 whose text is the sentence of burst protection, usage zero
    client_left,      ///< not drawn: the client closed a stream, or left the queue
    server_stopped,   ///< not drawn
};
[[nodiscard]] std::string_view to_string(mishap) noexcept;
/// Of those that can be drawn.
[[nodiscard]] std::optional<mishap> mishap_named(std::string_view) noexcept;

/// Shares of the requests, by seed; the first that strikes counts. The midstream error strikes streams only.
struct mishap_rates {
    double dropped_before = 0, dropped_after = 0, truncated_body = 0, garbage_body = 0, slow_body = 0,
           midstream_429_rate = 0, soft_failure_rate = 0;
};

namespace simulated {

/// Throws std::invalid_argument where a rate is not within 0 ... 1.
void check(mishap_rates const&);
[[nodiscard]] mishap draw(mishap_rates const&, bool stream, chance&);
/// Bytes that no JSON parser takes, none of them a line's end.
[[nodiscard]] std::string garbage(std::size_t size, chance&);

}  // namespace simulated
}  // namespace qwen
