// SPDX-License-Identifier: MIT
//
// ack_window: at most `limit` arrivals at the server in any window, without a jitter margin. A request keeps its slot
// until its answer bounds when it arrived, and the slot is free one window after that bound.
//
// Promise: a server that counts arrivals sees at most `limit` in any half-open window of length `window`.
// Proof. A request granted at s arrives at a with s ≤ a ≤ b. Here b is the bound that `confirm` is given, or s +
// max_delay without one. Its slot is next granted at b + window or later, and that request arrives no earlier than it
// was granted. So two arrivals of one slot are at least a window apart, and `limit` slots have at most `limit` arrivals
// in any window. Conditions: the bounds are true, and both clocks run at one rate (give a window that is longer by the
// drift over it).
//
// Compared with a margin. A slot is used again after window + (bound − sent), but not before it is confirmed. A limiter
// with the margin J takes window + J. So this one wins where the mean time to the bound is below J: answers (or first
// bytes) that are quick against the window, over a path with rare long delays, since J must cover the longest delay and
// this pays for the mean. It loses on a steady path, and where answers take longer than the window. docs/adaptive.md
// has both measured.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../detail/blocking.hpp"
#include "../detail/decision_head.hpp"
#include "../error.hpp"
#include "../limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

struct ack_window_options {
    /// Required: a request arrives within this time of its grant, or never. A slot waits no longer for its
    /// confirmation.
    any_duration<> max_delay{};
    /// Slots that are free at the start; the others are free one window later.
    permit_count initial = all_permits;
};

/// A limiter for requests. A permit is a request; more than one at once is never granted.
///
///     weir::ack_window second{10, 1s, {.max_delay = 30s}};
///     if (auto d = second.try_acquire()) { send(); read_first_byte(); second.confirm(d); }
///
/// State: one word for each slot, allocated at construction, and a hint. Lock-free. An attempt is O(limit) at worst,
/// and two exchanges when granted; a denial writes nothing.
/// Memory order: relaxed throughout, since each slot's word is used on its own and the proof needs no order between
/// slots.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
    requires clock<Clock>
class alignas(weir::detail::cache_line) ack_window : public weir::detail::blocking<ack_window<Clock, Atomics>> {
public:
    using clock_type = typename weir::detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    using amount = permit_count;
    class decision;
    static constexpr bool refunds_in_full = true;

    struct limits_type {
        permit_count limit;
        any_duration<duration> window;

        friend constexpr bool operator==(limits_type const& a, limits_type const& b) noexcept {
            return a.limit == b.limit && a.window.count() == b.window.count();
        }
    };

    /// Throws std::invalid_argument for what `validate` names.
    explicit ack_window(permit_count limit, any_duration<duration> window, ack_window_options const& o)
        requires(!std::is_reference_v<Clock>)
        : ack_window{limit, window, o, Clock{}} {}
    explicit ack_window(permit_count limit, any_duration<duration> window, ack_window_options const& o, Clock c)
        : ack_window{limit, window, o, time_point{c.now()}, static_cast<Clock&&>(c)} {}
    /// The same, with the instant at which it begins.
    explicit ack_window(permit_count limit, any_duration<duration> window, ack_window_options const& o,
                        time_point origin, Clock c)
        : clock_{static_cast<Clock&&>(c)}, origin_{weir::detail::ticks(origin)} {
        weir::detail::ensure(validate(limit, window, o));
        limit_ = static_cast<std::uint32_t>(limit);
        window_ = static_cast<std::uint64_t>(window.count());
        max_delay_ = static_cast<std::uint64_t>(delay_of(o).count());
        slots_ = std::make_unique<word[]>(limit_);
        for (std::size_t i = 0; i < limit_; ++i) {
            if (i >= o.initial) slots_[i].exchange(window_ << 1U, std::memory_order_relaxed);
        }
    }
    ack_window(ack_window const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    ack_window& operator=(ack_window const&) = delete;

    [[nodiscard("validate only reports")]] static constexpr error validate(permit_count limit,
                                                                           any_duration<duration> window,
                                                                           ack_window_options const& o) noexcept {
        if (limit.invalid() || o.initial.invalid()) return {"the number of permits must not be negative"};
        if (limit == 0U) return {"limit must be at least 1"};
        if (limit > 1'000'000U) return {"limit must be at most 1,000,000"};
        if (window <= window.zero()) return {"window must be positive"};
        if (o.max_delay <= o.max_delay.zero()) return {"max_delay must be positive"};
        if (static_cast<std::uint64_t>(window.count()) >> 60U || static_cast<std::uint64_t>(delay_of(o).count()) >> 60U)
            return {"window and max_delay must be below 2^60 ticks"};
        return {};
    }
    /// A window, or the reason why there is none. Arguments as the constructors'.
    template <class... Rest>
    [[nodiscard("make returns the limiter")]] static result<ack_window> make(permit_count limit,
                                                                             any_duration<duration> window,
                                                                             ack_window_options const& o,
                                                                             Rest&&... rest) {
        if (auto e = validate(limit, window, o)) return e;
        return result<ack_window>{std::in_place, limit, window, o, std::forward<Rest>(rest)...};
    }

    [[nodiscard("a dropped decision limits nothing")]] decision try_acquire(permit_count n = 1) noexcept {
        return try_acquire(n, clock_.get().now());
    }
    [[nodiscard("a dropped decision limits nothing")]] decision try_acquire(permit_count n, time_point t) noexcept {
        return attempt(n, t, n != 0U);
    }
    /// What try_acquire would answer. Takes nothing.
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n = 1) const noexcept {
        return check(n, clock_.get().now());
    }
    [[nodiscard("check does nothing but answer")]] decision check(permit_count n, time_point t) const noexcept {
        return attempt(n, t, false);
    }

    /// The request arrived by `bound` on the limiter's clock: the time when the first byte of its answer was read, or
    /// that less the time that the server says it took. Once; false if the slot was free before. A bound before the
    /// grant counts as the grant.
    bool confirm(decision& d) noexcept { return confirm(d, clock_.get().now()); }
    bool confirm(decision& d, time_point bound) noexcept {
        if (d.window_ != this || !d.live_.spend()) return false;
        std::uint64_t const sent = since_origin(d.at_);
        return replace(d, (std::clamp(since_origin(bound), sent, sent + max_delay_) + window_) << 1U);
    }

    /// The request never left: its slot is as it was. Once. Returns what was given back: 1, or 0 if the slot was free
    /// before.
    permits refund(decision& d) noexcept { return refund(d, 1); }
    permits refund(decision& d, permit_count k) noexcept {
        if (d.window_ != this || k == 0U || k.invalid() || !d.live_.spend()) return 0;
        // Each use of a slot has a word of its own: a later grant is after this one's window, or after its refund.
        return replace(d, d.before_) ? 1 : 0;
    }

    /// 0: a refund. 1 or more: a confirmation at the time of the call; a request cannot become several. Once.
    [[nodiscard("false says that the decision was settled or refunded before")]] bool settle(
        decision& d, permit_count actual) noexcept {
        if (d.window_ != this || actual.invalid() || !d.live_.is_live()) return false;
        if (actual == 0U) {
            refund(d);
        } else {
            confirm(d);
        }
        return true;
    }

    /// 1 if a slot is free, else 0. O(limit).
    permits available() const noexcept { return available(clock_.get().now()); }
    permits available(time_point t) const noexcept { return attempt(1, t, false).granted() ? 1 : 0; }

    /// Its slots are allocated once, so only change(limits()) succeeds; else errc::unsupported.
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l) noexcept {
        return change(l, time_point{});
    }
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& l, time_point) noexcept {
        if (auto e = validate(l.limit, l.window, {.max_delay = std::chrono::nanoseconds{1}})) return e;
        if (l == limits()) return {};
        return {errc::unsupported, "an ack_window cannot change: construct another one"};
    }
    limits_type limits() const noexcept {
        return {limit_, duration{weir::detail::to<typename duration::rep>(static_cast<std::int64_t>(window_))}};
    }
    permits limit() const noexcept { return limit_; }

    clock_type const& clock() const noexcept { return clock_.get(); }

private:
    // When the slot is free, in ticks since the origin; the lowest bit: a request is in flight.
    using word = typename Atomics::template atomic<std::uint64_t>;
    static constexpr std::uint64_t not_known = (std::numeric_limits<std::uint64_t>::max)();

    static constexpr duration delay_of(ack_window_options const& o) noexcept {
        return weir::detail::saturating_ceil<duration>(std::chrono::nanoseconds{o.max_delay});
    }
    std::uint64_t since_origin(time_point t) const noexcept {
        std::int64_t const d = weir::detail::saturating_sub(weir::detail::ticks(t), origin_);
        return d > 0 ? (std::min)(static_cast<std::uint64_t>(d), std::uint64_t{1} << 61U) : 0;
    }
    std::uint64_t taken_at(std::uint64_t at) const noexcept { return (at + max_delay_ + window_) << 1U | 1U; }
    time_point point(std::uint64_t at) const noexcept {
        return weir::detail::time_of_tick<time_point>(
            weir::detail::saturating_add(origin_, static_cast<std::int64_t>(at)));
    }
    bool replace(decision const& d, std::uint64_t next) noexcept {
        std::uint64_t expected = taken_at(since_origin(d.at_));
        return slots_[d.slot_].compare_exchange_strong(expected, next, std::memory_order_relaxed,
                                                       std::memory_order_relaxed);
    }

    /// Looks at the slots from the hint on: takes the first free one, and finds when the next one is free.
    decision attempt(permit_count n, time_point t, bool take) const noexcept {
        decision d{this, t, n};
        std::uint64_t const at = since_origin(t);
        std::uint64_t soonest = not_known;  // of the slots that this attempt leaves
        std::size_t i = static_cast<std::size_t>(hint_.load(std::memory_order_relaxed));
        d.granted_ = n == 0U;
        for (std::size_t k = 0; k < limit_; ++k, i = i + 1 == limit_ ? 0 : i + 1) {
            std::uint64_t w = slots_[i].load(std::memory_order_relaxed);
            while (!d.granted_ && n == 1U && w >> 1U <= at) {
                if (take && !slots_[i].compare_exchange_weak(w, taken_at(at), std::memory_order_relaxed,
                                                             std::memory_order_relaxed))
                    continue;
                d.granted_ = true;
                d.slot_ = detail::to<std::uint32_t>(i);
                d.before_ = w;
                w = taken_at(at);
                if (take) {
                    d.live_.begin();
                    hint_.exchange(i + 1 == limit_ ? 0 : i + 1, std::memory_order_relaxed);
                }
            }
            soonest = (std::min)(soonest, w >> 1U);
            if (d.granted_ && soonest <= at) break;
            d.in_flight_ = d.in_flight_ || (w & 1U) != 0;
        }
        d.full_at_ = soonest <= at ? t : point(soonest);
        if (!d.granted_) d.retry_at_ = n == 1U ? d.full_at_ : (time_point::max)();
        return d;
    }

    [[no_unique_address]] weir::detail::clock_box<Clock> clock_;
    std::int64_t origin_;
    std::uint32_t limit_ = 0;
    std::uint64_t window_ = 0;
    std::uint64_t max_delay_ = 0;
    std::unique_ptr<word[]> slots_{};
    mutable typename Atomics::template atomic<std::uint64_t> hint_{0};
};

/// What an attempt returned, and, when granted, the receipt by which it is confirmed or refunded. A snapshot. It refers
/// to its limiter, which must outlive it.
template <class Clock, class Atomics>
    requires clock<Clock>
class [[nodiscard("a dropped decision limits nothing")]] ack_window<Clock, Atomics>::decision
    : public weir::detail::decision_head<time_point> {
    using head = weir::detail::decision_head<time_point>;

public:
    weir::error error() const noexcept {
        if (!head::never()) return {};
        return weir::detail::never_granted(is_invalid_ ? permit_count::invalid_value : 2);
    }
    /// Without a confirmation, a denied attempt can be granted at retry_at(). This says whether a request was in
    /// flight, so that a confirmation may make it sooner.
    bool may_be_sooner() const noexcept { return !head::granted_ && in_flight_; }
    permits remaining() const noexcept { return full_at_ <= head::at_ ? 1 : 0; }
    /// When a slot is free, if no call takes one.
    time_point full_at() const noexcept { return full_at_; }

private:
    friend class ack_window;
    decision(ack_window const* w, time_point t, permit_count n) noexcept
        : head{t}, is_invalid_{n.invalid()}, window_{w}, full_at_{t} {}

    bool is_invalid_;
    bool in_flight_ = false;
    weir::detail::live_once live_{};
    std::uint32_t slot_ = 0;
    ack_window const* window_;
    std::uint64_t before_ = 0;
    time_point full_at_;
};

template <class Rep, class Period>
ack_window(permit_count, std::chrono::duration<Rep, Period>, ack_window_options)
    -> ack_window<std::chrono::steady_clock>;
template <class Rep, class Period, weir::detail::clock_or_reference C>
ack_window(permit_count, std::chrono::duration<Rep, Period>, ack_window_options, C)
    -> ack_window<weir::detail::clock_argument_t<C>>;

static_assert(limiter<ack_window<>>);

}  // namespace weir::inline v0

#pragma pop_macro("check")
