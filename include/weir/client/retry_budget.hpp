// SPDX-License-Identifier: MIT
//
// retry_budget: so many retries per success, for all callers together, so that retries cannot multiply an outage. When everything
// fails, what is retried is the floor, however many callers there are.
// Source: gRPC proposal A6, "Retry throttling" (a count that failures lower and successes raise by a ratio); Finagle's RetryBudget
// (a ratio of requests and a floor of retries a second).
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../error.hpp"
#include "../limiter.hpp"
#include "../rate.hpp"
#include "../token_bucket.hpp"

namespace weir::inline v0 {

struct retry_budget_options {
    std::uint32_t retries = 1;    ///< may be made …
    std::uint32_t successes = 5;  ///< … for so many calls that succeeded: 6 and 10 allow exactly 6 retries of 10
    std::uint32_t most = 100;     ///< retries that can be saved up
    weir::rate floor{1, std::chrono::seconds{1}};  ///< retries that are always to be had
    permits floor_burst = 10;
};

/// Shared by all who retry. Each retry first takes from the budget, then its permits from the limiter like any first attempt.
///
///     weir::retry_budget budget{{.retries = 1, .successes = 10}};
///     if (answered) budget.succeeded(); else if (budget.try_retry()) again(); else give_up();
///
/// Promise: of s successes so far and over a time T no more than saved + s·retries/successes + floor_burst + floor·T retries, exactly,
/// for every interleaving; saved is what it began with, nothing. One word, and the floor's bucket. Lock-free. Nothing is ordered.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(weir::detail::cache_line) retry_budget {
    using bucket = token_bucket<Clock, Atomics>;

public:
    using time_point = typename bucket::time_point;
    using duration = typename bucket::duration;

    /// Throws std::invalid_argument for what `validate` names.
    explicit retry_budget(retry_budget_options o = {})
        requires(!std::is_reference_v<Clock>)
        : retry_budget{o, Clock{}} {}
    template <class C>
        requires std::constructible_from<weir::detail::clock_box<Clock>, C&&>
    retry_budget(retry_budget_options o, C&& c)
        : earned_{o.retries},
          cost_{o.successes},
          most_{std::uint64_t{o.most} * o.successes},
          floor_{o.floor, o.floor_burst, std::forward<C>(c)} {
        weir::detail::ensure(validate(o, resolution_of(floor_.clock())));
    }

    /// A ratio with no successes, or of no retries; a floor that a token_bucket refuses.
    static constexpr error validate(retry_budget_options const& o, duration resolution = duration{1}) {
        if (o.successes == 0) return {"a retry budget needs a number of successes to earn its retries"};
        if (o.retries == 0) return {"a retry budget that earns nothing is only its floor: take a token_bucket"};
        if (o.most == 0) return {"a retry budget must be able to save at least one retry"};
        return bucket::validate(o.floor, o.floor_burst, {}, resolution);
    }

    /// A call succeeded. O(1).
    void succeeded() noexcept {
        // Relaxed: the word is all that there is, and publishes nothing.
        std::uint64_t seen = earnings_.load(std::memory_order_relaxed);
        while (seen < most_) {
            std::uint64_t const next = seen + earned_ < most_ ? seen + earned_ : most_;
            if (earnings_.compare_exchange_weak(seen, next, std::memory_order_relaxed, std::memory_order_relaxed))
                return;
        }
    }

    /// Takes one retry if the budget has it. A refusal changes nothing. O(1).
    bool try_retry() noexcept { return take() || floor_.try_acquire(1).granted(); }
    bool try_retry(time_point t) noexcept { return take() || floor_.try_acquire(1, t).granted(); }

    /// Retries to be had.
    permits available() const noexcept {
        return earnings_.load(std::memory_order_relaxed) / cost_ + floor_.available();
    }
    permits available(time_point t) const noexcept {
        return earnings_.load(std::memory_order_relaxed) / cost_ + floor_.available(t);
    }

private:
    bool take() noexcept {
        std::uint64_t seen = earnings_.load(std::memory_order_relaxed);
        while (seen >= cost_) {
            if (earnings_.compare_exchange_weak(seen, seen - cost_, std::memory_order_relaxed,
                                                std::memory_order_relaxed)) {
                return true;
            }
        }
        return false;
    }

    typename Atomics::template atomic<std::uint64_t> earnings_{0};  // in parts of a retry: cost_ of them are one
    std::uint64_t earned_;
    std::uint64_t cost_;
    std::uint64_t most_;
    bucket floor_;
};

retry_budget(retry_budget_options) -> retry_budget<std::chrono::steady_clock>;
template <class C>
    requires clock<C>
retry_budget(retry_budget_options, C&&) -> retry_budget<C>;

}  // namespace weir::inline v0
