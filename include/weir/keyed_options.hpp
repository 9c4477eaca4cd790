// SPDX-License-Identifier: MIT
//
// What keyed_buckets is told: plans, options, and what can be a key.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "detail/saturating.hpp"
#include "limiter.hpp"
#include "rate.hpp"

namespace weir::inline v0 {

/// At most `burst` permits at once, and `rate` in the long run.
struct plan {
    weir::rate rate;
    permit_count burst;

    friend constexpr bool operator==(plan const&, plan const&) = default;
};

/// One of a table's 64 plans. plan_id{} is the constructor's.
struct plan_id {
    std::uint8_t index = 0;

    friend constexpr bool operator==(plan_id, plan_id) = default;
};

/// What happens to a new key when all 14 slots of its set hold debt. Size a table for twice the keys that hold debt
/// at a time, new keys a second · permits of each / rate: then a full set is rare.
enum class full_set : std::uint8_t {
    /// The key that is nearest to refilled is forgotten: it may take again what it owed. The new key owes as much
    /// instead. An attacker that makes up keys can cause this.
    forget,
    /// The new key is denied until a slot is refilled; decision.full() says so. For limits that protect something.
    refuse,
};

struct keyed_options {
    permit_count capacity = 0;  ///< rounded up to whole sets of 14
    full_set when_full = full_set::forget;
    any_duration<> longest = std::chrono::minutes{1};  ///< the longest that any plan's burst takes to refill, and waits
};

/// A key that the caller has hashed by keyed_buckets::hash.
enum class key_hash : std::uint64_t {};

/// Characters, bytes, an integer (by its 64-bit value), or a key_hash.
template <class K>
concept table_key =
    (std::integral<K> && !std::same_as<K, bool> && !std::same_as<K, char>) || std::same_as<K, key_hash> ||
    (std::convertible_to<K const&, std::string_view> && !std::is_null_pointer_v<K>) ||
    std::convertible_to<K const&, std::span<std::byte const>> ||
    std::convertible_to<K const&, std::span<unsigned char const>>;

}  // namespace weir::inline v0
