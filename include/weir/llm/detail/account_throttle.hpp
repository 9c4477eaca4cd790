// SPDX-License-Identifier: MIT
//
// account_throttle: what a call through an account has to pass beside the account's limits, where a session is told to: the rate that was found, the
// ramp, the concurrency; and what its end tells of them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "../../client/adaptive_concurrency.hpp"
#include "../../client/adaptive_rate.hpp"
#include "../../client/jitter_estimator.hpp"
#include "../../client/ramp.hpp"
#include "../../clock/clock.hpp"
#include "../../detail/mutex_of.hpp"
#include "../../rate.hpp"
#include "../../token_bucket.hpp"
#include "../account_pool.hpp"
#include "../header_sync.hpp"
#include "../hints.hpp"
#include "../quota.hpp"
#include "../session_options.hpp"
#include "../session_reply.hpp"
#include "../verdict.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0::llm {

/// One for each account of a session; every verb may be called by any thread. It refers to the account's limiter and to the clock. Attempts take no
/// lock; an end takes one where there is a rate to be found.
template <class Pool>
class account_throttle {
public:
    using limiter_type = typename Pool::limiter_type;
    using clock_type = typename weir::detail::clock_traits<typename Pool::clock_parameter>::type;
    using time_point = typename Pool::time_point;
    using duration = typename Pool::duration;
    using atomics = typename Pool::atomics;

    /// What a call has taken of it.
    class pass {
        friend account_throttle;
        std::optional<typename token_bucket<clock_type const&, atomics>::decision> pace_{};
        std::optional<typename ramp<clock_type const&, atomics>::decision> growth_{};
        std::int64_t length_ = 0;  // of its tokens at a lowered rate, in ticks
        typename header_sync<limiter_type>::mark mark_{};
    };
    /// An attempt that left, and what came of it.
    struct end {
        reply const& said;
        answer const& words;  ///< said.answer, its time filled in
        verdict const& judged;
        tokens asked;
        time_point stamp;  ///< when it was let go
        time_point heard;  ///< when the first of the answer came, else its end
        time_point now;
    };
    /// A share of 1.
    static constexpr std::uint64_t whole = std::uint64_t{1} << 20U;

    /// Throws std::invalid_argument for what its parts refuse.
    account_throttle(session_options const& o, limiter_type& limiter, clock_type const& c)
        : limiter_{limiter}, configured_{limiter.limits()}, delays_{o.margin} {
        if (o.feed) feed_.emplace(limiter, *o.feed);
        if (o.ramp) growth_.emplace(*o.ramp, c);
        if (o.concurrency) slots_.emplace(*o.concurrency);
        if (!o.adaptive) return;
        auto const begin = [&](std::optional<adaptive>& a, std::optional<std::uint64_t> limit) {
            if (!limit) return;
            auto const part = [&](std::uint32_t percent) {
                return (std::max<std::uint64_t>)(weir::detail::mul_div_ceil(*limit, percent, 100), 1);
            };
            a.emplace(adaptive_options{.start = *limit,
                                       .least = part(o.adaptive->least),
                                       .most = part(o.adaptive->most),
                                       .recovery = o.adaptive->recovery},
                      c);
        };
        begin(requests_, configured_.effective_rpm());
        begin(tokens_, configured_.effective_tpm());
        if (requests_) pace_.emplace(weir::rate{*configured_.effective_rpm(), std::chrono::minutes{1}}, 1, c);
    }

    /// When a call of n tokens may pass at the earliest: t where it may now. Else `by` says what keeps it, static text.
    time_point ready(tokens n, time_point t, std::string_view& by) {
        if (slots_ && slots_->in_flight() >= slots_->limit()) {
            by = concurrency_full;
            // An end of something in flight is told to the line; the time is for what is never told.
            return time_point{duration{static_cast<typename duration::rep>(weir::detail::saturating_add(
                weir::detail::ticks(t), std::chrono::ceil<duration>(std::chrono::minutes{10}).count()))}};
        }
        if (paced()) {
            if (auto const d = pace_->check(1, t); !d) {
                by = found_rate;
                return d.retry_at();
            }
        }
        if (tokens_free() > t && length_of(n) != 0) {
            by = found_rate;
            return tokens_free();
        }
        if (growth_) {
            if (auto const d = growth_->check(1, t); !d) {
                by = growth;
                return d.retry_at();
            }
        }
        return t;
    }

    /// Passes, unless a race denies it: then nothing is taken.
    bool take(pass& p, tokens n, time_point t, std::string_view& by) {
        if (slots_ && !slots_->try_enter()) {
            by = concurrency_full;
            return false;
        }
        std::string_view const denied = pass_behind_slots(p, n, t);
        if (denied.empty()) return true;
        by = denied;
        give_back(p);
        return false;
    }
    /// The account's limiter has granted it too, and it is let go.
    void sent(pass& p, typename limiter_type::decision const& d) noexcept {
        if (feed_) p.mark_ = feed_->sent(d);
    }

    /// It never left.
    void give_back(pass& p) noexcept {
        if (auto g = std::exchange(p.growth_, std::nullopt)) growth_->refund(*g);
        return_tokens(p, p.length_);
        if (auto d = std::exchange(p.pace_, std::nullopt)) pace_->refund(*d);
        if (slots_) slots_->leave();
    }

    /// It left. What is learnt of it is in force when this returns.
    void ended(pass& p, end const& e) {
        cause const c = e.judged.cause;
        bool const good = e.judged.action == action::proceed;
        p.pace_.reset();
        if (p.length_ != 0) {
            // Less than was asked for takes less time.
            std::uint64_t const asked = e.asked.total();
            std::uint64_t const used = e.said.used ? (std::min)(e.said.used->total(), asked) : asked;
            return_tokens(p, used == asked ? 0
                                           : p.length_ - static_cast<std::int64_t>(weir::detail::mul_div_ceil(
                                                             static_cast<std::uint64_t>(p.length_), used, asked)));
        }
        if (auto g = std::exchange(p.growth_, std::nullopt); g && c == cause::burst) growth_->burst(*g, e.now);
        if (slots_) {
            if (c == cause::overload || c == cause::concurrency) {
                slots_->refused();
            } else if (good) {
                slots_->leave(std::chrono::nanoseconds{e.heard - e.stamp});
            } else {
                slots_->leave();
            }
        }
        if (feed_) feed_->on_response(p.mark_, read_limits(e.words.headers, e.words.dialect, e.words.now), e.now);
        learn(requests_, good, 1, c == cause::request_rate || c == cause::rate, e);
        learn(tokens_, good, e.said.used ? e.said.used->total() : e.asked.total(),
              c == cause::token_rate || c == cause::rate, e);
        if (requests_ || tokens_) adapt(e.now);
        auto const in_ns = [](time_point t) { return std::chrono::nanoseconds{t.time_since_epoch()}; };
        if (e.said.arrived) {
            delays_.arrived(in_ns(e.stamp), *e.said.arrived);
        } else if (good) {
            delays_.answered(in_ns(e.stamp), in_ns(e.heard), e.said.took);
        }
    }

    /// The shares of the configured requests and tokens that were found, in parts of `whole`.
    std::pair<std::uint64_t, std::uint64_t> shares() { return {share_of(requests_), share_of(tokens_)}; }
    /// How many may be in flight; absent without options.concurrency.
    std::optional<std::uint32_t> concurrency() const noexcept {
        if (!slots_) return std::nullopt;
        return slots_->limit();
    }
    jitter_estimator const& delays() const noexcept { return delays_; }

private:
    using adaptive = adaptive_rate<clock_type const&>;
    static constexpr std::string_view concurrency_full = "concurrency";
    static constexpr std::string_view found_rate = "adaptive rate";
    static constexpr std::string_view growth = "ramp";

    // What denies it; empty: nothing.
    std::string_view pass_behind_slots(pass& p, tokens n, time_point t) {
        p.pace_.reset();
        p.growth_.reset();
        p.length_ = 0;
        if (paced()) {
            auto d = pace_->try_acquire(1, t);
            if (!d) return found_rate;
            p.pace_.emplace(std::move(d));
        }
        std::int64_t const length = length_of(n);
        if (length != 0) {
            if (!take_tokens(t, length)) return found_rate;
            p.length_ = length;
        }
        if (growth_) {
            auto d = growth_->try_acquire(1, t);
            if (!d) return growth;
            p.growth_.emplace(std::move(d));
        }
        return {};
    }

    // Requests are fewer than configured.
    bool paced() const noexcept { return pace_ && in_force_.load(std::memory_order_relaxed) >> 32U < whole; }
    // How long n tokens take at the lowered rate; 0 where it is not lowered.
    std::int64_t length_of(weir::llm::tokens n) const noexcept {
        std::uint64_t const share = in_force_.load(std::memory_order_relaxed) & 0xffff'ffffU;
        if (!tokens_ || share >= whole) return 0;
        std::uint64_t const rate =
            (std::max<std::uint64_t>)(weir::detail::mul_div_ceil(*configured_.effective_tpm(), share, whole), 1);
        constexpr auto minute = std::chrono::ceil<duration>(std::chrono::minutes{1}).count();
        return static_cast<std::int64_t>(
            (std::min<std::uint64_t>)(weir::detail::mul_div_ceil(n.total(), minute, rate), std::uint64_t{1} << 56U));
    }
    time_point tokens_free() const noexcept {
        return time_point{duration{static_cast<typename duration::rep>(tokens_until_.load(std::memory_order_relaxed))}};
    }
    // The next call goes when the tokens of those before it have taken their time. Relaxed: the word is all that there is.
    bool take_tokens(time_point t, std::int64_t length) noexcept {
        std::int64_t seen = tokens_until_.load(std::memory_order_relaxed);
        do {
            if (seen > weir::detail::ticks(t)) return false;
        } while (!tokens_until_.compare_exchange_weak(seen,
                                                      weir::detail::saturating_add(weir::detail::ticks(t), length),
                                                      std::memory_order_relaxed, std::memory_order_relaxed));
        return true;
    }
    void return_tokens(pass& p, std::int64_t length) noexcept {
        if (length > 0) tokens_until_.fetch_sub(length, std::memory_order_relaxed);
        p.length_ = 0;
    }

    static std::uint64_t share_of(std::optional<adaptive>& a) { return a ? a->share() : whole; }
    static void learn(std::optional<adaptive>& a, bool good, std::uint64_t served, bool refused, end const& e) {
        if (!a) return;
        if (good) a->served(served, e.stamp, e.now);
        if (refused) a->refused(e.stamp, e.now);
    }
    // Puts what was found in force, once it has moved by a 64th. One at a time, so that what is newer comes later.
    void adapt(time_point now) {
        std::lock_guard const lock{changing_};
        std::uint64_t const requests = requests_ ? requests_->share(now) : whole;
        std::uint64_t const tokens = tokens_ ? tokens_->share(now) : whole;
        std::uint64_t const seen = in_force_.load(std::memory_order_relaxed);
        auto const moved = [](std::uint64_t a, std::uint64_t b) { return (a > b ? a - b : b - a) * 64 >= b && a != b; };
        if (!moved(requests, seen >> 32U) && !moved(tokens, seen & 0xffff'ffffU)) return;
        // What could not be put in force (busy, or too large for a window's words) stays as it was, and the next answer tries again.
        std::uint64_t requests_now = requests;
        std::uint64_t tokens_now = tokens;
        if (requests_ && requests_->apply(*pace_, 1, now)) requests_now = seen >> 32U;
        if (limiter_.change(scaled(configured_, (std::max)(requests, whole), tokens), now)) {
            tokens_now = seen & 0xffff'ffffU;
            if (requests > whole) requests_now = seen >> 32U;
        }
        // Relaxed: it says whether requests and tokens are paced, no more.
        in_force_.exchange(requests_now << 32U | tokens_now, std::memory_order_relaxed);
    }

    limiter_type& limiter_;
    quota configured_;
    jitter_estimator delays_;
    std::optional<header_sync<limiter_type>> feed_{};
    std::optional<ramp<clock_type const&, atomics>> growth_{};
    std::optional<adaptive_concurrency<additive, atomics>> slots_{};
    std::optional<adaptive> requests_{};
    std::optional<adaptive> tokens_{};
    // A lowered rate of requests, one by one: a window of a second holds too few of them for its limit to be lowered by a little.
    std::optional<token_bucket<clock_type const&, atomics>> pace_{};
    // A lowered rate of tokens likewise: a window would let them all go at once.
    typename atomics::template atomic<std::int64_t> tokens_until_{0};
    typename weir::detail::mutex_of<atomics>::type changing_{};
    // The two shares in force, 32 bits each.
    typename atomics::template atomic<std::uint64_t> in_force_{whole << 32U | whole};
};

}  // namespace weir::inline v0::llm

#pragma pop_macro("check")
