// SPDX-License-Identifier: MIT
//
// What an LLM client needs beside its limiter: verdicts on failures, hints from headers, a budget of retries. Text in, values out:
// no HTTP and no JSON library appears, and each header is usable alone.
#pragma once

#include "llm/dialect.hpp"
#include "llm/error_body.hpp"
#include "llm/headers.hpp"
#include "llm/hints.hpp"
#include "llm/retry_budget.hpp"
#include "llm/time_text.hpp"
#include "llm/verdict.hpp"
