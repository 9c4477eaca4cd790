// SPDX-License-Identifier: MIT
//
// The LLM layer: limits on requests and tokens, verdicts on failures, hints from headers, token counts without a
// tokenizer, several accounts as one, a chain of models to fall back to, and a session that ties them together. Text
// in, decisions out: no HTTP and no JSON library appears, and each header is usable alone. llm/advice/ is separate.
#pragma once

#include "llm/account_pool.hpp"
#include "llm/async_run.hpp"
#include "llm/dialect.hpp"
#include "llm/error_rule.hpp"
#include "llm/estimate.hpp"
#include "llm/fallback_chain.hpp"
#include "llm/header_map.hpp"
#include "llm/header_sync.hpp"
#include "llm/headers.hpp"
#include "llm/hints.hpp"
#include "llm/limit_kind.hpp"
#include "llm/quota.hpp"
#include "llm/quota_limiter.hpp"
#include "llm/session.hpp"
#include "llm/session_counters.hpp"
#include "llm/session_options.hpp"
#include "llm/session_reply.hpp"
#include "llm/text.hpp"
#include "llm/verdict.hpp"
