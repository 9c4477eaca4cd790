// SPDX-License-Identifier: MIT
//
// A binary heap of objects that know their position in it, so that any of them can be taken out.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace weir::inline v0::detail {

/// `T::heap_index` is the position. `Before` says which of two is nearer to the top. O(log n); reserve() allocates,
/// and nothing else does as long as no more objects are in it.
template <class T, class Before>
class index_heap {
public:
    void reserve(std::size_t n) { items_.reserve(n); }
    bool empty() const noexcept { return items_.empty(); }
    T* top() const noexcept { return items_.empty() ? nullptr : items_.front(); }

    void push(T& x) {
        x.heap_index = items_.size();
        items_.push_back(&x);
        rise(x.heap_index);
    }
    void erase(T& x) noexcept {
        std::size_t const i = x.heap_index;
        T* const last = items_.back();
        items_.pop_back();
        if (last == &x) return;
        put(i, last);
        rise(i);
        sink(last->heap_index);
    }
    /// After what Before compares of it has changed.
    void update(T& x) noexcept {
        rise(x.heap_index);
        sink(x.heap_index);
    }
    void clear() noexcept { items_.clear(); }

private:
    void put(std::size_t i, T* x) noexcept {
        items_[i] = x;
        x->heap_index = i;
    }
    void rise(std::size_t i) noexcept {
        T* const x = items_[i];
        for (; i != 0 && Before{}(*x, *items_[(i - 1) / 2]); i = (i - 1) / 2) put(i, items_[(i - 1) / 2]);
        put(i, x);
    }
    void sink(std::size_t i) noexcept {
        T* const x = items_[i];
        for (;;) {
            std::size_t child = 2 * i + 1;
            if (child >= items_.size()) break;
            if (child + 1 < items_.size() && Before{}(*items_[child + 1], *items_[child])) ++child;
            if (!Before{}(*items_[child], *x)) break;
            put(i, items_[child]);
            i = child;
        }
        put(i, x);
    }

    std::vector<T*> items_{};
};

}  // namespace weir::inline v0::detail
