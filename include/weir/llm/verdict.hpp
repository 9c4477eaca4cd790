// SPDX-License-Identifier: MIT
//
// classify(): what an answer means, and what to do next. Takes whatever a client has of the answer. The dialect
// matters, since servers use the same words for opposite things: insufficient_quota is a token throttle at DashScope
// and a billing stop at OpenAI. Sources: the vendors' pages on errors; the rules are in detail/error_words.hpp and
// detail/error_tables.hpp. A body that comes with a good status is read as well: an error in it, or an answer that is
// cut off, is a failure.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "../detail/text.hpp"
#include "detail/error_body.hpp"
#include "detail/message_text.hpp"
#include "dialect.hpp"
#include "error_rule.hpp"
#include "headers.hpp"
#include "hints.hpp"

namespace weir::inline v0::llm {

/// What a client has of an answer. Every field may be absent.
struct answer {
    llm::dialect dialect = llm::dialect::http;
    std::optional<int> status{};
    llm::headers headers{};
    std::string_view code{};
    std::string_view type{};
    std::string_view message{};
    /// The raw body, of a stream all of it; fields that are not given separately are read from it. Empty: not given.
    std::string_view body{};
    /// The connection failed, before the head or after it.
    bool transport_failed = false;
    /// When the answer arrived: the reference for dates in it, unless it has a Date field. 0: not known.
    std::chrono::sys_seconds now{};
};

/// What the answer means and what to do next. `own` rules are tried before all others: a custom dialect is its rules
/// with dialect::http. Then words that mean the same at every vendor, the dialect's table, the codes of other vendors,
/// and the status. Pure; allocates nothing; O(size of the body).
///
///     auto const v = weir::llm::classify({.dialect = weir::llm::dialect::openai, .status = 429, .body = body});
///     if (v.retries()) retry_after(backoff.next(v.wait));
constexpr verdict classify(answer const& a, std::span<error_rule const> own = {});

}  // namespace weir::inline v0::llm

#include "detail/judge.hpp"  // defines classify
