// SPDX-License-Identifier: MIT
//
// At most `limit` permits in ANY window of a given length, weighted, in O(1), lock-free.
//
// Time is cut into segments of L ticks, and a window is B of them: L = ceil(W/B), so that B·L >= W. At segment e the limiter
// counts the B segments before it and e itself, so every window that ends in e is covered whole. What that costs is one
// segment: a denial is one that an exact log of (B + 1)·L would also deny, and the rate that can be kept up is W/((B + 1)·L) of
// the limit.
//
// State, all in 64-bit words; C = count_bits, V = version_bits, and the segment takes what 30 years of segments need:
//     head     segment | closing: 1 | version: V | count of the open segment: C
//     closed   segment | 0          | total of the B segments before it: V + C
//     ring[i]  segment | 0          | count: V + C                (K >= B + 1 of them, a power of two; i = segment mod K)
//     limit[v] segment | 0          | the limit named by version v of head: V + C  (the segment it was written in)
//     released segment | 0          | what refund_visible gave back of what closed counts: V + C   (of another segment: nothing)
// and two that only save work, since they follow from these:
//     ceiling  segment | 0 | version: V | limit less closed's total: C   (what head may reach; another segment or version: unknown)
//     until    the last tick of the open segment, or of an older one
//
// Bits:   window   B     segment   count   greatest limit (one bit is kept for overruns, and V = 3)
//         1 s      125   37        23      4,194,303
//         1 s      1000  40        20      524,287
//         60 s     125   31        29      268,435,455
//         60 s     1000  34        26      33,554,431
//         1 h      125   25        35      17,179,869,183
#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include "atomics.hpp"
#include "clock/clock.hpp"
#include "detail/blocking.hpp"
#include "detail/wide.hpp"
#include "error.hpp"
#include "limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// How a sliding_window_counter divides its window, and what it holds at the start.
struct counter_options {
    /// At most so many segments make a window. 125 by default: the largest divisor of a second, a minute and an hour in
    /// milli-, micro- and nanoseconds whose ring has 128 words, 1 KiB; it keeps up 99.2% of the limit. 250, 500 and
    /// 1000 divide as well and keep up 99.6%, 99.8% and 99.9% with rings of 2, 4 and 8 KiB.
    std::uint32_t segments = 125;
    /// Permits available at the start; at most the limit counts. The others are treated as taken just before
    /// construction and free up one window later. A process that may have forgotten its last window starts with 0.
    permit_count initial = all_permits;
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// Divides by a constant that is known only at run time, with one multiplication. Granlund and Montgomery, "Division by
/// invariant integers using multiplication", theorem 4.2 with N = 63: for l = ceil(log2 d) and
/// 2^(N+l) <= m·d <= 2^(N+l) + 2^l, floor(t/d) = floor(t·m / 2^(N+l)) for every t < 2^63.
struct reciprocal {
    std::uint64_t multiplier = (std::uint64_t{1} << 63U) + 1;
    unsigned shift = 0;

    /// 1 <= d < 2^63.
    static constexpr reciprocal of(std::uint64_t d) noexcept {
        auto const l = static_cast<unsigned>(std::bit_width(d - 1));
        // floor(2^(63+l) / d), which is in [2^63, 2^64): its first bit is 2^l / d, so 63 more of the remainder follow.
        std::uint64_t q = 1;
        std::uint64_t r = (std::uint64_t{1} << l) - d;
        for (int i = 0; i < 63; ++i) {
            r <<= 1U;
            q <<= 1U;
            if (r >= d) {
                r -= d;
                q |= 1U;
            }
        }
        return {q + 1, l};
    }

    /// floor(t/d), exact for t < 2^63.
    constexpr std::uint64_t divide(std::uint64_t t) const noexcept { return mul(t << 1U, multiplier).hi >> shift; }
};

/// How a window is cut, and how a word is. In ticks and segments; no clock.
struct window_layout {
    static constexpr unsigned version_bits = 3;
    static constexpr std::uint32_t max_segments = 1U << 16U;

    std::uint64_t length = 1;    // L, in ticks
    std::uint32_t segments = 1;  // B in use: ceil(W/L), at most what was asked for
    std::uint32_t ring = 8;      // K
    std::uint64_t last = 0;      // the last segment that a word can name
    unsigned count_bits = 1;     // C
    error problem{};

    /// The segment in which the origin lies. The B before it have numbers too, for what was taken before the start.
    constexpr std::uint64_t first() const noexcept { return ring; }

    /// The greatest limit: one bit of the count is for overruns.
    constexpr permits max_limit() const noexcept { return (std::uint64_t{1} << (count_bits - 1)) - 1; }

    static constexpr window_layout make(permits limit, std::int64_t window, std::uint32_t asked,
                                        std::int64_t resolution, std::uint64_t horizon) noexcept {
        window_layout p;
        if (limit == 0) return refuse("limit must be at least 1");
        if (window <= 0) return refuse("window must be positive");
        if (window >> 60U) return refuse("window must be shorter than 2^60 ticks of its clock");
        if (asked == 0) return refuse("segments must be at least 1");
        if (asked > max_segments) return refuse("segments must be at most 65,536");
        auto const w = static_cast<std::uint64_t>(window);
        auto const step = static_cast<std::uint64_t>((std::max<std::int64_t>)(resolution, 1));
        p.length = (w - 1) / asked + 1;
        if (step > p.length) {
            // Shorter segments than the clock's step would only be skipped.
            if (step > w / 10)
                return refuse("the clock is too coarse for the window: more than a tenth of the rate would be lost");
            p.length = step;
        }
        p.segments = static_cast<std::uint32_t>((w - 1) / p.length + 1);
        p.ring = std::bit_ceil((std::max<std::uint32_t>)(p.segments + 1, 8));
        std::uint64_t const needed = horizon / p.length + p.first() + p.segments + 2;
        auto const segment_bits = static_cast<unsigned>(std::bit_width(needed));
        p.last = (std::uint64_t{1} << segment_bits) - 1;
        if (segment_bits + 1 + version_bits + static_cast<unsigned>(std::bit_width(limit)) + 1 > 64) {
            return refuse("the limit does not fit in one word with 30 years of segments: use fewer segments");
        }
        p.count_bits = 64 - segment_bits - 1 - version_bits;
        return p;
    }

    static constexpr window_layout refuse(char const* reason) noexcept {
        window_layout p;
        p.problem = {reason};
        return p;
    }

    /// 30 years in ticks of `Duration`, or what a signed 64-bit count can hold of them.
    template <class Duration>
    static constexpr std::uint64_t horizon() noexcept {
        return (std::min)(thirty_years<Duration>(), (std::uint64_t{1} << 63U) - 1);
    }
};

/// The words, and each step that one of them can take: pure.
class counter_words {
public:
    using word = std::uint64_t;
    static constexpr unsigned versions = 1U << window_layout::version_bits;

    constexpr counter_words() = default;
    constexpr explicit counter_words(unsigned count_bits) noexcept
        : count_bits_{count_bits},
          total_bits_{count_bits + window_layout::version_bits},
          count_mask_{(word{1} << count_bits_) - 1},
          total_mask_{(word{1} << total_bits_) - 1} {}

    // Any word.
    constexpr std::uint64_t segment(word w) const noexcept { return w >> (total_bits_ + 1); }

    // head
    constexpr word open(std::uint64_t segment, unsigned version) const noexcept {
        return (segment << (total_bits_ + 1)) | (word{version} << count_bits_);
    }
    constexpr permits count(word h) const noexcept { return h & count_mask_; }
    constexpr unsigned version(word h) const noexcept {
        return static_cast<unsigned>(h >> count_bits_) & (versions - 1);
    }
    constexpr bool is_closing(word h) const noexcept { return ((h >> total_bits_) & 1U) != 0; }
    constexpr word closing(word h) const noexcept { return h | (word{1} << total_bits_); }
    constexpr word with_version(word h, unsigned version) const noexcept {
        return (h & ~(word{versions - 1} << count_bits_)) | (word{version} << count_bits_);
    }
    /// A charge that is known to fit.
    static constexpr word charged(word h, permits n) noexcept { return h + n; }
    /// A charge whatever there is: the count stays at its maximum once it got there.
    constexpr word overcharged(word h, permits n) const noexcept {
        permits const room = count_mask_ - count(h);
        return h + (std::min)(n, room);
    }
    constexpr bool is_stuck(word h) const noexcept { return count(h) == count_mask_; }
    constexpr permits max_count() const noexcept { return count_mask_; }

    // closed, a ring's word, a limit's
    constexpr word cell(std::uint64_t segment, permits total) const noexcept {
        return (segment << (total_bits_ + 1)) | (std::min)(total, total_mask_);
    }
    constexpr permits total(word w) const noexcept { return w & total_mask_; }

    /// head is open, and this is its closed.
    constexpr bool agree(word h, word closed) const noexcept { return ((h ^ closed) >> total_bits_) == 0; }

    // ceiling
    constexpr word ceiling(word h, permits total, permits limit) const noexcept {
        return (h & ~count_mask_) | (limit - (std::min)(limit, total));
    }
    /// head is open, and this is the ceiling of its segment and version.
    constexpr bool under(word h, word ceiling) const noexcept { return (h ^ ceiling) <= count_mask_; }
    /// How many more head may count when it is under the ceiling.
    static constexpr permits room(word h, word ceiling) noexcept { return h < ceiling ? ceiling - h : 0; }

    /// k fewer in head or a ring's word. What reached the maximum has lost count and stays.
    constexpr word lowered(word w, permits k) const noexcept { return is_stuck(w) ? w : w - (std::min)(k, count(w)); }

    static constexpr unsigned next(unsigned version) noexcept { return (version + 1) & (versions - 1); }

private:
    unsigned count_bits_ = 1;
    unsigned total_bits_ = 1 + window_layout::version_bits;
    word count_mask_ = 1;
    word total_mask_ = (word{1} << (1 + window_layout::version_bits)) - 1;
};

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// At most `limit` permits in ANY window of the given length.
///
///     weir::sliding_window_counter wide{1'000'000, 60s};
///     if (auto d = wide.try_acquire(250)) work(); else wait_until(d.retry_at());
///
/// **Promise.** Over effective times, in any window W at most `limit` permits are granted and not refunded. The effective
/// time of a grant is max(the time point given, start of the open segment). The open segment is the latest in which
/// permits were granted (by try_acquire, settle) or the limit was changed. Only these move it: check, a denial,
/// a refund and a query change nothing, at any time point. With a monotone clock of its own, the effective time lies
/// between call and return. So time points that go back keep the promise over effective times, and over the time points
/// themselves too where none goes back further than the start of the open segment. A time point ahead of the clock is
/// trusted, and holds later calls to it. A time point before the start counts as the start.
/// A denial is one that an exact log of window (B + 1)·L would also make; or it overlaps an unfinished attempt or
/// refund, or a refund of a past segment that the next segment shows. An attempt that finds room, opens its segment and
/// then loses the room to a concurrent grant is denied, and the segment stays open. Sums use the whole word; no rounding
/// favours the caller.
///
/// **Progress.** Lock-free: a thread that stops anywhere stops nobody. A grant is two loads, a third for the limit, and one
/// compare-exchange; a denial only the loads. Who first comes in a new segment advances the counter once, O(K); the others help. Nothing is
/// allocated after construction, nothing divided, nothing floating.
///
/// **Memory order.** Grants and denials order nothing between callers, except where a verb says so.
///
/// Clock: see clock.hpp; `C&` refers to a clock that outlives the limiter. Atomics: see policy.hpp.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
class alignas(detail::cache_line) sliding_window_counter
    : public detail::blocking<sliding_window_counter<Clock, Atomics>> {
    using word = std::uint64_t;
    using words = detail::counter_words;
    using plan = detail::window_layout;

public:
    using amount = permit_count;
    using clock_type = typename detail::clock_traits<Clock>::type;
    using duration = typename detail::clock_traits<Clock>::duration;
    using time_point = typename detail::clock_traits<Clock>::time_point;
    /// A refund gives back all that was taken: an all_of charges such limiters first.
    static constexpr bool refunds_in_full = true;

    /// What was taken where, for refunds: so many permits, still live, of one segment. Only moved, so that none goes back
    /// twice; one moved from is spent. It belongs to the limiter that made it: given to another it frees a stranger's permits.
    class receipt {
    public:
        constexpr receipt() = default;
        constexpr receipt(receipt&& other) noexcept
            : segment_{other.segment_}, live_{std::exchange(other.live_, permits{0})} {}
        constexpr receipt& operator=(receipt&& other) noexcept {
            segment_ = other.segment_;
            live_ = std::exchange(other.live_, permits{0});
            return *this;
        }
        ~receipt() = default;

        /// How many permits have not been refunded.
        constexpr permits live() const noexcept { return live_; }
        /// The number of the segment that was charged.
        constexpr std::uint64_t segment() const noexcept { return segment_; }

    private:
        friend sliding_window_counter;
        constexpr receipt(std::uint64_t segment, permits n) noexcept : segment_{segment}, live_{n} {}

        std::uint64_t segment_ = 0;
        permits live_ = 0;
    };

    /// The limits that `change` takes. The window of a counter cannot change.
    struct limits_type {
        permit_count limit;
        friend constexpr bool operator==(limits_type const&, limits_type const&) = default;
    };

    /// What an attempt returns; see the concept. Of a denial, the answers are computed on request, from the counter as it
    /// then is: the limiter must outlive it, and the cost is O(B).
    class [[nodiscard("a decision says whether the permits were granted")]] decision {
    public:
        constexpr decision() = default;

        constexpr bool granted() const noexcept { return granted_; }
        constexpr explicit operator bool() const noexcept { return granted_; }
        /// More permits than the limit in force, or a negative number.
        bool never() const noexcept { return !granted_ && (limiter_ == nullptr || exceeds(limiter_->limit())); }
        /// Why it is never granted; none where waiting helps.
        weir::error error() const noexcept { return never() ? detail::never_granted(asked_) : weir::error{}; }

        /// When denied, the earliest time at which the attempt is granted if nobody takes or gives back; when granted, the
        /// time of the attempt; time_point::max() when never, or beyond the last segment.
        time_point retry_at() const noexcept {
            if (granted_) return at_;
            if (limiter_ == nullptr) return (time_point::max)();
            permits const limit = limiter_->limit();
            if (exceeds(limit)) return (time_point::max)();
            auto const t = limiter_->first_fit(limit - (std::min)(asked_, limit), at_);
            if constexpr (approximate_clock<clock_type>) {
                if (mark_.is_approx) return detail::approx_retry_at(limiter_->clock(), t);
            }
            return t;
        }
        /// How long that is from the attempt, at most 30 years. A denial by an approximate time, whose time of attempt no
        /// clock gave, counts from now: it reads the clock.
        duration retry_after() const noexcept {
            auto const t = retry_at();
            if constexpr (approximate_clock<clock_type>) {
                if (mark_.is_approx && t != (time_point::max)())
                    return detail::approx_retry_after(limiter_->clock(), t);
            }
            return detail::retry_after(at_, t);
        }
        std::int64_t retry_after_seconds() const noexcept { return detail::seconds_rounded_up(retry_after()); }
        /// What could still be taken: just after the grant, or at the time of the denied attempt.
        permits remaining() const noexcept {
            return granted_ ? remaining_ : limiter_ == nullptr ? 0 : limiter_->available(at_);
        }
        /// When the window is empty if nobody takes.
        time_point full_at() const noexcept {
            return limiter_ == nullptr ? (time_point::max)() : limiter_->first_fit(0, at_);
        }
        /// The time of the attempt.
        constexpr time_point at() const noexcept { return at_; }

        /// What a refund needs; take it out to keep less than the decision.
        constexpr sliding_window_counter::receipt& receipt() noexcept { return receipt_; }
        constexpr sliding_window_counter::receipt const& receipt() const noexcept { return receipt_; }

    private:
        friend sliding_window_counter;

        constexpr decision(sliding_window_counter const* l, permits n, time_point t, bool alone) noexcept
            : limiter_{l}, at_{t}, asked_{n}, alone_{alone} {}
        constexpr decision(sliding_window_counter const* l, std::uint64_t segment, permits taken, permits left,
                           time_point t) noexcept
            : limiter_{l}, at_{t}, remaining_{left}, receipt_{segment, taken}, granted_{true} {}

        constexpr bool exceeds(permits limit) const noexcept {
            return asked_ == permit_count::invalid_value || (!alone_ && asked_ > limit);
        }

        sliding_window_counter const* limiter_ = nullptr;
        time_point at_{};
        union {
            permits asked_ = 0;  // when denied
            permits remaining_;  // when granted
        };
        sliding_window_counter::receipt receipt_{};
        bool granted_ = false;
        bool alone_ = false;
        [[no_unique_address]] detail::approx_mark<clock_type> mark_{};
    };

    /// What the window holds, and at what time: the start of the segment that was summed up to.
    struct usage {
        permits used = 0;
        time_point as_of = (time_point::min)();
    };

    /// What an unconditional charge did.
    struct charged {
        sliding_window_counter::receipt receipt{};
        permits debt = 0;  ///< by how much the window is above the limit after it
        bool saturated =
            false;  ///< the count is at its maximum: it stays there, refunds included, until its segment ages out
    };

    /// Why change_limit changed nothing though the limit would fit. Ask again.
    static constexpr error busy{errc::busy,
                                "the limit has been changed seven times in this segment: ask again in the next"};

    /// Whether such a counter can be made. Errors: a limit of 0 or a negative one; a window that is not positive, or of
    /// 2^60 ticks and more; no segments, or more than 65,536; a limit that does not fit in one word with 30 years of
    /// segments (the table at the head of this file); a clock whose step is longer than a segment and a tenth of the
    /// window. Between the two the clock's step becomes the segment.
    static constexpr weir::error validate(permit_count limit, duration window, counter_options options = {},
                                          duration resolution = duration{1}) noexcept {
        if (limit.invalid() || options.initial.invalid()) return {"the number of permits must not be negative"};
        return make_plan(limit, window, options, resolution).problem;
    }
    template <class Rep, class Period>
        requires(!std::same_as<std::chrono::duration<Rep, Period>, duration>)
    static constexpr weir::error validate(permit_count limit, std::chrono::duration<Rep, Period> window,
                                          counter_options options = {}, duration resolution = duration{1}) noexcept {
        return validate(limit, detail::saturating_ceil<duration>(window), options, resolution);
    }

    /// At most `limit` permits in any `window`. Segments count from `origin`, by default the time of construction:
    /// counters with one origin and one division share their segments.
    /// Errors: see validate. Allocates the ring: 8 bytes for each of the segments, rounded up to a power of two.
    template <class Rep, class Period, std::default_initializable Box = detail::clock_box<Clock>>
    explicit sliding_window_counter(permit_count limit, std::chrono::duration<Rep, Period> window,
                                    counter_options options = {})
        : sliding_window_counter{Box{}, limit, rounded(window), options} {}
    template <class Rep, class Period, std::default_initializable Box = detail::clock_box<Clock>>
    explicit sliding_window_counter(permit_count limit, std::chrono::duration<Rep, Period> window,
                                    counter_options options, time_point origin)
        : sliding_window_counter{Box{}, limit, rounded(window), options, &origin} {}
    template <class Rep, class Period, class C>
        requires std::constructible_from<detail::clock_box<Clock>, C&&> &&
                 (!std::same_as<std::remove_cvref_t<C>, counter_options>)
    explicit sliding_window_counter(permit_count limit, std::chrono::duration<Rep, Period> window, C&& clock)
        : sliding_window_counter{detail::clock_box<Clock>{std::forward<C>(clock)}, limit, rounded(window),
                                 counter_options{}} {}
    template <class Rep, class Period, class C>
        requires std::constructible_from<detail::clock_box<Clock>, C&&>
    explicit sliding_window_counter(permit_count limit, std::chrono::duration<Rep, Period> window,
                                    counter_options options, C&& clock)
        : sliding_window_counter{detail::clock_box<Clock>{std::forward<C>(clock)}, limit, rounded(window), options} {}
    template <class Rep, class Period, class C>
        requires std::constructible_from<detail::clock_box<Clock>, C&&>
    explicit sliding_window_counter(permit_count limit, std::chrono::duration<Rep, Period> window,
                                    counter_options options, time_point origin, C&& clock)
        : sliding_window_counter{detail::clock_box<Clock>{std::forward<C>(clock)}, limit, rounded(window), options,
                                 &origin} {}

    sliding_window_counter(sliding_window_counter const&) = delete;  // limiters do not move: use deque, unique_ptr
    sliding_window_counter& operator=(sliding_window_counter const&) = delete;
    ~sliding_window_counter() = default;

    /// The counter, or the reason why there is none. `more`: origin and clock, as for the constructors.
    template <class Rep, class Period, class... More>
    [[nodiscard("make() returns the limiter or an error")]] static result<sliding_window_counter> make(
        permit_count limit, std::chrono::duration<Rep, Period> window, counter_options options = {}, More&&... more) {
        duration const step = detail::resolution_among<Clock>(more...);
        if (auto e = validate(limit, rounded(window), options, step)) return e;
        return result<sliding_window_counter>{std::in_place, limit, window, options, std::forward<More>(more)...};
    }

    // ---- taking ----

    /// Takes `n` permits at `t` if the window then holds no more than the limit. 0 is granted and takes nothing; more than
    /// the limit is never granted. A denial changes nothing.
    decision try_acquire(permit_count n, time_point t) noexcept { return attempt<false>(n, t); }
    /// With an approximate_clock the window is tried at now_approx() first, if that is in the open segment: while nobody
    /// takes, what the window holds never rises, so a denial at a later time is one at an earlier time too.
    decision try_acquire(permit_count n = 1) noexcept { return attempt_now<false>(n); }
    decision try_acquire(time_point t) noexcept { return attempt<false>(1, t); }

    /// As try_acquire, but n above the limit is granted when the window is empty, and counts in full (max_limit() at
    /// most): nothing else is granted until it ages out or the limit is raised above it.
    decision try_acquire_alone(permits n, time_point t) noexcept { return attempt<true>(n, t); }
    decision try_acquire_alone(permits n) noexcept { return attempt_now<true>(n); }

    /// What try_acquire would answer. Changes nothing.
    decision check(permit_count n, time_point t) const noexcept { return look<false>(n, t); }
    decision check(permit_count n = 1) const noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (auto d = check_approx<false>(n); !d) return d;
        }
        return look<false>(n, clock().now());
    }
    decision check(time_point t) const noexcept { return look<false>(1, t); }
    decision check_alone(permits n, time_point t) const noexcept { return look<true>(n, t); }

    /// Charges `n` at `t`, whatever there is: an overrun, which blocks later grants and is outside the promise. Counted in the segment of
    /// max(t, open segment). The count saturates.
    charged charge(permits n, time_point t) noexcept {
        word const h = put(n, t);
        bool const stuck = words_.is_stuck(h);
        permits const limit = limit_at(h);
        permits const used = sum_at(words_.segment(h)).used;
        return {receipt{words_.segment(h), stuck ? 0 : n}, used > limit ? used - limit : 0, stuck};
    }
    /// The same where only what can be refunded is of interest.
    receipt book(permits n, time_point t) noexcept {
        word const h = put(n, t);
        return receipt{words_.segment(h), words_.is_stuck(h) ? 0 : n};
    }
    charged charge(permits n) noexcept { return charge(n, clock().now()); }

    /// Moves the open segment on to that of `t`, as any attempt does first: looks that cannot, since they are const, cost O(K)
    /// until somebody has.
    void advance_to(time_point t) noexcept {
        // (10)
        if (detail::ticks(t) > until_.load(std::memory_order_acquire)) [[unlikely]] {
            advance(segment_of(t));
            refresh();
        }
    }

    /// A look that can be taken up: the word of head on which an attempt would have been granted; none where it would not.
    class offer {
    public:
        constexpr bool granted() const noexcept { return head_ != 0; }
        /// It would be granted in a segment that is not open yet: there is nothing to claim.
        constexpr bool is_later() const noexcept { return head_ == later; }

    private:
        friend sliding_window_counter;
        static constexpr word later = 1;
        word head_ = 0;  // a head is neither 0 nor 1: segments are numbered from the ring's size on
    };

    /// As check, and `accept` can take it up: for composites, which look at all their parts before they charge any.
    [[gnu::__always_inline__]] offer make_offer(permits n, time_point t) const noexcept {
        offer o;
        o.head_ = peek<false>(n, t).head;
        return o;
    }

    /// As check_alone, where `others` is what other counters hold of the same limit: it must be nothing.
    [[gnu::__noinline__]] offer make_offer_alone(permits n, time_point t, usage others) const noexcept {
        offer o;
        if (others.used == 0 && fits<true>(n, (std::max)(t, others.as_of))) o.head_ = offer::later;
        return o;
    }

    /// As try_acquire(n, t), of an offer made for them: one exchange if head is as it was then, whatever happened meanwhile (equal
    /// words mean equal totals and limits, see attempt); a new attempt if not. `r` is what is then to be refunded.
    [[gnu::__always_inline__]] bool accept(offer o, permits n, time_point t, receipt& r) noexcept {
        if (claim(o, n, r)) [[likely]]
            return true;
        return attempt_again(n, t, r);
    }

    // ---- giving back ----

    /// Gives back what is live on a granted decision or receipt, or k of it, where it was charged. Returns by how much the
    /// window was lowered: 0 when nothing is live any more (a second refund), the permits have aged out, or the count was at its maximum. Permits
    /// of a past segment become available with the next one, at most one segment late. Only what certainly was not used may be given back.
    /// A release: whoever sees the lowered sum through used() or a beside-verb also sees what came before.
    permits refund(decision& d) noexcept { return d.limiter_ == this ? refund(d.receipt_) : 0; }
    permits refund(decision& d, permit_count k) noexcept {
        return d.limiter_ == this && !k.invalid() ? refund(d.receipt_, k) : 0;
    }
    /// Corrects a grant to what was really used, once: what is left goes back as by refund; more is charged at `t` even
    /// above the limit, and blocks later grants. False when it was settled or refunded before, or actual is negative.
    [[nodiscard("settle() is false if the grant was settled or refunded before")]] bool settle(decision& d,
                                                                                               permit_count actual,
                                                                                               time_point t) noexcept {
        if (d.limiter_ != this || d.receipt_.live_ == 0 || actual.invalid()) return false;
        permits const taken = d.receipt_.live_;
        if (actual > taken) {
            (void)put(actual - taken, t);
        } else {
            refund(d.receipt_, taken - actual);
        }
        d.receipt_.live_ = 0;
        return true;
    }
    [[nodiscard("settle() is false if the grant was settled or refunded before")]] bool settle(
        decision& d, permit_count actual) noexcept {
        return settle(d, actual, clock().now());
    }
    permits refund(receipt& r) noexcept { return refund(r, r.live_); }
    permits refund(receipt& r, permits k) noexcept {
        k = (std::min)(k, r.live_);
        if (k == 0) return 0;
        r.live_ -= k;
        return lower(r.segment_, k);
    }

    /// The same for a counter that only stands beside others (below): used() and first_fit() know at once of permits of a past
    /// segment, not with the next (but for a refund that meets the beginning of a segment). Attempts on this counter itself learn of
    /// them with the next segment, as after refund.
    ///
    /// Why it is safe: head was seen at segment e before the ring's word was lowered, so closed at e had been summed by then, of
    /// words that had been published and not yet lowered by this: it counts them. Noted under e, they are subtracted from closed
    /// at e and from no other.
    permits refund_visible(receipt& r) noexcept { return refund_visible(r, r.live_); }
    permits refund_visible(receipt& r, permits k) noexcept {
        k = (std::min)(k, r.live_);
        r.live_ -= k;
        return k == 0 ? 0 : lower<true>(r.segment_, k);
    }

    // ---- looking ----

    /// The limit less what the window holds, 0 where that is more. O(1) in the open segment, else O(K); advances nothing.
    permits available(time_point t) const noexcept {
        permits const u = used(t);
        permits const l = limit();
        return u < l ? l - u : 0;
    }
    permits available() const noexcept { return available(clock().now()); }

    /// What the window that ends at `t` holds, as the limiter counts it, overruns included: for a time ahead, if nobody takes
    /// until then; before the open segment, the open segment's.
    /// An acquire: sees every charge and refund that happened before.
    permits used(time_point t) const noexcept { return sum_at(t).used; }
    permits used() const noexcept { return used(clock().now()); }
    /// The same with the time that it is true of, for the beside-verbs of another counter.
    usage used_as_of(time_point t) const noexcept {
        tally const s = sum_at(t);
        return {s.used, start_of(s.segment)};
    }

    /// The first time, not before `from`, at which the window holds at most `budget` if nobody takes: `from` itself or the start of
    /// a segment; time_point::max() where the counter ends before. O(B). Later times hold no more.
    time_point first_fit(permits budget, time_point from) const noexcept {
        std::uint64_t const want = segment_of(from);
        std::uint64_t const g = first_fit_segment(budget, want);
        return g > plan_.last ? (time_point::max)() : g == want ? from : (std::max)(from, start_of(g));
    }

    permits limit() const noexcept {
        // (1) - the acquire makes the limit that head names visible
        return limit_at(head_.load(std::memory_order_acquire));
    }
    duration window() const noexcept { return window_; }
    /// B: how many segments a window has; at most what was asked for.
    std::uint32_t segments() const noexcept { return plan_.segments; }
    /// L: window() / segments(), rounded up.
    duration segment_length() const noexcept { return from_ticks<duration>(static_cast<std::int64_t>(plan_.length)); }
    /// The greatest limit that change_limit takes.
    permits max_limit() const noexcept { return plan_.max_limit(); }
    clock_type const& clock() const noexcept { return clock_.get(); }

    // ---- changing ----

    /// The limit in force.
    limits_type limits() const noexcept { return {limit()}; }
    /// Puts another limit in force; permits already taken stay taken. The limit in force changes nothing; another one
    /// moves the open segment to that of `t`, as a grant does. Errors: a limit of 0 or a negative one
    /// (invalid_argument); above max_limit() (does_not_fit); busy, when it was changed seven times in this segment.
    [[nodiscard("change() returns an error when it changed nothing")]] weir::error change(limits_type to,
                                                                                          time_point t) noexcept {
        if (to.limit.invalid()) return {"the number of permits must not be negative"};
        if (to.limit == limit()) return {};
        return change_limit(to.limit, t);
    }
    [[nodiscard("change() returns an error when it changed nothing")]] weir::error change(limits_type to) noexcept {
        return change(to, clock().now());
    }

    /// Puts another limit in force; what was taken stays taken. Every attempt is decided by one of the two whole: the version in
    /// head names the limit, and the exchange that grants covers it. Errors: 0; above max_limit(); `busy`, when the limit has
    /// been changed seven times in the segment of now. Lock-free: a change that another thread left half done is finished.
    error change_limit(permits limit, time_point t) noexcept {
        if (limit == 0) return {"limit must be at least 1"};
        if (limit > max_limit()) {
            return {errc::does_not_fit, "the limit does not fit in one word with 30 years of segments"};
        }
        std::uint64_t want = segment_of(t);
        bool written = false;
        for (;;) {
            // (1)
            word h = head_.load(std::memory_order_acquire);
            if (want > words_.segment(h) || words_.is_closing(h)) {
                want = advance(want);
                continue;
            }
            // Versions come into force in turn, each slot tagged with the segment of its writing. The next slot was last in
            // force until the one after it was written, and may be written only in a later segment: so (segment, version) never
            // comes twice, and a stalled attempt cannot succeed on another limit. Hence tag(next) > tag(after) only while a change waits
            // for its exchange of head. Relaxed: (1) shows both as they were when head's version came into force; a
            // newer value only makes an exchange fail or shows a change under way.
            unsigned const next = words::next(words_.version(h));
            word slot = limits_[next].load(std::memory_order_relaxed);
            std::uint64_t const after = words_.segment(limits_[words::next(next)].load(std::memory_order_relaxed));
            if (words_.segment(slot) > after) {
                // (2) - this release-CAS synchronizes-with the acquire-loads (1)
                head_.compare_exchange_weak(h, words_.with_version(h, next), std::memory_order_release,
                                            std::memory_order_relaxed);
            } else if (written) {
                return {};
            } else if (words_.segment(h) <= after) {
                // Or head is not what it was, and the slots are of changes since: an exchange of head for itself can tell.
                // Relaxed: it publishes nothing.
                if (head_.compare_exchange_weak(h, h, std::memory_order_relaxed, std::memory_order_relaxed))
                    return busy;
            } else {
                // Relaxed: published by (2), whoever makes it, since it was read there.
                written = limits_[next].compare_exchange_weak(slot, words_.cell(words_.segment(h), limit),
                                                              std::memory_order_relaxed, std::memory_order_relaxed);
            }
        }
    }
    error change_limit(permits limit) noexcept { return change_limit(limit, clock().now()); }

    /// Before the limiter is shared: books `n` permits at a past time point, before the start or after, in any order. What is out of the
    /// window already is ignored. A time point ahead of the open segment advances to it.
    void restore(permits n, time_point t) noexcept {
        std::int64_t const before = detail::saturating_sub(origin_, detail::ticks(t));
        if (before <= 0 && segment_of(t) >= words_.segment(head_.load(std::memory_order_relaxed))) {
            charge(n, t);
            return;
        }
        std::uint64_t const back = before > 0 ? reciprocal_.divide(static_cast<std::uint64_t>(before) - 1) + 1 : 0;
        if (back > plan_.segments) return;
        std::uint64_t const s = before > 0 ? plan_.first() - back : segment_of(t);
        std::uint64_t const e = words_.segment(head_.load(std::memory_order_relaxed));
        if (s + plan_.segments < e) return;
        auto& place = at(s);
        word const w = place.load(std::memory_order_relaxed);
        place.exchange(words_.overcharged(words_.segment(w) == s ? w : words_.cell(s, 0), n),
                       std::memory_order_relaxed);
        closed_.exchange(words_.cell(e, sum_before(e)), std::memory_order_relaxed);
        ceiling_.exchange(0, std::memory_order_relaxed);
        released_.exchange(0, std::memory_order_relaxed);
    }

    // ---- two counters, one limit ----

    /// Takes `n` at `t` if what the window holds, n and extra() together are within the limit. extra() says what other
    /// counters hold for the same limit: permits, or a `usage` (then the attempt is made no earlier than its time, so
    /// that what has aged out there cannot be in this window). It may be called several times.
    ///
    /// So two counters share a limit: a caller first charges its hold in counter H, then calls main.try_acquire_beside(n, t, extra)
    /// with extra = H.used_as_of(t), less its own hold where n stands for it. What moves between them is charged in the one before it is refunded in
    /// the other. Why it is safe: the exchange on main's head is acq_rel, and all that follow it on head continue its release, so the
    /// later of two exchanges sees the earlier one's hold when it calls extra() again. This second look is needed: refunds may bring head
    /// back to an old value, and then the exchange succeeds on a sum that is stale. It reads the other counter first and this
    /// one last, so that what moves meanwhile is counted at least once. If it exceeds the limit, the charge is taken back
    /// and the attempt denied: of attempts that race for the last room, all may be denied.
    ///
    /// A denial's retry_at knows this counter only: combine first_fit() of all.
    template <class Extra>
    decision try_acquire_beside(permits n, time_point t, Extra extra) noexcept(noexcept(extra())) {
        for (;;) {
            offer const o = make_offer_beside(n, t, extra);
            if (!o.granted()) return decision{this, n, t, false};
            if (o.is_later()) {
                if (n == 0) return nothing_taken(t);
                usage const x = as_usage(extra());
                permits const sum = n + x.used < n ? permit_count::invalid_value : n + x.used;
                if (!enter<false>(sum, (std::max)(t, x.as_of))) return decision{this, n, t, false};
                continue;
            }
            receipt r;
            if (!claim(o, n, r)) continue;
            outcome const did = n == 0 ? outcome::yes : look_again(r, as_usage(extra()));
            if (did == outcome::yes) return decision{this, words_.segment(o.head_), n, 0, t};
            if (did == outcome::no) return decision{this, n, t, false};
        }
    }

    /// What try_acquire_beside would answer; charges nothing.
    template <class Extra>
    decision check_beside(permits n, time_point t, Extra extra) const noexcept(noexcept(extra())) {
        return make_offer_beside(n, t, extra).granted() ? decision{this, 0, 0, 0, t} : decision{this, n, t, false};
    }

    /// The steps of try_acquire_beside one by one, for who has several counters beside the same others: an offer of each, a claim of
    /// each, one look at the others, and each confirmed. Where a claim or a confirmation fails, nothing is charged here.
    template <class Extra>
    [[gnu::__always_inline__]] offer make_offer_beside(permits n, time_point t, Extra extra) const
        noexcept(noexcept(extra())) {
        offer o;
        // (10)
        std::int64_t const until = until_.load(std::memory_order_acquire);
        // (1)
        word const h = head_.load(std::memory_order_acquire);
        usage const x = as_usage(extra());
        time_point const latest = (std::max)(t, x.as_of);
        word const c = ceiling_.load(std::memory_order_relaxed);
        if (detail::ticks(latest) <= until && words_.under(h, c)) [[likely]] {
            permits const room = words::room(h, c);
            if (n == 0 || (n <= room && x.used <= room - n)) o.head_ = h;
            return o;
        }
        permits const sum = n + x.used < n ? permit_count::invalid_value : n + x.used;
        if (n == 0 || fits<false>(sum, latest)) o.head_ = offer::later;
        return o;
    }
    [[gnu::__always_inline__]] bool claim(offer o, permits n, receipt& r) noexcept {
        word h = o.head_;
        // (3) - acq_rel-CAS: synchronizes-with itself in other attempts, for what extra() reads. Where there was no offer, it fails.
        if (!head_.compare_exchange_weak(h, words::charged(h, n), std::memory_order_acq_rel, std::memory_order_relaxed))
            [[unlikely]] {
            return false;
        }
        r.segment_ = words_.segment(h);
        r.live_ = n;
        return true;
    }
    /// `beside` was looked up after the claim.
    [[gnu::__always_inline__]] bool confirm(receipt& r, usage beside) noexcept {
        return look_again(r, beside) == outcome::yes;
    }

private:
    enum class outcome { yes, no, again };

    /// The second look of try_acquire_beside.
    [[gnu::__always_inline__]] outcome look_again(receipt& r, usage beside) noexcept {
        // (10) - as long as head is at this segment, `until` is not past its end
        std::int64_t const until = until_.load(std::memory_order_acquire);
        // (1)
        word const h = head_.load(std::memory_order_acquire);
        word const c = ceiling_.load(std::memory_order_relaxed);
        if (words_.segment(h) == r.segment_ && detail::ticks(beside.as_of) <= until && words_.under(h, c) && h <= c &&
            beside.used <= c - h) [[likely]] {
            return outcome::yes;
        }
        return look_closely(r, beside);
    }

    /// The same without the ceiling, which may be of another moment; takes the charge back where it does not fit.
    [[gnu::__noinline__]] outcome look_closely(receipt& r, usage beside) noexcept {
        bool const late = reachable(beside.as_of) > r.segment_;
        permits const used = sum_at(r.segment_).used;
        permits const most = limit();
        if (!late && used <= most && beside.used <= most - used) return outcome::yes;
        refund(r);
        return late ? outcome::again : outcome::no;
    }

    using atomic_word = typename Atomics::template atomic<word>;
    struct alignas(detail::cache_line) ring_line {
        static constexpr std::size_t size = 8;
        atomic_word words[size]{};
    };

    static constexpr plan make_plan(permit_count limit, duration window, counter_options options,
                                    duration resolution) noexcept {
        return plan::make(limit, static_cast<std::int64_t>(window.count()), options.segments,
                          static_cast<std::int64_t>(resolution.count()), plan::template horizon<duration>());
    }

    template <class Rep, class Period>
    static constexpr duration rounded(std::chrono::duration<Rep, Period> d) noexcept {
        return detail::saturating_ceil<duration>(d);
    }
    static constexpr plan checked(plan p) {
        detail::ensure(p.problem);
        return p;
    }

    sliding_window_counter(detail::clock_box<Clock> box, permit_count limit, duration window, counter_options options,
                           time_point const* origin = nullptr)
        : plan_{checked(make_plan(limit, window, options, resolution_of(box.get())))},
          words_{plan_.count_bits},
          reciprocal_{detail::reciprocal::of(plan_.length)},
          ring_mask_{plan_.ring - 1},
          ring_{new ring_line[plan_.ring / ring_line::size]},
          window_{window},
          clock_{std::move(box)},
          origin_{detail::ticks(origin != nullptr ? *origin : time_point{clock_.get().now()})} {
        std::uint64_t const e = plan_.first();
        permits const taken = limit - (std::min)(limit.value(), options.initial.value());
        // Not shared yet: any order will do.
        for (std::uint64_t s = 0; s < e; ++s) {
            at(s).exchange(words_.cell(s, s == e - 1 ? taken : 0), std::memory_order_relaxed);
        }
        limits_[0].exchange(words_.cell(0, limit.value()), std::memory_order_relaxed);
        closed_.exchange(words_.cell(e, taken), std::memory_order_relaxed);
        head_.exchange(words_.open(e, 0), std::memory_order_relaxed);
        refresh();
    }

    // ---- time ----

    /// The segment of a time point: the first for what is before the start. May be beyond plan_.last.
    std::uint64_t segment_of(time_point t) const noexcept {
        std::int64_t const since = detail::saturating_sub(detail::ticks(t), origin_);
        return plan_.first() + reciprocal_.divide(since < 0 ? 0 : static_cast<std::uint64_t>(since));
    }
    /// The last tick of a segment. The last segment has none, and the one in which the clock or a difference ends takes all that is left.
    std::int64_t end_of(std::uint64_t segment) const noexcept {
        constexpr std::int64_t most = (std::numeric_limits<std::int64_t>::max)();
        std::uint64_t next{};
        if (segment >= plan_.last || __builtin_mul_overflow(segment + 1 - plan_.first(), plan_.length, &next) ||
            next > static_cast<std::uint64_t>(most)) {
            return most;
        }
        return detail::saturating_add(origin_, static_cast<std::int64_t>(next - 1));
    }
    std::uint64_t reachable(time_point t) const noexcept { return (std::min)(segment_of(t), plan_.last); }
    /// The first tick of a segment not before the first; saturates.
    time_point start_of(std::uint64_t segment) const noexcept {
        std::uint64_t since{};
        constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<std::int64_t>::max)());
        if (__builtin_mul_overflow(segment - plan_.first(), plan_.length, &since) || since > most) since = most;
        return time_point{from_ticks<duration>(detail::saturating_add(origin_, static_cast<std::int64_t>(since)))};
    }
    template <class D>
    static constexpr D from_ticks(std::int64_t n) noexcept {
        using rep = typename D::rep;
        if (n > static_cast<std::int64_t>((std::numeric_limits<rep>::max)())) return (D::max)();
        return D{static_cast<rep>(n)};
    }

    atomic_word& at(std::uint64_t segment) const noexcept {
        std::size_t const i = detail::to<std::size_t>(segment) & ring_mask_;
        return ring_[i / ring_line::size].words[i % ring_line::size];
    }

    // ---- answers ----

    permits limit_at(word h) const noexcept {
        // Relaxed: (1) shows what head's version names; newer than that only if head's version has passed, and then the exchange
        // of head fails.
        return words_.total(limits_[words_.version(h)].load(std::memory_order_relaxed));
    }
    static usage as_usage(permits n) noexcept { return {n, (time_point::min)()}; }
    static usage as_usage(usage u) noexcept { return u; }

    // ---- the protocol: attempts ----

    template <bool Alone>
    [[gnu::__always_inline__]] decision attempt_now(permits n) noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (auto d = check_approx<Alone>(n); !d) return d;
        }
        return attempt<Alone>(n, clock().now());
    }

    /// The refusal that an attempt at the clock's glance is certain of; granted where it is not. It never advances the counter:
    /// the glance may be ahead of the clock.
    template <bool Alone>
    [[gnu::__always_inline__]] decision check_approx(permits n) const noexcept {
        time_point const t = clock().now_approx();
        // (10)
        if (detail::ticks(t) <= until_.load(std::memory_order_acquire)) [[likely]] {
            // (1)
            word const h = head_.load(std::memory_order_acquire);
            word const c = ceiling_.load(std::memory_order_relaxed);
            if (words_.under(h, c)) [[likely]] {
                permits const room = words::room(h, c);
                if (n > room && (!Alone || room < limit_at(h))) {
                    decision d{this, n, t, Alone};
                    d.mark_.is_approx = true;
                    return d;
                }
            }
        }
        return decision{this, 0, 0, 0, t};
    }

    template <bool Alone>
    decision attempt(permits n, time_point t) noexcept {
        for (;;) {
            // (10) - this acquire-load synchronizes-with the release-CAS (11): the load (1) after it sees a head at that segment or
            // a later one, so that t, if not past the end of that one, is not past the end of head's.
            if (detail::ticks(t) <= until_.load(std::memory_order_acquire)) [[likely]] {
                // (1) - this acquire-load synchronizes-with the release-CAS (2) and the release-CAS (6)
                word h = head_.load(std::memory_order_acquire);
                // Relaxed: a segment and a version of head have one total and one limit, so one ceiling, whoever wrote it.
                word const c = ceiling_.load(std::memory_order_relaxed);
                if (words_.under(h, c)) [[likely]] {
                    permits const room = words::room(h, c);
                    word desired = words::charged(h, n);
                    if (n > room) {
                        if (!Alone || room < limit_at(h) || n == permit_count::invalid_value)
                            return decision{this, n, t, Alone};
                        desired = words_.overcharged(h, (std::min)(n, max_limit()));
                    }
                    // Relaxed: it publishes nothing, and what it covers (segment, open, version, count) is one word; equal words
                    // mean equal totals and limits, so that a word that came back is no danger. Continues the release
                    // sequences of (2), (3) and (6).
                    if (head_.compare_exchange_weak(h, desired, std::memory_order_relaxed, std::memory_order_relaxed))
                        [[likely]] {
                        return decision{this, words_.segment(h), desired - h, n > room ? 0 : room - n, t};
                    }
                    continue;
                }
            }
            if (n == 0) return nothing_taken(t);
            if (!enter<Alone>(n, t)) return decision{this, n, t, Alone};
        }
    }
    [[gnu::__noinline__]] bool attempt_again(permits n, time_point t, receipt& r) noexcept {
        decision d = attempt<false>(n, t);
        r = std::move(d.receipt_);
        return d.granted_;
    }

    /// A grant of 0 permits: it opens no segment.
    decision nothing_taken(time_point t) const noexcept { return decision{this, 0, 0, available(t), t}; }

    /// Opens the segment of `t` if an attempt of n would then be granted. False: it would not, and nothing has changed.
    ///
    /// A sum of the segments of the ring never rises while they age, and the exchange that closes head's segment fails
    /// unless the count is the one that was summed. So when it succeeds there is room for n in the new segment, and
    /// only a grant made there since can have taken it.
    template <bool Alone>
    [[gnu::__noinline__]] bool enter(permits n, time_point t) noexcept {
        std::uint64_t const want = reachable(t);
        for (;;) {
            // (1)
            word h = head_.load(std::memory_order_acquire);
            bool const closing = words_.is_closing(h);
            if (!closing && words_.segment(h) >= want) {
                refresh();
                return true;
            }
            std::uint64_t const g = (std::max)(want, words_.segment(h) + (closing ? 1U : 0U));
            permits used = 0;
            if (!sum_ahead(h, g, used)) continue;
            if (!has_room<Alone>(n, used, limit_at(h))) return false;
            if (!closing) {
                // Relaxed: it freezes the count, which is in the same word.
                if (!head_.compare_exchange_weak(h, words_.closing(h), std::memory_order_relaxed,
                                                 std::memory_order_relaxed)) {
                    continue;
                }
                h = words_.closing(h);
            }
            help(h, g);
        }
    }
    template <bool Alone>
    static constexpr bool has_room(permits n, permits used, permits limit) noexcept {
        permits const room = limit - (std::min)(used, limit);
        return n <= room || (Alone && room == limit && n != permit_count::invalid_value);
    }
    /// Whether the window at `t` has room for n.
    template <bool Alone>
    [[gnu::__noinline__]] bool fits(permits n, time_point t) const noexcept {
        return has_room<Alone>(n, sum_at(t).used, limit());
    }

    struct peeked {
        word head;
        permits room;
    };
    /// Where an attempt would be granted: the word of head, or offer::later where its segment is not open; 0 where it would
    /// be denied.
    template <bool Alone>
    [[gnu::__always_inline__]] peeked peek(permits n, time_point t) const noexcept {
        // (10)
        if (detail::ticks(t) <= until_.load(std::memory_order_acquire)) [[likely]] {
            // (1)
            word const h = head_.load(std::memory_order_acquire);
            word const c = ceiling_.load(std::memory_order_relaxed);
            if (words_.under(h, c)) [[likely]] {
                permits const room = words::room(h, c);
                return {n <= room || (Alone && room >= limit_at(h)) ? h : 0, room};
            }
        }
        return {n == 0 || fits<Alone>(n, t) ? offer::later : 0, 0};
    }
    template <bool Alone>
    decision look(permits n, time_point t) const noexcept {
        auto const p = peek<Alone>(n, t);
        if (p.head == 0 || (Alone && n == permit_count::invalid_value)) return decision{this, n, t, Alone};
        return decision{this, 0, 0, p.head == offer::later ? available(t) : p.room, t};
    }

    /// Charges whatever there is; the word of head that did it.
    word put(permits n, time_point t) noexcept {
        advance_to(t);
        for (;;) {
            // (1) - shows a head at the segment of t or later, open or not
            word h = head_.load(std::memory_order_acquire);
            if (words_.is_closing(h)) {
                advance(0);
                continue;
            }
            word const desired = words_.overcharged(h, n);
            // Relaxed: as the grant's. The exchange is made even where nothing changes, so that the answer is of one moment.
            if (head_.compare_exchange_weak(h, desired, std::memory_order_relaxed, std::memory_order_relaxed))
                [[likely]] {
                return desired;
            }
        }
    }

    // ---- the protocol: time moves on ----

    /// Notes the ceiling and the end of the open segment, unless it is being closed. Both only save the next attempts the way
    /// here: what a race loses is time.
    [[gnu::__noinline__]] void refresh() noexcept {
        // (14) - this acquire-load synchronizes-with the release-CAS (14): head is then as new as who wrote this saw it, so
        // that ceilings follow each other as heads do, and two threads cannot undo each other's for ever
        word old = ceiling_.load(std::memory_order_acquire);
        // (1)
        word const h = head_.load(std::memory_order_acquire);
        // (7) - this acquire-load synchronizes-with the release-CAS (7): where closed is of a later segment than head was,
        // the next look shows a head that has moved, so that nobody waits here for what is on its way
        word const c = closed_.load(std::memory_order_acquire);
        if (!words_.agree(h, c)) return;
        word const known = words_.ceiling(h, words_.total(c), limit_at(h));
        // (14) - relaxed on failure: then there is a newer one
        if (old != known) {
            ceiling_.compare_exchange_strong(old, known, std::memory_order_release, std::memory_order_relaxed);
        }
        std::int64_t const end = end_of(words_.segment(h));
        std::int64_t until = until_.load(std::memory_order_relaxed);
        // (11) - this release-CAS synchronizes-with the acquire-load (10); until only grows
        while (until < end &&
               !until_.compare_exchange_weak(until, end, std::memory_order_release, std::memory_order_relaxed)) {
        }
    }

    /// Makes head open at segment `want` or later, or finishes what stands in the way. Returns `want`, at most the last segment
    /// that can be counted to: there the counter stands still, and only denies what does not fit.
    [[gnu::__noinline__]] std::uint64_t advance(std::uint64_t want) noexcept {
        want = (std::min)(want, plan_.last);
        for (;;) {
            // (1)
            word h = head_.load(std::memory_order_acquire);
            if (!words_.is_closing(h)) {
                if (words_.segment(h) >= want) return want;
                // Relaxed: it freezes the count, which is in the same word.
                if (!head_.compare_exchange_weak(h, words_.closing(h), std::memory_order_relaxed,
                                                 std::memory_order_relaxed)) {
                    continue;
                }
                h = words_.closing(h);
            }
            help(h, want);
        }
    }

    /// Carries a closing head over: its count to the ring, the sum to closed, and head to the segment that closed names. Anybody may
    /// do it, at any time: each exchange of a helper who comes late fails, since every tag changes once.
    void help(word h, std::uint64_t want) noexcept {
        std::uint64_t const e = words_.segment(h);
        auto& place = at(e);
        // Relaxed: another helper's word is the same word, and who sees what this one releases sees it or a newer one (coherence);
        // all that was published before it (1) has shown.
        word w = place.load(std::memory_order_relaxed);
        while (words_.segment(w) < e) {
            // Until the tag is there: a late refund of the old tenant can make an exchange fail, and once is not enough.
            // (5) - this release-CAS synchronizes-with the acquire-loads (8)
            if (place.compare_exchange_weak(w, words_.cell(e, words_.count(h)), std::memory_order_release,
                                            std::memory_order_relaxed)) {
                break;
            }
        }
        // (7) - this acquire-load, or the failed CAS's, synchronizes-with the release-CAS (7): what the winner summed includes
        // refunds, and who sees them through head must see what came before them
        word c = closed_.load(std::memory_order_acquire);
        while (words_.segment(c) == e) {
            std::uint64_t const target = (std::max)(want, e + 1);
            word const sum = words_.cell(target, sum_before(target));
            // (7) - who wins decides the target. Acquires nothing where it succeeds: (1) has shown closed at e.
            if (closed_.compare_exchange_weak(c, sum, std::memory_order_release, std::memory_order_acquire)) c = sum;
        }
        if (words_.segment(c) < e) return;  // cannot be, since (1) shows closed at e; then nothing is there to be done
        // (6) - this release-CAS synchronizes-with the acquire-loads (1); relaxed on failure: then it has been done
        head_.compare_exchange_strong(h, words_.open(words_.segment(c), words_.version(h)), std::memory_order_release,
                                      std::memory_order_relaxed);
    }

    /// The sum of the B segments before `segment`, of what has been published.
    permits sum_before(std::uint64_t segment) const noexcept {
        std::uint64_t const from = segment - plan_.segments;
        permits sum = 0;  // fits: the segment's bits, which the counts leave free, can number the ring
        for (std::uint64_t i = 0; i < plan_.ring; ++i) {
            // (8) - this acquire-load synchronizes-with the release-CAS (9), for who must know what came before a refund. For the
            // sum alone relaxed would do: (1) and, of head's segment, the look before show all that was published, and a
            // refund that is missed leaves the sum too high.
            word const w = at(i).load(std::memory_order_acquire);
            std::uint64_t const s = words_.segment(w);
            if (s >= from && s < segment) sum += words_.total(w);
        }
        return sum;
    }

    // ---- the protocol: refunds ----

    /// k fewer where they were charged. Returns by how many it was.
    template <bool AtOnce = false>
    [[gnu::__noinline__]] permits lower(std::uint64_t segment, permits k) noexcept {
        for (;;) {
            // (1) - shows the word of every segment before head's as published
            word h = head_.load(std::memory_order_acquire);
            std::uint64_t const e = words_.segment(h);
            if (e < segment) return 0;  // no receipt of this counter
            if (e == segment && words_.is_closing(h)) {
                help(h, e + 1);
                continue;
            }
            auto& place = e == segment ? head_ : at(segment);
            word w = e == segment ? h : place.load(std::memory_order_relaxed);
            if (words_.segment(w) != segment) return 0;  // aged out
            word const less = words_.lowered(w, k);
            if (less == w) return 0;
            // (9) - this release-CAS synchronizes-with the acquire-loads (1) and (8): for two counters only
            if (!place.compare_exchange_weak(w, less, std::memory_order_release, std::memory_order_relaxed)) continue;
            if (AtOnce && segment < e && segment >= e - plan_.segments) note_released(e, w - less);
            return w - less;
        }
    }

    /// k permits that closed at segment e counts are no longer there.
    void note_released(std::uint64_t e, permits k) noexcept {
        word r = released_.load(std::memory_order_relaxed);
        while (words_.segment(r) <= e) {
            permits const before = words_.segment(r) == e ? words_.total(r) : 0;
            // (12) - this release-CAS synchronizes-with the acquire-load (13)
            if (released_.compare_exchange_weak(r, words_.cell(e, before + k), std::memory_order_release,
                                                std::memory_order_relaxed)) {
                return;
            }
        }
    }

    /// What the window holds, of a head that is open and its closed.
    permits total_of(word h, word c) const noexcept {
        // (13) - this acquire-load synchronizes-with the release-CAS (12). An older value only makes the answer higher.
        word const r = released_.load(std::memory_order_acquire);
        permits const sum = words_.total(c) + words_.count(h);
        return words_.segment(r) == words_.segment(h) ? sum - words_.total(r) : sum;
    }

    // ---- the protocol: looking without advancing ----

    struct tally {
        permits used;
        std::uint64_t segment;
    };

    tally sum_at(time_point t) const noexcept {
        // (10)
        return detail::ticks(t) <= until_.load(std::memory_order_acquire) ? sum_at(std::uint64_t{0})
                                                                          : scan(segment_of(t));
    }

    /// The window at segment `want`, or at the open one if that is later.
    tally sum_at(std::uint64_t want) const noexcept {
        // (1)
        word const h = head_.load(std::memory_order_acquire);
        word const c = closed_.load(std::memory_order_relaxed);
        if (want <= words_.segment(h) && words_.agree(h, c)) [[likely]] {
            return {total_of(h, c), words_.segment(h)};
        }
        return scan(want);
    }

    [[gnu::__noinline__]] tally scan(std::uint64_t want) const noexcept {
        want = (std::min)(want, plan_.last);
        for (;;) {
            // (1)
            word const h = head_.load(std::memory_order_acquire);
            word const c = closed_.load(std::memory_order_relaxed);
            std::uint64_t const e = words_.segment(h);
            if (want <= e && words_.agree(h, c)) return {total_of(h, c), e};
            // A closing segment is followed by a later one: what comes now comes there.
            std::uint64_t const g = (std::max)(want, e + (words_.is_closing(h) ? 1U : 0U));
            permits used = 0;
            if (sum_ahead(h, (std::min)(g, plan_.last), used)) return {used, g};
        }
    }

    /// What the window at segment g holds, later than head's, of which h was read. False: head has moved on since.
    bool sum_ahead(word h, std::uint64_t g, permits& used) const noexcept {
        std::uint64_t const e = words_.segment(h);
        std::uint64_t const from = g - plan_.segments;
        used = e >= from ? words_.count(h) : 0;
        std::uint64_t newest = 0;
        for (std::uint64_t i = 0; i < plan_.ring; ++i) {
            // (8) - synchronizes-with (5) too: who sees a newer tenant will see the newer head that allowed it
            word const w = at(i).load(std::memory_order_acquire);
            std::uint64_t const s = words_.segment(w);
            newest = (std::max)(newest, s);
            if (s >= from && s < e) used += words_.total(w);
        }
        return newest <= e;
    }

    /// The first segment, not before `want`, at whose start the window holds at most `budget`.
    [[gnu::__noinline__]] std::uint64_t first_fit_segment(permits budget, std::uint64_t want) const noexcept {
        for (;;) {
            // (1)
            word const h = head_.load(std::memory_order_acquire);
            word const c = closed_.load(std::memory_order_relaxed);
            std::uint64_t const e = words_.segment(h);
            if (want > e + plan_.segments) return want;
            // In the open segment closed counts, which may be above the ring's sum, after a refund.
            if (want <= e && words_.agree(h, c) && total_of(h, c) <= budget) return want;
            // From the newest segment to the oldest that counts in the next: the first that is too much must age out.
            permits sum = words_.count(h);
            std::uint64_t too_much = sum > budget ? e : 0;
            bool moved = false;
            for (std::uint64_t s = e - 1; too_much == 0 && s > e - plan_.segments; --s) {
                // (8)
                word const w = at(s).load(std::memory_order_acquire);
                moved = moved || words_.segment(w) > e;
                if (words_.segment(w) == s) sum += words_.total(w);
                if (sum > budget) too_much = s;
            }
            if (!moved) return (std::max)(want, too_much != 0 ? too_much + plan_.segments + 1 : e + 1);
        }
    }

    // The word that every grant writes has its line to itself; what follows is read by every grant and seldom written.
    alignas(detail::cache_line) atomic_word head_{};
    alignas(detail::cache_line) atomic_word ceiling_{};
    typename Atomics::template atomic<std::int64_t> until_{(std::numeric_limits<std::int64_t>::min)()};
    atomic_word closed_{};
    atomic_word released_{};
    plan plan_;
    words words_;
    detail::reciprocal reciprocal_;
    std::size_t ring_mask_;
    std::unique_ptr<ring_line[]> ring_;
    duration window_;
    [[no_unique_address]] detail::clock_box<Clock> clock_;
    std::int64_t origin_;
    alignas(detail::cache_line) atomic_word limits_[words::versions]{};
};

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
