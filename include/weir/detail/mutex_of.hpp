// SPDX-License-Identifier: MIT
//
// The mutex of a part that excludes others on purpose: its policy may name it, so that a checker can replace it.
#pragma once

#include "cpp20.hpp"

#include <mutex>

namespace weir::inline v0::detail {

/// The mutex that a policy names, else the standard's.
template <class Atomics>
struct mutex_of {
    using type = std::mutex;
};
template <class Atomics>
    requires requires { typename Atomics::mutex; }
struct mutex_of<Atomics> {
    using type = typename Atomics::mutex;
};

}  // namespace weir::inline v0::detail
