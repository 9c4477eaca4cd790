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
public:
    constexpr bool granted() const noexcept { return (flags_ & flag_granted) != 0; }
    constexpr explicit operator bool() const noexcept { return granted(); }

    /// Denied, and no waiting helps: error() says why.
    constexpr bool never() const noexcept { return (flags_ & flag_never) != 0; }
    constexpr weir::error error() const noexcept { return never() ? never_granted(n_) : weir::error{}; }

    /// Denied: the earliest instant at which the same attempt is granted if no other caller takes; one tick earlier it
    /// is denied. time_point::max() when never, or beyond the 30 years. Granted: the time of the attempt. One division.
    constexpr time_point retry_at() const noexcept { return retry_within(0); }
    /// How long that is from the attempt, at most 30 years. Where an approximate clock denied it, the time of the
    /// attempt is not known: then from now on, which reads the clock.
    constexpr duration retry_after() const noexcept { return after(retry_at()); }
    /// The same in whole seconds, rounded up.
    constexpr std::int64_t retry_after_seconds() const noexcept { return seconds_rounded_up(retry_after()); }

    /// What was available just after the attempt, at its time. One division.
    constexpr permits remaining() const noexcept {
        if (changed()) return granted() ? n_ : after_;
        gcra const& g = limiter_->state_.initial();
        return g.available(tat(), g.at(limiter_->since_origin(t_)));
    }

    /// The earliest instant, not before the attempt, from which an attempt for all of the capacity is granted if no
    /// caller takes until then; time_point::max() beyond the 30 years. One division.
    constexpr time_point full_at() const noexcept {
        std::uint64_t const at = changed() ? full_ : limiter_->state_.initial().first(tat());
        return at <= limiter_->since_origin(t_) ? t_ : limiter_->from_origin(at);
    }

protected:
    using attempt = typename state::attempt;
    using receipt = typename state::receipt;

    constexpr decision(gcra_limiter const* limiter, time_point t, permits n, attempt const& a) noexcept
        : decision{limiter, t, n, a, a.granted ? n : 0} {}
    constexpr decision(gcra_limiter const* limiter, time_point t, permits n, attempt const& a, permits live) noexcept
        : limiter_{limiter},
          t_{t},
          n_{a.granted && a.version != 0 ? a.remaining : n},
          live_{live},
          before_{a.granted || a.version == 0 ? a.before : a.retry},
          after_{a.granted || a.version == 0 ? a.after : a.remaining},
          flags_{a.version << version_shift | (a.granted ? flag_granted : 0U) | (a.too_many ? flag_never : 0U)},
          full_{a.full} {}

    /// retry_at, where a wait of so many ticks is allowed.
    constexpr time_point retry_within(std::uint64_t wait) const noexcept {
        if (granted()) return t_;
        if (never()) return (time_point::max)();
        std::uint64_t const t = limiter_->since_origin(t_);
        std::uint64_t const at = changed() ? before_ : state::retry(limiter_->state_.initial(), before_, n_, t);
        if (at == (std::numeric_limits<std::uint64_t>::max)()) return (time_point::max)();
        time_point const from = at - t <= wait ? t_ : limiter_->from_origin(at - wait);
        if constexpr (approximate_clock<clock_type>) {
            if ((flags_ & flag_approx) != 0) return approx_retry_at(limiter_->clock(), from);
        }
        return from;
    }
    constexpr duration after(time_point at) const noexcept {
        if (granted()) return duration::zero();
        constexpr auto longest = detail::retry_after((time_point::min)(), (time_point::max)());
        if (at == (time_point::max)()) return longest;
        if constexpr (approximate_clock<clock_type>) {
            if ((flags_ & flag_approx) != 0) {
                duration const d = approx_retry_after(limiter_->clock(), at);
                return d < longest ? d : longest;
            }
        }
        return detail::retry_after(t_, at);
    }

    constexpr void mark_approx() noexcept { flags_ |= flag_approx; }
    constexpr bool is_of(gcra_limiter const* l) const noexcept { return limiter_ == l && live_.count() != 0; }
    constexpr receipt made() const noexcept { return {before_, after_, flags_ >> version_shift}; }
    constexpr void set_made(receipt const& r) noexcept {
        before_ = r.before;
        after_ = r.after;
    }
    /// What a grant under the constructor's configuration was of.
    constexpr permits asked() const noexcept { return n_; }
    constexpr std::uint64_t charged_at() const noexcept { return limiter_->since_origin(t_); }

private:
    static constexpr std::uint64_t flag_granted = 1;
    static constexpr std::uint64_t flag_never = 2;
    static constexpr std::uint64_t flag_approx = 4;
    static constexpr unsigned version_shift = 3;

    constexpr bool changed() const noexcept { return flags_ >> version_shift != 0; }
    constexpr std::uint64_t tat() const noexcept { return state::tat_of(granted() ? after_ : before_); }

    gcra_limiter const* limiter_;
    time_point t_;
    permits n_;  // asked for; of a grant under a changed configuration, remaining()

protected:
    live_permits live_;

private:
    std::uint64_t
        before_;  // the word that the attempt saw; of a denial under a changed configuration, the tick of retry_at
    std::uint64_t after_;  // the word that it left; of such a denial, remaining()
    std::uint64_t flags_;  // and the number of the configuration
    std::uint64_t full_;   // under a changed configuration, the tick of full_at
};

}  // namespace weir::inline v0::detail
