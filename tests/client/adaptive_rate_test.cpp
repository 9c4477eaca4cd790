// SPDX-License-Identifier: MIT
#include <weir/client/adaptive_rate.hpp>
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/quota.hpp>
#include <weir/llm/quota_limiter.hpp>
#include <weir/token_bucket.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <queue>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/quota_judge.hpp"
#include "../support/stress.hpp"

namespace adaptive_rate_test {

using namespace std::chrono_literals;
using weir::adaptive_options;
using weir::adaptive_rate;
using weir::cubic_growth;
using weir::manual_clock;
using time_point = manual_clock::time_point;
using controller = adaptive_rate<manual_clock&>;

/// The textbook's other law, with the same cut and the same recovery.
struct linear_growth {
    static constexpr weir::permits at(weir::permits from, weir::permits peak, std::uint64_t t,
                                      std::uint64_t recovery) noexcept {
        auto const milli = std::min<std::uint64_t>(t / (recovery / 1000), 1'000'000);
        return from + (peak - from) * milli / 1000;
    }
};

/// Clients with endless work at one account. Each has a bucket at its adaptive rate and a request that waits for it;
/// latency is 1 s, or 40 ms for a refusal; what was refused waits 1 s (doubled for each refusal in a row, 8 s at most)
/// and takes its permits again.
template <class Growth>
class simulation {
public:
    struct phase {
        std::uint64_t served = 0, refused = 0;
        std::vector<std::uint64_t> by_client;
    };

    simulation(std::uint64_t seed, std::size_t clients, adaptive_options o, std::uint64_t cost,
               qwen::server_limits limits)
        : random_{seed}, cost_{cost} {
        server_.set_limits("m", limits);
        for (std::size_t i = 0; i < clients; ++i) {
            clients_.push_back(std::make_unique<client>(o, clock_));
            at(time_point{std::chrono::milliseconds{random_() % 2000}}, i, event::ask, {}, 0);
        }
    }

    void limits(qwen::server_limits l) { server_.set_limits("m", l); }
    time_point now() const { return clock_.now(); }
    weir::permits rate_of(std::size_t i) { return clients_[i]->rate.current(); }

    phase run(std::chrono::nanoseconds length) {
        phase p;
        p.by_client.resize(clients_.size());
        auto const end = clock_.now() + length;
        while (!events_.empty() && events_.top().when <= end) {
            auto const e = events_.top();
            events_.pop();
            clock_.advance_to(e.when);
            auto& c = *clients_[e.client];
            switch (e.what) {
                case event::ask: ask(e.client, e.tries); break;
                case event::good:
                    c.rate.served(cost_, e.sent);
                    (void)c.rate.apply(c.bucket, cost_);
                    break;
                case event::bad:
                    c.rate.refused(e.sent);
                    (void)c.rate.apply(c.bucket, cost_);
                    break;
                case event::retry: ask(e.client, e.tries, true); break;
                case event::arrive: {
                    auto const v = server_.arrive("a", "m", clock_.now().time_since_epoch().count(), cost_ - 1, 1);
                    if (v.admitted) {
                        server_.complete(v.ticket, clock_.now().time_since_epoch().count(), 1);
                        ++p.served;
                        ++p.by_client[e.client];
                        at(clock_.now() + 1s, e.client, event::good, e.sent, 0);
                    } else {
                        ++p.refused;
                        at(clock_.now() + 20ms, e.client, event::bad, e.sent, 0);
                        auto const wait = 1s * (1 << std::min(e.tries, 3)) + std::chrono::milliseconds{random_() % 500};
                        at(clock_.now() + wait, e.client, event::retry, {}, e.tries + 1);
                    }
                    break;
                }
            }
        }
        clock_.advance_to(end);
        return p;
    }

private:
    struct client {
        client(adaptive_options o, manual_clock& clock)
            : rate{o, clock}, bucket{weir::rate{o.start, o.window}, 1, clock} {}
        adaptive_rate<manual_clock&, Growth> rate;
        weir::token_bucket<manual_clock&> bucket;
    };
    struct event {
        enum kind { ask, arrive, good, bad, retry };
        time_point when;
        std::uint64_t number;
        std::size_t client;
        kind what;
        time_point sent;
        int tries;
        bool operator<(event const& o) const { return when != o.when ? when > o.when : number > o.number; }
    };

    void at(time_point t, std::size_t index, typename event::kind what, time_point sent, int tries) {
        events_.push({t, number_++, index, what, sent, tries});
    }

    /// The next new request of a client, or one that comes again.
    void ask(std::size_t i, int tries, bool again = false) {
        auto& c = *clients_[i];
        (void)c.rate.apply(c.bucket, cost_);
        if (auto d = c.bucket.try_acquire(cost_)) {
            at(clock_.now() + 20ms + std::chrono::microseconds{random_() % 2000}, i, event::arrive, clock_.now(),
               tries);
            if (!again) at(clock_.now() + 1us, i, event::ask, {}, 0);
        } else {
            at(std::min(d.retry_at(), clock_.now() + 1s), i, again ? event::retry : event::ask, {}, tries);
        }
    }

    std::mt19937_64 random_;
    std::uint64_t cost_;
    manual_clock clock_;
    qwen::quota_judge server_{{.derive_rps = false}};
    std::vector<std::unique_ptr<client>> clients_;
    std::priority_queue<event> events_;
    std::uint64_t number_ = 0;
};

struct kind {
    char const* name;
    std::uint64_t cost, quota;
    qwen::server_limits whole, half;
};
kind const kinds[] = {
    {"RPM 600", 1, 600, {.rpm = 600}, {.rpm = 300}},
    {"RPM 600 and RPS 10", 1, 600, {.rpm = 600, .rps = 10}, {.rpm = 300, .rps = 5}},
    {"TPM 1,000,000", 2000, 1'000'000, {.tpm = 1'000'000}, {.tpm = 500'000}},
};

struct figures {
    double alone = 0, alone_refused = 0, down_seconds = 0, down_refused = 0, up_seconds = 0, pair = 0, pair_refused = 0,
           fairness = 0;
};

template <class Growth>
figures study(kind const& k, std::chrono::seconds recovery = 45s) {
    figures f;
    constexpr std::uint64_t seeds = 10;
    double const per_minute = static_cast<double>(k.quota / k.cost);
    auto const percent = [](std::uint64_t part, std::uint64_t rest) {
        return 100.0 * static_cast<double>(part) / static_cast<double>(part + rest) / seeds;
    };
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        {  // alone; halved; restored
            simulation<Growth> s{seed,
                                 1,
                                 {.start = k.quota, .least = k.quota / 20, .most = 2 * k.quota, .recovery = recovery},
                                 k.cost,
                                 k.whole};
            s.run(5min);
            auto const p = s.run(10min);
            f.alone += 100 * static_cast<double>(p.served) / (10 * per_minute) / seeds;
            f.alone_refused += percent(p.refused, p.served);
            s.limits(k.half);
            auto const half = k.quota / 2;
            std::uint64_t refused = 0;
            int seconds = 0;
            // Until the rate has been within a tenth of the new limit for a minute.
            for (int good = 0; seconds < 1800 && good < 60; ++seconds) {
                refused += s.run(1s).refused;
                good = s.rate_of(0) * 10 > half * 8 && s.rate_of(0) * 10 < half * 11 ? good + 1 : 0;
            }
            f.down_seconds += (seconds - 60) / static_cast<double>(seeds);
            f.down_refused += static_cast<double>(refused) / seeds;
            s.run(5min);
            s.limits(k.whole);
            seconds = 0;
            while (seconds < 3600 && s.rate_of(0) * 10 < k.quota * 9) {
                s.run(1s);
                ++seconds;
            }
            f.up_seconds += seconds / static_cast<double>(seeds);
        }
        {  // two that do not know of each other, each configured with all of it
            simulation<Growth> s{seed,
                                 2,
                                 {.start = k.quota, .least = k.quota / 20, .most = k.quota, .recovery = recovery},
                                 k.cost,
                                 k.whole};
            s.run(10min);
            auto const p = s.run(30min);
            f.pair += 100 * static_cast<double>(p.served) / (30 * per_minute) / seeds;
            f.pair_refused += percent(p.refused, p.served);
            f.fairness += 100.0 * static_cast<double>(std::min(p.by_client[0], p.by_client[1])) /
                          static_cast<double>(std::max(p.by_client[0], p.by_client[1])) / seeds;
        }
    }
    return f;
}

void print(char const* law, kind const& k, figures const& f) {
    std::printf(
        "%-22s %-6s alone %.1f%%, refused %.2f%%; halved: %.0f s, %.0f refusals; restored: %.0f s; "
        "two: %.1f%%, refused %.2f%%, lesser/greater %.0f%%\n",
        k.name, law, f.alone, f.alone_refused, f.down_seconds, f.down_refused, f.up_seconds, f.pair, f.pair_refused,
        f.fairness);
}

TEST(llm_adaptive_study_slow, cubic_finds_a_raised_limit_sooner_than_aimd_and_two_strangers_share) {
    for (auto const& k : kinds) {
        auto const c = study<cubic_growth>(k);
        auto const a = study<linear_growth>(k);
        print("CUBIC", k, c);
        print("AIMD", k, a);
        EXPECT_GE(c.alone, 93);
        EXPECT_LT(c.alone_refused, 0.5);
        EXPECT_GE(c.alone, a.alone);
        EXPECT_GE(c.pair, 90);
        EXPECT_LT(c.pair_refused, 1);
        EXPECT_GT(c.fairness, 60);
        EXPECT_LT(c.down_seconds, 150);
        EXPECT_LT(c.down_refused, 20);
        EXPECT_LT(c.up_seconds, 200);
        EXPECT_LT(c.up_seconds * 1.5, a.up_seconds);
    }
}

/// Serves `n` of what the rate allows, evenly, for `length`.
void serve(controller& c, manual_clock& clock, std::chrono::seconds length, weir::permits per_second) {
    for (std::int64_t i = 0; i < length.count(); ++i) {
        clock.advance(1s);
        c.served(per_second, clock.now());
    }
}

TEST(llm_adaptive, cubic_is_at_its_beginning_its_peak_and_far_beyond_when_it_should) {
    static_assert(cubic_growth::at(875, 1000, 0, 1'000'000) == 875);
    static_assert(cubic_growth::at(875, 1000, 1'000'000, 1'000'000) == 1000);
    static_assert(cubic_growth::at(875, 1000, 2'000'000, 1'000'000) == 1125);
    static_assert(cubic_growth::at(875, 1000, 3'000'000, 1'000'000) == 2000);
    weir::permits last = 0;
    for (std::uint64_t t = 0; t < 12'000; ++t) {
        auto const w = cubic_growth::at(7'000, 8'000, t, 1'000);
        EXPECT_GE(w, last);
        last = w;
    }
    EXPECT_EQ(last, 8'000U + 512U * 1'000U);
    EXPECT_GT(cubic_growth::at(1, std::uint64_t{1} << 40U, 0xffff'ffff'ffffU, 1), std::uint64_t{1} << 40U);
}

TEST(llm_adaptive, refusals_of_what_was_sent_before_lower_the_rate_by_an_eighth_once) {
    manual_clock clock{time_point{1h}};
    controller c{{.start = 600}, clock};
    EXPECT_EQ(c.current(), 600U);
    serve(c, clock, 60s, 10);
    auto const sent = clock.now();
    clock.advance(1s);
    EXPECT_TRUE(c.refused(sent));
    EXPECT_EQ(c.current(), 525U);
    EXPECT_FALSE(c.refused(sent));
    EXPECT_FALSE(c.refused(clock.now()));
    EXPECT_EQ(c.current(), 525U);
    EXPECT_EQ(c.share(), (std::uint64_t{525} << 20U) / 600);
}

TEST(llm_adaptive, recovers_the_old_rate_and_stays_between_floor_and_ceiling) {
    manual_clock clock;
    controller c{{.start = 600, .least = 500, .most = 700, .recovery = 45s}, clock};
    serve(c, clock, 60s, 10);
    ASSERT_TRUE(c.refused(clock.now()));
    serve(c, clock, 45s, 10);
    EXPECT_NEAR(static_cast<double>(c.current()), 600, 2);
    serve(c, clock, 1000s, 10);
    EXPECT_EQ(c.current(), 700U);
    for (int i = 0; i < 10; ++i) {
        serve(c, clock, 1s, 10);
        c.refused(clock.now());
        clock.advance(1ms);
    }
    EXPECT_EQ(c.current(), 500U);
}

TEST(llm_adaptive, while_a_window_drains_it_waits_and_lowers_nothing) {
    manual_clock clock;
    controller c{{.start = 600}, clock};
    serve(c, clock, 60s, 10);
    ASSERT_TRUE(c.refused(clock.now()));
    weir::permits const cut = c.current();
    for (int i = 0; i < 20; ++i) {
        clock.advance(1s);
        EXPECT_FALSE(c.refused(clock.now()));
    }
    EXPECT_LE(c.current(), 600U / 64 + 1);
    c.served(1, clock.now());
    EXPECT_GE(c.current(), cut);
}

TEST(llm_adaptive, a_draining_windows_refusals_quarter_the_rate_at_most_three_times) {
    manual_clock clock;
    controller c{{.start = 60'000}, clock};
    ASSERT_TRUE(c.refused(clock.now()));
    weir::permits const cut = c.current();
    for (unsigned i = 1; i <= 6; ++i) {
        clock.advance(1ms);
        EXPECT_FALSE(c.refused(clock.now()));
        EXPECT_EQ(c.current(), cut >> (2 * std::min(i, 3U))) << i;
    }
    EXPECT_EQ(c.rate().count(), c.current());
    EXPECT_EQ(c.rate(clock.now()), (weir::rate{c.current(), 1min}));
    EXPECT_EQ(c.share(), (c.current() << 20U) / 60'000);
}

TEST(llm_adaptive, believes_what_was_served_where_that_is_far_below_the_rate) {
    manual_clock clock;
    controller c{{.start = 1000}, clock};
    serve(c, clock, 120s, 10);  // 600 a minute, of which a 32nd may be missing
    ASSERT_TRUE(c.refused(clock.now()));
    EXPECT_LE(c.current(), 526U);
    EXPECT_GE(c.current(), 499U);
    manual_clock other;
    controller idle{{.start = 1000}, other};
    other.advance(10min);
    ASSERT_TRUE(idle.refused(other.now()));
    EXPECT_GE(idle.current(), 437U);  // half, and an eighth
}

TEST(llm_adaptive, a_rate_that_is_not_used_is_not_raised) {
    manual_clock clock;
    controller c{{.start = 600, .most = 10'000}, clock};
    clock.advance(24h);
    EXPECT_EQ(c.current(), 600U);
    serve(c, clock, 60s, 10);
    EXPECT_GT(c.current(), 1'100U);
    EXPECT_LE(c.current(), 1'200U);
}

TEST(llm_adaptive, a_rate_that_could_not_be_lowered_grows_as_if_by_a_sixteenth) {
    manual_clock clock;
    controller c{{.start = 1600, .least = 1600, .most = 100'000, .recovery = 30s}, clock};
    ASSERT_TRUE(c.refused(clock.now()));
    EXPECT_EQ(c.current(), 1600U);
    serve(c, clock, 60s, 1000);
    EXPECT_EQ(c.current(), 1700U);  // the peak, and a sixteenth times (60/30 - 1)^3
}

TEST(llm_adaptive, puts_its_rate_in_force_in_a_bucket_and_in_a_quota_limiter) {
    manual_clock clock;
    controller c{{.start = 600}, clock};
    weir::token_bucket<manual_clock&> bucket{weir::rate{600, 1min}, 1, clock};
    weir::llm::quota const whole{.rpm = 600, .rps = 10, .tpm = 100'000};
    weir::llm::quota_limiter<manual_clock&> limiter{whole, clock};
    serve(c, clock, 60s, 10);
    ASSERT_TRUE(c.refused(clock.now()));
    EXPECT_FALSE(c.apply(bucket, 1));
    clock.advance(10s);
    ASSERT_TRUE(bucket.try_acquire());
    EXPECT_NEAR(static_cast<double>(bucket.try_acquire().retry_after() / 1us), 60e6 / 525, 5'000);
    EXPECT_FALSE(limiter.change(weir::llm::scaled(whole, std::uint64_t{7} << 17U, std::uint64_t{1} << 19U)));
    EXPECT_EQ(limiter.limits(), (weir::llm::quota{.rpm = 525, .rps = 8, .tpm = 50'000}));
    static_assert(weir::llm::scaled({.rps = 1}, 1, 1).rps == 1U);
    static_assert(!weir::llm::scaled({.rps = 1}, 1, 1).rpm);
}

TEST(llm_adaptive, puts_a_rate_in_force_that_has_moved_by_a_64th_and_no_less) {
    struct by_the_clock {
        static constexpr weir::permits at(weir::permits, weir::permits, std::uint64_t t, std::uint64_t) noexcept {
            return t;
        }
    };
    struct bucket {
        struct limits_type {
            weir::rate rate;
            weir::permits burst;
        };
        weir::error change(limits_type const& l, time_point) {
            in_force = l.rate.count();
            return {};
        }
        weir::permits in_force = 0;
    };
    manual_clock clock;
    adaptive_rate<manual_clock&, by_the_clock> c{{.start = 6'400, .most = 1'000'000}, clock};
    bucket b;
    c.served(1'000'000, clock.now());
    EXPECT_FALSE(c.apply(b, 1));
    clock.advance_to(time_point{6'499ns});
    EXPECT_FALSE(c.apply(b, 1));
    EXPECT_EQ(b.in_force, 6'400U);
    clock.advance_to(time_point{6'500ns});
    EXPECT_FALSE(c.apply(b, 1));
    EXPECT_EQ(b.in_force, 6'500U);
}

TEST(llm_adaptive, a_rate_that_was_refused_is_offered_again) {
    struct bucket {
        struct limits_type {
            weir::rate rate;
            weir::permits burst;
        };
        weir::error change(limits_type const& l, time_point) {
            offered.push_back(l.rate.count());
            return deaf ? weir::error{"not now"} : weir::error{};
        }
        bool deaf = true;
        std::vector<weir::permits> offered{};
    };
    manual_clock clock;
    controller c{{.start = 600}, clock};
    bucket b;
    serve(c, clock, 60s, 10);
    ASSERT_TRUE(c.refused(clock.now()));
    EXPECT_TRUE(c.apply(b, 1));
    EXPECT_TRUE(c.apply(b, 1));
    b.deaf = false;
    EXPECT_FALSE(c.apply(b, 1));
    EXPECT_FALSE(c.apply(b, 1));
    EXPECT_EQ(b.offered, (std::vector<weir::permits>{525, 525, 525})) << "and once it is in force, no more";
}

TEST(llm_adaptive, refuses_bad_arguments_with_a_reason) {
    EXPECT_FALSE(controller::validate({.start = 600}));
    EXPECT_TRUE(controller::validate({}));
    EXPECT_TRUE(controller::validate({.start = 600, .least = 0}));
    EXPECT_TRUE(controller::validate({.start = 600, .least = 601}));
    EXPECT_TRUE(controller::validate({.start = 600, .most = 599}));
    EXPECT_TRUE(controller::validate({.start = 600, .most = std::uint64_t{1} << 40U}));
    EXPECT_TRUE(controller::validate({.start = 600, .window = 0s}));
    EXPECT_TRUE(controller::validate({.start = 600, .window = 31ns}));
    EXPECT_TRUE(controller::validate({.start = 600, .recovery = 0s}));
    EXPECT_TRUE(controller::validate({.start = 600, .window = 1h + 1ns}));
    EXPECT_TRUE(controller::validate({.start = 600, .recovery = 24h + 1ns}));
    EXPECT_TRUE(controller::validate({.start = 600, .window = 31s}, 1s));
    EXPECT_FALSE(controller::validate({.start = 600, .least = 600, .most = 600, .window = 1h, .recovery = 24h}));
    EXPECT_FALSE(controller::validate(
        {.start = 1, .least = 1, .most = (std::uint64_t{1} << 40U) - 1, .window = 32ns, .recovery = 1ns}));
    EXPECT_FALSE(controller::validate({.start = 600, .window = 32s}, 1s));
    manual_clock clock;
    EXPECT_THROW((controller{{}, clock}), std::invalid_argument);
}

TEST(llm_adaptive, many_threads_tell_it_of_one_event_and_it_lowers_once) {
    manual_clock clock{time_point{1h}};
    adaptive_rate<manual_clock&> c{{.start = 6000}, clock};
    serve(c, clock, 60s, 100);
    auto const sent = clock.now();
    hammer::on_threads(4, [&] {
        for (int k = 0; k < 1000; ++k) c.refused(sent);
    });
    EXPECT_EQ(c.current(), 5250U);
}

TEST(llm_adaptive, has_these_defaults) {
    constexpr adaptive_options o;
    static_assert(o.start == 0 && o.least == 1 && o.most == 0);
    static_assert(o.window == 1min && o.recovery == 45s);
}

}  // namespace adaptive_rate_test
