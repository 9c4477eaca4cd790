// SPDX-License-Identifier: MIT
//
// An answer in pieces, as server-sent events: which they are, when each is due, and how much of the output has been
// made by then.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "chance.hpp"
#include "errors.hpp"
#include "faults.hpp"

namespace qwen::simulated {

struct stream_facts {
    dialect speaks = dialect::compatible;
    std::string_view request_id, model;
    std::int64_t created_s = 0;              ///< epoch
    std::uint64_t input = 0, output = 0;     ///< tokens
    bool limited = false;                    ///< the output ends because max_tokens were made
    bool include_usage = false;              ///< compatible mode: one more chunk, with the usage
    bool incremental = false;                ///< native mode: each event has the new text, not all so far
    std::uint64_t chunk_tokens = 8;          ///< per event, but for the last
    std::int64_t first_ns = 0, last_ns = 0;  ///< of the first and the last token, from the arrival
    mishap befalls = mishap::none;
    std::int64_t slow_ns = 0;  ///< by how much a slow body is late in the end
};

struct stream_event {
    std::int64_t due_ns = 0;        ///< from the arrival
    std::uint64_t tokens_made = 0;  ///< of the output, with this event
    std::string text;
    bool breaks_off = false;  ///< after it the connection is closed, before the body is complete
};

/// At least one.
[[nodiscard]] std::vector<stream_event> stream_events(stream_facts const&, chance&);

}  // namespace qwen::simulated
