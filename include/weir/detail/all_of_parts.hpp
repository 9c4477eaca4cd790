// SPDX-License-Identifier: MIT
//
// How an all_of keeps its parts: referred to, built in place, or owned through a pointer; and the limiters in them.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "../limiter.hpp"
#include "saturating.hpp"

namespace weir::inline v0 {

/// A part that the all_of owns, built in place from what `make` returns, since limiters do not move.
///
///     weir::all_of both{weir::own_part{[] { return weir::token_bucket{weir::rate{100, 1s}, 20}; }}, everyone};
template <class F>
class own_part {
public:
    explicit own_part(F make) : make_{std::move(make)} {}
    operator std::invoke_result_t<F&>() { return make_(); }

private:
    F make_;
};

template <class... Parts>
class all_of;

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// How a constructor argument is kept: an lvalue is referred to; own_part is built in place; a pointer that owns is
/// moved in.
template <class P>
struct part_of {
    using type = P;
};
template <class F>
struct part_of<own_part<F>> {
    using type = std::invoke_result_t<F&>;
};

template <class P>
class part_holder {
public:
    template <class T>
        requires(!std::same_as<std::remove_cvref_t<T>, part_holder>)
    explicit part_holder(T&& t) : value_(std::forward<T>(t)) {}
    part_holder(part_holder const&) = delete;
    part_holder& operator=(part_holder const&) = delete;
    ~part_holder() = default;

    auto& get() noexcept {
        if constexpr (requires { typename std::remove_reference_t<P>::decision; }) {
            return value_;
        } else {
            return *value_;
        }
    }

private:
    P value_;
};
template <class P>
class part_holder<P&> {
public:
    explicit part_holder(P& p) noexcept : value_{&p} {}
    P& get() noexcept { return *value_; }

private:
    P* value_;
};

template <class L>
inline constexpr bool is_all_of = false;
template <class... P>
inline constexpr bool is_all_of<all_of<P...>> = true;

/// Whether a refund gives back all that was taken, at any time.
template <class L>
inline constexpr bool refunds_in_full = requires { requires L::refunds_in_full; };

/// The limiters that a part consists of, as a tuple of pointers.
template <class L>
constexpr auto flatten(L& part) noexcept {
    if constexpr (is_all_of<L>) {
        return part.leaves();
    } else {
        return std::tuple<L*>{&part};
    }
}

template <class P>
using leaves_of = decltype(flatten(std::declval<part_holder<P>&>().get()));

/// The limits of a part; std::monostate of a part of the user's that has none to change.
template <class L>
struct limits_of_leaf {
    using type = std::monostate;
};
template <class L>
    requires requires { typename L::limits_type; }
struct limits_of_leaf<L> {
    using type = typename L::limits_type;
};

/// In which order the parts are charged, and which of them are the same limiter.
template <std::size_t Size>
struct charge_order {
    std::array<std::size_t, Size> at{};
    std::array<std::size_t, Size> first{};  ///< where the same limiter appears first
    bool is_identity = true;                ///< at[i] is i
    bool is_distinct = true;                ///< first[i] is i

    void arrange(void const* const (&address)[Size], bool const (&bucket)[Size]) noexcept {
        for (std::size_t i = 0; i < Size; ++i) {
            at[i] = i;
            first[i] = i;
            for (std::size_t j = i; j-- > 0;) {
                if (address[j] == address[i]) first[i] = j;
            }
            is_distinct = is_distinct && first[i] == i;
        }
        std::sort(at.begin(), at.end(), [&](std::size_t a, std::size_t b) {
            if (bucket[a] != bucket[b]) return bucket[b];
            return std::less<>{}(address[a], address[b]);
        });
        is_identity = std::is_sorted(at.begin(), at.end());
    }
    /// Adds the amounts of a limiter that appears again to its first place.
    void merge(std::array<permits, Size>& m) const noexcept {
        for (std::size_t i = 0; i < Size; ++i) {
            if (first[i] == i) continue;
            m[first[i]] = saturating_sum(m[first[i]], std::exchange(m[i], permits{0}));
        }
    }
};

template <class Pointers>
struct leaf_traits;
template <class First, class... Rest>
struct leaf_traits<std::tuple<First*, Rest*...>> {
    static constexpr bool same_clocks = (std::same_as<typename First::time_point, typename Rest::time_point> && ...);
    using limits = std::tuple<typename limits_of_leaf<First>::type, typename limits_of_leaf<Rest>::type...>;
};
template <class Pointers>
inline constexpr bool same_clocks = leaf_traits<Pointers>::same_clocks;
template <class Pointers>
using limits_of = typename leaf_traits<Pointers>::limits;

}  // namespace weir::inline v0::detail
