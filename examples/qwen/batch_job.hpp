// SPDX-License-Identifier: MIT
//
// What qwen_demo is asked to do with a batch: the batch, where it goes, the limits, and which requests are left.
#pragma once

#include <weir/llm/quota.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "batch.hpp"
#include "demo_options.hpp"
#include "journal.hpp"
#include "line_file.hpp"

namespace qwen::demo {

struct batch_job {
    /// Reads the batch, and completes the settings from the environment. Throws usage_error and batch_error.
    explicit batch_job(settings s);

    settings options;
    bool simulated = false;  ///< it goes to a simulator in this process
    qwen::batch batch;
    weir::llm::quota quota;
    std::chrono::nanoseconds jitter{};  ///< J, in the server's time
    std::vector<std::size_t> todo;      ///< indices of the requests that are to be sent; at first all
};

/// The files of a run: answers, errors, and the journal of what the quota was charged.
struct batch_files {
    line_file out, errors;
    qwen::journal journal;

    /// Closes them, and removes a file of errors that is empty. Throws batch_error.
    void close();
};

/// Opens the files of the job. Chooses the names that its options leave open, and takes what is answered already off
/// job.todo. Throws usage_error and batch_error.
[[nodiscard]] batch_files open_files(batch_job&);

}  // namespace qwen::demo
