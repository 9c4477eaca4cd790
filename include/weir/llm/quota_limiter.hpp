// SPDX-License-Identifier: MIT
//
// quota_limiter: paces an LLM client so that a server which enforces a quota in sliding windows never refuses it.
//
// Promise: no refusal by such a server, under the conditions below; sustained, min(RPM, RPS×60) requests and
// min(TPM, TPS×60) tokens a minute, less the margin J, a thousandth for segments, and what is held for outputs.
//
// **The margin J.** The server counts arrivals, the client stamps. Let s be a stamp and the arrival a = s + d + e,
// with d the same for all calls and 0 ≤ e ≤ J. If a lies in a window (x, x + W] of the server's then s lies in
// (x − d − J, x − d + W], a window of length W + J. The client lets no more than the limit into any window of W + J, so
// the server counts no more than the limit in any W. Conditions: J covers the whole range of the delay over time, a
// stall between stamp and send included; it also covers both clocks' resolution and drift·(W + J); the connection is
// open when the stamp is taken; no other client uses the account. J costs J/(W + J) of the rate: a hundredth of a
// one-second window at 10 ms. Measure it.
//
// **Tokens.** A server may charge output when it ends, or max_tokens on arrival. Whenever it charges a token, the
// client must:
//     accounting      from the stamp, for W + J      until the reply is read           from then on, for W + J
//     any             input                          output's bound, held              the output used
//     actual, input_strict   as any, but a call's own output need not fit: it is held against those that follow
//     reserve         input + output's bound, corrected at the stamp's place when the reply is read
// Each row charges at least what its server does: `any` charges the bound for as long as a reserving server can, and
// the output for a window after the last moment at which another can have charged it. (actual and input_strict assume
// that a reply takes longer than J.) A hold ends with settle or refund. Without them (a caller that died, a call cut
// off) it ends by itself at stamp + T + W + J. T is `server_timeout`, after which the server can charge nothing any
// more, and W the longer of the token windows.
//
// A hold costs what it holds. With inputs in, outputs out, bound M, latency l and window W, the share of the ideal is
// about
//     (in + out)·W / (in·(W + J) + out·W + M·l)
// (in 500, out 300, l 10 s: 89% at M = 600, 71% at 2,000, 37% at 8,192). So keep max_tokens tight, and where the
// server's mode is known, say it. In a one-second window a hold is ruinous: give tps only where it is enforced.
//
// **Composition.** All limits or none; detail/quota_windows.hpp says how.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "../detail/blocking.hpp"
#include "../detail/window_core.hpp"
#include "../error.hpp"
#include "../limiter.hpp"
#include "detail/quota_core.hpp"
#include "detail/quota_layout.hpp"
#include "quota.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0::llm {

/// All limits of a quota at once, for calls of one request and so many tokens.
///
///     weir::llm::quota_limiter quota{weir::llm::quota{.rpm = 600, .rps = 10, .tpm = 1'000'000}};
///     auto d = quota.try_acquire({.input = input_bound, .output = max_tokens});
///     if (d) quota.settle(d, call()); else log(to_string(d.denied_by()), d.retry_after());
///
/// Lock-free; nothing is allocated after construction. O(1), except for the first call in a new segment, which is
/// O(segments). Memory order: as sliding_window_counter's.
template <clock Clock = std::chrono::steady_clock, class Atomics = std_atomics>
class alignas(weir::detail::cache_line) quota_limiter : public weir::detail::blocking<quota_limiter<Clock, Atomics>> {
    using box = weir::detail::clock_box<Clock>;
    using core = detail::quota_core<Clock, Atomics>;

public:
    using clock_type = typename weir::detail::clock_traits<Clock>::type;
    using time_point = typename clock_type::time_point;
    using duration = typename clock_type::duration;
    using amount = tokens;
    using limits_type = quota;
    using options_type = quota_options;
    using remaining = quota;  ///< what each limit has left; absent where it is not enforced
    using atomics = Atomics;
    using decision = typename core::decision;  ///< what an attempt returns

    /// A call of an earlier run, for `restore`.
    struct past_call {
        time_point sent;                       ///< its stamp
        tokens charge;                         ///< what it used, or, without an end, its bounds
        std::optional<time_point> finished{};  ///< when its reply was read
    };

    /// What is wrong with these arguments: a limit of 0 or a negative one, a negative margin, a limit too large for its
    /// window's words, a clock too coarse for a second.
    static error validate(quota const& q, quota_options const& o = {}, duration resolution = duration{1}) {
        return layout::make(q, o, resolution).problem;
    }

    /// Segments count from `origin`, by default the time of construction. Errors: see validate. Allocates its windows,
    /// some 8 KiB for each limit.
    template <std::default_initializable Box = box>
    explicit quota_limiter(quota q, quota_options o = {}) : quota_limiter{Box{}, q, o} {}
    template <std::default_initializable Box = box>
    explicit quota_limiter(quota q, quota_options o, time_point origin) : quota_limiter{Box{}, q, o, origin} {}
    template <weir::detail::clock_for<Clock> C>
    explicit quota_limiter(quota q, C&& clock) : quota_limiter{q, quota_options{}, std::forward<C>(clock)} {}
    template <weir::detail::clock_for<Clock> C>
    explicit quota_limiter(quota q, quota_options o, C&& clock) : quota_limiter{box{std::forward<C>(clock)}, q, o} {}
    template <weir::detail::clock_for<Clock> C>
    explicit quota_limiter(quota q, quota_options o, time_point origin, C&& clock)
        : quota_limiter{box{std::forward<C>(clock)}, q, o, origin} {}

    quota_limiter(quota_limiter const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    quota_limiter& operator=(quota_limiter const&) = delete;
    ~quota_limiter() = default;

    /// The limiter, or the error. `more`: origin and clock, as for the constructors.
    template <class... More>
    [[nodiscard("make() returns the limiter or an error")]] static result<quota_limiter> make(quota q,
                                                                                              quota_options o = {},
                                                                                              More&&... more)
        requires std::constructible_from<quota_limiter, quota, quota_options, More...>
    {
        if (auto e = validate(q, o, weir::detail::resolution_among<Clock>(more...))) return e;
        return result<quota_limiter>{std::in_place, q, o, std::forward<More>(more)...};
    }

    // ---- taking ----

    /// One request and the tokens that it may use at most. Tokens of 0 ask for a request alone; a negative number is
    /// denied for good. Where the split is not known, name all of it as output. A denial changes nothing.
    decision try_acquire(tokens n) noexcept { return core_.take(n, clock().now()); }
    decision try_acquire(tokens n, time_point t) noexcept { return core_.take(n, t); }

    /// What try_acquire would answer. Changes nothing.
    decision check(tokens n) const noexcept { return core_.look(n, clock().now()); }
    decision check(tokens n, time_point t) const noexcept { return core_.look(n, t); }

    // ---- correcting ----

    /// The reply was read, and this is what the call used. Holds end; what was overestimated is given back where it was
    /// charged; more than was asked for is debt, charged now: it blocks later calls and is outside the promise. Once:
    /// false when `d` was settled or refunded before, or is another limiter's, and for a negative number.
    [[nodiscard("false: it was settled or refunded before")]] bool settle(decision& d, tokens used) noexcept {
        return core_.settle_at(d, used, clock().now());
    }
    [[nodiscard("false: it was settled or refunded before")]] bool settle(decision& d, tokens used,
                                                                          time_point t) noexcept {
        return core_.settle_at(d, used, t);
    }

    /// The request certainly never left: gives back all of it, exactly, once. Returns the tokens that were asked for
    /// and not given back before; none when it was settled or refunded before.
    tokens refund(decision& d) noexcept { return core_.undo(d); }
    /// Gives back some of the tokens, at most those that were asked for; the request and the others stay taken. Returns
    /// the tokens given back.
    tokens refund(decision& d, tokens some) noexcept { return core_.undo(d, some); }

    /// Books what others used of the same account, as if sent at `t`: it need not fit, and blocks later calls until it
    /// ages out or is given back by `refund`, in part or whole. What is 0 or not limited is ignored.
    decision charge(quota const& use, time_point t) noexcept { return core_.book(use, t); }
    /// Some of what `charge` booked; of each limit at most what is left of it. Returns what was given back.
    quota refund(decision& d, quota const& some) noexcept { return core_.undo(d, some); }

    /// Before the limiter is shared: books calls of an earlier run, at their stamps on this clock. Calls without an
    /// end are held as if they were in flight.
    void restore(std::span<past_call const> calls) noexcept {
        for (auto const& c : calls) {
            core_.restore(c.charge, weir::detail::ticks(c.sent), c.finished.has_value(),
                          weir::detail::ticks(c.finished.value_or(c.sent)));
        }
    }

    // ---- looking ----

    /// What each limit has left. A number that is negative by debt is 0.
    quota available() const noexcept { return available(clock().now()); }
    quota available(time_point t) const noexcept {
        return core_.each([&](std::size_t i) { return core_.available(i, weir::detail::ticks(t)); });
    }

    /// What the windows hold, of tokens with what is held for calls in flight: more than the limit after an overrun.
    quota used() const noexcept { return used(clock().now()); }
    quota used(time_point t) const noexcept {
        return core_.each([&](std::size_t i) { return core_.used(i, weir::detail::ticks(t)); });
    }

    /// The limits in force.
    quota limits() const noexcept {
        return core_.each([this](std::size_t i) { return core_.at(i).limit(); });
    }
    clock_type const& clock() const noexcept { return core_.clock(); }
    quota_options const& options() const noexcept { return core_.options(); }

    // ---- changing ----

    /// Puts other limits in force. Which limits are enforced cannot change, only their size. What was charged stays
    /// charged; a lowered limit admits again when enough has aged out. Each limit changes at once for all threads, one
    /// after the other; the error "changed seven times" (busy) may leave the later ones unchanged: ask again. Other
    /// errors change nothing.
    error change(quota q) noexcept { return core_.change(q, clock().now()); }
    error change(quota q, time_point t) noexcept { return core_.change(q, t); }

private:
    using layout = detail::quota_layout<duration>;

    static layout checked(layout const& all) {
        weir::detail::ensure(all.problem);
        return all;
    }
    quota_limiter(box&& b, quota q, quota_options o) : quota_limiter{std::move(b), q, o, time_point{b.get().now()}} {}
    quota_limiter(box&& b, quota q, quota_options o, time_point origin)
        : core_{std::move(b), checked(layout::make(q, o, resolution_of(b.get()))), o, origin} {}

    core core_;
};

quota_limiter(quota, quota_options = {}) -> quota_limiter<>;
quota_limiter(quota, quota_options, std::chrono::steady_clock::time_point) -> quota_limiter<>;
template <weir::detail::clock_or_reference C>
quota_limiter(quota, C) -> quota_limiter<weir::detail::clock_argument_t<C>>;
template <weir::detail::clock_or_reference C>
quota_limiter(quota, quota_options, C) -> quota_limiter<weir::detail::clock_argument_t<C>>;
template <class Origin, weir::detail::clock_or_reference C>
quota_limiter(quota, quota_options, Origin, C) -> quota_limiter<weir::detail::clock_argument_t<C>>;

static_assert(weir::limiter<quota_limiter<>>);

}  // namespace weir::inline v0::llm

#pragma pop_macro("check")
