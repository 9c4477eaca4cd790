// SPDX-License-Identifier: MIT
//
// The slots of a sliding_window_log, and a tree of lower bounds over their stamps: "no stamp below this node is less
// than B". The bounds say in one load that nothing is free, and lead a search to what is free or oldest.
//
// Taking a slot raises its stamp, which keeps every bound true, if low; a search that finds a bound too low raises it.
// Giving back lowers a stamp first and the bounds above it afterwards.
//
// Protocol. Every write is a read-modify-write, so each numbered release heads a release sequence that every later
// value of its word continues. A node has two words, its bound and its version.
//
//     pair          protects
//     (1) and (3)   version: a scan that reads the new version sees the stamp that was lowered before it
//     (2) and (4)   bound: a scan that reads the lowered bound sees the same
//     (2) and (5)   bound: a scan that replaces the lowered bound sees the new version in its last load
//
// A thread L that lowers something below a node raises the version of the node (1), lowers its bound (2), and continues
// with the next node up. A thread S that scans a node loads the version (3) and the bound (4), reads what is below,
// publishes by an exchange of the bound (5), and loads the version again.
//
// Lemma. A bound is true unless a lowering below it is unfinished. Cases, by the order of the steps:
// - (1) before (3), or (2) before (4): the scan sees the lowered stamp.
// - (2) after (5): L lowers the bound again.
// - (2) between (4) and (5): (5) fails, since the tag has changed. If the tag has gone round and the bound has come
//   back to its old value, (5) succeeds; since (5) acquires what (2) released, the last load of S sees (1). S has then
//   published a bound that may be untrue, and lowers it and those above it to nothing.
//
// All other accesses are relaxed. A slot's word says all that its exchange depends on. A bound that is read too old is
// too low, which costs a scan, or too high by a refund that the reader does not follow.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "../atomics.hpp"
#include "log_layout.hpp"

namespace weir::inline v0::detail {

/// `Tags` is the greatest tag of a bound: tests take a small one, since they cannot wait for all tags to go round.
template <class Atomics, unsigned Fanout = 32, log_layout::word Tags = log_layout::low_mask>
class log_tree {
    using w = log_layout;

public:
    using word = w::word;
    using atomic_word = typename Atomics::template atomic<word>;
    static constexpr std::uint32_t max_slots = std::uint32_t{1} << 24U;

    log_tree(log_tree const&) = delete;
    log_tree& operator=(log_tree const&) = delete;

    std::uint32_t capacity() const noexcept { return capacity_; }

    /// For tests: how many pairs of a slot and a bound above it are untrue. None when nothing is under way.
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

protected:
    struct found {
        word stamp;
        std::uint32_t slot;
    };

    /// `initial(i)` is the first word of slot i.
    template <class Initial>
    log_tree(std::uint32_t capacity, std::uint32_t next, Initial initial)
        : hints_{w::hints(next, next)}, capacity_{capacity} {
        std::uint32_t cells = capacity;
        std::uint32_t width = capacity;
        width_[0] = capacity;
        do {
            width = (width - 1) / Fanout + 1;
            ++top_;
            first_[top_] = cells;
            width_[top_] = width;
            if (width > 1) cells += width;  // the root is a member
        } while (width > 1);
        std::uint32_t const bounds_end = cells;
        for (unsigned level = 1; level <= top_; ++level) {
            version_[level] = cells;
            cells += width_[level];
        }
        cells_ = make_cells(cells);
        for (std::uint32_t i = 0; i < cells; ++i) {
            word const value = i < capacity ? initial(i) : i < bounds_end ? w::bound(w::never_taken) : 0;
            std::construct_at(&cells_[i], value);
        }
    }
    ~log_tree() = default;

    atomic_word& slot(std::uint32_t i) const noexcept { return cells_[i]; }
    std::uint32_t leaves() const noexcept { return width_[1]; }
    /// The slots under a leaf: [first, second).
    std::pair<std::uint32_t, std::uint32_t> slots_of(std::uint32_t leaf) const noexcept {
        return {leaf * Fanout, (std::min)((leaf + 1) * Fanout, capacity_)};
    }
    /// Relaxed: see the head of this file.
    word root_bound() const noexcept { return w::stamp(root_.load(std::memory_order_relaxed)); }
    word leaf_bound(std::uint32_t leaf) const noexcept {
        return w::stamp(cell(1, leaf).load(std::memory_order_relaxed));
    }

    /// The first slot of the eight that share a cache line with `slot`.
    static constexpr std::uint32_t line_of(std::uint32_t slot) noexcept { return slot / line * line; }
    std::uint32_t line_end(std::uint32_t slot) const noexcept { return (std::min)(slot + line, capacity_); }

    /// Relaxed: hints decide where to look first, and whatever they say the answer is right.
    word hints() const noexcept { return hints_.load(std::memory_order_relaxed); }
    /// After a permit was taken. Only this moves the hint for the next permit: which slot that permit takes can be
    /// observed at earlier time points, so a check or a denial must not change it.
    void took(word seen, std::uint32_t slot) const noexcept {
        // A line whose last slot is taken is finished: the next line follows.
        std::uint32_t const next = slot + 1 == capacity_ ? 0 : (slot + 1) % line == 0 ? slot + 1 : line_of(slot);
        if (next != w::next_hint(seen)) move_hints(seen, w::hints(next, next));
    }

    /// The least stamp and a slot that has it. `bound` is a bound of the root that was read before.
    [[gnu::__always_inline__]] found find_oldest(word bound) const noexcept {
        word const seen = hints();
        std::uint32_t const begin = w::oldest_hint(seen);
        std::uint32_t const end = line_end(begin);
        for (std::uint32_t i = begin; i < end; ++i) {
            if (w::key(cells_[i].load(std::memory_order_relaxed)) == bound) return {bound, i};
        }
        return search_oldest(seen);
    }

    [[gnu::__noinline__]] found search_oldest(word seen) const noexcept {
        found f{w::no_stamp, 0};
        word limit = w::no_stamp - 1;
        auto visit = [&](std::uint32_t i, word& value) noexcept {
            f = {w::key(value), i};
            limit = f.stamp - 1;
            return false;
        };
        search(limit, visit);
        if (std::uint32_t const oldest = line_of(f.slot); oldest != w::oldest_hint(seen)) {
            move_hints(seen, w::hints(w::next_hint(seen), oldest));
        }
        return f;
    }

    /// Calls visit(slot, its word) for the slots with stamps up to `limit` until it answers true. visit may lower
    /// `limit`, and leaves in the word what the slot then held. Raises each bound that turns out to be too low.
    template <class Visit>
    bool search(word const& limit, Visit& visit) const noexcept {
        word least{};
        return search(top_, 0, limit, least, visit);
    }

    /// How many slots have stamps up to `limit`, counted up to `enough`. Writes nothing, except where a bound turns out
    /// to be too low.
    std::uint32_t count(word limit, std::uint32_t enough) const noexcept {
        std::uint32_t n = 0;
        bool too_low = false;
        if (root_bound() > limit || count(top_, 0, w::bound(limit) | w::low_mask, enough, n, too_low) || !too_low)
            return n;
        auto raise = [](std::uint32_t, word&) noexcept { return false; };
        search(limit, raise);
        return n;
    }

    /// To be called after the stamp of a slot was lowered. A bound that is low enough already gets a new tag too, since
    /// a scan in flight may be about to raise it.
    void lower_bounds(std::uint32_t slot, word stamp) const noexcept { lower_bounds(1, slot / Fanout, stamp); }

private:
    static_assert(Fanout >= 2 && (Fanout & (Fanout - 1)) == 0);
    static constexpr unsigned levels = [] {
        unsigned n = 1;
        for (std::uint32_t width = max_slots; width > 1; width /= Fanout) ++n;
        return n + 1;
    }();
    static constexpr std::uint32_t line = 8;

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
        // Whole cache lines, so that no foreign data shares the last one.
        std::size_t const bytes = (n * sizeof(atomic_word) + cache_line - 1) / cache_line * cache_line;
        return cell_array{static_cast<atomic_word*>(::operator new(bytes, std::align_val_t{cache_line})),
                          free_cells{n}};
    }

    atomic_word& version(unsigned level, std::uint32_t i) const noexcept { return cells_[version_[level] + i]; }

    /// A slot (level 0) or a bound.
    atomic_word& cell(unsigned level, std::uint32_t i) const noexcept {
        return level == top_ ? root_ : cells_[first_[level] + i];
    }

    void move_hints(word from, word to) const noexcept {
        hints_.compare_exchange_strong(from, to, std::memory_order_relaxed, std::memory_order_relaxed);
    }

    /// Counts below one node; true when there are enough. `top`: the greatest word of the stamps that are counted.
    bool count(unsigned level, std::uint32_t node, word top, std::uint32_t enough, std::uint32_t& n,
               bool& too_low) const noexcept {
        std::uint32_t const first = node * Fanout;
        std::uint32_t const size = (std::min)(Fanout, width_[level - 1] - first);
        atomic_word const* const below = &cells_[first_[level - 1] + first];
        bool any = false;
        for (std::uint32_t i = 0; i < size; ++i) {
            word const value = below[i].load(std::memory_order_relaxed);
            if (value > top) [[likely]]
                continue;
            if (level != 1) {
                any = true;
                if (count(level - 1, first + i, top, enough, n, too_low)) return true;
            } else if (w::state_of(value) != w::retired) {
                any = true;
                if (++n == enough) return true;
            }
        }
        too_low = too_low || !any;
        return false;
    }

    /// Searches below one node. When it answers false, the bound of the node is `least` or more.
    template <class Visit>
    bool search(unsigned level, std::uint32_t node, word const& limit, word& least, Visit& visit) const noexcept {
        atomic_word& mine = cell(level, node);
        word const before = version(level, node).load(std::memory_order_acquire);  // (3) pairs with (1)
        word const bound = mine.load(std::memory_order_acquire);                   // (4) pairs with (2)
        least = w::stamp(bound);
        if (least > limit) return false;
        word lowest = w::no_stamp;
        std::uint32_t const first = node * Fanout;
        std::uint32_t const count = (std::min)(Fanout, width_[level - 1] - first);
        atomic_word const* const below = &cells_[first_[level - 1] + first];  // the root is below nothing
        for (std::uint32_t i = 0; i < count; ++i) {
            word value = below[i].load(std::memory_order_relaxed);
            word s{};
            if (level == 1) {
                if (w::key(value) <= limit && visit(first + i, value)) return true;
                s = w::key(value);
            } else {
                s = w::stamp(value);
                if (s <= limit && search(level - 1, first + i, limit, s, visit)) return true;
            }
            lowest = (std::min)(lowest, s);
        }
        if (lowest > least) {
            word seen = bound;
            bool const done = mine.compare_exchange_strong(seen, w::raised(bound, lowest),
                                                           std::memory_order_acquire,  // (5) pairs with (2)
                                                           std::memory_order_relaxed);
            least = done ? lowest : w::stamp(seen);
            if (done && version(level, node).load(std::memory_order_relaxed) != before) [[unlikely]] {
                // Nothing below this node has become less, so its version stays: otherwise two scans would each be the
                // reason for the other to scan again, without end.
                lower_bound(mine, 0);
                lower_bounds(level + 1, node / Fanout, 0);
                least = 0;
            }
        } else {
            least = lowest;
        }
        return false;
    }

    /// Lowers a node and those above it.
    void lower_bounds(unsigned level, std::uint32_t node, word stamp) const noexcept {
        for (; level <= top_; ++level, node /= Fanout) {
            version(level, node).fetch_add(1, std::memory_order_release);  // (1) pairs with (3)
            lower_bound(cell(level, node), stamp);
        }
    }
    static void lower_bound(atomic_word& bound, word stamp) noexcept {
        word b = bound.load(std::memory_order_relaxed);
        while (!bound.compare_exchange_weak(b, w::lowered(b, stamp, Tags),
                                            std::memory_order_release,  // (2) pairs with (4) and (5)
                                            std::memory_order_relaxed)) {
        }
    }

    // The first line is written seldom: the root by refunds and by scans that raise it, the hints once in eight
    // permits. Both are caches that a check may refresh, hence mutable. The second line is constant after construction.
    alignas(cache_line) mutable atomic_word root_{w::bound(w::never_taken)};
    mutable atomic_word hints_;
    alignas(cache_line) cell_array cells_{};
    std::uint32_t capacity_;
    unsigned top_ = 0;
    std::array<std::uint32_t, levels> first_{};
    std::array<std::uint32_t, levels> version_{};
    std::array<std::uint32_t, levels> width_{};
};

}  // namespace weir::inline v0::detail
