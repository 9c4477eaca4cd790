// SPDX-License-Identifier: MIT
//
// leaky_bucket_queue: the leaky bucket as a shaper. Each caller is given the moment at which it may depart; departures
// are one interval apart, first booked first out, and at most so many wait.
//
// Promise: the exact departure moments (rationals; a tick reported is the next one up) of two bookings are at least
// 1/rate apart, n times that after a booking of n; FIFO in the order of booking; no booking waits longer than
// `waiting` intervals. State: one word. Lock-free: every verb but `change`, which excludes other changers, and only
// them.
#pragma once

#include <chrono>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "atomics.hpp"
#include "clock/clock.hpp"
#include "detail/gcra.hpp"
#include "detail/gcra_limiter.hpp"
#include "error.hpp"
#include "limiter.hpp"
#include "rate.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

struct leaky_bucket_queue_options {
    /// Permits that can be booked at the start. Those that are missing count as booked just before it.
    permit_count initial = all_permits;
};

/// A shaper that gives departure times at a rate, to at most `waiting` permits ahead of now.
///
///     weir::leaky_bucket_queue pace{weir::rate{10, 1s}, 50};
///     if (auto d = pace.try_acquire()) { sleep_until(d.departs_at()); send(); } else drop(d.retry_after());
///
/// The one that departs is not waiting: with waiting = 0 it grants one permit an interval and denies the rest.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(detail::cache_line) leaky_bucket_queue : private detail::gcra_limiter<Clock, Atomics> {
    using base = detail::gcra_limiter<Clock, Atomics>;
    using base::since_origin;
    using base::state_;

public:
    using clock_type = std::remove_cvref_t<Clock>;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    using amount = permit_count;
    class decision;

    /// What `change` takes.
    struct limits_type {
        weir::rate rate;
        permit_count waiting;

        friend constexpr bool operator==(limits_type const&, limits_type const&) = default;
    };

    /// Throws std::invalid_argument for what `validate` names.
    constexpr explicit leaky_bucket_queue(rate r, permit_count waiting, leaky_bucket_queue_options const& o = {})
        requires(!std::is_reference_v<Clock>)
        : leaky_bucket_queue{r, waiting, o, Clock{}} {}
    constexpr explicit leaky_bucket_queue(rate r, permit_count waiting, Clock c)
        : leaky_bucket_queue{r, waiting, leaky_bucket_queue_options{}, static_cast<Clock&&>(c)} {}
    constexpr explicit leaky_bucket_queue(rate r, permit_count waiting, leaky_bucket_queue_options const& o, Clock c)
        : leaky_bucket_queue{r, waiting, o, time_point{c.now()}, static_cast<Clock&&>(c)} {}
    /// The same, with the instant at which it begins.
    constexpr explicit leaky_bucket_queue(rate r, permit_count waiting, leaky_bucket_queue_options const& o,
                                          time_point origin, Clock c)
        : base{prepared(r, waiting, o, c), o.initial, origin, static_cast<Clock&&>(c)} {}

    leaky_bucket_queue(permit_count, rate) = delete;         // the rate comes first: leaky_bucket_queue{rate, waiting}
    leaky_bucket_queue(leaky_bucket_queue const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    leaky_bucket_queue& operator=(leaky_bucket_queue const&) = delete;

    /// What is wrong with these arguments, as token_bucket's with a burst of waiting + 1; and a clock so coarse that
    /// one step of it earns more than one permit.
    static constexpr error validate(rate const& r, permit_count waiting, leaky_bucket_queue_options const& o = {},
                                    duration resolution = duration{1}) {
        if (o.initial.invalid()) return {"initial must not be negative"};
        return algorithm(r, waiting, resolution).error();
    }

    /// A queue, or the reason why there is none. Arguments as the constructors'.
    template <class... Rest>
    static constexpr result<leaky_bucket_queue> make(rate const& r, permit_count waiting,
                                                     leaky_bucket_queue_options const& o, Rest&&... rest) {
        if (auto e = validate(r, waiting, o, detail::resolution_among<Clock>(rest...))) return e;
        return result<leaky_bucket_queue>{std::in_place, r, waiting, o, std::forward<Rest>(rest)...};
    }
    template <detail::clock_or_reference... C>
        requires(sizeof...(C) <= 1)
    static constexpr result<leaky_bucket_queue> make(rate const& r, permit_count waiting, C&&... c) {
        return make(r, waiting, leaky_bucket_queue_options{}, std::forward<C>(c)...);
    }

    /// Books n permits. Granted: `departs_at` is when they may leave, t at the earliest. Denied: the queue is full, and
    /// nothing has changed. n = 0 is granted and books nothing; n above waiting + 1 is never granted.
    /// O(1). Lock-free. Always inlined, as token_bucket's.
    [[nodiscard("the decision says when the permits may leave"), gnu::__always_inline__]] decision try_acquire(
        permit_count n = 1) noexcept {
        return try_acquire(n, base::now());
    }
    [[nodiscard("the decision says when the permits may leave"), gnu::__always_inline__]] decision try_acquire(
        time_point t) noexcept {
        return try_acquire(1, t);
    }
    [[nodiscard("the decision says when the permits may leave"), gnu::__always_inline__]] constexpr decision
    try_acquire(permit_count n, time_point t) noexcept {
        if (n == 0U) return decision{this, t, state_.look_only(since_origin(t)), 0};
        auto const a = state_.try_charge(n, since_origin(t));
        return decision{this, t, a, a.is_granted() ? n.value() : 0};
    }

    /// What try_acquire would answer. Books nothing.
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n = 1) const noexcept {
        return check(n, base::now());
    }
    [[nodiscard("check does nothing but answer")]] decision check(time_point t) const noexcept { return check(1, t); }
    [[nodiscard("check does nothing but answer")]] constexpr decision check(permit_count n,
                                                                            time_point t) const noexcept {
        if (n == 0U) return decision{this, t, state_.look_only(since_origin(t)), 0};
        return decision{this, t, state_.probe(n, since_origin(t)), 0};
    }

    /// Cancels a booking, or the last k permits of it, once. Returns the permits given back: k where it is the last
    /// booking, else 0, since those behind it have their times already; 0 after a change of limits. Lock-free.
    ///
    /// Its place is given back later, when all that is booked behind it has been cancelled too, in whatever order: when
    /// every booking made since some moment is cancelled, the queue is as if none of them had been made. A gap that
    /// stays between bookings that departed is unused, and so is one where, after a departure, a neighbour in the same
    /// part of the queue (a half to a quarter of it) had been cancelled before. After a change of limits a gap stays a
    /// gap.
    constexpr permits refund(decision& d) noexcept { return refund(d, d.live_.count()); }
    constexpr permits refund(decision& d, permit_count k) noexcept {
        if (!d.is_of(this) || k == 0U || k.invalid()) return 0;
        permits const live = d.live_.count();
        auto receipt = d.made();
        permits const given = state_.cancel(receipt, live, d.live_.take(k), base::ticks_now());
        d.set_made(receipt);
        return given;
    }

    /// Corrects a booking to the permits actually used, once. Fewer: the rest is cancelled. More: the overrun is
    /// booked behind what is booked already, whether or not there is room. False, with nothing changed, when `d` was
    /// settled or cancelled before, and for a negative number.
    [[nodiscard("false says that the decision was settled or refunded before")]] bool settle(
        decision& d, permit_count actual) noexcept {
        if (!d.is_of(this) || actual.invalid()) return false;
        permits const live = d.live_.count();
        if (actual < live) {
            refund(d, live - actual);
        } else if (actual > live) {
            state_.charge_debt(actual - live, since_origin(base::now()));
        }
        d.live_.take_all();
        return true;
    }

    /// How many permits could be booked, at once or one by one.
    permits available() const noexcept { return available(base::now()); }
    constexpr permits available(time_point t) const noexcept { return state_.available(since_origin(t)); }

    /// Puts another rate and length in force from now on. Departures that were promised stay, and the next one follows
    /// the last of them. Bookings made before it can no longer be cancelled. Errors, with nothing changed: what
    /// `validate` names; another thread is changing it (errc::busy); a queue that does not fit.
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l) noexcept {
        return change_from(l, base::ticks_now());
    }
    [[nodiscard("an error says that nothing was changed")]] constexpr error change(limits_type const& l,
                                                                                   time_point t) noexcept {
        return change_from(l, [this, t] { return since_origin(t); });
    }

    /// What is in force. The rate equals the one that was given, and is reduced: 600 a minute reads 10 a second.
    constexpr limits_type limits() const noexcept {
        gcra const g = state_.look().g;
        return {g.template rate_per<duration>(), g.burst() - 1};
    }
    constexpr permits waiting() const noexcept { return state_.look().g.burst() - 1; }
    using base::clock;

private:
    static constexpr result<gcra> algorithm(rate const& r, permit_count waiting, duration resolution) {
        if (waiting.invalid()) return error{"waiting must not be negative"};
        if (waiting > gcra::tat_max) return error{"waiting must be below 2^60"};
        // A shaper's interval is what must be countable, so the clock is held against one permit, not against the
        // queue.
        if (auto e = gcra::make<duration>(r, 1, resolution).error()) return e;
        return gcra::make<duration>(r, waiting + 1, resolution);
    }
    template <class C>
    static constexpr gcra prepared(rate const& r, permit_count waiting, leaky_bucket_queue_options const& o,
                                   C const& c) {
        detail::ensure(validate(r, waiting, o, resolution_of(c)));
        auto const g = algorithm(r, waiting, resolution_of(c));
        return g ? *g : gcra{};
    }
    template <class Now>
    constexpr error change_from(limits_type const& l, Now now) noexcept {
        auto const g = algorithm(l.rate, l.waiting, resolution_of(base::clock()));
        return g ? state_.change(*g, now, gcra::keep::departures) : g.error();
    }
};

/// What an attempt returned, and, when granted, what cancels it. Its answers are a snapshot. It refers to its queue,
/// which must outlive it.
template <class Clock, class Atomics>
    requires clock<Clock>
class [[nodiscard("the decision says when the permits may leave")]] leaky_bucket_queue<Clock, Atomics>::decision
    : public detail::gcra_limiter<Clock, Atomics>::decision {
public:
    /// When the permits may leave. The time of the attempt where it was denied. One division at most.
    constexpr time_point departs_at() const noexcept { return this->departure(departs_); }

private:
    friend class leaky_bucket_queue;

    constexpr decision(leaky_bucket_queue const* queue, time_point t, typename base::state::attempt const& a,
                       permits live) noexcept
        : detail::gcra_limiter<Clock, Atomics>::decision{queue, t, a, live}, departs_{a.departs} {}

    std::uint64_t departs_;  // tick, under a changed configuration
};

leaky_bucket_queue(permit_count, rate) -> leaky_bucket_queue<std::chrono::steady_clock>;
leaky_bucket_queue(rate, permit_count) -> leaky_bucket_queue<std::chrono::steady_clock>;
leaky_bucket_queue(rate, permit_count, leaky_bucket_queue_options) -> leaky_bucket_queue<std::chrono::steady_clock>;
template <detail::clock_or_reference C>
leaky_bucket_queue(rate, permit_count, C) -> leaky_bucket_queue<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C>
leaky_bucket_queue(rate, permit_count, leaky_bucket_queue_options, C)
    -> leaky_bucket_queue<detail::clock_argument_t<C>>;
template <detail::clock_or_reference C>
leaky_bucket_queue(rate, permit_count, leaky_bucket_queue_options,
                   typename std::remove_cvref_t<detail::clock_argument_t<C>>::time_point, C)
    -> leaky_bucket_queue<detail::clock_argument_t<C>>;

static_assert(limiter<leaky_bucket_queue<>>);

}  // namespace weir::inline v0

#pragma pop_macro("check")
