// SPDX-License-Identifier: MIT
//
// adaptive_concurrency: how many calls may be in flight at once, found out, against a saturation that shows as slowness and not as a refusal. By
// Little's law a server that is saturated answers no more calls for more of them in flight, only each later.
//
// A round is as many answers as the limit allows in flight. Its mean latency is compared with the least: above `tolerance` of it, or
// after a refusal for overload or concurrency, the limit is lowered; below, and if it was reached, raised. The least must be
// measured anew now and then, and without a queue of one's own: else a queue that always stands is taken for the server's pace, and grows
// without bound. So after `memory` rounds two are run at half of the limit, the first to drain, the second to measure (as BBR does).
// By what: `additive` (one more; an eighth less), the rule of TCP, or another law that is given. A gradient in the manner of Netflix's
// concurrency-limits (Gradient2) was tried beside it: docs/adaptive.md.
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
    std::uint32_t tolerance = 150;  ///< per cent of the least latency that a round may take
    std::uint32_t memory = 50;      ///< rounds after which the least latency is measured anew
};

/// One more where latency is as it should be, an eighth less (one at least) where it is not.
struct additive {
    static constexpr std::uint32_t next(std::uint32_t limit, std::uint64_t least, std::uint64_t mean,
                                        std::uint32_t tolerance) noexcept {
        return mean > least && mean >= least / 100 * tolerance ? limit - (std::max<std::uint32_t>)(limit / 8, 1)
                                                               : limit + 1;
    }
};

/// Shared by all who call. Give it a latency that does not depend on how much was asked for: the time to the first token, or the time per
/// token.
///
///     if (limit.try_enter()) { auto answer = call(); limit.leave(first_token - sent); } else wait();
///
/// Promise: never more in flight than the limit had been when the last of them entered. One word, exchanged once; leaving takes a
/// mutex too, since it comes with an answer. Nothing is ordered.
template <class Law = additive, class Atomics = std_atomics>
class alignas(weir::detail::cache_line) adaptive_concurrency {
public:
    /// Throws std::invalid_argument for what `validate` names.
    explicit adaptive_concurrency(concurrency_options o = {})
        : word_{std::uint64_t{o.start} << 32U}, options_{o}, limit_{o.start} {
        weir::detail::ensure(validate(o));
    }

    static constexpr error validate(concurrency_options const& o) noexcept {
        if (o.least == 0) return {"a concurrency of 0 serves nothing for ever"};
        if (o.start < o.least || o.most < o.start)
            return {"an adaptive concurrency starts between its least and its most"};
        if (o.most >> 30U) return {"a concurrency of more than 2^30"};
        if (o.tolerance <= 100 || o.tolerance > 10'000)
            return {"the latency's tolerance is above 100 per cent, a hundredfold at most"};
        if (o.memory == 0) return {"an adaptive concurrency needs to remember a round at least"};
        return {};
    }

    /// One more in flight, if the limit allows it. O(1), lock-free.
    bool try_enter() noexcept {
        std::uint64_t w = word_.load(std::memory_order_relaxed);
        while ((w & low) < w >> 32U) {
            if (word_.compare_exchange_weak(w, w + 1, std::memory_order_relaxed, std::memory_order_relaxed))
                return true;
        }
        return false;
    }

    /// It was answered, after so long.
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

    /// It failed, and says nothing of latency.
    void leave() noexcept { word_.fetch_sub(1, std::memory_order_relaxed); }

    /// It was refused for overload or concurrency: an eighth less, once a round.
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
    std::mutex mutex_;
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
