// SPDX-License-Identifier: MIT
//
// setup: the calls that are planned, and how they are served: models, accounts, quotas and prices. The remedies for a
// quota that is too small are functions from one setup to another, so that they compose.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../../clock/clock.hpp"
#include "../../clock/manual_clock.hpp"
#include "../../detail/number_text.hpp"
#include "../../detail/wide.hpp"
#include "../../error.hpp"
#include "../../limiter.hpp"
#include "../quota.hpp"
#include "../quota_limiter.hpp"

namespace weir::inline v0::llm {

/// A call, as recorded from a run or as expected (see expected_call).
struct planned_call {
    std::chrono::nanoseconds wanted{
        0};          ///< when it could be sent, since an origin common to all calls; a batch wants all at once
    tokens bound{};  ///< what the limiter is asked for: at most this many
    tokens used{};   ///< what the answer reports
    std::chrono::nanoseconds latency{0};  ///< from the send to the end of the answer
};

/// What answers are expected to be like, for calls that have not been sent.
struct answer_estimate {
    permit_count input_per_mille = 1000;   ///< tokens used, per mille of the input's bound
    permit_count output_per_mille = 1000;  ///< tokens used, per mille of the output's bound
    std::chrono::nanoseconds first_token{std::chrono::milliseconds{400}};
    permit_count tokens_per_second = 60;  ///< after the first token

    static constexpr error validate(answer_estimate const& e) noexcept {
        if (e.tokens_per_second == 0U || e.tokens_per_second.invalid()) return {"tokens_per_second must be at least 1"};
        if (e.input_per_mille.invalid()) return {"input_per_mille must not be negative"};
        if (e.output_per_mille.invalid()) return {"output_per_mille must not be negative"};
        if (e.first_token < e.first_token.zero()) return {"first_token must not be negative"};
        return {};
    }
};

/// The call that is expected for these bounds. Errors of answer_estimate::validate.
constexpr planned_call expected_call(tokens bound, answer_estimate const& e = {},
                                     std::chrono::nanoseconds wanted = std::chrono::nanoseconds{0}) {
    weir::detail::ensure(answer_estimate::validate(e));
    std::uint64_t const in = weir::detail::mul_div_ceil(bound.input, e.input_per_mille, 1000);
    std::uint64_t const out = weir::detail::mul_div_ceil(bound.output, e.output_per_mille, 1000);
    constexpr std::uint64_t max = std::uint64_t{1} << 62U;
    std::uint64_t const generation =
        (std::min)(max, weir::detail::mul_div_ceil(out, 1'000'000'000, e.tokens_per_second));
    return {.wanted = wanted,
            .bound = bound,
            .used = {.input = in, .output = out},
            .latency = std::chrono::nanoseconds{
                weir::detail::saturating_add(e.first_token.count(), static_cast<std::int64_t>(generation))}};
}

/// The price of a million tokens, in the smallest unit of the caller's money (such as a millionth of a dollar), which
/// is the same for all setups. `per_mille` of it is charged: 880 for a proxy at 0.88 of the price. Prices are integers:
/// a floating-point number does not compile.
struct token_price {
    permit_count input = 0;
    permit_count output = 0;
    permit_count per_mille = 1000;

    /// The price of these tokens, rounded up once, and saturated.
    constexpr std::uint64_t of(tokens const& t) const noexcept {
        constexpr std::uint64_t max = (std::numeric_limits<std::uint64_t>::max)();
        weir::detail::u128 const in = weir::detail::mul(t.input, input);
        weir::detail::u128 const out = weir::detail::mul(t.output, output);
        weir::detail::u128 sum{in.hi + out.hi, in.lo + out.lo};
        if (sum.hi < in.hi) return max;
        if (sum.lo < in.lo && ++sum.hi == 0) return max;
        weir::detail::u128 const low = weir::detail::mul(sum.lo, per_mille);
        weir::detail::u128 const high = weir::detail::mul(sum.hi, per_mille);
        weir::detail::u128 const product{high.lo + low.hi, low.lo};
        constexpr std::uint64_t unit = 1'000'000'000;  // a million tokens, times a thousand per mille
        if (high.hi != 0 || product.hi < high.lo || product.hi >= unit) return max;
        weir::detail::quotient const q = weir::detail::div(product, unit);
        return q.value == max || q.remainder == 0 ? q.value : q.value + 1;
    }
};

/// An account of a model, or a proxy to it: a quota and a price.
struct setup_account {
    std::string name{};
    quota limits{};
    token_price price{};
    permit_count max_in_flight = 0;  ///< the most calls in flight; 0: no limit
};

/// A model and the accounts that serve it. account_pool chooses the cheapest that can serve a call.
struct setup_model {
    std::string name{};
    std::vector<setup_account> accounts{};
    permit_count latency_per_mille = 1000;  ///< the latency of its answers, per mille of planned_call::latency
};

/// How calls are served: the preferred model first, then its fallbacks, as in a fallback_chain.
struct setup {
    std::string name{};  ///< what was changed; empty for the setup as it is
    std::vector<setup_model> models{};
    quota_options options{};
    /// How long the first call in the queue waits for a better model before it takes a fallback; see fallback_chain.
    std::chrono::nanoseconds patience{0};
    permit_count max_in_flight = 0;  ///< the most calls in flight over all accounts; 0: no limit

    static error validate(setup const& s);
};

inline error setup::validate(setup const& s) {
    if (s.models.empty()) return {"a setup must have at least one model"};
    if (s.patience < s.patience.zero()) return {"patience must not be negative"};
    if (s.max_in_flight.invalid()) return {"max_in_flight must not be negative"};
    for (auto const& m : s.models) {
        if (m.accounts.empty()) return {"a model must have at least one account"};
        if (m.latency_per_mille > 1'000'000U) return {"latency_per_mille must be at most 1000000"};
        for (std::size_t i = 0; i < m.accounts.size(); ++i) {
            auto const& a = m.accounts[i];
            if (a.max_in_flight.invalid()) return {"max_in_flight must not be negative"};
            if (a.price.input.invalid() || a.price.output.invalid() || a.price.per_mille.invalid())
                return {"a price must not be negative"};
            if (auto e = quota_limiter<manual_clock&>::validate(a.limits, s.options)) return e;
            for (std::size_t k = 0; k < i; ++k) {
                if (m.accounts[k].name == a.name)
                    return {"the accounts of a model must have different names: keys of one account share its quota"};
            }
        }
    }
    return {};
}

/// An error if there are no calls, more than a million, or times beyond the range of a simulation.
inline error validate(std::span<planned_call const> calls) noexcept {
    if (calls.empty()) return {"calls must not be empty"};
    if (calls.size() > 1'000'000) return {"calls must be at most 1000000: use a sample of them"};
    constexpr std::chrono::nanoseconds year = std::chrono::hours{365 * 24};
    for (auto const& c : calls) {
        if (c.latency < c.latency.zero()) return {"latency must not be negative"};
        if (c.latency > std::chrono::hours{24}) return {"latency must be at most 24 h"};
        if (c.wanted < -year || c.wanted > year) return {"wanted must be within a year of the origin"};
    }
    return {};
}

}  // namespace weir::inline v0::llm

namespace weir::inline v0::llm::detail {

/// Each limit times per_mille / 1000, rounded up.
constexpr quota scaled(quota q, std::uint64_t per_mille) noexcept {
    for (auto* l : {&q.rpm, &q.rps, &q.tpm, &q.tps}) {
        if (*l) *l = weir::detail::mul_div_ceil(**l, per_mille, 1000);
    }
    return q;
}

/// The quotas of the first model's accounts.
inline std::vector<quota> quotas_of(setup const& s) {
    std::vector<quota> q;
    for (auto const& a : s.models.front().accounts) q.push_back(a.limits);
    return q;
}

/// The setup with a change added to its name.
inline setup renamed(setup s, std::string change) {
    s.name = s.name.empty() ? std::move(change) : s.name + ", " + change;
    return s;
}

}  // namespace weir::inline v0::llm::detail

namespace weir::inline v0::llm {

/// The quota of each account of the first model, times per_mille / 1000: 2000 doubles it.
inline setup with_raised_quota(setup s, permit_count per_mille) {
    if (!s.models.empty()) {
        for (auto& a : s.models.front().accounts) a.limits = detail::scaled(a.limits, per_mille);
    }
    return detail::renamed(std::move(s), "quota x " + weir::detail::decimal_text(per_mille, 3));
}

/// Another quota for each account of the first model.
inline setup with_quota(setup s, quota q, std::string name = "another quota") {
    if (!s.models.empty()) {
        for (auto& a : s.models.front().accounts) a.limits = q;
    }
    return detail::renamed(std::move(s), std::move(name));
}

/// One more account for the first model: the caller's own, or a proxy with its own quota and price.
inline setup with_account(setup s, setup_account a) {
    std::string change = "also " + a.name;
    if (!s.models.empty()) s.models.front().accounts.push_back(std::move(a));
    return detail::renamed(std::move(s), std::move(change));
}

/// n identical accounts for each account of the first model.
inline setup with_accounts(setup s, permit_count n) {
    if (!s.models.empty()) {
        auto& accounts = s.models.front().accounts;
        std::size_t const present = accounts.size();
        for (std::uint64_t k = 2; k <= n && !n.invalid(); ++k) {
            for (std::size_t i = 0; i < present; ++i) {
                auto another = accounts[i];
                another.name += " (" + std::to_string(k) + ")";
                accounts.push_back(std::move(another));
            }
        }
    }
    return detail::renamed(std::move(s), std::to_string(n.value()) + " accounts");
}

/// All calls of the first model through this account, such as a proxy, instead of its present accounts.
inline setup through(setup s, setup_account a) {
    std::string change = "through " + a.name;
    if (!s.models.empty()) {
        s.models.front().accounts.clear();
        s.models.front().accounts.push_back(std::move(a));
    }
    return detail::renamed(std::move(s), std::move(change));
}

/// One more fallback, for calls that would otherwise wait longer than `patience`.
inline setup with_fallback(setup s, setup_model m, std::chrono::nanoseconds patience = std::chrono::nanoseconds{0}) {
    std::string change = "falls back to " + m.name;
    if (patience > patience.zero()) change += " after " + weir::detail::duration_text(patience);
    s.models.push_back(std::move(m));
    s.patience = patience;
    return detail::renamed(std::move(s), std::move(change));
}

}  // namespace weir::inline v0::llm
