// SPDX-License-Identifier: MIT
//
// classify(), in order: is it a failure at all; what it says; which rule applies; how long to wait, and until when.
// Part of verdict.hpp.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "../../detail/text.hpp"
#include "../hints.hpp"
#include "../verdict.hpp"
#include "error_body.hpp"
#include "error_tables.hpp"
#include "error_text.hpp"
#include "error_words.hpp"
#include "message_text.hpp"
#include "moment_text.hpp"

namespace weir::inline v0::llm::detail {

struct error_facts {
    int status;  // 0: unknown
    std::string_view code, type;
    std::string_view words;  // of error_text
};

constexpr bool applies(error_rule const& r, error_facts const& f) noexcept {
    if (r.status != 0 && r.status != f.status) return false;
    if (!r.message.empty()) return find_words(f.words, r.message) != std::string_view::npos;
    for (auto const c : r.codes) {
        if (!c.empty() && (c == f.code || c == f.type)) return true;
    }
    return false;
}

template <class Rule>
constexpr verdict verdict_by(Rule const& r) noexcept {
    return {r.cause, r.action, {}, {}, r.max_retries, r.reason};
}

constexpr std::optional<verdict> look_in(std::span<error_rule const> table, error_facts const& f) noexcept {
    for (auto const& r : table) {
        if (applies(r, f)) return verdict_by(r);
    }
    return std::nullopt;
}

constexpr std::optional<verdict> look_in(std::span<word_rule const> table, std::string_view words,
                                         int status) noexcept {
    if (words.size() <= 1) return std::nullopt;
    for (auto const& r : table) {
        if (counts(r.when, status) && match_words(words, r.words)) return verdict_by(r);
    }
    return std::nullopt;
}

/// "limit: 0", "Limit 0, Used 0", "limit of 0", "Limit: 0/1min": an allowance that there is none of.
constexpr bool says_zero_limit(std::string_view text) noexcept {
    for (auto at = text.find("limit"); at != std::string_view::npos; at = text.find("limit", at + 1)) {
        std::string_view rest = text.substr(at + 5);
        skip_spaces(rest);
        if (!take(rest, ":") && !take(rest, "=") && !take_word(rest, "of")) take_word(rest, "is");
        skip_spaces(rest);
        if (take(rest, "0") && (rest.empty() || !(is_digit(rest.front()) || rest.front() == '.'))) return true;
    }
    return false;
}

constexpr bool is_number(std::string_view s) noexcept { return number(s).has_value(); }

/// The codes of other vendors than the dialect's: named ones, and numbers where the body shows whose they are.
constexpr std::optional<verdict> look_elsewhere(error_facts f, error_body const& body, dialect own) noexcept {
    if (body.minimax || is_number(f.code)) {
        bool const four = f.code.size() == 4 && f.code.front() == '1';
        auto const table = body.minimax                      ? rules_of(dialect::minimax)
                           : body.mistral                    ? rules_of(dialect::mistral)
                           : four && own != dialect::mistral ? rules_of(dialect::zhipu)
                           : f.code.size() == 5              ? rules_of(dialect::siliconflow)
                                                             : std::span<error_rule const>{};
        if (auto const v = look_in(table, f)) return v;
    }
    // A type may be a number too (Zhipu's Anthropic-compatible endpoint).
    if (is_number(f.type) && f.type.size() == 4) {
        if (auto const v = look_in(rules_of(dialect::zhipu), f)) return v;
    }
    for (auto const d : other_dialects) {
        if (d == own) continue;
        for (auto const& r : rules_of(d)) {
            if (!r.message.empty() || is_number(r.codes[0])) continue;
            if (applies(r, f)) return verdict_by(r);
        }
    }
    return std::nullopt;
}

/// MiniMax's compatible endpoints have the number at the end of the message: "insufficient balance (1008)".
constexpr std::optional<verdict> look_at_end(error_facts const& f, std::string_view message) noexcept {
    message = trim(message);
    if (message.size() < 6 || message.back() != ')') return std::nullopt;
    std::string_view const code = message.substr(message.size() - 5, 4);
    if (message[message.size() - 6] != '(' || !is_number(code)) return std::nullopt;
    return look_in(rules_of(dialect::minimax), {f.status, code, {}, f.words});
}

/// "bad response status code 429", "Error code: 503": the status of a server behind this one.
constexpr int status_in_words(std::string_view words) noexcept {
    for (std::string_view const w : {"status code ", "error code ", "http status ", "status "}) {
        for (auto at = words.find(w); at != std::string_view::npos; at = words.find(w, at + 1)) {
            std::string_view rest = words.substr(at + w.size());
            auto const n = take_digits(rest, 3);
            if (n && *n >= 400 && *n <= 599 && (rest.empty() || rest.front() == ' ')) return static_cast<int>(*n);
        }
    }
    return 0;
}

/// What is known of a failure, and the text that the rules search.
struct failure {
    answer const& a;
    error_body const& body;
    error_facts f{};
    error_text<> said{};
    bool google = false;
    bool zero = false;  // a limit of 0: no time changes it

    constexpr failure(answer const& given, error_body const& read) : a{given}, body{read} {
        auto const or_else = [](std::string_view g, std::string_view found) { return g.empty() ? found : g; };
        f.status = a.status.value_or(0);
        f.code = or_else(a.code, body.code);
        f.type = or_else(a.type, body.type);
        if (auto const aws = a.headers("x-amzn-errortype"); aws && f.type.empty())
            f.type = aws->substr(0, aws->find(':'));
        if (auto const hash = f.type.rfind('#'); hash != std::string_view::npos) f.type.remove_prefix(hash + 1);
        // An error inside an answer that began well carries its own status.
        if (f.status < 300 && body.status) f.status = *body.status;
        said.add(or_else(a.message, body.message));
        said.add(body.detail);
        for (auto const m : body.more) said.add(m);
        f.words = said.words();
        zero = body.zero_limit || says_zero_limit(said.plain());
        google = f.type == "RESOURCE_EXHAUSTED" || find_words(f.words, "googleapis com") != std::string_view::npos ||
                 find_words(f.words, "ai google dev") != std::string_view::npos;
    }

    constexpr bool says(std::string_view pattern) const noexcept { return match_words(f.words, pattern); }

    constexpr verdict judge(std::span<error_rule const> own, bool& known) const {
        known = true;
        if (auto const v = look_in(own, f)) return *v;
        if (zero) return {cause::free_quota, action::next_model, {}, {}, 0, "the limit is 0: no quota of the model"};
        if (auto const v = look_in(error_words::telling, f.words, f.status)) return *v;
        if (auto const v = look_at_end(f, body.message)) return *v;
        auto const speaks = google ? dialect::gemini : a.dialect;
        if (auto const v = look_in(rules_of(speaks), f)) return *v;
        if (auto const v = look_elsewhere(f, body, speaks)) return *v;
        if (auto const v = look_in(error_words::hints, f.words, f.status)) return *v;
        // Codes without a message, or with one that says nothing.
        error_text<512> codes;
        codes.add(f.code);
        codes.add(f.type);
        auto guess = look_in(error_words::telling, codes.words(), f.status);
        if (!guess) guess = look_in(error_words::hints, codes.words(), f.status);
        if (guess) {
            if (guess->retries() && guess->max_retries == 0) guess->max_retries = 5;
            return *guess;
        }
        known = false;
        int status = f.status;
        if (int const behind = status_in_words(f.words); behind != 0 && (status < 300 || status == 500))
            status = behind;
        verdict v{cause::unknown, action::retry, {}, {}, 2, "an unknown error"};
        if (status >= 300) v = verdict_of_status(status);
        bool const told = body.failed || !a.code.empty() || !a.type.empty() || !a.message.empty();
        if (told && v.retries() && v.max_retries == 0) v.max_retries = 5;
        return v;
    }
};

/// OpenAI's and Anthropic's servers may say whether to retry; a known permanent error stays permanent.
constexpr void heed_should_retry(answer const& a, verdict& v, bool known) {
    if (a.dialect != dialect::openai && a.dialect != dialect::anthropic && a.dialect != dialect::azure) return;
    auto const should = a.headers("x-should-retry");
    if (!should) return;
    if (trim(*should) == "false" && v.retries()) v.action = action::give_up;
    if (trim(*should) == "true" && v.action == action::give_up && !known) {
        v.action = action::retry;
        v.max_retries = 2;
    }
}

/// How long to wait, and until when an allowance is exhausted. Dates are read by the server's clock, and `until` is
/// told by the client's.
constexpr void set_times(failure const& e, verdict& v) {
    if (e.zero && v.cause == cause::free_quota) return;
    auto const& a = e.a;
    auto const now = reference_time(a.headers, a.now);
    auto const on_clock = [&](std::chrono::sys_seconds t) { return is_known(a.now) ? a.now + (t - now) : t; };
    bool const allowance = v.cause == cause::plan_quota || v.cause == cause::free_quota;
    bool const limited = allowance || v.cause == cause::rate || v.cause == cause::request_rate ||
                         v.cause == cause::token_rate || v.cause == cause::burst || v.cause == cause::concurrency;
    v.wait = wait_in_headers(a.headers, now);
    keep_longest(v.wait, wait_in_members(e.body, now));
    keep_longest(v.wait, wait_in_words(e.said.plain()));
    if (!v.wait && limited) v.wait = wait_for_limits(a.headers, now);
    if (!limited && v.cause != cause::billing) return;

    auto const said = reset_in_words(e.said.plain(), now, a.dialect == dialect::zhipu || is_number(e.f.code));
    if (!allowance && v.cause != cause::billing) {
        if (said && is_known(now) && !v.wait) v.wait = until(*said, now);
        return;
    }
    constexpr std::chrono::nanoseconds short_wait = std::chrono::minutes{15};
    if (e.google && e.says("perday|per day") && (!v.wait || *v.wait < std::chrono::hours{1})) {
        // The wait that Google names is of the minute's quota.
        v.wait.reset();
        if (is_known(now)) v.until = on_clock(pacific_midnight(now));
        return;
    }
    if (said) {
        v.until = on_clock(*said);
    } else if (v.wait && is_known(a.now)) {
        v.until = a.now + std::chrono::ceil<std::chrono::seconds>(*v.wait);
    } else if (allowance && e.says("free models per day|daily free") && is_known(now)) {
        v.until = on_clock(std::chrono::floor<std::chrono::days>(now) + std::chrono::days{1});
    }
    // An allowance that refills all the time: the server names a short wait.
    if (v.cause == cause::plan_quota && v.action == action::next_account && v.wait && *v.wait <= short_wait)
        v.action = action::retry;
}

/// Whether the body is shorter than the answer's Content-Length says; of an encoded one that cannot be told.
constexpr bool falls_short(answer const& a) {
    if (a.headers("content-encoding")) return false;
    auto const length = count_in(a.headers, "content-length");
    if (!length) return false;
    return *length == 0 || (!a.body.empty() && a.body.size() < *length);
}

}  // namespace weir::inline v0::llm::detail

namespace weir::inline v0::llm {

constexpr verdict classify(answer const& a, std::span<error_rule const> own) {
    error_body const body{a.body};
    int const status = a.status.value_or(0);
    bool const told = !a.code.empty() || !a.type.empty() || !a.message.empty();
    bool const good = status >= 200 && status < 300;

    if (a.transport_failed && (status == 0 || good) && !body.failed && !told)
        return {cause::transport, action::retry, {}, {}, 3, good ? "the answer broke off" : "no answer arrived"};
    if (good && !body.failed && !told) {
        if (body.broken || (status == 200 && detail::falls_short(a)))
            return {cause::transport, action::retry, {}, {}, 3, "the answer broke off"};
        // DashScope may report burst protection as the text of an answer that used no tokens.
        constexpr std::string_view burst_words = "Request rate increased too quickly";
        if (a.dialect == dialect::dashscope && body.total_tokens.value_or(0) == 0 &&
            body.text.substr(0, burst_words.size()) == burst_words) {
            return {
                cause::burst, action::retry_slower, {}, {}, 0, "burst protection, reported in the text of an answer"};
        }
        return {cause::none, action::proceed, {}, {}, 0, {}};
    }
    detail::failure const e{a, body};
    bool known = false;
    verdict v = e.judge(own, known);
    detail::heed_should_retry(a, v, known);
    detail::set_times(e, v);
    return v;
}

}  // namespace weir::inline v0::llm
