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
#include "cancelled_permits.hpp"
#include "gcra.hpp"

namespace weir::inline v0::detail {

template <class Atomics>
class gcra_state {
    static constexpr unsigned tat_bits = gcra::tat_bits;
    static constexpr std::uint64_t tat_max = gcra::tat_max;
    static constexpr std::uint64_t epoch_mask = std::uint64_t{3} << tat_bits;
    static constexpr unsigned version_shift = 62;

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
    static constexpr std::uint64_t tat_of(std::uint64_t word) noexcept { return word & tat_max; }

    /// What undoing a charge needs.
    struct receipt {
        std::uint64_t before = 0;   ///< the word that it replaced
        std::uint64_t after = 0;    ///< the word that replaced it
        std::uint64_t version = 0;  ///< full number of the configuration it was made under
    };
    /// What an attempt did and saw. Its answers follow from the words and the configuration; under a changed one, which
    /// may be replaced, the attempt computes them.
    struct attempt {
        bool granted = false;
        bool too_many = false;     ///< n is above the burst, so that it can never be granted
        std::uint64_t before = 0;  ///< the word that was replaced, or, when denied, the word that was seen
        std::uint64_t after = 0;   ///< the word that replaced it; of a check, what would
        std::uint64_t version = 0;
        permits remaining = 0;    ///< this and the next two where version is not 0
        std::uint64_t retry = 0;  ///< tick of retry_at, when denied
        std::uint64_t full = 0;   ///< tick of full_at
    };

    constexpr gcra_state(gcra const& g, permits available) noexcept : word_{g.initial(available)}, first_{g} {}

    /// The configuration of the constructor. It never changes.
    constexpr gcra const& initial() const noexcept { return first_; }

    /// Charges n permits at tick t if they are available. Lock-free: an exchange fails only because another succeeded.
    [[gnu::__always_inline__]] constexpr attempt try_charge(permits n, std::uint64_t t) noexcept {
        // Relaxed: of a changed configuration this reads nothing, and try_charge_changed begins again with (1).
        std::uint64_t word = word_.load(std::memory_order_relaxed);
        while (true) {
            if ((word >> version_shift) != 0) [[unlikely]]
                return try_charge_changed(n, t);
            if (n != 1 && n > first_.burst()) [[unlikely]]
                return {false, true, word, word};
            auto const now = first_.at(t);
            if (!first_.allows(tat_of(word), now, n)) return {false, false, word, word};
            // `charged`, with branches for its maximum and the epoch, so that the exchange need not wait for either.
            std::uint64_t const worth = n * first_.unit();
            std::uint64_t next = word + worth;
            if (__builtin_expect_with_probability(tat_of(word) <= now.ceil, 1, 0.9)) {
                next = now.ceil + worth;
                if (word > tat_max) [[unlikely]]
                    next |= word & epoch_mask;
            }
            if (word_.compare_exchange_weak(word, next, std::memory_order_release, std::memory_order_relaxed)) {  // (8)
                return {true, false, word, next};
            }
        }
    }

    /// What try_charge would answer. Writes nothing.
    [[gnu::__always_inline__]] constexpr attempt probe(permits n, std::uint64_t t) const noexcept {
        std::uint64_t const word = word_.load(std::memory_order_relaxed);  // as try_charge's
        if ((word >> version_shift) != 0) [[unlikely]]
            return probe_changed(n, t);
        if (n != 1 && n > first_.burst()) [[unlikely]]
            return {false, true, word, word};
        auto const now = first_.at(t);
        bool const granted = first_.allows(tat_of(word), now, n);
        return {granted, false, word, granted ? with_tat(word, first_.charged(tat_of(word), now, n)) : word};
    }

    /// The attempt for nothing: granted. It writes nothing.
    [[gnu::__noinline__, gnu::__cold__]] constexpr attempt look_only(std::uint64_t t) const noexcept {
        view const v = look();
        return completed({true, false, v.word, v.word, v.version}, v.g, 0, t);
    }

    /// A charge for a moment that may lie ahead, and that moment.
    struct booking {
        attempt made;
        std::uint64_t due;
    };

    /// Books n permits at tick t for the first tick at which they are to be had, no later than `latest` ≥ t.
    constexpr booking try_book(permits n, std::uint64_t t, std::uint64_t latest) noexcept {
        while (true) {
            view v = look();
            if (n > v.g.burst()) return {refused(v, true, n, t), 0};
            auto const now = v.g.at(t);
            bool const at_once = v.g.allows(tat_of(v.word), now, n);
            std::uint64_t const next = v.g.charged(tat_of(v.word), now, n);
            // By `latest` there must have been earned what is charged, less the burst. The second bound keeps the word.
            if (!at_once && (next > v.g.at(v.g.clamp(latest)).floor + v.g.span() || next > tat_max)) {
                return {refused(v, false, n, t), 0};
            }
            std::uint64_t const word = with_tat(v.word, next);
            std::uint64_t const due = at_once ? t : v.g.first(next - v.g.span());
            if (!at_once) raise(booked_until_, due);
            if (word_.compare_exchange_weak(v.word, word, std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (8)
                return {completed({true, false, v.word, word, v.version}, v.g, n, t), due};
            }
        }
    }

    /// Puts n permits into the queue at tick t. They leave at the first tick by which all that was booked before has left:
    /// one permit of the burst is the one that leaves, and the others are those that wait.
    constexpr booking try_enqueue(permits n, std::uint64_t t) noexcept {
        attempt const a = try_charge(n, t);
        if (!a.granted) return {a, 0};
        std::uint64_t const before = tat_of(a.before);
        if (a.version == 0) return {a, before <= first_.at(t).floor ? t : first_.first(before)};
        return {a, a.retry};
    }

    /// Charges n permits whether or not they are available: debt. The TAT saturates.
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
    constexpr permits give_back(receipt const& c, std::uint64_t t, permits live, permits k, Now now) noexcept {
        std::uint64_t mine = 0;
        permits const given = give_back_in_epoch(c, t, live, k, now, mine);
        refunding_.fetch_sub(mine, std::memory_order_release);  // (11)
        return given;
    }

    /// Cancels the last k of the `live` permits of a booking in a queue; `c` is then the receipt of the others. Returns k
    /// where they were the last that were booked, and have been given back; else 0, and they are given back when all that
    /// is booked behind them has been cancelled (under the constructor's configuration; under a changed one they are not).
    ///
    /// Here the TAT falls only over permits that are cancelled. A TAT then names the charge that made it: to see it again,
    /// it must have fallen below it, and only undoing that charge does that.
    template <class Now>
    constexpr permits cancel(receipt& c, permits live, permits k, Now now) noexcept {
        std::uint64_t const last = tat_of(c.after);
        while (true) {
            view v = look();
            if (v.version != c.version) return 0;
            std::uint64_t const to = k == live ? tat_of(c.before) : last - k * v.g.unit();
            c.after = with_tat(c.after, to);
            if (tat_of(v.word) != last) {
                if (v.version == 0) keep_cancelled(last, k, first_.burst(), [&] { return first_.at(now()).floor; });
                break;
            }
            if (word_.compare_exchange_weak(v.word, with_tat(v.word, to), std::memory_order_release,
                                            std::memory_order_relaxed)) {
                release_cancelled();
                return k;
            }
        }
        release_cancelled();
        return 0;
    }

    /// Puts `g` in force as of the tick that `now` returns, carrying credit and debt over. Errors: another thread is
    /// changing it; the debt does not fit. A thread that stops for ever in here keeps others from changing, and nothing else.
    template <class Now>
    constexpr error change(gcra const& g, Now now, gcra::keep keep = gcra::keep::availability) noexcept {
        if (changing_.exchange(1, std::memory_order_acquire) != 0) return busy_changing();  // (5) pairs with (6)
        error const e = change_alone(g, now, keep);
        changing_.exchange(0, std::memory_order_release);  // (6)
        return e;
    }

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
            if (again == word) return {word, version, gcra::unpack(p, first_.horizon())};
            word = again;
        }
    }

    constexpr permits available(std::uint64_t t) const noexcept {
        view const v = look();
        return v.g.available(tat_of(v.word), v.g.at(t));
    }

    /// The first tick from `t` on at which n ≤ burst permits are available, if the word stays as it is. All ones: never.
    static constexpr std::uint64_t retry(gcra const& g, std::uint64_t word, permits n, std::uint64_t t) noexcept {
        std::uint64_t const at = g.first(g.required(tat_of(word), n));
        return at > t ? at : t;
    }

private:
    struct slot {
        typename Atomics::template atomic<std::uint64_t> version{0};
        typename Atomics::template atomic<std::uint64_t> word[gcra::words] = {};
    };

    /// The answers of an attempt at tick t, under a changed configuration.
    static constexpr attempt completed(attempt a, gcra const& g, permits n, std::uint64_t t) noexcept {
        if (a.version == 0) return a;
        std::uint64_t const tat = tat_of(a.after);
        a.remaining = g.available(tat, g.at(t));
        a.full = g.first(tat);
        if (!a.granted && !a.too_many) a.retry = retry(g, a.before, n, t);
        return a;
    }
    static constexpr attempt refused(view const& v, bool too_many, permits n, std::uint64_t t) noexcept {
        return completed({false, too_many, v.word, v.word, v.version}, v.g, n, t);
    }

    [[gnu::__noinline__, gnu::__cold__]] constexpr attempt try_charge_changed(permits n, std::uint64_t t) noexcept {
        while (true) {
            view v = look();
            if (n > v.g.burst()) return refused(v, true, n, t);
            auto const now = v.g.at(t);
            std::uint64_t const tat = tat_of(v.word);
            if (!v.g.allows(tat, now, n)) return refused(v, false, n, t);
            std::uint64_t const next = with_tat(v.word, v.g.charged(tat, now, n));
            if (word_.compare_exchange_weak(v.word, next, std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (8)
                attempt a = completed({true, false, v.word, next, v.version}, v.g, n, t);
                a.retry = tat <= now.floor ? t : v.g.first(tat);  // departure from a queue
                return a;
            }
        }
    }

    [[gnu::__noinline__, gnu::__cold__]] constexpr attempt probe_changed(permits n, std::uint64_t t) const noexcept {
        view const v = look();
        if (n > v.g.burst()) return refused(v, true, n, t);
        auto const now = v.g.at(t);
        if (!v.g.allows(tat_of(v.word), now, n)) return refused(v, false, n, t);
        std::uint64_t const next = with_tat(v.word, v.g.charged(tat_of(v.word), now, n));
        return completed({true, false, v.word, next, v.version}, v.g, n, t);
    }

    using cancelled = cancelled_permits<Atomics>;

    /// Counts k permits that end at `last` as cancelled. `line`: so many may be booked ahead; `past` returns the position
    /// before which none can be cancelled any more.
    template <class Past>
    constexpr void keep_cancelled(std::uint64_t last, permits k, permits line, Past past) noexcept {
        std::uint64_t const unit = first_.unit();
        if (last < k * unit) return;  // booked before the start
        cancelled_.add({(last - k * unit) / unit, k}, cancelled::layout_for(unit, line), [&] { return past() / unit; });
    }

    /// Lowers the TAT over the cancelled permits at its end.
    constexpr void release_cancelled() noexcept {
        std::uint64_t const unit = first_.unit();
        auto const layout = cancelled::layout_for(unit, first_.burst());
        while (true) {
            std::uint64_t word = word_.load(std::memory_order_relaxed);
            std::uint64_t const tat = tat_of(word);
            if (word >> version_shift != 0 || tat < unit) return;
            auto const tail = cancelled_.claim((tat - unit) / unit, layout);
            if (tail.count == 0) return;
            if (!word_.compare_exchange_strong(word, with_tat(word, tat - tail.count * unit), std::memory_order_release,
                                               std::memory_order_relaxed)) {
                cancelled_.add(tail, layout, [] { return std::uint64_t{0}; });
            }
        }
    }

    /// `mine`: what refunding_ has of this refund.
    template <class Now>
    constexpr permits give_back_in_epoch(receipt const& c, std::uint64_t t, permits live, permits k, Now now,
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
    constexpr error change_alone(gcra const& g, Now now, gcra::keep keep) noexcept {
        view v = look();
        std::uint64_t const number = v.word >> version_shift;
        std::uint64_t const next = number == 3 ? 1 : number + 1;
        std::uint64_t const version = v.version + 1;
        slot& s = slots_[next - 1];
        gcra::packed_state const p = g.pack();
        s.version.exchange(version, std::memory_order_release);                                          // (4)
        for (int i = 0; i < gcra::words; ++i) s.word[i].exchange(p.word[i], std::memory_order_release);  // (4)
        while (true) {
            std::uint64_t const tat = g.carried(v.g, tat_of(v.word), now(), keep);
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
    cancelled cancelled_;
    slot slots_[3] = {};
    typename Atomics::template atomic<std::uint64_t> refunding_{0};  // last: far from what attempts read
};

}  // namespace weir::inline v0::detail
