// SPDX-License-Identifier: MIT
// sliding_window_log under random schedules, held against a log that keeps every stamp.
#include <weir/clock/manual_clock.hpp>
#include <weir/sliding_window_log.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "support/exact_log.hpp"

namespace sliding_window_log_schedules_test {

using namespace std::chrono_literals;
using weir::manual_clock;
using weir::permits;
using time_point = manual_clock::time_point;
using ns = std::chrono::nanoseconds;
template <class Atomics = weir::std_atomics>
using log_of = weir::sliding_window_log<manual_clock&, Atomics>;

constexpr time_point at(std::int64_t t) { return time_point{ns{t}}; }

std::size_t draw(std::mt19937_64& rng, std::size_t n) { return static_cast<std::size_t>(rng() % n); }

struct outcome {
    bool granted;
    std::int64_t retry_at;
    permits given_back;
    permits available;
    bool operator==(outcome const&) const = default;
};

// Times in order: every decision is the exact log's. Returns what happened, to compare policies.
template <class Atomics>
std::vector<outcome> follow_the_exact_log(std::uint64_t seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 rng{seed};
    std::size_t const capacity = std::vector<std::size_t>{1, 2, 3, 5, 12, 40, 100, 1'200}[draw(rng, 8)];
    std::size_t const limit = 1 + draw(rng, capacity);
    std::int64_t const window = std::vector<std::int64_t>{1, 2, 7, 50, 1'000, 60'000'000'000}[draw(rng, 6)];
    std::int64_t const pace = std::max<std::int64_t>(1, 2 * window / static_cast<std::int64_t>(limit));
    std::size_t const most = draw(rng, 3) == 0 ? limit + 1 : 1;  // at a time
    std::int64_t now = static_cast<std::int64_t>(rng() % 1'000'000'000);
    manual_clock clock{at(now)};
    std::size_t const first = draw(rng, limit + 1);
    weir::sliding_window_log<manual_clock&, Atomics> log{
        limit, ns{window}, {.initial = first, .capacity = capacity}, clock};
    exact_log::reference exact{limit, window};
    exact.take(limit - first, now);
    struct held {
        typename weir::sliding_window_log<manual_clock&, Atomics>::decision decision;
        std::size_t n;
        std::int64_t t;
        bool valid;
    };
    std::vector<held> receipts;
    std::vector<outcome> outcomes;
    for (int step = 0; step < 600; ++step) {
        switch (draw(rng, 8)) {
            case 0: now += static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(4 * window)); break;
            case 1:
            case 2: break;
            default: now += static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(pace)); break;
        }
        std::size_t const n = draw(rng, 4) == 0 ? draw(rng, most + 1) : 1;
        auto const expected = exact.retry_at(n, now);
        bool const grants = exact.grants(n, now);
        auto const looked = log.check(n, at(now));
        auto d = log.try_acquire(n, at(now));
        EXPECT_EQ(d.granted(), grants) << "step " << step << " n " << n;
        EXPECT_EQ(looked.granted(), grants);
        EXPECT_EQ(d.retry_at(), expected ? at(*expected) : time_point::max()) << "step " << step << " n " << n;
        EXPECT_EQ(looked.retry_at(), d.retry_at());
        if (testing::Test::HasFailure()) return outcomes;
        outcomes.push_back({d.granted(), d.retry_at().time_since_epoch().count(), 0, log.available(at(now))});
        if (d && n > 0) {
            exact.take(n, now);
            receipts.push_back({std::move(d), n, now, true});
        }
        if (!receipts.empty() && draw(rng, 4) == 0) {
            auto& r = receipts[draw(rng, 3) == 0 ? draw(rng, receipts.size()) : receipts.size() - 1];
            auto const got = log.refund(r.decision);
            if (!r.valid) {
                EXPECT_EQ(got, 0U);
            } else if (r.t + window > now) {
                EXPECT_EQ(got, r.n) << "step " << step;
                exact.give_back(r.n, r.t);
            } else {
                EXPECT_LE(got, r.n);
            }
            r.valid = false;
            outcomes.back().given_back = got;
        }
        if (draw(rng, 40) == 0) {
            std::size_t const l = 1 + draw(rng, capacity);
            EXPECT_FALSE(log.change({l, ns{window}}));
            if (l < exact.limit()) {
                for (auto& r : receipts) r.valid = false;
                ++now;  // or a receipt of several may give back a later permit of this very tick in its place
            }
            exact.limit(l);
        }
        EXPECT_EQ(log.available(at(now)), exact.available(now)) << "step " << step;
        if (testing::Test::HasFailure()) return outcomes;
    }
    return outcomes;
}

TEST(sliding_window_log, decides_as_the_exact_log_where_time_does_not_go_back) {
    for (std::uint64_t seed = 1; seed <= 400; ++seed) {
        follow_the_exact_log<weir::std_atomics>(seed);
        if (HasFailure()) return;
    }
}

TEST(sliding_window_log, decides_alike_with_plain_cells) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        EXPECT_EQ(follow_the_exact_log<weir::unsynchronized>(seed), follow_the_exact_log<weir::std_atomics>(seed));
        if (HasFailure()) return;
    }
}

TEST(sliding_window_log, continues_after_a_restart_as_if_there_had_been_none) {
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 rng{seed};
        std::size_t const limit = 1 + draw(rng, 50);
        manual_clock clock{at(1'000)};
        log_of<> before{limit, 100ns, clock};
        exact_log::reference exact{limit, 100};
        std::int64_t now = 1'000;
        auto run = [&](log_of<>& log) {
            for (int i = 0; i < 200; ++i) {
                now += static_cast<std::int64_t>(rng() % (300 / limit + 2));
                auto const expected = exact.retry_at(1, now);
                auto const d = log.try_acquire(at(now));
                ASSERT_EQ(d.granted(), exact.grants(1, now));
                ASSERT_EQ(d.retry_at(), at(*expected));
                if (d) exact.take(1, now);
            }
        };
        run(before);
        clock.advance_to(at(now));
        std::vector<time_point> saved;
        before.for_each_held(at(now), [&](time_point t) { saved.push_back(t); });
        std::shuffle(saved.begin(), saved.end(), rng);
        log_of<> after{limit, 100ns, clock};
        for (auto const t : saved) after.restore(t);
        run(after);
        if (HasFailure()) return;
    }
}

TEST(sliding_window_log, keeps_the_promise_where_time_points_come_in_any_order) {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 rng{seed};
        std::size_t const capacity = std::vector<std::size_t>{1, 2, 3, 8, 40, 70}[draw(rng, 6)];
        std::size_t limit = 1 + draw(rng, capacity);
        std::int64_t const window = static_cast<std::int64_t>(1 + rng() % 40);
        std::uint64_t const span = static_cast<std::uint64_t>(window) * (1 + rng() % 10);
        std::int64_t base = 0;
        manual_clock clock;
        log_of<> log{limit, ns{window}, {.capacity = capacity}, clock};
        std::multiset<std::int64_t> granted;
        struct held {
            log_of<>::decision decision;
            std::int64_t t;
        };
        std::vector<held> receipts;
        for (int step = 0; step < 500; ++step) {
            std::int64_t const t = base + static_cast<std::int64_t>(rng() % span) - static_cast<std::int64_t>(span / 2);
            std::size_t const n = draw(rng, 6) == 0 ? 1 + draw(rng, limit) : 1;
            auto d = log.try_acquire(n, at(t));
            if (d) {
                for (std::size_t i = 0; i < n; ++i) granted.insert(t);
                ASSERT_LE(exact_log::most_around(granted, t, window), limit) << "step " << step;
                receipts.push_back({std::move(d), t});
            } else {
                ASSERT_GT(d.retry_at(), at(t));
                ASSERT_FALSE(log.check(n, d.retry_at() - 1ns));
                ASSERT_TRUE(log.check(n, d.retry_at()));
            }
            if (!receipts.empty() && draw(rng, 3) == 0) {
                auto const i = draw(rng, receipts.size());
                auto const got = log.refund(receipts[i].decision);
                for (permits k = 0; k < got; ++k) granted.erase(granted.find(receipts[i].t));
                receipts.erase(receipts.begin() + static_cast<std::ptrdiff_t>(i));
            }
            if (draw(rng, 30) == 0) {
                limit = 1 + draw(rng, capacity);
                ASSERT_FALSE(log.change({limit, ns{window}}));
            }
            base += static_cast<std::int64_t>(rng() % 3);
        }
    }
}

// The twin sees no checks and no denials. Whatever times they name, later, earlier or now, both answer alike.
TEST(sliding_window_log, a_check_or_a_denial_changes_no_later_answer_at_any_time) {
    std::size_t seen = 0;
    for (std::uint64_t seed = 1; seed <= 400; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 rng{seed};
        std::size_t const capacity = std::vector<std::size_t>{1, 2, 8, 9, 12, 40, 100, 1'200}[draw(rng, 8)];
        std::size_t const limit = 1 + draw(rng, capacity);
        std::int64_t const window = std::vector<std::int64_t>{1, 7, 50, 1'000}[draw(rng, 4)];
        manual_clock clock;
        log_of<> log{limit, ns{window}, {.capacity = capacity}, clock};
        log_of<> twin{limit, ns{window}, {.capacity = capacity}, clock};
        struct held {
            log_of<>::decision mine;
            log_of<>::decision its;
        };
        std::vector<held> receipts;
        std::int64_t now = 0;
        auto const any_time = [&] {
            return now + static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(6 * window + 1)) - 3 * window;
        };
        for (int step = 0; step < 300; ++step) {
            for (std::size_t i = draw(rng, 4); i > 0; --i) {
                std::size_t const n = draw(rng, 3) == 0 ? draw(rng, log.limit() + 2) : 1;
                time_point const t = at(any_time());
                auto const looked = log.check(n, t);
                if (looked) continue;
                auto const denied = log.try_acquire(n, t);
                ASSERT_FALSE(denied);
                ASSERT_EQ(denied.retry_at(), looked.retry_at());
                (void)denied.full_at();
                ++seen;
            }
            now += static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(window)) / 2;
            time_point const t = at(draw(rng, 3) == 0 ? any_time() : now);
            std::size_t const n = draw(rng, 4) == 0 ? 1 + draw(rng, log.limit()) : 1;
            // The twin is asked only where it grants: its own checks and denials would be what is tested.
            auto mine = log.try_acquire(n, t);
            if (mine) {
                auto its = twin.try_acquire(n, t);
                ASSERT_TRUE(its) << "step " << step;
                receipts.push_back({std::move(mine), std::move(its)});
            }
            if (!receipts.empty() && draw(rng, 3) == 0) {
                auto& r = receipts[draw(rng, receipts.size())];
                ASSERT_EQ(log.refund(r.mine), twin.refund(r.its)) << "step " << step;
            }
            if (draw(rng, 60) == 0) {
                std::size_t const l = 1 + draw(rng, capacity);
                ASSERT_FALSE(log.change({l, ns{window}}));
                ASSERT_FALSE(twin.change({l, ns{window}}));
            }
            for (std::int64_t const dt : {-2 * window, -window / 2, std::int64_t{0}, window / 3, window}) {
                ASSERT_EQ(log.available(at(now + dt)), twin.available(at(now + dt))) << "step " << step << " at " << dt;
            }
        }
        std::vector<time_point> stamps;
        std::vector<time_point> expected;
        log.for_each_held(time_point::min(), [&](time_point t) { stamps.push_back(t); });
        twin.for_each_held(time_point::min(), [&](time_point t) { expected.push_back(t); });
        std::sort(stamps.begin(), stamps.end());
        std::sort(expected.begin(), expected.end());
        ASSERT_EQ(stamps, expected);
    }
    EXPECT_GT(seen, 10'000U);
}

}  // namespace sliding_window_log_schedules_test
