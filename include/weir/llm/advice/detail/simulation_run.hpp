// SPDX-License-Identifier: MIT
//
// One run of simulate(): the calls of a queue through a fallback_chain on a manual_clock, event by event. Events are: a
// call becomes wanted, the first call in the queue may be admitted, an answer ends.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <queue>
#include <span>
#include <utility>
#include <vector>

#include "../../../atomics.hpp"
#include "../../../clock/clock.hpp"
#include "../../../clock/manual_clock.hpp"
#include "../../../detail/saturating.hpp"
#include "../../../detail/wide.hpp"
#include "../../account_pool.hpp"
#include "../../fallback_chain.hpp"
#include "../../limit_kind.hpp"
#include "../../quota.hpp"
#include "../setup.hpp"
#include "../simulation.hpp"

namespace weir::inline v0::llm::detail {

/// An amount at a time, in nanoseconds.
using amount_at = std::pair<std::int64_t, std::uint64_t>;

/// The largest sum of amounts in any [t, t + window), saturated. Sorts the events. O(n log n).
inline std::uint64_t largest_sum(std::vector<amount_at>& events, std::int64_t window) {
    std::sort(events.begin(), events.end());
    weir::detail::u128 sum{0, 0};
    std::uint64_t largest = 0;
    std::size_t first = 0;
    for (auto const& [at, amount] : events) {
        for (; at - events[first].first >= window; ++first) {
            std::uint64_t const expired = events[first].second;
            if (sum.lo < expired) --sum.hi;
            sum.lo -= expired;
        }
        sum.lo += amount;
        if (sum.lo < amount) ++sum.hi;
        largest = (std::max)(largest, sum.hi != 0 ? (std::numeric_limits<std::uint64_t>::max)() : sum.lo);
    }
    return largest;
}

inline void find_peaks(std::vector<amount_at>& requests, std::vector<amount_at>& amounts, load& minute, load& second) {
    constexpr std::int64_t s = 1'000'000'000;
    minute = {largest_sum(requests, 60 * s), largest_sum(amounts, 60 * s)};
    second = {largest_sum(requests, s), largest_sum(amounts, s)};
}

constexpr void add_to(tokens& sum, tokens const& t) noexcept {
    sum = {.input = weir::detail::saturating_sum(sum.input, t.input),
           .output = weir::detail::saturating_sum(sum.output, t.output)};
}

class simulation_run {
    using pool = account_pool<manual_clock&, unsynchronized>;
    using chain = fallback_chain<pool>;
    using time_point = manual_clock::time_point;

public:
    [[gnu::__visibility__("hidden")]] static constexpr std::chrono::nanoseconds twenty_years =
        std::chrono::hours{20 * 365 * 24};

    simulation_run(std::span<planned_call const> calls, setup const& s) : calls_{calls}, setup_{s} {
        tokens all{};
        for (auto const& c : calls) add_to(all, c.used);
        for (auto const& m : s.models) {
            auto& p = pools_.emplace_back();
            in_flight_.emplace_back(m.accounts.size());
            use_.emplace_back(m.accounts.size());
            for (auto const& a : m.accounts)
                p.add({{}, a.name, {}, m.name}, {}, a.limits, s.options, a.price.of(all), clock_);
            chain_.add(m.name, p);
        }
        order_.reserve(calls.size());
        for (std::size_t i = 0; i < calls.size(); ++i) order_.push_back(i);
        std::stable_sort(order_.begin(), order_.end(),
                         [&](std::size_t a, std::size_t b) { return calls[a].wanted < calls[b].wanted; });
    }

    simulation_result run(std::vector<placement>* schedule) {
        placements_.assign(calls_.size(), {});
        std::size_t const count = calls_.size();
        std::size_t head = 0;
        for (;;) {
            time_point const now = clock_.now();
            while (!ends_.empty() && ends_.front().at <= now) end_first();
            constraint bound = constraint::idle;
            time_point next = (time_point::max)();
            bool released = false;
            while (head < count && !released) {
                std::size_t const i = order_[head];
                if (wanted(i) > now) {
                    next = wanted(i);
                    break;
                }
                auto c = chain_.try_acquire([&](std::size_t) { return calls_[i].bound; }, now,
                                            {.patience = setup_.patience}, in_flight_condition{*this});
                if (c.granted()) {
                    send(i, std::move(c));
                    ++head;
                    released = ends_.front().at <= now;  // an answer without latency releases its tokens at once
                } else if (c.retry_at().time_since_epoch() > twenty_years) {
                    reject(i);
                    ++head;
                } else {
                    next = (std::max)(c.retry_at(), now + manual_clock::duration{1});
                    bound = constraint_of(c.denied_by());
                    break;
                }
            }
            if (released) continue;
            if (head == count && ends_.empty()) break;
            if (bound == constraint::idle && !ends_.empty()) bound = constraint::answers;
            if (!ends_.empty()) next = (std::min)(next, ends_.front().at);
            bound_for_[static_cast<std::size_t>(bound)] += next - now;
            clock_.advance_to(next);
        }
        summarize();
        if (schedule != nullptr) *schedule = std::move(placements_);
        return std::move(result_);
    }

private:
    struct flight {
        time_point at;
        std::size_t call;
        std::size_t index;  // of its choice
        friend bool operator>(flight const& a, flight const& b) noexcept {
            return a.at != b.at ? a.at > b.at : a.call > b.call;
        }
    };

    /// fallback_chain's condition: the most calls in flight, over all accounts and of each.
    struct in_flight_condition {
        simulation_run const& run;
        time_point ready(std::size_t m, std::size_t a, time_point t) const noexcept { return run.free_at(m, a, t); }
        static constexpr bool take(std::size_t, std::size_t, time_point) noexcept { return true; }
        static constexpr limit_kind denied_by() noexcept { return limit_kind::concurrency; }
    };

    time_point wanted(std::size_t i) const noexcept {
        return time_point{calls_[i].wanted - calls_[order_.front()].wanted};
    }

    time_point free_at(std::size_t m, std::size_t a, time_point t) const noexcept {
        if (setup_.max_in_flight != 0U && ends_.size() >= setup_.max_in_flight) return ends_.front().at;
        std::uint64_t const max = setup_.models[m].accounts[a].max_in_flight;
        return max == 0 || in_flight_[m][a].size() < max ? t : in_flight_[m][a].top();
    }

    static constraint constraint_of(limit_kind by) noexcept {
        if (by == limit_kind::rpm) return constraint::rpm;
        if (by == limit_kind::rps) return constraint::rps;
        if (by == limit_kind::tpm) return constraint::tpm;
        if (by == limit_kind::tps) return constraint::tps;
        return constraint::in_flight;
    }

    void send(std::size_t i, chain::choice&& c) {
        auto& p = placements_[i];
        p.admitted = true;
        p.model = *c;
        p.account = *c.member();
        p.sent = clock_.now().time_since_epoch();
        std::uint64_t const latency = weir::detail::mul_div_ceil(static_cast<std::uint64_t>(calls_[i].latency.count()),
                                                                 setup_.models[p.model].latency_per_mille, 1000);
        p.ended = p.sent + std::chrono::nanoseconds{static_cast<std::int64_t>(latency)};
        in_flight_[p.model][p.account].push(time_point{p.ended});
        std::size_t index = choices_.size();
        if (free_.empty()) {
            choices_.push_back(std::move(c));
        } else {
            index = free_.back();
            free_.pop_back();
            choices_[index] = std::move(c);
        }
        ends_.push_back({time_point{p.ended}, i, index});
        std::push_heap(ends_.begin(), ends_.end(), std::greater<>{});
    }

    void end_first() {
        std::pop_heap(ends_.begin(), ends_.end(), std::greater<>{});
        flight const f = ends_.back();
        ends_.pop_back();
        auto const& p = placements_[f.call];
        chain_.settle(choices_[f.index], calls_[f.call].used, clock_.now());
        free_.push_back(f.index);
        in_flight_[p.model][p.account].pop();
    }

    void reject(std::size_t i) noexcept {
        if (result_.never == 0 || i < result_.first_never) result_.first_never = i;
        ++result_.never;
        result_.largest_never = (std::max)(result_.largest_never, calls_[i].bound.total());
    }

    void summarize() {
        result_.name = setup_.name.empty() ? "as it is" : setup_.name;
        result_.makespan = clock_.now().time_since_epoch();
        std::vector<std::int64_t> waits;
        std::vector<amount_at> requests;
        std::vector<amount_at> amounts;
        for (std::size_t i = 0; i < calls_.size(); ++i) {
            auto const& p = placements_[i];
            if (!p.admitted) continue;
            auto const& used = calls_[i].used;
            ++result_.answered;
            if (p.model != 0) ++result_.fallbacks;
            add_to(result_.used, used);
            auto& account = use_[p.model][p.account];
            ++account.calls;
            add_to(account.used, used);
            std::int64_t const wait = (p.sent - wanted(i).time_since_epoch()).count();
            waits.push_back(wait);
            result_.wait.total =
                std::chrono::nanoseconds{weir::detail::saturating_add(result_.wait.total.count(), wait)};
            requests.emplace_back(p.sent.count(), 1);
            amounts.emplace_back(p.sent.count(), used.input);
            amounts.emplace_back(p.ended.count(), used.output);
        }
        std::sort(waits.begin(), waits.end());
        if (!waits.empty()) {
            auto const percentile = [&](std::size_t p) {
                return std::chrono::nanoseconds{waits[(waits.size() * p + 99) / 100 - 1]};
            };
            result_.wait.median = percentile(50);
            result_.wait.p99 = percentile(99);
            result_.wait.longest = percentile(100);
        }
        find_peaks(requests, amounts, result_.peak_minute, result_.peak_second);
        for (std::size_t m = 0; m < use_.size(); ++m) {
            for (std::size_t a = 0; a < use_[m].size(); ++a) {
                auto& u = use_[m][a];
                u.model = setup_.models[m].name;
                u.account = setup_.models[m].accounts[a].name;
                u.cost = setup_.models[m].accounts[a].price.of(u.used);
                result_.cost = weir::detail::saturating_sum(result_.cost, u.cost);
                result_.use.push_back(std::move(u));
            }
        }
        compute_shares();
    }

    /// Thousandths that sum to 1000: each is rounded down, and the remainder goes to those with the largest fractions.
    void compute_shares() {
        auto const makespan = static_cast<std::uint64_t>(result_.makespan.count());
        if (makespan == 0) {
            result_.per_mille[static_cast<std::size_t>(constraint::idle)] = 1000;
            return;
        }
        std::array<std::uint64_t, constraints> fractions{};
        std::uint64_t missing = 1000;
        for (std::size_t c = 0; c < constraints; ++c) {
            weir::detail::quotient const q =
                weir::detail::div(weir::detail::mul(static_cast<std::uint64_t>(bound_for_[c].count()), 1000), makespan);
            result_.per_mille[c] = q.value;
            fractions[c] = q.remainder;
            missing -= q.value;
        }
        for (; missing != 0; --missing) {
            auto const largest =
                static_cast<std::size_t>(std::max_element(fractions.begin(), fractions.end()) - fractions.begin());
            ++result_.per_mille[largest];
            fractions[largest] = 0;
        }
    }

    using end_times = std::priority_queue<time_point, std::vector<time_point>, std::greater<>>;

    std::span<planned_call const> calls_;
    setup const& setup_;
    manual_clock clock_{};
    std::deque<pool> pools_{};
    chain chain_{};
    std::vector<std::size_t> order_{};  // of the queue
    std::vector<placement> placements_{};
    std::vector<flight> ends_{};  // a heap: the first to end at the front
    std::vector<chain::choice> choices_{};
    std::vector<std::size_t> free_{};                  // indices of choices_
    std::vector<std::vector<end_times>> in_flight_{};  // of each model and account
    std::vector<std::vector<account_use>> use_{};
    std::array<std::chrono::nanoseconds, constraints> bound_for_{};
    simulation_result result_{};
};

}  // namespace weir::inline v0::llm::detail

namespace weir::inline v0::llm {

inline simulation_result simulate(std::span<planned_call const> calls, setup const& s,
                                  std::vector<placement>* schedule) {
    weir::detail::ensure(validate(calls));
    weir::detail::ensure(setup::validate(s));
    return detail::simulation_run{calls, s}.run(schedule);
}

inline demand demand_of(std::span<planned_call const> calls) {
    weir::detail::ensure(validate(calls));
    demand d;
    d.calls = calls.size();
    std::vector<detail::amount_at> requests;
    std::vector<detail::amount_at> amounts;
    std::int64_t first = (std::numeric_limits<std::int64_t>::max)();
    std::int64_t last = (std::numeric_limits<std::int64_t>::min)();
    for (auto const& c : calls) {
        detail::add_to(d.used, c.used);
        requests.emplace_back(c.wanted.count(), 1);
        amounts.emplace_back(c.wanted.count(), c.used.total());
        first = (std::min<std::int64_t>)(first, c.wanted.count());
        last = (std::max<std::int64_t>)(last, c.wanted.count());
    }
    d.span = std::chrono::nanoseconds{last - first};
    detail::find_peaks(requests, amounts, d.peak_minute, d.peak_second);
    constexpr std::uint64_t minute = 60'000'000'000;
    auto const span = (std::max)(minute, static_cast<std::uint64_t>(d.span.count()));
    d.per_minute = {weir::detail::mul_div_ceil(d.calls, minute, span),
                    weir::detail::mul_div_ceil(d.used.total(), minute, span)};
    return d;
}

}  // namespace weir::inline v0::llm
