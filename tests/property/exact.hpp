// SPDX-License-Identifier: MIT
//
// The oracles' arithmetic: integers without a bound that matters, on every target alike.
#pragma once

#include <algorithm>
#include <array>
#include <compare>
#include <concepts>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

namespace exact {

/// A signed integer of up to 768 bits, by 32-bit limbs; more throws std::overflow_error. Nothing of weir is used.
class integer {
public:
    integer() = default;
    template <std::integral T>
    integer(T n) : negative_{n < T{0}} {
        // ~n + 1, so that the least of a type has a magnitude too.
        std::uint64_t m = static_cast<std::uint64_t>(n);
        if (negative_) m = ~m + 1;
        for (; m != 0; m >>= 32U) limb_[size_++] = static_cast<std::uint32_t>(m);
    }
    /// 2^n.
    static integer power(unsigned n) {
        integer r;
        r.resize(n / 32 + 1);
        r.limb_[n / 32] = std::uint32_t{1} << (n % 32);
        return r;
    }

    bool is_negative() const { return negative_; }
    bool is_zero() const { return size_ == 0; }

    friend integer operator-(integer a) {
        a.negative_ = !a.negative_ && !a.is_zero();
        return a;
    }
    friend integer operator+(integer const& a, integer const& b) {
        if (a.negative_ == b.negative_) return added(a, b, a.negative_);
        return compared(a, b) >= 0 ? subtracted(a, b, a.negative_) : subtracted(b, a, b.negative_);
    }
    friend integer operator-(integer const& a, integer const& b) { return a + -b; }
    friend integer operator*(integer const& a, integer const& b) {
        integer r;
        r.resize(a.size_ + b.size_);
        for (unsigned i = 0; i < a.size_; ++i) {
            std::uint64_t carry = 0;
            for (unsigned j = 0; j < b.size_; ++j) {
                carry += static_cast<std::uint64_t>(a.limb_[i]) * b.limb_[j] + r.limb_[i + j];
                r.limb_[i + j] = static_cast<std::uint32_t>(carry);
                carry >>= 32U;
            }
            r.limb_[i + b.size_] = static_cast<std::uint32_t>(carry);
        }
        return r.trimmed(a.negative_ != b.negative_);
    }
    integer& operator+=(integer const& b) { return *this = *this + b; }
    integer& operator-=(integer const& b) { return *this = *this - b; }

    friend bool operator==(integer const& a, integer const& b) {
        return a.negative_ == b.negative_ && compared(a, b) == 0;
    }
    friend std::strong_ordering operator<=>(integer const& a, integer const& b) {
        if (a.negative_ != b.negative_) return b.negative_ <=> a.negative_;
        return (a.negative_ ? -compared(a, b) : compared(a, b)) <=> 0;
    }

    /// a / b, rounded down and up. b > 0.
    friend integer floor_div(integer const& a, integer const& b) {
        integer rest;
        integer const q = divided(a, b, rest);
        return a.negative_ && !rest.is_zero() ? -q - integer{1} : a.negative_ ? -q : q;
    }
    friend integer ceil_div(integer const& a, integer const& b) { return -floor_div(-a, b); }
    friend integer mod(integer const& a, integer const& b) { return a - floor_div(a, b) * b; }
    friend integer gcd(integer a, integer b) {
        a.negative_ = b.negative_ = false;
        while (!b.is_zero()) {
            integer r = mod(a, b);
            a = b;
            b = r;
        }
        return a;
    }

    /// The number where it is one of T's; else the nearest that is.
    template <std::integral T>
    T clamped() const {
        if (*this < integer{std::numeric_limits<T>::min()}) return std::numeric_limits<T>::min();
        if (*this > integer{std::numeric_limits<T>::max()}) return std::numeric_limits<T>::max();
        std::uint64_t const m = magnitude();
        return static_cast<T>(negative_ ? ~m + 1 : m);
    }
    std::uint64_t u64() const { return clamped<std::uint64_t>(); }

    std::string text() const {
        if (is_zero()) return "0";
        std::string s;
        integer a = *this;
        a.negative_ = false;
        while (!a.is_zero()) {
            integer const next = floor_div(a, integer{10});
            s += static_cast<char>('0' + (a - next * integer{10}).u64());
            a = next;
        }
        if (negative_) s += '-';
        std::reverse(s.begin(), s.end());
        return s;
    }

private:
    static constexpr unsigned most = 24;

    std::uint64_t magnitude() const { return (static_cast<std::uint64_t>(limb_[1]) << 32U) | limb_[0]; }
    void resize(unsigned n) {
        if (n > most) throw std::overflow_error{"an integer of more than 768 bits"};
        size_ = n;
    }
    integer& trimmed(bool negative) {
        while (size_ > 0 && limb_[size_ - 1] == 0) --size_;
        negative_ = negative && size_ != 0;
        return *this;
    }
    /// Of the magnitudes: less than 0, 0, greater than 0.
    static int compared(integer const& a, integer const& b) {
        if (a.size_ != b.size_) return a.size_ < b.size_ ? -1 : 1;
        for (unsigned i = a.size_; i-- > 0;) {
            if (a.limb_[i] != b.limb_[i]) return a.limb_[i] < b.limb_[i] ? -1 : 1;
        }
        return 0;
    }
    static integer added(integer const& a, integer const& b, bool negative) {
        integer r;
        r.resize(std::min(std::max(a.size_, b.size_) + 1, most));
        std::uint64_t carry = 0;
        for (unsigned i = 0; i < r.size_; ++i) {
            carry += static_cast<std::uint64_t>(a.limb_[i]) + b.limb_[i];
            r.limb_[i] = static_cast<std::uint32_t>(carry);
            carry >>= 32U;
        }
        if (carry != 0) throw std::overflow_error{"an integer of more than 768 bits"};
        return r.trimmed(negative);
    }
    /// a >= b.
    static integer subtracted(integer const& a, integer const& b, bool negative) {
        integer r;
        r.resize(a.size_);
        std::uint64_t borrow = 0;
        for (unsigned i = 0; i < a.size_; ++i) {
            std::uint64_t const d = static_cast<std::uint64_t>(a.limb_[i]) - b.limb_[i] - borrow;
            r.limb_[i] = static_cast<std::uint32_t>(d);
            borrow = (d >> 32U) != 0 ? 1 : 0;
        }
        return r.trimmed(negative);
    }
    /// Of the magnitudes, as on paper, digits of 32 bits (Knuth's algorithm D).
    static integer divided(integer const& a, integer const& b, integer& rest) {
        if (b.is_zero()) throw std::domain_error{"a division by zero"};
        integer q;
        if (compared(a, b) < 0) {
            rest = a;
            rest.negative_ = false;
            return q;
        }
        if (b.size_ == 1) {
            q.resize(a.size_);
            std::uint64_t r = 0;
            for (unsigned i = a.size_; i-- > 0;) {
                r = (r << 32U) | a.limb_[i];
                q.limb_[i] = static_cast<std::uint32_t>(r / b.limb_[0]);
                r %= b.limb_[0];
            }
            rest = integer{r};
            return q.trimmed(false);
        }
        unsigned shift = 0;
        while ((b.limb_[b.size_ - 1] << shift >> 31U) == 0) ++shift;
        auto const d = shifted(b, shift);
        auto u = shifted(a, shift);
        unsigned const n = b.size_;
        q.resize(a.size_ - n + 1);
        for (unsigned j = a.size_ - n + 1; j-- > 0;) {
            std::uint64_t const top = (static_cast<std::uint64_t>(u[j + n]) << 32U) | u[j + n - 1];
            std::uint64_t guess = top / d[n - 1];
            std::uint64_t left = top % d[n - 1];
            while ((guess >> 32U) != 0 || guess * d[n - 2] > ((left << 32U) | u[j + n - 2])) {
                --guess;
                left += d[n - 1];
                if ((left >> 32U) != 0) break;
            }
            std::uint64_t borrow = 0;
            std::uint64_t carry = 0;
            for (unsigned i = 0; i <= n; ++i) {
                carry += i < n ? guess * d[i] : 0;
                std::uint64_t const s = static_cast<std::uint64_t>(u[i + j]) - (carry & 0xffff'ffffU) - borrow;
                u[i + j] = static_cast<std::uint32_t>(s);
                borrow = (s >> 32U) != 0 ? 1 : 0;
                carry >>= 32U;
            }
            if (borrow != 0) {
                --guess;
                carry = 0;
                for (unsigned i = 0; i <= n; ++i) {
                    carry += static_cast<std::uint64_t>(u[i + j]) + (i < n ? d[i] : 0);
                    u[i + j] = static_cast<std::uint32_t>(carry);
                    carry >>= 32U;
                }
            }
            q.limb_[j] = static_cast<std::uint32_t>(guess);
        }
        rest = integer{};
        rest.resize(n);
        for (unsigned i = 0; i < n; ++i) {
            std::uint64_t const two = (static_cast<std::uint64_t>(u[i + 1]) << 32U) | u[i];
            rest.limb_[i] = static_cast<std::uint32_t>(two >> shift);
        }
        rest.trimmed(false);
        return q.trimmed(false);
    }
    static std::array<std::uint32_t, most + 2> shifted(integer const& a, unsigned shift) {
        std::array<std::uint32_t, most + 2> r{};
        std::uint64_t carry = 0;
        for (unsigned i = 0; i <= a.size_; ++i) {
            carry |= static_cast<std::uint64_t>(i < most ? a.limb_[i] : 0) << shift;
            r[i] = static_cast<std::uint32_t>(carry);
            carry >>= 32U;
        }
        return r;
    }

    std::array<std::uint32_t, most> limb_{};
    unsigned size_ = 0;
    bool negative_ = false;
};

/// A reduced fraction, both positive.
struct fraction {
    integer above;
    integer below;

    static fraction of(integer const& a, integer const& b) {
        integer const g = gcd(a, b);
        return {floor_div(a, g), floor_div(b, g)};
    }
    friend bool operator==(fraction const&, fraction const&) = default;
};

}  // namespace exact
