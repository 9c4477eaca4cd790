// SPDX-License-Identifier: MIT
//
// The protocol of a counter by itself: a window of nanoseconds since its origin.
#pragma once

#include <weir/atomics.hpp>
#include <weir/detail/window_counter.hpp>

#include <chrono>
#include <cstdint>
#include <utility>

namespace support {

inline weir::detail::window_layout layout_of(weir::permits limit, std::chrono::nanoseconds window,
                                             std::uint32_t segments) {
    return weir::detail::window_layout::make(limit, window.count(), segments, 1,
                                             weir::detail::window_layout::horizon<std::chrono::nanoseconds>());
}

template <class Atomics = weir::std_atomics>
class window_of : public weir::detail::window_counter<Atomics> {
    using base = weir::detail::window_counter<Atomics>;

public:
    using receipt = weir::detail::window_receipt;
    using usage = weir::detail::window_usage;

    window_of(weir::permits limit, std::chrono::nanoseconds window, std::uint32_t segments = 125)
        : base{layout_of(limit, window, segments), limit, 0, 0} {}

    /// What try_acquire charged; nothing is live when it was denied.
    template <bool Alone = false>
    bool take(weir::permits n, std::int64_t t, receipt& r) {
        auto const a = this->template try_acquire<Alone>(n, t);
        r = receipt{a.head, a.taken};
        return a.granted;
    }
    template <bool Alone = false>
    bool take(weir::permits n, std::int64_t t) {
        receipt r;
        return take<Alone>(n, t, r);
    }
    /// By prepare and commit.
    bool take_in_two_steps(weir::permits n, std::int64_t t, receipt& r) {
        typename base::forecast f;
        auto const p = this->prepare(n, t, f);
        return p.granted() && this->commit(p, f, n, t, r);
    }
    template <class Others>
    bool take_shared(weir::permits n, std::int64_t t, Others others) {
        receipt r;
        return this->try_acquire_shared(n, t, others, r);
    }
    template <class Others>
    bool check_shared(weir::permits n, std::int64_t t, Others others) const {
        typename base::forecast f;
        return this->prepare_shared(n, t, others, f).granted();
    }
};

}  // namespace support
