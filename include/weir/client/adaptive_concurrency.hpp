// SPDX-License-Identifier: MIT
//
// adaptive_concurrency: learns how many calls may be in flight at once, for servers whose saturation shows as latency
// and not as refusals. By Little's law a saturated server answers no more calls if more are in flight, only each later.
//
// A round is as many answers as the limit allows in flight. Its mean latency is compared with the lowest: above
// `tolerance` of it, or after a refusal for overload or concurrency, the limit is lowered; otherwise, if the limit was
// reached, it is raised. The lowest latency must be measured again now and then, without a queue of our own: a queue
// that never drains would be taken for the server's pace, and would grow without bound. So after `memory` rounds two
// are run at half of the limit, the first to drain, the second to measure (as BBR does). The step is `additive` (one
// more; an eighth less), the rule of TCP, or another law. docs/adaptive.md compares it with a gradient in the manner of
// Netflix's concurrency-limits (Gradient2).
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <mutex>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../error.hpp"

namespace weir::inline v0 {

struct concurrency_options {
    std::uint32_t start = 4;
    std::uint32_t least = 1;
    std::uint32_t most = 1024;
    std::uint32_t tolerance = 150;  ///< per cent of the lowest latency that a round may take
    std::uint32_t memory = 50;      ///< rounds after which the lowest latency is measured again
};

/// One more while the latency is within the tolerance, an eighth less (at least one) when it is not.
struct additive {
    static constexpr std::uint32_t next(std::uint32_t limit, std::uint64_t least, std::uint64_t mean,
                                        std::uint32_t tolerance) noexcept {
        return mean > least && mean >= least / 100 * tolerance ? limit - (std::max<std::uint32_t>)(limit / 8, 1)
                                                               : limit + 1;
    }
};

/// Shared by all callers. Give it a latency that does not depend on how much was asked for: the time to the first
/// token, or the time per token.
///
///     if (limit.try_enter()) { auto answer = call(); limit.leave(first_token - sent); } else wait();
///
/// Promise: never more in flight than the limit was when the last of them entered. One word, exchanged once. leave
/// takes a mutex too, since it comes with an answer.
/// Memory order: relaxed. Do not publish other data through it.
template <class Law = additive, class Atomics = std_atomics>
class alignas(weir::detail::cache_line) adaptive_concurrency {
public:
    /// Throws std::invalid_argument for what `validate` names.
    explicit adaptive_concurrency(concurrency_options o = {})
        : word_{std::uint64_t{o.start} << 32U}, options_{o}, limit_{o.start} {
        weir::detail::ensure(validate(o));
    }

    static constexpr error validate(concurrency_options const& o) noexcept {
        if (o.least == 0) return {"least must be at least 1"};
        if (o.start < o.least || o.most < o.start) return {"start must be from least to most"};
        if (o.most >> 30U) return {"most must be below 2^30"};
        if (o.tolerance <= 100 || o.tolerance > 10'000)
            return {"tolerance must be above 100 and at most 10,000 per cent"};
        if (o.memory == 0) return {"memory must be at least 1"};
        return {};
    }

    /// One more in flight, if the limit allows it. O(1), lock-free.
    [[nodiscard("a dropped answer limits nothing")]] bool try_enter() noexcept {
        std::uint64_t w = word_.load(std::memory_order_relaxed);
        while ((w & low) < w >> 32U) {
            if (word_.compare_exchange_weak(w, w + 1, std::memory_order_relaxed, std::memory_order_relaxed))
                return true;
        }
        return false;
    }

    /// A call was answered, with this latency.
    void leave(std::chrono::nanoseconds latency) {
        std::uint64_t const w = word_.fetch_sub(1, std::memory_order_relaxed);
        std::lock_guard const lock{mutex_};
        reached_ = reached_ || (w & low) >= w >> 32U;
        sum_ += static_cast<std::uint64_t>(std::clamp<std::int64_t>(latency.count(), 0, std::int64_t{1} << 42U));
        std::uint64_t const needed = phase_ == phase::drain ? limit_ : w >> 32U;
        if (++answers_ < needed && answers_ < (1U << 20U)) return;
        std::uint64_t const mean = sum_ / answers_;
        if (phase_ == phase::drain) {
            phase_ = phase::measure;
        } else if (phase_ == phase::measure) {
            phase_ = phase::work;
            least_ = mean;
            put(limit_);
        } else {
            least_ = (std::min)(least_, mean);
            std::uint32_t const next = Law::next(limit_, least_, mean, options_.tolerance);
            if (next < limit_ || reached_) limit_ = std::clamp(next, options_.least, options_.most);
            if (++round_ % options_.memory == 0) phase_ = phase::drain;
            put(phase_ == phase::drain ? (std::max)(limit_ / 2, options_.least) : limit_);
        }
        begin_round();
    }

    /// A call failed, and tells nothing about latency.
    void leave() noexcept { word_.fetch_sub(1, std::memory_order_relaxed); }

    /// A call was refused for overload or concurrency: an eighth less, once a round.
    void refused() {
        word_.fetch_sub(1, std::memory_order_relaxed);
        std::lock_guard const lock{mutex_};
        if (cut_in_round_) return;
        limit_ = (std::max)(limit_ - (std::max<std::uint32_t>)(limit_ / 8, 1), options_.least);
        if (phase_ == phase::work) {
            put(limit_);
            begin_round();
        }
        cut_in_round_ = true;
    }

    std::uint32_t limit() const noexcept {
        return static_cast<std::uint32_t>(word_.load(std::memory_order_relaxed) >> 32U);
    }
    std::uint32_t in_flight() const noexcept {
        return static_cast<std::uint32_t>(word_.load(std::memory_order_relaxed) & low);
    }

private:
    static constexpr std::uint64_t low = 0xffff'ffffU;
    enum class phase : unsigned char { work, drain, measure };

    void begin_round() noexcept {
        sum_ = 0;
        answers_ = 0;
        reached_ = false;
        cut_in_round_ = false;
    }
    void put(std::uint32_t next) noexcept {
        std::uint64_t w = word_.load(std::memory_order_relaxed);
        while (!word_.compare_exchange_weak(w, std::uint64_t{next} << 32U | (w & low), std::memory_order_relaxed,
                                            std::memory_order_relaxed)) {
        }
    }

    typename Atomics::template atomic<std::uint64_t> word_;  // limit, in flight: 32 bits each
    concurrency_options options_;
    std::mutex mutex_{};
    std::uint64_t sum_ = 0;
    std::uint64_t answers_ = 0;
    std::uint64_t round_ = 0;
    std::uint64_t least_ =
        (std::numeric_limits<std::uint64_t>::max)();  // mean latency of a round since the last measurement
    std::uint32_t limit_;                             // found; half of it is in force in drain and measure
    phase phase_ = phase::work;
    bool reached_ = false;
    bool cut_in_round_ = false;
};

}  // namespace weir::inline v0
