// SPDX-License-Identifier: MIT
//
// What simulations draw by chance.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>

/// Draws that are the same with every standard library.
class draws {
public:
    explicit draws(std::uint64_t seed) : engine_{seed} {}
    std::uint64_t among(std::uint64_t least, std::uint64_t most) { return least + engine_() % (most - least + 1); }
    std::chrono::nanoseconds among(std::chrono::nanoseconds least, std::chrono::nanoseconds most) {
        return std::chrono::nanoseconds{static_cast<std::int64_t>(
            among(static_cast<std::uint64_t>(least.count()), static_cast<std::uint64_t>(most.count())))};
    }
    /// Anywhere in [0, most], and often at either end, where a margin is tried hardest.
    std::chrono::nanoseconds jitter(std::chrono::nanoseconds most) {
        switch (among(0, 3)) {
            case 0: return std::chrono::nanoseconds{0};
            case 1: return most;
            default: return among(std::chrono::nanoseconds{0}, most);
        }
    }
    bool one_in(std::uint64_t n) { return among(1, n) == 1; }

private:
    std::mt19937_64 engine_;
};
