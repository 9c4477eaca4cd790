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

/// How long the server asks to wait; empty if it does not ask. Of all that names a wait, the longest:
/// - Retry-After (RFC 9110, 10.2.3; of several, the latest), retry-after-ms (OpenAI, Azure), and the fields of Kong,
///   GitHub and Discord;
/// - the body: Gemini's RetryInfo, retry_after, resets_at, and words such as "Please try again in 6m0s.".
/// If nothing does, the reset of each limit that read_limits reports with nothing left. A date is read against the
/// answer's own Date field, else against `now`, the time of the answer; if neither is known (`now` is 0), it says
/// nothing. The result is a lower bound: pass it to weir::backoff unchanged, which gives up if it exceeds the deadline.
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

/// Reads x-ratelimit-* (OpenAI, Azure, Groq, Mistral; without a unit: Envoy, OpenRouter, Together),
/// anthropic-ratelimit-*, the IETF fields RateLimit-Policy and RateLimit, and their older form RateLimit-Limit,
/// -Remaining and -Reset. An absent header reports nothing: DashScope sends none.
constexpr limit_reports read_limits(headers const& h, dialect d, std::chrono::sys_seconds now);

}  // namespace weir::inline v0::llm

namespace weir::inline v0::llm::detail {

/// The number that a limit begins with: "10, 10;w=60".
constexpr std::optional<std::uint64_t> leading_number(std::string_view field) noexcept {
    return number(trim(field.substr(0, field.find_first_of(",;"))));
}

/// Reads RateLimit-Policy and RateLimit, or the three fields of older drafts.
constexpr void read_ietf(headers const& h, limit_reports& out, std::chrono::sys_seconds now) {
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
        if (auto const limit = h("ratelimit-limit")) r.limit = leading_number(*limit);
        if (auto const reset = h("ratelimit-reset")) r.reset = parse_reset(*reset, now);
        out.add(r);
    }
}

/// Reads x-ratelimit-limit, -remaining and -reset, where no unit is named. Envoy's limit has its window: "10, 10;w=60".
constexpr void read_plain(headers const& h, limit_reports& out, std::chrono::sys_seconds now) {
    limit_report r{counted::requests, {}, {}, count_in(h, "x-ratelimit-remaining"), {}, true, {}};
    if (auto const limit = h("x-ratelimit-limit")) {
        r.limit = leading_number(*limit);
        auto const parameters = limit->find(';');
        auto const w = parameters == std::string_view::npos ? std::nullopt : number_in(limit->substr(parameters), "w");
        if (w) r.window = nanoseconds_of(*w, 0, 1'000'000'000);
    }
    if (auto const v = h("x-ratelimit-reset")) r.reset = parse_reset(*v, now);
    out.add(r);
}

/// The time by which dates in an answer are to be read: its own Date field, since the client's clock may be wrong.
constexpr std::chrono::sys_seconds reference_time(headers const& h, std::chrono::sys_seconds now) {
    auto const date = h("date");
    return date ? parse_http_date(*date, now).value_or(now) : now;
}

/// The wait that a header asks for.
constexpr std::optional<std::chrono::nanoseconds> wait_in_headers(headers const& h, std::chrono::sys_seconds now) {
    std::optional<std::chrono::nanoseconds> longest;
    for (auto const name : {"retry-after", "x-ai-ratelimit-retry-after", "x-ratelimit-timeremaining",
                            "x-ratelimit-reset-after", "x-retry-after"}) {
        if (auto const v = h(name)) keep_longest(longest, parse_retry_after(*v, now));
    }
    for (auto const name : {"retry-after-ms", "x-ms-retry-after-ms"}) {
        if (auto const v = h(name)) keep_longest(longest, parse_milliseconds(*v));
    }
    return longest;
}

/// The wait that a member of the body asks for.
constexpr std::optional<std::chrono::nanoseconds> wait_in_members(error_body const& body,
                                                                  std::chrono::sys_seconds now) noexcept {
    auto longest = body.retry_delay;
    keep_longest(longest, parse_reset(body.reset, now));
    return longest;
}

/// The longest reset of a limit that has nothing left.
constexpr std::optional<std::chrono::nanoseconds> wait_for_limits(headers const& h, std::chrono::sys_seconds now) {
    std::optional<std::chrono::nanoseconds> longest;
    for (auto const& r : read_limits(h, dialect::http, now)) {
        if (r.remaining == 0U) keep_longest(longest, r.reset);
    }
    if (auto const v = h("anthropic-ratelimit-unified-reset")) {
        auto const status = h("anthropic-ratelimit-unified-status");
        if (status && trim(*status) == "rejected") keep_longest(longest, parse_reset(*v, now));
    }
    if (auto const v = h("reset_at")) keep_longest(longest, parse_reset(*v, now));
    return longest;
}

}  // namespace weir::inline v0::llm::detail

namespace weir::inline v0::llm {

constexpr std::optional<std::chrono::nanoseconds> retry_hint(headers const& h, error_body const& body,
                                                             std::chrono::sys_seconds now) {
    now = detail::reference_time(h, now);
    auto longest = detail::wait_in_headers(h, now);
    detail::keep_longest(longest, detail::wait_in_members(body, now));
    detail::error_text<> text;
    text.add(body.message);
    detail::keep_longest(longest, detail::wait_in_words(text.plain()));
    return longest ? longest : detail::wait_for_limits(h, now);
}

constexpr limit_reports read_limits(headers const& h, dialect d, std::chrono::sys_seconds now) {
    limit_reports out;
    now = detail::reference_time(h, now);
    detail::read_ietf(h, out, now);

    struct kind {
        std::string_view name;
        counted unit;
    };
    for (auto const& k : {kind{"requests", counted::requests}, kind{"tokens", counted::tokens}}) {
        limit_report r;
        r.kind = k.unit;
        r.limit = detail::count_in(h, detail::header_name{"x-ratelimit-limit-", k.name});
        r.remaining = detail::count_in(h, detail::header_name{"x-ratelimit-remaining-", k.name});
        // A Go duration, seconds (Azure), where -1 means unknown, or a time.
        if (auto const v = h(detail::header_name{"x-ratelimit-reset-", k.name})) r.reset = parse_reset(*v, now);
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
            r.reset = parse_reset(*v, now);
        }
        out.add(r);
    }
    detail::read_plain(h, out, now);
    if (auto const v = h("anthropic-ratelimit-unified-reset")) {
        limit_report r;
        r.reset = parse_reset(*v, now);
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
