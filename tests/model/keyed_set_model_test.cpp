// SPDX-License-Identifier: MIT
// Sets of keyed_buckets in every interleaving; what each must show is in keyed_world.hpp.
#include "keyed_world.hpp"
#include "model.hpp"
#include "program.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace keyed_set_model_test {

using namespace keyed_world;
using model::coverage;
using model::options;
using rules = weir::detail::keyed_rules;

/// Everything, but that a thread reads one old store once in a row: else a loop may read it without end.
options all(unsigned spurious = 0) {
    options o = options::weak("", spurious);
    o.rereads = 1;
    return o;
}
options few(unsigned preemptions) {
    options o = options::bounded("", preemptions, 0);
    o.rereads = 1;
    return o;
}

struct sized {
    unsigned ways;
    program p;
};

model::outcome run(options const& o, sized const& s, unsigned frozen = 0) {
    return s.ways == 1 ? explore<1>(o, s.p, frozen) : explore<2>(o, s.p, frozen);
}
void expect_right(options const& o, std::vector<sized> const& programs, unsigned frozen = 0) {
    for (auto const& s : programs) {
        auto const out = run(o, s, frozen);
        EXPECT_TRUE(out.passed(model::whole(o))) << out;
    }
}

constexpr unsigned a = 1;
constexpr unsigned b = 2;
constexpr unsigned c = 3;
constexpr unsigned d = 4;

std::vector<unsigned> const same{0, 0, 0, 0};
std::vector<unsigned> const apart{0, 1, 0, 1};

std::vector<sized> two_by_one() {
    return {
        {1, {2, false, same, {}, {{take(a, 1, 0)}, {take(a, 1, 0)}}}},
        {1, {1, false, same, {}, {{take(a, 1, 0)}, {take(b, 1, 0)}}}},
        {1, {2, false, same, {take(c, 1, 0)}, {{take(a, 1, 20)}, {take(b, 1, 20)}}}},
        {1, {2, false, same, {take(c, 1, 0)}, {{take(a, 1, 20)}, {take(c, 1, 20)}}}},
        {1, {1, false, same, {take(a, 1, 0)}, {{take(b, 1, 20)}, {take(a, 1, 5)}}}},
        {2, {2, false, same, {}, {{take(a, 1, 0)}, {take(a, 2, 0)}}}},
        {2, {1, false, apart, {take(c, 1, 0)}, {{take(a, 1, 20)}, {take(a, 1, 5)}}}},
        {2, {1, false, same, {take(a, 1, 0)}, {{take(b, 1, 20)}, {take(a, 1, 5)}}}},
        {2, {2, false, same, {take(c, 1, 0), take(d, 1, 0)}, {{take(a, 1, 20)}, {take(c, 1, 20)}}}},
    };
}

std::vector<sized> others_by_one() {
    return {
        // A full set that forgets.
        {1, {3, true, same, {take(c, 1, 0)}, {{take(a, 1, 0)}, {take(c, 1, 0)}}}},
        {1, {3, true, same, {take(c, 1, 0)}, {{take(a, 1, 0)}, {take(b, 1, 0)}}}},
        {2, {3, true, apart, {take(c, 1, 0), take(d, 2, 0)}, {{take(a, 1, 0)}, {take(c, 1, 5)}}}},
        // Bookings and debt.
        {1, {1, false, same, {reserve(a, 1, 0)}, {{reserve(a, 1, 0)}, {take(b, 1, 20)}}}},
        {1, {1, false, same, {charge(a, 3, 0)}, {{take(a, 1, 30)}, {reserve(b, 1, 30)}}}},
        // Undo, of a charge and of an insert.
        {1, {2, false, same, {take(a, 1, 0), take(a, 1, 0, 1)}, {{undo(1, 1)}, {take(a, 1, 0)}}}},
        {1, {2, false, same, {take(a, 2, 0, 1)}, {{undo(1, 1)}, {take(a, 1, 5)}}}},
        {1, {1, false, same, {take(a, 1, 0, 1)}, {{undo(1, 1)}, {take(b, 1, 20)}}}},
        {2, {1, false, same, {take(a, 1, 0, 1)}, {{undo(1, 1)}, {take(a, 1, 0)}}}},
        // Reset.
        {1, {1, false, same, {take(a, 1, 0)}, {{reset(a)}, {take(a, 1, 0)}}}},
        {1, {1, false, same, {take(a, 1, 0)}, {{reset(a)}, {take(b, 1, 20)}}}},
        {1, {1, false, same, {take(a, 1, 0, 1)}, {{reset(a), take(a, 1, 0)}, {undo(1, 1)}}}},
    };
}

std::vector<sized> across_epochs() {
    return {
        {1, {2, false, same, {take(a, 1, 1000)}, {{take(a, 1, 1030)}, {take(a, 1, 1000)}}}},
        {1, {2, false, same, {take(a, 2, 1015)}, {{take(a, 1, 1030)}, {take(a, 1, 1020)}}}},
        {1, {1, false, same, {take(a, 1, 1010)}, {{take(a, 1, 1030)}, {take(b, 1, 1022)}}}},
        {1, {1, false, same, {take(a, 1, 1020, 1)}, {{take(a, 1, 1026)}, {undo(1, 1)}}}},
    };
}

TEST(keyed_set_model, two_threads_of_one_attempt_are_right) { expect_right(all(), two_by_one()); }
TEST(keyed_set_model, two_threads_of_two_attempts_are_right) {
    expect_right(all(), {{1, {1, false, same, {}, {{take(a, 1, 0), take(a, 1, 10)}, {take(a, 1, 0), take(a, 1, 5)}}}},
                         {1, {1, false, same, {take(c, 1, 0)}, {{take(a, 1, 20), take(a, 1, 30)}, {take(c, 1, 5)}}}},
                         {1, {1, false, same, {take(a, 1, 0)}, {{take(a, 1, 10), take(b, 1, 30)}, {take(a, 1, 20)}}}},
                         {2,
                          {1,
                           false,
                           apart,
                           {take(a, 1, 0), take(b, 1, 0)},
                           {{take(a, 1, 10), take(c, 1, 30)}, {take(b, 1, 10), take(a, 1, 20)}}}}});
}
TEST(keyed_set_model, forgetting_booking_undo_and_reset_are_right) { expect_right(all(), others_by_one()); }
TEST(keyed_set_model_long, an_exchange_that_fails_for_nothing_changes_nothing) {
    expect_right(all(1), {two_by_one()[0], two_by_one()[3], others_by_one()[0]});
}
TEST(keyed_set_model, two_threads_across_an_epoch_are_right_with_two_preemptions) {
    expect_right(few(2), across_epochs());
}
TEST(keyed_set_model, three_threads_of_one_attempt_are_right_with_one_preemption) {
    expect_right(few(1),
                 {{1, {1, false, same, {take(d, 1, 0)}, {{take(a, 1, 20)}, {take(b, 1, 20)}, {take(d, 1, 5)}}}},
                  {2, {1, false, apart, {take(d, 1, 0)}, {{take(a, 1, 20)}, {take(a, 1, 5)}, {take(b, 1, 20)}}}}});
}
TEST(keyed_set_model, with_a_thread_frozen_anywhere_the_other_ends) {
    expect_right(all(), {two_by_one()[0], two_by_one()[2], two_by_one()[4], others_by_one()[0]}, 1);
}

// ---- what was refuted: each of these was believed once, or is a rule that looks superfluous ----

struct undecided : rules {
    static constexpr bool announce = false;
    static constexpr bool read_again = false;
};
struct cancelling : rules {
    static constexpr bool never_cancel = false;
};
struct trusting : rules {
    static constexpr bool read_again = false;
};
struct floorless : rules {
    static constexpr bool floor = false;
};
struct jumping : rules {
    static constexpr bool move_in_steps = false;
};
struct stainless : rules {
    static constexpr bool stain = false;
};

template <class Rules, unsigned Ways>
void expect_wrong(program const& p) {
    auto const o = all();
    auto const wrong = explore<Ways, Rules>(o, p);
    EXPECT_FALSE(wrong.failure.empty()) << wrong;
    EXPECT_EQ(wrong.seen, coverage::failed);
}

TEST(keyed_set_model, two_inserts_undecided_give_a_key_two_slots) {
    expect_wrong<undecided, 2>({1, false, apart, {take(c, 1, 0)}, {{take(a, 1, 20)}, {take(a, 1, 5)}}});
}
TEST(keyed_set_model, a_changed_tat_is_no_fence_for_a_cancelled_insert) {
    expect_wrong<cancelling, 2>({1, false, same, {take(c, 1, 0)}, {{take(a, 1, 20)}, {take(a, 1, 5)}}});
}
TEST(keyed_set_model, a_helper_that_does_not_read_head_again_inserts_twice) {
    expect_wrong<trusting, 2>({1, false, same, {}, {{take(a, 1, 0), take(c, 1, 20), take(a, 1, 20)}, {take(b, 1, 0)}}});
}
TEST(keyed_set_model, without_a_floor_a_late_attempt_takes_what_was_evicted) {
    expect_wrong<floorless, 2>({1, false, same, {take(a, 1, 0)}, {{take(b, 1, 20)}, {take(a, 1, 5)}}});
}
TEST(keyed_set_model, emptying_for_an_epoch_that_is_not_announced_loses_debt) {
    expect_wrong<jumping, 1>({2, false, same, {take(a, 2, 1015)}, {{take(a, 1, 3100)}, {take(a, 1, 1020)}}});
}
TEST(keyed_set_model, an_undo_after_a_reset_takes_back_the_charge_of_another) {
    expect_wrong<stainless, 1>(
        {1, false, same, {take(a, 1, 0, 1)}, {{reset(a), take(a, 1, 0), take(a, 1, 0)}, {undo(1, 1)}}});
}

// ---- longer ----

TEST(keyed_set_model_long, two_threads_across_an_epoch_are_right) { expect_right(all(), across_epochs()); }
TEST(keyed_set_model_long, three_threads_of_one_attempt_are_right_with_two_preemptions) {
    expect_right(few(2),
                 {{1, {1, false, same, {take(d, 1, 0)}, {{take(a, 1, 20)}, {take(b, 1, 20)}, {take(d, 1, 5)}}}},
                  {2, {1, false, apart, {take(d, 1, 0)}, {{take(a, 1, 20)}, {take(a, 1, 5)}, {take(b, 1, 20)}}}},
                  {1, {1, false, same, {}, {{take(a, 1, 0)}, {take(a, 1, 0)}, {take(b, 1, 0)}}}}});
}
TEST(keyed_set_model_long, with_two_threads_frozen_anywhere_the_third_ends) {
    options o = few(1);
    expect_right(o, {{1, {1, false, same, {take(d, 1, 0)}, {{take(a, 1, 20)}, {take(b, 1, 20)}, {take(a, 1, 20)}}}}},
                 2);
}

}  // namespace keyed_set_model_test
