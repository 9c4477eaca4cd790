// SPDX-License-Identifier: MIT
//
// Advice in words: a comparison for whoever runs the calls, and a letter to the vendor that asks for more quota, with the facts on which a
// vendor decides. ASCII, lines of at most some 120 characters.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../detail/number_text.hpp"
#include "../quota.hpp"
#include "advice.hpp"

namespace weir::inline v0::llm {

/// How amounts of money are written: 1,234,567 of millionths is "$1.2346".
struct money {
    std::string before = "$";
    std::string after{};
    unsigned decimals = 6;  ///< of the unit that people count in, in the prices' smallest unit
    unsigned shown = 4;     ///< of them; the last is rounded to the nearest

    std::string text(std::uint64_t amount) const {
        unsigned digits = decimals;
        std::uint64_t half = 0;
        for (; digits > shown; --digits) {
            half = amount % 10;
            amount /= 10;
        }
        return before + weir::detail::decimal_text(amount + (half >= 5 ? 1 : 0), digits, digits < 2 ? digits : 2) +
               after;
    }
};

/// What the letter is to say of its sender, each where it is known.
struct letter_facts {
    std::string vendor{};
    std::string sender{};
    std::string account{};
    std::string model{};  ///< default: the first model's name
    std::string region{};
    std::string purpose{};  ///< one sentence: what the calls are for
    bool recorded = false;  ///< the calls are those of a run; else they are to come, and their answers expected
};

/// "600 RPM, 10 RPS, 1,000,000 TPM"
inline std::string to_text(quota const& q) {
    std::string s;
    auto const add = [&](std::optional<std::uint64_t> const& l, char const* name) {
        if (l) s += (s.empty() ? "" : ", ") + weir::detail::grouped(*l) + ' ' + name;
    };
    add(q.rpm, "RPM");
    add(q.rps, "RPS");
    add(q.tpm, "TPM");
    add(q.tps, "TPS");
    return s.empty() ? "no limits" : s;
}

}  // namespace weir::inline v0::llm

namespace weir::inline v0::detail {

inline bool all_alike(std::vector<llm::quota> const& q) {
    return std::all_of(q.begin(), q.end(), [&](llm::quota const& x) { return x == q.front(); });
}

/// Of the first model's accounts: one for all, or each by its name.
inline std::string quotas_text(llm::setup const& s, std::vector<llm::quota> const& q) {
    if (all_alike(q)) return llm::to_text(q.front());
    std::string text;
    for (std::size_t i = 0; i < q.size(); ++i) {
        text += (i == 0 ? "" : "; ") + s.models.front().accounts[i].name + ": " + llm::to_text(q[i]);
    }
    return text;
}

inline constexpr std::array<std::string_view, llm::constraints> short_names{"RPM",       "RPS",     "TPM", "TPS",
                                                                            "in flight", "answers", "idle"};

/// "RPS 98.2%, answers 1.8%", the greatest first; what is 0 is left out.
inline std::string shares_text(llm::simulation_result const& f) {
    std::array<std::size_t, llm::constraints> order{};
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return f.per_mille[a] > f.per_mille[b]; });
    std::string s;
    for (std::size_t const i : order) {
        if (f.per_mille[i] == 0) continue;
        s += (s.empty() ? "" : ", ") + std::string{short_names[i]} + ' ' + percent(f.per_mille[i]);
    }
    return s;
}

inline bool has_prices(llm::simulation_result const& f) noexcept { return f.cost != 0; }

inline std::string calls_text(std::size_t n) { return grouped(n) + (n == 1 ? " call" : " calls"); }

/// What cannot be admitted, in a sentence; nothing where all can.
inline std::string never_text(llm::simulation_result const& f) {
    if (f.never == 0) return {};
    return calls_text(f.never) + (f.never == 1 ? " is" : " are") +
           " larger than a limit and can never be admitted (the first is number " + grouped(f.first_never + 1) +
           "; the largest asks for " + grouped(f.largest_never) + " tokens).";
}

inline std::string goal_text(llm::goal const& g) {
    std::string s;
    auto const add = [&](std::string const& what) { s += (s.empty() ? "" : ", and ") + what; };
    if (g.whole) add("all is done within " + duration_text(*g.whole));
    if (g.wait) add("99 of 100 calls wait at most " + duration_text(*g.wait));
    if (g.limited) {
        std::string const who = g.by == llm::limit::none ? "limits bind" : std::string{to_string(g.by)} + " bind";
        add(*g.limited == 0 ? "no " + (g.by == llm::limit::none ? std::string{"llm::limit binds"}
                                                                : "call waits for " + std::string{to_string(g.by)})
                            : who + " for at most " + percent(*g.limited) + " of the time");
    }
    return s;
}

/// Words in lines.
class paragraph {
public:
    explicit paragraph(std::string& out) : out_{out} {}
    paragraph(paragraph const&) = delete;
    paragraph& operator=(paragraph const&) = delete;
    ~paragraph() { out_ += '\n'; }

    void add(std::string_view text) {
        while (!text.empty()) {
            auto const space = text.find(' ');
            std::string_view const word = text.substr(0, space);
            text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
            if (word.empty()) continue;
            if (width_ != 0 && width_ + 1 + word.size() > 100) {
                out_ += '\n';
                width_ = 0;
            }
            if (width_ != 0) {
                out_ += ' ';
                ++width_;
            }
            out_ += word;
            width_ += word.size();
        }
    }

private:
    std::string& out_;
    std::size_t width_ = 0;
};

}  // namespace weir::inline v0::detail

namespace weir::inline v0::llm {

/// The comparison: a row for each, as it is first, and beneath it what needs saying.
inline std::string to_text(advice const& a, money const& m = {}) {
    using weir::detail::duration_text;
    using weir::detail::grouped;
    bool prices = weir::detail::has_prices(a.present);
    bool lesser = false;
    std::vector<simulation_result const*> all{&a.present};
    for (auto const& r : a.remedies) all.push_back(&r);
    // Where it matters: a fiftieth of the time.
    bool const tighter = a.tight.whole < a.present.whole - a.present.whole / 50;
    if (tighter) all.push_back(&a.tight);
    if (a.least) all.push_back(&a.with_asked);
    all.push_back(&a.unlimited);
    for (auto const* f : all) {
        prices = prices || weir::detail::has_prices(*f);
        lesser = lesser || f->lesser != 0;
    }

    std::vector<std::vector<std::string>> rows{{"", "time", "wait: half", "99 of 100", "longest"}};
    if (prices) rows.front().push_back("cost");
    if (lesser) rows.front().push_back("lesser model");
    rows.front().push_back("bound by");
    for (auto const* f : all) {
        auto& row = rows.emplace_back();
        row = {f->name, duration_text(f->whole), duration_text(f->wait.median), duration_text(f->wait.p99),
               duration_text(f->wait.longest)};
        if (prices) row.push_back(m.text(f->cost));
        if (lesser) row.push_back(f->lesser == 0 ? "" : weir::detail::calls_text(f->lesser));
        row.push_back(weir::detail::shares_text(*f));
    }
    std::vector<std::size_t> width(rows.front().size(), 0);
    for (auto const& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) width[i] = (std::max)(width[i], row[i].size());
    }

    std::string s = weir::detail::calls_text(a.wanted.calls) + ", " + grouped(a.wanted.used.input) + " tokens in and " +
                    grouped(a.wanted.used.output) + " out; " +
                    to_text(a.before.models.front().accounts.front().limits) + ".\n\n";
    for (auto const& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            std::string const gap(width[i] - row[i].size(), ' ');
            // Names and shares begin on the left, numbers end on the right.
            line += i == 0 || i + 1 == row.size() ? row[i] + (i == 0 ? gap : "") : gap + row[i];
            line += "  ";
        }
        line.erase(line.find_last_not_of(' ') + 1);
        s += line + '\n';
    }
    s += '\n';
    for (auto const* f : all) {
        if (auto const never = weir::detail::never_text(*f); !never.empty()) s += f->name + ": " + never + '\n';
    }
    for (auto const* f : all) {
        if (f->use.size() < 2) continue;
        s += f->name + ":";
        for (auto const& u : f->use) {
            s += (&u == &f->use.front() ? " " : "; ") + u.model + (u.account.empty() ? "" : " by " + u.account) + ' ' +
                 weir::detail::calls_text(u.calls);
            if (prices) s += ' ' + m.text(u.cost);
        }
        s += '\n';
    }
    if (tighter) {
        weir::detail::paragraph p{s};
        p.add(
            "Tokens are held for answers under way, at max_tokens. Were it never more than what the answer uses, all "
            "would be done in " +
            duration_text(a.tight.whole) + ", and no vendor need do anything.");
    }
    if (a.options.goal.asks()) {
        weir::detail::paragraph p{s};
        std::string const goal = weir::detail::goal_text(a.options.goal);
        if (!a.least) {
            p.add("No quota is large enough that " + goal + ": without any limit it takes " +
                  duration_text(a.unlimited.whole) + '.');
        } else if (a.least->accounts == weir::detail::quotas_of(a.before)) {
            p.add("The present quota is enough that " + goal + '.');
        } else {
            p.add("The least quota with which " + goal + ": " + weir::detail::quotas_text(a.before, a.least->accounts) +
                  " (in steps of " + weir::detail::decimal_text(a.options.step_per_mille, 1) +
                  "%). To ask for, with a headroom of " +
                  weir::detail::decimal_text(a.options.headroom_per_mille - 1000, 1) +
                  "%, rounded up: " + weir::detail::quotas_text(a.before, a.asked_of) + '.');
        }
    }
    return s;
}

/// The letter. Empty where there is nothing to ask for: no goal, one that the present quota meets, or one that none does.
inline std::string letter(advice const& a, letter_facts const& facts = {}, money const& m = {}) {
    using weir::detail::duration_text;
    using weir::detail::grouped;
    using weir::detail::percent;
    quota const& now = a.before.models.front().accounts.front().limits;
    auto const before = weir::detail::quotas_of(a.before);
    if (!a.least || a.least->accounts == before) return {};
    std::string const model = facts.model.empty() ? a.before.models.front().name : facts.model;
    std::size_t const accounts = a.before.models.front().accounts.size();

    std::string s = "Subject: request for a higher rate limit of " + model + "\n\n";
    if (!facts.vendor.empty()) s += "To " + facts.vendor + "\n\n";
    {
        weir::detail::paragraph p{s};
        p.add("Dear team, we ask for a higher rate limit of " + model);
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
    if (weir::detail::all_alike(before)) {
        lines(a.asked, now);
        if (accounts > 1) s += "  for each of " + std::to_string(accounts) + " accounts\n";
    } else {
        for (std::size_t i = 0; i < accounts; ++i) {
            s += "  Account " + a.before.models.front().accounts[i].name + ":\n";
            lines(a.asked_of[i], before[i]);
        }
    }
    s += '\n';
    {
        weir::detail::paragraph p{s};
        if (!facts.purpose.empty()) p.add(facts.purpose);
        p.add("What we need it for:");
        p.add(weir::detail::calls_text(a.wanted.calls) + " with " + grouped(a.wanted.used.total()) + " tokens (" +
              grouped(a.wanted.used.input) + " in, " + grouped(a.wanted.used.output) +
              (facts.recorded ? " out, as your answers reported)," : " out, as we expect),"));
        if (a.wanted.span <= std::chrono::minutes{1}) {
            p.add(a.wanted.span == a.wanted.span.zero()
                      ? "all of them ready to be sent at once."
                      : "all of them ready to be sent within " + duration_text(a.wanted.span) + '.');
            if (a.options.goal.whole) {
                auto const whole =
                    static_cast<std::uint64_t>((std::max)(std::chrono::nanoseconds{1}, *a.options.goal.whole).count());
                auto const each = [whole](std::uint64_t n, std::uint64_t seconds) {
                    return grouped(weir::detail::mul_div_ceil(n, seconds * 1'000'000'000, whole));
                };
                std::uint64_t const used = a.wanted.used.total();
                p.add("To be done within " + duration_text(*a.options.goal.whole) + " that is " +
                      each(a.wanted.calls, 60) + " requests and " + each(used, 60) +
                      " tokens a minute on the average, " + each(a.wanted.calls, 1) + " requests and " + each(used, 1) +
                      " tokens a second.");
            }
        } else {
            p.add("wanted over " + duration_text(a.wanted.span) + ": " + grouped(a.wanted.sustained.requests) +
                  " requests and " + grouped(a.wanted.sustained.tokens) + " tokens a minute on the average, " +
                  grouped(a.wanted.peak_minute.requests) + " requests and " + grouped(a.wanted.peak_minute.tokens) +
                  " tokens in the busiest minute, " + grouped(a.wanted.peak_second.requests) + " requests and " +
                  grouped(a.wanted.peak_second.tokens) + " tokens in the busiest second.");
        }
        if (weir::detail::has_prices(a.present)) p.add("At your prices that is worth " + m.text(a.present.cost) + '.');
    }
    s += '\n';
    auto const of = [](std::uint64_t n, std::optional<std::uint64_t> const& l) {
        return grouped(n) + (l ? " of " + grouped(*l) : std::string{});
    };
    {
        weir::detail::paragraph p{s};
        p.add(
            "What the present limits cost: our client paces itself so that you need not refuse it. Its busiest minute "
            "holds " +
            (accounts == 1 ? of(a.present.peak_minute.requests, now.rpm) : grouped(a.present.peak_minute.requests)) +
            " requests and " +
            (accounts == 1 ? of(a.present.peak_minute.tokens, now.tpm) : grouped(a.present.peak_minute.tokens)) +
            " tokens, its busiest second " +
            (accounts == 1 ? of(a.present.peak_second.requests, now.rps) : grouped(a.present.peak_second.requests)) +
            " requests.");
        if (a.present.answered != 0) {
            p.add("The work takes " + duration_text(a.present.whole) + "; without any limit your answers would need " +
                  duration_text(a.unlimited.whole) + ". Half of the calls wait for more than " +
                  duration_text(a.present.wait.median) + ", one in a hundred for more than " +
                  duration_text(a.present.wait.p99) + ", the last for " + duration_text(a.present.wait.longest) +
                  "; all waiting together is " + duration_text(a.present.wait.total) + ". Of the whole time");
            std::string by;
            for (std::size_t c = 0; c < 4; ++c) {
                if (a.present.per_mille[c] == 0) continue;
                by += (by.empty() ? "" : ", ") + std::string{to_string(static_cast<constraint>(c))} + " bound for " +
                      percent(a.present.per_mille[c]);
            }
            p.add((by.empty() ? "no limit bound" : by) + '.');
        }
        p.add(weir::detail::never_text(a.present));
    }
    s += '\n';
    {
        weir::detail::paragraph p{s};
        p.add("What the change would give: the same work takes " + duration_text(a.with_asked.whole) +
              ", half of the calls wait for no more than " + duration_text(a.with_asked.wait.median) +
              " and 99 of 100 for no more than " + duration_text(a.with_asked.wait.p99) +
              (a.with_asked.limited() + 50 > a.present.limited()
                   ? "."
                   : "; limits bind for " + percent(a.with_asked.limited()) + " of the time instead of " +
                         percent(a.present.limited()) + '.'));
        p.add("The amounts are the least with which " + weir::detail::goal_text(a.options.goal) + " (" +
              weir::detail::quotas_text(a.before, a.least->accounts) + "), and " +
              weir::detail::decimal_text(a.options.headroom_per_mille - 1000, 1) +
              "% more for growth, rounded up. They come from a simulation of " +
              (facts.recorded ? "these calls as they were recorded," : "these calls,") +
              " admitted by the very limiter that our client uses, in sliding windows.");
    }
    if (!facts.sender.empty()) s += "\nKind regards\n" + facts.sender + '\n';
    return s;
}

}  // namespace weir::inline v0::llm
