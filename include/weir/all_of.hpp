// SPDX-License-Identifier: MIT
//
// all_of: several limiters as one. An attempt is granted by all of them or charged to none.
//
// Promise: each part keeps its own promise, and a denial charges nothing.
// - All parts are first checked with one time point. They are charged only if all would grant: windows first (their
//   refunds are exact), buckets last, each kind by address, so that crossed composites do not starve each other.
// - A part that then refuses has lost a race. The parts charged before it are refunded: a window exactly, a bucket
//   what is certain. So a lost race costs a bucket at most what it refilled during the attempt. The part charged last
//   is never refunded.
// - Nested all_ofs are flattened. A limiter that appears twice is charged once, with the sum of its costs.
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
#include "detail/all_of_parts.hpp"
#include "detail/blocking.hpp"
#include "limiter.hpp"

#pragma push_macro("check")  // a macro in older Apple headers
#undef check

namespace weir::inline v0 {

/// All or none of its parts. A limiter that is passed as an lvalue is referred to and must outlive the all_of; own_part
/// builds one inside; a std::unique_ptr or std::shared_ptr is moved in.
///
///     auto both = weir::all_of{per_user, everyone};
///     if (auto d = both.try_acquire()) serve();
///     else log("denied by part {} for {}", d.denied_by(), d.retry_after());
///
/// Parts are numbered in the order of the arguments, nested ones in place. The clock that is read is the first part's.
/// Complexity: the sum of the parts'. Progress: lock-free if they are. Memory order: the parts'.
template <class... Parts>
class all_of : public detail::blocking<all_of<Parts...>> {
    static_assert(sizeof...(Parts) > 0, "an all_of needs at least one limiter");
    using leaf_pointers = decltype(std::tuple_cat(std::declval<detail::leaves_of<Parts>>()...));

    template <std::size_t Index>
    using leaf = std::remove_pointer_t<std::tuple_element_t<Index, leaf_pointers>>;
    static_assert(detail::same_clocks<leaf_pointers>,
                  "the parts of an all_of must have one clock: give each the same type of clock");

public:
    /// The number of limiters, nested included.
    static constexpr std::size_t size = std::tuple_size_v<leaf_pointers>;

    using clock_type = typename leaf<0>::clock_type;
    using time_point = typename leaf<0>::time_point;
    using duration = typename leaf<0>::duration;
    using amount = permit_count;
    /// What an attempt costs each part.
    using costs = std::array<permit_count, size>;
    /// The parts' limits, in order.
    using limits_type = detail::limits_of<leaf_pointers>;
    class decision;

    template <class... Args>
        requires(sizeof...(Args) == sizeof...(Parts)) &&
                (!(sizeof...(Args) == 1 && (std::is_same_v<std::remove_cvref_t<Args>, all_of> && ...)))
    explicit all_of(Args&&... args) : parts_{std::forward<Args>(args)...} {
        arrange(std::make_index_sequence<size>{});
    }
    all_of(all_of const&) = delete;  // does not move: use try_emplace, deque or unique_ptr
    all_of& operator=(all_of const&) = delete;

    /// Takes n permits of every part, or what `c` says of each, if all have them. A cost of 0 passes a part over.
    decision try_acquire(permit_count n = 1) noexcept { return try_acquire(n, clock().now()); }
    decision try_acquire(time_point t) noexcept { return try_acquire(1, t); }
    decision try_acquire(permit_count n, time_point t) noexcept { return try_acquire(every(n), t); }
    decision try_acquire(costs const& c) noexcept { return try_acquire(c, clock().now()); }
    decision try_acquire(costs const& c, time_point t) noexcept {
        decision d{this, merged(c), t};
        if (!would_grant(d) || !charge(d)) {
            look(d);
            d.granted_ = false;  // even where all would grant by now: then retry_at is the attempt's time
        }
        return d;
    }

    /// What try_acquire would answer. Charges nothing.
    decision check(permit_count n = 1) const noexcept { return check(n, clock().now()); }
    decision check(time_point t) const noexcept { return check(1, t); }
    decision check(permit_count n, time_point t) const noexcept { return check(every(n), t); }
    decision check(costs const& c) const noexcept { return check(c, clock().now()); }
    decision check(costs const& c, time_point t) const noexcept {
        decision d{this, merged(c), t};
        look(d);
        return d;
    }

    /// Refunds a grant, or n permits of each part, once, by each part's rule. Returns the least that a part gave back;
    /// 0 after a second refund. To refund one part alone, give d.part<I>() to it.
    permits refund(decision& d) noexcept {
        permits const n = of_least(d, [](auto& l, auto& r) { return l.refund(r); });
        d.charged_ = d.charged_ && d.all_ != this;
        return n;
    }
    permits refund(decision& d, permit_count n) noexcept {
        if (n.invalid()) return 0;
        return of_least(d, [n](auto& l, auto& r) { return l.refund(r, n); });
    }

    /// Corrects a grant to `actual` permits of every part (or c[i] of part i), once. False where a part was settled or
    /// refunded before. A part that the grant passed over is not charged.
    [[nodiscard("false: it was settled or refunded before")]] bool settle(decision& d, permit_count actual) noexcept {
        return settle(d, every(actual));
    }
    [[nodiscard("false: it was settled or refunded before")]] bool settle(decision& d, costs const& c) noexcept {
        if (d.all_ != this || !d.charged_) return false;
        bool all = true;
        auto const actual = merged(c);
        for_each([&]<std::size_t Index>(auto& l) {
            if (auto& r = std::get<Index>(d.decisions_)) all = l.settle(*r, actual[Index]) && all;
        });
        return all;
    }

    /// Changes the limits of every part. Where one refuses, those before it are changed back, and its error is
    /// returned; what a part lost by being smaller meanwhile stays lost.
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& to) noexcept {
        return change(to, clock().now());
    }
    [[nodiscard("an error says that nothing was changed")]] error change(limits_type const& to, time_point t) noexcept {
        limits_type const before = limits();
        error e{};
        std::size_t changed = 0;
        for_each([&]<std::size_t Index>(auto& l) {
            if (e) return;
            e = l.change(std::get<Index>(to), t);
            if (!e) ++changed;
        });
        if (!e) return e;
        for_each([&]<std::size_t Index>(auto& l) {
            if (Index < changed) static_cast<void>(l.change(std::get<Index>(before), t));
        });
        return e;
    }
    limits_type limits() const noexcept {
        return std::apply([](auto*... l) { return limits_type{l->limits()...}; }, leaves_);
    }

    /// What an attempt of one cost for all could take: the least (of a part that appears k times, a k-th).
    permits available() const noexcept { return available(clock().now()); }
    permits available(time_point t) const noexcept {
        auto const ones = merged(every(1));
        permits least = all_permits;
        for_each([&]<std::size_t Index>(auto& l) {
            if (ones[Index] != 0) least = (std::min<permits>)(least, l.available(t) / ones[Index]);
        });
        return least;
    }

    clock_type const& clock() const noexcept { return std::get<0>(leaves_)->clock(); }

    /// The limiters that it consists of, as a tuple of pointers.
    leaf_pointers leaves() const noexcept { return leaves_; }

private:
    using amounts = std::array<permits, size>;

    static constexpr costs every(permit_count n) noexcept {
        return [n]<std::size_t... Index>(std::index_sequence<Index...>) {
            return costs{((void)Index, n)...};
        }(std::make_index_sequence<size>{});
    }

    template <std::size_t... Index>
    void arrange(std::index_sequence<Index...>) noexcept {
        leaves_ = std::apply([](auto&... p) { return std::tuple_cat(detail::flatten(p.get())...); }, parts_);
        void const* const address[] = {static_cast<void const*>(std::get<Index>(leaves_))...};
        bool const bucket[] = {!detail::refunds_in_full<leaf<Index>>...};
        order_.arrange(address, bucket);
    }

    /// The costs, each limiter's in its first place. A negative cost, and a sum that does not fit, is never granted.
    amounts merged(costs const& c) const noexcept {
        amounts m{};
        for (std::size_t i = 0; i < size; ++i) m[i] = c[i];
        if (!order_.is_distinct) [[unlikely]]
            order_.merge(m);
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

    /// Reads only the answers' bits.
    [[gnu::__always_inline__]] bool would_grant(decision const& d) const noexcept {
        return [&]<std::size_t... Index>(std::index_sequence<Index...>) {
            return ((d.costs_[Index] == 0 || std::get<Index>(leaves_)->check(d.costs_[Index], d.at_).granted()) && ...);
        }(std::make_index_sequence<size>{});
    }

    /// Asks every part: the decision needs the latest answer.
    void look(decision& d) const noexcept {
        d.granted_ = true;
        for_each([&]<std::size_t Index>(auto& l) {
            auto& r = std::get<Index>(d.decisions_);
            if (d.costs_[Index] == 0) return r.reset();
            r.emplace(l.check(d.costs_[Index], d.at_));
            d.granted_ = r->granted() && d.granted_;
        });
        if (d.granted_) return;
        // What such a part has left: without the cost.
        for_each([&]<std::size_t Index>(auto& l) {
            auto& r = std::get<Index>(d.decisions_);
            if (r && r->granted()) r.emplace(l.check(permits{0}, d.at_));
        });
    }

    /// Charges the parts in order. Where one refuses, gives those before it back.
    bool charge(decision& d) noexcept {
        std::size_t done = 0;
        bool granted = true;
        auto const take = [&]<std::size_t Index>(auto& l) {
            if (d.costs_[Index] != 0) granted = d.template take<Index>(l);
            if (granted) ++done;
        };
        if (order_.is_identity) [[likely]] {
            for_each([&]<std::size_t Index>(auto& l) {
                if (granted) take.template operator()<Index>(l);
            });
        } else {
            for (std::size_t k = 0; granted && k < size; ++k) visit(order_.at[k], take);
        }
        if (!granted) [[unlikely]] {
            while (done-- > 0) {
                visit(order_.at[done], [&]<std::size_t Index>(auto& l) {
                    if (auto& r = std::get<Index>(d.decisions_)) static_cast<void>(l.refund(*r));
                });
            }
        }
        d.granted_ = granted;
        d.charged_ = granted;
        return granted;
    }

    /// The least of what f returns for the parts that were charged.
    template <class F>
    permits of_least(decision& d, F f) noexcept {
        if (d.all_ != this || !d.charged_) return 0;
        permits least = permit_count::invalid_value;
        for_each([&]<std::size_t Index>(auto& l) {
            if (auto& r = std::get<Index>(d.decisions_)) least = (std::min<permits>)(least, f(l, *r));
        });
        return least == permit_count::invalid_value ? 0 : least;
    }

    std::tuple<detail::part_holder<Parts>...> parts_;
    leaf_pointers leaves_{};
    detail::charge_order<size> order_{};
};

/// What an attempt returned: the decision of every part that it cost anything; nothing of the others. It refers to its
/// all_of, which must outlive it if it is refunded or settled.
template <class... Parts>
class [[nodiscard("a denial must be obeyed")]] all_of<Parts...>::decision {
public:
    decision(decision const&) = delete;
    decision& operator=(decision const&) = delete;
    decision(decision&&) = default;
    decision& operator=(decision&&) = default;
    ~decision() = default;

    bool granted() const noexcept { return granted_; }
    explicit operator bool() const noexcept { return granted_; }
    /// No waiting helps with some part.
    bool never() const noexcept { return !granted_ && retry_at() == (time_point::max)(); }
    /// Of the first part that can never grant it.
    weir::error error() const noexcept {
        weir::error e{};
        each([&](std::size_t, auto const& r) {
            if (!e) e = r.error();
        });
        return granted_ ? weir::error{} : e;
    }

    /// The latest of the parts': the earliest instant at which all would grant.
    time_point retry_at() const noexcept { return granted_ ? at_ : latest().when; }
    duration retry_after() const noexcept { return detail::retry_after(never(), at_, retry_at()); }
    std::int64_t retry_after_seconds() const noexcept { return detail::seconds_rounded_up(retry_after()); }
    /// The number of the part that is waited for longest; `size` when granted.
    std::size_t denied_by() const noexcept { return granted_ ? size : latest().part; }

    /// What an attempt of one permit of each could still take: the least of the parts'.
    permits remaining() const noexcept {
        permits least = all_permits;
        each([&](std::size_t, auto const& r) { least = (std::min<permits>)(least, r.remaining()); });
        return least;
    }
    /// What each part had left; absent where it was passed over.
    std::array<std::optional<permits>, size> remaining_of_each() const noexcept {
        std::array<std::optional<permits>, size> a{};
        each([&](std::size_t i, auto const& r) { a[i] = r.remaining(); });
        return a;
    }
    /// When all of every part is available again if no call takes.
    time_point full_at() const noexcept {
        time_point t = at_;
        each([&](std::size_t, auto const& r) { t = (std::max)(t, r.full_at()); });
        return t;
    }

    /// What part I answered, to be refunded or settled with it alone; empty where it cost nothing.
    template <std::size_t Index>
    auto& part() noexcept {
        return std::get<Index>(decisions_);
    }
    template <std::size_t Index>
    auto const& part() const noexcept {
        return std::get<Index>(decisions_);
    }

private:
    friend class all_of;

    struct bound {
        time_point when;
        std::size_t part;
    };

    template <std::size_t... Index>
    static auto decisions_type(std::index_sequence<Index...>)
        -> std::tuple<std::optional<typename leaf<Index>::decision>...>;

    decision(all_of const* all, amounts const& c, time_point t) noexcept : all_{all}, costs_{c}, at_{t} {}

    /// Charges part I; whether it granted.
    template <std::size_t Index, class L>
    [[gnu::__always_inline__]] bool take(L& l) {
        return std::get<Index>(decisions_).emplace(l.try_acquire(costs_[Index], at_)).granted();
    }

    template <class F>
    void each(F f) const {
        [&]<std::size_t... Index>(std::index_sequence<Index...>) {
            ((std::get<Index>(decisions_) ? f(Index, *std::get<Index>(decisions_)) : void()), ...);
        }(std::make_index_sequence<size>{});
    }

    bound latest() const noexcept {
        bound b{at_, size};
        each([&](std::size_t i, auto const& r) {
            if (!r.granted() && (b.part == size || r.retry_at() > b.when)) b = {r.retry_at(), i};
        });
        return b;
    }

    all_of const* all_;
    amounts costs_;
    time_point at_;
    decltype(decisions_type(std::make_index_sequence<size>{})) decisions_{};
    bool granted_ = false;
    bool charged_ = false;  // not a check's
};

template <class... Args>
all_of(Args&&...) -> all_of<typename detail::part_of<Args>::type...>;

}  // namespace weir::inline v0

#pragma pop_macro("check")
