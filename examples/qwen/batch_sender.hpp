// SPDX-License-Identifier: MIT
//
// Sends a batch once, paced by weir or, for comparison, by what clients do without it.
#pragma once

#include "batch_job.hpp"
#include "batch_run.hpp"
#include "display.hpp"

namespace qwen::demo {

enum class strategy { backoff_only, fixed_interval, weir };

/// Only weir's run writes to the files. Errors that end the run are in the result.
[[nodiscard]] run_result send_batch(batch_job const&, strategy, batch_files&, interruption&);

}  // namespace qwen::demo
