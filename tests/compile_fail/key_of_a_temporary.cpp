// SPDX-License-Identifier: MIT
// The bytes of a key live in the key: a span of a temporary would dangle.
// expect: deleted function
#include <weir/address_key.hpp>
#include <weir/keyed_buckets.hpp>

bool serve(weir::keyed_buckets<>& buckets, std::span<unsigned char const> address) {
    if (!buckets.try_acquire(weir::address_key(address))) return false;
#ifdef MISUSE
    std::span<std::byte const> const key = weir::address_key(address);
#else
    auto const named = weir::address_key(address);
    std::span<std::byte const> const key = named;
#endif
    return buckets.try_acquire(key).granted();
}
