// SPDX-License-Identifier: MIT
//
// all_of: several limiters as one. An attempt is granted by all of them or charged to none.
//
// Promise: each part keeps its own; a denial charges nothing. All parts are first looked at with one time point; only when all
// would grant are they charged, windows first (their refunds are exact) and buckets last, each kind in the order of their
// addresses, so that crossed composites meet in one order and do not starve each other. A part that then refuses has lost a
// race; the ones charged before are given back: a window exactly, a bucket what is certain, so that a lost race may cost a
// bucket at most what it refilled during the attempt. The part charged last is never given back.
// Parts may be nested all_ofs, which are flattened; a limiter that appears twice is charged once, with the sum of its costs.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "clock/clock.hpp"
#include "detail/blocking.hpp"
#include "limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// Makes a part that the all_of owns, in place, from what `make` returns: limiters cannot be moved.
///
///     weir::all_of both{weir::own([] { return weir::token_bucket{weir::rate{100, 1s}, 20}; }), everyone};
template <class F>
class own {
public:
    explicit own(F make) : make_{std::move(make)} {}
    operator std::invoke_result_t<F&>() { return make_(); }

private:
    F make_;
};

template <class... Parts>
class all_of;

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// How a constructor argument is kept: an lvalue is referred to; `own` is built in place; a pointer-like that owns (a
/// std::unique_ptr, std::shared_ptr) is moved in.
template <class P>
struct part_of {
    using type = P;
};
template <class F>
struct part_of<own<F>> {
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

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// All or none of its parts.
///
///     auto both = weir::all_of{per_user, everyone};
///     if (auto d = both.try_acquire()) serve();
///     else log("denied by part {} for {}", d.denied_by(), d.retry_after());
///
/// Parts are numbered as they stand, nested ones in place. They must be of one clock; the first one's is read. It is a limiter
/// itself. Complexity: the sum of the parts'. Lock-free if they are. Memory order: the parts'.
template <class... Parts>
class all_of : public detail::blocking<all_of<Parts...>> {
    static_assert(sizeof...(Parts) > 0, "an all_of of nothing grants everything");
    using leaf_pointers = decltype(std::tuple_cat(std::declval<detail::leaves_of<Parts>>()...));

    template <std::size_t Index>
    using leaf = std::remove_pointer_t<std::tuple_element_t<Index, leaf_pointers>>;

public:
    /// How many limiters there are, nested ones counted one by one.
    static constexpr std::size_t size = std::tuple_size_v<leaf_pointers>;

    using clock_type = typename leaf<0>::clock_type;
    using time_point = typename leaf<0>::time_point;
    using duration = typename leaf<0>::duration;
    /// What an attempt costs each of them.
    using costs = std::array<permits, size>;
    class decision;

    template <class... Args>
        requires(sizeof...(Args) == sizeof...(Parts)) &&
                (!(sizeof...(Args) == 1 && (std::is_same_v<std::remove_cvref_t<Args>, all_of> && ...)))
    explicit all_of(Args&&... args) : parts_{std::forward<Args>(args)...} {
        arrange(std::make_index_sequence<size>{});
    }
    all_of(all_of const&) = delete;
    all_of& operator=(all_of const&) = delete;

    /// Takes n of every part, or what `c` says of each, if all have it. A cost of 0 passes a part over.
    decision try_acquire(permits n = 1) noexcept { return try_acquire(n, clock().now()); }
    decision try_acquire(time_point t) noexcept { return try_acquire(1, t); }
    decision try_acquire(permits n, time_point t) noexcept { return try_acquire(every(n), t); }
    decision try_acquire(costs const& c) noexcept { return try_acquire(c, clock().now()); }
    decision try_acquire(costs const& c, time_point t) noexcept {
        decision d{this, merged(c), t};
        if (!look(d)) return d;
        d.granted_ = true;
        for (std::size_t k = 0; k < size && d.granted_; ++k) {
            visit(order_[k], [&]<std::size_t Index>(auto& l) {
                if (d.costs_[Index] == 0) return;
                auto r = l.try_acquire(d.costs_[Index], t);
                if (r.granted()) {
                    std::get<Index>(d.taken_).emplace(std::move(r));
                } else {
                    d.granted_ = false;
                }
            });
        }
        if (!d.granted_) give_back(d);
        return d;
    }

    /// What try_acquire would answer. Charges nothing.
    decision check(permits n = 1) noexcept { return check(n, clock().now()); }
    decision check(permits n, time_point t) noexcept { return check(every(n), t); }
    decision check(costs const& c, time_point t) noexcept {
        decision d{this, merged(c), t};
        d.granted_ = look(d);
        return d;
    }

    /// Gives back what a grant took of every part, as each part does, once. True when there was anything to give back.
    bool refund(decision& d) noexcept { return d.all_ == this && give_back(d); }

    /// What an attempt of the same cost for every part could take: the least of the parts' (a part that appears k times has a k-th).
    permits available() const noexcept { return available(clock().now()); }
    permits available(time_point t) const noexcept {
        costs const ones = merged(every(1));
        permits least = (std::numeric_limits<permits>::max)();
        for_each([&]<std::size_t Index>(auto& l) {
            if (ones[Index] != 0) least = (std::min<permits>)(least, l.available(t) / ones[Index]);
        });
        return least;
    }

    clock_type const& clock() const noexcept { return std::get<0>(leaves_)->clock(); }

    /// The limiters it consists of, as a tuple of pointers.
    leaf_pointers leaves() noexcept { return leaves_; }

private:
    static constexpr costs every(permits n) noexcept {
        costs c{};
        c.fill(n);
        return c;
    }

    template <std::size_t... Index>
    void arrange(std::index_sequence<Index...>) noexcept {
        leaves_ = std::apply([](auto&... p) { return std::tuple_cat(detail::flatten(p.get())...); }, parts_);
        void const* const address[] = {static_cast<void const*>(std::get<Index>(leaves_))...};
        bool const bucket[] = {!detail::refunds_in_full<leaf<Index>>...};
        for (std::size_t i = 0; i < size; ++i) {
            order_[i] = i;
            first_[i] = i;
            for (std::size_t j = i; j-- > 0;) {
                if (address[j] == address[i]) first_[i] = j;
            }
        }
        std::sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
            if (bucket[a] != bucket[b]) return bucket[b];
            return std::less<>{}(address[a], address[b]);
        });
    }

    /// Costs with those of a limiter that appears again added to its first place. A sum that does not fit can never be had.
    costs merged(costs const& c) const noexcept {
        costs m{};
        for (std::size_t i = 0; i < size; ++i) {
            permits const sum = m[first_[i]] + c[i];
            m[first_[i]] = sum < c[i] ? (std::numeric_limits<permits>::max)() : sum;
        }
        return m;
    }

    template <class F>
    void for_each(F f) const {
        [&]<std::size_t... Index>(std::index_sequence<Index...>) {
            (f.template operator()<Index>(*std::get<Index>(leaves_)), ...);
        }(std::make_index_sequence<size>{});
    }
    template <class F>
    void visit(std::size_t i, F f) const {
        for_each([&]<std::size_t Index>(auto& l) {
            if (Index == i) f.template operator()<Index>(l);
        });
    }

    static bool look(decision const& d) noexcept {
        bool all = true;
        d.all_->for_each([&]<std::size_t Index>(auto& l) {
            if (all && d.costs_[Index] != 0) all = l.check(d.costs_[Index], d.at_).granted();
        });
        return all;
    }

    static bool give_back(decision& d) noexcept {
        bool any = false;
        d.all_->for_each([&]<std::size_t Index>(auto& l) {
            if (auto& r = std::get<Index>(d.taken_)) {
                l.refund(*r);
                r.reset();
                any = true;
            }
        });
        return any;
    }

    std::tuple<detail::part_holder<Parts>...> parts_;
    leaf_pointers leaves_{};
    std::array<std::size_t, size> order_{};  // in which they are charged
    std::array<std::size_t, size> first_{};  // where the same limiter appears first
};

/// What an attempt returned. It refers to its all_of, which must outlive it. What is asked of a denial is found out then, by
/// looking at every part again with the time of the attempt.
template <class... Parts>
class all_of<Parts...>::decision {
public:
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    decision(decision&&) = default;
    decision& operator=(decision&&) = default;

    bool granted() const noexcept { return granted_; }
    explicit operator bool() const noexcept { return granted_; }
    bool never() const noexcept { return retry_at() == (time_point::max)(); }

    /// The latest of the parts': the earliest instant at which all would grant, if nobody takes.
    time_point retry_at() const noexcept { return granted_ ? at_ : latest().when; }
    duration retry_after() const noexcept {
        time_point const t = retry_at();
        return t == (time_point::max)() ? (duration::max)() : t - at_;
    }
    /// The number of the part that keeps it waiting longest; `size` when granted.
    std::size_t denied_by() const noexcept { return granted_ ? size : latest().part; }
    /// What each part has left, at the time of the attempt.
    std::array<permits, size> left() const noexcept {
        std::array<permits, size> a{};
        all_->for_each([&]<std::size_t Index>(auto& l) { a[Index] = l.available(at_); });
        return a;
    }

    /// What part I granted, to be refunded or settled with it alone; empty where it cost nothing.
    template <std::size_t Index>
    auto& part() noexcept {
        return std::get<Index>(taken_);
    }

private:
    friend class all_of;

    struct bound {
        time_point when;
        std::size_t part;
    };

    template <std::size_t... Index>
    static auto taken_type(std::index_sequence<Index...>)
        -> std::tuple<std::optional<typename leaf<Index>::decision>...>;

    decision(all_of const* all, costs const& c, time_point t) noexcept : all_{all}, costs_{c}, at_{t} {}

    bound latest() const noexcept {
        bound b{at_, size};
        all_->for_each([&]<std::size_t Index>(auto& l) {
            if (costs_[Index] == 0) return;
            auto const d = l.check(costs_[Index], at_);
            if (!d.granted() && (b.part == size || d.retry_at() > b.when)) b = {d.retry_at(), Index};
        });
        return b;
    }

    all_of const* all_;
    costs costs_;
    time_point at_;
    decltype(taken_type(std::make_index_sequence<size>{})) taken_{};
    bool granted_ = false;
};

template <class... Args>
all_of(Args&&...) -> all_of<typename detail::part_of<Args>::type...>;

}  // namespace weir::inline v0

#pragma pop_macro("check")
