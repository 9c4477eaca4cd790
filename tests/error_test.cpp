// SPDX-License-Identifier: MIT
#include <weir/error.hpp>

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace error_test {

struct immovable {
    constexpr immovable(int x, int y) : sum{x + y} {}
    immovable(immovable const&) = delete;
    immovable& operator=(immovable const&) = delete;
    int sum;
};

constexpr weir::result<immovable> make(int x, int y) {
    if (x < 0) return weir::error{"x is negative"};
    return weir::result<immovable>{std::in_place, x, y};
}

TEST(error, is_true_when_there_is_a_reason) {
    static_assert(!weir::error{});
    static_assert(weir::error{"why"});
    EXPECT_STREQ(weir::error{"why"}.message(), "why");
    EXPECT_EQ(weir::error{}, weir::errc::none);
}

TEST(result, holds_a_value_that_cannot_be_moved) {
    static_assert(make(1, 2));
    static_assert(make(1, 2)->sum == 3);
    auto r = make(3, 4);
    ASSERT_TRUE(r.has_value());
    EXPECT_FALSE(r.error());
    EXPECT_EQ((*r).sum, 7);
    r->sum = 1;
    EXPECT_EQ(std::as_const(r)->sum, 1);
    EXPECT_EQ((*std::as_const(r)).sum, 1);
}

TEST(result, holds_the_reason_why_there_is_no_value) {
    static_assert(!make(-1, 2));
    auto r = make(-1, 2);
    EXPECT_FALSE(r.has_value());
    EXPECT_STREQ(r.error().message(), "x is negative");
}

TEST(require, throws_invalid_argument_with_the_reason) {
    EXPECT_NO_THROW(weir::detail::ensure({}));
    try {
        weir::detail::ensure({"such is the reason"});
        FAIL() << "did not throw";
    } catch (std::invalid_argument const& e) {
        EXPECT_EQ(e.what(), std::string{"such is the reason"});
    }
}

}  // namespace error_test
