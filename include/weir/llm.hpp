// SPDX-License-Identifier: MIT
//
// What an LLM client needs beside its limiter: verdicts on failures, hints from headers, a budget of retries, token counts without
// a tokenizer, several accounts as one, a chain of models to fall back to, and a session that ties them together. Text in, decisions out:
// no HTTP and no JSON library appears, and each header is usable alone.
#pragma once

#include "llm/absence.hpp"
#include "llm/account_lane.hpp"
#include "llm/account_pool.hpp"
#include "llm/adaptive.hpp"
#include "llm/advice.hpp"
#include "llm/advice_text.hpp"
#include "llm/arrival_window.hpp"
#include "llm/async_run.hpp"
#include "llm/concurrency.hpp"
#include "llm/dialect.hpp"
#include "llm/error_body.hpp"
#include "llm/estimate.hpp"
#include "llm/fallback_chain.hpp"
#include "llm/headers.hpp"
#include "llm/hints.hpp"
#include "llm/limit_feed.hpp"
#include "llm/margin.hpp"
#include "llm/quantile.hpp"
#include "llm/ramp.hpp"
#include "llm/retry_budget.hpp"
#include "llm/server_queue.hpp"
#include "llm/session.hpp"
#include "llm/session_counters.hpp"
#include "llm/session_options.hpp"
#include "llm/session_reply.hpp"
#include "llm/time_text.hpp"
#include "llm/verdict.hpp"
