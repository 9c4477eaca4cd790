// SPDX-License-Identifier: MIT
//
// advice: what each remedy for a quota that is too small would give, in time and in money: a raised quota, another account, a fallback
// model, a proxy with a price of its own, and any of them together. It is no formula: every answer is a simulation, in which weir's own
// quota_limiter, account_pool and fallback_chain admit the calls in virtual time, with the jitter margin, the holds for outputs and the slack of their
// segments. So what it says is what weir would do, given the calls: when they are wanted, what they use, how long the answers take.
// What a simulation leaves out: refusals (there are none, as long as quota_limiter's conditions hold), retries, and the time on the way.
//
// advice_text.hpp puts it into words, and into a letter to the vendor.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <limits>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../atomics.hpp"
#include "../../clock/clock.hpp"
#include "../../clock/manual_clock.hpp"
#include "../../detail/number_text.hpp"
#include "../../detail/wide.hpp"
#include "../../error.hpp"
#include "../account_pool.hpp"
#include "../fallback_chain.hpp"
#include "../limit_kind.hpp"
#include "../quota.hpp"
#include "../quota_limiter.hpp"

namespace weir::inline v0::llm {

// ---- what is to be done ----

/// A call: as a run recorded it, or as it is to be expected (`expected_call`).
struct planned_call {
    std::chrono::nanoseconds wanted{0};  ///< when, from any moment that all calls share; a batch wants all at once
    tokens bound{};                      ///< what is asked of the limiter: at most so many
    tokens used{};                       ///< what the answer reports
    std::chrono::nanoseconds took{0};    ///< from the send to the end of the answer
};

/// How answers are expected to be, for calls that were never sent.
struct answer_guess {
    std::uint64_t input_per_mille = 1000;   ///< of the input's bound
    std::uint64_t output_per_mille = 1000;  ///< of the output's bound
    std::chrono::nanoseconds first_token{std::chrono::milliseconds{400}};
    std::uint64_t tokens_per_second = 60;  ///< after the first

    static constexpr error validate(answer_guess const& g) noexcept {
        if (g.tokens_per_second == 0) return {"an answer at 0 tokens a second never ends"};
        if (g.first_token < g.first_token.zero()) return {"an answer cannot begin before its call"};
        return {};
    }
};

/// A call that is known by its bounds alone.
constexpr planned_call expected_call(tokens bound, answer_guess const& g = {},
                                     std::chrono::nanoseconds wanted = std::chrono::nanoseconds{0}) {
    weir::detail::ensure(answer_guess::validate(g));
    tokens const used{.input = weir::detail::mul_div_ceil(bound.input, g.input_per_mille, 1000),
                      .output = weir::detail::mul_div_ceil(bound.output, g.output_per_mille, 1000)};
    constexpr std::uint64_t most = std::uint64_t{1} << 62U;
    std::uint64_t const speaks =
        (std::min)(most, weir::detail::mul_div_ceil(used.output, 1'000'000'000, g.tokens_per_second));
    return {wanted, bound, used,
            std::chrono::nanoseconds{
                weir::detail::saturating_add(g.first_token.count(), static_cast<std::int64_t>(speaks))}};
}

// ---- what there is, or might be ----

/// What a million tokens cost, in the smallest unit of the caller's money (millionths of a dollar, say), the same for all that are compared. Of that,
/// `per_mille` is asked: 880 by a proxy at 0.88 of the price.
struct token_price {
    std::uint64_t input = 0;
    std::uint64_t output = 0;
    std::uint64_t per_mille = 1000;

    /// Of so many tokens, rounded up once; all ones where 64 bits do not hold it.
    constexpr std::uint64_t of(tokens t) const noexcept {
        constexpr std::uint64_t most = (std::numeric_limits<std::uint64_t>::max)();
        weir::detail::u128 const in = weir::detail::mul(t.input, input);
        weir::detail::u128 const out = weir::detail::mul(t.output, output);
        weir::detail::u128 sum{in.hi + out.hi, in.lo + out.lo};
        if (sum.hi < in.hi) return most;
        if (sum.lo < in.lo && ++sum.hi == 0) return most;
        weir::detail::u128 const low = weir::detail::mul(sum.lo, per_mille);
        weir::detail::u128 const high = weir::detail::mul(sum.hi, per_mille);
        weir::detail::u128 const whole{high.lo + low.hi, low.lo};
        constexpr std::uint64_t unit = 1'000'000'000;  // a million tokens, a thousand per mille
        if (high.hi != 0 || whole.hi < high.lo || whole.hi >= unit) return most;
        weir::detail::quotient const q = weir::detail::div(whole, unit);
        return q.value == most || q.remainder == 0 ? q.value : q.value + 1;
    }
};

/// One account of a model's, or a proxy to it: a quota, and what it costs.
struct setup_account {
    std::string name{};
    quota limits{};
    token_price price{};
    std::uint64_t in_flight = 0;  ///< the most calls that it lets be under way at once; 0: no such limit
};

/// A model and the accounts that serve it, from which account_pool chooses: of those that can, the cheapest for the whole of the calls.
struct setup_model {
    std::string name{};
    std::vector<setup_account> accounts{};
    std::uint64_t took_per_mille = 1000;  ///< how long its answers take, of what a call's `took` says
};

/// How calls are served: the model that is meant, then those that it falls back to, as in a fallback_chain.
struct setup {
    std::string name{};  ///< what was changed; empty: as it is
    std::vector<setup_model> models{};
    quota_options options{};
    /// How long the first in line rather waits for a better model than take a lesser one, as fallback_chain asks it.
    std::chrono::nanoseconds patience{0};
    std::uint64_t in_flight = 0;  ///< the most calls under way at once, of all accounts; 0: no such bound

    static error validate(setup const& s);
};

// ---- what comes of it ----

/// What an instant was bound by. One of the four limits, `in_flight`, `answers` or `nobody`, as told at `simulation_result::share`.
enum class constraint : unsigned char { rpm, rps, tpm, tps, in_flight, answers, nobody };
inline constexpr std::size_t constraints = 7;

constexpr std::string_view to_string(constraint c) noexcept {
    switch (c) {
        case constraint::rpm: return llm::to_string(limit::rpm);
        case constraint::rps: return llm::to_string(limit::rps);
        case constraint::tpm: return llm::to_string(limit::tpm);
        case constraint::tps: return llm::to_string(limit::tps);
        case constraint::in_flight: return "calls in flight";
        case constraint::answers: return "the answers themselves";
        case constraint::nobody: break;
    }
    return "nothing to do";
}

/// Requests and tokens within some time.
struct load {
    std::uint64_t requests = 0;
    std::uint64_t tokens = 0;

    friend constexpr bool operator==(load const&, load const&) = default;
};

/// What the calls ask for, whatever is granted.
struct demand {
    std::size_t calls = 0;
    tokens used{};
    std::chrono::nanoseconds span{0};  ///< from the first that is wanted to the last
    load peak_minute{};                ///< the most that was wanted in any minute [t, t + 60 s), answers included
    load peak_second{};
    load sustained{};  ///< a minute, on the average of the span; all of it where the span is shorter than a minute
};

/// Where a call went, for who wants to look closer. A call that was not admitted has no place.
struct placement {
    std::chrono::nanoseconds sent{0};  ///< from the moment at which the first call was wanted
    std::chrono::nanoseconds ended{0};
    std::size_t model = 0;
    std::size_t account = 0;
    bool admitted = false;
};

/// What an account did.
struct account_use {
    std::string model{};
    std::string account{};
    std::size_t calls = 0;
    tokens used{};
    std::uint64_t cost = 0;
};

/// The outcome of a simulation.
struct simulation_result {
    std::string name{};
    std::chrono::nanoseconds whole{0};  ///< from the first call wanted until all are answered or turned away
    struct waits {
        std::chrono::nanoseconds median{0};  ///< half of the calls waited no longer, from wanted to sent
        std::chrono::nanoseconds p99{0};     ///< 99 of 100 waited no longer
        std::chrono::nanoseconds longest{0};
        std::chrono::nanoseconds total{0};  ///< of all calls
    } wait{};
    std::uint64_t cost = 0;  ///< of what was used, in the prices' unit: each account's, rounded up
    tokens used{};
    std::size_t answered = 0;
    std::size_t lesser = 0;  ///< of them: by a model that is not the first
    /// Calls that no account can ever admit: larger than a limit, or not within twenty years. They hold nobody up, cost nothing and are in no other figure.
    std::size_t never = 0;
    std::size_t first_never = 0;      ///< the number of the first of them, where there is one
    std::uint64_t largest_never = 0;  ///< the most tokens that one of them asks for
    load
        peak_minute{};  ///< the most that was used in any minute: a request and its input where it was sent, its output where the answer ended
    load peak_second{};
    /// Of the whole time, per mille, in sum 1000. An instant is bound
    /// - by the limit that keeps the first call in line waiting longest, as quota_limiter said when it last denied it; where several accounts or models
    ///   might serve it, by what keeps the one that could serve it first (fallback_chain::choice::denied_by). It asks again when that time
    ///   has come, and after each answer, since that may release tokens;
    /// - by `in_flight`, where that first call waits only for one of those under way to end;
    /// - where none waits: by `answers` while some are under way, else by `nobody`.
    std::array<std::uint64_t, constraints> per_mille{};
    std::uint64_t share(constraint c) const noexcept { return per_mille[static_cast<std::size_t>(c)]; }
    /// By one of the four limits; none: by any of them.
    std::uint64_t limited(limit by = limit::none) const noexcept {
        switch (by) {
            case limit::rpm: return share(constraint::rpm);
            case limit::rps: return share(constraint::rps);
            case limit::tpm: return share(constraint::tpm);
            case limit::tps: return share(constraint::tps);
            case limit::none: break;
        }
        return share(constraint::rpm) + share(constraint::rps) + share(constraint::tpm) + share(constraint::tps);
    }
    std::vector<account_use> use{};
};

/// When a quota is enough. What is absent is not asked for; every call must be admitted at all.
struct goal {
    std::optional<std::chrono::nanoseconds> whole{};  ///< all done within
    std::optional<std::chrono::nanoseconds> wait{};   ///< 99 of 100 calls wait no longer
    std::optional<std::uint64_t> limited{};  ///< per mille of the time that limits bind, at most; 0: they do not
    limit by = limit::none;                  ///< of `limited`: this limit alone; none: all four together

    bool asks() const noexcept { return whole || wait || limited; }
    bool met(simulation_result const& f) const noexcept {
        return f.never == 0 && (!whole || f.whole <= *whole) && (!wait || f.wait.p99 <= *wait) &&
               (!limited || f.limited(by) <= *limited);
    }
};

/// The least quota that meets a goal, as far as halving finds it.
struct least_raise {
    quota limits{};                 ///< of the first model's first account
    std::vector<quota> accounts{};  ///< of each of the first model's accounts
    simulation_result outcome{};
};

}  // namespace weir::inline v0::llm

namespace weir::inline v0::detail {

/// The most that any [t, t + window) holds, of amounts at times, which are sorted here; all ones where 64 bits do not hold it. O(n log n).
inline std::uint64_t busiest(std::vector<std::pair<std::int64_t, std::uint64_t>>& events, std::int64_t window) {
    std::sort(events.begin(), events.end());
    u128 sum{0, 0};
    std::uint64_t most = 0;
    std::size_t first = 0;
    for (auto const& [at, amount] : events) {
        for (; at - events[first].first >= window; ++first) {
            std::uint64_t const gone = events[first].second;
            if (sum.lo < gone) --sum.hi;
            sum.lo -= gone;
        }
        sum.lo += amount;
        if (sum.lo < amount) ++sum.hi;
        most = (std::max)(most, sum.hi != 0 ? (std::numeric_limits<std::uint64_t>::max)() : sum.lo);
    }
    return most;
}

inline void busiest(std::vector<std::pair<std::int64_t, std::uint64_t>>& requests,
                    std::vector<std::pair<std::int64_t, std::uint64_t>>& amounts, llm::load& minute,
                    llm::load& second) {
    constexpr std::int64_t s = 1'000'000'000;
    minute = {busiest(requests, 60 * s), busiest(amounts, 60 * s)};
    second = {busiest(requests, s), busiest(amounts, s)};
}

constexpr std::uint64_t add_up_to_most(std::uint64_t a, std::uint64_t b) noexcept {
    return a + b < a ? (std::numeric_limits<std::uint64_t>::max)() : a + b;
}
constexpr void add_to(llm::tokens& sum, llm::tokens t) noexcept {
    sum = {.input = add_up_to_most(sum.input, t.input), .output = add_up_to_most(sum.output, t.output)};
}

/// Calls through a setup, in virtual time: first wanted, first served.
class simulation {
    using pool = llm::account_pool<manual_clock&, unsynchronized>;
    using chain = llm::fallback_chain<pool>;
    using time_point = manual_clock::time_point;
    using constraint = llm::constraint;

public:
    static constexpr std::chrono::nanoseconds twenty_years = std::chrono::hours{20 * 365 * 24};

    simulation(std::span<llm::planned_call const> calls, llm::setup const& s) : calls_{calls}, setup_{s} {
        llm::tokens all{};
        for (auto const& c : calls) add_to(all, c.used);
        for (auto const& m : s.models) {
            auto& p = pools_.emplace_back();
            under_way_.emplace_back(m.accounts.size());
            used_.emplace_back(m.accounts.size());
            for (auto const& a : m.accounts)
                p.add({{}, a.name, {}, m.name}, {}, a.limits, s.options, a.price.of(all), clock_);
            chain_.add(m.name, p);
        }
        order_.reserve(calls.size());
        for (std::size_t i = 0; i < calls.size(); ++i) order_.push_back(i);
        std::stable_sort(order_.begin(), order_.end(),
                         [&](std::size_t a, std::size_t b) { return calls[a].wanted < calls[b].wanted; });
    }

    llm::simulation_result run(std::vector<llm::placement>* schedule) {
        places_.assign(calls_.size(), {});
        std::size_t const count = calls_.size();
        std::size_t head = 0;
        for (;;) {
            time_point const now = clock_.now();
            while (!ends_.empty() && ends_.front().at <= now) end_first();
            constraint bound = constraint::nobody;
            time_point next = (time_point::max)();
            bool released = false;
            while (head < count && !released) {
                std::size_t const i = order_[head];
                if (wanted(i) > now) {
                    next = wanted(i);
                    break;
                }
                auto c = chain_.try_acquire([&](std::size_t) { return calls_[i].bound; }, now,
                                            {.patience = setup_.patience}, beside{*this});
                if (c.granted()) {
                    send(i, std::move(c));
                    ++head;
                    released = ends_.front().at <= now;  // an answer that took no time makes room at once
                } else if (c.retry_at().time_since_epoch() > twenty_years) {
                    turn_away(i);
                    ++head;
                } else {
                    next = (std::max)(c.retry_at(), now + manual_clock::duration{1});
                    bound = constraint_of(c.denied_by());
                    break;
                }
            }
            if (released) continue;
            if (head == count && ends_.empty()) break;
            if (bound == constraint::nobody && !ends_.empty()) bound = constraint::answers;
            if (!ends_.empty()) next = (std::min)(next, ends_.front().at);
            spent_[static_cast<std::size_t>(bound)] += next - now;
            clock_.advance_to(next);
        }
        report();
        if (schedule != nullptr) *schedule = std::move(places_);
        return std::move(out_);
    }

private:
    struct flight {
        time_point at;
        std::size_t call;
        std::size_t slot;
        friend bool operator>(flight const& a, flight const& b) noexcept {
            return a.at != b.at ? a.at > b.at : a.call > b.call;
        }
    };

    /// A place among the calls under way, which are as many as may be until one ends.
    struct beside {
        simulation const& r;
        time_point ready(std::size_t m, std::size_t a, time_point t) const noexcept { return r.place_at(m, a, t); }
        static constexpr bool take(std::size_t, std::size_t, time_point) noexcept { return true; }
        static constexpr llm::limit_kind denied_by() noexcept { return llm::limit_kind::concurrency; }
    };

    time_point wanted(std::size_t i) const noexcept {
        return time_point{calls_[i].wanted - calls_[order_.front()].wanted};
    }

    time_point place_at(std::size_t m, std::size_t a, time_point t) const noexcept {
        if (setup_.in_flight != 0 && ends_.size() >= setup_.in_flight) return ends_.front().at;
        std::uint64_t const most = setup_.models[m].accounts[a].in_flight;
        return most == 0 || under_way_[m][a].size() < most ? t : under_way_[m][a].top();
    }

    static constraint constraint_of(llm::limit_kind by) noexcept {
        switch (by) {
            case llm::limit_kind::rpm: return constraint::rpm;
            case llm::limit_kind::rps: return constraint::rps;
            case llm::limit_kind::tpm: return constraint::tpm;
            case llm::limit_kind::tps: return constraint::tps;
            default: return constraint::in_flight;
        }
    }

    void send(std::size_t i, chain::choice&& c) {
        auto& place = places_[i];
        place.admitted = true;
        place.model = *c;
        place.account = *c.member();
        place.sent = clock_.now().time_since_epoch();
        std::uint64_t const ticks_took = mul_div_ceil(static_cast<std::uint64_t>(calls_[i].took.count()),
                                                      setup_.models[place.model].took_per_mille, 1000);
        place.ended = place.sent + std::chrono::nanoseconds{static_cast<std::int64_t>(ticks_took)};
        under_way_[place.model][place.account].push(time_point{place.ended});
        std::size_t slot = choices_.size();
        if (free_.empty()) {
            choices_.push_back(std::move(c));
        } else {
            slot = free_.back();
            free_.pop_back();
            choices_[slot] = std::move(c);
        }
        ends_.push_back({time_point{place.ended}, i, slot});
        std::push_heap(ends_.begin(), ends_.end(), std::greater<>{});
    }

    void end_first() {
        std::pop_heap(ends_.begin(), ends_.end(), std::greater<>{});
        flight const f = ends_.back();
        ends_.pop_back();
        auto const& place = places_[f.call];
        chain_.settle(choices_[f.slot], calls_[f.call].used, clock_.now());
        free_.push_back(f.slot);
        under_way_[place.model][place.account].pop();
    }

    void turn_away(std::size_t i) noexcept {
        if (out_.never == 0 || i < out_.first_never) out_.first_never = i;
        ++out_.never;
        out_.largest_never = (std::max)(out_.largest_never, calls_[i].bound.total());
    }

    void report() {
        out_.name = setup_.name.empty() ? "as it is" : setup_.name;
        out_.whole = clock_.now().time_since_epoch();
        std::vector<std::int64_t> waited;
        std::vector<std::pair<std::int64_t, std::uint64_t>> requests;
        std::vector<std::pair<std::int64_t, std::uint64_t>> spent;
        for (std::size_t i = 0; i < calls_.size(); ++i) {
            auto const& place = places_[i];
            if (!place.admitted) continue;
            auto const& used = calls_[i].used;
            ++out_.answered;
            if (place.model != 0) ++out_.lesser;
            add_to(out_.used, used);
            auto& account = used_[place.model][place.account];
            ++account.calls;
            add_to(account.used, used);
            std::int64_t const wait = (place.sent - wanted(i).time_since_epoch()).count();
            waited.push_back(wait);
            out_.wait.total = std::chrono::nanoseconds{saturating_add(out_.wait.total.count(), wait)};
            requests.emplace_back(place.sent.count(), 1);
            spent.emplace_back(place.sent.count(), used.input);
            spent.emplace_back(place.ended.count(), used.output);
        }
        std::sort(waited.begin(), waited.end());
        if (!waited.empty()) {
            auto const at = [&](std::size_t percent) {
                return std::chrono::nanoseconds{waited[(waited.size() * percent + 99) / 100 - 1]};
            };
            out_.wait.median = at(50);
            out_.wait.p99 = at(99);
            out_.wait.longest = at(100);
        }
        busiest(requests, spent, out_.peak_minute, out_.peak_second);
        for (std::size_t m = 0; m < used_.size(); ++m) {
            for (std::size_t a = 0; a < used_[m].size(); ++a) {
                auto& u = used_[m][a];
                u.model = setup_.models[m].name;
                u.account = setup_.models[m].accounts[a].name;
                u.cost = setup_.models[m].accounts[a].price.of(u.used);
                out_.cost = add_up_to_most(out_.cost, u.cost);
                out_.use.push_back(std::move(u));
            }
        }
        divide();
    }

    /// Thousandths that sum to 1000: rounded down, and what is missing goes to those that lost most by it.
    void divide() {
        auto const whole = static_cast<std::uint64_t>(out_.whole.count());
        if (whole == 0) {
            out_.per_mille[static_cast<std::size_t>(constraint::nobody)] = 1000;
            return;
        }
        std::array<std::uint64_t, llm::constraints> lost{};
        std::uint64_t missing = 1000;
        for (std::size_t c = 0; c < llm::constraints; ++c) {
            quotient const q = div(mul(static_cast<std::uint64_t>(spent_[c].count()), 1000), whole);
            out_.per_mille[c] = q.value;
            lost[c] = q.remainder;
            missing -= q.value;
        }
        for (; missing != 0; --missing) {
            auto const most = static_cast<std::size_t>(std::max_element(lost.begin(), lost.end()) - lost.begin());
            ++out_.per_mille[most];
            lost[most] = 0;
        }
    }

    std::span<llm::planned_call const> calls_;
    llm::setup const& setup_;
    manual_clock clock_{};
    std::deque<pool> pools_{};
    chain chain_{};
    std::vector<std::size_t> order_{};
    std::vector<llm::placement> places_{};
    std::vector<flight> ends_{};  // a heap, the first to end at its top
    std::vector<chain::choice> choices_{};
    std::vector<std::size_t> free_{};
    using times = std::priority_queue<time_point, std::vector<time_point>, std::greater<>>;
    std::vector<std::vector<times>> under_way_{};  // of each account, when its calls end: the first at the top
    std::vector<std::vector<llm::account_use>> used_{};
    std::array<std::chrono::nanoseconds, llm::constraints> spent_{};
    llm::simulation_result out_{};
};

/// Each limit times per_mille / 1000, rounded up.
constexpr llm::quota scaled(llm::quota q, std::uint64_t per_mille) noexcept {
    for (auto* l : {&q.rpm, &q.rps, &q.tpm, &q.tps}) {
        if (*l) *l = mul_div_ceil(**l, per_mille, 1000);
    }
    return q;
}

/// The first model's, of each account.
inline std::vector<llm::quota> quotas_of(llm::setup const& s) {
    std::vector<llm::quota> q;
    for (auto const& a : s.models.front().accounts) q.push_back(a.limits);
    return q;
}

inline llm::setup also(llm::setup s, std::string what) {
    s.name = s.name.empty() ? std::move(what) : s.name + ", " + what;
    return s;
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0::llm {

inline error setup::validate(setup const& s) {
    if (s.models.empty()) return {"a setup without a model serves nobody"};
    if (s.patience < s.patience.zero()) return {"the patience must not be negative"};
    for (auto const& m : s.models) {
        if (m.accounts.empty()) return {"a model without an account serves nobody"};
        if (m.took_per_mille > 1'000'000) return {"a model whose answers take more than a thousand times as long"};
        for (std::size_t i = 0; i < m.accounts.size(); ++i) {
            if (auto e = quota_limiter<manual_clock&>::validate(m.accounts[i].limits, s.options)) return e;
            for (std::size_t k = 0; k < i; ++k) {
                if (m.accounts[k].name == m.accounts[i].name)
                    return {"two accounts of one name: keys of one account share its quota, and add nothing"};
            }
        }
    }
    return {};
}

/// What is wrong with calls: that there are none, more than a million, times that no run has.
inline error validate(std::span<planned_call const> calls) noexcept {
    if (calls.empty()) return {"no calls: there is nothing to advise on"};
    if (calls.size() > 1'000'000) return {"more than a million calls: take a part of them"};
    constexpr std::chrono::nanoseconds year = std::chrono::hours{365 * 24};
    for (auto const& c : calls) {
        if (c.took < c.took.zero()) return {"an answer cannot end before its call"};
        if (c.took > std::chrono::hours{24}) return {"an answer that takes more than a day"};
        if (c.wanted < -year || c.wanted > year) return {"a call that is wanted more than a year away"};
    }
    return {};
}

/// Rehearses the calls through the setup: first wanted, first served (by their order where at once). The same calls and setup give the same answer.
/// O(n · (log n + accounts · segments)), some 10 to 50 µs a call. Throws std::invalid_argument for what either `validate` names.
inline simulation_result simulate(std::span<planned_call const> calls, setup const& s,
                                  std::vector<placement>* schedule = nullptr) {
    weir::detail::ensure(validate(calls));
    weir::detail::ensure(setup::validate(s));
    return weir::detail::simulation{calls, s}.run(schedule);
}

/// What the calls ask for. Throws as `simulate`. O(n log n).
inline demand demand_of(std::span<planned_call const> calls) {
    weir::detail::ensure(validate(calls));
    demand d;
    d.calls = calls.size();
    std::vector<std::pair<std::int64_t, std::uint64_t>> requests;
    std::vector<std::pair<std::int64_t, std::uint64_t>> spent;
    std::int64_t first = (std::numeric_limits<std::int64_t>::max)();
    std::int64_t last = (std::numeric_limits<std::int64_t>::min)();
    for (auto const& c : calls) {
        weir::detail::add_to(d.used, c.used);
        requests.emplace_back(c.wanted.count(), 1);
        spent.emplace_back(c.wanted.count(), c.used.total());
        first = (std::min<std::int64_t>)(first, c.wanted.count());
        last = (std::max<std::int64_t>)(last, c.wanted.count());
    }
    d.span = std::chrono::nanoseconds{last - first};
    weir::detail::busiest(requests, spent, d.peak_minute, d.peak_second);
    constexpr std::uint64_t minute = 60'000'000'000;
    auto const span = (std::max)(minute, static_cast<std::uint64_t>(d.span.count()));
    d.sustained = {weir::detail::mul_div_ceil(d.calls, minute, span),
                   weir::detail::mul_div_ceil(d.used.total(), minute, span)};
    return d;
}

// ---- remedies: each gives another setup, so that they compose ----

/// The quota of each account of the first model, `per_mille` of what it is: 2000 doubles it.
inline setup with_raised_quota(setup s, std::uint64_t per_mille) {
    if (!s.models.empty()) {
        for (auto& a : s.models.front().accounts) a.limits = weir::detail::scaled(a.limits, per_mille);
    }
    return weir::detail::also(std::move(s), "quota x " + weir::detail::decimal_text(per_mille, 3));
}

/// Another quota for each account of the first model.
inline setup with_quota(setup s, quota q, std::string name = "another quota") {
    if (!s.models.empty()) {
        for (auto& a : s.models.front().accounts) a.limits = q;
    }
    return weir::detail::also(std::move(s), std::move(name));
}

/// An account more for the first model: another account of one's own, or a proxy with a quota and a price of its own beside what there is.
inline setup with_account(setup s, setup_account a) {
    std::string what = "also " + a.name;
    if (!s.models.empty()) s.models.front().accounts.push_back(std::move(a));
    return weir::detail::also(std::move(s), std::move(what));
}

/// n accounts for each that the first model has, all alike.
inline setup with_accounts(setup s, std::size_t n) {
    if (!s.models.empty()) {
        auto& accounts = s.models.front().accounts;
        std::size_t const there = accounts.size();
        for (std::size_t k = 2; k <= n; ++k) {
            for (std::size_t i = 0; i < there; ++i) {
                auto another = accounts[i];
                another.name += " (" + std::to_string(k) + ")";
                accounts.push_back(std::move(another));
            }
        }
    }
    return weir::detail::also(std::move(s), std::to_string(n) + " accounts");
}

/// All of the first model's calls through this one, a proxy say, instead of the accounts that there are.
inline setup through(setup s, setup_account a) {
    std::string what = "through " + a.name;
    if (!s.models.empty()) {
        s.models.front().accounts.clear();
        s.models.front().accounts.push_back(std::move(a));
    }
    return weir::detail::also(std::move(s), std::move(what));
}

/// A lesser model, after those that there are, for a call that would have to wait for longer than `patience`.
inline setup with_fallback(setup s, setup_model m, std::chrono::nanoseconds patience = std::chrono::nanoseconds{0}) {
    std::string what = "falls back to " + m.name;
    if (patience > patience.zero()) what += " rather than wait " + weir::detail::duration_text(patience);
    s.models.push_back(std::move(m));
    s.patience = patience;
    return weir::detail::also(std::move(s), std::move(what));
}

// ---- advice ----

/// The least raise of the first model's quota (of each of its accounts) with which the goal is met: one factor for all limits, found by doubling and
/// halving, then each limit lowered again as far as the goal allows, so that no more is asked for than is needed. Factors are multiples of
/// `step` per mille; the result meets the goal, for it was rehearsed. Where a larger quota would not be better (several accounts, or models,
/// can make it so) a lesser one may be overlooked. Nothing where no quota meets it: what the answers take remains.
/// Some 15 to 50 rehearsals. Throws as `simulate`, and for a step of 0.
inline std::optional<least_raise> find_least_raise(std::span<planned_call const> calls, setup const& present,
                                                   goal const& g, std::uint64_t step = 10) {
    weir::detail::ensure(validate(calls));
    weir::detail::ensure(setup::validate(present));
    if (step == 0) weir::detail::ensure({"factors in steps of 0 are none"});
    std::vector<quota> const now = weir::detail::quotas_of(present);
    using factors = std::array<std::uint64_t, 4>;  // in steps above 1
    auto const quota_of = [&](quota q, factors const& f) {
        std::size_t i = 0;
        for (auto* l : {&q.rpm, &q.rps, &q.tpm, &q.tps}) {
            if (*l) *l = weir::detail::mul_div_ceil(**l, weir::detail::add_up_to_most(1000, f[i] * step), 1000);
            ++i;
        }
        return q;
    };
    auto const raised = [&](factors const& f) {
        setup s = present;
        for (auto& a : s.models.front().accounts) a.limits = quota_of(a.limits, f);
        return s;
    };
    auto const met = [&](factors const& f) {
        setup const s = raised(f);
        return !setup::validate(s) && g.met(simulate(calls, s));
    };
    // In [low, high], where high is known to meet it, by `set`.
    auto const halve = [&](std::uint64_t low, std::uint64_t high, auto set) {
        while (low < high) {
            std::uint64_t const mid = low + (high - low) / 2;
            if (met(set(mid))) {
                high = mid;
            } else {
                low = mid + 1;
            }
        }
        return high;
    };
    auto const all = [](std::uint64_t k) { return factors{k, k, k, k}; };
    factors f = all(0);
    if (!met(f)) {
        {
            setup unlimited = present;
            for (auto& a : unlimited.models.front().accounts) a.limits = {};
            if (!g.met(simulate(calls, unlimited))) return std::nullopt;
        }
        std::uint64_t failed = 0;
        std::uint64_t k = (std::max<std::uint64_t>)(1, 1000 / step);
        while (!met(all(k))) {
            failed = k;
            k *= 2;
            if (k > 100'000'000 / step) return std::nullopt;
        }
        f = all(halve(failed + 1, k, all));
        std::size_t i = 0;
        for (auto const l : {&quota::rpm, &quota::rps, &quota::tpm, &quota::tps}) {
            if (f[i] != 0 && std::any_of(now.begin(), now.end(), [l](quota const& q) { return (q.*l).has_value(); })) {
                f[i] = halve(0, f[i], [&](std::uint64_t m) {
                    factors with = f;
                    with[i] = m;
                    return with;
                });
            } else {
                f[i] = 0;
            }
            ++i;
        }
    }
    least_raise r;
    setup const enough = weir::detail::also(raised(f), "the least that meets the goal");
    r.accounts = weir::detail::quotas_of(enough);
    r.limits = r.accounts.front();
    r.outcome = simulate(calls, enough);
    return r;
}

/// Each limit of `least` that is above `present`'s, with a headroom on top, and rounded up to two digits: what to ask for. The others are as they are.
constexpr quota with_headroom(quota least, quota const& present, std::uint64_t per_mille = 1200) noexcept {
    auto const round = [&](std::optional<std::uint64_t>& l, std::optional<std::uint64_t> const& p) {
        if (!l || !p || *l <= *p) return;
        std::uint64_t const n = weir::detail::mul_div_ceil(*l, per_mille, 1000);
        std::uint64_t unit = 1;
        while (n / unit >= 100) unit *= 10;
        std::uint64_t const rounded = (n / unit + (n % unit != 0 ? 1 : 0)) * unit;
        l = rounded < n ? n : rounded;
    };
    round(least.rpm, present.rpm);
    round(least.rps, present.rps);
    round(least.tpm, present.tpm);
    round(least.tps, present.tps);
    return least;
}

struct advice_options {
    llm::goal goal{};                         ///< of what is to be asked for; none: nothing is
    std::uint64_t headroom_per_mille = 1200;  ///< what is asked for, of the least that meets the goal
    std::uint64_t step_per_mille = 10;        ///< of the search for it
};

/// Everything side by side.
struct advice {
    setup before{};  ///< as it is
    demand wanted{};
    simulation_result present{};
    simulation_result
        tight{};  ///< as it is, but each max_tokens no more than what its answer used: what less holding would give, without any vendor
    simulation_result unlimited{};  ///< the first model alone without any of the four limits: what the answers take
    std::vector<simulation_result> remedies{};
    advice_options options{};
    std::optional<least_raise> least{};
    quota asked{};                   ///< the least with its headroom, of the first model's first account
    std::vector<quota> asked_of{};   ///< of each of its accounts
    simulation_result with_asked{};  ///< what it gives, where there is one
};

/// Compares the remedies, and finds what is to be asked for. Throws as `simulate`, for any of the setups, and for a headroom below 1000 per mille.
///
///     weir::llm::setup now{.models = {{"qwen3-max", {{"main", {.rpm = 600, .rps = 10, .tpm = 1'000'000}, {1'200'000, 6'000'000}}}}}};
///     auto a = weir::llm::advise(calls, now, {with_raised_quota(now, 2000), with_accounts(now, 2), with_fallback(now, plus, 5s)}, {.goal = {.whole = 10min}});
///     std::cout << to_text(a) << letter(a);     // advice_text.hpp
inline advice advise(std::span<planned_call const> calls, setup const& present, std::vector<setup> const& remedies,
                     advice_options const& o = {}) {
    if (o.headroom_per_mille < 1000) weir::detail::ensure({"less than what is needed is no headroom"});
    advice a;
    a.before = present;
    a.options = o;
    a.wanted = demand_of(calls);
    a.present = simulate(calls, present);
    std::vector<planned_call> exact(calls.begin(), calls.end());
    for (auto& c : exact) c.bound.output = (std::min)(c.bound.output, c.used.output);
    a.tight = simulate(exact, weir::detail::also(present, "max_tokens as the answers"));
    setup bare = present;
    bare.name = "no limits";
    bare.models.resize(1);
    bare.models.front().accounts.resize(1);
    bare.models.front().accounts.front().limits = {};
    a.unlimited = simulate(calls, bare);
    for (auto const& r : remedies) a.remedies.push_back(simulate(calls, r));
    if (o.goal.asks()) a.least = find_least_raise(calls, present, o.goal, o.step_per_mille);
    if (a.least) {
        setup granted = present;
        auto& accounts = granted.models.front().accounts;
        for (std::size_t i = 0; i < accounts.size(); ++i) {
            accounts[i].limits = with_headroom(a.least->accounts[i], accounts[i].limits, o.headroom_per_mille);
        }
        a.asked_of = weir::detail::quotas_of(granted);
        a.asked = a.asked_of.front();
        a.with_asked = simulate(calls, weir::detail::also(std::move(granted), "the quota asked for"));
    }
    return a;
}

}  // namespace weir::inline v0::llm
