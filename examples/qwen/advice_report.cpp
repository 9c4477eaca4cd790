// SPDX-License-Identifier: MIT
#include "advice_report.hpp"

#include <weir/llm/advice/advice.hpp>
#include <weir/llm/advice/letter.hpp>
#include <weir/llm/advice/text.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "../simulator/simulator.hpp"

namespace qwen {

namespace {

using namespace std::chrono_literals;

struct listing {
    std::string_view model;
    listed_price price;
};
constexpr std::array<listing, 6> listings{{{"qwen3-max", {1.20, 6.00}},
                                           {"qwen3-max-2025-09-23", {1.20, 6.00}},
                                           {"qwen-max", {1.60, 6.40}},
                                           {"qwen-plus", {0.40, 1.20}},
                                           {"qwen-flash", {0.05, 0.40}},
                                           {"qwen-turbo", {0.05, 0.20}}}};

// Millionths of a dollar.
weir::llm::token_price in_millionths(std::optional<listed_price> const& p, double share = 1) {
    if (!p) return {};
    auto const of = [](double x) { return static_cast<std::uint64_t>(std::llround(std::min(x, 1e9) * 1e6)); };
    return {of(p->input), of(p->output), static_cast<std::uint64_t>(std::llround(std::min(share, 1e6) * 1000))};
}

weir::llm::setup as_it_is(advice_request const& r) {
    weir::llm::setup s;
    s.models.push_back({r.model, {{"this account", r.limits, in_millionths(r.price)}}});
    s.options = r.options;
    s.max_in_flight = r.in_flight;
    return s;
}

// The usual fallback chain: qwen3-max, qwen-plus, qwen-turbo.
std::optional<weir::llm::setup_model> next_model_of(std::string_view model) {
    std::string_view const next = model == "qwen-plus"                             ? "qwen-turbo"
                                  : model == "qwen-turbo" || model == "qwen-flash" ? ""
                                                                                   : "qwen-plus";
    if (next.empty()) return std::nullopt;
    return weir::llm::setup_model{std::string(next),
                                  {{"this account", *limits_of(next), in_millionths(price_of(next))}}};
}

}  // namespace

std::optional<listed_price> price_of(std::string_view model) {
    auto const found =
        std::find_if(listings.begin(), listings.end(), [&](listing const& l) { return l.model == model; });
    return found == listings.end() ? std::nullopt : std::optional{found->price};
}

std::optional<weir::llm::quota> limits_of(std::string_view model) {
    for (auto const& known : international_models()) {
        if (known.name != model) continue;
        weir::llm::quota q{.rpm = known.limits.rpm, .tpm = known.limits.tpm};
        if (q.rpm) q.rps = std::max<std::uint64_t>(1, (*q.rpm + 59) / 60);
        return q;
    }
    return std::nullopt;
}

std::chrono::nanoseconds simulated_time(std::vector<weir::llm::planned_call> const& calls, advice_request const& r) {
    return weir::llm::simulate(calls, as_it_is(r)).makespan;
}

std::string advice_report(std::vector<weir::llm::planned_call> const& calls, advice_request const& r) {
    using namespace weir::llm;
    auto const now = as_it_is(r);
    setup_account const proxy{"a proxy at " +
                                  weir::detail::decimal_text(in_millionths(r.price, r.proxy_price).per_mille, 3) +
                                  " of the price",
                              r.limits, in_millionths(r.price, r.proxy_price)};
    std::vector<setup> remedies{with_raised_quota(now, 2000), with_accounts(now, 2)};
    auto const fallback = next_model_of(r.model);
    if (fallback) remedies.push_back(with_fallback(now, *fallback, r.patience));
    remedies.push_back(through(now, proxy));
    remedies.push_back(with_account(now, proxy));
    if (fallback) remedies.push_back(with_fallback(with_accounts(now, 2), *fallback, r.patience));

    advice_options o;
    if (r.within) {
        o.goal.makespan = r.within;
    } else {
        auto unlimited = now;
        unlimited.models.front().accounts.front().limits = {};
        auto const at_best = simulate(calls, unlimited).makespan;
        o.goal.makespan = std::max(simulate(calls, now).makespan / 2, at_best + at_best / 4);
    }
    auto const a = advise(calls, now, remedies, o);
    money const dollars;  // prices are in millionths of a dollar
    std::string text = to_text(a, dollars);
    auto const words = letter(a, {.vendor = r.vendor, .model = r.model, .recorded = r.recorded}, dollars);
    if (!words.empty()) text += "\n--- the letter ---\n" + words + "--- ends ---\n";
    return text;
}

}  // namespace qwen
