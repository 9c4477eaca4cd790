// SPDX-License-Identifier: MIT
//
// What keyed_buckets is made of, without its clock: the sets in one piece of memory, the plans, the table's ticks.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../error.hpp"
#include "../keyed_options.hpp"
#include "../limiter.hpp"
#include "../rate.hpp"
#include "gcra.hpp"
#include "keyed_layout.hpp"
#include "keyed_set.hpp"
#include "saturating.hpp"
#include "wide.hpp"

namespace weir::inline v0::detail {

/// A table's tick is 2^shift ticks of its clock: the smallest with which `longest` ticks of the clock fit one epoch.
constexpr unsigned keyed_shift(std::uint64_t longest) noexcept {
    unsigned shift = 0;
    while (longest >> shift > keyed_layout<>::epoch_ticks) ++shift;
    return shift;
}

/// The word of a plan, in ticks of 2^shift; or why it has none. The interval is rounded up: the rate is never exceeded.
template <class Duration>
constexpr error make_plan_word(rate const& r, permit_count burst, unsigned shift, Duration resolution,
                               keyed_plan_word& out) {
    if (auto g = gcra::make<Duration>(r, burst, resolution); !g) return g.error();
    auto const per = r.template per<Duration>();
    std::uint64_t const clock_ticks = mul_div_ceil(per.ticks, 1, per.permits);
    std::uint64_t const interval = ((clock_ticks - 1) >> shift) + 1;
    if (burst > keyed_plan_word::most_burst) return {errc::does_not_fit, "a plan's burst must be below 2^30"};
    u128 const span = mul(interval, burst);
    if (interval > keyed_plan_word::most_interval || span.hi != 0 || span.lo > keyed_layout<>::epoch_ticks) {
        return {errc::does_not_fit, "a plan's burst must refill within keyed_options::longest"};
    }
    u128 const rounded = mul(interval << shift, per.permits);
    if (rounded.hi != 0 || rounded.lo - per.ticks > per.ticks / 1000) {
        return {errc::does_not_fit, "a plan's rate is too high for the ticks of keyed_options::longest"};
    }
    out = keyed_plan_word::of(interval, burst);
    return {};
}

template <class Duration>
constexpr unsigned shift_of(keyed_options const& o) noexcept {
    std::chrono::nanoseconds const& longest = o.longest;
    return keyed_shift(static_cast<std::uint64_t>(saturating_ceil<Duration>(longest).count()));
}
/// What is wrong with a table's options and first plan; else the plan's word.
template <class Duration>
constexpr error check_keyed(keyed_options const& o, plan const& p, Duration resolution,
                            keyed_plan_word* out = nullptr) {
    if (o.capacity == 0U) return {"capacity must be at least 1"};
    if (o.capacity >> 40U != 0 || !std::in_range<std::size_t>(o.capacity.value())) {
        return {"capacity must be at most 2^40, and fit in a size_t"};
    }
    if (o.longest <= std::chrono::nanoseconds{0}) return {"longest must be positive"};
    keyed_plan_word w;
    if (auto e = make_plan_word(p.rate, p.burst, shift_of<Duration>(o), resolution, w)) return e;
    if (out != nullptr) *out = w;
    return {};
}
template <class Duration>
keyed_plan_word first_plan(keyed_options const& o, plan const& p, Duration resolution) {
    keyed_plan_word w;
    ensure(check_keyed(o, p, resolution, &w));
    return w;
}

/// Cells in one piece of memory, aligned to pages of 2 MiB where there is so much; huge pages are asked for.
template <class Cell>
class cell_array {
public:
    explicit cell_array(std::size_t n) : cells_{allocate(n)}, size_{n} {
        for (std::size_t i = 0; i < n; ++i) ::new (static_cast<void*>(cells_ + i)) Cell;
    }
    cell_array(cell_array const&) = delete;
    cell_array& operator=(cell_array const&) = delete;
    ~cell_array() {
        for (std::size_t i = 0; i < size_; ++i) cells_[i].~Cell();
        ::operator delete(static_cast<void*>(cells_), std::align_val_t{alignment(size_)});
    }

    std::size_t size() const noexcept { return size_; }
    Cell& operator[](std::size_t i) const noexcept { return cells_[i]; }
    /// Whether the cell is one of these.
    bool holds(Cell const* c) const noexcept {
        return !std::less<Cell const*>{}(c, cells_) && std::less<Cell const*>{}(c, cells_ + size_);
    }

private:
    static constexpr std::size_t huge_page = std::size_t{1} << 21U;
    static constexpr std::size_t alignment(std::size_t n) noexcept {
        return n * sizeof(Cell) >= huge_page ? huge_page : alignof(Cell);
    }
    static Cell* allocate(std::size_t n) {
        std::size_t const bytes = n * sizeof(Cell);
        void* const p = ::operator new(bytes, std::align_val_t{alignment(n)});
#if defined(__linux__) && defined(MADV_HUGEPAGE)
        if (bytes >= huge_page) static_cast<void>(::madvise(p, bytes / huge_page * huge_page, MADV_HUGEPAGE));
#endif
        return static_cast<Cell*>(p);
    }

    Cell* cells_;
    std::size_t size_;
};

/// Where a hash leads: 27 of its low bits are the fingerprint, 16 more the preferred slot, the high bits the set.
struct keyed_place {
    std::size_t set;
    std::uint64_t fingerprint;
    unsigned preferred;
};
constexpr keyed_place place_of(std::uint64_t hash, std::size_t sets) noexcept {
    using layout = keyed_layout<>;
    std::uint64_t const f = hash & ((std::uint64_t{1} << layout::fingerprint_bits) - 1);
    std::uint64_t const p = ((hash >> layout::fingerprint_bits) & 0xffffU) * layout::ways >> 16U;
    return {to<std::size_t>(mul(hash, sets).hi), f == 0 ? 1 : f, static_cast<unsigned>(p)};
}

template <class Atomics>
class keyed_table {
public:
    using set = keyed_set<Atomics>;
    static constexpr unsigned most_plans = 64;

    template <class Duration>
    keyed_table(keyed_options const& o, plan const& p, Duration resolution)
        : keyed_table{to<std::size_t>(o.capacity.value()), shift_of<Duration>(o), first_plan(o, p, resolution)} {}

    set& set_at(std::size_t i) const noexcept { return sets_[i]; }
    std::size_t sets() const noexcept { return sets_.size(); }
    bool holds(set const* s) const noexcept { return sets_.holds(s); }
    unsigned shift() const noexcept { return shift_; }

    // Relaxed: a plan is one word, and an attempt goes by the one that it finds.
    keyed_plan_word plan(unsigned i) const noexcept {
        return {i < most_plans ? plans_[i].load(std::memory_order_relaxed) : 0};
    }
    void set_plan(unsigned i, keyed_plan_word w) noexcept { plans_[i].exchange(w.bits, std::memory_order_relaxed); }

    // Relaxed: counts, read by nobody to decide.
    void count_forgotten() noexcept { forgotten_.n.fetch_add(1, std::memory_order_relaxed); }
    void count_full() noexcept { full_.n.fetch_add(1, std::memory_order_relaxed); }
    std::uint64_t forgotten() const noexcept { return forgotten_.n.load(std::memory_order_relaxed); }
    std::uint64_t full() const noexcept { return full_.n.load(std::memory_order_relaxed); }
    /// Slots with debt, from at most 1,024 sets.
    std::uint64_t live(std::uint64_t t) const noexcept {
        std::size_t const step = sets() / 1024 + 1;
        std::uint64_t n = 0;
        std::uint64_t looked_at = 0;
        for (std::size_t i = 0; i < sets(); i += step, ++looked_at) n += sets_[i].live(t);
        return mul_div_floor(n, sets(), looked_at);
    }

private:
    keyed_table(std::size_t capacity, unsigned shift, keyed_plan_word first)
        : shift_{shift}, sets_{(capacity - 1) / keyed_layout<>::ways + 1} {
        set_plan(0, first);
    }

    using atomic = typename Atomics::template atomic<std::uint64_t>;
    struct alignas(128) counter {
        atomic n{};
    };

    unsigned shift_;
    cell_array<set> sets_;
    atomic plans_[most_plans]{};
    counter forgotten_{};
    counter full_{};
};

}  // namespace weir::inline v0::detail
