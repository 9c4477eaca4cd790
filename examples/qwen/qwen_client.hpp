// SPDX-License-Identifier: MIT
//
// A client for chat completions in the OpenAI dialect, on libcurl: many requests in flight on one thread, over
// connections that stay open. Before each send, and after each answer, it asks a call_driver; adapter.hpp is the one
// for weir, and the part to copy into one's own client.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "attempt.hpp"

namespace qwen {

/// What ends a run and not only a call: an endpoint that cannot be reached, a key that is not accepted.
struct client_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Where an attempt goes, if not where the client's options say. Must stay until the attempt has ended.
struct target {
    std::string base_url, key, model;
    std::chrono::seconds server_queue{0};  ///< X-DashScope-Wait-Timeout; the client waits for so much longer
};

/// An answer to "may this call go now?"
struct admission {
    enum class kind { now, later, over } what = kind::now;
    steady_time ask_at{};           ///< later: when to ask again; the client also asks again whenever a call has ended
    std::string_view limit;         ///< later: what denied it
    target const* to = nullptr;     ///< now: null for the client's own
    std::string code, message;      ///< over: why it will not be sent
    bool fatal = false;             ///< over: nor would any other be
    std::optional<attempt> last{};  ///< over: the attempt after which it was known, if there was one

    static admission go(target const* to = nullptr) { return {kind::now, {}, {}, to, {}, {}, false, {}}; }
    static admission not_before(steady_time t, std::string_view by) {
        return {kind::later, t, by, nullptr, {}, {}, false, {}};
    }
    static admission impossible(std::string code, std::string message, bool fatal = false) {
        return {kind::over, {}, {}, nullptr, std::move(code), std::move(message), fatal, {}};
    }
};

/// What follows an attempt.
struct next_step {
    enum class kind { answered, again, failed } what = kind::answered;
    steady_time due{};   ///< again: not before
    bool fatal = false;  ///< failed: so would every other call
    std::string why{};   ///< failed: where there is more to say than the attempt does

    static next_step done() { return {}; }
    static next_step again_at(steady_time t) { return {kind::again, t, false, {}}; }
    static next_step fail(std::string why, bool fatal = false) { return {kind::failed, {}, fatal, std::move(why)}; }
};

/// Decides what the client does; all calls come from the client's thread.
class call_driver {
public:
    virtual ~call_driver() = default;
    /// If the answer is to go, the request is sent at once.
    virtual admission admit(chat_call const&) = 0;
    /// Once for each attempt that was let go. May say more exactly what was charged.
    virtual next_step ended(attempt&) = 0;
};

/// Told of what happens, on the client's thread. Nothing of it runs between a stamp and its send.
class call_observer {
public:
    virtual ~call_observer() = default;
    /// Before an attempt asks for the first time.
    virtual void about_to_send(chat_call const&, std::uint32_t /*number*/) {}
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
    std::size_t spare_connections = 16;    ///< kept open beyond those in use, so that connecting delays no arrival
    std::chrono::microseconds spin{1500};  ///< how long before a send the client stops sleeping and watches the clock
    /// If more than this has passed between the stamp and the moment at which the request would leave (the machine
    /// stalled), it does not: its permits are given back, and it asks again. Half of J is a good choice; 0: it goes
    /// however late.
    std::chrono::nanoseconds stall{0};
    bool send_stamps = false;  ///< X-Weir-Stamp: CLOCK_MONOTONIC in ns at the stamp, for a server on this machine
};

/// DASHSCOPE_BASE_URL and DASHSCOPE_API_KEY, else OPENAI_BASE_URL and OPENAI_API_KEY; empty where absent.
[[nodiscard]] client_options options_from_environment();

/// Sends calls in the order of submission, the first in line waiting for the driver's word and the others behind it,
/// and again those of which the driver says so: a retry asks like any call, and before the line when it is due. A
/// failure that the driver calls fatal ends the run.
class qwen_client {
public:
    /// Throws client_error if libcurl cannot do what is asked (no TLS, a URL that is none).
    qwen_client(client_options, call_driver&, call_observer&);
    ~qwen_client();
    qwen_client(qwen_client const&) = delete;
    qwen_client& operator=(qwen_client const&) = delete;

    /// Asks the endpoint for its list of models, which costs no quota. Throws client_error if it cannot be reached,
    /// or refuses the key.
    void check_endpoint();

    /// From any thread, also from an observer.
    void submit(chat_call);

    /// Sends and receives on the calling thread until every call is over or stop() was called; then what is in flight
    /// is abandoned. Throws client_error, and whatever an observer throws; run() may be called again after neither.
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
