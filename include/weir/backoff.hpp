// SPDX-License-Identifier: MIT
//
// How long to wait before an attempt is repeated, and when to give up. Plain values and integers; it sleeps for nobody.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <ratio>
#include <type_traits>

#include "detail/wide.hpp"
#include "error.hpp"

namespace weir::inline v0 {

/// How waits are spread, so that clients that failed together do not come back together. With e = min(cap,
/// base·2^attempt) and U(a, b) uniform on [a, b]:
enum class jitter : std::uint8_t {
    none,          ///< e
    full,          ///< U(0, e)
    equal,         ///< e/2 + U(0, e/2)
    decorrelated,  ///< min(cap, U(base, 3·previous wait)), the previous wait being base at first
    additive,      ///< base·2^attempt + U(0, spread): the `2 ** attempt + random()` seconds of many clients
};

/// A policy of repeating what failed: exponential waits within a cap, a number of attempts and a budget of time.
///
///     weir::backoff retry{.base = 1s, .cap = 60s, .attempts = 5, .jitter = weir::jitter::additive};
///     if (auto wait = retry.next(attempt, rng, hint)) sleep(*wait); else give_up();
///
/// The formulas of full, equal and decorrelated are those of M. Brooker, "Exponential Backoff And Jitter", AWS
/// Architecture Blog, 2015. A hint is what the server itself asks for, as in Retry-After (RFC 9110, 10.2.3). It wins
/// when it is later than the wait computed here, the cap notwithstanding, and is never shortened; where it reaches
/// beyond the budget, next() gives up at once, since an earlier attempt would only be refused again.
///
/// Deterministic given the generator's numbers, on every platform: integers only, and each call of next() takes the
/// same number of them whatever comes out (none without jitter), drawn without the standard's distributions, which
/// differ between libraries. O(1). Waits are never negative and never overflow, however many attempts there were. A
/// policy with a bad field (see validate) is an error in next(), as a bad argument is in a constructor.
struct backoff {
    using duration = std::chrono::nanoseconds;

    duration base = std::chrono::seconds{1};
    duration cap = std::chrono::seconds{60};
    std::uint64_t attempts = 5;                  ///< in all, the first included: 1 repeats nothing
    duration budget = std::chrono::minutes{10};  ///< from the first attempt to the start of the last
    weir::jitter jitter = weir::jitter::full;
    duration spread = std::chrono::seconds{1};  ///< for jitter::additive
    duration hint_spread{};  ///< a hint is exceeded by U(0, hint_spread), lest all who got it return at once

    /// What a server asks for; any duration converts, and one that is too long for nanoseconds is the longest there is:
    /// a header that says 10^12 seconds must not wrap around to "at once". Negative ones, as of dates past, count as
    /// zero.
    class hint {
    public:
        constexpr hint() = default;
        constexpr hint(std::nullopt_t) noexcept {}
        template <std::integral Rep, class Period>
        constexpr hint(std::chrono::duration<Rep, Period> d) noexcept : delay_{saturated(d)} {}
        template <std::integral Rep, class Period>
        constexpr hint(std::optional<std::chrono::duration<Rep, Period>> d) noexcept {
            if (d) delay_ = saturated(*d);
        }

        constexpr std::optional<duration> delay() const noexcept { return delay_; }

    private:
        template <class Rep, class Period>
        static constexpr duration saturated(std::chrono::duration<Rep, Period> d) noexcept {
            using in_nanoseconds = std::ratio_divide<Period, std::nano>;
            if (d.count() <= 0) return duration::zero();
            std::uint64_t const n = detail::mul_div_ceil(static_cast<std::uint64_t>(d.count()),
                                                         static_cast<std::uint64_t>(in_nanoseconds::num),
                                                         static_cast<std::uint64_t>(in_nanoseconds::den));
            auto const most = static_cast<std::uint64_t>((duration::max)().count());
            return duration{static_cast<duration::rep>((std::min)(n, most))};
        }

        std::optional<duration> delay_;
    };

    /// What is wrong with the policy, if anything.
    constexpr error validate() const noexcept {
        if (base < duration::zero()) return {"a backoff's base must not be negative"};
        if (cap < base) return {"a backoff's cap must not be below its base"};
        if (attempts == 0) return {"a backoff needs at least one attempt"};
        if (budget < duration::zero()) return {"a backoff's budget must not be negative"};
        if (jitter > weir::jitter::additive) return {"a backoff's jitter must be one of those that there are"};
        if (spread < duration::zero()) return {"a backoff's spread must not be negative"};
        if (hint_spread < duration::zero()) return {"a backoff's spread of hints must not be negative"};
        return {};
    }

    /// How long to wait after `attempt` (0 the first) failed, or nothing: give up. `elapsed` is the time since the
    /// first attempt began; a wait that would end beyond the budget is not begun. `previous` is the wait before this
    /// one, for jitter::decorrelated, which without it takes that of jitter::none; backoff::sequence keeps both.
    ///
    /// The wait is at most cap, unless the hint (with its own spread) is later. jitter::additive holds its exponential
    /// part to max(base, cap − spread), so that waits near the cap are spread too.
    template <class Generator>
    constexpr std::optional<duration> next(std::uint64_t attempt, Generator&& generator, hint asked = {},
                                           duration elapsed = duration::zero(),
                                           std::optional<duration> previous = std::nullopt) const;

    class sequence;
};

/// The repetitions of one operation: counts attempts, keeps the previous wait, and adds up the waits for the budget.
///
///     weir::backoff::sequence tries{policy};
///     while (!(ok = attempt())) if (auto wait = tries.next(rng)) sleep(*wait); else break;
class backoff::sequence {
public:
    constexpr explicit sequence(backoff const& policy) : policy_{policy} { detail::ensure(policy.validate()); }

    /// As backoff::next. Without `elapsed`, the waits that were handed out so far count against the budget, and the
    /// time that the attempts took does not. Having given up once, it gives up until reset().
    template <class Generator>
    constexpr std::optional<duration> next(Generator&& generator, hint asked = {},
                                           std::optional<duration> elapsed = std::nullopt) {
        if (given_up_) return std::nullopt;
        auto const wait = policy_.next(attempt_, generator, asked, elapsed ? *elapsed : waited_,
                                       attempt_ == 0 ? policy_.base : previous_);
        if (!wait) {
            given_up_ = true;
            return std::nullopt;
        }
        ++attempt_;
        // A wait that the server asked for says nothing about the range of the next one.
        previous_ = (std::min)(*wait, policy_.cap);
        waited_ = *wait > (duration::max)() - waited_ ? (duration::max)() : waited_ + *wait;
        return wait;
    }

    constexpr backoff const& policy() const noexcept { return policy_; }
    constexpr std::uint64_t failures() const noexcept { return attempt_ + (given_up_ ? 1 : 0); }
    constexpr duration waited() const noexcept { return waited_; }
    constexpr void reset() noexcept {
        attempt_ = 0;
        previous_ = waited_ = duration::zero();
        given_up_ = false;
    }

private:
    backoff policy_;
    std::uint64_t attempt_ = 0;
    duration previous_{};
    duration waited_{};
    bool given_up_ = false;
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// 64 bits from any uniform random bit generator. Exactly uniform where its range is a power of two, as of all mersenne
/// twisters, else as near as digits of another base come. Takes ceil(64 / log2(range)) numbers.
template <class Generator>
constexpr std::uint64_t random_bits(Generator& generator) {
    using G = std::remove_cvref_t<Generator>;
    constexpr auto low = static_cast<std::uint64_t>((G::min)());
    constexpr auto last = static_cast<std::uint64_t>((G::max)()) - low;
    static_assert(last > 0, "a generator of one number has no randomness");
    if constexpr (last == (std::numeric_limits<std::uint64_t>::max)()) {
        return static_cast<std::uint64_t>(generator()) - low;
    } else {
        std::uint64_t bits = 0;
        for (std::uint64_t room = (std::numeric_limits<std::uint64_t>::max)();; room /= last + 1) {
            bits = bits * (last + 1) + (static_cast<std::uint64_t>(generator()) - low);
            if (room <= last) return bits;
        }
    }
}

/// Uniform on [0, most] by the high half of a product (D. Lemire, "Fast Random Integer Generation in an Interval",
/// 2019) without its rejection: some values are likelier than others by most / 2^64, which is 2·10^-7 for an hour.
template <class Generator>
constexpr std::chrono::nanoseconds random_up_to(std::chrono::nanoseconds most, Generator& generator) {
    auto const range = static_cast<std::uint64_t>(most.count()) + 1;
    return std::chrono::nanoseconds{static_cast<std::int64_t>(mul(random_bits(generator), range).hi)};
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

template <class Generator>
constexpr std::optional<backoff::duration> backoff::next(std::uint64_t attempt, Generator&& generator, hint asked,
                                                         duration elapsed, std::optional<duration> previous) const {
    detail::ensure(validate());
    auto const exponential = [this](std::uint64_t n, duration limit) {
        if (base == duration::zero()) return base;
        if (n >= 63 || base.count() > (limit.count() >> n)) return limit;
        return duration{base.count() << n};
    };
    duration wait = exponential(attempt, cap);
    switch (jitter) {
        case weir::jitter::none: break;
        case weir::jitter::full: wait = detail::random_up_to(wait, generator); break;
        case weir::jitter::equal: {
            duration const half = wait / 2;
            wait = wait - half + detail::random_up_to(half, generator);
            break;
        }
        case weir::jitter::decorrelated: {
            duration last = previous ? *previous : attempt == 0 ? base : exponential(attempt - 1, cap);
            last = std::clamp(last, base, cap);
            // Cut at the cap after the draw, as in the source: the cap itself is then the likeliest wait.
            duration const most = last > (duration::max)() / 3 ? (duration::max)() : last * 3;
            wait = (std::min)(cap, base + detail::random_up_to(most - base, generator));
            break;
        }
        case weir::jitter::additive: {
            duration const limit = (std::max)(base, cap > spread ? cap - spread : duration::zero());
            wait = exponential(attempt, limit);
            wait += (std::min)(cap - wait, detail::random_up_to(spread, generator));
            break;
        }
    }
    if (hint_spread > duration::zero()) {
        duration const extra = detail::random_up_to(hint_spread, generator);
        if (auto const delay = asked.delay()) {
            wait = (std::max)(wait, *delay > (duration::max)() - extra ? (duration::max)() : *delay + extra);
        }
    } else if (auto const delay = asked.delay()) {
        wait = (std::max)(wait, *delay);
    }
    if (attempts - 1 <= attempt) return std::nullopt;
    if (elapsed < duration::zero()) elapsed = duration::zero();
    if (elapsed > budget || wait > budget - elapsed) return std::nullopt;
    return wait;
}

}  // namespace weir::inline v0
