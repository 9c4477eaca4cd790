// SPDX-License-Identifier: MIT
//
// The blocking verbs of every limiter: acquire, try_acquire_for and try_acquire_until.
#pragma once

#include <chrono>
#include <concepts>
#include <utility>

#include "../clock/clock.hpp"
#include "../limiter.hpp"
#include "sleep.hpp"

namespace weir::inline v0::detail {

/// Sleeps that a stop token ends. Defined in wait/stop_token.hpp.
template <class Clock, class Token>
class stoppable_sleeper;

/// Sleeps that nothing ends.
template <class Clock>
class sleeper {
public:
    explicit sleeper(Clock const& c) noexcept : clock_{c} {}
    /// True when it was stopped.
    bool sleep_until(typename Clock::time_point t) {
        sleep_by(clock_, t);
        return false;
    }

private:
    Clock const& clock_;
};

/// Between two attempts where the clock says nothing: after a lost race, or while a call is in flight.
template <class Duration>
constexpr Duration next_pause(Duration last) noexcept {
    constexpr auto shortest = std::chrono::ceil<Duration>(std::chrono::microseconds{100});
    constexpr auto longest = std::chrono::ceil<Duration>(std::chrono::milliseconds{10});
    Duration const twice = last * 2;
    return twice < shortest ? shortest : twice < longest ? twice : longest;
}

template <class L, class Amount, class Sleeper>
typename L::decision acquire_until(L& l, Amount const& n, typename L::time_point deadline, Sleeper&& sleeper) {
    using duration = typename L::duration;
    duration pause{};
    for (;;) {
        typename L::decision d = l.try_acquire(n);
        if (d.granted() || d.never()) return d;
        typename L::time_point t = d.retry_at();
        if (t > deadline) return d;
        if (d.retry_after() > duration::zero()) {
            pause = {};
        } else {
            if (t == deadline) return d;
            pause = next_pause(pause);
            t = saturating_add(t, pause);
        }
        if (sleeper.sleep_until(t < deadline ? t : deadline)) return d;
    }
}

/// The time point `d` from now, by a limiter's clock; the earliest of all where d is not positive.
template <class C, class Rep, class Period>
typename C::time_point deadline_after(C const& c, std::chrono::duration<Rep, Period> d) {
    using time_point = typename C::time_point;
    auto const ticks = saturating_ceil<typename C::duration>(d);
    if (ticks <= C::duration::zero()) return (time_point::min)();
    return saturating_add(time_point{c.now()}, ticks);
}

template <class L>
using amount_t = typename L::amount;

/// A grant that may be dropped: a loop that is paced by acquire() needs no receipt.
template <class Decision>
struct acquired : Decision {
    constexpr explicit acquired(Decision&& d) noexcept : Decision{std::move(d)} {}
};

/// The verbs that wait, for a limiter `Derived` that names this as a base. They attempt; when denied they sleep by
/// the limiter's clock until retry_at, and attempt again. They answer the decision of the last attempt.
/// - A denial with never() is returned at once.
/// - No queue is involved: threads that wait at the same time are served in no particular order, and one that asks
///   for much can be passed by others that ask for little. Use wait_queue where order matters.
/// - Permits that come back early (a refund, a change of limits) are noticed at retry_at only. wait_queue notices at
///   once.
/// - A stop token (std::stop_token, or what wait/stop_token.hpp accepts) ends a sleep at once, with the denial. An
///   attempt that succeeds is granted, stopped or not.
/// The limiter must outlive the call. Do not call these from a coroutine or an event loop: they block the thread.
template <class Derived>
class blocking {
public:
    /// Waits for one permit. The grant may be dropped.
    template <class D = Derived>
        requires std::convertible_to<int, amount_t<D>>
    acquired<typename D::decision> acquire() {
        return acquired<typename D::decision>{until<D>(1, (D::time_point::max)())};
    }
    /// Waits for n permits. Denied only with never().
    template <class D = Derived>
    typename D::decision acquire(amount_t<D> n) {
        return until<D>(n, (D::time_point::max)());
    }
    /// Waits for n permits, or for the stop.
    template <class D = Derived, class Token>
    typename D::decision acquire(amount_t<D> n, Token stop) {
        return until<D>(n, (D::time_point::max)(), std::move(stop));
    }

    /// Waits for `d` at most: any duration, 0.5s and hours::max() included. Returns the denial at once when the time
    /// at which the limiter could grant is later than that; attempts once when `d` is not positive.
    template <class D = Derived, class Rep, class Period>
    typename D::decision try_acquire_for(amount_t<D> n, std::chrono::duration<Rep, Period> d) {
        return until<D>(n, deadline_after(self<D>().clock(), d));
    }
    template <class D = Derived, class Rep, class Period, class Token>
    typename D::decision try_acquire_for(amount_t<D> n, std::chrono::duration<Rep, Period> d, Token stop) {
        return until<D>(n, deadline_after(self<D>().clock(), d), std::move(stop));
    }

    /// The same, until a time point of the limiter's clock.
    template <class D = Derived>
    typename D::decision try_acquire_until(amount_t<D> n, typename D::time_point deadline) {
        return until<D>(n, deadline);
    }
    template <class D = Derived, class Token>
    typename D::decision try_acquire_until(amount_t<D> n, typename D::time_point deadline, Token stop) {
        return until<D>(n, deadline, std::move(stop));
    }

protected:
    blocking() = default;
    ~blocking() = default;

private:
    template <class D>
    D& self() noexcept {
        return static_cast<D&>(*this);
    }
    template <class D>
    typename D::decision until(amount_t<D> const& n, typename D::time_point deadline) {
        D& l = self<D>();
        return acquire_until(l, n, deadline, sleeper<typename D::clock_type>{l.clock()});
    }
    template <class D, class Token>
    typename D::decision until(amount_t<D> const& n, typename D::time_point deadline, Token stop) {
        using stoppable = stoppable_sleeper<typename D::clock_type, Token>;
        static_assert(requires(Token const& t) { t.stop_requested(); }, "the last argument must be a stop token");
        static_assert(requires { sizeof(stoppable); }, "include <weir/wait/stop_token.hpp> to wait with a stop token");
        D& l = self<D>();
        return acquire_until(l, n, deadline, stoppable{l.clock(), std::move(stop)});
    }
};

}  // namespace weir::inline v0::detail
