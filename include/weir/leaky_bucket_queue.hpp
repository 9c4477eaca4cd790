// SPDX-License-Identifier: MIT
//
// leaky_bucket_queue: the leaky bucket as a shaper. Each caller is given the moment at which it may depart; departures are
// one interval apart, first booked first out, and at most so many wait.
//
// Promise: the exact departure moments (rationals; a tick reported is the next one up) of two bookings are at least
// 1/rate apart, n times that after a booking of n; FIFO in the order of booking; nobody waits longer than
// `waiting` intervals. State: one word. Lock-free.
#pragma once

#include <chrono>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "token_bucket.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// A shaper that gives departure times at a rate, to at most `waiting` permits ahead of now.
///
///     weir::leaky_bucket_queue pace{weir::rate{10, 1s}, 50};
///     if (auto d = pace.try_acquire()) { sleep_until(d.departs_at()); send(); } else drop(d.retry_after());
///
/// The one that departs is not waiting: with waiting = 0 it grants one permit an interval and refuses the rest.
/// Errors of the constructor as token_bucket's, with a burst of waiting + 1.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(detail::cache_line) leaky_bucket_queue {
    using cell = detail::gcra_state<Atomics>;

public:
    using clock_type = typename detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    class decision;

    constexpr leaky_bucket_queue(rate r, permits waiting, Clock c)
        requires(!std::is_reference_v<Clock>)
        : leaky_bucket_queue{r, waiting, c.now(), std::move(c)} {}
    constexpr leaky_bucket_queue(rate r, permits waiting, Clock c)
        requires std::is_reference_v<Clock>
        : leaky_bucket_queue{r, waiting, c.now(), c} {}
    constexpr leaky_bucket_queue(rate r, permits waiting)
        requires(!std::is_reference_v<Clock>)
        : leaky_bucket_queue{r, waiting, Clock{}} {}

    /// The same, with the instant at which it begins.
    constexpr leaky_bucket_queue(rate r, permits waiting, time_point begin, Clock c)
        : clock_{static_cast<Clock&&>(c)},
          origin_{detail::ticks(begin)},
          cell_{prepare(r, waiting, clock_.get()), waiting + 1} {}

    leaky_bucket_queue(leaky_bucket_queue const&) = delete;
    leaky_bucket_queue& operator=(leaky_bucket_queue const&) = delete;

    static constexpr error validate(rate r, permits waiting, duration resolution = duration{1}) {
        if (waiting > gcra::tat_max) return {"the queue is too long: it does not fit 60 bits"};
        // A shaper's interval is what must be countable, so the clock is held against one permit, not against the queue.
        if (auto e = gcra::make<duration>(r, 1, resolution).error()) return e;
        return gcra::make<duration>(r, waiting + 1, resolution).error();
    }

    template <class... Args>
    static constexpr result<leaky_bucket_queue> make(rate r, permits waiting, Args&&... args) {
        if (auto e = validate(r, waiting, detail::resolution_among<Clock>(args...))) return e;
        return result<leaky_bucket_queue>{std::in_place, r, waiting, std::forward<Args>(args)...};
    }

    /// Books n permits. Granted: `departs_at` is when they may leave, t at the earliest. Denied: the queue is full, and
    /// nothing has changed. n = 0 is granted and books nothing; n above waiting + 1 is denied for ever.
    /// O(1), one division when there is a wait. Lock-free.
    decision try_acquire(permits n = 1) noexcept { return try_acquire(n, clock_.get().now()); }
    decision try_acquire(time_point t) noexcept { return try_acquire(1, t); }
    constexpr decision try_acquire(permits n, time_point t) noexcept {
        if (n == 0) return decision{this, t, 0, {{true, 0, 0, 0}, false}, t};
        std::uint64_t const at = since_origin(t);
        auto const b = cell_.try_enqueue(n, at);
        return decision{this, t, n, b.made, b.made.what.granted && b.due > at ? from_origin(b.due) : t};
    }

    /// What try_acquire would answer. Charges nothing; `departs_at` is the time of the attempt.
    decision check(permits n = 1) const noexcept { return check(n, clock_.get().now()); }
    constexpr decision check(permits n, time_point t) const noexcept {
        if (n == 0) return decision{this, t, 0, {{true, 0, 0, 0}, false}, t};
        decision d{this, t, n, cell_.probe(n, since_origin(t)), t};
        d.live_ = 0;
        return d;
    }

    /// Cancels a booking. If it is the last one, its place is given back whole, and true is returned. Any other leaves its gap
    /// unused (those behind it have their times already). Either way it is spent: a second cancel does nothing. Lock-free.
    constexpr bool refund(decision& d) noexcept {
        if (d.queue_ != this || std::exchange(d.live_, 0) == 0) return false;
        return cell_.undo(d.made_);
    }

    /// How many permits could be booked now.
    permits available() const noexcept { return available(clock_.get().now()); }
    constexpr permits available(time_point t) const noexcept { return cell_.available(since_origin(t)); }

    constexpr permits waiting() const noexcept { return cell_.look().g.burst() - 1; }
    constexpr clock_type const& clock() const noexcept { return clock_.get(); }

private:
    template <class C>
    static constexpr gcra prepare(rate r, permits waiting, C const& c) {
        detail::ensure(validate(r, waiting, resolution_of(c)));
        auto g = gcra::make<duration>(r, waiting + 1, resolution_of(c));
        return g ? *g : gcra{};
    }
    constexpr std::uint64_t since_origin(time_point t) const noexcept {
        return detail::ticks_since<duration>(t, origin_);
    }
    constexpr time_point from_origin(std::uint64_t t) const noexcept {
        return detail::time_since<time_point>(origin_, t);
    }

    [[no_unique_address]] detail::clock_box<Clock> clock_;
    std::int64_t origin_;
    cell cell_;
};

/// What an attempt returned, and, when granted, what cancels it. Refers to its queue, which must outlive it.
template <class Clock, class Atomics>
    requires clock<Clock>
class leaky_bucket_queue<Clock, Atomics>::decision {
public:
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    constexpr decision(decision&& other) noexcept
        : queue_{other.queue_},
          t_{other.t_},
          departs_at_{other.departs_at_},
          n_{other.n_},
          live_{std::exchange(other.live_, 0)},
          made_{other.made_},
          never_{other.never_} {}
    constexpr decision& operator=(decision&& other) noexcept {
        permits const live = std::exchange(other.live_, 0);
        queue_ = other.queue_;
        t_ = other.t_;
        departs_at_ = other.departs_at_;
        n_ = other.n_;
        live_ = live;
        made_ = other.made_;
        never_ = other.never_;
        return *this;
    }

    constexpr bool granted() const noexcept { return made_.granted; }
    constexpr explicit operator bool() const noexcept { return made_.granted; }
    constexpr bool never() const noexcept { return never_; }

    /// When the permits may leave. The time of the attempt where it was refused.
    constexpr time_point departs_at() const noexcept { return departs_at_; }

    /// When there will be room in the queue, if nobody else books; time_point::max() when never.
    constexpr time_point retry_at() const noexcept {
        if (made_.granted) return t_;
        if (never_) return (time_point::max)();
        std::uint64_t const t = queue_->since_origin(t_);
        std::uint64_t const at = queue_->cell_.retry(made_, n_, t);
        return at == t ? t_ : queue_->from_origin(at);
    }
    constexpr duration retry_after() const noexcept {
        time_point const at = retry_at();
        return at == (time_point::max)() ? (duration::max)() : detail::wait_between(t_, at);
    }

private:
    friend class leaky_bucket_queue;

    constexpr decision(leaky_bucket_queue const* queue, time_point t, permits n, typename cell::attempt const& a,
                       time_point departs_at) noexcept
        : queue_{queue},
          t_{t},
          departs_at_{departs_at},
          n_{n},
          live_{a.what.granted ? n : 0},
          made_{a.what},
          never_{a.too_many} {}

    leaky_bucket_queue const* queue_;
    time_point t_;
    time_point departs_at_;
    permits n_;
    permits live_;
    typename cell::charge made_;
    bool never_;
};

leaky_bucket_queue(rate, permits) -> leaky_bucket_queue<std::chrono::steady_clock>;
template <class C>
    requires clock<C>
leaky_bucket_queue(rate, permits, C&&) -> leaky_bucket_queue<C>;
template <class C>
    requires clock<C>
leaky_bucket_queue(rate, permits, typename std::remove_cvref_t<C>::time_point, C&&) -> leaky_bucket_queue<C>;

}  // namespace weir::inline v0

#pragma pop_macro("check")
