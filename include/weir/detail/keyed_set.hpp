// SPDX-License-Identifier: MIT
//
// The protocol of keyed_buckets on one set: a key has at most one slot, and its TAT is that of one GCRA over all the
// slots that it ever has. docs/architecture.md tells why; letters and rules are explained there.
//
// An insert is announced in head, and completed by any thread that meets it:
//     head idle v ──(1)──► announced v + 1 ──► floor ≥ TAT of the victim ──► slot: victim → key ──(2)──► idle v + 1
// An announcement is never withdrawn. A victim that was charged meanwhile hands its TAT on to the key and to the floor.
//
// | pair | protects |
// |---|---|
// | (1) announcing, (2) reading head | a helper sees the slots as the announcer saw them |
// | (3) ending an announcement, (2) | a reader of an idle head sees every insert before it |
// | (4) writing a slot, (5) reading it | a reader of a slot sees the head and the base that its writer knew |
// | (6) raising the floor, (7) moving the base, (8) reading it | a mover sees the slots that an insert went by |
// | (9) ending a move, (8) | a reader of the new epoch sees its slots |
#pragma once

#include <atomic>
#include <cstdint>

#include "keyed_layout.hpp"

namespace weir::inline v0::detail {

/// What each of these prevents is shown by a model test that switches it off.
struct keyed_rules {
    static constexpr bool announce = true;       ///< two keys are not inserted at a time
    static constexpr bool never_cancel = true;   ///< an insert whose victim has come back is completed all the same
    static constexpr bool read_again = true;     ///< a helper reads head after the slot
    static constexpr bool floor = true;          ///< what was evicted later than t counts at t
    static constexpr bool move_in_steps = true;  ///< a new epoch is announced before slots are emptied for it
    static constexpr bool stain = true;          ///< no undo where a reset made TATs repeat
};

/// An attempt for one key. Times are ticks.
struct keyed_request {
    std::uint64_t fingerprint;
    unsigned preferred;  ///< the slot to look at first
    std::uint64_t at;
    std::uint64_t cost;   ///< n · interval
    std::uint64_t room;   ///< burst · interval, and how long a booking may wait
    bool debt = false;    ///< charged whether or not it fits
    bool forget = false;  ///< a full set forgets the least debt
};

struct keyed_outcome {
    enum class status : std::uint8_t { granted, denied, full };
    status result{};
    bool inserted = false;   ///< over a refilled bucket
    bool forgotten = false;  ///< over one that had not refilled
    unsigned slot = 0;
    std::uint64_t at = 0;    ///< the effective time
    std::uint64_t tat = 0;   ///< after a grant; else the one that denied; full: when a slot is refilled
    std::uint64_t word = 0;  ///< of a grant: what is in the slot
};

template <class Atomics, class Layout = keyed_layout<>, class Rules = keyed_rules>
class alignas(128) keyed_set {
    using l = Layout;
    using word = std::uint64_t;
    using ticks = std::uint64_t;
    using atomic = typename Atomics::template atomic<word>;
    using kind = typename l::kind;
    using status = keyed_outcome::status;

public:
    keyed_set() = default;
    keyed_set(keyed_set const&) = delete;
    keyed_set& operator=(keyed_set const&) = delete;

    keyed_outcome attempt(keyed_request const& r) noexcept {
        unsigned helped = 0;  // slots in which this attempt has put other keys: they are about to be charged
        for (;;) {
            view v;
            if (!read(r.fingerprint, r.preferred, v)) continue;
            if (l::gap_of(v.base) != 0) {
                move(v.base);
            } else if (l::epoch_of(r.at) > l::epoch_in(v.base)) {
                begin_move(v.base, l::epoch_of(r.at));
            } else if (must_help(v)) {
                if (complete(v.head, r.at, nullptr, nullptr) == insertion::free) helped |= 1U << l::slot_of(v.head);
            } else if (keyed_outcome o; v.slot == l::ways ? insert(v, r, helped, o) : hit(v, r, o)) {
                return o;
            }
        }
    }

    /// What attempt would answer. Writes nothing.
    keyed_outcome probe(keyed_request const& r) const noexcept {
        view v;
        while (!read(r.fingerprint, r.preferred, v)) {
        }
        ticks const at = effective(r.at, v.base);
        word const found = v.slot == l::ways ? 0 : now_in(v.found, v.base);
        keyed_outcome o{};
        if (!l::is_empty(found)) {
            decide(l::tat_of(found, l::epoch_in(v.base)), at, r, o);
            return o;
        }
        if (v.slot != l::ways) load_all(v);
        victim const to = choose(v, r.preferred, 0, at);
        if (!is_refused(v, to, at, r, o)) decide(first_tat(l::floor_of(v.base), to, at), at, r, o);
        return o;
    }

    /// Lowers the TAT of a slot that still holds that word: its last charge, or a part of it, is undone.
    bool undo(unsigned slot, word expected, ticks by) noexcept {
        if (Rules::stain && l::is_stained(expected)) return false;
        return slots_[slot].compare_exchange_strong(expected, l::lowered(expected, by), std::memory_order_relaxed,
                                                    std::memory_order_relaxed);
    }
    /// Undoes all of the charge that inserted a key: the key leaves its slot.
    bool erase(unsigned slot, word expected) noexcept {
        if (Rules::stain && l::is_stained(expected)) return false;
        word version{};
        while (!take_version(version)) {
        }
        return empty(slot, expected, version, false);
    }
    /// Forgets a key. False where it has no slot.
    bool reset(word fingerprint, unsigned preferred) noexcept {
        for (;;) {
            view v;
            if (!read(fingerprint, preferred, v)) continue;
            word version{};
            if (l::gap_of(v.base) != 0) {
                move(v.base);
            } else if (must_help(v)) {
                complete(v.head, 0, nullptr, nullptr);
            } else if (v.slot == l::ways) {
                return false;
            } else if (take_version(version) && empty(v.slot, v.found, version, Rules::stain)) {
                return true;
            }
        }
    }

    /// How many slots hold debt at t: a snapshot.
    unsigned live(ticks t) const noexcept {
        word const b = base_.load(std::memory_order_relaxed);  // a count that may be old
        unsigned n = 0;
        for (auto const& s : slots_) {
            n += is_refilled(now_in(s.load(std::memory_order_relaxed), b), b, effective(t, b)) ? 0U : 1U;
        }
        return n;
    }
    /// For tests.
    word slot(unsigned i) const noexcept { return slots_[i].load(std::memory_order_relaxed); }
    word base() const noexcept { return base_.load(std::memory_order_relaxed); }
    word head() const noexcept { return head_.load(std::memory_order_relaxed); }

private:
    /// What a thread read, all under one base. `slot` is l::ways, and `words` are set, where no slot has the key.
    struct view {
        word head;
        word base;
        unsigned slot;
        word found;
        word words[l::ways];
    };
    enum class insertion : std::uint8_t { over, free, charged };
    struct victim {
        unsigned slot;
        ticks tat;
        bool refilled;
    };

    /// False: the set moved meanwhile. Slots come after head, so that none of an idle head's inserts is missed, and
    /// between two looks at base, so that each TAT is read by the epoch in which it was written.
    bool read(word fingerprint, unsigned preferred, view& v) const noexcept {
        v.head = head_.load(std::memory_order_acquire);  // (2) pairs with (1) and (3)
        v.base = base_.load(std::memory_order_acquire);  // (8) pairs with (7) and (9)
        v.slot = preferred;
        v.found = slots_[preferred].load(std::memory_order_acquire);  // (5) pairs with (4)
        if (l::fingerprint_of(v.found) != fingerprint) {
            load_all(v);
            v.slot = l::ways;
            for (unsigned i = 0; i < l::ways; ++i) {
                if (l::fingerprint_of(v.words[i]) == fingerprint) v.slot = i;
            }
            if (v.slot != l::ways) v.found = v.words[v.slot];
        }
        return l::same_epoch(base_.load(std::memory_order_relaxed), v.base);  // (5) has brought it up to date
    }
    void load_all(view& v) const noexcept {
        for (unsigned i = 0; i < l::ways; ++i) {
            v.words[i] = slots_[i].load(std::memory_order_acquire);  // (5) pairs with (4)
        }
    }
    static bool must_help(view const& v) noexcept {
        return l::announces(v.head) && (v.slot == l::ways || v.slot == l::slot_of(v.head));
    }

    // ---- arithmetic ----

    static constexpr ticks later(ticks a, ticks b) noexcept { return a < b ? b : a; }
    static constexpr ticks earlier(ticks a, ticks b) noexcept { return a < b ? a : b; }
    static ticks effective(ticks t, word b) noexcept { return later(t, l::start_of(l::epoch_in(b))); }
    /// A slot as it will be when the set has moved.
    static word now_in(word slot, word b) noexcept { return l::gap_of(b) == 0 ? slot : l::moved_slot(slot, b); }
    static bool is_refilled(word slot, word b, ticks at) noexcept {
        return l::is_empty(slot) || l::tat_of(slot, l::epoch_in(b)) <= at;
    }

    /// GCRA on a TAT. False: denied.
    static bool decide(ticks tat, ticks at, keyed_request const& r, keyed_outcome& o) noexcept {
        ticks const start = later(tat, at);
        o.at = at;
        o.tat = start;
        o.result = status::denied;
        if (!r.debt && start + r.cost > at + r.room) return false;
        o.result = status::granted;
        o.tat = r.debt ? later(start, earlier(start + r.cost, at + l::epoch_ticks)) : start + r.cost;
        return true;
    }
    static victim choose(view const& v, unsigned preferred, unsigned helped, ticks at) noexcept {
        victim least{l::ways, ~ticks{0}, false};
        for (unsigned i = 0; i < l::ways; ++i) {
            unsigned const at_slot = preferred + i < l::ways ? preferred + i : preferred + i - l::ways;
            if ((helped >> at_slot & 1U) != 0) continue;
            word const w = now_in(v.words[at_slot], v.base);
            if (is_refilled(w, v.base, at)) return {at_slot, 0, true};
            ticks const tat = l::tat_of(w, l::epoch_in(v.base));
            if (tat < least.tat) least = {at_slot, tat, false};
        }
        return least;  // of no slot, where all are about to be charged
    }
    /// What a key starts from. One that takes the place of a debt owes it, so that no word of the slot repeats.
    static ticks first_tat(ticks floor, victim const& to, ticks at) noexcept {
        return later(later(at, floor), to.refilled ? 0 : to.tat + 1);
    }
    static bool is_refused(view const& v, victim const& to, ticks at, keyed_request const& r,
                           keyed_outcome& o) noexcept {
        if (to.refilled || (r.forget && to.slot != l::ways))
            return !decide(first_tat(l::floor_of(v.base), to, at), at, r, o);
        o.result = status::full;
        o.at = at;
        o.tat = to.slot != l::ways ? to.tat : at + 1;
        return true;
    }

    // ---- the steps; true: `o` is the answer ----

    bool hit(view& v, keyed_request const& r, keyed_outcome& o) noexcept {
        if (!decide(l::tat_of(v.found, l::epoch_in(v.base)), effective(r.at, v.base), r, o)) return true;
        o.slot = v.slot;
        o.word = l::with_tat(v.found, o.tat);
        return slots_[v.slot].compare_exchange_weak(v.found, o.word, std::memory_order_release,  // (4) pairs with (5)
                                                    std::memory_order_relaxed);
    }

    bool insert(view& v, keyed_request const& r, unsigned helped, keyed_outcome& o) noexcept {
        ticks const at = effective(r.at, v.base);
        victim const to = choose(v, r.preferred, helped, at);
        if (is_refused(v, to, at, r, o)) return true;
        word const a = l::announce(v.head, to.refilled ? kind::insert : kind::forced, to.slot, r.fingerprint);
        if (Rules::announce && !head_.compare_exchange_weak(v.head, a, std::memory_order_release,  // (1) pairs with (2)
                                                            std::memory_order_relaxed)) {
            return false;
        }
        return complete(a, r.at, &r, &o) == insertion::charged;
    }

    /// Ends the insert that `a` announces; with the charge that `mine` asks for, if that still fits.
    insertion complete(word a, ticks t, keyed_request const* mine, keyed_outcome* o) noexcept {
        auto& slot = slots_[l::slot_of(a)];
        for (;;) {
            word b = base_.load(std::memory_order_acquire);  // (8) pairs with (7) and (9)
            word s = slot.load(std::memory_order_acquire);   // (5) pairs with (4)
            // After (5): a slot that has been given to another key brings a newer head with it.
            if (Rules::read_again && head_.load(std::memory_order_relaxed) != a) return insertion::over;
            if (l::fingerprint_of(s) == l::announced(a)) {
                end(a);
                return insertion::over;
            }
            if (l::gap_of(b) != 0) {
                move(b);
                continue;
            }
            ticks const at = effective(t, b);
            ticks const tat = l::is_empty(s) ? 0 : l::tat_of(s, l::epoch_in(b));
            bool const forced = l::kind_of(a) == kind::forced;
            if (!Rules::never_cancel && !forced && tat > at) {
                if (cancel_by_bump(slot, s, a)) return insertion::over;
                continue;
            }
            // A stained victim may have had a later TAT that it can have again: as if it were not forced.
            ticks const evicted = forced && !l::is_stained(s) ? earlier(tat, at) : tat;
            ticks const floor = Rules::floor ? later(l::floor_of(b), evicted) : l::floor_of(b);
            // Even where it changes nothing: it shows that s was read under b.
            if (!base_.compare_exchange_weak(b, l::with_floor(b, floor),
                                             std::memory_order_release,  // (6) pairs with (8)
                                             std::memory_order_relaxed)) {
                continue;
            }
            victim const to{l::slot_of(a), tat, !forced};
            bool const charged = mine != nullptr && decide(first_tat(floor, to, at), at, *mine, *o);
            ticks const next = charged ? o->tat : later(floor, tat) + 1;
            word const w = l::filled(l::announced(a), s, next);
            if (!slot.compare_exchange_weak(s, w, std::memory_order_release,  // (4) pairs with (5)
                                            std::memory_order_relaxed)) {
                continue;
            }
            end(a);
            if (charged) {
                o->inserted = !forced;
                o->forgotten = forced;
                o->slot = l::slot_of(a);
                o->word = w;
            }
            return charged ? insertion::charged : insertion::free;
        }
    }
    void end(word a) noexcept {
        head_.compare_exchange_strong(a, l::idle(a), std::memory_order_release,  // (3) pairs with (2)
                                      std::memory_order_relaxed);
    }
    bool cancel_by_bump(atomic& slot, word s, word a) noexcept {
        if (!slot.compare_exchange_weak(s, l::lowered(s, ~ticks{0}), std::memory_order_release,
                                        std::memory_order_relaxed)) {
            return false;
        }
        end(a);
        return true;
    }

    // ---- epochs ----

    void begin_move(word b, word epoch) noexcept {
        word const moving = l::moving(b, epoch);
        if (!Rules::move_in_steps) {
            if (sweep(moving, b)) {
                base_.compare_exchange_strong(b, l::moved(moving), std::memory_order_release,
                                              std::memory_order_relaxed);
            }
        } else if (base_.compare_exchange_strong(b, moving, std::memory_order_acq_rel,  // (7) pairs with (6) and (8)
                                                 std::memory_order_relaxed)) {
            move(moving);
        }
    }
    void move(word moving) noexcept {
        if (sweep(moving, moving)) {
            base_.compare_exchange_strong(moving, l::moved(moving), std::memory_order_release,  // (9) pairs with (8)
                                          std::memory_order_relaxed);
        }
    }
    /// Empties the slots for a move. False: base is no longer `held`, so the move is over.
    bool sweep(word moving, word held) noexcept {
        for (auto& slot : slots_) {
            for (;;) {
                word s = slot.load(std::memory_order_acquire);  // (5) pairs with (4)
                word const w = l::moved_slot(s, moving);
                if (w == s) break;
                // After (5): a slot of the new epoch brings the new base with it.
                if (base_.load(std::memory_order_relaxed) != held) return false;
                if (slot.compare_exchange_weak(s, w, std::memory_order_release,  // (4) pairs with (5)
                                               std::memory_order_relaxed)) {
                    break;
                }
            }
        }
        return true;
    }

    // ---- emptying one slot ----

    /// A version of head that is no other thread's: an empty slot with it is unlike all others.
    bool take_version(word& version) noexcept {
        word h = head_.load(std::memory_order_acquire);  // (2) pairs with (1)
        if (l::announces(h)) {
            complete(h, 0, nullptr, nullptr);
            return false;
        }
        version = l::next(h);
        return head_.compare_exchange_weak(h, version, std::memory_order_relaxed, std::memory_order_relaxed);
    }
    bool empty(unsigned slot, word expected, word version, bool stained) noexcept {
        return slots_[slot].compare_exchange_strong(expected, l::erased(expected, version, stained),
                                                    std::memory_order_release,  // (4) pairs with (5)
                                                    std::memory_order_relaxed);
    }

    atomic head_{};
    atomic base_{l::first_base};
    atomic slots_[l::ways]{};
};

}  // namespace weir::inline v0::detail
