// SPDX-License-Identifier: MIT
//
// Requests for completions, from admission to the last byte: in one piece or as a stream, with the mishaps that befall
// them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "admission_control.hpp"
#include "errors.hpp"
#include "exchange.hpp"
#include "request_log.hpp"
#include "server_clock.hpp"
#include "simulator_settings.hpp"

namespace httplib {
struct Request;
struct Response;
}  // namespace httplib

namespace qwen::simulated {

/// Thread-safe.
class completions {
public:
    completions(simulator_settings const& s, admission_control& admission, server_clock& clock, request_log& log)
        : settings_{s}, admission_{admission}, clock_{clock}, log_{log} {}

    /// Sets the response, or drops the connection. The request enters the log when it is over.
    void serve(exchange, httplib::Request const&, httplib::Response&);

private:
    using call_ptr = std::shared_ptr<completion_call>;

    [[nodiscard]] std::optional<problem> work(completion_call&);
    void stream(call_ptr const&, httplib::Response&);
    void answer(completion_call&, httplib::Response&);
    void answer_slowly(std::string body, httplib::Response&);
    void end(completion_call&);

    simulator_settings const& settings_;
    admission_control& admission_;
    server_clock& clock_;
    request_log& log_;
};

}  // namespace qwen::simulated
