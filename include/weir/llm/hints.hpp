// SPDX-License-Identifier: MIT
//
// What servers say about their limits: how long to wait, how much is left, and when it resets. Text in, values out.
// Malformed fields are ignored, as the IETF draft on RateLimit fields requires. A value that is too large saturates; it
// never wraps to a short wait.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "../detail/text.hpp"
#include "detail/error_body.hpp"
#include "detail/header_fields.hpp"
#include "detail/message_text.hpp"
#include "detail/time_text.hpp"
#include "dialect.hpp"
#include "headers.hpp"

namespace weir::inline v0::llm {

/// How long the server asks to wait; empty if it does not ask. The first of these that the answer has:
/// 1. the longest of Retry-After (RFC 9110, 10.2.3), retry-after-ms (OpenAI, Azure) and Kong's
///    X-AI-RateLimit-Retry-After;
/// 2. the wait in the body: Gemini's RetryInfo, or a message such as "Please try again in 6m0s.";
/// 3. t of an IETF RateLimit field with r = 0. The result is a lower bound: pass it to weir::backoff unchanged, which
///    gives up if it exceeds the deadline. `now` is the time of the answer.
constexpr std::optional<std::chrono::nanoseconds> retry_hint(headers const& h, error_body const& body,
                                                             std::chrono::sys_seconds now);

/// What a limit counts.
enum class counted : unsigned char { requests, tokens, input_tokens, output_tokens, other };

/// One limit as a server reports it.
struct limit_report {
    counted kind = counted::other;
    std::chrono::nanoseconds window{0};  ///< 0: not reported
    std::optional<std::uint64_t> limit{};
    std::optional<std::uint64_t> remaining{};
    /// From now: the time until all of `limit` is available again (`full_reset`), or until more is available than now.
    std::optional<std::chrono::nanoseconds> reset{};
    bool full_reset = true;
    std::string_view name{};  ///< the name of an IETF policy
};

/// The limits in an answer's headers: the first 8; any others are ignored.
class limit_reports {
public:
    constexpr limit_report const* begin() const noexcept { return all_.data(); }
    constexpr limit_report const* end() const noexcept { return all_.data() + size_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }

    /// Adds a report that says anything.
    constexpr void add(limit_report const& r) noexcept {
        if (size_ < all_.size() && (r.limit || r.remaining || r.reset)) all_[size_++] = r;
    }
    constexpr limit_report* find(std::string_view name) noexcept {
        for (std::size_t i = 0; i < size_; ++i) {
            if (all_[i].name == name) return &all_[i];
        }
        return nullptr;
    }

private:
    std::array<limit_report, 8> all_{};
    std::size_t size_ = 0;
};

/// Reads x-ratelimit-* (OpenAI, Azure, Groq, Mistral), anthropic-ratelimit-*, the IETF fields RateLimit-Policy and
/// RateLimit, and their older form RateLimit-Limit, -Remaining and -Reset. An absent header reports nothing: DashScope
/// sends none.
constexpr limit_reports read_limits(headers const& h, dialect d, std::chrono::sys_seconds now);

}  // namespace weir::inline v0::llm

namespace weir::inline v0::llm::detail {

constexpr void keep_longest(std::optional<std::chrono::nanoseconds>& longest,
                            std::optional<std::chrono::nanoseconds> d) noexcept {
    if (d && (!longest || *d > *longest)) longest = d;
}

/// Reads RateLimit-Policy and RateLimit, or the three fields of older drafts.
constexpr void read_ietf(headers const& h, limit_reports& out) {
    if (auto const policy = h("ratelimit-policy")) {
        for_each_item(*policy, [&](std::string_view head, std::string_view p) {
            limit_report r;
            // The current draft names the policy and has the quota as q; older drafts begin with the quota.
            r.limit = number_in(p, "q");
            if (!r.limit) r.limit = number(head);
            auto const w = number_in(p, "w");
            if (!r.limit || (parameter(p, "w") && (!w || *w == 0))) return;
            r.window = w ? nanoseconds_of(*w, 0, 1'000'000'000) : std::chrono::nanoseconds{0};
            auto const unit = parameter(p, "qu");
            r.kind = !unit || *unit == "requests" ? counted::requests
                     : *unit == "tokens"          ? counted::tokens
                                                  : counted::other;
            r.name = head;
            r.full_reset = false;
            out.add(r);
        });
    }
    if (auto const fields = h("ratelimit")) {
        for_each_item(*fields, [&](std::string_view head, std::string_view p) {
            auto const left = number_in(p, "r");
            if (!left) return;
            auto const t = number_in(p, "t");
            auto const reset = t ? std::optional{nanoseconds_of(*t, 0, 1'000'000'000)} : std::nullopt;
            if (limit_report* const known = out.find(head)) {
                known->remaining = left;
                known->reset = reset;
            } else {
                out.add({counted::requests, std::chrono::nanoseconds{0}, std::nullopt, left, reset, false, head});
            }
        });
    } else if (auto const left = count_in(h, "ratelimit-remaining")) {
        limit_report r{counted::requests, std::chrono::nanoseconds{0}, std::nullopt, left, std::nullopt, true, {}};
        if (auto const limit = h("ratelimit-limit"))
            r.limit = number(trim(limit->substr(0, limit->find_first_of(",;"))));
        if (auto const reset = h("ratelimit-reset")) r.reset = parse_seconds(*reset);
        out.add(r);
    }
}

}  // namespace weir::inline v0::llm::detail

namespace weir::inline v0::llm {

constexpr std::optional<std::chrono::nanoseconds> retry_hint(headers const& h, error_body const& body,
                                                             std::chrono::sys_seconds now) {
    std::optional<std::chrono::nanoseconds> longest;
    if (auto const v = h("retry-after")) detail::keep_longest(longest, parse_retry_after(*v, now));
    if (auto const v = h("retry-after-ms")) detail::keep_longest(longest, parse_milliseconds(*v));
    if (auto const v = h("x-ai-ratelimit-retry-after")) detail::keep_longest(longest, parse_seconds(*v));
    if (longest) return longest;
    detail::keep_longest(longest, body.retry_delay);
    detail::keep_longest(longest, detail::wait_in_words(body.message));
    if (longest) return longest;
    limit_reports ietf;
    detail::read_ietf(h, ietf);
    for (auto const& r : ietf) {
        if (r.remaining == 0U) detail::keep_longest(longest, r.reset);
    }
    return longest;
}

constexpr limit_reports read_limits(headers const& h, dialect d, std::chrono::sys_seconds now) {
    limit_reports out;
    detail::read_ietf(h, out);

    struct kind {
        std::string_view name;
        counted unit;
    };
    for (auto const& k : {kind{"requests", counted::requests}, kind{"tokens", counted::tokens}}) {
        limit_report r;
        r.kind = k.unit;
        r.limit = detail::count_in(h, detail::header_name{"x-ratelimit-limit-", k.name});
        r.remaining = detail::count_in(h, detail::header_name{"x-ratelimit-remaining-", k.name});
        // A Go duration, or seconds (Azure), where -1 means unknown.
        if (auto const v = h(detail::header_name{"x-ratelimit-reset-", k.name})) r.reset = parse_duration(*v);
        // Groq counts requests per day. Azure may report a slice of its minute.
        if (d == dialect::groq)
            r.window = k.unit == counted::requests ? std::chrono::nanoseconds{std::chrono::hours{24}}
                                                   : std::chrono::nanoseconds{std::chrono::minutes{1}};
        if (d == dialect::openai && k.unit == counted::tokens) r.window = std::chrono::minutes{1};
        out.add(r);
    }
    for (auto const& k : {kind{"req", counted::requests}, kind{"tokens", counted::tokens}}) {
        limit_report r;
        r.kind = k.unit;
        r.window = std::chrono::minutes{1};
        r.limit = detail::count_in(h, detail::header_name{"x-ratelimit-limit-", k.name, "-minute"});
        r.remaining = detail::count_in(h, detail::header_name{"x-ratelimit-remaining-", k.name, "-minute"});
        out.add(r);
    }
    for (auto const& k : {kind{"requests", counted::requests}, kind{"tokens", counted::tokens},
                          kind{"input-tokens", counted::input_tokens}, kind{"output-tokens", counted::output_tokens}}) {
        limit_report r;
        r.kind = k.unit;
        r.window = std::chrono::minutes{1};
        r.limit = detail::count_in(h, detail::header_name{"anthropic-ratelimit-", k.name, "-limit"});
        r.remaining = detail::count_in(h, detail::header_name{"anthropic-ratelimit-", k.name, "-remaining"});
        if (auto const v = h(detail::header_name{"anthropic-ratelimit-", k.name, "-reset"})) {
            if (auto const t = parse_rfc3339(*v)) r.reset = until(*t, now);
        }
        out.add(r);
    }
    if (auto const t = detail::count_in(h, "anthropic-ratelimit-unified-reset")) {
        // Seconds since the epoch, capped so that a time point can hold them.
        constexpr std::uint64_t max_seconds = 1ULL << 40U;
        limit_report r;
        r.reset = until(
            std::chrono::sys_seconds{std::chrono::seconds{static_cast<std::int64_t>((std::min)(*t, max_seconds))}},
            now);
        out.add(r);
    }
    return out;
}

/// A gateway's limits for a provider, as Kong's ai-rate-limiting-advanced and APISIX send them. `window` is the
/// gateway's name for the window ("minute", "30"); both names must be known.
constexpr limit_reports read_gateway_limits(headers const& h, std::string_view window, std::string_view provider) {
    limit_reports out;
    limit_report r;
    r.kind = counted::tokens;
    r.limit = detail::count_in(h, detail::header_name{"x-ai-ratelimit-limit-", window, "-", provider});
    r.remaining = detail::count_in(h, detail::header_name{"x-ai-ratelimit-remaining-", window, "-", provider});
    auto reset = h(detail::header_name{"x-ai-ratelimit-reset-", window, "-", provider});
    if (!reset) reset = h("x-ai-ratelimit-reset");
    if (reset) r.reset = parse_seconds(*reset);
    out.add(r);
    return out;
}

}  // namespace weir::inline v0::llm
