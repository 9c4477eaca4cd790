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
        return time_of_tick<time_point>(
            detail::saturating_add(origin_, static_cast<std::int64_t>(stamp) - before_origin));
    }
    /// When a slot with this stamp is free; time_point::max() beyond the horizon.
    time_point free_again(word stamp) const noexcept {
        if (stamp > slots_.latest() - slots_.window()) return (time_point::max)();
        return time_of(stamp + slots_.window());
    }

    // ---- attempts ----

    [[gnu::__always_inline__]] decision take(time_point t) noexcept {
        word const x = stamp_of(t);
        auto const s = slots_.take(x);
        if (s.before == 0) return decision{t, this, s.oldest, 0};
        bool const held = w::state_of(w::taken(s.before, x)) == w::held;
        return decision{t, this, s.before, s.slot, held ? 1U : 0U, 1};
    }
    [[gnu::__always_inline__]] decision check(time_point t) const noexcept {
        word oldest{};
        if (slots_.can_take(stamp_of(t), oldest)) return decision{t, this, 0, 0, 0, 0};
        return decision{t, this, oldest, 0};
    }
    /// The denial of a single permit that an attempt at now_approx() is certain of; granted when it is not certain.
    [[gnu::__always_inline__]] decision check_approx() const noexcept {
        time_point const t = clock().now_approx();
        word oldest{};
        if (slots_.can_take(stamp_of(t), oldest)) return decision{t, this, 0, 0, 0, 0};
        return decision{t, this, oldest, decision::approx};
    }
    [[gnu::__always_inline__]] decision take_many(permit_count n, time_point t) noexcept {
        if (n == 0 || n > slots_.limit()) return check_many(n, t);
        word const x = stamp_of(t);
        auto const k = static_cast<std::uint32_t>(n.value());
        // Nothing is free: an answer in one load.
        if (slots_.is_full(x)) return decision{t, this, k};
        log_receipt r;
        if (!slots_.take_many(k, x, r)) return decision{t, this, k};
        return decision{t, this, r.before, r.slot, r.live, k};
    }
    [[gnu::__always_inline__]] decision check_many(permit_count n, time_point t) const noexcept {
        if (n > slots_.limit())
            return decision{t, this, 0, decision::no_wait | (n.invalid() ? decision::negative : decision::too_many)};
        auto const k = static_cast<std::uint32_t>(n.value());
        if (k != 0 && slots_.count_free(stamp_of(t), k) < k) return decision{t, this, k};
        return decision{t, this, 0, 0, 0, 0};
    }

    // ---- corrections ----

    permits refund(decision& d, permit_count n) noexcept {
        if (d.owner_ != this || n.invalid()) return 0;
        auto const asked = static_cast<std::uint32_t>((std::min<permits>)(n, d.open_));
        // The receipt of a grant during a change of the limit may name fewer permits than were taken.
        log_receipt part{w::slot(stamp_of(d.at_), w::held), d.word_, d.slot_, (std::min)(asked, d.live_)};
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

    log_slots<Atomics> slots_;
    [[no_unique_address]] clock_box<Clock> clock_;
    std::int64_t origin_;  // the tick of log_layout::origin
    duration window_;
};

/// What an attempt returns; see the concept `decision`. A granted one can be refunded or settled, once, at the limiter
/// that made it, which must outlive it. It is only moved, and one moved from has nothing to give back.
///
/// A log keeps no count of what is free and no order of its stamps. So what a decision leaves, and when several permits
/// that were denied can be granted, is found when it is first asked for, in the log as it is then, and stays the same
/// from then on. Until then the decision must not be shared by threads. Ask at once for the answer of the attempt's
/// own moment. The retry_at of a single permit is the attempt's, whenever it is asked.
template <class Clock, class Atomics>
class [[nodiscard("a decision says whether to go ahead")]] log_core<Clock, Atomics>::decision {
public:
    constexpr decision() = default;
    constexpr decision(decision&& other) noexcept
        : at_{other.at_},
          word_{other.word_},
          full_at_{other.full_at_},
          owner_{other.owner_},
          slot_{other.slot_},
          live_{std::exchange(other.live_, 0U)},
          open_{std::exchange(other.open_, 0U)},
          remaining_{other.remaining_},
          flags_{other.flags_} {}
    constexpr decision& operator=(decision&& other) noexcept {
        if (this == &other) return *this;
        at_ = other.at_;
        word_ = other.word_;
        full_at_ = other.full_at_;
        owner_ = other.owner_;
        slot_ = other.slot_;
        live_ = std::exchange(other.live_, 0U);
        open_ = std::exchange(other.open_, 0U);
        remaining_ = other.remaining_;
        flags_ = other.flags_;
        return *this;
    }
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    ~decision() = default;

    constexpr bool granted() const noexcept { return (flags_ & was_granted) != 0; }
    constexpr explicit operator bool() const noexcept { return granted(); }
    /// More was asked than the limit, or the time is beyond the horizon.
    constexpr bool never() const noexcept { return !granted() && retry_at() == (time_point::max)(); }
    constexpr weir::error error() const noexcept {
        if (owner_ == nullptr || !never()) return {};
        if ((flags_ & no_wait) == 0) return {errc::does_not_fit, "no permit is granted beyond the horizon of the log"};
        return detail::never_granted((flags_ & negative) != 0 ? permit_count::invalid_value : 0);
    }
    /// Exact: one tick earlier the attempt is denied. Of several permits, O(n + log N) when first asked; where they
    /// were denied because other calls interfered, the time of the attempt: ask again.
    constexpr time_point retry_at() const noexcept {
        if (granted()) return at_;
        if ((flags_ & no_wait) != 0) return (time_point::max)();
        if ((flags_ & unknown) != 0) {
            word_ = owner_->slots_.nth_oldest(slot_);
            flags_ &= ~unknown;
        }
        // When other calls interfered, it is free by now: ask again at once.
        if (word_ <= owner_->stamp_of(at_) - owner_->slots_.window()) return at_;
        time_point const t = owner_->free_again(word_);
        if constexpr (approximate_clock<clock_type>) {
            if ((flags_ & approx) != 0) return detail::approx_retry_at(owner_->clock(), t);
        }
        return t;
    }
    /// Of a denial at now_approx(), which is no time of the clock, from now on: it reads the limiter's clock.
    constexpr duration retry_after() const noexcept {
        if (granted()) return duration::zero();
        if constexpr (approximate_clock<clock_type>) {
            if ((flags_ & approx) != 0 && !never()) return detail::approx_retry_after(owner_->clock(), retry_at());
        }
        return detail::retry_after(never(), at_, retry_at());
    }
    constexpr std::int64_t retry_after_seconds() const noexcept { return detail::seconds_rounded_up(retry_after()); }

    /// How many permits were left at the time of the attempt. O(as many + log N) when first asked.
    permits remaining() const noexcept {
        if (remaining_ == not_counted && owner_ != nullptr)
            remaining_ = owner_->slots_.count_free(owner_->stamp_of(at_), owner_->slots_.capacity());
        return remaining_;
    }
    /// When all permits are available again if no call takes any; the time of the attempt when all are. O(N) when first
    /// asked.
    time_point full_at() const noexcept {
        if ((flags_ & is_full_known) != 0 || owner_ == nullptr) return full_at_;
        // A permit may have been taken again since, but at the time of the attempt it counted.
        word const newest = owner_->slots_.newest();
        time_point const full = owner_->free_again(open_ == 0 ? newest : (std::max)(newest, owner_->stamp_of(at_)));
        full_at_ = full > at_ ? full : at_;
        flags_ |= is_full_known;
        return full_at_;
    }

    /// The time of the attempt.
    constexpr time_point at() const noexcept { return at_; }
    /// How many permits a refund would try to give back.
    constexpr permits live() const noexcept { return live_; }

private:
    friend log_core;
    static constexpr std::uint32_t not_counted = 0xffff'ffff;
    static constexpr std::uint32_t was_granted = 1;
    static constexpr std::uint32_t is_full_known = 2;
    static constexpr std::uint32_t approx = 4;
    static constexpr std::uint32_t no_wait = 8;  // never, and by the number of permits
    static constexpr std::uint32_t too_many = 16;
    static constexpr std::uint32_t negative = 32;
    static constexpr std::uint32_t unknown = 64;  // word_ is not known yet

    /// Granted.
    constexpr decision(time_point t, log_core const* owner, word before, std::uint32_t slot, std::uint32_t live,
                       std::uint32_t n) noexcept
        : at_{t}, word_{before}, owner_{owner}, slot_{slot}, live_{live}, open_{n}, flags_{was_granted} {}
    /// A single permit was denied, so nothing is left; or more than the limit.
    constexpr decision(time_point t, log_core const* owner, word oldest, std::uint32_t flags) noexcept
        : at_{t}, word_{oldest}, owner_{owner}, remaining_{(flags & no_wait) != 0 ? not_counted : 0}, flags_{flags} {}
    /// n permits were denied.
    constexpr decision(time_point t, log_core const* owner, std::uint32_t n) noexcept
        : at_{t}, owner_{owner}, slot_{n}, flags_{unknown} {}

    time_point at_{};
    mutable word word_ = 0;  // granted: the slot's word before; denied: the stamp that is waited for
    mutable time_point full_at_{};
    log_core const* owner_ = nullptr;
    std::uint32_t slot_ = 0;  // of several that were denied, how many
    std::uint32_t live_ = 0;  // what can go back
    std::uint32_t open_ = 0;  // what was granted and neither refunded nor settled
    mutable std::uint32_t remaining_ = not_counted;
    mutable std::uint32_t flags_ = no_wait;
};

}  // namespace weir::inline v0::detail

#pragma pop_macro("check")
