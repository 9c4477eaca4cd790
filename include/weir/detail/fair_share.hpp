// SPDX-License-Identifier: MIT
//
// What a call counts as among classes that share a limiter.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "../limiter.hpp"

namespace weir::inline v0::detail {

/// What an amount counts as among classes. Where a limiter has limits of requests and of tokens: its tokens, but no
/// less than TPM / RPM, which is what its request is worth in tokens. That is the amount of the resource that the
/// call needs most of.
template <class Limiter, class Amount>
std::uint64_t share_of(Limiter const& l, Amount const& a) noexcept {
    std::uint64_t n = 1;
    if constexpr (std::integral<Amount> || std::same_as<Amount, permit_count>) {
        n = static_cast<std::uint64_t>(a);
    } else if constexpr (requires {
                             { a.total() } -> std::convertible_to<std::uint64_t>;
                         }) {
        n = a.total();
    }
    if constexpr (requires {
                      l.limits().effective_rpm();
                      l.limits().effective_tpm();
                  }) {
        auto const limits = l.limits();
        auto const requests = limits.effective_rpm();
        auto const tokens = limits.effective_tpm();
        if (!tokens) return 1;
        if (requests) n = (std::max)(n, *tokens / *requests);
    }
    return n;
}

/// What a call that was granted counts as: its cost, or, where that is a callable, what the decision says it asked
/// for.
template <class Limiter, class Cost>
std::uint64_t share_granted(Limiter const& l, Cost const& cost, typename Limiter::decision const& d) noexcept {
    if constexpr (!std::invocable<Cost const&, Limiter&> && !std::invocable<Cost&, Limiter&>) {
        return share_of(l, cost);
    } else if constexpr (requires { d.asked(); }) {
        return share_of(l, d.asked());
    } else {
        return 1;
    }
}

/// How a refund or a settlement corrects what was counted.
struct share_correction {
    bool known = false;
    std::uint64_t counted = 0;
    std::uint64_t actual = 0;
};

/// Of a refund that returned `r`: what was given back, where the limiter says how much, or what had been asked for.
template <class Limiter, class Result, class Decision>
share_correction refunded(Limiter const& l, Result const& r, Decision const& d) noexcept {
    if constexpr (std::same_as<Result, bool>) {
        if constexpr (requires { d.asked(); }) {
            if (r) return {true, share_of(l, d.asked()), 0};
        }
    } else if constexpr (std::integral<Result> || std::same_as<Result, permit_count>) {
        return {true, static_cast<std::uint64_t>(r), 0};
    } else if constexpr (requires { r.total(); }) {
        if (r.total() != 0) return {true, share_of(l, r), 0};
    }
    return {};
}

/// Of a settlement that returned `r`.
template <class Limiter, class Result, class Decision, class... Used>
share_correction settlement(Limiter const& l, Result const& r, Decision const& d, Used const&... used) noexcept {
    if constexpr (std::same_as<Result, bool> && sizeof...(Used) > 0 && requires { d.asked(); }) {
        auto const first = [](auto const& u, auto const&...) -> decltype(auto) { return u; };
        if (r) return {true, share_of(l, d.asked()), share_of(l, first(used...))};
    }
    return {};
}

}  // namespace weir::inline v0::detail
