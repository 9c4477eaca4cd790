// SPDX-License-Identifier: MIT
//
// qwen_demo with a batch: sends it, to the simulator or to an endpoint, and reports.
#pragma once

#include "demo_options.hpp"
#include "display.hpp"

namespace qwen::demo {

/// The exit status. Throws usage_error and batch_error.
int run_batch(settings s, interruption& i);

}  // namespace qwen::demo
