// SPDX-License-Identifier: MIT
// Each limiter, granted and denied, by 1 and 2 threads, with the time given and by its own clock, held against the
// floors of the same run. The repetitions of all are interleaved, so that a noisy moment meets all alike, and medians
// of the threads' own processor time are compared, so that what else the machine does counts little. Every option of
// Google Benchmark is there; with none, the table of ratios is printed in about a minute. A line is PASS or OVER where
// a target is stated; they are stated for one thread.
#include <weir/llm.hpp>
#include <weir/weir.hpp>

#include <benchmark/benchmark.h>

#include "floors.hpp"
#include "no_clock.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using weir::permits;
using weir::rate;

weir::tsc_clock const& counter() {
    static weir::tsc_clock const clock;
    return clock;
}

weir::upper_bound_clock const& bounded() {
    static weir::upper_bound_clock const clock;
    return clock;
}
weir::hybrid_clock const& coarse() {
    static weir::hybrid_clock const clock;
    return clock;
}

using given = no_clock::time_point;

struct row {
    std::string name;
    std::string floor;  // the name of the floor it is held against
    double target = 0;  // at most so many times the floor, by one thread; 0: none is stated
    std::shared_ptr<std::atomic<std::uint64_t>> surprises = std::make_shared<std::atomic<std::uint64_t>>(0);
};
std::vector<row>& rows() {
    static std::vector<row> all;
    return all;
}

/// Answers that turn out to be the other are no measure; they are counted and told.
thread_local std::uint64_t surprises_here = 0;
template <bool Granted, class Decision>
[[gnu::always_inline]] inline void expect(Decision const& d) {
    if (static_cast<bool>(d) != Granted) [[unlikely]]
        ++surprises_here;
}

/// A step called over and over. Where it is given the time, that rises by `tick` each time, from where it stood before.
template <class Step>
void add(std::string name, std::string floor, double target, std::int64_t tick, Step step, int threads = 2) {
    rows().push_back({name, std::move(floor), target});
    auto const surprises = rows().back().surprises;
    struct alignas(64) mine {
        std::int64_t t = 0;
    };
    auto const times = std::make_shared<std::vector<mine>>(2);
    auto* const b =
        benchmark::RegisterBenchmark(name.c_str(), [step, times, tick, surprises](benchmark::State& state) mutable {
            auto& kept = (*times)[static_cast<std::size_t>(state.thread_index())].t;
            std::int64_t t = kept;
            for (auto _ : state) {
                t += tick;
                step(t);
            }
            kept = t;
            surprises->fetch_add(std::exchange(surprises_here, 0));
        });
    b->Threads(1);
    if (threads > 1) b->Threads(2);
}

void add_floors() {
    add("read steady_clock", "", 0, 1, [](std::int64_t) { floors::read(steady_clock{}); });
    add("read tsc_clock", "", 0, 1, [c = &counter()](std::int64_t) { floors::read(*c); });
    add("read counter", "", 0, 1,
        [](std::int64_t) { benchmark::DoNotOptimize(weir::detail::processor_counter::read()); });
    add("read coarse_clock", "", 0, 1, [](std::int64_t) { floors::read(weir::coarse_clock{}); });
    add("load, compare, branch", "", 0, 1, [f = std::make_shared<floors::load_floor>()](std::int64_t t) {
        expect<false>(f->allows(static_cast<std::uint64_t>(t)));
    });
    add("exchange loop", "", 0, 1, [f = std::make_shared<floors::exchange_floor>()](std::int64_t) { f->add(); });
    add("mutex bucket, granted", "exchange loop", 0, 1000,
        [f = std::make_shared<floors::mutex_bucket>(1e-3, 1e15)](std::int64_t t) { expect<true>(f->try_acquire(t)); });
    add("mutex bucket, denied", "load, compare, branch", 0, 1,
        [f = std::make_shared<floors::mutex_bucket>(1e-18, 0.0)](std::int64_t t) { expect<false>(f->try_acquire(t)); });
}

/// A limiter with the time given: `busy` where time hardly moves, so that the bucket is always partly used.
template <class L, class Make>
void add_given(std::string const& what, double granted, double denied, std::int64_t tick, Make make, int threads = 2) {
    add(
        what + ", granted", "exchange loop", granted, tick,
        [l = std::shared_ptr<L>(make(true))](std::int64_t t) {
            expect<true>(l->try_acquire(1, given{nanoseconds{t}}));
        },
        threads);
    add(what + ", denied", "load, compare, branch", denied, 1, [l = std::shared_ptr<L>(make(false))](std::int64_t t) {
        expect<false>(l->try_acquire(1, given{nanoseconds{t}}));
    });
}

template <class Clock, class... Extra>
void add_own(std::string const& name, std::string const& floor, double granted, Extra... extra) {
    using bucket = weir::token_bucket<Clock>;
    add("token_bucket by " + name + ", granted", floor, granted, 1,
        [b = std::make_shared<bucket>(rate{1, 1s}, permits{1} << 50U, weir::token_bucket_options{}, extra...)](
            std::int64_t) { expect<true>(b->try_acquire()); });
    add("token_bucket by " + name + ", denied", floor, 1.1, 1,
        [b = std::make_shared<bucket>(rate{1, 24h * 365}, 1, weir::token_bucket_options{.initial = 0}, extra...)](
            std::int64_t) { expect<false>(b->try_acquire()); });
}

/// Refusals at a glance, and, for the bucket, a grant: it pays for the glance too.
template <class Clock>
void add_refused(std::string const& name, Clock const& clock, std::string const& floor, double target) {
    auto const refused = [&](std::string const& what, auto limiter) {
        while (limiter->try_acquire()) {
        }
        add(what + " by " + name + ", denied", floor, target, 1,
            [limiter](std::int64_t) { expect<false>(limiter->try_acquire()); });
    };
    refused("token_bucket", std::make_shared<weir::token_bucket<Clock const&>>(rate{1, 24h * 365}, 1, clock));
    refused("leaky_bucket", std::make_shared<weir::leaky_bucket<Clock const&>>(rate{1, 24h * 365}, 1, clock));
    refused("sliding_window_log", std::make_shared<weir::sliding_window_log<Clock const&>>(10, 1h, clock));
    refused("sliding_window_counter", std::make_shared<weir::sliding_window_counter<Clock const&>>(10, 1h, clock));
    add("token_bucket by " + name + ", granted", "read steady_clock", 0, 1,
        [b = std::make_shared<weir::token_bucket<Clock const&>>(rate{1, 1s}, permits{1} << 50U, clock)](std::int64_t) {
            expect<true>(b->try_acquire());
        });
}

void add_limiters() {
    using bucket = weir::token_bucket<no_clock>;
    add_given<bucket>("token_bucket", 1.3, 4, 1000, [](bool full) {
        return full ? new bucket{rate{1'000'000, 1s}, permits{1} << 40U}
                    : new bucket{rate{1, 24h * 365}, 1, {.initial = 0}};
    });
    // Time stands still, so that the bucket is not full when the next permit is taken; and a rate whose ticks earn
    // fractions.
    add("token_bucket in use, granted", "exchange loop", 1.3, 0,
        [b = std::make_shared<bucket>(rate{1'000'000, 1s}, permits{1} << 40U)](std::int64_t t) {
            expect<true>(b->try_acquire(1, given{nanoseconds{t}}));
        });
    add("token_bucket 1e9+7/s, granted", "exchange loop", 1.3, 100,
        [b = std::make_shared<bucket>(rate{1'000'000'007, 1s}, permits{1} << 50U)](std::int64_t t) {
            expect<true>(b->try_acquire(1, given{nanoseconds{t}}));
        });
    add("token_bucket 7/year, denied", "load, compare, branch", 4, 1,
        [b = std::make_shared<bucket>(rate{7, std::chrono::years{1}}, 1, weir::token_bucket_options{.initial = 0})](
            std::int64_t t) { expect<false>(b->try_acquire(1, given{nanoseconds{t}})); });

    using queue = weir::leaky_bucket_queue<no_clock>;
    add_given<queue>("leaky_bucket_queue", 0, 0, 2000, [](bool full) {
        if (full) return new queue{rate{1'000'000, 1s}, permits{1} << 40U};
        auto* q = new queue{rate{1, 24h * 365}, 0};
        (void)q->try_acquire();
        return q;
    });

    using log = weir::sliding_window_log<no_clock>;
    for (permits n : {permits{10}, permits{600}, permits{30'000}}) {
        add_given<log>(
            "sliding_window_log N = " + std::to_string(n), 0, 0, 2'000'000'000 / static_cast<std::int64_t>(n),
            [n](bool full) {
                auto* l = new log{n, full ? nanoseconds{1s} : nanoseconds{1h}};
                for (permits i = 0; !full && i < n; ++i) static_cast<void>(l->try_acquire());
                return l;
            },
            1);  // two threads would want what one takes
    }

    using window = weir::sliding_window_counter<no_clock>;
    add_given<window>("sliding_window_counter", 1.6, 0, 10'000, [](bool full) {
        if (full) return new window{permits{1} << 24U, 60s};
        auto* w = new window{1, 1h};
        (void)w->try_acquire();
        return w;
    });

    add("all_of two buckets, granted", "exchange loop", 0, 1000,
        [a = std::make_shared<bucket>(rate{1'000'000, 1s}, 1'000'000'000),
         b = std::make_shared<bucket>(rate{1'000'000, 1s}, 1'000'000'000)](std::int64_t t) {
            weir::all_of both{*a, *b};
            expect<true>(both.try_acquire(1, given{nanoseconds{t}}));
        });

    using quota = weir::llm::quota_limiter<no_clock>;
    // As much as fits, so that time can run slowly and a segment holds many calls; or, as with LLMs, so that every call
    // finds a new segment. By one thread: two that are given their own times would leave each other behind.
    weir::llm::quota const ample{.rpm = 240'000'000, .rps = 4'000'000, .tpm = 240'000'000, .tps = 4'000'000};
    auto const with = [&](weir::llm::accounting how) {
        weir::llm::quota_options options;
        options.accounting = how;
        options.server_timeout = 0s;  // what is never settled must fit
        return std::make_shared<quota>(ample, options, no_clock{});
    };
    for (auto [name, target, tick] : {std::tuple{"quota_limiter, 4 limits, granted", 9.0, 400},
                                      std::tuple{"quota_limiter, each in a new segment", 0.0, 2'000'000}}) {
        add(
            name, "exchange loop", target, tick,
            [l = with(weir::llm::accounting::reserve)](std::int64_t t) {
                expect<true>(l->try_acquire(weir::llm::tokens{.input = 1, .output = 0}, given{nanoseconds{t}}));
            },
            1);
    }
    add(
        "quota_limiter, any, granted", "exchange loop", 9.0, 20'000,
        [l = with(weir::llm::accounting::any)](std::int64_t t) {
            expect<true>(l->try_acquire(weir::llm::tokens{.input = 1, .output = 1}, given{nanoseconds{t}}));
        },
        1);
    add(
        "quota_limiter, any, granted and settled", "exchange loop", 0, 1000,
        [l = with(weir::llm::accounting::any)](std::int64_t t) {
            auto d = l->try_acquire(weir::llm::tokens{.input = 1, .output = 1}, given{nanoseconds{t}});
            expect<true>(d);
            (void)l->settle(d, weir::llm::tokens{.input = 1, .output = 1}, given{nanoseconds{t}});
        },
        1);
    // A whole call that is let go at once and answered: line, chain, pool, quota, verdict, counters.
    struct whole {
        using pool = weir::llm::account_pool<no_clock>;
        pool accounts{};
        weir::llm::fallback_chain<pool> models{};
        std::optional<weir::llm::session<pool>> session{};
    };
    add(
        "session, a call granted and answered", "quota_limiter, any, granted and settled", 5.0, 1000,
        [w =
             [&] {
                 auto all = std::make_shared<whole>();
                 weir::llm::quota_options options;
                 options.server_timeout = 0s;
                 all->accounts.add({"https://endpoint", "account", "region", "model"}, "key", ample, options);
                 all->models.add("model", all->accounts);
                 all->session.emplace(all->models);
                 return all;
             }()](std::int64_t t) {
            given const now{nanoseconds{t}};
            weir::llm::session<whole::pool>::call call{
                *w->session, {.bound = weir::llm::tokens{.input = 1, .output = 1}}, now};
            if (call.next(now).kind != weir::llm::step_kind::send) ++surprises_here;
            weir::llm::reply r;
            r.answer.status = 200;
            r.answer.now = std::chrono::sys_seconds{1s};
            r.used = weir::llm::tokens{.input = 1, .output = 1};
            call.ended(r, now);
        },
        1);
    add("quota_limiter, 4 limits, denied", "load, compare, branch", 0, 1, [l = [&] {
            auto q = std::make_shared<quota>(weir::llm::quota{.rpm = 1, .rps = 1, .tpm = 1000, .tps = 100}, no_clock{});
            (void)q->try_acquire(weir::llm::tokens{.input = 1, .output = 1}, given{});
            return q;
        }()](std::int64_t) { expect<false>(l->try_acquire(weir::llm::tokens{.input = 1, .output = 1}, given{})); });

    add_refused("upper_bound_clock", bounded(), "read counter", 1.2);
    add_refused("hybrid_clock", coarse(), "read coarse_clock", 2);
    add_own<steady_clock>("steady_clock", "read steady_clock", 1.3);
    add_own<weir::tsc_clock const&>("tsc_clock", "read tsc_clock", 1.15, std::cref(counter()));
}

/// Collects the repetitions of each run and prints medians and ratios.
class table : public benchmark::BenchmarkReporter {
public:
    bool ReportContext(Context const&) override { return true; }
    void ReportRuns(std::vector<Run> const& runs) override {
        for (auto const& r : runs) {
            if (r.run_type != Run::RT_Iteration || r.error_occurred) continue;
            times_[{r.run_name.function_name, r.threads}].push_back(r.GetAdjustedCPUTime());
        }
    }
    void Finalize() override {
        for (std::int64_t threads : {1, 2}) {
            std::printf("\n%-42s %10s %8s  %-23s %s\n", threads == 1 ? "1 thread" : "2 threads", "ns", "ratio", "to",
                        "target");
            for (auto const& r : rows()) {
                double const t = median(r.name, threads);
                if (t <= 0) continue;
                std::printf("%-42s %10.2f", r.name.c_str(), t);
                double const floor = r.floor.empty() ? 0 : median(r.floor, threads);
                if (floor > 0) {
                    std::printf(" %8.2f  %-23s", t / floor, r.floor.c_str());
                    if (r.target > 0 && threads == 1)
                        std::printf(" <= %-5g %s", r.target, t <= r.target * floor ? "PASS" : "OVER");
                }
                std::printf("\n");
            }
        }
        for (auto const& r : rows()) {
            if (auto const n = r.surprises->load(); n != 0) {
                std::printf("%s: %llu answers were not what was to be measured\n", r.name.c_str(),
                            static_cast<unsigned long long>(n));
            }
        }
    }

private:
    double median(std::string const& name, std::int64_t threads) {
        auto const found = times_.find({name, threads});
        if (found == times_.end()) return 0;
        auto& v = found->second;
        std::sort(v.begin(), v.end());
        return v[v.size() / 2];
    }

    std::map<std::pair<std::string, std::int64_t>, std::vector<double>> times_;
};

}  // namespace

int main(int argc, char** argv) {
    std::string own[] = {argv[0], "--benchmark_enable_random_interleaving=true", "--benchmark_repetitions=15",
                         "--benchmark_min_time=0.02"};
    std::vector<char*> args;
    for (auto& a : own) args.push_back(a.data());
    args.insert(args.end(), argv + 1, argv + argc);  // the later of two options counts
    int n = static_cast<int>(args.size());
    args.push_back(nullptr);
    benchmark::Initialize(&n, args.data());
    if (benchmark::ReportUnrecognizedArguments(n, args.data())) return 1;
    add_floors();
    add_limiters();
    table t;
    benchmark::RunSpecifiedBenchmarks(&t);
    benchmark::Shutdown();
}
