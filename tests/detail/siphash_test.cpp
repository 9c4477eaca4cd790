// SPDX-License-Identifier: MIT
#include <weir/detail/siphash.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace siphash_test {

using weir::detail::siphash;

constexpr weir::detail::sip_key key{0x0706050403020100U, 0x0f0e0d0c0b0a0908U};

/// SipHash-1-3 of 0, 1, ... n - 1 for n from 0 to 63, by another implementation, which agrees with CPython's hash.
constexpr std::uint64_t one_three[64] = {
    0xabac0158050fc4dcU, 0xc9f49bf37d57ca93U, 0x82cb9b024dc7d44dU, 0x8bf80ab8e7ddf7fbU, 0xcf75576088d38328U,
    0xdef9d52f49533b67U, 0xc50d2b50c59f22a7U, 0xd3927d989bb11140U, 0x369095118d299a8eU, 0x25a48eb36c063de4U,
    0x79de85ee92ff097fU, 0x70c118c1f94dc352U, 0x78a384b157b4d9a2U, 0x306f760c1229ffa7U, 0x605aa111c0f95d34U,
    0xd320d86d2a519956U, 0xcc4fdd1a7d908b66U, 0x9cf2689063dbd80cU, 0x8ffc389cb473e63eU, 0xf21f9de58d297d1cU,
    0xc0dc2f46a6cce040U, 0xb992abfe2b45f844U, 0x7ffe7b9ba320872eU, 0x525a0e7fdae6c123U, 0xf464aeb267349c8cU,
    0x45cd5928705b0979U, 0x3a3e35e3ca9913a5U, 0xa91dc74e4ade3b35U, 0xfb0bed02ef6cd00dU, 0x88d93cb44ab1e1f4U,
    0x540f11d643c5e663U, 0x2370dd1f8c21d1bcU, 0x81157b6c16a7b60dU, 0x4d54b9e57a8ff9bfU, 0x759f12781f2a753eU,
    0xcea1a3bebf186b91U, 0x2cf508d3ada26206U, 0xb6101c2da3c33057U, 0xb3f47496ae3a36a1U, 0x626b57547b108392U,
    0xc1d2363299e41531U, 0x667cc1923f1ad944U, 0x65704ffec8138825U, 0x24f280d1c28949a6U, 0xc2ca1cedfaf8876bU,
    0xc2164bfc9f042196U, 0xa16e9c9368b1d623U, 0x49fb169c8b5114fdU, 0x9f3143f8df074c46U, 0xc6fdaf2412cc86b3U,
    0x7eaf49d10a52098fU, 0x1cf313559d292f9aU, 0xc44a30dda2f41f12U, 0x36fae98943a71ed0U, 0x318fb34c73f0bce6U,
    0xa27abf3670a7e980U, 0xb4bcc0db243c6d75U, 0x23f8d852fdb71513U, 0x8f035f4da67d8a08U, 0xd89cd0e5b7e8f148U,
    0xf6f4e6bcf7a644eeU, 0xaec59ad80f1837f2U, 0xc3b2f6154b6694e0U, 0x9d199062b7bbb3a8U};
/// SipHash-2-4 of the same: the first and the sixteenth of the reference code's vectors.
constexpr std::uint64_t two_four_of_0 = 0x726fdb47dd0e0e31U;
constexpr std::uint64_t two_four_of_15 = 0xa129ca6149be45e5U;

constexpr std::array<std::byte, 64> counting = [] {
    std::array<std::byte, 64> all{};
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i);
    return all;
}();
constexpr std::span<std::byte const> first(std::size_t n) { return std::span{counting}.first(n); }

static_assert(siphash<2, 4>(key, first(0)) == two_four_of_0);
static_assert(siphash<2, 4>(key, first(15)) == two_four_of_15);

TEST(siphash, equals_the_reference_vectors_of_one_and_three_rounds) {
    for (std::size_t n = 0; n < counting.size(); ++n) EXPECT_EQ(siphash(key, first(n)), one_three[n]) << n;
}

TEST(siphash, a_word_is_its_eight_bytes) { EXPECT_EQ(siphash(key, 0x0706050403020100U), siphash(key, first(8))); }

TEST(siphash, each_object_has_a_secret_of_its_own) {
    weir::sip_hash const one;
    weir::sip_hash const other;
    EXPECT_NE(one(std::uint64_t{1}), other(std::uint64_t{1}));
    EXPECT_EQ(one(first(5)), one(first(5)));
    EXPECT_EQ(weir::sip_hash(key.k0, key.k1)(first(3)), one_three[3]);
}

}  // namespace siphash_test
