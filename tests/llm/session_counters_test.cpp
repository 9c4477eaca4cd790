// SPDX-License-Identifier: MIT
//
// What a session counts, and that a call allocates nothing.
#include <weir/clock/manual_clock.hpp>
#include <weir/llm/session.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "../support/sanitizer.hpp"
#include "../support/session_fixture.hpp"

#if !WEIR_THREAD_SANITIZER  // it has its own operator new
namespace {
thread_local std::uint64_t allocations = 0;
}

[[gnu::noinline]] void* operator new(std::size_t n) {
    ++allocations;
    if (void* p = std::malloc(n == 0 ? 1 : n)) return p;
    throw std::bad_alloc{};
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace session_counters_test {

using namespace session_fixture;

// ---- counters ----

TEST_F(llm_session, counters_add_up_and_are_visited) {
    model("m", 2, {.rps = 2, .tpm = 1'000'000});
    model("n", 1, wide);
    open();
    std::vector<std::unique_ptr<call>> open_calls;
    std::uint64_t x = 7;
    int ended = 0;
    for (int i = 0; i < 400; ++i) {
        x = x * 6364136223846793005U + 1442695040888963407U;
        auto c = std::make_unique<call>(
            *s, request{.bound = tokens{.input = 10, .output = 10}, .deadline = clock.now() + 20s});
        for (int k = 0; k < 20 && !c->over(); ++k) {
            auto const step = c->next();
            if (step.kind == step_kind::send) {
                if (x >> 40U & 1U) break;
                x = x * 6364136223846793005U + 1442695040888963407U;
                reply const all[] = {answered(tokens{.input = 3, .output = 4}),
                                     throttled(),
                                     failed(),
                                     no_answer(),
                                     cancelled(),
                                     overloaded(),
                                     says(400, "InvalidParameter"),
                                     answered()};
                c->ended(all[x >> 61U]);
            } else if (step.kind != step_kind::over) {
                clock.advance_to(step.until);
            }
        }
        if (c->over() || c->in_flight()) {
            ended += c->over() ? 1 : 0;
            open_calls.push_back(std::move(c));
        } else {
            c.reset();
            ++ended;
        }
    }
    auto const& n = s->counters();
    std::uint64_t under_way = 0, still_open = 0;
    for (auto const& c : open_calls) {
        under_way += c->in_flight() ? 1U : 0U;
        still_open += c->over() ? 0U : 1U;
    }
    using enum counted_event;
    EXPECT_GT(under_way, 10U);
    EXPECT_EQ(n[calls], 400U);
    EXPECT_EQ(n[calls], n[counted_event::answered] + n[counted_event::failed] + still_open);
    EXPECT_EQ(n[attempts], n[ended_attempts] + under_way);
    EXPECT_EQ(n.in_flight(), under_way);
    std::map<std::string, std::uint64_t> seen;
    n.visit([&](metric const& m) {
        EXPECT_FALSE(m.help.empty());
        EXPECT_EQ(m.label.empty(), m.label_value.empty());
        EXPECT_TRUE(m.name.starts_with("weir_"));
        EXPECT_EQ(m.monotonic, m.name.ends_with("_total"));
        auto const name = std::string{m.name} + std::string{m.label_value};
        EXPECT_TRUE(seen.emplace(name, m.value).second) << name;
    });
    EXPECT_EQ(seen["weir_calls_total"], 400U);
    EXPECT_EQ(seen["weir_calls_answered_total"], n[counted_event::answered]);
    EXPECT_EQ(seen["weir_calls_failed_total"], n[counted_event::failed]);
    EXPECT_EQ(seen["weir_attempts_total"], n[attempts]);
    EXPECT_EQ(seen["weir_in_flight"], under_way);
    EXPECT_EQ(seen["weir_cancelled_total"], n[counted_event::cancelled]);
    EXPECT_EQ(seen["weir_refusals_totalrequest rate"], n.refusals(cause::request_rate));
    EXPECT_EQ(seen.count("weir_refusals_totalfree quota"), 0U);
    // Each attempt that ended was answered, cancelled, or a refusal with its cause.
    std::uint64_t refusals = 0;
    for (int c = 1; c <= static_cast<int>(cause::unknown); ++c) refusals += n.refusals(static_cast<cause>(c));
    EXPECT_EQ(n[ended_attempts], n[counted_event::answered] + n[counted_event::cancelled] + refusals);
    EXPECT_EQ(n[input_tokens] % 3, 0U);
    EXPECT_EQ(n[input_tokens] / 3, n[output_tokens] / 4);
    open_calls.clear();
    EXPECT_EQ(n[calls], n[counted_event::answered] + n[counted_event::failed]);
    EXPECT_EQ(n.in_flight(), 0U);
}

TEST(llm_session_counters, each_event_is_counted_and_shown_by_its_name) {
    using enum counted_event;
    std::vector<std::pair<counted_event, std::string>> const shown = {
        {calls, "weir_calls_total"},
        {counted_event::answered, "weir_calls_answered_total"},
        {failed, "weir_calls_failed_total"},
        {attempts, "weir_attempts_total"},
        {retries, "weir_retries_total"},
        {counted_event::moved, "weir_moves_total"},
        {answered_below, "weir_answered_by_fallback_total"},
        {counted_event::cancelled, "weir_cancelled_total"},
        {waits, "weir_waits_total"},
        {waited_ns, "weir_waited_nanoseconds_total"},
        {input_tokens, "weir_input_tokens_total"},
        {output_tokens, "weir_output_tokens_total"}};
    weir::llm::session_counters<> n;
    for (std::size_t i = 0; i < shown.size(); ++i) n.add(shown[i].first, i + 100);
    n.add(counted_event::ended_attempts, 3);
    n.refused(cause::burst);
    n.refused(cause::unknown);
    n.refused(cause::unknown);
    std::map<std::string, std::uint64_t> seen;
    n.visit([&](metric const& m) { seen[std::string{m.name} + ' ' + std::string{m.label_value}] = m.value; });
    for (std::size_t i = 0; i < shown.size(); ++i) {
        EXPECT_EQ(n[shown[i].first], i + 100) << shown[i].second;
        EXPECT_EQ(seen[shown[i].second + ' '], i + 100) << shown[i].second;
    }
    EXPECT_EQ(seen["weir_in_flight "], 100U);
    EXPECT_EQ(seen["weir_refusals_total burst"], 1U);
    EXPECT_EQ(seen["weir_refusals_total unknown"], 2U);
    EXPECT_EQ(seen.size(), shown.size() + 3);
}

#if !WEIR_THREAD_SANITIZER
TEST_F(llm_session, nothing_is_allocated_by_a_call_after_warm_up) {
    model("m", 2, {.rpm = 100, .tpm = 1'000'000});
    model("n", 1, wide);
    open({.retry = plain,
          .budget = weir::retry_budget_options{},
          .ramp = weir::ramp_options{},
          .adaptive = adaptive_range{},
          .concurrency = weir::concurrency_options{}});
    auto const round = [&] {
        for (int i = 0; i < 50; ++i) {
            call c{*s, request{.size = {.ascii = 10, .bytes = 10, .messages = 1},
                               .max_tokens = 10,
                               .deadline = clock.now() + 30s}};
            int n = 0;
            for (;;) {
                auto const step = c.next();
                if (step.kind == step_kind::over) break;
                if (step.kind == step_kind::send) {
                    c.ended(n++ < i % 3 ? throttled() : answered(tokens{.input = 10, .output = 10}));
                } else {
                    clock.advance_to(step.until);
                }
            }
        }
        for (int i = 0; i < 50; ++i) {
            clock.advance(1min);
            (void)s->run({.bound = tokens{.input = 10, .output = 10}},
                         [&](call& c) { return c.ended(answered(tokens{.input = 1, .output = 1})); });
        }
    };
    round();
    auto const before = allocations;
    round();
    EXPECT_EQ(allocations, before);
}
#endif

}  // namespace session_counters_test
