// SPDX-License-Identifier: MIT
#include <weir/clock/manual_clock.hpp>
#include <weir/sliding_window_log.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <random>
#include <ratio>
#include <set>
#include <stdexcept>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/exact_log.hpp"
#include "support/move_semantics.hpp"
#include "support/preemption_injection.hpp"
#include "support/stress.hpp"

namespace {

using namespace std::chrono_literals;
using hammer::counting_atomics;
using weir::log_options;
using weir::manual_clock;
using weir::permits;
using weir::start;
using time_point = manual_clock::time_point;
using ns = std::chrono::nanoseconds;
template <class Atomics = weir::std_atomics>
using log_of = weir::sliding_window_log<manual_clock&, Atomics>;
using words = weir::detail::log_words;

static_assert(weir::old_limiter<weir::sliding_window_log<>>);
static_assert(!std::is_copy_constructible_v<log_of<>::decision> &&
              std::is_nothrow_move_constructible_v<log_of<>::decision>);

constexpr time_point at(std::int64_t t) { return time_point{ns{t}}; }

// ---- the steps of a word ----

namespace steps {
constexpr auto w = words::slot(100, words::held);
static_assert(words::stamp(w) == 100 && words::state_of(w) == words::held);
static_assert(words::taken(words::slot(5, words::loose), 100) == w);
static_assert(words::taken(words::slot(5, words::frozen), 100) == words::slot(100, words::frozen));
static_assert(words::key(words::with_state(w, words::retired)) == words::no_stamp);
static_assert(words::stamp(words::with_state(w, words::retired)) == 100);
static_assert(words::given_back(100, 30) == words::slot(70, words::loose));
// A bound that is lowered is a new word, even where it was low enough.
constexpr auto b = words::bound(50);
static_assert(words::stamp(words::lowered(b, 40)) == 40 && words::stamp(words::lowered(b, 60)) == 50);
static_assert(words::lowered(b, 60) == b + 1 && words::lowered(b + 15, 60) == b);
static_assert(words::raised(words::lowered(b, 40), 45) == words::bound(45) + 1);
}  // namespace steps

// ---- the references ----

// The exact log: all stamps, in order of time.
class whole_log {
public:
    whole_log(std::size_t limit, std::int64_t window) : limit_{limit}, window_{window} {}

    std::size_t live(std::int64_t t) const {
        return static_cast<std::size_t>(std::distance(stamps_.upper_bound(t - window_), stamps_.end()));
    }
    std::size_t available(std::int64_t t) const { return live(t) < limit_ ? limit_ - live(t) : 0; }
    bool grants(std::size_t n, std::int64_t t) const { return n == 0 || (n <= limit_ && live(t) + n <= limit_); }
    std::optional<std::int64_t> retry_at(std::size_t n, std::int64_t t) const {
        if (grants(n, t)) return t;
        if (n > limit_) return {};
        return *std::next(stamps_.rbegin(), static_cast<std::ptrdiff_t>(limit_ - n)) + window_;
    }
    void take(std::size_t n, std::int64_t t) {
        for (std::size_t i = 0; i < n; ++i) stamps_.insert(t);
    }
    void give_back(std::size_t n, std::int64_t t) {
        for (std::size_t i = 0; i < n; ++i) stamps_.erase(stamps_.find(t));
    }
    void limit(std::size_t n) { limit_ = n; }
    std::size_t limit() const { return limit_; }

private:
    std::size_t limit_;
    std::int64_t window_;
    std::multiset<std::int64_t> stamps_;
};

// The most stamps in any half-open window.
std::size_t most_in_a_window(std::vector<std::int64_t> const& stamps, std::int64_t window) {
    std::vector<exact_log::grant> grants;
    for (auto const t : stamps) grants.push_back({t, 1});
    return static_cast<std::size_t>(exact_log::peak(std::move(grants), window));
}

// Of the windows that hold t, the most stamps in one.
std::size_t most_around(std::multiset<std::int64_t> const& stamps, std::int64_t t, std::int64_t window) {
    return most_in_a_window({stamps.upper_bound(t - window), stamps.lower_bound(t + window)}, window);
}

std::size_t draw(std::mt19937_64& rng, std::size_t n) { return static_cast<std::size_t>(rng() % n); }

// ---- the contract, one by one ----

TEST(sliding_window_log, grants_its_limit_and_denies_until_the_first_is_a_window_old) {
    manual_clock clock;
    weir::sliding_window_log log{3, 1s, clock};
    static_assert(std::is_same_v<decltype(log), log_of<>>);
    for (int i = 0; i < 3; ++i) {
        auto const d = log.try_acquire();
        EXPECT_TRUE(d);
        EXPECT_EQ(d.retry_at(), clock.now());
        EXPECT_EQ(d.retry_after(), 0ns);
        clock.advance(1ms);
    }
    auto const d = log.try_acquire();
    EXPECT_FALSE(d.granted());
    EXPECT_FALSE(d.never());
    EXPECT_EQ(d.retry_at(), at(0) + 1s);
    EXPECT_EQ(d.retry_after(), 997ms);
    clock.advance(d.retry_after() - 1ns);
    EXPECT_FALSE(log.try_acquire());
    EXPECT_FALSE(log.check());
    clock.advance(1ns);
    EXPECT_TRUE(log.check());
    EXPECT_TRUE(log.try_acquire());
    EXPECT_FALSE(log.try_acquire());
}

TEST(sliding_window_log, spends_no_burst_across_the_edge_of_a_window) {
    manual_clock clock;
    log_of<> log{10, 1s, clock};
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(log.try_acquire(at(999'999'999)));
    EXPECT_FALSE(log.try_acquire(at(1'000'000'000)));
    EXPECT_EQ(log.try_acquire(at(1'000'000'000)).retry_at(), at(1'999'999'999));
}

TEST(sliding_window_log, takes_several_permits_or_none) {
    manual_clock clock;
    log_of<> log{5, 1s, clock};
    EXPECT_TRUE(log.try_acquire(3));
    clock.advance(10ms);
    auto const d = log.try_acquire(3);
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), at(0) + 1s);
    EXPECT_EQ(log.available(), 2U);
    EXPECT_TRUE(log.try_acquire(2));
    EXPECT_EQ(log.check(4).retry_at(), at(0) + 1010ms);
    EXPECT_EQ(log.available(at(0) + 1s), 3U);
    EXPECT_EQ(log.available(at(0) + 1010ms), 5U);
}

TEST(sliding_window_log, grants_no_permits_at_any_time_and_never_more_than_the_limit) {
    manual_clock clock;
    log_of<> log{2, 1s, log_options{start::empty(), 4}, clock};
    EXPECT_TRUE(log.try_acquire(0));
    EXPECT_TRUE(log.check(0));
    auto const d = log.try_acquire(3);
    EXPECT_TRUE(d.never());
    EXPECT_FALSE(d);
    EXPECT_EQ(d.retry_at(), time_point::max());
    EXPECT_EQ(d.retry_after(), ns::max());
    EXPECT_TRUE(log.check(3).never());
    EXPECT_TRUE(log.try_acquire(std::numeric_limits<permits>::max()).never());
    EXPECT_FALSE(log.try_acquire(2).never());
}

TEST(sliding_window_log, check_and_available_charge_nothing) {
    manual_clock clock;
    log_of<> log{2, 1s, clock};
    for (int i = 0; i < 10; ++i) {
        EXPECT_TRUE(log.check(2));
        EXPECT_TRUE(log.check());
        EXPECT_TRUE(log.check(clock.now()));
        EXPECT_EQ(log.available(), 2U);
    }
    auto const d = log.check();
    EXPECT_EQ(d.live(), 0U);
}

TEST(sliding_window_log, refunds_exactly_and_once) {
    manual_clock clock;
    log_of<> log{1, 1s, clock};
    auto first = log.try_acquire(at(0));
    ASSERT_TRUE(first);
    EXPECT_EQ(first.live(), 1U);
    auto second = log.try_acquire(at(1'500'000'000));
    ASSERT_TRUE(second);
    EXPECT_EQ(log.refund(second), 1U);
    EXPECT_EQ(log.refund(second), 0U);
    EXPECT_EQ(second.live(), 0U);
    // The slot is back at its stamp before: free from 1 s on, not earlier.
    EXPECT_EQ(log.check(at(999'999'999)).retry_at(), at(1'000'000'000));
    EXPECT_EQ(log.refund(first), 1U);
    EXPECT_TRUE(log.check(at(0)));
    EXPECT_TRUE(log.try_acquire(at(7)));
    EXPECT_FALSE(log.check(at(8)));
}

TEST(sliding_window_log, a_refund_after_its_slot_was_taken_again_does_nothing) {
    manual_clock clock;
    log_of<> log{1, 10ns, clock};
    auto first = log.try_acquire(at(0));
    ASSERT_TRUE(log.try_acquire(at(10)));
    EXPECT_EQ(log.refund(first), 0U);
    EXPECT_EQ(log.check(at(11)).retry_at(), at(20));
}

TEST(sliding_window_log, a_single_permit_goes_back_to_what_its_slot_was_before_however_it_was_asked_for) {
    manual_clock clock;
    auto const at = [](auto d) { return manual_clock::time_point{d}; };
    for (int way = 0; way < 3; ++way) {
        log_of<> log{1, 1s, clock};
        clock.advance_to(std::max(clock.now(), at(10s)));
        auto d = way == 0   ? log.try_acquire()
                 : way == 1 ? log.try_acquire(1, clock.now())
                            : log.try_acquire(clock.now());
        ASSERT_TRUE(d);
        EXPECT_EQ(log.refund(d), 1U);
        EXPECT_TRUE(log.check(1, clock.now() - 500ms)) << way;
    }
}

TEST(sliding_window_log, a_receipt_moves_and_belongs_to_one_limiter) {
    manual_clock clock;
    log_of<> log{1, 1s, clock};
    log_of<> other{1, 1s, clock};
    auto d = log.try_acquire();
    auto d2 = other.try_acquire();
    EXPECT_EQ(other.refund(d), 0U);
    log_of<>::decision moved{std::move(d)};
    EXPECT_EQ(log.refund(d), 0U);  // NOLINT(bugprone-use-after-move): that it is spent is the point
    EXPECT_EQ(log.refund(moved), 1U);
    EXPECT_TRUE(log.try_acquire());
    d = std::move(d2);
    EXPECT_EQ(other.refund(d2), 0U);  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(other.refund(d), 1U);
    auto denied = log.try_acquire();
    EXPECT_EQ(log.refund(denied), 0U);
    log_of<>::decision none;
    EXPECT_EQ(log.refund(none), 0U);
}

TEST(sliding_window_log, a_part_of_several_permits_is_refunded_and_the_rest_once) {
    manual_clock clock;
    log_of<> log{8, 1s, clock};
    auto mine = log.try_acquire(3);
    auto others = log.try_acquire(3);
    log_of<> stranger{8, 1s, clock};
    EXPECT_EQ(stranger.refund(mine, 1), 0U);
    EXPECT_EQ(log.refund(mine, 0), 0U);
    EXPECT_EQ(log.refund(mine, 2), 2U);
    EXPECT_EQ(log.available(), 4U);
    EXPECT_EQ(log.refund(mine, 5), 1U);
    EXPECT_EQ(log.refund(mine, 1), 0U);
    EXPECT_EQ(log.available(), 5U);
    EXPECT_EQ(log.refund(others), 3U);
    EXPECT_EQ(log.available(), 8U);
}

TEST(sliding_window_log, several_permits_are_refunded_together_and_others_of_the_same_time_stay_refundable) {
    manual_clock clock;
    log_of<> log{6, 1s, clock};
    auto a = log.try_acquire(at(5));
    auto b = log.try_acquire(3, at(5));
    auto c = log.try_acquire(at(5));
    ASSERT_TRUE(a && b && c);
    EXPECT_EQ(log.refund(b), 3U);
    EXPECT_EQ(log.refund(b), 0U);
    EXPECT_EQ(log.available(at(6)), 4U);
    EXPECT_EQ(log.refund(c), 1U);
    EXPECT_EQ(log.refund(a), 1U);
    EXPECT_EQ(log.available(at(6)), 6U);
    EXPECT_TRUE(log.try_acquire(6, at(6)));
}

TEST(sliding_window_log, a_lower_limit_counts_what_was_taken_and_voids_receipts) {
    manual_clock clock;
    log_of<> log{5, 100ns, clock};
    std::vector<log_of<>::decision> taken;
    for (int i = 0; i < 5; ++i) taken.push_back(log.try_acquire(at(i)));
    EXPECT_FALSE(log.change_limit(2));
    EXPECT_EQ(log.limit(), 2U);
    for (auto& d : taken) EXPECT_EQ(log.refund(d), 0U);
    // The two newest are of 3 and 4: only when the first of these is a window old does the window hold less than two.
    EXPECT_EQ(log.check(at(5)).retry_at(), at(103));
    EXPECT_EQ(log.check(2, at(5)).retry_at(), at(104));
    EXPECT_TRUE(log.check(3, at(5)).never());
    auto d = log.try_acquire(at(103));
    ASSERT_TRUE(d);
    EXPECT_EQ(log.refund(d), 1U);
    EXPECT_TRUE(log.try_acquire(at(103)));
}

TEST(sliding_window_log, a_limit_raised_again_remembers_what_was_cut_off) {
    manual_clock clock;
    log_of<> log{3, 100ns, log_options{start::full(), 5}, clock};
    for (int i = 0; i < 3; ++i) ASSERT_TRUE(log.try_acquire(at(i)));
    EXPECT_FALSE(log.change_limit(1));
    EXPECT_FALSE(log.change_limit(3));
    EXPECT_EQ(log.check(at(50)).retry_at(), at(100));
    EXPECT_FALSE(log.change_limit(5));
    EXPECT_EQ(log.available(at(50)), 2U);
    EXPECT_TRUE(log.try_acquire(2, at(50)));
    EXPECT_FALSE(log.try_acquire(at(50)));
    EXPECT_TRUE(log.change_limit(6));
    EXPECT_TRUE(log.change_limit(0));
    EXPECT_FALSE(log.change_limit(5));
    EXPECT_EQ(log.limit(), 5U);
    EXPECT_EQ(log.capacity(), 5U);
}

TEST(sliding_window_log, starts_full_empty_or_with_so_many) {
    manual_clock clock{at(1'000'000)};
    log_of<> empty{3, 1s, start::empty(), clock};
    EXPECT_EQ(empty.try_acquire().retry_at(), clock.now() + 1s);
    EXPECT_TRUE(empty.try_acquire(3, clock.now() + 1s));
    log_of<> part{30, 1s, start::with(12), clock};
    EXPECT_EQ(part.available(), 12U);
    EXPECT_TRUE(part.try_acquire(12));
    EXPECT_FALSE(part.try_acquire());
    log_of<> more{3, 1s, start::with(7), clock};
    EXPECT_EQ(more.available(), 3U);
    weir::sliding_window_log by_default{3, 1s, start::with(1)};
    static_assert(std::is_same_v<decltype(by_default), weir::sliding_window_log<>>);
    EXPECT_EQ(by_default.available(), 1U);
}

TEST(sliding_window_log, restores_saved_stamps_in_any_order_and_the_newest_count) {
    manual_clock clock{at(1'000)};
    log_of<> log{3, 100ns, clock};
    for (std::int64_t t : {950, 990, 910, 970, 930}) log.restore(at(t));
    EXPECT_EQ(log.try_acquire().retry_at(), at(1'050));
    EXPECT_EQ(log.check(2).retry_at(), at(1'070));
    EXPECT_EQ(log.check(3).retry_at(), at(1'090));
    std::vector<std::int64_t> held;
    log.for_each_held(clock.now(), [&](time_point t) { held.push_back(t.time_since_epoch().count()); });
    std::sort(held.begin(), held.end());
    EXPECT_EQ(held, (std::vector<std::int64_t>{950, 970, 990}));
    log_of<> again{3, 100ns, clock};
    again.restore(7, at(990));
    EXPECT_EQ(again.try_acquire().retry_at(), at(1'090));
}

TEST(sliding_window_log, starts_empty_at_either_end_of_its_clock) {
    for (auto const origin : {time_point::min(), time_point::min() + 1h, time_point::max() - 1h}) {
        manual_clock clock{origin};
        log_of<> log{2, 1s, start::empty(), clock};
        EXPECT_FALSE(log.check(origin + 1s - 1ns));
        EXPECT_EQ(log.try_acquire(origin).retry_at(), origin + 1s);
        EXPECT_TRUE(log.try_acquire(2, origin + 1s));
    }
}

TEST(sliding_window_log, a_time_in_the_future_is_trusted) {
    manual_clock clock;
    log_of<> log{1, 100ns, clock};
    EXPECT_TRUE(log.try_acquire(at(5'000)));
    EXPECT_EQ(log.try_acquire().retry_at(), at(5'100));
    EXPECT_FALSE(log.check(at(5'099)));
}

TEST(sliding_window_log, refuses_bad_arguments_with_a_reason) {
    manual_clock clock;
    using log = log_of<>;
    EXPECT_TRUE(log::validate(0, 1s));
    EXPECT_TRUE(log::validate(1, 0s));
    EXPECT_TRUE(log::validate(1, -1s));
    EXPECT_FALSE(log::validate(1, 1ns));
    EXPECT_FALSE(log::validate(permits{1} << 24U, 1s));
    EXPECT_TRUE(log::validate((permits{1} << 24U) + 1, 1s));
    EXPECT_TRUE(log::validate(1, 1s, log_options{start::full(), (permits{1} << 24U) + 1}));
    EXPECT_TRUE(log::validate(5, 1s, log_options{start::full(), 4}));
    EXPECT_FALSE(log::validate(5, 1s, log_options{start::full(), 5}));
    EXPECT_FALSE(log::validate(5, 24h * 359));
    EXPECT_TRUE(log::validate(5, 24h * 360));
    EXPECT_TRUE(log::validate(5, ns::max()));
    EXPECT_FALSE(log::validate(5, 10ms, {}, 10ms));
    EXPECT_TRUE(log::validate(5, 10ms, {}, 11ms));
    auto const bad = log::make(0, 1s, {}, clock);
    ASSERT_FALSE(bad);
    EXPECT_NE(bad.error(), weir::errc::none);
    auto const good = log::make(4, 1s, start::with(2), clock);
    ASSERT_TRUE(good);
    EXPECT_EQ(good->available(), 2U);
    EXPECT_TRUE(weir::sliding_window_log<>::make(4, 1s));
    EXPECT_FALSE(weir::sliding_window_log<>::make(4, 0s));
#if defined(__cpp_exceptions)
    EXPECT_THROW((log{0, 1s, clock}), std::invalid_argument);
    EXPECT_THROW((log{1, -1s, clock}), std::invalid_argument);
    EXPECT_THROW((log{(permits{1} << 24U) + 1, 1s, clock}), std::invalid_argument);
#endif
}

struct picosecond_clock {
    using duration = std::chrono::duration<std::int64_t, std::pico>;
    using time_point = std::chrono::time_point<picosecond_clock, duration>;
    static time_point now() { return {}; }
};
struct second_clock {
    using duration = std::chrono::duration<std::int32_t>;
    using time_point = std::chrono::time_point<second_clock, duration>;
    static time_point now() { return time_point{duration{1'000}}; }
};
struct slow_clock : second_clock {
    static duration resolution() { return duration{60}; }
};

TEST(sliding_window_log, works_with_coarse_clocks_and_refuses_those_that_do_not_fit) {
    using p = weir::sliding_window_log<picosecond_clock>;
    EXPECT_TRUE(p::validate(1, picosecond_clock::duration{1'000}));
    weir::sliding_window_log<second_clock> log{2, std::chrono::seconds{10}};
    EXPECT_TRUE(log.try_acquire());
    EXPECT_TRUE(log.try_acquire());
    EXPECT_EQ(log.try_acquire().retry_after(), second_clock::duration{10});
    EXPECT_TRUE(log.try_acquire(2, second_clock::time_point::max() - second_clock::duration{3}));
    EXPECT_TRUE(log.try_acquire(second_clock::time_point::max()).never());  // where such a clock ends
    EXPECT_FALSE(weir::sliding_window_log<slow_clock>::make(2, std::chrono::seconds{59}));
    EXPECT_TRUE(weir::sliding_window_log<slow_clock>::make(2, std::chrono::seconds{60}));
}

TEST(sliding_window_log, is_exact_for_thirty_years_and_denies_after_its_end) {
    constexpr auto years = std::chrono::seconds{946'728'000};
    for (auto const origin : {at(0), at(1'700'000'000'000'000'000), time_point::min() + 24h * 366 * 5}) {
        manual_clock clock{origin};
        log_of<> log{2, 24h * 359, clock};
        EXPECT_TRUE(log.try_acquire(2));
        auto const late = origin + years;
        if (late < origin) continue;
        EXPECT_TRUE(log.try_acquire(late - 24h));
        EXPECT_TRUE(log.try_acquire(late));
        EXPECT_EQ(log.try_acquire(late).retry_at(), late - 24h + 24h * 359);
        EXPECT_FALSE(log.check(late - 24h + 24h * 359 - 1ns));
        EXPECT_TRUE(log.check(late - 24h + 24h * 359));
    }
    manual_clock clock;
    log_of<> log{2, 1s, clock};
    EXPECT_TRUE(log.try_acquire(2, time_point::max()));
    EXPECT_TRUE(log.try_acquire(time_point::max()).never());
    EXPECT_TRUE(log.try_acquire(at(0)).never());
    log_of<> early{2, 1s, clock};
    EXPECT_TRUE(early.try_acquire(2, time_point::min()));
    EXPECT_FALSE(early.try_acquire(time_point::min()));
    EXPECT_TRUE(early.try_acquire(at(0)));
}

// Plain cells that count how many were made.
std::size_t cells_made = 0;
struct counted_cells {
    template <class T>
    struct atomic : weir::unsynchronized::atomic<T> {
        atomic(T value) noexcept : weir::unsynchronized::atomic<T>{value} { ++cells_made; }
    };
};

TEST(sliding_window_log, makes_its_slots_at_construction_and_none_later) {
    manual_clock clock;
    cells_made = 0;
    log_of<counted_cells> log{100, 1s, log_options{start::full(), 2'000}, clock};
    auto const before = cells_made;
    EXPECT_GE(before, 2'000U);
    EXPECT_LE(before, 2'000U + 2 * 2'000U / 31 + 10);
    for (int i = 0; i < 1'000; ++i) {
        clock.advance(3ms);
        auto d = log.try_acquire();
        (void)log.try_acquire(40);
        (void)log.check(99);
        if (i % 3 == 0) log.refund(d);
        if (i % 100 == 0) (void)log.change_limit(static_cast<permits>(100 + i));
    }
    EXPECT_EQ(cells_made, before);
}

// ---- random schedules ----

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
    weir::sliding_window_log<manual_clock&, Atomics> log{limit, ns{window}, log_options{start::with(first), capacity},
                                                         clock};
    whole_log exact{limit, window};
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
            EXPECT_FALSE(log.change_limit(l));
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
        whole_log exact{limit, 100};
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
        log_of<> log{limit, ns{window}, log_options{start::full(), capacity}, clock};
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
                ASSERT_LE(most_around(granted, t, window), limit) << "step " << step;
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
                ASSERT_FALSE(log.change_limit(limit));
            }
            base += static_cast<std::int64_t>(rng() % 3);
        }
    }
}

// The tree with nodes of two: many levels over few slots.
TEST(sliding_window_log, a_deep_tree_finds_what_is_free_and_denies_only_when_nothing_is) {
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        std::mt19937_64 rng{seed};
        auto const size = static_cast<std::uint32_t>(1 + draw(rng, 40));
        weir::detail::log_slots<weir::unsynchronized, 2> slots{size, size, 100, 0, 0};
        whole_log exact{size, 100};
        std::vector<weir::detail::log_grip> grips;
        std::int64_t now = 1 << 30;
        for (int step = 0; step < 400; ++step) {
            now += static_cast<std::int64_t>(rng() % (220 / size + 1));
            auto const x = static_cast<std::uint64_t>(now);
            weir::detail::log_grip g;
            std::uint64_t oldest = 0;
            bool const grants = exact.grants(1, now);
            ASSERT_EQ(slots.can_take(x, oldest), grants);
            ASSERT_EQ(slots.take(x, g, oldest), grants);
            if (grants) {
                exact.take(1, now);
                grips.push_back(g);
            } else {
                ASSERT_EQ(oldest + 100, static_cast<std::uint64_t>(*exact.retry_at(1, now)));
            }
            if (!grips.empty() && draw(rng, 3) == 0) {
                std::swap(grips[draw(rng, grips.size())], grips.back());
                auto const t = static_cast<std::int64_t>(words::stamp(grips.back().after));
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

// ---- others in between ----

struct crowd {
    using table = weir::detail::log_slots<preemption_injection, 2>;
    struct held {
        weir::detail::log_grip grip;
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
        weir::detail::log_grip g;
        std::uint64_t oldest = 0;
        bool const granted = n == 1 ? slots.take(stamp(t), g, oldest) : slots.take_many(n, stamp(t), g, oldest);
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
            ASSERT_LE(most_around(permits_held, t, window), limit);
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
            ASSERT_LE(most_around(permits_held, r.t, window), capacity);
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
            ASSERT_LE(most_in_a_window({permits_held.begin(), permits_held.end()}, window), capacity);
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
    whole_log exact;
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
    EXPECT_GT(operations, 2U * 300 * 120) << "nobody came in between";
}

TEST(sliding_window_log, wherever_one_stalls_the_promise_holds_and_nothing_is_lost) { run_crowds(false, false); }

TEST(sliding_window_log, wherever_one_stalls_the_promise_holds_for_several_at_once) { run_crowds(true, false); }

TEST(sliding_window_log, wherever_one_stalls_a_change_of_limit_keeps_the_promise) { run_crowds(false, true); }

TEST(sliding_window_log, wherever_one_stalls_a_change_of_limit_keeps_the_promise_for_several_at_once) {
    run_crowds(true, true);
}

// Who loses the race for many, after any of its steps, has given back all of them: more than it can remember words of.
TEST(sliding_window_log, wherever_another_comes_first_a_take_of_many_leaves_nothing_behind) {
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
            weir::detail::log_grip g;
            std::uint64_t oldest = 0;
            other = slots->take_many(40, x, g, oldest);
        };
        weir::detail::log_grip g;
        std::uint64_t oldest = 0;
        bool const granted = all.take_many(40, x, g, oldest);
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

// ---- threads ----

struct hammering {
    std::uint32_t limit;
    std::uint32_t capacity;
    std::uint64_t window;
    std::size_t most;  // permits at a time
    bool change;
};

// Threads draw their times from one counter, some of them late; they keep receipts for a while and refund some. Then:
// the promise over what was granted and not refunded; nothing lost; no bound untrue.
template <class Atomics, unsigned Fanout>
void hammer_slots(hammering const& h, std::uint64_t seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << " limit " << h.limit << " fanout " << Fanout);
    constexpr std::size_t threads = 4;
    constexpr int steps = 4'000;
    constexpr std::uint64_t origin = std::uint64_t{1} << 40U;
    weir::detail::log_slots<Atomics, Fanout> slots{h.limit, h.capacity, h.window, 0, origin};
    std::atomic<std::uint64_t> ticks{origin};
    std::vector<std::vector<std::int64_t>> kept(threads);
    std::vector<std::size_t> lost(threads, 0);
    hammer::on_threads(threads, seed, [&](std::size_t id, auto& rng) {
        auto& mine = kept[id];
        struct held {
            weir::detail::log_grip grip;
            std::uint64_t t;
            std::uint32_t n;
        };
        std::vector<held> receipts;
        auto settle = [&](held r, bool refund) {
            std::uint32_t left = r.n;
            if (refund) {
                left -= slots.give_back(r.grip);
                // Only what was taken again, a window later, cannot go back.
                if (left != 0 && !h.change && ticks.load(std::memory_order_relaxed) < r.t + h.window) {
                    ++lost[id];
                }
            }
            for (; left > 0; --left) mine.push_back(static_cast<std::int64_t>(r.t));
        };
        for (int step = 0; step < steps; ++step) {
            std::uint64_t const now = rng() % 4 == 0 ? ticks.fetch_add(rng() % 3) : ticks.load();
            std::uint64_t const x = rng() % 8 == 0 ? now - rng() % h.window : now;
            auto const n = static_cast<std::uint32_t>(rng() % 4 == 0 ? 1 + draw(rng, h.most) : 1);
            weir::detail::log_grip g;
            std::uint64_t oldest = 0;
            if (n == 1 ? slots.take(x, g, oldest) : slots.take_many(n, x, g, oldest)) receipts.push_back({g, x, n});
            while (!receipts.empty() && rng() % 2 == 0) {
                std::swap(receipts[draw(rng, receipts.size())], receipts.back());
                settle(receipts.back(), rng() % 2 == 0);
                receipts.pop_back();
            }
            if (h.change && rng() % 256 == 0) {
                slots.change_limit(static_cast<std::uint32_t>(1 + draw(rng, h.capacity)));
            }
        }
        for (auto const& r : receipts) settle(r, false);
    });

    std::vector<std::int64_t> all;
    for (auto const& k : kept) all.insert(all.end(), k.begin(), k.end());
    EXPECT_LE(most_in_a_window(all, static_cast<std::int64_t>(h.window)), h.change ? h.capacity : h.limit);
    EXPECT_EQ(slots.count_untrue_bounds(), 0U);
    std::uint64_t const end = ticks.load();
    auto const live = static_cast<std::uint32_t>(std::count_if(
        all.begin(), all.end(), [&](std::int64_t t) { return static_cast<std::uint64_t>(t) + h.window > end; }));
    if (!h.change) {
        for (auto const l : lost) EXPECT_EQ(l, 0U);
        EXPECT_EQ(slots.count_free(end, h.limit), h.limit - live);
    }
    // What is free can be taken, and no more than that.
    std::uint32_t const free = slots.count_free(end, h.capacity);
    EXPECT_LE(free + std::min(live, slots.limit()), slots.limit());
    weir::detail::log_grip g;
    std::uint64_t oldest = 0;
    for (std::uint32_t i = 0; i < free; ++i) EXPECT_TRUE(slots.take(end, g, oldest));
    EXPECT_FALSE(slots.take(end, g, oldest));
    EXPECT_EQ(slots.count_free(end + h.window, h.capacity), slots.limit());
}

TEST(sliding_window_log, threads_never_exceed_the_limit_and_lose_nothing) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        hammer_slots<counting_atomics, 32>({10, 10, 100, 1, false}, seed);
        hammer_slots<counting_atomics, 2>({10, 10, 100, 1, false}, seed);
        hammer_slots<counting_atomics, 4>({300, 300, 500, 1, false}, seed);
        hammer_slots<weir::std_atomics, 32>({60, 60, 500, 1, false}, seed);
    });
}

TEST(sliding_window_log, threads_that_take_several_at_once_never_exceed_the_limit_and_lose_nothing) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        hammer_slots<counting_atomics, 32>({10, 10, 100, 5, false}, seed);
        hammer_slots<counting_atomics, 2>({40, 40, 100, 40, false}, seed);
        hammer_slots<weir::std_atomics, 4>({60, 60, 300, 8, false}, seed);
    });
}

TEST(sliding_window_log, threads_that_change_the_limit_never_exceed_what_it_was_at_most) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        hammer_slots<counting_atomics, 32>({10, 20, 100, 3, true}, seed);
        hammer_slots<counting_atomics, 2>({40, 40, 100, 1, true}, seed);
    });
}

// After a lower limit has been confirmed, grants keep to it, whatever else went on meanwhile.
TEST(sliding_window_log, threads_keep_to_a_lower_limit_once_it_is_confirmed) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        constexpr std::uint64_t window = 200;
        constexpr std::uint32_t low = 5;
        weir::detail::log_slots<counting_atomics, 4> slots{20, 20, window, 0, 1 << 30};
        std::atomic<std::uint64_t> ticks{1 << 30};
        std::atomic<bool> lowered{false};
        struct permit {
            std::int64_t t;
            bool after;
        };
        std::vector<std::vector<permit>> kept(3);
        hammer::on_threads(kept.size() + 1, seed, [&](std::size_t id, auto& rng) {
            if (id == kept.size()) {
                while (ticks.load() < (1 << 30) + 300) std::this_thread::yield();
                EXPECT_TRUE(slots.change_limit(low));
                lowered.store(true);
                return;
            }
            for (int i = 0; i < 3'000; ++i) {
                bool const after = lowered.load();
                std::uint64_t const x = ticks.fetch_add(rng() % 8 == 0 ? 1 : 0);
                weir::detail::log_grip g;
                std::uint64_t oldest = 0;
                if (!slots.take(x, g, oldest)) continue;
                if (rng() % 2 == 0 && slots.give_back(g) == 1) continue;
                kept[id].push_back({static_cast<std::int64_t>(x), after});
            }
        });
        std::multiset<std::int64_t> all;
        for (auto const& k : kept) {
            for (auto const& p : k) all.insert(p.t);
        }
        for (auto const& k : kept) {
            for (auto const& p : k) {
                if (!p.after) continue;
                ASSERT_LE(most_around(all, p.t, window), low);
            }
        }
    });
}

// All at one time point: exactly the limit is granted, however the threads meet; what is refunded is granted again.
TEST(sliding_window_log, threads_together_get_exactly_the_limit_at_one_instant) {
    hammer::until_collided(4, [](std::uint64_t seed) {
        manual_clock clock;
        weir::sliding_window_log<manual_clock&, counting_atomics> log{500, 1s, clock};
        std::atomic<permits> granted{0};
        hammer::on_threads(4, seed, [&](std::size_t, auto& rng) {
            // One who is denied may have met a refund on its way, so each goes on until its own refunds are over.
            for (int refunds = 0; refunds < 200;) {
                auto d = log.try_acquire();
                if (!d) break;
                if (rng() % 4 == 0) {
                    EXPECT_EQ(log.refund(d), 1U);
                    ++refunds;
                } else {
                    granted.fetch_add(1);
                }
            }
        });
        while (log.try_acquire()) granted.fetch_add(1);
        EXPECT_EQ(granted.load(), 500U);
        EXPECT_EQ(log.available(), 0U);
    });
}

TEST(sliding_window_log, a_decision_that_is_moved_is_the_same_decision) {
    manual_clock clock;
    log_of<> log{3, 1s, clock};
    moved::is_the_same_decision(log, clock, 1ms, [&](weir::permits n) { return log.try_acquire(n); });
}

TEST(sliding_window_log, asks_for_one_permit_where_none_is_named) {
    manual_clock clock;
    log_of<> l{1, 1s, clock};
    EXPECT_TRUE(l.check());
    EXPECT_FALSE(l.check(2));
    EXPECT_TRUE(l.try_acquire());
    EXPECT_FALSE(l.check());
}

}  // namespace
