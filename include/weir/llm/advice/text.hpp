// SPDX-License-Identifier: MIT
//
// to_text: the comparison of advise() as a table. ASCII; lines of about 120
// characters.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../../detail/number_text.hpp"
#include "../quota.hpp"
#include "advice.hpp"
#include "detail/phrases.hpp"

namespace weir::inline v0::llm {

/// How amounts of money are printed: 1,234,567 millionths of a dollar is "$1.2346".
struct money {
    std::string prefix = "$";
    std::string suffix{};
    unsigned decimals = 6;  ///< of the printed unit: 10^decimals of the smallest unit are one
    unsigned shown = 4;     ///< decimals printed, rounded to nearest

    std::string text(std::uint64_t amount) const {
        unsigned digits = decimals;
        std::uint64_t half = 0;
        for (; digits > shown; --digits) {
            half = amount % 10;
            amount /= 10;
        }
        return prefix + detail::decimal_text(amount + (half >= 5 ? 1 : 0), digits, digits < 2 ? digits : 2) + suffix;
    }
};

/// The comparison: a row for each setup, the present one first, and remarks below.
inline std::string to_text(advice const& a, money const& m = {}) {
    using detail::duration_text;
    using detail::grouped;
    bool prices = detail::has_prices(a.present);
    bool fallbacks = false;
    std::vector<simulation_result const*> all{&a.present};
    for (auto const& r : a.remedies) all.push_back(&r);
    // Shown if it saves at least a fiftieth of the time.
    bool const tighter = a.exact_bounds.makespan < a.present.makespan - a.present.makespan / 50;
    if (tighter) all.push_back(&a.exact_bounds);
    if (a.min_raise) all.push_back(&a.with_requested);
    all.push_back(&a.unlimited);
    for (auto const* r : all) {
        prices = prices || detail::has_prices(*r);
        fallbacks = fallbacks || r->fallbacks != 0;
    }

    std::vector<std::vector<std::string>> rows{{"", "time", "median wait", "p99", "longest"}};
    if (prices) rows.front().push_back("cost");
    if (fallbacks) rows.front().push_back("fallbacks");
    rows.front().push_back("bound by");
    for (auto const* r : all) {
        auto& row = rows.emplace_back();
        row = {r->name, duration_text(r->makespan), duration_text(r->wait.median), duration_text(r->wait.p99),
               duration_text(r->wait.longest)};
        if (prices) row.push_back(m.text(r->cost));
        if (fallbacks) row.push_back(r->fallbacks == 0 ? "" : detail::calls_text(r->fallbacks));
        row.push_back(detail::shares_text(*r));
    }
    std::vector<std::size_t> width(rows.front().size(), 0);
    for (auto const& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) width[i] = (std::max)(width[i], row[i].size());
    }

    std::string s = detail::calls_text(a.demand.calls) + ", " + grouped(a.demand.used.input) + " tokens in and " +
                    grouped(a.demand.used.output) + " out; " +
                    detail::short_text(a.setup.models.front().accounts.front().limits) + ".\n\n";
    for (auto const& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            std::string const gap(width[i] - row[i].size(), ' ');
            // Names and shares are left-aligned, numbers right-aligned.
            line += i == 0 || i + 1 == row.size() ? row[i] + (i == 0 ? gap : "") : gap + row[i];
            line += "  ";
        }
        line.erase(line.find_last_not_of(' ') + 1);
        s += line + '\n';
    }
    s += '\n';
    for (auto const* r : all) {
        if (auto const never = detail::never_text(*r); !never.empty()) s += r->name + ": " + never + '\n';
    }
    for (auto const* r : all) {
        if (r->use.size() < 2) continue;
        s += r->name + ":";
        for (auto const& u : r->use) {
            s += (&u == &r->use.front() ? " " : "; ") + u.model + (u.account.empty() ? "" : " by " + u.account) + ' ' +
                 detail::calls_text(u.calls);
            if (prices) s += ' ' + m.text(u.cost);
        }
        s += '\n';
    }
    if (tighter) {
        detail::paragraph p{s};
        p.add(
            "Tokens are reserved at max_tokens while an answer is in flight. If max_tokens never exceeded what the "
            "answer uses, all calls would be done in " +
            duration_text(a.exact_bounds.makespan) + ", without any change by the vendor.");
    }
    if (!a.options.goal.empty()) {
        detail::paragraph p{s};
        std::string const goal = detail::goal_text(a.options.goal);
        if (!a.min_raise) {
            p.add("No quota is large enough that " + goal + ": without limits the calls take " +
                  duration_text(a.unlimited.makespan) + '.');
        } else if (a.min_raise->accounts == detail::quotas_of(a.setup)) {
            p.add("With the present quota " + goal + '.');
        } else {
            p.add("The smallest quota with which " + goal + ": " + detail::short_text(a.setup, a.min_raise->accounts) +
                  " (in steps of " + detail::decimal_text(a.options.step_per_mille, 1) +
                  "%). To request, with a headroom of " + detail::decimal_text(a.options.headroom_per_mille - 1000, 1) +
                  "%, rounded up: " + detail::short_text(a.setup, a.requested_accounts) + '.');
        }
    }
    return s;
}

}  // namespace weir::inline v0::llm
