// SPDX-License-Identifier: MIT
//
// quota: what an LLM provider allows an account and a model; and the words that go with it.
#pragma once

#include <algorithm>
#include <chrono>
#include <compare>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "../detail/saturating.hpp"
#include "../detail/wide.hpp"
#include "../error.hpp"
#include "../limiter.hpp"

namespace weir::inline v0::llm {

/// LLM tokens of one call. When asking, `output` is an upper bound (max_tokens); when settling, what was used.
/// The fields are named where it is made, tokens{.input = 500, .output = 800}: braces without names do not compile,
/// since {500} and {500, 0} look alike. The counts are permit_count: no fractions, and a negative count is denied for
/// good.
struct tokens {
    /// Takes the place of the first positional argument, and nothing converts to it.
    struct named_fields_only {
        constexpr explicit named_fields_only() noexcept = default;
        friend constexpr bool operator==(named_fields_only, named_fields_only) noexcept = default;
    };

    [[no_unique_address]] named_fields_only named_fields_only_{};
    permit_count input = 0;
    permit_count output = 0;

    /// The sum, or the greatest number where it does not fit.
    constexpr permits total() const noexcept { return weir::detail::saturating_sum(input.value(), output.value()); }
    /// Whether a count was negative.
    constexpr bool invalid() const noexcept { return input.invalid() || output.invalid(); }

    friend constexpr bool operator==(tokens const&, tokens const&) noexcept = default;
};

/// One of the limits of a quota.
enum class limit : unsigned char { none, rpm, rps, tpm, tps };

constexpr std::string_view to_string(limit l) noexcept {
    switch (l) {
        case limit::rpm: return "requests per minute";
        case limit::rps: return "requests per second";
        case limit::tpm: return "tokens per minute";
        case limit::tps: return "tokens per second";
        case limit::none: break;
    }
    return "none";
}

/// A limit of a quota, or none. Takes what permit_count takes: any integer. A floating-point number does not compile,
/// and quota::validate refuses a negative one. Reads like std::optional<std::uint64_t>, and converts to it.
class optional_count {
public:
    constexpr optional_count() = default;
    constexpr optional_count(std::nullopt_t) noexcept {}
    constexpr optional_count(std::optional<std::uint64_t> n) noexcept : n_{n} {}
    constexpr optional_count(permit_count n) noexcept : n_{n.value()} {}
    template <std::integral Int>
    constexpr optional_count(Int n) noexcept : optional_count{permit_count{n}} {}
    template <std::floating_point F>
    optional_count(F) = delete;  // permits are whole numbers: round the value first

    constexpr bool has_value() const noexcept { return n_.has_value(); }
    constexpr explicit operator bool() const noexcept { return n_.has_value(); }
    constexpr std::uint64_t& operator*() noexcept { return *n_; }
    constexpr std::uint64_t const& operator*() const noexcept { return *n_; }
    constexpr std::uint64_t value_or(std::uint64_t other) const noexcept { return n_.value_or(other); }
    constexpr void reset() noexcept { n_.reset(); }
    constexpr operator std::optional<std::uint64_t>() const noexcept { return n_; }

    friend constexpr bool operator==(optional_count const& a, optional_count const& b) noexcept { return a.n_ == b.n_; }
    /// None is before 0, as std::optional has it.
    friend constexpr std::strong_ordering operator<=>(optional_count const& a, optional_count const& b) noexcept {
        return a.n_ && b.n_ ? *a.n_ <=> *b.n_ : a.n_.has_value() <=> b.n_.has_value();
    }
    friend constexpr bool operator==(optional_count const& a, std::optional<std::uint64_t> const& b) noexcept {
        return a.n_ == b;
    }
    friend constexpr bool operator==(optional_count const& a, std::nullopt_t) noexcept { return !a.n_; }
    template <std::integral Int>
    friend constexpr bool operator==(optional_count const& a, Int b) noexcept {
        return a == optional_count{b};
    }

private:
    std::optional<std::uint64_t> n_{};
};

/// Requests and tokens per minute and per second. Absent means not enforced; an explicit 0 is an error.
struct quota {
    optional_count rpm{};
    optional_count rps{};
    optional_count tpm{};
    optional_count tps{};

    /// The true ceiling, min(RPM, RPS×60) requests a minute; absent where neither is limited.
    constexpr std::optional<std::uint64_t> effective_rpm() const noexcept { return lesser(rpm, rps); }
    /// The true ceiling, min(TPM, TPS×60) tokens a minute; absent where neither is limited.
    constexpr std::optional<std::uint64_t> effective_tpm() const noexcept { return lesser(tpm, tps); }

    static constexpr error validate(quota const& q) noexcept {
        for (auto const& n : {q.rpm, q.rps, q.tpm, q.tps}) {
            if (n == permit_count::invalid_value) return {"a limit of a quota must not be negative"};
        }
        if (q.rpm == 0U)
            return {"a quota of 0 requests per minute admits nothing: leave rpm out where it is not limited"};
        if (q.rps == 0U)
            return {"a quota of 0 requests per second admits nothing: leave rps out where it is not limited"};
        if (q.tpm == 0U)
            return {"a quota of 0 tokens per minute admits nothing: leave tpm out where it is not limited"};
        if (q.tps == 0U)
            return {"a quota of 0 tokens per second admits nothing: leave tps out where it is not limited"};
        return {};
    }

    friend constexpr bool operator==(quota const&, quota const&) = default;

private:
    static constexpr std::optional<std::uint64_t> lesser(std::optional<std::uint64_t> minute,
                                                         std::optional<std::uint64_t> second) noexcept {
        if (!second) return minute;
        constexpr std::uint64_t most = (std::numeric_limits<std::uint64_t>::max)();
        std::uint64_t const m = *second > most / 60 ? most : *second * 60;
        return minute ? (std::min)(*minute, m) : m;
    }
};

/// How a server counts tokens; see quota_limiter.
enum class accounting : unsigned char {
    any,           ///< unknown: clean against all of the others
    actual,        ///< admits while the sum is below the limit; input counts on arrival, output when it is complete
    input_strict,  ///< the same, but admits only if the input fits as well
    reserve,       ///< input and max_tokens count on arrival, and are corrected when the output is complete
};

/// What becomes of a call that is larger than a token limit.
enum class oversize : unsigned char {
    refuse,  ///< denied; never() is true
    /// Admitted when the window is empty. It counts in full, and its output as held as well until the reply is read.
    alone,
};

/// What the windows hold when a limiter begins.
enum class quota_start : unsigned char {
    empty,           ///< nothing was sent in the last minute
    full,            ///< unknown, all calls have ended: nothing for one window
    full_in_flight,  ///< unknown, and calls may be in flight: no tokens before the server must have given them up
};

/// How a quota_limiter is to enforce its quota. Durations are of the limiter's clock.
struct quota_options {
    any_duration<> jitter{};                                 ///< J: the range of the delay from stamp to arrival
    any_duration<> server_timeout{std::chrono::minutes{5}};  ///< T: after it the server has given a call up
    weir::llm::accounting accounting = weir::llm::accounting::any;
    weir::llm::oversize oversize = weir::llm::oversize::refuse;
    quota_start start = quota_start::empty;
};

/// A quota with its request limits and its token limits at so many 1,048,576ths, none below 1. For
/// quota_limiter::change.
constexpr quota scaled(quota q, std::uint64_t requests, std::uint64_t tokens) noexcept {
    auto const part = [](optional_count& x, std::uint64_t share) {
        if (!x) return;
        auto const p = weir::detail::mul(*x, share);
        *x = p.hi >> 20U ? (std::numeric_limits<std::uint64_t>::max)()
                         : (std::max<std::uint64_t>)(weir::detail::div(p, std::uint64_t{1} << 20U).value, 1);
    };
    part(q.rpm, requests);
    part(q.rps, requests);
    part(q.tpm, tokens);
    part(q.tps, tokens);
    return q;
}

}  // namespace weir::inline v0::llm
