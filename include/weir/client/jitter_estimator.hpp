// SPDX-License-Identifier: MIT
//
// jitter_estimator: the jitter J that a limiter of a remote server needs (quota_options::jitter), from measured delays.
// J is the range of the delay from time point to arrival, among calls that one window of the server can hold. The
// offset between the two clocks cancels, so any two clocks will do:
// - `arrived`: the server said when the request came (DashScope's req-arrive-time, epoch milliseconds). J is the
//   largest minus the smallest difference, plus the steps of both clocks. Servers with different clocks behind one
//   address make it wider, never narrower.
// - `answered`: no such stamp. The request arrived between being sent and being answered, and no later than the
//   server's own time before the answer (req-cost-time, where known). So J is at most the largest such delay.
//
// How safe it is. Until `min_samples` calls were measured it is `initial`, or what was measured if that is more. After
// that, if delays are exchangeable, the next one lies outside the range of n measured ones with a probability of at
// most 2/(n + 1), whatever their distribution. `headroom` covers that, and delays that change. No measurement makes it
// certain. Extremes are forgotten after one to two `memory`s, since clocks drift: 50 parts in a million are 6 ms in two
// minutes.
//
// How a limiter takes it. J is fixed when a quota_limiter is constructed, and a window's length cannot change while
// permits live in it. Two ways are safe:
// - Construct it with the J that an earlier run saved (jitter() is a number).
// - Hand over in use: construct a second limiter with the new J. For W + old J take from both, the old one first, and
//   refund the old one where the new one denies; then drop the old one. Until then the old promise holds; afterwards
//   the new limiter has seen everything that its windows cover.
// Not safe: to raise the limits by what the margin costs, since all of the raised limit may fall into one W; to shorten
// a window before its permits have aged out.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <mutex>

#include "../clock/clock.hpp"
#include "../error.hpp"

namespace weir::inline v0 {

struct jitter_estimator_options {
    any_duration<> initial{std::chrono::seconds{1}};  ///< J until enough is known: an earlier run's, or cautious
    any_duration<> min_jitter{std::chrono::milliseconds{2}};  ///< lower bound of J: stalls between time point and send
    any_duration<> max_jitter{std::chrono::seconds{30}};      ///< upper bound of J
    any_duration<> steps{std::chrono::milliseconds{1}};       ///< of both clocks together: the error of a difference
    any_duration<> memory{std::chrono::minutes{2}};
    std::uint32_t min_samples = 100;
    std::uint32_t headroom = 25;  ///< per cent above the measured range
};

/// Shared by all calls. Time points are nanoseconds of any one clock on this side, and of any one on the server's.
///
///     weir::jitter_estimator estimator{};
///     estimator.arrived(sent, server_stamp);                                // with each answer
///     weir::llm::quota_limiter quota{q, {.jitter = estimator.jitter()}};    // the next one that is constructed
///
/// Every verb takes one mutex for a moment: they come with answers, never with attempts.
class jitter_estimator {
public:
    using nanoseconds = std::chrono::nanoseconds;

    /// Throws std::invalid_argument for what `validate` names.
    explicit jitter_estimator(jitter_estimator_options const& o = {}) : options_{o} {
        weir::detail::ensure(validate(o));
    }

    [[nodiscard("validate only reports")]] static constexpr error validate(jitter_estimator_options const& o) noexcept {
        if (o.min_jitter < o.min_jitter.zero()) return {"min_jitter must not be negative"};
        if (o.initial < o.min_jitter || o.max_jitter < o.initial)
            return {"initial must be from min_jitter to max_jitter"};
        if (o.max_jitter > std::chrono::hours{1}) return {"max_jitter must be at most 1 hour"};
        if (o.steps < o.steps.zero() || o.steps > std::chrono::hours{1}) return {"steps must be from 0 to 1 hour"};
        if (o.memory <= o.memory.zero()) return {"memory must be positive"};
        if (o.min_samples < 2) return {"min_samples must be at least 2"};
        if (o.headroom > 10'000) return {"headroom must be at most 10,000 per cent"};
        return {};
    }

    /// A call was sent at `sent`, by our clock, and arrived at `at`, by the server's.
    void arrived(nanoseconds sent, nanoseconds at) {
        add(stamped_, sent, weir::detail::saturating_sub(at.count(), sent.count()));
    }

    /// A call was sent at `sent`, and the first byte of its answer read at `read_at`, by the same clock. `took` is the
    /// part of that for which the server says it worked; one that is longer than the whole is ignored.
    void answered(nanoseconds sent, nanoseconds read_at, nanoseconds took = {}) {
        std::int64_t const whole = weir::detail::saturating_sub(read_at.count(), sent.count());
        if (whole < 0) return;
        add(bounded_, sent, took.count() > 0 && took.count() <= whole ? whole - took.count() : whole);
    }

    /// J now.
    nanoseconds jitter() const {
        std::lock_guard const lock{mutex_};
        extremes const stamps = stamped_.both();
        extremes const bounds = bounded_.both();
        if (stamps.count == 0 && bounds.count == 0) return options_.initial;
        // A delay is not negative, so the largest bound is a range too. Stamps are more precise, and are preferred.
        bool const known = stamps.count >= options_.min_samples || bounds.count >= options_.min_samples;
        std::int64_t seen = 0;
        if (stamps.count >= options_.min_samples || (!known && stamps.count != 0)) {
            seen = weir::detail::saturating_sub(stamps.max, stamps.min);
        } else {
            seen = bounds.max;
        }
        seen = weir::detail::saturating_add(seen, options_.steps.count());
        std::int64_t const highest = options_.max_jitter.count();
        std::int64_t const wide = seen > highest ? highest : seen + seen / 100 * options_.headroom;
        std::int64_t const low = known ? options_.min_jitter.count() : options_.initial.count();
        return nanoseconds{std::clamp(wide, low, highest)};
    }

    /// The number of calls that were measured and not forgotten.
    std::uint64_t measured() const {
        std::lock_guard const lock{mutex_};
        return stamped_.both().count + bounded_.both().count;
    }

private:
    struct extremes {
        std::int64_t min = (std::numeric_limits<std::int64_t>::max)();
        std::int64_t max = (std::numeric_limits<std::int64_t>::min)();
        std::uint64_t count = 0;
    };
    /// The current part of the memory, and the one before it.
    struct history {
        extremes now{};
        extremes last{};
        std::int64_t since = 0;

        extremes both() const noexcept {
            return {(std::min)(now.min, last.min), (std::max)(now.max, last.max), now.count + last.count};
        }
    };

    void add(history& h, nanoseconds sent, std::int64_t delay) {
        std::lock_guard const lock{mutex_};
        std::int64_t const age = weir::detail::saturating_sub(sent.count(), h.since);
        if (h.both().count == 0) {
            h.since = sent.count();
        } else if (age >= options_.memory.count() && h.now.count >= options_.min_samples) {
            // Old samples are dropped only when enough newer ones have replaced them.
            h.last = h.now;
            h.now = {};
            h.since = sent.count();
        }
        h.now.min = (std::min)(h.now.min, delay);
        h.now.max = (std::max)(h.now.max, delay);
        ++h.now.count;
    }

    jitter_estimator_options options_;
    mutable std::mutex mutex_{};
    history stamped_{};
    history bounded_{};
};

}  // namespace weir::inline v0
