// SPDX-License-Identifier: MIT
//
// The generic cell rate algorithm made concurrent: one word, changed by compare-exchange alone. It knows ticks, not clocks;
// token_bucket, leaky_bucket and leaky_bucket_queue give it a clock and a meaning.
//
// The word:   63..62 configuration   61..60 epoch   59..0 TAT
// - TAT: see gcra.hpp. A grant raises it, and nothing else is written: a denial writes nothing.
// - Era: TAT only rises, but for refunds. A refund that stalls between its load and its exchange must not succeed on a word
//   that came back to the same TAT by another, for what it may give back has shrunk if somebody took later meanwhile. So each
//   refund begins another epoch, one in which no other is under way: see refunding_.
// - Configuration: 0 is the one that the constructor set, in plain members that never change. A change writes one of three
//   slots and then moves the word over to it, 0 → 1 → 2 → 3 → 1 …, so that one exchange changes configuration and TAT
//   together, and an attempt that began under the old one fails its exchange. A slot is written only while the word names
//   another; a reader that finds, after reading the slot, the word as it was has read a whole one. (Three changes, ending
//   at the very same word, would have to fit in one attempt to be mistaken.)
//
// Pairs:  (1) acquire-loads of the word around a slot    with (2) changer's release-exchange of the word
//         (3) reader's acquire-loads of a slot          with (4) changer's release-exchanges of the slot
//         (7) refund's acquire-load of the word, before it      with (8) release-exchange of the word by a grant, after it read
//         reads the clock and, relaxed, the marks below (9)     the clock, and by a booking and a refund, after they raised a mark
//         (10) refund's acquire-add to refunding_, before       with (11) release-subtraction of a refund that is over
//         it looks at the word
// The clock is part of (7): a refund that sees a grant must not see a time before it.
// All else on the word is relaxed: the word is the whole state, and read-modify-writes always see the last value. Attempts
// continue the release sequence of (2) and (8), for they are read-modify-writes too. Each order is earned: weakened alone,
// it makes a case of tests/model/gcra_orders_model_test.cpp fail.
//
// refunding_ says how many refunds are under way in each epoch, 16 bits each. A refund adds itself to the epoch that it sees, which
// shows it who was there before, looks at the word again and goes on if the epoch is still that one. It then begins one of the
// others, one that it saw empty. (Where refunds stand still in all three, it gives nothing back.) So no epoch is begun anew while a
// refund is under way that looked at it: let R have looked at a word S of epoch v, and Q, in epoch u, be about to begin v. R added
// itself after Q, or Q saw it. Between S and the word of Q somebody, P, began u; he added himself before Q, or he saw Q. If P was
// over when Q added itself, R sees P's exchange (10), which is later than S, and cannot have looked at S. Else Q saw P in
// the epoch that P left. Was that v, Q does not begin it; was it not, somebody began it after S, of whom the same holds as of P;
// and the first of them did leave v.
//
// Two marks stand beside the word, each a tick that only rises, raised before the exchange that it speaks of:
// - booked_until_: the latest moment that anybody booked. No live permit counts at a moment later than it and now.
// - refunded_after_: one more than the clock at the latest refund of a part. A charge made at or after it has seen none since;
//   receipts are kept for long, so the epoch could not tell.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>

#include "../atomics.hpp"
#include "../clock/clock.hpp"
#include "gcra.hpp"

namespace weir::inline v0::detail {

/// Ticks of `t` since `origin`, between 0 and the horizon of gcra: time before the start is the start, and beyond the
/// horizon it stands still.
template <class Duration, class TimePoint>
constexpr std::uint64_t ticks_since(TimePoint t, std::int64_t origin) noexcept {
    constexpr std::uint64_t horizon = gcra::horizon<Duration>();
    // Beside a clock's end the difference may overflow. As a branch: what follows need not wait for it.
    std::int64_t d{};
    bool const overflow = __builtin_sub_overflow(detail::ticks(t), origin, &d);
    if (!overflow && static_cast<std::uint64_t>(d) <= horizon) [[likely]]
        return static_cast<std::uint64_t>(d);
    return detail::ticks(t) < origin ? 0 : horizon;
}

/// The time point t ticks after `origin`; time_point::max() where it has none.
template <class TimePoint>
constexpr TimePoint time_since(std::int64_t origin, std::uint64_t t) noexcept {
    using rep = typename TimePoint::rep;
    if (t >> 63U) return (TimePoint::max)();
    std::int64_t const at = saturating_add(origin, static_cast<std::int64_t>(t));
    if (at > (std::numeric_limits<rep>::max)()) return (TimePoint::max)();
    return TimePoint{typename TimePoint::duration{static_cast<rep>(at)}};
}

/// later - earlier, at most duration::max().
template <class TimePoint>
constexpr typename TimePoint::duration wait_between(TimePoint earlier, TimePoint later) noexcept {
    using rep = typename TimePoint::rep;
    std::int64_t const d = saturating_sub(detail::ticks(later), detail::ticks(earlier));
    if (d > (std::numeric_limits<rep>::max)()) return (TimePoint::duration::max)();
    return typename TimePoint::duration{static_cast<rep>(d)};
}

template <class Atomics>
class gcra_state {
    static constexpr unsigned tat_bits = gcra::tat_bits;
    static constexpr std::uint64_t tat_max = gcra::tat_max;
    static constexpr std::uint64_t epoch_mask = std::uint64_t{3} << tat_bits;
    static constexpr unsigned version_shift = 62;

    static constexpr std::uint64_t tat_of(std::uint64_t word) noexcept { return word & tat_max; }
    static constexpr std::uint64_t with_tat(std::uint64_t word, std::uint64_t tat) noexcept {
        return (word & ~tat_max) | tat;
    }
    static constexpr unsigned epoch_of(std::uint64_t word) noexcept {
        return static_cast<unsigned>((word & epoch_mask) >> tat_bits);
    }
    static constexpr std::uint64_t with_epoch(std::uint64_t word, unsigned epoch) noexcept {
        return (word & ~epoch_mask) | std::uint64_t{epoch} << tat_bits;
    }
    /// One refund in refunding_.
    static constexpr std::uint64_t one_in(unsigned epoch) noexcept { return std::uint64_t{1} << 16U * epoch; }
    static constexpr unsigned no_epoch = 4;
    /// Another epoch than that, in which nobody is.
    static constexpr unsigned next_epoch(unsigned epoch, std::uint64_t refunding) noexcept {
        unsigned next = 0;
        while (next != no_epoch && (next == epoch || (refunding >> 16U * next & 0xffffU) != 0)) ++next;
        return next;
    }

public:
    /// What an exchange did, and what its undoing needs.
    struct charge {
        bool granted = false;
        std::uint64_t before = 0;   ///< the word that was replaced, or, when denied, the word that was seen
        std::uint64_t after = 0;    ///< the word that replaced it
        std::uint64_t version = 0;  ///< full number of the configuration it was made under
    };

    constexpr gcra_state(gcra const& g, permits start) noexcept : word_{g.initial(start)}, first_{g} {}

    struct attempt {
        charge what;
        bool too_many;  ///< n is above the burst, so that it can never be granted
    };

    /// Charges n permits at tick t if they are there. Lock-free: an exchange fails only because another succeeded.
    [[gnu::__always_inline__]] constexpr attempt try_charge(permits n, std::uint64_t t) noexcept {
        // Relaxed: of a changed configuration this reads nothing, and try_charge_changed begins again with (1).
        std::uint64_t word = word_.load(std::memory_order_relaxed);
        while (true) {
            if ((word >> version_shift) != 0) [[unlikely]]
                return try_charge_changed(n, t);
            if (n != 1 && n > first_.burst()) [[unlikely]]
                return {{false, word, word, 0}, true};
            auto const now = first_.at(t);
            if (!first_.allows(tat_of(word), now, n)) return {{false, word, word, 0}, false};
            // `charged`, with branches for its maximum and the epoch, so that the exchange need not wait for either.
            std::uint64_t const worth = n * first_.unit();
            std::uint64_t next = word + worth;
            if (__builtin_expect_with_probability(tat_of(word) <= now.ceil, 1, 0.9)) {
                next = now.ceil + worth;
                if (word > tat_max) [[unlikely]]
                    next |= word & epoch_mask;
            }
            if (word_.compare_exchange_weak(word, next, std::memory_order_release, std::memory_order_relaxed)) {  // (8)
                return {{true, word, next, 0}, false};
            }
        }
    }

    /// What try_charge would answer. Writes nothing.
    [[gnu::__always_inline__]] constexpr attempt probe(permits n, std::uint64_t t) const noexcept {
        std::uint64_t const word = word_.load(std::memory_order_relaxed);  // as try_charge's
        if ((word >> version_shift) != 0) [[unlikely]]
            return probe_changed(n, t);
        if (n != 1 && n > first_.burst()) [[unlikely]]
            return {{false, word, word, 0}, true};
        return {{first_.allows(tat_of(word), first_.at(t), n), word, word, 0}, false};
    }

    /// A charge for a moment that may lie ahead, and that moment. `due` is `latest` + 1 at least where it was refused.
    struct booking {
        attempt made;
        std::uint64_t due;
    };

    /// Books n permits at tick t for the first tick at which they are to be had, no later than `latest` ≥ t.
    constexpr booking try_book(permits n, std::uint64_t t, std::uint64_t latest) noexcept {
        while (true) {
            view v = look();
            if (n > v.g.burst()) return {{{false, v.word, v.word, v.version}, true}, 0};
            auto const now = v.g.at(t);
            bool const at_once = v.g.allows(tat_of(v.word), now, n);
            std::uint64_t const next = v.g.charged(tat_of(v.word), now, n);
            // By `latest` there must have been earned what is charged, less the burst. The second bound keeps the word.
            if (!at_once && (next > v.g.at(v.g.clamp(latest)).floor + v.g.span() || next > tat_max)) {
                return {{{false, v.word, v.word, v.version}, false}, 0};
            }
            std::uint64_t const word = with_tat(v.word, next);
            std::uint64_t const due = at_once ? t : v.g.first(next - v.g.span());
            if (!at_once) raise(booked_until_, due);
            if (word_.compare_exchange_weak(v.word, word, std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (8)
                return {{{true, v.word, word, v.version}, false}, due};
            }
        }
    }

    /// Puts n permits into the queue at tick t; they leave at the tick by which all that was booked before has left. One
    /// permit of the burst is the one that leaves, the others are places to wait.
    constexpr booking try_enqueue(permits n, std::uint64_t t) noexcept {
        attempt const a = try_charge(n, t);
        if (!a.what.granted) return {a, 0};
        std::uint64_t const before = tat_of(a.what.before);
        return {a, before <= first_.at(t).floor ? t : first_.first(before)};
    }

    /// Charges n permits whether or not they are there: debt. The TAT saturates.
    constexpr void charge_debt(permits n, std::uint64_t t) noexcept {
        while (true) {
            view v = look();
            auto const now = v.g.at(t).ceil;
            std::uint64_t const base = tat_of(v.word) > now ? tat_of(v.word) : now;
            u128 const worth = mul(n, v.g.unit());
            std::uint64_t const room = tat_max - base;
            std::uint64_t const next = worth.hi != 0 || worth.lo > room ? tat_max : base + worth.lo;
            if (word_.compare_exchange_weak(v.word, with_tat(v.word, next), std::memory_order_relaxed,
                                            std::memory_order_relaxed)) {
                return;
            }
        }
    }

    /// Gives back k of the `live` permits of `c`, made at tick t. `now` is called after each load, since what is certain
    /// shrinks as time runs; it returns ticks. Returns what was given back, in whole permits; 0 where the charge was made
    /// under another configuration.
    ///
    /// Undone whole when it is the last charge: the TAT is then what it left, and goes back to what it was before. (Without
    /// refunds of a part the TAT falls by such steps alone; to see it again after it had risen, all that came after must
    /// have been undone, and only undoing this charge makes it fall below.) Otherwise what is certain is given back. Let
    /// c be where the charge stands on the scale of what is earned, L the latest moment at which a live permit counts.
    /// For every s ≤ L: (permits live since s)·unit + ρs ≤ TAT. With s = c that bounds what is live after c, so
    /// for c < s ≤ L: live(s)·unit + ρs ≤ TAT − live·unit + (ρL − ρc); hence TAT may go down by live·unit − (ρL − ρc), and
    /// by k·unit at most for the sake of s ≤ c. L ≤ max(now, booked_until_). (TAT − span says nothing of L: refunds lower it.)
    template <class Now>
    constexpr permits give_back(charge const& c, std::uint64_t t, permits live, permits k, Now now) noexcept {
        std::uint64_t mine = 0;
        permits const given = give_back_in_epoch(c, t, live, k, now, mine);
        refunding_.fetch_sub(mine, std::memory_order_release);  // (11)
        return given;
    }

    /// Takes `c` back if it is the last charge, leaving the word as it was before it; else does nothing. Where this is the
    /// only way in which the TAT falls, a word names the charge that made it: to see the same word again, it must have
    /// fallen below it, and only the cancelling of that charge does that.
    constexpr bool undo(charge const& c) noexcept {
        std::uint64_t expected = c.after;
        return word_.compare_exchange_strong(expected, c.before, std::memory_order_relaxed, std::memory_order_relaxed);
    }

    /// Puts `g` in force as of the tick that `now` returns, carrying credit and debt over. Errors: another thread is
    /// changing it; the debt does not fit. A thread that stops for ever in here keeps others from changing, and nothing else.
    template <class Now>
    constexpr error change(gcra const& g, Now now) noexcept {
        if (changing_.exchange(1, std::memory_order_acquire) != 0) return busy();  // (5) pairs with (6)
        error const e = change_alone(g, now);
        changing_.exchange(0, std::memory_order_release);  // (6)
        return e;
    }
    static constexpr error busy() noexcept { return busy_changing(); }

    /// The configuration in force and the word it was read with.
    struct view {
        std::uint64_t word;
        std::uint64_t version;
        gcra g;
    };
    constexpr view look() const noexcept {
        std::uint64_t word = word_.load(std::memory_order_acquire);  // (1)
        while (true) {
            std::uint64_t const v = word >> version_shift;
            if (v == 0) return {word, 0, first_};
            slot const& s = slots_[v - 1];
            gcra::packed_state p{};
            std::uint64_t const version = s.version.load(std::memory_order_acquire);                      // (3)
            for (int i = 0; i < gcra::words; ++i) p.word[i] = s.word[i].load(std::memory_order_acquire);  // (3)
            // Had any of it been written since, then (3) saw (4), and this sees a word that is later than ours.
            std::uint64_t const again = word_.load(std::memory_order_acquire);
            if (again == word) return {word, version, gcra::unpack(p)};
            word = again;
        }
    }

    constexpr permits available(std::uint64_t t) const noexcept {
        view const v = look();
        return v.g.available(tat_of(v.word), v.g.at(t));
    }

    /// The first tick from `t` on at which n permits are to be had, if the word stays as a denial saw it. All ones: never.
    constexpr std::uint64_t retry(charge const& c, permits n, std::uint64_t t) const noexcept {
        view v = look();
        if (v.version == c.version) v.word = c.before;  // otherwise what was seen says nothing any more
        if (n > v.g.burst()) return (std::numeric_limits<std::uint64_t>::max)();
        std::uint64_t const at = v.g.first(v.g.required(tat_of(v.word), n));
        return at > t ? at : t;
    }

private:
    struct slot {
        typename Atomics::template atomic<std::uint64_t> version{0};
        typename Atomics::template atomic<std::uint64_t> word[gcra::words] = {};
    };

    [[gnu::__noinline__, gnu::__cold__]] constexpr attempt try_charge_changed(permits n, std::uint64_t t) noexcept {
        while (true) {
            view v = look();
            if (n > v.g.burst()) return {{false, v.word, v.word, v.version}, true};
            auto const now = v.g.at(t);
            if (!v.g.allows(tat_of(v.word), now, n)) return {{false, v.word, v.word, v.version}, false};
            std::uint64_t const next = with_tat(v.word, v.g.charged(tat_of(v.word), now, n));
            if (word_.compare_exchange_weak(v.word, next, std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (8)
                return {{true, v.word, next, v.version}, false};
            }
        }
    }

    [[gnu::__noinline__, gnu::__cold__]] constexpr attempt probe_changed(permits n, std::uint64_t t) const noexcept {
        view const v = look();
        if (n > v.g.burst()) return {{false, v.word, v.word, v.version}, true};
        return {{v.g.allows(tat_of(v.word), v.g.at(t), n), v.word, v.word, v.version}, false};
    }

    /// `mine`: what refunding_ has of this refund.
    template <class Now>
    constexpr permits give_back_in_epoch(charge const& c, std::uint64_t t, permits live, permits k, Now now,
                                         std::uint64_t& mine) noexcept {
        std::uint64_t others = 0;
        std::uint64_t word = word_.load(std::memory_order_relaxed);  // for its epoch
        int looks = 16;                                              // for another in which nobody is
        auto const join = [&](std::uint64_t to) noexcept {
            others = refunding_.fetch_add(to - mine, std::memory_order_acquire) - mine;  // (10)
            mine = to;
        };
        while (true) {
            unsigned const epoch = epoch_of(word);
            if (mine != one_in(epoch)) join(one_in(epoch));
            view v = look();  // (7)
            if (v.version != c.version) return 0;
            word = v.word;
            if (epoch_of(word) != epoch) continue;
            unsigned next = next_epoch(epoch, others);
            for (; next == no_epoch; next = next_epoch(epoch, others)) {
                if (--looks == 0) return 0;
                join(mine);
            }
            std::uint64_t const tat = tat_of(word);
            std::uint64_t to = tat_of(c.before);
            permits given = k;
            if (tat != tat_of(c.after) || k != live || refunded_after_.load(std::memory_order_relaxed) > t) {  // (9)
                std::uint64_t const span = v.g.span();
                std::uint64_t const worth = k * v.g.unit();
                std::uint64_t const whole = live * v.g.unit();
                std::uint64_t const clock = now();
                std::uint64_t const booked = booked_until_.load(std::memory_order_relaxed);  // (9)
                std::uint64_t const latest = v.g.at(clock > booked ? clock : booked).ceil;
                std::uint64_t const charged = v.g.at(t).floor;
                std::uint64_t const ahead = tat_of(c.after) > span ? tat_of(c.after) - span : 0;
                std::uint64_t const at = charged > ahead ? charged : ahead;
                std::uint64_t const gone = latest > at ? latest - at : 0;
                if (gone >= whole) return 0;
                std::uint64_t const certain = whole - gone < worth ? whole - gone : worth;
                std::uint64_t const give = certain < tat ? certain : tat;
                raise(refunded_after_, clock + 1);
                to = tat - give;
                given = give / v.g.unit();
            }
            if (word_.compare_exchange_weak(word, with_epoch(with_tat(word, to), next), std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (8)
                return given;
            }
        }
    }

    template <class Now>
    constexpr error change_alone(gcra const& g, Now now) noexcept {
        view v = look();
        std::uint64_t const number = v.word >> version_shift;
        std::uint64_t const next = number == 3 ? 1 : number + 1;
        std::uint64_t const version = v.version + 1;
        slot& s = slots_[next - 1];
        gcra::packed_state const p = g.pack();
        s.version.exchange(version, std::memory_order_release);                                          // (4)
        for (int i = 0; i < gcra::words; ++i) s.word[i].exchange(p.word[i], std::memory_order_release);  // (4)
        while (true) {
            std::uint64_t const tat = g.carried(v.g, tat_of(v.word), now());
            if (tat > tat_max) return {"the debt does not fit the new rate and burst"};
            std::uint64_t const word = (next << version_shift) | (v.word & epoch_mask) | tat;
            if (word_.compare_exchange_weak(v.word, word, std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (2)
                return {};
            }
        }
    }

    using mark = typename Atomics::template atomic<std::uint64_t>;

    static constexpr void raise(mark& m, std::uint64_t to) noexcept {
        std::uint64_t seen = m.load(std::memory_order_relaxed);
        while (seen < to && !m.compare_exchange_weak(seen, to, std::memory_order_relaxed, std::memory_order_relaxed)) {
        }
    }

    typename Atomics::template atomic<std::uint64_t> word_;
    gcra first_;
    mark booked_until_{0};
    mark refunded_after_{0};
    typename Atomics::template atomic<std::uint32_t> changing_{0};
    slot slots_[3] = {};
    typename Atomics::template atomic<std::uint64_t> refunding_{0};  // last: far from what attempts read
};

}  // namespace weir::inline v0::detail
