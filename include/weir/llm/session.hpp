// SPDX-License-Identifier: MIT
//
// session: one call, whatever it takes. It asks a chain of models and their accounts, waits in line, says what to send and where, reads what came
// back, and goes on until there is an answer or a reason why there is none. It holds no policy of its own: each of its parts is
// usable without it. It sends nothing and sleeps for nobody but in run().
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "../backoff.hpp"
#include "../clock.hpp"
#include "../policy.hpp"
#include "../quota.hpp"
#include "../rate.hpp"
#include "../token_bucket.hpp"
#include "../wait_point.hpp"
#include "../waiting_line.hpp"
#include "account_pool.hpp"
#include "adaptive.hpp"
#include "concurrency.hpp"
#include "estimate.hpp"
#include "fallback_chain.hpp"
#include "hints.hpp"
#include "limit_feed.hpp"
#include "margin.hpp"
#include "ramp.hpp"
#include "retry_budget.hpp"
#include "server_queue.hpp"
#include "session_counters.hpp"
#include "verdict.hpp"

namespace weir::inline v0::llm {

/// How far an adaptive quota may move from the configured one, in per cent of it.
struct adaptive_range {
    std::uint32_t least = 10;
    std::uint32_t most = 100;
    std::chrono::nanoseconds recovery{std::chrono::seconds{45}};
};

/// What a session does beside asking the chain. What is absent is left out and costs nothing.
struct session_options {
    weir::backoff retry{};                              ///< of each call
    std::optional<retry_budget_options> budget{};       ///< of all calls together
    std::optional<ramp_options> ramp{};                 ///< one for each account
    std::optional<adaptive_range> adaptive{};           ///< of each account's requests and tokens
    std::optional<concurrency_options> concurrency{};   ///< of each account
    /// Where the server reports what is left (OpenAI, Anthropic, gateways; DashScope does not): when it counts that. Strangers' use then lowers what
    /// an account is asked for, see limit_feed.hpp.
    std::optional<report_time> feed{};
    margin_options margin{};                            ///< what is measured of each account's delays; read by margin_of
    token_weights weights{};                            ///< of texts, for models whose answers were not seen yet
    usage_weights usage{};                              ///< of what answers report
    std::uint64_t default_output = 1024;                ///< held for the output of a call that does not say
    std::span<error_rule const> rules{};                ///< of one's own, before the dialect's; must outlive the session
    std::chrono::seconds server_queue{0};               ///< to ask of a server that can queue; 0: not
    std::chrono::nanoseconds timeout{std::chrono::minutes{5}};  ///< the client's, for one attempt; grows with the server's queue
    line_options line{};
    std::uint64_t seed = 1;                             ///< of the jitter in retries
};

/// What came of an attempt. The views need only live until `ended` returns.
struct reply {
    llm::answer answer{};             ///< `answer.now` of 0: the system clock is asked
    std::optional<tokens> used{};     ///< as reported; without it an answer is charged with its bound
    std::uint64_t cached = 0;         ///< of the input, see usage_weights
    bool left = true;                 ///< false: the request certainly never left; it is given back whole
    bool withdrawn = false;           ///< not sent, by the caller's choice (it was late, say): no failure, it asks again; implies !left
    bool delivered = false;           ///< part of the answer was handed on: it is not asked for again
    std::optional<std::chrono::nanoseconds> arrived{};  ///< the server's stamp of the request, by its clock
    std::chrono::nanoseconds took{};  ///< as the server says; 0: it does not
};

/// What an attempt cost.
enum class charged_as : unsigned char {
    nothing,  ///< it was given back whole
    request,  ///< a request, and no tokens: refused at the gate
    used,     ///< a request, and the tokens that were reported
    bound,    ///< a request, and all the tokens that it might have used
    held,     ///< likewise, until the server has certainly given up
};

/// How a call ended.
enum class call_end : unsigned char {
    open,       ///< it has not
    answered,
    refused,    ///< the verdict says that no retry helps
    exhausted,  ///< retried as often, or as long, as the backoff allows
    budget,     ///< the shared budget of retries is spent
    deadline,   ///< its time is over, or would be before it could be served
    never,      ///< it asks for more than any limit can ever admit
    partial,    ///< the answer broke off after a part of it was handed on
    lost,       ///< it left, no answer came, and it must not be repeated
    stopped,
    line_full,
};

constexpr std::string_view to_string(call_end e) noexcept {
    switch (e) {
        case call_end::open: return "open";
        case call_end::answered: return "answered";
        case call_end::refused: return "refused";
        case call_end::exhausted: return "retried in vain";
        case call_end::budget: return "the budget of retries is spent";
        case call_end::deadline: return "the deadline came first";
        case call_end::never: return "more than the limit can ever admit";
        case call_end::partial: return "the answer broke off after a part of it was handed on";
        case call_end::lost: return "it left, no answer came, and it must not be repeated";
        case call_end::stopped: return "stopped";
        case call_end::line_full: return "too many are waiting";
    }
    return "open";
}

/// What a call is to do now.
enum class step_kind : unsigned char {
    send,   ///< its attempt is granted, and its stamp is now: send it at once, then say what came of it
    wait,   ///< until `until`; an end of any call may make it sooner
    pause,  ///< until `until`, after a failure; nothing makes it sooner, and it needs no place in line
    over,
};

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
/// **An attempt** takes all or nothing of: its account's limits, its adaptive rate, its ramp, its concurrency. No lock but the line's where there is none to wait for; no
/// allocation.
///
/// The chain, its pools and the rules are referred to and must outlive the session; links and accounts are added before it is made.
template <class Pool = account_pool<>>
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
        text_size size{};                             ///< of its texts, where `bound` is not known
        std::optional<std::uint64_t> max_tokens{};    ///< as the request says
        std::optional<tokens> bound{};                ///< what it may use at most, of whatever model
        std::uint64_t images = 0;                     ///< see usage_weights
        time_point deadline = time_point::max();      ///< for its last attempt to be let go
        duration patience{0};                         ///< to wait for a better model rather than be answered by a lesser one
        bool repeatable = true;                       ///< false: not again once it may have been worked on
    };

    /// What to do now, and why.
    struct step {
        step_kind what = step_kind::over;
        time_point until{};            ///< wait, pause
        std::string_view because{};    ///< wait: the limit; pause: the failure. Static text.
    };

    struct outcome {
        call_end how = call_end::open;
        llm::verdict last{cause::none, action::proceed, {}, {}, 0, {}};  ///< on the last reply; cause::none where there was none
        std::string_view why{};        ///< in words, static text: the server's reason, or the limit that never let it pass
        std::size_t link = chain_type::none;  ///< that was asked last
        std::uint32_t attempts = 0;
        tokens used{0, 0};             ///< by the answer
        duration waited{0};            ///< for limits, pauses included
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
        requires(!std::is_reference_v<clock_parameter>)
        : session{chain, std::move(o), clock_parameter{}} {}
    session(chain_type& chain, session_options o, clock_parameter c)
        : clock_{static_cast<clock_parameter&&>(c)}, chain_{chain}, options_{std::move(o)} {
        weir::detail::require(options_.retry.validate());
        if (options_.adaptive) weir::detail::require(validate(*options_.adaptive));
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
    }
    session(session const&) = delete;
    session& operator=(session const&) = delete;

    static constexpr error validate(adaptive_range const& a) noexcept {
        if (a.least == 0 || a.least > 100) return {"an adaptive quota's least is 1 to 100 per cent of the configured one"};
        if (a.most < 100 || a.most > 10'000) return {"an adaptive quota's most is 100 to 10,000 per cent of the configured one"};
        return {};
    }

    /// Sends by `send(call&)` until there is an answer or a reason why not, on this thread. `send` says what came by call.ended(…) before it returns;
    /// what returns without is taken as lost on the way. What it throws passes through, and the attempt is held as lost. `observe(progress)` is told of
    /// each step. See waiting_line.hpp for tokens.
    template <class Send, class Observe = no_observer, stoppable_token Token = never_stop>
    outcome run(request const& r, Send&& send, Observe&& observe = {}, Token token = {});

    clock_type const& clock() const noexcept { return clock_.get(); }
    chain_type& chain() const noexcept { return chain_; }
    session_options const& options() const noexcept { return options_; }
    session_counters<atomics> const& counters() const noexcept { return counters_; }
    std::size_t waiting() const noexcept { return line_.waiting(); }
    token_estimator<atomics> const& estimator(std::size_t link) const noexcept { return estimators_[link]; }
    /// The margin J that an account's delays ask for: for the next limiter that is made, see margin.hpp.
    std::chrono::nanoseconds margin_of(std::size_t link, std::size_t member) const { return lane_of(link, member).delays.jitter(); }
    /// An account's share of its configured requests and tokens that is in force, in 1,048,576ths.
    std::pair<std::uint64_t, std::uint64_t> shares(std::size_t link, std::size_t member) {
        lane& l = lane_of(link, member);
        return {share_of(l.requests), share_of(l.tokens)};
    }
    /// What an account may have in flight; absent without options.concurrency.
    std::optional<std::uint32_t> concurrency(std::size_t link, std::size_t member) const noexcept {
        lane const& l = lane_of(link, member);
        if (!l.slots) return std::nullopt;
        return l.slots->limit();
    }
    /// Something has changed from outside (a quota, an account's absence): who waits looks again.
    void notify() { line_.notify(); }

private:
    using adaptive = adaptive_rate<clock_type const&>;
    static constexpr std::uint64_t whole = std::uint64_t{1} << 20U;

    // What an account has beside its limits.
    struct lane {
        lane(session_options const& o, typename Pool::limiter_type& limiter, clock_type const& c)
            : configured{limiter.limits()}, delays{o.margin} {
            quota const& q = configured;
            if (o.feed) feed.emplace(limiter, *o.feed);
            if (o.ramp) growth.emplace(*o.ramp, c);
            if (o.concurrency) slots.emplace(*o.concurrency);
            if (!o.adaptive) return;
            auto const begin = [&](std::optional<adaptive>& a, std::optional<std::uint64_t> limit) {
                if (!limit) return;
                auto const part = [&](std::uint32_t percent) {
                    return std::max<std::uint64_t>(weir::detail::mul_div_ceil(*limit, percent, 100), 1);
                };
                a.emplace(adaptive_options{.start = *limit, .least = part(o.adaptive->least), .most = part(o.adaptive->most),
                                           .recovery = o.adaptive->recovery},
                          c);
            };
            begin(requests, q.effective_rpm());
            begin(tokens, q.effective_tpm());
            if (requests) pace.emplace(weir::rate{*q.effective_rpm(), std::chrono::minutes{1}}, 1, c);
        }
        // Requests are fewer than configured.
        bool paced() const noexcept { return pace && in_force.load(std::memory_order_relaxed) >> 32U < whole; }
        // How long n tokens take at the lowered rate; 0 where it is not lowered.
        std::int64_t length_of(weir::tokens n) const noexcept {
            std::uint64_t const share = in_force.load(std::memory_order_relaxed) & 0xffff'ffffU;
            if (!tokens || share >= whole) return 0;
            std::uint64_t const rate = std::max<std::uint64_t>(weir::detail::mul_div_ceil(*configured.effective_tpm(), share, whole), 1);
            constexpr auto minute = std::chrono::ceil<duration>(std::chrono::minutes{1}).count();
            return static_cast<std::int64_t>(std::min<std::uint64_t>(weir::detail::mul_div_ceil(n.total(), minute, rate), std::uint64_t{1} << 56U));
        }
        time_point tokens_free() const noexcept {
            return time_point{duration{static_cast<typename duration::rep>(tokens_until.load(std::memory_order_relaxed))}};
        }
        // The next call goes when the tokens of those before it have taken their time. Relaxed: the word is all that there is.
        bool take_tokens(time_point t, std::int64_t length) noexcept {
            std::int64_t seen = tokens_until.load(std::memory_order_relaxed);
            do {
                if (seen > weir::detail::ticks(t)) return false;
            } while (!tokens_until.compare_exchange_weak(seen, weir::detail::saturating_add(weir::detail::ticks(t), length),
                                                         std::memory_order_relaxed, std::memory_order_relaxed));
            return true;
        }

        quota configured;
        margin delays;
        std::optional<limit_feed<typename Pool::limiter_type>> feed{};
        std::optional<ramp<clock_type const&, atomics>> growth{};
        std::optional<adaptive_concurrency<additive, atomics>> slots{};
        std::optional<adaptive> requests{};
        std::optional<adaptive> tokens{};
        // A lowered rate of requests, one by one: a window of a second holds too few of them for its limit to be lowered by a little.
        std::optional<token_bucket<clock_type const&, atomics>> pace{};
        // A lowered rate of tokens likewise: a window would let them all go at once.
        typename atomics::template atomic<std::int64_t> tokens_until{0};
        typename weir::detail::mutex_of<atomics>::type changing{};
        // The two shares in force, 32 bits each.
        typename atomics::template atomic<std::uint64_t> in_force{whole << 32U | whole};
    };
    using pace_decision = typename token_bucket<clock_type const&, atomics>::decision;
    using ramp_decision = typename ramp<clock_type const&, atomics>::decision;

    // What the line asks: the call itself, by its own time.
    struct gate {
        struct decision {
            bool yes = false;
            time_point at{};
            time_point when = time_point::max();
            bool granted() const noexcept { return yes; }
            explicit operator bool() const noexcept { return yes; }
            bool never() const noexcept { return !yes && when == time_point::max(); }
            time_point retry_at() const noexcept { return when; }
            duration retry_after() const noexcept {
                return when == time_point::max() ? duration::max()
                                                 : duration{static_cast<typename duration::rep>(weir::detail::saturating_sub(
                                                       weir::detail::ticks(when), weir::detail::ticks(at)))};
            }
        };
        using time_point = typename session::time_point;
        using duration = typename session::duration;
        session const* owner;
        clock_type const& clock() const noexcept { return owner->clock(); }
    };

    lane& lane_of(std::size_t link, std::size_t member) noexcept { return lanes_[first_lane_[link] + member]; }
    // A bit for each; where there are more than 64, several share one.
    std::uint64_t bit_of(std::size_t link, std::size_t member) const noexcept { return std::uint64_t{1} << (first_lane_[link] + member) % 64; }
    lane const& lane_of(std::size_t link, std::size_t member) const noexcept { return lanes_[first_lane_[link] + member]; }
    static std::uint64_t share_of(std::optional<adaptive>& a) { return a ? a->share() : whole; }

    // Numbers for the backoff: splitmix64 over a counter, so that any thread may take the next.
    struct random_numbers {
        using result_type = std::uint64_t;
        static constexpr result_type min() noexcept { return 0; }
        static constexpr result_type max() noexcept { return std::numeric_limits<std::uint64_t>::max(); }
        session* owner;
        result_type operator()() noexcept {
            // Relaxed: each number is taken once, in whatever order.
            std::uint64_t x = owner->options_.seed * 0xd1342543de82ef95U + owner->drawn_.fetch_add(0x9e3779b97f4a7c15U, std::memory_order_relaxed);
            x = (x ^ x >> 30U) * 0xbf58476d1ce4e5b9U;
            x = (x ^ x >> 27U) * 0x94d049bb133111ebU;
            return x ^ x >> 31U;
        }
    };

    // Puts what was found in force, once it has moved by a 64th. One at a time, so that what is newer comes later.
    void adapt(lane& l, Pool& pool, std::size_t member, time_point now) {
        std::lock_guard const lock{l.changing};
        std::uint64_t const requests = l.requests ? l.requests->share(now) : whole;
        std::uint64_t const tokens = l.tokens ? l.tokens->share(now) : whole;
        std::uint64_t const seen = l.in_force.load(std::memory_order_relaxed);
        auto const moved = [](std::uint64_t a, std::uint64_t b) { return (a > b ? a - b : b - a) * 64 >= b && a != b; };
        if (!moved(requests, seen >> 32U) && !moved(tokens, seen & 0xffff'ffffU)) return;
        // What could not be put in force (busy, or too large for a window's words) stays as it was, and the next answer tries again.
        std::uint64_t requests_now = requests;
        std::uint64_t tokens_now = tokens;
        if (l.requests && l.requests->apply(*l.pace, 1, now)) requests_now = seen >> 32U;
        if (pool.limits(member).change(scaled(l.configured, std::max(requests, whole), tokens), now)) {
            tokens_now = seen & 0xffff'ffffU;
            if (requests > whole) requests_now = seen >> 32U;
        }
        // Relaxed: it says whether requests and tokens are paced, no more.
        l.in_force.exchange(requests_now << 32U | tokens_now, std::memory_order_relaxed);
    }

    [[no_unique_address]] weir::detail::clock_box<clock_parameter> clock_;
    chain_type& chain_;
    session_options options_;
    std::deque<lane> lanes_{};                       // of all pools, one after the other
    std::vector<std::size_t> first_lane_{};          // of each link's pool
    std::deque<token_estimator<atomics>> estimators_{};  // of each link
    std::size_t ways_ = 0;                           // accounts of all links
    std::size_t moves_most_ = 0;                     // that can set something aside: keys, accounts, models
    std::optional<retry_budget<clock_type const&, atomics>> budget_{};
    session_counters<atomics> counters_{};
    typename atomics::template atomic<std::uint64_t> drawn_{0};
    gate gate_{this};
    waiting_line<gate, atomics> line_{gate_, options_.line};
};

template <class Pool>
session(fallback_chain<Pool>&) -> session<Pool>;
template <class Pool>
session(fallback_chain<Pool>&, session_options) -> session<Pool>;
template <class Pool, class C>
session(fallback_chain<Pool>&, session_options, C&&) -> session<Pool>;

/// One call on its way. For one thread at a time; it stays where it is. What it asks and is told:
///
///     auto s = call.next();                    // send: granted, its stamp is now: send it, then call.ended(…)
///                                              // wait, pause: next() again at s.until, or (wait) when any call has ended
///                                              // over: call.result()
///
/// A call that is destroyed while an attempt is under way leaves it as lost: what it holds is held until the server has given up.
template <class Pool>
class session<Pool>::call {
public:
    call(session& s, request const& r) : call{s, r, s.clock().now()} {}
    call(session& s, request const& r, time_point now) : session_{s}, request_{r}, begun_{now}, since_{now} { s.counters_.add(counted_event::calls); }
    call(call const&) = delete;
    call& operator=(call const&) = delete;
    ~call() {
        if (state_ == state::sent) lost();
        if (state_ != state::over) finish(call_end::stopped, "abandoned");
    }

    step next() { return next(session_.clock().now()); }
    step next(time_point now) {
        if (state_ == state::asks) {
            auto const d = now < pause_until_ && now < request_.deadline ? typename gate::decision{false, now, time_point::max()} : ask(now);
            if (!d && state_ == state::asks) {
                if (now < pause_until_) return {step_kind::pause, std::min(pause_until_, request_.deadline), outcome_.last.reason};
                return {step_kind::wait, std::min(d.when, request_.deadline), waits_for_};
            }
        }
        if (state_ == state::sent) return {step_kind::send, stamp_, {}};
        return {step_kind::over, now, outcome_.why};
    }

    /// What came of the attempt. Once for each that was let go; others are passed over.
    void ended(reply const& r) { ended(r, session_.clock().now()); }
    void ended(reply const& r, time_point now) {
        if (state_ != state::sent) return;
        answer a = r.answer;
        if (a.now.time_since_epoch().count() == 0) a.now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
        verdict v = classify(a, session_.options_.rules);
        if (r.withdrawn || (!r.left && v.action == action::proceed)) v = {cause::transport, action::retry, {}, {}, 0, "it was not sent"};
        bool const left = r.left && !r.withdrawn;
        charge(r, a, v, left, now);
        if (!r.withdrawn) session_.chain_.report(choice_, v, now, a.now);
        state_ = state::asks;
        since_ = now;
        if (r.withdrawn) {
            session_.counters_.add(counted_event::withdrawn);
            pause_until_ = now;
        } else {
            outcome_.last = v;
            if (!first_) first_ = stamp_;
            decide(r, v, left, now);
        }
        session_.counters_.add(counted_event::ended_attempts);
        session_.line_.notify();
    }
    /// It left, and nothing came: as a reply whose transport failed.
    void lost() {
        reply r;
        r.answer.transport_failed = true;
        ended(r);
    }
    /// The first of the answer was read: what latency and margins are measured by. Without it, the end is.
    void heard() { heard(session_.clock().now()); }
    void heard(time_point t) noexcept {
        if (!heard_) heard_ = t;
    }
    /// Ends it for another reason: the caller stops it, or its line is full. An attempt under way is taken as lost.
    void give_up(call_end how) {
        if (state_ == state::sent) lost();
        if (state_ != state::over) finish(how, reason_or(how == call_end::line_full ? "others wait before it" : "given up"));
    }

    // ---- what to send, once next() said so ----

    std::string_view model() const noexcept { return session_.chain_.model(*choice_); }
    account_id const& account() const noexcept { return pool().id(member()); }
    std::string_view key() const noexcept { return pool().key(choice_.member()); }
    std::size_t link() const noexcept { return *choice_; }
    std::size_t member() const noexcept { return *choice_.member(); }
    /// What it was granted, and when.
    tokens asked() const noexcept { return asked_; }
    time_point stamp() const noexcept { return stamp_; }
    /// 0: the first.
    std::uint32_t number() const noexcept { return outcome_.attempts == 0 ? 0 : outcome_.attempts - 1; }
    /// The header that asks the server to queue it, and the client's timeout.
    llm::server_queue queue() const noexcept {
        return llm::server_queue::ask(session_.options_.server_queue, session_.options_.timeout);
    }

    /// What the attempt that ended last was charged.
    charged_as charged() const noexcept { return charged_; }
    /// After a failure: it asks again then, at the earliest.
    time_point pause_until() const noexcept { return pause_until_; }

    request const& facts() const noexcept { return request_; }
    bool over() const noexcept { return state_ == state::over; }
    bool under_way() const noexcept { return state_ == state::sent; }
    outcome const& result() const noexcept { return outcome_; }
    time_point begun() const noexcept { return begun_; }

private:
    friend session;
    enum class state : unsigned char { asks, sent, over };
    static constexpr std::string_view own_pause = "backoff";

    // What each member has to pass beside its limits, for this call.
    struct beside {
        call& c;
        std::string_view by{};

        time_point ready(std::size_t link, std::size_t member, time_point t) {
            if (link < 64 && (c.ruled_out_ >> link & 1U) != 0) {
                by = "too large for the model";
                return time_point::max();
            }
            lane& l = c.session_.lane_of(link, member);
            c.somebody_is_there_ = true;
            if ((c.avoided_ & c.session_.bit_of(link, member)) != 0 && t < c.avoid_until_) {
                by = own_pause;
                return c.avoid_until_;
            }
            if (l.slots && l.slots->in_flight() >= l.slots->limit()) {
                by = "concurrency";
                return later(t);
            }
            if (l.paced()) {
                auto const d = l.pace->check(1, t);
                if (!d) {
                    by = "adaptive rate";
                    return d.retry_at();
                }
            }
            if (l.tokens_free() > t && l.length_of(c.asked_) != 0) {
                by = "adaptive rate";
                return l.tokens_free();
            }
            if (l.growth) {
                auto const d = l.growth->check(1, t);
                if (!d) {
                    by = "ramp";
                    return d.retry_at();
                }
            }
            return t;
        }
        bool take(std::size_t link, std::size_t member, time_point t) {
            lane& l = c.session_.lane_of(link, member);
            if (l.slots && !l.slots->try_enter()) {
                by = "concurrency";
                return false;
            }
            c.pace_.reset();
            if (l.paced()) {
                auto d = l.pace->try_acquire(1, t);
                if (!d) {
                    if (l.slots) l.slots->leave();
                    by = "adaptive rate";
                    return false;
                }
                c.pace_.emplace(std::move(d));
            }
            c.length_ = l.length_of(c.asked_);
            if (c.length_ != 0 && !l.take_tokens(t, c.length_)) {
                if (c.pace_) l.pace->refund(*c.pace_);
                if (l.slots) l.slots->leave();
                by = "adaptive rate";
                return false;
            }
            if (l.growth) {
                auto d = l.growth->try_acquire(1, t);
                if (!d) {
                    if (c.length_ != 0) l.tokens_until.fetch_sub(c.length_, std::memory_order_relaxed);
                    if (c.pace_) l.pace->refund(*c.pace_);
                    if (l.slots) l.slots->leave();
                    by = "ramp";
                    return false;
                }
                c.growth_.emplace(std::move(d));
            }
            return true;
        }
        std::string_view denied_by() const noexcept { return by; }

        // An end of something in flight is told to the line; the time is for what is never told.
        static time_point later(time_point t) noexcept {
            return time_point{duration{static_cast<typename duration::rep>(weir::detail::saturating_add(
                weir::detail::ticks(t), std::chrono::ceil<duration>(std::chrono::minutes{10}).count()))}};
        }
    };

    Pool& pool() const noexcept { return session_.chain_.pool(*choice_); }
    lane& my_lane() noexcept { return session_.lane_of(link(), member()); }

    tokens need(std::size_t link) const noexcept {
        if (request_.bound) return *request_.bound;
        auto const& e = session_.estimators_[link];
        tokens t{e.input(request_.size).bound, e.output(request_.max_tokens)};
        tokens const pictures = weighted({0, 0}, 0, request_.images, session_.options_.usage);
        t.input = t.input + pictures.input < t.input ? std::numeric_limits<std::uint64_t>::max() : t.input + pictures.input;
        return t;
    }

    // An attempt to be let go.
    typename gate::decision ask(time_point now) {
        somebody_is_there_ = false;
        if (now >= request_.deadline) {
            finish(call_end::deadline, waits_for_.empty() ? reason_or("no time was left for it") : waits_for_);
            return {false, now, time_point::max()};
        }
        choice_ = session_.chain_.try_acquire([this](std::size_t link) { return asked_ = need(link); }, now, moving_ ? duration{0} : request_.patience, beside{*this});
        if (choice_) {
            stamp_ = now;
            state_ = state::sent;
            if (auto& feed = my_lane().feed) mark_ = feed->sent(choice_.member().decision());
            heard_.reset();
            outcome_.link = link();
            ++outcome_.attempts;
            auto& counters = session_.counters_;
            counters.add(counted_event::attempts);
            if (first_) counters.add(counted_event::retries);
            if (now > since_) {
                outcome_.waited += now - since_;
                counters.add(counted_event::waited_ns, static_cast<std::uint64_t>(std::chrono::nanoseconds{now - since_}.count()));
            }
            denied_ = false;
            waits_for_ = {};
            return {true, now, now};
        }
        waits_for_ = choice_.denied_by();
        if (waits_for_ == own_pause) {
            // Out of the line: others may pass where this call may not.
            pause_until_ = choice_.retry_at();
            return {false, now, time_point::max()};
        }
        if (choice_.retry_at() == time_point::max()) {
            if (moving_) {
                finish(call_end::refused, outcome_.last.reason);
            } else {
                finish(call_end::never, waits_for_);
            }
        } else if (moving_ && !somebody_is_there_ && !(comes_back_ && request_.deadline != time_point::max() &&
                                                       choice_.retry_at() < request_.deadline)) {
            // All are set aside, and when they are there again is not known, or too late.
            finish(call_end::refused, outcome_.last.reason);
        } else if (!somebody_is_there_ && first_ && request_.deadline != time_point::max() && choice_.retry_at() >= request_.deadline) {
            finish(call_end::deadline, reason_or(waits_for_));
        } else if (!somebody_is_there_ && request_.deadline == time_point::max() &&
                   weir::detail::saturating_sub(weir::detail::ticks(choice_.retry_at()), weir::detail::ticks(first_.value_or(now))) >
                       std::chrono::ceil<duration>(session_.options_.retry.budget).count()) {
            // All are set aside, for longer than a retry would wait.
            finish(first_ ? call_end::exhausted : call_end::refused, reason_or(waits_for_));
        }
        if (state_ == state::over) return {false, now, time_point::max()};
        if (!std::exchange(denied_, true)) session_.counters_.add(counted_event::waits);
        return {false, now, choice_.retry_at()};
    }

    // What the attempt cost, and what is to be learnt of it.
    void charge(reply const& r, answer const& a, verdict const& v, bool left, time_point now) {
        lane& l = my_lane();
        bool const good = v.action == action::proceed;
        auto& chain = session_.chain_;
        if (!left) {
            chain.refund(choice_);
            charged_ = charged_as::nothing;
        } else if (r.used) {
            chain.settle(choice_, weighted(*r.used, r.cached, 0, session_.options_.usage), now);
            charged_ = charged_as::used;
        } else if (refused_at_the_gate(v.cause)) {
            chain.settle(choice_, {0, 0}, now);
            charged_ = charged_as::request;
        } else if (v.cause != cause::transport) {
            chain.settle(choice_, asked_, now);
            charged_ = charged_as::bound;
        } else {
            charged_ = charged_as::held;  // the server may be working on it; when it has certainly given up, the limiter knows
        }
        if (pace_ && !left) l.pace->refund(*pace_);
        pace_.reset();
        if (length_ != 0) {
            // Less than was asked for takes less time.
            std::uint64_t const least = !left ? 0 : r.used ? std::min(r.used->total(), asked_.total()) : asked_.total();
            std::int64_t const back = least == asked_.total() ? 0 : length_ - static_cast<std::int64_t>(weir::detail::mul_div_ceil(static_cast<std::uint64_t>(length_), least, std::max<std::uint64_t>(asked_.total(), 1)));
            if (back > 0) l.tokens_until.fetch_sub(back, std::memory_order_relaxed);
            length_ = 0;
        }
        if (l.growth && growth_) {
            if (!left) {
                l.growth->refund(*growth_);
            } else if (v.cause == cause::burst) {
                l.growth->burst(*growth_, now);
            }
            growth_.reset();
        }
        if (l.slots) {
            if (left && (v.cause == cause::overload || v.cause == cause::concurrency)) {
                l.slots->refused();
            } else if (good) {
                l.slots->leave(std::chrono::nanoseconds{heard_.value_or(now) - stamp_});
            } else {
                l.slots->leave();
            }
        }
        if (!left) return;
        if (l.feed) l.feed->heard(mark_, read_limits(a.headers, a.dialect, a.now), now);
        if (l.requests) {
            if (good) l.requests->served(1, stamp_, now);
            if (v.cause == cause::request_rate || v.cause == cause::rate) l.requests->refused(stamp_, now);
        }
        if (l.tokens) {
            if (good) l.tokens->served(r.used ? r.used->total() : asked_.total(), stamp_, now);
            if (v.cause == cause::token_rate || v.cause == cause::rate) l.tokens->refused(stamp_, now);
        }
        if (l.requests || l.tokens) session_.adapt(l, pool(), member(), now);
        if (good && r.used && request_.size.messages != 0) session_.estimators_[link()].learn(request_.size, *r.used);
        auto const in_ns = [](time_point t) { return std::chrono::nanoseconds{t.time_since_epoch()}; };
        if (r.arrived) {
            l.delays.arrived(in_ns(stamp_), *r.arrived);
        } else if (good) {
            l.delays.answered(in_ns(stamp_), in_ns(heard_.value_or(now)), r.took);
        }
    }

    static constexpr bool refused_at_the_gate(cause c) noexcept {
        switch (c) {
            case cause::request_rate:
            case cause::token_rate:
            case cause::rate:
            case cause::burst:
            case cause::concurrency:
            case cause::free_quota:
            case cause::plan_quota:
            case cause::billing:
            case cause::authentication:
            case cause::no_model: return true;
            default: return false;
        }
    }

    // Or it was refused for want of capacity before that.
    static bool may_have_been_worked_on(reply const& r, cause c) noexcept {
        if (c == cause::overload) return r.answer.status == 502 || r.answer.status == 504;  // a gateway that does not know
        return c == cause::transport || c == cause::server_error || c == cause::unknown;
    }
    std::string_view reason_or(std::string_view other) const noexcept {
        return !outcome_.last.reason.empty() ? outcome_.last.reason : !waits_for_.empty() ? waits_for_ : other;
    }

    // Where it goes from here.
    void decide(reply const& r, verdict const& v, bool left, time_point now) {
        if (v.action == action::proceed) {
            if (r.used) {
                outcome_.used = *r.used;
                session_.counters_.add(counted_event::input_tokens, r.used->input);
                session_.counters_.add(counted_event::output_tokens, r.used->output);
            }
            if (session_.budget_) session_.budget_->succeeded();
            if (link() != 0) session_.counters_.add(counted_event::answered_below);
            return finish(call_end::answered, {});
        }
        session_.counters_.refused(v.cause);
        if (r.delivered) return finish(call_end::partial, v.reason);
        if (v.action == action::give_up) return finish(call_end::refused, v.reason);
        if (left && !request_.repeatable && may_have_been_worked_on(r, v.cause)) return finish(call_end::lost, v.reason);
        if (v.action == action::next_account || v.action == action::next_model) {
            // Each sets a key, a member or a link aside, so that there are only so many.
            if (v.cause == cause::token_rate && link() < 64) ruled_out_ |= std::uint64_t{1} << link();
            if (++moves_ > session_.moves_most_) return finish(call_end::refused, v.reason);
            moving_ = true;
            comes_back_ = v.until.has_value() || v.wait.has_value();
            session_.counters_.add(counted_event::moved);
            return;
        }
        moving_ = false;
        bool const elsewhere = session_.ways_ > 1;
        if (v.at_most != 0 && retries_ >= v.at_most) return finish(call_end::exhausted, v.reason);
        // Where there is no other way, a hint that the backoff cannot bear ends it; else it only says when this account is there again.
        auto const pause = session_.options_.retry.next(retries_, random_numbers{&session_}, elsewhere ? std::nullopt : v.wait,
                                                        std::chrono::nanoseconds{now - *first_}, previous_);
        if (!pause) return finish(call_end::exhausted, v.reason);
        auto const after = [now](std::chrono::nanoseconds d) {
            return time_point{duration{static_cast<typename duration::rep>(
                weir::detail::saturating_add(weir::detail::ticks(now), std::chrono::ceil<duration>(d).count()))}};
        };
        if (v.wait && *v.wait > v.wait->zero()) {
            pool().set_aside(member(), after(*v.wait));
        }
        if (!elsewhere && after(*pause) >= request_.deadline) return finish(call_end::deadline, v.reason);
        if (session_.budget_ && !session_.budget_->try_retry(now)) return finish(call_end::budget, v.reason);
        ++retries_;
        previous_ = std::min(*pause, session_.options_.retry.cap);
        if (elsewhere) {
            if (now >= avoid_until_) avoided_ = 0;
            avoided_ |= session_.bit_of(link(), member());
            avoid_until_ = std::max(avoid_until_, after(*pause));
        } else {
            pause_until_ = after(*pause);
        }
    }

    void finish(call_end how, std::string_view why) noexcept {
        outcome_.how = how;
        outcome_.why = why;
        state_ = state::over;
        session_.counters_.add(how == call_end::answered ? counted_event::answered : counted_event::failed);
    }

    session& session_;
    request request_;
    time_point begun_;
    time_point since_;  // when the attempt that is asked for could first have been let go, but for limits and pauses
    time_point stamp_{};
    time_point pause_until_ = time_point::min();
    std::optional<time_point> first_{};  // when the first attempt that was not withdrawn was let go, once it has ended
    std::optional<time_point> heard_{};
    std::optional<std::chrono::nanoseconds> previous_{};
    tokens asked_{0, 0};
    typename chain_type::choice choice_{};
    typename limit_feed<typename Pool::limiter_type>::mark mark_{};
    std::optional<pace_decision> pace_{};
    std::int64_t length_ = 0;  // of its tokens at a lowered rate, in ticks
    std::optional<ramp_decision> growth_{};
    outcome outcome_{};
    std::string_view waits_for_{};
    std::uint64_t avoided_ = 0;  // accounts, while this call's pause after their failures lasts
    time_point avoid_until_ = time_point::min();
    std::uint64_t ruled_out_ = 0;
    std::uint64_t retries_ = 0;
    std::size_t moves_ = 0;
    state state_ = state::asks;
    charged_as charged_ = charged_as::nothing;
    bool moving_ = false;
    bool comes_back_ = false;
    bool denied_ = false;
    bool somebody_is_there_ = false;
};

/// A call on its way through the session's line: what run() and async_run() have in common. They add how to sleep and how to send, as may others:
///
///     weir::llm::session<Pool>::drive d{session, request, observe, token};
///     while (d.goes_on()) {
///         if (auto const t = d.pause()) …                      // until *t, or a stop is requested
///         else if (d.admitted(d.wait())) send(d.the_call()), d.sent();
///     }
///     return d.end();
///
/// The observer is referred to. It stays where it is.
template <class Pool>
template <class Observe, stoppable_token Token>
class session<Pool>::drive {
public:
    drive(session& s, request const& r, Observe& observe, Token token)
        : session_{s}, observe_{observe}, token_{std::move(token)}, call_{s, r} {}

    bool goes_on() {
        if (!call_.over() && token_.stop_requested()) call_.give_up(call_end::stopped);
        return !call_.over();
    }
    /// Until when it pauses, if it does: by itself, with no place in the line.
    std::optional<time_point> pause() {
        time_point const until = std::min(call_.pause_until_, call_.request_.deadline);
        if (session_.clock().now() >= until) return std::nullopt;
        if (std::exchange(paused_until_, until) != until) see({step_kind::pause, until, call_.outcome_.last.reason});
        return until;
    }
    /// Waits in the line, to be sent.
    auto wait() {
        joins();
        return session_.line_.try_acquire_until(attempt(), call_.request_.deadline, token_);
    }
    template <class Timer>
    auto wait(Timer& timer) {
        joins();
        return session_.line_.async_try_acquire_until(attempt(), call_.request_.deadline, timer, token_);
    }
    /// Takes what wait() gave. True: to be sent now.
    template <class Admission>
    bool admitted(Admission const& a) {
        if (call_.over()) return false;
        if (a) {
            see({step_kind::send, call_.stamp(), {}});
            return true;
        }
        switch (a.why()) {
            case waited::never: break;  // it pauses
            case waited::stopped: call_.give_up(call_end::stopped); break;
            case waited::line_full: call_.give_up(call_end::line_full); break;
            default:
                call_.finish(call_end::deadline,
                             call_.waits_for_.empty() ? call_.reason_or("no time was left for it") : call_.waits_for_);
                break;
        }
        return false;
    }
    call& the_call() noexcept { return call_; }
    /// The sender has returned.
    void sent() {
        if (call_.under_way()) call_.lost();
    }
    outcome const& end() {
        see({step_kind::over, session_.clock().now(), call_.outcome_.why});
        return call_.outcome_;
    }

private:
    void see(step s) { observe_(progress{s, call_.result(), call_.begun()}); }
    void joins() {
        told_ = {};
        if (session_.line_.waiting() == 0) return;
        told_ = call_.waits_for_ = "others wait before it";
        see({step_kind::wait, call_.request_.deadline, told_});
    }
    auto attempt() {
        return [this](gate&) {
            auto const d = call_.ask(session_.clock().now());
            if (!d && !call_.over() && !d.never() && call_.waits_for_.data() != told_.data()) {
                told_ = call_.waits_for_;
                see({step_kind::wait, std::min(d.when, call_.request_.deadline), told_});
            }
            return d;
        };
    }

    session& session_;
    Observe& observe_;
    Token token_;
    call call_;
    std::string_view told_{};  // what it waits for, as the observer knows
    time_point paused_until_ = time_point::min();
};

template <class Pool>
template <class Send, class Observe, stoppable_token Token>
auto session<Pool>::run(request const& r, Send&& send, Observe&& observe, Token token) -> outcome {
    drive<std::remove_reference_t<Observe>, Token> d{*this, r, observe, token};
    wait_point seat;
    struct wake {
        wait_point* seat;
        void operator()() const { seat->notify(); }
    };
    while (d.goes_on()) {
        if (auto const until = d.pause()) {
            [[maybe_unused]] typename stop_callback_for<Token, wake>::type const on_stop{token, wake{&seat}};
            wait_until(clock(), seat, *until);
        } else if (d.admitted(d.wait())) {
            send(d.the_call());
            d.sent();
        }
    }
    return d.end();
}

}  // namespace weir::inline v0::llm
