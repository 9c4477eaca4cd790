// SPDX-License-Identifier: MIT
//
// Batches in the JSONL of OpenAI's batch API: what to ask, what was answered, and the journal from which a run that
// was cut off goes on without sending more than the quota allows.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace qwen {

/// Something the user can mend: the text names the file, the line where there is one, and the cause.
struct batch_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// One line of a batch, ready to send.
struct batch_item {
    std::size_t line = 0;  ///< in its file, from 1
    std::string custom_id;
    std::string body;                ///< JSON; max_tokens is always there
    std::uint64_t input_tokens = 0;  ///< an upper bound on what the server will count for the prompt
    std::uint64_t max_tokens = 0;    ///< of the answer
};

struct batch {
    std::string path, url, model;
    std::vector<batch_item> items;
};

struct read_options {
    std::uint64_t default_max_tokens = 1024;  ///< for lines that have no max_tokens: the output would be unbounded
    std::string model{};                      ///< if not empty, replaces the model of every line
    std::size_t first = 0;                    ///< read only so many requests; 0: all
};

/// {"custom_id", "method": "POST", "url": "/v1/chat/completions", "body": {…}} on each line; empty lines are skipped.
/// The vendor's rules hold: unique custom_id, one model and one url per file, at most 50,000 requests, lines of at
/// most 6 MiB. Throws batch_error at the first fault: "FILE:LINE: what".
[[nodiscard]] batch read_batch(std::string const& path, read_options const& = {});

/// The estimate of the tokens in `body`, a chat request as JSON: ceil(ASCII / 3) + one for each CJK character + half
/// the bytes of other scripts, 4 for each message and 3. A body that knows better says so in "metadata":
/// {"input_tokens": "1234"} (a string, as the API wants them there).
[[nodiscard]] std::uint64_t estimate_input_tokens(std::string_view body);

/// A file that is appended to line by line. Each line is written by one call of the system, so a line that was
/// reported as written survives the end of this process.
class line_file {
public:
    line_file() = default;
    /// Opens for appending; truncates first if asked. Throws batch_error with the cause.
    line_file(std::string path, bool truncate);
    line_file(line_file&&) noexcept;
    line_file& operator=(line_file&&) noexcept;
    ~line_file();

    [[nodiscard]] bool is_open() const noexcept { return fd_ >= 0; }
    [[nodiscard]] std::string const& path() const noexcept { return path_; }
    /// Throws batch_error ("FILE: No space left on device"). What was written of the line is then taken back where
    /// that is possible.
    void append(std::string line);
    /// Reports what the system kept back until now, on filesystems that do. Throws batch_error.
    void close();
    /// Takes the place of the file at `path`, at once. Throws batch_error.
    void rename(std::string const& path);

private:
    int fd_ = -1;
    std::string path_;
};

/// One line of an output or error file: `response` holds the server's answer, if there was one; `error` why there is
/// none.
struct batch_answer {
    std::string custom_id;
    std::uint64_t number = 0;  ///< makes the line's id
    int status = 0;            ///< 0: no answer
    std::string request_id, body;
    std::string error_code, error_message;
};
[[nodiscard]] std::string to_line(batch_answer const&);

/// The custom_ids that an output file already has with status 200. A torn last line, from a process that was killed
/// while writing, is cut off the file. A file that does not exist is empty. Throws batch_error for a line that is not
/// an output line.
[[nodiscard]] std::unordered_set<std::string> finished_ids(std::string const& path);

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
