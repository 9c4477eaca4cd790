// SPDX-License-Identifier: MIT
//
// The LLM layer's values as text: to_string of tokens, quotas and verdicts; the enumerations have theirs where they are
// declared. ostream.hpp and format.hpp print the same texts.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "../detail/number_text.hpp"
#include "../detail/printable.hpp"
#include "../text.hpp"
#include "quota.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

/// "500 in, 1,200 out".
inline std::string to_string(tokens const& t) {
    return weir::detail::grouped(t.input) + " in, " + weir::detail::grouped(t.output) + " out";
}

/// "600 requests per minute, 1,000,000 tokens per minute"; "no limits".
inline std::string to_string(quota const& q) {
    std::string s;
    auto const add = [&s](std::optional<std::uint64_t> n, limit l) {
        if (!n) return;
        if (!s.empty()) s += ", ";
        s += weir::detail::grouped(*n) + ' ' + std::string{to_string(l)};
    };
    add(q.rpm, limit::rpm);
    add(q.rps, limit::rps);
    add(q.tpm, limit::tpm);
    add(q.tps, limit::tps);
    return s.empty() ? "no limits" : s;
}

/// "request rate: retry slower after 20 s (rate limited)": the cause, what to do, the wait, and the reason.
inline std::string to_string(verdict const& v) {
    std::string s{to_string(v.cause)};
    s += ": ";
    s += to_string(v.action);
    if (v.wait) s += " after " + weir::detail::duration_text(*v.wait);
    if (!v.reason.empty()) s.append(" (").append(v.reason).append(")");
    return s;
}

}  // namespace weir::inline v0::llm

namespace weir::inline v0::detail {

template <>
inline constexpr bool has_text<llm::tokens> = true;
template <>
inline constexpr bool has_text<llm::quota> = true;
template <>
inline constexpr bool has_text<llm::verdict> = true;
template <>
inline constexpr bool has_text<llm::limit> = true;
template <>
inline constexpr bool has_text<llm::cause> = true;
template <>
inline constexpr bool has_text<llm::action> = true;

}  // namespace weir::inline v0::detail
