// SPDX-License-Identifier: MIT
//
// What answers consist of: the body of a completion, errors, and the headers that the gateway adds.
#pragma once

#include <cstdint>
#include <string>

#include "exchange.hpp"
#include "server_clock.hpp"
#include "simulator_settings.hpp"

namespace httplib {
struct Response;
}

namespace qwen::simulated {

/// JSON, in the dialect of the call. With a soft failure its text is the sentence of burst protection.
[[nodiscard]] std::string completion_body(completion_call&, std::int64_t created_s);

/// The answer is an error: its status, body and Retry-After, which the record gets too.
void set_problem(httplib::Response&, problem const&, exchange&, simulator_settings const&);

/// The status must be set.
void set_gateway_headers(httplib::Response&, request_record const&, server_clock const&);

}  // namespace qwen::simulated
