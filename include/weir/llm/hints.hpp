// SPDX-License-Identifier: MIT
//
// What servers say of their limits: how long to wait, how much is left, until when. Text in, values out; malformed fields are
// as if they were not there (as the IETF draft on RateLimit fields wants it), and nothing that is too long becomes short.
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
#include "detail/time_text.hpp"
#include "dialect.hpp"
#include "headers.hpp"

namespace weir::inline v0::llm {

/// How long the server asks to wait: the longest of Retry-After (RFC 9110, 10.2.3), retry-after-ms (OpenAI, Azure) and Kong's
/// X-AI-RateLimit-Retry-After; else what the body asks (Gemini's RetryInfo, or a message such as "Please try again in 6m0s.");
/// else, where an IETF RateLimit field says that nothing is left, its t. Nothing where nothing was asked. Whatever comes out is a lower
/// bound: hand it to weir::backoff as it is, which gives up where it is beyond the deadline. `now` is the time of the answer.
constexpr std::optional<std::chrono::nanoseconds> retry_hint(headers const& h, error_body const& body,
                                                             std::chrono::sys_seconds now);

enum class counted : unsigned char { requests, tokens, input_tokens, output_tokens, other };

/// One limit as a server reports it.
struct limit_report {
    counted what = counted::other;
    std::chrono::nanoseconds window{0};  ///< 0 where it is not said
    std::optional<std::uint64_t> limit{};
    std::optional<std::uint64_t> remaining{};
    /// From now on: until `limit` is restored (`whole`), or until more is there than now.
    std::optional<std::chrono::nanoseconds> reset{};
    bool whole = true;
    std::string_view name{};  ///< of an IETF policy
};

/// The limits in an answer's headers: at most 8, the rest is passed over.
class limit_reports {
public:
    constexpr limit_report const* begin() const noexcept { return all_.data(); }
    constexpr limit_report const* end() const noexcept { return all_.data() + size_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }

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

/// Reads x-ratelimit-* (OpenAI, Azure, Groq, Mistral), anthropic-ratelimit-*, and the IETF fields RateLimit-Policy and RateLimit with
/// their older form RateLimit-Limit, -Remaining and -Reset. An absent header says nothing: DashScope sends none.
constexpr limit_reports read_limits(headers const& h, dialect d, std::chrono::sys_seconds now);

}  // namespace weir::inline v0::llm

namespace weir::inline v0::detail {

constexpr void keep_longest(std::optional<std::chrono::nanoseconds>& longest,
                            std::optional<std::chrono::nanoseconds> d) noexcept {
    if (d && (!longest || *d > *longest)) longest = d;
}

/// "try again in 20s", "retry in 56.42777108s", "retry after 6 seconds": the duration after the words.
constexpr std::optional<std::chrono::nanoseconds> wait_in_words(std::string_view message) noexcept {
    constexpr std::string_view words[] = {"try again in ", "retry in ", "retry after ", "try again after "};
    for (auto const w : words) {
        auto const at = find_ignoring_case(message, w);
        if (at == std::string_view::npos) continue;
        std::string_view rest = message.substr(at + w.size());
        if (std::string_view goes = rest; auto const d = llm::take_duration(goes)) return d;
        auto const n = take_decimal(rest);
        if (!n) continue;
        rest = trim(rest);
        struct unit {
            std::string_view name;
            std::uint64_t nanoseconds;
        };
        constexpr unit units[] = {{"millisecond", 1'000'000},
                                  {"second", 1'000'000'000},
                                  {"minute", 60'000'000'000},
                                  {"hour", 3'600'000'000'000},
                                  {"day", 86'400'000'000'000}};
        for (auto const& u : units) {
            if (same_ignoring_case(rest.substr(0, u.name.size()), u.name)) {
                return nanoseconds_of(n->whole, n->billionths, u.nanoseconds);
            }
        }
    }
    return std::nullopt;
}

/// A header's name put together without allocation.
class header_name {
public:
    constexpr header_name(std::string_view a, std::string_view b, std::string_view c = {},
                          std::string_view d = {}) noexcept {
        for (auto const part : {a, b, c, d}) {
            for (char const x : part) {
                if (size_ < text_.size()) text_[size_++] = x;
            }
        }
    }
    constexpr operator std::string_view() const noexcept { return {text_.data(), size_}; }

private:
    std::array<char, 64> text_{};
    std::size_t size_ = 0;
};

constexpr std::optional<std::uint64_t> count_in(llm::headers const& h, std::string_view name) {
    auto const v = h(name);
    return v ? number(trim(*v)) : std::nullopt;
}

/// A list of an IETF field (RFC 9651, 3.1, as far as the draft uses it): calls item(name or number, parameters).
template <class Item>
constexpr void for_each_item(std::string_view list, Item item) {
    while (!list.empty()) {
        bool quoted = false;
        std::size_t end = 0;
        for (; end < list.size() && (quoted || list[end] != ','); ++end) {
            if (list[end] == '"') quoted = !quoted;
            if (quoted && list[end] == '\\') ++end;
        }
        end = (std::min)(end, list.size());
        std::string_view one = trim(list.substr(0, end));
        list = end < list.size() ? list.substr(end + 1) : std::string_view{};
        std::string_view head = one;
        std::string_view parameters{};
        if (!one.empty() && one.front() == '"') {
            std::size_t close = 1;
            while (close < one.size() && one[close] != '"') close += one[close] == '\\' ? 2 : 1;
            if (close >= one.size()) continue;
            head = one.substr(1, close - 1);
            parameters = trim(one.substr(close + 1));
        } else if (auto const semicolon = one.find(';'); semicolon != std::string_view::npos) {
            head = trim(one.substr(0, semicolon));
            parameters = one.substr(semicolon);
        }
        if (!head.empty() && (parameters.empty() || parameters.front() == ';')) item(head, parameters);
    }
}

/// The value of `;name=value` among parameters; quotes taken off.
constexpr std::optional<std::string_view> parameter(std::string_view parameters, std::string_view name) noexcept {
    while (!parameters.empty()) {
        auto const start = parameters.find(';');
        if (start == std::string_view::npos) return std::nullopt;
        parameters.remove_prefix(start + 1);
        std::string_view const one = trim(parameters.substr(0, parameters.find(';')));
        auto const equals = one.find('=');
        if (equals == std::string_view::npos || one.substr(0, equals) != name) continue;
        std::string_view v = one.substr(equals + 1);
        if (v.size() >= 2 && v.front() == '"' && v.back() == '"') v = v.substr(1, v.size() - 2);
        return v;
    }
    return std::nullopt;
}
constexpr std::optional<std::uint64_t> number_in(std::string_view parameters, std::string_view name) noexcept {
    auto const v = parameter(parameters, name);
    return v ? number(*v) : std::nullopt;
}

/// RateLimit-Policy and RateLimit, or the older three fields.
constexpr void read_ietf(llm::headers const& h, llm::limit_reports& out) {
    if (auto const policy = h("ratelimit-policy")) {
        for_each_item(*policy, [&](std::string_view head, std::string_view p) {
            llm::limit_report r;
            // The current draft names a policy and gives q; older ones begin with the quota.
            r.limit = number_in(p, "q");
            if (!r.limit) r.limit = number(head);
            auto const w = number_in(p, "w");
            if (!r.limit || (parameter(p, "w") && (!w || *w == 0))) return;
            r.window = w ? nanoseconds_of(*w, 0, 1'000'000'000) : std::chrono::nanoseconds{0};
            auto const unit = parameter(p, "qu");
            r.what = !unit || *unit == "requests" ? llm::counted::requests : llm::counted::other;
            r.name = head;
            r.whole = false;
            out.add(r);
        });
    }
    if (auto const fields = h("ratelimit")) {
        for_each_item(*fields, [&](std::string_view head, std::string_view p) {
            auto const left = number_in(p, "r");
            if (!left) return;
            auto const t = number_in(p, "t");
            auto const reset = t ? std::optional{nanoseconds_of(*t, 0, 1'000'000'000)} : std::nullopt;
            if (llm::limit_report* const known = out.find(head)) {
                known->remaining = left;
                known->reset = reset;
            } else {
                out.add({llm::counted::requests, std::chrono::nanoseconds{0}, std::nullopt, left, reset, false, head});
            }
        });
    } else if (auto const left = count_in(h, "ratelimit-remaining")) {
        llm::limit_report r{
            llm::counted::requests, std::chrono::nanoseconds{0}, std::nullopt, left, std::nullopt, true, {}};
        if (auto const limit = h("ratelimit-limit"))
            r.limit = number(trim(limit->substr(0, limit->find_first_of(",;"))));
        if (auto const reset = h("ratelimit-reset")) r.reset = llm::parse_seconds(*reset);
        out.add(r);
    }
}

}  // namespace weir::inline v0::detail

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
        counted what;
    };
    for (auto const& k : {kind{"requests", counted::requests}, kind{"tokens", counted::tokens}}) {
        limit_report r;
        r.what = k.what;
        r.limit = detail::count_in(h, detail::header_name{"x-ratelimit-limit-", k.name});
        r.remaining = detail::count_in(h, detail::header_name{"x-ratelimit-remaining-", k.name});
        // Go's durations, and Azure's bare seconds, where -1 says nothing.
        if (auto const v = h(detail::header_name{"x-ratelimit-reset-", k.name})) r.reset = parse_duration(*v);
        // Groq counts requests by the day. Azure may report a slice of its minute.
        if (d == dialect::groq)
            r.window = k.what == counted::requests ? std::chrono::nanoseconds{std::chrono::hours{24}}
                                                   : std::chrono::nanoseconds{std::chrono::minutes{1}};
        if (d == dialect::openai && k.what == counted::tokens) r.window = std::chrono::minutes{1};
        out.add(r);
    }
    for (auto const& k : {kind{"req", counted::requests}, kind{"tokens", counted::tokens}}) {
        limit_report r;
        r.what = k.what;
        r.window = std::chrono::minutes{1};
        r.limit = detail::count_in(h, detail::header_name{"x-ratelimit-limit-", k.name, "-minute"});
        r.remaining = detail::count_in(h, detail::header_name{"x-ratelimit-remaining-", k.name, "-minute"});
        out.add(r);
    }
    for (auto const& k : {kind{"requests", counted::requests}, kind{"tokens", counted::tokens},
                          kind{"input-tokens", counted::input_tokens}, kind{"output-tokens", counted::output_tokens}}) {
        limit_report r;
        r.what = k.what;
        r.window = std::chrono::minutes{1};
        r.limit = detail::count_in(h, detail::header_name{"anthropic-ratelimit-", k.name, "-limit"});
        r.remaining = detail::count_in(h, detail::header_name{"anthropic-ratelimit-", k.name, "-remaining"});
        if (auto const v = h(detail::header_name{"anthropic-ratelimit-", k.name, "-reset"})) {
            if (auto const t = parse_rfc3339(*v)) r.reset = until(*t, now);
        }
        out.add(r);
    }
    if (auto const t = detail::count_in(h, "anthropic-ratelimit-unified-reset")) {
        // Seconds of the epoch; what has no room in a clock is far away.
        constexpr std::uint64_t most = 1ULL << 40U;
        limit_report r;
        r.reset =
            until(std::chrono::sys_seconds{std::chrono::seconds{static_cast<std::int64_t>((std::min)(*t, most))}}, now);
        out.add(r);
    }
    return out;
}

/// A gateway's limits of a provider, as Kong's ai-rate-limiting-advanced and APISIX send them: `window` is their name of it ("minute",
/// "30"), which must be known, as must the provider.
constexpr limit_reports read_gateway_limits(headers const& h, std::string_view window, std::string_view provider) {
    limit_reports out;
    limit_report r;
    r.what = counted::tokens;
    r.limit = detail::count_in(h, detail::header_name{"x-ai-ratelimit-limit-", window, "-", provider});
    r.remaining = detail::count_in(h, detail::header_name{"x-ai-ratelimit-remaining-", window, "-", provider});
    auto reset = h(detail::header_name{"x-ai-ratelimit-reset-", window, "-", provider});
    if (!reset) reset = h("x-ai-ratelimit-reset");
    if (reset) r.reset = parse_seconds(*reset);
    out.add(r);
    return out;
}

}  // namespace weir::inline v0::llm
