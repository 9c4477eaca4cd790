// SPDX-License-Identifier: MIT
//
// What is between sliding_window_log and its protocol: time points become stamps, and answers become decisions.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "../clock/clock.hpp"
#include "../error.hpp"
#include "../limiter.hpp"
#include "log_layout.hpp"
#include "log_slots.hpp"
#include "wide.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0::detail {

/// What a constructor takes as its clock.
template <class C, class Clock>
concept log_clock = clock_or_reference<C> && std::constructible_from<clock_box<Clock>, C>;

/// The clock that std::ref of it refers to; anything else itself.
template <class T>
constexpr auto const& unwrapped(T const& x) noexcept {
    if constexpr (clock_or_reference<T> && !clock<T>) {
        return x.get();
    } else {
        return x;
    }
}

/// See sliding_window_log::validate.
template <class Duration>
constexpr error validate_log(permit_count limit, permit_count initial, permit_count capacity, Duration window,
                             Duration resolution, std::uint32_t max_slots) noexcept {
    constexpr std::uint64_t needed = thirty_years<Duration>();
    constexpr std::uint64_t ahead = log_layout::no_stamp - 1 - log_layout::origin;
    if (limit.invalid() || initial.invalid() || capacity.invalid()) return {"a number of permits must not be negative"};
    if (limit == 0) return {"limit must be at least 1"};
    if (window.count() <= 0) return {"window must be positive"};
    if (limit > max_slots || capacity > max_slots) {
        return {"limit and capacity must be at most 16777216: a sliding_window_counter holds more"};
    }
    if (capacity != 0 && capacity < limit) return {"capacity must be at least the limit"};
    if (needed > ahead) return {"the ticks of the clock are too short to count 30 years"};
    auto const length = static_cast<std::uint64_t>(window.count());
    // Once for how far a stamp may be ahead, once for the time at which its slot is free.
    if (length > (ahead - needed) / 2 || length > log_layout::origin / 4) {
        return {"window must be so short that 30 years fit 60 bits of ticks"};
    }
    if (resolution > window) return {"window must be at least one step of the clock"};
    return {};
}

template <class Clock, class Atomics>
class log_core {
    using w = log_layout;
    using word = w::word;

public:
    using clock_type = typename clock_traits<Clock>::type;
    using duration = typename clock_traits<Clock>::duration;
    using time_point = typename clock_traits<Clock>::time_point;
    class decision;

    /// `initial` permits are available at `origin`, of `limit`.
    log_core(clock_box<Clock>&& clock, std::uint32_t limit, std::uint32_t capacity, std::uint32_t initial,
             duration window, time_point origin)
        : slots_{limit, capacity, static_cast<word>(window.count()), limit - initial, w::origin},
          clock_{std::move(clock)},
          origin_{detail::ticks(origin)},
          window_{window} {}

    log_slots<Atomics>& entries() noexcept { return slots_; }
    log_slots<Atomics> const& entries() const noexcept { return slots_; }
    clock_type const& clock() const noexcept { return clock_.get(); }
    duration window() const noexcept { return window_; }

    // ---- time points and stamps ----

    word stamp_of(time_point t) const noexcept {
        std::int64_t const since = detail::saturating_sub(detail::ticks(t), origin_);
        return static_cast<word>(std::clamp(since, static_cast<std::int64_t>(slots_.earliest()) - before_origin,
                                            static_cast<std::int64_t>(slots_.latest()) - before_origin) +
                                 before_origin);
    }
    time_point time_of(word stamp) const noexcept {
        using rep = typename duration::rep;
        std::int64_t const t = detail::saturating_add(origin_, static_cast<std::int64_t>(stamp) - before_origin);
        if (t >= std::int64_t{(std::numeric_limits<rep>::max)()}) return (time_point::max)();
        if (t <= std::int64_t{(std::numeric_limits<rep>::min)()}) return (time_point::min)();
        return time_point{duration{static_cast<rep>(t)}};
    }
    /// When a slot with this stamp is free; time_point::max() beyond the horizon.
    time_point free_again(word stamp) const noexcept {
        if (stamp > slots_.latest() - slots_.window()) return (time_point::max)();
        return time_of(stamp + slots_.window());
    }

    // ---- attempts ----

    decision take(time_point t) noexcept {
        log_receipt r;
        word oldest{};
        if (slots_.take(stamp_of(t), r, oldest)) return decision{t, this, 1, r};
        return decision{t, this, free_again(oldest)};
    }
    decision check(time_point t) const noexcept {
        word oldest{};
        if (slots_.can_take(stamp_of(t), oldest)) return decision{t, this};
        return decision{t, this, free_again(oldest)};
    }
    /// The denial of a single permit that an attempt at now_approx() is certain of; granted when it is not certain.
    [[gnu::__always_inline__]] decision check_approx() const noexcept {
        time_point const t = clock().now_approx();
        word oldest{};
        if (slots_.can_take(stamp_of(t), oldest)) return decision{t, this};
        decision d{t, this, detail::approx_retry_at(clock(), free_again(oldest))};
        d.mark_.is_approx = true;
        return d;
    }
    [[gnu::__noinline__]] decision take_many(permit_count n, time_point t) noexcept {
        if (n == 0 || n > slots_.limit()) return check_many(n, t);
        log_receipt r;
        word const x = stamp_of(t);
        word oldest{};
        auto const k = static_cast<std::uint32_t>(n.value());
        if (!slots_.take_many(k, x, r, oldest)) return denied(t, x, oldest);
        decision d{t, this, k, r};
        d.summarize();
        return d;
    }
    [[gnu::__noinline__]] decision check_many(permit_count n, time_point t) const noexcept {
        if (n > slots_.limit()) return decision{t, this, n.invalid() ? errc::invalid_argument : errc::does_not_fit};
        word const x = stamp_of(t);
        auto const k = static_cast<std::uint32_t>(n.value());
        if (k != 0 && slots_.count_free(x, k) < k) return denied(t, x, slots_.nth_oldest(k));
        decision d{t, this};
        d.summarize();
        return d;
    }

    // ---- corrections ----

    permits refund(decision& d, permit_count n) noexcept {
        if (d.owner_ != this || n.invalid()) return 0;
        auto const asked = static_cast<std::uint32_t>((std::min<permits>)(n, d.open_));
        // The receipt of a grant during a change of the limit may name fewer permits than were taken.
        log_receipt part{w::slot(stamp_of(d.at_), w::held), d.before_, d.slot_, (std::min)(asked, d.live_)};
        d.open_ -= asked;
        d.live_ -= part.live;
        return slots_.give_back(part);
    }
    bool settle(decision& d, permit_count actual, time_point t) noexcept {
        if (d.owner_ != this || d.open_ == 0 || actual.invalid()) return false;
        permits const granted = d.open_;
        if (actual < granted) {
            refund(d, granted - actual);
        } else {
            record(actual - granted, t);
        }
        d.open_ = 0;
        d.live_ = 0;
        return true;
    }
    /// Of more than the limit, only the newest count.
    void record(permit_count n, time_point t) noexcept {
        if (n.invalid()) return;
        for (permits i = (std::min<permits>)(n, slots_.limit()); i > 0; --i) slots_.book(stamp_of(t));
    }

private:
    static constexpr auto before_origin = static_cast<std::int64_t>(w::origin);

    /// When other calls interfered, `oldest` is free by now: ask again at once.
    decision denied(time_point t, word x, word oldest) const noexcept {
        decision d{t, this, oldest > x - slots_.window() ? free_again(oldest) : t};
        d.remaining_ = decision::not_counted;
        d.summarize();
        return d;
    }

    log_slots<Atomics> slots_;
    [[no_unique_address]] clock_box<Clock> clock_;
    std::int64_t origin_;  // the tick of log_layout::origin
    duration window_;
};

/// What an attempt returns; see the concept `decision`. A granted one can be refunded or settled, once, at the limiter
/// that made it. It is only moved, and one moved from has nothing to give back.
///
/// A log keeps no count of what is free. What a decision for one permit leaves is counted when remaining() or full_at()
/// is first asked, O(N), and stays the same from then on; until then the limiter must exist, and the decision must not
/// be shared by threads. A decision for several permits, which is O(N) in any case, has counted.
template <class Clock, class Atomics>
class [[nodiscard("a decision says whether to go ahead")]] log_core<Clock, Atomics>::decision {
public:
    constexpr decision() = default;
    constexpr decision(decision&& other) noexcept { *this = std::move(other); }
    constexpr decision& operator=(decision&& other) noexcept {
        if (this == &other) return *this;
        at_ = other.at_;
        retry_at_ = other.retry_at_;
        full_at_ = other.full_at_;
        before_ = other.before_;
        owner_ = other.owner_;
        slot_ = other.slot_;
        live_ = std::exchange(other.live_, 0U);
        open_ = std::exchange(other.open_, 0U);
        remaining_ = other.remaining_;
        granted_ = other.granted_;
        is_summarized_ = other.is_summarized_;
        reason_ = other.reason_;
        mark_ = other.mark_;
        return *this;
    }
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    ~decision() = default;

    constexpr bool granted() const noexcept { return granted_; }
    constexpr explicit operator bool() const noexcept { return granted_; }
    /// More was asked than the limit, or the time is beyond the horizon.
    constexpr bool never() const noexcept { return !granted_ && retry_at_ == (time_point::max)(); }
    constexpr weir::error error() const noexcept {
        if (!never() || owner_ == nullptr) return {};
        if (reason_ == errc::none) return {errc::does_not_fit, "no permit is granted beyond the horizon of the log"};
        return detail::never_granted(reason_ == errc::invalid_argument ? permit_count::invalid_value : 0);
    }
    /// Exact: one tick earlier the attempt is denied. Where several permits were denied because other calls interfered,
    /// the time of the attempt: ask again.
    constexpr time_point retry_at() const noexcept { return retry_at_; }
    /// Of a denial at now_approx(), which is no time of the clock, from now on: it reads the limiter's clock.
    constexpr duration retry_after() const noexcept {
        if (granted_) return duration::zero();
        if constexpr (approximate_clock<clock_type>) {
            if (mark_.is_approx && !never()) return detail::approx_retry_after(owner_->clock(), retry_at_);
        }
        return detail::retry_after(at_, retry_at_);
    }
    constexpr std::int64_t retry_after_seconds() const noexcept { return detail::seconds_rounded_up(retry_after()); }

    /// How many permits were left at the time of the attempt.
    permits remaining() const noexcept {
        summarize();
        return remaining_;
    }
    /// When all permits are available again if no call takes any; the time of the attempt when all are.
    time_point full_at() const noexcept {
        summarize();
        return full_at_;
    }

    /// The time of the attempt.
    constexpr time_point at() const noexcept { return at_; }
    /// How many permits a refund would try to give back.
    constexpr permits live() const noexcept { return live_; }

private:
    friend log_core;
    static constexpr std::uint32_t not_counted = 0xffff'ffff;

    constexpr decision(time_point t, log_core const* owner, std::uint32_t n = 0, log_receipt const& r = {}) noexcept
        : at_{t},
          retry_at_{t},
          before_{r.before},
          owner_{owner},
          slot_{r.slot},
          live_{r.live},
          open_{n},
          granted_{true} {}
    /// Denied; a single permit, so nothing is left.
    constexpr decision(time_point t, log_core const* owner, time_point retry_at) noexcept
        : at_{t}, retry_at_{retry_at}, owner_{owner}, remaining_{0} {}
    constexpr decision(time_point t, log_core const* owner, errc reason) noexcept
        : at_{t}, owner_{owner}, reason_{reason} {}

    void summarize() const noexcept {
        if (is_summarized_ || owner_ == nullptr) return;
        auto const s = owner_->slots_.summarize(owner_->stamp_of(at_));
        if (remaining_ == not_counted) remaining_ = s.free;
        // A permit may have been taken again since, but at the time of the attempt it counted.
        word const newest = open_ == 0 ? s.newest : (std::max)(s.newest, owner_->stamp_of(at_));
        time_point const full = owner_->free_again(newest);
        full_at_ = full > at_ ? full : at_;
        is_summarized_ = true;
    }

    time_point at_{};
    time_point retry_at_ = (time_point::max)();
    mutable time_point full_at_{};
    word before_ = 0;
    log_core const* owner_ = nullptr;
    std::uint32_t slot_ = 0;
    std::uint32_t live_ = 0;  // what can go back
    std::uint32_t open_ = 0;  // what was granted and neither refunded nor settled
    mutable std::uint32_t remaining_ = not_counted;
    bool granted_ = false;
    mutable bool is_summarized_ = false;
    errc reason_ = errc::none;
    [[no_unique_address]] approx_mark<clock_type> mark_{};
};

}  // namespace weir::inline v0::detail

#pragma pop_macro("check")
