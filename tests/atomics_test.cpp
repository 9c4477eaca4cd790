// SPDX-License-Identifier: MIT
#include <weir/atomics.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <type_traits>

namespace atomics_test {

using cell = weir::unsynchronized::atomic<std::uint32_t>;
using word = weir::std_atomics::atomic<std::uint32_t>;

TEST(std_atomics, is_std_atomic_and_no_copy_is_made_of_either) {
    static_assert(std::is_same_v<word, std::atomic<std::uint32_t>>);
    static_assert(!std::is_copy_constructible_v<cell> && !std::is_copy_assignable_v<cell>);
    static_assert(sizeof(cell) == sizeof(std::uint32_t));
}

// On 32-bit x86 a std::uint64_t alone is aligned to 4, and an exchange over the edge of a cache line locks the bus.
TEST(std_atomics, a_limiters_word_is_lock_free_and_lies_on_one_cache_line) {
    using word64 = weir::std_atomics::atomic<std::uint64_t>;
    static_assert(word64::is_always_lock_free && weir::std_atomics::atomic<std::int64_t>::is_always_lock_free);
    static_assert(sizeof(word64) == 8 && alignof(word64) == 8);
    struct behind_a_byte {
        char before;
        word64 w{};
    };
    for (int i = 0; i < 20; ++i) {
        auto const p = std::make_unique<behind_a_byte[]>(3);
        for (std::size_t k = 0; k < 3; ++k) {
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&p[k].w) % 8, 0U);
        }
    }
}

constexpr bool works_in_a_constant() {
    cell c{7};
    std::uint32_t seen = 6;
    bool ok = !c.compare_exchange_weak(seen, 9) && seen == 7;
    ok = ok && c.compare_exchange_strong(seen, 9) && c.load() == 9 && seen == 7;
    ok = ok && c.exchange(3) == 9 && c.fetch_add(5) == 3 && c.fetch_sub(10) == 8;
    return ok && c.load() == static_cast<std::uint32_t>(-2);
}

TEST(unsynchronized, work_in_a_constant_expression) { static_assert(works_in_a_constant()); }

TEST(unsynchronized, do_what_std_atomic_does) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        std::mt19937_64 random{seed};
        cell a{};
        word b{};
        for (int i = 0; i < 2000; ++i) {
            SCOPED_TRACE(testing::Message() << "seed " << seed << " step " << i);
            // Small numbers, so that comparisons succeed now and then; sometimes the extremes, so that sums wrap.
            auto const draw = [&] {
                return random() % 16 == 0 ? static_cast<std::uint32_t>(random())
                                          : static_cast<std::uint32_t>(random() % 4);
            };
            std::uint32_t const n = draw();
            std::uint32_t x = draw();
            std::uint32_t y = x;
            constexpr auto order = std::memory_order_relaxed;
            switch (random() % 5) {
                case 0: ASSERT_EQ(a.exchange(n, order), b.exchange(n, order)); break;
                case 1: ASSERT_EQ(a.fetch_add(n, order), b.fetch_add(n, order)); break;
                case 2: ASSERT_EQ(a.fetch_sub(n, order), b.fetch_sub(n, order)); break;
                case 3:
                    ASSERT_EQ(a.compare_exchange_strong(x, n, order, order),
                              b.compare_exchange_strong(y, n, order, order));
                    ASSERT_EQ(x, y);
                    break;
                default:  // weak, of which std::atomic's may fail for nothing
                    if (bool const done = b.compare_exchange_weak(y, n, order, order); done || y != x) {
                        ASSERT_EQ(a.compare_exchange_weak(x, n, order, order), done);
                        ASSERT_EQ(x, y);
                    }
            }
            ASSERT_EQ(a.load(order), b.load(order));
        }
    }
}

}  // namespace atomics_test
