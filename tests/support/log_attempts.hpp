// SPDX-License-Identifier: MIT
//
// Attempts on the slots of a log with their whole answer, as log_core makes a decision of them.
#pragma once

#include <weir/detail/log_layout.hpp>

#include <cstdint>

namespace log_attempts {

using word = weir::detail::log_layout::word;

/// Takes one slot at x. When it cannot, `oldest` is the least stamp.
template <class Slots>
bool take(Slots& slots, word x, weir::detail::log_receipt& r, word& oldest) {
    using layout = weir::detail::log_layout;
    auto const t = slots.take(x);
    oldest = t.oldest;
    if (t.before == 0) return false;
    word const after = layout::taken(t.before, x);
    r = {after, t.before, t.slot, layout::state_of(after) == layout::held ? 1U : 0U};
    return true;
}

/// Takes n > 1 slots at x, or none. When it cannot, `oldest` is the n-th least stamp; or x - window if other calls
/// interfered.
template <class Slots>
bool take_many(Slots& slots, std::uint32_t n, word x, weir::detail::log_receipt& r, word& oldest) {
    if (slots.take_many(n, x, r)) return true;
    word const q = x - slots.window();
    word const stamp = slots.nth_oldest(n);
    oldest = stamp > q ? stamp : q;
    return false;
}

}  // namespace log_attempts
