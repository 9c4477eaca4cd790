// SPDX-License-Identifier: MIT
//
// qwen_demo --advice: prints what would make the batch faster.
#pragma once

#include "batch_job.hpp"
#include "batch_run.hpp"

namespace qwen::demo {

/// From the batch: all calls are wanted at once, and their answers are expected.
void advise_before(batch_job const&);

/// From the answers of the run, in the server's time.
void advise_after(batch_job const&, run_result const&);

}  // namespace qwen::demo
