// SPDX-License-Identifier: MIT
//
// Attempts on token_bucket, leaky_bucket and leaky_bucket_queue in every interleaving.
// What each must show: gcra_world.hpp.
#include "gcra_world.hpp"
#include "model.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gcra_model_test {

using namespace gcra_world;
using model::coverage;

constexpr std::int64_t interval = 10;
/// Around an interval and two; a thread may come with an earlier one than another, or than it had itself.
constexpr std::int64_t times[] = {0, interval - 1, interval, interval + 1, 2 * interval};

std::vector<op> attempts(permits burst) {
    std::vector<op> all;
    for (permits n = 1; n <= burst; ++n) {
        for (auto const t : times) all.push_back(take(n, t));
    }
    return all;
}

/// Every program of two threads with two attempts each, from those at the times above.
template <class Limiter>
sum two_by_two(options const& o, permits burst, std::int64_t since = 0) {
    sum all;
    program p;
    p.first = {interval, burst};
    p.most_steps = 2;
    auto const a = attempts(burst);
    std::size_t const n = a.size();
    for (std::size_t i = 0; i < n * n; ++i) {
        for (std::size_t j = 0; j <= i; ++j) {  // the threads are alike
            p.threads = {{a[i / n], a[i % n]}, {a[j / n], a[j % n]}};
            unsigned slot = 0;
            for (auto& t : p.threads) {
                for (auto& one : t) {
                    one.slot = slot++;
                    one.t += since;
                }
            }
            if (!all.add(gcra_world::explore<Limiter>(o, p), coverage::complete)) return all;
        }
    }
    return all;
}

/// The same for three with one each.
template <class Limiter>
sum three_by_one(options const& o, permits burst) {
    sum all;
    program p;
    p.first = {interval, burst};
    p.most_steps = 2;
    auto a = attempts(burst);
    a.push_back(take(burst + 1, 10));  // never
    for (std::size_t i = 0; i < a.size(); ++i) {
        for (std::size_t j = 0; j <= i; ++j) {
            for (std::size_t k = 0; k <= j; ++k) {
                p.threads = {{a[i]}, {a[j]}, {a[k]}};
                for (unsigned t = 0; t < 3; ++t) p.threads[t][0].slot = t;
                if (!all.add(gcra_world::explore<Limiter>(o, p), coverage::complete)) return all;
            }
        }
    }
    return all;
}

TEST(gcra_model, two_threads_of_two_attempts_decide_as_the_algorithm_in_some_order) {
    for (permits burst : {1U, 2U}) {
        for (auto const& o : {options::sc(""), options::weak("")}) {
            auto const s = two_by_two<token_bucket>(o, burst);
            report("token_bucket 2x2", s);
            ASSERT_TRUE(s.failure.empty());
        }
    }
}

TEST(gcra_model, attempts_on_a_fixed_bucket_decide_as_the_algorithm_in_some_order) {
    auto const s = two_by_two<fixed_token_bucket>(options::weak(""), 2);
    report("fixed_token_bucket 2x2", s);
    ASSERT_TRUE(s.failure.empty());
}

TEST(gcra_model, three_threads_of_one_attempt_decide_as_the_algorithm_in_some_order) {
    for (permits burst : {1U, 2U, 3U}) {
        for (auto const& o : {options::sc(""), options::weak("")}) {
            auto const s = three_by_one<token_bucket>(o, burst);
            report("token_bucket 3x1", s);
            ASSERT_TRUE(s.failure.empty());
        }
    }
}

TEST(gcra_model, a_permit_of_fractional_ticks_is_always_rounded_against_the_caller) {
    // 3 in 10 ticks; the promise by the oracle, and the algorithm's own decisions.
    for (auto const& o : {options::sc("fraction"), options::weak("fraction")}) {
        sum all;
        for (std::int64_t a : {0, 3, 4, 7}) {
            for (std::int64_t b : {0, 3, 4, 6, 10}) {
                auto const out = model::explore(o, [a, b] {
                    struct state {
                        model::clock clock;
                        token_bucket b{weir::rate{3, nanoseconds{10}}, 1, clock};
                        std::vector<gcra_oracle::grant> granted;
                    };
                    auto s = std::make_shared<state>();
                    auto const take_at = [s](std::int64_t t) {
                        if (s->b.try_acquire(at(t))) s->granted.push_back({t, 1});
                    };
                    return scenario{{[=] {
                                         take_at(a);
                                         take_at(4);
                                     },
                                     [=] {
                                         take_at(b);
                                         take_at(b + 3);
                                     }},
                                    [s] {
                                        model::check(gcra_oracle::excess(s->granted, {3, 10}, 1) <= 0, "the promise");
                                        model::check(!s->granted.empty(), "one is granted");
                                    }};
                });
                ASSERT_TRUE(all.add(out, coverage::complete)) << out;
            }
        }
        report("token_bucket, fraction", all);
    }
}

TEST(gcra_model, with_threads_frozen_anywhere_the_others_end_in_paid_steps) {
    for (unsigned count : {1U, 2U}) {
        sum all;
        for (permits burst : {1U, 3U}) {
            for (std::int64_t t : {0, 10}) {
                program p;
                p.first = {interval, burst};
                p.most_steps = 2;  // load and exchange, and an exchange for each time that another wrote
                p.threads = {{take(1, 0, 0)}, {take(1, t, 1)}, {take(1, 10, 2)}};
                if (count == 1) p.threads[2].push_back(take(1, 20, 3));
                auto const o = model::explore_frozen(options::weak(p.name()), 3, count,
                                                     [&p] { return start<world<token_bucket>>(p); });
                ASSERT_TRUE(all.add(o, coverage::complete)) << o;
            }
        }
        report("token_bucket, frozen", all);
    }
}

TEST(gcra_model, a_leaky_bucket_is_the_same) {
    for (permits burst : {1U, 2U}) {
        auto const s = three_by_one<leaky_bucket>(options::weak(""), burst);
        report("leaky_bucket 3x1", s);
        ASSERT_TRUE(s.failure.empty()) << s;
    }
    auto const s = two_by_two<leaky_bucket>(options::weak(""), 1);
    report("leaky_bucket 2x2", s);
    ASSERT_TRUE(s.failure.empty()) << s;
}

TEST(gcra_model, departures_are_an_interval_apart_in_every_interleaving) {
    for (permits burst : {1U, 2U}) {
        for (auto const& o : {options::sc(""), options::weak("")}) {
            if (burst == 1 || o.stale) {
                auto const s = two_by_two<leaky_bucket_queue>(o, burst);
                report("leaky_bucket_queue 2x2", s);
                ASSERT_TRUE(s.failure.empty()) << s;
            }
            auto const s = three_by_one<leaky_bucket_queue>(o, burst);
            report("leaky_bucket_queue 3x1", s);
            ASSERT_TRUE(s.failure.empty()) << s;
        }
    }
}

TEST(gcra_model_long, a_queue_gives_a_booking_back_once_all_behind_it_are_cancelled) {
    for (bool const weak : {false, true}) {
        auto const o = weak ? options::weak("queue") : options::sc("queue");
        sum all;
        for (permits waiting : weak ? std::vector<permits>{1} : std::vector<permits>{1, 2}) {
            for (std::int64_t t : weak ? std::vector<std::int64_t>{0, 10} : std::vector<std::int64_t>{0, 5, 10}) {
                for (std::int64_t u : weak ? std::vector<std::int64_t>{10} : std::vector<std::int64_t>{0, 10, 15}) {
                    program p;
                    p.first = {interval, waiting + 1};
                    p.most_steps = 9;
                    p.retry_steps = 7;
                    p.before = {take(1, 0, 0), take(1, 0, 1)};
                    for (auto const& threads :
                         {std::vector<std::vector<op>>{{refund(1, 0), take(1, t, 2)}, {refund(1, 1), take(1, u, 3)}},
                          std::vector<std::vector<op>>{{refund(1, 1), take(2, t, 2)}, {take(1, u, 3), refund(1, 3)}},
                          std::vector<std::vector<op>>{
                              {refund(1, 1)}, {take(1, t, 2), refund(1, 2)}, {take(1, u, 3)}}}) {
                        p.threads = threads;
                        auto const out = gcra_world::explore<leaky_bucket_queue>(o, p);
                        ASSERT_TRUE(all.add(out, coverage::complete)) << out;
                    }
                }
            }
        }
        // All of them, by two threads and by three.
        for (auto const& threads : {std::vector<std::vector<op>>{{refund(1, 0), refund(1, 2)}, {refund(1, 1)}},
                                    std::vector<std::vector<op>>{{refund(1, 0)}, {refund(1, 1)}, {refund(1, 2)}}}) {
            if (weak && threads.size() == 3) continue;
            program p;
            p.first = {interval, 3};
            p.before = {take(1, 0, 0), take(1, 0, 1), take(1, 0, 2)};
            p.threads = threads;
            auto const out = gcra_world::explore<leaky_bucket_queue>(o, p);
            ASSERT_TRUE(all.add(out, coverage::complete)) << out;
        }
        report("leaky_bucket_queue, cancelled", all);
    }
}

// ---- the tests themselves: a limiter that is wrong fails ----

struct denies_always : token_bucket {
    using token_bucket::token_bucket;
    decision try_acquire(permits, model::clock::time_point t) { return token_bucket::try_acquire(burst() + 1, t); }
};
struct grants_too_much : token_bucket {
    grants_too_much(weir::rate r, permits burst, model::clock& c) : token_bucket{r, burst + 1, c} {}
};
struct charges_twice : token_bucket {
    using token_bucket::token_bucket;
    decision try_acquire(permits n, model::clock::time_point t) {
        auto d = token_bucket::try_acquire(n, t);
        if (d) (void)token_bucket::try_acquire(n, t);
        return d;
    }
};
struct writes_when_it_denies : token_bucket {
    using token_bucket::token_bucket;
    decision try_acquire(permits n, model::clock::time_point t) {
        auto d = token_bucket::try_acquire(n, t);
        if (!d) denials.fetch_add(1, std::memory_order_relaxed);
        return d;
    }
    model::atomics::atomic<int> denials{0};
};
/// Denies where another holds a lock.
struct denies_when_it_is_busy : token_bucket {
    using token_bucket::token_bucket;
    decision try_acquire(permits n, model::clock::time_point t) {
        if (busy_.exchange(1, std::memory_order_acquire) != 0) return token_bucket::try_acquire(burst() + 1, t);
        auto d = token_bucket::try_acquire(n, t);
        busy_.exchange(0, std::memory_order_release);
        return d;
    }
    model::atomics::atomic<int> busy_{0};
};

template <class Limiter>
std::string failure_of(std::vector<std::vector<op>> threads, unsigned most_steps = 0) {
    program p;
    p.first = {interval, 2};
    p.threads = std::move(threads);
    p.most_steps = most_steps;
    auto const o = gcra_world::explore<Limiter>(options::weak("wrong"), p);
    EXPECT_EQ(o.seen, coverage::failed) << o;
    return o.failure;
}

TEST(gcra_model, limiters_that_are_wrong_are_found_out) {
    auto const has = [](std::string const& text, char const* what) { return text.find(what) != std::string::npos; };
    std::vector<std::vector<op>> const three{{take(1, 0, 0)}, {take(1, 0, 1)}, {take(1, 0, 2)}};
    EXPECT_TRUE(has(failure_of<denies_always>(three), "not linearizable"));
    EXPECT_TRUE(has(failure_of<denies_always>({{take(1, 0, 0)}}), "not linearizable"));
    EXPECT_TRUE(has(failure_of<grants_too_much>(three), "more than the promise"));
    EXPECT_TRUE(has(failure_of<charges_twice>({{take(1, 0, 0)}, {take(1, 20, 1)}}), "not linearizable"));
    EXPECT_TRUE(has(failure_of<writes_when_it_denies>(three), "a denial writes nothing"));
    EXPECT_TRUE(has(failure_of<denies_when_it_is_busy>({{take(1, 0, 0)}, {take(1, 0, 1)}}), "a denial writes nothing"));
    EXPECT_TRUE(has(failure_of<charges_twice>({{take(1, 0, 0)}}, 2), "more steps"));
}

}  // namespace gcra_model_test
