// SPDX-License-Identifier: MIT
//
// What a server tells a client about its limits: RateLimit-Policy, RateLimit and Retry-After, from a limiter and a
// decision. Nothing is allocated.
//
// Source: draft-ietf-httpapi-ratelimit-headers-10 (structured fields, RFC 9651); RFC 9110, 10.2.3.
#pragma once

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <utility>

#include "detail/wide.hpp"
#include "error.hpp"
#include "limiter.hpp"
#include "rate.hpp"

namespace weir::inline v0 {

/// HTTP fields as pairs of a name and a value, both zero-terminated and alive as long as this object. `Items` is the
/// greatest number of policies.
template <std::size_t Items>
class http_fields {
public:
    struct field {
        char const* name;
        char const* value;
    };
    class iterator {
    public:
        using value_type = field;
        using difference_type = std::ptrdiff_t;
        constexpr iterator() = default;
        constexpr field operator*() const noexcept { return (*all_)[at_]; }
        constexpr iterator& operator++() noexcept {
            ++at_;
            return *this;
        }
        constexpr iterator operator++(int) noexcept {
            iterator const before = *this;
            ++at_;
            return before;
        }
        friend constexpr bool operator==(iterator const&, iterator const&) = default;

    private:
        friend http_fields;
        constexpr iterator(http_fields const* all, std::size_t at) noexcept : all_{all}, at_{at} {}
        http_fields const* all_ = nullptr;
        std::size_t at_ = 0;
    };

    constexpr iterator begin() const noexcept { return {this, 0}; }
    constexpr iterator end() const noexcept { return {this, size()}; }
    constexpr std::size_t size() const noexcept {
        std::size_t n = 0;
        for (text const& t : values_) n += t.size != 0 ? 1U : 0U;
        return n;
    }
    constexpr bool empty() const noexcept { return size() == 0; }
    /// invalid_argument when a policy's name was refused: then RateLimit-Policy and RateLimit are missing.
    constexpr weir::error error() const noexcept { return error_; }

    /// The longest name of a policy.
    static constexpr std::size_t longest_name = 64;
    /// Empty when `name` can name a policy: 1 to 64 printable ASCII characters.
    static constexpr weir::error validate(std::string_view name) noexcept {
        if (name.empty() || name.size() > longest_name) return {"a policy's name must have 1 to 64 characters"};
        for (char const c : name) {
            if (c < ' ' || c > '~') return {"a policy's name must be printable ASCII"};
        }
        return {};
    }

    /// One policy: `quota` units in each `window` of seconds, of which `remaining` are left and all in `reset` seconds.
    /// A window of 0 is not written. `unit` is left out for requests. The name is `name`, or `name`-`part`.
    constexpr void add(std::string_view name, std::string_view part, std::string_view unit, std::uint64_t quota,
                       std::uint64_t window, std::uint64_t remaining, std::uint64_t reset) noexcept {
        if (!error_) error_ = validate(name);
        if (error_ || part.size() > longest_part || unit.size() > longest_part || items_ == Items) {
            if (error_) values_[policy].size = values_[limit].size = 0;
            return;
        }
        ++items_;
        for (text* t : {&values_[policy], &values_[limit]}) {
            if (t->size != 0) t->append(", ");
            t->append("\"");
            t->escaped(name);
            if (!part.empty()) {
                t->append("-");
                t->escaped(part);
            }
            t->append("\"");
        }
        values_[policy].parameter(";q=", quota);
        if (window != 0) values_[policy].parameter(";w=", window);
        if (!unit.empty()) {
            values_[policy].append(";qu=\"");
            values_[policy].escaped(unit);
            values_[policy].append("\"");
        }
        values_[limit].parameter(";r=", remaining);
        values_[limit].parameter(";t=", reset);
    }
    constexpr void retry_after(std::uint64_t seconds) noexcept { values_[retry].parameter("", seconds); }

private:
    static constexpr std::size_t policy = 0;
    static constexpr std::size_t limit = 1;
    static constexpr std::size_t retry = 2;
    static constexpr char const* names[] = {"RateLimit-Policy", "RateLimit", "Retry-After"};
    static constexpr std::size_t longest_part = 20;
    /// ", ", quotes, names with each character escaped, and three parameters.
    static constexpr std::size_t longest_item =
        2 + 2 + 2 * (longest_name + 1 + longest_part) + 2 * 18 + 6 + 2 * longest_part;

    struct text {
        std::array<char, Items * longest_item + 24> chars{};  // a zero always follows
        std::size_t size = 0;

        constexpr void put(char c) noexcept {
            if (size + 1 < chars.size()) chars[size++] = c;
        }
        constexpr void append(std::string_view s) noexcept {
            for (char const c : s) put(c);
        }
        /// The inside of a structured string.
        constexpr void escaped(std::string_view s) noexcept {
            for (char const c : s) {
                if (c == '"' || c == '\\') put('\\');
                put(c);
            }
        }
        /// An integer of a structured field has at most 15 digits.
        constexpr void parameter(std::string_view before, std::uint64_t n) noexcept {
            constexpr std::uint64_t greatest = 999'999'999'999'999;
            append(before);
            if (n > greatest) n = greatest;
            std::uint64_t unit = 1;
            while (n / unit >= 10) unit *= 10;
            for (; unit != 0; unit /= 10) put(static_cast<char>('0' + n / unit % 10));
        }
    };

    constexpr field operator[](std::size_t n) const noexcept {
        for (std::size_t i = 0; i < values_.size(); ++i) {
            if (values_[i].size != 0 && n-- == 0) return {names[i], values_[i].chars.data()};
        }
        return {};
    }

    std::array<text, 3> values_{};
    std::size_t items_ = 0;
    weir::error error_{};
};

}  // namespace weir::inline v0

namespace weir::inline v0::detail {

/// How many policies the fields of a limiter can have: one for each part of an all_of, four for a quota.
template <class L>
constexpr std::size_t policies_of() noexcept {
    if constexpr (requires { L::size; }) {
        return L::size;
    } else if constexpr (requires(L const& l) { l.limits().rpm; }) {
        return 4;
    } else {
        return 1;
    }
}

struct http_policy {
    std::uint64_t quota;
    std::uint64_t window;  // in seconds
};

/// A bucket's: how much it holds, and how long the rate takes to refill that.
constexpr http_policy policy_of_bucket(rate const& r, permits quota) noexcept {
    auto const per = r.per<std::chrono::seconds>();
    return {quota, per.permits == 0 ? 0 : detail::mul_div_ceil(quota, per.ticks, per.permits)};
}

/// A window as it is; a bucket by its burst and how long it takes to refill.
template <class L>
constexpr http_policy policy_of(L const& limiter) noexcept {
    auto const l = limiter.limits();
    if constexpr (requires { l.window; }) {
        return {l.limit, static_cast<std::uint64_t>(detail::seconds_rounded_up(l.window))};
    } else if constexpr (requires { l.limit, limiter.window(); }) {
        return {l.limit, static_cast<std::uint64_t>(detail::seconds_rounded_up(limiter.window()))};
    } else if constexpr (requires { l.limit; }) {
        return {l.limit, 0};  // a window that is not known
    } else {
        permits quota = 0;
        if constexpr (requires { l.burst; }) {
            quota = l.burst;
        } else if constexpr (requires { l.capacity; }) {
            quota = l.capacity;
        } else {
            quota = l.waiting + 1;  // one that departs, and those that wait
        }
        return detail::policy_of_bucket(l.rate, quota);
    }
}

/// The time of the attempt.
template <class L>
typename L::time_point time_of_attempt(L const& l, typename L::decision const& d) noexcept {
    if constexpr (requires { d.at(); }) {
        return d.at();
    } else {
        if (d.granted()) return d.retry_at();
        if (d.never()) return l.clock().now();
        return detail::saturating_add(d.retry_at(), -d.retry_after());
    }
}

/// How long after `at` all is available, in seconds.
template <class D, class TimePoint>
std::uint64_t reset_of(D const& d, TimePoint at) noexcept {
    return static_cast<std::uint64_t>(detail::seconds_rounded_up(detail::retry_after(at, d.full_at())));
}

template <class Fields, class D, class TimePoint>
void add_policy(Fields& out, http_policy p, D const& d, TimePoint at, std::string_view name,
                std::string_view part) noexcept {
    out.add(name, part, {}, p.quota, p.window, d.remaining(), detail::reset_of(d, at));
}

template <class Fields, class D>
void add_retry_after(Fields& out, D const& d) noexcept {
    if (d.granted() || d.never()) return;
    out.retry_after(static_cast<std::uint64_t>(detail::seconds_rounded_up(d.retry_after())));
}

template <class Fields, class L>
void add_policies(Fields& out, L const& l, typename L::decision const& d, std::string_view name,
                  std::string_view part) noexcept {
    auto const at = detail::time_of_attempt(l, d);
    if constexpr (requires { l.limits().rpm; }) {
        auto const q = l.limits();
        auto const left = [&] {
            if constexpr (requires { d.remaining().rpm; }) {
                return d.remaining();
            } else {
                return l.available(at);
            }
        }();
        std::uint64_t reset = 60;
        if constexpr (requires { d.full_at(); }) reset = detail::reset_of(d, at);
        auto const one = [&](std::string_view which, std::string_view unit, auto const& limit, auto const& remaining,
                             std::uint64_t window) {
            if (!limit) return;
            // full_at() is the latest of all four, and each is full one window later at the latest.
            std::uint64_t const full = remaining == limit ? 0 : reset < window ? reset : window;
            out.add(name, which, unit, *limit, window, remaining.value_or(0), full);
        };
        one("rpm", {}, q.rpm, left.rpm, 60);
        one("rps", {}, q.rps, left.rps, 1);
        one("tpm", "tokens", q.tpm, left.tpm, 60);
        one("tps", "tokens", q.tps, left.tps, 1);
    } else {
        detail::add_policy(out, detail::policy_of(l), d, at, name, part);
    }
}

template <std::size_t N, class D, class F>
void for_each_part(D const& d, F f) {
    [&]<std::size_t... Part>(std::index_sequence<Part...>) {
        (f.template operator()<Part>(d.template part<Part>()), ...);
    }(std::make_index_sequence<N>{});
}

}  // namespace weir::inline v0::detail

namespace weir::inline v0 {

/// The fields of one answer, to be set whatever the decision is:
///
///     for (auto [name, value] : weir::rate_limit_fields(bucket, d)) res.set_header(name, value);
///
///     RateLimit-Policy: "default";q=100;w=60
///     RateLimit: "default";r=50;t=30
///     Retry-After: 2
///
/// - q, the quota in permits, and w, the window in seconds, rounded up. A log and a counter have both. A bucket has a
///   burst and a rate: q is the burst (the capacity of a leaky bucket; what may wait and one that departs of a queue),
///   and w is how long the rate takes to refill it. So a client that keeps to q in w keeps to the rate.
/// - r, remaining(), and t, the seconds until full_at(), rounded up: as the decision says, not as the limiter is by
///   now.
/// - Retry-After, of a denial only; not of one with never(), since no waiting helps.
///
/// An all_of has one policy for each part that the attempt cost anything, "default-1", "default-2" and so on; a
/// quota_limiter one for each limit, "default-rpm", "default-rps", "default-tpm" and "default-tps", the last two in
/// qu="tokens". `name` takes the place of "default": 1 to 64 printable ASCII characters, escaped where need be. With
/// another name the first two fields are left out, and error() says why. Numbers end at 15 digits.
///
/// Complexity: what limits(), remaining() and full_at() cost. llm::read_limits reads these fields.
template <class L>
auto rate_limit_fields(L const& limiter, typename L::decision const& d, std::string_view name = "default") noexcept {
    http_fields<detail::policies_of<L>()> out;
    if constexpr (requires { L::size; }) {
        detail::for_each_part<L::size>(d, [&]<std::size_t Part>(auto const& decision) {
            if (!decision) return;
            char number[20] = {};
            std::size_t digits = 0;
            std::size_t unit = 1;
            while ((Part + 1) / unit >= 10) unit *= 10;
            for (; unit != 0; unit /= 10) number[digits++] = static_cast<char>('0' + (Part + 1) / unit % 10);
            detail::add_policies(out, *std::get<Part>(limiter.leaves()), *decision, name, {number, digits});
        });
    } else {
        detail::add_policies(out, limiter, d, name, {});
    }
    detail::add_retry_after(out, d);
    return out;
}

/// The same of a decision that names its limits itself, as one of keyed_buckets does: a table has many.
template <class D>
    requires requires(D const& d) {
        d.limits().rate;
        d.limits().burst;
        d.at();
    }
auto rate_limit_fields(D const& d, std::string_view name = "default") noexcept {
    http_fields<1> out;
    auto const l = d.limits();
    detail::add_policy(out, detail::policy_of_bucket(l.rate, l.burst), d, d.at(), name, {});
    detail::add_retry_after(out, d);
    return out;
}

}  // namespace weir::inline v0
