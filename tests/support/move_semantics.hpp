// SPDX-License-Identifier: MIT
// What holds of every decision that is moved: it says what it said, is given back once by the decision that has it now,
// and never by what it was moved from.
#pragma once

#include <gtest/gtest.h>

#include <tuple>
#include <utility>

namespace moved {

template <class Decision>
auto said_by(Decision const& d) {
    return std::tuple{d.granted(), d.never(), d.retry_at(), d.retry_after()};
}

/// Whether a refund that returned `r` gave anything back.
template <class Result>
bool gave_back(Result const& r) {
    if constexpr (requires { r.total(); }) {
        return r.total() != 0;
    } else {
        return static_cast<bool>(r);
    }
}

/// `limiter` has room for exactly 3, `clock` is its clock, attempt(n) asks it for n.
template <class Limiter, class Clock, class Attempt>
void is_the_same_decision(Limiter& limiter, Clock& clock, typename Clock::duration step, Attempt attempt) {
    auto first = attempt(1);
    clock.advance(step);
    auto second = attempt(2);
    ASSERT_TRUE(first && second);
    clock.advance(step);
    auto denied = attempt(3);
    clock.advance(step);
    auto never = attempt(4);
    ASSERT_TRUE(!denied && !denied.never() && never.never());

    auto const said_second = said_by(second);
    auto const said_denied = said_by(denied);
    auto const said_never = said_by(never);
    auto made = std::move(denied);
    EXPECT_EQ(said_by(made), said_denied);
    made = std::move(never);
    EXPECT_EQ(said_by(made), said_never);
    auto& itself = second;
    second = std::move(itself);
    EXPECT_EQ(said_by(second), said_second);
    made = std::move(second);
    EXPECT_EQ(said_by(made), said_second);
    EXPECT_FALSE(gave_back(limiter.refund(second)))
        << "moved from";  // NOLINT(bugprone-use-after-move): that is the point
    second = std::move(made);
    EXPECT_FALSE(gave_back(limiter.refund(made))) << "moved from";  // NOLINT(bugprone-use-after-move)
    EXPECT_TRUE(gave_back(limiter.refund(second)));
    EXPECT_FALSE(gave_back(limiter.refund(second))) << "once";
}

}  // namespace moved
