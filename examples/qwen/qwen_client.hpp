// SPDX-License-Identifier: MIT
//
// A client for chat completions in the OpenAI dialect, on libcurl: many requests in flight on one thread, over connections that stay
// open. Before each send it asks a limiter_adapter; adapter.hpp is the one for weir, and the part to copy into one's own client.
#pragma once

#include <weir/backoff.hpp>
#include <weir/quota.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace qwen {

using steady_time = std::chrono::steady_clock::time_point;

/// What ends a run and not only a call: an endpoint that cannot be reached, a key that is not accepted.
struct client_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The number of a call, chosen by whoever submits it. Its retries keep it.
using call_id = std::uint64_t;

struct chat_call {
    call_id id = 0;
    std::string body;    ///< JSON, with max_tokens
    weir::tokens bound;  ///< what it may use at most: the estimate of its input, and max_tokens
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
    std::string code,
        message;  ///< of the error, in any of the vendor's shapes; of the transport's failure if status is 0
    qwen::charge charge = charge::unknown;
    weir::tokens bound, usage;
    bool connected = true;  ///< false: there was no connection
    [[nodiscard]] bool answered() const noexcept { return status == 200; }
};

/// An answer to "may this call go now?"
struct admission {
    enum class kind { now, later, never } what = kind::now;
    steady_time ask_at{};    ///< later: when to ask again; the client also asks again whenever a call has ended
    std::string_view limit;  ///< the limit that denied it

    static admission go() { return {}; }
    static admission not_before(steady_time t, std::string_view by) { return {kind::later, t, by}; }
    static admission impossible(std::string_view by) { return {kind::never, {}, by}; }
};

/// Stands between the client and a limiter; all calls come from the client's thread.
class limiter_adapter {
public:
    virtual ~limiter_adapter() = default;
    /// If the answer is to go, the request is sent at once.
    virtual admission admit(call_id, weir::tokens bound) = 0;
    /// Once for each attempt that was let go.
    virtual void ended(attempt const&) = 0;
};

/// Told of what happens, on the client's thread. Nothing of it runs between a stamp and its send.
class call_observer {
public:
    virtual ~call_observer() = default;
    virtual void about_to_send(chat_call const&, std::uint32_t /*number*/) {
    }  ///< before an attempt asks for the first time
    virtual void sent(chat_call const&, std::uint32_t /*number*/, steady_time /*stamp*/) {}
    virtual void waiting(admission const&) {}  ///< the first in line was denied
    virtual void ended(attempt const&, bool /*will_retry*/) {}
    virtual void answered(attempt const&) = 0;  ///< the call is over, with status 200
    virtual void failed(attempt const&) = 0;    ///< the call is over, without
};

struct client_options {
    std::string base_url;  ///< as OpenAI's clients take it, with the version: …/compatible-mode/v1
    std::string key;
    std::chrono::milliseconds connect_timeout{10'000};
    std::chrono::milliseconds timeout{310'000};  ///< of a call: the server gives up at 300 s
    std::size_t in_flight = 0;                   ///< the most calls at once; 0: as many as the limiter grants
    std::size_t spare_connections =
        16;  ///< open ones kept ready beyond those in use, so that connecting delays no arrival
    weir::backoff retry{};
    std::uint64_t seed = 1;  ///< of the jitter in retries
    std::chrono::nanoseconds server_second{
        std::chrono::seconds{1}};          ///< what Retry-After counts in; shorter where time is simulated
    std::chrono::microseconds spin{1500};  ///< how long before a send the client stops sleeping and watches the clock
    /// If more than this has passed between the stamp and the moment at which the request would leave (the machine stalled), it does
    /// not: its permits are given back, and it asks again. Half of J is a good choice; 0: it goes however late.
    std::chrono::nanoseconds stall{0};
    bool send_stamps = false;  ///< X-Weir-Stamp: CLOCK_MONOTONIC in ns at the stamp, for a server on this machine
};

/// DASHSCOPE_BASE_URL and DASHSCOPE_API_KEY, else OPENAI_BASE_URL and OPENAI_API_KEY; empty where absent.
[[nodiscard]] client_options options_from_environment();

/// Sends calls in the order of submission, the first in line waiting for the limiter and the others behind it, retries by `retry` those
/// that a 429, a 5xx or the transport failed; a retry goes through the limiter like any call, and before the line when it is due.
/// Final at once: 400 and other 4xx. Final for the whole run: 401, 403, 404 (the key, the account, the model, the URL), an account in
/// arrears, and an endpoint that stayed unreachable for all retries of a call.
class qwen_client {
public:
    /// Throws client_error if libcurl cannot do what is asked (no TLS, a URL that is none).
    qwen_client(client_options, limiter_adapter&, call_observer&);
    ~qwen_client();
    qwen_client(qwen_client const&) = delete;
    qwen_client& operator=(qwen_client const&) = delete;

    /// Asks the endpoint for its list of models, which costs no quota. Throws client_error if it cannot be reached, or refuses the key.
    void check_endpoint();

    /// From any thread, also from an observer.
    void submit(chat_call);

    /// Sends and receives on the calling thread until every call is over or stop() was called; then what is in flight is abandoned.
    /// Throws client_error, and whatever an observer throws; run() may be called again after neither.
    void run();

    /// From any thread. Not from a signal handler.
    void stop();

    /// On the thread of run(), or after it.
    [[nodiscard]] std::size_t in_flight() const noexcept;

private:
    class impl;
    std::unique_ptr<impl> impl_;
};

}  // namespace qwen
