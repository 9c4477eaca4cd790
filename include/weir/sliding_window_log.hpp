// SPDX-License-Identifier: MIT
//
// sliding_window_log: at most N permits in ANY window of a given length, exactly and lock-free.
//
// It keeps the time stamps of the last N permits, 8 bytes each. detail/log_layout.hpp has their bits,
// detail/log_tree.hpp the tree that finds the oldest of them, detail/log_slots.hpp the protocol and why the promise
// holds.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "atomics.hpp"
#include "clock/clock.hpp"
#include "detail/blocking.hpp"
#include "detail/log_core.hpp"
#include "error.hpp"
#include "limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// What is available at the start, and how far the limit may be raised.
struct sliding_window_log_options {
    /// The rest of the limit counts as taken at the origin, and is available one window later. A process that may have
    /// forgotten its last window starts with 0.
    permit_count initial = all_permits;
    /// The greatest limit that `change` accepts; memory is allocated for it. 0: the limit.
    permit_count capacity = 0;
};

/// At most `limit` permits in ANY window of the given length. Windows are half-open: of two instants one window apart,
/// only one is in it.
///
///     weir::sliding_window_log exact{10, 1s};
///     if (auto d = exact.try_acquire()) work(); else retry_later(d.retry_after());
///
/// **Promise.** The effective time of a grant is the time point passed, in whatever order they come. In any window at
/// most `limit` permits are granted and not refunded. When time points do not go back, decisions and retry_at are those
/// of an exact log: a denial is the exact log's, or it overlaps an unfinished attempt or refund. A check or a denial
/// changes no later answer, at any time point, with one exception: an attempt for more than 16 permits that lost a race
/// may leave less room at time points before its own. A time point in the future is trusted: it denies others until one
/// window past it. Time points more than 2^57 ticks (4.5 years of nanoseconds) less a window before the origin count as
/// that. After the horizon, at least 30 years, nothing is granted.
///
/// **Cost.** 8 bytes a permit and a 16th more, allocated at construction. A grant of one permit is a few loads and one
/// compare-exchange; one in eight needs a second. A denial of one permit is two to nine loads, and for each slot
/// written since the last denial a look at log N (base 32) nodes of 32 words: O(log N) amortised. A refund is one
/// compare-exchange and two exchanges a level. Of several permits, a denial is one load where none is free, else O(free
/// + log N); its retry_at, found when first asked, is O(n + log N) where time points do not go back. available and
/// remaining are O(free + log N); full_at and change are O(N).
///
/// **Progress.** Lock-free: a thread that stops anywhere stops no other. `change` excludes other changes.
///
/// **Memory order.** Grants and denials order nothing between callers.
template <clock Clock = std::chrono::steady_clock, class Atomics = std_atomics>
class alignas(detail::cache_line) sliding_window_log : public detail::blocking<sliding_window_log<Clock, Atomics>> {
    using core = detail::log_core<Clock, Atomics>;
    using box = detail::clock_box<Clock>;
    template <class Rep, class Period>
    using any_duration = std::chrono::duration<Rep, Period>;

public:
    using clock_type = typename core::clock_type;
    using duration = typename core::duration;
    using time_point = typename core::time_point;
    using amount = permit_count;
    using options_type = sliding_window_log_options;
    using decision = typename core::decision;

    /// What the limiter enforces.
    struct limits_type {
        permit_count limit;
        duration window;
        friend constexpr bool operator==(limits_type const&, limits_type const&) = default;
    };

    /// A refund gives back all that was taken: an all_of charges such limiters first.
    static constexpr bool refunds_in_full = true;

    /// Whether such a log can be made. The window is rounded up to ticks. Errors (invalid_argument): a
    /// limit of 0; a limit or capacity above 2^24; a capacity below the limit; a negative number; a window that is not
    /// positive or above 359 days (of nanoseconds: 30 years and the window must fit 60 bits); ticks so short that 30
    /// years do not fit; a clock whose step is longer than the window.
    template <class Rep, class Period>
    static constexpr weir::error validate(permit_count limit, any_duration<Rep, Period> window,
                                          options_type options = {}, duration resolution = duration{1}) noexcept {
        return detail::validate_log(limit, options.initial, options.capacity, rounded(window), resolution,
                                    detail::log_slots<Atomics>::max_slots);
    }

    /// At most `limit` permits in any `window`. Stamps count from `origin`, by default the time of construction.
    /// Errors: see validate.
    template <class Rep, class Period, std::default_initializable Box = box>
    explicit sliding_window_log(permit_count limit, any_duration<Rep, Period> window, options_type options = {})
        : sliding_window_log{Box{}, limit, rounded(window), options} {}
    template <class Rep, class Period, std::default_initializable Box = box>
    explicit sliding_window_log(permit_count limit, any_duration<Rep, Period> window, options_type options,
                                time_point origin)
        : sliding_window_log{Box{}, limit, rounded(window), options, origin} {}
    template <class Rep, class Period, detail::clock_for<Clock> C>
    explicit sliding_window_log(permit_count limit, any_duration<Rep, Period> window, C&& clock)
        : sliding_window_log{limit, window, options_type{}, std::forward<C>(clock)} {}
    template <class Rep, class Period, detail::clock_for<Clock> C>
    explicit sliding_window_log(permit_count limit, any_duration<Rep, Period> window, options_type options, C&& clock)
        : sliding_window_log{box{std::forward<C>(clock)}, limit, rounded(window), options} {}
    template <class Rep, class Period, detail::clock_for<Clock> C>
    explicit sliding_window_log(permit_count limit, any_duration<Rep, Period> window, options_type options,
                                time_point origin, C&& clock)
        : sliding_window_log{box{std::forward<C>(clock)}, limit, rounded(window), options, origin} {}

    template <class Rep, class Period>
    sliding_window_log(std::chrono::duration<Rep, Period>, permit_count) = delete;  // the limit comes first
    sliding_window_log(sliding_window_log const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    sliding_window_log& operator=(sliding_window_log const&) = delete;
    ~sliding_window_log() = default;

    /// The log, or the error. `more`: origin and clock, as for the constructors.
    template <class Rep, class Period, class... More>
    [[nodiscard("make() returns the limiter or an error")]] static result<sliding_window_log> make(
        permit_count limit, any_duration<Rep, Period> window, options_type options = {}, More&&... more)
        requires std::constructible_from<sliding_window_log, permit_count, any_duration<Rep, Period>, options_type,
                                         More...>
    {
        duration const step = detail::resolution_among<Clock>(more...);
        if (auto e = validate(limit, window, options, step)) return e;
        return result<sliding_window_log>{std::in_place, limit, window, options, std::forward<More>(more)...};
    }

    // ---- taking ----

    /// Takes `n` permits at `t`, or none. 0 is granted and takes nothing; more than the limit is never granted.
    ///
    /// For n > 1 the slots are counted and then taken one by one. If other calls leave too few, those taken are given
    /// back, and a denial of others may overlap that. Each slot keeps the promise by itself. If the limit is lowered
    /// meanwhile, what was given back counts for a window.
    [[gnu::__always_inline__]] decision try_acquire(permit_count n, time_point t) noexcept {
        if (n == 1) [[likely]]
            return core_.take(t);
        return core_.take_many(n, t);
    }
    decision try_acquire(time_point t) noexcept { return core_.take(t); }
    /// At the clock's time. With an approximate_clock, a single permit is tried at now_approx() first.
    [[gnu::__always_inline__]] decision try_acquire(permit_count n = 1) noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (n == 1) {
                if (auto d = core_.check_approx(); !d) return d;
            }
        }
        return try_acquire(n, clock().now());
    }

    /// What try_acquire would answer. Takes nothing; remaining() is what is available.
    [[gnu::__always_inline__]] decision check(permit_count n, time_point t) const noexcept {
        if (n == 1) [[likely]]
            return core_.check(t);
        return core_.check_many(n, t);
    }
    decision check(time_point t) const noexcept { return core_.check(t); }
    [[gnu::__always_inline__]] decision check(permit_count n = 1) const noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (n == 1) {
                if (auto d = core_.check_approx(); !d) return d;
            }
        }
        return check(n, clock().now());
    }

    // ---- correcting ----

    /// Gives back what a grant took, once, or n of it, and returns how many permits that was. 0 when the grant was
    /// refunded or settled before, when its slot was taken again (the permit is older than a window then), after the
    /// limit was lowered, and for a decision of another limiter. A single permit goes back exactly, its slot to the
    /// stamp before; of several, each becomes free for time points from its own on. Only for what certainly was not
    /// used. O(1) for one permit (O(N) if several of the same time point were given back before it), O(N) for
    /// several.
    permits refund(decision& d) noexcept { return core_.refund(d, all_permits); }
    permits refund(decision& d, permit_count n) noexcept { return core_.refund(d, n); }

    /// Corrects a grant to what was used, once; false when it was refunded or settled before, and for a grant of no
    /// permits. Less is given back as by refund. More is recorded at `t`, whether it is free or not, in place of the
    /// oldest stamps: later attempts are answered as by an exact log that holds it, and the promise still holds for
    /// what was granted. Of more than the limit, only the newest count. O(log N) for each additional permit.
    [[nodiscard("false: it was settled or refunded before")]] bool settle(decision& d, permit_count actual,
                                                                          time_point t) noexcept {
        return core_.settle(d, actual, t);
    }
    [[nodiscard("false: it was settled or refunded before")]] bool settle(decision& d, permit_count actual) noexcept {
        return core_.settle(d, actual, clock().now());
    }

    /// Records n permits used at `t`, in an earlier run or elsewhere, in any order; no refund. Of more than the limit,
    /// the newest count. O(log N) each.
    void restore(permit_count n, time_point t) noexcept { core_.record(n, t); }
    void restore(time_point t) noexcept { core_.record(1, t); }

    // ---- looking ----

    /// How many permits could be taken at `t`. O(as many + log N).
    permits available(time_point t) const noexcept {
        return core_.entries().count_free(core_.stamp_of(t), core_.entries().capacity());
    }
    permits available() const noexcept { return available(clock().now()); }

    limits_type limits() const noexcept { return {limit(), window()}; }
    permits limit() const noexcept { return core_.entries().limit(); }
    duration window() const noexcept { return core_.window(); }
    /// The most that `change` accepts.
    permits capacity() const noexcept { return core_.entries().capacity(); }
    clock_type const& clock() const noexcept { return core_.clock(); }

    /// Calls f(time_point) for each permit that counts at `t`, in no order; see `restore`. O(N).
    template <class F>
    void for_each_held(time_point t, F f) const {
        core_.entries().for_each_held(core_.stamp_of(t), [&](auto stamp) { f(core_.time_of(stamp)); });
    }

    // ---- changing ----

    /// Puts another limit in force. Raised, the new permits are available when this returns; what a lower limit had cut
    /// off and is younger than a window counts again. Lowered, what was taken stays taken: when this returns, a permit
    /// is granted only if the last window holds fewer than the new limit, whatever limit was in force when they were
    /// granted; what was granted before can no longer be refunded. Errors: a limit of 0 or a negative one
    /// (invalid_argument); a limit above the capacity (does_not_fit); another window, since the stamps that a longer
    /// one would need are lost (unsupported); another thread is changing the limit (busy). O(N), and O(N) for each 16
    /// slots of difference. Attempts and refunds continue meanwhile.
    weir::error change(limits_type to) noexcept {
        if (to.limit == 0 || to.limit.invalid()) return {"limit must be at least 1"};
        if (to.limit > capacity()) return {errc::does_not_fit, "limit must be at most the capacity"};
        if (to.window != window()) return {errc::unsupported, "the window of a log cannot change: make another log"};
        if (!core_.entries().change_limit(static_cast<std::uint32_t>(to.limit.value()))) return detail::busy_changing();
        return {};
    }
    /// In force at once.
    weir::error change(limits_type to, time_point) noexcept { return change(to); }

private:
    template <class Rep, class Period>
    static constexpr duration rounded(any_duration<Rep, Period> d) noexcept {
        return detail::saturating_ceil<duration>(d);
    }
    sliding_window_log(box&& b, permit_count limit, duration window, options_type options)
        : sliding_window_log{std::move(b), limit, window, options, time_point{b.get().now()}} {}
    sliding_window_log(box&& b, permit_count limit, duration window, options_type options, time_point origin)
        : core_{std::move(b),
                checked(limit, window, options, resolution_of(b.get())),
                static_cast<std::uint32_t>((std::max<permits>)(limit, options.capacity)),
                static_cast<std::uint32_t>((std::min<permits>)(limit, options.initial)),
                window,
                origin} {}

    static std::uint32_t checked(permit_count limit, duration window, options_type options, duration resolution) {
        detail::ensure(validate(limit, window, options, resolution));
        return static_cast<std::uint32_t>(limit.value());
    }

    core core_;
};

template <class Rep, class Period>
sliding_window_log(std::chrono::duration<Rep, Period>, permit_count) -> sliding_window_log<std::chrono::steady_clock>;
template <class Rep, class Period>
sliding_window_log(permit_count, std::chrono::duration<Rep, Period>, sliding_window_log_options = {})
    -> sliding_window_log<>;
template <class Rep, class Period>
sliding_window_log(permit_count, std::chrono::duration<Rep, Period>, sliding_window_log_options,
                   std::chrono::steady_clock::time_point) -> sliding_window_log<>;
template <class Rep, class Period, detail::clock_or_reference C>
sliding_window_log(permit_count, std::chrono::duration<Rep, Period>, C)
    -> sliding_window_log<detail::clock_argument_t<C>>;
template <class Rep, class Period, detail::clock_or_reference C>
sliding_window_log(permit_count, std::chrono::duration<Rep, Period>, sliding_window_log_options, C)
    -> sliding_window_log<detail::clock_argument_t<C>>;
template <class Rep, class Period, class Origin, detail::clock_or_reference C>
sliding_window_log(permit_count, std::chrono::duration<Rep, Period>, sliding_window_log_options, Origin, C)
    -> sliding_window_log<detail::clock_argument_t<C>>;

static_assert(limiter<sliding_window_log<>>);

}  // namespace weir::inline v0

#pragma pop_macro("check")
