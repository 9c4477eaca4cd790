// SPDX-License-Identifier: MIT
//
// sliding_window_counter: at most `limit` permits in ANY window of a given length, weighted, in O(1) and lock-free.
//
// Time is divided into segments of L ticks, and a window is B of them: L = ceil(W/B), so that B·L >= W. At segment e
// the limiter counts the B segments before it and e itself, so every window that ends in e is covered whole. That
// costs one segment: the rate that can be kept up is W/((B + 1)·L) of the limit. detail/window_layout.hpp has the bits
// and the greatest limits, detail/window_state.hpp the protocol.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "atomics.hpp"
#include "clock/clock.hpp"
#include "detail/blocking.hpp"
#include "detail/window_core.hpp"
#include "error.hpp"
#include "limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// How a sliding_window_counter divides its window, and what it holds at the start.
struct counter_options {
    /// At most so many segments make a window. 125 is the largest divisor of a second, a minute and an hour in
    /// milli-, micro- and nanoseconds whose ring has 128 words, 1 KiB; it keeps up 99.2% of the limit. 250, 500 and
    /// 1000 divide as well and keep up 99.6%, 99.8% and 99.9% with rings of 2, 4 and 8 KiB.
    permit_count segments = 125;
    /// Permits available at the start; the rest of the limit counts as taken just before it, for one window. A process
    /// that may have forgotten its last window starts with 0.
    permit_count initial = all_permits;
};

/// At most `limit` permits in ANY window of the given length.
///
///     weir::sliding_window_counter wide{1'000'000, 60s};
///     if (auto d = wide.try_acquire(250)) work(); else retry_later(d.retry_after());
///
/// **Promise.** Over effective times, in any window W at most `limit` permits are granted and not refunded. The
/// effective time of a grant is max(the time point given, start of the open segment). The open segment is the latest
/// in which permits were granted (by try_acquire, settle) or the limit was changed. Nothing else moves it. With a
/// monotone clock of its own, the effective time lies between call and return. Time points that go back keep the
/// promise over effective times, and over themselves where none is before the open segment. A time point ahead of the
/// clock is trusted, and holds later calls to it; one before the start counts as the start.
/// A denial changes nothing. It is one that an exact log of window (B + 1)·L would also make; or it overlaps an
/// unfinished attempt or refund, or a refund of a past segment that the next segment shows. An attempt that opens its
/// segment and then loses the room to a concurrent grant is denied, and the segment stays open.
///
/// **Cost.** A grant is three loads and one compare-exchange; a denial only loads. The first attempt in a new segment
/// moves the counter on, O(B).
///
/// **Progress.** Lock-free: a thread that stops anywhere stops no other. If it stops before it asks a decision for
/// retry_at() or full_at() and the ring has turned round, the answer may be too early; the exact one is past by then.
/// After eight changes of the limit, these and never() go by a later limit.
///
/// **Memory order.** Grants and denials order nothing between callers. A thread that sees a refund's lowered sum
/// through used() sees what came before the refund.
template <clock Clock = std::chrono::steady_clock, class Atomics = std_atomics>
class alignas(detail::cache_line) sliding_window_counter
    : public detail::blocking<sliding_window_counter<Clock, Atomics>> {
    using core = detail::window_core<Clock, Atomics>;
    using box = detail::clock_box<Clock>;
    template <class Rep, class Period>
    using any_duration = std::chrono::duration<Rep, Period>;

public:
    using clock_type = typename core::clock_type;
    using duration = typename core::duration;
    using time_point = typename core::time_point;
    using amount = permit_count;
    using options_type = counter_options;
    /// What an attempt returns.
    using decision = typename core::decision;

    /// The limits that `change` takes. The window of a counter cannot change.
    struct limits_type {
        permit_count limit;
        friend constexpr bool operator==(limits_type const&, limits_type const&) = default;
    };

    /// A refund gives back in full: an all_of charges such limiters first.
    static constexpr bool refunds_in_full = true;

    /// Whether such a counter can be made. The window is rounded up to ticks. Errors (invalid_argument): a limit of 0
    /// or a negative one; a window that is not positive, or of 2^60 ticks and more; no segments, or more than 65,536; a
    /// limit that does not fit in one word with 30 years of segments (the table in detail/window_layout.hpp); a clock
    /// whose step is longer than a segment and a tenth of the window. Between the two the clock's step becomes the
    /// segment.
    template <class Rep, class Period>
    static constexpr weir::error validate(permit_count limit, any_duration<Rep, Period> window,
                                          options_type options = {}, duration resolution = duration{1}) noexcept {
        return layout(limit, rounded(window), options, resolution).problem;
    }

    /// At most `limit` permits in any `window`. Segments count from `origin`, by default the time of construction:
    /// counters with one origin and one division share their segments.
    /// Errors: see validate. Allocates 8 bytes a segment, rounded up to a power of two segments.
    template <class Rep, class Period, std::default_initializable Box = box>
    explicit sliding_window_counter(permit_count limit, any_duration<Rep, Period> window, options_type options = {})
        : sliding_window_counter{Box{}, limit, rounded(window), options} {}
    template <class Rep, class Period, std::default_initializable Box = box>
    explicit sliding_window_counter(permit_count limit, any_duration<Rep, Period> window, options_type options,
                                    time_point origin)
        : sliding_window_counter{Box{}, limit, rounded(window), options, origin} {}
    template <class Rep, class Period, detail::clock_for<Clock> C>
    explicit sliding_window_counter(permit_count limit, any_duration<Rep, Period> window, C&& clock)
        : sliding_window_counter{limit, window, options_type{}, std::forward<C>(clock)} {}
    template <class Rep, class Period, detail::clock_for<Clock> C>
    explicit sliding_window_counter(permit_count limit, any_duration<Rep, Period> window, options_type options,
                                    C&& clock)
        : sliding_window_counter{box{std::forward<C>(clock)}, limit, rounded(window), options} {}
    template <class Rep, class Period, detail::clock_for<Clock> C>
    explicit sliding_window_counter(permit_count limit, any_duration<Rep, Period> window, options_type options,
                                    time_point origin, C&& clock)
        : sliding_window_counter{box{std::forward<C>(clock)}, limit, rounded(window), options, origin} {}

    template <class Rep, class Period>
    sliding_window_counter(std::chrono::duration<Rep, Period>, permit_count) = delete;  // the limit comes first
    sliding_window_counter(sliding_window_counter const&) =
        delete;  // does not move: use try_emplace, deque or unique_ptr
    sliding_window_counter& operator=(sliding_window_counter const&) = delete;
    ~sliding_window_counter() = default;

    /// The counter, or the reason why there is none. `more`: origin and clock, as for the constructors.
    template <class Rep, class Period, class... More>
    [[nodiscard("make() returns the limiter or an error")]] static result<sliding_window_counter> make(
        permit_count limit, any_duration<Rep, Period> window, options_type options = {}, More&&... more)
        requires std::constructible_from<sliding_window_counter, permit_count, any_duration<Rep, Period>, options_type,
                                         More...>
    {
        duration const step = detail::resolution_among<Clock>(more...);
        if (auto e = validate(limit, window, options, step)) return e;
        return result<sliding_window_counter>{std::in_place, limit, window, options, std::forward<More>(more)...};
    }

    // ---- taking ----

    /// Takes `n` permits at `t` if the window then holds no more than the limit. 0 is granted and takes nothing; more
    /// than the limit is never granted.
    [[gnu::__always_inline__]] decision try_acquire(permit_count n, time_point t) noexcept { return core_.take(n, t); }
    [[gnu::__always_inline__]] decision try_acquire(time_point t) noexcept { return core_.take(1, t); }
    /// With an approximate_clock it is tried at now_approx() first: a denial there is one at any earlier time.
    [[gnu::__always_inline__]] decision try_acquire(permit_count n = 1) noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (auto d = core_.look_approx(n); !d) return d;
        }
        return core_.take(n, clock().now());
    }

    /// What try_acquire would answer. Changes nothing; remaining() is what is available.
    [[gnu::__always_inline__]] decision check(permit_count n, time_point t) const noexcept { return core_.look(n, t); }
    [[gnu::__always_inline__]] decision check(time_point t) const noexcept { return core_.look(1, t); }
    [[gnu::__always_inline__]] decision check(permit_count n = 1) const noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (auto d = core_.look_approx(n); !d) return d;
        }
        return core_.look(n, clock().now());
    }

    // ---- correcting ----

    /// Gives back what is live on a grant, or k of it, where it was charged, and returns by how much its count was
    /// lowered: 0 when nothing is live any more (a second refund), when the ring has reused the segment, when the count
    /// was at its maximum, and for a decision of another limiter. Permits of a past segment become available with the
    /// next one, at most one segment late. Only for what certainly was not used. O(1).
    permits refund(decision& d) noexcept { return core_.give_back(d, all_permits); }
    permits refund(decision& d, permit_count k) noexcept { return core_.give_back(d, k); }

    /// Corrects a grant to what was really used, once: what is left goes back as by refund; more is charged at `t` even
    /// above the limit, and blocks later grants. False when it was settled or refunded before, or actual is negative.
    [[nodiscard("false: it was settled or refunded before")]] bool settle(decision& d, permit_count actual,
                                                                          time_point t) noexcept {
        return core_.settle_at(d, actual, t);
    }
    [[nodiscard("false: it was settled or refunded before")]] bool settle(decision& d, permit_count actual) noexcept {
        return core_.settle_at(d, actual, clock().now());
    }

    /// Books n permits that were used at `t`, in an earlier run or elsewhere, whether they fit or not: they block later
    /// grants. What is out of the window already is ignored. Only before the limiter is shared, where `t` may be before
    /// the open segment. The count saturates.
    void restore(permit_count n, time_point t) noexcept {
        if (!n.invalid()) core_.restore(n, detail::ticks(t));
    }

    // ---- looking ----

    /// The limit less what the window holds, 0 where that is more. O(1) in the open segment, else O(K).
    permits available(time_point t) const noexcept { return core_.available(detail::ticks(t)); }
    permits available() const noexcept { return available(clock().now()); }

    /// What the window that ends at `t` holds, as the limiter counts it, more than the limit after settle or restore:
    /// for a time ahead, if no call takes until then; before the open segment, the open segment's. An acquire.
    permits used(time_point t) const noexcept { return core_.used(detail::ticks(t)); }
    permits used() const noexcept { return used(clock().now()); }

    /// The limit in force.
    limits_type limits() const noexcept { return {limit()}; }
    permits limit() const noexcept { return core_.limit(); }
    duration window() const noexcept { return core_.window(); }
    /// B: how many segments a window has; at most what was asked for.
    std::uint32_t segments() const noexcept { return core_.segments(); }
    /// L: window() / segments(), rounded up.
    duration segment_length() const noexcept {
        return detail::time_of_tick<time_point>(static_cast<std::int64_t>(core_.scale().length())).time_since_epoch();
    }
    /// The greatest limit that `change` accepts.
    permits max_limit() const noexcept { return core_.max_limit(); }
    clock_type const& clock() const noexcept { return core_.clock(); }

    // ---- changing ----

    /// Puts another limit in force; permits already taken stay taken. Every attempt is decided by one of the two limits
    /// whole. The limit in force changes nothing; another one moves the open segment to that of `t`, as a grant does.
    /// Lock-free. Errors: a limit of 0 or a negative one (invalid_argument); above max_limit() (does_not_fit); busy,
    /// when it was changed seven times in this segment: ask again in the next.
    weir::error change(limits_type to, time_point t) noexcept {
        if (to.limit.invalid()) return {"the number of permits must not be negative"};
        if (to.limit == limit()) return {};
        return core_.change_limit(to.limit, detail::ticks(t));
    }
    weir::error change(limits_type to) noexcept { return change(to, clock().now()); }

private:
    template <class Rep, class Period>
    static constexpr duration rounded(any_duration<Rep, Period> d) noexcept {
        return detail::saturating_ceil<duration>(d);
    }
    static constexpr detail::window_layout layout(permit_count limit, duration window, options_type options,
                                                  duration resolution) noexcept {
        if (options.initial.invalid()) return core::layout(options.initial, window, options.segments, resolution);
        return core::layout(limit, window, options.segments, resolution);
    }
    static detail::window_layout checked(detail::window_layout const& p) {
        detail::ensure(p.problem);
        return p;
    }
    sliding_window_counter(box&& b, permit_count limit, duration window, options_type options)
        : sliding_window_counter{std::move(b), limit, window, options, time_point{b.get().now()}} {}
    sliding_window_counter(box&& b, permit_count limit, duration window, options_type options, time_point origin)
        : core_{std::move(b), checked(layout(limit, window, options, resolution_of(b.get()))),
                limit,        options.initial,
                window,       origin} {}

    core core_;
};

template <class Rep, class Period>
sliding_window_counter(std::chrono::duration<Rep, Period>, permit_count)
    -> sliding_window_counter<std::chrono::steady_clock>;
template <class Rep, class Period>
sliding_window_counter(permit_count, std::chrono::duration<Rep, Period>, counter_options = {})
    -> sliding_window_counter<>;
template <class Rep, class Period>
sliding_window_counter(permit_count, std::chrono::duration<Rep, Period>, counter_options,
                       std::chrono::steady_clock::time_point) -> sliding_window_counter<>;
template <class Rep, class Period, detail::clock_or_reference C>
sliding_window_counter(permit_count, std::chrono::duration<Rep, Period>, C)
    -> sliding_window_counter<detail::clock_argument_t<C>>;
template <class Rep, class Period, detail::clock_or_reference C>
sliding_window_counter(permit_count, std::chrono::duration<Rep, Period>, counter_options, C)
    -> sliding_window_counter<detail::clock_argument_t<C>>;
template <class Rep, class Period, class Origin, detail::clock_or_reference C>
sliding_window_counter(permit_count, std::chrono::duration<Rep, Period>, counter_options, Origin, C)
    -> sliding_window_counter<detail::clock_argument_t<C>>;

static_assert(limiter<sliding_window_counter<>>);

}  // namespace weir::inline v0

#pragma pop_macro("check")
