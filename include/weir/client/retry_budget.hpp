// SPDX-License-Identifier: MIT
//
// retry_budget: a number of retries for each success, shared by all callers, so that retries cannot multiply an outage.
// When everything fails, only the floor is retried, however many callers there are.
// Source: gRPC proposal A6, "Retry throttling" (a count that failures lower and successes raise by a ratio); Finagle's
// RetryBudget (a ratio of requests, and a floor of retries a second).
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
    permit_count retries = 1;      ///< allowed for `successes`: 6 and 10 allow exactly 6 retries for 10 successes
    permit_count successes = 5;    ///< calls that succeeded
    permit_count max_saved = 100;  ///< retries that can be saved up
    weir::rate floor{1, std::chrono::seconds{1}};  ///< retries that are always allowed
    permit_count floor_burst = 10;
};

/// Shared by all callers that retry. A retry first takes from the budget, then its permits from the limiter like any
/// first attempt.
///
///     weir::retry_budget budget{{.retries = 1, .successes = 10}};
///     if (answered) budget.succeeded(); else if (budget.try_retry()) again(); else give_up();
///
/// Promise: after s successes and over a time T at most s·retries/successes + floor_burst + floor·T retries, exactly,
/// for every interleaving. One word, and the floor's bucket. Lock-free.
/// Memory order: relaxed, since the word is used on its own. Do not publish other data through it.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(weir::detail::cache_line) retry_budget {
    using bucket = token_bucket<Clock, Atomics>;

public:
    using time_point = typename bucket::time_point;
    using duration = typename bucket::duration;

    /// Throws std::invalid_argument for what `validate` names.
    explicit retry_budget(retry_budget_options const& o = {})
        requires(!std::is_reference_v<Clock>)
        : retry_budget{o, Clock{}} {}
    explicit retry_budget(retry_budget_options const& o, Clock c)
        : earned_{o.retries},
          cost_{o.successes},
          max_earnings_{o.max_saved * o.successes},
          floor_{o.floor, o.floor_burst, static_cast<Clock&&>(c)} {
        weir::detail::ensure(validate(o, resolution_of(floor_.clock())));
    }
    retry_budget(retry_budget const&) =
        delete;  // limiters do not move: hold them in a std::deque, a std::unique_ptr, or use try_emplace
    retry_budget& operator=(retry_budget const&) = delete;

    [[nodiscard("validate only reports")]] static constexpr error validate(retry_budget_options const& o,
                                                                           duration resolution = duration{1}) {
        if (o.successes == 0U) return {"successes must be at least 1"};
        if (o.retries == 0U) return {"retries must be at least 1: a budget of only a floor is a token_bucket"};
        if (o.max_saved == 0U) return {"max_saved must be at least 1"};
        if ((o.successes | o.retries | o.max_saved) >> 32U != 0)
            return {"retries, successes and max_saved must be from 1 to 2^32 - 1"};
        return bucket::validate(o.floor, o.floor_burst, {}, resolution);
    }

    /// A call succeeded. O(1).
    void succeeded() noexcept {
        std::uint64_t seen = earnings_.load(std::memory_order_relaxed);
        while (seen < max_earnings_) {
            std::uint64_t const next = seen + earned_ < max_earnings_ ? seen + earned_ : max_earnings_;
            if (earnings_.compare_exchange_weak(seen, next, std::memory_order_relaxed, std::memory_order_relaxed))
                return;
        }
    }

    /// Takes one retry if the budget has one, else nothing. O(1).
    [[nodiscard("a dropped answer limits nothing")]] bool try_retry() noexcept {
        return take() || floor_.try_acquire(1).granted();
    }
    [[nodiscard("a dropped answer limits nothing")]] bool try_retry(time_point t) noexcept {
        return take() || floor_.try_acquire(1, t).granted();
    }

    /// Retries that are available.
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

    typename Atomics::template atomic<std::uint64_t> earnings_{0};  // in parts of a retry: cost_ parts are one
    std::uint64_t earned_;
    std::uint64_t cost_;
    std::uint64_t max_earnings_;
    bucket floor_;
};

retry_budget(retry_budget_options) -> retry_budget<std::chrono::steady_clock>;
template <weir::detail::clock_or_reference C>
retry_budget(retry_budget_options, C) -> retry_budget<weir::detail::clock_argument_t<C>>;

}  // namespace weir::inline v0
