// SPDX-License-Identifier: MIT
// What a unit with exceptions and a unit without exceptions and RTTI pass to each other. Which unit's copy of an inline
// function the program gets depends on the order in which they are linked; nothing may depend on that.
#pragma once

#include <weir/clock/manual_clock.hpp>
#include <weir/token_bucket.hpp>
#include <weir/wait/task.hpp>
#include <weir/wait/wait_queue.hpp>

#include <chrono>
#include <optional>
#include <utility>

namespace mixed {

using bucket = weir::token_bucket<weir::manual_clock&>;
using queue = weir::wait_queue<bucket>;

// An executor of one timer.
struct timer {
    void wait_until(weir::manual_clock::time_point, weir::timer_callback f) { armed = f; }
    void wake() {}
    void cancel() { armed.reset(); }
    void fire() {
        auto const f = *std::exchange(armed, {});
        f();
    }
    std::optional<weir::timer_callback> armed{};
};

// A cost whose type both units share, and with it all that is instantiated for it.
using cost = bucket::decision (*)(bucket&);
using wait = queue::async_wait<cost, timer, weir::never_stop>;

struct unit {
    weir::task<int> (*one)();
    weir::task<int> (*answer)(weir::task<int>);     // awaits a task of the other unit, and adds one
    wait (*begin)(queue&, cost, timer&);            // makes a wait
    bool (*start)(wait&);                           // starts it
    weir::wait_status (*finish)(wait&);             // takes its result
    weir::wait_status (*blocking)(queue&, cost);    // waits in a thread
    weir::permits (*take)(bucket&, weir::permits);  // takes, and answers what is left
    void (*bad_argument)();                         // constructs what cannot be
    char const* name;
};

// The functions of a unit, each compiled in it.
#define WEIR_MIXED_UNIT(unit_name)                                                                       \
    namespace {                                                                                          \
    weir::task<int> one() { co_return 1; }                                                               \
    weir::task<int> answer(weir::task<int> other) { co_return co_await std::move(other) + 1; }           \
    mixed::wait begin(mixed::queue& q, mixed::cost c, mixed::timer& t) { return q.async_acquire(c, t); } \
    bool start(mixed::wait& w) {                                                                         \
        return !w.ready() && w.start({[](void*) {}, nullptr});                                           \
    }                                                                                                    \
    weir::wait_status finish(mixed::wait& w) { return w.result().status(); }                             \
    weir::wait_status blocking(mixed::queue& q, mixed::cost c) { return q.acquire(c).status(); }         \
    weir::permits take(mixed::bucket& b, weir::permits n) {                                              \
        auto const d = b.try_acquire(n);                                                                 \
        return d ? b.available() : 0;                                                                    \
    }                                                                                                    \
    void bad_argument() {                                                                                \
        weir::manual_clock clock;                                                                        \
        mixed::bucket const b{weir::rate{1, std::chrono::seconds{1}}, 0, clock};                         \
        static_cast<void>(b);                                                                            \
    }                                                                                                    \
    }                                                                                                    \
    mixed::unit unit_name() { return {one, answer, begin, start, finish, blocking, take, bad_argument, #unit_name}; }

}  // namespace mixed

mixed::unit unit_with_exceptions();
mixed::unit unit_without_exceptions();
