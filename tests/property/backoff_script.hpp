// SPDX-License-Identifier: MIT
//
// backoff's formulas in exact integers, over any policy, any numbers of the generator, and any hint.
#pragma once

#include "exact.hpp"
#include "run.hpp"

#include <weir/backoff.hpp>

#include <optional>

namespace script {

/// A generator with the given range that counts its calls.
template <class Number, Number Low, Number High>
struct told {
    static constexpr Number min() { return Low; }
    static constexpr Number max() { return High; }
    constexpr Number operator()() {
        ++taken;
        return static_cast<Number>(Low + static_cast<Number>(r.next() % (static_cast<std::uint64_t>(High - Low) +
                                                                         (High - Low == ~Number{0} ? 0U : 1U))));
    }
    random r{0};
    std::uint64_t taken = 0;
};
template <>
constexpr std::uint64_t told<std::uint64_t, 0, ~std::uint64_t{0}>::operator()() {
    ++taken;
    // The numbers of the lowest and the highest draw come often.
    std::uint64_t const n = r.next();
    return n % 5 == 0 ? 0 : n % 5 == 1 ? 0xcf9a'04af'fa6b'adc0U : n;
}

/// The finalizer of SplitMix64.
inline std::uint64_t split_mix(std::uint64_t x) {
    x = (x ^ (x >> 30U)) * 13'787'848'793'156'543'929U;
    x = (x ^ (x >> 27U)) * 10'723'151'780'598'845'931U;
    return x ^ (x >> 31U);
}

/// 64 bits as digits of the generator's base, most significant first, mixed, and their product with a range: the high
/// word.
template <class Generator>
integer drawn(integer const& most, Generator& g) {
    integer const base =
        integer{static_cast<std::uint64_t>(Generator::max())} - static_cast<std::uint64_t>(Generator::min()) + 1;
    integer bits = 0;
    for (integer reach = 1; reach < integer::power(64); reach = reach * base) {
        bits = bits * base + (static_cast<std::uint64_t>(g()) - static_cast<std::uint64_t>(Generator::min()));
    }
    return floor_div(integer{split_mix(mod(bits, integer::power(64)).u64())} * (most + 1), integer::power(64));
}

template <class Generator>
std::optional<integer> ideal_wait(weir::backoff const& p, std::uint64_t attempt, Generator& g,
                                  std::optional<integer> const& hint, std::int64_t elapsed,
                                  std::optional<std::int64_t> previous) {
    integer const base = p.base.count();
    integer const cap = p.cap.count();
    auto const exponential = [&](std::uint64_t n, integer const& limit) {
        return n > 70 ? (base.is_zero() ? base : limit)
                      : std::min(base * integer::power(static_cast<unsigned>(n)), limit);
    };
    integer wait = exponential(attempt, cap);
    switch (p.jitter) {
        case weir::jitter::none: break;
        case weir::jitter::full: wait = drawn(wait, g); break;
        case weir::jitter::equal: wait = ceil_div(wait, integer{2}) + drawn(floor_div(wait, integer{2}), g); break;
        case weir::jitter::decorrelated: {
            integer last = previous ? integer{*previous} : attempt == 0 ? base : exponential(attempt - 1, cap);
            last = std::min(std::max(last, base), cap);
            // Three times the last wait, as far as nanoseconds go.
            integer const most = std::min(last * 3, integer{max_ticks});
            wait = std::min(cap, base + drawn(most - base, g));
            break;
        }
        case weir::jitter::additive: {
            integer const spread = p.spread.count();
            wait = exponential(attempt, std::max(base, cap - spread));
            wait = std::min(cap, wait + drawn(spread, g));
            break;
        }
    }
    integer const extra = p.hint_spread.count() > 0 ? drawn(integer{p.hint_spread.count()}, g) : integer{0};
    if (hint) wait = std::max(wait, std::min(*hint + extra, integer{max_ticks}));
    bool const is_last = integer{attempt} + 1 >= integer{p.attempts};
    if (is_last || integer{std::max<std::int64_t>(elapsed, 0)} + wait > integer{p.budget.count()}) return std::nullopt;
    return wait;
}

/// What a hint in units of num/den nanoseconds is worth: rounded up, none is negative, none longer than there is.
template <class Period>
std::pair<weir::backoff::hint, integer> hint_of(std::int64_t n) {
    integer const ns = ceil_div(integer{n} * Period::num * 1'000'000'000, integer{Period::den});
    return {std::chrono::duration<std::int64_t, Period>{n}, std::min(std::max(ns, integer{0}), integer{max_ticks})};
}

template <class Generator>
void run_backoff(weir::backoff const& p, schedule const& s, journal& log) {
    std::optional<weir::backoff::sequence> tries;
    if (!p.validate()) tries.emplace(p);
    integer waited = 0;
    integer last = p.base.count();
    std::uint64_t failures = 0;
    bool gave_up = false;
    for (std::size_t i = 2; i < s.size(); ++i) {
        std::uint64_t const attempt = s[i].pick % 4 == 0 ? size(s[i].a) : s[i].a % 80U;
        auto const elapsed = static_cast<std::int64_t>(s[i].pick % 8 == 1 ? ~size(s[i].b) + 1 : size(s[i].b));
        auto const signed_size = static_cast<std::int64_t>(s[i].op % 2 == 0 ? size(s[i].c) : s[i].c % 3U - 1U);
        std::pair<weir::backoff::hint, integer> hint;
        bool const asks = s[i].op % 3 != 0;
        switch (s[i].op % 8) {
            case 0: hint = hint_of<std::ratio<1>>(signed_size); break;
            case 1: hint = hint_of<std::nano>(signed_size); break;
            case 2: hint = hint_of<std::pico>(signed_size); break;
            case 3: hint = hint_of<std::ratio<3600>>(signed_size); break;
            case 4: hint = hint_of<std::ratio<1, 3>>(signed_size); break;
            default: hint = hint_of<std::milli>(s[i].c % 5000); break;
        }
        Generator mine;
        mine.r = random{i * 1000 + s[i].c};
        Generator its = mine;
        auto const previous =
            s[i].pick % 3 == 0 ? std::nullopt : std::optional{static_cast<std::int64_t>(size(s[i].b))};
        auto const asked = asks ? hint.first : weir::backoff::hint{};
        auto const expected =
            ideal_wait(p, attempt, mine, asks ? std::optional{hint.second} : std::nullopt, elapsed, previous);
        auto const wait = p.next(attempt, its, asked, std::chrono::nanoseconds{elapsed},
                                 previous ? std::optional{std::chrono::nanoseconds{*previous}} : std::nullopt);
        log.note("attempt ", attempt, " after ", elapsed, ": ", expected ? expected->text() : std::string{"give up"});
        ensure_equal(wait.has_value(), expected.has_value(), "waits before attempt ", attempt + 1);
        if (wait)
            ensure_equal(wait->count(), expected->template clamped<std::int64_t>(), "the wait after attempt ", attempt);
        ensure_equal(its.taken, mine.taken, "numbers taken of the generator");
        // The bounds, whatever the formula: a hint is never shortened, and without one the cap holds.
        if (wait && asks) ensure(integer{wait->count()} >= hint.second, "a hint was shortened");
        if (wait && !asks) ensure(wait->count() >= 0 && *wait <= p.cap, "a wait outside its bounds");

        // One operation, repeated: the waits count against the budget, and the last one is kept, up to the cap.
        mine.r = its.r = random{i};
        mine.taken = its.taken = 0;
        auto const next = tries->next(its, asked);
        auto const own = gave_up ? std::nullopt
                                 : ideal_wait(p, failures, mine, asks ? std::optional{hint.second} : std::nullopt,
                                              waited.clamped<std::int64_t>(), last.clamped<std::int64_t>());
        ensure_equal(next.has_value(), own.has_value(), "the sequence goes on after ", failures);
        if (own) {
            ensure_equal(next->count(), own->template clamped<std::int64_t>(), "the sequence's wait after ", failures);
            ++failures;
            last = std::min(*own, integer{p.cap.count()});
            waited = std::min(waited + *own, integer{max_ticks});
        } else {
            gave_up = true;
        }
        ensure_equal(tries->waited().count(), waited.clamped<std::int64_t>(), "waited");
        ensure_equal(tries->failures(), failures + (gave_up ? 1U : 0U), "failures");
        if (gave_up && s[i].pick % 5 == 0) {
            tries->reset();
            gave_up = false;
            failures = 0;
            waited = 0;
            last = p.base.count();
        }
    }
}

inline void backoff_script(schedule const& s, journal& log) {
    auto const setup = setup_of<2>(s);
    auto const length = [](std::uint16_t code) {
        return std::chrono::nanoseconds{static_cast<std::int64_t>(size(code))};
    };
    weir::backoff p{.base = length(setup[0].a),
                    .cap = length(setup[0].b),
                    .attempts = setup[0].op % 4 == 0 ? size(setup[0].c) : ~std::uint64_t{0} - setup[0].c,
                    .budget = setup[1].op % 4 == 0 ? length(setup[1].a) : std::chrono::nanoseconds{max_ticks},
                    .jitter = static_cast<weir::jitter>(setup[0].pick % 6),
                    .spread = length(setup[1].b),
                    .hint_spread = setup[1].pick % 2 == 0 ? std::chrono::nanoseconds{0} : length(setup[1].c)};
    bool const is_bad = p.base.count() < 0 || p.cap < p.base || p.attempts == 0 || p.budget.count() < 0 ||
                        setup[0].pick % 6 == 5 || p.spread.count() < 0 || p.hint_spread.count() < 0;
    ensure_equal(static_cast<bool>(p.validate()), is_bad, "refused: the policy");
    if (is_bad) {
        ensure(*p.validate().message() != '\0', "refused without a reason");
        told<std::uint64_t, 0, ~std::uint64_t{0}> g;
        bool thrown = false;
        try {
            (void)p.next(0, g);
        } catch (std::invalid_argument const&) {
            thrown = true;
        }
        ensure(thrown, "a bad policy was used");
        auto const positive = [](std::chrono::nanoseconds d) {
            return std::chrono::nanoseconds{d.count() & max_ticks};
        };
        p.base = positive(p.base);
        p.cap = std::max<std::chrono::nanoseconds>(p.base, positive(p.cap));
        p.attempts = std::max<std::uint64_t>(p.attempts, 1);
        p.budget = positive(p.budget);
        p.spread = positive(p.spread);
        p.hint_spread = positive(p.hint_spread);
        p.jitter = static_cast<weir::jitter>(setup[0].pick % 5);
    }
    log.note("base ", p.base.count(), ", cap ", p.cap.count(), ", attempts ", p.attempts, ", budget ", p.budget.count(),
             ", jitter ", static_cast<int>(p.jitter), ", spread ", p.spread.count(), ", of hints ",
             p.hint_spread.count());
    switch (setup[1].op % 8) {
        case 0: return run_backoff<told<std::uint32_t, 0, 0xffff'ffff>>(p, s, log);
        case 1: return run_backoff<told<std::uint32_t, 1, 2'147'483'646>>(p, s, log);
        case 2: return run_backoff<told<std::uint16_t, 7, 9>>(p, s, log);
        default: return run_backoff<told<std::uint64_t, 0, ~std::uint64_t{0}>>(p, s, log);
    }
}

}  // namespace script
