// SPDX-License-Identifier: MIT
//
// The generic cell rate algorithm on one word that only compare-exchanges change. It counts ticks and reads no clock;
// token_bucket, leaky_bucket and leaky_bucket_queue give it a clock and a meaning.
//
// word_:   63..62 configuration   61..60 epoch   59..0 TAT
// - TAT: see gcra.hpp. A grant raises it and writes nothing else. A denial writes nothing.
// - Epoch: within a configuration only refunds (in a queue, cancellations) lower the TAT. A refund that stalls between
//   its load and its exchange must not succeed on a word that other refunds have brought back to the same TAT: what it
//   may give back has shrunk if permits were granted at later times since. So each refund begins another epoch
//   (refund_epochs.hpp).
// - Configuration: 0 is the constructor's, in plain members that never change. Change number v writes slot v mod 2 and
//   then names v in word_, by 1 + (v − 1) mod 3. One exchange changes configuration and TAT together, so an attempt
//   that began under the old configuration fails its exchange. A slot is written only while word_ names the other one,
//   and the two hold consecutive numbers, so one of them at most is the one that word_ names. A reader that reads
//   word_, the slot, and the same word_ again has read a whole slot. (To mislead it, three changes that end at the same
//   word must fit into one attempt.)
//
//     pair               protects
//     (1) and (2)        the slot: a thread that sees the word of a change sees the slot that it names
//     (3) and (4)        word_: a reader that sees a part of a slot written again sees a newer word_ in its second load
//     (5) and (6)        changes_: one change at a time
//     (7) and (8)        the clock and the marks (9): a refund that sees a grant in word_ reads a clock no earlier than
//                        the grant's, and, relaxed, the marks that a booking or refund raised before its exchange
// Every other access to word_ is relaxed: the word is the whole state, and a read-modify-write reads the newest value.
// An attempt's exchange is a read-modify-write too, so it continues the release sequences of (2) and (8). Each order is
// needed: without it a case of tests/model/gcra_orders_model_test.cpp fails.
//
// Marks only rise. Each is raised before the exchange that it speaks of:
// - booked_until_: the tick of the latest moment that was booked. No live permit counts later than it and now.
// - refunded_after_: one more than the clock at the latest partial refund. A charge made at or after it has seen none
//   since. (Receipts are kept for long, so the epoch cannot tell.)
// - unordered_below_: the highest TAT that a partial refund has lowered since the first booking. Bookings whose parts
//   of the scale begin at or above it have seen none since: those are disjoint, and in the order of the charges.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "../atomics.hpp"
#include "cancelled_permits.hpp"
#include "gcra.hpp"
#include "gcra_attempt.hpp"
#include "refund_epochs.hpp"

namespace weir::inline v0::detail {

template <class Atomics>
class gcra_state : public gcra_word {
public:
    /// Whether there is no change.
    static constexpr bool is_fixed = requires { requires Atomics::limits_are_fixed; };

private:
    static constexpr bool is_changed(std::uint64_t word) noexcept { return !is_fixed && (word >> version_shift) != 0; }

public:
    using receipt = gcra_receipt;
    using attempt = gcra_attempt;

    constexpr gcra_state(gcra const& g, permits available) noexcept : word_{g.initial(available)}, first_{g} {}

    /// The configuration of the constructor. It never changes.
    constexpr gcra const& initial() const noexcept { return first_; }

    /// Charges n permits at tick t if they are available. Lock-free: an exchange fails only because another succeeded.
    [[gnu::__always_inline__]] constexpr attempt try_charge(permits n, std::uint64_t t) noexcept {
        // The configuration is read before the word, and not again after an exchange that failed: then another thread
        // holds their line.
        std::uint64_t const span = first_.span();
        std::uint64_t const worth = first_.worth(n);
        auto const now = first_.at(t);
        // Relaxed: under a changed configuration this reads nothing else, and try_charge_changed begins with (1).
        std::uint64_t word = word_.load(std::memory_order_relaxed);
        while (true) {
            if (is_changed(word)) [[unlikely]] {
                attempt const a = try_charge_changed(n, t);
                return {a.n, a.before, a.after, a.flags, a.departs};
            }
            if (n != 1 && worth == gcra::never) [[unlikely]]
                return {n, word, word, attempt::too_many(n)};
            if (tat_of(word) + worth > now.floor + span) return {n, word, word, 0};
            // `charged`, with branches for its maximum and the epoch, so that the exchange need not wait for either.
            std::uint64_t next = word + worth;
            if (__builtin_expect_with_probability(tat_of(word) <= now.ceil, 1, 0.9)) {
                next = now.ceil + worth;
                if (word > tat_max) [[unlikely]]
                    next |= word & epoch_mask;
            }
            if (word_.compare_exchange_weak(word, next, std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (8) pairs with (7)
                return {n, word, next, attempt::granted};
            }
        }
    }

    /// What try_charge would answer.
    [[gnu::__always_inline__]] constexpr attempt probe(permits n, std::uint64_t t) const noexcept {
        std::uint64_t const word = word_.load(std::memory_order_relaxed);  // as try_charge's
        if (is_changed(word)) [[unlikely]] {
            attempt const a = probe_changed(n, t);
            return {a.n, a.before, a.after, a.flags, a.departs};
        }
        std::uint64_t const worth = first_.worth(n);
        if (n != 1 && worth == gcra::never) [[unlikely]]
            return {n, word, word, attempt::too_many(n)};
        auto const now = first_.at(t);
        if (tat_of(word) + worth > now.floor + first_.span()) return {n, word, word, 0};
        return {n, word, with_tat(word, first_.charged(tat_of(word), now, n)), attempt::granted};
    }

    /// An attempt for 0 permits: granted. It writes nothing.
    [[gnu::__always_inline__]] constexpr attempt look_only(std::uint64_t t) const noexcept {
        std::uint64_t const word = word_.load(std::memory_order_relaxed);  // as try_charge's
        if (!is_changed(word)) [[likely]]
            return {0, word, word, attempt::granted};
        return look_only_changed(t);
    }

    /// A charge for a moment that may be in the future, and that moment.
    struct booking {
        attempt made;
        std::uint64_t due;
    };

    /// Books n permits at tick t for the first tick at which they are available, at most `latest` ≥ t.
    constexpr booking try_book(permits n, std::uint64_t t, std::uint64_t latest) noexcept {
        while (true) {
            view v = look();
            if (!v.g.fits(n)) return {refused(v, n, t), 0};
            auto const now = v.g.at(t);
            bool const at_once = v.g.allows(tat_of(v.word), now, n);
            std::uint64_t const next = v.g.charged(tat_of(v.word), now, n);
            // What is charged, less the burst, must be earned by `latest`. The second bound keeps the TAT in its bits.
            if (!at_once && (next > v.g.at(v.g.clamp(latest)).floor + v.g.span() || next > tat_max)) {
                return {refused(v, n, t), 0};
            }
            std::uint64_t const word = with_tat(v.word, next);
            std::uint64_t const due = at_once ? t : v.g.first(next - v.g.span());
            if (!at_once) raise(booked_until_, due);
            if (word_.compare_exchange_weak(v.word, word, std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (8) pairs with (7)
                return {granted(v, word, n, t), due};
            }
        }
    }

    /// When permits leave a queue that were charged where the TAT was `before`: the first tick by which all permits
    /// booked before have left. One permit of the burst is the one that leaves; the others are those that wait.
    static constexpr std::uint64_t departure(gcra const& g, std::uint64_t before, std::uint64_t t) noexcept {
        std::uint64_t const at = g.first(before);
        return at > t ? at : t;
    }

    /// Charges n permits whether or not they are available. The TAT saturates.
    constexpr void charge_debt(permits n, std::uint64_t t) noexcept {
        while (true) {
            view v = look();
            auto const now = v.g.at(t).ceil;
            std::uint64_t const base = tat_of(v.word) > now ? tat_of(v.word) : now;
            u128 const worth = mul(n, v.g.unit());
            std::uint64_t const room = tat_max - base;
            std::uint64_t const next = worth.hi != 0 || worth.lo > room ? tat_max : base + worth.lo;
            // Relaxed: debt has no moment of its own that a refund must know, and this continues (2) and (8).
            if (word_.compare_exchange_weak(v.word, with_tat(v.word, next), std::memory_order_relaxed,
                                            std::memory_order_relaxed)) {
                return;
            }
        }
    }

    /// Refunds k of the `live` permits of `c`, a charge of n permits at tick t. Returns the whole permits given back; 0
    /// where the charge was made under another configuration. `now` returns ticks; it is called after each load of
    /// word_, since what is certain shrinks as time passes.
    ///
    /// If `c` is the last charge, and no part was refunded before, it is undone whole: the TAT returns from c.after to
    /// c.undone(). The same TAT means the same charge: without partial refunds the TAT falls only over permits that
    /// were given back, so c.after shows again only if all later charges have been undone, and `c` has not.
    ///
    /// A booking that is ahead, under the constructor's configuration and with no partial refund since, is cancelled:
    /// its last k permits go back at once as the last of all, else once all behind them are cancelled. All that is live
    /// then was live when the TAT was no higher than what is left, and 1 below held.
    ///
    /// Otherwise what is certain is given back. Let a be the position of the charge on the scale of what is earned, and
    /// L the latest moment at which a live permit counts; L ≤ max(now, booked_until_). (TAT − span does not bound L:
    /// refunds lower it.)
    /// 1. For every s ≤ L: (permits live since s)·unit + ρs ≤ TAT.
    /// 2. With s = a in 1, for a < s ≤ L: (permits live since s)·unit + ρs ≤ TAT − live·unit + (ρL − ρa).
    /// 3. So for a < s the TAT may fall by live·unit − (ρL − ρa), and for s ≤ a by k·unit. It falls by the smaller one.
    template <class Now>
    constexpr permits give_back(receipt const& c, permits n, std::uint64_t t, permits live, permits k,
                                Now now) noexcept {
        permits given = 0;
        bool waits = false;
        std::uint64_t last = 0;  // the end of the live permits of a booking
        auto const target = [&](view const& v) __attribute__((__always_inline__)) {
            std::uint64_t const tat = tat_of(v.word);
            if (v.version != c.version) return unchanged;
            given = k;
            if (v.version == 0 && is_ahead(c, now)) {
                last = tat_of(c.after) - (n - live) * v.g.unit();
                if (last - live * v.g.unit() >= unordered_below_.load(std::memory_order_relaxed)) {  // (9)
                    waits = tat != last;
                    if (waits) return unchanged;
                    return k == live ? c.undone(live, v.g.unit()) : last - k * v.g.unit();
                }
            }
            if (tat == tat_of(c.after) && k == (v.version == 0 ? n : live) &&
                refunded_after_.load(std::memory_order_relaxed) <= t) {  // (9)
                return c.undone(live, v.g.unit());
            }
            std::uint64_t const clock = now();
            std::uint64_t const booked = booked_until_.load(std::memory_order_relaxed);  // (9)
            std::uint64_t give = v.g.certain(tat_of(c.after), t, live, k, clock > booked ? clock : booked);
            if (give == 0) return unchanged;
            if (give > tat) give = tat;
            given = give / v.g.unit();
            raise(refunded_after_, clock + 1);
            if (booked != 0) raise(unordered_below_, tat);
            return tat - give;
        };
        bool const fell = lower(target);
        auto const past = [&] { return first_.at(now()).floor + first_.span() - first_.unit(); };
        if (waits) keep_cancelled(last, k, line(), past);
        // Relaxed: a booking whose mark this does not see was made after the exchange above; its cancelling sees that.
        if (waits || (fell && booked_until_.load(std::memory_order_relaxed) != 0)) release_cancelled_in_epochs();
        return fell ? given : 0;
    }

    /// Cancels the last k of the `live` permits of a booking in a queue; `c` is then the receipt of the others. Returns
    /// k if they were booked last and have been given back. Otherwise returns 0; under the constructor's configuration
    /// they are given back once everything booked behind them is cancelled, under a changed one never.
    ///
    /// In a queue the TAT falls only over cancelled permits. So a TAT identifies its charge: to show it again, the TAT
    /// must have fallen below it, and only undoing that charge does that.
    template <class Now>
    constexpr permits cancel(receipt& c, permits live, permits k, Now now) noexcept {
        std::uint64_t const last = tat_of(c.after);
        while (true) {
            view v = look();
            if (v.version != c.version) return 0;
            std::uint64_t const to = k == live ? c.undone(live, v.g.unit()) : last - k * v.g.unit();
            c.after = with_tat(c.after, to);
            if (tat_of(v.word) != last) {
                if (v.version == 0) keep_cancelled(last, k, first_.burst(), [&] { return first_.at(now()).floor; });
                break;
            }
            // Relaxed: no (7) in a queue, which only cancels: no thread goes by this word to a clock or a mark.
            if (word_.compare_exchange_weak(v.word, with_tat(v.word, to), std::memory_order_relaxed,
                                            std::memory_order_relaxed)) {
                release_cancelled();
                return k;
            }
        }
        release_cancelled();
        return 0;
    }

    /// Puts `g` in force as of the tick that `now` returns; credit and debt are carried over. Errors: another thread is
    /// changing it; the debt does not fit. A thread that stops in here blocks other changes, and nothing else.
    template <class Now>
    constexpr error change(gcra const& g, Now now, gcra::keep keep = gcra::keep::availability) noexcept {
        auto& changing = changes_.changing;
        if (changing.exchange(1, std::memory_order_acquire) != 0) return busy_changing();  // (5) pairs with (6)
        error const e = change_alone(g, now, keep);
        changing.exchange(0, std::memory_order_release);  // (6) pairs with (5)
        return e;
    }

    /// The configuration in force and the word it was read with.
    struct view {
        std::uint64_t word;
        std::uint64_t version;
        gcra g;
    };
    constexpr view look() const noexcept {
        std::uint64_t word = word_.load(std::memory_order_acquire);  // (1) pairs with (2), (7) with (8)
        if constexpr (is_fixed) {
            return {word, 0, first_};
        } else {
            auto const number = [](slot const& s) noexcept {
                return s.version.load(std::memory_order_acquire);  // (3) pairs with (4)
            };
            while (true) {
                std::uint64_t const v = word >> version_shift;
                if (v == 0) return {word, 0, first_};
                slot const* s = changes_.each;
                std::uint64_t version = number(*s);
                if (version % 3 != v % 3) version = number(*++s);
                gcra::packed_state p{};
                for (int i = 0; i < gcra::words; ++i)
                    p.word[i] = s->word[i].load(std::memory_order_acquire);  // (3) pairs with (4)
                // If any of it was written again since, (3) saw (4), and this load sees a newer word.
                std::uint64_t const again = word_.load(std::memory_order_acquire);  // (1) pairs with (2)
                if (again == word && version % 3 == v % 3) return {word, version, gcra::unpack(p, first_.horizon())};
                word = again;
            }
        }
    }

    constexpr permits available(std::uint64_t t) const noexcept {
        view const v = look();
        return v.g.available(tat_of(v.word), v.g.at(t));
    }

    /// The first tick from `t` on at which n ≤ burst permits are available, if the word stays as it is. All ones:
    /// never.
    static constexpr std::uint64_t retry(gcra const& g, std::uint64_t word, permits n, std::uint64_t t) noexcept {
        std::uint64_t const at = g.first(g.required(tat_of(word), n));
        return at > t ? at : t;
    }

private:
    struct slot {
        typename Atomics::template atomic<std::uint64_t> version{0};
        typename Atomics::template atomic<std::uint64_t> word[gcra::words] = {};
    };
    struct room_for_changes {
        typename Atomics::template atomic<std::uint32_t> changing{0};
        slot each[2] = {};
    };
    struct no_room {};
    using changes = std::conditional_t<is_fixed, no_room, room_for_changes>;

    /// A charge at tick t that left `word`, or that would.
    static constexpr attempt granted(view const& v, std::uint64_t word, permits n, std::uint64_t t) noexcept {
        if (v.version == 0) return {n, v.word, word, attempt::granted};
        auto const now = v.g.at(t);
        bool const raised = n != 0 && tat_of(v.word) < now.ceil && now.floor != now.ceil;
        return {v.g.available(tat_of(word), now), v.g.first(tat_of(word)), word,
                v.version << attempt::version_shift | attempt::granted | (raised ? attempt::raised : 0U),
                n == 0 ? t : departure(v.g, tat_of(v.word), t)};
    }
    static constexpr attempt refused(view const& v, permits n, std::uint64_t t) noexcept {
        std::uint64_t const flags = v.g.fits(n) ? 0 : attempt::too_many(n);
        if (v.version == 0) return {n, v.word, v.word, flags};
        std::uint64_t const tat = tat_of(v.word);
        return {v.g.first(tat), flags == 0 ? retry(v.g, tat, n, t) : 0, v.g.available(tat, v.g.at(t)),
                v.version << attempt::version_shift | flags};
    }

    [[gnu::__noinline__, gnu::__cold__]] constexpr attempt try_charge_changed(permits n, std::uint64_t t) noexcept {
        while (true) {
            view v = look();
            if (!v.g.fits(n) || !v.g.allows(tat_of(v.word), v.g.at(t), n)) return refused(v, n, t);
            std::uint64_t const next = with_tat(v.word, v.g.charged(tat_of(v.word), v.g.at(t), n));
            std::uint64_t word = v.word;
            if (word_.compare_exchange_weak(word, next, std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (8) pairs with (7)
                return granted(v, next, n, t);
            }
        }
    }

    [[gnu::__noinline__, gnu::__cold__]] constexpr attempt probe_changed(permits n, std::uint64_t t) const noexcept {
        view const v = look();
        if (!v.g.fits(n) || !v.g.allows(tat_of(v.word), v.g.at(t), n)) return refused(v, n, t);
        return granted(v, with_tat(v.word, v.g.charged(tat_of(v.word), v.g.at(t), n)), n, t);
    }

    [[gnu::__noinline__, gnu::__cold__]] constexpr attempt look_only_changed(std::uint64_t t) const noexcept {
        view const v = look();
        return granted(v, v.word, 0, t);
    }

    using cancelled = cancelled_permits<Atomics>;

    /// Counts k permits that end at `last` as cancelled. `line`: how many may be booked ahead; `past` returns the
    /// position before which no permit can be cancelled any more.
    template <class Past>
    constexpr void keep_cancelled(std::uint64_t last, permits k, permits line, Past past) noexcept {
        std::uint64_t const unit = first_.unit();
        if (last < k * unit) return;  // booked before the start
        cancelled_.add({(last - k * unit) / unit, k}, cancelled::layout_for(unit, line), [&] { return past() / unit; });
    }

    /// Lowers the TAT over what is cancelled at its end.
    constexpr void release_cancelled() noexcept {
        std::uint64_t const unit = first_.unit();
        auto const layout = cancelled::layout_for(unit, first_.burst());
        while (true) {
            std::uint64_t word = word_.load(std::memory_order_relaxed);
            std::uint64_t const tat = tat_of(word);
            if (word >> version_shift != 0 || tat < unit) return;
            auto const tail = cancelled_.claim((tat - unit) / unit, layout);
            if (tail.count == 0) return;
            // Relaxed: as cancel's.
            if (!word_.compare_exchange_strong(word, with_tat(word, tat - tail.count * unit), std::memory_order_relaxed,
                                               std::memory_order_relaxed)) {
                cancelled_.add(tail, layout, [] { return std::uint64_t{0}; });
            }
        }
    }

    template <class Now>
    constexpr bool is_ahead(receipt const& c, Now now) const noexcept {
        if (booked_until_.load(std::memory_order_relaxed) == 0) return false;  // relaxed: `c` came after its own mark
        return first_.moment(tat_of(c.after)) > first_.at(now()).floor;
    }
    /// How many permits a bucket's bookings may span and go back in any order; cancelled_permits.hpp.
    constexpr permits line() const noexcept { return first_.burst() > 4096 ? first_.burst() : 4096; }
    /// Lowers the TAT over the cancelled permits at its end, where other refunds lower it as well.
    [[gnu::__noinline__, gnu::__cold__]] constexpr void release_cancelled_in_epochs() noexcept {
        std::uint64_t const unit = first_.unit();
        auto const layout = cancelled::layout_for(unit, line());
        for (bool again = true; again;) {
            view const seen = look();
            std::uint64_t const tat = tat_of(seen.word);
            if (seen.version != 0 || tat < unit) return;
            auto const tail = cancelled_.claim((tat - unit) / unit, layout);
            if (tail.count == 0) return;
            again = false;
            bool is_void = false;  // charges that a partial refund let overlap
            bool const fell = lower([&](view const& v) noexcept {
                again = v.version == 0 && tat_of(v.word) != tat;
                is_void =
                    v.version != 0 || tail.first * unit < unordered_below_.load(std::memory_order_relaxed);  // (9)
                return again || is_void ? unchanged : tat - tail.count * unit;
            });
            if (!fell && !is_void) cancelled_.add(tail, layout, [] { return std::uint64_t{0}; });
            again = again || fell;
        }
    }

    static constexpr std::uint64_t unchanged = ~std::uint64_t{0};

    /// Exchanges the TAT for the one that `to` returns for the word; false where that is `unchanged`, or where stopped
    /// refunds hold all epochs. Steps a to e.
    template <class To>
    [[gnu::__always_inline__]] constexpr bool lower(To to) noexcept {
        typename refund_epochs<Atomics>::stay here{};
        bool const fell = lower_in_epoch(to, here);
        refunds_.leave(here);
        return fell;
    }
    template <class To>
    [[gnu::__always_inline__]] constexpr bool lower_in_epoch(To to,
                                                             typename refund_epochs<Atomics>::stay& here) noexcept {
        std::uint64_t word = word_.load(std::memory_order_relaxed);  // relaxed: a hint of the epoch
        while (true) {
            unsigned const epoch = epoch_of(word);
            refunds_.enter(here, epoch);
            view const v = look();  // (7) pairs with (8)
            word = v.word;
            if (epoch_of(word) != epoch) continue;
            unsigned const next = refunds_.another(here, epoch);
            std::uint64_t const tat = next == refund_epochs<Atomics>::none ? unchanged : to(v);
            if (tat == unchanged) return false;
            if (word_.compare_exchange_weak(word, with_epoch(with_tat(word, tat), next), std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (8) pairs with (7)
                return true;
            }
        }
    }

    template <class Now>
    constexpr error change_alone(gcra const& g, Now now, gcra::keep keep) noexcept {
        view v = look();
        std::uint64_t const number = v.word >> version_shift;
        std::uint64_t const next = number % 3 + 1;
        std::uint64_t const version = v.version + 1;
        slot& s = changes_.each[version % 2];
        gcra::packed_state const p = g.pack();
        s.version.exchange(version, std::memory_order_release);  // (4) pairs with (3)
        for (int i = 0; i < gcra::words; ++i)
            s.word[i].exchange(p.word[i], std::memory_order_release);  // (4) pairs with (3)
        while (true) {
            std::uint64_t const tat = g.carried(v.g, tat_of(v.word), now(), keep);
            if (tat > tat_max) return {"the debt does not fit the new rate and burst"};
            std::uint64_t const word = (next << version_shift) | (v.word & epoch_mask) | tat;
            if (word_.compare_exchange_weak(v.word, word, std::memory_order_release,
                                            std::memory_order_relaxed)) {  // (2) pairs with (1)
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
    mark unordered_below_{0};
    cancelled cancelled_{};
    [[no_unique_address]] changes changes_{};
    refund_epochs<Atomics> refunds_{};  // last: far from what attempts read
};

}  // namespace weir::inline v0::detail
