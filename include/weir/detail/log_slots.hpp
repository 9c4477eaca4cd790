// SPDX-License-Identifier: MIT
//
// The protocol of sliding_window_log: taking slots, giving them back, and changing how many are in use. Times are
// stamps (log_layout.hpp) from earliest() to latest(); there is no clock.
//
// A permit takes a slot whose stamp is at least one window old, by one compare-exchange. So a slot hosts at most one
// permit in any window, and N slots at most N: the pigeonhole principle. It needs no order between slots or between the
// times of attempts.
//
//     pair          protects
//     (6) and (7)   limit_: a change of the limit sees the slots as the change before left them
//
// Bounds and their pairs: log_tree.hpp. Every other access is relaxed: the word of a slot says all that its exchange
// depends on, and a slot publishes nothing but itself.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "log_layout.hpp"
#include "log_tree.hpp"
#include "saturating.hpp"

namespace weir::inline v0::detail {

template <class Atomics, unsigned Fanout = 32, log_layout::word Tags = log_layout::low_mask>
class log_slots : public log_tree<Atomics, Fanout, Tags> {
    using w = log_layout;
    using tree = log_tree<Atomics, Fanout, Tags>;
    using typename tree::found;

public:
    using word = w::word;
    using typename tree::atomic_word;

    /// `size` slots, `limit` of them in use; `used` of them hold a permit of time `origin`.
    log_slots(std::uint32_t limit, std::uint32_t size, word window, std::uint32_t used, word origin)
        : tree{size, used < limit ? tree::line_of(used) : 0,
               [&](std::uint32_t i) {
                   return i < used    ? w::slot(origin, w::loose)
                          : i < limit ? w::slot(w::never_taken, w::loose)
                                      : w::slot(w::never_taken, w::retired);
               }},
          limit_{limit},
          window_{window} {}

    using tree::capacity;
    word window() const noexcept { return window_; }
    word earliest() const noexcept { return w::never_taken + window_; }
    word latest() const noexcept { return w::no_stamp - 1 - window_; }
    std::uint32_t limit() const noexcept { return static_cast<std::uint32_t>(limit_.load(std::memory_order_relaxed)); }

    /// A slot that was taken and its word before; or 0, and the least stamp.
    struct taken {
        word before;
        word oldest;
        std::uint32_t slot;
    };
    /// Takes one slot at x. The slots that the hints name are tried inline.
    [[gnu::__always_inline__]] taken take(word x) noexcept {
        word const q = x - window_;
        if (word const bound = tree::root_bound(); bound > q) {
            if (word const oldest = tree::find_oldest(bound).stamp; oldest > q) [[likely]]
                return {0, oldest, 0};
        } else {
            word const seen = tree::hints();
            std::uint32_t i = w::next_hint(seen);
            for (std::uint32_t const end = tree::line_end(i); i < end; ++i) {
                word value = load(i);
                if (word const before = claim_slot(i, value, q, x); before != 0) {
                    tree::took(seen, i);
                    return {before, 0, i};
                }
            }
        }
        taken const t = take_elsewhere(x);
        return {t.before, t.oldest, t.slot};
    }

    /// Whether take would succeed. Takes nothing. A denial that the last denial's slot explains is inlined, so a
    /// caller that reads one bit of the answer pays for no more.
    [[gnu::__always_inline__]] bool can_take(word x, word& oldest) const noexcept {
        word const q = x - window_;
        word const bound = tree::root_bound();
        if (bound > q) [[likely]] {
            oldest = tree::find_oldest(bound).stamp;
            if (oldest > q) [[likely]]
                return false;
        }
        return can_take_after_all(q, oldest);
    }

    /// Whether no slot is free at x, as one load can tell.
    bool is_full(word x) const noexcept { return tree::root_bound() > x - window_; }

    /// How many slots in use have a stamp up to `limit`, counted up to `enough`. O(that many + log N), amortised.
    std::uint32_t count_up_to(word limit, std::uint32_t enough) const noexcept { return tree::count(limit, enough); }
    std::uint32_t count_free(word x, std::uint32_t enough) const noexcept { return count_up_to(x - window_, enough); }

    /// Takes n > 1 slots at x, or none. When other calls interfered, what was taken has been given back.
    bool take_many(std::uint32_t n, word x, log_receipt& r) noexcept {
        word const q = x - window_;
        for (int attempt = 0; attempt < 4; ++attempt) {
            if (count_free(x, n) < n) return false;
            // What a lost race gives back returns to what it was, as far as there is room to remember it.
            std::array<log_receipt, 16> firsts;
            std::uint32_t got = 0;
            std::uint32_t held = 0;
            log_receipt lowest{w::slot(x, w::held), 0, 0, 0};
            auto claim = [&](std::uint32_t i, word& value) noexcept {
                word const before = claim_slot(i, value, q, x);
                if (before != 0) {
                    word const after = w::taken(before, x);
                    bool const can_go_back = w::state_of(after) == w::held;
                    if (got < firsts.size()) firsts[got] = {after, before, i, can_go_back ? 1U : 0U};
                    if (can_go_back && held++ == 0) lowest.slot = i;
                    ++got;
                }
                return got == n;
            };
            if (tree::search(q, claim)) {
                lowest.live = held;
                r = lowest;
                return true;
            }
            for (std::uint32_t k = 0; k < (std::min<std::size_t>)(got, firsts.size()); ++k) {
                held -= firsts[k].live;
                give_back(firsts[k]);
            }
            lowest.live = held;
            give_back_many(lowest);
        }
        return false;
    }

    /// Gives back what a receipt names. A single permit goes back exactly: its slot returns to the word before. Answers
    /// 0 when the slot was taken again.
    std::uint32_t give_back(log_receipt& r) noexcept {
        if (r.live == 0) return 0;
        if (r.before == 0) return give_back_many(r);
        word value = r.after;
        if (exchange(r.slot, value, r.before)) {
            r.live = 0;
            tree::lower_bounds(r.slot, w::stamp(r.before));
            return 1;
        }
        // Permits of one stamp are alike: a receipt for several may have given back this slot for one of its own.
        if (w::stamp(value) < w::stamp(r.after) + window_) return give_back_many(r);
        r.live = 0;
        return 0;
    }

    /// Gives back `live` permits of one stamp, whichever slots hold them, from r.slot on. Each slot becomes free for
    /// times from that stamp on.
    std::uint32_t give_back_many(log_receipt& r) noexcept {
        std::uint32_t const wanted = std::exchange(r.live, 0);
        std::uint32_t n = 0;
        word const back = w::given_back(w::stamp(r.after), window_);
        for (std::uint32_t k = 0, i = r.slot; k < capacity() && n < wanted; ++k, i = i + 1 == capacity() ? 0 : i + 1) {
            word value = load(i);
            if (value == r.after && exchange(i, value, back)) {  // strong: each slot is tried once
                tree::lower_bounds(i, w::stamp(back));
                ++n;
            }
        }
        return n;
    }

    /// Records a permit at x that nothing can refuse or give back, in place of the oldest stamp if that is older. The N
    /// newest stamps are all that an exact log of N ever looks at.
    void book(word x) noexcept {
        for (;;) {
            found const f = tree::search_oldest(tree::hints());
            if (f.stamp >= x) return;
            word value = load(f.slot);
            if (w::key(value) == f.stamp && exchange(f.slot, value, w::booked(value, x))) return;
        }
    }

    /// The n-th least stamp of the slots in use, no_stamp when there are fewer. O(n + log N), amortised, where stamps
    /// rise from the oldest slot on, as they do when time points do not go back; else O(N), and for n > 16 a search as
    /// often as the distance of two stamps has bits.
    word nth_oldest(std::uint32_t n) const noexcept {
        found const first = tree::search_oldest(tree::hints());
        // The greatest of n slots is an upper bound, and the answer itself if fewer than n are below it.
        word high = 0;
        std::uint32_t seen = 0;
        for (std::uint32_t k = 0, i = first.slot; k < capacity() && seen < n;
             ++k, i = i + 1 == capacity() ? 0 : i + 1) {
            word const s = w::key(load(i));
            if (s == w::no_stamp) continue;
            high = (std::max)(high, s);
            ++seen;
        }
        if (seen < n) return w::no_stamp;
        if (count_up_to(high - 1, n) < n) return high;
        std::array<word, 16> least;
        if (n > least.size()) return bisect(n, first.stamp, high);
        std::uint32_t size = 0;
        word limit = high;
        auto insert = [&](std::uint32_t, word& value) noexcept {
            word const s = w::key(value);
            std::uint32_t at = size == n ? n - 1 : size++;
            for (; at > 0 && least[at - 1] > s; --at) least[at] = least[at - 1];
            least[at] = s;
            if (size == n) limit = least[n - 1] - 1;
            return false;
        };
        tree::search(limit, insert);
        return size == n ? least[n - 1] : high;
    }

    /// The greatest stamp, 0 when no slot is in use. O(capacity).
    word newest() const noexcept {
        word newest = 0;
        for (std::uint32_t i = 0; i < capacity(); ++i) {
            if (word const s = w::key(load(i)); s != w::no_stamp) newest = (std::max)(newest, s);
        }
        return newest;
    }

    /// Calls f(stamp) for each slot in use that is not free at x.
    template <class F>
    void for_each_held(word x, F&& f) const {
        for (std::uint32_t i = 0; i < capacity(); ++i) {
            word const s = w::key(load(i));
            if (s > x - window_ && s != w::no_stamp) f(s);
        }
    }

    /// Puts another limit in force, up to the capacity. Answers false when another thread is changing it.
    bool change_limit(std::uint32_t limit) noexcept {
        word old = limit_.load(std::memory_order_relaxed);
        if ((old & changing) != 0 || !limit_.compare_exchange_strong(old, (std::min<word>)(old, limit) | changing,
                                                                     std::memory_order_acquire,  // (6) pairs with (7)
                                                                     std::memory_order_relaxed)) {
            return false;
        }
        if (limit < old) {
            lower_limit(static_cast<std::uint32_t>(old) - limit);
        } else {
            raise_limit(limit - static_cast<std::uint32_t>(old));
        }
        limit_.exchange(limit, std::memory_order_release);  // (7) pairs with (6)
        return true;
    }

private:
    static constexpr word changing = word{1} << 32U;

    word load(std::uint32_t i) const noexcept { return tree::slot(i).load(std::memory_order_relaxed); }
    bool exchange(std::uint32_t i, word& value, word to) noexcept {
        return tree::slot(i).compare_exchange_strong(value, to, std::memory_order_relaxed, std::memory_order_relaxed);
    }

    /// Takes slot i at x if its stamp is at most q, and answers the word before; else 0, and `value` is what it holds.
    [[gnu::__always_inline__]] word claim_slot(std::uint32_t i, word& value, word q, word x) noexcept {
        while (w::key(value) <= q) {
            word const before = value;
            if (tree::slot(i).compare_exchange_weak(value, w::taken(value, x), std::memory_order_relaxed,
                                                    std::memory_order_relaxed)) {
                return before;
            }
        }
        return 0;
    }

    /// Calls claim(slot, its word) for slots with stamps up to q until it answers true. Answers false once nothing was
    /// free at one moment; then `oldest` is the least stamp.
    template <bool Take = true, class Claim>
    bool find(word q, Claim& claim, word& oldest) const noexcept {
        for (;;) {
            word const bound = tree::root_bound();
            if (bound > q) {
                found const f = tree::find_oldest(bound);
                oldest = f.stamp;
                if (f.stamp > q) [[likely]]
                    return false;
                // A refund has lowered its slot but not yet the root. Help it, since it may never continue.
                tree::lower_bounds(f.slot, f.stamp);
                continue;
            }
            word const seen = tree::hints();
            std::uint32_t i = w::next_hint(seen);
            std::uint32_t const end = tree::line_end(i);
            for (; i < end; ++i) {
                word value = load(i);
                if (w::key(value) <= q && claim(i, value)) break;
            }
            if (i == end && !find_elsewhere(q, claim, i)) continue;
            if constexpr (Take) tree::took(seen, i);
            return true;
        }
    }

    template <class Claim>
    [[gnu::__noinline__]] bool find_elsewhere(word q, Claim& claim, std::uint32_t& slot) const noexcept {
        auto visit = [&](std::uint32_t i, word& value) noexcept {
            slot = i;
            return claim(i, value);
        };
        return tree::search(q, visit);
    }

    [[gnu::__noinline__]] taken take_elsewhere(word x) noexcept {
        word const q = x - window_;
        taken t{0, 0, 0};
        auto claim = [&](std::uint32_t i, word& value) noexcept {
            word const before = claim_slot(i, value, q, x);
            if (before == 0) return false;
            t = {before, 0, i};
            return true;
        };
        find(q, claim, t.oldest);
        return t;
    }

    /// The n-th least stamp, which is in [low, high].
    word bisect(std::uint32_t n, word low, word high) const noexcept {
        while (low < high) {
            word const middle = low + (high - low) / 2;
            if (count_up_to(middle, n) >= n) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        return low;
    }

    [[gnu::__noinline__]] bool can_take_after_all(word q, word& oldest) const noexcept {
        auto claim = [](std::uint32_t, word&) noexcept { return true; };
        return find<false>(q, claim, oldest);
    }

    /// Puts every slot in use into another state.
    void set_states(w::state to) noexcept {
        for (std::uint32_t i = 0; i < capacity(); ++i) {
            word value = load(i);
            while (w::state_of(value) != w::retired &&
                   !tree::slot(i).compare_exchange_weak(value, w::with_state(value, to), std::memory_order_relaxed,
                                                        std::memory_order_relaxed)) {
            }
        }
    }

    /// The slots that come first by `before`, at most 16, in order.
    template <class Key, class Before>
    std::uint32_t select(std::array<std::pair<word, std::uint32_t>, 16>& out, std::uint32_t wanted, Key key,
                         Before before) const noexcept {
        wanted = (std::min)(wanted, to<std::uint32_t>(out.size()));
        std::uint32_t size = 0;
        for (std::uint32_t i = 0; i < capacity(); ++i) {
            word const value = load(i);
            if (!key(value)) continue;
            if (size == wanted && !before(value, out[size - 1].first)) continue;
            std::uint32_t at = size == wanted ? size - 1 : size++;
            for (; at > 0 && before(value, out[at - 1].first); --at) out[at] = out[at - 1];
            out[at] = {value, i};
        }
        return size;
    }

    // The newest stamps stay in use and the others are retired: then whenever a slot in use is free, all retired stamps
    // are older than a window and no longer count. Nothing may be given back meanwhile, or a slot in use could become
    // older than a retired one. So all slots are frozen first, which voids every receipt, and stamps only rise. In the
    // end the slots are loose, and a receipt made after that gives back no further than to that.
    void lower_limit(std::uint32_t n) noexcept {
        set_states(w::frozen);
        while (n > 0) {
            std::array<std::pair<word, std::uint32_t>, 16> oldest;
            auto const older = [](word a, word b) noexcept { return a < b; };
            std::uint32_t const size =
                select(oldest, n, [](word value) noexcept { return w::state_of(value) != w::retired; }, older);
            for (std::uint32_t k = 0; k < size; ++k) {
                word value = oldest[k].first;
                // A slot that was taken meanwhile may still be older than the next one: select again.
                if (!exchange(oldest[k].second, value, w::with_state(value, w::retired))) break;
                --n;
            }
        }
        set_states(w::loose);
    }

    // The newest of the retired slots come back first, so that those that stay are still older than every slot in use.
    void raise_limit(std::uint32_t n) noexcept {
        while (n > 0) {
            std::array<std::pair<word, std::uint32_t>, 16> newest;
            auto const newer = [](word a, word b) noexcept { return a > b; };
            std::uint32_t const size =
                select(newest, n, [](word value) noexcept { return w::state_of(value) == w::retired; }, newer);
            for (std::uint32_t k = 0; k < size; ++k) {
                auto const [value, slot] = newest[k];
                // No other thread writes a retired slot.
                tree::slot(slot).exchange(w::with_state(value, w::loose), std::memory_order_relaxed);
                tree::lower_bounds(slot, w::stamp(value));
                --n;
            }
        }
    }

    atomic_word limit_;
    word window_;
};

}  // namespace weir::inline v0::detail
