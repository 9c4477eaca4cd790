// SPDX-License-Identifier: MIT
// All of weir. A program that minds its compile time includes the one header it uses instead.
#pragma once

#if __has_include("all_of.hpp")
#include "all_of.hpp"
#endif
#include "backoff.hpp"
#include "clock.hpp"
#include "coarse_clock.hpp"
#include "decision.hpp"
#include "error.hpp"
#include "gcra.hpp"
#include "leaky_bucket.hpp"
#include "leaky_bucket_queue.hpp"
#include "manual_clock.hpp"
#include "policy.hpp"
#if __has_include("quota.hpp")
#include "quota.hpp"
#endif
#if __has_include("quota_limiter.hpp")
#include "quota_limiter.hpp"
#endif
#include "rate.hpp"
#include "scaled_clock.hpp"
#include "sliding_window_counter.hpp"
#if __has_include("sliding_window_log.hpp")
#include "sliding_window_log.hpp"
#endif
#include "token_bucket.hpp"
#include "tsc_clock.hpp"
#include "version.hpp"
#include "wait_point.hpp"
#if __has_include("waiting_line.hpp")
#include "waiting_line.hpp"
#endif
