// SPDX-License-Identifier: MIT
//
// What is between quota_limiter and its windows: time points become ticks, and answers become decisions.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "../../clock/clock.hpp"
#include "../../detail/window_core.hpp"
#include "../../error.hpp"
#include "../../limiter.hpp"
#include "../quota.hpp"
#include "quota_layout.hpp"
#include "quota_windows.hpp"

namespace weir::inline v0::llm::detail {

template <class Clock, class Atomics>
class quota_core : public quota_windows<Atomics> {
    using base = quota_windows<Atomics>;
    using box = weir::detail::clock_box<Clock>;

public:
    using clock_type = typename weir::detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    class decision;

    quota_core(box&& b, quota_layout<duration> const& all, quota_options const& o, time_point origin)
        : base{all, o, weir::detail::ticks(origin)}, clock_{std::move(b)} {}

    clock_type const& clock() const noexcept { return clock_.get(); }

    decision take(tokens n, time_point t) noexcept {
        typename base::forecasts f;
        auto const p = this->prepare(n, weir::detail::ticks(t), f);
        decision d{this, n, t};
        if (p.granted) d.granted_ = d.live_ = this->commit(p, f, weir::detail::ticks(t), d.receipts_);
        this->note_heads(d.receipts_);
        return d;
    }
    decision look(tokens n, time_point t) const noexcept {
        typename base::forecasts f;
        auto const p = this->prepare(n, weir::detail::ticks(t), f);
        decision d{this, n, t};
        d.granted_ = p.granted;
        this->note_heads(d.receipts_);
        return d;
    }
    decision book(quota const& use, time_point t) noexcept {
        decision d{this, tokens{}, t};
        for (std::size_t i = 0; i < quota_limits; ++i) {
            auto const& n = use.*limits_of_quota[i];
            if (this->has(i) && n) d.receipts_[i] = this->at(i).force_acquire(*n, weir::detail::ticks(t));
        }
        this->note_heads(d.receipts_);
        d.granted_ = d.live_ = true;
        return d;
    }

    bool settle_at(decision& d, tokens used, time_point t) noexcept {
        if (d.limiter_ != this || used.invalid() || !std::exchange(d.live_, false)) return false;
        this->settle(d.receipts_, used, weir::detail::ticks(t));
        return true;
    }
    tokens undo(decision& d) noexcept {
        if (d.limiter_ != this || !std::exchange(d.live_, false)) return {};
        this->give_back(d.receipts_);
        return d.asked_;
    }
    tokens undo(decision& d, tokens some) noexcept {
        if (d.limiter_ != this || !d.live_ || some.invalid()) return {};
        some.input = (std::min)(some.input.value(), d.asked_.input.value());
        some.output = (std::min)(some.output.value(), d.asked_.output.value());
        d.asked_ = {.input = d.asked_.input - some.input, .output = d.asked_.output - some.output};
        this->give_back(d.receipts_, some);
        return some;
    }
    quota undo(decision& d, quota const& some) noexcept {
        quota given;
        if (d.limiter_ != this || !d.live_) return given;
        for (std::size_t i = 0; i < quota_limits; ++i) {
            auto const& n = some.*limits_of_quota[i];
            if (this->has(i) && n) given.*limits_of_quota[i] = this->at(i).refund(d.receipts_[i], *n);
        }
        return given;
    }

    /// A quota of f(i) for each limit that is enforced.
    template <class F>
    quota each(F f) const noexcept {
        quota q;
        for (std::size_t i = 0; i < quota_limits; ++i) {
            if (this->has(i)) q.*limits_of_quota[i] = f(i);
        }
        return q;
    }

    error change(quota const& q, time_point t) noexcept {
        if (auto e = quota::validate(q)) return e;
        for (std::size_t i = 0; i < quota_limits; ++i) {
            if ((q.*limits_of_quota[i]).has_value() != this->has(i)) {
                return {"a change of quota keeps the limits that are enforced: make another limiter for others"};
            }
        }
        for (std::size_t i = 0; i < quota_limits; ++i) {
            if (this->has(i) && *(q.*limits_of_quota[i]) > this->max_limit(i)) {
                return {"a limit is too large for the words of its window: make another limiter for it"};
            }
        }
        for (std::size_t i = 0; i < quota_limits; ++i) {
            if (!this->has(i) || *(q.*limits_of_quota[i]) == this->at(i).limit()) continue;
            if (auto e = this->at(i).change_limit(*(q.*limits_of_quota[i]), weir::detail::ticks(t))) return e;
        }
        return {};
    }

private:
    [[no_unique_address]] box clock_;
};

/// What an attempt returned, and, when granted, the receipt by which it is settled or refunded: keep it with the call.
/// It refers to its limiter, which must outlive it.
///
/// A snapshot, computed when asked for, O(segments), from the word that each window had after the attempt; see
/// sliding_window_counter's. Two things that come later can show: a refund of an earlier segment, and an eighth change
/// of a limit.
template <class Clock, class Atomics>
class [[nodiscard("a decision says whether the call may be sent")]] quota_core<Clock, Atomics>::decision {
public:
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    decision(decision&& other) noexcept
        : limiter_{other.limiter_},
          asked_{other.asked_},
          at_{other.at_},
          receipts_{std::move(other.receipts_)},
          granted_{other.granted_},
          live_{std::exchange(other.live_, false)} {}
    decision& operator=(decision&& other) noexcept {
        if (this == &other) return *this;
        limiter_ = other.limiter_;
        asked_ = other.asked_;
        at_ = other.at_;
        receipts_ = std::move(other.receipts_);
        granted_ = other.granted_;
        live_ = std::exchange(other.live_, false);
        return *this;
    }
    ~decision() = default;

    bool granted() const noexcept { return granted_; }
    explicit operator bool() const noexcept { return granted_; }
    /// The call is larger than a limit, and such calls are refused; or a number of tokens is negative.
    bool never() const noexcept { return !granted_ && limiter_->never_after(receipts_, asked_); }
    /// Why it is never granted; none where waiting helps.
    weir::error error() const noexcept {
        if (!never()) return {};
        return weir::detail::never_granted(asked_.invalid() ? permit_count::invalid_value : 0);
    }
    /// What each limit had left just after the attempt.
    quota remaining() const noexcept {
        return limiter_->each(
            [this](std::size_t i) { return limiter_->available_after(receipts_, i, weir::detail::ticks(at_)); });
    }
    /// When all windows are empty if no call takes and nothing in flight is settled.
    time_point full_at() const noexcept { return time(limiter_->empty_after(receipts_, weir::detail::ticks(at_))); }

    /// The earliest instant at which the same attempt is granted, if no call takes and nothing in flight is settled;
    /// the time of the attempt when granted, time_point::max() when never.
    time_point retry_at() const noexcept {
        return granted_ ? at_ : asked_.invalid() ? (time_point::max)() : latest().when;
    }
    /// How long that is from the attempt, at most 30 years.
    duration retry_after() const noexcept { return weir::detail::retry_after(never(), at_, retry_at()); }
    std::int64_t retry_after_seconds() const noexcept { return weir::detail::seconds_rounded_up(retry_after()); }
    /// The limit that keeps it waiting longest; none when granted.
    limit denied_by() const noexcept { return granted_ ? limit::none : latest().which; }
    /// Outputs of calls in flight are what it waits for: a settle may let it in before retry_at. Under
    /// accounting::reserve these are not told from others: true for all that wait longest for tokens.
    bool awaits_settlement() const noexcept { return !granted_ && !never() && latest(false).when < latest().when; }

    /// Granted, and neither settled nor refunded.
    bool live() const noexcept { return live_; }
    /// The time of the attempt: the stamp, when granted.
    time_point at() const noexcept { return at_; }
    /// What was asked for.
    tokens asked() const noexcept { return asked_; }

private:
    friend quota_core;

    decision(quota_core const* limiter, tokens asked, time_point at) noexcept
        : limiter_{limiter}, asked_{asked}, at_{at} {}

    static time_point time(std::int64_t t) noexcept { return weir::detail::time_of_tick<time_point>(t); }

    struct bound {
        time_point when;
        limit which;
    };
    bound latest(bool with_holds = true) const noexcept {
        auto const& all = *limiter_;
        bound b{at_, limit::none};
        for (std::size_t i = 0; i < quota_limits; ++i) {
            if (!all.has(i) ||
                (counts_tokens(i) && (asked_.total() == 0 || !(with_holds || all.has(window_index::held)))))
                continue;
            auto const t = time(all.first_fit_after(receipts_, i, asked_, weir::detail::ticks(at_), with_holds));
            if (t > b.when || b.which == limit::none) b = {t, limit_names[i]};
        }
        return b;
    }

    quota_core const* limiter_;
    tokens asked_;
    time_point at_;
    typename quota_core::receipts receipts_{};
    bool granted_ = false;
    bool live_ = false;
};

}  // namespace weir::inline v0::llm::detail
