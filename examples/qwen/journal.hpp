// SPDX-License-Identifier: MIT
//
// The journal of a run, from which a later run goes on without sending more than the quota allows.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "line_file.hpp"

namespace qwen {

/// Times on the wall clock, in nanoseconds since the epoch, since they must survive the process.
using wall_ns = std::int64_t;
[[nodiscard]] wall_ns wall_now() noexcept;

/// A call that an earlier process made. Without `finished` it was in flight when that process ended, as far as is
/// known.
struct journal_call {
    wall_ns sent = 0;
    std::uint64_t input = 0, output = 0;  ///< as charged: the bound while in flight, then what was used
    std::optional<wall_ns> finished;
};

/// The sidecar of an output file: what was sent when, and what it used. Nothing is written between a stamp and its
/// send, which would delay the arrival: a line *before* the attempt says that a call is about to go, one after it
/// says when it went.
class journal {
public:
    journal() = default;
    /// Reads what is there, keeps the calls that were sent or finished within `horizon` before now, and goes on
    /// writing. Throws batch_error.
    journal(std::string const& path, std::chrono::nanoseconds horizon);

    [[nodiscard]] bool is_open() const noexcept { return file_.is_open(); }
    /// What earlier processes sent. A call that was about to go when the process ended counts as sent now.
    [[nodiscard]] std::vector<journal_call> const& past() const noexcept { return past_; }

    /// Each returns or takes the number of the call, unique within the file.
    std::uint64_t about_to_send(std::uint64_t input, std::uint64_t output_bound);
    void sent(std::uint64_t call, wall_ns stamp);
    void finished(std::uint64_t call, std::uint64_t input, std::uint64_t output);
    void never_left(std::uint64_t call);
    void close() { file_.close(); }

private:
    void write_done(std::uint64_t call, wall_ns at, std::uint64_t input, std::uint64_t output);

    line_file file_;
    std::uint64_t next_ = 1;
    std::vector<journal_call> past_;
};

}  // namespace qwen
