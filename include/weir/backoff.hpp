// SPDX-License-Identifier: MIT
//
// How long to wait before a failed operation is repeated, and when to give up. Plain values and integers: it neither
// sleeps nor reads a clock.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>

#include "detail/saturating.hpp"
#include "detail/wide.hpp"
#include "error.hpp"

namespace weir::inline v0 {

/// How waits are spread, so that clients that failed together do not return together. With e = min(cap,
/// base·2^attempt) and U(a, b) uniform on [a, b]:
enum class jitter : std::uint8_t {
    none,          ///< e
    full,          ///< U(0, e)
    equal,         ///< e/2 + U(0, e/2)
    decorrelated,  ///< min(cap, U(base, 3·previous wait)); the previous wait is base at first
    additive,      ///< base·2^attempt + U(0, spread): the `2 ** attempt + random()` seconds of many clients
};

/// A retry policy: exponential waits up to a cap, a number of attempts, and a budget of time.
///
///     weir::backoff retry{.base = 0.5s, .cap = 1min, .attempts = 5, .jitter = weir::jitter::additive};
///     if (auto wait = retry.next(attempt, rng, hint)) sleep(*wait); else give_up();
///
/// - Every duration may have any representation and period, and is clamped to the range of nanoseconds (292 years).
/// - A hint is what the server asks for, as in Retry-After (RFC 9110, 10.2.3). It wins if it is later than the computed
///   wait, even beyond the cap, and is never shortened. If it exceeds the budget, next() gives up at once, since an
///   earlier attempt would only be refused again.
/// - A policy that validate() refuses is refused by next() as a bad argument is by a constructor.
///
/// Deterministic for given random numbers, on every platform: it uses integers only and none of the standard's
/// distributions, which differ between libraries. Each call of next() takes the same number of random numbers, whatever
/// it returns (none without jitter). Any uniform random bit generator will do; its bits are mixed, so that related
/// seeds give unrelated waits. O(1). Waits are never negative and never overflow, after any number of attempts.
///
/// Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full, equal, decorrelated).
struct backoff {
    using duration = std::chrono::nanoseconds;

    any_duration<> base = std::chrono::seconds{1};
    any_duration<> cap = std::chrono::seconds{60};
    std::uint64_t attempts = 5;                        ///< in total, the first included: 1 means no retry
    any_duration<> budget = std::chrono::minutes{10};  ///< from the start of the first attempt to that of the last
    weir::jitter jitter = weir::jitter::full;
    any_duration<> spread = std::chrono::seconds{1};  ///< for jitter::additive
    any_duration<> hint_spread{};  ///< U(0, hint_spread) is added to a hint, so that not all return at once

    /// What a server asks for. Any duration converts to it. One that nanoseconds cannot hold is the longest: a header
    /// of 10^12 seconds must not wrap around to "at once". A negative one, from a date in the past, is zero.
    class hint {
    public:
        constexpr hint() noexcept : delay_{} {}
        constexpr hint(std::nullopt_t) noexcept : delay_{} {}
        template <class Rep, class Period>
        constexpr hint(std::chrono::duration<Rep, Period> d) noexcept : delay_{not_negative(d)} {}
        template <class Rep, class Period>
        constexpr hint(std::optional<std::chrono::duration<Rep, Period>> d) noexcept
            : delay_{d ? std::optional{not_negative(*d)} : std::nullopt} {}

        constexpr std::optional<duration> delay() const noexcept { return delay_; }

    private:
        static constexpr duration not_negative(any_duration<> d) noexcept {
            return d.count() > 0 ? duration{d} : duration::zero();
        }

        std::optional<duration> delay_;
    };

    /// Why next() would refuse the policy, if it would.
    [[nodiscard("validate() only reports")]] constexpr error validate() const noexcept {
        if (base < duration::zero()) return {"base must not be negative"};
        if (cap < base) return {"cap must not be below base"};
        if (attempts == 0) return {"attempts must be at least 1"};
        if (budget < duration::zero()) return {"budget must not be negative"};
        if (jitter > weir::jitter::additive) return {"unknown jitter value"};
        if (spread < duration::zero()) return {"spread must not be negative"};
        if (hint_spread < duration::zero()) return {"hint_spread must not be negative"};
        return {};
    }

    /// How long to wait after `attempt` (0 is the first) failed; empty: give up.
    /// - `elapsed` is the time since the first attempt began. A wait that would end after the budget is not begun.
    /// - `previous` is the wait before this one, for jitter::decorrelated. Without it, that of jitter::none is used;
    ///   backoff::sequence keeps both.
    ///
    /// The wait is at most cap, unless the hint (with hint_spread) is later. jitter::additive limits its exponential
    /// part to max(base, cap − spread), so that waits near the cap are spread too.
    template <class Generator>
    [[nodiscard("next() does not sleep: wait for what it returns")]] constexpr std::optional<duration> next(
        std::uint64_t attempt, Generator&& generator, hint asked = {}, any_duration<> elapsed = {},
        std::optional<any_duration<>> previous = std::nullopt) const;

    class sequence;
};

/// The retries of one operation: counts the attempts, keeps the previous wait, and adds up the waits for the budget.
///
///     weir::backoff::sequence tries{policy};
///     while (!(ok = attempt())) if (auto wait = tries.next(rng)) sleep(*wait); else break;
class backoff::sequence {
public:
    constexpr explicit sequence(backoff const& policy) : policy_{policy} { detail::ensure(policy.validate()); }

    /// As backoff::next. Without `elapsed`, the waits returned so far count against the budget, and the time that the
    /// attempts took does not. Once it has given up, it does so until reset().
    template <class Generator>
    [[nodiscard("next() does not sleep: wait for what it returns")]] constexpr std::optional<duration> next(
        Generator&& generator, hint asked = {}, std::optional<any_duration<>> elapsed = std::nullopt) {
        if (given_up_) return std::nullopt;
        auto const wait = policy_.next(attempt_, generator, asked, elapsed ? *elapsed : any_duration<>{waited_},
                                       attempt_ == 0 ? duration{policy_.base} : previous_);
        if (!wait) {
            given_up_ = true;
            return std::nullopt;
        }
        ++attempt_;
        // A wait that the server asked for does not widen the range of the next one.
        previous_ = (std::min)(*wait, duration{policy_.cap});
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

/// A bijection of 64 bits in which each bit of x changes each bit of the result with a probability of about 1/2: the
/// finalizer of SplitMix64 (S. Vigna, 2015, after D. Stafford's "Mix13").
constexpr std::uint64_t mixed(std::uint64_t x) noexcept {
    x = (x ^ (x >> 30U)) * 0xbf58'476d'1ce4'e5b9ULL;
    x = (x ^ (x >> 27U)) * 0x94d0'49bb'1331'11ebULL;
    return x ^ (x >> 31U);
}

/// 64 bits from any uniform random bit generator. Exactly uniform where its range is a power of two, as of all mersenne
/// twisters; otherwise as close as digits of another base come. Takes ceil(64 / log2(range)) numbers. They are mixed,
/// since the first numbers of generators with related seeds share bits: those of a congruential generator modulo 2^31
/// share the lowest two if the seeds differ by multiples of 4, and a small seed of a xorshift leaves the highest zero.
template <class Generator>
constexpr std::uint64_t random_bits(Generator& generator) {
    using G = std::remove_cvref_t<Generator>;
    constexpr auto low = to<std::uint64_t>((G::min)());
    constexpr auto last = to<std::uint64_t>((G::max)()) - low;
    static_assert(last > 0, "a generator needs at least two different numbers");
    if constexpr (last == (std::numeric_limits<std::uint64_t>::max)()) {
        return mixed(to<std::uint64_t>(generator()) - low);
    } else {
        std::uint64_t bits = 0;
        for (std::uint64_t room = (std::numeric_limits<std::uint64_t>::max)();; room /= last + 1) {
            bits = bits * (last + 1) + (to<std::uint64_t>(generator()) - low);
            if (room <= last) return mixed(bits);
        }
    }
}

/// Uniform on [0, top] by the high half of a product (D. Lemire, "Fast Random Integer Generation in an Interval",
/// 2019) without its rejection: some values are likelier than others by top / 2^64, which is 2·10^-7 for an hour.
template <class Generator>
constexpr std::chrono::nanoseconds random_up_to(std::chrono::nanoseconds top, Generator& generator) {
    auto const range = static_cast<std::uint64_t>(top.count()) + 1;
    return std::chrono::nanoseconds{static_cast<std::int64_t>(mul(random_bits(generator), range).hi)};
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

template <class Generator>
constexpr std::optional<backoff::duration> backoff::next(std::uint64_t attempt, Generator&& generator, hint asked,
                                                         any_duration<> elapsed,
                                                         std::optional<any_duration<>> previous) const {
    detail::ensure(validate());
    auto const exponential = [this](std::uint64_t n, duration limit) -> duration {
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
            duration last = previous       ? duration{*previous}
                            : attempt == 0 ? duration{base}
                                           : exponential(attempt - 1, cap);
            last = std::clamp<duration>(last, base, cap);
            // Clamped to the cap after the draw, as in the source: the cap itself is then the likeliest wait.
            duration const top = last > (duration::max)() / 3 ? (duration::max)() : last * 3;
            wait = (std::min<duration>)(cap, base + detail::random_up_to(top - base, generator));
            break;
        }
        case weir::jitter::additive: {
            duration const limit = (std::max<duration>)(base, cap > spread ? cap - spread : duration::zero());
            wait = exponential(attempt, limit);
            wait += (std::min<duration>)(cap - wait, detail::random_up_to(spread, generator));
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
