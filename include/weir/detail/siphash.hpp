// SPDX-License-Identifier: MIT
//
// SipHash-1-3 under a random key: a hash that nobody outside of the process can aim with.
// Source: J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF", 2012. One round a word, three at the
// end, as the hash tables of CPython, Rust and Perl have it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#if __has_include(<sys/random.h>) && (defined(__linux__) || defined(__APPLE__) || defined(__FreeBSD__))
#include <sys/random.h>
#if defined(__linux__) || defined(__FreeBSD__)
#include <unistd.h>
#endif
#else
#include <random>
#endif

namespace weir::inline v0::detail {

struct sip_key {
    std::uint64_t k0;
    std::uint64_t k1;
};

template <int Rounds, int FinalRounds>
class sip_state {
public:
    constexpr explicit sip_state(sip_key k) noexcept
        : v0_{k.k0 ^ 0x736f6d6570736575U},
          v1_{k.k1 ^ 0x646f72616e646f6dU},
          v2_{k.k0 ^ 0x6c7967656e657261U},
          v3_{k.k1 ^ 0x7465646279746573U} {}

    constexpr void add(std::uint64_t word) noexcept {
        v3_ ^= word;
        rounds<Rounds>();
        v0_ ^= word;
    }
    constexpr std::uint64_t end() noexcept {
        v2_ ^= 0xffU;
        rounds<FinalRounds>();
        return v0_ ^ v1_ ^ v2_ ^ v3_;
    }

private:
    template <int N>
    constexpr void rounds() noexcept {
        for (int i = 0; i < N; ++i) {
            v0_ += v1_;
            v1_ = std::rotl(v1_, 13) ^ v0_;
            v0_ = std::rotl(v0_, 32);
            v2_ += v3_;
            v3_ = std::rotl(v3_, 16) ^ v2_;
            v0_ += v3_;
            v3_ = std::rotl(v3_, 21) ^ v0_;
            v2_ += v1_;
            v1_ = std::rotl(v1_, 17) ^ v2_;
            v2_ = std::rotl(v2_, 32);
        }
    }

    std::uint64_t v0_;
    std::uint64_t v1_;
    std::uint64_t v2_;
    std::uint64_t v3_;
};

/// SipHash of bytes, least significant byte first.
template <int Rounds = 1, int FinalRounds = 3>
constexpr std::uint64_t siphash(sip_key key, std::span<std::byte const> bytes) noexcept {
    sip_state<Rounds, FinalRounds> s{key};
    std::size_t const whole = bytes.size() / 8 * 8;
    auto const word = [&bytes](std::size_t from, std::size_t n) {
        std::uint64_t w = 0;
        for (std::size_t i = 0; i < n; ++i) w |= std::to_integer<std::uint64_t>(bytes[from + i]) << (8 * i);
        return w;
    };
    for (std::size_t i = 0; i < whole; i += 8) s.add(word(i, 8));
    s.add(word(whole, bytes.size() - whole) | std::uint64_t{bytes.size()} << 56U);
    return s.end();
}

/// The same of one word's eight bytes.
template <int Rounds = 1, int FinalRounds = 3>
constexpr std::uint64_t siphash(sip_key key, std::uint64_t word) noexcept {
    sip_state<Rounds, FinalRounds> s{key};
    s.add(word);
    s.add(std::uint64_t{8} << 56U);
    return s.end();
}

/// A key from the system's random source.
inline sip_key random_sip_key() {
    sip_key k{};
#if __has_include(<sys/random.h>) && (defined(__linux__) || defined(__APPLE__) || defined(__FreeBSD__))
    if (::getentropy(&k, sizeof k) == 0) return k;
#else
    std::random_device source;
    for (std::uint64_t* word : {&k.k0, &k.k1}) *word = std::uint64_t{source()} << 32U | source();
    return k;
#endif
    // A kernel without the call: an address is all that there is.
    std::uint64_t const here = reinterpret_cast<std::uintptr_t>(&k);
    return {here * 0x9e3779b97f4a7c15U, ~here};
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// The default hash of keyed_buckets: each object has a secret of its own. A hash is any type with these two calls.
class sip_hash {
public:
    sip_hash() : key_{detail::random_sip_key()} {}
    /// With a given secret, for tests and for tables that share one.
    constexpr sip_hash(std::uint64_t k0, std::uint64_t k1) noexcept : key_{k0, k1} {}

    constexpr std::uint64_t operator()(std::span<std::byte const> bytes) const noexcept {
        return detail::siphash(key_, bytes);
    }
    constexpr std::uint64_t operator()(std::uint64_t word) const noexcept { return detail::siphash(key_, word); }

private:
    detail::sip_key key_;
};

}  // namespace weir::inline v0
