// SPDX-License-Identifier: MIT
//
// advise: compares the remedies for a quota that is too small, in time and in money (a raised quota, more accounts, a
// fallback model, a proxy with its own price, and combinations), and finds the smallest raise that meets a goal. Every
// figure comes from simulate().
//
// text.hpp prints the comparison; letter.hpp writes a letter that asks the vendor for more.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "../../detail/wide.hpp"
#include "../../error.hpp"
#include "../../limiter.hpp"
#include "../quota.hpp"
#include "setup.hpp"
#include "simulation.hpp"

namespace weir::inline v0::llm {

/// When a quota is enough. Absent fields are not required; every call must be admitted in any case.
struct goal {
    std::optional<std::chrono::nanoseconds> makespan{};  ///< all calls are done within
    std::optional<std::chrono::nanoseconds> p99_wait{};  ///< 99 of 100 calls wait at most
    std::optional<permit_count> max_limited{};  ///< the share of the time in which limits may bind, per mille; 0: none
    limit by = limit::none;                     ///< the limit that max_limited is about; none: all four together

    bool empty() const noexcept { return !makespan && !p99_wait && !max_limited; }
    bool met(simulation_result const& r) const noexcept {
        return r.never == 0 && (!makespan || r.makespan <= *makespan) && (!p99_wait || r.wait.p99 <= *p99_wait) &&
               (!max_limited || r.limited(by) <= *max_limited);
    }
};

/// The smallest quota found that meets a goal.
struct min_raise {
    quota limits{};                 ///< of the first model's first account
    std::vector<quota> accounts{};  ///< of each of the first model's accounts
    simulation_result outcome{};
};

struct advice_options {
    llm::goal goal{};                        ///< of the quota to request; empty: none is requested
    permit_count headroom_per_mille = 1200;  ///< the quota to request, per mille of the smallest that meets the goal
    permit_count step_per_mille = 10;        ///< the resolution of the search
};

struct advice {
    llm::setup setup{};  ///< as it is
    llm::demand demand{};
    simulation_result present{};
    /// As it is, with each max_tokens at most what its answer used: the gain of tighter bounds, which needs no vendor.
    simulation_result exact_bounds{};
    simulation_result unlimited{};  ///< the first model alone without limits: what the answers take
    std::vector<simulation_result> remedies{};
    advice_options options{};
    std::optional<llm::min_raise> min_raise{};  ///< empty if there is no goal, or no quota meets it
    quota requested{};  ///< the smallest quota with its headroom, for the first model's first account
    std::vector<quota> requested_accounts{};  ///< the same for each of its accounts
    simulation_result with_requested{};       ///< the outcome with the requested quota, if there is one
};

/// Compares the remedies and finds the quota to request. Errors of simulate for each setup; headroom_per_mille must be
/// at least 1000.
///
///     weir::llm::setup_account main{"main", {.rpm = 600, .rps = 10, .tpm = 1'000'000}, {1'200'000, 6'000'000}};
///     weir::llm::setup now{.models = {{"qwen3-max", {main}}}};
///     auto a = weir::llm::advise(calls, now, {with_raised_quota(now, 2000), with_fallback(now, plus, 5s)},
///                                {.goal = {.makespan = 10min}});
///     std::cout << to_text(a) << letter(a);     // text.hpp, letter.hpp
inline advice advise(std::span<planned_call const> calls, setup const& present, std::vector<setup> const& remedies,
                     advice_options const& o = {});

/// The smallest raise of the quotas of the first model's accounts that meets the goal: one factor for all limits, found
/// by doubling and halving; then each limit is lowered again as far as the goal allows. Factors are multiples of `step`
/// per mille. The result has been simulated and meets the goal. Where a larger quota may be worse (several accounts or
/// models), a smaller one may be overlooked. Empty if no quota meets the goal. Takes 15 to 50 simulations. Errors of
/// simulate; `step` must be at least 1.
inline std::optional<min_raise> find_min_raise(std::span<planned_call const> calls, setup const& present, goal const& g,
                                               permit_count step = 10);

/// Each limit of `min` that exceeds `present`, times per_mille / 1000, rounded up to two digits. The others are
/// unchanged.
constexpr quota with_headroom(quota min, quota const& present, permit_count per_mille = 1200) noexcept {
    auto const raise = [&](optional_count& l, optional_count const& p) {
        if (!l || !p || *l <= *p) return;
        std::uint64_t const n = weir::detail::mul_div_ceil(*l, per_mille, 1000);
        std::uint64_t unit = 1;
        while (n / unit >= 100) unit *= 10;
        std::uint64_t const rounded = (n / unit + (n % unit != 0 ? 1 : 0)) * unit;
        l = rounded < n ? n : rounded;
    };
    raise(min.rpm, present.rpm);
    raise(min.rps, present.rps);
    raise(min.tpm, present.tpm);
    raise(min.tps, present.tps);
    return min;
}

}  // namespace weir::inline v0::llm

namespace weir::inline v0::llm::detail {

/// The search of find_min_raise. Factors count steps above 1, one for each of the four limits.
class raise_search {
public:
    using factors = std::array<std::uint64_t, 4>;

    raise_search(std::span<planned_call const> calls, setup const& present, goal const& g, std::uint64_t step)
        : calls_{calls}, present_{present}, goal_{g}, step_{step} {}

    std::optional<factors> find() const {
        if (met(all(0))) return all(0);
        if (!possible()) return std::nullopt;
        std::uint64_t failed = 0;
        std::uint64_t k = (std::max<std::uint64_t>)(1, 1000 / step_);
        while (!met(all(k))) {
            failed = k;
            k *= 2;
            if (k > 100'000'000 / step_) return std::nullopt;
        }
        factors f = all(halve(failed + 1, k, all));
        std::size_t i = 0;
        for (auto const l : {&quota::rpm, &quota::rps, &quota::tpm, &quota::tps}) {
            auto const& accounts = present_.models.front().accounts;
            bool const limited = std::any_of(accounts.begin(), accounts.end(),
                                             [l](setup_account const& a) { return (a.limits.*l).has_value(); });
            auto const with = [&](std::uint64_t n) {
                factors g = f;
                g[i] = n;
                return g;
            };
            f[i] = f[i] != 0 && limited ? halve(0, f[i], with) : 0;
            ++i;
        }
        return f;
    }

    setup raised(factors const& f) const {
        setup s = present_;
        for (auto& a : s.models.front().accounts) {
            std::size_t i = 0;
            for (auto* l : {&a.limits.rpm, &a.limits.rps, &a.limits.tpm, &a.limits.tps}) {
                if (*l) *l = weir::detail::mul_div_ceil(**l, weir::detail::saturating_sum(1000, f[i] * step_), 1000);
                ++i;
            }
        }
        return s;
    }

private:
    static factors all(std::uint64_t k) { return {k, k, k, k}; }

    bool met(factors const& f) const {
        setup const s = raised(f);
        return !setup::validate(s) && goal_.met(simulate(calls_, s));
    }

    /// Whether the goal is met without any limit.
    bool possible() const {
        setup unlimited = present_;
        for (auto& a : unlimited.models.front().accounts) a.limits = {};
        return goal_.met(simulate(calls_, unlimited));
    }

    /// The smallest k in [low, high] for which factors_of(k) meet the goal; those of `high` do.
    template <class F>
    std::uint64_t halve(std::uint64_t low, std::uint64_t high, F factors_of) const {
        while (low < high) {
            std::uint64_t const mid = low + (high - low) / 2;
            if (met(factors_of(mid))) {
                high = mid;
            } else {
                low = mid + 1;
            }
        }
        return high;
    }

    std::span<planned_call const> calls_;
    setup const& present_;
    goal const& goal_;
    std::uint64_t step_;
};

}  // namespace weir::inline v0::llm::detail

namespace weir::inline v0::llm {

inline std::optional<min_raise> find_min_raise(std::span<planned_call const> calls, setup const& present, goal const& g,
                                               permit_count step) {
    weir::detail::ensure(validate(calls));
    weir::detail::ensure(setup::validate(present));
    if (step == 0U || step.invalid()) weir::detail::ensure({"step_per_mille must be at least 1"});
    detail::raise_search const search{calls, present, g, step};
    auto const factors = search.find();
    if (!factors) return std::nullopt;
    min_raise r;
    setup const enough = detail::renamed(search.raised(*factors), "the smallest that meets the goal");
    r.accounts = detail::quotas_of(enough);
    r.limits = r.accounts.front();
    r.outcome = simulate(calls, enough);
    return r;
}

inline advice advise(std::span<planned_call const> calls, setup const& present, std::vector<setup> const& remedies,
                     advice_options const& o) {
    if (o.headroom_per_mille < 1000U || o.headroom_per_mille.invalid())
        weir::detail::ensure({"headroom_per_mille must be at least 1000"});
    advice a;
    a.setup = present;
    a.options = o;
    a.demand = demand_of(calls);
    a.present = simulate(calls, present);
    std::vector<planned_call> exact(calls.begin(), calls.end());
    for (auto& c : exact) c.bound.output = (std::min<std::uint64_t>)(c.bound.output, c.used.output);
    a.exact_bounds = simulate(exact, detail::renamed(present, "exact max_tokens"));
    setup bare = present;
    bare.name = "no limits";
    bare.models.resize(1);
    bare.models.front().accounts.resize(1);
    bare.models.front().accounts.front().limits = {};
    a.unlimited = simulate(calls, bare);
    for (auto const& r : remedies) a.remedies.push_back(simulate(calls, r));
    if (!o.goal.empty()) a.min_raise = find_min_raise(calls, present, o.goal, o.step_per_mille);
    if (a.min_raise) {
        setup granted = present;
        auto& accounts = granted.models.front().accounts;
        for (std::size_t i = 0; i < accounts.size(); ++i) {
            accounts[i].limits = with_headroom(a.min_raise->accounts[i], accounts[i].limits, o.headroom_per_mille);
        }
        a.requested_accounts = detail::quotas_of(granted);
        a.requested = a.requested_accounts.front();
        a.with_requested = simulate(calls, detail::renamed(std::move(granted), "requested quota"));
    }
    return a;
}

}  // namespace weir::inline v0::llm
