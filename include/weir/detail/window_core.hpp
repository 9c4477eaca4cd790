// SPDX-License-Identifier: MIT
//
// What is between sliding_window_counter and its protocol: time points become ticks, and answers become decisions.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <utility>

#include "../clock/clock.hpp"
#include "../error.hpp"
#include "../limiter.hpp"
#include "window_counter.hpp"
#include "window_layout.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0::detail {

template <class Clock, class Atomics>
class window_core : public window_counter<Atomics> {
    using protocol = window_counter<Atomics>;
    using attempt = typename protocol::attempt;

public:
    using clock_type = typename clock_traits<Clock>::type;
    using duration = typename clock_traits<Clock>::duration;
    using time_point = typename clock_traits<Clock>::time_point;
    class decision;

    static constexpr window_layout layout(permit_count limit, duration window, permits segments,
                                          duration resolution) noexcept {
        if (limit.invalid()) return window_layout::refuse("the number of permits must not be negative");
        return window_layout::make(limit, static_cast<std::int64_t>(window.count()), segments,
                                   static_cast<std::int64_t>(resolution.count()), window_layout::horizon<duration>());
    }

    window_core(clock_box<Clock>&& clock, window_layout const& p, permits limit, permits initial, duration window,
                time_point origin)
        : protocol{p, limit, limit - (std::min)(limit, initial), detail::ticks(origin)},
          window_{window},
          clock_{std::move(clock)} {}

    clock_type const& clock() const noexcept { return clock_.get(); }
    duration window() const noexcept { return window_; }

    // ---- attempts ----

    [[gnu::__always_inline__]] decision take(permits n, time_point t) noexcept {
        return decision{this, n, t, this->try_acquire(n, detail::ticks(t))};
    }
    [[gnu::__always_inline__]] decision look(permits n, time_point t) const noexcept {
        return decision{this, n, t, this->check(n, detail::ticks(t))};
    }
    /// The denial that an attempt at now_approx() is certain of; granted when it is not certain. The time may be ahead
    /// of the clock: it never moves the counter on.
    [[gnu::__always_inline__]] decision look_approx(permits n) const noexcept {
        time_point const t = clock().now_approx();
        attempt a;
        if (!this->is_denied_at(n, detail::ticks(t), a)) return decision{this, 0, t, attempt{0, 0, 0, true}};
        decision d{this, n, t, a};
        d.mark_.is_approx = true;
        return d;
    }

    // ---- corrections ----

    permits give_back(decision& d, permit_count k) noexcept {
        if (d.owner_ != this || !d.granted_ || k.invalid()) return 0;
        permits const n = (std::min)(k.value(), d.value_);
        d.value_ -= n;
        return n == 0 ? 0 : this->template lower<false>(this->segment(d.head_), n);
    }
    bool settle_at(decision& d, permit_count actual, time_point t) noexcept {
        if (d.owner_ != this || !d.granted_ || d.value_ == 0 || actual.invalid()) return false;
        permits const taken = d.value_;
        if (actual > taken) {
            (void)this->force_acquire(actual - taken, detail::ticks(t));
        } else {
            give_back(d, taken - actual);
        }
        d.value_ = 0;
        return true;
    }

private:
    duration window_;
    [[no_unique_address]] clock_box<Clock> clock_;
};

/// What an attempt returns; see the concept `decision`. A granted one can be refunded or settled, once, at the limiter
/// that made it. It is only moved, and one moved from has nothing to give back.
///
/// A snapshot: remaining() is copied. retry_at() and full_at() are computed when asked for, O(B), from the copied word
/// of head and the limiter's counts of the segments before it; the limiter must exist until then. Those counts do not
/// change any more, with three exceptions: a refund of an earlier segment, made since, is seen; a limit is forgotten
/// when it has been changed eight times; and a count is missed when the ring has reused its word. The answer may then
/// be too early, but the segment has aged out by then, so the exact answer is past too.
template <class Clock, class Atomics>
class [[nodiscard("a decision says whether the permits were granted")]] window_core<Clock, Atomics>::decision {
public:
    constexpr decision() = default;
    constexpr decision(decision&& other) noexcept { *this = std::move(other); }
    constexpr decision& operator=(decision&& other) noexcept {
        if (this == &other) return *this;
        owner_ = other.owner_;
        at_ = other.at_;
        head_ = other.head_;
        value_ = other.value_;
        if (other.granted_) other.value_ = 0;
        remaining_ = other.remaining_;
        granted_ = other.granted_;
        mark_ = other.mark_;
        return *this;
    }
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    ~decision() = default;

    constexpr bool granted() const noexcept { return granted_; }
    constexpr explicit operator bool() const noexcept { return granted_; }
    /// More permits than the limit in force, or a negative number.
    bool never() const noexcept { return !granted_ && (owner_ == nullptr || value_ > owner_->limit_after(head_)); }
    /// Why it is never granted; none where waiting helps.
    weir::error error() const noexcept { return owner_ != nullptr && never() ? never_granted(value_) : weir::error{}; }

    /// time_point::max() beyond the last segment too.
    time_point retry_at() const noexcept {
        if (granted_) return at_;
        if (never()) return (time_point::max)();
        auto const t = time_of_tick<time_point>(
            owner_->next_fit_after(head_, owner_->limit_after(head_) - value_, detail::ticks(at_)));
        if constexpr (approximate_clock<clock_type>) {
            if (mark_.is_approx) return approx_retry_at(owner_->clock(), t);
        }
        return t;
    }
    /// A denial by an approximate time, whose time of attempt no clock gave, counts from now: it reads the clock.
    duration retry_after() const noexcept {
        auto const t = retry_at();
        if constexpr (approximate_clock<clock_type>) {
            if (mark_.is_approx && t != (time_point::max)()) return approx_retry_after(owner_->clock(), t);
        }
        return detail::retry_after(never(), at_, t);
    }
    std::int64_t retry_after_seconds() const noexcept { return seconds_rounded_up(retry_after()); }
    constexpr permits remaining() const noexcept { return remaining_; }
    time_point full_at() const noexcept {
        if (owner_ == nullptr) return (time_point::max)();
        return time_of_tick<time_point>(owner_->first_fit_after(head_, 0, detail::ticks(at_)));
    }

    /// The time of the attempt.
    constexpr time_point at() const noexcept { return at_; }
    /// Of a grant: max(at(), start of the segment that was open). The promise is over these times.
    time_point effective_at() const noexcept {
        if (!granted_ || owner_ == nullptr) return at_;
        auto const segment = (std::max)(owner_->segment(head_), owner_->scale().first());
        return (std::max)(at_, time_of_tick<time_point>(owner_->scale().start_of(segment)));
    }
    /// How many permits a refund would try to give back.
    constexpr permits live() const noexcept { return granted_ ? value_ : 0; }

private:
    friend window_core;

    constexpr decision(window_core const* owner, permits n, time_point t, attempt const& a) noexcept
        : owner_{owner},
          at_{t},
          head_{a.head},
          value_{a.granted ? a.taken : n},
          remaining_{a.room},
          granted_{a.granted} {}

    window_core const* owner_ = nullptr;
    time_point at_{};
    std::uint64_t head_ = 0;
    permits value_ = 0;  // of a grant, what a refund can give back; of a denial, what was asked for
    permits remaining_ = 0;
    bool granted_ = false;
    [[no_unique_address]] approx_mark<clock_type> mark_{};
};

}  // namespace weir::inline v0::detail

#pragma pop_macro("check")
