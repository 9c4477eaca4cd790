// SPDX-License-Identifier: MIT
//
// margin: the jitter J that a limiter against a remote server needs (quota_limiter.hpp), estimated from the delays that were seen.
// J is the range of the delay from stamp to arrival among calls that one window of the server can hold; where both clocks stand in it
// cancels, so any two clocks will do:
//   - `arrived`: the server said when the request came (DashScope's req-arrive-time, epoch milliseconds). J is the greatest minus the
//     least difference, and both clocks' steps. Servers behind one address whose clocks differ make it wider, never narrower.
//   - `answered`: no such stamp. The request arrived between being sent and being answered, at the latest the server's own time before that
//     (req-cost-time, where it is known), so J is at most the greatest such delay.
//
// **How safe.** Until `enough` calls were measured it is `before`, or what was seen where that is more. After that, if delays are
// exchangeable, a further one lies outside the range of n seen ones with a chance of at most 2/(n + 1), whatever their
// distribution; `headroom` is for that, and for delays that change. No measurement makes it certain. Extremes are forgotten after one to two
// `memory`s, since clocks drift: two minutes at 50 parts in a million are 6 ms.
//
// **How a limiter takes it.** J is fixed when a quota_limiter is made, and a window's length cannot change while permits live in it.
// What is safe: to make it with the J that an earlier run saved (`jitter()`, a number); or to hand over in use: make a second limiter with
// the new J, and for W + old J take from both, old first, refunding the old where the new one denies; then drop the old. Until then
// the old one's promise holds; from then on the new one has seen everything that its windows cover. (Not safe: to raise the limits
// by what the margin costs, since all of the raised limit may fall into one W; to shorten a window before it has aged out.)
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
    std::chrono::nanoseconds before{
        std::chrono::seconds{1}};  ///< J until enough is known: an earlier run's, or a cautious one
    std::chrono::nanoseconds least{
        std::chrono::milliseconds{2}};                        ///< J never falls below: stalls between stamp and send
    std::chrono::nanoseconds most{std::chrono::seconds{30}};  ///< nor rises above
    std::chrono::nanoseconds steps{
        std::chrono::milliseconds{1}};  ///< of both clocks together, by which a difference may be wrong
    std::chrono::nanoseconds memory{std::chrono::minutes{2}};
    std::uint32_t enough = 100;   ///< measurements
    std::uint32_t headroom = 25;  ///< per cent above the range seen
};

/// Shared by all calls. Time points are nanoseconds of any one clock on this side, and of any one on the server's.
///
///     weir::jitter_estimator margin{};
///     margin.arrived(sent, server_stamp);                            // with each answer
///     weir::llm::quota_limiter quota{q, {.jitter = margin.jitter()}};     // the next one that is made
///
/// All verbs take one mutex for a moment: they come with answers, never with attempts.
class jitter_estimator {
public:
    using nanoseconds = std::chrono::nanoseconds;

    /// Throws std::invalid_argument for what `validate` names.
    explicit jitter_estimator(jitter_estimator_options o = {}) : options_{o} { weir::detail::ensure(validate(o)); }

    static constexpr error validate(jitter_estimator_options const& o) noexcept {
        if (o.least < o.least.zero()) return {"a margin must not be negative"};
        if (o.before < o.least || o.most < o.before) return {"a margin begins between its least and its most"};
        if (o.most > std::chrono::hours{1}) return {"a margin of more than an hour"};
        if (o.steps < o.steps.zero() || o.steps > std::chrono::hours{1})
            return {"the clocks' steps are not negative, an hour at most"};
        if (o.memory <= o.memory.zero()) return {"a margin's memory must be positive"};
        if (o.enough < 2) return {"a range needs two measurements at least"};
        if (o.headroom > 10'000) return {"a margin's headroom is at most a hundredfold"};
        return {};
    }

    /// A call was sent at `sent`, by our clock, and arrived at `at`, by the server's.
    void arrived(nanoseconds sent, nanoseconds at) {
        add(stamped_, sent, weir::detail::saturating_sub(at.count(), sent.count()));
    }

    /// A call was sent, and the first of its answer read at `heard`, by the same clock; of that the server says it took `took`. What
    /// cannot be (a `took` that does not fit) counts as nothing said.
    void answered(nanoseconds sent, nanoseconds heard, nanoseconds took = {}) {
        std::int64_t const whole = weir::detail::saturating_sub(heard.count(), sent.count());
        if (whole < 0) return;
        add(bounded_, sent, took.count() > 0 && took.count() <= whole ? whole - took.count() : whole);
    }

    /// J now.
    nanoseconds jitter() const {
        std::lock_guard const lock{mutex_};
        extremes const stamps = stamped_.both();
        extremes const bounds = bounded_.both();
        if (stamps.count == 0 && bounds.count == 0) return options_.before;
        // A delay is not negative, so that the greatest bound is a range too; but stamps say more, and are preferred.
        bool const known = stamps.count >= options_.enough || bounds.count >= options_.enough;
        std::int64_t seen = 0;
        if (stamps.count >= options_.enough || (!known && stamps.count != 0)) {
            seen = weir::detail::saturating_sub(stamps.greatest, stamps.least);
        } else {
            seen = bounds.greatest;
        }
        seen = weir::detail::saturating_add(seen, options_.steps.count());
        std::int64_t const most = options_.most.count();
        std::int64_t const wide = seen > most ? most : seen + seen / 100 * options_.headroom;
        std::int64_t const low = known ? options_.least.count() : options_.before.count();
        return nanoseconds{std::clamp(wide, low, most)};
    }

    /// Calls that were measured and not forgotten.
    std::uint64_t measured() const {
        std::lock_guard const lock{mutex_};
        return stamped_.both().count + bounded_.both().count;
    }

private:
    struct extremes {
        std::int64_t least = (std::numeric_limits<std::int64_t>::max)();
        std::int64_t greatest = (std::numeric_limits<std::int64_t>::min)();
        std::uint64_t count = 0;
    };
    /// The memory's present part and the one before it.
    struct history {
        extremes now, last;
        std::int64_t since = 0;

        extremes both() const noexcept {
            return {(std::min)(now.least, last.least), (std::max)(now.greatest, last.greatest), now.count + last.count};
        }
    };

    void add(history& h, nanoseconds sent, std::int64_t delay) {
        std::lock_guard const lock{mutex_};
        std::int64_t const age = weir::detail::saturating_sub(sent.count(), h.since);
        if (h.both().count == 0) {
            h.since = sent.count();
        } else if (age >= options_.memory.count() && h.now.count >= options_.enough) {
            // What is known gives way only to as much that is newer.
            h.last = h.now;
            h.now = {};
            h.since = sent.count();
        }
        h.now.least = (std::min)(h.now.least, delay);
        h.now.greatest = (std::max)(h.now.greatest, delay);
        ++h.now.count;
    }

    jitter_estimator_options options_;
    mutable std::mutex mutex_;
    history stamped_;
    history bounded_;
};

}  // namespace weir::inline v0
