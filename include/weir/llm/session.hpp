// SPDX-License-Identifier: MIT
//
// session: one call, with everything that it takes to get an answer. It asks a chain of models and their accounts,
// waits in a queue, says what to send and where, reads what came back, and goes on until there is an answer or a reason
// why there is none. It holds no policy of its own: each of its parts is usable without it. It sends nothing.
#pragma once

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
#include "detail/probation.hpp"
#include "detail/session_gate.hpp"
#include "estimate.hpp"
#include "fallback_chain.hpp"
#include "limit_kind.hpp"
#include "quota.hpp"
#include "session_counters.hpp"
#include "session_options.hpp"
#include "session_reply.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

/// Observes nothing.
struct no_observer {
    template <class Progress>
    constexpr void operator()(Progress const&) const noexcept {}
};

/// A chain of models, pools of accounts, and everything between a caller and an answer.
///
///     weir::llm::account_pool accounts;
///     accounts.add({base_url, "me", "intl", "qwen3-max"}, key, {.rpm = 600, .rps = 10, .tpm = 1'000'000},
///                  {.jitter = 10ms});
///     weir::llm::fallback_chain models;
///     models.add("qwen3-max", accounts);
///     weir::llm::session session{models};
///
///     auto end = session.run({.size = weir::llm::measure(prompt), .max_tokens = 500}, [&](auto& call) {
///         auto r = http.Post(path, {{"Authorization", bearer(call.key())}}, body(call.model()), "application/json");
///         if (!r) return call.transport_failed();
///         weir::llm::header_map const fields{r->headers};           // Retry-After: 20 is honoured
///         return call.ended({
///             .answer = {.dialect = dashscope, .status = r->status, .headers = fields, .body = r->body},
///             .used = usage_in(r->body)});
///     });
///     if (!end.answered()) log(to_string(end.status), end.reason);
///
/// **Three forms, one machine.** `call` is the machine: next() says what to do, ended() takes what came of it; an event
/// loop drives it with its own queue. run() drives it on the calling thread, async_run.hpp as a coroutine; both wait in
/// the session's queue, first come, first served, and are woken when a call ends.
/// **Promise.** Each attempt, retries included, keeps what the chain's limits promise. After an answer, or after part
/// of one was handed on, nothing is sent again. A call always ends: backoff and budget bound the retries, the number of
/// accounts bounds the moves, and the deadline bounds all of them. The outcome says why.
/// **Classes.** Several classes of callers may each have a share:
/// `session s{models, {weir::fair_class{.weight = 9}, weir::fair_class{.weight = 1}}}`. Among the calls that wait,
/// fair_queue.hpp decides, by the tokens that the calls actually used; in one class, first come, first served. A
/// retry keeps its original position. This holds for run() and async_run(); a driver of `call` decides the order
/// itself.
/// **An attempt** takes all or nothing of its account's limits, adaptive rate, ramp and concurrency
/// (detail/account_throttle.hpp). Where no call waits it takes no lock; its end takes the queue's. A call allocates
/// nothing with up to 64 accounts.
///
/// The chain, its pools and the rules are referred to and must outlive the session. Links and accounts are added before
/// it is made; there is no bound on their number.
///
/// A program of several files compiles faster with extern_session.hpp.
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

    /// What a call asks for.
    struct request {
        text_size size{};                           ///< of its texts, used when `bound` is absent
        std::optional<std::uint64_t> max_tokens{};  ///< as the request says
        std::optional<tokens> bound{};              ///< what it may use at most, of any model
        std::uint64_t images = 0;                   ///< see usage_weights
        time_point deadline = (time_point::max)();  ///< no attempt is sent at or after it
        duration patience{0};                       ///< how long it waits for a better model
        std::uint64_t max_price = (std::numeric_limits<std::uint64_t>::max)();  ///< see fallback_terms
        bool cheapest_first = false;                                            ///< see fallback_terms
        /// Whether an attempt that the server may have worked on, and billed, is sent again. Absent: after a failure
        /// that was reported, but not when nothing is known of it (call::lost). true: in both cases. false: in neither.
        std::optional<bool> repeatable{};
        std::size_t fair_class = 0;  ///< the index of its class
    };

    /// What to do now, and why.
    struct step {
        step_kind kind = step_kind::over;
        time_point until{};                   ///< of wait and pause
        limit_kind limit = limit_kind::none;  ///< what a wait waits for
        std::string_view reason{};            ///< in words: the limit, or the failure before a pause. Static text.
    };

    struct outcome {
        call_end status = call_end::open;
        llm::verdict last{cause::none, action::proceed, {}, {}, 0, {}};  ///< on the last reply; cause::none without one
        limit_kind limit = limit_kind::none;  ///< what it waited for, where it ended before it was sent
        std::string_view reason{};            ///< in words: the server's reason, or the limit. Static text.
        std::size_t link = chain_type::none;  ///< that was asked last
        std::uint32_t attempts = 0;
        tokens used{};       ///< by the answer
        duration waited{0};  ///< for limits, pauses included
        bool answered() const noexcept { return status == call_end::answered; }
    };

    /// One step of a run as an observer sees it.
    struct progress {
        step now;
        outcome const& so_far;
        time_point since;  ///< when the call began
    };

    class call;
    template <class Token>
    class drive;

    /// Throws std::invalid_argument for what its options' parts refuse. Allocates what each account needs.
    template <class C = clock_parameter>
        requires(Classes == 1 && !std::is_reference_v<C>)
    explicit session(chain_type& chain, session_options o = {}) : session{chain, std::move(o), C{}} {}
    template <std::size_t N = Classes>
        requires(N == 1)
    session(chain_type& chain, session_options o, clock_parameter c)
        : session{chain, one_class(o.queue).is, o, static_cast<clock_parameter&&>(c)} {}
    /// With classes of callers, each with its own bound on how many may wait in place of options.queue.
    template <class C = clock_parameter>
        requires(!std::is_reference_v<C>)
    session(chain_type& chain, fair_class const (&classes)[Classes], session_options o = {})
        : session{chain, classes, std::move(o), C{}} {}
    session(chain_type& chain, fair_class const (&classes)[Classes], session_options o, clock_parameter c);
    session(session const&) = delete;
    session& operator=(session const&) = delete;
    ~session();

    /// Sends by `send(call&)` on this thread until there is an answer or a reason why not. `send` returns what
    /// call.ended(…), call.transport_failed() or call.lost() returns. What it throws passes through, and the attempt
    /// stays reserved until the server has given up. `observe(progress)` is called at each step. Tokens:
    /// wait_queue.hpp.
    template <class Send, class Observe = no_observer, stoppable_token Token = never_stop>
    [[nodiscard("the outcome says whether there is an answer")]] outcome run(request const& r, Send&& send,
                                                                             Observe&& observe = {}, Token token = {});

    clock_type const& clock() const noexcept { return clock_.get(); }
    chain_type& chain() const noexcept { return chain_; }
    session_options const& options() const noexcept { return options_; }
    session_counters<atomics> const& counters() const noexcept { return counters_; }
    /// How many calls wait, in all classes; and in one.
    std::size_t waiting() const noexcept { return queues_.waiting(); }
    std::size_t waiting(std::size_t fair_class) { return queues_[fair_class].waiting(); }
    /// A class's weight from the next grant on. Errors of fair_class::validate.
    error change_weight(std::size_t fair_class, std::uint32_t weight) {
        return queues_.change_weight(fair_class, weight);
    }
    token_estimator<atomics> const& estimator(std::size_t link) const noexcept { return estimators_[link]; }
    /// The margin J that an account's delays ask for: for the next limiter that is made, see jitter_estimator.hpp.
    std::chrono::nanoseconds jitter(std::size_t link, std::size_t member) const {
        return throttle(link, member).delays().jitter();
    }
    /// The adaptive fractions of an account's configured requests and tokens that are in force, in 1,048,576ths.
    std::pair<std::uint64_t, std::uint64_t> adaptive_fractions(std::size_t link, std::size_t member) {
        return throttle(link, member).fractions();
    }
    /// How many calls an account may have in flight; absent without options.concurrency.
    std::optional<std::uint32_t> concurrency(std::size_t link, std::size_t member) const noexcept {
        return throttle(link, member).concurrency();
    }
    /// Every call that waits ends with call_end::closed, now and later; a call that pauses, when its pause is over.
    /// What is in flight ends as it would. Before the session is destroyed, its callers must have left run().
    void close() { queues_.close(); }
    /// Something has changed from outside (a quota, an account's cooldown): the first waiter tries again.
    void notify() { queues_.notify(); }

private:
    using throttle_type = account_throttle<Pool>;
    using probation_type = llm::probation<time_point, atomics>;
    using gate = weir::detail::session_gate<clock_type>;
    using decision = typename gate::decision;
    struct single {
        fair_class is[1];
    };
    static constexpr single one_class(wait_queue_options const& queue) noexcept {
        return {{{.weight = 1, .queue = queue}}};
    }

    // Number of an account among those of all pools.
    std::size_t account(std::size_t link, std::size_t member) const noexcept { return first_account_[link] + member; }
    throttle_type& throttle(std::size_t link, std::size_t member) noexcept { return throttles_[account(link, member)]; }
    throttle_type const& throttle(std::size_t link, std::size_t member) const noexcept {
        return throttles_[account(link, member)];
    }
    probation_type& probation(std::size_t link, std::size_t member) noexcept {
        return probations_[account(link, member)];
    }
    probation_type& model_probation(std::size_t link) noexcept { return model_probations_[link]; }

    // Numbers for the backoff: splitmix64 over a counter, so that any thread may take the next.
    struct random_numbers {
        using result_type = std::uint64_t;
        static constexpr result_type(min)() noexcept { return 0; }
        static constexpr result_type(max)() noexcept { return (std::numeric_limits<std::uint64_t>::max)(); }
        session* owner;
        result_type operator()() noexcept {
            // Relaxed: each number is taken once, in any order.
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
    std::deque<throttle_type> throttles_{};              // of all pools, one after the other
    std::deque<probation_type> probations_{};            // likewise
    std::deque<probation_type> model_probations_{};      // of each link
    std::vector<std::size_t> first_account_{};           // of each link's pool
    std::deque<token_estimator<atomics>> estimators_{};  // of each link
    std::size_t accounts_ = 0;                           // of all links
    std::size_t max_moves_ = 0;  // each puts a key, an account or a model on cooldown, so there are only so many
    std::optional<retry_budget<clock_type const&, atomics>> budget_{};
    session_counters<atomics> counters_{};
    typename atomics::template atomic<std::uint64_t> drawn_{0};
    gate gate_;
    fair_queue<gate, Classes, atomics> queues_;
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

template <class Pool, std::size_t Classes>
session<Pool, Classes>::session(chain_type& chain, fair_class const (&classes)[Classes], session_options o,
                                clock_parameter c)
    : clock_{static_cast<clock_parameter&&>(c)},
      chain_{chain},
      options_{std::move(o)},
      gate_{clock_.get()},
      queues_{gate_, classes} {
    weir::detail::ensure(options_.retry.validate());
    if (options_.adaptive) weir::detail::ensure(adaptive_range::validate(*options_.adaptive));
    if (options_.budget) budget_.emplace(*options_.budget, clock_.get());
    for (std::size_t i = 0; i < chain_.size(); ++i) {
        Pool& pool = chain_.pool(i);
        estimators_.emplace_back(options_.weights, options_.default_output);
        std::size_t first = throttles_.size();
        for (std::size_t k = 0; k < i; ++k) {
            if (&chain_.pool(k) == &pool) first = first_account_[k];
        }
        first_account_.push_back(first);
        accounts_ += pool.size();
        max_moves_ += pool.size() + 1;
        for (std::size_t m = 0; m < pool.size(); ++m) max_moves_ += pool.keys(m);
        if (first != throttles_.size()) continue;
        for (std::size_t m = 0; m < pool.size(); ++m) {
            throttles_.emplace_back(options_, pool.limits(m), clock_.get());
            probations_.emplace_back();
        }
    }
    model_probations_.resize(chain_.size());
    for (std::size_t i = 0; i < chain_.size(); ++i) {
        Pool& pool = chain_.pool(i);
        if (pool.size() == 0) continue;
        gate_.measure_by({pool.effective_rpm((time_point::max)()), pool.effective_tpm((time_point::max)())});
        break;
    }
}

template <class Pool, std::size_t Classes>
session<Pool, Classes>::~session() = default;

}  // namespace weir::inline v0::llm

#include "detail/session_call.hpp"
#include "detail/session_drive.hpp"
