// SPDX-License-Identifier: MIT
// Each memory order in the protocol of sliding_window_counter is needed: weakened alone, it makes a case fail.
#include "counter_world.hpp"
#include "model.hpp"
#include "model_atomic.hpp"
#include "weakening.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace sliding_window_counter_orders_model_test {

using namespace counter_world;
using model::scenario;

model::trial trial_of(program const& p) {
    return {p.name(), [p] { return explore(options::weak("", 0), p); }};
}

/// Two threads do one thing each to a counter that `before` has prepared.
struct pair_of {
    counter c;
    counter::receipt taken{};
    counter::receipt later{};
    model::atomics::atomic<std::uint64_t> told{0};

    pair_of(permits limit, std::uint32_t segments) : c{limit, std::chrono::nanoseconds{length * segments}, segments} {}

    /// What comes before a refund.
    void tell() { told.exchange(1, std::memory_order_relaxed); }
    /// A thread that sees the lowered sum sees what came before.
    void must_know(bool sees_it) {
        if (sees_it) model::check(told.load(std::memory_order_relaxed) == 1, "a lowered sum without what came before");
    }
};
using deed = void (*)(pair_of&);

model::trial race(char const* name, permits limit, std::uint32_t segments, deed before, deed one, deed other,
                  options o = options::weak("", 0)) {
    o.name = name;
    return {name, [=] {
                return model::explore(o, [=] {
                    auto s = std::make_shared<pair_of>(limit, segments);
                    before(*s);
                    return scenario{{[=] { one(*s); }, [=] { other(*s); }}, {}};
                });
            }};
}

void nothing(pair_of&) {}
/// No room is cached.
void cold(pair_of& s) { s.c.restore(0, -1); }
template <permits N>
void charge_at_0(pair_of& s) {
    (void)s.c.force_acquire(N, 0);
}
void take_two(pair_of& s) {
    s.c.take(2, 0, s.taken);
    (void)s.c.force_acquire(1, 1000);
}
void take_two_at_0(pair_of& s) { s.c.take(2, 0, s.taken); }
template <std::int64_t T>
void move_to(pair_of& s) {
    s.c.advance_to(T);
}
void tell_and_refund(pair_of& s) {
    s.tell();
    s.c.refund(s.taken);
}
template <std::int64_t T>
void tell_refund_and_move_to(pair_of& s) {
    tell_and_refund(s);
    s.c.advance_to(T);
}
void change_to_3(pair_of& s) { (void)s.c.change_limit(3, 0); }
/// All versions but the next have been in force; the next one's slot held another limit before.
void seven_changes(pair_of& s) {
    for (int i = 0; i < 7; ++i) (void)s.c.change_limit(5, 0);
    s.c.advance_to(1000);
}
void seven_changes_and_full(pair_of& s) {
    for (int i = 0; i < 7; ++i) (void)s.c.change_limit(5, 0);
    (void)s.c.force_acquire(5, 1000);
}
void change_to_2_in_the_next(pair_of& s) {
    (void)s.c.change_limit(2, 1000);
    s.c.take(3, 1000);  // is denied, and caches the room of the new limit
}

std::vector<model::trial> trials_of_orders() {
    auto few = options::bounded("", 1, 0);
    few.rereads = 1;
    auto const in_bounds = options::bounded("", 2, 0);
    return {
        trial_of({2, 1, {take(2, 0, 1)}, {{refund(2, 1)}, {take(1, 1000), take(1, 1000)}}}),
        trial_of({2, 1, {take(2, 0, 1)}, {{refund(2, 1)}, {move_on(1000)}}}),
        trial_of({2, 1, {take(1, 0)}, {{change(3, 0), take(1, 0)}, {take(1, 0), take(1, 0)}}}),
        // A look that has read head meets the new tenant of a word that it should have counted.
        trial_of({2, 2, {take(1, 0), take(1, 1000)}, {{used(2000)}, {take(2, 8000), take(1, 9000)}}}),
        trial_of({2, 2, {take(1, 0)}, {{used(1000), used(2000)}, {take(1, 1000)}}}),
        trial_of({2, 1, {}, {{change(3, 0)}, {take(1, 0)}}}),  // a room by a limit that is not there yet
        // The end of the segment is known before its head.
        trial_of({2, 1, {take(2, 0)}, {{move_on(2000)}, {used(2000)}}}),
        trial_of({2, 1, {take(2, 0)}, {{move_on(2000)}, {look(1, 2000)}}}),
        trial_of({2, 1, {take(2, 0)}, {{move_on(2000)}, {take(1, 2000)}}}),
        trial_of({2, 1, {take(2, 0)}, {{move_on(2000)}, {in_two(1, 2000)}}}),
        // Refunds are known with what came before them.
        race(
            "refund | used", 2, 1, take_two,
            [](pair_of& s) {
                s.tell();
                (void)s.c.force_acquire(0, 0);
                s.c.refund(s.taken);
            },
            [](pair_of& s) { s.must_know(s.c.used(1000) < 3); }),
        race("refund | used, in its segment", 2, 1, take_two_at_0, tell_and_refund,
             [](pair_of& s) { s.must_know(s.c.used(0) == 0); }),
        race("refund | look at both", 2, 1, take_two_at_0, tell_and_refund,
             [](pair_of& s) { s.must_know(s.c.check_shared(1, 0, [] { return counter::usage{}; })); }),
        race(
            "refund | second look", 3, 1, [](pair_of& s) { s.c.take(1, 0, s.taken); }, tell_and_refund,
            [](pair_of& s) {
                int calls = 0;
                s.must_know(s.c.take_shared(2, 0, [&] { return counter::usage{calls++ == 0 ? 0U : 1U}; }));
            }),
        race(
            "visible refund | used", 3, 2, take_two,
            [](pair_of& s) {
                s.tell();
                s.c.refund_visible(s.taken);
            },
            [](pair_of& s) { s.must_know(s.c.used(1000) == 1); }),
        race("refund | move on, used", 3, 2, take_two, tell_and_refund,
             [](pair_of& s) {
                 s.c.advance_to(2000);
                 s.must_know(s.c.used(2000) == 1);
             }),
        race("refund | used, ahead", 3, 2, take_two, tell_and_refund,
             [](pair_of& s) { s.must_know(s.c.used(2000) == 1); }),
        // The other helps to move on, and shows what the first has summed.
        race(
            "refund, move on | refund, used", 3, 2,
            [](pair_of& s) {
                s.c.take(2, 0, s.taken);
                s.later = s.c.force_acquire(1, 1000);
            },
            tell_refund_and_move_to<2000>,
            [](pair_of& s) {
                s.c.refund(s.later);
                s.must_know(s.c.used(2000) <= 1);
            }),
        race(
            "refund, move on | move on, used", 3, 2, take_two, tell_refund_and_move_to<2000>,
            [](pair_of& s) {
                s.c.advance_to(2000);
                s.must_know(s.c.used(2000) == 1);
            },
            in_bounds),
        // The limit is there when its version is.
        race("change | limit", 2, 1, nothing, change_to_3,
             [](pair_of& s) { model::check(s.c.limit() - 2 <= 1, "a limit that never was"); }),
        race("change | limit of a head", 2, 1, nothing, change_to_3,
             [](pair_of& s) { model::check(s.c.limit_after(s.c.head()) - 2 <= 1, "a limit that never was"); }),
        race("change | limit of a charge", 2, 1, nothing, change_to_3,
             [](pair_of& s) {
                 s.taken = s.c.force_acquire(1, 0);
                 model::check(s.c.limit_after(s.taken.head()) - 2 <= 1, "a limit that never was");
             }),
        race("change | room of a check", 2, 1, nothing, change_to_3,
             [](pair_of& s) { model::check(s.c.check(1, 0).granted, "denied though empty"); }),
        race("change | refresh", 2, 1, cold, change_to_3,
             [](pair_of& s) { model::check(s.c.take(1, 0), "denied though empty"); }),
        race(
            "change | limit of a check", 2, 1, nothing,
            [](pair_of& s) {
                change_to_3(s);
                s.c.take(4, 0);  // is denied, and caches the room of the new limit
            },
            [](pair_of& s) { model::check(s.c.limit_after(s.c.check(1, 0).head) - 2 <= 1, "a limit that never was"); }),
        race("change | attempt alone", 5, 1, seven_changes, change_to_2_in_the_next,
             [](pair_of& s) { model::check(s.c.take<true>(9, 1000), "denied though empty"); }),
        race("move on | certain denial", 5, 1, charge_at_0<5>, move_to<2000>,
             [](pair_of& s) {
                 counter::attempt a;
                 model::check(!s.c.is_denied_at(1, 2000, a), "denied though empty");
             }),
        race("change | certain denial", 5, 1, seven_changes_and_full, change_to_2_in_the_next,
             [](pair_of& s) {
                 counter::attempt a;
                 if (!s.c.is_denied_at(9, 1000, a)) return;
                 permits const limit = s.c.limit_after(a.head);
                 model::check(limit == 5 || limit == 2, "a limit that never was");
             }),
        race(
            "seven changes | change", 2, 1, nothing,
            [](pair_of& s) {
                for (int i = 0; i < 7; ++i) s.told.fetch_add(s.c.change_limit(3, 0) ? 0 : 1, std::memory_order_relaxed);
                model::check(s.told.load(std::memory_order_relaxed) <= 7, "an eighth change");
            },
            [](pair_of& s) {
                s.told.fetch_add(s.c.change_limit(1, 0) ? 0 : 1, std::memory_order_relaxed);
                model::check(s.told.load(std::memory_order_relaxed) <= 7, "an eighth change");
            },
            few),
        // The first segment in which it fits.
        race("first fit | move on", 2, 2, charge_at_0<2>, move_to<1000>,
             [](pair_of& s) { model::check(s.c.first_fit(0, 1000) == 3000, "not the first that fits"); }),
        race(
            "first fit | a new tenant", 2, 2,
            [](pair_of& s) {
                (void)s.c.force_acquire(1, 0);
                (void)s.c.force_acquire(1, 1000);
            },
            [](pair_of& s) {
                (void)s.c.force_acquire(2, 8000);
                s.c.advance_to(9000);
            },
            [](pair_of& s) {
                // At once where the counter has moved on, past both.
                auto const fit = s.c.first_fit(1, 1000);
                model::check(fit == 1000 || fit >= 3000, "too early");
            }),
        {"shared", [] { return share_a_limit(options::weak("shared", 0)); }},
        race("shared | move on", 2, 1, charge_at_0<2>, move_to<2000>,
             [](pair_of& s) {
                 model::check(s.c.take_shared(1, 2000, [] { return counter::usage{}; }), "refused though empty");
             }),
        // No thread waits for what is on its way.
        race("cold | move on", 2, 1, cold, move_to<1000>, [](pair_of& s) { s.c.take(1, 0); }),
        race(
            "cold, move on | move on", 2, 1, cold, move_to<1000>, [](pair_of& s) { s.c.take(1, 1000); }, in_bounds),
        race(
            "moves on twice | move on", 2, 1, nothing,
            [](pair_of& s) {
                s.c.advance_to(1000);
                s.c.advance_to(2000);
            },
            move_to<2000>, in_bounds),
        race(
            "second look | move on", 2, 1, move_to<0>, move_to<1000>,
            [](pair_of& s) {
                std::int64_t as_of = 0;
                int calls = 0;
                counter::receipt r;
                bool const granted = s.c.try_acquire_shared(
                    1, 0,
                    [&] {
                        if (++calls == 2) as_of = 1000;
                        return counter::usage{0, as_of};
                    },
                    r);
                if (granted) {
                    model::check(s.c.segment(r.head()) >= segment_of(as_of), "before what it was compared with");
                }
            },
            in_bounds),
    };
}

/// Kept, not shown to be needed. Of enter the acquire of head: no case was found in which the acquire of the attempt
/// that led there does not order as much. Of advance_to the acquire, before force_acquire, whose exchange of head is
/// of the newest. A head older than cached_segment_end_ could only be charged where program order and reads-from make
/// a cycle, which the standard's relaxed accesses allow and this search leaves out.
bool is_kept_unshown(std::string const& before, std::string const& line, std::string const& after) {
    auto const has = [](std::string const& text, char const* part) { return text.find(part) != std::string::npos; };
    return (has(before, "void advance_to") && has(line, "cached_segment_end_")) ||
           (has(before, "for (;;)") && has(line, "head_.load") && has(after, "bool const closing"));
}

std::vector<std::string> lines_of(std::string const& file) {
    std::vector<std::string> lines{"", ""};
    std::ifstream header{"../../include/weir/detail/" + file};
    for (std::string line; std::getline(header, line);) lines.push_back(line);
    return lines;
}

TEST(sliding_window_counter_model_long, each_memory_order_but_two_is_needed) {
    std::size_t kept = 0;
    auto const trials = trials_of_orders();
    std::vector<std::string> broken;
    auto const sites =
        model::sites_of({"window_state.hpp", "window_segments.hpp", "window_counter.hpp"}, trials, &broken);
    for (auto const& b : broken) ADD_FAILURE() << b;
    for (std::string const file : {"window_state.hpp", "window_segments.hpp", "window_counter.hpp"}) {
        auto const lines = lines_of(file);
        ASSERT_GT(lines.size(), 100U) << file;
        std::vector<model::earned> all;
        for (auto const& site : sites) {
            if (site.file != file) continue;
            for (auto& e : model::weaken(site, trials)) {
                std::cout << e.what << ": " << e.noticed_by << std::endl;
                if (is_kept_unshown(lines.at(site.line - 1), lines.at(site.line + 1), lines.at(site.line + 2))) {
                    ++kept;
                } else {
                    EXPECT_FALSE(e.noticed_by.empty()) << e.what << " is not needed, or the cases are blind";
                }
                all.push_back(std::move(e));
            }
        }
        for (auto const line : model::unreached("../../include/weir/detail/" + file, all)) {
            ADD_FAILURE() << "no case reaches " << file << ", line " << line;
        }
    }
    EXPECT_EQ(kept, 2U);
}

}  // namespace sliding_window_counter_orders_model_test
