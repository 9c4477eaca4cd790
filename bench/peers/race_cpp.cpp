// SPDX-License-Identifier: MIT
// The C++ limiters of the race that need the standard library alone: weir's, and the buckets in this folder.
#include <weir/clock/coarse_clock.hpp>
#include <weir/clock/hybrid_clock.hpp>
#include <weir/clock/tsc_clock.hpp>
#include <weir/clock/upper_bound_clock.hpp>
#include <weir/token_bucket.hpp>

#include "buckets.hpp"
#include "race.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace {

using namespace std::chrono_literals;

/// Granted: a thousand million a second, and as many at once. Denied: one a minute, and that one is gone.
struct terms {
    explicit terms(bool granted)
        : rate{granted ? weir::rate{1'000'000'000, 1s} : weir::rate{1, 1min}},
          burst{granted ? 1'000'000'000U : 1U},
          per_ns{granted ? 1.0 : 1.0 / 60e9} {}
    weir::rate rate;
    weir::permits burst;
    double per_ns;
};

template <class Clock>
struct weirs {
    weirs(terms const& t, std::remove_reference_t<Clock> const& clock) : bucket{t.rate, t.burst, clock} {}
    [[gnu::always_inline]] bool attempt() { return static_cast<bool>(bucket.try_acquire()); }
    void drain() { (void)bucket.try_acquire(); }
    static std::uint64_t waits() { return 0; }
    weir::token_bucket<Clock> bucket;
};

template <class Bucket, class Clock>
struct peer {
    peer(terms const& t, Clock const& c) : clock{c}, bucket{t.per_ns, static_cast<double>(t.burst), now()} {}
    [[gnu::always_inline]] std::int64_t now() const { return clock.now().time_since_epoch() / 1ns; }
    [[gnu::always_inline]] bool attempt() { return bucket.try_acquire(now()); }
    void drain() { (void)bucket.try_acquire(now()); }
    static std::uint64_t waits() { return 0; }
    Clock const& clock;
    Bucket bucket;
};

/// No limiter: what the timer of the latencies costs by itself. As "granted".
struct nothing {
    [[gnu::always_inline]] static bool attempt() { return true; }
    static void drain() {}
    static std::uint64_t waits() { return 0; }
};

template <class Limiter, class Clock>
void add(race::field& f, std::string name, Clock const& clock) {
    f.add(std::move(name), [&clock](bool granted) { return std::make_unique<Limiter>(terms{granted}, clock); });
}

template <class Clock>
void add_peers(race::field& f, std::string const& with, Clock const& clock) {
    add<peer<peers::mutex_bucket, Clock>>(f, "mutex" + with, clock);
    add<peer<peers::spin_bucket, Clock>>(f, "spin" + with, clock);
    add<peer<peers::cas_bucket, Clock>>(f, "cas" + with, clock);
}

}  // namespace

int main() {
    std::chrono::steady_clock const steady;
    weir::tsc_clock const tsc{200ms};
    weir::upper_bound_clock const bounded;
    weir::coarse_clock const coarse;
    weir::hybrid_clock const glance;

    race::field f;
    f.add("timer", [](bool) { return std::make_unique<nothing>(); });
    add<weirs<std::chrono::steady_clock>>(f, "weir", steady);
    add<weirs<weir::upper_bound_clock const&>>(f, "weir-bounded", bounded);
    add<weirs<weir::hybrid_clock const&>>(f, "weir-glance", glance);
    add<weirs<weir::tsc_clock const&>>(f, "weir-tsc", tsc);
    add<weirs<weir::coarse_clock const&>>(f, "weir-coarse", coarse);
    add_peers(f, "", steady);
    add_peers(f, "-tsc", tsc);
    return f.serve();
}
