// SPDX-License-Identifier: MIT
//
// What token_bucket and leaky_bucket_queue have in common: a clock, an origin and a gcra_state, and the part of their
// decisions that answers.
#pragma once

#include <cstdint>
#include <limits>

#include "../clock/clock.hpp"
#include "../error.hpp"
#include "../limiter.hpp"
#include "../rate.hpp"
#include "decision_head.hpp"
#include "gcra.hpp"
#include "gcra_state.hpp"

namespace weir::inline v0::detail {

/// Ticks of `t` since `origin`, between 0 and the horizon of gcra: a time before the origin is the origin, and a time
/// beyond the horizon is the horizon.
template <class Duration, class TimePoint>
constexpr std::uint64_t ticks_since(TimePoint t, std::int64_t origin) noexcept {
    constexpr std::uint64_t horizon = gcra::horizon<Duration>();
    // At a clock's end the difference may overflow. As a branch: what follows need not wait for it.
    std::int64_t d{};
    bool const overflow = __builtin_sub_overflow(detail::ticks(t), origin, &d);
    if (!overflow && static_cast<std::uint64_t>(d) <= horizon) [[likely]]
        return static_cast<std::uint64_t>(d);
    return detail::ticks(t) < origin ? 0 : horizon;
}

/// The time point t ticks after `origin`; time_point::max() where it has none.
template <class TimePoint>
constexpr TimePoint time_since(std::int64_t origin, std::uint64_t t) noexcept {
    if (t >> 63U) return (TimePoint::max)();
    return time_of_tick<TimePoint>(saturating_add(origin, static_cast<std::int64_t>(t)));
}

/// A clock, an origin, and a gcra_state that counts ticks of the clock since the origin.
template <class Clock, class Atomics>
class gcra_limiter {
public:
    using clock_type = typename clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    using state = gcra_state<Atomics>;
    class decision;

    constexpr gcra_limiter(gcra const& g, permits available, time_point origin, Clock&& c)
        : clock_{static_cast<Clock&&>(c)}, origin_{detail::ticks(origin)}, state_{g, available} {}
    gcra_limiter(gcra_limiter const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    gcra_limiter& operator=(gcra_limiter const&) = delete;

    constexpr clock_type const& clock() const noexcept { return clock_.get(); }

protected:
    ~gcra_limiter() = default;

    constexpr time_point now() const noexcept { return clock_.get().now(); }
    constexpr std::uint64_t since_origin(time_point t) const noexcept { return ticks_since<duration>(t, origin_); }
    constexpr time_point from_origin(std::uint64_t t) const noexcept { return time_since<time_point>(origin_, t); }
    /// The clock, for what must read it late: a function that returns ticks since the origin.
    constexpr auto ticks_now() const noexcept {
        return [this] { return since_origin(now()); };
    }

    [[no_unique_address]] clock_box<Clock> clock_;
    std::int64_t origin_;
    state state_;
};

/// The answers of an attempt and the receipt of a grant. The answers are a snapshot: they are computed when asked for
/// from the words that the attempt saw and the configuration of the constructor, which never changes; under a changed
/// configuration the attempt has computed them. It refers to its limiter, which must outlive it.
template <class Clock, class Atomics>
class gcra_limiter<Clock, Atomics>::decision {
protected:
    using attempt = typename state::attempt;
    using receipt = typename state::receipt;

public:
    constexpr bool granted() const noexcept { return (flags_ & attempt::granted) != 0; }
    constexpr explicit operator bool() const noexcept { return granted(); }

    /// Denied, and no waiting helps: error() says why.
    constexpr bool never() const noexcept { return (flags_ & attempt::never) != 0; }
    constexpr weir::error error() const noexcept {
        if (!never()) return {};
        return never_granted((flags_ & attempt::negative) != 0 ? permit_count::invalid_value : 0);
    }

    /// Denied: the earliest instant at which the same attempt is granted if no other caller takes; one tick earlier it
    /// is denied. time_point::max() when never, or beyond the 30 years. Granted: the time of the attempt. One division
    /// at most.
    constexpr time_point retry_at() const noexcept { return retry_within(0); }
    /// How long that is from the attempt, at most 30 years. Where an approximate clock denied it, the time of the
    /// attempt is not known: then from now on, which reads the clock.
    constexpr duration retry_after() const noexcept { return after_within(0); }
    /// The same in whole seconds, rounded up.
    constexpr std::int64_t retry_after_seconds() const noexcept { return seconds_rounded_up(retry_after()); }

    /// What was available just after the attempt, at its time. One division.
    constexpr permits remaining() const noexcept {
        if (changed()) return granted() ? n_ : after_;
        gcra const& g = limiter_->state_.initial();
        return g.available(tat(), g.at(at()));
    }

    /// The earliest instant, not before the attempt, from which an attempt for all of the capacity is granted if no
    /// caller takes until then; time_point::max() beyond the 30 years. One division at most.
    constexpr time_point full_at() const noexcept {
        std::uint64_t const full = !changed() ? limiter_->state_.initial().first(tat()) : granted() ? before_ : n_;
        return full <= at() ? t_ : limiter_->from_origin(full);
    }

protected:
    constexpr decision(gcra_limiter const* limiter, time_point t, attempt const& a, permits live) noexcept
        : limiter_{limiter}, t_{t}, n_{a.n}, live_{live}, before_{a.before}, after_{a.after}, flags_{a.flags} {}

    /// retry_at, where a wait of so many ticks is allowed.
    constexpr time_point retry_within(std::uint64_t wait) const noexcept {
        if (granted()) return t_;
        std::uint64_t const at_tick = retry_tick();
        if (at_tick == gcra::never) return (time_point::max)();
        time_point const from = at_tick - at() <= wait ? t_ : limiter_->from_origin(at_tick - wait);
        if constexpr (approximate_clock<clock_type>) {
            if ((flags_ & attempt::approx) != 0) return approx_retry_at(limiter_->clock(), from);
        }
        return from;
    }
    /// From t_ to retry_within(wait), at most 30 years.
    constexpr duration after_within(std::uint64_t wait) const noexcept {
        if (granted()) return duration::zero();
        if constexpr (approximate_clock<clock_type>) {
            time_point const at_time = retry_within(wait);
            if ((flags_ & attempt::approx) != 0 && at_time != (time_point::max)()) {
                constexpr auto longest = detail::retry_after((time_point::min)(), (time_point::max)());
                duration const d = approx_retry_after(limiter_->clock(), at_time);
                return d < longest ? d : longest;
            }
        }
        constexpr std::uint64_t longest = thirty_years<duration>();
        std::uint64_t ticks = longest;
        if (std::uint64_t const to = retry_tick(); to != gcra::never) {
            std::uint64_t const t = at();
            ticks = to - t <= wait ? 0 : to - wait - t;
            // A time before the origin counted as the origin, one beyond the horizon as that; and clocks end.
            if (limiter_->from_origin(t) != t_ || limiter_->from_origin(t + ticks) == (time_point::max)()) [[unlikely]]
                return after_unusual(retry_within(wait));
        }
        return duration{static_cast<typename duration::rep>(ticks < longest ? ticks : longest)};
    }
    [[gnu::__noinline__, gnu::__cold__]] constexpr duration after_unusual(time_point to) const noexcept {
        return detail::retry_after(to == (time_point::max)(), t_, to);
    }

    constexpr void mark_approx() noexcept { flags_ |= attempt::approx; }
    constexpr bool is_of(gcra_limiter const* l) const noexcept { return limiter_ == l && live_.count() != 0; }
    constexpr receipt made() const noexcept {
        return {changed() ? ((flags_ & attempt::raised) != 0 ? 1U : 0U) : before_, after_, version()};
    }
    constexpr void set_made(receipt const& r) noexcept { after_ = r.after; }
    /// The tick of the attempt.
    constexpr std::uint64_t at() const noexcept { return limiter_->since_origin(t_); }
    /// What a grant under the constructor's configuration was of.
    constexpr permits asked() const noexcept { return n_; }
    /// When a grant leaves a queue; `departs`: its tick under a changed configuration.
    constexpr time_point departure(std::uint64_t departs) const noexcept {
        if (!granted() || (!changed() && n_ == 0)) return t_;
        if (!changed()) departs = state::departure(limiter_->state_.initial(), state::tat_of(before_), at());
        return departs <= at() ? t_ : limiter_->from_origin(departs);
    }

private:
    constexpr bool changed() const noexcept { return version() != 0; }
    constexpr std::uint64_t version() const noexcept { return flags_ >> attempt::version_shift; }
    constexpr std::uint64_t tat() const noexcept { return state::tat_of(granted() ? after_ : before_); }
    /// Of a denial; gcra::never when never.
    constexpr std::uint64_t retry_tick() const noexcept {
        if (never()) return gcra::never;
        return changed() ? before_ : state::retry(limiter_->state_.initial(), before_, n_, at());
    }

    gcra_limiter const* limiter_;
    time_point t_;
    std::uint64_t n_;  // this, before_ and after_: see gcra_state::attempt

protected:
    live_permits live_;

private:
    std::uint64_t before_;
    std::uint64_t after_;
    std::uint64_t flags_;  // last: see attempt
};

}  // namespace weir::inline v0::detail
