// SPDX-License-Identifier: MIT
//
// ack_window: at most `limit` arrivals at the server in any window, with no jitter margin: a request keeps its slot until its answer
// bounds when it arrived, and the slot is free a window after that bound.
//
// Promise: a server that counts arrivals sees at most `limit` in any half-open window of length `window`. Proof: a request granted at s
// arrives at a with s ≤ a ≤ b, b being the bound that `confirm` is told, or s + `latest` without one. Its slot is next granted at b + window
// or later, and that request arrives no earlier than it was granted: so two arrivals of one slot are at least a window apart, and
// `limit` slots have at most `limit` arrivals in any window. Conditions: the bounds are true; both clocks run at one pace (give a
// window longer by the drift over it).
//
// **Against a margin.** A slot's turn takes window + (bound − sent), but at least until it is confirmed, where a limiter with the margin J takes
// window + J. So this one wins where the mean time to the bound is below J: answers (or first bytes) that are quick against the window, or of
// which the server says how long they took, over a path with rare long delays, since J must cover the longest and this pays the mean. It loses
// on a steady path, and where answers take longer than the window. docs/adaptive.md has both measured.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../detail/decision_head.hpp"
#include "../error.hpp"
#include "../limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// A limiter for requests; a permit is a request, more than one at once is never granted.
///
///     weir::ack_window second{10, 1s, 30s};
///     if (auto d = second.try_acquire()) { send(); read_first_byte(); second.confirm(d); }
///
/// State: a word for each slot, allocated at construction, and a hint. Lock-free; an attempt is O(limit) at worst, one exchange when granted; a
/// denial writes nothing. Relaxed throughout: a slot's word stands for itself, and the proof needs no order between slots.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(weir::detail::cache_line) ack_window {
public:
    using clock_type = typename weir::detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    class decision;
    static constexpr bool refunds_in_full = true;

    /// `latest`: a request arrives within so long of its grant, or never. Throws std::invalid_argument for what `validate` names.
    ack_window(permits limit, duration window, duration latest)
        requires(!std::is_reference_v<Clock>)
        : ack_window{limit, window, latest, Clock{}} {}
    template <class C>
        requires std::constructible_from<weir::detail::clock_box<Clock>, C&&>
    ack_window(permits limit, duration window, duration latest, C&& c)
        : clock_{std::forward<C>(c)}, origin_{weir::detail::ticks(clock_.get().now())} {
        weir::detail::ensure(validate(limit, window, latest));
        limit_ = static_cast<std::size_t>(limit);
        window_ = static_cast<std::uint64_t>(window.count());
        latest_ = static_cast<std::uint64_t>(latest.count());
        slots_ = std::make_unique<word[]>(limit_);
    }
    ack_window(ack_window const&) = delete;
    ack_window& operator=(ack_window const&) = delete;

    static constexpr error validate(permits limit, duration window, duration latest) noexcept {
        if (limit == 0) return {"a limit of zero permits grants nothing for ever"};
        if (limit > 1'000'000) return {"an ack_window has at most 1,000,000 slots"};
        if (window <= window.zero()) return {"a window must be longer than nothing"};
        if (latest <= latest.zero()) return {"the latest arrival must be after the grant"};
        if (window.count() >> 60U || latest.count() >> 60U)
            return {"a window and a latest arrival of less than 2^60 ticks"};
        return {};
    }

    decision try_acquire(permits n = 1) noexcept { return try_acquire(n, clock_.get().now()); }
    decision try_acquire(permits n, time_point t) noexcept { return attempt(n, t, true); }
    decision check(permits n = 1) noexcept { return check(n, clock_.get().now()); }
    decision check(permits n, time_point t) noexcept { return attempt(n, t, false); }

    /// The request arrived by `bound` on the limiter's clock at the latest: when the first of its answer was read, or that less
    /// what the server says it took. Once; false where the slot's time ran out before. What is before the grant counts as at it.
    bool confirm(decision& d) noexcept { return confirm(d, clock_.get().now()); }
    bool confirm(decision& d, time_point bound) noexcept {
        if (d.window_ != this || !d.live_.spend()) return false;
        std::uint64_t const b = std::clamp(since_origin(bound), d.sent_, d.sent_ + latest_);
        std::uint64_t expected = d.taken_;
        return slots_[d.slot_].compare_exchange_strong(expected, (b + window_) << 1U, std::memory_order_relaxed,
                                                       std::memory_order_relaxed);
    }

    /// The request certainly never left: its slot is as it was. Once.
    bool refund(decision& d) noexcept {
        if (d.window_ != this || !d.live_.spend()) return false;
        // A slot's tenants have words of their own: a later one is granted later than this one's window ends, or after its refund.
        std::uint64_t expected = d.taken_;
        return slots_[d.slot_].compare_exchange_strong(expected, d.before_, std::memory_order_relaxed,
                                                       std::memory_order_relaxed);
    }

    permits available() const noexcept { return available(clock_.get().now()); }
    permits available(time_point t) const noexcept {
        std::uint64_t const at = since_origin(t);
        permits n = 0;
        for (std::size_t i = 0; i < limit_; ++i) n += slots_[i].load(std::memory_order_relaxed) >> 1U <= at ? 1 : 0;
        return (std::min<permits>)(n, 1);
    }

    permits limit() const noexcept { return limit_; }
    clock_type const& clock() const noexcept { return clock_.get(); }

private:
    using word = typename Atomics::template atomic<
        std::uint64_t>;  // free from, in ticks since the origin; then whether in flight

    std::uint64_t since_origin(time_point t) const noexcept {
        std::int64_t const d = weir::detail::saturating_sub(weir::detail::ticks(t), origin_);
        return d > 0 ? (std::min)(static_cast<std::uint64_t>(d), std::uint64_t{1} << 61U) : 0;
    }

    decision attempt(permits n, time_point t, bool take) noexcept {
        decision d{this, t};
        if (n == 0) {
            d.granted_ = true;
            return d;
        }
        if (n > 1) {
            d.retry_at_ = (time_point::max)();
            return d;
        }
        std::uint64_t const at = since_origin(t);
        std::uint64_t soonest = (std::numeric_limits<std::uint64_t>::max)();
        std::size_t i = static_cast<std::size_t>(hint_.load(std::memory_order_relaxed));
        for (std::size_t k = 0; k < limit_; ++k, i = i + 1 == limit_ ? 0 : i + 1) {
            std::uint64_t w = slots_[i].load(std::memory_order_relaxed);
            std::uint64_t const taken = (at + latest_ + window_) << 1U | 1U;
            while (w >> 1U <= at) {
                if (!take ||
                    slots_[i].compare_exchange_weak(w, taken, std::memory_order_relaxed, std::memory_order_relaxed)) {
                    d.granted_ = true;
                    if (take) d.live_.begin();
                    d.slot_ = i;
                    d.sent_ = at;
                    d.before_ = w;
                    d.taken_ = taken;
                    if (take) hint_.exchange(i + 1 == limit_ ? 0 : i + 1, std::memory_order_relaxed);
                    return d;
                }
            }
            soonest = (std::min)(soonest, w >> 1U);
            d.in_flight_ = d.in_flight_ || (w & 1U) != 0;
        }
        d.retry_at_ = time_point{duration{weir::detail::saturating_add(origin_, static_cast<std::int64_t>(soonest))}};
        return d;
    }

    [[no_unique_address]] weir::detail::clock_box<Clock> clock_;
    std::int64_t origin_;
    std::size_t limit_ = 0;
    std::uint64_t window_ = 0;
    std::uint64_t latest_ = 0;
    std::unique_ptr<word[]> slots_;
    typename Atomics::template atomic<std::uint64_t> hint_{0};
};

/// What an attempt returned. It refers to its limiter, which must outlive it.
template <class Clock, class Atomics>
    requires clock<Clock>
class ack_window<Clock, Atomics>::decision : public weir::detail::decision_head<time_point> {
    using head = weir::detail::decision_head<time_point>;

public:
    // retry_at: when it could be granted without a confirmation.
    /// Whether a request is in flight, so that a confirmation may make it sooner.
    bool may_be_sooner() const noexcept { return in_flight_; }

private:
    friend class ack_window;
    decision(ack_window* w, time_point t) noexcept : head{t}, window_{w} {}

    ack_window* window_;
    std::size_t slot_ = 0;
    std::uint64_t sent_ = 0;
    std::uint64_t before_ = 0;
    std::uint64_t taken_ = 0;
    bool in_flight_ = false;
    weir::detail::live_once live_{};
};

template <class D>
ack_window(permits, D, D) -> ack_window<std::chrono::steady_clock>;

}  // namespace weir::inline v0

#pragma pop_macro("check")
