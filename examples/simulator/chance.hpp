// SPDX-License-Identifier: MIT
//
// Chance that repeats: the same seed, the same numbers, on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace qwen::simulated {

inline std::uint64_t mix(std::uint64_t x) {  // splitmix64
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

inline std::uint64_t fnv(std::uint64_t h, std::string_view text) {
    for (char const c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return h;
}

class chance {
public:
    explicit chance(std::uint64_t seed) : state_{mix(seed)} {}
    std::uint64_t next() { return mix(state_++); }
    double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }  ///< [0, 1)
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }

private:
    std::uint64_t state_;
};

inline std::string uuid(chance& rng) {
    auto const a = rng.next(), b = rng.next();
    char out[40];
    std::snprintf(out, sizeof out, "%08x-%04x-4%03x-%04x-%012llx", static_cast<unsigned>(a >> 32),
                  static_cast<unsigned>(a >> 16 & 0xffff), static_cast<unsigned>(a & 0xfff),
                  static_cast<unsigned>(0x8000 | (b >> 48 & 0x3fff)),
                  static_cast<unsigned long long>(b & 0xffffffffffff));
    return out;
}

}  // namespace qwen::simulated
