// SPDX-License-Identifier: MIT
// The layout of sliding_window_log, its tree, and its protocol where any thread may stop anywhere.
#include <weir/atomics.hpp>
#include <weir/detail/log_layout.hpp>
#include <weir/detail/log_slots.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "../support/exact_log.hpp"
#include "../support/log_attempts.hpp"
#include "../support/preemption_injection.hpp"

namespace log_slots_test {

using layout = weir::detail::log_layout;

std::size_t draw(std::mt19937_64& rng, std::size_t n) { return static_cast<std::size_t>(rng() % n); }

namespace steps {
constexpr auto w = layout::slot(100, layout::held);
static_assert(layout::stamp(w) == 100 && layout::state_of(w) == layout::held);
static_assert(layout::taken(layout::slot(5, layout::loose), 100) == w);
static_assert(layout::taken(layout::slot(5, layout::frozen), 100) == layout::slot(100, layout::frozen));
static_assert(layout::key(layout::with_state(w, layout::retired)) == layout::no_stamp);
static_assert(layout::stamp(layout::with_state(w, layout::retired)) == 100);
static_assert(layout::given_back(100, 30) == layout::slot(70, layout::loose));
// A bound that is lowered is a new word, even where it was low enough.
constexpr auto b = layout::bound(50);
static_assert(layout::stamp(layout::lowered(b, 40)) == 40 && layout::stamp(layout::lowered(b, 60)) == 50);
static_assert(layout::lowered(b, 60) == b + 1 && layout::lowered(b + 15, 60) == b);
static_assert(layout::raised(layout::lowered(b, 40), 45) == layout::bound(45) + 1);
// Usage that no receipt names stays frozen where the limit is being lowered.
static_assert(layout::booked(w, 120) == layout::slot(120, layout::loose));
static_assert(layout::booked(layout::slot(5, layout::frozen), 120) == layout::slot(120, layout::frozen));
constexpr auto h = layout::hints(7, 9);
static_assert(layout::next_hint(h) == 7 && layout::oldest_hint(h) == 9);
}  // namespace steps

// The tree with nodes of two: many levels over few slots.
TEST(log_slots, a_deep_tree_finds_what_is_free_and_denies_only_when_nothing_is) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 rng{seed};
        auto const size = static_cast<std::uint32_t>(1 + draw(rng, 40));
        weir::detail::log_slots<weir::unsynchronized, 2> slots{size, size, 100, 0, 0};
        exact_log::reference exact{size, 100};
        std::vector<weir::detail::log_receipt> grips;
        std::int64_t now = 1 << 30;
        for (int step = 0; step < 400; ++step) {
            now += static_cast<std::int64_t>(rng() % (220 / size + 1));
            auto const x = static_cast<std::uint64_t>(now);
            weir::detail::log_receipt g;
            std::uint64_t oldest = 0;
            bool const grants = exact.grants(1, now);
            ASSERT_EQ(slots.can_take(x, oldest), grants);
            ASSERT_EQ(log_attempts::take(slots, x, g, oldest), grants);
            if (grants) {
                exact.take(1, now);
                grips.push_back(g);
            } else {
                ASSERT_EQ(oldest + 100, static_cast<std::uint64_t>(*exact.retry_at(1, now)));
            }
            if (!grips.empty() && draw(rng, 3) == 0) {
                std::swap(grips[draw(rng, grips.size())], grips.back());
                auto const t = static_cast<std::int64_t>(layout::stamp(grips.back().after));
                auto const got = slots.give_back(grips.back());
                if (t + 100 > now) {
                    ASSERT_EQ(got, 1U);
                    exact.give_back(1, t);
                }
                grips.pop_back();
            }
            ASSERT_EQ(slots.count_untrue_bounds(), 0U);
        }
    }
}

struct crowd {
    using table = weir::detail::log_slots<preemption_injection, 2>;
    struct held {
        weir::detail::log_receipt grip;
        std::int64_t t;
        std::uint32_t n;
    };

    crowd(std::uint64_t seed, bool several, bool change)
        : rng{seed},
          capacity{static_cast<std::uint32_t>(1 + draw(rng, several ? 40 : 10))},
          window{static_cast<std::int64_t>(1 + rng() % 60)},
          several_at_once{several},
          changes{change},
          slots{capacity, capacity, static_cast<std::uint64_t>(window), 0, 0},
          exact{capacity, window} {
        current = this;
        preemption_injection::interrupt = [] { current->maybe_operate(); };
        preemption_injection::fails = [] { return current->rng() % 16 == 0; };
    }
    crowd(crowd const&) = delete;
    crowd& operator=(crowd const&) = delete;
    ~crowd() { preemption_injection::interrupt = nullptr; }

    void maybe_operate() {
        if (depth == 0 || depth > 3 || quiet || rng() % 8 != 0) return;
        operate();
    }

    void operate() {
        ++depth;
        ++operations;
        now += static_cast<std::int64_t>(rng() % (static_cast<std::uint64_t>(window) / capacity + 2));
        if (rng() % 32 == 0) now += window;
        switch (draw(rng, 8)) {
            case 0:
            case 1:
            case 2: take(1); break;
            case 3: take(several_at_once ? static_cast<std::uint32_t>(1 + draw(rng, capacity)) : 1); break;
            case 4: look(); break;
            case 5:
                if (changes) change();
                break;
            default: give_back(); break;
        }
        --depth;
    }

    void take(std::uint32_t n) {
        std::int64_t const t = now;
        std::uint64_t const began = operations;
        std::uint64_t const changed = changes_begun + changes_ended;
        std::size_t const limit = exact.limit();
        bool const undisturbed = changes_begun == changes_ended;
        bool const grants = exact.grants(n, t);
        weir::detail::log_receipt g;
        std::uint64_t oldest = 0;
        bool const granted = n == 1 ? log_attempts::take(slots, stamp(t), g, oldest)
                                    : log_attempts::take_many(slots, n, stamp(t), g, oldest);
        if (depth == 1 && began == operations) {
            // (What several at once took and lost again while the limit was lowered stays booked.)
            bool const may_leak = changes && several_at_once;
            ASSERT_TRUE(may_leak ? !granted || grants : granted == grants) << "alone";
            if (!granted && n <= limit && !may_leak) {
                ASSERT_EQ(oldest + static_cast<std::uint64_t>(window), stamp(*exact.retry_at(n, t)));
            }
        }
        if (!granted) return;
        exact.take(n, t);
        for (std::uint32_t i = 0; i < n; ++i) permits_held.insert(t);
        if (undisturbed && changed == changes_begun + changes_ended) {
            ASSERT_LE(exact_log::most_around(permits_held, t, window), limit);
        }
        receipts.push_back({g, t, n});
    }

    void look() {
        std::uint64_t const began = operations;
        std::uint64_t oldest = 0;
        bool const grants = exact.grants(1, now);
        bool const granted = slots.can_take(stamp(now), oldest);
        if (depth == 1 && began == operations && !(changes && several_at_once)) {
            ASSERT_EQ(granted, grants);
        }
    }

    void give_back() {
        if (receipts.empty()) return;
        std::swap(receipts[draw(rng, receipts.size())], receipts.back());
        held r = receipts.back();
        receipts.pop_back();
        forget(r.t, r.n);
        auto const got = slots.give_back(r.grip);
        ASSERT_LE(got, r.n);
        if (!changes && r.t + window > now) {
            ASSERT_EQ(got, r.n) << "lost";
        }
        exact.take(r.n - got, r.t);
        for (std::uint32_t i = got; i < r.n; ++i) permits_held.insert(r.t);
        if (!changes) {
            ASSERT_LE(exact_log::most_around(permits_held, r.t, window), capacity);
        }
    }

    void change() {
        auto const n = static_cast<std::uint32_t>(1 + draw(rng, capacity));
        bool const alone = changes_begun == changes_ended;
        std::uint64_t const mine = ++changes_begun;
        bool const done = slots.change_limit(n);
        ASSERT_TRUE(done || !alone || changes_begun != mine);
        ++changes_ended;
        if (done) exact.limit(n);
    }

    void forget(std::int64_t t, std::uint32_t n) {
        exact.give_back(n, t);
        for (std::uint32_t i = 0; i < n; ++i) permits_held.erase(permits_held.find(t));
    }

    // Nothing is under way: nothing is lost.
    void check_at_rest() {
        quiet = true;
        ASSERT_EQ(slots.count_untrue_bounds(), 0U);
        auto const free = slots.count_free(stamp(now), capacity);
        if (changes && several_at_once) {
            ASSERT_LE(free, exact.available(now));
        } else {
            ASSERT_EQ(free, exact.available(now));
        }
        if (!changes) {
            ASSERT_LE(exact_log::most_in_a_window({permits_held.begin(), permits_held.end()}, window), capacity);
        }
        quiet = false;
    }

    static std::uint64_t stamp(std::int64_t t) { return static_cast<std::uint64_t>(t) + (1U << 30U); }

    static inline crowd* current = nullptr;
    std::mt19937_64 rng;
    std::uint32_t capacity;
    std::int64_t window;
    bool several_at_once;
    bool changes;
    table slots;
    exact_log::reference exact;
    std::multiset<std::int64_t> permits_held;
    std::vector<held> receipts;
    std::int64_t now = 0;
    int depth = 0;
    bool quiet = false;
    std::uint64_t operations = 0;
    std::uint64_t changes_begun = 0;
    std::uint64_t changes_ended = 0;
};

void run_crowds(bool several, bool change) {
    std::uint64_t operations = 0;
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        crowd c{seed, several, change};
        for (int step = 0; step < 120; ++step) {
            c.operate();
            c.check_at_rest();
            if (testing::Test::HasFatalFailure()) return;
        }
        operations += c.operations;
    }
    EXPECT_GT(operations, 2U * 300 * 120) << "no operation came in between";
}

TEST(log_slots, wherever_one_stalls_the_promise_holds_and_nothing_is_lost) { run_crowds(false, false); }

TEST(log_slots, wherever_one_stalls_the_promise_holds_for_several_at_once) { run_crowds(true, false); }

TEST(log_slots, wherever_one_stalls_a_change_keeps_the_promise) { run_crowds(false, true); }

TEST(log_slots, wherever_one_stalls_a_change_keeps_the_promise_for_several_at_once) { run_crowds(true, true); }

// A take of many that loses the race after any of its steps gives all of them back: more than it has room to remember.
TEST(log_slots, wherever_another_comes_first_a_take_of_many_leaves_nothing_behind) {
    using table = crowd::table;
    constexpr std::uint64_t x = (1U << 30U) + 1000;
    static table* slots;
    static int steps;
    static bool other;
    int lost = 0;
    for (int at = 1;; ++at) {
        table all{60, 60, 100, 0, 0};
        slots = &all;
        steps = at;
        other = false;
        preemption_injection::fails = [] { return false; };
        preemption_injection::interrupt = [] {
            if (--steps != 0) return;
            weir::detail::log_receipt g;
            std::uint64_t oldest = 0;
            other = log_attempts::take_many(*slots, 40, x, g, oldest);
        };
        weir::detail::log_receipt g;
        std::uint64_t oldest = 0;
        bool const granted = log_attempts::take_many(all, 40, x, g, oldest);
        bool const came = steps <= 0;
        preemption_injection::interrupt = [] {};
        ASSERT_TRUE(granted || other) << at;
        ASSERT_FALSE(granted && other) << at;
        ASSERT_EQ(all.count_free(x, 60), 20U) << at;
        lost += other ? 1 : 0;
        if (!came) break;
    }
    preemption_injection::interrupt = nullptr;
    EXPECT_GT(lost, 20);
}

}  // namespace log_slots_test
