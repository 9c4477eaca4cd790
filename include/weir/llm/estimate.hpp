// SPDX-License-Identifier: MIT
//
// Token counts without a tokenizer: an upper bound and an expected value computed from the text, corrected by what
// answers report. Sources: Qwen's documentation (3 to 4 English characters per token, 1.5 to 1.8 Chinese ones),
// DashScope's billing page (a token is about a Chinese character, or 3 to 4 English letters); byte-level BPE, which
// makes at most one token of each byte.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "../atomics.hpp"
#include "../detail/quantile.hpp"
#include "../detail/saturating.hpp"
#include "../limiter.hpp"
#include "quota.hpp"

namespace weir::inline v0::llm {

/// What a text consists of. Sizes add up: the size of a request is the sum of the sizes of its messages.
struct text_size {
    std::uint64_t ascii = 0;  ///< characters
    std::uint64_t cjk = 0;    ///< characters of Chinese, Japanese and Korean
    std::uint64_t other = 0;  ///< bytes of everything else, including malformed UTF-8
    std::uint64_t bytes = 0;
    std::uint64_t messages = 0;

    friend constexpr text_size operator+(text_size a, text_size const& b) noexcept {
        return {a.ascii + b.ascii, a.cjk + b.cjk, a.other + b.other, a.bytes + b.bytes, a.messages + b.messages};
    }
    friend constexpr bool operator==(text_size const&, text_size const&) = default;
};

/// The size of one message, which may be malformed UTF-8. O(bytes).
constexpr text_size measure(std::string_view utf8) noexcept {
    text_size s;
    s.messages = 1;
    s.bytes = utf8.size();
    for (std::size_t i = 0; i < utf8.size();) {
        auto const at = [&](std::size_t k) -> std::uint32_t {
            return i + k < utf8.size() ? static_cast<unsigned char>(utf8[i + k]) : 0U;
        };
        auto const continues = [&](std::size_t k) { return (at(k) & 0xC0U) == 0x80U; };
        std::uint32_t const c = at(0);
        if (c < 0x80) {
            ++s.ascii;
            ++i;
        } else if ((c & 0xF0U) == 0xE0U && continues(1) && continues(2)) {
            std::uint32_t const p = (c & 0x0FU) << 12U | (at(1) & 0x3FU) << 6U | (at(2) & 0x3FU);
            // Radicals to ideographs and kana, Hangul, compatibility ideographs, full-width forms.
            bool const cjk = (p >= 0x2E80 && p <= 0x9FFF) || (p >= 0xAC00 && p <= 0xD7AF) ||
                             (p >= 0xF900 && p <= 0xFAFF) || (p >= 0xFF00 && p <= 0xFFEF);
            (cjk ? s.cjk : s.other) += cjk ? 1 : 3;
            i += 3;
        } else if ((c & 0xF8U) == 0xF0U && continues(1) && continues(2) && continues(3)) {
            std::uint32_t const plane = (c & 0x07U) << 2U | (at(1) & 0x30U) >> 4U;
            bool const cjk = plane == 2 || plane == 3;  // ideographs beyond the basic plane
            (cjk ? s.cjk : s.other) += cjk ? 2 : 4;     // rare ones take more tokens
            i += 4;
        } else {
            ++s.other;
            ++i;
        }
    }
    return s;
}

/// How many characters or bytes make a token, and how many tokens the chat template adds.
struct token_weights {
    std::uint64_t ascii_per_token = 3;
    std::uint64_t cjk_per_token = 1;
    std::uint64_t other_bytes_per_token = 2;
    std::uint64_t per_message = 4;  ///< the template: role and separators
    std::uint64_t per_request = 3;  ///< the start of the answer
};

/// The expected number of tokens, rounded up: ⌈ascii/3⌉ + ⌈CJK/1⌉ + ⌈other/2⌉ + the template.
constexpr std::uint64_t expected_tokens(text_size const& s, token_weights const& w = {}) noexcept {
    auto const share = [](std::uint64_t n, std::uint64_t per) {
        return per == 0 ? n : n / per + (n % per != 0 ? 1 : 0);
    };
    return share(s.ascii, w.ascii_per_token) + share(s.cjk, w.cjk_per_token) + share(s.other, w.other_bytes_per_token) +
           s.messages * w.per_message + w.per_request;
}

/// The upper bound for a byte-level tokenizer: one token for each byte, and twice the template.
constexpr std::uint64_t token_bound(text_size const& s, token_weights const& w = {}) noexcept {
    return s.bytes + 2 * (s.messages * w.per_message + w.per_request);
}

/// Tokens of an input.
struct input_estimate {
    std::uint64_t expected;
    std::uint64_t bound;
};

/// Learns how many tokens the texts of one model are, and how long its answers are. Thread-safe.
///
///     weir::llm::token_estimator model;
///     auto size = weir::llm::measure(system) + weir::llm::measure(prompt);
///     auto d = quota.try_acquire(
///         weir::llm::tokens{.input = model.input(size).bound, .output = model.output(max_tokens)});
///     … model.learn(size, usage);
///
/// Until `min_samples` answers have been learned, the input bound is token_bound() and the output is the default.
/// After that the input bound is the expectation times the largest recent factor plus a quarter, and at most
/// token_bound(). settle() corrects the charge either way.
template <class Atomics = std_atomics>
class token_estimator {
public:
    static constexpr std::uint32_t min_samples = 32;

    constexpr explicit token_estimator(token_weights w = {}, permit_count default_output = 1024) noexcept
        : weights_{w}, default_output_{default_output.value()} {}

    input_estimate input(text_size const& s) const noexcept {
        std::uint64_t const plain = expected_tokens(s, weights_);
        std::uint64_t const max = token_bound(s, weights_);
        if (factors_.size() < min_samples) return {(std::min)(plain, max), max};
        std::uint64_t const largest = factors_.at(1, 1);
        std::uint64_t const bound = scaled(plain, largest + largest / 4 + 1);
        return {(std::min)(scaled(plain, factors_.at(1, 2)), max), (std::min)(bound, max)};
    }

    /// The output to reserve: max_tokens if the request has it, else the quantile numerator/denominator of the answers'
    /// outputs.
    std::uint64_t output(std::optional<permit_count> max_tokens, std::uint32_t numerator = 99,
                         std::uint32_t denominator = 100) const noexcept {
        if (max_tokens) return max_tokens->value();
        return outputs_.size() < min_samples ? default_output_ : outputs_.at(numerator, denominator);
    }

    /// Learns from the usage that an answer reported. A usage of zero, as of a failed call, is ignored.
    void learn(text_size const& s, tokens used) noexcept {
        std::uint64_t const plain = expected_tokens(s, weights_);
        constexpr std::uint64_t max = (std::numeric_limits<std::uint64_t>::max)() / one;
        if (used.input != 0 && plain != 0 && used.input < max) factors_.add((used.input * one + plain - 1) / plain);
        if (used.output != 0) outputs_.add(used.output);
    }

private:
    static constexpr std::uint64_t one = 1024;  // the unit of factors
    static constexpr std::uint64_t scaled(std::uint64_t n, std::uint64_t factor) noexcept {
        std::uint64_t r{};
        if (__builtin_mul_overflow(n, factor, &r)) return (std::numeric_limits<std::uint64_t>::max)();
        return r / one + (r % one != 0 ? 1 : 0);
    }

    token_weights weights_;
    std::uint64_t default_output_;
    running_quantile<Atomics> factors_{};
    running_quantile<Atomics> outputs_{};
};

/// The weight of each kind of token against a limit, in thousandths: cached tokens may count for less than one.
struct usage_weights {
    std::uint32_t input = 1000;
    std::uint32_t cached = 1000;  ///< the part of the input that prompt_tokens_details.cached_tokens reports
    std::uint32_t output = 1000;
    std::uint64_t per_image = 0;  ///< tokens for each image, which the estimate of the text does not include
};

/// The tokens that a call's usage charges, rounded up and saturated.
constexpr tokens weighted(tokens used, permit_count cached, permit_count images, usage_weights const& w) noexcept {
    constexpr std::uint64_t max = (std::numeric_limits<std::uint64_t>::max)();
    auto const times = [](std::uint64_t n, std::uint64_t thousandths) {
        std::uint64_t const whole = n / 1000;
        std::uint64_t const rest = n % 1000 * thousandths;
        std::uint64_t r{};
        if (__builtin_mul_overflow(whole, thousandths, &r) ||
            __builtin_add_overflow(r, rest / 1000 + (rest % 1000 != 0 ? 1 : 0), &r))
            return max;
        return r;
    };
    using weir::detail::saturating_sum;
    std::uint64_t const reused = (std::min)(cached.value(), used.input.value());
    std::uint64_t pictures{};
    if (__builtin_mul_overflow(images.value(), w.per_image, &pictures)) pictures = max;
    return {
        .input = saturating_sum(saturating_sum(times(used.input - reused, w.input), times(reused, w.cached)), pictures),
        .output = times(used.output, w.output)};
}

}  // namespace weir::inline v0::llm
