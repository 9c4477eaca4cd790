// SPDX-License-Identifier: MIT
//
// session_gate: what a session's queue takes for its limiter. The calls make the attempts themselves, by their own
// time; the gate only says what such an attempt came to. Part of session.hpp.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

#include "../../clock/clock.hpp"
#include "../../limiter.hpp"
#include "../quota.hpp"

namespace weir::inline v0::detail {

template <class Clock>
class session_gate {
public:
    using time_point = typename Clock::time_point;
    using duration = typename Clock::duration;

    class decision {
    public:
        static decision granted_at(time_point t, llm::tokens n, std::uint64_t counted_in = 0) noexcept {
            decision d{t, t, n};
            d.granted_ = true;
            d.counted_in_ = counted_in;
            return d;
        }
        static decision denied_at(time_point t, time_point retry_at = (time_point::max)()) noexcept {
            return decision{t, retry_at, {}};
        }
        bool granted() const noexcept { return granted_; }
        explicit operator bool() const noexcept { return granted_; }
        bool never() const noexcept { return !granted_ && retry_at_ == (time_point::max)(); }
        time_point retry_at() const noexcept { return retry_at_; }
        duration retry_after() const noexcept { return detail::retry_after(at_, retry_at_); }
        llm::tokens asked() const noexcept { return asked_; }
        void counted_in(std::uint64_t period) noexcept { counted_in_ = period; }
        std::uint64_t counted_in() const noexcept { return counted_in_; }

    private:
        decision(time_point at, time_point retry_at, llm::tokens n) noexcept
            : at_{at}, retry_at_{retry_at}, asked_{n} {}
        time_point at_;
        time_point retry_at_;
        llm::tokens asked_;
        std::uint64_t counted_in_ = 0;
        bool granted_ = false;
    };

    /// The cost of a call among classes is measured by the limits of the first model that has an account, since one
    /// scale must do for all.
    struct scale {
        std::optional<std::uint64_t> rpm{};
        std::optional<std::uint64_t> tpm{};
        std::optional<std::uint64_t> effective_rpm() const noexcept { return rpm; }
        std::optional<std::uint64_t> effective_tpm() const noexcept { return tpm; }
    };

    explicit session_gate(Clock const& c) noexcept : clock_{c} {}
    Clock const& clock() const noexcept { return clock_; }
    scale const& limits() const noexcept { return scale_; }
    void measure_by(scale const& s) noexcept { scale_ = s; }

    // The call has told its account already; the queue corrects what it counted.
    static constexpr bool settle(decision const&, llm::tokens) noexcept { return true; }
    static constexpr bool refund(decision const&) noexcept { return true; }

private:
    Clock const& clock_;
    scale scale_{};
};

}  // namespace weir::inline v0::detail
