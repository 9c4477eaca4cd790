// SPDX-License-Identifier: MIT
//
// How many connections of a client are open and unused, and whether it should open more.
#pragma once

#include <algorithm>
#include <cstddef>

#include "qwen_client.hpp"

namespace qwen {

class connection_count {
public:
    explicit connection_count(client_options const& o)
        : spares_{std::max<std::size_t>(o.spare_connections, 1)}, in_flight_{o.in_flight} {}

    // --- sockets, as libcurl opens and closes them ---
    void socket_opened() noexcept { ++open_; }
    void socket_closed() noexcept { --open_; }

    // --- calls ---
    void call_began() noexcept { ++busy_; }
    void call_ended() noexcept { --busy_; }
    [[nodiscard]] std::size_t busy() const noexcept { return busy_; }

    // --- spare connections: requests that only open one ---
    void spare_began() noexcept { ++opening_; }
    void spare_got_socket() noexcept { ++opening_with_socket_; }
    void spare_ended(bool had_socket) noexcept {
        --opening_;
        if (had_socket) --opening_with_socket_;
    }
    /// After spare_ended. Three in a row that did not stay open: the server closes each, and no more are opened.
    void spare_answered(bool well) noexcept {
        barren_ = well && idle() > 0 ? 0 : barren_ + 1;
        if (barren_ >= 3) keep_no_spares();
    }
    /// Also for HTTP/2, where one connection carries many calls.
    void keep_no_spares() noexcept { keeps_spares_ = false; }

    /// With so many calls that wait.
    [[nodiscard]] bool wants_spare(std::size_t waiting) const noexcept {
        if (!keeps_spares_) return false;
        auto wanted = std::min(spares_, waiting);
        if (in_flight_ != 0) wanted = std::min(wanted, in_flight_ - std::min(in_flight_, busy_));
        return idle() + opening_ < wanted;
    }
    /// All that are wanted have been begun.
    void spares_begun() noexcept { first_set_open_ = first_set_open_ || opening_ == 0; }

    /// Whether a call can leave now without having to connect.
    [[nodiscard]] bool ready() const noexcept { return !keeps_spares_ || (first_set_open_ && idle() > 0); }

private:
    // Open, and used by no call.
    [[nodiscard]] std::size_t idle() const noexcept {
        auto const taken = busy_ + opening_with_socket_;
        return open_ > taken ? open_ - taken : 0;
    }

    std::size_t spares_, in_flight_;
    std::size_t open_ = 0, busy_ = 0;
    std::size_t opening_ = 0, opening_with_socket_ = 0;  // spare connections on their way
    unsigned barren_ = 0;                                // spare connections in a row that did not stay open
    bool keeps_spares_ = true, first_set_open_ = false;
};

}  // namespace qwen
