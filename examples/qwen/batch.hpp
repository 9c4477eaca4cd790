// SPDX-License-Identifier: MIT
//
// Batches in the JSONL of OpenAI's batch API: what to ask, and what was answered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "line_file.hpp"

namespace qwen {

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

}  // namespace qwen
