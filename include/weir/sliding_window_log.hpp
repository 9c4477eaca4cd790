// SPDX-License-Identifier: MIT
//
// At most N permits in ANY window of a given length, exactly, lock-free.
//
// N slots, each with the time stamp of the permit that it last hosted. A permit takes a slot whose stamp is at least
// one window old, by one compare-exchange. So a slot hosts at most one permit in any window, and N slots at most N: the
// proof is the pigeonhole principle and needs no order between slots or between the time points that callers bring.
//
// What order would give cheaply, "nothing is free before T", is kept as bounds instead: a tree over the slots, each
// node a word that no stamp below it is less than. Taking raises stamps and leaves bounds true, if low; who finds one
// too low raises it. Giving back lowers a stamp first and the bounds above it after.
//
//     slot     stamp: 60 | unused: 2 | state: 2
//     bound    stamp: 60 | tag: 4           (one more with each time that it is lowered)
//
// Stamps are ticks of the clock, 2^57 at the construction: 4.5 years back and 32 forward in nanoseconds.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
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

/// What a sliding_window_log holds at first, and how far its limit may be raised. A weir::start converts to it.
struct log_options {
    constexpr log_options(weir::start s = {}, permits most = 0) noexcept : start{s}, capacity{most} {}

    /// What is not available at the start counts as taken at the construction: it is available again one window later.
    /// A process that may have forgotten its last window starts empty.
    weir::start start;
    /// The greatest limit that change_limit takes: slots are made for so many. 0 means the limit.
    permits capacity;
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// A clock of C's kind can be held as Clock; a start or options are none.
template <class C, class Clock>
concept log_clock = std::constructible_from<clock_box<Clock>, C> && !std::convertible_to<C, log_options>;

/// The words of a log, and each step that one of them can take: pure.
struct log_words {
    using word = std::uint64_t;

    static constexpr word stamp_bits = 60;
    static constexpr word low_bits = 64 - stamp_bits;
    static constexpr word low_mask = (word{1} << low_bits) - 1;
    /// Greater than every stamp: what a slot that is out of use answers.
    static constexpr word no_stamp = (word{1} << stamp_bits) - 1;
    /// The stamp of a slot that was never taken. Less is only a bound of which nothing is known.
    static constexpr word never_taken = 1;

    /// What a slot's stamp stands for.
    enum state : word {
        held = 0,     ///< a permit whose receipt can give it back
        loose = 1,    ///< a time before which the slot is not free; no receipt names it
        frozen = 2,   ///< as loose, and stays so when it is taken: the limit is being lowered
        retired = 3,  ///< out of use: the limit is below the capacity; the stamp is kept
    };
    static constexpr word state_mask = 3;

    static constexpr word slot(word stamp, state s) noexcept { return (stamp << low_bits) | s; }
    static constexpr word stamp(word w) noexcept { return w >> low_bits; }
    static constexpr state state_of(word w) noexcept { return static_cast<state>(w & state_mask); }
    /// The stamp of a slot in use.
    static constexpr word key(word w) noexcept { return state_of(w) == retired ? no_stamp : stamp(w); }

    /// Of a slot in use: held by a permit of time x; frozen where it was.
    static constexpr word taken(word w, word x) noexcept { return (x << low_bits) | (w & frozen); }
    static constexpr word with_state(word w, state s) noexcept { return (w & ~state_mask) | s; }
    /// What a slot taken at x may go back to where its stamp before is not known: it was at most this.
    static constexpr word given_back(word x, word window) noexcept { return slot(x - window, loose); }

    static constexpr word bound(word stamp) noexcept { return stamp << low_bits; }
    static constexpr word raised(word b, word stamp) noexcept { return (stamp << low_bits) | (b & low_mask); }
    /// A new tag each time: who scanned below meanwhile cannot publish what is no longer true.
    static constexpr word lowered(word b, word to, word tags = low_mask) noexcept {
        return ((std::min)(stamp(b), to) << low_bits) | ((b + 1) & tags);
    }
};

/// What a permit needs to go back: its slot, the slot's word with it and before it. Where several were taken at once,
/// the lowest slot, no word before (0), and how many can go back.
struct log_grip {
    std::uint64_t after = 0;
    std::uint64_t before = 0;
    std::uint32_t slot = 0;
    std::uint32_t live = 0;
};

/// The slots and their bounds. Times are stamps, from earliest() to latest(); no clock.
///
/// Every write is a read-modify-write, so that each numbered release heads a release sequence that every later value of
/// its word continues. A node is two words, its bound and its version. Who lowers something below a node then raises
/// its version (1), then lowers its bound (2), and goes on with the next node up. Who scans a node loads its version
/// (3), its bound (4), looks at what is below, and publishes by an exchange of the bound (5) and a look at the version
/// again. Let S scan while L lowers:
/// - (1) is before (3): the scan sees what was lowered.
/// - (2) is before (4): the same.
/// - (2) is after (5): the bound is lowered again.
/// - (2) is between (4) and (5): (5) fails, because the tag has changed. If it does not, because the tag has gone round
///   and the stamp has come back to what it was, S sees (1) in its last look, since (5) acquires what (2) released;
///   then S has published what may be untrue, and lowers it and what is above it to nothing.
///
/// So a bound is true unless somebody's lowering is unfinished, which a denial may overlap.
///
/// Everything else may be relaxed: a slot's word says all that its exchange depends on; a bound read too old is too
/// low, which costs a scan, or too high by a refund that the reader does not follow.
/// `Tags`: the greatest tag, for tests, which cannot wait for all of them to go round.
template <class Atomics, unsigned Fanout = 32, log_words::word Tags = log_words::low_mask>
class log_slots {
    using w = log_words;

public:
    using word = w::word;
    using atomic_word = typename Atomics::template atomic<word>;
    static constexpr std::uint32_t max_slots = std::uint32_t{1} << 24U;

    /// `limit` slots in use of `capacity`, `booked` of them held from `origin` on.
    log_slots(std::uint32_t limit, std::uint32_t capacity, word window, std::uint32_t booked, word origin)
        : limit_{limit}, window_{window}, capacity_{capacity} {
        std::uint32_t cells = capacity;
        std::uint32_t width = capacity;
        width_[0] = capacity;
        do {
            width = (width - 1) / Fanout + 1;
            ++top_;
            first_[top_] = cells;
            width_[top_] = width;
            if (width > 1) cells += width;  // the root lives apart
        } while (width > 1);
        std::uint32_t const bounds_end = cells;
        for (unsigned level = 1; level <= top_; ++level) {
            version_[level] = cells;
            cells += width_[level];
        }
        cells_ = make_cells(cells);
        for (std::uint32_t i = 0; i < cells; ++i) {
            word const value = i < booked       ? w::slot(origin, w::loose)
                               : i < limit      ? w::slot(w::never_taken, w::loose)
                               : i < capacity   ? w::slot(w::never_taken, w::retired)
                               : i < bounds_end ? w::bound(w::never_taken)
                                                : 0;
            std::construct_at(&cells_[i], value);
        }
        aim(0, booked < limit ? line_of(booked) : 0);
    }

    log_slots(log_slots const&) = delete;
    log_slots& operator=(log_slots const&) = delete;
    ~log_slots() = default;

    word window() const noexcept { return window_; }
    word earliest() const noexcept { return w::never_taken + window_; }
    word latest() const noexcept { return w::no_stamp - 1 - window_; }
    std::uint32_t limit() const noexcept { return static_cast<std::uint32_t>(limit_.load(std::memory_order_relaxed)); }
    std::uint32_t capacity() const noexcept { return capacity_; }

    /// Takes one slot at x. Where it cannot, `oldest` is the least stamp.
    bool take(word x, log_grip& g, word& oldest) noexcept {
        word const q = x - window_;
        auto claim = [&](std::uint32_t i, word& value) noexcept {
            // Relaxed: the word says all, and publishes nothing.
            while (w::key(value) <= q) {
                word const before = value;
                word const after = w::taken(value, x);
                if (cells_[i].compare_exchange_weak(value, after, std::memory_order_relaxed,
                                                    std::memory_order_relaxed)) {
                    g = {after, before, i, w::state_of(after) == w::held ? 1U : 0U};
                    return true;
                }
            }
            return false;
        };
        return find(q, claim, oldest);
    }

    /// Whether take would succeed. Takes nothing. A refusal for the slot that explained the last one is inlined, so that a
    /// caller who looks at one bit of it pays for no more.
    [[gnu::__always_inline__]] bool can_take(word x, word& oldest) const noexcept {
        word const q = x - window_;
        word const bound = w::stamp(root_.load(std::memory_order_relaxed));  // as in find
        if (bound > q) [[likely]] {
            oldest = find_oldest(bound).stamp;
            if (oldest > q) [[likely]]
                return false;
        }
        return can_take_after_all(q, oldest);
    }

    /// How many slots are free at x, counted until there are `most`; then at least so many. O(capacity).
    std::uint32_t count_free(word x, std::uint32_t most) const noexcept {
        word const q = x - window_;
        std::uint32_t n = 0;
        // Relaxed: as in find.
        if (w::stamp(root_.load(std::memory_order_relaxed)) > q) return 0;
        for (std::uint32_t leaf = 0; leaf < width_[1] && n < most; ++leaf) {
            if (w::stamp(cell(1, leaf).load(std::memory_order_relaxed)) > q) continue;
            std::uint32_t const end = (std::min)((leaf + 1) * Fanout, capacity_);
            for (std::uint32_t i = leaf * Fanout; i < end; ++i) {
                n += w::key(cells_[i].load(std::memory_order_relaxed)) <= q ? 1U : 0U;
            }
        }
        return n;
    }

    /// Takes n > 1 slots at x, or none. Where it cannot, `oldest` is the n-th least stamp, or x - window if others came
    /// between: what was taken has been given back then.
    bool take_many(std::uint32_t n, word x, log_grip& g, word& oldest) noexcept {
        word const q = x - window_;
        for (int attempt = 0; attempt < 4; ++attempt) {
            if (count_free(x, n) < n) {
                oldest = nth_oldest(n);
                if (oldest > q) return false;
                continue;
            }
            // What a lost race gives back goes back to what it was, as far as there is room to remember.
            std::array<log_grip, 16> firsts;
            std::uint32_t got = 0;
            std::uint32_t held = 0;
            log_grip lowest{w::slot(x, w::held), 0, 0, 0};
            auto claim = [&](std::uint32_t i, word& value) noexcept {
                while (w::key(value) <= q) {
                    word const before = value;
                    word const after = w::taken(value, x);
                    if (!cells_[i].compare_exchange_weak(value, after, std::memory_order_relaxed,
                                                         std::memory_order_relaxed)) {
                        continue;
                    }
                    bool const can_go_back = w::state_of(after) == w::held;
                    if (got < firsts.size()) firsts[got] = {after, before, i, can_go_back ? 1U : 0U};
                    if (can_go_back && held++ == 0) lowest.slot = i;
                    ++got;
                    break;
                }
                return got == n;
            };
            word least{};
            if (search(top_, 0, q, least, claim)) {
                lowest.live = held;
                g = lowest;
                return true;
            }
            for (std::uint32_t k = 0; k < (std::min<std::size_t>)(got, firsts.size()); ++k) {
                held -= firsts[k].live;
                give_back(firsts[k]);
            }
            lowest.live = held;
            give_back_many(lowest);
        }
        oldest = q;
        return false;
    }

    /// Gives back what a take took. One permit: exactly, the slot returns to its word before; nothing where it was
    /// reused.
    std::uint32_t give_back(log_grip& g) noexcept {
        if (g.live == 0) return 0;
        if (g.before == 0) return give_back_many(g);
        word value = g.after;
        // Relaxed: (1) and (2), which follow, publish it.
        if (cells_[g.slot].compare_exchange_strong(value, g.before, std::memory_order_relaxed,
                                                   std::memory_order_relaxed)) {
            g.live = 0;
            lower_bounds(g.slot, w::stamp(g.before));
            return 1;
        }
        // Permits of one stamp cannot be told apart: who took several may have given back this slot for one of theirs.
        if (w::stamp(value) < w::stamp(g.after) + window_) return give_back_many(g);
        g.live = 0;
        return 0;
    }

    /// Gives back `live` permits of one stamp, in whichever slots they are, from g.slot on. Each slot becomes free for
    /// times from that stamp on.
    std::uint32_t give_back_many(log_grip& g) noexcept {
        std::uint32_t const wanted = std::exchange(g.live, 0);
        std::uint32_t n = 0;
        word const back = w::given_back(w::stamp(g.after), window_);
        for (std::uint32_t k = 0, i = g.slot; k < capacity_ && n < wanted; ++k, i = i + 1 == capacity_ ? 0 : i + 1) {
            word value = cells_[i].load(std::memory_order_relaxed);
            // Relaxed: as in give_back. Strong: a slot is looked at once.
            if (value == g.after &&
                cells_[i].compare_exchange_strong(value, back, std::memory_order_relaxed, std::memory_order_relaxed)) {
                lower_bounds(i, w::stamp(back));
                ++n;
            }
        }
        return n;
    }

    /// The n-th least stamp of the slots in use, no_stamp where there are fewer. O(capacity), and for n > 16 as often
    /// as a stamp between the least and the greatest has bits.
    word nth_oldest(std::uint32_t n) const noexcept {
        std::array<word, 16> least;
        if (n <= least.size()) {
            std::uint32_t size = 0;
            for (std::uint32_t i = 0; i < capacity_; ++i) {
                word const s = w::key(cells_[i].load(std::memory_order_relaxed));
                if (size == n && s >= least[n - 1]) continue;
                std::uint32_t at = size == n ? n - 1 : size++;
                for (; at > 0 && least[at - 1] > s; --at) least[at] = least[at - 1];
                least[at] = s;
            }
            return size == n ? least[n - 1] : w::no_stamp;
        }
        word low = w::no_stamp;
        word high = 0;
        for (std::uint32_t i = 0; i < capacity_; ++i) {
            word const s = w::key(cells_[i].load(std::memory_order_relaxed));
            if (s == w::no_stamp) continue;
            low = (std::min)(low, s);
            high = (std::max)(high, s);
        }
        while (low <= high) {
            word const middle = low + (high - low) / 2;
            if (count_free(middle + window_, n) >= n) {
                if (middle == low) return low;
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        return w::no_stamp;
    }

    /// Another limit, up to the capacity. Answers false where another thread is at it.
    bool change_limit(std::uint32_t limit) noexcept {
        word old = limit_.load(std::memory_order_relaxed);
        // (6) - this acquire-CAS synchronizes-with the release-exchange (7), for the slots as the last change left them
        if ((old & changing) != 0 ||
            !limit_.compare_exchange_strong(old, (std::min<word>)(old, limit) | changing, std::memory_order_acquire,
                                            std::memory_order_relaxed)) {
            return false;
        }
        if (limit < old) {
            lower_limit(static_cast<std::uint32_t>(old) - limit);
        } else {
            raise_limit(limit - static_cast<std::uint32_t>(old));
        }
        // (7) - this release-exchange synchronizes-with the acquire-CAS (6)
        limit_.exchange(limit, std::memory_order_release);
        return true;
    }

    /// Books a permit at x, whatever there is: where no slot is free at x, in place of the oldest if that is older.
    void book(word x) noexcept {
        log_grip g;
        word oldest{};
        if (take(x, g, oldest)) return;
        found const f = find_oldest(0);
        if (f.stamp < x) cells_[f.slot].exchange(w::slot(x, w::loose), std::memory_order_relaxed);
    }

    /// Calls f(stamp) for each slot in use that is not free at x.
    template <class F>
    void for_each_held(word x, F&& f) const {
        for (std::uint32_t i = 0; i < capacity_; ++i) {
            word const s = w::key(cells_[i].load(std::memory_order_relaxed));
            if (s > x - window_ && s != w::no_stamp) f(s);
        }
    }

    /// For tests: how many slots have a stamp less than a bound above them. None, when nothing is under way.
    std::uint32_t count_untrue_bounds() const noexcept {
        std::uint32_t n = 0;
        for (std::uint32_t i = 0; i < capacity_; ++i) {
            word const s = w::key(cells_[i].load(std::memory_order_relaxed));
            std::uint32_t node = i;
            for (unsigned level = 1; level <= top_; ++level) {
                node /= Fanout;
                n += s < w::stamp(cell(level, node).load(std::memory_order_relaxed)) ? 1U : 0U;
            }
        }
        return n;
    }

private:
    static_assert(Fanout >= 2 && (Fanout & (Fanout - 1)) == 0);
    static constexpr unsigned levels = [] {
        unsigned n = 1;
        for (std::uint32_t width = max_slots; width > 1; width /= Fanout) ++n;
        return n + 1;
    }();
    static constexpr std::uint32_t line = 8;
    static constexpr word changing = word{1} << 32U;

    struct found {
        word stamp;
        std::uint32_t slot;
    };

    struct free_cells {
        std::uint32_t size = 0;
        void operator()(atomic_word* p) const noexcept {
            std::destroy_n(p, size);
            ::operator delete(p, std::align_val_t{cache_line});
        }
    };
    using cell_array = std::unique_ptr<atomic_word[], free_cells>;
    static_assert(alignof(atomic_word) <= cache_line);

    static cell_array make_cells(std::uint32_t n) {
        // Whole lines, so that no stranger's data shares the last one.
        std::size_t const bytes = (n * sizeof(atomic_word) + cache_line - 1) / cache_line * cache_line;
        return cell_array{static_cast<atomic_word*>(::operator new(bytes, std::align_val_t{cache_line})),
                          free_cells{n}};
    }

    atomic_word& version(unsigned level, std::uint32_t i) const noexcept { return cells_[version_[level] + i]; }

    /// A slot (level 0) or a bound.
    atomic_word& cell(unsigned level, std::uint32_t i) const noexcept {
        return level == top_ ? root_ : cells_[first_[level] + i];
    }

    static constexpr std::uint32_t line_of(std::uint32_t slot) noexcept { return slot / line * line; }

    /// Moves the hint. Relaxed: a hint.
    void aim(word from, std::uint32_t to) const noexcept {
        if (from != to) cursor_.compare_exchange_strong(from, to, std::memory_order_relaxed, std::memory_order_relaxed);
    }

    /// Calls claim(slot, its word) for slots with stamps up to q until it answers true. Answers false once nothing was
    /// free at one moment; then `oldest` is the least stamp.
    template <bool Take = true, class Claim>
    bool find(word q, Claim& claim, word& oldest) const noexcept {
        for (;;) {
            // Relaxed: where it is too old it is too low, or too high by a refund that this attempt does not follow.
            word const bound = w::stamp(root_.load(std::memory_order_relaxed));
            if (bound > q) {
                found const f = find_oldest(bound);
                oldest = f.stamp;
                if (f.stamp > q) [[likely]]
                    return false;
                // A refund stands between its slot and the root: help it, since it may never come.
                lower_bounds(f.slot, f.stamp);
                continue;
            }
            word const from = cursor_.load(std::memory_order_relaxed);
            std::uint32_t i = static_cast<std::uint32_t>(from);
            std::uint32_t const end = (std::min)(i + line, capacity_);
            for (; i < end; ++i) {
                word value = cells_[i].load(std::memory_order_relaxed);
                if (w::key(value) <= q && claim(i, value)) break;
            }
            if (i == end && !find_elsewhere(q, claim, i)) continue;
            if constexpr (Take) {
                // The line is done with its last slot: the next is its neighbour's.
                std::uint32_t const next = i + 1 == capacity_ ? 0 : (i + 1) % line == 0 ? i + 1 : line_of(i);
                aim(from, next);
            }
            return true;
        }
    }

    template <class Claim>
    [[gnu::__noinline__]] bool find_elsewhere(word q, Claim& claim, std::uint32_t& slot) const noexcept {
        auto visit = [&](std::uint32_t i, word& value) noexcept {
            slot = i;
            return claim(i, value);
        };
        word least{};
        return search(top_, 0, q, least, visit);
    }

    [[gnu::__noinline__]] bool can_take_after_all(word q, word& oldest) const noexcept {
        auto claim = [](std::uint32_t, word&) noexcept { return true; };
        return find<false>(q, claim, oldest);
    }

    /// The least stamp and a slot that has it. `bound` is one that nothing is below, read before.
    [[gnu::__always_inline__]] found find_oldest(word bound) const noexcept {
        word const from = cursor_.load(std::memory_order_relaxed);
        std::uint32_t const begin = static_cast<std::uint32_t>(from);
        std::uint32_t const end = (std::min)(begin + line, capacity_);
        for (std::uint32_t i = begin; i < end; ++i) {
            if (w::key(cells_[i].load(std::memory_order_relaxed)) == bound) return {bound, i};
        }
        return search_oldest(from);
    }

    [[gnu::__noinline__]] found search_oldest(word from) const noexcept {
        found f{w::no_stamp, 0};
        word limit = w::no_stamp - 1;
        auto visit = [&](std::uint32_t i, word& value) noexcept {
            f = {w::key(value), i};
            limit = f.stamp - 1;
            return false;
        };
        word least{};
        search(top_, 0, limit, least, visit);
        aim(from, line_of(f.slot));  // where the next look, and the next permit, will find it
        return f;
    }

    /// Calls visit(slot, its word) for the slots under a node with stamps up to `limit`, which may sink meanwhile,
    /// until it answers true; else raises the bound as far as that showed, and `least` is what the bound then is, or
    /// less. visit leaves in the word what the slot then held.
    template <class Visit>
    bool search(unsigned level, std::uint32_t node, word const& limit, word& least, Visit& visit) const noexcept {
        atomic_word& mine = cell(level, node);
        // (3) - this acquire-load synchronizes-with the release-add (1): the scan sees what was lowered before it
        word const before = version(level, node).load(std::memory_order_acquire);
        // (4) - this acquire-load synchronizes-with the release-CAS (2): likewise
        word const bound = mine.load(std::memory_order_acquire);
        least = w::stamp(bound);
        if (least > limit) return false;
        word lowest = w::no_stamp;
        std::uint32_t const end = (std::min)((node + 1) * Fanout, width_[level - 1]);
        for (std::uint32_t i = node * Fanout; i < end; ++i) {
            word s{};
            if (level == 1) {
                word value = cells_[i].load(std::memory_order_relaxed);
                if (w::key(value) <= limit && visit(i, value)) return true;
                s = w::key(value);
            } else {
                s = w::stamp(cell(level - 1, i).load(std::memory_order_relaxed));
                if (s <= limit && search(level - 1, i, limit, s, visit)) return true;
            }
            lowest = (std::min)(lowest, s);
        }
        if (lowest > least) {
            word seen = bound;
            // (5) - this acquire-CAS synchronizes-with the release-CAS (2), so that the load after it sees (1)
            bool const done = mine.compare_exchange_strong(seen, w::raised(bound, lowest), std::memory_order_acquire,
                                                           std::memory_order_relaxed);
            least = done ? lowest : w::stamp(seen);
            if (done && version(level, node).load(std::memory_order_relaxed) != before) [[unlikely]] {
                // Nothing below this node has become less, so its version stays: else two that look would be each
                // other's reason to look again, for ever.
                lower_bound(mine, 0);
                lower_bounds(level + 1, node / Fanout, 0);
                least = 0;
            }
        } else {
            least = lowest;
        }
        return false;
    }

    /// A slot's stamp has become less. Also where a bound is low enough already: a scan in flight may be about to raise
    /// it.
    void lower_bounds(std::uint32_t slot, word stamp) const noexcept { lower_bounds(1, slot / Fanout, stamp); }

    /// Lowers a node and those above it.
    void lower_bounds(unsigned level, std::uint32_t node, word stamp) const noexcept {
        for (; level <= top_; ++level, node /= Fanout) {
            // (1) - this release-add synchronizes-with the acquire-load (3)
            version(level, node).fetch_add(1, std::memory_order_release);
            lower_bound(cell(level, node), stamp);
        }
    }
    static void lower_bound(atomic_word& bound, word stamp) noexcept {
        word b = bound.load(std::memory_order_relaxed);
        // (2) - this release-CAS synchronizes-with the acquire-load (4) and the acquire-CAS (5)
        while (!bound.compare_exchange_weak(b, w::lowered(b, stamp, Tags), std::memory_order_release,
                                            std::memory_order_relaxed)) {
        }
    }

    /// Every slot in use from one state to another.
    void set_states(w::state to) noexcept {
        for (std::uint32_t i = 0; i < capacity_; ++i) {
            word value = cells_[i].load(std::memory_order_relaxed);
            while (w::state_of(value) != w::retired &&
                   !cells_[i].compare_exchange_weak(value, w::with_state(value, to), std::memory_order_relaxed,
                                                    std::memory_order_relaxed)) {
            }
        }
    }

    /// The slots that are first by `before`, up to 16 of them, in order.
    template <class Key, class Before>
    std::uint32_t select(std::array<std::pair<word, std::uint32_t>, 16>& out, std::uint32_t wanted, Key key,
                         Before before) const noexcept {
        wanted = (std::min)(wanted, static_cast<std::uint32_t>(out.size()));
        std::uint32_t size = 0;
        for (std::uint32_t i = 0; i < capacity_; ++i) {
            word const value = cells_[i].load(std::memory_order_relaxed);
            if (!key(value)) continue;
            if (size == wanted && !before(value, out[size - 1].first)) continue;
            std::uint32_t at = size == wanted ? size - 1 : size++;
            for (; at > 0 && before(value, out[at - 1].first); --at) out[at] = out[at - 1];
            out[at] = {value, i};
        }
        return size;
    }

    // The newest stamps stay in use, the others are retired: then whenever a slot in use is free, all that were retired
    // are older than a window, and count no more. Nothing may go back meanwhile, or a slot in use could become older
    // than a retired one: so first all are frozen, which voids every receipt, and stamps only rise; in the end they are
    // loose, and a receipt made after that gives back no further than that.
    void lower_limit(std::uint32_t n) noexcept {
        set_states(w::frozen);
        while (n > 0) {
            std::array<std::pair<word, std::uint32_t>, 16> oldest;
            auto const older = [](word a, word b) noexcept { return a < b; };
            std::uint32_t const size =
                select(oldest, n, [](word value) noexcept { return w::state_of(value) != w::retired; }, older);
            for (std::uint32_t k = 0; k < size; ++k) {
                word value = oldest[k].first;
                // A slot that was taken meanwhile may still be older than the next: look again.
                if (!cells_[oldest[k].second].compare_exchange_strong(value, w::with_state(value, w::retired),
                                                                      std::memory_order_relaxed,
                                                                      std::memory_order_relaxed)) {
                    break;
                }
                --n;
            }
        }
        set_states(w::loose);
    }

    // The newest of the retired first, so that those that stay are still older than every slot in use.
    void raise_limit(std::uint32_t n) noexcept {
        while (n > 0) {
            std::array<std::pair<word, std::uint32_t>, 16> newest;
            auto const newer = [](word a, word b) noexcept { return a > b; };
            std::uint32_t const size =
                select(newest, n, [](word value) noexcept { return w::state_of(value) == w::retired; }, newer);
            for (std::uint32_t k = 0; k < size; ++k) {
                auto const [value, slot] = newest[k];
                // Nobody else touches a retired slot.
                cells_[slot].exchange(w::with_state(value, w::loose), std::memory_order_relaxed);
                lower_bounds(slot, w::stamp(value));
                --n;
            }
        }
    }

    // The first line is written seldom: the root by refunds and by who raises it, the cursor once in eight permits.
    // (Both are caches, which a look may refresh.) The second is never written, but for the limit when it changes.
    alignas(cache_line) mutable atomic_word root_{w::bound(w::never_taken)};
    mutable atomic_word cursor_{0};  // the first slot of the line to look at first
    alignas(cache_line) atomic_word limit_;
    word window_;
    cell_array cells_;
    std::uint32_t capacity_;
    unsigned top_ = 0;
    std::array<std::uint32_t, levels> first_{};
    std::array<std::uint32_t, levels> version_{};
    std::array<std::uint32_t, levels> width_{};
};

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// At most `limit` permits in ANY window of the given length, half-open: of two instants one window apart only one is
/// in it.
///
///     weir::sliding_window_log exact{10, 1s};
///     if (auto d = exact.try_acquire()) work(); else wait_until(d.retry_at());
///
/// **Promise.** The effective time of a grant is the time point passed, in whatever order they come. In any window at
/// most `limit` of them are granted and not refunded. Where time points do not go back, decisions and retry_at are
/// those of an exact log: a denial is the exact log's, or it overlaps an unfinished attempt or refund. A time point in
/// the future is trusted: it denies others until the clock is one window past it. Time points more than 4.5 years (of
/// nanoseconds; 2^57 ticks, less a window) before the construction count as that; after the horizon, 30 years at least,
/// nothing is granted any more.
///
/// **Cost.** 8 bytes a slot and a 16th more, allocated at construction. A grant of one permit is a few loads and one
/// compare-exchange (one in eight moves the hint by another). A denial of one permit is two to nine loads, and for each
/// slot taken or given back since the last one, log N (base 32) nodes of 32 words to look at once: O(log N) amortised,
/// O(1) for who only waits. A refund is one compare-exchange and two exchanges a level. More than one permit,
/// available, and a change of limit are O(N).
///
/// **Progress.** Lock-free: a thread that stops anywhere stops nobody; but change_limit excludes itself.
///
/// **Memory order.** Grants and denials order nothing between callers.
///
/// Clock: see clock.hpp; `C&` refers to a clock that outlives the limiter. Atomics: see policy.hpp.
template <class Clock = std::chrono::steady_clock, class Atomics = std_atomics>
class alignas(detail::cache_line) sliding_window_log : public detail::blocking<sliding_window_log<Clock, Atomics>> {
    using words = detail::log_words;
    using slot_array = detail::log_slots<Atomics>;
    using word = words::word;

public:
    using clock_type = typename detail::clock_traits<Clock>::type;
    using duration = typename detail::clock_traits<Clock>::duration;
    using time_point = typename detail::clock_traits<Clock>::time_point;
    /// A refund gives back all that was taken: an all_of charges such limiters first.
    static constexpr bool refunds_in_full = true;

    /// What an attempt returns; see the concept. A granted one can be refunded, once, at the limiter that made it: it
    /// is only moved, and one moved from has nothing to give back. It does not need the limiter to live.
    class decision {
    public:
        constexpr decision() = default;
        constexpr decision(decision&& other) noexcept
            : at_{other.at_},
              retry_at_{other.retry_at_},
              grip_{other.grip_},
              owner_{other.owner_},
              granted_{other.granted_},
              mark_{other.mark_} {
            other.grip_.live = 0;
        }
        constexpr decision& operator=(decision&& other) noexcept {
            at_ = other.at_;
            retry_at_ = other.retry_at_;
            grip_ = other.grip_;
            owner_ = other.owner_;
            granted_ = other.granted_;
            mark_ = other.mark_;
            if (this != &other) other.grip_.live = 0;
            return *this;
        }
        ~decision() = default;

        constexpr bool granted() const noexcept { return granted_; }
        constexpr explicit operator bool() const noexcept { return granted_; }
        /// More was asked than the limit, or the time is beyond the horizon: no wait will do.
        constexpr bool never() const noexcept { return !granted_ && retry_at_ == (time_point::max)(); }
        /// The time of the attempt where granted; time_point::max() where never. Exact: one tick earlier it is denied.
        /// Where several permits were denied because others came between, it is the time of the attempt: ask again.
        constexpr time_point retry_at() const noexcept { return retry_at_; }
        /// How long that is from the attempt; duration::max() for time_point::max(). Of a refusal at a glance, whose time is not
        /// known, from now on: it reads the limiter's clock.
        constexpr duration retry_after() const noexcept {
            if (granted_) return duration::zero();
            if constexpr (approximate_clock<clock_type>) {
                if (mark_.is_approx) return detail::approx_retry_after(owner_->clock(), retry_at_);
            }
            if (retry_at_ == (time_point::max)()) return (duration::max)();
            return time_from<duration>(detail::saturating_sub(detail::ticks(retry_at_), detail::ticks(at_)));
        }
        /// The time of the attempt.
        constexpr time_point at() const noexcept { return at_; }
        /// How many permits a refund would try to give back.
        constexpr permits live() const noexcept { return grip_.live; }

    private:
        friend sliding_window_log;
        constexpr decision(time_point at, time_point retry_at) noexcept : at_{at}, retry_at_{retry_at} {}
        constexpr decision(time_point at, detail::log_grip const& g, sliding_window_log const* owner) noexcept
            : at_{at}, retry_at_{at}, grip_{g}, owner_{owner}, granted_{true} {}

        time_point at_{};
        time_point retry_at_ = (time_point::max)();
        detail::log_grip grip_{};
        sliding_window_log const* owner_ = nullptr;
        bool granted_ = false;
        [[no_unique_address]] detail::approx_mark<clock_type> mark_{};
    };

    /// Another thread is changing the limit: nothing was done.
    static constexpr error busy{errc::busy, "another change of the limit is under way"};

    /// Whether such a log can be made, and if not, why not. Refused: a limit of 0, a limit or capacity above 2^24, a
    /// capacity below the limit; a window that is not positive, or so long that 30 years and it do not fit 60 bits of
    /// the clock's ticks (in nanoseconds, 359 days); a clock whose ticks are so short that 30 years do not; a clock
    /// whose step is longer than the window.
    static constexpr error validate(permits limit, duration window, log_options options = {},
                                    duration resolution = duration{1}) noexcept {
        if (limit == 0) return {"a limit of zero permits grants nothing for ever"};
        if (window.count() <= 0) return {"a window must be longer than nothing"};
        if (limit > slot_array::max_slots || options.capacity > slot_array::max_slots) {
            return {"a log has at most 16,777,216 slots: take a sliding_window_counter"};
        }
        if (options.capacity != 0 && options.capacity < limit) return {"the capacity is below the limit"};
        constexpr std::uint64_t needed = detail::thirty_years<duration>();
        constexpr word ahead = words::no_stamp - 1 - origin_stamp;
        if (needed > ahead) return {"the clock's ticks are too short for 30 years to fit"};
        auto const length = static_cast<std::uint64_t>(window.count());
        // Once for what a stamp may be ahead, once for the time at which its slot is free.
        if (length > (ahead - needed) / 2 || length > origin_stamp / 4)
            return {"the window is too long for 30 years to fit"};
        if (resolution > window) return {"the clock is too coarse: its step is longer than the window"};
        return {};
    }

    /// `limit` permits in any `window`. Errors: see validate.
    template <std::default_initializable Box = detail::clock_box<Clock>>
    sliding_window_log(permits limit, duration window, log_options options = {})
        : sliding_window_log{Box{}, limit, window, options} {}

    template <detail::log_clock<Clock> C>
    sliding_window_log(permits limit, duration window, C&& clock)
        : sliding_window_log{detail::clock_box<Clock>{std::forward<C>(clock)}, limit, window, log_options{}} {}

    template <detail::log_clock<Clock> C>
    sliding_window_log(permits limit, duration window, log_options options, C&& clock)
        : sliding_window_log{detail::clock_box<Clock>{std::forward<C>(clock)}, limit, window, options} {}

    sliding_window_log(sliding_window_log const&) = delete;
    sliding_window_log& operator=(sliding_window_log const&) = delete;
    ~sliding_window_log() = default;

    /// The log, or the reason why there is none.
    template <std::default_initializable Box = detail::clock_box<Clock>>
    static result<sliding_window_log> make(permits limit, duration window, log_options options = {}) {
        if (auto e = validate(limit, window, options, resolution_of(Box{}.get()))) return e;
        return result<sliding_window_log>{std::in_place, limit, window, options};
    }
    template <detail::log_clock<Clock> C>
    static result<sliding_window_log> make(permits limit, duration window, log_options options, C&& clock) {
        if (auto e = validate(limit, window, options, resolution_of(clock))) return e;
        return result<sliding_window_log>{std::in_place, limit, window, options, std::forward<C>(clock)};
    }

    // ---- taking ----

    /// Takes `n` permits at `t`, or none. 0 is granted and takes nothing; more than the limit is never granted. A
    /// denial changes nothing that anyone can see.
    ///
    /// For n > 1 the slots are counted, then taken one by one; if others come between so that they do not suffice,
    /// those taken are given back. Each slot taken keeps the promise by itself, so the promise holds at every moment; a
    /// denial then overlaps the others' attempts, and one that others get meanwhile overlaps this. (Only if the limit
    /// is lowered during that very moment, what was taken stays booked for a window.) The cost is O(N).
    decision try_acquire(permits n, time_point t) noexcept {
        if (n == 1) [[likely]]
            return try_acquire(t);
        return try_many(n, t);
    }
    /// With a approximate_clock a single permit is tried at the glance first: a slot that is not a window old at a later time is
    /// not at an earlier one, so a refusal there is one at now() too.
    [[gnu::__always_inline__]] decision try_acquire(permits n = 1) noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (auto d = check_approx(n); !d) return d;
        }
        return try_acquire(n, clock().now());
    }
    decision try_acquire(time_point t) noexcept {
        detail::log_grip g;
        word oldest{};
        if (slots_.take(stamp_of(t), g, oldest)) return decision{t, g, this};
        return decision{t, free_again(oldest)};
    }

    /// What try_acquire would answer; charges nothing.
    decision check(permits n, time_point t) const noexcept {
        if (n == 0) return decision{t, detail::log_grip{}, this};
        word const x = stamp_of(t);
        word oldest{};
        if (n == 1)
            return slots_.can_take(x, oldest) ? decision{t, detail::log_grip{}, this} : decision{t, free_again(oldest)};
        if (n > limit()) return decision{t, (time_point::max)()};
        auto const m = static_cast<std::uint32_t>(n);
        if (slots_.count_free(x, m) >= m) return decision{t, detail::log_grip{}, this};
        oldest = slots_.nth_oldest(m);
        return decision{t, oldest > x - slots_.window() ? free_again(oldest) : t};
    }
    [[gnu::__always_inline__]] decision check(permits n = 1) const noexcept {
        if constexpr (approximate_clock<clock_type>) {
            if (auto d = check_approx(n); !d) return d;
        }
        return check(n, clock().now());
    }
    decision check(time_point t) const noexcept { return check(1, t); }

    // ---- giving back ----

    /// Gives back what a granted decision took, once, and says how many permits that was: the second time 0; 0 too
    /// where the slot was taken again since (the permit is older than a window then), after the limit was lowered, and
    /// for a decision of another limiter. A single permit goes back exactly: its slot to the stamp before. Of several,
    /// each becomes free for time points from its own on. Only what certainly was not used may be given back. O(1) for
    /// one permit (O(N) if several of the same time point were given back before it), O(N) for several.
    permits refund(decision& d) noexcept {
        if (d.owner_ != this) return 0;
        return slots_.give_back(d.grip_);
    }
    /// k of them: which ones makes no difference, since they have one time point.
    permits refund(decision& d, permits k) noexcept {
        if (k >= d.live()) return refund(d);
        if (d.owner_ != this || k == 0) return 0;
        detail::log_grip part = d.grip_;
        part.live = static_cast<std::uint32_t>(k);
        d.grip_.live -= part.live;
        return slots_.give_back(part);
    }

    // ---- looking ----

    /// How many permits could be taken at `t`. O(N).
    permits available(time_point t) const noexcept { return slots_.count_free(stamp_of(t), slots_.capacity()); }
    permits available() const noexcept { return available(clock().now()); }

    permits limit() const noexcept { return slots_.limit(); }
    /// The greatest limit that change_limit takes.
    permits capacity() const noexcept { return slots_.capacity(); }
    duration window() const noexcept { return window_; }
    clock_type const& clock() const noexcept { return clock_.get(); }

    /// Calls f(time_point) for each permit that counts at `t`, in no order: what `restore` takes after a restart. O(N).
    template <class F>
    void for_each_held(time_point t, F f) const {
        slots_.for_each_held(stamp_of(t), [&](word s) { f(time_of(s)); });
    }

    // ---- changing ----

    /// Puts another limit in force, up to the capacity. Raised, the new permits are available when they return; what a
    /// lower limit cut off and is younger than a window counts again. Lowered, what was taken stays taken: when this
    /// returns, a permit is granted only where the last window holds fewer than the new limit, whatever was in force
    /// when they were granted; what was granted before, or meanwhile, can no longer be refunded. Errors: 0; above the
    /// capacity; `busy`. O(N) and a scan of N for each 16 slots of difference. Excludes other changes, so it is not
    /// lock-free: a thread that stops in it leaves the others `busy`; attempts and refunds go on.
    error change_limit(permits limit) noexcept {
        if (limit == 0) return {"a limit of zero permits grants nothing for ever"};
        if (limit > slots_.capacity()) return {"the limit is above the capacity"};
        return slots_.change_limit(static_cast<std::uint32_t>(limit)) ? error{} : busy;
    }

    /// Before the limiter is shared: books a permit at a time point of the past, in any order. Where there are more
    /// than the limit, the newest count.
    void restore(time_point t) noexcept { slots_.book(stamp_of(t)); }
    void restore(permits n, time_point t) noexcept {
        for (permits i = 0; i < (std::min<permits>)(n, limit()); ++i) restore(t);
    }

private:
    static constexpr word origin_stamp = word{1} << 57U;
    static constexpr auto before_origin = static_cast<std::int64_t>(origin_stamp);

    sliding_window_log(detail::clock_box<Clock>&& clock, permits limit, duration window, log_options options)
        : slots_{checked(limit, window, options, resolution_of(clock.get())),
                 static_cast<std::uint32_t>(options.capacity == 0 ? limit : options.capacity),
                 static_cast<word>(window.count()),
                 static_cast<std::uint32_t>(limit - (std::min)(limit, options.start.available)), origin_stamp},
          clock_{std::move(clock)},
          origin_{detail::ticks(time_point{clock_.get().now()})},
          window_{window} {}

    static std::uint32_t checked(permits limit, duration window, log_options options, duration resolution) {
        detail::ensure(validate(limit, window, options, resolution));
        return static_cast<std::uint32_t>(limit);
    }

    word stamp_of(time_point t) const noexcept {
        std::int64_t const since = detail::saturating_sub(detail::ticks(t), origin_);
        return static_cast<word>(std::clamp(since, static_cast<std::int64_t>(slots_.earliest()) - before_origin,
                                            static_cast<std::int64_t>(slots_.latest()) - before_origin) +
                                 before_origin);
    }
    template <class T>
    static constexpr T time_from(std::int64_t ticks) noexcept {
        using rep = typename duration::rep;
        using limits = std::numeric_limits<rep>;
        if (ticks >= std::int64_t{(limits::max)()}) return (T::max)();
        if (ticks <= std::int64_t{(limits::min)()}) return (T::min)();
        return T{duration{static_cast<rep>(ticks)}};
    }
    time_point time_of(word stamp) const noexcept {
        return time_from<time_point>(detail::saturating_add(origin_, static_cast<std::int64_t>(stamp) - before_origin));
    }
    time_point free_again(word stamp) const noexcept {
        if (stamp > slots_.latest() - slots_.window()) return (time_point::max)();
        return time_of(stamp + slots_.window());
    }

    /// The refusal that an attempt at the clock's glance is certain of; granted where it is not.
    [[gnu::__always_inline__]] decision check_approx(permits n) const noexcept {
        time_point const t = clock().now_approx();
        word oldest{};
        if (n != 1 || slots_.can_take(stamp_of(t), oldest)) return decision{t, detail::log_grip{}, this};
        decision d{t, detail::approx_retry_at(clock(), free_again(oldest))};
        d.owner_ = this;
        d.mark_.is_approx = true;
        return d;
    }

    [[gnu::__noinline__]] decision try_many(permits n, time_point t) noexcept {
        detail::log_grip g{};
        if (n == 0) return decision{t, g, this};
        if (n > limit()) return decision{t, (time_point::max)()};
        word const x = stamp_of(t);
        word oldest{};
        if (slots_.take_many(static_cast<std::uint32_t>(n), x, g, oldest)) return decision{t, g, this};
        return decision{t, oldest > x - slots_.window() ? free_again(oldest) : t};
    }

    slot_array slots_;
    [[no_unique_address]] detail::clock_box<Clock> clock_;
    std::int64_t origin_;  // the tick of origin_stamp
    duration window_;
};

template <class Rep, class Period>
sliding_window_log(permits, std::chrono::duration<Rep, Period>) -> sliding_window_log<std::chrono::steady_clock>;
template <class Rep, class Period>
sliding_window_log(permits, std::chrono::duration<Rep, Period>, log_options)
    -> sliding_window_log<std::chrono::steady_clock>;
template <class Rep, class Period>
sliding_window_log(permits, std::chrono::duration<Rep, Period>, start) -> sliding_window_log<std::chrono::steady_clock>;
template <class Rep, class Period, clock C>
sliding_window_log(permits, std::chrono::duration<Rep, Period>, C&&) -> sliding_window_log<C>;
template <class Rep, class Period, clock C>
sliding_window_log(permits, std::chrono::duration<Rep, Period>, log_options, C&&) -> sliding_window_log<C>;

}  // namespace weir::inline v0

#pragma pop_macro("check")
