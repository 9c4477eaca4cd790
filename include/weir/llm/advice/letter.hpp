// SPDX-License-Identifier: MIT
//
// letter: a request to the vendor for the quota that advise() found, with the facts that a vendor decides on. ASCII;
// paragraphs are wrapped at 100 columns.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../../detail/number_text.hpp"
#include "../../detail/wide.hpp"
#include "../quota.hpp"
#include "advice.hpp"
#include "detail/phrases.hpp"
#include "text.hpp"

namespace weir::inline v0::llm {

/// What the letter says about its sender; empty fields are left out.
struct letter_facts {
    std::string vendor{};
    std::string sender{};
    std::string account{};
    std::string model{};  ///< default: the first model's name
    std::string region{};
    std::string purpose{};  ///< one sentence: what the calls are for
    bool recorded = false;  ///< the calls were recorded from a run; otherwise their answers are expected
};

/// The letter. Empty if there is nothing to request: no goal, a goal that the present quota meets, or one that no quota
/// meets.
inline std::string letter(advice const& a, letter_facts const& facts = {}, money const& m = {}) {
    using detail::duration_text;
    using detail::grouped;
    using detail::percent;
    quota const& now = a.setup.models.front().accounts.front().limits;
    auto const before = detail::quotas_of(a.setup);
    if (!a.min_raise || a.min_raise->accounts == before) return {};
    std::string const model = facts.model.empty() ? a.setup.models.front().name : facts.model;
    std::size_t const accounts = a.setup.models.front().accounts.size();

    std::string s = "Subject: request for a higher rate limit for " + model + "\n\n";
    if (!facts.vendor.empty()) s += "To " + facts.vendor + "\n\n";
    {
        detail::paragraph p{s};
        p.add("Dear team, we request a higher rate limit for " + model);
        if (!facts.region.empty()) p.add("in region " + facts.region);
        if (!facts.account.empty()) p.add("for account " + facts.account);
        p.add("as follows:");
    }
    auto const line = [&](std::string_view name, std::optional<std::uint64_t> const& want,
                          std::optional<std::uint64_t> const& have) {
        if (!have || !want) return;
        std::string row = "  " + std::string{name};
        row.append(row.size() < 24 ? 24 - row.size() : 1, ' ');
        s += row +
             (*want == *have ? "unchanged at " + grouped(*have) : grouped(*want) + "  (now " + grouped(*have) + ")") +
             '\n';
    };
    s += '\n';
    auto const lines = [&](quota const& want, quota const& have) {
        line(llm::to_string(limit::rpm), want.rpm, have.rpm);
        line(llm::to_string(limit::rps), want.rps, have.rps);
        line(llm::to_string(limit::tpm), want.tpm, have.tpm);
        line(llm::to_string(limit::tps), want.tps, have.tps);
    };
    if (detail::all_equal(before)) {
        lines(a.requested, now);
        if (accounts > 1) s += "  for each of " + std::to_string(accounts) + " accounts\n";
    } else {
        for (std::size_t i = 0; i < accounts; ++i) {
            s += "  Account " + a.setup.models.front().accounts[i].name + ":\n";
            lines(a.requested_accounts[i], before[i]);
        }
    }
    s += '\n';
    {
        detail::paragraph p{s};
        if (!facts.purpose.empty()) p.add(facts.purpose);
        p.add("Our workload:");
        p.add(detail::calls_text(a.demand.calls) + " with " + grouped(a.demand.used.total()) + " tokens (" +
              grouped(a.demand.used.input) + " in, " + grouped(a.demand.used.output) +
              (facts.recorded ? " out, as your answers reported)," : " out, as expected),"));
        if (a.demand.span <= std::chrono::minutes{1}) {
            p.add(a.demand.span == a.demand.span.zero()
                      ? "all of them ready to be sent at once."
                      : "all of them ready to be sent within " + duration_text(a.demand.span) + '.');
            if (a.options.goal.makespan) {
                auto const whole = static_cast<std::uint64_t>(
                    (std::max)(std::chrono::nanoseconds{1}, *a.options.goal.makespan).count());
                auto const each = [whole](std::uint64_t n, std::uint64_t seconds) {
                    return grouped(weir::detail::mul_div_ceil(n, seconds * 1'000'000'000, whole));
                };
                std::uint64_t const used = a.demand.used.total();
                p.add("To finish within " + duration_text(*a.options.goal.makespan) + " takes " +
                      each(a.demand.calls, 60) + " requests and " + each(used, 60) + " tokens per minute on average, " +
                      each(a.demand.calls, 1) + " requests and " + each(used, 1) + " tokens per second.");
            }
        } else {
            p.add("spread over " + duration_text(a.demand.span) + ": " + grouped(a.demand.per_minute.requests) +
                  " requests and " + grouped(a.demand.per_minute.tokens) + " tokens per minute on average, " +
                  grouped(a.demand.peak_minute.requests) + " requests and " + grouped(a.demand.peak_minute.tokens) +
                  " tokens in the busiest minute, " + grouped(a.demand.peak_second.requests) + " requests and " +
                  grouped(a.demand.peak_second.tokens) + " tokens in the busiest second.");
        }
        if (detail::has_prices(a.present)) p.add("At your prices this costs " + m.text(a.present.cost) + '.');
    }
    s += '\n';
    auto const of = [](std::uint64_t n, std::optional<std::uint64_t> const& l) {
        return grouped(n) + (l ? " of " + grouped(*l) : std::string{});
    };
    {
        detail::paragraph p{s};
        p.add(
            "With the present limits: our client paces itself so that your servers need not refuse it. Its busiest "
            "minute "
            "has " +
            (accounts == 1 ? of(a.present.peak_minute.requests, now.rpm) : grouped(a.present.peak_minute.requests)) +
            " requests and " +
            (accounts == 1 ? of(a.present.peak_minute.tokens, now.tpm) : grouped(a.present.peak_minute.tokens)) +
            " tokens, its busiest second " +
            (accounts == 1 ? of(a.present.peak_second.requests, now.rps) : grouped(a.present.peak_second.requests)) +
            " requests.");
        if (a.present.answered != 0) {
            p.add("The work takes " + duration_text(a.present.makespan) +
                  "; without limits the answers alone would take " + duration_text(a.unlimited.makespan) +
                  ". The median wait is " + duration_text(a.present.wait.median) + ", the 99th percentile " +
                  duration_text(a.present.wait.p99) + ", the longest " + duration_text(a.present.wait.longest) +
                  "; the waits sum to " + duration_text(a.present.wait.total) + ". Of the total time,");
            std::string by;
            for (std::size_t c = 0; c < 4; ++c) {
                if (a.present.per_mille[c] == 0) continue;
                by += (by.empty() ? "" : ", ") + percent(a.present.per_mille[c]) + " was limited by " +
                      std::string{to_string(static_cast<constraint>(c))};
            }
            p.add((by.empty() ? "none was limited" : by) + '.');
        }
        p.add(detail::never_text(a.present));
    }
    s += '\n';
    {
        detail::paragraph p{s};
        p.add("With the requested limits: the same work takes " + duration_text(a.with_requested.makespan) +
              ", with a median wait of " + duration_text(a.with_requested.wait.median) + " and a 99th percentile of " +
              duration_text(a.with_requested.wait.p99) +
              (a.with_requested.limited() + 50 > a.present.limited()
                   ? "."
                   : "; limits bind for " + percent(a.with_requested.limited()) + " of the time instead of " +
                         percent(a.present.limited()) + '.'));
        p.add("The requested amounts are the smallest with which " + detail::goal_text(a.options.goal) + " (" +
              detail::short_text(a.setup, a.min_raise->accounts) + "), plus " +
              detail::decimal_text(a.options.headroom_per_mille - 1000, 1) +
              "% for growth, rounded up. They come from a simulation of " +
              (facts.recorded ? "these calls as recorded," : "these calls,") +
              " admitted by the limiter that our client uses, with sliding windows.");
    }
    if (!facts.sender.empty()) s += "\nKind regards\n" + facts.sender + '\n';
    return s;
}

}  // namespace weir::inline v0::llm
