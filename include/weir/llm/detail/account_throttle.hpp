// SPDX-License-Identifier: MIT
//
// account_throttle: what a call through an account must be granted in addition to the account's limits, where a session
// is told to: the adaptive rate, the ramp, the concurrency; and what its end tells them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
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
#include "../limit_kind.hpp"
#include "../quota.hpp"
#include "../session_options.hpp"
#include "../session_reply.hpp"
#include "../verdict.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0::llm {

/// One for each account of a session; every verb may be called by any thread. It refers to the account's limiter and to
/// the clock. An attempt takes no lock; the end of one takes a lock where there is an adaptive rate.
///
/// It is not a `limiter`: an attempt takes part of several in two steps (ready, then take, with the account's own
/// limiter in between), and its end says what the server answered, not what was used. Its parts satisfy that contract.
template <class Pool>
class account_throttle {
public:
    using limiter_type = typename Pool::limiter_type;
    using clock_type = typename weir::detail::clock_traits<typename Pool::clock_parameter>::type;
    using time_point = typename Pool::time_point;
    using duration = typename Pool::duration;
    using atomics = typename Pool::atomics;

    /// What a call has taken.
    class ticket {
        friend account_throttle;
        std::optional<typename token_bucket<clock_type const&, atomics>::decision> pace_{};
        std::optional<typename ramp<clock_type const&, atomics>::decision> ramp_{};
        std::int64_t length_ = 0;  // how long its tokens take at a lowered rate, in ticks
        typename header_sync<limiter_type>::mark mark_{};
    };
    /// An attempt that was sent, and what came of it.
    struct result {
        llm::reply const& reply;
        llm::answer const& answer;  ///< reply.answer, its time filled in
        llm::verdict const& verdict;
        tokens asked;
        time_point stamp;     ///< when it was granted
        time_point response;  ///< when the first of the answer came, else its end
        time_point now;
    };
    /// A fraction of 1.
    [[gnu::__visibility__("hidden")]] static constexpr std::uint64_t whole = std::uint64_t{1} << 20U;

    /// Throws std::invalid_argument for what its parts refuse.
    account_throttle(session_options const& o, limiter_type& limiter, clock_type const& c)
        : limiter_{limiter}, configured_{limiter.limits()}, delays_{o.jitter} {
        if (o.sync_headers) sync_.emplace(limiter, *o.sync_headers);
        if (o.ramp) ramp_.emplace(*o.ramp, c);
        if (o.concurrency) concurrency_.emplace(*o.concurrency);
        if (!o.adaptive) return;
        auto const begin = [&](std::optional<adaptive>& a, std::optional<std::uint64_t> limit) {
            if (!limit) return;
            auto const part = [&](std::uint32_t percent) {
                return (std::max<std::uint64_t>)(weir::detail::mul_div_ceil(*limit, percent, 100), 1);
            };
            a.emplace(adaptive_options{.start = *limit,
                                       .least = part(o.adaptive->min_percent),
                                       .most = part(o.adaptive->max_percent),
                                       .recovery = o.adaptive->recovery},
                      c);
        };
        begin(requests_, configured_.effective_rpm());
        begin(tokens_, configured_.effective_tpm());
        if (requests_) pace_.emplace(weir::rate{*configured_.effective_rpm(), std::chrono::minutes{1}}, 1, c);
    }

    /// The earliest time at which a call of n tokens may pass: t when it may now. Else `by` says what denies it.
    time_point ready(tokens n, time_point t, limit_kind& by) {
        if (concurrency_ && concurrency_->in_flight() >= concurrency_->limit()) {
            by = limit_kind::concurrency;
            // The queue is told when a call in flight ends; the time is for a call whose end is never told.
            return weir::detail::saturating_add(t, std::chrono::ceil<duration>(std::chrono::minutes{10}));
        }
        if (paced()) {
            if (auto const d = pace_->check(1, t); !d) {
                by = limit_kind::adaptive_rate;
                return d.retry_at();
            }
        }
        if (tokens_free() > t && length_of(n) != 0) {
            by = limit_kind::adaptive_rate;
            return tokens_free();
        }
        if (ramp_) {
            if (auto const d = ramp_->check(1, t); !d) {
                by = limit_kind::ramp;
                return d.retry_at();
            }
        }
        return t;
    }

    /// Takes its part of each, or nothing where another thread was faster.
    bool take(ticket& p, tokens n, time_point t, limit_kind& by) {
        if (concurrency_ && !concurrency_->try_enter()) {
            by = limit_kind::concurrency;
            return false;
        }
        limit_kind const denied = take_rest(p, n, t);
        if (denied == limit_kind::none) return true;
        by = denied;
        give_back(p);
        return false;
    }
    /// The account's limiter has granted it too: it is sent now.
    void sent(ticket& p, typename limiter_type::decision const& d) noexcept {
        if (sync_) p.mark_ = sync_->sent(d);
    }

    /// It was not sent.
    void give_back(ticket& p) noexcept {
        if (auto g = std::exchange(p.ramp_, std::nullopt)) ramp_->refund(*g);
        return_tokens(p, p.length_);
        if (auto d = std::exchange(p.pace_, std::nullopt)) pace_->refund(*d);
        if (concurrency_) concurrency_->leave();
    }

    /// It was sent. What is learnt from it is in force when this returns.
    void ended(ticket& p, result const& e) {
        cause const c = e.verdict.cause;
        bool const good = e.verdict.action == action::proceed;
        p.pace_.reset();
        if (p.length_ != 0) {
            // Less than was asked for takes less time.
            std::uint64_t const asked = e.asked.total();
            std::uint64_t const used = e.reply.used ? (std::min)(e.reply.used->total(), asked) : asked;
            return_tokens(p, used == asked ? 0
                                           : p.length_ - static_cast<std::int64_t>(weir::detail::mul_div_ceil(
                                                             static_cast<std::uint64_t>(p.length_), used, asked)));
        }
        if (auto g = std::exchange(p.ramp_, std::nullopt); g && c == cause::burst) ramp_->burst(*g, e.now);
        if (concurrency_) {
            if (c == cause::overload || c == cause::concurrency) {
                concurrency_->refused();
            } else if (good) {
                concurrency_->leave(std::chrono::nanoseconds{e.response - e.stamp});
            } else {
                concurrency_->leave();
            }
        }
        if (sync_) sync_->on_response(p.mark_, read_limits(e.answer.headers, e.answer.dialect, e.answer.now), e.now);
        learn(requests_, good, 1, c == cause::request_rate || c == cause::rate, e);
        learn(tokens_, good, e.reply.used ? e.reply.used->total() : e.asked.total(),
              c == cause::token_rate || c == cause::rate, e);
        if (requests_ || tokens_) adapt(e.now);
        auto const in_ns = [](time_point t) { return std::chrono::nanoseconds{t.time_since_epoch()}; };
        if (e.reply.arrived) {
            delays_.arrived(in_ns(e.stamp), *e.reply.arrived);
        } else if (good) {
            delays_.answered(in_ns(e.stamp), in_ns(e.response), e.reply.took);
        }
    }

    /// The adaptive fractions of the configured requests and tokens, in parts of `whole`.
    std::pair<std::uint64_t, std::uint64_t> fractions() { return {fraction_of(requests_), fraction_of(tokens_)}; }
    /// How many may be in flight; absent without options.concurrency.
    std::optional<std::uint32_t> concurrency() const noexcept {
        if (!concurrency_) return std::nullopt;
        return concurrency_->limit();
    }
    jitter_estimator const& delays() const noexcept { return delays_; }

private:
    using adaptive = adaptive_rate<clock_type const&>;

    // All but the concurrency; what denies it, if anything does.
    limit_kind take_rest(ticket& p, tokens n, time_point t) {
        p.pace_.reset();
        p.ramp_.reset();
        p.length_ = 0;
        if (paced()) {
            auto d = pace_->try_acquire(1, t);
            if (!d) return limit_kind::adaptive_rate;
            p.pace_.emplace(std::move(d));
        }
        std::int64_t const length = length_of(n);
        if (length != 0) {
            if (!take_tokens(t, length)) return limit_kind::adaptive_rate;
            p.length_ = length;
        }
        if (ramp_) {
            auto d = ramp_->try_acquire(1, t);
            if (!d) return limit_kind::ramp;
            p.ramp_.emplace(std::move(d));
        }
        return limit_kind::none;
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
    // A call may pass when the tokens of the calls before it have taken their time. Relaxed: this value is all that the
    // rate needs.
    bool take_tokens(time_point t, std::int64_t length) noexcept {
        std::int64_t seen = tokens_until_.load(std::memory_order_relaxed);
        do {
            if (seen > weir::detail::ticks(t)) return false;
        } while (!tokens_until_.compare_exchange_weak(seen,
                                                      weir::detail::saturating_add(weir::detail::ticks(t), length),
                                                      std::memory_order_relaxed, std::memory_order_relaxed));
        return true;
    }
    void return_tokens(ticket& p, std::int64_t length) noexcept {
        if (length > 0) tokens_until_.fetch_sub(length, std::memory_order_relaxed);
        p.length_ = 0;
    }

    static std::uint64_t fraction_of(std::optional<adaptive>& a) { return a ? a->share() : whole; }
    static void learn(std::optional<adaptive>& a, bool good, std::uint64_t served, bool refused, result const& e) {
        if (!a) return;
        if (good) a->served(served, e.stamp, e.now);
        if (refused) a->refused(e.stamp, e.now);
    }
    // Puts the adaptive rate in force once it has moved by a 64th. One thread at a time, so that the newest comes last.
    void adapt(time_point now) {
        std::lock_guard const lock{changing_};
        std::uint64_t const requests = requests_ ? requests_->share(now) : whole;
        std::uint64_t const tokens = tokens_ ? tokens_->share(now) : whole;
        std::uint64_t const seen = in_force_.load(std::memory_order_relaxed);
        auto const moved = [](std::uint64_t a, std::uint64_t b) { return (a > b ? a - b : b - a) * 64 >= b && a != b; };
        if (!moved(requests, seen >> 32U) && !moved(tokens, seen & 0xffff'ffffU)) return;
        // What could not be put in force (busy, or too large for a window) stays as it was, and the next answer tries
        // again.
        std::uint64_t requests_now = requests;
        std::uint64_t tokens_now = tokens;
        if (requests_ && requests_->apply(*pace_, 1, now)) requests_now = seen >> 32U;
        if (limiter_.change(scaled(configured_, (std::max)(requests, whole), tokens), now)) {
            tokens_now = seen & 0xffff'ffffU;
            if (requests > whole) requests_now = seen >> 32U;
        }
        // Relaxed: it only says whether requests and tokens are paced.
        in_force_.exchange(requests_now << 32U | tokens_now, std::memory_order_relaxed);
    }

    limiter_type& limiter_;
    quota configured_;
    jitter_estimator delays_;
    std::optional<header_sync<limiter_type>> sync_{};
    std::optional<ramp<clock_type const&, atomics>> ramp_{};
    std::optional<adaptive_concurrency<additive, atomics>> concurrency_{};
    std::optional<adaptive> requests_{};
    std::optional<adaptive> tokens_{};
    // A lowered rate of requests, one by one: a window of a second holds too few requests to lower its limit by a
    // little.
    std::optional<token_bucket<clock_type const&, atomics>> pace_{};
    // A lowered rate of tokens likewise: a window would grant them all at once.
    typename atomics::template atomic<std::int64_t> tokens_until_{0};
    typename weir::detail::mutex_of<atomics>::type changing_{};
    // The two fractions in force, 32 bits each.
    typename atomics::template atomic<std::uint64_t> in_force_{whole << 32U | whole};
};

}  // namespace weir::inline v0::llm

#pragma pop_macro("check")
