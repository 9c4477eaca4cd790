// SPDX-License-Identifier: MIT
//
// address_key: an IP address cut to its network, as a key for keyed_buckets. One customer has 2^64 IPv6 addresses, so a
// limit for each address is none.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "detail/cpp20.hpp"

namespace weir::inline v0 {

/// The bytes of a network; empty when there was no address.
class address_bytes {
public:
    constexpr operator std::span<std::byte const>() const& noexcept { return {bytes_.data(), size_}; }
    constexpr operator std::span<std::byte const>() const&& = delete;  // it would outlive the bytes: name them first
    constexpr std::size_t size() const noexcept { return size_; }
    friend constexpr bool operator==(address_bytes const&, address_bytes const&) = default;

private:
    friend constexpr address_bytes address_key(std::span<std::byte const>, unsigned, unsigned) noexcept;
    std::array<std::byte, 16> bytes_{};
    std::uint8_t size_ = 0;
};

/// The network of an address in network byte order: 4 bytes of IPv4, cut to its first `prefix4` bits, or 16 bytes of
/// IPv6, cut to its first `prefix6` bits. An IPv4 address inside IPv6 (::ffff:a.b.c.d) is IPv4. A prefix that is longer
/// than the address keeps all of it. Any other number of bytes is no address: an empty key, which such callers share.
constexpr address_bytes address_key(std::span<std::byte const> bytes, unsigned prefix4 = 32,
                                    unsigned prefix6 = 64) noexcept {
    address_bytes key;
    if (bytes.size() == 16) {
        bool mapped = true;
        for (std::size_t i = 0; i < 12; ++i) mapped = mapped && bytes[i] == (i < 10 ? std::byte{0} : std::byte{0xff});
        if (mapped) bytes = bytes.subspan(12);
    }
    if (bytes.size() != 4 && bytes.size() != 16) return key;
    unsigned left = bytes.size() == 4 ? prefix4 : prefix6;
    key.size_ = static_cast<std::uint8_t>(bytes.size());
    for (std::size_t i = 0; i < bytes.size() && left != 0; ++i) {
        unsigned const bits = left < 8 ? left : 8;
        key.bytes_[i] = bytes[i] & static_cast<std::byte>(0xff00U >> bits);
        left -= bits;
    }
    return key;
}
/// The same of the bytes that sockets have.
constexpr address_bytes address_key(std::span<unsigned char const> bytes, unsigned prefix4 = 32,
                                    unsigned prefix6 = 64) noexcept {
    std::array<std::byte, 16> copy{};
    std::size_t const n = bytes.size() <= 16 ? bytes.size() : 0;
    for (std::size_t i = 0; i < n; ++i) copy[i] = std::byte{bytes[i]};
    return address_key(std::span<std::byte const>{copy.data(), n}, prefix4, prefix6);
}

}  // namespace weir::inline v0
