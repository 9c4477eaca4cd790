// SPDX-License-Identifier: MIT
// What an attempt costs in each way that its answer is used. The columns:
//     bit    `if (limiter.try_acquire(...))`
//     kept   the decision is passed to a function that is not inlined
//     wait   retry_after() is read too
// Each is held against the floor of its line, which the same rounds measure: a clock read, a compare-exchange (CAS),
// both, or a load with a compare. Options: a part of the lines' names; --rounds N (40); --markdown; --no-pairs;
// --pairs-only. docs/benchmarks.md has the output of --markdown.
#include <weir/llm/quota_limiter.hpp>
#include <weir/weir.hpp>

#include <benchmark/benchmark.h>

#include "floors.hpp"
#include "no_clock.hpp"
#include "rounds.hpp"

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace std::chrono_literals;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;
using weir::permits;
using weir::rate;

no_clock::time_point at(std::int64_t t) { return no_clock::time_point{nanoseconds{t}}; }

/// A function that takes a decision and is not inlined.
template <class Decision>
[[gnu::noinline]] void keep(Decision& d) {
    benchmark::DoNotOptimize(&d);
    benchmark::ClobberMemory();
}

std::uint64_t surprises = 0;
template <bool Granted, class Decision>
[[gnu::always_inline]] inline void expect(Decision const& d) {
    if (static_cast<bool>(d) != Granted) [[unlikely]]
        ++surprises;
}

template <class F>
rounds::step repeat(F f) {
    // On lines of its own: the steps of two threads may be neighbours on the heap.
    struct alignas(128) alone {
        F f;
    };
    return [mine = alone{f}](std::uint64_t n) mutable {
        for (std::uint64_t i = 0; i < n; ++i) mine.f();
    };
}

struct line {
    std::string name;
    std::string instantiates;  // what the line is measured on
    std::string floor;
    std::vector<rounds::step> columns;  // bit, kept, wait; or one alone
};
std::vector<line>& lines() {
    static std::vector<line> all;
    return all;
}
struct two_threads {
    std::string name;
    std::string floor;
    std::array<rounds::step, 2> steps;
};
std::deque<two_threads>& pairs() {
    static std::deque<two_threads> all;
    return all;
}

char const* const load = "load, compare";
char const* const cas = "CAS";
char const* const clock_read = "clock";
char const* const clock_cas = "clock + CAS";

/// One attempt in each way. `attempt(t)` gets a time that rises by `tick`.
template <bool Granted, class Attempt>
void add(std::string name, std::string instantiates, std::string floor, std::int64_t tick, Attempt attempt) {
    auto const t = std::make_shared<std::int64_t>(0);
    auto const loop = [t, tick](auto f) -> rounds::step {
        return [t, tick, f](std::uint64_t n) mutable {
            std::int64_t now = *t;
            for (std::uint64_t i = 0; i < n; ++i) f(now += tick);
            *t = now;
        };
    };
    lines().push_back({std::move(name),
                       std::move(instantiates),
                       std::move(floor),
                       {loop([attempt](std::int64_t now) mutable { expect<Granted>(attempt(now)); }),
                        loop([attempt](std::int64_t now) mutable {
                            auto d = attempt(now);
                            keep(d);
                        }),
                        loop([attempt](std::int64_t now) mutable {
                            auto const d = attempt(now);
                            benchmark::DoNotOptimize(d.retry_after());
                        })}});
}
template <class F>
void add_one(std::string name, std::string instantiates, std::string floor, F f) {
    lines().push_back({std::move(name), std::move(instantiates), std::move(floor), {repeat(f)}});
}

void add_floors() {
    static steady_clock const clock;
    static floors::exchange_floor word;
    static floors::exchange_floor word2;
    static floors::load_floor bound;
    add_one(clock_read, "steady_clock::now()", "", [] { floors::read(clock); });
    add_one(cas, "a compare-exchange loop", "", [] { word.add(); });
    add_one(clock_cas, "both", "", [] {
        floors::read(clock);
        word2.add();
    });
    add_one(load, "a relaxed load, a compare, a branch", "", [t = std::uint64_t{0}]() mutable {
        if (bound.allows(++t)) ++surprises;
    });
    pairs().push_back({cas, "", {repeat([] { word.add(); }), repeat([] { word.add(); })}});
}

/// A bucket or queue, with the time given and by its own clock.
template <template <class, class> class L>
void add_bucket(std::string const& name) {
    using given = L<no_clock, weir::std_atomics>;
    using own = L<steady_clock, weir::std_atomics>;
    constexpr permits ample = permits{1} << 40U;
    auto const full = std::make_shared<given>(rate{1'000'000, 1s}, ample);
    auto const empty = std::make_shared<given>(rate{100, 1s}, 20);
    auto const seldom = std::make_shared<given>(rate{7, 1h}, 20);
    auto const mine = std::make_shared<own>(rate{1'000'000, 1s}, ample);
    auto const none = std::make_shared<own>(rate{1, 24h * 365}, 20);
    while (empty->try_acquire()) {
    }
    while (seldom->try_acquire()) {
    }
    while (none->try_acquire()) {
    }
    add<true>(name + ", granted, time given", name + ", 10^6 a second", cas, 1000,
              [full](std::int64_t t) { return full->try_acquire(1, at(t)); });
    add<false>(name + ", denied, time given", name + ", 100 a second", load, 0,
               [empty](std::int64_t t) { return empty->try_acquire(1, at(t)); });
    add<false>(name + " at 7 an hour, denied, time given", name + ", 7 an hour", load, 0,
               [seldom](std::int64_t t) { return seldom->try_acquire(1, at(t)); });
    add<true>(name + ", granted", name + ", 10^6 a second", clock_cas, 0,
              [mine](std::int64_t) { return mine->try_acquire(); });
    add<false>(name + ", denied", name + ", 1 a year", clock_read, 0,
               [none](std::int64_t) { return none->try_acquire(); });
    auto const both = [full, t = std::int64_t{0}]() mutable { expect<true>(full->try_acquire(1, at(t += 1000))); };
    pairs().push_back({name + ", granted, time given", cas, {repeat(both), repeat(both)}});
    auto const kept = [full, t = std::int64_t{0}]() mutable {
        auto d = full->try_acquire(1, at(t += 1000));
        keep(d);
    };
    pairs().push_back({name + ", granted, time given, kept", cas, {repeat(kept), repeat(kept)}});
}

void add_logs() {
    using log = weir::sliding_window_log<no_clock>;
    for (permits n : {permits{10}, permits{600}, permits{30'000}, permits{1'000'000}}) {
        std::string const of = "sliding_window_log, N = " + std::to_string(n);
        std::string const what = "limit " + std::to_string(n) + " a second";
        auto const full = std::make_shared<log>(n, 1s);
        auto const empty = std::make_shared<log>(n, 1s);
        auto const few = std::make_shared<log>(n, 1s);
        for (permits i = 0; i < n; ++i) {
            auto const t = at(static_cast<std::int64_t>(i * 1'000'000'000 / n));
            (void)empty->try_acquire(1, t);
            (void)few->try_acquire(1, t);
        }
        auto const later = static_cast<std::int64_t>(1'000'000'000 + 2 * 1'000'000'000 / n);  // three are free
        add<true>(of + ", granted, time given", what, cas, 2'000'000'000 / static_cast<std::int64_t>(n),
                  [full](std::int64_t t) { return full->try_acquire(1, at(t)); });
        add<false>(of + ", denied, time given", what, load, 0,
                   [empty](std::int64_t t) { return empty->try_acquire(1, at(t + 999'999'999)); });
        add<false>(of + ", 5 denied, time given", what + ", none free", load, 0,
                   [empty](std::int64_t t) { return empty->try_acquire(5, at(t + 999'999'999)); });
        add<false>(of + ", 5 denied, 3 free, time given", what + ", 3 free", load, 0,
                   [few, later](std::int64_t t) { return few->try_acquire(5, at(t + later)); });
        add_one(of + ", available()", what + ", 3 free", load,
                [few, later] { benchmark::DoNotOptimize(few->available(at(later))); });
    }
}

void add_windows() {
    using counter = weir::sliding_window_counter<no_clock>;
    auto const full = std::make_shared<counter>(permits{1} << 24U, 60s);
    auto const empty = std::make_shared<counter>(1, 1h);
    (void)empty->try_acquire(1, at(0));
    add<true>("sliding_window_counter, granted, time given", "2^24 a minute", cas, 10'000,
              [full](std::int64_t t) { return full->try_acquire(1, at(t)); });
    add<false>("sliding_window_counter, denied, time given", "1 an hour", load, 0,
               [empty](std::int64_t t) { return empty->try_acquire(1, at(t + 1000)); });

    using quota = weir::llm::quota_limiter<no_clock>;
    using weir::llm::tokens;
    weir::llm::quota_options options;
    options.server_timeout = 0s;  // what is never settled must fit
    auto const ample = std::make_shared<quota>(
        weir::llm::quota{.rpm = 240'000'000, .rps = 4'000'000, .tpm = 240'000'000, .tps = 4'000'000}, options,
        no_clock{});
    auto const none = std::make_shared<quota>(weir::llm::quota{.rpm = 1, .rps = 1, .tpm = 1000}, options, no_clock{});
    (void)none->try_acquire(tokens{.input = 1, .output = 0}, at(0));
    add<true>("quota_limiter, granted, time given", "4 limits", cas, 400,
              [ample](std::int64_t t) { return ample->try_acquire(tokens{.input = 1, .output = 0}, at(t)); });
    add<false>("quota_limiter, denied, time given", "3 limits", load, 0,
               [none](std::int64_t t) { return none->try_acquire(tokens{.input = 1, .output = 0}, at(t + 1000)); });
}

void add_keyed() {
    using table = weir::keyed_buckets<no_clock>;
    constexpr std::uint64_t many = 1U << 16U;
    auto const make = [](rate const& r) {
        return std::make_shared<table>(weir::keyed_options{.capacity = 2 * many}, weir::plan{r, 20}, no_clock{});
    };
    auto const ample = make(rate{500'000, 1s});
    auto const wide = make(rate{500'000, 1s});
    auto const none = make(rate{1, 2s});
    while (none->try_acquire(7U, 1, at(0))) {
    }
    add<true>("keyed_buckets, one key, granted, time given", "keyed_buckets, integer keys", cas, 2000,
              [ample](std::int64_t t) { return ample->try_acquire(7U, 1, at(t)); });
    add<true>("keyed_buckets, 65,536 keys in turn, granted, time given", "keyed_buckets, integer keys", cas, 2000,
              [wide, key = std::uint64_t{0}](std::int64_t t) mutable {
                  key = (key + 1) % many;
                  return wide->try_acquire(key, 1, at(t));
              });
    add<false>("keyed_buckets, one key, denied, time given", "keyed_buckets, integer keys", load, 0,
               [none](std::int64_t t) { return none->try_acquire(7U, 1, at(t)); });
}

void add_composites() {
    using bucket = weir::token_bucket<no_clock>;
    constexpr permits ample = permits{1} << 40U;
    struct two {
        bucket a{rate{1'000'000, 1s}, ample};
        bucket b{rate{1'000'000, 1s}, ample};
        weir::all_of<bucket&, bucket&> both{a, b};
    };
    struct three {
        bucket a{rate{1'000'000, 1s}, ample};
        bucket b{rate{1'000'000, 1s}, ample};
        weir::sliding_window_counter<no_clock> c{permits{1} << 24U, 60s};
        weir::all_of<bucket&, bucket&, weir::sliding_window_counter<no_clock>&> all{a, b, c};
    };
    struct none {
        bucket a{rate{100, 1s}, 20, {.initial = 0}};
        bucket b{rate{1'000'000, 1s}, ample};
        weir::all_of<bucket&, bucket&> both{a, b};
    };
    auto const t = std::make_shared<two>();
    add<true>("two buckets one by one, granted, time given", "token_bucket, 10^6 a second, twice", cas, 1000,
              [l = std::make_shared<two>()](std::int64_t now) {
                  expect<true>(l->a.try_acquire(1, at(now)));
                  return l->b.try_acquire(1, at(now));
              });
    add<true>("all_of two buckets, granted, time given", "all_of of two token_buckets, 10^6 a second", cas, 1000,
              [t](std::int64_t now) { return t->both.try_acquire(1, at(now)); });
    add<true>("two buckets and a counter one by one, granted, time given", "token_bucket twice, sliding_window_counter",
              cas, 1000, [l = std::make_shared<three>()](std::int64_t now) {
                  expect<true>(l->a.try_acquire(1, at(now)));
                  expect<true>(l->b.try_acquire(1, at(now)));
                  return l->c.try_acquire(1, at(now));
              });
    add<true>("all_of two buckets and a counter, granted, time given",
              "all_of of two token_buckets and a sliding_window_counter", cas, 1000,
              [l = std::make_shared<three>()](std::int64_t now) { return l->all.try_acquire(1, at(now)); });
    add<false>("all_of two buckets, denied, time given", "all_of of two token_buckets, one empty", load, 0,
               [l = std::make_shared<none>()](std::int64_t now) { return l->both.try_acquire(1, at(now)); });

    // Wrappers.
    struct leased {
        bucket b{rate{1'000'000, 1s}, ample};
        weir::lease<bucket> l{b, {.slice = 64}};
    };
    add<true>("lease of 64, granted, time given", "lease of a token_bucket", load, 1000,
              [l = std::make_shared<leased>()](std::int64_t now) { return l->l.try_acquire(1, at(now)); });
    struct leased_none {
        bucket b{rate{100, 1s}, 20, {.initial = 0}};
        weir::lease<bucket> l{b, {.slice = 1}};
    };
    add<false>("lease, denied, time given", "lease of a token_bucket, empty", load, 0,
               [l = std::make_shared<leased_none>()](std::int64_t now) { return l->l.try_acquire(1, at(now)); });
    using own = weir::token_bucket<>;
    add<true>("token_bucket, acquire(1)", "token_bucket, 10^6 a second, blocking", clock_cas, 0,
              [l = std::make_shared<own>(rate{1'000'000, 1s}, ample)](std::int64_t) { return l->acquire(1); });
    add<false>("token_bucket, try_acquire_for(1, 0s), denied", "token_bucket, 1 a year, blocking", clock_read, 0,
               [l = std::make_shared<own>(rate{1, 24h * 365}, 1, weir::token_bucket_options{.initial = 0})](
                   std::int64_t) { return l->try_acquire_for(1, 0s); });
}

#if defined(__clang__)
char const* const compiler = "clang " __clang_version__;
#else
char const* const compiler = "g++ " __VERSION__;
#endif

struct options {
    unsigned rounds = 40;
    bool markdown = false;
    bool pairs = true;
    bool lines = true;
    std::string only;
};

void print_lines(options const& o) {
    std::vector<line const*> shown;
    std::vector<rounds::step> steps;
    for (auto const& l : lines()) {
        if (!l.floor.empty() && l.name.find(o.only) == std::string::npos) continue;
        shown.push_back(&l);
        for (auto const& s : l.columns) steps.push_back(s);
    }
    auto const ns = rounds::measure(steps, o.rounds, 1);
    auto const floor_of = [&](std::string const& name) {
        std::size_t i = 0;
        for (auto const* l : shown) {
            if (l->name == name) return ns[i];
            i += l->columns.size();
        }
        return 0.0;
    };
    double const exchange = floor_of(cas);
    if (o.markdown) {
        std::printf(
            "## %s\n\n| line | instantiates | floor | bit | kept | wait | (kept - bit) / CAS "
            "|\n|---|---|---|---|---|---|---|\n",
            compiler);
    } else {
        std::printf("%-62s %-14s %16s %16s %16s %8s\n", "", "floor", "bit: ns, ratio", "kept", "wait", "kept-bit");
    }
    std::size_t i = 0;
    for (auto const* l : shown) {
        double const floor = l->floor.empty() ? 0 : floor_of(l->floor);
        std::printf(o.markdown ? "| %s |" : "%-62s", l->name.c_str());
        if (o.markdown) std::printf(" %s |", l->instantiates.c_str());
        std::printf(o.markdown ? " %s |" : " %-14s", l->floor.c_str());
        for (std::size_t c = 0; c < 3; ++c) {
            if (c >= l->columns.size()) {
                if (o.markdown) std::printf(" |");
            } else if (floor > 0) {
                std::printf(o.markdown ? " %.1f ns, %.2f |" : " %9.2f %6.2f", ns[i + c], ns[i + c] / floor);
            } else {
                std::printf(o.markdown ? " %.1f ns |" : " %9.2f", ns[i + c]);
            }
        }
        if (l->columns.size() == 3) {
            std::printf(o.markdown ? " %.2f |" : " %8.2f", (ns[i + 1] - ns[i]) / exchange);
        } else if (o.markdown) {
            std::printf(" |");
        }
        std::printf("\n");
        i += l->columns.size();
    }
    if (surprises != 0)
        std::printf("%llu answers were not the ones to be measured\n", static_cast<unsigned long long>(surprises));
}

void print_pairs(std::string const& program, options const& o) {
    std::vector<std::string> names;
    for (auto const& p : pairs()) {
        if (p.floor.empty() || p.name.find(o.only) != std::string::npos) names.push_back(p.name);
    }
    auto const ns = rounds::measure_pairs(program, names, 15);
    std::printf(o.markdown ? "\n| two threads | ns | to CAS by two threads |\n|---|---|---|\n"
                           : "\ntwo threads, median of 15 processes\n");
    for (std::size_t i = 0; i < names.size(); ++i)
        std::printf(o.markdown ? "| %s | %.1f | %.2f |\n" : "%-62s %9.2f %6.2f\n", names[i].c_str(), ns[i],
                    ns[i] / ns[0]);
}

}  // namespace

int main(int argc, char** argv) {
    options o;
    std::string pair;
    for (int i = 1; i < argc; ++i) {
        std::string_view const a = argv[i];
        if (a == "--rounds" && i + 1 < argc) {
            o.rounds = static_cast<unsigned>(std::atoi(argv[++i]));
        } else if (a == "--pair" && i + 1 < argc) {
            pair = argv[++i];
        } else if (a == "--markdown") {
            o.markdown = true;
        } else if (a == "--no-pairs") {
            o.pairs = false;
        } else if (a == "--pairs-only") {
            o.lines = false;
        } else {
            o.only = a;
        }
    }
    add_floors();
    add_bucket<weir::token_bucket>("token_bucket");
    add_bucket<weir::fixed_token_bucket>("fixed_token_bucket");
    add_bucket<weir::leaky_bucket>("leaky_bucket");
    add_bucket<weir::leaky_bucket_queue>("leaky_bucket_queue");
    add_logs();
    add_windows();
    add_keyed();
    add_composites();
    if (!pair.empty()) {
        for (auto const& p : pairs()) {
            if (p.name == pair) std::printf("%.3f\n", rounds::pair(p.steps));
        }
        return 0;
    }
    if (o.lines) print_lines(o);
    if (o.pairs) print_pairs(argv[0], o);
}
