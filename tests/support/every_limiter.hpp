// SPDX-License-Identifier: MIT
// Every limiter put to use once, without a test framework: for programs built in ways that GoogleTest is not (no
// exceptions, several translation units).
#pragma once

#include <weir/llm.hpp>
#include <weir/llm/advice/letter.hpp>
#include <weir/llm/session.hpp>
#include <weir/weir.hpp>

#include <chrono>
#include <cstdio>
#include <utility>
#include <vector>

namespace every_limiter {

using namespace std::chrono_literals;

inline bool expect(bool holds, char const* what, char const* name) {
    if (!holds) std::printf("%s: %s\n", name, what);
    return holds;
}

// Grants `capacity` permits, denies the next, grants it at retry_at, takes it back.
template <class Limiter>
bool works(Limiter& limiter, weir::manual_clock& clock, weir::permits capacity, char const* name) {
    static_assert(weir::limiter<Limiter>);
    bool ok = expect(limiter.try_acquire(0).granted(), "denies nothing at all", name);
    for (weir::permits i = 0; i < capacity; ++i) {
        ok &= expect(limiter.try_acquire().granted(), "denies what it has", name);
    }
    auto denied = limiter.try_acquire(1, clock.now());
    ok &= expect(!denied && !denied.never(), "grants what it does not have", name);
    clock.advance(denied.retry_after());
    ok &= expect(limiter.check(1, clock.now()).granted(), "does not keep retry_at", name);
    auto granted = limiter.try_acquire();
    ok &= expect(granted.granted(), "does not grant what check promised", name);
    auto moved = std::move(granted);
    limiter.refund(moved);
    ok &= expect(limiter.available(clock.now()) >= 1, "does not take back", name);
    ok &= expect(limiter.try_acquire(capacity + 1).never(), "says that the impossible may come", name);
    return ok;
}

template <class Atomics>
bool all_work(char const* policy) {
    using clock = weir::manual_clock&;
    bool ok = true;
    {
        weir::manual_clock c;
        weir::token_bucket<clock, Atomics> bucket{weir::rate{10, 1s}, 3, c};
        ok &= works(bucket, c, 3, "token_bucket");
    }
    {
        weir::manual_clock c;
        weir::leaky_bucket<clock, Atomics> bucket{weir::rate{10, 1s}, 3, c};
        ok &= works(bucket, c, 3, "leaky_bucket");
    }
    {
        weir::manual_clock c;
        weir::leaky_bucket_queue<clock, Atomics> queue{weir::rate{10, 1s}, 3, c};
        auto first = queue.try_acquire();
        auto second = queue.try_acquire();
        ok &= expect(first && second && second.departs_at() - first.departs_at() == 100ms, "does not pace", "queue");
        queue.refund(second);
    }
    {
        weir::manual_clock c;
        weir::sliding_window_log<clock, Atomics> log{3, 1s, c};
        ok &= works(log, c, 3, "sliding_window_log");
    }
    {
        weir::manual_clock c;
        weir::sliding_window_counter<clock, Atomics> counter{3, 1s, c};
        ok &= works(counter, c, 3, "sliding_window_counter");
    }
    {
        weir::manual_clock c;
        weir::token_bucket<clock, Atomics> mine{weir::rate{10, 1s}, 3, c};
        weir::leaky_bucket<clock, Atomics> ours{weir::rate{10, 1s}, 2, c};
        weir::all_of both{mine, ours};
        ok &= expect(both.try_acquire() && both.try_acquire() && !both.try_acquire(), "is not the least", "all_of");
    }
    {
        weir::manual_clock c;
        weir::llm::quota_limiter<clock, Atomics> limiter{weir::llm::quota{.rpm = 2, .tpm = 100}, c};
        auto call = limiter.try_acquire(weir::llm::tokens{.input = 40, .output = 40});
        ok &= expect(call && !limiter.try_acquire(weir::llm::tokens{.input = 40, .output = 40}),
                     "does not count tokens", "quota_limiter");
        ok &= expect(limiter.settle(call, weir::llm::tokens{.input = 40, .output = 10}), "does not settle",
                     "quota_limiter");
    }
    {
        weir::manual_clock c;
        using pool = weir::llm::account_pool<clock, Atomics>;
        pool accounts;
        accounts.add({"e", "a", "r", "m"}, "key", weir::llm::quota{.rpm = 2, .tpm = 100}, {}, 0, c);
        weir::llm::fallback_chain<pool> models;
        models.add("m", accounts);
        weir::llm::session<pool> session{models,
                                         {.budget = weir::retry_budget_options{},
                                          .ramp = weir::ramp_options{},
                                          .adaptive = weir::llm::adaptive_range{},
                                          .concurrency = weir::concurrency_options{}},
                                         c};
        auto const end = session.run({.bound = weir::llm::tokens{.input = 40, .output = 40}}, [](auto& call) {
            weir::llm::reply r;
            r.answer.status = 200;
            r.used = weir::llm::tokens{.input = 40, .output = 10};
            return call.ended(r);
        });
        ok &= expect(end.answered() && accounts.limits(0).available(c.now()).tpm == 50U, "does not answer", "session");
        c.advance(1s);
        ok &= expect(
            session.run({.bound = weir::llm::tokens{.input = 101, .output = 0}}, [](auto& call) { return call.lost(); })
                    .status == weir::llm::call_end::never,
            "says that the impossible may come", "session");
    }
    return expect(ok, "a limiter with these cells fails", policy);
}

}  // namespace every_limiter

inline bool every_limiter_works() {
    std::vector<weir::llm::planned_call> const calls(
        20, weir::llm::planned_call{.bound = {.input = 50, .output = 0}, .used = {.input = 50, .output = 0}});
    weir::llm::setup const now{.models = {{"m", {{"a", {.rpm = 10}}}}}};
    auto const advice =
        weir::llm::advise(calls, now, {with_accounts(now, 2)}, {.goal = {.makespan = std::chrono::seconds{1}}});
    if (!every_limiter::expect(
            advice.remedies.front().makespan.count() == 0 && !letter(advice).empty() && !to_text(advice).empty(),
            "does not advise", "advice"))
        return false;
    return every_limiter::all_work<weir::std_atomics>("std_atomics") &&
           every_limiter::all_work<weir::unsynchronized>("unsynchronized");
}
