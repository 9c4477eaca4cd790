// SPDX-License-Identifier: MIT
// Compiled with exceptions; drives both units.
#include "mixed.hpp"

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <thread>

WEIR_MIXED_UNIT(unit_with_exceptions)

namespace {

using namespace std::chrono_literals;
using mixed::unit;
using weir::wait_status;

int failures = 0;
void expect(bool holds, char const* claim, unit const& a, unit const& b) {
    if (holds) return;
    ++failures;
    std::printf("%s, %s: not so: %s\n", a.name, b.name, claim);
}

mixed::bucket::decision take_one(mixed::bucket& b) { return b.try_acquire(1); }
bool throws_now = false;
mixed::bucket::decision throw_when_told(mixed::bucket& b) {
    if (throws_now) throw std::runtime_error{"told to"};
    return b.try_acquire(1);
}

void tasks(unit const& a, unit const& b) {
    auto t = a.answer(b.answer(a.answer(b.one())));
    expect(t.ready() && t.result() == 4, "tasks await tasks of the other unit", a, b);
}

void waits(unit const& a, unit const& b) {
    weir::manual_clock clock;
    mixed::bucket bucket{weir::rate{1, 1s}, 3, clock};
    expect(a.take(bucket, 1) == 2 && b.take(bucket, 1) == 1 && a.take(bucket, 1) == 0, "limiters have one layout", a,
           b);
    mixed::queue queue{bucket};
    mixed::timer timer;
    {
        auto w = a.begin(queue, take_one, timer);
        expect(b.start(w) && queue.waiting() == 1, "a wait of one unit is started by the other", a, b);
        clock.advance(1s);
        timer.fire();
        expect(a.finish(w) == wait_status::granted, "its result is taken by the first", a, b);
    }
    {
        auto w = a.begin(queue, throw_when_told, timer);
        expect(b.start(w), "it waits", a, b);
        throws_now = true;
        timer.fire();
        throws_now = false;
        expect(queue.waiting() == 0, "what throws leaves the queue", a, b);
        bool caught = false;
        try {
            static_cast<void>(a.finish(w));
        } catch (std::runtime_error const&) {
            caught = true;
        }
        expect(caught, "the result throws what the attempt threw", a, b);
    }
    {
        bool caught = false;
        std::thread sleeper{[&] {
            try {
                static_cast<void>(a.blocking(queue, throw_when_told));
            } catch (std::runtime_error const&) {
                caught = true;
            }
        }};
        clock.wait_for_sleepers(1);
        throws_now = true;
        queue.notify();
        sleeper.join();
        throws_now = false;
        expect(caught && queue.waiting() == 0, "what throws in a thread leaves the queue", a, b);
        clock.advance(1s);
        expect(b.blocking(queue, take_one) == wait_status::granted, "the queue goes on", a, b);
    }
    auto w = a.begin(queue, take_one, timer);
    expect(b.start(w), "it waits", a, b);
    queue.close();
    timer.fire();
    expect(b.finish(w) == wait_status::closed, "close ends it", a, b);
}

void bad_arguments(unit const& a) {
    bool caught = false;
    try {
        a.bad_argument();
    } catch (std::invalid_argument const&) {
        caught = true;
    }
    expect(caught, "a bad argument throws, whichever unit passes it", a, a);
}

}  // namespace

int main() {
    unit const with = unit_with_exceptions();
    unit const without = unit_without_exceptions();
    for (auto const& [a, b] : {std::pair{with, without}, std::pair{without, with}}) {
        tasks(a, b);
        waits(a, b);
        bad_arguments(a);
    }
    return failures == 0 ? 0 : 1;
}
