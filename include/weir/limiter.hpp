// SPDX-License-Identifier: MIT
//
// The contract of every limiter: permits, what an attempt returns, and the verbs. Each limiter's header asserts that it
// satisfies the concept `limiter`.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "clock/clock.hpp"
#include "error.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// Units that a limiter hands out.
using permits = std::uint64_t;

/// How many permits a call names: what every verb, option and rate takes. Any integer converts to it. A floating-point
/// number does not compile, since half a permit does not exist: round it first. A negative number does not compile in a
/// constant expression; elsewhere it becomes `invalid()`, which every limiter denies with never() and every constructor
/// refuses.
class permit_count {
public:
    template <std::integral Int>
    constexpr permit_count(Int n) noexcept : value_{checked(n)} {}
    permit_count(bool) = delete;  // a truth value is not a number of permits
    template <std::floating_point F>
    permit_count(F) = delete;  // permits are whole numbers: round the value first

    /// More than any limiter can hold; see invalid().
    constexpr permits value() const noexcept { return value_; }
    constexpr operator permits() const noexcept { return value_; }
    /// Whether it was made from a negative number.
    constexpr bool invalid() const noexcept { return value_ == invalid_value; }

    static constexpr permits invalid_value = (std::numeric_limits<permits>::max)();

private:
    template <std::integral Int>
    static constexpr permits checked(Int n) noexcept {
        if constexpr (std::signed_integral<Int>) {
            if (n < 0) {
                if (std::is_constant_evaluated()) the_number_of_permits_must_not_be_negative();
                return invalid_value;
            }
        }
        if constexpr (sizeof(Int) > sizeof(permits)) {
            if (n >= static_cast<Int>(invalid_value)) return invalid_value - 1;
        }
        return detail::to<permits>(n);
    }
    static void the_number_of_permits_must_not_be_negative() noexcept {}

    permits value_;
};

/// All that a limiter may hold: the default of the options `initial`, what is available at the start.
[[gnu::__visibility__("hidden")]] inline constexpr permits all_permits = (std::numeric_limits<permits>::max)() - 1;

/// What an attempt returns. A snapshot: its answers do not change when the limiter does. A window's decision finds some
/// answers when it is first asked, and says which; ask one of those from one thread, before others change the window.
/// - granted(), and the conversion to bool.
/// - never(): denied, and no waiting helps. error() then says why: more than the limiter can ever grant
///   (errc::does_not_fit), or a negative number of permits (errc::invalid_argument).
/// - retry_at(): when denied, the earliest instant at which the same attempt could be granted if no other caller takes
///   permits; time_point::max() when never. When granted, the time of the attempt.
/// - retry_after(): how long that is from the attempt; zero when granted, and at most 30 years, so that it can be added
///   to any time of this century.
/// - retry_after_seconds(): the same in whole seconds, rounded up, for HTTP's Retry-After.
/// - remaining(): what was left just after the attempt. full_at(): when all of it is available again if no call takes.
template <class D>
concept decision = std::movable<D> && !std::copyable<D> && requires(D const& d) {
    { d.granted() } -> std::same_as<bool>;
    { static_cast<bool>(d) };
    { d.never() } -> std::same_as<bool>;
    { d.error() } -> std::same_as<weir::error>;
    { d.retry_at() };
    { d.retry_after() };
    { d.retry_after_seconds() } -> std::same_as<std::int64_t>;
    { d.remaining() };
    { d.full_at() } -> std::same_as<decltype(d.retry_at())>;
};

/// A limiter. Every verb has a form that takes the time point; without it, the limiter's own clock is read.
/// `amount` is what a call asks for: permit_count, or, for an LLM quota, tokens.
/// - try_acquire takes n, or nothing. check answers what try_acquire would, and changes nothing that anyone can
///   observe. Where a foreign header defines check as a macro, write (limiter.check)(n).
/// - refund gives back what a grant took, or n of it, once; it returns what was given back.
/// - settle corrects a grant to what was really used, once; false if it was settled or refunded before.
/// - available is what can be taken at once. limits are what `change` takes: change(limits()) changes nothing.
template <class L>
concept limiter = requires(L& l, L const& c, typename L::amount n, typename L::time_point t, typename L::decision& d,
                           typename L::limits_type const& limits) {
    typename L::clock_type;
    typename L::duration;
    requires decision<typename L::decision>;
    { l.try_acquire(n) } -> std::same_as<typename L::decision>;
    { l.try_acquire(n, t) } -> std::same_as<typename L::decision>;
    { c.check(n) } -> std::same_as<typename L::decision>;
    { c.check(n, t) } -> std::same_as<typename L::decision>;
    { l.refund(d) };
    { l.refund(d, n) } -> std::same_as<decltype(l.refund(d))>;
    { l.settle(d, n) } -> std::same_as<bool>;
    { l.change(limits) } -> std::same_as<error>;
    { l.change(limits, t) } -> std::same_as<error>;
    { c.available() };
    { c.available(t) } -> std::same_as<decltype(c.available())>;
    { c.limits() } -> std::same_as<typename L::limits_type>;
    { c.clock().now() } -> std::convertible_to<typename L::time_point>;
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// The time from an attempt at `t` to `retry_at`: never negative, and at most 30 years.
template <class TimePoint>
constexpr typename TimePoint::duration retry_after(TimePoint t, TimePoint retry_at) noexcept {
    using duration = typename TimePoint::duration;
    std::int64_t const wait = saturating_sub(detail::ticks(retry_at), detail::ticks(t));
    std::int64_t const longest = static_cast<std::int64_t>(thirty_years<duration>());
    return duration{static_cast<typename duration::rep>(wait < 0 ? 0 : wait < longest ? wait : longest)};
}

/// The same of a decision: 30 years where it is never granted, also at the end of the clock.
template <class TimePoint>
constexpr typename TimePoint::duration retry_after(bool never, TimePoint t, TimePoint retry_at) noexcept {
    return detail::retry_after(never ? (TimePoint::min)() : t, retry_at);
}

/// A wait in whole seconds, rounded up.
template <class Duration>
constexpr std::int64_t seconds_rounded_up(Duration d) noexcept {
    return static_cast<std::int64_t>(std::chrono::ceil<std::chrono::duration<std::int64_t>>(d).count());
}

/// Why an attempt for n permits can never be granted.
constexpr error never_granted(permits n) noexcept {
    if (n == permit_count::invalid_value) return {errc::invalid_argument, "the number of permits must not be negative"};
    return {errc::does_not_fit, "more permits than the limiter can ever grant at once"};
}

}  // namespace weir::inline v0::detail

#pragma pop_macro("check")
