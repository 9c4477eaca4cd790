// SPDX-License-Identifier: MIT
// A truth value as a key is a condition in the wrong place.
// expect: constraints not satisfied|no matching
#include <weir/keyed_buckets.hpp>

bool ask(weir::keyed_buckets<>& table, int user) {
#ifdef MISUSE
    return table.try_acquire(user == 1).granted();
#else
    return table.try_acquire(user).granted();
#endif
}
