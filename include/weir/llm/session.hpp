// SPDX-License-Identifier: MIT
//
// session: one call, whatever it takes. It asks a chain of models and their accounts, waits in line, says what to send and where, reads what came
// back, and goes on until there is an answer or a reason why there is none. It holds no policy of its own: each of its parts is
// usable without it. It sends nothing and sleeps for nobody but in run().
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "../atomics.hpp"
#include "../client/retry_budget.hpp"
#include "../clock/clock.hpp"
#include "../error.hpp"
#include "../wait/fair_queue.hpp"
#include "../wait/wait_queue.hpp"
#include "account_pool.hpp"
#include "detail/account_throttle.hpp"
#include "estimate.hpp"
#include "fallback_chain.hpp"
#include "quota.hpp"
#include "session_counters.hpp"
#include "session_options.hpp"
#include "session_reply.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

/// Who observes nothing.
struct no_observer {
    template <class Progress>
    constexpr void operator()(Progress const&) const noexcept {}
};

/// A chain of models, pools of accounts, and all that lies between a caller and an answer.
///
///     weir::llm::account_pool accounts;
///     accounts.add({base_url, "me", "intl", "qwen3-max"}, key, {.rpm = 600, .rps = 10, .tpm = 1'000'000}, {.jitter = 10ms});
///     weir::llm::fallback_chain models;
///     models.add("qwen3-max", accounts);
///     weir::llm::session session{models};
///
///     auto end = session.run({.size = weir::llm::measure(prompt), .max_tokens = 500}, [&](auto& call) {
///         auto r = http.post(call.account().endpoint, call.key(), body(call.model()));
///         call.ended({.answer = {.dialect = dashscope, .status = r.status, .body = r.body}, .used = usage_in(r)});
///     });
///     if (!end.answered()) log(to_string(end.how), end.why);
///
/// **Three forms, one machine.** `call` is the machine: next() says what to do, ended() what came of it; an event loop drives it from its own
/// line. run() drives it by the thread that calls, async_run.hpp by a coroutine; both wait in the session's line, first come first
/// served, and notice at once what comes back.
/// **What is promised.** What the chain's limits promise, for each attempt, retries included. After an answer nothing is sent again, nor after
/// a part of one was handed on. A call ends: retries by backoff and budget, moves by the number of accounts, all by the deadline; and
/// says why.
/// **Shares.** Several classes of callers may have a share each, `session session{models, {weir::fair_class{.weight = 9}, weir::fair_class{.weight = 1}}}`: whose turn
/// it is among those who wait is as fair_queue.hpp says, by what the calls used in the end. First come, first served inside a class; a call that comes again
/// after a failure keeps its place before all that began to wait after it. So for run() and async_run(); who drives `call` decides the order himself.
/// **An attempt** takes all or nothing of: its account's limits, its adaptive rate, its ramp, its concurrency (account_throttle.hpp). Where nobody waits
/// it takes no lock; its end takes the line's. No allocation.
///
/// The chain, its pools and the rules are referred to and must outlive the session; links and accounts are added before it is made.
template <class Pool = account_pool<>, std::size_t Classes = 1>
class session {
public:
    using pool_type = Pool;
    using chain_type = fallback_chain<Pool>;
    using clock_parameter = typename Pool::clock_parameter;
    using clock_type = typename weir::detail::clock_traits<clock_parameter>::type;
    using time_point = typename Pool::time_point;
    using duration = typename Pool::duration;
    using atomics = typename Pool::atomics;

    /// The facts of a call.
    struct request {
        text_size size{};                           ///< of its texts, where `bound` is not known
        std::optional<std::uint64_t> max_tokens{};  ///< as the request says
        std::optional<tokens> bound{};              ///< what it may use at most, of whatever model
        std::uint64_t images = 0;                   ///< see usage_weights
        time_point deadline = (time_point::max)();    ///< for its last attempt to be let go
        duration patience{0};  ///< to wait for a better model rather than be answered by a lesser one
        std::uint64_t price_at_most = (std::numeric_limits<std::uint64_t>::max)();  ///< see fallback_terms
        bool cheapest_first = false;                                              ///< likewise
        bool repeatable = true;  ///< false: not again once it may have been worked on
        std::size_t share = 0;   ///< whose it is: the number of its share
    };

    /// What to do now, and why.
    struct step {
        step_kind what = step_kind::over;
        time_point until{};          ///< wait, pause
        std::string_view because{};  ///< wait: the limit; pause: the failure. Static text.
    };

    struct outcome {
        call_end how = call_end::open;
        llm::verdict last{cause::none, action::proceed, {}, {}, 0,
                          {}};   ///< on the last reply; cause::none where there was none
        std::string_view why{};  ///< in words, static text: the server's reason, or the limit that never let it pass
        std::size_t link = chain_type::none;  ///< that was asked last
        std::uint32_t attempts = 0;
        tokens used{0, 0};   ///< by the answer
        duration waited{0};  ///< for limits, pauses included
        bool answered() const noexcept { return how == call_end::answered; }
    };

    /// One step of a run as an observer sees it.
    struct progress {
        step now;
        outcome const& so_far;
        time_point since;  ///< when the call began
    };

    class call;
    template <class Observe, stoppable_token Token>
    class drive;

    /// Throws std::invalid_argument for what its options' parts refuse. Allocates what each account needs.
    explicit session(chain_type& chain, session_options o = {})
        requires(Classes == 1 && !std::is_reference_v<clock_parameter>)
        : session{chain, std::move(o), clock_parameter{}} {}
    session(chain_type& chain, session_options o, clock_parameter c)
        requires(Classes == 1)
        : session{chain, one_share(o.line).is, o, static_cast<clock_parameter&&>(c)} {}
    /// With a share for each class of callers, each with its own bound on who may wait in place of options.line.
    session(chain_type& chain, fair_class const (&shares)[Classes], session_options o = {})
        requires(!std::is_reference_v<clock_parameter>)
        : session{chain, shares, std::move(o), clock_parameter{}} {}
    session(chain_type& chain, fair_class const (&shares)[Classes], session_options o, clock_parameter c)
        : clock_{static_cast<clock_parameter&&>(c)}, chain_{chain}, options_{std::move(o)}, lines_{gate_, shares} {
        weir::detail::ensure(options_.retry.validate());
        if (options_.adaptive) weir::detail::ensure(validate(*options_.adaptive));
        if (options_.budget) budget_.emplace(*options_.budget, clock_.get());
        for (std::size_t i = 0; i < chain_.size(); ++i) {
            Pool& pool = chain_.pool(i);
            estimators_.emplace_back(options_.weights, options_.default_output);
            std::size_t first = lanes_.size();
            for (std::size_t k = 0; k < i; ++k) {
                if (&chain_.pool(k) == &pool) first = first_lane_[k];
            }
            first_lane_.push_back(first);
            ways_ += pool.size();
            moves_most_ += pool.size() + 1;
            for (std::size_t m = 0; m < pool.size(); ++m) moves_most_ += pool.keys(m);
            if (first != lanes_.size()) continue;
            for (std::size_t m = 0; m < pool.size(); ++m) lanes_.emplace_back(options_, pool.limits(m), clock_.get());
        }
        for (std::size_t i = 0; i < chain_.size(); ++i) {
            Pool& pool = chain_.pool(i);
            if (pool.size() == 0) continue;
            gate_.measure_ = {pool.effective_rpm((time_point::max)()), pool.effective_tpm((time_point::max)())};
            break;
        }
    }
    session(session const&) = delete;
    session& operator=(session const&) = delete;

    static constexpr error validate(adaptive_range const& a) noexcept {
        if (a.least == 0 || a.least > 100)
            return {"an adaptive quota's least is 1 to 100 per cent of the configured one"};
        if (a.most < 100 || a.most > 10'000)
            return {"an adaptive quota's most is 100 to 10,000 per cent of the configured one"};
        return {};
    }

    /// Sends by `send(call&)` until there is an answer or a reason why not, on this thread. `send` says what came by call.ended(…) before it returns;
    /// what returns without is taken as lost on the way. What it throws passes through, and the attempt is held as lost. `observe(progress)` is told of
    /// each step. See wait_queue.hpp for tokens.
    template <class Send, class Observe = no_observer, stoppable_token Token = never_stop>
    outcome run(request const& r, Send&& send, Observe&& observe = {}, Token token = {});

    clock_type const& clock() const noexcept { return clock_.get(); }
    chain_type& chain() const noexcept { return chain_; }
    session_options const& options() const noexcept { return options_; }
    session_counters<atomics> const& counters() const noexcept { return counters_; }
    /// How many wait, in all classes; and in one.
    std::size_t waiting() const noexcept { return lines_.waiting(); }
    std::size_t waiting(std::size_t share) { return lines_[share].waiting(); }
    /// A class's weight from the next grant on. Errors of fair_class::validate.
    error change_weight(std::size_t share, std::uint32_t weight) { return lines_.change_weight(share, weight); }
    token_estimator<atomics> const& estimator(std::size_t link) const noexcept { return estimators_[link]; }
    /// The margin J that an account's delays ask for: for the next limiter that is made, see margin.hpp.
    std::chrono::nanoseconds margin_of(std::size_t link, std::size_t member) const {
        return lane_of(link, member).delays().jitter();
    }
    /// An account's share of its configured requests and tokens that is in force, in 1,048,576ths.
    std::pair<std::uint64_t, std::uint64_t> shares(std::size_t link, std::size_t member) {
        return lane_of(link, member).shares();
    }
    /// What an account may have in flight; absent without options.concurrency.
    std::optional<std::uint32_t> concurrency(std::size_t link, std::size_t member) const noexcept {
        return lane_of(link, member).concurrency();
    }
    /// Something has changed from outside (a quota, an account's absence): who waits looks again.
    void notify() { lines_.notify(); }

private:
    using lane = account_throttle<Pool>;

    // What the line asks: the call itself, by its own time.
    struct gate {
        struct decision {
            bool yes = false;
            time_point at{};
            time_point when = (time_point::max)();
            tokens n{0, 0};
            std::uint64_t period = 0;
            bool granted() const noexcept { return yes; }
            explicit operator bool() const noexcept { return yes; }
            bool never() const noexcept { return !yes && when == (time_point::max)(); }
            time_point retry_at() const noexcept { return when; }
            tokens asked() const noexcept { return n; }
            void counted_in(std::uint64_t p) noexcept { period = p; }
            std::uint64_t counted_in() const noexcept { return period; }
            duration retry_after() const noexcept {
                return when == (time_point::max)()
                           ? (duration::max)()
                           : duration{static_cast<typename duration::rep>(
                                 weir::detail::saturating_sub(weir::detail::ticks(when), weir::detail::ticks(at)))};
            }
        };
        using time_point = typename session::time_point;
        using duration = typename session::duration;
        // What a call counts as among classes: by the limits of the first model that has an account, since one scale must do for all.
        struct measure {
            std::optional<std::uint64_t> rpm{};
            std::optional<std::uint64_t> tpm{};
            std::optional<std::uint64_t> effective_rpm() const noexcept { return rpm; }
            std::optional<std::uint64_t> effective_tpm() const noexcept { return tpm; }
        };
        session const* owner;
        measure measure_{};
        clock_type const& clock() const noexcept { return owner->clock(); }
        measure const& limits() const noexcept { return measure_; }
        // The account has been told already; the line counts it.
        static constexpr bool settle(decision const&, tokens) noexcept { return true; }
        static constexpr bool refund(decision const&) noexcept { return true; }
    };
    struct single {
        fair_class is[1];
    };
    static constexpr single one_share(wait_queue_options const& line) noexcept {
        return {{{.weight = 1, .queue = line}}};
    }

    lane& lane_of(std::size_t link, std::size_t member) noexcept { return lanes_[first_lane_[link] + member]; }
    // A bit for each; where there are more than 64, several share one.
    std::uint64_t bit_of(std::size_t link, std::size_t member) const noexcept {
        return std::uint64_t{1} << (first_lane_[link] + member) % 64;
    }
    lane const& lane_of(std::size_t link, std::size_t member) const noexcept {
        return lanes_[first_lane_[link] + member];
    }

    // Numbers for the backoff: splitmix64 over a counter, so that any thread may take the next.
    struct random_numbers {
        using result_type = std::uint64_t;
        static constexpr result_type(min)() noexcept { return 0; }
        static constexpr result_type(max)() noexcept { return (std::numeric_limits<std::uint64_t>::max)(); }
        session* owner;
        result_type operator()() noexcept {
            // Relaxed: each number is taken once, in whatever order.
            std::uint64_t x = owner->options_.seed * 0xd1342543de82ef95U +
                              owner->drawn_.fetch_add(0x9e3779b97f4a7c15U, std::memory_order_relaxed);
            x = (x ^ x >> 30U) * 0xbf58476d1ce4e5b9U;
            x = (x ^ x >> 27U) * 0x94d049bb133111ebU;
            return x ^ x >> 31U;
        }
    };

    [[no_unique_address]] weir::detail::clock_box<clock_parameter> clock_;
    chain_type& chain_;
    session_options options_;
    std::deque<lane> lanes_{};                           // of all pools, one after the other
    std::vector<std::size_t> first_lane_{};              // of each link's pool
    std::deque<token_estimator<atomics>> estimators_{};  // of each link
    std::size_t ways_ = 0;                               // accounts of all links
    std::size_t moves_most_ = 0;                         // that can set something aside: keys, accounts, models
    std::optional<retry_budget<clock_type const&, atomics>> budget_{};
    session_counters<atomics> counters_{};
    typename atomics::template atomic<std::uint64_t> drawn_{0};
    gate gate_{this};
    fair_queue<gate, Classes, atomics> lines_;
};

template <class Pool>
session(fallback_chain<Pool>&) -> session<Pool>;
template <class Pool>
session(fallback_chain<Pool>&, session_options) -> session<Pool>;
template <class Pool, class C>
session(fallback_chain<Pool>&, session_options, C&&) -> session<Pool>;
template <class Pool, std::size_t Classes>
session(fallback_chain<Pool>&, fair_class const (&)[Classes]) -> session<Pool, Classes>;
template <class Pool, std::size_t Classes>
session(fallback_chain<Pool>&, fair_class const (&)[Classes], session_options) -> session<Pool, Classes>;
template <class Pool, std::size_t Classes, class C>
session(fallback_chain<Pool>&, fair_class const (&)[Classes], session_options, C&&) -> session<Pool, Classes>;

}  // namespace weir::inline v0::llm

#include "detail/session_call.hpp"
#include "detail/session_drive.hpp"
