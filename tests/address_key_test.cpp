// SPDX-License-Identifier: MIT
#include <weir/address_key.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <span>
#include <vector>

namespace address_key_test {

using bytes = std::vector<unsigned char>;

bytes cut(bytes const& address, unsigned prefix4 = 32, unsigned prefix6 = 64) {
    auto const key = weir::address_key(std::span{address}, prefix4, prefix6);
    bytes all;
    for (auto const b : std::span<std::byte const>{key}) all.push_back(std::to_integer<unsigned char>(b));
    return all;
}

TEST(address_key, an_ipv4_address_is_whole_unless_it_is_cut) {
    EXPECT_EQ(cut({192, 0, 2, 77}), (bytes{192, 0, 2, 77}));
    EXPECT_EQ(cut({192, 0, 2, 77}, 24), (bytes{192, 0, 2, 0}));
    EXPECT_EQ(cut({192, 0, 2, 0xff}, 28), (bytes{192, 0, 2, 0xf0}));
    EXPECT_EQ(cut({192, 0, 2, 77}, 0), (bytes{0, 0, 0, 0}));
    EXPECT_EQ(cut({192, 0, 2, 77}, 99), (bytes{192, 0, 2, 77}));
}

TEST(address_key, an_ipv6_address_is_its_network_of_64_bits) {
    bytes one{0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    bytes other = one;
    other[15] = 99;
    EXPECT_EQ(cut(one), cut(other));
    EXPECT_NE(cut(one, 32, 128), cut(other, 32, 128));
    other[7] = 99;
    EXPECT_NE(cut(one), cut(other));
    EXPECT_EQ(cut(one, 32, 56), cut(other, 32, 56));
}

TEST(address_key, an_ipv4_address_inside_ipv6_is_ipv4) {
    EXPECT_EQ(cut({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 77}), cut({192, 0, 2, 77}));
}

TEST(address_key, what_is_no_address_is_the_empty_key) {
    EXPECT_TRUE(cut({}).empty());
    EXPECT_TRUE(cut({1, 2, 3}).empty());
    EXPECT_TRUE(cut(bytes(17)).empty());
}

}  // namespace address_key_test
