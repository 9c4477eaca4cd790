// SPDX-License-Identifier: MIT
#include <weir/all_of.hpp>
#include <weir/client/ack_window.hpp>
#include <weir/client/jitter_estimator.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/sliding_window_log.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <queue>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "../support/move_semantics.hpp"
#include "../support/stress.hpp"

namespace ack_window_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::manual_clock;
using window = weir::ack_window<manual_clock&>;
using time_point = manual_clock::time_point;
static_assert(weir::limiter<window>);

TEST(ack_window, a_slot_is_free_a_window_after_the_bound_of_its_arrival) {
    manual_clock clock;
    window w{1, 1s, {.max_delay = 30s}, clock};
    auto d = w.try_acquire();
    ASSERT_TRUE(d);
    clock.advance(5s);
    auto denied = w.try_acquire();
    EXPECT_FALSE(denied);
    EXPECT_TRUE(denied.may_be_sooner());
    EXPECT_EQ(denied.retry_at(), time_point{31s});
    EXPECT_TRUE(w.confirm(d, time_point{4s + 1ns}));
    EXPECT_FALSE(w.confirm(d));
    EXPECT_FALSE(w.check());
    EXPECT_FALSE(w.check().may_be_sooner());
    EXPECT_EQ(w.available(), 0U);
    clock.advance(1ns);
    EXPECT_EQ(w.available(), 1U);
    EXPECT_TRUE(w.check());
    EXPECT_TRUE(w.try_acquire());
}

TEST(ack_window, without_a_bound_it_is_free_after_max_delay_and_a_window) {
    manual_clock clock;
    window w{1, 1s, {.max_delay = 30s}, clock};
    auto d = w.try_acquire();
    clock.advance(31s - 1ns);
    EXPECT_FALSE(w.try_acquire());
    clock.advance(1ns);
    auto e = w.try_acquire();
    EXPECT_TRUE(e);
    EXPECT_FALSE(w.confirm(d));  // too late: the slot was taken again
    EXPECT_FALSE(w.check());
    EXPECT_TRUE(w.confirm(e, time_point{0s}));  // before it was sent: as it was sent
    clock.advance(1s - 1ns);
    EXPECT_FALSE(w.check());
    clock.advance(1ns);
    EXPECT_TRUE(w.check());
}

TEST(ack_window, what_never_left_gives_its_slot_back_as_it_was) {
    manual_clock clock;
    window w{2, 1s, {.max_delay = 30s}, clock};
    auto a = w.try_acquire();
    auto b = w.try_acquire();
    ASSERT_TRUE(a && b);
    EXPECT_FALSE(w.try_acquire());
    EXPECT_TRUE(w.refund(a));
    EXPECT_FALSE(w.refund(a));
    auto c = w.try_acquire();
    EXPECT_TRUE(c);
    EXPECT_FALSE(w.confirm(a));
    EXPECT_FALSE(w.try_acquire());
    EXPECT_TRUE(w.try_acquire(2).never());
    EXPECT_TRUE(w.try_acquire(2).error() == weir::errc::does_not_fit);
    EXPECT_EQ(w.try_acquire(2).retry_at(), time_point::max());
    EXPECT_TRUE(w.try_acquire(0));
}

TEST(ack_window, composes_by_all_of) {
    manual_clock clock;
    window w{5, 1s, {.max_delay = 30s}, clock};
    weir::sliding_window_log<manual_clock&> minute{2, 60s, clock};
    weir::all_of both{w, minute};
    EXPECT_TRUE(both.try_acquire());
    EXPECT_TRUE(both.try_acquire());
    EXPECT_FALSE(both.try_acquire());
    EXPECT_TRUE(w.check());
}

TEST(ack_window, refuses_bad_arguments_with_a_reason) {
    EXPECT_FALSE(window::validate(10, 1s, {.max_delay = 1s}));
    EXPECT_TRUE(window::validate(0, 1s, {.max_delay = 1s}));
    EXPECT_TRUE(window::validate(1'000'001, 1s, {.max_delay = 1s}));
    EXPECT_TRUE(window::validate(1, 0s, {.max_delay = 1s}));
    EXPECT_TRUE(window::validate(1, 1s, {.max_delay = 0s}));
    EXPECT_TRUE(window::validate(1, nanoseconds{std::int64_t{1} << 60U}, {.max_delay = 1s}));
    EXPECT_TRUE(window::validate(1, 1s, {.max_delay = nanoseconds{std::int64_t{1} << 60U}}));
    EXPECT_FALSE(window::validate(1, 1ns, {.max_delay = 1ns}));
    EXPECT_FALSE(window::validate(1'000'000, nanoseconds{(std::int64_t{1} << 60U) - 1},
                                  {.max_delay = nanoseconds{(std::int64_t{1} << 60U) - 1}}));
    manual_clock clock;
    EXPECT_THROW((window{0, 1s, {.max_delay = 1s}, clock}), std::invalid_argument);
    weir::ack_window<std::chrono::steady_clock, weir::unsynchronized> plain{1, 1s, {.max_delay = 1s}};
    EXPECT_TRUE(plain.try_acquire());
}

TEST(ack_window, threads_together_get_a_slot_once) {
    manual_clock clock;
    window w{50, 1h, {.max_delay = 1h}, clock};
    std::atomic<int> granted{0};
    hammer::on_threads(4, [&] {
        for (int i = 0; i < 5000; ++i) {
            auto d = w.try_acquire();
            if (d && i % 3 == 0) {
                EXPECT_TRUE(w.refund(d));
            } else if (d) {
                ++granted;
                if (i % 2 == 0) {
                    EXPECT_TRUE(w.confirm(d));
                }
            }
        }
    });
    EXPECT_EQ(granted.load(), 50);
}

TEST(ack_window, a_negative_count_is_denied_and_changes_nothing) {
    manual_clock clock;
    window w{1, 1s, {.max_delay = 30s}, clock};
    int const minus = -1;
    EXPECT_TRUE(w.try_acquire(minus).never());
    EXPECT_TRUE(w.check(minus).error() == weir::errc::invalid_argument);
    EXPECT_TRUE(window::validate(minus, 1s, {.max_delay = 1s}));
    EXPECT_TRUE(window::validate(1, 1s, {.max_delay = 1s, .initial = minus}));
    auto d = w.try_acquire();
    EXPECT_EQ(w.refund(d, minus), 0U);
    EXPECT_EQ(w.refund(d, 0), 0U);
    EXPECT_FALSE(w.settle(d, minus));
    EXPECT_EQ(w.refund(d, 5), 1U);
}

TEST(ack_window, a_decision_is_a_snapshot_with_what_is_left) {
    manual_clock clock;
    window w{2, 1s, {.max_delay = 30s}, clock};
    EXPECT_EQ(w.check().remaining(), 1U);
    auto a = w.try_acquire();
    EXPECT_EQ(a.remaining(), 1U);
    EXPECT_EQ(a.full_at(), clock.now());
    clock.advance(1s);
    EXPECT_EQ(w.check().remaining(), 0U);
    auto const b = w.try_acquire();
    EXPECT_EQ(b.remaining(), 0U);
    EXPECT_EQ(b.full_at(), time_point{31s});
    EXPECT_EQ(b.retry_after(), 0ns);
    EXPECT_EQ(w.try_acquire().retry_after_seconds(), 30);
    w.confirm(a);
    EXPECT_EQ(b.full_at(), time_point{31s});
    EXPECT_EQ(w.try_acquire(2, time_point::min()).retry_after_seconds(), 946'728'000);
}

TEST(ack_window, settle_confirms_or_refunds_once) {
    manual_clock clock;
    window w{1, 1s, {.max_delay = 30s}, clock};
    auto a = w.try_acquire();
    EXPECT_TRUE(w.settle(a, 0));
    EXPECT_FALSE(w.settle(a, 0));
    auto b = w.try_acquire();
    ASSERT_TRUE(b);
    EXPECT_TRUE(w.settle(b, 1));
    EXPECT_EQ(w.check().retry_at(), time_point{1s});
}

TEST(ack_window, change_to_its_own_limits_changes_nothing_and_no_other_is_offered) {
    manual_clock clock;
    window w{2, 1s, {.max_delay = 30s}, clock};
    EXPECT_FALSE(w.change(w.limits()));
    EXPECT_TRUE(w.change({3, 1s}) == weir::errc::unsupported);
    EXPECT_TRUE(w.change({2, 2s}) == weir::errc::unsupported);
    EXPECT_TRUE(w.change({0, 1s}) == weir::errc::invalid_argument);
}

TEST(ack_window, slots_beyond_initial_are_free_one_window_later) {
    manual_clock clock;
    weir::ack_window w{3, 1.5s, {.max_delay = 0.5min, .initial = 1}, std::ref(clock)};
    static_assert(std::is_same_v<decltype(w), window>);
    EXPECT_TRUE(w.try_acquire());
    EXPECT_EQ(w.try_acquire().retry_at(), time_point{1500ms});
    clock.advance(1500ms);
    EXPECT_TRUE(w.try_acquire());
    EXPECT_TRUE(w.try_acquire());
    EXPECT_FALSE(w.try_acquire());
}

/// A path: a request takes `least` to least + spread, and one in a hundred `stall` more; the answer is read `answer`
/// and once more such a delay after the arrival; the server says what it took, or not.
struct path {
    char const* name;
    nanoseconds least, spread, stall, answer;
    bool says_took;
};
struct outcome {
    std::uint64_t served = 0, refused = 0;
};

/// Ten a second, endless work, ten minutes; the server counts arrivals in any second exactly. `use` is an ack_window or
/// a log of a second and J.
template <class Limiter>
outcome run(path const& p, Limiter& l, manual_clock& clock, std::uint64_t seed, weir::jitter_estimator* m) {
    std::mt19937_64 random{seed};
    auto const delay = [&] {
        auto const d =
            p.least + nanoseconds{static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(p.spread.count()))};
        return random() % 100 == 0 ? d + p.stall : d;
    };
    struct call {
        std::int64_t arrival, heard;
        typename Limiter::decision d;
    };
    std::deque<call> calls;
    using event = std::pair<std::int64_t, std::size_t>;
    std::priority_queue<event, std::vector<event>, std::greater<>> arrivals, answers;
    std::deque<std::int64_t> second;
    outcome o;
    auto const ns = [&] { return clock.now().time_since_epoch().count(); };
    auto const end = clock.now() + 600s;
    while (clock.now() < end) {
        while (!arrivals.empty() && arrivals.top().first <= ns()) {
            auto const t = arrivals.top().first;
            arrivals.pop();
            while (!second.empty() && second.front() <= t - 1'000'000'000) second.pop_front();
            if (second.size() >= 10) {
                ++o.refused;
            } else {
                second.push_back(t);
                ++o.served;
            }
        }
        while (!answers.empty() && answers.top().first <= ns()) {
            auto& c = calls[answers.top().second];
            answers.pop();
            auto const took = p.says_took ? p.answer : nanoseconds{0};
            if constexpr (std::is_same_v<Limiter, window>) l.confirm(c.d, time_point{nanoseconds{c.heard} - took});
        }
        auto d = l.try_acquire(1, clock.now());
        if (d) {
            std::int64_t const arrival = ns() + delay().count();
            std::int64_t const heard = arrival + (p.answer + delay()).count();
            if (m) m->arrived(clock.now().time_since_epoch(), nanoseconds{arrival});
            arrivals.push({arrival, calls.size()});
            answers.push({heard, calls.size()});
            calls.push_back({arrival, heard, std::move(d)});
            continue;
        }
        auto to = std::min(d.retry_at(), end);
        if (!arrivals.empty()) to = std::min(to, time_point{nanoseconds{arrivals.top().first}});
        if (!answers.empty()) to = std::min(to, time_point{nanoseconds{answers.top().first}});
        clock.advance_to(std::max(to, clock.now() + 1ns));
    }
    return o;
}

TEST(ack_window, wins_against_a_margin_where_the_mean_time_to_its_bound_is_below_jitter) {
    path const paths[] = {
        {"steady path, 40 to 60 ms; answer in 10 s, no time said", 40ms, 20ms, 0ms, 10s, false},
        {"steady path, 40 to 60 ms; answer in 10 s, time said", 40ms, 20ms, 0ms, 10s, true},
        {"steady path, 40 to 60 ms; answer in 20 ms", 40ms, 20ms, 0ms, 20ms, false},
        {"stalls of 300 ms, else 5 to 10 ms; answer in 20 ms", 5ms, 5ms, 300ms, 20ms, false},
        {"stalls of 300 ms, else 5 to 10 ms; answer in 700 ms", 5ms, 5ms, 300ms, 700ms, false},
        {"stalls of 300 ms, else 5 to 10 ms; answer in 700 ms, time said", 5ms, 5ms, 300ms, 700ms, true},
    };
    bool const window_wins[] = {false, false, false, true, false, true};
    for (std::size_t i = 0; i < std::size(paths); ++i) {
        auto const& p = paths[i];
        manual_clock clock;
        window w{10, 1s, {.max_delay = 60s}, clock};
        auto const arrival = run(p, w, clock, 1, nullptr);
        // The margin is measured beforehand, on another stretch of the same path.
        weir::jitter_estimator m{};
        manual_clock before;
        weir::sliding_window_log<manual_clock&> first{10, 2s, before};
        run(p, first, before, 2, &m);
        manual_clock clock2;
        weir::sliding_window_log<manual_clock&> log{10, 1s + m.jitter(), clock2};
        auto const margin = run(p, log, clock2, 1, nullptr);
        std::printf("%-63s ack_window %5.1f%%, J = %3.0f ms: %5.1f%%\n", p.name,
                    static_cast<double>(arrival.served) / 60, static_cast<double>(m.jitter().count()) / 1e6,
                    static_cast<double>(margin.served) / 60);
        EXPECT_EQ(arrival.refused, 0U) << p.name;
        EXPECT_EQ(margin.refused, 0U) << p.name;
        EXPECT_EQ(arrival.served > margin.served, window_wins[i]) << p.name;
    }
}

TEST(ack_window, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    window w{1, 1s, {.max_delay = 30s}, clock};
    auto a = w.try_acquire();
    clock.advance(1ms);
    auto denied = w.try_acquire();
    ASSERT_TRUE(a && !denied);
    auto const said = moved::said_by(a);
    auto const refused = moved::said_by(denied);
    auto& itself = a;
    a = std::move(itself);
    EXPECT_EQ(moved::said_by(a), said);
    auto made = std::move(denied);
    EXPECT_EQ(moved::said_by(made), refused);
    EXPECT_TRUE(made.may_be_sooner());
    made = std::move(a);
    EXPECT_EQ(moved::said_by(made), said);
    EXPECT_FALSE(w.confirm(a)) << "moved from";  // NOLINT(bugprone-use-after-move): that is the point
    EXPECT_FALSE(w.refund(a));                   // NOLINT(bugprone-use-after-move)
    EXPECT_TRUE(w.refund(made));
    EXPECT_FALSE(w.refund(made)) << "once";
    EXPECT_EQ(w.available(), 1U);
}

TEST(ack_window, asks_for_one_permit_where_none_is_named) {
    manual_clock clock;
    window l{1, 1s, {.max_delay = 30s}, clock};
    EXPECT_TRUE(l.check());
    EXPECT_FALSE(l.check(2));
    EXPECT_TRUE(l.try_acquire());
    EXPECT_FALSE(l.check());
}

}  // namespace ack_window_test
