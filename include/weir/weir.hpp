// SPDX-License-Identifier: MIT
// All of weir. A program that minds its compile time includes the one header it uses instead.
#pragma once

#if __has_include(<weir/all_of.hpp>)
#include <weir/all_of.hpp>
#endif
#if __has_include(<weir/backoff.hpp>)
#include <weir/backoff.hpp>
#endif
#if __has_include(<weir/clock.hpp>)
#include <weir/clock.hpp>
#endif
#if __has_include(<weir/coarse_clock.hpp>)
#include <weir/coarse_clock.hpp>
#endif
#if __has_include(<weir/decision.hpp>)
#include <weir/decision.hpp>
#endif
#if __has_include(<weir/error.hpp>)
#include <weir/error.hpp>
#endif
#if __has_include(<weir/gcra.hpp>)
#include <weir/gcra.hpp>
#endif
#if __has_include(<weir/leaky_bucket.hpp>)
#include <weir/leaky_bucket.hpp>
#endif
#if __has_include(<weir/leaky_bucket_queue.hpp>)
#include <weir/leaky_bucket_queue.hpp>
#endif
#if __has_include(<weir/manual_clock.hpp>)
#include <weir/manual_clock.hpp>
#endif
#if __has_include(<weir/policy.hpp>)
#include <weir/policy.hpp>
#endif
#if __has_include(<weir/quota.hpp>)
#include <weir/quota.hpp>
#endif
#if __has_include(<weir/quota_limiter.hpp>)
#include <weir/quota_limiter.hpp>
#endif
#if __has_include(<weir/rate.hpp>)
#include <weir/rate.hpp>
#endif
#if __has_include(<weir/scaled_clock.hpp>)
#include <weir/scaled_clock.hpp>
#endif
#if __has_include(<weir/sliding_window_counter.hpp>)
#include <weir/sliding_window_counter.hpp>
#endif
#if __has_include(<weir/sliding_window_log.hpp>)
#include <weir/sliding_window_log.hpp>
#endif
#if __has_include(<weir/token_bucket.hpp>)
#include <weir/token_bucket.hpp>
#endif
#if __has_include(<weir/tsc_clock.hpp>)
#include <weir/tsc_clock.hpp>
#endif
#include <weir/version.hpp>
#if __has_include(<weir/wait_point.hpp>)
#include <weir/wait_point.hpp>
#endif
#if __has_include(<weir/waiting_line.hpp>)
#include <weir/waiting_line.hpp>
#endif
