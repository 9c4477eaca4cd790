// SPDX-License-Identifier: MIT
// quota_limiter in the hands of several threads, and before a server whose clock lags.
#include <weir/llm/quota_limiter.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <weir/clock/manual_clock.hpp>

#include "../support/exact_log.hpp"
#include "../support/preemption_injection.hpp"
#include "../support/stress.hpp"

namespace quota_limiter_stress_test {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using weir::manual_clock;
using weir::llm::accounting;
using weir::llm::quota;
using weir::llm::quota_options;
using weir::llm::tokens;

template <class Atomics = weir::std_atomics>
using limiter_of = weir::llm::quota_limiter<manual_clock&, Atomics>;
using limiter = limiter_of<>;
using time_point = manual_clock::time_point;

/// A thousandth of a window: by how much a denial may be longer than an exact log's.
constexpr nanoseconds slack(nanoseconds window) { return window / 1000 + 1ns; }

using hammered = limiter_of<hammer::counting_atomics>;

struct granted_call {
    std::int64_t before, after;  // its effective time lies between
    tokens asked, used;
    std::int64_t settling = std::numeric_limits<std::int64_t>::max();  // not before this
    bool refunded = false;
};

struct load {
    quota limits;
    quota_options options;
    std::int64_t tick;  // by how much the time moves on with each attempt
    int attempts;
    std::uint64_t input = 20;  // at most
};
constexpr std::size_t hammering = 4;  // threads

std::vector<granted_call> run(load const& h, hammered& l, std::uint64_t seed) {
    std::atomic<std::int64_t> time{0};
    std::vector<std::vector<granted_call>> all(hammering);
    hammer::on_threads(hammering, seed, [&](std::size_t id, auto& random) {
        std::vector<std::pair<std::size_t, hammered::decision>> open;
        auto& mine = all[id];
        for (int i = 0; i < h.attempts; ++i) {
            tokens const n{.input = 1 + random() % h.input, .output = random() % 40};
            std::int64_t const t = time.fetch_add(h.tick);
            auto d = l.try_acquire(n, time_point{nanoseconds{t}});
            if (d) {
                mine.push_back({t, time.load(), n, n});
                open.emplace_back(mine.size() - 1, std::move(d));
            }
            while (open.size() > 4 || (!open.empty() && random() % 3 == 0)) {
                auto const which = static_cast<std::ptrdiff_t>(random() % open.size());
                auto& [index, receipt] = open[static_cast<std::size_t>(which)];
                auto& c = mine[index];
                std::int64_t const now = time.load();
                c.settling = now;
                if (random() % 8 == 0) {
                    c.refunded = true;
                    EXPECT_NE(l.refund(receipt), tokens{});
                } else {
                    c.used = {.input = n.input == 0 ? 0 : c.asked.input - random() % (c.asked.input + 1),
                              .output = random() % (c.asked.output + 1)};
                    EXPECT_TRUE(l.settle(receipt, c.used, time_point{nanoseconds{now}}));
                }
                open.erase(open.begin() + which);
            }
        }
        for (auto& [index, receipt] : open) {
            mine[index].settling = time.load();
            mine[index].refunded = true;
            EXPECT_NE(l.refund(receipt), tokens{});
        }
    });
    std::vector<granted_call> calls;
    for (auto& c : all) calls.insert(calls.end(), c.begin(), c.end());
    std::sort(calls.begin(), calls.end(), [](auto const& a, auto const& b) { return a.before < b.before; });
    return calls;
}

void check_promise(load const& h, std::vector<granted_call> const& calls) {
    // Requests that were kept, in any window that certainly holds their effective times.
    std::vector<exact_log::span> kept;
    for (auto const& c : calls) {
        if (!c.refunded) kept.push_back({c.before, c.after, 1});
    }
    auto const requests = [&](std::uint64_t limit_of, nanoseconds w) {
        ASSERT_LE(exact_log::certain_peak(kept, (w + h.options.jitter).count()), limit_of);
    };
    if (h.limits.rpm) requests(*h.limits.rpm, 60s);
    if (h.limits.rps) requests(*h.limits.rps, 1s);
    // Tokens: what each call certainly charged when a later one was granted.
    auto const sums = [&](std::uint64_t limit_of, nanoseconds w) {
        std::int64_t const window = (w + h.options.jitter).count();
        bool const reserve = h.options.accounting == accounting::reserve;
        for (std::size_t j = 0; j < calls.size(); ++j) {
            auto const& last = calls[j];
            std::uint64_t n = last.asked.total();
            for (std::size_t i = j; i-- > 0 && calls[i].before > last.before - 3 * window;) {
                auto const& c = calls[i];
                if (c.after > last.before || c.refunded) continue;  // not certainly before it
                bool const in_window = c.before + window > last.after;
                if (c.settling > last.after) {
                    n += in_window ? c.asked.total() : reserve ? 0 : c.asked.output.value();
                } else {
                    n += in_window ? c.used.input.value() + (reserve ? c.used.output.value() : 0) : 0;
                    n += !reserve && c.settling + window > last.after ? c.used.output.value() : 0;
                }
            }
            ASSERT_LE(n, limit_of) << "at " << last.before;
        }
    };
    if (h.limits.tpm) sums(*h.limits.tpm, 60s);
    if (h.limits.tps) sums(*h.limits.tps, 1s);
}

void hammer_and_check(load const& h) {
    std::size_t granted = 0;
    hammer::until_collided(3, [&](std::uint64_t seed) {
        manual_clock clock;
        hammered l{h.limits, h.options, clock};
        auto const calls = run(h, l, seed);
        granted += calls.size();
        check_promise(h, calls);
        if (::testing::Test::HasFatalFailure()) return;
        // Everything has been settled or refunded: when it has aged out nothing is left, and what was rolled back never
        // was.
        std::int64_t const threads = hammering;
        std::int64_t const end = h.tick * h.attempts * threads + (60s + h.options.jitter).count() * 2;
        auto const left = l.available(time_point{nanoseconds{end}});
        EXPECT_EQ(left.rpm, h.limits.rpm);
        EXPECT_EQ(left.rps, h.limits.rps);
        EXPECT_EQ(left.tpm, h.limits.tpm);
        EXPECT_EQ(left.tps, h.limits.tps);
    });
    EXPECT_GT(granted, 100U);
}

TEST(quota_limiter, keeps_every_limit_under_threads) {
    hammer_and_check({{.rpm = 100, .rps = 20, .tpm = 2000, .tps = 400}, {.jitter = 20ms}, 20'000'000, 1500});
}

TEST(quota_limiter, keeps_a_token_limit_under_threads) {
    hammer_and_check({{.tpm = 1000}, {.jitter = 1s}, 100'000'000, 1500});
}

TEST(quota_limiter, keeps_a_token_limit_under_threads_where_the_server_reserves) {
    hammer_and_check({{.rpm = 50, .tpm = 1000}, {.accounting = accounting::reserve}, 100'000'000, 1500});
}

TEST(quota_limiter, threads_keep_a_token_limit_though_the_count_returns_to_old_values) {
    // Inputs of 1, many of them given back: the word that is exchanged is often as it was, and the holds next to it
    // are not.
    hammer_and_check({{.tpm = 120}, {}, 300'000'000, 4000, 1});
}

TEST(quota_limiter, keeps_seconds_under_threads) {
    hammer_and_check({{.rps = 10, .tps = 300}, {.jitter = 10ms}, 1'000'000, 1500});
}

TEST(quota_limiter, what_is_rolled_back_under_threads_leaves_nothing) {
    // The first limits have room and the last seldom has, so that most attempts that lose a race are rolled back; all
    // that is granted is refunded. One segment later nothing may be missing, without a window's having passed.
    for (auto how : {accounting::any, accounting::reserve}) {
        hammer::until_collided(20, [&](std::uint64_t seed) {
            manual_clock clock;
            quota const q{.rpm = 1000, .rps = 1000, .tpm = 10'000, .tps = 50};
            hammered l{q, {.accounting = how}, clock};
            hammer::on_threads(4, seed, [&](std::size_t id, auto& random) {
                for (int i = 0; i < 500; ++i) {
                    auto d = l.try_acquire(tokens{.input = 1 + random() % 15, .output = random() % 15});
                    if (id == 0 && i % 8 == 0) clock.advance(300us);
                    EXPECT_EQ(l.refund(d) != tokens{}, d.granted());
                }
            });
            clock.advance(slack(60s));
            auto const left = l.available();
            EXPECT_EQ(left.rpm, q.rpm);
            EXPECT_EQ(left.rps, q.rps);
            EXPECT_EQ(left.tpm, q.tpm);
            EXPECT_EQ(left.tps, q.tps);
        });
    }
}

TEST(quota_limiter, changes_of_quota_under_threads_lose_nothing) {
    hammer::until_collided(1, [](std::uint64_t seed) {
        manual_clock clock;
        hammered l{{.rpm = 40, .tpm = 400}, clock};
        std::atomic<int> running{3};
        std::atomic<std::uint64_t> granted{0};
        hammer::on_threads(4, seed, [&](std::size_t id, auto& random) {
            if (id == 0) {
                for (int i = 0; running.load() != 0; ++i) {
                    (void)l.change(i % 2 == 0 ? quota{.rpm = 20, .tpm = 200} : quota{.rpm = 40, .tpm = 400});
                }
                return;
            }
            for (int i = 0; i < 3000; ++i) {
                auto d = l.try_acquire(tokens{.input = 1 + random() % 20, .output = random() % 20});
                if (!d) {
                    clock.advance(5ms);
                    continue;
                }
                granted.fetch_add(1);
                EXPECT_TRUE(random() % 2 == 0 ? l.refund(d) != tokens{} : l.settle(d, tokens{.input = 1, .output = 1}));
            }
            running.fetch_sub(1);
        });
        EXPECT_GE(granted.load(), 20U) << "the lower limit, which may be in force all the time";
        clock.advance(130s);
        while (l.change({.rpm = 40, .tpm = 400})) clock.advance(60ms);
        EXPECT_EQ(l.available().rpm, 40U);
        EXPECT_EQ(l.available().tpm, 400U);
    });
}

// ---- another thread's whole deed before any one exchange ----

TEST(quota_limiter, an_attempt_that_is_overtaken_anywhere_is_granted_or_leaves_nothing) {
    using interrupted = limiter_of<interrupted_exchanges>;
    quota const q{.rpm = 10, .rps = 5, .tpm = 100, .tps = 80};
    int overtaken = 0, rolled_back = 0;
    for (auto how : {accounting::any, accounting::actual, accounting::reserve}) {
        for (nanoseconds const later : {nanoseconds{0}, nanoseconds{2ms}, nanoseconds{700ms}, nanoseconds{61s}}) {
            for (tokens const rival : {tokens{.input = 40, .output = 0}, tokens{.input = 10, .output = 30},
                                       tokens{.input = 1, .output = 39}, tokens{}}) {
                for (int k = 0;; ++k) {
                    manual_clock clock;
                    auto const owner = std::make_unique<interrupted>(q, quota_options{.accounting = how}, clock);
                    auto& l = *owner;
                    auto held = l.try_acquire(tokens{.input = 5, .output = 15});
                    ASSERT_TRUE(held);
                    clock.advance(1ms);
                    bool happened = false;
                    std::uint64_t taken = 0, requests = 0;
                    int left_until = k;
                    interrupted_exchanges::interrupt = [&] {
                        if (happened || left_until-- != 0) return;
                        happened = true;
                        clock.advance(later);
                        while (auto d = l.try_acquire(rival)) {
                            taken += rival.total();
                            if (++requests == 4) break;
                        }
                        EXPECT_TRUE(l.settle(held, tokens{.input = 5, .output = 15}));
                    };
                    tokens const mine{.input = 10, .output = 30};
                    auto d = l.try_acquire(mine);
                    interrupted_exchanges::interrupt = nullptr;
                    if (!happened) break;
                    ++overtaken;
                    rolled_back += d ? 0 : 1;
                    std::uint64_t const sum = taken + (d ? mine.total() : 0);
                    std::uint64_t const calls = requests + (d ? 1 : 0);
                    clock.advance(slack(60s));
                    auto const left = l.available();
                    if (later > 60s) {
                        // What this attempt charged before it stood still may have left by now.
                        EXPECT_GE(*left.rpm, 10 - calls) << k;
                        EXPECT_GE(*left.tpm + 15, 100 - sum) << k;
                        continue;
                    }
                    EXPECT_LE(calls, 4U) << k;
                    EXPECT_LE(sum, how == accounting::actual ? 90U : 60U) << k;
                    EXPECT_EQ(*left.rpm, 9 - calls) << k;
                    EXPECT_EQ(*left.tpm, 80 - std::min<std::uint64_t>(80, sum)) << k;
                    EXPECT_EQ(l.refund(d) != tokens{}, d.granted());
                }
            }
        }
    }
    EXPECT_GT(overtaken, 100);
    EXPECT_GT(rolled_back, 30);
}

// ---- the margin ----

TEST(quota_limiter, only_with_the_margin_no_window_of_the_server_exceeds_the_limit) {
    struct row {
        quota limits;
        nanoseconds window, jitter;
        tokens each;
        std::uint64_t limit;
    };
    constexpr row rows[] = {{{.rps = 10}, 1s, 10ms, {}, 10},
                            {{.rps = 1}, 1s, 5ms, {}, 1},
                            {{.rps = 10}, 1s, 2s, {}, 10},
                            {{.rpm = 60}, 60s, 500ms, {}, 60},
                            {{.tpm = 1000}, 60s, 1s, {.input = 7}, 1000},
                            {{.tps = 100}, 1s, 30ms, {.input = 9}, 100}};
    for (auto const& r : rows) {
        for (bool const margin : {true, false}) {
            std::uint64_t greatest = 0;
            for (std::uint64_t seed = 1; seed <= 5; ++seed) {
                std::mt19937_64 random{seed};
                manual_clock clock;
                limiter l{r.limits, {.jitter = margin ? r.jitter : 0ns}, clock};
                std::vector<exact_log::grant> arrivals;
                while (arrivals.size() < 4000) {
                    auto const d = l.try_acquire(r.each);
                    if (!d) {
                        clock.advance_to(d.retry_at());
                        continue;
                    }
                    auto const range = static_cast<std::uint64_t>(r.jitter.count());
                    std::uint64_t const delay = random() % 3 == 0   ? 0
                                                : random() % 2 == 0 ? range
                                                                    : random() % (range + 1);
                    arrivals.push_back(
                        {clock.now().time_since_epoch().count() + 123'456'789 + static_cast<std::int64_t>(delay),
                         r.each.total() == 0 ? 1 : r.each.total()});
                    if (random() % 16 == 0)
                        clock.advance(nanoseconds{static_cast<std::int64_t>(random() % (range + 1))});
                }
                greatest = std::max(greatest, exact_log::peak(std::move(arrivals), r.window.count()));
            }
            if (margin) {
                EXPECT_LE(greatest, r.limit) << r.limit << " in " << r.window.count();
            } else {
                EXPECT_GT(greatest, r.limit) << r.limit << " in " << r.window.count();
            }
        }
    }
}

}  // namespace quota_limiter_stress_test
